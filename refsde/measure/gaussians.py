r"""Closed forms between Gaussians, and the Frechet distance of samples through their Gaussian fits.

A Gaussian is given in any of three ways: a tuple (mean, cov); an object with ``.mean`` (d,) and
``.cov`` (d, d), such as a target law; or a sample (n, *D), which stands for the Gaussian of its
mean and unbiased covariance (divisor n - 1).  Singular covariances are welcome unless said.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from refsde._array import Array, one_blas_thread, to_numpy
from refsde.measure.metrics import LARGEST, as_sample

__all__ = ["frechet", "gaussian_kl", "gaussian_w2"]

RELATIVE_ZERO = float(np.finfo(float).eps)  # times d and the largest eigenvalue: rounding of eigh


class Moments(Protocol):
    """A law, or a Gaussian, known by its mean (d,) and covariance (d, d)."""

    @property
    def mean(self) -> np.ndarray: ...  # noqa: D102
    @property
    def cov(self) -> np.ndarray: ...  # noqa: D102


Gaussian = Moments | tuple[Array, Array] | Array


def moments_of(g: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of a pair, a law or a sample; checked."""
    if isinstance(g, tuple) and len(g) == 2:
        mean, cov = g
    elif hasattr(g, "cov") and not callable(g.mean):  # torch tensors have methods of these names
        mean, cov = g.mean, g.cov
    else:
        x = as_sample(g, name)
        x = x.reshape(len(x), -1)
        mean, cov = x.mean(axis=0), np.cov(x, rowvar=False)
    mean = np.ravel(to_numpy(mean)).astype(np.float64)
    cov = np.atleast_2d(np.asarray(to_numpy(cov), dtype=np.float64))
    if cov.shape != 2 * mean.shape:
        raise ValueError(
            f"`{name}` must have a mean (d,) and a covariance (d, d), got {mean.shape} and "
            f"{cov.shape}: pass (mean, cov), a law or a sample"
        )
    if not (np.abs(mean).max() <= LARGEST and np.abs(cov).max() <= LARGEST**2):
        raise ValueError(f"`{name}` has a mean or covariance with NaN, inf or enormous entries")
    if not np.allclose(cov, cov.T, rtol=1e-8, atol=1e-8 * np.abs(cov).max()):
        raise ValueError(f"the covariance of `{name}` is not symmetric: pass (cov + cov.T) / 2")
    return mean, (cov + cov.T) / 2


def _same_dimension(p: np.ndarray, q: np.ndarray, names: str) -> None:
    if p.shape != q.shape:
        raise ValueError(f"{names} must have one dimension, got d = {p.size} and d = {q.size}")


def root_of(cov: np.ndarray, name: str) -> np.ndarray:
    """F with F F^T = cov, from eigenvectors so that singular covariances work."""
    lam, vectors = np.linalg.eigh(cov)
    if lam[0] < -1e-8 * max(lam[-1], 0.0):
        raise ValueError(
            f"the covariance of `{name}` has the negative eigenvalue {lam[0]:.3g}: "
            "it must be positive semidefinite"
        )
    return np.asarray(vectors * np.sqrt(np.maximum(lam, 0.0)))


def frechet(x: Gaussian, y: Gaussian) -> float:
    r"""Squared Frechet distance between two Gaussian fits (squared, as FID is).

    .. math:: |m_1 - m_2|^2 + \mathrm{tr}\big(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2}\big)

    With C_i = F_i F_i^T the last trace is the sum of the singular values of F_1^T F_2: no matrix
    square root, and nothing to invert.  It is the squared W_2 distance if both laws are Gaussian,
    and a lower bound of it otherwise (Gelbrich 1990): two different mixtures can have distance 0.

    Parameters
    ----------
    x, y : sample (n, *D), or law with ``.mean`` and ``.cov``, or tuple (mean, cov)
        What to compare.  Against a law only ``x`` carries sampling noise.

    Returns
    -------
    float
        Squared distance, in squared units of the data; rounding below zero is cut.

    Raises
    ------
    ValueError
        On dimensions that differ, fewer than two samples, non-finite entries, a covariance that is
        not symmetric or not positive semidefinite.

    References
    ----------
    Dowson, Landau (1982), The Frechet distance between multivariate normal distributions.
    Heusel et al. (2017), equation (6), for its use as FID.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.measure.frechet(([0.0, 0.0], [[1, 0], [0, 1]]), ([3.0, 0.0], [[4, 0], [0, 1]]))
    10.0
    """
    return _squared_w2(x, y, "x", "y")


