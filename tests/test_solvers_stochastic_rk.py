"""Stochastic Runge-Kutta methods: their tables, paths, laws, errors and identities.

Strong slopes are measured on a nonlinear scalar SDE, because on Gaussian data (where all is exact)
methods of strong order 1.5 show order 2.  The paths and the seed are fixed: no test can fail by
chance on one machine, and the tolerances leave several standard errors for others.
"""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from _strong import shark as shark_by_hand
from _tableaux import conditions, flipped, roessler

import refsde as rs
from refsde.solvers._srk_step import Tableau

SRA: dict[str, Any] = {
    "SRA1": rs.SRA1(),
    "SRA2": rs.SRA2(),
    "SRA3": rs.SRA3(),
    "SOSRA": rs.SOSRA(),
    "SOSRA2": rs.SOSRA2(),
}
ORDER_1_5 = {**SRA, "ShARK": rs.ShARK()}
ALL = {**ORDER_1_5, "SEA": rs.SEA()}
FLIPPED = {name: flipped(SRA[name]) for name in ("SRA2", "SRA3")}
SDE = rs.VP()


# -- the tables ------------------------------------------------------------------------------------


def bound(name: str) -> float:
    """SOSRA's beta1 has entries of 17, which rounding alone moves by 1.8e-15."""
    return 2e-15 if name == "SOSRA" else 1e-15


@pytest.mark.parametrize("name", ORDER_1_5)
def test_conditions_of_strong_order_one_and_a_half(name: str) -> None:
    assert max(conditions(ORDER_1_5[name].tableau).values()) <= bound(name)


@pytest.mark.parametrize("name", SRA)
def test_roesslers_conditions(name: str) -> None:
    table = SRA[name].tableau
    assert max(roessler(table).values()) <= bound(name)
    assert [[2 * w for w in row] for row in table.BW] == [list(row) for row in table.BH]


@pytest.mark.parametrize("name", SRA)
def test_a_flipped_table_fails_one_condition(name: str) -> None:
    lacks = roessler(flipped(SRA[name]).tableau)
    assert [what for what, lack in lacks.items() if lack > bound(name)] == ["beta2 c1 = -1"]
    assert lacks["beta2 c1 = -1"] == pytest.approx(2, abs=1e-14)


def test_shifted_euler_lacks_what_one_stage_cannot_have() -> None:
    failed = {what for what, lack in conditions(rs.SEA().tableau).items() if lack > 1e-15}
    assert failed == {"alpha A e = 1/2", "alpha (BW e)^2 + (BH e)^2 / 12 = 1/2", "nodes"}
    assert "alpha c0 = 1/2" in {
        what for what, lack in conditions(rs.SEA(c=0.0).tableau).items() if lack > 1e-15
    }


def test_published_numbers_are_converted() -> None:
    table = rs.ShARK.tableau
    assert (table.c0, table.c1, table.alpha) == ((0, 5 / 6), (0, 1), (0.4, 0.6))
    assert (table.BW, table.BH) == (((0,), (5 / 6,)), ((1,), (1,)))
    assert (table.bW, table.bH) == ((0.5, 0.5), (1, -1))
    # Another code has SRA1 in the form of the shifted methods, where g is that of t in the stages.
    other = Tableau.foster((0, 0.75), ((), (0.75,)), b=(1 / 3, 2 / 3), aW=(0, 0.75), aH=(0, 1.5))
    ours = rs.SRA1.tableau
    assert (other.bW, other.bH) == (ours.bW[::-1], ours.bH[::-1]) and other.c1 == ours.c1[::-1]
    assert (other.A, other.alpha, other.c0) == (ours.A, ours.alpha, ours.c0)
    assert other.BW[1] == ours.BW[1] and other.BH[1] == ours.BH[1]


