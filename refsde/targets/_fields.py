r"""Mixtures of Gaussian fields that one basis diagonalises: one forward transform serves them all.

Component k has coefficients of mean M_k and independent variances S_k.  Diffused, x = a x_0 + s z,
they have means a M_k and variances v_k = a^2 S_k + s^2, so that with X the coefficients of x

.. math:: g_k = -\frac{X - a M_k}{v_k}, \qquad
          \log p_k = -\frac12 \sum \Bigl(\frac{|X - a M_k|^2}{v_k} + \log 2\pi v_k\Bigr), \qquad
          r = \mathrm{softmax}_k(\log w_k + \log p_k)

and the score's coefficients are sum_k r_k g_k.  Sums run over the full grid of frequencies.
`fields_formula` says so literally; `evaluate` is its NumPy form, to which the tests hold it equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from refsde._array import Array, like, namespace
from refsde._bases import Basis

__all__ = ["Fields", "evaluate", "fields_formula"]

BLOCK = 2**18  # numbers of a block of samples: its transforms stay in cache
_LOG_2PI = math.log(2 * math.pi)
EVERYTHING = frozenset({"score", "logpdf", "denoise", "divergence", "resp"})


@dataclass(frozen=True, eq=False)
class Fields:
    """A mixture of Gaussian fields, diagonal in one basis.

    Attributes
    ----------
    basis : Basis
        What diagonalises all of them.
    shape : tuple of int
        Of an event.
    log_w : array (K,)
        Log weights.
    means, spectra : lists of K arrays
        Means, and variances on the full grid: of ``shape``, or what broadcasts to it.
    """

    basis: Basis
    shape: tuple[int, ...]
    log_w: np.ndarray
    means: list[np.ndarray]
    spectra: list[np.ndarray]
    _casts: dict[np.dtype, Any] = field(default_factory=dict, repr=False)

    def at(self, a: float, s: float) -> Fields:
        """Law of a x_0 + s z."""
        spectra = [a * a * S + s * s for S in self.spectra]
        return Fields(self.basis, self.shape, self.log_w, [a * mu for mu in self.means], spectra)

    def component(self, k: int) -> Fields:
        """Component ``k`` alone."""
        return Fields(self.basis, self.shape, np.zeros(1), [self.means[k]], [self.spectra[k]])

    @cached_property
    def kept(self) -> list[np.ndarray]:
        """The spectra where the basis keeps coefficients."""
        return [self.basis.kept(S) for S in self.spectra]

    @cached_property
    def _agree(self) -> bool:
        return all(np.array_equal(mu, self.means[0]) for mu in self.means[1:])

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean of the mixture, as compact as the components' are."""
        if self._agree:
            return self.means[0]
        terms = [math.exp(w) * mu for w, mu in zip(self.log_w, self.means, strict=True)]
        return np.asarray(sum(terms[1:], terms[0]))

    @cached_property
    def shifts(self) -> list[np.ndarray] | None:
        """Coefficients of the means less the mixture's; None where the means agree."""
        if self._agree:
            return None
        gaps = [np.broadcast_to(mu - self.mean, self.shape) for mu in self.means]
        return [self.basis.forward(gap) for gap in gaps]

    def cast(self, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray] | None]:
        """Mean and shifts in the precision of ``x``."""
        if x.dtype not in self._casts:
            dtype = x.dtype if self.basis.real else np.result_type(x.dtype, np.complex64)
            shifts = self.shifts and [M.astype(dtype) for M in self.shifts]
            self._casts[x.dtype] = self.mean.astype(x.dtype, copy=False), shifts
        mean, shifts = self._casts[x.dtype]
        return mean, shifts

    def filtered(self, x: np.ndarray, factor: Callable[[Any], Any], k: int = 0) -> np.ndarray:
        """Return ``x`` with its coefficients times ``factor`` of the spectrum of component k."""
        X = self.basis.forward(x)
        return np.asarray(self.basis.backward(X * factor(self.kept[k]), self.shape))


# -- the fast path --------------------------------------------------------------------------------


