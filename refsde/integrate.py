"""The loop over time, and the runs built on it.

`iterate` is the only loop over time in the package: a generator that asks the times for a target, the
solver for a step and the times for a verdict.  `sample` drives it, one block of samples after another
or in threads, and gathers a `Solution`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from refsde._array import (
    Array,
    concat,
    event_size,
    fill_rows,
    one_blas_thread,
    per_sample,
    rows_finite,
    take,
    to_numpy,
)
from refsde._random import block_rows
from refsde._types import Noise, Process, Solver, State, Time, Times
from refsde.noise import Gaussian, LastMean
from refsde.process import counted
from refsde.solution import Path, Solution, summary
from refsde.times import Grid

__all__ = ["Tally", "iterate", "sample"]

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
    failed_step : array (B,) of int
        Step in which the sample ceased to be finite, counted from 1; 0 where it did not.
    t : array (B,)
        Time of each sample's last good state.
    """

    size: int
    nfe: np.ndarray = field(init=False)
    n_accepted: np.ndarray = field(init=False)
    n_rejected: np.ndarray = field(init=False)
    failed_step: np.ndarray = field(init=False)
    t: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        for name in ("nfe", "n_accepted", "n_rejected", "failed_step"):
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
        First the initial state, then one after every step, always of all B samples.  A sample whose new
        state is not finite leaves the batch and keeps its last good state.

    Raises
    ------
    TypeError
        If the solver does not accept the process, or is not callable.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> grid = rs.Grid.uniform(rs.VP(), 2).reversed()
    >>> run = rs.iterate(rs.ForwardSDE(rs.VP()), rs.EulerMaruyama(), np.ones((3, 1)), grid, rs.Gaussian(0))
    >>> [round(state.t, 4) for state in run]
    [0.001, 0.5005, 1.0]
    """
    check_accepts(solver, process)
    rows = np.arange(x.shape[0]) if rows is None else np.asarray(rows)
    return _iterate(process, solver, x, times, noise, rows, tally or Tally(len(rows)))


def _iterate(
    process: Process,
    solver: Any,
    x: Array,
    times: Times,
    noise: Noise,
    rows: np.ndarray,
    tally: Tally,
) -> Iterator[State]:
    process, calls = counted(process)
    if hasattr(solver, "bind"):
        solver = solver.bind(process, getattr(times, "ts", None))
    t, plan = times.start(process, x)
    memory = tuple(solver.init(process, x, t)) if hasattr(solver, "init") else ()
    noise = noise.on(rows)
    state = full = State(t, x, memory=memory)
    live = np.arange(len(rows))  # which samples of the batch are still under way
    tally.t[:] = _flat(t)
    yield full
    attempt = 0
    while len(live) and (s := times.target(state.t, plan)) is not None:
        attempt += 1
        before, old = calls(), state
        with np.errstate(over="ignore", invalid="ignore"):  # a blow-up ends its sample, below
            new = solver(process.at(old.t, s), old, s, noise)
        state, plan = times.judge(old, new, plan)
        finite = rows_finite(state.x)
        at = (
            slice(None) if len(live) == len(rows) else live
        )  # a slice costs nothing, an index array does
        accepted = _flat(state.t) != _flat(old.t)
        tally.nfe[at] += calls() - before
        tally.n_accepted[at] += accepted
        tally.n_rejected[at] += np.logical_not(accepted)
        if finite is not True:
            tally.failed_step[live[~finite]] = attempt
            tally.n_accepted[live[~finite]] -= np.broadcast_to(accepted, live.shape)[~finite]
            keep = np.flatnonzero(finite)
            live, plan = live[keep], times.select(plan, keep)
            state, noise = _select(state, keep), noise.on(rows[live])
        full = state if len(live) == len(rows) else _merge(full, live, state)
        tally.t[live if len(live) < len(rows) else slice(None)] = _flat(state.t)
        yield full


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


def check_accepts(solver: Any, process: Process) -> None:
    """Raise ``TypeError`` unless ``solver`` is a solver and right for ``process``."""
    if not callable(solver) or isinstance(solver, type):
        hint = f"{solver.__name__}()" if isinstance(solver, type) else "refsde.EulerMaruyama()"
        raise TypeError(
            f"`solver` must be called as (process, state, s, noise) -> State, got {solver!r}: pass {hint}"
        )
    kind = getattr(process, "kind", None)
    if kind is None:
        raise TypeError(
            f"`process` must be a process such as refsde.ReverseSDE(sde, score), got {process!r}"
        )
    accepts = getattr(solver, "accepts", None)
    if accepts is None or kind in accepts:
        return
    names = {
        "forward": "ForwardSDE(sde)",
        "reverse": "ReverseSDE(sde, score)",
        "flow": "ProbabilityFlow(sde, score)",
    }
    right = " or ".join(names[k] for k in sorted(accepts, reverse=True))
    raise TypeError(
        f"`solver` {solver!r} is wrong for {names[kind]}, silently so if it ran: use it on {right}"
    )


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
    times : Grid or int
        When to step; an int is that many equal steps, from T to t_end (from 0 to T for a ForwardSDE).
    x : array (n, *D), optional
        Start here instead of at the prior.  Its library, dtype and device are those of the result.
    shape : tuple of int, optional
        Event shape D where the score has no target to tell.
    rng : int, Generator, SeedSequence or None
        Seed of the start and of the noise.
    noise : Noise, optional
        Source of the noise, `Gaussian(rng)` by default.  The start still comes from ``rng``, or from
        ``noise`` if that is a `Gaussian` and ``rng`` is None.
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
        Called as ``callback(state, rows)`` after every step of a block of samples; from worker threads
        if ``workers > 1``.
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
    >>> sol = rs.sample(rs.ReverseSDE(sde, target.score(sde)), rs.EulerMaruyama(), 100, times=50, rng=0)
    >>> sol.x.shape, int(sol.nfe[0]), bool(sol.success.all())
    ((100, 2), 50, True)
    """
    check_accepts(solver, process)
    _check_options(keep, denoise, workers, on_failure)
    times = _times(process, solver, times)
    n, event, x = _shapes(process, n, x, shape, dtype)
    source: Any = noise if noise is not None else Gaussian(rng)
    starter = (
        source if isinstance(source, Gaussian) and (noise is None or rng is None) else Gaussian(rng)
    )
    if denoise == "last_mean":
        if not isinstance(times, Grid):
            raise ValueError(
                "`denoise='last_mean'` needs a Grid, whose last step is known: use 'tweedie'"
            )
        source = LastMean(source, times.ts[-1])

    size = getattr(solver, "block_rows", None) or block_rows(math.prod(event))
    blocks = [np.arange(i, min(i + size, n)) for i in range(0, n, size)]
    steps = times.n if isinstance(times, Grid) else None

    def run(rows: np.ndarray) -> _Block:
        if x is not None:
            start = take(x, rows) if len(rows) < n else x
        else:
            template = np.zeros((len(rows), *event), dtype)
            start = process.start(starter.on(rows).start(template))
        return _run(process, solver, start, times, source, rows, keep, denoise == "tweedie", tick)

    with _progress(progress, len(blocks), steps) as bar, one_blas_thread():

        def tick(state: State, rows: np.ndarray) -> None:
            if bar is not None:
                bar.update(1)
            if callback is not None:
                callback(state, rows)

        if workers == 1 or len(blocks) == 1:
            done = [run(rows) for rows in blocks]
        else:
            with ThreadPoolExecutor(workers) as pool:
                done = list(pool.map(run, blocks))
    solution = _gather(done, getattr(source, "noise", source), steps)
    if on_failure == "raise" and not solution.success.all():
        raise RuntimeError(solution.message)
    return solution


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
    tick: Callback,
) -> _Block:
    """One block of samples, from start to end."""
    tally = Tally(len(rows))
    every = 1 if keep == "all" else keep
    path: list[tuple[Any, Array]] = []
    state = None
    for step, state in enumerate(iterate(process, solver, x, times, noise, rows=rows, tally=tally)):
        if every and step % every == 0:
            path.append((state.t, state.x))
        if step:
            tick(state, rows)
    assert state is not None
    if every and step % every:
        path.append((state.t, state.x))
    x = state.x
    alive = np.flatnonzero(tally.failed_step == 0)
    if tweedie and len(alive):
        t = state.t if not per_sample(state.t) else take(state.t, alive)
        x = fill_rows(x, alive, process.denoise(take(x, alive), t))
        tally.nfe[alive] += 1
        finite = rows_finite(x)
        if finite is not True:
            tally.failed_step[~finite] = step + 1
    return _Block(x, tally, path)


