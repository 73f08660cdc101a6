"""What the pictures share: colours, axes, and checks of what they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from refsde._array import to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK = COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
MARKERS = "osD^vPXp"
TIME_LABEL = "t  (0 = data, T = noise)"

Extent = tuple[float, float, float, float]


def some_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return ``ax``, or the axes of a new figure."""
    if ax is not None:
        if not hasattr(ax, "plot"):
            raise TypeError(
                f"`ax` must be one matplotlib Axes, got {type(ax).__name__}: pass axes[0]"
            )
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as missing:
        raise ImportError("pictures need matplotlib: pip install 'refsde[plot]'") from missing
    return plt.subplots(figsize=size, layout="constrained")[1]


def part_of_map(name: str, low: float, high: float) -> Colormap:
    """Part of a colour map, between two of its places in [0, 1]."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[name](np.linspace(low, high, 256)))


def centres(low: float, high: float, n: int) -> np.ndarray:
    """Midpoints (n,) of n equal pieces of an interval."""
    edges = np.linspace(low, high, count_of("n", n, least=2) + 1)
    return np.asarray(0.5 * (edges[:-1] + edges[1:]))


def points_of(name: str, x: Any, dim: int) -> np.ndarray:
    """Check samples (B, dim), as NumPy."""
    points = to_numpy(x) if hasattr(x, "shape") else np.asarray(x, dtype=float)
    if dim == 1 and points.ndim == 1:
        points = points[:, None]
    if points.ndim != 2 or points.shape[1] != dim or len(points) == 0:
        raise ValueError(f"`{name}` must have shape (B, {dim}), got {points.shape}: reshape it")
    return points


def count_of(name: str, value: Any, least: int = 1) -> int:
    """Check an int."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"`{name}` must be an int of at least {least}, got {value!r}")
    return int(value)


def note_outside(ax: Axes, outside: np.ndarray) -> None:
    """Write how many samples a picture leaves out, in its corner."""
    if outside.any():
        where: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "top"}
        ax.text(0.98, 0.98, f"{outside.sum()} samples outside", fontsize="small", **where)
