"""Exact laws on the line: Gaussian recursions, closed forms, refinement, then Monte Carlo."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from _probing import CASES, louder
from _recursions import (
    Gauss,
    Step,
    ancestral,
    chain,
    ddim,
    euler,
    heun,
    law,
    reverse_diffusion,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

import refsde as rs
from refsde.exact import Density, density
from refsde.targets import Empirical

VP, EM = rs.VP(), rs.EulerMaruyama()
# the trimodal problem of the benchmark, and a bimodal one whose modes are far apart
MODES = rs.GaussianMixture([0.3, 0.3, 0.4], [[-2.0], [0.0], [1.5]], np.array([0.3, 0.2, 0.4]) ** 2)
FAR = rs.GaussianMixture([0.3, 0.7], [[-2.0], [2.0]], [1e-4, 4e-4])
NORMAL = rs.GaussianMixture([1.0], [[0.7]], [0.09])
REVERSE = rs.ReverseSDE(VP, MODES.score(VP))


def process_of(sde: Any, target: Any = MODES) -> Any:
    return rs.ReverseSDE(sde, target.score(sde))


def normal_pdf(x: Any, mean: float, var: float) -> Any:
    return np.exp(-0.5 * (x - mean) ** 2 / var) / np.sqrt(2 * math.pi * var)


def numbers(found: Density, target: Any = None) -> np.ndarray:
    """All distances of a law from its target: W1, total variation, KL, mode weights."""
    distances = [found.w1(target), found.tv(target), found.kl(target)]
    return np.array([*distances, *found.mode_weights(target)])


# -- Gaussian data: the law is a recursion --------------------------------------------------------

STEPS: dict[str, Callable[[str], tuple[Any, Step]]] = {
    "em": lambda family: (EM, euler),
    "ddim": lambda family: (rs.DDIM(1.0), lambda p, t, s: ddim(p, t, s, 1.0)),
    "ddim-half": lambda family: (rs.DDIM(0.5), lambda p, t, s: ddim(p, t, s, 0.5)),
    "heun": lambda family: (rs.Heun(), heun),  # linear in its noise where the score is affine
    "reverse-diffusion": lambda family: (
        rs.ReverseDiffusion(),
        lambda p, t, s: reverse_diffusion(p, t, s, family),
    ),
    "ancestral": lambda family: (
        rs.Ancestral("posterior"),
        lambda p, t, s: ancestral(p, t, s, family, "posterior"),
    ),
}


def gaussian_gap(
    name: str, method: str, n: int, start: Any, change: Callable[[Any], Any] = lambda solver: solver
) -> float:
    """Largest error of mean, variance and density against the recursion, in their own units."""
    sde, schedule, family = CASES[name]
    solver, step = STEPS[method](family)
    p, grid = Gauss(schedule, np.array([0.7]), np.array([[0.09]])), rs.Grid.uniform(sde, n)
    found = density(process_of(sde, NORMAL), change(solver), grid, start=start)
    first = p.moments(grid.ts[0]) if start == "marginal" else (np.zeros(1), 1.0 * np.eye(1))
    if start == "prior":
        first = (np.zeros(1), sde.prior_std**2 * np.eye(1))
    mean, var = (a.item() for a in law(chain(step, p, grid.ts), *first))
    std = math.sqrt(var)
    x = mean + std * np.linspace(-12, 12, 241)
    return max(
        abs(found.mean - mean) / std,
        abs(found.var / var - 1),
        float(np.abs(found.pdf(x) - normal_pdf(x, mean, var)).max() * std),
        float(np.abs(found.cdf(x) - ndtr((x - mean) / std)).max()),
    )


@pytest.mark.parametrize(
    ("n", "start"), [(10, "marginal"), (10, "prior"), (50, "prior"), (200, "marginal")]
)
@pytest.mark.parametrize("method", STEPS)
@pytest.mark.parametrize("name", ["VP", "SubVP", "VE"])
def test_gaussian_data_keep_the_recursion(name: str, method: str, n: int, start: str) -> None:
    assert gaussian_gap(name, method, n, start) < 2e-12  # the bound asked for is 1e-9


@pytest.mark.parametrize("name", ["EDM", "Cosine"])
def test_gaussian_data_under_other_sdes(name: str) -> None:
    assert gaussian_gap(name, "em", 30, "marginal") < 2e-12


@pytest.mark.parametrize("method", ["em", "ddim", "reverse-diffusion", "ancestral"])
def test_noise_a_millionth_too_loud_is_seen(method: str) -> None:
    """Mutant of the test above, a thousand times finer than a tenth of a percent."""
    assert gaussian_gap("VP", method, 50, "marginal", lambda s: louder(s, 1 + 1e-6)) > 1e-7


# -- mixtures: closed forms and identities --------------------------------------------------------


@pytest.mark.parametrize("sde", [VP, rs.SubVP(), rs.VE()], ids=repr)
def test_the_forward_sde_keeps_a_mixture_a_mixture(sde: Any) -> None:
    """Its steps x + f x h + g dw are affine for any law, so each component has its recursion."""
    grid = rs.Grid.uniform(sde, 20).reversed()
    found = density(rs.ForwardSDE(sde), EM, grid, start=MODES)
    weights, means, covs = MODES.weights, MODES.means[:, 0], MODES.covs[:, 0, 0]
    for t, s in zip(grid.ts[:-1], grid.ts[1:], strict=True):
        a = 1 + sde.f(t) * (s - t)
        means, covs = a * means, a * a * covs + sde.g2(t) * (s - t)
    exact = rs.GaussianMixture(weights, means[:, None], covs)
    x = np.linspace(*found.support(1e-19), 300)
    right = np.exp(exact.logpdf(x[:, None]))
    assert np.abs(found.pdf(x) - right).max() < 1e-13 * right.max()
    assert found.w1(exact) < 1e-13 * math.sqrt(found.var)
    assert found.kl(exact) < 1e-14
    # what it should have been is the exact transition of the start, to the order of the steps
    a = sde.alpha(grid.ts[-1]) / sde.alpha(grid.ts[0])
    assert found.target is not None
    assert found.target.means == pytest.approx(a * MODES.means, rel=1e-14)
    before, after = (sde.sigma(grid.ts[i]) ** 2 for i in (0, -1))
    assert found.target.covs[:, 0, 0] == pytest.approx(
        a * a * (MODES.covs[:, 0, 0] - before) + after, rel=1e-12
    )


def panels(low: float, high: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre quadrature on very many panels."""
    z, w = np.polynomial.legendre.leggauss(12)
    edges = np.linspace(low, high, n + 1)
    half = 0.5 * np.diff(edges)[:, None]
    return (0.5 * (edges[1:] + edges[:-1])[:, None] + half * z).ravel(), (half * w).ravel()


