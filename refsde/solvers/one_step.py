r"""One-step samplers: one formula with a noise fraction, and the two published discrete chains.

Every sampler that predicts the clean sample, and then goes to the next level with partly the
predicted and partly fresh noise, is

.. math:: x_s = \alpha_s \hat x_0 + \sigma_s\sqrt{1-\nu^2}\,\hat\epsilon + \sigma_s\nu\, z
              = \alpha_s\left[\frac{x_t}{\alpha_t} + \left(\rho_s\sqrt{1-\nu^2} -
              \rho_t\right)\hat\epsilon\right] + \sigma_s\nu\,z ,

and its members differ in the fraction nu^2 of fresh variance alone.  ``t`` is now, ``s < t`` the
target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from refsde._array import maximum, namespace, per_sample, sqrt
from refsde._types import SDE, Array, Kind, Noise, Orders, Process, State, Time

__all__ = ["DDIM", "Ancestral", "OneStep", "ReverseDiffusion"]

_ROUNDING = 1e-12
Fraction = Callable[[SDE, Time, Time], Any]  # nu^2 of the step from t to s


def path_normal(noise: Noise, t: Time, s: Time, x: Array) -> Array:
    """Unit normals of the path over the step."""
    return noise.increment(t, s, x) / sqrt(abs(s - t))


def _land(
    process: Process,
    x: Array,
    mean: Array,
    std: Any,
    t: Time,
    s: Time,
    noise: Noise,
    score: Callable[[], Array],
) -> Array:
    """Go to ``mean`` and add noise of size ``std``, in the geometry of the process."""
    moved = x + process.displace(mean - x, std * std, score)
    return moved if _zero(std) else moved + std * process.colour(path_normal(noise, t, s, x))


def _zero(value: Any) -> bool:
    return not per_sample(value) and value == 0


# Fractions are dataclasses, not closures: they compare, print and pickle, and so do their solvers.


@dataclass(frozen=True)
class _Tempered:
    """The fraction 1 - e^(-2 tau^2 h)."""

    tau: float

    def __call__(self, sde: SDE, t: Time, s: Time) -> Any:
        # e^(-h) = rho_s / rho_t, so that s = 0 needs no infinite h
        return 1 - (sde.rho(s) / sde.rho(t)) ** (2 * self.tau**2)


@dataclass(frozen=True)
class _Extended:
    """The fraction 1 - (phi(rho_s) rho_t / (phi(rho_t) rho_s))^2."""

    phi: Callable[[Any], Any]

    def __call__(self, sde: SDE, t: Time, s: Time) -> Any:
        rho_t, rho_s = sde.rho(t), sde.rho(s)
        if _zero(rho_s):
            return 1.0  # the step onto the data adds no noise, whatever its share
        kept = self.phi(rho_s) * rho_t / (self.phi(rho_t) * rho_s)
        return 1 - kept * kept


@dataclass(frozen=True)
class OneStep:
    r"""The one-step family: any fraction nu^2 of fresh noise.

    Parameters
    ----------
    fraction : float or callable
        ``fraction(sde, t, s) -> nu^2`` in [0, 1], the share of fresh variance in the step from
        ``t`` to ``s``; a number is a constant share.

    Raises
    ------
    ValueError
        If a constant is outside [0, 1].
    TypeError
        If it is neither a number nor callable.

    Notes
    -----
    With nu^2 = 0 this is DDIM, with 1 - e^(-2 h), h = lam_s - lam_t, DDPM's posterior sampler, with
    1 - e^(-2 tau^2 h) (see `OneStep.sde_dpm`) first-order SDE-DPM-Solver++, and so on.  All are
    exact in law for a point mass at any step size; all that are not 0 draw noise and need the
    reverse SDE.

    References
    ----------
    Song, Meng and Ermon (2020), eq. 12; Lu et al. (2022b), DPM-Solver++; Cui et al. (2023), ER-SDE.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.OneStep(lambda sde, t, s: 1 - (sde.rho(s) / sde.rho(t)) ** 2) != rs.DDIM(1.0)
    True
    """

    fraction: float | Fraction

    @property
    def accepts(self) -> frozenset[Kind]:
        """Kinds of process this is right for: the flow too if there is no noise."""
        return frozenset({"flow", "reverse"}) if self.fraction == 0 else frozenset({"reverse"})

    @property
    def preconditions(self) -> bool:
        """Whether it runs on `Preconditioned`: only with noise to be coloured."""
        return self.fraction != 0

    @property
    def orders(self) -> Orders:
        """Orders of convergence; none for a share that stays the same however short the step."""
        if self.fraction == 0:
            return {"weak": 1, "flow": 1}
        if isinstance(self.fraction, _Tempered) and self.fraction.tau == 1:
            return {"weak": 1, "strong": 1}
        return {"weak": 1} if isinstance(self.fraction, _Tempered | _Extended) else {}

    def __post_init__(self) -> None:
        if callable(self.fraction):
            return
        if isinstance(self.fraction, bool) or not isinstance(self.fraction, int | float):
            raise TypeError(
                "`fraction` must be a number or a function (sde, t, s) -> nu^2, got "
                f"{self.fraction!r}"
            )
        if not 0 <= self.fraction <= 1:
            raise ValueError(
                f"`fraction` must lie in [0, 1], a share of the variance, got {self.fraction!r}"
            )

    @classmethod
    def sde_dpm(cls, tau: float = 1.0) -> OneStep:
        """First-order SDE-DPM-Solver++ (and that of gDDIM, SA-Solver): 1 - e^(-2 tau^2 h)."""
        if not (math.isfinite(tau) and tau >= 0):
            raise ValueError(
                f"`tau` must be finite and non-negative, got {tau!r}: 1 is DDPM's noise"
            )
        return cls(_Tempered(tau))

    @classmethod
    def er_sde(cls, phi: Callable[[Any], Any]) -> OneStep:
        """First-order ER-SDE of ``phi(rho)``: rho is the flow, rho^2 the reverse SDE."""
        if not callable(phi):
            raise TypeError(f"`phi` must be a function of rho, got {phi!r}: try lambda rho: rho**2")
        return cls(_Extended(phi))

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        nu2 = self.fraction(process.sde, state.t, s) if callable(self.fraction) else self.fraction
        if not per_sample(nu2):
            if not -_ROUNDING <= nu2 <= 1 + _ROUNDING:
                raise ValueError(
                    f"`fraction` must return a share in [0, 1], got {nu2!r} from t = {state.t:g} "
                    "to "
                    f"s = {s:g}: look at its behaviour there"
                )
            nu2 = min(max(float(nu2), 0.0), 1.0)
        return State(s, one_step(process, state.x, state.t, s, nu2, noise))


def one_step(
    process: Process, x: Array, t: Time, s: Time, nu2: Any, noise: Noise, unsure: Any = 0.0
) -> Array:
    """Go from ``t`` to ``s`` with the fraction ``nu2`` of fresh variance: the module's formula.

    ``unsure`` is the variance of the data given x_t, where it is to be added.
    """
    sde = process.sde
    kept = sde.rho(s) * sqrt(1 - nu2)
    eps = process.eps(x, t)
    mean = sde.alpha(s) * (x / sde.alpha(t) + (kept - sde.rho(t)) * eps)
    std = sde.sigma(s) * sqrt(nu2)
    if not _zero(unsure):
        moved = 1 - kept / sde.rho(t)  # how much of the data prediction the step takes
        std = sqrt(std * std + (sde.alpha(s) * moved) ** 2 * unsure)
    return _land(process, x, mean, std, t, s, noise, lambda: -eps / sde.sigma(t))


@dataclass(frozen=True)
class DDIM:
    r"""Denoising diffusion implicit model: the one-step formula with nu^2 = eta^2 (1 - e^{-2h}).

    .. math:: \nu^2 = \min\left(1,\ \eta^2\left(1 - \rho_s^2/\rho_t^2\right)\right)

    With eta = 0 it is deterministic and first order on the probability flow; with eta = 1 it is
    DDPM's ancestral sampler with the posterior variance.  One evaluation a step, and the last may
    land on t = 0.

    Parameters
    ----------
    eta : float
        Amount of fresh noise, >= 0.  eta = 0 runs on the flow and on the reverse SDE, eta > 0 on
        the reverse SDE only.

    Raises
    ------
    ValueError
        If ``eta`` is negative or not finite.

    References
    ----------
    Song, Meng and Ermon (2020), Denoising Diffusion Implicit Models, eq. 12 and 16.

    Examples
    --------
    >>> import refsde as rs
    >>> sorted(rs.DDIM(0.0).accepts), sorted(rs.DDIM(1.0).accepts)
    (['flow', 'reverse'], ['reverse'])
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.eta, bool) or not isinstance(self.eta, int | float):
            raise TypeError(
                f"`eta` must be a number, got {self.eta!r}: 0 is deterministic, 1 is DDPM"
            )
        if not (math.isfinite(self.eta) and self.eta >= 0):
            raise ValueError(
                f"`eta` must be finite and non-negative, got {self.eta!r}: 0 is deterministic"
            )

    @property
    def accepts(self) -> frozenset[Kind]:
        """Kinds of process this is right for."""
        return frozenset({"flow", "reverse"}) if self.eta == 0 else frozenset({"reverse"})

    @property
    def preconditions(self) -> bool:
        """Whether it runs on `Preconditioned`: only with noise to be coloured."""
        return self.eta > 0

    @property
    def orders(self) -> Orders:
        """Orders of convergence: along the paths of the reverse SDE only with its own noise."""
        if self.eta == 0:
            return {"weak": 1, "flow": 1}
        return {"weak": 1, "strong": 1} if self.eta == 1 else {"weak": 1}

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        nu2 = ddim_share(process.sde, self.eta, state.t, s)
        return State(s, one_step(process, state.x, state.t, s, nu2, noise))


