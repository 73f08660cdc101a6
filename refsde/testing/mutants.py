r"""Broken solvers, each with one mistake that people make: for teaching, and for testing tests.

A `Mutant` is a solver: sample with it and look at the histogram, measure its order, hand it to
students.  Most look healthy.  `check_solver` finds every one of them, and ``caught_by`` names the
finding that does: of the first, the limit alone, for its slope is in order.

>>> import refsde as rs
>>> for mutant in rs.testing.mutants.ALL[:2]:
...     print(f"{mutant.name}: {mutant.flaw}")
noise_too_loud: the noise is 0.01 % too large
half_score: half the score, as on the probability flow, but with noise
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from refsde._array import namespace, sqrt
from refsde._types import Kind, Noise, Orders, Process, State, Time

__all__ = ["ALL", "Mutant"]

Step = Callable[[Process, State, Time, Noise], State]
FIRST: Orders = {"weak": 1, "strong": 1}
HEUN: Orders = {"weak": 2, "strong": 1}
ON_FLOW: Orders = {"flow": 2}


@dataclass(frozen=True)
class Mutant:
    """A solver with one mistake.

    Parameters
    ----------
    step : callable
        ``step(process, state, s, noise) -> State``, wrong.
    flaw : str
        What is wrong with it.
    caught_by : str
        The finding of `check_solver` that fails first.
    orders : mapping
        The orders that its author believes it to have.

    Examples
    --------
    >>> import refsde as rs
    >>> mutant = rs.testing.mutants.ALL[0]
    >>> report = rs.testing.check_solver(mutant, on_fail="report")
    >>> [finding.name for finding in report.failures][0] == mutant.caught_by
    True
    """

    step: Step = field(repr=False)
    flaw: str
    caught_by: str
    orders: Orders = field(default_factory=lambda: FIRST, repr=False, hash=False)

    @property
    def name(self) -> str:
        """Name of the mistake, in snake case."""
        return self.step.__name__

    def __repr__(self) -> str:
        return f"Mutant({self.name})"

    @property
    def accepts(self) -> frozenset[Kind]:
        """Kinds of process that it is meant for."""
        return frozenset({"flow"} if set(self.orders) == {"flow"} else {"reverse"})

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``, wrongly."""
        return self.step(process, state, s, noise)


# -- Euler-Maruyama, with one thing wrong ----------------------------------------------------------


