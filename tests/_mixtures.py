"""Mixtures of every kind for the tests, and their scores in 60 digits."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np

import refsde as rs

KINDS = ("full", "diagonal", "spherical", "isotropic")


def make(kind: str, d: int, K: int = 4, seed: int = 0, rank: int | None = None):
    """A mixture of the given kind; with ``rank`` only so many directions have any spread."""
    rng = np.random.default_rng([seed, d, K])
    weights, means = rng.dirichlet(np.ones(K)), 2 * rng.standard_normal((K, d))
    if kind == "full":
        B = rng.standard_normal((K, d, rank or d)) / math.sqrt(rank or d)
        covs = B @ B.transpose(0, 2, 1)
        covs = (covs + covs.transpose(0, 2, 1)) / 2
    elif kind == "diagonal":
        covs = rng.uniform(0.1, 2, (K, d))
        covs[:, rank or d :] = 0
    else:
        covs = rng.uniform(0.1, 2, K) if kind == "spherical" else np.full(K, 0.3)
        covs = covs if rank is None else 0 * covs
    return rs.GaussianMixture(weights, means, covs), covs


def full(covs: np.ndarray, d: int) -> np.ndarray:
    if covs.ndim == 3:
        return covs
    return np.stack([np.eye(d) * c for c in covs])


def points_of(target: rs.GaussianMixture, a: float, s: float, n: int = 6) -> np.ndarray:
    """Half from the diffused law, half anywhere."""
    rng = np.random.default_rng(5)
    near = a * target.sample(n, rng=1) + s * rng.standard_normal((n, target.dim))
    return np.concatenate([near, 3 * rng.standard_normal((n, target.dim))])


def relative(found: np.ndarray, truth: np.ndarray) -> float:
    """Largest error of a row, relative to the norm of that row."""
    found, truth = found.reshape(len(found), -1), truth.reshape(len(truth), -1)
    return float(np.max(np.linalg.norm(found - truth, axis=1) / np.linalg.norm(truth, axis=1)))


def evaluate(target, x, a, s, *want, u=None):
    """All levels, not only those of an SDE."""
    out = target._evaluate(x, a, s, frozenset(want), u)
    return out[want[0]] if len(want) == 1 else out


def exact_row(log_w, means, covs, x, a, s):
    """Score and log-density at one point in 60 digits; ``covs`` are arrays or mpmath matrices."""
    d = len(x)
    logs, grads = [], []
    for weight, mean, cov in zip(log_w, means, covs, strict=True):
        if weight == -np.inf:
            continue
        C = cov if isinstance(cov, mp.matrix) else mp.matrix(cov.tolist())
        S = mp.mpf(a) ** 2 * C + mp.mpf(s) ** 2 * mp.eye(d)
        gap = mp.matrix(x.tolist()) - mp.mpf(a) * mp.matrix(mean.tolist())
        L, h = mp.cholesky(S), mp.lu_solve(S, gap)
        log_det = 2 * mp.fsum(mp.log(L[i, i]) for i in range(d))
        quad = (gap.T * h)[0]
        logs.append(mp.mpf(float(weight)) - (quad + log_det + d * mp.log(2 * mp.pi)) / 2)
        grads.append(-h)
    top = max(logs)
    r = [mp.exp(log - top) for log in logs]
    total = mp.fsum(r)
    score = sum((ri / total * g for ri, g in zip(r, grads, strict=True)), mp.zeros(d, 1))
    return np.array([float(g) for g in score]), float(top + mp.log(total))


def oracle(target, covs, x, a, s):
    with mp.workdps(60):
        rows = [exact_row(target.log_weights, target.means, covs, row, a, s) for row in x]
    return np.array([score for score, _ in rows]), np.array([log for _, log in rows])
