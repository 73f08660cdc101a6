r"""Euler-Maruyama and Heun: the textbook methods, written on a process's drift and diffusion.

Both run on every process: the reverse SDE, the probability flow (where they are Euler's and Heun's
methods) and the forward SDE.  The step is s - t, negative in reverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from refsde._types import Kind, Noise, Orders, Process, State, Time

__all__ = ["EulerMaruyama", "Heun"]


@dataclass(frozen=True)
class EulerMaruyama:
    r"""Euler-Maruyama method.

    .. math:: x_s = x_t + \mathrm{drift}(x_t, t)(s - t) + g(t)(w_s - w_t)

    Weak order 1; strong order 1 here, because the noise is additive.  One evaluation a step.
    The step is the grid's own, not the 1/N of the published code.

    References
    ----------
    Song et al. (2020), appendix D; Kloeden and Platen (1992), section 10.2.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> rs.sample(process, rs.EulerMaruyama(), 10, times=20, rng=0).x.shape
    (10, 2)
    """

    accepts: ClassVar[frozenset[Kind]] = frozenset({"forward", "reverse", "flow"})
    orders: ClassVar[Orders] = {"weak": 1, "strong": 1, "flow": 1}
    preconditions: ClassVar[bool] = True

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t, x = state.t, state.x
        if not process.stochastic:
            return State(s, x + process.drift(x, t) * (s - t))
        dw = noise.increment(t, s, x)
        return State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


@dataclass(frozen=True)
class Heun:
    r"""Heun's method (improved Euler): the average of the slopes at both ends.

    .. math:: x' &= x_t + a(x_t, t)(s - t) + g(t)\,\Delta w \\
              x_s &= x_t + \tfrac12[a(x_t, t) + a(x', s)](s - t) + \tfrac12[g(t) + g(s)]\,\Delta w

    with a the drift.  Order 2 on the flow; with noise weak order 2 (since the noise is additive)
    and strong order 1.  Two evaluations a step, the second at ``s``: the grid must end where the
    score is finite.

    References
    ----------
    Jolicoeur-Martineau et al. (2021), algorithm 1 (its higher-order proposal); Kloeden and Platen
    (1992), section 15.1.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> rs.sample(rs.ProbabilityFlow(sde, target.score(sde)), rs.Heun(), 10, times=20, rng=0).nfe[0]
    np.int64(40)
    """

    accepts: ClassVar[frozenset[Kind]] = frozenset({"forward", "reverse", "flow"})
    orders: ClassVar[Orders] = {"weak": 2, "strong": 1, "flow": 2}
    preconditions: ClassVar[bool] = True

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t, x, h = state.t, state.x, s - state.t
        slope = process.drift(x, t)
        if not process.stochastic:
            return State(s, x + (slope + process.drift(x + slope * h, s)) * (0.5 * h))
        dw = noise.increment(t, s, x)
        kick = process.diffuse(dw, t)
        slope_s = process.drift(x + slope * h + kick, s)
        return State(s, x + (slope + slope_s) * (0.5 * h) + 0.5 * (kick + process.diffuse(dw, s)))
