"""A solver that carries moments through the loop, and asks the given one what becomes of them."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from refsde._array import Array, Time
from refsde._boundary import named
from refsde._loop import quiet
from refsde._types import Noise, Process, State
from refsde.exact._kinds import Kinds
from refsde.integrate import iterate, sample
from refsde.precondition import Identity
from refsde.process import with_score
from refsde.solvers.corrector import (
    AnnealedLangevin,
    Langevin,
    PredictorCorrector,
    langevin,
)
from refsde.solvers.metropolis import MALA
from refsde.targets.field import GaussianField
from refsde.times import Grid

__all__ = ["Answers", "Carrier"]

Corrector = Langevin | AnnealedLangevin
AFFINE = 1e-9  # how well superpositions must match
LARGE = 64.0  # of the superpositions beside the probes, to find thresholds


class Answers:
    """A `Noise` that answers question q with 1 for row 1 + q, the last two with numbers, else 0."""

    def __init__(self, questions: int, *, silent: bool = False) -> None:
        self.questions, self.silent = questions, silent
        self.asked: list[bool] = []  # whether it was for the path

    def on(self, rows: np.ndarray) -> Answers:
        return self

    def _answer(self, x: Array, path: bool) -> np.ndarray:
        q = len(self.asked)
        self.asked.append(path)
        z = np.zeros(x.shape)
        if not self.silent:
            if q < self.questions:
                z[1 + q] = 1.0
            z[-2], z[-1] = -LARGE * _trial(q), LARGE * _trial(q)
        return z

    def normal(self, x: Array) -> np.ndarray:
        return self._answer(x, False)

    def increment(self, t: Time, s: Time, x: Array) -> np.ndarray:
        return self._answer(x, True) * math.sqrt(abs(s - t))

    def levy(self, t: Time, s: Time, x: Array) -> tuple[np.ndarray, np.ndarray]:
        dw = self.increment(t, s, x)
        return dw, self._answer(x, True) * math.sqrt(abs(s - t) / 12)


def _trial(q: int) -> float:
    """What the superposition hears in answer to question ``q``; -1 for its start."""
    return math.sin(2.0 + 3.0 * q)


@dataclass(frozen=True)
class _Level:
    """One Langevin step of a given size."""

    e: float

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        score = process.gram(process.score(state.x, state.t))
        z = process.colour(noise.normal(state.x))
        return state._replace(x=langevin(state.x, self.e, score, z))


class Carrier:
    """A solver of rows (variance, A, B), one number a kind, that asks the given solver."""

    def __init__(
        self, solver: Any, kinds: Kinds, process: Process, grid: Grid, denoise: str
    ) -> None:
        self.solver = solver.bind(process, grid.ts) if hasattr(solver, "bind") else solver
        self.kinds, self.process, self.grid = kinds, process, grid
        self.linear = kinds.target(0.0).score(process.sde)  # of the law with the mean zero
        self.drops = denoise == "last_mean"
        self.questions = 0
        self.mean_field = False
        if any(isinstance(part, MALA) for part, *_ in self._parts(*grid.ts[:2])):
            raise self._bent()  # its refusals are rare where steps are short: no probe may see one

    def keeps_memory(self) -> bool:
        """Whether the solver carries something from step to step besides the samples."""
        x, (t, s) = np.ones((1, len(self.kinds.first))), self.grid.ts[:2]
        init = getattr(self.solver, "init", None)
        memory = () if init is None else init(self.process, x, t)
        begin = State(t, x, memory=memory)
        with quiet(), warnings.catch_warnings():  # where all scores vanish, a step size is 0 / 0
            warnings.simplefilter("ignore", RuntimeWarning)  # the run itself will tell
            state = self.solver(self.process.at(t, s), begin, s, Answers(0, silent=True))
        return bool(memory or state.memory)

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``: every part of the solver in turn."""
        x, t = state.x, state.t
        last = self.drops and s == self.grid.ts[-1]
        for part, now, to in self._parts(t, s):
            for _ in range(part.steps if isinstance(part, Corrector) else 1):
                step = self._one(process, part, x, now, to)
                x = self._carried(process, step, now, to, x, last)
        return State(s, x)

    def _parts(self, t: Time, s: Time) -> list[tuple[Any, Time, Time]]:
        """The solver in parts, each with the time it is at and the time it is told."""
        if not isinstance(self.solver, PredictorCorrector):
            return [(self.solver, t, s)]
        predictor, corrector = (self.solver.predictor, t, s), self.solver.corrector
        parts = [(corrector, t, s), predictor]
        if self.solver.order == "paper":
            parts = [predictor, (corrector, s, t)]
        return [part for part in parts if part[0] is not None]

    def _one(self, process: Process, part: Any, x: np.ndarray, t: Time, s: Time) -> Any:
        """One step of a part: of a corrector that takes several, the next."""
        if isinstance(part, Langevin):
            return _Level(self._size(process, part, x, t, s))
        return replace(part, steps=1) if isinstance(part, Corrector) else part

    def _size(self, process: Process, part: Langevin, x: np.ndarray, t: Time, s: Time) -> float:
        """Size of a step of the signal-to-noise rule, by root mean square norms."""
        self.mean_field = True
        kinds, (v, A, B) = self.kinds, x
        linear, ones = with_score(process, self.linear), np.ones((1, len(v)))
        of_one = linear.gram(linear.score(ones, t))[0]
        of_mean = process.gram(process.score(B[None], t))[0]
        own, both, data = kinds.squares
        mean = (of_one * A) ** 2 * own + 2 * of_one * A * of_mean * both + of_mean**2 * data
        size_score = math.sqrt(float(np.sum(kinds.counts * of_one**2 * v + mean)))
        size_z = math.sqrt(float(np.sum(kinds.counts * process.colour(ones)[0] ** 2)))
        return float(part.size(process.sde, t, s, size_z, size_score))

    def _carried(
        self, process: Process, step: Any, t: Time, s: Time, x: np.ndarray, last: bool
    ) -> np.ndarray:
        """Moments after ``step``, a part of one or all of them, called as a solver is."""
        v, A, B = x
        linear, silent = with_score(process, self.linear), Answers(0, silent=True)
        while True:
            rows = np.zeros((3 + self.questions, len(v)))
            rows[0], rows[-2], rows[-1] = 1.0, -LARGE * _trial(-1), LARGE * _trial(-1)
            answers = Answers(self.questions)
            y = step(linear, State(t, rows), s, answers).x
            if len(answers.asked) == self.questions:
                break
            self.questions = len(answers.asked)
        a, gains = y[0], y[1:-2]
        predicted = _trial(-1) * a
        for q, gain in enumerate(gains):
            predicted = predicted + _trial(q) * gain
        off = np.abs(y[-2:] - LARGE * np.stack([-predicted, predicted]))
        if not np.all(off <= AFFINE * (1 + np.abs(y).max(axis=0))):
            raise self._bent()
        kept = [g for g, path in zip(gains, answers.asked, strict=True) if not (last and path)]
        v = a * a * v + sum((g * g for g in kept), np.zeros(len(v)))
        B = step(process, State(t, B[None]), s, silent).x[0]
        return np.stack([v, a * A, B])

    def _bent(self) -> ValueError:
        return ValueError(
            f"`solver` {named(self.solver)} is not affine in every coefficient: it depends on "
            "norms of its samples or has a threshold; its law is no formula"
        )

    def whole(self, x: np.ndarray) -> np.ndarray:
        """Moments after all steps at once, for solvers with memory: work as steps squared."""

        def run(process: Process, state: State, s: Time, noise: Noise) -> State:
            for reached in iterate(process, self.solver, state.x, self.grid, noise):
                state = reached  # a list of all of them would take up much memory
            return state

        if self.drops:
            raise ValueError(
                f"`denoise` = 'last_mean' is not there for {named(self.solver)}, which has memory: "
                "use 'none' or 'tweedie'"
            )
        return self._carried(self.process, run, self.grid.ts[0], self.grid.ts[-1], x, False)

    def denoised(self, x: np.ndarray) -> np.ndarray:
        """Moments of the posterior means at the end."""
        t, (v, A, B) = self.grid.ts[-1], x
        gain = with_score(self.process, self.linear).denoise(np.ones((1, len(v))), t)[0]
        return np.stack([gain * gain * v, gain * A, self.process.denoise(B[None], t)[0]])

    def nfe(self, denoise: Literal["none", "tweedie", "last_mean"]) -> int:
        """Evaluations of one sample, counted on one number."""
        one = GaussianField(np.ones(1), basis="pixel", axes=1)
        process = copy.copy(self.process)
        if getattr(process, "M", None) is not None:
            object.__setattr__(process, "M", Identity())
        process = with_score(process, one.score(process.sde))
        x = np.ones((1, 1))
        run = sample(process, self.solver, times=self.grid, x=x, rng=0, denoise=denoise)
        return int(run.nfe[0])