@pytest.mark.parametrize("name", ALL)
def test_weights_of_the_difference(name: str) -> None:
    """They are the b_err of the tables that print one, and vanish on a constant drift."""
    table = ALL[name].tableau
    assert sum(table.difference) == pytest.approx(0, abs=1e-15)
    assert table.difference[1:] == table.alpha[1:]
    printed = {"ShARK": (-0.6, 0.6), "SRA1": (-2 / 3, 2 / 3), "SEA": (0,)}
    assert table.difference == printed.get(name, table.difference)


# -- along one path --------------------------------------------------------------------------------


class Wave:
    """dx = (sin 2x - x + cos 3t) dt + (1 + 0.8 sin 4t) dw, written as a student would."""

    kind, stochastic, sde = "forward", True, SDE

    def __init__(self) -> None:
        self.score = self.eps = self.denoise = None  # it has none

    def drift(self, x: Any, t: Any) -> Any:
        return np.sin(2 * x) - x + np.cos(3 * t)

    def diffuse(self, dw: Any, t: Any) -> Any:
        return (1 + 0.8 * np.sin(4 * t)) * dw

    def colour(self, z: Any) -> Any:
        return z

    gram = colour

    def at(self, t: Any, s: Any) -> Any:
        return self


EM, HEUN = rs.EulerMaruyama(), rs.Heun()
LEVELS, N_PATHS = (3, 5, 6, 7, 8), 4000
ON_PATHS: dict[str, Any] = {
    "EM": EM,
    "IE": HEUN,
    "SEA c=0": rs.SEA(c=0.0),
    **ALL,
    "flipped SRA2": FLIPPED["SRA2"],
    "flipped SRA3": FLIPPED["SRA3"],
}
PRINTED = {  # root mean square errors at h = 2^-8, 2^-5, 2^-3
    "EM": (5.71e-3, 4.55e-2, 1.90e-1),
    "IE": (2.34e-3, 1.83e-2, 7.33e-2),
    "SEA c=0": (3.22e-3, 2.60e-2, 1.07e-1),
    "SEA": (1.58e-3, 1.30e-2, 5.75e-2),
    "SRA1": (1.01e-4, 2.48e-3, 2.43e-2),
    "SRA2": (9.98e-5, 2.35e-3, 2.00e-2),
    "SRA3": (1.00e-4, 2.35e-3, 1.95e-2),
    "SOSRA": (1.01e-4, 2.46e-3, 2.53e-2),
    "SOSRA2": (1.02e-4, 2.68e-3, 2.87e-2),
    "ShARK": (8.46e-5, 1.95e-3, 2.02e-2),
    "flipped SRA2": (8.74e-3, 7.00e-2, 2.8e-1),
    "flipped SRA3": (8.74e-3, 7.00e-2, 2.8e-1),
}


@pytest.fixture(scope="module")
def path_errors() -> dict[str, dict[int, float]]:
    """Root mean square errors at T = 1 with steps 2^-k, against one fine run on the same path."""
    path = rs.StoredPath.draw(np.linspace(0, 1, 2**11 + 1), (N_PATHS, 1), rng=0, levy=True)

    def end(solver: Any, k: int) -> np.ndarray:
        grid, x = rs.Grid(np.linspace(0, 1, 2**k + 1)), np.zeros((N_PATHS, 1))
        wave: Any = Wave()
        return np.asarray(rs.sample(wave, solver, x=x, times=grid, noise=path).x)

    exact = end(shark_by_hand, 11)
    return {
        name: {k: float(np.sqrt(np.mean((end(solver, k) - exact) ** 2))) for k in LEVELS}
        for name, solver in ON_PATHS.items()
    }


@pytest.mark.parametrize("name", ON_PATHS)
def test_strong_slopes(name: str, path_errors: dict[str, dict[int, float]]) -> None:
    """From 2^-6 to 2^-8; that of a flipped table is 1, which is the mutant."""
    errors = path_errors[name]
    slope = math.log2(errors[6] / errors[8]) / 2
    assert abs(slope - (1.5 if name in ORDER_1_5 else 1)) < 0.1
    if name in ("EM", "IE", *ALL):
        solver: Any = ON_PATHS[name]
        assert solver.orders["strong"] == (1.5 if name in ORDER_1_5 else 1)


