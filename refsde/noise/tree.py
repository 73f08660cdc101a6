r"""A Brownian path as a pure function of time: a virtual tree of bridges.

Times from 0 on are cut into octaves [0, 1], [1, 2], [2, 4], [4, 8], ...  Over an octave [a, b] the
increment W ~ N(0, b - a) and the area H ~ N(0, (b - a) / 12) are independent of all other octaves.
Given (W, H) of an interval, those of its halves need two new normals (z, n below), and so on down
to the leaf that holds the time asked for.  Every node of this tree has a number, and its normals
are a hash of that number: nothing is stored, and questions come in any order.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from scipy.special import ndtri

from refsde._array import Array, Time, event_size, like, per_sample, to_numpy
from refsde._random import START
from refsde.noise.keyed import Keyed

__all__ = ["BrownianTree"]

_SEEDS = START - 3  # the call reserved for the seeds of the paths; targets have the two between
_DEEPEST = 52  # levels at which neighbouring float64 times part
_LATEST = 1e100  # squares and products of times stay finite
_KEPT = 3  # times whose values are kept: a retry may follow a step of two intervals
_BLUR = 2.0**-32  # shorter intervals, relative to their time, lose H to rounding
_GOLDEN, _MIX_1, _MIX_2 = (
    np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class BrownianTree(Keyed):
    r"""One Brownian path a sample and coordinate, of which any interval may be asked at any time.

    .. math:: dW = w_s - w_t, \qquad
              H = \frac{1}{s - t} \int_t^s w_u \, du - \frac{w_t + w_s}{2}

    A question may be repeated, overlap with others, run either way and come in any order: all are
    answered from the same path.  So all solvers, grids and tolerances can be compared on one path,
    and a rejected step meets it again.

    Parameters
    ----------
    rng : int, Generator, SeedSequence or None
        Seed.
    key : int, optional
        Instead of ``rng``: the key itself, such as ``solution.seed_entropy``.
    tol : float
        Width of the tree's leaves, in (0, 1): below time 1 in units of time, from there on relative
        to the largest power of two up to the time.  It is rounded down to a power of two, and taken
        for 2**-52 if it is less.

    Raises
    ------
    TypeError
        If ``rng`` is none of these.
    ValueError
        If ``tol`` is not in (0, 1), or when asked for times that are negative or not finite.

    Notes
    -----
    The law at any one time, and at times in different leaves, is exact.  Times within one leaf
    share its two normals: the variances of dW and H between them are wrong by up to a quarter of
    the leaf's width.  So take ``tol`` well below the shortest step.  H is 0 over intervals shorter
    than 2**-32 of their time, where rounding would drown it.

    At the default ``tol`` a step costs 70 to 100 times the increment of `Gaussian`, or 40 times its
    increment and area: either way a new time takes two normals a level, log2(1 / tol) levels.
    Values at the last three times are kept, since a step starts where the last one started or
    ended.

    References
    ----------
    Li, Wong, Chen and Duvenaud (2020), Scalable gradients for stochastic differential equations
    (the tree); Jelincic, Foster and Kidger (2024), Single-seed generation of Brownian paths and
    integrals (areas, and the exact split at the leaf); Steele, Lea and Flood (2014), Fast
    splittable pseudorandom number generators (the hash).

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> noise, x = rs.BrownianTree(0), np.zeros((3, 2))
    >>> parts = noise.increment(1.0, 0.3, x) + noise.increment(0.3, 0.0, x)
    >>> bool(np.allclose(parts, noise.increment(1.0, 0.0, x), atol=1e-12))
    True
    """

    def __init__(self, rng: Any = None, *, key: int | None = None, tol: float = 2.0**-24) -> None:
        super().__init__(rng, key=key)
        if isinstance(tol, bool) or not (isinstance(tol, float | int) and 0 < tol < 1):
            raise ValueError(
                f"`tol` must be a width of time in (0, 1), got {tol!r}: take it well below the "
                "shortest step, such as 2**-24"
            )
        self.tol = float(tol)
        self._levels = min(_DEEPEST, math.ceil(-math.log2(tol)))
        # Seeds (D, n) and, for the last times (n,), values (2, D, n): see `_values`.
        self._shape: tuple[int, ...] | None = None
        self._seeds = np.empty((0, 0), np.uint64)
        self._known: list[tuple[np.ndarray, np.ndarray]] = []

    def on(self, rows: np.ndarray) -> Self:
        """Return the source of the same paths for the absolute samples ``rows``, ascending."""
        source = super().on(rows)
        if self._shape is not None:
            old = np.arange(self._shape[0]) if self._rows is None else self._rows
            place = np.searchsorted(old, np.asarray(rows))
            if np.all(np.isin(rows, old)):
                source._shape = (len(place), *self._shape[1:])
                source._seeds = self._seeds.take(place, axis=1)
                source._known = [(t[place], kept.take(place, axis=2)) for t, kept in self._known]
            else:
                source._shape = None
        return source

    def increment(self, t: Time, s: Time, x: Array) -> Array:
        """Brownian increment w(s) - w(t), shaped like ``x`` (B, *D)."""
        _, (w_t, _), _, (w_s, _) = self._ends(t, s, x)
        return self._shaped(w_s - w_t, x)

    def levy(self, t: Time, s: Time, x: Array) -> tuple[Array, Array]:
        """Increment and space-time Levy area (dW, H) of the path over the interval.

        H is the mean over the interval of the path less its chord.  Reversing time flips dW and
        leaves H.
        """
        t_, (w_t, sum_t), s_, (w_s, sum_s) = self._ends(t, s, x)
        # Integrals from 0 on are subtracted, so that H has a relative rounding error of about
        # eps (t / |s - t|)^1.5.
        seen = np.abs(s_ - t_) > _BLUR * np.maximum(t_, s_)
        mean = (sum_s - sum_t) / np.where(seen, s_ - t_, 1.0)
        h = np.where(seen, mean - 0.5 * (w_t + w_s), 0.0)
        return self._shaped(w_s - w_t, x), self._shaped(h, x)

    def _ends(self, t: Time, s: Time, x: Array) -> tuple[np.ndarray, ...]:
        """Times and values (2, D, n) at ``t``, then at ``s``."""
        rows = self._samples(x)
        if self._shape != tuple(x.shape):
            seeds = self._table.bits(rows, tuple(x.shape[1:]), _SEEDS)
            seeds = seeds.astype(np.uint64).reshape(len(rows), event_size(x))
            self._seeds = np.ascontiguousarray(seeds.T)
            self._shape, self._known = tuple(x.shape), []
        start, end = _times(t, "t", len(rows)), _times(s, "s", len(rows))
        return start, self._value(start), end, self._value(end)

    def _value(self, t: np.ndarray) -> np.ndarray:
        """Values (2, D, n) at ``t`` (1,) or (n,); those that are kept are not made again."""
        every = np.broadcast_to(t, self._seeds.shape[1])
        last = next((k for k in self._known if np.array_equal(k[0], every)), None)
        if last is None:
            last = every, self._make(t, every)
        self._known = [last, *(k for k in self._known if k is not last)][:_KEPT]
        return last[1]

    def _make(self, t: np.ndarray, every: np.ndarray) -> np.ndarray:
        missing, values = np.ones(len(every), bool), np.empty((2, *self._seeds.shape))
        for at, known in self._known:
            hit = missing & (at == every)
            values[..., hit] = known[..., hit]
            missing &= ~hit
        if np.all(missing):  # with the one time, if it is one for all
            return _values(t, self._seeds, self._levels)
        if np.any(missing):
            seeds = self._seeds.compress(missing, axis=1)
            values[..., missing] = _values(every[missing], seeds, self._levels)
        return values

    @staticmethod
    def _shaped(values: np.ndarray, x: Array) -> Array:
        return like(np.ascontiguousarray(values.T).reshape(tuple(x.shape)), x)

    def __repr__(self) -> str:
        return f"BrownianTree(key={self.key}, tol={self.tol!r})"


def _times(t: Time, name: str, n: int) -> np.ndarray:
    """Checked float64 times, (1,) of a shared clock or (n,)."""
    times = np.asarray(to_numpy(t) if per_sample(t) else t, dtype=float).reshape(-1)
    if len(times) not in (1, n):
        raise ValueError(
            f"`{name}` must be a float or hold one time for each of {n} samples, got "
            f"{len(times)}: take those of the samples in `x`"
        )
    wrong = ~((times >= 0) & (times <= _LATEST))  # NaN too
    if np.any(wrong):
        raise ValueError(
            f"`{name}` must hold finite times from 0 to {_LATEST:g}, got {times[wrong][0]:g}: the "
            "path starts at 0"
        )
    return times


def _normals(seeds: np.ndarray, node: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two normals of the node ``node`` (1,) or (n,) of the paths ``seeds`` (D, n)."""
    # SplitMix64, because NumPy has no counter-based generator that takes arrays of seeds.
    twice = node << np.uint64(1)
    pair = []
    for count in (twice, twice | np.uint64(1)):
        bits = seeds + count * _GOLDEN
        bits ^= bits >> np.uint64(30)
        bits *= _MIX_1
        bits ^= bits >> np.uint64(27)
        bits *= _MIX_2
        bits ^= bits >> np.uint64(31)
        # 52 bits: with 53, adding 0.5 would round up to 2**53 and give an infinite normal.
        pair.append(ndtri(((bits >> np.uint64(12)) + 0.5) * 2.0**-52))
    return pair[0], pair[1]


