"""Multistep exponential integrators: coefficients, exactness, equalities, ends, misuse.

Everything is an identity or a number computed by quadrature with another library.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from _deis_problems import SDE, T_END, grid, problem
from _deis_tables import COEFFICIENTS, STEP, printed_equal
from _solvers import CountingScore, NoNoise
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

import refsde as rs
from refsde.solvers._exponential import lagrange, leg, share, velocity
from refsde.solvers.multistep import coefficients
from refsde.testing import strategies

EXACT = 1e-12
M = rs.Multistep
RING = problem("ring")
MODES = problem("modes")
GRID = grid("t2", 8)
SDES = [rs.VP(), rs.SubVP(), rs.VE(), rs.VE(convention="exact"), rs.EDM(), rs.Cosine()]


def ends(solver: Any, ts: Any = GRID, case: Any = RING, **options: Any) -> Any:
    return rs.sample(case.flow, solver, x=case.x, times=ts, **options).x


def same(a: Any, b: Any, ts: Any = GRID, case: Any = RING, tol: float = EXACT) -> None:
    x, y = ends(a, ts, case), ends(b, ts, case)
    assert np.abs(x - y).max() <= tol * (1 + np.abs(x).max()), np.abs(x - y).max()


def kind_of(value: Any) -> str:
    """Name of a case: its class, the same in every process."""
    return type(value).__name__


# -- coefficients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("row", COEFFICIENTS)
def test_golden_coefficients(row: str) -> None:
    order = int(row[-1])
    method = rs.TAB(order).method if row.startswith("t") else rs.RhoAB(order).method
    ts = grid("t2", 10).ts
    step = coefficients(method, SDE, ts)[5]
    first, last, keep = STEP.split("; ")
    # the times were printed with a last digit or two that are not theirs
    assert abs(ts[5] - float(first)) < 2e-10 and abs(ts[6] - float(last)) < 2e-10
    assert step.keep == pytest.approx(float(keep), rel=1e-14)
    unit = 1.0 if row.startswith("t") else SDE.alpha(ts[6])
    cells = COEFFICIENTS[row].split("; ")
    assert len(cells) == len(step.weights)
    assert all(printed_equal(w / unit, c) for w, c in zip(step.weights, cells, strict=True))


def third(rho: Any) -> Any:
    return rho ** (1 / 3)


COORDINATES: list[Any] = ["t", "rho", "lam", "angle", "index", third]


@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("sde", SDES, ids=kind_of)
def test_weights_add_up_to_what_a_constant_gives(
    sde: Any, prediction: Any, coordinate: Any
) -> None:
    for ts in (rs.Grid.power(sde, 6), rs.Grid.logsnr(sde, 6)):
        method = M(prediction, coordinate, 3, corrector=True)
        zeroth = coefficients(M(prediction, coordinate, 0), sde, ts.ts)
        for step, exact in zip(coefficients(method, sde, ts.ts), zeroth, strict=True):
            (reach,) = exact.weights
            for weights in filter(None, (step.weights, step.corrected)):
                assert abs(sum(weights) / reach - 1) <= 4e-15 * np.abs(weights).sum() / abs(reach)
            assert step.keep == exact.keep and step.spread == 0


@given(st.data())
def test_any_grid_of_any_sde(data: Any) -> None:
    """Sums again, on uneven grids; a point mass's path has constant predictions."""
    sde = data.draw(strategies.sdes(tables=False))
    ts = data.draw(strategies.time_grids(sde, steps=(3, 12)))
    prediction, q = data.draw(st.sampled_from(["eps", "x0", "v"])), data.draw(st.integers(0, 3))
    coordinate = data.draw(st.sampled_from(COORDINATES))
    if not math.isfinite(sde.lam(ts.ts[-1])):
        return
    for step, (t, s) in zip(
        coefficients(M(prediction, coordinate, q), sde, ts.ts), pairwise(ts.ts), strict=True
    ):
        x0, e = 1.7, -0.3
        m = {"eps": e, "x0": x0}.get(prediction)
        if m is None:
            continue
        x_t, x_s = (sde.alpha(u) * x0 + sde.sigma(u) * e for u in (t, s))
        size = abs(step.keep * x_t) + np.abs(step.weights).sum()
        assert abs(step.keep * x_t + sum(step.weights) * m - x_s) <= 1e-13 * size


@pytest.mark.parametrize("q", [1, 2, 3])
@pytest.mark.parametrize("sde", SDES, ids=kind_of)
def test_tab_is_exact_for_polynomials_in_t(sde: Any, q: int) -> None:
    """The mean of t^m over a step is that of quadrature by SciPy, for m up to the degree."""
    ts = rs.Grid.power(sde, 7).ts
    for n, step in list(enumerate(coefficients(rs.TAB(q).method, sde, ts)))[q:]:
        alpha = sde.alpha(ts[n + 1])
        for m in range(q + 1):
            got = sum(w * ts[n - j] ** m for j, w in enumerate(step.weights)) / alpha
            first, last = sde.lam(ts[n]), sde.lam(ts[n + 1])
            wanted, _ = quad(
                lambda lam, m=m: -math.exp(-lam) * float(sde.t_of_lam(lam)) ** m,
                first, last, epsabs=0, epsrel=1e-13, limit=200,
            )  # fmt: skip
            size = sum(abs(w) * ts[n - j] ** m for j, w in enumerate(step.weights)) / alpha
            assert abs(got - wanted) <= 2e-13 * size, (n, m)


