"""A path given by its values."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import Array, Time, like, per_sample, to_numpy
from refsde.noise.gaussian import Gaussian
from refsde.noise.keyed import ascending

__all__ = ["StoredPath"]


class StoredPath:
    r"""A Brownian path given by its values on a grid: for strong errors, replay and teaching.

    Parameters
    ----------
    t : array (m + 1,)
        Strictly monotone times.  Every question must start and end on one of them.
    w : array (m + 1, B, *D)
        Path values.  Only differences count.
    h : array (m, B, *D), optional
        Space-time Levy area of every interval of the grid, for solvers that ask for it.
    rng : int, Generator or None
        Seed of ``normal``, which is not part of the path (correctors).

    Raises
    ------
    ValueError
        If shapes disagree, times are not monotone or values not finite; when asked off the grid.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> path = rs.StoredPath([0.0, 0.5, 1.0], np.zeros((3, 4, 2)))
    >>> path.increment(1.0, 0.0, np.ones((4, 2))).shape
    (4, 2)
    """

    def __init__(
        self, t: ArrayLike, w: ArrayLike, h: ArrayLike | None = None, *, rng: Any = None
    ) -> None:
        times, values = np.asarray(t, dtype=float), np.asarray(w, dtype=float)
        if times.ndim != 1 or len(times) < 2 or not np.all(np.isfinite(times)):
            raise ValueError(
                f"`t` must be a finite 1-D array of at least two times, got {t!r}: give both ends"
            )
        if not (np.all(np.diff(times) > 0) or np.all(np.diff(times) < 0)):
            raise ValueError(
                f"`t` must be strictly increasing or strictly decreasing, got {times!r}: "
                "sort it, remove repeats"
            )
        if values.ndim < 2 or len(values) != len(times) or not np.all(np.isfinite(values)):
            raise ValueError(
                f"`w` must be finite with shape ({len(times)}, B, *D), one value a time, got "
                f"{values.shape}: the first value may be 0"
            )
        areas = None if h is None else np.asarray(h, dtype=float)
        if areas is not None and areas.shape != (len(times) - 1, *values.shape[1:]):
            raise ValueError(
                f"`h` must have shape {(len(times) - 1, *values.shape[1:])}, one area an interval, "
                f"got {areas.shape}: use StoredPath.draw(..., levy=True)"
            )
        if times[0] > times[-1]:
            times, values = times[::-1], values[::-1]
            areas = None if areas is None else areas[::-1]  # H keeps its sign when time is reversed
        self.t, self.w, self.h = times, values, areas
        self._rows = np.arange(values.shape[1])
        self._normals = Gaussian(rng)
        self._integral = None if areas is None else _integral(times, values, areas)

    @classmethod
    def draw(
        cls, t: ArrayLike, shape: tuple[int, ...], *, rng: Any = None, levy: bool = False
    ) -> Self:
        """Draw a path of the batch ``shape`` (B, *D) on the times ``t``, with areas if asked."""
        times = np.sort(np.asarray(t, dtype=float))
        source, x = Gaussian(rng), np.zeros(shape)
        # The normals beside the path go on where its own end: from the start they would repeat
        # them.
        pairs = [source.levy(a, b, x) for a, b in zip(times[:-1], times[1:], strict=True)]
        w = np.concatenate([np.zeros((1, *shape)), np.cumsum([dw for dw, _ in pairs], axis=0)])
        path = cls(times, w, np.array([area for _, area in pairs]) if levy else None)
        path._normals = source
        return path

    def on(self, rows: np.ndarray) -> StoredPath:
        """Return the path of the samples ``rows``, ascending."""
        index = ascending(rows)
        if len(index) and int(index[-1]) >= self.w.shape[1]:
            raise ValueError(
                f"`w` holds {self.w.shape[1]} samples, sample {int(index[-1])} was asked for: "
                "store more"
            )
        part = copy.copy(self)
        part._rows, part._normals = index, self._normals.on(index)
        return part

    def increment(self, t: Time, s: Time, x: Array) -> Array:
        """Difference w(s) - w(t) of the stored values, shaped like ``x`` (B, *D)."""
        return self._shaped(self._value(s, self.w) - self._value(t, self.w), x)

    def levy(self, t: Time, s: Time, x: Array) -> tuple[Array, Array]:
        """Increment and space-time Levy area over the interval, joined from the stored pieces."""
        if self._integral is None:
            raise ValueError(
                "`h` is None, this path holds no Levy areas: pass them, or use "
                "StoredPath.draw(..., levy=True)"
            )
        span = to_numpy(s - t) if per_sample(s - t) else s - t
        mean = (self._value(s, self._integral) - self._value(t, self._integral)) / span
        chord = 0.5 * (self._value(t, self.w) + self._value(s, self.w))
        return self.increment(t, s, x), self._shaped(mean - chord, x)

    def normal(self, x: Array) -> Array:
        """Independent unit normals, shaped like ``x`` (B, *D), not part of the path."""
        return self._normals.normal(x)

    def _shaped(self, values: np.ndarray, x: Array) -> Array:
        if values.shape != tuple(
            x.shape
        ):  # NumPy would broadcast, and coordinates share their noise
            raise ValueError(
                f"`w` holds states of shape {values.shape} here, but `x` has {tuple(x.shape)}: "
                "store one value a sample and coordinate, and take samples with on(rows)"
            )
        return like(values, x)

    def _index(self, t: np.ndarray) -> np.ndarray:
        i = np.clip(np.searchsorted(self.t, t), 1, len(self.t) - 1)
        i = i - (np.abs(t - self.t[i - 1]) <= np.abs(t - self.t[i]))
        off = np.abs(self.t[i] - t) > 1e-9 * (self.t[-1] - self.t[0])
        if np.any(off):
            raise ValueError(
                f"`t` holds no time {t[off][0]:.9g}, which was asked for: "
                "solve on a subset of the stored times"
            )
        return np.asarray(i)

    def _value(self, t: Time, values: np.ndarray) -> np.ndarray:
        if not per_sample(t):
            at_t = values[self._index(np.array([t]))[0]]
            return np.asarray(at_t if len(self._rows) == len(at_t) else at_t[self._rows])
        return np.asarray(values[self._index(to_numpy(t).reshape(-1).astype(float)), self._rows])


def _integral(t: np.ndarray, w: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Running integral of the path: over an interval, its length times (mean of the ends + H)."""
    dt = np.diff(t).reshape(-1, *[1] * (w.ndim - 1))
    pieces = dt * (0.5 * (w[:-1] + w[1:]) + h)
    return np.concatenate([np.zeros_like(w[:1]), np.cumsum(pieces, axis=0)])
