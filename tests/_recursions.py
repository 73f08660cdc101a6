r"""What the solver tests compare with: the papers' formulas as recursions, written without refsde.

On Gaussian data N(m, C) the score is affine, score(x, t) = -V_t^{-1} (x - alpha_t m) with
V_t = alpha_t^2 C + sigma_t^2 I, so that every non-adaptive sampler is an affine map of its start
and of its draws, x' = A x + b + sum_k G_k z_k.  Here are the schedules and the one-step maps
(A, b, G) in the papers' notation, how steps compose, and the exact flow of a mixture on the line.
`_probing` reads A, b and the G_k out of refsde's public driver.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

Matrix = np.ndarray


# -- schedules: alpha, sigma, f, g^2 as functions of t ---------------------------------------------


class Schedule(NamedTuple):
    alpha: Callable[[float], float]
    sigma: Callable[[float], float]
    f: Callable[[float], float]
    g2: Callable[[float], float]

    def rho(self, t: float) -> float:
        return self.sigma(t) / self.alpha(t)


def vp(b0: float = 0.1, b1: float = 20.0) -> Schedule:
    def B(t: float) -> float:
        return b0 * t + (b1 - b0) * t * t / 2

    def beta(t: float) -> float:
        return b0 + (b1 - b0) * t

    return Schedule(
        lambda t: math.exp(-B(t) / 2),
        lambda t: math.sqrt(-math.expm1(-B(t))),
        lambda t: -beta(t) / 2,
        beta,
    )


def sub_vp(b0: float = 0.1, b1: float = 20.0) -> Schedule:
    base = vp(b0, b1)
    return Schedule(
        base.alpha,
        lambda t: base.sigma(t) ** 2,
        base.f,
        lambda t: base.g2(t) * base.sigma(t) ** 2 * (1 + base.alpha(t) ** 2),  # 1 - alpha^4
    )


def ve(smin: float = 0.01, smax: float = 50.0, exact: bool = False) -> Schedule:
    ratio = smax / smin
    missing = smin**2 if exact else 0.0
    return Schedule(
        lambda t: 1.0,
        lambda t: math.sqrt(smin**2 * ratio ** (2 * t) - missing),
        lambda t: 0.0,
        lambda t: 2 * smin**2 * ratio ** (2 * t) * math.log(ratio),
    )


def edm() -> Schedule:
    return Schedule(lambda t: 1.0, lambda t: t, lambda t: 0.0, lambda t: 2 * t)


def cosine(c: float = 0.008) -> Schedule:
    speed = math.pi / 2 / (1 + c)

    def theta(t: float) -> float:
        return speed * (t + c)

    return Schedule(
        lambda t: math.cos(theta(t)),
        lambda t: math.sin(theta(t)),
        lambda t: -speed * math.tan(theta(t)),
        lambda t: 2 * speed * math.tan(theta(t)),
    )


def ddpm(betas: Sequence[float]) -> Schedule:
    """A DDPM table: level i sits at t = (i + 1) / N and log alpha is linear between levels."""
    N = len(betas)
    minus_log_abar = [0.0]
    for beta in betas:
        minus_log_abar.append(minus_log_abar[-1] - math.log1p(-beta))

    def L(t: float) -> float:
        return float(np.interp(t * N, range(N + 1), minus_log_abar))

    def rate(t: float) -> float:  # of the interval below t, which a reverse step crosses
        i = max(math.ceil(t * N - 1e-9), 1)
        return (minus_log_abar[i] - minus_log_abar[i - 1]) * N

    return Schedule(
        lambda t: math.exp(-L(t) / 2),
        lambda t: math.sqrt(-math.expm1(-L(t))),
        lambda t: -rate(t) / 2,
        rate,
    )


def smld(sigmas: Sequence[float]) -> Schedule:
    """An SMLD table: level i sits at t = (i + 1) / N and sigma^2 is linear between levels."""
    N = len(sigmas)
    squares = [0.0, *(sigma**2 for sigma in sigmas)]

    def rate(t: float) -> float:
        i = max(math.ceil(t * N - 1e-9), 1)
        return (squares[i] - squares[i - 1]) * N

    return Schedule(
        lambda t: 1.0,
        lambda t: math.sqrt(np.interp(t * N, range(N + 1), squares)),
        lambda t: 0.0,
        rate,
    )


# -- one step of each sampler on N(m, C), as the papers write it -----------------------------------


class Affine(NamedTuple):
    """x -> A x + b + sum_k gains[k] z_k."""

    A: Matrix
    b: Matrix
    gains: tuple[Matrix, ...] = ()


@dataclass(frozen=True)
class Gauss:
    """Data N(m, C) under a schedule."""

    schedule: Schedule
    m: Matrix
    C: Matrix

    @property
    def eye(self) -> Matrix:
        return np.eye(len(self.m))

    def moments(self, t: float) -> tuple[Matrix, Matrix]:
        """Mean and covariance of p_t."""
        a, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return a * self.m, a**2 * self.C + sigma**2 * self.eye

    def score(self, t: float) -> Affine:
        mean, V = self.moments(t)
        P = np.linalg.inv(V)
        return Affine(-P, P @ mean)

    def x0(self, t: float) -> Affine:
        """Posterior mean of the data, by Tweedie's formula."""
        a, sigma, score = self.schedule.alpha(t), self.schedule.sigma(t), self.score(t)
        return Affine((self.eye + sigma**2 * score.A) / a, sigma**2 * score.b / a)

    def drift(self, t: float, share: float) -> Affine:
        """F x - share g^2 score: share 1 for the reverse SDE, 1/2 for the flow, 0 forward."""
        f, g2, score = self.schedule.f(t), self.schedule.g2(t), self.score(t)
        return Affine(f * self.eye - share * g2 * score.A, -share * g2 * score.b)


