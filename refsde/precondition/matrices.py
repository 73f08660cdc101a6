"""Maps given as matrices, dense or sparse, which act on flattened events."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, sparse
from scipy.sparse.linalg import splu

from refsde._array import Array, is_numpy, like, namespace
from refsde.precondition.operators import Preconditioner

__all__ = ["Dense", "Skew"]

ROWS = 256  # events in a matrix product, always: BLAS rounds differently for other numbers


class Dense(Preconditioner):
    """A matrix, dense or sparse, acting on flattened events.

    Parameters
    ----------
    matrix : array or SciPy sparse array (d, d)
        The matrix M.
    event_shape : tuple of int, optional
        Shape of an event, of d numbers; (d,) by default.

    Raises
    ------
    ValueError
        If the matrix is not square or not finite, or d is not the size of an event.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> M = rs.precondition.Dense([[1.0, 0.0], [1.0, 2.0]])
    >>> M.gram(np.array([[1.0, 0.0]])), M.solve(np.array([[1.0, 3.0]]))
    (array([[1., 1.]]), array([[1., 1.]]))
    """

    def __init__(self, matrix: Any, event_shape: Sequence[int] | None = None) -> None:
        self._sparse = sparse.issparse(matrix)
        self.matrix = _square("matrix", matrix)
        self.event_shape = _event_of("matrix", self.matrix, event_shape)
        self._factors: Any = None

    @classmethod
    def from_gram(cls, A: ArrayLike, event_shape: Sequence[int] | None = None) -> Self:
        """Symmetric M with M M^T = A, for a symmetric positive semi-definite ``A`` (d, d)."""
        return cls(_root("A", A), event_shape)

    @classmethod
    def of(cls, M: Preconditioner, event_shape: Sequence[int] | None = None) -> Self:
        """Matrix of a map on flattened events (d,), for targets of vectors and small events."""
        operator = M.as_linear_operator(event_shape)
        return cls(operator @ np.eye(operator.shape[0]))

    def apply(self, z: Array) -> Array:
        """M z."""
        return self._product(z, self.matrix)

    def apply_transpose(self, z: Array) -> Array:
        """M^T z."""
        return self._product(z, self.matrix.T)

    def _product(self, z: Array, matrix: Any) -> Array:
        self._check(z)
        rows = namespace(z).reshape(z, (-1, matrix.shape[0]))
        return namespace(z).reshape(_times(rows, matrix), tuple(z.shape))

    def solve(self, z: Array) -> Array:
        """M^-1 z, by an LU factorisation made once."""
        return self._solved(z, transposed=False)

    def solve_transpose(self, z: Array) -> Array:
        """M^-T z, by the same factorisation."""
        return self._solved(z, transposed=True)

    def _solved(self, z: Array, *, transposed: bool) -> Array:
        self._check(z)
        xp, rows = namespace(z), namespace(z).reshape(z, (-1, self.matrix.shape[0]))
        lu = self._lu()
        if not is_numpy(z):
            matrix = like(_array(self.matrix.T if transposed else self.matrix), z)
            return xp.reshape(xp.linalg.solve(matrix, rows.mT).mT, tuple(z.shape))

        def act(block: np.ndarray) -> np.ndarray:
            if self._sparse:
                return np.asarray(lu.solve(block.T, "T" if transposed else "N").T)
            return np.asarray(linalg.lu_solve(lu, block.T, trans=1 if transposed else 0).T)

        return _by_blocks(rows, act).reshape(z.shape)

    def _lu(self) -> Any:
        if self._factors is None:
            if not math.isfinite(self.logdet()):
                raise ValueError(f"`matrix` of {self!r} is singular, so that M^-1 does not exist")
            self._factors = (
                splu(self.matrix.tocsc()) if self._sparse else linalg.lu_factor(self.matrix)
            )
        return self._factors

    def sqrt(self) -> Dense:
        """Symmetric root, for a symmetric positive semi-definite M."""
        return Dense(_root("matrix", _array(self.matrix)), self.event_shape)

    def logdet(self, event_shape: Sequence[int] | None = None) -> float:
        """Logarithm of |det M|, once a channel of ``event_shape``; ``-inf`` if singular."""
        channels = math.prod(self._event(event_shape)) / self.matrix.shape[0]
        if not self._sparse:
            return float(channels * np.linalg.slogdet(self.matrix)[1])
        try:
            diagonal = splu(self.matrix.tocsc()).U.diagonal()
        except RuntimeError:  # SuperLU's word for singular
            return -math.inf
        return float(channels * np.sum(np.log(np.abs(diagonal))))

    def spectrum(self) -> np.ndarray | None:
        """Eigenvalues (d,) of M M^T, ascending; None for a sparse matrix."""
        return None if self._sparse else np.linalg.svd(self.matrix, compute_uv=False)[::-1] ** 2

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_factors": None}  # SuperLU's cannot be pickled

    def __repr__(self) -> str:
        kind = "sparse " if self._sparse else ""
        return f"Dense({kind}{self.matrix.shape[0]} x {self.matrix.shape[1]})"


class Skew(Preconditioner):
    r"""A skew matrix K^T = -K acting on flattened events: the term of Langevin that rotates.

    It keeps a law as it is and is no preconditioner by itself: it goes into the ``skew`` of
    `refsde.Preconditioned`.

    Parameters
    ----------
    matrix : array (d, d)
        The matrix K.
    event_shape : tuple of int, optional
        Shape of an event, of d numbers; (d,) by default.

    Raises
    ------
    ValueError
        If the matrix is not skew.

    References
    ----------
    Hwang, Hwang-Ma and Sheu (1993), Accelerating Gaussian diffusions; Ma, Chen and Fox (2015), A
    Complete Recipe for Stochastic Gradient MCMC.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> rs.precondition.Skew([[0.0, 1.0], [-1.0, 0.0]]).apply(np.array([[2.0, 3.0]]))
    array([[ 3., -2.]])
    """

    def __init__(self, matrix: ArrayLike, event_shape: Sequence[int] | None = None) -> None:
        self.matrix = _square("matrix", matrix)
        if np.any(np.abs(self.matrix + self.matrix.T) > 1e-12 * np.abs(self.matrix).max(initial=0)):
            raise ValueError(
                "`matrix` must be skew, K^T = -K, got a symmetric part of "
                f"{np.abs(self.matrix + self.matrix.T).max() / 2:.3g}: use (K - K.T) / 2"
            )
        self.event_shape = _event_of("matrix", self.matrix, event_shape)

    def apply(self, z: Array) -> Array:
        """K z."""
        self._check(z)
        xp = namespace(z)
        return xp.reshape(_times(xp.reshape(z, (-1, len(self.matrix))), self.matrix), z.shape)

    def apply_transpose(self, z: Array) -> Array:
        """Return -K z."""
        return -self.apply(z)

    def __repr__(self) -> str:
        return f"Skew({len(self.matrix)} x {len(self.matrix)})"


def _array(matrix: Any) -> np.ndarray:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def _times(rows: Array, matrix: Any) -> Array:
    """Each row (m, d) times ``matrix`` (d, d), bits independent of the number of rows."""
    if not is_numpy(rows):
        return namespace(rows).matmul(rows, like(_array(matrix).T, rows))
    if sparse.issparse(matrix):
        return np.ascontiguousarray((matrix @ rows.T).T, dtype=rows.dtype)
    return _by_blocks(rows, lambda block: block @ matrix.T)


def _by_blocks(rows: np.ndarray, act: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Result of ``act`` on ``rows`` (m, d), which is asked for `ROWS` of them at a time."""
    out = np.empty_like(rows)
    block = np.zeros((ROWS, rows.shape[1]))
    for i in range(0, len(rows), ROWS):
        part = rows[i : i + ROWS]
        block[: len(part)] = part
        out[i : i + ROWS] = act(block)[: len(part)]
    return out


