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
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from refsde._array import one_blas_thread
from refsde.precondition.operators import Preconditioner
from refsde.testing._precondition_case import (
    METHODS,
    PreconditionerCase,
)
from refsde.testing._precondition_compare import (
    Run,
    close,
    norm,
    rows,
    worst,
)
from refsde.testing._precondition_relatives import RELATIVES
from refsde.testing._report import Check, Finding, OnFail, Report, name_of, run_checks

__all__ = ["PRECONDITIONER_CHECKS", "check_preconditioner"]

MATES = 1e-2  # of rtol: what one event's result may differ by in another batch
SINGLE = 1e-3  # relative, of float32
WEIGHTS = ((2.5, -0.75), (1e3, 1.0))  # of superpositions: small ones, and large


def _case(subject: Any) -> PreconditionerCase:
    return subject if isinstance(subject, PreconditionerCase) else PreconditionerCase(subject)


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
                close(case, "float32_agrees", name, value, expected, rtol=SINGLE, note=note)
            )
    note = "a float64 table widens the batch: make tables of z.dtype, or Python floats"
    words = {"what": "dtype for float32", "note": note}
    yield Finding.holds("float32", not wide, ", ".join(wide) or "float32", "float32", **words)
    yield from worst(findings)


# -- linear, event by event ------------------------------------------------------------------------


def _linear(case: PreconditionerCase) -> Iterator[Finding]:
    z, w, findings = case.draws(), case.draws(1), []
    for name in case.offered:
        rtol = case.rtol + case.slack(name)
        for a, b in WEIGHTS:
            found = case.act(name, a * z + b * w)
            parts = a * rows(case, case.act(name, z)), b * rows(case, case.act(name, w))
            size = norm(parts[0]) + norm(parts[1])
            note = f"expected is {a:g} M z + {b:g} M w: no offset, no clipping, no memory of calls"
            words: dict[str, Any] = {"rtol": rtol, "size": size, "note": note}
            what = f"{name}({a:g} z + {b:g} w)"
            findings.append(close(case, "linear", what, found, parts[0] + parts[1], **words))
    yield from worst(findings)


def _batch_independent(case: PreconditionerCase) -> Iterator[Finding]:
    z, findings = case.draws(), []
    note = "an event's result depends on its batch: a mean or roll over all axes, or a table that "
    note += "is aligned with the batch"
    for name in case.offered:
        rtol, whole = MATES * case.rtol + case.slack(name), case.act(name, z)
        alone = np.array([[case.act(name, event) for event in row] for row in z])
        part = np.array([case.act(name, row) for row in z])
        for what, found in ((name, alone), (f"{name} in a batch", part)):
            findings.append(
                close(case, "batch_independent", what, whole, found, rtol=rtol, note=note)
            )
    yield from worst(findings)


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
        *RELATIVES,
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
