"""The claims page of DEIS says what its script measures; nothing here is random."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import pytest

from tests._claims import Page, by, load, split

PAGE = Page("deis2022")


@pytest.fixture(scope="module")
def script() -> Any:
    return load("deis2022")


def counts(rows: Any, *columns: str) -> list[tuple[int, int]]:
    return [tuple(map(int, row[c].split("/"))) for row in rows for c in columns]  # type: ignore[misc]


def test_every_claim_has_a_row_and_a_command(script: Any) -> None:
    assert list(script.CLAIMS) == [*(f"D{k}" for k in range(1, 21)), "defects", "beyond"]
    for claim in list(script.CLAIMS)[:20]:
        assert PAGE.cells(claim)[-1] == f"`{claim}`" and len(PAGE.cells(claim)) == 6
        assert PAGE.cells(claim)[4].startswith(("confirmed", "corrected", "does not transfer"))


def test_d1_to_d3_freezing(script: Any) -> None:
    rows = script.d1()
    assert counts(rows, "Euler < EI score") == [(19, 20), (20, 20)]
    PAGE.prints("D1", rows[0]["t2, NFE 50: Euler"], rows[0]["EI score "], digits=3)
    rows = script.d2()
    assert counts(rows[:4], "DDIM < EI score, median") == [(0, 20), (19, 20), (10, 10), (10, 10)]
    assert rows[4]["t2, NFE 10: DDIM"] < 1e-14
    PAGE.prints("D2", rows[4]["EI score"])
    tie = [script.cell("ring", row, "edm", 5)[1] for row in ("DDIM", "EI, score")]
    assert tie[0] == pytest.approx(tie[1], rel=1e-3)
    rows = by(script.d3(), "data")
    won = counts(rows.values(), "DDIM < Euler")
    assert won == [(0, 20), (0, 20), (0, 10), (10, 10), (4, 4), *[(0, 4)] * 6]
    for s in ("0.01", "0.03"):
        PAGE.prints(
            "D3", *(rows[f"N(0, {s}^2)"][c] for c in ("DDIM, 10", "t2, 10: Euler")), digits=3
        )


def test_d4_to_d6_degrees(script: Any) -> None:
    assert [row["falls"] for row in script.d4()] == [False, *[True] * 9]
    PAGE.prints("D4", *(script.d4()[0][row] for row in ("tAB2", "tAB3")), digits=3)
    for row in script.d5():
        PAGE.prints("D5", row["tAB3, 10"], row["DDIM, 50"], digits=3)
        PAGE.prints("D5", row["gain at 10"], row["gain at 20"])
    rows = by(script.d6(), "problem", "grid")
    for (name, on), row in rows.items():
        won = sum(w for w, _ in counts([row], "q = 1", "2", "3"))
        assert won == (15 if on != "t1" else 12 if name == "modes" else 1)


def test_d7_to_d9_grids_and_rivals(script: Any) -> None:
    rows = by(script.d7(), "problem", "NFE")
    for nfe in (5, 50):
        row = rows["modes", nfe]
        PAGE.prints("D7", *(row[c] for c in ("tAB3", "rhoHeun", "rhoKutta3", "rhoRK4")))
    rows = by(script.d8(), "problem", "row")
    PAGE.prints("D8", *(rows["modes", "tAB3"][k] for k in ("t1", "t1.5", "t2")), digits=3)
    PAGE.prints("D8", *(row["worst / best"] for (_, m), row in rows.items() if m != "tAB1"))
    for row in script.d8_uniform():
        assert (row["tAB3"] > row["tAB1"]) == (row["NFE"] <= 20)
    for row in script.d9():
        if row["method"] == "tAB3" and row["NFE"] == 20:
            PAGE.prints("D9", row["rms"])
        if row["method"] in ("RK45, 0.01", "RK45, 0.001"):
            PAGE.prints("D9", row["rms"], row["NFE"])


def test_d10_and_d11_one_method(script: Any) -> None:
    for row in script.d10():
        assert max(row[on] for on in script.GRIDS) < 1e-13
    assert all(row["gap"] < 1e-13 for row in script.d11())


def test_d12_to_d15_orders(script: Any) -> None:
    rows = by(script.d12(), "method")
    for row, order in (("iPNDM-2", 2), ("iPNDM-4", 2), ("tAB3", 4)):
        assert abs(rows[row]["slope, 640"] - order) < 0.15
        PAGE.prints("D12", rows[row]["slope, 640"], digits=3)
    for name in script.PROBLEMS:
        ratio = rows["iPNDM-4"][f"{name}, t2, 10"] / rows["tAB3"][f"{name}, t2, 10"]
        PAGE.prints("D12", ratio, digits=3)
    for row, order in zip(script.d13(), (2, 3), strict=True):
        assert abs(row["slope, 1280"] - order) < 0.05
        PAGE.prints("D13", row["slope, 1280"], row["modes, t1"], row["ring, t1"], digits=3)
    rows = by(script.d14(), "method")
    for row, order in (("UniPC-2", 3), ("UniPC-3", 4), ("UniPC-3 eps", 4), ("UniPC-3 lof", 2)):
        assert abs(rows[row]["slope"] - order) < 0.1
        PAGE.prints("D14", rows[row]["slope"], digits=3)
    assert rows["UniPC-3"]["ring, t2, 10"] == pytest.approx(
        rows["UniPC-3 B1"]["ring, t2, 10"], rel=2e-3
    )
    rows = by(script.d15(), "method")
    for row in ("3M exact", "UniPC-3", "DDIM", "UniPC-3 lof"):
        PAGE.prints("D15", rows[row]["modes, t1"], rows[row]["modes, log"])


def test_d16_and_d17_noise(script: Any) -> None:
    rows = by(script.d16(), "method")
    seeds = rows.pop("SEEDS-1")["1"]
    for amount in ("0", "1"):
        errors = [float(row[amount]) for row in rows.values() if row[amount]]
        assert errors == pytest.approx([errors[0]] * len(errors), abs=2e-12)
    ddim, *others = (float(row["0.5"]) for row in rows.values() if row["0.5"])
    assert others == pytest.approx([others[0]] * len(others), abs=2e-12)
    PAGE.prints("D16", ddim, others[0], float(seeds), digits=3)
    rows = by(script.d17(), "method")
    assert all(0.9 < rows[n]["slope, 320"] < 1.15 for n in list(rows)[:5])
    for name in ("SDE++2M", "SDE++2M exact", "SDE++3M", "SDE++3M exact"):
        assert 1.9 < rows[name]["slope, 320"] < 2.2, "the third prediction buys no order"
        PAGE.prints("D17", rows[name]["slope, 160"], digits=3)
    PAGE.prints("D17", *(rows[n]["160"] for n in ("SDE++1 = DDIM(1)", "SDE++2M", "SDE++3M")))


def test_d18_likelihood(script: Any) -> None:
    rows = by(script.d18(), "NFE")
    row = rows["36"]
    PAGE.prints("D18", *(row[c] for c in ("Kutta3, log", "Kutta3, t2", "Heun, log", "RK4, log")))
    PAGE.prints("D18", rows["44, RK45"]["Kutta3, log"])
    for nfe in ("12", "24", "36", "60", "120"):
        best = min(rows[nfe], key=lambda c: math.inf if c == "NFE" else abs(rows[nfe][c]))
        assert best == "Kutta3, log"
    assert abs(rows["44, RK45"]["Kutta3, log"]) < 0.1 * row["Kutta3, log"]


def test_d19_and_d20_ends(script: Any) -> None:
    smooth, point = script.d19()[:2], script.d19()[2:]
    for row in smooth:
        assert 0.8 < -row["tweedie"] / row["none"] < 1.25
        PAGE.prints("D19", row["none"], row["tweedie"], digits=3)
    for row in point:
        assert row["tweedie"] == 0
        assert row["none"] == pytest.approx(script.SDE.sigma(row["t_end"]), rel=1e-9)
    assert all(row["gap"] < 1e-12 for row in script.d20())


def test_defects(script: Any) -> None:
    rows = script.defects()
    section = PAGE.text.split("## Defects of public code")[1].split("## Beyond")[0]
    printed = [split(row) for row in re.findall(r"^\| .*$", section, flags=re.MULTILINE)][2:]
    assert len(rows) == len(printed)
    for row, (_, published, corrected, _) in zip(rows, printed, strict=True):
        for ours, text in ((row["as published"], published), (row["corrected"], corrected)):
            text = text.replace("−", "-").replace("e-4", "e-04")
            if "e-1" not in text:  # rounding
                assert str(ours) == text, row["what"]
    wrong, right = (sum(map(float, rows[2][c].split(", "))) for c in ("as published", "corrected"))
    assert wrong == pytest.approx(right, abs=3e-5), "it is consistent, so that it does converge"


def ratios(kind: str, median: bool = False) -> list[str]:
    """Row of the page's first two tables of ratios."""
    found = re.findall(rf"^\| {re.escape(kind)} \| \d+/\d+ .*$", PAGE.text, flags=re.MULTILINE)
    return split(found[median])[1:]


