r"""Is it the solver it claims to be?  Checks of solvers, none of which is left to chance.

Samples must not feel their mates, inputs stay as they are, noise is asked as a path.  Then the law,
the paths and the flow are compared with exact answers on ladders of grids, by `refsde.exact.order`:
the *slope* must reach the declared order, and the *limit*, the error extrapolated to infinitely
many steps, must vanish.  A noise scale wrong by 0.01 % passes the slope and fails the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from refsde._types import Kind, OrderKind, Process, Solver
from refsde.exact import Order, order, weak_error
from refsde.integrate import iterate, sample
from refsde.noise import Gaussian
from refsde.testing._report import Check, Finding, OnFail, Report, run_checks
from refsde.testing._solver_case import (
    LADDER,
    MODES,
    MODES_LADDER,
    PLANE,
    REFERENCE,
    SDE,
    Listening,
    SolverCase,
    modes_grid,
    short_grid,
)

__all__ = ["SOLVER_CHECKS", "check_solver"]

SLOPE = 0.1  # how far a slope may stay below the order
SLOPE_ON_MODES = 0.07  # of the order: and on three modes, where orders show later
LIMIT = 1e-6  # of the extrapolated error, in units of the exact law
LIMIT_2D = 1e-4  # from 256 steps, to save time: here mistakes are gross
WORTH_A_LOOK = 100.0  # how many times too large a limit may be that one grid more may yet cure
NEAR = 0.1  # error at 512 steps down to the SDE's own end, where a step is twice as long as t
MATES = 1e-10  # how far a sample may move when others are left out
FEW, MANY = 5, 40


def _case(subject: Any) -> SolverCase:
    return subject if isinstance(subject, SolverCase) else SolverCase(subject)


# -- conduct ---------------------------------------------------------------------------------------


def _runs(case: SolverCase) -> Iterator[Finding]:
    """On every process that it is for, samples come out finite and of the same shape."""
    for kind in case.kinds:
        solution = _sample(case, kind, MANY)
        told = "finite" if solution.success.all() else solution.message
        what = f"samples on the {_NAMES[kind]}"
        yield Finding.holds("runs", solution.success.all(), told, "finite", what=what)


_NAMES = {"reverse": "reverse SDE", "flow": "probability flow", "forward": "forward SDE"}


def _sample(case: SolverCase, kind: Kind, n: int, dtype: Any = float) -> Any:
    x = case.start(kind, n).astype(dtype)
    return sample(case.process(kind), case.solver, x=x, times=case.grid(kind), rng=3)


def _float32(case: SolverCase) -> Iterator[Finding]:
    """Samples in single precision stay in single precision."""
    for kind in case.kinds:
        got = _sample(case, kind, FEW, np.float32).x.dtype
        note = "a NumPy scalar or float64 array in the step promotes: use Python floats, like(...)"
        what = f"dtype on the {_NAMES[kind]}"
        yield Finding.holds("float32", got == np.float32, str(got), "float32", what=what, note=note)


def _inputs(case: SolverCase) -> Iterator[Finding]:
    """States that were handed in, or out, are not written to later."""
    for kind in case.kinds:
        run = iterate(
            case.process(kind),
            case.solver,
            case.start(kind, case.few),
            case.grid(kind),
            Gaussian(3),
        )
        states = [(state.x, np.array(state.x)) for state in run]
        kept = all(np.array_equal(x, copy) for x, copy in states)
        note = "a step returns new arrays: x + dx, never x += dx"
        told = "kept" if kept else "overwritten"
        what = f"states on the {_NAMES[kind]}"
        yield Finding.holds("inputs", kept, told, "kept", what=what, note=note)


def _repeatable(case: SolverCase) -> Iterator[Finding]:
    """The same seed gives the same samples, also from a solver that has run before."""
    for kind in case.kinds:
        first, again = (_sample(case, kind, FEW).x for _ in range(2))
        gap = float(np.abs(first - again).max())
        note = "draw from `noise` alone, and keep nothing on the solver: memory goes into State"
        what = f"difference of two runs on the {_NAMES[kind]}"
        yield Finding.within("repeatable", gap, 0.0, 0.0, what=what, note=note)


def _batch(case: SolverCase) -> Iterator[Finding]:
    """A sample does not depend on which others are computed with it."""
    if case.couples:
        yield Finding.skip("batch", "the solver says couples_batch = True")
        return
    for kind in case.kinds:
        alone, among = _sample(case, kind, FEW).x, _sample(case, kind, MANY).x[:FEW]
        gap = float(np.abs(alone - among).max())
        note = "look for a mean, norm or maximum over the batch axis; or declare couples_batch"
        what = f"difference between {FEW} and {MANY} samples on the {_NAMES[kind]}"
        yield Finding.within("batch", gap, 0.0, MATES, what=what, note=note)


def _noise(case: SolverCase) -> Iterator[Finding]:
    """Increments are asked for within the step, and each sub-interval once."""
    for kind in case.kinds:
        listening, wrong = Listening(Gaussian(3)), []
        process, grid = case.process(kind), case.grid(kind)
        states = iterate(process, case.solver, case.start(kind, case.few), grid, listening)
        now = next(states).t
        for state in states:
            wrong += _misasked(listening.asked, now, state.t)
            listening.asked.clear()
            now = state.t
        expected = "each part of the step at most once"
        note = "a second answer is fresh noise, not the same path: ask once and keep the answer"
        what = f"increments on the {_NAMES[kind]}"
        told = wrong[0] if wrong else expected
        yield Finding.holds("noise", not wrong, told, expected, what=what, note=note)


def _misasked(asked: list[tuple[str, Any, Any]], t: float, s: float) -> list[str]:
    """What was asked beyond the step from ``t`` to ``s``, or twice."""
    low, high = sorted((t, s))
    close = 1e-9 * (high - low)
    spans = sorted(sorted((a, b)) for what, a, b in asked if what != "normal")
    wrong = [
        f"asks for ({a:g}, {b:g}) in the step over ({low:g}, {high:g})"
        for a, b in spans
        if a < low - close or b > high + close
    ]
    return wrong + [
        f"asks for ({a:g}, {b:g}) and for ({c:g}, {d:g})"
        for (a, b), (c, d) in pairwise(spans)
        if c < b - close
    ]


# -- orders and limits -----------------------------------------------------------------------------


def _slope(name: str, got: Order, slope: float, note: str = "") -> Finding:
    """Finding on the slope."""
    declared = got.declared or 0.0
    return Finding(
        f"{name}_order",
        got.steep(slope),
        what=f"slope at N = {got.steps[-1]}",
        measured=got.slope,
        expected=f"at least {declared - slope:g}, the declared {declared:g} but for {slope:g}",
        note=note or "a lower order comes from one term that is missing, or taken at another time",
    )


def _measured(
    process: Process,
    solver: Any,
    kind: OrderKind,
    declared: float | None,
    ladder: tuple[int, ...] = LADDER,
    limit: float = LIMIT,
) -> Order:
    """Errors on the ladder; on a longer one if they cannot be extrapolated to zero from there.

    What extrapolation leaves of a right solver falls with every grid, what is wrong stays.
    """

    def on(steps: tuple[int, ...]) -> Order:
        return order(process, solver, kind, steps=steps, grid=short_grid, declared=declared)

    got = on(ladder)
    near = limit < got.limit / got.scale < WORTH_A_LOOK * limit
    return on((*ladder, 2 * ladder[-1])) if near else got


def _limit(name: str, got: Order) -> Finding:
    """Finding on the limit; extrapolated at the order that is there, if it is not the declared."""
    if not got.steep(SLOPE):
        got = replace(got, declared=None)
    note = "it converges to something else: look for a constant, a sign, a noise scale"
    what = "error extrapolated to N = infinity"
    return Finding.within(name, got.limit / got.scale, 0.0, LIMIT, what=what, note=note)


def _missing(case: SolverCase, name: str, kinds: tuple[str, ...]) -> Finding | None:
    """Say why a kind of order is not checked, if it is not."""
    if name not in case.orders:
        return Finding.skip(f"{name}_order", f"no {name} order is declared")
    if not set(kinds) & set(case.kinds):
        told = f"it accepts {', '.join(case.kinds)} alone"
        where = f"runs on the {_NAMES[kinds[0]]}"
        note = "an order is of the process that it is for: weak and strong reverse, flow flow"
        return Finding.holds(f"{name}_order", False, told, where, note=note)
    return None


def _weak(case: SolverCase) -> Iterator[Finding]:
    """The law of the output: its order, its limit, its limit in the plane, its error near data."""
    if (missing := _missing(case, "weak", ("reverse",))) is not None:
        yield missing
        return
    declared, solver = case.orders["weak"], case.solver
    line, plane = (case.process("reverse", target) for target in (REFERENCE, PLANE))
    got = _measured(line, solver, "weak", declared)
    yield _slope("weak", got, SLOPE)
    yield _limit("weak_limit", got)
    found = declared if got.steep(SLOPE) else None  # told already, not once more
    got = _measured(plane, solver, "weak", found, LADDER[:-1], LIMIT_2D)
    note = "right on the line but not in the plane: noise shared by coordinates, or a norm"
    what = "error extrapolated to N = infinity, correlated data"
    yield Finding.within("weak_limit_2d", got.limit, 0.0, LIMIT_2D, what=what, note=note)
    near = weak_error(line, solver, LADDER[-1]).size
    what = f"error at N = {LADDER[-1]}, down to t = {SDE.t_end:g}"
    note = "right at t = 0.2 but not near the data: look at what a step does where t is small"
    yield Finding.within("weak_near_data", near, 0.0, NEAR, what=what, note=note)


def _strong(case: SolverCase) -> Iterator[Finding]:
    """The path against the exact solution on the same Brownian path."""
    if (missing := _missing(case, "strong", ("reverse",))) is not None:
        yield missing
        return
    declared, process = case.orders["strong"], case.process("reverse", REFERENCE)
    got = _measured(process, case.solver, "strong", declared)
    note = "path noise is noise.increment(t, s, x); noise.normal is no part of the path"
    yield _slope("strong", got, SLOPE, note)
    yield _limit("strong_limit", got)


def _flow(case: SolverCase) -> Iterator[Finding]:
    """Points of the probability flow against where the exact flow carries them."""
    if (missing := _missing(case, "flow", ("flow",))) is not None:
        yield missing
        return
    declared, solver = case.orders["flow"], case.solver
    line, modes = (case.process("flow", target) for target in (REFERENCE, MODES))
    got = _measured(line, solver, "flow", declared)
    if declared < 2:
        yield _slope("flow", got, SLOPE)
    else:
        bent = order(modes, solver, "flow", steps=MODES_LADDER, grid=modes_grid, declared=declared)
        yield _slope("flow", bent, SLOPE_ON_MODES * declared)
    yield _limit("flow_limit", got)


SOLVER_CHECKS: tuple[Check, ...] = (
    Check(_runs, _case, vital=True),
    *(Check(run, _case) for run in (_float32, _inputs, _repeatable, _batch, _noise)),
    *(Check(run, _case) for run in (_weak, _strong, _flow)),
)


def check_solver(
    solver: Solver | SolverCase,
    *,
    weak_order: float | None = None,
    strong_order: float | None = None,
    flow_order: float | None = None,
    on_fail: OnFail = "raise",
) -> Report:
    r"""Check that a solver behaves, converges at its order, and converges to the right thing.

    Parameters
    ----------
    solver : callable
        ``solver(process, state, s, noise) -> State``, a function or an object; or a `SolverCase`.
    weak_order, strong_order, flow_order : float, optional
        Orders that it should have: of the law and of the paths on the reverse SDE, and of points on
        the probability flow.  By default those that it declares in ``solver.orders``; an order that
        nobody declares is not checked.
    on_fail : {"raise", "report"}
        What follows from a failure: `CheckError`, or nothing but the report.

    Returns
    -------
    Report
        With one line for each finding, what was measured and what was expected; ``print`` it.

    Raises
    ------
    CheckError
        If a finding failed and ``on_fail="raise"``.
    TypeError, ValueError
        If ``solver`` is not callable, or neither declares nor is given any order.

    Notes
    -----
    Reference problem: data N(0.7, 0.5^2), VP(0.1, 20), 64 to 512 equal steps down to t = 0.2; in
    the plane two correlated coordinates; flows of order 2 and more on three modes on the line, 80
    to 320 steps in log(alpha / sigma), because one Gaussian flatters some of them.  Every number is
    free of sampling noise, so that a check cannot fail by chance.  It takes about a second.

    References
    ----------
    Kloeden and Platen (1992), Numerical Solution of Stochastic Differential Equations, sections 9.6
    and 9.7.

    Examples
    --------
    >>> import refsde as rs
    >>> report = rs.testing.check_solver(rs.EulerMaruyama())
    >>> report.passed, round(report["weak_order"].measured, 2)
    (True, 1.01)
    """
    told = solver.orders if isinstance(solver, SolverCase) else {}
    case = SolverCase(
        solver.solver if isinstance(solver, SolverCase) else solver,
        weak_order=told.get("weak") if weak_order is None else weak_order,
        strong_order=told.get("strong") if strong_order is None else strong_order,
        flow_order=told.get("flow") if flow_order is None else flow_order,
    )
    return run_checks("check_solver", case.solver, SOLVER_CHECKS, on_fail, case=case)
