"""The forward SDEs: differential equations, 60-digit oracle, golden values, chains, libraries."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

import refsde as rs
from refsde.sde import LinearSDE, check_time
from refsde.testing import strategies

EPS = np.finfo(float).eps
BETAS = np.linspace(0.02, 0.5, 8)
SIGMAS = np.geomspace(0.05, 9.0, 6)
SMOOTH = {
    "VP": rs.VP(),
    "VP-slow": rs.VP(0.5, 4.0),
    "SubVP": rs.SubVP(),
    "VE": rs.VE(),
    "VE-exact": rs.VE(0.02, 30.0, convention="exact"),
    "EDM": rs.EDM(),
    "Cosine": rs.Cosine(),
}
TABLES = {"DDPM": rs.Tabulated(BETAS), "SMLD": rs.Tabulated(sigmas=SIGMAS)}
SDES = SMOOTH | TABLES
every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
smooth_sde = pytest.mark.parametrize("sde", SMOOTH.values(), ids=SMOOTH.keys())
NAMES = ("alpha", "sigma", "rho", "lam", "f", "g2")


def times_of(sde: LinearSDE, n: int = 7) -> np.ndarray:
    return np.linspace(0, sde.T, n + 1)[1:]


# -- the differential equations


@every_sde
def test_f_is_the_slope_of_log_alpha_and_g2_feeds_the_variance(sde):
    # d log(alpha) / dt = f  and  d(sigma^2) / dt = 2 f sigma^2 + g2, integrated: the second is
    # d(rho^2) / dt = g2 / alpha^2
    edges = np.unique(np.concatenate([times_of(sde), getattr(sde, "_t", [])]))
    edges = edges[edges >= 0.02]
    for t, s in zip(edges[:-1], edges[1:], strict=True):
        slope, _ = quad(sde.f, t, s, epsabs=0, epsrel=1e-11)
        growth, _ = quad(lambda r: sde.g2(r) / sde.alpha(r) ** 2, t, s, epsabs=0, epsrel=1e-11)
        assert math.isclose(
            slope, math.log(sde.alpha(s) / sde.alpha(t)), rel_tol=1e-9, abs_tol=1e-12
        )
        assert math.isclose(growth, sde.rho(s) ** 2 - sde.rho(t) ** 2, rel_tol=1e-9)


@every_sde
def test_variance_equation_pointwise(sde):
    # fourth-order differences of sigma^2, inside an interval of a table
    for t in times_of(sde, 9)[:-1] + 0.3 * sde.T / 48:
        h = 1e-3 * sde.T
        var = [sde.sigma(t + k * h) ** 2 for k in (-2, -1, 1, 2)]
        slope = (var[0] - 8 * var[1] + 8 * var[2] - var[3]) / (12 * h)
        drift = 2 * sde.f(t) * sde.sigma(t) ** 2 + sde.g2(t)
        assert math.isclose(slope, drift, rel_tol=1e-6, abs_tol=1e-6 * sde.g2(t))


@every_sde
def test_ratios_are_what_their_names_say(sde):
    for t in (1e-3 * sde.T, 0.3 * sde.T, sde.T):
        assert math.isclose(sde.rho(t), sde.sigma(t) / sde.alpha(t), rel_tol=1e-13)
        assert math.isclose(sde.lam(t), -math.log(sde.rho(t)), rel_tol=1e-13, abs_tol=1e-15)
    ts = np.linspace(0, sde.T, 200)[:, None]
    assert np.all(np.diff(sde.rho(ts), axis=0) > 0)  # more noise with time
    assert sde.t_end < sde.T


def test_vp_keeps_the_variance_and_the_relatives_do_not():
    for t in (1e-5, 1e-3, 0.5, 1.0):
        for sde in (rs.VP(), rs.Cosine(T=0.999), rs.Tabulated(BETAS)):
            t_here = min(t, sde.T)
            total = sde.alpha(t_here) ** 2 + sde.sigma(t_here) ** 2
            assert math.isclose(total, 1, rel_tol=1e-15)
        assert math.isclose(rs.SubVP().sigma(t), rs.VP().sigma(t) ** 2, rel_tol=1e-14)
        assert math.isclose(rs.SubVP().g2(t), rs.VP().g2(t) * -math.expm1(-2 * rs.VP()._B(t)))


# -- sixty digits: nothing cancels near t = 0


def exact(sde: LinearSDE, t: float) -> dict[str, mp.mpf]:
    t = mp.mpf(t)
    if isinstance(sde, rs.VP | rs.SubVP):
        b0, b1 = mp.mpf(sde.beta_min), mp.mpf(sde.beta_max)
        beta, B = b0 + t * (b1 - b0), b0 * t + (b1 - b0) * t**2 / 2
        alpha, f = mp.exp(-B / 2), -beta / 2
        if isinstance(sde, rs.VP):
            sigma, g2 = mp.sqrt(1 - alpha**2), beta
        else:
            sigma, g2 = 1 - alpha**2, beta * (1 - alpha**4)
    elif isinstance(sde, rs.VE):
        low, high = mp.mpf(sde.sigma_min), mp.mpf(sde.sigma_max)
        level = low * (high / low) ** t
        alpha, f, g2 = mp.mpf(1), mp.mpf(0), 2 * level**2 * mp.log(high / low)
        sigma = level if sde.convention == "code" else mp.sqrt(level**2 - low**2)
    elif isinstance(sde, rs.EDM):
        alpha, sigma, f, g2 = mp.mpf(1), t, mp.mpf(0), 2 * t
    else:
        c = mp.mpf(sde.c)
        speed = mp.pi / 2 / (1 + c)
        theta = speed * (t + c)
        alpha, sigma, f = mp.cos(theta), mp.sin(theta), -speed * mp.tan(theta)
        g2 = 2 * speed * mp.tan(theta)
    rho = sigma / alpha
    return {"alpha": alpha, "sigma": sigma, "rho": rho, "lam": -mp.log(rho), "f": f, "g2": g2}


@smooth_sde
@pytest.mark.parametrize("fraction", [1e-5, 1e-3, 0.1, 0.7])
@pytest.mark.parametrize("name", NAMES)
def test_sixty_digits(sde, fraction, name):
    t = fraction * sde.T
    with mp.workdps(60):
        truth = exact(sde, t)[name]
        error = abs(getattr(sde, name)(t) - truth)
        assert error <= mp.mpf(1e-14) * abs(truth)


@smooth_sde
def test_sixty_digits_at_the_noise_end(sde):
    # Cosine ends where theta is close to pi / 2: its alpha loses eps * rho there, by conditioning
    with mp.workdps(60):
        for name, truth in exact(sde, sde.T).items():
            limit = 1e-14 if not isinstance(sde, rs.Cosine) else 2 * EPS * sde.rho(sde.T)
            assert abs(getattr(sde, name)(sde.T) - truth) <= mp.mpf(limit) * abs(truth)


def test_the_literal_formula_fails_the_sixty_digit_test():
    literal = math.sqrt(1 - math.exp(-rs.VP()._B(1e-5)))  # the teeth of the test above
    with mp.workdps(60):
        truth = exact(rs.VP(), 1e-5)["sigma"]
        assert abs(literal - truth) > mp.mpf(1e-12) * truth


# -- golden values (specs 01 section 1 and 03 section 0.1; computed by others, not by this package)

GOLDEN = [
    (rs.VP(), "alpha", 1.0, 0.006571586494929619, 1e-14),
    (rs.VP(), "sigma", 1.0, 0.9999784, 5e-8),
    (rs.VP(), "sigma", 1e-3, 0.010485416, 5e-8),
    (rs.VP(), "sigma", 1e-5, 0.0010004971, 5e-8),
    (rs.VP(), "rho", 1.0, 152.1669702839464, 1e-14),
    (rs.VP(), "lam", 1.0, -5.024978406659204, 1e-14),
    (rs.VP(), "rho", 1e-3, 0.010485992786702987, 1e-14),
    (rs.VP(), "rho", 1e-4, 0.0031779790748401437, 1e-14),
    (rs.VP(), "rho", 1e-5, 0.001000497626681674, 1e-14),
    (rs.SubVP(), "sigma", 1e-3, 1.0994e-4, 5e-5),
    (rs.SubVP(), "sigma", 1e-5, 1.000994e-6, 5e-7),
    (rs.VE(), "sigma", 1.0, 50.0, 0.0),
    (rs.VE(), "sigma", 0.0, 0.01, 1e-14),
    (rs.VE(), "sigma", 1e-5, 0.0100009, 5e-6),
    (rs.EDM(), "sigma", 3.0, 3.0, 0.0),
    (rs.Cosine(), "rho", 0.9946, 119.0, 5e-3),
]


@pytest.mark.parametrize("sde, name, t, value, tolerance", GOLDEN)
def test_golden_values(sde, name, t, value, tolerance):
    assert math.isclose(getattr(sde, name)(t), value, rel_tol=tolerance)


def test_golden_variances():
    assert math.isclose(rs.SubVP().sigma(1.0) ** 2, 0.99991363, rel_tol=5e-9)
    assert math.isclose(rs.VP().alpha(1.0) ** 2, 4.3186e-5, rel_tol=2e-5)
    assert math.isclose(rs.VE(convention="exact").sigma(1.0) ** 2, 2499.9999, rel_tol=1e-10)
    assert math.isclose(rs.VE(convention="exact").sigma(0.0), 0.0)


def test_ends_and_priors():
    assert (rs.VP().T, rs.VP().t_end, rs.VP().prior_std) == (1.0, 1e-3, 1.0)
    assert (rs.SubVP().T, rs.SubVP().t_end, rs.SubVP().prior_std) == (1.0, 1e-3, 1.0)
    assert (rs.VE().T, rs.VE().t_end, rs.VE().prior_std) == (1.0, 1e-5, 50.0)
    assert (rs.EDM().T, rs.EDM().t_end, rs.EDM().prior_std) == (80.0, 0.002, 80.0)
    assert (rs.Cosine().T, rs.Cosine().t_end, rs.Cosine().prior_std) == (0.9946, 1e-3, 1.0)
    assert (TABLES["DDPM"].T, TABLES["DDPM"].t_end, TABLES["DDPM"].prior_std) == (1.0, 1 / 8, 1.0)
    assert math.isclose(TABLES["SMLD"].prior_std, 9.0, rel_tol=1e-15)


# -- inverses


@every_sde
def test_t_of_lam_is_the_inverse_of_lam(sde):
    for t in [1e-5 * sde.T, 1e-4 * sde.T, 1e-3 * sde.T, *times_of(sde, 20)]:
        lam = sde.lam(t)
        # 1e-12, or what rounding lam (and theta of Cosine) costs where that is more
        slope = 0.5 * sde.g2(t) / sde.sigma(t) ** 2
        limit = max(1e-12 * t, 4 * EPS * (abs(lam) + 1) / slope)
        assert abs(sde.t_of_lam(lam) - t) <= limit


@pytest.mark.parametrize("name", ["VP", "VP-slow", "SubVP", "VE-exact", "EDM", "Cosine"])
def test_round_trip_reaches_1e12_at_every_scale(name):
    sde = SMOOTH[name]
    for t in np.geomspace(1e-5, 1, 21) * sde.T:
        assert math.isclose(sde.t_of_lam(sde.lam(float(t))), t, rel_tol=1e-12)


@given(strategies.sdes(tables=False), st.floats(-4, 4))
def test_lam_is_the_inverse_of_t_of_lam(sde, lam):
    t = sde.t_of_lam(lam)
    if 1e-6 < t <= sde.T:
        assert math.isclose(sde.lam(t), lam, rel_tol=1e-9, abs_tol=1e-9)


# -- chains


@given(
    st.one_of(strategies.sdes(), st.sampled_from(list(SDES.values()))).filter(
        lambda sde: not isinstance(sde, rs.SubVP)
    ),
    st.lists(st.floats(1e-3, 1), min_size=3, max_size=3),
)
def test_chain_steps_compose_and_carry_the_marginal(sde, fractions):
    r, s, t = sorted(q * sde.T for q in fractions)
    (a1, q1), (a2, q2), (a, q) = sde.chain(s, r), sde.chain(t, s), sde.chain(t, r)
    assert math.isclose(a, a1 * a2, rel_tol=1e-12)
    assert math.isclose(q, a2**2 * q1 + q2, rel_tol=1e-10, abs_tol=1e-14 * sde.sigma(t) ** 2)
    assert math.isclose(a**2 * sde.sigma(r) ** 2 + q, sde.sigma(t) ** 2, rel_tol=1e-12)


def test_chain_keeps_its_digits_on_a_short_step():
    with mp.workdps(60):
        t, s = mp.mpf(0.5 + 1e-9), mp.mpf(0.5)
        step = (t - s) * (mp.mpf(0.1) + mp.mpf(19.9) * (t + s) / 2)
        truth = float(1 - mp.exp(-step))
    a, q = rs.VP().chain(0.5 + 1e-9, 0.5)
    assert math.isclose(q, truth, rel_tol=1e-6)  # rho is known to eps, and its change is 5e-9 of it
    assert a < 1


def test_sub_vp_chain_is_one_euler_step():
    sde = rs.SubVP()
    a, q = sde.chain(0.5, 0.4)
    assert math.isclose(a, 1 + sde.f(0.5) * 0.1) and math.isclose(q, sde.g2(0.5) * 0.1)


# -- priors


@every_sde
def test_prior_is_the_gaussian_it_says(sde, rng):
    z = rng.standard_normal((5, 2, 3))
    x = sde.prior_sample(z)
    np.testing.assert_allclose(x, sde.prior_std * z)
    truth = stats.norm(0, sde.prior_std).logpdf(x).sum(axis=(1, 2))
    np.testing.assert_allclose(sde.prior_logpdf(x), truth, rtol=1e-13)
    assert sde.prior_logpdf(x).shape == (5,)


# -- floats, arrays, libraries


@every_sde
def test_a_float_gives_a_float(sde):
    t, s = 0.5 * sde.T, 0.25 * sde.T
    values = [getattr(sde, name)(t) for name in NAMES]
    values += [sde.t_of_lam(0.0), *sde.chain(t, s)]
    assert all(type(value) is float for value in values)  # a NumPy scalar would promote float32
    assert all(math.isfinite(getattr(sde, name)(np.float64(t))) for name in NAMES)


@every_sde
def test_an_array_of_times_is_its_floats(sde, xp):
    times = [1e-3 * sde.T, 0.31 * sde.T, 0.6 * sde.T, sde.T]
    for dtype, tolerance in ((xp.float64, 1e-13), (xp.float32, 1e-4)):
        t = xp.reshape(xp.asarray(times, dtype=dtype), (4, 1))
        for name in NAMES:
            found = getattr(sde, name)(t)
            assert found.dtype == dtype and tuple(found.shape) == (4, 1)
            truth = [[getattr(sde, name)(time)] for time in times]
            np.testing.assert_allclose(np.asarray(found), truth, tolerance, 1e-6 * tolerance)
        a, q = sde.chain(t, 0.5 * t)
        truth = np.array([sde.chain(time, 0.5 * time) for time in times])
        np.testing.assert_allclose(np.asarray(a)[:, 0], truth[:, 0], rtol=1e-3)
        assert a.dtype == dtype and q.dtype == dtype
        back = sde.t_of_lam(sde.lam(t))
        assert back.dtype == dtype
        np.testing.assert_allclose(np.asarray(back)[:, 0], times, rtol=2e-3)
        x = xp.reshape(xp.asarray(times, dtype=dtype), (2, 2))
        assert sde.prior_logpdf(x).dtype == dtype and sde.prior_sample(x).dtype == dtype


@every_sde
def test_the_noiseless_end(sde):
    rho, lam = sde.rho(0.0), sde.lam(0.0)
    array = np.zeros((2, 1))
    np.testing.assert_allclose(sde.lam(array), lam)
    assert (lam == math.inf) == (rho == 0)
    assert math.isclose(sde.alpha(0.0), 1.0, rel_tol=1e-3)


# -- a subclass of one's own, words, bad input


def test_a_subclass_needs_five_methods_and_gets_the_rest():
    class Flat(LinearSDE):
        def alpha(self, t):
            return 1.0 + 0.0 * t

        def sigma(self, t):
            return t**0.5

    sde = Flat()
    assert (sde.rho(0.25), sde.lam(1.0), sde.chain(1.0, 0.25)) == (0.5, 0.0, (1.0, 0.75))
    for call in (sde.f, sde.g2, sde.t_of_lam, LinearSDE().alpha, LinearSDE().sigma):
        with pytest.raises(NotImplementedError, match="must define"):
            call(0.5)


@every_sde
def test_latex_and_repr(sde):
    assert sde._repr_latex_().startswith("$") and sde._repr_latex_().endswith("$")
    assert sde._repr_latex_().count("{") == sde._repr_latex_().count("}")
    assert repr(sde).startswith(type(sde).__name__)


def test_sdes_are_values():
    assert rs.VP() == rs.VP(0.1, 20.0) and rs.VP() != rs.VP(0.1, 19.0)
    assert hash(rs.EDM()) == hash(rs.EDM())
    with pytest.raises(AttributeError):
        rs.VP().beta_min = 3.0


BAD = [
    (lambda: rs.VP(beta_min=0.0), ValueError, "`beta_min`"),
    (lambda: rs.VP(beta_min=-0.1), ValueError, "`beta_min`"),
    (lambda: rs.VP(beta_max=math.inf), ValueError, "`beta_max`"),
    (lambda: rs.VP(beta_max=math.nan), ValueError, "`beta_max`"),
    (lambda: rs.VP(20.0, 0.1), ValueError, "`beta_max`.*swap"),
    (lambda: rs.VP("0.1"), TypeError, "`beta_min`"),
    (lambda: rs.VP(True), TypeError, "`beta_min`"),
    (lambda: rs.SubVP(beta_max=None), TypeError, "`beta_max` of SubVP"),
    (lambda: rs.VE(sigma_min=0.0), ValueError, "`sigma_min`"),
    (lambda: rs.VE(1.0, 1.0), ValueError, "`sigma_max`"),
    (lambda: rs.VE(convention="paper"), ValueError, "`convention`.*'paper'"),
    (lambda: rs.VE(t_end=-1.0), ValueError, "`t_end`"),
    (lambda: rs.VE(t_end=2.0), ValueError, "`t_end`"),
    (lambda: rs.EDM(sigma_min=-1.0), ValueError, "`sigma_min`"),
    (lambda: rs.EDM(80.0, 0.002), ValueError, "`sigma_max`.*swap"),
    (lambda: rs.Cosine(c=0.0), ValueError, "`c`"),
    (lambda: rs.Cosine(T=1.0), ValueError, "`T`.*below 1"),
    (lambda: rs.Cosine(t_end=1.0), ValueError, "`t_end`"),
    (lambda: rs.Tabulated(), ValueError, "exactly one"),
    (lambda: rs.Tabulated([0.1], [0.1]), ValueError, "exactly one"),
    (lambda: rs.Tabulated([]), ValueError, "`betas`"),
    (lambda: rs.Tabulated([[0.1]]), ValueError, "`betas`.*1-D"),
    (lambda: rs.Tabulated([0.1, math.nan]), ValueError, "`betas`"),
    (lambda: rs.Tabulated([0.1, 1.0]), ValueError, r"`betas`.*\(0, 1\).*1.0"),
    (lambda: rs.Tabulated([-0.1]), ValueError, "`betas`"),
    (lambda: rs.Tabulated(["a"]), TypeError, "`betas`"),
    (lambda: rs.Tabulated(sigmas=[2.0, 1.0]), ValueError, "`sigmas`.*ascending"),
    (lambda: rs.Tabulated(sigmas=[0.0, 1.0]), ValueError, "`sigmas`"),
    (lambda: rs.Tabulated.from_betas("quadratic"), ValueError, "`schedule`.*'quadratic'"),
    (lambda: rs.Tabulated.from_betas(n=0), ValueError, "`n`"),
    (lambda: rs.Tabulated.from_betas(n=10.0), ValueError, "`n`"),
    (lambda: rs.Tabulated.from_betas(n=10), ValueError, "`betas`.*smaller steps"),
    (lambda: rs.Tabulated.from_betas("scaled_linear", beta_min=-1.0), ValueError, "`beta_min`"),
    (lambda: rs.Tabulated.from_betas(beta_max="20"), TypeError, "`beta_max`"),
    (lambda: check_time("t", 1.1, rs.VP()), ValueError, r"`t`.*\[0, 1\].*1.1"),
    (lambda: check_time("s", -1e-9, rs.VP()), ValueError, "`s`"),
    (lambda: check_time("t", math.nan, rs.EDM()), ValueError, r"\[0, 80\]"),
    (lambda: check_time("t", np.array([[0.5], [np.inf]]), rs.VP()), ValueError, "`t`"),
]


@pytest.mark.parametrize("call, error, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
