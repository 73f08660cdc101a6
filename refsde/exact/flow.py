r"""The exact probability-flow map: where the flow carries a point from one noise level to another.

In v = x / alpha and rho = sigma / alpha the probability flow reads, under every SDE,

.. math:: \frac{dv}{d\rho} = \hat\epsilon, \qquad
          \frac{dv}{d\lambda} = -\rho\,\hat\epsilon, \quad \lambda = -\log\rho ,

where eps-hat is the predicted noise for the law of x_0 + rho z.  The SDE enters by its two ends
only: between them every SDE draws the same curve, at its own pace.  Three ways to follow it:

- *One Gaussian* N(m, C), a field too: the right side is linear, and its solution a formula.
- *Any mixture on the line*: no path can overtake another, so the share of the mass to the left of a
  path is constant.  With F the distribution function of the marginal, F_s(x_s) = F_t(x_t).
- *Anything else*: an eighth-order Runge-Kutta method, tightened until two solutions agree.

Nothing here uses a process or a solver of the package: it is what they are compared with.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import elementwise
from scipy.special import log_ndtr

from refsde._array import Array, one_blas_thread, to_numpy
from refsde._types import SDE
from refsde.sde import EDM, check_time
from refsde.targets import Empirical, GaussianField, GaussianMixture
from refsde.targets._score import check_points

__all__ = ["flow"]

Method = Literal["auto", "gaussian", "rearrangement", "numerical"]

ROWS = 256  # samples in a block of one matrix product
SYSTEM = 1024  # samples in a block that is followed as one system of equations
TAILS = 2**18  # tail probabilities in a block of the rearrangement (2 MB an array)
FARTHEST = 1e100  # no larger |x|: its square must not overflow
LEAST_RTOL = 1e-13
TIGHTEST = 2.3e-14  # of a step: SciPy goes no further than 100 machine epsilons
TIGHTEN = 20.0  # how much tighter a solution is than the one it is compared with
CAUTION = 10.0  # how much better than asked they must agree, as two may be wrong alike
find_root: Any = elementwise.find_root  # untyped on purpose: its stubs know no `args`


class _Level(NamedTuple):
    """A noise level: x = alpha x_0 + sigma z."""

    name: str  # "t" or "s", for messages
    time: float
    alpha: float
    sigma: float

    def variance(self, lam: np.ndarray) -> np.ndarray:
        """Marginal variances of data with variances ``lam``."""
        return np.asarray(self.alpha**2 * lam + self.sigma**2)


def flow(
    sde: SDE,
    target: GaussianMixture | Empirical | Any,
    x: Array,
    t: float,
    s: float,
    *,
    rtol: float = 1e-10,
    method: Method = "auto",
) -> np.ndarray:
    r"""Carry points along the exact probability flow from time ``t`` to time ``s``, either way.

    .. math:: x_s &= \alpha_s m + (\alpha_s^2 C + \sigma_s^2)^{1/2}
              (\alpha_t^2 C + \sigma_t^2)^{-1/2} (x_t - \alpha_t m) && \text{(one Gaussian)} \\
              x_s &= F_s^{-1}(F_t(x_t)) && \text{(d = 1)}

    Parameters
    ----------
    sde : SDE
        What diffuses the data.
    target : GaussianMixture, Empirical, GaussianField or another target
        Law of the data at t = 0.  Any object with ``dim``, ``cov`` and ``score(sde)`` can be
        followed numerically.
    x : array (B, d)
        Points at time ``t``; on a field (B, *event).
    t, s : float
        Time now and time of the result, in [0, T].  t = 0 is data: ``s < t`` samples, ``s > t``
        encodes.
    rtol : float
        Of the numerical method: the error that each sample may have (root mean square over its
        coordinates), relative to its size plus one standard deviation of p_s.
    method : {"auto", "gaussian", "rearrangement", "numerical"}
        "gaussian" is *exact*, for one component (or one point) in any d.  "rearrangement" is
        *exact*, for mixtures and points with d = 1: a root found to the last digits, in the smaller
        tail of every component, so that it holds far out and between modes.  "numerical" takes any
        target, with sigma > 0 at both ends.  "auto" is the first of them that applies.

    Returns
    -------
    ndarray, of the shape of ``x``
        Points at time ``s``, in float64.

    Raises
    ------
    ValueError
        If a time is outside [0, T], ``x`` has a wrong shape or is not finite, the method does not
        apply, or an end is out of reach: a law without spread where sigma = 0, and for "numerical"
        every law there.
    TypeError
        If ``sde`` is no SDE, a time no float, ``x`` not floating point or ``target`` no target.
    RuntimeError
        If a target's score is not finite on the way, or too rough to be followed.

    Warns
    -----
    RuntimeWarning
        If a numerical result is less certain than ``rtol``, as next to a boundary between two
        modes, where the flow magnifies every rounding.

    Notes
    -----
    Exact results do not depend on batch mates, not in one bit.  Numerical ones share the steps of a
    block of 1024 samples, and agree within ``rtol``.

    References
    ----------
    Song et al. (2020), eq. 13; Zhang and Chen (2022), Fast Sampling of Diffusion Models with
    Exponential Integrator, on time rescaling (the form in rho); Villani (2009), Optimal Transport,
    chapter 1 (the increasing rearrangement).

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> target = rs.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.04, 0.04])
    >>> rs.exact.flow(rs.VP(), target, np.array([[0.0], [0.5]]), 1.0, 0.0).round(6).ravel()
    array([0.      , 0.940438])
    """
    if isinstance(sde, type) or not callable(getattr(sde, "alpha", None)):
        raise TypeError(
            f"`sde` must be an SDE such as refsde.VP(), got {sde!r}: "
            "the order is flow(sde, target, x, t, s)"
        )
    now, end = _level("t", t, sde), _level("s", s, sde)
    points = _points(x, target)
    _check_rtol(rtol)
    mixture = _mixture(target)
    if isinstance(target, GaussianField) and method in ("auto", "gaussian"):
        return _on_field(target, points, now, end)
    if hasattr(target, "to_mixture"):
        raise ValueError(
            f"`target` {target!r} has no flow by a formula (method = {method!r}): for small events "
            "use target.to_mixture() and flattened points"
        )
    chosen = _choose(method, mixture, target.dim)
    if now.time == end.time:
        return points.copy()
    with one_blas_thread():
        if mixture is None or chosen == "numerical":
            return _numerical(target, points, now, end, rtol)
        if chosen == "gaussian":
            return _gaussian(mixture, points, now, end)
        return _rearrangement(mixture, points, now, end)


# -- one Gaussian ---------------------------------------------------------------------------------


def _gaussian(target: GaussianMixture, x: np.ndarray, now: _Level, end: _Level) -> np.ndarray:
    """Scale the gap to the mean, along each eigenvector by the ratio of standard deviations."""
    (lam,), (U,), (m,) = *target.eigh(), target.means
    if now.sigma == 0 and np.any(lam <= lam.size * np.finfo(float).eps * lam.max()):
        raise ValueError(_no_spread(now))
    ratio = np.sqrt(end.variance(lam) / now.variance(lam))
    out = np.empty_like(x)
    for rows in _blocks(len(x), ROWS):
        # Padded to one height: BLAS rounds differently for others, and mates must not matter.
        gap = np.zeros((ROWS, len(m)))
        gap[: rows.stop - rows.start] = x[rows] - now.alpha * m
        out[rows] = (end.alpha * m + (gap @ U * ratio) @ U.T)[: rows.stop - rows.start]
    return out


def _on_field(target: GaussianField, x: np.ndarray, now: _Level, end: _Level) -> np.ndarray:
    """The same for the coefficients of a field."""
    if now.time == end.time:
        return x.copy()
    S, basis = target.spectrum, target.basis
    if now.sigma == 0 and np.any(S == 0):
        raise ValueError(_no_spread(now))
    ratio = basis.kept(np.sqrt(end.variance(S) / now.variance(S)))
    coefficients = basis.forward(x - now.alpha * target.mean) * ratio
    return np.asarray(end.alpha * target.mean + basis.backward(coefficients, x.shape))


# -- mixtures on the line -------------------------------------------------------------------------


def _rearrangement(target: GaussianMixture, x: np.ndarray, now: _Level, end: _Level) -> np.ndarray:
    """Find y with F_s(y) = F_t(x)."""
    log_w, mu, lam = target.log_weights, target.means[:, 0], target.eigh()[0][:, 0]
    for level in (now, end):
        if np.any(level.variance(lam) == 0):
            raise ValueError(_no_spread(level))
    std_t, std_s = np.sqrt(now.variance(lam)), np.sqrt(end.variance(lam))
    out = np.empty_like(x)
    for rows in _blocks(len(x), max(1, TAILS // len(mu))):
        z = (x[rows] - now.alpha * mu) / std_t
        out[rows, 0] = _same_mass(log_w, z, end.alpha * mu, std_s)
    return out


def _same_mass(log_w: np.ndarray, z: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Solve sum_k w_k Phi((y - mean_k) / std_k) = sum_k w_k Phi(z_k) for y; ``z`` is (B, K).

    Phi(u) - Phi(z) is also Phi(-z) - Phi(-u).  Of these two every component takes the one with the
    smaller tails, so that digits survive far out and in the gap between two modes.  Tails are kept
    as logarithms, and so survive below 1e-308.
    """
    side = np.where(z > 0, -1.0, 1.0)
    held = log_w + log_ndtr(side * z)

    def excess(y: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Mass to the left of y in excess of that held, in units of the largest tail."""
        tails = log_w + log_ndtr(side[row] * ((y[:, None] - mean) / std))
        unit = np.maximum(tails, held[row]).max(axis=1, keepdims=True)
        return np.asarray(
            np.sum(side[row] * (np.exp(tails - unit) - np.exp(held[row] - unit)), axis=1)
        )

    # Each component alone would map to mean_k + std_k z_k: the answer is between the extremes.
    images = mean + std * z
    margin = 1e-9 * (std.max() + np.abs(images).max(axis=1))
    bracket = (images.min(axis=1) - margin, images.max(axis=1) + margin)
    last = float(np.finfo(float).eps)
    digits = {"xatol": last * std.min(), "xrtol": last, "fatol": 0.0, "frtol": 0.0}
    return np.asarray(find_root(excess, bracket, args=(np.arange(len(z)),), tolerances=digits).x)


# -- anything else --------------------------------------------------------------------------------


def _numerical(target: Any, x: np.ndarray, now: _Level, end: _Level, rtol: float) -> np.ndarray:
    """Integrate dv / dlam = -rho eps, the law of x_0 + rho z being that of EDM's clock."""
    for level in (now, end):
        if level.alpha <= 0 or level.sigma <= 0:
            raise ValueError(
                f"lam = log(alpha / sigma) is infinite at `{level.name}` = {level.time:g}, out of "
                "reach of a numerical solution: use a time with sigma > 0 and alpha > 0, such as "
                "sde.t_end"
            )
    rho_t, rho_s = now.sigma / now.alpha, end.sigma / end.alpha
    # One ulp of room, and more: exp(-lam) may round beyond either end.
    score = target.score(EDM(sigma_min=0.5 * min(rho_t, rho_s), sigma_max=2 * max(rho_t, rho_s)))
    spread = float(np.trace(target.cov)) / target.dim
    ode = _Flow(score, target.dim, rho_t, rho_s, math.sqrt(spread + min(rho_t, rho_s) ** 2))
    out, gaps = np.empty_like(x), np.empty(len(x))
    for rows in _blocks(len(x), SYSTEM):
        out[rows], gaps[rows] = ode.converged(
            x[rows] / now.alpha, rtol, math.sqrt(spread + rho_s**2)
        )
    if np.any(gaps > rtol):
        warnings.warn(
            f"{np.sum(gaps > rtol)} of {len(x)} samples are certain only to about {gaps.max():.1g} "
            f"instead of `rtol` = {rtol:g} (sample {np.argmax(gaps)} is the worst): between modes "
            "the flow magnifies every rounding; ask for less, or leave these samples out",
            RuntimeWarning,
            stacklevel=3,
        )
    return end.alpha * out


class _Flow(NamedTuple):
    """The flow of v = x / alpha from rho_t to rho_s: one system of equations for many samples."""

    score: Any
    dim: int
    rho_t: float
    rho_s: float
    size: float  # of v where its law is narrowest: what errors are relative to when v is near 0

    def slope(self, lam: float, flat: np.ndarray) -> np.ndarray:
        """Right side dv / dlam."""
        rho = math.exp(-lam)
        eps = np.asarray(self.score.eps(flat.reshape(-1, self.dim), rho))
        if not np.all(np.isfinite(eps)):
            raise RuntimeError(f"the target's score is not finite at rho = {rho:g}: no flow there")
        return -rho * eps.reshape(-1)

    def solve(self, v: np.ndarray, tol: float) -> np.ndarray:
        """Solution with a local error of ``tol`` in the mean square over the block."""
        span = (-math.log(self.rho_t), -math.log(self.rho_s))
        run: Any = solve_ivp(
            self.slope,
            span,
            v.reshape(-1),
            method="DOP853",
            rtol=tol,
            atol=tol * self.size,
            t_eval=span[1:],
        )
        if not run.success:
            raise RuntimeError(f"the flow could not be followed to the end: {run.message}")
        return np.asarray(run.y[:, -1]).reshape(v.shape)

    def converged(self, v: np.ndarray, rtol: float, std: float) -> tuple[np.ndarray, np.ndarray]:
        """Solution and its uncertainty (B,): tighten until two solutions of each sample agree."""
        # One sample may make up all of the mean square over the block.
        tol = max(rtol / math.sqrt(len(v)), TIGHTEN * TIGHTEST)
        out, gaps = self.solve(v, tol), np.full(len(v), np.inf)
        rows = np.arange(len(v))  # not yet certain
        while len(rows) and tol > TIGHTEST:
            tol = max(tol / TIGHTEN, TIGHTEST)
            finer = self.solve(v[rows], tol)
            size = np.sqrt(np.mean(finer**2, axis=1)) + std
            gaps[rows] = np.sqrt(np.mean((finer - out[rows]) ** 2, axis=1)) / size
            out[rows] = finer
            rows = rows[gaps[rows] > rtol / CAUTION]
        return out, gaps


# -- the public boundary --------------------------------------------------------------------------


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, n)) for i in range(0, n, size))


