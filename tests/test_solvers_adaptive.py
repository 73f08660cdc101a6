"""GGF and Lamba: the published algorithm to the bit of its noise, its counts, and what stays alone.

Identities first: on a grid they are Heun and Euler-Maruyama; a run of theirs, repeated on its own
steps, is the same run; and the published algorithm, written out once more without this package's
loop, gives the same samples.  What stays statistical are variances and means of Gaussian laws known
exactly: 40 comparisons at `Z` standard errors, so that a right solver fails this file for one seed
in 25000; a mutant is rejected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from _solvers import RING, VP, CountingScore, NoNoise, process_of

import refsde as rs
from refsde.solvers import corrector as correctors

Z = 4.9  # standard errors: two-sided rate 1e-6
SCORE = RING.score(VP)
REVERSE, FLOW, FORWARD = (process_of(kind, SCORE) for kind in ("reverse", "flow", "forward"))
KINDS = pytest.mark.parametrize("process", [REVERSE, FLOW, FORWARD], ids=lambda p: p.kind)
FIELDS = ("x", "t", "nfe", "n_accepted", "n_rejected", "success")
SDES = {
    "VP": VP,
    "SubVP": rs.SubVP(),
    "VE": rs.VE(),
    "EDM": rs.EDM(),
    "Cosine": rs.Cosine(),
    "DDPM": rs.Tabulated.from_betas("linear"),
    "SMLD": rs.Tabulated(sigmas=np.geomspace(0.01, 50, 1000)),
}


def starts(n: int = 40, d: int = 2) -> np.ndarray:
    return np.random.default_rng(4).normal(size=(n, d))


def same(a: rs.Solution, b: rs.Solution, fields: tuple[str, ...] = FIELDS) -> bool:
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in fields)


# -- on a grid ------------------------------------------------------------------------------------


def on_a_grid(process: Any, solver: Any, steps: int, **options: Any) -> np.ndarray:
    sol = rs.sample(process, solver, x=starts(), times=steps, rng=3, **options)
    assert sol.success.all()
    return np.asarray(sol.x)


@KINDS
@pytest.mark.parametrize("cache", [False, True])
def test_on_a_grid_ggf_is_heun(process: Any, cache: bool) -> None:
    """To rounding: the same terms, added in another order; tolerances change nothing."""
    for solver in (rs.GGF(cache=cache), rs.GGF.safe(1e-6, 1e-6), rs.GGF.tuned(norm="linf")):
        for steps, bound in ((1, 1e-14), (20, 1e-11)):
            x, heun = (on_a_grid(process, s, steps) for s in (solver, rs.Heun()))
            assert np.max(abs(x - heun) / np.max(abs(heun))) < bound
    assert np.max(abs(x - on_a_grid(process, rs.EulerMaruyama(), 20))) > 1e-3


@KINDS
def test_on_a_grid_the_cheap_halves_are_euler_maruyama(process: Any) -> None:
    """Bit for bit; and each costs the second evaluation that it makes for its error."""
    right = on_a_grid(process, rs.EulerMaruyama(), 20)
    for solver in (rs.GGF(extrapolate=False), rs.Lamba(), rs.Lamba(1e-9, use_prev=False)):
        assert np.array_equal(on_a_grid(process, solver, 20), right)
    sol = rs.sample(process, rs.Lamba(), x=starts(), times=20, rng=3)
    assert np.all(sol.nfe == (0 if process.kind == "forward" else 40))


def test_on_the_flow_lamba_extrapolated_is_heun_and_nothing_is_drawn() -> None:
    heun = on_a_grid(FLOW, rs.Heun(), 20)
    for solver in (rs.Lamba(extrapolate=True), rs.GGF()):
        assert on_a_grid(FLOW, solver, 20, noise=NoNoise()) == pytest.approx(heun, rel=1e-11)
    assert rs.sample(FLOW, rs.GGF(0.1), x=starts(), noise=NoNoise()).success.all()


@KINDS
@pytest.mark.parametrize("make", [rs.Gaussian, rs.RetainedPath, rs.BrownianTree])
def test_where_all_is_accepted_steps_of_one_length_are_the_grid(process: Any, make: Any) -> None:
    """Spec 02, 10b (a): with loose tolerances the controller's limits define the steps."""
    n, forward = 50, process.kind == "forward"
    grid = rs.Grid.uniform(VP, n, 0.0 if forward else None)
    grid = grid.reversed() if forward else grid
    length = abs(grid.ts[-1] - grid.ts[0]) / n
    control = rs.Adaptive(h0=length, cap=1.0)
    for solver, fixed in ((rs.GGF(1e9, 1e9), rs.Heun()), (rs.Lamba(1e9, 1e9), rs.EulerMaruyama())):
        sol = rs.sample(process, solver, x=starts(), times=control, noise=make(5))
        want = rs.sample(process, fixed, x=starts(), times=grid, noise=make(5))
        assert np.all(sol.n_accepted == n) and np.all(sol.n_rejected == 0)
        # The tree sees the last bits of the times, and descends to another leaf at a few of them.
        assert np.median(abs(sol.x - want.x)) < 1e-9


