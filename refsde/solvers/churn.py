r"""Churn and Analytic-DPM: two ways to add variance to a step of the flow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from refsde._array import log, per_sample, sqrt
from refsde._types import Kind, Noise, Orders, Process, Solver, State, Time
from refsde.noise import Gaussian
from refsde.solvers.deis import RhoRK

__all__ = ["AnalyticDPM", "Churn"]

MOST = math.sqrt(2) - 1  # by which a level is raised


@dataclass(frozen=True)
class Churn:
    r"""EDM's churn: raise the noise level a little by fresh noise, then step along the flow.

    .. math:: \hat\rho = (1 + \gamma)\rho_t, \qquad \hat x = \tfrac{\hat\alpha}{\alpha_t} x_t +
              \hat\alpha\sqrt{\hat\rho^2 - \rho_t^2}\; S_{noise}\, z, \qquad
              \gamma = \min(S_{churn}/N, \sqrt2 - 1)

    on a grid of N steps, where S_min <= rho_t <= S_max.

    Parameters
    ----------
    solver : callable
        One-step solver of the flow, from the raised level to s; EDM's is ``RhoRK("2heun")``.
    churn : float
        S_churn.
    s_min, s_max : float
        Noise levels rho = sigma / alpha between which there is churn.
    s_noise : float
        Factor on the noise.

    Raises
    ------
    ValueError
        If a number is not finite and >= 0; when it runs, if there is no grid.
    TypeError
        If the solver keeps a history, which belongs to other levels.

    Notes
    -----
    It runs on a `ProbabilityFlow`, which it makes stochastic.  The raised time is at most T.

    References
    ----------
    Karras et al. (2022), Elucidating the Design Space of Diffusion-Based Generative Models,
    algorithm 2.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.EDM(), rs.GaussianMixture.ring(8)
    >>> flow, grid = rs.ProbabilityFlow(sde, target.score(sde)), rs.Grid.karras(sde, 20)
    >>> rs.sample(flow, rs.Churn(churn=5.0), 100, times=grid, rng=0).x.shape
    (100, 2)
    """

    solver: Solver = RhoRK("2heun")
    churn: float = 40.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0
    accepts: ClassVar[frozenset[Kind]] = frozenset({"flow"})
    orders: ClassVar[Orders] = {}  # the amount of noise depends on the number of steps

    def __post_init__(self) -> None:
        for name in ("churn", "s_min", "s_noise"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` of Churn must be finite and >= 0, got {value!r}")
        if not self.s_max > self.s_min:
            raise ValueError(f"`s_max` must exceed `s_min` = {self.s_min}, got {self.s_max!r}")
        if not callable(self.solver) or isinstance(self.solver, type):
            raise TypeError(
                f"`solver` of Churn must be a solver of the flow, got {self.solver!r}: DDIM()"
            )

    def bind(self, process: Process, ts: tuple[float, ...] | None) -> _Churned:
        """Count the steps."""
        if ts is None:
            raise ValueError(
                "`times` of Churn must be a Grid: the noise of a step depends on their number"
            )
        inner: Any = self.solver
        inner = inner.bind(process, ts) if hasattr(inner, "bind") else inner
        if hasattr(inner, "step_of") or hasattr(inner, "bound"):
            raise TypeError(
                f"`solver` of Churn must be a one-step method, got {self.solver!r}, whose history "
                'belongs to levels that are not raised: use RhoRK("2heun") or DDIM()'
            )
        return _Churned(self, inner, min(self.churn / (len(ts) - 1), MOST))

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Refuse: a step depends on the number of steps."""
        raise TypeError("Churn must see the grid first: run it by refsde.sample or refsde.iterate")


@dataclass(frozen=True)
class _Churned:
    """Churn on a grid whose number of steps is known."""

    settings: Churn
    solver: Any
    gamma: float

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t, x, sde, settings = state.t, state.x, process.sde, self.settings
        rho = sde.rho(t)
        raised = min((1 + self.gamma) * rho, sde.rho(sde.T))
        if raised > rho and settings.s_min <= rho <= settings.s_max:
            hat = min(sde.t_of_lam(-log(raised)), sde.T)
            alpha = sde.alpha(hat)
            std = alpha * sqrt((raised - rho) * (raised + rho)) * settings.s_noise
            x = (alpha / sde.alpha(t)) * x + std * process.colour(noise.normal(x))
            t = hat
        made = self.solver(process, State(t, x), s, noise)
        return State(s, made.x)


# -- Analytic-DPM ---------------------------------------------------------------------------------


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
        number = isinstance(self.eta, int | float) and not isinstance(self.eta, bool)
        if not (number and 0 <= self.eta <= 1):
            raise ValueError(f"`eta` must lie in [0, 1], got {self.eta!r}: 1 is DDPM's noise")

    @classmethod
    def of(cls, score: Any, eta: float = 1.0, *, n: int = 4096, rng: Any = 0) -> AnalyticDPM:
        """Solver for the score of a target: exact for a Gaussian, else from ``n`` draws.

        The same draws are used at all times, so that the variance is a smooth function of t.
        """
        return cls(PosteriorVariance(score, n, rng), eta)

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t, x, sde = state.t, state.x, process.sde
        if per_sample(t) or per_sample(s):
            raise TypeError("`times` of AnalyticDPM must be a Grid: its variance is that of one t")
        rho_t, rho_s = sde.rho(t), sde.rho(s)
        nu2 = self.eta**2 * (1 - (rho_s / rho_t) ** 2)
        kept = rho_s * sqrt(1 - nu2)
        mean = sde.alpha(s) * (x / sde.alpha(t) + (kept - rho_t) * process.eps(x, t))
        unsure = (1 - kept / rho_t) ** 2 * float(self.variance(t))
        std = sde.alpha(s) * sqrt(nu2 * rho_s**2 + unsure)
        z = noise.increment(t, s, x) / sqrt(abs(s - t))
        return State(s, mean + std * process.colour(z))
