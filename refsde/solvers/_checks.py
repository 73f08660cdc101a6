"""Settings of solvers, checked at construction: each message names argument, value and remedy."""

from __future__ import annotations

import math

__all__ = ["check_choice", "check_order", "check_positive", "check_tau"]


def check_order(owner: object, name: str, low: int, high: int) -> None:
    """Raise unless a field is an int in a range."""
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` of {type(owner).__name__} must be an int, got {value!r}")
    if not low <= value <= high:
        raise ValueError(
            f"`{name}` of {type(owner).__name__} must lie in {low} to {high}, got {value!r}"
        )


def check_choice(owner: object, name: str, known: tuple[str, ...], also: str = "") -> None:
    """Raise unless a field is one of the known names."""
    value = getattr(owner, name)
    if value not in known:
        names = ", ".join(map(repr, known))
        raise ValueError(
            f"`{name}` of {type(owner).__name__} must be one of {names}{also and ' ' + also}, got "
            f"{value!r}"
        )


def check_positive(owner: object, name: str) -> None:
    """Raise unless a field is a positive finite number."""
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number, got {value!r}: try 1.0")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be positive and finite, got {value!r}: try 1.0")


def check_tau(owner: object, name: str = "tau") -> None:
    """Raise unless a field is an amount of noise, a finite number >= 0 or a function of rho."""
    value = getattr(owner, name)
    if callable(value):
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` must be a number or a function of rho, got {value!r}: try 1.0")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"`{name}` must be finite and non-negative, got {value!r}: 0 is the flow, 1 the "
            "reverse SDE"
        )
