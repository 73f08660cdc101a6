r"""The exact law of what a sampler returns on Gaussian data, read out of the driver itself.

On data N(m, C) every score is affine, and so is every sampler whose steps do not depend on where
its samples are: it maps its start x and its normals z_k to

.. math:: y = b + A\,x + \sum_k G_k z_k .

Send the start's unit vectors, and unit vectors in place of each normal, through ``refsde.sample``,
and A, b and the G_k are the differences of what comes back.  Mean and covariance of the output
follow without Monte Carlo, and the loop, the grid and the solver were all part of the measurement.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from refsde._array import Array, Time, per_sample
from refsde._boundary import check_accepts, named, times_of
from refsde._random import block_rows
from refsde._types import Process, Solver, Times
from refsde.exact.field import field_law
from refsde.exact.flow import single_gaussian
from refsde.integrate import sample
from refsde.measure.gaussians import moments_of, root_of
from refsde.solvers.corrector import couples
from refsde.targets.field import GaussianField
from refsde.times import Grid

__all__ = ["Law", "law"]

Start = Literal["marginal", "prior"] | Any
Denoise = Literal["none", "tweedie", "last_mean"]

ROWS = 8192  # probes in a block
SIZES = (1.0, 1.0, 8.0)  # of random superpositions that must match; the last seeks thresholds
TRIALS = len(SIZES)
AFFINE = 1e-9  # how well, in units of what the start and the noise do to the output
ROUNDED = 1e-13  # and of the output itself


class Question(NamedTuple):
    """What a solver asked its noise for: kind "increment", "area" (of Levy) or "normal"."""

    kind: str
    t: float
    s: float


@dataclass(frozen=True, eq=False)
class Law:
    r"""Law N(mean, cov) of a sampler's output, and the affine map that it came from.

    Attributes
    ----------
    mean, cov : arrays (d,), (d, d)
        Moments of the output, in units of the data.
    matrix : array (d, d)
        A, what becomes of a displacement of the start.
    shift : array (d,)
        b, what becomes of the start 0 without noise.
    noise_cov : array (d, d)
        Covariance that the noise adds, the sum of G_k G_k^T.
    draws : int
        How many times a sample asks for d normals, the K of the sum.
    nfe : int
        Evaluations of the score for one sample.
    """

    mean: np.ndarray
    cov: np.ndarray
    matrix: np.ndarray
    shift: np.ndarray
    noise_cov: np.ndarray
    draws: int
    nfe: int

    def __repr__(self) -> str:
        if len(self.mean) == 1:
            return f"Law(mean {self.mean[0]:.6g}, variance {self.cov[0, 0]:.6g}, {self.nfe} NFE)"
        spread = math.sqrt(np.trace(self.cov) / len(self.mean))
        return f"Law(d = {len(self.mean)}, rms standard deviation {spread:.6g}, {self.nfe} NFE)"


def law(
    process: Process,
    solver: Solver,
    times: Times | int,
    *,
    start: Start = "marginal",
    denoise: Denoise = "none",
) -> Any:
    r"""Mean and covariance of a sampler's output on Gaussian data, without Monte Carlo.

    Parameters
    ----------
    process : ReverseSDE, ProbabilityFlow or ForwardSDE
        What is integrated.  Its score belongs to a Gaussian target, or is any affine function
        (then give ``start`` as a pair).
    solver : callable
        How a step is made: any that is affine in the state and in its noise.
    times : Grid or int
        When to step, as for ``refsde.sample``.
    start : "marginal", "prior" or tuple (mean, cov)
        Law of the state at the first of the times: the target's exact p_t, what ``refsde.sample``
        starts from, or a Gaussian of your own, mean (d,) and covariance (d, d); also any object
        with ``.mean`` and ``.cov``, such as the `Law` of an earlier run.  On a field, a mean image
        and the variances of its coefficients, or two numbers.
    denoise : {"none", "tweedie", "last_mean"}
        As for ``refsde.sample``.

    Returns
    -------
    Law or FieldLaw
        With ``mean`` and ``cov``, as the functions of ``refsde.measure`` take a law.  On a
        `refsde.GaussianField` a `FieldLaw`, with the variance of every coefficient.

    Raises
    ------
    ValueError
        If the target is not Gaussian, if the sampler turns out not to be affine (norms of a sample
        in a step size, error control) or to couple its batch, if it is not finite; on bad
        arguments as ``refsde.sample``.
    TypeError
        If the solver does not accept the process.

    Notes
    -----
    A sampler with K draws takes 1 + d + K d probes, as one run of as many samples without their
    normals; at most 8192 of them at a time.  Affinity is not taken on trust: three random
    superpositions of all probes, one of them eight times as large as samples are, must come out as
    computed, to 1e-9.  A threshold that neither of them reaches is not seen.

    On a Gaussian field, where score and preconditioner must be diagonal in one basis, moments are
    carried from step to step, one for every kind of coefficient: a run of N steps costs about as
    much as a few samples.  There the signal-to-noise rule of `Langevin` is taken with root mean
    square norms, which is exact in the limit of many coefficients.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture([1.0], [[0.0]], [0.0625])
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> exact = target.at(sde, sde.t_end).cov.item()
    >>> round(rs.exact.law(process, rs.EulerMaruyama(), 100).cov.item() / exact - 1, 5)
    0.02257
    """
    on_field = isinstance(getattr(process.score, "target", None), GaussianField)
    grid = grid_of(process, solver, times, start=start, coupled=on_field)
    if on_field:
        return field_law(process, solver, grid, start, denoise)
    mean, cov = start_moments(process, grid, start)
    noise_cov = np.zeros_like(cov)

    def add(_: list[Question], gains: np.ndarray) -> None:
        flat = gains.transpose(1, 0, 2).reshape(len(mean), -1)
        noise_cov[...] += flat @ flat.T

    read = read_map(process, solver, grid, mean, cov, add, denoise)
    return Law(
        mean=read.image,
        cov=read.matrix @ cov @ read.matrix.T + noise_cov,
        matrix=read.matrix,
        shift=read.image - read.matrix @ mean,
        noise_cov=noise_cov,
        draws=len(read.questions),
        nfe=read.nfe,
    )


# -- what is asked for ----------------------------------------------------------------------------


def grid_of(
    process: Process, solver: Any, times: Any, *, start: Any, coupled: bool = False
) -> Grid:
    """Return the grid of a run whose law can be computed, or refuse."""
    check_accepts(solver, process)
    prior = isinstance(start, str) and start == "prior"
    grid = times_of(process, solver, times, from_prior=prior)
    if not isinstance(grid, Grid):
        raise ValueError(
            f"`times` must be a Grid or an int, got {times!r}: where steps adapt to the state, the "
            "law is no formula; freeze the steps of one sample, solution.path.grid(i)"
        )
    if couples(solver) and not coupled:
        raise ValueError(
            f"`solver` {named(solver)} couples the samples of a batch, so that no sample has a law "
            "of its own: use its per-sample form, if there is one"
        )
    return grid


def start_moments(process: Process, grid: Grid, start: Start) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of the start."""
    target = gaussian_target(process, "start" if isinstance(start, str) else None)
    if isinstance(start, str):
        if start == "marginal" and target is not None:
            law_t = target.at(process.sde, grid.ts[0])
            return law_t.mean, law_t.cov
        if start == "prior" and target is not None:
            root = process.start(np.eye(target.dim))  # a filter of the process shapes it too
            return np.zeros(target.dim), root.T @ root
        raise ValueError(
            f"`start` must be 'marginal', 'prior' or a pair (mean, cov), got {start!r}"
        )
    if not (isinstance(start, tuple | list) and len(start) == 2) and not hasattr(start, "cov"):
        raise ValueError(
            f"`start` must be 'marginal', 'prior' or a pair (mean, cov), got {start!r}: a pair of "
            "arrays (d,) and (d, d)"
        )
    mean, cov = moments_of(tuple(start) if isinstance(start, list) else start, "start")
    root_of(cov, "start")  # raises if indefinite
    if target is not None and target.dim != len(mean):
        raise ValueError(
            f"`start` has d = {len(mean)}, but the target of the score d = {target.dim}"
        )
    return mean, cov