@pytest.mark.parametrize("target", [MODES, FAR], ids=["modes", "far"])
@pytest.mark.parametrize("ts", [(1.0, 0.5), (0.3, 0.1), (0.05, 0.02)])
def test_one_step_is_an_integral(target: Any, ts: tuple[float, float]) -> None:
    """With M and S written out."""
    t, s = ts
    score, (x, dx) = target.score(VP), panels(-10, 10)
    found = density(rs.ReverseSDE(VP, score), EM, rs.Grid(ts))
    drift = VP.f(t) * x - VP.g2(t) * score(x[:, None], t)[:, 0]
    start = np.exp(target.at(VP, t).logpdf(x[:, None])) * dx
    y = np.linspace(-3, 3, 61)
    kernels = normal_pdf(y[:, None], x + drift * (s - t), VP.g2(t) * (t - s))
    right = kernels @ start
    assert np.abs(found.pdf(y) - right).max() < 1e-11 * right.max()


@pytest.mark.parametrize("sde", [VP, rs.VE()], ids=repr)
def test_a_run_may_be_cut_in_two(sde: Any) -> None:
    process, grid = process_of(sde), rs.Grid.uniform(sde, 12)
    whole = density(process, EM, grid)
    half = density(process, EM, rs.Grid(grid.ts[:6]))
    rest = density(process, EM, rs.Grid(grid.ts[5:]), start=half)
    assert (half.t, rest.t) == (grid.ts[5], grid.ts[-1])
    assert numbers(rest) == pytest.approx(numbers(whole), abs=1e-12)


def test_every_step_of_a_point_mass_is_exact() -> None:
    """DDPM's step with the posterior variance is exact if there is one point, at any size."""
    process = process_of(VP, Empirical([[0.7]]))
    found = density(process, rs.DDIM(1.0), 5)
    assert max(found.w1(), found.tv(), found.kl()) < 1e-12


spreads = st.floats(0.05, 1.0)


