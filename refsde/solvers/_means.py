r"""Coefficients of multistep methods: means over each step of a grid, and weights that follow.

A multistep method guesses the mean of m over a step by that of a polynomial through what it knows.
The polynomial is one in a coordinate, such as t or rho; scaled so that 0 is the start of a step and
1 its end, its powers have means that depend on the grid alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from refsde._array import atan, exp
from refsde._types import SDE
from refsde.solvers._exponential import Leg, Tau, leg, share

__all__ = ["Coordinate", "Phi", "coordinates", "legs", "power_means"]

Coordinate = Literal["t", "rho", "lam", "angle", "index"] | Callable[[Any], Any]
Phi = Callable[[Any], Any]  # of rho: the noise scale of ER-SDE

MANY, FEW = 64, 16  # Gauss-Legendre nodes of a step, and of each piece of one that has kinks


def quadrature(sde: SDE, ts: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes of every step in lam (N, Q), as shares of the step too, and their weights.

    A step is cut where the SDE's rates jump, as those of a table do: t is no smooth function of lam
    there.  Steps with fewer pieces than others are filled up with nodes of weight zero.
    """
    lam = [float(sde.lam(t)) for t in ts]
    knots = np.array([sde.lam(float(t)) for t in getattr(sde, "knots", ()) if t > 0])
    cuts = []
    for first, last in zip(lam[:-1], lam[1:], strict=True):
        inner = np.sort((knots - first) / (last - first))
        cuts.append(np.array([0.0, *inner[(inner > 0) & (inner < 1)], 1.0]))
    most = max(len(edges) for edges in cuts) - 1
    nodes, weights = np.polynomial.legendre.leggauss(MANY if most == 1 else FEW)
    shares = np.full((len(cuts), most * len(nodes)), 0.5)
    sizes = np.zeros_like(shares)
    for n, edges in enumerate(cuts):
        half = 0.5 * np.diff(edges)[:, None]
        piece = (edges[:-1, None] + half * (nodes + 1)).ravel()
        shares[n, : len(piece)] = piece
        sizes[n, : len(piece)] = (half * weights).ravel()
    ends = np.array(lam)
    return ends[:-1, None] + np.diff(ends)[:, None] * shares, shares, sizes


def coordinates(
    coordinate: Coordinate, sde: SDE, ts: tuple[float, ...], scale: float = 1.0
) -> list[float]:
    """Value of the coordinate at every time of a grid; not finite where it has none."""
    if coordinate == "index":
        return [float(n) for n in range(len(ts))]
    if coordinate == "t":
        return list(ts)
    if coordinate == "lam":
        return [float(sde.lam(t)) for t in ts]
    return [float(_of_rho(coordinate, sde.rho(t), scale)) for t in ts]


def _of_rho(coordinate: Any, rho: Any, scale: float) -> Any:
    if coordinate == "angle":
        return atan(rho / scale)
    return rho if coordinate == "rho" else coordinate(rho)


def legs(
    sde: SDE, prediction: str, ts: tuple[float, ...], tau: Tau, phi: Phi | None, scale: float
) -> list[Leg]:
    """The exact pieces of every step of a grid."""
    steps = list(zip(ts[:-1], ts[1:], strict=True))
    if prediction == "score":
        lam, _, weights = quadrature(sde, ts)
        means = np.sum(weights * sde.sigma(sde.t_of_lam(lam)) * np.exp(-lam), axis=1)
        return [
            _frozen_score(sde, t, s, m) for (t, s), m in zip(steps, means.tolist(), strict=True)
        ]
    if prediction == "v":
        return [_turn(sde, t, s, scale) for t, s in steps]
    if phi is not None:
        return [_extended(sde, t, s, phi) for t, s in steps]
    return [leg(sde, prediction, t, s, tau) for t, s in steps]  # type: ignore[arg-type]


def _turn(sde: SDE, t: float, s: float, scale: float) -> Leg:
    """Pieces where m is the velocity: data of size ``scale`` would only turn, by the angle."""
    size_t, size_s = (sde.alpha(at) * math.hypot(scale, sde.rho(at)) for at in (t, s))
    turned = math.atan(sde.rho(s) / scale) - math.atan(sde.rho(t) / scale)
    return Leg(size_s / size_t, size_s * turned, math.nan, 0.0)


