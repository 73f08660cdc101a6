r"""The exact law of a one-step stochastic sampler on the line, for any target, without Monte Carlo.

Such a sampler goes from t to s by x_s = M(x_t) + S(x_t) z, with z a unit normal.  If p_t is the
law of x_t, that of x_s is

.. math:: p_s(y) = \int p_t(x)\, N(y;\, M(x),\, S(x)^2)\, dx
                 \approx \sum_i m_i\, N(y;\, M(x_i),\, S(x_i)^2), \qquad m_i = h\, p_t(x_i),

a mixture of Gaussians again, whose density at the nodes of the next step needs no interpolation.
The trapezoidal rule is the right one here: on functions that are smooth and vanish at both ends its
error falls faster than any power of the spacing h.  Each step has nodes of its own, as far apart as
its kernels allow.  M and S are read out of ``refsde.sample``, so that the driver, the solver and
the noise's scale are all part of the answer.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from refsde._array import Array, Time, like
from refsde._boundary import named
from refsde._types import Process, Solver, State, Times
from refsde.exact._line import Density
from refsde.exact.law import grid_of
from refsde.integrate import sample
from refsde.targets import GaussianMixture
from refsde.times import Grid

__all__ = ["Density", "density"]

Start = Literal["marginal", "prior"] | GaussianMixture | Density

PROBES = (0.0, 8.0, -7.0)  # z: wide for the digits of S, lopsided so that every power shows
LINEAR = 1e-9  # how straight a step must be in z, in units of S
ROUNDING = 1e-12  # of a step's result, relative
TINY = 1e-19  # mass that a kernel may leave beyond the range of the nodes
HALF = 1e-8  # how exact every second node alone must be; all together then square that
CERTIFIED = 4e-8  # the same, as measured
CHECKED = 129  # points at which it is measured
DRIFT = 1e-11  # change of the total mass that a step may cause
TRIES = 12  # spacings tried for one step
NODES = 2**19  # most nodes of a step


def density(
    process: Process,
    solver: Solver,
    times: Times | int,
    *,
    start: Start = "marginal",
    refine: float = 1.0,
) -> Density:
    r"""Exact law of the output of a one-step stochastic sampler on a target with d = 1.

    Parameters
    ----------
    process : ReverseSDE or ForwardSDE
        What is integrated.  Its score may be that of any target with d = 1, Gaussian or not, or a
        smooth function of your own.
    solver : callable
        How a step is made: x_s = M(x_t) + S(x_t) z with one normal z, S > 0 and no memory, as do
        `EulerMaruyama`, `ReverseDiffusion`, `Ancestral`, `DDIM` with eta > 0 and `OneStep`.
    times : Grid or int
        When to step, as for ``refsde.sample``: descending from noise at T to data in reverse.
    start : "marginal", "prior", GaussianMixture or Density
        Law of the state at the first of the times: the target's exact p_t, what ``refsde.sample``
        starts from, or a law of your own, such as the result of another run.
    refine : float
        At least 1: places the nodes this many times closer, to see that nothing changes.

    Returns
    -------
    Density
        Law at the last of the times, with its distances from the target's.

    Raises
    ------
    ValueError
        If steps are not of this form (the message says why, and what to use), if d is not 1, if
        there is no target to take the start from; on bad arguments as ``refsde.sample``.
    TypeError
        If the solver does not accept the process, or ``start`` is no law.
    RuntimeError
        If steps are not finite, or too rough to be resolved.

    Notes
    -----
    A step is repeated with closer nodes until every second one alone gives the new density to 4e-8
    of its peak; all of them then give it to about the square of that: to rounding.  Tails are cut
    at 1e-19 of the mass.  A thousand steps take a few seconds.

    References
    ----------
    Bhat and Madushani (2016), Density tracking by quadrature for stochastic differential equations
    (Euler-Maruyama, one grid for all steps).
    Trefethen and Weideman (2014), The exponentially convergent trapezoidal rule, section 5.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.1, 0.1])
    >>> law = rs.exact.density(rs.ReverseSDE(sde, target.score(sde)), rs.EulerMaruyama(), 100)
    >>> round(law.w1(), 6), law.mode_weights().round(6)
    (0.005808, array([0.301796, 0.698204]))
    """
    grid = _grid_of(process, solver, times, start)
    law = _start_of(process, grid, start)
    if not (isinstance(refine, int | float) and 1 <= refine <= 64):
        raise ValueError(
            f"`refine` must be a number from 1 to 64, got {refine!r}: 1 is the default"
        )
    stepper: Any = solver.bind(process, grid.ts) if hasattr(solver, "bind") else solver
    spacing, trend, worst = float(law.stds.min()), 1.0, 0.0
    for k, (t, s) in enumerate(zip(grid.ts[:-1], grid.ts[1:], strict=True)):
        step = _Step(process, _Once(stepper), solver, t, s, last=k + 2 == len(grid.ts))
        if k == 0:
            step.check_rows(law)
        law, used, drift = step.push(law, spacing * trend, refine)
        # Noise levels change smoothly: so does the spacing that they allow.
        trend, spacing = min(1.0, max(0.5, used / spacing)), used
        worst = max(worst, drift)
    end = _target_at(process, grid, start)
    return Density(law.centres, law.stds, law.masses, grid.ts[-1], end, worst)


# -- what is asked for ----------------------------------------------------------------------------


def _grid_of(process: Process, solver: Any, times: Any, start: Any) -> Grid:
    grid = grid_of(process, solver, times, start=start)
    dim = getattr(getattr(process.score, "target", None), "dim", 1)
    if dim != 1:
        raise ValueError(
            f"`process` has a target with d = {dim}, and densities are pushed on the line only: "
            "use refsde.exact.law on Gaussian data, or samples and refsde.measure"
        )
    return grid


def _start_of(process: Process, grid: Grid, start: Any) -> Density:
    t = grid.ts[0]
    if isinstance(start, Density):
        if start.target is not None and abs(start.t - t) > 1e-9 * process.sde.T:
            raise ValueError(
                f"`start` is the law at t = {start.t:g} of another run, but `times` start at "
                f"t = {t:g}: start the grid where that run ended"
            )
        return start
    if isinstance(start, GaussianMixture):
        return Density.of(start, t, "start")
    if not isinstance(start, str):
        raise TypeError(
            f"`start` must be 'marginal', 'prior', a GaussianMixture or a Density, got {start!r}"
        )
    if start not in ("marginal", "prior"):
        raise ValueError(f"`start` must be 'marginal', 'prior' or a law, got {start!r}")
    if process.kind == "forward":
        raise ValueError(
            f"`start` = {start!r} is not there for a ForwardSDE, which starts from data: pass "
            "start=target, a GaussianMixture with d = 1"
        )
    if start == "prior":
        centre, edge = process.start(np.array([[0.0], [1.0]]))[:, 0]
        return Density(np.array([centre]), np.array([abs(edge - centre)]), np.ones(1), t)
    target: Any = getattr(process.score, "target", None)
    if not hasattr(target, "at"):
        raise ValueError(
            f"`start` = 'marginal' needs a score with a target, {type(process).__name__} has none: "
            "make the score with target.score(sde), or pass start='prior' or a GaussianMixture"
        )
    return Density.of(target.at(process.sde, t), t, "process")


def _target_at(process: Process, grid: Grid, start: Any) -> GaussianMixture | None:
    """Law that the output should have had, where it is known."""
    sde, t, s = process.sde, grid.ts[0], grid.ts[-1]
    if process.kind != "forward":
        target: Any = getattr(process.score, "target", None)
        exact = target.at(sde, s) if hasattr(target, "at") else None
        return exact if isinstance(exact, GaussianMixture) else None
    if not isinstance(start, GaussianMixture):
        return None
    a = float(sde.alpha(s) / sde.alpha(t))
    added = float(sde.sigma(s)) ** 2 - (a * float(sde.sigma(t))) ** 2
    return GaussianMixture(
        None, a * start.means, a * a * start.covs[:, 0, 0] + added, log_weights=start.log_weights
    )


# -- one step -------------------------------------------------------------------------------------


class _Once:
    """A bound solver without its `bind`: it has seen the whole grid, and is not to see a step's."""

    def __init__(self, solver: Any) -> None:
        self.solver = solver

    def __getattr__(self, name: str) -> Any:
        if name == "bind":
            raise AttributeError(name)
        return getattr(self.solver, name)

    def __repr__(self) -> str:
        return repr(self.solver)

    def __call__(self, process: Process, state: State, s: Time, noise: Any) -> State:
        new: State = self.solver(process, state, s, noise)
        return new


