r"""Is it Brownian noise, sample by sample?  Checks of noise sources.

A source answers ``increment(t, s, x)`` with w(s) - w(t) of a Brownian motion, for s < t as well:

.. math:: \mathrm{increment} \sim N(0, |s - t|), \qquad H \sim N(0, |s - t| / 12), \qquad
          \mathrm{normal} \sim N(0, 1),

all independent, and what sample i is given depends on the seed and on i alone.  That, shapes and
repetition are checked bit for bit, free of noise.  Moments are statistical: a right source fails
one of them with probability 1e-9, once and for all, because the seed is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from refsde._types import Noise
from refsde.testing._noise_case import SEED, NoiseCase
from refsde.testing._report import Check, Finding, OnFail, Report, run_checks

__all__ = ["NOISE_CHECKS", "check_noise"]

Z = 6.1094  # standard errors: two-sided rate 1e-9
REPEATS = 1e-3  # share of numbers that may agree by chance to 1e-11


def _case(subject: Any) -> NoiseCase:
    return subject if isinstance(subject, NoiseCase) else NoiseCase(subject)


class _Answers(list[tuple[str, np.ndarray, float]]):
    """What was asked, the answer, and the standard deviation that it should have."""

    def normals(self) -> list[tuple[str, np.ndarray]]:
        return [(what, answer / std) for what, answer, std in self]


def _ask(case: NoiseCase, source: Any, x: np.ndarray) -> _Answers:
    """Every kind of question, in the order in which a solver asks: step by step."""
    answers = _Answers()
    for t, s in case.steps():
        step, span = f"({t:.4g}, {s:.4g})", abs(s - t)
        answers.append((f"increment{step}", np.array(source.increment(t, s, x)), math.sqrt(span)))
        answers.append(("normal", np.array(source.normal(x)), 1.0))
    return answers


def _ask_levy(case: NoiseCase, source: Any, x: np.ndarray) -> _Answers:
    answers = _Answers()
    for t, s in case.steps():
        dw, h = source.levy(t, s, x)
        step, span = f"({t:.4g}, {s:.4g})", abs(s - t)
        answers.append((f"dW of levy{step}", np.array(dw), math.sqrt(span)))
        answers.append((f"H of levy{step}", np.array(h), math.sqrt(span / 12)))
    return answers


def _kinds(case: NoiseCase) -> list[Callable[[NoiseCase, Any, np.ndarray], _Answers]]:
    return [_ask, _ask_levy] if case.offers_levy() else [_ask]


# -- bit for bit -----------------------------------------------------------------------------------


def _levy(case: NoiseCase) -> Iterator[Finding]:
    """Areas come with their increments."""
    if not case.offers_levy():
        reason = "levy=False" if not case.levy else "the source has no levy(t, s, x)"
        yield Finding.skip("levy", f"{reason}: only methods of strong order 1.5 ask for areas")
        return
    answers = case.all().levy(*case.steps()[0], case.zeros())
    good = isinstance(answers, tuple) and len(answers) == 2
    told = "a pair" if good else f"{type(answers).__name__}"
    note = "levy(t, s, x) returns (dW, H): the increment and the mean of the bridge over the step"
    yield Finding.holds("levy", good, told, "a pair (dW, H)", note=note)


def _answers(case: NoiseCase) -> Iterator[Finding]:
    """Every answer has the shape and the dtype of the batch, and is finite."""
    batches = [case.zeros(), case.zeros().astype(np.float32)]
    if case.any_shape:
        batches.append(np.zeros((case.shape[0], 2, 3)))
    wrong: list[str] = []
    for x in batches:
        for ask in _kinds(case):
            for what, answer, _ in ask(case, case.all(), x):
                got = (answer.shape, answer.dtype.name)
                if got != (x.shape, x.dtype.name) or not np.all(np.isfinite(answer)):
                    told = f"{got}" if np.all(np.isfinite(answer)) else "NaN or inf"
                    wrong.append(f"{what}: {told} for x of {(x.shape, x.dtype.name)}")
    note = "answers are shaped, typed and placed like x"
    told = wrong[0] if wrong else "all are"
    yield Finding.holds("answers", not wrong, told, "shape and dtype of x, finite", note=note)


def _difference(a: _Answers, b: _Answers, rows: Any = slice(None)) -> str:
    """The first question to which ``a`` and the samples ``rows`` of ``b`` differ; empty if none."""
    for (what, found, _), (_, whole, _) in zip(a, b, strict=True):
        if not np.array_equal(found, whole[rows]):
            share = np.mean(found != whole[rows]) if found.shape == whole[rows].shape else 1.0
            return f"{what} differs in {share:.2%} of its numbers"
    return ""


def _repeatable(case: NoiseCase) -> Iterator[Finding]:
    x = case.zeros()
    for ask in _kinds(case):
        first, again = (ask(case, case.all(), x) for _ in range(2))
        told = _difference(first, again)
        note = "equal seeds give equal numbers: draw from a generator of the source's own alone"
        yield Finding.holds("repeatable", not told, told or "equal", "the same again", note=note)
    if case.is_factory:
        mine, other = (_ask(case, case.all(seed), x) for seed in (SEED, SEED + 1))
        shared = np.mean([np.mean(a[1] == b[1]) for a, b in zip(mine, other, strict=True)])
        note = "the seed is not used, or not everywhere"
        what = "share of numbers that another seed repeats"
        yield Finding.within("seed_matters", float(shared), 0.0, REPEATS, what=what, note=note)


def _samples_alone(case: NoiseCase) -> Iterator[Finding]:
    """Sample i is given the same numbers whoever else is there, and whoever leaves."""
    n = case.shape[0]
    note = "sample i depends on (rng, i) alone: address draws by the rows that on(rows) is given"
    for ask in _kinds(case):
        whole = ask(case, case.all(), case.zeros())
        for rows in (np.arange(7), np.arange(n // 3, n, 5), np.array([1, n - 1])):
            part = ask(case, case.make().on(rows), case.zeros(len(rows)))
            told = _difference(part, whole, rows)
            words = f"{told} for {len(rows)} of {n} samples" if told else "the same numbers"
            yield Finding.holds(
                "samples_alone", not told, words, "what they get in the whole", note=note
            )
            if told:
                break
    # as the loop has it: samples leave after the first step
    rows, source = np.arange(0, n, 3), case.all()
    (t, s), (t2, s2), *_ = case.steps()
    together = case.all()
    for asked in (source, together):
        asked.increment(t, s, case.zeros())
    part = source.on(rows)
    found = np.array(part.increment(t2, s2, case.zeros(len(rows))))
    expected = np.array(together.increment(t2, s2, case.zeros()))[rows]
    same = np.array_equal(found, expected)
    note = "on(rows) in mid-run goes on where the source is: it keeps the number of the question"
    told = "the same numbers" if same else "other numbers"
    yield Finding.holds("samples_leave", same, told, "the numbers they had coming", note=note)
    note = "on(rows) returns another source; asking it must not move the one it came from"
    try:
        same = np.array_equal(np.array(source.increment(t2, s2, case.zeros()))[rows], expected)
        told = "as it was" if same else "moved on"
    except Exception as problem:
        same, told = False, f"{type(problem).__name__}: {problem}"
    yield Finding.holds("on_leaves_the_source", same, told, "as it was", note=note)


def _own_ends(case: NoiseCase) -> Iterator[Finding]:
    """Ends (B, 1, ..., 1): the right variance for each sample, and zero for an empty interval."""
    if not case.per_sample:
        yield Finding.skip("own_ends", "per_sample=False: one clock for the batch")
        return
    x, shape = case.zeros(), (-1, *[1] * (len(case.shape) - 1))
    i = np.arange(len(x)) % (len(case.times) - 1)
    t = np.array(case.times)[i].reshape(shape)
    s = np.where(i == 0, np.array(case.times)[i], np.array(case.times)[-1]).reshape(shape)
    dw = np.array(case.all().increment(t, s, x))
    note = "t and s may be arrays (B, 1, ..., 1); the variance is |s - t| sample by sample"
    empty = float(np.max(np.abs(dw[i == 0])))
    what = "largest increment over an empty interval"
    yield Finding.within("empty_interval", empty, 0.0, 0.0, what=what, note=note)
    scaled = (dw / np.sqrt(np.abs(s - t) + (s == t)))[i > 0]
    yield _variance("own_ends", "increment with own ends / sqrt|s - t|", scaled, 1.0, note)


# -- moments ---------------------------------------------------------------------------------------


def _variance(name: str, what: str, values: np.ndarray, expected: float, note: str) -> Finding:
    """Variance about zero, to `Z` standard errors of a Gaussian's."""
    found, tolerance = float(np.mean(values**2)), Z * expected * math.sqrt(2 / values.size)
    words: dict[str, Any] = {"what": f"variance of {what}", "noise_free": False, "note": note}
    return Finding.within(name, found, expected, tolerance, **words)


