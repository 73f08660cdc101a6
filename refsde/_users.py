"""A user's own solver, named on the command line as ``file.py:object``."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from refsde._boundary import is_orders

__all__ = ["is_users", "line_of", "load", "raised"]

STEP = "(process, state, s, noise)"


def is_users(name: str) -> bool:
    """Whether ``name`` means an object in a file."""
    return name.endswith(".py") or ".py:" in name


def load(name: str) -> Any:
    """Import ``file.py`` and return the solver ``object`` of it.

    Parameters
    ----------
    name : str
        ``file.py:object``.  The object is a solver, that is, callable as
        ``solver(process, state, s, noise)``; or a class or function without arguments that makes
        one.

    Raises
    ------
    ValueError
        If there is no such file or object, if it is no solver, or if it raises.
    """
    file, wanted = _parts(name)
    if not file.is_file():
        raise ValueError(f"{name}: there is no file {file}")
    module = _module(name, file)
    if not hasattr(module, wanted):
        known = ", ".join(_offers(module)) or "nothing that can be called"
        lacks = f"has no {wanted!r}" if wanted else "holds more than a solver"
        raise ValueError(f"{name}: {file} {lacks}: say {file}:NAME with a name out of {known}")
    found = getattr(module, wanted)
    if not callable(found):
        raise ValueError(
            f"{name}: cannot be called ({type(found).__name__}): a solver is a function {STEP} -> "
            "State, such as refsde.EulerMaruyama()"
        )
    ready = not isinstance(found, type) and _takes(found, 4) and not _takes(found, 0)
    solver = found if ready else _made(name, found)
    _check_orders(name, getattr(solver, "orders", {}))
    return solver


def line_of(name: str, problem: BaseException) -> int | None:
    """Line of the user's file where an exception came through; None if it came through none."""
    if not is_users(name):
        return None
    file = str(_parts(name)[0].resolve())
    if isinstance(problem, SyntaxError) and problem.filename == file:
        return problem.lineno
    lines = [f.lineno for f in traceback.extract_tb(problem.__traceback__) if f.filename == file]
    return lines[-1] if lines else None


def _parts(name: str) -> tuple[Path, str]:
    path, _, wanted = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    return Path(path), wanted


def _module(name: str, file: Path) -> ModuleType:
    """Run the file, once in this process unless it changes."""
    path = file.resolve()
    key = re.sub(r"\W", "_", f"_refsde_user_{path}_{path.stat().st_mtime_ns}")
    if key in sys.modules:
        return sys.modules[key]
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # dataclasses look themselves up there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # its neighbours, as when Python runs it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as problem:
        del sys.modules[key]
        raise ValueError(f"{name}: importing {file} {raised(name, problem)}") from problem
    return module


def _made(name: str, maker: Any) -> Any:
    """Call a class or factory without arguments."""
    if not _takes(maker, 0):
        what = "class" if isinstance(maker, type) else "function"
        raise ValueError(
            f"{name}: is a {what} {maker.__name__}{_signature(maker)}, neither a solver {STEP} nor "
            "something without arguments that makes one: add a function () -> solver"
        )
    try:
        solver = maker()
    except Exception as problem:
        raise ValueError(f"{name}: making it {raised(name, problem)}") from problem
    if not (callable(solver) and _takes(solver, 4)):
        raise ValueError(
            f"{name}: makes something ({type(solver).__name__}) that cannot be called as a solver "
            f"{STEP}"
        )
    return solver


def _check_orders(name: str, orders: Any) -> None:
    """Raise unless ``orders`` says what there is to be met."""
    if not is_orders(orders):
        raise ValueError(
            f"{name}: its `orders` must map weak, strong or flow to positive numbers, got "
            f"{orders!r}: try {{'weak': 1}}"
        )


def raised(name: str, problem: BaseException) -> str:
    """Say in one line what was raised, and in which line of the user's file."""
    line = line_of(name, problem)
    at = "" if line is None else f" (line {line})"
    return f"raised {type(problem).__name__}: {' '.join(str(problem).split())}{at}"


def _takes(function: Any, count: int) -> bool:
    """Whether it can be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a builtin that does not tell
        return True
    return True


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except ValueError:
        return "(...)"


def _offers(module: ModuleType) -> list[str]:
    """Names in a user's file that may be solvers."""
    own = vars(module).items()
    return sorted(
        name
        for name, value in own
        if callable(value)
        and not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    )
