"""The race: every solver at equal budgets of score evaluations, on a target whose score is exact.

Nothing is learned and nothing estimated: the data law is a mixture, its diffused score and density
are known, so what remains is the error of the solver (and the chance of a finite sample, which the
noise floor measures).  The command line is in ``refsde.__main__``; this is the experiment.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from refsde import exact, measure
from refsde._types import SDE, Process
from refsde.integrate import sample
from refsde.noise import Gaussian
from refsde.process import ProbabilityFlow, ReverseSDE
from refsde.racers import GRIDS, SOLVERS, Entry
from refsde.solution import Solution
from refsde.times import Grid

__all__ = ["GRIDS", "SOLVERS", "Course", "Entry", "Race", "estimate", "run"]

FLOW_ROWS = 256  # samples whose distance to the exact flow is measured
FLOW_RTOL = 1e-8


@dataclass(frozen=True, eq=False)
class Course:
    """What everyone runs on: a target, an SDE, a grid, a number of samples and a seed.

    Attributes
    ----------
    target : GaussianMixture
        Law of the data.
    sde : SDE
        What diffuses it.
    n : int
        Number of samples.
    rng : int
        Seed, the same for every solver: they share their starts and noises.
    grid : str
        Key of `GRIDS`; "auto" is for every solver the grid that it was published on.
    name : str
        Of the target, for titles.
    data : array (N, d) or None
        The real data behind the target, for pictures.
    """

    target: Any
    sde: SDE
    n: int
    rng: int = 0
    grid: str = "auto"
    name: str = "target"
    data: np.ndarray | None = None

    @property
    def law(self) -> Any:
        """Exact law of the samples: that of the target diffused to t_end."""
        return self.target.at(self.sde, self.sde.t_end)

    def process(self, name: str) -> Process:
        """Process the solver ``name`` runs on."""
        made = ReverseSDE if SOLVERS[name].kind == "reverse" else ProbabilityFlow
        return made(self.sde, self.target.score(self.sde, fast=True))

    def times(self, name: str) -> Callable[[int], Grid]:
        """Grid of any number of steps: the course's own, or else what the solver is known on."""
        own = SOLVERS[name].grid if self.grid == "auto" else self.grid
        return partial(GRIDS[own], self.sde)

    def starts(self, n: int) -> np.ndarray:
        """States (n, d) at T from which the first ``n`` samples of every run set out."""
        z = Gaussian(self.rng).on(np.arange(n)).start(np.zeros((n, self.target.dim)))
        return np.asarray(self.sde.prior_std * z)

    def sample(self, name: str, budget: int, n: int, **options: Any) -> Solution:
        """Draw ``n`` samples with the solver ``name`` within a budget; options go to `sample`."""
        process, solver = self.process(name), SOLVERS[name].make(self.sde)
        times = self.times(name)
        fitting = measure.within_budget(process, solver, budget, times=times, rng=self.rng)
        if fitting is None:
            raise ValueError(
                f"`budget` = {budget} is less than the cheapest setting of {name} costs: allow more"
            )
        return sample(process, fitting[0], n, times=fitting[1], rng=self.rng, **options)

    def title(self) -> str:
        """One line: what is raced on what."""
        target = f"{self.name} (K = {self.target.n_components}, d = {self.target.dim})"
        return f"{target} under {type(self.sde).__name__}, n = {self.n}, to t = {self.sde.t_end:g}"


@dataclass(frozen=True)
class Measure:
    """One column of the table.

    Attributes
    ----------
    label : str
        Heading, and axis label.
    value : callable
        ``value(x) -> float`` for samples x (n, d) at t_end.
    floor, spread : float
        Mean and standard deviation of the value on exact draws, at the same n.
    """

    label: str
    value: Callable[[np.ndarray], float]
    floor: float
    spread: float

    def chance(self, value: float) -> bool:
        """Whether exact draws of this size would show as much, to three standard deviations."""
        return abs(value) <= abs(self.floor) + 3 * self.spread


@dataclass(frozen=True, eq=False)
class _Gap:
    """Log-density gap to an expectation that is estimated once, not at every run."""

    law: Any
    expected: float

    def __call__(self, x: np.ndarray) -> float:
        return float(np.mean(self.law.logpdf(x))) - self.expected


def _alone(value: Callable[[np.ndarray], float]) -> Callable[[Any, Any], float]:
    """Return a measure of a sample as `noise_floor` calls it, with the law beside."""
    return lambda x, law: value(x)


def measures(
    law: Any, n: int, reference: Callable[[np.ndarray], float] | None, rng: int = 1
) -> dict[str, Measure]:
    """Errors against the exact law ``law`` at t_end, sharp ones first, each with its noise floor.

    Parameters
    ----------
    law : GaussianMixture
        Exact law of the samples.
    n : int
        Sample size.
    reference : callable or None
        Distance to the exact flow of the same starts, for flow solvers.
    rng : int
        Seed of the exact draws.
    """
    exact_draws = law.sample(
        n, rng=np.random.default_rng(np.random.SeedSequence(rng, spawn_key=(99,)))
    )
    many = law.sample(max(n, 2**16 if law.dim <= 64 else n), rng=rng + 1)
    against: dict[str, tuple[str, Callable[[np.ndarray], float]]] = {
        "log_density_gap": ("log-density gap", _Gap(law, float(np.mean(law.logpdf(many))))),
        "dispersion": ("dispersion", partial(measure.dispersion, target=law)),
        "mode_weights": ("mode weights", partial(measure.mode_weight_error, target=law)),
        "frechet": ("Fréchet", partial(measure.frechet, y=law)),
        "sliced_wasserstein": ("sliced W2", partial(measure.sliced_wasserstein, y=exact_draws)),
    }
    columns = {}
    for name, (label, value) in against.items():
        floor = measure.noise_floor(_alone(value), law, n, rng=rng, against="target")
        # a signed measure has mean zero on exact draws: its floor is its spread
        signed = name == "log_density_gap"
        columns[name] = Measure(label, value, 0.0 if signed else floor.mean, floor.std)
    if reference is not None:
        columns["flow_rms"] = Measure("flow RMS", reference, FLOW_RTOL, 0.0)
        order = [
            "log_density_gap",
            "dispersion",
            "mode_weights",
            "flow_rms",
            "frechet",
            "sliced_wasserstein",
        ]
        columns = {name: columns[name] for name in order}
    return columns


