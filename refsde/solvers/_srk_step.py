r"""The step of every stochastic Runge-Kutta method for additive noise, and its coefficients.

.. math:: y_i &= x_t + h\sum_j A_{ij}\,a_j
                 + \sum_j g(t + c^1_j h)\,(B^W_{ij}\,\Delta w + B^H_{ij} H), \qquad
                 a_i = a(y_i, t + c^0_i h), \\
          x_s &= x_t + h\sum_i \alpha_i\,a_i
                 + \sum_j g(t + c^1_j h)\,(b^W_j\,\Delta w + b^H_j H),

with a the drift, h = s - t (negative in reverse) and H the space-time Levy area over the step, the
mean of the Brownian bridge.
"""

from __future__ import annotations

from dataclasses import dataclass

from refsde._types import Array, Process, Time

__all__ = ["Step", "Tableau"]

Row = tuple[float, ...]
Rows = tuple[Row, ...]

# Weight of the drifts in the estimator "sum": `delta` of StochasticDiffEq.jl, there 1 for methods
# of this kind (1/6 is that of SRIW1).
DELTA = 1.0


@dataclass(frozen=True)
class Tableau:
    r"""Coefficients of a stochastic Runge-Kutta method for additive noise.

    The conventions of both families in the literature are turned into those of the step (at the
    head of this module) by `roessler` and `foster`.  A method of your own is a subclass of one of
    the solvers with another ``tableau``.

    Attributes
    ----------
    c0, c1 : tuples of float
        Where in the step the drift and the diffusion are evaluated: 0 is t, 1 is s.
    A, BW, BH : tuples of tuples
        Weights in the stages, one row a stage, of earlier drifts, of increments and of areas.  Rows
        may be short: what is missing is zero.
    alpha, bW, bH : tuples of float
        Weights in the result.

    References
    ----------
    Roessler (2010), SIAM J. Numer. Anal. 48, 922-952; Foster, dos Reis and Strange (2024), SIAM J.
    Numer. Anal. 62, 500-532.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.SRA1.tableau.bW, rs.SRA1.tableau.bH
    ((0.5, 0.5), (-1, 1))
    """

    c0: Row
    c1: Row
    A: Rows
    BW: Rows
    BH: Rows
    alpha: Row
    bW: Row
    bH: Row

    @classmethod
    def roessler(
        cls, c0: Row, c1: Row, A: Rows, B: Rows, *, alpha: Row, beta1: Row, beta2: Row
    ) -> Tableau:
        r"""Make the tableau of an SRA method from the numbers of its paper.

        There, increments and chi = dw / 2 + H are weighted: the stages have B_ij chi, the result
        beta1_j dw + beta2_j chi.
        """
        half = tuple(tuple(b / 2 for b in row) for row in B)
        bW = tuple(b1 + b2 / 2 for b1, b2 in zip(beta1, beta2, strict=True))
        return cls(c0, c1, A, half, B, alpha, bW, beta2)

    @classmethod
    def foster(cls, c: Row, a: Rows, *, b: Row, aW: Row, aH: Row) -> Tableau:
        r"""Make the tableau of a shifted method, whose stages see g(t) alone.

        Stage i has g(t) (aW_i dw + aH_i H), the result g(t) dw + (g(s) - g(t)) (dw / 2 - H), which
        is the stochastic integral of a linear g.
        """
        BW, BH = tuple((w,) for w in aW), tuple((v,) for v in aH)
        return cls(c, (0, 1), a, BW, BH, b, (0.5, 0.5), (1, -1))

    @property
    def difference(self) -> Row:
        """Weights of the drifts in the result less those of Euler's method; they sum to zero."""
        return (-sum(self.alpha[1:]), *self.alpha[1:])


class Step:
    """One step of a process from ``t`` to ``s`` over a known increment and area."""

    def __init__(
        self, process: Process, tableau: Tableau, t: Time, s: Time, dw: Array, area: Array
    ) -> None:
        self.process, self.tableau = process, tableau
        self.t, self.s, self.dw, self.area = t, s, dw, area

    def at(self, c: float) -> Time:
        """Time at the fraction ``c`` of the step, without rounding at its ends."""
        if c in (0, 1):
            return self.s if c else self.t
        return self.t + c * (self.s - self.t)

    def drifted(self, x: Array, weights: Row, drifts: list[Array]) -> Array:
        """Add h times the weighted drifts to ``x``."""
        for weight, drift in zip(weights, drifts, strict=False):
            if weight:
                x = x + weight * (self.s - self.t) * drift
        return x

    def kicked(self, x: Array, onto_dw: Row, onto_area: Row) -> Array:
        """Add the weighted noise to ``x``, with the diffusion at the nodes c1."""
        for c, w, v in zip(self.tableau.c1, onto_dw, onto_area, strict=False):
            parts = [k * noise for k, noise in ((w, self.dw), (v, self.area)) if k]
            if parts:
                x = x + self.process.diffuse(sum(parts[1:], parts[0]), self.at(c))
        return x

    def run(self, x: Array) -> tuple[Array, list[Array]]:
        """Return x_s and the drifts of all stages."""
        table = self.tableau
        drifts: list[Array] = []
        for c, A, BW, BH in zip(table.c0, table.A, table.BW, table.BH, strict=True):
            y = self.kicked(self.drifted(x, A, drifts), BW, BH)
            drifts.append(self.process.drift(y, self.at(c)))
        return self.kicked(self.drifted(x, table.alpha, drifts), table.bW, table.bH), drifts

    def difference(self, drifts: list[Array]) -> Array | None:
        """What the drifts add to the result, less what the first alone would; None if that is 0."""
        weights = self.tableau.difference
        return self.drifted(0.0, weights, drifts) if any(weights) else None

    def summed(self, drifts: list[Array]) -> Array:
        """Sum of the drifts times h, plus the part of the noise that has chi = dw / 2 + H."""
        total = self.drifted(0.0, (DELTA,) * len(drifts), drifts)
        beta2 = self.tableau.bH
        return self.kicked(total, tuple(b / 2 for b in beta2), beta2)
