"""What the command line takes: its commands, their options and their help."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import fill, indent
from typing import Any

from refsde import __version__, field_race, orders, race
from refsde._types import SDE, OrderKind
from refsde._users import is_users
from refsde.sde import EDM, VE, VP, Cosine, SubVP

__all__ = ["BUDGETS", "SDES", "Wrong", "parser", "racers"]

SDES: Mapping[str, Callable[[], SDE]] = {
    "vp": VP,
    "subvp": SubVP,
    "ve": VE,
    "edm": EDM,
    "cosine": Cosine,
}
BUDGETS = (10, 20, 50, 100, 200)


class Wrong(ValueError):
    """A mistake on the command line, told without a traceback."""


def _whole(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text!r}")
    return int(text)


def _budgets(text: str) -> list[int]:
    return sorted({_whole(part) for part in text.split(",")})


def _edge(text: str) -> int:
    if not text.strip().isdecimal() or not 8 <= int(text) <= 2048:
        raise argparse.ArgumentTypeError(f"must be a whole number from 8 to 2048, got {text!r}")
    return int(text)


def racers(text: str, known: Mapping[str, Any]) -> list[str]:
    """Names of `refsde race`: which are known depends on the target."""
    if text == "all":
        return list(known)
    if text == "default":
        return [name for name, entry in known.items() if getattr(entry, "default", True)]
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise Wrong(f"--solvers: no solver {name!r}: choose from {', '.join(known)}")
    return list(dict.fromkeys(names))


def _measured(text: str) -> list[str]:
    """Solvers of `refsde order`: names, and objects in files."""
    if text == "all":
        return list(orders.SOLVERS)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not is_users(name) and name not in orders.SOLVERS:
            raise argparse.ArgumentTypeError(
                f"no solver {name!r}: choose from {', '.join(orders.SOLVERS)}, "
                "or name your own as file.py:OBJECT"
            )
    return list(dict.fromkeys(names))


def _kinds(text: str) -> list[OrderKind]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in orders.KINDS:
            raise argparse.ArgumentTypeError(
                f"no kind of error {name!r}: choose from {', '.join(orders.KINDS)}"
            )
    return [kind for kind in orders.KINDS if kind in names]


def _ladder(text: str) -> tuple[int, ...]:
    steps = tuple(_budgets(text))
    if len(steps) < 2:
        raise argparse.ArgumentTypeError(
            f"must be two numbers of steps or more, got {text!r}: a slope needs two errors"
        )
    return steps


def _picture(text: str) -> Path:
    file = Path(text)
    if file.suffix not in (".png", ".pdf", ".svg"):
        raise argparse.ArgumentTypeError(f"must end in .png, .pdf or .svg, got {text!r}")
    return file


def parser() -> argparse.ArgumentParser:
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
    fields = "\n".join(f"  {name:<24}{e.says}" for name, e in field_race.RACERS.items())
    racing = commands.add_parser(
        "race",
        help="compare solvers at equal budgets of score evaluations",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run solvers at equal budgets of score evaluations on a target with\n"
        "an exact score; print their errors beside what as many exact draws show.",
        epilog=f"""solvers:
{names}

solvers of --target field, images too large for the measures of the other races: predictors on VE
with N geometric levels, with and without preconditioning, by exact recursion
{fields}

examples:
  refsde race                                     digits, twelve solvers, a minute on two cores
  refsde race --target ring --sde ve -n 20000     eight modes under VE, about 15 seconds
  refsde race --solvers em,heun --nfe 10,40       two solvers, a few seconds
  refsde race --solvers em,ggf,ggf-safe,ggf-tuned --nfe 50,100,200 --target ring   adaptive steps
  refsde race --solvers all --json race.json      all solvers, a minute or two; the numbers as JSON
  refsde race --target field                      images of 64 x 64, under 10 seconds
  refsde race --target field --size 256           and of 256 x 256, half a minute
  refsde race --target field --size 1024          and of 1024 x 1024, over a minute, 2 GB