@KINDS
@pytest.mark.parametrize("solver", [rs.GGF(0.05), rs.GGF(0.05, extrapolate=False), rs.Lamba(0.02)])
def test_a_run_repeated_on_its_own_steps_is_the_same_run(process: Any, solver: Any) -> None:
    """One path whatever is asked of it, rejections and all.

    A grid's times are floats, those of samples arrays, whose functions round in their own way.
    """
    x, tree = starts(6), rs.BrownianTree(9)
    sol = rs.sample(process, solver, x=x, times=rs.Adaptive(cap=1.5), noise=tree, keep="all")
    assert sol.path is not None
    assert process.kind == "forward" or sol.n_rejected.sum() > 6
    for i in range(6):
        grid = sol.path.grid(i)
        assert grid.n == sol.n_accepted[i] and grid.ts[-1] == sol.t[i]
        again = rs.sample(process, solver, x=x[: i + 1], times=grid, noise=tree)
        assert again.x[i] == pytest.approx(sol.x[i], rel=0, abs=1e-10)


@dataclass(frozen=True)
class Summed:
    """A solver whose memory holds the increments that it was given in accepted steps."""

    inner: Any

    def init(self, process: Any, x: Any, t: Any) -> Any:
        return (self.inner.init(process, x, t), 0.0 * x)

    def __call__(self, process: Any, state: Any, s: Any, noise: Any) -> rs.State:
        inner, w = state.memory
        asked: list[Any] = []

        class Listening:
            def increment(self, t: Any, s: Any, x: Any) -> Any:
                asked.append(noise.increment(t, s, x))
                return asked[-1]

        new = self.inner(process, state._replace(memory=inner), s, Listening())
        return new._replace(memory=(new.memory, w + asked[0]))


def test_accepted_increments_are_a_path_that_repeats_the_run() -> None:
    """What was accepted of a RetainedPath, as a StoredPath on the steps of the sample."""
    x, n = starts(5), 5
    states = list(
        rs.iterate(REVERSE, Summed(rs.GGF(0.05)), x, rs.Adaptive(cap=1.25), rs.RetainedPath(2))
    )
    t = np.array([np.asarray(state.t)[:, 0] for state in states])
    # Memory is there while all are under way: until then the path is known of everyone.
    known = [k for k, state in enumerate(states) if state.memory][-1]
    for i in range(n):
        steps = np.flatnonzero(np.concatenate([[True], np.diff(t[: known + 1, i]) != 0]))
        assert 10 < len(steps) < known, "some attempts were rejected"
        w = np.array([states[k].memory[1][i] for k in steps])[:, None]
        path = rs.StoredPath(t[steps, i], w)
        sol = rs.sample(REVERSE, rs.Heun(), x=x[i : i + 1], times=rs.Grid(t[steps, i]), noise=path)
        assert sol.x[0] == pytest.approx(states[known].x[i], abs=1e-9)


# -- the published algorithm, written out ---------------------------------------------------------