@one_blas_thread()
def _squared_w2(x: Gaussian, y: Gaussian, name_x: str, name_y: str) -> float:
    (m1, c1), (m2, c2) = moments_of(x, name_x), moments_of(y, name_y)
    _same_dimension(m1, m2, f"`{name_x}` and `{name_y}`")
    overlap = np.linalg.svd(root_of(c1, name_x).T @ root_of(c2, name_y), compute_uv=False).sum()
    shift = m1 - m2
    return max(0.0, float(shift @ shift + np.trace(c1) + np.trace(c2) - 2 * overlap))


def gaussian_w2(p: Gaussian, q: Gaussian) -> float:
    """Wasserstein distance W_2 between two Gaussians: the square root of `frechet`.

    Parameters
    ----------
    p, q : tuple (mean, cov), or law with ``.mean`` and ``.cov``, or sample (n, *D)
        The Gaussians.

    Returns
    -------
    float
        Distance in the units of the data.  Rounding of the squared distance shows here as about
        1e-8 of the spread.

    Raises
    ------
    ValueError
        As `frechet` does.

    References
    ----------
    Dowson, Landau (1982), The Frechet distance between multivariate normal distributions.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.measure.gaussian_w2((0.0, 1.0), (3.0, 25.0))
    5.0
    """
    return math.sqrt(_squared_w2(p, q, "p", "q"))


@one_blas_thread()
def gaussian_kl(p: Gaussian, q: Gaussian) -> float:
    r"""Relative entropy KL(p || q) of two Gaussians, in nats.

    .. math:: \tfrac12 \Big( \Delta^T C_q^{-1} \Delta + \sum_j (\mu_j - 1 - \log \mu_j) \Big)

    where mu_j are the eigenvalues of C_q^{-1} C_p and Delta the difference of the means.  Written
    so, every term is non-negative and a small divergence keeps its digits.

    Parameters
    ----------
    p, q : tuple (mean, cov), or law with ``.mean`` and ``.cov``, or sample (n, *D)
        The Gaussians; the order matters.

    Returns
    -------
    float
        Nats; ``inf`` if the covariance of ``p`` is (numerically) singular.

    Raises
    ------
    ValueError
        On dimensions that differ, non-finite entries, or if the covariance of ``q`` is singular.

    References
    ----------
    Kullback (1959), Information Theory and Statistics, chapter 9.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.measure.gaussian_kl((2.0, 1.0), (0.0, 1.0))
    2.0
    """
    (m1, c1), (m2, c2) = moments_of(p, "p"), moments_of(q, "q")
    _same_dimension(m1, m2, "`p` and `q`")
    root_of(c1, "p")  # raises if indefinite
    lam, vectors = np.linalg.eigh(c2)
    if lam[0] <= RELATIVE_ZERO * len(lam) * lam[-1]:
        raise ValueError(
            "the covariance of `q` is singular, so that KL(p || q) has no finite value: "
            "diffuse both laws to a small time first (`target.at(sde, sde.t_end)`)"
        )
    whiten = vectors / np.sqrt(lam)
    mu = np.linalg.eigvalsh(whiten.T @ c1 @ whiten)
    if mu[0] <= RELATIVE_ZERO * len(mu) * mu[-1]:
        return math.inf
    shift = (m1 - m2) @ whiten
    return max(0.0, float(0.5 * (shift @ shift + np.sum(mu - 1 - np.log(mu)))))
