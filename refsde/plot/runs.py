"""Pictures of what a run gave: paths, errors against work, images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from refsde._array import Array, to_numpy
from refsde.plot._style import BLUE, COLOURS, MARKERS, TIME_LABEL, count_of, some_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["images", "paths", "work_precision"]


def paths(
    solution: Any,
    *,
    dims: int | tuple[int, int] | None = None,
    n: int = 50,
    highlight: int = 3,
    ax: Axes | None = None,
) -> Axes:
    """Draw the ways that samples took: a coordinate against time, or two of them in the plane.

    Parameters
    ----------
    solution : Solution or Path
        With the states on the way: ``refsde.sample(..., keep="all")``.
    dims : int or (int, int), optional
        Which coordinate to draw against t, or which two in the plane; by default 0 where samples
        are numbers, else (0, 1).  Coordinates of an event of several axes count row by row.
    n : int
        How many samples to draw, the first ones.
    highlight : int
        How many of them in a strong colour, to follow with the eye.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If nothing was kept, or a coordinate does not exist.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.1, 0.1])
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> ax = rs.plot.paths(rs.sample(process, rs.EulerMaruyama(), 20, times=100, rng=0, keep="all"))
    """
    path = getattr(solution, "path", solution)
    if path is None or not hasattr(path, "x") or not hasattr(path, "t"):
        raise ValueError(
            f"`solution` ({type(solution).__name__}) holds no path: sample with keep='all'"
        )
    t, x = np.asarray(path.t, dtype=float), to_numpy(path.x)
    x = x.reshape(*x.shape[:2], -1)[:, : count_of("n", n)]  # (m, n, d)
    t = np.broadcast_to(t[:, None] if t.ndim == 1 else t[:, :n], x.shape[:2])
    d = x.shape[2]
    dims = ((0, 1) if d > 1 else 0) if dims is None else dims
    chosen = dims if isinstance(dims, tuple) else (dims,)
    good = all(isinstance(i, int | np.integer) and 0 <= i < d for i in chosen)
    if not (good and len(chosen) in (1, 2)):
        raise ValueError(f"`dims` must be a coordinate, or two, below {d}, got {dims!r}")
    names = [f"x[{i}]" if d > 1 else "x" for i in chosen]
    across, up = (t, x[:, :, chosen[0]]) if len(chosen) == 1 else (x[:, :, i] for i in chosen)
    plane = len(chosen) == 2
    bold = min(count_of("highlight", highlight, least=0), x.shape[1])
    ax = some_axes(ax, (5.0, 4.6) if plane else (6.0, 3.5))
    faint = 0.25 if plane else 0.45  # in the plane lines cross more
    ax.plot(across[:, bold:], up[:, bold:], color="0.35", lw=0.7, alpha=faint)
    for i in range(bold):
        ax.plot(across[:, i], up[:, i], color=COLOURS[1 + i % 6], lw=1.4)
    if plane:
        _mark_ends(ax, t, across, up)
        ax.set(xlabel=names[0], ylabel=names[1], aspect="equal")
    else:
        ax.set(xlabel=TIME_LABEL, ylabel=names[0])
    return ax


def work_precision(
    results: Any,
    metric: str,
    *,
    floor: Any = None,
    ax: Axes | None = None,
    label: Callable[[Any], str] = str,
    order: Sequence[Any] | None = None,
) -> Axes:
    """Draw error against work on log scales, one line a solver.

    Work is NFE, evaluations of the score for each sample.  A signed metric is drawn by its
    magnitude, which the axis then says, with hollow marks where it is negative; values that are
    zero or not finite are left out and counted in the legend.

    Parameters
    ----------
    results : object or mapping
        What ``refsde.measure.work_precision`` returns (``.records``, each with ``solver``, ``nfe``
        and ``values``), or a mapping from solver to ``(nfes, errors)``.
    metric : str
        Which of the values; with a mapping, the name on the axis.
    floor : float or Floor, optional
        The metric between exact draws of the same size (``refsde.measure.noise_floor``).  Below it,
        or below its mean plus two standard deviations, nothing can be told: that band is shaded.
    ax : Axes, optional
        Where to draw; a new figure by default.
    label : callable
        Makes a solver's name in the legend.
    order : sequence, optional
        All solvers, so that each keeps its colour and mark in pictures that show only some of them.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there is nothing to draw, or no such metric.

    Examples
    --------
    >>> import refsde as rs
    >>> results = {"Euler": ([10, 20], [0.4, 0.2]), "Heun": ([10, 20], [0.2, 0.05])}
    >>> ax = rs.plot.work_precision(results, "W1", floor=0.02)
    """
    lines = _lines(results, metric)
    signed = any(np.any(values < 0) for _, values in lines.values())
    drawable = np.concatenate([values for _, values in lines.values()])
    if not np.any(np.isfinite(drawable) & (drawable != 0)):
        raise ValueError(
            f"`results` holds no finite non-zero {metric!r}: nothing fits on a log scale"
        )
    top = None if floor is None else _top_of(floor)
    ax = some_axes(ax, (6.0, 4.2))
    places = list(lines) if order is None else [*order, *(s for s in lines if s not in order)]
    for solver, (nfe, values) in lines.items():
        i = places.index(solver)
        good = np.isfinite(values) & (values != 0)
        lost = f" ({np.count_nonzero(~good)} not drawn)" if not good.all() else ""
        style: dict[str, Any] = {"color": COLOURS[i % 7], "marker": MARKERS[i % 8], "ms": 6}
        name = label(solver) + lost
        line: dict[str, Any] = {
            "lw": 1.6,
            "ls": "-" if i < 7 else "--",
        }  # the eighth has the first one's colour
        ax.plot(nfe[good], np.abs(values[good]), mec="white", mew=0.6, label=name, **line, **style)
        below = good & (values < 0)
        if below.any():
            ax.plot(nfe[below], -values[below], ls="", mfc="white", label="_negative", **style)
    ax.set(xscale="log", yscale="log", xlabel="NFE  (score evaluations a sample)")
    ax.set_ylabel(f"|{metric}|  (magnitude; hollow: negative)" if signed else metric)
    _plain_ticks(ax, np.concatenate([nfe for nfe, _ in lines.values()]))
    if top is not None:
        low = min(ax.get_ylim()[0], top / 2)
        ax.axhspan(low, top, color="0.85", zorder=0, label="noise floor: exact draws, same size")
        ax.set_ylim(bottom=low)
    ax.grid(True, which="major", color="0.88", lw=0.8)
    ax.set_axisbelow(True)
    ax.legend(fontsize="small")
    return ax


def images(
    x: Array,
    *,
    size: tuple[int, int] | None = None,
    columns: int | None = None,
    ax: Axes | None = None,
    titles: Sequence[str] | None = None,
    cmap: str = "gray",
) -> Axes:
    """Show grey images with values in [-1, 1] side by side, row by row.

    Parameters
    ----------
    x : array (n, h * w) or (n, h, w)
        The images; what lies beyond [-1, 1] is shown as its end.
    size : (h, w), optional
        Height and width of flat images; square by default.
    columns : int, optional
        How many in a row; about as many as rows by default.
    ax : Axes, optional
        Where to draw; a new figure by default.
    titles : sequence of n str, optional
        Written above the images.
    cmap : str
        "gray": 1 is white.  "gray_r": 1 is black.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the shape is not that of images, or titles are too few or too many.

    Examples
    --------
    >>> import refsde as rs
    >>> X, labels = rs.targets.digits()
    >>> ax = rs.plot.images(X[:10], columns=5, titles=[str(k) for k in labels[:10]])
    """
    tiles = _tiles(to_numpy(x), size)
    count, h, w = tiles.shape
    if titles is not None and len(titles) != count:
        raise ValueError(f"`titles` must hold {count} names, one an image, got {len(titles)}")
    across = (
        math.ceil(math.sqrt(count)) if columns is None else min(count_of("columns", columns), count)
    )
    down = -(-count // across)
    gap = max(1, round(0.08 * w))
    head = max(1, round(0.34 * h)) if titles is not None else gap  # room for a line of text
    sheet = np.full((down * (h + head) + gap, across * (w + gap) + gap), np.nan)
    corners = [
        (head + r * (h + head), gap + c * (w + gap)) for r in range(down) for c in range(across)
    ]
    for tile, (top, left) in zip(tiles, corners, strict=False):
        sheet[top : top + h, left : left + w] = tile
    ax = some_axes(ax, (0.9 * across + 0.2, 0.9 * down * (h + head) / (w + gap) + 0.2))
    ax.imshow(sheet, cmap=cmap, vmin=-1.0, vmax=1.0, interpolation="nearest")  # NaN: transparent
    for title, (top, left) in zip(titles or (), corners, strict=False):
        ax.text(left + w / 2 - 0.5, top - 0.8, title, ha="center", va="bottom", fontsize="small")
    ax.set_axis_off()
    return ax


def _mark_ends(ax: Axes, t: np.ndarray, across: np.ndarray, up: np.ndarray) -> None:
    """Hollow circles where there is more noise, filled ones where there is less; named by time."""
    noise, data = (0, -1) if t[0].max() >= t[-1].max() else (-1, 0)
    for end, face, edge in ((noise, "white", "0.2"), (data, BLUE, BLUE)):
        name = f"t = {t[end].max():g}"
        ax.scatter(across[end], up[end], s=16, c=face, edgecolors=edge, zorder=3, label=name)
    ax.legend(loc="upper right", fontsize="small")


def _lines(results: Any, metric: str) -> dict[Any, tuple[np.ndarray, np.ndarray]]:
    """Solver -> (NFE ascending, values), of a work-precision result or of a mapping."""
    found: dict[Any, list[tuple[float, float]]] = {}
    if isinstance(results, Mapping):
        for solver, (nfes, errors) in results.items():
            found[solver] = [(float(k), float(e)) for k, e in zip(nfes, errors, strict=True)]
    else:
        for record in getattr(results, "records", ()):
            if metric not in record.values:
                known = sorted(record.values)
                raise ValueError(f"`metric` must be among {known}, got {metric!r}")
            found.setdefault(record.solver, []).append(
                (float(record.nfe), float(record.values[metric]))
            )
    if not any(found.values()):
        raise ValueError(
            "`results` holds no records: pass what refsde.measure.work_precision returned"
        )
    pairs = {
        solver: np.array(sorted(rows, key=lambda row: row[0]))
        for solver, rows in found.items()
        if rows
    }
    return {solver: (rows[:, 0], rows[:, 1]) for solver, rows in pairs.items()}


def _plain_ticks(ax: Axes, nfes: np.ndarray) -> None:
    """Write 10, 20, 50 on the axis of work, where the runs are, instead of powers of ten."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    apart: list[float] = []
    values, counts = np.unique(nfes, return_counts=True)
    for nfe in values[np.argsort(-counts, kind="stable")]:  # of numbers that would touch, the usual
        if all(not 0.8 < nfe / other < 1.25 for other in apart):
            apart.append(float(nfe))
    if len(apart) <= 10:
        ax.xaxis.set_major_locator(FixedLocator(apart))
        # the mean of adaptive runs is no whole number
        ax.xaxis.set_major_formatter(FuncFormatter(lambda nfe, _: f"{nfe:.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())


def _top_of(floor: Any) -> float:
    """Upper end of the noise: its mean plus two standard deviations, or the number given."""
    mean, spread = getattr(floor, "mean", floor), getattr(floor, "std", 0.0)
    top = abs(float(mean)) + 2 * float(spread)
    if not (math.isfinite(top) and top > 0):
        raise ValueError(f"`floor` must be positive and finite, got {floor!r}")
    return top


def _tiles(x: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Images (n, h, w) of flat or stacked ones."""
    if x.ndim == 3 and size in (None, x.shape[1:]) and x.size:
        return x
    if x.ndim == 2 and x.size:
        side = math.isqrt(x.shape[1])
        h, w = size or (side, side)
        if h * w == x.shape[1]:
            return x.reshape(-1, h, w)
        raise ValueError(f"`x` has {x.shape[1]} pixels an image, not {h} x {w}: pass size=(h, w)")
    raise ValueError(f"`x` must have shape (n, h * w) or (n, h, w), got {x.shape}, size={size!r}")
