"""Checks of what goes with a map: transpose, gram, inverse, root, determinant, spectrum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from refsde.testing._precondition_case import (
    EPS,
    LARGEST,
    ROUNDED,
    PreconditionerCase,
)
from refsde.testing._precondition_compare import (
    TINY,
    adjoint_of,
    alike,
    close,
    norm,
    rows,
    where_defined,
    worst,
)
from refsde.testing._report import Finding

__all__ = ["RELATIVES"]


@where_defined
def _adjoint(case: PreconditionerCase) -> Iterator[Finding]:
    z, w = case.draws(), case.draws(1)
    pair = case.act("apply", z), case.act("apply_transpose", w)
    note = "expected is <z, M^T w>, with M^T of apply_transpose"
    finding = adjoint_of(case, "adjoint", pair, note)
    if not finding.passed and alike(pair[1], case.act("apply", w)):
        note = f"apply_transpose is apply, and M is not symmetric: {note}"
    yield replace(finding, note=note)


@where_defined
def _gram(case: PreconditionerCase) -> Iterator[Finding]:
    z = case.draws()
    found, expected = case.act("gram", z), case.act("apply", case.act("apply_transpose", z))
    note = "gram is M M^T z; expected is apply(apply_transpose(z))"
    if not alike(found, expected):
        if alike(found, case.act("apply", z)):
            note = f"it is M z, without the square: {note}"
        elif alike(found, case.act("apply_transpose", case.act("apply", z))):
            note = f"it is M^T M z, in the wrong order: {note}"
    yield close(case, "gram", "gram", found, expected, note=note)


def _undoes(
    case: PreconditionerCase, name: str, undo: Callable[[np.ndarray], Any]
) -> Iterator[Finding]:
    """Compare M undo(z) and undo(M z) with z; an ill-conditioned map may lose digits."""
    z, (least, most) = case.draws(), case.extent
    y, Mz = undo(z.copy()), case.act("apply", z)
    ny, nMz = norm(rows(case, y)), norm(rows(case, Mz))
    again, after = case.act("apply", np.asarray(y)), undo(np.array(Mz))
    wrong = alike(y, Mz) and not alike(again, z)
    note = f"{name} applies M instead of undoing it: expected is z" if wrong else "expected is z"
    yield from worst(
        [
            close(case, name, f"M {name}(z)", again, z, size=most * ny, note=note),
            close(case, name, f"{name}(M z)", after, z, size=nMz / least, note=note),
        ]
    )


@where_defined
def _solve(case: PreconditionerCase) -> Iterator[Finding]:
    if case.singular:
        yield Finding.skip("solve", "M is singular")
        return
    yield from _undoes(case, "solve", case.map.solve)


@where_defined
def _inverse(case: PreconditionerCase) -> Iterator[Finding]:
    if case.singular:
        yield Finding.skip("inverse", "M is singular")
        return
    yield from _undoes(case, "inverse", case.map.inverse().apply)
    yield from _inverse_transpose(case)
    yield from _inverse_logdet(case)


@where_defined
def _inverse_transpose(case: PreconditionerCase) -> Iterator[Finding]:
    inverse = case.map.inverse()
    pair = inverse.apply(case.draws()), inverse.apply_transpose(case.draws(1))
    note = "expected is <z, M^-T w>; define solve_transpose, or an inverse of your own"
    yield adjoint_of(case, "inverse_transpose", pair, note, "<M^-1 z, w>")


@where_defined
def _inverse_logdet(case: PreconditionerCase) -> Iterator[Finding]:
    expected = -float(case.map.logdet(case.event))
    found = float(case.map.inverse().logdet(case.event))
    tolerance = case.rtol * (case.size + abs(expected))
    words = {"what": "logdet of the inverse", "note": "expected is that of M with the other sign"}
    yield Finding.within("inverse_logdet", found, expected, tolerance, **words)


@where_defined
def _sqrt(case: PreconditionerCase) -> Iterator[Finding]:
    z, w, D = case.draws(), case.draws(1), case.matrix
    pair = case.act("apply", z), case.act("apply", w)
    if not adjoint_of(case, "symmetric", pair, "").passed:
        yield Finding.skip("sqrt", "M is not symmetric")
        return
    if D is not None:
        values = np.linalg.eigvalsh(0.5 * (D + D.T))
        if values[0] < -ROUNDED * values[-1]:
            yield Finding.skip("sqrt", f"M has a negative eigenvalue, {values[0]:.3g}")
            return
    root = case.map.sqrt()
    found = case.act("apply", case.act("apply", z, root), root)
    yield close(case, "sqrt", "R R z", found, pair[0], note="R is M.sqrt(); expected is M z")
    pair = case.act("apply", z, root), case.act("apply", w, root)
    note = "the root R of a symmetric map is symmetric; expected is <z, R w>"
    yield adjoint_of(case, "sqrt_is_symmetric", pair, note, "<R z, w>")


@where_defined
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


@where_defined
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
        if not alike(found, expected) and alike(found, values):
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

    tolerance = case.rtol * norm(right) + TINY
    note = "expected is spectrum() times that of z: is the table ordered as numpy.fft.fftfreq?"
    yield Finding.worst("basis", got, right, tolerance, where, note=note)


@where_defined
def _linear_operator(case: PreconditionerCase) -> Iterator[Finding]:
    d, operator = case.size, case.map.as_linear_operator(case.event)
    name, note = "linear_operator", "it acts on flattened events, one a column"
    if tuple(operator.shape) != (d, d):
        what, told = "shape of as_linear_operator", f"{tuple(operator.shape)}"
        yield Finding.holds(name, False, told, f"{(d, d)}", what=what, note=note)
        return
    z = case.draws()
    V, expected = rows(case, z), case.act("apply", z)
    ones = np.array([operator.matvec(v.copy()) for v in V])
    findings = [
        close(case, name, "operator @ V", operator.matmat(V.T.copy()).T, expected, note=note),
        close(case, name, "operator @ v", ones, expected, note=note),
    ]
    if not case.missing("apply_transpose"):
        expected, found = case.act("apply_transpose", z), operator.rmatmat(V.T.copy()).T
        findings.append(close(case, name, "operator.T @ V", found, expected, note=note))
    yield from worst(findings)


RELATIVES = (_adjoint, _gram, _solve, _inverse, _sqrt, _logdet, _spectrum, _linear_operator)
