r"""Stochastic members of the family: the same engines, on the reverse SDE.

With an amount of noise tau the reverse SDE has the marginals of the flow; tau = 1 is the SDE's own
noise.  "order" is the number of predictions that a step combines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refsde._array import where
from refsde.solvers._checks import check_choice, check_order, check_tau
from refsde.solvers._exponential import Tau
from refsde.solvers._named import Named
from refsde.solvers.dpm import singlestep
from refsde.solvers.multistep import Multistep
from refsde.solvers.runge_kutta import ExponentialRK

__all__ = ["ERSDE", "SEEDS", "SASolver", "SDEDPMSolverPP"]


@dataclass(frozen=True)
class SDEDPMSolverPP(Named):
    r"""SDE-DPM-Solver++: the data prediction and exact noise, 1, 2M, 3M and 2S.

    .. math:: x_s = \tfrac{\sigma_s}{\sigma_t}e^{-\tau^2 h}x_t + \alpha_s(1-e^{-(1+\tau^2)h})
              \left[\hat x_{0,n} + \tfrac12 D\right] + \sigma_s\sqrt{1-e^{-2\tau^2h}}\,z
              \qquad\text{(2M)}

    Parameters
    ----------
    order : {1, 2, 3}
        How many predictions a step combines.  1 is the one-step formula `OneStep.sde_dpm`.
    tau : float or callable
        Amount of noise; k-diffusion's "eta" is tau^2.
    variant : {"published", "exact"}
        As for `DPMSolverPP`: half the slope at order 2 ("midpoint") and half the curvature at
        order 3 as published, or the exact means.
    singlestep : bool
        DPM++ SDE (2S): a stage inside the step, whose noise is carried on; order 2 only.

    Raises
    ------
    ValueError, TypeError
        If a setting is none of these; as `Multistep` when it runs.

    Notes
    -----
    In law the order is 2 at most, also with three predictions: noise makes them rough.

    References
    ----------
    Lu et al. (2022b), DPM-Solver++, section 6 and appendix B; the three-point and the singlestep
    forms are those of k-diffusion (Crowson, 2022), the latter with the exact noise of its stages.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> process, grid = rs.ReverseSDE(sde, target.score(sde)), rs.Grid.logsnr(sde, 20)
    >>> rs.sample(process, rs.SDEDPMSolverPP(2), 100, times=grid, rng=0).x.shape
    (100, 2)
    """

    order: int = 2
    tau: Tau = 1.0
    variant: Literal["published", "exact"] = "published"
    singlestep: bool = False

    def __post_init__(self) -> None:
        check_order(self, "order", 1, 3)
        check_tau(self)
        check_choice(self, "variant", ("published", "exact"))
        if self.singlestep and self.order != 2:
            raise ValueError(f"`order` must be 2 for singlestep=True, got {self.order!r}")

    @property
    def method(self) -> Multistep | ExponentialRK:
        """The engine that runs, with its settings."""
        published = self.variant == "published"
        if self.singlestep:
            return ExponentialRK(singlestep(2, None, not published), "x0", "lam", self.tau)
        shortcut: Any = {1: "none", 2: "B2", 3: "halved"}[self.order] if published else "none"
        return Multistep("x0", "lam", self.order - 1, tau=self.tau, shortcut=shortcut)


@dataclass(frozen=True)
class SEEDS(Named):
    r"""SEEDS: exponential Runge-Kutta methods for the reverse SDE, on the noise prediction.

    .. math:: x_1 &= \tfrac{\alpha_1}{\alpha_t}x_t - 2\sigma_1(e^{rh}-1)\hat\epsilon_t + n_1, \\
              x_s &= \tfrac{\alpha_s}{\alpha_t}x_t - 2\sigma_s(e^h-1)\left[\hat\epsilon_t +
              \tfrac{1}{2r}(\hat\epsilon_1-\hat\epsilon_t)\right] + \tfrac{\alpha_s}{\alpha_1}n_1
              + n_2

    where n_1 and n_2 are the exact noises of the two parts of the step.

    Parameters
    ----------
    order : {1, 2}
        Number of stages, and of evaluations a step.  1 is SDE-DPM-Solver-1.
    r : float
        Share of the step in lam at which the second stage is.

    Raises
    ------
    ValueError, TypeError
        If a setting is none of these.

    Notes
    -----
    The noise of the stage is part of the step's: if it were drawn again, the variance would be too
    small and the limit wrong.

    References
    ----------
    Gonzalez et al. (2023), SEEDS: Exponential SDE Solvers for Fast High-Quality Sampling from
    Diffusion Models, algorithms 1 and 2.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.SEEDS(2).orders
    {'weak': 2}
    """

    order: int = 2
    r: float = 0.5

    def __post_init__(self) -> None:
        check_order(self, "order", 1, 2)
        if isinstance(self.r, bool) or not isinstance(self.r, int | float):
            raise TypeError(f"`r` of SEEDS must be a number, got {self.r!r}: try 0.5")
        if not 0 < self.r <= 1:
            raise ValueError(f"`r` of SEEDS must lie in (0, 1], got {self.r!r}: try 0.5")

    @property
    def method(self) -> ExponentialRK:
        """The engine that runs, with its settings."""
        return ExponentialRK(singlestep(self.order, self.r), "eps", "lam", 1.0)


@dataclass(frozen=True)
class Band:
    """An amount of noise where rho is between two levels, and none elsewhere."""

    tau: float
    low: float
    high: float

    def __call__(self, rho: Any) -> Any:
        if isinstance(rho, float | int):
            return self.tau if self.low <= rho <= self.high else 0.0
        return where((rho >= self.low) & (rho <= self.high), self.tau, 0.0 * rho)


@dataclass(frozen=True)
class SASolver(Named):
    r"""SA-Solver: stochastic Adams predictor and corrector on the data prediction.

    Parameters
    ----------
    order : {1, 2, 3, 4}
        How many predictions the predictor combines; the corrector adds the one at the end of the
        step.
    tau : float
        Amount of noise.
    corrector : bool
        Whether steps are corrected, with the noise that they were predicted with.
    low, high : float
        Noise levels rho = sigma / alpha between which there is noise; elsewhere it is the flow.

    Raises
    ------
    ValueError, TypeError
        If a setting is none of these; as `Multistep` when it runs.

    References
    ----------
    Xue et al. (2023), SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models,
    algorithm 1.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.SASolver(3, tau=0.8, low=0.05, high=1.0).order
    3
    """

    order: int = 2
    tau: float = 1.0
    corrector: bool = True
    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        check_order(self, "order", 1, 4)
        if callable(self.tau):
            raise TypeError(f"`tau` must be a number, got {self.tau!r}: or use Multistep")
        check_tau(self)
        if not 0 <= self.low < self.high:
            raise ValueError(
                f"`low`, `high` must be noise levels, 0 <= low < high, got {self.low!r} and "
                f"{self.high!r}"
            )

    @property
    def method(self) -> Multistep:
        """The engine that runs, with its settings."""
        everywhere = self.low == 0 and self.high == math.inf
        tau: Tau = self.tau if everywhere else Band(self.tau, self.low, self.high)
        return Multistep("x0", "lam", self.order - 1, self.corrector, tau=tau)


@dataclass(frozen=True)
class Preferred:
    """Noise scale rho (e^(rho^0.3) + 10), the one that ER-SDE's authors prefer."""

    def __call__(self, rho: Any) -> Any:
        return rho * (np.exp(rho**0.3) + 10)


