"""EDM's churn: noise is added, then a step of the flow takes it away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from refsde._array import log, sqrt
from refsde._types import Kind, Noise, Orders, Process, Solver, State, Time
from refsde.solvers.deis import RhoRK
from refsde.times.first import is_number

__all__ = ["Churn"]

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
            if not (is_number(value) and value >= 0):
                raise ValueError(f"`{name}` of Churn must be finite and >= 0, got {value!r}")
        if not (is_number(self.s_max, inf=True) and self.s_max > self.s_min):
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
        if getattr(inner, "on_grid", False):
            raise TypeError(
                f"`solver` of Churn must be a one-step method, got {self.solver!r}, which keeps to "
                'the times of a grid, and churn raises them: use RhoRK("2heun") or DDIM()'
            )
        return _Churned(self, inner, min(self.churn / (len(ts) - 1), MOST))

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Refuse: a step depends on the number of steps."""
        raise TypeError("Churn must see the grid first: run it by refsde.sample or refsde.iterate")


@dataclass(frozen=True)
class _Churned:
    """Churn on a grid whose number of steps is known."""

    on_grid: ClassVar[bool] = True
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