Step = Callable[[Gauss, float, float], Affine]  # the map of the step from t (now) to s


def euler(p: Gauss, t: float, s: float, share: float = 1.0) -> Affine:
    """x + drift h + g sqrt|h| z, with h = s - t."""
    h, drift = s - t, p.drift(t, share)
    noise = math.sqrt(p.schedule.g2(t) * abs(h)) * p.eye
    return Affine(p.eye + h * drift.A, h * drift.b, () if share == 0.5 else (noise,))


def heun(p: Gauss, t: float, s: float, share: float = 1.0) -> Affine:
    """x + h (a + a') / 2 + (g_t + g_s) dw / 2, a' at x + h a + g_t dw (Kloeden, Platen, 15.1)."""
    h, now, then = s - t, p.drift(t, share), p.drift(s, share)
    A = p.eye + h / 2 * (now.A + then.A @ (p.eye + h * now.A))
    b = h / 2 * (now.b + then.b + then.A @ (h * now.b))
    if share == 0.5:
        return Affine(A, b)
    g_t, g_s = (math.sqrt(p.schedule.g2(u) * abs(h)) for u in (t, s))
    return Affine(A, b, ((g_t + g_s) / 2 * p.eye + h / 2 * g_t * then.A,))


def _beta(p: Gauss, t: float, s: float) -> float:
    """beta_i of the chain: 1 - abar_i / abar_{i-1}."""
    return 1 - (p.schedule.alpha(t) / p.schedule.alpha(s)) ** 2


def reverse_diffusion(p: Gauss, t: float, s: float, family: str, flow: bool = False) -> Affine:
    """Song et al. (2020), algorithms 2 and 3, eq. 46: x - f_i(x) + G_i^2 score + G_i z."""
    if family == "vp":
        beta = _beta(p, t, s)
        keep, G2 = 2 - math.sqrt(1 - beta), beta
    elif family == "ve":
        keep, G2 = 1.0, p.schedule.sigma(t) ** 2 - p.schedule.sigma(s) ** 2
    else:  # sub-VP: the generic discretisation, an Euler step
        keep, G2 = 1 - p.schedule.f(t) * abs(s - t), p.schedule.g2(t) * abs(s - t)
    c, score = 0.5 if flow else 1.0, p.score(t)
    noise = () if flow else (math.sqrt(G2) * p.eye,)
    return Affine(keep * p.eye + c * G2 * score.A, c * G2 * score.b, noise)


def ancestral(p: Gauss, t: float, s: float, family: str, variance: str) -> Affine:
    """DDPM (Ho et al. 2020, algorithm 2) and SMLD (Song et al. 2020, eq. 47)."""
    score = p.score(t)
    if family == "ve":
        delta = p.schedule.sigma(t) ** 2 - p.schedule.sigma(s) ** 2
        small = delta * p.schedule.sigma(s) ** 2 / p.schedule.sigma(t) ** 2
        std = math.sqrt(delta if variance == "large" else small)
        return Affine(p.eye + delta * score.A, delta * score.b, (std * p.eye,) * (std > 0))
    a = p.schedule.alpha(t) / p.schedule.alpha(s)
    if family == "vp":
        beta = _beta(p, t, s)
        small = beta * (1 - p.schedule.alpha(s) ** 2) / (1 - p.schedule.alpha(t) ** 2)
    else:  # sub-VP: the variance that the exact transition adds
        beta = p.schedule.sigma(t) ** 2 - a**2 * p.schedule.sigma(s) ** 2
        small = beta * p.schedule.sigma(s) ** 2 / p.schedule.sigma(t) ** 2
    std = math.sqrt(small if variance == "posterior" else beta)
    return Affine((p.eye + beta * score.A) / a, beta * score.b / a, (std * p.eye,) * (std > 0))


def ddim(p: Gauss, t: float, s: float, eta: float) -> Affine:
    """Song, Meng and Ermon (2020), eq. 12 and 16, in v = x / alpha, where it holds for any SDE.

    v_s = x0 + sqrt(rho_s^2 - c^2) eps + c z with c = eta (rho_s / rho_t) sqrt(rho_t^2 - rho_s^2).
    """
    rho_t, rho_s, x0 = p.schedule.rho(t), p.schedule.rho(s), p.x0(t)
    c = min(eta * rho_s / rho_t * math.sqrt(rho_t**2 - rho_s**2), rho_s)
    w = math.sqrt(rho_s**2 - c**2) / rho_t  # of eps rho_t = v_t - x0
    a_t, a_s = p.schedule.alpha(t), p.schedule.alpha(s)
    noise = (a_s * c * p.eye,) * (c > 0)
    return Affine(a_s * ((1 - w) * x0.A + w * p.eye / a_t), a_s * (1 - w) * x0.b, noise)


