r"""DEIS: the solvers of Zhang and Chen on the probability flow, and the pseudo-multistep ones.

All are settings of the two engines, `Multistep` and `ExponentialRK`; "order" is the degree of the
polynomial, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from refsde._array import combine
from refsde._types import Array, Noise, Process, State, Time
from refsde.solvers._checks import check_choice, check_order, check_tau
from refsde.solvers._exponential import Leg, Tau, leg
from refsde.solvers._named import Named
from refsde.solvers.multistep import HIGHEST, Multistep
from refsde.solvers.runge_kutta import ExponentialRK, Fixed, Tableau

__all__ = ["IPNDM", "TAB", "RhoAB", "RhoRK"]


@dataclass(frozen=True)
class TAB(Named):
    r"""tAB-DEIS: the noise prediction extrapolated by a polynomial in t.

    .. math:: x_s = \frac{\alpha_s}{\alpha_t} x_t + \alpha_s \sum_{j=0}^{q}
              \Big(\int_{\rho_t}^{\rho_s} \ell_j(t(\rho))\,d\rho\Big)\,\hat\epsilon_{n-j}

    with the Lagrange polynomials of the last q + 1 times.  One evaluation a step.

    Parameters
    ----------
    order : int
        Degree q, 0 to 3; 0 is DDIM, 3 the paper's best.  The order of convergence is q + 1.
    tau : float or callable
        Amount of noise: 0 is the flow; with more it is stochastic DEIS, on the reverse SDE.

    Raises
    ------
    ValueError, TypeError
        If the order is none of these; as `Multistep` when it runs.

    Notes
    -----
    Grid and order belong together: ``Grid.power(sde, n, 2.0)`` is the paper's, while on equal steps
    of t high orders lose to low ones at few steps.

    References
    ----------
    Zhang and Chen (2022), Fast Sampling of Diffusion Models with Exponential Integrator, eq. 14 and
    15.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> flow, grid = rs.ProbabilityFlow(sde, target.score(sde)), rs.Grid.power(sde, 10)
    >>> rs.sample(flow, rs.TAB(3), 100, times=grid, rng=0).x.shape
    (100, 2)
    """

    order: int = 3
    tau: Tau = 0.0

    def __post_init__(self) -> None:
        check_order(self, "order", 0, HIGHEST)
        check_tau(self)

    @property
    def method(self) -> Multistep:
        """The engine that runs, with its settings."""
        return Multistep("eps", "t", self.order, tau=self.tau)


@dataclass(frozen=True)
class RhoAB(Named):
    r"""rhoAB-DEIS: Adams-Bashforth with variable steps in rho = sigma / alpha.

    As `TAB`, with the polynomial in rho: its coefficients are elementary.  Also known as LMS.

    Parameters
    ----------
    order : int
        Degree, 0 to 3; the order of convergence is one more.
    tau : float or callable
        As for `TAB`.

    Raises
    ------
    ValueError, TypeError
        As `TAB`.

    References
    ----------
    Zhang and Chen (2022), section 3.2; Hairer, Norsett and Wanner (1993), section III.5.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.RhoAB(1).orders
    {'flow': 2}
    """

    order: int = 3
    tau: Tau = 0.0

    def __post_init__(self) -> None:
        check_order(self, "order", 0, HIGHEST)
        check_tau(self)

    @property
    def method(self) -> Multistep:
        """The engine that runs, with its settings."""
        return Multistep("eps", "rho", self.order, tau=self.tau)


@dataclass(frozen=True)
class IPNDM(Named):
    r"""Pseudo-linear multistep methods: constants of equal steps, on any grid.

    .. math:: \bar\epsilon = \tfrac1{24}(55\hat\epsilon_n - 59\hat\epsilon_{n-1} +
              37\hat\epsilon_{n-2} - 9\hat\epsilon_{n-3}), \qquad x_s = \mathrm{DDIM}(x_t;
              \bar\epsilon)

    Parameters
    ----------
    points : int
        How many predictions are combined, 1 to 4.
    warmup : {"none", "heun", "rk4"}
        How it starts.  "none" (iPNDM): with the constants of fewer points, one evaluation a step.
        "heun" (S-PNDM, PLMS): the first step takes the mean of the predictions at its two ends, one
        evaluation more.  "rk4" (F-PNDM): the first three steps are pseudo-Runge-Kutta steps of four
        evaluations, nine more in all.

    Raises
    ------
    ValueError, TypeError
        If an option is none of these; as `Multistep` when it runs.

    Notes
    -----
    The order of convergence is 2 at most, whatever the number of points: the constants assume that
    the weight of eps does not change during a step.  At ten evaluations it is among the best all
    the same.  It was published on equal steps of t, and runs on any grid.

    References
    ----------
    Liu et al. (2022), Pseudo Numerical Methods for Diffusion Models on Manifolds, eq. 12 and 13;
    Zhang and Chen (2022), appendix (iPNDM).

    Examples
    --------
    >>> import refsde as rs
    >>> rs.IPNDM(points=4).orders
    {'flow': 2}
    """

    points: int = 4
    warmup: Literal["none", "heun", "rk4"] = "none"

    def __post_init__(self) -> None:
        check_order(self, "points", 1, HIGHEST + 1)
        check_choice(self, "warmup", ("none", "heun", "rk4"))

    @property
    def method(self) -> Multistep:
        """The engine that runs, with its settings."""
        return Multistep("eps", "index", self.points - 1)

    def bind(self, process: Process, ts: tuple[float, ...] | None) -> Any:
        """Compute what depends on the grid."""
        bound = super().bind(process, ts)
        first = {"none": 0, "heun": 1, "rk4": 3}[self.warmup]
        return _PseudoRK(bound, first, self.warmup == "rk4") if first else bound


@dataclass(frozen=True)
class _PseudoRK:
    """A bound multistep method whose first steps are pseudo-Runge-Kutta steps."""

    on_grid: ClassVar[bool] = True
    bound: Any
    first: int
    classical: bool  # the classical weights of four stages; else Heun's

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t, x, sde = state.t, state.x, process.sde
        if self.bound.step_of(t, s) >= self.first or sde.rho(s) == 0:
            made: State = self.bound(process, state, s, noise)
            return made

        def ddim(part: Leg, eps: Array) -> Array:
            return combine([part.keep, part.reach], [x, eps])

        whole = leg(sde, "eps", t, s)
        e1 = process.eps(x, t)
        if self.classical:
            middle = 0.5 * (t + s)
            half = leg(sde, "eps", t, middle)
            e2 = process.eps(ddim(half, e1), middle)
            e3 = process.eps(ddim(half, e2), middle)
            e4 = process.eps(ddim(whole, e3), s)
            mean = combine([1 / 6, 1 / 3, 1 / 3, 1 / 6], [e1, e2, e3, e4])
        else:
            mean = combine([0.5, 0.5], [e1, process.eps(ddim(whole, e1), s)])
        _, history = state.memory or (None, ())
        return State(s, ddim(whole, mean), memory=(None, (e1, *history)))


# -- Runge-Kutta in rho ---------------------------------------------------------------------------


def _rho_tableau(order: int, *rows: tuple[float, ...]) -> Tableau:
    """Stages of a Runge-Kutta method from the rows of its tableau, the last being b."""
    return Tableau(tuple(map(sum, rows[:-1])), tuple(Fixed(row) for row in rows), order)


RHO_TABLEAUX: Mapping[str, Tableau] = {
    "1euler": _rho_tableau(1, (1.0,)),
    "2heun": _rho_tableau(2, (1.0,), (1 / 2, 1 / 2)),
    "2midpoint": _rho_tableau(2, (1 / 2,), (0.0, 1.0)),
    "3kutta": _rho_tableau(3, (1 / 2,), (-1.0, 2.0), (1 / 6, 4 / 6, 1 / 6)),
    "3heun": _rho_tableau(3, (1 / 3,), (0.0, 2 / 3), (1 / 4, 0.0, 3 / 4)),
    "3ralston": _rho_tableau(3, (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    "3vdhouwen": _rho_tableau(3, (8 / 15,), (1 / 4, 5 / 12), (1 / 4, 0.0, 3 / 4)),
    "3ssprk": _rho_tableau(3, (1.0,), (1 / 4, 1 / 4), (1 / 6, 1 / 6, 2 / 3)),
    "4rk": _rho_tableau(4, (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}


@dataclass(frozen=True)
class RhoRK(Named):
    r"""rhoRK-DEIS: a Runge-Kutta method on the flow in rho, where nothing but eps is left.

    .. math:: \frac{dv}{d\rho} = \hat\epsilon(\alpha v, t(\rho)), \qquad v = x/\alpha

    Parameters
    ----------
    name : str
        Tableau: "1euler" (DDIM), "2heun" (EDM's method), "2midpoint", "3kutta", "3heun",
        "3ralston", "3vdhouwen", "3ssprk" or "4rk".  The digit is the order of convergence and the
        number of evaluations a step.

    Raises
    ------
    ValueError
        If the name is unknown.

    Notes
    -----
    Good with many evaluations, poor with few.  EDM's sampler is "2heun" on ``Grid.karras``; a last
    step onto sigma = 0 is Euler's, at one evaluation.

    References
    ----------
    Zhang and Chen (2022), section 3.2; Karras et al. (2022), algorithm 1; Hairer, Norsett and
    Wanner (1993), section II.1, for the tableaux.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.EDM(), rs.GaussianMixture.ring(8)
    >>> flow, grid = rs.ProbabilityFlow(sde, target.score(sde)), rs.Grid.karras(sde, 18).to_data()
    >>> rs.sample(flow, rs.RhoRK("2heun"), 100, times=grid, rng=0).nfe[0]
    np.int64(37)
    """

    name: str = "3kutta"

    def __post_init__(self) -> None:
        check_choice(self, "name", tuple(RHO_TABLEAUX))

    @property
    def method(self) -> ExponentialRK:
        """The engine that runs, with its settings."""
        return ExponentialRK(RHO_TABLEAUX[self.name], "eps", "rho")