@pytest.mark.parametrize("sde", [rs.VP(), rs.VE(), rs.SubVP()], ids=kind_of)
@pytest.mark.parametrize(("prediction", "scale"), [("score", 1.0), ("v", 0.4), ("v", 2.5)])
def test_score_and_velocity_have_weights_of_their_own(
    prediction: Any, scale: float, sde: Any
) -> None:
    """Means of t^m with the weight under the integral: sigma for the score, the angle's rate."""

    def rate(lam: float) -> float:
        if prediction == "score":
            return float(sde.sigma(sde.t_of_lam(lam))) * math.exp(-lam)
        rho = math.exp(-lam)
        return -rho * scale / (scale**2 + rho**2)  # d arctan(rho / scale) / d lam

    ts = rs.Grid.power(sde, 6).ts
    steps = coefficients(M(prediction, "t", 2, scale=scale), sde, ts)
    for n, step in list(enumerate(steps))[2:]:
        size = sde.alpha(ts[n + 1])
        size *= math.hypot(scale, sde.rho(ts[n + 1])) if prediction == "v" else 1.0
        for m in range(3):
            wanted, _ = quad(
                lambda lam, m=m: rate(lam) * float(sde.t_of_lam(lam)) ** m,
                sde.lam(ts[n]), sde.lam(ts[n + 1]), epsabs=0, epsrel=1e-13, limit=200,
            )  # fmt: skip
            got = sum(w * ts[n - j] ** m for j, w in enumerate(step.weights))
            assert got == pytest.approx(size * wanted, rel=1e-10)


@pytest.mark.parametrize("n", [60, 1000])
def test_a_table_of_rates_is_integrated_piece_by_piece(n: int) -> None:
    """Across its kinks one quadrature would be off by 3e-5, as published code is everywhere."""
    table = rs.Tabulated.from_betas("linear", n=n)
    ts = rs.Grid.power(table, 6).ts
    for k, step in list(enumerate(coefficients(rs.TAB(2).method, table, ts)))[2:]:
        inner = sorted(float(table.lam(i / n)) for i in range(1, n) if ts[k + 1] < i / n < ts[k])
        edges = [table.lam(ts[k]), *inner, table.lam(ts[k + 1])]
        for m in (1, 2):
            wanted = sum(
                quad(lambda u, m=m: -math.exp(-u) * float(table.t_of_lam(u)) ** m, a, b)[0]
                for a, b in pairwise(edges)
            )
            got = sum(w * ts[k - j] ** m for j, w in enumerate(step.weights)) / table.alpha(
                ts[k + 1]
            )
            assert got == pytest.approx(wanted, rel=1e-12)
    (reach,) = coefficients(M("score", "t", 0), table, ts)[3].weights
    wanted = table.alpha(ts[4]) / table.alpha(ts[3]) - 1  # as for every variance preserving SDE
    assert reach == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 1.4])
def test_data_prediction_is_exact_for_polynomials_in_lam(tau: float) -> None:
    ts = rs.Grid.logsnr(SDE, 6).ts
    lam = [SDE.lam(t) for t in ts]
    for n, step in list(enumerate(coefficients(M("x0", "lam", 3, tau=tau), SDE, ts)))[3:]:
        for m in range(4):
            got = sum(w * lam[n - j] ** m for j, w in enumerate(step.weights))
            kernel = 1 + tau**2
            wanted, _ = quad(
                lambda u, m=m, k=kernel, end=lam[n + 1]: u**m * k * math.exp(k * (u - end)),
                lam[n], lam[n + 1], epsabs=0, epsrel=1e-13,
            )  # fmt: skip
            assert got == pytest.approx(SDE.alpha(ts[n + 1]) * wanted, rel=1e-11)


