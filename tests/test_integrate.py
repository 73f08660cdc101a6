"""The loop and the runs on it: steps, counts, failures, paths, denoising at the end."""

from __future__ import annotations

import ast
import math
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _solvers import (
    BOTH,
    CORRECTOR,
    GAUSSIAN,
    RING,
    VP,
    Case,
    CountingScore,
    NoNoise,
    cases,
    process_of,
)
from scipy.integrate import solve_ivp

import refsde as rs
from refsde.integrate import Tally

SCORE = RING.score(VP)
REVERSE, FLOW, FORWARD = rs.ReverseSDE(VP, SCORE), rs.ProbabilityFlow(VP, SCORE), rs.ForwardSDE(VP)
EM = rs.EulerMaruyama()
GRID = rs.Grid.uniform(VP, 6)
X = np.random.default_rng(0).normal(size=(5, 2))


def em_step(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    """A student's Euler-Maruyama."""
    t, x = state.t, state.x
    dw = noise.increment(t, s, x)
    return rs.State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


# -- iterate --------------------------------------------------------------------------------------


def test_iterate_yields_the_start_and_then_every_step() -> None:
    states = list(rs.iterate(REVERSE, EM, X, GRID, rs.Gaussian(0)))
    assert [state.t for state in states] == list(GRID.ts)
    assert np.array_equal(states[0].x, X)
    source, x = rs.Gaussian(0), X
    for state, t, s in zip(states[1:], GRID.ts[:-1], GRID.ts[1:], strict=True):
        g2, drift = VP.g2(t), VP.f(t) * x - VP.g2(t) * SCORE(x, t)
        x = x + drift * (s - t) + math.sqrt(g2) * source.increment(t, s, x)
        assert state.x == pytest.approx(x, rel=1e-12)


@cases()
def test_the_start_is_not_written_into(case: Case, kind: str) -> None:
    x = X[:1].copy() if case.name == "blackbox-alone" else X.copy()
    kept = x.copy()
    x.setflags(write=False)
    times = rs.Grid.uniform(VP, 3, 0.0).reversed() if kind == "forward" else GRID
    states = list(rs.iterate(process_of(kind, SCORE), case.solver, x, times, rs.Gaussian(0)))
    assert np.array_equal(x, kept) and not np.array_equal(states[-1].x, kept)


def test_states_already_yielded_do_not_change() -> None:
    """A student keeps them in a list."""
    held, copies = [], []
    for state in rs.iterate(REVERSE, rs.Heun(), X, GRID, rs.Gaussian(0)):
        held.append(state)
        copies.append(state.x.copy())
    assert all(np.array_equal(state.x, x) for state, x in zip(held, copies, strict=True))


def test_rows_address_the_noise() -> None:
    rows = np.array([3, 8, 20])
    whole = list(rs.iterate(REVERSE, EM, np.zeros((21, 2)), GRID, rs.Gaussian(1)))[-1].x
    part = list(rs.iterate(REVERSE, EM, np.zeros((3, 2)), GRID, rs.Gaussian(1), rows=rows))[-1].x
    assert np.array_equal(part, whole[rows])


def test_iterate_and_sample_are_one() -> None:
    sol = rs.sample(REVERSE, rs.Heun(), x=X, times=GRID, rng=2)
    tally = Tally(5)
    run = rs.iterate(REVERSE, rs.Heun(), X, GRID, rs.Gaussian(2), tally=tally)
    assert np.array_equal(list(run)[-1].x, sol.x)
    assert np.array_equal(tally.nfe, sol.nfe) and np.array_equal(tally.t, sol.t)


def test_iterate_may_be_left_early_and_costs_what_was_asked() -> None:
    score = CountingScore(SCORE)
    run = rs.iterate(rs.ReverseSDE(VP, score), EM, X, rs.Grid.uniform(VP, 10**6), rs.Gaussian(0))
    assert next(run).t == 1.0 and score.batches == []
    next(run), next(run)
    assert score.batches == [5, 5]


def test_a_function_is_a_solver() -> None:
    ours, theirs = (rs.sample(REVERSE, solver, 6, times=9, rng=0) for solver in (EM, em_step))
    assert np.array_equal(ours.x, theirs.x) and np.array_equal(ours.nfe, theirs.nfe)


def test_an_sde_of_ones_own() -> None:
    """Give five formulas; the rest follows.  Here: VP with a constant rate."""

    class Constant(rs.LinearSDE):
        beta = 8.0

        def alpha(self, t: Any) -> Any:
            return math.exp(-self.beta * t / 2)

        def sigma(self, t: Any) -> Any:
            return math.sqrt(-math.expm1(-self.beta * t))

        def f(self, t: Any) -> Any:
            return -self.beta / 2

        def g2(self, t: Any) -> Any:
            return self.beta

        def t_of_lam(self, lam: Any) -> Any:
            return math.log1p(math.exp(-2 * lam)) / self.beta

    mine, known = Constant(), rs.VP(8.0, 8.0)
    for grid in (rs.Grid.uniform, rs.Grid.logsnr, rs.Grid.karras):
        assert grid(mine, 5).ts == pytest.approx(grid(known, 5).ts, rel=1e-12)
    for solver in (
        EM,
        rs.Heun(),
        rs.DDIM(1.0),
        rs.Ancestral(),
        rs.PredictorCorrector(EM, CORRECTOR),
    ):
        runs = [
            rs.sample(rs.ReverseSDE(sde, GAUSSIAN.score(sde)), solver, 4, times=5, rng=0).x
            for sde in (mine, known)
        ]
        assert runs[0] == pytest.approx(runs[1], rel=1e-9)


class PlainProcess:
    """A process of one's own, neither a dataclass nor a subclass."""

    kind, stochastic = "reverse", True

    def __init__(self, sde: Any, score: Any) -> None:
        self.sde, self.score = sde, score
        self.seen: list[tuple[float, float]] = []

    def drift(self, x: Any, t: Any) -> Any:
        return self.sde.f(t) * x - self.sde.g2(t) * self.score(x, t)

    def diffuse(self, dw: Any, t: Any) -> Any:
        return math.sqrt(self.sde.g2(t)) * dw

    def denoise(self, x: Any, t: Any) -> Any:
        return self.score.denoise(x, t)

    def at(self, t: Any, s: Any) -> Any:
        self.seen.append((t, s))
        return self

    def start(self, z: Any) -> Any:
        return self.sde.prior_std * z


def test_a_process_of_ones_own() -> None:
    process = PlainProcess(VP, SCORE)
    sol = rs.sample(process, EM, 6, times=GRID, rng=0, denoise="tweedie")
    known = rs.sample(REVERSE, EM, 6, times=GRID, rng=0, denoise="tweedie")
    assert np.array_equal(sol.x, known.x) and np.array_equal(sol.nfe, known.nfe)
    assert process.seen == list(zip(GRID.ts[:-1], GRID.ts[1:], strict=True)), "asked for every step"
    assert process.score is SCORE, "counting leaves the process as it was"


class Averaging:
    """A solver with memory: arrays, floats and tuples of both; x moves to the mean of its past."""

    def __init__(self) -> None:
        self.inits = 0

    def init(self, process: Any, x: Any, t: Any) -> tuple[Any, ...]:
        self.inits += 1
        return (x, 1.0, ((process.score(x, t), "note"),))

    def __call__(self, process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
        total, count, ((slope, note),) = state.memory
        x = total / count - 0.01 * slope
        new = process.score(x, s)
        return rs.State(s, x, memory=(total + x, count + 1, ((new, note),)))


def failing(score: Any, bad: Any, below: float, value: float = np.nan) -> Any:
    """A score that is ``value`` below a time, for samples of which ``bad(x)`` holds."""

    def call(x: Any, t: Any) -> Any:
        g = score(x, t)
        return np.where(bad(x)[:, None], value, g) if t < below else g

    return call


def test_memory_survives_the_loss_of_samples() -> None:
    process = rs.ReverseSDE(VP, failing(SCORE, lambda x: x[:, 0] > 0.5, below=0.6))
    lost = rs.sample(process, Averaging(), x=X, times=GRID)
    whole = rs.sample(REVERSE, Averaging(), x=X, times=GRID)
    assert 0 < lost.success.sum() < 5
    assert np.array_equal(lost.x[lost.success], whole.x[lost.success])


@pytest.mark.parametrize("memory", [None, [1.0], np.zeros(2)], ids=["None", "list", "array"])
def test_memory_must_be_a_tuple(memory: Any) -> None:
    class Forgets(rs.EulerMaruyama):
        def init(self, process: Any, x: Any, t: Any) -> Any:
            return memory

    process = rs.ReverseSDE(VP, RING.score(VP))
    name = type(memory).__name__
    with pytest.raises(TypeError, match=rf"must return a tuple from init.*got {name}: return \(\)"):
        rs.sample(process, Forgets(), 3, times=5, rng=0)


def test_what_init_evaluates_is_counted() -> None:
    score = CountingScore(SCORE)
    solver = Averaging()
    sol = rs.sample(rs.ReverseSDE(VP, score), solver, x=X, times=GRID)
    assert solver.inits == 1 and sol.nfe.tolist() == [7] * 5 and score.batches == [5] * 7


@dataclass(frozen=True)
class Binding:
    """A solver that wants the grid."""

    seen: list[Any]

    def bind(self, process: Any, ts: Any) -> Any:
        self.seen.append(ts)
        return em_step

    def __call__(self, *args: Any) -> Any:
        raise AssertionError("the bound solver is the one that steps")


@pytest.mark.parametrize("n", [5, 2 * 16384 + 1])
def test_bind_is_called_once_a_run_with_the_whole_grid(n: int) -> None:
    seen: list[Any] = []
    sol = rs.sample(REVERSE, Binding(seen), n, times=rs.Grid([1.0, 0.3]), rng=0, workers=2)
    assert seen == [(1.0, 0.3)]
    assert np.array_equal(sol.x, rs.sample(REVERSE, EM, n, times=rs.Grid([1.0, 0.3]), rng=0).x)
    list(rs.iterate(REVERSE, Binding(seen), X, GRID, rs.Gaussian(0)))
    assert seen[1:] == [GRID.ts]


def loops_over_time(source: str) -> list[str]:
    """Loops of a module over a grid: ``for`` and ``while``, except those that drive the one."""
    names = {"ts", "times", "grid", "grids", "linspace", "pairwise"}
    attributes = {"ts", "target", "linspace", "pairwise"}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.For | ast.While):
            head = node.iter if isinstance(node, ast.For) else node.test
            called = {n.id for n in ast.walk(head) if isinstance(n, ast.Name)}
            held = {n.attr for n in ast.walk(head) if isinstance(n, ast.Attribute)}
            drives = any(loop in ast.unparse(head) for loop in ("iterate(", "fronts("))
            if (called & names or held & attributes) and not drives:
                found.append(ast.unparse(head))
    return found


def test_iterate_is_the_only_loop_over_time() -> None:
    root = Path(rs.__file__).parent
    files = [*root.glob("*.py"), *(root / "solvers").glob("*.py")]
    assert len(files) > 12
    found = {
        file.name: loops for file in files if (loops := loops_over_time(file.read_text("utf-8")))
    }
    assert list(found) == ["_loop.py"] and len(found["_loop.py"]) == 1
    assert "times.target(" in found["_loop.py"][0]


@pytest.mark.parametrize(
    "mutant",
    [
        "for t in grid.ts:\n    pass",
        "while t > times[i]:\n    pass",
        "for t, s in pairwise(levels):\n    pass",
    ],
)
def test_another_loop_would_be_found(mutant: str) -> None:
    assert loops_over_time(
        f"def step(x):\n    if x:\n        {mutant.replace(chr(10), chr(10) + ' ' * 8)}"
    )


# -- counting -------------------------------------------------------------------------------------


@cases(lambda case: case.cost is not None)
def test_evaluations_are_those_really_made(case: Case, kind: str) -> None:
    """Against a score that counts for itself; a step costs what the table says."""
    score = CountingScore(SCORE)
    process, x = process_of(kind, score), X
    times = rs.Grid.uniform(VP, 7, 0.0).reversed() if kind == "forward" else rs.Grid.uniform(VP, 7)
    sol = rs.sample(process, case.solver, x=x, times=times, rng=0)
    expected = 0 if kind == "forward" else case.fixed + 7 * (case.cost or 0)
    assert sol.nfe.tolist() == [expected] * 5
    assert score.batches == [5] * expected
    assert sol.n_accepted.tolist() == [7] * 5 and sol.n_rejected.tolist() == [0] * 5
    if kind != "forward":
        clean = rs.sample(process, case.solver, x=x, times=times, rng=0, denoise="tweedie")
        assert clean.nfe.tolist() == [expected + 1] * 5, "the denoiser at the end is one more"


def test_a_black_box_costs_what_scipy_says() -> None:
    method = rs.BlackBox("RK45", 1e-4, 1e-4)
    sol = rs.sample(FLOW, method, x=X)

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        return FLOW.drift(y.reshape(5, 2), t).reshape(-1)

    known = solve_ivp(slope, (1.0, VP.t_end), X.reshape(-1), rtol=1e-4, atol=1e-4)
    assert sol.nfe.tolist() == [known.nfev] * 5
    assert sol.x.reshape(-1) == pytest.approx(known.y[:, -1], rel=1e-12)


def test_a_black_box_a_sample_counts_for_each() -> None:
    score = CountingScore(SCORE)
    sol = rs.sample(rs.ProbabilityFlow(VP, score), rs.BlackBox(coupled=False), x=X)
    assert set(score.batches) == {1} and sol.nfe.sum() == len(score.batches)
    assert len(set(sol.nfe.tolist())) > 1


def test_lost_samples_cost_nothing_more() -> None:
    score = CountingScore(SCORE)
    lose = failing(score, lambda x: x[:, 0] > 0.5, below=0.6)
    sol = rs.sample(rs.ReverseSDE(VP, lose), rs.Heun(), x=X, times=GRID, rng=0)
    assert 0 < sol.success.sum() < 5
    assert sol.nfe.sum() == sum(score.batches)
    assert set(sol.nfe[sol.success]) == {12} and np.all(sol.nfe[~sol.success] < 12)


@cases(lambda case: "flow" in case.kinds, kinds=("flow",))
def test_flows_draw_no_noise(case: Case, kind: str) -> None:
    if case.name.startswith(("pc", "corrector", "churn")):
        with pytest.raises(
            AssertionError, match="asked for normals"
        ):  # correctors and churn draw, as they say
            rs.sample(FLOW, case.solver, x=X, times=2, noise=NoNoise())
    else:
        sol = rs.sample(FLOW, case.solver, x=X, times=2, noise=NoNoise())
        assert sol.success.all()


@pytest.mark.parametrize("solver", [rs.DDIM(), rs.OneStep(0), rs.OneStep(0.0)])
def test_deterministic_solvers_draw_none_on_the_reverse_sde(solver: Any) -> None:
    on_flow, on_reverse = (
        rs.sample(process, solver, x=X, times=4, noise=NoNoise()).x for process in (FLOW, REVERSE)
    )
    assert np.array_equal(on_flow, on_reverse)
    with pytest.raises(AssertionError, match="asked for an increment"):
        rs.sample(REVERSE, EM, x=X, times=4, noise=NoNoise())


# -- failures -------------------------------------------------------------------------------------


@cases(lambda case: not (case.coupled or case.density), kinds=BOTH)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_score_ends_those_samples_only(case: Case, kind: str, value: float) -> None:
    """Those that start at x_0 > 0.5 fail in mid-run; all others keep the bits of a clean run."""
    grid = rs.Grid.uniform(VP, 5)
    marked = X[:, 0] > 0.5
    assert 0 < marked.sum() < 5
    bad = set(np.flatnonzero(marked))

    class Marked:
        """Knows its samples by their start: the rows that are left, in order."""

        def __init__(self) -> None:
            self.rows = np.arange(5)

        def __call__(self, x: Any, t: Any) -> Any:
            g = SCORE(x, t)
            if t < 0.5 and len(x) == 5:
                g[marked] = value
            return g

    alone = case.name == "blackbox-alone"
    if alone:  # one sample a block: the score sees no rows, so the mark must be in the state
        grid = rs.Grid([1.0, 0.001])
    score: Any = failing(SCORE, lambda x: x[:, 0] > 0.5, 2.0, value) if alone else Marked()
    options: dict[str, Any] = {"x": X, "times": grid, "rng": 0, "keep": "all"}
    sol = rs.sample(process_of(kind, score), case.solver, **options)
    clean = rs.sample(process_of(kind, lambda x, t: SCORE(x, t)), case.solver, **options)
    good = sol.success
    if not alone:
        assert set(np.flatnonzero(~good)) == bad
        assert set(sol.t[~good]) <= {grid.ts[2], grid.ts[3]}, "where they last were"
    assert 0 < good.sum() < 5 and np.array_equal(sol.x[good], clean.x[good])
    assert np.all(np.isfinite(sol.x)) and np.all(sol.t[good] == grid.ts[-1])
    assert sol.path is not None and clean.path is not None
    assert np.array_equal(sol.path.t, clean.path.t)
    assert np.array_equal(sol.path.x[:, good], clean.path.x[:, good])
    assert np.all(np.isfinite(sol.path.x)) and np.array_equal(sol.path.x[-1], sol.x)
    assert np.array_equal(sol.n_accepted == grid.n, good)


def test_those_that_stay_keep_the_noise_of_their_index() -> None:
    """In a second block, or with rows of one's own, the place in the batch is not the index."""
    rows = np.array([2, 5, 16384, 16390, 16391])
    start = np.zeros((16392, 2))
    start[rows] = X

    def lose(x: Any, t: Any) -> Any:  # by the first coordinate, which this process does not move
        return np.where((x[:, :1] > 0.5) & (t < 0.6), np.nan, 0 * x)

    @dataclass(frozen=True)
    class Second(rs.ReverseSDE):
        def diffuse(self, dw: Any, t: Any) -> Any:
            return dw * np.array([0.0, 1.0])

        def drift(self, x: Any, t: Any) -> Any:
            return self.score(x, t)

    whole = rs.sample(Second(VP, lambda x, t: 0 * x), EM, x=start, times=GRID, rng=3)
    sol = rs.sample(Second(VP, lose), EM, x=start, times=GRID, rng=3)
    good = sol.success[rows]
    assert good.tolist() == (X[:, 0] <= 0.5).tolist()
    assert np.array_equal(sol.x[sol.success], whole.x[sol.success])
    part = list(rs.iterate(Second(VP, lose), EM, X, GRID, rs.Gaussian(3), rows=rows))[-1]
    assert np.array_equal(part.x[good], whole.x[rows[good]])


def test_the_message_says_how_many_which_and_where() -> None:
    process = rs.ReverseSDE(VP, failing(SCORE, lambda x: x[:, 0] > 0.5, below=0.6))
    sol = rs.sample(process, EM, x=X, times=rs.Grid([1.0, 0.8, 0.5, 0.2, 0.1]), rng=0)
    lost = np.flatnonzero(~sol.success)
    first = lost[np.argmax(sol.t[lost])]  # the step that starts at t = 0.5 is the third
    assert sol.t[first] == 0.5
    assert f"{len(lost)} of 5 samples stopped with a non-finite state" in sol.message
    assert f"(sample {first}) in step 3 from t = 0.5:" in sol.message
    assert f"the other {5 - len(lost)} reached t = 0.1 in 4 steps" in sol.message
    assert sol.n_accepted[first] == 2 and sol.nfe[first] == 3


def test_on_failure_raises() -> None:
    process = rs.ReverseSDE(VP, failing(SCORE, lambda x: x[:, 0] > 0.5, below=0.6))
    with pytest.raises(
        RuntimeError, match=r"\d of 5 samples stopped with a non-finite state.*step"
    ):
        rs.sample(process, EM, x=X, times=GRID, rng=0, on_failure="raise")
    assert rs.sample(REVERSE, EM, x=X, times=GRID, rng=0, on_failure="raise").success.all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_overflow_ends_a_sample_without_a_warning(dtype: Any) -> None:
    """x grows by a factor a step: sample i overflows when its size says so, and not before."""

    def triple(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
        return rs.State(s, state.x * 1e12)

    x = np.array([[1.0], [1e10], [1e30]], dtype=dtype)
    sol = rs.sample(FLOW_1D, triple, x=x, times=rs.Grid.uniform(VP, 4), keep="all")
    steps = [math.floor((math.log10(np.finfo(dtype).max) - math.log10(v)) / 12) for v in x[:, 0]]
    assert sol.n_accepted.tolist() == [min(k, 4) for k in steps]
    assert sol.success.tolist() == [k >= 4 for k in steps]
    assert np.all(np.isfinite(sol.x)) and sol.x.dtype == dtype


FLOW_1D = rs.ProbabilityFlow(VP, lambda x, t: -x)


def test_a_large_sum_is_no_failure() -> None:
    """Samples whose *sum* overflows are finite, at the start and on the way."""
    x = np.full((4, 2), 1.2e308)
    sol = rs.sample(FLOW_1D, lambda p, state, s, n: state._replace(t=s), x=x, times=3)
    assert sol.success.all() and np.array_equal(sol.x, x)


def test_a_division_by_zero_ends_a_sample_without_a_warning() -> None:
    """Langevin's rule divides by the norm of the score."""

    def flat(x: Any, t: Any) -> Any:
        return np.where(x[:, :1] > 0, 0.0, -x)

    pc = rs.PredictorCorrector(None, rs.Langevin())
    sol = rs.sample(rs.ReverseSDE(VP, flat), pc, x=np.array([[1.0, 0], [-1.0, 0]]), times=1, rng=0)
    assert sol.success.tolist() == [False, True]


def test_all_samples_may_fail() -> None:
    process = rs.ReverseSDE(VP, failing(SCORE, lambda x: x[:, 0] < np.inf, below=0.6))
    score_calls: list[int] = []
    sol = rs.sample(
        process,
        EM,
        x=X,
        times=GRID,
        rng=0,
        keep="all",
        denoise="tweedie",
        callback=lambda state, rows: score_calls.append(len(rows)),
    )
    assert not sol.success.any() and "5 of 5 samples stopped" in sol.message
    assert "other" not in sol.message and np.all(np.isfinite(sol.x))
    assert sol.path is not None
    taken = int(sol.n_accepted[0])
    assert len(score_calls) == taken + 1 < GRID.n, "nothing is left to step"
    assert np.array_equal(sol.path.x[-1], sol.x)
    with pytest.raises(RuntimeError, match="5 of 5"):
        rs.sample(process, EM, x=X, times=GRID, on_failure="raise")


def test_a_failure_in_the_first_step() -> None:
    def at_once(x: Any, t: Any) -> Any:
        return np.where((x[:, :1] > 0.5) & (t == 1.0), np.nan, SCORE(x, t))

    sol = rs.sample(rs.ReverseSDE(VP, at_once), EM, x=X, times=GRID, rng=0)
    lost = ~sol.success
    assert np.array_equal(lost, X[:, 0] > 0.5) and np.array_equal(sol.x[lost], X[lost])
    assert (
        set(sol.t[lost]) == {1.0} and set(sol.n_accepted[lost]) == {0} and set(sol.nfe[lost]) == {1}
    )


class FailsToDenoise:
    """The exact score, whose denoiser fails for some."""

    def __init__(self) -> None:
        self.sde, self.target = VP, RING

    def __call__(self, x: Any, t: Any) -> Any:
        return SCORE(x, t)

    def denoise(self, x: Any, t: Any) -> Any:
        return SCORE.denoise(x, t) / np.where(x[:, :1] > 0, 1.0, 0.0)


def test_a_failure_in_the_denoiser_keeps_the_last_state() -> None:
    process = rs.ReverseSDE(VP, FailsToDenoise())
    sol = rs.sample(process, EM, x=X, times=GRID, rng=0, denoise="tweedie")
    plain = rs.sample(REVERSE, EM, x=X, times=GRID, rng=0)
    clean = rs.sample(REVERSE, EM, x=X, times=GRID, rng=0, denoise="tweedie")
    good = plain.x[:, 0] > 0
    assert 0 < good.sum() < 5 and np.array_equal(sol.success, good)
    assert np.array_equal(sol.x[good], clean.x[good]) and np.array_equal(
        sol.x[~good], plain.x[~good]
    )
    assert np.all(sol.nfe == 7), "the evaluation was made"
    assert f"step {GRID.n + 1} from t = {GRID.ts[-1]:g}" in sol.message


def test_failures_before_and_in_the_denoiser() -> None:
    """Row numbers are those of the whole batch, whoever is left."""

    class Both(FailsToDenoise):
        def __call__(self, x: Any, t: Any) -> Any:
            return failing(SCORE, lambda x: x[:, 1] > 0, below=0.2)(x, t)

    options: dict[str, Any] = {"x": np.concatenate([X, -X]), "times": GRID, "rng": 0}
    sol = rs.sample(rs.ReverseSDE(VP, Both()), EM, denoise="tweedie", **options)
    early = rs.sample(rs.ReverseSDE(VP, Both()), EM, **options)
    expected = early.success & (early.x[:, 0] > 0)
    assert 0 < expected.sum() < early.success.sum() < 10
    assert np.array_equal(sol.success, expected)
    assert np.array_equal(sol.x[~expected], early.x[~expected])


def test_failures_in_several_blocks() -> None:
    """Block 0 loses all its samples, block 1 one of three: times and paths stay right."""
    n = 16384 + 3
    x = np.ones((n, 1))
    x[16384:, 0] = -1.0, -2.0, 1.0
    process = rs.ProbabilityFlow(VP, failing(lambda x, t: -x, lambda x: x[:, 0] > 0, below=0.5))
    for workers in (1, 2):
        sol = rs.sample(process, EM, x=x, times=GRID, keep="all", workers=workers)
        assert np.flatnonzero(sol.success).tolist() == [16384, 16385]
        assert f"{n - 2} of {n} samples" in sol.message and "(sample 0) in step 5" in sol.message
        assert sol.path is not None and np.array_equal(sol.path.t, GRID.ts)
        clean = rs.sample(FLOW_1D, EM, x=x[16384:16386], times=GRID, keep="all")
        assert clean.path is not None
        assert np.array_equal(sol.path.x[:, 16384:16386], clean.path.x)
        assert np.array_equal(sol.path.x[-1], sol.x)


@pytest.mark.parametrize("method", ["RK45", "RK23", "DOP853", "LSODA", "Radau", "BDF"])
@pytest.mark.parametrize("below", [2.0, 0.5])
@pytest.mark.parametrize("coupled", [True, False])
def test_a_black_box_neither_hangs_nor_stops_on_nan(
    method: Any, below: float, coupled: bool
) -> None:
    """From the start or in mid-run: SciPy itself would halve its step for ever, or raise."""
    process = rs.ProbabilityFlow(VP, failing(lambda x, t: -x, lambda x: x[:, 0] > 0, below=below))
    x = np.array([[1.0, 1.0], [-1.0, -1.0]])
    sol = rs.sample(process, rs.BlackBox(method, coupled=coupled), x=x)
    clean = rs.sample(FLOW_1D, rs.BlackBox(method, coupled=coupled), x=x[1:])
    assert sol.success.tolist() == [False, True]
    assert np.array_equal(sol.x[0], x[0])
    assert sol.x[1:] == pytest.approx(clean.x, abs=1e-3)


@pytest.mark.parametrize("denoise", ["tweedie", "last_mean"])
def test_losing_samples_is_the_same_in_every_library(denoise: Any, xp: Any) -> None:
    """Rows are taken, filled and joined; paths become NumPy, samples stay what they were."""

    def lose(x: Any, t: Any) -> Any:
        return xp.where(x[:, :1] > 0.5, xp.full_like(x, np.nan), -x) if t < 0.5 else -x

    pc = rs.PredictorCorrector(rs.Heun(), CORRECTOR)
    options: dict[str, Any] = {"times": GRID, "rng": 0, "keep": 2, "denoise": denoise}
    ours = rs.sample(rs.ReverseSDE(VP, lose), pc, x=xp.asarray(X), **options)
    known = rs.sample(
        rs.ReverseSDE(VP, failing(lambda x, t: -x, lambda x: x[:, 0] > 0.5, 0.5)),
        pc,
        x=X,
        **options,
    )
    assert type(ours.x) is type(xp.asarray(X)) and 0 < known.success.sum() < 5
    assert np.array_equal(ours.success, known.success) and np.array_equal(ours.nfe, known.nfe)
    assert np.asarray(ours.x) == pytest.approx(known.x, rel=1e-12, abs=1e-12)
    assert ours.path is not None and known.path is not None and type(ours.path.x) is np.ndarray
    assert ours.path.x == pytest.approx(known.path.x, rel=1e-12, abs=1e-12)


# -- keep, callback, progress ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "steps"),
    [
        ("all", range(7)),
        (1, range(7)),
        (2, [0, 2, 4, 6]),
        (4, [0, 4, 6]),
        (6, [0, 6]),
        (99, [0, 6]),
    ],
)
def test_keep_stores_both_ends_and_every_kth_step(keep: Any, steps: Any) -> None:
    whole = list(rs.iterate(REVERSE, EM, X, GRID, rs.Gaussian(0)))
    sol = rs.sample(REVERSE, EM, x=X, times=GRID, rng=0, keep=keep)
    assert sol.path is not None and sol.path.x.shape == (len(steps), 5, 2)
    assert sol.path.t.tolist() == [GRID.ts[i] for i in steps]
    assert np.array_equal(sol.path.x, np.stack([whole[i].x for i in steps]))
    assert np.array_equal(sol.path.x[0], X) and np.array_equal(sol.path.x[-1], sol.x)


def test_keep_nothing_by_default_and_the_path_ends_before_the_denoiser() -> None:
    assert rs.sample(REVERSE, EM, x=X, times=GRID, rng=0).path is None
    sol = rs.sample(REVERSE, EM, x=X, times=GRID, rng=0, keep="all", denoise="tweedie")
    plain = rs.sample(REVERSE, EM, x=X, times=GRID, rng=0)
    assert sol.path is not None and np.array_equal(sol.path.x[-1], plain.x)
    assert sol.x == pytest.approx(SCORE.denoise(plain.x, GRID.ts[-1]))


def test_images_keep_their_shape() -> None:
    process = rs.ReverseSDE(VP, lambda x, t: -x)
    sol = rs.sample(
        process, rs.PredictorCorrector(EM, CORRECTOR), 3, shape=(2, 4, 5), times=2, keep="all"
    )
    assert sol.x.shape == (3, 2, 4, 5)
    assert sol.path is not None and sol.path.x.shape == (3, 3, 2, 4, 5)


def test_the_callback_sees_every_step_of_every_block() -> None:
    n, seen = 16384 + 3, []
    main = threading.get_ident()

    def look(state: rs.State, rows: np.ndarray) -> None:
        seen.append((state.t, len(state.x), int(rows[0]), threading.get_ident() == main))

    rs.sample(REVERSE, EM, n, times=rs.Grid([1.0, 0.5, 0.1]), rng=0, callback=look)
    assert seen == [
        (0.5, 16384, 0, True),
        (0.1, 16384, 0, True),
        (0.5, 3, 16384, True),
        (0.1, 3, 16384, True),
    ]
    seen.clear()
    rs.sample(REVERSE, EM, n, times=rs.Grid([1.0, 0.5, 0.1]), rng=0, callback=look, workers=2)
    assert sorted(s[:3] for s in seen) == sorted(
        [(0.5, 16384, 0), (0.1, 16384, 0), (0.5, 3, 16384), (0.1, 3, 16384)]
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_the_callback_ends_the_run(workers: int) -> None:
    def stop(state: rs.State, rows: np.ndarray) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        rs.sample(REVERSE, EM, 16384 + 3, times=2, rng=0, callback=stop, workers=workers)


def test_an_error_does_not_wait_for_the_queue() -> None:
    """Ctrl-C in a notebook: blocks that have not begun never begin."""
    begun: set[int] = set()

    def stop(state: rs.State, rows: np.ndarray) -> None:
        begun.add(int(rows[0]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rs.sample(REVERSE, EM, 20 * 16384, times=1, rng=0, callback=stop, workers=2)
    assert len(begun) < 15


def test_progress_counts_steps(capsys: pytest.CaptureFixture[str]) -> None:
    shown = rs.sample(REVERSE, EM, 16384 + 3, times=3, rng=0, progress=True)
    assert "6/6" in capsys.readouterr().err, "two blocks of three steps"
    assert np.array_equal(shown.x, rs.sample(REVERSE, EM, 16384 + 3, times=3, rng=0).x)


def test_progress_without_tqdm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"refsde\[experiments\]"):
        rs.sample(REVERSE, EM, 3, times=3, rng=0, progress=True)


# -- times, starts, denoising ---------------------------------------------------------------------


def test_a_number_of_steps_is_the_uniform_grid() -> None:
    for process, grid in (
        (REVERSE, rs.Grid.uniform(VP, 5)),
        (FLOW, rs.Grid.uniform(VP, 5)),
        (FORWARD, rs.Grid.uniform(VP, 5, 0.0).reversed()),
    ):
        for times in (5, np.int64(5)):
            sol = rs.sample(process, EM, x=X, times=times, rng=0, keep="all")
            assert sol.path is not None and tuple(sol.path.t) == grid.ts
            assert np.array_equal(sol.x, rs.sample(process, EM, x=X, times=grid, rng=0).x)


def test_a_flow_runs_both_ways() -> None:
    there = rs.sample(FLOW, rs.BlackBox("DOP853", 1e-10, 1e-10), x=X)
    back = rs.sample(
        FLOW, rs.BlackBox("DOP853", 1e-10, 1e-10), x=there.x, times=rs.Grid([VP.t_end, 1.0])
    )
    assert back.x == pytest.approx(X, abs=1e-6)


@pytest.mark.parametrize(
    "sde", [rs.VE(), rs.EDM(), rs.VP(), rs.Cosine()], ids=lambda s: type(s).__name__
)
def test_the_start_is_the_prior(sde: Any) -> None:
    sol = rs.sample(rs.ReverseSDE(sde, RING.score(sde)), EM, 4, times=1, rng=5, keep="all")
    z = rs.Gaussian(5).start(np.zeros((4, 2)))
    assert sol.path is not None and np.array_equal(sol.path.x[0], sde.prior_std * z)


@pytest.mark.parametrize("sde", [rs.VP(), rs.VE()], ids=["vp", "ve"])
def test_last_mean_is_the_mean_before_the_noise(sde: Any) -> None:
    """The last step's formula, without its noise, from the state before; no evaluation more."""
    score = RING.score(sde)
    process, grid = rs.ReverseSDE(sde, score), rs.Grid.uniform(sde, 6)
    t, s = grid.ts[-2:]
    a, q = sde.chain(t, s)

    def em(x: Any) -> Any:
        return x + (sde.f(t) * x - sde.g2(t) * score(x, t)) * (s - t)

    means = {
        EM: em,
        rs.ReverseDiffusion(): lambda x: (2 - a) * x + q * score(x, t),
        rs.Ancestral(): lambda x: (x + q * score(x, t)) / a,
    }
    for solver, mean in means.items():
        options: dict[str, Any] = {"times": grid, "rng": 0, "keep": "all"}
        plain = rs.sample(process, solver, 50, **options)
        last = rs.sample(process, solver, 50, denoise="last_mean", **options)
        assert plain.path is not None and last.path is not None
        assert np.array_equal(last.path.x[:-1], plain.path.x[:-1]), "every other step has its noise"
        assert last.x == pytest.approx(mean(plain.path.x[-2]), rel=1e-12)
        assert np.all(last.x != plain.x) and np.array_equal(last.nfe, plain.nfe)


@pytest.mark.parametrize("order", ["code", "paper"])
def test_last_mean_keeps_the_draws_of_the_corrector(order: Any) -> None:
    """With "code" the last correction comes before the last prediction, with "paper" after it."""
    pc = rs.PredictorCorrector(EM, CORRECTOR, order)
    grid = rs.Grid([1.0, 0.5, 0.2])
    sol = rs.sample(REVERSE, pc, x=X, times=grid, rng=0, denoise="last_mean", keep="all")
    assert sol.path is not None
    source = rs.Gaussian(0)
    source._call = 2  # the first step drew an increment and a corrector's normals

    def correct(x: Any, t: Any) -> Any:
        g, z = SCORE(x, t), source.normal(x)
        ratio = 0.1 * np.linalg.norm(z, axis=1) / np.linalg.norm(g, axis=1)
        e = (2 * (VP.alpha(0.5) / VP.alpha(0.2)) ** 2 * ratio**2)[:, None]
        return x + e * g + np.sqrt(2 * e) * z

    x = sol.path.x[1]
    if order == "code":
        x = correct(x, 0.5)
    source._call = 4 if order == "code" else 3  # the predictor still asks for its increment
    x = x + REVERSE.drift(x, 0.5) * (0.2 - 0.5)
    if order == "paper":
        x = correct(x, 0.2)
    assert sol.x == pytest.approx(x, rel=1e-10)


@cases(lambda case: not case.coupled, kinds=("flow",))
def test_last_mean_of_a_flow_is_its_end(case: Case, kind: str) -> None:
    if "corrector" not in case.name:
        ends = [
            rs.sample(FLOW, case.solver, x=X, times=2, rng=0, denoise=d).x
            for d in ("none", "last_mean")
        ]
        assert np.array_equal(*ends)
