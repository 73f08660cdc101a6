"""What a caller gives to make a law, checked: every error names the argument and the remedy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["finite", "log_weights_of", "noise_cov_of", "real", "spectrum_of"]


def real(name: str, values: ArrayLike | None) -> np.ndarray:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as problem:
        raise TypeError(f"`{name}` must be an array of real numbers, got {values!r}") from problem


def finite(name: str, values: ArrayLike) -> np.ndarray:
    array = real(name, values)
    if not np.all(np.isfinite(array)):
        raise ValueError(
            f"`{name}` must be finite, got {array[~np.isfinite(array)][0]}: remove NaN and inf"
        )
    return array


def log_weights_of(weights: ArrayLike | None, log_weights: ArrayLike | None, K: int) -> np.ndarray:
    if (weights is None) == (log_weights is None):
        got = "neither" if weights is None else "both"
        raise ValueError(
            f"give exactly one of `weights` and `log_weights`, got {got}: "
            "pass weights=None with log weights"
        )
    if weights is not None:
        w = finite("weights", weights)
        if w.shape != (K,):
            raise ValueError(
                f"`weights` must have shape ({K},), one a row of `means`, got {w.shape}"
            )
        if np.any(w < 0):
            raise ValueError(f"`weights` must not be negative, got {w.min()}")
        if abs(w.sum() - 1) > 1e-6:
            raise ValueError(f"`weights` must sum to 1, got {w.sum():.6g}: divide by the sum")
        with np.errstate(divide="ignore"):
            log_w = np.log(w)
    else:
        log_w = real("log_weights", log_weights)
        if log_w.shape != (K,):
            raise ValueError(
                f"`log_weights` must have shape ({K},), one a row of `means`, got {log_w.shape}"
            )
        if np.any(np.isnan(log_w)) or np.any(log_w == np.inf) or np.all(log_w == -np.inf):
            raise ValueError(
                f"`log_weights` must be below inf, and one of them finite, got {log_w}"
            )
        if abs(np.logaddexp.reduce(log_w)) > 1e-6:
            raise ValueError(
                "`log_weights` must be normalised, got a log sum of "
                f"{np.logaddexp.reduce(log_w):.6g}: subtract numpy.logaddexp.reduce(log_weights)"
            )
    return np.asarray(log_w - np.logaddexp.reduce(log_w))


def spectrum_of(covs: np.ndarray, K: int, d: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Eigenvalues (K, d) or (K, 1), and eigenvectors (K, d, d) or None, of any accepted form."""
    if covs.shape == (K, d, d):
        size = np.max(np.abs(covs), axis=(1, 2), initial=0.0)
        skew = np.max(np.abs(covs - covs.transpose(0, 2, 1)), axis=(1, 2))
        if np.any(skew > 1e-8 * size):
            raise ValueError(
                f"`covs` must be symmetric, got an asymmetry of {skew.max():.3g}: use (C + C.T) / 2"
            )
        lam, U = np.linalg.eigh((covs + covs.transpose(0, 2, 1)) / 2)
        if np.any(lam < -1e-8 * np.maximum(size, np.finfo(float).tiny)[:, None]):
            raise ValueError(
                f"`covs` must be positive semi-definite, got an eigenvalue of {lam.min():.3g}"
            )
        if d == 1:
            return np.maximum(lam, 0.0), None
        return np.maximum(lam, 0.0), U
    if covs.shape not in ((K, d), (K,)):
        raise ValueError(
            f"`covs` must have shape ({K}, {d}, {d}), ({K}, {d}) or ({K},), got {covs.shape}"
        )
    if np.any(covs < 0):
        raise ValueError(
            f"`covs` must hold non-negative variances, got {covs.min()}: a variance is a squared "
            "std"
        )
    return (covs.copy() if covs.ndim == 2 else covs[:, None].copy()), None


def noise_cov_of(noise_cov: ArrayLike, m: int) -> np.ndarray:
    R = finite("noise_cov", noise_cov)
    if R.ndim <= 1 and R.size in (1, m):
        R = np.diag(np.broadcast_to(R, (m,)))
    if R.shape != (m, m):
        raise ValueError(
            f"`noise_cov` must be a float or have shape ({m},) or ({m}, {m}), got {R.shape}"
        )
    if np.any(np.abs(R - R.T) > 1e-8 * np.max(np.abs(R), initial=0.0)):
        raise ValueError(f"`noise_cov` must be symmetric, got {R}: use (R + R.T) / 2")
    if np.any(np.linalg.eigvalsh(R) < -1e-12 * max(1.0, float(np.abs(R).max()))):
        raise ValueError(
            f"`noise_cov` must be positive semi-definite, got {R}: a variance is a squared std"
        )
    return np.asarray(R)
