r"""Preconditioned diffusion: the reverse SDE with its noise coloured by a map M.

With A = M M^T, three laws share the noise g M dw and differ in the drift:

- "pds", as published:      A (f x - g^2 score),
- "marginal":               f x - g^2 (I + A) score / 2,
- "noise":                  f x - g^2 score.

Only "marginal" keeps the marginals p_t, for every A.  The published one does so for A = I alone,
though the same filter in Langevin's equation would do no harm; "noise" is exact, on a Gaussian law
and at the steps themselves, with the filter `refsde.precondition.noise_matched`.
"""

from __future__ import annotations

import copy
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from refsde._array import Array, Time, per_sample, sqrt
from refsde._types import SDE, Kind, Score
from refsde.precondition.matched import is_field
from refsde.precondition.matrices import Skew
from refsde.precondition.operators import Preconditioner, Product, Scalar
from refsde.precondition.spectral import FourierSkew, in_basis
from refsde.process import _Scored

__all__ = ["Preconditioned"]

LAWS = ("pds", "marginal", "noise")
ROUNDED = 1 + 1e-9
TINY = float(np.finfo(float).tiny)
PACKAGE = str(Path(__file__).parent)


@dataclass(frozen=True)
class Preconditioned(_Scored):
    r"""Reverse SDE whose noise, and as the law has it whose drift, is shaped by a linear map M.

    .. math:: \text{pds:}\quad dx = MM^T\left[f x - g^2\,\mathrm{score}\right]dt + g M\,dw, \qquad
              \text{marginal:}\quad dx = \left[f x - \tfrac12 g^2 (I + MM^T + K)\,\mathrm{score}
              \right]dt + g M\,dw .

    Every solver that is written on what a process offers runs on it unchanged: Euler-Maruyama,
    Heun, stochastic Runge-Kutta, Gotta Go Fast, reverse diffusion, ancestral sampling, the one-step
    family with noise, and Langevin correctors.  Others would ignore M, and are refused.

    Parameters
    ----------
    sde : SDE
        The forward SDE, which M does not change.
    score : callable
        ``score(x, t) -> (B, *D)``, as for `ReverseSDE`.
    M : Preconditioner
        The map, from ``refsde.precondition``.
    law : {"pds", "marginal", "noise"}
        "pds": the published process; linear part and score are both filtered, and a static M also
        filters the initial draw.  Its marginals are not p_t unless M M^T = I.  "marginal": keeps
        every p_t, for any M and K.  "noise": filters the noise alone.
    skew : map with ``apply``, optional
        K^T = -K, a `precondition.Skew` or `FourierSkew`, added to M M^T where this acts on scores.
        Not for "noise".
    guard : {"warn", "clip", "off"}
        What to do where a step of "pds" would overshoot, u (sigma_t^2 - sigma_s^2) / V_t > 1 with u
        the eigenvalues of M M^T and V_t the variances of x_t (those of the target where it is
        known, else sigma_t^2): warn once a run; lower u to where it does not, by coefficient where
        M is diagonal in a basis and as a whole where not; or nothing.  Of a product the bound by
        its factors is used, and a map that tells no eigenvalues is let through.

    Raises
    ------
    TypeError
        If ``M`` is not a preconditioner, or the score is not callable.
    ValueError
        If ``law`` or ``guard`` is unknown, M is for other events than the target's or matched to
        another law or SDE, or ``skew`` is not skew or given for "noise".

    Warns
    -----
    RuntimeWarning
        If a step overshoots and ``guard`` is "warn".

    Notes
    -----
    Langevin correctors use M M^T (+ K) and M under every law: with an exact score they keep p_t up
    to the bias of their step size, whatever M is.

    References
    ----------
    Ma, Zhang, Zhu and Feng (2022), Accelerating Score-based Generative Models with Preconditioned
    Diffusion Sampling; Ma, Zhu, Feng and Zhang (2023).  "marginal" is the complete recipe of Ma,
    Chen and Fox (2015) at every t.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, field = rs.VE(), rs.GaussianField.power_law(16)
    >>> M = rs.precondition.pds_frequency_filter(field)
    >>> process = rs.Preconditioned(sde, field.score(sde), M, law="pds")
    """

    sde: SDE
    score: Score
    M: Any
    law: Literal["pds", "marginal", "noise"] = "pds"
    skew: Any = None
    guard: Literal["warn", "clip", "off"] = "warn"
    _told: list[float] = field(default_factory=list, init=False, repr=False, compare=False)
    _doubt: tuple[float, str] | None = field(default=None, init=False, repr=False, compare=False)
    kind: ClassVar[Kind] = "reverse"
    stochastic: ClassVar[bool] = True
    preconditioned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.M, Preconditioner):
            raise TypeError(
                f"`M` must be a preconditioner, got {type(self.M).__name__}: make it with "
                "refsde.precondition, a table of gains with precondition.Fourier(gain)"
            )
        if isinstance(self.M, Skew | FourierSkew):
            raise TypeError(f"`M` must be a preconditioner, got {self.M!r}: it goes into `skew`")
        if self.law not in LAWS:
            raise ValueError(f"`law` must be one of {LAWS}, got {self.law!r}: see Preconditioned")
        if self.guard not in ("warn", "clip", "off"):
            raise ValueError(f"`guard` must be 'warn', 'clip' or 'off', got {self.guard!r}")
        if self.skew is not None:
            if self.law == "noise":
                raise ValueError("`skew` must be None with law='noise', whose drift is left alone")
            if not callable(getattr(self.skew, "apply", None)):
                raise TypeError(
                    f"`skew` must be a map such as precondition.Skew, got {self.skew!r}"
                )
        self._check_rule()
        event = getattr(getattr(self.score, "target", None), "event_shape", None)
        for name, given in (("M", self.M), ("skew", self.skew)):
            own = getattr(given, "event_shape", None)
            if event is not None and own is not None and tuple(event)[-len(own) :] != tuple(own):
                raise ValueError(
                    f"`{name}` takes events of shape {own}, but those of the target have shape "
                    f"{tuple(event)}: build it for these (a table over the full grid, not the half "
                    "of a real transform)"
                )
        known = event or getattr(self.skew, "event_shape", None)
        if self.skew is not None and not _turns(self.skew, known):
            raise ValueError(
                f"`skew` must be skew, K^T = -K, got {self.skew!r}: any other map changes the law; "
                "use precondition.Skew or FourierSkew"
            )

    def _check_rule(self) -> None:
        """Raise if M is matched to another law or another SDE."""
        rule = getattr(self.M, "rule", None)
        law, sde = getattr(rule, "law", None), getattr(rule, "sde", None)
        if law is not None and law != self.law:
            raise ValueError(
                f"`law` = {self.law!r} is not what {self.M!r} is matched to: pass law={law!r}, or "
                "wrap it, Stepwise(lambda t, s: M.at(t, s)), to try"
            )
        if sde is not None and sde is not self.sde and sde != self.sde:
            raise ValueError(
                f"`M` is matched to the steps of {sde!r}, but the process has {self.sde!r}: build "
                "it for this one"
            )

    def drift(self, x: Array, t: Time) -> Array:
        """Drift (B, *D) of the law: see the class."""
        sde, score = self.sde, self.score(x, t)
        if self.law == "marginal":
            return sde.f(t) * x - 0.5 * sde.g2(t) * (score + self.gram(score))
        drift = sde.f(t) * x - sde.g2(t) * score
        if self.law == "noise":
            return drift
        self._warn()
        return self.gram(drift)

    def diffuse(self, dw: Any, t: Time) -> Any:
        """Diffusion term g(t) M dw of a Brownian increment ``dw`` (B, *D)."""
        return sqrt(self.sde.g2(t)) * self.M.apply(dw)

    def colour(self, z: Array) -> Array:
        """M z, of unit normals ``z`` (B, *D)."""
        return self.M.apply(z)

    def gram(self, v: Array) -> Array:
        """(M M^T + K) v, of a score ``v`` (B, *D)."""
        return self.M.gram(v) if self.skew is None else self.M.gram(v) + self.skew.apply(v)

    def displace(self, move: Array, variance: Any, score: Callable[[], Array]) -> Array:
        """What becomes of the displacement ``move`` (B, *D) of a step under the law.

        ``variance`` is that of the noise the step adds: half of it times the score is the part of
        the displacement that goes with the noise, and that "marginal" filters.
        """
        if self.law == "pds":
            self._warn()
            return self.gram(move)
        if self.law == "noise":
            return move
        along = score()
        return move + 0.5 * variance * (self.gram(along) - along)

    def start(self, z: Array) -> Array:
        """States at T from unit normals ``z`` (B, *D): with law "pds", a static M filters them."""
        if self.law == "pds" and self.M.static:
            z = self.M.apply(z)
        return self.sde.prior_std * z

    def at(self, t: Time, s: Time) -> Self:
        """Process for the step from ``t`` to ``s``: its filter, guarded."""
        M = self.M if self.M.static else self.M.at(t, s)
        doubt = ""
        if self.law == "pds" and self.guard != "off" and not (per_sample(t) or per_sample(s)):
            if self._told and t >= self._told[0]:
                self._told.clear()  # time runs down, so this is another run
            if self.guard == "clip" or not self._told:
                M, doubt = self._guarded(M, t, s)
        if M is self.M and not doubt:
            return self
        process = copy.copy(self)
        object.__setattr__(process, "M", M)
        object.__setattr__(process, "_doubt", (float(t), doubt) if doubt else None)
        return process

    def _guarded(self, M: Preconditioner, t: Time, s: Time) -> tuple[Preconditioner, str]:
        """Return the map, lowered where u x > 1 if that was asked for; else a doubt about it."""
        u, x = _eigenvalues(M), self._strength(M, t, s)
        if u is None:
            unknown = (
                f"guard='clip' leaves {M!r} as it is, of which no eigenvalues are known: give it a "
                "method spectrum(), or pass guard='off'"
            )
            return M, unknown if self.guard == "clip" else ""
        if x is None or np.max(u * x) <= ROUNDED:
            return M, ""
        if self.guard == "clip":
            return _lowered(M, u, x), ""
        surely = "overshoots" if u.ndim or isinstance(M, Scalar) else "may overshoot"
        return M, (
            f"the step from t = {t:.4g} to {s:.4g} {surely} under {M!r}: u x = "
            f"{np.max(u * x):.3g} exceeds 1; take more steps, a weaker filter (u <= 1 / x = "
            f"{1 / np.max(x):.3g}), guard='clip', or law='marginal'"
        )

    def _warn(self) -> None:
        """Warn once a run, where a filter acts on a step and not in a corrector alone."""
        if self._doubt and not self._told:
            at, doubt = self._doubt
            self._told.append(at)
            warnings.warn(doubt, RuntimeWarning, stacklevel=_callers())

    def _strength(self, M: Preconditioner, t: Time, s: Time) -> Any:
        """How far the step goes towards the mean, x = q / V_t - (1 - a), as a table or at most."""
        a, q = self.sde.chain(t, s)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        target: Any = getattr(self.score, "target", None)
        if is_field(target) and M.basis == target.basis:
            S = target.spectrum
        else:
            S = getattr(target, "smallest_variance", None)
            if S is None:
                if self.sde.sigma(s) == 0:
                    return None  # nothing is known of the data, and the noise alone says nothing
                S = 0.0
        return q / (alpha * alpha * S + sigma * sigma) - (1 - a)


