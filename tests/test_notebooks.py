"""The form of the notebooks: valid, clean, seeded, offline, and with something asserted.

That they run is tested by nbmake, which the default run of pytest applies to ``notebooks/``.
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
    return found


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
}


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks here")
@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found(what: str) -> None:
    notebook = copy.deepcopy(read(NOTEBOOKS[0]))
    DAMAGE[what](notebook)
    assert any(what in problem for problem in problems(notebook)), problems(notebook)
