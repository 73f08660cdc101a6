"""The table of orders: every solver's errors on a ladder of grids, against the order it declares.

On Gaussian data weak and strong errors come without Monte Carlo, and the flow has an exact map: so
a slope that is off by a few hundredths is a finding, not chance.  A single Gaussian can flatter a
flow solver of second order or more, which is therefore judged on three modes.  The command line is
in ``refsde.__main__``; this is the experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from refsde import exact
from refsde._array import one_blas_thread
from refsde._order_table import OrderTable, Problem, Row
from refsde._progress import progress_bar
from refsde._types import SDE, OrderKind, Process
from refsde._users import is_users, line_of, load, raised
from refsde.process import ProbabilityFlow, ReverseSDE
from refsde.racers import SOLVERS as RACERS
from refsde.racers import Entry
from refsde.solvers import (
    DDIM,
    ERSDE,
    GGF,
    AnalyticDPM,
    Ancestral,
    ExponentialRK,
    Lamba,
    OneStep,
    RhoRK,
)
from refsde.testing._solver_case import MODES, MODES_LADDER, modes_grid

__all__ = ["KINDS", "SOLVERS", "STEPS", "OrderTable", "Problem", "Row", "measure", "run"]

KINDS: tuple[OrderKind, ...] = get_args(OrderKind)
STEPS = (64, 128, 256, 512, 1024)


def _certain(t: float) -> float:
    """No posterior variance."""
    return 0.0


SOLVERS: Mapping[str, Entry] = {
    **RACERS,
    "ancestral-large": Entry(
        "reverse", lambda sde: Ancestral("large"), False, "ancestral, the larger variance"
    ),
    "ddim-sde": Entry(
        "reverse", lambda sde: DDIM(0.0), False, "DDIM, deterministic, on the reverse SDE"
    ),
    "ggf-flow": Entry("flow", lambda sde: GGF(), False, "Gotta Go Fast's pair on the flow"),
    "lamba-flow": Entry(
        "flow", lambda sde: Lamba(extrapolate=True), False, "Lamba's pair on the flow, extrapolated"
    ),
    "analytic-dpm": Entry(
        "reverse", lambda sde: AnalyticDPM(_certain), False, "Analytic-DPM, without its variance"
    ),
    "exponential-rk": Entry(
        "flow",
        lambda sde: ExponentialRK(RhoRK("2heun").method.tableau, "x0"),
        False,
        "Heun's weights on the data prediction",
    ),
    "er-sde": Entry(
        "reverse", lambda sde: OneStep.er_sde(ERSDE().phi), False, "first-order ER-SDE"
    ),
}


# -- measuring ------------------------------------------------------------------------------------


@one_blas_thread()
def measure(name: str, kind: OrderKind, problem: Problem) -> Row:
    """Measure the order of one solver.

    Parameters
    ----------
    name : str
        Key of `SOLVERS`, or ``file.py:object``.
    kind : {"weak", "strong", "flow"}
        Of the error.
    problem : Problem
        On what.

    Raises
    ------
    ValueError
        If a user's solver cannot be loaded.

    Examples
    --------
    >>> import refsde as rs
    >>> from refsde import orders
    >>> orders.measure("em", "weak", orders.Problem()).verdict
    'met'
    """
    solver = _solver(name, problem.sde)
    declared = getattr(solver, "orders", {}).get(kind)
    try:
        order, gaussian = _order(solver, kind, declared, problem)
        return Row(name, kind, declared, order, extrapolated=gaussian)
    except Exception as wrong:
        if line_of(name, wrong) is not None:
            note = f"a step {raised(name, wrong)}"
            return Row(name, kind, declared, None, note, raised=True)
        if not isinstance(wrong, ValueError | TypeError):
            raise
        return Row(name, kind, declared, None, str(wrong))  # it is no case for this kind


def _order(
    solver: Any, kind: OrderKind, declared: float | None, problem: Problem
) -> tuple[exact.Order, exact.Order | None]:
    """Errors on the Gaussian; or on three modes where it would flatter, and those on it beside."""
    found = _on_gaussian(solver, kind, declared, problem)
    steep = found.slope > 1.5 if declared is None else declared >= 2
    if kind != "flow" or not steep:
        return found, None
    process = ProbabilityFlow(problem.sde, MODES.score(problem.sde))
    steps = problem.steps or MODES_LADDER
    bent = exact.order(process, solver, kind, steps=steps, grid=modes_grid, declared=declared)
    return bent, found


def _on_gaussian(
    solver: Any, kind: OrderKind, declared: float | None, problem: Problem
) -> exact.Order:
    made: Callable[..., Process] = ProbabilityFlow if kind == "flow" else ReverseSDE
    process = made(problem.sde, problem.gaussian().score(problem.sde))
    steps = problem.steps or STEPS
    return exact.order(process, solver, kind, steps=steps, grid=problem.grid, declared=declared)


def _solver(name: str, sde: SDE) -> Any:
    return load(name) if is_users(name) else SOLVERS[name].make(sde)


def _kinds(name: str, solver: Any) -> tuple[OrderKind, ...]:
    """Kinds to measure: those it declares; a user's without any, those it can run."""
    declared = getattr(solver, "orders", {})
    if not is_users(name):
        runs = ("flow",) if SOLVERS[name].kind == "flow" else ("weak", "strong")
        return tuple(kind for kind in KINDS if kind in runs and kind in declared)
    if declared:
        return tuple(kind for kind in KINDS if kind in declared)
    accepts = getattr(solver, "accepts", ("reverse", "flow"))
    return tuple(k for k in KINDS if ("flow" if k == "flow" else "reverse") in accepts)


