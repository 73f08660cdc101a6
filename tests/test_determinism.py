"""Sample i depends on (rng, i) alone: not on n, blocks, threads, batch mates or form of the seed.

Bit-equality everywhere; no test here is statistical.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _solvers import BOTH, RING, SOLVERS, VP, Case, cases, process_of

import refsde as rs
import refsde.solvers

BLOCK = 16384  # samples in a noise block of small events
SCORE = RING.score(VP)
ALONE = "blackbox-alone"  # an ODE a sample: slow, so it gets fewer of them


def full_mixture(K: int, d: int) -> rs.GaussianMixture:
    """A mixture with full covariances, of the size of digits or larger."""
    rng = np.random.default_rng(d)
    half = rng.normal(size=(K, d, d)) / np.sqrt(d)
    covs = half @ half.transpose(0, 2, 1) + 0.01 * np.eye(d)
    return rs.GaussianMixture(np.full(K, 1 / K), rng.normal(size=(K, d)), covs)


def run(case: Case, kind: str, n: int, score: Any = SCORE, **options: Any) -> rs.Solution:
    """Sample ``n`` with few steps; the forward SDE starts from ``n`` draws of the target."""
    options = {"rng": 3, "times": 3} | options
    process = process_of(kind, score)
    if kind == "forward":
        return rs.sample(process, case.solver, x=score.target.sample(n, rng=1), **options)
    return rs.sample(process, case.solver, n, **options)


def same(a: rs.Solution, b: rs.Solution, rows: Any) -> bool:
    """Whether ``a`` is the samples ``rows`` of ``b``, in everything that is told of a sample."""
    fields = ("x", "t", "nfe", "n_accepted", "n_rejected", "success")
    pairs = [(getattr(a, name), getattr(b, name)[rows]) for name in fields]
    return all(u.dtype == v.dtype and np.array_equal(u, v) for u, v in pairs)


def test_the_table_holds_every_solver() -> None:
    """The tests over `SOLVERS` mean all solvers: whoever adds one is told to add a line."""

    def parts(solver: Any) -> list[type]:
        inner = [getattr(solver, name, None) for name in ("predictor", "corrector")]
        return [type(solver), *(kind for part in inner if part is not None for kind in parts(part))]

    tabled = {kind.__name__ for case in SOLVERS for kind in parts(case.solver)}
    assert set(refsde.solvers.__all__) <= tabled
    for case in SOLVERS:
        assert set(case.kinds) == set(case.solver.accepts), case.name
        assert case.coupled == refsde.solvers.corrector.couples(case.solver), case.name


# -- how many -------------------------------------------------------------------------------------


@cases(lambda case: not case.coupled)
def test_seven_are_the_first_of_five_thousand(case: Case, kind: str) -> None:
    many = run(case, kind, 25 if case.name == ALONE else 5000)
    for n in (7, 1):
        assert same(run(case, kind, n), many, slice(n)), n


@cases(lambda case: not case.coupled and case.name != ALONE)
def test_blocks_and_threads_change_nothing(case: Case, kind: str) -> None:
    """The second block has its own noise and starts at sample 16384."""
    many = run(case, kind, BLOCK + 40)
    for workers in (2, 3):
        assert same(run(case, kind, BLOCK + 40, workers=workers), many, slice(None)), workers
    assert same(run(case, kind, BLOCK + 2, workers=2), many, slice(BLOCK + 2))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_three_blocks_among_threads(workers: int) -> None:
    """Three blocks: one worker has two of them, or each has one."""
    case, n = SOLVERS[0], 2 * BLOCK + 9
    options: dict[str, Any] = {"keep": "all", "denoise": "tweedie", "workers": workers}
    sol, alone = (
        run(case, "reverse", n, **options),
        run(case, "reverse", n, **options | {"workers": 1}),
    )
    assert same(sol, alone, slice(None))
    assert sol.path is not None and alone.path is not None
    assert np.array_equal(sol.path.x, alone.path.x)
    # From equal starts only the noise can tell the blocks apart.
    zeros = np.zeros((BLOCK + 9, 2))
    noisy = rs.sample(
        rs.ForwardSDE(VP), rs.EulerMaruyama(), x=zeros, times=1, rng=0, workers=workers
    )
    flat = noisy.x.ravel()
    assert len(np.unique(flat)) == flat.size, "no two normals may be the same"


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_one_ode_a_sample_among_threads(workers: int) -> None:
    case = next(case for case in SOLVERS if case.name == ALONE)
    assert same(run(case, "flow", 9, workers=workers), run(case, "flow", 9), slice(None))


@cases(lambda case: not case.coupled, kinds=BOTH)
def test_digits_sized_events(case: Case, kind: str) -> None:
    """Full covariances in 64 dimensions: matrix products, whose bits depend on their shape."""
    slow = case.name == ALONE
    score = full_mixture(2 if slow else 10, 64).score(VP)
    many = run(case, kind, 9 if slow else 300, score, times=2)
    for n in (7, 1):
        assert same(run(case, kind, n, score, times=2), many, slice(n)), n


@pytest.mark.parametrize("name", ["em", "heun", "pc-reverse-diffusion", "ddim-1"])
def test_large_events_have_smaller_blocks(name: str) -> None:
    """d = 200: a block is 4096 samples, the largest power of two with B * 200 <= 2**20."""
    case = next(case for case in SOLVERS if case.name == name)
    score = full_mixture(2, 200).score(VP)
    many = run(case, "reverse", 4096 + 5, score, times=1)
    for n in (7, 4096 + 1):
        assert same(run(case, "reverse", n, score, times=1, workers=2), many, slice(n)), n
    assert not np.array_equal(many.x[:5], many.x[4096:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_does_not_matter(dtype: Any) -> None:
    for case in SOLVERS:
        if case.coupled or "reverse" not in case.kinds:
            continue
        few, many = (run(case, "reverse", n, dtype=dtype) for n in (7, 900))
        assert few.x.dtype == dtype and same(few, many, slice(7)), case.name


def test_the_layout_of_the_start_does_not_matter() -> None:
    """Sums round differently along another memory order, so a start is copied into one order."""
    score = full_mixture(2, 64).score(VP)
    x = np.random.default_rng(0).normal(size=(600, 64))
    pc, process = rs.PredictorCorrector(rs.EulerMaruyama(), rs.Langevin()), rs.ReverseSDE(VP, score)
    expected = rs.sample(process, pc, x=x, times=3, rng=0).x
    strided = np.repeat(x, 2, axis=1)[:, ::2]
    for start in (np.asfortranarray(x), strided, x[::-1][::-1], np.asfortranarray(x)[:7]):
        got = rs.sample(process, pc, x=start, times=3, rng=0).x
        assert np.array_equal(got, expected[: len(start)])
        last = list(rs.iterate(process, pc, start, rs.Grid.uniform(VP, 3), rs.Gaussian(0)))[-1]
        assert np.array_equal(last.x, got)


class Sequential:
    """Mutant noise: one stream for the whole batch, as most code draws it."""

    def __init__(self, rows: Any = None) -> None:
        self.rng = np.random.default_rng(0)

    def on(self, rows: Any) -> Sequential:
        return Sequential()

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return self.normal(x) * np.sqrt(abs(s - t))

    def normal(self, x: Any) -> Any:
        return self.rng.standard_normal(x.shape)


def centred(x: Any, t: Any) -> Any:
    """Mutant score: it looks at the batch."""
    return x.mean(axis=0) - x


def test_mutants_depend_on_the_batch() -> None:
    em = rs.EulerMaruyama()
    for score, noise in ((SCORE, Sequential()), (centred, None)):
        process = rs.ReverseSDE(VP, score)
        runs = [rs.sample(process, em, n, shape=(2,), times=3, rng=0, noise=noise) for n in (7, 90)]
        assert not same(runs[0], runs[1], slice(7))


# -- batch mates ----------------------------------------------------------------------------------


def with_and_without_outlier(case: Case, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Samples 1 to 5 beside an ordinary sample 0, and beside an outlier."""
    x = np.random.default_rng(4).normal(size=(6, 2))
    odd = x.copy()
    odd[0] = 40.0, -70.0
    process = process_of(kind, SCORE)
    times = rs.Grid.uniform(VP, 3, 0.0 if kind == "forward" else None)
    times = times.reversed() if kind == "forward" else times
    plain, beside = (rs.sample(process, case.solver, x=s, times=times, rng=0).x for s in (x, odd))
    assert not np.array_equal(plain[0], beside[0])
    return plain[1:], beside[1:]


