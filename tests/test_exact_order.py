"""exact.order: known orders and limits, exact extrapolation, and mutants that a slope lets pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from _probing import (
    DETERMINISTIC_MUTANTS,
    MUTANTS,
    Problem,
    louder,
    problem,
    romberg,
    scaled_score,
)
from _recursions import Affine, Mixture1D, chain, ddim, euler, heun, vp, whole
from _recursions import law as recursion
from _solvers import SOLVERS
from _strong import shark, stepwise
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtri

import refsde as rs
from refsde.exact import Order, order
from refsde.exact.order import POINTS, STEPS

SDE = rs.VP()
# The reference problem.  N(0, 1) is degenerate under VP, narrower data come to their order late.
TARGET = rs.GaussianMixture([1.0], [[0.7]], [0.25])
REVERSE = rs.ReverseSDE(SDE, TARGET.score(SDE))
FLOW = rs.ProbabilityFlow(SDE, TARGET.score(SDE))
EM, HEUN, DDIM = rs.EulerMaruyama(), rs.Heun(), rs.DDIM()
MODES = rs.GaussianMixture([0.3, 0.3, 0.4], [[-2.0], [0.0], [1.5]], np.array([0.3, 0.2, 0.4]) ** 2)
LADDER = (64, 128, 256, 512)
SHORT = (32, 64, 128, 256)


def to_0_2(sde: Any, n: int) -> rs.Grid:
    """Where the noise that samplers add to a prediction is asymptotic too."""
    return rs.Grid.uniform(sde, n, t_end=0.2)


# -- known orders and limits -----------------------------------------------------------------------

KNOWN = {
    "EM": (REVERSE, EM, 1),
    "Heun": (REVERSE, HEUN, 2),
    "DDIM": (FLOW, DDIM, 1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_weak_orders_on_the_reference_problem(name: str) -> None:
    process, solver, p = KNOWN[name]
    got = order(process, solver)
    assert (got.kind, got.declared) == ("weak", p)
    assert got.steps.tolist() == list(STEPS) == [64, 128, 256, 512, 1024]
    np.testing.assert_allclose(got.slopes[2:], p, atol=0.02)
    assert got.slope == got.slopes[-1]
    assert got.limit < 1e-6 and got.holds(within=0.02)


def test_the_known_limits() -> None:
    # They are told of the relative variance.  Ours is the size of both moments' limits, in which a
    # variance counts 1 / sqrt(2): DDIM has no error of the mean, EM has one that adds little.
    for (process, solver), figure in (((REVERSE, EM), "-2.0e-07"), ((FLOW, DDIM), "-6.5e-07")):
        got = order(process, solver, steps=LADDER)
        mean, variance = (romberg(column.tolist(), 1) for column in got.deviations.T)
        assert f"{math.sqrt(2) * variance:.1e}" == figure
        assert got.limit == pytest.approx(math.hypot(mean, variance), rel=1e-6)
        weak = [rs.exact.weak_error(process, solver, n).variance for n in LADDER]
        np.testing.assert_allclose(weak, math.sqrt(2) * got.deviations[:, 1], rtol=1e-12)
        if solver is DDIM:
            assert np.abs(got.deviations[:, 0]).max() < 1e-12
            assert f"{math.sqrt(2) * got.limit:.1e}" == "6.5e-07"


DECLARED = [
    pytest.param(case.solver, kind, 0.05 if case.settled else 0.25, id=f"{case.name}-{kind}")
    for case in SOLVERS
    for kind in ("weak", "strong", "flow")
    if case.solver.orders.get(kind, 3) <= 2  # higher ones are at rounding on one Gaussian
]


@pytest.mark.parametrize(("solver", "kind", "within"), DECLARED)
def test_every_solver_has_the_orders_that_it_declares(
    solver: Any, kind: Any, within: float
) -> None:
    got = order(FLOW if kind == "flow" else REVERSE, solver, kind, steps=LADDER, grid=to_0_2)
    assert got.declared == solver.orders[kind]
    # Methods of strong order 1.5 are of order 2 where the drift is affine.
    assert abs(got.slope - math.ceil(got.declared)) < within
    assert got.limit < 1e-6 and got.holds(within=within)


def test_solvers_without_orders_have_none() -> None:
    """One that converges without saying so would be a gap in the table."""
    why = {}
    for case in SOLVERS:
        if case.solver.orders:
            continue
        process = REVERSE if "reverse" in case.kinds else FLOW
        try:
            got = order(process, case.solver, steps=(64, 128, 256), grid=to_0_2)
            assert got.declared is None
            why[case.name] = "has a limit" if got.limit > 1e-3 else "converges"
        except ValueError as refused:
            assert "not affine" in str(refused) or "couples the samples" in str(refused)
            why[case.name] = "not affine"
    assert why == {
        "one-step-0.5": "has a limit",  # half of the noise is fresh however short the step
        "pc-heun-annealed": "has a limit",  # the bias of the corrector's step size
        "pc-reverse-diffusion": "not affine",  # Langevin's norms
        "pc-paper": "not affine",
        "corrector-only": "not affine",
        "pc-batch": "not affine",
        "pc-mala": "not affine",  # a threshold
        "blackbox": "not affine",  # error control, of the whole batch
        "blackbox-alone": "not affine",
        "churn": "converges",  # its noise depends on the number of steps
        "sa-solver": "converges",  # its noise jumps inside a step
    }


def test_what_is_declared_for_one_kind_is_not_for_another() -> None:
    got = order(REVERSE, rs.DDIM(1.5), "strong", steps=(64, 128), grid=to_0_2)
    assert got.declared is None and got.slope < 0.1 and got.limit > 0.1


def test_methods_of_order_one_and_a_half_are_of_order_two_on_gaussians() -> None:
    got = order(REVERSE, shark, "strong", grid=to_0_2, steps=LADDER)
    assert got.declared is None and got.slope == pytest.approx(2, abs=0.02)
    assert got.limit < 1e-9  # the slope is rounded to 2
    assert order(REVERSE, shark, declared=2, grid=to_0_2, steps=LADDER).holds(within=0.02)
    assert order(REVERSE, shark, "strong", declared=1.5, grid=to_0_2, steps=LADDER).holds()


# -- mutants ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["weak", "strong"])
@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("solver", [EM, HEUN, rs.DDIM(1.0)], ids=lambda s: type(s).__name__)
def test_mutants_do_not_hold(solver: Any, mutant: str, kind: Any) -> None:
    broken, declared = MUTANTS[mutant](solver), solver.orders[kind]
    got = order(REVERSE, broken, kind, declared=declared, steps=SHORT, grid=to_0_2)
    assert not got.holds() and got.limit > 1e-4


@pytest.mark.parametrize("kind", ["weak", "flow"])
@pytest.mark.parametrize("mutant", DETERMINISTIC_MUTANTS)
@pytest.mark.parametrize("solver", [EM, HEUN, DDIM], ids=lambda s: type(s).__name__)
def test_mutants_do_not_hold_on_the_flow(solver: Any, mutant: str, kind: Any) -> None:
    broken = DETERMINISTIC_MUTANTS[mutant](solver)
    got = order(FLOW, broken, kind, declared=solver.orders[kind], steps=SHORT)
    assert not got.holds() and got.limit > 1e-4


@pytest.mark.parametrize(
    ("solver", "kind"), [(EM, "strong"), (HEUN, "strong"), (rs.DDIM(1.0), "weak")]
)
def test_noise_a_little_too_large_shows_in_the_limit_alone(solver: Any, kind: Any) -> None:
    grid = to_0_2 if kind == "weak" else rs.Grid.uniform
    got = order(REVERSE, louder(solver), kind, declared=1, steps=LADDER, grid=grid)
    assert got.holds(limit=math.inf) and not got.holds()
    assert got.limit > 100e-6


# -- the flow --------------------------------------------------------------------------------------


def gaps(p: Problem, maps: list[Affine], x: np.ndarray, ts: Any) -> np.ndarray:
    """Sampler less exact map of N(m, s^2), at the points ``x``."""
    A, b, _ = whole(maps)
    (M_T, V_T), (M, V) = p.gauss.moments(ts[0]), p.gauss.moments(ts[-1])
    exact = M + np.sqrt(V / V_T)[0] * (x - M_T)
    return np.asarray(x @ A.T + b - exact)


@pytest.mark.parametrize("name", ["VP", "VE", "EDM"])
def test_the_flow_is_compared_point_by_point(name: str) -> None:
    p = problem(name)
    x = p.reverse.sde.prior_std * ndtri((np.arange(POINTS) + 0.5) / POINTS)[:, None]
    for solver, step in ((EM, lambda *a: euler(*a, 0.5)), (DDIM, lambda *a: ddim(*a, 0.0))):
        got = order(p.flow, solver, "flow", steps=(10, 20), grid=rs.Grid.karras)
        for n, error, deviation in zip((10, 20), got.errors, got.deviations, strict=True):
            ts = rs.Grid.karras(p.reverse.sde, n).ts
            want = gaps(p, chain(step, p.gauss, ts), x, ts)[:, 0]
            assert error == pytest.approx(math.sqrt(np.mean(want**2)), rel=1e-9)
            np.testing.assert_allclose(deviation * math.sqrt(POINTS), want, atol=1e-9 * error)


def test_heun_is_of_order_two_on_three_modes() -> None:
    process = rs.ProbabilityFlow(SDE, MODES.score(SDE))
    got = order(process, HEUN, "flow", steps=(80, 160, 320), grid=rs.Grid.logsnr)
    np.testing.assert_allclose(got.slopes, 2, atol=0.05)
    assert got.holds(within=0.05)
    x = ndtri((np.arange(400) + 0.5) / 400)
    line = Mixture1D(vp(), MODES.weights, MODES.means[:, 0], np.array([0.3, 0.2, 0.4]))
    exact = line.rearranged(x, 1.0, SDE.t_end)
    run = rs.sample(process, HEUN, x=x[:, None], times=rs.Grid.logsnr(SDE, 80)).x[:, 0]
    assert got.errors[0] == pytest.approx(math.sqrt(np.mean((run - exact) ** 2)), rel=1e-7)
    half = order(process, DETERMINISTIC_MUTANTS["half score"](HEUN), "flow", steps=(80, 160))
    assert not half.holds()


def test_points_in_the_plane_are_fixed_and_count_by_their_distance() -> None:
    flat = rs.GaussianMixture([1.0], [[0.7, -0.4]], [[[0.3, 0.1], [0.1, 0.2]]])
    process = rs.ProbabilityFlow(SDE, flat.score(SDE))
    got = order(process, HEUN, "flow", steps=(64, 128, 256), grid=to_0_2)
    again = order(process, HEUN, "flow", steps=(64, 128, 256), grid=to_0_2)
    assert np.array_equal(got.errors, again.errors) and got.deviations.shape == (3, 2 * POINTS)
    assert got.slope == pytest.approx(2, abs=0.02) and got.holds()
    # 400 points stand for N(0, 1): the distance of two linear maps, within a few of 1/sqrt(400)
    start = (np.zeros(2), np.eye(2))
    want = rs.exact.strong_error(process, HEUN, to_0_2(SDE, 64), start=start)
    assert got.errors[0] == pytest.approx(want, rel=0.25)


# -- what the numbers mean -------------------------------------------------------------------------


def test_weak_and_strong_are_those_of_the_recursions() -> None:
    p = problem("VP", 5)
    start: Any = (np.zeros(5), np.eye(5))
    for solver, step in ((EM, euler), (HEUN, heun)):
        weak = order(p.reverse, solver, "weak", steps=(8, 16), grid=to_0_2, start=start)
        strong = order(p.reverse, solver, "strong", steps=(8, 16), grid=to_0_2, start=start)
        for i, n in enumerate((8, 16)):
            ts = to_0_2(SDE, n).ts
            maps = chain(step, p.gauss, ts)
            assert strong.errors[i] == pytest.approx(stepwise(p.gauss, ts, maps, start), rel=1e-10)
            (mean, cov), (M, V) = recursion(maps, *start), p.gauss.moments(ts[-1])
            # The size without axes: half the squared Frobenius norm of V^{-1} dV, and the mean's.
            share, gap = np.linalg.solve(V, cov - V), mean - M
            size = gap @ np.linalg.solve(V, gap) + 0.5 * np.trace(share @ share)
            assert weak.errors[i] == pytest.approx(math.sqrt(size), rel=1e-10)
        assert weak.deviations.shape == (2, 20) and strong.deviations.shape == (2, 1)


ladders = st.lists(st.integers(1, 40), min_size=2, max_size=3, unique=True).map(
    lambda increments: np.cumsum([4, *sorted(increments)])
)


@given(
    ladders,
    st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0]),
    st.floats(0, 1),
    st.lists(st.floats(-5, 5), min_size=6, max_size=6),
)
def test_extrapolation_is_exact_on_powers(
    steps: np.ndarray, p: float, c0: float, c: list[float]
) -> None:
    """As many powers as grids less one, N^-p, N^-(p + 1), ..., whatever the steps are.

    They are half as far apart if p is a half.
    """
    terms = [j if p % 1 == 0 else j / 2 for j in range(len(steps) - 1)]
    c1 = np.array(c).reshape(3, 2)[: len(terms)]
    powers = np.array([[float(n) ** -(p + j) for j in terms] for n in steps])
    deviations = powers @ c1 + [0.6 * c0, -0.8 * c0]
    got = Order("weak", steps, np.linalg.norm(deviations, axis=1), deviations, p)
    assume(np.linalg.cond(np.column_stack([np.ones(len(steps)), powers])) < 1e6)
    assert got.limit == pytest.approx(c0, rel=1e-8, abs=1e-8)
    spoilt = Order("weak", steps, got.errors, deviations + [0.0, 0.01], p)
    assert spoilt.limit == pytest.approx(math.hypot(0.6 * c0, 0.01 - 0.8 * c0), abs=1e-7)


def made(steps: Any, errors: Any, declared: float | None = None) -> Order:
    errors = np.asarray(errors, float)
    return Order("strong", np.asarray(steps), np.abs(errors), errors[:, None], declared)


def test_slopes_are_between_any_two_grids() -> None:
    got = made([10, 30, 70], [3.0 * n**-1.5 for n in (10, 30, 70)])
    np.testing.assert_allclose(got.slopes, 1.5, rtol=1e-13)


@pytest.mark.parametrize("p", [0.5, 1.0, 1.5, 2.0, 4.0])
def test_an_undeclared_order_is_the_slope_rounded_to_a_half(p: float) -> None:
    steps = np.array([64, 128, 256])
    apart = 1.0 if p % 1 == 0 else 0.5
    got = made(steps, steps**-p * (1 + steps**-apart))
    assert got.declared is None
    assert got.limit < 1e-13 and got.holds()
    assert made(steps, 0.1 + 0.01 * steps**-p).limit == pytest.approx(0.1, abs=5e-3)


def test_the_slope_must_be_near_the_declared_order_or_above() -> None:
    steps = np.array([64, 128, 256])
    first = made(steps, 1.0 / steps, declared=1.05)
    assert first.holds(limit=1.0) and not first.holds(within=0.04, limit=1.0)
    assert made(steps, 1.0 / steps**2, declared=1).holds(limit=1e-4)  # better than declared
    assert not made(steps, 1.0 / steps, declared=2).holds(limit=1.0)
    assert not made(steps, 1.0 / steps + 2e-6, declared=1).holds()
    assert made(steps, 1.0 / steps + 2e-6, declared=1).holds(limit=3e-6)


def test_errors_that_rise_from_nothing_have_a_limit_too() -> None:
    got = made([64, 128], [0.0, 1e-3])
    assert got.slope == -math.inf and math.isfinite(got.limit) and repr(got) and not got.holds()


@pytest.mark.parametrize("std", [1e-2, 100.0, 1e4])
@pytest.mark.parametrize("kind", ["strong", "flow"])
def test_limits_are_relative_to_the_data(kind: Any, std: float) -> None:
    # Under EDM the noise level may follow the data, so that only the units differ.
    sde = rs.EDM(sigma_min=0.5 * std, sigma_max=20 * std)
    target = rs.GaussianMixture([1.0], [[0.7 * std]], [std**2])
    process = (rs.ReverseSDE if kind == "strong" else rs.ProbabilityFlow)(sde, target.score(sde))
    got = order(process, EM, kind, steps=(64, 128, 256, 512), grid=rs.Grid.karras)
    assert got.scale == pytest.approx(std * math.sqrt(1.25), rel=0.02)
    assert got.holds() and got.limit < 1e-6 * got.scale
    loud = order(process, louder(EM) if kind == "strong" else scaled_score(EM, 1.001), kind,
                 steps=(64, 128, 256, 512), grid=rs.Grid.karras, declared=1)  # fmt: skip
    assert not loud.holds()


def test_a_lost_sample_is_an_infinite_error() -> None:
    def lossy(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
        new = EM(process, state, s, noise)
        return new._replace(x=np.where(s < 2e-3, np.nan, new.x))

    got = order(FLOW, lossy, "flow", steps=(8, 16, 32))
    assert np.isinf(got.errors).all() and got.limit == math.inf and not got.holds()


def test_the_forward_sde_runs_on_the_grid_turned_round() -> None:
    forward = rs.ForwardSDE(SDE)
    start = ([0.7], [[0.25]])
    got = order(forward, EM, "strong", start=start, steps=(64, 128, 256))
    assert got.slope == pytest.approx(1, abs=0.02)
    up = order(
        forward,
        EM,
        "strong",
        start=start,
        steps=(64, 128, 256),
        grid=lambda sde, n: rs.Grid.uniform(sde, n).reversed(),
    )
    np.testing.assert_array_equal(got.errors, up.errors)


def test_no_error_at_all_is_any_order() -> None:
    for errors in ([0.0, 0.0, 0.0], [1e-13, 2e-14, 5e-14]):
        for declared in (None, 1, 2):
            got = made([64, 128, 256], errors, declared)
            assert got.holds() and not got.has_slope and got.limit < 1e-12
            assert str(got) and repr(got)
    # a real one: the flow of N(0, 1) under VP stands still
    unit = rs.GaussianMixture([1.0], [[0.0]], [1.0])
    still = order(rs.ProbabilityFlow(SDE, unit.score(SDE)), HEUN, "flow", steps=(4, 8, 16))
    assert still.holds() and still.errors.max() < 1e-13


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_what_is_not_finite_does_not_hold(bad: float, where: int) -> None:
    errors = np.array([0.1, 0.01, 0.001])
    errors[where] = bad
    for declared in (None, 1):
        got = made([64, 128, 256], errors, declared)
        assert not got.holds(limit=math.inf) and not got.has_slope
        assert str(got) and repr(got)


def test_it_prints_as_a_table() -> None:
    got = made([64, 128, 256], [1 / 64, 1 / 128, 1 / 256], 1)
    assert str(got).splitlines() == [
        "strong order, declared 1",
        "     N       error  slope",
        "    64   1.562e-02",
        "   128   7.812e-03  1.000",
        "   256   3.906e-03  1.000",
        str(got).splitlines()[-1],
    ]
    assert str(got).splitlines()[-1].startswith("limit ")
    assert repr(got).startswith("Order(strong, slope 1 at N = 256, error 0.00391, limit ")
    assert str(made([64, 128], [1 / 64, 1 / 128])).startswith("strong order\n")


class Declares:
    """Euler's method, with orders to declare."""

    def __init__(self, orders: Any) -> None:
        self.orders = orders

    def __call__(self, *step: Any) -> rs.State:
        return EM(*step)


