r"""Linear maps M of events: what shapes the noise of a sampler, and with M M^T its drift.

A map acts on the last axes of an array and leaves batch axes alone; it never flattens its argument
for the caller.  ``A = M M^T`` is called its *gram*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from refsde._array import Array, Time
from refsde._bases import Basis

__all__ = ["Identity", "Preconditioner", "Product", "Scalar", "Stepwise"]


class Preconditioner:
    """A linear map M of events; subclass it to add one of your own.

    Give ``apply`` and ``apply_transpose`` at least, and ``solve``, ``sqrt``, ``logdet`` and
    ``spectrum`` where there is a formula.  A wrong transpose goes unnoticed in a run:
    `refsde.testing.check_preconditioner` finds it.

    Attributes
    ----------
    event_shape : tuple of int or None
        Shape of the events it takes, as the last axes of an array; None takes any.
    basis : Basis or None
        Where it is diagonal; None if nowhere known.
    static : bool
        Whether it is the same map at every step.

    References
    ----------
    Ma, Zhang, Zhu and Feng (2022), Accelerating Score-based Generative Models with Preconditioned
    Diffusion Sampling, for what it is used for.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> M = rs.precondition.Diagonal([1.0, 2.0]) @ rs.precondition.Scalar(3.0)
    >>> M.apply(np.ones((1, 2))), M.gram(np.ones((1, 2)))
    (array([[3., 6.]]), array([[ 9., 36.]]))
    """

    event_shape: tuple[int, ...] | None = None
    basis: Basis | None = None
    static: bool = True
    __array_ufunc__ = None  # NumPy leaves ``@`` to this class, which refuses arrays

    def apply(self, z: Array) -> Array:
        """M z, of the shape of ``z`` (..., *event)."""
        raise NotImplementedError(f"{type(self).__name__} must define apply(z)")

    def apply_transpose(self, z: Array) -> Array:
        """M^T z, of the shape of ``z`` (..., *event)."""
        raise NotImplementedError(f"{type(self).__name__} must define apply_transpose(z)")

    def gram(self, z: Array) -> Array:
        """M M^T z, of the shape of ``z`` (..., *event)."""
        return self.apply(self.apply_transpose(z))

    def solve(self, z: Array) -> Array:
        """M^-1 z, of the shape of ``z`` (..., *event)."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse to apply")

    def inverse(self) -> Preconditioner:
        """M^-1 as a map."""
        return _Inverse(self)

    def sqrt(self) -> Preconditioner:
        """Return the symmetric root of a symmetric M: a map R with R R = M."""
        raise NotImplementedError(f"{type(self).__name__} has no known root")

    def logdet(self, event_shape: Sequence[int] | None = None) -> float:
        """Logarithm of |det M| on events of ``event_shape`` (its own if None), in nats."""
        raise NotImplementedError(f"{type(self).__name__} has no known determinant")

    def spectrum(self) -> np.ndarray | None:
        """Eigenvalues of M M^T, a table in ``basis`` where there is one; None if not known."""
        return None

    def at(self, t: Time, s: Time) -> Preconditioner:
        """Map for the step from ``t`` to ``s``: itself, where it is static."""
        return self

    def as_linear_operator(self, event_shape: Sequence[int] | None = None) -> Any:
        """SciPy's linear operator (d, d) on flattened events of ``event_shape``."""
        event = self._event(event_shape)
        size = math.prod(event)

        def flat(act: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
            def columns(v: np.ndarray) -> np.ndarray:  # (d,) or (d, k)
                return np.asarray(act(v.T.reshape(-1, *event)).reshape(-1, size).T.reshape(v.shape))

            return columns

        forth, back = flat(self.apply), flat(self.apply_transpose)
        return LinearOperator(
            (size, size), matvec=forth, rmatvec=back, matmat=forth, rmatmat=back, dtype=np.float64
        )

    def __matmul__(self, other: object) -> Preconditioner:
        if isinstance(other, Preconditioner):
            return Product(self, other)
        raise TypeError(
            f"`@` multiplies maps, got {type(other).__name__}: use M.apply(z) for events z"
        )

    def _event(self, event_shape: Sequence[int] | None) -> tuple[int, ...]:
        event = self.event_shape if event_shape is None else tuple(event_shape)
        if event is None:
            raise ValueError(
                f"`event_shape` is None, and {self!r} takes any event: pass event_shape=(d,)"
            )
        return event

    def _check(self, z: Array) -> None:
        """Raise unless ``z`` (..., *event) holds events of this map."""
        if self.event_shape is None:
            return
        own = self.event_shape
        if tuple(z.shape)[-len(own) :] != own:
            raise ValueError(
                f"`z` must have events of shape {own} for {self!r}, got shape {tuple(z.shape)}: "
                "build the map for these events"
            )


class Identity(Preconditioner):
    """The map that changes nothing: with it, sampling is what it is without, bit by bit.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.precondition.Identity()
    Identity()
    """

    def apply(self, z: Array) -> Array:
        """Return ``z`` itself."""
        return z

    apply_transpose = gram = solve = apply

    def inverse(self) -> Preconditioner:
        """Itself."""
        return self

    sqrt = inverse

    def logdet(self, event_shape: Sequence[int] | None = None) -> float:
        """Zero."""
        return 0.0

    def spectrum(self) -> np.ndarray:
        """Return 1, in any basis."""
        return np.ones(())

    def __repr__(self) -> str:
        return "Identity()"


class Scalar(Preconditioner):
    """Multiplication by a number c.

    It is no change of units: a predictor's step is taken c^2 times, its noise c times.

    Parameters
    ----------
    c : float
        The factor, positive.

    Raises
    ------
    ValueError
        If ``c`` is not positive and finite.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.precondition.Scalar(2.0).logdet((3,)) / 3
    0.6931471805599453
    """

    def __init__(self, c: float) -> None:
        if isinstance(c, bool) or not isinstance(c, int | float | np.floating | np.integer):
            raise TypeError(f"`c` must be a number, got {c!r}: for a table use Diagonal")
        if not (math.isfinite(c) and c > 0):
            raise ValueError(f"`c` must be positive and finite, got {c!r}: its sign is without use")
        self.c = float(c)

    def apply(self, z: Array) -> Array:
        """Return c z."""
        return self.c * z

    apply_transpose = apply

    def gram(self, z: Array) -> Array:
        """Return c^2 z."""
        return (self.c * self.c) * z

    def solve(self, z: Array) -> Array:
        """Return z / c."""
        return z / self.c

    def inverse(self) -> Scalar:
        """Multiplication by 1 / c."""
        return Scalar(1 / self.c)

    def sqrt(self) -> Scalar:
        """Multiplication by the root of c."""
        return Scalar(math.sqrt(self.c))

    def logdet(self, event_shape: Sequence[int] | None = None) -> float:
        """Return d log c."""
        return math.prod(self._event(event_shape)) * math.log(self.c)

    def spectrum(self) -> np.ndarray:
        """Return c^2, in any basis."""
        return np.full((), self.c * self.c)

    def __repr__(self) -> str:
        return f"Scalar({self.c:g})"


class Product(Preconditioner):
    """The product M_1 M_2 ... of maps: the last acts first.

    Parameters
    ----------
    *factors : Preconditioner
        The maps, at least one.

    Examples
    --------
    >>> import refsde as rs
    >>> from refsde.precondition import Diagonal, Product, Scalar
    >>> Product(Scalar(2.0), Diagonal([1.0, 3.0])).spectrum()
    array([ 4., 36.])
    """

    factors: tuple[Preconditioner, ...]

    def __init__(self, *factors: Preconditioner) -> None:
        wrong = [factor for factor in factors if not isinstance(factor, Preconditioner)]
        if wrong or not factors:
            got = type(wrong[0]).__name__ if wrong else "none"
            raise TypeError(f"`factors` must be one or more preconditioners, got {got}: pass maps")
        flat: list[Preconditioner] = []
        for factor in factors:
            flat += factor.factors if isinstance(factor, Product) else [factor]
        self.factors = tuple(flat)
        self.static = all(factor.static for factor in flat)
        shapes = [factor.event_shape for factor in flat if factor.event_shape is not None]
        # A table for (H, W) also takes (C, H, W): the longest says what an event is.
        longest = max(shapes, key=len, default=())
        if any(longest[-len(shape) :] != shape for shape in shapes):
            raise ValueError(
                f"`factors` must take the same events, got {shapes}: build them for one shape"
            )
        self.event_shape = longest or None
        bases = {factor.basis for factor in flat if not _anywhere(factor)}
        self.basis = bases.pop() if len(bases) == 1 else None
        self._diagonal = (
            self.basis is not None or not bases and all(_anywhere(factor) for factor in flat)
        )

    def apply(self, z: Array) -> Array:
        """M_1 (M_2 (... z))."""
        for factor in reversed(self.factors):
            z = factor.apply(z)
        return z

    def apply_transpose(self, z: Array) -> Array:
        """(... M_2^T (M_1^T z))."""
        for factor in self.factors:
            z = factor.apply_transpose(z)
        return z

    def gram(self, z: Array) -> Array:
        """M M^T z; what is diagonal in the middle is applied once."""
        *outer, inner = self.factors
        for factor in outer:
            z = factor.apply_transpose(z)
        z = inner.gram(z)
        for factor in reversed(outer):
            z = factor.apply(z)
        return z

    def solve(self, z: Array) -> Array:
        """(... M_2^-1 (M_1^-1 z))."""
        for factor in self.factors:
            z = factor.solve(z)
        return z

    def inverse(self) -> Preconditioner:
        """Product of the inverses, in the opposite order."""
        return Product(*(factor.inverse() for factor in reversed(self.factors)))

    def sqrt(self) -> Preconditioner:
        """Product of the roots, where all factors are diagonal in one basis."""
        if not self._diagonal:
            raise NotImplementedError(f"{self!r} is not symmetric, and has no symmetric root")
        return Product(*(factor.sqrt() for factor in self.factors))

    def logdet(self, event_shape: Sequence[int] | None = None) -> float:
        """Sum of those of the factors."""
        event = self.event_shape if event_shape is None else event_shape
        return sum(factor.logdet(event) for factor in self.factors)

    def spectrum(self) -> np.ndarray | None:
        """Product of those of the factors, where all are diagonal in one basis."""
        if not self._diagonal:
            return None
        spectrum: Any = 1.0
        for factor in self.factors:
            spectrum = spectrum * factor.spectrum()
        return np.asarray(spectrum)

    def at(self, t: Time, s: Time) -> Preconditioner:
        """Product of the factors for the step from ``t`` to ``s``."""
        return self if self.static else Product(*(factor.at(t, s) for factor in self.factors))

    def __repr__(self) -> str:
        return " @ ".join(map(repr, self.factors))


class Stepwise(Preconditioner):
    """A map of its own for every step.

    Parameters
    ----------
    rule : callable
        ``rule(t, s) -> Preconditioner`` for the step from ``t`` (now) to ``s``; it is called with
        both, also if it depends on ``t`` alone.

    Raises
    ------
    TypeError
        If ``rule`` is not callable, does not return a map, or the map is used outside a step.

    Examples
    --------
    >>> import refsde as rs
    >>> M = rs.precondition.Stepwise(lambda t, s: rs.precondition.Scalar(1 + t))
    >>> M.at(0.5, 0.4)
    Scalar(1.5)
    """

    static = False

    def __init__(self, rule: Callable[[Time, Time], Preconditioner]) -> None:
        if not callable(rule) or isinstance(rule, Preconditioner):
            raise TypeError(
                f"`rule` must be a function (t, s) -> preconditioner, got {rule!r}: pass a static "
                "map as it is"
            )
        self.rule = rule

    def at(self, t: Time, s: Time) -> Preconditioner:
        """Map for the step from ``t`` to ``s``."""
        made = self.rule(t, s)
        if not isinstance(made, Preconditioner):
            raise TypeError(
                f"`rule` must return a preconditioner, got {type(made).__name__}: see "
                "refsde.precondition"
            )
        return made.at(t, s)

    def apply(self, z: Array) -> Array:
        """Raise: which map it is depends on the step."""
        raise TypeError(f"{self!r} depends on the step: use its map M.at(t, s)")

    apply_transpose = gram = solve = apply

    def __repr__(self) -> str:
        return f"Stepwise({getattr(self.rule, '__name__', None) or repr(self.rule)})"


class _Inverse(Preconditioner):
    """The inverse of a map that knows how to solve."""

    def __init__(self, M: Preconditioner) -> None:
        self.M, self.event_shape, self.static = M, M.event_shape, M.static
        self.basis = M.basis

    def apply(self, z: Array) -> Array:
        return self.M.solve(z)

    def apply_transpose(self, z: Array) -> Array:
        transposed = getattr(self.M, "solve_transpose", None)
        if transposed is None:
            raise NotImplementedError(f"the transposed inverse of {self.M!r} is not known")
        return transposed(z)

    def solve(self, z: Array) -> Array:
        return self.M.apply(z)

    def inverse(self) -> Preconditioner:
        return self.M

    def sqrt(self) -> Preconditioner:
        return self.M.sqrt().inverse()

    def logdet(self, event_shape: Sequence[int] | None = None) -> float:
        return -self.M.logdet(event_shape)

    def spectrum(self) -> np.ndarray | None:
        u = self.M.spectrum()
        if u is None or not np.all(u > 0):
            return None
        return np.asarray(1 / u if self.basis is not None else np.sort(1 / u))

    def at(self, t: Time, s: Time) -> Preconditioner:
        return self if self.static else self.M.at(t, s).inverse()

    def __repr__(self) -> str:
        return f"inverse of {self.M!r}"


def _anywhere(M: Preconditioner) -> bool:
    """Whether a map is diagonal in every basis."""
    return isinstance(M, Identity | Scalar)