""",
    )
    racing.add_argument(
        "--solvers",
        default="default",
        metavar="LIST",
        help="'default', 'all' or names, comma-separated",
    )
    racing.add_argument(
        "--nfe",
        type=_budgets,
        metavar="LIST",
        help="budgets of score evaluations a sample (default 10,20,50,100,200; of field "
        "10,20,33,66,133,200)",
    )
    racing.add_argument(
        "--size", type=_edge, metavar="PIXELS", help="edge of field, 8 to 2048 (default 64)"
    )
    racing.add_argument(
        "--spectrum",
        choices=list(field_race.SPECTRA),
        help="of field: 1/|k|^2, which needs no data (default power), or that of two photographs",
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
    ordering = _add_order(commands)
    for command, n, more in (
        (racing, "4000; of field 4, 2, 1 up to 64, 256, 2048 pixels", "ring, field,"),
        (sampling, "100", "ring,"),
    ):
        command.add_argument(
            "--target",
            default="digits",
            metavar="NAME",
            help=f"digits (default), patches, {more} or FILE.npz with weights, means, covs or data "
            "X (scaled to about [-1, 1])",
        )
        command.add_argument(
            "--grid",
            choices=list(race.GRIDS),
            help="times (default auto: karras for edm, else uniform)",
        )
        command.add_argument("-n", type=_whole, help=f"number of samples (default {n})")
        command.add_argument("--rng", type=int, default=0, help="seed (default 0)")
        command.add_argument(
            "--out", type=Path, default=Path(), metavar="DIR", help="where to write (default here)"
        )
    for command in (racing, sampling, ordering):
        command.add_argument("--sde", choices=list(SDES), help="forward SDE (default vp)")
        command.add_argument(
            "--workers",
            type=_whole,
            default=min(2, os.cpu_count() or 1),
            help="parallel workers; results are the same for any number (default 2)",
        )
    return parser


def _add_order(commands: Any) -> argparse.ArgumentParser:
    """Add the command `refsde order`."""
    ordering: argparse.ArgumentParser = commands.add_parser(
        "order",
        help="measure the orders of convergence, your own solver's too",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure weak, strong and flow orders against exact answers, without Monte\n"
        "Carlo, and compare them with what the solvers declare.",
        epilog=f"""solvers:
{indent(fill(", ".join(orders.SOLVERS), 94, break_on_hyphens=False), "  ")}
  or file.py:OBJECT: a function (process, state, s, noise) -> State, a solver object, or a class
  or function without arguments that makes one.  It declares its orders by an attribute, such as
  orders = {{"weak": 1, "strong": 1}}; without, it is measured on what it accepts, and judged only
  if it raises or loses samples.

examples:
  refsde order                                      every solver, under 10 seconds on two cores
  refsde order --solvers em,heun --plot order.png   two solvers and a picture, 2 seconds
  refsde order --solvers mine.py:Heun               your own solver, 2 seconds
  refsde order --kind flow --sde ve                 flow orders under VE, 2 seconds

Orders and limits are judged here; rs.testing.check_solver looks at conduct as well: mates, inputs,
dtypes, noise.

exit status: 0 well; 1 a declared order is not met, or its error tends to something else than 0;
2 a mistake in the command, or in a file named in it.
""",
    )
    ordering.add_argument(
        "--solvers",
        type=_measured,
        default=_measured("all"),
        metavar="LIST",
        help="'all' (default), or names and file.py:OBJECT, comma-separated",
    )
    ordering.add_argument(
        "--kind",
        type=_kinds,
        default=list(orders.KINDS),
        metavar="LIST",
        help="of the errors: weak, strong, flow (default all)",
    )
    ordering.add_argument(
        "--steps",
        type=_ladder,
        metavar="LIST",
        help="numbers of steps (default 64,128,256,512,1024); slopes on "
        "coarser grids, or for narrower data, may not have settled",
    )
    for name, value in (("mean", 0.7), ("std", 0.5)):
        ordering.add_argument(
            f"--{name}", type=float, default=value, help=f"of the data (default {value})"
        )
    ordering.add_argument(
        "--plot", type=_picture, metavar="FILE", help="draw errors against steps (.png, .pdf, .svg)"
    )
    ordering.add_argument(
        "--json", type=Path, metavar="FILE", help="also write all numbers to FILE"
    )
    return ordering
