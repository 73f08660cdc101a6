"""Runs: `sample` drives the loop, one block of samples after another or in threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

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
    check_noise,
    check_options,
    shapes_of,
    times_of,
)
from refsde._loop import Tally, bound, flat, fronts, iterate, quiet
from refsde._progress import progress_bar
from refsde._random import block_rows
from refsde._types import Fate, Noise, Process, Solver, State, Times
from refsde.noise import Gaussian, LastMean, RetainedPath
from refsde.noise.keyed import Keyed
from refsde.process import counted
from refsde.solution import Path, Solution, summary
from refsde.times import Grid

__all__ = ["Tally", "default_noise", "iterate", "sample"]

Callback = Callable[[State, np.ndarray], object]


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
    solver = bound(solver, process, times)

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


def default_noise(
    times: Times, rng: Any = None, *, key: int | None = None
) -> Gaussian | RetainedPath:
    """Noise of a run that is given none: it must remember where an attempt may be rejected."""
    fixed = isinstance(times, Grid)
    return Gaussian(rng, key=key) if fixed else RetainedPath(rng, key=key)


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
    for step, front in enumerate(fronts(process, solver, x, times, noise, rows, tally)):
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
    with quiet():
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
            t = np.stack([np.concatenate([flat(p[i][0]) for p in padded]) for i in range(m)])
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
