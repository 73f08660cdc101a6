"""Distances between samples: identities and independent oracles only.

Nothing here is statistical but one check of the slicing directions (false-positive rate 1e-6).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist
from scipy.special import ndtr

from refsde.measure import (
    energy_distance,
    frechet,
    mmd,
    sliced_wasserstein,
    wasserstein_1d,
)
from refsde.targets import GaussianMixture

NUMBERS = st.floats(-100, 100, allow_subnormal=False)
DISTANCES = [sliced_wasserstein, energy_distance, mmd, frechet]


def samples(n: int | tuple[int, int] = (2, 9), d: int = 1) -> st.SearchStrategy[np.ndarray]:
    """Arrays (n, d)."""
    size = st.just(n) if isinstance(n, int) else st.integers(*n)
    return size.flatmap(lambda k: arrays(float, (k, d), elements=NUMBERS))


def rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    return scipy.stats.ortho_group.rvs(d, random_state=rng) if d > 1 else np.eye(1)


# -- sliced Wasserstein and W_p in one dimension --------------------------------------------------


def assignment(x: np.ndarray, y: np.ndarray, p: float) -> float:
    """W_p by brute force: the best of all pairings of equally many points."""
    cost = np.abs(x[:, None] - y) ** p
    return float(cost[linear_sum_assignment(cost)].mean() ** (1 / p))


@given(samples(6), samples(6), st.sampled_from([1.0, 2.0, 3.5]))
def test_one_dimension_is_the_optimal_assignment(x: np.ndarray, y: np.ndarray, p: float) -> None:
    expected = pytest.approx(assignment(x[:, 0], y[:, 0], p), rel=1e-9, abs=1e-9)
    assert wasserstein_1d(x, y, p=p) == expected
    assert sliced_wasserstein(x, y, p=p) == expected


def test_a_pairing_in_the_given_order_is_rejected() -> None:
    x, y = np.arange(6.0), np.arange(6.0)[::-1]
    mutant = np.abs(x - y).mean()
    assert assignment(x, y, 1) == wasserstein_1d(x, y) == 0 < mutant


@given(samples(), samples())
def test_order_one_agrees_with_scipy_for_any_sizes(x: np.ndarray, y: np.ndarray) -> None:
    expected = scipy.stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert wasserstein_1d(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(samples(), samples(), st.sampled_from([1.0, 2.0, 3.5]))
def test_unequal_sizes_couple_quantiles_exactly(x: np.ndarray, y: np.ndarray, p: float) -> None:
    """Repeating every point leaves the law alone and makes the sizes equal."""
    many_x, many_y = np.repeat(x, len(y), axis=0), np.repeat(y, len(x), axis=0)
    expected = np.mean(np.abs(np.sort(many_x, axis=0) - np.sort(many_y, axis=0)) ** p) ** (1 / p)
    assert sliced_wasserstein(x, y, p=p) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_interpolated_quantiles_are_rejected(rng: np.random.Generator) -> None:
    x, y = np.sort(rng.normal(size=4)), np.sort(rng.normal(size=7))
    mutant = np.abs(np.interp(np.linspace(0, 1, 7), np.linspace(0, 1, 4), x) - y).mean()
    assert abs(mutant - wasserstein_1d(x, y)) > 0.01


def test_slices_are_the_one_dimensional_distances(rng: np.random.Generator) -> None:
    """Rebuild the documented formula with a loop over the documented directions."""
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(25, 3)) + 1
    key = np.random.default_rng(7).integers(2**64, dtype=np.uint64)
    directions = np.random.default_rng(int(key)).standard_normal((9, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    for p in (1.0, 2.0, 3.0):
        powers = [wasserstein_1d(x @ u, y @ u, p=p) ** p for u in directions]
        got = sliced_wasserstein(x, y, p=p, projections=9, rng=7)
        assert got == pytest.approx(np.mean(powers) ** (1 / p), rel=1e-12)


def test_directions_are_uniform_on_the_sphere(rng: np.random.Generator) -> None:
    """A shift c gives SW_2^2 = mean (theta.c)^2, expectation |c|^2 / d; rate 1e-6 a side."""
    d, L = 5, 4096
    x, c = rng.normal(size=(3, d)), rng.normal(size=d)
    variance = 2 * (d - 1) / (d**2 * (d + 2))  # of (theta.c)^2 / |c|^2, a beta variable
    got = sliced_wasserstein(x, x + c, projections=L) ** 2 / (c @ c)
    band = 4.9 * math.sqrt(variance / L)
    assert abs(got - 1 / d) < band
    raw = np.random.default_rng(0).standard_normal((L, d))  # mutant: not normalised
    assert abs(np.mean((raw @ c) ** 2) / (c @ c) - 1 / d) > band


def test_fewer_projections_are_a_prefix_of_more(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 50, 4))
    totals = [L * sliced_wasserstein(x, y, projections=L) ** 2 for L in range(1, 40)]
    assert np.all(np.diff(totals) >= 0)


def test_blocks_of_directions_do_not_matter(rng: np.random.Generator, monkeypatch: Any) -> None:
    x, y = rng.normal(size=(2, 50, 4))
    whole = sliced_wasserstein(x, y)
    monkeypatch.setattr("refsde.measure.metrics.BLOCK", 1)
    assert sliced_wasserstein(x, y) == pytest.approx(whole, rel=1e-13)


def test_rng_as_int_and_as_generator_agree(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 50, 4))
    of_int = sliced_wasserstein(x, y, rng=3)
    assert of_int == sliced_wasserstein(x, y, rng=np.random.default_rng(3))
    assert of_int != sliced_wasserstein(x, y, rng=4)


@pytest.mark.parametrize("size", [1e-150, 1e139])
def test_no_power_overflows_or_underflows(size: float) -> None:
    x, y = np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    assert wasserstein_1d(x * size, y * size, p=50) == pytest.approx(size, rel=1e-12)


# -- W_1 against a mixture ------------------------------------------------------------------------

OVERLAP = GaussianMixture([0.3, 0.5, 0.2], [[-2.0], [0.5], [1.0]], [0.2, 1.0, 0.01])


def w1_by_quadrature(x: np.ndarray, target: GaussianMixture) -> float:
    def gap(t: float) -> float:
        return abs(np.searchsorted(x, t, side="right") / len(x) - float(target.cdf(t)))

    x = np.sort(x)
    edges = np.sort(np.concatenate([np.linspace(-12.0, 12.0, 97), x]))  # the narrow mode is seen
    return sum(quad(gap, a, b, limit=400, epsabs=1e-13)[0] for a, b in itertools.pairwise(edges))


@given(samples((2, 8)).map(lambda x: x[:, 0] / 20))
def test_distance_to_a_mixture_is_the_integral(x: np.ndarray) -> None:
    assert wasserstein_1d(x, OVERLAP) == pytest.approx(w1_by_quadrature(x, OVERLAP), abs=1e-8)


def test_ignoring_the_crossings_is_rejected() -> None:
    """Mutant: |integral| of each interval in place of the integral of the modulus."""
    x = np.array([-2.5, -1.0, 0.4, 2.0])
    level = np.arange(5) / 4
    edges = np.concatenate([[-12.0], x, [12.0]])
    parts = [
        abs(quad(lambda t, u=u: u - float(OVERLAP.cdf(t)), a, b, limit=400)[0])
        for u, (a, b) in zip(level, itertools.pairwise(edges), strict=True)
    ]
    assert wasserstein_1d(x, OVERLAP) - sum(parts) > 0.05


def test_two_points_against_one_normal_in_closed_form() -> None:
    """Points -a, a and N(0, 1): 2 (2 G(-a) + a/2 - phi(0)), G the integral of Phi."""
    a, phi = 0.8, scipy.stats.norm.pdf
    g = phi(a) - a * ndtr(-a)
    normal = GaussianMixture([1.0], [[0.0]], [1.0])
    expected = 2 * (2 * g + a / 2 - phi(0.0))
    assert wasserstein_1d([-a, a], normal) == pytest.approx(expected, rel=1e-14)


@given(samples((2, 8)), samples((1, 5)))
def test_point_masses_are_a_sample(x: np.ndarray, points: np.ndarray) -> None:
    k = len(points)
    target = GaussianMixture(np.full(k, 1 / k), points, np.zeros(k))
    expected = wasserstein_1d(x, np.repeat(points, 2))
    assert wasserstein_1d(x, target) == pytest.approx(expected, rel=1e-10, abs=1e-9)


def test_distance_to_a_mixture_far_from_the_origin(rng: np.random.Generator) -> None:
    x = rng.normal(size=500)
    near, far = (GaussianMixture([0.4, 0.6], [[m], [m + 1]], [1.0, 0.5]) for m in (0.0, 2.0**20))
    assert wasserstein_1d(x + 2.0**20, far) == pytest.approx(wasserstein_1d(x, near), rel=1e-6)
    assert wasserstein_1d(x + 1e12, near) == pytest.approx(1e12, rel=1e-9)


def test_triangle_inequality_between_law_and_samples(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=30), OVERLAP.sample(400, rng=rng)
    to_law, between, floor = (wasserstein_1d(*p) for p in ((x, OVERLAP), (x, y), (y, OVERLAP)))
    assert abs(to_law - between) <= floor
    assert floor < 0.15


# -- energy distance and MMD ----------------------------------------------------------------------


def energy_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    return float(2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean())


def mmd_by_hand(x: np.ndarray, y: np.ndarray, b: float) -> float:
    def kernel(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.exp(-(cdist(u, v) ** 2) / (2 * b * b))

    def off_diagonal(u: np.ndarray) -> float:
        return float(kernel(u, u)[~np.eye(len(u), dtype=bool)].mean())

    return off_diagonal(x) + off_diagonal(y) - 2 * float(kernel(x, y).mean())


@pytest.mark.parametrize(("n", "m", "d"), [(2, 3, 1), (512, 513, 2), (1100, 600, 5)])
def test_tiles_agree_with_the_whole_distance_matrix(
    n: int, m: int, d: int, rng: np.random.Generator
) -> None:
    x, y = rng.normal(size=(n, d)) + 1e3, 1.3 * rng.normal(size=(m, d)) + 1e3
    assert energy_distance(x, y) == pytest.approx(energy_by_hand(x, y), abs=1e-10)
    assert mmd(x, y, bandwidth=0.7) == pytest.approx(mmd_by_hand(x, y, 0.7), abs=1e-12)


@given(samples(), samples())
def test_energy_distance_agrees_with_scipy_in_one_dimension(x: np.ndarray, y: np.ndarray) -> None:
    expected = scipy.stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert energy_distance(x, y) == pytest.approx(expected, rel=1e-6, abs=1e-5)


def expectation(statistic: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """Exact mean of a statistic of 2 + 3 draws: over all samples of two laws on three points."""
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    total = 0.0
    for i in itertools.product(range(3), repeat=2):
        for j in itertools.product(range(3), repeat=3):
            chance = np.prod(p[list(i)]) * np.prod(q[list(j)])
            total += chance * statistic(points[list(i)], points[list(j)])
    return total


def population(matrix: np.ndarray) -> tuple[float, float, float]:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    return float(p @ matrix @ q), float(p @ matrix @ p), float(q @ matrix @ q)


POINTS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])


def test_bias_of_the_energy_distance_is_the_stated_one() -> None:
    xy, xx, yy = population(cdist(POINTS, POINTS))
    truth, bias = 2 * xy - xx - yy, xx / 2 + yy / 3
    assert expectation(energy_distance) == pytest.approx(truth + bias, rel=1e-7)
    assert bias > 0.5  # so that the U-statistic, whose mean is `truth`, would fail here


def test_mmd_is_unbiased() -> None:
    xy, xx, yy = population(np.exp(-0.5 * cdist(POINTS, POINTS) ** 2))
    truth = xx + yy - 2 * xy
    assert expectation(lambda x, y: mmd(x, y, bandwidth=1.0)) == pytest.approx(truth, rel=1e-12)

    def with_the_diagonal(x: np.ndarray, y: np.ndarray) -> float:  # mutant: the V-statistic
        k = [np.exp(-0.5 * cdist(a, b) ** 2).mean() for a, b in ((x, x), (y, y), (x, y))]
        return float(k[0] + k[1] - 2 * k[2])

    assert expectation(with_the_diagonal) > truth + 0.1


def test_a_point_is_at_distance_exactly_zero_from_itself(rng: np.random.Generator) -> None:
    """A narrow kernel sees rounding of |x - x|^2, were there any, as a discrepancy of 1 / n."""
    x, y = rng.normal(size=(2, 9, 3))
    assert mmd(x, y, bandwidth=1e-9) == 0.0


def test_default_bandwidth_is_the_median_pooled_distance(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(300, 3)), 2 * rng.normal(size=(200, 3))
    b = float(np.median(pdist(np.concatenate([x, y]))))
    assert mmd(x, y) == pytest.approx(mmd(x, y, bandwidth=b), rel=1e-12)
    big = rng.normal(size=(6000, 2)), rng.normal(size=(6000, 2)) + 1  # taken from a subset
    b = float(np.median(pdist(np.concatenate(big)[::10])))
    assert mmd(*big) == pytest.approx(mmd(*big, bandwidth=b), rel=0.05)


# -- what all of them have in common --------------------------------------------------------------


@pytest.mark.parametrize("distance", DISTANCES)
@given(samples(5, 3), samples(7, 3), st.integers(0, 99))
def test_neither_order_nor_side_matters(
    distance: Callable[..., float], x: np.ndarray, y: np.ndarray, seed: int
) -> None:
    options = {"bandwidth": 2.0} if distance is mmd else {}
    shuffled = np.random.default_rng(seed).permutation(x)
    there = distance(x, y, **options)
    # Coincident points: the GEMM form is good to 1e-8 of the spread, the singular fits to 1e-8.
    assert distance(shuffled, y, **options) == pytest.approx(there, rel=1e-7, abs=1e-4)
    assert distance(y, x, **options) == pytest.approx(there, rel=1e-7, abs=1e-4)
    assert there >= 0 or distance is mmd


@pytest.mark.parametrize(("distance", "degree"), list(zip(DISTANCES, (1, 1, 0, 2), strict=True)))
def test_units(distance: Callable[..., float], degree: int, rng: np.random.Generator) -> None:
    x, y, c = rng.normal(size=(40, 3)), 2 * rng.normal(size=(50, 3)), rng.normal(size=3)
    expected = distance(x, y) * 5.0**degree
    assert distance(5 * x + c, 5 * y + c) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("distance", [energy_distance, mmd, frechet])
def test_rigid_motions_change_nothing(
    distance: Callable[..., float], rng: np.random.Generator
) -> None:
    x, y, u = rng.normal(size=(40, 3)), 2 * rng.normal(size=(50, 3)), rotation(3, rng)
    assert distance(x @ u, y @ u) == pytest.approx(distance(x, y), rel=1e-9)


@pytest.mark.parametrize("distance", DISTANCES)
def test_any_library_dtype_and_event_shape(
    distance: Callable[..., float], xp: ModuleType, rng: np.random.Generator
) -> None:
    x, y = rng.normal(size=(2, 20, 6)).astype(np.float32)
    expected = distance(x.astype(float), y.astype(float))
    assert distance(xp.asarray(x), xp.asarray(y)) == expected
    assert distance(x.reshape(20, 2, 3), y) == expected
    assert type(distance(x, y)) is float


@pytest.mark.parametrize("distance", [*DISTANCES, lambda x, y: wasserstein_1d(x[:, 0], y[:, 0])])
def test_inputs_are_left_alone(distance: Callable[..., float], rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 20, 3))
    x.flags.writeable = y.flags.writeable = False
    distance(x, y)


GOOD = np.arange(12.0).reshape(6, 2)
LINE = np.arange(6.0)
BAD_SAMPLES = [
    (
        GOOD[:1],
        ValueError,
        r"`x` must be a sample of shape \(n, .* n >= 2, got shape .1, 2",
    ),
    (np.float64(3.0), ValueError, "`x` must be a sample"),
    (np.empty((3, 0)), ValueError, "`x` must be a sample"),
    (np.where(GOOD == 3, np.nan, GOOD), ValueError, "1 of 6 rows with NaN.*sol.success"),
    (np.where(GOOD > 8, -np.inf, GOOD), ValueError, "2 of 6 rows"),
    (np.where(GOOD > 8, 1e200, GOOD), ValueError, "beyond 1e.140"),
    (GOOD + 1j, TypeError, "`x` must hold real numbers, got dtype complex128"),
    (GOOD.astype(str), TypeError, "real numbers"),
]


@pytest.mark.parametrize("distance", [*DISTANCES, wasserstein_1d])
@pytest.mark.parametrize(("x", "error", "message"), BAD_SAMPLES)
def test_bad_samples_are_named(
    distance: Callable[..., float], x: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        distance(x, GOOD)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sliced_wasserstein(GOOD, LINE), ValueError, r"of shape \(2,\) and \(1,\)"),
        (lambda: mmd(GOOD.reshape(3, 2, 2), np.zeros((3, 4, 1))), ValueError, "of one shape"),
        (lambda: energy_distance(GOOD, np.zeros((3, 3))), ValueError, "of the same space"),
        (lambda: frechet(GOOD, LINE), ValueError, "d = 2 and d = 1"),
        (lambda: sliced_wasserstein(GOOD, GOOD, p=0.5), ValueError, "`p` must be.*>= 1, got 0.5"),
        (lambda: sliced_wasserstein(GOOD, GOOD, p=math.nan), ValueError, "`p` must be"),
        (lambda: sliced_wasserstein(GOOD, GOOD, p="2"), ValueError, "`p` must be.*got '2'"),
        (lambda: wasserstein_1d(LINE, LINE, p=math.inf), ValueError, "`p` must be a finite"),
        (lambda: sliced_wasserstein(GOOD, GOOD, projections=0), ValueError, "at least 1, got 0"),
        (lambda: sliced_wasserstein(GOOD, GOOD, projections=2.5), TypeError, "an integer"),
        (lambda: sliced_wasserstein(GOOD, GOOD, rng="x"), TypeError, "`rng` must be"),
        (lambda: wasserstein_1d(GOOD, GOOD), ValueError, "more than one coordinate"),
        (lambda: wasserstein_1d(GOOD, OVERLAP), ValueError, "more than one coordinate"),
        (lambda: wasserstein_1d(LINE, GaussianMixture.ring(2)), ValueError, "more than one"),
        (lambda: wasserstein_1d(LINE, OVERLAP, p=2), ValueError, "`p` must be 1 against a law"),
        (lambda: mmd(GOOD, GOOD, bandwidth=0), ValueError, "positive and finite, got 0"),
        (lambda: mmd(GOOD, GOOD, bandwidth=math.nan), ValueError, "`bandwidth` must be"),
        (lambda: mmd(np.zeros(5), np.ones(2)), ValueError, "most points coincide"),
    ],
)
def test_bad_arguments_are_named(
    call: Callable[[], float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()
