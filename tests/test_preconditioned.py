"""The preconditioned reverse SDE under every solver: identities, exact laws, the guard, refusals.

The laws are checked against matrix recursions written here, of a Gaussian in three dimensions with
a matrix M that commutes with nothing.
"""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _probing import Z
from _solvers import RING, SOLVERS, VP, Case

import refsde as rs
from refsde import precondition as pc

LAWS = ("pds", "marginal", "noise")
RUNS = [
    case for case in SOLVERS if "reverse" in case.kinds and getattr(case.solver, "preconditions", 0)
]
RNG = np.random.default_rng(5)
M3 = np.eye(3) + 0.3 * RNG.standard_normal((3, 3))
K3 = np.array([[0.0, 0.8, -0.3], [-0.8, 0.0, 0.5], [0.3, -0.5, 0.0]])
MEAN = np.array([0.7, -0.4, 0.2])
ROOT = RNG.standard_normal((3, 3)) / math.sqrt(3)
COV = ROOT @ ROOT.T + 0.1 * np.eye(3)
TARGET = rs.GaussianMixture([1.0], [MEAN], [COV])
SDES: dict[str, Any] = {
    "VP": rs.VP(),
    "SubVP": rs.SubVP(),
    "VE": rs.VE(sigma_max=10.0),
    "EDM": rs.EDM(sigma_max=10.0),
    "DDPM": rs.Tabulated(np.linspace(0.01, 0.5, 16)),
    "SMLD": rs.Tabulated(sigmas=np.geomspace(0.05, 10.0, 16)),
}


def pds(law: str = "pds", M: Any = None, sde: Any = None, target: Any = TARGET, **more: Any) -> Any:
    sde = SDES["VP"] if sde is None else sde
    M = pc.Dense(M3) if M is None else M
    return rs.Preconditioned(sde, target.score(sde), M, law=law, **{"guard": "off"} | more)  # type: ignore[arg-type]


def grid_of(sde: Any, n: int = 8) -> rs.Grid:
    table = isinstance(sde, rs.Tabulated)
    return rs.Grid.uniform(sde, n, t_end=0.0) if table else rs.Grid.karras(sde, n)


def close(got: Any, want: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1.0, np.abs(want).max()))


# -- identities -----------------------------------------------------------------------------------


def test_the_table_has_all_families() -> None:
    told = {type(part).__name__ for case in RUNS for part in parts(case.solver)}
    want = """
        EulerMaruyama Heun ReverseDiffusion Ancestral DDIM OneStep GGF Lamba SRA1 SRA2 SRA3 SOSRA
        SOSRA2 ShARK SEA PredictorCorrector Langevin AnnealedLangevin MALA
    """
    assert told == set(want.split())


def parts(solver: Any) -> list[Any]:
    inner = [getattr(solver, name, None) for name in ("predictor", "corrector")]
    return [solver, *(part for part in inner if part is not None)]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("case", RUNS, ids=lambda case: case.name)