def test_er_sde_integrates_over_its_own_scale() -> None:
    ts = grid("edm", 6).ts
    phi = rs.ERSDE().phi
    for n, step in list(enumerate(coefficients(rs.ERSDE(2).method, SDE, ts)))[1:]:
        r = [SDE.rho(t) for t in ts]
        inverse = [1 / phi(v) for v in r]
        for m in (0, 1):
            inner, _ = quad(lambda v, m=m: m / phi(v), r[n], r[n + 1], epsabs=0, epsrel=1e-12)
            wanted = r[n + 1] ** m * inverse[n + 1] - r[n] ** m * inverse[n] - inner  # by parts
            got = sum(w * r[n - j] ** m for j, w in enumerate(step.weights))
            scale = SDE.alpha(ts[n + 1]) * phi(r[n + 1])
            assert got == pytest.approx(scale * wanted, rel=1e-10)
    # phi = rho is the flow, rho^(1 + tau^2) the constant amount of noise tau
    for power, tau in ((1.0, 0.0), (2.0, 1.0), (1.25, 0.5)):
        ours = coefficients(rs.ERSDE(2, lambda v, p=power: v**p).method, SDE, ts)
        known = coefficients(M("x0", "rho", 1, tau=tau), SDE, ts)
        np.testing.assert_allclose([s.weights[0] for s in ours], [s.weights[0] for s in known])
        np.testing.assert_allclose([s.spread for s in ours], [s.spread for s in known], atol=1e-7)


@pytest.mark.parametrize("tilt", [-12.0, -1.0, -0.999, -1e-9, 0.0, 0.3, 1.0, 1.001, 25.0])
def test_shares_are_means(tilt: float) -> None:
    for k in range(4):
        top, _ = quad(lambda u, k=k: u**k * math.exp(tilt * (u - 1)), 0, 1, epsabs=0, epsrel=1e-13)
        whole, _ = quad(lambda u: math.exp(tilt * (u - 1)), 0, 1, epsabs=0, epsrel=1e-13)
        assert share(k, tilt) == pytest.approx(top / whole, rel=1e-12)
        array = np.full((2, 1), tilt)
        np.testing.assert_allclose(share(k, array), share(k, tilt), rtol=1e-14)


@given(st.lists(st.floats(-4, -0.1), min_size=0, max_size=3, unique_by=lambda v: round(v, 1)))
def test_lagrange_weights_give_the_means_they_were_made_of(past: list[float]) -> None:
    nodes = [0.0, *past]
    means = [1.0, 0.4, 0.3, 0.2][: len(nodes)]
    weights = lagrange(nodes, means)
    size = np.abs(weights).sum()
    for k, mean in enumerate(means):
        found = sum(w * x**k for w, x in zip(weights, nodes, strict=True))
        assert abs(found - mean) <= 1e-13 * size * 4**k


def test_steps_of_one_are_the_sum_of_two() -> None:
    """keep multiplies, noise adds in squares: the pieces are those of one process."""
    for prediction, tau in (("eps", 0.0), ("eps", 0.7), ("x0", 0.0), ("x0", 0.7)):
        a, b, c = 0.9, 0.5, 0.1
        first, second = (leg(SDE, prediction, *ab, tau) for ab in ((a, b), (b, c)))  # type: ignore[arg-type]
        whole = leg(SDE, prediction, a, c, tau)  # type: ignore[arg-type]
        assert whole.keep == pytest.approx(first.keep * second.keep, rel=1e-13)
        noise = (second.keep * first.spread) ** 2 + second.spread**2
        assert whole.spread**2 == pytest.approx(noise, rel=1e-13, abs=1e-30)
        reach = second.keep * first.reach + second.reach
        assert whole.reach == pytest.approx(reach, rel=1e-13)


# -- exactness ------------------------------------------------------------------------------------


POINT = rs.Empirical(np.array([[1.3, -0.4]]))
EXACT_ON_A_POINT = [
    rs.DDIM(), rs.TAB(3), rs.RhoAB(3), rs.IPNDM(4), rs.IPNDM(4, "heun"), rs.IPNDM(4, "rk4"),
    rs.DPMSolverPP(2), rs.DPMSolverPP(3), rs.DPMSolverPP(3, variant="exact"),
    rs.DPMSolverPP(2, singlestep=True), rs.DPMSolverPP(3, singlestep=True),
    rs.UniPC(3), rs.UniPC(3, "B1"), rs.UniPC(3, prediction="eps"), rs.UniPC(2, "exact"),
    rs.DPMSolver(2), rs.DPMSolver(3), rs.DPMSolver(3, variant="taylor"), rs.DPMSolver(2, 1.0),
    *(rs.RhoRK(name) for name in ("2heun", "2midpoint", "3kutta", "3heun", "3ralston")),
    *(rs.RhoRK(name) for name in ("3vdhouwen", "3ssprk", "4rk")),
    M("x0", "t", 2), M("eps", third, 3, True),
]  # fmt: skip


@pytest.mark.parametrize("solver", EXACT_ON_A_POINT, ids=kind_of)
@pytest.mark.parametrize("sde", [rs.VP(), rs.SubVP(), rs.VE(), rs.EDM(), rs.Cosine()], ids=kind_of)
def test_a_point_mass_is_hit_in_three_steps(solver: Any, sde: Any) -> None:
    x = sde.prior_std * np.random.default_rng(0).standard_normal((6, 2))
    flow = rs.ProbabilityFlow(sde, POINT.score(sde))
    got = rs.sample(flow, solver, x=x, times=rs.Grid.power(sde, 3)).x
    exact = rs.exact.flow(sde, POINT, x, sde.T, sde.t_end)
    assert np.abs(got - exact).max() < 1e-12 * sde.prior_std * max(1.0, 1 / sde.alpha(sde.T))


