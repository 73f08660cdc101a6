"""Pairs of methods that estimate their error: the solver of Gotta Go Fast, and Lamba's.

Each attempt makes two proposals from the same noise, the cheap x' of Euler-Maruyama and a better
x''.  Their difference, in units of what is tolerable, is the error by which `refsde.Adaptive`
accepts the attempt and chooses the next step; on a `Grid` it is ignored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from refsde._types import Array, Kind, Noise, Orders, Process, State, Time
from refsde.solution import Solution
from refsde.solvers._reuse import evaluated
from refsde.solvers._tolerance import Norm, check_tolerances, scaled_error
from refsde.times import Adaptive, Share

__all__ = ["GGF", "Lamba"]


class _Pair:
    """What both solvers share: options, tolerances, the choice between the two proposals."""

    rtol: float
    atol: float
    norm: Norm
    use_prev: bool
    extrapolate: bool
    cache: bool
    control: Adaptive
    accepts: ClassVar[frozenset[Kind]] = frozenset({"forward", "reverse", "flow"})
    preconditions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_tolerances(self, self.rtol, self.atol, self.norm)
        for name in ("use_prev", "extrapolate", "cache"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}` must be True or False, got {getattr(self, name)!r}")
        if not isinstance(self.control, Adaptive):
            raise TypeError(
                f"`control` must be an Adaptive, got {self.control!r}: a Grid goes into times="
            )

    @classmethod
    def of_range(cls, low: float, high: float, **options: Any) -> Self:
        """Solver whose ``atol`` is one of 256 grey levels of data in [low, high], as published."""
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(
                f"`low`, `high` must be the range of the data, got {low!r}, {high!r}: such as 0, 1"
            )
        return cls(**{"atol": (high - low) / 256, **options})

    @property
    def default_times(self) -> Adaptive:
        """What ``times=None`` means: the controller that the solver was published with."""
        return self.control

    @property
    def couples_batch(self) -> bool:
        """Whether samples of a block influence each other: never, but see ``Adaptive.steps``."""
        return False

    def init(self, process: Process, x: Array, t: Time) -> tuple[Any, ...]:
        """Memory: the accepted proposal against which the next error is measured."""
        return (x,)

    def _chosen(self, state: State, s: Time, low: Array, high: Array, slope: Array) -> State:
        """The state that is propagated, with its error and what a retry may use again."""
        (prev,) = state.memory or (state.x,)
        kept, size = (high, low) if self.extrapolate else (low, high)
        error = scaled_error(
            high - low, size, prev if self.use_prev else size, self.rtol, self.atol, self.norm
        )
        return State(s, kept, error, memory=(size,), reuse=(slope,) if self.cache else ())


def first_slope(process: Process, state: State) -> Array:
    """Drift at the start of an attempt, evaluated only where no rejected attempt left it."""
    return evaluated(lambda part, x, t: part.drift(x, t), process, state)


@dataclass(frozen=True)
class GGF(_Pair):
    r"""Gotta Go Fast: Euler-Maruyama and Heun with the same noise, under error control.

    .. math:: x' &= x_t + a(x_t, t)(s - t) + g(t)\,\Delta w \\
              x'' &= \tfrac12\left[x_t + x' + a(x', s)(s - t) + g(s)\,\Delta w\right] \\
              e &= \left\|\frac{x'' - x'}{\max(\mathrm{atol},\ \mathrm{rtol}\,\max(|x'|,
              |x'_{prev}|))}\right\|

    with a the drift and x'_prev the x' of the last accepted step.  Accepted, x'' is propagated.
    Two evaluations an attempt.

    Parameters
    ----------
    rtol : float
        Relative tolerance, the knob of speed against quality: 0.01 to 0.05 in the paper.
    atol : float
        Absolute tolerance, in units of the data.  One grey level of 256: 0.0078 for data in [-1, 1]
        (VP), 0.0039 for [0, 1] (VE); see `of_range`.
    norm : {"rms", "l2", "linf"}
        Over the components of a sample: root mean square (as published), its root of a sum, or the
        largest.
    use_prev : bool
        Whether the tolerance looks at x'_prev too.
    extrapolate : bool
        Whether x'' is propagated.  If False x' is, and x'' takes its place in the tolerance.
    cache : bool
        Whether a retry uses the first slope again, which costs one evaluation less and changes no
        result.  The published code does not.
    control : Adaptive
        What ``times=None`` means in `sample`.

    Raises
    ------
    ValueError, TypeError
        If a tolerance is not positive and finite, or an option none of those there are.

    Notes
    -----
    This is the published solver, with its published controller: no limit to growth, exponent 0.9.
    It was published with fresh noise after a rejection, ``noise=refsde.Gaussian(rng)``, which is
    biased; the default noise under `Adaptive` remembers the path.  Even so an error that vanishes
    by chance, as it does in few dimensions, lets a step grow without limit and leaves a bias.
    `safe` limits the growth too, and `tuned` is the cheapest that we found.

    On a Grid this is `Heun`, with ``extrapolate=False`` `EulerMaruyama`.  On the flow there is no
    noise.  It runs on every process, and as the predictor of a `PredictorCorrector`.

    References
    ----------
    Jolicoeur-Martineau, Li, Piche-Taillefer, Kachman and Mitliagkas (2021), Gotta Go Fast When
    Generating Data with Score-Based Models, algorithm 1.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> sol = rs.sample(rs.ReverseSDE(sde, target.score(sde)), rs.GGF.safe(0.05), 50, rng=0)
    >>> bool((sol.nfe <= 2 * (sol.n_accepted + sol.n_rejected)).all())
    True
    """

    rtol: float = 0.05
    atol: float = 0.0078
    norm: Norm = "rms"
    use_prev: bool = True
    extrapolate: bool = True
    cache: bool = False
    control: Adaptive = Adaptive()

    @property
    def orders(self) -> Orders:
        """Orders on a grid: Heun's, or Euler-Maruyama's without extrapolation."""
        second = 2 if self.extrapolate else 1
        return {"weak": second, "strong": 1, "flow": second}

    @classmethod
    def safe(cls, rtol: float = 0.05, atol: float = 0.0078, **options: Any) -> GGF:
        """Solver without the bias: growth of a step at most by a quarter, and noise that remembers.

        Pass no ``noise=``, or a `RetainedPath` or `BrownianTree`.
        """
        return cls(rtol, atol, **{"cache": True, "control": Adaptive(cap=1.25), **options})

    @classmethod
    def tuned(cls, rtol: float = 0.1, atol: float = 0.0078, **options: Any) -> GGF:
        """Solver with the fewest evaluations that we found under VP, in few and many dimensions.

        The pair is the published one.  Errors up to four times the tolerance are accepted, since a
        single error says little in few dimensions and what was drawn is remembered anyway; steps
        follow the error with exponent 0.5, grow by a half at most, and start with a twentieth of
        the interval.  At equal tolerances it costs 0.6 of `safe`, with its own looser default less
        than half.  Under VE and sub-VP equal steps of time are as good or better (docs, claim G2),
        and on the flow, where no noise mends what loose tolerances do, `EmbeddedRK` is.
        """
        control = Adaptive(h0=Share(0.05), exponent=0.5, cap=1.5, floor=0.2, accept=4.0)
        return cls(rtol, atol, **{"cache": True, "control": control, **options})

    @staticmethod
    def published_nfe(solution: Solution, batch: int | None = None) -> float:
        """Evaluations as the paper counts them: two for every attempt of a batch's slowest sample.

        Parameters
        ----------
        solution : Solution
            Of a run with this solver.
        batch : int, optional
            Samples in a batch, the whole run by default; the mean over batches is returned.
        """
        attempts = solution.n_accepted + solution.n_rejected
        size = len(attempts) if batch is None else batch
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(f"`batch` must be a positive int, samples in a batch, got {batch!r}")
        slowest = [attempts[i : i + size].max() for i in range(0, len(attempts), size)]
        return 2.0 * float(np.mean(slowest))

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Attempt the step from ``state.t`` to ``s``."""
        t, x, h = state.t, state.x, s - state.t
        slope = first_slope(process, state)
        low = x + slope * h
        if not process.stochastic:
            high = 0.5 * (x + low + process.drift(low, s) * h)
            return self._chosen(state, s, low, high, slope)
        dw = noise.increment(t, s, x)
        low = low + process.diffuse(dw, t)
        high = 0.5 * (x + low + process.drift(low, s) * h + process.diffuse(dw, s))
        return self._chosen(state, s, low, high, slope)


@dataclass(frozen=True)
class Lamba(_Pair):
    r"""Lamba's algorithm: Euler-Maruyama whose error is that of the drift alone.

    .. math:: \tilde x &= x_t + a(x_t, t)(s - t), \qquad x' = \tilde x + g(t)\,\Delta w \\
              x'' &= x_t + \tfrac12[a(x_t, t) + a(\tilde x, s)](s - t) + g(t)\,\Delta w

    Two evaluations an attempt.  The estimate does not see the error that the noise makes, so that
    steps are too long: fast, and biased unless tolerances are tight.

    Parameters
    ----------
    rtol, atol, norm, use_prev, extrapolate, cache, control
        As for `GGF`; by default x' is propagated, and the exponent of the controller is 0.5.

    Raises
    ------
    ValueError, TypeError
        As `GGF`.

    Notes
    -----
    Gotta Go Fast compares with it as "Lamba", with and without extrapolation.  For a diffusion g(t)
    the term with which StochasticDiffEq.jl's LambaEM looks at the noise vanishes.

    References
    ----------
    Lamba (2003), An adaptive timestepping algorithm for stochastic differential equations;
    Jolicoeur-Martineau et al. (2021), section 4 (ablations).

    Examples
    --------
    >>> import refsde as rs
    >>> rs.Lamba(rtol=0.01).control.exponent
    (0.5,)
    """

    rtol: float = 0.05
    atol: float = 0.0078
    norm: Norm = "rms"
    use_prev: bool = True
    extrapolate: bool = False
    cache: bool = False
    control: Adaptive = Adaptive(exponent=0.5)

    @property
    def orders(self) -> Orders:
        """Orders on a grid: those of Euler-Maruyama, but on the flow with extrapolation Heun's."""
        return {"weak": 1, "strong": 1, "flow": 2 if self.extrapolate else 1}

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Attempt the step from ``state.t`` to ``s``."""
        t, x, h = state.t, state.x, s - state.t
        slope = first_slope(process, state)
        low = x + slope * h
        high = x + (slope + process.drift(low, s)) * (0.5 * h)
        if process.stochastic:
            kick = process.diffuse(noise.increment(t, s, x), t)
            low, high = low + kick, high + kick
        return self._chosen(state, s, low, high, slope)
