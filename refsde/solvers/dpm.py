r"""DPM-Solver, DPM-Solver++ and UniPC: exponential integrators in lam = log(alpha / sigma).

All are settings of the two engines, `Multistep` and `ExponentialRK`; here "order" is the order of
convergence of the exact coefficients, as in these papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from refsde._types import Noise, Process, State, Time
from refsde.solvers._checks import check_choice, check_order
from refsde.solvers._named import Named
from refsde.solvers._tolerance import check_tolerances
from refsde.solvers.multistep import LastStepRule, Multistep
from refsde.solvers.runge_kutta import ExponentialRK, Tableau, Through
from refsde.times import Adaptive

__all__ = ["DPMSolver", "DPMSolverPP", "UniPC", "singlestep"]

FIRST = Through((0,))


def singlestep(order: int, r: float | None = None, exact: bool = False) -> Tableau:
    """Stages of the singlestep methods; ``exact`` takes all means exactly ("taylor")."""
    if order == 1:
        return Tableau((), (FIRST,), 1)
    if order == 2:
        second = Through((0, 1), half=not exact)
        return Tableau((0.5 if r is None else r,), (FIRST, second), 2, low=FIRST)
    r1 = 1 / 3 if r is None else r
    third = Through((0, 1, 2)) if exact else Through((0, 2))
    weights = (Through((0,), upto=1), Through((0, 1), upto=2), third)
    return Tableau((r1, 2 * r1), weights, 3, low=Through((0, 1), half=True))


@dataclass(frozen=True)
class DPMSolver(Named):
    r"""DPM-Solver: singlestep methods of orders 1 to 3 on the noise prediction.

    .. math:: x_1 &= \tfrac{\alpha_1}{\alpha_t}x_t - \sigma_1(e^{rh}-1)\hat\epsilon_t, \\
              x_s &= \tfrac{\alpha_s}{\alpha_t}x_t - \sigma_s(e^h-1)\left[\hat\epsilon_t +
              \tfrac{1}{2r}(\hat\epsilon_1-\hat\epsilon_t)\right] \qquad\text{(order 2)}

    with h = lam_s - lam_t.  As many evaluations a step as the order.

    Parameters
    ----------
    order : {1, 2, 3}
        Order of convergence; 1 is DDIM.
    r : float, optional
        Share of the step in lam at which the second stage is, 1/2 for order 2 and 1/3 for order 3,
        whose third stage is at 2 r.  Order 2 with r = 1 is Heun's method in rho, EDM's.
    variant : {"dpmsolver", "taylor"}
        "taylor" takes the means of differences exactly where the paper's formula shortens them.
    inner : {"lam", "t"}
        Whether stages are shares of the step in lam, or in t: so the published sampler, on a grid
        of equal steps of t, places them.
    rtol, atol : float
        Under `Adaptive`: the gap to the method of one order less, in units of max(atol, rtol
        max(abs(low), abs(low before))); ``atol`` is in units of the data.
    control : Adaptive, optional
        What ``times=None`` means in `sample`; `adaptive` gives the published one.

    Raises
    ------
    ValueError, TypeError
        If a setting is none of these.

    References
    ----------
    Lu et al. (2022), DPM-Solver, algorithms 1 and 2, and appendix C for the adaptive one.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> sol = rs.sample(rs.ProbabilityFlow(sde, target.score(sde)), rs.DPMSolver(3), 50, times=5)
    >>> int(sol.nfe[0])
    15
    """

    order: int = 2
    r: float | None = None
    variant: Literal["dpmsolver", "taylor"] = "dpmsolver"
    inner: Literal["lam", "t"] = "lam"
    rtol: float = 0.05
    atol: float = 0.0078
    control: Adaptive | None = None

    def __post_init__(self) -> None:
        check_order(self, "order", 1, 3)
        check_choice(self, "variant", ("dpmsolver", "taylor"))
        check_choice(self, "inner", ("lam", "t"))
        check_tolerances(self, self.rtol, self.atol, "rms")
        _check_share(self.order, self.r)

    @property
    def method(self) -> ExponentialRK:
        """The engine that runs, with its settings."""
        tableau = singlestep(self.order, self.r, self.variant == "taylor")
        return ExponentialRK(tableau, "eps", self.inner, rtol=self.rtol, atol=self.atol)

    @classmethod
    def fast(cls, nfe: int, order: int = 3, **options: Any) -> DPMSolverFast:
        """DPM-Solver-fast: orders combined so that ``nfe`` evaluations are met exactly.

        Run it on a grid of ``solver.steps`` steps; options are ``variant`` and ``inner``.
        """
        return DPMSolverFast(nfe, order, **options)

    @classmethod
    def adaptive(cls, order: int = 3, rtol: float = 0.05, atol: float = 0.0078) -> DPMSolver:
        """DPM-Solver-12 (order 2) or -23 (order 3) with the published control of steps in lam.

        Every sample has steps of its own, where the published code lets the worst of a batch rule.
        In few dimensions an error that vanishes by chance lets a step grow without limit: pass
        ``times=Adaptive(h0=0.05, exponent=1 / order, cap=1.5, clock="lam")`` there.
        """
        if order not in (2, 3):
            raise ValueError(f"`order` must be 2 or 3 to estimate an error, got {order!r}")
        control = Adaptive(h0=0.05, exponent=1 / order, clock="lam")
        return cls(order, rtol=rtol, atol=atol, control=control)

    @property
    def default_times(self) -> Adaptive | None:
        """What ``times=None`` means: the control, if there is one."""
        return self.control


def _check_share(order: int, r: Any) -> None:
    most = 1.0 if order == 2 else 0.5
    if r is None:
        return
    if isinstance(r, bool) or not isinstance(r, int | float):
        raise TypeError(f"`r` must be a number, the share of a step, got {r!r}: or None")
    if order == 1 or not 0 < r <= most:
        raise ValueError(
            f"`r` must lie in (0, {most:g}] for order {order}, got {r!r}: 1/2 for order 2, 1/3 for "
            "order 3, None for order 1"
        )


@dataclass(frozen=True)
class DPMSolverFast:
    r"""DPM-Solver-fast: singlestep orders combined so that a budget is met exactly.

    Parameters
    ----------
    nfe : int
        Evaluations of the score.  For order 3: K = nfe // 3 + 1 steps, of order 3 as long as the
        budget allows and one or two lower ones at the end.
    order : {2, 3}
        Highest order.
    variant, inner
        As for `DPMSolver`.

    Raises
    ------
    ValueError, TypeError
        If a setting is none of these; when it runs, if the grid does not have ``steps`` steps.

    Notes
    -----
    Run it on a grid of as many steps as `steps` says: ``Grid.logsnr(sde, solver.steps)``.

    References
    ----------
    Lu et al. (2022), DPM-Solver, section 3.4 and appendix D.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.DPMSolver.fast(20).plan
    (3, 3, 3, 3, 3, 3, 2)
    """

    nfe: int = 20
    order: int = 3
    variant: Literal["dpmsolver", "taylor"] = "dpmsolver"
    inner: Literal["lam", "t"] = "lam"

    def __post_init__(self) -> None:
        check_order(self, "nfe", 1, 10**6)
        check_order(self, "order", 2, 3)
        check_choice(self, "variant", ("dpmsolver", "taylor"))
        check_choice(self, "inner", ("lam", "t"))

    accepts = DPMSolver().accepts
    # The last step is of order 1 or 2, and it is one of K: two orders at most are left.
    orders = {"flow": 2}

    @property
    def plan(self) -> tuple[int, ...]:
        """Order of every step."""
        whole, rest = divmod(self.nfe, self.order)
        if self.order == 2:
            return (2,) * whole + (1,) * rest
        if rest == 0:
            return (3,) * (whole - 1) + (2, 1)
        return (3,) * whole + (rest,)

    @property
    def steps(self) -> int:
        """Number of steps that the grid must have."""
        return len(self.plan)

    def bind(self, process: Process, ts: tuple[float, ...] | None) -> _Planned:
        """Give every step of the grid its order."""
        if ts is None or len(ts) - 1 != self.steps:
            got = "no grid" if ts is None else f"{len(ts) - 1} steps"
            raise ValueError(
                f"`times` of {self!r} must be a Grid of {self.steps} steps, got {got}: "
                f"Grid.logsnr(sde, {self.steps})"
            )
        kinds = [DPMSolver(k, None, self.variant, self.inner).method for k in self.plan]
        return _Planned(dict(zip(zip(ts[:-1], ts[1:], strict=True), kinds, strict=True)))

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Refuse: a step's order depends on its place in the grid."""
        raise TypeError(
            f"{self!r} must see the grid before its first step: run it by refsde.sample or "
            "refsde.iterate"
        )


