"""refsde: reference SDEs and solvers of score-based diffusion, every answer checked exactly.

Data flow one way: ``target -> score(sde) -> process -> sample -> Solution -> measure, plot``.
Time ``t`` runs from 0 (data) to ``sde.T`` (noise).
"""

from importlib import import_module
from types import ModuleType

from refsde import exact, measure, predict, targets
from refsde._types import State
from refsde.integrate import iterate, sample
from refsde.noise import Gaussian, StoredPath
from refsde.process import ForwardSDE, ProbabilityFlow, ReverseSDE
from refsde.sde import EDM, VE, VP, Cosine, LinearSDE, SubVP, Tabulated
from refsde.solution import Path, Solution
from refsde.solvers import (
    DDIM,
    Ancestral,
    AnnealedLangevin,
    BlackBox,
    EulerMaruyama,
    Heun,
    Langevin,
    OneStep,
    PredictorCorrector,
    ReverseDiffusion,
)
from refsde.targets import Empirical, GaussianMixture
from refsde.times import Grid

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Import ``plot`` and ``testing`` when they are first asked for: few programs need them."""
    if name in ("plot", "testing"):
        return import_module(f"refsde.{name}")
    raise AttributeError(f"module 'refsde' has no attribute {name!r}")


__all__ = [
    "DDIM",
    "EDM",
    "VE",
    "VP",
    "Ancestral",
    "AnnealedLangevin",
    "BlackBox",
    "Cosine",
    "Empirical",
    "EulerMaruyama",
    "ForwardSDE",
    "Gaussian",
    "GaussianMixture",
    "Grid",
    "Heun",
    "Langevin",
    "LinearSDE",
    "OneStep",
    "Path",
    "PredictorCorrector",
    "ProbabilityFlow",
    "ReverseDiffusion",
    "ReverseSDE",
    "Solution",
    "State",
    "StoredPath",
    "SubVP",
    "Tabulated",
    "exact",
    "iterate",
    "measure",
    "plot",
    "predict",
    "sample",
    "targets",
    "testing",
]
