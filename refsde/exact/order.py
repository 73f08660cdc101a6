r"""Orders of convergence without Monte Carlo: errors on a ladder of grids, slopes, and the limit.

An error c N^-p + c' N^-(p + 1) + ... on N steps shows its order p as a slope.  The slope alone is
not enough: a noise scale wrong by 0.1 % hides behind it at every N in use.  Extrapolating the
signed errors to N = infinity tells what they converge *to*, which must be zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from refsde._array import Array
from refsde._boundary import check_accepts, is_order, is_orders
from refsde._types import SDE, OrderKind, Process, Solver
from refsde.exact.errors import strong_error, weak_error
from refsde.exact.flow import flow
from refsde.exact.law import Start, gaussian_target, start_moments
from refsde.integrate import sample
from refsde.noise import Gaussian
from refsde.times import Grid

__all__ = ["Order", "order"]

STEPS = (64, 128, 256, 512, 1024)
POINTS = 400  # that the flow carries
EXACT = 1e-12  # an error below it is rounding, and its slope has no meaning


@dataclass(frozen=True, eq=False)
class Order:
    r"""Errors of a solver on a ladder of grids, and what follows from them.

    Attributes
    ----------
    kind : {"weak", "strong", "flow"}
        What the errors are of.
    steps : array (k,) of int
        Numbers of steps N, ascending.
    errors : array (k,)
        Size of the error at each of them, not negative: `WeakError.size`; the root mean square of
        `strong_error`; or that over the points carried by the flow.
    deviations : array (k, m)
        The signed errors of which ``errors`` are the sizes: whitened moments, or points.
    declared : float or None
        The order that the solver is said to have.
    scale : float
        What errors are large or small against: the standard deviation of the exact law, or 1 for
        weak errors, which are in its units already.
    """

    kind: OrderKind
    steps: np.ndarray
    errors: np.ndarray
    deviations: np.ndarray
    declared: float | None = None
    scale: float = 1.0

    @property
    def slopes(self) -> np.ndarray:
        """Observed orders (k - 1,) between neighbouring grids: log(e / e') / log(N' / N)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.log(self.errors[:-1] / self.errors[1:])
        return np.asarray(gain / np.log(self.steps[1:] / self.steps[:-1]))

    @property
    def slope(self) -> float:
        """The last of the slopes."""
        return float(self.slopes[-1])

    @property
    def limit(self) -> float:
        r"""Size of the error that is left when N goes to infinity, by Richardson extrapolation.

        With k grids the signed errors are taken as c_0 + c_1 N^-p + c_2 N^-(p + 1) + ..., k terms
        in all, where p is the declared order, or else the last slope rounded to a half; this is the
        size of c_0, and ``inf`` if an error is not finite.  If p is a half, so are the steps of the
        exponents: a method of strong order 1.5 has order 2 where the drift is affine.
        """
        if not np.all(np.isfinite(self.deviations)):
            return math.inf
        seen = round(2 * self.slope) / 2 if self.has_slope and math.isfinite(self.slope) else 1.0
        p = self.declared or max(seen, 0.5)
        apart = 1.0 if float(p).is_integer() else 0.5
        powers = np.concatenate([[0.0], p + apart * np.arange(len(self.steps) - 1)])
        ladder = (self.steps[:, None] / self.steps[0]) ** -powers
        constant = np.linalg.solve(ladder, self.deviations)[0]
        return float(np.linalg.norm(constant))

    @property
    def has_slope(self) -> bool:
        """Whether the slope means anything: the errors are finite and above rounding."""
        return bool(np.all(np.isfinite(self.errors)) and self.errors[-1] > EXACT * self.scale)

    def holds(self, *, within: float = 0.1, limit: float = 1e-6) -> bool:
        """Whether the declared order is met: the last slope and the limit of the error.

        The limit wants four grids or more, the finest of some hundreds of steps: of a right solver
        on fewer, what extrapolation leaves is still large.

        Parameters
        ----------
        within : float
            How far the last slope may stay below the declared order.
        limit : float
            How large the extrapolated error may be, relative to ``scale``.
        """
        return self.steep(within) and self.limit <= limit * self.scale

    def steep(self, within: float = 0.1) -> bool:
        """Whether the last slope reaches the declared order, but for ``within``.

        Errors that are all rounding have no slope, and are as good as any.
        """
        if not np.all(np.isfinite(self.errors)):
            return False
        return not self.has_slope or self.slope >= (self.declared or 0.0) - within

    def __str__(self) -> str:
        rows = [f"{'N':>6}  {'error':>10}  slope"]
        for i, (n, error) in enumerate(zip(self.steps, self.errors, strict=True)):
            slope = f" {self.slopes[i - 1]:6.3f}" if i else ""
            rows.append(f"{n:>6}  {error:10.3e}{slope}")
        said = "" if self.declared is None else f", declared {self.declared:g}"
        return "\n".join([f"{self.kind} order{said}", *rows, f"limit {self.limit:.2g}"])

    def __repr__(self) -> str:
        return (
            f"Order({self.kind}, slope {self.slope:.4g} at N = {self.steps[-1]}, "
            f"error {self.errors[-1]:.3g}, limit {self.limit:.2g})"
        )


