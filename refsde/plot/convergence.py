"""Pictures of convergence: error against number of steps, with the declared slopes beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from refsde.plot._style import COLOURS, MARKERS, some_axes
from refsde.plot.runs import _plain_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["order"]

LEAST = 1e-14  # errors below this are rounding: they have no slope
SHOWN = 0.1  # of its line's least error: a limit below that cannot be seen in the line
BENT = 0.05  # of the declared order: how far off the last slope is where a line levels off
MANY = 6  # lines beside which a legend still has room
BASE, TALLEST = 0.13, 0.3  # of a triangle, as shares of the axes
LABEL = (0.035, 0.045)  # width and height of a digit, likewise
GAPS = (0.025, 0.05, 0.08, 0.12, 0.18)  # between a line and its triangle, likewise
AIR = 0.015  # around a triangle, likewise


def order(
    results: Any,
    *,
    ax: Axes | None = None,
    label: Callable[[Any], str] = str,
    order: Sequence[Any] | None = None,
) -> Axes:
    """Draw error against the number of steps on log scales, one line a solver.

    Beside the lines stands a right triangle for every declared order p, whose long side falls by N
    to the power p: a line that is parallel to its triangle has its order.  The legend gives the
    last slope measured.  Where an error stops falling, its limit is drawn dashed.

    Parameters
    ----------
    results : Order, or mapping or sequence of Order
        What ``refsde.exact.order`` returns: ``.steps`` (k,), ``.errors`` (k,), ``.slope``,
        ``.limit``, ``.declared`` and ``.kind``.  A mapping goes from name to Order; of a sequence,
        the names are the kinds.
    ax : Axes, optional
        Where to draw; a new figure by default.
    label : callable
        Makes the name in the legend out of a key of the mapping.
    order : sequence, optional
        All keys, so that each keeps its colour and mark in pictures that show only some of them.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError
        If something in it is no Order.
    ValueError
        If there is nothing to draw: no results, or no finite error above zero.

    Notes
    -----
    Errors that are zero or not finite are left out and counted in the legend.  Below 1e-14 errors
    are rounding, and the axes are shaded.  A limit is drawn where one can see it: in the axes, a
    tenth or more of its line's least error, and the last slope off the declared order.

    Examples
    --------
    >>> import refsde as rs
    >>> process = rs.ReverseSDE(rs.VP(), rs.GaussianMixture([1.0], [[0.7]], [0.25]).score(rs.VP()))
    >>> ax = rs.plot.order(rs.exact.order(process, rs.EulerMaruyama(), "weak", steps=(32, 64)))
    """
    named = _named(results)
    places = list(dict.fromkeys([*(order or ()), *(key for key, _ in named)]))
    lines = [
        _line(i if order is None else places.index(key), label(key), one)
        for i, (key, one) in enumerate(named)
    ]
    if not any(len(line.errors) for line in lines):
        raise ValueError(
            "`results` hold no finite error above zero: nothing fits on log scales; "
            "look at their `.errors`"
        )
    ax = some_axes(ax, (6.0, 4.4) if len(lines) <= MANY else (8.4, 5.0))
    for line in lines:
        ax.plot(line.steps, line.errors, label=line.name, **line.style)
    ax.set(xscale="log", yscale="log", xlabel="N  (number of steps)", ylabel=_ylabel(named))
    _set_limits(ax, lines)
    low, high = ax.get_ylim()
    if low < LEAST:
        ax.axhspan(low, LEAST, color="0.88", zorder=0, label="rounding")
    limits: list[float] = []
    for line in lines:
        if line.limit is not None and low < line.limit < high:
            told = "_limit" if limits else "limit, N to infinity"
            ax.axhline(line.limit, ls="--", lw=1.0, color=line.style["color"], label=told)
            limits.append(line.limit)
    _draw_triangles(ax, lines, limits)
    _plain_ticks(ax, np.concatenate([line.steps for line in lines]))
    ax.grid(True, which="major", color="0.88", lw=0.8)
    ax.set_axisbelow(True)
    if len(lines) > MANY:  # there is no room left among the lines
        ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    else:
        ax.legend(fontsize="small")
    return ax


class _Line(NamedTuple):
    """What is drawn of one result: errors that fit on a log scale, and where they stop falling."""

    name: str
    steps: np.ndarray
    errors: np.ndarray
    declared: float | None
    limit: float | None
    style: dict[str, Any]


def _named(results: Any) -> list[tuple[Any, Any]]:
    """Pairs of key and Order."""
    if hasattr(results, "errors"):
        named = [(str(results.kind), results)]
    elif isinstance(results, Mapping):
        named = list(results.items())
    elif isinstance(results, list | tuple):
        named = [(str(getattr(one, "kind", "")), one) for one in results]
    else:
        named = [("", results)]
    for _, one in named:
        if not (hasattr(one, "steps") and hasattr(one, "errors")):
            raise TypeError(
                "`results` must be what refsde.exact.order returns, or a mapping or list of such, "
                f"got {type(one).__name__}"
            )
    if not named:
        raise ValueError("`results` are empty: pass what refsde.exact.order returns")
    return named


def _line(i: int, name: str, one: Any) -> _Line:
    steps, errors = np.asarray(one.steps, dtype=float), np.asarray(one.errors, dtype=float)
    good = np.isfinite(errors) & (errors > 0)
    slope = float(one.slope) if len(steps) > 1 else math.nan
    if math.isfinite(slope) and errors[-1] > LEAST:
        name += f"  {slope:.2f}"
    name += "" if good.all() else f" ({np.count_nonzero(~good)} not drawn)"
    declared = one.declared if one.declared and math.isfinite(one.declared) else None
    levels_off = declared is None or abs(slope - declared) > BENT * declared
    limit = abs(float(one.limit)) if good.all() and levels_off else math.nan
    seen = limit >= max(LEAST, SHOWN * errors[good].min(initial=math.inf))
    style: dict[str, Any] = {
        "color": COLOURS[i % 7],
        "marker": MARKERS[i % 8],
        "ls": "-" if i < 7 else "-.",  # the eighth has the first one's colour; dashes are limits
        "lw": 1.6,
        "ms": 5.5,
        "mec": "white",
        "mew": 0.6,
    }
    return _Line(name, steps[good], errors[good], declared, limit if seen else None, style)


def _ylabel(named: list[tuple[Any, Any]]) -> str:
    kinds = {str(one.kind) for _, one in named}
    return f"{kinds.pop()} error" if len(kinds) == 1 else "error"


def _set_limits(ax: Axes, lines: list[_Line]) -> None:
    """Make room below the lines, where the triangles go."""
    steps = np.concatenate([line.steps for line in lines])
    errors = np.concatenate([line.errors for line in lines])
    left, right = np.log([steps.min(), steps.max()])
    low, high = np.log([errors.min(), errors.max()])
    wide, tall = max(right - left, math.log(2)), max(high - low, math.log(10))
    below = 0.22 if any(line.declared for line in lines) and errors.min() > LEAST else 0.06
    ax.set_xlim(math.exp(left - 0.06 * wide), math.exp(right + 0.06 * wide))
    ax.set_ylim(math.exp(low - below * tall), math.exp(high + 0.06 * tall))


# -- slope triangles, placed in shares of the axes ------------------------------------------------


class _Box(NamedTuple):
    """A rectangle with the right angle of a triangle below left, and what hangs on its legs."""

    left: float
    bottom: float
    wide: float
    tall: float

    @property
    def corners(self) -> list[tuple[float, float]]:
        """Right angle, right end and top."""
        right, top = self.left + self.wide, self.bottom + self.tall
        return [(self.left, self.bottom), (right, self.bottom), (self.left, top)]

    @property
    def ends(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top, with the labels and some air."""
        digit_wide, digit_tall = LABEL
        left, bottom = self.left - digit_wide, self.bottom - digit_tall
        return (
            left - AIR,
            self.left + self.wide + AIR,
            bottom - AIR,
            self.bottom + self.tall + AIR,
        )

    def hidden(self, points: np.ndarray) -> int:
        """How many of the ``points`` (m, 2) this would hide."""
        left, right, bottom, top = self.ends
        x, y = points.T
        inside = (left < x) & (x < right) & (bottom < y) & (y < top)
        # above the long side lies the line itself
        over = (x - self.left) / self.wide + (y - self.bottom) / self.tall > 1 + AIR / self.wide
        over &= (x > self.left) & (y > self.bottom)
        return int(np.count_nonzero(inside & ~over))

    def meets(self, other: _Box) -> bool:
        """Whether two of them overlap."""
        left, right, bottom, top = self.ends
        a, b, c, d = other.ends
        return left < b and a < right and bottom < d and c < top

    def outside(self) -> float:
        """How far it reaches out of the axes."""
        left, right, bottom, top = self.ends
        return max(0.0, -left) + max(0.0, right - 1) + max(0.0, -bottom) + max(0.0, top - 1)


