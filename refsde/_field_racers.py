"""Who may run in the race on images, and what everyone runs on: fields and levels of noise.

A new racer gets an `Entrant` here.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from refsde import exact, precondition
from refsde._types import Process, Solver
from refsde.exact.field import FieldLaw
from refsde.integrate import sample
from refsde.preconditioned import Preconditioned
from refsde.process import ProbabilityFlow, ReverseSDE
from refsde.sde import Tabulated
from refsde.solvers import DDIM, Ancestral, Langevin, PredictorCorrector, ReverseDiffusion
from refsde.targets.data import photographs_field
from refsde.targets.field import GaussianField
from refsde.times import Grid

__all__ = ["RACERS", "SIGMA_MIN", "SPECTRA", "Entrant", "FieldCourse"]

SIGMA_MIN = 0.01
# Edge of the images -> sigma_max and signal-to-noise ratio of the published configurations, and at
# 64 and 128 of their kind: sigma_max is about the largest distance between two images.
LEVELS = {32: (50.0, 0.16), 64: (90.0, 0.17), 128: (190.0, 0.075), 256: (378.0, 0.075)}
LEVELS[1024] = (1348.0, 0.15)


def _power(size: int) -> GaussianField:
    return GaussianField.power_law((3, size, size))


SPECTRA: Mapping[str, tuple[Callable[[int], GaussianField], tuple[float, float]]] = {
    "power": (_power, (0.0, 1.0)),
    "photographs": (photographs_field, (-1.0, 1.0)),
}  # the law, and black and white


@dataclass(frozen=True, eq=False)
class FieldCourse:
    """What everyone runs on: a field of three independent channels, levels of noise, a seed.

    Attributes
    ----------
    size : int
        Edge of the images in pixels, 8 to 2048.
    spectrum : {"power", "photographs"}
        Key of `SPECTRA`: c / max(|k|, 1)^2 with mean 1/2 and standard deviation 1/4, or that of
        two photographs.
    n : int, optional
        Samples to draw; by default 4 up to 64 pixels, 2 up to 256, 1 above.
    rng : int
        Seed, the same for everyone: starts and noises are shared.
    target : GaussianField
        The data law.
    sigma_max, snr : float
        Largest noise level, and signal-to-noise ratio of the corrector, by ``size``.
    """

    size: int = 64
    spectrum: str = "power"
    n: int | None = None
    rng: int = 0
    target: GaussianField = field(init=False, repr=False)
    sigma_max: float = field(init=False)
    snr: float = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 8 <= self.size <= 2048:
            raise ValueError(f"`size` must be an int from 8 to 2048, got {self.size!r}")
        if self.spectrum not in SPECTRA:
            raise ValueError(
                f"`spectrum` must be one of {', '.join(SPECTRA)}, got {self.spectrum!r}"
            )
        if self.n is None:
            object.__setattr__(self, "n", 4 if self.size <= 64 else 2 if self.size <= 256 else 1)
        object.__setattr__(self, "target", SPECTRA[self.spectrum][0](self.size))
        sigma_max, snr = _levels(self.size)
        object.__setattr__(self, "sigma_max", sigma_max)
        object.__setattr__(self, "snr", snr)

    @property
    def log_range(self) -> float:
        """L = log(sigma_max^2 / sigma_min^2)."""
        return 2 * math.log(self.sigma_max / SIGMA_MIN)

    def sde(self, steps: int) -> Tabulated:
        """VE with that many geometric levels, which are the steps' own times."""
        return Tabulated(sigmas=np.geomspace(self.sigma_max, SIGMA_MIN, steps)[::-1])

    def runner(self, name: str, steps: int) -> tuple[Process, Solver, Grid]:
        """Process, solver and grid of the racer ``name``."""
        sde = self.sde(steps)
        process, solver = RACERS[name].make(self, sde, steps)
        return process, solver, Grid.uniform(sde, steps, t_end=0.0)

    def alone(self) -> FieldCourse:
        """Return the course of one channel: all are alike, and so are their relative errors."""
        course, target = copy.copy(self), self.target
        object.__setattr__(
            course, "target", GaussianField(target.spectrum[:1], float(target.mean.flat[0]))
        )
        return course

    def law(self, name: str, steps: int) -> tuple[FieldLaw, bool]:
        """Exact law of a channel of what ``name`` returns, and whether a filter overshoots."""
        process, solver, grid = self.alone().runner(name, steps)
        if isinstance(process, Preconditioned):
            process = replace(process, guard="warn")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", RuntimeWarning)
            law: FieldLaw = exact.law(
                process, solver, grid, start="prior", denoise=RACERS[name].denoise
            )
        others = [w.message for w in told if "overshoots" not in str(w.message)]
        for message in others:
            warnings.warn(message, stacklevel=2)
        return law, len(others) < len(told)

    def sample(self, name: str, steps: int) -> np.ndarray:
        """Samples (n, 3, size, size) of the racer ``name``."""
        process, solver, grid = self.runner(name, steps)
        denoise = RACERS[name].denoise
        return np.asarray(
            sample(process, solver, self.n, times=grid, rng=self.rng, denoise=denoise).x
        )

    def title(self) -> str:
        """One line: what is raced on what."""
        what = "spectrum 1/|k|²" if self.spectrum == "power" else "spectrum of photographs"
        return (
            f"field of 3 x {self.size} x {self.size}, {what}, under VE from {self.sigma_max:.4g} "
            f"to {SIGMA_MIN:g}"
        )


