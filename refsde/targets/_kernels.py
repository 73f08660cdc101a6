r"""NumPy fast paths of the mixture formulas: blocks of fixed width, coordinates first.

A block holds `width` samples as columns, so that every reduction over components or coordinates
runs along the first axes, at the speed of memory, and every matrix product has the same shape
whatever the batch: BLAS rounds differently for other shapes, and sample i must not depend on its
batch mates. Short blocks are padded with zeros.

The readable definitions stand in `refsde.targets.mixture`; the tests hold these equal to them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["Law", "evaluate", "rounds_evenly"]

Level = float | np.ndarray  # a noise level shared by all points, or one a point
Wanted = frozenset[str]  # of "score", "logpdf", "denoise", "divergence", "jvp", "resp"
_LOG_2PI = math.log(2 * math.pi)
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Law:
    """A mixture of Gaussians, diagonalised once.

    Attributes
    ----------
    log_w : array (K,)
        Log weights.
    mu : array (K, d)
        Means.
    lam : array (K, d) or (K, 1)
        Eigenvalues of the covariances; one a component if spherical.
    U : array (K, d, d) or None
        Eigenvectors as columns, None where they are the coordinate axes.
    """

    log_w: np.ndarray
    mu: np.ndarray
    lam: np.ndarray
    U: np.ndarray | None

    def cast(self, dtype: np.dtype) -> Law:
        """The same law in another precision."""
        if self.mu.dtype == dtype:
            return self
        U = None if self.U is None else self.U.astype(dtype)
        return Law(self.log_w.astype(dtype), self.mu.astype(dtype), self.lam.astype(dtype), U)


def _width(rows: int, itemsize: int = 8) -> int:
    """Samples in a block whose buffer has ``rows`` rows: a power of two, buffer about 1 MB."""
    return int(np.clip(2 ** round(math.log2(_BLOCK_BYTES / (rows * itemsize))), 128, 2048))


@cache
def rounds_evenly() -> bool:
    """Whether BLAS treats all columns of a float32 product alike on this processor.

    OpenBLAS's kernel for AVX2 (Haswell, Zen) does not: equal columns come out different where a
    panel begins or ends, so that a sample would depend on its place in the batch.
    """
    rng = np.random.default_rng(0)
    A, column = (rng.standard_normal(shape).astype(np.float32) for shape in ((192, 65), (65, 1)))
    product = A @ np.repeat(column, 1024, axis=1)
    return bool(np.all(product == product[:, :1]))


_kept = threading.local()


def _scratch(name: str, rows: int, width: int, dtype: np.dtype) -> np.ndarray:
    """Return this thread's array ``name``, kept between calls: fresh memory costs page faults."""
    size = rows * width * dtype.itemsize
    flat = getattr(_kept, name, None)
    if flat is None or flat.nbytes < size:
        flat = np.empty(size, np.uint8)
        setattr(_kept, name, flat)
    return np.asarray(flat[:size].view(dtype).reshape(rows, width))


def _blocks(x: np.ndarray, width: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, block (d, width)): samples as columns, a short block padded with zeros."""
    for rows, block in _lifted(x, width, 0.0):
        yield rows, block[:-1]


def _lifted(
    x: np.ndarray, width: int, last: Level, *, reuse: bool = False
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, block (d + 1, width)): samples as columns above one more coordinate ``last``.

    The extra coordinate lets a matrix product subtract the means as well.  With ``reuse`` every
    block is the same array, filled anew.
    """
    n, d = x.shape
    for i in range(0, n, width):
        rows = slice(i, min(i + width, n))
        kept = rows.stop - i
        block = (
            _scratch("block", d + 1, width, x.dtype) if reuse else np.empty((d + 1, width), x.dtype)
        )
        block[:d, :kept] = x[rows].T
        block[:d, kept:] = 0
        block[d] = last if isinstance(last, float) else _pad(last, rows, width)
        yield rows, block


def _product(name: str, A: np.ndarray, block: np.ndarray, chunk: int) -> np.ndarray:
    """``A @ block``, as the scratch array ``name``, in products of ``chunk`` columns.

    They have one shape, however wide the block is.
    """

    def chunks(M: np.ndarray) -> np.ndarray:
        return M.reshape(len(M), -1, chunk).transpose(1, 0, 2)

    out = _scratch(name, len(A), block.shape[1], block.dtype)
    np.matmul(A, chunks(block), out=chunks(out))
    return out


def _write(out: np.ndarray, rows: slice, values: np.ndarray) -> None:
    """Put the columns of ``values`` (d, width) into the rows ``rows`` of ``out`` (n, d)."""
    kept = rows.stop - rows.start
    if len(values) > 8:
        out[rows] = values.T[:kept]
        return
    for j, row in enumerate(values):  # a third of the time that a transposed copy of a few takes
        out[rows, j] = row[:kept]