def ddim_share(sde: SDE, eta: float, t: Time, s: Time) -> Any:
    """Fraction nu^2 = eta^2 (1 - e^(-2h)) of fresh variance, clipped to 1."""
    ratio = sde.rho(s) / sde.rho(t)
    share = 0.0 if eta == 0 else eta**2 * (1 - ratio * ratio)
    return 1 - maximum(1 - share, 0.0)


@dataclass(frozen=True)
class ReverseDiffusion:
    r"""Reverse diffusion sampler: the discrete forward chain, reversed to first order.

    .. math:: x_s = (2 - a)\,x_t + c\,q\,\mathrm{score}(x_t, t) + \sqrt q\, z, \qquad
              x_t = a x_s + \sqrt q z

    with (a, q) from ``sde.chain(t, s)``, c = 1 on the reverse SDE; on the flow c = 1/2 and no
    noise. On a DDPM grid, a = sqrt(1 - beta_i) and q = beta_i; on an SMLD grid, a = 1 and q =
    sigma_i^2 - sigma_{i-1}^2; for sub-VP the published code takes an Euler step.

    References
    ----------
    Song et al. (2020), eq. 46 and algorithms 2 and 3.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VE(), rs.GaussianMixture.ring(8)
    >>> process = rs.ReverseSDE(sde, target.score(sde))
    >>> rs.sample(process, rs.ReverseDiffusion(), 10, times=20, rng=0).x.shape
    (10, 2)
    """

    accepts: ClassVar[frozenset[Kind]] = frozenset({"flow", "reverse"})
    orders: ClassVar[Orders] = {"weak": 1, "strong": 1, "flow": 1}
    preconditions: ClassVar[bool] = True

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t, x = state.t, state.x
        a, q = process.sde.chain(t, s)
        score = process.score(x, t)
        if process.stochastic:
            mean, std = (2 - a) * x + q * score, sqrt(q)
        else:
            mean, std = (2 - a) * x + 0.5 * q * score, 0.0
        return State(s, _land(process, x, mean, std, t, s, noise, lambda: score))