def gaussian_target(process: Process, needed_for: str | None = None) -> Any:
    """Return the Gaussian target of the process's score; None if it has none and none is needed."""
    target = getattr(process.score, "target", None)
    if target is None:
        if needed_for is None:
            return None
        raise ValueError(
            f"`{needed_for}` needs a Gaussian target, and the score of {type(process).__name__} "
            "has none: make it with target.score(sde)"
            + (", or pass start=(mean, cov)" if needed_for == "start" else "")
        )
    if isinstance(target, GaussianField):
        raise ValueError(
            f"`process` has the target {target!r}, on which only refsde.exact.law (its errors are "
            "relative_w2(), kl() and octaves()) and exact.flow are there: for small events use "
            "target.to_mixture()"
        )
    gaussian = single_gaussian(target)
    if gaussian is None:
        raise ValueError(
            f"`process` has the target {target!r}, which is not Gaussian, so that its score is not "
            "affine and no sampler's law a formula: on the line use refsde.exact.density for "
            "one-step stochastic samplers, for the flow compare with refsde.exact.flow"
        )
    return gaussian


# -- probing --------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What probing found, but for the gains."""

    matrix: np.ndarray
    image: np.ndarray  # of the start's mean, without noise
    questions: list[Question]
    nfe: int


class _Probes:
    """A `Noise` that answers question k with the unit vector e_j for the probe 1 + d + k d + j.

    All other probes hear 0, but for the trials, -1 and below, which hear fixed normals.
    """

    here: np.ndarray  # the probes of this block
    log: list[Question]  # what they were asked

    def __init__(self, d: int, probes: np.ndarray) -> None:
        self.d, self.all = d, probes
        self.logs: list[list[Question]] = []  # what each block of samples asked

    def on(self, rows: np.ndarray) -> _Probes:
        # Called once a block; or when samples are lost, and then there is no law.
        part = copy.copy(self)
        part.here, part.log = self.all[rows], []
        self.logs.append(part.log)
        return part

    def _answer(self, question: Question, x: Array) -> np.ndarray:
        k = len(self.log)
        self.log.append(question)
        z = np.zeros(x.shape)
        j = self.here - (1 + self.d) - k * self.d
        hit = np.flatnonzero((j >= 0) & (j < self.d))
        z[hit, j[hit]] = 1.0
        if self.here[0] < 0:
            z[:] = _normals(k, self.d)[-1 - self.here]
        return z

    def normal(self, x: Array) -> np.ndarray:
        return self._answer(Question("normal", math.nan, math.nan), x)

    def increment(self, t: Time, s: Time, x: Array) -> np.ndarray:
        return self._answer(_asked("increment", t, s), x) * math.sqrt(abs(s - t))

    def levy(self, t: Time, s: Time, x: Array) -> tuple[np.ndarray, np.ndarray]:
        dw = self.increment(t, s, x)
        return dw, self._answer(_asked("area", t, s), x) * math.sqrt(abs(s - t) / 12)