@st.composite
def mixtures(draw: Callable[[Any], Any]) -> rs.GaussianMixture:
    K = draw(st.integers(1, 4))
    w = np.array(draw(st.lists(st.floats(0.05, 1.0), min_size=K, max_size=K)))
    means = draw(st.lists(st.floats(-3, 3), min_size=K, max_size=K))
    stds = np.array(draw(st.lists(spreads, min_size=K, max_size=K)))
    return rs.GaussianMixture(w / w.sum(), np.array(means)[:, None], stds**2)


solvers = st.sampled_from([EM, rs.DDIM(1.0), rs.ReverseDiffusion(), rs.Ancestral()])


@settings(max_examples=20)
@given(mixtures(), solvers, st.integers(1, 12))
def test_any_mixture_gives_a_law(target: rs.GaussianMixture, solver: Any, n: int) -> None:
    process = process_of(VP, target)
    found, finer = (density(process, solver, n, refine=r) for r in (1.0, 1.7))
    assert found.masses.sum() == pytest.approx(1, abs=1e-13)
    assert found.mass_error < 1e-11
    assert np.all(found.masses >= 0) and np.all(found.stds > 0)
    scale = math.sqrt(found.var)
    assert finer.mean == pytest.approx(found.mean, abs=1e-11 * scale)
    assert finer.var == pytest.approx(found.var, rel=1e-11)
    x = np.linspace(*found.support(1e-15), 50)
    assert finer.pdf(x) == pytest.approx(found.pdf(x), abs=1e-10 * found.pdf(x).max())
    tv, weights = found.tv(), found.mode_weights()
    assert 0 <= tv <= 1 and weights.sum() == pytest.approx(1, abs=1e-10)
    assert found.kl() >= 2 * tv**2 * (1 - 1e-9)  # Pinsker's inequality
    assert found.w1() >= abs(found.mean - target.at(VP, VP.t_end).mean.item()) - 1e-12


@settings(max_examples=20)
@given(mixtures(), solvers, st.integers(1, 12))
def test_a_mirror_image_gives_a_mirror_image(
    target: rs.GaussianMixture, solver: Any, n: int
) -> None:
    mirrored = rs.GaussianMixture(target.weights, -target.means, target.covs)
    found, image = (density(process_of(VP, law), solver, n) for law in (target, mirrored))
    x = np.linspace(*found.support(1e-15), 50)
    assert image.pdf(-x) == pytest.approx(found.pdf(x), abs=1e-10 * found.pdf(x).max())
    assert image.w1() == pytest.approx(found.w1(), rel=1e-9)


# -- refinement -----------------------------------------------------------------------------------

RUNS = [
    (sde, solver, n)
    for sde in (VP, rs.SubVP(), rs.VE())
    for solver, n in ((EM, 10), (EM, 100), (rs.DDIM(1.0), 60), (rs.ReverseDiffusion(), 30))
    if (type(sde), type(solver)) != (rs.SubVP, rs.DDIM)  # whose last noise is tiny: 400000 nodes
]


@pytest.mark.parametrize(("sde", "solver", "n"), RUNS, ids=repr)
def test_closer_nodes_change_nothing(sde: Any, solver: Any, n: int) -> None:
    coarse, fine = (density(process_of(sde), solver, n, refine=r) for r in (1.0, 2.0))
    assert len(fine.centres) > 1.9 * len(coarse.centres)
    assert numbers(fine) == pytest.approx(numbers(coarse), abs=1e-11)  # asked for: 1e-8


@pytest.mark.parametrize("n", [1, 2, 3, 20])
def test_steps_that_fold_the_line_are_right(n: int) -> None:
    """Coarse steps overshoot: M is not monotone, and masses from both sides meet."""
    x = np.linspace(-4, 4, 400)[:, None]
    t, s = rs.Grid.uniform(VP, n).ts[-2:]
    moved = x[:, 0] + REVERSE.drift(x, t)[:, 0] * (s - t)
    assert n == 20 or np.any(np.diff(moved) < 0), "no fold, nothing tested"
    coarse, fine = (density(REVERSE, EM, n, refine=r) for r in (1.0, 3.0))
    assert numbers(fine) == pytest.approx(numbers(coarse), abs=1e-9, rel=1e-11)