def test_with_the_identity_it_is_the_reverse_sde_bit_by_bit(case: Case, law: Any) -> None:
    score = RING.score(VP)
    plain = rs.ReverseSDE(VP, score)
    for M in (pc.Identity(), pc.Stepwise(lambda t, s: pc.Identity())):
        process = rs.Preconditioned(VP, score, M, law=law)
        a, b = (rs.sample(p, case.solver, 40, times=4, rng=3) for p in (process, plain))
        for name in ("x", "t", "nfe", "success"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("solver", [rs.GGF(0.1), rs.Lamba(0.1), rs.SRA1(), rs.ShARK()], ids=repr)
def test_the_same_where_steps_adapt(solver: Any, law: Any) -> None:
    score = RING.score(VP)
    process = rs.Preconditioned(VP, score, pc.Identity(), law=law)
    runs = [
        rs.sample(p, solver, 30, times=rs.Adaptive(), rng=3)
        for p in (process, rs.ReverseSDE(VP, score))
    ]
    for name in ("x", "t", "nfe", "n_accepted", "n_rejected"):
        np.testing.assert_array_equal(*(getattr(run, name) for run in runs))


@pytest.mark.parametrize("case", [case for case in RUNS if case.cost], ids=lambda case: case.name)
def test_it_costs_no_evaluation(case: Case) -> None:
    for law in LAWS:
        sol = rs.sample(pds(law), case.solver, 3, times=4, rng=0)
        assert sol.nfe.tolist() == [case.fixed + 4 * (case.cost or 0)] * 3 and sol.success.all()


@pytest.mark.parametrize("name", SDES)
def test_a_scalar_in_langevin_is_another_step_size(name: str) -> None:
    sde, c = SDES[name], 1.6
    grid, x = grid_of(sde), 3 * np.random.default_rng(0).standard_normal((7, 3))
    scaled = rs.PredictorCorrector(None, rs.AnnealedLangevin(0.1 * c, steps=2))
    solver = rs.PredictorCorrector(None, rs.AnnealedLangevin(0.1, steps=2))
    plain = rs.ReverseSDE(sde, TARGET.score(sde))
    want = rs.sample(plain, scaled, x=x, times=grid, rng=1).x
    for law in LAWS:
        close(rs.sample(pds(law, pc.Scalar(c), sde), solver, x=x, times=grid, rng=1).x, want)


@pytest.mark.parametrize("norm", ["sample", "batch"])
@pytest.mark.parametrize("c", [0.01, 3.0])
def test_the_signal_to_noise_rule_does_not_see_a_factor_of_the_map(norm: Any, c: float) -> None:
    M, x = pc.Dense(M3), np.random.default_rng(0).standard_normal((7, 3))
    solver = rs.PredictorCorrector(None, rs.Langevin(0.15, steps=3, norm=norm))
    runs = [rs.sample(pds(M=made), solver, x=x, times=4, rng=1).x for made in (M, pc.Scalar(c) @ M)]
    close(*runs)


@pytest.mark.parametrize("c", [0.5, 1.2])
def test_a_scalar_in_the_published_law_is_a_stronger_step(c: float) -> None:
    """c^2 times the move of reverse diffusion, c times its noise."""
    sde = SDES["VE"]
    x, t, s = np.random.default_rng(0).standard_normal((5, 3)), 0.7, 0.6
    _, q = sde.chain(t, s)
    z = (
        rs.sample(
            rs.ReverseSDE(sde, lambda x, t: 0 * x),
            rs.ReverseDiffusion(),
            x=x,
            times=rs.Grid([t, s]),
            rng=4,
        ).x
        - x
    )
    got = rs.sample(
        pds(M=pc.Scalar(c), sde=sde), rs.ReverseDiffusion(), x=x, times=rs.Grid([t, s]), rng=4
    ).x
    close(got, x + c * c * q * TARGET.score(sde)(x, t) + c * z)


def test_the_prior_is_filtered_by_the_published_law_alone() -> None:
    z, M = np.random.default_rng(0).standard_normal((4, 3)), pc.Dense(M3)
    for name in ("VP", "VE"):
        sde = SDES[name]
        close(pds("pds", M, sde).start(z), sde.prior_std * z @ M3.T)
        for process in (
            pds("marginal", M, sde),
            pds("noise", M, sde),
            pds("pds", pc.Stepwise(lambda t, s: M), sde),
        ):
            close(process.start(z), sde.prior_std * z)


def test_a_stepwise_map_is_asked_once_a_step_for_its_ends() -> None:
    asked: list[tuple[Any, Any]] = []

    def rule(t: Any, s: Any) -> Any:
        asked.append((t, s))
        return pc.Scalar(1.1)

    grid = rs.Grid.uniform(VP, 5)
    solver = rs.PredictorCorrector(rs.Heun(), rs.AnnealedLangevin(0.1, 2))
    got = rs.sample(pds(M=pc.Stepwise(rule), law="marginal"), solver, 3, times=grid, rng=0)
    assert asked == list(zip(grid.ts[:-1], grid.ts[1:], strict=True))
    same = rs.sample(pds(M=pc.Scalar(1.1), law="marginal"), solver, 3, times=grid, rng=0)
    np.testing.assert_array_equal(got.x, same.x)


def test_a_stepwise_map_that_changes_is_that_of_each_step() -> None:
    grid = rs.Grid.uniform(VP, 3)
    gains = {t: 1 + 0.2 * i for i, t in enumerate(grid.ts)}
    M = pc.Stepwise(lambda t, s: pc.Scalar(gains[t]))
    x = np.random.default_rng(0).standard_normal((4, 3))
    whole = rs.sample(pds(M=M), rs.EulerMaruyama(), x=x, times=grid, rng=2)
    step, noise = x, rs.Gaussian(2).on(np.arange(4))
    for t, s in zip(grid.ts[:-1], grid.ts[1:], strict=True):
        process = pds(M=pc.Scalar(gains[t]))
        step = rs.EulerMaruyama()(process, rs.State(t, step), s, noise).x
    close(whole.x, step)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("form", ["dense", "fourier"])
def test_samples_depend_on_their_number_alone(law: str, form: str) -> None:
    M = pc.Dense(M3) if form == "dense" else pc.Fourier([1.0, 1.2, 1.2], axes=1)
    solver = rs.PredictorCorrector(rs.ReverseDiffusion(), rs.Langevin(0.1))
    many = rs.sample(pds(law, M), solver, 300, times=5, rng=7).x
    for n in (1, 3):
        np.testing.assert_array_equal(rs.sample(pds(law, M), solver, n, times=5, rng=7).x, many[:n])


def test_single_precision_runs_stay_single() -> None:
    for M in (pc.Dense(M3), pc.Fourier([1.0, 1.2, 1.2], axes=1), pc.Scalar(1.1)):
        for law in LAWS:
            options: dict[str, Any] = {"times": 4, "rng": 0}
            sol = rs.sample(pds(law, M), rs.Heun(), 5, dtype=np.float32, **options)
            assert sol.x.dtype == np.float32
            close(sol.x, rs.sample(pds(law, M), rs.Heun(), 5, **options).x, 1e-3)


def test_a_process_can_be_pickled_and_shown() -> None:
    process = pds("marginal", pc.Scalar(2.0), skew=pc.Skew(K3))
    again = pickle.loads(pickle.dumps(process))
    runs = [rs.sample(p, rs.EulerMaruyama(), 3, times=3, rng=0).x for p in (process, again)]
    np.testing.assert_array_equal(*runs)
    assert "M=Scalar(2), law='marginal', skew=Skew(3 x 3)" in repr(process)
    assert "_told" not in repr(process)


# -- exact laws against recursions ----------------------------------------------------------------

Step = tuple[np.ndarray, np.ndarray, np.ndarray]  # x -> A x + b + G z


def affine_of(sde: Any, law: str, A: np.ndarray, method: str, t: float, s: float) -> Step:
    """One step as the formulas say; A is M M^T + K, and M the map of the noise."""
    I3, alpha, sigma = np.eye(3), sde.alpha(t), sde.sigma(t)
    P = np.linalg.inv(alpha**2 * COV + sigma**2 * I3)  # score = P (alpha m - x)
    if method == "em":
        dt, f, g2 = s - t, sde.f(t), sde.g2(t)
        linear, along, q = f * dt, -g2 * dt, g2 * abs(dt)
    else:
        exploding = sde.alpha(t) == sde.alpha(s)
        a = 1.0 if exploding else sde.alpha(t) / sde.alpha(s)
        q = sigma**2 - a**2 * sde.sigma(s) ** 2
        if method == "reverse-diffusion":
            linear, along = 1 - a, q
        else:  # ancestral
            linear, along = (1 - a) / a, q / a
            q = q * sde.sigma(s) ** 2 / sigma**2 if exploding else q
    if law == "pds":
        L, S = linear * A, along * A
    elif law == "marginal" and method == "em":
        L, S = linear * I3, along * (I3 + A) / 2
    elif law == "marginal":
        L, S = linear * I3, along * I3 + q * (A - I3) / 2
    else:
        L, S = linear * I3, along * I3
    return I3 + L - S @ P, S @ P @ (alpha * MEAN), math.sqrt(q) * M3


def recursion(
    sde: Any, law: str, A: np.ndarray, method: str, grid: rs.Grid, mean: Any, cov: Any
) -> tuple[np.ndarray, np.ndarray]:
    for t, s in zip(grid.ts[:-1], grid.ts[1:], strict=True):
        B, b, G = affine_of(sde, law, A, method, t, s)
        mean, cov = B @ mean + b, B @ cov @ B.T + G @ G.T
    return mean, cov


METHODS: dict[str, Any] = {
    "em": rs.EulerMaruyama(),
    "reverse-diffusion": rs.ReverseDiffusion(),
    "ancestral": rs.Ancestral(),
}
PLACES = [("em", name) for name in SDES]
PLACES += [("reverse-diffusion", name) for name in SDES if name != "SubVP"]
PLACES += [("ancestral", name) for name in ("VP", "VE", "DDPM", "SMLD")]


@pytest.mark.parametrize("skew", [False, True])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("method", "name"), PLACES)
def test_laws_are_those_of_the_recursions(method: str, name: str, law: str, skew: bool) -> None:
    if skew and law == "noise":
        return
    sde = SDES[name]
    grid = grid_of(sde, 16 if name in ("DDPM", "SMLD") else 8)
    process = pds(law, sde=sde, skew=pc.Skew(K3) if skew else None)
    A = M3 @ M3.T + (K3 if skew else 0)
    begin = (np.array([1.0, 2.0, -1.0]), np.diag([0.5, 1.0, 2.0]))
    at_T = TARGET.at(sde, sde.T)
    for start, moments in ((begin, begin), ("marginal", (at_T.mean, at_T.cov))):
        got = rs.exact.law(process, METHODS[method], grid, start=start)
        mean, cov = recursion(sde, law, A, method, grid, *moments)
        close(got.mean, mean, 1e-11)
        close(got.cov, cov, 1e-11)


