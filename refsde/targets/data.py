"""Real data that need no network: handwritten digits and photographs, both from scikit-learn.

Digits and patches are small enough to fit and sample in seconds, yet what one wants to look at: 64
dimensions, pixels in [-1, 1], full covariances.  Each comes with a mixture fitted to it, whose
diffused scores are exact.  Whole photographs give the spectrum of a Gaussian field of any size.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from refsde._bases import Basis
from refsde._random import START, KeyedNormals, run_key
from refsde.targets.field import GaussianField
from refsde.targets.mixture import GaussianMixture

__all__ = [
    "digits",
    "digits_mixture",
    "patches",
    "patches_mixture",
    "photographs",
    "photographs_field",
]


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as missing:
        raise ImportError("the digits need scikit-learn: pip install 'refsde[all]'") from missing
    images, labels = load_digits(return_X_y=True)
    return images / 8 - 1, labels


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits, 8 x 8 pixels in 17 grey levels, scaled from [0, 16] to [-1, 1].

    Returns
    -------
    X : array (1797, 64)
        Images, row by row; -1 is paper, 1 is ink.
    labels : array (1797,)
        Which digit each is, 0 to 9.

    Raises
    ------
    ImportError
        If scikit-learn is missing.

    References
    ----------
    Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI; the test part.

    Examples
    --------
    >>> import refsde as rs
    >>> X, labels = rs.targets.digits()
    >>> X.shape, float(X.min()), float(X.max())
    ((1797, 64), -1.0, 1.0)
    """
    X, labels = _digits()
    return X.copy(), labels.copy()


def _colours() -> np.ndarray:
    """Two photographs as bytes (2, 427, 640, 3), read anew."""
    try:
        from sklearn.datasets import load_sample_images

        return np.stack(load_sample_images().images)
    except ImportError as missing:
        raise ImportError(
            "the photographs need scikit-learn and Pillow: pip install 'refsde[all]'"
        ) from missing


@cache
def _photographs() -> np.ndarray:
    """Two grey photographs (2, 427, 640) in [-1, 1]: the mean of the three channels."""
    return np.asarray(np.mean(_colours(), axis=3) / 127.5 - 1)


def photographs() -> np.ndarray:
    """Two photographs in colour, a temple and a flower.

    Returns
    -------
    array (2, 3, 427, 640)
        Red, green and blue, scaled from [0, 255] to [-1, 1].

    Raises
    ------
    ImportError
        If scikit-learn or Pillow is missing.

    References
    ----------
    scikit-learn, `load_sample_images` (photographs under CC BY).

    Examples
    --------
    >>> import refsde as rs
    >>> rs.targets.photographs().shape
    (2, 3, 427, 640)
    """
    return np.ascontiguousarray(_colours().transpose(0, 3, 1, 2) / 127.5 - 1)


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def patches(
    size: int = 8, n: int = 10_000, *, rng: int | np.random.Generator | None = None
) -> np.ndarray:
    """Square patches cut at random places from two photographs, a temple and a flower.

    A grey level is the mean of the three colours, scaled from [0, 255] to [-1, 1]; every place in
    either photograph is equally likely, and patches may overlap.

    Parameters
    ----------
    size : int
        Edge of a patch in pixels, at most 427.
    n : int
        How many.
    rng : int, Generator or None
        Seed of the places; patch i depends on (rng, i) alone.

    Returns
    -------
    array (n, size * size)
        Patches, row by row.

    Raises
    ------
    ImportError
        If scikit-learn or Pillow is missing.
    ValueError
        If ``size`` or ``n`` is out of range.

    References
    ----------
    scikit-learn, `load_sample_images` (photographs under CC BY).  Zoran and Weiss (2011), From
    Learning Models of Natural Image Patches to Whole Image Restoration, for mixtures of patches.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.targets.patches(8, 100, rng=0).shape
    (100, 64)
    """
    photographs = _photographs()
    count, *edges = photographs.shape
    if not _is_int(size) or not 1 <= size <= min(edges):
        raise ValueError(
            f"`size` must be an int from 1 to {min(edges)}, the photographs' edge, got {size!r}"
        )
    if not _is_int(n) or n < 0:
        raise ValueError(f"`n` must be a non-negative int, got {n!r}")
    uniform = KeyedNormals(run_key(rng)).uniform(np.arange(n), (3,), START - 1)
    places = [count, edges[0] - size + 1, edges[1] - size + 1]
    windows = np.lib.stride_tricks.sliding_window_view(photographs, (size, size), axis=(1, 2))
    return np.asarray(windows[tuple((uniform * places).astype(int).T)].reshape(n, size * size))


@cache
def digits_mixture() -> GaussianMixture:
    """Mixture of ten full-covariance Gaussians fitted to `digits` by expectation maximisation.

    The seed is 0 and 1e-2 is added to every variance, so that constant pixels keep a width.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.targets.digits_mixture()
    GaussianMixture(K=10, d=64, full)
    """
    return GaussianMixture.fit(digits()[0], 10, rng=0, reg_covar=1e-2)


