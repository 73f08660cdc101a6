"""Command line of refsde: ``refsde race``, ``refsde sample`` (also ``python -m refsde ...``)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refsde import __version__, race
from refsde._portraits import draw, portrait
from refsde._types import SDE
from refsde.sde import EDM, VE, VP, Cosine, SubVP
from refsde.targets import GaussianMixture
from refsde.targets.data import digits, digits_mixture, patches, patches_mixture

__all__ = ["main"]

SDES: Mapping[str, Callable[[], SDE]] = {
    "vp": VP,
    "subvp": SubVP,
    "ve": VE,
    "edm": EDM,
    "cosine": Cosine,
}
BUDGETS = (10, 20, 50, 100, 200)


def _digits() -> tuple[GaussianMixture, np.ndarray]:
    return digits_mixture(), digits()[0]


def _patches() -> tuple[GaussianMixture, np.ndarray]:
    return patches_mixture(), patches(n=2000, rng=0)


TARGETS: Mapping[str, Callable[[], tuple[GaussianMixture, np.ndarray | None]]] = {
    "digits": _digits,
    "patches": _patches,
    "ring": lambda: (GaussianMixture.ring(), None),
}


class _Wrong(ValueError):
    """A mistake on the command line, told without a traceback."""


def _target(name: str) -> tuple[GaussianMixture, np.ndarray | None]:
    """Mixture, and the data it was fitted to."""
    if name in TARGETS:
        return TARGETS[name]()
    if not name.endswith(".npz"):
        raise _Wrong(f"--target must be one of {', '.join(TARGETS)} or a FILE.npz, got {name!r}")
    try:
        with np.load(name, allow_pickle=False) as data:
            held = {key: data[key] for key in data.files}
    except OSError as problem:
        raise _Wrong(
            f"--target {name}: cannot be read ({problem.strerror or problem})"
        ) from problem
    except ValueError as problem:
        raise _Wrong(
            f"--target {name}: is not an .npz of plain arrays, as numpy.savez writes"
        ) from problem
    if {"weights", "means", "covs"} <= held.keys():
        return GaussianMixture(held["weights"], held["means"], held["covs"]), None
    if "X" in held:
        X = held["X"].reshape(len(held["X"]), -1)
        k = min(10, max(1, len(X) // 50))
        return GaussianMixture.fit(X, k, rng=0, reg_covar=1e-2 * float(X.var())), X
    raise _Wrong(
        f"--target {name}: needs weights, means, covs (a mixture) or X (data), has {sorted(held)}"
    )


def _whole(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text!r}")
    return int(text)


def _budgets(text: str) -> list[int]:
    return sorted({_whole(part) for part in text.split(",")})


def _solvers(text: str) -> list[str]:
    if text == "all":
        return list(race.SOLVERS)
    if text == "default":
        return [name for name, entry in race.SOLVERS.items() if entry.default]
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in race.SOLVERS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no solver {unknown[0]!r}: choose from {', '.join(race.SOLVERS)}"
        )
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="refsde",
        description="Solvers of score-based diffusion on targets whose answers are exact.",
    )
    parser.add_argument("--version", action="version", version=f"refsde {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    names = "\n".join(
        f"  {name:<24}{entry.says}{'' if entry.default else '  (not in the default set)'}"
        for name, entry in race.SOLVERS.items()
    )
    racing = commands.add_parser(
        "race",
        help="compare solvers at equal budgets of score evaluations",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run solvers at equal budgets of score evaluations on a target with\n"
        "an exact score; print their errors beside what as many exact draws show.",
        epilog=f"""solvers:
{names}

examples:
  refsde race                                     digits, ten solvers, under a minute on two cores
  refsde race --target ring --sde ve -n 20000     eight modes under VE, about 15 seconds
  refsde race --solvers em,heun --nfe 10,40       two solvers, a few seconds
  refsde race --solvers all --json race.json      all solvers, a minute or two; the numbers as JSON