@pytest.mark.parametrize("solver", [rs.EulerMaruyama(), M("score", "t", 0)], ids=kind_of)
def test_a_point_mass_is_missed_without_eps(solver: Any) -> None:
    x = np.random.default_rng(0).standard_normal((6, 2))
    flow = rs.ProbabilityFlow(SDE, POINT.score(SDE))
    got = rs.sample(flow, solver, x=x, times=rs.Grid.power(SDE, 3)).x
    assert np.abs(got - rs.exact.flow(SDE, POINT, x, 1.0, T_END)).max() > 0.05


def test_unit_normal_data_under_vp() -> None:
    """The flow stands still: Euler and the frozen score see it, DDIM turns by cosines."""
    flow = rs.ProbabilityFlow(SDE, rs.GaussianMixture([1.0], [[0.0]], [1.0]).score(SDE))
    x, ts = np.array([[1.0], [-0.3]]), grid("t2", 5)
    angle = [math.atan(SDE.rho(t)) for t in ts.ts]
    turned = math.prod(math.cos(a - b) for a, b in pairwise(angle))
    for solver, factor in (
        (rs.TAB(0), turned),
        (M("score", "t", 0), 1.0),
        (rs.Angular(3, 1.0), 1.0),
    ):
        got = rs.sample(flow, solver, x=x, times=ts).x
        np.testing.assert_allclose(got, factor * x, rtol=1e-13)


def test_frozen_score_has_a_closed_form_under_vp() -> None:
    """reach = alpha_s / alpha_t - 1, and half the difference of variances under VE."""
    steps = coefficients(M("score", "t", 0), SDE, GRID.ts)
    np.testing.assert_allclose(
        [s.weights[0] for s in steps], [s.keep - 1 for s in steps], rtol=1e-12
    )
    ve = rs.VE()
    ts = rs.Grid.uniform(ve, 5).ts
    steps = coefficients(M("score", "t", 0), ve, ts)
    half = [(ve.sigma(t) ** 2 - ve.sigma(s) ** 2) / 2 for t, s in pairwise(ts)]
    np.testing.assert_allclose([s.weights[0] for s in steps], half, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_angular_stands_still_on_gaussians_of_its_scale(scale: float) -> None:
    """In the frame where the data's size is one, N(0, scale^2) does not move at all."""
    target = rs.GaussianMixture([1.0], [[0.0, 0.0]], [scale**2])
    x = np.random.default_rng(0).standard_normal((5, 2))
    for sde in (SDE, rs.SubVP(), rs.EDM()):
        flow = rs.ProbabilityFlow(sde, target.score(sde))
        got = rs.sample(flow, rs.Angular(2, scale), x=x, times=rs.Grid.angular(sde, 3, scale)).x
        exact = rs.exact.flow(sde, target, x, sde.T, sde.t_end)
        np.testing.assert_allclose(got, exact, rtol=1e-11)


def test_data_moved_and_scaled_move_and_scale_the_result() -> None:
    """Where alpha = 1: data c x + b, starts and levels scaled alike."""
    c, b = 3.0, np.array([0.5, -1.0])
    target = rs.GaussianMixture([0.4, 0.6], [[-1.0, 0.2], [1.0, 0.0]], [0.04, 0.09])
    moved = rs.GaussianMixture([0.4, 0.6], c * target.means + b, [c * c * 0.04, c * c * 0.09])
    small, large = rs.EDM(0.01, 10.0), rs.EDM(0.03, 30.0)
    x = 10.0 * np.random.default_rng(0).standard_normal((20, 2))
    for solver, other in (
        (rs.RhoAB(3), None), (rs.DPMSolverPP(3), None), (rs.UniPC(3), None), (rs.TAB(2), None),
        (rs.DPMSolver(3), None), (rs.RhoRK("4rk"), None), (rs.Angular(3, 0.7), rs.Angular(3, 2.1)),
    ):  # fmt: skip
        if isinstance(solver, rs.Angular):  # the velocity turns around the origin
            shift, far_target = (
                np.zeros(2),
                rs.GaussianMixture([0.4, 0.6], c * target.means, [c * c * 0.04, c * c * 0.09]),
            )
        else:
            shift, far_target = b, moved
        near = rs.sample(
            rs.ProbabilityFlow(small, target.score(small)), solver, x=x,
            times=rs.Grid.logsnr(small, 7),
        ).x  # fmt: skip
        far = rs.sample(
            rs.ProbabilityFlow(large, far_target.score(large)), other or solver, x=c * x + shift,
            times=rs.Grid.logsnr(large, 7),
        ).x  # fmt: skip
        np.testing.assert_allclose(far, c * near + shift, atol=1e-11)


def test_the_velocity_loses_no_digits_at_either_end() -> None:
    """From the noise prediction near T, or the data prediction near 0, float32 would be left."""
    sde = rs.EDM()
    process = rs.ProbabilityFlow(sde, RING.target.score(sde))
    for t in (80.0, 20.0, 0.02, 0.002):
        x = math.hypot(t, 1.0) * RING.x
        exact = velocity(process, x, t, 1.0)
        size = math.hypot(1.0, t)
        direct = (process.eps(x, t) - t * process.denoise(x, t)) / size
        np.testing.assert_allclose(exact, direct, rtol=1e-9, atol=1e-12)
        single = velocity(process, x.astype(np.float32), t, 1.0)
        assert np.abs(single - exact).max() < 2e-5, t


# -- equalities -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver",
    [
        rs.TAB(0), rs.RhoAB(0), rs.RhoRK("1euler"), rs.DPMSolver(1), rs.DPMSolverPP(1),
        rs.IPNDM(1), rs.UniPC(1, corrector=False), M("x0", "t", 0), M("eps", third, 0),
    ],
    ids=kind_of,
)  # fmt: skip
@pytest.mark.parametrize("name", ["t1", "t2", "log", "edm"])
def test_ddim_has_many_names(solver: Any, name: str) -> None:
    same(solver, rs.DDIM(), grid(name, 8))