def published(
    process: Any, x: np.ndarray, key: int, rtol: float, *, atol: float = 0.0078, norm: str = "rms",
    use_prev: bool = True, extrapolate: bool = True, lamba: bool = False, r: float = 0.9,
    theta: float = 0.9, h_init: float = 0.01, mutant: str = "",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Spec 02, sections 1 and 3, with fresh noise; samples, accepted and rejected attempts."""
    eps, noise, n = VP.t_end, rs.Gaussian(key=key), len(x)
    t, h, prev = np.ones((n, 1)), np.full((n, 1), h_init), x
    accepted, rejected = np.zeros(n, int), np.zeros(n, int)

    def D(x: np.ndarray, t: np.ndarray) -> np.ndarray:
        return -0.5 * VP.beta(t) * x - VP.beta(t) * process.score(x, t)

    def g(t: np.ndarray) -> np.ndarray:
        return np.sqrt(VP.beta(t))

    while np.any(t - eps > 1e-12):
        z, live = noise.normal(x), t - eps > 1e-12
        s = np.maximum(t - h, eps)
        K1 = -h * D(x, t) + np.sqrt(h) * g(t) * z
        low = x + K1
        if lamba:
            drifted = x - h * D(x, t)
            high = x - 0.5 * h * (D(x, t) + D(drifted, s)) + np.sqrt(h) * g(t) * z
        else:
            K2 = -h * D(low, s) + np.sqrt(h) * g(s) * z
            high = x + 0.5 * (K1 + K2)
        first, second = (low, high) if extrapolate else (high, low)
        other = prev if use_prev else first
        delta = np.maximum(atol, rtol * np.maximum(abs(first), abs(other)))
        if mutant == "sum":
            delta = atol + rtol * np.maximum(abs(first), abs(other))
        ratio = (high - low) / delta
        E = {
            "rms": np.sqrt(np.mean(ratio**2, axis=1, keepdims=True)),
            "l2": np.sqrt(np.sum(ratio**2, axis=1, keepdims=True)),
            "linf": np.max(abs(ratio), axis=1, keepdims=True),
        }[norm]
        yes = live & (E <= 1)
        prev = np.where(yes, second if mutant == "prev" else first, prev)
        x, t = np.where(yes, second, x), np.where(yes, s, t)
        accepted += yes[:, 0]
        rejected += (live & ~yes)[:, 0]
        with np.errstate(divide="ignore"):
            h = np.minimum(t - eps, theta * h * np.maximum(E, 1e-12) ** -r)
    return x, accepted, rejected


OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm": "l2"},
    {"norm": "linf"},
    {"use_prev": False},
    {"extrapolate": False},
    {"atol": 0.0039},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: next(iter(o), "default"))
@pytest.mark.parametrize("rtol", [0.02, 0.1])
def test_ggf_is_the_published_algorithm(options: dict[str, Any], rtol: float) -> None:
    """Sample by sample, accepted and rejected attempts counted; draws at their addresses."""
    x, key = starts(200), rs.Gaussian(8).key
    want, accepted, rejected = published(REVERSE, x, key, rtol, **options)
    sol = rs.sample(REVERSE, rs.GGF(rtol, **options), x=x, noise=rs.Gaussian(8))
    assert np.array_equal(sol.n_accepted, accepted) and np.array_equal(sol.n_rejected, rejected)
    assert sol.x == pytest.approx(want, abs=1e-7) and rejected.sum() > 0.1 * accepted.sum()
    assert np.median(abs(sol.x - want)) < 1e-11
    for mutant in ("sum", "prev"):
        if mutant == "prev" and options.get("use_prev") is False:
            continue
        other = published(REVERSE, x, key, rtol, mutant=mutant, **options)
        assert not np.array_equal(other[1], sol.n_accepted)


@pytest.mark.parametrize("options", [{}, {"extrapolate": True}, {"norm": "linf"}], ids=str)
def test_lamba_is_the_published_variant(options: dict[str, Any]) -> None:
    x, key = starts(200), rs.Gaussian(8).key
    given = {"extrapolate": False, "lamba": True, "r": 0.5} | options
    want, accepted, rejected = published(REVERSE, x, key, 0.02, **given)
    sol = rs.sample(REVERSE, rs.Lamba(0.02, **options), x=x, noise=rs.Gaussian(8))
    assert np.array_equal(sol.n_accepted, accepted) and np.array_equal(sol.n_rejected, rejected)
    assert np.median(abs(sol.x - want)) < 1e-11 and sol.x == pytest.approx(want, abs=1e-7)


@pytest.mark.parametrize(
    ("control", "options"),
    [
        (rs.Adaptive(exponent=0.5), {"r": 0.5}),
        (rs.Adaptive(safety=0.8, exponent=1.0), {"theta": 0.8, "r": 1.0}),
        (rs.Adaptive(h0=0.5), {"h_init": 0.5}),
    ],
    ids=["exponent", "safety", "h0"],
)
def test_its_knobs_are_those_of_the_controller(control: Any, options: dict[str, Any]) -> None:
    x, key = starts(100), rs.Gaussian(8).key
    want, accepted, rejected = published(REVERSE, x, key, 0.05, **options)
    for how in ({"times": control}, {}):
        sol = rs.sample(REVERSE, rs.GGF(control=control), x=x, noise=rs.Gaussian(8), **how)
        assert np.array_equal(sol.n_accepted, accepted)
        assert np.array_equal(sol.n_rejected, rejected)
        assert sol.x == pytest.approx(want, abs=1e-7)


def test_one_attempt_by_hand() -> None:
    """Error and proposals at one point, where every number can be checked on paper.

    Data N(0, 1) under VP, where the score is -x: D = beta x / 2.
    """
    process = rs.ReverseSDE(VP, lambda x, t: -x)
    x, prev = np.array([[1.0, -2.0, 0.0]]), np.array([[3.0, 0.0, 0.0]])
    t, s, beta = 0.6, 0.5, VP.beta
    dw = np.array([[0.1, 0.2, -0.3]])
    path = rs.StoredPath([0.6, 0.5], np.array([0 * dw, dw]))
    low = x + 0.5 * beta(t) * x * (s - t) + math.sqrt(beta(t)) * dw
    high = x + 0.25 * (beta(t) * x + beta(s) * low) * (s - t)
    high = high + 0.5 * (math.sqrt(beta(t)) + math.sqrt(beta(s))) * dw
    state = rs.State(t, x, memory=(prev,))
    for solver, size, other in (
        (rs.GGF(0.1, 0.05), low, prev),
        (rs.GGF(0.1, 0.05, use_prev=False), low, low),
        (rs.GGF(0.1, 0.05, extrapolate=False), high, prev),
    ):
        scale = np.maximum(0.05, 0.1 * np.maximum(abs(size), abs(other)))
        new = solver(process, state, s, path)
        assert new.t == s and new.error is not None
        assert new.error == pytest.approx(
            math.sqrt(np.mean(((high - low) / scale) ** 2)), rel=1e-12
        )
        kept = high if size is low else low
        assert new.x == pytest.approx(kept, rel=1e-14)
        assert new.memory[0] == pytest.approx(size, rel=1e-14)
    # Lamba's error is half the difference of the drifts, the second without the noise.
    far = x + 0.5 * beta(t) * x * (s - t)
    gap = 0.25 * (beta(s) * far - beta(t) * x) * (s - t)
    new = rs.Lamba(0.1, 0.05, norm="linf")(process, state, s, path)
    scale = np.maximum(0.05, 0.1 * np.maximum(abs(low + gap), abs(prev)))
    assert new.error == pytest.approx(np.max(abs(gap / scale)), rel=1e-12)
    assert rs.Lamba(extrapolate=True)(process, state, s, path).x == pytest.approx(low + gap)


def test_the_first_error_is_measured_against_the_start() -> None:
    """x'_prev is x_T until a step is accepted: with rtol alone, a large start is tolerant."""
    x = 100.0 * starts(8)
    for solver in (rs.GGF(0.1), rs.Lamba(0.1)):
        (memory,) = solver.init(REVERSE, x, 1.0)
        assert np.array_equal(memory, x)
        alone = solver(REVERSE, rs.State(1.0, x), 0.9, rs.Gaussian(0).on(np.arange(8)))
        with_start = solver(
            REVERSE, rs.State(1.0, x, memory=(x,)), 0.9, rs.Gaussian(0).on(np.arange(8))
        )
        assert np.array_equal(alone.error, with_start.error)


def test_norms_of_one_coordinate_agree_and_of_many_are_ordered() -> None:
    process = rs.ReverseSDE(VP, lambda x, t: -x)
    for d in (1, 64):
        x = starts(5, d)
        rms, l2, linf = (
            rs.GGF(norm=norm)(process, rs.State(0.6, x), 0.5, rs.Gaussian(0)).error  # type: ignore[arg-type]
            for norm in ("rms", "l2", "linf")
        )
        assert l2 == pytest.approx(math.sqrt(d) * rms, rel=1e-12)
        assert np.all(linf <= l2 * (1 + 1e-12)) and np.all(linf >= rms * (1 - 1e-12))
        assert rms.shape == (5, 1)
    assert np.all(linf > 1.5 * rms)


# -- what it costs --------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [REVERSE, FLOW], ids=lambda p: p.kind)
@pytest.mark.parametrize(
    "solver",
    [
        rs.GGF(0.05),
        rs.GGF(0.05, extrapolate=False, norm="linf"),
        rs.Lamba(0.005, 0.001),
        rs.GGF(0.02, control=rs.Adaptive.filter("PI", 1.5)),
    ],
    ids=["ggf", "low", "lamba", "pi"],
)
def test_a_cached_slope_saves_one_evaluation_a_rejection(process: Any, solver: Any) -> None:
    """And changes no result, bit for bit."""
    score = CountingScore(SCORE)
    runs = {}
    for cache in (False, True):
        score.batches.clear()
        sol = rs.sample(
            process_of(process.kind, score), replace(solver, cache=cache), x=starts(300), rng=2
        )
        assert sum(score.batches) == sol.nfe.sum(), "rows that were really evaluated"
        runs[cache] = sol
    plain, cached = runs[False], runs[True]
    assert same(plain, cached, ("x", "t", "n_accepted", "n_rejected", "success"))
    assert plain.n_rejected.sum() > 30
    assert np.array_equal(plain.nfe, 2 * (plain.n_accepted + plain.n_rejected))
    assert np.array_equal(cached.nfe, 2 * plain.n_accepted + plain.n_rejected)


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_a_cached_slope_changes_nothing_in_other_libraries(library: str) -> None:
    xp = pytest.importorskip(library)
    runs = [
        rs.sample(REVERSE, rs.GGF(0.1, cache=cache), x=xp.asarray(starts()), rng=2)
        for cache in (False, True)
    ]
    assert np.array_equal(np.asarray(runs[0].x), np.asarray(runs[1].x))
    assert np.array_equal(runs[1].nfe, 2 * runs[0].n_accepted + runs[0].n_rejected)


@pytest.mark.parametrize("make", [rs.GGF, rs.GGF.safe, rs.GGF.tuned, rs.Lamba])
@pytest.mark.parametrize("denoise", ["none", "tweedie"])
def test_samples_that_have_arrived_cost_nothing(make: Any, denoise: Any) -> None:
    """Counted, in a run whose samples finish more than 30 % apart: the sum of their own NFE."""
    score = CountingScore(SCORE)
    sol = rs.sample(rs.ReverseSDE(VP, score), make(0.05), 400, rng=2, denoise=denoise)
    attempts = sol.n_accepted + sol.n_rejected
    assert np.ptp(attempts) > 0.3 * attempts.mean()
    assert sum(score.batches) == sol.nfe.sum()
    whole = 400 * sol.nfe.max()
    assert whole > 1.1 * sol.nfe.sum(), "mutant: a loop that carries them along"


def test_the_published_count_is_that_of_the_slowest() -> None:
    """Two for every attempt of a batch, as long as one of its samples is under way."""
    sol = rs.sample(REVERSE, rs.GGF.safe(0.1), 100, rng=2)
    attempts = sol.n_accepted + sol.n_rejected
    assert rs.GGF.published_nfe(sol) == 2 * attempts.max() > sol.nfe.max()
    by_hand = np.mean([2 * attempts[i : i + 30].max() for i in (0, 30, 60, 90)])
    assert rs.GGF.published_nfe(sol, batch=30) == by_hand
    assert rs.GGF.published_nfe(sol, batch=1) == 2 * attempts.mean()
    assert rs.GGF.published_nfe(sol, batch=1000) == rs.GGF.published_nfe(sol)
    rounds = len(list(rs.iterate(REVERSE, rs.GGF(0.1), starts(9), rs.Adaptive(), rs.Gaussian(0))))
    beside = rs.sample(REVERSE, rs.GGF(0.1), x=starts(9), noise=rs.Gaussian(0))
    assert rs.GGF.published_nfe(beside) == 2 * (rounds - 1), "the first state is no attempt"
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="`batch`"):
            rs.GGF.published_nfe(sol, batch=wrong)