@pytest.mark.parametrize("name", PRINTED)
def test_printed_errors_along_paths(name: str, path_errors: dict[str, dict[int, float]]) -> None:
    # Printed of 4000 other paths: an error has a relative standard error of some 2 %, the largest
    # ones, of few coarse steps, the same.
    got = [path_errors[name][k] for k in (8, 5, 3)]
    np.testing.assert_allclose(got, PRINTED[name], rtol=0.1)


def test_errors_compare_as_told(path_errors: dict[str, dict[int, float]]) -> None:
    at_8 = {name: errors[8] for name, errors in path_errors.items()}
    for name in FLIPPED:
        assert at_8[f"flipped {name}"] > 50 * at_8[name] and at_8[f"flipped {name}"] > at_8["EM"]
    assert at_8["SEA"] < at_8["IE"], "one evaluation a step against two"
    assert at_8["SEA"] < 0.5 * at_8["SEA c=0"] < at_8["EM"]


# -- along one path of the reverse SDE, with the exact score of a mixture --------------------------

MODES = rs.GaussianMixture([0.3, 0.3, 0.4], [[-2.0], [0.0], [1.5]], [0.09, 0.04, 0.16])
ON_MIXTURE = ("EM", "IE", *ALL, "flipped SRA2")


@pytest.fixture(scope="module")
def mixture_slopes() -> dict[str, float]:
    """Strong slopes from 128 to 512 equal steps down to t = 0.2, 1000 paths from exact starts."""
    n, process = 1000, rs.ReverseSDE(SDE, MODES.score(SDE))
    path = rs.StoredPath.draw(np.linspace(1, 0.2, 2**12 + 1), (n, 1), rng=0, levy=True)
    x = MODES.at(SDE, 1.0).sample(n, rng=1)

    def end(solver: Any, k: int) -> np.ndarray:
        grid = rs.Grid(np.linspace(1, 0.2, 2**k + 1))
        return np.asarray(rs.sample(process, solver, x=x, times=grid, noise=path).x)

    exact = end(shark_by_hand, 12)

    def slope(solver: Any) -> float:
        a, b = (np.sqrt(np.mean((end(solver, k) - exact) ** 2)) for k in (7, 9))
        return math.log2(a / b) / 2

    return {name: slope(ON_PATHS[name]) for name in ON_MIXTURE}


@pytest.mark.parametrize("name", ON_MIXTURE)
def test_strong_slopes_on_a_mixture(name: str, mixture_slopes: dict[str, float]) -> None:
    assert abs(mixture_slopes[name] - (1.5 if name in ORDER_1_5 else 1)) < 0.1


# -- laws on Gaussian data, exactly ----------------------------------------------------------------

STEPS = (50, 100, 200, 400, 800)
WEAK = {  # relative error of the variance: N(0, s0^2), VP(0.1, 20), uniform grid from 1 to 1e-3
    ("SRA1", 0.25): "1.941e-02 4.872e-03 1.229e-03 3.092e-04 7.760e-05",
    ("SRA2", 0.25): "7.708e-03 2.203e-03 5.875e-04 1.516e-04 3.848e-05",
    ("SRA3", 0.25): "-2.159e-02 -5.076e-03 -1.217e-03 -2.969e-04 -7.325e-05",
    ("SOSRA", 0.25): "2.387e-02 6.635e-03 1.777e-03 4.628e-04 1.183e-04",
    ("ShARK", 0.25): "-9.880e-03 -2.203e-03 -5.134e-04 -1.234e-04 -3.021e-05",
    ("SEA", 0.25): "-2.039e-01 -9.746e-02 -4.748e-02 -2.341e-02 -1.162e-02",
    ("SRA1", 1.0): "2.730e-04 6.728e-05 1.683e-05 4.227e-06 1.061e-06",
    ("SRA2", 1.0): "1.364e-04 3.775e-05 9.892e-06 2.530e-06 6.396e-07",
    ("SRA3", 1.0): "-2.546e-03 -6.370e-04 -1.591e-04 -3.975e-05 -9.931e-06",
    ("ShARK", 1.0): "-1.559e-03 -3.892e-04 -9.710e-05 -2.424e-05 -6.053e-06",
}  # those of EM and Heun: test_exact_errors


