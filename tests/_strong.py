"""The strong error derived once more, by quadrature, for the tests of refsde.exact.

Along dw the sampler's weight is a function w(u): constant on each interval that it asks for, tilted
where it knows the Levy area.  The exact solution's is K(u) = V_s V_u^{-1} alpha_u g_u / alpha_s.
The squared error is the integral of |w - K|^2 and what the start adds: no conditional laws, in
which the source is written, and no eigenbasis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from _probing import Problem
from _recursions import Affine, Gauss, Matrix, whole

import refsde as rs

PANELS, NODES = 16, 12
Moments = tuple[Matrix, Matrix]


class Weight(NamedTuple):
    """The sampler's gain on an interval's increment, as a unit normal, and on its Levy area."""

    t: float
    s: float
    level: Matrix
    tilt: Matrix | None = None


def kernel(p: Gauss, u: Matrix, end: float, kind: str) -> Matrix:
    """K(u) (n, d, d): what becomes at ``end`` of a unit of dw at the times ``u``."""
    a, g = np.array([[p.schedule.alpha(v), math.sqrt(p.schedule.g2(v))] for v in u]).T
    if kind == "forward":
        return np.asarray((p.schedule.alpha(end) / a * g)[:, None, None] * p.eye)
    V = np.array([p.moments(v)[1] for v in u])
    V_end = p.moments(end)[1] / p.schedule.alpha(end)
    return np.asarray((a * g)[:, None, None] * (V_end @ np.linalg.inv(V)))


def carried(p: Gauss, t: float, s: float, kind: str) -> Matrix:
    """Phi(s, t): what becomes of a displacement."""
    ratio = p.schedule.alpha(s) / p.schedule.alpha(t)
    if kind == "forward":
        return ratio * p.eye
    (_, V_t), (_, V_s) = p.moments(t), p.moments(s)
    if kind == "reverse":
        return np.asarray(V_s @ np.linalg.inv(V_t) / ratio)
    lam, U = np.linalg.eigh(V_s @ np.linalg.inv(V_t))  # the two commute
    return np.asarray((U * np.sqrt(lam)) @ U.T)


def integrated(p: Gauss, weights: Sequence[Weight], end: float, kind: str) -> float:
    """Integral of |w - K|^2 over the intervals."""
    nodes, parts = np.polynomial.legendre.leggauss(NODES)
    tau = ((np.arange(PANELS)[:, None] + 0.5 * (1 + nodes)) / PANELS).ravel()
    parts = np.tile(0.5 * parts / PANELS, PANELS)
    total = 0.0
    for t, s, level, tilt in weights:
        h = abs(s - t)
        w = np.broadcast_to(level / math.sqrt(h), (len(tau), *level.shape))
        if tilt is not None:  # the area is the integral of (1/2 - tau) dw, of variance h / 12
            w = w + (0.5 - tau)[:, None, None] * tilt * math.sqrt(12 / h)
        gap = w - kernel(p, t + (s - t) * tau, end, kind)
        total += h * float(parts @ np.sum(gap**2, axis=(1, 2)))
    return total


def oracle(
    p: Gauss,
    whole_map: Affine,
    weights: Sequence[Weight],
    begin: Moments,
    kind: str = "reverse",
    ends: tuple[float, float] | None = None,
) -> float:
    """Root of E|x_N - x(t_N)|^2 from a start of mean and covariance ``begin``."""
    A, b, _ = whole_map
    (mean, cov), (t, end) = begin, ends or (weights[0].t, weights[-1].s)
    Phi = carried(p, t, end, kind)
    centre = 0.0 if kind == "forward" else 1.0
    goal = centre * p.moments(end)[0] + Phi @ (mean - centre * p.moments(t)[0])
    shift = A @ mean + b - goal
    total = float(np.trace((A - Phi) @ cov @ (A - Phi).T) + shift @ shift)
    if kind != "flow":
        total += integrated(p, weights, end, kind)
    return math.sqrt(total)


def stepwise(
    p: Gauss, ts: Sequence[float], maps: Sequence[Affine], begin: Moments, kind: str = "reverse"
) -> float:
    """The oracle for a sampler that asks for the increment of every step of the grid."""
    all_of_it = whole(maps)
    # A step onto the data may draw nothing.
    triples = zip_longest(ts[:-1], ts[1:], all_of_it.gains, fillvalue=0 * all_of_it.A)
    return oracle(p, all_of_it, [Weight(*triple) for triple in triples], begin, kind)


def starts(p: Problem) -> dict[str, tuple[Any, Moments]]:
    """What may be passed as ``start=``, and the moments that it means."""
    d = len(p.gauss.m)
    pair = np.linspace(-1.0, 2.0, d), np.diag(np.linspace(0.3, 2.0, d))
    return {
        "marginal": ("marginal", p.gauss.moments(p.grid.ts[0])),
        "prior": ("prior", (np.zeros(d), p.reverse.sde.prior_std**2 * np.eye(d))),
        "pair": (pair, pair),
    }


def shark(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    """ShARK of Foster, dos Reis and Strange (2024), of strong order 1.5, by Levy areas."""
    t, x, h = state.t, state.x, s - state.t
    dw, area = noise.levy(t, s, x)
    a = process.drift(x + process.diffuse(area, t), t)
    there = x + 5 / 6 * h * a + process.diffuse(5 / 6 * dw + area, t)
    late = process.drift(there, t + 5 / 6 * h)
    turn = 0.5 * dw - area
    kick = process.diffuse(dw - turn, t) + process.diffuse(turn, s)
    return rs.State(s, x + h * (0.4 * a + 0.6 * late) + kick)