def _gather(blocks: list[_Block], noise: Noise, steps: int | None) -> Solution:
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(block.tally, name) for block in blocks])

    path = None
    if blocks[0].path:
        # Adaptive blocks may differ in length: the shorter ones repeat their end.
        longest = max(len(block.path) for block in blocks)
        padded = [block.path + [block.path[-1]] * (longest - len(block.path)) for block in blocks]
        t = np.array([_path_time([block[i][0] for block in padded]) for i in range(longest)])
        path = Path(
            t,
            np.stack([to_numpy(concat([block[i][1] for block in padded])) for i in range(longest)]),
        )
    failed, t = joined("failed_step"), joined("t")
    return Solution(
        x=concat([block.x for block in blocks]),
        t=t,
        nfe=joined("nfe"),
        n_accepted=joined("n_accepted"),
        n_rejected=joined("n_rejected"),
        success=failed == 0,
        path=path,
        message=summary(failed, t, steps),
        seed_entropy=getattr(noise, "key", None),
    )


def _path_time(ts: list[Any]) -> Any:
    return np.concatenate([_flat(t) for t in ts]) if per_sample(ts[0]) else ts[0]


# -- the public boundary: what may be asked ----------------------------------------------------------


def _check_options(keep: Any, denoise: str, workers: Any, on_failure: str) -> None:
    if (
        keep is not None
        and keep != "all"
        and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1)
    ):
        raise ValueError(
            f"`keep` must be None, 'all' or a positive int (every k-th step), got {keep!r}"
        )
    if denoise not in ("none", "tweedie", "last_mean"):
        raise ValueError(f"`denoise` must be 'none', 'tweedie' or 'last_mean', got {denoise!r}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ValueError(
            f"`workers` must be a positive int, the number of threads, got {workers!r}"
        )
    if on_failure not in ("mark", "raise"):
        raise ValueError(f"`on_failure` must be 'mark' or 'raise', got {on_failure!r}")


