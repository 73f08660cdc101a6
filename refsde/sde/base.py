"""What every forward SDE has, and checks of times and parameters."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from refsde._array import (
    Array,
    Time,
    log,
    namespace,
    per_sample,
    to_numpy,
)

__all__ = ["LinearSDE", "check_time"]


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
