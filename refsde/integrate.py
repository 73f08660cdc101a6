"""The loop over time, and the runs built on it.

`iterate` is the only loop over time in the package: a generator that asks the times for a target,
the solver for a step and the times for a verdict.  `sample` drives it, one block of samples after
another or in threads, and gathers a `Solution`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from refsde._array import (
    Array,
    concat,
    fill_rows,
    one_blas_thread,
    per_sample,
    rows_finite,
    take,
    to_numpy,
)
from refsde._boundary import (
    check_accepts,
    check_memory,
    check_noise,
    check_options,
    check_start,
    check_step,
    check_times,
    shapes_of,
    times_of,
)
from refsde._progress import progress_bar
from refsde._random import block_rows
from refsde._types import Fate, Noise, Process, Solver, State, Time, Times
from refsde.noise import Gaussian, LastMean, RetainedPath
from refsde.noise.keyed import Keyed
from refsde.process import counted
from refsde.solution import Path, Solution, summary
from refsde.times import Grid

__all__ = ["Tally", "default_noise", "iterate", "sample"]

Callback = Callable[[State, np.ndarray], object]


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
    solver = _bound(solver, process, times)
    x = take(x, np.arange(len(rows)))  # a copy: a solver that writes in place must not reach it
    fronts = _iterate(process, solver, x, times, noise, rows, tally or Tally(len(rows)))
    return (front.whole() for front in fronts)


class _Front(NamedTuple):
    """Where the loop stands: the samples still under way, and all others where they ended."""

    full: State  # of the whole batch; the samples under way stand here where they once were
    live: np.ndarray  # which they are
    state: State

    def whole(self) -> State:
        """The whole batch."""
        everyone = len(self.live) == self.full.x.shape[0]
        return self.state if everyone else _merge(self.full, self.live, self.state)


def _iterate(
    process: Process,
    solver: Any,
    x: Array,
    times: Times,
    noise: Noise,
    rows: np.ndarray,
    tally: Tally,
) -> Iterator[_Front]:
    process, calls = counted(process)
    t, plan = times.start(process, x)
    memory = check_memory(solver, solver.init(process, x, t)) if hasattr(solver, "init") else ()
    noise = noise.on(rows)
    state = full = State(t, x, memory=memory)
    live = np.arange(len(rows))  # which samples of the batch are still under way
    tally.t[:] = _flat(t)
    tally.nfe += calls.new(len(live))  # what `start` and `init` evaluated
    yield _Front(full, live, state)
    attempt = 0
    while len(live) and (s := times.target(state.t, plan)) is not None:
        attempt += 1
        old = state
        with _quiet():
            new = solver(process.at(old.t, s), old, s, noise)
            check_step(solver, old, new, s)
            state, plan = times.judge(old, new, plan)
        fate = _fates(times, plan, state)
        finite = fate != Fate.NOT_FINITE
        # While all are under way, a slice: it costs nothing, an index array does.
        at = slice(None) if len(live) == len(rows) else live
        accepted = _flat(state.t) != _flat(old.t)
        tally.nfe[at] += calls.new(len(live))
        tally.n_accepted[at] += accepted & finite
        tally.n_rejected[at] += np.logical_not(accepted) & finite
        tally.t[at] = np.where(finite, _flat(state.t), tally.t[at])
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
        yield _Front(full, live, state)
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


def _bound(solver: Any, process: Process, times: Times) -> Any:
    """Return the solver after it has seen the whole grid, where it wants to."""
    if not hasattr(solver, "bind"):
        return solver
    return solver.bind(process, getattr(times, "ts", None))


def _quiet() -> np.errstate:
    """No warnings: a sample that blows up ends, and the solution says so."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


def _flat(t: Time) -> Any:
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


