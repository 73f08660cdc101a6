r"""How far apart two samples are: sliced Wasserstein, exact W_p in one dimension, energy, MMD.

A sample ``x`` has shape (n, *D) and is flattened to n points of d numbers; an array (n,) is n
points of one number.  Everything is computed in float64 and returned as a Python float, in the
units of the data unless the name or the docstring says squared.  None of these distances is zero
between two exact samples: print `refsde.measure.noise_floor` beside every one of them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from scipy.optimize import elementwise
from scipy.spatial.distance import pdist
from scipy.special import ndtr

from refsde._array import Array, one_blas_thread, to_numpy
from refsde._random import run_key

Parts = list[tuple[float, float, float]]  # (weight, mean, standard deviation) of each component
find_root: Any = elementwise.find_root  # untyped on purpose: its stubs know no `args`

__all__ = ["energy_distance", "mmd", "sliced_wasserstein", "wasserstein_1d"]

BLOCK = 2**17  # numbers in one block of projections (1 MB: it stays in the cache)
TILE = 512  # rows and columns of one tile of pair distances (2 MB: it stays in the cache)
MEDIAN_POINTS = 1024  # points whose pair distances give the default bandwidth of `mmd`
LARGEST = 1e140  # a larger entry overflows once squared and summed


class Mixture(Protocol):
    """The parts of a Gaussian mixture: weights (K,), means (K, d), eigenvalues and -vectors."""

    @property
    def weights(self) -> np.ndarray: ...  # noqa: D102
    @property
    def means(self) -> np.ndarray: ...  # noqa: D102
    def eigh(self) -> tuple[np.ndarray, np.ndarray]: ...  # noqa: D102


def as_sample(x: Array, name: str) -> np.ndarray:
    """``x`` as a finite float64 array (n, *D) with n >= 2; (n,) becomes (n, 1)."""
    values = np.asarray(to_numpy(x))
    if values.dtype.kind not in "biuf":
        hint = (
            "sol.x" if hasattr(x, "nfe") else "law.sample(n)" if hasattr(x, "sample") else "floats"
        )
        got = f"dtype {values.dtype}" if values.ndim else type(x).__name__
        raise TypeError(f"`{name}` must hold real numbers, got {got}: pass {hint}")
    if values.ndim == 0 or len(values) < 2 or values.size == 0:
        raise ValueError(
            f"`{name}` must be a sample of shape (n, *D) with n >= 2, got shape {values.shape}"
        )
    values = values.astype(np.float64, copy=False)
    values = values.reshape(-1, 1) if values.ndim == 1 else values
    bad = ~(np.abs(values).reshape(len(values), -1).max(axis=1) <= LARGEST)  # NaN compares false
    if bad.any():
        raise ValueError(
            f"`{name}` has {bad.sum()} of {len(bad)} rows with NaN, inf or an entry beyond "
            f"{LARGEST:g}: leave them out (`sol.x[sol.success]`) and report how many there were"
        )
    return values


def _pair(x: Array, y: Array) -> tuple[np.ndarray, np.ndarray]:
    x, y = as_sample(x, "x"), as_sample(y, "y")
    flat_x, flat_y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    # A flat sample fits any event of its size; (3, 8, 8) against (8, 8, 3) is a mistake.
    if flat_x.shape[1] != flat_y.shape[1] or (x.shape[1:] != y.shape[1:] and x.ndim > 2 < y.ndim):
        raise ValueError(
            "`x` and `y` must hold samples of one shape, got events of shape "
            f"{x.shape[1:]} and {y.shape[1:]}: compare samples of the same space"
        )
    return flat_x, flat_y


def _order(p: float) -> float:
    if not (isinstance(p, int | float) and 1 <= p < math.inf):
        raise ValueError(f"`p` must be a finite number >= 1, got {p!r}: use 1 or 2")
    return float(p)


def as_count(value: int, name: str, least: int) -> int:
    """``value`` as an int that is at least ``least``."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {value!r}: pass an int") from None
    if count < least:
        raise ValueError(f"`{name}` must be at least {least}, got {count}")
    return count