def run(
    names: Sequence[str],
    kinds: Sequence[OrderKind] = KINDS,
    problem: Problem | None = None,
    *,
    workers: int = 1,
    progress: bool = False,
) -> OrderTable:
    """Measure the orders of the solvers ``names``.

    Parameters
    ----------
    names : sequence of str
        Keys of `SOLVERS`, or ``file.py:object``.
    kinds : sequence of {"weak", "strong", "flow"}
        Of the errors.
    problem : Problem, optional
        On what; the reference problem by default.
    workers : int
        Processes at a time (joblib); the results are the same for any number.
    progress : bool
        Show a progress bar.

    Returns
    -------
    OrderTable

    Raises
    ------
    ValueError
        If a user's solver cannot be loaded.

    Examples
    --------
    >>> import refsde as rs
    >>> from refsde import orders
    >>> [row.verdict for row in orders.run(["em", "ddim"], ["weak", "flow"]).rows]
    ['met', 'met']
    """
    problem = problem or Problem()
    wanted = {name: _kinds(name, _solver(name, problem.sde)) for name in names}
    tasks = [(name, kind) for name, own in wanted.items() for kind in own if kind in kinds]
    undeclared = tuple(name for name, own in wanted.items() if not set(own) & set(kinds))
    rows = []
    with progress_bar(progress, len(tasks), "order") as bar:
        for row in _each(tasks, problem, workers):
            rows.append(row)
            if bar is not None:
                bar.update(1)
    return OrderTable(problem, tuple(rows), undeclared)


def _each(tasks: list[tuple[str, OrderKind]], problem: Problem, workers: int) -> Any:
    """Rows of the tasks, in their order."""
    if workers == 1 or len(tasks) < 2:
        return (measure(name, kind, problem) for name, kind in tasks)
    try:
        from joblib import Parallel, delayed
    except ImportError as missing:  # pragma: no cover
        raise ImportError(
            "`workers` > 1 needs joblib: pip install 'refsde[experiments]', or pass workers=1"
        ) from missing
    jobs = [delayed(measure)(name, kind, problem) for name, kind in tasks]
    return Parallel(n_jobs=workers, return_as="generator")(jobs)
