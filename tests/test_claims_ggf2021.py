"""The claims page on Gotta Go Fast: its script runs, and shows what the page says.

Small versions of the quick claims, at 4.9 standard errors or with a wide margin; the page's own
numbers come from ``python docs/claims/ggf2021.py all``.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "claims" / "ggf2021.md"
Z = 4.9


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ggf2021", PAGE.with_suffix(".py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_claim_has_its_function(claims: ModuleType) -> None:
    named = re.findall(r"^\| (G\d+) \|", PAGE.read_text("utf-8"), flags=re.M)
    assert named == [f"G{i}" for i in range(1, 16)]
    assert all(callable(getattr(claims, name.lower())) for name in named)


def test_the_cost_is_the_papers(claims: ModuleType) -> None:
    for row in claims.g1(tolerances=(0.05,), n=8):
        assert abs(row["NFE"] / row["paper NFE"] - 1) < 0.15
        assert row["rejected %"] < 2


def test_extrapolation_is_free(claims: ModuleType) -> None:
    with_it, without = claims.g4(n=100)
    assert with_it["weak order"] > 1.9 and without["weak order"] < 1.2
    assert abs(with_it["NFE"] / without["NFE"] - 1) < 0.02


def test_a_flipped_sign_is_seen(claims: ModuleType) -> None:
    rows = {row["table"]: row for row in claims.g13()}
    for name in ("SRA2", "SRA3"):
        right, wrong = rows[name], rows[f"{name}, flipped"]
        assert right["beta2 . c1"] == pytest.approx(-1) and wrong["beta2 . c1"] == pytest.approx(1)
        assert right["strong slope"] > 1.4 > 1.1 > wrong["strong slope"]
        assert wrong["strong error"] > 20 * right["strong error"]


def test_mates_move_each_other_on_a_shared_clock(claims: ModuleType) -> None:
    sample, batch = claims.g14()
    assert sample["moved by mates"] == 0 < batch["moved by mates"]