def _power_mean(values: np.ndarray, p: float, weights: np.ndarray | None = None) -> np.ndarray:
    """(sum_i w_i v_i^p)^(1/p) over the last axis, v >= 0, scaled so that no power overflows."""
    scale = values.max(axis=-1, keepdims=True)
    powers = (values / np.where(scale > 0, scale, 1.0)) ** p
    mean = powers.mean(axis=-1) if weights is None else powers @ weights
    return np.asarray(scale[..., 0] * mean ** (1 / p))


def _transport(x: np.ndarray, y: np.ndarray, p: float) -> np.ndarray:
    """W_p along the last axis of x (..., n) and y (..., m): couple equal quantiles."""
    x, y = np.sort(x), np.sort(y)
    n, m = x.shape[-1], y.shape[-1]
    if n == m:
        return _power_mean(np.abs(x - y), p)
    # Between two neighbours in {i/n} u {j/m} both quantile functions are constant.  In units of
    # 1/(nm) these levels are integers, so that coinciding ones are recognised exactly.
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    start, weights = levels[:-1], np.diff(levels) / (n * m)
    return _power_mean(np.abs(x[..., start // m] - y[..., start // n]), p, weights)


@one_blas_thread()
def sliced_wasserstein(
    x: Array,
    y: Array,
    *,
    p: float = 2.0,
    projections: int = 128,
    rng: np.random.Generator | int | None = 0,
) -> float:
    r"""Sliced Wasserstein distance between two samples.

    .. math::

        SW_p = \Big( \tfrac1L \sum_{l=1}^L W_p(\theta_l \cdot x, \theta_l \cdot y)^p \Big)^{1/p}

    over L unit vectors drawn uniformly once: with the same ``rng`` every call uses the same ones,
    so that two solvers are compared along the same directions.  Each W_p is exact.

    Parameters
    ----------
    x, y : array (n, *D), array (m, *D)
        Samples; n and m may differ.
    p : float
        Order, at least 1.
    projections : int
        L; fewer are a prefix of more.  With d = 1 there is one direction and the result is exact.
    rng : Generator, int or None
        What the directions are drawn from.

    Returns
    -------
    float
        Distance in the units of the data (about W_p / sqrt(d) for a shift).

    Raises
    ------
    ValueError
        On shapes that differ, fewer than two samples, non-finite entries, p < 1, projections < 1.

    References
    ----------
    Bonneel, Rabin, Peyre, Pfister (2015), Sliced and Radon Wasserstein
    barycenters of measures.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.measure.sliced_wasserstein([0.0, 1.0, 2.0], [3.0, 1.0, 2.0], p=1)
    1.0
    """
    x, y = _pair(x, y)
    p, projections = _order(p), as_count(projections, "projections", 1)
    d = x.shape[1]
    directions = np.ones((1, 1))
    if d > 1:
        normals = np.random.default_rng(run_key(rng)).standard_normal((projections, d))
        directions = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    step = max(16, BLOCK // max(len(x), len(y)))  # fewer than 16 would reread x too often
    blocks = [directions[i : i + step] for i in range(0, len(directions), step)]
    return float(_power_mean(np.concatenate([_transport(b @ x.T, b @ y.T, p) for b in blocks]), p))


def wasserstein_1d(x: Array, y: Array | Mixture, *, p: float = 1.0) -> float:
    r"""Exact W_p between two samples of numbers or, for p = 1, a sample and a Gaussian mixture.

    .. math:: W_p^p = \int_0^1 |F_x^{-1}(u) - F_y^{-1}(u)|^p du, \qquad W_1 = \int |F_x - F_y|\, dx.

    Against a mixture the second integral is taken in closed form, from the antiderivative of its
    distribution function; between two points of ``x`` it is split where F_y crosses F_x.

    Parameters
    ----------
    x : array (n,) or (n, 1)
        Sample.
    y : array (m,) or (m, 1), or one-dimensional Gaussian mixture
        Sample of any size, or the law itself (no second sample: a floor lower by about sqrt(2)).
    p : float
        Order, at least 1.

    Returns
    -------
    float
        Distance in the units of the data.

    Raises
    ------
    ValueError
        If a sample or the mixture is not one-dimensional, or p is not 1 against a mixture.

    References
    ----------
    Villani (2003), Topics in Optimal Transportation, remarks 2.19.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.measure.wasserstein_1d([0.0, 1.0], [0.0, 1.0, 2.0])
    0.5
    """
    p = _order(p)
    law: Any = y if hasattr(y, "eigh") else None
    first, second = _pair(x, y) if law is None else (as_sample(x, "x"), np.atleast_1d(law.means))
    if first[0].size != 1 or second[0].size != 1:
        raise ValueError(
            "`wasserstein_1d` compares laws of numbers, got more than one coordinate a sample: "
            "pick a coordinate, or use `sliced_wasserstein`"
        )
    if law is None:
        return float(_transport(first.ravel(), second.ravel(), p))
    if p != 1:
        raise ValueError(f"`p` must be 1 against a law, got {p:g}: compare with `y.sample(m)`")
    return _w1_to_mixture(np.sort(first.ravel()), law)


def _cdf(t: np.ndarray, parts: Parts) -> np.ndarray:
    """F(t) of a mixture of N(m, s^2) with weights w."""
    return np.asarray(sum(w * ndtr((t - m) / s) for w, m, s in parts))


def _normal_pdf(z: np.ndarray) -> np.ndarray:
    # Not scipy.stats', which takes long to import.
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))


def _integrated_cdf(t: np.ndarray, parts: Parts) -> np.ndarray:
    """Integral of F up to t: of one normal, s (z Phi(z) + phi(z)) with z = (t - m) / s."""
    terms = ((w, s, (t - m) / s, t - m) for w, m, s in parts)
    return np.asarray(sum(w * (r * ndtr(z) + s * _normal_pdf(z)) for w, s, z, r in terms))


def _w1_to_mixture(x: np.ndarray, target: Mixture) -> float:
    """Integral of |F_n - F| for ascending x (n,)."""
    weights, means = np.asarray(target.weights), np.ravel(target.means)
    # A component without width is a step; the smallest width there is gives it, through z = inf.
    stds = np.sqrt(np.maximum(np.ravel(target.eigh()[0]), np.finfo(float).tiny))
    parts = list(zip(weights, means, stds, strict=True))
    level = np.arange(1, len(x)) / len(x)
    with np.errstate(over="ignore"):
        f, g = _cdf(x, parts), _integrated_cdf(x, parts)
        # level - F changes sign between two points at the quantile of `level`, if that is there.
        split = np.where(f[:-1] >= level, x[:-1], x[1:])
        inside = (f[:-1] < level) & (level < f[1:])
        if inside.any():
            bracket = (x[:-1][inside], x[1:][inside])
            root = find_root(lambda t, u: _cdf(t, parts) - u, bracket, args=(level[inside],))
            split[inside] = root.x
        h = _integrated_cdf(split, parts)
    middle = level * ((split - x[:-1]) - (x[1:] - split)) + (g[:-1] - h) + (g[1:] - h)
    # Beyond the last point b the integral of 1 - F is E(X - b)^+ = E(b - X)^+ - (b - E X).
    tail = g[-1] - (x[-1] - weights @ means)
    return float(g[0] + middle.sum() + tail)


def _squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Tiles of |x_i - y_j|^2, which may be overwritten, and how often each is to be counted.

    One GEMM a tile: [x, |x|^2, 1] . [-2y, 1, |y|^2].  Of the distances within one sample (y is x)
    only the tiles above the diagonal are made, and a point's distance to itself is exactly zero.
    """
    left = np.column_stack([x, np.einsum("ij,ij->i", x, x), np.ones(len(x))])
    right = np.column_stack([-2 * y, np.ones(len(y)), np.einsum("ij,ij->i", y, y)]).T
    for i in range(0, len(x), TILE):
        for j in range(i if y is x else 0, len(y), TILE):
            tile = left[i : i + TILE] @ right[:, j : j + TILE]
            np.maximum(tile, 0.0, out=tile)
            if y is x and i == j:
                np.fill_diagonal(tile, 0.0)
            yield tile, 2.0 if y is x and i < j else 1.0


def _centred(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both samples minus their common mean: the GEMM form loses the digits of a common offset."""
    centre = (x.sum(axis=0) + y.sum(axis=0)) / (len(x) + len(y))
    return x - centre, y - centre


@one_blas_thread()
def energy_distance(x: Array, y: Array) -> float:
    r"""Energy distance (the squared one) between two samples.

    .. math:: 2\,E|x - y| - E|x - x'| - E|y - y'|

    It is the V-statistic: the means run over all pairs, a point with itself included.  So it is
    the energy distance of the two empirical laws: never negative, and zero only if they agree.
    Its expectation exceeds the distance of the laws by exactly E|x - x'| / n + E|y - y'| / m.

    Parameters
    ----------
    x, y : array (n, *D), array (m, *D)
        Samples; n and m may differ.  Cost n m d, in tiles (memory does not grow with n m).

    Returns
    -------
    float
        In the units of the data (like |x|, not |x|^2); its square root is a metric.  Single
        distances are good to about 1e-8 of the spread of the data.

    Raises
    ------
    ValueError
        On shapes that differ, fewer than two samples, non-finite entries.

    References
    ----------
    Szekely, Rizzo (2013), Energy statistics: a class of statistics based on distances.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.measure.energy_distance([0.0, 1.0], [3.0, 4.0])
    5.0
    """
    x, y = _centred(*_pair(x, y))

    def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
        total = sum(k * np.sqrt(t, out=t).sum() for t, k in _squared_distances(a, b))
        return float(total) / (len(a) * len(b))

    return max(0.0, 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y))


def _median_distance(pool: np.ndarray) -> float:
    rows = np.linspace(0, len(pool) - 1, min(len(pool), MEDIAN_POINTS)).astype(int)
    median = float(np.median(pdist(pool[rows])))
    if median == 0:
        raise ValueError(
            "`bandwidth` cannot be the median distance, which is 0: most points coincide; pass one"
        )
    return median


@one_blas_thread()
def mmd(x: Array, y: Array, *, bandwidth: float | None = None) -> float:
    r"""Squared maximum mean discrepancy with a Gaussian kernel, unbiased.

    .. math:: E\,k(x, x') + E\,k(y, y') - 2\,E\,k(x, y), \qquad k(x, y) = \exp(-|x - y|^2 / 2 b^2)

    It is the U-statistic: pairs of a point with itself are left out, so its expectation is the
    discrepancy of the two laws.  Between equal laws it is negative about half the time.

    Parameters
    ----------
    x, y : array (n, *D), array (m, *D)
        Samples; n and m may differ.
    bandwidth : float, optional
        b, in the units of the data.  By default the median distance within the pooled sample (of
        1024 evenly spaced rows of it, if it is larger).  That depends on the samples: to compare
        several solvers, pass one number to all.

    Returns
    -------
    float
        Without unit; at most 2.

    Raises
    ------
    ValueError
        On shapes that differ, fewer than two samples, non-finite entries, a bandwidth that is not
        positive and finite, or a median distance of zero.

    References
    ----------
    Gretton, Borgwardt, Rasch, Schoelkopf, Smola (2012), A kernel two-sample test, lemma 6.

    Examples
    --------
    >>> import refsde as rs
    >>> round(rs.measure.mmd([0.0, 0.0], [3.0, 3.0], bandwidth=1.0), 4)
    1.9778
    """
    x, y = _centred(*_pair(x, y))
    b = _median_distance(np.concatenate([x, y])) if bandwidth is None else float(bandwidth)
    if not 0 < b < math.inf:
        raise ValueError(f"`bandwidth` must be positive and finite, got {bandwidth!r}")

    x, y = x / b, y / b

    def kernel_sum(u: np.ndarray, v: np.ndarray) -> float:
        tiles = _squared_distances(u, v)
        return float(sum(k * np.exp(np.multiply(t, -0.5, out=t), out=t).sum() for t, k in tiles))

    def within(a: np.ndarray) -> float:  # the kernel of a point and itself is exactly 1
        return (kernel_sum(a, a) - len(a)) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * kernel_sum(x, y) / (len(x) * len(y))