# -- with a corrector -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A predictor that notes where each attempt starts, by sample."""

    inner: Any
    log: list[tuple[np.ndarray, np.ndarray, np.ndarray]]

    def init(self, process: Any, x: Any, t: Any) -> Any:
        return (*self.inner.init(process, x, t), np.arange(len(x))[:, None] + 0.0 * x[:, :1])

    def __call__(self, process: Any, state: Any, s: Any, noise: Any) -> rs.State:
        *memory, names = state.memory
        self.log.append((names[:, 0].astype(int), np.array(state.t)[:, 0], np.array(state.x)))
        new = self.inner(process, state._replace(memory=tuple(memory)), s, noise)
        return new._replace(memory=(*new.memory, names))


CORRECTORS = [rs.AnnealedLangevin(0.1, steps=2), rs.Langevin(0.1)]


@pytest.mark.parametrize("corrector", CORRECTORS, ids=["annealed", "langevin"])
@pytest.mark.parametrize("cache", [False, True])
def test_a_sample_is_corrected_once_a_step(corrector: Any, cache: bool) -> None:
    """A retry sets out, bit for bit, from the corrected state of the attempt that was rejected."""
    log: list[Any] = []
    solver = rs.PredictorCorrector(Seen(rs.GGF(0.05, cache=cache), log), corrector)
    sol = rs.sample(REVERSE, solver, x=starts(), times=rs.Adaptive(cap=1.25), rng=1)
    assert sol.success.all()
    retries = 0
    last: dict[int, tuple[float, np.ndarray]] = {}
    for names, t, x in log:
        for name, now, state in zip(names, t, x, strict=True):
            before = last.get(name)
            if before is not None and before[0] == now:
                retries += 1
                assert np.array_equal(before[1], state)
            elif before is not None:
                assert not np.array_equal(before[1], state)
            last[name] = now, state
    assert retries == sol.n_rejected.sum() > 40


