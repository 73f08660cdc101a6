"""The measured figures of the DEIS family, every cell of every table, and its orders.

Runs are deterministic: what is compared are printed digits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from _deis_problems import ALIASES, ROWS, SDE, M, grid, problem
from _deis_tables import (
    END_TIME_ERRORS,
    END_TIMES,
    GAUSSIAN,
    IMAGES,
    KAPPA,
    NARROW,
    OTHERS,
    QUADRATIC,
    REGRESSION,
    RK45,
    VARIANCE,
    rounds_to,
)
from scipy.special import ndtr, ndtri

import refsde as rs
from refsde.testing._solver_case import modes_grid

PROBLEMS = ("modes", "ring")


def rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def test_the_exact_images() -> None:
    for name, rows in IMAGES.items():
        case = problem(name)
        for i, text in rows.items():
            x, image = (np.array([float(v) for v in part.split(",")]) for part in text.split(";"))
            np.testing.assert_allclose(case.x[i], x, atol=6e-13)
            np.testing.assert_allclose(case.exact[i], image, atol=2e-12)


@pytest.mark.parametrize("row", REGRESSION)
def test_six_digits(row: str) -> None:
    n, *both = REGRESSION[row].split("; ")
    for name, cells in zip(PROBLEMS, both, strict=True):
        for method, cell in zip(
            ALIASES.get(row, row).split(" / "), cells.split(" / "), strict=True
        ):
            got = problem(name).rms(ROWS[method][0], grid("t2", int(n)))
            assert got == pytest.approx(float(cell), rel=1e-6), (name, method)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_quadratic_grid(name: str) -> None:
    for row, text in QUADRATIC[name].items():
        solver, each = ROWS[row]
        for nfe, cell in zip((5, 10, 15, 20, 50), text.split("; "), strict=True):
            errors = problem(name).errors(solver, grid("t2", nfe // each))
            mean, middle = cell.rstrip(")").split(" (")
            assert rounds_to(rms(errors), mean), (row, nfe)
            assert rounds_to(float(np.median(errors)), middle), (row, nfe)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_other_grids(name: str) -> None:
    for row, text in OTHERS[name].items():
        solver, each = ROWS[row]
        for nfe, cells in zip((5, 10, 20, 50), text.split("; "), strict=True):
            for spacing, cell in zip(("t1", "log", "edm"), cells.split(" / "), strict=True):
                got = problem(name).rms(solver, grid(spacing, nfe // each))
                assert rounds_to(got, cell), (row, nfe, spacing)


@pytest.mark.parametrize("kappa", KAPPA)
def test_powers_of_t(kappa: str) -> None:
    columns = [(name, row) for name in PROBLEMS for row in ("DDIM", "tAB3")]
    for (name, row), cells in zip(columns, KAPPA[kappa].split("; "), strict=True):
        for n, cell in zip((5, 10, 20), cells.replace(" ", "").split("/"), strict=True):
            got = problem(name).rms(ROWS[row][0], grid("t" + kappa, n))
            assert rounds_to(got, cell), (name, row, n)


@pytest.mark.parametrize("row", NARROW)
def test_near_singular_data(row: str) -> None:
    spacing, name = row.split(" ", 1)
    solver = ROWS[name.replace("EI-", "EI ")][0]
    for i, cell in enumerate(NARROW[row].split("; ")):
        case = problem(("narrow modes", "narrow ring")[i // 4])
        errors = case.errors(solver, grid(spacing, (5, 10, 20, 50)[i % 4]))
        mean, middle = cell.rstrip(")").split(" (")
        assert rounds_to(rms(errors), mean), (row, i)
        assert rounds_to(float(np.median(errors)), middle), (row, i)


@pytest.mark.parametrize("std", GAUSSIAN)
def test_one_gaussian(std: str) -> None:
    """Relative error of the factor by which the flow shrinks."""
    s = float(std)
    target = rs.GaussianMixture([1.0], [[0.0]], [s * s])
    flow, x = rs.ProbabilityFlow(SDE, target.score(SDE)), np.ones((1, 1))
    exact = rs.exact.flow(SDE, target, x, 1.0, 1e-3).item()
    columns = [(spacing, n) for spacing in ("t1", "t2") for n in (10, 20)]
    for (spacing, n), cells in zip(columns, GAUSSIAN[std].split("; "), strict=True):
        for row, cell in zip(("Euler-t", "EI score", "DDIM"), cells.split(" / "), strict=True):
            got = rs.sample(flow, ROWS[row][0], x=x, times=grid(spacing, n)).x.item()
            error = abs(got / exact - 1)
            assert rounds_to(error, cell), (row, n)


# -- ends -----------------------------------------------------------------------------------------

LEVELS = (np.arange(2000) + 0.5) / 2000


def quantiles(target: Any) -> np.ndarray:
    """Quantiles of a mixture on the line, by bisection."""
    low, high = np.full(len(LEVELS), -20.0), np.full(len(LEVELS), 20.0)
    std = np.sqrt(np.squeeze(target.covs))
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = ndtr((middle[:, None] - target.means[:, 0]) / std) @ target.weights < LEVELS
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def test_end_times() -> None:
    """Distance of the exact flow from N(0, 1) to the data, as it is and denoised."""
    target, data = problem("modes").target, quantiles(problem("modes").target)
    x = ndtri(LEVELS)[:, None]
    for end, text in END_TIMES.items():
        t = float(end)
        at_end = rs.exact.flow(SDE, target, x, 1.0, t)
        denoised = np.asarray(target.score(SDE).denoise(at_end, t))
        _, raw, after = text.split("; ")
        assert rounds_to(rms(at_end[:, 0] - data), raw), end
        assert rounds_to(rms(denoised[:, 0] - data), after), end


def test_errors_against_the_data() -> None:
    target, data = problem("modes").target, quantiles(problem("modes").target)
    flow, x = rs.ProbabilityFlow(SDE, target.score(SDE)), ndtri(LEVELS)[:, None]
    columns = [(s, g) for g in ("t2", "log") for s in (rs.TAB(0), rs.TAB(3))]
    for end, text in END_TIME_ERRORS.items():
        for (solver, spacing), cells in zip(columns, text.split("; "), strict=True):
            for n, cell in zip((5, 10, 20, 50), cells.split("/"), strict=True):
                make = rs.Grid.logsnr if spacing == "log" else rs.Grid.power
                ts = make(SDE, n, t_end=float(end))
                got = np.sort(rs.sample(flow, solver, x=x, times=ts).x[:, 0])
                assert rounds_to(rms(got - data), cell), (end, spacing, n)


@pytest.mark.parametrize("tol", RK45)
def test_rk45(tol: str) -> None:
    """SciPy's pair on a whole batch, in t."""
    cells = RK45[tol].split("; ")
    for name, cell in zip(PROBLEMS, (cells[0], cells[2]), strict=True):
        calls, error = cell.split(": ")
        case, accuracy = problem(name), float(tol)
        solver = rs.BlackBox("RK45", accuracy, accuracy)
        run = rs.sample(case.flow, solver, x=case.x)
        assert run.nfe[0] == int(calls)
        got = rms(np.linalg.norm(run.x - case.exact, axis=1))
        assert rounds_to(got, error), (got, error)