@cases(lambda case: not case.coupled)
def test_an_outlier_leaves_its_batch_mates_alone(case: Case, kind: str) -> None:
    plain, beside = with_and_without_outlier(case, kind)
    assert np.array_equal(plain, beside)


@cases(lambda case: case.coupled)
def test_the_two_documented_modes_are_coupled(case: Case, kind: str) -> None:
    """Batch-mean Langevin and whole-batch BlackBox: every batch mate of the outlier is changed."""
    plain, beside = with_and_without_outlier(case, kind)
    assert np.all(np.any(plain != beside, axis=1))


def test_a_predictor_of_single_samples_stays_so_inside_a_corrector() -> None:
    """A wrapper passes on that its predictor takes one sample at a time."""
    alone = rs.PredictorCorrector(rs.BlackBox("RK23", 1e-3, 1e-3, coupled=False), None)
    case = Case("wrapped", alone, ("flow",), None)
    plain, beside = with_and_without_outlier(case, "flow")
    assert np.array_equal(plain, beside)
    assert len(set(run(case, "flow", 12).nfe.tolist())) > 1, "a count of its own for each sample"


# -- the seed -------------------------------------------------------------------------------------


@cases(kinds=("reverse",))
def test_int_generator_and_key_agree(case: Case, kind: str) -> None:
    by_int = run(case, kind, 9, rng=11)
    generator = np.random.default_rng(11)
    assert same(run(case, kind, 9, rng=generator), by_int, slice(None))
    assert same(run(case, kind, 9, rng=np.random.SeedSequence(11)), by_int, slice(None))
    assert by_int.seed_entropy is not None
    replay = rs.Gaussian(key=by_int.seed_entropy)
    for _ in range(2):  # a source is not used up by a run
        assert same(run(case, kind, 9, rng=None, noise=replay), by_int, slice(None))
    assert not np.array_equal(run(case, kind, 9, rng=12).x, by_int.x)
    assert not np.array_equal(run(case, kind, 9, rng=generator).x, by_int.x), "it has moved on"


