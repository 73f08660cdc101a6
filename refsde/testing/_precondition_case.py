"""What a preconditioner is checked on: its map at a step, its events, its matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from refsde.precondition.operators import Preconditioner
from refsde.testing._report import name_of

__all__ = ["PreconditionerCase"]

METHODS = ("apply", "apply_transpose", "gram", "solve")  # that act on events
EVENT = (3, 4)  # of a map that takes any: sides that differ, one odd and one even
BATCH = (2, 3)
LARGEST = 1024  # numbers in an event of which a dense matrix is made
EPS = float(np.finfo(float).eps)
ROUNDED = 1e-13  # a singular value below this share of the largest is a rounded zero


class PreconditionerCase:
    """A map and all that `check_preconditioner` is told of it, for `parametrize_with_checks`.

    Parameters
    ----------
    M, event_shape, t, s, rtol
        As for `check_preconditioner`.

    Raises
    ------
    TypeError, ValueError
        If ``M`` is no preconditioner, or a number or shape is none.

    Examples
    --------
    >>> import refsde as rs
    >>> case = rs.testing.PreconditionerCase(rs.precondition.Scalar(2.0), (5,))
    >>> [check.name for check in rs.testing.checks_of(case)][:2]
    ['protocol', 'shapes']
    """

    def __init__(
        self,
        M: Preconditioner,
        event_shape: Sequence[int] | None = None,
        *,
        t: float = 0.6,
        s: float = 0.5,
        rtol: float = 1e-9,
    ) -> None:
        if not isinstance(M, Preconditioner):
            hint = f"pass {M.__name__}(...)" if isinstance(M, type) else "subclass that class"
            raise TypeError(
                f"`M` must be a refsde.precondition.Preconditioner, got {name_of(M)}: {hint}"
            )
        for name, time in (("t", t), ("s", s)):
            if isinstance(time, bool) or not isinstance(time, int | float):
                raise TypeError(f"`{name}` must be a number, got {time!r}: one clock for all")
            if not math.isfinite(time):
                raise ValueError(f"`{name}` must be finite, got {time!r}: leave the default")
        if not (isinstance(rtol, int | float) and 0 < rtol < 1):
            raise ValueError(f"`rtol` must be a number in (0, 1), got {rtol!r}: leave the default")
        self.M, self.t, self.s, self.rtol = M, t, s, float(rtol)
        self._missing: dict[str, str] = {}
        self._event = None if event_shape is None else _shape(event_shape)
        own = M.event_shape
        if self._event is not None and own is not None and self._event[-len(own) :] != own:
            raise ValueError(f"`event_shape` must end with {own}, got {self._event}: leave it out")

    def __repr__(self) -> str:
        return f"PreconditionerCase({name_of(self.M)})"

    @cached_property
    def map(self) -> Any:
        """The map of the step: what is checked."""
        return self.M.at(self.t, self.s)

    @property
    def guessed(self) -> bool:
        """Whether nothing tells the shape of an event."""
        return self._event is None and self.map.event_shape is None

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of the events."""
        return self._event or self.map.event_shape or EVENT

    @property
    def size(self) -> int:
        """How many numbers an event has."""
        return math.prod(self.event)

    def draws(self, seed: int = 0) -> np.ndarray:
        """Events in a batch of two axes; the same on every run."""
        return np.random.default_rng(seed).standard_normal((*BATCH, *self.event))

    def act(self, name: str, z: np.ndarray, M: Any = None) -> Any:
        """Result of the method ``name`` of a map, the step's own by default, on a copy of ``z``."""
        return getattr(self.map if M is None else M, name)(z.copy())

    @cached_property
    def singular_values(self) -> np.ndarray | None:
        """Those of the dense matrix, ascending; None of large events."""
        D = self.matrix
        return None if D is None else np.linalg.svd(D, compute_uv=False)[::-1]

    @cached_property
    def matrix(self) -> np.ndarray | None:
        """The dense matrix (d, d), from what M makes of each unit event; None of large events."""
        d = self.size
        if d > LARGEST:
            return None
        return np.array(self.map.apply(np.eye(d).reshape(d, *self.event)), float).reshape(d, d).T

    @cached_property
    def singular(self) -> bool:
        """Whether there is no inverse; of large events, by the map's own word."""
        values = self.singular_values
        if values is not None:
            return bool(values[0] <= ROUNDED * values[-1])
        try:
            return bool(self.map.logdet(self.event) == -math.inf)
        except Exception:  # told of by the check of logdet
            return False

    @cached_property
    def extent(self) -> tuple[float, float]:
        """Least and largest factor by which M stretches; of large events, of the draws alone."""
        values = self.singular_values
        if values is None:
            z, flat = self.draws(), (-1, self.size)
            n = np.linalg.norm(z.reshape(flat), axis=1)
            stretched = np.linalg.norm(self.act("apply", z).reshape(flat), axis=1) / n
            shrunk = stretched
            if not self.missing("solve"):
                shrunk = n / np.linalg.norm(self.act("solve", z).reshape(flat), axis=1)
            values = np.array([np.min(shrunk), np.max(stretched)])
        return float(values[0]), float(values[-1])

    def slack(self, name: str) -> float:
        """Relative error that rounding alone may cause: of ``solve``, by the condition of M."""
        least, most = self.extent if name == "solve" else (1.0, 0.0)
        return 16 * EPS * most / least

    def missing(self, name: str) -> str:
        """Why one of `METHODS` is left out; empty if it is there."""
        if name not in self._missing:
            why = "M is singular" if name == "solve" and self.singular else ""
            try:
                if not why:
                    self.act(name, self.draws())
            except NotImplementedError as problem:
                why = reason(problem)
            self._missing[name] = why
        return self._missing[name]

    @property
    def offered(self) -> list[str]:
        """Those of `METHODS` that are there."""
        return [name for name in METHODS if not self.missing(name)]


def reason(missing: NotImplementedError) -> str:
    """Why a method is not there, in its own words."""
    return str(missing) or "it raises NotImplementedError"


def _shape(event_shape: Sequence[int]) -> tuple[int, ...]:
    try:
        event = tuple(int(k) for k in event_shape)
    except (TypeError, ValueError) as problem:
        raise TypeError(f"`event_shape` must be sizes of axes, got {event_shape!r}") from problem
    if not event or min(event) < 1:
        raise ValueError(f"`event_shape` must be positive sizes, got {event_shape!r}: such as (5,)")
    return event
