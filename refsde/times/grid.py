"""Fixed times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import Array, Time
from refsde._types import SDE, Process, State

__all__ = ["Grid"]


@dataclass(frozen=True, eq=False)
class Grid:
    r"""Fixed times shared by all samples.

    Parameters
    ----------
    ts : array (n + 1,)
        Strictly monotone, finite times: descending in reverse (T first, t_end last), ascending
        forward.

    Raises
    ------
    ValueError
        If there are fewer than two times, or they are not finite and strictly monotone.

    Notes
    -----
    Constructors: `uniform`, `power`, `logsnr`, `karras`, `polyexponential`, `angular`; each runs
    from ``sde.T`` to ``t_end`` in n steps and hits both ends exactly.  `discrete` and `on_levels`
    keep to the levels of a discrete-time model, `to_data` adds the step onto t = 0.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.Grid.uniform(rs.VP(), 4, t_end=0.0).ts
    (1.0, 0.75, 0.5, 0.25, 0.0)
    """

    ts: tuple[float, ...]

    def __init__(self, ts: ArrayLike) -> None:
        try:
            times = np.asarray(ts, dtype=float)
        except (TypeError, ValueError) as problem:
            raise TypeError(f"`ts` must be a list of times, got {ts!r}") from problem
        if times.ndim != 1 or len(times) < 2:
            raise ValueError(
                f"`ts` must hold at least two times, got shape {times.shape}: give both ends"
            )
        if not np.all(np.isfinite(times)) or np.any(times < 0):
            raise ValueError(
                f"`ts` must be finite and non-negative, got {times!r}: t = 0 is data, T is noise"
            )
        steps = np.diff(times)
        if not (np.all(steps < 0) or np.all(steps > 0)):
            raise ValueError(
                f"`ts` must be strictly monotone (descending in reverse), got {times!r}: "
                "sort it, remove repeats"
            )
        object.__setattr__(self, "ts", tuple(float(t) for t in times))

    @classmethod
    def uniform(cls, sde: SDE, n: int, t_end: float | None = None) -> Self:
        """``n`` equal steps of time."""
        return cls.power(sde, n, 1.0, t_end)

    @classmethod
    def power(cls, sde: SDE, n: int, kappa: float = 2.0, t_end: float | None = None) -> Self:
        """``n`` steps, equal in t^(1/kappa): 1 is uniform, 2 the quadratic grid of DEIS and DDIM.

        References
        ----------
        Zhang and Chen (2022), Fast Sampling of Diffusion Models with Exponential Integrator,
        section 4.
        """
        end = _end(sde, n, t_end)
        _positive("kappa", kappa)
        u = np.linspace(0.0, 1.0, n + 1)
        root = 1 / kappa
        return cls._pinned(sde, end, (sde.T**root + u * (end**root - sde.T**root)) ** kappa)

    @classmethod
    def logsnr(cls, sde: SDE, n: int, t_end: float | None = None) -> Self:
        """``n`` steps, equal in lam = log(alpha / sigma).

        References
        ----------
        Lu et al. (2022), DPM-Solver, section 3.4.
        """
        end = _end(sde, n, t_end)
        return cls._levels(sde, end, np.linspace(_lam(sde, sde.T), _lam(sde, end), n + 1))

    @classmethod
    def karras(cls, sde: SDE, n: int, p: float = 7.0, t_end: float | None = None) -> Self:
        """``n`` steps, equal in rho^(1/p) with rho = sigma / alpha.

        Notes
        -----
        Karras et al. count n noise *levels* and append zero; here n steps end at ``t_end``.

        References
        ----------
        Karras et al. (2022), eq. 5.
        """
        end = _end(sde, n, t_end)
        _positive("p", p)
        first, last = math.exp(-_lam(sde, sde.T) / p), math.exp(-_lam(sde, end) / p)
        return cls._levels(sde, end, -p * np.log(np.linspace(first, last, n + 1)))

    @classmethod
    def polyexponential(cls, sde: SDE, n: int, p: float = 1.0, t_end: float | None = None) -> Self:
        """``n`` steps, log(rho) a polynomial: (1 - u)^p of the way up from the last; 1 is `logsnr`.

        References
        ----------
        Crowson (2022), k-diffusion.
        """
        end = _end(sde, n, t_end)
        _positive("p", p)
        share = 1 - (1 - np.linspace(0.0, 1.0, n + 1)) ** p
        first, last = _lam(sde, sde.T), _lam(sde, end)
        return cls._levels(sde, end, first + share * (last - first))

    @classmethod
    def angular(
        cls,
        sde: SDE,
        n: int,
        scale: float = 0.7,
        powers: tuple[float, float] = (1.67, 1.35),
        t_end: float | None = None,
    ) -> Self:
        r"""``n`` steps in the angle arctan(rho / scale), slow at both ends: for `Angular`.

        With u running from 1 to 0 and powers (a, b) the share of the angle that is left is
        1 - (1 - u^a)^b.  ``scale`` is the size of the data.
        """
        end = _end(sde, n, t_end)
        _positive("scale", scale)
        for power in powers:
            _positive("powers", power)
        a, b = powers
        first, last = (math.atan(math.exp(-_lam(sde, t)) / scale) for t in (sde.T, end))
        u = np.linspace(1.0, 0.0, n + 1)
        angle = last + (first - last) * (1 - (1 - u**a) ** b)
        return cls._levels(sde, end, -np.log(scale * np.tan(angle)))

    @classmethod
    def discrete(
        cls,
        sde: SDE,
        n: int,
        levels: int = 1000,
        spacing: Literal["uniform", "quadratic"] = "uniform",
    ) -> Self:
        """Return at most ``n`` steps on the levels t = T i / levels of a discrete-time model.

        "quadratic" is DDIM's: levels floor(j^2), j equally spaced up to sqrt(0.8 levels), with T
        before them.  Levels that coincide are taken once; the last is level 1.

        References
        ----------
        Song, Meng and Ermon (2020), appendix D.2; Ho et al. (2020), for the levels.
        """
        _end(sde, n, None)
        _end(sde, levels, None)
        if spacing == "uniform":
            numbers = np.round(np.linspace(levels, 1, n + 1))
        elif spacing == "quadratic":
            numbers = np.floor(np.linspace(math.sqrt(0.8 * levels), 0.0, n) ** 2)
            numbers = np.concatenate([[levels], np.maximum(numbers, 1)])
        else:
            raise ValueError(f"`spacing` must be 'uniform' or 'quadratic', got {spacing!r}")
        return cls(sde.T * np.unique(numbers)[::-1] / levels)

    def on_levels(self, sde: SDE, levels: int = 1000) -> Self:
        """Move every time to the nearest level t = T i / levels, i >= 1; the number of steps stays.

        Times that fall on one level move to the next free ones, as the published code of DEIS fills
        its grids for discrete-time models.
        """
        _end(sde, levels, None)
        if self.n >= levels:
            raise ValueError(f"`levels` must exceed the number of steps, {self.n}, got {levels!r}")
        wanted = np.clip(np.round(np.sort(self.ts) / sde.T * levels), 1, levels)
        lowest = np.maximum.accumulate(wanted - np.arange(self.n + 1)) + np.arange(self.n + 1)
        top = levels - np.arange(self.n + 1)[::-1]
        made = type(self)(sde.T * np.minimum(lowest, top) / levels)
        return made.reversed() if self.ts[0] > self.ts[-1] else made

    def to_data(self) -> Self:
        """Return the grid with a last step onto t = 0: sigma = 0, where a step lands on the data.

        Karras et al. count n noise levels and append zero: ``Grid.karras(sde, n - 1).to_data()``.
        """
        if self.ts[-1] == 0:
            return self
        if self.ts[0] < self.ts[-1]:
            raise ValueError("`to_data` is for grids that descend, which end at the data")
        return type(self)((*self.ts, 0.0))

    @classmethod
    def _levels(cls, sde: SDE, end: float, lams: np.ndarray) -> Self:
        return cls._pinned(sde, end, np.array([sde.t_of_lam(float(lam)) for lam in lams]))

    @classmethod
    def _pinned(cls, sde: SDE, end: float, ts: np.ndarray) -> Self:
        ts[0], ts[-1] = sde.T, end  # exact ends, whatever the inversion rounded
        return cls(ts)

    def reversed(self) -> Self:
        """Return the same times in the other direction."""
        return type(self)(self.ts[::-1])

    @property
    def n(self) -> int:
        """Number of steps."""
        return len(self.ts) - 1

    # -- the protocol of refsde's loop: the plan is the index of the time now --------------------

    def start(self, process: Process, x: Array) -> tuple[Time, Any]:
        """First time, and the plan."""
        return self.ts[0], 0

    def target(self, t: Time, plan: Any) -> Time | None:
        """Next time, or None at the end."""
        return self.ts[plan + 1] if plan + 1 < len(self.ts) else None

    def judge(self, old: State, new: State, plan: Any) -> tuple[State, Any]:
        """Accept every step: a grid ignores the error estimate, and nothing is tried again."""
        return (new._replace(reuse=()) if new.reuse else new), plan + 1

    def select(self, plan: Any, rows: np.ndarray) -> Any:
        """Plan of the samples ``rows``: the same, the clock is shared."""
        return plan

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.ts == other.ts

    def __hash__(self) -> int:
        return hash(self.ts)

    def __repr__(self) -> str:
        return f"Grid({self.n} steps from {self.ts[0]:g} to {self.ts[-1]:g})"


def _end(sde: SDE, n: int, t_end: float | None) -> float:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"`n` must be a positive int, the number of steps, got {n!r}: pass n=50")
    if not hasattr(sde, "t_end") or isinstance(sde, type):
        raise TypeError(
            f"`sde` must be an SDE such as refsde.VP(), got {sde!r}: the grid runs on its clock"
        )
    try:
        end = float(sde.t_end if t_end is None else t_end)
    except (TypeError, ValueError) as problem:
        raise TypeError(f"`t_end` must be a time, got {t_end!r}: t = 0 is data") from problem
    if not 0 <= end < sde.T:
        raise ValueError(f"`t_end` must lie in [0, T) = [0, {sde.T:g}), got {end!r}: t = 0 is data")
    return end


def _positive(name: str, value: float) -> None:
    if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be positive and finite, got {value!r}: leave the default")


def _lam(sde: SDE, t: float) -> float:
    lam = float(sde.lam(t))
    if not math.isfinite(lam):
        raise ValueError(
            f"`t_end` must be where lam is finite, got lam = {lam} at t = {t:g}: a grid in lam or "
            "rho "
            "needs t_end > 0 and alpha(T) > 0"
        )
    return lam
