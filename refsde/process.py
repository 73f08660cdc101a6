r"""What a solver integrates: the forward SDE, its reversal, or the probability flow.

For the forward SDE dx = f x dt + g dw with marginals p_t,

- the *reverse SDE*       dx = (f x - g^2 score) dt + g dw,      time running from T to 0,
- the *probability flow*  dx = (f x - g^2 score / 2) dt,         in either direction,

have the same marginals p_t when the score is exact.  A solver asks a process for its ``drift`` and
for what ``diffuse`` makes of a Brownian increment; dt = s - t is negative in reverse, and written
so.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from refsde._array import Array, Time, sqrt
from refsde._types import SDE, Kind, Process, Score

__all__ = ["ForwardSDE", "ProbabilityFlow", "ReverseSDE", "counted", "part_of", "with_score"]

_SDE_METHODS = ("alpha", "sigma", "f", "g2", "rho", "lam", "t_of_lam")


def _check_sde(sde: Any) -> None:
    if isinstance(sde, type):
        raise TypeError(f"`sde` must be an SDE, got the class {sde!r}: pass {sde.__name__}()")
    missing = [name for name in _SDE_METHODS if not callable(getattr(sde, name, None))]
    missing += [name for name in ("T", "t_end", "prior_std") if not hasattr(sde, name)]
    if missing:
        raise TypeError(
            f"`sde` must be an SDE such as refsde.VP(), got {type(sde).__name__} without "
            f"{', '.join(missing)}: "
            "subclass refsde.LinearSDE"
        )


def _check_score(sde: SDE, score: Any) -> None:
    if not callable(score):
        hint = "target.score(sde)" if hasattr(score, "score") else "a function score(x, t)"
        raise TypeError(
            f"`score` must be callable as score(x, t), got {type(score).__name__}: pass {hint}"
        )
    if getattr(score, "__name__", "") == "score" and hasattr(
        getattr(score, "__self__", None), "at"
    ):
        raise TypeError(f"`score` is the method {score!r}: call it, target.score(sde)")
    own = getattr(score, "sde", None)
    if own is not None and own is not sde and own != sde:
        raise ValueError(
            f"`score` belongs to {own!r} but the process to {sde!r}: make it with "
            "target.score(sde) of the same sde"
        )


class _Plain:
    """A process without preconditioning, the same at every step."""

    preconditioned: ClassVar[bool] = False

    def colour(self, z: Array) -> Array:
        """Shape independent unit normals ``z``; here they stay as they are."""
        return z

    def gram(self, v: Array) -> Array:
        """Precondition a score ``v``; here it stays as it is."""
        return v

    def displace(self, move: Array, variance: Any, score: Callable[[], Array]) -> Array:
        """Precondition the displacement ``move`` of a step; here it stays as it is.

        ``variance`` is that of the noise the step adds, and ``score()`` where it set out from.
        """
        return move

    def at(self, t: Time, s: Time) -> Self:
        """Process for the step from ``t`` to ``s``: itself, it depends on time alone."""
        return self


class _Scored(_Plain):
    """Predictions of a process with a score, taken directly where the score offers them."""

    sde: SDE
    score: Score
    kind: ClassVar[Kind]
    stochastic: ClassVar[bool]

    def __post_init__(self) -> None:
        _check_sde(self.sde)
        _check_score(self.sde, self.score)

    def eps(self, x: Array, t: Time) -> Array:
        """Predicted noise (B, *D) at ``x`` (B, *D) and ``t``; one evaluation of the score."""
        if hasattr(self.score, "eps"):
            return self.score.eps(x, t)
        return -self.sde.sigma(t) * self.score(x, t)

    def denoise(self, x: Array, t: Time) -> Array:
        """Posterior mean of x_0 (B, *D) given ``x`` at ``t``; one evaluation of the score."""
        if hasattr(self.score, "denoise"):
            return self.score.denoise(x, t)
        sigma = self.sde.sigma(t)
        return (x + sigma * sigma * self.score(x, t)) / self.sde.alpha(t)

    def start(self, z: Array) -> Array:
        """States at T from unit normals ``z`` (B, *D): the prior's scale times ``z``."""
        return self.sde.prior_std * z


