"""Picture of a table of orders: errors against steps, a panel for each kind of error."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refsde.orders import KINDS, OrderTable

__all__ = ["draw_orders"]


def draw_orders(result: OrderTable, file: Path) -> Path:
    """Write the picture to ``file`` and return its path."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from refsde import plot

    rows = [row for row in result.rows if row.order is not None and _drawable(row.order.errors)]
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
    names = list(dict.fromkeys(row.solver for row in rows))
    figure = Figure(figsize=(6.6 * max(1, len(kinds)), 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    for i, kind in enumerate(kinds):
        ax = figure.add_subplot(1, len(kinds), i + 1)
        found = {row.solver: row.order for row in rows if row.kind == kind}
        plot.order(found, ax=ax, order=names)
    figure.suptitle(result.problem.title())
    figure.savefig(file, dpi=130)
    return file


def _drawable(errors: np.ndarray) -> bool:
    return bool(np.any(np.isfinite(errors) & (errors > 0)))
