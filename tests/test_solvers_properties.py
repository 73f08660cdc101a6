"""What holds for every solver, SDE, mixture and grid: symmetries, samples alone, inputs kept.

All over the public strategies, all deterministic: the same noise is given to both sides.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import refsde as rs
from refsde.testing import strategies

KINDS = st.sampled_from(["reverse", "flow"])


class Turned:
    """Noise seen from a rotated frame."""

    def __init__(self, noise: Any, Q: np.ndarray) -> None:
        self.noise, self.Q = noise, Q

    def on(self, rows: np.ndarray) -> Turned:
        return Turned(self.noise.on(rows), self.Q)

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return self.noise.increment(t, s, x) @ self.Q.T

    def levy(self, t: Any, s: Any, x: Any) -> Any:
        dw, area = self.noise.levy(t, s, x)
        return dw @ self.Q.T, area @ self.Q.T

    def normal(self, x: Any) -> Any:
        return self.noise.normal(x) @ self.Q.T


class Shuffled:
    """Noise of a batch whose samples stand in another order."""

    def __init__(self, noise: Any, order: Any) -> None:
        self.noise, self.order = noise, order

    def on(self, rows: np.ndarray) -> Shuffled:
        assert len(rows) == len(self.order), "all of them"
        return Shuffled(self.noise.on(rows), self.order)

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return self.noise.increment(t, s, x)[self.order]

    def levy(self, t: Any, s: Any, x: Any) -> Any:
        dw, area = self.noise.levy(t, s, x)
        return dw[self.order], area[self.order]

    def normal(self, x: Any) -> Any:
        return self.noise.normal(x)[self.order]


def process_of(kind: str, target: Any, sde: Any) -> Any:
    score = target.score(sde)
    return rs.ReverseSDE(sde, score) if kind == "reverse" else rs.ProbabilityFlow(sde, score)


@st.composite
def runs(draw: Any, **options: Any) -> tuple[str, Any, Any, Any, Any, np.ndarray]:
    """Kind of process, solver, target, SDE, grid and start."""
    kind = draw(KINDS)
    target, sde = draw(strategies.gmms(**options)), draw(strategies.sdes())
    grid = draw(strategies.time_grids(sde, steps=(1, 4)))
    x = draw(strategies.points(target, sde, sde.T, n=(2, 5)))
    solver = draw(strategies.solvers(kind))
    assume(not (solver == rs.Ancestral() and isinstance(sde, rs.SubVP)))  # which it refuses
    return kind, solver, target, sde, grid, x


def ends(process: Any, solver: Any, x: Any, grid: Any, noise: Any) -> Any:
    return rs.sample(process, solver, x=x, times=grid, noise=noise).x


def off_when_turned(run: Any, Q: np.ndarray) -> float:
    """Difference between the samples of a rotated problem and the rotated samples, relative."""
    kind, solver, target, sde, grid, x = run
    turned = rs.GaussianMixture(target.weights, target.means @ Q.T, Q @ target.covs @ Q.T)
    here = ends(process_of(kind, target, sde), solver, x, grid, rs.Gaussian(1))
    there = ends(process_of(kind, turned, sde), solver, x @ Q.T, grid, Turned(rs.Gaussian(1), Q))
    # a stiff step magnifies rounding as it does everything else
    size = np.abs(here).max() + np.abs(x).max() + math.sqrt(np.trace(target.cov))
    return float(np.abs(there - here @ Q.T).max() / size)


@settings(max_examples=120)
@given(runs(dims=(1, 3), components=(1, 3)), st.data())
def test_a_rotated_problem_has_rotated_samples(run: Any, data: Any) -> None:
    _, solver, target, sde, grid, x = run
    if isinstance(getattr(solver, "corrector", None), rs.Langevin):
        # Its step is 1 / |score|^2: where the score is all rounding, so is where it throws x.
        score = np.linalg.norm(target.score(sde)(x, grid.ts[0]), axis=1)
        assume(bool(np.all(score > 1e-8 * (1 + np.abs(x).max()))))
    assert off_when_turned(run, data.draw(strategies.rotations(run[2].dim))) <= 1e-8


def alone_and_in_any_order(run: Any, order: Any) -> bool:
    """Whether samples are the same to the last bit, in another order and without the others."""
    kind, solver, target, sde, grid, x = run
    process = process_of(kind, target, sde)
    whole = ends(process, solver, x, grid, rs.Gaussian(1))
    shuffled = ends(process, solver, x[order], grid, Shuffled(rs.Gaussian(1), order))
    few = ends(process, solver, x[:1], grid, rs.Gaussian(1))
    same = np.array_equal(shuffled, whole[order], equal_nan=True)
    return same and np.array_equal(few, whole[:1], equal_nan=True)


@settings(max_examples=120)
@given(runs(), st.randoms(use_true_random=False))
def test_samples_have_no_order_and_no_mates(run: Any, random: Any) -> None:
    n = len(run[-1])
    assert alone_and_in_any_order(run, random.sample(range(n), n))


@settings(max_examples=120)
@given(runs())
def test_starts_are_kept_and_runs_repeat(run: Any) -> None:
    kind, solver, target, sde, grid, x = run
    process, kept = process_of(kind, target, sde), x.copy()
    x.setflags(write=False)
    text = repr(solver)
    first = ends(process, solver, x, grid, rs.Gaussian(1))
    assert np.array_equal(ends(process, solver, x, grid, rs.Gaussian(1)), first, equal_nan=True)
    assert np.array_equal(x, kept) and repr(solver) == text


def test_mutants_have_none_of_these_symmetries() -> None:
    sde, target = rs.VP(), rs.GaussianMixture.ring(3)
    x = np.random.default_rng(0).standard_normal((4, 2))
    Q, grid = np.array([[0.6, -0.8], [0.8, 0.6]]), rs.Grid.uniform(sde, 3)

    def clipped(process: Any, state: Any, s: Any, noise: Any) -> Any:
        """Coordinate by coordinate."""
        state = rs.EulerMaruyama()(process, state, s, noise)
        return state._replace(x=np.clip(state.x, -1, 1))

    batch = rs.PredictorCorrector(rs.EulerMaruyama(), rs.Langevin(0.1, norm="batch"))
    assert off_when_turned(("reverse", clipped, target, sde, grid, x), Q) > 1e-3
    assert not alone_and_in_any_order(("reverse", batch, target, sde, grid, x), [2, 0, 3, 1])


@pytest.mark.parametrize(
    "solver", [rs.EulerMaruyama(), rs.Heun(), rs.DDIM(), rs.OneStep(0.0)], ids=repr
)
def test_the_flow_there_and_back_closes_at_the_declared_order(solver: Any) -> None:
    """Time reversal: N(0.7, 0.5^2) under VP, from noise to data and back on the same grid.

    Mutant: half the score on the way back does not close at all.
    """
    sde, target = rs.VP(), rs.GaussianMixture([1.0], [[0.7]], [0.25])
    flow, x = rs.ProbabilityFlow(sde, target.score(sde)), np.array([[-1.0], [0.3], [2.0]])

    def gap(n: int, other: Any = flow) -> float:
        grid = rs.Grid.uniform(sde, n, t_end=0.01)
        there = rs.sample(flow, solver, x=x, times=grid).x
        back = rs.sample(other, solver, x=there, times=grid.reversed()).x
        return float(np.abs(back - x).max())

    mutant = rs.ProbabilityFlow(sde, lambda x, t: 0.5 * flow.score(x, t))
    assert gap(256, mutant) > 0.5 * gap(128, mutant) > 0.1
    slope = math.log2(gap(128) / gap(256))
    assert slope > solver.orders["flow"] - 0.15, slope
    assert gap(256) > 1e-9, "an error, not rounding"