@dataclass(frozen=True)
class Ancestral:
    r"""Ancestral sampling of the discrete chain (DDPM, SMLD).

    .. math:: x_s = \frac{x_t + q\,\mathrm{score}(x_t, t)}{a} + \mathrm{std}\; z, \qquad
              (a, q) = \mathrm{chain}(t, s)

    The mean is exact given x_t.  For the variance the papers differ:

    - "published": q on a variance-preserving chain (beta_i, as DDPM), the posterior's where a = 1
      (SMLD);
    - "large": q;  "posterior": q sigma_s^2 / sigma_t^2, that of x_s given x_t and x_0.

    Parameters
    ----------
    variance : {"published", "posterior", "large"}
        Which of them.  Sub-VP has no published chain: ask for "posterior" there, which uses the
        exact transition of the SDE.

    Raises
    ------
    ValueError
        If ``variance`` is unknown.
    TypeError
        On sub-VP with the published variance.

    References
    ----------
    Ho et al. (2020), algorithm 2; Song et al. (2020), eq. 4 and 47.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.Ancestral(variance="posterior")
    Ancestral(variance='posterior')
    """

    variance: Literal["published", "posterior", "large"] = "published"
    accepts: ClassVar[frozenset[Kind]] = frozenset({"reverse"})
    orders: ClassVar[Orders] = {"weak": 1, "strong": 1}
    preconditions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.variance not in ("published", "posterior", "large"):
            raise ValueError(
                f"`variance` must be 'published', 'posterior' or 'large', got {self.variance!r}"
            )

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t, x, sde = state.t, state.x, process.sde
        a, q = transition(sde, t, s)
        posterior = q * (sde.sigma(s) / sde.sigma(t)) ** 2
        if self.variance == "published":
            variance = posterior if _exploding(sde, t) else q
        else:
            variance = q if self.variance == "large" else posterior
        score = process.score(x, t)
        mean, std = (x + q * score) / a, sqrt(variance)
        return State(s, _land(process, x, mean, std, t, s, noise, lambda: score))

    def bind(self, process: Process, ts: tuple[float, ...] | None) -> Ancestral:
        """Refuse an SDE whose chain was never published."""
        t = 0.5 * process.sde.T
        sum_of_squares = process.sde.alpha(t) ** 2 + process.sde.sigma(t) ** 2
        if (
            self.variance == "published"
            and not _exploding(process.sde, t)
            and abs(sum_of_squares - 1) > 1e-9
        ):
            raise TypeError(
                f"`variance` = 'published' is not there for {process.sde!r}: "
                "use ReverseDiffusion(), DDIM(1.0) or Ancestral(variance='posterior')"
            )
        return self


def transition(sde: SDE, t: Time, s: Time) -> tuple[Any, Any]:
    """Exact (a, q) of x_t = a x_s + sqrt(q) z, also where the published chain is an Euler step."""
    alpha_t, rho_t, rho_s = sde.alpha(t), sde.rho(t), sde.rho(s)
    return alpha_t / sde.alpha(s), alpha_t * alpha_t * (rho_t - rho_s) * (rho_t + rho_s)


def _exploding(sde: SDE, t: Time) -> bool:
    """Whether the chain keeps its signal (alpha = 1), as VE and SMLD do."""
    f = sde.f(t)
    return bool(namespace(f).all(f == 0)) if per_sample(f) else f == 0
