r"""The law of a data set itself, whose score is what an ideal denoiser would learn.

If x_0 is one of N points, p_n with weight w_n, then x_t = alpha x_0 + sigma z has the law

.. math:: p_t = \sum_n w_n N(\alpha p_n,\; \sigma^2 I), \qquad
          \nabla \log p_t(x) = \frac{\alpha\,E[x_0|x] - x}{\sigma^2}, \qquad
          E[x_0|x] = \sum_n r_n p_n, \quad
          r = \mathrm{softmax}_n\Bigl(\log w_n - \frac{|x-\alpha p_n|^2}{2\sigma^2}\Bigr).
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import Array, Time, is_numpy, like, namespace, per_sample, to_numpy
from refsde._random import START, KeyedNormals, run_key
from refsde._types import SDE
from refsde.sde import check_time
from refsde.targets._given import finite, noise_cov_of, real
from refsde.targets._score import TargetScore, level
from refsde.targets._tiles import Tiles, evaluate_points
from refsde.targets.mixture import GaussianMixture

__all__ = ["Empirical", "empirical_formula"]


class Empirical:
    r"""Law of N points in d dimensions: mass 1/N, or a weight of its own, on each.

    Parameters
    ----------
    points : array (N, d)
        The data, in their own units.
    log_weights : array (N,), optional
        Normalised log weights; ``-inf`` for a point that is never drawn.  Default: all equal.

    Attributes
    ----------
    points, log_weights, weights : arrays (N, d), (N,), (N,)
    mean, cov : arrays (d,), (d, d)
        Moments of the law.

    Raises
    ------
    ValueError
        If shapes disagree, an entry is not finite, or the weights are not normalised.

    Notes
    -----
    Responsibilities depend on |x|^2 / sigma^2, so a relative error ``eps`` of ``x`` changes them by
    ``eps |x|^2 / sigma^2``: no arithmetic does better between two points that are equally near.

    References
    ----------
    Karras et al. (2022), appendix B.3: the ideal denoiser of a finite data set.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> target = rs.targets.Empirical([[-1.0], [1.0]])
    >>> target.score(rs.EDM()).denoise(np.array([[0.3]]), 0.01).item()
    1.0
    """

    def __init__(self, points: ArrayLike, *, log_weights: ArrayLike | None = None) -> None:
        p = finite("points", points)
        if p.ndim != 2 or p.size == 0:
            raise ValueError(
                f"`points` must have shape (N, d), got {p.shape}: flatten each sample to one row"
            )
        self._points = p.copy()
        self._log_w = _normalised(log_weights, len(p))
        self._tables: dict[np.dtype, Tiles] = {}

    @property
    def dim(self) -> int:
        """Dimension d."""
        return int(self._points.shape[1])

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (d,)."""
        return (self.dim,)

    @property
    def points(self) -> np.ndarray:
        """The points (N, d)."""
        return self._points.copy()

    @property
    def log_weights(self) -> np.ndarray:
        """Log weights (N,); ``-inf`` for a weight of zero."""
        return self._log_w.copy()

    @property
    def weights(self) -> np.ndarray:
        """Weights (N,)."""
        return np.asarray(np.exp(self._log_w))

    @property
    def mean(self) -> np.ndarray:
        """Mean of the law (d,)."""
        return np.asarray(self.weights @ self._points)

    @property
    def cov(self) -> np.ndarray:
        """Covariance of the law (d, d)."""
        gaps = self._points - self.mean
        return np.asarray((self.weights[:, None] * gaps).T @ gaps)

    # -- exact answers -------------------------------------------------------------------------

    def score(self, sde: SDE) -> TargetScore:
        """Exact score of this law diffused by ``sde``: ``score(x, t)``, for sigma(t) > 0."""
        return TargetScore(self, sde)

    def at(self, sde: SDE, t: float) -> GaussianMixture:
        """Law p_t of alpha(t) x_0 + sigma(t) z: N round Gaussians; ``t`` is a float in [0, T]."""
        if per_sample(t):
            raise TypeError(f"`t` must be one float, got {t!r}: a law belongs to one time")
        check_time("t", t, sde)
        a, s = sde.alpha(float(t)), sde.sigma(float(t))
        variances = np.full(len(self._points), s * s)
        return GaussianMixture(None, a * self._points, variances, log_weights=self._log_w)

    def logpdf(self, x: Array) -> NoReturn:
        """Raise ``ValueError``: point masses have no density (``at(sde, t)`` has one)."""
        raise ValueError(
            "`logpdf`: point masses have no density; use target.at(sde, t).logpdf(x) with t > 0"
        )

    def sample(self, n: int, *, rng: int | np.random.Generator | None = None) -> np.ndarray:
        """``n`` exact draws (n, d); draw i depends on (rng, i) alone."""
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise ValueError(f"`n` must be a non-negative int, got {n!r}")
        uniform = KeyedNormals(run_key(rng)).uniform(np.arange(n), (1,), START - 1)[:, 0]
        edges = np.cumsum(self.weights)
        which = np.searchsorted(edges[:-1] / edges[-1], uniform, side="right")
        return np.asarray(self._points[which])

    def condition(self, A: ArrayLike, y: ArrayLike, noise_cov: ArrayLike) -> Empirical:
        r"""Exact posterior of x given y = A x + noise: the same points, reweighted.

        .. math:: w'_n \propto w_n N(y; A p_n, R) .

        Parameters
        ----------
        A : array (m, d)
            Measurement matrix.
        y : array (m,)
            Measurement.
        noise_cov : float, array (m,) or (m, m)
            Variance R of the measurement noise, in squared units of ``y``; positive definite.

        Raises
        ------
        ValueError
            If shapes disagree, or a measurement has no noise.
        """
        A, y = finite("A", A), finite("y", y)
        if A.ndim != 2 or A.shape[1] != self.dim:
            raise ValueError(f"`A` must have shape (m, {self.dim}), got {A.shape}")
        if y.shape != A.shape[:1]:
            raise ValueError(
                f"`y` must have shape ({A.shape[0]},), one number a row of `A`, got {y.shape}"
            )
        try:
            L = np.linalg.cholesky(noise_cov_of(noise_cov, len(y)))
        except np.linalg.LinAlgError as singular:
            raise ValueError(
                "`noise_cov` must be positive definite (points have no spread of their own): "
                "add a small variance"
            ) from singular
        residual = np.linalg.solve(L, y[:, None] - A @ self._points.T)
        log_w = self._log_w - 0.5 * np.sum(residual * residual, axis=0)
        return Empirical(self._points, log_weights=log_w - np.logaddexp.reduce(log_w))

    # -- machinery -----------------------------------------------------------------------------

    def _evaluate(
        self, x: Array, a: Any, s: Any, want: frozenset[str], u: Array | None = None
    ) -> dict[str, Array]:
        if np.any(to_numpy(s) == 0) if per_sample(s) else s == 0:
            raise ValueError("point masses have no density at sigma = 0: use t > 0")
        if not is_numpy(x):
            return empirical_formula(self._points, self._log_w, x, a, s, u)
        if x.dtype not in self._tables:
            self._tables[x.dtype] = Tiles.of(self._points, self._log_w, x.dtype)
        return evaluate_points(self._tables[x.dtype], x, level(a), level(s), want, u)

    def __repr__(self) -> str:
        return f"Empirical(N={len(self._points)}, d={self.dim})"

    def _repr_latex_(self) -> str:
        N, d = self._points.shape
        return rf"$\sum_{{n=1}}^{{{N}}} w_n\,\delta_{{p_n}},\quad x\in\mathbb{{R}}^{{{d}}}$"


