"""Published names: what a method is called, and the engine with the settings it stands for."""

from __future__ import annotations

from typing import Any

from refsde._types import Kind, Noise, Orders, Process, State, Time

__all__ = ["Named"]


class Named:
    """A published method: a few parameters, and the engine with the settings they stand for."""

    @property
    def method(self) -> Any:
        """The engine that runs, with its settings."""
        raise NotImplementedError

    @property
    def accepts(self) -> frozenset[Kind]:
        """Kinds of process this is right for."""
        kinds: frozenset[Kind] = self.method.accepts
        return kinds

    @property
    def orders(self) -> Orders:
        """Order of convergence."""
        orders: Orders = self.method.orders
        return orders

    @property
    def least_steps(self) -> int:
        """Steps that a grid must have."""
        return int(getattr(self.method, "least_steps", 1))

    def bind(self, process: Process, ts: tuple[float, ...] | None) -> Any:
        """Compute what depends on the grid."""
        method = self.method
        if not hasattr(method, "bind"):
            return method
        try:
            return method.bind(process, ts)
        except (TypeError, ValueError) as wrong:
            told = str(wrong).replace(f" {type(method).__name__}", f" {self!r}")
            raise type(wrong)(told) from None

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        made: State = self.method(process, state, s, noise)
        return made