def _values(t: np.ndarray, seeds: np.ndarray, levels: int) -> np.ndarray:
    """Path and its integral from 0 on, (2, D, n), at ``t`` (1,) or (n,) of the paths (D, n)."""
    octave = np.maximum(np.frexp(t)[1], 0)
    length = np.ldexp(1.0, np.maximum(octave - 1, 0))
    w, total, dw, area = (np.zeros(seeds.shape) for _ in range(4))
    for k in range(int(octave.max(initial=0)) + 1):  # the octaves before that of t, and its own
        h = math.ldexp(1.0, max(k - 1, 0))
        z, n = _normals(seeds, np.array([k << 53], np.uint64))
        z *= math.sqrt(h)
        n *= math.sqrt(h / 12)
        before, own = octave > k, octave == k
        total += before * (h * (w + 0.5 * z + n))
        w += before * z
        dw += own * z
        area += own * n
    # Below, (dw, area) are (W, H) of an interval of width h that holds t, at [0, 1) of its width.
    place = t / length - (octave > 0)
    h, index, root = length, np.ones(len(t), np.uint64), octave.astype(np.uint64) << np.uint64(53)
    for _ in range(levels):
        if not np.any(place):  # all on the left end, where the rest adds nothing
            return np.stack([w, total])
        z, n = _normals(seeds, root | index)
        z *= np.sqrt(h / 16)
        n *= np.sqrt(h / 12)
        place = 2.0 * place
        right = np.floor(place)
        place -= right
        index = 2 * index + right.astype(np.uint64)
        h = 0.5 * h
        sign = 1.0 - 2.0 * right
        half, rest = 1.5 * area + z, 0.25 * area - 0.5 * z
        left_w, left_area = 0.5 * dw + half, rest + 0.5 * n
        if np.any(right):
            total += right * (h * (w + 0.5 * left_w + left_area))
            w += right * left_w
        dw, area = 0.5 * dw + sign * half, rest + sign * 0.5 * n
    # The leaf, split at t: what is left of it.
    z, n = _normals(seeds, root | index)
    q, p = place, place * (1.0 - place)
    u = np.sqrt(h * p / (1.0 - 3.0 * p))
    left_w = q * dw + 6.0 * p * area + u * (1.0 - 3.0 * p) * z
    left_area = q**2 * (area - 0.5 * u * z) + (1.0 - q) * u / math.sqrt(12.0) * n
    total += q * h * (w + 0.5 * left_w + left_area)
    return np.stack([w + left_w, total])
