"""A claims page and the script beside it, for the tests that hold the two together."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

CLAIMS = Path(__file__).parent.parent / "docs" / "claims"


def load(name: str) -> Any:
    """The script ``docs/claims/<name>.py`` as a module."""
    spec = importlib.util.spec_from_file_location(f"claims_{name}", CLAIMS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def split(row: str) -> list[str]:
    """The cells of a row of a table."""
    return [cell.strip() for cell in row.strip("|").split("|")]


def by(rows: Any, *names: str) -> dict[Any, Any]:
    """Rows by the values of one or more columns."""
    return {tuple(r[n] for n in names) if len(names) > 1 else r[names[0]]: r for r in rows}


class Page:
    """The page of a paper: one row a claim, with what was measured in its fourth cell."""

    def __init__(self, name: str, digits: int = 2) -> None:
        self.text = (CLAIMS / f"{name}.md").read_text(encoding="utf-8")
        self.digits = digits

    def cells(self, claim: str) -> list[str]:
        """The row of a claim."""
        (row,) = re.findall(rf"^\| {claim} \|.*$", self.text, flags=re.MULTILINE)
        return split(row)

    def prints(self, claim: str, *numbers: float, digits: int | None = None) -> None:
        """Raise unless every number stands in a claim's row, to so many digits."""
        digits = digits or self.digits
        text = self.cells(claim)[3].replace("−", "-").replace("\u2009", "")
        printed = [float(v) for v in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]
        rounded = [float(f"{v:.{digits}g}") for v in printed]
        for number in numbers:
            assert float(f"{number:.{digits}g}") in rounded, number