DATA = rs.GaussianMixture([1.0], [[0.7]], [0.09])
STOCHASTIC: dict[str, Any] = {
    "Euler–Maruyama": rs.EulerMaruyama(),
    "SEEDS-1": rs.SEEDS(1),
    "SDE++1 / DDIM(1)": rs.DDIM(1.0),
    "SDE++1 tau=0.5": rs.SDEDPMSolverPP(1, 0.5),
    "DDIM eta=0.5": rs.DDIM(0.5),
    "SDE++2M (half)": rs.SDEDPMSolverPP(2),
    "SDE++2M (exact phi2)": rs.SDEDPMSolverPP(2, variant="exact"),
    "SDE++3M (as coded)": rs.SDEDPMSolverPP(3),
    "SDE++3M (2F)": rs.SDEDPMSolverPP(3, variant="exact"),
    "SEEDS-2": rs.SEEDS(2),
    "DPM++ SDE 2S tau=1": rs.SDEDPMSolverPP(2, singlestep=True),
    "EDM churn Heun, S_churn=40": rs.Churn(rs.RhoRK("2heun"), 40.0),
}


def variance_errors(solver: Any, steps: Any = (10, 20, 40, 80, 160)) -> list[float]:
    made = rs.ProbabilityFlow if "flow" in solver.accepts else rs.ReverseSDE
    process = rs.ReverseSDE(SDE, DATA.score(SDE))
    if "reverse" not in solver.accepts:
        process = made(SDE, DATA.score(SDE))
    exact = DATA.at(SDE, 0.02)
    errors = []
    for n in steps:
        law = rs.exact.law(process, solver, rs.Grid.logsnr(SDE, n, 0.02))
        errors.append(abs(law.cov.item() - exact.cov.item()))
        if not isinstance(solver, rs.EulerMaruyama):  # exponential integrators have the mean
            assert abs(law.mean.item() - exact.mean.item()) < 1e-14
    return errors


@pytest.mark.parametrize("row", VARIANCE)
def test_variances_of_stochastic_samplers(row: str) -> None:
    got = variance_errors(STOCHASTIC[row])
    for error, cell in zip(got, VARIANCE[row].split("; ")[:5], strict=True):
        assert rounds_to(error, cell), (row, error, cell)


