r"""Steps that follow the error: accept, reject, propose, for each sample on its own clock.

A solver reports the local error of an attempt in units of what is tolerable, e.  The attempt is
accepted if e <= 1 (or another limit), and the next one has length

.. math:: h \leftarrow h\;\mathrm{clip}\left(\theta\, e_n^{-b_1} e_{n-1}^{-b_2} e_{n-2}^{-b_3},\
          \text{floor},\ \text{cap}\right)

with the errors of the last accepted steps.  ``h`` is a length, positive; times run towards the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np

from refsde._array import (
    Array,
    Time,
    like,
    maximum,
    namespace,
    per_sample,
    take,
    to_numpy,
    where,
)
from refsde._types import SDE, Fate, Process, State
from refsde.times.first import FirstStep, clip, is_number

__all__ = ["FILTERS", "Adaptive"]

# Exponents (k b_1, k b_2, k b_3) of digital filters for step sizes, k the order of the error.  The
# signs are those of powers of 1/e: a step grows if e is small.
FILTERS: Mapping[str, tuple[float, float, float]] = {
    "I": (1.0, 0.0, 0.0),
    "PI": (0.7, -0.4, 0.0),  # P = 0.4, I = 0.3
    "SDE": (0.4, -0.1, 0.0),  # P = 0.1, I = 0.3
    "PI.4.2": (3 / 5, -1 / 5, 0.0),
    "PI.3.3": (2 / 3, -1 / 3, 0.0),
    "H211PI": (1 / 6, 1 / 6, 0.0),
    "H312PID": (1 / 18, 1 / 9, 1 / 18),
}
SMALL, LARGE = 1e-12, 1e12  # beyond these an error says no more than that it is very small or large
OVERFLOW = 10.0  # what an error beyond LARGE counts as: it does not tell how much shorter to try


class Plan(NamedTuple):
    """What is planned for a batch; ``h`` and ``errors`` are floats if it shares one clock.

    Attributes
    ----------
    end : float
        Where all go.
    h : array (B, 1, ..., 1) or float
        Length of the next attempt.
    errors : tuple
        Scaled errors of the last accepted steps, the newest first.
    attempts : int
        How many there were.
    sde : SDE or None
        Whose lam is the clock; None is t itself.
    """

    end: float
    h: Any
    errors: tuple[Any, ...]
    attempts: int
    sde: SDE | None = None

    def clock(self, t: Time) -> Any:
        """What lengths are measured in."""
        return t if self.sde is None else self.sde.lam(t)

    def time(self, at: Any) -> Any:
        """The time at which the clock shows ``at``."""
        return at if self.sde is None else self.sde.t_of_lam(at)


@dataclass(frozen=True, repr=False)
class Adaptive:
    r"""Steps chosen from the error estimate of the solver, for each sample its own.

    Parameters
    ----------
    h0 : float or callable
        Length of the first attempt, on the clock; or a rule ``h0(process, x, t, t_end)`` that
        returns one for all samples, or one each (B, 1, ..., 1), such as `Share` and `HairerStart`.
    safety : float
        Factor theta in (0, 1] on every proposal.
    exponent : float or tuple of float
        Powers (b_1, b_2, b_3) of 1/e_n, 1/e_(n-1), 1/e_(n-2); a number is b_1 alone.
    cap, floor : float
        A step grows at most by ``cap`` and shrinks at most to the share ``floor``; inf and 0 are no
        limits.
    accept : float
        Largest error that is accepted, at least 1.  The next step always aims at an error of 1;
        with ``accept`` above 1 the tolerance is a target and not a bound, and fewer attempts are
        thrown away.
    steps : {"sample", "batch"}
        "sample" (default): every sample has a clock of its own.  "batch": a block of samples shares
        clock and steps, by the root mean square of their errors, which couples them.
    clock : {"t", "lam"}
        What the lengths ``h0`` and ``h_min`` are measured in: the time, or lam = log(alpha / sigma)
        as for DPM-Solver.  With "lam" both ends need sigma > 0.
    h_min : float
        A sample whose next attempt would be shorter is ended and marked; only the
        last step onto the end may be.
    max_steps : int
        Attempts after which a sample is ended and marked.
    t_start, t_end : float, optional
        From where to where; by default from ``sde.T`` to ``sde.t_end``, on a ForwardSDE from 0 to
        T.  The flow may run upwards.

    Raises
    ------
    ValueError, TypeError
        If an argument is not of this kind, or ``h0`` longer than the interval; in mid-run, if the
        solver estimates no error.

    Notes
    -----
    The defaults are those of Jolicoeur-Martineau et al. (2021), with no limit to growth: where the
    error vanishes by chance, as it does in few dimensions, the next step is much too long, and the
    result is biased even if no noise is lost.  ``cap=1.25`` cures it.

    Tolerances belong to the solver, which knows what its error is an error of.  Samples that have
    arrived leave the batch and cost nothing more.

    References
    ----------
    Jolicoeur-Martineau et al. (2021), Gotta Go Fast, algorithm 1; Soederlind (2003), Digital
    filters in adaptive time-stepping; Hairer, Norsett and Wanner (1993), section II.4.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> rs.sample(process, rs.GGF(0.05), 50, times=rs.Adaptive(cap=1.25), rng=0).success.all()
    np.True_
    """

    h0: float | FirstStep = 0.01
    safety: float = 0.9
    exponent: float | tuple[float, ...] = (0.9,)
    cap: float = math.inf
    floor: float = 0.0
    accept: float = 1.0
    steps: Literal["sample", "batch"] = "sample"
    clock: Literal["t", "lam"] = "t"
    h_min: float = 1e-10
    max_steps: int = 100_000
    t_start: float | None = None
    t_end: float | None = None

    def __post_init__(self) -> None:
        powers = self.exponent if isinstance(self.exponent, tuple) else (self.exponent,)
        if not (1 <= len(powers) <= 3 and all(is_number(b) for b in powers) and powers[0] > 0):
            raise ValueError(
                f"`exponent` must be one to three finite powers of 1/e, the first positive, got "
                f"{self.exponent!r}: 0.9 is the paper's, Adaptive.filter('PI', order=1.5) a PI's"
            )
        object.__setattr__(self, "exponent", tuple(float(b) for b in powers))
        positive = [("safety", 1.0, "0.9 is usual"), ("h_min", math.inf, "1e-10 is the default")]
        if not callable(self.h0):
            positive.append(("h0", math.inf, "0.01 is the paper's"))
        for name, high, hint in positive:
            value = getattr(self, name)
            if not (is_number(value) and 0 < value <= high):
                raise ValueError(f"`{name}` must lie in (0, {high:g}], got {value!r}: {hint}")
            object.__setattr__(self, name, float(value))
        if not (is_number(self.cap, inf=True) and self.cap >= 1):
            raise ValueError(
                f"`cap` must be at least 1, got {self.cap!r}: 1.25 grows by a quarter at most, inf "
                "is no limit"
            )
        if not (is_number(self.accept) and self.accept >= 1):
            raise ValueError(
                f"`accept` must be a finite number >= 1, got {self.accept!r}: 1 is the tolerance, "
                "4 throws little away"
            )
        if not (is_number(self.floor) and 0 <= self.floor < 1):
            raise ValueError(
                f"`floor` must lie in [0, 1), got {self.floor!r}: 0.2 is usual, 0 is no limit"
            )
        for name in ("cap", "accept", "floor"):  # a NumPy scalar would widen float32
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.steps not in ("sample", "batch"):
            raise ValueError(f"`steps` must be 'sample' or 'batch', got {self.steps!r}")
        if self.clock not in ("t", "lam"):
            raise ValueError(f"`clock` must be 't' or 'lam', got {self.clock!r}")
        if isinstance(self.max_steps, bool) or not isinstance(self.max_steps, int | np.integer):
            raise TypeError(f"`max_steps` must be a positive int, got {self.max_steps!r}")
        if self.max_steps < 1:
            raise ValueError(f"`max_steps` must be a positive int, got {self.max_steps!r}")
        for name in ("t_start", "t_end"):
            t = getattr(self, name)
            if t is not None and not (is_number(t) and t >= 0):
                raise ValueError(f"`{name}` must be a time >= 0, got {t!r}: t = 0 is data")
            object.__setattr__(self, name, None if t is None else float(t))

    def __repr__(self) -> str:
        other = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Adaptive({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in other)})"

    @classmethod
    def filter(cls, name: str, order: float, **options: Any) -> Adaptive:
        """Controller with the exponents of a filter in `FILTERS`, divided by the error's ``order``.

        The order of an error is that of its power of h: q + 1 for an ODE method of order q, and
        1.5 for Euler-Maruyama against Heun.  Options are fields; ``cap=10, floor=0.2`` by default.
        """
        if name not in FILTERS:
            raise ValueError(f"`name` must be one of {', '.join(FILTERS)}, got {name!r}")
        return cls._of(FILTERS[name], order, options)

    @classmethod
    def pid(cls, P: float, I: float, D: float = 0.0, *, order: float, **options: Any) -> Adaptive:  # noqa: E741
        """Controller with proportional, integral and differential gains, as textbooks give them."""
        return cls._of((P + I + D, -(P + 2 * D), D), order, options)

    @classmethod
    def _of(cls, powers: tuple[float, ...], order: float, options: dict[str, Any]) -> Adaptive:
        if not (is_number(order) and order > 0):
            raise ValueError(
                f"`order` must be positive, the error's power of h, got {order!r}: 1.5 for GGF"
            )
        exponent = tuple(b / order for b in powers)
        return cls(**{"exponent": exponent, "cap": 10.0, "floor": 0.2, **options})

    def ends(self, process: Process) -> tuple[float, float]:
        """Times (t_start, t_end) between which a process is integrated."""
        sde: SDE = process.sde
        forward = process.kind == "forward"
        begin = self.t_start if self.t_start is not None else (0.0 if forward else float(sde.T))
        end = self.t_end if self.t_end is not None else float(sde.T if forward else sde.t_end)
        return begin, end

    # -- the protocol of refsde's loop -----------------------------------------------------------

    def start(self, process: Process, x: Array) -> tuple[Time, Any]:
        """First time, and the plan."""
        t, end = self.ends(process)
        sde = process.sde if self.clock == "lam" else None
        plan = Plan(end, 0.0, (), 0, sde)
        length = abs(plan.clock(end) - plan.clock(t))
        if not math.isfinite(length):
            raise ValueError(
                f"`clock` = 'lam' is infinite at t = {min(t, end):g}: end at t_end > 0, or use 't'"
            )
        h: Any = self.h0(process, x, t, end) if callable(self.h0) else self.h0
        if sde is not None and callable(self.h0):
            h = abs(plan.clock(t + where(end > t, h, -h)) - plan.clock(t))  # rules speak of t
        if not per_sample(h) and not 0 < h <= length * (1 + 1e-12):
            raise ValueError(
                f"`h0` = {h!r} must be positive and no longer than the interval from t = {t:g} to "
                f"{end:g}: take a fraction of {length:g}"
            )
        if self.steps == "batch":
            h = float(np.min(to_numpy(h)))  # the shortest of the first steps suits all
            return t, plan._replace(h=h, errors=(1.0,) * (len(self._powers) - 1))
        one = like(np.ones((x.shape[0], *[1] * (len(x.shape) - 1))), x)
        return t * one, plan._replace(h=h * one, errors=(one,) * (len(self._powers) - 1))

    @property
    def _powers(self) -> tuple[float, ...]:
        assert isinstance(self.exponent, tuple)
        return self.exponent

    def target(self, t: Time, plan: Plan) -> Time | None:
        """Where the next attempt goes; None where all have arrived."""
        if not per_sample(t) and t == plan.end:
            return None
        at, end = plan.clock(t), plan.clock(plan.end)
        left = abs(end - at)
        s = plan.time(at + where(at < end, plan.h, -plan.h))
        return where(plan.h >= left * (1 - 1e-9), plan.end, s)  # no sliver is left behind

    def judge(self, old: State, new: State, plan: Plan) -> tuple[State, Plan]:
        """Accept or reject each sample's attempt, and propose the length of the next."""
        if new.error is None:
            raise TypeError(
                "`solver` estimates no error, from which steps could be chosen: use one that does, "
                "such as refsde.GGF(rtol=0.05), or a Grid"
            )
        length = abs(plan.clock(new.t) - plan.clock(old.t))
        e, broken = new.error, new.error != new.error
        if self.steps == "batch":
            e = _pooled(e, broken)
        e = _within(e)
        accept = ~(e > self.accept) if per_sample(e) else not e > self.accept
        factor = self.safety * e ** -self._powers[0]
        for past, b in zip(plan.errors, self._powers[1:], strict=True):
            factor = factor * past**-b
        factor = clip(factor, self.floor, self.cap)
        h = length * where(accept, factor, clip(factor, 0.0, self.safety))
        history = (e, *plan.errors)[: len(plan.errors)]
        errors = tuple(where(accept, a, b) for a, b in zip(history, plan.errors, strict=True))
        state = State(
            t=where(accept, new.t, old.t),
            # A sample without a number for its error has none for itself: the loop ends it.
            x=where(broken, math.nan, where(_rows(accept, new.x), new.x, old.x)),
            error=new.error,
            memory=_merged(_rows(accept, new.x), new.memory, old.memory),
            reuse=(~_rows(accept, new.x), *new.reuse) if new.reuse else (),
        )
        return state, plan._replace(h=h, errors=errors, attempts=plan.attempts + 1)

    def select(self, plan: Plan, rows: np.ndarray) -> Plan:
        """Plan of the samples ``rows``."""

        def part(value: Any) -> Any:
            return take(value, rows) if per_sample(value) else value

        return plan._replace(h=part(plan.h), errors=tuple(part(e) for e in plan.errors))

    def fates(self, t: Time, plan: Plan) -> np.ndarray:
        """Whether each sample is under way, has arrived, or cannot go on: `Fate` (B,) or (1,)."""
        now, end = plan.clock(t), plan.clock(plan.end)
        t, at, h = (np.atleast_1d(to_numpy(v)).reshape(-1) for v in (t, now, plan.h))
        arrived = t == like(np.asarray(plan.end), t)
        # A step that no longer moves the clock is too small, whatever the limit.
        stuck = (h < self.h_min) & (h < np.abs(end - at)) | (at + h == at)
        fate = np.where(stuck, Fate.STEP_TOO_SMALL, Fate.UNDER_WAY)
        if plan.attempts >= self.max_steps:
            fate = np.full(t.shape, Fate.TOO_MANY_STEPS)
        return np.asarray(np.where(arrived, Fate.ARRIVED, fate))


