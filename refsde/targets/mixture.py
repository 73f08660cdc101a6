r"""Mixtures of Gaussians: data laws whose every diffused score is known exactly.

If x_0 has the law sum_k w_k N(mu_k, C_k) then x_t = alpha x_0 + sigma z has the law

.. math:: p_t = \sum_k w_k N(\alpha\mu_k,\; \alpha^2 C_k + \sigma^2 I),

again a mixture.  With C_k = U_k diag(lam_k) U_k^T diagonalised once, no level needs a
factorisation.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from refsde._array import Array, Time, like, namespace, one_blas_thread, per_sample, to_numpy
from refsde._array import is_numpy as _is_numpy
from refsde._random import START, KeyedNormals, run_key
from refsde._types import SDE
from refsde.sde import check_time
from refsde.targets._given import finite, log_weights_of, noise_cov_of, spectrum_of
from refsde.targets._kernels import Law, evaluate
from refsde.targets._score import TargetScore, check_points, level

__all__ = ["GaussianMixture"]


class GaussianMixture:
    r"""Mixture of Gaussians sum_k w_k N(mu_k, C_k) in d dimensions.

    Parameters
    ----------
    weights : array (K,)
        Non-negative, sum 1 (renormalised within 1e-6).  Zero is allowed.
    means : array (K, d)
        Component means, in units of the data.
    covs : array (K, d, d), (K, d) or (K,)
        Full covariances, diagonal variances, or one variance a component.  Positive semi-definite:
        singular is allowed.
    log_weights : array (K,), optional
        Instead of ``weights`` (pass ``None`` there): log weights, for weights that underflow.

    Attributes
    ----------
    weights, log_weights, means : arrays (K,), (K,), (K, d)
    mean, cov : arrays (d,), (d, d)
        Moments of the mixture.

    Raises
    ------
    ValueError
        If shapes disagree, an entry is not finite, weights are negative or do not sum to 1, or a
        covariance is asymmetric or not positive semi-definite.

    References
    ----------
    Song et al. (2020), section 2; the closure under diffusion is elementary.

    Examples
    --------
    >>> import refsde as rs
    >>> target = rs.GaussianMixture.ring(8)
    >>> target.sample(3, rng=0).shape
    (3, 2)
    """

    def __init__(
        self,
        weights: ArrayLike | None,
        means: ArrayLike,
        covs: ArrayLike,
        *,
        log_weights: ArrayLike | None = None,
    ) -> None:
        mu = finite("means", means)
        if mu.ndim != 2 or mu.size == 0:
            raise ValueError(
                f"`means` must have shape (K, d), got {mu.shape}: one row a component; K means on "
                "the line are numpy.reshape(means, (K, 1))"
            )
        log_w = log_weights_of(weights, log_weights, len(mu))
        lam, U = spectrum_of(finite("covs", covs), *mu.shape)
        self._law = Law(log_w, mu.copy(), lam, U)

    # -- how to make one -------------------------------------------------------------------------

    @classmethod
    def ring(cls, modes: int = 8, radius: float = 4.0, std: float = 0.2) -> Self:
        """Equal round modes on a circle in the plane.

        Parameters
        ----------
        modes : int
            How many.
        radius, std : float
            Radius of the circle and standard deviation of a mode, in units of the data.
        """
        if isinstance(modes, bool) or not isinstance(modes, int | np.integer) or modes < 1:
            raise ValueError(f"`modes` must be a positive int, got {modes!r}")
        if not (math.isfinite(radius) and radius >= 0 and math.isfinite(std) and std >= 0):
            raise ValueError(
                f"`radius` and `std` must be finite and non-negative, got {radius!r} and {std!r}"
            )
        angle = 2 * np.pi * np.arange(modes) / modes
        means = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return cls(np.full(modes, 1 / modes), means, np.full(modes, std**2))

    @classmethod
    def fit(
        cls,
        X: ArrayLike,
        k: int,
        *,
        rng: int | np.random.Generator | None = None,
        reg_covar: float = 1e-6,
    ) -> Self:
        """Fit ``k`` full covariances to data (n, d) by expectation maximisation (scikit-learn).

        Parameters
        ----------
        X : array (n, d)
            Data, n >= k.
        k : int
            Number of components.
        rng : int, Generator or None
            Seed of the initialisation.
        reg_covar : float
            Added to the diagonal of every covariance, in squared units of the data.
        """
        try:
            from sklearn.mixture import GaussianMixture as Fitter
        except ImportError as missing:  # pragma: no cover
            raise ImportError(
                "fitting a mixture needs scikit-learn: pip install 'refsde[all]'"
            ) from missing
        data = finite("X", X)
        if data.ndim != 2 or len(data) < k:
            raise ValueError(f"`X` must have shape (n, d) with n >= k = {k}, got {data.shape}")
        state = rng if isinstance(rng, int | None) else int(rng.integers(2**31))
        with one_blas_thread():
            return cls.from_sklearn(Fitter(k, reg_covar=reg_covar, random_state=state).fit(data))

    @classmethod
    def from_sklearn(cls, gm: Any) -> Self:
        """Take over a fitted ``sklearn.mixture.GaussianMixture`` of any covariance type."""
        if not hasattr(gm, "covariances_"):
            raise ValueError(
                f"`gm` must be a fitted sklearn.mixture.GaussianMixture, got {gm!r}: call "
                "gm.fit(X) first"
            )
        covs = gm.covariances_
        if gm.covariance_type == "tied":
            covs = np.broadcast_to(covs, (len(gm.weights_), *covs.shape))
        return cls(gm.weights_, gm.means_, covs)

    # -- what it is ------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Dimension d."""
        return int(self._law.mu.shape[1])

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (d,)."""
        return (self.dim,)

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return len(self._law.mu)

    @property
    def log_weights(self) -> np.ndarray:
        """Log weights (K,); ``-inf`` for a weight of zero."""
        return self._law.log_w.copy()

    @property
    def weights(self) -> np.ndarray:
        """Weights (K,)."""
        return np.asarray(np.exp(self._law.log_w))

    @property
    def means(self) -> np.ndarray:
        """Component means (K, d)."""
        return self._law.mu.copy()

    @property
    def covs(self) -> np.ndarray:
        """Component covariances, full: (K, d, d)."""
        lam, U = self.eigh()
        return np.asarray((U * lam[:, None, :]) @ U.transpose(0, 2, 1))

    def eigh(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (K, d) and eigenvectors as columns (K, d, d) of the component covariances."""
        K, d = self._law.mu.shape
        lam = np.broadcast_to(self._law.lam, (K, d)).copy()
        U = np.broadcast_to(np.eye(d), (K, d, d)) if self._law.U is None else self._law.U
        return lam, U.copy()

    @property
    def mean(self) -> np.ndarray:
        """Mean of the mixture (d,)."""
        return np.asarray(self.weights @ self._law.mu)

    @property
    def cov(self) -> np.ndarray:
        """Covariance of the mixture (d, d)."""
        gaps = self._law.mu - self.mean
        return np.asarray(
            np.tensordot(self.weights, self.covs, 1) + (self.weights[:, None] * gaps).T @ gaps
        )

    @property
    def smallest_variance(self) -> float:
        """The least variance of a component along any axis."""
        return float(np.min(self._law.lam))

    def component(self, k: int) -> GaussianMixture:
        """Component ``k`` alone, a single Gaussian."""
        if not -self.n_components <= k < self.n_components:
            raise ValueError(f"`k` must be below {self.n_components}, got {k}")
        law = self._law
        return self._of(
            np.zeros(1), law.mu[[k]], law.lam[[k]], None if law.U is None else law.U[[k]]
        )

    # -- exact answers ---------------------------------------------------------------------------

    def score(self, sde: SDE, *, fast: bool = False) -> TargetScore:
        """Exact score of this law diffused by ``sde``: call it as ``score(x, t)``.

        Parameters
        ----------
        sde : SDE
            What diffuses the data.
        fast : bool
            With full covariances, compute scores with one matrix product instead of two: about half
            the time for n much larger than d.  The score keeps its accuracy unless a covariance is
            nearly singular; densities and everything else take the safe form regardless.
        """
        return TargetScore(self, sde, fast=fast)

    def at(self, sde: SDE, t: float) -> GaussianMixture:
        """Law p_t of alpha(t) x_0 + sigma(t) z, again a mixture; ``t`` is a float in [0, T]."""
        if per_sample(t):
            raise TypeError(f"`t` must be one float, got {t!r}: a law belongs to one time")
        check_time("t", t, sde)
        a, s = sde.alpha(float(t)), sde.sigma(float(t))
        law = self._law
        return self._of(law.log_w, a * law.mu, a * a * law.lam + s * s, law.U)

    def logpdf(self, x: Array) -> Array:
        """Log-density (B,) in nats at ``x`` (B, d)."""
        return self._now(x, "logpdf")

    def responsibilities(self, x: Array) -> Array:
        """Probability (B, K) of each component given ``x`` (B, d)."""
        return self._now(x, "resp")

    def _now(self, x: Array, want: str) -> Array:
        check_points("x", x, self.event_shape)
        with one_blas_thread():
            return self._evaluate(x, 1.0, 0.0, frozenset((want,)))[want]

    def cdf(self, x: ArrayLike) -> np.ndarray:
        """Distribution function at ``x`` (any shape), for d = 1."""
        return self._tail(x, 1.0)

    def sf(self, x: ArrayLike) -> np.ndarray:
        """Survival function 1 - cdf at ``x``, without cancellation, for d = 1."""
        return self._tail(x, -1.0)

    def _tail(self, x: ArrayLike, sign: float) -> np.ndarray:
        if self.dim != 1:
            raise ValueError(
                f"`cdf` and `sf` need a target with d = 1, this one has d = {self.dim}"
            )
        points = np.asarray(x, dtype=float)[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (points - self._law.mu[:, 0]) / np.sqrt(self._law.lam[:, 0])
        z = np.where(np.isnan(z), np.inf, z)  # at a point mass: the step has been taken
        return np.asarray(ndtr(sign * z) @ self.weights)

    def sample(self, n: int, *, rng: int | np.random.Generator | None = None) -> np.ndarray:
        """``n`` exact draws (n, d); draw i depends on (rng, i) alone."""
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise ValueError(f"`n` must be a non-negative int, got {n!r}")
        draws, rows = KeyedNormals(run_key(rng)), np.arange(n)
        edges = np.cumsum(self.weights)
        k = np.searchsorted(
            edges[:-1] / edges[-1], draws.uniform(rows, (1,), START - 1)[:, 0], side="right"
        )
        z = draws.normal(rows, (self.dim,), START - 2)
        z *= np.sqrt(self._law.lam)[k]
        if self._law.U is not None:
            for j in range(self.n_components):  # elementwise sums: the same bits for any n
                here = k == j
                z[here] = np.einsum("ni,ji->nj", z[here], self._law.U[j])
        return np.asarray(z + self._law.mu[k])

    def condition(self, A: ArrayLike, y: ArrayLike, noise_cov: ArrayLike) -> GaussianMixture:
        r"""Exact posterior of x given y = A x + noise, again a mixture.

        .. math:: w'_k \propto w_k N(y; A\mu_k, S_k),\quad \mu'_k = \mu_k + G_k(y - A\mu_k),\quad
                  C'_k = (I - G_k A) C_k,\quad S_k = A C_k A^T + R,\ G_k = C_k A^T S_k^{-1} .

        Parameters
        ----------
        A : array (m, d)
            Measurement matrix.
        y : array (m,)
            Measurement.
        noise_cov : float, array (m,) or (m, m)
            Variance of the measurement noise, in squared units of ``y``.

        Raises
        ------
        ValueError
            If shapes disagree, or a measurement has no noise where the law has no spread.
        """
        A, y = finite("A", A), finite("y", y)
        if A.ndim != 2 or A.shape[1] != self.dim:
            raise ValueError(f"`A` must have shape (m, {self.dim}), got {A.shape}")
        if y.shape != A.shape[:1]:
            raise ValueError(
                f"`y` must have shape ({A.shape[0]},), one number a row of `A`, got {y.shape}"
            )
        R = noise_cov_of(noise_cov, len(y))
        log_w, means, covs = [], [], []
        for log_weight, mu, C in zip(self._law.log_w, self._law.mu, self.covs, strict=True):
            S = A @ C @ A.T + R
            try:
                L = np.linalg.cholesky(S)
            except np.linalg.LinAlgError as singular:
                raise ValueError(
                    f"`noise_cov` = {noise_cov!r} leaves a measurement without spread "
                    "(A C A^T + noise_cov is singular): add a small variance"
                ) from singular
            half = np.linalg.solve(L, A @ C)  # C' = C - half^T half
            residual = np.linalg.solve(L, y - A @ mu)
            log_w.append(log_weight - 0.5 * residual @ residual - np.sum(np.log(np.diag(L))))
            means.append(mu + half.T @ residual)
            covs.append(C - half.T @ half)
        log_posterior = np.array(log_w)
        log_posterior -= np.logaddexp.reduce(log_posterior)
        lam, U = spectrum_of(np.array(covs), *self._law.mu.shape)
        return self._of(log_posterior, np.array(means), lam, U)

    # -- machinery -------------------------------------------------------------------------------

    @classmethod
    def _of(
        cls, log_w: np.ndarray, mu: np.ndarray, lam: np.ndarray, U: np.ndarray | None
    ) -> GaussianMixture:
        made = GaussianMixture.__new__(GaussianMixture)
        made._law = Law(log_w, mu, lam, U)
        return made

    def _evaluate(
        self,
        x: Array,
        a: Any,
        s: Any,
        want: frozenset[str],
        u: Array | None = None,
        *,
        fast: bool = False,
    ) -> dict[str, Array]:
        noiseless = np.any(to_numpy(s) == 0) if per_sample(s) else s == 0
        if noiseless and np.any(self._law.lam == 0):
            raise ValueError(
                "a singular covariance has no density at sigma = 0: use t > 0, or target.at(sde, t)"
            )
        if _is_numpy(x):
            return evaluate(self._law, x, level(a), level(s), want, u, fast=fast)
        return mixture_formula(self._law, x, a, s, u)

    def __repr__(self) -> str:
        kind = (
            "full"
            if self._law.U is not None
            else ("spherical" if self._law.lam.shape[1] == 1 else "diagonal")
        )
        return f"GaussianMixture(K={self.n_components}, d={self.dim}, {kind})"

    def _repr_latex_(self) -> str:
        K, d = self.n_components, self.dim
        return (
            rf"$\sum_{{k=1}}^{{{K}}} w_k\,\mathcal{{N}}(\mu_k, C_k),\quad x\in\mathbb{{R}}^{{{d}}}$"
        )


def mixture_formula(
    law: Law, x: Array, a: Time, s: Time, u: Array | None = None
) -> dict[str, Array]:
    """Everything about a diffused mixture, as one reads it: what the fast paths must equal.

    Runs on any array library.  With y_k = U_k^T x - a U_k^T mu_k and v_k = a^2 lam_k + s^2,
    l_k = log w_k - 1/2 sum_j (y_kj^2 / v_kj + log 2 pi v_kj),   r = softmax(l),   g_k = -U_k (y_k /
    v_k).
    """
    xp = namespace(x)
    K, d = law.mu.shape
    U = like(np.tile(np.eye(d), (K, 1, 1)) if law.U is None else law.U, x)
    lam = like(np.tile(law.lam, (1, d // law.lam.shape[1])), x)
    mu, log_w = like(law.mu, x), like(law.log_w, x)
    a, s = (v if not per_sample(v) else xp.reshape(v, (-1, 1, 1)) for v in (a, s))
    v = a * a * lam + s * s  # (K, d), or (B, K, d) with one level a sample
    y = xp.sum(U * x[:, None, :, None], axis=2) - a * xp.sum(
        U * mu[:, :, None], axis=1
    )  # (B, K, d)
    logits = log_w - 0.5 * xp.sum(y * y / v + xp.log(2 * math.pi * v), axis=2)
    top = (
        xp.max(logits, axis=1, keepdims=True)
        if xp.__name__ != "torch"
        else xp.amax(logits, axis=1, keepdims=True)
    )
    r = xp.exp(logits - top)
    total = xp.sum(r, axis=1, keepdims=True)
    r = (r / total)[:, :, None]
    g = -xp.sum(U * (y / v)[:, :, None, :], axis=3)
    score = xp.sum(r * g, axis=1)
    shrunk = xp.sum(U * (y * (a * lam / v))[:, :, None, :], axis=3)
    out = {
        "resp": r[:, :, 0],
        "logpdf": (top + xp.log(total))[:, 0],
        "score": score,
        "denoise": xp.sum(r * (mu + shrunk), axis=1),
        "divergence": xp.sum(r[:, :, 0] * (xp.sum(g * g, axis=2) - xp.sum(1 / v, axis=-1)), axis=1)
        - xp.sum(score * score, axis=1),
    }
    if u is not None:
        Pu = xp.sum(U * (xp.sum(U * u[:, None, :, None], axis=2) / v)[:, :, None, :], axis=3)
        along = xp.sum(g * u[:, None, :], axis=2, keepdims=True)
        out["jvp"] = xp.sum(r * (g * along - Pu), axis=1) - score * xp.sum(
            score * u, axis=1, keepdims=True
        )
    return out
