"""What orders are measured on, and the table of what was found: rows, verdicts, text and JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from refsde import exact
from refsde._types import SDE, OrderKind
from refsde._users import is_users
from refsde.exact.order import EXACT
from refsde.sde import VP
from refsde.targets import GaussianMixture
from refsde.testing.solvers import LIMIT, SLOPE, SLOPE_ON_MODES
from refsde.times import Grid

__all__ = ["OrderTable", "Problem", "Row"]

# Grids end at the noise level that VP has here.  Near the data samplers with the posterior's noise
# show their order only once a step is much shorter than the last time.
END = 0.2
FINE = (4, 512)  # grids, and steps of the finest: a ladder that can be extrapolated so far
FALLS = 3.0  # a limit that falls so much with the last grid tells nothing yet


@dataclass(frozen=True)
class Problem:
    """What orders are measured on: N(mean, std^2) under an SDE, on uniform grids (EDM: Karras').

    Attributes
    ----------
    mean, std : float
        Of the data.
    sde : SDE
        What diffuses them.
    steps : tuple of int or None
        The ladder of grids; None is 64 to 1024, and 80 to 320 for the flow on three modes.
    """

    mean: float = 0.7
    std: float = 0.5
    sde: SDE = field(default_factory=VP)
    steps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(
                "`mean` must be finite and `std` positive and finite, got "
                f"{self.mean!r} and {self.std!r}: the reference problem has 0.7 and 0.5"
            )
        if self.steps is not None and len(set(self.steps)) < 2:
            raise ValueError(
                f"`steps` must hold two numbers of steps or more, got {self.steps!r}: "
                "a slope needs two errors"
            )

    def gaussian(self) -> GaussianMixture:
        """Law of the data."""
        return GaussianMixture([1.0], [[self.mean]], [self.std**2])

    @property
    def t_end(self) -> float:
        """Where the grids end: the noise level of VP at t = 0.2, sigma / alpha = 0.72."""
        return float(self.sde.t_of_lam(VP().lam(END)))

    def grid(self, sde: SDE, n: int) -> Grid:
        """Grid of n steps: uniform, or Karras' where time is the noise level itself (EDM)."""
        made = Grid.karras if sde.T > 1 else Grid.uniform
        return made(sde, n, t_end=self.t_end)

    def title(self) -> str:
        """Two lines: the problem, and where flows of second order or more are judged."""
        grids = "Karras grids" if self.sde.T > 1 else "uniform grids"
        return (
            f"data N({self.mean:g}, {self.std:g}^2) under {type(self.sde).__name__}, {grids} "
            f"to t = {self.t_end:.3g}\n"
            f"flow orders of 2 and more: three modes on the line, log-SNR grids to t = 0.02"
        )


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the table: a solver, a kind of error, and what was measured.

    Attributes
    ----------
    solver : str
        Name of it.
    kind : {"weak", "strong", "flow"}
        What the errors are of.
    declared : float or None
        The order that the solver says it has.
    order : Order or None
        What was measured; None if nothing could be.
    note : str
        Why nothing could be measured.
    extrapolated : Order or None
        What the limit is taken from, where that is not ``order``: the Gaussian, for flows of
        second order and more.
    raised : bool
        Whether the user's solver raised in a step, as the note says.
    """

    solver: str
    kind: OrderKind
    declared: float | None
    order: exact.Order | None
    note: str = ""
    extrapolated: exact.Order | None = None
    raised: bool = False

    @property
    def verdict(self) -> str:
        """Words for the table: "not met", "wrong limit", "not finite" and "raised" are bad news."""
        if self.order is None:
            return "raised" if self.raised else "not measured"
        if not np.all(np.isfinite(self.order.errors)):
            return "not finite"
        if np.all(self.order.errors <= EXACT * self.order.scale):
            return "exact"
        if self.declared is None:
            return "not declared"
        near = SLOPE_ON_MODES * self.declared if self.extrapolated else SLOPE
        if not self.slope >= self.declared - near:
            return "not met"
        return _of_limit(self.extrapolated or self.order)

    @property
    def slope(self) -> float:
        """The last slope above rounding; NaN if there is none or an error is not finite."""
        if self.order is None or not np.all(np.isfinite(self.order.errors)):
            return math.nan
        above = self.order.slopes[self.order.errors[1:] > EXACT * self.order.scale]
        return float(above[-1]) if len(above) else math.nan

    @property
    def judged(self) -> bool:
        """Whether there is an order to meet: one declared, by a solver that takes the SDE."""
        refused = self.order is None and not is_users(self.solver)
        return self.declared is not None and not refused

    @property
    def good(self) -> bool:
        """Whether the declared order, if there is one, is met."""
        if self.verdict in ("not finite", "raised"):
            return False
        return not self.judged or self.verdict in ("met", "slope met", "exact")

    def line(self, width: int = 22) -> str:
        """Text of the row; ``width`` is that of the longest name."""
        declared = "-" if self.declared is None else f"{self.declared:g}"
        head = f"{self.solver:<{width}}  {self.kind:<6}{declared:>10}"
        if self.order is None:
            return f"{head}{'-':>9}{'-':>7}{'-':>11}{'-':>11}   {self.verdict}"
        last = self.order.errors[-1]
        limit = (self.extrapolated or self.order).limit
        slope = "-" if self.verdict == "exact" else f"{self.slope:.3f}"
        numbers = f"{slope:>9}{self.order.steps[-1]:>7}{last:>11.2e}{limit:>11.1e}"
        return f"{head}{numbers}   {self.verdict}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, ready for JSON; None where there is none."""
        about = {"solver": self.solver, "kind": self.kind, "declared": self.declared}
        told = {**about, "verdict": self.verdict, "note": self.note}
        if self.order is None:
            return told
        errors, slopes = _plain(self.order.errors), _plain(self.order.slopes)
        steps = self.order.steps.tolist()
        limit = _plain([(self.extrapolated or self.order).limit])[0]
        return {**told, "steps": steps, "errors": errors, "slopes": slopes, "limit": limit}


def _of_limit(found: exact.Order) -> str:
    """Verdict on the limit: "slope met" where extrapolation cannot tell of it."""
    grids, finest = FINE
    if found.limit <= LIMIT * found.scale:
        return "met"
    if len(found.steps) < grids or found.steps[-1] < finest:
        return "slope met"
    coarser = replace(
        found,
        steps=found.steps[:-1],
        errors=found.errors[:-1],
        deviations=found.deviations[:-1],
    )
    return "slope met" if found.limit * FALLS < coarser.limit else "wrong limit"


def _plain(values: Any) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


@dataclass(frozen=True, eq=False)
class OrderTable:
    """Outcome: a row for every solver and kind of error.

    Attributes
    ----------
    problem : Problem
        What was measured on.
    rows : tuple of Row
        In the order of the solvers named.
    undeclared : tuple of str
        Solvers left out: they declare no order of the kinds asked for.
    """

    problem: Problem
    rows: tuple[Row, ...]
    undeclared: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether every declared order is met."""
        return all(row.good for row in self.rows)

    def table(self) -> str:
        """Text: one line for every solver and kind, then what could not be measured."""
        width = max([6, *(len(row.solver) for row in self.rows)])
        head = f"{'solver':<{width}}  {'kind':<6}{'declared':>10}"
        heads = f"{'slope':>9}{'N':>7}{'error':>11}{'limit':>11}   verdict"
        lines = [self.problem.title(), "", head + heads, *(row.line(width) for row in self.rows)]
        judged = [row for row in self.rows if row.judged]
        lines += ["", f"{sum(row.good for row in judged)} of {len(judged)} declared orders met"]
        if self.undeclared:
            lines.append(f"without an order of these kinds: {', '.join(self.undeclared)}")
        return "\n".join([*lines, *(f"not measured: {note}" for note in self.notes())])

    def notes(self) -> list[str]:
        """Why some could not be measured, a line for each reason."""
        kinds: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            if row.order is None:
                kinds.setdefault((row.solver, row.note), []).append(row.kind)
        return [f"{solver}, {', '.join(own)}: {note}" for (solver, note), own in kinds.items()]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, ready for JSON."""
        problem = self.problem
        setting = {"mean": problem.mean, "std": problem.std, "sde": repr(problem.sde)}
        rows = [row.to_dict() for row in self.rows]
        return {**setting, "good": self.good, "rows": rows, "undeclared": list(self.undeclared)}
