"""Counter-based normals, so that sample i depends on (rng, i) alone.

The normals of a run are an infinite table, addressed by (key, block, call): Philox is keyed by
(key, block), the number of the call stands in the highest word of its counter, and one call is
drawn row-major, so that a shorter batch reads a prefix of what a longer one reads.  A block is a
fixed number of samples and part of the definition of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

__all__ = ["KeyedNormals", "block_rows", "run_key"]

START = 2**64 - 1  # the call reserved for a run's initial draw
_U64 = np.uint64


def run_key(rng: np.random.Generator | int | None | object) -> int:
    """The 64-bit key of a run; an int and a Generator made from it give the same key."""
    try:
        generator = np.random.default_rng(rng)  # type: ignore[arg-type]
    except (TypeError, ValueError) as problem:
        raise TypeError(
            "`rng` must be None, a non-negative int, a SeedSequence or a numpy Generator, got "
            f"{rng!r}"
        ) from problem
    return int(generator.integers(2**64, dtype=np.uint64))


def block_rows(event_size: int) -> int:
    """Samples in a noise block: 16384 for small events, else the power of two with B*D <= 2**20."""
    if event_size <= 64:
        return 16384
    return int(max(1, 2 ** int(np.floor(np.log2(2**20 / event_size)))))


class KeyedNormals:
    """Unit normals and uniforms by address (key, block, call)."""

    def __init__(self, key: int) -> None:
        self.key = key
        self._bits = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._bits)

    def _seek(self, block: int, call: int) -> None:
        # Re-keying one Philox costs a quarter of making a new one.
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {
                "counter": np.array([0, 0, 0, call], _U64),
                "key": np.array([self.key, block], _U64),
            },
            "buffer": np.zeros(4, _U64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }

    def normal(self, rows: np.ndarray, event: tuple[int, ...], call: int) -> np.ndarray:
        """Float64 normals (len(rows), *event) of the absolute samples ``rows``, ascending."""
        return self._gather(rows, event, call, self._generator.standard_normal)

    def uniform(self, rows: np.ndarray, event: tuple[int, ...], call: int) -> np.ndarray:
        """Float64 uniforms on [0, 1) of the absolute samples ``rows``, ascending."""
        return self._gather(rows, event, call, self._generator.random)

    def bits(self, rows: np.ndarray, event: tuple[int, ...], call: int) -> np.ndarray:
        """64-bit integers (len(rows), *event) of the absolute samples ``rows``, ascending."""

        def draw(shape: tuple[int, ...]) -> np.ndarray:
            return self._generator.integers(2**64, size=shape, dtype=_U64)

        return self._gather(rows, event, call, draw)

    def _gather(
        self,
        rows: np.ndarray,
        event: tuple[int, ...],
        call: int,
        draw: Callable[[tuple[int, ...]], np.ndarray],
    ) -> np.ndarray:
        size = block_rows(math.prod(event))
        parts = []
        first, last = (int(rows[0]) // size, int(rows[-1]) // size) if len(rows) else (0, -1)
        edges = np.searchsorted(rows, size * np.arange(first, last + 2))
        for block, (i, j) in enumerate(zip(edges[:-1], edges[1:], strict=True), start=first):
            if i == j:
                continue
            local = rows[i:j] - block * size
            self._seek(block, call)
            drawn = draw((int(local[-1]) + 1, *event))
            parts.append(drawn if len(drawn) == len(local) else drawn[local])
        if len(parts) == 1:
            return np.asarray(parts[0])
        return np.concatenate(parts) if parts else np.empty((0, *event))