@dataclass(frozen=True)
class ReverseSDE(_Scored):
    r"""Reversal of a forward SDE: integrate it from T down to t_end to sample.

    .. math:: dx = \left[f(t)x - g(t)^2\,\nabla\log p_t(x)\right]dt + g(t)\,dw, \qquad dt < 0 .

    Parameters
    ----------
    sde : SDE
        The forward SDE.
    score : callable
        ``score(x, t) -> (B, *D)``, the gradient of log p_t; ``target.score(sde)`` is exact.  If it
        also has ``eps(x, t)`` or ``denoise(x, t)``, they are used where a solver asks for them.

    Raises
    ------
    TypeError
        If ``sde`` lacks a method of an SDE, or ``score`` is not callable.
    ValueError
        If ``score`` was made for another SDE.

    References
    ----------
    Anderson (1982), Reverse-time diffusion equation models; Song et al. (2020), eq. 6.

    Examples
    --------
    >>> import refsde as rs
    >>> sde = rs.VP()
    >>> process = rs.ReverseSDE(sde, rs.GaussianMixture.ring(8).score(sde))
    """

    sde: SDE
    score: Score
    kind: ClassVar[Kind] = "reverse"
    stochastic: ClassVar[bool] = True

    def drift(self, x: Array, t: Time) -> Array:
        """Drift f x - g^2 score, shape (B, *D)."""
        return self.sde.f(t) * x - self.sde.g2(t) * self.score(x, t)

    def diffuse(self, dw: Any, t: Time) -> Any:
        """Diffusion term g(t) dw of a Brownian increment ``dw`` (B, *D)."""
        return sqrt(self.sde.g2(t)) * dw


@dataclass(frozen=True)
class ProbabilityFlow(_Scored):
    r"""The ordinary differential equation with the marginals of the SDE.

    .. math:: dx = \left[f(t)x - \tfrac12 g(t)^2\,\nabla\log p_t(x)\right]dt .

    Parameters
    ----------
    sde : SDE
        The forward SDE.
    score : callable
        ``score(x, t) -> (B, *D)``, as for `ReverseSDE`.

    Raises
    ------
    TypeError
        If ``sde`` lacks a method of an SDE, or ``score`` is not callable.
    ValueError
        If ``score`` was made for another SDE.

    References
    ----------
    Song et al. (2020), eq. 13.

    Examples
    --------
    >>> import refsde as rs
    >>> sde = rs.VP()
    >>> flow = rs.ProbabilityFlow(sde, rs.GaussianMixture.ring(8).score(sde))
    """

    sde: SDE
    score: Score
    kind: ClassVar[Kind] = "flow"
    stochastic: ClassVar[bool] = False

    def drift(self, x: Array, t: Time) -> Array:
        """Drift f x - g^2 score / 2, shape (B, *D)."""
        return self.sde.f(t) * x - 0.5 * self.sde.g2(t) * self.score(x, t)

    def diffuse(self, dw: Any, t: Time) -> Any:
        """Nothing: a flow has no diffusion term."""
        return 0.0