@pytest.mark.parametrize("name", ["VP", "VE"])
def test_the_law_from_the_prior_starts_as_samples_do(name: str) -> None:
    sde = SDES[name]
    grid, solver = grid_of(sde), rs.ReverseDiffusion()
    for law in LAWS:
        D = M3 if law == "pds" else np.eye(3)
        begin = (np.zeros(3), sde.prior_std**2 * D @ D.T)
        got = rs.exact.law(pds(law, sde=sde), solver, grid, start="prior")
        want = rs.exact.law(pds(law, sde=sde), solver, grid, start=begin)
        close(got.mean, want.mean)
        close(got.cov, want.cov)


def test_samples_have_the_law(seed: int) -> None:
    # 9 moments of 20000 samples, for 3 laws: each beyond Z with probability 5.7e-7, a false alarm
    # in 1.6e-5 of fresh seeds.  A noise that M does not colour is told.
    for law in LAWS:
        process, grid = (
            pds(law, skew=None if law == "noise" else pc.Skew(K3)),
            rs.Grid.uniform(VP, 8),
        )
        start = rs.exact.law(process, rs.EulerMaruyama(), grid)
        x = TARGET.at(VP, VP.T).sample(20_000, rng=seed)
        for run, told in ((process, False), (grey(process), True)):
            out = rs.sample(run, rs.EulerMaruyama(), x=x, times=grid, rng=seed + 1).x
            gap = out - start.mean
            i, j = np.triu_indices(3)
            terms = np.hstack([gap, gap[:, i] * gap[:, j] - start.cov[i, j]])
            worst = np.abs(terms.mean(0)) / terms.std(0) * math.sqrt(len(x))
            assert (worst.max() > Z) == told


