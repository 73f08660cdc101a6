"""Pictures of a race on a field: errors against work, and samples side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refsde.field_race import FieldRace, FieldRecord, shown

__all__ = ["draw_field"]

TOP = 2.0  # of the axis of relative errors: beyond it a sampler has failed
TITLES = {
    "exact": "exact draw",
    "pds": "published filter",
    "scalar": "scalar rule",
    "matched": "step-matched filter",
    "noise-matched": "noise-matched filter",
}
GREYS = 32  # of the picture of samples: noise does not compress


def draw_field(race: FieldRace, folder: Path) -> Iterator[Path]:
    """Write ``field_race.png`` and ``fields.png`` to ``folder`` and yield their paths."""
    yield _lines(race, folder / "field_race.png")
    yield _samples(race, folder / "fields.png")


def _lines(race: FieldRace, file: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from refsde import plot

    figure = Figure(figsize=(11.4, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(record.solver for record in race.records))
    columns = {"relative_w2": "relative W2", "kl": "KL (nats a coefficient)"}
    for ax, (column, label) in zip(figure.subplots(1, 2), columns.items(), strict=True):
        lines = {
            name: tuple(
                np.array([[r.nfe, getattr(r, column)] for r in race.records if r.solver == name]).T
            )
            for name in names
        }
        plot.work_precision(lines, label, ax=ax, order=names)
        if ax.get_ylim()[1] > TOP:
            ax.set_ylim(top=TOP)
        ax.get_legend().remove()
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    figure.suptitle(f"{race.course.title()}: exact, by recursion")
    figure.savefig(file, dpi=130)
    return file


def _samples(race: FieldRace, file: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image  # matplotlib's own

    records = {(record.solver, record.budget): record for record in race.records}
    pictures = race.pictures
    names = shown(list(dict.fromkeys(name for name, _ in pictures)))
    down = sorted({budget for _, budget in pictures})
    size = (1.75 * (1 + len(names)) + 0.4, 2.0 * max(1, len(down)) + 0.4)
    figure = Figure(figsize=size, layout="constrained", dpi=105)
    canvas: Any = FigureCanvasAgg(figure)
    panels: Any = figure.subplots(len(down), 1 + len(names), squeeze=False) if down else []
    for budget, axes in zip(down, panels, strict=True):
        ran = [name for name in names if (name, budget) in pictures]
        _show(axes[0], pictures[ran[0], budget].exact, "the same noise")
        axes[0].set_ylabel(f"{budget} evaluations")
        for name, ax in zip(names, axes[1:], strict=True):
            if name in ran:
                _show(ax, pictures[name, budget].sample, _says(records[name, budget]))
            else:
                ax.set_axis_off()
    for name, ax in zip(["exact", *names], panels[0] if down else [], strict=True):
        ax.set_title(TITLES.get(name, name), fontsize="medium")
    figure.suptitle(f"{race.course.title()}: one channel")
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    Image.fromarray(pixels).quantize(GREYS).save(file, optimize=True)
    return file


def _says(record: FieldRecord) -> str:
    error = record.relative_w2
    return f"relative W2 {f'{error:.2g}' if error < 10 else f'{error:.0f}'}"


def _show(ax: Any, picture: np.ndarray, says: str) -> None:
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
    ax.set(xticks=[], yticks=[], xlabel=says)
