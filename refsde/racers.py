"""Who may run in a race, and on which grids: the table behind the names on the command line.

A new solver gets an `Entry` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from refsde._types import SDE, Kind, Solver
from refsde.solvers import (
    DDIM,
    ERSDE,
    GGF,
    IPNDM,
    SEA,
    SEEDS,
    SOSRA,
    SOSRA2,
    SRA1,
    SRA2,
    SRA3,
    TAB,
    Ancestral,
    Angular,
    AnnealedLangevin,
    BlackBox,
    Churn,
    DPMSolver,
    DPMSolverPP,
    EmbeddedRK,
    EulerMaruyama,
    Heun,
    Lamba,
    Langevin,
    Multistep,
    OneStep,
    PredictorCorrector,
    ReverseDiffusion,
    RhoAB,
    RhoRK,
    SASolver,
    SDEDPMSolverPP,
    ShARK,
    UniPC,
)
from refsde.times import Grid

__all__ = ["GRIDS", "SOLVERS", "Entry"]


@dataclass(frozen=True)
class Entry:
    """A runner: what it integrates and how, for a given SDE.

    Attributes
    ----------
    kind : {"reverse", "flow"}
        The process it runs on.
    make : callable
        ``make(sde) -> solver``.
    default : bool
        Whether it runs unless others are named.
    says : str
        One line for ``--help``.
    grid : str
        Key of `GRIDS`: what it was published on, used unless the race has a grid of its own.
    """

    kind: Kind
    make: Callable[[SDE], Solver]
    default: bool
    says: str
    grid: str = "auto"


def _snr(sde: SDE) -> float:
    """Signal-to-noise ratio of the corrector: the papers' values, which differ by two orders."""
    return 0.16 if sde.f(0.5 * sde.T) == 0 else 0.01


def _range(sde: SDE) -> tuple[float, float]:
    """Range of the data for which Gotta Go Fast was published: [0, 1] under VE, else [-1, 1]."""
    return (0.0, 1.0) if sde.f(0.5 * sde.T) == 0 else (-1.0, 1.0)


