"""Laws on the line made of Gaussian kernels, and their exact distances from a mixture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, xlogy

from refsde._array import Array, to_numpy
from refsde.targets import GaussianMixture
from refsde.targets._score import check_points

__all__ = ["Density", "mixture_on_the_line"]

Function = Callable[[np.ndarray], Any]

REACH = 9.0  # standard deviations beyond which a kernel is 0: less than 3e-18 of it
BLOCK = 2**17  # values of kernels in a block (1 MB an array: it stays in the cache)
FINEST = 2**19  # points of a quadrature that is allowed to be refined no further
AGREE = 1e-11  # how well two quadratures must agree
BISECTIONS = 25
CLOSER = 65  # points around a place where a difference nearly vanishes
ZERO = 1e-13  # below it, relative to the largest, a difference is rounding
ROOT_2PI = math.sqrt(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Density:
    r"""A law on the line, sum_i m_i N(c_i, S_i^2), with its distances from a target.

    Attributes
    ----------
    centres, stds, masses : arrays (n,)
        c_i ascending, S_i > 0 and m_i >= 0, sum 1: where the nodes of the last step went, how far
        its noise spread them, and what they weigh.
    t : float
        Time of the law; t = 0 is data.
    target : GaussianMixture or None
        What the law should have been, p_t: what distances are measured from by default.
    mass_error : float
        Largest change of the total mass in a step, before it was put right: a measure of care.

    Raises
    ------
    ValueError
        If shapes differ, a number is not finite, a width not positive, or masses do not sum to 1
        (within 1e-6; then they are divided by their sum).

    Notes
    -----
    Distances are exact but for rounding: integrals are split where the integrand changes sign and
    taken in closed form, or by a trapezoidal rule that is refined until it agrees with itself to
    1e-11.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.1, 0.1])
    >>> rs.exact.density(rs.ReverseSDE(sde, target.score(sde)), rs.EulerMaruyama(), 100)
    Density(t = 0.001, mean 0.397..., variance 0.944..., ... kernels)
    """

    centres: np.ndarray
    stds: np.ndarray
    masses: np.ndarray
    t: float = 0.0
    target: GaussianMixture | None = None
    mass_error: float = 0.0

    def __post_init__(self) -> None:
        c, std, m = (np.array(v, dtype=float) for v in (self.centres, self.stds, self.masses))
        if not (c.ndim == 1 and c.size and c.shape == std.shape == m.shape):
            raise ValueError(
                "`centres`, `stds` and `masses` must have one shape (n,), got "
                f"{c.shape}, {std.shape} and {m.shape}: one number a kernel"
            )
        if not (np.all(np.isfinite(c)) and np.all(np.isfinite(std)) and np.all(std > 0)):
            raise ValueError("`centres` must be finite, and `stds` positive and finite")
        if not (np.all(m >= 0) and abs(m.sum() - 1) < 1e-6):
            raise ValueError(
                f"`masses` must be non-negative with sum 1, got the sum {m.sum():.9g}: divide by it"
            )
        order = np.argsort(c, kind="stable")
        for name, value in (("centres", c), ("stds", std), ("masses", m / m.sum())):
            object.__setattr__(self, name, value[order])

    @classmethod
    def of(cls, mixture: GaussianMixture, t: float, name: str) -> Density:
        """Write a mixture of Gaussians with d = 1 as such a law."""
        mixture = mixture_on_the_line(mixture, name)
        used = mixture.weights > 0
        variances = mixture.eigh()[0][used, 0]
        if np.any(variances <= 0):
            raise ValueError(
                f"`{name}` has a part without spread at t = {t:g}, so that it has no density: use "
                "a time with sigma > 0, such as sde.t_end, or positive variances"
            )
        return cls(mixture.means[used, 0], np.sqrt(variances), mixture.weights[used], t, mixture)

    # -- the law ----------------------------------------------------------------------------------

    def pdf(self, x: ArrayLike) -> np.ndarray:
        """Density at ``x`` (any shape), in one over units of the data."""
        heights = self.masses / (self.stds * ROOT_2PI)
        return self._sum(x, heights, lambda u: np.exp(-0.5 * u * u))

    def logpdf(self, x: Array) -> np.ndarray:
        """Log-density in nats, shape (B,), at points ``x`` (B, 1), as targets have it."""
        check_points("x", x, 1)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.pdf(to_numpy(x)[:, 0])))

    def cdf(self, x: ArrayLike) -> np.ndarray:
        """Distribution function at ``x`` (any shape)."""
        return np.asarray(self._sum(x, self.masses, ndtr) + self._passed(x, self.masses))

    @property
    def mean(self) -> float:
        """Mean, in units of the data."""
        return float(np.sum(self.masses * self.centres))

    @property
    def var(self) -> float:
        """Variance, in squared units of the data."""
        gaps = self.centres - self.mean
        return float(np.sum(self.masses * (self.stds**2 + gaps**2)))

    @property
    def cov(self) -> np.ndarray:
        """Variance as a covariance (1, 1), by which ``measure.frechet`` and its kin take a law."""
        return np.array([[self.var]])

    def expect(self, fn: Function) -> Any:
        """Mean of a smooth function under the law.

        Parameters
        ----------
        fn : callable
            Function of points (B,), with values (B,) or (B, K).

        Returns
        -------
        float or ndarray (K,)

        Raises
        ------
        RuntimeError
            If ``fn`` is too rough for the quadrature, as where it jumps: use `cdf` there.
        """
        return self._expect(fn, self._finest())

    def _expect(self, fn: Function, h: float) -> Any:
        def integrand(x: np.ndarray) -> np.ndarray:
            values = np.asarray(fn(x), dtype=float)
            return np.asarray(self.pdf(x).reshape(-1, *[1] * (values.ndim - 1)) * values)

        total = _integral(integrand, *self.support(1e-19), h)
        return float(total) if np.ndim(total) == 0 else total

    # -- distances --------------------------------------------------------------------------------

    def w1(self, target: GaussianMixture | None = None) -> float:
        r"""Wasserstein distance W_1 = \int |F - G| dx from a target, in units of the data.

        Parameters
        ----------
        target : GaussianMixture, optional
            With d = 1; by default what the law should have been.
        """
        other = self._other(target)

        def area(x: np.ndarray) -> np.ndarray:
            return np.asarray(self._area(x) - other._area(x))

        cuts = _crossings(lambda x: self.cdf(x) - other.cdf(x), *self._frame(other))
        parts = np.diff(np.concatenate([[0.0], area(cuts), [other.mean - self.mean]]))
        return float(np.abs(parts).sum())

    def tv(self, target: GaussianMixture | None = None) -> float:
        r"""Total variation \tfrac12 \int |p - q| dx from a target, between 0 and 1.

        Parameters
        ----------
        target : GaussianMixture, optional
            With d = 1; by default what the law should have been.
        """
        other = self._other(target)
        cuts = _crossings(lambda x: self.pdf(x) - other.pdf(x), *self._frame(other))
        parts = np.diff(np.concatenate([[0.0], self.cdf(cuts) - other.cdf(cuts), [0.0]]))
        return float(0.5 * np.abs(parts).sum())

    def kl(self, target: GaussianMixture | None = None) -> float:
        r"""Relative entropy KL(p || q) from a target q, in nats.

        .. math:: \int \left(p \log\frac{p}{q} - p + q\right) dx

        No term is negative, so that a small divergence keeps its digits.

        Parameters
        ----------
        target : GaussianMixture, optional
            With d = 1; by default what the law should have been.
        """
        q = self._mixture(target)
        other = self._other(target)

        def integrand(x: np.ndarray) -> np.ndarray:
            p, log_q = self.pdf(x), q.logpdf(x[:, None])
            with np.errstate(divide="ignore"):
                d = np.log(p) - log_q
            plain = xlogy(p, p) - p * log_q - p + np.exp(log_q)
            near = np.where(np.abs(d) < 1, d, 0.0)  # here the terms of `plain` nearly cancel
            exact = np.exp(log_q) * (near * np.exp(near) - np.expm1(near))
            return np.asarray(np.where(np.abs(d) < 1, exact, plain))

        # Below 1e-16 lie the tails that were cut.
        return float(_integral(integrand, *self._frame(other), floor=1e-16))

    def mode_weights(self, target: GaussianMixture | None = None) -> np.ndarray:
        """Share (K,) of each component of a target: the mean of its responsibilities.

        For the target itself they are its weights, also where components overlap.

        Parameters
        ----------
        target : GaussianMixture, optional
            With d = 1; by default what the law should have been.
        """
        q = self._mixture(target)
        h = self._frame(self._other(target))[2]
        return np.asarray(self._expect(lambda x: q.responsibilities(x[:, None]), h))

    # -- machinery --------------------------------------------------------------------------------

    def support(self, tiny: float) -> tuple[float, float]:
        """Ends of a range beyond which each kernel has less than about ``tiny`` of mass."""
        counts = self.masses > tiny
        reach = self.stds[counts] * np.sqrt(2 * np.log(self.masses[counts] / tiny))
        centres = self.centres[counts]
        return float(np.min(centres - reach)), float(np.max(centres + reach))

    def _sum(self, x: ArrayLike, weights: np.ndarray, kernel: Function) -> np.ndarray:
        """Sum of weights_i kernel((x - c_i) / S_i) over the kernels that reach ``x``."""
        points = np.asarray(x, dtype=float)
        y = points.reshape(-1)
        first, end = self._reached(y)
        out, width = np.zeros(len(y)), int(np.max(end - first, initial=1))
        same = self.stds.min() == self.stds.max()
        offsets = np.arange(width)
        for i in range(0, len(y), size := max(1, BLOCK // width)):
            rows = slice(i, i + size)
            at = first[rows, None] + offsets
            inside = at < end[rows, None]
            np.minimum(at, len(self.centres) - 1, out=at)
            u = (y[rows, None] - self.centres[at]) / (self.stds[0] if same else self.stds[at])
            out[rows] = np.einsum("ij,ij->i", kernel(u), np.where(inside, weights[at], 0.0))
        return out.reshape(points.shape)

    def _reached(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First of the kernels that reach each point, and the first that no longer does."""
        reach = REACH * self.stds.max()
        return (
            np.searchsorted(self.centres, y - reach),
            np.searchsorted(self.centres, y + reach, side="right"),
        )

    def _passed(self, x: ArrayLike, weights: np.ndarray) -> np.ndarray:
        """Sum of the weights of the kernels that are wholly to the left of ``x``."""
        points = np.asarray(x, dtype=float)
        sums = np.concatenate([[0.0], np.cumsum(weights)])
        return np.asarray(sums[self._reached(points.reshape(-1))[0]].reshape(points.shape))

    def _area(self, x: np.ndarray) -> np.ndarray:
        """Integral of the distribution function up to ``x``."""
        near = self._sum(
            x,
            self.masses * self.stds,
            lambda u: u * ndtr(u) + np.exp(-0.5 * u * u) / ROOT_2PI,
        )
        return np.asarray(
            near + x * self._passed(x, self.masses) - self._passed(x, self.masses * self.centres)
        )

    def _finest(self) -> float:
        return 0.5 * float(self.stds.min())

    def _frame(self, other: Density) -> tuple[float, float, float]:
        """Range of both laws, and a spacing that shows the features of both."""
        (a, b), (c, d) = self.support(1e-19), other.support(1e-19)
        return min(a, c), max(b, d), min(self._finest(), other._finest())

    def _mixture(self, target: Any) -> GaussianMixture:
        target = self.target if target is None else target
        if target is None:
            raise ValueError(
                "`target` is None, and this law knows none (its score had no target): pass a "
                "GaussianMixture with d = 1, such as target.at(sde, t)"
            )
        return mixture_on_the_line(target, "target")

    def _other(self, target: Any) -> Density:
        return Density.of(self._mixture(target), self.t, "target")

    def __repr__(self) -> str:
        return (
            f"Density(t = {self.t:g}, mean {self.mean:.6g}, variance {self.var:.6g}, "
            f"{len(self.centres)} kernels)"
        )