def _moments(case: NoiseCase) -> Iterator[Finding]:
    x = case.zeros()
    for ask in _kinds(case):
        means, variances = [], []
        for what, answer, std in ask(case, case.all(), x):
            note = "increments have variance |s - t|, H has |s - t| / 12, normals have 1"
            kind = f"variance_of_{what.split('(')[0].replace(' of levy', '')}"
            variances.append(_variance(kind, what, answer, std**2, note))
            words: dict[str, Any] = {"what": f"mean of {what}", "noise_free": False}
            tolerance = Z * std / math.sqrt(answer.size)
            means.append(Finding.within("mean", float(answer.mean()), 0.0, tolerance, **words))
        for kind in dict.fromkeys(f.name for f in variances):
            yield max((f for f in variances if f.name == kind), key=lambda f: f.strain)
        yield max(means, key=lambda f: f.strain)
        back = [(s, t) for t, s in reversed(case.steps())]
        source = case.all()
        spans = [math.sqrt(abs(s - t)) for t, s in back]
        scaled = [
            np.array(source.increment(t, s, x)) / span
            for (t, s), span in zip(back, spans, strict=True)
        ]
    note = "time may run either way: the variance is |s - t|, not s - t"
    yield _variance("other_direction", "increments / sqrt|s - t|", np.array(scaled), 1.0, note)


