"""Fast paths of the mixtures: against 60 digits, against the definition, and bit for bit."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
from _mixtures import KINDS, evaluate, full, make, oracle, points_of, relative

import refsde as rs
from refsde.targets.mixture import mixture_formula

EPS = np.finfo(float).eps
WANTS = ("score", "logpdf", "denoise", "divergence", "jvp", "resp")
SDE = rs.VP()

# -- against the oracle


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_regular_covariances_reach_1e13(kind, d):
    target, covs = make(kind, d)
    for a, s in ((1.0, 0.1), (0.3, 0.95)):
        x = points_of(target, a, s)
        score, logpdf = oracle(target, full(covs, d), x, a, s)
        out = evaluate(target, x, a, s, "score", "logpdf")
        assert relative(out["score"], score) <= 1e-13
        np.testing.assert_allclose(out["logpdf"], logpdf, rtol=1e-13, atol=1e-13)


def test_regular_covariances_reach_1e13_in_64_dimensions():
    target, covs = make("full", 64, K=2)
    x = points_of(target, 0.9, 0.4, n=1)
    score, logpdf = oracle(target, covs, x, 0.9, 0.4)
    out = evaluate(target, x, 0.9, 0.4, "score", "logpdf")
    assert relative(out["score"], score) <= 1e-13
    np.testing.assert_allclose(out["logpdf"], logpdf, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 5])
def test_singular_covariances_reach_1e9_at_sigma_1e5(kind, d):
    # The oracle takes the law as it is held: eigenvalues and eigenvectors.
    target, _ = make(kind, d, rank=1)
    lam, U = target.eigh()
    x = points_of(target, 1.0, 1e-5)
    with mp.workdps(60):
        mats = [mp.matrix(u.tolist()) for u in U]
        covs = [m * mp.diag(v.tolist()) * m.T for m, v in zip(mats, lam, strict=True)]
    score, logpdf = oracle(target, covs, x, 1.0, 1e-5)
    out = evaluate(target, x, 1.0, 1e-5, "score", "logpdf")
    assert relative(out["score"], score) <= 1e-9
    np.testing.assert_allclose(out["logpdf"], logpdf, rtol=1e-9)


@pytest.mark.parametrize("d", [2, 5])
def test_singular_covariance_given_as_a_matrix_costs_its_condition_number(d):
    # One rounding of C moves a zero eigenvalue by eps |C|, next to sigma^2: nothing does better.
    target, covs = make("full", d, rank=1)
    x = points_of(target, 1.0, 1e-5)
    score, _ = oracle(target, covs, x, 1.0, 1e-5)
    bound = 4 * EPS * np.linalg.norm(covs, ord=2, axis=(1, 2)).max() / 1e-10
    assert relative(evaluate(target, x, 1.0, 1e-5, "score"), score) <= bound


@pytest.mark.parametrize("kind", KINDS)
def test_far_points_are_exact_not_only_finite(kind):
    target, covs = make(kind, 3)
    x = 1e4 * np.random.default_rng(0).standard_normal((4, 3))
    score, logpdf = oracle(target, full(covs, 3), x, 0.9, 1e-2)
    out = evaluate(target, x, 0.9, 1e-2, "score", "logpdf")
    assert relative(out["score"], score) <= 1e-13
    np.testing.assert_allclose(out["logpdf"], logpdf, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_down_to_1e300_count(kind):
    base, covs = make(kind, 2, K=3)
    log_w = np.array([math.log1p(-1e-300), math.log(1e-300), -np.inf])
    target = rs.GaussianMixture(None, base.means, covs, log_weights=log_w)
    x = np.concatenate([base.means[:2] + 0.01, [[40.0, -40.0]]])
    score, logpdf = oracle(target, full(covs, 2), x, 1.0, 1e-3)
    out = evaluate(target, x, 1.0, 1e-3, "score", "logpdf", "resp")
    assert relative(out["score"], score) <= 1e-13
    np.testing.assert_allclose(out["logpdf"], logpdf, rtol=1e-13)
    assert np.all(out["resp"][:, 2] == 0)


# -- fast paths against the definition


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 5, 64])
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("want", WANTS)
def test_fast_paths_equal_the_definition(kind, d, per_sample, want, rng):
    target, _ = make(kind, d)
    t = rng.uniform(0.2, 1.0, (20, 1)) if per_sample else 0.4
    a, s = SDE.alpha(t), SDE.sigma(t)
    x, u = 2 * rng.standard_normal((20, d)), rng.standard_normal((20, d))
    found = evaluate(target, x, a, s, want, u=u)
    truth = mixture_formula(target._law, x, a, s, u)[want]
    assert found.dtype == float and found.shape == truth.shape
    assert np.max(np.abs(found - truth)) <= 1e-12 * np.max(np.abs(truth))


@pytest.mark.parametrize("kind", ["full", "isotropic"])
def test_several_results_in_one_pass_are_the_single_ones(kind, rng):
    score = make(kind, 5)[0].score(SDE)
    x = rng.standard_normal((9, 5))
    together = score.evaluate(x, 0.3, "score", "logpdf", "denoise", "divergence", "resp")
    for name, method in (
        ("score", score),
        ("logpdf", score.logpdf),
        ("denoise", score.denoise),
        ("divergence", score.divergence),
        ("resp", score.responsibilities),
    ):
        np.testing.assert_allclose(together[name], method(x, 0.3), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_answers_on_other_libraries(xp, kind, dtype, rng):
    score = make(kind, 3)[0].score(SDE)
    x, u = rng.standard_normal((6, 3)), rng.standard_normal((6, 3))
    times = rng.uniform(0.2, 1.0, (6, 1))
    kind_of = getattr(xp, dtype)
    X, U, T = (xp.asarray(v, dtype=kind_of) for v in (x, u, times))
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for there, here in ((0.3, 0.3), (T, times)):
        for method in (score, score.logpdf, score.denoise, score.eps, score.divergence):
            found = method(X, there)
            assert found.dtype == kind_of
            np.testing.assert_allclose(
                np.asarray(found), method(x, here), rtol=tolerance, atol=tolerance
            )
        found = score.jvp(X, there, U)
        assert found.dtype == kind_of
        np.testing.assert_allclose(
            np.asarray(found), score.jvp(x, here, u), rtol=tolerance, atol=tolerance
        )


# -- bits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 5, 64])
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_do_not_depend_on_their_batch(kind, d, per_sample, dtype, rng):
    target, _ = make(kind, d, K=3)
    score = target.score(SDE)
    x = (3 * rng.standard_normal((5000, d))).astype(dtype)
    times = rng.uniform(0.05, 1.0, (5000, 1)).astype(dtype)
    order = rng.permutation(5000)

    def run(rows):
        t = times[rows] if per_sample else 0.3
        out = score.evaluate(x[rows], t, "score", "logpdf", "denoise", "divergence")
        return [*out.values(), score.jvp(x[rows], t, x[rows]), score(x[rows], t)]

    whole = run(slice(None))
    for rows in (slice(0, 1), slice(0, 7), slice(0, 64), slice(0, 255), slice(4998, 4999), order):
        for part, all_of_them in zip(run(rows), whole, strict=True):
            assert part.dtype == dtype
            np.testing.assert_array_equal(part, all_of_them[rows])


@pytest.mark.parametrize("d", [1, 2, 5, 64])
@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0])
def test_the_fast_form_is_the_safe_form(d: int, t: float) -> None:
    rng = np.random.default_rng(d)
    A = rng.standard_normal((5, d, d)) / np.sqrt(d)
    covs = A @ A.transpose(0, 2, 1) + 0.05 * np.eye(d)
    target = rs.GaussianMixture(np.full(5, 0.2), 2 * rng.standard_normal((5, d)), covs)
    sde, x = rs.VP(), 2 * rng.standard_normal((300, d))
    safe, fast = target.score(sde)(x, t), target.score(sde, fast=True)(x, t)
    scale = np.linalg.norm(safe, axis=1, keepdims=True)
    assert np.max(np.abs(fast - safe) / scale) < 1e-11
    # sample i depends on i alone, in this form too
    assert np.array_equal(target.score(sde, fast=True)(x[:7], t), fast[:7])
    assert target.score(sde, fast=True)(x.astype(np.float32), t).dtype == np.float32
    # whatever is not a score of shared time takes the safe form
    clocks = np.full((300, 1), t)
    quick, slow = target.score(sde, fast=True), target.score(sde)
    assert np.array_equal(quick(x, clocks), slow(x, clocks))
    assert np.array_equal(quick.logpdf(x, t), slow.logpdf(x, t))
