"""Error against work: every solver within the same budgets of score evaluations."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from refsde._array import Array, one_blas_thread
from refsde._boundary import check_accepts
from refsde._progress import progress_bar
from refsde._random import run_key
from refsde._types import Process, Solver, State, Time, Times
from refsde.integrate import default_noise, sample
from refsde.measure.metrics import as_count
from refsde.noise import Gaussian
from refsde.solution import Solution
from refsde.times import Adaptive, Grid

__all__ = ["Record", "WorkPrecision", "within_budget", "work_precision"]

PROBES = (4, 6)  # steps of the runs that show what a step costs, past what starting costs
PROBE = 256  # samples on which a solver that chooses its own steps is fitted to a budget
FEW = 64  # and on which one is whose samples have steps of their own: their mean varies little
Metric = Callable[[Any], float]
Schedule = Callable[[int], Grid]  # from a number of steps to a grid


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
    steps : int
        Steps of the grid; a mean over samples where each has its own.
    seconds : float
        CPU time of the run, without the measures.  Records that differ in nothing else are equal.
    success : float
        Share of the samples that stayed finite; the others are left out of the measures.
    values : dict of str to float
        The measures; nan if fewer than two samples stayed finite.
    """

    solver: str
    budget: int
    nfe: float
    steps: int
    seconds: float = field(compare=False)
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
        """Return the records as text, a line each; a dash where a run lacks a measure."""
        labels = list(dict.fromkeys(label for r in self.records for label in r.values))
        name = max([8, *(len(r.solver) for r in self.records)])
        lines = [f"{'solver':<{name}}{'budget':>8}{'NFE':>9}{'success':>9}{'CPU s':>9}"]
        for r in self.records:
            work = f"{r.solver:<{name}}{r.budget:>8}{r.nfe:>9.1f}"
            lines.append(f"{work}{r.success:>9.4g}{r.seconds:>9.2f}")
        for label in labels:
            cells = [f"{r.values[label]:.4g}" if label in r.values else "-" for r in self.records]
            wide = 2 + max(len(text) for text in (label, *cells))
            lines = [f"{a}{b:>{wide}}" for a, b in zip(lines, (label, *cells), strict=True)]
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
    nfe: Sequence[int] | int,
    *,
    n: int,
    metrics: Mapping[str, Metric],
    times: Schedule | Mapping[str, Schedule] | None = None,
    rng: Any = 0,
    workers: int = 1,
    progress: bool = False,
) -> WorkPrecision:
    """Run every solver within every budget of score evaluations, and measure the samples.

    A solver on a grid gets as many steps as its budget pays for; what they cost is counted on runs
    of one sample in a few steps.  A solver with steps for each sample, such as `GGF`, gets the
    tightest tolerances with which its samples stay within the budget *on average*.  One that
    chooses its steps otherwise is asked, ``solver.within(process, x, nfe)``, as `BlackBox` offers
    it.  A run that spent more than its budget is thrown away and made with less.

    Parameters
    ----------
    process : Process or None
        What the solvers integrate; None if every one brings its own.
    solvers : mapping
        From a name to a solver, or to a pair (process, solver).
    nfe : int or sequence of int
        Budgets: evaluations of the score for each sample.
    n : int
        Number of samples a run, at least 2.
    metrics : mapping
        From a name to a function of the samples (n, *D) at the end, that returns a number.
    times : callable or mapping, optional
        ``times(steps) -> Grid`` for all solvers, or a mapping from names to such functions.  A
        solver without one takes the uniform grid.
    rng : int, Generator, SeedSequence or None
        Seed, the same for all runs: they share their starts, and a record is what
        ``refsde.sample(process, solver, n, times=grid, rng=rng)`` gives, whatever else is run.
    workers : int
        Tasks at a time, through joblib (-1: as many as there are cores): processes, threads or a
        cluster, as ``joblib.parallel_config`` says.  The results are the same, whichever and
        however many.
    progress : bool
        Show a progress bar (needs tqdm).

    Returns
    -------
    WorkPrecision
        ``records``, ``table()``, ``to_dict()``; in ``skipped`` what a budget did not pay for, and
        solvers that refuse the SDE.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong; the message names it, its value and the remedy.
    ImportError
        If joblib is missing.

    Examples
    --------
    >>> import refsde as rs
    >>> law = rs.GaussianMixture.ring(8)
    >>> flow, far = rs.ProbabilityFlow(rs.VP(), law.score(rs.VP())), {"far": lambda x: abs(x).max()}
    >>> rs.measure.work_precision(flow, {"Heun": rs.Heun()}, 25, n=100, metrics=far).records[0].nfe
    24.0
    """
    budgets = [as_count(budget, "nfe", 1) for budget in np.atleast_1d(nfe).tolist()]
    n, pairs = as_count(n, "n", 2), _pairs(process, solvers)
    _check(budgets, metrics, workers)
    schedules = _schedules(pairs, times)
    try:
        from joblib import Parallel, delayed
    except ImportError as missing:  # pragma: no cover
        raise ImportError("sweeps need joblib: pip install 'refsde[experiments]'") from missing
    key = run_key(rng)
    tasks = [(name, budget) for name in pairs for budget in dict.fromkeys(budgets)]
    jobs = [
        delayed(_task)(name, *pairs[name], budget, n, dict(metrics), schedules[name], key)
        for name, budget in tasks
    ]
    outcomes: list[Record | str] = []
    with progress_bar(progress, sum(budget for _, budget in tasks), "nfe") as bar:
        # Results come in the order of the tasks, whoever finishes first.
        found: Iterator[Record | str] = Parallel(n_jobs=workers, return_as="generator")(jobs)
        for (_, budget), outcome in zip(tasks, found, strict=True):
            outcomes.append(outcome)
            if bar is not None:
                bar.update(budget)
    records = tuple(outcome for outcome in outcomes if isinstance(outcome, Record))
    notes = dict.fromkeys(outcome for outcome in outcomes if isinstance(outcome, str))
    return WorkPrecision(records, tuple(notes), n)


