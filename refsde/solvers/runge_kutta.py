r"""Exponential Runge-Kutta methods: one engine for rhoRK, DPM-Solver, SEEDS and their pairs.

A step is exact but for one mean over it, that of the model's prediction m (see
``refsde.solvers._exponential``).  Stage i guesses the mean up to its own time from the predictions
of the stages before it; the last guess is that of the whole step.  ``t`` is now, ``s`` the target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from refsde._array import combine, log, per_sample
from refsde._types import SDE, Array, Kind, Noise, Orders, Process, State, Time
from refsde.solvers._checks import check_choice, check_tau
from refsde.solvers._exponential import Leg, Tau, lagrange, leg, predicted, share
from refsde.solvers._reuse import evaluated
from refsde.solvers._tolerance import check_tolerances, scaled_error
from refsde.solvers.one_step import path_normal

__all__ = ["ExponentialRK", "Tableau"]

Weights = tuple[Any, ...]  # of the predictions in a mean: they add up to 1


class Tableau(NamedTuple):
    """Stages of an exponential Runge-Kutta method.

    Attributes
    ----------
    shares : tuple of float
        Where the stages after the first are, as shares of the step, ascending for stochastic runs.
    weights : tuple of callables
        ``weights[i](nodes, tilt)``: of the predictions before, in the mean up to stage i; the last
        is that of the whole step.  ``nodes`` are the shares of all stages in lam, and ``tilt`` is
        that of the part of the step which is averaged over.
    order : int
        Of convergence on the flow.
    low : callable or None
        Weights of a cheaper proposal of one order less, for error control.
    """

    shares: tuple[float, ...]
    weights: tuple[Callable[[Any, Any], Weights], ...]
    order: int
    low: Callable[[Any, Any], Weights] | None = None


@dataclass(frozen=True)
class Fixed:
    """Weights that are numbers: those of a Runge-Kutta method in rho, divided by their sum."""

    row: tuple[float, ...]

    def __call__(self, nodes: Any, tilt: Any) -> Weights:
        total = sum(self.row)
        return tuple(a / total for a in self.row)


@dataclass(frozen=True)
class Through:
    """Weights of the polynomial through the stages ``stages``, with its exact mean.

    Attributes
    ----------
    stages : tuple of int
        The stages; 0 is the start.
    upto : int or None
        The mean is up to this stage; None is that of the whole step.
    half : bool
        Take one half for the mean of theta, as published for DPM-Solver-2.
    """

    stages: tuple[int, ...]
    upto: int | None = None
    half: bool = False

    def __call__(self, nodes: Any, tilt: Any) -> Weights:
        length = 1.0 if self.upto is None else nodes[self.upto]
        at = [nodes[i] / length for i in self.stages]
        means = [1.0, 0.5] if self.half else [share(k, tilt) for k in range(len(at))]
        found = dict(zip(self.stages, lagrange(at, means), strict=True))
        return tuple(found.get(i, 0.0) for i in range(max(self.stages) + 1))


@dataclass(frozen=True)
class ExponentialRK:
    r"""Exponential Runge-Kutta method: the engine of the family, with all its settings.

    .. math:: x_i = \mathrm{keep}_i\, x_t + \mathrm{reach}_i \sum_{j<i} a_{ij}\, m_j +
              \text{noise up to } i, \qquad m_i = m(x_i, t_i)

    for every stage i, the last of which is s itself, with a_ij that add up to one.

    Parameters
    ----------
    tableau : Tableau
        Stages and weights.
    prediction : {"eps", "x0"}
        What is averaged.
    placement : {"rho", "lam", "t"}
        In which variable stages are shares of the step.
    tau : float or callable
        Amount of noise: 0 is the flow, 1 the reverse SDE with its own noise; a function of rho is
        taken at the start of the step.  The noise of a stage is carried on to the next ones, never
        drawn again.
    rtol, atol : float
        Tolerances under `Adaptive`, where the tableau has a cheaper proposal: its gap to the result
        is taken in units of max(atol, rtol max(abs(cheap), abs(cheap before))), root mean square
        over a sample.  ``atol`` is in units of the data.

    Raises
    ------
    ValueError, TypeError
        If a setting is not one of those above.

    Notes
    -----
    A step onto sigma = 0 is Euler's, which lands on the predicted data at one evaluation: EDM's
    Heun method with n steps, the last of them onto zero, takes 2 n - 1.

    References
    ----------
    Zhang and Chen (2022), section 3.2 (rhoRK); Lu et al. (2022), DPM-Solver, algorithms 1 and 2;
    Gonzalez et al. (2023), SEEDS; Hochbruck and Ostermann (2010), Exponential integrators.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.RhoRK("2heun").method.placement
    'rho'
    """

    tableau: Tableau
    prediction: Literal["eps", "x0"] = "eps"
    placement: Literal["rho", "lam", "t"] = "lam"
    tau: Tau = 0.0
    rtol: float = 0.05
    atol: float = 0.0078

    def __post_init__(self) -> None:
        check_choice(self, "prediction", ("eps", "x0"))
        check_choice(self, "placement", ("rho", "lam", "t"))
        check_tau(self)
        check_tolerances(self, self.rtol, self.atol, "rms")

    @property
    def accepts(self) -> frozenset[Kind]:
        """Kinds of process this is right for: the reverse SDE if there is noise, else the flow."""
        return frozenset({"reverse" if callable(self.tau) or self.tau else "flow"})

    @property
    def orders(self) -> Orders:
        """Order of convergence."""
        noisy = "reverse" in self.accepts
        return {"weak": min(self.tableau.order, 2)} if noisy else {"flow": self.tableau.order}

    def init(self, process: Process, x: Array, t: Time) -> tuple[Any, ...]:
        """Memory: the cheaper proposal against which the next error is measured."""
        return (x,) if self.tableau.low else ()

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t, x, sde = state.t, state.x, process.sde

        def model(part: Process, x: Array, t: Time) -> Array:
            return predicted(part, self.prediction, x, t)

        first = evaluated(model, process, state)
        whole = leg(sde, self.prediction, t, s, self.tau)
        if not per_sample(s) and sde.rho(s) == 0:
            return State(s, whole.keep * x + whole.reach * first, memory=state.memory)
        at = self._stages(sde, t, s)  # and s itself, where no stage is evaluated
        nodes = _nodes(sde, at, s)
        values, carried = [first], None
        for i, weights in enumerate(self.tableau.weights, start=1):
            last = i == len(self.tableau.weights)
            part = whole if last else leg(sde, self.prediction, t, at[i], self.tau)
            carried = self._noise(process, carried, at[i - 1], at[i], x, noise)
            x_i = _moved(part, x, weights(nodes, part.tilt), values, carried)
            if not last:
                values.append(model(process, x_i, at[i]))
        if self.tableau.low is None:
            return State(s, x_i)
        low = _moved(whole, x, self.tableau.low(nodes, whole.tilt), values, carried)
        (before,) = state.memory or (x,)
        error = scaled_error(x_i - low, low, before, self.rtol, self.atol)
        return State(s, x_i, error, memory=(low,), reuse=(first,))

    def _stages(self, sde: SDE, t: Time, s: Time) -> list[Time]:
        """Times of the stages, and s; a share of one is s itself, unrounded."""
        return [t, *(s if c == 1 else self._at(sde, t, s, c) for c in self.tableau.shares), s]

    def _at(self, sde: SDE, t: Time, s: Time, c: float) -> Time:
        if self.placement == "t":
            between: Time = t + c * (s - t)
        elif self.placement == "rho":
            rho = sde.rho(t)
            between = sde.t_of_lam(-log(rho + c * (sde.rho(s) - rho)))
        else:
            lam = sde.lam(t)
            between = sde.t_of_lam(lam + c * (sde.lam(s) - lam))
        return between

    def _noise(
        self, process: Process, carried: Any, t: Time, s: Time, x: Array, noise: Noise
    ) -> Any:
        """Noise of the step up to ``s``, from that up to the stage before, at ``t``."""
        if "flow" in self.accepts:
            return None
        part = leg(process.sde, self.prediction, t, s, self.tau)
        fresh = part.spread * process.colour(path_normal(noise, t, s, x))
        return fresh if carried is None else part.keep * carried + fresh


def _nodes(sde: SDE, times: list[Time], s: Time) -> list[Any]:
    """Shares of the step in lam at which its stages are."""
    start = sde.lam(times[0])
    whole = sde.lam(s) - start
    return [0.0, *(1.0 if t is s else (sde.lam(t) - start) / whole for t in times[1:])]


def _moved(part: Leg, x: Array, weights: Weights, values: list[Array], carried: Any) -> Array:
    """State at the end of a part of the step."""
    moved = combine([part.keep, *(part.reach * w for w in weights)], [x, *values])
    return moved if carried is None else moved + carried
