"""Findings and reports: verdicts, words, tables, and what becomes of an exception."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import refsde as rs
from refsde.testing import Check, CheckError, Finding, Report
from refsde.testing._differences import derivative
from refsde.testing._report import name_of, run_checks


def near(_: Any) -> Iterator[Finding]:
    yield Finding.within("near", 1.0, 1.001, 0.01, what="f(0.3)")


def off(_: Any) -> Iterator[Finding]:
    words: dict[str, Any] = {"what": "order", "noise_free": False, "note": "is it scaled?"}
    yield Finding.within("off", 0.52, 1.0, 0.02, **words)


def broken(_: Any) -> Iterator[Finding]:
    yield Finding.holds("before", True, "fine", "fine")
    raise ZeroDivisionError("of mine")


def skipped(_: Any) -> Iterator[Finding]:
    yield Finding.skip("skipped", "there is no chain")


NEAR, OFF, BROKEN, SKIPPED = (Check(run) for run in (near, off, broken, skipped))


@pytest.mark.parametrize(
    ("measured", "expected", "tolerance", "passed"),
    [
        (1.0, 1.0, 0.0, True),
        (1.0, 1.5, 0.5, True),
        (1.0, 1.5, 0.49, False),
        (-math.inf, -math.inf, 0.1, True),
        (math.inf, -math.inf, 0.1, False),
        (math.inf, 1.0, 1e300, False),
        (math.nan, 1.0, 1e300, False),
        (1.0, math.nan, math.inf, False),
        (math.nan, math.nan, 1.0, False),
    ],
)
def test_verdicts(measured: float, expected: float, tolerance: float, passed: bool) -> None:
    finding = Finding.within("it", measured, expected, tolerance)
    assert finding.passed is passed and finding.status == ("passed" if passed else "FAILED")
    alone = Finding.worst("it", [measured], [expected], [tolerance], lambda i: "x")
    assert alone.passed is passed
    assert (finding.strain <= 1) is passed


def test_the_worst_entry_is_told() -> None:
    """Furthest off in tolerances, not in numbers; a NaN is worse than everything."""
    finding = Finding.worst(
        "it", [1.0, 5.0, 0.0], [0.0, 0.0, 0.0], [0.1, 2.0, 1.0], lambda i: f"{i}"
    )
    assert (finding.what, finding.measured, finding.passed) == ("(0,)", 1.0, False)
    assert Finding.worst("it", [9.0, np.nan], [0, 0], [1, 1], lambda i: f"{i}").what == "(1,)"
    table = Finding.worst("it", np.eye(2), 0.0, [[2.0], [3.0]], lambda i: f"{i}")
    assert (table.what, table.passed) == ("(0, 0)", True)
    assert table.strain == 0.5


def test_a_message_names_measured_expected_tolerance_and_chance() -> None:
    text = str(OFF.findings(None)[0])
    assert text == "off: measured order = 0.52, expected 1 +- 0.02 (statistical): is it scaled?"
    assert "(free of noise)" in str(NEAR.findings(None)[0])
    assert str(Finding.skip("levy", "no areas")) == "levy: left out, no areas"


def test_as_many_digits_as_tell_two_numbers_apart() -> None:
    assert "measured 1, expected 1 " in str(Finding.within("it", 1.0, 1.0, 0.1))
    text = str(Finding.within("it", 0.123456789012, 0.123456789, 1e-13))
    assert "0.123456789012" in text and "expected 0.123456789 +-" in text


def test_a_report_counts_tells_and_raises() -> None:
    report = run_checks("check_it", "me", [NEAR, OFF, SKIPPED], "report")
    assert not report.passed and [f.name for f in report.failures] == ["off"]
    assert str(report).splitlines()[0] == "check_it of 'me': 1 passed, 1 FAILED, 1 skipped"
    for word in ("f(0.3) = 1", "order = 0.52", "1 +- 0.02", "is it scaled?", "there is no chain"):
        assert word in str(report)
    assert "near" not in report.message and "off: measured" in report.message
    assert report["off"].measured == 0.52
    with pytest.raises(KeyError, match="`name` must be among .*'near', 'off'.* got 'of'"):
        report["of"]
    with pytest.raises(CheckError, match="1 FAILED.*\n  off: measured order = 0.52") as caught:
        report.raise_for_failures()
    assert caught.value.report is report and isinstance(caught.value, AssertionError)
    assert pickle.loads(pickle.dumps(caught.value)).report == report
    run_checks("check_it", "me", [NEAR, SKIPPED], "raise")  # what was left out is no failure
    assert str(Report("check_it", "me", ())).endswith("nothing to check")


def test_an_exception_is_a_finding_and_keeps_those_before_it() -> None:
    before, raised = BROKEN.findings(None)
    assert before.passed and raised.passed is False and raised.name == "broken"
    assert "ZeroDivisionError: of mine (test_testing_report.py:" in str(raised.measured)
    report = run_checks("check_it", "me", [BROKEN, NEAR], "report")
    assert [f.passed for f in report.findings] == [True, False, True]


def test_keys_to_quit_are_no_findings() -> None:
    def quits(_: Any) -> Iterator[Finding]:
        yield from ()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Check(quits).findings(None)


def test_what_builds_on_a_failure_is_left_out() -> None:
    report = run_checks("check_it", "me", [Check(off, vital=True), NEAR], "report")
    assert [f.passed for f in report.findings] == [False, None]
    assert report["near"].note == "off failed, on which it builds"
    assert run_checks("it", "me", [Check(near, vital=True), NEAR], "report").passed


def test_a_check_is_called_with_its_subject() -> None:
    seen = []

    def looks(case: Any) -> Iterator[Finding]:
        seen.append(case)
        yield from near(case)

    assert Check(looks, prepare=lambda subject: subject + 1)(41) is None  # type: ignore[func-returns-value]
    assert seen == [42] and Check(looks).name == "looks"
    with pytest.raises(CheckError, match="^off of 'me': 1 FAILED"):
        OFF("me")


def test_the_repr_is_one_line() -> None:
    report = run_checks("check_it", "me", [NEAR, OFF], "report")
    assert repr(report) == "Report(check_it of 'me': 1 passed, 1 FAILED)"


def test_html_is_escaped() -> None:
    finding = Finding.holds("it", False, "<b>", "a & b", note="<script>")
    text = Report("check_it", "<lambda>", (finding,))._repr_html_()
    assert "<script>" not in text and "<b>" not in text and "<lambda>" not in text
    for word in (
        "&lt;script&gt;",
        "&lt;b&gt;",
        "a &amp; b",
        "check_it of &lt;lambda&gt;",
        "FAILED",
    ):
        assert word in text
    assert text.startswith("<table>") and text.count("<tr>") == text.count("</tr>") == 2


def test_names_are_short_and_repeat() -> None:
    class Mine:
        pass

    assert name_of(rs.VP()) == "VP(beta_min=0.1, beta_max=20.0)"
    assert name_of(rs.Gaussian) == "Gaussian" and name_of(name_of) == "name_of"
    assert name_of(Mine()) == "Mine" and name_of(list(range(99))) == "list"


def test_an_unknown_way_to_fail_is_refused() -> None:
    for call in (rs.testing.check_sde, rs.testing.check_noise):
        with pytest.raises(ValueError, match="`on_fail` must be 'raise' or 'report', got 'warn'"):
            call(rs.VP() if call is rs.testing.check_sde else rs.Gaussian(0), on_fail="warn")


# -- derivatives that know their error -------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_derivative_is_good_to_nine_digits_at_any_scale(scale: float) -> None:
    """Width of the function against reach: over six decades."""
    at = np.array([-1.0, 0.3, 2.0]) * scale

    def fun(h: np.ndarray) -> np.ndarray:
        return np.sin((at + h[:, None]) / scale) + 3.0

    slope, error = derivative(fun, reach=1.0)
    truth = np.cos(at / scale) / scale
    assert np.all(np.abs(slope - truth) <= 1e-9 / scale)
    assert np.all(np.abs(slope - truth) <= 5 * error) and np.all(error <= 1e-9 / scale)


@pytest.mark.parametrize("distance", [3e-5, 1e-3, 0.1])
def test_a_kink_nearby_only_takes_wide_spacings_away(distance: float) -> None:
    """The rule that takes the two spacings which agree best is fooled here: it straddles."""

    def table(h: np.ndarray) -> np.ndarray:
        knots = np.linspace(-1, 1, round(2 / (2 * distance)) + 1) + distance
        return np.interp(h, knots, np.exp(knots))

    left, right = -distance, distance  # zero is in the middle of this piece
    truth = (math.exp(right) - math.exp(left)) / (right - left)
    slope, error = derivative(table, reach=0.9)
    assert abs(float(slope) - truth) <= max(1e-8, float(error)) <= 1e-6


def test_a_rough_function_says_so() -> None:
    noise = np.random.default_rng(0)
    slope, error = derivative(lambda h: np.sin(h) + 1e-6 * noise.standard_normal(len(h)), 1.0)
    assert 1e-7 < error and abs(slope - 1) <= 3 * error
    assert derivative(lambda h: np.full(len(h), np.nan), 1.0)[1] == np.inf
