"""A sample against its law: exact identities, then draws at known variance.

Statistical tests state their false-positive rate; in sum they stay below 5e-6 a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsde.measure import (
    Floor,
    dispersion,
    energy_distance,
    logpdf_gap,
    mode_weight_error,
    mode_weights,
    noise_floor,
    wasserstein_1d,
)
from refsde.targets import GaussianMixture

Z = 4.9  # standard errors: two-sided rate 1e-6

# Two modes that overlap strongly, and two that do not touch.
MIXED = GaussianMixture([0.3, 0.7], [[-0.6], [0.8]], [0.5, 1.5])
APART = GaussianMixture([0.3, 0.7], [[-40.0], [40.0]], [0.5, 1.5])
RING = GaussianMixture.ring(4, 4.0, 0.2)


def mean_under(target: GaussianMixture, g: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """E g(X) for a one-dimensional target, by the trapezoidal rule (spectrally accurate here)."""
    x = np.linspace(-60.0, 60.0, 40001)[:, None]
    density = np.exp(target.logpdf(x)) * (x[1, 0] - x[0, 0])
    return np.asarray(density @ g(x))


def hard(target: GaussianMixture, x: np.ndarray) -> np.ndarray:
    """Mutant of the responsibilities: all of a point to its likeliest mode."""
    r = target.responsibilities(x)
    return np.eye(r.shape[1])[r.argmax(axis=1)]


class Hard:
    """A mixture that assigns points to modes by `hard`."""

    def __init__(self, target: GaussianMixture) -> None:
        self.weights, self.means, self.eigh = target.weights, target.means, target.eigh
        self.responsibilities = lambda x: hard(target, x)


class Uniform:
    """A law that is no mixture: uniform on [0, 2]^d."""

    def __init__(self, d: int) -> None:
        self.d = d

    def sample(self, n: int, *, rng: Any = None) -> np.ndarray:
        return 2 * np.random.default_rng(rng).random((n, self.d))

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return np.log(np.all((x >= 0) & (x <= 2), axis=1) / 2.0**self.d)


def perfect(target: GaussianMixture, stretch: float = 1.0) -> np.ndarray:
    """Points whose mean and covariance about each mode are those of the mode, times `stretch`."""
    lam, vectors = target.eigh()
    arms = np.sqrt(target.dim * lam)[:, None, :] * vectors * stretch  # (K, d, d), columns
    both = np.concatenate([arms, -arms], axis=2).transpose(0, 2, 1)
    return np.asarray((target.means[:, None] + both).reshape(-1, target.dim))


def full(k: int, d: int, rng: np.random.Generator, spread: float) -> GaussianMixture:
    half = rng.normal(size=(k, d, d)) + np.eye(d)
    means = spread * rng.normal(size=(k, d))
    return GaussianMixture(np.full(k, 1 / k), means, half @ half.transpose(0, 2, 1))


# -- the identity behind it all -------------------------------------------------------------------


@pytest.mark.parametrize("target", [MIXED, APART])
def test_responsibilities_give_weights_and_variances_exactly(target: GaussianMixture) -> None:
    """E_p[r_k g] = w_k E_k[g], for g = 1 and g = (x - m_k)^2."""
    variances = target.weights * target.eigh()[0][:, 0]
    assert mean_under(target, target.responsibilities) == pytest.approx(target.weights, rel=1e-10)
    squares = mean_under(target, lambda x: target.responsibilities(x) * (x - target.means.T) ** 2)
    assert squares == pytest.approx(variances, rel=1e-10)


def test_hard_assignment_does_not() -> None:
    weights = mean_under(MIXED, lambda x: hard(MIXED, x))
    squares = mean_under(MIXED, lambda x: hard(MIXED, x) * (x - MIXED.means.T) ** 2)
    assert np.all(np.abs(weights / MIXED.weights - 1) > 0.02)
    assert np.all(np.abs(squares / (MIXED.weights * [0.5, 1.5]) - 1) > 0.05)


# -- mode weights ---------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12))
def test_separate_modes_are_counted(modes: list[int]) -> None:
    share = np.bincount(modes, minlength=4) / len(modes)
    x = RING.means[modes]
    assert mode_weights(x, RING) == pytest.approx(share, abs=1e-12)
    error = 0.5 * np.abs(share - 0.25).sum()
    assert mode_weight_error(x, RING) == pytest.approx(error, abs=1e-12)


def test_mode_weights_of_draws(seed: int) -> None:
    """Rate 1e-6; the mutant is the hard assignment, on the same draws."""
    n = 100_000
    x = MIXED.sample(n, rng=seed)
    r2 = mean_under(MIXED, lambda x: MIXED.responsibilities(x) ** 2)
    band = Z * np.sqrt((r2 - MIXED.weights**2) / n)
    assert np.all(np.abs(mode_weights(x, MIXED) - MIXED.weights) < band)
    assert mode_weight_error(x, MIXED) < band.max()
    assert mode_weight_error(x, Hard(MIXED)) > 2 * band.max()


# -- dispersion -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stretch", [0.0, 0.5, 1.0, 1.1])
def test_dispersion_of_scaled_modes_is_exact(stretch: float, rng: np.random.Generator) -> None:
    """Every ratio is stretch^2.  The modes are rotated ellipses, far apart."""
    target = full(3, 4, rng, 1000.0)
    expected = (stretch**2 - 1) ** 2
    assert dispersion(perfect(target, stretch), target) == pytest.approx(expected, abs=1e-10)


def test_dispersion_of_draws_from_overlapping_modes(seed: int) -> None:
    """Rate 2e-6, from the variance of r_k ((x - m_k)^2 - lam_k); the hard assignment fails it."""
    n, lam = 100_000, MIXED.eigh()[0][:, 0]

    def squared(x: np.ndarray) -> np.ndarray:
        return (MIXED.responsibilities(x) * ((x - MIXED.means.T) ** 2 - lam)) ** 2

    variance = mean_under(MIXED, squared) / (n * (MIXED.weights * lam) ** 2)
    bound = np.mean(Z**2 * variance)
    x = MIXED.sample(n, rng=seed)
    assert dispersion(x, MIXED) < bound
    assert dispersion(x, Hard(MIXED)) > 3 * bound


def test_dispersion_floor_is_the_stated_one() -> None:
    """Separate modes: E (q - 1)^2 = 2 / n_k, so the floor is the mean of 2 / (n w_k)."""
    n, repeats = 2000, 100
    floor = noise_floor(dispersion, APART, n, repeats=repeats, against="target")
    expected = np.mean(2 / (n * APART.weights))
    assert abs(floor.mean - expected) < Z * floor.std / math.sqrt(repeats)


def test_a_mode_without_samples_has_no_variance() -> None:
    """Only the tails of the other modes speak for it: a huge number, infinite once they vanish."""
    assert dispersion(RING.means[:2], RING) > 1e4
    assert dispersion(APART.means[[0, 0]], APART) == math.inf
    spare = GaussianMixture([0.5, 0.5, 0.0], [[-50.0], [50.0], [0.0]], [1.0, 1.0, 1.0])
    assert dispersion(spare.means[[0, 0, 1, 1]], spare) == 1.0  # a mode of weight zero is no mode


# -- log-density gap ------------------------------------------------------------------------------


def test_gap_of_one_gaussian_is_exact(rng: np.random.Generator) -> None:
    """E log p(X) = log p(m) - d/2, so the means have gap d/2, and `perfect` points none."""
    target = full(1, 5, rng, 1.0)
    assert logpdf_gap(np.repeat(target.means, 2, axis=0), target) == pytest.approx(2.5, rel=1e-12)
    assert logpdf_gap(perfect(target), target) == pytest.approx(0.0, abs=1e-12)
    assert logpdf_gap(perfect(target, 1.2), target) == pytest.approx(2.5 * (1 - 1.44), rel=1e-12)


def test_gap_of_separate_modes_needs_no_draws() -> None:
    exact = mean_under(APART, APART.logpdf)
    x = APART.means
    gap = np.mean(APART.logpdf(x)) - exact
    assert logpdf_gap(x, APART) == pytest.approx(gap, abs=1e-10)


def test_gap_of_overlapping_modes() -> None:
    """Rate 1e-6.  Mutants: the entropy of the modes left out, or with the wrong sign."""
    x = MIXED.means
    gap = np.mean(MIXED.logpdf(x)) - mean_under(MIXED, MIXED.logpdf)

    def ambiguity(x: np.ndarray) -> np.ndarray:
        r = MIXED.responsibilities(x)
        return -np.sum(r * np.log(np.maximum(r, 1e-300)), axis=1)

    first, second = mean_under(MIXED, ambiguity), mean_under(MIXED, lambda x: ambiguity(x) ** 2)
    band = Z * math.sqrt((second - first**2) / 2**16)
    assert abs(logpdf_gap(x, MIXED) - gap) < band < 0.01
    assert first > 20 * band


def test_gap_to_given_draws_is_a_difference(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 30, 2))
    expected = RING.logpdf(x).mean() - RING.logpdf(y).mean()
    assert logpdf_gap(x, RING, reference=y) == expected
    assert logpdf_gap(x, RING) == logpdf_gap(x, RING)  # without them: a fixed stream


def test_gap_ignores_modes_of_weight_zero() -> None:
    one = GaussianMixture([1.0], [[0.0]], [1.0])
    two = GaussianMixture([1.0, 0.0], [[0.0], [3.0]], [1.0, 1.0])
    assert logpdf_gap([[0.0], [1.0]], two) == logpdf_gap([[0.0], [1.0]], one)


def test_gap_of_a_law_that_is_no_mixture() -> None:
    assert logpdf_gap(np.ones((5, 3)), Uniform(3)) == pytest.approx(0.0, abs=1e-14)


def test_reference_stream_is_not_that_of_a_small_seed() -> None:
    """A sample drawn with rng=0 must not meet itself as the reference."""
    drawn: list[np.ndarray] = []

    class Spy(Uniform):
        def sample(self, n: int, *, rng: Any = None) -> np.ndarray:
            drawn.append(super().sample(n, rng=rng))
            return drawn[-1]

    logpdf_gap(np.ones((5, 3)), Spy(3))
    assert all(not np.array_equal(Uniform(3).sample(4, rng=s), drawn[0][:4]) for s in range(100))


# -- the floor ------------------------------------------------------------------------------------


def first(x: np.ndarray, y: np.ndarray) -> float:
    return float(x[0, 0])


def second(x: np.ndarray, y: np.ndarray) -> float:
    return float(y[0, 0])


def test_floor_is_addressed_by_repeat_and_side() -> None:
    few, many = (noise_floor(first, MIXED, 10, repeats=k, rng=5) for k in (2, 6))
    assert few.values == many.values[:2]
    others = noise_floor(second, MIXED, 10, repeats=6, rng=5).values
    assert len({*many.values, *others}) == 12  # all draws differ
    assert noise_floor(first, MIXED, 10, repeats=6, rng=np.random.default_rng(5)) == many
    assert noise_floor(first, MIXED, 10, repeats=6, rng=6) != many


def test_floor_summarises_its_values() -> None:
    floor = noise_floor(first, MIXED, 10)
    assert len(floor.values) == 8
    assert floor == Floor(np.mean(floor.values), np.std(floor.values, ddof=1), floor.values)


def test_floor_of_the_energy_distance_is_its_bias() -> None:
    """Between equal laws the mean is (2/n) E|x - x'|, 2 s / sqrt(pi) for N(m, s^2).  Rate 1e-6."""
    n, repeats = 40, 300
    normal = GaussianMixture([1.0], [[3.0]], [4.0])
    floor = noise_floor(energy_distance, normal, n, repeats=repeats)
    expected = 2 / n * 2 * 2.0 / math.sqrt(math.pi)
    band = Z * floor.std / math.sqrt(repeats)
    assert abs(floor.mean - expected) < band

    def same_draws(x: np.ndarray, y: np.ndarray) -> float:  # mutant: the sides share a stream
        return energy_distance(x, x)

    assert abs(noise_floor(same_draws, normal, n, repeats=2).mean - expected) > band


