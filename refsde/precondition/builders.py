r"""Filters from data: the published ones, and rules for their strength.

Throughout S is the variance of a coefficient of the data, y = sigma^2, V_t = alpha_t^2 S +
sigma_t^2 that of x_t, and u = R^2 the eigenvalue of M M^T.  A `refsde.GaussianField` knows S.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from refsde._bases import Basis, images_of
from refsde._types import SDE
from refsde.precondition.matched import is_field
from refsde.precondition.operators import Preconditioner, Scalar
from refsde.precondition.spectral import Diagonal, Fourier, in_basis

__all__ = [
    "alpha_rule",
    "disc_filter",
    "log_range",
    "pds_frequency_filter",
    "pds_pixel_filter",
    "scalar_rule",
]


def pds_frequency_filter(
    data: Any, alpha: float = 5.0, *, normalise: bool = True
) -> Preconditioner:
    r"""Published frequency filter: modes of little power are turned up, by up to 1 / (1 - 1/alpha).

    .. math:: R = \frac{\alpha}{r + \alpha - 1}, \qquad r = q / \max q, \qquad
              q = \log\bigl(1 + E|\hat x|^2\bigr)

    with the transform *not* normalised, as in the published code, and the images as they are: the
    mean counts, so that r = 1 at k = 0.

    Parameters
    ----------
    data : GaussianField or array (n, *event)
        The data law, or images of it, in the units of the samples (the code has them in [0, 1]).
    alpha : float
        Above 1; ``inf`` filters nothing.
    normalise : bool
        Divide q by its largest entry, as the published sampler does since February 2023.  Before,
        it took r = q, which suits tables that are normalised already: of raw images it makes gains
        far below 1.

    Returns
    -------
    Fourier
        The filter; `DCT` for a field of cosines.

    Raises
    ------
    ValueError
        If ``alpha`` is at most 1, or the images are not a batch of grids.

    Notes
    -----
    It is the opposite of what makes Langevin well conditioned (`langevin_matched`, which turns up
    what has much power), and as a filter of reverse diffusion it leaves a bias, u / (2u - 1) times
    the variance as steps are refined.  See the claims page of the documentation.

    References
    ----------
    Ma et al. (2022, 2023), and the published code, from which it is taken.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.precondition.pds_frequency_filter(rs.GaussianField.power_law(32), alpha=5.0)
    Fourier(gain (32, 32), 1 to 1.203)
    """
    basis, power = _power(data)
    return in_basis(basis, _gain(np.log1p(power), alpha, normalise))


def pds_pixel_filter(
    data: Any, alpha: float = 5.0, *, log: bool = False, normalise: bool = True
) -> Diagonal:
    r"""Published pixel filter: dark pixels are turned up.

    .. math:: R = \frac{\alpha}{r + \alpha - 1}, \qquad r = q / \max q, \qquad q = E\,x^2

    Parameters
    ----------
    data : GaussianField or array (n, *event)
        The data law, or images of it.
    alpha : float
        Above 1.
    log : bool
        Take log(1 + q) instead of q, as the frequency filter does; the code does not.
    normalise : bool
        As for `pds_frequency_filter`.  Before February 2023 the published sampler took R = 1 / q,
        without alpha: that is False.

    Returns
    -------
    Diagonal
        The filter.

    References
    ----------
    Ma et al. (2022), and the published code, from which it is taken.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> rs.precondition.pds_pixel_filter(np.array([[[1.0, 0.0], [1.0, 1.0]]])).gain
    array([[1.  , 1.25],
           [1.  , 1.  ]])
    """
    if is_field(data):
        variance = np.sum(np.asarray(data.spectrum), axis=data.basis.last, keepdims=True)
        size = math.prod(data.event_shape[-data.basis.axes :])
        if data.basis.name == "dct":
            raise ValueError(
                "`data` in cosines has another variance at every pixel: pass draws, data.sample(n)"
            )
        power = np.asarray(data.mean) ** 2 + (
            data.spectrum if data.basis.name == "pixel" else variance / size
        )
    else:
        power = np.mean(_images(data) ** 2, axis=0)
    q = np.log1p(power) if log else power
    if normalise:
        return Diagonal(_gain(q, alpha))
    if not np.all(q > 0):
        raise ValueError("`data` has pixels that are always zero, where R = 1 / q is infinite")
    return Diagonal(1 / q)


def disc_filter(shape: Sequence[int], radius: float, outside: float) -> Fourier:
    r"""Filter of two values: 1 within a disc of low frequencies, another outside.

    Parameters
    ----------
    shape : (int, int)
        Grid (H, W).
    radius : float
        Of the disc in cycles a longest edge; k = 0 is in it.
    outside : float
        Gain beyond, positive.

    Returns
    -------
    Fourier
        The filter, ordered as ``numpy.fft.fftfreq``: low frequencies stand in the corners.

    References
    ----------
    After the parametric filter of Ma et al. (2022), whose exact form is not in the published code.

    Examples
    --------
    >>> import refsde as rs
    >>> float(rs.precondition.disc_filter((8, 8), 2.0, 1.2).gain[0, 0])
    1.0
    """
    for name, value in (("radius", radius), ("outside", outside)):
        if not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
            raise ValueError(f"`{name}` must be a finite non-negative number, got {value!r}")
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise ValueError(
            f"`shape` must be (H, W), got {shape!r}: the filter serves all channels of (C, H, W)"
        )
    k = Basis("fft").frequency(shape)
    return Fourier(np.where(k <= radius, 1.0, outside))


def log_range(sde: SDE, times: Any) -> float:
    """Range L = log(rho_0^2 / rho_last^2) of the noise levels that a grid's steps set out from.

    Parameters
    ----------
    sde : SDE
        Whose levels.
    times : Grid
        The steps; a last step onto rho = 0 is not counted.

    Examples
    --------
    >>> import refsde as rs
    >>> sde = rs.VE(sigma_min=0.01, sigma_max=50.0)
    >>> grid = rs.Grid.logsnr(sde, 100)
    >>> round(rs.precondition.log_range(sde, grid), 2) > 16
    True
    """
    if not hasattr(times, "ts"):
        raise TypeError(f"`times` must be a Grid, got {times!r}: use Grid.uniform(sde, steps)")
    rho = [sde.rho(t) for t in times.ts]
    rho = [level for level in rho if level > 0]
    return 2 * math.log(max(rho) / min(rho))


def scalar_rule(log_range: float, steps: int) -> Scalar:
    r"""Multiply by one number that cancels the excess of reverse diffusion to first order.

    .. math:: u = c^2 = 1 + \frac{L}{2N}

    With N geometric levels reverse diffusion under VE leaves every coefficient too wide by the
    factor 1 + L / (2N), at any resolution; the rule leaves an error of second order.

    Parameters
    ----------
    log_range : float
        L = log(sigma_max^2 / sigma_min^2), see `log_range`.
    steps : int
        N, the number of levels.

    Returns
    -------
    Scalar
        The map.

    References
    ----------
    First-order error theory of reverse diffusion; ours.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.precondition.scalar_rule(27.63, 100).gram(1.0).__round__(4)
    1.1381
    """
    _check_steps(log_range, steps)
    return Scalar(math.sqrt(1 + log_range / (2 * steps)))


def alpha_rule(data: Any, log_range: float, steps: int) -> float:
    r"""Parameter of the published filter that first-order theory picks: linear in the steps.

    .. math:: \alpha^*(N) = \frac{4N}{L}\,\frac{\langle(1-r)^2\rangle_S}{\langle 1-r\rangle_S}

    with averages over coefficients weighted by their variance S.

    Parameters
    ----------
    data : GaussianField
        The data law.
    log_range : float
        L = log(sigma_max^2 / sigma_min^2), see `log_range`.
    steps : int
        N, the number of levels.

    Returns
    -------
    float
        The alpha of `pds_frequency_filter`.  Of few steps it is 1 or less, and then no such filter
        is strong enough.

    References
    ----------
    First-order error theory of reverse diffusion; ours.  Ma et al. (2023) state that alpha and the
    number of iterations are related.

    Examples
    --------
    >>> import refsde as rs
    >>> field = rs.GaussianField.power_law(32)
    >>> round(100 / rs.precondition.alpha_rule(field, 17.03, 100), 1)
    7.1
    """
    _check_steps(log_range, steps)
    if not is_field(data):
        raise TypeError(f"`data` must be a GaussianField, got {type(data).__name__}: fit one")
    _, power = _power(data)
    q = np.log1p(power)
    lack, S = 1 - q / q.max(), data.spectrum
    return float(4 * steps / log_range * np.sum(S * lack**2) / np.sum(S * lack))


def _images(data: Any) -> np.ndarray:
    if hasattr(data, "sample") and hasattr(data, "score"):
        raise TypeError(
            f"`data` must be a GaussianField or images, got {data!r}: pass draws, "
            "data.sample(n, rng=0)"
        )
    images = images_of("data", data)
    if not np.all(np.isfinite(images)):
        raise ValueError("`data` must be finite, got NaN or inf: remove those images")
    return images


def _power(data: Any) -> tuple[Basis, np.ndarray]:
    """Basis, and mean square of the unnormalised transform over the full grid."""
    if is_field(data):
        basis, mean = data.basis, np.asarray(data.mean)
        size = math.prod(mean.shape[-basis.axes :])
        return basis, size * (np.asarray(data.spectrum) + _squares(basis, mean))
    images, basis = _images(data), Basis("fft")
    size = math.prod(images.shape[-2:])
    return basis, size * np.mean([_squares(basis, image) for image in images], axis=0)


def _squares(basis: Basis, image: np.ndarray) -> np.ndarray:
    """Squared coefficients of an image, over the full grid."""
    if basis.name != "fft":
        return np.asarray(basis.forward(image) ** 2)
    return np.asarray(np.abs(np.fft.fftn(image, axes=basis.last, norm="ortho")) ** 2)


def _gain(q: np.ndarray, alpha: float, normalise: bool = True) -> np.ndarray:
    number = isinstance(alpha, int | float | np.integer | np.floating)
    if not number or isinstance(alpha, bool) or not alpha > 1:
        raise ValueError(
            f"`alpha` must be a number above 1, got {alpha!r}: 5 is the code's, inf no filter"
        )
    if not q.max() > 0:
        raise ValueError("`data` must not be zero everywhere: a filter needs power")
    if math.isinf(alpha):
        return np.ones_like(q)
    return np.asarray(alpha / ((q / q.max() if normalise else q) + alpha - 1))


def _check_steps(log_range: float, steps: int) -> None:
    if not (math.isfinite(log_range) and log_range > 0):
        raise ValueError(
            f"`log_range` must be positive, got {log_range!r}: log(sigma_max^2 / sigma_min^2)"
        )
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise ValueError(f"`steps` must be a positive int, got {steps!r}")