def test_a_stage_noise_that_is_drawn_again_is_found() -> None:
    """The mutant of SEEDS-2 that forgets its stage's noise has a limit."""

    class Forgetful(rs.ExponentialRK):
        def _noise(self, process: Any, carried: Any, *rest: Any) -> Any:
            return super()._noise(process, None, *rest)

    engine = rs.SEEDS(2).method
    mutant = Forgetful(engine.tableau, engine.prediction, engine.placement, engine.tau)
    errors = variance_errors_of_any(mutant)
    assert errors[-1] > 0.03 and errors[-1] > 0.9 * errors[-2]


def variance_errors_of_any(solver: Any) -> list[float]:
    process, exact = rs.ReverseSDE(SDE, DATA.score(SDE)), DATA.at(SDE, 0.02).cov.item()
    laws = [rs.exact.law(process, solver, rs.Grid.logsnr(SDE, n, 0.02)) for n in (80, 160)]
    return [abs(law.cov.item() - exact) for law in laws]


# -- orders ---------------------------------------------------------------------------------------

ORDERS: list[tuple[Any, float]] = [
    (rs.TAB(1), 2), (rs.TAB(2), 3), (rs.TAB(3), 4),
    (rs.RhoAB(1), 2), (rs.RhoAB(2), 3), (rs.RhoAB(3), 4),
    (M("eps", "lam", 1), 2), (M("eps", "lam", 2), 3),
    (M("x0", "lam", 1), 2), (M("x0", "lam", 2), 3), (M("x0", "lam", 3), 4),
    (rs.IPNDM(2), 2), (rs.IPNDM(4), 2), (rs.IPNDM(4, "rk4"), 2),
    (rs.DPMSolverPP(2), 2), (rs.DPMSolverPP(3), 2), (rs.DPMSolverPP(3, "exact"), 3),
    (M("x0", "lam", 1, True, shortcut="halved"), 2),
    (M("x0", "lam", 2, True, shortcut="halved"), 3),
    (rs.UniPC(2), 3), (rs.UniPC(2, "B1"), 3), (rs.UniPC(3), 4), (rs.UniPC(3, "B1"), 4),
    (rs.UniPC(3, last_step_rule="lower"), 2), (rs.UniPC(3, prediction="eps"), 4),
    (rs.RhoRK("2heun"), 2), (rs.RhoRK("2midpoint"), 2), (rs.DPMSolver(2), 2),
    (rs.DPMSolver(2, 1.0), 2), (rs.DPMSolverPP(2, singlestep=True), 2),
    (rs.RhoRK("3kutta"), 3), (rs.RhoRK("3heun"), 3), (rs.RhoRK("3ralston"), 3),
    (rs.RhoRK("3vdhouwen"), 3), (rs.RhoRK("3ssprk"), 3), (rs.DPMSolver(3), 3),
    (rs.DPMSolver(3, variant="taylor"), 3), (rs.DPMSolverPP(3, singlestep=True), 3),
    (rs.RhoRK("4rk"), 4), (rs.Angular(2, last_step_rule="full"), 4),
    (rs.Angular(3, last_step_rule="full"), 5),
]  # fmt: skip


@pytest.mark.parametrize(("solver", "order"), ORDERS)
def test_orders_on_three_modes(solver: Any, order: float) -> None:
    steps = (80, 160, 320)
    got = rs.exact.order(problem("modes").flow, solver, "flow", steps=steps, grid=modes_grid)
    assert abs(got.slope - order) < 0.25, got
    assert solver.orders["flow"] == order


def test_a_wrong_coefficient_loses_the_order() -> None:
    """The mutant of the order tests: half the curvature costs an order, so does a constant's."""
    flow = problem("modes").flow
    for good, bad in ((rs.DPMSolverPP(3, "exact"), rs.DPMSolverPP(3)), (rs.RhoAB(3), rs.IPNDM(4))):
        slopes = [
            rs.exact.order(flow, s, "flow", steps=(80, 160, 320), grid=modes_grid).slope
            for s in (good, bad)
        ]
        assert slopes[0] - slopes[1] > 0.7


# -- headlines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_ten_evaluations_of_tab3_beat_fifty_of_ddim(name: str) -> None:
    case = problem(name)
    ten = case.rms(rs.TAB(3), grid("t2", 10))
    assert ten < case.rms(rs.DDIM(), grid("t2", 50))
    assert 6 * ten < case.rms(rs.DDIM(), grid("t2", 10))


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("nfe", [5, 8, 10, 15])
def test_angular_beats_every_published_row_on_every_grid(name: str, nfe: int) -> None:
    case = problem(name)
    ours = case.rms(rs.Angular(), rs.Grid.angular(SDE, nfe))
    for row, (solver, each) in ROWS.items():
        for spacing in ("t1", "t2", "log", "edm"):
            if nfe // each >= getattr(solver, "least_steps", 1):
                other = case.rms(solver, grid(spacing, nfe // each))
                assert ours < other or math.isnan(other), (row, spacing)
