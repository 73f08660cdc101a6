"""Every solver of the package: the table over which the shared tests run.

A new solver gets a line here.  `test_the_table_holds_every_solver` (in test_determinism.py) fails
until it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import refsde as rs

VP = rs.VP()
RING = rs.GaussianMixture.ring(8)
GAUSSIAN = rs.GaussianMixture([1.0], [[0.7, -0.4]], [0.25])
CORRECTOR = rs.Langevin(0.1)


@dataclass(frozen=True)
class Case:
    """A solver, where it runs, and what a step costs.

    Attributes
    ----------
    name : str
        Name of the test case.
    solver : Solver
        The solver.
    kinds : tuple of str
        Processes that it accepts.
    cost : int or None
        Evaluations of the score a step (none on the forward SDE); None where it chooses itself.
    coupled : bool
        Whether samples of a block influence each other, as documented.
    fixed : int
        Evaluations at the start of a run, beside those of its steps.
    settled : bool
        Whether its order shows to 0.05 on the grids of the tests.
    density : bool
        Whether it needs the log-density beside the score.
    """

    name: str
    solver: Any
    kinds: tuple[str, ...]
    cost: int | None
    coupled: bool = False
    fixed: int = 0
    settled: bool = True
    density: bool = False


def _pc(predictor: Any, corrector: Any, order: str = "code") -> Any:
    return rs.PredictorCorrector(predictor, corrector, order)


def _third(rho: Any) -> Any:
    """A coordinate of one's own."""
    return rho ** (1 / 3)


def _little(t: float) -> float:
    """A posterior variance, not that of any data."""
    return 0.01 * t


BOTH = ("reverse", "flow")
NOISY = ("reverse", "forward")
SOLVERS = [
    Case("em", rs.EulerMaruyama(), ("reverse", "flow", "forward"), 1),
    Case("heun", rs.Heun(), ("reverse", "flow", "forward"), 2),
    Case("reverse-diffusion", rs.ReverseDiffusion(), BOTH, 1),
    Case("ancestral", rs.Ancestral(), ("reverse",), 1),
    Case("ancestral-posterior", rs.Ancestral("posterior"), ("reverse",), 1),
    Case("ancestral-large", rs.Ancestral("large"), ("reverse",), 1),
    Case("ddim", rs.DDIM(), BOTH, 1),
    Case("ddim-1", rs.DDIM(1.0), ("reverse",), 1),
    Case("ddim-1.5", rs.DDIM(1.5), ("reverse",), 1),
    Case("one-step-0", rs.OneStep(0), BOTH, 1),
    Case("one-step-0.5", rs.OneStep(0.5), ("reverse",), 1),
    Case("sde-dpm", rs.OneStep.sde_dpm(), ("reverse",), 1),
    Case("er-sde", rs.OneStep.er_sde(lambda rho: rho**1.5), ("reverse",), 1),
    Case("pc-reverse-diffusion", _pc(rs.ReverseDiffusion(), CORRECTOR), BOTH, 2),
    Case("pc-paper", _pc(rs.EulerMaruyama(), CORRECTOR, "paper"), BOTH, 2),
    Case("pc-heun-annealed", _pc(rs.Heun(), rs.AnnealedLangevin(0.1, steps=2)), BOTH, 4),
    Case("predictor-only", _pc(rs.ReverseDiffusion(), None), BOTH, 1),
    Case("corrector-only", _pc(None, rs.Langevin(0.1, steps=3)), BOTH, 3),
    Case("pc-batch", _pc(rs.EulerMaruyama(), rs.Langevin(0.1, norm="batch")), BOTH, 2, True),
    Case("pc-mala", _pc(rs.EulerMaruyama(), rs.MALA(0.2, steps=2)), BOTH, 4, density=True),
    Case("ggf", rs.GGF(), ("reverse", "flow", "forward"), 2),
    Case("ggf-low", rs.GGF.safe(extrapolate=False), ("reverse", "flow", "forward"), 2),
    Case("lamba", rs.Lamba(), ("reverse", "flow", "forward"), 2),
    Case("sra1", rs.SRA1(), NOISY, 2),
    Case("sra2", rs.SRA2(), NOISY, 2),
    Case("sra3", rs.SRA3(), NOISY, 3),
    Case("sosra", rs.SOSRA(), NOISY, 3),
    Case("sosra2", rs.SOSRA2(), NOISY, 3),
    Case("shark", rs.ShARK(), NOISY, 2),
    Case("shark-sum", rs.ShARK(estimator="sum"), NOISY, 2),
    Case("sea", rs.SEA(), NOISY, 1),
    Case("rk45", rs.EmbeddedRK(), ("flow",), 6, fixed=1),
    Case("rk23", rs.EmbeddedRK("RK23"), ("flow",), 3, fixed=1),
    Case("tab", rs.TAB(2), ("flow",), 1),
    Case("tab-0", rs.TAB(0), ("flow",), 1),
    Case("tab-noise", rs.TAB(1, tau=1.0), ("reverse",), 1, settled=False),
    Case("rho-ab", rs.RhoAB(1), ("flow",), 1),
    Case("ipndm", rs.IPNDM(3), ("flow",), 1, settled=False),
    Case("ipndm-heun", rs.IPNDM(3, "heun"), ("flow",), 1, fixed=1, settled=False),
    Case("multistep", rs.Multistep("x0", _third, 2), ("flow",), 1),
    Case("frozen-score", rs.Multistep("score", "t", 0), ("flow",), 1),
    Case("angular", rs.Angular(1, last_step_rule="full"), ("flow",), 1),
    Case("velocity", rs.Multistep("v", "t", 2), ("flow",), 1),
    Case("unipc", rs.UniPC(3), ("flow",), 1),
    Case("dpm-pp", rs.DPMSolverPP(2), ("flow",), 1),
    Case("dpm-pp-2s", rs.DPMSolverPP(2, singlestep=True), ("flow",), 2),
    Case("dpm-2", rs.DPMSolver(2), ("flow",), 2),
    Case("dpm-3", rs.DPMSolver(3, variant="taylor", inner="t"), ("flow",), 3),
    Case("rho-rk", rs.RhoRK("3vdhouwen"), ("flow",), 3),
    Case("exponential-rk", rs.ExponentialRK(rs.RhoRK("2heun").method.tableau), ("flow",), 2),
    Case("churn", rs.Churn(churn=1.0), ("flow",), 2),
    Case("sde-dpm-pp", rs.SDEDPMSolverPP(3, 0.7), ("reverse",), 1),
    Case("sde-dpm-pp-2s", rs.SDEDPMSolverPP(2, singlestep=True), ("reverse",), 2),
    Case("seeds", rs.SEEDS(2), ("reverse",), 2),
    Case("sa-solver-1", rs.SASolver(1, 0.7), ("reverse",), 1),
    Case("sa-solver", rs.SASolver(2, 0.8, low=0.05, high=20.0), ("reverse",), 1),
    Case("er-sde-2", rs.ERSDE(2), ("reverse",), 1),
    Case("analytic-dpm", rs.AnalyticDPM(_little, 0.5), ("reverse",), 1),
    Case("blackbox", rs.BlackBox("RK23", 1e-3, 1e-3), ("flow",), None, True),
    Case("blackbox-alone", rs.BlackBox("RK23", 1e-3, 1e-3, coupled=False), ("flow",), None),
]


