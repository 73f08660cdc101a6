r"""Embedded Runge-Kutta pairs on the probability flow, with an error of its own for each sample.

Where `BlackBox` gives a whole block to SciPy as one equation, here every sample keeps its own clock
and its own steps, and all are computed together.  The coefficients are SciPy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.integrate import RK23, RK45

from refsde._array import batch_rms, larger
from refsde._types import Array, Kind, Noise, Orders, Process, State, Time
from refsde.solvers._tolerance import check_tolerances
from refsde.times import Adaptive, HairerStart

__all__ = ["EmbeddedRK"]

_PAIRS: dict[str, Any] = {"RK45": RK45, "RK23": RK23}


@dataclass(frozen=True)
class EmbeddedRK:
    r"""Explicit Runge-Kutta pair with the error control of each sample its own.

    .. math:: k_i = a\Big(x_t + h\sum_{j<i} A_{ij} k_j,\ t + c_i h\Big), \qquad
              x_s = x_t + h\sum_i b_i k_i, \qquad e = h\sum_i e_i k_i

    with a the drift of the flow and h = s - t, negative in reverse.  The last slope is the first of
    the next step: six evaluations an attempt for "RK45", three for "RK23", and one at the start.

    Parameters
    ----------
    method : {"RK45", "RK23"}
        Pair of Dormand and Prince, or of Bogacki and Shampine.
    rtol, atol : float
        Tolerances: the error is taken in units of atol + rtol max(abs(x_t), abs(x_s)), root mean
        square over a sample.

    Raises
    ------
    ValueError, TypeError
        If the method is unknown or a tolerance not positive and finite.

    Notes
    -----
    ``times=None`` is the controller of SciPy's solvers: exponent 1/5 or 1/3, factors from 0.2 to
    10, the first step by `refsde.times.HairerStart`.  One hard sample then costs itself
    alone, and no other sample's digits depend on it.  On a `Grid` the pair takes fixed steps, of
    order 5 or 3.  `BlackBox` with ``coupled=False`` has the same independence for all of SciPy's
    methods, one sample after another.

    References
    ----------
    Dormand and Prince (1980), A family of embedded Runge-Kutta formulae; Bogacki and Shampine
    (1989), A 3(2) pair of Runge-Kutta formulas; Hairer, Norsett and Wanner (1993), section II.4.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> sol = rs.sample(rs.ProbabilityFlow(sde, target.score(sde)), rs.EmbeddedRK(), 100, rng=0)
    >>> bool(sol.nfe.min() < sol.nfe.max())
    True
    """

    method: Literal["RK45", "RK23"] = "RK45"
    rtol: float = 1e-5
    atol: float = 1e-5
    accepts: ClassVar[frozenset[Kind]] = frozenset({"flow"})

    def __post_init__(self) -> None:
        if self.method not in _PAIRS:
            raise ValueError(f"`method` must be 'RK45' or 'RK23', got {self.method!r}")
        check_tolerances(self, self.rtol, self.atol, "rms")

    @property
    def orders(self) -> Orders:
        """Order of the fixed steps on a grid."""
        return {"flow": _PAIRS[self.method].order}

    @property
    def default_times(self) -> Adaptive:
        """What ``times=None`` means: the control of SciPy's solvers, for each sample."""
        power = _PAIRS[self.method].error_estimator_order + 1
        return Adaptive.filter("I", power, h0=HairerStart(power, self.rtol, self.atol))

    def init(self, process: Process, x: Array, t: Time) -> tuple[Any, ...]:
        """Memory: the slope at the start."""
        return (process.drift(x, t),)

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Attempt the step from ``state.t`` to ``s``."""
        t, x, h, pair = state.t, state.x, s - state.t, _PAIRS[self.method]
        slopes = list(state.memory) or [process.drift(x, t)]
        for row, c in zip(pair.A[1:], pair.C[1:].tolist(), strict=True):
            slopes.append(process.drift(x + _sum(row, slopes) * h, t + c * h))
        x_s = x + _sum(pair.B, slopes) * h
        slopes.append(process.drift(x_s, s))
        scale = self.atol + self.rtol * larger(abs(x), abs(x_s))
        error = batch_rms(_sum(pair.E, slopes) * h / scale)
        return State(s, x_s, error, memory=(slopes[-1],))


def _sum(weights: np.ndarray, slopes: list[Array]) -> Array:
    """Weighted sum of the slopes, without those of no weight."""
    terms = [w * k for w, k in zip(weights.tolist(), slopes, strict=False) if w != 0]
    return sum(terms[1:], terms[0])
