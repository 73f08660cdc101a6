"""Stochastic members of the exponential family: one formula, exact laws, churn, Analytic-DPM."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from _deis_problems import SDE, problem
from scipy.integrate import quad

import refsde as rs
from refsde.solvers.multistep import coefficients

RING = problem("ring")
POINT = rs.Empirical(np.array([[1.3]]))
LAW = rs.exact.law


def reverse(target: Any, sde: Any = SDE) -> Any:
    return rs.ReverseSDE(sde, target.score(sde))


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_one_step_members_are_one_formula(tau: float) -> None:
    """nu^2 = 1 - e^(-2 tau^2 h); all coincide at 0 and 1."""
    same = [
        rs.OneStep.sde_dpm(tau),
        rs.SDEDPMSolverPP(1, tau),
        rs.SASolver(1, tau, corrector=False),
    ]
    same += [rs.ERSDE(1, lambda rho: rho ** (1 + tau**2))]
    same += [rs.DDIM(1.0)] if tau == 1.0 else []
    ts = rs.Grid.logsnr(SDE, 6)
    first, *others = (rs.sample(reverse(RING.target), s, x=RING.x, times=ts, rng=0).x for s in same)
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    "solver",
    [
        rs.SDEDPMSolverPP(1), rs.SDEDPMSolverPP(2), rs.SDEDPMSolverPP(3, 0.6),
        rs.SDEDPMSolverPP(2, singlestep=True), rs.SASolver(3, 0.8), rs.SASolver(1),
        rs.SASolver(2, 1.0, low=0.1, high=5.0), rs.ERSDE(1), rs.ERSDE(2), rs.DDIM(0.5),
    ],
    ids=lambda o: type(o).__name__,
)  # fmt: skip
def test_a_point_mass_is_exact_in_law(solver: Any) -> None:
    """Those with the data prediction keep the marginal at any step size."""
    law = LAW(reverse(POINT), solver, rs.Grid.power(SDE, 4))
    exact = POINT.at(SDE, SDE.t_end)
    assert law.mean.item() == pytest.approx(exact.mean.item(), rel=1e-12)
    assert law.cov.item() == pytest.approx(float(np.squeeze(exact.cov)), rel=1e-9)


def test_a_frozen_eps_is_not_exact_in_law() -> None:
    """One step of stochastic DEIS on a point mass has variance rho_s^2 + 2 (rho_t - rho_s)^2."""
    t, s = 0.6, 0.4
    law = LAW(reverse(POINT), rs.TAB(0, tau=1.0), rs.Grid([t, s]))
    rho_t, rho_s = SDE.rho(t), SDE.rho(s)
    wanted = SDE.alpha(s) ** 2 * (rho_s**2 + 2 * (rho_t - rho_s) ** 2)
    assert law.cov.item() == pytest.approx(wanted, rel=1e-12)
    seeds = LAW(reverse(POINT), rs.SEEDS(1), rs.Grid([t, s]))
    np.testing.assert_allclose(seeds.cov, law.cov, rtol=1e-12)
    np.testing.assert_allclose(seeds.mean, law.mean, rtol=1e-12)


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_stochastic_deis_written_out(tau: float) -> None:
    """Weights (1 + tau^2) c, and noise of variance tau^2 (rho_t^2 - rho_s^2) in x / alpha."""
    ts = rs.Grid.power(SDE, 5).ts
    rows = np.arange(512)
    process, source, again = reverse(RING.target), rs.Gaussian(1), rs.Gaussian(1).on(rows)
    got = rs.sample(process, rs.TAB(1, tau), x=RING.x, times=rs.Grid(ts), noise=source).x
    x, past = RING.x, []
    for n, (t, s) in enumerate(pairwise(ts)):
        past.append(process.eps(x, t))
        drho = SDE.rho(s) - SDE.rho(t)
        if n:
            slope, _ = quad(
                lambda lam, t=t, b=ts[n - 1]: -math.exp(-lam) * (SDE.t_of_lam(lam) - t) / (b - t),
                SDE.lam(t), SDE.lam(s), epsabs=0, epsrel=1e-13,
            )  # fmt: skip
            mean = (drho - slope) * past[-1] + slope * past[-2]
        else:
            mean = drho * past[-1]
        z = again.increment(t, s, x) / math.sqrt(t - s)
        v = x / SDE.alpha(t) + (1 + tau**2) * mean
        x = SDE.alpha(s) * (v + tau * math.sqrt(SDE.rho(t) ** 2 - SDE.rho(s) ** 2) * z)
    np.testing.assert_allclose(got, x, rtol=1e-10, atol=1e-10)


def test_sa_solver_corrects_with_the_noise_it_predicted_with() -> None:
    """Written out with coefficients by quadrature: two points, corrected by three."""
    tau, ts = 0.8, rs.Grid.logsnr(SDE, 5).ts
    rows = np.arange(512)
    process, again = reverse(RING.target), rs.Gaussian(2).on(rows)
    got = rs.sample(
        process, rs.SASolver(2, tau), x=RING.x, times=rs.Grid(ts), noise=rs.Gaussian(2)
    ).x
    lam = [SDE.lam(t) for t in ts]
    k = 1 + tau**2

    def weights(n: int, nodes: list[float]) -> list[float]:
        found = []
        for j, node in enumerate(nodes):
            others = [v for i, v in enumerate(nodes) if i != j]
            value, _ = quad(
                lambda u: k * math.exp(k * (u - lam[n + 1]))
                * math.prod((u - v) / (node - v) for v in others),  # noqa: B023
                lam[n], lam[n + 1], epsabs=0, epsrel=1e-12,
            )  # fmt: skip
            found.append(SDE.alpha(ts[n + 1]) * value)
        return found

    x = predicted = base = RING.x
    past: list[Any] = []
    for n, (t, s) in enumerate(pairwise(ts)):
        m = process.denoise(predicted, t)
        if n:
            nodes = [lam[n], lam[n - 1], *([lam[n - 2]] if n > 1 else [])]
            values = [m, *past[::-1]]
            x = base + sum(w * v for w, v in zip(weights(n - 1, nodes), values, strict=False))
        past.append(m)
        h = lam[n + 1] - lam[n]
        z = again.increment(t, s, x) / math.sqrt(t - s)
        base = SDE.sigma(s) / SDE.sigma(t) * math.exp(-(tau**2) * h) * x
        base = base + SDE.sigma(s) * math.sqrt(-math.expm1(-2 * tau**2 * h)) * z
        nodes = [lam[n], *([lam[n - 1]] if n else [])]
        pairs = zip(weights(n, nodes), past[::-1], strict=False)
        predicted = base + sum(w * v for w, v in pairs)
    np.testing.assert_allclose(got, predicted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_three_points_as_published(tau: float) -> None:
    """k-diffusion's weights: the slope exact in the second step, the curvature halved after it."""
    ts = rs.Grid.power(SDE, 5).ts
    lam, k = [SDE.lam(t) for t in ts], 1 + tau**2
    m = np.random.default_rng(0).standard_normal(5)  # predictions, whatever they are
    steps = coefficients(rs.SDEDPMSolverPP(3, tau).method, SDE, ts)
    for n, step in enumerate(steps):
        h = lam[n + 1] - lam[n]
        phi1, phi2 = -math.expm1(-k * h), math.expm1(-k * h) / (k * h) + 1
        phi3 = phi2 / (k * h) - 0.5
        wanted = phi1 * m[n]
        if n == 1:
            wanted += phi2 * (m[1] - m[0]) / ((lam[1] - lam[0]) / h)
        if n > 1:
            r0, r1 = (lam[n] - lam[n - 1]) / h, (lam[n - 1] - lam[n - 2]) / h
            D0, D1 = (m[n] - m[n - 1]) / r0, (m[n - 1] - m[n - 2]) / r1
            wanted += phi2 * (D0 + (D0 - D1) * r0 / (r0 + r1)) - phi3 * (D0 - D1) / (r0 + r1)
        got = sum(w * m[n - j] for j, w in enumerate(step.weights))
        assert got == pytest.approx(SDE.alpha(ts[n + 1]) * wanted, rel=1e-11)


