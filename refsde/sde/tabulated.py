"""An SDE from a published table of noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from refsde._array import (
    Time,
    exp,
    expm1,
    interp,
    like,
    log1p,
    per_sample,
    sqrt,
    to_numpy,
)
from refsde.sde.base import LinearSDE, _positive_number

__all__ = ["Tabulated"]


@dataclass(frozen=True, eq=False)
class Tabulated(LinearSDE):
    r"""An SDE from a table: a DDPM list of betas, or an SMLD list of sigmas.

    Level i (of N) sits at t = (i + 1) / N, and t = 0 is data without noise.  Between levels the
    coefficients are constant: log(alpha) is linear in t for betas, sigma^2 is linear in t for
    sigmas. On the grid of the table itself, ancestral and reverse-diffusion steps are the discrete
    chain, to the last digit: ``Grid.uniform(sde, N, t_end=0.0)``.

    Parameters
    ----------
    betas : array (N,), optional
        DDPM's beta_i in (0, 1): x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) z.
    sigmas : array (N,), optional
        SMLD's noise levels, ascending and positive.  Give one of the two.

    Raises
    ------
    ValueError
        If the table is empty, not finite, outside (0, 1) or not ascending; if both or none are
        given.

    References
    ----------
    Ho et al. (2020), eq. 2; Song and Ermon (2019); Song et al. (2020), section 3.1.

    Examples
    --------
    >>> import refsde as rs
    >>> sde = rs.Tabulated.from_betas("linear")
    >>> f"{sde.alpha(1.0) ** 2:.4e}"
    '4.0358e-05'
    """

    betas: ArrayLike | None = None
    sigmas: ArrayLike | None = None
    _t: np.ndarray = field(init=False, repr=False)
    _level: np.ndarray = field(init=False, repr=False)  # B = -2 log alpha, or sigma^2
    latex: ClassVar[str] = (
        r"x_i = \sqrt{1-\beta_i}\,x_{i-1} + \sqrt{\beta_i}\,z,\quad t_i = (i+1)/N"
    )

    def __post_init__(self) -> None:
        if (self.betas is None) == (self.sigmas is None):
            got = "neither" if self.betas is None else "both"
            raise ValueError(
                f"give exactly one of `betas` and `sigmas`, got {got}: a table is DDPM's or SMLD's"
            )
        name = "betas" if self.betas is not None else "sigmas"
        try:
            table = np.array(getattr(self, name), dtype=float)
        except (TypeError, ValueError) as problem:
            raise TypeError(
                f"`{name}` must be an array of numbers, got {getattr(self, name)!r}"
            ) from problem
        if table.ndim != 1 or table.size == 0 or not np.all(np.isfinite(table)):
            raise ValueError(
                f"`{name}` must be a non-empty finite 1-D array, got {table!r} of shape "
                f"{table.shape}: pass a list of numbers, one a level"
            )
        if self.betas is not None:
            if not np.all((table > 0) & (table < 1)):
                bad = table[(table <= 0) | (table >= 1)][0]
                raise ValueError(
                    f"`betas` must lie in (0, 1), got {bad!r}: use more, smaller steps"
                )
            level = np.cumsum(-np.log1p(-table))
        else:
            if table[0] <= 0 or np.any(np.diff(table) <= 0):
                raise ValueError(
                    f"`sigmas` must be positive and ascending, got {table!r}: sort them"
                )
            level = table * table
        table.setflags(write=False)
        object.__setattr__(self, name, table)
        object.__setattr__(self, "_t", np.arange(table.size + 1) / table.size)
        object.__setattr__(self, "_level", np.concatenate([[0.0], level]))

    @classmethod
    def from_betas(
        cls,
        schedule: Literal["linear", "scaled_linear", "cosine"] = "linear",
        n: int = 1000,
        beta_min: float = 0.1,
        beta_max: float = 20.0,
    ) -> Self:
        """Build the usual tables of ``n`` betas.

        Parameters
        ----------
        schedule : {"linear", "scaled_linear", "cosine"}
            "linear": evenly spaced from beta_min / n to beta_max / n (DDPM).  "scaled_linear":
            evenly spaced square roots (latent diffusion).  "cosine": the cosine table, clipped at
            0.999.
        n : int
            Number of levels.
        beta_min, beta_max : float
            Rates per unit time; DDPM's 1e-4 and 0.02 at n = 1000 are 0.1 and 20.

        References
        ----------
        Ho et al. (2020), section 4; Nichol and Dhariwal (2021), eq. 17.
        """
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"`n` must be a positive int, got {n!r}")
        beta_min = _positive_number("from_betas", "beta_min", beta_min)
        beta_max = _positive_number("from_betas", "beta_max", beta_max)
        if schedule == "linear":
            betas = np.linspace(beta_min / n, beta_max / n, n)
        elif schedule == "scaled_linear":
            betas = np.linspace(math.sqrt(beta_min / n), math.sqrt(beta_max / n), n) ** 2
        elif schedule == "cosine":
            c = 0.008
            alpha = np.cos(0.5 * np.pi * (np.arange(n + 1) / n + c) / (1 + c))
            betas = np.minimum(1 - (alpha[1:] / alpha[:-1]) ** 2, 0.999)
        else:
            raise ValueError(
                f"`schedule` must be 'linear', 'scaled_linear' or 'cosine', got {schedule!r}: "
                "pass your own table as Tabulated(betas)"
            )
        return cls(betas)

    @property
    def n(self) -> int:
        """Number of levels in the table."""
        return len(self._t) - 1

    @property
    def knots(self) -> np.ndarray:
        """Times (n + 1,) of the levels, at which the rates f and g^2 jump."""
        return self._t.copy()

    @property
    def t_end(self) -> float:  # type: ignore[override]
        return 1.0 / self.n

    @property
    def prior_std(self) -> float:
        return 1.0 if self.sigmas is None else math.sqrt(self._level[-1])

    def _slope(self, t: Time) -> Any:
        # t belongs to the interval on its left: the one a reverse step from t goes through
        values = np.asarray(to_numpy(t) if per_sample(t) else t, dtype=float)
        i = np.clip(np.ceil(values * self.n - 1e-9).astype(int) - 1, 0, self.n - 1)
        slope = np.diff(self._level)[i] * self.n
        return like(slope, t) if per_sample(t) else float(slope)

    def _at(self, t: Time) -> Any:
        return interp(t, self._t, self._level)

    def alpha(self, t: Time) -> Any:
        return exp(-0.5 * self._at(t)) if self.sigmas is None else 1.0 + 0.0 * t

    def sigma(self, t: Time) -> Any:
        return sqrt(-expm1(-self._at(t)) if self.sigmas is None else self._at(t))

    def rho(self, t: Time) -> Any:
        return sqrt(expm1(self._at(t)) if self.sigmas is None else self._at(t))

    def f(self, t: Time) -> Any:
        return -0.5 * self._slope(t) if self.sigmas is None else 0.0 * t

    def g2(self, t: Time) -> Any:
        return self._slope(t)

    def t_of_lam(self, lam: Time) -> Any:
        rho2 = exp(-2 * lam)
        return interp(log1p(rho2) if self.sigmas is None else rho2, self._level, self._t)

    def _repr_latex_(self) -> str:
        if self.sigmas is None:
            return super()._repr_latex_()
        return r"$x_i = x_{i-1} + \sqrt{\sigma_i^2-\sigma_{i-1}^2}\,z,\quad t_i = (i+1)/N$"

    def __repr__(self) -> str:
        name = "betas" if self.sigmas is None else "sigmas"
        return f"Tabulated({name}: {self.n} levels)"