def test_one_family() -> None:
    same(rs.UniPC(2, corrector=False), rs.DPMSolverPP(2))  # with the published B2
    exact3 = M("x0", "lam", 2)
    same(rs.UniPC(3, "exact", corrector=False), exact3)
    same(rs.DPMSolverPP(3, variant="exact"), exact3)
    for corrector in (True, False):  # B cancels without shortcuts, and with them it does not
        ours = rs.UniPC(3, "exact", corrector=corrector)
        same(ours, M("x0", "lam", 2, corrector))
    assert np.abs(ends(rs.UniPC(3, "B1")) - ends(rs.UniPC(3, "B2"))).max() > 1e-6
    same(rs.RhoRK("2heun"), rs.DPMSolver(2, r=1.0))
    # eps in rho is not x0 in 1 / rho
    assert np.abs(ends(rs.RhoAB(1)) - ends(M("x0", lambda rho: 1 / rho, 1))).max() > 1e-2


@pytest.mark.parametrize("q", [1, 2, 3])
def test_clocks_that_are_levels(q: int) -> None:
    """Under VE t is affine in lam, under EDM it is rho."""
    x = np.random.default_rng(0).standard_normal((20, 2))
    for sde, coordinate in ((rs.VE(), "lam"), (rs.EDM(), "rho")):
        flow = rs.ProbabilityFlow(sde, RING.target.score(sde))
        start, ts = sde.prior_std * x, rs.Grid.logsnr(sde, 8)
        a, b = (
            rs.sample(flow, solver, x=start, times=ts).x
            for solver in (rs.TAB(q), M("eps", coordinate, q))  # type: ignore[arg-type]
        )
        assert np.abs(a - b).max() < 1e-11 * np.abs(a).max()


def test_adams_bashforth_constants_on_equal_steps() -> None:
    sde = rs.EDM()
    ts = np.linspace(80.0, 0.002, 9)
    for points in (1, 2, 3, 4):
        equal = coefficients(M("eps", "rho", points - 1), sde, tuple(ts))
        fixed = coefficients(rs.IPNDM(points).method, sde, tuple(ts))
        for a, b in zip(equal, fixed, strict=True):
            np.testing.assert_allclose(a.weights, b.weights, rtol=1e-12)
    last = np.array(fixed[-1].weights) / (ts[8] - ts[7]) * 24
    np.testing.assert_allclose(last, [55, -59, 37, -9], rtol=1e-11)


def test_stochastic_members_without_noise_are_the_flow_s() -> None:
    for noisy, quiet in (
        (rs.SDEDPMSolverPP(2, 0.0), rs.DPMSolverPP(2)),
        (rs.SDEDPMSolverPP(2, 0.0, "exact"), rs.DPMSolverPP(2, "exact")),
        (rs.SASolver(2, 0.0), rs.UniPC(2, "exact")),
        (rs.SDEDPMSolverPP(2, 0.0, singlestep=True), rs.DPMSolverPP(2, singlestep=True)),
    ):
        same(noisy, quiet)


# -- UniPC and PNDM, written out ------------------------------------------------------------------