def process_of(s0: float, mean: float = 0.0) -> rs.ReverseSDE:
    return rs.ReverseSDE(SDE, rs.GaussianMixture([1.0], [[mean]], [s0**2]).score(SDE))


@pytest.mark.parametrize(("name", "s0"), WEAK)
def test_the_printed_variance_errors(name: str, s0: float) -> None:
    process = process_of(s0)
    got = [rs.exact.weak_error(process, ALL[name], n).variance for n in STEPS]
    assert " ".join(f"{error:.3e}" for error in got) == WEAK[name, s0]


@pytest.mark.parametrize("name", ALL)
def test_the_checks_of_solvers_pass(name: str) -> None:
    report = rs.testing.check_solver(ALL[name])
    weak, strong = (float(report[f"{what}_order"].measured) for what in ("weak", "strong"))
    assert abs(weak - ALL[name].orders["weak"]) < 0.05
    assert abs(strong - (1 if name == "SEA" else 2)) < 0.05  # 2, because the drift is affine


@pytest.mark.parametrize("name", FLIPPED)
def test_a_flipped_table_fails_the_checks(name: str) -> None:
    report = rs.testing.check_solver(FLIPPED[name], on_fail="report")
    assert not report.passed
    for what in ("weak", "strong"):
        finding = report[f"{what}_order"]
        assert not finding.passed and abs(float(finding.measured) - 1) < 0.02


def test_strong_order_buys_no_sample_quality() -> None:
    """Heun's law is the better one on narrow data, at the same price or less."""
    process = process_of(0.25)
    heun = abs(rs.exact.weak_error(process, HEUN, 50).variance)
    for solver in ORDER_1_5.values():
        assert abs(rs.exact.weak_error(process, solver, 50).variance) > 1.5 * heun


def test_shifted_euler_has_the_better_path_and_the_worse_law() -> None:
    process, grid = process_of(0.25), rs.Grid.uniform(SDE, 400)
    path = [rs.exact.strong_error(process, s, grid) for s in (rs.SEA(), EM)]
    law = [abs(rs.exact.weak_error(process, s, grid).variance) for s in (rs.SEA(), EM)]
    assert path[0] < path[1] and law[0] > 3 * law[1]


# -- identities ------------------------------------------------------------------------------------


class Given:
    """Noise of one step: this increment and this area."""

    def __init__(self, dw: Any, area: Any) -> None:
        self.dw, self.area = np.asarray(dw), np.asarray(area)

    def levy(self, t: Any, s: Any, x: Any) -> tuple[Any, Any]:
        return self.dw, self.area


class Equation:
    """A process with drift a(x, t) and diffusion g(t), which notes where it is asked for them."""

    kind, stochastic = "forward", True

    def __init__(self, a: Any, g: Any) -> None:
        self.a, self.g = a, g
        self.drifts: list[Any] = []
        self.kicks: list[Any] = []

    def drift(self, x: Any, t: Any) -> Any:
        self.drifts.append(t)
        return self.a(x, t)

    def diffuse(self, dw: Any, t: Any) -> Any:
        self.kicks.append(t)
        return self.g(t) * dw


X = np.array([[0.3, -1.0], [2.0, 0.5], [-0.7, 0.1]])
DW, AREA = np.random.default_rng(0).normal(size=(2, *X.shape))


