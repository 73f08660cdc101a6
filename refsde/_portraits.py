"""Pictures of a race: errors against work, and samples beside the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from refsde.race import SOLVERS, Course, Race

__all__ = ["draw", "portrait"]

SHOWN = 400  # samples in a scatter plot
SHOWN_PICTURES = 36
_AXES = {
    "log_density_gap": "log-density gap (nats)",
    "dispersion": "dispersion (variance ratios)",
    "flow_rms": "RMS distance to the exact flow",
}


def draw(race: Race, folder: Path) -> Iterator[Path]:
    """Write ``race.png`` and ``samples.png`` to ``folder`` and yield their paths."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from refsde import plot

    shown = [name for name in ("log_density_gap", "dispersion", "flow_rms") if name in race.columns]
    shown = [
        name for name in shown if any(name in record.values for record in race.results.records)
    ]
    figure = Figure(figsize=(4.6 * len(shown) + 2.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(shown)))
    names = list(dict.fromkeys(record.solver for record in race.results.records))
    for ax, name in zip(axes, shown, strict=True):
        column = race.columns[name]
        has = [record for record in race.results.records if name in record.values]
        lines = {
            solver: tuple(np.array([[r.nfe, r.values[name]] for r in has if r.solver == solver]).T)
            for solver in dict.fromkeys(record.solver for record in has)
        }
        noise = None if name == "flow_rms" else abs(column.floor) + 2 * column.spread
        plot.work_precision(lines, _AXES[name], floor=noise, ax=ax, order=names)
        if ax.get_legend() is not None:
            ax.get_legend().remove()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    figure.suptitle(race.course.title())
    figure.savefig(folder / "race.png", dpi=130)
    yield folder / "race.png"

    yield _three(race, folder / "samples.png")


def _three(race: Race, file: Path) -> Path:
    """Draw samples of three solvers at a small budget, where one can still see the difference."""
    course, records = race.course, race.results.records
    budget = min({record.budget for record in records}, key=lambda budget: abs(budget - 20))
    ran = {record.solver: record for record in records if record.budget == budget}
    rows = {}
    for name in [name for name in ("em", "ddim", "heun") if name in ran] or list(ran)[:3]:
        gap = ran[name].values["log_density_gap"]
        title = f"{SOLVERS[name].says}\n{ran[name].nfe:.0f} evaluations, gap {gap:+.1f} nats"
        rows[title] = course.sample(name, budget, SHOWN).x
    return portrait(course, rows, file)


def portrait(course: Course, rows: Mapping[str, np.ndarray], file: Path) -> Path:
    """Write a picture of samples, a panel for each name, beside the data (or exact draws)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from refsde import plot

    side = math.isqrt(course.target.dim)
    pictures = side * side == course.target.dim and side >= 4
    known = course.data is not None
    first = {f"{course.name}, the data" if known else "exact draws": _some(course, SHOWN)}
    panels = {**first, **{name: x[:SHOWN] for name, x in rows.items()}}
    wide = 3.0 if pictures else 3.4
    figure = Figure(figsize=(wide * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (name, x) in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True
    ):
        if pictures:
            plot.images(x[:SHOWN_PICTURES], ax=ax)
        elif course.target.dim == 2:
            plot.density_2d(course.law, samples=x, ax=ax)
        else:
            ax.plot(x[:, 0], x[:, min(1, course.target.dim - 1)], ".", ms=3)
            ax.set(xlabel="first coordinate", ylabel="second coordinate")
        ax.set_title(name, fontsize="medium")
    figure.suptitle(f"{course.name} under {type(course.sde).__name__}")
    figure.savefig(file, dpi=130)
    return file


def _some(course: Course, n: int) -> np.ndarray:
    """Some of the real data, or exact draws where there are none."""
    if course.data is None:
        return np.asarray(course.law.sample(n, rng=course.rng + 7))
    rows = np.random.default_rng(course.rng).choice(
        len(course.data), min(n, len(course.data)), replace=False
    )
    return np.asarray(course.data[rows])
