r"""Forward SDEs with linear drift: what turns data into noise.

Every SDE here is

.. math:: dx = f(t)\, x\, dt + g(t)\, dw, \qquad x_t = \alpha_t x_0 + \sigma_t z, \quad
          z \sim N(0, I),

with t = 0 the data and t = T the noise.  Two numbers a time are enough for everything else:

- ``rho = sigma / alpha``, the noise-to-signal ratio (the "sigma" of Karras et al.),
- ``lam = log(alpha / sigma) = -log(rho)``, half the log signal-to-noise ratio,
- ``f = d log(alpha) / dt`` and ``g2 = g^2 = 2 sigma sigma' - 2 f sigma^2``.

An SDE knows only ``t``: neither a number of steps nor a grid.  Formulas are written so that nothing
cancels at t = 1e-5 (``expm1``, ``log1p``, ``asinh``).  Times are floats, or arrays (B, 1, ..., 1)
of NumPy, torch or any array-API library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import (
    Array,
    Time,
    asinh,
    atan,
    cos,
    exp,
    expm1,
    interp,
    like,
    log,
    log1p,
    namespace,
    per_sample,
    sin,
    sinh,
    sqrt,
    tan,
    to_numpy,
)

__all__ = ["EDM", "VE", "VP", "Cosine", "LinearSDE", "SubVP", "Tabulated", "check_time"]


def check_time(name: str, t: Time, sde: LinearSDE | Any) -> None:
    """Raise ``ValueError`` unless every entry of ``t`` is a finite time in [0, T]."""
    values = to_numpy(t) if per_sample(t) else np.asarray(t, dtype=float)
    if not np.all((values >= 0) & (values <= sde.T)):
        raise ValueError(
            f"`{name}` must lie in [0, T] = [0, {sde.T:g}] (0 is data, T is noise), got {t!r}: "
            "rescale it to the clock of the SDE"
        )


def _positive_number(owner: str, name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"`{name}` of {owner} must be a number, got {value!r}: pass a float")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"`{name}` of {owner} must be positive and finite, got {value!r}: leave the default"
        )
    return float(value)


def _positive(sde: LinearSDE, **values: float) -> None:
    for name, value in values.items():
        # A NumPy scalar would turn float32 samples into float64.
        object.__setattr__(sde, name, _positive_number(type(sde).__name__, name, value))


def _check_end(owner: str, t_end: float, T: float) -> None:
    if not 0 <= t_end < T:
        raise ValueError(f"`t_end` of {owner} must lie in [0, T) = [0, {T:g}), got {t_end!r}")


class LinearSDE:
    """Common ground of the SDEs; give alpha, sigma, f, g2 and t_of_lam to make one of your own.

    Subclass it to add an SDE of your own; override ``rho`` where ``sigma / alpha`` loses digits.

    Attributes
    ----------
    T : float
        Noise end of the clock; t = 0 is data.
    t_end : float
        Where sampling ends by default.
    prior_std : float
        Standard deviation of the Gaussian that sampling starts from.

    References
    ----------
    Song et al. (2020), Score-Based Generative Modeling through SDEs, eq. 5 and appendix B.

    Examples
    --------
    >>> import refsde as rs
    >>> sde = rs.VP()
    >>> round(sde.alpha(0.5) ** 2 + sde.sigma(0.5) ** 2, 12)
    1.0
    """

    T: float = 1.0
    t_end: float = 1e-3
    latex: ClassVar[str] = r"dx = f(t)\,x\,dt + g(t)\,dw"

    @property
    def prior_std(self) -> float:
        """Standard deviation of the prior, a Gaussian with mean zero."""
        return 1.0

    def alpha(self, t: Time) -> Any:
        """Signal coefficient at ``t``, same shape as ``t``."""
        raise NotImplementedError(f"{type(self).__name__} must define alpha(t)")

    def sigma(self, t: Time) -> Any:
        """Noise standard deviation at ``t``, same shape as ``t``."""
        raise NotImplementedError(f"{type(self).__name__} must define sigma(t)")

    def f(self, t: Time) -> Any:
        """Drift coefficient d log(alpha) / dt, in 1 / time."""
        raise NotImplementedError(f"{type(self).__name__} must define f(t)")

    def g2(self, t: Time) -> Any:
        """Squared diffusion coefficient g(t)^2, in 1 / time."""
        raise NotImplementedError(f"{type(self).__name__} must define g2(t)")

    def t_of_lam(self, lam: Time) -> Any:
        """Time at which ``lam`` takes the given value: the inverse of `lam`."""
        raise NotImplementedError(f"{type(self).__name__} must define t_of_lam(lam)")

    def rho(self, t: Time) -> Any:
        """Noise-to-signal ratio sigma / alpha."""
        return self.sigma(t) / self.alpha(t)

    def lam(self, t: Time) -> Any:
        """Half log signal-to-noise ratio log(alpha / sigma); ``inf`` where sigma is 0."""
        return -log(self.rho(t))

    def chain(self, t: Time, s: Time) -> tuple[Any, Any]:
        r"""One step of the discrete forward chain from ``s`` (less noise) to ``t`` (more noise).

        .. math:: x_t = a\,x_s + \sqrt q\,z, \quad a = \alpha_t/\alpha_s,
                  \quad q = \sigma_t^2 - a^2\sigma_s^2 .

        On a DDPM or SMLD grid this *is* the discrete chain: q is beta_i (VP) or the difference of
        squared sigmas (VE).

        Parameters
        ----------
        t, s : float or array (B, 1, ..., 1)
            Times with ``s <= t``.

        Returns
        -------
        a, q : same shape as the times
            Multiplier and variance of the step.

        References
        ----------
        Song et al. (2020), appendix E.
        """
        alpha_t, rho_t, rho_s = self.alpha(t), self.rho(t), self.rho(s)
        # sigma_t^2 - a^2 sigma_s^2, as a product: no cancellation on a short step
        return alpha_t / self.alpha(s), alpha_t * alpha_t * (rho_t - rho_s) * (rho_t + rho_s)

    def prior_sample(self, z: Array) -> Array:
        """Starting states from unit normals ``z`` (B, *D)."""
        return self.prior_std * z

    def prior_logpdf(self, x: Array) -> Array:
        """Log-density (B,) of the prior at ``x`` (B, *D), in nats."""
        xp = namespace(x)
        axes = tuple(range(1, len(x.shape)))
        size = math.prod(x.shape[1:])
        scaled = x / self.prior_std
        constant = size * (0.5 * math.log(2 * math.pi) + math.log(self.prior_std))
        return -0.5 * xp.sum(scaled * scaled, axis=axes) - constant

    def _repr_latex_(self) -> str:
        return f"${self.latex}$"


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
    Karras et al. (2022), Elucidating the Design Space of Diffusion-Based Generative Models, table
    1.

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


@dataclass(frozen=True, eq=False)
class Tabulated(LinearSDE):
    r"""An SDE from a table: a DDPM list of betas, or an SMLD list of sigmas.

    Level i (of N) sits at t = (i + 1) / N, and t = 0 is data without noise.  Between levels the
    coefficients are constant: log(alpha) is linear in t for betas, sigma^2 is linear in t for
    sigmas. On the grid of the table itself, ancestral and reverse-diffusion steps are the discrete
    chain, to the last digit: ``Grid.uniform(sde, N, t_end=0.0)``.

    Parameters
    ----------
    betas : array (N,), optional
        DDPM's beta_i in (0, 1): x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) z.
    sigmas : array (N,), optional
        SMLD's noise levels, ascending and positive.  Give one of the two.

    Raises
    ------
    ValueError
        If the table is empty, not finite, outside (0, 1) or not ascending; if both or none are
        given.

    References
    ----------
    Ho et al. (2020), eq. 2; Song and Ermon (2019); Song et al. (2020), section 3.1.

    Examples
    --------
    >>> import refsde as rs
    >>> sde = rs.Tabulated.from_betas("linear")
    >>> f"{sde.alpha(1.0) ** 2:.4e}"
    '4.0358e-05'
    """

    betas: ArrayLike | None = None
    sigmas: ArrayLike | None = None
    _t: np.ndarray = field(init=False, repr=False)
    _level: np.ndarray = field(init=False, repr=False)  # B = -2 log alpha, or sigma^2
    latex: ClassVar[str] = (
        r"x_i = \sqrt{1-\beta_i}\,x_{i-1} + \sqrt{\beta_i}\,z,\quad t_i = (i+1)/N"
    )

    def __post_init__(self) -> None:
        if (self.betas is None) == (self.sigmas is None):
            got = "neither" if self.betas is None else "both"
            raise ValueError(
                f"give exactly one of `betas` and `sigmas`, got {got}: a table is DDPM's or SMLD's"
            )
        name = "betas" if self.betas is not None else "sigmas"
        try:
            table = np.array(getattr(self, name), dtype=float)
        except (TypeError, ValueError) as problem:
            raise TypeError(
                f"`{name}` must be an array of numbers, got {getattr(self, name)!r}"
            ) from problem
        if table.ndim != 1 or table.size == 0 or not np.all(np.isfinite(table)):
            raise ValueError(
                f"`{name}` must be a non-empty finite 1-D array, got {table!r} of shape "
                f"{table.shape}: pass a list of numbers, one a level"
            )
        if self.betas is not None:
            if not np.all((table > 0) & (table < 1)):
                bad = table[(table <= 0) | (table >= 1)][0]
                raise ValueError(
                    f"`betas` must lie in (0, 1), got {bad!r}: use more, smaller steps"
                )
            level = np.cumsum(-np.log1p(-table))
        else:
            if table[0] <= 0 or np.any(np.diff(table) <= 0):
                raise ValueError(
                    f"`sigmas` must be positive and ascending, got {table!r}: sort them"
                )
            level = table * table
        table.setflags(write=False)
        object.__setattr__(self, name, table)
        object.__setattr__(self, "_t", np.arange(table.size + 1) / table.size)
        object.__setattr__(self, "_level", np.concatenate([[0.0], level]))

    @classmethod
    def from_betas(
        cls,
        schedule: Literal["linear", "scaled_linear", "cosine"] = "linear",
        n: int = 1000,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
    ) -> Self:
        """Build the usual tables of ``n`` betas.

        Parameters
        ----------
        schedule : {"linear", "scaled_linear", "cosine"}
            "linear": evenly spaced from beta_min / n to beta_max / n (DDPM).  "scaled_linear":
            evenly spaced square roots (latent diffusion).  "cosine": the cosine table, clipped at
            0.999.
        n : int
            Number of levels.
        beta_min, beta_max : float
            Rates per unit time; DDPM's 1e-4 and 0.02 at n = 1000 are 0.1 and 20.

        References
        ----------
        Ho et al. (2020), section 4; Nichol and Dhariwal (2021), eq. 17.
        """
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"`n` must be a positive int, got {n!r}")
        beta_min = _positive_number("from_betas", "beta_min", beta_min)
        beta_max = _positive_number("from_betas", "beta_max", beta_max)
        if schedule == "linear":
            betas = np.linspace(beta_min / n, beta_max / n, n)
        elif schedule == "scaled_linear":
            betas = np.linspace(math.sqrt(beta_min / n), math.sqrt(beta_max / n), n) ** 2
        elif schedule == "cosine":
            c = 0.008
            alpha = np.cos(0.5 * np.pi * (np.arange(n + 1) / n + c) / (1 + c))
            betas = np.minimum(1 - (alpha[1:] / alpha[:-1]) ** 2, 0.999)
        else:
            raise ValueError(
                f"`schedule` must be 'linear', 'scaled_linear' or 'cosine', got {schedule!r}: "
                "pass your own table as Tabulated(betas)"
            )
        return cls(betas)

    @property
    def n(self) -> int:
        """Number of levels in the table."""
        return len(self._t) - 1

    @property
    def t_end(self) -> float:  # type: ignore[override]
        return 1.0 / self.n

    @property
    def prior_std(self) -> float:
        return 1.0 if self.sigmas is None else math.sqrt(self._level[-1])

    def _slope(self, t: Time) -> Any:
        # t belongs to the interval on its left: the one a reverse step from t goes through
        values = np.asarray(to_numpy(t) if per_sample(t) else t, dtype=float)
        i = np.clip(np.ceil(values * self.n - 1e-9).astype(int) - 1, 0, self.n - 1)
        slope = np.diff(self._level)[i] * self.n
        return like(slope, t) if per_sample(t) else float(slope)

    def _at(self, t: Time) -> Any:
        return interp(t, self._t, self._level)

    def alpha(self, t: Time) -> Any:
        return exp(-0.5 * self._at(t)) if self.sigmas is None else 1.0 + 0.0 * t

    def sigma(self, t: Time) -> Any:
        return sqrt(-expm1(-self._at(t)) if self.sigmas is None else self._at(t))

    def rho(self, t: Time) -> Any:
        return sqrt(expm1(self._at(t)) if self.sigmas is None else self._at(t))

    def f(self, t: Time) -> Any:
        return -0.5 * self._slope(t) if self.sigmas is None else 0.0 * t

    def g2(self, t: Time) -> Any:
        return self._slope(t)

    def t_of_lam(self, lam: Time) -> Any:
        rho2 = exp(-2 * lam)
        return interp(log1p(rho2) if self.sigmas is None else rho2, self._level, self._t)

    def _repr_latex_(self) -> str:
        if self.sigmas is None:
            return super()._repr_latex_()
        return r"$x_i = x_{i-1} + \sqrt{\sigma_i^2-\sigma_{i-1}^2}\,z,\quad t_i = (i+1)/N$"

    def __repr__(self) -> str:
        name = "betas" if self.sigmas is None else "sigmas"
        return f"Tabulated({name}: {self.n} levels)"
