r"""One exponential step: what is known of it exactly, and the mean that a solver must guess.

From ``t`` to ``s`` the flow, and every reverse SDE with the same marginals, is

.. math:: x_s = \mathrm{keep}\;x_t + \mathrm{reach}\;\langle m \rangle + \mathrm{spread}\;z ,

where the first two factors and the noise are exact for any step and m is what the model predicts on
the way.  Its mean is over theta, the share of the step done in lam = log(alpha / sigma), with the
weight e^(tilt theta).  Solvers of this family differ in how they guess that mean: it is linear in
m, so that every guess is a weighted mean of evaluations, with weights that add up to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from refsde._array import combine, expm1, per_sample, sqrt, where
from refsde._types import SDE, Array, Process, Time

__all__ = ["Leg", "Tau", "lagrange", "leg", "predicted", "share", "velocity"]

Tau = float | Callable[[Any], Any]  # amount of noise: a constant, or a function of rho

TERMS = 22  # of a Taylor series on |z| < 1: the first that is left out is below 1e-22
NEAR = 1.0


class Leg(NamedTuple):
    """The exact pieces of a step, floats for a shared clock or arrays (B, 1, ..., 1)."""

    keep: Any
    reach: Any
    tilt: Any
    spread: Any


def leg(sde: SDE, prediction: Literal["eps", "x0"], t: Time, s: Time, tau: Tau = 0.0) -> Leg:
    r"""Pieces of the step from ``t`` to ``s``.

    With h = lam_s - lam_t, and tau the amount of noise (0 is the flow, 1 the reverse SDE):

    ====  =====================================  ===========================================
    m     keep, spread                           reach, tilt
    ====  =====================================  ===========================================
    eps   alpha_s / alpha_t,                     (1 + tau^2) alpha_s (rho_s - rho_t), -h
          alpha_s tau sqrt(rho_t^2 - rho_s^2)
    x0    sigma_s / sigma_t e^(-tau^2 h),        alpha_s (1 - e^(-(1 + tau^2) h)),
          sigma_s sqrt(1 - e^(-2 tau^2 h))       (1 + tau^2) h
    ====  =====================================  ===========================================

    References
    ----------
    Zhang and Chen (2022), eq. 13 and proposition 3 (eps); Lu et al. (2022b), DPM-Solver++,
    propositions 4.1 and 4.2, and Xue et al. (2023), SA-Solver, eq. 10 (x0).
    """
    rho_t, rho_s = sde.rho(t), sde.rho(s)
    noise = tau(rho_t) if callable(tau) else tau
    noisy = per_sample(noise) or noise != 0
    h = sde.lam(s) - sde.lam(t)
    more = 1 + noise * noise
    if prediction == "eps":
        alpha = sde.alpha(s)
        spread = alpha * noise * sqrt((rho_t - rho_s) * (rho_t + rho_s)) if noisy else 0.0
        return Leg(alpha / sde.alpha(t), more * alpha * (rho_s - rho_t), -h, spread)
    sigma, decay = sde.sigma(s), noise * noise * h
    keep = sigma / sde.sigma(t) * (1 + expm1(-decay) if noisy else 1.0)
    spread = sigma * sqrt(-expm1(-2 * decay)) if noisy else 0.0
    return Leg(keep, -sde.alpha(s) * expm1(-more * h), more * h, spread)


def share(k: int, tilt: Any) -> Any:
    r"""Mean of theta^k over [0, 1] with the weight e^(tilt theta): k! phi_(k+1) / phi_1 at -tilt.

    .. math:: \varphi_0(z) = e^z, \qquad \varphi_{k+1}(z) = (\varphi_k(z) - 1/k!)/z .

    References
    ----------
    Hochbruck and Ostermann (2010), Exponential integrators, eq. 2.10.
    """
    return math.factorial(k) * _phi(k + 1, -tilt) / _phi(1, -tilt)


def _phi(k: int, z: Any) -> Any:
    """The function phi_k: its series near zero, where the recursion would cancel."""
    if not per_sample(z):
        return _series(k, z) if abs(z) < NEAR else _recursion(k, z)
    small = abs(z) < NEAR
    near = _series(k, where(small, z, 0.0))
    return where(small, near, _recursion(k, where(small, NEAR, z)))


def _series(k: int, z: Any) -> Any:
    total = 1.0 / math.factorial(k + TERMS)
    for j in reversed(range(k, k + TERMS)):
        total = total * z + 1.0 / math.factorial(j)
    return total


def _recursion(k: int, z: Any) -> Any:
    value = expm1(z) / z
    for j in range(1, k):
        value = (value - 1.0 / math.factorial(j)) / z
    return value


def lagrange(nodes: Sequence[Any], means: Sequence[Any]) -> tuple[Any, ...]:
    """Weights of the values at ``nodes`` in the mean of the polynomial through them.

    Parameters
    ----------
    nodes : sequence of k numbers
        Where values are known; 0 is the start of the step, 1 its end.
    means : sequence of k numbers
        Means of theta^0, ..., theta^(k - 1); the first is 1.

    Returns
    -------
    tuple of k numbers, which add up to 1
    """
    weights = []
    for j in range(1, len(nodes)):
        others = [node for i, node in enumerate(nodes) if i != j]
        # coefficients of prod (theta - node), lowest power first
        product: list[Any] = [1.0]
        scale: Any = 1.0
        for node in others:
            shifted = [0.0, *product]
            product = [a - node * b for a, b in zip(shifted, [*product, 0.0], strict=True)]
            scale = scale * (nodes[j] - node)
        weights.append(sum(c * mean for c, mean in zip(product, means, strict=True)) / scale)
    return (1.0 - sum(weights), *weights)


def predicted(process: Process, prediction: str, x: Array, t: Time) -> Array:
    """What the model predicts at ``x`` and ``t``: one evaluation."""
    if prediction == "eps":
        return process.eps(x, t)
    return process.denoise(x, t) if prediction == "x0" else process.score(x, t)


def velocity(process: Process, x: Array, t: float, scale: float) -> Array:
    r"""Rate at which x / (alpha sqrt(scale^2 + rho^2)) turns, per unit of arctan(rho / scale).

    .. math:: v = \frac{c\,\hat\epsilon - (\rho/c)\,\hat x_0}{\sqrt{c^2 + \rho^2}}

    It is zero for data N(0, c^2), and the usual v-prediction for c = 1 and alpha^2 + sigma^2 = 1.
    One evaluation, of the prediction that loses no digits at this noise level.
    """
    sde = process.sde
    rho = sde.rho(t)
    size = math.hypot(scale, rho)
    y = x / sde.alpha(t)
    if rho > scale:
        return combine([scale / (rho * size), -size / (scale * rho)], [y, process.denoise(x, t)])
    return combine([size / scale, -rho / (scale * size)], [process.eps(x, t), y])