def _eigenvalues(M: Preconditioner) -> np.ndarray | None:
    """Eigenvalues of M M^T, as a table where M has a basis; else the largest, or a bound of it."""
    u = M.spectrum()
    if u is None and isinstance(M, Product):
        parts = [_eigenvalues(factor) for factor in M.factors]
        known = [float(np.max(part)) for part in parts if part is not None]
        return np.full((), math.prod(known)) if len(known) == len(parts) else None
    return u if u is None or M.basis is not None else np.full((), np.max(u))


def _lowered(M: Preconditioner, u: np.ndarray, x: Any) -> Preconditioner:
    """Return a map with u x <= 1: each coefficient lowered where M has a basis, else the whole."""
    if u.ndim and M.basis is not None:
        return in_basis(M.basis, np.sqrt(np.minimum(u, 1 / np.maximum(x, TINY))))
    factor = Scalar(math.sqrt(1 / float(u * np.max(x))))
    return Scalar(math.sqrt(float(u)) * factor.c) if isinstance(M, Scalar) else Product(factor, M)


def _callers() -> int:
    """Stack level of the first frame outside the package, which a warning is about."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def _turns(K: Any, event: tuple[int, ...] | None) -> bool:
    """Whether x . K x = 0 for some x, as for a skew map; True where the events are not known."""
    if isinstance(K, Skew | FourierSkew) or event is None:
        return True
    x = np.random.default_rng(0).standard_normal((1, *event))
    y = K.apply(x)
    return bool(abs(np.sum(x * y)) <= 1e-8 * np.linalg.norm(x) * np.linalg.norm(y))
