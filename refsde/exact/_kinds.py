"""What coefficients of a field have in common: those that behave alike are one kind."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsde._bases import Basis
from refsde._types import Process
from refsde.precondition import Diagonal, Identity, Preconditioner, Scalar, Stepwise
from refsde.process import with_score
from refsde.targets.field import GaussianField
from refsde.times import Grid

__all__ = ["Kinds", "Start", "coefficients"]


def coefficients(basis: Basis, image: np.ndarray) -> np.ndarray:
    """All coefficients of an event over the full grid: complex in a Fourier basis."""
    if basis.name == "fft":
        return np.asarray(np.fft.fftn(image, axes=basis.last, norm="ortho"))
    return np.asarray(basis.forward(np.array(image, dtype=float)))


@dataclass(frozen=True)
class Start:
    """Moments of the start's coefficients, full grid; the mean beside alpha times the data's."""

    variance: np.ndarray
    mean: np.ndarray
    of_data: float  # what multiple of the data's mean is added

    @classmethod
    def of(cls, process: Process, target: GaussianField, grid: Grid, start: Any) -> Start:
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

    def responses(self, kinds: Kinds) -> tuple[np.ndarray, np.ndarray]:
        """What the mean is made of: of the start's own 1, of the data's mean the multiple."""
        ones = np.ones(len(kinds.first))
        return ones, self.of_data * ones


@dataclass(frozen=True)
class Kinds:
    """The kinds of coefficients: with equal S, gain and start they behave alike."""

    index: np.ndarray  # (all coefficients,): which kind it is
    first: np.ndarray  # (kinds,): one of them
    counts: np.ndarray  # (kinds,): how many there are
    whole: GaussianField  # the target
    squares: tuple[np.ndarray, np.ndarray, np.ndarray]  # sums of |m|^2, Re(m* mu) and |mu|^2

    @classmethod
    def of(cls, process: Process, target: GaussianField, begin: Start) -> Kinds:
        S, M = target.spectrum.reshape(-1), getattr(process, "M", None)
        columns = [S, begin.variance.reshape(-1)]
        if getattr(process, "skew", None) is not None:
            raise ValueError(
                "`process` has a skew term, which turns phases or mixes coefficients: its law is "
                "computed on a GaussianMixture, target.to_mixture()"
            )
        if M is not None and M.static:
            columns.append(np.broadcast_to(_spectrum(M, target), target.event_shape).reshape(-1))
        if M is None or M.static:
            index, first = _alike(columns)
        elif (rule := _matched(M, target)) is not None:
            index, first = _alike([*columns, rule.S.reshape(-1)])
        else:
            index = first = np.arange(S.size)  # a filter that we know nothing of
        mu, m = coefficients(target.basis, target.mean).reshape(-1), begin.mean.reshape(-1)
        products = (np.abs(m) ** 2, (np.conj(m) * mu).real, np.abs(mu) ** 2)
        sums = [np.bincount(index, weights=product) for product in products]
        counts = np.bincount(index).astype(float)
        return cls(index, first, counts, target, (sums[0], sums[1], sums[2]))

    def process(self, process: Process, mean: float) -> Process:
        """Return the process on one coefficient of every kind, with that mean in each."""
        made = copy.copy(process)
        if getattr(process, "M", None) is not None:
            object.__setattr__(made, "M", self._map(process.M))  # type: ignore[attr-defined]
        return with_score(made, self.target(mean).score(process.sde))

    def target(self, mean: float) -> GaussianField:
        S = self.whole.spectrum.reshape(-1)[self.first]
        return GaussianField(S, mean, basis="pixel", axes=1)

    def _map(self, M: Preconditioner) -> Preconditioner:
        """Return the map on one coefficient of every kind."""
        if isinstance(M, Identity | Scalar):
            return M
        if not M.static:
            rule = _matched(M, self.whole)
            if rule is not None:
                return Stepwise(rule.on(self.first))
            return Stepwise(lambda t, s: self._map(M.at(t, s)))
        return Diagonal(np.sqrt(_spread(_spectrum(M, self.whole), self.index)[self.first]))


def _matched(M: Preconditioner, target: GaussianField) -> Any:
    """Return the rule of a filter that is matched, coefficient by coefficient, to such a target."""
    rule: Any = getattr(M, "rule", None)
    if not hasattr(rule, "on") or rule.axes != target.basis or rule.S.shape != target.event_shape:
        return None
    return rule


def _spread(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """A table of the last axes, or one number, for all coefficients."""
    return np.resize(table, index.size)


def _spectrum(M: Preconditioner, target: GaussianField | None = None) -> np.ndarray:
    """Eigenvalues of M M^T in the basis of the target, or a refusal."""
    spectrum = M.spectrum()
    if spectrum is None or (target is not None and M.basis not in (None, target.basis)):
        raise ValueError(
            f"`M` = {M!r} is not diagonal in the basis of the target, so that coefficients mix: "
            "for small events use target.to_mixture() and precondition.Dense.of(M)"
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
