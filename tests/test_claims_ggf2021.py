"""The claims page of Gotta Go Fast says what its script measures, in small.

Bounds are far wider than chance: nothing here fails for a right solver but once in 10^6 seeds.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import pytest

from tests._claims import Page, load

PAGE = Page("ggf2021")


@pytest.fixture(scope="module")
def script() -> Any:
    return load("ggf2021")


def test_every_claim_has_a_row_and_a_command(script: Any) -> None:
    assert list(script.CLAIMS) == [f"G{k}" for k in range(1, 16)]
    for claim in script.CLAIMS:
        assert PAGE.cells(claim)[-1] == f"`{claim}`" and len(PAGE.cells(claim)) == 6


def test_g1_evaluations_in_3072_dimensions(script: Any) -> None:
    """Steps hardly depend on the noise there: a few samples give the page's number to 2 %."""
    rows = script.g1(tolerances=(0.05,), n=4)
    printed = re.findall(r"\b\d{2,3}\b", PAGE.cells("G1")[3])
    for row, place in zip(rows, (2, 7), strict=True):
        assert row["paper NFE"] in (179, 271)
        assert row["NFE"] == pytest.approx(float(printed[place]), rel=0.02)
        assert row["NFE"] == pytest.approx(row["paper NFE"], rel=0.15)


def test_g2_euler_maruyama_loses_under_vp_and_wins_under_ve(script: Any) -> None:
    factors = {}
    for name, (sde, atol) in script.SDES.items():
        row = script.published(name, 3072, 0.05, 0.1, 4)
        noise = script.rs.Gaussian(script.SEED)
        error = script.frozen_error(sde, 3072, 0.05, script.rs.GGF(0.1, atol), noise=noise)
        factors[name] = script.against_em(sde, 0.05, row, error)["EM NFE / NFE"]
    assert factors["VP"] > 2 and factors["VE"] < 1


def test_g3_rejections_vanish_with_the_dimension(script: Any) -> None:
    share = {(r["SDE"], r["d"], r["rtol"]): r["rejected %"] for r in script.g3((1, 1024), n=4)}
    assert all(s > 40 for (_, d, _), s in share.items() if d == 1)
    assert all(s < 4 for (_, d, _), s in share.items() if d == 1024)


def test_g4_extrapolation_is_free(script: Any) -> None:
    yes, no = script.g4(n=200)
    assert yes["NFE"] == pytest.approx(no["NFE"], rel=0.01)
    assert abs(yes["weak order"] - 2) < 0.15 and abs(no["weak order"] - 1) < 0.15
    assert no["v/V"] > yes["v/V"], "the same noise, so that the difference is no chance"


def test_g11_without_a_score(script: Any) -> None:
    n = 20_000
    rows = script.g11_ramp(n, atols=(0.05,))
    variance = {row["noise"]: row["variance"] for row in rows}
    assert 3 < variance["Gaussian"] < 4
    for noise in ("RetainedPath", "BrownianTree"):
        assert variance[noise] == pytest.approx(124 / 12, rel=5 * math.sqrt(2 / n))


def test_g13_the_flipped_tables(script: Any) -> None:
    for row in script.g13(n=200, finest=10):
        wrong = "flipped" in row["table"]
        assert row["beta2 . c1"] == pytest.approx(1 if wrong else -1)
        assert abs(row["strong slope"] - (1 if wrong else 1.5)) < 0.2
        assert abs(row["weak slope"] - (1 if wrong else 2)) < 0.1


def test_g14_clocks(script: Any) -> None:
    own, shared = script.g14(n=256)
    assert own["moved by mates"] == 0 < shared["moved by mates"]
    assert own["easy"] < own["hard"] < own["NFE max"]
    assert shared["NFE"] < own["NFE"], "a shared clock is cheaper, for it breaks the tolerance"
    assert own["hard steps above tol %"] == 0 and shared["hard steps above tol %"] > 20


def test_g15_is_what_the_page_says(script: Any) -> None:
    """Exact, so the page's numbers are those of the script."""
    rows = {(row["std"], row["N"]): row for row in script.g15()}
    assert all(rows[0.0, n]["tweedie"] == 0 for n in (50, 1000))
    for how, first, last in (("none", "0.13", "0.014"), ("last_mean", "0.082", "0.0045")):
        assert float(f"{rows[0.0, 50][how]:.2g}") == float(first)
        assert float(f"{min(rows[0.0, n][how] for n in (500, 1000)):.2g}") == float(last)
        assert first in PAGE.cells("G15")[3]
    for case in ((0.05, 50), (0.05, 1000), (0.25, 200), (0.25, 500)):
        assert rows[case]["last_mean"] < rows[case]["tweedie"]


def test_the_command_prints_a_table(
    script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(script.CLAIMS, "G5", (lambda: script.g5((16,), 2),))
    monkeypatch.setattr(sys, "argv", ["ggf2021.py", "G5"])
    script.main()
    printed = capsys.readouterr().out
    assert "G5" in printed and "NFE rms" in printed and " s\n" in printed
    monkeypatch.setattr(sys, "argv", ["ggf2021.py", "G99"])
    with pytest.raises(SystemExit):
        script.main()


@pytest.mark.slow
def test_g11_the_bias_of_fresh_noise_stays(script: Any) -> None:
    rows = {(r["rtol"], r["noise"]): r for r in script.g11((1,), levels=3, values=20_000)}
    for rtol in (0.2, 0.05, 0.0125):
        assert rows[rtol, "fresh"]["v/V"] > 2
        kept = rows[rtol, "retained, cap 1.25"]
        assert kept["v/V"] == pytest.approx(1, abs=5 * kept["s.e."] + 0.04)


@pytest.mark.slow
def test_g8_it_is_the_estimate_that_is_slow(script: Any) -> None:
    nfe = {(r["solver"], r["error by"], r["tol"]): r["NFE"] for r in script.g8(n=8)}
    for solver in ("SRA3", "SOSRA"):
        assert nfe[solver, "sum", 0.01] > 6000 > 2000 > nfe[solver, "sum", 0.06]
        assert nfe[solver, "difference", 0.01] < 600
