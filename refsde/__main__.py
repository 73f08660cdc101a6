"""Command line of refsde: ``refsde race``, ``sample`` and ``order`` (or ``python -m refsde``)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refsde import field_race, orders, race
from refsde._field_portraits import draw_field
from refsde._options import BUDGETS, SDES, Wrong, parser, racers
from refsde._order_picture import draw_orders
from refsde._portraits import draw, portrait
from refsde.targets import GaussianMixture
from refsde.targets.data import digits, digits_mixture, patches, patches_mixture

__all__ = ["main"]


def _digits() -> tuple[GaussianMixture, np.ndarray]:
    return digits_mixture(), digits()[0]


def _patches() -> tuple[GaussianMixture, np.ndarray]:
    return patches_mixture(), patches(n=2000, rng=0)


TARGETS: Mapping[str, Callable[[], tuple[GaussianMixture, np.ndarray | None]]] = {
    "digits": _digits,
    "patches": _patches,
    "ring": lambda: (GaussianMixture.ring(), None),
}


def _target(name: str) -> tuple[GaussianMixture, np.ndarray | None]:
    """Mixture, and the data it was fitted to."""
    if name in TARGETS:
        return TARGETS[name]()
    if name == "field":
        raise Wrong("--target field is of `refsde race`, which draws samples too")
    if not name.endswith(".npz"):
        raise Wrong(
            f"--target must be one of {', '.join(TARGETS)}, field (to race) or a FILE.npz, got "
            f"{name!r}"
        )
    try:
        with np.load(name, allow_pickle=False) as data:
            held = {key: data[key] for key in data.files}
    except OSError as problem:
        raise Wrong(f"--target {name}: cannot be read ({problem.strerror or problem})") from problem
    except ValueError as problem:
        raise Wrong(
            f"--target {name}: is not an .npz of plain arrays, as numpy.savez writes"
        ) from problem
    if {"weights", "means", "covs"} <= held.keys():
        return GaussianMixture(held["weights"], held["means"], held["covs"]), None
    if "X" in held:
        X = held["X"].reshape(len(held["X"]), -1)
        k = min(10, max(1, len(X) // 50))
        return GaussianMixture.fit(X, k, rng=0, reg_covar=1e-2 * float(X.var())), X
    raise Wrong(
        f"--target {name}: needs weights, means, covs (a mixture) or X (data), has {sorted(held)}"
    )


def _course(options: argparse.Namespace, n: int) -> race.Course:
    target, data = _target(options.target)
    sde, name = SDES[options.sde or "vp"](), Path(options.target).stem
    grid = options.grid or "auto"
    return race.Course(target, sde, options.n or n, options.rng, grid, name, data)


def _make_room(out: Path | None = None, **files: Path | None) -> None:
    """Make the folders that will be written to before the work, not after it."""
    for name, file in files.items():
        if file is not None and file.is_dir():
            raise Wrong(f"--{name}: {file} is a folder: name a file in it")
        if file is not None and file.suffix == ".py":
            raise Wrong(f"--{name}: {file} would be written over: name a file that is no program")
    folders = {name: None if file is None else file.parent for name, file in files.items()}
    for option, folder in {"out": out, **folders}.items():
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise Wrong(
                f"--{option}: cannot make the folder {folder} ({problem.strerror})"
            ) from problem


def _race(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    result, pictures = (_field_race if options.target == "field" else _mixture_race)(options)
    print(result.table())
    written = [*pictures]
    if options.json is not None:
        options.json.write_text(json.dumps(result.to_dict(), indent=1) + "\n")
        written.append(options.json)
    print(f"wrote {', '.join(map(str, written))} in {time.perf_counter() - began:.0f} s")
    return 0


def _mixture_race(options: argparse.Namespace) -> tuple[race.Race, Iterator[Path]]:
    """Outcome, and the pictures as they are drawn."""
    for name in ("size", "spectrum"):
        if getattr(options, name) is not None:
            raise Wrong(
                f"--{name} is for --target field, got --target {options.target}: leave it out"
            )
    names, budgets = racers(options.solvers, race.SOLVERS), options.nfe or list(BUDGETS)
    _make_room(options.out, json=options.json)
    course = _course(options, 4000)
    seconds = race.estimate(course, names, budgets, options.workers)
    print(f"{course.title()}: about {seconds:.0f} s", file=sys.stderr)
    result = race.run(course, names, budgets, workers=options.workers, progress=True)
    return result, draw(result, options.out)


def _field_race(options: argparse.Namespace) -> tuple[field_race.FieldRace, Iterator[Path]]:
    """Outcome, and the pictures as they are drawn."""
    for name, only in (("sde", "ve"), ("grid", "auto")):
        if getattr(options, name) not in (None, only):
            raise Wrong(
                f"--{name} is {only} for --target field, a step a level, got "
                f"{getattr(options, name)}: leave it out"
            )
    names = racers(options.solvers, field_race.RACERS)
    budgets = options.nfe or list(field_race.BUDGETS)
    _make_room(options.out, json=options.json)
    course = field_race.FieldCourse(
        options.size or 64, options.spectrum or "power", options.n, options.rng
    )
    seconds = field_race.estimate(course, names, budgets, options.workers)
    print(f"{course.title()}: about {seconds:.0f} s", file=sys.stderr)
    result = field_race.run(course, names, budgets, workers=options.workers, progress=True)
    return result, draw_field(result, options.out)


def _sample(options: argparse.Namespace) -> int:
    _make_room(options.out)
    course = _course(options, 100)
    solution = course.sample(
        options.solver, options.nfe, course.n, workers=options.workers, progress=True
    )
    solution.save(options.out / "samples.npz")
    rows = {f"{options.solver}, {solution.nfe.mean():.0f} NFE": solution.x}
    picture = portrait(course, rows, options.out / "samples.png")
    print(solution)
    print(f"wrote {options.out / 'samples.npz'}, {picture}")
    return 0


def _order(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    _make_room(plot=options.plot, json=options.json)
    if options.plot is not None:
        import matplotlib  # noqa: F401  (before the work, not after it)
    problem = orders.Problem(options.mean, options.std, SDES[options.sde or "vp"](), options.steps)
    result = orders.run(
        options.solvers, options.kind, problem, workers=options.workers, progress=True
    )
    if not any(row.order is not None for row in result.rows):
        none = [f"{name} declares no order of these kinds" for name in result.undeclared]
        raise Wrong(f"nothing could be measured: {'; '.join([*result.notes(), *none])}")
    print(result.table())
    written = []
    if options.plot is not None:
        written.append(draw_orders(result, options.plot))
    if options.json is not None:
        options.json.write_text(json.dumps(result.to_dict(), indent=1) + "\n")
        written.append(options.json)
    names = f"wrote {', '.join(map(str, written))} " if written else ""
    print(f"{names}in {time.perf_counter() - began:.0f} s")
    return 0 if result.good else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    It is 0 if all is well, 1 if a declared order is not met, 2 after a mistake of the caller.

    Parameters
    ----------
    argv : list of str, optional
        Arguments, those of the process by default.
    """
    options: Any = parser().parse_args(argv)
    try:
        return {"race": _race, "sample": _sample, "order": _order}[options.command](options)
    except (ValueError, TypeError, ImportError, OSError) as problem:
        print(f"refsde {options.command}: {problem}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