def _levels(size: int) -> tuple[float, float]:
    """Largest noise level, between sizes of the table and beyond as the size; snr of the nearest.

    A power of the size between two entries, proportional to it outside.
    """
    known = np.array(list(LEVELS))
    ratios = [sigma / edge for edge, (sigma, _) in LEVELS.items()]
    ratio = np.exp(np.interp(math.log(size), np.log(known), np.log(ratios)))
    nearest = int(known[np.argmin(np.abs(np.log(known / size)))])
    return float(f"{size * ratio:.4g}"), LEVELS[nearest][1]


# -- who may run ----------------------------------------------------------------------------------

Made = tuple[Process, Solver]
Denoise = Literal["none", "tweedie", "last_mean"]


@dataclass(frozen=True)
class Entrant:
    """A racer: what it integrates and how, for given levels.

    Attributes
    ----------
    make : callable
        ``make(course, sde, steps) -> (process, solver)``.
    says : str
        One line for ``--help``.
    denoise : {"none", "last_mean"}
        How it ends: with the mean of its last step, unless that belongs to its law.
    cost : int
        Evaluations of the score an iteration.
    """

    make: Callable[[FieldCourse, Tabulated, int], Made]
    says: str
    denoise: Denoise = "last_mean"
    cost: int = 1


def _corrected(course: FieldCourse) -> PredictorCorrector:
    return PredictorCorrector(ReverseDiffusion(), Langevin(course.snr))


def _filtered(
    course: FieldCourse, sde: Tabulated, M: Any, law: Literal["pds", "noise"] = "pds"
) -> Preconditioned:
    # Samples are drawn without a guard: the recursion has told where a filter overshoots.
    return Preconditioned(sde, course.target.score(sde), M, law=law, guard="off")


def _vanilla(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    return ReverseSDE(sde, course.target.score(sde)), ReverseDiffusion()


def _vanilla_pc(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    return ReverseSDE(sde, course.target.score(sde)), _corrected(course)


def _pds(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    M = precondition.pds_frequency_filter(course.target, 5.0)
    return _filtered(course, sde, M), ReverseDiffusion()


def _pds_pc(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    return _pds(course, sde, steps)[0], _corrected(course)


def _pds_alpha(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    alpha = precondition.alpha_rule(course.target, course.log_range, steps)
    if alpha <= 1:
        raise ValueError(f"the rule picks alpha = {alpha:.2f}, and a filter needs more than 1")
    M = precondition.pds_frequency_filter(course.target, alpha)
    return _filtered(course, sde, M), ReverseDiffusion()


def _scalar(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    M = precondition.scalar_rule(course.log_range, steps)
    return _filtered(course, sde, M), ReverseDiffusion()


def _matched(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    return _filtered(course, sde, precondition.step_matched(course.target, sde)), ReverseDiffusion()


def _noise_matched(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    M = precondition.noise_matched(course.target, sde)
    return _filtered(course, sde, M, "noise"), ReverseDiffusion()


def _ancestral(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    return ReverseSDE(sde, course.target.score(sde)), Ancestral()


def _ddim(course: FieldCourse, sde: Tabulated, steps: int) -> Made:
    return ProbabilityFlow(sde, course.target.score(sde)), DDIM(0.0)


RACERS: Mapping[str, Entrant] = {
    "vanilla": Entrant(_vanilla, "reverse diffusion"),
    "vanilla-pc": Entrant(_vanilla_pc, "the same with one Langevin step a level", cost=2),
    "pds": Entrant(_pds, "published filter, alpha = 5"),
    "pds-pc": Entrant(_pds_pc, "the same with one Langevin step a level", cost=2),
    "pds-alpha": Entrant(_pds_alpha, "published filter, alpha by first-order theory"),
    "scalar": Entrant(_scalar, "scalar rule, one number for all frequencies"),
    "matched": Entrant(_matched, "step-matched filter of drift and noise"),
    "noise-matched": Entrant(_noise_matched, "noise-matched filter, drift left alone", "none"),
    "ancestral": Entrant(_ancestral, "ancestral sampling", "none"),
    "ddim": Entrant(_ddim, "DDIM, deterministic", "none"),
}