def grey(process: Any) -> Any:
    """A mutant whose noise is not coloured."""

    class Grey(rs.Preconditioned):
        def diffuse(self, dw: Any, t: Any) -> Any:
            return math.sqrt(self.sde.g2(t)) * dw

    return Grey(process.sde, process.score, process.M, process.law, process.skew, process.guard)


# -- what the laws converge to --------------------------------------------------------------------


def to_0_2(sde: Any, n: int) -> rs.Grid:
    return rs.Grid.uniform(sde, n, t_end=0.2)


ORDERS = {
    "em": (rs.EulerMaruyama(), 1, "VP"),
    "em-ve": (rs.EulerMaruyama(), 1, "VE"),
    "reverse-diffusion": (rs.ReverseDiffusion(), 1, "VP"),
    "reverse-diffusion-ve": (rs.ReverseDiffusion(), 1, "VE"),
    "ancestral": (rs.Ancestral(), 1, "VP"),
    "sde-dpm": (rs.OneStep.sde_dpm(), 1, "VP"),
    "ddim-1": (rs.DDIM(1.0), 1, "VE"),
    "heun": (rs.Heun(), 2, "VP"),
    "heun-ve": (rs.Heun(), 2, "VE"),
    "sra1": (rs.SRA1(), 2, "VP"),
    "sosra2": (rs.SOSRA2(), 2, "VE"),
    "shark": (rs.ShARK(), 2, "VP"),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ORDERS)
def test_marginals_are_kept_by_any_map_and_skew(name: str, seed: int) -> None:
    """The law converges to p_t with the solver's own order; that of "pds" converges elsewhere."""
    solver, order, where = ORDERS[name]
    rng = np.random.default_rng(seed)
    M = pc.Dense(np.eye(3) + 0.4 * rng.standard_normal((3, 3)))
    half = rng.standard_normal((3, 3))
    options: dict[str, Any] = {"M": M, "sde": SDES[where], "skew": pc.Skew(half - half.T)}
    steps = (64, 128, 256)
    got = rs.exact.order(
        pds("marginal", **options), solver, grid=to_0_2, steps=steps, declared=order
    )
    assert got.slope == pytest.approx(order, abs=0.25)
    assert got.limit < 2e-3
    if seed == 0:
        mutant = rs.exact.order(pds("pds", **options), solver, grid=to_0_2, steps=steps)
        assert mutant.limit > 0.05


@pytest.mark.parametrize("u", [0.75, 1.0, 1.25, 1.5625])
def test_the_published_law_has_the_bias_of_the_formula(u: float) -> None:
    """v / S = u / (2u - 1) as sigma_max goes to infinity and steps are refined."""
    sde = rs.VE(sigma_min=1e-4, sigma_max=3e4)
    target = rs.GaussianMixture([1.0], [[0.0]], [1.0])
    grid = rs.Grid.logsnr(sde, 4000)
    law = rs.exact.law(
        pds(M=pc.Scalar(math.sqrt(u)), sde=sde, target=target), rs.ReverseDiffusion(), grid
    )
    assert law.cov.item() == pytest.approx(u / (2 * u - 1), rel=0.01)


