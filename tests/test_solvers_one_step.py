"""The one-step family, ancestral sampling, reverse diffusion: exact laws, chains, orders.

As in `test_solvers_euler`, maps are read out of the public driver; only the two-dimensional mixture
is a Monte Carlo statement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from _probing import (
    CASES,
    DETERMINISTIC_MUTANTS,
    MIXTURE_2D,
    MUTANTS,
    Problem,
    Z,
    far,
    louder,
    moment_z,
    normal_data,
    output_law,
    problem,
    read_problem,
    romberg,
    scaled_score,
)
from _recursions import (
    Mixture1D,
    Step,
    ancestral,
    chain,
    ddim,
    er_sde,
    reverse_diffusion,
    sde_dpm,
    slopes,
    sub_vp,
    vp,
    whole,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

import refsde as rs

EXACT = 1e-12


def phi(rho: float) -> float:
    """A noise function between the flow (rho) and the reverse SDE (rho^2)."""
    return rho**1.5 * (2 + rho) / (1 + rho)


def published(p: Any, t: float, s: float, family: str) -> Any:
    return ancestral(p, t, s, family, "posterior" if family == "ve" else "large")


def like_paper(step: Callable[..., Any], **fixed: Any) -> Callable[[str], Step]:
    """The step of a paper, for the family of an SDE's chain."""
    return lambda family: partial(step, family=family, **fixed)


def whatever(step: Callable[..., Any], **fixed: Any) -> Callable[[str], Step]:
    """The step of a paper, the same for every SDE."""
    return lambda family: partial(step, **fixed)


SOLVERS: dict[str, tuple[Any, str, Callable[[str], Step]]] = {
    "reverse diffusion": (rs.ReverseDiffusion(), "reverse", like_paper(reverse_diffusion)),
    "its flow": (rs.ReverseDiffusion(), "flow", like_paper(reverse_diffusion, flow=True)),
    "ancestral": (rs.Ancestral(), "reverse", like_paper(published)),
    "ancestral posterior": (
        rs.Ancestral("posterior"),
        "reverse",
        like_paper(ancestral, variance="posterior"),
    ),
    "ancestral large": (rs.Ancestral("large"), "reverse", like_paper(ancestral, variance="large")),
    "DDIM(0)": (rs.DDIM(), "flow", whatever(ddim, eta=0.0)),
    "DDIM(0) on the SDE": (rs.DDIM(), "reverse", whatever(ddim, eta=0.0)),
    "DDIM(0.5)": (rs.DDIM(0.5), "reverse", whatever(ddim, eta=0.5)),
    "DDIM(1)": (rs.DDIM(1.0), "reverse", whatever(ddim, eta=1.0)),
    "DDIM(1.5), clipped": (rs.DDIM(1.5), "reverse", whatever(ddim, eta=1.5)),
    "SDE-DPM(1)": (rs.OneStep.sde_dpm(), "reverse", whatever(sde_dpm, tau=1.0)),
    "SDE-DPM(0.5)": (rs.OneStep.sde_dpm(0.5), "reverse", whatever(sde_dpm, tau=0.5)),
    "SDE-DPM(0)": (rs.OneStep.sde_dpm(0.0), "reverse", whatever(sde_dpm, tau=0.0)),
    "ER-SDE": (rs.OneStep.er_sde(phi), "reverse", whatever(er_sde, phi=phi)),
}


# -- the law, exactly ------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 5])
@pytest.mark.parametrize("method", SOLVERS)
@pytest.mark.parametrize("name", CASES)
def test_the_map_is_that_of_the_paper(name: str, method: str, d: int) -> None:
    p, family = problem(name, d), CASES[name].family
    solver, kind, step = SOLVERS[method]
    if (name, method) == ("SubVP", "ancestral"):
        with pytest.raises(TypeError, match="published"):
            read_problem(p, p.reverse, solver)
        return
    got = read_problem(p, getattr(p, kind), solver)
    want = whole(chain(step(family), p.gauss, p.grid.ts))
    assert far(got, want, *p.gauss.moments(p.grid.ts[0])) < EXACT


@pytest.mark.parametrize("method", SOLVERS)
def test_a_mutant_has_another_map(method: str) -> None:
    p = problem("VP", 5)
    solver, kind, step = SOLVERS[method]
    want = whole(chain(step("vp"), p.gauss, p.grid.ts))
    for mutant in (MUTANTS if want.gains else DETERMINISTIC_MUTANTS).values():
        got = read_problem(p, getattr(p, kind), mutant(solver))
        assert far(got, want, *p.gauss.moments(1.0)) > 1e-4