""",
    )
    racing.add_argument(
        "--solvers",
        type=_solvers,
        default=_solvers("default"),
        metavar="LIST",
        help="'default', 'all' or names, comma-separated",
    )
    racing.add_argument(
        "--nfe",
        type=_budgets,
        default=list(BUDGETS),
        metavar="LIST",
        help="budgets of score evaluations a sample (default 10,20,50,100,200)",
    )
    racing.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to FILE")
    sampling = commands.add_parser(
        "sample",
        help="draw samples with one solver",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Draw samples with one solver; write samples.npz and samples.png.",
        epilog="""examples:
  refsde sample --solver heun --nfe 40 -n 100           100 digits, a second or two
  refsde sample --target ring --sde ve --solver em      a ring of eight modes under VE
""",
    )
    sampling.add_argument(
        "--solver",
        default="heun",
        choices=list(race.SOLVERS),
        metavar="NAME",
        help="see `refsde race --help` (default heun)",
    )
    sampling.add_argument(
        "--nfe", type=_whole, default=100, help="score evaluations a sample (default 100)"
    )
    for command, n in ((racing, 4000), (sampling, 100)):
        command.add_argument(
            "--target",
            default="digits",
            metavar="NAME",
            help="digits (default), patches, ring, or FILE.npz with weights, means, covs or data X "
            "(scaled to about [-1, 1])",
        )
        command.add_argument(
            "--sde", default="vp", choices=list(SDES), help="forward SDE (default vp)"
        )
        command.add_argument(
            "--grid",
            default="auto",
            choices=list(race.GRIDS),
            help="times (default auto: karras for edm, else uniform)",
        )
        command.add_argument("-n", type=_whole, default=n, help=f"number of samples (default {n})")
        command.add_argument("--rng", type=int, default=0, help="seed (default 0)")
        command.add_argument(
            "--workers",
            type=_whole,
            default=min(2, os.cpu_count() or 1),
            help="parallel workers; results are the same for any number (default 2)",
        )
        command.add_argument(
            "--out", type=Path, default=Path(), metavar="DIR", help="where to write (default here)"
        )
    return parser


def _course(options: argparse.Namespace) -> race.Course:
    target, data = _target(options.target)
    sde, name = SDES[options.sde](), Path(options.target).stem
    return race.Course(target, sde, options.n, options.rng, options.grid, name, data)


def _make_room(out: Path, file: Path | None = None) -> None:
    """Make the folders that will be written to before the work, not after it."""
    for option, folder in (("--out", out), ("--json", None if file is None else file.parent)):
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise _Wrong(
                f"{option}: cannot make the folder {folder} ({problem.strerror})"
            ) from problem


def _race(options: argparse.Namespace) -> None:
    began = time.perf_counter()
    _make_room(options.out, options.json)
    course = _course(options)
    seconds = race.estimate(course, options.solvers, options.nfe, options.workers)
    print(f"{course.title()}: about {seconds:.0f} s", file=sys.stderr)
    result = race.run(course, options.solvers, options.nfe, workers=options.workers, progress=True)
    print(result.table())
    written = [*draw(result, options.out)]
    if options.json is not None:
        options.json.write_text(json.dumps(result.to_dict(), indent=1) + "\n")
        written.append(options.json)
    print(f"wrote {', '.join(map(str, written))} in {time.perf_counter() - began:.0f} s")


def _sample(options: argparse.Namespace) -> None:
    _make_room(options.out)
    course = _course(options)
    solution = course.sample(
        options.solver, options.nfe, options.n, workers=options.workers, progress=True
    )
    solution.save(options.out / "samples.npz")
    rows = {f"{options.solver}, {solution.nfe.mean():.0f} NFE": solution.x}
    picture = portrait(course, rows, options.out / "samples.png")
    print(solution)
    print(f"wrote {options.out / 'samples.npz'}, {picture}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status (0 well, 2 a mistake of the caller).

    Parameters
    ----------
    argv : list of str, optional
        Arguments, those of the process by default.
    """
    options: Any = _parser().parse_args(argv)
    try:
        {"race": _race, "sample": _sample}[options.command](options)
    except (ValueError, TypeError, ImportError, OSError) as problem:
        print(f"refsde {options.command}: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
