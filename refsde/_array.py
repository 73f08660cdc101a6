"""The only file that knows array libraries: small verbs for floats, NumPy, torch and the like.

A time shared by the whole batch is a Python float, and a verb applied to it returns a Python float
(through `math`): a NumPy scalar would promote a float32 state to float64.  A time of its own for
each sample is an array, and the verb is then the one of that array's library.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeGuard, cast

import numpy as np
from threadpoolctl import ThreadpoolController

Array = Any  # an array of NumPy, torch or another array-API library
Time = float | Array  # one clock for the batch, or an array (B, 1, ..., 1) of clocks

__all__ = [
    "Array", "Time", "asin", "asinh", "atan", "batch_rms", "combine", "concat", "cos", "event_max",
    "event_norm", "event_size", "exp", "expm1", "fill_rows", "interp", "is_floating", "is_numpy",
    "larger", "like", "log", "log1p", "maximum", "namespace", "one_blas_thread", "per_sample",
    "rows_finite", "sin", "sinh", "sqrt", "take", "tan", "to_numpy", "where",
]  # fmt: skip


def namespace(x: Array) -> Any:
    """The module whose functions act on ``x`` (``numpy``, ``torch``, ``array_api_strict``, ...)."""
    if isinstance(x, np.ndarray):
        return np
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    root = type(x).__module__.partition(".")[0]
    if root in sys.modules and hasattr(sys.modules[root], "asarray"):
        return sys.modules[root]
    raise TypeError(
        f"expected an array of NumPy, torch or an array-API library, got {type(x).__name__}: "
        "convert it with numpy.asarray"
    )


def is_numpy(x: object) -> bool:
    """Whether ``x`` is a NumPy array, so that a NumPy fast path applies."""
    return isinstance(x, np.ndarray)


def is_floating(x: Array) -> bool:
    """Whether the array ``x`` holds real floating-point numbers."""
    return "float" in str(x.dtype)


def _verb(name: str) -> Callable[[Time], Any]:
    scalar: Callable[[float], float] = getattr(math, name)

    def verb(x: Time) -> Any:
        if isinstance(x, float | int):
            return scalar(x)
        return getattr(namespace(x), name)(x)

    verb.__name__ = name
    verb.__doc__ = f"Elementwise ``{name}``; a float stays a Python float."
    return verb


exp, expm1, log1p = _verb("exp"), _verb("expm1"), _verb("log1p")
sin, cos, tan, sinh = _verb("sin"), _verb("cos"), _verb("tan"), _verb("sinh")
asin, atan, asinh = _verb("asin"), _verb("atan"), _verb("asinh")


def log(x: Time) -> Any:
    """Natural logarithm, ``-inf`` at zero (as arrays have it) also for a float."""
    if isinstance(x, float | int):
        return math.log(x) if x > 0 else (-math.inf if x == 0 else math.nan)
    with np.errstate(divide="ignore"):
        return namespace(x).log(x)


def sqrt(x: Time) -> Any:
    """Square root; a float stays a Python float."""
    return math.sqrt(x) if isinstance(x, float | int) else namespace(x).sqrt(x)


def maximum(x: Time, floor: float) -> Any:
    """The larger of ``x`` and the number ``floor``, elementwise."""
    return max(x, floor) if isinstance(x, float | int) else where(x > floor, x, floor)


def where(condition: Any, a: Time, b: Time) -> Any:
    """Choose ``a`` or ``b``; the condition and a choice at least are arrays, or all scalars."""
    if isinstance(condition, bool | np.bool_):
        return a if condition else b
    xp = namespace(condition)
    model = a if not isinstance(a, float | int) else b
    if isinstance(a, float | int):
        a = xp.full_like(model, a)
    if isinstance(b, float | int):
        b = xp.full_like(model, b)
    return xp.where(condition, a, b)


def combine(weights: Sequence[Any], arrays: Sequence[Array]) -> Array:
    """Weighted sum of arrays, in their order; numbers that are zero leave their array out."""
    terms = [(w, a) for w, a in zip(weights, arrays, strict=False) if per_sample(w) or w != 0]
    like_first = (terms[0][1].shape, terms[0][1].dtype)
    if all(
        is_numpy(a) and a.flags.c_contiguous and (a.shape, a.dtype) == like_first for _, a in terms
    ) and not any(per_sample(w) for w, _ in terms):
        return _combined(terms)
    return sum((w * a for w, a in terms[1:]), terms[0][0] * terms[0][1])


CACHED = 8192  # numbers of an array that stay in a core's cache while all terms are added


def _combined(terms: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """The same sum, in pieces that stay in cache: same operations on every number, same bits."""
    first_weight, first = terms[0]
    out = np.empty_like(first)
    spare = np.empty(min(CACHED, out.size), out.dtype)
    flat = [a.reshape(-1) for _, a in terms]
    into = out.reshape(-1)
    for i in range(0, into.size, CACHED):
        piece = into[i : i + CACHED]
        product = spare[: piece.size]
        np.multiply(flat[0][i : i + CACHED], first_weight, out=piece)
        for (w, _), a in zip(terms[1:], flat[1:], strict=True):
            np.multiply(a[i : i + CACHED], w, out=product)
            np.add(piece, product, out=piece)
    return out


def larger(a: Array, b: Array) -> Array:
    """The larger of two arrays, elementwise."""
    return namespace(a).maximum(a, b)


def per_sample(t: Time) -> TypeGuard[Array]:
    """Whether ``t`` carries one clock a sample rather than one clock for the batch."""
    return not isinstance(t, float | int)


def event_size(x: Array) -> int:
    """How many numbers one sample of the batch ``x`` (B, *D) has."""
    return math.prod(x.shape[1:])


def _event_axes(x: Array) -> tuple[int, ...]:
    return tuple(range(1, len(x.shape)))


def event_norm(x: Array) -> Array:
    """Euclidean norm of each sample, shape (B, 1, ..., 1)."""
    xp = namespace(x)
    return sqrt(xp.sum(x * x, axis=_event_axes(x), keepdims=True))


def event_max(x: Array) -> Array:
    """Largest absolute value in each sample, shape (B, 1, ..., 1)."""
    xp = namespace(x)
    most = xp.amax if hasattr(xp, "amax") else xp.max  # torch: its `max` takes one axis
    return most(xp.abs(x), axis=_event_axes(x), keepdims=True)


def batch_rms(x: Array) -> Array:
    """Root mean square of each sample, shape (B, 1, ..., 1)."""
    return event_norm(x) / math.sqrt(event_size(x))


def rows_finite(x: Array) -> Any:
    """Which samples of (B, *D) are finite: a NumPy bool array (B,), or ``True`` when all are."""
    xp = namespace(x)
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(xp.sum(x))  # one pass: a finite sum has only finite terms
    if math.isfinite(total):
        return True
    return to_numpy(xp.all(xp.isfinite(xp.reshape(x, (x.shape[0], -1))), axis=1))


def to_numpy(x: Any) -> np.ndarray:
    """A NumPy copy or view of any supported array."""
    if is_numpy(x):
        return cast(np.ndarray, x)
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        return cast(np.ndarray, x.numpy())
    return np.asarray(x)


def like(values: np.ndarray | float, x: Array) -> Array:
    """The NumPy ``values`` as an array of the library, dtype and device of ``x``."""
    if is_numpy(x):
        return np.asarray(values, dtype=x.dtype)
    kwargs = {"device": x.device} if hasattr(x, "device") else {}
    return namespace(x).asarray(np.asarray(values), dtype=x.dtype, **kwargs)


def take(x: Array, rows: np.ndarray) -> Array:
    """The samples ``rows`` (an integer array) of ``x``."""
    if is_numpy(x):
        return x[rows]
    xp = namespace(x)
    index = xp.asarray(rows)
    if hasattr(xp, "index_select"):  # torch: its `take` flattens
        return xp.index_select(x, 0, index.to(x.device))
    return xp.take(x, index, axis=0)


def fill_rows(full: Array, rows: np.ndarray, values: Array) -> Array:
    """A copy of ``full`` whose samples ``rows`` hold ``values``."""
    # Gathering from [full, values] needs nothing beyond the array API standard.
    index = np.arange(full.shape[0])
    index[rows] = full.shape[0] + np.arange(len(rows))
    return take(concat([full, values]), index)


def concat(parts: Sequence[Array]) -> Array:
    """Join batches along the sample axis."""
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concat(list(parts), axis=0)


def interp(t: Time, xs: np.ndarray, ys: np.ndarray) -> Any:
    """Piecewise linear interpolation of a table; floats stay floats, arrays keep their library."""
    if isinstance(t, float | int):
        return float(np.interp(t, xs, ys))
    return like(np.interp(to_numpy(t), xs, ys), t)


_lock = threading.Lock()
_holders = 0
_held: Any = None


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread: results then depend neither on the machine's load nor on `workers`.

    The setting is the process's, so the first holder sets it and the last one out restores it.
    """
    global _holders, _held
    with _lock:
        if _holders == 0:
            _held = _blas().limit(limits=1, user_api="blas")
            _held.__enter__()
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _held.__exit__(None, None, None)
