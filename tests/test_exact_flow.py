"""The exact flow map: golden values, three ways that must agree, and identities of the map."""

from __future__ import annotations

import ast
import inspect
import math
import sys
from types import ModuleType
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.special import ndtri

import refsde as rs
from refsde.exact import flow
from refsde.targets import Empirical
from refsde.testing import strategies

VP = rs.VP()
SDES = [VP, rs.SubVP(), rs.VE(), rs.Cosine(), rs.EDM()]
# the two problems of the benchmark
MODES = rs.GaussianMixture([0.3, 0.3, 0.4], [[-2.0], [0.0], [1.5]], np.array([0.3, 0.2, 0.4]) ** 2)
RING = rs.GaussianMixture.ring(8, 2.0, 0.2)
QUANTILES = ndtri((np.arange(400) + 0.5) / 400)[:, None]

NARROW = rs.GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [1e-4, 1e-4])
SKEW = rs.GaussianMixture([1.0], [[0.7, -1.0, 0.2]], [[[2, 0.5, 0], [0.5, 1, 0.3], [0, 0.3, 0.2]]])


def product(first: rs.GaussianMixture, variance: float) -> rs.GaussianMixture:
    """The law of two independent coordinates: a mixture on the line, and N(0.5, variance)."""
    K = first.n_components
    means = np.hstack([first.means, np.full((K, 1), 0.5)])
    variances = np.hstack([first.covs[:, 0], np.full((K, 1), variance)])
    return rs.GaussianMixture(first.weights, means, variances)


def product_flow(first: Any, variance: float, x: np.ndarray, t: float, s: float) -> np.ndarray:
    """Its flow: coordinate by coordinate, each in closed form."""
    second = rs.GaussianMixture([1.0], [[0.5]], [variance])
    parts = [flow(VP, first, x[:, :1], t, s), flow(VP, second, x[:, 1:], t, s)]
    return np.hstack(parts)