@pytest.mark.parametrize("skew", [False, True])
@pytest.mark.parametrize("name", ["VP", "VE", "EDM"])
def test_langevin_has_the_stationary_law_of_its_step(name: str, skew: bool) -> None:
    """C = B C B^T + 2 e A with B = I - e (A + K) V^-1: kept by a step, and reached by many."""
    sde = SDES[name]
    t, snr = (0.7 if name == "VE" else 0.3) * sde.T, 0.4
    s, e = (
        0.9 * t,
        2 * (snr * sde.sigma(t)) ** 2 * min(1.0, (sde.alpha(t) / sde.alpha(0.9 * t)) ** 2),
    )
    V = TARGET.at(sde, t).cov
    A = M3 @ M3.T
    B = np.eye(3) - e * (A + (K3 if skew else 0)) @ np.linalg.inv(V)
    C = np.linalg.solve(np.eye(9) - np.kron(B, B), (2 * e * A).reshape(-1)).reshape(3, 3)
    m = TARGET.at(sde, t).mean
    for law in LAWS[: 2 if skew else 3]:
        process = pds(law, sde=sde, skew=pc.Skew(K3) if skew else None)
        for steps, begin in ((1, (m, C)), (3, (m, C)), (500, (np.zeros(3), np.eye(3)))):
            solver = rs.PredictorCorrector(None, rs.AnnealedLangevin(snr, steps=steps))
            got = rs.exact.law(process, solver, rs.Grid([t, s]), start=begin)
            close(got.mean, m, 1e-9)
            close(got.cov, C, 1e-9)


def test_langevin_with_a_skew_term_keeps_the_law_as_its_step_shrinks() -> None:
    """Its bias is of order e, with A and K as without; a symmetric term in K's place is worse."""
    sde, t = SDES["VP"], 0.3
    at_t, gaps = TARGET.at(sde, t), []
    for snr in (0.1, 0.1 / math.sqrt(2)):
        solver = rs.PredictorCorrector(None, rs.AnnealedLangevin(snr, steps=500))
        process = pds("marginal", sde=sde, skew=pc.Skew(K3))
        start = (at_t.mean, at_t.cov)
        law = rs.exact.law(process, solver, rs.Grid([t, 0.999 * t]), start=start)
        gaps.append(np.abs(law.cov - at_t.cov).max())
    assert gaps[0] < 0.05 and gaps[0] / gaps[1] == pytest.approx(2, abs=0.1)


# -- the guard ------------------------------------------------------------------------------------

WIDE = rs.VE(sigma_min=0.01, sigma_max=50.0)
ROUGH = rs.Grid.logsnr(WIDE, 4)
FIELD = rs.GaussianField.power_law(8)