class _Constant:
    """A `Noise` that answers one question a step, each sample with a z of its own."""

    def __init__(self, z: np.ndarray, refuse: Any) -> None:
        self.z, self.refuse, self.asked = z, refuse, 0

    def on(self, rows: np.ndarray) -> _Constant:
        return _Constant(self.z[rows], self.refuse)

    def normal(self, x: Array) -> Array:
        self.asked += 1
        if self.asked > 1:
            raise self.refuse("asks for more than one normal a step")
        return like(self.z[:, None], x)

    def increment(self, t: Time, s: Time, x: Array) -> Array:
        return self.normal(x) * math.sqrt(abs(s - t))

    def levy(self, t: Time, s: Time, x: Array) -> tuple[Array, Array]:
        raise self.refuse("asks for Levy areas, two normals a step")


class _Attempt(NamedTuple):
    """What a step makes of evenly spaced nodes."""

    mean: np.ndarray
    std: np.ndarray
    mass: np.ndarray
    allowed: float  # distance of nodes that its kernels allow

    def law(self, s: float) -> Density:
        return _normalised(self.mean, self.std, self.mass, s)

    @property
    def drift(self) -> float:
        return abs(float(self.mass.sum()) - 1)

    def resolved(self) -> bool:
        """Whether every second node alone gives nearly the same density."""
        whole = _normalised(self.mean, self.std, self.mass)
        half = _normalised(self.mean[::2], self.std[::2], self.mass[::2])
        # What differs, differs most at the centres; elsewhere in case they are folded.
        y = np.linspace(*whole.support(1e-9), CHECKED)
        y = np.concatenate([y, self.mean[:: len(self.mean) // CHECKED + 1]])
        p = whole.pdf(y)
        return bool(np.abs(half.pdf(y) - p).max() <= CERTIFIED * p.max())


def _normalised(mean: np.ndarray, std: np.ndarray, mass: np.ndarray, t: float = 0.0) -> Density:
    return Density(mean, std, mass / mass.sum(), t)


class _Step(NamedTuple):
    """The step from t to s, as the driver makes it."""

    process: Process
    stepper: _Once
    solver: Any  # as the user gave it, for messages
    t: float
    s: float
    last: bool

    def push(self, law: Density, spacing: float, refine: float) -> tuple[Density, float, float]:
        """Law after the step, the spacing that its kernels allow, and the change of the mass."""
        smooth = float(law.stds.min())  # the law has no finer features
        low, high = law.support(TINY)
        spacing = max(min(spacing, smooth), (high - low) / NODES)  # a guess must not be refused
        shrunk = False
        for _ in range(TRIES):
            trial = self.attempt(law, spacing)
            if trial.allowed < 0.9 * spacing:
                spacing = trial.allowed
            elif trial.drift <= DRIFT and trial.resolved():
                free = spacing if shrunk else min(trial.allowed, smooth)
                if refine > 1:
                    trial = self.attempt(law, spacing / refine, math.ceil(NODES * refine))
                return trial.law(self.s), free, trial.drift
            else:
                spacing, shrunk = 0.7 * spacing, True
        raise RuntimeError(
            f"the step of {named(self.solver)} from t = {self.t:g} to s = {self.s:g} is too rough "
            "to be resolved: look for jumps in the score or the solver"
        )

    def attempt(self, law: Density, h: float, most: int = NODES) -> _Attempt:
        """Make the step from nodes ``h`` apart that hold all of ``law`` but some 1e-19 of it."""
        x = self.nodes(law, h, most)
        p = law.pdf(x)
        mean, std = self.kernels(x)
        return _Attempt(mean, std, h * p, _spacing(mean, std, p, h))

    def nodes(self, law: Density, h: float, most: int = NODES) -> np.ndarray:
        """Evenly spaced points."""
        low, high = law.support(TINY)
        n = (high - low) / h
        if not n < most + 1:
            raise ValueError(
                f"`solver` {named(self.solver)} adds too little noise from t = {self.t:g} to s = "
                f"{self.s:g} for a law between {low:.3g} and {high:.3g}: {n:.1g} nodes are needed, "
                f"{most} allowed; take more steps if coarse ones overshoot, refsde.exact.flow if "
                "the solver is nearly deterministic"
            )
        n = math.ceil(n) + 1
        return np.asarray(0.5 * (low + high) + h * (np.arange(n) - 0.5 * (n - 1)))

    def kernels(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres M(x) and widths S(x) of the step's kernels, checked to be kernels."""
        none, up, down = self.run(x, PROBES)
        std = (up - down) / (PROBES[1] - PROBES[2])
        bent = np.abs(none + PROBES[1] * std - up)
        round_off = ROUNDING * (np.abs(up) + np.abs(down))
        if np.any(bent > LINEAR * np.abs(std) + round_off):
            raise self.refuse("is not linear in its noise")
        if np.any(np.abs(std) <= round_off):
            if self.last and self.process.sde.sigma(self.s) == 0:
                raise ValueError(
                    f"`times` ends at t = {self.s:g}, onto which {named(self.solver)} steps "
                    "without noise, so that this step has no kernel: end the grid before, such as "
                    "at sde.t_end"
                )
            raise ValueError(
                f"`solver` {named(self.solver)} adds no noise from t = {self.t:g} to "
                f"s = {self.s:g}, so that the step has no kernel: use refsde.exact.flow for the "
                "flow, refsde.exact.law on Gaussian data"
            )
        return none, np.abs(std)

    def run(self, x: np.ndarray, zs: tuple[float, ...]) -> np.ndarray:
        """Where the driver takes the points ``x`` with each of the normals: (len(zs), len(x))."""

        def look(state: State, rows: np.ndarray) -> None:
            if state.memory:
                raise self.refuse("carries memory from step to step")

        out = sample(
            self.process,
            self.stepper,
            times=Grid((self.t, self.s)),
            x=np.tile(x, len(zs))[:, None],
            noise=_Constant(np.repeat(zs, len(x)), self.refuse),
            callback=look,
        )
        if not out.success.all():
            lost = float(np.tile(x, len(zs))[int(np.argmin(out.success))])
            raise RuntimeError(
                f"the step of {named(self.solver)} from t = {self.t:g} to s = {self.s:g} is not "
                f"finite from x = {lost:g}: no law comes of that; take more steps, or repair the "
                "score"
            )
        return np.asarray(out.x).reshape(len(zs), len(x))

    def check_rows(self, law: Density) -> None:
        """Raise if what happens to a sample depends on its batch mates."""
        x = self.nodes(law, float(law.stds.min()))
        whole, part = self.run(x, (0.0,))[0, ::2], self.run(x[::2], (0.0,))[0]
        if np.any(np.abs(whole - part) > 1e-9 * np.abs(whole).max()):
            raise self.refuse("couples the samples of a batch")

    def refuse(self, reason: str) -> ValueError:
        return ValueError(
            f"`solver` {named(self.solver)} {reason}, so that its step is no Gaussian kernel: use "
            "refsde.exact.law on Gaussian data, or samples and refsde.measure"
        )


def _spacing(mean: np.ndarray, std: np.ndarray, p: np.ndarray, h: float) -> float:
    r"""Spacing at which every second node alone gives the new density to HALF of its peak.

    As a function of x a kernel has the width w = S / |M'|, and nodes 2 h apart an error of 2
    exp(-pi^2 w^2 / (2 h^2)), which matters in proportion to p(x).
    """
    weight = np.maximum(p[1:], p[:-1]) / p.max()
    matters = np.log(np.maximum(2 * weight / HALF, 1.0))
    with np.errstate(divide="ignore"):
        w = h * np.minimum(std[1:], std[:-1]) / np.abs(np.diff(mean))
        return float(np.min(math.pi * w / np.sqrt(2 * matters), initial=math.inf))
