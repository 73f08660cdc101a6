r"""The exact law of a sampler's output on a Gaussian random field, coefficient by coefficient.

Where score and preconditioner are diagonal in one basis, so is every affine sampler, and a
coefficient of the output depends on that coefficient alone,

.. math:: Y_k = A_k X_k + B_k \mu_k + \sum_j G_{kj} Z_{kj}.

Coefficients with the same S and the same gain share all of this: at 1024 x 1024 there are 82,799
kinds of them.  One event of so many numbers, an independent Gaussian each, is run through the loop
itself; a solver that carries moments stands in for the given one and asks it, at each step, what it
makes of 1 and of each of its normals.  Neither the solver's formula nor a filter's is written here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from refsde._array import Array, Time
from refsde._bases import Basis
from refsde._boundary import named
from refsde._loop import quiet
from refsde._types import Noise, Process, Solver, State
from refsde.integrate import iterate, sample
from refsde.precondition import Diagonal, Identity, Preconditioner, Scalar, Stepwise
from refsde.process import with_score
from refsde.solvers.corrector import (
    AnnealedLangevin,
    Langevin,
    PredictorCorrector,
    langevin,
)
from refsde.targets.field import GaussianField
from refsde.times import Grid

__all__ = ["FieldLaw", "field_law"]

Corrector = Langevin | AnnealedLangevin
AFFINE = 1e-9  # how well a random superposition must match


@dataclass(frozen=True, eq=False)
class FieldLaw:
    r"""Law of a sampler's output on a Gaussian field: independent coefficients.

    Attributes
    ----------
    target : GaussianField
        The data law.
    variance : array, event shape
        Variance of every coefficient of the output over the full grid, in the basis of ``target``.
    mean : array, event shape
        Mean of every coefficient: complex in a Fourier basis.
    gain : array, event shape
        A, what becomes of a unit displacement of the start.
    nfe : int
        Evaluations of the score for one sample.
    mean_field : bool
        Whether norms of random vectors were replaced by their root mean square, as for the
        signal-to-noise rule of `Langevin`: exact in the limit of many coefficients.
    """

    target: GaussianField
    variance: np.ndarray = field(repr=False)
    mean: np.ndarray = field(repr=False)
    gain: np.ndarray = field(repr=False)
    nfe: int
    mean_field: bool

    def w2(self, reference: GaussianField | None = None) -> float:
        """Wasserstein-2 distance to ``reference``, the data law if None, in units of the data."""
        return math.sqrt(self.frechet(reference))

    def relative_w2(self, reference: GaussianField | None = None) -> float:
        """W2 over the root of the reference's total variance."""
        S, _ = self._of(reference)
        return self.w2(reference) / math.sqrt(float(np.sum(S)))

    def frechet(self, reference: GaussianField | None = None) -> float:
        """Squared Wasserstein-2 distance, which is the Fréchet distance of the two Gaussians."""
        S, mu = self._of(reference)
        gaps = np.abs(self.mean - mu)
        return float(np.sum((np.sqrt(self.variance) - np.sqrt(S)) ** 2 + gaps * gaps))

    def kl(self, reference: GaussianField | None = None) -> float:
        """Divergence KL(output, reference) in nats a coefficient."""
        S, mu = self._of(reference)
        gaps, ratio = np.abs(self.mean - mu), self.variance / S
        with np.errstate(divide="ignore"):
            return float(0.5 * np.mean(ratio - 1 - np.log(ratio) + gaps * gaps / S))

    def octaves(
        self, reference: GaussianField | None = None, *, about: Literal["own", "reference"] = "own"
    ) -> np.ndarray:
        """Mean variance ratio to ``reference`` in every octave 2^j <= |k| < 2^(j+1), low to high.

        ``about="reference"`` takes second moments about the reference's mean.
        """
        S, mu = self._of(reference)
        moment = self.variance
        if about == "reference":
            moment = moment + np.abs(self.mean - mu) ** 2
        return np.asarray(self._sums(moment / S) / self._sums(np.ones(S.shape)))

    def octave_z(self, x: np.ndarray) -> np.ndarray:
        """How far the octave powers of samples ``x`` (n, *event) are off, in standard errors.

        Powers are those of ``target.octaves(x)``, about the target's mean; if ``x`` are n
        independent draws of this law, each z has mean 0 and variance 1, and is nearly normal where
        an octave has many coefficients.
        """
        S, mu = self._of(None)
        v, d2 = self.variance / S, np.abs(self.mean - mu) ** 2 / S
        _, found = self.target.octaves(x)
        # a coefficient and its twin vary together, so that both count as real ones
        spread = np.sqrt(self._sums(2 * v * v + 4 * v * d2) / len(x))
        return np.asarray((found * self._sums(np.ones(S.shape)) - self._sums(v + d2)) / spread)

    def _sums(self, table: np.ndarray) -> np.ndarray:
        """Sums of a table over every octave, low to high."""
        index = np.broadcast_to(self.target.octave_index(), table.shape).reshape(-1) + 1
        count = self.target.octave_count + 1
        return np.bincount(index, table.reshape(-1), count)[1:count]

    def _of(self, reference: GaussianField | None) -> tuple[np.ndarray, np.ndarray]:
        law = self.target if reference is None else reference
        if law.basis != self.target.basis or law.event_shape != self.target.event_shape:
            raise ValueError(
                f"`reference` must be a field like {self.target!r}, of its basis and shape, got "
                f"{law!r}"
            )
        return law.spectrum, coefficients(law.basis, law.mean)