def _square(name: str, matrix: Any) -> Any:
    made: Any
    if hasattr(matrix, "tocsr"):  # SciPy's sparse arrays and matrices
        made = matrix.tocsr().astype(float)
        entries = made.data
    else:
        try:
            made = entries = np.array(matrix, dtype=float)
        except (TypeError, ValueError) as problem:
            raise TypeError(f"`{name}` must be a real matrix (d, d), got {matrix!r}") from problem
    if made.ndim != 2 or made.shape[0] != made.shape[1] or made.shape[0] == 0:
        raise ValueError(f"`{name}` must be square, (d, d), got shape {made.shape}")
    if not np.all(np.isfinite(entries)):
        raise ValueError(f"`{name}` must be finite, got NaN or inf: look where it comes from")
    return made


def _event_of(name: str, matrix: Any, event_shape: Sequence[int] | None) -> tuple[int, ...]:
    d = matrix.shape[0]
    event = (d,) if event_shape is None else tuple(int(k) for k in event_shape)
    if math.prod(event) != d:
        raise ValueError(f"`event_shape` must hold {d} numbers, as `{name}` does, got {event}")
    return event


def _root(name: str, A: ArrayLike) -> np.ndarray:
    matrix = _square(name, A)
    if np.any(np.abs(matrix - matrix.T) > 1e-8 * np.abs(matrix).max()):
        raise ValueError(f"`{name}` must be symmetric, got an asymmetric matrix: use (A + A.T) / 2")
    values, U = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[0] < -1e-8 * max(values[-1], 0.0):
        raise ValueError(
            f"`{name}` must be positive semi-definite, got an eigenvalue of {values[0]:.3g}"
        )
    return np.asarray((U * np.sqrt(np.maximum(values, 0.0))) @ U.T)