def test_the_certificate_mends_a_bad_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no idea how close nodes must be, every second node alone still tells."""
    right = numbers(density(REVERSE, EM, 40))
    module = sys.modules["refsde.exact.density"]
    monkeypatch.setattr(module, "_spacing", lambda *_: math.inf)
    assert numbers(density(REVERSE, EM, 40)) == pytest.approx(right, abs=1e-11)
    monkeypatch.setattr(module._Attempt, "resolved", lambda _: True)
    wrong = numbers(density(REVERSE, EM, 40))  # the mutant: mass alone does not see the ripples
    assert np.abs(wrong - right).max() > 1e-8


def test_mass_that_goes_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the tails where they still weigh something: the total tells."""
    monkeypatch.setattr(sys.modules["refsde.exact.density"], "TINY", 1e-9)
    with pytest.raises(RuntimeError, match="too rough to be resolved"):
        density(REVERSE, EM, 10)


# -- distances ------------------------------------------------------------------------------------


def brute(found: Density, q: rs.GaussianMixture) -> np.ndarray:
    """The distances by quadrature that knows nothing of kinks."""
    x, dx = panels(-9, 9)
    p, log_q = found.pdf(x), q.logpdf(x[:, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(p > 0, p * (np.log(p) - log_q), 0.0) @ dx
    w1 = np.abs(found.cdf(x) - q.cdf(x)) @ dx
    tv = 0.5 * np.abs(p - np.exp(log_q)) @ dx
    return np.array([w1, tv, kl, *(p * dx) @ q.responsibilities(x[:, None])])


@pytest.mark.parametrize("n", [5, 30, 200])
def test_distances_are_their_integrals(n: int) -> None:
    found = density(REVERSE, EM, n)
    q = MODES.at(VP, VP.t_end)
    # kinks cost the quadrature of `brute` what they cannot cost ours
    assert numbers(found) == pytest.approx(brute(found, q), abs=3e-8, rel=1e-9)
    assert numbers(found, q) == pytest.approx(numbers(found), abs=1e-15)


@pytest.mark.parametrize(("shift", "stretch"), [(0.3, 1.0), (0.0, 1.1), (1e-5, 1.0), (5.0, 0.5)])
def test_distances_between_gaussians(shift: float, stretch: float) -> None:
    p = Density(np.array([shift]), np.array([stretch]), np.ones(1))
    q = rs.GaussianMixture([1.0], [[0.0]], [1.0])
    kl = 0.5 * (shift**2 + stretch**2 - 1) - math.log(stretch)
    assert p.kl(q) == pytest.approx(kl, rel=1e-7, abs=1e-15)
    assert p.kl(q) == pytest.approx(rs.measure.gaussian_kl(p, (0.0, 1.0)), rel=1e-6)
    if stretch == 1:
        assert p.w1(q) == pytest.approx(shift, rel=1e-12)
        assert p.tv(q) == pytest.approx(2 * ndtr(shift / 2) - 1, rel=1e-9)
    if shift == 0:
        assert p.w1(q) == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=1e-12)
        c = math.sqrt(2 * math.log(1.1) / (1 - 1.1**-2))  # where the densities are equal
        assert p.tv(q) == pytest.approx(2 * (ndtr(c) - ndtr(c / 1.1)), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.004, 0.011, 0.0137, 0.02])
def test_changes_of_sign_that_hide_between_two_points_are_found(shift: float) -> None:
    """A narrow peak of q reaches over p by 1e-4, for a fifth of the distance of two points."""
    p = Density(shift + np.array([-2.0, 2.0]), np.ones(2), np.full(2, 0.5))
    peak, ground = 1 / (0.05 * math.sqrt(2 * math.pi)), float(normal_pdf(shift, 0.0, 900.0))
    w = (float(p.pdf(shift)) + 1e-4 - ground) / (peak - ground)
    q = rs.GaussianMixture([w, 1 - w], [[shift], [0.0]], [0.05**2, 900.0])
    x, dx = panels(-300, 300, 60_000)
    right = 0.5 * np.abs(p.pdf(x) - np.exp(q.logpdf(x[:, None]))) @ dx
    assert p.tv(q) == pytest.approx(right, abs=3e-8)  # unseen, they would cost 4e-7