@pytest.mark.parametrize("corrector", CORRECTORS, ids=["annealed", "langevin"])
@pytest.mark.parametrize("order", ["code", "paper"])
def test_corrections_are_counted(corrector: Any, order: Any) -> None:
    """As they happen, so at every attempt; a cached slope still saves one a rejection."""
    score = CountingScore(SCORE)
    runs = []
    for cache in (False, True):
        score.batches.clear()
        solver = rs.PredictorCorrector(rs.GGF(0.05, cache=cache), corrector, order)
        sol = rs.sample(
            rs.ReverseSDE(VP, score), solver, x=starts(), times=rs.Adaptive(cap=1.25), rng=1
        )
        assert sum(score.batches) == sol.nfe.sum() and sol.success.all()
        attempts = sol.n_accepted + sol.n_rejected
        saved = sol.n_rejected if cache else 0
        assert np.array_equal(sol.nfe, attempts * (2 + corrector.steps) - saved)
        runs.append(sol)
    assert same(*runs, ("x", "t", "n_accepted", "n_rejected"))


def test_correctors_keep_samples_apart() -> None:
    solver = rs.PredictorCorrector(rs.GGF(0.1), rs.AnnealedLangevin(0.1))
    assert not correctors.couples(solver) and not correctors.couples(rs.GGF())
    many = rs.sample(REVERSE, solver, 300, times=rs.Adaptive(cap=1.25), rng=1)
    few = rs.sample(REVERSE, solver, 7, times=rs.Adaptive(cap=1.25), rng=1)
    assert all(np.array_equal(getattr(few, f), getattr(many, f)[:7]) for f in FIELDS)


