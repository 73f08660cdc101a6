"""`check_noise`: every source of the package passes, and broken ones are told what is wrong.

The moments of `rs.Gaussian` are judged once, on a fixed seed, at a two-sided rate of 1e-9 each.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import refsde as rs
from refsde.noise import LastMean
from refsde.testing import CheckError, check_noise

TIMES = np.linspace(0.0, 1.0, 9)
SHAPE = (2000, 2)


def drawn(rng: Any) -> rs.StoredPath:
    return rs.StoredPath.draw(TIMES, SHAPE, rng=rng, levy=True)


# -- right ones ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gaussian_passes_whatever_its_key(seed: int) -> None:
    assert check_noise(rs.Gaussian(seed)).passed


def test_the_class_passes_and_its_seed_matters() -> None:
    report = check_noise(rs.Gaussian)
    assert all(f.passed for f in report.findings) and report["seed_matters"].passed
    statistical = {f.name for f in report.findings if not f.noise_free}
    assert {"variance_of_increment", "variance_of_H", "mean", "independent"} <= statistical
    assert {"samples_alone", "samples_leave", "repeatable", "answers"}.isdisjoint(statistical)


@pytest.mark.parametrize("times", [TIMES, TIMES[::-1]], ids=["up", "down"])
def test_a_stored_path_passes_at_its_times(times: Any) -> None:
    check_noise(drawn, times=times, shape=SHAPE)
    check_noise(drawn(4), times=times[::2], shape=SHAPE)


def test_a_path_without_areas_is_not_asked_for_them() -> None:
    path = rs.StoredPath.draw(TIMES, SHAPE, rng=0)
    assert check_noise(path, times=TIMES, shape=SHAPE, levy=False)["levy"].passed is None
    assert check_noise(path, times=TIMES, shape=SHAPE)["levy"].passed is None


def test_a_subclass_is_checked_as_itself() -> None:
    class Loud(rs.Gaussian):
        def increment(self, t: Any, s: Any, x: Any) -> Any:
            return 1.5 * super().increment(t, s, x)

    with pytest.raises(CheckError, match="variance"):
        check_noise(Loud)


def test_a_source_that_stops_before_the_last_step_passes_before_it() -> None:
    check_noise(lambda rng: LastMean(rs.Gaussian(rng), 0.005, 0.0))


def test_a_source_is_not_moved_by_its_check() -> None:
    source, x = rs.Gaussian(3), np.zeros((2, 1))
    check_noise(source, shape=(2000, 2))
    assert np.array_equal(source.normal(x), rs.Gaussian(3).normal(x))
    shared = Shared(3)  # whose `on` would hand it out
    check_noise(shared, shape=(2000, 2), on_fail="report")
    assert shared._call == 0 and shared._rows is None


# -- broken ones -----------------------------------------------------------------------------------


class Loud(rs.Gaussian):
    """2 % too loud."""

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return 1.02 * super().increment(t, s, x)

    def on(self, rows: Any) -> Any:
        source = type(self)(key=self.key)
        source._rows, source._call = np.asarray(rows), self._call
        return source


class Unrooted(Loud):
    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return self.normal(x) * abs(s - t)


class Forward(Loud):
    """Knows time that runs up only."""

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return (
            self.normal(x) * (s - t) ** 0.5
            if np.ndim(t)
            else rs.Gaussian.increment(self, t, s, x) * (1.0 if s < t else 0.5)
        )


class Frozen(Loud):
    """The number of the question never moves."""

    increment = rs.Gaussian.increment

    def normal(self, x: Any) -> Any:
        value = super().normal(x)
        self._call -= 1
        return value


class FromTheFront(Loud):
    """Deaf to rows: the samples that remain get the numbers of the first ones."""

    increment = rs.Gaussian.increment

    def _draw(self, x: Any, call: int) -> Any:
        return self._table.normal(np.arange(len(x)), tuple(x.shape[1:]), call)


class Restarting(Loud):
    """Every `on` begins again at the first question."""

    increment = rs.Gaussian.increment

    def on(self, rows: Any) -> Any:
        source = super().on(rows)
        source._call = 0
        return source


class Shared(Loud):
    """`on` returns the source itself."""

    increment = rs.Gaussian.increment

    def on(self, rows: Any) -> Any:
        self._rows = np.asarray(rows)
        return self


class Global(Loud):
    """One generator for all, whatever the seed."""

    increment = rs.Gaussian.increment
    generator = np.random.default_rng(0)

    def _draw(self, x: Any, call: int) -> Any:
        return self.generator.standard_normal(x.shape)


class SeedBlind(Loud):
    increment = rs.Gaussian.increment

    def __init__(self, rng: Any = None, *, key: int | None = None) -> None:
        super().__init__(key=7)


class OneBlock(Loud):
    """Blocks of 5000 samples that all have the key of the first."""

    increment = rs.Gaussian.increment

    def _draw(self, x: Any, call: int) -> Any:
        rows = np.arange(len(x)) if self._rows is None else self._rows
        return self._table.normal(np.arange(5000), tuple(x.shape[1:]), call)[rows % 5000]


class Mirrored(OneBlock):
    """Antithetic samples: the second half is the first with the other sign."""

    def _draw(self, x: Any, call: int) -> Any:
        rows = np.arange(len(x)) if self._rows is None else self._rows
        half = self._table.normal(np.arange(10_000), tuple(x.shape[1:]), call)
        return half[rows % 10_000] * np.where(rows < 10_000, 1, -1).reshape(-1, *[1] * (x.ndim - 1))


class OneCoordinate(Loud):
    """A number a sample, for all of its coordinates."""

    increment = rs.Gaussian.increment

    def _draw(self, x: Any, call: int) -> Any:
        return np.broadcast_to(super()._draw(x[:, :1], call), x.shape).copy()


class Narrow(Loud):
    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return super().increment(t, s, x)[:, :1]


class Wide(Loud):
    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return super().increment(t, s, x).astype(float)


class OneEnd(Loud):
    """The first interval for all samples."""

    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return rs.Gaussian.increment(self, float(np.ravel(t)[-1]), float(np.ravel(s)[-1]), x)


class WideArea(Loud):
    """H of variance h / 3, as without the bridge."""

    increment = rs.Gaussian.increment

    def levy(self, t: Any, s: Any, x: Any) -> Any:
        dw, h = super().levy(t, s, x)
        return dw, 2 * h


class TiedArea(Loud):
    """The integral of the path instead of the area of its bridge."""

    increment = rs.Gaussian.increment

    def levy(self, t: Any, s: Any, x: Any) -> Any:
        dw, h = super().levy(t, s, x)
        return dw, (h * math.sqrt(12) + dw) / math.sqrt(24)


class NoPair(Loud):
    increment = rs.Gaussian.increment

    def levy(self, t: Any, s: Any, x: Any) -> Any:
        return super().levy(t, s, x)[0]


class Lopsided(Loud):
    def increment(self, t: Any, s: Any, x: Any) -> Any:
        return rs.Gaussian.increment(self, t, s, x) + 0.05 * abs(s - t) ** 0.5


MUTANTS: dict[type, tuple[str, str]] = {
    # what fails, words
    Loud: (
        "variance_of_increment",
        r"variance of increment\(.*\) = 0\.\d+, expected .* \+- .*\(statistical\): increments have",
    ),
    Unrooted: ("variance_of_increment", r"increments have variance \|s - t\|"),
    Forward: ("other_direction", r"time may run either way: the variance is \|s - t\|"),
    Frozen: ("independent", "correlation of increment.*independent between questions"),
    FromTheFront: ("samples_alone", r"address draws by the rows that on\(rows\) is given"),
    Restarting: ("samples_leave", "it keeps the number of the question"),
    Shared: ("on_leaves_the_source", "must not move the one it came from"),
    Global: ("repeatable", r"differs in 100.00% of its numbers.*generator of the source's own"),
    SeedBlind: ("seed_matters", "that another seed repeats = 1, expected 0"),
    OneBlock: ("no_repeats", "occur twice.*used again: in another block"),
    Mirrored: ("no_repeats", "or mirrored"),
    OneCoordinate: ("independent", "correlation of neighbouring coordinates of"),
    Narrow: ("answers", r"increment\(1, 0.7\): \(\(20000, 1\), 'float64'\) for x of"),
    Wide: ("answers", r"'float64'\) for x of \(\(20000, 4\), 'float32'\)"),
    OneEnd: ("empty_interval", "largest increment over an empty interval"),
    WideArea: ("variance_of_H", r"variance of H of levy\(.*expected 0.0.*H has \|s - t\| / 12"),
    TiedArea: ("independent", "correlation of dW of levy.* and H of levy"),
    NoPair: ("levy", r"expected a pair \(dW, H\)"),
    Lopsided: ("mean", r"mean of increment\(.*expected 0 \+-.*statistical"),
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_source_is_told_what_is_wrong(mutant: Any) -> None:
    fails, words = MUTANTS[mutant]
    with pytest.raises(CheckError) as caught:
        check_noise(mutant)
    assert re.search(words, str(caught.value)), str(caught.value)
    assert fails in {f.name for f in caught.value.report.failures}


@pytest.mark.parametrize("mutant", [Loud, WideArea, SeedBlind, NoPair, Wide, Global])
def test_one_slip_is_one_failure(mutant: Any) -> None:
    allowed = {MUTANTS[mutant][0]}
    if mutant is Loud:  # seen in every increment
        allowed |= {"variance_of_dW", "other_direction", "own_ends"}
    if mutant is Global:  # follows from it
        allowed |= {"samples_alone", "samples_leave", "on_leaves_the_source"}
    report = check_noise(mutant, on_fail="report")
    assert {f.name for f in report.failures} <= allowed


def test_a_source_without_areas_of_its_own_is_no_failure() -> None:
    class Plain(Loud):
        increment = rs.Gaussian.increment
        levy = None  # type: ignore[assignment]

    assert check_noise(Plain)["levy"].passed is None


def test_own_ends_may_be_left_out() -> None:
    report = check_noise(OneEnd, per_sample=False)
    assert report["own_ends"].passed is None


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: check_noise(3), TypeError, "`make` must be a function of a seed.*got 3"),
    (lambda: check_noise(lambda rng: 3), CheckError, "`make` must return a source.*got 3"),
    (lambda: check_noise(rs.Gaussian, times=[1.0, 0.5]), ValueError, "`times` .* at least four"),
    (lambda: check_noise(rs.Gaussian, times=[0, 1, 0.5, 2]), ValueError, "strictly monotone"),
    (lambda: check_noise(rs.Gaussian, times=[0, 1, 2, np.nan]), ValueError, "`times` must be"),
    (lambda: check_noise(rs.Gaussian, shape=(3, 2)), ValueError, "`shape` must be .* 1000 numbers"),
    (lambda: check_noise(rs.Gaussian, shape=(2000,)), ValueError, "`shape` must be"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
