"""Filters from data, against the formulas of the published code and figures of exact theory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import refsde as rs
from refsde import precondition as pc

#: n -> (sigma_max, largest gain at alpha = 5, N / alpha*), of power-law fields with their mean 0.5
PUBLISHED = {32: (50.0, 1.203, 7.1), 128: (190.0, 1.181, 9.3), 256: (378.0, 1.173, 10.4)}
FIELDS = {n: rs.GaussianField.power_law(n) for n in PUBLISHED}
SMALL = rs.GaussianField.power_law(8)


def log_levels(sigma_max: float, sigma_min: float = 0.01) -> float:
    return 2 * math.log(sigma_max / sigma_min)


def close(got: Any, want: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1.0, np.abs(want).max()))


# -- the published filters ------------------------------------------------------------------------


@pytest.mark.parametrize("n", PUBLISHED)
def test_the_published_filter_has_its_range(n: int) -> None:
    M = pc.pds_frequency_filter(FIELDS[n], 5.0)
    assert isinstance(M, pc.Fourier)
    assert M.gain[0, 0] == 1.0 == M.gain.min()
    assert M.gain.max() == pytest.approx(PUBLISHED[n][1], abs=5e-4)
    assert np.unravel_index(M.gain.argmax(), M.gain.shape) == (n // 2, n // 2)


def test_the_published_filter_is_its_formula() -> None:
    """P = mean |fft2|^2, not normalised; q = log(1 + P), r = q / max q; alpha / (r + alpha - 1)."""
    images = SMALL.sample(50, rng=0)
    P = np.mean(np.abs(np.fft.fft2(images)) ** 2, axis=0)
    q = np.log(1 + P)
    for alpha in (1.5, 5.0, 100.0):
        want = alpha / (q / q.max() + alpha - 1)
        close(pc.pds_frequency_filter(images, alpha).gain, want)
    S, mu = SMALL.spectrum, np.zeros((8, 8))
    mu[0, 0] = 8 * SMALL.mean[0, 0]
    q = np.log1p(64 * (S + mu**2))
    close(pc.pds_frequency_filter(SMALL).gain, 5 / (q / q.max() + 4))


def test_images_of_a_field_have_its_filter() -> None:
    # The mean square of a coefficient of 20000 images has a relative standard error of at most
    # sqrt(2 / 20000) = 1 %; q = log(1 + P), with a maximum of 6.95, moves by at most 0.01.
    # 40 independent coefficients, five standard errors: a false alarm in 2e-5 of fresh seeds.
    images = SMALL.sample(20_000, rng=1)
    gap = pc.pds_frequency_filter(images).gain - pc.pds_frequency_filter(SMALL).gain
    assert np.abs(gap).max() < 5 * 1.25**2 / 5 * 0.01 / 6.95  # dR = R^2 / alpha dr
    pixels = pc.pds_pixel_filter(images).gain - pc.pds_pixel_filter(SMALL).gain
    assert np.abs(pixels).max() < 0.02


def test_channels_are_divided_by_the_joint_maximum() -> None:
    """The largest power of all channels, as in the code: a dim channel is turned up as a whole."""
    images = RNG.standard_normal((30, 2, 4, 5)) * np.array([1.0, 0.01])[:, None, None]
    M = pc.pds_frequency_filter(images)
    assert M.event_shape == (2, 4, 5)
    q = np.log1p(np.mean(np.abs(np.fft.fft2(images)) ** 2, axis=0))
    close(M.gain, 5 / (q / q.max() + 4))
    assert M.gain[1].min() > M.gain[0].max()
    assert M.gain[1].max() > 1.24


RNG = np.random.default_rng(3)


@pytest.mark.parametrize("basis", ["fft", "dct", "pixel"])
def test_the_filter_of_a_field_lives_in_its_basis(basis: Any) -> None:
    spectrum = np.full((4, 4), 0.5)
    field = rs.GaussianField(spectrum, 1.0, basis=basis)
    M = pc.pds_frequency_filter(field)
    assert M.basis == field.basis
    if basis != "pixel":  # a constant image has its power in the mean, 16 of it
        q = np.log1p(16 * (spectrum + 16 * (np.arange(16).reshape(4, 4) == 0)))
        close(M.gain, 5 / (q / q.max() + 4))  # type: ignore[attr-defined]


def test_alpha_turns_the_filter_down() -> None:
    gains = [pc.pds_frequency_filter(SMALL, alpha).gain for alpha in (1.2, 2.0, 5.0, 50.0)]
    for strong, weak in zip(gains[:-1], gains[1:], strict=True):
        assert np.all(strong > weak - 1e-15) and strong.max() > weak.max()
    assert np.all(pc.pds_frequency_filter(SMALL, math.inf).gain == 1.0)
    assert pc.pds_frequency_filter(SMALL, 5.0).gain.max() < 5 / 4
    assert np.all(pc.pds_pixel_filter(SMALL.sample(5, rng=0), math.inf).gain == 1.0)


def test_the_pixel_filter_is_its_formula() -> None:
    images = np.abs(RNG.standard_normal((9, 3, 4)))
    q = np.mean(images**2, axis=0)
    M = pc.pds_pixel_filter(images, 3.0)
    assert isinstance(M, pc.Diagonal)
    close(M.gain, 3 / (q / q.max() + 2))
    logged = np.log1p(q)
    close(pc.pds_pixel_filter(images, 3.0, log=True).gain, 3 / (logged / logged.max() + 2))
    # of a field: E x^2 = mean^2 + the pixel's variance, that of all pixels in a Fourier basis
    mean = np.linspace(0.0, 1.0, 16).reshape(4, 4)
    stationary = rs.GaussianField(np.full((4, 4), 0.25), mean)
    q = mean**2 + 0.25
    close(pc.pds_pixel_filter(stationary).gain, 5 / (q / q.max() + 4))
    pixels = rs.GaussianField(1 + mean, mean, basis="pixel")
    q = mean**2 + 1 + mean
    close(pc.pds_pixel_filter(pixels).gain, 5 / (q / q.max() + 4))


# -- the disc -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8), (7, 7), (6, 9), (1, 5)])
def test_the_disc_holds_the_low_frequencies_where_the_fft_has_them(shape: tuple[int, int]) -> None:
    M = pc.disc_filter(shape, 1.5, 1.3)
    assert M.gain[0, 0] == 1.0, "the mean is inside"
    h, w = shape
    k = np.hypot(np.fft.fftfreq(h)[:, None] * max(shape), np.fft.fftfreq(w)[None, :] * max(shape))
    np.testing.assert_array_equal(M.gain, np.where(k <= 1.5, 1.0, 1.3))
    flat = np.full((1, *shape), 2.0)
    close(M.apply(flat), flat)
    if min(shape) > 4:  # the fastest wave is outside
        wave = np.cos(np.pi * (2 * (h // 2) / h) * np.arange(h))[:, None] * np.ones(w)
        close(M.apply(wave), 1.3 * wave)
        unshifted = np.fft.fftshift(M.gain)
        assert unshifted[0, 0] == 1.3, "the trap: centred, the same table would swap them"


# -- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", PUBLISHED)
def test_the_rule_for_alpha_is_linear_with_its_figures(n: int) -> None:
    sigma_max, _, ratio = PUBLISHED[n]
    L = log_levels(sigma_max)
    assert 100 / pc.alpha_rule(FIELDS[n], L, 100) == pytest.approx(ratio, abs=0.05)
    one, ten = (pc.alpha_rule(FIELDS[n], L, N) for N in (1, 10))
    assert ten == pytest.approx(10 * one, rel=1e-12)


def test_the_rule_for_alpha_is_its_formula() -> None:
    S = SMALL.spectrum
    r = (5 / pc.pds_frequency_filter(SMALL).gain) - 4  # R = alpha / (r + alpha - 1)
    want = 4 * 66 / 20 * np.sum(S * (1 - r) ** 2) / np.sum(S * (1 - r))
    assert pc.alpha_rule(SMALL, 20.0, 66) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(("N", "error"), [(100, 0.01238), (200, 0.00328), (400, 0.00085)])
def test_the_scalar_rule_has_order_two(N: int, error: float) -> None:
    """u = 1 + L / (2N) leaves the published errors, where vanilla has L / (2N)."""
    L = 27.63
    M = pc.scalar_rule(L, N)
    assert M.c**2 == pytest.approx(1 + L / (2 * N), rel=1e-14)
    sde = rs.Tabulated(sigmas=1e-3 * np.exp(np.linspace(0, L / 2, N)))
    field = rs.GaussianField(np.ones((1, 1)))
    grid = rs.Grid.uniform(sde, N, t_end=0.0)
    process = rs.Preconditioned(sde, field.score(sde), M, guard="off")
    law = rs.exact.law(process, rs.ReverseDiffusion(), grid, start="prior")
    assert abs(law.variance.item() - 1) == pytest.approx(error, rel=0.03)
    plain = rs.exact.law(rs.ReverseSDE(sde, field.score(sde)), rs.ReverseDiffusion(), grid)
    assert plain.variance.item() - 1 == pytest.approx(L / (2 * N), rel=0.12)


def test_the_range_of_levels_is_that_of_the_steps() -> None:
    table = rs.Tabulated(sigmas=np.geomspace(0.01, 50.0, 20))
    for grid in (rs.Grid.uniform(table, 20, 0.0), rs.Grid([1.0, 0.05, 0.0])):
        assert pc.log_range(table, grid) == pytest.approx(log_levels(50.0), rel=1e-12)
    ve = rs.VE(sigma_min=0.01, sigma_max=50.0)
    at_end = rs.Grid.logsnr(ve, 10)
    want = 2 * math.log(ve.sigma(1.0) / ve.sigma(at_end.ts[-1]))
    assert pc.log_range(ve, at_end) == pytest.approx(want, rel=1e-12)
    vp = rs.VP()
    want = 2 * math.log(vp.rho(1.0) / vp.rho(vp.t_end))
    assert pc.log_range(vp, rs.Grid.uniform(vp, 10)) == pytest.approx(want, rel=1e-12)


# -- matched filters ------------------------------------------------------------------------------


def test_langevin_matched_is_proportional_to_the_covariance() -> None:
    sde, t = rs.VE(), 0.5
    S, y = SMALL.spectrum, rs.VE().sigma(0.5) ** 2
    close(pc.langevin_matched(SMALL).spectrum(), S / S.min(), 1e-12)
    close(pc.langevin_matched(SMALL, power=-1.0).spectrum(), S.min() / S)
    at_t = (S + y) / (S + y).min()
    close(pc.langevin_matched(SMALL, sde, t).spectrum(), at_t)
    close(pc.langevin_matched(SMALL, sde, t, power=0.5).spectrum(), at_t**0.5)
    stepwise = pc.langevin_matched(SMALL, sde)
    assert not stepwise.static
    close(stepwise.at(t, 0.1).spectrum(), at_t)
    vp = rs.VP()
    V = vp.alpha(t) ** 2 * S + vp.sigma(t) ** 2
    close(pc.langevin_matched(SMALL, vp, t).spectrum(), V / V.min())


MIXTURE = rs.GaussianMixture(
    [0.4, 0.6], [[0.0, 1.0], [2.0, -1.0]], [[[1.0, 0.3], [0.3, 0.5]], [[0.4, -0.1], [-0.1, 0.9]]]
)
WITHIN = 0.4 * MIXTURE.covs[0] + 0.6 * MIXTURE.covs[1]


def test_matched_to_a_mixture_they_are_matrices() -> None:
    """Of the mean covariance within components: that between them is no matter of conditioning."""

    def gram(M: Any) -> np.ndarray:
        assert isinstance(M, pc.Dense)
        close(M.matrix, M.matrix.T)
        return np.asarray(M.matrix @ M.matrix.T)

    close(gram(pc.langevin_matched(MIXTURE)), WITHIN / np.linalg.eigvalsh(WITHIN)[0])
    vp = rs.VP()
    V = [vp.alpha(t) ** 2 * WITHIN + vp.sigma(t) ** 2 * np.eye(2) for t in (0.4, 0.3)]
    at_t = V[0] / np.linalg.eigvalsh(V[0])[0]
    close(gram(pc.langevin_matched(MIXTURE, vp, 0.4)), at_t)
    close(gram(pc.langevin_matched(MIXTURE, vp).at(0.4, 0.3)), at_t)
    close(gram(pc.noise_matched(MIXTURE, vp).at(0.4, 0.3)), V[1] @ np.linalg.inv(V[0]))
    given = [1.0, 4.0]  # along the eigenvectors of WITHIN
    close(np.linalg.eigvalsh(gram(pc.langevin_matched(MIXTURE, spectrum=given))), given)


@pytest.mark.parametrize("name", ["VE", "VP"])
def test_matched_to_one_gaussian_of_vectors_they_are_exact_too(name: str) -> None:
    sde: Any = rs.VE(sigma_max=10.0) if name == "VE" else rs.VP()
    target = rs.GaussianMixture([1.0], [[0.5, -1.0]], [MIXTURE.covs[0]])
    score = target.score(sde)
    for steps in (1, 3):
        grid = rs.Grid.karras(sde, steps, t_end=0.05)
        process = rs.Preconditioned(sde, score, pc.noise_matched(target, sde), "noise")
        law = rs.exact.law(process, rs.Ancestral("large"), grid)
        want = target.at(sde, 0.05)
        close(law.cov, want.cov, 1e-11)
        close(law.mean, want.mean, 1e-11)
    t, s = 0.5, 0.498
    process = rs.Preconditioned(sde, score, pc.step_matched(target, sde))
    law = rs.exact.law(process, rs.ReverseDiffusion(), rs.Grid([t, s]))
    close(law.cov, target.at(sde, s).cov)


def test_a_mixture_of_fields_has_its_pooled_spectrum() -> None:
    fields = [rs.GaussianField.power_law(8, std=s, mean=m) for s, m in ((0.1, 0.0), (0.3, 1.0))]
    mixture = rs.FieldMixture([0.25, 0.75], fields)
    S = 0.25 * fields[0].spectrum + 0.75 * fields[1].spectrum
    sde = rs.VE()
    close(pc.langevin_matched(mixture).spectrum(), S / S.min())
    for build in (pc.noise_matched, pc.step_matched):
        pooled = build(mixture, sde).at(0.5, 0.4).spectrum()
        close(build(fields[0], sde, spectrum=S).at(0.5, 0.4).spectrum(), pooled)


def test_noise_matched_is_the_ratio_of_variances() -> None:
    S = SMALL.spectrum
    for sde in (rs.VE(), rs.VP(), rs.SubVP()):
        V = [sde.alpha(t) ** 2 * S + sde.sigma(t) ** 2 for t in (0.6, 0.3)]
        close(pc.noise_matched(SMALL, sde).at(0.6, 0.3).spectrum(), V[1] / V[0])


# -- bad input ------------------------------------------------------------------------------------

FLAT = np.zeros((2, 4, 4))
FREE = rs.GaussianField(np.where(np.eye(4) + np.ones((4, 4)) > 1, 1.0, 0.0), basis="dct")
BAD: list[tuple[Any, type, str]] = [
    (lambda: pc.pds_frequency_filter(SMALL, 1.0), ValueError, "above 1, got 1.0"),
    (lambda: pc.pds_frequency_filter(SMALL, math.nan), ValueError, "above 1, got nan"),
    (lambda: pc.pds_frequency_filter(FLAT), ValueError, "`data` must not be zero everywhere"),
    (lambda: pc.pds_frequency_filter(FLAT[0]), ValueError, r"images \(n, H, W\).*batch first"),
    (lambda: pc.pds_frequency_filter(FLAT[:0]), ValueError, r"got shape \(0, 4, 4\)"),
    (lambda: pc.pds_frequency_filter(FLAT * np.nan), ValueError, "`data` must be finite.*remove"),
    (lambda: pc.pds_frequency_filter("cats"), TypeError, "`data` must be real images, got"),
    (lambda: pc.pds_pixel_filter(FREE), ValueError, r"another variance at every pixel: pass draws"),
    (lambda: pc.pds_pixel_filter(FLAT + 1, 0.5), ValueError, "`alpha` must be a number above 1"),
    (lambda: pc.disc_filter((4, 4), -1.0, 1.0), ValueError, "`radius` must be a finite non-neg"),
    (lambda: pc.disc_filter((4, 4), 1.0, 0.0), ValueError, "`gain` must be positive"),
    (lambda: pc.scalar_rule(0.0, 10), ValueError, r"`log_range` must be positive, .* log\(sigma"),
    (lambda: pc.scalar_rule(20.0, 0), ValueError, "`steps` must be a positive int, got 0"),
    (lambda: pc.scalar_rule(20.0, 2.5), ValueError, "`steps` must be a positive int, got 2.5"),  # type: ignore[arg-type]
    (lambda: pc.alpha_rule(SMALL, math.inf, 10), ValueError, "`log_range` must be positive"),
    (lambda: pc.alpha_rule(FLAT, 20.0, 10), TypeError, "`data` must be a GaussianField, got nd"),
    (lambda: pc.noise_matched(FLAT, rs.VE()), TypeError, r"got ndarray: fit one, GaussianField"),
    (lambda: pc.step_matched(SMALL, rs.VE(), spectrum=[1.0]), ValueError, r"`spectrum` must have"),
    (lambda: pc.langevin_matched(SMALL, power=math.inf), ValueError, "`power` must be finite"),
    (lambda: pc.langevin_matched(MIXTURE, spectrum=np.ones(3)), ValueError, r"shape \(2,\), got"),
    (lambda: pc.noise_matched(FREE, rs.EDM()).at(1.0, 0.0), ValueError, "need a grid that ends"),
]  # fmt: skip


@pytest.mark.parametrize("make, kind, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named_with_its_remedy(make: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        make()


@pytest.mark.parametrize("build", [pc.noise_matched, pc.step_matched, pc.langevin_matched])
def test_matched_filters_need_one_clock(build: Any) -> None:
    M: Any = pc.Stepwise(build(SMALL, rs.VP()).at)
    process = rs.Preconditioned(rs.VP(), SMALL.score(rs.VP()), M, "noise")
    with pytest.raises(ValueError, match="needs one clock for the batch: use a Grid"):
        rs.sample(process, rs.GGF(0.1), 2, rng=0)


def test_the_code_before_2023_did_not_normalise() -> None:
    images = (
        FLAT[None] * np.linspace(0.5, 1.5, FLAT.size).reshape(FLAT.shape)
        if FLAT.ndim == 2
        else FLAT
    )
    images = np.abs(np.asarray(images)) + 0.1
    q = np.log1p(np.mean(np.abs(np.fft.fft2(images)) ** 2, axis=0))
    found: Any = pc.pds_frequency_filter(images, 5.0, normalise=False)
    np.testing.assert_allclose(found.gain, 5 / (q + 4), rtol=1e-13)
    pixels = pc.pds_pixel_filter(images, normalise=False)
    np.testing.assert_allclose(pixels.gain, 1 / np.mean(images**2, axis=0), rtol=1e-13)
    with pytest.raises(ValueError, match="always zero, where R = 1 / q is infinite"):
        pc.pds_pixel_filter(0 * images, normalise=False)


@pytest.mark.parametrize("of", [pc.pds_frequency_filter, pc.pds_pixel_filter, rs.GaussianField.fit])
def test_images_come_channels_first_and_in_floating_point(of: Any) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"channels first.*numpy.moveaxis\(images, -1, 1\)"):
        of(rng.random((5, 16, 16, 3)))
    with pytest.raises(TypeError, match="floating point, got dtype uint8.*images / 255"):
        of(rng.integers(0, 255, (5, 16, 16), dtype=np.uint8))


def test_laws_other_than_fields_are_asked_for_draws() -> None:
    for law in (rs.GaussianMixture.ring(3), rs.FieldMixture([1.0], [SMALL])):
        with pytest.raises(TypeError, match=r"pass draws, data.sample\(n, rng=0\)"):
            pc.pds_frequency_filter(law)
