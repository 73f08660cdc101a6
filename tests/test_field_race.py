"""The race on images: exact numbers in its table, samples that obey them, pictures, mistakes."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import refsde as rs
from refsde import field_race
from refsde.__main__ import main
from refsde._field_racers import _levels
from refsde.exact.field import coefficients
from refsde.field_race import RACERS, FieldCourse

NAMES = ["vanilla", "pds-pc", "noise-matched"]


def run(*arguments: object) -> int:
    return main(["race", "--target", "field", *map(str, arguments)])


@pytest.fixture(scope="module")
def small() -> field_race.FieldRace:
    return field_race.run(FieldCourse(16, n=40), budgets=(10, 20, 66))


def test_the_numbers_are_those_of_the_recursion(small: field_race.FieldRace) -> None:
    course = small.course
    assert [(r.solver, r.budget) for r in small.records] == [
        (name, budget) for name in RACERS for budget in (10, 20, 66)
    ]
    sde = rs.Tabulated(sigmas=np.geomspace(0.01, course.sigma_max, 33))
    M = rs.precondition.pds_frequency_filter(course.target, 5.0)
    process = rs.Preconditioned(sde, course.target.score(sde), M, guard="off")
    solver = rs.PredictorCorrector(rs.ReverseDiffusion(), rs.Langevin(course.snr))
    grid = rs.Grid.uniform(sde, 33, t_end=0.0)
    law = rs.exact.law(process, solver, grid, start="prior", denoise="last_mean")  # three channels
    record = next(r for r in small.records if (r.solver, r.budget) == ("pds-pc", 66))
    assert (record.nfe, record.iterations) == (law.nfe, 33) == (66, 33)
    assert record.relative_w2 == pytest.approx(law.relative_w2(), rel=1e-12)
    assert record.kl == pytest.approx(law.kl(), rel=1e-10)
    np.testing.assert_allclose(record.octaves, law.octaves(), rtol=1e-12)


def test_published_figures_come_out() -> None:
    # relative W2 of one square channel, to the digits printed in the tables of this method's study
    result = field_race.run(FieldCourse(32), ["vanilla", "pds", "scalar"], [66])
    assert [round(r.relative_w2, 4) for r in result.records] == [0.0685, 0.0481, 0.0052]
    result = field_race.run(FieldCourse(32), ["vanilla-pc", "pds-pc"], [132])
    assert [round(r.relative_w2, 4) for r in result.records] == [0.0358, 0.0240]


def test_samples_obey_the_recursion(small: field_race.FieldRace) -> None:
    drawn = [r for r in small.records if r.z is not None]
    checked = {r.solver for r in drawn if r.budget == 20}
    assert checked == set(RACERS)  # everyone at one budget, those in the picture at all of them
    assert {r.solver for r in drawn if r.budget == 66} == set(field_race.SHOWN)
    assert all(len(r.z or ()) == 4 and r.worst_z < 4 for r in drawn)
    assert all(r.seconds is not None and r.seconds > 0 for r in drawn)


def test_z_has_unit_variance_and_sees_a_wrong_law() -> None:
    course = FieldCourse(8, n=1)
    law, _ = course.law("vanilla", 20)
    exact = rs.exact.law(
        *course.alone().runner("vanilla", 20), start=(0.5, course.alone().target.spectrum)
    )
    assert law.nfe == exact.nfe
    same = replace(law, variance=law.target.spectrum, mean=coefficients(
        law.target.basis, law.target.mean
    ))  # fmt: skip
    x = course.target.sample(600, rng=0)
    z = np.array([same.octave_z(row[:, None]) for row in x])  # 600 scores of one image each
    assert z.shape == (600, 3)
    assert np.all(np.abs(z.mean(axis=0)) < 5 / np.sqrt(600))
    assert np.all(np.abs(z.var(axis=0) - 1) < 0.35)  # of few degrees of freedom, so skewed
    # mutant: samples of the data are not samples of a coarse run, which are a third too wide
    assert np.max(np.abs(law.octave_z(x.reshape(-1, 1, 8, 8)))) > 20


def test_a_sample_carried_to_the_data_law_is_an_exact_draw() -> None:
    course = FieldCourse(8, n=800)
    law, _ = course.law("vanilla", 10)
    x = course.sample("vanilla", 10)[:, :1]
    carried = field_race._carried(law, x)
    _, before = law.target.octaves(x)
    _, after = law.target.octaves(carried)
    assert np.all(before > 1.5) and np.all(np.abs(after - 1) < 0.06)
    assert abs(carried.mean() - 0.5) < 0.02
    # as near as it can be: no other scale of the coefficients would do
    gaps = carried - x
    assert np.mean(gaps**2) * 64 == pytest.approx(law.frechet(), rel=0.1)


def test_who_overshoots_is_told_and_raises_no_warning(small: field_race.FieldRace) -> None:
    over = {(r.solver, r.budget) for r in small.records if r.overshoots}
    assert ("scalar", 10) in over and ("pds", 66) not in over
    assert not any(name in ("vanilla", "vanilla-pc", "noise-matched", "ddim") for name, _ in over)
    lines = [line for line in small.table().splitlines() if line.startswith("scalar")]
    assert "!" in lines[0] and "!" not in lines[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small.course.sample("scalar", 10)


def test_the_same_race_twice_and_on_two_workers(small: field_race.FieldRace) -> None:
    course = FieldCourse(16, n=2)
    one, again, two = (
        field_race.run(course, NAMES, [10, 20], workers=workers) for workers in (1, 1, 2)
    )
    assert one.records == again.records == two.records
    for key, pictures in one.pictures.items():
        assert np.array_equal(pictures.sample, two.pictures[key].sample)
        assert np.array_equal(pictures.exact, two.pictures[key].exact)
    # the first samples do not depend on how many are drawn
    assert np.array_equal(one.pictures["vanilla", 10].sample, small.pictures["vanilla", 10].sample)
    other = field_race.run(FieldCourse(16, n=2, rng=1), NAMES, [10, 20])
    assert [r.relative_w2 for r in other.records] == [r.relative_w2 for r in one.records]
    assert [r.z for r in other.records] != [r.z for r in one.records]


def test_budgets_are_of_evaluations_and_what_does_not_fit_is_told() -> None:
    result = field_race.run(FieldCourse(8), ["vanilla-pc", "vanilla", "pds-alpha"], [1, 5, 21])
    used = {(r.solver, r.budget): (r.nfe, r.iterations) for r in result.records}
    assert used["vanilla-pc", 21] == (20, 10) and used["vanilla", 21] == (21, 21)
    assert ("vanilla-pc", 1) not in used and ("vanilla", 1) in used
    assert "vanilla-pc within 1: an iteration costs 2" in result.skipped
    rule = rs.precondition.alpha_rule(FieldCourse(8).target, FieldCourse(8).log_range, 1)
    assert any(f"within 1: the rule picks alpha = {rule:.2f}" in note for note in result.skipped)
    assert all(f"not run: {note}" in result.table() for note in result.skipped)
    with pytest.raises(ValueError, match="nothing could be raced: pds-pc within 1"):
        field_race.run(FieldCourse(8), ["pds-pc"], [1])


@pytest.mark.parametrize(
    ("size", "sigma_max", "snr"),
    [
        (8, 12.5, 0.16), (32, 50, 0.16), (64, 90, 0.17), (128, 190, 0.075), (256, 378, 0.075),
        (1024, 1348, 0.15), (2048, 2696, 0.15),
    ],
)  # fmt: skip
def test_levels_are_those_of_the_published_configurations(
    size: int, sigma_max: float, snr: float
) -> None:
    assert _levels(size) == (sigma_max, snr)


def test_levels_between_the_published_ones_grow() -> None:
    levels = [_levels(size)[0] for size in range(8, 2049, 20)]
    assert np.all(np.diff(levels) > 0)


def test_large_images_are_joined_into_a_picture() -> None:
    image = np.kron(np.array([[0.0, 1.0], [2.0, 0.5]]), np.ones((300, 300)))
    small = field_race._bytes(image, 0.0, 1.0)
    assert small.shape == (200, 200)
    assert [int(small[i, j]) for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1))] == [0, 255, 255, 128]


@pytest.mark.parametrize("spectrum", ["power", "photographs"])
def test_the_command_prints_a_table_and_writes_its_files(
    spectrum: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "new", tmp_path / "race.json"
    options = ["--size", 16, "--nfe", "12,24", "--workers", 1, "--spectrum", spectrum]
    assert run(*options, "--solvers", ",".join(NAMES), "--out", out, "--json", file) == 0
    printed = capsys.readouterr().out
    assert "3 x 16 x 16" in printed and "-- budget 12" in printed and "max |z|" in printed
    assert f"wrote {out / 'field_race.png'}, {out / 'fields.png'}, {file} in" in printed
    for name in ("field_race.png", "fields.png"):
        assert (out / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    data = json.loads(file.read_text())
    assert (data["target"], data["size"], data["spectrum"]) == ("field", 16, spectrum)
    assert (data["n"], data["rng"], data["snr"], data["sigma_max"]) == (4, 0, 0.16, 25.0)
    assert {(r["solver"], r["budget"]) for r in data["records"]} == {
        (name, budget) for name in NAMES for budget in (12, 24)
    }
    best = min(data["records"], key=lambda r: r["kl"])
    assert best["solver"] == "noise-matched" and best["kl"] < 1e-4


def test_a_picture_has_a_row_a_budget_and_a_column_a_racer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    made = []
    start = figure.__init__

    def remember(self: object, *args: object, **kwargs: object) -> None:
        start(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(figure, "__init__", remember)
    names = "pds-alpha,scalar,vanilla,ddim"
    options = ["--size", 8, "--nfe", "4,20", "--workers", 1, "--out", tmp_path]
    assert run(*options, "--solvers", names) == 0
    lines, samples = made
    assert [ax.get_ylabel() for ax in lines.axes] == ["relative W2", "KL (nats a coefficient)"]
    drawn = [line.get_label() for line in lines.axes[0].lines]
    assert drawn == ["pds-alpha", "scalar", "vanilla", "ddim"]
    assert [ax.get_title() for ax in samples.axes[:3]] == ["exact draw", "vanilla", "scalar rule"]
    assert [ax.get_ylabel() for ax in samples.axes[::3]] == ["4 evaluations", "20 evaluations"]
    assert samples.axes[1].get_xlabel().startswith("relative W2 ")
    # without any of the usual ones: those that race, also where one is missing at a budget
    assert run(*options, "--solvers", "pds-alpha,ddim") == 0
    samples = made[-1]
    assert [ax.get_title() for ax in samples.axes[:3]] == ["exact draw", "pds-alpha", "ddim"]
    assert not samples.axes[1].axison and samples.axes[2].axison


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--size", "7"], "whole number from 8 to 2048, got '7'"),
        (["--size", "4096"], "whole number from 8 to 2048, got '4096'"),
        (["--size", "big"], "whole number from 8 to 2048, got 'big'"),
        (["--solvers", "vanilla,em"], "no solver 'em': choose from vanilla, vanilla-pc, pds"),
        (["--spectrum", "white"], "invalid choice: 'white'"),
        (["--sde", "vp"], "--sde is ve for --target field, a step a level, got vp"),
        (["--grid", "karras"], "--grid is auto for --target field, a step a level, got karras"),
        (["--solvers", "pds-pc", "--nfe", "1", "--size", "8"], "nothing could be raced"),
        (["--target", "ring", "--size", "64"], "--size is for --target field, got --target ring"),
        (["--target", "ring", "--spectrum", "power"], "--spectrum is for --target field"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = run("--out", tmp_path, "--workers", 1, *arguments)
    except SystemExit as stop:  # argparse's own
        status = int(stop.code or 0)
    told = capsys.readouterr().err
    assert status == 2 and says in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FieldCourse(7), "`size` must be an int from 8 to 2048, got 7"),
        (lambda: FieldCourse(64.0), "`size` must be an int"),
        (lambda: FieldCourse(8, "white"), "`spectrum` must be one of power, photographs"),
        (lambda: field_race.run(FieldCourse(8), ["em"]), "no racer 'em': choose from vanilla"),
    ],
)
def test_mistakes_in_python(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()  # type: ignore[operator]