def test_expectations_and_moments() -> None:
    found = density(REVERSE, EM, 20)
    assert found.expect(np.ones_like) == pytest.approx(1, abs=1e-13)
    assert found.expect(lambda x: x) == pytest.approx(found.mean, abs=1e-12)
    both = found.expect(lambda x: np.stack([x, (x - found.mean) ** 2], axis=1))
    assert both == pytest.approx([found.mean, found.var], abs=1e-11)
    assert found.cov == pytest.approx(np.array([[found.var]]))
    assert rs.measure.frechet(found, found) == pytest.approx(0, abs=1e-14)
    with pytest.raises(RuntimeError, match="`fn` is too rough"):
        found.expect(lambda x: x > 0.1)


def test_density_and_distribution_function_take_any_shape() -> None:
    found = density(REVERSE, EM, 20)
    x = np.linspace(-3, 3, 24)
    assert found.pdf(0.3).shape == ()
    assert np.array_equal(found.pdf(x.reshape(2, 3, 4)), found.pdf(x).reshape(2, 3, 4))
    assert np.array_equal(found.cdf(x[::-1]), found.cdf(x)[::-1])
    assert found.cdf([-50.0, 50.0]) == pytest.approx([0, 1], abs=1e-14)
    slope = (found.cdf(x + 1e-4) - found.cdf(x - 1e-4)) / 2e-4
    assert slope == pytest.approx(found.pdf(x), abs=1e-6)
    assert repr(found).startswith("Density(t = 0.001, mean ")


# -- how fast the error goes down -----------------------------------------------------------------


@pytest.mark.parametrize("sde", [VP, rs.VE()], ids=repr)
def test_errors_go_down_with_the_order(sde: Any) -> None:
    """Order 1 in distribution and density, so 2 in the relative entropy."""
    process = process_of(sde)
    coarse, fine = (numbers(density(process, EM, n))[:3] for n in (256, 512))
    slopes = np.log2(coarse / fine)
    assert slopes == pytest.approx([1, 1, 2], abs=0.03)


def test_noise_a_tenth_of_a_percent_too_loud_spoils_the_order() -> None:
    """Mutant: then errors do not go to zero."""
    coarse, fine = (numbers(density(REVERSE, louder(EM), n))[:3] for n in (256, 512))
    assert np.all(np.abs(np.log2(coarse / fine) - [1, 1, 2]) > 0.06)


@pytest.mark.parametrize("solver", [EM, rs.DDIM(1.0), rs.ReverseDiffusion()], ids=repr)
def test_noise_a_tenth_of_a_percent_too_loud_changes_the_law(solver: Any) -> None:
    right, loud = (density(REVERSE, s, 100) for s in (solver, louder(solver)))
    assert abs(loud.var / right.var - 1) > 1e-5  # a million times what nodes can do
    assert loud.w1() != pytest.approx(right.w1(), rel=1e-3)


# -- Monte Carlo ----------------------------------------------------------------------------------

CUTS = np.array([-2.5, -2.0, -1.5, -1.0, -0.5, -0.1, 0.1, 0.5, 1.0, 1.5, 2.0, 2.5])
Z = 5.0  # two-sided false-positive rate 5.7e-7 a number, of which a case has 18


