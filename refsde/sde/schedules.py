"""The published forward SDEs, each a pair of coefficients with a closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from refsde._array import (
    Time,
    asinh,
    atan,
    cos,
    exp,
    expm1,
    log,
    log1p,
    sin,
    sinh,
    sqrt,
    tan,
)
from refsde.sde.base import LinearSDE, _check_end, _positive

__all__ = ["EDM", "VE", "VP", "Cosine", "SubVP"]


@dataclass(frozen=True)
class _LinearBeta(LinearSDE):
    """Shared by VP and sub-VP: beta(t) = beta_min + t (beta_max - beta_min), B = its integral."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _positive(self, beta_min=self.beta_min, beta_max=self.beta_max)
        if self.beta_max < self.beta_min:
            raise ValueError(
                f"`beta_max` must be at least `beta_min` = {self.beta_min}, got {self.beta_max}: "
                "swap them"
            )

    def beta(self, t: Time) -> Any:
        """Noise rate beta(t)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _B(self, t: Time) -> Any:
        return t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

    def _t_of_B(self, B: Time) -> Any:
        rise = self.beta_max - self.beta_min
        return 2 * B / (self.beta_min + sqrt(self.beta_min**2 + 2 * rise * B))

    def alpha(self, t: Time) -> Any:
        return exp(-0.5 * self._B(t))

    def f(self, t: Time) -> Any:
        return -0.5 * self.beta(t)


@dataclass(frozen=True)
class VP(_LinearBeta):
    r"""Variance preserving SDE with a linear noise rate.

    .. math:: dx = -\tfrac12 \beta(t) x\,dt + \sqrt{\beta(t)}\,dw, \quad
              \beta(t) = \beta_{min} + t(\beta_{max}-\beta_{min}), \quad
              \alpha_t = e^{-B(t)/2},\ \sigma_t^2 = 1 - \alpha_t^2,\ B = \int_0^t \beta .

    The limit of DDPM's chain.  T = 1, sampling ends at t_end = 1e-3, the prior is N(0, I).

    Parameters
    ----------
    beta_min, beta_max : float
        Noise rates at t = 0 and t = 1, in 1 / time.

    Raises
    ------
    ValueError
        If a rate is not positive and finite, or they are the wrong way round.

    References
    ----------
    Song et al. (2020), eq. 11 and appendix C; Ho et al. (2020).

    Examples
    --------
    >>> import refsde as rs
    >>> f"{rs.VP().alpha(1.0):.12f}"
    '0.006571586495'
    """

    latex: ClassVar[str] = r"dx = -\tfrac12\beta(t)\,x\,dt + \sqrt{\beta(t)}\,dw"

    def sigma(self, t: Time) -> Any:
        return sqrt(-expm1(-self._B(t)))

    def rho(self, t: Time) -> Any:
        return sqrt(expm1(self._B(t)))

    def g2(self, t: Time) -> Any:
        return self.beta(t)

    def t_of_lam(self, lam: Time) -> Any:
        return self._t_of_B(log1p(exp(-2 * lam)))


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    r"""Sub-variance preserving SDE: VP's mean with less noise.

    .. math:: dx = -\tfrac12 \beta(t) x\,dt + \sqrt{\beta(t)(1-e^{-2B(t)})}\,dw, \quad
              \alpha_t = e^{-B(t)/2},\ \sigma_t = 1 - \alpha_t^2 .

    The *standard deviation* is 1 - alpha^2 (VP's variance).  T = 1, t_end = 1e-3, prior N(0, I).

    Parameters
    ----------
    beta_min, beta_max : float
        Noise rates at t = 0 and t = 1, in 1 / time.

    Raises
    ------
    ValueError
        If a rate is not positive and finite, or they are the wrong way round.

    References
    ----------
    Song et al. (2020), eq. 12 and appendix C.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.SubVP().sigma(0.3) < rs.VP().sigma(0.3)
    True
    """

    latex: ClassVar[str] = r"dx = -\tfrac12\beta(t)\,x\,dt + \sqrt{\beta(t)(1-e^{-2B(t)})}\,dw"

    def sigma(self, t: Time) -> Any:
        return -expm1(-self._B(t))

    def rho(self, t: Time) -> Any:
        return 2 * sinh(0.5 * self._B(t))

    def g2(self, t: Time) -> Any:
        return self.beta(t) * -expm1(-2 * self._B(t))

    def t_of_lam(self, lam: Time) -> Any:
        return self._t_of_B(2 * asinh(0.5 * exp(-lam)))

    def chain(self, t: Time, s: Time) -> tuple[Any, Any]:
        """One Euler step of the forward SDE: the published code has no exact chain for sub-VP."""
        h = t - s
        return 1 + self.f(t) * h, self.g2(t) * h


@dataclass(frozen=True)
class VE(LinearSDE):
    r"""Variance exploding SDE with geometric noise levels.

    .. math:: dx = \sigma(t)\sqrt{2\ln(\sigma_{max}/\sigma_{min})}\,dw, \quad
              \sigma(t) = \sigma_{min}(\sigma_{max}/\sigma_{min})^t,\ \alpha = 1 .

    The limit of SMLD.  T = 1, t_end = 1e-5, prior N(0, sigma_max^2 I).

    Parameters
    ----------
    sigma_min, sigma_max : float
        Noise levels at t = 0 and t = 1, in units of the data.
    convention : {"code", "exact"}
        Standard deviation of x_t given x_0.  "code" (default): sigma(t), as the published code has
        it, so that data at t = 0 are already smoothed by sigma_min.  "exact":
        sqrt(sigma(t)^2 - sigma_min^2), what the SDE started from x_0 has.

    Raises
    ------
    ValueError
        If a level is not positive and finite, they are the wrong way round, or the convention is
        unknown.

    References
    ----------
    Song et al. (2020), eq. 9 and appendix C.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.VE(sigma_min=0.01, sigma_max=50.0).sigma(1.0)
    50.0
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    convention: Literal["code", "exact"] = "code"
    t_end: float = 1e-5
    latex: ClassVar[str] = (
        r"dx = \sigma(t)\sqrt{2\ln(\sigma_{max}/\sigma_{min})}\,dw,\quad "
        r"\sigma(t) = \sigma_{min}(\sigma_{max}/\sigma_{min})^t"
    )

    def __post_init__(self) -> None:
        _positive(self, sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        if self.sigma_max <= self.sigma_min:
            raise ValueError(
                f"`sigma_max` must exceed `sigma_min` = {self.sigma_min}, got {self.sigma_max}: "
                "swap them"
            )
        if self.convention not in ("code", "exact"):
            raise ValueError(f"`convention` must be 'code' or 'exact', got {self.convention!r}")
        _check_end("VE", self.t_end, self.T)

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def _level(self, t: Time) -> Any:
        # anchored at the nearer end in log scale, so that sigma(T) is sigma_max exactly
        return self.sigma_max * exp((t - 1.0) * self._rate)

    def alpha(self, t: Time) -> Any:
        return 1.0 + 0.0 * t

    def sigma(self, t: Time) -> Any:
        if self.convention == "exact":
            return self.sigma_min * sqrt(expm1(2 * self._rate * t))
        return self._level(t)

    def f(self, t: Time) -> Any:
        return 0.0 * t

    def g2(self, t: Time) -> Any:
        return 2 * self._rate * self._level(t) ** 2

    def t_of_lam(self, lam: Time) -> Any:
        ratio = exp(-lam) / self.sigma_min
        return (
            0.5 * log1p(ratio * ratio) / self._rate
            if self.convention == "exact"
            else log(ratio) / self._rate
        )


@dataclass(frozen=True)
class EDM(LinearSDE):
    r"""The clock of Karras et al.: time *is* the noise level.

    .. math:: dx = \sqrt{2t}\,dw, \quad \alpha = 1,\ \sigma(t) = t .

    T = sigma_max = 80, t_end = sigma_min = 0.002, prior N(0, sigma_max^2 I).

    Parameters
    ----------
    sigma_min, sigma_max : float
        Where sampling ends and starts, in units of the data.

    Raises
    ------
    ValueError
        If a level is not positive and finite, or they are the wrong way round.

    References
    ----------
    Karras et al. (2022), Elucidating the Design Space of Diffusion-Based Generative Models,
    table 1.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.EDM().T, rs.EDM().t_end, rs.EDM().sigma(3.0)
    (80.0, 0.002, 3.0)
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    latex: ClassVar[str] = r"dx = \sqrt{2t}\,dw,\quad \sigma(t) = t"

    def __post_init__(self) -> None:
        _positive(self, sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        if self.sigma_max <= self.sigma_min:
            raise ValueError(
                f"`sigma_max` must exceed `sigma_min` = {self.sigma_min}, got {self.sigma_max}: "
                "swap them"
            )

    @property
    def T(self) -> float:  # type: ignore[override]
        return self.sigma_max

    @property
    def t_end(self) -> float:  # type: ignore[override]
        return self.sigma_min

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    def alpha(self, t: Time) -> Any:
        return 1.0 + 0.0 * t

    def sigma(self, t: Time) -> Any:
        return 1.0 * t

    def f(self, t: Time) -> Any:
        return 0.0 * t

    def g2(self, t: Time) -> Any:
        return 2.0 * t

    def t_of_lam(self, lam: Time) -> Any:
        return exp(-lam)


@dataclass(frozen=True)
class Cosine(LinearSDE):
    r"""Variance preserving SDE on the cosine schedule, in its angle form.

    .. math:: \alpha_t = \cos\theta_t,\ \sigma_t = \sin\theta_t,\quad
              \theta_t = \frac{\pi}{2}\,\frac{t + c}{1 + c} .

    alpha would vanish at t = 1, so the clock ends at T = 0.9946 (rho = 119); t_end = 1e-3, prior
    N(0, I).

    Parameters
    ----------
    c : float
        Offset of the angle; sin(theta) at t = 0 is about 1.56 c.
    T : float
        Noise end of the clock, below 1.

    Raises
    ------
    ValueError
        If ``c`` is not positive or ``T`` is outside (0, 1).

    References
    ----------
    Nichol and Dhariwal (2021), Improved Denoising Diffusion Probabilistic Models, eq. 17.

    Examples
    --------
    >>> import refsde as rs
    >>> round(rs.Cosine().rho(rs.Cosine().T))
    119
    """

    c: float = 0.008
    T: float = 0.9946
    t_end: float = 1e-3
    latex: ClassVar[str] = (
        r"dx = -\dot\theta\tan\theta\,x\,dt + \sqrt{2\dot\theta\tan\theta}\,dw,\quad "
        r"\theta = \tfrac{\pi}{2}\tfrac{t+c}{1+c}"
    )

    def __post_init__(self) -> None:
        _positive(self, c=self.c, T=self.T)
        if self.T >= 1:
            raise ValueError(f"`T` of Cosine must be below 1 (alpha vanishes at 1), got {self.T}")
        _check_end("Cosine", self.t_end, self.T)

    @property
    def _speed(self) -> float:
        return 0.5 * math.pi / (1 + self.c)

    def _theta(self, t: Time) -> Any:
        return self._speed * (t + self.c)

    def alpha(self, t: Time) -> Any:
        return cos(self._theta(t))

    def sigma(self, t: Time) -> Any:
        return sin(self._theta(t))

    def rho(self, t: Time) -> Any:
        return tan(self._theta(t))

    def f(self, t: Time) -> Any:
        return -self._speed * tan(self._theta(t))

    def g2(self, t: Time) -> Any:
        return 2 * self._speed * tan(self._theta(t))

    def t_of_lam(self, lam: Time) -> Any:
        return atan(exp(-lam)) / self._speed - self.c