def _level(name: str, t: float, sde: SDE) -> _Level:
    if not isinstance(t, float | int | np.floating | np.integer) or isinstance(t, bool):
        raise TypeError(f"`{name}` must be one float, got {t!r}: call flow once for every time")
    t = float(t)
    check_time(name, t, sde)
    return _Level(name, t, float(sde.alpha(t)), float(sde.sigma(t)))


def _points(x: Array, target: Any) -> np.ndarray:
    if not (hasattr(target, "dim") and hasattr(target, "score")):
        raise TypeError(
            f"`target` must be a target such as refsde.GaussianMixture, got {target!r}: "
            "a score alone has no exact flow"
        )
    check_points("x", x, getattr(target, "event_shape", (target.dim,)))
    points = to_numpy(x).astype(float)
    if not np.all(np.abs(points) <= FARTHEST):  # NaN compares false
        raise ValueError(f"`x` must be finite and below {FARTHEST:g}: leave the other samples out")
    return points


def _check_rtol(rtol: float) -> None:
    number = isinstance(rtol, int | float) and not isinstance(rtol, bool)
    if not (number and LEAST_RTOL <= rtol < 1):
        raise ValueError(
            f"`rtol` must be a number in [{LEAST_RTOL:g}, 1), got {rtol!r}: float64 holds no more"
        )


