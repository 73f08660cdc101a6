"""refsde: reference SDEs and solvers of score-based diffusion, every answer checked exactly.

Data flow one way: ``target -> score(sde) -> process -> sample -> Solution -> measure, plot``.
Time ``t`` runs from 0 (data) to ``sde.T`` (noise).
"""

from importlib import import_module
from types import ModuleType

from refsde import exact, measure, precondition, predict, targets
from refsde._types import State
from refsde.integrate import iterate, sample
from refsde.noise import BrownianTree, Gaussian, RetainedPath, StoredPath
from refsde.preconditioned import Preconditioned
from refsde.process import ForwardSDE, ProbabilityFlow, ReverseSDE
from refsde.sde import EDM, VE, VP, Cosine, LinearSDE, SubVP, Tabulated
from refsde.solution import Path, Solution
from refsde.solvers import (
    DDIM,
    ERSDE,
    GGF,
    IPNDM,
    MALA,
    SEA,
    SEEDS,
    SOSRA,
    SOSRA2,
    SRA1,
    SRA2,
    SRA3,
    TAB,
    AnalyticDPM,
    Ancestral,
    Angular,
    AnnealedLangevin,
    BlackBox,
    Churn,
    DPMSolver,
    DPMSolverPP,
    EmbeddedRK,
    EulerMaruyama,
    ExponentialRK,
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
from refsde.targets import Empirical, FieldMixture, GaussianField, GaussianMixture
from refsde.times import Adaptive, Grid

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Import ``plot`` and ``testing`` when they are first asked for: few programs need them."""
    if name in ("plot", "testing"):
        return import_module(f"refsde.{name}")
    raise AttributeError(f"module 'refsde' has no attribute {name!r}")


__all__ = [
    "DDIM",
    "EDM",
    "ERSDE",
    "GGF",
    "IPNDM",
    "MALA",
    "SEA",
    "SEEDS",
    "SOSRA",
    "SOSRA2",
    "SRA1",
    "SRA2",
    "SRA3",
    "TAB",
    "VE",
    "VP",
    "Adaptive",
    "AnalyticDPM",
    "Ancestral",
    "Angular",
    "AnnealedLangevin",
    "BlackBox",
    "BrownianTree",
    "Churn",
    "Cosine",
    "DPMSolver",
    "DPMSolverPP",
    "EmbeddedRK",
    "Empirical",
    "EulerMaruyama",
    "ExponentialRK",
    "FieldMixture",
    "ForwardSDE",
    "Gaussian",
    "GaussianField",
    "GaussianMixture",
    "Grid",
    "Heun",
    "Lamba",
    "Langevin",
    "LinearSDE",
    "Multistep",
    "OneStep",
    "Path",
    "Preconditioned",
    "PredictorCorrector",
    "ProbabilityFlow",
    "RetainedPath",
    "ReverseDiffusion",
    "ReverseSDE",
    "RhoAB",
    "RhoRK",
    "SASolver",
    "SDEDPMSolverPP",
    "ShARK",
    "Solution",
    "State",
    "StoredPath",
    "SubVP",
    "Tabulated",
    "UniPC",
    "exact",
    "iterate",
    "measure",
    "plot",
    "precondition",
    "predict",
    "sample",
    "targets",
    "testing",
]
