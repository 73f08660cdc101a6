"""The form of the notebooks: valid, clean, seeded, offline, and with something asserted.

That they run is tested by nbmake, which the default run of pytest applies to ``notebooks/``.  Here
the student's version is made, as nbgrader would, and right and wrong answers are graded.
"""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb")) if FOLDER.is_dir() else []
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
MARKS = {"cell_type", "grade", "locked", "schema_version", "solution", "task"}
MARKERS = ("BEGIN SOLUTION", "END SOLUTION", "BEGIN HIDDEN TESTS", "END HIDDEN TESTS")
# what would need a network, a shell or numbers that differ from run to run
FORBIDDEN = {
    "a network": r"urllib|urlopen|requests\.|fetch_\w+\(|load_dataset|hf_hub|https?://\S+\.(?:npz|csv)",
    "a shell or a magic": r"^\s*[!%]",
    "the global generator": r"np\.random\.(?!default_rng|Generator)|rng=None",
}


def problems(notebook: dict[str, Any]) -> list[str]:
    """What is wrong with the form of a notebook, given as parsed JSON."""
    cells = notebook["cells"]
    ids = [cell.get("id") for cell in cells]
    if None in ids or len(set(ids)) != len(ids):
        return ["cell ids are missing or repeat"]  # nbformat would add them, with a warning
    try:
        nbformat.validate(nbformat.from_dict(notebook), relax_add_props=False)
    except nbformat.ValidationError as invalid:
        return [f"not a valid notebook: {str(invalid).splitlines()[0]}"]
    found = []
    if (notebook["nbformat"], notebook["nbformat_minor"]) != (4, 5):
        found.append("format must be 4.5")
    if notebook["metadata"] != {"kernelspec": KERNEL, "language_info": {"name": "python"}}:
        found.append("metadata names more than the kernel: an editor's or a machine's traces")
    if cells[0]["cell_type"] != "markdown" or not "".join(cells[0]["source"]).startswith("# "):
        found.append("the first cell must be a title")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    found += [f"cell {cell['id']} has an output" for cell in code if cell["outputs"]]
    found += [f"cell {c['id']} has an execution count" for c in code if c["execution_count"]]
    return found + code_problems("\n".join("".join(cell["source"]) for cell in code)) + graded(code)


def code_problems(source: str) -> list[str]:
    """What is wrong with the code of a notebook, all its cells together."""
    found = [
        f"uses {what}" for what, rule in FORBIDDEN.items() if re.search(rule, source, re.MULTILINE)
    ]
    if "uses a shell or a magic" in found:
        return found  # not Python, it cannot be parsed
    tree = ast.parse(source)
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        found.append("asserts nothing")
    if any(unseeded(node) for node in ast.walk(tree) if isinstance(node, ast.Call)):
        found.append("draws without a seed")
    imports = [alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names]
    if "refsde" not in imports:
        found.append("does not import refsde")
    return found


def unseeded(call: ast.Call) -> bool:
    """Whether a call draws other numbers on every run (with ``x=``, a flow may draw none)."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = {keyword.arg for keyword in call.keywords}
    if name == "sample":
        return not given & {"rng", "noise", "x"}
    return name in ("Gaussian", "default_rng") and not call.args and not given


def graded(code: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the exercises: nbgrader's marks and the solutions' markers."""
    found = []
    marks = [cell["metadata"]["nbgrader"] for cell in code if "nbgrader" in cell["metadata"]]
    if len({mark["grade_id"] for mark in marks}) != len(marks):
        found.append("grade ids repeat")
    for cell in code:
        mark, source = cell["metadata"].get("nbgrader", {}), "".join(cell["source"])
        counts = [source.count(f"### {marker}") for marker in MARKERS]
        if counts[0] != counts[1] or counts[2] != counts[3]:
            found.append(f"cell {cell['id']} has a marker without its partner")
        if bool(mark.get("solution")) != bool(counts[0]):
            found.append(
                f"cell {cell['id']}: a solution needs its markers, and the markers its mark"
            )
        if mark.get("grade") and "assert" not in source:
            found.append(f"cell {cell['id']} is graded and asserts nothing")
        if mark and set(mark) - {"points"} != MARKS | {"grade_id"}:
            found.append(f"cell {cell['id']} has other marks than nbgrader's schema 3")
        if bool(mark.get("grade")) != ("points" in mark):
            found.append(f"cell {cell['id']}: points are what a check gives")
        if mark.get("grade") and displays(source):
            found.append(f"cell {cell['id']} shows a value, which nbgrader takes for the points")
        if mark.get("grade") and mark.get("solution"):
            found.append(f"cell {cell['id']} is a solution and its own check")
        if bool(mark.get("grade")) != bool(mark.get("locked")):
            found.append(f"cell {cell['id']}: checks are locked, and nothing else is")
        if counts[2] and not mark.get("grade"):
            found.append(f"cell {cell['id']} has hidden tests that are not graded")
        if counts[2] and "assert" in "".join(student_version(cell)["source"]):
            found.append(f"cell {cell['id']} mixes hidden and visible tests: no partial credit")
    return found


