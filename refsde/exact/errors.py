r"""Weak and strong errors of a sampler on Gaussian data: numbers without sampling noise.

The *weak* error compares the law of the output with the exact marginal.  The *strong* error
compares paths: on data N(m, C), V_t = alpha_t^2 C + sigma_t^2, the reverse SDE has the solution

.. math:: x_s = \alpha_s m + \Phi(s, t)(x_t - \alpha_t m) + \int_t^s \Phi(s, u)\, g(u)\, dw_u,
          \qquad \Phi(s, t) = \frac{\alpha_t}{\alpha_s} V_s V_t^{-1},

which is linear in the Brownian path that the sampler sees only by its increments.  Everything is
jointly Gaussian, so that the mean-square distance of the two is a finite sum: over each increment,
the gain that the sampler gives it against the gain that it should have, plus what the increment
does not tell about the integral.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsde._types import Process, Solver, Times
from refsde.exact.law import (
    Question,
    Start,
    gaussian_target,
    grid_of,
    law,
    read_map,
    start_moments,
)
from refsde.measure.gaussians import RELATIVE_ZERO, root_of

__all__ = ["WeakError", "strong_error", "weak_error"]

NODES = 32  # of Gauss-Legendre, in each interval that the sampler asks for
TOUCHING = 1e-9  # of the span: how far intervals may overlap or stand apart by rounding


@dataclass(frozen=True, eq=False)
class WeakError:
    r"""How far the law N(mean, cov) of a sampler's output is from the exact N(M, V).

    Attributes
    ----------
    mean : array (d,)
        Error of the mean, in units of the data.
    cov : array (d, d)
        Error of the covariance, in squared units of the data.
    exact_mean, exact_cov : arrays (d,), (d, d)
        The exact moments M and V.
    """

    mean: np.ndarray
    cov: np.ndarray
    exact_mean: np.ndarray
    exact_cov: np.ndarray

    @property
    def variance(self) -> float:
        """Relative error of the total variance: tr(cov) / tr(V) - 1, signed; v / V - 1 if d = 1."""
        return float(np.trace(self.cov) / np.trace(self.exact_cov))

    @property
    def whitened(self) -> np.ndarray:
        """Signed errors (d + d (d + 1) / 2,) of both moments along V's axes, in units of V.

        First the means over standard deviations, then the entries of V^(-1/2) cov V^(-1/2) on and
        above the diagonal, the diagonal divided by sqrt(2): see `size`.
        """
        lam, U = np.linalg.eigh(self.exact_cov)
        P = U / np.sqrt(lam)
        gap = P.T @ self.cov @ P
        gap[np.diag_indices_from(gap)] /= math.sqrt(2)
        return np.concatenate([self.mean @ P, gap[np.triu_indices_from(gap)]])

    @property
    def size(self) -> float:
        """One number for both moments: sqrt(2 KL) to first order, the norm of `whitened`.

        It is |error| / std for a mean alone, and |v / V - 1| / sqrt(2) for a variance alone.
        """
        return float(np.linalg.norm(self.whitened))

    def __float__(self) -> float:
        return self.size

    def __repr__(self) -> str:
        shift = float(np.linalg.norm(self.mean)) if len(self.mean) > 1 else float(self.mean[0])
        return f"WeakError(mean {shift:.4g}, relative variance {self.variance:.4g})"


def weak_error(
    process: Process, solver: Solver, times: Times | int, *, start: Start = "marginal"
) -> WeakError:
    r"""Error of the mean and covariance of a sampler's output, on Gaussian data, without noise.

    Parameters
    ----------
    process : ReverseSDE or ProbabilityFlow
        What is integrated, with the score of a Gaussian target.
    solver : callable
        How a step is made: any that is affine in the state and in its noise.
    times : Grid or int
        When to step; the exact law is that of the last time.
    start : "marginal", "prior" or tuple (mean, cov)
        Law of the state at the first of the times, as for `law`.

    Returns
    -------
    WeakError
        ``.variance`` is v / V - 1; ``.mean`` and ``.cov`` are differences.

    Raises
    ------
    ValueError, TypeError
        As `law`; and if the score has no target, or the exact law no spread.

    References
    ----------
    Kloeden and Platen (1992), Numerical Solution of Stochastic Differential Equations, section 9.7
    (weak convergence); for Gaussians the first two moments decide.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture([1.0], [[0.0]], [0.0625])
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> round(rs.exact.weak_error(process, rs.EulerMaruyama(), 100).variance, 5)
    0.02257
    """
    grid = grid_of(process, solver, times, start=start)
    if process.kind == "forward":
        raise TypeError(
            "`process` is a ForwardSDE, which knows no target to compare with: take "
            "exact.law(process, solver, times, start=(mean, cov)) and target.at(sde, t)"
        )
    target = gaussian_target(process, "process")
    exact = target.at(process.sde, grid.ts[-1])
    spread = np.linalg.eigvalsh(exact.cov)
    if spread[0] <= RELATIVE_ZERO * len(spread) * spread[-1]:
        raise ValueError(
            f"`process` has an exact law without spread at t = {grid.ts[-1]:g}, against which a "
            "relative error has no meaning: end the grid at sde.t_end, or give the data spread"
        )
    got = law(process, solver, grid, start=start)
    return WeakError(got.mean - exact.mean, got.cov - exact.cov, exact.mean, exact.cov)


def strong_error(
    process: Process, solver: Solver, times: Times | int, *, start: Start = "marginal"
) -> float:
    r"""Root-mean-square distance of a sampler from the exact solution on the same Brownian path.

    .. math:: e^2 = E|x_N - x(t_N)|^2 = \|(A - \Phi) L\|^2 + |E(x_N - x(t_N))|^2
              + \sum_k \|G_k - \Psi_k\|^2 + \sum_k R_k

    with L L^T the covariance of the start, G_k the sampler's gain on the k-th increment's unit
    normal, Psi_k the covariance of that normal with the exact stochastic integral, and R_k the
    variance of the integral given the increment (and given the Levy area, where the sampler asks
    for it).

    Parameters
    ----------
    process : ReverseSDE, ProbabilityFlow or ForwardSDE
        What is integrated, with the score of a Gaussian target (the forward SDE needs none).
    solver : callable
        How a step is made: any that is affine in the state and in its noise.
    times : Grid or int
        When to step.
    start : "marginal", "prior" or tuple (mean, cov)
        Law of the state at the first of the times, where both start at the same point.

    Returns
    -------
    float
        In units of the data, a root mean square over d coordinates *summed*.

    Raises
    ------
    ValueError, TypeError
        As `law`; and if the solver asks for two increments that overlap, which are then not
        increments of one path.

    Notes
    -----
    Draws that are no part of the path (``noise.normal``) count in full.  A deterministic solver on
    the reverse SDE has the whole integral against it.

    References
    ----------
    Kloeden and Platen (1992), Numerical Solution of Stochastic Differential Equations, section 9.6
    (strong convergence).  The solution is that of a linear SDE by variation of constants.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture([1.0], [[0.7]], [0.25])
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> e = [rs.exact.strong_error(process, rs.EulerMaruyama(), n) for n in (500, 1000)]
    >>> 1.99 < e[0] / e[1] < 2.01
    True
    """
    grid = grid_of(process, solver, times, start=start)
    target = None if process.kind == "forward" else gaussian_target(process, "process")
    mean, cov = start_moments(process, grid, start)
    exact = _Solution(process, target, len(mean), grid.ts[0], grid.ts[-1])
    path = _Path(exact)
    read = read_map(process, solver, grid, mean, cov, path.add)
    carried = exact.inside(read.matrix) - np.diag(exact.carried)
    shift = read.image - exact.image(mean)
    start_part = float(np.sum((carried @ exact.U.T @ root_of(cov, "start")) ** 2))
    # Rounding may leave less than nothing of a sampler that is exact.
    return math.sqrt(max(0.0, start_part + float(shift @ shift) + path.total()))


class _Solution:
    """The exact linear solution from time ``t`` to ``s``, in the eigenbasis U of the data."""

    def __init__(self, process: Process, target: Any, d: int, t: float, s: float) -> None:
        self.sde, self.kind, self.t, self.s = process.sde, process.kind, t, s
        if target is None:
            self.m, self.lam, self.U = np.zeros(d), np.zeros(d), np.eye(d)
        else:
            lam, U = target.eigh()
            self.m, self.lam, self.U = target.means[0], lam[0], U[0]
        if process.kind != "forward" and np.any(self.variance(t) <= 0):
            raise ValueError(
                f"`times` start at t = {t:g}, where the exact law has a part without spread, which "
                "no solution leaves: start where sigma > 0, such as at sde.t_end"
            )
        if process.kind == "forward":
            self.carried = np.full(d, self.sde.alpha(s) / self.sde.alpha(t))
        elif process.kind == "flow":
            self.carried = np.sqrt(self.variance(s) / self.variance(t))
        else:
            ratio = self.sde.alpha(t) / self.sde.alpha(s)
            self.carried = ratio * self.variance(s) / self.variance(t)

    def at(self, name: str, u: np.ndarray) -> np.ndarray:
        """A function of the SDE at times ``u`` (n, 1), one by one if it takes floats only."""
        function = getattr(self.sde, name)
        try:
            values = np.asarray(function(u), dtype=float)
        except (TypeError, ValueError):
            values = np.array([float(function(t)) for t in u.ravel().tolist()])
        return np.broadcast_to(values.reshape(-1, 1), u.shape)

    def variance(self, t: float) -> Any:
        """V_t along every axis (d,)."""
        return self.sde.alpha(t) ** 2 * self.lam + self.sde.sigma(t) ** 2

    def inside(self, A: np.ndarray) -> np.ndarray:
        """Return A in the eigenbasis."""
        return np.asarray(self.U.T @ A @ self.U)

    def image(self, x: np.ndarray) -> np.ndarray:
        """Where the solution without noise takes the point ``x``."""
        gap = (x - self.sde.alpha(self.t) * self.m) @ self.U
        return np.asarray(self.sde.alpha(self.s) * self.m + self.U @ (self.carried * gap))

    def kernel(self, u: np.ndarray) -> np.ndarray:
        """Phi(s, u) g(u), shape (n, d), at times ``u`` (n, 1): the gain on dw at u."""
        if self.kind == "flow":
            return np.zeros((len(u), len(self.lam)))
        alpha, g = self.at("alpha", u), np.sqrt(self.at("g2", u))
        if self.kind == "forward":
            return np.asarray(self.sde.alpha(self.s) / alpha * g * np.ones_like(self.lam))
        V = alpha**2 * self.lam + self.at("sigma", u) ** 2
        return np.asarray(self.variance(self.s) / self.sde.alpha(self.s) * alpha * g / V)

    def knots(self) -> np.ndarray:
        """Times at which to cut integrals: where noise levels double, and where g jumps."""
        low, high = sorted(float(self.sde.rho(t)) for t in (self.t, self.s))
        levels = min(high, 1e9) * 2.0 ** -np.arange(1, 60)
        doubling = [self.sde.t_of_lam(-math.log(rho)) for rho in levels[levels > low].tolist()]
        return np.unique(np.concatenate([doubling, getattr(self.sde, "knots", [])]).astype(float))

    def spread(self, a: float, b: float) -> float:
        """Total variance of the stochastic integral between the times ``a`` < ``b``."""
        if self.kind == "flow":
            return 0.0
        low, high = self.sde.rho(a) ** 2, self.sde.rho(b) ** 2
        if self.kind == "forward":
            return float(self.sde.alpha(self.s) ** 2 * (high - low) * len(self.lam))
        scale = self.variance(self.s) / self.sde.alpha(self.s)
        axes = scale > 0  # where the law ends without spread, nothing is left of the noise
        lam = self.lam[axes]
        return float(np.sum(scale[axes] ** 2 * (high - low) / ((lam + low) * (lam + high))))


class _Intervals:
    """Means over intervals from ``t`` to ``s``, by Gauss-Legendre on their pieces between knots.

    Attributes
    ----------
    u, tau : arrays (p, NODES), (p, NODES, 1)
        The nodes of every piece, and how far along its interval they are, in [0, 1].
    owner : array (p,)
        Which interval a piece belongs to.
    """

    def __init__(self, t: np.ndarray, s: np.ndarray, knots: np.ndarray) -> None:
        ends = np.stack([np.minimum(t, s), np.maximum(t, s)], axis=1)
        edges = [
            np.concatenate([[a], knots[(knots > a) & (knots < b)], [b]]) for a, b in ends.tolist()
        ]
        pieces = np.array([len(e) - 1 for e in edges])
        self.owner = np.repeat(np.arange(len(t)), pieces)
        self.first = np.cumsum(pieces) - pieces
        left, width = (
            np.concatenate([e[:-1] for e in edges]),
            np.concatenate([np.diff(e) for e in edges]),
        )
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        self.u = left[:, None] + 0.5 * (1 + nodes) * width[:, None]
        self.tau = ((self.u - t[self.owner, None]) / (s - t)[self.owner, None])[:, :, None]
        share = width / np.abs(s - t)[self.owner]
        self.weights = (share[:, None] * 0.5 * weights)[:, :, None]

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Means (k, d) over the intervals of ``values`` (p, NODES, d)."""
        sums = np.sum(values * self.weights, axis=1)
        return np.asarray(np.add.reduceat(sums, self.first, axis=0))