def test_noise_in_a_band_of_levels() -> None:
    """Outside the band the solver is the flow's and draws nothing."""
    ts = rs.Grid.logsnr(SDE, 12)
    quiet = rs.SASolver(2, 1.0, low=1e6)
    noisy = rs.SASolver(2, 1.0, low=1e-9)
    x = {s: rs.sample(reverse(RING.target), s, x=RING.x, times=ts, rng=0).x for s in (quiet, noisy)}
    flow = rs.sample(RING.flow, rs.UniPC(2, "exact"), x=RING.x, times=ts).x
    np.testing.assert_allclose(x[quiet], flow, rtol=1e-12, atol=1e-12)
    whole = rs.sample(reverse(RING.target), rs.SASolver(2), x=RING.x, times=ts, rng=0).x
    np.testing.assert_allclose(x[noisy], whole, rtol=1e-12, atol=1e-12)


def test_levels_of_eta_and_tau() -> None:
    """k-diffusion's eta is tau^2; DDIM's is another amount of noise in between."""
    h = 0.3
    nu2 = {"ddim": 0.25 * -math.expm1(-2 * h), "tau": -math.expm1(-2 * 0.25 * h)}
    assert f"{nu2['ddim']:.4f} {nu2['tau']:.4f}" == "0.1128 0.1393"