def cases(
    keep: Callable[[Case], bool] = lambda case: True, kinds: tuple[str, ...] | None = None
) -> Any:
    """Parametrise a test over ``case`` and ``kind``."""
    pairs = [
        pytest.param(case, kind, id=f"{case.name}-{kind}")
        for case in SOLVERS
        for kind in case.kinds
        if keep(case) and (kinds is None or kind in kinds)
    ]
    return pytest.mark.parametrize(("case", "kind"), pairs)


def process_of(kind: str, score: Any, sde: Any = VP) -> Any:
    """Build the process of a kind."""
    if kind == "forward":
        return rs.ForwardSDE(sde)
    return rs.ReverseSDE(sde, score) if kind == "reverse" else rs.ProbabilityFlow(sde, score)


class CountingScore:
    """A score that notes the size of every batch it is really evaluated on."""

    def __init__(self, score: Any) -> None:
        self.inner, self.sde, self.target = score, score.sde, score.target
        self.batches: list[int] = []

    def __call__(self, x: Any, t: Any) -> Any:
        self.batches.append(len(x))
        return self.inner(x, t)

    def eps(self, x: Any, t: Any) -> Any:
        self.batches.append(len(x))
        return self.inner.eps(x, t)

    def denoise(self, x: Any, t: Any) -> Any:
        self.batches.append(len(x))
        return self.inner.denoise(x, t)

    def evaluate(self, x: Any, t: Any, *want: str) -> Any:
        self.batches.append(len(x))
        return self.inner.evaluate(x, t, *want)


class NoNoise:
    """A source that refuses: for what must be deterministic."""

    def on(self, rows: Any) -> NoNoise:
        return self

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        raise AssertionError("a deterministic run asked for an increment")

    def levy(self, t: Any, s: Any, x: Any) -> Any:
        raise AssertionError("a deterministic run asked for a Levy area")

    def normal(self, x: Any) -> Any:
        raise AssertionError("a deterministic run asked for normals")
