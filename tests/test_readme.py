"""The README is true: its commands stand there, its examples run, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_two_commands_stand_in_the_readme() -> None:
    assert 'python -m pip install -e ".[all]" && refsde race' in TEXT
    assert 'python -m pip install -e ".[test]" && python -m pytest' in TEXT


def test_the_examples_run_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(EXAMPLES) == 6
    names: dict[str, object] = {}
    for example in EXAMPLES:  # one after the other, as a reader would type them
        exec(compile(example, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "all 10000 samples reached t = 0.001 in 200 steps" in printed
    gap = float(re.search(r"log-density gap (\S+) nats", printed)[1])  # type: ignore[index]
    assert -0.2 < gap < 0.0  # Euler-Maruyama is over-dispersed: a little, at 200 steps
    fast, nfe = re.search(r"log-density gap (\S+) at (\S+) NFE", printed).groups()  # type: ignore[union-attr]
    assert abs(float(fast)) < 0.05 and float(nfe) < 60
    gaps = re.search(r"log-density gaps \[(\S+), (\S+)\]", printed).groups()  # type: ignore[union-attr]
    assert abs(float(gaps[0])) < 0.05  # within ten evaluations
    biased = names["rs"].measure.logpdf_gap(names["biased"].x, names["law"])  # type: ignore[attr-defined]
    assert biased < -0.15, "as published, in the plane"


def test_the_first_example_is_ten_lines() -> None:
    assert len(EXAMPLES[0].strip().splitlines()) <= 11


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / link).exists(), link