class _Path:
    """What the increments do to the squared error, added up as the gains come."""

    def __init__(self, exact: _Solution) -> None:
        self.exact = exact
        self.sum = 0.0
        self.intervals: list[tuple[float, float]] = []
        self.knots = exact.knots()

    def add(self, questions: list[Question], gains: np.ndarray) -> None:
        """Add the squared errors of some gains (k, d, d) on the normals of ``questions``."""
        kinds = np.array([q.kind for q in questions])
        asked = np.array([q.t != q.s for q in questions])  # of nothing, nothing can be said
        inside = self.exact.U.T @ gains @ self.exact.U
        self.sum += float(np.sum(inside[kinds == "normal"] ** 2))
        for kind, order in (("increment", 0), ("area", 1)):
            chosen = np.flatnonzero((kinds == kind) & asked)
            spans = [(questions[k].t, questions[k].s) for k in chosen]
            self.sum += self._against(spans, inside[chosen], order) if spans else 0.0

    def _against(self, spans: list[tuple[float, float]], gains: np.ndarray, order: int) -> float:
        """Squared errors of gains on an increment (order 0) or area (1), and what they leave."""
        t, s = np.array(spans).T
        over = _Intervals(t, s, self.knots)
        psi = self.exact.kernel(over.u.reshape(-1, 1)).reshape(*over.u.shape, -1)
        h, level = np.abs(s - t)[:, None], over.mean(psi)
        tilt = 12 * over.mean(psi * (0.5 - over.tau))
        # An increment asked against the run is that of the path with the other sign; an area, whose
        # tilt is then seen from the other end, is the same.
        way = np.sign((s - t) * (self.exact.s - self.exact.t))[:, None]
        if order == 0:
            self.intervals += [(min(a, b), max(a, b)) for a, b in spans]
            wanted = way * level * np.sqrt(h)
            left = over.mean((psi - level[over.owner][:, None]) ** 2) * h
        else:  # the area is the integral of (1/2 - tau) dw: it explains the kernel's tilt
            wanted = way * tilt * np.sqrt(h / 12)
            left = -(tilt**2) * h / 12
        gains = gains - wanted[:, :, None] * np.eye(gains.shape[1])
        return float(np.sum(gains**2) + np.sum(left))

    def total(self) -> float:
        """Return the sum, with the integral over what was never asked for."""
        first, last = sorted((self.exact.t, self.exact.s))
        slack = TOUCHING * (last - first)
        total, at = self.sum, first
        for left, right in sorted(self.intervals):
            if left < first - slack or right > last + slack:
                raise ValueError(
                    f"`solver` asks for the increment between {left:g} and {right:g}, beyond the "
                    f"grid's times from {first:g} to {last:g}"
                )
            if left < at - slack:
                raise ValueError(
                    f"`solver` asks for the increment between {left:g} and {right:g}, and knows a "
                    "part of it already: ask for each sub-interval of a step once, and keep the "
                    "answer"
                )
            total += self.exact.spread(at, left) if left > at + slack else 0.0
            at = right
        return total + (self.exact.spread(at, last) if at < last - slack else 0.0)