def _independent(case: NoiseCase) -> Iterator[Finding]:
    """Correlations of all questions, neighbouring samples and neighbouring coordinates."""
    x = case.zeros()
    note = "draws are independent between questions, samples and coordinates"
    for ask in _kinds(case):
        normals = ask(case, case.all(), x).normals()
        pairs = []
        for j, (what, u) in enumerate(normals):
            pairs += [(f"{other} and {what}", v, u) for other, v in normals[:j]]
            pairs.append((f"neighbouring samples of {what}", u[1:], u[:-1]))
            if u[0].size > 1:
                flat = u.reshape(len(u), -1)
                pairs.append((f"neighbouring coordinates of {what}", flat[:, 1:], flat[:, :-1]))
        findings = []
        for what, u, v in pairs:
            words: dict[str, Any] = {"what": f"correlation of {what}", "noise_free": False}
            size = math.sqrt(np.mean(u * u) * np.mean(v * v)) or 1.0
            found, tolerance = float(np.mean(u * v)) / size, Z / math.sqrt(u.size)
            words["note"] = note
            findings.append(Finding.within("independent", found, 0.0, tolerance, **words))
        yield max(findings, key=lambda f: f.strain)
        every = np.abs(np.concatenate([u.ravel() for _, u in normals]))
        repeats = 1 - len(np.unique(np.round(every, 11))) / every.size
        what = "share of numbers that occur twice, but for a sign"
        note_twice = "numbers are used again: in another block, for another question, or mirrored"
        yield Finding.within("no_repeats", repeats, 0.0, REPEATS, what=what, note=note_twice)


NOISE_CHECKS = tuple(
    Check(run, _case, vital=run in (_levy, _answers))
    for run in (_levy, _answers, _repeatable, _samples_alone, _moments, _independent, _own_ends)
)


def check_noise(
    make: Callable[[Any], Noise] | Noise,
    *,
    times: Sequence[float] | None = None,
    shape: tuple[int, ...] | None = None,
    levy: bool = True,
    per_sample: bool = True,
    on_fail: OnFail = "raise",
) -> Report:
    r"""Check a noise source of your own: Brownian increments, addressed sample by sample.

    .. math:: w_s - w_t \sim N(0, |s - t|\, I)

    Parameters
    ----------
    make : callable or Noise
        ``make(seed) -> source``, such as the class of a source; or a source itself, which is copied
        and not changed, and whose dependence on a seed is not checked.
    times : sequence of float, optional
        Times at which the source is asked, monotone, at least four; by default six from 1 to 0.01.
        A stored path can be asked at its own times only.
    shape : (B, *D), optional
        Shape of the batch; by default (20000, 4), and an event of two axes.  Of a stored path, give
        the shape that it holds.
    levy : bool
        Whether to check space-time Levy areas if the source offers them.
    per_sample : bool
        Whether ends (B, 1, ..., 1), one interval a sample, are tried too.
    on_fail : {"raise", "report"}
        "raise" raises `CheckError` if anything failed, "report" only tells of it.

    Returns
    -------
    Report
        Every comparison.  Statistical ones say so: each fails a right source with probability 1e-9,
        and gives the same verdict on every run.

    Raises
    ------
    CheckError
        If a comparison failed and ``on_fail="raise"``.
    TypeError, ValueError
        If ``make`` neither is nor makes a source, or an option is none of those there are.

    Notes
    -----
    A variance off by 2 % is seen with the default shape; how far it may be off is in the report.

    References
    ----------
    Kloeden and Platen (1992), Numerical Solution of Stochastic Differential Equations, section 1.8;
    Foster, Lyons and Oberhauser (2020), on the space-time Levy area.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.testing.check_noise(rs.Gaussian, shape=(4000, 2)).passed
    True
    """
    case = NoiseCase(make, times=times, shape=shape, levy=levy, per_sample=per_sample)
    return run_checks("check_noise", make, NOISE_CHECKS, on_fail, case)