def error(found: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Error of each sample (B,), relative to its size plus one."""
    gap = np.sqrt(np.mean((found - right) ** 2, axis=1))
    return np.asarray(gap / (1 + np.sqrt(np.mean(right**2, axis=1))))


# -- golden values --------------------------------------------------------------------------------


def test_golden_values_on_the_line() -> None:
    y = flow(VP, MODES, QUANTILES, 1.0, 1e-3)[[0, 100, 200, 399], 0]
    golden = [-2.7917805052881812, -1.7044329282046435, 0.08840496889740981, 2.5939466378908564]
    assert y == pytest.approx(golden, rel=1e-14, abs=1e-14)


def test_golden_values_in_the_plane() -> None:
    x = np.random.default_rng(0).standard_normal((512, 2))[[0, 1, -1]]
    golden = [
        [1.126638706141, -1.142709742718],
        [1.845371863805, 0.095532199479],
        [-1.966145710533, -0.234773077325],
    ]
    assert flow(VP, RING, x, 1.0, 1e-3) == pytest.approx(np.array(golden), abs=1e-12)


# -- three ways to the same map -------------------------------------------------------------------


@pytest.mark.parametrize("sde", SDES, ids=repr)
def test_numerical_is_the_rearrangement(sde: Any) -> None:
    x = sde.prior_std * QUANTILES
    down = flow(sde, MODES, x, sde.T, sde.t_end)
    found = flow(sde, MODES, x, sde.T, sde.t_end, rtol=1e-12, method="numerical")
    assert np.abs(found - down).max() < 2e-13  # the bound asked for is 1e-11
    back = flow(sde, MODES, down, sde.t_end, sde.T, rtol=1e-12, method="numerical")
    assert error(back, x).max() < 1e-11


@pytest.mark.parametrize("sde", SDES, ids=repr)
def test_one_gaussian_three_ways(sde: Any) -> None:
    target = rs.GaussianMixture([1.0], [[0.7]], [0.25])
    x = sde.prior_std * np.array([[-3.0], [0.0], [0.4], [6.0]])
    exact = flow(sde, target, x, sde.T, sde.t_end)
    ways = [flow(sde, target, x, sde.T, sde.t_end, method="rearrangement")]
    ways += [flow(sde, target, x, sde.T, sde.t_end, method="numerical", rtol=1e-12)]
    assert max(error(way, exact).max() for way in ways) < 1e-13


@pytest.mark.parametrize("sde", SDES, ids=repr)
def test_gaussian_in_three_dimensions(sde: Any, rng: np.random.Generator) -> None:
    x = sde.prior_std * rng.standard_normal((20, 3))
    found = flow(sde, SKEW, x, sde.T, sde.t_end, method="numerical", rtol=1e-12)
    assert error(found, flow(sde, SKEW, x, sde.T, sde.t_end)).max() < 1e-12


def test_gaussian_is_the_formula(rng: np.random.Generator) -> None:
    x = rng.standard_normal((7, 3))
    (lam,), (U,) = SKEW.eigh()

    def root(t: float) -> np.ndarray:
        variances = VP.alpha(t) ** 2 * lam + VP.sigma(t) ** 2
        return np.asarray((U * np.sqrt(variances)) @ U.T)

    right = VP.alpha(0.1) * SKEW.means + (x - VP.alpha(0.9) * SKEW.means) @ np.linalg.solve(
        root(0.9), root(0.1)
    )
    assert flow(VP, SKEW, x, 0.9, 0.1) == pytest.approx(right, rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("sde", [VP, rs.SubVP(), rs.VE()], ids=repr)
def test_it_is_the_flow_of_the_sde(sde: Any) -> None:
    """Integrated as it is written, in t and x: an identity between the clocks is thereby tested."""
    x, score = sde.prior_std * np.array([[0.5, -1.0], [1.2, 0.1]]), RING.score(sde)

    def drift(t: float, flat: np.ndarray) -> np.ndarray:
        y = flat.reshape(-1, 2)
        return np.asarray(sde.f(t) * y - 0.5 * sde.g2(t) * score(y, t)).ravel()

    run = solve_ivp(drift, (1.0, 0.01), x.ravel(), "DOP853", rtol=1e-11, atol=1e-12)
    assert flow(sde, RING, x, 1.0, 0.01).ravel() == pytest.approx(run.y[:, -1], abs=1e-9)


def test_numerical_in_the_plane_is_a_product(rng: np.random.Generator) -> None:
    target, x = product(MODES, 0.3), rng.standard_normal((50, 2))
    found = flow(VP, target, x, 1.0, 1e-3, rtol=1e-12)
    assert error(found, product_flow(MODES, 0.3, x, 1.0, 1e-3)).max() < 1e-12


# -- tails and gaps -------------------------------------------------------------------------------


def high_precision(target: rs.GaussianMixture, x: float, t: float, s: float) -> float:
    """The rearrangement with 80 digits, in the tail of the law that x is in."""
    side = 1 if x > 0 else -1
    with mpmath.workdps(80):

        def tail(y: Any, time: float) -> Any:
            a, v = mpmath.mpf(VP.alpha(time)), mpmath.mpf(VP.sigma(time)) ** 2
            parts = zip(target.weights, target.means[:, 0], target.covs[:, 0, 0], strict=True)
            return sum(
                mpmath.mpf(w) * mpmath.erfc(side * (y - a * m) / mpmath.sqrt(2 * (a * a * c + v)))
                for w, m, c in parts
            )

        held, low, high = tail(mpmath.mpf(x), t), mpmath.mpf(-200), mpmath.mpf(200)
        for _ in range(70):
            middle = (low + high) / 2
            left = (tail(middle, s) > held) == (side > 0)
            low, high = (middle, high) if left else (low, middle)
        return float(low)


@pytest.mark.parametrize(
    ("target", "x", "t", "s"),
    [
        (MODES, -60.0, 1.0, 1e-3),
        (MODES, 60.0, 1.0, 1e-3),
        (MODES, 9.0, 1.0, 0.0),
        (MODES, 20.0, 1e-3, 1.0),
        (NARROW, 0.3, 0.05, 0.02),  # between two modes, 12 standard deviations from both
        (NARROW, -1.1, 0.05, 0.3),
        (NARROW, 1e-3, 0.2, 0.05),
    ],
)
def test_digits_far_out_and_between_modes(
    target: rs.GaussianMixture, x: float, t: float, s: float
) -> None:
    right = high_precision(target, x, t, s)
    assert flow(VP, target, np.array([[x]]), t, s).item() == pytest.approx(right, rel=2e-14)


@pytest.mark.parametrize(
    ("target", "x", "t", "s"), [(MODES, 9.0, 1.0, 0.0), (NARROW, 0.3, 0.05, 0.02)]
)
def test_the_distribution_function_alone_loses_them(
    target: rs.GaussianMixture, x: float, t: float, s: float
) -> None:
    """Mutant of the tails: bisection on F itself, which is 1 far out and flat between modes."""
    held, low, high = target.at(VP, t).cdf(x), -20.0, 20.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if target.at(VP, s).cdf(middle) < held else (low, middle)
    assert abs(low - high_precision(target, x, t, s)) > 1e-9


@pytest.mark.parametrize("x", [1e3, 1e6, 1e50, 1e99])
def test_absurdly_far_points_follow_the_widest_component(x: float) -> None:
    """Out there the tail of the widest component at that level is all there is."""
    start = np.array([[x], [-x]])
    y = flow(VP, MODES, start, 1.0, 1e-3)
    assert y == pytest.approx(flow(VP, MODES.component(2), start, 1.0, 1e-3), rel=1e-15 + 10 / x)


# -- identities of the map ------------------------------------------------------------------------

numbers = st.floats(-6, 6)
times = st.floats(0.0, 1.0)


def mixtures() -> Any:
    """On the line; standard deviations of 0.01 to 1.4."""
    return strategies.gmms(dims=1, spread=3.0, smallest=1e-4)


@given(mixtures(), st.lists(numbers, min_size=2, max_size=5), times, times)
def test_mass_to_either_side_is_kept(
    target: rs.GaussianMixture, x: list[float], t: float, s: float
) -> None:
    points = np.sort(x)[:, None]
    y = flow(VP, target, points, t, s, method="rearrangement")
    for side in ("cdf", "sf"):
        before, after = (getattr(target.at(VP, u), side)(p) for u, p in ((t, points), (s, y)))
        assert after == pytest.approx(before, abs=1e-13)
    # no path overtakes another; two that start within rounding of each other may end so
    assert np.all(np.diff(y[:, 0]) >= -1e-15 * (1 + np.abs(y[1:, 0])))


@given(mixtures(), numbers, st.floats(0.0, 0.3), st.floats(0.3, 0.6), st.floats(0.6, 1.0))
def test_encoding_goes_by_way_of_any_level(
    target: rs.GaussianMixture, x: float, t: float, r: float, s: float
) -> None:
    """Upwards, where errors shrink: F_s^-1 F_r F_r^-1 F_t = F_s^-1 F_t."""
    start = np.array([[x]])
    by_way = flow(VP, target, flow(VP, target, start, t, r), r, s)
    assert by_way == pytest.approx(flow(VP, target, start, t, s), rel=1e-11, abs=1e-11)


@given(st.data(), strategies.gmms(components=1), strategies.sdes())
def test_one_gaussian_goes_there_and_back(data: Any, target: Any, sde: Any) -> None:
    """Time reversal in any dimension and under every SDE, over any two times."""
    t, s = (data.draw(strategies.times(sde)) for _ in range(2))
    x = data.draw(strategies.points(target, sde, t))
    y = flow(sde, target, x, t, s)
    size = np.abs(x).max() + math.sqrt(np.trace(target.at(sde, t).cov))
    assert np.abs(flow(sde, target, y, s, t) - x).max() <= 1e-10 * size
    law, start = target.at(sde, s), target.at(sde, t)
    assert law.logpdf(y) - start.logpdf(x) == pytest.approx(  # density is carried along
        0.5 * (np.linalg.slogdet(start.cov)[1] - np.linalg.slogdet(law.cov)[1]), abs=1e-8
    )


@given(mixtures(), numbers, st.floats(0.2, 5.0), numbers)
def test_it_moves_and_stretches_with_the_data(
    target: rs.GaussianMixture, x: float, c: float, b: float
) -> None:
    """Data c x + b under EDM, started at c x + b at the c-fold noise levels, end at c y + b."""
    sde, start = rs.EDM(sigma_max=500.0), np.array([[x]])
    moved = rs.GaussianMixture(target.weights, c * target.means + b, c * c * target.covs)
    y = flow(sde, target, start, 1.0, 40.0)
    assert flow(sde, moved, c * start + b, c * 1.0, c * 40.0) == pytest.approx(
        c * y + b, rel=1e-10, abs=1e-10
    )


@given(mixtures(), numbers, times, times)
def test_a_mirror_image_maps_to_a_mirror_image(
    target: rs.GaussianMixture, x: float, t: float, s: float
) -> None:
    mirrored = rs.GaussianMixture(target.weights, -target.means, target.covs)
    y = flow(VP, target, np.array([[x]]), t, s).item()
    z = flow(VP, mirrored, np.array([[-x]]), t, s).item()
    law = target.at(VP, s)
    # where the map is steep, compare the mass in between
    assert abs(y + z) < 1e-12 * (1 + abs(y)) or abs(law.cdf(y) - law.cdf(-z)) < 1e-14


def test_the_law_is_carried_to_the_law() -> None:
    """All of p_T at once: quantiles of p_T become quantiles of p_s."""
    shares = np.linspace(0.001, 0.999, 200)
    prior = MODES.at(VP, 1.0)
    x = flow(VP, MODES, flow(VP, MODES, QUANTILES, 1.0, 0.0), 0.0, 1.0)
    assert x == pytest.approx(QUANTILES, abs=1e-12)
    quantiles = np.interp(shares, prior.cdf(QUANTILES[:, 0]), QUANTILES[:, 0])[:, None]
    after = MODES.cdf(flow(VP, MODES, quantiles, 1.0, 0.0)[:, 0])
    assert after == pytest.approx(prior.cdf(quantiles[:, 0]), abs=1e-14)


def test_standing_still_is_a_copy() -> None:
    x = np.ones((3, 2))
    y = flow(VP, RING, x, 0.5, 0.5)
    assert np.array_equal(x, y)
    assert not np.shares_memory(x, y)


# -- samples are independent, the input is left alone ---------------------------------------------

FIVE = rs.GaussianMixture([1.0], [np.arange(5.0)], [np.eye(5) + 0.5])


@pytest.mark.parametrize(("target", "n"), [(MODES, 300), (FIVE, 700)])
def test_exact_results_do_not_depend_on_batch_mates(
    target: rs.GaussianMixture, n: int, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((n, target.dim))
    whole = flow(VP, target, x, 1.0, 1e-3)
    for rows in (slice(0, 1), slice(17, 58), slice(n - 1, n)):
        assert np.array_equal(flow(VP, target, x[rows], 1.0, 1e-3), whole[rows])


@pytest.mark.parametrize("method", ["gaussian", "rearrangement", "numerical"])
def test_input_is_read_only_and_may_be_empty(method: Any) -> None:
    target = rs.GaussianMixture([1.0], [[0.7]], [0.25])
    x = np.linspace(-1, 1, 5)[:, None]
    x.setflags(write=False)
    assert flow(VP, target, x, 1.0, 0.1, method=method).shape == (5, 1)
    assert flow(VP, target, x[:0], 1.0, 0.1, method=method).shape == (0, 1)


def test_any_library_goes_in_and_numpy_comes_out(xp: ModuleType) -> None:
    x = np.array([[0.5], [-1.0]])
    y = flow(VP, MODES, xp.asarray(x), 1.0, 1e-3)
    assert isinstance(y, np.ndarray)
    assert np.array_equal(y, flow(VP, MODES, x, 1.0, 1e-3))


def test_float32_is_computed_in_float64() -> None:
    x = np.array([[0.5], [-1.0]], np.float32)
    y = flow(VP, MODES, x, 1.0, 1e-3)
    assert y.dtype == np.float64
    assert np.array_equal(y, flow(VP, MODES, x.astype(float), 1.0, 1e-3))


# -- the numerical method keeps its promise -------------------------------------------------------


def crowd() -> np.ndarray:
    """One start next to a boundary between two modes, among 1023 that any method gets right."""
    x = np.full((1024, 2), 1.0)
    x[77] = (1e-6, 0.3)
    return x


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8, 1e-9])
def test_every_sample_is_as_exact_as_asked(rtol: float) -> None:
    right = product_flow(NARROW, 0.01, crowd(), 1.0, 1e-3)
    found = flow(VP, product(NARROW, 0.01), crowd(), 1.0, 1e-3, rtol=rtol)
    assert error(found, right).max() <= rtol


def test_an_error_averaged_over_the_batch_is_not() -> None:
    """Mutant: SciPy's own control, over the whole batch and without a second opinion."""
    rtol, score = 1e-6, product(NARROW, 0.01).score(VP)

    def slope(lam: float, flat: np.ndarray) -> np.ndarray:
        t = VP.t_of_lam(float(lam))
        return np.asarray(-np.exp(-lam) * score.eps(VP.alpha(t) * flat.reshape(-1, 2), t)).ravel()

    span = [float(VP.lam(1.0)), float(VP.lam(1e-3))]
    start = crowd().ravel() / VP.alpha(1.0)
    run = solve_ivp(slope, span, start, "DOP853", rtol=rtol, atol=rtol, t_eval=span[1:])
    found = VP.alpha(1e-3) * run.y[:, -1].reshape(-1, 2)
    assert error(found, product_flow(NARROW, 0.01, crowd(), 1.0, 1e-3)).max() > 10 * rtol


def test_it_says_where_it_is_not() -> None:
    """1e-12 from a boundary, rounding alone makes 1e-7: a warning, and it names the sample."""
    x = np.array([[0.3, 0.3], [1e-12, 0.3]])
    with pytest.warns(RuntimeWarning, match=r"1 of 2 samples .* \(sample 1 is the worst\)"):
        found = flow(VP, product(NARROW, 0.01), x, 1.0, 1e-3)
    off = error(found, product_flow(NARROW, 0.01, x, 1.0, 1e-3))
    assert off[0] < 1e-10 < off[1] < 1e-4


# -- laws without spread --------------------------------------------------------------------------


def test_a_point_mass_draws_everything_onto_itself() -> None:
    point = Empirical([[1.0, -2.0]])
    x = np.array([[0.3, 0.4], [-7.0, 2.0]])
    assert flow(VP, point, x, 1.0, 0.0) == pytest.approx(np.array([[1.0, -2.0]] * 2), abs=1e-15)
    rho = VP.sigma(0.1) / VP.sigma(1.0)
    right = VP.alpha(0.1) * point.points + rho * (x - VP.alpha(1.0) * point.points)
    assert flow(VP, point, x, 1.0, 0.1) == pytest.approx(right, rel=1e-13)
    found = flow(VP, point, x, 1.0, 0.1, method="numerical", rtol=1e-12)
    assert found == pytest.approx(right, rel=1e-12)


def test_points_on_the_line_are_exact_too() -> None:
    points = Empirical([[-1.0], [0.5], [2.0]], log_weights=np.log([0.2, 0.5, 0.3]))
    as_mixture = rs.GaussianMixture([0.2, 0.5, 0.3], points.points, np.zeros(3))
    exact = flow(VP, points, QUANTILES, 1.0, 1e-3)
    assert exact == pytest.approx(flow(VP, as_mixture, QUANTILES, 1.0, 1e-3), rel=1e-14)
    nearest = np.abs(exact - VP.alpha(1e-3) * points.points[:, 0]).min(axis=1)
    assert np.mean(nearest < 4 * VP.sigma(1e-3)) > 0.98  # the others are between two points
    found = flow(VP, points, QUANTILES[::8], 1.0, 1e-3, method="numerical")
    assert error(found, exact[::8]).max() < 1e-10


def test_points_in_the_plane(rng: np.random.Generator) -> None:
    points = Empirical(rng.standard_normal((20, 2)))
    y = flow(VP, points, rng.standard_normal((30, 2)), 1.0, 1e-3, rtol=1e-8)
    gaps = np.linalg.norm(y[:, None] - VP.alpha(1e-3) * points.points, axis=2).min(axis=1)
    assert np.median(gaps) < 3 * VP.sigma(1e-3)


def test_a_flat_gaussian_may_end_at_data_but_not_start_there() -> None:
    flat = rs.GaussianMixture([1.0], [[1.0, 2.0]], [[[1.0, 1.0], [1.0, 1.0]]])
    y = flow(VP, flat, np.array([[0.3, -0.4]]), 1.0, 0.0) - flat.means
    assert y[0, 0] == pytest.approx(y[0, 1], abs=1e-7)  # on the line where all data are
    with pytest.raises(ValueError, match=r"without spread at `t` = 0"):
        flow(VP, flat, np.array([[0.3, -0.4]]), 0.0, 1.0)


def test_components_that_are_never_drawn_do_not_count() -> None:
    """Also when they are all that stands between a mixture and the formula for one Gaussian."""
    idle = rs.GaussianMixture([1.0, 0.0], [[0.7, 0.0], [9.0, 9.0]], [0.25, 0.0])
    alone = rs.GaussianMixture([1.0], [[0.7, 0.0]], [0.25])
    x = np.array([[0.3, -0.4]])
    assert flow(VP, idle, x, 1.0, 0.0, method="gaussian") == pytest.approx(
        flow(VP, alone, x, 1.0, 0.0), rel=1e-14
    )


# -- a target of one's own ------------------------------------------------------------------------


class Own:
    """What a target must have at the least: N(0, 1) by hand."""

    dim, cov = 1, np.eye(1)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def score(self, sde: Any) -> Any:
        class Score:
            def eps(_, x: np.ndarray, t: float) -> np.ndarray:  # noqa: N805
                return self.factor * x * sde.sigma(t) / (sde.alpha(t) ** 2 + sde.sigma(t) ** 2)

        return Score()


def test_a_target_of_ones_own() -> None:
    """N(0, 1) under VP: every level has the same law, and the map is the identity."""
    assert flow(VP, Own(), QUANTILES, 1.0, 1e-3) == pytest.approx(QUANTILES, abs=1e-9)


def test_a_score_that_is_not_finite_is_an_error_not_a_loop() -> None:
    with pytest.raises(RuntimeError, match="score is not finite at rho"):
        flow(VP, Own(np.nan), QUANTILES, 1.0, 1e-3)


# -- bad input ------------------------------------------------------------------------------------

POINT = np.array([[0.5]])


@pytest.mark.parametrize(
    ("change", "problem", "says"),
    [
        ({"t": 1.5}, ValueError, r"`t` must lie in \[0, T\]"),
        ({"s": -0.1}, ValueError, r"`s` must lie in \[0, T\]"),
        ({"s": np.nan}, ValueError, r"`s` must lie in \[0, T\]"),
        ({"t": np.array([[0.5]])}, TypeError, "`t` must be one float"),
        ({"s": "0.5"}, TypeError, "`s` must be one float"),
        ({"x": np.array([0.5])}, ValueError, r"`x` must have shape \(B, 1\)"),
        ({"x": np.array([[0.5, 0.5]])}, ValueError, r"`x` must have shape \(B, 1\)"),
        ({"x": [[0.5]]}, TypeError, "`x` must be an array"),
        ({"x": np.array([[1]])}, TypeError, "`x` must be real floating point"),
        ({"x": np.array([[np.nan]])}, ValueError, "`x` must be finite"),
        ({"x": np.array([[np.inf]])}, ValueError, "`x` must be finite"),
        ({"x": np.array([[1e200]])}, ValueError, r"`x` must be finite and below 1e\+100"),
        ({"rtol": 1e-15}, ValueError, r"`rtol` must be a number in \[1e-13, 1\)"),
        ({"rtol": 0.0}, ValueError, "`rtol` must be"),
        ({"rtol": "small"}, ValueError, "`rtol` must be"),
        ({"method": "exact"}, ValueError, "`method` must be 'auto' or one of"),
        ({"method": "gaussian"}, ValueError, "needs one component"),
        ({"method": "rearrangement", "target": RING, "x": np.ones((1, 2))}, ValueError, "d = 1"),
        ({"method": "gaussian", "target": Own()}, ValueError, "needs one component"),
        ({"target": MODES.score(VP)}, TypeError, "`target` must be a target"),
        ({"target": Empirical([[0.0], [1.0]]), "s": 0.0}, ValueError, "spread at `s` = 0"),
        ({"target": Empirical([[0.0], [1.0]]), "t": 0.0}, ValueError, "spread at `t` = 0"),
        ({"method": "numerical", "s": 0.0}, ValueError, "infinite at `s` = 0.*sde.t_end"),
    ],
)
def test_bad_input(change: dict[str, Any], problem: type[Exception], says: str) -> None:
    arguments: dict[str, Any] = {"target": MODES, "x": POINT, "t": 1.0, "s": 1e-3} | change
    with pytest.raises(problem, match=says):
        flow(VP, **arguments)


def test_no_signal_is_out_of_reach_of_numbers_but_not_of_formulas() -> None:
    class Silent(rs.VE):
        """All of it noise at T."""

        def alpha(self, t: Any) -> Any:
            return 1.0 - t

    sde = Silent()
    with pytest.raises(ValueError, match="infinite at `t` = 1"):
        flow(sde, MODES, POINT, 1.0, 0.5, method="numerical")
    y = flow(sde, MODES, POINT, 1.0, 0.5)
    assert MODES.at(sde, 0.5).cdf(y) == pytest.approx(MODES.at(sde, 1.0).cdf(POINT), abs=1e-14)


def test_it_stands_on_sdes_and_targets_only() -> None:
    """It is what processes and solvers are compared with, so it must not use them."""
    module = sys.modules["refsde.exact.flow"]
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    used = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    ours = {name for name in used if name.startswith("refsde")}
    assert ours == {
        "refsde._array",
        "refsde._types",
        "refsde.sde",
        "refsde.targets",
        "refsde.targets._score",
    }


@pytest.mark.parametrize(
    "sde", [rs.VP, rs.GaussianMixture.ring(), None], ids=["class", "target", "None"]
)
def test_something_else_in_place_of_the_sde_is_named(sde: Any) -> None:
    with pytest.raises(TypeError, match=r"`sde` must be an SDE.*flow\(sde, target, x, t, s"):
        rs.exact.flow(sde, rs.GaussianMixture.ring(), np.zeros((1, 2)), 1.0, 0.5)


# -- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", ["fft", "dct", "pixel"])
@pytest.mark.parametrize("sde", [rs.VP(), rs.VE(), rs.SubVP()], ids=repr)
def test_on_a_field_it_is_the_flow_of_its_covariance(sde: Any, basis: Any) -> None:
    rng = np.random.default_rng(0)
    mean = rng.standard_normal((5, 6))
    field = rs.GaussianField.power_law((5, 6), 1.5, mean=0.0, basis=basis)
    field = rs.GaussianField(field.spectrum, mean, basis=basis)
    x = rng.standard_normal((3, 5, 6)) * sde.sigma(1.0)
    flat, dense = x.reshape(3, -1), field.to_mixture()
    for t, s in ((1.0, 0.1), (1.0, 0.0), (0.2, 0.9), (0.3, 0.3)):
        found = rs.exact.flow(sde, field, x, t, s)
        exact = rs.exact.flow(sde, dense, flat, t, s).reshape(x.shape)
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-11 * np.abs(exact).max())
        if t != s:
            back = rs.exact.flow(sde, field, found, s, t)
            np.testing.assert_allclose(back, x, rtol=0, atol=1e-10 * np.abs(x).max())