def evaluate(
    law: Fields, x: np.ndarray, a: Any, s: Any, want: frozenset[str], u: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Evaluate what is wanted of the law of a x_0 + s z at the points ``x`` (B, *event).

    ``a`` and ``s`` are floats, or arrays (B, 1, ..., 1); ``u`` holds the directions of "jvp".  A
    sample's results have the same bits in any batch: transforms and sums go sample by sample.
    """
    x = np.ascontiguousarray(x)  # sums round differently along another memory order
    size = max(1, BLOCK // (math.prod(law.shape) * len(law.log_w)))
    shared = _Level(law, a, s, x.dtype) if isinstance(a, float) else None
    parts = []
    for i in range(0, max(1, len(x)), size):
        rows = slice(i, i + size)
        at = shared or _Level(law, np.asarray(a, float)[rows], np.asarray(s, float)[rows], x.dtype)
        parts.append(_block(law, at, x[rows], want, None if u is None else u[rows]))
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in want}


class _Level:
    """Tables of one noise level, or of one a sample: made in double precision, then rounded."""

    def __init__(self, law: Fields, a: Any, s: Any, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.signal = a if isinstance(a, float) else a.astype(dtype)
        self.a, self.v = a, [a * a * S + s * s for S in law.kept]
        counts = law.basis.counts(law.shape)
        self._counts, self._events = counts, len(law.shape)
        # A table may stand for all channels; sums over the grid then count it once for each.
        self._copies = [math.prod(law.shape) // S.size for S in law.spectra]

    def pull(self, k: int) -> np.ndarray:
        """Multiply coefficients of a gap to get those of a component's score."""
        return np.asarray(-1 / self.v[k], self.dtype)

    def spread(self, law: Fields, k: int) -> np.ndarray:
        """Multiply coefficients of a component's score to get its denoised gap."""
        return np.asarray(-self.a * law.kept[k], self.dtype)

    def total(self, terms: np.ndarray) -> np.ndarray:
        """Sums over events of terms on the kept grid, with twins, in double precision."""
        # Rows first, in the terms' own precision: a casting sum would round by place in the batch.
        rows = np.asarray(np.sum(terms * self._counts.astype(terms.dtype), axis=-1), dtype=float)
        before = terms.shape[: terms.ndim - self._events]
        return np.asarray(rows.reshape(*before, math.prod(rows.shape[len(before) :])).sum(axis=-1))

    def inverse(self, k: int) -> np.ndarray:
        """Trace of the inverse covariance of component k."""
        return np.asarray(self._copies[k] * self.total(1 / self.v[k]))

    def energy(self, D: np.ndarray, k: int) -> np.ndarray:
        """Minus twice the log-density of component k, from gaps ``D``: (B,)."""
        logs = self._copies[k] * self.total(np.log(self.v[k]) + _LOG_2PI)
        return np.asarray(self.total(_dots(D, D) * np.asarray(1 / self.v[k], self.dtype)) + logs)


def _block(
    law: Fields, at: _Level, x: np.ndarray, want: frozenset[str], u: np.ndarray | None
) -> dict[str, np.ndarray]:
    mean, shifts = law.cast(x)
    X = law.basis.forward(x - mean * at.signal)
    K = len(law.log_w)
    pulls, logits, r = [], np.zeros((len(x), K)), [1.0] * K
    for k in range(K):
        D = X if shifts is None else X - at.signal * shifts[k]
        if K > 1 or "logpdf" in want:
            logits[:, k] = law.log_w[k] - 0.5 * at.energy(D, k)
        pulls.append(np.multiply(D, at.pull(k), out=D if K == 1 or shifts else None))
    top = np.max(logits, axis=1, keepdims=True)
    weights = np.exp(logits - top)
    total = np.sum(weights, axis=1, keepdims=True)
    weights /= total
    if K > 1:
        cast = weights.astype(x.dtype).reshape(len(x), K, *[1] * len(law.shape))
        r = [cast[:, k] for k in range(K)]

    out = {}
    if "resp" in want:
        out["resp"] = weights.astype(x.dtype)
    if "logpdf" in want:
        out["logpdf"] = (top + np.log(total))[:, 0].astype(x.dtype)
    if "denoise" in want:
        gaps = [g * at.spread(law, k) for k, g in enumerate(pulls)]
        if shifts is not None:
            gaps = [gap + M for gap, M in zip(gaps, shifts, strict=True)]
        out["denoise"] = mean + law.basis.backward(_mixed(r, gaps), law.shape)
    if not want & {"score", "divergence", "jvp"}:
        return out
    score = _mixed(r, pulls)
    if "divergence" in want:
        # The components' scores about their mean: squares less a square would cancel.
        terms = [-at.inverse(k) for k in range(K)]
        if K > 1:
            gaps = [g - score for g in pulls]
            terms = [c + at.total(_dots(g, g)) for c, g in zip(terms, gaps, strict=True)]
        sums = sum(weights[:, k] * term for k, term in enumerate(terms))
        out["divergence"] = np.asarray(sums).astype(x.dtype)
    if "jvp" in want:
        U = law.basis.forward(np.ascontiguousarray(u, x.dtype))
        bent = [U * at.pull(k) for k in range(K)]
        if K > 1:
            for b, g in zip(bent, pulls, strict=True):
                along = at.total(_dots(g - score, U)).astype(x.dtype)
                b += g * along.reshape(len(x), *[1] * len(law.shape))
        out["jvp"] = law.basis.backward(_mixed(r, bent), law.shape)
    if "score" in want:  # last: the transform back spends the coefficients
        out["score"] = law.basis.backward(score, law.shape)
    return out


def _mixed(r: list[Any], arrays: list[np.ndarray]) -> np.ndarray:
    """Weighted sum over components; one alone is itself."""
    if len(arrays) == 1:
        return arrays[0]
    terms = [w * A for w, A in zip(r, arrays, strict=True)]
    return np.asarray(sum(terms[1:], terms[0]))


def _dots(A: Array, B: Array) -> Array:
    """Real part of conj(A) B, elementwise, in any array library."""
    xp = namespace(A)
    if "complex" not in str(A.dtype):
        return A * B
    return xp.real(A) * xp.real(B) + xp.imag(A) * xp.imag(B)


# -- the definition -------------------------------------------------------------------------------


def fields_formula(
    law: Fields, x: Array, a: Any, s: Any, want: frozenset[str] = EVERYTHING, u: Array | None = None
) -> dict[str, Array]:
    """Everything about diffused fields, component by component, as one reads it.

    Runs on any array library, in the precision of ``x``.
    """
    xp, basis = namespace(x), law.basis
    axes = tuple(range(-len(law.shape), 0))
    counts = like(basis.counts(law.shape), x)

    def total(terms: Array) -> Array:
        return xp.sum(terms * counts, axis=axes)

    def back(X: Array) -> Array:
        return basis.backward(X, law.shape)

    def stretched(values: Array) -> Array:  # (B,) against events
        return xp.reshape(values, (-1, *[1] * len(law.shape)))

    logits, g, denoised, bends = [], [], [], []
    for log_w, mu, S in zip(law.log_w, law.means, law.spectra, strict=True):
        mu = like(np.broadcast_to(mu, law.shape).copy(), x)
        S = like(basis.kept(np.broadcast_to(S, law.shape).copy()), x)
        X, v = basis.forward(x - a * mu), a * a * S + s * s
        energy = total(_dots(X, X) / v) + total(xp.log(2 * math.pi * v))
        logits.append(xp.reshape(float(log_w) - 0.5 * energy, (-1, 1)))
        g.append(-back(X / v))
        denoised.append(mu + back(X * (a * S / v)))
        bends.append((-total(1 / v), None if u is None else -back(basis.forward(u) / v)))
    logits = xp.concat(logits, axis=1)
    top = getattr(xp, "amax", xp.max)(logits, axis=1, keepdims=True)
    r = xp.exp(logits - top)
    sums = xp.sum(r, axis=1, keepdims=True)
    r = r / sums
    K = range(len(g))
    score = sum(stretched(r[:, k]) * g[k] for k in K)
    out = {
        "resp": r,
        "logpdf": (top + xp.log(sums))[:, 0],
        "score": score,
        "denoise": sum(stretched(r[:, k]) * denoised[k] for k in K),
        "divergence": sum(
            r[:, k] * (bends[k][0] + xp.sum((g[k] - score) ** 2, axis=axes)) for k in K
        ),
    }
    if u is not None:
        along = [stretched(xp.sum((g[k] - score) * u, axis=axes)) for k in K]
        out["jvp"] = sum(stretched(r[:, k]) * (g[k] * along[k] + bends[k][1]) for k in K)
    return {name: out[name] for name in want | ({"jvp"} & out.keys())}
