"""`check_sde`: every SDE of the package passes, and broken ones are told what is wrong."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from _rotation import Rotation
from hypothesis import given

import refsde as rs
from refsde.testing import CheckError, check_sde, strategies

VP = rs.VP()


def but(base: Any = VP, **changes: Any) -> Any:
    """A copy of an SDE with other attributes: functions become methods."""
    return type("Broken", (type(base),), changes)(**{k: v for k, v in vars(base).items()})


@given(strategies.sdes())
def test_every_sde_of_the_package_passes(sde: Any) -> None:
    report = check_sde(sde)
    assert report.passed and all(f.noise_free for f in report.findings)
    assert {f.name for f in report.findings if f.passed is None} == set()
    exact = [f for f in report.findings if f.name not in ("prior_std", "data_at_zero")]
    assert max(f.strain for f in exact) < 0.2, "right SDEs are far from the tolerances"


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine"])
def test_a_table_of_a_thousand_kinks_passes(schedule: Any) -> None:
    check_sde(rs.Tabulated.from_betas(schedule))
    check_sde(rs.Tabulated(sigmas=np.geomspace(0.01, 50, 1000)))


def test_a_clock_for_the_batch_is_enough_if_said() -> None:
    assert check_sde(Rotation(), per_sample=False)["arrays"].passed is None
    report = check_sde(Rotation(), on_fail="report")
    assert [f.name for f in report.failures] == ["float64_arrays"]
    assert "not math: or check with per_sample=False" in report.message


def test_what_is_offered_beyond_need_may_be_missing() -> None:
    class NoChain:
        def __getattr__(self, name: str) -> Any:
            if name in ("chain", "prior_sample", "prior_logpdf"):
                raise AttributeError(name)
            return getattr(VP, name)

    assert check_sde(NoChain())["chain"].passed is None


B = VP._B
MUTANTS: dict[str, tuple[Any, set[str], str]] = {
    # name: (SDE, what fails, words)
    "f with the wrong sign": (
        but(f=lambda self, t: 0.5 * self.beta(t)),
        {"slope_of_alpha"},
        r"f\(.*expected -.*free of noise.*f is -1 times what it should be, at all times",
    ),
    "f without its half": (
        but(f=lambda self, t: -self.beta(t)),
        {"slope_of_alpha"},
        "f is 2 times what it should be",
    ),
    "f off by 1e-5": (
        but(f=lambda self, t: -0.50001 * self.beta(t)),
        {"slope_of_alpha"},
        r"f = d log\(alpha\) / dt",
    ),
    "g for g2": (
        but(g2=lambda self, t: self.beta(t) ** 0.5),
        {"variance_equation"},
        "g2 returns g itself, and should return its square",
    ),
    "g2 off by a tenth of a percent": (
        but(g2=lambda self, t: 1.001 * self.beta(t)),
        {"variance_equation"},
        "g2 is 1.001 times what it should be, at all times",
    ),
    "VP's g2 under sub-VP": (
        but(rs.SubVP(), g2=lambda self, t: self.beta(t)),
        {"variance_equation"},
        r"g2\(.*\) = .*, expected .*\(sigma\^2\)' - 2 f sigma\^2",
    ),
    "sub-VP's sigma under VP": (
        but(sigma=lambda self, t: rs.SubVP().sigma(t)),
        {"variance_equation", "rho_is_sigma_over_alpha", "lam_is_minus_log_rho", "chain_adds_g2"},
        "rho = sigma / alpha",
    ),
    "rho upside down": (
        but(rho=lambda self, t: self.alpha(t) / self.sigma(t)),
        {"rho_is_sigma_over_alpha", "lam_is_minus_log_rho", "inverse_of_lam", "chain_adds_g2"},
        "rho_is_sigma_over_alpha",
    ),
    "the whole log SNR for lam": (
        but(lam=lambda self, t: 2 * rs.VP().lam(t)),
        {"lam_is_minus_log_rho", "inverse_of_lam"},
        "half the log signal-to-noise ratio",
    ),
    "an inverse of -lam": (
        but(t_of_lam=lambda self, lam: rs.VP().t_of_lam(-lam)),
        {"inverse_of_lam"},
        r"t_of_lam\(lam\(.*\)\) = .*grids in lam and rho stand on it",
    ),
    "a chain of standard deviations": (
        but(chain=lambda self, t, s: (rs.VP().chain(t, s)[0], rs.VP().chain(t, s)[1] ** 0.5)),
        {"chain_adds_g2"},
        r"q / h of chain.*q = sigma_t\^2 - a\^2 sigma_s\^2, a variance",
    ),
    "a chain with alpha squared": (
        but(chain=lambda self, t, s: (rs.VP().chain(t, s)[0] ** 2, rs.VP().chain(t, s)[1])),
        {"chain_multiplies_by_f"},
        "a = alpha_t / alpha_s",
    ),
    "a chain whose ends are swapped": (
        but(chain=lambda self, t, s: rs.VP().chain(s, t)),
        {"chain_multiplies_by_f", "chain_adds_g2"},
        r"chain\(t, s\) returns \(a, q\) of x_t = a x_s \+ sqrt\(q\) z, where s < t",
    ),
    "a prior of one": (
        but(rs.VE(), prior_std=1.0),
        {"prior_std"},
        r"prior_std = 1, expected 50.*between sigma\(T\) and sqrt",
    ),
    "digits that cancel": (
        but(Rotation(), sigma=lambda self, t: (1 - math.cos(t) ** 2) ** 0.5),
        {"sigma_keeps_digits", "rho_keeps_digits"},
        r"relative rounding error of sigma at t = 1.56e-05.*-expm1\(-B\)",
    ),
    "the textbook's sigma": (
        but(sigma=lambda self, t: (1 - rs.VP().alpha(t) ** 2) ** 0.5),
        {"sigma_keeps_digits"},
        r"relative rounding error of sigma at t = 1e-05 = \d.*e-11, expected 0 \+- 1e-12",
    ),
    "NumPy scalars for floats": (
        but(f=lambda self, t: -0.5 * np.asarray(self.beta(t))[()]),
        {"float_gives_float"},
        "f gives float64, expected a Python float.*would widen float32",
    ),
    "an array in, a float out": (
        but(rs.VE(), alpha=lambda self, t: 1.0),
        {"float64_arrays"},
        r"alpha\(t\)(, .*)? gave float, expected arrays of shape \(9, 1\), float64",
    ),
    "float64 whatever comes": (
        but(rs.EDM(), sigma=lambda self, t: t * (np.ones(1) if np.ndim(t) else 1.0)),
        {"float32_arrays"},
        "float32_arrays: measured sigma",
    ),
    "one clock for all samples": (
        but(rs.EDM(), g2=lambda self, t: 2 * t if np.ndim(t) == 0 else 0 * t + 2 * np.max(t)),
        {"float64_arrays_agree"},
        r"g2\(.*an array of times gives what its floats give",
    ),
}


def _in_place(self: Any, t: Any) -> Any:
    if np.ndim(t):
        t *= 2
        return t
    return 2.0 * t


MUTANTS["a time that is written into"] = (
    but(rs.EDM(), g2=_in_place),
    {"float64_arrays_are_kept"},
    "times after the calls = changed, expected as they were.*never write into t",
)
MUTANTS["time that runs backwards"] = (
    but(rs.EDM(), sigma=lambda self, t: self.T + 0.001 - t),
    {"noise_rises"},
    "least rise of rho -.*is the schedule written for reversed time",
)
MUTANTS["alpha of one half at the data"] = (
    but(alpha=lambda self, t: 0.5 * rs.VP().alpha(t)),
    {"data_at_zero"},
    r"alpha\(0\) = 0.5, expected 1",
)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_sde_is_told_what_is_wrong(name: str) -> None:
    sde, fails, words = MUTANTS[name]
    with pytest.raises(CheckError) as caught:
        check_sde(sde)
    assert re.search(words, str(caught.value)), str(caught.value)
    assert fails <= {f.name for f in caught.value.report.failures}


@pytest.mark.parametrize(
    "name",
    ["f without its half", "g for g2", "an inverse of -lam", "a chain of standard deviations",
     "a prior of one", "the textbook's sigma", "NumPy scalars for floats",
     "an array in, a float out"],
)  # fmt: skip
def test_one_slip_is_one_failure(name: str) -> None:
    """What is right does not fail along: alpha and sigma are what the rest is compared with."""
    sde, fails, _ = MUTANTS[name]
    assert {f.name for f in check_sde(sde, on_fail="report").failures} == fails


def test_what_is_no_sde_is_told_so_and_nothing_else() -> None:
    class Bare:
        T, t_end, prior_std = 1.0, 1e-3, 1.0
        alpha = sigma = f = g2 = staticmethod(lambda t: t)

    report = check_sde(Bare(), on_fail="report")
    assert "without rho, lam, t_of_lam" in report.message and "LinearSDE" in report.message
    assert len(report.failures) == 1 and all(f.passed is None for f in report.findings[1:])
    for thing in (rs.VP, 3, None):
        with pytest.raises(CheckError, match="protocol"):
            check_sde(thing)
    with pytest.raises(CheckError, match=r"the class VP, expected an SDE.*pass VP\(\)"):
        check_sde(rs.VP)


def test_ends_of_the_clock_and_the_prior_are_checked_first() -> None:
    with pytest.raises(CheckError, match=r"t_end = 2, T = 1, expected 0 <= t_end < T"):
        check_sde(but(t_end=2.0))
    with pytest.raises(CheckError, match="prior_std = -1, expected positive and finite"):
        check_sde(but(prior_std=-1.0))


def test_an_exception_of_the_sdes_is_a_finding() -> None:
    report = check_sde(but(g2=lambda self, t: 1 / 0), on_fail="report")
    text = report["variance_equation"].measured
    assert re.match(r"ZeroDivisionError: .*\(test_testing_sdes.py:\d+\)", str(text))
    assert report["slope_of_alpha"].passed, "the rest is checked all the same"


def test_what_is_not_finite_or_negative_is_found() -> None:
    report = check_sde(but(sigma=lambda self, t: -rs.VP().sigma(t)), on_fail="report")
    assert report["sigma_is_positive"].passed is False
    report = check_sde(but(g2=lambda self, t: math.nan + 0 * t), on_fail="report")
    assert "g2(" in str(report["g2_is_not_negative"].measured)
    assert report["g2_is_not_negative"].passed is False