def _within(e: Any) -> Any:
    """Errors kept where their powers are numbers; NaN passes, since it ends the sample anyway."""
    if not per_sample(e):
        return OVERFLOW if e > LARGE else max(e, SMALL)
    e = where(e != e, 1.0, e)
    return where(e > LARGE, OVERFLOW, maximum(e, SMALL))


def _pooled(e: Array, broken: Array) -> float:
    """Root mean square of the errors (B, 1, ..., 1) of all samples that have one."""
    values = to_numpy(e).reshape(-1).astype(float)[~to_numpy(broken).reshape(-1)]
    return float(np.sqrt(np.mean(values**2))) if len(values) else 1.0


def _rows(accept: Any, x: Array) -> Any:
    """A verdict for every sample (B, 1, ..., 1), also if it was one for all."""
    if per_sample(accept):
        return accept
    return namespace(x).full_like(
        x[(slice(None), *[slice(0, 1)] * (len(x.shape) - 1))] != 0, accept
    )


def _merged(accept: Any, new: Any, old: Any) -> Any:
    """Memory of the accepted attempts, and the old one of the others."""
    if isinstance(new, tuple):
        if not isinstance(old, tuple) or len(old) != len(new):
            raise TypeError(
                "`solver` changes the structure of its memory, which cannot be merged where some "
                "attempts are rejected: start it in init(process, x, t), or use a Grid"
            )
        return tuple(_merged(accept, a, b) for a, b in zip(new, old, strict=True))
    if hasattr(new, "shape") and len(new.shape):
        return where(accept, new, old)
    return new