@dataclass(frozen=True)
class _Planned:
    """A method for every step."""

    on_grid: ClassVar[bool] = True
    methods: dict[tuple[float, float], ExponentialRK]

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        made = self.methods[state.t, s](process, state, s, noise)
        return State(s, made.x)


@dataclass(frozen=True)
class DPMSolverPP(Named):
    r"""DPM-Solver++: exponential integrators on the data prediction, orders 1 to 3.

    .. math:: x_s = \tfrac{\sigma_s}{\sigma_t} x_t - \alpha_s(e^{-h}-1)\left[\hat x_{0,n} +
              \tfrac12\,\frac{\hat x_{0,n}-\hat x_{0,n-1}}{r_0}\right] \qquad\text{(2M)}

    with h = lam_s - lam_t and r_0 the length of the last step over h.

    Parameters
    ----------
    order : {1, 2, 3}
        Nominal order; 1 is DDIM.
    variant : {"published", "exact"}
        "published": coefficients as the published code has them, with half the slope (2M) and half
        the curvature (3M).  "exact": those of the interpolating polynomial.
    last_step_rule : {"full", "lower", "lower if short"}
        As for `Multistep`; "lower if short" is published.
    singlestep : bool
        2S and 3S: stages inside the step, as many evaluations as the order, instead of a history.

    Raises
    ------
    ValueError, TypeError
        If a setting is none of these; as `Multistep` when it runs.

    Notes
    -----
    The published 3M lacks a factor 2 in the curvature, in three code bases, and converges with
    order 2; the exact one has order 3.  At few steps the missing half damps, and is often better.

    References
    ----------
    Lu et al. (2022b), DPM-Solver++, algorithms 1 and 2.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.DPMSolverPP(3).orders, rs.DPMSolverPP(3, variant="exact").orders
    ({'flow': 2}, {'flow': 3})
    """

    order: int = 2
    variant: Literal["published", "exact"] = "published"
    last_step_rule: LastStepRule = "full"
    singlestep: bool = False

    def __post_init__(self) -> None:
        check_order(self, "order", 1, 3)
        check_choice(self, "variant", ("published", "exact"))
        check_choice(self, "last_step_rule", ("full", "lower", "lower if short"))
        if self.singlestep and self.last_step_rule != "full":
            raise ValueError(
                f"`last_step_rule` must be 'full' for singlestep=True, got {self.last_step_rule!r}"
            )

    @property
    def method(self) -> Multistep | ExponentialRK:
        """The engine that runs, with its settings."""
        published = self.variant == "published"
        if self.singlestep:
            return ExponentialRK(singlestep(self.order, None, not published), "x0", "lam")
        return Multistep(
            "x0",
            "lam",
            self.order - 1,
            last_step_rule=self.last_step_rule,
            shortcut="B2 halved" if published else "none",
        )