@dataclass(frozen=True, eq=False)
class Race:
    """Outcome: one record for every solver and budget, and what each error is worth.

    Attributes
    ----------
    course : Course
        What was raced on.
    columns : mapping of str to Measure
        The errors, with their noise floors.
    results : WorkPrecision
        ``results.records`` hold solver, budget, NFE used, seconds and values.
    """

    course: Course
    columns: Mapping[str, Measure]
    results: Any

    def table(self) -> str:
        """Text: the floor, then the solvers of every budget, best log-density gap first.

        A star marks an error that exact draws of the same number show too.
        """
        head = [f"{'solver':<23} {'NFE':>5}"]
        head += [f"{column.label:>16}" for column in self.columns.values()]
        lines = [self.course.title(), "", "".join(head) + f"{'seconds':>10}"]
        floor = "".join(f"{_floor(column):>16}" for column in self.columns.values())
        lines.append(f"{'exact draws':<23} {'-':>5}{floor}")
        for budget in sorted({record.budget for record in self.results.records}):
            lines.append(f"-- budget {budget}")
            group = [record for record in self.results.records if record.budget == budget]
            for record in sorted(group, key=_rank):
                cells = [self._cell(name, record) for name in self.columns]
                lines.append(
                    f"{record.solver:<23} {record.nfe:>5.0f}{''.join(cells)}{record.seconds:>10.2f}"
                )
        starred = "* no larger than exact draws of the same number show (three standard deviations)"
        lines += ["", starred, *(f"not run: {note}" for note in self.results.skipped)]
        return "\n".join(lines)

    def _cell(self, name: str, record: Any) -> str:
        value = record.values.get(name, math.nan)
        if math.isnan(value):
            return f"{'-':>16}"
        star = "*" if self.columns[name].chance(value) else " "
        return f"{value:>15.4g}{star}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, ready for JSON."""
        floors = {
            name: {"label": c.label, "floor": c.floor, "spread": c.spread}
            for name, c in self.columns.items()
        }
        course = self.course
        setting = {"target": course.name, "sde": repr(course.sde), "n": course.n, "rng": course.rng}
        return {**setting, "grid": course.grid, "floors": floors, **self.results.to_dict()}


def _floor(column: Measure) -> str:
    if column.floor == 0:
        return f"+-{column.spread:.2g} "
    return f"{column.floor:.4g} "


def _rank(record: Any) -> float:
    gap = abs(record.values.get("log_density_gap", math.nan))
    return math.inf if math.isnan(gap) else gap


def run(
    course: Course,
    names: Sequence[str],
    budgets: Sequence[int],
    *,
    workers: int = 1,
    progress: bool = False,
) -> Race:
    """Race the solvers ``names`` of `SOLVERS` within every budget.

    Parameters
    ----------
    course : Course
        What to race on.
    names : sequence of str
        Keys of `SOLVERS`.
    budgets : sequence of int
        Evaluations of the score a sample.
    workers : int
        Tasks at a time (joblib); the results are the same for any number.
    progress : bool
        Show a progress bar.
    """
    flows = [name for name in names if SOLVERS[name].kind == "flow"]
    columns = measures(course.law, course.n, _to_flow(course) if flows else None)
    runners = {name: (course.process(name), SOLVERS[name].make(course.sde)) for name in names}
    results = measure.work_precision(
        None,
        runners,
        budgets,
        n=course.n,
        metrics={name: column.value for name, column in columns.items()},
        times={name: course.times(name) for name in names},
        rng=course.rng,
        workers=workers,
        progress=progress,
    )
    # Samplers with noise have no flow to be compared with.
    records = tuple(
        record
        if record.solver in flows
        else replace(record, values={k: v for k, v in record.values.items() if k != "flow_rms"})
        for record in results.records
    )
    return Race(course, columns, replace(results, records=records))


@dataclass(frozen=True, eq=False)
class _ToFlow:
    """Root mean square distance of the first samples to the exact flow of their starts."""

    ends: np.ndarray

    def __call__(self, x: np.ndarray) -> float:
        if len(x) < len(self.ends):  # a sample was lost: rows no longer match
            return math.nan
        gaps = x[: len(self.ends)] - self.ends
        return float(np.sqrt(np.mean(np.sum(gaps * gaps, axis=1))))


def _to_flow(course: Course) -> _ToFlow:
    starts = course.starts(min(FLOW_ROWS, course.n))
    sde = course.sde
    return _ToFlow(exact.flow(sde, course.target, starts, sde.T, sde.t_end, rtol=FLOW_RTOL))


def estimate(course: Course, names: Sequence[str], budgets: Sequence[int], workers: int) -> float:
    """Seconds that a race will take, from the time of one evaluation of the score."""
    score, x = course.target.score(course.sde, fast=True), course.starts(course.n)
    score(x, course.sde.T)
    start = time.perf_counter()
    score(x, 0.5 * course.sde.T)
    once = time.perf_counter() - start
    work = once * sum(budgets) + len(budgets) * (12 * once + 0.02)  # runs and their measures
    return 5 + len(names) * work / min(workers, os.cpu_count() or 1)
