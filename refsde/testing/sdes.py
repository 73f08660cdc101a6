r"""Is it an SDE?  Checks of the forward diffusion x_t = alpha(t) x_0 + sigma(t) z.

Everything follows from alpha and sigma, which are taken at their word:

.. math:: f = \frac{d \log\alpha}{dt}, \qquad g^2 = \frac{d\sigma^2}{dt} - 2 f \sigma^2, \qquad
          \rho = \sigma/\alpha, \qquad \lambda = -\log\rho .

All numbers are free of noise.  Times t run from 0 (data) to T (noise).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsde.testing._differences import EPS, derivative
from refsde.testing._report import Check, Finding, OnFail, Report, run_checks

__all__ = ["SDE_CHECKS", "check_sde"]

METHODS = ("alpha", "sigma", "f", "g2", "rho", "lam", "t_of_lam")
FUNCTIONS = ("alpha", "sigma", "f", "g2", "rho", "lam")
# Multiples of the golden ratio: no level of a table lies there, and all scales but the ends do.
FRACTIONS = tuple(sorted(math.fmod(k * 0.6180339887498949, 1.0) for k in range(1, 9)))
SLOPE = 1e-6  # relative, of f and g2: differences are good to 1e-9, wrong formulas far off
RATIO = 1e-9  # relative, of rho, lam and t_of_lam: closed forms are good to 1e-13
DIGITS = 1e-12  # relative noise in sigma: a good formula has 1e-15, 1 - exp(-B) has 1e-10
START = 1e-2  # how far alpha(0) may be from 1: schedules with an offset have 1e-4
PRIOR = 0.02  # relative, of prior_std
TINY = float(np.finfo(float).tiny)
STEP = 1e-5  # of T: a step of the chain that is short
CHAIN = 1e-4  # relative, of its coefficients: extrapolated, they are good to 1e-6


@dataclass(frozen=True)
class SDECase:
    """An SDE, and whether it takes one clock a sample."""

    sde: Any
    per_sample: bool = True

    def times(self) -> list[float]:
        """Where to compare: inside the clock, and close to its end of sampling."""
        T, t_end = float(self.sde.T), float(self.sde.t_end)
        near = [1.37 * t_end] if 0 < t_end < FRACTIONS[0] / 1.37 * T else []
        return near + [fraction * T for fraction in FRACTIONS]


def _case(subject: Any) -> SDECase:
    return subject if isinstance(subject, SDECase) else SDECase(subject)


def _at(name: str, ts: Iterable[float]) -> Callable[[tuple[int, ...]], str]:
    """Name of an entry; ``name`` holds braces where its time belongs."""
    names = [name.format(f"{t:.6g}") for t in ts]
    return lambda i: names[i[0]]


def _factor(name: str, found: np.ndarray, expected: np.ndarray) -> str:
    """Words for the commonest slip, a factor that is the same at all times."""
    ratios = found / expected
    if not (np.ptp(ratios) <= 1e-4 * abs(ratios[0]) and abs(ratios[0] - 1) > 1e-4):
        return ""
    return f"{name} is {ratios[0]:.4g} times what it should be, at all times: "


def _values(fun: Callable[[float], Any], ts: Iterable[float]) -> np.ndarray:
    return np.array([float(fun(float(t))) for t in ts])


def _slope(fun: Callable[[float], Any], t: float, T: float) -> float:
    """Derivative of ``fun`` at ``t``, inside [0, T]."""
    reach = 0.99 * min(t, T - t)
    return float(derivative(lambda h: _values(fun, t + h), reach)[0])


# -- what it offers --------------------------------------------------------------------------------


def _protocol(case: SDECase) -> Iterator[Finding]:
    sde = case.sde
    if isinstance(sde, type):
        yield Finding.holds(
            "protocol", False, f"the class {sde.__name__}", "an SDE", note=f"pass {sde.__name__}()"
        )
        return
    missing = [name for name in METHODS if not callable(getattr(sde, name, None))]
    missing += [name for name in ("T", "t_end", "prior_std") if not hasattr(sde, name)]
    told = f"without {', '.join(missing)}" if missing else "complete"
    note = "subclass refsde.LinearSDE, which derives rho, lam, chain and the prior"
    whole = "T, t_end, prior_std and the methods of an SDE"
    yield Finding.holds("protocol", not missing, told, whole, note=note)
    if missing:
        return
    T, t_end, prior = (float(getattr(sde, name)) for name in ("T", "t_end", "prior_std"))
    good, told = 0 <= t_end < T < math.inf, f"t_end = {t_end:g}, T = {T:g}"
    note = "t = 0 is data and T noise; sampling runs from T down to t_end"
    yield Finding.holds("clock", good, told, "0 <= t_end < T", note=note)
    good, told = 0 < prior < math.inf, f"prior_std = {prior:g}"
    note = "it is the standard deviation of the Gaussian that sampling starts from"
    yield Finding.holds("prior_is_positive", good, told, "positive and finite", note=note)


def _direction(case: SDECase) -> Iterator[Finding]:
    sde = case.sde
    alpha, note = float(sde.alpha(0.0)), "t = 0 is data: x_0 itself, and at most a little noise"
    yield Finding.within("data_at_zero", alpha, 1.0, START, what="alpha(0)", note=note)
    ts = np.linspace(sde.t_end, sde.T, 201)[1:]
    alphas, sigmas, g2 = (_values(fun, ts) for fun in (sde.alpha, sde.sigma, sde.g2))
    for name, values, sign, good in (
        ("alpha", alphas, "positive", alphas > 0),
        ("sigma", sigmas, "positive", sigmas > 0),
        ("g2", g2, "not negative", g2 >= 0),
    ):
        fine = np.isfinite(values) & good
        i = int(np.argmin(fine))
        told, right = f"{name}({ts[i]:.6g}) = {values[i]:.6g}", f"finite, {sign} on (t_end, T]"
        yield Finding.holds(f"{name}_is_{sign.replace(' ', '_')}", fine.all(), told, right)
    steps = np.diff(sigmas / alphas)
    i = int(np.argmin(steps))
    told = f"least rise of rho {steps[i]:.3g}, at t = {ts[i]:.6g}"
    note = "time runs from data to noise: is the schedule written for reversed time?"
    right = "sigma / alpha rises all the way to T"
    yield Finding.holds("noise_rises", np.all(steps > 0), told, right, note=note)


# -- the differential equations --------------------------------------------------------------------


def _rates(sde: Any, ts: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What f and g2 must be at ``ts``, and the size of the terms of g2: alpha and sigma decide."""
    f = np.array([_slope(sde.alpha, t, sde.T) / float(sde.alpha(t)) for t in ts])
    rise = np.array([_slope(lambda u: float(sde.sigma(u)) ** 2, t, sde.T) for t in ts])
    shrink = 2 * f * _values(sde.sigma, ts) ** 2
    return f, rise - shrink, np.abs(rise) + np.abs(shrink)


