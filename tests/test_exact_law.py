"""exact.law: the affine map of a sampler read out of the driver, against recursions and samples."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from _probing import CASES, MUTANTS, Z, louder, problem
from _recursions import (
    Affine,
    ancestral,
    chain,
    ddim,
    euler,
    heun,
    reverse_diffusion,
    whole,
)
from _recursions import law as recursion
from _solvers import SOLVERS

import refsde as rs
from refsde.exact import law as law_of
from refsde.exact.law import AFFINE, read_map

EXACT = 1e-12


def steps_of(method: str, family: str) -> tuple[Any, Any]:
    """A solver, and the recursion of its step in the papers' notation."""
    return {
        "EM": (rs.EulerMaruyama(), euler),
        "Heun": (rs.Heun(), heun),
        "ReverseDiffusion": (
            rs.ReverseDiffusion(),
            lambda p, t, s: reverse_diffusion(p, t, s, family),
        ),
        "Ancestral": (
            rs.Ancestral("posterior" if family == "sub-vp" else "published"),
            lambda p, t, s: ancestral(
                p, t, s, family, "posterior" if family == "sub-vp" else "published"
            ),
        ),
        **{
            f"DDIM({eta})": (rs.DDIM(eta), lambda p, t, s, eta=eta: ddim(p, t, s, eta))
            for eta in (0.0, 0.5, 1.0)
        },
    }[method]


METHODS = ("EM", "Heun", "ReverseDiffusion", "Ancestral", "DDIM(0.0)", "DDIM(0.5)", "DDIM(1.0)")


def relative(got: np.ndarray, want: np.ndarray, unit: float = 0.0) -> float:
    return float(np.abs(got - want).max() / max(np.abs(want).max(), unit))


# -- against recursions ----------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["marginal", "prior", "pair"])
@pytest.mark.parametrize("d", [1, 5])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_the_law_is_that_of_the_recursion(name: str, method: str, d: int, start: str) -> None:
    p = problem(name, d)
    solver, step = steps_of(method, CASES[name].family)
    begin: Any = {
        "marginal": p.gauss.moments(p.grid.ts[0]),
        "prior": (np.zeros(d), p.reverse.sde.prior_std**2 * np.eye(d)),
        "pair": (np.linspace(-1.0, 2.0, d), np.diag(np.linspace(0.3, 2.0, d))),
    }[start]
    got = rs.exact.law(p.reverse, solver, p.grid, start=begin if start == "pair" else start)
    steps = chain(step, p.gauss, p.grid.ts)
    mean, cov = recursion(steps, *begin)
    spread = math.sqrt(np.trace(cov))
    assert relative(got.mean, mean, spread) < EXACT and relative(got.cov, cov) < EXACT
    assert got.draws == sum(len(step.gains) for step in steps) and got.nfe >= p.grid.n


def test_the_map_itself_is_part_of_the_answer() -> None:
    p = problem("VP", 5)
    want: Affine = whole(chain(heun, p.gauss, p.grid.ts))
    got = rs.exact.law(p.reverse, rs.Heun(), p.grid)
    noise = sum(G @ G.T for G in want.gains)
    for a, b in ((got.matrix, want.A), (got.shift, want.b), (got.noise_cov, noise)):
        assert relative(a, b) < EXACT
    assert (got.draws, got.nfe) == (p.grid.n, 2 * p.grid.n)


def test_denoising_is_part_of_the_map() -> None:
    p = problem("VP", 5)
    steps = chain(euler, p.gauss, p.grid.ts)
    begin = p.gauss.moments(1.0)
    last_mean = recursion([*steps[:-1], steps[-1]._replace(gains=())], *begin)
    tweedie = recursion([*steps, p.gauss.x0(p.grid.ts[-1])], *begin)
    for denoise, (mean, cov) in (("last_mean", last_mean), ("tweedie", tweedie)):
        got = rs.exact.law(p.reverse, rs.EulerMaruyama(), p.grid, denoise=denoise)  # type: ignore[arg-type]
        assert relative(got.mean, mean) < EXACT and relative(got.cov, cov) < EXACT


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_has_another_law(mutant: str) -> None:
    p = problem("VP", 5)
    want = rs.exact.law(p.reverse, rs.EulerMaruyama(), p.grid)
    got = rs.exact.law(p.reverse, MUTANTS[mutant](rs.EulerMaruyama()), p.grid)
    assert relative(got.cov, want.cov) > 1e-4


