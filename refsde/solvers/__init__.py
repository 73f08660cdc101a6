"""How a step is made: every solver is called as ``solver(process, state, s, noise) -> State``."""

from refsde.solvers.adaptive import GGF, Lamba
from refsde.solvers.analytic import AnalyticDPM
from refsde.solvers.angular import Angular
from refsde.solvers.blackbox import BlackBox
from refsde.solvers.churn import Churn
from refsde.solvers.corrector import AnnealedLangevin, Langevin, PredictorCorrector
from refsde.solvers.deis import IPNDM, TAB, RhoAB, RhoRK
from refsde.solvers.dpm import DPMSolver, DPMSolverPP, UniPC
from refsde.solvers.embedded import EmbeddedRK
from refsde.solvers.euler import EulerMaruyama, Heun
from refsde.solvers.exponential_sde import ERSDE, SEEDS, SASolver, SDEDPMSolverPP
from refsde.solvers.metropolis import MALA
from refsde.solvers.multistep import Multistep
from refsde.solvers.one_step import DDIM, Ancestral, OneStep, ReverseDiffusion
from refsde.solvers.runge_kutta import ExponentialRK
from refsde.solvers.stochastic_rk import SEA, SOSRA, SOSRA2, SRA1, SRA2, SRA3, ShARK

__all__ = [
    "DDIM",
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
    "AnalyticDPM",
    "Ancestral",
    "Angular",
    "AnnealedLangevin",
    "BlackBox",
    "Churn",
    "DPMSolver",
    "DPMSolverPP",
    "EmbeddedRK",
    "EulerMaruyama",
    "ExponentialRK",
    "Heun",
    "Lamba",
    "Langevin",
    "Multistep",
    "OneStep",
    "PredictorCorrector",
    "ReverseDiffusion",
    "RhoAB",
    "RhoRK",
    "SASolver",
    "SDEDPMSolverPP",
    "ShARK",
    "UniPC",
]
