"""How a step is made: every solver is called as ``solver(process, state, s, noise) -> State``."""

from refsde.solvers.blackbox import BlackBox
from refsde.solvers.corrector import AnnealedLangevin, Langevin, PredictorCorrector
from refsde.solvers.euler import EulerMaruyama, Heun
from refsde.solvers.one_step import DDIM, Ancestral, OneStep, ReverseDiffusion

__all__ = [
    "DDIM",
    "Ancestral",
    "AnnealedLangevin",
    "BlackBox",
    "EulerMaruyama",
    "Heun",
    "Langevin",
    "OneStep",
    "PredictorCorrector",
    "ReverseDiffusion",
]
