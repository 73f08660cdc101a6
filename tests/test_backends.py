"""The same solver and SDE files on NumPy, torch and strict arrays, from the same draws."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from _probing import BETAS, MIXTURE_2D, SIGMAS
from scipy import sparse

import refsde as rs
from refsde import precondition as pc

FLOAT64 = 1e-12  # median over the samples of the difference to NumPy's
FLOAT32 = 1e-4

SDES = {
    "VP": rs.VP(),
    "SubVP": rs.SubVP(),
    "VE": rs.VE(sigma_max=10.0),
    "VE-exact": rs.VE(sigma_max=10.0, convention="exact"),
    "EDM": rs.EDM(sigma_max=10.0),
    "Cosine": rs.Cosine(),
    "DDPM": rs.Tabulated(BETAS),
    "SMLD": rs.Tabulated(sigmas=SIGMAS),
}

BATCH = rs.Langevin(0.1, norm="batch")
SOLVERS: dict[str, tuple[Any, str]] = {
    "EM": (rs.EulerMaruyama(), "reverse"),
    "EM, flow": (rs.EulerMaruyama(), "flow"),
    "Heun": (rs.Heun(), "reverse"),
    "Heun, flow": (rs.Heun(), "flow"),
    "reverse diffusion": (rs.ReverseDiffusion(), "reverse"),
    "reverse diffusion, flow": (rs.ReverseDiffusion(), "flow"),
    "ancestral": (rs.Ancestral(), "reverse"),
    "ancestral posterior": (rs.Ancestral("posterior"), "reverse"),
    "ancestral large": (rs.Ancestral("large"), "reverse"),
    "DDIM(0)": (rs.DDIM(), "flow"),
    "DDIM(0.5)": (rs.DDIM(0.5), "reverse"),
    "DDIM(1)": (rs.DDIM(1.0), "reverse"),
    "SDE-DPM(0.5)": (rs.OneStep.sde_dpm(0.5), "reverse"),
    "ER-SDE": (rs.OneStep.er_sde(lambda rho: rho**1.5), "reverse"),
    "one step, a share": (rs.OneStep(0.3), "reverse"),
    "RK45": (rs.EmbeddedRK(), "flow"),
    "GGF": (rs.GGF(), "reverse"),
    "GGF, largest": (rs.GGF(norm="linf", extrapolate=False), "reverse"),
    "Lamba": (rs.Lamba(), "reverse"),
    "SRA1": (rs.SRA1(), "reverse"),
    "SRA2, by the sum": (rs.SRA2(estimator="sum"), "reverse"),
    "SRA3": (rs.SRA3(norm="l2"), "reverse"),
    "SOSRA": (rs.SOSRA(), "reverse"),
    "SOSRA2": (rs.SOSRA2(norm="linf"), "reverse"),
    "ShARK": (rs.ShARK(), "reverse"),
    "SEA": (rs.SEA(), "reverse"),
    "TAB": (rs.TAB(2), "flow"),
    "angular": (rs.Angular(2), "flow"),
    "UniPC": (rs.UniPC(3), "flow"),
    "IPNDM, warmed up": (rs.IPNDM(3, "heun"), "flow"),
    "DPM-Solver, taylor": (rs.DPMSolver(3, variant="taylor"), "flow"),
    "rho RK": (rs.RhoRK("4rk"), "flow"),
    "churn": (rs.Churn(churn=1.0), "flow"),
    "SDE-DPM 2M": (rs.SDEDPMSolverPP(2), "reverse"),
    "SEEDS": (rs.SEEDS(2), "reverse"),
    "SA": (rs.SASolver(2), "reverse"),
    "ER-SDE 2": (rs.ERSDE(2), "reverse"),
    "Analytic-DPM": (rs.AnalyticDPM(lambda t: 0.01 * t), "reverse"),
    "PC, Langevin": (rs.PredictorCorrector(rs.ReverseDiffusion(), rs.Langevin(0.1, 2)), "reverse"),
    "PC, batch norm": (rs.PredictorCorrector(rs.Ancestral(), BATCH, "paper"), "reverse"),
    "PC, annealed": (rs.PredictorCorrector(rs.EulerMaruyama(), rs.AnnealedLangevin(0.1)), "flow"),
    "PC, MALA": (rs.PredictorCorrector(rs.Heun(), rs.MALA(0.2, 2)), "reverse"),
    "corrector alone": (rs.PredictorCorrector(None, rs.AnnealedLangevin(0.1)), "reverse"),
    "black box": (rs.BlackBox(rtol=1e-6, atol=1e-6), "flow"),
    "black box, each alone": (rs.BlackBox("RK45", 1e-2, 1e-2, coupled=False), "flow"),
}
PROCESSES = {"reverse": rs.ReverseSDE, "flow": rs.ProbabilityFlow}


def as_numpy(x: Any) -> np.ndarray:
    return np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)


def give(xp: ModuleType, values: np.ndarray, dtype: str = "float64") -> Any:
    return xp.asarray(values, dtype=getattr(xp, dtype))


def bumps(xp: ModuleType, sde: Any) -> Any:
    """A score as a user writes it in his own library: modes at -1 and 1 in every coordinate."""

    def score(x: Any, t: Any) -> Any:
        a, s = sde.alpha(t), sde.sigma(t)
        v = 0.04 * a * a + s * s
        return (a * xp.tanh(a * x / v) - x) / v

    return score


def starts(sde: Any, n: int = 30) -> np.ndarray:
    return np.asarray(sde.prior_std * np.random.default_rng(5).standard_normal((n, 2)))


def run(
    xp: ModuleType, sde: Any, name: str, score: Any, dtype: str = "float64", **options: Any
) -> Any:
    solver, kind = SOLVERS[name]
    grid = None if "black box" in name else rs.Grid.uniform(sde, 16)
    x = give(xp, starts(sde), dtype)
    return rs.sample(PROCESSES[kind](sde, score), solver, x=x, times=grid, rng=11, **options)


def same(got: Any, xp: ModuleType, want: np.ndarray, dtype: str, tolerance: float) -> None:
    assert type(got) is type(give(xp, np.zeros(1)))
    assert got.dtype == getattr(xp, dtype)
    assert np.median(np.abs(as_numpy(got) - want).max(axis=1)) < tolerance * max(
        1.0, np.abs(want).max()
    )


# -- samples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_samples_of_a_mixture_agree(xp: ModuleType, name: str, dtype: str) -> None:
    sde = rs.VP()
    score = MIXTURE_2D.score(sde)
    want = run(np, sde, name, score)
    got = run(xp, sde, name, score, dtype)
    same(got.x, xp, want.x, dtype, FLOAT64 if dtype == "float64" else FLOAT32)
    assert got.success.all()
    if dtype == "float64":
        np.testing.assert_array_equal(got.nfe, want.nfe)


@pytest.mark.parametrize(
    "name", ["EM", "Heun, flow", "ancestral", "DDIM(0.5)", "ER-SDE", "PC, Langevin"]
)
@pytest.mark.parametrize("sde", SDES)
def test_samples_with_a_users_score_agree(xp: ModuleType, sde: str, name: str) -> None:
    if (sde, name) == ("SubVP", "ancestral"):
        name = "ancestral posterior"
    want = run(np, SDES[sde], name, bumps(np, SDES[sde])).x
    same(run(xp, SDES[sde], name, bumps(xp, SDES[sde])).x, xp, want, "float64", FLOAT64)
    same(run(xp, SDES[sde], name, bumps(xp, SDES[sde]), "float32").x, xp, want, "float32", FLOAT32)


@pytest.mark.parametrize(
    "target", [MIXTURE_2D, rs.targets.Empirical([[0.0, 1.0], [1.0, -1.0], [-1.0, 0.5]])]
)
def test_every_target_runs_in_every_library(xp: ModuleType, target: Any) -> None:
    sde = rs.VP()
    want = run(np, sde, "DDIM(0.5)", target.score(sde)).x
    same(run(xp, sde, "DDIM(0.5)", target.score(sde)).x, xp, want, "float64", FLOAT64)


@pytest.mark.parametrize("denoise", ["tweedie", "last_mean"])
def test_denoising_and_paths(xp: ModuleType, denoise: Any) -> None:
    sde = rs.VP()
    score = MIXTURE_2D.score(sde)
    seen: list[Any] = []
    want = run(np, sde, "EM", score, denoise=denoise, keep=4)
    got = run(
        xp,
        sde,
        "EM",
        score,
        denoise=denoise,
        keep=4,
        callback=lambda state, rows: seen.append(state.x),
    )
    same(got.x, xp, want.x, "float64", FLOAT64)
    np.testing.assert_allclose(got.path.x, want.path.x, rtol=1e-9, atol=1e-9)
    assert len(seen) == 16
    assert all(type(x) is type(got.x) for x in seen)


def test_a_forward_run(xp: ModuleType) -> None:
    sde, x = rs.VE(sigma_max=5.0), MIXTURE_2D.sample(20, rng=0)
    runs = [
        rs.sample(rs.ForwardSDE(sde), rs.EulerMaruyama(), x=give(m, x), times=10, rng=1).x
        for m in (np, xp)
    ]
    same(runs[1], xp, runs[0], "float64", FLOAT64)


def test_along_a_stored_path(xp: ModuleType) -> None:
    sde, grid = rs.VP(), rs.Grid.uniform(rs.VP(), 16)
    path = rs.StoredPath.draw(grid.ts, (30, 2), rng=2)
    want = run(np, sde, "EM", MIXTURE_2D.score(sde), noise=path).x
    same(run(xp, sde, "EM", MIXTURE_2D.score(sde), noise=path).x, xp, want, "float64", FLOAT64)


def test_workers_change_nothing(xp: ModuleType) -> None:
    sde = rs.VP()
    solver, flow = (
        SOLVERS["black box, each alone"][0],
        rs.ProbabilityFlow(sde, MIXTURE_2D.score(sde)),
    )
    x = give(xp, starts(sde, 6))
    runs = [rs.sample(flow, solver, x=x, workers=k).x for k in (1, 2)]
    np.testing.assert_array_equal(*(as_numpy(x) for x in runs))


@pytest.mark.parametrize("name", ["EM", "DDIM(0)", "PC, Langevin", "black box"])
def test_inputs_are_not_touched(xp: ModuleType, name: str) -> None:
    sde = rs.VP()
    solver, kind = SOLVERS[name]
    x = give(xp, starts(sde))
    before = as_numpy(x).copy()
    rs.sample(PROCESSES[kind](sde, MIXTURE_2D.score(sde)), solver, x=x, times=3, rng=0)
    np.testing.assert_array_equal(as_numpy(x), before)


# -- preconditioned -------------------------------------------------------------------------------


def evened(table: np.ndarray, axes: int = 2) -> np.ndarray:
    last = tuple(range(-axes, 0))
    return 0.5 * (table + np.roll(np.flip(table, last), 1, last))


_rng = np.random.default_rng(8)
_GRID = _rng.uniform(0.7, 1.4, (3, 4))
_MATRIX = np.eye(12) + 0.1 * _rng.standard_normal((12, 12))
MAPS: dict[str, Any] = {
    "identity": pc.Identity(),
    "scalar": pc.Scalar(1.3),
    "diagonal": pc.Diagonal(_GRID),
    "fourier": pc.Fourier(evened(_GRID)),
    "fourier-signal": pc.Fourier(evened(_GRID, 1), axes=1),
    "dct": pc.DCT(_GRID),
    "dct-signal": pc.DCT(_GRID, axes=1),
    "dense": pc.Dense(_MATRIX, (3, 4)),
    "sparse": pc.Dense(sparse.csr_array(np.triu(_MATRIX)), (3, 4)),
    "product": pc.Fourier(evened(_GRID)) @ pc.Diagonal(_GRID),
    "inverse": pc.Dense(_MATRIX, (3, 4)).inverse(),
}
SKEWS: dict[str, Any] = {
    "skew": pc.Skew(_MATRIX - _MATRIX.T, (3, 4)),
    "fourier-skew": pc.FourierSkew(_GRID - evened(_GRID)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [*MAPS, *SKEWS])
def test_maps_agree(xp: ModuleType, name: str, dtype: str) -> None:
    M: Any = (MAPS | SKEWS)[name]
    z = np.random.default_rng(0).standard_normal((2, 5, 3, 4))
    given = give(xp, z, dtype)
    acts = ["apply", "apply_transpose", "gram"] + ["solve"] * (name in MAPS)
    for act in acts:
        want, got = getattr(M, act)(z), getattr(M, act)(given)
        assert type(got) is type(given) and got.dtype == given.dtype
        tolerance = 1e-13 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(as_numpy(got), want, rtol=0, atol=tolerance * np.abs(want).max())
    np.testing.assert_array_equal(as_numpy(given), as_numpy(give(xp, z, dtype)))


@pytest.mark.parametrize("law", ["pds", "marginal", "noise"])
@pytest.mark.parametrize(
    "name", ["EM", "Heun", "reverse diffusion", "ancestral", "DDIM(1)", "PC, Langevin", "PC, MALA"]
)
def test_preconditioned_samples_agree(xp: ModuleType, name: str, law: Any) -> None:
    sde, M = rs.VP(), pc.Dense([[1.0, 0.3], [-0.1, 0.8]])
    skew = None if law == "noise" or "MALA" in name else pc.Skew([[0.0, 0.4], [-0.4, 0.0]])
    process = rs.Preconditioned(sde, MIXTURE_2D.score(sde), M, law, skew, "off")
    solver, grid = SOLVERS[name][0], rs.Grid.uniform(sde, 16)

    def run_in(m: ModuleType, dtype: str) -> Any:
        x = give(m, starts(sde), dtype)
        return rs.sample(process, solver, x=x, times=grid, rng=11).x

    want = run_in(np, "float64")
    same(run_in(xp, "float64"), xp, want, "float64", FLOAT64)
    same(run_in(xp, "float32"), xp, want, "float32", FLOAT32)


@pytest.mark.parametrize("name", MAPS)
def test_preconditioned_fields_agree(xp: ModuleType, name: str) -> None:
    """Images, a filter for every step, and the guard, which reads the target's spectrum."""
    sde, field = rs.VE(sigma_max=10.0), rs.GaussianField.power_law((3, 4))
    M = pc.Stepwise(lambda t, s: pc.Scalar(1.0 if t > 0.5 else 1.05) @ MAPS[name])
    process = rs.Preconditioned(sde, field.score(sde), M, guard="clip")
    solver = rs.PredictorCorrector(rs.ReverseDiffusion(), rs.AnnealedLangevin(0.1))
    x = sde.prior_std * np.random.default_rng(0).standard_normal((6, 3, 4))
    grid = rs.Grid.logsnr(sde, 12)
    known = MAPS[name].basis in (None, field.basis)
    if not known or name in ("dense", "inverse", "sparse"):
        process = rs.Preconditioned(sde, field.score(sde), M, guard="off")
    want, got = (rs.sample(process, solver, x=give(m, x), times=grid, rng=1).x for m in (np, xp))
    same(got, xp, want, "float64", 1e-10)


