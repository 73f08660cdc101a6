"""Which checks an object has to pass, and a test for each of them."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refsde.precondition.operators import Preconditioner
from refsde.testing._noise_case import METHODS, NoiseCase, is_source
from refsde.testing._precondition_case import PreconditionerCase
from refsde.testing._report import Check, CheckError, name_of
from refsde.testing._score_case import ScoreCase
from refsde.testing._solver_case import SolverCase
from refsde.testing.noises import NOISE_CHECKS
from refsde.testing.preconditioners import PRECONDITIONER_CHECKS
from refsde.testing.scores import SCORE_CHECKS
from refsde.testing.sdes import SDE_CHECKS
from refsde.testing.solvers import SOLVER_CHECKS

__all__ = ["checks_of", "parametrize_with_checks"]

TABLES: dict[str, tuple[Check, ...]] = {
    "sde": SDE_CHECKS,
    "score": SCORE_CHECKS,
    "noise": NOISE_CHECKS,
    "solver": SOLVER_CHECKS,
    "preconditioner": PRECONDITIONER_CHECKS,
}
ARGUMENTS = {4: "solver", 2: "score", 1: "noise"}  # of a plain function


def checks_of(subject: Any) -> tuple[Check, ...]:
    """The checks that an object has to pass, by what it is.

    Parameters
    ----------
    subject : object
        An SDE; a score with a method ``logpdf``, or a `ScoreCase`; a noise source, the class of
        one, a function ``make(seed)``, or a `NoiseCase`; a solver with ``accepts`` or ``orders``,
        or a `SolverCase`; a `refsde.precondition.Preconditioner`, or a `PreconditionerCase`.

    Returns
    -------
    tuple of Check
        Each has a ``name``, and is called with the subject: ``check(subject)`` raises `CheckError`
        if it fails.

    Raises
    ------
    TypeError
        If it is none of these, or a class where an object is wanted.

    Examples
    --------
    >>> import refsde as rs
    >>> for check in rs.testing.checks_of(rs.VP()):
    ...     check(rs.VP())
    """
    kind = _kind_of(subject)
    if kind not in TABLES:
        raise TypeError(f"`subject` {name_of(subject)} is a {kind}, for which there are no checks")
    return TABLES[kind]


def _kind_of(subject: Any) -> str:
    if isinstance(subject, ScoreCase | NoiseCase):
        return "score" if isinstance(subject, ScoreCase) else "noise"
    if isinstance(subject, PreconditionerCase | Preconditioner):
        return "preconditioner"
    if isinstance(subject, SolverCase) or (
        callable(subject) and not isinstance(subject, type) and hasattr(subject, "orders")
    ):
        return "solver"
    if isinstance(subject, type):
        if all(callable(getattr(subject, name, None)) for name in METHODS):
            return "noise"
        raise TypeError(
            f"`subject` is the class {subject.__name__}: pass an object, {subject.__name__}()"
        )
    if all(callable(getattr(subject, name, None)) for name in ("alpha", "sigma")):
        return "sde"
    if is_source(subject):
        return "noise"
    if callable(subject):
        if hasattr(subject, "accepts"):
            return "solver"
        kind = "score" if hasattr(subject, "logpdf") else ARGUMENTS.get(_arguments(subject))
        if kind is not None:
            return kind
    raise TypeError(
        "`subject` must be an SDE, a score, a noise source or a preconditioner, or a solver, got "
        f"{name_of(subject)}: "
        "wrap a score without logpdf as refsde.testing.ScoreCase(score, logpdf, shape=(d,))"
    )


def _arguments(function: Callable[..., Any]) -> int:
    """How many positional arguments must be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built-in functions may have none
        return -1
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in places and p.default is inspect.Parameter.empty for p in parameters)


def parametrize_with_checks(
    subjects: Iterable[Any],
    *,
    expected_failures: Callable[[Any], Mapping[str, str]] | None = None,
) -> Any:
    """Make a pytest test of every check of every object: a decorator.

    The test function takes ``subject`` and ``check``, and calls ``check(subject)``.  Its tests are
    named after both, such as ``test_mine[VP(beta_min=0.1, beta_max=20.0)-slope_of_alpha]``, so that
    ``pytest -k "VP and slope"`` finds them.

    Parameters
    ----------
    subjects : iterable
        Objects that `checks_of` knows; of different kinds if you like.
    expected_failures : callable, optional
        ``expected_failures(subject) -> {name of a check: reason}``: these tests must fail with
        `CheckError`, and one that passes is reported (a strict xfail).

    Returns
    -------
    MarkDecorator
        What ``pytest.mark.parametrize`` returns.

    Raises
    ------
    ImportError
        Without pytest, which the extra ``refsde[testing]`` brings.
    TypeError
        If an object is none of those that there are checks for.
    ValueError
        If a check that is expected to fail does not exist.

    Examples
    --------
    >>> import refsde as rs
    >>> @rs.testing.parametrize_with_checks([rs.VP(), rs.Gaussian])
    ... def test_mine(subject, check):
    ...     check(subject)
    """
    try:
        import pytest
    except ImportError as missing:
        raise ImportError(
            "parametrize_with_checks makes tests for pytest: pip install 'refsde[testing]'"
        ) from missing
    if isinstance(subjects, str) or not isinstance(subjects, Iterable):
        raise TypeError(f"`subjects` must be a list of objects, got {subjects!r}: pass [subject]")
    chosen = list(subjects)
    cases = []
    for subject, told in zip(chosen, _apart([name_of(s) for s in chosen]), strict=True):
        checks = checks_of(subject)
        reasons = {} if expected_failures is None else dict(expected_failures(subject))
        unknown = sorted(set(reasons) - {check.name for check in checks})
        if unknown:
            known = [check.name for check in checks]
            raise ValueError(f"`expected_failures` names {unknown}, {told} has the checks {known}")
        for check in checks:
            marks = [
                pytest.mark.xfail(reason=reasons[name], strict=True, raises=CheckError)
                for name in reasons
                if name == check.name
            ]
            cases.append(pytest.param(subject, check, id=f"{told}-{check.name}", marks=marks))
    return pytest.mark.parametrize(("subject", "check"), cases)


def _apart(names: list[str]) -> list[str]:
    """Number the names that occur more than once."""
    total, seen, told = Counter(names), Counter[str](), []
    for name in names:
        seen[name] += 1
        told.append(f"{name}#{seen[name]}" if total[name] > 1 else name)
    return told
