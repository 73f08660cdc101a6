r"""Is it the score?  Checks of score(x, t) against the log-density that it is the gradient of.

.. math:: s(x, t) = \nabla_x \log p_t(x), \qquad
          \partial_t \log p_t = -f (d + x\cdot s) + \tfrac12 g^2 (\nabla\cdot s + |s|^2),

the second for data diffused by an SDE dx = f x dt + g dw.  Derivatives are taken by differences
that know how certain they are, so that all numbers are free of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from refsde._types import SDE, Score
from refsde.testing._report import Check, Finding, OnFail, Report, run_checks
from refsde.testing._score_case import Density, ScoreCase

__all__ = ["SCORE_CHECKS", "check_score"]

ALIKE = 1e-2  # of rtol: what one point's score may differ by in another batch
SINGLE = 1e-2  # relative, of float32: near-singular laws cost it five of its seven digits
FAR = 1e6  # how far out, in standard deviations, a score must stay finite
SECOND = 100.0  # of rtol: the diffusion equation has second derivatives


def _case(subject: Any) -> ScoreCase:
    return subject if isinstance(subject, ScoreCase) else ScoreCase(subject)


def _size(v: np.ndarray) -> np.ndarray:
    """Size (1, B) of vectors (k, B): of each one, and of them all where it is near zero."""
    norms = np.linalg.norm(v, axis=0, keepdims=True)
    return np.asarray(norms + np.median(norms) + np.finfo(float).tiny)


def _place(what: str, x: np.ndarray, t: Any) -> Callable[[tuple[int, ...]], str]:
    """Name of an entry whose last index is the sample."""

    def name(i: tuple[int, ...]) -> str:
        row = x[i[-1]].ravel()
        point = ", ".join(f"{v:.4g}" for v in row[:4]) + (", ..." if row.size > 4 else "")
        return f"{what} at x = [{point}], t = {float(t):.6g}"

    return name


def _worst(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -finding.strain)[:1]


def _columns(v: Any) -> np.ndarray:
    """Vectors (B, *D) as columns (d, B), in float64."""
    values = np.asarray(v, dtype=float)
    return values.reshape(len(values), -1).T


def _same(
    case: ScoreCase, name: str, pair: Callable[[np.ndarray, float], Any], rtol: float, note: str
) -> list[Finding]:
    """Compare two computations of the same scores (B, *D) at every time, and keep the worst."""
    findings = []
    for t in case.times:
        x = case.points(t)
        found, expected = (_columns(v) for v in pair(x, t))
        tolerance, where = rtol * _size(expected), _place("score", x, t)
        findings.append(Finding.worst(name, found, expected, tolerance, where, note=note))
    return _worst(findings)


# -- the gradient ----------------------------------------------------------------------------------


def _shapes(case: ScoreCase) -> Iterator[Finding]:
    t = case.times[-1]
    for n in (len(case.points(t)), 1):
        x = case.points(t)[:n]
        for name, fun, right in (("score", case.score, x.shape), ("logpdf", case.logpdf, (n,))):
            value = fun(x.copy(), t)
            got = getattr(value, "shape", None)
            told = f"an array of shape {got}" if got is not None else f"{value!r:.60}"
            note = "one gradient, and one log-density, a sample; the batch comes first"
            what = f"{name} of x of shape {x.shape}"
            yield Finding.holds(
                f"shape_of_{name}", got == right, told, f"{right}", what=what, note=note
            )
            good = got == right and bool(np.all(np.isfinite(np.asarray(value, dtype=float))))
            note = "these points are where the law is: elsewhere nothing would be finite either"
            what = f"{name} at t = {t:.6g}"
            told = "finite" if good else "NaN or inf"
            yield Finding.holds(f"finite_{name}", good, told, "finite", what=what, note=note)


def _gradient(case: ScoreCase) -> Iterator[Finding]:
    findings, doubts, seen = [], [], []
    for t in case.times:
        x = case.points(t)
        slopes, errors = case.along(case.logpdf, x, t)
        found, size = case.dot(case.scores(x, t)), _size(slopes)
        seen.append((t, x, found, slopes))
        name = _place("component of the score", x, t)
        findings.append(Finding.worst("gradient", found, slopes, case.rtol * size, name))
        what = f"relative uncertainty of differences of logpdf at t = {t:.6g}"
        note = "logpdf is too rough for differences: compute it in float64, or raise rtol"
        doubt = float(np.max(errors / size))
        words = {"what": what, "note": note}
        doubts.append(Finding.within("logpdf_is_smooth", doubt, 0.0, case.rtol, **words))
    yield from _worst(doubts)
    for finding in _worst(findings):
        slip = "" if finding.passed else _slip(case, seen)
        yield replace(finding, note=f"{slip}expected is the derivative of logpdf, by differences")


def _slip(case: ScoreCase, seen: Sequence[tuple[float, Any, np.ndarray, np.ndarray]]) -> str:
    """Words for the commonest slips: a factor, or a relative of the score in its place."""

    def near(a: np.ndarray, b: np.ndarray) -> bool:
        return bool(np.all(np.abs(a - b) <= 1e-3 * _size(b)))

    levels = [(1.0, 1.0) if case.sde is None else case.level(t) for t, *_ in seen]
    factors = np.array([np.sum(found * g) / np.sum(g * g) for _, _, found, g in seen])
    if all(near(found, c * g) for c, (_, _, found, g) in zip(factors, seen, strict=True)):
        sigmas = [s for _, s in levels]
        if case.sde is not None and np.allclose(factors, np.negative(sigmas), rtol=1e-3):
            return "it is the predicted noise -sigma score: use refsde.predict.from_prediction: "
        if np.ptp(factors) <= 1e-3 * abs(factors[0]):
            return f"it is {factors[0]:.4g} times the gradient, at all times: "
        told = ", ".join(f"{c:.4g}" for c in factors)
        return f"it points the right way, with {told} times the length at the times checked: "
    denoised = (
        near((a * found - case.dot(x)) / s**2, g)
        for (a, s), (_, x, found, g) in zip(levels, seen, strict=True)
    )
    if case.sde is not None and all(denoised):
        return "it is the denoised mean E[x_0 | x]: use refsde.predict.from_prediction: "
    return ""


# -- one sample is one sample ----------------------------------------------------------------------


def _repeatable(case: ScoreCase) -> Iterator[Finding]:
    note = "the same call gave another answer: no dropout, no generator, no memory of calls"

    def twice(x: np.ndarray, t: float) -> tuple[Any, Any]:
        return case.scores(x, t), case.scores(x, t)

    yield from _same(case, "repeatable", twice, ALIKE * case.rtol, note)


def _batch_independent(case: ScoreCase) -> Iterator[Finding]:
    note = "a sample's score depends on its batch mates, as batch normalisation makes it"

    def alone(x: np.ndarray, t: float) -> tuple[Any, Any]:
        rows = [case.scores(x[i : i + 1], t) for i in range(len(x))]
        return case.scores(x, t), np.concatenate(rows)

    def backwards(x: np.ndarray, t: float) -> tuple[Any, Any]:
        return case.scores(x[::-1], t), case.scores(x, t)[::-1]

    yield from _same(case, "batch_independent", alone, ALIKE * case.rtol, note)
    yield from _same(case, "order_of_rows", backwards, ALIKE * case.rtol, note)


def _inputs_kept(case: ScoreCase) -> Iterator[Finding]:
    kept = case.points(case.times[-1])
    x = kept.copy()
    case.score(x, case.times[-1])
    note = "the score wrote into x, which the solver still needs: return a new array"
    same = np.array_equal(x, kept)
    told = "as it was" if same else "changed"
    yield Finding.holds("inputs_kept", same, told, "as it was", what="x after the call", note=note)


def _own_clocks(case: ScoreCase) -> Iterator[Finding]:
    if not case.per_sample:
        yield Finding.skip("own_clocks", "per_sample=False: one clock for the batch")
        return
    shape = (-1, *[1] * len(case.shape))
    note = "t may be an array (B, 1, ..., 1), one clock a sample: or check with per_sample=False"

    def equal(x: np.ndarray, t: float) -> tuple[Any, Any]:
        return case.scores(x, np.full(len(x), t).reshape(shape)), case.scores(x, t)

    def mixed(x: np.ndarray, t: float) -> tuple[Any, Any]:
        ts = np.resize([t, *case.times], len(x))
        rows = [case.scores(x[i : i + 1], float(u)) for i, u in enumerate(ts)]
        return case.scores(x, ts.reshape(shape)), np.concatenate(rows)

    yield from _same(case, "equal_clocks", equal, ALIKE * case.rtol, note)
    yield from _same(case, "own_clocks", mixed, ALIKE * case.rtol, note)


def _single_precision(case: ScoreCase) -> Iterator[Finding]:
    t = case.times[-1]
    got = getattr(case.score(case.points(t).astype(np.float32), t), "dtype", None)
    note = "a float64 array widens the batch: make constants of x.dtype, or Python floats"
    what = "dtype for float32 points"
    yield Finding.holds("float32", got == np.float32, f"{got}", "float32", what=what, note=note)
    note = "float32 gives another score than float64 at the same points: does something cancel?"

    def rounded(x: np.ndarray, t: float) -> tuple[Any, Any]:
        single = x.astype(np.float32)
        return case.score(single.copy(), t), case.scores(single.astype(float), t)

    yield from _same(case, "float32_agrees", rounded, max(SINGLE, case.rtol), note)


def _far_out(case: ScoreCase) -> Iterator[Finding]:
    findings = []
    for t in case.times:
        x = FAR * case.points(t)
        finite = np.isfinite(_columns(case.score(x, t))).all(axis=0)
        place = _place("score", x, t)((int(np.argmin(finite)),))
        note = "solvers overshoot: work with the log of a density (logsumexp), not with the density"
        told = "finite" if finite.all() else "NaN or inf"
        words = {"what": place, "note": note}
        findings.append(Finding.holds("far_out", finite.all(), told, "finite", **words))
    yield from _worst(findings)


# -- its relatives ---------------------------------------------------------------------------------


def _predictions(case: ScoreCase) -> Iterator[Finding]:
    """Compare as parts of x = alpha x_0 + sigma eps, where nothing is divided."""
    rules = {"eps": "eps = -sigma score", "denoise": "alpha denoise = x + sigma^2 score"}
    offered = [name for name in rules if hasattr(case.score, name)]
    if case.sde is None or not offered:
        reason = "no sde is known" if offered else "the score has neither eps nor denoise"
        yield Finding.skip("predictions", reason)
    for name in offered if case.sde is not None else ():
        findings = []
        for t in case.times:
            x = case.points(t)
            a, s = case.level(t)
            noise = -s * s * _columns(case.scores(x, t))
            given = _columns(getattr(case.score, name)(x.copy(), t))
            pair = (s * given, noise) if name == "eps" else (a * given, _columns(x) - noise)
            tolerance = case.rtol * (_size(pair[1]) + _size(_columns(x)))
            where = _place("sigma eps" if name == "eps" else "alpha denoise", x, t)
            findings.append(Finding.worst(name, *pair, tolerance, where, note=rules[name]))
        yield from _worst(findings)


def _jacobian(case: ScoreCase) -> Iterator[Finding]:
    """Compare jvp and divergence, where offered, with differences of the score."""
    offered = [name for name in ("jvp", "divergence") if hasattr(case.score, name)]
    if not offered or not case.axes:
        reason = "the score has neither jvp nor divergence" if not offered else "d is above 8"
        yield Finding.skip("jacobian", reason)
        return
    findings: dict[str, list[Finding]] = {name: [] for name in offered}
    for t in case.times:
        x = case.points(t)
        J, doubt = case.jacobian(x, t)
        size = np.max(np.abs(J)) + np.finfo(float).tiny
        for name in offered:
            if name == "jvp":
                units = [np.broadcast_to(u.reshape(case.shape), x.shape) for u in case.directions]
                given = [_columns(case.score.jvp(x.copy(), t, u.copy())).T for u in units]
                found, expected = np.array(given).transpose(0, 2, 1), J.transpose(0, 2, 1)
            else:
                found = np.asarray(case.score.divergence(x.copy(), t))
                expected = np.trace(J, axis1=0, axis2=2)
            where, note = _place(name, x, t), "expected is the derivative of the score"
            tolerance = 10 * case.rtol * size + doubt
            findings[name].append(Finding.worst(name, found, expected, tolerance, where, note=note))
    for name in offered:
        yield from _worst(findings[name])


def _diffusion_equation(case: ScoreCase) -> Iterator[Finding]:
    sde = case.sde
    if sde is None or not case.axes:
        reason = "no sde is known" if sde is None else "d is above 8"
        yield Finding.skip("diffusion_equation", reason)
        return
    findings = []
    for t in (t for t in case.times if 0 < t < sde.T):
        x = case.points(t)
        rate, error = case.rate(x, t, 0.99 * min(t, sde.T - t))
        s, y = _columns(case.scores(x, t)), _columns(x)
        J, doubt = case.jacobian(x, t)
        divergence = np.trace(J, axis1=0, axis2=2)
        f, g2 = float(sde.f(t)), float(sde.g2(t))
        moved, spread = -f * (len(y) + np.sum(y * s, 0)), 0.5 * g2 * np.sum(s * s, 0)
        expected = moved + spread + 0.5 * g2 * divergence
        size = np.abs(moved) + spread + 0.5 * g2 * np.abs(divergence)
        tolerance = SECOND * case.rtol * (size + np.median(size)) + error + 0.5 * g2 * doubt
        note = "these are densities of another SDE, or on another clock, than the one given: "
        note += "d log p / dt = -f (d + x.s) + g^2 / 2 (div s + |s|^2)"
        where = _place("d logpdf / dt", x, t)
        finding = Finding.worst("diffusion_equation", rate, expected, tolerance, where, note=note)
        findings.append(finding)
    yield from _worst(findings)


SCORE_CHECKS = tuple(
    Check(run, _case, vital=run is _shapes)
    for run in (
        _shapes,
        _gradient,
        _repeatable,
        _batch_independent,
        _inputs_kept,
        _own_clocks,
        _single_precision,
        _far_out,
        _predictions,
        _jacobian,
        _diffusion_equation,
    )
)


def check_score(
    score: Score,
    logpdf: Density | None = None,
    *,
    sde: SDE | None = None,
    x: ArrayLike | None = None,
    times: Sequence[float] | None = None,
    shape: tuple[int, ...] | None = None,
    rtol: float = 1e-6,
    per_sample: bool = True,
    on_fail: OnFail = "raise",
) -> Report:
    r"""Check a score of your own: that it is the gradient of a log-density, sample by sample.

    .. math:: \mathrm{score}(x, t) = \nabla_x \log p_t(x)

    Parameters
    ----------
    score : callable
        ``score(x, t) -> (B, *D)`` for states ``x`` (B, *D) and a time from 0 (data) to T (noise).
    logpdf : callable, optional
        ``logpdf(x, t) -> (B,)``, log p_t in nats up to a constant; by default ``score.logpdf``.
    sde : SDE, optional
        What diffuses the data, by default ``score.sde``.  With it the predictions ``score.eps`` and
        ``score.denoise`` are compared too, and logpdf with the diffusion equation, which needs its
        constants to be right.
    x : array (B, *D), optional
        Points to compare at; by default draws of p_t where there is a ``score.target``, else
        normals of the size of p_t (of size one where no SDE is known).
    times : sequence of float, optional
        Times to compare at; by default four of the clock of the SDE, or three in (0, 1).
    shape : tuple of int, optional
        Shape of one sample, where neither ``x`` nor a target tells it.
    rtol : float
        How far the score may be off, relative to its size.  For a score in float32, pass 1e-3.
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
    TypeError, ValueError
        If there is no log-density, nothing tells the shape of a sample, or an option is unknown.

    Notes
    -----
    Derivatives are taken by differences of order 6 along all coordinates, or along 8 directions
    where there are more; their own uncertainty is a finding, ``logpdf_is_smooth``.

    References
    ----------
    Song et al. (2020), Score-Based Generative Modeling through SDEs, sections 3 and 4.

    Examples
    --------
    >>> import refsde as rs
    >>> score = rs.GaussianMixture.ring(8).score(rs.VP())
    >>> rs.testing.check_score(score).passed
    True
    """
    words: dict[str, Any] = {"x": x, "times": times, "shape": shape, "rtol": rtol}
    case = ScoreCase(score, logpdf, sde=sde, per_sample=per_sample, **words)
    return run_checks("check_score", score, SCORE_CHECKS, on_fail, case)
