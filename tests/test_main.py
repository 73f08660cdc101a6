"""The command line, as a newcomer uses it: small races, files, and his mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import refsde as rs
from refsde import field_race, orders, race
from refsde.__main__ import main

SMALL = ["--solvers", "em,heun,rk45", "--nfe", "20,50", "-n", "300", "--workers", "1"]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("target", ["ring", "digits"])
def test_race_prints_a_table_and_writes_its_files(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "out", tmp_path / "race.json"
    assert run("race", "--target", target, *SMALL, "--out", out, "--json", file) == 0
    printed = capsys.readouterr().out
    assert "exact draws" in printed and "-- budget 20" in printed and "log-density gap" in printed
    for name in ("race.png", "samples.png"):
        assert (out / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    data = json.loads(file.read_text())
    assert {r["solver"] for r in data["records"]} == {"em", "heun", "rk45"}
    assert all(r["nfe"] <= r["budget"] + 6 for r in data["records"])  # a step of RK45 costs 6
    assert set(data["floors"]) >= {"log_density_gap", "dispersion", "mode_weights", "flow_rms"}
    assert all("flow_rms" not in r["values"] for r in data["records"] if r["solver"] == "em")


@pytest.mark.parametrize("sde", ["vp", "subvp", "ve", "edm", "cosine"])
def test_every_sde_races_with_every_solver(sde: str, tmp_path: Path) -> None:
    file = tmp_path / "race.json"
    arguments = ["--target", "ring", "--sde", sde, "--solvers", "all", "--nfe", "150", "-n", "50"]
    assert run("race", *arguments, "--workers", "1", "--out", tmp_path, "--json", file) == 0
    data = json.loads(file.read_text())
    ran = {r["solver"] for r in data["records"]}
    skipped = {note.partition(":")[0].partition(" ")[0] for note in data["skipped"]}
    assert ran | skipped == set(race.SOLVERS) and all(r["success"] == 1 for r in data["records"])
    assert (skipped == {"ancestral"}) == (sde == "subvp")  # its chain was never published


def test_a_race_is_the_same_for_any_number_of_workers() -> None:
    course = race.Course(rs.GaussianMixture.ring(), rs.VP(), 200)
    one, two = (race.run(course, ["em", "heun"], [10, 20], workers=k) for k in (1, 2))
    assert [r.values for r in one.results.records] == [r.values for r in two.results.records]


def test_a_race_ranks_heun_before_euler_and_stars_what_is_chance() -> None:
    course = race.Course(rs.GaussianMixture.ring(), rs.VP(), 2000)
    result = race.run(course, ["euler", "heun"], [100])
    euler, heun = (record.values for record in result.results.records)
    assert heun["flow_rms"] < 0.5 * euler["flow_rms"]
    gap = result.columns["log_density_gap"]
    assert gap.chance(heun["log_density_gap"]) and gap.floor == 0 and gap.spread < 0.05
    # mutant: a solver with twice the noise must not pass as chance
    x = course.law.sample(2000, rng=3)
    assert not gap.chance(gap.value(x + 0.2 * np.random.default_rng(0).standard_normal(x.shape)))


def test_sample_writes_samples_and_a_picture(tmp_path: Path) -> None:
    assert run("sample", "--target", "ring", "--nfe", 20, "-n", 30, "--out", tmp_path) == 0
    loaded = rs.Solution.load(tmp_path / "samples.npz")
    assert loaded.x.shape == (30, 2) and int(loaded.nfe[0]) == 20
    assert (tmp_path / "samples.png").exists()
    again = race.Course(rs.GaussianMixture.ring(), rs.VP(), 30).sample("heun", 20, 30)
    assert np.array_equal(again.x, loaded.x)


def test_order_prints_a_table_and_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, file = tmp_path / "new" / "order.png", tmp_path / "order.json"
    arguments = ["--solvers", "em,heun,euler", "--workers", 1, "--plot", picture, "--json", file]
    assert run("order", *arguments) == 0
    printed = capsys.readouterr().out
    assert "data N(0.7, 0.5^2) under VP" in printed and "4 of 4 declared orders met" in printed
    assert f"wrote {picture}, {file} in" in printed
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    rows = json.loads(file.read_text())["rows"]
    assert {(row["solver"], row["kind"]) for row in rows} == {
        ("em", "weak"),
        ("em", "strong"),
        ("heun", "flow"),
        ("euler", "flow"),
    }
    assert all(len(row["slopes"]) == len(row["steps"]) - 1 for row in rows)


def test_order_takes_its_options(tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    options = ["--kind", "strong,weak", "--steps", "200,100", "--mean", "-1", "--std", "0.8"]
    arguments = ["--solvers", "em,euler", *options, "--sde", "ve", "--json", file, "--workers", 1]
    assert run("order", *arguments) == 0
    data = json.loads(file.read_text())
    assert (data["mean"], data["std"], data["sde"]) == (-1.0, 0.8, repr(rs.VE()))
    assert [(row["kind"], row["steps"]) for row in data["rows"]] == [
        ("weak", [100, 200]),
        ("strong", [100, 200]),
    ]
    assert data["undeclared"] == ["euler"]


SOLVERS = """
import refsde as rs


def em(process, state, s, noise):
    t, x = state.t, state.x
    dw = noise.increment(t, s, x)
    return rs.State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


class Loud:
    orders = {"weak": 1}

    def __call__(self, process, state, s, noise):
        t, x = state.t, state.x
        dw = 1.0001 * noise.increment(t, s, x)
        return rs.State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