def order(
    process: Process,
    solver: Solver,
    kind: OrderKind = "weak",
    *,
    steps: Sequence[int] = STEPS,
    grid: Callable[[SDE, int], Grid] = Grid.uniform,
    declared: float | None = None,
    start: Start = "marginal",
) -> Order:
    r"""Measure an order of convergence against exact answers, without Monte Carlo.

    Parameters
    ----------
    process : ReverseSDE, ProbabilityFlow or ForwardSDE
        What is integrated, with the score of a target; a ForwardSDE for strong orders alone.
    solver : callable
        How a step is made.
    kind : {"weak", "strong", "flow"}
        "weak": of the output's mean and covariance (`weak_error`).  "strong": of paths
        (`strong_error`).  Both need a Gaussian target.  "flow": of 400 points that a
        ProbabilityFlow carries from T, against `flow`; any target, best a mixture, because on one
        Gaussian some methods seem better than they are.
    steps : sequence of int
        Numbers of steps, ascending, at least two.
    grid : callable
        ``grid(sde, n)``, the grid with n steps: ``rs.Grid.uniform``, ``rs.Grid.logsnr``, ...
    declared : float, optional
        The order that is expected, used by the extrapolation; by default what the solver declares
        in ``solver.orders``.
    start : "marginal", "prior" or tuple (mean, cov)
        As for `law`, in the kinds "weak" and "strong".  Points of the flow are those of the prior.

    Returns
    -------
    Order
        With ``.errors``, ``.slopes`` and ``.limit``; `print` shows a table.

    Raises
    ------
    ValueError
        As `law` and `flow`; or if ``kind`` or ``steps`` is wrong.
    TypeError
        If the solver does not accept the process, or "flow" is asked of another process.

    References
    ----------
    Kloeden and Platen (1992), sections 9.6 and 9.7, on strong and weak orders; Richardson (1911).

    Examples
    --------
    >>> import refsde as rs
    >>> target, sde = rs.GaussianMixture([1.0], [[0.7]], [0.25]), rs.VP()
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> rs.exact.order(process, rs.EulerMaruyama(), "weak", steps=(64, 128, 256)).slopes.round(2)
    array([1.05, 1.02])
    """
    check_accepts(solver, process)
    if kind not in ("weak", "strong", "flow"):
        raise ValueError(f"`kind` must be 'weak', 'strong' or 'flow', got {kind!r}")
    numbers = _numbers(steps)
    grids = [_grid(grid, process, n) for n in numbers.tolist()]
    if declared is None:
        orders = getattr(solver, "orders", {})
        if not is_orders(orders):
            raise ValueError(
                '`orders` of the solver must map "weak", "strong" or "flow" to positive '
                f"numbers, got {orders!r}: or pass declared="
            )
        declared = orders.get(kind)
    elif not is_order(declared):
        raise ValueError(
            f"`declared` must be a positive number, the expected order, got {declared!r}: or None"
        )
    scale = 1.0
    if kind == "weak":
        weak = [weak_error(process, solver, ts, start=start) for ts in grids]
        deviations = np.array([error.whitened for error in weak])
        errors = np.linalg.norm(deviations, axis=1)
    elif kind == "strong":
        errors = np.array([strong_error(process, solver, ts, start=start) for ts in grids])
        deviations = errors[:, None]
        scale = _spread(process, grids[-1], start)
    else:
        deviations, scale = _flow_gaps(process, solver, grids)
        errors = np.linalg.norm(deviations, axis=1)
    return Order(kind, numbers, errors, deviations, declared, scale)


