"""What the keyed sources share: a key, the samples they answer for, and normals beside the path."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import Array, like
from refsde._random import START, KeyedNormals, run_key

__all__ = ["Keyed", "ascending"]


class Keyed:
    """A source whose draws are a table addressed by (key, block of samples, number of the call).

    Parameters
    ----------
    rng : int, Generator, SeedSequence or None
        Seed.
    key : int, optional
        Instead of ``rng``: the key itself.
    """

    def __init__(self, rng: Any = None, *, key: int | None = None) -> None:
        if key is not None and not (isinstance(key, int | np.integer) and 0 <= key < 2**64):
            raise ValueError(
                f"`key` must be an int in [0, 2**64), got {key!r}: pass solution.seed_entropy, or "
                "`rng`"
            )
        self.key = run_key(rng) if key is None else int(key)
        self._rows: np.ndarray | None = None
        self._table = KeyedNormals(self.key)
        self._call = 0

    def on(self, rows: np.ndarray) -> Self:
        """Return the source for the absolute samples ``rows``, ascending, at the same question."""
        source = copy.copy(self)  # of a subclass too
        source._rows, source._table = ascending(rows), KeyedNormals(self.key)
        return source

    def normal(self, x: Array) -> Array:
        """Independent unit normals shaped, typed and placed like ``x`` (B, *D)."""
        return like(self._next(x), x)

    def start(self, x: Array) -> Array:
        """Unit normals for the initial state; their own stream, not part of the path."""
        return like(self._draw(x, START), x)

    def _next(self, x: Array) -> np.ndarray:
        """Float64 normals (B, *D) of the next call."""
        self._call += 1
        return self._draw(x, self._call - 1)

    def _draw(self, x: Array, call: int) -> np.ndarray:
        return self._table.normal(self._samples(x), tuple(x.shape[1:]), call)

    def _samples(self, x: Array) -> np.ndarray:
        """Absolute indices of the samples in ``x``."""
        rows = np.arange(x.shape[0]) if self._rows is None else self._rows
        if len(rows) != x.shape[0]:
            raise ValueError(
                f"`x` must hold the {len(rows)} samples of this source, got {x.shape[0]}: "
                "take theirs with noise.on(rows)"
            )
        return rows

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key})"


def ascending(rows: ArrayLike) -> np.ndarray:
    """Indices of samples, checked: blocks are drawn in order, so another order would mix them."""
    index = np.asarray(rows)
    if (
        index.ndim != 1
        or index.dtype.kind not in "iu"
        or np.any(index < 0)
        or np.any(np.diff(index) <= 0)
    ):
        raise ValueError(
            f"`rows` must be indices of samples, non-negative and ascending, got {rows!r}: sort "
            "them"
        )
    return index