# -- laws that are known --------------------------------------------------------------------------


def moments(x: np.ndarray, mean: float, variance: float, bias: float) -> tuple[float, float]:
    """Errors of mean and variance, in standard errors beyond a relative bias."""
    n = x.size
    off = abs(x.mean() - mean) / math.sqrt(variance) * math.sqrt(n)
    wide = max(abs(np.mean((x - mean) ** 2) / variance - 1) - bias, 0.0) * math.sqrt(n / 2)
    return float(off), float(wide)


@pytest.mark.parametrize("solver", [rs.GGF.safe(0.02), rs.GGF.safe(0.02, extrapolate=False)])
def test_forward_in_time_the_law_is_known(solver: Any, seed: int) -> None:
    """From the point m the forward SDE makes N(alpha m, sigma^2): within `Z` and 1 % of bias."""
    for sde, end in ((VP, 0.4), (rs.SubVP(), 0.4), (rs.VE(0.1, 5.0), 1.0)):
        x = np.full((10_000, 2), 1.3)
        control = replace(solver.control, t_end=end)
        sol = rs.sample(rs.ForwardSDE(sde), solver, x=x, times=control, rng=seed)
        assert sol.success.all() and np.all(sol.nfe == 0) and sol.n_rejected.sum() > 1000
        variance = sde.sigma(end) ** 2 - sde.sigma(0.0) ** 2 * isinstance(sde, rs.VE)
        off, wide = moments(sol.x, sde.alpha(end) * 1.3, variance, bias=0.01)
        assert off < Z and wide < Z


