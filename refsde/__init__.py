"""refsde: reference SDEs and solvers of score-based diffusion, every answer checked exactly.

Data flow one way: ``target -> score(sde) -> process -> sample -> Solution -> measure, plot``.
Time ``t`` runs from 0 (data) to ``sde.T`` (noise).
"""

from refsde import predict
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
from refsde.targets import GaussianMixture
from refsde.times import Grid

__version__ = "0.1.0"

__all__ = [
    "DDIM",
    "EDM",
    "VE",
    "VP",
    "Ancestral",
    "AnnealedLangevin",
    "BlackBox",
    "Cosine",
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
    "iterate",
    "predict",
    "sample",
]