@cache
def patches_mixture() -> GaussianMixture:
    """Mixture of ten full-covariance Gaussians fitted to 10,000 `patches` of 8 x 8 pixels.

    The seeds are 0 and 1e-4 is added to every variance: a standard deviation of 0.01, which is
    about one grey level in 256.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.targets.patches_mixture().dim
    64
    """
    return GaussianMixture.fit(patches(8, 10_000, rng=0), 10, rng=0, reg_covar=1e-4)


CROP = 256  # edge of the crops whose spectra are averaged, in pixels
# Rings of cycles a crop.  A Hann window mixes neighbours within two cycles, and what it carries
# down from the strong lowest ones is most of the power at 2 and 3.
LOWEST, HIGHEST = 4, 64


@cache
def _radial_power(channels: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Frequencies in cycles a pixel, ascending; power there; exponent of the power law below."""
    images = photographs() if channels == 3 else _photographs()[:, None]
    ramp = np.hanning(CROP + 2)[1:-1]
    window = np.outer(ramp, ramp)
    window /= np.sqrt(np.sum(window**2))  # white noise keeps its variance
    corners = [np.linspace(0, edge - CROP, n).astype(int) for edge, n in ((427, 3), (640, 4))]
    power = np.zeros((CROP, CROP))
    for top in corners[0]:
        for left in corners[1]:
            crops = images[..., top : top + CROP, left : left + CROP]
            level = np.sum(window * crops, axis=(-2, -1), keepdims=True) / np.sum(window)
            power += np.mean(np.abs(np.fft.fft2(window * (crops - level))) ** 2, axis=(0, 1))
    power /= len(corners[0]) * len(corners[1])
    radius = Basis("fft").frequency((CROP, CROP))
    ring = np.rint(radius).astype(int).ravel()
    f, P = (np.bincount(ring, v.ravel()) / np.bincount(ring) for v in (radius / CROP, power))
    straight = slice(LOWEST, HIGHEST + 1)
    slope = np.polyfit(np.log(f[straight]), np.log(P[straight]), 1)[0]
    return f[LOWEST:], P[LOWEST:], -float(slope)


def photographs_field(size: int = 64, channels: int = 3) -> GaussianField:
    """Gaussian field with the power spectrum of two photographs, at any resolution.

    A model of the second moments of images, not of their edges: stationary, isotropic, and
    estimated from two `photographs` alone.  It serves to see how real correlations condition a
    sampler, not as a statistic of natural images.

    Parameters
    ----------
    size : int
        Edge in pixels, 8 to 2048.  All sizes see the same pixels: a larger image shows more of the
        scene, not more detail.
    channels : int
        3: independent channels (which those of photographs are not), each with the mean spectrum of
        the three colours.  1: the spectrum of grey levels.

    Returns
    -------
    GaussianField
        Of events (channels, size, size), in the basis "fft"; the mean is the photographs'.

    Raises
    ------
    ImportError
        If scikit-learn or Pillow is missing.
    ValueError
        If ``size`` or ``channels`` is out of range.

    Notes
    -----
    Power spectra of 24 overlapping crops of 256 x 256 pixels, less their means and under a Hann
    window, are averaged, also over rings of equal frequency f, and interpolated in log P and log f.
    Between 1/64 and 1/4 cycles a pixel a straight line there fits an exponent of 2.35 (colour; 2.33
    grey); other ranges give 2.1 to 2.4.  Below 1/64, where the window distorts, P goes on as
    f^-2.35 from its value at 1/64: sizes above 64 rest on that for their lowest frequencies.  The
    constant gets the power of the lowest frequency.  What varies over whole crops, such as sky
    above ground, has no part in it: pixels vary by 0.27 about the mean of an image at size 64 and
    0.36 at 256, those of windows of the photographs by 0.31 and 0.53.

    References
    ----------
    Ruderman and Bialek (1994), Statistics of natural images: scaling in the woods, for the power
    law; Welch (1967) for averaging windowed spectra.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.targets.photographs_field(32).event_shape
    (3, 32, 32)
    """
    if not _is_int(size) or not 8 <= size <= 2048:
        raise ValueError(f"`size` must be an int from 8 to 2048, got {size!r}")
    if not _is_int(channels) or channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 (grey) or 3 (colour), got {channels!r}")
    f, P, exponent = _radial_power(int(channels))
    wanted = np.maximum(Basis("fft").frequency((size, size)), 1.0) / size
    S = np.exp(np.interp(np.log(wanted), np.log(f), np.log(P)))
    S *= np.maximum(f[0] / wanted, 1.0) ** exponent
    mean = float(np.mean(_photographs()))
    return GaussianField(np.broadcast_to(S, (channels, size, size)), mean)
