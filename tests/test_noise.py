"""Noise: addresses, exact moments, Levy areas, stored paths.

Identities first: every draw of `Gaussian` is compared, bit for bit, with NumPy's Philox at its
address.  What stays statistical uses exactly known moments at `Z` standard errors: 65 comparisons
at a two-sided rate of 1e-6 each, so that a right source fails this file for one seed in 15000;
mutants are rejected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

import refsde as rs
from refsde._random import START, KeyedNormals, block_rows
from refsde.noise import LastMean

Z = 4.9  # standard errors: two-sided rate 1e-6
BLOCK = 16384


def oracle(key: int, block: int, call: int, shape: tuple[int, ...]) -> np.ndarray:
    """The normals at an address, from NumPy alone: Philox by (key, block), call in the top word."""
    counter = np.array([0, 0, 0, call], dtype=np.uint64)
    bits = np.random.Philox(key=np.array([key, block], dtype=np.uint64), counter=counter)
    return np.random.Generator(bits).standard_normal(shape)


# -- Gaussian: addresses --------------------------------------------------------------------------


@given(
    key=st.integers(0, 2**64 - 1),
    calls=st.integers(0, 3),
    rows=st.lists(st.integers(0, 60), min_size=1, max_size=8, unique=True),
    event=st.sampled_from([(1,), (2,), (3, 2)]),
)
def test_every_draw_is_the_philox_at_its_address(
    key: int, calls: int, rows: list[int], event: tuple[int, ...]
) -> None:
    rows = sorted(rows)
    x = np.zeros((len(rows), *event))
    source = rs.Gaussian(key=key).on(np.array(rows))
    for _ in range(calls):
        source.normal(x)
    expected = oracle(key, 0, calls, (61, *event))[rows]
    assert np.array_equal(source.normal(x), expected)


def test_the_increment_is_the_normal_times_the_root_of_the_interval() -> None:
    """Exact, so that a scale of 1.001 or a forgotten root does not pass: |s - t| = 1/4, 1/16."""
    x = np.zeros((5, 2))
    source = rs.Gaussian(key=8)
    z = [oracle(8, 0, call, (5, 2)) for call in range(4)]
    assert np.array_equal(source.increment(0.75, 0.5, x), z[0] * 0.5)
    assert np.array_equal(source.increment(0.25, 0.3125, x), z[1] * 0.25)
    dw, h = source.levy(1.0, 0.25, x)
    assert dw == pytest.approx(z[2] * math.sqrt(0.75), rel=1e-15)
    assert h == pytest.approx(z[3] * math.sqrt(0.75 / 12), rel=1e-15)


def test_a_start_has_an_address_of_its_own() -> None:
    source = rs.Gaussian(key=8)
    x = np.zeros((4, 3))
    source.normal(x)
    assert np.array_equal(source.start(x), oracle(8, 0, START, (4, 3)))
    assert np.array_equal(source.normal(x), oracle(8, 0, 1, (4, 3))), "a start takes no call"


@pytest.mark.parametrize(
    ("d", "size"), [(1, 16384), (64, 16384), (65, 8192), (128, 8192), (200, 4096)]
)
def test_blocks_are_keyed_apart(d: int, size: int) -> None:
    rows = np.array([0, 3, size - 1, size, size + 2, 3 * size])
    got = rs.Gaussian(key=5).on(rows).normal(np.zeros((6, d)))
    blocks = [oracle(5, block, 0, (size, d)) for block in (0, 1, 3)]
    assert np.array_equal(got[:3], blocks[0][[0, 3, size - 1]])
    assert np.array_equal(got[3:5], blocks[1][[0, 2]])
    assert np.array_equal(got[5], blocks[2][0])


@given(st.integers(1, 2**22))
def test_block_sizes_are_the_documented_ones(d: int) -> None:
    size = block_rows(d)
    if d <= 64:
        assert size == 16384
    else:
        assert math.log2(size).is_integer()
        assert size * d <= 2**20 < 2 * size * d or size == 1


def test_random_access_equals_the_sequence() -> None:
    """Rows, blocks and calls in any order, from one re-keyed generator or from many."""
    table, rows = KeyedNormals(9), np.arange(BLOCK + 3)
    whole = [table.normal(rows, (2,), call) for call in range(3)]
    for call in (2, 0, 1):
        for part in (rows[7:9], rows[-5:], rows[BLOCK:], rows[:1], np.array([4, BLOCK + 1])):
            assert np.array_equal(table.normal(part, (2,), call), whole[call][part])
            assert np.array_equal(KeyedNormals(9).normal(part, (2,), call), whole[call][part])
    assert table.normal(rows[:0], (2,), 0).shape == (0, 2)


def test_uniforms_share_the_addresses() -> None:
    rows = np.arange(1000)
    u = KeyedNormals(9).uniform(rows, (1,), 0)
    assert np.array_equal(KeyedNormals(9).uniform(rows[500:510], (1,), 0), u[500:510])
    assert 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < Z / math.sqrt(12 * 1000)


@given(
    first=st.lists(st.integers(0, 9), min_size=1, unique=True),
    then=st.lists(st.integers(0, 9), min_size=1, unique=True),
)
def test_on_keeps_the_question_and_changes_the_samples(first: list[int], then: list[int]) -> None:
    """What the loop does when samples leave: those that stay see the same path."""
    full, x = rs.Gaussian(key=3), np.zeros((10, 2))
    whole = [full.normal(x) for _ in range(3)]
    source: Any = rs.Gaussian(key=3)
    for call, rows in enumerate((sorted(first), sorted(then), sorted(first))):
        source = source.on(np.array(rows))
        assert np.array_equal(source.normal(x[rows]), whole[call][rows])


def test_on_leaves_the_source_alone() -> None:
    source, x = rs.Gaussian(key=3), np.zeros((2, 1))
    part = source.on(np.arange(2))
    part.normal(x)
    assert np.array_equal(source.normal(x), oracle(3, 0, 0, (2, 1)))


def test_float32_is_the_rounded_float64() -> None:
    x = np.zeros((6, 2))
    fine, coarse = (rs.Gaussian(1).increment(0.5, 0.25, x.astype(d)) for d in (float, np.float32))
    assert coarse.dtype == np.float32
    assert np.array_equal(coarse, fine.astype(np.float32))


def test_noise_takes_library_and_dtype_of_the_state(xp: Any) -> None:
    x = xp.zeros((4, 2), dtype=xp.float32)
    path = rs.StoredPath.draw([0.0, 0.5, 1.0], (4, 2), rng=0, levy=True)
    for source in (rs.Gaussian(0), path, LastMean(rs.Gaussian(0), 0.5, 0.0)):
        values = [source.normal(x), source.increment(1.0, 0.5, x), *source.levy(0.5, 0.0, x)]
        for value in values:
            assert (
                type(value) is type(x) and value.dtype == x.dtype and tuple(value.shape) == (4, 2)
            )


def test_each_sample_may_have_its_own_times(xp: Any) -> None:
    """Ends (B, 1): row by row what a shared clock gives."""
    t, s = np.array([[1.0], [0.7], [0.2]]), np.array([[0.5], [0.7], [0.6]])
    x = xp.zeros((3, 2), dtype=xp.float64)
    got = rs.Gaussian(4).increment(xp.asarray(t), xp.asarray(s), x)
    assert np.asarray(got) == pytest.approx(
        oracle(rs.Gaussian(4).key, 0, 0, (3, 2)) * abs(s - t) ** 0.5
    )
    dw, h = rs.Gaussian(4).levy(xp.asarray(t), xp.asarray(s), x)
    assert np.array_equal(np.asarray(dw), np.asarray(got))
    assert np.asarray(h) == pytest.approx(
        oracle(rs.Gaussian(4).key, 0, 1, (3, 2)) * (abs(s - t) / 12) ** 0.5
    )


# -- Gaussian: moments ----------------------------------------------------------------------------


class Frozen(rs.Gaussian):
    """Mutant: the number of the question never moves."""

    def normal(self, x: Any) -> Any:
        value = super().normal(x)
        self._call -= 1
        return value


class Unrooted(rs.Gaussian):
    """Mutant: the interval instead of its root."""

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return self.normal(x) * abs(s - t)


class Loud(rs.Gaussian):
    """Mutant: 2 % too loud."""

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return 1.02 * super().increment(t, s, x)


class OneBlock(rs.Gaussian):
    """Mutant: every block has the key of the first."""

    def _draw(self, x: Any, call: int) -> Any:
        rows = np.arange(len(x)) % BLOCK
        return np.concatenate([self._table.normal(r, x.shape[1:], call) for r in np.split(rows, 2)])


def z_scores(source: Any) -> dict[str, float]:
    """Moments of a source, less those of Brownian motion, in standard errors: each N(0, 1)."""
    n = 2 * BLOCK
    x, calls = np.zeros((n, 2)), []
    start = source.start(x)
    for t, s in ((1.0, 0.6), (0.6, 0.5), (0.5, 0.0)):
        calls.append(source.increment(t, s, x) / math.sqrt(abs(s - t)))
    dw, h = source.levy(0.9, 0.4, x)
    calls += [dw / math.sqrt(0.5), h / math.sqrt(0.5 / 12), start, source.normal(x)]
    z = {f"variance {i}": (u.var() - 1) * math.sqrt(u.size / 2) for i, u in enumerate(calls)}
    z |= {f"mean {i}": u.mean() * math.sqrt(u.size) for i, u in enumerate(calls)}
    p = math.erf(math.sqrt(0.5))  # within one standard deviation
    z |= {
        f"shape {i}": ((abs(u) < 1).mean() - p) * math.sqrt(u.size / (p * (1 - p)))
        for i, u in enumerate(calls)
    }
    for i, u in enumerate(calls):
        for j in range(i):
            z[f"calls {i}, {j}"] = (u * calls[j]).mean() * math.sqrt(u.size)
        z[f"blocks {i}"] = (u[:BLOCK] * u[BLOCK:]).mean() * math.sqrt(u.size / 2)
        z[f"rows {i}"] = (u[1:] * u[:-1]).mean() * math.sqrt(u.size)
        z[f"coordinates {i}"] = (u[:, 0] * u[:, 1]).mean() * math.sqrt(n)
    return z


def test_increments_are_brownian(seed: int) -> None:
    """Variance |s - t|; calls, blocks, rows, coordinates, areas and the start independent."""
    worst = max(np.abs(list(z_scores(rs.Gaussian(seed)).values())))
    assert worst < Z


@pytest.mark.parametrize(
    ("mutant", "seen_in"),
    [(Frozen, "calls"), (Unrooted, "variance"), (Loud, "variance"), (OneBlock, "blocks")],
)
def test_mutants_are_not(mutant: Any, seen_in: str, seed: int) -> None:
    z = z_scores(mutant(seed))
    assert max(abs(v) for name, v in z.items() if name.startswith(seen_in)) > Z


# -- StoredPath -----------------------------------------------------------------------------------

TIMES = np.array([0.0, 0.1, 0.25, 0.3, 0.7, 0.95, 1.0])


def drawn(**options: Any) -> rs.StoredPath:
    return rs.StoredPath.draw(TIMES, (5, 2), rng=1, **options)


@given(st.lists(st.sampled_from(list(TIMES)), min_size=3, max_size=3))
def test_increments_add_up(ends: list[float]) -> None:
    t, m, s = ends
    path, x = drawn(), np.zeros((5, 2))
    joined = path.increment(t, m, x) + path.increment(m, s, x)
    assert joined == pytest.approx(path.increment(t, s, x), abs=1e-12)
    assert np.array_equal(path.increment(s, t, x), -path.increment(t, s, x))


def test_increments_are_differences_of_what_was_stored() -> None:
    w = np.arange(3 * 4 * 2.0).reshape(3, 4, 2) ** 2
    path, x = rs.StoredPath([0.0, 0.5, 1.0], w), np.zeros((4, 2))
    assert np.array_equal(path.increment(1.0, 0.5, x), w[1] - w[2])
    assert np.array_equal(path.increment(0.0, 1.0, x), w[2] - w[0])
    # the same path, given from noise to data
    back = rs.StoredPath([1.0, 0.5, 0.0], w[::-1])
    assert np.array_equal(back.increment(1.0, 0.5, x), w[1] - w[2])


def test_a_drawn_path_is_brownian_and_its_normals_are_no_part_of_it(seed: int) -> None:
    """Draws at their addresses: increments and areas at the first ones, `normal` after the last."""
    path, x = rs.StoredPath.draw(TIMES, (5, 2), rng=seed, levy=True), np.zeros((5, 2))
    key, steps = rs.Gaussian(seed).key, len(TIMES) - 1
    for i, (t, s) in enumerate(zip(TIMES[:-1], TIMES[1:], strict=True)):
        dw, h = path.levy(float(t), float(s), x)
        assert dw == pytest.approx(oracle(key, 0, 2 * i, (5, 2)) * math.sqrt(s - t), abs=1e-14)
        assert h == pytest.approx(
            oracle(key, 0, 2 * i + 1, (5, 2)) * math.sqrt((s - t) / 12), abs=1e-14
        )
    rows = np.array([1, 4])
    part = path.on(rows)
    for call in range(
        2 * steps, 2 * steps + 3
    ):  # from the first address on, they would be the path
        assert np.array_equal(part.normal(x[rows]), oracle(key, 0, call, (5, 2))[rows])


def test_a_path_of_samples_that_remain() -> None:
    path, x = drawn(), np.zeros((5, 2))
    rows = np.array([0, 3])
    whole = path.increment(0.95, 0.1, x)
    assert np.array_equal(path.on(rows).increment(0.95, 0.1, x[rows]), whole[rows])
    assert np.array_equal(path.on(rows).on(np.array([3])).increment(0.95, 0.1, x[:1]), whole[3:4])
    assert np.array_equal(path.on(np.arange(5)).increment(0.95, 0.1, x), whole)
    assert path.on(np.arange(0)).increment(0.95, 0.1, x[:0]).shape == (0, 2)


def test_a_path_at_times_of_each_sample() -> None:
    path, x = drawn(levy=True), np.zeros((5, 2))
    t, s = (
        np.array([[1.0], [0.1], [0.7], [0.3], [0.95]]),
        np.array([[0.0], [0.7], [0.25], [1.0], [0.1]]),
    )
    dw, h = path.levy(t, s, x)
    mixed = path.increment(t, 0.0, x)
    for i in range(5):
        one, row = path.on(np.array([i])), x[:1]
        dw_i, h_i = one.levy(float(t[i, 0]), float(s[i, 0]), row)
        assert np.array_equal(dw[i : i + 1], dw_i) and h[i : i + 1] == pytest.approx(h_i, abs=1e-15)
        assert np.array_equal(mixed[i : i + 1], one.increment(float(t[i, 0]), 0.0, row))
    rows = np.array([1, 3, 4])
    assert np.array_equal(path.on(rows).increment(t[rows], s[rows], x[rows]), dw[rows])


def test_times_off_the_grid_are_refused() -> None:
    path, x = drawn(levy=True), np.zeros((5, 2))
    assert np.array_equal(path.increment(0.1 + 1e-13, 0.0, x), path.increment(0.1, 0.0, x))
    for t in (0.11, -0.1, 1.2, 0.1 + 1e-6):
        with pytest.raises(ValueError, match=r"`t` holds no time .* solve on a subset"):
            path.increment(t, 0.0, x)
        with pytest.raises(ValueError, match=r"`t` holds no time"):
            path.levy(1.0, t, x)
    late = np.full((5, 1), 0.1)
    late[3] = 0.2
    with pytest.raises(ValueError, match=r"`t` holds no time 0\.2,"):
        path.increment(late, 0.0, x)


def test_a_path_of_another_shape_is_refused() -> None:
    """NumPy would broadcast (B, 1) over (B, 2), and the coordinates would share their noise."""
    path = rs.StoredPath.draw([0.0, 1.0], (4, 1), rng=0, levy=True)
    for shape in ((4, 2), (2, 1), (4, 1, 1)):
        with pytest.raises(
            ValueError, match=r"`w` holds states of shape \(4, 1\) here, but `x` has"
        ):
            path.increment(1.0, 0.0, np.zeros(shape))
        with pytest.raises(ValueError, match="`w` holds states"):
            path.levy(1.0, 0.0, np.zeros(shape))


def test_a_path_solves_as_the_recursion_says() -> None:
    """Euler-Maruyama along a stored path, written out."""
    sde, grid = rs.VP(), rs.Grid.uniform(rs.VP(), 4, 0.0).reversed()
    path = rs.StoredPath.draw(grid.ts, (3, 2), rng=2)
    x = expected = np.ones((3, 2))
    sol = rs.sample(rs.ForwardSDE(sde), rs.EulerMaruyama(), x=x, times=grid, noise=path)
    for i, (t, s) in enumerate(zip(grid.ts[:-1], grid.ts[1:], strict=True)):
        dw = path.w[i + 1] - path.w[i]
        expected = expected - 0.5 * sde.beta(t) * expected * (s - t) + math.sqrt(sde.beta(t)) * dw
    assert sol.x == pytest.approx(expected, rel=1e-13)


# -- Levy areas -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "s"), [(0.0, 1.0), (0.1, 0.7), (0.3, 0.95), (0.95, 1.0)])
def test_joined_areas_are_the_integral_of_the_path(t: float, s: float) -> None:
    """A smooth path, its exact area on every piece: joined pieces give the area of the whole."""

    def w(u: float) -> float:
        return math.sin(5 * u) + u**3

    def area(a: float, b: float) -> float:
        return quad(w, a, b, epsabs=1e-14)[0] / (b - a) - 0.5 * (w(a) + w(b))

    values = np.array([[[w(u)]] for u in TIMES])
    areas = np.array([[[area(a, b)]] for a, b in zip(TIMES[:-1], TIMES[1:], strict=True)])
    path, x = rs.StoredPath(TIMES, values, areas), np.zeros((1, 1))
    dw, h = path.levy(t, s, x)
    assert dw.item() == pytest.approx(w(s) - w(t), abs=1e-13)
    assert h.item() == pytest.approx(area(t, s), abs=1e-12)


def test_joined_areas_of_straight_pieces() -> None:
    """Without areas of its own a path is polygonal: its integral is the trapezoidal rule."""
    fine = np.linspace(0.0, 1.0, 201)
    w = np.random.default_rng(0).normal(size=(201, 3, 2)).cumsum(axis=0)
    path = rs.StoredPath(fine, w, np.zeros((200, 3, 2)))
    for i, j in ((0, 200), (17, 130), (50, 51)):
        mean = np.trapezoid(w[i : j + 1], fine[i : j + 1], axis=0) / (fine[j] - fine[i])
        expected = mean - 0.5 * (w[i] + w[j])
        assert path.levy(fine[i], fine[j], np.zeros((3, 2)))[1] == pytest.approx(
            expected, abs=1e-11
        )


def joined_moments(h_scale: float = 1.0) -> np.ndarray:
    """Covariance of (dW, H) over [0.1, 0.95], exactly: the join is linear, so a basis gives it.

    Sample i of the path is the i-th unit vector of the independent normals behind (dW_j, H_j).
    """
    dt = np.diff(TIMES)
    m = len(dt)
    steps, areas = np.zeros((m, 2 * m)), np.zeros((m, 2 * m))
    steps[np.arange(m), np.arange(m)] = np.sqrt(dt)
    areas[np.arange(m), m + np.arange(m)] = h_scale * np.sqrt(dt / 12)
    w = np.concatenate([np.zeros((1, 2 * m)), steps.cumsum(axis=0)])
    path = rs.StoredPath(TIMES, w[:, :, None], areas[:, :, None])
    dw, h = path.levy(0.1, 0.95, np.zeros((2 * m, 1)))
    rows = np.concatenate([dw, h], axis=1).T
    return np.asarray(rows @ rows.T)


def test_joined_areas_have_the_law_of_the_whole() -> None:
    """Var dW = l, Var H = l / 12, and they are uncorrelated, exactly."""
    length = 0.95 - 0.1
    expected = np.diag([length, length / 12])
    assert joined_moments() == pytest.approx(expected, abs=1e-15)
    assert abs(joined_moments(math.sqrt(4.0)) - expected).max() > 0.01, (
        "mutant: H of variance l / 3"
    )


def test_reversing_time_flips_the_increment_and_keeps_the_area() -> None:
    path, x = drawn(levy=True), np.zeros((5, 2))
    for t, s in ((1.0, 0.1), (0.3, 0.25), (0.0, 1.0)):
        (dw, h), (back, area) = path.levy(t, s, x), path.levy(s, t, x)
        assert np.array_equal(back, -dw) and np.array_equal(area, h) and np.any(h != 0)
    assert path.h is not None
    mirrored = rs.StoredPath(TIMES[::-1], path.w[::-1], path.h[::-1])
    assert np.array_equal(mirrored.levy(0.95, 0.1, x)[1], path.levy(0.95, 0.1, x)[1])


def test_a_path_without_areas_says_so() -> None:
    with pytest.raises(ValueError, match=r"`h` is None.*levy=True"):
        drawn().levy(1.0, 0.0, np.zeros((5, 2)))


# -- LastMean -------------------------------------------------------------------------------------


def test_the_last_step_has_no_path_noise_and_all_others_have() -> None:
    """Sub-intervals of the last step too; corrector draws stay, and no question is skipped."""
    plain, source, x = rs.Gaussian(3), LastMean(rs.Gaussian(3), 0.1, 0.0), np.zeros((4, 2))
    for t, s in ((1.0, 0.5), (0.5, 0.1), (0.1, 0.05), (0.05, 0.0)):
        expected = plain.increment(t, s, x) * (s >= 0.1)
        assert np.array_equal(source.increment(t, s, x), expected)
        assert np.array_equal(source.normal(x), plain.normal(x))
        for got, kept in zip(source.levy(t, s, x), plain.levy(t, s, x), strict=True):
            assert np.array_equal(got, kept * (s >= 0.1))


def test_the_last_step_of_a_forward_run_and_of_some_samples() -> None:
    x = np.zeros((3, 1))
    forward = LastMean(rs.Gaussian(3), 0.5, 1.0).on(np.arange(3))
    s = np.array([[0.5], [0.75], [1.0]])
    dw = forward.increment(np.full((3, 1), 0.25), s, x)
    assert dw[0] != 0 and dw[1] == dw[2] == 0
    assert np.all(forward.increment(0.0, 0.5, x) != 0)


# -- what it says ---------------------------------------------------------------------------------


def test_repr_repeats_the_source() -> None:
    source = rs.Gaussian(5)
    assert eval(repr(source), {"Gaussian": rs.Gaussian}).key == source.key


def test_a_subclass_stays_one_when_a_block_starts() -> None:
    class Loud(rs.Gaussian):
        def increment(self, t: Any, s: Any, x: Any) -> Any:
            return 2.0 * super().increment(t, s, x)

    x = np.zeros((5, 2))
    here = Loud(3).on(np.arange(5))
    assert type(here) is Loud and type(here.on(np.arange(2))) is Loud
    plain = rs.Gaussian(3).on(np.arange(5))
    assert np.array_equal(here.increment(1.0, 0.5, x), 2.0 * plain.increment(1.0, 0.5, x))
    rest = here.on(np.array([1, 4]))  # at the same question as those it was taken from
    assert np.array_equal(rest.normal(x[:2]), plain.normal(x)[[1, 4]])