def unipc(p: int, B: str, last: str, case: Any, ts: tuple[float, ...]) -> np.ndarray:
    """UniPC-p by its linear systems, as published, on the data prediction."""
    lam, alpha, sigma = ([f(t) for t in ts] for f in (SDE.lam, SDE.alpha, SDE.sigma))
    score, x, past, N = case.flow.score, case.x, [], len(ts) - 1

    def update(base_x: Any, n: int, order: int, new: Any = None) -> Any:
        h = lam[n + 1] - lam[n]
        hh = -h
        scale = hh if B == "B1" else math.expm1(hh)
        at = [(lam[n - i] - lam[n]) / h for i in range(1, order)]
        D = [(past[-1 - i] - past[-1]) / r for i, r in zip(range(1, order), at, strict=True)]
        if new is not None:
            at, D = [*at, 1.0], [*D, new - past[-1]]
        phi = [math.expm1(hh) / hh]
        for k in range(1, len(at) + 1):
            phi.append((phi[-1] - 1 / math.factorial(k)) / hh)
        b = [math.factorial(k) * hh * phi[k] / scale for k in range(1, len(at) + 1)]
        R = np.array([[r**k for r in at] for k in range(len(at))])
        if B != "exact" and len(at) == 1:
            a = np.array([0.5])
        else:
            a = np.linalg.solve(R, b) if at else np.array([])
        base = sigma[n + 1] / sigma[n] * base_x - alpha[n + 1] * math.expm1(-h) * past[-1]
        return base - alpha[n + 1] * scale * sum(w * d for w, d in zip(a, D, strict=True))

    predicted, corrected = x, x
    for n in range(N):
        m = score.denoise(predicted, ts[n])
        if n:
            order = min(p, n, N + 1 - n if last == "lower" else n)
            corrected = update(corrected, n - 1, order, new=m)
        past.append(m)
        order = min(p, n + 1, N - n if last == "lower" else n + 1)
        predicted = update(corrected, n, order)
    return np.asarray(predicted)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("B", ["B1", "B2", "exact"])
@pytest.mark.parametrize("last", ["full", "lower"])
def test_unipc_as_published(p: int, B: Any, last: Any) -> None:
    got = ends(rs.UniPC(p, B, last_step_rule=last), grid("log", 7), MODES)
    wanted = unipc(p, B, last, MODES, grid("log", 7).ts)
    assert np.abs(got - wanted).max() < 1e-11


def pndm(warm: str, case: Any, ts: tuple[float, ...]) -> np.ndarray:
    """F-PNDM or S-PNDM as published: pseudo Runge-Kutta, then four constants."""
    eps, x, past = case.flow.score.eps, case.x, []

    def move(x: Any, e: Any, t: float, s: float) -> Any:
        ratio = SDE.alpha(s) / SDE.alpha(t)
        return ratio * x + (SDE.sigma(s) - ratio * SDE.sigma(t)) * e

    constants = {1: [1], 2: [3, -1], 3: [23, -16, 5], 4: [55, -59, 37, -9]}
    for n, (t, s) in enumerate(pairwise(ts)):
        e1 = eps(x, t)
        past.append(e1)
        if warm == "rk4" and n < 3:
            m = (t + s) / 2
            e2 = eps(move(x, e1, t, m), m)
            e3 = eps(move(x, e2, t, m), m)
            e = (e1 + 2 * e2 + 2 * e3 + eps(move(x, e3, t, s), s)) / 6
        elif warm == "heun" and n == 0:
            e = (e1 + eps(move(x, e1, t, s), s)) / 2
        else:
            c = np.array(constants[min(len(past), 4)], dtype=float)
            e = sum(w * v for w, v in zip(c / c.sum(), past[::-1], strict=False))
        x = move(x, e, t, s)
    return np.asarray(x)


@pytest.mark.parametrize(("warm", "extra"), [("none", 0), ("heun", 1), ("rk4", 9)])
def test_pndm_as_published(warm: Any, extra: int) -> None:
    ts = grid("t1", 9)
    run = rs.sample(MODES.flow, rs.IPNDM(4, warm), x=MODES.x, times=ts)
    assert np.abs(run.x - pndm(warm, MODES, ts.ts)).max() < EXACT
    assert set(run.nfe) == {9 + extra}


# -- what it costs, how it starts and ends --------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "each", "extra"),
    [
        (rs.TAB(3), 1, 0), (rs.RhoAB(2), 1, 0), (rs.UniPC(3), 1, 0), (rs.Angular(), 1, 0),
        (rs.DPMSolverPP(3), 1, 0), (rs.IPNDM(4, "rk4"), 1, 9), (M(analytic_first=True), 1, -1),
        (rs.RhoRK("4rk"), 4, 0), (rs.DPMSolver(3), 3, 0),
        (rs.DPMSolverPP(3, singlestep=True), 3, 0),
    ],
    ids=kind_of,
)  # fmt: skip
def test_evaluations_are_counted(solver: Any, each: int, extra: int) -> None:
    score = CountingScore(RING.target.score(SDE))
    flow = rs.ProbabilityFlow(SDE, score)
    run = rs.sample(flow, solver, x=RING.x, times=GRID)
    assert set(run.nfe) == {8 * each + extra} and len(score.batches) == 8 * each + extra
    one_more = rs.sample(
        rs.ProbabilityFlow(SDE, score), solver, x=RING.x, times=GRID, denoise="tweedie"
    )
    assert set(one_more.nfe) == {8 * each + extra + 1}


