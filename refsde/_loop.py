"""The loop over time, the only one in the package.

It asks the times for a target, the solver for a step and the times for a verdict.  Samples that
have arrived, or are lost, leave the batch; those that stay do not notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from refsde._array import Array, fill_rows, per_sample, rows_finite, take, to_numpy
from refsde._boundary import (
    check_accepts,
    check_memory,
    check_noise,
    check_start,
    check_step,
    check_times,
)
from refsde._types import Fate, Noise, Process, Solver, State, Time, Times
from refsde.process import counted

__all__ = ["Tally", "bound", "flat", "fronts", "iterate", "quiet"]


@dataclass
class Tally:
    """What happened to each sample of a batch: arrays (B,), filled while `iterate` runs.

    Attributes
    ----------
    nfe : array (B,) of int
        Evaluations of the score.
    n_accepted, n_rejected : array (B,) of int
        Steps taken, and attempts thrown away.
    fate : array (B,) of int
        What became of the sample, a `Fate`.
    failed_step : array (B,) of int
        Attempt in which the sample was lost, counted from 1; 0 where it was not.
    t : array (B,)
        Time of each sample's last good state.
    """

    size: int
    nfe: np.ndarray = field(init=False)
    n_accepted: np.ndarray = field(init=False)
    n_rejected: np.ndarray = field(init=False)
    fate: np.ndarray = field(init=False)
    failed_step: np.ndarray = field(init=False)
    t: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        for name in ("nfe", "n_accepted", "n_rejected", "fate", "failed_step"):
            setattr(self, name, np.zeros(self.size, dtype=np.int64))
        self.t = np.zeros(self.size)


def iterate(
    process: Process,
    solver: Solver,
    x: Array,
    times: Times,
    noise: Noise,
    *,
    rows: np.ndarray | None = None,
    tally: Tally | None = None,
) -> Iterator[State]:
    """Step a batch through time, yielding the whole batch after every step.

    Parameters
    ----------
    process : Process
        What to integrate.
    solver : callable
        How to step: ``solver(process, state, s, noise) -> State``.
    x : array (B, *D)
        Samples at the first of the times; not modified.
    times : Grid or other Times
        When to step.
    noise : Noise
        Where increments come from.
    rows : array (B,) of int, optional
        Absolute indices of the samples, by which noise is addressed; 0 to B - 1 by default.
    tally : Tally, optional
        Is filled with counts of each sample.

    Yields
    ------
    State
        First the initial state, then one after every step, always of all B samples.  A sample that
        has arrived, whose new state is not finite or whose step becomes too small, leaves the batch
        and keeps its last good state.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, such as a solver that does not accept the process; or in mid-run,
        if the solver does not return a `State` of the same batch at the time it was sent to.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> process, grid = rs.ForwardSDE(rs.VP()), rs.Grid.uniform(rs.VP(), 2).reversed()
    >>> run = rs.iterate(process, rs.EulerMaruyama(), np.ones((3, 1)), grid, rs.Gaussian(0))
    >>> [round(state.t, 4) for state in run]
    [0.001, 0.5005, 1.0]
    """
    check_accepts(solver, process)
    check_times(times)
    check_noise(noise)
    x = check_start(x)
    rows = np.arange(x.shape[0]) if rows is None else np.asarray(rows)
    if rows.shape != (x.shape[0],):
        raise ValueError(
            f"`rows` must have shape ({x.shape[0]},), one index a sample of `x`, got {rows.shape}"
        )
    solver = bound(solver, process, times)
    x = take(x, np.arange(len(rows)))  # a copy: a solver that writes in place must not reach it
    run = fronts(process, solver, x, times, noise, rows, tally or Tally(len(rows)))
    return (front.whole() for front in run)


class Front(NamedTuple):
    """Where the loop stands: the samples still under way, and all others where they ended."""

    full: State  # of the whole batch; the samples under way stand here where they once were
    live: np.ndarray  # which they are
    state: State

    def whole(self) -> State:
        """The whole batch."""
        everyone = len(self.live) == self.full.x.shape[0]
        return self.state if everyone else _merge(self.full, self.live, self.state)


def fronts(
    process: Process,
    solver: Any,
    x: Array,
    times: Times,
    noise: Noise,
    rows: np.ndarray,
    tally: Tally,
) -> Iterator[Front]:
    process, calls = counted(process)
    t, plan = times.start(process, x)
    memory = check_memory(solver, solver.init(process, x, t)) if hasattr(solver, "init") else ()
    noise = noise.on(rows)
    state = full = State(t, x, memory=memory)
    live = np.arange(len(rows))  # which samples of the batch are still under way
    tally.t[:] = flat(t)
    tally.nfe += calls.new(len(live))  # what `start` and `init` evaluated
    yield Front(full, live, state)
    attempt = 0
    while len(live) and (s := times.target(state.t, plan)) is not None:
        attempt += 1
        old = state
        with quiet():
            new = solver(process.at(old.t, s), old, s, noise)
            check_step(solver, old, new, s)
            state, plan = times.judge(old, new, plan)
        fate = _fates(times, plan, state)
        finite = fate != Fate.NOT_FINITE
        # While all are under way, a slice: it costs nothing, an index array does.
        at = slice(None) if len(live) == len(rows) else live
        accepted = flat(state.t) != flat(old.t)
        tally.nfe[at] += calls.new(len(live))
        tally.n_accepted[at] += accepted & finite
        tally.n_rejected[at] += np.logical_not(accepted) & finite
        tally.t[at] = np.where(finite, flat(state.t), tally.t[at])
        if np.any(fate != Fate.UNDER_WAY):
            gone = np.flatnonzero(fate != Fate.UNDER_WAY)
            tally.fate[live[gone]] = fate[gone]
            lost = gone[fate[gone] != Fate.ARRIVED]
            tally.failed_step[live[lost]] = attempt
            last = _last(old, state, finite)
            full = _merge(full, live[gone], _select(last, gone))
            keep = np.flatnonzero(fate == Fate.UNDER_WAY)
            live, plan = live[keep], times.select(plan, keep)
            state, noise = _select(state, keep), noise.on(rows[live])
        if hasattr(noise, "settle") and len(live):
            noise.settle(state.t)
        yield Front(full, live, state)
    tally.fate[live] = Fate.ARRIVED


def _fates(times: Times, plan: Any, state: State) -> np.ndarray:
    """Fate (B,) of every sample after an attempt."""
    n = state.x.shape[0]
    fates = times.fates(state.t, plan) if hasattr(times, "fates") else Fate.UNDER_WAY
    return np.where(rows_finite(state.x), np.broadcast_to(fates, (n,)), Fate.NOT_FINITE)


def _last(old: State, state: State, finite: np.ndarray) -> State:
    """The last good state of every sample: the one before where the new one is not finite."""
    if np.all(finite):
        return state
    before = np.flatnonzero(~finite)
    x = fill_rows(state.x, before, take(old.x, before))
    t = fill_rows(state.t, before, take(old.t, before)) if per_sample(state.t) else state.t
    return State(t, x)


def bound(solver: Any, process: Process, times: Times) -> Any:
    """Return the solver after it has seen the whole grid, where it wants to."""
    if not hasattr(solver, "bind"):
        return solver
    return solver.bind(process, getattr(times, "ts", None))


def quiet() -> np.errstate:
    """No warnings: a sample that blows up ends, and the solution says so."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def flat(t: Time) -> Any:
    return to_numpy(t).reshape(-1) if per_sample(t) else t


def _select(state: State, keep: np.ndarray) -> State:
    """Return the state of the samples ``keep``, memory included."""

    def part(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(part(v) for v in value)
        return take(value, keep) if hasattr(value, "shape") and len(value.shape) else value

    return State(*(part(value) for value in state))


def _merge(full: State, live: np.ndarray, state: State) -> State:
    """Return the whole batch, of which ``live`` have moved on."""
    t = state.t
    if per_sample(t):
        t = fill_rows(full.t, live, t)
    return State(t, fill_rows(full.x, live, state.x))
