r"""Where randomness comes from.

Path noise is asked by interval: ``increment(t, s, x)`` is w(s) - w(t) of a Brownian motion w, a
normal of variance |s - t|; a solver that wants unit normals divides by sqrt|s - t|.  ``normal(x)``
is for what is not the path: correctors, re-noising.  Sample i of a run depends on (rng, i) alone.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import Array, Time, like, per_sample, sqrt, to_numpy, where
from refsde._random import START, KeyedNormals, run_key
from refsde._types import Noise

__all__ = ["Gaussian", "LastMean", "StoredPath"]


class Gaussian:
    """Fresh normals for every question, keyed by (rng, block of samples, number of the question).

    Parameters
    ----------
    rng : int, Generator, SeedSequence or None
        Seed.  The key of a run is one 64-bit draw of it, so an int and a Generator made from it
        agree.
    key : int, optional
        Instead of ``rng``: the key itself, such as ``solution.seed_entropy``, to repeat a run.

    Raises
    ------
    TypeError
        If ``rng`` is none of these.

    Notes
    -----
    Normals are drawn in float64 and then cast, so a float32 run sees the same path.  Under
    rejections (adaptive steps) the fresh noise of a retry makes the result biased.

    References
    ----------
    Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3 (the generator, Philox).

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> noise = rs.Gaussian(0).on(np.arange(3))
    >>> noise.increment(1.0, 0.5, np.zeros((3, 2))).shape
    (3, 2)
    """

    def __init__(self, rng: Any = None, *, key: int | None = None) -> None:
        if key is not None and not (isinstance(key, int | np.integer) and 0 <= key < 2**64):
            raise ValueError(
                f"`key` must be an int in [0, 2**64), got {key!r}: pass solution.seed_entropy, or "
                "`rng`"
            )
        self.key = run_key(rng) if key is None else int(key)
        self._rows: np.ndarray | None = None
        self._table = KeyedNormals(self.key)
        self._call = 0

    def on(self, rows: np.ndarray) -> Self:
        """Return the source for the absolute samples ``rows``, ascending, at the same question."""
        source = copy.copy(self)  # of a subclass too
        source._rows, source._table = _ascending(rows), KeyedNormals(self.key)
        return source

    def normal(self, x: Array) -> Array:
        """Independent unit normals shaped, typed and placed like ``x`` (B, *D)."""
        z = self._draw(x, self._call)
        self._call += 1
        return like(z, x)

    def start(self, x: Array) -> Array:
        """Unit normals for the initial state; their own stream, not part of the path."""
        return like(self._draw(x, START), x)

    def increment(self, t: Time, s: Time, x: Array) -> Array:
        """Brownian increment w(s) - w(t), variance |s - t|, shaped like ``x`` (B, *D)."""
        dw = self.normal(x)
        dw *= sqrt(abs(s - t))  # our own fresh array
        return dw

    def levy(self, t: Time, s: Time, x: Array) -> tuple[Array, Array]:
        """Increment and space-time Levy area (dW, H); H ~ N(0, |s - t| / 12), independent of dW.

        H is the mean over the interval of the Brownian bridge.  Reversing time flips dW and leaves
        H.
        """
        return self.increment(t, s, x), self.normal(x) * sqrt(abs(s - t) / 12)

    def _draw(self, x: Array, call: int) -> np.ndarray:
        rows = np.arange(x.shape[0]) if self._rows is None else self._rows
        if len(rows) != x.shape[0]:
            raise ValueError(
                f"`x` must hold the {len(rows)} samples of this source, got {x.shape[0]}: "
                "take theirs with noise.on(rows)"
            )
        return self._table.normal(rows, tuple(x.shape[1:]), call)

    def __repr__(self) -> str:
        return f"Gaussian(key={self.key})"


def _ascending(rows: ArrayLike) -> np.ndarray:
    """Indices of samples, checked: blocks are drawn in order, so another order would mix them."""
    index = np.asarray(rows)
    if (
        index.ndim != 1
        or index.dtype.kind not in "iu"
        or np.any(index < 0)
        or np.any(np.diff(index) <= 0)
    ):
        raise ValueError(
            f"`rows` must be indices of samples, non-negative and ascending, got {rows!r}: sort "
            "them"
        )
    return index


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
        index = _ascending(rows)
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


class LastMean:
    """A source without increments in the last step, which then lands on its mean.

    Path noise of the last step vanishes while corrector draws stay, which is the denoising of
    Song et al. (2020), appendix G: the last predictor's value before its noise.
    """

    def __init__(self, noise: Noise, last: float, end: float) -> None:
        self.noise, self.last, self.end = noise, last, end

    def _but_last(self, s: Time, dw: Array) -> Array:
        """Keep ``dw`` of an interval that ends at ``s``, unless it lies within the last step."""
        before = (s - self.last) * (self.end - self.last) <= 0
        return where(before, dw, 0.0 * dw)

    def on(self, rows: np.ndarray) -> LastMean:
        """Return the source for the samples ``rows``."""
        return LastMean(self.noise.on(rows), self.last, self.end)

    def normal(self, x: Array) -> Array:
        """Independent unit normals, as the source gives them."""
        return self.noise.normal(x)

    def increment(self, t: Time, s: Time, x: Array) -> Array:
        """Increment w(s) - w(t), zero in the last step."""
        return self._but_last(s, self.noise.increment(t, s, x))

    def levy(self, t: Time, s: Time, x: Array) -> tuple[Array, Array]:
        """Increment and area, zero in the last step."""
        dw, h = self.noise.levy(t, s, x)
        return self._but_last(s, dw), self._but_last(s, h)