@given(
    b0=st.floats(0.05, 1.0),
    rise=st.floats(0.0, 20.0),
    m=st.floats(-2.0, 2.0),
    std=st.floats(0.05, 3.0),
    times=st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=5, unique_by=lambda t: round(t, 2)),
    eta=st.sampled_from([0.0, 0.1, 0.7, 1.0, 1.5]),
)
def test_any_grid_and_any_gaussian(
    b0: float, rise: float, m: float, std: float, times: list[float], eta: float
) -> None:
    p = normal_data(m, std, rs.VP(b0, b0 + rise), vp(b0, b0 + rise))
    grid = rs.Grid(sorted(times, reverse=True))
    want = whole(chain(partial(ddim, eta=eta), p.gauss, grid.ts))
    got = read_problem(p, p.reverse, rs.DDIM(eta), grid)
    assert far(got, want, *p.gauss.moments(grid.ts[0])) < 1e-9  # rho may be as small as 1e-3


@pytest.mark.parametrize("name", ["VP", "EDM", "DDPM"])
def test_members_that_are_the_same_sampler(name: str) -> None:
    p = problem(name, 5)
    start = p.gauss.moments(p.grid.ts[0])
    posterior = read_problem(p, p.reverse, rs.Ancestral("posterior"))
    for same in (rs.DDIM(1.0), rs.OneStep.sde_dpm(1.0), rs.OneStep.er_sde(lambda rho: rho**2)):
        assert far(read_problem(p, p.reverse, same), posterior, *start) < EXACT
    flow = read_problem(p, p.flow, rs.DDIM())
    for same in (rs.OneStep.sde_dpm(0.0), rs.OneStep.er_sde(lambda rho: rho), rs.OneStep(0.0)):
        got = read_problem(p, p.reverse, same)
        assert far(got._replace(gains=()), flow, *start) < EXACT
        assert (
            sum(float(np.abs(G).max()) for G in got.gains) < 1e-6
        )  # of rounding in a share of 1e-16


# -- figures of the literature ---------------------------------------------------------------------


def variance(p: Problem, process: Any, solver: Any, grid: rs.Grid, **options: Any) -> float:
    return float(output_law(p, process, solver, grid, **options)[1][0, 0])


def test_ddim_has_the_printed_variance_errors() -> None:
    p = normal_data(0.0, 0.25)
    printed = "-3.378e-01 -1.849e-01 -9.711e-02 -4.986e-02 -2.527e-02 -1.273e-02 -6.385e-03".split()
    for n, figure in zip((25, 50, 100, 200, 400, 800, 1600), printed, strict=True):
        V = p.gauss.moments(1e-3)[1][0, 0]
        assert (
            f"{variance(p, p.flow, rs.DDIM(), rs.Grid.uniform(p.flow.sde, n)) / V - 1:.3e}"
            == figure
        )


LOG_RHO = {  # |v - V| on N(0.7, 0.3^2) for N = 10, 20, 40, 80, 160 log-rho steps to t = 0.02
    "SDE-DPM(1)": ("4.45e-02 2.71e-02 1.51e-02 8.00e-03 4.12e-03", "0.96"),
    "DDIM(1)": ("4.45e-02 2.71e-02 1.51e-02 8.00e-03 4.12e-03", "0.96"),
    "SDE-DPM(0.5)": ("3.36e-02 1.88e-02 9.98e-03 5.14e-03 2.61e-03", "0.98"),
    "DDIM(0.5)": ("3.16e-02 1.80e-02 9.73e-03 5.07e-03 2.59e-03", "0.97"),
}


@pytest.mark.parametrize("method", LOG_RHO)
def test_one_step_samplers_have_the_printed_errors_on_the_log_rho_grid(method: str) -> None:
    p = normal_data(0.7, 0.3)
    printed, slope = LOG_RHO[method]
    mean, V = p.gauss.moments(0.02)
    errors = []
    for n in (10, 20, 40, 80, 160):
        grid = rs.Grid.logsnr(p.reverse.sde, n, t_end=0.02)
        mean_out, V_out = output_law(p, p.reverse, SOLVERS[method][0], grid)
        np.testing.assert_allclose(mean_out, mean, rtol=1e-14)  # exponential members keep the mean
        errors.append(V_out[0, 0] - V[0, 0])
    assert max(errors) < 0  # printed without their sign: all of them lose variance
    assert " ".join(f"{-e:.2e}" for e in errors) == printed
    assert f"{slopes(errors)[-1]:.2f}" == slope