def test_forward_in_time_fresh_noise_is_not(seed: int) -> None:
    """Mutant: the published noise, where a quarter of the attempts is rejected."""
    x = np.full((10_000, 2), 1.3)
    control = rs.Adaptive(cap=1.25, t_end=0.4)
    sol = rs.sample(rs.ForwardSDE(VP), rs.GGF(0.02), x=x, times=control, noise=rs.Gaussian(seed))
    assert moments(sol.x, VP.alpha(0.4) * 1.3, VP.sigma(0.4) ** 2, bias=0.01)[1] > 2 * Z


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("kind", ["reverse", "flow"])
def test_under_every_sde(name: str, kind: str, seed: int) -> None:
    """Data N(0, 1/4): the variance at t_end within `Z` standard errors and 3 % of bias."""
    sde = SDES[name]
    target = rs.GaussianMixture([1.0], [[0.0, 0.0]], [0.25])
    h0 = 0.01 * sde.T
    solver = rs.GGF.safe(0.02, 0.002, control=rs.Adaptive(h0=h0, cap=1.25))
    sol = rs.sample(process_of(kind, target.score(sde), sde), solver, 1000, rng=seed)
    assert sol.success.all() and np.all(sol.t == sde.t_end)
    variance = sde.alpha(sde.t_end) ** 2 * 0.25 + sde.sigma(sde.t_end) ** 2
    off, wide = moments(sol.x, 0.0, variance, bias=0.03)
    assert off < Z and wide < Z


def test_samples_of_the_ring_lie_on_the_ring() -> None:
    for solver in (rs.GGF.safe(0.05), rs.GGF.tuned(), rs.GGF(0.05), rs.Lamba(0.01)):
        sol = rs.sample(REVERSE, solver, 300, rng=0)
        radius = np.linalg.norm(sol.x, axis=1)
        assert np.mean(abs(radius - 4.0) < 1.0) > 0.99


# -- what it is made of ---------------------------------------------------------------------------