@dataclass(frozen=True)
class UniPC(Named):
    r"""UniPC: a multistep predictor, and a corrector that costs nothing.

    The prediction at the end of a step, which the next step needs anyway, first corrects the step
    itself: order p + 1 from p evaluations in memory.

    Parameters
    ----------
    order : {1, 2, 3}
        p, the order of the predictor UniP-p.
    variant : {"B2", "B1", "exact"}
        Which of the published functions B(h) stands in the shortcuts of the steps with a polynomial
        of degree 1; "exact" takes none, and then B would cancel.
    prediction : {"x0", "eps"}
        What is interpolated.
    corrector : bool
        False is UniP alone.
    last_step_rule : {"full", "lower", "lower if short"}
        As for `Multistep`; "lower" is published.

    Raises
    ------
    ValueError, TypeError
        If a setting is none of these; as `Multistep` when it runs.

    Notes
    -----
    The path shows what was predicted; every state but the last is corrected a step later.  UniP-2
    with B2 is DPM-Solver++(2M), and UniP-3 without shortcuts the exact 3M.

    References
    ----------
    Zhao et al. (2023), UniPC, algorithms 1 and 2.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.UniPC(3).orders
    {'flow': 4}
    """

    order: int = 3
    variant: Literal["B2", "B1", "exact"] = "B2"
    prediction: Literal["x0", "eps"] = "x0"
    corrector: bool = True
    last_step_rule: LastStepRule = "full"

    def __post_init__(self) -> None:
        check_order(self, "order", 1, 3)
        check_choice(self, "variant", ("B2", "B1", "exact"))
        check_choice(self, "prediction", ("x0", "eps"))
        check_choice(self, "last_step_rule", ("full", "lower", "lower if short"))

    @property
    def method(self) -> Multistep:
        """The engine that runs, with its settings."""
        return Multistep(
            self.prediction,
            "lam",
            self.order - 1,
            self.corrector,
            self.last_step_rule,
            shortcut="none" if self.variant == "exact" else self.variant,
        )