def field_law(
    process: Process,
    solver: Solver,
    grid: Grid,
    start: Any = "marginal",
    denoise: Literal["none", "tweedie", "last_mean"] = "none",
) -> FieldLaw:
    """Law of a run on a Gaussian field: see `refsde.exact.law`."""
    target: GaussianField = process.score.target  # type: ignore[attr-defined]
    begin = _Start.of(process, target, grid, start)
    kinds = _Kinds.of(process, target, begin)
    reduced = kinds.process(process, mean=1.0)
    carrier = _Carrier(solver, kinds, reduced, grid, denoise)
    x = np.stack([begin.variance.reshape(-1)[kinds.first], *begin.responses(kinds)])
    if carrier.keeps_memory():
        x = carrier.whole(x)
    else:
        *_, last = iterate(reduced, carrier, x, grid, _Answers(0))
        x = last.x
    if not np.all(np.isfinite(x)):
        raise ValueError(f"`solver` {named(solver)} leaves the finite numbers: it has no law")
    if denoise == "tweedie":
        x = carrier.denoised(x)
    variance, A, B = (row[kinds.index].reshape(target.event_shape) for row in x)
    mean = A * begin.mean + B * coefficients(target.basis, target.mean)
    return FieldLaw(target, variance, mean, A, carrier.nfe(), carrier.mean_field)


def coefficients(basis: Basis, image: np.ndarray) -> np.ndarray:
    """All coefficients of an event over the full grid: complex in a Fourier basis."""
    if basis.name == "fft":
        return np.asarray(np.fft.fftn(image, axes=basis.last, norm="ortho"))
    return np.asarray(basis.forward(np.array(image, dtype=float)))


# -- the start, and what coefficients have in common ----------------------------------------------


@dataclass(frozen=True)
class _Start:
    """Moments of the start's coefficients, full grid; the mean beside alpha times the data's."""

    variance: np.ndarray
    mean: np.ndarray
    of_data: float  # what multiple of the data's mean is added

    @classmethod
    def of(cls, process: Process, target: GaussianField, grid: Grid, start: Any) -> _Start:
        event, basis = target.event_shape, target.basis
        zero = np.zeros(event)
        if isinstance(start, str) and start == "marginal":
            t = grid.ts[0]
            alpha, sigma = process.sde.alpha(t), process.sde.sigma(t)
            return cls(alpha**2 * target.spectrum + sigma**2, zero, float(alpha))
        if isinstance(start, str) and start == "prior":
            std = np.full(event, process.sde.prior_std)
            M = getattr(process, "M", None)
            if M is not None and M.static and process.law == "pds":  # type: ignore[attr-defined]
                std = std * np.sqrt(np.broadcast_to(_spectrum(M), event))
            return cls(std * std, zero, 0.0)
        if not isinstance(start, tuple | list) or len(start) != 2:
            raise ValueError(
                f"`start` must be 'marginal', 'prior' or a pair (mean, variance), got {start!r}: "
                "of a field a mean image and variances of coefficients, or two numbers"
            )
        try:
            mean, variance = (np.broadcast_to(np.asarray(part, float), event) for part in start)
        except (TypeError, ValueError) as problem:
            raise ValueError(
                f"`start` must hold numbers or arrays of the event shape {event}"
            ) from problem
        if not np.all(variance >= 0) or not np.all(np.isfinite(mean)):
            raise ValueError("`start` must hold a finite mean and variances that are not negative")
        return cls(np.array(variance), coefficients(basis, mean), 0.0)

    def responses(self, kinds: _Kinds) -> tuple[np.ndarray, np.ndarray]:
        """What the mean is made of: of the start's own 1, of the data's mean the multiple."""
        ones = np.ones(len(kinds.first))
        return ones, self.of_data * ones


