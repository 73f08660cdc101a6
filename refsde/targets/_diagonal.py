"""What one Gaussian field and a mixture of them share, and what a caller gives to make them."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import Array, is_numpy, per_sample, to_numpy
from refsde._bases import Basis
from refsde._random import START, KeyedNormals, block_rows, run_key
from refsde._types import SDE
from refsde.sde import check_time
from refsde.targets._fields import Fields, evaluate, fields_formula
from refsde.targets._given import finite
from refsde.targets._score import TargetScore, check_points
from refsde.targets.mixture import GaussianMixture

__all__ = ["Diagonal", "basis_of", "compact", "given", "mean_of", "shape_of"]

DENSEST = 4096  # dimensions whose covariance matrix is still worth making


class Diagonal:
    """What one field and a mixture of them share: everything, but how they are made."""

    uses_blas = False  # so that `TargetScore` leaves float32 alone
    _law: Fields

    @classmethod
    def _of(cls, law: Fields) -> Self:
        made = cls.__new__(cls)
        made._law = law
        return made

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one sample, such as (C, H, W)."""
        return self._law.shape

    @property
    def dim(self) -> int:
        """Dimension d: how many numbers a sample has."""
        return math.prod(self._law.shape)

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return len(self._law.log_w)

    @property
    def basis(self) -> Basis:
        """Basis in which coefficients are independent."""
        return self._law.basis

    @property
    def mean(self) -> np.ndarray:
        """Mean of the law (*event)."""
        return np.broadcast_to(self._law.mean, self._law.shape).copy()

    @property
    def smallest_variance(self) -> float:
        """The least variance of a coefficient in a component."""
        return float(min(np.min(S) for S in self._law.spectra))

    def score(self, sde: SDE) -> TargetScore:
        """Exact score of this law diffused by ``sde``: call it as ``score(x, t)``."""
        return TargetScore(self, sde)

    def at(self, sde: SDE, t: float) -> Self:
        """Law p_t of alpha(t) x_0 + sigma(t) z, of the same kind; ``t`` is a float in [0, T]."""
        if per_sample(t):
            raise TypeError(f"`t` must be one float, got {t!r}: a law belongs to one time")
        check_time("t", t, sde)
        return self._of(self._law.at(float(sde.alpha(float(t))), float(sde.sigma(float(t)))))

    def logpdf(self, x: Array) -> Array:
        """Log-density (B,) in nats at ``x`` (B, *event)."""
        return self._now(x, "logpdf")

    def responsibilities(self, x: Array) -> Array:
        """Probability (B, K) of each component given ``x`` (B, *event)."""
        return self._now(x, "resp")

    def _now(self, x: Array, want: str) -> Array:
        check_points("x", x, self.event_shape)
        return self._evaluate(x, 1.0, 0.0, frozenset((want,)))[want]

    def sample(self, n: int, *, rng: int | np.random.Generator | None = None) -> np.ndarray:
        """``n`` exact draws (n, *event); draw i depends on (rng, i) alone."""
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise ValueError(f"`n` must be a non-negative int, got {n!r}")
        law, draws = self._law, KeyedNormals(run_key(rng))
        edges = np.cumsum(np.exp(law.log_w))
        out = np.empty((n, *law.shape))
        size = block_rows(self.dim)  # as the noise is drawn: a million pixels make one sample
        for i in range(0, n, size):
            rows = np.arange(i, min(i + size, n))
            uniform = draws.uniform(rows, (1,), START - 1)[:, 0] if len(edges) > 1 else 0 * rows
            k = np.searchsorted(edges[:-1] / edges[-1], uniform, side="right")
            z = draws.normal(rows, law.shape, START - 2)
            for j in np.unique(k):
                here = k == j
                out[rows[here]] = law.filtered(z[here], np.sqrt, j) + law.means[j]
        return out

    def to_mixture(self) -> GaussianMixture:
        """Return the same law of flattened events (d,), with covariance matrices: d <= 4096.

        Raises
        ------
        ValueError
            If a matrix would be larger.
        """
        law, d = self._law, self.dim
        if d > DENSEST:
            raise ValueError(
                f"`to_mixture` makes matrices d x d, and d = {d} is above {DENSEST}: use a smaller "
                "event_shape, or the field itself"
            )
        unit = np.eye(d).reshape(d, *law.shape)
        covs = [law.filtered(unit, lambda S: S, k).reshape(d, d) for k in range(len(law.means))]
        means = [np.broadcast_to(mu, law.shape).ravel() for mu in law.means]
        return GaussianMixture(None, means, [(C + C.T) / 2 for C in covs], log_weights=law.log_w)

    def _evaluate(
        self, x: Array, a: Any, s: Any, want: frozenset[str], u: Array | None = None
    ) -> dict[str, Array]:
        noiseless = np.any(to_numpy(s) == 0) if per_sample(s) else s == 0
        if noiseless and any(np.any(S == 0) for S in self._law.spectra):
            raise ValueError(
                "a spectrum with zeros has no density at sigma = 0: use t > 0, or target.at(sde, t)"
            )
        if is_numpy(x):
            return evaluate(self._law, x, a, s, want, u)
        return fields_formula(self._law, x, a, s, want, u)


# -- what a caller gives --------------------------------------------------------------------------


def basis_of(name: Any, axes: Any, shape: tuple[int, ...]) -> Basis:
    if name not in ("fft", "dct", "pixel"):
        raise ValueError(f"`basis` must be 'fft', 'dct' or 'pixel', got {name!r}")
    if isinstance(axes, bool) or not isinstance(axes, int) or axes < 1:
        raise ValueError(f"`axes` must be a positive int, got {axes!r}: 2 for images")
    if len(shape) < axes or 0 in shape:
        raise ValueError(
            f"`spectrum` must have shape (H, W) or (C, H, W) (at least `axes` = {axes} axes, none "
            f"empty), got {shape}: one variance a coefficient"
        )
    return Basis(name, axes)


def shape_of(shape: Any) -> tuple[int, ...]:
    """``shape`` as an event's: an int is a square's edge."""
    given = (shape, shape) if isinstance(shape, int | np.integer) else shape
    whole = isinstance(given, tuple | list) and all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0 for n in given
    )
    if not whole or len(given) < 2:
        raise ValueError(
            f"`shape` must be a positive int n, (H, W) or (C, H, W), got {shape!r}: 64 means "
            "(64, 64)"
        )
    return tuple(int(n) for n in given)


def given(name: str, values: ArrayLike) -> np.ndarray:
    """Finite real numbers; NumPy would drop an imaginary part with no more than a warning."""
    if np.iscomplexobj(values):
        raise TypeError(f"`{name}` must be real, got complex numbers: a power is abs(X)**2")
    return finite(name, values)


def mean_of(mean: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """A copy of the mean, as small as it was given."""
    mu = given("mean", mean)
    if len(mu.shape) > len(shape) or any(
        n not in (1, m) for n, m in zip(mu.shape[::-1], shape[::-1], strict=False)
    ):
        raise ValueError(
            f"`mean` must be a number or broadcast to the event shape {shape}, got shape "
            f"{mu.shape}: one number a channel is mean[:, None, None]"
        )
    return mu.copy()


def compact(S: np.ndarray, axes: int) -> np.ndarray:
    """One spectrum for all channels, where they are equal: tables are then as much smaller."""
    for axis in range(S.ndim - axes):
        first = S.take([0], axis)
        if np.all(S == first):
            S = first
    return S