def _times(process: Process, solver: Any, times: Times | int | None) -> Times:
    """Make a grid of an int, and check a grid against the process."""
    if times is None:
        times = getattr(solver, "default_steps", None)
        if times is None:
            raise ValueError("`times` is missing: pass a number of steps, times=200, or a Grid")
    if isinstance(times, int | np.integer) and not isinstance(times, bool):
        forward = process.kind == "forward"
        grid = Grid.uniform(process.sde, int(times), 0.0 if forward else None)
        return grid.reversed() if forward else grid
    if not hasattr(times, "target"):
        raise TypeError(
            f"`times` must be an int or a Grid, got {times!r}: use refsde.Grid(ts) for a list of times"
        )
    if isinstance(times, Grid):
        T = process.sde.T
        if max(times.ts) > T * (1 + 1e-12):
            raise ValueError(
                f"`times` must lie in [0, T] = [0, {T:g}], got {max(times.ts):g}: rescale the grid to the SDE"
            )
        ascending = times.ts[0] < times.ts[-1]
        if process.kind == "forward" and not ascending:
            raise ValueError(
                "`times` must ascend for a ForwardSDE (t = 0 is data): use times.reversed()"
            )
        if process.kind == "reverse" and ascending:
            raise ValueError(
                "`times` must descend for a ReverseSDE (T is noise): use times.reversed()"
            )
    return times


def _shapes(
    process: Process,
    n: int | None,
    x: Array | None,
    shape: tuple[int, ...] | None,
    dtype: DTypeLike,
) -> tuple[int, tuple[int, ...], Array | None]:
    """Number of samples, event shape and checked start of a run."""
    if x is not None:
        if not hasattr(x, "shape") or len(x.shape) < 2:
            got = f"shape {tuple(x.shape)}" if hasattr(x, "shape") else type(x).__name__
            raise ValueError(
                f"`x` must be an array (n, *D), batch first, got {got}: reshape a batch of numbers to (n, 1)"
            )
        if isinstance(x, np.ndarray) and x.dtype.kind != "f":
            raise TypeError(f"`x` must be floating point, got dtype {x.dtype}: use x.astype(float)")
        if n is not None and n != x.shape[0]:
            raise ValueError(
                f"`n` = {n!r} disagrees with `x` of {x.shape[0]} samples: leave `n` out"
            )
        if x.shape[0] == 0 or event_size(x) == 0:
            raise ValueError(f"`x` must hold at least one sample, got shape {tuple(x.shape)}")
        if rows_finite(x) is not True:
            raise ValueError("`x` must be finite, it has NaN or inf: remove those samples")
        return int(x.shape[0]), tuple(x.shape[1:]), x
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(
            f"`n` must be a positive int, the number of samples, got {n!r}: or pass a start `x`"
        )
    if np.dtype(dtype) not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise ValueError(f"`dtype` must be float64 or float32, got {dtype!r}")
    if process.kind == "forward":
        process.start(np.zeros(0))  # raises, naming the remedy
    target = getattr(process.score, "target", None)
    if shape is None:
        if target is None:
            raise ValueError(
                "`shape` is missing: the score has no target to tell the event shape, pass shape=(d,)"
            )
        shape = (target.dim,)
    if (
        any(isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1 for k in shape)
        or len(shape) == 0
    ):
        raise ValueError(f"`shape` must hold positive ints, the shape of one sample, got {shape!r}")
    if target is not None and tuple(shape) != (target.dim,):
        raise ValueError(
            f"`shape` must be ({target.dim},), the target's, got {shape!r}: leave it out"
        )
    return int(n), tuple(int(k) for k in shape), None


def _progress(show: bool, blocks: int, steps: int | None) -> Any:
    if not show:
        return nullcontext()
    try:
        from tqdm.auto import tqdm
    except ImportError as missing:  # pragma: no cover
        raise ImportError(
            "`progress=True` needs tqdm: pip install 'refsde[experiments]'"
        ) from missing
    return tqdm(total=None if steps is None else blocks * steps, unit="step")
