r"""Gaussian random fields: laws of whole images, with as many pixels as one likes.

The coefficients of such a field in an orthonormal basis (Fourier, cosine, pixels) are independent,
with variances S_k, the *spectrum*.  Diffusion keeps them so,

.. math:: x_t = \alpha x_0 + \sigma z \quad\Longrightarrow\quad
          \mathrm{Var}(X_k) = \alpha^2 S_k + \sigma^2, \qquad
          \nabla \log p_t(x) = -F^{-1}\,\frac{F(x - \alpha\mu)}{\alpha^2 S + \sigma^2},

so an exact score costs two fast transforms, where a covariance matrix of a million pixels would not
even fit into memory.  The condition number max S / min S of natural images grows as their area.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from refsde._bases import images_of
from refsde.targets._diagonal import Diagonal, basis_of, compact, given, mean_of, shape_of
from refsde.targets._fields import Fields
from refsde.targets._given import log_weights_of
from refsde.targets._score import check_points

__all__ = ["FieldMixture", "GaussianField"]

BasisName = Literal["fft", "dct", "pixel"]


class GaussianField(Diagonal):
    r"""Gaussian law of images whose coefficients in a basis are independent.

    Parameters
    ----------
    spectrum : array (*event)
        Variance S_k of every coefficient of the *full* grid, in squared units of the data, not
        negative.  For "fft" in the order of `numpy.fft.fftfreq` along each axis, the mean's first
        (a centred table needs `numpy.fft.ifftshift`, and can be told only where an edge is odd),
        and the same at k and -k (images are real).  The transforms are orthonormal: white noise of
        variance s^2 has the spectrum s^2.
    mean : float or array that broadcasts to (*event)
        Mean, in units of the data.
    basis : {"fft", "dct", "pixel"}
        Fourier (periodic), cosine (reflected at the edges) or no transform.
    axes : int
        How many of the last axes are transformed: 2 for images (H, W) and (C, H, W).

    Attributes
    ----------
    spectrum, mean : arrays (*event)
    event_shape : tuple of int
    dim, n_components : int
        d, the numbers of an event; K = 1.
    basis : Basis
    std : float
        Root mean square of the pixels' standard deviations.

    Raises
    ------
    ValueError
        If a number is not finite, a variance is negative, a Fourier spectrum is uneven, or shapes
        disagree.

    References
    ----------
    Song et al. (2020), eq. 5, for the perturbed law; that a stationary Gaussian law is diagonal in
    Fourier space is the theorem of Wiener and Khinchin.

    Examples
    --------
    >>> import refsde as rs
    >>> field = rs.GaussianField.power_law(32)
    >>> field.sample(2, rng=0).shape, round(float(field.spectrum.max() / field.spectrum.min()))
    ((2, 32, 32), 512)
    """

    def __init__(
        self,
        spectrum: ArrayLike,
        mean: ArrayLike = 0.0,
        *,
        basis: BasisName = "fft",
        axes: int = 2,
    ) -> None:
        S = given("spectrum", spectrum)
        shape = S.shape
        made = basis_of(basis, axes, shape)
        if np.any(S < 0):
            raise ValueError(
                f"`spectrum` must hold non-negative variances, got {S.min()}: a variance is a "
                "squared modulus"
            )
        S = compact(S, axes)
        opposite = made.even(S)
        skew = np.abs(S - opposite)
        if np.any(skew > 1e-10 * np.maximum(S, opposite)):
            worst = np.unravel_index(np.argmax(skew), S.shape)
            raise ValueError(
                f"`spectrum` must be even, S[k] = S[-k], got {S[worst]} and {opposite[worst]} at "
                f"the index {tuple(map(int, worst))} and its opposite: give the full grid in the "
                "order of numpy.fft.fftfreq, or average S with its reflection"
            )
        # A copy, exactly even: transforms of real images would drop the odd part, but only partly.
        self._law = Fields(made, shape, np.zeros(1), [mean_of(mean, shape)], [(S + opposite) / 2])

    # -- how to make one -------------------------------------------------------------------------

    @classmethod
    def power_law(
        cls,
        shape: int | Sequence[int],
        exponent: float = 2.0,
        *,
        std: float = 0.25,
        mean: float = 0.5,
        basis: BasisName = "fft",
    ) -> Self:
        r"""Field with the spectrum c / max(|k|, 1)^exponent, the same in every channel.

        Parameters
        ----------
        shape : int or tuple of int
            Edge n of one square image (n, n), or (H, W), or (C, H, W): C independent channels.
        exponent : float
            Decay of the power; 2 is the rule of thumb for photographs.
        std : float
            Root mean square of the pixels' standard deviations, which sets c.
        mean : float
            Mean of every pixel.
        basis : {"fft", "dct", "pixel"}
            As in `GaussianField`; |k| counts cycles (half cycles for "dct") a longest edge.

        Examples
        --------
        >>> import refsde as rs
        >>> rs.GaussianField.power_law((3, 64, 64), basis="dct")
        GaussianField((3, 64, 64), basis='dct', std=0.25)
        """
        event = shape_of(shape)
        for name, value in (("exponent", exponent), ("std", std)):
            if not (isinstance(value, int | float) and math.isfinite(value)) or value < 0:
                raise ValueError(f"`{name}` must be a finite non-negative number, got {value!r}")
        radius = basis_of(basis, 2, event).frequency(event)
        S = np.maximum(radius, 1.0) ** -float(exponent)
        S *= std**2 / np.mean(S)
        return cls(np.broadcast_to(S, event), mean, basis=basis)

    @classmethod
    def fit(cls, images: ArrayLike, *, basis: BasisName = "dct", smooth: bool = True) -> Self:
        r"""Field with the mean and the mean periodogram of ``images``.

        Parameters
        ----------
        images : array (N, H, W) or (N, C, H, W)
            Samples; their mean, one number, becomes that of every pixel.
        basis : {"fft", "dct", "pixel"}
            As in `GaussianField`.  The default does not take opposite edges for neighbours.
        smooth : bool
            Whether to average the power over rings of equal |k|, rounded to an integer: what
            makes few images enough.  The constant keeps its own power, but at least that of ring 1
            (it has none if there is only one image).

        Examples
        --------
        >>> import refsde as rs
        >>> images = rs.targets.patches(16, 500, rng=0).reshape(-1, 16, 16)
        >>> rs.GaussianField.fit(images).event_shape
        (16, 16)
        """
        x = given("images", images_of("images", images))
        shape, mean = x.shape[1:], float(np.mean(x))
        made = basis_of(basis, 2, shape)
        power = np.zeros(shape)
        for image in x:  # the full grid is needed here, of one image at a time
            full = np.fft.fftn(image - mean, axes=(-2, -1), norm="ortho")
            power += np.abs(full if basis == "fft" else made.forward(image - mean)) ** 2
        power /= len(x)
        if smooth:
            power = _ring_means(power, np.rint(made.frequency(shape)).astype(int))
        if basis == "fft":
            power = (power + made.even(power)) / 2
        return cls(power, mean, basis=basis)

    # -- what it is ------------------------------------------------------------------------------

    @property
    def spectrum(self) -> np.ndarray:
        """Variances (*event) of the coefficients, on the full grid."""
        return np.broadcast_to(self._law.spectra[0], self._law.shape).copy()

    @property
    def std(self) -> float:
        """Root mean square of the pixels' standard deviations."""
        return math.sqrt(np.mean(self._law.spectra[0]))

    def octave_index(self) -> np.ndarray:
        r"""Octave j of every coefficient (*grid): 2^j <= |k| < 2^(j+1), and -1 for the constant.

        Examples
        --------
        >>> import refsde as rs
        >>> rs.GaussianField.power_law((1, 8)).octave_index()
        array([[-1,  0,  1,  1,  2,  1,  1,  0]])
        """
        if self.basis.name == "pixel":
            raise ValueError("`octave_index`: pixels have no frequency: use basis 'fft' or 'dct'")
        radius = self.basis.frequency(self.event_shape)
        # The mantissa and exponent are exact, where a logarithm would round at the edges.
        return np.asarray(np.where(radius > 0, np.frexp(radius)[1] - 1, -1).astype(int))

    @property
    def octave_count(self) -> int:
        """How many octaves there are along an axis; beyond them only corners of the grid."""
        octave = self.octave_index()
        highest = max(octave.shape) / (1 if self.basis.real else 2)
        return max(0, min(math.frexp(highest)[1], int(octave.max()) + 1))

    def octaves(self, x: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        r"""Power of samples relative to this law's, octave by octave: 1 where they agree.

        Parameters
        ----------
        x : array (B, *event)
            Samples.

        Returns
        -------
        edges : array (J + 1,)
            Powers of two, from 1; octave j holds the frequencies edges[j] <= |k| < edges[j + 1].
            The last octave begins at or below n/2 ("fft") or n ("dct"), with n the longest edge.
        ratios : array (J,)
            Mean over samples, channels and frequencies of the octave of |X_k - M_k|^2 / S_k, with
            M the coefficients of the mean.  Draws of this law give 1 with a standard error of about
            sqrt(2 / (B m)) from m real degrees of freedom.

        Raises
        ------
        ValueError
            If shapes disagree, the basis is "pixel", or a variance is zero.

        Examples
        --------
        >>> import refsde as rs
        >>> field = rs.GaussianField.power_law(16)
        >>> field.octaves(field.sample(2000, rng=0))[1].round(1)
        array([1., 1., 1., 1.])
        """
        octave = self.octave_index()
        x = np.asarray(x)
        check_points("x", x, self.event_shape)
        law = self._law
        if np.any(law.spectra[0] == 0):
            raise ValueError("`octaves`: `spectrum` has zeros, which no power is relative to")
        X = (self.basis.forward(sample - law.mean) for sample in x.astype(float))
        ratio = sum(np.abs(coefficients) ** 2 for coefficients in X) / (len(x) * law.kept[0])
        twins = np.broadcast_to(self.basis.counts(law.shape), ratio.shape).ravel()
        index = np.broadcast_to(self.basis.kept(octave), ratio.shape).ravel() + 1
        J = self.octave_count
        sums, counts = (np.bincount(index, w, J + 1) for w in (twins * ratio.ravel(), twins))
        return 2.0 ** np.arange(J + 1), sums[1 : J + 1] / counts[1 : J + 1]

    def __repr__(self) -> str:
        return f"GaussianField({self.event_shape}, basis={self.basis.name!r}, std={self.std:.4g})"

    def _repr_latex_(self) -> str:
        shape = r" \times ".join(map(str, self.event_shape))
        return (
            rf"$\mathcal{{N}}\bigl(\mu, F^{{-1}} \mathrm{{diag}}(S)\, F\bigr),"
            rf"\quad x\in\mathbb{{R}}^{{{shape}}}$"
        )


class FieldMixture(Diagonal):
    r"""Mixture sum_k w_k N(mu_k, S_k) of Gaussian fields that share a basis: laws with modes.

    Parameters
    ----------
    weights : array (K,)
        Non-negative, sum 1 (renormalised within 1e-6).
    fields : sequence of K GaussianField
        Components, with the same basis and ``event_shape``.

    Attributes
    ----------
    weights, log_weights : arrays (K,)
    fields : tuple of K GaussianField
    mean : array (*event)
    event_shape : tuple of int
    dim, n_components : int
        d, the numbers of an event; K.
    basis : Basis

    Raises
    ------
    TypeError, ValueError
        If a component is no GaussianField, components differ in basis or shape, or weights are
        negative or do not sum to 1.

    Notes
    -----
    A score costs one transform there and one back whatever K: components are combined as
    coefficients.

    References
    ----------
    Song et al. (2020), section 2; the closure under diffusion is elementary.

    Examples
    --------
    >>> import refsde as rs
    >>> dark, light = (rs.GaussianField.power_law(16, std=0.1, mean=m) for m in (-0.5, 0.5))
    >>> rs.FieldMixture([0.3, 0.7], [dark, light]).score(rs.VP()).target
    FieldMixture(K=2, (16, 16), basis='fft')
    """

    def __init__(self, weights: ArrayLike, fields: Sequence[GaussianField]) -> None:
        if isinstance(fields, GaussianField):
            raise TypeError("`fields` must be a list of GaussianField, got one: write [field]")
        fields = tuple(fields)
        if not fields:
            raise ValueError("`fields` must hold at least one GaussianField, got none")
        for i, other in enumerate(fields):
            if not isinstance(other, GaussianField):
                raise TypeError(
                    f"`fields` must hold GaussianField objects, got {type(other).__name__} at {i}: "
                    "make one of a spectrum"
                )
            if (other.basis, other.event_shape) != (fields[0].basis, fields[0].event_shape):
                raise ValueError(
                    f"`fields` must share basis and event_shape, got {fields[0]!r} and {other!r}: "
                    "components are combined coefficient by coefficient"
                )
        if np.shape(weights) != (len(fields),):
            raise ValueError(
                f"`weights` must have shape ({len(fields)},), one a field, got {np.shape(weights)}"
            )
        laws, law = [other._law for other in fields], fields[0]._law
        self._law = Fields(
            law.basis,
            law.shape,
            log_weights_of(weights, None, len(fields)),
            [other.means[0] for other in laws],
            [other.spectra[0] for other in laws],
        )

    @property
    def weights(self) -> np.ndarray:
        """Weights (K,)."""
        return np.asarray(np.exp(self._law.log_w))

    @property
    def log_weights(self) -> np.ndarray:
        """Log weights (K,); ``-inf`` for a weight of zero."""
        return self._law.log_w.copy()

    @property
    def fields(self) -> tuple[GaussianField, ...]:
        """The components."""
        return tuple(self.component(k) for k in range(self.n_components))

    def component(self, k: int) -> GaussianField:
        """Component ``k`` alone."""
        if not -self.n_components <= k < self.n_components:
            raise ValueError(f"`k` must be below {self.n_components}, got {k}")
        return GaussianField._of(self._law.component(k))

    def pooled(self) -> np.ndarray:
        """Mean of the components' spectra (*event), by weight: the power apart from the means."""
        terms = [w * S for w, S in zip(self.weights, self._law.spectra, strict=True)]
        return np.broadcast_to(sum(terms[1:], terms[0]), self._law.shape).copy()

    def __repr__(self) -> str:
        return f"FieldMixture(K={self.n_components}, {self.event_shape}, basis={self.basis.name!r})"

    def _repr_latex_(self) -> str:
        shape = r" \times ".join(map(str, self.event_shape))
        return (
            rf"$\sum_{{k=1}}^{{{self.n_components}}} w_k\,\mathcal{{N}}\bigl(\mu_k, F^{{-1}} "
            rf"\mathrm{{diag}}(S_k)\, F\bigr),\quad x\in\mathbb{{R}}^{{{shape}}}$"
        )


def _ring_means(power: np.ndarray, rings: np.ndarray) -> np.ndarray:
    """Mean power (*event) of each ring, by channel; the constant has at least that of ring 1."""
    sizes = np.maximum(np.bincount(rings.ravel()), 1)
    out = np.empty_like(power)
    for channel in np.ndindex(power.shape[: power.ndim - rings.ndim]):
        means = np.bincount(rings.ravel(), power[channel].ravel()) / sizes
        means[0] = max(means[:2])
        out[channel] = means[rings]
    return out
