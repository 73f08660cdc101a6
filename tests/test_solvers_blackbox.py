"""SciPy on the probability flow: exact flow maps, its count, its coupling, its failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _probing import CASES, DETERMINISTIC_MUTANTS, MIXTURE_2D, Problem, problem
from _recursions import Mixture1D, vp
from scipy.linalg import sqrtm
from scipy.special import ndtri

import refsde as rs

METHODS = ("RK45", "RK23", "DOP853", "LSODA", "Radau", "BDF")
CONTINUOUS = ("VP", "SubVP", "VE", "EDM", "Cosine")
MODES = np.array([0.3, 0.3, 0.4]), np.array([-2.0, 0.0, 1.5]), np.array([0.3, 0.2, 0.4])
LINE = rs.GaussianMixture(MODES[0], MODES[1][:, None], MODES[2] ** 2)


def exact_map(p: Problem, x: np.ndarray, t: float, s: float) -> np.ndarray:
    """Where the flow of a Gaussian takes ``x``: m_s + V_s^{1/2} V_t^{-1/2} (x - m_t)."""
    (mean, V), (mean_s, V_s) = p.gauss.moments(t), p.gauss.moments(s)
    return np.asarray(mean_s + (x - mean) @ np.linalg.solve(sqrtm(V), sqrtm(V_s)))


def start(p: Problem, rng: np.random.Generator, n: int = 5) -> np.ndarray:
    mean, V = p.gauss.moments(p.grid.ts[0])
    return np.asarray(mean + rng.standard_normal((n, len(mean))) @ np.linalg.cholesky(V).T)


# -- accuracy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_tight_tolerances_hit_the_flow_of_a_gaussian(
    name: str, coupled: bool, rng: np.random.Generator
) -> None:
    p = problem(name, 5)
    x = start(p, rng, n=3)
    ends = p.grid.ts[0], p.flow.sde.t_end
    solver = rs.BlackBox(rtol=1e-10, atol=1e-10, coupled=coupled)
    want = exact_map(p, x, *ends)
    np.testing.assert_allclose(rs.sample(p.flow, solver, x=x).x, want, atol=1e-7)
    for mutant in DETERMINISTIC_MUTANTS.values():
        broken = mutant(rs.BlackBox(rtol=1e-6, atol=1e-6))
        assert np.abs(rs.sample(p.flow, broken, x=x, times=rs.Grid(ends)).x - want).max() > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_every_method_reaches_the_flow(method: Any, rng: np.random.Generator) -> None:
    p = problem("VP", 5)
    x = start(p, rng)
    sol = rs.sample(p.flow, rs.BlackBox(method, rtol=1e-7, atol=1e-7), x=x)
    np.testing.assert_allclose(sol.x, exact_map(p, x, 1.0, 1e-3), atol=2e-5)
    assert sol.success.all()


def test_tight_tolerances_rearrange_the_line() -> None:
    x, sde = ndtri((np.arange(50) + 0.5) / 50), rs.VP()
    want = Mixture1D(vp(), *MODES).rearranged(x, 1.0, 1e-3)
    run = rs.sample(
        rs.ProbabilityFlow(sde, LINE.score(sde)), rs.BlackBox(rtol=1e-10, atol=1e-10), x=x[:, None]
    )
    np.testing.assert_allclose(run.x[:, 0], want, atol=1e-7)


@pytest.mark.parametrize("coupled", [True, False])
def test_looser_tolerances_cost_less_and_err_more(coupled: bool, rng: np.random.Generator) -> None:
    p = problem("VP", 5)
    x = start(p, rng, n=3)
    want = exact_map(p, x, 1.0, 1e-3)
    tolerances = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
    runs = [
        rs.sample(p.flow, rs.BlackBox(rtol=tol, atol=tol, coupled=coupled), x=x)
        for tol in tolerances
    ]
    assert np.all(np.diff([run.nfe for run in runs], axis=0) < 0)
    errors = [np.abs(run.x - want).max() for run in runs]
    assert errors[0] < 1e-8 < errors[-1] and np.all(np.diff(errors) > 0)


def test_up_and_down_again_is_where_one_began(rng: np.random.Generator) -> None:
    p = problem("VP", 5)
    x = p.gauss.m + 0.3 * rng.standard_normal((4, 5))
    solver, down = rs.BlackBox("DOP853", rtol=1e-11, atol=1e-11), rs.Grid([1.0, 0.4, 1e-3])
    up = rs.sample(p.flow, solver, x=x, times=down.reversed())
    np.testing.assert_allclose(up.x, exact_map(p, x, 1e-3, 1.0), atol=1e-9)
    np.testing.assert_allclose(rs.sample(p.flow, solver, x=up.x, times=down).x, x, atol=1e-8)


def test_a_grid_is_hit_at_each_of_its_times(rng: np.random.Generator) -> None:
    p = problem("VP", 5)
    x = start(p, rng)
    sol = rs.sample(
        p.flow, rs.BlackBox(rtol=1e-9, atol=1e-9), x=x, times=rs.Grid([1.0, 0.5, 0.1]), keep="all"
    )
    assert list(sol.path.t) == [1.0, 0.5, 0.1]
    for t, at_t in zip(sol.path.t, sol.path.x, strict=True):
        np.testing.assert_allclose(at_t, exact_map(p, x, 1.0, t), atol=1e-7)


# -- what it costs, and who pays -------------------------------------------------------------------


class Counting:
    """A score that knows how often it was evaluated, on how many samples in all."""

    def __init__(self, score: Any) -> None:
        self.score, self.calls, self.rows = score, 0, 0

    def __call__(self, x: Any, t: float) -> Any:
        self.calls += 1
        self.rows += len(x)
        return self.score(x, t)


@pytest.mark.parametrize("coupled", [True, False])
def test_the_count_is_of_evaluations_made(coupled: bool, rng: np.random.Generator) -> None:
    sde = rs.VP()
    score = Counting(MIXTURE_2D.score(sde))
    sol = rs.sample(
        rs.ProbabilityFlow(sde, score), rs.BlackBox(coupled=coupled), x=rng.standard_normal((6, 2))
    )
    assert sol.nfe.sum() == score.rows
    assert (len(set(sol.nfe)) == 1) is coupled
    assert set(sol.n_accepted) == {1} and not sol.n_rejected.any()


def test_alone_a_sample_does_not_feel_its_mates(rng: np.random.Generator) -> None:
    sde = rs.VP()
    flow, x = rs.ProbabilityFlow(sde, MIXTURE_2D.score(sde)), rng.standard_normal((5, 2))
    crowd = np.vstack([[[30.0, -30.0]], x])
    for coupled in (True, False):
        solver = rs.BlackBox(rtol=1e-4, atol=1e-4, coupled=coupled)
        alone, mated = rs.sample(flow, solver, x=x), rs.sample(flow, solver, x=crowd)
        assert solver.couples_batch is coupled
        if coupled:
            assert np.all(np.abs(mated.x[1:] - alone.x).max(axis=1) > 1e-7)
        else:
            np.testing.assert_array_equal(mated.x[1:], alone.x)
            np.testing.assert_array_equal(mated.nfe[1:], alone.nfe)


def test_workers_change_nothing() -> None:
    sde = rs.VP()
    flow = rs.ProbabilityFlow(sde, MIXTURE_2D.score(sde))
    runs = [rs.sample(flow, rs.BlackBox(coupled=False), 6, rng=0, workers=k).x for k in (1, 3)]
    np.testing.assert_array_equal(*runs)


def test_within_predictor_corrector_it_stays_alone() -> None:
    sde = rs.VP()
    flow = rs.ProbabilityFlow(sde, MIXTURE_2D.score(sde))
    solver = rs.PredictorCorrector(rs.BlackBox(coupled=False), rs.AnnealedLangevin(0.1))
    runs = [rs.sample(flow, solver, n, times=3, rng=0).x for n in (2, 5)]
    np.testing.assert_array_equal(runs[0], runs[1][:2])


def test_alone_it_refuses_a_batch() -> None:
    p = problem("VP")
    run = rs.iterate(
        p.flow, rs.BlackBox(coupled=False), np.zeros((2, 1)), rs.Grid([1.0, 0.1]), rs.Gaussian(0)
    )
    with pytest.raises(ValueError, match=r"coupled.*batch of 2.*sample"):
        list(run)


@pytest.mark.parametrize("coupled", [True, False])
def test_float32_stays_float32(coupled: bool) -> None:
    sde = rs.VP()
    flow = rs.ProbabilityFlow(sde, MIXTURE_2D.score(sde))
    single, double = (
        rs.sample(flow, rs.BlackBox(coupled=coupled), 5, rng=0, dtype=d).x for d in ("f4", "f8")
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=1e-3)


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("since", [1.0, 0.5])
@pytest.mark.parametrize("method", METHODS)
def test_a_score_that_turns_nan_ends_only_its_sample(
    method: Any, since: float, rng: np.random.Generator
) -> None:
    # SciPy alone would never return: of a NaN slope it makes a NaN step, and halves that for ever.
    p = problem("VP", 2)
    x = start(p, rng, n=4)

    def score(y: np.ndarray, t: float) -> np.ndarray:
        s = p.flow.score(y, t)
        if t <= since:
            s[1] = np.nan
        return np.asarray(s)

    sol = rs.sample(
        rs.ProbabilityFlow(p.flow.sde, score), rs.BlackBox(method, rtol=1e-7, atol=1e-7), x=x
    )
    assert list(sol.success) == [True, False, True, True]
    assert "sample 1" in sol.message
    np.testing.assert_array_equal(sol.x[1], x[1])  # its last good state
    want = exact_map(p, x, 1.0, 1e-3)
    np.testing.assert_allclose(sol.x[[0, 2, 3]], want[[0, 2, 3]], atol=1e-4)


def test_a_flow_too_wild_for_scipy_is_a_failed_sample() -> None:
    sde = rs.VP()
    flow = rs.ProbabilityFlow(sde, lambda x, t: 1e3 * x * x)  # blows up at a finite time
    sol = rs.sample(flow, rs.BlackBox(coupled=False), x=np.array([[1.0], [0.0]]))
    assert list(sol.success) == [False, True]


@pytest.mark.parametrize("process", [rs.ReverseSDE, lambda sde, score: rs.ForwardSDE(sde)])
def test_it_is_for_flows(process: Any) -> None:
    sde = rs.VP()
    with pytest.raises(TypeError, match="ProbabilityFlow"):
        rs.sample(process(sde, MIXTURE_2D.score(sde)), rs.BlackBox(), x=np.zeros((1, 2)))


def test_the_schedules_are_those_of_the_recursions() -> None:
    for name in CONTINUOUS:
        sde, schedule, _ = CASES[name]
        for t in (sde.t_end, 0.3 * sde.T, sde.T):
            for verb in ("alpha", "sigma", "f", "g2"):
                np.testing.assert_allclose(
                    getattr(sde, verb)(t), getattr(schedule, verb)(t), rtol=1e-12
                )