def _normalised(log_weights: ArrayLike | None, N: int) -> np.ndarray:
    if log_weights is None:
        return np.full(N, -math.log(N))
    log_w = real("log_weights", log_weights)
    if log_w.shape != (N,):
        raise ValueError(
            f"`log_weights` must have shape ({N},), one a row of `points`, got {log_w.shape}"
        )
    if np.any(np.isnan(log_w)) or np.any(log_w == np.inf) or np.all(log_w == -np.inf):
        raise ValueError(f"`log_weights` must be below inf, and one of them finite, got {log_w}")
    total = float(np.logaddexp.reduce(log_w))
    if abs(total) > 1e-6:
        raise ValueError(
            f"`log_weights` must be normalised, their logaddexp is {total:.6g}: "
            "subtract numpy.logaddexp.reduce(log_weights)"
        )
    return np.asarray(log_w - total)


def empirical_formula(
    points: np.ndarray, log_weights: np.ndarray, x: Array, a: Time, s: Time, u: Array | None = None
) -> dict[str, Array]:
    """Everything about diffused points, as one reads it: the definition the tiles must equal.

    Runs on any array library; holds (B, N, d) numbers.  J = -I / s^2 + (a / s^2)^2 Cov[x_0 | x].
    """
    xp = namespace(x)
    p, log_w, d = like(points, x), like(log_weights, x), points.shape[1]
    v = s * s
    a3, v3 = (q if not per_sample(q) else xp.reshape(q, (-1, 1, 1)) for q in (a, v))
    gaps = x[:, None, :] - a3 * p  # (B, N, d)
    square = xp.sum(gaps * gaps, axis=2)
    constant = like(0.5 * d * math.log(2 * math.pi), x) + 0.5 * d * xp.log(
        v if per_sample(v) else like(v, x)
    )
    logits = log_w - 0.5 * square / v - constant
    top = getattr(xp, "amax", xp.max)(logits, axis=1, keepdims=True)
    r = xp.exp(logits - top)
    total = xp.sum(r, axis=1, keepdims=True)
    r = r / total
    mean = xp.sum(r[:, :, None] * p, axis=1)
    spread = p - mean[:, None, :]
    trace = xp.sum(r * xp.sum(spread * spread, axis=2), axis=1, keepdims=True)
    out = {
        "resp": r,
        "logpdf": (top + xp.log(total))[:, 0],
        "score": xp.sum(-r[:, :, None] * gaps / v3, axis=1),
        "denoise": mean,
        "divergence": (a * a * trace / (v * v) - d / v)[:, 0],
    }
    if u is not None:
        along = xp.sum(spread * u[:, None, :], axis=2)
        out["jvp"] = a * a * xp.sum((r * along)[:, :, None] * spread, axis=1) / (v * v) - u / v
    return out
