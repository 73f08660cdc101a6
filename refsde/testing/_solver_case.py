"""What a solver is checked on: the orders it is said to have, the processes it is for."""

from __future__ import annotations

from typing import Any

import numpy as np

from refsde._boundary import is_order, is_orders, named
from refsde._types import Kind, Noise, Process, Solver
from refsde.noise import Gaussian
from refsde.process import ForwardSDE, ProbabilityFlow, ReverseSDE
from refsde.sde import VP
from refsde.targets import GaussianMixture
from refsde.testing._report import name_of
from refsde.times import Grid

__all__ = ["SolverCase"]

SDE = VP()
# The reference problem of orders and limits.  N(0, 1) is degenerate under VP, narrow data need
# hundreds of steps before an order shows.
REFERENCE = GaussianMixture([1.0], [[0.7]], [0.25])
# Its grids end at t = 0.2: samplers with the posterior's noise show their order only once a step is
# much shorter than the last time.
LADDER = (64, 128, 256, 512)
# Two coordinates that are not independent, with other variances.
PLANE = GaussianMixture([1.0], [[0.7, -0.4]], [[[0.44, 0.11], [0.11, 0.31]]])
# A law on which flows show their true orders, where one Gaussian flatters some methods.
MODES = GaussianMixture([0.3, 0.3, 0.4], [[-2.0], [0.0], [1.5]], [0.09, 0.04, 0.16])
MODES_LADDER = (80, 160, 320)
# What the plain checks run on.
CROWD = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.0, 0.0]], [0.2, 0.1])


def short_grid(sde: Any, n: int) -> Grid:
    """Uniform grid of the reference problem."""
    return Grid.uniform(sde, n, t_end=0.2)


def modes_grid(sde: Any, n: int) -> Grid:
    """Grid on which orders of flows are judged."""
    return Grid.logsnr(sde, n, t_end=0.02)


class SolverCase:
    """A solver and the orders it is said to have, for `parametrize_with_checks`.

    Parameters
    ----------
    solver : callable
        ``solver(process, state, s, noise) -> State``.
    weak_order, strong_order, flow_order : float, optional
        As for `check_solver`.

    Raises
    ------
    TypeError
        If the solver is not callable, or a class.
    ValueError
        If no order is given and the solver declares none, or an order is not positive.

    Examples
    --------
    >>> import refsde as rs
    >>> case = rs.testing.SolverCase(rs.EulerMaruyama())
    >>> case.orders
    {'weak': 1, 'strong': 1, 'flow': 1}
    """

    def __init__(
        self,
        solver: Solver,
        *,
        weak_order: float | None = None,
        strong_order: float | None = None,
        flow_order: float | None = None,
    ) -> None:
        if isinstance(solver, type) or not callable(solver):
            hint = f"{solver.__name__}()" if isinstance(solver, type) else "refsde.EulerMaruyama()"
            raise TypeError(
                "`solver` must be called as (process, state, s, noise) -> State, got "
                f"{solver!r}: pass {hint}"
            )
        given = {"weak": weak_order, "strong": strong_order, "flow": flow_order}
        for name, value in given.items():
            if value is not None and not is_order(value):
                raise ValueError(f"`{name}_order` must be a positive number, got {value!r}: try 1")
        declared: Any = getattr(solver, "orders", None)
        if declared is not None and not is_orders(declared):
            raise ValueError(
                '`orders` of the solver must map "weak", "strong" or "flow" to positive '
                f"numbers, got {declared!r}: try {{'weak': 1}}"
            )
        accepts = getattr(solver, "accepts", None)
        if accepts is not None and not (accepts and set(accepts) <= {"reverse", "flow", "forward"}):
            raise ValueError(
                '`accepts` of the solver must hold some of "reverse", "flow" and "forward", '
                f"got {accepts!r}"
            )
        told = {name: float(value) for name, value in given.items() if value is not None}
        if declared is None and not told:
            raise ValueError(
                f"`solver` {named(solver)} declares no orders: pass weak_order=1 (laws), "
                "strong_order=1 (paths) or flow_order=2 (the probability flow), whichever it is for"
            )
        self.solver: Any = solver
        self.orders: dict[str, float] = {**(declared or {}), **told}

    def __repr__(self) -> str:
        return f"SolverCase({name_of(self.solver)})"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Processes it runs on: those it accepts, or those that its orders are for."""
        accepts = getattr(self.solver, "accepts", None)
        if accepts is not None:
            return tuple(kind for kind in ("reverse", "flow", "forward") if kind in accepts)
        stochastic = bool({"weak", "strong"} & set(self.orders))
        return (
            *(("reverse",) if stochastic else ()),
            *(("flow",) if "flow" in self.orders else ()),
        )

    @property
    def couples(self) -> bool:
        """Whether it says that samples of a batch influence each other."""
        return bool(getattr(self.solver, "couples_batch", False))

    @property
    def few(self) -> int:
        """How many samples the loop is given directly: as many as may share a block."""
        return int(getattr(self.solver, "block_rows", None) or 5)

    def process(self, kind: Kind, target: GaussianMixture = CROWD) -> Process:
        """Return the process of a kind, with the exact score of ``target``."""
        if kind == "forward":
            return ForwardSDE(SDE)
        made = ReverseSDE if kind == "reverse" else ProbabilityFlow
        return made(SDE, target.score(SDE))

    def grid(self, kind: Kind, n: int = 6) -> Grid:
        """Return a short grid in the right direction."""
        grid = short_grid(SDE, n)
        return grid.reversed() if kind == "forward" else grid

    def start(self, kind: Kind, n: int) -> np.ndarray:
        """States (n, 2) at the start of the grid; the first of a longer batch are the same."""
        t = self.grid(kind).ts[0]
        normals = np.asarray(Gaussian(7).start(np.zeros((n, 2))))
        return np.asarray(SDE.alpha(t) * np.sign(normals[:, ::-1]) + SDE.sigma(t) * normals)


class Listening:
    """A noise source that notes what it is asked: ``asked`` holds (kind, t, s)."""

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self.asked: list[tuple[str, Any, Any]] = []

    def on(self, rows: np.ndarray) -> Listening:
        part = Listening(self.noise.on(rows))
        part.asked = self.asked
        return part

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        self.asked.append(("increment", t, s))
        return self.noise.increment(t, s, x)

    def levy(self, t: Any, s: Any, x: Any) -> Any:
        self.asked.append(("levy", t, s))
        return self.noise.levy(t, s, x)

    def normal(self, x: Any) -> Any:
        self.asked.append(("normal", None, None))
        return self.noise.normal(x)
