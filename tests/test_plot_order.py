"""Pictures of convergence, checked by what they hold: lines, triangles, labels and levels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import refsde as rs
from refsde import plot
from refsde.exact import Order

plt = pytest.importorskip("matplotlib.pyplot")

STEPS = (64, 128, 256, 512, 1024)


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


def made(
    p: float, size: float = 1.0, limit: float = 0.0, steps: Any = STEPS, kind: Any = "weak"
) -> Order:
    """Errors size (N / 64)^-p + limit."""
    numbers = np.array(steps)
    errors = size * (numbers / 64) ** -float(p) + limit
    return Order(kind, numbers, errors, errors[:, None], p)


def with_errors(*errors: float, declared: float | None = 1.0) -> Order:
    values = np.array(errors)
    return Order("weak", np.array(STEPS[: len(values)]), values, values[:, None], declared)


def curves(ax: Any) -> list[Any]:
    return [line for line in ax.lines if not line.get_label().startswith("_")]


def levels(ax: Any) -> list[Any]:
    return [line for line in ax.lines if line.get_label() in ("_limit", "limit, N to infinity")]


def triangles(ax: Any) -> dict[str, np.ndarray]:
    """Corners (3, 2) of each: right angle, right end, top."""
    found = [patch for patch in ax.patches if patch.get_label().startswith("_order ")]
    return {patch.get_label()[7:]: patch.get_xy()[:3] for patch in found}


def dense(line: Any) -> np.ndarray:
    """Logarithms (m, 2) of points all along a line."""
    logs = np.log(np.stack(line.get_data(), axis=1).astype(float))
    return np.concatenate([np.linspace(a, b, 200) for a, b in pairwise(logs)])


# -- lines and names -------------------------------------------------------------------------------


def test_a_line_holds_the_errors_and_the_legend_its_last_slope() -> None:
    found = {"EM": made(1), "Heun": made(2, 0.1)}
    ax = plot.order(found)
    assert [line.get_label() for line in ax.lines] == ["EM  1.00", "Heun  2.00"]
    for line, one in zip(ax.lines, found.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), one.steps)
        np.testing.assert_array_equal(line.get_ydata(), one.errors)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.get_ylabel() == "weak error" and "number of steps" in ax.get_xlabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["EM  1.00", "Heun  2.00"]


def test_one_order_and_a_sequence_take_the_kind_as_name() -> None:
    assert plot.order(made(1)).lines[0].get_label() == "weak  1.00"
    ax = plot.order([made(1), made(2, 0.1, kind="flow")])
    assert [line.get_label() for line in ax.lines] == ["weak  1.00", "flow  2.00"]
    assert ax.get_ylabel() == "error"  # of two kinds


def test_what_exact_order_returns_is_drawn() -> None:
    target = rs.GaussianMixture([1.0], [[0.7]], [0.25])
    process = rs.ReverseSDE(rs.VP(), target.score(rs.VP()))
    order = rs.exact.order(process, rs.EulerMaruyama(), "strong", steps=(32, 64))
    ax = plot.order({rs.EulerMaruyama(): order}, label=lambda solver: type(solver).__name__)
    assert ax.lines[0].get_label() == f"EulerMaruyama  {order.slope:.2f}"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), order.errors)
    assert list(triangles(ax)) == ["1"]  # the declared order is the solver's own


def test_a_solver_keeps_its_colour_in_every_picture() -> None:
    whole = plot.order({"a": made(1), "b": made(2), "c": made(1, 2.0)})
    part = plot.order({"c": made(1, 2.0)}, order=["a", "b", "c"])
    assert part.lines[0].get_color() == whole.lines[2].get_color()
    assert part.lines[0].get_marker() == whole.lines[2].get_marker()


def test_twelve_solvers_are_told_apart_and_the_legend_stands_aside() -> None:
    ax = plot.order({f"solver {k}": made(1 + k % 2, 1.5**k) for k in range(12)})
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in curves(ax)}
    assert len({line.get_marker() for line in curves(ax)}) == 8  # without colour too
    assert len(looks) == 12 and "--" not in {line.get_linestyle() for line in curves(ax)}
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().x0 > ax.get_window_extent().x1
    assert set(triangles(ax)) == {"1", "2"}


# -- triangles -------------------------------------------------------------------------------------

SCENES = {
    "one": {"a": made(1)},
    "first, second and fourth": {"a": made(1), "b": made(2, 0.1), "c": made(4, 0.01)},
    "crossing": {"a": made(1, 0.1), "b": made(2, 1.0)},
    "a bundle": {f"{k}": made(1, 1.05**k) for k in range(6)},
    "half orders": {"a": made(0.5), "b": made(1.5, 0.3)},
    "twelve": {f"{k}": made(1 + (k % 3 == 2), 2.0 ** ((7 * k) % 12)) for k in range(12)},
    "other grids": {"a": made(1), "b": made(2, 0.1, steps=(80, 160, 320))},
}


@pytest.mark.parametrize("name", SCENES)
def test_a_triangle_for_each_order_is_parallel_below_and_in_the_axes(name: str) -> None:
    scene = SCENES[name]
    ax = plot.order(scene)
    found = triangles(ax)
    assert set(found) == {f"{one.declared:g}" for one in scene.values()}
    for said, corners in found.items():
        (x0, y0), (x1, y1), (x2, y2) = np.log(corners)
        assert x0 == pytest.approx(x2) and y0 == pytest.approx(y1)  # right angle below left
        assert (y2 - y0) / (x1 - x0) == pytest.approx(float(said), rel=1e-9)
        assert x1 - x0 > 0.05 * np.log(16)  # large enough to be seen
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        assert left < corners[:, 0].min() and corners[:, 0].max() < right
        assert low < corners[:, 1].min() and corners[:, 1].max() < high
    labels = [text.get_text() for text in ax.texts]
    assert labels == [word for said in sorted(found, key=float) for word in (said, "1")]


@pytest.mark.parametrize("name", [name for name in SCENES if name != "twelve"])
def test_triangles_and_their_numbers_hide_no_line(name: str) -> None:
    ax = plot.order(SCENES[name])
    ax.figure.canvas.draw()
    to_pixels = ax.transData.transform
    for line in curves(ax):
        points = np.exp(dense(line))
        for corners in triangles(ax).values():
            (x0, y0), (x1, _), (_, y2) = np.log(corners)
            x, y = np.log(points).T
            inside = (x > x0) & (y > y0) & ((x - x0) / (x1 - x0) + (y - y0) / (y2 - y0) < 1)
            assert not inside.any()
        for text in ax.texts:
            box = text.get_window_extent()
            assert not any(box.contains(*at) for at in to_pixels(points))


@pytest.mark.parametrize("name", SCENES)
def test_triangles_do_not_cover_each_other(name: str) -> None:
    boxes = [
        (corners.min(axis=0), corners.max(axis=0))
        for corners in triangles(plot.order(SCENES[name])).values()
    ]
    for i, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[:i]:
            assert np.any(high < other_low) or np.any(other_high < low)


@pytest.mark.parametrize("name", ["one", "first, second and fourth", "half orders"])
def test_a_triangle_stands_close_to_a_line_of_its_order(name: str) -> None:
    ax = plot.order(SCENES[name])
    tall = np.diff(np.log(ax.get_ylim())).item()
    for (said, corners), line in zip(triangles(ax).items(), curves(ax), strict=True):
        below = float(said) * np.log(line.get_xdata()[0] / corners[2, 0])
        gap = np.log(line.get_ydata()[0]) + below - np.log(corners[2, 1])
        assert 0 < gap < 0.06 * tall


def test_a_triangle_stays_right_when_someone_zooms() -> None:
    ax = plot.order(made(2))
    ((before, corners),) = triangles(ax).items()
    ax.set_ylim(1e-9, 1e3)
    ax.figure.canvas.draw()
    np.testing.assert_array_equal(triangles(ax)[before], corners)
    assert ax.patches[0].get_transform().contains_branch(ax.transData)


def test_without_a_declared_order_there_is_no_triangle() -> None:
    assert not triangles(plot.order(with_errors(1.0, 0.5, declared=None)))
    assert not triangles(plot.order(with_errors(1e-16, 2e-16)))  # nothing there has a slope


# -- limits, rounding, and what has no logarithm ---------------------------------------------------


def test_where_the_error_stops_falling_its_limit_is_dashed() -> None:
    ax = plot.order({"right": made(1), "wrong": made(1, 1.0, limit=0.1)})
    (level,) = levels(ax)
    assert level.get_ydata()[0] == pytest.approx(0.1, rel=1e-9)
    assert level.get_linestyle() == "--"
    assert level.get_color() == curves(ax)[1].get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()][1].startswith("wrong")


def test_triangles_keep_off_the_dashes() -> None:
    scene = {"a": made(1, 1 / 64), "b": made(2, 1 / 400), "c": made(4, 6e-5)}
    ax = plot.order({**scene, "wrong": made(1, 1 / 64, limit=5.6e-4)})
    (level,) = levels(ax)
    assert set(triangles(ax)) == {"1", "2", "4"}
    for corners in triangles(ax).values():
        assert not corners[:, 1].min() < level.get_ydata()[0] < corners[:, 1].max()


def test_a_line_of_the_declared_slope_has_no_dashes() -> None:
    # on two coarse grids extrapolation sees a limit where errors only turn, not where they level
    turns = Order("weak", np.array([8, 16]), np.array([1.0, 0.25]), np.diag([1.0, 0.25]), 2)
    assert turns.slope == 2 and turns.limit > 0.4
    assert not levels(plot.order({"turns": turns, "b": made(1)}))


def test_a_limit_too_small_to_see_is_not_drawn() -> None:
    # in the axes thanks to the other line, but a thousandth of its own line's least error
    ax = plot.order({"a": made(1, 1.0, limit=5e-5), "b": made(4, 1.0)})
    low, high = ax.get_ylim()
    assert low < 5e-5 < high and not levels(ax)


def test_rounding_is_shaded_and_has_no_slope() -> None:
    ax = plot.order({"exact": with_errors(2e-16, 1e-16, 3e-16, 1e-16, 2e-16), "EM": made(1)})
    assert [line.get_label() for line in curves(ax)] == ["exact", "EM  1.00"]
    (band,) = [patch for patch in ax.patches if patch.get_label() == "rounding"]
    assert band.get_y() + band.get_height() == pytest.approx(1e-14)
    assert ax.get_ylim()[0] < 1e-16
    ((x0, y0), *_) = triangles(ax)["1"]  # beside the line that falls
    assert y0 > 1e-6 and x0 > 0


def test_errors_that_do_not_reach_rounding_are_on_white() -> None:
    assert not [patch for patch in plot.order(made(1)).patches if patch.get_label() == "rounding"]


def test_what_has_no_logarithm_is_left_out_and_counted() -> None:
    ax = plot.order({"a": with_errors(1.0, np.nan, 0.0, np.inf, 0.1), "b": made(1)})
    np.testing.assert_array_equal(ax.lines[0].get_data(), [[64, 1024], [1.0, 0.1]])
    assert ax.lines[0].get_label() == "a (3 not drawn)"
    ax = plot.order({"lost": with_errors(np.nan, np.nan), "b": made(1)})
    assert ax.lines[0].get_label() == "lost (2 not drawn)" and len(ax.lines[0].get_xdata()) == 0
    ax.figure.canvas.draw()


def test_a_single_grid_has_no_slope() -> None:
    ax = plot.order(made(1, steps=(10,)))
    assert ax.lines[0].get_label() == "weak"
    ax.figure.canvas.draw()


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="`results` hold no finite error above zero"):
        plot.order(with_errors(0.0, np.nan))
    with pytest.raises(ValueError, match="`results` are empty"):
        plot.order({})


@pytest.mark.parametrize("wrong", [3.0, {"a": 3.0}, [made(1), "heun"], None])
def test_what_is_no_order_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="`results` must be what refsde.exact.order returns"):
        plot.order(wrong)
