"""Gaussian mixtures: exact laws, sampling, ways in, bad input."""

from __future__ import annotations

import math
import warnings

import mpmath as mp
import numpy as np
import pytest
from _mixtures import KINDS, full, make
from scipy import stats

import refsde as rs

SDE = rs.VP()

# -- laws


@pytest.mark.parametrize("kind", KINDS)
def test_at_is_the_diffused_law(kind, rng):
    target, _ = make(kind, 3)
    a, s, x = SDE.alpha(0.4), SDE.sigma(0.4), rng.standard_normal((7, 3))
    law = target.at(SDE, 0.4)
    np.testing.assert_allclose(law.logpdf(x), target.score(SDE).logpdf(x, 0.4), rtol=1e-13)
    np.testing.assert_allclose(law.mean, a * target.mean, rtol=1e-13)
    np.testing.assert_allclose(
        law.cov, a**2 * target.cov + s**2 * np.eye(3), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(
        law.covs, a**2 * target.covs + s**2 * np.eye(3), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_array_equal(target.at(SDE, 0).logpdf(x), target.logpdf(x))
    assert law.at(SDE, 0.0).n_components == target.n_components


@pytest.mark.parametrize("kind", KINDS)
def test_logpdf_is_scipys(kind, rng):
    target, covs = make(kind, 3)
    x = 2 * rng.standard_normal((9, 3))
    parts = zip(target.weights, target.means, full(covs, 3), strict=True)
    density = sum(w * stats.multivariate_normal(m, C).pdf(x) for w, m, C in parts)
    np.testing.assert_allclose(target.logpdf(x), np.log(density), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", ["number", "vector", "matrix"])
def test_condition_is_bayes_rule(kind, noise, rng):
    target, _ = make(kind, 3)
    A, y = rng.standard_normal((2, 3)), rng.standard_normal(2)
    given_as, R = {
        "number": (0.3, 0.3 * np.eye(2)),
        "vector": ([0.3, 0.5], np.diag([0.3, 0.5])),
        "matrix": ([[0.3, 0.1], [0.1, 0.5]], np.array([[0.3, 0.1], [0.1, 0.5]])),
    }[noise]
    posterior = target.condition(A, y, given_as)
    x = rng.standard_normal((40, 3))
    log_likelihood = stats.multivariate_normal(np.zeros(2), R).logpdf(y - x @ A.T)
    log_evidence = target.logpdf(x) + log_likelihood - posterior.logpdf(x)  # the same for every x
    np.testing.assert_allclose(log_evidence, log_evidence[0], rtol=1e-11)
    joint = rs.GaussianMixture(target.weights, target.means @ A.T, A @ target.covs @ A.T + R)
    np.testing.assert_allclose(log_evidence[0], joint.logpdf(y[None])[0], rtol=1e-11)


def test_condition_of_one_gaussian_is_the_joint_gaussians(rng):
    target = make("full", 4)[0].component(1)
    m, C = target.mean, target.cov
    known, unknown = [0, 2], [1, 3]
    y = rng.standard_normal(2)
    posterior = target.condition(np.eye(4)[known], y, 0.0)  # no noise: the coordinates are seen
    gain = C[np.ix_(unknown, known)] @ np.linalg.inv(C[np.ix_(known, known)])
    np.testing.assert_allclose(posterior.mean[known], y, rtol=1e-10)
    np.testing.assert_allclose(
        posterior.mean[unknown], m[unknown] + gain @ (y - m[known]), rtol=1e-10
    )
    rest = C[np.ix_(unknown, unknown)] - gain @ C[np.ix_(known, unknown)]
    np.testing.assert_allclose(
        posterior.cov[np.ix_(unknown, unknown)], rest, rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(posterior.cov[known], 0, atol=1e-12)


def test_condition_by_brute_force_in_one_dimension():
    target = rs.GaussianMixture([0.3, 0.7], [[-1.0], [2.0]], [0.2, 0.5])
    grid = np.linspace(-8, 9, 20_001)
    density = np.exp(target.logpdf(grid[:, None])) * stats.norm.pdf(1.1, 0.7 * grid, math.sqrt(0.4))
    mass = np.trapezoid(density, grid)
    mean = np.trapezoid(grid * density, grid) / mass
    variance = np.trapezoid((grid - mean) ** 2 * density, grid) / mass
    posterior = target.condition([[0.7]], [1.1], 0.4)
    np.testing.assert_allclose(
        [posterior.mean[0], posterior.cov[0, 0]], [mean, variance], rtol=1e-9
    )


def test_cdf_and_sf_keep_their_digits_in_the_tails():
    target = rs.GaussianMixture([0.25, 0.75], [[-1.0], [2.0]], [[0.25], [4.0]])
    x = np.array([-70.0, -30.0, -3.0, 0.0, 5.0, 40.0, 70.0])
    parts = ((0.25, -1, 0.5), (0.75, 2, 2))
    with mp.workdps(60):
        tails = [
            [sum(w * mp.ncdf(sign * (mp.mpf(v) - m) / s) for w, m, s in parts) for v in x]
            for sign in (1, -1)
        ]
    cdf, sf = (np.array([float(v) for v in row]) for row in tails)
    np.testing.assert_allclose(target.cdf(x), cdf, rtol=1e-12)
    np.testing.assert_allclose(target.sf(x), sf, rtol=1e-12)
    assert target.cdf(0.3).shape == () and target.cdf(np.zeros((2, 3))).shape == (2, 3)
    point = rs.GaussianMixture([1.0], [[0.5]], [0.0])
    np.testing.assert_array_equal(point.cdf([0.4, 0.6]), [0.0, 1.0])


# -- sampling

FALSE_ALARM = 1e-6  # of one call of `fits`, whatever the number of directions


def fits(x: np.ndarray, target: rs.GaussianMixture) -> bool:
    """Whether the draws follow the law: Neyman's smooth test along fixed directions.

    The projected law is a 1-D mixture, its distribution function makes the draws uniform, and the
    first four Legendre polynomials of uniforms are exactly orthonormal: n |mean|^2 is chi-square.
    """
    d = target.dim
    directions = np.concatenate([np.eye(d), np.random.default_rng(3).standard_normal((3, d))])
    for q in directions:
        law = rs.GaussianMixture(
            target.weights, target.means @ q[:, None], np.einsum("i,kij,j->k", q, target.covs, q)
        )
        v = 2 * law.cdf(x @ q) - 1
        means = [
            math.sqrt(2 * j + 1) * np.mean(np.polynomial.legendre.legval(v, np.eye(5)[j]))
            for j in range(1, 5)
        ]
        if stats.chi2.sf(len(x) * np.sum(np.square(means)), 4) < FALSE_ALARM / len(directions):
            return False
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 3])
def test_samples_follow_the_law(kind, d, seed):
    target, _ = make(kind, d)
    assert fits(target.sample(50_000, rng=seed), target)


def test_the_sampling_test_rejects_wrong_samplers(seed):
    target, covs = make("full", 3)
    w, m = target.weights, target.means
    wider = rs.GaussianMixture(w, m, 1.1 * covs)
    unturned = rs.GaussianMixture(w, m, target.eigh()[0])
    mistaken = rs.GaussianMixture(w[::-1], m, covs)
    transposed = rs.GaussianMixture(
        w, m, np.einsum("kji,kj,kjl->kil", target.eigh()[1], *target.eigh())
    )
    for mutant in (wider, unturned, mistaken, transposed):
        assert not fits(mutant.sample(50_000, rng=seed), target)


def test_sample_covariance_matches_to_five_standard_errors(seed):
    target, _ = make("full", 3, K=1)  # one Gaussian: var of a covariance entry is known exactly
    C, n = target.cov, 50_000
    gaps = target.sample(n, rng=seed) - target.mean
    error = np.sqrt((np.outer(np.diag(C), np.diag(C)) + C**2) / n)
    assert np.all(np.abs(gaps.T @ gaps / n - C) <= 5 * error)  # 6 entries: false alarm 4e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 64])
def test_a_short_sample_is_the_beginning_of_a_long_one(kind, d):
    target, _ = make(kind, d)
    long = target.sample(5000, rng=4)
    for n in (0, 1, 7, 255):
        np.testing.assert_array_equal(target.sample(n, rng=4), long[:n])
    np.testing.assert_array_equal(target.sample(7, rng=np.random.default_rng(4)), long[:7])


def test_a_sample_longer_than_a_noise_block_keeps_its_beginning():
    target = rs.GaussianMixture.ring(8)
    np.testing.assert_array_equal(
        target.sample(16_400, rng=0)[:16_390], target.sample(16_390, rng=0)
    )


# -- ways in


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_from_sklearn_takes_every_covariance_type(kind, rng):
    mixture = pytest.importorskip("sklearn.mixture")
    data = rng.standard_normal((300, 3)) @ np.diag([1, 2, 0.5]) + rng.integers(0, 2, (300, 1)) * 4
    fitted = mixture.GaussianMixture(2, covariance_type=kind, random_state=0).fit(data)
    target = rs.GaussianMixture.from_sklearn(fitted)
    np.testing.assert_allclose(
        target.logpdf(data), fitted.score_samples(data), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(
        target.responsibilities(data), fitted.predict_proba(data), atol=1e-10
    )


def test_fit_takes_ints_and_generators(rng):
    pytest.importorskip("sklearn")
    data = rng.standard_normal((200, 2))
    first, second = rs.GaussianMixture.fit(data, 2, rng=0), rs.GaussianMixture.fit(data, 2, rng=0)
    np.testing.assert_array_equal(first.means, second.means)
    assert rs.GaussianMixture.fit(data, 2, rng=np.random.default_rng(0)).n_components == 2


def test_all_forms_of_a_covariance_are_one_law(rng):
    d, K, x = 3, 2, rng.standard_normal((5, 3))
    means = rng.standard_normal((K, d))
    forms = [np.full(K, 0.4), np.full((K, d), 0.4), np.stack([0.4 * np.eye(d)] * K)]
    results = [rs.GaussianMixture([0.5, 0.5], means, form) for form in forms]
    for one in results[1:]:
        np.testing.assert_allclose(
            one.score(SDE)(x, 0.2), results[0].score(SDE)(x, 0.2), rtol=1e-13
        )
        np.testing.assert_allclose(one.covs, results[0].covs, rtol=1e-13, atol=1e-15)
    ring = rs.GaussianMixture.ring(6, radius=2.0, std=0.1)
    np.testing.assert_allclose(np.linalg.norm(ring.means, axis=1), 2.0)
    np.testing.assert_allclose(ring.cov, (2.0 + 0.01) * np.eye(2), atol=1e-14)


def test_component_moments_and_repr():
    target, covs = make("full", 3)
    np.testing.assert_allclose(target.component(-1).cov, covs[-1], rtol=1e-12, atol=1e-14)
    lam, U = target.eigh()
    np.testing.assert_allclose(
        np.einsum("kij,kj,klj->kil", U, lam, U), covs, rtol=1e-12, atol=1e-13
    )
    assert (target.dim, target.n_components) == (3, 4)
    assert repr(target) == "GaussianMixture(K=4, d=3, full)"
    assert repr(make("diagonal", 2)[0]).endswith("diagonal)")
    assert repr(make("isotropic", 2)[0]).endswith("spherical)")
    assert target._repr_latex_().startswith("$") and r"\sum_{k=1}^{4}" in target._repr_latex_()
    assert "GaussianMixture" in repr(target.score(SDE)) and "VP" in repr(target.score(SDE))


def test_construction_does_not_keep_the_callers_arrays():
    means, covs = np.zeros((2, 1)), np.ones((2, 1))
    target = rs.GaussianMixture([0.5, 0.5], means, covs)
    means += 1
    covs += 1
    assert target.mean == 0 and target.cov == 1


# -- bad input

TWO = rs.GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [1.0, 1.0])
FLAT = rs.GaussianMixture([1.0], [[0.0, 0.0]], [[1.0, 0.0]])
POINTS = np.zeros((3, 2))
HALF = [0.5, 0.5]


def law(*args, **kwargs):
    return lambda: rs.GaussianMixture(*args, **kwargs)


BAD = [
    (law(HALF, [0.0, 1.0], [1.0, 1.0]), ValueError, "`means`"),
    (law(HALF, [[0.0], [np.nan]], [1.0, 1.0]), ValueError, "`means`"),
    (law(HALF, [["a"], ["b"]], [1.0, 1.0]), TypeError, "`means`"),
    (law([1.0], [[0.0], [1.0]], [1.0, 1.0]), ValueError, "`weights`"),
    (law([0.6, 0.6], [[0.0], [1.0]], [1.0, 1.0]), ValueError, "`weights`.*sum"),
    (law([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0]), ValueError, "`weights`.*negative"),
    (law([np.inf, 0.5], [[0.0], [1.0]], [1.0, 1.0]), ValueError, "`weights`"),
    (law(None, [[0.0], [1.0]], [1.0, 1.0]), ValueError, "`log_weights`"),
    (law(HALF, [[0.0], [1.0]], [1.0, 1.0], log_weights=np.log(HALF)), ValueError, "exactly one"),
    (law(None, [[0.0], [1.0]], [1.0, 1.0], log_weights=[0.0, 0.0]), ValueError, "normalised"),
    (law(None, [[0.0], [1.0]], [1.0, 1.0], log_weights=[0.0]), ValueError, "`log_weights`"),
    (law(None, [[0.0]], [1.0], log_weights=["a"]), TypeError, "`log_weights`"),
    (law(None, [[0.0], [1.0]], [1.0, 1.0], log_weights=[np.nan, 0.0]), ValueError, "`log_weights`"),
    (law(None, [[0.0]], [1.0], log_weights=[-np.inf]), ValueError, "`log_weights`"),
    (law(HALF, [[0.0], [1.0]], [1.0, 1.0, 1.0]), ValueError, "`covs`.*shape"),
    (law(HALF, [[0.0], [1.0]], [1.0, -1.0]), ValueError, "`covs`.*non-negative"),
    (law([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]]), ValueError, "`covs`.*symmetric"),
    (law([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), ValueError, "`covs`.*semi-definite"),
    (law([1.0], [[0.0, 0.0]], [[[np.nan, 0.0], [0.0, 1.0]]]), ValueError, "`covs`"),
    (lambda: rs.GaussianMixture.ring(0), ValueError, "`modes`"),
    (lambda: rs.GaussianMixture.ring(True), ValueError, "`modes`"),
    (lambda: rs.GaussianMixture.ring(8, std=-1.0), ValueError, "`std`"),
    (lambda: rs.GaussianMixture.ring(8, radius=math.nan), ValueError, "`radius`"),
    (lambda: rs.GaussianMixture.from_sklearn(object()), ValueError, "`gm`.*fit"),
    (lambda: rs.GaussianMixture.fit(np.zeros(3), 1), ValueError, "`X`"),
    (lambda: rs.GaussianMixture.fit(np.zeros((3, 1)), 5), ValueError, "`X`.*k = 5"),
    (lambda: TWO.sample(-1), ValueError, "`n`"),
    (lambda: TWO.sample(2.0), ValueError, "`n`"),
    (lambda: TWO.sample(True), ValueError, "`n`"),
    (lambda: TWO.sample(3, rng="seed"), TypeError, "`rng`"),
    (lambda: TWO.component(2), ValueError, "`k`"),
    (lambda: TWO.cdf(0.0), ValueError, "d = 1"),
    (lambda: TWO.logpdf(np.zeros(2)), ValueError, "`x`.*shape"),
    (lambda: TWO.logpdf(np.zeros((3, 3))), ValueError, "`x`.*shape"),
    (lambda: TWO.logpdf(np.zeros((3, 2), int)), TypeError, "`x`.*astype"),
    (lambda: TWO.logpdf(np.zeros((3, 2), complex)), TypeError, "`x`"),
    (lambda: TWO.logpdf([[0.0, 0.0]]), TypeError, "`x`.*asarray"),
    (lambda: TWO.at(SDE, 1.5), ValueError, r"`t`.*\[0, T\]"),
    (lambda: TWO.at(SDE, math.nan), ValueError, "`t`"),
    (lambda: TWO.at(SDE, np.array([0.5])), TypeError, "`t`.*float"),
    (lambda: TWO.score(SDE)(POINTS, -0.1), ValueError, "`t`"),
    (lambda: TWO.score(SDE)(POINTS, np.array([[0.5], [0.5], [1.5]])), ValueError, "`t`"),
    (lambda: TWO.score(SDE)(POINTS, np.array([0.5, 0.5, 0.5])), ValueError, "`t`.*shape"),
    (lambda: TWO.score(SDE)(POINTS, np.full((2, 1), 0.5)), ValueError, "`t`.*shape"),
    (lambda: TWO.score(SDE).jvp(POINTS, 0.5, np.zeros((3, 3))), ValueError, "`u`"),
    (lambda: TWO.score(SDE).jvp(POINTS, 0.5, np.zeros((1, 2))), ValueError, "`u`.*rows"),
    (lambda: TWO.score(SDE).evaluate(POINTS, 0.5), ValueError, "`want`"),
    (lambda: TWO.score(SDE).evaluate(POINTS, 0.5, "scores"), ValueError, "`want`.*scores"),
    (lambda: FLAT.logpdf(POINTS), ValueError, "singular"),
    (lambda: FLAT.score(SDE)(POINTS, 0.0), ValueError, "singular"),
    (lambda: FLAT.score(SDE)(POINTS, np.array([[0.5], [0.0], [0.5]])), ValueError, "singular"),
    (lambda: TWO.condition([[1.0]], [0.0], 1.0), ValueError, "`A`"),
    (lambda: TWO.condition([[1.0, 0.0]], [0.0, 0.0], 1.0), ValueError, "`y`"),
    (lambda: TWO.condition([[1.0, 0.0]], [np.nan], 1.0), ValueError, "`y`"),
    (lambda: TWO.condition([[1.0, 0.0]], [0.0], [1.0, 1.0]), ValueError, "`noise_cov`"),
    (lambda: TWO.condition([[1.0, 0.0]], [0.0], -1.0), ValueError, "`noise_cov`"),
    (lambda: TWO.condition(np.eye(2), [0.0, 0.0], [[1, 0.9], [0, 1]]), ValueError, "symmetric"),
    (lambda: FLAT.condition([[0.0, 1.0]], [0.0], 0.0), ValueError, "`noise_cov`"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named(call, error, words):
    with warnings.catch_warnings(), pytest.raises(error, match=words):
        warnings.simplefilter("error")
        call()


def test_one_time_for_all_may_be_an_array(rng):
    score, x = TWO.score(SDE), rng.standard_normal((4, 2))
    np.testing.assert_allclose(score(x, np.array([[0.3]])), score(x, 0.3), rtol=1e-13)
    np.testing.assert_array_equal(TWO.score(rs.EDM())(x, 1), TWO.score(rs.EDM())(x, 1.0))
    assert score(x[:0], 0.3).shape == (0, 2)