def _frozen_score(sde: SDE, t: float, s: float, mean: float) -> Leg:
    """Pieces where m is the score: the flow's eps form, with sigma under the integral."""
    h = sde.lam(s) - sde.lam(t)
    return Leg(sde.alpha(s) / sde.alpha(t), sde.alpha(s) * h * mean, -h, 0.0)


def _extended(sde: SDE, t: float, s: float, phi: Phi) -> Leg:
    """Pieces of ER-SDE: x / (alpha phi) moves by the integral of x0 over 1 / phi(rho)."""
    rho_t, rho_s = sde.rho(t), sde.rho(s)
    left = float(phi(rho_s) / phi(rho_t)) if rho_s > 0 else 0.0
    fresh = 1 - (left * rho_t / rho_s) ** 2 if rho_s > 0 else 0.0
    spread = float(sde.sigma(s)) * math.sqrt(max(fresh, 0.0))
    return Leg(sde.alpha(s) / sde.alpha(t) * left, sde.alpha(s) * (1 - left), math.nan, spread)


def power_means(
    coordinate: Coordinate,
    sde: SDE,
    prediction: str,
    ts: tuple[float, ...],
    steps: list[Leg],
    top: int,
    phi: Phi | None = None,
    scale: float = 1.0,
) -> list[list[float]]:
    """Means of theta^0, ..., theta^top over every step, theta the scaled coordinate.

    In closed form where there is one, else by Gauss-Legendre quadrature in lam, of 64 points.
    """
    if (coordinate, prediction) in (("rho", "eps"), ("angle", "v")) or coordinate == "index":
        return [[1.0 / (k + 1) for k in range(top + 1)] for _ in steps]
    if coordinate == "lam" and prediction in ("eps", "x0") and phi is None:
        return [[share(k, step.tilt) for k in range(top + 1)] for step in steps]
    if top == 0:
        return [[1.0] for _ in steps]
    lam, shares, weights = quadrature(sde, ts)
    xi = _along(coordinate, sde, lam, scale)
    at = np.array(coordinates(coordinate, sde, ts, scale))
    theta = (xi - at[:-1, None]) / np.diff(at)[:, None]
    powers = theta[:, :, None] ** np.arange(top + 1)
    if phi is not None:
        ends = np.array([float(sde.lam(t)) for t in ts])
        return _by_parts(coordinate, ends, lam, weights, at, powers, phi)
    if prediction == "v":  # the angle's own rate
        density = weights / np.cosh(lam + math.log(scale))
    else:
        tilt = np.array([step.tilt for step in steps])[:, None]
        density = np.exp(tilt * shares - np.maximum(tilt, 0.0)) * weights
    if prediction == "score":
        density = density * sde.sigma(sde.t_of_lam(lam))
    means = np.einsum("nq,nqk->nk", density, powers) / density.sum(axis=1)[:, None]
    return [[1.0, *row[1:]] for row in means.tolist()]


def _along(coordinate: Coordinate, sde: SDE, lam: np.ndarray, scale: float) -> Any:
    if coordinate == "lam":
        return lam
    return sde.t_of_lam(lam) if coordinate == "t" else _of_rho(coordinate, exp(-lam), scale)


def _by_parts(
    coordinate: Coordinate,
    ends: np.ndarray,
    lam: np.ndarray,
    weights: np.ndarray,
    at: np.ndarray,
    powers: np.ndarray,
    phi: Phi,
) -> list[list[float]]:
    """Means over 1 / phi, by parts: phi need not be differentiated, nor be smooth."""
    inverse = 1 / np.asarray(phi(np.exp(-lam)))
    first, last = 1 / np.asarray(phi(np.exp(-ends[:-1]))), 1 / np.asarray(phi(np.exp(-ends[1:])))
    slope = np.ones_like(lam) if coordinate == "lam" else -np.exp(-lam)  # d xi / d lam
    slope = slope * (np.diff(ends) / np.diff(at))[:, None]  # d theta / d share of the step
    k = np.arange(1, powers.shape[2])
    inner = np.einsum("nq,nqk->nk", inverse * slope * weights, powers[:, :, :-1]) * k
    means = (last[:, None] - inner) / (last - first)[:, None]
    return [[1.0, *row] for row in means.tolist()]