# -- one clock a sample ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SDES)
def test_the_verbs_of_an_sde_take_a_time_for_each_sample(
    xp: ModuleType, name: str, dtype: str
) -> None:
    sde = SDES[name]
    times = np.linspace(0.05, 1.0, 9) * sde.T
    t = give(xp, times[:, None], dtype)
    rtol = 1e-12 if dtype == "float64" else 3e-5

    def check(got: Any, want: list[float]) -> None:
        assert tuple(got.shape) == (9, 1)
        assert got.dtype == t.dtype
        np.testing.assert_allclose(
            as_numpy(got)[:, 0], want, rtol=rtol, atol=1e-6 if dtype == "float32" else 0
        )

    for verb in ("alpha", "sigma", "f", "g2", "rho", "lam"):
        if dtype == "float32" and name in ("DDPM", "SMLD") and verb in ("f", "g2"):
            continue  # piecewise constant: float32 may round a time onto the next piece
        check(getattr(sde, verb)(t), [getattr(sde, verb)(float(v)) for v in times])
    check(sde.t_of_lam(sde.lam(t)), list(times))
    if dtype == "float64":
        a, q = sde.chain(t, 0.5 * t)
        for got, i in ((a, 0), (q, 1)):
            check(got, [sde.chain(float(v), 0.5 * float(v))[i] for v in times])