@dataclass(frozen=True)
class _Kinds:
    """The kinds of coefficients: with equal S, gain and start they behave alike."""

    index: np.ndarray  # (all coefficients,): which kind it is
    first: np.ndarray  # (kinds,): one of them
    counts: np.ndarray  # (kinds,): how many there are
    S: np.ndarray
    squares: tuple[np.ndarray, np.ndarray, np.ndarray]  # sums of |m|^2, Re(m* mu) and |mu|^2

    @classmethod
    def of(cls, process: Process, target: GaussianField, begin: _Start) -> _Kinds:
        S, M = target.spectrum.reshape(-1), getattr(process, "M", None)
        columns = [S, begin.variance.reshape(-1)]
        if getattr(process, "skew", None) is not None:
            raise ValueError(
                "`process` has a skew term, which turns phases or mixes coefficients: its law is "
                "computed on a GaussianMixture, target.to_mixture()"
            )
        if M is not None and M.static:
            columns.append(np.broadcast_to(_spectrum(M, target), target.event_shape).reshape(-1))
        if M is not None and not M.static and not hasattr(getattr(M, "rule", None), "on"):
            index = first = np.arange(S.size)  # a filter that we know nothing of
        else:
            index, first = _alike(columns)
        mu, m = coefficients(target.basis, target.mean).reshape(-1), begin.mean.reshape(-1)
        products = (np.abs(m) ** 2, (np.conj(m) * mu).real, np.abs(mu) ** 2)
        sums = [np.bincount(index, weights=product) for product in products]
        counts = np.bincount(index).astype(float)
        return cls(index, first, counts, S[first], (sums[0], sums[1], sums[2]))

    def process(self, process: Process, mean: float) -> Process:
        """Return the process on one coefficient of every kind, with that mean in each."""
        made = copy.copy(process)
        if getattr(process, "M", None) is not None:
            object.__setattr__(made, "M", self._map(process.M))  # type: ignore[attr-defined]
        return with_score(made, self.target(mean).score(process.sde))

    def target(self, mean: float) -> GaussianField:
        return GaussianField(self.S, mean, basis="pixel", axes=1)

    def _map(self, M: Preconditioner) -> Preconditioner:
        """Return the map on one coefficient of every kind."""
        if isinstance(M, Identity | Scalar):
            return M
        if not M.static:
            rule: Any = getattr(M, "rule", None)
            if hasattr(rule, "on"):
                return Stepwise(rule.on(self.first))
            return Stepwise(lambda t, s: self._map(M.at(t, s)))
        return Diagonal(np.sqrt(_spread(_spectrum(M), self.index)[self.first]))