def test_a_flow_draws_nothing_and_the_first_step_uses_no_history() -> None:
    for solver in (rs.TAB(3), rs.UniPC(3), rs.Angular()):
        rs.sample(RING.flow, solver, x=RING.x, times=GRID, noise=NoNoise())
    first = coefficients(rs.TAB(3).method, SDE, GRID.ts)
    assert [len(step.weights) for step in first] == [1, 2, 3, 4, 4, 4, 4, 4]
    lower = coefficients(M(last_step_rule="lower"), SDE, GRID.ts)
    assert [len(step.weights) for step in lower] == [1, 2, 3, 4, 4, 3, 2, 1]
    short = M(last_step_rule="lower if short")
    assert [len(s.weights) for s in coefficients(short, SDE, GRID.ts)][-1] == 1
    assert [len(s.weights) for s in coefficients(short, SDE, grid("t2", 10).ts)][-1] == 4
    corrected = coefficients(rs.UniPC(3).method, SDE, GRID.ts)
    assert [len(step.corrected) for step in corrected] == [2, 3, 4, 4, 4, 4, 4, 0]


def test_analytic_first_step() -> None:
    """For data N(0, 1) the formula is what the score says; the prior's mistake is all there is."""
    data = rs.GaussianMixture([1.0], [[0.0, 0.0]], [1e-12])
    flow = rs.ProbabilityFlow(SDE, data.score(SDE))
    x = np.random.default_rng(0).standard_normal((5, 2))
    a, b = (
        rs.sample(flow, M("eps", "t", 1, analytic_first=first), x=x, times=GRID).x
        for first in (True, False)
    )
    # eps = x / sigma there, the formula says x / 1: off by 2e-5 at T
    assert 0 < np.abs(a - b).max() < 1e-3


@pytest.mark.parametrize(
    "solver", [rs.TAB(3), rs.UniPC(3), rs.RhoRK("2heun"), rs.DPMSolver(3), rs.Angular()]
)
def test_a_step_onto_the_data_lands_on_the_prediction(solver: Any) -> None:
    """At sigma = 0 the last step is Euler's, which is x0; EDM's Heun then takes 2 N - 1."""
    sde = rs.EDM()
    flow = rs.ProbabilityFlow(sde, RING.target.score(sde))
    ts = rs.Grid.karras(sde, 9)
    x = sde.prior_std * RING.x
    before = rs.sample(flow, solver, x=x, times=ts, keep="all")
    landed = rs.sample(flow, solver, x=x, times=ts.to_data())
    each = before.nfe[0] // 9
    assert landed.nfe[0] == 9 * each + 1
    if not (isinstance(solver, rs.Angular) or solver == rs.UniPC(3)):  # they correct, or lower
        np.testing.assert_allclose(landed.x, flow.denoise(before.x, 0.002), atol=1e-12)


def test_edm_s_heun() -> None:
    sde = rs.EDM()
    flow = rs.ProbabilityFlow(sde, RING.target.score(sde))
    levels = [*rs.Grid.karras(sde, 17).ts, 0.0]
    x = start = sde.prior_std * RING.x
    for rho, after in pairwise(levels):
        d = (x - flow.denoise(x, rho)) / rho
        ahead = x + (after - rho) * d
        if after > 0:
            d = (d + (ahead - flow.denoise(ahead, after)) / after) / 2
            ahead = x + (after - rho) * d
        x = ahead
    run = rs.sample(flow, rs.RhoRK("2heun"), x=start, times=rs.Grid(levels))
    assert np.abs(run.x - x).max() < 1e-11 and run.nfe[0] == 2 * 18 - 1


@pytest.mark.parametrize(
    "solver",
    [rs.TAB(2), rs.DPMSolverPP(3, "exact"), rs.RhoRK("3kutta")],
    ids=kind_of,
)
def test_the_way_up_undoes_the_way_down(solver: Any) -> None:
    """Encoding: the same solver on the reversed grid, to the order of both."""
    gaps = []
    for n in (40, 80, 160):
        down = rs.sample(MODES.flow, solver, x=MODES.x, times=rs.Grid.logsnr(SDE, n, 0.02)).x
        up = rs.sample(MODES.flow, solver, x=down, times=rs.Grid.logsnr(SDE, n, 0.02).reversed()).x
        gaps.append(float(np.sqrt(np.mean((up - MODES.x) ** 2))))
    assert gaps[2] < gaps[1] / 4 < gaps[0] / 16 and gaps[2] < 2e-3


def test_float32_stays() -> None:
    for solver in (rs.TAB(3), rs.UniPC(3), rs.RhoRK("4rk"), rs.DPMSolver(3), rs.Angular()):
        single = rs.sample(MODES.flow, solver, x=MODES.x.astype(np.float32), times=GRID)
        double = ends(solver, GRID, MODES)
        assert single.x.dtype == np.float32
        assert np.median(np.abs(single.x - double)) < 1e-5