# -- churn ----------------------------------------------------------------------------------------


def test_churn_as_published() -> None:
    sde = rs.EDM()
    score, ts, S = RING.target.score(sde), rs.Grid.karras(sde, 8).ts, (9.0, 0.05, 50.0, 1.003)
    flow = rs.ProbabilityFlow(sde, score)
    start = sde.prior_std * RING.x
    solver = rs.Churn(rs.RhoRK("2heun"), *S)
    got = rs.sample(flow, solver, x=start, times=rs.Grid(ts), noise=rs.Gaussian(4)).x
    again, x = rs.Gaussian(4).on(np.arange(512)), start
    for rho, after in pairwise(ts):
        gamma = min(S[0] / 8, math.sqrt(2) - 1) if S[1] <= rho <= S[2] else 0.0
        hat = min((1 + gamma) * rho, sde.T)
        if hat > rho:
            x = x + math.sqrt(hat**2 - rho**2) * S[3] * again.normal(x)
        d = (x - score.denoise(x, hat)) / hat
        ahead = x + (after - hat) * d
        x = x + (after - hat) * (d + (ahead - score.denoise(ahead, after)) / after) / 2
    np.testing.assert_allclose(got, x, rtol=1e-10, atol=1e-10)


def test_churn_without_churn_is_its_solver() -> None:
    ts = rs.Grid.karras(SDE, 6)
    for inner in (rs.DDIM(), rs.RhoRK("3kutta"), rs.DPMSolver(2)):
        a = rs.sample(RING.flow, rs.Churn(inner, 0.0), x=RING.x, times=ts).x
        assert np.array_equal(a, rs.sample(RING.flow, inner, x=RING.x, times=ts).x)


