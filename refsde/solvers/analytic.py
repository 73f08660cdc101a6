"""Analytic-DPM: the one-step formula with the variance that the data prediction leaves out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from refsde._array import per_sample
from refsde._types import Kind, Noise, Orders, Process, State, Time
from refsde.noise import Gaussian
from refsde.solvers.one_step import ddim_share, one_step
from refsde.times.first import is_number

__all__ = ["AnalyticDPM"]


@dataclass(frozen=True, eq=False)
class PosteriorVariance:
    r"""Mean posterior variance of the data, E tr Cov(x_0 | x_t) / d, a function of t.

    .. math:: \bar V_t = \left(\tfrac{\sigma_t}{\alpha_t}\right)^2\left(1 - \tfrac{\sigma_t^2}{d}
              \,E\|\mathrm{score}(x_t, t)\|^2\right)

    From the eigenvalues of the covariance for one Gaussian, else estimated from ``n`` draws, the
    same at all times.

    Parameters
    ----------
    score : callable
        ``target.score(sde)``.
    n : int
        Number of draws.
    rng : int, Generator or None
        Their seed.

    References
    ----------
    Bao et al. (2022), Analytic-DPM, theorem 1.
    """

    score: Any
    n: int = 4096
    rng: Any = 0
    _draws: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (hasattr(self.score, "target") and hasattr(self.score, "sde")):
            raise TypeError(
                f"`score` must be that of a target, target.score(sde), got {self.score!r}: of "
                "another score give AnalyticDPM a function of t"
            )
        x0 = self.score.target.sample(self.n, rng=self.rng)
        z = np.asarray(Gaussian(self.rng).start(np.zeros(x0.shape)))
        object.__setattr__(self, "_draws", (x0, z))

    def __call__(self, t: float) -> float:
        """Mean posterior variance at ``t``, in squared units of the data."""
        sde, target = self.score.sde, self.score.target
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        if getattr(target, "n_components", 0) == 1:
            var = target.eigh()[0]
            return float(np.mean(var * sigma**2 / (alpha**2 * var + sigma**2)))
        x0, z = self._draws
        score = np.asarray(self.score(alpha * x0 + sigma * z, t))
        squared = float(np.mean(score * score))
        return float(max((sigma / alpha) ** 2 * (1 - sigma**2 * squared), 0.0))


@dataclass(frozen=True)
class AnalyticDPM:
    r"""Analytic-DPM: the one-step formula, with the data's mean posterior variance added.

    .. math:: x_s = \alpha_s\hat x_0 + \sigma_s\sqrt{1-\nu^2}\,\hat\epsilon + \sqrt{\nu^2\sigma_s^2
              + \left(\alpha_s - \sigma_s\sqrt{1-\nu^2}\,\alpha_t/\sigma_t\right)^2\bar V_t}\;z

    with nu^2 = eta^2 (1 - e^(-2h)) and the variance of x_0 given x_t, averaged.

    Parameters
    ----------
    variance : callable
        ``variance(t)``, the mean of tr Cov(x_0 | x_t) / d; `of` makes it of a target's score.
    eta : float
        Amount of fresh noise as in `DDIM`, in [0, 1].

    Raises
    ------
    ValueError, TypeError
        If ``eta`` is outside [0, 1] or ``variance`` not callable.

    Notes
    -----
    On isotropic Gaussian data it is exact in law on any grid and for any eta.

    References
    ----------
    Bao et al. (2022), Analytic-DPM: an Analytic Estimate of the Optimal Reverse Variance in
    Diffusion Probabilistic Models, theorem 1 and eq. 12.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture([1.0], [[0.7]], [0.25])
    >>> score = target.score(sde)
    >>> solver = rs.AnalyticDPM.of(score)
    >>> abs(rs.exact.weak_error(rs.ReverseSDE(sde, score), solver, 4).size) < 1e-12
    True
    """

    variance: Callable[[float], float]
    eta: float = 1.0
    accepts: ClassVar[frozenset[Kind]] = frozenset({"reverse"})
    orders: ClassVar[Orders] = {"weak": 1}

    def __post_init__(self) -> None:
        if not callable(self.variance):
            raise TypeError(
                f"`variance` must be a function of t, got {self.variance!r}: "
                "use AnalyticDPM.of(target.score(sde))"
            )
        if not (is_number(self.eta) and 0 <= self.eta <= 1):
            raise ValueError(f"`eta` must lie in [0, 1], got {self.eta!r}: 1 is DDPM's noise")

    @classmethod
    def of(cls, score: Any, eta: float = 1.0, *, n: int = 4096, rng: Any = 0) -> AnalyticDPM:
        """Solver for the score of a target: exact for a Gaussian, else from ``n`` draws.

        The same draws are used at all times, so that the variance is a smooth function of t.
        """
        return cls(PosteriorVariance(score, n, rng), eta)

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t = state.t
        if per_sample(t) or per_sample(s):
            raise TypeError("`times` of AnalyticDPM must be a Grid: its variance is that of one t")
        nu2 = ddim_share(process.sde, self.eta, t, s)
        unsure = float(self.variance(t))
        return State(s, one_step(process, state.x, t, s, nu2, noise, unsure))
