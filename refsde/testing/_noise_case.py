"""What a noise source is checked on: how to make it, its shape, its times."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refsde._types import Noise
from refsde.testing._report import name_of

__all__ = ["NoiseCase"]

METHODS = ("increment", "normal", "on")
SHAPE = (20_000, 4)  # of a source that takes any: more than one block of samples
TIMES = (1.0, 0.7, 0.45, 0.2, 0.06, 0.01)  # descending, as in sampling; steps of many lengths
SEED = 20201126


class NoiseCase:
    """A noise source and all that `check_noise` is told about it, for `parametrize_with_checks`.

    Parameters
    ----------
    make, times, shape, levy, per_sample
        As for `check_noise`.

    Raises
    ------
    TypeError, ValueError
        If ``make`` neither is nor makes a source, or times or shape are no times and no shape.

    Examples
    --------
    >>> import refsde as rs
    >>> case = rs.testing.NoiseCase(rs.Gaussian, shape=(4000, 2))
    >>> [check.name for check in rs.testing.checks_of(case)][:2]
    ['levy', 'answers']
    """

    def __init__(
        self,
        make: Callable[[Any], Noise] | Noise,
        *,
        times: Sequence[float] | None = None,
        shape: tuple[int, ...] | None = None,
        levy: bool = True,
        per_sample: bool = True,
    ) -> None:
        self.subject = make
        self.is_factory = isinstance(make, type) or not is_source(make)
        if not callable(make) and self.is_factory:
            raise TypeError(
                "`make` must be a function of a seed that returns a noise source, or a source with "
                f"methods {', '.join(METHODS)}, got {make!r}: pass refsde.Gaussian"
            )
        self.times = _check_times(TIMES if times is None else times)
        self.any_shape = shape is None
        self.shape = _check_shape(SHAPE if shape is None else shape)
        self.levy, self.per_sample = levy, per_sample

    def __repr__(self) -> str:
        return f"NoiseCase({name_of(self.subject)})"

    def make(self, seed: int = SEED) -> Any:
        """A source of all samples, at its first question; an instance is copied and has no seed."""
        make: Any = self.subject
        source = make(seed) if self.is_factory else copy.deepcopy(make)
        if self.is_factory and not is_source(source):
            raise TypeError(
                f"`make` must return a source with methods {', '.join(METHODS)}, got {source!r}"
            )
        return source

    def all(self, seed: int = SEED) -> Any:
        """A source of all samples, told so as the loop tells it."""
        return self.make(seed).on(np.arange(self.shape[0]))

    def zeros(self, rows: int | None = None) -> np.ndarray:
        """A batch of that many samples."""
        return np.zeros((self.shape[0] if rows is None else rows, *self.shape[1:]))

    def steps(self) -> list[tuple[float, float]]:
        """The intervals (t, s) between the times, in order."""
        return list(zip(self.times[:-1], self.times[1:], strict=True))

    def offers_levy(self) -> bool:
        """Whether areas are to be checked, and the source has them."""
        source = self.make()
        stored = getattr(source, "h", True) is not None  # a StoredPath may hold no areas
        return self.levy and stored and callable(getattr(source, "levy", None))


def is_source(thing: Any) -> bool:
    """Whether ``thing`` is an object with the methods of a noise source."""
    methods = all(callable(getattr(thing, name, None)) for name in METHODS)
    return methods and not isinstance(thing, type)


def _check_times(times: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(t) for t in times)
    steps = np.diff(values)
    good = len(values) >= 4 and np.all(np.isfinite(values))
    if not (good and (np.all(steps < 0) or np.all(steps > 0))):
        raise ValueError(
            f"`times` must be at least four times, strictly monotone, got {times!r}: pass those at "
            "which the source can be asked"
        )
    return values


def _check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    sizes = tuple(int(k) for k in shape)
    if len(sizes) < 2 or min(sizes) < 1 or math.prod(sizes) < 1000 or sizes[0] < 8:
        raise ValueError(
            f"`shape` must be (B, *D) with at least 1000 numbers and 8 samples, got {shape!r}: "
            "moments of fewer tell little"
        )
    return sizes