def test_the_fractions_differ_between_their_ends() -> None:
    sde = rs.VP()
    t = 0.5
    s = float(sde.t_of_lam(sde.lam(t) + 0.3))  # h = 0.3
    assert f"{rs.OneStep.sde_dpm(0.5).fraction(sde, t, s):.4f}" == "0.1393"
    assert f"{0.5**2 * -math.expm1(-0.6):.4f}" == "0.1128"  # DDIM(0.5)


# -- order and limit, on the reference problem N(0.7, 0.5^2) ---------------------------------------


def weak_errors(kind: str, solver: Any, levels: tuple[int, ...]) -> list[float]:
    p = normal_data(0.7, 0.5)
    V = p.gauss.moments(1e-3)[1][0, 0]
    return [
        variance(p, getattr(p, kind), solver, rs.Grid.uniform(p.flow.sde, n)) / V - 1
        for n in levels
    ]


def test_ddim_has_order_one_and_the_printed_limit() -> None:
    errors = weak_errors("flow", rs.DDIM(), (64, 128, 256, 512, 1024))
    np.testing.assert_allclose(slopes(errors[2:]), 1, atol=0.02)
    assert f"{romberg(errors[:4], 1):.1e}" == "-6.5e-07"
    for mutant in DETERMINISTIC_MUTANTS.values():
        wrong = weak_errors("flow", mutant(rs.DDIM()), (64, 128, 256, 512))
        assert abs(romberg(wrong, 1)) > 1e-4
        assert abs(slopes(wrong)[-1] - 1) > 0.02


@pytest.mark.parametrize(
    "method", ["reverse diffusion", "ancestral", "DDIM(0.5)", "DDIM(1)", "SDE-DPM(0.5)", "ER-SDE"]
)
def test_stochastic_members_have_order_one(method: str) -> None:
    solver = SOLVERS[method][0]
    np.testing.assert_allclose(slopes(weak_errors("reverse", solver, (1024, 2048))), 1, atol=0.05)
    for mutant in (
        partial(louder, scale=1.01),
        partial(scaled_score, scale=0.5),
        partial(scaled_score, scale=-1.0),
    ):
        assert abs(slopes(weak_errors("reverse", mutant(solver), (512, 1024)))[0] - 1) > 0.1


# -- data on which the family is exact -------------------------------------------------------------


@pytest.mark.parametrize(
    "target", [rs.GaussianMixture([1.0], [[0.7, -1.2]], [0.0]), rs.targets.Empirical([[0.7, -1.2]])]
)
@pytest.mark.parametrize(
    "method", ["DDIM(0)", "DDIM(0.5)", "DDIM(1)", "SDE-DPM(0.5)", "ER-SDE", "ancestral posterior"]
)
@pytest.mark.parametrize("name", ["VP", "SubVP", "VE", "EDM", "Cosine"])
def test_a_point_mass_is_sampled_exactly_in_three_steps(
    name: str, method: str, target: Any
) -> None:
    sde, schedule, _ = CASES[name]
    solver, kind, _ = SOLVERS[method]
    score = target.score(sde)
    gauss = problem(name, 2).gauss.__class__(schedule, np.array([0.7, -1.2]), np.zeros((2, 2)))
    p = Problem(
        gauss, rs.ReverseSDE(sde, score), rs.ProbabilityFlow(sde, score), rs.Grid.karras(sde, 3)
    )

    def error(solver: Any) -> float:
        mean, cov = output_law(p, getattr(p, kind), solver, p.grid)
        mean_want, cov_want = gauss.moments(p.grid.ts[-1])
        scale = np.sqrt(cov_want[0, 0])
        return float(max(np.abs(cov - cov_want).max() / scale**2, np.abs(mean - mean_want).max()))

    assert error(solver) < 1e-10
    for mutant in DETERMINISTIC_MUTANTS.values():
        assert error(mutant(solver)) > 1e-6


def test_the_large_variance_is_not_exact_even_for_a_point_mass() -> None:
    sde = rs.VP()
    score = rs.GaussianMixture([1.0], [[0.7]], [0.0]).score(sde)
    gauss = problem("VP").gauss.__class__(vp(), np.array([0.7]), np.zeros((1, 1)))
    grid = rs.Grid.karras(sde, 3)
    p = Problem(gauss, rs.ReverseSDE(sde, score), rs.ProbabilityFlow(sde, score), grid)
    cov = output_law(p, p.reverse, rs.Ancestral("large"), grid)[1]
    assert cov[0, 0] > 2 * gauss.moments(grid.ts[-1])[1][0, 0]