def z_scores(
    process: Any, solver: Any, grid: rs.Grid, found: Density, n: int, seed: int
) -> np.ndarray:
    """Mean, variance, mode weights and 13 cells of a histogram, over their standard errors."""
    size, weights = min(n, 10**6), found.mode_weights()
    sums, squares, counts = np.zeros(5), np.zeros(5), np.zeros(len(CUTS) + 1)
    for i in range(n // size):
        x = rs.sample(process, solver, size, times=grid, rng=seed + i).x
        gap = x - found.mean
        r = MODES.at(process.sde, grid.ts[-1]).responsibilities(x)
        terms = np.hstack([gap, gap**2 - found.var, r - weights])
        sums, squares = sums + terms.sum(axis=0), squares + (terms**2).sum(axis=0)
        counts += np.bincount(np.searchsorted(CUTS, x[:, 0]), minlength=len(counts))
    share = np.diff(np.concatenate([[0.0], found.cdf(CUTS), [1.0]]))
    cells = (counts - n * share) / np.sqrt(n * share * (1 - share))
    return np.abs(np.concatenate([sums / np.sqrt(squares), cells]))


MONTE_CARLO = [
    (VP, EM, 20),
    (rs.VE(), rs.DDIM(1.0), 15),
    (rs.SubVP(), rs.ReverseDiffusion(), 20),
    (VP, rs.Ancestral(), 10),
]


def worst_z(sde: Any, solver: Any, steps: int, n: int, seed: int, loud: float = 1.0) -> float:
    grid, process = rs.Grid.uniform(sde, steps), process_of(sde)
    found = density(process, solver, grid, start="prior")
    sampled = louder(solver, loud) if loud != 1 else solver
    return float(z_scores(process, sampled, grid, found, n, seed).max())


@pytest.mark.parametrize(("sde", "solver", "steps"), MONTE_CARLO, ids=repr)
def test_samples_follow_the_law(sde: Any, solver: Any, steps: int, seed: int) -> None:
    assert worst_z(sde, solver, steps, 10**5, seed) < Z


def test_samples_of_another_solver_do_not(seed: int) -> None:
    """Mutant: 3 % more noise; the exact law sees a millionth, a hundred thousand samples this."""
    assert worst_z(VP, EM, 20, 10**5, seed, loud=1.03) > Z


@pytest.mark.slow
@pytest.mark.parametrize(("sde", "solver", "steps"), MONTE_CARLO, ids=repr)
def test_ten_million_samples_follow_the_law(sde: Any, solver: Any, steps: int, seed: int) -> None:
    assert worst_z(sde, solver, steps, 10**7, seed) < Z


# -- solvers of other people ----------------------------------------------------------------------


def test_a_function_is_a_solver() -> None:
    def step(process: Any, state: Any, s: float, noise: Any) -> rs.State:
        t, x = state.t, state.x
        dw = noise.increment(t, s, x)
        return rs.State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))

    assert numbers(density(REVERSE, step, 20)) == pytest.approx(
        numbers(density(REVERSE, EM, 20)), abs=1e-13
    )


def test_noise_may_depend_on_where_it_is_added() -> None:
    """The law of x + (1 + x^2 / 4) z / 2, x normal, against its integral."""

    def step(process: Any, state: Any, s: float, noise: Any) -> rs.State:
        x = state.x
        return rs.State(s, x + (0.5 + x * x / 8) * noise.normal(x))

    start = rs.GaussianMixture([1.0], [[0.0]], [1.0])
    found = density(REVERSE, step, rs.Grid([1.0, 0.9]), start=start)
    (x, dx), y = panels(-10, 10), np.linspace(-12, 12, 61)
    right = normal_pdf(y[:, None], x, (0.5 + x * x / 8) ** 2) @ (normal_pdf(x, 0, 1) * dx)
    assert np.abs(found.pdf(y) - right).max() < 1e-10 * right.max()


def test_a_corrector_alone_is_a_kernel_also_on_the_flow() -> None:
    """One Langevin step a level, after a step of the flow: one normal, and linear in it."""
    pc = rs.PredictorCorrector(EM, rs.AnnealedLangevin(0.3), order="paper")
    flow = rs.ProbabilityFlow(VP, MODES.score(VP))
    grid = rs.Grid.uniform(VP, 50)
    corrected = density(flow, pc, grid)
    assert corrected.w1() < 0.02
    with pytest.raises(ValueError, match=r"adds no noise .* use refsde.exact.flow"):
        density(flow, EM, grid)


def test_a_score_without_a_target_has_a_law_but_no_default_distance() -> None:
    score = MODES.score(VP)
    process = rs.ReverseSDE(VP, lambda x, t: score(x, t))
    found = density(process, EM, 20, start="prior")
    right = density(REVERSE, EM, 20, start="prior")
    with pytest.raises(ValueError, match=r"`target` is None.* pass a GaussianMixture"):
        found.w1()
    assert numbers(found, right.target) == pytest.approx(numbers(right), abs=1e-13)


@dataclass(frozen=True)
class Binding:
    """Counts its steps on the grid it was bound to."""

    ts: tuple[float, ...] | None = None

    def bind(self, process: Any, ts: Any) -> Binding:
        assert self.ts is None, "bound twice"
        return replace(self, ts=ts)

    def __call__(self, process: Any, state: Any, s: float, noise: Any) -> rs.State:
        assert self.ts is not None and len(self.ts) == 8
        new: rs.State = EM(process, state, s, noise)
        return new


def test_a_solver_is_bound_once_to_the_whole_grid() -> None:
    found = density(REVERSE, Binding(), 7)
    assert numbers(found) == pytest.approx(numbers(density(REVERSE, EM, 7)), abs=1e-15)


