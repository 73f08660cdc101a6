"""Derivatives by differences that tell how certain they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["derivative"]

EPS = float(np.finfo(float).eps)
SAME = 4.0  # standard errors, as it were, within which two slopes agree
CENTRAL = ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60))  # f' = sum c_j (f(jh) - f(-jh)) / h + O(h^6)


def derivative(
    fun: Callable[[np.ndarray], np.ndarray], reach: float, rungs: int = 20, ratio: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Derivative at 0 of a function of a number, and how far it may be off.

    Central differences of order 6 on a ladder of spacings.  The finest ones show how noisy the
    values are; for every entry the widest spacing is taken that agrees, up to that noise, with all
    finer ones.  So neither a bound on derivatives is needed nor a place without kinks: a kink
    nearby only takes the wide spacings away.

    Parameters
    ----------
    fun : callable
        ``fun(offsets (m,)) -> values (m, ...)``.
    reach : float
        No offset is larger.
    rungs : int
        Number of spacings.
    ratio : float
        Of one spacing to the next.

    Returns
    -------
    slope, error : arrays (...)
        The derivative, and an estimate of its error.
    """
    h = reach / 3 / ratio ** np.arange(rungs)
    offsets = np.concatenate([sign * j * h for j, _ in CENTRAL for sign in (1, -1)])
    values = np.asarray(fun(offsets), dtype=float)
    values = values.reshape(len(CENTRAL), 2, rungs, *values.shape[1:])
    spacing = h.reshape(-1, *[1] * (values.ndim - 3))
    slopes = sum(c * (v[0] - v[1]) for (_, c), v in zip(CENTRAL, values, strict=True)) / spacing
    size = np.max(np.abs(values), axis=(0, 1, 2))
    # Where values move by less than a rounding, gaps are zero by chance: so five of them, and a
    # floor of a few roundings, as a value has that went through several operations.
    gaps = np.abs(np.diff(slopes, axis=0)) * spacing[1:]
    noise = np.maximum(16 * EPS * size, np.max(gaps[-5:], axis=0)) / spacing  # of each slope
    best, slope = np.full(size.shape, rungs - 1), slopes[-1]
    agreeing = np.isfinite(slope)
    for k in range(rungs - 2, -1, -1):
        near = np.abs(slopes[k] - slopes[k + 1 :]) <= SAME * (noise[k] + noise[k + 1 :])
        agreeing = agreeing & np.all(near, axis=0)
        best, slope = np.where(agreeing, k, best), np.where(agreeing, slopes[k], slope)
    error = SAME * np.take_along_axis(noise, best[None], axis=0)[0]
    return slope, np.where(np.isnan(error), np.inf, error)