def test_no_seed_means_another_run_each_time() -> None:
    case = SOLVERS[0]
    assert not np.array_equal(
        run(case, "reverse", 5, rng=None).x, run(case, "reverse", 5, rng=None).x
    )


def test_the_key_is_one_draw_of_64_bits() -> None:
    drawn = int(np.random.default_rng(7).integers(2**64, dtype=np.uint64))
    assert run(SOLVERS[0], "reverse", 2, rng=7).seed_entropy == drawn == rs.Gaussian(7).key


def test_the_start_may_have_a_seed_of_its_own() -> None:
    """Given ``noise=`` a Gaussian and ``rng``, the start is that of ``rng``."""
    process = rs.ProbabilityFlow(VP, SCORE)
    a = rs.sample(process, rs.EulerMaruyama(), 4, times=2, rng=1, noise=rs.Gaussian(2))
    assert np.array_equal(a.x, rs.sample(process, rs.EulerMaruyama(), 4, times=2, rng=1).x)
    b = rs.sample(process, rs.EulerMaruyama(), 4, times=2, noise=rs.Gaussian(2))
    assert np.array_equal(b.x, rs.sample(process, rs.EulerMaruyama(), 4, times=2, rng=2).x)


def test_the_global_state_is_not_an_input() -> None:
    """The fixture of every test sees that it is not an output either."""
    state = np.random.get_state()  # noqa: NPY002
    first = run(SOLVERS[0], "reverse", 3)
    try:
        np.random.seed(99)  # noqa: NPY002
        assert same(run(SOLVERS[0], "reverse", 3), first, slice(None))
    finally:
        np.random.set_state(state)  # noqa: NPY002


# -- precision ------------------------------------------------------------------------------------


@cases(lambda case: not case.name.startswith("blackbox"))
def test_float32_follows_the_float64_path(case: Case, kind: str) -> None:
    """The same normals, rounded: on a single Gaussian the paths stay within rounding."""
    score = full_mixture(1, 2).score(VP)
    fine, coarse = (
        rs.sample(
            process_of(kind, score),
            case.solver,
            x=score.target.sample(50, rng=1).astype(dtype),
            times=20,
            rng=0,
        ).x
        for dtype in (np.float64, np.float32)
    )
    assert coarse.dtype == np.float32
    scale = np.abs(fine).max()
    assert np.abs(fine - coarse).max() < 2e-4 * scale
    # The mutant is another path altogether.
    assert np.abs(fine - coarse[::-1]).max() > 0.1 * scale


def test_the_start_is_drawn_in_float64_then_rounded() -> None:
    """Drawn in float32, the same key would give other normals."""
    flow = rs.ProbabilityFlow(VP, SCORE)
    starts = []
    for dtype in (np.float64, np.float32):
        sol = rs.sample(flow, rs.EulerMaruyama(), 5, times=1, rng=0, keep="all", dtype=dtype)
        assert sol.path is not None
        starts.append(sol.path.x[0])
    assert np.array_equal(starts[0].astype(np.float32), starts[1])


@pytest.mark.parametrize(
    "sde",
    [
        rs.VP(np.float64(0.1), np.float64(20.0)),
        rs.SubVP(np.float64(0.1), np.float64(20.0)),
        rs.VE(np.float64(0.01), np.float64(50.0)),
        rs.EDM(np.float64(0.002), np.float64(80.0)),
        rs.Cosine(np.float64(0.008)),
        rs.Tabulated.from_betas(n=50),
    ],
    ids=lambda sde: type(sde).__name__,
)
def test_numpy_scalars_do_not_widen_float32(sde: Any) -> None:
    """A float64 scalar is not weak in NumPy 2: it would turn the samples into float64."""
    corrector = rs.Langevin(np.float64(0.1))
    solvers: list[Any] = [
        rs.EulerMaruyama(),
        rs.Heun(),
        rs.DDIM(np.float64(1.0)),
        rs.OneStep(np.float64(0.5)),
        rs.ReverseDiffusion(),
        rs.Ancestral("posterior"),
        rs.PredictorCorrector(rs.EulerMaruyama(), corrector),
        rs.PredictorCorrector(None, rs.AnnealedLangevin(np.float64(0.1))),
    ]
    for solver in solvers:
        grid = rs.Grid.uniform(sde, 3, np.float64(sde.t_end))
        process = rs.ReverseSDE(sde, RING.score(sde))
        sol = rs.sample(process, solver, 3, times=grid, rng=0, dtype=np.float32, denoise="tweedie")
        assert sol.x.dtype == np.float32, solver