def shared_clock(name: str) -> bool:
    """Whether a solver needs the whole grid, and refuses clocks of each sample's own."""
    solver = SOLVERS[name][0]
    kinds = (rs.Multistep, rs.BlackBox, rs.Churn, rs.AnalyticDPM)
    return isinstance(solver, kinds) or isinstance(getattr(solver, "method", None), rs.Multistep)


@pytest.mark.parametrize("name", [name for name in SOLVERS if not shared_clock(name)])
@pytest.mark.parametrize("sde", ["VP", "EDM"])
def test_solvers_take_a_time_for_each_sample(xp: ModuleType, sde: str, name: str) -> None:
    clock, x = SDES[sde], starts(SDES[sde], 6)
    solver, kind = SOLVERS[name]
    t, s = (np.linspace(a, b, 6) * clock.T for a, b in ((0.5, 0.9), (0.3, 0.8)))
    z = np.random.default_rng(0).standard_normal((5, 6, 2))

    class Dealt:
        """The same draws for the whole batch and for each of its samples."""

        def __init__(self, xp: ModuleType, rows: slice) -> None:
            self.xp, self.rows, self.calls = xp, rows, 0

        def normal(self, x: Any) -> Any:
            self.calls += 1
            return give(self.xp, z[self.calls - 1, self.rows])

        def increment(self, t: Any, s: Any, x: Any) -> Any:
            size = self.xp.sqrt(abs(s - t)) if hasattr(t, "shape") else math.sqrt(abs(s - t))
            return self.normal(x) * size

        def levy(self, t: Any, s: Any, x: Any) -> Any:
            return self.increment(t, s, x), self.increment(t, s, x) / math.sqrt(12)

    def step(xp: ModuleType, t: Any, s: Any, rows: slice) -> np.ndarray:
        process = PROCESSES[kind](clock, MIXTURE_2D.score(clock))
        return as_numpy(solver(process, rs.State(t, give(xp, x[rows])), s, Dealt(xp, rows)).x)

    if "batch" in name:  # coupled: only the library can be compared
        want = step(np, t[:, None], s[:, None], slice(None))
    else:
        want = np.vstack([step(np, float(t[i]), float(s[i]), slice(i, i + 1)) for i in range(6)])
    got = step(xp, give(xp, t[:, None]), give(xp, s[:, None]), slice(None))
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


