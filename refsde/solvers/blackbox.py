"""SciPy's error-controlled ODE solvers on the probability flow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from scipy.integrate import solve_ivp

from refsde._array import like, to_numpy
from refsde._types import Array, Kind, Noise, Orders, Process, State, Time
from refsde.noise import Gaussian
from refsde.process import counted

__all__ = ["BlackBox"]


@dataclass(frozen=True)
class BlackBox:
    r"""Integrate the probability flow with ``scipy.integrate.solve_ivp``.

    Every step of the grid is one call of SciPy, which chooses its own steps inside; the default
    grid is therefore a single step from T to t_end.

    Parameters
    ----------
    method : {"RK45", "RK23", "DOP853", "LSODA", "Radau", "BDF"}
        SciPy's name of the method.
    rtol, atol : float
        Relative and absolute tolerance of SciPy.
    coupled : bool
        True (as published): a whole block of samples is *one* ODE, so that steps are shared, the
        error norm is an average over the block, and a sample depends on its batch mates within the
        tolerance. False: an ODE, an error control and a count of evaluations for each sample,
        independent of the others, one after another; `EmbeddedRK` does so for all at once.

    Raises
    ------
    ValueError
        If the method is unknown or a tolerance not positive.

    Notes
    -----
    SciPy works in float64; a float32 state is converted there and back.

    References
    ----------
    Song et al. (2020), section 4.3 and appendix D.4 (RK45, rtol = atol = 1e-5).

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> rs.sample(rs.ProbabilityFlow(sde, target.score(sde)), rs.BlackBox(), 10, rng=0).x.shape
    (10, 2)
    """

    method: Literal["RK45", "RK23", "DOP853", "LSODA", "Radau", "BDF"] = "RK45"
    rtol: float = 1e-5
    atol: float = 1e-5
    coupled: bool = True
    accepts: ClassVar[frozenset[Kind]] = frozenset({"flow"})
    orders: ClassVar[Orders] = {}  # its accuracy follows from its tolerances, not from the grid
    default_times: ClassVar[int] = 1

    def __post_init__(self) -> None:
        methods = ("RK45", "RK23", "DOP853", "LSODA", "Radau", "BDF")
        if self.method not in methods:
            raise ValueError(f"`method` must be one of {methods}, got {self.method!r}")
        if not isinstance(self.coupled, bool):
            raise TypeError(f"`coupled` must be True or False, got {self.coupled!r}")
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be positive and finite, got {value!r}: try 1e-5")

    @property
    def couples_batch(self) -> bool:
        """Whether samples of a block influence each other."""
        return self.coupled

    @property
    def block_rows(self) -> int | None:
        """How many samples may share a block: one if each is its own ODE, else any number."""
        return None if self.coupled else 1

    def within(self, process: Process, x: Array, nfe: int) -> BlackBox | None:
        """Return the tightest of these solvers that gets from ``x`` at T to t_end within ``nfe``.

        Tolerances, rtol = atol, are tried on a ladder of four rungs a decade, 1 down to 1e-12.

        Parameters
        ----------
        process : ProbabilityFlow
            The flow.
        x : array (B, *D)
            Samples at T to try on.
        nfe : int
            Budget of evaluations for each sample.

        Returns
        -------
        BlackBox or None
            None if even a tolerance of 1 needs more.
        """

        def rung(k: int) -> BlackBox:
            return replace(self, rtol=10 ** (-k / 4), atol=10 ** (-k / 4))

        def cost(k: int) -> int:
            counting, calls = counted(process)
            rung(k)(counting, State(process.sde.T, x), process.sde.t_end, Gaussian(0))
            return calls()

        fits, fails = -1, 49  # bisection between a rung that fits and one that does not
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if cost(middle) <= nfe:
                fits = middle
            else:
                fails = middle
        return rung(fits) if fits >= 0 else None

    def __call__(self, process: Process, state: State, s: Time, noise: Noise) -> State:
        """Integrate from ``state.t`` to ``s``."""
        x = state.x
        if not self.coupled and x.shape[0] > 1:
            raise ValueError(
                f"`coupled` = False takes one sample at a time, got a batch of {x.shape[0]}: "
                "call refsde.sample, which deals them out"
            )
        lost = np.zeros(x.shape[0], bool)

        def slope(t: float, flat: np.ndarray) -> np.ndarray:
            drift = to_numpy(process.drift(like(flat.reshape(x.shape), x), float(t)))
            rows = drift.reshape(len(lost), -1).astype(float)
            # A sample without a finite score stands still from here on: NaN would stop its mates,
            # or SciPy's choice of a step for ever.
            np.logical_or(lost, ~np.isfinite(rows).all(axis=1), out=lost)
            rows[lost] = 0.0
            return rows.reshape(-1)

        start = to_numpy(x).reshape(-1).astype(float)
        run = solve_ivp(
            slope,
            (state.t, s),
            start,
            method=self.method,
            rtol=self.rtol,
            atol=self.atol,
            t_eval=[s],
        )
        # A step size that underflows leaves no value at s: the loop then ends these samples as
        # failed.
        end = run.y[:, -1] if run.success else np.full_like(start, np.nan)
        end = end.reshape(x.shape)
        end[lost] = np.nan
        return State(s, like(end, x))