def told(run: Callable[[], Any]) -> list[str]:
    """What a run warns of."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        run()
    assert all(issubclass(each.category, RuntimeWarning) for each in heard)
    return [str(each.message) for each in heard]


def guarded(M: Any, guard: Any = "warn", target: Any = FIELD, law: str = "pds") -> Any:
    return pds(law, M, WIDE, target, guard=guard)


ONE_STEP = [rs.ReverseDiffusion(), rs.EulerMaruyama(), rs.Heun(), rs.Ancestral(), rs.SRA1()]


@pytest.mark.parametrize("solver", ONE_STEP, ids=repr)
def test_a_run_that_overshoots_warns_once_with_the_remedies(solver: Any) -> None:
    process = guarded(pc.Scalar(1.5))
    x = np.ones((2, 8, 8))
    for _ in range(2):  # each of two runs, and with a start of one's own
        (message,) = told(lambda: rs.sample(process, solver, 2, times=ROUGH, rng=0))
        assert told(lambda: rs.sample(process, solver, x=x, times=ROUGH, rng=0)) == [message]
    assert message.startswith("the step from t = 1 to 0.7")
    assert "overshoots under Scalar(1.5): u x = 2." in message
    for remedy in ("more steps", "a weaker filter (u <= 1 / x", "guard='clip'", "law='marginal'"):
        assert remedy in message


def test_the_guard_is_silent_where_it_should_be() -> None:
    fine, M = rs.Grid.logsnr(WIDE, 60), pc.pds_frequency_filter(FIELD)
    solver = rs.ReverseDiffusion()
    quiet = [
        guarded(pc.Scalar(1.5), "off"),
        guarded(pc.Scalar(1.5), "clip"),
        guarded(pc.Scalar(1.5), law="marginal"),
        guarded(pc.Scalar(1.5), law="noise"),
        guarded(pc.Identity()),
        guarded(pc.Scalar(0.9)),
    ]
    for process in quiet:
        assert told(lambda process=process: rs.sample(process, solver, 2, times=ROUGH, rng=0)) == []
    ordinary = rs.PredictorCorrector(solver, rs.Langevin(0.16))
    assert told(lambda: rs.sample(guarded(M), ordinary, 2, times=fine, rng=0)) == []
    for corrector in (rs.Langevin(0.16), rs.AnnealedLangevin(0.1)):
        alone = rs.PredictorCorrector(None, corrector)
        process = guarded(pc.Scalar(1.5))
        assert told(lambda: rs.sample(process, alone, 2, times=ROUGH, rng=0)) == []  # noqa: B023
    vp = pds(M=M, sde=rs.VP(), target=FIELD, guard="warn")
    assert told(lambda: rs.sample(vp, solver, 2, times=100, rng=0)) == []


def test_the_guard_does_not_act_where_each_sample_has_its_clock() -> None:
    process = pds("pds", pc.Scalar(1.5), guard="warn")
    assert told(lambda: rs.sample(process, rs.GGF(0.1), 3, rng=0)) == []


@pytest.mark.parametrize("form", ["scalar", "fourier", "stepwise"])
def test_clipping_lowers_u_to_where_no_step_overshoots(form: str) -> None:
    V = FIELD.spectrum
    gain = 1.0 + 0.5 * (V < np.median(V))
    M: Any = {"scalar": pc.Scalar(1.5), "fourier": pc.Fourier(gain)}.get(form)
    M = M or pc.Stepwise(lambda t, s: pc.Fourier(gain))
    process = guarded(M, "clip")
    lowered = 0
    for t, s in zip(ROUGH.ts[:-1], ROUGH.ts[1:], strict=True):
        _, q = WIDE.chain(t, s)
        x = q / (FIELD.spectrum + WIDE.sigma(t) ** 2)
        u, own = process.at(t, s).M.spectrum(), M.at(t, s).spectrum()
        assert np.all(u * x <= 1 + 1e-9) and np.all(u <= own * (1 + 1e-12))
        if form == "scalar":
            assert u == pytest.approx(min(own, 1 / x.max()), rel=1e-12)
        else:
            close(u, np.minimum(own, 1 / x))
        lowered += np.any(u < own)
    assert lowered > 0
    for t, s in [(0.5, 0.499), (0.2, 0.199)]:
        assert form == "stepwise" or process.at(t, s).M is M
        close(process.at(t, s).M.spectrum(), M.at(t, s).spectrum())


def test_under_vp_the_step_is_shorter_by_its_linear_part() -> None:
    """Reverse diffusion takes a centred coefficient to 1 - u x times itself, x = q/V - (1 - a)."""
    sde, t, s = rs.VP(), 1.0, 0.9
    process = pds(M=pc.Scalar(3.0), sde=sde, target=FIELD, guard="clip")
    law = rs.exact.law(process, rs.ReverseDiffusion(), rs.Grid([t, s]))
    a, q = sde.chain(t, s)
    x = q / FIELD.at(sde, t).spectrum - (1 - a)
    u = process.at(t, s).M.spectrum()
    assert u == pytest.approx(1 / x.max(), rel=1e-12) and u < 9
    close(law.gain, 1 - u * x)
    assert law.gain.min() == pytest.approx(0, abs=1e-12), "to the mean, and not beyond"


def test_where_little_is_known_the_guard_takes_the_worst() -> None:
    """A mixture's smallest variance, or none; of a matrix the largest eigenvalue."""
    ring = rs.GaussianMixture.ring(4)
    for target, M in ((ring, pc.Scalar(1.3)), (ring, pc.Dense(1.3 * np.eye(2)))):
        process = guarded(M, target=target)
        (message,) = told(
            lambda p=process: rs.sample(p, rs.ReverseDiffusion(), 2, times=ROUGH, rng=0)
        )
        assert ("may overshoot" in message) == isinstance(M, pc.Dense)
    users = rs.Preconditioned(WIDE, lambda x, t: -x / (1 + WIDE.sigma(t) ** 2), pc.Scalar(1.3))
    assert (
        len(
            told(lambda: rs.sample(users, rs.ReverseDiffusion(), 2, times=ROUGH, rng=0, shape=(2,)))
        )
        == 1
    )
    table = rs.Tabulated(sigmas=np.geomspace(0.1, 10.0, 40))
    last = rs.Preconditioned(table, lambda x, t: -x / (1 + table.sigma(t) ** 2), pc.Scalar(1.3))
    options: dict[str, Any] = {"times": rs.Grid.uniform(table, 40, 0.0), "rng": 0, "shape": (2,)}
    assert told(lambda: rs.sample(last, rs.ReverseDiffusion(), 2, **options)) == []
    dense = guarded(pc.Dense(1.3 * np.eye(2)), "clip", ring)
    assert told(lambda: rs.sample(dense, rs.ReverseDiffusion(), 2, times=ROUGH, rng=0)) == []


