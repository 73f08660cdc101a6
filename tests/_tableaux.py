"""Order conditions of stochastic Runge-Kutta methods for additive noise, in exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

ONE, HALF = Fraction(1), Fraction(1, 2)


def exact(row: Sequence[float]) -> list[Fraction]:
    return [Fraction(value) for value in row]


def sums(rows: Sequence[Sequence[float]]) -> list[Fraction]:
    return [sum(exact(row), Fraction(0)) for row in rows]


def dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def conditions(table: Any) -> dict[str, float]:
    """What each condition of strong order 1.5 lacks, for a step of any family.

    With a the drift, I_10 the time integral of the path and e a column of ones: the result must
    have h a, the noise of a linear g, and of a(y) the terms in h, in I_10 and, in the mean, in its
    square.  "nodes" are the times of the stages.
    """
    alpha, c0, c1 = exact(table.alpha), exact(table.c0), exact(table.c1)
    bW, bH = exact(table.bW), exact(table.bH)
    A, BW, BH = sums(table.A), sums(table.BW), sums(table.BH)
    squares = [w * w + v * v / 12 for w, v in zip(BW, BH, strict=True)]
    lacks = {
        "alpha e = 1": dot(alpha, [ONE] * len(alpha)) - 1,
        "bW e = 1": sum(bW) - 1,
        "bH e = 0": sum(bH),
        "bW c1 = 1/2": dot(bW, c1) - HALF,
        "bH c1 = -1": dot(bH, c1) + 1,
        "alpha A e = 1/2": dot(alpha, A) - HALF,
        "alpha c0 = 1/2": dot(alpha, c0) - HALF,
        "alpha BW e = 1/2": dot(alpha, BW) - HALF,
        "alpha BH e = 1": dot(alpha, BH) - 1,
        "alpha (BW e)^2 + (BH e)^2 / 12 = 1/2": dot(alpha, squares) - HALF,
        "nodes": max(abs(a - c) for a, c in zip(A, c0, strict=True)),
    }
    return {name: abs(float(value)) for name, value in lacks.items()}


def roessler(table: Any) -> dict[str, float]:
    """What each of Roessler's conditions lacks, with beta1 and beta2 recovered from the table."""
    alpha, c1, beta2 = exact(table.alpha), exact(table.c1), exact(table.bH)
    beta1 = [w - v / 2 for w, v in zip(exact(table.bW), beta2, strict=True)]
    A, B = sums(table.A), sums(table.BH)
    lacks = {
        "alpha e = 1": dot(alpha, [ONE] * len(alpha)) - 1,
        "beta1 e = 1": sum(beta1) - 1,
        "beta2 e = 0": sum(beta2),
        "alpha B e = 1": dot(alpha, B) - 1,
        "alpha A e = 1/2": dot(alpha, A) - HALF,
        "alpha (B e)^2 = 3/2": dot(alpha, [b * b for b in B]) - 3 * HALF,
        "beta1 c1 = 1": dot(beta1, c1) - 1,
        "beta2 c1 = -1": dot(beta2, c1) + 1,
        "A e = c0": max(abs(a - c) for a, c in zip(A, exact(table.c0), strict=True)),
    }
    return {name: abs(float(value)) for name, value in lacks.items()}


def flipped(solver: Any) -> Any:
    """The mutant whose weights beta2 have the other sign, as some codes hold those of SRA2, SRA3.

    Its beta1 is the same: bW = beta1 + beta2 / 2 moves with beta2 = bH.
    """
    table = solver.tableau
    bW = tuple(w - v for w, v in zip(table.bW, table.bH, strict=True))
    bH = tuple(-v for v in table.bH)

    class Flipped(type(solver)):  # type: ignore[misc]
        tableau = replace(table, bW=bW, bH=bH)

    return Flipped()