@pytest.mark.parametrize("n", [1, 4, 25])
def test_ddim_multiplies_unit_normals_by_cosines(n: int) -> None:
    # alpha = cos th, sigma = sin th: the step is x (cos th_s cos th_t + sin th_s sin th_t).  In one
    # step from alpha = 0.0066 the two parts of x / alpha cancel, which costs four digits.
    sde, x = rs.VP(), np.linspace(-2, 2, 5)[:, None]
    flow, grid = rs.ProbabilityFlow(sde, lambda x, t: -x), rs.Grid.uniform(sde, n)
    theta = np.arctan([sde.rho(t) for t in grid.ts])
    shrunk = np.prod(np.cos(np.diff(theta)))
    np.testing.assert_allclose(
        rs.sample(flow, rs.DDIM(), x=x, times=grid).x, shrunk * x, rtol=1e-11
    )
    assert shrunk < 0.999


@pytest.mark.parametrize("method", SOLVERS)
def test_the_last_step_may_land_on_the_data(method: str) -> None:
    p = problem("VP", 5)
    solver, kind, _ = SOLVERS[method]
    sol = rs.sample(
        getattr(p, kind), solver, 50, times=rs.Grid.uniform(p.flow.sde, 50, t_end=0.0), rng=0
    )
    assert sol.success.all()
    assert np.abs(sol.x).max() < 10


# -- mixtures --------------------------------------------------------------------------------------

MODES = np.array([0.3, 0.3, 0.4]), np.array([-2.0, 0.0, 1.5]), np.array([0.3, 0.2, 0.4])
LINE = rs.GaussianMixture(MODES[0], MODES[1][:, None], MODES[2] ** 2)
X_T = ndtri((np.arange(400) + 0.5) / 400)


def rearrangement_error(solver: Any, sde: Any, schedule: Any, grid: rs.Grid) -> float:
    flow = rs.ProbabilityFlow(sde, LINE.score(sde))
    exact = Mixture1D(schedule, *MODES).rearranged(X_T, 1.0, grid.ts[-1])
    run = rs.sample(flow, solver, x=X_T[:, None], times=grid).x[:, 0]
    return float(np.sqrt(np.mean((run - exact) ** 2)))


@pytest.mark.parametrize(
    ("sde", "schedule"), [(rs.VP(), vp()), (rs.SubVP(), sub_vp())], ids=["VP", "SubVP"]
)
def test_ddim_rearranges_the_line_at_order_one(sde: Any, schedule: Any) -> None:
    def error(solver: Any, n: int) -> float:
        return rearrangement_error(solver, sde, schedule, rs.Grid.logsnr(sde, n, t_end=0.02))

    errors = [error(rs.DDIM(), n) for n in (1024, 2048)]
    np.testing.assert_allclose(slopes(errors), 1, atol=0.1)
    for mutant in DETERMINISTIC_MUTANTS.values():
        assert abs(error(mutant(rs.DDIM()), 1024) / errors[0] - 1) > 0.1


def test_ddim_on_the_line_has_the_printed_errors() -> None:
    sde = rs.VP()
    coarse = rearrangement_error(rs.DDIM(), sde, vp(), rs.Grid.power(sde, 10, 2.0))
    np.testing.assert_allclose(coarse, 2.361539e-01, rtol=1e-6)
    assert (
        f"{rearrangement_error(rs.DDIM(), sde, vp(), rs.Grid.logsnr(sde, 320, t_end=0.02)):.1e}"
        == "1.3e-02"
    )


PLANE = [
    "reverse diffusion",
    "ancestral",
    "ancestral posterior",
    "DDIM(0.5)",
    "DDIM(1)",
    "SDE-DPM(0.5)",
    "ER-SDE",
]


@pytest.mark.parametrize("method", PLANE)
def test_moments_on_a_mixture_in_the_plane(method: str, seed: int) -> None:
    # 8 z-scores a run, each beyond Z with probability 5.7e-7: a false alarm in 5e-6 of fresh seeds.
    # The bias at 250 steps is below one standard error.
    solver = SOLVERS[method][0]
    process = rs.ReverseSDE(rs.VP(), MIXTURE_2D.score(rs.VP()))
    grid = rs.Grid.power(rs.VP(), 250, 2.0)
    exact = MIXTURE_2D.at(rs.VP(), grid.ts[-1])

    def worst(solver: Any) -> float:
        return float(
            moment_z(rs.sample(process, solver, 2000, times=grid, rng=seed).x, exact).max()
        )

    assert worst(solver) < Z
    assert worst(louder(solver, 1.5)) > Z
    assert worst(scaled_score(solver, 0.5)) > Z