def agree(row: Any, printed: list[str]) -> bool:
    """Whether a row of ratios is as printed: how many are below 1, and the ends of each range."""
    ours = [v for n in (5, 8, 10, 15) for v in row[f"NFE {n}"].split(" to ")]
    theirs = [v for cell in printed[1:5] for v in cell.split(" to ")]
    near = [float(v) for v in theirs] == pytest.approx([float(v) for v in ours], abs=0.011)
    return printed[0] == row["below 1"] and near


def test_beyond_on_the_two_problems(script: Any) -> None:
    for name in script.PROBLEMS:
        rms, median = script.spread(script.beyond((name,)))
        assert agree(rms, ratios(f"{name}*")) and agree(median, ratios(f"{name}*", True))
        assert ratios(f"{name}*")[5] == rms["best"]


def test_the_command_prints_a_table(
    script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["deis2022.py", "D5"])
    script.main()
    printed = capsys.readouterr().out
    assert "D5" in printed and "gain at 10" in printed and " s\n" in printed
    monkeypatch.setattr(sys, "argv", ["deis2022.py", "D99"])
    with pytest.raises(SystemExit):
        script.main()


@pytest.mark.slow
def test_beyond_on_what_was_held_out(script: Any) -> None:
    for row in script.beyond_summary():
        kind = row["problem"] + ("*" if row["problem"] in script.PROBLEMS else "")
        assert agree(row, ratios(kind, row["error"] == "median")), row


@pytest.mark.slow
def test_beyond_with_another_scale(script: Any) -> None:
    rows = by(script.beyond_scale_summary(), "problem", "scale", "error")
    table = PAGE.text.split("| data | scale |")[1]
    for kind in ("d = 1", "d = 2", "d = 4", "d = 16", "digits"):
        (found,) = re.findall(rf"^\| {kind} \|(.*)\n\| \|(.*)$", table, flags=re.MULTILINE)
        for scale, text in zip((0.7, 1.0), found, strict=True):
            assert agree(rows[kind, scale, "rms"], split(text)[1:]), (kind, scale)
