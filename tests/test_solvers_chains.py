"""The discrete chains DDPM and SMLD: on its table a sampler is the papers' loop, draw for draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _probing import MIXTURE_2D, Draws, louder, normal_data, output_law
from _recursions import ddpm, smld

import refsde as rs

EXACT = 1e-12
SOLVERS = {
    "ancestral": rs.Ancestral(),
    "ancestral posterior": rs.Ancestral("posterior"),
    "reverse diffusion": rs.ReverseDiffusion(),
}

# -- figures of the literature, from the exact p_{N-1}, with the score of the discrete marginals ---


def linear(n: int) -> tuple[Any, Any]:
    betas = np.linspace(0.1 / n, 20.0 / n, n)
    return rs.Tabulated(betas), ddpm(betas)


def geometric(n: int) -> tuple[Any, Any]:
    sigmas = np.geomspace(0.01, 50.0, n)
    return rs.Tabulated(sigmas=sigmas), smld(sigmas)


DISCRETE = {  # v / s0^2 - 1 for N = 100, 300, 1000, 2000; the last step without noise
    ("ancestral", linear, 0.25): "7.953e-02 2.537e-02 7.502e-03 3.740e-03",
    ("reverse diffusion", linear, 0.25): "9.854e-02 3.131e-02 9.247e-03 4.608e-03",
    ("ancestral posterior", linear, 0.25): "-2.003e-01 -8.446e-02 -2.955e-02 -1.569e-02",
    ("ancestral", linear, 1.0): "-1.000e-03 -3.333e-04 -1.000e-04 -5.000e-05",
    ("reverse diffusion", linear, 1.0): "2.816e-02 9.113e-03 2.707e-03 1.351e-03",
    ("reverse diffusion", geometric, 1.0): "9.101e-02 2.891e-02 8.468e-03 4.169e-03",
    ("ancestral", geometric, 1.0): "-8.139e-02 -2.805e-02 -8.576e-03 -4.348e-03",
    ("reverse diffusion", geometric, 0.25): "8.958e-02 2.744e-02 6.976e-03 2.675e-03",
    ("ancestral", geometric, 0.25): "-8.265e-02 -2.946e-02 -1.005e-02 -5.833e-03",
}


@pytest.mark.parametrize(("method", "table", "s0"), DISCRETE)
def test_discrete_samplers_have_the_printed_variance_errors(
    method: str, table: Any, s0: float
) -> None:
    for n, figure in zip((100, 300, 1000, 2000), DISCRETE[method, table, s0].split(), strict=True):
        p = normal_data(0.0, s0, *table(n))
        grid = rs.Grid.uniform(p.reverse.sde, n, t_end=0.0)
        v = float(output_law(p, p.reverse, SOLVERS[method], grid, denoise="last_mean")[1][0, 0])
        assert f"{v / s0**2 - 1:.3e}" == figure


# -- the discrete chains, as the papers write them -------------------------------------------------


class Given(Draws):
    """A `Noise` that deals out given normals (calls, B, d), one a question."""

    def __init__(self, z: np.ndarray) -> None:
        self.z, self.calls = z, 0

    def normal(self, x: Any) -> Any:
        self.calls += 1
        return self.z[self.calls - 1]


def ddpm_loop(score, betas, x, z, rule):  # type: ignore[no-untyped-def]
    """Ho et al. (2020), algorithm 2, and its reverse-diffusion sibling; i counts down to 1."""
    abar = np.cumprod(1 - betas)
    for call, i in enumerate(range(len(betas), 0, -1)):
        beta, abar_i, abar_before = betas[i - 1], abar[i - 1], abar[i - 2] if i > 1 else 1.0
        s = score(x, abar_i)
        if rule == "reverse diffusion":
            x = (2 - np.sqrt(1 - beta)) * x + beta * s + np.sqrt(beta) * z[call]
        else:
            eps = -np.sqrt(1 - abar_i) * s
            mean = (x - beta / np.sqrt(1 - abar_i) * eps) / np.sqrt(1 - beta)
            var = beta * (1 - abar_before) / (1 - abar_i) if rule == "ancestral posterior" else beta
            x = mean + np.sqrt(var) * z[call] if var > 0 else mean
    return x


def smld_loop(score, sigmas, x, z, rule):  # type: ignore[no-untyped-def]
    """Song et al. (2020), algorithm 2 and eq. 47; sigma_0 = 0 below the table."""
    for call, i in enumerate(range(len(sigmas), 0, -1)):
        new, old = sigmas[i - 1], sigmas[i - 2] if i > 1 else 0.0
        gap = new**2 - old**2
        std = np.sqrt(gap) if rule == "reverse diffusion" else np.sqrt(old**2 * gap / new**2)
        x = x + gap * score(x, new)
        x = x + std * z[call] if std > 0 else x
    return x


def diffused_score(x: np.ndarray, a: float, sigma: float) -> np.ndarray:
    """Score of MIXTURE_2D at the level (a, sigma), from its definition."""
    weighted, total = np.zeros_like(x), np.zeros((len(x), 1))
    for w, mu, C in zip(MIXTURE_2D.weights, MIXTURE_2D.means, MIXTURE_2D.covs, strict=True):
        V = a**2 * C + sigma**2 * np.eye(2)
        pull = np.linalg.solve(V, (a * mu - x).T).T
        density = w * np.exp(-0.5 * np.sum((x - a * mu) * -pull, 1)) / np.sqrt(np.linalg.det(V))
        weighted += density[:, None] * pull
        total += density[:, None]
    return np.asarray(weighted / total)


@pytest.mark.parametrize("rule", ["ancestral", "ancestral posterior", "reverse diffusion"])
@pytest.mark.parametrize("chain_of", ["DDPM", "SMLD"])
def test_on_its_table_the_sampler_is_the_papers_loop(
    chain_of: str, rule: str, rng: np.random.Generator
) -> None:
    n = 100
    z = rng.standard_normal((n, 6, 2))
    if chain_of == "DDPM":
        betas = np.linspace(0.1 / n, 20 / n, n)
        sde, x = rs.Tabulated(betas), rng.standard_normal((6, 2))
        want = ddpm_loop(
            lambda x, abar: diffused_score(x, np.sqrt(abar), np.sqrt(1 - abar)), betas, x, z, rule
        )
    else:
        sigmas = np.geomspace(0.01, 20, n)
        sde, x = rs.Tabulated(sigmas=sigmas), 20 * rng.standard_normal((6, 2))
        want = smld_loop(lambda x, sigma: diffused_score(x, 1.0, sigma), sigmas, x, z, rule)
    process, grid = rs.ReverseSDE(sde, MIXTURE_2D.score(sde)), rs.Grid.uniform(sde, n, t_end=0.0)

    def run(solver: Any, z: np.ndarray) -> np.ndarray:
        return np.asarray(rs.sample(process, solver, x=x, times=grid, noise=Given(z)).x)

    solver = SOLVERS[rule]
    np.testing.assert_allclose(run(solver, z), want, rtol=EXACT, atol=EXACT)
    assert np.abs(run(louder(solver), z) - want).max() > 1e-4
    assert np.abs(run(solver, z[::-1]) - want).max() > 1e-2
