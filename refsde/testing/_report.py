"""What a check found, in words that a stranger can act on.

A `Finding` is one comparison: what was measured, what was expected, and whether the number is free
of noise.  A `Report` holds the findings about one subject.  A `Check` makes findings.
"""

from __future__ import annotations

import html
import math
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Check", "CheckError", "Finding", "OnFail", "Report", "name_of", "run_checks"]

OnFail = Literal["raise", "report"]
LONGEST_NAME = 100  # of a subject, in reports and in the ids of tests


class CheckError(AssertionError):
    """A check failed; the message holds the findings that say why.

    Attributes
    ----------
    report : Report
        All findings, also those that passed.

    Examples
    --------
    >>> import refsde as rs
    >>> issubclass(rs.testing.CheckError, AssertionError)
    True
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report.message)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


@dataclass(frozen=True)
class Finding:
    """One comparison: what was measured and what was expected.

    Attributes
    ----------
    name : str
        What is judged, in snake case.
    passed : bool or None
        The verdict; None if the comparison was left out.
    what : str
        The quantity that was measured, such as ``"f(0.3)"``.
    measured, expected : float or str
        Its value, and the value of a right object.
    tolerance : float or None
        How far they may be apart; None if they are not numbers.
    noise_free : bool
        Whether the measured number repeats whatever the seed: no part of it is chance.
    note : str
        What the rule is and how to mend a failure; of a finding left out, the reason.

    Examples
    --------
    >>> import refsde as rs
    >>> print(rs.testing.Finding.within("order", 0.52, 1.0, 0.02, note="is the noise scaled?"))
    order: measured 0.52, expected 1 +- 0.02 (free of noise): is the noise scaled?
    """

    name: str
    passed: bool | None
    what: str = ""
    measured: float | str = ""
    expected: float | str = ""
    tolerance: float | None = None
    noise_free: bool = True
    note: str = ""

    @classmethod
    def within(
        cls, name: str, measured: float, expected: float, tolerance: float, **words: Any
    ) -> Self:
        """Judge whether two numbers are at most ``tolerance`` apart; NaN fails.

        Parameters
        ----------
        name : str
            What is judged.
        measured, expected, tolerance : float
            The numbers.
        **words
            ``what``, ``noise_free`` and ``note``.
        """
        gap = abs(float(measured) - float(expected))
        near = gap <= tolerance or measured == expected  # the second: both infinite
        return cls(name, bool(near), measured=float(measured), expected=float(expected),
                   tolerance=float(tolerance), **words)  # fmt: skip

    @classmethod
    def worst(
        cls,
        name: str,
        measured: ArrayLike,
        expected: ArrayLike,
        tolerance: ArrayLike,
        where: Callable[[tuple[int, ...]], str],
        **words: Any,
    ) -> Self:
        """Judge arrays entry by entry, and tell of the entry that is furthest off.

        Parameters
        ----------
        name : str
            What is judged.
        measured, expected, tolerance : arrays of shapes that broadcast
            The numbers.
        where : callable
            Turns an index of the arrays into the name of the quantity.
        **words
            ``noise_free`` and ``note``.
        """
        m, e, tol = np.broadcast_arrays(
            *(np.asarray(v, dtype=float) for v in (measured, expected, tolerance))
        )
        with np.errstate(all="ignore"):
            off = np.where(m == e, 0.0, np.abs(m - e) / tol)
        off = np.where(np.isnan(off), np.inf, off)
        i = tuple(int(k) for k in np.unravel_index(int(np.argmax(off)), off.shape))
        return cls.within(name, m[i], e[i], tol[i], what=where(i), **words)

    @classmethod
    def holds(cls, name: str, passed: Any, measured: str, expected: str, **words: Any) -> Self:
        """Judge a statement that is true or false."""
        return cls(name, bool(passed), measured=measured, expected=expected, **words)

    @classmethod
    def skip(cls, name: str, reason: str) -> Self:
        """Leave a comparison out, and say why."""
        return cls(name, None, note=reason)

    @property
    def status(self) -> str:
        """One word: "passed", "FAILED" or "skipped"."""
        return "skipped" if self.passed is None else "passed" if self.passed else "FAILED"

    @property
    def strain(self) -> float:
        """How far off, in tolerances: at most 1 if it passed; ``inf`` or 0 of what is no number."""
        if isinstance(self.measured, str) or isinstance(self.expected, str) or not self.tolerance:
            return math.inf if self.passed is False else 0.0
        if self.measured == self.expected:  # also both infinite
            return 0.0
        gap = abs(self.measured - self.expected) / self.tolerance
        return math.inf if math.isnan(gap) else gap

    @property
    def chance(self) -> str:
        """Whether chance is in the number, in words."""
        return "free of noise" if self.noise_free else "statistical"

    def cells(self) -> tuple[str, str, str, str]:
        """Name, measured, expected and chance, as a table shows them."""
        if self.passed is None:
            return self.name, "", "", self.note
        of = f"{self.what} = " if self.what else ""
        band = "" if self.tolerance is None else f" +- {self.tolerance:.3g}"
        digits = _digits(self.measured, self.expected)
        return (
            self.name,
            of + _number(self.measured, digits),
            _number(self.expected, digits) + band,
            self.chance,
        )

    def __str__(self) -> str:
        name, measured, expected, chance = self.cells()
        if self.passed is None:
            return f"{name}: left out, {self.note}"
        note = f": {self.note}" if self.note else ""
        return f"{name}: measured {measured}, expected {expected} ({chance}){note}"


def _digits(a: float | str, b: float | str) -> int:
    """How many digits tell two numbers apart, from 6 to 16."""
    if isinstance(a, str) or isinstance(b, str) or a == b:
        return 6
    size, gap = max(abs(a), abs(b)), abs(a - b)
    if not (math.isfinite(size) and gap > 0):
        return 6
    return min(16, max(6, 2 + math.ceil(math.log10(size / gap))))


def _number(value: float | str, digits: int) -> str:
    return value if isinstance(value, str) else f"{value:.{digits}g}"


@dataclass(frozen=True, repr=False)
class Report:
    """The findings about one subject.

    Attributes
    ----------
    check : str
        What was run, such as ``"check_sde"``.
    subject : str
        What it was run on.
    findings : tuple of Finding
        In the order in which they were made.

    Examples
    --------
    >>> import refsde as rs
    >>> report = rs.testing.check_sde(rs.VP())
    >>> report.passed, len(report.failures)
    (True, 0)
    """

    check: str
    subject: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no finding failed; findings left out do not count."""
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(f for f in self.findings if f.passed is False)

    @property
    def message(self) -> str:
        """The failed findings, one a line, under a line that counts them."""
        return "\n".join([self._summary(), *(f"  {f}" for f in self.failures)])

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of this name; of several, the first that failed."""
        named = [f for f in self.findings if f.name == name]
        if not named:
            known = sorted({f.name for f in self.findings})
            raise KeyError(f"`name` must be among {known}, got {name!r}")
        return next((f for f in named if f.passed is False), named[0])

    def raise_for_failures(self) -> None:
        """Raise `CheckError` if a finding failed; its message holds those that did."""
        if not self.passed:
            raise CheckError(self)

    def __repr__(self) -> str:
        return f"Report({self._summary()})"

    def _summary(self) -> str:
        count = {word: 0 for word in ("passed", "FAILED", "skipped")}
        for finding in self.findings:
            count[finding.status] += 1
        numbers = [f"{n} {word}" for word, n in count.items() if n]
        return f"{self.check} of {self.subject}: {', '.join(numbers) or 'nothing to check'}"

    def __str__(self) -> str:
        rows = [(f.status, *f.cells()) for f in self.findings]
        widths = [max((len(row[j]) for row in rows), default=0) for j in range(4)]
        lines = [self._summary()]
        for finding, row in zip(self.findings, rows, strict=True):
            padded = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
            lines.append("  ".join(["", *padded, row[4]]).rstrip())
            if finding.passed is False and finding.note:
                lines.append(f"          {finding.note}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = ("", "what", "measured", "expected", "chance")
        lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
        for finding in self.findings:
            row = [finding.status, *finding.cells()]
            if finding.passed is False and finding.note:
                row[-1] += f": {finding.note}"
            cells = "".join(f'<td style="text-align:left">{html.escape(c)}</td>' for c in row)
            lines.append(f"<tr>{cells}</tr>")
        caption = f"<caption>{html.escape(self._summary())}</caption>"
        return f"<table>{caption}{''.join(lines)}</table>"


@dataclass(frozen=True)
class Check:
    """One named check: call it with a subject, and it raises `CheckError` if the subject fails.

    Attributes
    ----------
    run : callable
        ``run(case) -> findings``, a generator; its name names the check.
    prepare : callable
        Makes the case of a subject: its points, its times.  A case stays as it is.
    vital : bool
        Whether the checks after it have no meaning if it fails.

    Examples
    --------
    >>> import refsde as rs
    >>> check = rs.testing.checks_of(rs.VP())[0]
    >>> check.name, check(rs.VP())
    ('protocol', None)
    """

    run: Callable[[Any], Iterable[Finding]] = field(repr=False)
    prepare: Callable[[Any], Any] = field(default=lambda subject: subject, repr=False)
    vital: bool = False

    def __repr__(self) -> str:
        return f"Check({self.name})"

    @property
    def name(self) -> str:
        """Name of the check, in snake case."""
        return str(getattr(self.run, "__name__", self.run)).strip("_")

    def findings(self, case: Any) -> list[Finding]:
        """Run on a prepared case; an exception of the subject's is a finding too."""
        found: list[Finding] = []
        try:
            with np.errstate(all="ignore"):  # what is not finite is judged, not warned of
                for finding in self.run(case):  # one by one: those before an exception are kept
                    found.append(finding)
        except Exception as problem:
            found.append(_raised(self.name, problem))
        return found

    def __call__(self, subject: Any) -> None:
        """Run on ``subject``; return nothing, or raise `CheckError`."""
        run_checks(self.name, subject, (self,), "raise")


