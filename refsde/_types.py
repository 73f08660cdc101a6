"""What the pieces are to each other: time, state, and the four protocols.

Four things are separate: *what* is integrated (`Process`), *how* a step is made (`Solver`), *when*
(`Times`) and *with which noise* (`Noise`).  Time ``t`` is now and ``s`` is the target; data live at
``t = 0`` and noise at ``t = T``, so sampling has ``s - t < 0``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from refsde._array import Array, Time

__all__ = [
    "SDE",
    "Array",
    "Fate",
    "Kind",
    "Noise",
    "OrderKind",
    "Orders",
    "Process",
    "Score",
    "Solver",
    "State",
    "Time",
    "Times",
]

Score = Callable[[Array, Time], Array]
Kind = Literal["forward", "reverse", "flow"]
# What a solver declares of itself, where it converges: "weak" (laws), "strong" (paths of the SDE)
# and "flow" (points of the probability flow).
OrderKind = Literal["weak", "strong", "flow"]
Orders = Mapping[OrderKind, float]


class Fate(IntEnum):
    """What has become of a sample: under way, at the end, or lost on the way and why."""

    UNDER_WAY = 0
    ARRIVED = 1
    NOT_FINITE = 2
    STEP_TOO_SMALL = 3
    TOO_MANY_STEPS = 4


class State(NamedTuple):
    """Where a batch of samples is.

    Attributes
    ----------
    t : float or array (B, 1, ..., 1)
        The time now.
    x : array (B, *D)
        The samples.
    error : array (B, 1, ..., 1) or None
        Scaled local error of the step that led here; at most 1 is acceptable.
    memory : tuple
        What the solver carries from step to step.
    reuse : tuple
        Values that a step found at its start and that stay valid if the attempt is rejected.  The
        next attempt gets them behind a mask (B, 1, ..., 1) of the samples that were rejected.
    """

    t: Time
    x: Array
    error: Array | None = None
    memory: tuple[Any, ...] = ()
    reuse: tuple[Any, ...] = ()


class SDE(Protocol):
    """A forward diffusion dx = f(t) x dt + g(t) dw, so that x_t = alpha(t) x_0 + sigma(t) z."""

    @property
    def T(self) -> float: ...
    @property
    def t_end(self) -> float: ...
    @property
    def prior_std(self) -> float: ...
    def alpha(self, t: Time) -> Any: ...
    def sigma(self, t: Time) -> Any: ...
    def f(self, t: Time) -> Any: ...
    def g2(self, t: Time) -> Any: ...
    def rho(self, t: Time) -> Any: ...
    def lam(self, t: Time) -> Any: ...
    def t_of_lam(self, lam: Time) -> Any: ...
    def chain(self, t: Time, s: Time) -> tuple[Any, Any]: ...


class Process(Protocol):
    """What a solver integrates: dx = drift dt + diffuse(dw), for dt of either sign."""

    @property
    def sde(self) -> SDE: ...
    @property
    def stochastic(self) -> bool: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def score(self) -> Score: ...
    def eps(self, x: Array, t: Time) -> Array: ...
    def denoise(self, x: Array, t: Time) -> Array: ...
    def drift(self, x: Array, t: Time) -> Array: ...
    def diffuse(self, dw: Any, t: Time) -> Any: ...
    def colour(self, z: Array) -> Array: ...
    def gram(self, v: Array) -> Array: ...
    def displace(self, move: Array, variance: Any, score: Callable[[], Array]) -> Array: ...
    def at(self, t: Time, s: Time) -> Process: ...
    def start(self, z: Array) -> Array: ...


class Noise(Protocol):
    """Where randomness comes from: a Brownian path asked by interval, and normals beside it.

    A source that remembers may have ``settle(t)``: the loop calls it after every attempt, with the
    times before which nothing will be asked again.
    """

    def increment(self, t: Time, s: Time, x: Array) -> Array: ...
    def levy(self, t: Time, s: Time, x: Array) -> tuple[Array, Array]: ...
    def normal(self, x: Array) -> Array: ...
    def on(self, rows: np.ndarray) -> Noise: ...


class Times(Protocol):
    """When the steps happen: a grid, or a controller that accepts, rejects and proposes.

    Where samples end at steps of their own there is ``fates(t, plan)`` too, a `Fate` for each
    sample (B,): those that are no longer under way leave the batch.
    """

    def start(self, process: Process, x: Array) -> tuple[Time, Any]: ...
    def target(self, t: Time, plan: Any) -> Time | None: ...
    def judge(self, old: State, new: State, plan: Any) -> tuple[State, Any]: ...
    def select(self, plan: Any, rows: np.ndarray) -> Any: ...


@runtime_checkable
class Solver(Protocol):
    """One step from ``state.t`` to ``s``; any callable of this signature is a solver."""

    def __call__(self, process: Process, state: State, s: Time, noise: Noise, /) -> State: ...