def _draw_triangles(ax: Axes, lines: list[_Line], levels: list[float]) -> None:
    """One triangle for each declared order, where it hides least of lines and dashed levels."""
    (left, right), (low, high) = np.log(ax.get_xlim()), np.log(ax.get_ylim())
    corner, size = np.array([left, low]), np.array([right - left, high - low])

    def in_axes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((np.log(np.stack([x, y], axis=1)) - corner) / size)

    shares = [in_axes(line.steps, line.errors) for line in lines]
    across = np.exp(np.linspace(left, right, 100))
    flat = [in_axes(across, np.full(100, level)) for level in levels]
    drawn = np.concatenate([*map(_dense, shares), *flat])
    placed: list[_Box] = []
    for p in sorted({line.declared for line in lines if line.declared and _falls(line)}):
        own = [
            points
            for points, line in zip(shares, lines, strict=True)
            if line.declared == p and _falls(line)
        ]
        box = min(_places(own, p * size[0] / size[1]), key=lambda at: _cost(at, drawn, placed))
        placed.append(box)
        _draw_triangle(ax, p, np.exp(corner + size * np.array(box.corners)))


def _falls(line: _Line) -> bool:
    """Whether something of the line can have a slope."""
    return bool(np.any(line.errors > LEAST))


def _draw_triangle(ax: Axes, p: float, corners: np.ndarray) -> None:
    """Draw it in the data's coordinates, so that it stays right when someone zooms."""
    from matplotlib.patches import Polygon

    style: dict[str, Any] = {"fc": "0.93", "ec": "0.25", "lw": 0.9, "label": f"_order {p:g}"}
    ax.add_patch(Polygon(corners, closed=True, **style))
    (x0, y0), (x1, _), (_, y1) = corners
    text: dict[str, Any] = {"textcoords": "offset points", "fontsize": "small", "color": "0.25"}
    ax.annotate(f"{p:g}", (x0, math.sqrt(y0 * y1)), (-3, 0), ha="right", va="center", **text)
    ax.annotate("1", (math.sqrt(x0 * x1), y0), (0, -3), ha="center", va="top", **text)


def _dense(points: np.ndarray) -> np.ndarray:
    """Points (m, 2) all along a line."""
    if len(points) < 2:
        return points
    along = np.linspace(0, len(points) - 1, 40 * (len(points) - 1) + 1)
    return np.stack([np.interp(along, np.arange(len(points)), column) for column in points.T], 1)


def _places(lines: list[np.ndarray], steepness: float) -> Iterator[_Box]:
    """Triangles below each line, near and far, left and right."""
    wide = min(BASE, TALLEST / steepness)
    for points, gap, share in product(lines, GAPS, np.linspace(0, 1, 25)):
        along = _dense(points)
        on = along[round(share * (len(along) - 1))]  # the line here, middle of the long side
        at_left = on[0] - 0.5 * wide
        yield _Box(at_left, on[1] - 0.5 * steepness * wide - gap, wide, steepness * wide)


def _cost(box: _Box, drawn: np.ndarray, placed: list[_Box]) -> tuple[float, float]:
    """What a place is worth: to lie in the axes, then to hide nothing, then to be near."""
    taken = sum(box.meets(other) for other in placed)
    return 1e4 * box.outside() + 50.0 * taken + box.hidden(drawn), -box.bottom