# -- misuse ---------------------------------------------------------------------------------------

REVERSE = rs.ReverseSDE(SDE, RING.target.score(SDE))
PER_SAMPLE = np.full((512, 1), 0.5)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: rs.TAB(4), ValueError, r"`order` of TAB must lie in 0 to 3, got 4"),
        (lambda: rs.TAB(-1), ValueError, r"`order` of TAB must lie in 0 to 3"),
        (lambda: rs.TAB(2.0), TypeError, r"`order` of TAB must be an int"),  # type: ignore[arg-type]
        (lambda: rs.TAB(True), TypeError, r"`order` of TAB must be an int"),
        (lambda: rs.UniPC(4), ValueError, r"`order` of UniPC must lie in 1 to 3"),
        (lambda: rs.UniPC(3, "bh1"), ValueError, r"`variant` of UniPC must be one of 'B2'"),  # type: ignore[arg-type]
        (lambda: rs.IPNDM(5), ValueError, r"`points` of IPNDM must lie in 1 to 4"),
        (lambda: rs.IPNDM(4, "rk"), ValueError, r"`warmup` of IPNDM must be one of"),  # type: ignore[arg-type]
        (lambda: rs.RhoRK("heun"), ValueError, r"`name` of RhoRK must be one of '1euler'"),
        (lambda: rs.DPMSolver(2, r=1.5), ValueError, r"`r` must lie in \(0, 1\] for order 2"),
        (lambda: rs.DPMSolver(1, r=0.5), ValueError, r"`r` must lie in .* None for order 1"),
        (lambda: M("noise"), ValueError, r"`prediction` of Multistep must be one of 'eps'"),  # type: ignore[arg-type]
        (lambda: M("eps", "sigma"), ValueError, r"`coordinate` .* or a function of rho"),  # type: ignore[arg-type]
        (lambda: M(tau=-1.0), ValueError, r"`tau` must be finite and non-negative"),
        (lambda: M("score", tau=1.0), ValueError, r"`tau` must be 0 for prediction 'score'"),
        (lambda: M("eps", "rho", phi=third), ValueError, r"`phi` goes with prediction='x0'"),
        (lambda: M("x0", analytic_first=True), ValueError, r"`analytic_first` must be False"),
        (lambda: M("v", "angle", scale=0.0), ValueError, r"`scale` must be positive"),
        (lambda: M(corrector=1), TypeError, r"`corrector` must be True or False"),  # type: ignore[arg-type]
        (lambda: rs.Angular(3, scale=-1.0), ValueError, r"`scale` must be positive"),
        (lambda: rs.DPMSolverPP(2, last_step_rule="lower", singlestep=True), ValueError, "'full'"),
        (lambda: rs.sample(REVERSE, rs.TAB(2), 5, times=GRID), TypeError, "use it on Probability"),
        (lambda: rs.sample(RING.flow, rs.TAB(2, tau=1.0), 5, times=GRID), TypeError, "ReverseSDE"),
        (lambda: rs.sample(RING.flow, rs.TAB(2), 5, times=rs.Adaptive()), TypeError,
         r"`times` of TAB\(order=2, tau=0.0\) must be a Grid that all samples share"),
        (lambda: rs.sample(RING.flow, rs.TAB(3), 5, times=2), ValueError,
         r"`times` has 2 steps, fewer than the order 3 of TAB"),
        (lambda: rs.Grid([1.0, 0.5, 0.5, 0.1]), ValueError, "strictly monotone"),
        (lambda: rs.sample(RING.flow, rs.TAB(1), x=RING.x, times=rs.Grid([0.0, 0.5, 1.0])),
         ValueError, r"`times` must begin where sigma > 0, got t = 0"),
        (lambda: rs.sample(RING.flow, M("score", "t", 0), 5, times=rs.Grid([1.0, 0.5, 0.0])),
         ValueError, r"`times` must end where sigma > 0"),
        (lambda: rs.TAB(1)(RING.flow, rs.State(1.0, RING.x), 0.5, rs.Gaussian(0)), TypeError,
         "must see the whole grid"),
        (lambda: rs.TAB(1).bind(RING.flow, GRID.ts)(
            RING.flow, rs.State(PER_SAMPLE, RING.x), 0.4 * PER_SAMPLE, rs.Gaussian(0)),
         ValueError, "bind it to the grid that it runs on"),
        (lambda: rs.PredictorCorrector(rs.UniPC(2), rs.AnnealedLangevin(0.1)), TypeError,
         "would undo what the corrector did"),
        (lambda: rs.DPMSolver.fast(9).bind(RING.flow, GRID.ts), ValueError, "a Grid of 4 steps"),
    ],
)  # fmt: skip
def test_misuse_is_told(call: Any, error: Any, told: str) -> None:
    with pytest.raises(error, match=told):
        call()