def _spread(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A table of the last axes, or one number, for all coefficients."""
    return np.resize(table, index.size)


def _spectrum(M: Preconditioner, target: GaussianField | None = None) -> np.ndarray:
    """Eigenvalues of M M^T in the basis of the target, or a refusal."""
    spectrum = M.spectrum()
    if spectrum is None or (target is not None and M.basis not in (None, target.basis)):
        raise ValueError(
            f"`M` = {M!r} is not diagonal in the basis of the target, so that coefficients mix: "
            "for small events use target.to_mixture() and precondition.Dense"
        )
    if M.basis is None and spectrum.ndim:
        raise ValueError(
            f"`M` = {M!r} is a matrix, of which no basis is known: give it as Fourier, DCT or "
            "Diagonal, or use target.to_mixture()"
        )
    return spectrum


def _alike(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Which kind each entry is of, and the first of every kind: equal in all ``columns``."""
    index = np.zeros(columns[0].size, dtype=np.int64)
    first = np.zeros(1, dtype=np.int64)
    for column in columns:
        values, which = np.unique(column, return_inverse=True)
        _, first, index = np.unique(
            index * len(values) + which, return_index=True, return_inverse=True
        )
    return index, first


# -- carrying moments through the loop ------------------------------------------------------------


class _Answers:
    """A `Noise` that answers question q with 1 for row 1 + q, with normals for the last, else 0."""

    def __init__(self, questions: int, *, silent: bool = False) -> None:
        self.questions, self.silent = questions, silent
        self.asked: list[bool] = []  # whether it was for the path

    def on(self, rows: np.ndarray) -> _Answers:
        return self

    def _answer(self, x: Array, path: bool) -> np.ndarray:
        q = len(self.asked)
        self.asked.append(path)
        z = np.zeros(x.shape)
        if not self.silent:
            if q < self.questions:
                z[1 + q] = 1.0
            z[-1] = _trial(q)
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


class _Carrier:
    """A solver of rows (variance, A, B), one number a kind, that asks the given solver."""

    def __init__(
        self, solver: Any, kinds: _Kinds, process: Process, grid: Grid, denoise: str
    ) -> None:
        self.solver = solver.bind(process, grid.ts) if hasattr(solver, "bind") else solver
        self.kinds, self.process, self.grid = kinds, process, grid
        self.linear = kinds.target(0.0).score(process.sde)  # of the law with the mean zero
        self.drops = denoise == "last_mean"
        self.questions = 0
        self.mean_field = False

    def keeps_memory(self) -> bool:
        """Whether the solver carries something from step to step besides the samples."""
        x, (t, s) = np.ones((1, len(self.kinds.first))), self.grid.ts[:2]
        init = getattr(self.solver, "init", None)
        memory = () if init is None else init(self.process, x, t)
        begin = State(t, x, memory=memory)
        with quiet():  # where all scores vanish, a step size is 0 / 0
            state = self.solver(self.process.at(t, s), begin, s, _Answers(0, silent=True))
        return bool(memory or state.memory)

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``: every part of the solver in turn."""
        x, t = state.x, state.t
        last = self.drops and s == self.grid.ts[-1]
        for part, now, to in self._parts(t, s):
            for _ in range(part.steps if isinstance(part, Corrector) else 1):
                step = self._one(process, part, x, now, to)

                def run(
                    process: Process,
                    y: Array,
                    noise: Noise,
                    step: Any = step,
                    now: Any = now,
                    to: Any = to,
                ) -> Array:
                    return step(process, State(now, y), to, noise).x

                x = self._carried(process, run, x, last)
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
        self, process: Process, run: Callable[..., Array], x: np.ndarray, last: bool
    ) -> np.ndarray:
        """Moments after ``run(process, y, noise)``, a part of a step or all of them."""
        v, A, B = x
        linear, silent = with_score(process, self.linear), _Answers(0, silent=True)
        while True:
            rows = np.zeros((2 + self.questions, len(v)))
            rows[0], rows[-1] = 1.0, _trial(-1)
            answers = _Answers(self.questions)
            y = run(linear, rows, answers)
            if len(answers.asked) == self.questions:
                break
            self.questions = len(answers.asked)
        a, gains = y[0], y[1:-1]
        predicted = _trial(-1) * a
        for q, gain in enumerate(gains):
            predicted = predicted + _trial(q) * gain
        if not np.all(np.abs(predicted - y[-1]) <= AFFINE * (1 + np.abs(y).max(axis=0))):
            raise ValueError(
                f"`solver` {named(self.solver)} is not affine in every coefficient: it depends on "
                "norms of its samples or has a threshold; its law is no formula"
            )
        kept = [g for g, path in zip(gains, answers.asked, strict=True) if not (last and path)]
        v = a * a * v + sum((g * g for g in kept), np.zeros(len(v)))
        return np.stack([v, a * A, run(process, B[None], silent)[0]])

    def whole(self, x: np.ndarray) -> np.ndarray:
        """Moments after all steps at once, for solvers with memory: work as steps squared."""

        def run(process: Process, y: Array, noise: Noise) -> Array:
            *_, state = iterate(process, self.solver, y, self.grid, noise)
            return state.x

        if self.drops:
            raise ValueError(
                f"`denoise` = 'last_mean' is not there for {named(self.solver)}, which has memory: "
                "use 'none' or 'tweedie'"
            )
        return self._carried(self.process, run, x, False)

    def denoised(self, x: np.ndarray) -> np.ndarray:
        """Moments of the posterior means at the end."""
        t, (v, A, B) = self.grid.ts[-1], x
        gain = with_score(self.process, self.linear).denoise(np.ones((1, len(v))), t)[0]
        return np.stack([gain * gain * v, gain * A, self.process.denoise(B[None], t)[0]])

    def nfe(self) -> int:
        """Evaluations of one sample, counted on one number."""
        one = GaussianField(np.ones(1), basis="pixel", axes=1)
        process = copy.copy(self.process)
        if getattr(process, "M", None) is not None:
            object.__setattr__(process, "M", Identity())
        process = with_score(process, one.score(process.sde))
        x = np.ones((1, 1))
        return int(sample(process, self.solver, times=self.grid, x=x, rng=0).nfe[0])
