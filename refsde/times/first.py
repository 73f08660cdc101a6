"""How long the first step is, before any error is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsde._array import Array, batch_rms, larger, maximum, per_sample, where
from refsde._types import Process

__all__ = ["FirstStep", "HairerStart", "Share", "clip", "is_number"]

FirstStep = Callable[[Process, Array, float, float], Any]  # (process, x, t, t_end) -> h


def is_number(value: Any, inf: bool = False) -> bool:
    """Whether ``value`` is a finite number, or also infinity."""
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool) and (math.isfinite(value) or (inf and value > 0))


def clip(value: Any, low: float, high: float) -> Any:
    """``value`` between two floats; it is a float or an array."""
    value = maximum(value, low)
    return where(value > high, high, value) if per_sample(value) else min(value, high)


@dataclass(frozen=True)
class Share:
    """First step that is a share of the whole interval, whatever the clock of the SDE.

    Parameters
    ----------
    share : float
        In (0, 1].

    Examples
    --------
    >>> import refsde as rs
    >>> from refsde.times import Share
    >>> rs.Adaptive(h0=Share(0.05)).h0
    Share(share=0.05)
    """

    share: float

    def __post_init__(self) -> None:
        if not (is_number(self.share) and 0 < self.share <= 1):
            raise ValueError(f"`share` must lie in (0, 1], got {self.share!r}: 0.05 is cautious")

    def __call__(self, process: Process, x: Array, t: float, t_end: float) -> float:
        """Length of the first step from ``t`` towards ``t_end``."""
        return self.share * abs(t_end - t)


@dataclass(frozen=True)
class HairerStart:
    r"""First step of an ordinary differential equation, from the size of the state and its slopes.

    .. math:: h = \min(100\,h_a, h_b), \qquad h_a = 0.01\,\frac{\|x\|}{\|a\|}, \qquad
              h_b = \left(\frac{0.01}{\max(\|a\|, \|a' - a\| / h_a)}\right)^{1/k}

    with a the drift at ``t``, a' the drift after an Euler step of length h_a, and root mean squares
    in units of atol + rtol abs(x).  Two evaluations, counted.

    Parameters
    ----------
    order : float
        The power k of h in the solver's error: one more than its order.
    rtol, atol : float
        Tolerances of the solver.

    References
    ----------
    Hairer, Norsett and Wanner (1993), Solving Ordinary Differential Equations I, section II.4.

    Examples
    --------
    >>> import refsde as rs
    >>> from refsde.times import HairerStart
    >>> rule = HairerStart(order=5, rtol=1e-5, atol=1e-5)
    """

    order: float
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("order", "rtol", "atol"):
            value = getattr(self, name)
            if not (is_number(value) and value > 0):
                raise ValueError(f"`{name}` must be positive and finite, got {value!r}")

    def __call__(self, process: Process, x: Array, t: float, t_end: float) -> Any:
        """Length (B, 1, ..., 1) of the first step from ``t`` towards ``t_end``."""
        towards = math.copysign(1.0, t_end - t)
        scale = self.atol + self.rtol * abs(x)
        slope = process.drift(x, t)
        size, speed = batch_rms(x / scale), batch_rms(slope / scale)
        small = where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / maximum(speed, 1e-5))
        small = clip(small, 0.0, abs(t_end - t))
        turn = process.drift(x + slope * (towards * small), t + towards * small) - slope
        most = larger(speed, batch_rms(turn / scale) / small)
        best = where(
            most <= 1e-15,
            maximum(1e-3 * small, 1e-6),
            (0.01 / maximum(most, 1e-15)) ** (1 / self.order),
        )
        h = where(best < 100 * small, best, 100 * small)
        return clip(h, 0.0, abs(t_end - t))
