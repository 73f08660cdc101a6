"""Checks for code of your own: SDEs, scores, noise sources, solvers, preconditioners.

Each ``check_*`` compares an object with what must be true of it, and returns a `Report` that names
what was measured, what was expected, and whether the number is free of noise.  They need neither
pytest nor Hypothesis; `parametrize_with_checks` makes pytest tests of them, and `strategies` draws
examples for property tests (both: ``pip install 'refsde[testing]'``).
"""

from importlib import import_module
from types import ModuleType

from refsde.testing import mutants
from refsde.testing._noise_case import NoiseCase
from refsde.testing._precondition_case import PreconditionerCase
from refsde.testing._report import Check, CheckError, Finding, Report
from refsde.testing._score_case import ScoreCase
from refsde.testing._solver_case import SolverCase
from refsde.testing.checks import checks_of, parametrize_with_checks
from refsde.testing.noises import check_noise
from refsde.testing.preconditioners import check_preconditioner
from refsde.testing.scores import check_score
from refsde.testing.sdes import check_sde
from refsde.testing.solvers import check_solver


def __getattr__(name: str) -> ModuleType:
    """Import ``strategies`` when it is first asked for: Hypothesis is an extra."""
    if name == "strategies":
        return import_module("refsde.testing.strategies")
    raise AttributeError(f"module 'refsde.testing' has no attribute {name!r}")


__all__ = [
    "Check",
    "CheckError",
    "Finding",
    "NoiseCase",
    "PreconditionerCase",
    "Report",
    "ScoreCase",
    "SolverCase",
    "check_noise",
    "check_preconditioner",
    "check_score",
    "check_sde",
    "check_solver",
    "checks_of",
    "mutants",
    "parametrize_with_checks",
    "strategies",
]
