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

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from refsde._boundary import named
from refsde._types import Process, Solver
from refsde.exact._carrier import Answers, Carrier
from refsde.exact._kinds import Kinds, Start, coefficients
from refsde.integrate import iterate
from refsde.targets.field import GaussianField
from refsde.times import Grid

__all__ = ["FieldLaw", "field_law"]


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
        if not np.all(S > 0):
            raise ValueError("`reference` has coefficients without variance: KL is not finite")
        gaps, ratio = np.abs(self.mean - mu), self.variance / S
        with np.errstate(divide="ignore"):
            return float(0.5 * np.mean(ratio - 1 - np.log(ratio) + gaps * gaps / S))

    def octaves(
        self, reference: GaussianField | None = None, *, about: Literal["own", "reference"] = "own"
    ) -> np.ndarray:
        """Mean variance ratio to ``reference`` in every octave 2^j <= |k| < 2^(j+1), low to high.

        ``about="reference"`` takes second moments about the reference's mean.
        """
        if about not in ("own", "reference"):
            raise ValueError(f"`about` must be 'own' or 'reference', got {about!r}")
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
        if not isinstance(law, GaussianField):
            raise TypeError(f"`reference` must be a GaussianField, got {law!r}: pass a component")
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
    begin = Start.of(process, target, grid, start)
    kinds = Kinds.of(process, target, begin)
    reduced = kinds.process(process, mean=1.0)
    carrier = Carrier(solver, kinds, reduced, grid, denoise)
    x = np.stack([begin.variance.reshape(-1)[kinds.first], *begin.responses(kinds)])
    if carrier.keeps_memory():
        x = carrier.whole(x)
    else:
        for state in iterate(reduced, carrier, x, grid, Answers(0)):
            x = state.x  # a list of all of them would take up much memory
    if not np.all(np.isfinite(x)):
        raise ValueError(f"`solver` {named(solver)} leaves the finite numbers: it has no law")
    if denoise == "tweedie":
        x = carrier.denoised(x)
    variance, A, B = (row[kinds.index].reshape(target.event_shape) for row in x)
    mean = A * begin.mean + B * coefficients(target.basis, target.mean)
    nfe = carrier.nfe(denoise)
    return FieldLaw(target, variance, mean, A, nfe, carrier.mean_field)
