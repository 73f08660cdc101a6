"""The exact score is the gradient it claims to be, and its relatives are its relatives."""

from __future__ import annotations

import numpy as np
import pytest
from _mixtures import KINDS, evaluate, make, relative
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde.targets.mixture import mixture_formula

SDE = rs.VP()


def along(target, name, x, a, s, u):
    """Derivative of a result along ``u``, by a complex step: no subtraction, so no lost digits."""
    stepped = mixture_formula(target._law, x + 1e-30j * u, a, s)[name]
    return np.imag(stepped) / 1e-30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [1, 2, 5, 64])
def test_score_divergence_and_jvp_are_derivatives(kind, d, rng):
    target, _ = make(kind, d)
    for t in (0.1, 0.5):
        a, s = SDE.alpha(t), SDE.sigma(t)
        x = a * target.sample(8, rng=2) + s * rng.standard_normal((8, d))
        u = rng.standard_normal((8, d))
        out = evaluate(target, x, a, s, "score", "logpdf", "divergence", "jvp", u=u)
        np.testing.assert_allclose(
            np.sum(out["score"] * u, axis=1),
            along(target, "logpdf", x, a, s, u),
            rtol=1e-11,
            atol=1e-11,
        )
        assert relative(out["jvp"], along(target, "score", x, a, s, u)) <= 1e-11
        trace = sum(
            evaluate(target, x, a, s, "jvp", u=np.tile(e, (8, 1)))[:, i]
            for i, e in enumerate(np.eye(d))
        )
        np.testing.assert_allclose(trace, out["divergence"], rtol=1e-11, atol=1e-11 * d)


def test_fast_path_agrees_with_central_differences_of_itself(rng):
    score = make("full", 5)[0].score(SDE)
    x, u, h = rng.standard_normal((50, 5)), rng.standard_normal((50, 5)), 1e-5
    slope = (score.logpdf(x + h * u, 0.4) - score.logpdf(x - h * u, 0.4)) / (2 * h)
    np.testing.assert_allclose(slope, np.sum(score(x, 0.4) * u, axis=1), rtol=1e-7, atol=1e-7)
    bend = (score(x + h * u, 0.4) - score(x - h * u, 0.4)) / (2 * h)
    np.testing.assert_allclose(bend, score.jvp(x, 0.4, u), rtol=1e-6, atol=1e-6)


@st.composite
def laws_and_points(draw):
    d, K = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    target, _ = make(draw(st.sampled_from(KINDS)), d, K, seed=draw(st.integers(0, 10**6)))
    t = draw(st.floats(1e-3, 1.0))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    x = SDE.alpha(t) * target.sample(3, rng=rng) + SDE.sigma(t) * rng.standard_normal((3, d))
    return target, t, x


@given(laws_and_points())
def test_score_is_the_gradient_of_logpdf(case):
    target, t, x = case
    a, s = SDE.alpha(t), SDE.sigma(t)
    gradient = np.stack([along(target, "logpdf", x, a, s, e) for e in np.eye(target.dim)], axis=1)
    score = target.score(SDE)(x, t)
    size = np.max(np.abs(score), axis=1, keepdims=True) + 1
    assert np.all(np.abs(score - gradient) <= 1e-11 * size)


@given(laws_and_points())
def test_tweedie_binds_score_denoised_mean_and_noise(case):
    target, t, x = case
    score, a, s = target.score(SDE), SDE.alpha(t), SDE.sigma(t)
    denoised, eps = score.denoise(x, t), score.eps(x, t)
    np.testing.assert_array_equal(eps, score(x, t) * -s)
    np.testing.assert_allclose(a * denoised + s * eps, x, rtol=1e-12, atol=1e-12)
    covariance = (
        s * s / (a * a) * (target.dim + s * s * score.divergence(x, t))
    )  # trace of Cov[x_0 | x]
    assert np.all(covariance >= -1e-10)


@given(laws_and_points())
def test_rotation_and_shift_carry_the_score_along(case):
    target, t, x = case
    d = target.dim
    Q = np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))[0]
    shift = np.arange(d) - 1.5
    turned = rs.GaussianMixture(target.weights, target.means @ Q.T + shift, Q @ target.covs @ Q.T)
    there = turned.score(SDE)(x @ Q.T + SDE.alpha(t) * shift, t)
    here = target.score(SDE)(x, t) @ Q.T
    assert np.max(np.abs(there - here)) <= 1e-10 * (1 + np.max(np.abs(here)))


def test_without_signal_the_denoised_mean_is_the_mean():
    # (x + sigma^2 score) / alpha would be 0 / 0 here
    for kind in KINDS:
        target, _ = make(kind, 3)
        x = np.ones((4, 3))
        found = evaluate(target, x, 0.0, 1.0, "denoise")
        np.testing.assert_allclose(found, np.tile(target.mean, (4, 1)), rtol=1e-14, atol=1e-14)


def test_inputs_are_not_changed(rng):
    weights, means, covs = np.array([0.5, 0.5]), np.zeros((2, 2)), np.stack([np.eye(2)] * 2)
    x, t, u = rng.standard_normal((5, 2)), np.full((5, 1), 0.3), rng.standard_normal((5, 2))
    for array in (weights, means, covs, x, t, u):
        array.setflags(write=False)
    target = rs.GaussianMixture(weights, means, covs)
    score = target.score(SDE)
    for method in (score, score.logpdf, score.denoise, score.eps, score.divergence):
        method(x, t)
        method(x, 0.3)
    score.jvp(x, t, u)
    target.means[:] = 7  # a copy
    target.log_weights[:] = 7
    np.testing.assert_array_equal(target.mean, 0)