@dataclass(frozen=True)
class ERSDE(Named):
    r"""ER-SDE: the reverse SDE with a noise scale phi(rho) of one's choice.

    .. math:: x_s = \tfrac{\alpha_s\varphi_s}{\alpha_t\varphi_t}x_t + \alpha_s\varphi_s
              \int_t^s \hat x_0\, d\!\left(\tfrac1\varphi\right) + \sigma_s
              \sqrt{1-\left(\tfrac{\varphi_s\rho_t}{\varphi_t\rho_s}\right)^2}\,z

    with the data prediction constant (order 1) or linear in rho (order 2).

    Parameters
    ----------
    order : {1, 2}
        How many predictions a step combines.
    phi : callable
        Noise scale, a function of an array of rho: rho is the flow, rho^2 the reverse SDE's own
        noise; the default, rho (e^(rho^0.3) + 10), is the paper's preferred one.

    Raises
    ------
    ValueError, TypeError
        If a setting is none of these; as `Multistep` when it runs.

    References
    ----------
    Cui et al. (2023), Elucidating the Solution Space of Extended Reverse-Time SDE for Diffusion
    Models, eq. 13 and algorithm 2.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.ERSDE(2, phi=lambda rho: rho**2).orders
    {'weak': 2}
    """

    order: int = 2
    phi: Callable[[Any], Any] = Preferred()

    def __post_init__(self) -> None:
        check_order(self, "order", 1, 2)
        if not callable(self.phi):
            raise TypeError(
                f"`phi` must be a function of rho, got {self.phi!r}: lambda rho: rho**2"
            )

    @property
    def method(self) -> Multistep:
        """The engine that runs, with its settings."""
        return Multistep("x0", "rho", self.order - 1, phi=self.phi)
