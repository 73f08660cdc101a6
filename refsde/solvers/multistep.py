r"""Multistep exponential integrators: one engine for DDIM, DEIS, DPM-Solver++, UniPC and others.

A step is exact but for one mean over it, that of the model's prediction m (see
``refsde.solvers._exponential``).  The engine guesses it by a polynomial through the predictions of
the last steps: one evaluation a step, whatever the order.  ``t`` is now, ``s`` the target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

from refsde._array import combine, per_sample, sqrt
from refsde._types import SDE, Array, Kind, Noise, Orders, Process, State, Time
from refsde.solvers._checks import check_choice, check_order, check_positive, check_tau
from refsde.solvers._exponential import Leg, Tau, lagrange, predicted, velocity
from refsde.solvers._means import Coordinate, Phi, coordinates, legs, power_means
from refsde.solvers.one_step import path_normal

__all__ = ["HIGHEST", "LastStepRule", "Multistep"]

LastStepRule = Literal["full", "lower", "lower if short"]
Shortcut = Literal["none", "B1", "B2", "halved", "B2 halved"]
SHORT = 10  # steps below which the published DPM-Solver++ lowers its last orders
HIGHEST = 3


@dataclass(frozen=True)
class Multistep:
    r"""Multistep exponential integrator: the engine of the family, with all its settings.

    .. math:: x_s = \mathrm{keep}\, x_t + \mathrm{reach} \sum_{j=0}^{q} \omega_j\, m_{n-j}
              + \mathrm{spread}\, z

    where m are predictions at the last q + 1 times, and omega the weights of the polynomial of
    degree q through them, in a coordinate, averaged over the step.  They depend on the grid alone
    and are computed once.  One evaluation a step; the first q steps use the history that there is.

    Parameters
    ----------
    prediction : {"eps", "x0", "v", "score"}
        What is interpolated: the noise, the data, the velocity that mixes the two, or the score
        (with which the method is poor: it shows why eps is better).
    coordinate : {"t", "rho", "lam", "angle", "index"} or callable
        In which the polynomial is one.  "angle" is arctan(rho / scale); "index" is the number of
        the step, with a constant weight (iPNDM); a callable is a strictly monotone function of rho,
        such as ``lambda rho: rho ** (1 / 7)``.
    order : int
        Degree q of the polynomial, 0 to 3, as in the DEIS paper: the order of convergence is q + 1.
    corrector : bool
        Whether every step but the last is done again with the prediction at its end, which the next
        step uses too: an order more, at no evaluation.  The path shows the first attempts.
    last_step_rule : {"full", "lower", "lower if short"}
        "lower": the last steps use degrees ..., 1, 0, which helps where the last step in lam is
        large; convergence is then of order 2 at most.  "lower if short": only on grids of fewer
        than 10 steps, as published for DPM-Solver++.
    tau : float or callable
        Amount of noise: 0 is the flow, 1 the reverse SDE with its own noise.  A function of rho is
        taken at the start of each step.
    phi : callable, optional
        Noise scale phi(rho) of ER-SDE, in place of ``tau``; for "x0" in "rho" or "lam".
    shortcut : {"none", "B1", "B2", "halved", "B2 halved"}
        Coefficients that were published in place of the exact ones: UniPC's for a polynomial of
        degree 1, half of the slope (B2, also DPM-Solver++(2M)'s) or something near it (B1);
        "halved", the missing factor 2 in the curvature of DPM-Solver++(3M).
    scale : float
        Standard deviation of the data, about, for "angle" and "v".
    analytic_first : bool
        Whether the first prediction is that for data N(0, 1), x / sqrt(alpha^2 + sigma^2), and
        costs no evaluation.  For "eps".

    Raises
    ------
    ValueError
        If a setting is not one of those above; when a run starts, if the grid is shorter than the
        order, or begins where sigma = 0.
    TypeError
        If it runs without a grid: with steps of each sample's own there is no common history.

    Notes
    -----
    A step onto sigma = 0 is of degree 0, that is, it lands on the predicted data.  With
    ``tau = 0`` the method is for the probability flow, in either direction; with noise it is for
    the reverse SDE, and converges with order 2 at most in law, because the noise makes the
    predictions rough.

    References
    ----------
    Zhang and Chen (2022), Fast Sampling of Diffusion Models with Exponential Integrator, eq. 14 and
    15; Lu et al. (2022b), DPM-Solver++; Zhao et al. (2023), UniPC; Xue et al. (2023), SA-Solver;
    Cui et al. (2023), ER-SDE.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> flow, grid = rs.ProbabilityFlow(sde, target.score(sde)), rs.Grid.power(sde, 10)
    >>> rs.sample(flow, rs.Multistep("x0", "lam", 2), 100, times=grid, rng=0).nfe[0]
    np.int64(10)
    """

    prediction: Literal["eps", "x0", "v", "score"] = "eps"
    coordinate: Coordinate = "t"
    order: int = 3
    corrector: bool = False
    last_step_rule: LastStepRule = "full"
    tau: Tau = 0.0
    phi: Phi | None = None
    shortcut: Shortcut = "none"
    scale: float = 1.0
    analytic_first: bool = False

    def __post_init__(self) -> None:
        check_choice(self, "prediction", ("eps", "x0", "v", "score"))
        if not callable(self.coordinate):
            known = ("t", "rho", "lam", "angle", "index")
            check_choice(self, "coordinate", known, "or a function of rho")
        check_order(self, "order", 0, HIGHEST)
        check_choice(self, "last_step_rule", get_args(LastStepRule))
        check_choice(self, "shortcut", get_args(Shortcut))
        for name in ("corrector", "analytic_first"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"`{name}` must be True or False, got {getattr(self, name)!r}")
        _check_noise(self)
        check_positive(self, "scale")
        if self.analytic_first and self.prediction != "eps":
            raise ValueError(
                f"`analytic_first` must be False for prediction {self.prediction!r}: it is for eps"
            )

    @property
    def _noisy(self) -> bool:
        return self.phi is not None or callable(self.tau) or self.tau != 0

    @property
    def accepts(self) -> frozenset[Kind]:
        """Kinds of process this is right for: the reverse SDE if there is noise, else the flow."""
        return frozenset({"reverse"}) if self._noisy else frozenset({"flow"})

    @property
    def orders(self) -> Orders:
        """Order of convergence of these settings."""
        if callable(self.tau):
            return {}  # a jump of tau inside a step: of first order, by a factor that varies
        order = self.order + 1 + self.corrector
        if self.coordinate == "index" or self.last_step_rule == "lower":
            order = min(order, 2)
        if "halved" in self.shortcut:
            # the degree 2 that is wrong is the corrector's, the predictor's or a first step's
            order = min(order, {0: 2, 1: 2, 2: 2 + self.corrector, 3: 3}[self.order])
        return {"weak": min(order, 2)} if self._noisy else {"flow": order}

    @property
    def least_steps(self) -> int:
        """Steps that a grid must have."""
        return max(self.order, 1)

    def bind(self, process: Process, ts: tuple[float, ...] | None) -> _Bound:
        """Compute the coefficients of a grid."""
        name = type(self).__name__
        if ts is None:
            raise TypeError(
                f"`times` of {name} must be a Grid that all samples share, such as "
                "Grid.power(sde, 10): its polynomial goes through the last steps, and samples with "
                "clocks of their own have none in common; under Adaptive use DPMSolver or GGF"
            )
        if len(ts) - 1 < self.order:
            raise ValueError(
                f"`times` has {len(ts) - 1} steps, fewer than the order {self.order} of {name}: "
                f"take {self.order} steps or more, or order={len(ts) - 1}"
            )
        places = {pair: n for n, pair in enumerate(zip(ts[:-1], ts[1:], strict=True))}
        return _Bound(self, places, coefficients(self, process.sde, ts))

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Refuse: a step depends on the grid, so that the solver has to be bound to it first."""
        raise TypeError(
            f"{type(self).__name__} must see the whole grid before its first step: run it by "
            "refsde.sample or refsde.iterate, or call solver.bind(process, grid.ts) first"
        )


class Step(NamedTuple):
    """Numbers of one step: the next state is keep x + spread z + the weighted predictions.

    Attributes
    ----------
    keep, spread : float
        As in `Leg`.
    weights : tuple of float
        Of the predictions now and before, the newest first; reach is in them.
    corrected : tuple of float
        The same of the corrector, whose first belongs to the prediction at the end; () for none.
    """

    keep: float
    spread: float
    weights: tuple[float, ...]
    corrected: tuple[float, ...]


def coefficients(method: Multistep, sde: SDE, ts: tuple[float, ...]) -> tuple[Step, ...]:
    """Numbers of every step of a grid."""
    if not sde.rho(ts[0]) > 0:
        raise ValueError(
            f"`times` must begin where sigma > 0, got t = {ts[0]:g}: nothing is predicted there; "
            "begin at sde.t_end"
        )
    inner = ts if sde.rho(ts[-1]) > 0 else ts[:-1]  # a step onto sigma = 0 is of degree 0
    if method.prediction == "score" and inner is not ts:
        raise ValueError(
            f"`times` must end where sigma > 0, got t = {ts[-1]:g}: the score has no limit there; "
            "end at sde.t_end"
        )
    exact = legs(sde, method.prediction, ts, method.tau, method.phi, method.scale)
    top = method.order + method.corrector
    means = power_means(
        method.coordinate,
        sde,
        method.prediction,
        inner,
        exact[: len(inner) - 1],
        top,
        method.phi,
        method.scale,
    )
    at = coordinates(method.coordinate, sde, inner, method.scale)
    made = []
    for n, step in enumerate(exact):
        if n == len(inner) - 1:
            made.append(Step(step.keep, step.spread, (step.reach,), ()))
            continue
        degree = _degree(method, n, len(exact))
        unit = at[n + 1] - at[n]
        nodes = [(at[n - j] - at[n]) / unit for j in range(degree + 1)]
        weights = lagrange(nodes, _published(method, step, means[n][: degree + 1]))
        corrected: tuple[float, ...] = ()
        if method.corrector and n + 1 < len(exact):
            corrected = lagrange([1.0, *nodes], _published(method, step, means[n][: degree + 2]))
        reach = step.reach
        made.append(
            Step(
                step.keep,
                step.spread,
                tuple(reach * w for w in weights),
                tuple(reach * w for w in corrected),
            )
        )
    return tuple(made)


def _degree(method: Multistep, n: int, steps: int) -> int:
    """Degree of the polynomial of step ``n`` of so many: what history and the last steps allow."""
    lower = method.last_step_rule == "lower" or (
        method.last_step_rule == "lower if short" and steps < SHORT
    )
    return min(method.order, n, steps - 1 - n if lower else n)


def _published(method: Multistep, step: Leg, means: list[float]) -> list[float]:
    """The means of theta^k, but for those that were published otherwise."""
    if len(means) == 2 and method.shortcut.startswith("B"):
        half = 0.5
        if method.shortcut == "B1":
            half = -0.5 * step.tilt / math.expm1(-step.tilt)
        return [means[0], half]
    if len(means) == 3 and "halved" in method.shortcut:
        return [*means[:2], 0.5 * means[2]]
    return means


@dataclass(frozen=True)
class _Bound:
    """The method on one grid, which is what runs."""

    on_grid: ClassVar[bool] = True  # it has a history, of the times of this grid
    method: Multistep
    places: dict[tuple[float, float], int]  # (t, s) of every step, and its number
    steps: tuple[Step, ...]

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        n = self.step_of(state.t, s)
        t, x = state.t, state.x
        base, history = state.memory or (x, ())
        history = (self.prediction(process, x, t, n), *history)
        if n and (before := self.steps[n - 1]).corrected:
            x = combine([1.0, *before.corrected], [base, *history])
        step = self.steps[n]
        base = step.keep * x
        if step.spread:
            base = base + step.spread * process.colour(path_normal(noise, t, s, x))
        x_s = combine([1.0, *step.weights], [base, *history])
        return State(s, x_s, memory=(base, history[: self.method.order + 1]))

    def step_of(self, t: Time, s: Time) -> int:
        """Return which step of the grid goes from ``t`` to ``s``."""
        if not per_sample(t) and not per_sample(s) and (t, s) in self.places:
            return self.places[t, s]
        raise ValueError(
            f"{type(self.method).__name__} is bound to a grid of {len(self.places)} steps, none of "
            f"which goes from {t!r} to {s!r}: bind it to the grid that it runs on"
        )

    def prediction(self, process: Process, x: Array, t: Time, n: int) -> Array:
        """What is interpolated; at the start it may be a formula."""
        if n == 0 and self.method.analytic_first:
            alpha, sigma = process.sde.alpha(t), process.sde.sigma(t)
            return x / sqrt(alpha * alpha + sigma * sigma)
        if self.method.prediction == "v":
            return velocity(process, x, t, self.method.scale)
        return predicted(process, self.method.prediction, x, t)


def _check_noise(method: Multistep) -> None:
    check_tau(method)
    if method.prediction in ("score", "v") and method._noisy:
        raise ValueError(
            f"`tau` must be 0 for prediction {method.prediction!r}, got {method.tau!r}: use eps or "
            "x0"
        )
    if method.phi is None:
        return
    if not callable(method.phi):
        raise TypeError(f"`phi` must be a function of rho, got {method.phi!r}: lambda rho: rho**2")
    if method.prediction != "x0" or method.coordinate not in ("rho", "lam") or method.tau != 0:
        raise ValueError(
            "`phi` goes with prediction='x0', a coordinate 'rho' or 'lam' and tau=0, got "
            f"{method.prediction!r}, {method.coordinate!r} and {method.tau!r}"
        )
