r"""Maps that are diagonal in a basis of images: filters, and pixel weights.

.. math:: M = B^{-1}\,\mathrm{diag}(R)\,B, \qquad M M^T = B^{-1}\,\mathrm{diag}(R^2)\,B

with B an orthonormal transform and R a table with one gain a coefficient of the full grid: one
transform forth and one back, for M as for M M^T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import Array, is_numpy, like, to_numpy
from refsde._bases import Basis
from refsde.precondition.operators import Preconditioner

__all__ = ["DCT", "Diagonal", "Fourier", "FourierSkew", "in_basis"]

EVEN = 1e-12  # relative difference of a filter at opposite frequencies


class _Spectral(Preconditioner):
    """What is diagonal in a basis, by its table of gains R."""

    name: ClassVar[Literal["fft", "dct", "pixel"]]
    basis: Basis

    def __init__(self, gain: ArrayLike, axes: int = 2, *, allow_singular: bool = False) -> None:
        R = _real_table("gain", gain)
        self.basis = _basis(self.name, axes, R)
        if np.any(R < 0):
            raise ValueError(f"`gain` must not be negative, got {R.min():.3g}: use its magnitude")
        if np.any(R == 0) and not allow_singular:
            raise ValueError(
                f"`gain` must be positive, got {int(np.sum(R == 0))} zeros: a singular map never "
                "reaches some events; add a floor, or pass allow_singular=True"
            )
        mirrored = self.basis.even(R)
        if np.any(np.abs(R - mirrored) > EVEN * R.max()):
            raise ValueError(
                "`gain` must be even, R(-k) = R(k), for real images to stay real, got a difference "
                f"of {np.abs(R - mirrored).max():.3g}: order frequencies as numpy.fft.fftfreq does "
                "(numpy.fft.ifftshift of a centred table)"
            )
        self.gain = 0.5 * (R + mirrored)
        self.gain.setflags(write=False)
        self.event_shape = R.shape
        self._tables: dict[tuple[int, str], np.ndarray] = {}

    @classmethod
    def from_spectrum(cls, spectrum: ArrayLike, axes: int = 2) -> Self:
        """Map whose M M^T has the eigenvalues ``spectrum``, a table over the full grid."""
        u = _real_table("spectrum", spectrum)
        if np.any(u < 0):
            raise ValueError(f"`spectrum` must not be negative, got {u.min():.3g}")
        return cls(np.sqrt(u), axes)

    def apply(self, z: Array) -> Array:
        """B^-1 (R (B z))."""
        return self._filtered(z, 1)

    apply_transpose = apply

    def gram(self, z: Array) -> Array:
        """B^-1 (R^2 (B z)): one transform forth and one back."""
        return self._filtered(z, 2)

    def solve(self, z: Array) -> Array:
        """B^-1 ((B z) / R)."""
        if not np.all(self.gain > 0):
            raise ValueError(f"`gain` of {self!r} has zeros, so that M^-1 does not exist")
        return self._filtered(z, -1)

    def _filtered(self, z: Array, power: int) -> Array:
        self._check(z)
        if self.basis.name == "pixel":
            return z * self._table(power, z)
        X = self.basis.forward(z)
        if is_numpy(X):
            X *= self._table(power, z)  # the transform's own fresh array
        else:
            X = X * self._table(power, z)
        return self.basis.backward(X, z.shape)

    def _table(self, power: int, z: Array) -> Any:
        key = (power, str(z.dtype))
        if is_numpy(z) and key in self._tables:
            return self._tables[key]
        table = like(self.basis.kept(self.gain**power), z)
        if is_numpy(z):
            self._tables[key] = table
        return table

    def inverse(self) -> Self:
        """Map with the gains 1 / R."""
        if not np.all(self.gain > 0):
            raise ValueError(f"`gain` of {self!r} has zeros, so that M^-1 does not exist")
        return type(self)(1 / self.gain, self.basis.axes)

    def sqrt(self) -> Self:
        """Map with the roots of the gains."""
        return type(self)(np.sqrt(self.gain), self.basis.axes, allow_singular=True)

    def logdet(self, event_shape: Sequence[int] | None = None) -> float:
        """Sum of log R over the full grid, and over all channels of ``event_shape``."""
        event = self._event(event_shape)
        with np.errstate(divide="ignore"):
            return float(np.sum(np.broadcast_to(np.log(self.gain), event)))

    def spectrum(self) -> np.ndarray:
        """R^2, a table over the full grid."""
        return np.asarray(self.gain * self.gain)

    def __repr__(self) -> str:
        low, high = self.gain.min(), self.gain.max()
        return f"{type(self).__name__}(gain {self.gain.shape}, {low:.4g} to {high:.4g})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}}


class Diagonal(_Spectral):
    """One factor a coordinate: a pixel filter on images, a diagonal matrix on vectors.

    Parameters
    ----------
    gain : array, event shape
        Factors, positive; also of the last axes of the events alone.
    axes : int
        Not needed; as for `Fourier`.
    allow_singular : bool
        Whether zeros are allowed.

    Raises
    ------
    ValueError
        If a factor is negative, zero or not finite.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> rs.precondition.Diagonal([1.0, 2.0]).gram(np.ones((1, 2)))
    array([[1., 4.]])
    """

    name = "pixel"


class Fourier(_Spectral):
    """A filter on Fourier modes: periodic, the same at every pixel.

    Parameters
    ----------
    gain : array (H, W) or (C, H, W)
        Gains R over the full grid, ordered as ``numpy.fft.fftfreq``: real, positive and even,
        R(-k) = R(k).  ``gain[0, 0]`` is the mean's: a centred table needs ``numpy.fft.ifftshift``,
        and can be told only where an edge is odd.  A table for the last axes alone serves all
        channels.
    axes : int
        How many of the last axes are transformed: 2 for images, 1 for signals.
    allow_singular : bool
        Whether zeros are allowed.

    Raises
    ------
    TypeError
        If ``gain`` is complex.
    ValueError
        If it is uneven, negative, zero or not finite.

    References
    ----------
    Ma et al. (2022), whose frequency filter it is.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> M = rs.precondition.Fourier(np.full((4, 5), 2.0))
    >>> np.round(M.apply(np.ones((1, 4, 5))), 12).max().item()
    2.0
    """

    name = "fft"


class DCT(_Spectral):
    """A filter on cosines (type 2): reflecting at the edges, no evenness to be kept.

    Parameters
    ----------
    gain : array (H, W) or (C, H, W)
        Gains R by index: real and positive; (0, 0) is the mean.
    axes : int
        How many of the last axes are transformed.
    allow_singular : bool
        Whether zeros are allowed.

    Raises
    ------
    TypeError
        If ``gain`` is complex.
    ValueError
        If it is negative, zero or not finite.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> M = rs.precondition.DCT(1 / (1 + np.arange(12.0).reshape(3, 4)))
    >>> np.round(M.apply(np.ones((1, 3, 4))), 12).max().item()
    1.0
    """

    name = "dct"


class FourierSkew(Preconditioner):
    r"""A skew map that turns the phase of every Fourier mode: K = F^-1 diag(i w) F.

    Parameters
    ----------
    w : array (H, W) or (C, H, W)
        Real and odd, w(-k) = -w(k).
    axes : int
        How many of the last axes are transformed.

    Raises
    ------
    ValueError
        If ``w`` is not odd.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> K = rs.precondition.FourierSkew(np.sin(2 * np.pi * np.arange(4) / 4), axes=1)
    >>> x = np.array([[1.0, 2.0, 5.0, 3.0]])
    >>> round(np.sum(x * K.apply(x)).item(), 12)  # a rotation: x^T K x = 0
    0.0
    """

    basis: Basis

    def __init__(self, w: ArrayLike, axes: int = 2) -> None:
        table = _real_table("w", w)
        self.basis = _basis("fft", axes, table)
        sum_of_twins = np.abs(table + self.basis.even(table)).max()
        if sum_of_twins > EVEN * np.abs(table).max(initial=0):
            raise ValueError(
                f"`w` must be odd, w(-k) = -w(k), got a sum of {sum_of_twins:.3g}: a real map "
                "turns opposite frequencies opposite ways"
            )
        self.w = table
        self.event_shape = table.shape

    def apply(self, z: Array) -> Array:
        """F^-1 (i w (F z))."""
        self._check(z)
        return self.basis.backward(
            self.basis.forward(z) * (1j * like(self.basis.kept(self.w), z)), z.shape
        )

    def apply_transpose(self, z: Array) -> Array:
        """Return -K z."""
        return -self.apply(z)

    def __repr__(self) -> str:
        return f"FourierSkew(w {self.w.shape}, up to {np.abs(self.w).max():.4g})"


_MAPS: dict[str, Callable[..., _Spectral]] = {"fft": Fourier, "dct": DCT, "pixel": Diagonal}


def in_basis(basis: Basis, gain: ArrayLike) -> _Spectral:
    """Filter with the gains ``gain`` in a basis: `Fourier`, `DCT` or `Diagonal`.

    Parameters
    ----------
    basis : Basis
        Of a `refsde.GaussianField`, or of another map.
    gain : array
        Gains over its full grid.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> field = rs.GaussianField.power_law(4, basis="dct")
    >>> rs.precondition.in_basis(field.basis, np.ones((4, 4)))
    DCT(gain (4, 4), 1 to 1)
    """
    return _MAPS[basis.name](gain, basis.axes)


def _real_table(name: str, values: ArrayLike) -> np.ndarray:
    if np.iscomplexobj(values):
        raise TypeError(
            f"`{name}` must be real, got complex numbers: a phase is no preconditioner, it goes "
            "into a FourierSkew"
        )
    try:
        table = np.array(to_numpy(values), dtype=float)
    except (TypeError, ValueError) as problem:
        raise TypeError(f"`{name}` must be an array of real numbers, got {values!r}") from problem
    if table.ndim == 0 or table.size == 0:
        raise ValueError(
            f"`{name}` must be a table over the event, got shape {table.shape}: for one number "
            "use Scalar"
        )
    if not np.all(np.isfinite(table)):
        raise ValueError(f"`{name}` must be finite, got {table[~np.isfinite(table)][0]}")
    return table


def _basis(name: Literal["fft", "dct", "pixel"], axes: int, table: np.ndarray) -> Basis:
    if name == "pixel":
        return Basis("pixel", min(2, table.ndim))
    if isinstance(axes, bool) or not isinstance(axes, int | np.integer) or axes < 1:
        raise ValueError(f"`axes` must be a positive int, got {axes!r}: 2 for images")
    if table.ndim < axes:
        raise ValueError(
            f"`axes` = {axes} axes are more than those of a table of shape {table.shape}: pass "
            f"axes={table.ndim}"
        )
    return Basis(name, int(axes))
