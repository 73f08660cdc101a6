"""The race on images: samplers with and without preconditioning, on a Gaussian random field.

A million pixels are too many for the measures of `refsde.race`, and need none of them: on a
Gaussian field the law of what a sampler returns is known coefficient by coefficient
(`refsde.exact.law`), so that its errors are computed, not estimated.  A few samples are drawn all
the same, to be looked at, and to see that the samplers do what their recursion says.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from refsde._field_racers import RACERS, SIGMA_MIN, SPECTRA, Entrant, FieldCourse
from refsde._progress import progress_bar
from refsde.exact._kinds import coefficients
from refsde.exact.field import FieldLaw

__all__ = [
    "BUDGETS",
    "RACERS",
    "SPECTRA",
    "Entrant",
    "FieldCourse",
    "FieldRace",
    "FieldRecord",
    "Pictures",
    "run",
]

BUDGETS = (10, 20, 33, 66, 133, 200)
SHOWN = ("vanilla", "pds", "scalar", "matched", "noise-matched")  # in the picture, if they race
ROWS = (10, 20, 66)  # of the picture, if there are more budgets: the nearest to these
CHECK = 20  # the budget nearest to it is where every racer draws samples
PIXELS = 256  # edge of a picture, at most


@dataclass(frozen=True)
class FieldRecord:
    """One racer within one budget.

    Attributes
    ----------
    solver : str
        Its name.
    budget, nfe, iterations : int
        Evaluations of the score allowed and used, and iterations, for one sample.
    relative_w2, kl : float
        Exact errors: W2 over the data's root total variance, and KL in nats a coefficient.
    octaves : tuple of float
        Exact ratios of variance to the data's, octave by octave from |k| = 1.
    overshoots : bool
        Whether a filtered step goes past the mean it is drawn to: see `Preconditioned`.
    z : tuple of float or None
        Power of the drawn samples less what the recursion says, in standard errors, by octave;
        None where nothing was drawn.
    seconds : float or None
        CPU time a sample.  Records that differ in nothing else are equal.
    """

    solver: str
    budget: int
    nfe: int
    iterations: int
    relative_w2: float
    kl: float
    octaves: tuple[float, ...]
    overshoots: bool = False
    z: tuple[float, ...] | None = None
    seconds: float | None = field(default=None, compare=False)

    @property
    def worst_z(self) -> float:
        """Largest |z| of all octaves; nan where nothing was drawn."""
        return math.nan if self.z is None else max(map(abs, self.z))


@dataclass(frozen=True, eq=False)
class Pictures:
    """One channel of a sample, and the exact draw nearest to it, as bytes (h, w)."""

    sample: np.ndarray
    exact: np.ndarray


@dataclass(frozen=True, eq=False)
class FieldRace:
    """Outcome: a record for every racer and budget, and some pictures.

    Attributes
    ----------
    course : FieldCourse
        What was raced on.
    records : tuple of FieldRecord
        In the order of racers and then budgets.
    skipped : tuple of str
        What was not run, and why.
    pictures : mapping of (name, budget) to Pictures
        Of those that are shown.
    """

    course: FieldCourse
    records: tuple[FieldRecord, ...]
    skipped: tuple[str, ...] = ()
    pictures: Mapping[tuple[str, int], Pictures] = field(default_factory=dict, repr=False)

    def table(self) -> str:
        """Text: the racers of every budget, smallest distance first."""
        octaves = len(self.records[0].octaves)
        head = f"{'solver':<15}{'NFE':>6}{'iterations':>12}{'relative W2':>14}{'KL':>12}"
        lines = [self.course.title(), "", f"{head}{'max |z|':>10}{'s/sample':>10}"]
        for budget in sorted({record.budget for record in self.records}):
            lines.append(f"-- budget {budget}")
            group = [record for record in self.records if record.budget == budget]
            for r in sorted(group, key=lambda record: record.relative_w2):
                drawn = f"{r.worst_z:>10.1f}{r.seconds:>10.3g}" if r.z else f"{'-':>10}{'-':>10}"
                lines.append(
                    f"{r.solver:<15}{r.nfe:>6}{r.iterations:>12}"
                    f"{r.relative_w2:>14.4g}{'!' if r.overshoots else ' '}{r.kl:>11.3g}{drawn}"
                )
        samples = f"{self.course.n} sample{'' if self.course.n == 1 else 's'}"
        lines += [
            "",
            "relative W2, and KL in nats a coefficient, are exact, by recursion; all start at the "
            "prior, whose",
            "error is what noise-matched is left with",
            f"max |z|: power of {samples} in {octaves} octaves less the recursion's, in standard "
            "errors",
            "! a filtered step overshoots, u (sigma_t² - sigma_s²) / V_t > 1: take more steps",
        ]
        return "\n".join([*lines, *(f"not run: {note}" for note in self.skipped)])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, ready for JSON."""
        course = self.course
        setting = {
            "target": "field",
            "size": course.size,
            "spectrum": course.spectrum,
            "sigma_min": SIGMA_MIN,
            "sigma_max": course.sigma_max,
            "snr": course.snr,
            "n": course.n,
            "rng": course.rng,
        }
        records = [asdict(record) for record in self.records]
        return {**setting, "records": records, "skipped": list(self.skipped)}


