r"""Correctors: Langevin steps at a fixed noise level, and predictor-corrector sampling.

A corrector leaves the time where it is and moves the samples towards p_t,

.. math:: x \leftarrow x + e\,\mathrm{score}(x, t) + \sqrt{2e}\, z ,

with a step size e that the two classes choose differently.  Its z is not part of the path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from refsde._array import event_norm, namespace, sqrt, where
from refsde._types import SDE, Array, Kind, Noise, Orders, Process, Solver, State, Time

__all__ = ["AnnealedLangevin", "Langevin", "PredictorCorrector"]


def _check(corrector: object, snr: float, steps: int) -> None:
    owner = type(corrector).__name__
    if (
        isinstance(snr, bool)
        or not isinstance(snr, int | float)
        or not (math.isfinite(snr) and snr > 0)
    ):
        raise ValueError(f"`snr` of {owner} must be positive and finite, got {snr!r}: try 0.16")
    # A NumPy scalar would turn float32 samples into float64.
    object.__setattr__(corrector, "snr", float(snr))
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(
            f"`steps` of {owner} must be a positive int, got {steps!r}: use corrector=None for no "
            "correction"
        )


def _signal(sde: SDE, t: Time, s: Time) -> Any:
    """Squared signal ratio of the step: 1 - beta_i on a DDPM grid, 1 where alpha is constant."""
    ratio = sde.alpha(t) / sde.alpha(s)
    # In the paper's order ``s`` is the noisier of the two.
    ratio = where(ratio > 1, 1 / ratio, ratio)
    return ratio * ratio


def step_at_level(sde: SDE, snr: float, t: Time, s: Time) -> Any:
    """Step size e = 2 a^2 (snr sigma_t)^2."""
    size = snr * sde.sigma(t)
    return 2 * _signal(sde, t, s) * size * size


def langevin(x: Array, e: Any, score: Array, z: Array) -> Array:
    """One step of Langevin along a score and a noise that M M^T and M have acted on."""
    return x + e * score + sqrt(2 * e) * z


@dataclass(frozen=True)
class Langevin:
    r"""Langevin corrector with the signal-to-noise rule for its step.

    .. math:: e = 2 a^2 \left(\mathrm{snr}\,\frac{\|z\|}{\|\mathrm{score}\|}\right)^2, \qquad
              a^2 = 1 - \beta_i\ \text{(VP)},\ 1\ \text{(VE)}

    Its stationary variance is V (1 + snr^2) in high dimension: snr is a knob of over-dispersion.
    On `Preconditioned` z and score are what M and M M^T make of them, in the norms too.

    Parameters
    ----------
    snr : float
        Signal-to-noise ratio: 0.16 in the paper for VE on CIFAR-10, about 0.01 for VP.
    steps : int
        Corrections a level; each costs one evaluation.
    norm : {"sample", "batch"}
        "sample" (default): norms of each sample, so that samples stay independent.  "batch": norms
        averaged over the batch as in the published code, which couples the samples of a block.

    Raises
    ------
    ValueError
        If ``snr`` or ``steps`` is not positive, or ``norm`` unknown.

    Notes
    -----
    With norms of each sample, e depends on the sample and on its z, and the chain does not settle
    at p_t however small ``snr`` is: on a Gaussian in d dimensions the variance is (1 + 2/d)^2 too
    large (6 % at d = 64), and for d <= 2 samples are thrown far from points where the score
    vanishes.  In few dimensions use ``norm="batch"`` or `AnnealedLangevin`.

    References
    ----------
    Song et al. (2020), algorithms 4 and 5.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.PredictorCorrector(rs.ReverseDiffusion(), rs.Langevin(snr=0.16)).order
    'code'
    """

    snr: float = 0.16
    steps: int = 1
    norm: Literal["sample", "batch"] = "sample"
    accepts: ClassVar[frozenset[Kind]] = frozenset({"flow", "reverse"})
    preconditions: ClassVar[bool] = True
    orders: ClassVar[Orders] = {}  # a corrector goes nowhere, and keeps the bias of its step size

    def __post_init__(self) -> None:
        _check(self, self.snr, self.steps)
        if self.norm not in ("sample", "batch"):
            raise ValueError(f"`norm` must be 'sample' or 'batch', got {self.norm!r}")

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Correct at ``state.t``; ``s`` is where the predictor goes next (or came from)."""
        t, x = state.t, state.x
        for _ in range(self.steps):
            z, score = process.colour(noise.normal(x)), process.gram(process.score(x, t))
            size_z, size_score = event_norm(z), event_norm(score)
            if self.norm == "batch":
                mean = namespace(x).mean
                size_z, size_score = mean(size_z), mean(size_score)
            x = langevin(x, self.size(process.sde, t, s, size_z, size_score), score, z)
        return state._replace(x=x)

    def size(self, sde: SDE, t: Time, s: Time, size_z: Any, size_score: Any) -> Any:
        """Step size e from the norms of noise and score, both as M and M M^T leave them."""
        ratio = self.snr * size_z / size_score
        return 2 * _signal(sde, t, s) * ratio * ratio