def _mixture(target: Any) -> GaussianMixture | None:
    """``target`` as a mixture of the components that can be drawn, if it is one."""
    if isinstance(target, Empirical):
        target = GaussianMixture(
            None, target.points, np.zeros(len(target.points)), log_weights=target.log_weights
        )
    if not isinstance(target, GaussianMixture):
        return None
    used = target.log_weights > -np.inf
    if used.all():
        return target
    return GaussianMixture(
        None, target.means[used], target.covs[used], log_weights=target.log_weights[used]
    )


def single_gaussian(target: Any) -> GaussianMixture | None:
    """``target`` as one Gaussian (or one point), if it is one."""
    mixture = _mixture(target)
    return mixture if mixture is not None and mixture.n_components == 1 else None


def _choose(method: str, mixture: GaussianMixture | None, dim: int) -> str:
    applies = {
        "gaussian": mixture is not None and mixture.n_components == 1,
        "rearrangement": mixture is not None and dim == 1,
        "numerical": True,
    }
    if method == "auto":
        return next(name for name, fits in applies.items() if fits)
    if method not in applies:
        raise ValueError(f"`method` must be 'auto' or one of {tuple(applies)}, got {method!r}")
    if not applies[method]:
        need = "one component" if method == "gaussian" else "a mixture or points with d = 1"
        raise ValueError(
            f"`method` = {method!r} needs {need}, this target has neither: use method='auto'"
        )
    return method


def _no_spread(level: _Level) -> str:
    return (
        f"the law has a part without spread at `{level.name}` = {level.time:g}, where the flow map "
        "is not defined: use a time with sigma > 0, such as sde.t_end, or positive variances"
    )
