r"""Stochastic Runge-Kutta methods for additive noise: strong order 1.5 from increments and areas.

A method is a table of numbers, a `Tableau`; the step, at the head of ``refsde.solvers._srk_step``,
is the same for all of them.  Beside the increment dw it takes the space-time Levy area H over the
step, the mean of the Brownian bridge: so that dw / 2 + H is the mean of the path over the step,
which an increment alone does not tell, and which strong order 1.5 cannot do without.  The step
h = s - t is negative in reverse.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from refsde._types import Kind, Noise, Orders, Process, State, Time
from refsde.solvers._srk_step import Step, Tableau
from refsde.solvers._tolerance import Norm, check_tolerances, scaled_error

__all__ = ["SEA", "SOSRA", "SOSRA2", "SRA1", "SRA2", "SRA3", "ShARK"]

Estimator = Literal["difference", "sum"]


@dataclass(frozen=True)
class _StochasticRK:
    """What the solvers share: the step of their ``tableau``, and its error."""

    rtol: float = 0.05
    atol: float = 0.0078
    estimator: Estimator = "difference"
    norm: Norm = "rms"

    tableau: ClassVar[Tableau]
    accepts: ClassVar[frozenset[Kind]] = frozenset({"forward", "reverse"})
    preconditions: ClassVar[bool] = True
    orders: ClassVar[Orders] = {"weak": 2, "strong": 1.5}

    def __post_init__(self) -> None:
        check_tolerances(self, self.rtol, self.atol, self.norm)
        if self.estimator not in get_args(Estimator):
            raise ValueError(
                f"`estimator` of {type(self).__name__} must be 'difference' or 'sum', got "
                f"{self.estimator!r}: 'sum' is the slow one"
            )

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t, x = state.t, state.x
        step = Step(process, self.tableau, t, s, *noise.levy(t, s, x))
        x_s, drifts = step.run(x)
        gap = step.difference(drifts) if self.estimator == "difference" else step.summed(drifts)
        if gap is None:
            return State(s, x_s)
        return State(s, x_s, scaled_error(gap, x, x_s, self.rtol, self.atol, self.norm))


@dataclass(frozen=True)
class SRA1(_StochasticRK):
    r"""Roessler's SRA1: two stages, strong order 1.5.

    .. math:: y &= x_t + \tfrac34 h\,a(x_t, t) + \tfrac32 g(s)\,\chi, \qquad
              \chi = \tfrac12\Delta w + H, \\
              x_s &= x_t + \tfrac13 h\left[a(x_t, t) + 2a(y, t + \tfrac34 h)\right]
              + g(s)\,\Delta w + [g(t) - g(s)]\,\chi .

    Weak order 2.  Two evaluations a step.  With g constant, and without noise, it is Ralston's
    method.

    Parameters
    ----------
    rtol, atol : float
        Tolerances of the local error under adaptive steps, relative and absolute (in units of x);
        on a grid they change nothing.
    estimator : {"difference", "sum"}
        What the local error is estimated by.  "difference" is h times the weighted drifts less
        Euler's, here 2/3 h [a(y) - a(x)], and of size h^(3/2).  "sum" is that of
        StochasticDiffEq.jl: h times the plain *sum* of all drifts, to which the chi part of the
        noise is added.  It is of size h, not an error of this method, and there to show why "high
        order is slow" when steps adapt to it.
    norm : {"rms", "l2", "linf"}
        Over one sample, of the error in units of max(atol, rtol max(\|x_t\|, \|x_s\|)).

    Raises
    ------
    ValueError, TypeError
        If a tolerance is not a positive number, or another option unknown.

    Notes
    -----
    Sample quality is decided by the weak order, which `Heun` has as well at the same price; strong
    order 1.5 is for coupled paths and for control of the error.

    References
    ----------
    Roessler (2010), Runge-Kutta methods for the strong approximation of solutions of stochastic
    differential equations, SIAM J. Numer. Anal. 48, 922-952.  The sum: Rackauckas and Nie (2017),
    Adaptive methods for stochastic differential equations via natural embeddings and rejection
    sampling with memory, and the code of StochasticDiffEq.jl, with its delta = 1.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> int(rs.sample(process, rs.SRA1(), 10, times=20, rng=0).nfe[0])
    40
    """

    tableau: ClassVar[Tableau] = Tableau.roessler(
        c0=(0, 3 / 4),
        c1=(1, 0),
        A=((), (3 / 4,)),
        B=((), (3 / 2,)),
        alpha=(1 / 3, 2 / 3),
        beta1=(1, 0),
        beta2=(-1, 1),
    )


@dataclass(frozen=True)
class SRA2(_StochasticRK):
    r"""Roessler's SRA2: as SRA1, with the diffusion at t + h/3 and s.

    .. math:: y &= x_t + \tfrac34 h\,a(x_t, t) + \tfrac32 g(t + \tfrac13 h)\,\chi, \qquad
              \chi = \tfrac12\Delta w + H, \\
              x_s &= x_t + \tfrac13 h\left[a(x_t, t) + 2a(y, t + \tfrac34 h)\right]
              + g(s)\,\Delta w + \tfrac32\left[g(t + \tfrac13 h) - g(s)\right]\chi .

    Weak order 2, strong order 1.5.  Two evaluations a step.

    Parameters
    ----------
    rtol, atol, estimator, norm
        As for `SRA1`.

    Notes
    -----
    Some codes hold the last weights, 3/2 and -3/2, with the other sign.  Then the weights' first
    moment is +1 where it has to be -1, and where g moves with time nothing is left but order 1.

    References
    ----------
    Roessler (2010), SIAM J. Numer. Anal. 48, 922-952.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.SRA2(rtol=0.01).orders
    {'weak': 2, 'strong': 1.5}
    """

    tableau: ClassVar[Tableau] = Tableau.roessler(
        c0=(0, 3 / 4),
        c1=(1 / 3, 1),
        A=((), (3 / 4,)),
        B=((), (3 / 2,)),
        alpha=(1 / 3, 2 / 3),
        beta1=(0, 1),
        beta2=(3 / 2, -3 / 2),
    )


@dataclass(frozen=True)
class SRA3(_StochasticRK):
    r"""Roessler's SRA3: three stages, of order 3 where there is no noise.

    .. math:: y_2 &= x_t + h\,a(x_t, t), \qquad
              y_3 = x_t + \tfrac14 h[a(x_t, t) + a(y_2, s)] + [g(s) + \tfrac12 g(t)]\,\chi, \\
              x_s &= x_t + \tfrac16 h\left[a(x_t, t) + a(y_2, s) + 4a(y_3, t + \tfrac12 h)\right]
              + g(s)\,\Delta w + [g(t) - g(s)]\,\chi .

    Here chi = dw / 2 + H.  Weak order 2, strong order 1.5.  Three evaluations a step, one of them
    at ``s``: the grid must end where the score is finite.

    Parameters
    ----------
    rtol, atol, estimator, norm
        As for `SRA1`.

    Notes
    -----
    As with `SRA2`, some codes hold the weights beta2 = (-1, 1, 0) with the other sign.

    References
    ----------
    Roessler (2010), SIAM J. Numer. Anal. 48, 922-952.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.SRA3.tableau.difference
    (-0.8333333333333333, 0.16666666666666666, 0.6666666666666666)
    """

    tableau: ClassVar[Tableau] = Tableau.roessler(
        c0=(0, 1, 1 / 2),
        c1=(1, 0, 0),
        A=((), (1,), (1 / 4, 1 / 4)),
        B=((), (0,), (1, 1 / 2)),
        alpha=(1 / 6, 1 / 6, 2 / 3),
        beta1=(1, 0, 0),
        beta2=(-1, 1, 0),
    )


@dataclass(frozen=True)
class SOSRA(_StochasticRK):
    r"""SOSRA: an SRA method of three stages, its free coefficients chosen for stability.

    The step that all share, with coefficients found by optimisation.  Weak order 2,
    strong order 1.5.  Three evaluations a step, the last at ``s``: the grid must end where the
    score is finite.

    Parameters
    ----------
    rtol, atol, estimator, norm
        As for `SRA1`.

    References
    ----------
    Rackauckas and Nie (2018), Stability-optimized high order methods and stiffness detection for
    pathwise stiff stochastic differential equations, arXiv:1804.04344; coefficients of
    StochasticDiffEq.jl.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.SOSRA().estimator
    'difference'
    """

    tableau: ClassVar[Tableau] = Tableau.roessler(
        c0=(0, 0.6923962376159507, 1),
        c1=(0, 0.041248171110700504, 1),
        A=((), (0.6923962376159507,), (-3.1609142252828395, 4.1609142252828395)),
        B=((), (1.3371632704399763,), (1.442371048468624, 1.8632741501139225)),
        alpha=(0.2889874966892885, 0.6859880440839937, 0.025024459226717772),
        beta1=(-16.792534242221663, 17.514995785380226, 0.27753845684143835),
        beta2=(0.4237535769069274, 0.6010381474428539, -1.0247917243497813),
    )


@dataclass(frozen=True)
class SOSRA2(_StochasticRK):
    r"""SOSRA2: as SOSRA, stabler still, with two of its three stages at ``s``.

    Weak order 2, strong order 1.5.  Three evaluations a step; the grid must end where the score is
    finite.

    Parameters
    ----------
    rtol, atol, estimator, norm
        As for `SRA1`.

    References
    ----------
    Rackauckas and Nie (2018), as for `SOSRA`.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.SOSRA2.tableau.c0
    (0, 1, 1)
    """

    tableau: ClassVar[Tableau] = Tableau.roessler(
        c0=(0, 1, 1),
        c1=(0, 1, 1),
        A=((), (1,), (0.9511849235504364, 0.04881507644956362)),
        B=((), (0.7686101171003622,), (0.43886792994934987, 0.7490415909204886)),
        alpha=(0.4999999999999998, -0.9683897375354181, 1.4683897375354185),
        beta1=(0, 0.92438032145683, 0.07561967854316998),
        beta2=(1, -0.8169981105823436, -0.18300188941765633),
    )


@dataclass(frozen=True)
class ShARK(_StochasticRK):
    r"""ShARK: shifted additive-noise Runge-Kutta, two stages that both know the area.

    .. math:: y_1 &= x_t + g(t) H, \qquad
              y_2 = x_t + \tfrac56 h\,a(y_1, t) + g(t)\left(\tfrac56\Delta w + H\right), \\
              x_s &= x_t + h\left[\tfrac25 a(y_1, t) + \tfrac35 a(y_2, t + \tfrac56 h)\right]
              + g(t)\,\Delta w + [g(s) - g(t)]\left(\tfrac12\Delta w - H\right).

    Weak order 2, strong order 1.5.  Two evaluations a step.  The error's difference is
    3/5 h [a(y_2) - a(y_1)], that of its paper.

    Parameters
    ----------
    rtol, atol, estimator, norm
        As for `SRA1`.

    References
    ----------
    Foster, dos Reis and Strange (2024), High order splitting methods for SDEs satisfying a
    commutativity condition, SIAM J. Numer. Anal. 62, 500-532, eq. 6.1.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.ShARK.tableau.difference
    (-0.6, 0.6)
    """

    tableau: ClassVar[Tableau] = Tableau.foster(
        c=(0, 5 / 6), a=((), (5 / 6,)), b=(0.4, 0.6), aW=(0, 5 / 6), aH=(1, 1)
    )


@dataclass(frozen=True)
class SEA(_StochasticRK):
    r"""SEA: shifted Euler for additive noise, one stage at the mean of the path over the step.

    .. math:: y &= x_t + g(t)\left(\tfrac12\Delta w + H\right), \\
              x_s &= x_t + h\,a(y, t + c h) + g(t)\,\Delta w
              + [g(s) - g(t)]\left(\tfrac12\Delta w - H\right).

    Weak and strong order 1.  One evaluation a step.  Its paths are closer than those of
    Euler-Maruyama at the same price, its law near the data is not: on N(0, 1/16) the variance is
    wrong by five times as much.

    Parameters
    ----------
    rtol, atol, estimator, norm
        As for `SRA1`.  One stage offers no difference, so that only "sum" says anything of the
        error, and with "difference" steps cannot adapt.
    c : float
        Where in the step the drift is taken, in [0, 1].  The method is published for drifts that do
        not move with time, and its code has c = 0; half-way, the default, is right to second order.

    Raises
    ------
    ValueError, TypeError
        As for `SRA1`; and if ``c`` is not a number in [0, 1].

    References
    ----------
    Foster, dos Reis and Strange (2024), as for `ShARK`, eq. 5.8.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.SEA().tableau.c0, rs.SEA(c=0.0).tableau.c0
    ((0.5,), (0.0,))
    """

    c: float = 0.5

    tableau: ClassVar[Tableau] = Tableau.foster(c=(0.5,), a=((),), b=(1,), aW=(0.5,), aH=(1,))
    orders: ClassVar[Orders] = {"weak": 1, "strong": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        value: Any = self.c
        if isinstance(value, bool) or not hasattr(value, "__float__"):
            raise TypeError(f"`c` of SEA must be a number in [0, 1], got {value!r}: try 0.5")
        if not 0 <= value <= 1:
            raise ValueError(f"`c` of SEA must lie in [0, 1], got {value!r}: 0 is t and 1 is s")
        object.__setattr__(self, "c", float(value))
        # The table of this one, in place of the class's.
        object.__setattr__(self, "tableau", replace(self.tableau, c0=(self.c,)))