def test_the_input_is_left_alone() -> None:
    centres = np.array([1.0, -1.0])
    centres.setflags(write=False)
    start = Density(centres, np.array([0.5, 0.5]), np.array([0.25, 0.75]))
    assert start.centres.tolist() == [-1.0, 1.0] and start.masses.tolist() == [0.75, 0.25]
    assert centres.tolist() == [1.0, -1.0]
    density(REVERSE, EM, 3, start=start)
    assert start.centres.tolist() == [-1.0, 1.0]


# -- refusals -------------------------------------------------------------------------------------


def remembers(process: Any, state: Any, s: float, noise: Any) -> rs.State:
    return EM(process, state, s, noise)._replace(memory=(s,))


def coupled(process: Any, state: Any, s: float, noise: Any) -> rs.State:
    new: rs.State = EM(process, state, s, noise)
    return new._replace(x=new.x - 0.01 * new.x.max())


def clipped(process: Any, state: Any, s: float, noise: Any) -> rs.State:
    """Linear for every z that is likely, not for all."""
    dw = noise.increment(state.t, s, state.x)
    bound = 6 * math.sqrt(abs(s - state.t))
    return rs.State(s, state.x + np.clip(dw, -bound, bound))


def odd(process: Any, state: Any, s: float, noise: Any) -> rs.State:
    """Straight as seen from z = 0 and two opposite ones."""
    z = noise.normal(state.x)
    return rs.State(s, state.x + z + 1e-6 * z**3)


def areas(process: Any, state: Any, s: float, noise: Any) -> rs.State:
    dw, h = noise.levy(state.t, s, state.x)
    return rs.State(s, state.x + dw + h)


def rough(x: np.ndarray, t: float) -> np.ndarray:
    return np.asarray(-x - 0.3 * np.sign(x))


def holed(x: np.ndarray, t: float) -> np.ndarray:
    return np.where(x > 1, np.nan, -x)


TO_DATA = rs.Grid.uniform(VP, 5, t_end=0.0)
PLANE = rs.ReverseSDE(VP, rs.GaussianMixture.ring(8).score(VP))
PC = rs.PredictorCorrector(EM, rs.AnnealedLangevin(0.1))
BATCH = rs.PredictorCorrector(EM, rs.Langevin(0.1, norm="batch"))


class Adaptive:
    """Not a grid."""

    def start(self, process: Any, x: Any) -> Any: ...
    def target(self, t: Any, plan: Any) -> Any: ...
    def judge(self, old: Any, new: Any, plan: Any) -> Any: ...
    def select(self, plan: Any, rows: Any) -> Any: ...


@pytest.mark.parametrize(
    ("change", "problem", "says"),
    [
        ({"solver": rs.Heun()}, ValueError, "not linear in its noise.*refsde.exact.law"),
        ({"solver": rs.Heun(), "times": 1000}, ValueError, "not linear in its noise"),
        ({"solver": clipped}, ValueError, "not linear in its noise"),
        ({"solver": odd}, ValueError, "not linear in its noise"),
        ({"solver": PC}, ValueError, "more than one normal a step"),
        ({"solver": areas}, ValueError, "asks for Levy areas"),
        ({"solver": remembers}, ValueError, "carries memory"),
        ({"solver": coupled}, ValueError, "couples the samples"),
        ({"solver": BATCH}, ValueError, "couples the samples.*per-sample form"),
        ({"solver": rs.DDIM(0.0)}, ValueError, "adds no noise.*refsde.exact.flow"),
        ({"solver": rs.DDIM(1e-6)}, ValueError, "adds too little noise"),
        ({"solver": rs.DDIM(1.0), "times": TO_DATA}, ValueError, "`times` ends at t = 0.*t_end"),
        ({"solver": rs.EulerMaruyama}, TypeError, r"pass EulerMaruyama\(\)"),
        ({"process": rs.ProbabilityFlow(VP, MODES.score(VP))}, ValueError, "exact.flow"),
        ({"process": PLANE}, ValueError, "d = 2.*refsde.exact.law"),
        ({"process": rs.ForwardSDE(VP)}, ValueError, "ForwardSDE, which starts from data"),
        ({"process": rs.ReverseSDE(VP, rough)}, ValueError, "score with a target"),
        ({"process": rs.ReverseSDE(VP, rough), "start": "prior"}, RuntimeError, "too rough"),
        ({"process": rs.ReverseSDE(VP, holed), "start": "prior"}, RuntimeError, "not finite from"),
        ({"times": Adaptive()}, ValueError, "`times` must be a Grid or an int"),
        ({"times": 0}, ValueError, "`times` must be a positive number"),
        ({"times": rs.Grid([0.001, 1.0])}, ValueError, "must descend"),
        ({"times": rs.Grid([0.5, 0.1]), "start": "prior"}, ValueError, "`times` must start at T"),
        ({"start": "posterior"}, ValueError, "`start` must be 'marginal'"),
        ({"start": (0.0, 1.0)}, TypeError, "`start` must be 'marginal'"),
        ({"start": rs.GaussianMixture.ring(8)}, ValueError, "`start` must have d = 1"),
        (
            {"start": rs.GaussianMixture([1.0], [[0.0]], [0.0])},
            ValueError,
            "`start` has a part without spread",
        ),
        ({"refine": 0.5}, ValueError, "`refine` must be"),
        ({"refine": "fine"}, ValueError, "`refine` must be"),
    ],
)
def test_refusals(change: dict[str, Any], problem: type[Exception], says: str) -> None:
    arguments: dict[str, Any] = {"process": REVERSE, "solver": EM, "times": 10} | change
    with pytest.raises(problem, match=says):
        density(arguments.pop("process"), arguments.pop("solver"), **arguments)


