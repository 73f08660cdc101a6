"""Error against work: every solver at the same budgets of score evaluations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from refsde._random import run_key
from refsde._types import Process, Solver, Times
from refsde.integrate import sample
from refsde.noise import Gaussian
from refsde.times import Grid

__all__ = ["Record", "WorkPrecision", "within_budget", "work_precision"]

PROBE = 256  # samples on which a solver that chooses its own steps is fitted to a budget
Metric = Callable[[Any], float]


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes
    ----------
    solver : str
        Its name.
    budget : int
        Evaluations of the score that each sample was allowed.
    nfe : float
        Evaluations that it used, a mean over samples.
    seconds : float
        CPU time of the run, without the measures.
    success : float
        Share of the samples that stayed finite; the others are left out of the measures.
    values : dict of str to float
        The measures.
    """

    solver: str
    budget: int
    nfe: float
    seconds: float
    success: float
    values: dict[str, float]


@dataclass(frozen=True)
class WorkPrecision:
    """All runs of a sweep, in the order of solvers and then budgets.

    Attributes
    ----------
    records : tuple of Record
        What was run.
    skipped : tuple of str
        What was not, and why.
    n : int
        Samples a run.
    """

    records: tuple[Record, ...]
    skipped: tuple[str, ...]
    n: int

    def table(self) -> str:
        """Return the records as text, a line each."""
        names = list(self.records[0].values) if self.records else []
        lines = [
            f"{'solver':<24}{'budget':>7}{'NFE':>8}{'CPU s':>9}"
            + "".join(f"{m:>20}" for m in names)
        ]
        for r in self.records:
            values = "".join(f"{r.values[m]:>20.5g}" for m in names)
            lines.append(f"{r.solver:<24}{r.budget:>7}{r.nfe:>8.1f}{r.seconds:>9.2f}{values}")
        return "\n".join([*lines, *(f"not run: {note}" for note in self.skipped)])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, ready for JSON; what is not finite becomes a string."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            return str(value) if isinstance(value, float) and not math.isfinite(value) else value

        records = [plain(asdict(record)) for record in self.records]
        return {"n": self.n, "records": records, "skipped": list(self.skipped)}

    def __repr__(self) -> str:
        return f"WorkPrecision({len(self.records)} runs of {self.n} samples)\n{self.table()}"


def work_precision(
    process: Process | None,
    solvers: Mapping[str, Solver | tuple[Process, Solver]],
    nfe: Sequence[int],
    *,
    n: int,
    metrics: Mapping[str, Metric],
    times: Callable[[int], Times] | None = None,
    rng: Any = 0,
    workers: int = 1,
    progress: bool = False,
) -> WorkPrecision:
    """Run every solver within every budget of score evaluations, and measure the samples.

    A solver on a grid gets as many steps as its budget pays for (what a step costs is counted on
    one sample).  A solver that chooses its own steps is asked for a setting that stays within the
    budget, ``solver.within(process, x, nfe)``, as `BlackBox` offers it.  All runs share their
    starts and noises.

    Parameters
    ----------
    process : Process or None
        What the solvers integrate; None if every one brings its own.
    solvers : mapping
        From a name to a solver, or to a pair (process, solver).
    nfe : sequence of int
        Budgets: evaluations of the score for each sample.
    n : int
        Number of samples a run.
    metrics : mapping
        From a name to a function of the samples (n, *D) that returns a number.
    times : callable, optional
        ``times(steps) -> Grid``; the uniform grid by default.
    rng : int, Generator, SeedSequence or None
        Seed, the same for all runs.
    workers : int
        Tasks at a time, through joblib: threads, processes or a cluster, as
        ``joblib.parallel_config`` says.  The results are the same, whichever and however many.
    progress : bool
        Show a progress bar (needs tqdm).

    Returns
    -------
    WorkPrecision

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong; the message names it, its value and the remedy.
    ImportError
        If joblib is missing.

    Examples
    --------
    >>> import refsde as rs
    >>> ring, sde = rs.GaussianMixture.ring(8), rs.VP()
    >>> flow, gap = rs.ProbabilityFlow(sde, ring.score(sde)), lambda x: rs.measure.frechet(x, ring)
    >>> rs.measure.work_precision(flow, {"Heun": rs.Heun()}, [20], n=100, metrics={"F": gap}).records[0].nfe
    20.0
    """
    budgets, pairs = _check(process, solvers, nfe, metrics, workers)
    try:
        from joblib import Parallel, delayed
    except ImportError as missing:  # pragma: no cover
        raise ImportError("sweeps need joblib: pip install 'refsde[experiments]'") from missing
    key = run_key(rng)
    tasks = [(name, budget) for name in pairs for budget in budgets]
    jobs = (
        delayed(_task)(name, *pairs[name], budget, n, dict(metrics), times, key)
        for name, budget in tasks
    )
    outcomes: list[Record | str] = []
    with _bar(progress, sum(budget for _, budget in tasks)) as bar:
        # Results come in the order of the tasks, whoever finishes first.
        found: Iterator[Record | str] = Parallel(n_jobs=workers, return_as="generator")(jobs)
        for (_, budget), outcome in zip(tasks, found, strict=True):
            outcomes.append(outcome)
            if bar is not None:
                bar.update(budget)
    records = tuple(outcome for outcome in outcomes if isinstance(outcome, Record))
    return WorkPrecision(records, tuple(o for o in outcomes if isinstance(o, str)), n)