def _slope_of_alpha(case: SDECase) -> Iterator[Finding]:
    sde, ts = case.sde, case.times()
    f, expected = _values(sde.f, ts), _rates(sde, ts)[0]
    tolerance = SLOPE * (np.abs(expected) + 1 / sde.T)
    note = "f = d log(alpha) / dt, negative where the signal fades; expected is alpha' / alpha"
    note = _factor("f", f, expected) + note
    yield Finding.worst("slope_of_alpha", f, expected, tolerance, _at("f({})", ts), note=note)


def _variance_equation(case: SDECase) -> Iterator[Finding]:
    sde, ts = case.sde, case.times()
    _, expected, size = _rates(sde, ts)
    g2, where = _values(sde.g2, ts), _at("g2({})", ts)
    slip = _factor("g2", g2, expected)
    if np.allclose(g2 * g2, expected, rtol=1e-4):
        slip = "g2 returns g itself, and should return its square: "
    note = f"{slip}g2 = g^2 = (sigma^2)' - 2 f sigma^2; expected is the right side"
    yield Finding.worst("variance_equation", g2, expected, SLOPE * size, where, note=note)


def _ratios(case: SDECase) -> Iterator[Finding]:
    sde, ts = case.sde, [*case.times(), float(case.sde.T)]
    rho, lam = _values(sde.rho, ts), _values(sde.lam, ts)
    ratio = _values(sde.sigma, ts) / _values(sde.alpha, ts)
    name, where, note = "rho_is_sigma_over_alpha", _at("rho({})", ts), "rho = sigma / alpha"
    yield Finding.worst(name, rho, ratio, RATIO * ratio, where, note=note)
    name, where = "lam_is_minus_log_rho", _at("lam({})", ts)
    note = "lam = log(alpha / sigma), half the log signal-to-noise ratio"
    yield Finding.worst(name, lam, -np.log(ratio), RATIO * (np.abs(lam) + 1), where, note=note)


def _inverse_of_lam(case: SDECase) -> Iterator[Finding]:
    sde, ts = case.sde, np.array(case.times())
    back = np.array([float(sde.t_of_lam(float(sde.lam(float(t))))) for t in ts])
    # what rounding lam costs is no fault of the inverse
    speed = np.array([_slope(sde.lam, float(t), sde.T) for t in ts])
    rounding = 8 * EPS * (np.abs(_values(sde.lam, ts)) + 1) / np.abs(speed)
    tolerance, where = np.maximum(RATIO * ts, rounding), _at("t_of_lam(lam({}))", ts)
    note = "t_of_lam(lam(t)) is t again: grids in lam and rho stand on it"
    yield Finding.worst("inverse_of_lam", back, ts, tolerance, where, note=note)