@dataclass(frozen=True)
class AnnealedLangevin:
    r"""Annealed Langevin corrector: the step follows the noise level.

    .. math:: e = 2 a^2 (\mathrm{snr}\;\sigma_t)^2, \qquad
              a^2 = 1 - \beta_i\ \text{(VP)},\ 1\ \text{(VE)}

    Parameters
    ----------
    snr : float
        Step in units of the noise level.
    steps : int
        Corrections a level; each costs one evaluation.

    Raises
    ------
    ValueError
        If ``snr`` or ``steps`` is not positive.

    Notes
    -----
    Alone, as ``PredictorCorrector(None, AnnealedLangevin(...))``, it is annealed Langevin dynamics:
    see `AnnealedLangevin.ncsn`.

    References
    ----------
    Song and Ermon (2019), algorithm 1; the variant of Song et al. (2020)'s code.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.AnnealedLangevin(snr=0.1, steps=5)
    AnnealedLangevin(snr=0.1, steps=5)
    """

    snr: float = 0.16
    steps: int = 1
    accepts: ClassVar[frozenset[Kind]] = frozenset({"flow", "reverse"})
    preconditions: ClassVar[bool] = True
    orders: ClassVar[Orders] = {}  # a corrector goes nowhere, and keeps the bias of its step size

    def __post_init__(self) -> None:
        _check(self, self.snr, self.steps)

    @classmethod
    def ncsn(
        cls, eps: float = 2e-5, sigma_last: float = 0.01, steps: int = 100
    ) -> PredictorCorrector:
        r"""Annealed Langevin dynamics in the parameters of noise-conditional score networks.

        .. math:: x \leftarrow x + \tfrac12 a_i\,\mathrm{score} + \sqrt{a_i}\,z, \qquad
                  a_i = \mathrm{eps}\;\sigma_i^2 / \sigma_{\text{last}}^2

        at every level of the grid but its end, nothing in between: use it on a grid whose times are
        the levels, such as that of ``Tabulated(sigmas=...)``.

        Parameters
        ----------
        eps : float
            Step at the last level: 2e-5 in the first paper; the second tunes it with the levels.
        sigma_last : float
            The smallest level, in units of the data.
        steps : int
            Steps a level, the T of the papers.

        References
        ----------
        Song and Ermon (2019), algorithm 1; Song and Ermon (2020), Improved Techniques for Training
        Score-Based Generative Models.
        """
        if not (eps > 0 and sigma_last > 0):
            raise ValueError(
                f"`eps` and `sigma_last` must be positive, got {eps!r} and {sigma_last!r}"
            )
        return PredictorCorrector(None, cls(math.sqrt(eps) / (2 * sigma_last), steps))

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Correct at ``state.t``; ``s`` is where the predictor goes next (or came from)."""
        t, x = state.t, state.x
        e = step_at_level(process.sde, self.snr, t, s)
        for _ in range(self.steps):
            score = process.gram(process.score(x, t))
            x = langevin(x, e, score, process.colour(noise.normal(x)))
        return state._replace(x=x)


@dataclass(frozen=True)
class PredictorCorrector:
    r"""Predictor-corrector sampling: correct at a level, then predict the next.

    Parameters
    ----------
    predictor : solver or None
        What goes from ``t`` to ``s``, such as `ReverseDiffusion`; None stays put and only corrects.
    corrector : `Langevin`, `AnnealedLangevin` or None
        What moves the samples at a fixed level; None is the predictor alone.
    order : {"code", "paper"}
        "code" (default): corrector, then predictor, at the same level, as the published code does:
        it corrects the prior once and never the last level.  "paper": predictor, then corrector at
        the new level.

    Raises
    ------
    ValueError
        If both are None, or ``order`` is unknown.
    TypeError
        If the predictor is not callable, or does not accept the process.

    Notes
    -----
    Evaluations are counted as they happen: steps of the corrector plus those of the predictor.

    Under `Adaptive` a sample is corrected once a step, and a retry starts from the corrected state.
    The code of Jolicoeur-Martineau et al. (2021) corrects it again before every retry.

    References
    ----------
    Song et al. (2020), algorithm 1.

    Examples
    --------
    >>> import refsde as rs
    >>> pc = rs.PredictorCorrector(rs.EulerMaruyama(), rs.Langevin(snr=0.1, steps=2))
    """

    predictor: Solver | None
    corrector: Solver | None
    order: Literal["code", "paper"] = "code"

    def __post_init__(self) -> None:
        if self.predictor is None and self.corrector is None:
            raise ValueError(
                "`predictor` and `corrector` are both None: give one, or nothing moves"
            )
        for name, part in (("predictor", self.predictor), ("corrector", self.corrector)):
            if part is not None and (not callable(part) or isinstance(part, type)):
                raise TypeError(
                    f"`{name}` must be a solver, called as (process, state, s, noise), or None, "
                    f"got {part!r}: pass an instance such as refsde.ReverseDiffusion()"
                )
        if self.order not in ("code", "paper"):
            raise ValueError(f"`order` must be 'code' or 'paper', got {self.order!r}")
        engine = getattr(self.predictor, "method", self.predictor)
        if self.corrector is not None and getattr(engine, "corrector", False) is True:
            raise TypeError(
                f"`predictor` {self.predictor!r} corrects its own last step from where that began, "
                "which would undo what the corrector did: use a method without, such as "
                "UniPC(3, corrector=False)"
            )

    @property
    def accepts(self) -> frozenset[Kind]:
        """Kinds of process this is right for: those of the predictor, a corrector needs a score."""
        both: frozenset[Kind] = frozenset({"flow", "reverse"})
        return both & frozenset(getattr(self.predictor, "accepts", both))

    @property
    def preconditions(self) -> bool:
        """Whether it runs on `Preconditioned`: if both parts do."""
        parts = [part for part in (self.predictor, self.corrector) if part is not None]
        return all(getattr(part, "preconditions", not hasattr(part, "accepts")) for part in parts)

    @property
    def orders(self) -> Orders:
        """Orders of the predictor alone; none with a corrector, whose bias no short step cures."""
        declared: Orders = getattr(self.predictor, "orders", {})
        return declared if self.corrector is None else {}

    @property
    def couples_batch(self) -> bool:
        """Whether samples of a block influence each other."""
        return any(couples(part) for part in (self.predictor, self.corrector))

    @property
    def block_rows(self) -> int | None:
        """How many samples may share a block: as many as the predictor takes."""
        return getattr(self.predictor, "block_rows", None)

    def bind(self, process: Process, ts: tuple[float, ...] | None) -> PredictorCorrector:
        """Give both parts the grid, where they want it."""

        def bound(part: Any) -> Any:
            return part.bind(process, ts) if hasattr(part, "bind") else part

        return replace(self, predictor=bound(self.predictor), corrector=bound(self.corrector))

    def init(self, process: Process, x: Array, t: Time) -> tuple[Any, ...]:
        """Memory of the predictor; a corrector has none."""
        init = getattr(self.predictor, "init", None)
        return () if init is None else tuple(init(process, x, t))

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Step from ``state.t`` to ``s``."""
        t = state.t
        corrects = self.corrector is not None and self.order == "code"
        if corrects:
            state = self._corrected(process, state, s, noise)
        start = state.x
        state = (
            state._replace(t=s)
            if self.predictor is None
            else self.predictor(process, state, s, noise)
        )
        if self.corrector is not None and self.order == "paper":
            state = self.corrector(process, state, t, noise)
        return state._replace(reuse=(start, *state.reuse)) if corrects else state

    def _corrected(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Correct once a step: a retry sets out from where the rejected attempt did.

        A new correction would be kept because its noise suited the step, and so be biased.
        """
        assert self.corrector is not None
        x = self.corrector(process, state, s, noise).x
        if not state.reuse:
            return state._replace(x=x)
        rejected, start, *of_predictor = state.reuse
        reuse = (rejected, *of_predictor) if of_predictor else ()
        return state._replace(x=where(rejected, start, x), reuse=reuse)


def couples(solver: Any) -> bool:
    """Whether a solver lets samples of a block influence each other."""
    return bool(getattr(solver, "couples_batch", False)) or getattr(solver, "norm", "") == "batch"