def test_the_flow_of_a_large_field_is_followed_by_solvers() -> None:
    field, sde = rs.GaussianField.power_law((3, 32, 32)), rs.VP()
    flow = rs.ProbabilityFlow(sde, field.score(sde))
    order = rs.exact.order(flow, rs.Heun(), "flow", steps=(256, 512))
    assert abs(order.slopes[-1] - 2) < 0.1


def test_what_a_field_has_no_flow_for_is_refused() -> None:
    field, sde = rs.GaussianField.power_law(4), rs.VP()
    x = np.zeros((2, 4, 4))
    with pytest.raises(ValueError, match=r"`x` must have shape \(B, 4, 4\), got \(2, 16\)"):
        rs.exact.flow(sde, field, x.reshape(2, 16), 1.0, 0.1)
    with pytest.raises(ValueError, match="no flow by a formula.*to_mixture"):
        rs.exact.flow(sde, field, x, 1.0, 0.1, method="numerical")
    with pytest.raises(ValueError, match="no flow by a formula.*to_mixture"):
        rs.exact.flow(sde, rs.FieldMixture([0.5, 0.5], [field, field]), x, 1.0, 0.1)
    flat = rs.GaussianField(np.diag([1.0, 0.0]), basis="pixel")
    with pytest.raises(ValueError, match="without spread at `t` = 0"):
        rs.exact.flow(sde, flat, np.zeros((1, 2, 2)), 0.0, 0.5)