def one(solver: Any, a: Any, g: Any, t: Any = 0.4, s: Any = 0.7, noise: Any = None) -> rs.State:
    process: Any = Equation(a, g)
    return rs.State(*solver(process, rs.State(t, X), s, noise or Given(DW, AREA)))


def bend(x: Any, t: Any) -> Any:
    return np.sin(x) + t * x


def test_by_hand() -> None:
    """ShARK, and SRA1 in the other direction of time."""
    got, want = (one(s, bend, np.exp).x for s in (rs.ShARK(), shark_by_hand))
    np.testing.assert_allclose(got, want, rtol=1e-14)
    t, s = 0.7, 0.4
    h, chi = s - t, DW / 2 + AREA
    a = bend(X, t)
    b = bend(X + 0.75 * h * a + 1.5 * np.exp(s) * chi, t + 0.75 * h)
    want = X + h * (a + 2 * b) / 3 + np.exp(s) * DW + (np.exp(t) - np.exp(s)) * chi
    np.testing.assert_allclose(one(rs.SRA1(), bend, np.exp, t, s).x, want, rtol=1e-14)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("t", "s"), [(0.4, 0.7), (0.7, 0.4)])
def test_a_linear_diffusion_is_integrated_exactly(name: str, t: float, s: float) -> None:
    """By parts: the integral of g dw is g(s) dw less the slope times the time integral of w."""
    got = one(ALL[name], lambda x, t: 0 * x, lambda t: 2 + 3 * t, t, s)
    want = X + (2 + 3 * s) * DW - 3 * (s - t) * (DW / 2 + AREA)
    np.testing.assert_allclose(got.x, want, rtol=1e-13)
    wrong = one(flipped(ALL[name]), lambda x, t: 0 * x, lambda t: 2 + 3 * t, t, s)
    assert np.abs(wrong.x - want).max() > 0.1


@pytest.mark.parametrize("name", ALL)
def test_the_run_is_that_of_a_clock_that_runs_forward(name: str) -> None:
    """dx = a dt + g dw with dt < 0 is dx = -a(1 - tau) dtau + g(1 - tau) dw."""
    back = one(ALL[name], bend, np.exp, 0.7, 0.4).x
    there = one(ALL[name], lambda x, t: -bend(x, 1 - t), lambda t: np.exp(1 - t), 0.3, 0.6).x
    np.testing.assert_allclose(back, there, rtol=1e-13)


def test_with_constant_diffusion_sra2_is_sra1() -> None:
    got, want = (one(s, bend, lambda t: 1.5).x for s in (rs.SRA2(), rs.SRA1()))
    np.testing.assert_allclose(got, want, rtol=1e-14)


def ralston(x: Any, t: float, h: float) -> Any:
    a = bend(x, t)
    return x + h * (a + 2 * bend(x + 0.75 * h * a, t + 0.75 * h)) / 3


def shu_osher(x: Any, t: float, h: float) -> Any:
    u = x + h * bend(x, t)
    u = 0.75 * x + 0.25 * (u + h * bend(u, t + h))
    return (x + 2 * (u + h * bend(u, t + h / 2))) / 3


def five_sixths(x: Any, t: float, h: float) -> Any:
    a = bend(x, t)
    return x + h * (0.4 * a + 0.6 * bend(x + 5 / 6 * h * a, t + 5 / 6 * h))


QUIET = Given(0 * X, 0 * X)


@pytest.mark.parametrize(
    ("name", "rule"),
    [("SRA1", ralston), ("SRA2", ralston), ("SRA3", shu_osher), ("ShARK", five_sixths)],
)
@pytest.mark.parametrize("h", [0.3, -0.3])
def test_without_noise_they_are_known_methods(name: str, rule: Any, h: float) -> None:
    got = one(ALL[name], bend, np.exp, 0.4, 0.4 + h, QUIET).x
    np.testing.assert_allclose(got, rule(X, 0.4, h), rtol=1e-14)


