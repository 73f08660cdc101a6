"""Two problems with exact images of their starts, on which the DEIS family is measured.

Three modes on the line and a ring of eight in the plane, under VP(0.1, 20) down to t = 1e-3; their
near-singular versions have modes of width 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import ndtri

import refsde as rs
from refsde.testing._solver_case import MODES

SDE = rs.VP(0.1, 20.0)
T_END = 1e-3


@dataclass(frozen=True, eq=False)
class Problem:
    """A target, starts at T, and where the exact flow carries them."""

    target: Any
    x: np.ndarray
    exact: np.ndarray

    @property
    def flow(self) -> Any:
        return rs.ProbabilityFlow(SDE, self.target.score(SDE))

    def errors(self, solver: Any, grid: Any, **options: Any) -> np.ndarray:
        """Distances (n,) of a run's ends to the exact images."""
        solution = rs.sample(self.flow, solver, x=self.x, times=grid, rng=0, **options)
        return np.asarray(np.linalg.norm(solution.x - self.exact, axis=1))

    def rms(self, solver: Any, grid: Any) -> float:
        return float(np.sqrt(np.mean(self.errors(solver, grid) ** 2)))


@lru_cache
def problem(name: str) -> Problem:
    """Problem "modes" or "ring", or "narrow modes" or "narrow ring"."""
    width = 0.01 if name.startswith("narrow") else None
    if name.endswith("modes"):
        covs = MODES.covs if width is None else np.full(3, width**2)
        target = rs.GaussianMixture(MODES.weights, MODES.means, covs)
        x = ndtri((np.arange(400) + 0.5) / 400)[:, None]
    else:
        target = rs.GaussianMixture.ring(8, radius=2.0, std=width or 0.2)
        x = np.random.default_rng(0).standard_normal((512, 2))
    # the narrow ring's boundaries magnify roundings: fewer digits are certain there
    rtol = 1e-10 if name == "ring" else 1e-7
    return Problem(target, x, rs.exact.flow(SDE, target, x, SDE.T, T_END, rtol=rtol))


def _distances(x: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(x - exact, axis=1))


def rms(x: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean(_distances(x, exact) ** 2)))


def median(x: np.ndarray, exact: np.ndarray) -> float:
    return float(np.median(_distances(x, exact)))


def grid(name: str, n: int) -> rs.Grid:
    """Grid "t1", "t2" (or "t1.5"), "log" or "edm" of n steps."""
    if name == "log":
        return rs.Grid.logsnr(SDE, n)
    return rs.Grid.karras(SDE, n) if name == "edm" else rs.Grid.power(SDE, n, float(name[1:]))


# What the rows of the tables are called, and their evaluations a step.
M = rs.Multistep
ROWS: dict[str, tuple[Any, int]] = {
    "Euler-t": (rs.EulerMaruyama(), 1),
    "EI score": (M("score", "t", 0), 1),
    "DDIM": (rs.DDIM(), 1),
    "tAB1": (rs.TAB(1), 1),
    "tAB2": (rs.TAB(2), 1),
    "tAB3": (rs.TAB(3), 1),
    "rhoAB1": (rs.RhoAB(1), 1),
    "rhoAB2": (rs.RhoAB(2), 1),
    "rhoAB3": (rs.RhoAB(3), 1),
    "lambdaAB2 eps": (M("eps", "lam", 2), 1),
    "rho^(1/7)AB2 eps": (M("eps", lambda rho: rho ** (1 / 7), 2), 1),
    "iPNDM3": (rs.IPNDM(4), 1),
    "DPM++2M": (rs.DPMSolverPP(2), 1),
    "DPM++2M lof": (rs.DPMSolverPP(2, last_step_rule="lower"), 1),
    "DPM++3M code": (rs.DPMSolverPP(3), 1),
    # exact curvature, after the second step of the published code
    "UniP3=exact3M": (M("x0", "lam", 2, shortcut="B2"), 1),
    "UniPC3 b2": (rs.UniPC(3), 1),
    "UniPC3 b2 lof": (rs.UniPC(3, last_step_rule="lower"), 1),
    "UniPC3 b1": (rs.UniPC(3, "B1"), 1),
    "UniPC3 eps": (rs.UniPC(3, prediction="eps"), 1),
    "rhoHeun2": (rs.RhoRK("2heun"), 2),
    "rhoMid": (rs.RhoRK("2midpoint"), 2),
    "rhoKutta3": (rs.RhoRK("3kutta"), 3),
    "rhoRK4": (rs.RhoRK("4rk"), 4),
    "DPMS-2": (rs.DPMSolver(2), 2),
    "DPMS-3": (rs.DPMSolver(3), 3),
    "DPM++2S": (rs.DPMSolverPP(2, singlestep=True), 2),
}
ALIASES = {
    "iPNDM (4-point)": "iPNDM3",
    "DPM++2M / with lof": "DPM++2M / DPM++2M lof",
    "DPM++3M code / exact": "DPM++3M code / UniP3=exact3M",
    "UniPC3 b2 / b2 lof": "UniPC3 b2 / UniPC3 b2 lof",
    "UniPC3 b1 / eps (b2)": "UniPC3 b1 / UniPC3 eps",
}