def sample(
    process: Process,
    solver: Solver,
    n: int | None = None,
    *,
    times: Times | int | None = None,
    x: Array | None = None,
    shape: tuple[int, ...] | None = None,
    rng: Any = None,
    noise: Noise | None = None,
    keep: Literal["all"] | int | None = None,
    denoise: Literal["none", "tweedie", "last_mean"] = "none",
    workers: int = 1,
    progress: bool = False,
    callback: Callback | None = None,
    on_failure: Literal["mark", "raise"] = "mark",
    dtype: DTypeLike = np.float64,
) -> Solution:
    """Draw samples: start at the prior (or at ``x``), step through the times, gather the result.

    Sample i depends on (rng, i) alone: not on ``n``, ``workers`` or its batch mates.

    Parameters
    ----------
    process : ReverseSDE, ProbabilityFlow or ForwardSDE
        What to integrate.
    solver : callable
        How to step.
    n : int, optional
        Number of samples; not needed with ``x``.
    times : Grid, Adaptive or int
        When to step; an int is that many equal steps, from T to t_end (from 0 to T for a
        ForwardSDE).  None is the solver's own choice, if it has one, such as that of `GGF`.
    x : array (n, *D), optional
        Start here instead of at the prior.  Its library, dtype and device are those of the result.
    shape : tuple of int, optional
        Event shape D where the score has no target to tell.
    rng : int, Generator, SeedSequence or None
        Seed of the start and of the noise.
    noise : Noise, optional
        Source of the noise: `Gaussian(rng)` by default, and `RetainedPath(rng)` where steps may be
        rejected.  The start still comes from ``rng``, or from ``noise`` if that is keyed, as these
        two and `BrownianTree` are, and ``rng`` is None.
    keep : "all", int or None
        Store the path: every step, or every k-th (with both ends).
    denoise : {"none", "tweedie", "last_mean"}
        At the end: nothing; the posterior mean of x_0 (one evaluation more); or the last step
        without its path noise.
    workers : int
        Threads that share the blocks of samples; the result is the same for any number.
    progress : bool
        Show a progress bar (needs tqdm).
    callback : callable, optional
        Called as ``callback(state, rows)`` after every step of a block of samples; from worker
        threads if ``workers > 1``.
    on_failure : {"mark", "raise"}
        What to do about samples that cease to be finite: mark them in ``success``, or raise.
    dtype : dtype
        float64 or float32, of samples started at the prior.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong; the message names it, its value and the remedy.
    RuntimeError
        If a sample fails and ``on_failure="raise"``.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> sol = rs.sample(process, rs.EulerMaruyama(), 100, times=50, rng=0)
    >>> sol.x.shape, int(sol.nfe[0]), bool(sol.success.all())
    ((100, 2), 50, True)
    """
    check_accepts(solver, process)
    check_options(process, keep, denoise, workers, on_failure, callback)
    times = times_of(process, solver, times, from_prior=x is None)
    n, event, x = shapes_of(process, n, x, shape, dtype)
    if noise is not None:
        check_noise(noise)
    source: Any = noise if noise is not None else default_noise(times, rng)
    starter = (
        source if isinstance(source, Keyed) and (noise is None or rng is None) else Gaussian(rng)
    )
    if denoise == "last_mean":
        if not isinstance(times, Grid):
            raise ValueError(
                f"`denoise` = 'last_mean' needs a Grid, whose last step is known, got {times!r}: "
                "use 'tweedie'"
            )
        source = LastMean(source, *times.ts[-2:])

    size = getattr(solver, "block_rows", None) or block_rows(math.prod(event))
    blocks = [np.arange(i, min(i + size, n)) for i in range(0, n, size)]
    steps = times.n if isinstance(times, Grid) else None
    solver = _bound(solver, process, times)

    def run(rows: np.ndarray) -> _Block:
        if x is not None:
            start = take(x, rows)  # a copy, also of all of them: the caller keeps his own
        else:
            template = np.zeros((len(rows), *event), dtype)
            start = process.start(starter.on(rows).start(template))
        ticks = tick if progress or callback is not None else None
        return _run(process, solver, start, times, source, rows, keep, denoise == "tweedie", ticks)

    with progress_bar(progress, steps and len(blocks) * steps, "step") as bar, one_blas_thread():

        def tick(state: State, rows: np.ndarray) -> None:
            if bar is not None:
                bar.update(1)
            if callback is not None:
                callback(state, rows)

        if workers == 1 or len(blocks) == 1:
            done = [run(rows) for rows in blocks]
        else:
            with ThreadPoolExecutor(workers) as pool:
                jobs = [pool.submit(run, rows) for rows in blocks]
                try:
                    done = [job.result() for job in jobs]
                except BaseException:  # an error, or Ctrl-C: do not first finish what is queued
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    solution = _gather(done, getattr(source, "noise", source), steps)
    if on_failure == "raise" and not solution.success.all():
        raise RuntimeError(solution.message)
    return solution


