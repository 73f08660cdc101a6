"""How the solver tests look at refsde: problems, exact affine maps, mutants, moments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from _recursions import (
    Affine,
    Gauss,
    Matrix,
    Schedule,
    cosine,
    ddpm,
    edm,
    law,
    smld,
    sub_vp,
    ve,
    vp,
)

import refsde as rs
from refsde.exact.law import read_map

Z = 5.0  # a z-score beyond which a moment is wrong: two-sided false-positive rate 5.7e-7 a moment

# -- problems --------------------------------------------------------------------------------------

BETAS = np.linspace(0.01, 0.5, 16)
SIGMAS = np.geomspace(0.05, 30.0, 16)


class Case(NamedTuple):
    """An SDE of refsde beside its schedule written out; ``family``: how its chain is published."""

    sde: Any
    schedule: Schedule
    family: str  # "vp", "ve" or "sub-vp"


CASES = {
    "VP": Case(rs.VP(), vp(), "vp"),
    "SubVP": Case(rs.SubVP(), sub_vp(), "sub-vp"),
    "VE": Case(rs.VE(), ve(), "ve"),
    "VE-exact": Case(rs.VE(convention="exact"), ve(exact=True), "ve"),
    "EDM": Case(rs.EDM(), edm(), "ve"),
    "Cosine": Case(rs.Cosine(), cosine(), "vp"),
    "DDPM": Case(rs.Tabulated(BETAS), ddpm(BETAS), "vp"),
    "SMLD": Case(rs.Tabulated(sigmas=SIGMAS), smld(SIGMAS), "ve"),
}


def data(d: int) -> tuple[Matrix, Matrix]:
    """Mean and covariance of N(0.7, 0.3^2), or of a correlated Gaussian in ``d`` dimensions."""
    if d == 1:
        return np.array([0.7]), np.array([[0.09]])
    rng = np.random.default_rng(7)
    root = rng.standard_normal((d, d))
    return rng.standard_normal(d), root @ root.T / d + 0.05 * np.eye(d)


class Problem(NamedTuple):
    gauss: Gauss
    reverse: Any
    flow: Any
    grid: rs.Grid


def problem(name: str, d: int = 1, n: int = 16) -> Problem:
    """Gaussian data under one of the SDEs, with a coarse grid."""
    sde, schedule, _ = CASES[name]
    m, C = data(d)
    score = rs.GaussianMixture([1.0], [m], [C]).score(sde)
    grid = (
        rs.Grid.uniform(sde, n, t_end=0.0) if name in ("DDPM", "SMLD") else rs.Grid.karras(sde, n)
    )
    return Problem(
        Gauss(schedule, m, C), rs.ReverseSDE(sde, score), rs.ProbabilityFlow(sde, score), grid
    )


def normal_data(m: float, std: float, sde: Any = None, schedule: Schedule | None = None) -> Problem:
    """N(m, std^2) on the line, under VP(0.1, 20) unless told otherwise; the grid is a placeholder.

    The score is written out here, as a user would: on two rows it is many times cheaper than a
    mixture's.
    """
    sde, schedule = sde or rs.VP(), schedule or vp()

    def score(x: Any, t: float) -> Any:
        a, sigma = sde.alpha(t), sde.sigma(t)
        return (a * m - x) / (a * a * std * std + sigma * sigma)

    gauss = Gauss(schedule, np.array([m]), np.array([[std**2]]))
    return Problem(
        gauss, rs.ReverseSDE(sde, score), rs.ProbabilityFlow(sde, score), rs.Grid.uniform(sde, 1)
    )


# -- reading the sampler's map out of the public driver --------------------------------------------


class Draws:
    """A `Noise` made of one method: ``normal``."""

    def on(self, rows: np.ndarray) -> Any:
        return self

    def normal(self, x: Any) -> Any:
        raise NotImplementedError

    def increment(self, t: float, s: float, x: Any) -> Any:
        return self.normal(x) * math.sqrt(abs(s - t))


def read(
    process: Any, solver: Any, times: rs.Grid, d: int, scale: float = 1.0, **options: Any
) -> Affine:
    """A, b and all gains of ``rs.sample(process, solver, times=times)``: exact, no Monte Carlo.

    ``scale`` is the length of the probes of A: about the spread of the start, to lose no digits.
    """
    gains: list[Matrix] = []
    got = read_map(
        process,
        solver,
        times,
        np.zeros(d),
        scale**2 * np.eye(d),
        lambda _, block: gains.extend(block),
        **options,
    )
    return Affine(got.matrix, got.image, tuple(gains))


def read_problem(
    p: Problem, process: Any, solver: Any, grid: rs.Grid | None = None, **options: Any
) -> Affine:
    """As `read`, on a problem's grid or another."""
    grid = grid or p.grid
    spread = math.sqrt(float(np.max(p.gauss.moments(grid.ts[0])[1])))
    return read(process, solver, grid, len(p.gauss.m), spread, **options)


