"""The exact score is the gradient it claims to be, and its relatives are its relatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from _mixtures import KINDS, evaluate, make, relative
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde.targets.mixture import mixture_formula
from refsde.testing import strategies

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
def diffused(draw, **options):
    """A mixture, what diffuses it, a time of any scale, and points of the diffused law."""
    target, sde = draw(strategies.gmms(**options)), draw(strategies.sdes())
    t = draw(strategies.times(sde))
    return target, sde, t, draw(strategies.points(target, sde, t))


def unit(target, sde, t):
    """Typical size of the score: one over the spread of the law."""
    return math.sqrt(target.dim / np.trace(target.at(sde, t).cov))


def near(found, truth, tolerance, unit):
    """Whether vectors (B, d) agree, relative to the size of each plus the typical size."""
    size = np.linalg.norm(truth, axis=1, keepdims=True) + unit
    return np.all(np.abs(found - truth) <= tolerance * size)


@given(diffused())
def test_score_is_the_gradient_of_logpdf(case):
    target, sde, t, x = case
    a, s = sde.alpha(t), sde.sigma(t)
    gradient = np.stack([along(target, "logpdf", x, a, s, e) for e in np.eye(target.dim)], axis=1)
    score = target.score(sde)(x, t)
    one = unit(target, sde, t)
    assert near(score, gradient, 1e-11, one)
    if np.any(np.abs(score) > 0.01 * one):
        assert not near(1.000001 * score, gradient, 1e-11, one), "mutant: too long"


@given(diffused())
def test_tweedie_binds_score_denoised_mean_and_noise(case):
    target, sde, t, x = case
    score, a, s = target.score(sde), sde.alpha(t), sde.sigma(t)
    denoised, eps = score.denoise(x, t), score.eps(x, t)
    np.testing.assert_array_equal(eps, score(x, t) * -s)
    assert np.all(np.abs(a * denoised + s * eps - x) <= 1e-12 * (np.abs(x).max() + 4 + s))
    # trace of Cov[x_0 | x], in units of the noise
    covariance = target.dim + s * s * score.divergence(x, t)
    assert np.all(covariance >= -1e-10)


@given(diffused(), st.data())
def test_rotation_and_shift_carry_the_score_along(case, data):
    target, sde, t, x = case
    d = target.dim
    Q, shift = data.draw(strategies.rotations(d)), np.arange(d) - 1.5
    turned = rs.GaussianMixture(target.weights, target.means @ Q.T + shift, Q @ target.covs @ Q.T)
    there = turned.score(sde)(x @ Q.T + sde.alpha(t) * shift, t)
    assert near(there, target.score(sde)(x, t) @ Q.T, 1e-10, unit(target, sde, t))


@given(diffused(components=(2, 5)), st.randoms(use_true_random=False))
def test_components_and_coordinates_have_no_order(case, random):
    target, sde, t, x = case
    k, j = (random.sample(range(n), n) for n in (target.n_components, target.dim))
    shuffled = rs.GaussianMixture(
        target.weights[k], target.means[k][:, j], target.covs[k][:, j][:, :, j]
    )
    there, here = shuffled.score(sde)(x[:, j], t), target.score(sde)(x, t)[:, j]
    assert near(there, here, 1e-11, unit(target, sde, t))
    logpdf = target.score(sde).logpdf(x, t)
    found = shuffled.score(sde).logpdf(x[:, j], t)
    np.testing.assert_allclose(found, logpdf, rtol=1e-11, atol=1e-11 * target.dim)


@given(diffused(), st.data())
def test_no_sample_feels_its_batch_mates_or_its_place(case, data):
    """To the last bit, whoever is there and in whatever order; own clocks make no difference."""
    target, sde, t, x = case
    x = np.concatenate([x, x[::-1] + 0.125])
    rows = data.draw(st.lists(st.integers(0, len(x) - 1), min_size=1, unique=True))
    score = target.score(sde)
    clocks = np.resize([t, sde.T], (len(x), 1))
    for method in (score, score.logpdf, score.denoise, score.eps, score.divergence):
        np.testing.assert_array_equal(method(x[rows], t), method(x, t)[rows])
        np.testing.assert_array_equal(method(x[rows], clocks[rows]), method(x, clocks)[rows])


@given(diffused())
def test_points_and_times_are_not_written_into(case):
    target, sde, t, x = case
    score, clocks = target.score(sde), np.full((len(x), 1), t)
    kept = x.copy()
    x.setflags(write=False)
    clocks.setflags(write=False)
    for method in (score, score.logpdf, score.denoise, score.eps, score.divergence):
        method(x, t)
        method(x, clocks)
    score.jvp(x, clocks, x)
    np.testing.assert_array_equal(x, kept)


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