def run(
    course: FieldCourse,
    names: Sequence[str] = tuple(RACERS),
    budgets: Sequence[int] = BUDGETS,
    *,
    workers: int = 1,
    progress: bool = False,
) -> FieldRace:
    """Race ``names`` within every budget.

    Parameters
    ----------
    course : FieldCourse
        What to race on.
    names : sequence of str
        Keys of `RACERS`.
    budgets : sequence of int
        Evaluations of the score a sample.
    workers : int
        Processes at a time (joblib); the results are the same for any number.
    progress : bool
        Show a progress bar.

    Returns
    -------
    FieldRace

    Raises
    ------
    ValueError
        If a name is unknown, or nothing can run within the budgets.

    Examples
    --------
    >>> from refsde import field_race
    >>> race = field_race.run(field_race.FieldCourse(8), ["vanilla", "scalar"], [20])
    >>> [round(record.relative_w2, 3) for record in race.records]
    [0.219, 0.039]
    """
    for name in names:
        if name not in RACERS:
            raise ValueError(f"no racer {name!r}: choose from {', '.join(RACERS)}")
    tasks = [(name, budget) for name in names for budget in budgets]
    records, skipped, pictures = [], [], {}
    with progress_bar(progress, sum(budget for _, budget in tasks), "nfe") as bar:
        found = _each(course, tasks, _to_draw(names, budgets), workers)
        for (name, budget), (result, shown) in zip(tasks, found, strict=True):
            if isinstance(result, str):
                skipped.append(result)
            else:
                records.append(result)
            if shown is not None:
                pictures[name, budget] = shown
            if bar is not None:
                bar.update(budget)
    if not records:
        raise ValueError(f"nothing could be raced: {'; '.join(skipped)}")
    return FieldRace(course, tuple(records), tuple(skipped), pictures)


def shown(names: Sequence[str]) -> list[str]:
    """Racers in the picture: the usual ones, or the first few if none of these runs."""
    return [name for name in SHOWN if name in names] or list(names)[: len(SHOWN)]


def rows(budgets: Sequence[int]) -> list[int]:
    """Budgets of the picture, ascending: a few small ones, where one can see a difference."""
    few = len(set(budgets)) <= len(ROWS)
    return sorted(set(budgets) if few else {_nearest(budgets, row) for row in ROWS})


def _nearest(budgets: Sequence[int], wanted: int) -> int:
    return min(budgets, key=lambda budget: abs(math.log(budget / wanted)))


