"""How large an error is: local errors in units of what is tolerable, one number a sample."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from refsde._array import Array, batch_rms, event_max, event_norm, larger, maximum

__all__ = ["Norm", "check_tolerances", "scaled_error"]

Norm = Literal["rms", "l2", "linf"]


def check_tolerances(owner: object, rtol: Any, atol: Any, norm: Any) -> None:
    """Raise unless tolerances are positive and finite and the norm is known; make them floats."""
    name = type(owner).__name__
    for what, value in (("rtol", rtol), ("atol", atol)):
        try:
            good = not isinstance(value, bool) and math.isfinite(value) and value > 0
        except TypeError as wrong:
            raise TypeError(f"`{what}` of {name} must be a number, got {value!r}: try 0.02") from (
                wrong
            )
        if not good:
            raise ValueError(
                f"`{what}` of {name} must be positive and finite, got {value!r}: an error of 0 is "
                "never reached and one of inf accepts everything; try "
                f"{'0.02' if what == 'rtol' else '0.0078, one grey level of data in [-1, 1]'}"
            )
        # A NumPy scalar would turn float32 samples into float64.
        object.__setattr__(owner, what, float(value))
    if norm not in get_args(Norm):
        raise ValueError(f"`norm` of {name} must be 'rms', 'l2' or 'linf', got {norm!r}")


def scaled_error(
    error: Array, x: Array, y: Array, rtol: float, atol: float, norm: Norm = "rms"
) -> Array:
    """Norm of error / max(atol, rtol max(|x|, |y|)) over each sample, shape (B, 1, ..., 1).

    "rms" is the root of the mean square, "l2" the root of the sum, "linf" the largest.
    """
    ratio = error / maximum(rtol * larger(abs(x), abs(y)), atol)
    return {"rms": batch_rms, "l2": event_norm, "linf": event_max}[norm](ratio)
