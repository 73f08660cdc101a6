"""Exponential Runge-Kutta methods: tableaux, published formulas written out, pairs, noise."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from _deis_problems import SDE, grid, problem
from _solvers import CountingScore

import refsde as rs
from refsde.solvers.deis import RHO_TABLEAUX

RING, MODES = problem("ring"), problem("modes")
EXACT = 1e-12


# -- tableaux -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RHO_TABLEAUX)
def test_tableaux_meet_their_order_conditions(name: str) -> None:
    tableau = RHO_TABLEAUX[name]
    c = np.array([0.0, *tableau.shares])
    rows = [np.array(w(None, None)) for w in tableau.weights]
    A = np.zeros((len(c), len(c)))
    for i, row in enumerate(rows[:-1], start=1):
        A[i, : len(row)] = c[i] * row
    b = rows[-1]
    np.testing.assert_allclose(A.sum(axis=1), c, atol=1e-15)
    conditions = [(b.sum(), 1), (b @ c, 1 / 2), (b @ c**2, 1 / 3), (b @ A @ c, 1 / 6)]
    conditions += [(b @ c**3, 1 / 4), (b @ (c * (A @ c)), 1 / 8), (b @ A @ c**2, 1 / 12)]
    conditions += [(b @ A @ A @ c, 1 / 24)]
    met = {1: 1, 2: 2, 3: 4, 4: 8}[tableau.order]
    for got, wanted in conditions[:met]:
        assert abs(got - wanted) < 1e-15
    if tableau.order < 4:
        assert any(abs(got - wanted) > 1e-3 for got, wanted in conditions[met:])
    assert int(name[0]) == tableau.order == len(c)


# -- published formulas, written out --------------------------------------------------------------


def dpm_solver_3(eps: Any, x: Any, t: float, s: float, taylor: bool) -> Any:
    alpha, sigma, lam = SDE.alpha, SDE.sigma, SDE.lam
    h, r1, r2 = lam(s) - lam(t), 1 / 3, 2 / 3
    t1, t2 = (SDE.t_of_lam(lam(t) + r * h) for r in (r1, r2))
    e = eps(x, t)
    x1 = alpha(t1) / alpha(t) * x - sigma(t1) * math.expm1(r1 * h) * e
    e1 = eps(x1, t1)
    x2 = alpha(t2) / alpha(t) * x - sigma(t2) * math.expm1(r2 * h) * e
    x2 = x2 - r2 / r1 * sigma(t2) * (math.expm1(r2 * h) / (r2 * h) - 1) * (e1 - e)
    e2 = eps(x2, t2)
    base = alpha(s) / alpha(t) * x - sigma(s) * math.expm1(h) * e
    phi2 = math.expm1(h) / h - 1
    if not taylor:
        return base - sigma(s) / r2 * phi2 * (e2 - e)
    D10, D11 = (e1 - e) / r1, (e2 - e) / r2
    D1, D2 = (r2 * D10 - r1 * D11) / (r2 - r1), 2 * (D11 - D10) / (r2 - r1)
    return base - sigma(s) * phi2 * D1 - sigma(s) * (phi2 / h - 0.5) * D2


def dpm_solver_2(eps: Any, x: Any, t: float, s: float, r: float, taylor: bool) -> Any:
    alpha, sigma, lam = SDE.alpha, SDE.sigma, SDE.lam
    h = lam(s) - lam(t)
    t1 = s if r == 1 else SDE.t_of_lam(lam(t) + r * h)
    e = eps(x, t)
    e1 = eps(alpha(t1) / alpha(t) * x - sigma(t1) * math.expm1(r * h) * e, t1)
    base = alpha(s) / alpha(t) * x - sigma(s) * math.expm1(h) * e
    if taylor:
        return base - sigma(s) / r * (math.expm1(h) / h - 1) * (e1 - e)
    return base - sigma(s) * math.expm1(h) * (e1 - e) / (2 * r)


def two_s(denoise: Any, x: Any, t: float, s: float) -> Any:
    alpha, sigma, lam = SDE.alpha, SDE.sigma, SDE.lam
    h = lam(s) - lam(t)
    t1 = SDE.t_of_lam(lam(t) + h / 2)
    m = denoise(x, t)
    m1 = denoise(sigma(t1) / sigma(t) * x - alpha(t1) * math.expm1(-h / 2) * m, t1)
    return sigma(s) / sigma(t) * x - alpha(s) * math.expm1(-h) * (m + (m1 - m))


@pytest.mark.parametrize("name", ["t1", "t2", "log"])
def test_dpm_solver_as_published(name: str) -> None:
    score, ts = MODES.flow.score, grid(name, 4)
    formulas = [
        (rs.DPMSolver(3), lambda x, t, s: dpm_solver_3(score.eps, x, t, s, False)),
        (rs.DPMSolver(3, variant="taylor"), lambda x, t, s: dpm_solver_3(score.eps, x, t, s, True)),
        (rs.DPMSolver(2), lambda x, t, s: dpm_solver_2(score.eps, x, t, s, 0.5, False)),
        (rs.DPMSolver(2, 1.0), lambda x, t, s: dpm_solver_2(score.eps, x, t, s, 1.0, False)),
        (rs.DPMSolver(2, 0.3), lambda x, t, s: dpm_solver_2(score.eps, x, t, s, 0.3, False)),
        (
            rs.DPMSolver(2, 0.3, "taylor"),
            lambda x, t, s: dpm_solver_2(score.eps, x, t, s, 0.3, True),
        ),
        (
            rs.DPMSolverPP(2, singlestep=True),
            lambda x, t, s: two_s(score.denoise, x, t, s),
        ),
    ]
    for solver, step in formulas:
        x = MODES.x
        for t, s in pairwise(ts.ts):
            x = step(x, t, s)
        got = rs.sample(MODES.flow, solver, x=MODES.x, times=ts).x
        assert np.abs(got - x).max() < 1e-11 * (1 + np.abs(x).max()), solver


def test_stages_in_t_have_other_shares() -> None:
    """Placed in t, where lam is no share: the weights follow the nodes."""
    ts = grid("t1", 4)
    lam, t = (
        rs.sample(MODES.flow, rs.DPMSolver(3, inner=inner), x=MODES.x, times=ts).x  # type: ignore[arg-type]
        for inner in ("lam", "t")
    )
    assert np.abs(lam - t).max() > 1e-3
    order = rs.exact.order(
        MODES.flow, rs.DPMSolver(3, variant="taylor", inner="t"), "flow", steps=(80, 160, 320),
        grid=lambda sde, n: rs.Grid.logsnr(sde, n, 0.02),
    )  # fmt: skip
    assert order.slope > 2.75


@pytest.mark.parametrize(
    ("nfe", "order", "plan"),
    [
        (9, 3, (3, 3, 2, 1)), (10, 3, (3, 3, 3, 1)), (11, 3, (3, 3, 3, 2)), (6, 3, (3, 2, 1)),
        (20, 3, (3,) * 6 + (2,)), (3, 3, (2, 1)), (8, 2, (2,) * 4), (9, 2, (2,) * 4 + (1,)),
    ],
)  # fmt: skip
def test_fast_meets_its_budget(nfe: int, order: int, plan: tuple[int, ...]) -> None:
    solver = rs.DPMSolver.fast(nfe, order)
    assert solver.plan == plan and sum(plan) == nfe
    if order == 3:
        assert solver.steps == nfe // 3 + 1
    score = CountingScore(RING.target.score(SDE))
    flow = rs.ProbabilityFlow(SDE, score)
    run = rs.sample(flow, solver, x=RING.x, times=rs.Grid.logsnr(SDE, solver.steps))
    assert set(run.nfe) == {nfe} and len(score.batches) == nfe
    with pytest.raises(TypeError, match="must see the grid"):
        solver(flow, rs.State(1.0, RING.x), 0.5, rs.Gaussian(0))


# -- adaptive pairs -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 3])
def test_adaptive_pairs(order: int) -> None:
    """Tighter tolerances give smaller errors; a retry reuses its first evaluation."""
    errors, costs = [], []
    control = rs.Adaptive(h0=0.05, exponent=1 / order, cap=1.5, clock="lam")
    for rtol in (0.05, 0.005, 0.0005):
        solver = rs.DPMSolver(order, rtol=rtol, atol=0.1 * rtol)
        run = rs.sample(MODES.flow, solver, x=MODES.x, times=control)
        assert run.success.all()
        assert np.array_equal(run.nfe, order * run.n_accepted + (order - 1) * run.n_rejected)
        errors.append(float(np.median(np.abs(run.x - MODES.exact))))
        costs.append(float(run.nfe.mean()))
    assert errors[2] < errors[1] / 2 < errors[0] / 4 and costs[0] < costs[1] < costs[2]
    published = rs.DPMSolver.adaptive(order)
    assert published.default_times == rs.Adaptive(h0=0.05, exponent=1 / order, clock="lam")
    assert rs.sample(MODES.flow, published, x=MODES.x).success.all()


def test_the_error_is_the_gap_to_the_lower_method() -> None:
    solver, other = rs.DPMSolver(2, rtol=0.1, atol=0.2), rs.DDIM()
    t, s = np.full((400, 1), 0.5), np.full((400, 1), 0.4)
    flow, source = MODES.flow, rs.Gaussian(0)
    made = solver(flow, rs.State(t, MODES.x, memory=(MODES.x,)), s, source)
    low = other(flow, rs.State(t, MODES.x), s, source).x
    scale = np.maximum(0.2, 0.1 * np.maximum(np.abs(low), np.abs(MODES.x)))
    assert made.error is not None
    np.testing.assert_allclose(made.error, np.abs((made.x - low) / scale), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(made.memory[0], low, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "sde", [rs.VP(), rs.VE(), rs.EDM(), rs.Cosine()], ids=lambda o: type(o).__name__
)
def test_a_clock_in_lam(sde: Any) -> None:
    """First steps are as long in lam as they are told to be, and the end is met."""
    flow = rs.ProbabilityFlow(sde, RING.target.score(sde))
    times = rs.Adaptive(h0=0.25, exponent=0.5, cap=1.2, clock="lam")
    run = rs.sample(flow, rs.DPMSolver(2), x=sde.prior_std * RING.x, times=times, keep="all")
    assert run.success.all() and np.all(run.t == sde.t_end)
    path = run.path.grid(0).ts  # type: ignore[union-attr]
    steps = np.diff([sde.lam(t) for t in path])
    assert np.all(steps > 0) and steps[0] == pytest.approx(0.25, rel=1e-9)
    assert np.all(steps[1:-1] <= 1.2 * steps[:-2] * (1 + 1e-9))
    batch = rs.Adaptive(h0=0.25, exponent=0.5, cap=1.2, clock="lam", steps="batch")
    together = rs.sample(flow, rs.DPMSolver(2), x=sde.prior_std * RING.x, times=batch)
    assert together.success.all() and len(set(together.nfe)) == 1


def test_a_clock_in_lam_with_noise_that_remembers() -> None:
    """Rejections on this clock lose no noise: the variance is that of the law.

    20000 samples: a standard error of 0.01 in the ratio; seven are allowed, for the solver too.
    """
    target = rs.GaussianMixture([1.0], [[0.7]], [0.25])
    process = rs.ReverseSDE(SDE, target.score(SDE))
    times = rs.Adaptive(h0=0.05, cap=1.25, clock="lam")

    def ratio(noise: Any) -> float:
        run = rs.sample(process, rs.GGF(0.02), 20_000, times=times, rng=0, noise=noise)
        assert run.success.all() and run.n_rejected.sum() > 10_000
        return float(np.var(run.x)) / target.at(SDE, SDE.t_end).cov.item()

    assert abs(ratio(None) - 1) < 0.07
    assert ratio(rs.Gaussian(0)) > 1.2  # drawn anew, as published: the mutant


def test_a_clock_in_lam_needs_levels() -> None:
    with pytest.raises(ValueError, match="`clock` must be 't' or 'lam'"):
        rs.Adaptive(clock="rho")  # type: ignore[arg-type]
    times = rs.Adaptive(clock="lam", t_end=0.0)
    with pytest.raises(ValueError, match="`clock` = 'lam' is infinite at t = 0"):
        rs.sample(RING.flow, rs.DPMSolver(2), 5, times=times)


# -- noise ----------------------------------------------------------------------------------------


def test_seeds_2_as_published() -> None:
    score, (t, s) = RING.target.score(SDE), (0.6, 0.45)
    process, source = rs.ReverseSDE(SDE, score), rs.Gaussian(3).on(np.arange(512))
    got = rs.SEEDS(2)(process, rs.State(t, RING.x), s, source).x
    again = rs.Gaussian(3).on(np.arange(512))
    alpha, sigma, lam = SDE.alpha, SDE.sigma, SDE.lam
    h, r = lam(s) - lam(t), 0.5
    t1 = SDE.t_of_lam(lam(t) + r * h)
    z1 = again.increment(t, t1, RING.x) / math.sqrt(t - t1)
    z2 = again.increment(t1, s, RING.x) / math.sqrt(t1 - s)
    e = score.eps(RING.x, t)
    x1 = alpha(t1) / alpha(t) * RING.x - 2 * sigma(t1) * math.expm1(r * h) * e
    x1 = x1 + sigma(t1) * math.sqrt(math.expm1(2 * r * h)) * z1
    e1 = score.eps(x1, t1)
    wanted = alpha(s) / alpha(t) * RING.x - 2 * sigma(s) * math.expm1(h) * (e + (e1 - e))
    wanted = wanted + sigma(s) * (
        math.sqrt(math.exp(2 * h) - math.exp(2 * (1 - r) * h)) * z1
        + math.sqrt(math.expm1(2 * (1 - r) * h)) * z2
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-12)
