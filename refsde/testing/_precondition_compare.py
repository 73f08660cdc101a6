"""How the checks of preconditioners compare: events, inner products, and what is not defined."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from refsde.testing._precondition_case import PreconditionerCase, reason
from refsde.testing._report import Finding

__all__ = [
    "TINY",
    "Run",
    "adjoint_of",
    "alike",
    "close",
    "norm",
    "rows",
    "where_defined",
    "worst",
]

TINY = float(np.finfo(float).tiny)

Run = Callable[[PreconditionerCase], Iterator[Finding]]


def where_defined(run: Run) -> Run:
    """Leave out what raises NotImplementedError, and say why."""

    @functools.wraps(run)
    def checked(case: PreconditionerCase) -> Iterator[Finding]:
        try:
            yield from run(case)
        except NotImplementedError as missing:
            yield Finding.skip(run.__name__.strip("_"), reason(missing))

    return checked


def rows(case: PreconditionerCase, v: Any) -> np.ndarray:
    """Events (..., *event) as rows (B, d)."""
    return np.asarray(v, dtype=float).reshape(-1, case.size)


def norm(v: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(v, axis=-1, keepdims=True))


def close(
    case: PreconditionerCase,
    name: str,
    what: str,
    found: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    size: Any = 0.0,
    note: str = "",
) -> Finding:
    """Compare events entry by entry, to ``rtol`` of their size and of ``size``."""
    got, right = rows(case, found), rows(case, expected)
    tolerance = (case.rtol if rtol is None else rtol) * (norm(right) + size) + TINY

    def where(i: tuple[int, ...]) -> str:
        place = ", ".join(str(int(k)) for k in np.unravel_index(i[1], case.event))
        return f"{what}, sample {i[0]} at ({place})"

    return Finding.worst(name, got, right, tolerance, where, note=note)


def worst(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -finding.strain)[:1]


def alike(a: Any, b: Any) -> bool:
    """Whether two arrays are nearly the same: for words on the commonest slips."""
    return bool(np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-6, atol=1e-9))


def inner(case: PreconditionerCase, a: Any, b: Any) -> np.ndarray:
    return np.asarray(np.sum(rows(case, a) * rows(case, b), axis=1))


def adjoint_of(
    case: PreconditionerCase, name: str, pair: tuple[Any, Any], note: str, what: str = "<M z, w>"
) -> Finding:
    """Compare <M z, w> with <z, M^T w>, for ``pair`` = (M z, M^T w)."""
    z, w = case.draws(), case.draws(1)
    Mz, Mw = pair
    found, expected = inner(case, Mz, w), inner(case, z, Mw)
    sizes = norm(rows(case, Mz)) * norm(rows(case, w))
    sizes = sizes + norm(rows(case, z)) * norm(rows(case, Mw))
    tolerance = case.rtol * sizes[:, 0] + TINY
    return Finding.worst(
        name, found, expected, tolerance, lambda i: f"{what}, sample {i[0]}", note=note
    )
