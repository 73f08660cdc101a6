r"""Filters matched to the data, step by step: what exact theory asks for.

S is the variance of a coefficient of the data, V_t = alpha_t^2 S + sigma_t^2 that of x_t, and u =
R^2 the eigenvalue of M M^T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import Time, per_sample
from refsde._bases import Basis
from refsde._types import SDE
from refsde.precondition.matrices import Dense
from refsde.precondition.operators import Preconditioner, Stepwise
from refsde.precondition.spectral import in_basis

MOST = 2.0  # of u where it is matched to steps
LEAST = 1e-12  # a smaller u is a rounded zero

__all__ = ["is_field", "langevin_matched", "noise_matched", "step_matched"]


@dataclass(frozen=True, eq=False)
class _Matched:
    """A filter computed from V_t and V_s of a field, step by step."""

    law: ClassVar[str | None] = None  # of `Preconditioned`, if it is right for one alone
    S: np.ndarray = field(repr=False)
    axes: Basis | np.ndarray  # where it is diagonal: a basis, or eigenvectors as columns
    sde: SDE

    def variances(self, t: Time, s: Time) -> tuple[np.ndarray, np.ndarray]:
        """V at both ends of a step."""
        if per_sample(t) or per_sample(s):
            raise ValueError(
                "a filter that is matched to the step needs one clock for the batch: use a Grid"
            )
        at = [self.sde.alpha(r) ** 2 * self.S + self.sde.sigma(r) ** 2 for r in (t, s)]
        return at[0], at[1]

    def on(self, index: np.ndarray) -> _Matched:
        """The same for some of the coefficients, as an event of their own."""
        return replace(self, S=self.S.reshape(-1)[index], axes=Basis("pixel", 1))


@dataclass(frozen=True, eq=False)
class _NoiseMatched(_Matched):
    law: ClassVar[str | None] = "noise"

    def __call__(self, t: Time, s: Time) -> Preconditioner:
        V_t, V_s = self.variances(t, s)
        if not np.all(V_s > 0):
            raise ValueError("coefficients without variance at t = 0 need a grid that ends before")
        return _with_eigenvalues(self.axes, V_s / V_t)


@dataclass(frozen=True, eq=False)
class _StepMatched(_Matched):
    law: ClassVar[str | None] = "pds"

    def __call__(self, t: Time, s: Time) -> Preconditioner:
        # (1 + u c)^2 V_t + u q = V_s, a quadratic in u: its root nearest zero, which under VE is in
        # [1, 2], without the cancellation of the schoolbook's formula
        V_t, V_s = self.variances(t, s)
        a, q = self.sde.chain(t, s)
        c = (1 - a) - q / V_t
        A, B, C = c * c * V_t, 2 * c * V_t + q, V_t - V_s
        room = B * B - 4 * A * C
        with np.errstate(divide="ignore", invalid="ignore"):
            u = -2 * C / (B + np.copysign(np.sqrt(np.maximum(room, 0.0)), B))
        # Where no u is exact, 2 forgets past errors better than the u of least excess, 1 / (2x).
        best = np.where((room > 0) & (u > LEAST), u, MOST)
        return _with_eigenvalues(self.axes, best)


@dataclass(frozen=True, eq=False)
class _LangevinMatched(_Matched):
    power: float = 1.0

    def __call__(self, t: Time, s: Time) -> Preconditioner:
        V, _ = self.variances(t, t)
        return _with_eigenvalues(self.axes, (V / V.min()) ** self.power)


def noise_matched(data: Any, sde: SDE, *, spectrum: ArrayLike | None = None) -> Stepwise:
    r"""Colour of the noise that is left when x_t is known: for ``law="noise"``.

    .. math:: u(t, s) = \frac{V_s}{V_t}, \qquad
              \mathrm{Var}(x_s\,|\,x_t) = q\,\frac{V_s}{V_t}, \qquad x_t = a x_s + \sqrt q z

    On a Gaussian law, a solver whose mean is E[x_s | x_t] and whose noise has the variance q then
    samples exactly, in any number of steps, one included: `ReverseDiffusion` under VE and
    `Ancestral("large")` under any SDE.

    Parameters
    ----------
    data : GaussianField, FieldMixture or GaussianMixture
        The data law; of a mixture, the mean covariance within components is used.
    sde : SDE
        What diffuses it.
    spectrum : array, event shape, optional
        S, instead of that of ``data``, in its basis.

    Returns
    -------
    Stepwise
        A map for every step.

    References
    ----------
    The posterior covariance of a Gaussian; as an optimal covariance of the reverse step see Bao et
    al. (2022), Analytic-DPM.

    Examples
    --------
    >>> import refsde as rs
    >>> M = rs.precondition.noise_matched(rs.GaussianField.power_law(8), rs.VE())
    >>> M.at(1.0, 0.5).gain.max() <= 1
    np.True_
    """
    return Stepwise(_NoiseMatched(*_spectrum_of(data, spectrum), sde))


def step_matched(data: Any, sde: SDE, *, spectrum: ArrayLike | None = None) -> Stepwise:
    r"""Filter of drift and noise that makes every step of reverse diffusion exact in variance.

    Under VE, with x = (sigma_t^2 - sigma_s^2) / V_t,

    .. math:: u^2 x - u + 1 = 0, \qquad u = \frac{1 - \sqrt{1 - 4x}}{2x} \in [1, 2]

    which has a solution as long as x <= 1/4: where steps shrink sigma^2 by a quarter at most.
    Beyond, u = 2.  On another SDE it solves the same condition for that chain; under VP next to no
    u is exact where V_t is just below 1, or is 1.  For ``law="pds"`` and `ReverseDiffusion`.

    Parameters
    ----------
    data : GaussianField, FieldMixture or GaussianMixture
        The data law; of a mixture, the mean covariance within components is used.
    sde : SDE
        What diffuses it.
    spectrum : array, event shape, optional
        S, instead of that of ``data``, in its basis.

    Returns
    -------
    Stepwise
        A map for every step.

    References
    ----------
    Exact recursion of the variance; ours.

    Examples
    --------
    >>> import refsde as rs
    >>> M = rs.precondition.step_matched(rs.GaussianField.power_law(8), rs.VE())
    >>> bool((M.at(0.5, 0.49).gain >= 1).all())
    True
    """
    return Stepwise(_StepMatched(*_spectrum_of(data, spectrum), sde))


def langevin_matched(
    data: Any,
    sde: SDE | None = None,
    t: float | None = None,
    *,
    power: float = 1.0,
    spectrum: ArrayLike | None = None,
) -> Preconditioner:
    r"""Filter that makes Langevin well conditioned: M M^T proportional to the covariance.

    .. math:: u = \left(\frac{V_t}{\min V_t}\right)^{\text{power}}

    It turns *up* what has much power, and makes the number of steps independent of resolution.

    Parameters
    ----------
    data : GaussianField, FieldMixture or GaussianMixture
        The data law; of a mixture, the mean covariance within components is used.
    sde : SDE, optional
        What diffuses it; None matches the data themselves.
    t : float, optional
        Level; None follows the level of the step.
    power : float
        1 matches, 1/2 matches half way, 0 filters nothing, -1 is the wrong way round.
    spectrum : array, event shape, optional
        S, instead of that of ``data``, in its basis.

    Returns
    -------
    Preconditioner
        Static where ``t`` is given or there is no ``sde``, else `Stepwise`.

    References
    ----------
    Roberts and Stramer (2002), Langevin diffusions and Metropolis-Hastings algorithms; Girolami and
    Calderhead (2011), Riemann manifold Langevin.

    Examples
    --------
    >>> import refsde as rs
    >>> M = rs.precondition.langevin_matched(rs.GaussianField.power_law(32))
    >>> round(M.spectrum().max())  # the condition number of the field
    512
    """
    if not isinstance(power, int | float) or not math.isfinite(power):
        raise ValueError(f"`power` must be finite, got {power!r}: 1 matches")
    S, axes = _spectrum_of(data, spectrum)
    if sde is None:
        return _with_eigenvalues(axes, (S / S.min()) ** power)
    rule = _LangevinMatched(S, axes, sde, power)
    return Stepwise(rule) if t is None else rule(float(t), float(t))


def _with_eigenvalues(axes: Basis | np.ndarray, u: np.ndarray) -> Preconditioner:
    """Map whose M M^T has the eigenvalues ``u``."""
    if isinstance(axes, Basis):
        return in_basis(axes, np.sqrt(u))
    return Dense((axes * np.sqrt(u)) @ axes.T)


def is_field(data: Any) -> bool:
    """Whether this is a Gaussian law that is diagonal in a basis."""
    return hasattr(data, "spectrum") and isinstance(getattr(data, "basis", None), Basis)


def _spectrum_of(data: Any, spectrum: ArrayLike | None) -> tuple[np.ndarray, Basis | np.ndarray]:
    """S of the data law, within the components of a mixture, and where it is diagonal."""
    if is_field(data):
        S, axes = data.spectrum, data.basis
    elif hasattr(data, "pooled"):
        S, axes = data.pooled(), data.basis
    elif hasattr(data, "covs"):
        S, axes = np.linalg.eigh(np.tensordot(data.weights, data.covs, 1))
    else:
        raise TypeError(
            "`data` must be a GaussianField, FieldMixture or GaussianMixture, got "
            f"{type(data).__name__}: fit one, GaussianField.fit(images)"
        )
    if spectrum is not None:
        given = np.asarray(spectrum, dtype=float)
        if given.shape != S.shape:
            raise ValueError(f"`spectrum` must have shape {S.shape}, got {given.shape}")
        S = given
    return S, axes