def _spread(process: Process, grid: Grid, start: Start) -> float:
    """Standard deviation of the exact law at the grid's end, or of the start on the forward SDE."""
    if process.kind == "forward":
        return math.sqrt(float(np.trace(start_moments(process, grid, start)[1]))) or 1.0
    target = gaussian_target(process, "process").at(process.sde, grid.ts[-1])
    return math.sqrt(float(np.trace(target.cov))) or 1.0


def _grid(make: Any, process: Process, n: int) -> Grid:
    """Grid of n steps in the direction of the process."""
    if not callable(make):
        raise TypeError(
            f"`grid` must be a function (sde, n) -> Grid, got {make!r}: pass rs.Grid.uniform"
        )
    made = make(process.sde, n)
    if not isinstance(made, Grid) or made.n != n:
        raise ValueError(
            f"`grid` must return a Grid of the n = {n} steps that it is asked for, got {made!r}"
        )
    backwards = process.kind == "forward" and made.ts[0] > made.ts[-1]
    return made.reversed() if backwards else made


def _numbers(steps: Sequence[int]) -> np.ndarray:
    try:
        numbers = np.asarray(steps)
    except ValueError:  # ragged
        numbers = np.array(None)
    if (
        numbers.ndim != 1
        or len(numbers) < 2
        or numbers.dtype.kind not in "iu"
        or numbers[0] < 1
        or np.any(np.diff(numbers) <= 0)
    ):
        raise ValueError(
            f"`steps` must be two or more positive ints, ascending, got {steps!r}: try "
            "(64, 128, 256)"
        )
    return numbers


def _flow_gaps(process: Process, solver: Solver, grids: list[Grid]) -> tuple[np.ndarray, float]:
    """Gaps (k, POINTS d) between the solver and the exact flow, over sqrt(POINTS); its spread."""
    target = getattr(process.score, "target", None)
    if process.kind != "flow" or target is None:
        raise TypeError(
            f"`kind` = 'flow' needs a ProbabilityFlow with the score of a target, got {process!r}: "
            "use refsde.ProbabilityFlow(sde, target.score(sde))"
        )
    x = process.start(_normals(getattr(target, "event_shape", (target.dim,))))
    gaps = []
    exact: dict[tuple[float, float], Array] = {}
    for ts in grids:
        ends = (ts.ts[0], ts.ts[-1])
        if ends not in exact:
            exact[ends] = flow(process.sde, target, x, *ends)
        run = sample(process, solver, x=x, times=ts)
        gap = run.x - exact[ends]
        gap[~run.success] = math.inf  # a lost sample is not where its last good state is
        gaps.append(gap.ravel() / math.sqrt(POINTS))
    return np.array(gaps), math.sqrt(float(np.sum(np.var(exact[ends], axis=0)))) or 1.0


def _normals(event: tuple[int, ...]) -> np.ndarray:
    """Points (POINTS, *event): the quantiles of a normal on the line, else fixed draws."""
    if event == (1,):
        return np.asarray(ndtri((np.arange(POINTS) + 0.5) / POINTS))[:, None]
    draws: Any = Gaussian(0).start(np.zeros((POINTS, *event)))
    return np.asarray(draws)