@pytest.mark.parametrize("form", ["matrix", "product", "scaled"])
def test_a_map_without_a_basis_is_lowered_as_a_whole(form: str) -> None:
    """By the largest eigenvalue, or the bound that a product's factors give."""
    rng = np.random.default_rng(0)
    pixels = pc.Diagonal(rng.uniform(1.0, 1.3, (8, 8)))
    M: Any = {
        "matrix": pc.Dense(1.5 * np.eye(64), (8, 8)),
        "product": pc.Fourier(np.full((8, 8), 1.4)) @ pixels,
        "scaled": pc.Scalar(1.4) @ pixels,
    }[form]
    process = guarded(M, "clip")
    lowered = 0
    for t, s in zip(ROUGH.ts[:-1], ROUGH.ts[1:], strict=True):
        _, q = WIDE.chain(t, s)
        x = q / (FIELD.smallest_variance + WIDE.sigma(t) ** 2)
        found, own = (pc.Dense.of(m, (8, 8)).spectrum().max() for m in (process.at(t, s).M, M))
        assert found * x <= 1 + 1e-9 and found <= own * (1 + 1e-9)
        lowered += found < own * (1 - 1e-9)
    assert lowered > 0
    assert np.isfinite(rs.sample(process, rs.ReverseDiffusion(), 2, times=ROUGH, rng=0).x).all()
    warned = told(lambda: rs.sample(guarded(M), rs.ReverseDiffusion(), 2, times=ROUGH, rng=0))
    assert len(warned) == 1 and "overshoot" in warned[0]


def test_what_cannot_be_clipped_says_so() -> None:
    class Mine(pc.Preconditioner):
        def apply(self, z: Any) -> Any:
            return 2.0 * z

        apply_transpose = apply

    (message,) = told(
        lambda: rs.sample(guarded(Mine(), "clip"), rs.ReverseDiffusion(), 2, times=ROUGH, rng=0)
    )
    assert "no eigenvalues are known" in message and "spectrum()" in message
    assert told(lambda: rs.sample(guarded(Mine()), rs.EulerMaruyama(), 2, times=ROUGH, rng=0)) == []


def test_the_warning_points_at_the_caller() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rs.sample(guarded(pc.Scalar(1.5)), rs.ReverseDiffusion(), 2, times=ROUGH, rng=0)
    assert [Path(w.filename) for w in caught] == [Path(__file__)]


def test_a_matched_map_belongs_to_a_law_and_an_sde() -> None:
    score = FIELD.score(WIDE)
    for build, law in ((pc.noise_matched, "noise"), (pc.step_matched, "pds")):
        M = build(FIELD, WIDE)
        rs.Preconditioned(WIDE, score, M, law=law)  # type: ignore[arg-type]
        other: Any = "pds" if law == "noise" else "noise"
        with pytest.raises(ValueError, match=f"`law` = '{other}' is not what .* pass law='{law}'"):
            rs.Preconditioned(WIDE, score, M, law=other)
        with pytest.raises(ValueError, match="`M` is matched to the steps of VP"):
            rs.Preconditioned(WIDE, score, build(FIELD, rs.VP()), law=law)  # type: ignore[arg-type]
        rs.Preconditioned(WIDE, score, pc.Stepwise(M.at), law=other)  # wrapped: at one's own risk
    rs.Preconditioned(WIDE, score, pc.langevin_matched(FIELD, WIDE), law="marginal")


def test_only_skew_maps_go_into_skew_and_none_of_them_into_m() -> None:
    score = FIELD.score(WIDE)
    with pytest.raises(ValueError, match=r"`skew` must be skew, K\^T = -K, got Scalar"):
        rs.Preconditioned(WIDE, score, pc.Identity(), "marginal", pc.Scalar(1.5))
    with pytest.raises(TypeError, match="`M` must be a preconditioner.* goes into `skew`"):
        rs.Preconditioned(WIDE, score, pc.FourierSkew(np.zeros((8, 8))))

    class Turn(pc.Preconditioner):
        def apply(self, z: Any) -> Any:
            return np.roll(z, 1, -1) - np.roll(z, -1, -1)

    rs.Preconditioned(WIDE, score, pc.Identity(), "marginal", Turn())


# -- refusals -------------------------------------------------------------------------------------

REFUSED: list[tuple[Any, str]] = [
    (rs.TAB(1), "solves the flow, which has no noise to be coloured: use it on ProbabilityFlow"),
    (rs.UniPC(2), "solves the flow"),
    (rs.BlackBox(), "solves the flow"),
    (rs.EmbeddedRK(), "solves the flow"),
    (rs.DPMSolver(2), "solves the flow"),
    (rs.Churn(churn=1.0), "solves the flow"),
    (rs.DDIM(), r"nothing to colour: use it on ProbabilityFlow\(sde, score\)"),
    (rs.OneStep(0), "nothing to colour"),
    (rs.PredictorCorrector(rs.DDIM(), rs.Langevin(0.1)), "nothing to colour"),
    (rs.SDEDPMSolverPP(2), "use EulerMaruyama, ReverseDiffusion, Ancestral.*preconditions = True"),
    (rs.SEEDS(2), "preconditions = True"),
    (rs.SASolver(2, 0.5), "preconditions = True"),
    (rs.ERSDE(2), "preconditions = True"),
    (rs.AnalyticDPM(lambda t: 0.01 * t), "preconditions = True"),
    (rs.TAB(1, tau=1.0), "preconditions = True"),
]