def _to_draw(names: Sequence[str], budgets: Sequence[int]) -> dict[tuple[str, int], bool]:
    """Which tasks draw samples, and whether these are shown."""
    check = {(name, _nearest(budgets, CHECK)): False for name in names}
    return check | {(name, budget): True for name in shown(names) for budget in rows(budgets)}


def _each(
    course: FieldCourse,
    tasks: list[tuple[str, int]],
    draw: dict[tuple[str, int], bool],
    workers: int,
) -> Iterator[tuple[FieldRecord | str, Pictures | None]]:
    """Results of the tasks, in their order."""
    jobs = [(course, name, budget, draw.get((name, budget))) for name, budget in tasks]
    if workers == 1 or len(tasks) < 2:
        return (_measure(*job) for job in jobs)
    try:
        from joblib import Parallel, delayed
    except ImportError as missing:  # pragma: no cover
        raise ImportError(
            "`workers` > 1 needs joblib: pip install 'refsde[experiments]', or pass workers=1"
        ) from missing
    found: Iterator[tuple[FieldRecord | str, Pictures | None]] = Parallel(
        n_jobs=workers, return_as="generator"
    )(delayed(_measure)(*job) for job in jobs)
    return found


def _measure(
    course: FieldCourse, name: str, budget: int, draw: bool | None
) -> tuple[FieldRecord | str, Pictures | None]:
    """Record of one racer within one budget, or why there is none; with its pictures, if shown."""
    steps = budget // RACERS[name].cost
    if steps == 0:
        return f"{name} within {budget}: an iteration costs {RACERS[name].cost}", None
    try:
        law, overshoots = course.law(name, steps)
    except ValueError as problem:
        return f"{name} within {budget}: {problem}", None
    octaves = tuple(law.octaves().tolist())
    record = FieldRecord(
        name, budget, law.nfe, steps, law.relative_w2(), law.kl(), octaves, overshoots
    )
    if draw is None:
        return record, None
    began = time.thread_time()
    x = course.sample(name, steps)
    seconds = (time.thread_time() - began) / len(x)
    record = replace(
        record,
        z=tuple(law.octave_z(x.reshape(-1, *law.target.event_shape)).tolist()),
        seconds=seconds,
    )
    if not draw:
        return record, None
    low, high = SPECTRA[course.spectrum][1]
    first = x[0, :1]
    pictures = [_bytes(y[0], low, high) for y in (first, _carried(law, first))]
    return record, Pictures(*pictures)


def _carried(law: FieldLaw, x: np.ndarray) -> np.ndarray:
    """Carry a sample ``x`` of ``law`` to the data law, the shortest way: it is then an exact draw.

    Each coefficient is scaled by the ratio of standard deviations.
    """
    target, basis = law.target, law.target.basis
    centre = basis.kept(coefficients(basis, target.mean))
    scale = np.sqrt(basis.kept(target.spectrum) / basis.kept(law.variance))
    gaps = basis.forward(x) - basis.kept(law.mean)
    return np.asarray(basis.backward(gaps * scale + centre, target.event_shape))


def _bytes(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Bytes of an image (h, w) that is black at ``low``; pixels are joined if they are too many."""
    edge = len(image)
    k = -(-edge // PIXELS)
    image = image[: edge - edge % k, : edge - edge % k]
    small = image.reshape(edge // k, k, edge // k, k).mean(axis=(1, 3))
    grey = np.clip((small - low) / (high - low), 0, 1)
    return np.asarray(np.rint(255 * grey).astype(np.uint8))


def estimate(
    course: FieldCourse, names: Sequence[str], budgets: Sequence[int], workers: int
) -> float:
    """Seconds that a race will take on an idle machine, from the time of a step of a sample."""
    one = replace(course, n=1)
    start = time.thread_time()
    one.sample("vanilla", 2)
    once = 0.5 * (time.thread_time() - start)
    steps = sum(budget * (course.n or 1) for _, budget in _to_draw(names, budgets))
    work = once * (1.6 * steps + 3 * len(names) * len(budgets))
    return 3 + work / min(workers, os.cpu_count() or 1)