# -- one run --------------------------------------------------------------------------------------


@one_blas_thread()
def _task(
    name: str,
    process: Process,
    solver: Any,
    budget: int,
    n: int,
    metrics: dict[str, Metric],
    schedule: Schedule | None,
    key: int,
) -> Record | str:
    """Run one solver within one budget: a record, or why it was not run."""
    grid = schedule or _Uniform(process)
    try:
        if hasattr(solver, "bind"):
            solver.bind(process, grid(PROBES[0]).ts)
    except TypeError as wrong:  # not for this SDE
        return f"{name}: {wrong}"
    allowed = budget
    while fitted := _fit(process, solver, allowed, grid, Gaussian(key=key)):
        start = time.thread_time()
        chosen, when = fitted
        source = default_noise(when, key=key)
        solution = sample(process, chosen, n, times=when, noise=source)
        seconds = time.thread_time() - start
        used = spent(solution, when)
        if used <= budget:
            break
        # All samples in all steps cost more than the few that were tried.
        allowed = min(allowed - 1, int(allowed * budget / used))
    else:
        return f"{name} within {budget}: even its cheapest setting costs more"
    good = solution.x[solution.success]
    good.setflags(write=False)  # a measure that writes would spoil the next one
    values = {label: _value(label, metric, good) for label, metric in metrics.items()}
    nfe, success = float(solution.nfe.mean()), float(solution.success.mean())
    steps = when.n if isinstance(when, Grid) else round(float(solution.n_accepted.mean()))
    return Record(name, budget, nfe, steps, seconds, success, values)


def spent(solution: Solution, times: Times) -> float:
    """Evaluations that count against a budget: the most, or the mean where each sample differs."""
    adaptive = isinstance(times, Adaptive)
    return float(solution.nfe.mean()) if adaptive else int(solution.nfe.max())


@dataclass(frozen=True)
class _Uniform:
    """Equal steps of the process's own clock."""

    process: Process

    def __call__(self, steps: int) -> Grid:
        return Grid.uniform(self.process.sde, steps)


def _value(label: str, metric: Metric, x: Array) -> float:
    if len(x) < 2:
        return math.nan
    value = metric(x)
    if np.ndim(value) != 0:
        raise TypeError(f"`metrics`[{label!r}] must return one number, got shape {np.shape(value)}")
    return float(value)


def within_budget(
    process: Process,
    solver: Any,
    budget: int,
    *,
    times: Schedule | None = None,
    rng: Any = 0,
) -> tuple[Solver, Times] | None:
    """Solver and times that spend at most ``budget`` evaluations of the score on each sample.

    Parameters
    ----------
    process : Process
        What is integrated.
    solver : callable
        On a grid, it gets as many steps as the budget pays for.  One whose samples have steps of
        their own gets other tolerances, both by the same factor, until 64 samples stay within the
        budget on average; one that chooses its steps otherwise is asked for a setting that fits,
        ``solver.within(process, x, budget)``, on 256.  More samples may cost a little more.
    budget : int
        Evaluations of the score for each sample.
    times : callable, optional
        ``times(steps) -> Grid``; the uniform grid by default.
    rng : int, Generator, SeedSequence or None
        Seed of the samples that are tried.

    Returns
    -------
    (solver, times) or None
        None if even the cheapest setting costs more.

    Raises
    ------
    ValueError, TypeError
        If the budget is no positive int, more steps cost no more, or the solver refuses.

    Examples
    --------
    >>> import refsde as rs
    >>> flow = rs.ProbabilityFlow(rs.VP(), rs.GaussianMixture.ring(8).score(rs.VP()))
    >>> rs.measure.within_budget(flow, rs.Heun(), 25)[1]
    Grid(12 steps from 1 to 0.001)
    """
    grid = times or _Uniform(process)
    return _fit(process, solver, as_count(budget, "budget", 1), grid, Gaussian(rng))