def _raised(name: str, problem: Exception) -> Finding:
    frames = traceback.extract_tb(problem.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    text = f"{type(problem).__name__}: {problem}{place}"
    return Finding.holds(name, False, text, "no exception")


def run_checks(
    title: str, subject: Any, checks: Sequence[Check], on_fail: OnFail, case: Any = None
) -> Report:
    """Run a table of checks on ``subject`` and report.

    Parameters
    ----------
    title : str
        What the report calls the run, such as ``"check_sde"``.
    subject : object
        What is checked.
    checks : sequence of Check
        The table.
    on_fail : {"raise", "report"}
        What follows from a failure: `CheckError`, or nothing but the report.
    case : object, optional
        The prepared subject; by default each check prepares it.

    Returns
    -------
    Report
    """
    if on_fail not in ("raise", "report"):
        raise ValueError(f"`on_fail` must be 'raise' or 'report', got {on_fail!r}")
    findings: list[Finding] = []
    for i, check in enumerate(checks):
        found = check.findings(check.prepare(subject) if case is None else case)
        findings += found
        if check.vital and any(f.passed is False for f in found):
            reason = f"{check.name} failed, on which it builds"
            findings += [Finding.skip(later.name, reason) for later in checks[i + 1 :]]
            break
    report = Report(title, name_of(subject), tuple(findings))
    if on_fail == "raise":
        report.raise_for_failures()
    return report


def name_of(subject: Any) -> str:
    """A short name of an object: its repr if that is short and the same on every run."""
    if isinstance(subject, type) or hasattr(subject, "__name__"):
        return str(subject.__name__)
    text = repr(subject)
    if len(text) <= LONGEST_NAME and "\n" not in text and " at 0x" not in text:
        return text
    return type(subject).__name__
