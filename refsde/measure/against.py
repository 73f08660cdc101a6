r"""How a sample compares with the law it was meant to follow, and what chance alone would give.

With r_k(x) = w_k N(x; m_k, C_k) / p(x), the responsibility of component k of a mixture p, every
function g has, for exact draws x ~ p and however much the components overlap,

.. math:: E_p[r_k(x) g(x)] = \int p \, \frac{w_k N_k}{p} \, g \, dx = w_k \, E_{N_k}[g].

g = 1 gives the weight of a mode; g = (u . (x - m_k))^2 along a unit eigenvector u of C_k gives
w_k times its eigenvalue.  A hard assignment to the nearest mode has neither property.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from refsde._array import Array, one_blas_thread
from refsde._random import run_key
from refsde.measure.metrics import Mixture, as_count, as_sample

__all__ = [
    "Floor", "dispersion", "logpdf_gap", "mode_weight_error", "mode_weights", "noise_floor",
]  # fmt: skip

REFERENCE_DRAWS = 2**16  # draws behind the expectation in `logpdf_gap`, fewer where d > 64
_REFERENCE_SEED = 0x10_6AB  # their stream, which no `rng=` of a user's own sample shares


class Samplable(Protocol):
    """A law that can be drawn from exactly."""

    def sample(self, n: int, *, rng: Any = None) -> Array: ...  # noqa: D102


class Law(Samplable, Protocol):
    """A law with exact draws and a density."""

    def logpdf(self, x: Array) -> np.ndarray: ...  # noqa: D102


class Modes(Mixture, Protocol):
    """A mixture that says which component a point belongs to."""

    def responsibilities(self, x: Array) -> np.ndarray: ...  # noqa: D102


def _points(x: Array, target: Any, name: str = "x") -> np.ndarray:
    """``x`` as a float64 sample; flat (n, d), and of the right d, where the target has means."""
    values = as_sample(x, name)
    if not hasattr(target, "means"):
        return values
    values, d = values.reshape(len(values), -1), np.size(target.means) // len(target.weights)
    if values.shape[1] != d:
        raise ValueError(
            f"`{name}` has {values.shape[1]} numbers a sample and the target d = {d}: "
            "compare it with the law it was drawn from"
        )
    return values


def mode_weights(x: Array, target: Modes) -> np.ndarray:
    """Share of each component of a mixture in a sample: the mean of its responsibilities.

    For exact draws the expectation is ``target.weights``, also where components overlap.

    Parameters
    ----------
    x : array (n, *D)
        Sample.
    target : Gaussian mixture
        Law with ``responsibilities(x) -> (n, K)``.

    Returns
    -------
    ndarray, shape (K,)
        Non-negative, sums to one.

    Raises
    ------
    ValueError
        On fewer than two samples, non-finite entries or a dimension that is not the target's.

    Examples
    --------
    >>> import refsde as rs
    >>> ring = rs.GaussianMixture.ring(4, radius=4.0, std=0.2)
    >>> rs.measure.mode_weights(ring.means, ring).round(3)
    array([0.25, 0.25, 0.25, 0.25])
    """
    r = np.asarray(target.responsibilities(_points(x, target)), dtype=np.float64)
    return np.asarray(r.mean(axis=0))


def mode_weight_error(x: Array, target: Modes) -> float:
    r"""Total variation between the mode weights of a sample and those of the mixture.

    .. math:: \tfrac12 \sum_k |\bar r_k - w_k|

    Parameters
    ----------
    x : array (n, *D)
        Sample.
    target : Gaussian mixture
        Law with ``weights`` (K,) and ``responsibilities``.

    Returns
    -------
    float
        Between 0 and 1: the share of the sample that sits in the wrong mode.

    Raises
    ------
    ValueError
        As `mode_weights` does.

    Examples
    --------
    >>> import refsde as rs
    >>> ring = rs.GaussianMixture.ring(4, radius=4.0, std=0.2)
    >>> round(rs.measure.mode_weight_error(ring.means[:2], ring), 3)
    0.5
    """
    return float(0.5 * np.abs(mode_weights(x, target) - target.weights).sum())


@one_blas_thread()
def dispersion(x: Array, target: Modes) -> float:
    r"""How far the variances within the modes are from the right ones.

    .. math:: \frac{1}{K d} \sum_{k,j} (q_{kj} - 1)^2, \quad q_{kj} =
        \frac{\sum_i r_k(x_i) (u_{kj} \cdot (x_i - m_k))^2}{\lambda_{kj} \sum_i r_k(x_i)}

    with (lambda_kj, u_kj) the eigenpairs of component k.  For exact draws q -> 1, also where
    components overlap.  Its floor is about the mean over k of 2 / (n w_k).

    Parameters
    ----------
    x : array (n, *D)
        Sample.
    target : Gaussian mixture
        Law with ``weights``, ``means``, ``eigh()`` and ``responsibilities``.

    Returns
    -------
    float
        Without unit.  1 if every mode has collapsed to its mean.  A mode that no sample reaches is
        judged by the tails of the others, so that the value is huge, and ``inf`` once these vanish
        (see `mode_weight_error`); modes of weight zero are left out.

    Raises
    ------
    ValueError
        As `mode_weights` does, and if a covariance is singular.

    Examples
    --------
    >>> import refsde as rs
    >>> ring = rs.GaussianMixture.ring(4, radius=4.0, std=0.2)
    >>> round(rs.measure.dispersion(ring.means, ring), 3)
    1.0
    """
    if not hasattr(target, "eigh"):
        raise TypeError(
            f"`target` must be a GaussianMixture, got {target!r}: on a GaussianField see octaves(x)"
        )
    x = _points(x, target)
    lam, vectors = target.eigh()
    if np.any(lam <= lam.shape[1] * np.finfo(float).eps * lam.max()):
        raise ValueError(
            f"`target` has a component with the variance {lam.min():.3g} in some direction, "
            "relative to which nothing can be measured: diffuse the target to the end of sampling "
            "first, `target.at(sde, sde.t_end)`"
        )
    means = np.reshape(target.means, lam.shape)
    responsibilities = np.asarray(target.responsibilities(x), dtype=np.float64)
    errors = []
    for k in np.flatnonzero(target.weights):
        share = responsibilities[:, k].sum()
        if share == 0:
            return math.inf
        variance = responsibilities[:, k] @ np.square((x - means[k]) @ vectors[k]) / share
        errors.append(np.mean((variance / lam[k] - 1) ** 2))
    return float(np.mean(errors))


def _expected_logpdf(target: Any) -> float:
    """E log p(X) for X ~ p, from draws; of a mixture only the overlap of its modes needs them.

    Drawing the mode first, then the point, the chain rule for entropies says
    H(X) = H(mode) + H(X | mode) - H(mode | X).  The first two are known exactly, the third is the
    mean entropy of the responsibilities: at most log K, zero for modes apart or K = 1.
    """
    rng = np.random.default_rng(_REFERENCE_SEED)
    if not (hasattr(target, "eigh") and hasattr(target, "responsibilities")):
        return float(np.mean(target.logpdf(target.sample(REFERENCE_DRAWS, rng=rng))))
    lam, weights = target.eigh()[0], np.asarray(target.weights)
    used = weights > 0
    weights, lam = weights[used], lam[used]
    known = weights @ (np.log(weights) - 0.5 * np.sum(np.log(2 * np.pi * math.e * lam), axis=1))
    if len(weights) == 1:
        return float(known)
    draws = max(2**12, min(REFERENCE_DRAWS, REFERENCE_DRAWS * 64 // lam.shape[1]))
    r = np.asarray(target.responsibilities(target.sample(draws, rng=rng)))
    ambiguity = -np.sum(r * np.log(np.where(r > 0, r, 1.0)), axis=1)
    return float(known + ambiguity.mean())


def logpdf_gap(x: Array, target: Law, *, reference: Array | None = None) -> float:
    r"""Mean log-density of a sample minus that of exact draws: signed, in nats.

    .. math:: \frac1n \sum_i \log p(x_i) - E_{X \sim p} \log p(X)

    Positive: the sample sits too close to the modes (or has lost the thin ones); negative: it
    spreads too far.  Zero does not mean that the laws agree.

    Parameters
    ----------
    x : array (n, *D)
        Sample.
    target : law
        With ``logpdf(x) -> (n,)`` and ``sample``.
    reference : array (m, *D), optional
        Exact draws for the second term.  By default it is exact for one Gaussian.  For a mixture
        only the overlap of the modes is estimated, by 65536 draws (2**22 / d for d > 64, at
        least 4096) of a fixed stream: standard error at most log(K) / 2 / sqrt(draws), and zero
        for separate modes.  Any other law takes the mean of ``logpdf`` over 65536 draws.

    Returns
    -------
    float
        Nats; ``-inf`` if a point has density zero.

    Raises
    ------
    ValueError
        On fewer than two samples, non-finite entries, a dimension that is not the target's, or a
        singular target, which has no density.

    References
    ----------
    Cover, Thomas (2006), Elements of Information Theory, theorem 2.2.1 (the chain rule).

    Examples
    --------
    >>> import refsde as rs
    >>> normal = rs.GaussianMixture([1.0], [[0.0]], [1.0])
    >>> round(rs.measure.logpdf_gap([[0.0], [0.0]], normal), 6)
    0.5
    """
    if hasattr(target, "eigh") and np.any(target.eigh()[0] <= 0):
        raise ValueError(
            "`target` is singular and has no density: diffuse it to the end of sampling first, "
            "`target.at(sde, sde.t_end)`"
        )
    mean = float(np.mean(target.logpdf(_points(x, target))))
    if reference is None:
        return mean - _expected_logpdf(target)
    return mean - float(np.mean(target.logpdf(_points(reference, target, "reference"))))


@dataclass(frozen=True)
class Floor:
    """What a metric gives between exact draws: the noise that no solver can go below.

    Attributes
    ----------
    mean : float
        Mean over the repeats.
    std : float
        Standard deviation of one value (divisor repeats - 1), not of the mean.
    values : tuple of float
        One value a repeat.
    """

    mean: float
    std: float
    values: tuple[float, ...]


def noise_floor(
    metric: Callable[[Any, Any], float],
    target: Samplable,
    n: int,
    *,
    repeats: int = 8,
    rng: np.random.Generator | int | None = 0,
    against: Literal["sample", "target"] = "sample",
) -> Floor:
    """Apply ``metric`` to exact draws of the size that is to be judged.

    Parameters
    ----------
    metric : callable
        ``metric(x, y)`` of two samples, or ``metric(x, target)`` with ``against="target"``.
    target : law
        With ``sample(n, rng=...)``.
    n : int
        Size of each sample, at least 2.
    repeats : int
        How many independent values, at least 2.
    rng : Generator, int or None
        Repeat i draws from a stream addressed by (rng, i, side): the first values do not change
        when more repeats are asked for.
    against : {"sample", "target"}
        What the metric compares a sample with: another sample of size n, or the target.

    Returns
    -------
    Floor
        ``mean``, ``std`` and ``values``.

    Raises
    ------
    ValueError
        On n < 2, repeats < 2 or an unknown ``against``.
    TypeError
        If the metric does not return one number.

    Examples
    --------
    >>> import refsde as rs
    >>> ring = rs.GaussianMixture.ring(4, radius=4.0, std=0.2)
    >>> floor = rs.measure.noise_floor(rs.measure.mode_weight_error, ring, 1000, against="target")
    >>> 0.0 < floor.mean < 0.05
    True
    """
    n, repeats = as_count(n, "n", 2), as_count(repeats, "repeats", 2)
    if against not in ("sample", "target"):
        raise ValueError(f'`against` must be "sample" or "target", got {against!r}')
    key = run_key(rng)

    def draw(repeat: int, side: int) -> Array:
        seeds = np.random.SeedSequence(key, spawn_key=(repeat, side))
        return target.sample(n, rng=np.random.default_rng(seeds))

    values = []
    for repeat in range(repeats):
        other = target if against == "target" else draw(repeat, 1)
        try:
            value = metric(draw(repeat, 0), other)
        except AttributeError as lacking:  # the commonest slip: a metric of a sample and a law
            wanted = "target" if against == "sample" else "sample"
            raise TypeError(
                f"`metric` cannot take a sample and {type(other).__name__} ({lacking}): "
                f"pass against={wanted!r}"
            ) from lacking
        if np.ndim(value) != 0:
            raise TypeError(
                f"`metric` must return one number, got shape {np.shape(value)}: reduce it to one"
            )
        values.append(float(value))
    return Floor(float(np.mean(values)), float(np.std(values, ddof=1)), tuple(values))
