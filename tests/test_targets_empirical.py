"""Diffused data points: oracle, tiles against the definition, posterior, bits, speed by design."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
from _mixtures import relative
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import refsde as rs
from refsde.targets import _tiles
from refsde.targets.empirical import Empirical, empirical_formula

WANTS = frozenset(("score", "logpdf", "denoise", "divergence", "jvp", "resp"))
SDE = rs.VP()


def make(N: int, d: int, seed: int = 0, equal: bool = False) -> Empirical:
    rng = np.random.default_rng([seed, N, d])
    log_w = None if equal else np.log(rng.dirichlet(np.ones(N)))
    return Empirical(1 + 2 * rng.standard_normal((N, d)), log_weights=log_w)


def near(target: Empirical, t: float, n: int, seed: int = 1) -> np.ndarray:
    """Draws of the diffused law."""
    z = np.random.default_rng(seed).standard_normal((n, target.dim))
    return SDE.alpha(t) * target.sample(n, rng=seed) + SDE.sigma(t) * z


def agree(found: np.ndarray, truth: np.ndarray, tolerance: float) -> None:
    assert found.shape == truth.shape
    assert np.max(np.abs(found - truth)) <= tolerance * np.max(np.abs(truth))


# -- against other truths


def exact_row(target: Empirical, x: np.ndarray, a: float, s: float) -> tuple[list, float, float]:
    """Score, log-density and divergence at one point in 60 digits."""
    with mp.workdps(60):
        a, v, d = mp.mpf(a), mp.mpf(s) ** 2, target.dim
        points = [[mp.mpf(c) for c in row] for row in target.points.tolist()]
        square = [
            mp.fsum((mp.mpf(xi) - a * p) ** 2 for xi, p in zip(x, row, strict=True))
            for row in points
        ]
        logs = [mp.mpf(w) - q / (2 * v) for w, q in zip(target.log_weights, square, strict=True)]
        top = max(logs)
        r = [mp.exp(log - top) for log in logs]
        total = mp.fsum(r)
        mean = [
            mp.fsum(ri * row[j] for ri, row in zip(r, points, strict=True)) / total
            for j in range(d)
        ]
        spread = mp.fsum(
            ri * mp.fsum((c - m) ** 2 for c, m in zip(row, mean, strict=True))
            for ri, row in zip(r, points, strict=True)
        )
        score = [float((a * m - mp.mpf(xi)) / v) for m, xi in zip(mean, x, strict=True)]
        logpdf = top + mp.log(total) - d * mp.log(2 * mp.pi * v) / 2
        return score, float(logpdf), float(a * a * spread / total / v**2 - d / v)


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("t", [0.01, 0.3, 1.0])
def test_sixty_digits(d, t):
    target = make(20, d)
    a, s, x = SDE.alpha(t), SDE.sigma(t), near(target, t, 6)
    score, logpdf, divergence = map(
        np.array, zip(*(exact_row(target, row, a, s) for row in x), strict=True)
    )
    out = target.score(SDE).evaluate(x, t, "score", "logpdf", "divergence")
    limit = max(
        1e-13, 8 * np.finfo(float).eps * np.max(np.abs(x)) ** 2 / s**2
    )  # see Notes of Empirical
    assert relative(out["score"], score) <= limit
    np.testing.assert_allclose(out["logpdf"], logpdf, rtol=limit, atol=limit)
    np.testing.assert_allclose(
        out["divergence"], divergence, rtol=limit, atol=limit * np.max(d / s**2)
    )


@pytest.mark.parametrize("N", [1, 3, 700, 1300])
@pytest.mark.parametrize("d", [1, 2, 5, 64])
@pytest.mark.parametrize("per_sample", [False, True])
def test_tiles_equal_the_definition_and_the_mixture_of_points(N, d, per_sample, rng):
    target = make(N, d)
    mixture = rs.GaussianMixture(None, target.points, np.zeros(N), log_weights=target.log_weights)
    x, u = near(target, 0.6, 12), rng.standard_normal((12, d))
    t = rng.uniform(0.3, 1.0, (12, 1)) if per_sample else 0.3
    a, s = SDE.alpha(t), SDE.sigma(t)
    found = target._evaluate(x, a, s, WANTS, u)
    defined = empirical_formula(target.points, target.log_weights, x, a, s, u)
    for name in WANTS:
        agree(found[name], defined[name], 1e-12)
        agree(found[name], target.score(SDE)._all(x, t, WANTS, u)[name], 1e-12)
    if N * d <= 6500:  # the general mixture path holds (N, d, width) numbers
        for name, value in mixture._evaluate(x, a, s, WANTS, u).items():
            agree(found[name], value, 1e-12)


def test_tiny_round_components_are_points():
    target = make(50, 3)
    tiny = rs.GaussianMixture(target.weights, target.points, np.full(50, 1e-20))
    x = near(target, 0.3, 40)
    for t in (0.3, np.full((40, 1), 0.3)):
        for name in ("__call__", "logpdf", "denoise", "eps", "divergence"):
            agree(
                getattr(target.score(SDE), name)(x, t), getattr(tiny.score(SDE), name)(x, t), 1e-12
            )
        agree(target.score(SDE).jvp(x, t, x), tiny.score(SDE).jvp(x, t, x), 1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_answers_on_other_libraries(xp, dtype, rng):
    score = make(30, 3).score(SDE)
    x, u, times = (
        near(score.target, 0.5, 6),
        rng.standard_normal((6, 3)),
        rng.uniform(0.3, 1, (6, 1)),
    )
    kind = getattr(xp, dtype)
    X, U, T = (xp.asarray(v, dtype=kind) for v in (x, u, times))
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    for there, here in ((0.4, 0.4), (T, times)):
        for method in (score, score.logpdf, score.denoise, score.eps, score.divergence):
            found = method(X, there)
            assert found.dtype == kind
            agree(np.asarray(found), method(x, here), tolerance)
        agree(np.asarray(score.jvp(X, there, U)), score.jvp(x, here, u), tolerance)


@given(st.integers(1, 4), st.integers(1, 9), st.floats(0.01, 1.0), st.integers(0, 10**6))
def test_derivatives_and_tweedie(d, N, t, seed):
    target = make(N, d, seed)
    score, a, s = target.score(SDE), SDE.alpha(t), SDE.sigma(t)
    x, u = near(target, t, 3, seed), np.random.default_rng(seed).standard_normal((3, d))
    np.testing.assert_allclose(
        a * score.denoise(x, t) + s * score.eps(x, t), x, rtol=1e-12, atol=1e-11
    )
    h = 1e-4 * s
    log_slope = (score.logpdf(x + h * u, t) - score.logpdf(x - h * u, t)) / (2 * h)
    size = (1 + np.linalg.norm(u, axis=1)) ** 3 / s
    assert np.all(np.abs(log_slope - np.sum(score(x, t) * u, axis=1)) <= 1e-5 * size * (1 + 1 / s))
    trace = sum(score.jvp(x, t, np.tile(e, (3, 1)))[:, i] for i, e in enumerate(np.eye(d)))
    np.testing.assert_allclose(trace, score.divergence(x, t), rtol=1e-11, atol=1e-10 / s**2)


def test_jvp_is_the_slope_of_the_score_by_a_complex_step(rng):
    target = make(40, 4)
    x, u = near(target, 0.4, 10), rng.standard_normal((10, 4))
    a, s = SDE.alpha(0.4), SDE.sigma(0.4)
    stepped = empirical_formula(target.points, target.log_weights, x + 1e-30j * u, a, s)
    agree(target.score(SDE).jvp(x, 0.4, u), np.imag(stepped["score"]) / 1e-30, 1e-12)
    agree(np.sum(target.score(SDE)(x, 0.4) * u, axis=1), np.imag(stepped["logpdf"]) / 1e-30, 1e-12)


def test_divergence_keeps_its_digits_when_one_point_takes_all():
    # moments about the origin would lose eps |p|^2 / sigma^2, seven digits here
    target = Empirical([[100.0, 0.0], [0.0, 100.0], [-100.0, 3.0]])
    x = target.points + 1e-4 * np.array([[0.3, -0.5]])
    sde = rs.EDM(sigma_min=1e-5)
    np.testing.assert_allclose(target.score(sde).divergence(x, 1e-4), -2e8, rtol=1e-14)
    jvp = target.score(sde).jvp(x, 1e-4, np.ones((3, 2)))
    np.testing.assert_allclose(jvp, -1e8, rtol=1e-14)


def test_divergence_keeps_its_digits_when_another_point_takes_a_billionth():
    target = Empirical([[100.0, 0.0], [100.0, 6e-4], [-100.0, 3.0]])
    x = np.array([[100.0, -2e-5], [100.0, 6.3e-4]])
    score = target.score(rs.EDM(sigma_min=1e-5))
    truth = [exact_row(target, row, 1.0, 1e-4)[2] for row in x]
    # about the origin, the squares alone would cost eps |p|^2 / sigma^2: 1e-4
    np.testing.assert_allclose(score.divergence(x, 1e-4), truth, rtol=2e-12)


# -- laws


def test_without_noise_the_denoiser_returns_the_nearest_point():
    target = make(600, 5, equal=True)
    x = np.random.default_rng(2).standard_normal((50, 5)) * 3
    nearest = target.points[np.argmin(np.sum((x[:, None] - target.points) ** 2, axis=2), axis=1)]
    score = target.score(rs.EDM(sigma_min=1e-6))
    np.testing.assert_allclose(score.denoise(x, 1e-5), nearest, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(score(x, 1e-5), (nearest - x) / 1e-10, rtol=1e-12)


def test_without_signal_the_denoiser_returns_the_mean():
    target = make(700, 3)
    out = target._evaluate(np.ones((4, 3)), 0.0, 1.0, frozenset(["denoise", "resp"]))
    np.testing.assert_allclose(out["denoise"], np.tile(target.mean, (4, 1)), rtol=1e-13)
    np.testing.assert_allclose(out["resp"], np.tile(target.weights, (4, 1)), rtol=1e-13)


def test_far_points_and_vanishing_weights():
    log_w = np.array([math.log1p(-1e-300), math.log(1e-300), -np.inf])
    target = Empirical([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]], log_weights=log_w)
    x = np.array([[1.0, 1.0], [5.0, 5.0], [1e4, -1e4]])
    out = target.score(rs.EDM()).evaluate(x, 0.01, "score", "logpdf", "denoise", "resp")
    assert all(np.all(np.isfinite(value)) for value in out.values())
    np.testing.assert_allclose(out["denoise"][:2], [[1.0, 1.0], [1.0, 1.0]], rtol=1e-15)
    assert np.all(out["resp"][:, 2] == 0)
    np.testing.assert_array_equal(target.sample(200, rng=0), np.zeros((200, 2)))


def test_moments_and_at():
    target = make(300, 3)
    w, p, gaps = target.weights, target.points, target.points - target.weights @ target.points
    np.testing.assert_allclose(target.mean, w @ p, rtol=1e-14)
    np.testing.assert_allclose(target.cov, np.einsum("n,ni,nj->ij", w, gaps, gaps), rtol=1e-12)
    law, a, s = target.at(SDE, 0.4), SDE.alpha(0.4), SDE.sigma(0.4)
    assert isinstance(law, rs.GaussianMixture)
    np.testing.assert_allclose(law.mean, a * target.mean, rtol=1e-13)
    np.testing.assert_allclose(
        law.cov, a**2 * target.cov + s**2 * np.eye(3), rtol=1e-12, atol=1e-13
    )
    x = near(target, 0.4, 9)
    agree(law.logpdf(x), target.score(SDE).logpdf(x, 0.4), 1e-12)
    np.testing.assert_array_equal(target.at(SDE, 0.0).means, p)
    assert repr(target) == "Empirical(N=300, d=3)"
    assert target._repr_latex_().startswith(r"$\sum_{n=1}^{300}")


@pytest.mark.parametrize("noise", [0.3, [0.3, 0.5], [[0.3, 0.1], [0.1, 0.5]]])
def test_condition_reweights_by_the_likelihood(noise, rng):
    target = make(40, 3)
    A, y = rng.standard_normal((2, 3)), rng.standard_normal(2)
    R = np.diag(np.broadcast_to(noise, 2)) if np.ndim(noise) < 2 else np.array(noise)
    posterior = target.condition(A, y, noise)
    weights = target.weights * stats.multivariate_normal(np.zeros(2), R).pdf(
        y - target.points @ A.T
    )
    np.testing.assert_allclose(posterior.weights, weights / weights.sum(), rtol=1e-11)
    np.testing.assert_array_equal(posterior.points, target.points)
    tiny = rs.GaussianMixture(target.weights, target.points, np.full(40, 1e-14)).condition(
        A, y, noise
    )
    np.testing.assert_allclose(posterior.mean, tiny.mean, rtol=1e-9)


def test_condition_survives_impossible_measurements():
    target = Empirical([[0.0], [1.0], [2.0]])
    posterior = target.condition([[1.0]], [1.9], 1e-8)  # likelihoods underflow, their logs do not
    np.testing.assert_array_equal(posterior.weights, [0.0, 0.0, 1.0])


# -- sampling


def chi_square(x: np.ndarray, target: Empirical) -> float:
    """The p-value of the counts; 20 cells of at least 250 expected draws: exact enough at 1e-6."""
    counts = np.array([np.sum(np.all(x == p, axis=1)) for p in target.points])
    assert counts.sum() == len(x)
    expected = target.weights * len(x)
    return float(stats.chi2.sf(np.sum((counts - expected) ** 2 / expected), len(counts) - 1))


def test_samples_follow_the_weights_and_a_wrong_sampler_is_seen(seed):
    w = np.random.default_rng(0).uniform(0.5, 1.5, 20)
    points = np.arange(40.0).reshape(20, 2)
    target = Empirical(points, log_weights=np.log(w / w.sum()))
    assert (
        chi_square(target.sample(20_000, rng=seed), target) > 1e-6
    )  # false alarm: one in a million
    assert chi_square(Empirical(points).sample(20_000, rng=seed), target) < 1e-6


def test_a_short_sample_is_the_beginning_of_a_long_one():
    target = make(100, 2)
    long = target.sample(20_000, rng=4)
    for n in (0, 1, 7, 16_390):
        np.testing.assert_array_equal(target.sample(n, rng=4), long[:n])
    np.testing.assert_array_equal(target.sample(7, rng=np.random.default_rng(4)), long[:7])


@pytest.mark.parametrize("N", [3, 700])
@pytest.mark.parametrize("d", [1, 2, 5, 64])
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_do_not_depend_on_their_batch(N, d, per_sample, dtype, rng):
    score = make(N, d).score(SDE)
    n = 1500
    x = near(score.target, 0.1, n).astype(dtype)  # low noise: some tiles matter to some rows only
    times = rng.uniform(0.05, 1.0, (n, 1)).astype(dtype)
    order = rng.permutation(n)

    def run(rows):
        t = times[rows] if per_sample else 0.1
        out = score.evaluate(x[rows], t, "score", "logpdf", "denoise", "divergence", "resp")
        return [*out.values(), score.jvp(x[rows], t, x[rows]), score(x[rows], t)]

    whole = run(slice(None))
    for rows in (slice(0, 1), slice(0, 7), slice(0, 64), slice(0, 255), slice(n - 1, n), order):
        for part, all_of_them in zip(run(rows), whole, strict=True):
            assert part.dtype == dtype
            np.testing.assert_array_equal(part, all_of_them[rows])


def test_skipped_tiles_are_skipped_and_change_nothing(monkeypatch):
    # two clusters, one per tile: at low noise each row needs one tile
    monkeypatch.setattr(_tiles, "_TILE", 64)
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.standard_normal((64, 2)) - 50, rng.standard_normal((64, 2)) + 50])
    target, x = Empirical(points), rng.standard_normal((300, 2)) - 50
    looked = []
    exp = _tiles._exp
    monkeypatch.setattr(_tiles, "_exp", lambda logits: looked.append(1) or exp(logits))
    found = target.score(SDE)(x, 0.1)
    assert len(looked) == 1  # one block, two tiles, one needed
    agree(
        found,
        empirical_formula(points, target.log_weights, x, SDE.alpha(0.1), SDE.sigma(0.1))["score"],
        1e-12,
    )
    mixed = np.concatenate([x[:150], -x[150:]])  # now both tiles are needed, by different rows
    np.testing.assert_array_equal(target.score(SDE)(mixed, 0.1)[:150], found[:150])


def test_a_tile_that_only_a_batch_mate_needs_adds_nothing(monkeypatch):
    # Far tile's weight is e^-50 for the first rows: it would show in a coordinate that is zero.
    monkeypatch.setattr(_tiles, "_TILE", 8)
    side = np.tile([[0.0, 1.0], [0.0, -1.0]], (4, 1)) * np.arange(1, 9)[:, None] ** [[0.0, 1.0]]
    points = np.concatenate([np.zeros((8, 2)) + [1.0, 0.0], side - [1.0, np.mean(side[:, 1])]])
    score = Empirical(points).score(rs.EDM())
    x = np.array([[1.1, 0.0]] * 3 + [[-1.0, 0.5]] * 3)
    alone, together = score.denoise(x[:3], 0.2), score.denoise(x, 0.2)
    np.testing.assert_array_equal(alone, together[:3])
    np.testing.assert_array_equal(alone, np.tile([[1.0, 0.0]], (3, 1)))


def test_inputs_are_not_changed(rng):
    points, log_w = rng.standard_normal((5, 2)), np.full(5, -math.log(5))
    x, t, u = rng.standard_normal((4, 2)), np.full((4, 1), 0.3), rng.standard_normal((4, 2))
    for array in (points, log_w, x, t, u):
        array.setflags(write=False)
    target = Empirical(points, log_weights=log_w)
    score = target.score(SDE)
    for method in (score, score.logpdf, score.denoise, score.eps, score.divergence):
        method(x, t)
        method(x, 0.3)
    score.jvp(x, t, u)
    target.points[:] = 7
    target.log_weights[:] = 7
    np.testing.assert_array_equal(target.points, points)


# -- bad input

TWO = Empirical([[0.0, 0.0], [1.0, 1.0]])
X = np.zeros((3, 2))

BAD = [
    (lambda: Empirical([0.0, 1.0]), ValueError, "`points`.*shape"),
    (lambda: Empirical(np.zeros((0, 2))), ValueError, "`points`"),
    (lambda: Empirical(np.zeros((2, 3, 3))), ValueError, "`points`.*flatten"),
    (lambda: Empirical([[np.inf]]), ValueError, "`points`.*finite"),
    (lambda: Empirical([["a"]]), TypeError, "`points`"),
    (lambda: Empirical([[0.0], [1.0]], log_weights=[0.0]), ValueError, "`log_weights`.*shape"),
    (lambda: Empirical([[0.0], [1.0]], log_weights=[0.5, 0.5]), ValueError, "normalised"),
    (lambda: Empirical([[0.0], [1.0]], log_weights=[0.0, np.nan]), ValueError, "`log_weights`"),
    (lambda: Empirical([[0.0]], log_weights=[-np.inf]), ValueError, "`log_weights`"),
    (lambda: Empirical([[0.0]], log_weights=["a"]), TypeError, "`log_weights`"),
    (lambda: TWO.logpdf(X), ValueError, "no density.*at"),
    (lambda: TWO.sample(-1), ValueError, "`n`"),
    (lambda: TWO.sample(1.5), ValueError, "`n`"),
    (lambda: TWO.sample(1, rng=-1), TypeError, "`rng`"),
    (lambda: TWO.at(SDE, 1.5), ValueError, "`t`"),
    (lambda: TWO.at(SDE, np.array([0.5])), TypeError, "`t`"),
    (lambda: TWO.score(SDE)(X, 0.0), ValueError, "sigma = 0"),
    (lambda: TWO.score(SDE)(X, np.array([[0.1], [0.0], [0.1]])), ValueError, "sigma = 0"),
    (lambda: TWO.score(SDE)(X, 1.1), ValueError, "`t`"),
    (lambda: TWO.score(SDE)(np.zeros((3, 1)), 0.5), ValueError, "`x`.*shape"),
    (lambda: TWO.score(SDE)(X.astype(int), 0.5), TypeError, "`x`"),
    (lambda: TWO.score(SDE).jvp(X, 0.5, np.zeros((3, 1))), ValueError, "`u`"),
    (lambda: TWO.score(SDE).jvp(X, 0.5, np.zeros((2, 2))), ValueError, "`u`"),
    (lambda: TWO.condition([[1.0]], [0.0], 1.0), ValueError, "`A`"),
    (lambda: TWO.condition([[1.0, 0.0]], [0.0, 1.0], 1.0), ValueError, "`y`"),
    (lambda: TWO.condition([[1.0, 0.0]], [0.0], 0.0), ValueError, "`noise_cov`"),
    (lambda: TWO.condition([[1.0, 0.0]], [0.0], -1.0), ValueError, "`noise_cov`"),
    (lambda: TWO.condition([[1.0, 0.0]], [0.0], [1.0, 2.0]), ValueError, "`noise_cov`"),
]


@pytest.mark.parametrize("call, error, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_an_empty_batch_is_answered_with_an_empty_one():
    assert TWO.score(SDE)(X[:0], 0.5).shape == (0, 2)