def displays(source: str) -> bool:
    """Whether a cell ends with an expression, whose value is shown; `print` returns none."""
    last = ast.parse(source).body[-1]
    return isinstance(last, ast.Expr) and not ast.unparse(last).startswith("print(")


def student_version(cell: dict[str, Any]) -> dict[str, Any]:
    """The cell as a student gets it: no solution, no hidden tests."""
    source, inside = [], ""
    for line in "".join(cell["source"]).splitlines(keepends=True):
        word = line.strip().removeprefix("### ")
        if word in ("BEGIN SOLUTION", "BEGIN HIDDEN TESTS"):
            inside = word.removeprefix("BEGIN ")
            if inside == "SOLUTION":
                source.append(line.replace(line.strip(), "raise NotImplementedError"))
        elif word == f"END {inside}":
            inside = ""
        elif not inside:
            source.append(line)
    return {**cell, "source": source}


def mark_of(cell: dict[str, Any]) -> dict[str, Any]:
    """What nbgrader knows of a cell."""
    return dict(cell["metadata"].get("nbgrader", {}))


def read(path: Path) -> dict[str, Any]:
    # as the file has it: nbformat.read would repair some of what is looked for
    return dict(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_in_good_form(path: Path) -> None:
    assert problems(read(path)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_named_by_number_and_title(path: Path) -> None:
    assert re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)


def test_numbers_are_consecutive() -> None:
    assert [int(path.stem[:2]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))


# -- the test has teeth: every kind of damage is found ---------------------------------------------


def _code(notebook: dict[str, Any]) -> dict[str, Any]:
    """The first code cell."""
    return next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def _without_asserts(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        cell["source"] = [line for line in cell["source"] if "assert" not in line]


def _add(line: str) -> Callable[[dict[str, Any]], None]:
    def damage(notebook: dict[str, Any]) -> None:
        _code(notebook)["source"].append(f"\n{line}\n")

    return damage


def _graded(notebook: dict[str, Any], **marks: bool) -> dict[str, Any]:
    """The first graded cell, with some marks changed."""
    cell = next(cell for cell in notebook["cells"] if mark_of(cell).get("grade"))
    cell["metadata"]["nbgrader"].update(marks)
    return dict(cell)


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "has an output": lambda n: _code(n)["outputs"].append(
        {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    ),
    "has an execution count": lambda n: _code(n).update(execution_count=3),
    "cell ids are missing or repeat": lambda n: n["cells"][1].update(id=n["cells"][0]["id"]),
    "ids are missing": lambda n: n["cells"][0].pop("id"),
    "not a valid notebook": lambda n: _code(n).pop("outputs"),
    "format must be 4.5": lambda n: n.update(nbformat_minor=6),
    "metadata names more": lambda n: n["metadata"]["language_info"].update(version="3.12.1"),
    "must be a title": lambda n: n["cells"].pop(0),
    "uses a network": _add("urllib.request.urlopen('x')"),
    "uses a shell": _add("%matplotlib inline"),
    "uses the global generator": _add("np.random.normal()"),
    "draws without a seed": _add("target.sample(3)"),
    "asserts nothing": _without_asserts,
    "does not import refsde": lambda n: _code(n).update(source=["import math"]),
    "grade ids repeat": lambda n: [
        cell["metadata"]["nbgrader"].update(grade_id="one")
        for cell in n["cells"]
        if "nbgrader" in cell["metadata"]
    ],
    "a marker without its partner": _add("### BEGIN SOLUTION"),
    "a solution needs its markers": lambda n: _code(n)["metadata"].update(
        nbgrader={"grade_id": "x", "solution": True}
    ),
    "other marks than": lambda n: _graded(n, remark=True),
    "points are what": lambda n: _graded(n)["metadata"]["nbgrader"].pop("points"),
    "shows a value": lambda n: _graded(n)["source"].append("\n1 + 1"),
    "its own check": lambda n: _graded(n, solution=True),
    "checks are locked": lambda n: _graded(n, locked=False),
    "hidden tests that are not graded": _add("### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS"),
    "mixes hidden and visible": lambda n: _graded(n)["source"].append(
        "\n### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS\n"
    ),
}


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks here")
@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found(what: str) -> None:
    notebook = copy.deepcopy(read(NOTEBOOKS[0]))
    DAMAGE[what](notebook)
    assert any(what in problem for problem in problems(notebook)), problems(notebook)


# -- a course can grade it -------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_students_version_is_python_without_answers(path: Path) -> None:
    cells = [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        left = "".join(student_version(cell)["source"])
        ast.parse(left)
        assert "###" not in left
        assert ("raise NotImplementedError" in left) == bool(mark_of(cell).get("solution"))
        assert not mark_of(cell) or not any(
            line in left for line in _secrets("".join(cell["source"]))
        )
    assert any(mark_of(cell).get("solution") for cell in cells)


def test_only_what_stands_between_markers_is_taken_out() -> None:
    source = (
        "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n\n\n"
        "### BEGIN HIDDEN TESTS\nassert f() == 1\n### END HIDDEN TESTS\nprint(2)\n"
    )
    left = "".join(student_version({"source": source})["source"])
    assert left == "def f():\n    raise NotImplementedError\n\n\nprint(2)\n"


def _secrets(source: str) -> list[str]:
    """Lines of the solution and the hidden tests that mean something by themselves."""
    blocks = re.findall(r"### BEGIN [A-Z ]+\n(.*?)### END", source, re.DOTALL)
    return [
        line.strip() for block in blocks for line in block.splitlines() if len(line.strip()) > 9
    ]


# What the exercises of notebook 03 need of the cells before them: those that begin so.
SETUP = ("import math", "sde = rs.VP()", "modes = rs.GaussianMixture")
EULER = "    new = rs.EulerMaruyama()(process, state, s, noise)\n"
HEUN = """\
    h = s - t
    dw = noise.increment(t, s, x)
    a, kick = process.drift(x, t), process.diffuse(dw, t)
    kicks = 0.5 * (kick + process.diffuse(dw, s))
    guess = x + a * h + kick
    return rs.State(s, x + 0.5 * (a + process.drift(guess, s)) * h + kicks)
"""
ALL_OF_HEUN = {"write-heun-check", "write-heun-cost", "write-heun-elsewhere"}

# Solution cell, what a student wrote there ("" leaves the solution), and the checks that fail.
ANSWERS: dict[str, tuple[str, str, set[str]]] = {
    "heun: the solution": ("write-heun", "", set()),
    "heun: nothing": ("write-heun", "    raise NotImplementedError\n", ALL_OF_HEUN),
    "heun: Euler": ("write-heun", f"{EULER}    return new\n", ALL_OF_HEUN),
    "heun: no noise in the guess": (
        "write-heun",
        HEUN.replace("+ a * h + kick", "+ a * h"),
        {"write-heun-check", "write-heun-elsewhere"},
    ),
    "heun: in place": (
        "write-heun",
        HEUN.replace("return rs.State(s, x +", "x +=").replace("kicks)", "kicks")
        + "    return rs.State(s, x)\n",
        {"write-heun-check"},
    ),
    "heun: three scores a step": (
        "write-heun",
        HEUN.replace("    h = s - t", "    h = s - t + 0.0 * process.drift(x, t)"),
        {"write-heun-cost"},
    ),
    "diagnosis: the solution": ("diagnose", "", set()),
    "diagnosis: nothing": (
        "diagnose",
        "diagnosis = {}\n",
        {"diagnose-check", "diagnose-a", "diagnose-b", "diagnose-c"},
    ),
    "diagnosis: one wrong": (
        "diagnose",
        'diagnosis = {"A": 3, "B": 1, "C": 4}\n',
        {"diagnose-b"},
    ),
    "diagnosis: two wrong": (
        "diagnose",
        'diagnosis = {"A": 4, "B": 2, "C": 3}\n',
        {"diagnose-a", "diagnose-c"},
    ),
    "fool: the solution": ("fool-the-slope", "", set()),
    "fool: not at all": ("fool-the-slope", f"{EULER}    return new\n", {"fool-the-slope-check"}),
    "fool: loud, with the right mean": (
        "fool-the-slope",
        "    return testing.mutants.ALL[0](process, state, s, noise)\n",
        {"fool-the-slope-check"},
    ),
    "fool: too bold": (
        "fool-the-slope",
        f"{EULER}    return rs.State(s, new.x + 0.1 * (s - state.t))\n",
        {"fool-the-slope-check"},
    ),
    "measure: the solution": ("measure", "", set()),
    "measure: nothing": (
        "measure",
        "    raise NotImplementedError\n",
        {"measure-check", "measure-hidden"},
    ),
    "measure: Heun itself": ("measure", HEUN, {"measure-check", "measure-hidden"}),
    "measure: a wrong prediction": (
        "predict",
        'predicted = {"weak": 1, "strong": 1, "flow": 2}\n',
        {"measure-check", "measure-hidden"},
    ),
}


def exercises(notebook: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The marked cells of each exercise: one solution or more, then the checks."""
    found: list[list[dict[str, Any]]] = []
    after_checks = True
    for cell in filter(mark_of, notebook["cells"]):
        if after_checks and mark_of(cell)["solution"]:
            found.append([])
        found[-1].append(cell)
        after_checks = mark_of(cell)["grade"]
    return found


def failed_checks(notebook: dict[str, Any], grade_id: str, answer: str) -> set[str]:
    """Grade ids of the checks that fail if ``answer`` stands in place of a solution."""
    space: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if "".join(cell["source"]).startswith(SETUP):
            exec("".join(cell["source"]), space)
    failed = set()
    cells = next(e for e in exercises(notebook) if grade_id in [mark_of(c)["grade_id"] for c in e])
    for cell in cells:
        source = "".join(cell["source"])
        if answer and mark_of(cell)["grade_id"] == grade_id:
            block = re.compile(r" *### BEGIN SOLUTION\n.*?### END SOLUTION\n?", re.DOTALL)
            source = block.sub(lambda _: answer, source, count=1)
        try:
            exec(source, space)
        except Exception:
            failed.add(mark_of(cell)["grade_id"])
    return failed


@pytest.mark.skipif(len(NOTEBOOKS) < 3, reason="no notebook 03 here")
@pytest.mark.parametrize("case", ANSWERS)
def test_answers_get_their_points(case: str) -> None:
    grade_id, answer, fails = ANSWERS[case]
    failed = failed_checks(read(NOTEBOOKS[2]), grade_id, answer)
    assert failed - {"measure"} == fails  # where a student measures, his own method may fail


@pytest.mark.skipif(len(NOTEBOOKS) < 3, reason="no notebook 03 here")
def test_every_answer_of_notebook_03_is_tried() -> None:
    for exercise in exercises(read(NOTEBOOKS[2])):
        marks = [mark_of(cell) for cell in exercise]
        tried = [
            ANSWERS[case]
            for case in ANSWERS
            if ANSWERS[case][0] in [mark["grade_id"] for mark in marks if mark["solution"]]
        ]
        checks = {mark["grade_id"] for mark in marks if mark["grade"]}
        assert set() in [fails for *_, fails in tried]
        assert set().union(*(fails for *_, fails in tried)) == checks  # each check can fail