def _task(
    name: str,
    process: Process,
    solver: Any,
    budget: int,
    n: int,
    metrics: dict[str, Metric],
    times: Callable[[int], Times] | None,
    key: int,
) -> Record | str:
    """Run one solver within one budget: a record, or why it was not run."""
    try:
        fitting = within_budget(process, solver, budget, times=times, rng=key)
    except TypeError as wrong:  # a solver that does not take this process or SDE
        return f"{name}: {wrong}"
    if fitting is None:
        return f"{name} within {budget}: even one step costs more"
    start = time.thread_time()
    solution = sample(process, fitting[0], n, times=fitting[1], noise=Gaussian(key=key))
    seconds = time.thread_time() - start
    good = (
        solution.x[np.flatnonzero(solution.success)] if not solution.success.all() else solution.x
    )
    values = {
        label: float(metric(good)) if len(good) > 1 else math.nan
        for label, metric in metrics.items()
    }
    return Record(
        name, budget, float(solution.nfe.mean()), seconds, float(solution.success.mean()), values
    )


def within_budget(
    process: Process,
    solver: Any,
    budget: int,
    *,
    times: Callable[[int], Times] | None = None,
    rng: Any = 0,
) -> tuple[Solver, Times] | None:
    """Solver and times that spend at most ``budget`` evaluations of the score on each sample.

    Parameters
    ----------
    process : Process
        What is integrated.
    solver : callable
        On a grid, it gets as many steps as the budget pays for.  One that chooses its own steps is
        asked for a setting that fits, ``solver.within(process, x, budget)``.
    budget : int
        Evaluations of the score a sample.
    times : callable, optional
        ``times(steps) -> Grid``; the uniform grid by default.
    rng : int, Generator, SeedSequence or None
        Seed of the samples that are tried.

    Returns
    -------
    (solver, times) or None
        None if even the cheapest setting costs more.

    Examples
    --------
    >>> import refsde as rs
    >>> flow = rs.ProbabilityFlow(rs.VP(), rs.GaussianMixture.ring(8).score(rs.VP()))
    >>> rs.measure.within_budget(flow, rs.Heun(), 25)[1]
    Grid(12 steps from 1 to 0.001)
    """
    sde, noise = process.sde, Gaussian(rng)
    if hasattr(solver, "within"):
        start = process.start(noise.start(np.zeros((PROBE, process.score.target.dim))))
        fitting = solver.within(process, start, budget)
        return None if fitting is None else (fitting, Grid.uniform(sde, 1))
    grid = times if times is not None else partial(Grid.uniform, sde)
    cost = int(sample(process, solver, 1, times=grid(2), noise=noise).nfe[0]) / 2
    steps = int(budget / cost) if cost else budget
    return (solver, grid(steps)) if steps else None


def _check(
    process: Process | None, solvers: Any, nfe: Any, metrics: Any, workers: Any
) -> tuple[list[int], dict[str, tuple[Process, Solver]]]:
    if not isinstance(solvers, Mapping) or not solvers:
        raise TypeError(
            f"`solvers` must map names to solvers, got {solvers!r}: pass {{'Heun': Heun()}}"
        )
    if not isinstance(metrics, Mapping) or not all(callable(metric) for metric in metrics.values()):
        raise TypeError(f"`metrics` must map names to functions of the samples, got {metrics!r}")
    budgets = [int(budget) for budget in np.atleast_1d(nfe)]
    if not budgets or any(budget < 1 for budget in budgets):
        raise ValueError(f"`nfe` must hold positive budgets, got {nfe!r}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers == 0:
        raise ValueError(f"`workers` must be a non-zero int, as joblib's n_jobs, got {workers!r}")
    pairs = {}
    for name, entry in solvers.items():
        own, solver = entry if isinstance(entry, tuple) else (process, entry)
        if own is None:
            raise TypeError(
                f"`process` is None and `solvers`[{name!r}] brings none: pass (process, solver)"
            )
        if not callable(solver):
            raise TypeError(
                f"`solvers`[{name!r}] must be a solver or (process, solver), got {solver!r}"
            )
        pairs[str(name)] = (own, solver)
    return budgets, pairs


def _bar(show: bool, total: int) -> Any:
    if not show:
        return nullcontext()
    try:
        from tqdm.auto import tqdm
    except ImportError as missing:  # pragma: no cover
        raise ImportError(
            "`progress=True` needs tqdm: pip install 'refsde[experiments]'"
        ) from missing
    return tqdm(total=total, unit="nfe")