# -- what is refused -------------------------------------------------------------------------------

RING = rs.GaussianMixture.ring()
RING_FLOW = rs.ProbabilityFlow(SDE, RING.score(SDE))
BARE = rs.ProbabilityFlow(SDE, lambda x, t: -x)
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "kind": (lambda: order(FLOW, EM, "mean"), ValueError, "`kind`.*'weak'.*'flow', got 'mean'"),
    **{
        f"steps {steps}": (
            lambda steps=steps: order(FLOW, EM, steps=steps),
            ValueError,
            r"`steps` must be.*try \(64, 128, 256\)",
        )
        for steps in (64, (64,), (128, 64), (64, 64), (0, 64), (-1, 2), (64.0, 128.0), (), "64")
    },
    "grid": (lambda: order(FLOW, EM, grid=rs.Grid.uniform(SDE, 8)), TypeError, "`grid` must be a"),
    "grid of none": (lambda: order(FLOW, EM, grid=lambda sde, n: None), ValueError, "`grid` must"),
    "grid of others": (
        lambda: order(FLOW, EM, grid=lambda sde, n: rs.Grid.uniform(sde, 8)),
        ValueError,
        r"`grid` must return a Grid of the n = 64 steps .* got Grid\(8 steps",
    ),
    "ragged steps": (
        lambda: order(FLOW, EM, steps=[64, [128]]),  # type: ignore[list-item]
        ValueError,
        r"`steps` must be.*try \(64, 128, 256\)",
    ),
    **{
        f"declared {wrong}": (
            lambda wrong=wrong: order(FLOW, EM, declared=wrong),
            ValueError,
            "`declared` must be a positive number",
        )
        for wrong in (0, -1, math.nan, math.inf, "2", True)
    },
    **{
        f"orders {orders}": (
            lambda orders=orders: order(FLOW, Declares(orders)),
            ValueError,
            "`orders` of the solver must map",
        )
        for orders in (None, {"weak": "1"}, {"weak": -1}, {"weka": 1}, [("weak", 1)])
    },
    "mixture": (lambda: order(RING_FLOW, EM, "weak"), ValueError, "not Gaussian.*exact.flow"),
    "mixture, strong": (lambda: order(RING_FLOW, EM, "strong"), ValueError, "not Gaussian"),
    "flow of an SDE": (
        lambda: order(REVERSE, EM, "flow"),
        TypeError,
        r"`kind` = 'flow' needs a ProbabilityFlow.*use refsde.ProbabilityFlow\(sde, target",
    ),
    "flow without target": (lambda: order(BARE, EM, "flow"), TypeError, "score of a target"),
    "weak without target": (lambda: order(BARE, EM), ValueError, "needs a Gaussian target"),
    "strong without": (lambda: order(BARE, EM, "strong"), ValueError, "needs a Gaussian target"),
    "solver": (lambda: order(FLOW, rs.Ancestral()), TypeError, "`solver` Ancestral.*use it on"),
    "class": (lambda: order(FLOW, rs.Heun), TypeError, r"`solver`.*pass Heun\(\)"),  # type: ignore[arg-type]
    "start": (lambda: order(FLOW, EM, start="data"), ValueError, "`start`.*'data'"),
    "no process": (lambda: order(TARGET, EM), TypeError, "`process` must be"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input(name: str) -> None:
    call, problem, message = REFUSED[name]
    with pytest.raises(problem, match=message):
        call()
