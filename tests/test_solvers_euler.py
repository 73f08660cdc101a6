"""Euler-Maruyama and Heun: exact laws on Gaussians, orders, limits, strong error; mixtures.

Only the stored path and the two-dimensional mixture are Monte Carlo statements: all else is read
out of the public driver and compared with the recursions of `_recursions`.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from _probing import (
    CASES,
    DETERMINISTIC_MUTANTS,
    MIXTURE_2D,
    MUTANTS,
    Z,
    far,
    louder,
    moment_z,
    normal_data,
    output_law,
    problem,
    read,
    read_problem,
    romberg,
    scaled_score,
)
from _recursions import Gauss, Mixture1D, chain, euler, heun, law, slopes, sub_vp, vp, whole
from scipy.special import ndtri

import refsde as rs

EXACT = 1e-12
KINDS = {"forward": 0.0, "flow": 0.5, "reverse": 1.0}  # the share of g^2 score in the drift
SOLVERS = {"EM": (rs.EulerMaruyama(), euler), "Heun": (rs.Heun(), heun)}


# -- the law, exactly ------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("name", CASES)
def test_the_map_is_that_of_the_paper(name: str, method: str, kind: str, d: int) -> None:
    p = problem(name, d)
    solver, step = SOLVERS[method]
    process, grid = getattr(p, kind, rs.ForwardSDE(p.reverse.sde)), p.grid
    if kind == "forward":
        grid = grid.reversed()
    start = p.gauss.moments(grid.ts[0])
    got = read(process, solver, grid, d, math.sqrt(start[1].max()))
    want = whole(chain(partial(step, share=KINDS[kind]), p.gauss, grid.ts))
    assert far(got, want, *start) < EXACT


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("method", SOLVERS)
def test_a_mutant_has_another_map(method: str, mutant: str) -> None:
    p = problem("VP", 5)
    solver, step = SOLVERS[method]
    got = read_problem(p, p.reverse, MUTANTS[mutant](solver))
    assert far(got, whole(chain(step, p.gauss, p.grid.ts)), *p.gauss.moments(1.0)) > 1e-4


def test_the_recursion_of_moments_is_the_law_of_the_whole_map() -> None:
    p = problem("VP", 5)
    steps, start = chain(heun, p.gauss, p.grid.ts), p.gauss.moments(1.0)
    for a, b in zip(law(steps, *start), law([whole(steps)], *start), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


# -- figures of the literature on N(m, s0^2), VP(0.1, 20), start at the exact p_1 ------------------

STEPS = (25, 50, 100, 200, 400, 800, 1600)
VARIANCE_ERRORS = {  # relative, uniform grid to 1e-3
    ("reverse", 0.25): "1.785e-01 5.668e-02 2.257e-02 1.000e-02 4.699e-03 2.275e-03 1.119e-03",
    ("flow", 0.25): "-1.478e-01 -7.965e-02 -4.143e-02 -2.115e-02 -1.068e-02 -5.371e-03 -2.692e-03",
    ("reverse", 1.0): "5.899e-02 2.867e-02 1.415e-02 7.027e-03 3.503e-03 1.749e-03 8.736e-04",
}


def relative_variance_error(p, process, solver, grid) -> float:  # type: ignore[no-untyped-def]
    _, cov = output_law(p, process, solver, grid)
    return float(cov[0, 0] / p.gauss.moments(grid.ts[-1])[1][0, 0] - 1)


@pytest.mark.parametrize(("kind", "s0"), VARIANCE_ERRORS)
def test_euler_has_the_printed_variance_errors(kind: str, s0: float) -> None:
    p = normal_data(0.0, s0)
    for n, printed in zip(STEPS, VARIANCE_ERRORS[kind, s0].split(), strict=True):
        grid = rs.Grid.uniform(p.reverse.sde, n)
        got = relative_variance_error(p, getattr(p, kind), rs.EulerMaruyama(), grid)
        assert f"{got:.3e}" == printed, n


@pytest.mark.parametrize(
    ("s0", "n", "printed"),
    [
        (0.05, 50, "3.14"),
        (0.05, 100, "0.545"),
        (0.05, 300, "0.0985"),
        (0.05, 1000, "0.0248"),
        (0.02, 1000, "0.135"),
    ],
)
def test_euler_maruyama_is_poor_on_a_narrow_target(s0: float, n: int, printed: str) -> None:
    p = normal_data(0.0, s0)
    got = relative_variance_error(
        p, p.reverse, rs.EulerMaruyama(), rs.Grid.uniform(p.reverse.sde, n)
    )
    assert f"{got:.3g}" == printed


def test_euler_maruyama_on_the_log_rho_grid() -> None:
    p = normal_data(0.7, 0.3)
    mean, V = p.gauss.moments(0.02)
    np.testing.assert_allclose(
        [mean[0], V[0, 0]], [0.6979101259187248, 0.09542556140306066], rtol=1e-14
    )
    grids = [rs.Grid.logsnr(p.reverse.sde, n, t_end=0.02) for n in (10, 20, 40, 80, 160)]
    laws = [output_law(p, p.reverse, rs.EulerMaruyama(), grid) for grid in grids]
    errors = [float(cov[0, 0] - V[0, 0]) for _, cov in laws]
    assert " ".join(f"{e:.2e}" for e in errors) == "5.35e-02 2.16e-02 9.87e-03 4.72e-03 2.31e-03"
    assert f"{slopes(errors)[-1]:.2f}" == "1.03"
    assert (
        f"{laws[0][0][0] - mean[0]:.1e}" == "1.7e-02"
    )  # unlike exponential members, EM moves the mean


@pytest.mark.parametrize("solver", [rs.EulerMaruyama(), rs.Heun()])
def test_the_flow_of_unit_normals_under_vp_stands_still(solver: rs.Heun) -> None:
    p = normal_data(0.0, 1.0)
    x = np.linspace(-3, 3, 7)[:, None]
    np.testing.assert_allclose(rs.sample(p.flow, solver, x=x, times=5).x, x, rtol=1e-14)
    moved = rs.sample(p.flow, scaled_score(solver, 0.5), x=x, times=5).x
    assert np.abs(moved - x).max() > 0.5


# -- order and limit, on the reference problem N(0.7, 0.5^2) ---------------------------------------

LEVELS = (64, 128, 256, 512, 1024)


def weak_errors(kind: str, solver: object, levels: tuple[int, ...] = LEVELS) -> list[float]:
    """Relative variance errors on uniform grids."""
    p = normal_data(0.7, 0.5)
    grids = [rs.Grid.uniform(p.reverse.sde, n) for n in levels]
    return [relative_variance_error(p, getattr(p, kind), solver, grid) for grid in grids]


WEAK = {
    "EM": ("reverse", rs.EulerMaruyama(), 1),
    "Heun": ("reverse", rs.Heun(), 2),  # two, because the noise is additive
    "Euler on the flow": ("flow", rs.EulerMaruyama(), 1),
    "Heun on the flow": ("flow", rs.Heun(), 2),
}


@pytest.mark.parametrize("name", WEAK)
def test_weak_order_and_limit(name: str) -> None:
    kind, solver, order = WEAK[name]
    errors = weak_errors(kind, solver)
    np.testing.assert_allclose(slopes(errors[2:]), order, atol=0.02)
    assert abs(romberg(errors[:4], order)) < 1e-6
    if name == "EM":
        assert f"{romberg(errors[:4], 1):.1e}" == "-2.0e-07"  # the known figure


@pytest.mark.parametrize("name", WEAK)
def test_mutants_have_another_limit(name: str) -> None:
    kind, solver, order = WEAK[name]
    for mutant in (DETERMINISTIC_MUTANTS if kind == "flow" else MUTANTS).values():
        assert abs(romberg(weak_errors(kind, mutant(solver), LEVELS[:4]), order)) > 1e-4


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_have_another_order(mutant: str) -> None:
    slope = slopes(weak_errors("reverse", MUTANTS[mutant](rs.EulerMaruyama()), LEVELS[3:]))
    assert abs(slope[0] - 1) > 0.02


def flow_errors(solver: object, levels: tuple[int, ...]) -> list[float]:
    """Root mean square distance to the exact flow map, over the start p_1."""
    p = normal_data(0.7, 0.5)
    mean, V = p.gauss.moments(1.0)
    errors = []
    for n in levels:
        grid = rs.Grid.uniform(p.flow.sde, n)
        A, b, _ = read_problem(p, p.flow, solver, grid)
        mean_end, V_end = p.gauss.moments(grid.ts[-1])
        stretch = math.sqrt(V_end[0, 0] / V[0, 0])
        bias = A[0, 0] * mean[0] + b[0] - mean_end[0]
        errors.append(math.hypot((A[0, 0] - stretch) * math.sqrt(V[0, 0]), bias))
    return errors


@pytest.mark.parametrize(("solver", "order"), [(rs.EulerMaruyama(), 1), (rs.Heun(), 2)])
def test_pathwise_order_on_the_flow(solver: rs.Heun, order: int) -> None:
    np.testing.assert_allclose(slopes(flow_errors(solver, LEVELS[2:])), order, atol=0.02)
    for mutant in DETERMINISTIC_MUTANTS.values():
        assert abs(slopes(flow_errors(mutant(solver), LEVELS[2:4]))[0] - order) > 0.1


# -- strong order: the distance to the exact solution along the same Brownian path -----------------


def propagator(gauss: Gauss, u: np.ndarray, end: float) -> np.ndarray:
    """Solution operator of the reverse SDE on a Gaussian: (V / alpha)(end) / (V / alpha)(u)."""

    def ratio(t: float) -> float:
        return float(gauss.moments(t)[1][0, 0] / gauss.schedule.alpha(t))

    return ratio(end) / np.array([ratio(t) for t in u])


def strong_error(solver: object, n: int) -> float:
    """E|x_n - x|^2, square root: an integral of known functions, since both are linear in the path.

    The solver's weight on dw is a step function, the exact one is Phi(end, u) g(u).
    """
    p = normal_data(0.7, 0.5)
    grid = rs.Grid.uniform(p.reverse.sde, n)
    A, b, gains = read_problem(p, p.reverse, solver, grid)
    end = grid.ts[-1]
    nodes, weights = np.polynomial.legendre.leggauss(4)
    total = 0.0
    for (t, s), G in zip(pairwise(grid.ts), gains, strict=True):
        u = (t + s) / 2 + (t - s) / 2 * nodes
        g = np.sqrt([p.gauss.schedule.g2(v) for v in u])
        gap = G[0, 0] / math.sqrt(t - s) - propagator(p.gauss, u, end) * g
        total += (t - s) / 2 * float(weights @ gap**2)
    mean, V = p.gauss.moments(1.0)
    bias = A[0, 0] * mean[0] + b[0] - p.gauss.moments(end)[0][0]
    start = (A[0, 0] - propagator(p.gauss, np.array([1.0]), end)[0]) ** 2 * V[0, 0]
    return math.sqrt(total + start + bias**2)


STRONG_MUTANTS = {
    "noise 2 % too large": partial(louder, scale=1.02),
    "half score": partial(scaled_score, scale=0.5),
}


@pytest.mark.parametrize("solver", [rs.EulerMaruyama(), rs.Heun()])
def test_strong_order_one_without_monte_carlo(solver: rs.Heun) -> None:
    def orders(solver: object) -> list[float]:
        return slopes([strong_error(solver, n) for n in (128, 256, 512)])

    np.testing.assert_allclose(orders(solver), 1, atol=0.02)
    for mutant in STRONG_MUTANTS.values():
        assert max(abs(s - 1) for s in orders(mutant(solver))) > 0.2


def squared_errors(solver: object, path: rs.StoredPath, n: int) -> np.ndarray:
    """Squared distance (B,) to the exact solution along the stored path, start included."""
    p = normal_data(0.7, 0.5)
    sde, fine = p.reverse.sde, path.t[::-1]
    mean, V = p.gauss.moments(1.0)
    x = mean + math.sqrt(V[0, 0]) * np.random.default_rng(3).standard_normal((path.w.shape[1], 1))
    # Exact solution: on a fine interval the weight Phi g varies by 1e-3 of itself: take its middle.
    middle = (fine[:-1] + fine[1:]) / 2
    weight = propagator(p.gauss, middle, sde.t_end) * np.sqrt(
        [p.gauss.schedule.g2(t) for t in middle]
    )
    exact = p.gauss.moments(sde.t_end)[0] + propagator(p.gauss, np.array([1.0]), sde.t_end) * (
        x - mean
    )
    exact = exact + np.tensordot(weight, np.diff(path.w[::-1], axis=0), 1)
    run = rs.sample(p.reverse, solver, x=x, times=rs.Grid.uniform(sde, n), noise=path)
    return np.asarray(np.sum((run.x - exact) ** 2, axis=1))


def test_strong_order_one_along_one_stored_path() -> None:
    # The path is known five levels finer than the finest grid.  Three z-scores: a false alarm in
    # 2e-6 of fresh paths.
    levels, finest = (64, 128, 256), 2**13
    path = rs.StoredPath.draw(rs.Grid.uniform(rs.VP(), finest).ts, (400, 1), rng=20)

    def z(solver: object, n: int) -> float:
        gap = squared_errors(solver, path, n) - strong_error(rs.EulerMaruyama(), n) ** 2
        return float(abs(gap.mean()) / (gap.std() / math.sqrt(len(gap))))

    errors = [math.sqrt(squared_errors(rs.EulerMaruyama(), path, n).mean()) for n in levels]
    np.testing.assert_allclose(slopes(errors), 1, atol=0.1)
    assert max(z(rs.EulerMaruyama(), n) for n in levels) < Z
    for mutant in STRONG_MUTANTS.values():
        assert z(mutant(rs.EulerMaruyama()), 256) > Z


# -- mixtures --------------------------------------------------------------------------------------

MODES = np.array([0.3, 0.3, 0.4]), np.array([-2.0, 0.0, 1.5]), np.array([0.3, 0.2, 0.4])
LINE = rs.GaussianMixture(MODES[0], MODES[1][:, None], MODES[2] ** 2)
X_T = ndtri((np.arange(400) + 0.5) / 400)


def test_the_rearrangement_has_the_printed_values() -> None:
    y = Mixture1D(vp(), *MODES).rearranged(X_T, 1.0, 1e-3)
    printed = [-2.7917805052881812, -1.7044329282046435, 0.08840496889740981, 2.5939466378908564]
    np.testing.assert_allclose(y[[0, 100, 200, 399]], printed, atol=1e-12)
    tails = LINE.at(rs.VP(), 1e-3).cdf(y), LINE.at(rs.VP(), 1.0).cdf(X_T)
    np.testing.assert_allclose(*tails, rtol=1e-11)


def rearrangement_errors(
    solver: object, sde: object, schedule: object, levels: tuple[int, ...]
) -> list[float]:
    flow = rs.ProbabilityFlow(sde, LINE.score(sde))
    exact = Mixture1D(schedule, *MODES).rearranged(X_T * sde.prior_std, sde.T, 0.02)
    grids = [rs.Grid.logsnr(sde, n, t_end=0.02) for n in levels]
    runs = [
        rs.sample(flow, solver, x=X_T[:, None] * sde.prior_std, times=grid).x[:, 0]
        for grid in grids
    ]
    return [float(np.sqrt(np.mean((run - exact) ** 2))) for run in runs]


@pytest.mark.parametrize(
    ("sde", "schedule"), [(rs.VP(), vp()), (rs.SubVP(), sub_vp())], ids=["VP", "SubVP"]
)
@pytest.mark.parametrize(
    ("solver", "levels", "order"),
    [(rs.EulerMaruyama(), (640, 1280), 1), (rs.Heun(), (160, 320), 2)],
)
def test_the_flow_rearranges_the_line(
    solver: object, levels: tuple[int, ...], order: int, sde: object, schedule: object
) -> None:
    errors = rearrangement_errors(solver, sde, schedule, levels)
    np.testing.assert_allclose(slopes(errors), order, atol=0.1)
    for mutant in DETERMINISTIC_MUTANTS.values():
        wrong = rearrangement_errors(mutant(solver), sde, schedule, levels[:1])
        assert wrong[0] > (1.1 if order == 1 else 10) * errors[0]


def test_euler_on_the_line_has_the_printed_errors() -> None:
    assert f"{rearrangement_errors(rs.EulerMaruyama(), rs.VP(), vp(), (320,))[0]:.1e}" == "6.4e-03"
    exact = Mixture1D(vp(), *MODES).rearranged(X_T, 1.0, 1e-3)
    flow, grid = rs.ProbabilityFlow(rs.VP(), LINE.score(rs.VP())), rs.Grid.power(rs.VP(), 10, 2.0)
    run = rs.sample(flow, rs.EulerMaruyama(), x=X_T[:, None], times=grid).x[:, 0]
    np.testing.assert_allclose(np.sqrt(np.mean((run - exact) ** 2)), 1.435921e-01, rtol=1e-6)


@pytest.mark.parametrize("solver", [rs.EulerMaruyama(), rs.Heun()])
def test_moments_on_a_mixture_in_the_plane(solver: rs.Heun, seed: int) -> None:
    # 8 z-scores a run, each beyond Z with probability 5.7e-7: a false alarm in 5e-6 of fresh seeds.
    # The bias at 250 steps is below one standard error.
    process = rs.ReverseSDE(rs.VP(), MIXTURE_2D.score(rs.VP()))
    grid = rs.Grid.power(rs.VP(), 250, 2.0)
    exact = MIXTURE_2D.at(rs.VP(), grid.ts[-1])

    def worst(solver: object) -> float:
        return float(
            moment_z(rs.sample(process, solver, 2000, times=grid, rng=seed).x, exact).max()
        )

    assert worst(solver) < Z
    assert worst(louder(solver, 1.5)) > Z
    assert worst(scaled_score(solver, 0.5)) > Z