SOLVERS: Mapping[str, Entry] = {
    "em": Entry("reverse", lambda sde: EulerMaruyama(), True, "Euler-Maruyama"),
    "heun-sde": Entry("reverse", lambda sde: Heun(), False, "Heun on the reverse SDE"),
    "reverse-diffusion": Entry(
        "reverse", lambda sde: ReverseDiffusion(), False, "reverse diffusion sampler"
    ),
    "ancestral": Entry(
        "reverse", lambda sde: Ancestral(), True, "ancestral sampling, published variance"
    ),
    "ddim-1": Entry(
        "reverse", lambda sde: DDIM(1.0), False, "DDIM with eta = 1 (DDPM, posterior variance)"
    ),
    "pc": Entry(
        "reverse",
        # batch norms, as published: those of a single sample blow up in the plane
        lambda sde: PredictorCorrector(ReverseDiffusion(), Langevin(_snr(sde), norm="batch")),
        True,
        "predictor-corrector: reverse diffusion and one Langevin step",
    ),
    "euler": Entry("flow", lambda sde: EulerMaruyama(), False, "Euler on the probability flow"),
    "heun": Entry("flow", lambda sde: Heun(), True, "Heun on the probability flow"),
    "ddim": Entry("flow", lambda sde: DDIM(0.0), True, "DDIM, deterministic"),
    "rk45": Entry(
        "flow", lambda sde: BlackBox(), True, "SciPy's RK45, its tolerance set to the budget"
    ),
    "ggf": Entry(
        "reverse",
        lambda sde: GGF.of_range(*_range(sde)),
        False,
        "Gotta Go Fast, published settings",
    ),
    "ggf-tuned": Entry("reverse", lambda sde: GGF.tuned(), True, "the same, fewest evaluations"),
    "ggf-safe": Entry(
        "reverse", lambda sde: GGF.safe(), False, "the same, with limited growth of steps"
    ),
    "lamba": Entry("reverse", lambda sde: Lamba(), False, "Lamba's adaptive Euler-Maruyama"),
    "sra1": Entry("reverse", lambda sde: SRA1(), False, "SRA1, fixed steps (strong order 1.5)"),
    "sra2": Entry("reverse", lambda sde: SRA2(), False, "SRA2"),
    "sra3": Entry("reverse", lambda sde: SRA3(), False, "SRA3"),
    "sosra": Entry("reverse", lambda sde: SOSRA(), False, "SOSRA"),
    "sosra2": Entry("reverse", lambda sde: SOSRA2(), False, "SOSRA2"),
    "shark": Entry("reverse", lambda sde: ShARK(), False, "ShARK"),
    "sea": Entry("reverse", lambda sde: SEA(), False, "shifted Euler with additive noise"),
    "rk45-each": Entry("flow", lambda sde: EmbeddedRK(), False, "RK45 with steps for each sample"),
    "rk23-each": Entry(
        "flow", lambda sde: EmbeddedRK("RK23"), False, "RK23 with steps for each sample"
    ),
    "tab-0": Entry("flow", lambda sde: TAB(0), False, "tAB0-DEIS (DDIM)", "quadratic"),
    "tab-1": Entry("flow", lambda sde: TAB(1), False, "tAB1-DEIS", "quadratic"),
    "tab-2": Entry("flow", lambda sde: TAB(2), False, "tAB2-DEIS", "quadratic"),
    "tab-3": Entry("flow", lambda sde: TAB(3), True, "tAB3-DEIS", "quadratic"),
    "rho-ab-1": Entry("flow", lambda sde: RhoAB(1), False, "rhoAB1-DEIS", "quadratic"),
    "rho-ab-3": Entry("flow", lambda sde: RhoAB(3), False, "rhoAB3-DEIS (LMS)", "quadratic"),
    "ipndm": Entry("flow", lambda sde: IPNDM(4), False, "iPNDM, four points", "quadratic"),
    "pndm": Entry("flow", lambda sde: IPNDM(4, "rk4"), False, "F-PNDM", "quadratic"),
    "dpm++2m": Entry("flow", lambda sde: DPMSolverPP(2), True, "DPM-Solver++(2M)", "logsnr"),
    "dpm++3m": Entry(
        "flow", lambda sde: DPMSolverPP(3), False, "DPM-Solver++(3M), published", "logsnr"
    ),
    "dpm++2s": Entry(
        "flow", lambda sde: DPMSolverPP(2, singlestep=True), False, "DPM-Solver++(2S)", "logsnr"
    ),
    "angular": Entry("flow", lambda sde: Angular(), True, "Adams in the angle, ours", "angular"),
    "unipc-2": Entry("flow", lambda sde: UniPC(2), False, "UniPC-2", "logsnr"),
    "unipc-3": Entry("flow", lambda sde: UniPC(3), True, "UniPC-3", "logsnr"),
    "multistep": Entry(
        "flow", lambda sde: Multistep("eps", "lam", 2), False, "lambda-AB2 (xEAB)", "logsnr"
    ),
    "ei-score": Entry(
        "flow", lambda sde: Multistep("score", "t", 0), False, "exponential Euler, frozen score"
    ),
    "rho-heun": Entry(
        "flow", lambda sde: RhoRK("2heun"), False, "rho2Heun-DEIS, EDM's method", "karras"
    ),
    "rho-kutta": Entry("flow", lambda sde: RhoRK("3kutta"), False, "rho3Kutta-DEIS", "quadratic"),
    "dpm-2": Entry("flow", lambda sde: DPMSolver(2), False, "DPM-Solver-2", "logsnr"),
    "dpm-3": Entry("flow", lambda sde: DPMSolver(3), False, "DPM-Solver-3", "logsnr"),
    "dpm-12": Entry(
        "flow", lambda sde: DPMSolver.adaptive(2), False, "adaptive DPM-Solver-12, for each sample"
    ),
    "dpm-23": Entry(
        "flow", lambda sde: DPMSolver.adaptive(3), False, "adaptive DPM-Solver-23, for each sample"
    ),
    "churn": Entry("flow", lambda sde: Churn(), False, "EDM's churn and Heun", "karras"),
    "stab-1": Entry("reverse", lambda sde: TAB(1, 1.0), False, "stochastic DEIS", "quadratic"),
    "sde-dpm++2m": Entry(
        "reverse", lambda sde: SDEDPMSolverPP(2), True, "SDE-DPM-Solver++(2M)", "logsnr"
    ),
    "sde-dpm++3m": Entry(
        "reverse", lambda sde: SDEDPMSolverPP(3), False, "SDE-DPM-Solver++(3M)", "logsnr"
    ),
    "sde-dpm++2s": Entry(
        "reverse",
        lambda sde: SDEDPMSolverPP(2, singlestep=True),
        False,
        "DPM++ SDE (2S)",
        "logsnr",
    ),
    "seeds-1": Entry("reverse", lambda sde: SEEDS(1), False, "SEEDS-1", "logsnr"),
    "seeds-2": Entry("reverse", lambda sde: SEEDS(2), False, "SEEDS-2", "logsnr"),
    "sa-solver": Entry(
        "reverse", lambda sde: SASolver(1), False, "SA-Solver, one point, corrected", "logsnr"
    ),
    "er-sde-2": Entry("reverse", lambda sde: ERSDE(2), False, "ER-SDE-2", "karras"),
    "ancestral-posterior": Entry(
        "reverse", lambda sde: Ancestral("posterior"), False, "ancestral, posterior variance"
    ),
    "ddim-0.5": Entry("reverse", lambda sde: DDIM(0.5), False, "DDIM with eta = 0.5"),
    "sde-dpm": Entry(
        "reverse",
        lambda sde: OneStep.sde_dpm(0.5),
        False,
        "first-order SDE-DPM-Solver++, tau = 0.5",
    ),
    "reverse-diffusion-flow": Entry(
        "flow", lambda sde: ReverseDiffusion(), False, "reverse diffusion on the flow"
    ),
    "pc-annealed": Entry(
        "reverse",
        lambda sde: PredictorCorrector(ReverseDiffusion(), AnnealedLangevin(_snr(sde))),
        False,
        "predictor-corrector with annealed Langevin",
    ),
    "rk23": Entry(
        "flow", lambda sde: BlackBox("RK23"), False, "SciPy's RK23, its tolerance set to the budget"
    ),
    "dop853": Entry(
        "flow",
        lambda sde: BlackBox("DOP853"),
        False,
        "SciPy's DOP853, its tolerance set to the budget",
    ),
}


def _uniform(sde: SDE, n: int) -> Grid:
    return Grid.uniform(sde, n)


GRIDS: Mapping[str, Callable[[SDE, int], Grid]] = {
    # EDM's clock is the noise level itself: equal steps of it would spend all but one on noise
    "auto": lambda sde, n: Grid.karras(sde, n) if sde.T > 1 else Grid.uniform(sde, n),
    "uniform": _uniform,
    "quadratic": lambda sde, n: Grid.power(sde, n, 2.0),
    "logsnr": Grid.logsnr,
    "karras": Grid.karras,
    "angular": lambda sde, n: Grid.angular(sde, n),
}
