"""Euler-Maruyama and Heun: exact laws on Gaussians, orders, limits, strong error; mixtures.

Only the two-dimensional mixture is a Monte Carlo statement: all else is read out of the public
driver, and compared with the recursions of `_recursions` or measured by `refsde.exact`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

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
    scaled_score,
)
from _recursions import Mixture1D, chain, euler, heun, law, slopes, sub_vp, vp, whole
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
# (their table for s0 = 1/4 and 1 is in test_exact_errors)


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
    sde, target = rs.VP(), rs.GaussianMixture([1.0], [[0.0]], [s0**2])
    process = rs.ReverseSDE(sde, target.score(sde))
    got = rs.exact.weak_error(process, rs.EulerMaruyama(), n).variance
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

REFERENCE = rs.GaussianMixture([1.0], [[0.7]], [0.25]).score(rs.VP())
PROCESSES = {
    "reverse": rs.ReverseSDE(rs.VP(), REFERENCE),
    "flow": rs.ProbabilityFlow(rs.VP(), REFERENCE),
}
WEAK = {
    "EM": ("reverse", rs.EulerMaruyama(), 1),
    "Heun": ("reverse", rs.Heun(), 2),  # two, because the noise is additive
    "Euler on the flow": ("flow", rs.EulerMaruyama(), 1),
    "Heun on the flow": ("flow", rs.Heun(), 2),
}


def slopes_of(solver: Any, kind: str, error: Any, steps: tuple[int, ...]) -> list[float]:
    return rs.exact.order(PROCESSES[kind], solver, error, steps=steps).slopes.tolist()


@pytest.mark.parametrize("name", WEAK)
def test_weak_order_and_limit(name: str) -> None:
    kind, solver, order = WEAK[name]
    got = rs.exact.order(PROCESSES[kind], solver, "weak", declared=order)
    np.testing.assert_allclose(got.slopes[2:], order, atol=0.02)  # from 256 to 1024 steps
    assert rs.exact.order(PROCESSES[kind], solver, steps=(64, 128, 256, 512)).limit < 1e-6


@pytest.mark.parametrize("name", WEAK)
def test_mutants_have_another_limit(name: str) -> None:
    kind, solver, order = WEAK[name]
    for mutant in (DETERMINISTIC_MUTANTS if kind == "flow" else MUTANTS).values():
        broken, steps = mutant(solver), (64, 128, 256, 512)
        assert rs.exact.order(PROCESSES[kind], broken, steps=steps, declared=order).limit > 1e-4


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_have_another_order(mutant: str) -> None:
    broken = MUTANTS[mutant](rs.EulerMaruyama())
    assert abs(slopes_of(broken, "reverse", "weak", (512, 1024))[0] - 1) > 0.02


@pytest.mark.parametrize(("solver", "order"), [(rs.EulerMaruyama(), 1), (rs.Heun(), 2)])
def test_pathwise_order_on_the_flow(solver: rs.Heun, order: int) -> None:
    """The root mean square distance to the exact flow map, over the start p_1."""
    got = slopes_of(solver, "flow", "strong", (256, 512, 1024))
    np.testing.assert_allclose(got, order, atol=0.02)
    for mutant in DETERMINISTIC_MUTANTS.values():
        assert abs(slopes_of(mutant(solver), "flow", "strong", (256, 512))[0] - order) > 0.1


@pytest.mark.parametrize("solver", [rs.EulerMaruyama(), rs.Heun()])
def test_strong_order_one_without_monte_carlo(solver: rs.Heun) -> None:
    """The distance to the exact solution on the same path; on one path: test_exact_strong."""
    steps = (128, 256, 512)
    np.testing.assert_allclose(slopes_of(solver, "reverse", "strong", steps), 1, atol=0.02)
    for mutant in (louder(solver, 1.02), scaled_score(solver, 0.5)):
        assert max(abs(s - 1) for s in slopes_of(mutant, "reverse", "strong", steps)) > 0.2


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
