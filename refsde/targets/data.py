"""Real data that need no network: handwritten digits and natural patches, both from scikit-learn.

Small enough to fit and sample in seconds, yet what one wants to look at: 64 dimensions, pixels in
[-1, 1], full covariances.  Each comes with a mixture fitted to it, whose diffused scores are exact.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from refsde._random import START, KeyedNormals, run_key
from refsde.targets.mixture import GaussianMixture

__all__ = ["digits", "digits_mixture", "patches", "patches_mixture"]


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


@cache
def _photographs() -> np.ndarray:
    """Two grey photographs (2, 427, 640) in [-1, 1]: the mean of the three channels."""
    try:
        from sklearn.datasets import load_sample_images

        colour = np.stack(load_sample_images().images)
    except ImportError as missing:
        raise ImportError(
            "the photographs need scikit-learn and Pillow: pip install 'refsde[all]'"
        ) from missing
    return np.asarray(np.mean(colour, axis=3) / 127.5 - 1)


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
