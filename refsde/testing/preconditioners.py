r"""Is it a linear map, with its transpose and all that goes with it?  Checks of preconditioners.

``apply`` is taken at its word, the rest is compared with it:

.. math:: \langle M z, w\rangle = \langle z, M^T w\rangle, \qquad \mathrm{gram} = M M^T, \qquad
          M\,\mathrm{solve}(z) = z, \qquad \mathrm{sqrt}^2 = M, \qquad
          \mathrm{logdet} = \log|\det M|,

and ``spectrum`` with the eigenvalues of M M^T.  All numbers are free of noise.  What a map does not
define is left out, with the reason; a map that depends on the step is checked as it is at one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refsde._array import one_blas_thread
from refsde.precondition.operators import Preconditioner
from refsde.testing._precondition_case import (
    EPS,
    LARGEST,
    METHODS,
    ROUNDED,
    PreconditionerCase,
    reason,
)
from refsde.testing._report import Check, Finding, OnFail, Report, name_of, run_checks

__all__ = ["PRECONDITIONER_CHECKS", "check_preconditioner"]

MATES = 1e-2  # of rtol: what one event's result may differ by in another batch
SINGLE = 1e-3  # relative, of float32
TINY = float(np.finfo(float).tiny)
WEIGHTS = ((2.5, -0.75), (1e3, 1.0))  # of superpositions: small ones, and large

Run = Callable[[PreconditionerCase], Iterator[Finding]]


def _case(subject: Any) -> PreconditionerCase:
    return subject if isinstance(subject, PreconditionerCase) else PreconditionerCase(subject)


def _where_defined(run: Run) -> Run:
    """Leave out what raises NotImplementedError, and say why."""

    @functools.wraps(run)
    def checked(case: PreconditionerCase) -> Iterator[Finding]:
        try:
            yield from run(case)
        except NotImplementedError as missing:
            yield Finding.skip(run.__name__.strip("_"), reason(missing))

    return checked


def _rows(case: PreconditionerCase, v: Any) -> np.ndarray:
    """Events (..., *event) as rows (B, d)."""
    return np.asarray(v, dtype=float).reshape(-1, case.size)


def _norm(v: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(v, axis=-1, keepdims=True))


def _close(
    case: PreconditionerCase,
    name: str,
    what: str,
    found: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    size: Any = 0.0,
    note: str = "",
) -> Finding:
    """Compare events entry by entry, to ``rtol`` of their size and of ``size``."""
    got, right = _rows(case, found), _rows(case, expected)
    tolerance = (case.rtol if rtol is None else rtol) * (_norm(right) + size) + TINY

    def where(i: tuple[int, ...]) -> str:
        place = ", ".join(str(int(k)) for k in np.unravel_index(i[1], case.event))
        return f"{what}, sample {i[0]} at ({place})"

    return Finding.worst(name, got, right, tolerance, where, note=note)


def _worst(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -finding.strain)[:1]


def _alike(a: Any, b: Any) -> bool:
    """Whether two arrays are nearly the same: for words on the commonest slips."""
    return bool(np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-6, atol=1e-9))


def _inner(case: PreconditionerCase, a: Any, b: Any) -> np.ndarray:
    return np.asarray(np.sum(_rows(case, a) * _rows(case, b), axis=1))


def _adjoint_of(
    case: PreconditionerCase, name: str, pair: tuple[Any, Any], note: str, what: str = "<M z, w>"
) -> Finding:
    """Compare <M z, w> with <z, M^T w>, for ``pair`` = (M z, M^T w)."""
    z, w = case.draws(), case.draws(1)
    Mz, Mw = pair
    found, expected = _inner(case, Mz, w), _inner(case, z, Mw)
    sizes = _norm(_rows(case, Mz)) * _norm(_rows(case, w))
    sizes = sizes + _norm(_rows(case, z)) * _norm(_rows(case, Mw))
    tolerance = case.rtol * sizes[:, 0] + TINY
    return Finding.worst(
        name, found, expected, tolerance, lambda i: f"{what}, sample {i[0]}", note=note
    )


# -- what it offers --------------------------------------------------------------------------------


def _protocol(case: PreconditionerCase) -> Iterator[Finding]:
    M = case.map
    if not isinstance(M, Preconditioner):
        what = f"M.at({case.t:g}, {case.s:g})"
        yield Finding.holds("protocol", False, name_of(M), "a Preconditioner", what=what)
        return
    missing = [
        name
        for name in ("apply", "apply_transpose")
        if getattr(getattr(M, name), "__func__", None) is getattr(Preconditioner, name)
    ]
    told = f"without {', '.join(missing)}" if missing else "complete"
    note = "the rest is optional: gram, solve, sqrt, logdet, spectrum"
    whole = "apply and apply_transpose are defined"
    yield Finding.holds("protocol", not missing, told, whole, note=note)


def _shapes(case: PreconditionerCase) -> Iterator[Finding]:
    """Every result has the shape and the dtype of what was given, whatever the batch axes."""
    z = case.draws()
    try:
        case.act("apply", z)
    except Exception as problem:
        if not case.guessed:
            raise
        told, right = f"{type(problem).__name__}: {problem}", f"a result for events {case.event}"
        note = "nothing tells what it takes: declare event_shape on the map, or pass event_shape"
        yield Finding.holds("shape_of_apply", False, told, right, note=note)
        return
    for name in METHODS:
        found = _shapes_of(case, name)
        yield found
        if found.passed is False:
            return


def _shapes_of(case: PreconditionerCase, name: str) -> Finding:
    """Compare with no batch axis, one and two."""
    z, kind = case.draws(), f"shape_of_{name}"
    if name != "apply" and (why := case.missing(name)):
        return Finding.skip(kind, why)
    for given in (z, z[0], z[0, 0]):
        value, right = case.act(name, given), f"float64 {given.shape}"
        told = f"{getattr(value, 'dtype', type(value).__name__)} {getattr(value, 'shape', '')}"
        good = told == right
        if good and not np.all(np.isfinite(value)):
            good, told = False, "NaN or inf"
        note = "batch axes come first, and may be none: act on the last axes alone"
        words = {"what": f"{name} of z of shape {given.shape}", "note": note}
        finding = Finding.holds(kind, good, told, f"{right}, finite", **words)
        if not good:
            break
    return finding


def _step(case: PreconditionerCase) -> Iterator[Finding]:
    """A static map is the same at every step; the map of a step is the same each time."""
    z, step = case.draws(), f"M.at({case.t:g}, {case.s:g})"
    expected = case.act("apply", z)
    words = {"what": step, "note": "a map that depends on the step sets static = False"}
    if case.M.static:
        same = np.array_equal(case.act("apply", z, case.M), expected)
        told = "M itself" if same else "another map, though M.static is True"
        yield Finding.holds("static", same, told, "M itself", **words)
    words["note"] = "the map of a step is a function of t and s alone, and is settled with them"
    again = (M.at(case.t, case.s) for M in (case.M, case.map))
    same = all(np.array_equal(case.act("apply", z, M), expected) for M in again)
    told = "the same map" if same else "another map each time"
    yield Finding.holds("step", same, told, "the same map", **words)


def _inputs_kept(case: PreconditionerCase) -> Iterator[Finding]:
    z, changed = case.draws(), []
    for name in case.offered:
        given = z.copy()
        getattr(case.map, name)(given)
        changed += [] if np.array_equal(given, z) else [name]
    told = f"changed by {', '.join(changed)}" if changed else "as it was"
    words = {"what": "z", "note": "the caller still needs z: return a new array, never z *= gain"}
    yield Finding.holds("inputs_kept", not changed, told, "as it was", **words)


def _single_precision(case: PreconditionerCase) -> Iterator[Finding]:
    z, wide, findings = case.draws().astype(np.float32), [], []
    for name in case.offered:
        value = case.act(name, z)
        got = getattr(value, "dtype", None)
        wide += [] if got == np.float32 else [f"{got} of {name}"]
        if name != "solve":  # whose digits depend on the condition of M
            expected = case.act(name, z.astype(float))
            note = "float32 gives another result than float64: does something cancel?"
            findings.append(
                _close(case, "float32_agrees", name, value, expected, rtol=SINGLE, note=note)
            )
    note = "a float64 table widens the batch: make tables of z.dtype, or Python floats"
    words = {"what": "dtype for float32", "note": note}
    yield Finding.holds("float32", not wide, ", ".join(wide) or "float32", "float32", **words)
    yield from _worst(findings)


# -- linear, event by event ------------------------------------------------------------------------


def _linear(case: PreconditionerCase) -> Iterator[Finding]:
    z, w, findings = case.draws(), case.draws(1), []
    for name in case.offered:
        rtol = case.rtol + case.slack(name)
        for a, b in WEIGHTS:
            found = case.act(name, a * z + b * w)
            parts = a * _rows(case, case.act(name, z)), b * _rows(case, case.act(name, w))
            size = _norm(parts[0]) + _norm(parts[1])
            note = f"expected is {a:g} M z + {b:g} M w: no offset, no clipping, no memory of calls"
            words: dict[str, Any] = {"rtol": rtol, "size": size, "note": note}
            what = f"{name}({a:g} z + {b:g} w)"
            findings.append(_close(case, "linear", what, found, parts[0] + parts[1], **words))
    yield from _worst(findings)


def _batch_independent(case: PreconditionerCase) -> Iterator[Finding]:
    z, findings = case.draws(), []
    note = "an event's result depends on its batch: a mean or roll over all axes, or a table that "
    note += "is aligned with the batch"
    for name in case.offered:
        rtol, whole = MATES * case.rtol + case.slack(name), case.act(name, z)
        alone = np.array([[case.act(name, event) for event in row] for row in z])
        part = np.array([case.act(name, row) for row in z])
        for what, rows in ((name, alone), (f"{name} in a batch", part)):
            findings.append(
                _close(case, "batch_independent", what, whole, rows, rtol=rtol, note=note)
            )
    yield from _worst(findings)


# -- its relatives ---------------------------------------------------------------------------------


@_where_defined
def _adjoint(case: PreconditionerCase) -> Iterator[Finding]:
    z, w = case.draws(), case.draws(1)
    pair = case.act("apply", z), case.act("apply_transpose", w)
    note = "expected is <z, M^T w>, with M^T of apply_transpose"
    finding = _adjoint_of(case, "adjoint", pair, note)
    if not finding.passed and _alike(pair[1], case.act("apply", w)):
        note = f"apply_transpose is apply, and M is not symmetric: {note}"
    yield replace(finding, note=note)


@_where_defined
def _gram(case: PreconditionerCase) -> Iterator[Finding]:
    z = case.draws()
    found, expected = case.act("gram", z), case.act("apply", case.act("apply_transpose", z))
    note = "gram is M M^T z; expected is apply(apply_transpose(z))"
    if not _alike(found, expected):
        if _alike(found, case.act("apply", z)):
            note = f"it is M z, without the square: {note}"
        elif _alike(found, case.act("apply_transpose", case.act("apply", z))):
            note = f"it is M^T M z, in the wrong order: {note}"
    yield _close(case, "gram", "gram", found, expected, note=note)


def _undoes(
    case: PreconditionerCase, name: str, undo: Callable[[np.ndarray], Any]
) -> Iterator[Finding]:
    """Compare M undo(z) and undo(M z) with z; an ill-conditioned map may lose digits."""
    z, (least, most) = case.draws(), case.extent
    y, Mz = undo(z.copy()), case.act("apply", z)
    ny, nMz = _norm(_rows(case, y)), _norm(_rows(case, Mz))
    again, after = case.act("apply", np.asarray(y)), undo(np.array(Mz))
    wrong = _alike(y, Mz) and not _alike(again, z)
    note = f"{name} applies M instead of undoing it: expected is z" if wrong else "expected is z"
    yield from _worst(
        [
            _close(case, name, f"M {name}(z)", again, z, size=most * ny, note=note),
            _close(case, name, f"{name}(M z)", after, z, size=nMz / least, note=note),
        ]
    )


@_where_defined
def _solve(case: PreconditionerCase) -> Iterator[Finding]:
    if case.singular:
        yield Finding.skip("solve", "M is singular")
        return
    yield from _undoes(case, "solve", case.map.solve)


@_where_defined
def _inverse(case: PreconditionerCase) -> Iterator[Finding]:
    if case.singular:
        yield Finding.skip("inverse", "M is singular")
        return
    yield from _undoes(case, "inverse", case.map.inverse().apply)
    yield from _inverse_transpose(case)
    yield from _inverse_logdet(case)


@_where_defined
def _inverse_transpose(case: PreconditionerCase) -> Iterator[Finding]:
    inverse = case.map.inverse()
    pair = inverse.apply(case.draws()), inverse.apply_transpose(case.draws(1))
    note = "expected is <z, M^-T w>; define solve_transpose, or an inverse of your own"
    yield _adjoint_of(case, "inverse_transpose", pair, note, "<M^-1 z, w>")


@_where_defined
def _inverse_logdet(case: PreconditionerCase) -> Iterator[Finding]:
    expected = -float(case.map.logdet(case.event))
    found = float(case.map.inverse().logdet(case.event))
    tolerance = case.rtol * (case.size + abs(expected))
    words = {"what": "logdet of the inverse", "note": "expected is that of M with the other sign"}
    yield Finding.within("inverse_logdet", found, expected, tolerance, **words)


@_where_defined
def _sqrt(case: PreconditionerCase) -> Iterator[Finding]:
    z, w, D = case.draws(), case.draws(1), case.matrix
    pair = case.act("apply", z), case.act("apply", w)
    if not _adjoint_of(case, "symmetric", pair, "").passed:
        yield Finding.skip("sqrt", "M is not symmetric")
        return
    if D is not None:
        values = np.linalg.eigvalsh(0.5 * (D + D.T))
        if values[0] < -ROUNDED * values[-1]:
            yield Finding.skip("sqrt", f"M has a negative eigenvalue, {values[0]:.3g}")
            return
    root = case.map.sqrt()
    found = case.act("apply", case.act("apply", z, root), root)
    yield _close(case, "sqrt", "R R z", found, pair[0], note="R is M.sqrt(); expected is M z")
    pair = case.act("apply", z, root), case.act("apply", w, root)
    note = "the root R of a symmetric map is symmetric; expected is <z, R w>"
    yield _adjoint_of(case, "sqrt_is_symmetric", pair, note, "<R z, w>")


@_where_defined
def _logdet(case: PreconditionerCase) -> Iterator[Finding]:
    found, values, d = float(case.map.logdet(case.event)), case.singular_values, case.size
    if case.map.event_shape == case.event:
        words = {"what": "logdet()", "note": "without an event_shape it is of the map's own"}
        yield Finding.within("logdet_of_own_events", case.map.logdet(), found, 0.0, **words)
    if values is None:
        yield Finding.skip("logdet", f"an event has {d} numbers, above {LARGEST}")
        return
    if case.singular:
        yield Finding.skip("logdet", "M is singular: its determinant is rounding alone")
        return
    expected = float(np.sum(np.log(values)))
    tolerance = case.rtol * (d + abs(expected)) + EPS * d * values[-1] / values[0]
    slips = {
        f"it is 1 / {d} of it, once for all {d} numbers of an event: ": expected / d,
        "it is that of M M^T: ": 2 * expected,
        "it has the wrong sign: ": -expected,
    }
    near = (words for words, slip in slips.items() if abs(found - slip) <= tolerance)
    slip = "" if abs(found - expected) <= tolerance else next(near, "")
    note = f"{slip}expected is log|det M| of the dense matrix, {d} x {d}, in nats"
    what = f"logdet({case.event})"
    yield Finding.within("logdet", found, expected, tolerance, what=what, note=note)


@_where_defined
def _spectrum(case: PreconditionerCase) -> Iterator[Finding]:
    told = case.map.spectrum()
    if told is None:
        yield Finding.skip("spectrum", "spectrum() is None: it is not known")
        return
    u, d, values = np.asarray(told, dtype=float), case.size, case.singular_values
    if u.size == 0 or d % u.size:
        note = f"one eigenvalue a number of the event {case.event}, or a table for its last axes"
        words = {"what": "size of spectrum()", "note": note}
        yield Finding.holds("spectrum", False, f"{u.size}", f"a divisor of {d}", **words)
        return
    if values is None:
        yield Finding.skip("spectrum", f"an event has {d} numbers, above {LARGEST}")
    else:
        found, expected = np.sort(np.tile(u.ravel(), d // u.size)), values**2
        slip = ""
        if not _alike(found, expected) and _alike(found, values):
            slip = "it is of M, not of M M^T: "
        note = f"{slip}expected are the eigenvalues of the dense M M^T"
        tolerance = case.rtol * float(expected[-1]) + TINY
        where = lambda i: f"eigenvalue {i[0]} of {d}, ascending"  # noqa: E731
        yield Finding.worst("spectrum", found, expected, tolerance, where, note=note)
    yield from _basis(case, u)


def _basis(case: PreconditionerCase, u: np.ndarray) -> Iterator[Finding]:
    """M M^T multiplies every coefficient by its eigenvalue."""
    basis = case.map.basis
    if basis is None:
        yield Finding.skip("basis", "M.basis is None")
        return
    if u.ndim and u.shape != case.event[-u.ndim :]:
        note = "where there is a basis, the spectrum is a table over the full grid of coefficients"
        words = {"what": "shape of spectrum()", "note": note}
        last = f"the last axes of {case.event}"
        yield Finding.holds("basis", False, f"{u.shape}", last, **words)
        return
    z = case.draws().reshape(-1, *case.event)
    found, coefficients = basis.forward(case.act("gram", z)), basis.forward(z.copy())
    expected = basis.kept(np.broadcast_to(u, case.event)) * coefficients
    got, right = (
        np.concatenate([v.reshape(len(z), -1).real, v.reshape(len(z), -1).imag], axis=1)
        for v in (found, expected)
    )
    shape, n = expected.shape[1:], expected[0].size

    def where(i: tuple[int, ...]) -> str:
        place = ", ".join(str(int(k)) for k in np.unravel_index(i[1] % n, shape))
        return f"coefficient ({place}) of gram(z), sample {i[0]}"

    tolerance = case.rtol * _norm(right) + TINY
    note = "expected is spectrum() times that of z: is the table ordered as numpy.fft.fftfreq?"
    yield Finding.worst("basis", got, right, tolerance, where, note=note)


@_where_defined
def _linear_operator(case: PreconditionerCase) -> Iterator[Finding]:
    d, operator = case.size, case.map.as_linear_operator(case.event)
    name, note = "linear_operator", "it acts on flattened events, one a column"
    if tuple(operator.shape) != (d, d):
        what, told = "shape of as_linear_operator", f"{tuple(operator.shape)}"
        yield Finding.holds(name, False, told, f"{(d, d)}", what=what, note=note)
        return
    z = case.draws()
    V, expected = _rows(case, z), case.act("apply", z)
    ones = np.array([operator.matvec(v.copy()) for v in V])
    findings = [
        _close(case, name, "operator @ V", operator.matmat(V.T.copy()).T, expected, note=note),
        _close(case, name, "operator @ v", ones, expected, note=note),
    ]
    if not case.missing("apply_transpose"):
        expected, found = case.act("apply_transpose", z), operator.rmatmat(V.T.copy()).T
        findings.append(_close(case, name, "operator.T @ V", found, expected, note=note))
    yield from _worst(findings)


def _on_one_thread(run: Run) -> Run:
    """As the loop runs maps: BLAS waits for its threads far longer than small matrices take."""

    @functools.wraps(run)
    def held(case: PreconditionerCase) -> Iterator[Finding]:
        with one_blas_thread():
            yield from run(case)

    return held


VITAL = (_protocol, _shapes, _linear, _batch_independent)
PRECONDITIONER_CHECKS = tuple(
    Check(_on_one_thread(run), _case, vital=run in VITAL)
    for run in (
        _protocol,
        _shapes,
        _step,
        _inputs_kept,
        _single_precision,
        _linear,
        _batch_independent,
        _adjoint,
        _gram,
        _solve,
        _inverse,
        _sqrt,
        _logdet,
        _spectrum,
        _linear_operator,
    )
)


def check_preconditioner(
    M: Preconditioner,
    event_shape: Sequence[int] | None = None,
    *,
    t: float = 0.6,
    s: float = 0.5,
    rtol: float = 1e-9,
    on_fail: OnFail = "raise",
) -> Report:
    r"""Check a preconditioner of your own: a linear map, its transpose, and all that it offers.

    .. math:: \langle M z, w\rangle = \langle z, M^T w\rangle, \qquad \mathrm{gram} = M M^T

    Parameters
    ----------
    M : Preconditioner
        The map.  ``apply`` is taken at its word, the rest is compared with it; a method that raises
        NotImplementedError is left out.
    event_shape : tuple of int, optional
        Shape of the events to check on; by default the map's own, and (3, 4) of one that takes any.
    t, s : float
        Step from ``t`` to ``s`` whose map ``M.at(t, s)`` is checked.
    rtol : float
        How far results may be off, relative to their size; for a ``solve`` that iterates, its
        tolerance.
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
        If ``M`` is no preconditioner, ``event_shape`` does not fit it, or an option is unknown.

    Notes
    -----
    Determinant and spectrum are compared with the dense matrix, on events of up to 1024 numbers.
    Those of a singular map, and roots of one that is not symmetric, are left out.

    References
    ----------
    Ma et al. (2022), Accelerating Score-based Generative Models with Preconditioned Diffusion
    Sampling, for what such a map is used for.

    Examples
    --------
    >>> import refsde as rs
    >>> M = rs.precondition.Diagonal([1.0, 2.0]) @ rs.precondition.Scalar(3.0)
    >>> rs.testing.check_preconditioner(M)["adjoint"].passed
    True
    """
    case = PreconditionerCase(M, event_shape, t=t, s=s, rtol=rtol)
    return run_checks("check_preconditioner", M, PRECONDITIONER_CHECKS, on_fail, case)