def _asked(kind: str, t: Time, s: Time) -> Question:
    if per_sample(t) or per_sample(s):
        raise ValueError(
            "`solver` asks for noise at times of each sample's own, on a grid that all share: "
            "its steps depend on the state"
        )
    return Question(kind, float(t), float(s))


def _normals(k: int, d: int) -> np.ndarray:
    """Normals (TRIALS, d) that the trials hear in answer to question ``k``; -1 for their start."""
    page, line = divmod(k + 1, 256)
    return np.asarray(_page(page, d)[line])


@lru_cache(maxsize=4)
def _page(page: int, d: int) -> np.ndarray:
    normals = np.random.default_rng(page).standard_normal((256, TRIALS, d))
    return np.asarray(normals * np.array(SIZES)[:, None])


def read_map(
    process: Process,
    solver: Any,
    grid: Grid,
    mean: np.ndarray,
    cov: np.ndarray,
    visit: Callable[[list[Question], np.ndarray], None],
    denoise: Denoise = "none",
) -> Reading:
    """Read A and b out of ``refsde.sample``, and hand the gains to ``visit``, block by block.

    Parameters
    ----------
    process, solver, grid, denoise
        What is run.
    mean, cov : arrays (d,), (d, d)
        Moments of the start: where to probe, and how far off, so that no digits are lost.
    visit : callable
        Called as ``visit(questions, gains)`` with some of the questions, in order, and their gains
        (k, d, d) on unit normals.
    """
    d = len(mean)
    scale = math.sqrt(float(np.max(np.diag(cov)))) or 1.0
    starts = np.concatenate([np.zeros((1, d)), scale * np.eye(d)])

    def run(probes: np.ndarray) -> tuple[np.ndarray, list[Question], int]:
        if probes[0] < 0:
            x = mean + scale * _normals(-1, d)
        else:
            x = mean + starts[np.where(probes <= d, probes, 0)]
        return _run(process, solver, grid, x, probes, denoise)

    # The trials go alone: if samples feel their mates, they do not match what the probes predict.
    trials, questions, nfe = run(-1 - np.arange(TRIALS))
    size = max(1, (min(ROWS, block_rows(d)) - 1) // d) * d  # whole questions, behind the first row
    predicted = np.zeros((TRIALS, d))
    for first in range(1, 1 + d * (1 + len(questions)), size):
        last = min(first + size, 1 + d * (1 + len(questions)))
        out, asked, _ = run(np.concatenate([[0], np.arange(first, last)]))
        if asked != questions:
            raise ValueError(_fickle(solver))
        responses = (out[1:] - out[0]).reshape(-1, d, d)  # [k, j]: to e_j in question k
        block = (first - 1) // d - 1 + np.arange(len(responses))  # the start comes as question -1
        for k, response in zip(block.tolist(), responses, strict=True):
            predicted += _normals(k, d) @ response
        if first == 1:
            matrix, image, responses = responses[0].T / scale, out[0], responses[1:]
            block = block[1:]
        if len(block):
            visit(questions[block[0] : block[-1] + 1], responses.transpose(0, 2, 1))
    allowed = AFFINE * np.abs(trials - image).max(axis=1) + ROUNDED * np.abs(image).max()
    if not np.all(np.abs(image + predicted - trials).max(axis=1) <= allowed):
        raise ValueError(_bent(process, solver, grid, mean, scale))
    return Reading(matrix, image, questions, nfe)


def _run(
    process: Process, solver: Any, grid: Grid, x: np.ndarray, probes: np.ndarray, denoise: Denoise
) -> tuple[np.ndarray, list[Question], int]:
    """Send probes through the driver: their ends, what they were asked, and the cost of one."""
    noise = _Probes(x.shape[1], probes)
    solution = sample(process, solver, times=grid, x=x, noise=noise, denoise=denoise)
    if not solution.success.all():
        raise ValueError(
            f"`solver` {named(solver)} leaves the finite numbers, so that it has no law: "
            f"{solution.message}"
            if probes[0] < 0  # else only at special places, by 0 / 0
            else _bent(process, solver, grid, x[0], 1.0)
        )
    if any(log != noise.logs[0] for log in noise.logs):
        raise ValueError(_fickle(solver))
    return np.asarray(solution.x), noise.logs[0], int(solution.nfe[0])


def _fickle(solver: Any) -> str:
    return (
        f"`solver` {named(solver)} does not ask for the same noise whatever the state, so that it "
        "is no affine map of its start and its noise"
    )


def _bent(process: Process, solver: Any, grid: Grid, mean: np.ndarray, scale: float) -> str:
    """Say what is not affine: the score, or else the first step of the solver."""
    d = len(mean)
    a, b = mean + scale * _normals(-1, d)[:2]
    x = np.stack([a, b, 0.5 * (a + b)])
    if process.kind != "forward":
        for t in grid.ts[:-1]:
            score = np.asarray(process.score(x, t))
            if not abs(0.5 * (score[0] + score[1]) - score[2]).max() <= AFFINE * abs(score).max():
                return (
                    f"`process` has a score that is not affine at t = {t:g}, so that no sampler's "
                    "law is a formula: use a Gaussian target, or on the line refsde.exact.density"
                )
    return (
        f"`solver` {named(solver)} is not affine in its state and noise, though the score is: a "
        "step size or norm of each sample's own (Langevin's signal-to-noise rule, error control), "
        "a threshold, or different noise for different samples; its law is no formula"
    )