def _fit(
    process: Process, solver: Any, budget: int, grid: Schedule, noise: Gaussian
) -> tuple[Solver, Times] | None:
    control = getattr(solver, "default_times", None)
    if isinstance(control, Adaptive):
        return _loosened(process, solver, control, budget, noise.key)
    if hasattr(solver, "within"):
        once = Grid.uniform(process.sde, 1)
        x = sample(process, _stay, PROBE, times=once, noise=noise).x
        within = solver.within(process, x, budget) if budget > 0 else None
        return None if within is None else (within, once)
    fixed, each = _cost(process, solver, grid, noise)
    steps = int((budget - fixed) // each)
    return (solver, grid(steps)) if steps >= getattr(solver, "least_steps", 1) else None


def _loosened(
    process: Process, solver: Any, times: Adaptive, budget: int, key: int
) -> tuple[Solver, Times] | None:
    """Adaptive solver with the tightest tolerances that fit, on a ladder of 16 rungs a decade.

    It ends at ten times the solver's own tolerances: beyond them the result has no meaning.
    """

    def rung(k: int) -> Any:
        factor = 10 ** (-k / 16)
        return replace(solver, rtol=factor * solver.rtol, atol=factor * solver.atol)

    def fits(k: int) -> bool:
        tried = rung(k)
        brief = replace(tried.default_times, max_steps=max(budget, 1))  # far too many end early
        solution = sample(process, tried, FEW, times=brief, noise=default_noise(brief, key=key))
        return bool(solution.success.all()) and spent(solution, times) <= budget

    low, high = -17, 65  # bisection between a rung that fits and one that does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return (rung(low), rung(low).default_times) if low >= -16 else None


def _stay(process: Process, state: State, s: Time, noise: Any) -> State:
    """Go nowhere: the start itself is what is wanted."""
    return state._replace(t=s)


def _cost(process: Process, solver: Any, grid: Schedule, noise: Gaussian) -> tuple[float, float]:
    """Evaluations that a run costs whatever its length, and with each step, as counted."""
    few, more = PROBES
    short, long = (sample(process, solver, 1, times=grid(k), noise=noise) for k in PROBES)
    if not (short.success[0] and long.success[0]):  # so coarse a grid may blow up, and end early
        return 0.0, float(short.nfe[0] / (short.n_accepted[0] + (not short.success[0])))
    each = (int(long.nfe[0]) - int(short.nfe[0])) / (more - few)
    if each <= 0:
        raise ValueError(
            f"`nfe` cannot be spent on {solver!r}: more steps cost no more evaluations "
            f"({short.nfe[0]} in {few} steps, {long.nfe[0]} in {more}); leave it out of the sweep"
        )
    return int(short.nfe[0]) - few * each, each


# -- the public boundary --------------------------------------------------------------------------


def _pairs(process: Process | None, solvers: Any) -> dict[str, tuple[Process, Solver]]:
    if not isinstance(solvers, Mapping) or not solvers:
        raise TypeError(
            f"`solvers` must map names to solvers, got {solvers!r}: pass {{'Heun': refsde.Heun()}}"
        )
    pairs: dict[str, tuple[Process, Solver]] = {}
    for name, entry in solvers.items():
        own, solver = entry if isinstance(entry, tuple) and len(entry) == 2 else (process, entry)
        if own is None:
            raise TypeError(
                f"`process` is None and `solvers`[{name!r}] brings none: pass (process, solver)"
            )
        try:
            check_accepts(solver, own)
        except TypeError as wrong:
            raise TypeError(f"`solvers`[{name!r}]: {wrong}, as a pair (process, solver)") from wrong
        pairs[str(name)] = (own, solver)
    return pairs


def _check(budgets: list[int], metrics: Any, workers: Any) -> None:
    if not budgets:
        raise ValueError("`nfe` must hold at least one budget, got none: pass [10, 20, 50]")
    good = isinstance(metrics, Mapping) and all(callable(metric) for metric in metrics.values())
    if not good or not metrics:
        raise TypeError(
            f"`metrics` must map names to functions of the samples, got {metrics!r}: pass "
            "{'F': lambda x: refsde.measure.frechet(x, law)}"
        )
    if isinstance(workers, bool) or not isinstance(workers, int) or workers == 0:
        raise ValueError(f"`workers` must be a non-zero int, as joblib's n_jobs, got {workers!r}")


def _schedules(pairs: Mapping[str, Any], times: Any) -> dict[str, Schedule | None]:
    if isinstance(times, Mapping):
        unknown = sorted(set(times) - set(pairs))
        if unknown:
            raise ValueError(
                f"`times` names {unknown}, not among `solvers` {sorted(pairs)}: rename"
            )
    own = {name: times.get(name) if isinstance(times, Mapping) else times for name in pairs}
    for name, schedule in own.items():
        if schedule is None or (callable(schedule) and isinstance(schedule(2), Grid)):
            continue
        raise TypeError(
            f"`times` must make a Grid of any number of steps, got {schedule!r} for {name!r}: pass "
            "lambda steps: refsde.Grid.power(sde, steps)"
        )
    return own