def test_tolerances_of_a_range_are_grey_levels() -> None:
    assert rs.GGF.of_range(-1, 1).atol == 2 / 256 == pytest.approx(0.0078, abs=2e-5)
    assert rs.Lamba.of_range(0, 1).atol == 1 / 256 == pytest.approx(0.0039, abs=1e-5)
    solver = rs.GGF.of_range(0, 255, rtol=0.01, norm="linf")
    assert (solver.atol, solver.rtol, solver.norm) == (255 / 256, 0.01, "linf")
    for low, high in ((1, 0), (1, 1), (math.nan, 1), (0, math.inf)):
        with pytest.raises(ValueError, match="`low`, `high` must be the range of the data"):
            rs.GGF.of_range(low, high)


def test_the_defaults_are_the_papers() -> None:
    solver = rs.GGF()
    assert (solver.atol, solver.norm, solver.use_prev) == (0.0078, "rms", True)
    assert solver.extrapolate and not solver.cache
    assert solver.default_times == rs.Adaptive(h0=0.01, safety=0.9, exponent=0.9)
    assert solver.control.cap == math.inf and solver.control.floor == 0
    assert rs.Lamba().control.exponent == (0.5,) and not rs.Lamba().extrapolate
    assert rs.GGF.safe().control.cap == 1.25 and rs.GGF.safe().cache
    assert rs.GGF.safe(0.01, 0.001, norm="l2", cache=False) == rs.GGF(
        0.01, 0.001, norm="l2", control=rs.Adaptive(cap=1.25)
    )
    sol = rs.sample(REVERSE, rs.GGF.safe(0.1), 20, rng=1)
    assert same(sol, rs.sample(REVERSE, rs.GGF.safe(0.1), 20, times=rs.Adaptive(cap=1.25), rng=1))
    assert same(sol, rs.sample(REVERSE, rs.GGF.safe(0.1), 20, noise=rs.RetainedPath(1)))


@pytest.mark.parametrize("make", [rs.GGF, rs.GGF.safe, rs.GGF.tuned, rs.Lamba, rs.SRA1, rs.ShARK])
@pytest.mark.parametrize("wrong", [0, 0.0, -0.01, -1, math.inf, -math.inf, math.nan])
def test_wrong_tolerances_are_refused(make: Any, wrong: float) -> None:
    for name in ("rtol", "atol"):
        with pytest.raises(ValueError, match=rf"`{name}` of \w+ must be positive and finite, got"):
            make(**{name: wrong})


@pytest.mark.parametrize("make", [rs.GGF, rs.GGF.safe, rs.GGF.tuned, rs.Lamba, rs.SRA1, rs.ShARK])
@pytest.mark.parametrize("wrong", ["0.1", None, [0.1], True, False, 1j])
def test_tolerances_that_are_no_numbers_are_refused(make: Any, wrong: Any) -> None:
    for name in ("rtol", "atol"):
        with pytest.raises((TypeError, ValueError), match=rf"`{name}` of \w+ must be .*, got"):
            make(**{name: wrong})


@pytest.mark.parametrize("make", [rs.GGF, rs.Lamba])
def test_wrong_options_are_refused(make: Any) -> None:
    for norm in ("max", "L2", None, 2):
        with pytest.raises(ValueError, match="`norm` of .* must be 'rms', 'l2' or 'linf', got"):
            make(norm=norm)
    for name in ("use_prev", "extrapolate", "cache"):
        for value in (1, 0, None, "yes"):
            with pytest.raises(TypeError, match=f"`{name}` must be True or False, got"):
                make(**{name: value})
    for control in (None, 0.01, 20, rs.Grid.uniform(VP, 4), rs.Adaptive):
        with pytest.raises(TypeError, match=r"`control` must be an Adaptive, got .* times="):
            make(control=control)
    with pytest.raises(TypeError, match="safety"):
        make(safety=0.9)


def test_numpy_tolerances_do_not_widen_single_precision() -> None:
    solver = rs.GGF(np.float64(0.1), np.float32(0.01))
    assert type(solver.rtol) is type(solver.atol) is float
    sol = rs.sample(REVERSE, solver, 20, rng=0, dtype=np.float32)
    assert sol.x.dtype == np.float32 and sol.success.all()


def test_without_times_a_grid_solver_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"`times` is None: pass .*times=200.*Adaptive"):
        rs.sample(REVERSE, rs.EulerMaruyama(), 5, rng=0)