def output_law(
    p: Problem, process: Any, solver: Any, grid: rs.Grid, **options: Any
) -> tuple[Matrix, Matrix]:
    """Mean and covariance of the sampler's output from the exact p_T, read out of the driver."""
    return law([read_problem(p, process, solver, grid, **options)], *p.gauss.moments(grid.ts[0]))


def far(got: Affine, want: Affine, mean: Matrix, cov: Matrix) -> float:
    """Largest relative difference of two maps: A, b and gains, and the laws from N(mean, cov)."""
    if len(got.gains) != len(want.gains):
        return math.inf
    (mean_g, cov_g), (mean_w, cov_w) = law([got], mean, cov), law([want], mean, cov)
    spread, start = math.sqrt(np.trace(cov_w)), math.sqrt(np.trace(cov))
    gaps = [
        # in units of what A does to the start, or of the output where A forgets the start
        np.abs(got.A - want.A).max() * start / max(np.abs(want.A).max() * start, spread),
        np.abs(got.b - want.b).max() / max(np.abs(want.b).max(), spread),
        np.abs(mean_g - mean_w).max() / max(np.abs(mean_w).max(), spread),
        np.abs(cov_g - cov_w).max() / np.abs(cov_w).max(),
    ]
    if want.gains:
        biggest = max(np.abs(G).max() for G in want.gains)
        gaps += [np.abs(g - w).max() / biggest for g, w in zip(got.gains, want.gains, strict=True)]
    return float(max(gaps))


def romberg(errors: Sequence[float], order: int) -> float:
    """Richardson extrapolation of errors c h^order + ... on doubling grids: what is left."""
    column = list(errors)
    while len(column) > 1:
        column = [
            (2**order * b - a) / (2**order - 1)
            for a, b in zip(column[:-1], column[1:], strict=True)
        ]
        order += 1
    return column[0]


# -- mutants: what every test must notice ----------------------------------------------------------


class Louder:
    """Noise whose draws are too large by the factor ``scale``."""

    def __init__(self, noise: Any, scale: float) -> None:
        self.noise, self.scale = noise, scale

    def normal(self, x: Any) -> Any:
        return self.noise.normal(x) * self.scale

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return self.noise.increment(t, s, x) * self.scale

    def levy(self, t: Any, s: Any, x: Any) -> Any:
        dw, area = self.noise.levy(t, s, x)
        return dw * self.scale, area * self.scale


class _Altered:
    """A solver, bound to a grid where it wants to be, with something done to every step."""

    def __init__(self, solver: Any, step: Callable[..., Any]) -> None:
        self.solver, self.step = solver, step

    def bind(self, process: Any, ts: Any) -> _Altered:
        bind = getattr(self.solver, "bind", None)
        return self if bind is None else _Altered(bind(process, ts), self.step)

    def __call__(self, process: Any, state: Any, s: Any, noise: Any) -> Any:
        return self.step(self.solver, process, state, s, noise)


def louder(solver: Any, scale: float = 1.001) -> Any:
    """The solver with its noise too large, by a tenth of a percent if not told otherwise."""
    return _Altered(solver, lambda solver, p, x, s, noise: solver(p, x, s, Louder(noise, scale)))


def scaled_score(solver: Any, scale: float) -> Any:
    """The solver with a scaled score: 1/2 confuses the SDE with the flow, -1 is a lost sign."""

    def step(solver: Any, process: Any, state: Any, s: Any, noise: Any) -> Any:
        score = process.score
        return solver(replace(process, score=lambda x, t: scale * score(x, t)), state, s, noise)

    return _Altered(solver, step)


Mutant = Callable[[Any], Any]
DETERMINISTIC_MUTANTS: dict[str, Mutant] = {
    "half score": partial(scaled_score, scale=0.5),
    "sign of the score": partial(scaled_score, scale=-1.0),
    "score 0.1 % too large": partial(scaled_score, scale=1.001),
}
MUTANTS: dict[str, Mutant] = {"noise 0.1 % too large": louder, **DETERMINISTIC_MUTANTS}


# -- moments of samples, for what no recursion reaches ---------------------------------------------

MIXTURE_2D = rs.GaussianMixture(
    [0.5, 0.3, 0.2],
    [[-1.5, 0.5], [1.5, 1.0], [0.5, -1.5]],
    [[[0.30, 0.12], [0.12, 0.20]], [[0.15, -0.05], [-0.05, 0.25]], [[0.20, 0.0], [0.0, 0.10]]],
)


def moment_z(x: Matrix, target: rs.GaussianMixture) -> Matrix:
    """z-scores of the sample's mean, covariance and mode weights against those of ``target``.

    Each is a mean of independent terms of exactly known expectation, over its standard error.
    """
    gap = x - target.mean
    i, j = np.triu_indices(target.dim)
    terms = np.hstack(
        [gap, gap[:, i] * gap[:, j] - target.cov[i, j], target.responsibilities(x) - target.weights]
    )
    return np.abs(terms.mean(0)) / (terms.std(0, ddof=1) / math.sqrt(len(x)))