@pytest.mark.parametrize("method", ["w1", "tv", "kl", "mode_weights"])
@pytest.mark.parametrize(
    ("target", "problem", "says"),
    [
        (rs.GaussianMixture.ring(8), ValueError, "`target` must have d = 1"),
        (Empirical([[0.0]]), TypeError, "`target` must be a GaussianMixture"),
        ("VP", TypeError, "`target` must be a GaussianMixture"),
    ],
)
def test_bad_targets(method: str, target: Any, problem: type[Exception], says: str) -> None:
    found = Density(np.zeros(1), np.ones(1), np.ones(1))
    with pytest.raises(problem, match=says):
        getattr(found, method)(target)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"masses": [0.5, 0.4]}, "`masses` must be non-negative with sum 1, got the sum 0.9"),
        ({"masses": [1.5, -0.5]}, "`masses` must be non-negative"),
        ({"stds": [1.0, 0.0]}, "`stds` positive"),
        ({"stds": [1.0, np.inf]}, "`stds` positive and finite"),
        ({"centres": [0.0, np.nan]}, "`centres` must be finite"),
        ({"centres": [0.0]}, r"one shape \(n,\), got \(1,\), \(2,\)"),
    ],
)
def test_bad_kernels(change: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {"centres": [0.0, 1.0], "stds": [1.0, 1.0], "masses": [0.5, 0.5]}
    with pytest.raises(ValueError, match=says):
        Density(**(good | change))


def test_a_density_is_a_law_for_pictures_and_measures() -> None:
    sde = rs.VP()
    target = rs.GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.1, 0.1])
    got = rs.exact.density(rs.ReverseSDE(sde, target.score(sde)), rs.EulerMaruyama(), 50)
    x = np.linspace(-3, 3, 7)[:, None]
    np.testing.assert_allclose(np.exp(got.logpdf(x)), got.pdf(x[:, 0]), rtol=1e-14)
    assert got.logpdf(np.array([[1e3]])) == -np.inf
    pyplot = pytest.importorskip("matplotlib.pyplot")
    ax = rs.plot.density_1d(got)
    curve = ax.lines[0]
    np.testing.assert_allclose(curve.get_ydata(), got.pdf(curve.get_xdata()), rtol=1e-12)
    pyplot.close(ax.figure)
    with pytest.raises(ValueError, match="`x` must have shape"):
        got.logpdf(np.zeros(3))


def test_a_run_goes_on_where_the_last_one_ended() -> None:
    sde = rs.VP()
    target = rs.GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.1, 0.1])
    process = rs.ReverseSDE(sde, target.score(sde))
    half = rs.exact.density(process, rs.EulerMaruyama(), rs.Grid(np.linspace(1.0, 0.5, 11)))
    rest = rs.Grid(np.linspace(0.5, 0.1, 9))
    assert rs.exact.density(process, rs.EulerMaruyama(), rest, start=half).t == 0.1
    with pytest.raises(ValueError, match="`start` is the law at t = 0.5 of another run.*t = 1"):
        rs.exact.density(process, rs.EulerMaruyama(), 10, start=half)