def bent(process, state, s, noise):
    return rs.State(s, abs(state.x))


bent.orders = {"weak": 1}


def raises(process, state, s, noise):
    return rs.State(s, state.y)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_order_judges_a_users_solver(
    workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOLVERS)
    kinds = ["--kind", "weak,strong", "--workers", workers]
    assert run("order", "--solvers", f"{file}:em", *kinds) == 0
    assert "not declared" in capsys.readouterr().out
    assert run("order", "--solvers", f"{file}:Loud,em", *kinds) == 1  # for the CI of a stranger
    told = capsys.readouterr()
    assert "wrong limit" in told.out and "2 of 3 declared orders met" in told.out
    for name, says in (
        ("bent", "nothing could be measured: "),
        ("raises", "a step raised AttributeError: 'State' object has no attribute 'y' (line "),
    ):
        assert run("order", "--solvers", f"{file}:{name}", *kinds) == 2
        error = capsys.readouterr().err
        assert error.rpartition("refsde order: ")[2].startswith("nothing could be measured: ")
        assert says in error
        assert "Traceback" not in error


def test_a_picture_of_orders_has_a_panel_for_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    drawn = []
    monkeypatch.setattr(figure, "savefig", lambda self, *_, **__: drawn.append(self))
    arguments = ["--solvers", "em,heun,euler", "--steps", "256,512", "--workers", 1]
    assert run("order", *arguments, "--plot", tmp_path / "a.png") == 0
    panels = drawn[0].axes
    assert [ax.get_ylabel() for ax in panels] == ["weak error", "strong error", "flow error"]
    lines = [{line.get_label().split()[0]: line.get_color() for line in ax.lines} for ax in panels]
    assert [list(named) for named in lines] == [["em"], ["em"], ["heun", "euler"]]
    assert lines[0] == lines[1]  # a solver keeps its colour
    assert len({lines[0]["em"], *lines[2].values()}) == 3
    assert "N(0.7, 0.5^2)" in drawn[0].get_suptitle()


def test_a_target_from_a_file(tmp_path: Path) -> None:
    ring = rs.GaussianMixture.ring(3)
    np.savez(tmp_path / "law.npz", weights=ring.weights, means=ring.means, covs=ring.covs)
    np.savez(tmp_path / "data.npz", X=ring.sample(200, rng=0))
    for name in ("law.npz", "data.npz"):
        arguments = ["--solvers", "euler", "--nfe", "10", "-n", "50", "--out", tmp_path]
        assert run("race", "--target", tmp_path / name, *arguments, "--workers", 1) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["order", "--solvers", "em", "--json", "mine.py"], "would be written over"),
        (["order", "--solvers", "em", "--json", "."], "is a folder: name a file in it"),
        (["race", "--target", "cats"], "--target must be one of digits, patches, ring"),
        (["race", "--target", "missing.npz"], "cannot be read"),
        (["race", "--size", "64"], "--size is for --target field, got --target digits"),
        (["sample", "--target", "field"], "--target field is of `refsde race`"),
        (["race", "--solvers", "em,magic"], "no solver 'magic': choose from em"),
        (["race", "--nfe", "0"], "positive whole number"),
        (["race", "--sde", "ddpm"], "invalid choice: 'ddpm'"),
        (["race", "-n", "-5"], "positive whole number"),
        (["sample", "--solver", "heun", "--nfe", "1", "--target", "ring"], "allow more"),
        ([], "required"),
        (["order", "--solvers", "em,magic"], "no solver 'magic': choose from em"),
        (["order", "--solvers", "magic"], "or name your own as file.py:OBJECT"),
        (["order", "--solvers", "gone.py:f"], "gone.py:f: there is no file gone.py"),
        (["order", "--solvers", "pc"], "pc declares no order of these kinds"),
        (["order", "--kind", "week"], "no kind of error 'week': choose from weak, strong, flow"),
        (["order", "--steps", "64"], "two numbers of steps or more, got '64'"),
        (["order", "--steps", "64,x"], "positive whole number, got 'x'"),
        (["order", "--std", "0"], "`std` positive and finite, got 0.7 and 0.0"),
        (["order", "--plot", "a.gif"], "must end in .png, .pdf or .svg, got 'a.gif'"),
        (["order", "--plot", "/dev/null/a.png"], "--plot: cannot make the folder"),
        (["order", "--json", "/dev/null/a.json"], "--json: cannot make the folder"),
    ],
)
def test_mistakes_are_told_without_a_traceback(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    try:
        writes = ["--out", tmp_path] if arguments and arguments[0] != "order" else []
        status = run(*arguments, *writes)
    except SystemExit as stop:  # argparse's own
        status = int(stop.code or 0)
    told = capsys.readouterr().err
    assert status == 2 and says in told and "Traceback" not in told


def test_a_file_that_is_no_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", foo=np.zeros(3))
    assert run("race", "--target", tmp_path / "x.npz") == 2
    assert "needs weights, means, covs" in capsys.readouterr().err


def test_the_module_runs_and_help_shows_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "refsde", "race", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "examples:" in done.stdout and "seconds" in done.stdout
    assert all(name in done.stdout for name in race.SOLVERS)
    assert "--target field --size 256" in done.stdout
    assert all(f"  {name} " in done.stdout for name in field_race.RACERS)


def test_the_help_of_order_names_solvers_and_exit_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run("order", "--help")
    told = capsys.readouterr().out
    assert "examples:" in told and "seconds" in told and "exit status: 0 well; 1 a" in told
    assert all(name in told for name in orders.SOLVERS) and "file.py:OBJECT" in told
