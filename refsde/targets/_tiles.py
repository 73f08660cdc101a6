r"""NumPy fast path of the diffused points: tiles of points times blocks of samples.

The points may be many, so the responsibilities are never all held: the kernel walks through the
points tile by tile with a running maximum and running sums, as an online log-sum-exp does.  Tiles
and blocks have fixed shapes, padded, because BLAS rounds differently for other shapes and sample i
must not depend on its batch mates.

The readable definition is `empirical_formula`; the tests hold this equal to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsde.targets._kernels import _LOG_2PI, Level, Wanted, _blocks, _pad, _width

__all__ = ["Tiles", "evaluate_points"]

_TILE = 512  # points in a tile, at most
_NEVER = -1e30  # the log weight of a point that is never drawn: finite, since 0 * inf is not 0


@dataclass(frozen=True)
class Tiles:
    """The points in tiles of one size, each row (p - c, -|p - c|^2 / 2, log w, 1).

    Multiplied with columns (a X / v, a^2 / v, 1, 0), X = x - a c, a tile gives the logits, where
    |x|^2 has cancelled; its transpose, multiplied with responsibilities, gives their moments.
    The last tile is padded with points of no weight.

    Attributes
    ----------
    centre : array (d,)
        Mean c of the points: without it the products are larger and lose digits.
    table : array (tiles, rows, d + 3)
        The rows.
    size : int
        Number of points N.
    """

    centre: np.ndarray
    table: np.ndarray
    size: int

    @classmethod
    def of(cls, points: np.ndarray, log_w: np.ndarray, dtype: np.dtype) -> Tiles:
        """Tiles of the ``points`` (N, d) with log weights (N,), in the given precision."""
        N, d = points.shape
        tiles = -(-N // _TILE)
        rows = 8 * math.ceil(N / tiles / 8)
        centre = np.mean(points, axis=0)
        table = np.zeros((tiles * rows, d + 3))
        table[:N, :d] = points - centre
        table[:N, d] = -0.5 * np.sum(table[:N, :d] ** 2, axis=1)
        table[:N, d + 1] = np.maximum(log_w, _NEVER)
        table[N:, d + 1] = _NEVER
        table[:, d + 2] = 1
        return cls(centre.astype(dtype), table.reshape(tiles, rows, d + 3).astype(dtype), N)

    @property
    def dim(self) -> int:
        """Dimension d."""
        return len(self.centre)

    def points(self, which: np.ndarray) -> np.ndarray:
        """Centred points ``which`` as columns (d, len(which))."""
        return np.asarray(self.table.reshape(-1, self.dim + 3)[which, : self.dim].T)

    def log_w(self, which: np.ndarray) -> np.ndarray:
        """Log weights of the points ``which``."""
        return np.asarray(self.table.reshape(-1, self.dim + 3)[which, self.dim + 1])


@dataclass
class _Posterior:
    """What one pass over the tiles finds out about a block of samples."""

    top: np.ndarray  # (width,): the largest logit
    best: np.ndarray  # (width,): whose it is, if asked for
    moments: np.ndarray  # (d + 3, width): sums of table rows weighted with exp(logit - top)

    @property
    def total(self) -> np.ndarray:
        return np.asarray(self.moments[-1])


def _exp(logits: np.ndarray) -> np.ndarray:
    # Float64 exp is five times slower where its results are subnormal; float32 exp is not.
    if logits.dtype == np.float64:
        np.maximum(logits, -700.0, out=logits)
    return np.asarray(np.exp(logits, out=logits))


def _walk(tiles: Tiles, columns: np.ndarray, find_best: bool) -> _Posterior:
    """Walk once over the tiles with a running maximum and sums, skipping what cannot matter."""
    width = columns.shape[1]
    table = tiles.table
    real = columns.dtype.type
    # all points that fall short of the maximum by this much are together below one rounding
    negligible = real(-math.log(np.finfo(real).eps) + math.log(table.shape[0] * table.shape[1]))
    logits = np.empty((table.shape[1], width), real)
    part = np.empty_like(columns)
    found = _Posterior(np.full(width, -np.inf, real), np.zeros(width, int), np.zeros_like(columns))
    for j, tile in enumerate(table):
        np.matmul(tile, columns, out=logits)
        peak = np.max(logits, axis=0)
        if find_best:
            best = np.argmax(logits, axis=0) + j * len(tile)
            found.best = np.where(peak > found.top, best, found.best)
        matters = ~(peak <= found.top - negligible)  # a NaN matters
        if not np.any(matters):
            continue
        top = np.maximum(found.top, peak)
        logits -= top
        np.matmul(tile.T, _exp(logits), out=part)
        part *= matters  # else the bits of a sample would depend on its batch mates' needs
        found.moments *= np.exp(found.top - top)
        found.moments += part
        found.top = top
    return found


def _spread(
    tiles: Tiles, columns: np.ndarray, found: _Posterior, u: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Trace (width,) of the posterior covariance, and its product (d, width) with ``u`` if given.

    Moments are taken about the likeliest point q, of the *other* points only: at low noise their
    weight is tiny, and so is then the error of the cancelling squares.
    """
    d, rows = tiles.dim, tiles.table.shape[1]
    q = tiles.points(found.best)
    moments, along = np.zeros_like(columns), np.zeros_like(columns)
    q_u = np.sum(q * u, axis=0) if u is not None else None
    for j, tile in enumerate(tiles.table):
        r = tile @ columns
        r -= found.top
        r = _exp(r)
        here = np.flatnonzero(found.best // rows == j)
        r[found.best[here] - j * rows, here] = 0
        moments += tile.T @ r
        if u is not None:
            r *= tile[:, :d] @ u - q_u
            along += tile.T @ r
    moments /= found.total
    along /= found.total
    first, half_square, rest = moments[:d], -moments[d], moments[-1]
    shift = first - q * rest  # E[x_0 | x] - q
    trace = 2 * half_square - 2 * np.sum(q * first, axis=0) + rest * np.sum(q * q, axis=0)
    trace -= np.sum(shift * shift, axis=0)
    if u is None:
        return trace, None
    return trace, along[:d] - q * along[-1] - shift * np.sum(shift * u, axis=0)


@dataclass
class _Block:
    """Samples as columns, centred, at their noise level."""

    X: np.ndarray  # (d, width): x - a c
    a: Any  # number, or (width,)
    v: Any
    columns: np.ndarray  # (d + 3, width): what the tiles are multiplied with

    @classmethod
    def of(cls, tiles: Tiles, block: np.ndarray, a: Any, s: Any) -> _Block:
        X, v = block - tiles.centre[:, None] * a, s * s
        columns = np.zeros((len(X) + 3, X.shape[1]), X.dtype)
        columns[: len(X)] = X * (a / v)
        columns[len(X)] = a * a / v
        columns[len(X) + 1] = 1
        return cls(X, a, v, columns)


def evaluate_points(
    tiles: Tiles, x: np.ndarray, a: Level, s: Level, want: Wanted, u: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Evaluate what is wanted at the points ``x`` (n, d), for a level shared or one a point."""
    n, one, rows_of_tile = len(x), x.dtype.type, tiles.table.shape[1]
    out = {name: np.empty_like(x) for name in want & {"score", "denoise", "jvp"}}
    out |= {name: np.empty(n, x.dtype) for name in want & {"logpdf", "divergence"}}
    if "resp" in want:
        out["resp"] = np.empty((n, tiles.size), x.dtype)
    width = _width(max(rows_of_tile, tiles.dim + 3), x.itemsize)
    for rows, columns in _blocks(x, width):
        kept = rows.stop - rows.start
        if kept < width:  # pad by the last sample: zeros may need tiles that no sample needs
            columns[:, kept:] = columns[:, kept - 1 : kept]
        a_, s_ = (one(q) if isinstance(q, float) else _pad(q, rows, width) for q in (a, s))
        block = _Block.of(tiles, columns, a_, s_)
        found = _walk(tiles, block.columns, bool(want & {"logpdf", "divergence", "jvp"}))
        _collect(tiles, block, found, rows, out)
        if want & {"divergence", "jvp"}:
            directions = None if u is None else next(b for _, b in _blocks(u[rows], width))
            _curvature(tiles, block, found, rows, out, directions)
    return out


def _collect(
    tiles: Tiles, block: _Block, found: _Posterior, rows: slice, out: dict[str, np.ndarray]
) -> None:
    """Write what follows from the first moments of one block."""
    kept, mean = rows.stop - rows.start, found.moments[: tiles.dim] / found.total
    if "denoise" in out:
        out["denoise"][rows] = (tiles.centre[:, None] + mean).T[:kept]
    if "score" in out:
        out["score"][rows] = ((block.a * mean - block.X) / block.v).T[:kept]
    if "logpdf" in out:
        # From the winner: log w + log N(x; a p, v) - log r, free of the cancelled |x|^2.
        gap = block.X - block.a * tiles.points(found.best)
        log_det = tiles.dim * (np.log(block.v) + _LOG_2PI)
        normal = -0.5 * (np.sum(gap * gap, axis=0) / block.v + log_det)
        out["logpdf"][rows] = (tiles.log_w(found.best) + normal + np.log(found.total))[:kept]
    if "resp" in out:
        for j, tile in enumerate(tiles.table):
            r = np.exp(tile @ block.columns - found.top) / found.total
            held = out["resp"][rows, j * len(tile) : (j + 1) * len(tile)]
            held[...] = r.T[:kept, : held.shape[1]]


def _curvature(
    tiles: Tiles,
    block: _Block,
    found: _Posterior,
    rows: slice,
    out: dict[str, np.ndarray],
    u: np.ndarray | None,
) -> None:
    """Write what follows from the posterior covariance: J = -I / v + (a / v)^2 Cov[x_0 | x]."""
    trace, product = _spread(tiles, block.columns, found, u)
    kept, gain = rows.stop - rows.start, (block.a / block.v) ** 2
    if "divergence" in out:
        out["divergence"][rows] = (gain * trace - tiles.dim / block.v)[:kept]
    if "jvp" in out and product is not None and u is not None:
        out["jvp"][rows] = (gain * product - u / block.v).T[:kept]