def _pad(values: np.ndarray, rows: slice, width: int) -> np.ndarray:
    """One value a sample, on the block; the padding repeats the last (any valid time would do)."""
    chunk = values[rows]
    return chunk if len(chunk) == width else np.pad(chunk, (0, width - len(chunk)), mode="edge")


def _exp_normalise(logits: np.ndarray) -> np.ndarray:
    """Replace logits (K, width) by exp(logits - max) in place and return the max (width,)."""
    top = np.asarray(np.max(logits, axis=0))
    logits -= top
    np.exp(logits, out=logits)
    return top


def evaluate(
    law: Law,
    x: np.ndarray,
    a: Level,
    s: Level,
    want: Wanted,
    u: np.ndarray | None = None,
    *,
    fast: bool = False,
) -> dict[str, np.ndarray]:
    """Evaluate what is wanted of the law of a x_0 + s z at the points ``x`` (n, d).

    Parameters
    ----------
    law : Law
        Law of x_0.
    x : array (n, d)
        Points.
    a, s : float or array (n,)
        Signal coefficient and noise standard deviation, shared or one a point.
    want : frozenset of str
        Which results.
    u : array (n, d), optional
        Directions, for "jvp".
    fast : bool
        Whether a score alone may take one matrix product instead of two.
    """
    law = law.cast(x.dtype)
    n, K = len(x), len(law.log_w)
    out: dict[str, np.ndarray] = {
        name: np.empty_like(x) for name in want & {"score", "denoise", "jvp"}
    }
    out |= {name: np.empty(n, x.dtype) for name in want & {"logpdf", "divergence"}}
    if "resp" in want:
        out["resp"] = np.empty((n, K), x.dtype)
    isotropic = law.lam.shape[1] == 1 and bool(np.all(law.lam == law.lam[0]))
    if isotropic and K == 1 and want <= {"score", "denoise"}:
        _alone(law, x, a, s, out)
    elif isotropic and not want & {"divergence", "jvp"}:
        _isotropic(law, x, a, s, out)
    elif fast and want == {"score"} and law.U is not None and isinstance(a, float):
        _one_product(law, x, a, float(s), out["score"])
    else:
        _general(law, x, a, s, out, u)
    return out


def _alone(law: Law, x: np.ndarray, a: Level, s: Level, out: dict[str, np.ndarray]) -> None:
    """One Gaussian, a multiple of I: no responsibilities, and nothing that a batch could round."""
    mu, lam = law.mu[0], law.lam[0, 0]
    if isinstance(a, float):
        at, v = x.dtype.type(a), x.dtype.type(a * a * float(lam) + s * s)
    else:
        at = a[:, None]
        v = at * at * lam + np.asarray(s)[:, None] ** 2
    gap = x - at * mu
    if "denoise" in out:
        np.add(mu, gap * (at * lam / v), out=out["denoise"])
    if "score" in out:
        np.divide(gap, -v, out=out["score"])


