"""Correctors and predictor-corrector sampling: exact laws, stationary variances, scale, coupling.

Maps are read out of the public driver; the snr rule is not affine, and is tested by its formula, by
a noise that makes it deterministic, and by its limit in many dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from _probing import (
    BETAS,
    CASES,
    MIXTURE_2D,
    MUTANTS,
    Draws,
    Problem,
    Z,
    far,
    louder,
    moment_z,
    output_law,
    problem,
    read_problem,
    scaled_score,
)
from _recursions import Affine, Gauss, annealed_langevin, ddim, edm, euler, reverse_diffusion, whole

import refsde as rs

EXACT = 1e-12

# -- predictor-corrector sampling with an affine corrector: the law, exactly -----------------------

RD = rs.ReverseDiffusion()
PREDICTORS: dict[str, tuple[Any, str, Callable[[str], Any]]] = {
    "reverse diffusion": (RD, "reverse", lambda f: partial(reverse_diffusion, family=f)),
    "its flow": (RD, "flow", lambda f: partial(reverse_diffusion, family=f, flow=True)),
    "EM": (rs.EulerMaruyama(), "reverse", lambda f: euler),
    "DDIM(0.5)": (rs.DDIM(0.5), "reverse", lambda f: partial(ddim, eta=0.5)),
    "DDIM(0) on the flow": (rs.DDIM(), "flow", lambda f: partial(ddim, eta=0.0)),
    "none": (None, "reverse", lambda f: None),
}
SNR = 0.3


def recursion(p: Problem, step: Any, order: str, steps: int) -> list[Affine]:
    """Song et al. (2020), algorithm 1: in the code's order, or in the paper's."""
    maps = []
    for t, s in zip(p.grid.ts[:-1], p.grid.ts[1:], strict=True):
        signal = (
            p.gauss.schedule.alpha(t) / p.gauss.schedule.alpha(s)
        ) ** 2  # 1 - beta_i of the step
        level = t if order == "code" else s
        correct = [annealed_langevin(p.gauss, level, signal, SNR)] * steps
        predict = [] if step is None else [step(p.gauss, t, s)]
        maps += correct + predict if order == "code" else predict + correct
    return maps


@pytest.mark.parametrize("d", [1, 5])
@pytest.mark.parametrize("order", ["code", "paper"])
@pytest.mark.parametrize("method", PREDICTORS)
@pytest.mark.parametrize("name", CASES)
def test_the_map_is_that_of_the_paper(name: str, method: str, order: Any, d: int) -> None:
    p = (
        problem(name, d, n=16 if d == 1 else 8)
        if name not in ("DDPM", "SMLD")
        else problem(name, d)
    )
    predictor, kind, step = PREDICTORS[method]
    steps = 1 if d == 5 else 2
    solver = rs.PredictorCorrector(predictor, rs.AnnealedLangevin(SNR, steps), order)
    got = read_problem(p, getattr(p, kind), solver)
    want = whole(recursion(p, step(CASES[name].family), order, steps))
    assert far(got, want, *p.gauss.moments(p.grid.ts[0])) < EXACT


@pytest.mark.parametrize("order", ["code", "paper"])
def test_a_mutant_has_another_map(order: Any) -> None:
    p = problem("VP", 5, n=8)
    want = whole(recursion(p, partial(reverse_diffusion, family="vp"), order, 1))
    good = rs.PredictorCorrector(rs.ReverseDiffusion(), rs.AnnealedLangevin(SNR), order)
    start = p.gauss.moments(1.0)
    assert far(read_problem(p, p.reverse, good), want, *start) < EXACT
    for mutant in MUTANTS.values():
        assert far(read_problem(p, p.reverse, mutant(good)), want, *start) > 1e-4
    for wrong in (
        rs.PredictorCorrector(
            good.predictor, good.corrector, "paper" if order == "code" else "code"
        ),
        rs.PredictorCorrector(good.predictor, rs.AnnealedLangevin(SNR * 1.001), order),
        rs.PredictorCorrector(good.predictor, None, order),
    ):
        assert far(read_problem(p, p.reverse, wrong), want, *start) > 1e-4


@pytest.mark.parametrize("predictor", [rs.EulerMaruyama(), rs.DDIM(1.0), rs.Ancestral("large")])
def test_without_a_corrector_it_is_the_predictor(predictor: Any) -> None:
    p = problem("VP", 5)
    both = [
        rs.sample(p.reverse, s, 20, times=10, rng=0).x
        for s in (predictor, rs.PredictorCorrector(predictor, None))
    ]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize(
    ("solver", "evaluations"),
    [
        (rs.PredictorCorrector(rs.EulerMaruyama(), rs.Langevin(0.1, 3)), 4),
        (rs.PredictorCorrector(rs.Heun(), rs.AnnealedLangevin(0.1), "paper"), 3),
        (rs.PredictorCorrector(None, rs.Langevin(0.1, 2)), 2),
        (rs.PredictorCorrector(rs.DDIM(), None), 1),
    ],
)
def test_evaluations_are_counted_as_they_happen(solver: Any, evaluations: int) -> None:
    # The published code reports N (steps + 1) whatever the parts are.
    assert set(rs.sample(problem("VP").reverse, solver, 3, times=5, rng=0).nfe) == {5 * evaluations}


# -- stationary variances at a fixed level ---------------------------------------------------------


def fixed_level(V: float, sigma: float = 1.0, d: int = 1) -> Problem:
    """Data N(0, V - sigma^2) on EDM's clock, so that p_t = N(0, V) at t = sigma and alpha = 1."""
    sde = rs.EDM()
    score = rs.GaussianMixture([1.0], [np.zeros(d)], [V - sigma**2]).score(sde)
    gauss = Gauss(edm(), np.zeros(d), (V - sigma**2) * np.eye(d))
    grid = rs.Grid([sigma, sigma / 2])  # where a corrector without a predictor stays at sigma
    return Problem(gauss, rs.ReverseSDE(sde, score), rs.ProbabilityFlow(sde, score), grid)


