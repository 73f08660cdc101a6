"""Pictures of what is exact: densities, marginals and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import to_numpy
from refsde._types import SDE, Score
from refsde.plot._style import (
    BLUE,
    SKY,
    TIME_LABEL,
    VERMILION,
    Extent,
    centres,
    note_outside,
    part_of_map,
    points_of,
    some_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["density_1d", "density_2d", "marginals", "score_field"]

REACH = 4.0  # standard deviations around every component that a picture shows by default


def density_1d(
    target: Any,
    *,
    at: tuple[SDE, float] | None = None,
    samples: ArrayLike | None = None,
    ax: Axes | None = None,
    extent: tuple[float, float] | None = None,
    n: int = 600,
    bins: int = 60,
    label: str = "exact density",
) -> Axes:
    """Draw the exact density of a law on the line, over a histogram of samples if there are any.

    Parameters
    ----------
    target : law with d = 1
        Has ``logpdf``, and ``at`` if ``at`` is given.
    at : (SDE, float), optional
        Draw p_t, the law diffused by this SDE up to this time (0 is data), instead of the data.
    samples : array (B, 1) or (B,), optional
        What the histogram shows, scaled to area B_inside / B, so that it compares with the density.
    ax : Axes, optional
        Where to draw; a new figure by default.
    extent : (float, float), optional
        Ends of the line; four standard deviations beyond the components by default.
    n, bins : int
        Points of the curve, and bars of the histogram.
    label : str
        Of the curve, in the legend.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the law is not one-dimensional, or shapes are wrong.

    Examples
    --------
    >>> import refsde as rs
    >>> ax = rs.plot.density_1d(rs.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.1, 0.1]))
    >>> ax.get_xlabel()
    'x'
    """
    law = _law(target, at, 1)
    low, high = _extent(extent, _box(law), 1)
    draws = None if samples is None else points_of("samples", samples, 1)
    ax = some_axes(ax, (6.0, 3.5))
    if draws is not None:
        x = draws[:, 0]
        counts, edges = np.histogram(x, bins=bins, range=(low, high))
        heights = counts / (len(x) * np.diff(edges))
        ax.stairs(heights, edges, fill=True, color=SKY, alpha=0.5, label=f"{len(x)} samples")
        note_outside(ax, (x < low) | (x > high))
    grid = np.linspace(low, high, n)
    ax.plot(grid, np.exp(law.logpdf(grid[:, None])), color=BLUE, lw=2, label=label)
    ax.set(xlabel="x", ylabel="density", xlim=(low, high))
    ax.set_ylim(bottom=0.0)
    ax.legend()
    return ax


def density_2d(
    target: Any,
    *,
    at: tuple[SDE, float] | None = None,
    samples: ArrayLike | None = None,
    ax: Axes | None = None,
    extent: Extent | None = None,
    log: bool = False,
    n: int = 240,
    colorbar: bool = False,
) -> Axes:
    """Shade the exact density of a law in the plane, with samples on top if there are any.

    Parameters
    ----------
    target : law with d = 2
        Has ``logpdf``, and ``at`` if ``at`` is given.
    at : (SDE, float), optional
        Shade p_t, the law diffused by this SDE up to this time (0 is data), instead of the data.
    samples : array (B, 2), optional
        Points to scatter; how many fall outside the picture is written in its corner.
    ax : Axes, optional
        Where to draw; a new figure by default.
    extent : (x_min, x_max, y_min, y_max), optional
        Four standard deviations beyond the components by default.
    log : bool
        Shade the log-density, down to 14 nats below its maximum: shows tails and what lies between
        modes.
    n : int
        Points a side.
    colorbar : bool
        Add a scale of the shading.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the law is not two-dimensional, or shapes are wrong.

    Examples
    --------
    >>> import refsde as rs
    >>> target = rs.GaussianMixture.ring(8)
    >>> ax = rs.plot.density_2d(target, at=(rs.VP(), 0.3), samples=target.sample(200, rng=0))
    """
    law = _law(target, at, 2)
    low_x, high_x, low_y, high_y = _extent(extent, _box(law), 2)
    # pixel centres, so that the sum of the pixels times their area is the mass in the picture
    x, y = centres(low_x, high_x, n), centres(low_y, high_y, n)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    values = law.logpdf(points).reshape(n, n)
    dots = None if samples is None else points_of("samples", samples, 2)
    ax = some_axes(ax, (5.0, 4.6))
    shown, floor = (values, values.max() - 14.0) if log else (np.exp(values), 0.0)
    picture = ax.imshow(
        shown,
        origin="lower",
        extent=(low_x, high_x, low_y, high_y),
        cmap="Blues",
        vmin=floor,
        interpolation="bilinear",
    )
    if dots is not None:
        size = float(np.clip(3000 / len(dots), 1.5, 12.0))
        ax.scatter(dots[:, 0], dots[:, 1], s=size, color=VERMILION, alpha=0.6, linewidths=0)
        inside = np.all((dots >= [low_x, low_y]) & (dots <= [high_x, high_y]), axis=1)
        note_outside(ax, ~inside)
    ax.set(xlabel="x[0]", ylabel="x[1]", xlim=(low_x, high_x), ylim=(low_y, high_y), aspect="equal")
    if colorbar:
        ax.figure.colorbar(
            picture, ax=ax, shrink=0.85, label="log density (nats)" if log else "density"
        )
    return ax


def marginals(
    target: Any,
    sde: SDE,
    *,
    ax: Axes | None = None,
    extent: tuple[float, float] | None = None,
    n: int = 200,
) -> Axes:
    """Shade p_t(x) over t and x for a law on the line: how the data turn into noise.

    Every column is scaled to its own maximum, because a density that spreads out also fades.

    Parameters
    ----------
    target : law with d = 1
        Has ``at(sde, t)``.
    sde : SDE
        What diffuses it.
    ax : Axes, optional
        Where to draw; a new figure by default.
    extent : (float, float), optional
        Ends of the x-axis; four standard deviations beyond the data and the noise by default.
    n : int
        Points in t and in x.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If the law is not one-dimensional.

    References
    ----------
    Song et al. (2020), figure 2 has this picture.

    Examples
    --------
    >>> import refsde as rs
    >>> target = rs.GaussianMixture([0.5, 0.5], [[-1.5], [1.5]], [0.02, 0.02])
    >>> ax = rs.plot.marginals(target, rs.VP())
    """
    ends = [_box(_law(target, (sde, t), 1)) for t in (sde.t_end, sde.T)]
    both = (np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1]))
    low, high = _extent(extent, both, 1)
    t, x = centres(sde.t_end, sde.T, n), centres(low, high, n)
    logs = np.stack([target.at(sde, float(now)).logpdf(x[:, None]) for now in t], axis=1)
    ax = some_axes(ax, (6.0, 3.5))
    shade = np.exp(logs - logs.max(axis=0))
    where: dict[str, Any] = {"extent": (sde.t_end, sde.T, low, high), "aspect": "auto"}
    ax.imshow(shade, origin="lower", cmap="Blues", interpolation="bilinear", **where)
    ax.set(xlabel=TIME_LABEL, ylabel="x", xlim=(0.0, sde.T), ylim=(low, high))
    return ax


def score_field(
    score: Score,
    t: float,
    *,
    extent: Extent,
    ax: Axes | None = None,
    n: int = 21,
    kind: Literal["quiver", "stream"] = "quiver",
    color: str | None = None,
) -> Axes:
    """Draw the directions of a score in the plane; their colour is its length, on a log scale.

    Lengths of a score differ by orders of magnitude over a picture, so arrows all have one length.

    Parameters
    ----------
    score : callable
        ``score(x, t) -> (B, 2)``.
    t : float
        The time; 0 is data.
    extent : (x_min, x_max, y_min, y_max)
        What to show.
    ax : Axes, optional
        Where to draw, say over `density_2d`; a new figure by default.
    n : int
        Arrows a side.
    kind : {"quiver", "stream"}
        Arrows on a lattice, or lines along the field.
    color : str, optional
        One colour instead of the scale, for drawing over a shading.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If ``kind`` or ``extent`` is wrong, or the score does not return the shape of its points.

    Examples
    --------
    >>> import refsde as rs
    >>> score = rs.GaussianMixture.ring(8).score(rs.VP())
    >>> ax = rs.plot.score_field(score, 0.3, extent=(-5, 5, -5, 5))
    """
    if kind not in ("quiver", "stream"):
        raise ValueError(f"`kind` must be 'quiver' or 'stream', got {kind!r}")
    low_x, high_x, low_y, high_y = _extent(extent, None, 2)
    x, y = centres(low_x, high_x, n), centres(low_y, high_y, n)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    arrows = to_numpy(score(points, t))
    if arrows.shape != points.shape:
        raise ValueError(f"`score` must return (B, 2) for points (B, 2), got {arrows.shape}")
    length = np.hypot(*arrows.T)
    unit = arrows / np.where(length > 0, length, 1.0)[:, None]  # a zero of the field stays zero
    ax = some_axes(ax, (5.6, 4.6))
    style: dict[str, Any] = {"color": color}
    if color is None:
        style = _length_scale(length)
        colours = {"color": length.reshape(n, n)} if kind == "stream" else {}
        style.update(colours)
    if kind == "stream":
        u, v = unit.T.reshape(2, n, n)
        drawn: Any = ax.streamplot(x, y, u, v, density=1.2, linewidth=1.0, **style).lines
    else:
        each = () if color else (length,)
        per_unit = 1 / (0.8 * min(x[1] - x[0], y[1] - y[0]))
        units: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "pivot": "mid"}
        drawn = ax.quiver(*points.T, *unit.T, *each, scale=per_unit, width=0.005, **units, **style)
    ax.set(xlabel="x[0]", ylabel="x[1]", xlim=(low_x, high_x), ylim=(low_y, high_y), aspect="equal")
    if color is None:
        ax.figure.colorbar(drawn, ax=ax, shrink=0.85, label=f"|score| at t = {t:g}")
    return ax


def _law(target: Any, at: tuple[SDE, float] | None, dim: int) -> Any:
    law = target if at is None else target.at(*at)
    if getattr(law, "dim", dim) != dim:
        raise ValueError(
            f"`target` must have d = {dim} for this picture, got d = {law.dim}: "
            "draw two coordinates of samples"
        )
    return law


def _box(law: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner (d,) of what a picture of ``law`` should show."""
    means = np.atleast_2d(getattr(law, "means", law.mean))
    covs = np.asarray(getattr(law, "covs", law.cov)).reshape(-1, means.shape[1], means.shape[1])
    reach = REACH * np.sqrt(np.diagonal(covs, axis1=1, axis2=2))
    return (means - reach).min(axis=0), (means + reach).max(axis=0)


def _extent(extent: Any, box: tuple[np.ndarray, np.ndarray] | None, dim: int) -> tuple[float, ...]:
    """Check the ``extent`` given, or make one of the ``box``."""
    if extent is None and box is not None:
        low, high = box
        return tuple(float(v) for pair in zip(low, high, strict=True) for v in pair)
    ends = np.asarray(extent, dtype=float).reshape(-1)
    if len(ends) != 2 * dim or not np.all(np.isfinite(ends)) or np.any(ends[::2] >= ends[1::2]):
        names = "(x_min, x_max)" if dim == 1 else "(x_min, x_max, y_min, y_max)"
        raise ValueError(f"`extent` must be finite and ascending, {names}, got {extent!r}")
    return tuple(float(v) for v in ends)


def _length_scale(length: np.ndarray) -> dict[str, Any]:
    """Colours of lengths on a log scale: dark is long; the palest colours would vanish on white."""
    from matplotlib.colors import LogNorm

    positive = length[length > 0]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    if high / low < 1.01:  # a constant field: LogNorm needs an interval
        low, high = low / 2, high * 2
    return {"norm": LogNorm(low, high), "cmap": part_of_map("viridis_r", 0.12, 1.0)}
