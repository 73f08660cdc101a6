"""What a score is checked on: its log-density, its points, its times."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import Array
from refsde._boundary import event_of
from refsde._types import SDE, Score
from refsde.testing._differences import derivative
from refsde.testing._report import name_of

__all__ = ["ScoreCase"]

POINTS = 6  # a time
DIRECTIONS = 8  # along which derivatives are taken: all coordinates, where there are no more
UNIT_TIMES = (0.0902, 0.4721, 0.9443)  # of the clock; no level of a usual table lies there

Density = Callable[[Array, Any], Array]


class ScoreCase:
    """A score and all that `check_score` is told about it, for `parametrize_with_checks`.

    Parameters
    ----------
    score, logpdf, sde, x, times, shape, rtol, per_sample
        As for `check_score`.

    Raises
    ------
    TypeError, ValueError
        If there is no log-density, or nothing that tells the shape of a sample.

    Examples
    --------
    >>> import refsde as rs
    >>> case = rs.testing.ScoreCase(lambda x, t: -x, lambda x, t: -(x**2).sum(1) / 2, shape=(2,))
    >>> [check.name for check in rs.testing.checks_of(case)][:2]
    ['shapes', 'gradient']
    """

    def __init__(
        self,
        score: Score,
        logpdf: Density | None = None,
        *,
        sde: SDE | None = None,
        x: ArrayLike | None = None,
        times: Sequence[float] | None = None,
        shape: tuple[int, ...] | None = None,
        rtol: float = 1e-6,
        per_sample: bool = True,
    ) -> None:
        if not callable(score) or isinstance(score, type):
            raise TypeError(f"`score` must be callable as score(x, t), got {score!r}")
        density = getattr(score, "logpdf", None) if logpdf is None else logpdf
        if not callable(density):
            raise TypeError(
                f"`logpdf` must be callable as logpdf(x, t), got {density!r}: pass the log-density "
                "that the score is the gradient of"
            )
        if not (isinstance(rtol, int | float) and 0 < rtol < 1):
            raise ValueError(f"`rtol` must be a number in (0, 1), got {rtol!r}: leave the default")
        self.score: Any = score
        self.logpdf: Density = density
        self.sde: SDE | None = getattr(score, "sde", None) if sde is None else sde
        self.target: Any = getattr(score, "target", None)
        self.rtol, self.per_sample = float(rtol), per_sample
        self.x = None if x is None else _batch(x)
        self.shape: tuple[int, ...] = _shape_of(self.x, shape, self.target)
        self.times: tuple[float, ...] = _times_of(self.sde, times)

    def __repr__(self) -> str:
        return f"ScoreCase({name_of(self.score)})"

    def points(self, t: float) -> np.ndarray:
        """Where to compare at ``t``: draws of p_t if there is a target, else around the origin."""
        if self.x is not None:
            return self.x.copy()
        z = np.random.default_rng(7).standard_normal((POINTS, *self.shape))
        a, s = (1.0, 0.0) if self.sde is None else self.level(t)
        if hasattr(self.target, "sample"):
            x0 = np.asarray(self.target.sample(POINTS, rng=1)).reshape(z.shape)
            return np.asarray(a * x0 + s * z)
        return math.hypot(a, s) * z

    def level(self, t: float) -> tuple[float, float]:
        """Signal and noise at ``t``."""
        assert self.sde is not None
        return float(self.sde.alpha(t)), float(self.sde.sigma(t))

    def scores(self, x: np.ndarray, t: Any) -> np.ndarray:
        """Scores at a copy of ``x``, in float64."""
        return np.asarray(self.score(x.copy(), t), dtype=float)

    # -- derivatives ---------------------------------------------------------------------------

    @cached_property
    def axes(self) -> bool:
        """Whether the directions are all coordinate axes."""
        return math.prod(self.shape) <= DIRECTIONS

    @cached_property
    def directions(self) -> np.ndarray:
        """Unit vectors (k, d): the axes if there are few, else directions at random."""
        d = math.prod(self.shape)
        if self.axes:
            return np.eye(d)
        u = np.random.default_rng(11).standard_normal((DIRECTIONS, d))
        return np.asarray(u / np.linalg.norm(u, axis=1, keepdims=True))

    def dot(self, v: np.ndarray) -> np.ndarray:
        """Components (k, B) of the vectors ``v`` (B, *D) along the directions."""
        return np.asarray(self.directions @ v.reshape(len(v), -1).T)

    def along(self, fun: Density, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives (k, B, ...) of ``fun(x, t)`` along the directions, and their errors."""
        size = float(np.sqrt(np.mean(x * x))) or 1.0

        def slope(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            def shifted(h: np.ndarray) -> np.ndarray:
                steps = h.reshape(-1, *[1] * x.ndim) * u.reshape(x.shape[1:])
                batch = (x + steps).reshape(-1, *x.shape[1:])  # all offsets in one batch
                values = np.asarray(fun(batch, t), dtype=float)
                return values.reshape(len(h), len(x), *values.shape[1:])

            # a direction of length one moves each of d coordinates by about 1 / sqrt(d)
            return derivative(shifted, size * (1.0 if self.axes else math.sqrt(u.size)))

        found = [slope(u) for u in self.directions]
        return np.array([s for s, _ in found]), np.array([error for _, error in found])

    def jacobian(self, x: np.ndarray, t: float) -> tuple[np.ndarray, float]:
        """Derivatives (k, B, d) of the score along the directions, and how far they may be off."""
        slopes, errors = self.along(self.score, x, t)
        return slopes.reshape(len(self.directions), len(x), -1), float(np.max(errors))

    def rate(self, x: np.ndarray, t: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Derivative (B,) of log p_t(x) in time, from times within ``reach``, and its error."""

        def later(h: np.ndarray) -> np.ndarray:
            return np.array([np.asarray(self.logpdf(x.copy(), float(u))) for u in t + h])

        return derivative(later, reach)


def _batch(x: ArrayLike) -> np.ndarray:
    batch = np.array(x, dtype=float)
    if batch.ndim < 2 or batch.size == 0 or not np.all(np.isfinite(batch)):
        raise ValueError(
            f"`x` must be a finite batch (B, *D), got shape {batch.shape}: one point is x[None]"
        )
    return batch


def _shape_of(x: np.ndarray | None, shape: Any, target: Any) -> tuple[int, ...]:
    if x is not None:
        return tuple(x.shape[1:])
    event = event_of(target)
    if shape is None:
        if event is None:
            raise ValueError(
                "`shape` is None: pass the shape of one sample, such as (2,), or points x"
            )
        return event
    if not (isinstance(shape, tuple | list) and shape and all(int(k) > 0 for k in shape)):
        raise ValueError(f"`shape` must hold positive ints, got {shape!r}: pass (2,) for d = 2")
    return tuple(int(k) for k in shape)


def _times_of(sde: SDE | None, times: Sequence[float] | None) -> tuple[float, ...]:
    if times is not None:
        if len(times) == 0:
            raise ValueError("`times` must hold at least one time, got none: leave the default")
        return tuple(float(t) for t in times)
    if sde is None:
        return UNIT_TIMES
    near = (1.37 * sde.t_end,) if 0 < sde.t_end < 0.05 * sde.T else ()
    return near + tuple(sde.T * t for t in UNIT_TIMES)
