r"""Langevin with a Metropolis test, which removes the bias of its step size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from scipy.special import log_ndtr

from refsde._array import Array, like, namespace, sqrt, to_numpy, where
from refsde._types import Kind, Noise, Orders, Process, State, Time
from refsde.solvers.corrector import _check, langevin, step_at_level

__all__ = ["MALA"]


@dataclass(frozen=True)
class MALA:
    r"""Metropolis-adjusted Langevin corrector: propose a step, accept it or stay.

    .. math:: x' = x + e A\,\mathrm{score}(x, t) + \sqrt{2e}\, M z, \qquad
              \log r = \log\frac{p_t(x')}{p_t(x)} + \tfrac12\|z\|^2 -
              \tfrac12\Bigl\|z + \sqrt{\tfrac e2}\,M^T(\mathrm{score} + \mathrm{score}')\Bigr\|^2

    with A = M M^T (both 1 without a preconditioner) and e = 2 a^2 (snr sigma_t)^2, as
    `AnnealedLangevin` has it.  Where the level is held, p_t is kept exactly, for any step.

    Parameters
    ----------
    snr : float
        Step in units of the noise level; large steps are refused, in many dimensions nearly all.
    steps : int
        Proposals a level; each costs one evaluation, and the first one more.

    Raises
    ------
    ValueError
        If ``snr`` or ``steps`` is not positive, or the process has a skew term, whose chain is not
        reversible.
    TypeError
        If the score has no log-density, as a network's: see ``evaluate`` of `TargetScore`.

    Notes
    -----
    The papers on preconditioned diffusion sampling speak of Metropolis-adjusted Langevin, but their
    code has no test: a network gives no density.  The inverse of M is not needed.

    References
    ----------
    Roberts and Tweedie (1996), Exponential convergence of Langevin distributions and their discrete
    approximations; Roberts and Stramer (2002), for the preconditioned proposal.

    Examples
    --------
    >>> import refsde as rs
    >>> chain = rs.PredictorCorrector(None, rs.MALA(snr=0.3, steps=10))
    """

    snr: float = 0.16
    steps: int = 1
    accepts: ClassVar[frozenset[Kind]] = frozenset({"flow", "reverse"})
    preconditions: ClassVar[bool] = True
    orders: ClassVar[Orders] = {}  # a corrector goes nowhere

    def __post_init__(self) -> None:
        _check(self, self.snr, self.steps)

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Correct at ``state.t``; ``s`` is where the predictor goes next (or came from)."""
        t, x = state.t, state.x
        if getattr(process, "skew", None) is not None:
            raise ValueError(
                "`skew` makes a chain that is not reversible, to which a Metropolis test does not "
                "apply: use AnnealedLangevin"
            )
        e = step_at_level(process.sde, self.snr, t, s)
        score, logp = _both(process, x, t)
        for _ in range(self.steps):
            z = process.colour(noise.normal(x))
            proposal = langevin(x, e, process.gram(score), z)
            score_there, logp_there = _both(process, proposal, t)
            pull = score + score_there
            # |z|^2 / 2 - |z + c M^T pull|^2 / 2, with c^2 = e / 2; here z is M z already
            c2 = 0.5 * e
            change = -sqrt(c2) * _dot(z, pull) - 0.5 * c2 * _dot(pull, process.gram(pull))
            log_r = logp_there - logp + change
            refused = log_r <= _log_uniform(noise.normal(x), log_r)
            # A bad score is NaN here and is not refused: it ends the sample, and does not hide.
            accepted = ~(refused | (logp_there == -math.inf))
            x = where(accepted, proposal, x)
            score, logp = where(accepted, score_there, score), where(accepted, logp_there, logp)
        return state._replace(x=x + 0 * score)  # NaN if the last score was


def _both(process: Process, x: Array, t: Time) -> tuple[Array, Array]:
    """Score (B, *D), and log-density (B, 1, ..., 1), in one evaluation."""
    evaluate: Any = getattr(process.score, "evaluate", None)
    if evaluate is None:
        raise TypeError(
            "`score` has no log-density, which a Metropolis test needs: use the score of a target, "
            "or AnnealedLangevin"
        )
    found = evaluate(x, t, "score", "logpdf")
    return found["score"], namespace(x).reshape(found["logpdf"], _one_each(x))


def _one_each(x: Array) -> tuple[int, ...]:
    return (x.shape[0], *(1,) * (len(x.shape) - 1))


def _dot(a: Array, b: Array) -> Array:
    axes = tuple(range(1, len(a.shape)))
    return namespace(a).sum(a * b, axis=axes, keepdims=True)


def _log_uniform(z: Array, model: Array) -> Array:
    """Logarithm of a uniform for each sample, from the first of its normals."""
    first = to_numpy(namespace(z).reshape(z, (z.shape[0], -1))[:, 0])
    return like(log_ndtr(first).reshape(_one_each(z)), model)
