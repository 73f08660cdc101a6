"""Pictures are checked by what they hold: their artists carry the exact numbers."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import refsde as rs
from refsde import plot
from refsde.measure import Floor

plt = pytest.importorskip("matplotlib.pyplot")

LINE = rs.GaussianMixture([0.3, 0.7], [[-1.5], [1.0]], [0.04, 0.16])
PLANE = rs.GaussianMixture(
    [0.4, 0.6], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.6]]]
)
VP = rs.VP()
BOX = (-4.0, 4.0, -3.0, 3.0)
HALVED = rs.exact.Order("weak", np.array([1, 2]), np.array([1.0, 0.5]), np.array([[1.0], [0.5]]), 1)


@dataclasses.dataclass
class Record:
    solver: Any
    nfe: float
    values: dict[str, float]


@dataclasses.dataclass
class Result:
    records: list[Record]


def path_of(d: int, n: int = 6) -> rs.Path:
    rng = np.random.default_rng(d)
    return rs.Path(np.linspace(1.0, 0.0, 5), rng.standard_normal((5, n, d)))


# one call of everything, for the rules that hold everywhere
CALLS: dict[str, Any] = {
    "density_1d": lambda **k: plot.density_1d(LINE, samples=np.zeros((5, 1)), **k),
    "density_2d": lambda **k: plot.density_2d(PLANE, samples=np.zeros((5, 2)), **k),
    "marginals": lambda **k: plot.marginals(LINE, VP, n=20, **k),
    "score_field": lambda **k: plot.score_field(PLANE.score(VP), 0.1, extent=BOX, **k),
    "paths": lambda **k: plot.paths(path_of(2), **k),
    "work_precision": lambda **k: plot.work_precision({"a": ([1, 2], [1.0, 0.5])}, "W1", **k),
    "order": lambda **k: plot.order(HALVED, **k),
    "images": lambda **k: plot.images(np.zeros((3, 4)), titles=["a", "b", "c"], **k),
}


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    plt.close("all")  # a doctest that ran before in this process may have left some open
    yield
    plt.close("all")


# -- rules for all ---------------------------------------------------------------------------------


def test_every_public_function_is_called_here() -> None:
    assert set(CALLS) == set(plot.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_draws_on_the_axes_it_is_given_and_returns_them(name: str) -> None:
    fig, ax = plt.subplots()
    assert CALLS[name](ax=ax) is ax
    assert plt.get_fignums() == [fig.number]
    assert ax.has_data()


@pytest.mark.parametrize("name", CALLS)
def test_makes_one_figure_otherwise_and_leaves_the_settings_alone(name: str) -> None:
    before = dict(plt.rcParams)
    ax = CALLS[name]()
    ax.figure.canvas.draw()  # warnings are errors: missing glyphs, bad limits, layouts that fail
    assert plt.get_fignums() == [ax.figure.number]
    assert dict(plt.rcParams) == before


@pytest.mark.parametrize("name", [name for name in CALLS if name != "images"])
def test_axes_are_labelled(name: str) -> None:
    ax = CALLS[name]()
    assert ax.get_xlabel() and ax.get_ylabel()


@pytest.mark.parametrize("name", CALLS)
def test_an_array_of_axes_is_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(TypeError, match=r"`ax` must be one matplotlib Axes.*axes\[0\]"):
        CALLS[name](ax=plt.subplots(1, 2)[1])


@pytest.mark.parametrize("name", CALLS)
def test_says_which_extra_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'refsde\[plot\]'"):
        CALLS[name]()


def test_importing_needs_no_matplotlib() -> None:
    code = "import sys, refsde, refsde.plot; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_never_shows_nor_sets_a_style() -> None:
    for module in {inspect.getmodule(getattr(plot, name)) for name in plot.__all__}:
        assert module is not None
        source = inspect.getsource(module)
        assert ".show(" not in source and "style.use" not in source and "rcParams" not in source


# -- laws ------------------------------------------------------------------------------------------


def test_density_2d_shades_the_exact_density_of_p_t() -> None:
    ax = plot.density_2d(PLANE, at=(VP, 0.2), extent=BOX, n=80)
    shade = np.asarray(ax.images[0].get_array())
    # pixel centres, rows from below: pixel (i, j) stands at (x_j, y_i)
    i, j = 17, 52
    x = np.array([[-4.0 + (j + 0.5) * 8.0 / 80, -3.0 + (i + 0.5) * 6.0 / 80]])
    assert shade[i, j] == pytest.approx(np.exp(PLANE.at(VP, 0.2).logpdf(x))[0], rel=1e-12)
    assert ax.images[0].origin == "lower" and tuple(ax.images[0].get_extent()) == BOX


def test_the_default_picture_holds_the_mass() -> None:
    ax = plot.density_2d(PLANE)
    low_x, high_x, low_y, high_y = ax.images[0].get_extent()
    shade = np.asarray(ax.images[0].get_array())
    mass = shade.mean() * (high_x - low_x) * (high_y - low_y)
    assert mass == pytest.approx(1.0, abs=2e-3)


def test_log_shading_is_the_log_density() -> None:
    linear = plot.density_2d(PLANE, extent=BOX, n=40).images[0]
    log = plot.density_2d(PLANE, extent=BOX, n=40, log=True, colorbar=True).images[0]
    np.testing.assert_allclose(np.exp(log.get_array()), linear.get_array(), rtol=1e-12)
    assert log.get_clim()[0] == pytest.approx(np.max(log.get_array()) - 14)


def test_density_2d_says_how_many_samples_it_leaves_out() -> None:
    dots = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, -9.0]])
    ax = plot.density_2d(PLANE, extent=BOX, samples=dots)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), dots)
    assert [text.get_text() for text in ax.texts] == ["2 samples outside"]
    assert not plot.density_2d(PLANE, extent=BOX, samples=dots[:1]).texts


def test_density_1d_is_exact_and_its_histogram_has_the_right_area() -> None:
    x = LINE.sample(1000, rng=0)
    ax = plot.density_1d(LINE, at=(VP, 0.1), samples=x, extent=(-1.0, 3.0))
    points, values = ax.lines[0].get_data()
    expected = np.exp(LINE.at(VP, 0.1).logpdf(points[:, None]))
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    heights, edges, _ = ax.patches[0].get_data()
    inside = np.mean((x >= -1.0) & (x <= 3.0))
    assert np.sum(heights * np.diff(edges)) == pytest.approx(inside)
    assert ax.texts[0].get_text() == f"{round(1000 * (1 - inside))} samples outside"


def test_density_1d_takes_flat_samples() -> None:
    x = LINE.sample(100, rng=0)
    flat, column = plot.density_1d(LINE, samples=x[:, 0]), plot.density_1d(LINE, samples=x)
    for a, b in zip(flat.patches[0].get_data()[:2], column.patches[0].get_data()[:2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_marginals_are_the_densities_scaled_column_by_column() -> None:
    ax = plot.marginals(LINE, VP, n=30, extent=(-3.0, 3.0))
    shade = np.asarray(ax.images[0].get_array())  # rows x from below, columns t, by pixel centres
    middles = (np.arange(30) + 0.5) / 30
    t, x = VP.t_end + (VP.T - VP.t_end) * middles, -3.0 + 6.0 * middles
    np.testing.assert_allclose(shade.max(axis=0), 1.0)
    p = np.exp(LINE.at(VP, t[7]).logpdf(x[:, None]))
    np.testing.assert_allclose(shade[:, 7], p / p.max(), rtol=1e-12)
    assert "0 = data" in ax.get_xlabel()


@pytest.mark.parametrize("color", [None, "k"])
def test_arrows_have_the_direction_of_the_score(color: str | None) -> None:
    score = PLANE.score(VP)
    ax = plot.score_field(score, 0.2, extent=BOX, n=9, color=color)
    arrows = ax.collections[0]
    exact = score(np.asarray(arrows.get_offsets()), 0.2)
    length = np.hypot(*exact.T)
    np.testing.assert_allclose(np.stack([arrows.U, arrows.V], axis=1), exact / length[:, None])
    if color is None:
        np.testing.assert_allclose(arrows.get_array(), length)
        assert ax.figure.axes[-1].get_ylabel() == "|score| at t = 0.2"
    else:
        assert arrows.get_array() is None and len(ax.figure.axes) == 1


def test_a_field_may_vanish_or_be_constant() -> None:
    plot.score_field(lambda x, t: 0.0 * x, 0.5, extent=BOX, n=5).figure.canvas.draw()
    plot.score_field(lambda x, t: 0.0 * x + 1, 0.5, extent=BOX, n=5).figure.canvas.draw()
    score = rs.GaussianMixture.ring(4).score(VP)  # vanishes in the middle by symmetry
    plot.score_field(score, 0.5, extent=(-5, 5, -5, 5), n=11).figure.canvas.draw()


def test_stream_lines_take_the_same_scale() -> None:
    ax = plot.score_field(PLANE.score(VP), 0.2, extent=BOX, n=9, kind="stream")
    ax.figure.canvas.draw()
    assert len(ax.figure.axes) == 2


# -- runs ------------------------------------------------------------------------------------------


def test_paths_against_time_are_the_states() -> None:
    process = rs.ReverseSDE(VP, LINE.score(VP))
    solution = rs.sample(process, rs.EulerMaruyama(), 5, times=7, rng=0, keep="all")
    ax = plot.paths(solution, n=4)
    assert ax.get_xlabel() == "t  (0 = data, T = noise)"
    assert len(ax.lines) == 4
    for i, line in zip((3, 0, 1, 2), ax.lines, strict=True):  # strong colours come last, on top
        np.testing.assert_array_equal(line.get_xdata(), solution.path.t)
        np.testing.assert_array_equal(line.get_ydata(), solution.path.x[:, i, 0])


def test_each_sample_may_have_a_clock_of_its_own() -> None:
    path = path_of(1)
    own = rs.Path(path.t[:, None] * np.linspace(0.5, 1.0, 6), path.x)
    for i, line in enumerate(plot.paths(own, highlight=6).lines):
        np.testing.assert_array_equal(line.get_xdata(), own.t[:, i])
        np.testing.assert_array_equal(line.get_ydata(), own.x[:, i, 0])


def test_paths_in_the_plane_and_the_choice_of_coordinates() -> None:
    path = path_of(3)
    ax = plot.paths(path, dims=(2, 0), highlight=1)
    np.testing.assert_array_equal(ax.lines[-1].get_data(), path.x[:, 0, [2, 0]].T)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x[2]", "x[0]")
    np.testing.assert_array_equal(plot.paths(path, dims=1).lines[-1].get_ydata(), path.x[:, 2, 1])


def test_coordinates_of_an_image_count_row_by_row() -> None:
    x = np.arange(5 * 2 * 6.0).reshape(5, 2, 2, 3)
    line = plot.paths(rs.Path(np.arange(5.0), x), dims=4, highlight=1).lines[-1]
    np.testing.assert_array_equal(line.get_ydata(), x[:, 0, 1, 1])


@pytest.mark.parametrize("backwards", [False, True])
def test_the_ends_are_told_apart_by_time_not_by_order(backwards: bool) -> None:
    path = path_of(2)
    if backwards:
        path = rs.Path(path.t[::-1], path.x[::-1])
    noise, data = plot.paths(path).collections
    assert (noise.get_label(), data.get_label()) == ("t = 1", "t = 0")
    np.testing.assert_array_equal(noise.get_offsets(), path.x[-1 if backwards else 0])
    np.testing.assert_array_equal(data.get_offsets(), path.x[0 if backwards else -1])


def test_work_precision_reads_records_and_mappings_alike() -> None:
    rows = [("b", 20, 0.2), ("a", 10, 0.5), ("b", 10, 0.3), ("a", 5, 1.0)]
    result = Result([Record(name, nfe, {"W1": value, "other": 9.0}) for name, nfe, value in rows])
    ax = plot.work_precision(result, "W1")
    got = {line.get_label(): np.stack(line.get_data()) for line in ax.lines}
    np.testing.assert_array_equal(got["a"], [[5, 10], [1.0, 0.5]])
    np.testing.assert_array_equal(got["b"], [[10, 20], [0.3, 0.2]])
    again = plot.work_precision({"b": ([20, 10], [0.2, 0.3]), "a": ([10, 5], [0.5, 1.0])}, "W1")
    for line in again.lines:
        np.testing.assert_array_equal(line.get_data(), got[line.get_label()])
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.get_ylabel() == "W1" and "NFE" in ax.get_xlabel()


def test_solvers_may_be_objects() -> None:
    solvers = {rs.EulerMaruyama(): ([10], [0.1]), rs.Heun(): ([20], [0.1])}
    ax = plot.work_precision(solvers, "W1", label=lambda solver: type(solver).__name__)
    assert [line.get_label() for line in ax.lines] == ["EulerMaruyama", "Heun"]


def test_solvers_are_told_apart_without_colour() -> None:
    ax = plot.work_precision({str(k): ([1, 2], [1.0, 2.0]) for k in range(8)}, "W1")
    assert len({line.get_marker() for line in ax.lines}) == 8


def test_a_signed_metric_is_drawn_by_magnitude_and_says_so() -> None:
    ax = plot.work_precision({"a": ([1, 2, 4], [-0.5, 0.2, -0.1])}, "gap")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.5, 0.2, 0.1])
    assert "|gap|" in ax.get_ylabel() and "magnitude" in ax.get_ylabel()
    np.testing.assert_array_equal(ax.lines[1].get_data(), [[1, 4], [0.5, 0.1]])  # the hollow marks
    assert ax.lines[1].get_markerfacecolor() == "white"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a"]


def test_what_cannot_be_drawn_is_counted() -> None:
    ax = plot.work_precision({"a": ([1, 2, 4, 8], [np.nan, np.inf, 0.0, 0.1])}, "W1")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [8])
    assert ax.lines[0].get_label() == "a (3 not drawn)"


@pytest.mark.parametrize(
    ("floor", "top"), [(0.02, 0.02), (Floor(0.02, 0.005, ()), 0.03), (Floor(-0.01, 0.01, ()), 0.03)]
)
def test_the_noise_floor_is_a_band_below_its_upper_end(floor: Any, top: float) -> None:
    ax = plot.work_precision({"a": ([1, 2], [1.0, 0.5])}, "W1", floor=floor)
    (band,) = ax.patches
    low, high = ax.get_ylim()
    assert band.get_y() == pytest.approx(low)
    assert band.get_y() + band.get_height() == pytest.approx(top)
    assert low < top < high
    assert "noise floor" in band.get_label()


def test_images_show_their_pixels() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (5, 2, 3))
    picture = plot.images(x, columns=2).images[0]
    sheet = np.ma.filled(picture.get_array(), np.nan)
    assert np.sum(np.isfinite(sheet)) == x.size
    first = np.argwhere(np.isfinite(sheet))[0]
    np.testing.assert_array_equal(sheet[first[0] : first[0] + 2, first[1] : first[1] + 3], x[0])
    assert picture.get_clim() == (-1.0, 1.0)
    flat = plot.images(x.reshape(5, 6), size=(2, 3), columns=2).images[0]
    np.testing.assert_array_equal(np.ma.filled(flat.get_array(), np.nan), sheet)


def test_titles_stand_above_their_images() -> None:
    ax = plot.images(-np.ones((4, 9)), titles=list("abcd"))
    assert [text.get_text() for text in ax.texts] == list("abcd")
    sheet = np.ma.filled(ax.images[0].get_array(), np.nan)
    for text in ax.texts:
        x, y = text.get_position()
        assert np.isnan(sheet[round(y), round(x)]) and sheet[round(y + 1), round(x)] == -1


def test_inputs_are_left_alone() -> None:
    x = np.random.default_rng(0).uniform(-2, 2, (9, 4))
    kept = x.copy()
    plot.images(x)
    plot.density_2d(PLANE, samples=x[:, :2])
    plot.paths(rs.Path(np.arange(3.0), x.reshape(3, 3, 4)))
    np.testing.assert_array_equal(x, kept)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plot.density_2d(LINE), "`target` must have d = 2"),
        (lambda: plot.density_1d(PLANE), "`target` must have d = 1"),
        (lambda: plot.marginals(PLANE, VP), "`target` must have d = 1"),
        (lambda: plot.density_2d(PLANE, extent=(1, 0, 0, 1)), "`extent` must be finite"),
        (lambda: plot.density_2d(PLANE, extent=(0, 1)), "`extent` must be finite"),
        (lambda: plot.density_1d(LINE, extent=(0, np.inf)), "`extent` must be finite"),
        (lambda: plot.density_2d(PLANE, samples=np.zeros((3, 1))), "`samples` must have shape"),
        (lambda: plot.density_2d(PLANE, n=1), "`n` must be an int of at least 2"),
        (lambda: plot.score_field(PLANE.score(VP), 0.1, extent=BOX, kind="arrow"), "`kind` must"),
        (lambda: plot.score_field(lambda x, t: x[:, :1], 0.1, extent=BOX), "`score` must return"),
        (lambda: plot.paths(path_of(2), dims=2), "`dims` must be"),
        (lambda: plot.paths(path_of(2), dims=(0, 1, 1)), "`dims` must be"),
        (lambda: plot.paths(path_of(2), dims=()), "`dims` must be"),
        (lambda: plot.paths(path_of(2), n=0), "`n` must be"),
        (lambda: plot.paths(path_of(2), highlight=-1), "`highlight` must be"),
        (lambda: plot.paths(np.zeros((2, 2))), "ndarray.*holds no path.*keep='all'"),
        (lambda: plot.work_precision({}, "W1"), "`results` holds no records"),
        (lambda: plot.work_precision({"a": ([1], [0.0])}, "W1"), "no finite non-zero 'W1'"),
        (
            lambda: plot.work_precision(Result([Record("a", 1, {"W1": 1.0})]), "W2"),
            r"`metric` must be among \['W1'\], got 'W2'",
        ),
        (lambda: plot.work_precision({"a": ([1], [1.0])}, "W1", floor=0.0), "`floor` must be"),
        (lambda: plot.images(np.zeros((3, 5))), r"5 pixels an image, not 2 x 2: pass size"),
        (lambda: plot.images(np.zeros(4)), "`x` must have shape"),
        (lambda: plot.images(np.zeros((2, 4)), titles=["one"]), "`titles` must hold 2 names"),
        (lambda: plot.images(np.zeros((2, 4)), columns=0), "`columns` must be"),
    ],
)
def test_bad_input_is_named_with_its_remedy(call: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
    assert plt.get_fignums() == []  # and leaves no empty figure behind


def test_a_run_that_kept_nothing_says_how_to_keep() -> None:
    process = rs.ReverseSDE(VP, LINE.score(VP))
    with pytest.raises(ValueError, match="keep='all'"):
        plot.paths(rs.sample(process, rs.EulerMaruyama(), 2, times=2, rng=0))
