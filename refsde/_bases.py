"""Orthonormal bases of images: Fourier, cosine and the pixels themselves.

What is diagonal in one of them, a filter or the covariance of a random field, is a table with one
number a coefficient.  Tables cover the *full* grid of frequencies, in the order of
``numpy.fft.fftfreq``; real images need only half of their Fourier coefficients, and `Basis.kept`
takes that half of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from scipy import fft

from refsde._array import Array, is_numpy, like, namespace

__all__ = ["Basis", "images_of"]


@dataclass(frozen=True)
class Basis:
    """An orthonormal basis of the last axes of an event.

    Attributes
    ----------
    name : {"fft", "dct", "pixel"}
        Fourier; cosine (type 2, which reflects at the edges); or no transform at all.
    axes : int
        How many of the last axes it transforms: 2 for images (C, H, W) or (H, W).
    """

    name: Literal["fft", "dct", "pixel"]
    axes: int = 2

    @property
    def last(self) -> tuple[int, ...]:
        """The axes, counted from the last."""
        return tuple(range(-self.axes, 0))

    def forward(self, x: Array) -> Array:
        """Coefficients of ``x`` (..., *grid); those of Fourier are complex and half the grid."""
        if self.name == "pixel":
            return x
        if is_numpy(x):
            if self.name == "fft":
                return fft.rfftn(x, axes=self.last, norm="ortho")
            return fft.dctn(x, axes=self.last, norm="ortho")
        if self.name == "fft":
            return namespace(x).fft.rfftn(x, **self._where(x), norm="ortho")
        return self._cosines(x, inverse=False)

    def backward(self, X: Array, shape: Sequence[int]) -> Array:
        """Return what has the coefficients ``X`` (which are spent), events of ``shape``."""
        if self.name == "pixel":
            return X
        grid = tuple(shape)[-self.axes :]
        if is_numpy(X):
            if self.name == "fft":
                return fft.irfftn(X, grid, axes=self.last, norm="ortho", overwrite_x=True)
            return fft.idctn(X, axes=self.last, norm="ortho", overwrite_x=True)
        if self.name == "fft":
            return namespace(X).fft.irfftn(X, s=grid, **self._where(X), norm="ortho")
        return self._cosines(X, inverse=True)

    def _where(self, x: Array) -> dict[str, Any]:
        return {"dim" if namespace(x).__name__ == "torch" else "axes": self.last}

    def _cosines(self, x: Array, *, inverse: bool) -> Array:
        """Cosine transform by matrices, where the array library has none."""
        xp = namespace(x)
        for axis in self.last:
            C = _cosine_matrix(x.shape[axis])
            C = like(C.T if inverse else C, x)
            if axis == -1:
                x = xp.matmul(x, C.T)
            else:
                order = list(range(len(x.shape)))
                order[axis], order[-1] = order[-1], order[axis]
                swap = xp.permute if hasattr(xp, "permute") else xp.permute_dims
                x = swap(xp.matmul(swap(x, tuple(order)), C.T), tuple(order))
        return x

    def kept(self, table: np.ndarray) -> np.ndarray:
        """Return the part of a full-grid ``table`` that `forward` keeps."""
        if self.name != "fft":
            return table
        return np.ascontiguousarray(table[..., : table.shape[-1] // 2 + 1])

    def counts(self, shape: Sequence[int]) -> np.ndarray:
        """How many coefficients of the full grid each kept one stands for: 1, or 2 with a twin."""
        size = tuple(shape)[-1]
        if self.name != "fft":
            return np.ones(size)
        counts = np.full(size // 2 + 1, 2.0)
        counts[0] = 1.0
        if size % 2 == 0:
            counts[-1] = 1.0
        return counts

    def even(self, table: np.ndarray) -> np.ndarray:
        """Return the ``table`` at the opposite frequencies: the same, if it is a real filter's."""
        if self.name != "fft":
            return table
        flipped = np.flip(table, axis=self.last)
        return np.roll(flipped, 1, axis=self.last)

    def frequency(self, shape: Sequence[int]) -> np.ndarray:
        """Length |k| of every frequency (*grid) of the full grid, in cycles a longest edge.

        Cosines count half cycles, so that both are integers on a square's axes.
        """
        edges = tuple(shape)[-self.axes :]
        squares, longest = np.zeros(edges), max(edges)
        if self.name == "pixel":
            return squares
        for axis, n in enumerate(edges):
            index = np.fft.fftfreq(n, 1 / n) if self.name == "fft" else np.arange(n)
            aligned = [1] * len(edges)
            aligned[axis] = n
            squares = squares + (index.reshape(aligned) * (longest / n)) ** 2
        return np.asarray(np.sqrt(squares))

    @property
    def real(self) -> bool:
        """Whether coefficients are real numbers."""
        return self.name != "fft"


@lru_cache(maxsize=8)
def _cosine_matrix(n: int) -> np.ndarray:
    return np.asarray(fft.dct(np.eye(n), axis=0, norm="ortho"))


def images_of(name: str, values: Any) -> np.ndarray:
    """Images (n, H, W) or (n, C, H, W) as a caller gives them, in floating point, or raise."""
    try:
        images = np.asarray(values)
    except (TypeError, ValueError) as problem:
        raise TypeError(f"`{name}` must be images, got {type(values).__name__}") from problem
    if images.dtype.kind in "iub":
        raise TypeError(
            f"`{name}` must be floating point, got dtype {images.dtype}: scale it to the units of "
            "the samples, such as images / 255"
        )
    if images.dtype.kind != "f":
        raise TypeError(f"`{name}` must be real images, got dtype {images.dtype}")
    if images.ndim < 3 or images.size == 0:
        raise ValueError(
            f"`{name}` must be images (n, H, W) or (n, C, H, W), got shape {images.shape}: batch "
            f"first, so write one image as {name}[None]"
        )
    if images.ndim == 4 and images.shape[-1] in (1, 3, 4) and min(images.shape[1:3]) > 4:
        raise ValueError(
            f"`{name}` must have channels first, (n, C, H, W), got shape {images.shape}: use "
            "numpy.moveaxis(images, -1, 1)"
        )
    return np.asarray(images, dtype=float)