def noise_too_loud(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    dw = 1.0001 * noise.increment(t, s, x)
    return State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


def half_score(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x, sde = state.t, state.x, process.sde
    drift = sde.f(t) * x - 0.5 * sde.g2(t) * process.score(x, t)
    return State(s, x + drift * (s - t) + process.diffuse(noise.increment(t, s, x), t))


def lost_sign(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x, sde = state.t, state.x, process.sde
    drift = sde.f(t) * x + sde.g2(t) * process.score(x, t)
    return State(s, x + drift * (s - t) + process.diffuse(noise.increment(t, s, x), t))


def diffusion_squared(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    dw = noise.increment(t, s, x)
    return State(s, x + process.drift(x, t) * (s - t) + process.sde.g2(t) * dw)


def step_for_its_root(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    dw = noise.increment(t, s, x) * sqrt(abs(s - t))
    return State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


def a_little_short(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    h = 0.9999 * (s - t)
    return State(s, x + process.drift(x, t) * h + process.diffuse(noise.increment(t, s, x), t))


def one_noise_for_all_coordinates(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    dw = noise.increment(t, s, x)[:, :1]
    return State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


def noise_off_the_path(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    dw = noise.normal(x) * sqrt(abs(s - t))
    return State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


def noise_back_to_front(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    dw = noise.increment(s, t, x)  # w(t) - w(s), the increment with the other sign
    return State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


def noise_of_its_own(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    dw = np.random.default_rng().normal(size=x.shape) * sqrt(abs(s - t))
    dw = namespace(x).asarray(dw, dtype=x.dtype)
    return State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


def in_place(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    step = process.drift(x, t) * (s - t) + process.diffuse(noise.increment(t, s, x), t)
    x += step
    return State(s, x)


def score_of_the_crowd(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    score = process.score(x, t)
    longest = float(namespace(x).max(abs(score)))
    score = score * min(1.0, 2.0 / longest)  # clipped by the largest of the batch
    drift = process.sde.f(t) * x - process.sde.g2(t) * score
    return State(s, x + drift * (s - t) + process.diffuse(noise.increment(t, s, x), t))


def clipped(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    x = x + process.drift(x, t) * (s - t) + process.diffuse(noise.increment(t, s, x), t)
    return State(s, namespace(x).clip(x, -1.0, 1.0))


def double_precision(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x = state.t, state.x
    h = np.asarray(s - t)[None]  # a float64 array, not a Python float
    return State(s, x + process.drift(x, t) * h + process.diffuse(noise.increment(t, s, x), t))


# -- Heun, with one thing wrong --------------------------------------------------------------------


def noise_at_one_end(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x, h = state.t, state.x, s - state.t
    slope, kick = process.drift(x, t), process.diffuse(noise.increment(t, s, x), t)
    return State(s, x + 0.5 * (slope + process.drift(x + slope * h + kick, s)) * h + kick)


def noise_asked_twice(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x, h = state.t, state.x, s - state.t
    slope, kick = process.drift(x, t), process.diffuse(noise.increment(t, s, x), t)
    other = process.diffuse(noise.increment(t, s, x), s)
    x_s = x + slope * h + kick
    return State(s, x + 0.5 * (slope + process.drift(x_s, s)) * h + 0.5 * (kick + other))


def quiet_guess(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x, h = state.t, state.x, s - state.t
    dw, slope = noise.increment(t, s, x), process.drift(x, t)
    kick = 0.5 * (process.diffuse(dw, t) + process.diffuse(dw, s))
    return State(s, x + 0.5 * (slope + process.drift(x + slope * h, s)) * h + kick)


def early_clock(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x, h = state.t, state.x, s - state.t
    slope = process.drift(x, t)
    return State(s, x + 0.5 * (slope + process.drift(x + slope * h, t)) * h)


def weights_beside_one(process: Process, state: State, s: Time, noise: Noise) -> State:
    t, x, h = state.t, state.x, s - state.t
    slope = process.drift(x, t)
    return State(s, x + (0.5 * slope + 0.50001 * process.drift(x + slope * h, s)) * h)


ALL: tuple[Mutant, ...] = (
    Mutant(noise_too_loud, "the noise is 0.01 % too large", "weak_limit"),
    Mutant(half_score, "half the score, as on the probability flow, but with noise", "weak_order"),
    Mutant(lost_sign, "the score has the wrong sign", "weak_order"),
    Mutant(diffusion_squared, "g^2 in front of dw in place of g", "weak_order"),
    Mutant(step_for_its_root, "noise of deviation |h| in place of sqrt|h|", "weak_order"),
    Mutant(a_little_short, "the drift is given 99.99 % of the step", "weak_limit"),
    Mutant(one_noise_for_all_coordinates, "one normal a sample, not one a coordinate",
           "weak_limit_2d"),
    Mutant(noise_off_the_path, "noise.normal in place of noise.increment", "strong_order"),
    Mutant(noise_of_its_own, "draws from a generator of its own", "repeatable"),
    Mutant(in_place, "writes into the state that it was given", "inputs"),
    Mutant(score_of_the_crowd, "clips the score by the largest in the batch", "batch"),
    Mutant(clipped, "clips samples to [-1, 1] after every step", "weak"),
    Mutant(double_precision, "turns float32 samples into float64", "float32"),
    Mutant(noise_at_one_end, "Heun with g(t) alone in front of dw", "weak_order", HEUN),
    Mutant(noise_asked_twice, "Heun that asks for its increment twice", "noise", HEUN),
    Mutant(quiet_guess, "Heun whose guess at s has no noise", "weak_order", HEUN),
    Mutant(early_clock, "Heun with its second slope at t, not at s", "flow_order", ON_FLOW),
    Mutant(weights_beside_one, "Heun with weights that sum to 1.00001", "flow_limit", ON_FLOW),
    Mutant(noise_back_to_front, "asks for the increment from s to t", "strong_order"),
)  # fmt: skip