@pytest.mark.parametrize(("solver", "why"), REFUSED, ids=range(len(REFUSED)))
def test_solvers_that_would_ignore_the_map_are_refused(solver: Any, why: str) -> None:
    process = pds()
    words = rf"`solver` .* would ignore the preconditioner Dense\(3 x 3\) in silence: .*{why}"
    with pytest.raises(TypeError, match=words):
        rs.sample(process, solver, 3, times=3, rng=0)
    with pytest.raises(TypeError, match=words):
        list(rs.iterate(process, solver, np.ones((2, 3)), rs.Grid.uniform(VP, 2), rs.Gaussian(0)))
    with pytest.raises(TypeError, match=words):
        rs.exact.law(process, solver, 3)


def test_every_solver_either_runs_or_is_refused() -> None:
    for case in SOLVERS:
        runs = case in RUNS
        assert runs == getattr(case.solver, "preconditions", False), case.name
        if not runs:
            with pytest.raises(TypeError, match="would ignore the preconditioner"):
                rs.sample(pds(), case.solver, 2, times=2, rng=0)


class Mine:
    accepts = frozenset({"reverse"})

    def __call__(self, process: Any, state: Any, s: Any, noise: Any) -> Any:
        return rs.EulerMaruyama()(process, state, s, noise)


class MineToo(Mine):
    preconditions = True


def mine(process: Any, state: Any, s: Any, noise: Any) -> Any:
    return rs.EulerMaruyama()(process, state, s, noise)


def test_a_solver_of_ones_own_says_so_and_a_function_runs() -> None:
    want = rs.sample(pds(), rs.EulerMaruyama(), 3, times=3, rng=0).x
    for solver in (mine, MineToo(), rs.PredictorCorrector(mine, None)):
        np.testing.assert_array_equal(rs.sample(pds(), solver, 3, times=3, rng=0).x, want)
    for solver in (Mine(), rs.PredictorCorrector(Mine(), rs.Langevin(0.1))):
        with pytest.raises(TypeError, match="preconditions = True"):
            rs.sample(pds(), solver, 3, times=3, rng=0)
    rs.sample(rs.ReverseSDE(VP, TARGET.score(VP)), Mine(), 3, times=3, rng=0)


def made(M: Any, target: Any = TARGET, sde: Any = VP, **more: Any) -> Callable[[], Any]:
    return lambda: rs.Preconditioned(sde, target.score(VP), M, **more)


I3 = pc.Identity()
BAD: list[tuple[Any, type, str]] = [
    (made(np.eye(2)), TypeError, r"(?s)`M` must be a preconditioner.*Fourier\(gain\)"),
    (made(None), TypeError, "`M` must be a preconditioner, got None"),
    (made(I3, law="code"), ValueError, "`law` must be one of .*got 'code'"),
    (made(I3, guard="loud"), ValueError, "`guard` must be 'warn', 'clip' or 'off', got 'loud'"),
    (made(I3, law="noise", skew=pc.Skew(K3)), ValueError, "`skew` must be None with law='noise'"),
    (made(I3, skew=K3), TypeError, "`skew` must be a map such as precondition.Skew"),
    (made(pc.Diagonal(np.ones(4))), ValueError, r"`M` takes .* \(4,\), .* \(3,\): build it for"),
    (made(I3, skew=pc.Skew([[0, 1], [-1, 0]])), ValueError, r"`skew` takes .* shape \(2,\)"),
    (made(pc.Fourier(np.ones((8, 9))), FIELD), ValueError, r"shape \(8, 9\), .* \(8, 8\)"),
    (made(pc.Fourier(np.ones((3, 8, 8))), FIELD), ValueError, r"shape \(3, 8, 8\)"),
    (lambda: rs.Preconditioned(VP, 3.0, I3), TypeError, "`score`"),  # type: ignore[arg-type]
    (made(I3, sde=rs.SubVP()), ValueError, "`score` belongs to VP"),
]  # fmt: skip


@pytest.mark.parametrize("make, kind, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named_with_its_remedy(make: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        make()


def test_the_event_is_checked_when_it_is_met_too() -> None:
    users = rs.Preconditioned(VP, lambda x, t: -x, pc.Diagonal([1.0, 2.0]))
    with pytest.raises(
        ValueError, match=r"`z` must have events of shape \(2,\) .* got shape \(4, 3\)"
    ):
        rs.sample(users, rs.EulerMaruyama(), 4, times=2, rng=0, shape=(3,))


def test_channels_share_a_table_of_the_last_axes() -> None:
    field = rs.GaussianField.power_law((3, 4, 4))
    M = pc.Fourier(1.0 + 0.1 * np.arange(16.0).reshape(4, 4) * 0 + 0.2)
    process = rs.Preconditioned(VP, field.score(VP), M, law="marginal")
    assert rs.sample(process, rs.Heun(), 2, times=3, rng=0).x.shape == (2, 3, 4, 4)