def _keeps_digits(case: SDECase) -> Iterator[Finding]:
    """Sixth differences of a smooth function on a tight spacing hold its rounding errors alone."""
    sde = case.sde
    t = 1e-5 * sde.T
    near = t * (1 + 1e-3 * np.arange(24))
    note = "digits cancel near t = 0: write 1 - exp(-B) as -expm1(-B), and log(1 + u) as log1p(u)"
    for name in ("sigma", "rho"):
        values = _values(getattr(sde, name), near)
        noise = float(np.max(np.abs(np.diff(values, 6)))) / math.sqrt(math.comb(12, 6)) / values[0]
        words = {"what": f"relative rounding error of {name} at t = {t:.3g}", "note": note}
        yield Finding.within(f"{name}_keeps_digits", noise, 0.0, DIGITS, **words)


# -- the discrete chain and the prior --------------------------------------------------------------


def _chain(case: SDECase) -> Iterator[Finding]:
    r"""For a short step from s = t - h to t: a = 1 + f h + ..., q = g^2 h + ... ."""
    sde, h = case.sde, STEP * case.sde.T
    if not callable(getattr(sde, "chain", None)):
        yield Finding.skip(
            "chain", "there is no chain(t, s): ReverseDiffusion and Ancestral ask it"
        )
        return
    ts = [t for t in case.times() if t > 100 * h]

    def coefficients(t: float, h: float) -> np.ndarray:
        a, q = sde.chain(t, t - h)
        return np.array([(float(a) - 1) / h, float(q) / h])

    # of first order in h; two steps extrapolated leave the second
    found = np.array([2 * coefficients(t, h / 2) - coefficients(t, h) for t in ts])
    f, g2, _ = _rates(sde, ts)
    rules = "chain(t, s) returns (a, q) of x_t = a x_s + sqrt(q) z, where s < t: "
    tolerance, where = (
        CHAIN * (np.abs(f) + 1 / sde.T),
        _at("(a - 1) / h of chain({0}, {0} - h)", ts),
    )
    note = f"{rules}a = alpha_t / alpha_s"
    yield Finding.worst("chain_multiplies_by_f", found[:, 0], f, tolerance, where, note=note)
    tolerance, where = CHAIN * np.abs(g2), _at("q / h of chain({0}, {0} - h)", ts)
    note = f"{rules}q = sigma_t^2 - a^2 sigma_s^2, a variance"
    yield Finding.worst("chain_adds_g2", found[:, 1], g2, tolerance, where, note=note)


def _prior(case: SDECase) -> Iterator[Finding]:
    """Data may have any spread from 0 to 1 in the units of the prior."""
    sde = case.sde
    a, s, prior = float(sde.alpha(sde.T)), float(sde.sigma(sde.T)), float(sde.prior_std)
    low, high = s, math.hypot(a, s)
    middle, tolerance = 0.5 * (low + high), 0.5 * (high - low) + PRIOR * high
    note = "it is the spread of x_T: between sigma(T) and sqrt(alpha(T)^2 + sigma(T)^2)"
    yield Finding.within("prior_std", prior, middle, tolerance, what="prior_std", note=note)


# -- floats and arrays -----------------------------------------------------------------------------


def _floats(case: SDECase) -> Iterator[Finding]:
    sde = case.sde
    t = FRACTIONS[3] * float(sde.T)
    values = {name: getattr(sde, name)(t) for name in FUNCTIONS} | {"t_of_lam": sde.t_of_lam(0.5)}
    if callable(getattr(sde, "chain", None)):
        values |= dict(zip(("a of chain", "q of chain"), sde.chain(t, 0.5 * t), strict=True))
    wrong = {name: type(v).__name__ for name, v in values.items() if type(v) is not float}
    told = ", ".join(f"{name} gives {kind}" for name, kind in wrong.items())
    note = "a NumPy scalar would widen float32 samples: use math, or float(...), for a float t"
    right = "a Python float for a float"
    yield Finding.holds("float_gives_float", not wrong, told or "float", right, note=note)


def _arrays(case: SDECase) -> Iterator[Finding]:
    if not case.per_sample:
        yield Finding.skip("arrays", "per_sample=False: one clock for the batch is all it takes")
        return
    single, double = (np.dtype(np.float32), 1e-3), (np.dtype(np.float64), 1e-10)
    for trailing, (dtype, tolerance) in (((1,), double), ((1,), single), ((1, 1, 1), double)):
        found = list(_array_of(case, dtype, trailing, tolerance))
        yield from found
        if not all(finding.passed for finding in found):
            return  # the same again would tell nothing new


