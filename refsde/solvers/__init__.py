"""How a step is made: every solver is called as ``solver(process, state, s, noise) -> State``."""

from refsde.solvers.adaptive import GGF, Lamba
from refsde.solvers.blackbox import BlackBox
from refsde.solvers.corrector import AnnealedLangevin, Langevin, PredictorCorrector
from refsde.solvers.embedded import EmbeddedRK
from refsde.solvers.euler import EulerMaruyama, Heun
from refsde.solvers.one_step import DDIM, Ancestral, OneStep, ReverseDiffusion
from refsde.solvers.stochastic_rk import SEA, SOSRA, SOSRA2, SRA1, SRA2, SRA3, ShARK

__all__ = [
    "DDIM",
    "GGF",
    "SEA",
    "SOSRA",
    "SOSRA2",
    "SRA1",
    "SRA2",
    "SRA3",
    "Ancestral",
    "AnnealedLangevin",
    "BlackBox",
    "EmbeddedRK",
    "EulerMaruyama",
    "Heun",
    "Lamba",
    "Langevin",
    "OneStep",
    "PredictorCorrector",
    "ReverseDiffusion",
    "ShARK",
]
