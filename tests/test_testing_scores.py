"""`check_score`: every exact score passes, and broken ones are told what is wrong."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import refsde as rs
from refsde.testing import CheckError, check_score, strategies
from refsde.testing._score_case import ScoreCase

VP = rs.VP()
TARGET = rs.GaussianMixture(
    [0.6, 0.4], [[-1.0, 0.5], [1.5, 0.0]], [[[0.3, 0.1], [0.1, 0.2]], [[0.2, 0.0], [0.0, 0.4]]]
)
RIGHT = TARGET.score(VP)


class Broken:
    """An exact score with some of its methods replaced; each takes (exact score, x, t)."""

    def __init__(self, exact: Any = RIGHT, **methods: Any) -> None:
        self.exact, self.methods, self.calls = exact, methods, 0

    def __call__(self, x: Any, t: Any) -> Any:
        self.calls += 1
        return self.methods.get("score", lambda s, x, t: s(x, t))(self.exact, x, t)

    def __getattr__(self, name: str) -> Any:
        exact, methods = self.__dict__["exact"], self.__dict__["methods"]
        if name in methods:
            return lambda *args: methods[name](exact, *args)
        return getattr(exact, name)


# -- right ones ------------------------------------------------------------------------------------


@settings(max_examples=25)  # each is a thousand comparisons
@given(strategies.gmms(dims=(1, 5)), strategies.sdes())
def test_every_exact_score_of_a_mixture_passes(target: Any, sde: Any) -> None:
    report = check_score(target.score(sde))
    assert all(f.noise_free and f.passed for f in report.findings)
    exact = [f for f in report.findings if f.name not in ("float32_agrees", "diffusion_equation")]
    assert max(f.strain for f in exact) < 0.01, "right scores are far from the tolerances"


@given(strategies.sdes(), st.integers(2, 30), st.integers(1, 4))
@settings(max_examples=10)
def test_every_exact_score_of_points_passes(sde: Any, N: int, d: int) -> None:
    points = np.random.default_rng(N).standard_normal((N, d))
    check_score(rs.Empirical(points).score(sde))


def test_fast_scores_and_many_dimensions_pass() -> None:
    half = np.random.default_rng(0).standard_normal((3, 64, 64)) / 8
    covs = half @ half.transpose(0, 2, 1) + 0.1 * np.eye(64)
    target = rs.GaussianMixture([0.2, 0.3, 0.5], np.eye(3, 64), covs)
    for score in (target.score(VP), target.score(VP, fast=True)):
        report = check_score(score)
        assert {f.name for f in report.findings if f.passed is None} == {
            "jacobian",
            "diffusion_equation",
        }


def test_a_plain_function_and_an_event_of_two_axes_pass() -> None:
    def score(x: Any, t: Any) -> Any:
        return -x

    def logpdf(x: Any, t: Any) -> Any:
        return -0.5 * np.sum(x * x, axis=(1, 2))

    report = check_score(score, logpdf, shape=(2, 3))
    left_out = {f.name for f in report.findings if f.passed is None}
    assert left_out == {"predictions", "jacobian", "diffusion_equation"}
    # N(0, I) stays N(0, I) under VP, constants included; nothing else is known of it here
    full = check_score(score, lambda x, t: logpdf(x, t) + 17, sde=VP, shape=(2, 3))
    assert full["diffusion_equation"].passed
    x = np.arange(12.0).reshape(2, 2, 3)
    assert check_score(score, logpdf, x=x, times=[0.3]).passed


def test_a_score_in_single_precision_passes_if_said() -> None:
    def single(exact: Any, x: Any, t: Any) -> Any:
        t = t.astype(np.float32) if isinstance(t, np.ndarray) else t
        return exact(x.astype(np.float32), t).astype(x.dtype)

    score = Broken(score=single)
    assert not check_score(score, on_fail="report").passed
    report = check_score(score, rtol=1e-3)
    assert 1e-5 < report["gradient"].strain < 0.1, "as single as it says, and no worse"


def test_one_clock_is_enough_if_said() -> None:
    def one_clock(exact: Any, x: Any, t: Any) -> Any:
        return exact(x, float(t))

    score = Broken(score=one_clock)
    report = check_score(score, on_fail="report")
    assert {f.name for f in report.failures} == {"own_clocks"}
    assert "TypeError" in report.message
    assert check_score(score, per_sample=False)["own_clocks"].passed is None


# -- broken ones -----------------------------------------------------------------------------------


def _x0(s: Any, x: Any, t: Any) -> Any:
    return s.denoise(x, t)


def _coupled(s: Any, x: Any, t: Any) -> Any:
    out = s(x, t)
    return out - 1e-3 * out.mean(axis=0)


def _by_place(s: Any, x: Any, t: Any) -> Any:
    return s(x, t) * (1 + 1e-3 * np.arange(len(x)))[:, None].astype(x.dtype)


def _in_place(s: Any, x: Any, t: Any) -> Any:
    out = s(x, t)
    x *= 0
    return out


def _density_not_its_log(s: Any, x: Any, t: Any) -> Any:
    """The quotient of densities as a textbook writes it: 0 / 0 far out."""
    law = [TARGET.component(k).score(VP) for k in range(2)]
    p = [w * np.exp(c.logpdf(x, t))[:, None] for w, c in zip(TARGET.weights, law, strict=True)]
    mean = sum(pk * c(x, t) for pk, c in zip(p, law, strict=True)) / sum(p)
    return mean.astype(x.dtype)


GENERATOR = np.random.default_rng(0)
MUTANTS: dict[str, tuple[dict[str, Any], str, str]] = {
    # name: (what is replaced, what fails, words)
    "a lost sign": (
        {"score": lambda s, x, t: -s(x, t)},
        "gradient",
        "component of the score at x = .* t = .*free of noise.*it is -1 times the gradient",
    ),
    "half the score": (
        {"score": lambda s, x, t: 0.5 * s(x, t)},
        "gradient",
        "it is 0.5 times the gradient, at all times",
    ),
    "a tenth of a percent too long": (
        {"score": lambda s, x, t: 1.001 * s(x, t)},
        "gradient",
        "it is 1.001 times the gradient, at all times",
    ),
    "the predicted noise": (
        {"score": lambda s, x, t: s.eps(x, t)},
        "gradient",
        "it is the predicted noise -sigma score: use refsde.predict.from_prediction",
    ),
    "the denoised mean": (
        {"score": _x0},
        "gradient",
        r"it is the denoised mean E\[x_0 \| x\]: use refsde.predict.from_prediction",
    ),
    "multiplied by sigma squared": (
        {"score": lambda s, x, t: VP.sigma(t) ** 2 * s(x, t)},
        "gradient",
        "it points the right way, with .* times the length at the times checked",
    ),
    "the score of other data": (
        {"score": lambda s, x, t: TARGET.component(0).score(VP)(x, t)},
        "gradient",
        r"\+- .*free of noise\): expected is the derivative of logpdf, by differences",
    ),
    "one coordinate wrong": (
        {"score": lambda s, x, t: s(x, t) * np.array([1, 1.0001], x.dtype)},
        "gradient",
        "expected is the derivative",
    ),
    "coupled samples": ({"score": _coupled}, "batch_independent", "depends on its batch mates"),
    "by place in the batch": ({"score": _by_place}, "order_of_rows", "depends on its batch mates"),
    "dropout": (
        {"score": lambda s, x, t: s(x, t) + 1e-4 * GENERATOR.standard_normal(x.shape)},
        "repeatable",
        "no dropout, no generator",
    ),
    "in place": ({"score": _in_place}, "inputs_kept", "wrote into x"),
    "float64 for float32": (
        {"score": lambda s, x, t: s(x, t).astype(float)},
        "float32",
        "dtype for float32 points = float64, expected float32.*constants of x.dtype",
    ),
    "float32 inside": (
        {"score": lambda s, x, t: s(x, t) if x.dtype == float else -x},
        "float32_agrees",
        "does something cancel",
    ),
    "densities, not their logs": ({"score": _density_not_its_log}, "far_out", "logsumexp"),
    "the first clock for all": (
        {"score": lambda s, x, t: s(x, t if np.ndim(t) == 0 else float(t.flat[0]))},
        "own_clocks",
        "one clock a sample",
    ),
    "a number a sample": (
        {"score": lambda s, x, t: s(x, t).sum(axis=1)},
        "shape_of_score",
        r"score of x of shape \(6, 2\) = an array of shape \(6,\), expected \(6, 2\)",
    ),
    "a mean for a density": (
        {"logpdf": lambda s, x, t: s.logpdf(x, t).mean()},
        "shape_of_logpdf",
        r"expected \(6,\)",
    ),
    "a rounded density": (
        {"logpdf": lambda s, x, t: s.logpdf(x, t).astype(np.float32)},
        "logpdf_is_smooth",
        "logpdf is too rough for differences: compute it in float64, or raise rtol",
    ),
    "eps without its sign": (
        {"eps": lambda s, x, t: -s.eps(x, t)},
        "eps",
        "sigma eps at x = .*: eps = -sigma score",
    ),
    "a denoiser that forgets alpha": (
        {"denoise": lambda s, x, t: VP.alpha(t) * s.denoise(x, t)},
        "denoise",
        r"alpha denoise = x \+ sigma\^2 score",
    ),
    "the trace without its sign": (
        {"divergence": lambda s, x, t: -s.divergence(x, t)},
        "divergence",
        "expected is the derivative of the score",
    ),
    "a transposed step": (
        {"jvp": lambda s, x, t, u: s.jvp(x, t, u[:, ::-1].copy())},
        "jvp",
        "expected is the derivative of the score",
    ),
    "constants of its own": (
        {"logpdf": lambda s, x, t: s.logpdf(x, t) + 0.01 * t},
        "diffusion_equation",
        r"d logpdf / dt at x = .*another SDE, or on another clock",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_score_is_told_what_is_wrong(name: str) -> None:
    methods, fails, words = MUTANTS[name]
    with pytest.raises(CheckError) as caught:
        check_score(Broken(**methods))
    report = caught.value.report
    assert re.search(words, str(caught.value)), str(caught.value)
    assert fails in {f.name for f in report.failures}
    assert all(f.noise_free for f in report.failures)


@pytest.mark.parametrize(
    "name",
    ["float32 inside", "densities, not their logs", "eps without its sign", "in place",
     "a transposed step", "constants of its own", "the trace without its sign"],
)  # fmt: skip
def test_one_slip_is_one_failure(name: str) -> None:
    methods, fails, _ = MUTANTS[name]
    assert {f.name for f in check_score(Broken(**methods), on_fail="report").failures} == {fails}


@pytest.mark.parametrize("other", [rs.VE(), rs.VP(0.1, 19.9), rs.SubVP()], ids=repr)
def test_a_score_of_another_sde_is_found_out(other: Any) -> None:
    """A right gradient at every time: only the diffusion equation ties the times together."""
    exact = TARGET.score(other)
    report = check_score(
        lambda x, t: exact(x, t), exact.logpdf, sde=VP, shape=(2,), on_fail="report"
    )
    assert {f.name for f in report.failures} == {"diffusion_equation"}


def test_a_score_that_raises_is_a_finding() -> None:
    def raises(s: Any, x: Any, t: Any) -> Any:
        if len(x) == 1:
            raise RuntimeError("needs two samples")
        return s(x, t)

    report = check_score(Broken(score=raises), on_fail="report")
    assert report["shapes"].passed is False and "needs two samples" in report.message
    assert all(f.passed is None for f in report.findings if f.name == "gradient")


# -- bad input -------------------------------------------------------------------------------------

SCORE, LOGPDF = (lambda x, t: -x), (lambda x, t: -0.5 * (x * x).sum(1))
BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: check_score(3), TypeError, r"`score` must be callable as score\(x, t\), got 3"),
    (lambda: check_score(SCORE), TypeError, "`logpdf` must be callable.*got None: pass the log-d"),
    (lambda: check_score(SCORE, LOGPDF), ValueError, r"`shape` is None: pass .* such as \(2,\)"),
    (lambda: check_score(SCORE, LOGPDF, shape=(0,)), ValueError, r"`shape` must hold positive"),
    (lambda: check_score(SCORE, LOGPDF, shape=3), ValueError, r"`shape` must hold positive"),
    (lambda: check_score(SCORE, LOGPDF, x=[1.0]), ValueError, r"`x` must be a finite batch"),
    (lambda: check_score(SCORE, LOGPDF, x=[[np.nan]]), ValueError, r"`x` must be a finite batch"),
    (lambda: check_score(RIGHT, times=[]), ValueError, "`times` must hold at least one time"),
    (lambda: check_score(RIGHT, rtol=0), ValueError, r"`rtol` must be a number in \(0, 1\), got 0"),
    (lambda: check_score(RIGHT, on_fail="no"), ValueError, "`on_fail` must be"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_points_are_where_the_law_is_and_the_same_every_time() -> None:
    case = ScoreCase(RIGHT)
    for t in case.times:
        x = case.points(t)
        assert np.array_equal(x, ScoreCase(RIGHT).points(t)) and len(x) == 6
        law = TARGET.at(VP, t)
        assert np.all(np.abs(x - law.mean) < 5 * np.sqrt(np.diag(law.cov)))
    assert "ScoreCase(" in repr(case)
    wide = ScoreCase(TARGET.score(rs.EDM()))
    assert np.std(wide.points(wide.times[-1])) > 0.5 * wide.times[-1], "as wide as the noise"


def test_a_score_that_is_not_finite_is_told_once() -> None:
    def broken(x: Any, t: Any) -> Any:
        return np.where(x > 0, np.nan, -x)

    report = check_score(broken, lambda x, t: -0.5 * np.sum(x**2, axis=1), shape=(3,),
                         on_fail="report")  # fmt: skip
    assert {finding.name for finding in report.failures} == {"finite_score"}
    assert report["gradient"].passed is None