def sde_dpm(p: Gauss, t: float, s: float, tau: float) -> Affine:
    """SDE-DPM-Solver++ of order 1, data form (Lu et al. 2022b), with e^{-h} = rho_s / rho_t."""
    sch, x0 = p.schedule, p.x0(t)
    shrink = sch.rho(s) / sch.rho(t)
    decay, weight = sch.sigma(s) / sch.sigma(t) * shrink ** (tau**2), 1 - shrink ** (1 + tau**2)
    noise = sch.sigma(s) * math.sqrt(1 - shrink ** (2 * tau**2))
    A, b = decay * p.eye + sch.alpha(s) * weight * x0.A, sch.alpha(s) * weight * x0.b
    return Affine(A, b, (noise * p.eye,) * (noise > 0))


def er_sde(p: Gauss, t: float, s: float, phi: Callable[[float], float]) -> Affine:
    """ER-SDE-1 (Cui et al. 2023): v_s = r v_t + (1 - r) x0 + sqrt(rho_s^2 - rho_t^2 r^2) z."""
    rho_t, rho_s, x0 = p.schedule.rho(t), p.schedule.rho(s), p.x0(t)
    r = phi(rho_s) / phi(rho_t)
    a_t, a_s = p.schedule.alpha(t), p.schedule.alpha(s)
    noise = a_s * math.sqrt(rho_s**2 - rho_t**2 * r**2)
    return Affine(
        a_s * (r / a_t * p.eye + (1 - r) * x0.A),
        a_s * (1 - r) * x0.b,
        (noise * p.eye,) * (noise > 0),
    )


def annealed_langevin(p: Gauss, t: float, signal: float, snr: float) -> Affine:
    """x + e score + sqrt(2 e) z with e = 2 a^2 (snr sigma_t)^2; ``signal`` is a^2."""
    e, score = 2 * signal * (snr * p.schedule.sigma(t)) ** 2, p.score(t)
    return Affine(p.eye + e * score.A, e * score.b, (math.sqrt(2 * e) * p.eye,))


# -- many steps ------------------------------------------------------------------------------------


def chain(step: Step, p: Gauss, ts: Sequence[float]) -> list[Affine]:
    """The map of every step of the grid."""
    return [step(p, t, s) for t, s in zip(ts[:-1], ts[1:], strict=True)]


def whole(steps: Sequence[Affine]) -> Affine:
    """The map of all steps together, its gains in the order of the draws."""
    A = np.eye(len(steps[0].b))
    b, gains = np.zeros(len(A)), []
    for step in reversed(steps):
        b = b + A @ step.b
        gains.extend(A @ G for G in reversed(step.gains))
        A = A @ step.A
    return Affine(A, b, tuple(reversed(gains)))


def law(steps: Iterable[Affine], mean: Matrix, cov: Matrix) -> tuple[Matrix, Matrix]:
    """Mean and covariance after the steps, by the recursion."""
    for A, b, gains in steps:
        mean = A @ mean + b
        cov = A @ cov @ A.T + sum((G @ G.T for G in gains), np.zeros_like(cov))
    return mean, cov


# -- exact answers beyond one Gaussian -------------------------------------------------------------


@dataclass(frozen=True)
class Mixture1D:
    """A mixture of Gaussians on the line under a schedule, by its distribution function alone."""

    schedule: Schedule
    w: Matrix
    mu: Matrix
    s: Matrix

    def rearranged(self, x: Matrix, t: float, end: float) -> Matrix:
        """Where the flow takes ``x`` from t to ``end``: F_end^{-1}(F_t(x)), by bisection."""
        lower, upper = self._tails(x, t)
        reach = 40 * np.sqrt(
            (self.schedule.alpha(end) * self.s) ** 2 + self.schedule.sigma(end) ** 2
        )
        low = np.full_like(x, np.min(self.schedule.alpha(end) * self.mu - reach))
        high = np.full_like(x, np.max(self.schedule.alpha(end) * self.mu + reach))
        for _ in range(200):
            middle = (low + high) / 2
            below, above = self._tails(middle, end)
            # Compare in the smaller tail, which is known to full relative accuracy.
            left = np.where(lower < upper, below < lower, above > upper)
            low, high = np.where(left, middle, low), np.where(left, high, middle)
        return (low + high) / 2

    def _tails(self, x: Matrix, t: float) -> tuple[Matrix, Matrix]:
        a, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        z = (x[:, None] - a * self.mu) / np.sqrt((a * self.s) ** 2 + sigma**2)
        return ndtr(z) @ self.w, ndtr(-z) @ self.w


def slopes(errors: Sequence[float]) -> list[float]:
    """Observed orders between grids that double."""
    return [math.log2(abs(a / b)) for a, b in zip(errors[:-1], errors[1:], strict=True)]