@pytest.mark.parametrize("name", ALL)
def test_orders_without_noise(name: str) -> None:
    def end(n: int, solver: Any = ALL[name]) -> np.ndarray:
        state, ts = rs.State(0.4, X), np.linspace(0.4, 1.4, n + 1).tolist()
        process: Any = Equation(bend, np.exp)
        for s in ts[1:]:
            state = solver(process, state, s, QUIET)
        return np.asarray(state.x)

    exact = end(2000, rs.SRA3())
    slope = math.log2(np.abs(end(40) - exact).max() / np.abs(end(80) - exact).max())
    assert abs(slope - {"SRA3": 3, "SEA": 1}.get(name, 2)) < 0.1


def test_the_shift_of_shifted_euler() -> None:
    """Half-way, a drift that is linear in time is integrated exactly; at c = 0 it is not."""
    for c, mean in ((0.5, 0.55), (0.0, 0.4), (1.0, 0.7)):
        got = one(rs.SEA(c=c), lambda x, t: 0 * x + t, lambda t: 1.0).x
        np.testing.assert_allclose(got, X + 0.3 * mean + DW, rtol=1e-14)
    assert rs.SEA() == rs.SEA(c=0.5) != rs.SEA(c=0.0)
    for copied in (
        copy.copy(rs.SEA(c=0.0)),
        pickle.loads(pickle.dumps(rs.SEA(c=0.0))),
        replace(rs.SEA(c=0.0), rtol=0.1),
    ):
        assert copied.tableau.c0 == (0.0,) and rs.SEA.tableau.c0 == (0.5,)


@pytest.mark.parametrize("name", ALL)
def test_one_clock_a_sample(name: str) -> None:
    t, s = np.array([[0.1], [0.5], [0.9]]), np.array([[0.2], [0.3], [0.95]])
    together = one(ALL[name], bend, np.exp, t, s)
    assert together.error is not None or name == "SEA"
    for i, (a, b) in enumerate(zip(t[:, 0].tolist(), s[:, 0].tolist(), strict=True)):
        alone = one(ALL[name], bend, np.exp, a, b)
        np.testing.assert_allclose(together.x[i], alone.x[i], rtol=1e-14)
        if together.error is not None and alone.error is not None:
            np.testing.assert_allclose(together.error[i], alone.error[i], rtol=1e-13)


NODES = {  # times of a step from 0 to 1 at which the diffusion is needed, with their number
    "SRA1": [1, 1, 0],
    "SRA2": [1 / 3, 1 / 3, 1],
    "SRA3": [1, 0, 1, 0],
    "SOSRA": [0, 0, 0.041248171110700504, 0, 0.041248171110700504, 1],
    "SOSRA2": [0, 0, 1, 0, 1, 1],
    "ShARK": [0, 0, 0, 1],
    "SEA": [0, 0, 1],
}


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_evaluated_in_vain(name: str) -> None:
    process: Any = Equation(bend, np.exp)
    ALL[name](process, rs.State(0.0, X), 1.0, Given(DW, AREA))
    assert process.drifts == [float(c) for c in ALL[name].tableau.c0]
    assert process.kicks == NODES[name]


# -- the error -------------------------------------------------------------------------------------


def scaled(error: Any, x: Any, y: Any, rtol: float = 0.05, atol: float = 0.0078) -> Any:
    return error / np.maximum(atol, rtol * np.maximum(np.abs(x), np.abs(y)))