def _array_of(
    case: SDECase, dtype: np.dtype[Any], trailing: tuple[int, ...], tolerance: float
) -> Iterator[Finding]:
    """Compare arrays of times with their floats, as the dtype rounds them."""
    sde, name = case.sde, f"{dtype.name}_arrays"
    t = np.array(case.times(), dtype=dtype).reshape(-1, *trailing)
    lam = np.array([float(sde.lam(float(u))) for u in t.flat], dtype=dtype).reshape(t.shape)
    kept, calls = t.copy(), {f"{fun}({{}})": (getattr(sde, fun), t) for fun in FUNCTIONS}
    calls["t_of_lam({})"] = (sde.t_of_lam, lam)
    if callable(getattr(sde, "chain", None)):
        calls["a of chain({})"] = (lambda u: sde.chain(u, 0.5 * u)[0], t)
        calls["q of chain({})"] = (lambda u: sde.chain(u, 0.5 * u)[1], t)
    wrong: dict[str, list[str]] = {}  # what happened, and to which functions
    values = []
    for fun, (call, given) in calls.items():
        try:
            found = call(given)
        except Exception as problem:
            wrong.setdefault(f"raised {type(problem).__name__}: {problem}", []).append(fun)
            continue
        if getattr(found, "shape", None) != t.shape or found.dtype != dtype:
            got = f"{getattr(found, 'shape', type(found).__name__)} {getattr(found, 'dtype', '')}"
            wrong.setdefault(f"gave {got.strip()}", []).append(fun)
            continue
        expected = _values(call, given.ravel())
        scale = np.abs(expected) + 1e-3 * np.max(np.abs(expected)) + ("lam" in fun)
        where, note = _at(fun, given.ravel()), "an array of times gives what its floats give"
        words = (found.ravel(), expected, tolerance * scale + TINY, where)
        values.append(Finding.worst(f"{name}_agree", *words, note=note))
    told = "; ".join(
        f"{', '.join(f.format('t') for f in funs)} {what}" for what, funs in wrong.items()
    )
    note = "with one clock a sample use functions of the array's library, not math: or check with "
    note += "per_sample=False"
    right = f"arrays of shape {t.shape}, {dtype.name}"
    yield Finding.holds(name, not wrong, told or "all", right, note=note)
    yield from sorted(values, key=lambda finding: -finding.strain)[:1]  # the worst of them
    same, what = np.array_equal(t, kept), "times after the calls"
    told = "as they were" if same else "changed"
    note = "never write into t"
    yield Finding.holds(f"{name}_are_kept", same, told, "as they were", what=what, note=note)


SDE_CHECKS = tuple(
    Check(run, _case, vital=run is _protocol)
    for run in (
        _protocol,
        _direction,
        _slope_of_alpha,
        _variance_equation,
        _ratios,
        _inverse_of_lam,
        _keeps_digits,
        _chain,
        _prior,
        _floats,
        _arrays,
    )
)


def check_sde(sde: Any, *, per_sample: bool = True, on_fail: OnFail = "raise") -> Report:
    r"""Check an SDE of your own: that its functions belong to each other, at all times.

    .. math:: f = \frac{\alpha'}{\alpha}, \quad g^2 = (\sigma^2)' - 2 f \sigma^2, \quad
              \rho = \frac\sigma\alpha, \quad \lambda = -\log\rho

    Parameters
    ----------
    sde : SDE
        What is checked, with time from 0 (data) to T (noise).  alpha and sigma are taken at their
        word, the rest is compared with them.
    per_sample : bool
        Whether arrays of times (B, 1, ..., 1), one clock a sample, are tried too.
    on_fail : {"raise", "report"}
        "raise" raises `CheckError` if anything failed, "report" only tells of it.

    Returns
    -------
    Report
        Every comparison, with the measured and the expected number; all are free of noise.

    Raises
    ------
    CheckError
        If a comparison failed and ``on_fail="raise"``.
    ValueError
        If ``on_fail`` is neither of the two.

    Notes
    -----
    Derivatives are taken by differences of order 6, good to 1e-9; f and g2 may be off by 1e-6 of
    their size, rho, lam and t_of_lam by 1e-9.  A kinked schedule, such as a table, is welcome.

    References
    ----------
    Song et al. (2020), Score-Based Generative Modeling through SDEs, eq. 5 and appendix B.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.testing.check_sde(rs.VP())["slope_of_alpha"].passed
    True
    """
    return run_checks("check_sde", sde, SDE_CHECKS, on_fail, SDECase(sde, per_sample))