def default_noise(times: Times, rng: Any = None, *, key: int | None = None) -> Keyed:
    """Noise of a run that is given none: it must remember where an attempt may be rejected."""
    return (Gaussian if isinstance(times, Grid) else RetainedPath)(rng, key=key)


@dataclass
class _Block:
    x: Array
    tally: Tally
    path: list[tuple[Any, Array]]


def _run(
    process: Process,
    solver: Solver,
    x: Array,
    times: Times,
    noise: Noise,
    rows: np.ndarray,
    keep: Literal["all"] | int | None,
    tweedie: bool,
    tick: Callback | None,
) -> _Block:
    """One block of samples, from start to end."""
    tally = Tally(len(rows))
    every = 1 if keep == "all" else keep or 0
    path: list[tuple[Any, Array]] = []
    front = None
    watched = tick is not None
    for step, front in enumerate(_iterate(process, solver, x, times, noise, rows, tally)):
        kept = bool(every) and step % every == 0
        if not kept and not watched:
            continue  # samples that have arrived are not gathered for nobody
        state = front.whole()
        if kept:
            path.append((state.t, take(state.x, np.arange(len(rows)))))
        if step and tick is not None:
            tick(state, rows)
    assert front is not None
    state = front.whole()
    if every and step % every:
        path.append((state.t, state.x))
    return _Block(_tweedie(process, state, tally, step + 1) if tweedie else state.x, tally, path)


def _tweedie(process: Process, state: State, tally: Tally, step: int) -> Array:
    """Return the posterior means of x_0; what cannot be denoised fails in ``step`` and stays."""
    alive = np.flatnonzero(tally.failed_step == 0)
    if not len(alive):
        return state.x
    process, calls = counted(process)
    t = state.t if not per_sample(state.t) else take(state.t, alive)
    with _quiet():
        clean = process.denoise(take(state.x, alive), t)
    tally.nfe[alive] += calls()
    good = np.flatnonzero(np.broadcast_to(rows_finite(clean), len(alive)))
    tally.failed_step[np.delete(alive, good)] = step
    tally.fate[np.delete(alive, good)] = Fate.NOT_FINITE
    return fill_rows(state.x, alive[good], take(clean, good))


def _gather(blocks: list[_Block], noise: Noise, steps: int | None) -> Solution:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(block.tally, name) for block in blocks])

    path = None
    if blocks[0].path:
        # Blocks may differ in length (adaptive steps, or all samples lost): the shorter repeat
        # their end.
        longest = max((block.path for block in blocks), key=len)
        m = len(longest)
        padded = [block.path + [block.path[-1]] * (m - len(block.path)) for block in blocks]
        if per_sample(longest[0][0]):
            t = np.stack([np.concatenate([_flat(p[i][0]) for p in padded]) for i in range(m)])
        else:
            t = np.array([t for t, _ in longest])
        path = Path(t, np.stack([to_numpy(concat([p[i][1] for p in padded])) for i in range(m)]))
    failed, t = joined("failed_step"), joined("t")
    return Solution(
        x=concat([block.x for block in blocks]),
        t=t,
        nfe=joined("nfe"),
        n_accepted=joined("n_accepted"),
        n_rejected=joined("n_rejected"),
        success=failed == 0,
        path=path,
        message=summary(failed, t, steps, joined("fate")),
        seed_entropy=getattr(noise, "key", None),
    )
