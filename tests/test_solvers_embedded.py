"""Embedded Runge-Kutta pairs: against SciPy's own steps, the exact flow, and one sample alone.

Nothing here is statistical.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _probing import MIXTURE_2D, problem
from scipy.integrate import RK23, RK45, solve_ivp
from scipy.integrate._ivp.rk import rk_step

import refsde as rs

VP = rs.VP()
FLOW = rs.ProbabilityFlow(VP, MIXTURE_2D.score(VP))
PAIRS = pytest.mark.parametrize("method", ["RK45", "RK23"])
SCIPY: dict[str, Any] = {"RK45": RK45, "RK23": RK23}


def start(n: int) -> np.ndarray:
    return np.asarray(rs.Gaussian(4).start(np.zeros((n, 2))))


@PAIRS
def test_one_step_is_scipys(method: Any) -> None:
    """The same state and the same error as SciPy's class makes of the same step."""
    x, t, s = start(1), 1.0, 0.9

    def slope(u: float, y: np.ndarray) -> np.ndarray:
        return np.asarray(FLOW.drift(y[None], float(u))[0])

    peer = SCIPY[method](slope, t, x[0], s, rtol=1e-5, atol=1e-5)
    solver = rs.EmbeddedRK(method, 1e-5, 1e-5)
    memory = solver.init(FLOW, x, t)
    new = solver(FLOW, rs.State(t, x, memory=memory), s, rs.Gaussian(0))
    slopes = np.empty((peer.n_stages + 1, 2))
    y, f = rk_step(slope, t, x[0], slope(t, x[0]), s - t, peer.A, peer.B, peer.C, slopes)
    np.testing.assert_allclose(new.x[0], y, rtol=0, atol=1e-14)
    np.testing.assert_allclose(new.memory[0][0], f, rtol=0, atol=1e-12)
    scale = 1e-5 + 1e-5 * np.maximum(np.abs(x[0]), np.abs(y))
    assert new.error is not None
    found = float(new.error.item())
    assert found == pytest.approx(peer._estimate_error_norm(slopes, s - t, scale), rel=1e-9)


@PAIRS
def test_it_costs_what_scipy_costs_one_sample_at_a_time(method: Any) -> None:
    """Within a tenth: SciPy forbids a step to grow that follows a rejection."""
    x = start(20)
    sol = rs.sample(FLOW, rs.EmbeddedRK(method, 1e-6, 1e-6), x=x)
    alone = rs.sample(FLOW, rs.BlackBox(method, 1e-6, 1e-6, coupled=False), x=x)
    assert abs(sol.nfe.mean() / alone.nfe.mean() - 1) < 0.1
    stages = {"RK45": 6, "RK23": 3}[method]
    # one for the slope at the start, two for the length of the first step
    assert np.array_equal(sol.nfe, 3 + stages * (sol.n_accepted + sol.n_rejected))


@pytest.mark.parametrize("up", [False, True])
def test_tight_tolerances_follow_the_exact_flow(up: bool) -> None:
    p = problem("VP", 5)
    rng = np.random.default_rng(0)
    ends = (1e-3, 1.0) if up else (1.0, 1e-3)
    mean, cov = p.gauss.moments(ends[0])
    x = mean + rng.standard_normal((6, 5)) @ np.linalg.cholesky(cov).T
    want = rs.exact.flow(p.flow.sde, p.flow.score.target, x, *ends)
    errors = []
    for tol in (1e-4, 1e-6, 1e-8, 1e-10):
        solver = rs.EmbeddedRK(rtol=tol, atol=tol)
        times = rs.Adaptive.filter(
            "I", 5, h0=solver.default_times.h0, t_start=ends[0], t_end=ends[1]
        )
        sol = rs.sample(p.flow, solver, x=x, times=times)
        assert np.all(sol.t == ends[1])
        errors.append(float(np.abs(sol.x - want).max()))
    assert np.all(np.diff(errors) < 0) and errors[-1] < 1e-7


def test_a_hard_sample_costs_itself_alone() -> None:
    """Mates of an outlier keep their digits and their cost, which they do not as one equation."""
    x = start(5)
    crowd = np.vstack([[[300.0, -300.0]], x])
    for solver, alone in ((rs.EmbeddedRK(), True), (rs.BlackBox(), False)):
        few, many = rs.sample(FLOW, solver, x=x), rs.sample(FLOW, solver, x=crowd)
        assert np.array_equal(many.x[1:], few.x) is alone
        assert np.array_equal(many.nfe[1:], few.nfe) is alone


def test_a_sample_that_is_lost_leaves_the_others() -> None:
    def score(x: Any, t: Any) -> Any:
        s = MIXTURE_2D.score(VP)(x, t)
        return np.where((x[:, :1] > 50) & (np.asarray(t) < 0.5), np.nan, s)

    x = start(4)
    x[2] = 100.0
    sol = rs.sample(rs.ProbabilityFlow(VP, score), rs.EmbeddedRK(), x=x)
    assert sol.success.tolist() == [True, True, False, True] and "sample 2" in sol.message
    rest = rs.sample(FLOW, rs.EmbeddedRK(), x=x[[0, 1, 3]])
    assert np.array_equal(sol.x[[0, 1, 3]], rest.x)


@PAIRS
def test_wrong_calls_are_answered(method: Any) -> None:
    with pytest.raises(ValueError, match=r"`method` must be 'RK45' or 'RK23', got 'DOP853'"):
        rs.EmbeddedRK("DOP853")  # type: ignore[arg-type]
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="`rtol` of EmbeddedRK must be positive and finite"):
            rs.EmbeddedRK(method, rtol=bad)
    with pytest.raises(TypeError, match="ProbabilityFlow"):
        rs.sample(rs.ReverseSDE(VP, FLOW.score), rs.EmbeddedRK(method), 3, rng=0)


def test_the_mutant_tableau_has_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight wrong by a thousandth shows in the limit of the flow."""
    B = RK45.B.copy()
    B[2] *= 1.001
    monkeypatch.setattr(RK45, "B", B)
    report = rs.testing.check_solver(rs.EmbeddedRK(), on_fail="report")
    assert not report["flow_limit"].passed or not report["flow_order"].passed


def test_solve_ivp_is_the_peer() -> None:
    """A whole run: both within their tolerance of each other."""

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        return np.asarray(FLOW.drift(y[None], float(t))[0])

    x = start(3)
    sol = rs.sample(FLOW, rs.EmbeddedRK(rtol=1e-9, atol=1e-9), x=x)
    for i in range(3):
        run = solve_ivp(
            lambda t, y: FLOW.drift(y[None], float(t))[0],
            (1.0, VP.t_end),
            x[i],
            rtol=1e-9,
            atol=1e-9,
        )
        np.testing.assert_allclose(sol.x[i], run.y[:, -1], rtol=0, atol=1e-6)
