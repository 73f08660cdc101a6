r"""A Brownian path that forgets nothing it has shown: rejection with memory.

A rejected attempt has looked at the path up to its end.  To draw afresh for the shorter retry would
throw away what was seen *because* of what was seen, and bias the result, however small the
tolerance.  So the path ahead is kept as pieces, each with its increment W and its space-time Levy
area H.  A question that ends within a piece splits it by the law of a bridge; one that goes beyond
the last piece continues the path with fresh noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from refsde._array import Array, Time, like, per_sample, to_numpy
from refsde.noise.keyed import Keyed, ascending

__all__ = ["RetainedPath"]

LINES = 4  # pieces for which there is room at first, a power of 2; more is made when needed
BESIDE = 2**32  # calls for the start of a question, which is seldom new


class RetainedPath(Keyed):
    r"""One Brownian path a sample, of which every part once shown is kept until it is passed.

    .. math:: W_{qh} \mid W_h \sim N(q W_h,\ q (1 - q) h) \quad\text{for } 0 < q < 1

    Parameters
    ----------
    rng : int, Generator, SeedSequence or None
        Seed, as for `Gaussian`.
    key : int, optional
        Instead of ``rng``: the key itself, such as ``solution.seed_entropy``, to repeat a run.

    Raises
    ------
    TypeError, ValueError
        If ``rng`` is no seed; when asked for a part of the path that was let go, against its
        direction, or for Levy areas of pieces that were kept without.

    Notes
    -----
    It is the default under `Adaptive`.  A retry that is shorter is given the part of the increment
    that it was shown before (in law, by a bridge), and the rest stays ahead: steps that depend on
    the noise then leave the law of the path alone.  Where nothing is rejected it draws what
    `Gaussian` draws, bit for bit.

    `settle` drops what is passed; the loop calls it after every attempt.  Without it nothing is
    forgotten, memory grows, and the time of a question grows with the number of those before.
    Questions may start anywhere from there on, but go in one direction.  For questions in any order
    there is `BrownianTree`.

    Which part of its noise a sample is given depends on all digits of its steps.  Two computers
    that round differently draw other paths of the same law, where `Gaussian` would differ by
    rounding alone.

    References
    ----------
    Rackauckas and Nie (2017), Adaptive methods for stochastic differential equations via natural
    embeddings and rejection sampling with memory (RSwM3); Foster, Lyons and Oberhauser (2020), for
    the split of increment and area.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> noise, x = rs.RetainedPath(0), np.zeros((3, 2))
    >>> whole, first = noise.increment(1.0, 0.5, x), noise.increment(1.0, 0.8, x)
    >>> bool(np.allclose(first + noise.increment(0.8, 0.5, x), whole, rtol=0, atol=1e-15))
    True
    """

    def __init__(self, rng: Any = None, *, key: int | None = None) -> None:
        super().__init__(rng, key=key)
        self._pieces: _Pieces | None = None

    def on(self, rows: np.ndarray) -> Self:
        """Return the source for the absolute samples ``rows``, ascending, with their pasts."""
        source = super().on(rows)
        if self._pieces is not None:
            held = np.arange(self._pieces.n) if self._rows is None else self._rows
            index = np.searchsorted(held, ascending(rows))
            if np.any(index >= len(held)) or not np.array_equal(held[index], rows):
                raise ValueError(
                    f"`rows` must be among the {len(held)} samples whose paths have begun, got "
                    f"{rows!r}: start a new RetainedPath for others"
                )
            source._pieces = self._pieces.take(index)
        return source

    def increment(self, t: Time, s: Time, x: Array) -> Array:
        """Brownian increment w(s) - w(t), variance |s - t|, shaped like ``x`` (B, *D)."""
        return like(self._ask(t, s, x, areas=False)[0], x)

    def levy(self, t: Time, s: Time, x: Array) -> tuple[Array, Array]:
        """Increment and space-time Levy area (dW, H) over the interval, joined from the pieces."""
        dw, h = self._ask(t, s, x, areas=True)
        return like(dw, x), like(h, x)

    def settle(self, t: Time) -> None:
        """Let go of what lies before ``t`` (one time, or one a sample): it is passed for good."""
        if self._pieces is not None:
            self._pieces.drop(_flat(t, self._pieces.n))

    def _ask(self, t: Time, s: Time, x: Array, areas: bool) -> tuple[np.ndarray, Any]:
        n, event, call = len(self._samples(x)), tuple(x.shape[1:]), self._call
        begin, end = _flat(t, n), _flat(s, n)
        pieces = self._pieces
        if pieces is None:
            pieces = self._pieces = _Pieces(begin, event, areas)
        if event != pieces.dw.shape[1:]:
            raise ValueError(
                f"`x` must hold samples of shape {pieces.dw.shape[1:]}, whose paths have begun, "
                f"got {event}: take a new RetainedPath"
            )
        if n != pieces.n:
            raise ValueError(
                f"`x` must hold the {pieces.n} samples whose paths have begun, got {n}: take "
                "theirs with noise.on(rows)"
            )
        if areas and pieces.h is None and pieces.idle:
            pieces.h = np.empty_like(pieces.dw)
        if areas and pieces.h is None:
            raise ValueError(
                "`levy` was asked of a path whose pieces ahead were shown without their areas: "
                "ask for levy from the start of the step, and take its increment"
            )

        def normals(call: int) -> list[np.ndarray]:
            return [self._draw(x, call + i) for i in range(1 if pieces.h is None else 2)]

        self._call += 1 if pieces.h is None else 2
        pieces.direct(begin, end)
        pieces.cut(begin, lambda: normals(BESIDE + call))
        pieces.cut(end, lambda: normals(call))
        return pieces.join(begin, end)


def _flat(t: Time, n: int) -> np.ndarray:
    values = to_numpy(t).reshape(-1).astype(float) if per_sample(t) else np.full(1, float(t))
    return np.broadcast_to(values, (n,)).copy()


class _Pieces:
    """The path ahead of ``n`` samples: of sample i the pieces ``far[i]`` to ``near[i] - 1``.

    The nearest piece has the highest number, so that splitting it appends one; the path is
    continued in front, by a lower number.  Piece p of sample i stands in row ``_at(p, i)``.

    Attributes
    ----------
    since : array (n,)
        Time at which the nearest piece begins.
    end : array (lines n,)
        Far end of each piece.
    dw, h : arrays (lines n, *D)
        Increment and area of each piece; ``h`` is None where nobody asks for areas.
    """

    def __init__(self, since: np.ndarray, event: tuple[int, ...], areas: bool) -> None:
        self.n = n = len(since)
        self.since = since.copy()
        self.sign = 0.0  # of the direction: +1 if time ascends
        self.lines = LINES
        self.end = np.empty(LINES * n)
        self.dw = np.empty((LINES * n, *event))
        self.h = np.empty((LINES * n, *event)) if areas else None
        self.near, self.far = np.zeros(n, int), np.zeros(n, int)

    @property
    def idle(self) -> bool:
        """Whether nothing is kept, so that it may begin anew."""
        return bool(np.all(self.near == self.far))

    @property
    def arrays(self) -> list[np.ndarray]:
        """What is held of every piece."""
        return [self.end, self.dw] if self.h is None else [self.end, self.dw, self.h]

    def take(self, index: np.ndarray) -> _Pieces:
        """The pieces of the samples ``index``."""
        part = object.__new__(_Pieces)
        part.n, part.sign, part.lines = len(index), self.sign, self.lines
        part.since, part.near, part.far = self.since[index], self.near[index], self.far[index]
        at = (self.n * np.arange(self.lines)[:, None] + index).ravel()
        part.end, part.dw = self.end[at], self.dw[at]
        part.h = None if self.h is None else self.h[at]
        return part

    def _at(self, p: Any, rows: np.ndarray) -> np.ndarray:
        """Where the pieces ``p`` of the samples ``rows`` stand, in line p modulo ``lines``."""
        return np.asarray((p & (self.lines - 1)) * self.n + rows)  # lines is a power of 2

    def direct(self, begin: np.ndarray, end: np.ndarray) -> None:
        """Fix the direction by the first question, and check later ones against it."""
        steps = end - begin
        self.sign = self.sign or float(np.sign(steps[np.argmax(np.abs(steps))]))
        wrong = steps * self.sign < 0
        if np.any(wrong):
            i = int(np.argmax(wrong))
            raise ValueError(
                f"`t`, `s` = {begin[i]:.6g}, {end[i]:.6g} run against the direction of this path: "
                "use BrownianTree for questions in any order"
            )
        gone = (self.since - begin) * self.sign > 0
        if np.any(gone):
            i = int(np.argmax(gone))
            raise ValueError(
                f"`t` = {begin[i]:.6g} lies in a part of the path that was let go, before "
                f"{self.since[i]:.6g}: use BrownianTree for questions in any order"
            )

    def drop(self, t: np.ndarray) -> None:
        """Forget the pieces that end at ``t`` or before."""
        rows = np.flatnonzero(self.near > self.far)
        while len(rows):
            last = self.near[rows] - 1
            ends = self.end[self._at(last, rows)]
            passed = np.flatnonzero((t[rows] - ends) * self.sign >= 0)
            rows, last = rows[passed], last[passed]
            self.since[rows], self.near[rows] = ends[passed], last
            rows = rows[np.flatnonzero(last > self.far[rows])]
        # Where nothing is known ahead, the path may as well go on from t.
        idle = (self.near == self.far) & ((t - self.since) * self.sign > 0)
        self.since[idle] = t[idle]

    def cut(self, u: np.ndarray, normals: Callable[[], list[np.ndarray]]) -> None:
        """Let a piece end at the time ``u`` of every sample, by a split or by fresh noise."""
        ahead = (u - self.since) * self.sign > 0  # else u is where they begin
        if not np.any(ahead):
            return
        p = self.near - 1  # the piece that reaches u, or far - 1 if none does
        short, within = np.flatnonzero(ahead & (p >= self.far)), []
        while len(short):
            gap = (u[short] - self.end[self._at(p[short], short)]) * self.sign
            within.append(short[np.flatnonzero(gap < 0)])
            short = short[np.flatnonzero(gap > 0)]
            p[short] -= 1
            short = short[np.flatnonzero(p[short] >= self.far[short])]
        fresh = np.flatnonzero(ahead & (p < self.far))
        split = np.concatenate(within) if within else fresh[:0]
        if not len(fresh) and not len(split):
            return
        z = normals()
        if np.max(self.near - self.far) == self.lines:
            self._make_room()
        if len(fresh):
            self._continue(fresh, u[fresh], z)
        if len(split):
            self._split(split, p[split], u[split], [normal[split] for normal in z])

    def _make_room(self) -> None:
        """Twice as many lines, and every piece in the line that is now its own."""
        # p modulo 2 k is p modulo k, or k more: in two copies it is found either way.
        self.lines *= 2
        self.end, self.dw = np.concatenate([self.end] * 2), np.concatenate([self.dw] * 2)
        self.h = None if self.h is None else np.concatenate([self.h] * 2)

    def _continue(self, rows: np.ndarray, u: np.ndarray, z: list[np.ndarray]) -> None:
        """Fresh noise from the end of all pieces to ``u``."""
        last = self.far[rows]
        edge = np.where(self.near[rows] > last, self.end[self._at(last, rows)], self.since[rows])
        length = self._column(np.abs(u - edge))
        self.far[rows] = last - 1
        at = self._at(last - 1, rows)
        self.end[at] = u
        everyone = len(rows) == self.n
        self.dw[at] = (z[0] if everyone else z[0][rows]) * np.sqrt(length)
        if self.h is not None:
            self.h[at] = (z[1] if everyone else z[1][rows]) * np.sqrt(length / 12)

    def _split(self, rows: np.ndarray, p: np.ndarray, u: np.ndarray, z: list[np.ndarray]) -> None:
        """Split piece ``p`` at ``u``: its near part moves in behind it."""
        near, at, behind = self.near[rows], self._at(p, rows), self._at(p + 1, rows)
        begin = np.where(p + 1 == near, self.since[rows], self.end[behind])
        h1, h2 = (self._column(np.abs(edge - u)) for edge in (begin, self.end[at]))
        parts = _bridge(h1, h2, self.dw[at], None if self.h is None else self.h[at], z)
        k = near
        while len(up := np.flatnonzero(k > p + 1)):  # nearer pieces move up by one
            for a in self.arrays:
                a[self._at(k[up], rows[up])] = a[self._at(k[up] - 1, rows[up])]
            k = k - 1
        self.near[rows] = near + 1
        self.end[behind] = u
        self.dw[behind], self.dw[at], *areas = parts
        if self.h is not None:
            self.h[behind], self.h[at] = areas

    def _column(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, *[1] * (self.dw.ndim - 1))

    def join(self, begin: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Increment and area of the pieces from ``begin`` to ``end``, both of which are cuts."""
        W = np.zeros((self.n, *self.dw.shape[1:]))
        H = None if self.h is None else np.zeros_like(W)
        # A slice while all are concerned, as they are at first: it costs less than an index.
        rows: Any = np.flatnonzero((end - begin) * self.sign > 0)
        rows = rows if len(rows) < self.n else slice(None)
        p, start = self.near[rows] - 1, self.since[rows]
        while len(p):
            at = self._at(p, np.arange(self.n)[rows])
            ends, dw = self.end[at], self.dw.take(at, axis=0)
            before = (begin[rows] - ends) * self.sign >= 0  # what lies before the question
            if np.any(before):
                dw[before] = 0
            if H is not None and self.h is not None:
                # Chen's relation, by the share that this piece has of all so far.
                span = np.where(before, 1.0, np.abs(ends - begin[rows]))
                q = self._column(np.where(before, 0.0, np.abs(ends - start) / span))
                H[rows] += q * (self.h.take(at, axis=0) - H[rows]) + 0.5 * (q * (W[rows] + dw) - dw)
            W[rows] += dw
            more = np.flatnonzero((end[rows] - ends) * self.sign > 0)
            rows, p, start = np.arange(self.n)[rows][more], p[more] - 1, ends[more]
        return W, H


def _bridge(
    h1: np.ndarray,
    h2: np.ndarray,
    W: np.ndarray,
    H: np.ndarray | None,
    z: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Split an interval into ``h1`` and ``h2``: increments and areas of both, given the whole's.

    Given W alone the first increment is a Brownian bridge's.  Given H too, two normals settle both
    halves, whose joint law is that of independent increments and areas.
    """
    h = h1 + h2
    if H is None:
        W1 = (h1 / h) * W + np.sqrt(h1 * h2 / h) * z[0]
        return W1, W - W1, None, None
    v = 0.5 * np.sqrt(h1 * h2 / (h1**3 + h2**3))
    a, b, c = v * h1**2 / h, v * h2**2 / h, v / np.sqrt(3.0)
    turn = (6 * h1 * h2 / h**2) * H + (2 * (a * h1 + b * h2) / h) * z[0]
    H1 = (h1 / h) ** 2 * H - a * z[0] + c * h2 * z[1]
    H2 = (h2 / h) ** 2 * H - b * z[0] - c * h1 * z[1]
    return (h1 / h) * W + turn, (h2 / h) * W - turn, H1, H2