# -- Analytic-DPM ---------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sde", [rs.VP(), rs.VE(), rs.SubVP()], ids=lambda o: type(o).__name__)
def test_analytic_dpm_is_exact_on_isotropic_gaussians(sde: Any, eta: float) -> None:
    target = rs.GaussianMixture([1.0], [[0.7, -0.2]], [0.09])
    process = reverse(target, sde)
    solver = rs.AnalyticDPM.of(process.score, eta)
    law, exact = LAW(process, solver, rs.Grid.power(sde, 4)), target.at(sde, sde.t_end)
    np.testing.assert_allclose(law.mean, exact.mean, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(law.cov, exact.cov, rtol=1e-10, atol=1e-13)
    plain = LAW(process, rs.DDIM(eta), rs.Grid.power(sde, 4))
    assert abs(plain.cov[0, 0] / exact.cov[0, 0] - 1) > 0.01


def test_without_a_posterior_variance_analytic_dpm_is_ddim() -> None:
    process, ts = reverse(RING.target), rs.Grid.power(SDE, 6)
    for eta in (0.4, 1.0):
        a, b = (
            rs.sample(process, solver, x=RING.x, times=ts, rng=0).x
            for solver in (rs.AnalyticDPM(lambda t: 0.0, eta), rs.DDIM(eta))
        )
        assert np.array_equal(a, b)


def test_the_posterior_variance_is_that_of_the_denoiser() -> None:
    """E tr Cov(x_0 | x_t) / d is the mean square error of the posterior mean."""
    target, t = RING.target, 0.3
    score = target.score(SDE)
    rng = np.random.default_rng(0)
    x0 = target.sample(200_000, rng=1)
    x = SDE.alpha(t) * x0 + SDE.sigma(t) * rng.standard_normal(x0.shape)
    errors = np.mean((x0 - score.denoise(x, t)) ** 2, axis=1)
    got = rs.AnalyticDPM.of(score, n=200_000).variance(t)
    # two independent means of 200 000: five standard errors of their difference
    assert abs(got - errors.mean()) < 5 * 2 * errors.std() / math.sqrt(len(errors))


# -- misuse ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: rs.SEEDS(3), ValueError, "`order` of SEEDS must lie in 1 to 2"),
        (lambda: rs.SEEDS(2, r=0.0), ValueError, r"`r` of SEEDS must lie in \(0, 1\]"),
        (lambda: rs.SDEDPMSolverPP(3, singlestep=True), ValueError, "`order` must be 2"),
        (lambda: rs.SDEDPMSolverPP(2, tau=math.nan), ValueError, "`tau` must be finite"),
        (lambda: rs.SASolver(5), ValueError, "`order` of SASolver must lie in 1 to 4"),
        (lambda: rs.SASolver(2, low=2.0, high=1.0), ValueError, "0 <= low < high"),
        (lambda: rs.ERSDE(3), ValueError, "`order` of ERSDE must lie in 1 to 2"),
        (lambda: rs.ERSDE(2, phi=1.0), TypeError, "`phi` must be a function of rho"),  # type: ignore[arg-type]
        (lambda: rs.Churn(churn=-1.0), ValueError, "`churn` of Churn must be finite and >= 0"),
        (lambda: rs.Churn(s_min=2.0, s_max=1.0), ValueError, "`s_max` must exceed `s_min`"),
        (lambda: rs.Churn(rs.DDIM), TypeError, "`solver` of Churn must be a solver of the flow"),  # type: ignore[arg-type]
        (lambda: rs.sample(RING.flow, rs.Churn(rs.TAB(1)), 5, times=4), TypeError, "one-step"),
        (lambda: rs.sample(RING.flow, rs.Churn(rs.IPNDM(4, "rk4")), 5, times=4), TypeError,
         "one-step"),
        (lambda: rs.sample(RING.flow, rs.Churn(rs.DPMSolver.fast(9)), 5, times=4), TypeError,
         "churn raises them"),
        (lambda: rs.sample(RING.flow, rs.Churn(), 5, times=rs.Adaptive()), ValueError, "a Grid"),
        (lambda: rs.AnalyticDPM(0.1), TypeError, "`variance` must be a function of t"),  # type: ignore[arg-type]
        (lambda: rs.AnalyticDPM.of(lambda x, t: x), TypeError, "must be that of a target"),
        (lambda: rs.AnalyticDPM(abs, eta=2.0), ValueError, r"`eta` must lie in \[0, 1\]"),
        (lambda: rs.sample(RING.flow, rs.SEEDS(1), 5, times=4), TypeError, "ReverseSDE"),
    ],
)  # fmt: skip
def test_misuse_is_told(call: Any, error: Any, told: str) -> None:
    with pytest.raises(error, match=told):
        call()
