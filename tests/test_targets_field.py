"""Gaussian fields: the fast score is the dense one, the draws have the spectrum."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde._bases import Basis
from refsde.targets import _fields, data
from refsde.targets._fields import evaluate, fields_formula

BASES = ("fft", "dct", "pixel")
EVENTS = ((6, 6), (5, 7), (2, 5, 4))
SDES = (rs.VP(), rs.VE())
ALL = frozenset({"score", "logpdf", "denoise", "divergence", "resp", "jvp"})


def spectrum(basis: str, event: tuple[int, ...], rng, least: float = 0.01) -> np.ndarray:
    S = rng.uniform(least, 2.0, event)
    return (S + Basis(basis).even(S)) / 2


def fields(basis: str, event: tuple[int, ...], K: int, rng) -> list[rs.GaussianField]:
    return [
        rs.GaussianField(spectrum(basis, event, rng), 0.4 * rng.standard_normal(event), basis=basis)
        for _ in range(K)
    ]


def law_of(basis: str, event: tuple[int, ...], K: int, rng):
    made = fields(basis, event, K, rng)
    return made[0] if K == 1 else rs.FieldMixture(np.arange(1, K + 1) / (K * (K + 1) / 2), made)


def relative(found, truth) -> float:
    return float(np.max(np.abs(found - truth)) / np.max(np.abs(truth)))


# -- the exact answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("sde", SDES, ids=repr)
@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("basis", BASES)
def test_everything_equals_the_dense_mixture(basis, event, K, sde, rng):
    law = law_of(basis, event, K, rng)
    dense = law.to_mixture()
    x, u = law.sample(5, rng=1) + 0.1, rng.standard_normal((5, *event))

    def flat(values):
        return values.reshape(len(values), -1)

    for t in (0.02, 0.4):
        here, there = law.score(sde), dense.score(sde)
        pairs = {
            "score": (here(x, t), there(flat(x), t)),
            "jvp": (here.jvp(x, t, u), there.jvp(flat(x), t, flat(u))),
        }
        for name in ("logpdf", "denoise", "divergence", "responsibilities", "eps"):
            pairs[name] = getattr(here, name)(x, t), getattr(there, name)(flat(x), t)
        for name, (found, truth) in pairs.items():
            assert relative(flat(found), flat(truth)) <= 1e-12, name
    assert relative(law.logpdf(x), dense.logpdf(flat(x))) <= 1e-12
    assert relative(law.responsibilities(x), dense.responsibilities(flat(x))) <= 1e-12
    np.testing.assert_allclose(law.mean.ravel(), dense.mean, rtol=1e-14, atol=1e-15)
    later = law.at(sde, 0.3)
    assert relative(later.logpdf(x), law.score(sde).logpdf(x, 0.3)) <= 1e-12


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("basis", BASES)
def test_the_formula_holds_in_every_array_library(xp, basis, K, rng):
    """And with a clock of its own for each sample."""
    law = law_of(basis, (2, 5, 4), K, rng)
    x, u = rng.standard_normal((2, 4, 2, 5, 4))
    clocks = np.array([0.1, 0.3, 0.9, 1.0]).reshape(4, 1, 1, 1)
    for t in (0.2, clocks):
        a, s = SDES[0].alpha(t), SDES[0].sigma(t)
        truth = evaluate(law._law, x, a, s, ALL, u)
        if isinstance(t, float):
            found = fields_formula(law._law, xp.asarray(x), a, s, ALL, xp.asarray(u))
        else:
            found = fields_formula(
                law._law, xp.asarray(x), xp.asarray(a), xp.asarray(s), ALL, xp.asarray(u)
            )
        for name in ALL:
            assert relative(np.asarray(found[name]), truth[name]) <= 1e-12, name
        score = law.score(SDES[0])(xp.asarray(x), t if isinstance(t, float) else xp.asarray(t))
        assert type(score) is type(xp.asarray(x))
        assert relative(np.asarray(score), truth["score"]) <= 1e-12


@pytest.mark.parametrize("basis", BASES)
def test_tweedie_and_the_limits_of_the_denoised_mean(basis, rng):
    law = law_of(basis, (5, 7), 3, rng)
    for sde in SDES:
        score, x = law.score(sde), rng.standard_normal((3, 5, 7))
        for t in (0.01, 0.5, 1.0):
            a, s = sde.alpha(t), sde.sigma(t)
            np.testing.assert_allclose(
                a * score.denoise(x, t), x + s * s * score(x, t), rtol=0, atol=1e-11 * (1 + s)
            )
            np.testing.assert_array_equal(score.eps(x, t), score(x, t) * -s)
    x = rng.standard_normal((3, 5, 7))
    prior = evaluate(law._law, x, 0.0, 1.0, frozenset({"denoise"}))["denoise"]
    np.testing.assert_allclose(prior, np.tile(law.mean, (3, 1, 1)), rtol=0, atol=1e-14)
    known = evaluate(law._law, x, 1.0, 0.0, frozenset({"denoise"}))["denoise"]
    np.testing.assert_allclose(known, x, rtol=0, atol=1e-13)


def test_one_clock_a_sample_gives_what_shared_clocks_give(rng):
    law = law_of("fft", (2, 5, 4), 3, rng)
    x, times = rng.standard_normal((3, 2, 5, 4)), np.array([0.1, 0.5, 0.9])
    own = law.score(SDES[0]).evaluate(x, times.reshape(3, 1, 1, 1), "score", "logpdf")
    for i, t in enumerate(times):
        shared = law.score(SDES[0]).evaluate(x[[i]], float(t), "score", "logpdf")
        for name in own:
            np.testing.assert_allclose(own[name][[i]], shared[name], rtol=1e-12)
    one = law.score(SDES[0])(x, np.full((1, 1, 1, 1), 0.5))
    np.testing.assert_array_equal(one, law.score(SDES[0])(x, np.full((3, 1, 1, 1), 0.5)))


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("event", [(1, 1), (2, 3), (3, 8, 8), (7, 9), (2, 32, 31)], ids=str)
def test_no_sample_feels_its_batch_mates(event, basis, dtype, K, rng, monkeypatch):
    """To the last bit, whatever the batch, its memory order and the blocks it is cut into."""
    score = law_of(basis, event, K, rng).score(SDES[0])
    x = rng.standard_normal((7, *event)).astype(dtype)
    clocks = np.linspace(0.1, 0.9, 7).reshape(7, *[1] * len(event))
    for want in ("score", "logpdf", "denoise", "divergence", "resp"):
        for t in (0.3, clocks):
            whole = score.evaluate(x, t, want)[want]
            assert whole.dtype == dtype
            for n in (1, 3):
                for i in range(0, 7, n):
                    part = t if isinstance(t, float) else t[i : i + n]
                    found = score.evaluate(x[i : i + n], part, want)[want]
                    np.testing.assert_array_equal(found, whole[i : i + n])
            np.testing.assert_array_equal(
                score.evaluate(np.asfortranarray(x), t, want)[want], whole
            )
            with monkeypatch.context() as patch:
                patch.setattr(_fields, "BLOCK", 2 * K * math.prod(event))
                np.testing.assert_array_equal(score.evaluate(x, t, want)[want], whole)
    assert score(x[:0], 0.3).shape == (0, *event)


@pytest.mark.parametrize("basis", BASES)
def test_float32_is_as_good_as_its_digits_and_nothing_is_written_into(basis, rng):
    law = law_of(basis, (3, 16, 16), 3, rng)
    x, t, u = (
        rng.standard_normal((3, 16, 16)) + np.zeros((4, 1, 1, 1)),
        0.2,
        np.ones((4, 3, 16, 16)),
    )
    clocks = np.full((4, 1, 1, 1), t)
    for array in (x, u, clocks):
        array.setflags(write=False)
    score = law.score(SDES[0])
    for time in (t, clocks):
        for name in ("score", "logpdf", "denoise", "divergence", "resp"):
            short = score.evaluate(x.astype(np.float32), time, name)[name]
            assert short.dtype == np.float32
            assert relative(short, score.evaluate(x, time, name)[name]) <= 2e-5, name
        assert score.jvp(x.astype(np.float32), time, u.astype(np.float32)).dtype == np.float32
        score.jvp(x, time, u)
    S, mean = np.ones((4, 4)), np.zeros((4, 4))
    field = rs.GaussianField(S, mean, basis=basis)
    S[:], mean[:], field.spectrum[:], field.mean[:] = 7, 7, 7, 7
    assert np.all(field.spectrum == 1) and np.all(field.mean == 0)


@st.composite
def even_spectra(draw):
    """A basis, and a spectrum over many orders of magnitude, of any small grid."""
    basis, seed = draw(st.sampled_from(BASES)), draw(st.integers(0, 2**32 - 1))
    event = tuple(draw(st.lists(st.integers(1, 6), min_size=2, max_size=3)))
    rng = np.random.default_rng(seed)
    S = 10 ** rng.uniform(-4, 3, event)
    return rs.GaussianField((S + Basis(basis).even(S)) / 2, rng.standard_normal(event), basis=basis)


@given(even_spectra(), st.floats(0.01, 1.0), st.sampled_from(SDES))
def test_score_is_the_gradient_and_the_trace_its_divergence(field, t, sde):
    score, event = field.score(sde), field.event_shape
    x = field.at(sde, t).sample(2, rng=3)
    dense = field.at(sde, t).to_mixture()
    C = dense.covs[0]
    truth = -np.linalg.solve(C, (x - sde.alpha(t) * field.mean).reshape(2, -1).T).T
    size = np.max(np.abs(truth)) * np.linalg.cond(C) * 1e-14 + 1e-12
    assert np.max(np.abs(score(x, t).reshape(2, -1) - truth)) <= size
    unit = np.eye(field.dim).reshape(-1, *event)
    columns = score.jvp(np.repeat(x[:1], field.dim, axis=0), t, unit).reshape(field.dim, -1)
    np.testing.assert_allclose(np.trace(columns), score.divergence(x, t)[0], rtol=1e-12)
    np.testing.assert_allclose(columns, columns.T, rtol=0, atol=1e-12 * np.abs(columns).max())


# -- draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("basis", BASES)
def test_draws_have_the_covariance(basis, seed, rng):
    law, n = law_of(basis, (3, 4), 3, rng), 200_000
    x = law.sample(n, rng=seed).reshape(n, -1)
    truth = law.to_mixture()
    z = (x.mean(0) - truth.mean) / np.sqrt(np.diag(truth.cov) / n)
    assert np.max(np.abs(z)) < 5.2  # false alarm 2e-6 for 12 means
    gaps = x - truth.mean
    products = gaps[:, :, None] * gaps[:, None, :]
    z = (products.mean(0) - truth.cov) / (products.std(0) / math.sqrt(n))
    assert np.max(np.abs(z)) < 5.5  # false alarm 3e-6 for 78 entries


@pytest.mark.parametrize("basis", ["fft", "dct"])
@pytest.mark.parametrize("event", [(16, 16), (3, 15, 9)], ids=str)
def test_octaves_of_draws_are_one(basis, event, seed):
    field, B = rs.GaussianField.power_law(event, 2.5, basis=basis), 400
    edges, ratios = field.octaves(field.sample(B, rng=seed))
    counts = np.array([np.sum(field.octave_index() == j) for j in range(len(ratios))])
    counts *= field.dim // field.octave_index().size
    z = (ratios - 1) / np.sqrt(2 / (B * counts))
    assert np.max(np.abs(z)) < 5  # false alarm 6e-7 an octave
    np.testing.assert_array_equal(edges, 2.0 ** np.arange(len(ratios) + 1))
    power = 2 * field.sample(B, rng=seed) - field.mean  # twice the deviation, four times the power
    np.testing.assert_allclose(field.octaves(power)[1], 4 * ratios, rtol=1e-12)


def test_octaves_cover_the_grid():
    for n, J in ((32, 5), (64, 6), (256, 8)):
        field = rs.GaussianField.power_law(n)
        octave, k = field.octave_index(), field.basis.frequency((n, n))
        edges, ratios = field.octaves(np.broadcast_to(field.mean, (1, n, n)))
        assert len(ratios) == J and octave[0, 0] == -1 and octave.max() == J - 1
        np.testing.assert_array_equal(ratios, 0)
        for j in range(J):
            np.testing.assert_array_equal(octave == j, (edges[j] <= k) & (k < edges[j + 1]))
    cosines = rs.GaussianField.power_law(32, basis="dct")
    assert len(cosines.octaves(cosines.sample(1, rng=0))[1]) == 6
    for small in ((1, 8), (2, 2), (1, 1)):
        for basis in ("fft", "dct"):
            field = rs.GaussianField.power_law(small, basis=basis)
            assert np.all(np.isfinite(field.octaves(field.sample(3, rng=0))[1]))


def test_octaves_count_every_coefficient_of_the_full_grid(rng):
    field = law_of("fft", (3, 6, 5), 1, rng)
    x = rng.standard_normal((4, 3, 6, 5))
    power = np.mean(np.abs(np.fft.fft2(x - field.mean, norm="ortho")) ** 2, axis=0)
    octave = np.broadcast_to(field.octave_index(), power.shape)
    truth = [np.mean((power / field.spectrum)[octave == j]) for j in range(2)]
    np.testing.assert_allclose(field.octaves(x)[1], truth, rtol=1e-12)


def test_draw_i_depends_on_the_seed_and_i_alone(rng, monkeypatch):
    for law in (law_of("fft", (2, 5, 4), 1, rng), law_of("dct", (2, 5, 4), 3, rng)):
        long = law.sample(50, rng=3)
        np.testing.assert_array_equal(law.sample(7, rng=3), long[:7])
        np.testing.assert_array_equal(law.sample(7, rng=np.random.default_rng(3)), long[:7])
        assert law.sample(0, rng=3).shape == (0, 2, 5, 4)
        assert not np.array_equal(law.sample(7, rng=4), long[:7])
    large = rs.GaussianField.power_law((3, 256, 256))  # several noise blocks
    long = large.sample(7, rng=0)
    np.testing.assert_array_equal(large.sample(5, rng=0), long[:5])


# -- how fields are made --------------------------------------------------------------------------


@pytest.mark.parametrize("n, most, least", [(32, 2.950, 5.762e-3), (256, 117.83, 3.596e-3)])
def test_power_law_has_the_constants_of_the_specification(n, most, least):
    field = rs.GaussianField.power_law(n)
    S = field.spectrum
    np.testing.assert_allclose([S.max(), S.min()], [most, least], rtol=2e-4)
    assert S.max() / S.min() == pytest.approx(n * n / 2, rel=1e-12)
    assert S[0, 0] == S[0, 1] and field.std == pytest.approx(0.25, rel=1e-14)
    channels = rs.GaussianField.power_law((3, n, n), 1.5, std=0.1, mean=-1.0)
    assert channels.std == pytest.approx(0.1, rel=1e-14) and np.all(channels.mean == -1)
    np.testing.assert_array_equal(channels.spectrum[0], channels.spectrum[2])
    assert S[0, 4] / S[0, 8] == pytest.approx(4) and channels.dim == 3 * n * n


def test_equal_channels_cost_one_table_and_give_the_same(rng):
    """A table then stands for all channels, and sums over the grid count it for each."""
    shared = rs.GaussianField.power_law((3, 8, 8))
    assert shared._law.spectra[0].shape == (1, 8, 8)
    law = rs.GaussianField(shared.spectrum, 0.5)
    spread = law._law.spectra[0] + np.zeros((3, 1, 1))
    wide = rs.GaussianField._of(
        _fields.Fields(law.basis, (3, 8, 8), np.zeros(1), law._law.means, [spread])
    )
    x = rng.standard_normal((2, 3, 8, 8))
    for name in ("score", "logpdf", "denoise", "divergence"):
        found, truth = (f.score(SDES[0]).evaluate(x, 0.2, name)[name] for f in (law, wide))
        assert relative(found, truth) <= 1e-14


def test_fit_recovers_a_spectrum(seed):
    for basis in ("fft", "dct"):
        truth = rs.GaussianField.power_law((2, 16, 16), mean=0.3, basis=basis)
        images = truth.sample(500, rng=seed)
        found = rs.GaussianField.fit(images, basis=basis)
        assert found.event_shape == (2, 16, 16) and found.basis == truth.basis
        np.testing.assert_array_equal(found.mean, np.full((2, 16, 16), images.mean()))
        np.testing.assert_allclose(found.std, images.std(), rtol=1e-2)
        # rings mix |k| within one half, and the constant's power has 500 samples only
        ratio = found.spectrum / truth.spectrum
        assert np.all((0.3 < ratio) & (ratio < 3)) and abs(np.median(ratio) - 1) < 0.05
        rough = rs.GaussianField.fit(images, basis=basis, smooth=False)
        power = np.mean(np.square(images - images.mean()))
        assert rough.std**2 == pytest.approx(power, rel=1e-12)  # Parseval
    flat = rs.GaussianField.fit(images, basis="pixel")
    np.testing.assert_allclose(flat.spectrum[0], np.mean(flat.spectrum[0]), rtol=1e-12)


@pytest.mark.parametrize("basis", ["fft", "dct"])
def test_fit_gives_the_constant_power_even_from_one_image(basis, rng):
    field = rs.GaussianField.fit(rng.standard_normal((1, 9, 12)), basis=basis)
    assert np.all(field.spectrum > 0) and field.spectrum[0, 0] == field.spectrum[0, 1]
    assert np.all(np.isfinite(field.logpdf(field.sample(2, rng=0))))


def test_components_are_drawn_by_their_weights(seed):
    parts = [rs.GaussianField.power_law(2, std=0.01, mean=m) for m in (-1.0, 0.0, 1.0)]
    x = rs.FieldMixture([0.3, 0.5, 0.2], parts).sample(400_000, rng=seed)[:, 0, 0]
    for m, w in ((-1, 0.3), (0, 0.5), (1, 0.2)):
        z = (np.mean(np.abs(x - m) < 0.5) - w) / math.sqrt(w * (1 - w) / len(x))
        assert abs(z) < 5  # false alarm 6e-7


def test_mixtures_have_their_parts(rng):
    parts = fields("dct", (5, 7), 3, rng)
    law = rs.FieldMixture([0.5, 0.3, 0.2], parts)
    np.testing.assert_allclose(law.weights, [0.5, 0.3, 0.2], rtol=1e-15)
    np.testing.assert_allclose(np.exp(law.log_weights), law.weights)
    pooled = sum(w * f.spectrum for w, f in zip(law.weights, parts, strict=True))
    np.testing.assert_allclose(law.pooled(), pooled, rtol=1e-14)
    x = rng.standard_normal((3, 5, 7))
    for k in (0, 2, -1):
        np.testing.assert_array_equal(law.component(k).logpdf(x), parts[k].logpdf(x))
    assert [f.n_components for f in law.fields] == [1, 1, 1] and law.n_components == 3
    alone = rs.FieldMixture([1.0], parts[:1])
    np.testing.assert_array_equal(alone.score(SDES[0])(x, 0.3), parts[0].score(SDES[0])(x, 0.3))
    never = rs.FieldMixture([1.0, 0.0], parts[:2])
    assert relative(never.score(SDES[0])(x, 0.3), parts[0].score(SDES[0])(x, 0.3)) <= 1e-12
    assert never.sample(9, rng=0).shape == (9, 5, 7)


@pytest.mark.parametrize("law", [1, 3])
def test_check_score_and_samplers_take_images(law, rng):
    target = law_of("fft", (2, 4, 3), law, rng)
    assert rs.testing.check_score(target.score(SDES[0])).passed
    for process, solver in (
        (rs.ReverseSDE(SDES[0], target.score(SDES[0])), rs.EulerMaruyama()),
        (rs.ProbabilityFlow(SDES[0], target.score(SDES[0])), rs.Heun()),
    ):
        x = rs.sample(process, solver, 5, times=4, rng=0).x
        assert x.shape == (5, 2, 4, 3)
        with pytest.raises(ValueError, match=r"`shape` must be \(2, 4, 3\), the target's"):
            rs.sample(process, solver, 5, shape=(24,), times=4, rng=0)


def test_what_they_say_of_themselves():
    field = rs.GaussianField.power_law((3, 8, 8))
    assert repr(field) == "GaussianField((3, 8, 8), basis='fft', std=0.25)"
    mixture = rs.FieldMixture([1.0], [field])
    assert repr(mixture) == "FieldMixture(K=1, (3, 8, 8), basis='fft')"
    for thing in (field, mixture):
        assert re.fullmatch(r"\$.*3 \\times 8 \\times 8.*\$", thing._repr_latex_())
    assert repr(field.score(SDES[0])).startswith("TargetScore(GaussianField(")


# -- wrong calls ----------------------------------------------------------------------------------

ONES = np.ones((4, 4))
FIELD = rs.GaussianField(ONES)
UNEVEN = np.where(np.arange(16).reshape(4, 4) == 1, 2.0, 1.0)
SINGULAR = rs.GaussianField(np.where(np.arange(16).reshape(4, 4) == 0, 0.0, 1.0))
SCORE = FIELD.score(SDES[0])
POINTS = np.zeros((2, 4, 4))

WRONG = {
    "negative": (lambda: rs.GaussianField(-ONES), "`spectrum`.*-1.0.*squared modulus"),
    "nan": (lambda: rs.GaussianField(np.nan * ONES), "`spectrum` must be finite, got nan"),
    "complex": (lambda: rs.GaussianField(1j * ONES), r"`spectrum` must be real.*abs\(X\)\*\*2"),
    "uneven": (lambda: rs.GaussianField(UNEVEN), r"`spectrum` must be even.*2.0 and 1.0.*fftfreq"),
    "flat": (lambda: rs.GaussianField(np.ones(4)), r"`spectrum`.*\(H, W\).*\(4,\)"),
    "empty": (lambda: rs.GaussianField(np.ones((0, 4))), r"`spectrum`.*none empty.*\(0, 4\)"),
    "axes": (lambda: rs.GaussianField(ONES, axes=0), "`axes`.*got 0"),
    "basis": (lambda: rs.GaussianField(ONES, basis="sine"), "`basis`.*'dct'.*'sine'"),
    "mean": (lambda: rs.GaussianField(ONES, np.zeros(3)), r"`mean`.*\(4, 4\).*\(3,\).*a channel"),
    "mean-deep": (lambda: rs.GaussianField(ONES, np.zeros((1, 4, 4))), r"`mean`.*\(1, 4, 4\)"),
    "mean-nan": (lambda: rs.GaussianField(ONES, np.nan), "`mean` must be finite"),
    "shape": (lambda: rs.GaussianField.power_law(0), r"`shape`.*got 0.*\(64, 64\)"),
    "shape-line": (lambda: rs.GaussianField.power_law((8,)), r"`shape`.*\(8,\)"),
    "exponent": (lambda: rs.GaussianField.power_law(8, np.nan), "`exponent`.*nan"),
    "std": (lambda: rs.GaussianField.power_law(8, std=-1.0), "`std`.*-1.0"),
    "images": (lambda: rs.GaussianField.fit(ONES), r"`images`.*\(4, 4\).*images\[None\]"),
    "point": (lambda: SCORE(POINTS[0], 0.5), r"`x`.*\(B, 4, 4\), got \(4, 4\).*x\[None\]"),
    "event": (lambda: SCORE(np.zeros((2, 4, 5)), 0.5), r"`x`.*\(B, 4, 4\), got \(2, 4, 5\)"),
    "flattened": (lambda: SCORE(np.zeros((2, 16)), 0.5), r"`x`.*\(B, 4, 4\), got \(2, 16\)"),
    "integers": (lambda: SCORE(np.zeros((2, 4, 4), int), 0.5), "`x` must be real floating"),
    "complex-x": (lambda: SCORE(1j * POINTS, 0.5), "`x` must be real floating.*complex128"),
    "list": (lambda: SCORE([[0.0]], 0.5), r"`x` must be an array \(B, 4, 4\), got list"),
    "clocks": (lambda: SCORE(POINTS, np.ones((2, 1))), r"`t`.*\(2, 1, 1\).*got \(2, 1\)"),
    "direction": (lambda: SCORE.jvp(POINTS, 0.5, POINTS[0]), r"`u`.*\(B, 4, 4\), got \(4, 4\)"),
    "density": (lambda: SINGULAR.logpdf(POINTS), "zeros has no density at sigma = 0: use t > 0"),
    "octaves": (lambda: SINGULAR.octaves(POINTS), "`octaves`.*zeros"),
    "pixels": (lambda: rs.GaussianField(ONES, basis="pixel").octave_index(), "no frequency"),
    "draws": (lambda: FIELD.sample(-1), "`n`.*-1"),
    "times": (lambda: FIELD.at(SDES[0], np.ones(2)), "`t` must be one float"),
    "dense": (lambda: rs.GaussianField.power_law(65).to_mixture(), "d = 4225 is above 4096"),
    "no-fields": (lambda: rs.FieldMixture([], []), "`fields`.*at least one"),
    "no-field": (lambda: rs.FieldMixture([1.0], ["f"]), "`fields`.*str at 0"),
    "unlike": (
        lambda: rs.FieldMixture([0.5, 0.5], [FIELD, rs.GaussianField(ONES, basis="dct")]),
        "`fields` must share basis and event_shape.*'fft'.*'dct'",
    ),
    "shapes": (
        lambda: rs.FieldMixture([0.5, 0.5], [FIELD, rs.GaussianField.power_law(8)]),
        r"`fields`.*\(4, 4\).*\(8, 8\)",
    ),
    "weights": (lambda: rs.FieldMixture([0.5, 0.5], [FIELD]), r"`weights`.*\(1,\), one a field"),
    "sum": (lambda: rs.FieldMixture([0.5], [FIELD]), "`weights` must sum to 1, got 0.5"),
    "component": (lambda: rs.FieldMixture([1.0], [FIELD]).component(1), "`k` must be below 1"),
    "size": (lambda: rs.targets.photographs_field(4), "`size`.*8 to 2048, got 4"),
    "channels": (lambda: rs.targets.photographs_field(8, 2), "`channels`.*got 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_told_what_to_do(name):
    call, message = WRONG[name]
    with pytest.raises((ValueError, TypeError), match="(?s)" + message):
        call()


def test_a_spectrum_even_but_for_rounding_is_taken():
    assert np.all(rs.GaussianField(np.where(UNEVEN == 2, 1 + 1e-12, 1.0)).spectrum > 0)
    with pytest.raises(ValueError, match="even"):
        rs.GaussianField(np.where(UNEVEN == 2, 1 + 1e-9, 1.0))
    rs.GaussianField(UNEVEN, basis="dct"), rs.GaussianField(UNEVEN, basis="pixel")


# -- photographs ----------------------------------------------------------------------------------


def test_photographs_are_in_colour_and_the_caller_s_own():
    pytest.importorskip("PIL")
    x = rs.targets.photographs()
    assert x.shape == (2, 3, 427, 640) and (x.min(), x.max()) == (-1, 1)
    np.testing.assert_allclose(x.mean(axis=1), data._photographs(), rtol=0, atol=1e-15)
    x[:] = 7
    assert rs.targets.photographs().max() == 1


@pytest.mark.parametrize("channels, exponent", [(1, 2.33), (3, 2.35)])
def test_the_spectrum_of_photographs_is_a_power_law(channels, exponent):
    pytest.importorskip("PIL")
    f, P, found = data._radial_power(channels)
    assert found == pytest.approx(exponent, abs=0.005)
    assert np.all(np.diff(f) > 0) and f[0] == pytest.approx(1 / 64, rel=0.03)
    for size in (8, 9, 64, 300):
        field = rs.targets.photographs_field(size, channels)
        S = field.spectrum
        assert field.event_shape == (channels, size, size) and S.min() > 0
        assert S[0, 0, 0] == S[0, 0, 1] and np.all(S == S[:1])
        assert np.all(field.mean == np.mean(data._photographs()))
    # one density of power: the same frequency has the same variance at any size
    small, large = (rs.targets.photographs_field(n, channels).spectrum[0] for n in (32, 256))
    np.testing.assert_allclose(small[1:4, 1:4], large[8:25:8, 8:25:8], rtol=1e-12)


def test_the_estimate_gives_white_noise_its_variance(rng, monkeypatch):
    white = 0.3 * rng.standard_normal((2, 427, 640))
    monkeypatch.setattr(data, "_photographs", lambda: white)
    _, P, exponent = data._radial_power.__wrapped__(1)
    assert abs(np.mean(P) / 0.09 - 1) < 0.05 and abs(exponent) < 0.1