@pytest.mark.parametrize("snr", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("V", [1.0625, 2.5])
def test_annealed_langevin_settles_where_it_should(snr: float, V: float) -> None:
    # A step e has the stationary variance V / (1 - e / 2V); here e = 2 (snr sigma)^2.
    p = fixed_level(V)

    def settled(solver: Any) -> float:
        return float(output_law(p, p.reverse, solver, p.grid)[1][0, 0])

    chain = rs.PredictorCorrector(None, rs.AnnealedLangevin(snr, steps=400))
    want = V / (1 - snr**2 / V)
    assert abs(settled(chain) / want - 1) < EXACT
    for mutant in (louder, partial(scaled_score, scale=0.5), partial(scaled_score, scale=1.001)):
        assert abs(settled(mutant(chain)) / want - 1) > 1e-4


class Sideways(Draws):
    """Noise at right angles to x, of length sqrt(d): what nearly all draws are as d grows."""

    def normal(self, x: Any) -> Any:
        turned = np.stack([-x[:, 1], x[:, 0]], axis=1)  # d = 2
        return turned * math.sqrt(2) / np.linalg.norm(turned, axis=1, keepdims=True)


@pytest.mark.parametrize("norm", ["sample", "batch"])
@pytest.mark.parametrize("snr", [0.16, 0.316])
def test_langevin_settles_at_snr_squared_above_the_variance(snr: float, norm: Any) -> None:
    # e = 2 snr^2 V^2 / v has the fixed point v = V (1 + snr^2): exact with noise at right angles.
    p = fixed_level(1.25, d=2)
    x = np.array([[0.9, -0.3], [1.7, 0.4], [0.2, 0.1]])
    x *= 1 if norm == "sample" else np.linalg.norm(x[:1]) / np.linalg.norm(x, axis=1, keepdims=True)

    def settled(solver: Any) -> np.ndarray:
        out = rs.sample(p.reverse, solver, x=x, times=p.grid, noise=Sideways()).x
        return np.asarray(np.mean(out**2, axis=1))

    chain = rs.PredictorCorrector(None, rs.Langevin(snr, 600, norm))
    np.testing.assert_allclose(settled(chain), 1.25 * (1 + snr**2), rtol=EXACT)
    for mutant in (louder, partial(scaled_score, scale=0.5), partial(scaled_score, scale=1.001)):
        assert np.abs(settled(mutant(chain)) / (1.25 * (1 + snr**2)) - 1).max() > 1e-5


@pytest.mark.parametrize("norm", ["sample", "batch"])
def test_langevin_settles_there_in_many_dimensions(norm: Any, seed: int) -> None:
    # n d squares of normals: the relative standard error is sqrt(2 / n d) = 0.39 %, and |z| > 5 has
    # probability 5.7e-7 in each of the two runs.  What is left of finite d is 4 / d = 0.4 %.
    n, d, snr, V = 128, 1024, 0.5, 1.25
    p = fixed_level(V, d=d)
    x = math.sqrt(V) * np.random.default_rng(seed).standard_normal((n, d))

    def z(solver: Any) -> float:
        out = rs.sample(p.reverse, solver, x=x, times=p.grid, rng=seed).x
        return float(abs(np.mean(out**2) / (V * (1 + snr**2)) - 1) / math.sqrt(2 / (n * d)))

    chain = rs.PredictorCorrector(None, rs.Langevin(snr, 20, norm))
    assert z(chain) < Z
    assert z(rs.PredictorCorrector(None, rs.Langevin(1.2 * snr, 20, norm))) > Z
    assert z(louder(chain, 1.03)) > Z
    assert z(scaled_score(chain, 0.5)) > Z


# -- the rule for the step -------------------------------------------------------------------------


class Given(Draws):
    """A `Noise` that answers every question with the same normals."""

    def __init__(self, z: np.ndarray) -> None:
        self.z = z

    def on(self, rows: np.ndarray) -> Given:
        return Given(self.z[rows])

    def normal(self, x: Any) -> Any:
        return self.z


@pytest.mark.parametrize("norm", ["sample", "batch"])
@pytest.mark.parametrize("name", CASES)
def test_one_langevin_step_is_the_published_formula(
    name: str, norm: Any, rng: np.random.Generator
) -> None:
    sde, _, family = CASES[name]
    n = len(BETAS)
    t, s = (0.75, 0.75 - 1 / n) if name != "EDM" else (3.0, 2.0)
    x, z = rng.standard_normal((2, 6, 2))
    score = MIXTURE_2D.score(sde)
    grad = score(x, t)
    size_z, size_grad = np.linalg.norm(z, axis=1), np.linalg.norm(grad, axis=1)
    if norm == "batch":
        size_z, size_grad = size_z.mean(), size_grad.mean()
    signal = {
        "ve": 1.0,
        "vp": (sde.alpha(t) / sde.alpha(s)) ** 2,
        "sub-vp": (sde.alpha(t) / sde.alpha(s)) ** 2,
    }[family]
    if name == "DDPM":
        np.testing.assert_allclose(signal, 1 - BETAS[round(t * n) - 1], rtol=1e-14)
    e = np.broadcast_to(2 * signal * (0.16 * size_z / size_grad) ** 2, 6)[:, None]
    want = x + e * grad + np.sqrt(2 * e) * z
    solver = rs.PredictorCorrector(None, rs.Langevin(0.16, 1, norm))
    got = rs.sample(rs.ReverseSDE(sde, score), solver, x=x, times=rs.Grid([t, s]), noise=Given(z)).x
    np.testing.assert_allclose(got, want, rtol=EXACT, atol=EXACT)
    assert (
        np.abs(
            rs.sample(
                rs.ReverseSDE(sde, score),
                louder(solver),
                x=x,
                times=rs.Grid([t, s]),
                noise=Given(z),
            ).x
            - want
        ).max()
        > 1e-5
    )


@pytest.mark.parametrize(
    "corrector", [rs.Langevin(0.2, 3), rs.Langevin(0.2, 3, "batch"), rs.AnnealedLangevin(0.2, 3)]
)
@pytest.mark.parametrize("c", [0.01, 30.0])
def test_correctors_do_not_care_about_units(
    corrector: Any, c: float, rng: np.random.Generator
) -> None:
    # x -> c x, covariances -> c^2: the step e goes with c^2, and the output with c.
    x = rng.standard_normal((9, 2))
    solver = rs.PredictorCorrector(rs.ReverseDiffusion(), corrector)

    def run(c: float) -> np.ndarray:
        sde = rs.EDM(sigma_min=0.1 * c, sigma_max=5.0 * c)
        target = rs.GaussianMixture(
            MIXTURE_2D.weights, c * MIXTURE_2D.means, c**2 * MIXTURE_2D.covs
        )
        out = rs.sample(
            rs.ReverseSDE(sde, target.score(sde)),
            solver,
            x=5 * c * x,
            times=rs.Grid.karras(sde, 5),
            rng=1,
        )
        return np.asarray(out.x / c)

    np.testing.assert_allclose(run(c), run(1.0), rtol=1e-10, atol=1e-10)


def test_batch_norms_couple_the_samples_and_sample_norms_do_not(rng: np.random.Generator) -> None:
    sde = rs.VP()
    process, x = rs.ReverseSDE(sde, MIXTURE_2D.score(sde)), rng.standard_normal((7, 2))
    with_outlier = np.vstack([x, [[40.0, -40.0]]])
    for norm in ("sample", "batch"):
        solver = rs.PredictorCorrector(rs.EulerMaruyama(), rs.Langevin(0.16, norm=norm))
        alone, mated = (
            rs.sample(process, solver, x=y, times=10, rng=3).x[:7] for y in (x, with_outlier)
        )
        if norm == "sample":
            np.testing.assert_array_equal(alone, mated)
        else:
            assert np.all(np.abs(alone - mated).max(axis=1) > 1e-5)
        assert solver.couples_batch is (norm == "batch")


# -- mixtures in the plane -------------------------------------------------------------------------

ANNEALED, BATCH = rs.AnnealedLangevin(0.1), rs.Langevin(0.05, norm="batch")
PLANE = {
    "reverse diffusion, annealed": (rs.PredictorCorrector(RD, ANNEALED), "reverse"),
    "flow, annealed": (rs.PredictorCorrector(rs.EulerMaruyama(), ANNEALED, "paper"), "flow"),
    "ancestral, batch norm": (rs.PredictorCorrector(rs.Ancestral(), BATCH), "reverse"),
}


@pytest.mark.parametrize("method", PLANE)
def test_moments_on_a_mixture_in_the_plane(method: str, seed: int) -> None:
    # 8 z-scores a run, each beyond Z with probability 5.7e-7: a false alarm in 5e-6 of fresh seeds.
    # The bias at 250 steps is below one standard error.
    solver, kind = PLANE[method]
    sde, process = rs.VP(), {"reverse": rs.ReverseSDE, "flow": rs.ProbabilityFlow}[kind]
    grid = rs.Grid.power(sde, 250, 2.0)
    exact = MIXTURE_2D.at(sde, grid.ts[-1])

    def worst(solver: Any) -> float:
        run = rs.sample(process(sde, MIXTURE_2D.score(sde)), solver, 2000, times=grid, rng=seed)
        return float(moment_z(run.x, exact).max())

    assert worst(solver) < Z
    assert worst(louder(solver, 1.5)) > Z
    assert worst(scaled_score(solver, 0.5)) > Z


@pytest.mark.parametrize("d", [8, 16])
def test_sample_norms_settle_at_another_law(d: int, seed: int) -> None:
    # e = c |z|^2 / |score|^2 makes two mistakes of a factor 1 + 2 / d, which stay as snr vanishes.
    # The noise sqrt(2 e) z goes with E |z|^4 = d (d + 2), the drift with (E |z|^2)^2 = d^2; and a
    # step that falls with |score|^2 has the stationary law p |score|^2.  False-positive rate 5.7e-7
    # a run, beside a bias of the size snr^2 = 1 %.
    n, V, snr = 4000, 1.25, 0.1
    p = fixed_level(V, d=d)
    x = math.sqrt(V) * np.random.default_rng(seed).standard_normal((n, d))

    def variance(norm: Any) -> float:
        solver = rs.PredictorCorrector(None, rs.Langevin(snr, 300, norm))
        return float(np.mean(rs.sample(p.reverse, solver, x=x, times=p.grid, rng=seed).x ** 2) / V)

    tolerance = Z * math.sqrt(2 / (n * d)) + 2 * snr**2
    assert abs(variance("sample") / (1 + 2 / d) ** 2 - 1) < tolerance
    assert abs(variance("batch") - 1) < tolerance


def test_sample_norms_are_not_for_the_plane(seed: int) -> None:
    # The docstring's warning: E 1 / |score|^2 is infinite for d <= 2.
    sde = rs.VP()
    solver = rs.PredictorCorrector(rs.ReverseDiffusion(), rs.Langevin(0.16))
    x = rs.sample(rs.ReverseSDE(sde, MIXTURE_2D.score(sde)), solver, 2000, times=200, rng=seed).x
    assert np.all(np.var(x, axis=0) > 1.5 * np.diag(MIXTURE_2D.cov))