def mixture_on_the_line(target: Any, name: str = "target") -> GaussianMixture:
    """Return ``target`` if it is a mixture of Gaussians with d = 1, or raise."""
    if not isinstance(target, GaussianMixture):
        raise TypeError(f"`{name}` must be a GaussianMixture with d = 1, got {target!r:.80}")
    if target.dim != 1:
        raise ValueError(f"`{name}` must have d = 1, got {target!r}: a law on the line")
    return target


def _integral(fn: Function, low: float, high: float, h: float, floor: float = 0.0) -> Any:
    """Trapezoidal rule for a function that vanishes at both ends, halved until it agrees."""
    n = max(16, math.ceil((high - low) / h))
    most = max(FINEST, 4 * n)
    values = fn(low + (high - low) / n * np.arange(n))
    total, size = values.mean(axis=0), np.abs(values).mean(axis=0)
    while n <= most:
        values = fn(low + (high - low) / n * (np.arange(n) + 0.5))
        between, size = values.mean(axis=0), 0.5 * (size + np.abs(values).mean(axis=0))
        if np.all((high - low) * (np.abs(between - total) - AGREE * size) <= floor):
            return (high - low) * 0.5 * (total + between)
        total, n = 0.5 * (total + between), 2 * n
    raise RuntimeError(
        f"`fn` is too rough for a quadrature with {n} points, or the law much wider than the modes "
        "of the target: give a smooth function; for one that jumps take differences of cdf"
    )


def _crossings(fn: Function, low: float, high: float, h: float) -> np.ndarray:
    """Where ``fn`` changes its sign: an error there enters the distances squared."""
    x = np.linspace(low, high, max(16, math.ceil((high - low) / h)) + 1)
    size = np.abs(values := fn(x))
    # Near a point where fn turns back from 0, two changes may hide in one interval.
    turns = (size[1:-1] < size[:-2]) & (size[1:-1] < size[2:]) & (size[1:-1] > ZERO * size.max())
    turns &= (values[1:-1] > 0) == (values[2:] > 0)
    near = x[1:-1][turns, None] + (x[1] - x[0]) * np.linspace(-1, 1, CLOSER)
    x = np.unique(np.concatenate([x, near.reshape(-1)]))
    left = fn(x) > 0
    at = np.flatnonzero(left[1:] != left[:-1])
    a, b, sign = x[at], x[at + 1], left[at]
    for _ in range(BISECTIONS):
        middle = 0.5 * (a + b)
        same = (fn(middle) > 0) == sign
        a, b = np.where(same, middle, a), np.where(same, b, middle)
    return np.asarray(0.5 * (a + b))