# -- samples that leave ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["EM", "Heun", "ancestral", "DDIM(0)", "PC, Langevin", "black box"]
)
def test_samples_that_turn_nan_leave_the_batch(xp: ModuleType, name: str) -> None:
    sde, x = rs.VP(), starts(rs.VP())
    lost = np.isin(np.arange(30), [3, 17])
    sizes: list[int] = []

    def score(y: Any, t: Any) -> Any:
        sizes.append(y.shape[0])
        if t > 0.6 or y.shape[0] < 30:
            return -y
        return xp.where(xp.asarray(lost[:, None]), xp.full_like(y, math.nan), -y)

    solver, kind = SOLVERS[name]
    times = rs.Grid([1.0, 0.8, 0.5, 0.2, 0.1])
    sol = rs.sample(PROCESSES[kind](sde, score), solver, x=give(xp, x), times=times, rng=4)
    np.testing.assert_array_equal(sol.success, ~lost)
    assert "2 of 30 samples" in sol.message and "sample 3" in sol.message
    assert np.isfinite(as_numpy(sol.x)).all()
    assert np.all(sol.t[lost] > 0.2) and np.all(sol.t[~lost] == 0.1)
    assert sizes[0] == 30 and sizes[-1] == 28 and sol.nfe[3] < sol.nfe[0]
    clean = rs.sample(
        PROCESSES[kind](sde, lambda y, t: -y), solver, x=give(xp, x), times=times, rng=4
    )
    atol = 1e-3 if name == "black box" else 0.0  # whose steps its mates share
    np.testing.assert_allclose(as_numpy(sol.x)[~lost], as_numpy(clean.x)[~lost], rtol=0, atol=atol)


def test_all_samples_may_be_lost(xp: ModuleType) -> None:
    process = rs.ReverseSDE(rs.VP(), lambda x, t: x * math.nan)
    x = give(xp, np.ones((4, 2)))
    sol = rs.sample(process, rs.EulerMaruyama(), x=x, times=5, rng=0)
    assert not sol.success.any()
    np.testing.assert_array_equal(as_numpy(sol.x), np.ones((4, 2)))
    np.testing.assert_array_equal(sol.nfe, 1)
