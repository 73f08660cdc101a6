"""Our own sampler for few evaluations: Adams methods in the angle of noise to data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from refsde.solvers._checks import check_choice, check_order, check_positive
from refsde.solvers._named import Named
from refsde.solvers.multistep import HIGHEST, LastStepRule, Multistep

__all__ = ["Angular"]


@dataclass(frozen=True)
class Angular(Named):
    r"""Adams methods in the angle of noise to data, on the velocity: our own, for few evaluations.

    .. math:: \frac{dy}{d\theta} = v, \qquad \theta = \arctan(\rho/c), \qquad
              y = \frac{x}{\alpha\sqrt{c^2+\rho^2}}, \qquad
              v = \frac{c\,\hat\epsilon - (\rho/c)\,\hat x_0}{\sqrt{c^2+\rho^2}}

    For data N(0, c^2) the velocity is zero; for others it is small and smooth at both ends, where
    the noise and the data prediction each are at one alone.  Each step extrapolates v by a
    polynomial in the angle, and is corrected with the next evaluation, as UniPC's.  The last steps
    lower the degree.

    Parameters
    ----------
    order : int
        Degree of the polynomial, 0 to 3.
    scale : float
        c, of the size of the data's standard deviation or somewhat below; in units of the data.
    last_step_rule : {"lower", "full", "lower if short"}
        As for `Multistep`; "full" has order of convergence ``order + 2``, and is better with 30
        evaluations and more.

    Raises
    ------
    ValueError, TypeError
        If a setting is none of these; as `Multistep` when it runs.

    Notes
    -----
    Run it on ``Grid.angular(sde, n, scale)``.  With 5 to 15 evaluations it had smaller errors than
    every published method on its best grid, on mixtures in one and two dimensions, mostly in four,
    and on handwritten digits.  In many dimensions ``scale=1`` is better, and then it is ahead in 16
    too (docs, claims of DEIS).  It is not for data that are nearly points: on modes of width 0.01
    low orders win, and `TAB` of order 1 is ten times better.

    References
    ----------
    None: a combination of v-prediction (Salimans and Ho, 2022), Adams-Moulton methods and UniPC's
    corrector (Zhao et al., 2023), tuned on exact errors.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> flow, grid = rs.ProbabilityFlow(sde, target.score(sde)), rs.Grid.angular(sde, 10)
    >>> rs.sample(flow, rs.Angular(), 100, times=grid, rng=0).nfe[0]
    np.int64(10)
    """

    order: int = 3
    scale: float = 0.7
    last_step_rule: LastStepRule = "lower"

    def __post_init__(self) -> None:
        check_order(self, "order", 0, HIGHEST)
        check_positive(self, "scale")
        check_choice(self, "last_step_rule", get_args(LastStepRule))

    @property
    def method(self) -> Multistep:
        """The engine that runs, with its settings."""
        return Multistep("v", "angle", self.order, True, self.last_step_rule, scale=self.scale)