def test_the_forward_sde_gives_the_marginals() -> None:
    p = problem("VP", 5)
    begin = (p.gauss.m, p.gauss.C)
    grid = rs.Grid(p.grid.ts[::-1])
    got = rs.exact.law(rs.ForwardSDE(rs.VP()), rs.EulerMaruyama(), grid, start=begin)
    mean, cov = recursion(chain(lambda *a: euler(*a, share=0.0), p.gauss, grid.ts), *begin)
    assert relative(got.mean, mean) < EXACT and relative(got.cov, cov) < EXACT


def test_a_flow_draws_nothing() -> None:
    p = problem("VE", 5)
    got = rs.exact.law(p.flow, rs.Heun(), p.grid)
    assert got.draws == 0 and not got.noise_cov.any()


def test_one_point_is_a_gaussian_too() -> None:
    sde, target = rs.VP(), rs.Empirical([[0.3, -1.0]])
    process = rs.ReverseSDE(sde, target.score(sde))
    got = rs.exact.law(process, rs.DDIM(1.0), 10)  # exact on one point
    exact = rs.GaussianMixture([1.0], [[0.3, -1.0]], [0.0]).at(sde, sde.t_end)
    np.testing.assert_allclose(got.mean, exact.mean, rtol=1e-11)
    np.testing.assert_allclose(got.cov, exact.cov, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("rows", [8192, 9])
def test_maps_need_not_be_symmetric(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Those of the solvers are, on Gaussians: a transposed matrix would not be noticed.
    monkeypatch.setitem(read_map.__globals__, "ROWS", rows)
    rng = np.random.default_rng(5)
    A, B, L, M = rng.normal(size=(4, 3, 3))
    shift, mean, root = rng.normal(size=3), rng.normal(size=3), rng.normal(size=(3, 3))

    def solver(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
        z = noise.increment(state.t, s, state.x) / math.sqrt(abs(s - state.t))
        return rs.State(s, state.x @ A.T + shift + z @ L.T + noise.normal(state.x) @ M.T)

    process = rs.ReverseSDE(SDE, lambda x, t: -x @ B.T)
    got = rs.exact.law(process, solver, 3, start=(mean, root @ root.T))
    A3 = A @ A @ A
    noise = sum(P @ Q @ Q.T @ P.T for P in (np.eye(3), A, A @ A) for Q in (L, M))
    assert relative(got.matrix, A3) < EXACT and relative(got.noise_cov, noise) < EXACT
    assert relative(got.shift, shift + A @ shift + A @ A @ shift) < EXACT
    assert relative(got.mean, A3 @ mean + got.shift) < EXACT
    assert relative(got.cov, A3 @ root @ root.T @ A3.T + noise) < EXACT


def test_marginal_is_that_of_the_first_time() -> None:
    p = problem("VP", 5)
    grid = rs.Grid.uniform(rs.VP(), 10, t_end=0.1).ts[5:]
    got = rs.exact.law(p.reverse, rs.Heun(), rs.Grid(grid))
    mean, cov = recursion(chain(heun, p.gauss, grid), *p.gauss.moments(grid[0]))
    assert relative(got.mean, mean) < EXACT and relative(got.cov, cov) < EXACT


def test_a_start_without_spread_leaves_the_noise() -> None:
    got = rs.exact.law(REVERSE, EM, 10, start=([2.0], [[0.0]]))
    assert got.cov == got.noise_cov and np.isfinite(got.matrix).all()
    np.testing.assert_allclose(got.mean, 2.0 * got.matrix[0] + got.shift, rtol=1e-13)


def test_no_digits_are_lost_on_large_data() -> None:
    target = rs.GaussianMixture([1.0], [[1e6]], [1e12])
    flow = rs.ProbabilityFlow(rs.VE(), target.score(rs.VE()))
    got = rs.exact.law(flow, EM, 20)
    with_one = rs.sample(flow, EM, x=np.array([[3e6], [1e6]]), times=20).x
    np.testing.assert_allclose(got.matrix.item(), (with_one[0] - with_one[1]) / 2e6, rtol=1e-13)


# -- what a step may ask for -----------------------------------------------------------------------


def sra1(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    """SRA1 of Roessler (2010), for additive noise: asks for increments *and* their Levy areas."""
    t, x, h = state.t, state.x, s - state.t
    dw, area = noise.levy(t, s, x)
    chi = 0.5 * dw + area
    a = process.drift(x, t)
    b = process.drift(x + 0.75 * h * a + 1.5 * process.diffuse(chi, s), t + 0.75 * h)
    kick = process.diffuse(dw - chi, s) + process.diffuse(chi, t)
    return rs.State(s, x + h * (a + 2 * b) / 3 + kick)


def test_levy_areas_are_draws_of_their_own() -> None:
    # Figures of the order-1.5 methods on N(0, 1/16): relative variance errors.
    target, sde = rs.GaussianMixture([1.0], [[0.0]], [0.0625]), rs.VP()
    process = rs.ReverseSDE(sde, target.score(sde))
    errors = [rs.exact.weak_error(process, sra1, n).variance for n in (50, 100, 200, 400, 800)]
    printed = "1.941e-02 4.872e-03 1.229e-03 3.092e-04 7.760e-05"
    assert " ".join(f"{e:.3e}" for e in errors) == printed
    assert rs.exact.law(process, sra1, 10).draws == 20


def irregular(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    """Euler-Maruyama that takes late steps in halves and stirs with a corrector in early ones."""
    if state.t > 0.5:
        z = noise.normal(state.x)
        state = state._replace(x=state.x + 0.01 * process.score(state.x, state.t) + 0.1 * z)
        return rs.EulerMaruyama()(process, state, s, noise)
    middle = 0.5 * (state.t + s)
    halfway = rs.EulerMaruyama()(process, state, middle, noise)
    return rs.EulerMaruyama()(process, halfway, s, noise)


def silent_first(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    solver: Any = rs.DDIM() if state.t > 0.9 else rs.DDIM(1.0)
    return rs.State(*solver(process, state, s, noise))


def test_steps_may_ask_for_more_and_less() -> None:
    p = problem("VP", 5, n=12)
    got = rs.exact.law(p.reverse, irregular, rs.Grid.uniform(rs.VP(), 12))
    assert got.draws == 24 and rs.exact.law(p.reverse, silent_first, 20).draws == 17


@dataclass(frozen=True)
class Momentum:
    """Euler on the flow with memory: averages the slope with that of the step before."""

    def init(self, process: Any, x: Any, t: Any) -> tuple[Any, ...]:
        return (process.drift(x, t),)

    def __call__(self, process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
        slope = process.drift(state.x, state.t)
        x = state.x + (1.5 * slope - 0.5 * state.memory[0]) * (s - state.t)
        return rs.State(s, x, memory=(slope,))


def test_memory_is_no_obstacle() -> None:
    p = problem("VP", 2)
    x = np.random.default_rng(0).normal(size=(4, 2))
    got = rs.exact.law(p.flow, Momentum(), 20)
    want = rs.sample(p.flow, Momentum(), x=x, times=20).x
    np.testing.assert_allclose(x @ got.matrix.T + got.shift, want, rtol=1e-12)


# -- blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 20, 64, 65])
def test_blocks_of_probes_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem("VP", 5, n=12)
    want = rs.exact.law(p.reverse, irregular, 12)
    monkeypatch.setitem(read_map.__globals__, "ROWS", rows)
    got = rs.exact.law(p.reverse, irregular, 12)
    assert relative(got.cov, want.cov) < EXACT and relative(got.mean, want.mean) < EXACT
    assert got.draws == want.draws


def test_memory_is_bounded_by_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(read_map.__globals__, "ROWS", 512)
    d = 64
    target = rs.GaussianMixture([1.0], [np.zeros(d)], [1.0])
    process = rs.ReverseSDE(rs.VP(), target.score(rs.VP()))

    def peak(n: int) -> int:
        tracemalloc.start()
        rs.exact.law(process, rs.EulerMaruyama(), n)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(2)
    assert peak(80) < 1.1 * peak(20)
    monkeypatch.setitem(read_map.__globals__, "ROWS", 8192)
    assert peak(80) > 2 * peak(20)  # what it would be if all probes went together


# -- against Monte Carlo ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", SOLVERS, ids=lambda case: case.name)
def test_samples_have_the_law(case: Any, seed: int) -> None:
    # 5 moments of 20000 samples a solver: each beyond Z with probability 5.7e-7, a false alarm in
    # 5e-5 of fresh seeds over all solvers.  Those that are not affine are refused.
    sde, target = rs.VP(), rs.GaussianMixture([1.0], [[0.7, -0.4]], [[[0.3, 0.1], [0.1, 0.2]]])
    kind = case.kinds[0]
    process = (rs.ReverseSDE if kind == "reverse" else rs.ProbabilityFlow)(sde, target.score(sde))
    grid = rs.Grid.karras(sde, 12)
    if not affine(case):
        with pytest.raises(ValueError, match="is not affine|couples the samples"):
            rs.exact.law(process, case.solver, grid, start="prior")
        return
    got = rs.exact.law(process, case.solver, grid, start="prior")

    def worst(solver: Any) -> float:
        x = rs.sample(process, solver, 20_000, times=grid, rng=seed).x
        gap = x - got.mean
        i, j = np.triu_indices(2)
        terms = np.hstack([gap, gap[:, i] * gap[:, j] - got.cov[i, j]])
        return float((np.abs(terms.mean(0)) / terms.std(0) * math.sqrt(len(x))).max())

    assert worst(case.solver) < Z
    assert worst(louder(case.solver, 1.05)) > Z or got.draws == 0


def affine(case: Any) -> bool:
    parts = [case.solver, *vars(case.solver).values()]
    return not any(isinstance(part, rs.Langevin | rs.MALA | rs.BlackBox) for part in parts)


# -- what is refused -------------------------------------------------------------------------------

GAUSSIAN = rs.GaussianMixture([1.0], [[0.7]], [0.25])
SDE = rs.VP()
REVERSE = rs.ReverseSDE(SDE, GAUSSIAN.score(SDE))
FLOW = rs.ProbabilityFlow(SDE, GAUSSIAN.score(SDE))
EM = rs.EulerMaruyama()


def clipped(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    new = rs.EulerMaruyama()(process, state, s, noise)
    return new._replace(x=np.clip(new.x, -1.0, 1.0))


def crowd(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    new = rs.EulerMaruyama()(process, state, s, noise)
    return new._replace(x=new.x - 0.1 * np.max(new.x, axis=0))


def fickle(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    if abs(state.x[0, 0]) > 1:
        noise.normal(state.x)
    return rs.State(*rs.EulerMaruyama()(process, state, s, noise))


class FickleAlone:
    """Asks some samples once more; each is a block of its own."""

    block_rows = 1

    def __call__(self, process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
        return fickle(process, state, s, noise)


def explode(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    return rs.State(s, state.x * 1e300)


def bent_score(x: Any, t: Any) -> Any:
    return -np.tanh(x)


@dataclass(frozen=True)
class Halving:
    """Times that adapt, in name."""

    def start(self, process: Any, x: Any) -> Any:
        return 1.0, 0

    def target(self, t: Any, plan: Any) -> Any:
        return None

    def judge(self, old: Any, new: Any, plan: Any) -> Any:
        return new, plan

    def select(self, plan: Any, rows: Any) -> Any:
        return plan


RING = rs.GaussianMixture.ring()
REFUSED = {
    "mixture": (
        lambda: law_of(rs.ReverseSDE(SDE, RING.score(SDE)), EM, 5),
        "not Gaussian.*refsde.exact.density.*refsde.exact.flow",
    ),
    "points": (
        lambda: law_of(rs.ReverseSDE(SDE, rs.Empirical([[0.0], [1.0]]).score(SDE)), EM, 5),
        "not Gaussian",
    ),
    "sample norms": (
        lambda: law_of(REVERSE, rs.PredictorCorrector(EM, rs.Langevin(0.1)), 5),
        "not affine.*signal-to-noise",
    ),
    "batch norms": (
        lambda: law_of(REVERSE, rs.PredictorCorrector(EM, rs.Langevin(norm="batch")), 5),
        "couples",
    ),
    "error control": (lambda: law_of(FLOW, rs.BlackBox(coupled=False), 1), "not affine.*error con"),
    "adaptive times": (lambda: law_of(REVERSE, EM, Halving()), "`times`.*solution.path.grid"),
    "threshold": (lambda: law_of(REVERSE, clipped, 5), "`solver`.*not affine.*threshold"),
    "coupled in secret": (lambda: law_of(REVERSE, crowd, 5), "`solver`.*not affine"),
    "other draws": (lambda: law_of(REVERSE, fickle, 5), "same noise whatever the state"),
    "other draws by blocks": (
        lambda: law_of(REVERSE, FickleAlone(), 5),
        "same noise whatever the state",
    ),
    "infinite": (lambda: law_of(REVERSE, explode, 5), "leaves the finite numbers.*step"),
    "bent score": (
        lambda: law_of(rs.ReverseSDE(SDE, bent_score), EM, 5, start=([0.0], [[1.0]])),
        "score that is not affine at t = 1",
    ),
    "no target": (
        lambda: law_of(rs.ReverseSDE(SDE, lambda x, t: -x), EM, 5),
        r"target.score\(sde\), or pass start=\(mean, cov\)",
    ),
    "unknown start": (lambda: law_of(REVERSE, EM, 5, start="data"), "`start`.*'data'"),
    "start of other d": (
        lambda: law_of(REVERSE, EM, 5, start=([0.0, 0.0], np.eye(2))),
        "`start` has d = 2.*d = 1",
    ),
    "start not psd": (lambda: law_of(REVERSE, EM, 5, start=([0.0], [[-1.0]])), "`start`.*negative"),
    "wrong times": (lambda: law_of(REVERSE, EM, 0), "`times`"),
    "ascending": (lambda: law_of(REVERSE, EM, rs.Grid([0.1, 1.0])), "`times` must descend"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_such_law_is_refused_with_the_reason(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_solver_on_a_process_it_does_not_accept_is_refused() -> None:
    with pytest.raises(TypeError, match="Ancestral"):
        rs.exact.law(FLOW, rs.Ancestral(), 5)
    with pytest.raises(TypeError, match="`solver` must be called"):
        rs.exact.law(REVERSE, rs.Heun, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("edge", [1.5, 2.0, 3.0, 4.0])
def test_a_threshold_far_out_is_noticed(edge: float) -> None:
    def solver(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
        new = EM(process, state, s, noise)
        return new._replace(x=np.clip(new.x, -edge, edge))

    with pytest.raises(ValueError, match="not affine"):
        rs.exact.law(REVERSE, solver, 64)


def test_a_bend_is_measured_by_the_spread_not_by_the_mean() -> None:
    def solver(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
        new = EM(process, state, s, noise)
        return new._replace(x=new.x + 1e-4 * np.sin(new.x) * (s - state.t))

    for mean in (0.7, 1e3, 1e6):
        target = rs.GaussianMixture([1.0], [[mean]], [0.25])
        process = rs.ReverseSDE(SDE, target.score(SDE))
        rs.exact.law(process, EM, 20)
        with pytest.raises(ValueError, match="not affine"):
            rs.exact.law(process, solver, 20)


def test_the_prior_stands_at_the_end_of_noise() -> None:
    half = rs.Grid([0.5, 0.2, 0.01])
    for function in (rs.exact.law, rs.exact.weak_error, rs.exact.strong_error):
        function(REVERSE, EM, half)
        with pytest.raises(ValueError, match="`times` must start at T"):
            function(REVERSE, EM, half, start="prior")


@pytest.mark.parametrize("bend", [1e-6, 1e-7])
def test_a_slight_bend_is_noticed(bend: float) -> None:
    def solver(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
        new = EM(process, state, s, noise)
        return new._replace(x=new.x + bend * new.x**2)

    assert bend > 10 * AFFINE
    with pytest.raises(ValueError, match="not affine"):
        rs.exact.law(REVERSE, solver, 5)


def test_an_affine_score_of_ones_own_has_a_law() -> None:
    process = rs.ReverseSDE(SDE, lambda x, t: -x)
    got = rs.exact.law(process, EM, 50, start=([0.0], [[1.0]]))
    want = rs.GaussianMixture([1.0], [[0.0]], [1.0])
    same = rs.exact.law(rs.ReverseSDE(SDE, want.score(SDE)), EM, 50)
    np.testing.assert_allclose(got.cov, same.cov, rtol=1e-12)


def test_the_measures_take_a_law() -> None:
    got = rs.exact.law(REVERSE, EM, 100)
    exact = GAUSSIAN.at(SDE, SDE.t_end)
    assert 0 < rs.measure.gaussian_w2(got, exact) < 0.02
    assert repr(got).startswith("Law(mean 0.704") and "100 NFE" in repr(got)
    assert "d = 2" in repr(replace(got, mean=np.zeros(2), cov=np.eye(2)))