def test_floor_against_the_target_is_lower() -> None:
    """No second sample: for W_1 the mean falls by about sqrt(2)."""
    pair = noise_floor(wasserstein_1d, MIXED, 500, repeats=40)
    law = noise_floor(wasserstein_1d, MIXED, 500, repeats=40, against="target")
    assert 1.2 < pair.mean / law.mean < 1.7


# -- bad input ------------------------------------------------------------------------------------

SINGULAR = GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 0.0]])
X = RING.means


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mode_weights(X[:1], RING), ValueError, r"n >= 2, got shape \(1, 2\)"),
        (lambda: mode_weights(X[:, :1], RING), ValueError, "1 numbers a sample and the target d"),
        (lambda: mode_weight_error(X * np.nan, RING), ValueError, "4 of 4 rows with NaN"),
        (lambda: dispersion(X, MIXED), ValueError, "2 numbers a sample and the target d = 1"),
        (lambda: dispersion(X, SINGULAR), ValueError, "variance 0 .*target.at.sde, sde.t_end"),
        (lambda: logpdf_gap(X, SINGULAR), ValueError, "singular.*target.at.sde, sde.t_end"),
        (lambda: logpdf_gap(X + 1j, RING), TypeError, "real numbers"),
        (lambda: logpdf_gap(X, RING, reference=X[:, :1]), ValueError, "`reference` has 1 numb"),
        (lambda: noise_floor(first, RING, 1), ValueError, "`n` must be at least 2, got 1"),
        (lambda: noise_floor(first, RING, 9.5), TypeError, "`n` must be an integer"),
        (lambda: noise_floor(first, RING, 9, repeats=1), ValueError, "`repeats` must be at least"),
        (lambda: noise_floor(first, RING, 9, against="law"), ValueError, "`against` must be"),
        (lambda: noise_floor(first, RING, 9, rng="a"), TypeError, "`rng` must be"),
        (
            lambda: noise_floor(mode_weights, RING, 9, against="target"),
            TypeError,
            r"one number, got shape \(4,\)",
        ),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("measure", [mode_weights, mode_weight_error, dispersion, logpdf_gap])
def test_inputs_are_left_alone_and_flattened(measure: Callable[..., Any]) -> None:
    x = np.tile(X, (3, 1)) + 0.1
    x.flags.writeable = False
    assert np.array_equal(measure(x, RING), measure(x.reshape(-1, 2, 1), RING))