@dataclass(frozen=True)
class ForwardSDE(_Plain):
    r"""The forward SDE itself, from data at t = 0 to noise at T.

    .. math:: dx = f(t)x\,dt + g(t)\,dw .

    It starts from data, so pass ``x=`` to ``refsde.sample``.

    Parameters
    ----------
    sde : SDE
        The forward SDE.

    References
    ----------
    Song et al. (2020), eq. 5.

    Examples
    --------
    >>> import refsde as rs
    >>> process = rs.ForwardSDE(rs.VP())
    """

    sde: SDE
    kind: ClassVar[Kind] = "forward"
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_sde(self.sde)

    def score(self, x: Array, t: Time) -> Array:
        """Raise: the forward SDE needs no score."""
        raise TypeError(
            "a ForwardSDE has no score: use ReverseSDE(sde, score) or ProbabilityFlow(sde, score)"
        )

    eps = score
    denoise = score

    def drift(self, x: Array, t: Time) -> Array:
        """Drift f x, shape (B, *D)."""
        return self.sde.f(t) * x

    def diffuse(self, dw: Any, t: Time) -> Any:
        """Diffusion term g(t) dw of a Brownian increment ``dw`` (B, *D)."""
        return sqrt(self.sde.g2(t)) * dw

    def start(self, z: Array) -> Array:
        """Raise: the forward SDE starts from data."""
        raise TypeError(
            "`x` is None, but a ForwardSDE starts from data: pass x=target.sample(n, rng=0)"
        )


class Calls:
    """How often a score was evaluated: called, it tells how often for all samples of the batch."""

    def __init__(self) -> None:
        self.all = 0
        self.told = 0
        self.parts: list[np.ndarray] = []

    def __call__(self) -> int:
        return self.all

    def new(self, n: int) -> Any:
        """Evaluations since this was last asked: an int, or one a sample (n,) if they differ."""
        count: Any = self.all - self.told
        if self.parts:
            count = np.full(n, count)
            for rows in self.parts:
                count[rows] += 1
        self.told, self.parts = self.all, []
        return count


class _CountedScore:
    """A score that counts its calls, and those of its direct predictions."""

    def __init__(self, score: Score, calls: Calls, rows: np.ndarray | None = None) -> None:
        self.score, self.calls, self.rows = score, calls, rows

    def on(self, rows: np.ndarray) -> _CountedScore:
        """Return the score of a part of the batch, counted for the samples ``rows`` alone."""
        inner = self.score.on(rows) if isinstance(self.score, _CountedScore) else self.score
        return _CountedScore(inner, self.calls, rows if self.rows is None else self.rows[rows])

    def _count(self) -> None:
        if self.rows is None:
            self.calls.all += 1
        else:
            self.calls.parts.append(self.rows)

    def __call__(self, x: Array, t: Time) -> Array:
        self._count()
        return self._checked(self.score(x, t), x)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.score, name)
        if name not in ("eps", "denoise", "evaluate", "divergence", "jvp"):
            return value

        def counting(*args: Any) -> Any:
            self._count()
            result = value(*args)
            return self._checked(result, args[0]) if name in ("eps", "denoise") else result

        return counting

    @staticmethod
    def _checked(value: Array, x: Array) -> Array:
        if tuple(getattr(value, "shape", ())) == tuple(x.shape):
            return value
        # NumPy would broadcast (B, 1) over (B, d), and the samples would be wrong in silence.
        raise ValueError(
            f"`score` must return an array of the shape of `x`, {tuple(x.shape)}, got "
            f"{getattr(value, 'shape', value)!r}: one gradient a sample, batch first"
        )


def counted(process: Process) -> tuple[Process, Calls]:
    """Return a copy of ``process`` that counts calls of its score, and a reader of the count.

    What a solver evaluates for some samples only, by `part_of`, is counted for these alone.
    """
    calls = Calls()
    return with_score(process, _CountedScore(process.score, calls)), calls


def part_of(process: Process, rows: np.ndarray) -> Process:
    """Return the process for the samples ``rows`` of its batch, so that only they are counted."""
    score = process.score
    return with_score(process, score.on(rows)) if isinstance(score, _CountedScore) else process


def with_score(process: Process, score: Any) -> Process:
    """Return a copy of ``process`` with another score."""
    copied = copy.copy(process)
    try:
        object.__setattr__(copied, "score", score)  # also past a frozen dataclass
    except AttributeError as fixed:
        raise TypeError(
            f"`process` {type(process).__name__} must keep its score in an attribute `score` that "
            "can be set, where its evaluations are counted: not in a property or in slots"
        ) from fixed
    return copied