def test_the_difference_by_hand() -> None:
    h, g = 0.3, np.exp(0.4)
    a = bend(X + g * AREA, 0.4)
    b = bend(X + 5 / 6 * (h * a + g * DW) + g * AREA, 0.4 + 5 / 6 * h)
    for norm in ("rms", "l2", "linf"):
        got = one(rs.ShARK(0.1, 0.02, norm=norm), bend, np.exp)
        ratio = scaled(0.6 * h * (b - a), X, got.x, 0.1, 0.02)
        sizes = {"rms": np.sqrt(np.mean(ratio**2, axis=1)), "linf": np.abs(ratio).max(axis=1)}
        want = sizes.get(norm, np.sqrt(2) * sizes["rms"])
        assert got.error is not None and got.error.shape == (3, 1)
        np.testing.assert_allclose(got.error[:, 0], want, rtol=1e-13)


def test_the_sum_by_hand() -> None:
    """Signs and all, delta = 1: SRA1 in the form of the published code."""
    t, s, h = 0.4, 0.7, 0.7 - 0.4
    chi = DW / 2 + AREA
    a = bend(X, t)
    b = bend(X + 0.75 * h * a + 1.5 * np.exp(s) * chi, t + 0.75 * h)
    got = one(rs.SRA1(estimator="sum"), bend, np.exp)
    ratio = scaled(h * (a + b) + chi * (np.exp(t) - np.exp(s)), X, got.x)
    assert got.error is not None
    np.testing.assert_allclose(got.error[:, 0], np.sqrt(np.mean(ratio**2, axis=1)), rtol=1e-13)
    assert np.array_equal(got.x, one(rs.SRA1(), bend, np.exp).x), "an estimate changes no step"


@pytest.mark.parametrize("name", ALL)
def test_what_the_estimates_are_of(name: str) -> None:
    """The sum is of the size of the step, h; the difference h^(3/2), as noise moves a drift."""

    def size(h: float, solver: Any) -> float:
        noise = Given(DW * math.sqrt(h), AREA * math.sqrt(h / 12))
        error = one(solver, bend, np.exp, 0.4, 0.4 + h, noise).error
        assert error is not None
        return float(error[0, 0])

    def slope(solver: Any) -> float:
        return math.log2(size(1e-6, solver) / size(5e-7, solver))

    assert slope(type(ALL[name])(estimator="sum")) == pytest.approx(1, abs=0.01)
    if name == "SEA":
        assert one(rs.SEA(), bend, np.exp).error is None
    else:
        assert slope(ALL[name]) == pytest.approx(1.5, abs=0.01)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_the_flow_is_refused(name: str) -> None:
    flow = rs.ProbabilityFlow(SDE, rs.GaussianMixture.ring(8).score(SDE))
    with pytest.raises(TypeError, match=rf"`solver` {name}\(.*wrong for ProbabilityFlow"):
        rs.sample(flow, ALL[name], 2, times=3, rng=0)


BAD: list[Any] = [
    ({"rtol": 0.0}, ValueError, "`rtol` of {} must be positive and finite, got 0.0"),
    ({"atol": math.inf}, ValueError, "`atol` of {} must be positive and finite, got inf"),
    ({"rtol": "small"}, TypeError, "`rtol` of {} must be a number, got 'small'"),
    ({"norm": "max"}, ValueError, "`norm` of {} must be 'rms', 'l2' or 'linf', got 'max'"),
    ({"estimator": "none"}, ValueError, "`estimator` of {} must be .* got 'none'"),
]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("options", "kind", "words"), BAD)
def test_bad_options_are_named(name: str, options: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words.format(name)):
        type(ALL[name])(**options)


@pytest.mark.parametrize("c", [-0.1, 1.5, math.nan])
def test_a_shift_beyond_the_step_is_refused(c: float) -> None:
    with pytest.raises(ValueError, match=r"`c` of SEA must lie in \[0, 1\], got"):
        rs.SEA(c=c)


def test_a_shift_that_is_no_number_is_refused() -> None:
    for c in ("half", True, None):
        with pytest.raises(TypeError, match=r"`c` of SEA must be a number in \[0, 1\], got"):
            rs.SEA(c=c)  # type: ignore[arg-type]