def _isotropic(law: Law, x: np.ndarray, a: Level, s: Level, out: dict[str, np.ndarray]) -> None:
    """All covariances the same multiple of I: |x|^2 cancels from the logits, which are then linear.

    l_k = (a/v) mu_k.x - (a^2/2v) |mu_k|^2 + log w_k  and  score = (a E[mu_k | x] - x) / v  with
    v = a^2 lam + s^2.
    """
    K, d = law.mu.shape
    # Shifting x and the means together makes products smaller and loses fewer digits.
    centre = np.mean(law.mu, axis=0)
    shifted = bool(np.any(np.abs(centre) > 1e-9 * np.max(np.abs(law.mu))))
    centre = centre if shifted else np.zeros_like(centre)
    mu = law.mu - centre
    half_norm, log_w = np.sum(mu * mu, axis=1)[:, None] / 2, law.log_w[:, None]
    sums = np.concatenate([mu.T, np.ones((1, K), x.dtype)])  # one product gives sum r mu and sum r
    shared = isinstance(a, float)
    chunk = min(_width(max(K, d), x.itemsize), 512)
    # As wide as pays and no wider than the batch: only the products' shape must not depend on it.
    pays = _BLOCK_BYTES // 2 // (max(K, d) * x.itemsize)
    width = max(min(pays, len(x) + chunk - 1) // chunk * chunk, chunk)
    one = x.dtype.type
    if shared:
        v = one(a * a * float(law.lam[0, 0]) + s * s)
        a = one(a)
        linear = np.concatenate([mu * (a / v), log_w - half_norm * (a * a / v)], axis=1)
    for rows, block in _lifted(x, width, 1.0, reuse=True):
        at = a if shared else _pad(np.asarray(a), rows, width)
        X = block[:d]
        if shifted:
            X -= centre[:, None] * at
        if shared:
            logits = _product("logits", linear, block, chunk)
        else:
            v = at * at * law.lam[0, 0] + _pad(np.asarray(s), rows, width) ** 2
            logits = (_product("logits", mu, X, chunk) - half_norm * at) * (at / v) + log_w
        _exp_normalise(logits)
        moments = _product("moments", sums, logits, chunk)
        mean, total = moments[:-1], moments[-1]
        mean /= total  # E[mu_k | x], centred
        kept = rows.stop - rows.start
        if "denoise" in out:
            shrink = at * law.lam[0, 0] / v
            out["denoise"][rows] = (centre[:, None] + mean + shrink * (X - at * mean)).T[:kept]
        if "resp" in out:
            out["resp"][rows] = (logits / total).T[:kept]
        if "logpdf" in out:
            # From the winner k*, whose exp(l - max) is 1, free of the cancelled |x|^2:
            # log w + log N(x; a mu, v) + log(total).
            best = np.argmax(logits, axis=0)
            gap = X - at * mu.T[:, best]
            normal = -0.5 * (np.sum(gap * gap, axis=0) / v + d * (np.log(v) + _LOG_2PI))
            out["logpdf"][rows] = (law.log_w[best] + normal + np.log(total))[:kept]
        if "score" in out:  # last, because in place
            mean *= at
            mean -= X
            mean /= v
            _write(out["score"], rows, mean)


def _one_product(law: Law, x: np.ndarray, a: float, s: float, score: np.ndarray) -> None:
    """Score with one matrix product a block, by the precisions P_k = U_k diag(1/v_k) U_k^T.

    G_k = P_k (x - a mu_k),   l_k = log w_k - (x - a mu_k).G_k / 2 + log det(P_k) / 2,
    score = -sum_k r_k G_k.  The quadratic form is a difference of large terms, which the logarithm
    of the density would feel and responsibilities do not.
    """
    assert law.U is not None
    K, d = law.mu.shape
    centre = np.mean(law.mu, axis=0)
    mu = (law.mu - centre)[:, :, None]
    v = x.dtype.type(a * a) * law.lam + x.dtype.type(s * s)
    P = (law.U / v[:, None, :]) @ law.U.transpose(0, 2, 1)
    Pmu = P @ mu
    product = np.concatenate([P, -Pmu], axis=2).reshape(K * d, d + 1)  # acts on (x, a)
    pull = np.concatenate([Pmu, -mu.transpose(0, 2, 1) @ Pmu], axis=1)[
        :, :, 0
    ]  # mu_k.G_k of (x, a)
    level = law.log_w[:, None] - 0.5 * np.sum(np.log(v), axis=1)[:, None]
    for rows, block in _lifted(x, _width(K * d, x.itemsize), a):
        block[:d] -= centre[:, None] * block[d]
        G = (product @ block).reshape(K, d, -1)
        logits = np.einsum("dn,kdn->kn", block[:d], G)
        logits -= (pull @ block) * block[d]
        logits *= -0.5
        logits += level
        _exp_normalise(logits)
        logits /= -np.sum(logits, axis=0)
        score[rows] = np.einsum("kn,kdn->nd", logits, G)[: rows.stop - rows.start]


class _Basis:
    """Every component's whitened eigenbasis at one noise level, or one level a column.

    y_k = diag(v_k)^-1/2 (U_k^T x - a U_k^T mu_k) with v_k = a^2 lam_k + s^2; arrays are (K, d or 1,
    1 or width). In the coordinates (x, a) of a block, y_k is linear: one matrix product.
    """

    def __init__(self, law: Law, frame: np.ndarray | None, a: np.ndarray, s: np.ndarray) -> None:
        K, d = law.mu.shape
        self.a, self.mu, self.lam = a, law.mu[:, :, None], law.lam[:, :, None]
        self.v = a * a * self.lam + s * s
        self.scale = 1 / np.sqrt(self.v)
        self.copies = d / self.v.shape[1]  # a spherical component has one eigenvalue, d times
        # One logarithm for eight eigenvalues: their product neither over- nor underflows float64.
        step = 8 if self.v.dtype == np.float64 else 1
        products = np.multiply.reduceat(self.v, range(0, self.v.shape[1], step), axis=1)
        log_det = self.copies * np.sum(np.log(products), axis=1)
        self.log_normaliser = law.log_w[:, None] - 0.5 * (log_det + d * _LOG_2PI)
        # One level for all: scale the frame once.  A level a column: scale what it gives.
        self.frame, self.late = frame, True
        if frame is not None and self.v.shape[2] == 1:
            self.frame, self.late = (
                frame * np.broadcast_to(self.scale, (K, d, 1)).reshape(K * d, 1),
                False,
            )

    def trace(self) -> np.ndarray:
        """Trace (K, .) of every component's precision."""
        return np.asarray(self.copies * np.sum(1 / self.v, axis=1))

    def project(self, block: np.ndarray) -> np.ndarray:
        """Whitened coordinates (K, d, width) of the columns (x, a) of ``block`` (d + 1, width)."""
        if self.frame is None:
            return np.asarray((block[:-1] - self.mu * block[-1]) * self.scale)
        Y = (self.frame @ block).reshape(len(self.mu), -1, block.shape[1])
        if self.late:
            Y *= self.scale
        return np.asarray(Y)

    def back(self, Y: np.ndarray) -> np.ndarray:
        """Sum of U_k diag(v_k)^-1/2 Y_k over components, as rows (width, d)."""
        if self.late:
            Y = Y * self.scale
        if self.frame is None:
            return np.asarray(np.sum(Y, axis=0).T)
        return np.asarray(Y.reshape(len(self.frame), -1).T @ self.frame[:, :-1])


def _frame(law: Law) -> np.ndarray | None:
    """Rows (U_k^T, -U_k^T mu_k) of all components, (K d, d + 1); None if the U_k are the axes."""
    if law.U is None:
        return None
    transposed = law.U.transpose(0, 2, 1)
    K, d = law.mu.shape
    return np.concatenate([transposed, -(transposed @ law.mu[:, :, None])], axis=2).reshape(
        K * d, d + 1
    )


def _general(
    law: Law, x: np.ndarray, a: Level, s: Level, out: dict[str, np.ndarray], u: np.ndarray | None
) -> None:
    """Any covariances, in the whitened eigenbasis of each component."""
    K, d = law.mu.shape
    frame = _frame(law)
    width = _width(K * d, x.itemsize)
    one = x.dtype.type
    basis = _Basis(law, frame, one(a), one(s)) if isinstance(a, float) else None
    for rows, block in _lifted(x, width, a):
        at = basis or _Basis(law, frame, block[d], _pad(np.asarray(s), rows, width))
        Y = at.project(block)
        r = np.einsum("kdn,kdn->kn", Y, Y)
        r *= -0.5
        r += at.log_normaliser
        top = _exp_normalise(r)
        total = np.sum(r, axis=0)
        r /= total  # by the sum, not by exp(-logsumexp): that would scale the score by 1 + eps |l|
        if "logpdf" in out:
            out["logpdf"][rows] = (top + np.log(total))[: rows.stop - rows.start]
        _collect(law, at, Y, r, rows, out, u)


def _collect(
    law: Law,
    at: _Basis,
    Y: np.ndarray,
    r: np.ndarray,
    rows: slice,
    out: dict[str, np.ndarray],
    u: np.ndarray | None,
) -> None:
    """Write the wanted results of one block, from whitened coordinates Y and responsibilities r."""
    kept = rows.stop - rows.start
    if "resp" in out:
        out["resp"][rows] = r.T[:kept]
    if not out.keys() & {"score", "denoise", "divergence", "jvp"}:
        return
    in_place = out.keys() <= {"score", "logpdf", "resp"}
    weighted = np.multiply(Y, r[:, None, :], out=Y if in_place else None)
    if "denoise" in out:
        # E[x_0|x] = sum_k r_k (mu_k + a U_k (lam/v) U_k^T (x - a mu_k)), without division by a or s
        out["denoise"][rows] = (at.back(weighted * (at.a * at.lam)) + r.T @ law.mu)[:kept]
    score = -at.back(weighted)
    if "score" in out:
        out["score"][rows] = score[:kept]
    if "divergence" in out:
        g2 = np.einsum("kdn,kdn->kn", weighted, Y / at.v)  # r |P_k (x - a mu_k)|^2
        curvature = np.sum(g2, axis=0) - np.sum(r * at.trace(), axis=0)
        out["divergence"][rows] = (curvature - np.einsum("nd,nd->n", score, score))[:kept]
    if "jvp" in out and u is not None:
        # The extra coordinate stays 0: a direction has no mean to subtract.
        directions = np.zeros((score.shape[1] + 1, len(score)), score.dtype)
        directions[:-1, :kept] = u[rows].T
        Z = at.project(directions)
        along = np.einsum("kdn,kdn->kn", Y, Z)
        curved = at.back(weighted * along[:, None, :] - Z * r[:, None, :])
        out["jvp"][rows] = (
            curved - score * np.einsum("nd,dn->n", score, directions[:-1])[:, None]
        )[:kept]
