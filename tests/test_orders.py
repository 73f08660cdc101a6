"""The table of orders: what it measures, what it says of it, and users' own solvers."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refsde as rs
import refsde.solvers
from refsde import orders
from refsde._users import is_users, load
from refsde.exact import Order
from refsde.orders import Problem, Row

REFERENCE = Problem()
STEPS = (64, 128, 256, 512, 1024)

MINE = '''
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import refsde as rs


def em(process, state, s, noise):
    t, x = state.t, state.x
    dw = noise.increment(t, s, x)
    return rs.State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


@dataclass(frozen=True)
class Loud:
    """Euler-Maruyama with a noise that is wrong by a factor."""

    factor: float = 1.001
    orders = {"weak": 1, "strong": 1}
    accepts = frozenset({"reverse"})

    def __call__(self, process, state, s, noise):
        t, x = state.t, state.x
        dw = self.factor * noise.increment(t, s, x)
        return rs.State(s, x + process.drift(x, t) * (s - t) + process.diffuse(dw, t))


whisper = Loud(1.00003)


class Boaster:
    """Euler's method, and says it is Heun's."""

    orders = {"flow": 2}

    def __call__(self, process, state, s, noise):
        return em(process, state, s, noise)


class Heavy:
    """Heun's method with weights that sum to 1.00001."""

    orders = {"flow": 2}
    accepts = frozenset({"flow"})

    def __call__(self, process, state, s, noise):
        t, x, h = state.t, state.x, s - state.t
        slope = process.drift(x, t)
        return rs.State(s, x + (0.5 * slope + 0.50001 * process.drift(x + slope * h, s)) * h)


class FlowHeun:
    accepts = frozenset({"flow"})

    def __call__(self, process, state, s, noise):
        return rs.Heun()(process, state, s, noise)


def make():
    return rs.DDIM(1.0)


def raises(process, state, s, noise):
    return helper(s, state.x)


def helper(s, x):
    return rs.State(s, x / np.zeros((7, 5)))


def bent(process, state, s, noise):
    return rs.State(s, np.tanh(state.x))


def bent_and_proud(process, state, s, noise):
    return rs.State(s, np.tanh(state.x))


bent_and_proud.orders = {"weak": 1, "flow": 1}


def misspelt(process, state, s, noise):
    return state


misspelt.orders = {"weka": 1}


class Shrinks:
    orders = {"weak": -1}

    def __call__(self, process, state, s, noise): ...


class Four:
    def __init__(self, a, b, c, d): ...


@dataclass
class Needs:
    theta: float

    def __call__(self, process, state, s, noise): ...


def pair(a, b): ...
def makes_three(): return 3
def fails(): raise ValueError("no\\nline")
three = 3
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("user") / "mine.py"
    file.write_text(MINE)
    return file


def row(errors: Any, declared: float | None = 1.0, steps: Any = STEPS) -> Row:
    values = np.array(errors, dtype=float)
    order = Order("weak", np.array(steps), values, values[:, None], declared)
    return Row("a", "weak", declared, order)


def falling(p: float, limit: float = 0.0, bend: float = 0.0) -> np.ndarray:
    n = np.array(STEPS, dtype=float)
    return np.asarray(n**-p * (1 + bend / n) + limit)


# -- every solver of the package -------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> orders.OrderTable:
    return orders.run(list(orders.SOLVERS))


ONE_STEP = {
    name
    for name, entry in orders.SOLVERS.items()
    if not isinstance(entry.make(rs.VP()), refsde.solvers._named.Named | rs.Multistep)
}


def test_every_declared_order_is_met(table: orders.OrderTable) -> None:
    assert table.good
    for found in table.rows:
        assert found.verdict == "met", found.line()
        assert found.declared is not None
        # Strong order 1.5 is 2 where the drift is affine; higher ones have not settled on three
        # modes, and those of methods with a history settle late.
        early = found.declared <= 2 and found.solver in ONE_STEP
        slack = 0.02 if early else 0.1 * found.declared
        assert abs(found.slope - math.ceil(found.declared)) < slack
        extrapolated = found.extrapolated or found.order
        assert extrapolated is not None and extrapolated.limit < 2e-8


SHARP = {"em", "heun-sde", "euler", "heun", "ddim", "ddim-sde"}


def test_euler_heun_and_ddim_show_their_order_to_two_hundredths(table: orders.OrderTable) -> None:
    seen = set()
    for found in table.rows:
        if found.solver in SHARP and found.order is not None:
            seen.add((found.solver, found.kind))
            last = found.order.slopes[found.order.steps[1:] >= 320]
            np.testing.assert_allclose(last, found.declared, rtol=0, atol=0.0201)
    assert seen >= {("em", "weak"), ("em", "strong"), ("heun", "flow"), ("heun-sde", "weak")}


def test_the_table_holds_every_order_that_the_package_declares(table: orders.OrderTable) -> None:
    rows = {(found.solver, found.kind) for found in table.rows}
    process = {"weak": "reverse", "strong": "reverse", "flow": "flow"}
    for name, entry in orders.SOLVERS.items():
        solver: Any = entry.make(REFERENCE.sde)
        for kind in solver.orders:
            same = [
                other
                for other, at in orders.SOLVERS.items()
                if at.kind == process[kind] and type(at.make(REFERENCE.sde)) is type(solver)
            ]
            assert any((other, kind) in rows for other in same), (name, kind)
    assert set(table.undeclared) == {"pc", "pc-annealed", "rk45", "rk23", "dop853", "churn"}


def test_every_solver_class_is_in_the_table() -> None:
    made = {type(entry.make(rs.VP())) for entry in orders.SOLVERS.values()}
    correctors = {rs.Langevin, rs.AnnealedLangevin, rs.MALA}  # they go nowhere alone
    assert made == {getattr(rs.solvers, name) for name in rs.solvers.__all__} - correctors


def test_high_flow_orders_are_judged_on_three_modes(table: orders.OrderTable) -> None:
    steps = {found.solver: found.order.steps for found in table.rows if found.order is not None}
    assert tuple(steps["heun"]) == (80, 160, 320) and tuple(steps["euler"]) == STEPS
    (heun,) = (found for found in table.rows if found.solver == "heun")
    assert heun.extrapolated is not None and tuple(heun.extrapolated.steps) == STEPS


@pytest.mark.parametrize("sde", [rs.SubVP(), rs.VE(), rs.EDM(), rs.Cosine()], ids=repr)
def test_all_ladders_end_at_one_noise_level(sde: Any) -> None:
    ends = [problem.sde.lam(problem.t_end) for problem in (REFERENCE, Problem(sde=sde))]
    np.testing.assert_allclose(*ends, rtol=1e-9)
    assert Problem(sde=sde).grid(sde, 5).ts[-1] == Problem(sde=sde).t_end


@pytest.mark.parametrize("sde", [rs.SubVP(), rs.VE(), rs.EDM(), rs.Cosine()], ids=repr)
def test_other_sdes_have_their_problem_too(sde: Any) -> None:
    names = ["em", "ancestral", "euler", "heun", "reverse-diffusion-flow"]
    found = orders.run(names, problem=Problem(sde=sde))
    assert found.good
    refused = [one for one in found.rows if one.order is None]
    assert {one.solver for one in refused} == ({"ancestral"} if "SubVP" in repr(sde) else set())
    assert not any(one.judged for one in refused)  # a solver may refuse an SDE
    assert "not measured: ancestral, weak, strong: `variance`" in found.table() or not refused


def test_the_same_for_any_number_of_workers(mine: Path) -> None:
    names = ["em", f"{mine}:Loud"]
    problem = Problem(steps=(32, 64))
    one, two = (orders.run(names, ["weak"], problem, workers=k).to_dict() for k in (1, 2))
    assert one == two


def test_the_table_says_it_all(table: orders.OrderTable) -> None:
    lines = table.table().splitlines()
    assert lines[0] == "data N(0.7, 0.5^2) under VP, uniform grids to t = 0.2"
    assert "three modes" in lines[1]
    assert lines[3].split() == "solver kind declared slope N error limit verdict".split()
    em = next(line for line in lines if line.startswith("em "))
    order = table.rows[0].order
    assert order is not None
    numbers = [f"{order.slope:.3f}", "1024", f"{order.errors[-1]:.2e}", f"{order.limit:.1e}"]
    assert em.split() == ["em", "weak", "1", *numbers, "met"]
    width = len(lines[3]) - len("verdict")
    assert all(line[width:] == "met" for line in lines[4 : 4 + len(table.rows)])  # columns line up
    judged = len(table.rows)
    assert f"{judged} of {judged} declared orders met" in lines
    assert "without an order of these kinds: pc, rk45, churn, pc-annealed, rk23, dop853" in lines


def test_json_holds_the_numbers(table: orders.OrderTable) -> None:
    data = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert data["mean"] == 0.7 and data["std"] == 0.5 and data["good"] is True
    for told, found in zip(data["rows"], table.rows, strict=True):
        assert found.order is not None
        assert told["errors"] == found.order.errors.tolist()
        assert told["slopes"] == found.order.slopes.tolist()
        assert told["steps"] == found.order.steps.tolist()
        assert told["limit"] == (found.extrapolated or found.order).limit
        assert (told["solver"], told["kind"]) == (found.solver, found.kind)
        assert (told["declared"], told["verdict"]) == (found.declared, "met")


def test_json_has_null_where_there_is_no_number() -> None:
    told = row([1.0, math.nan, math.inf, 0.1, 0.1]).to_dict()
    assert told["errors"] == [1.0, None, None, 0.1, 0.1] and told["limit"] is None
    assert told["slopes"][0] is None


def test_the_data_are_those_asked_for() -> None:
    narrow = Problem(0.0, 0.25, steps=(256, 512, 1024))
    (found,) = orders.run(["em"], ["weak"], narrow).rows
    assert found.order is not None
    sde, target = rs.VP(), rs.GaussianMixture([1.0], [[0.0]], [0.0625])
    process = rs.ReverseSDE(sde, target.score(sde))
    again = rs.exact.order(
        process,
        rs.EulerMaruyama(),
        "weak",
        steps=(256, 512, 1024),
        grid=lambda sde, n: rs.Grid.uniform(sde, n, t_end=narrow.t_end),
    )
    assert abs(narrow.t_end - 0.2) < 1e-12
    np.testing.assert_array_equal(found.order.errors, again.errors)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"std": 0.0}, "`std` positive and finite, got 0.7 and 0.0"),
        ({"mean": math.nan}, "`mean` must be finite"),
        ({"steps": (64,)}, r"`steps` must hold two numbers .* got \(64,\)"),
    ],
)
def test_a_wrong_problem_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Problem(**wrong)


# -- verdicts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (row(falling(1)), "met"),
        (row(falling(2)), "met"),  # more than declared
        (row(falling(0.95)), "wrong limit"),  # no power of the step that is declared
        (row(falling(0.85)), "not met"),
        (row(falling(1), declared=None), "not declared"),
        (row(falling(1, limit=2e-6)), "wrong limit"),
        (row(falling(1, limit=5e-7)), "met"),
        (row(falling(1, limit=5e-6, bend=5)), "wrong limit"),
        (row(falling(1, limit=1e-3)), "not met"),
        (row(falling(2, limit=2e-6), declared=2), "not met"),
        (row(np.full(5, 1e-16)), "exact"),
        (row([1e-3, 1e-16, 1e-16, 1e-16, 1e-16]), "not met"),  # no slope above rounding
        (row([1e-6, 0.5e-6, 0.25e-6, 2e-16, 1.9e-16]), "met"),
        (row([1.0, 0.5, math.nan, 0.125, 0.06]), "not finite"),
        (row([1.0, 0.5, 0.25, 0.125, math.inf]), "not finite"),
        (row([1.0, 0.5, 0.25, 0.125, math.inf], declared=None), "not finite"),
        (Row("a", "weak", 1.0, None, "because"), "not measured"),
        (row([0.3, 0.155, 0.08], steps=(8, 16, 32)), "slope met"),  # too few to tell the limit
        (row([0.3, 0.2, 0.15], steps=(8, 16, 32)), "not met"),
    ],
)
def test_the_verdict(found: Row, verdict: str) -> None:
    assert found.verdict == verdict
    bad = verdict in ("not met", "wrong limit", "not finite")
    assert found.good == (not bad)


def test_a_limit_that_still_falls_is_not_called_wrong() -> None:
    n = np.array(STEPS, dtype=float)
    slow = row(1 / (n + 75))  # its powers come in late
    assert slow.order is not None and slow.order.limit > 1e-6
    assert slow.slope >= 0.9 and slow.verdict == "slope met"
    assert row(n**-1 + 6e-5).verdict == "wrong limit"  # it stays


def test_a_solver_of_the_users_that_cannot_be_measured_is_no_success() -> None:
    assert not Row("mine.py:f", "weak", 1.0, None, "bent").good
    assert Row("em", "weak", 1.0, None, "refused").good


# -- users' own solvers ----------------------------------------------------------------------------


def test_a_function_without_orders_is_measured_in_all_kinds(mine: Path) -> None:
    problem = Problem(steps=(32, 64))
    found = orders.run([f"{mine}:em"], problem=problem)
    assert [(one.kind, one.verdict) for one in found.rows] == [
        ("weak", "not declared"),
        ("strong", "not declared"),
        ("flow", "not declared"),
    ]
    package = orders.run(["em", "euler"], problem=problem)
    for mine_, theirs in zip(found.rows, package.rows, strict=True):
        assert mine_.order is not None and theirs.order is not None
        np.testing.assert_allclose(mine_.order.errors, theirs.order.errors, rtol=1e-9)
    assert found.good and "0 of 0 declared orders met" in found.table()


def test_a_class_is_made_and_measured_on_what_it_accepts(mine: Path) -> None:
    (found,) = orders.run([f"{mine}:FlowHeun"]).rows
    assert (found.kind, found.verdict) == ("flow", "not declared")
    # steeper than 1.5, so measured where a Gaussian does not flatter
    assert found.order is not None and tuple(found.order.steps) == (80, 160, 320)


def test_a_factory_and_its_declared_orders(mine: Path) -> None:
    found = orders.run([f"{mine}:make"], problem=REFERENCE)
    assert [(one.kind, one.declared, one.verdict) for one in found.rows] == [
        ("weak", 1, "met"),
        ("strong", 1, "met"),
    ]


@pytest.mark.parametrize(
    ("name", "kind", "verdict"),
    [
        ("Loud", "weak", "not met"),
        ("Loud", "strong", "not met"),
        ("whisper", "weak", "wrong limit"),  # 3e-5 of noise: the slope is 0.987
        ("Boaster", "flow", "not met"),
        ("Heavy", "flow", "wrong limit"),  # weights of 1.00001: slope 1.9 on three modes
    ],
)
def test_mutants_are_caught(mine: Path, name: str, kind: Any, verdict: str) -> None:
    found = orders.measure(f"{mine}:{name}", kind, REFERENCE)
    assert found.verdict == verdict and not found.good


def test_what_is_no_case_for_a_kind_is_noted(mine: Path) -> None:
    found = orders.run([f"{mine}:bent"], problem=Problem(steps=(8, 16)))
    weak, strong, flow = found.rows
    assert weak.verdict == strong.verdict == "not measured" and "not affine" in weak.note
    assert flow.verdict == "not declared"
    (note,) = found.notes()
    assert note.startswith(f"{mine}:bent, weak, strong: `solver`")
    proud = orders.run([f"{mine}:bent_and_proud"], problem=Problem(steps=(8, 16)))
    assert [one.verdict for one in proud.rows] == ["not measured", "not met"] and not proud.good


def test_a_step_that_raises_is_told_with_its_line(mine: Path) -> None:
    line = 1 + MINE.splitlines().index("    return rs.State(s, x / np.zeros((7, 5)))")
    says = rf"mine\.py:raises, weak: a step raised ValueError: operands .* \(line {line}\)$"
    found = orders.run([f"{mine}:raises", "em"], ["weak"], Problem(steps=(8, 16)))
    assert [one.verdict for one in found.rows] == ["raised", "slope met"] and not found.good
    assert re.search(says, found.notes()[0]), found.notes()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gone.py:x", "there is no file .*gone.py"),
        (
            "mine.py:nothing",
            "has no 'nothing': say .*mine.py:NAME with a name out of Boaster, FlowHeun, Four",
        ),
        ("mine.py", "holds more than a solver: say .*mine.py:NAME with a name out of Boaster"),
        ("mine.py:three", r"cannot be called \(int\): a solver is a function \(process, state"),
        ("mine.py:pair", r"is a function pair\(a, b\), neither a solver .* add a function"),
        ("mine.py:Needs", r"is a class Needs\(theta: 'float'\)"),
        ("mine.py:makes_three", r"makes something \(int\) that cannot be called as a solver"),
        ("mine.py:fails", r"making it raised ValueError: no line \(line \d+\)$"),
        ("mine.py:misspelt", "`orders` must map weak, strong or flow .* got {'weka': 1}"),
        ("mine.py:Shrinks", "`orders` must map .* positive numbers, got {'weak': -1}"),
        ("mine.py:Four", r"is a class Four\(a, b, c, d\), neither a solver"),
        ("import.py:x", r"importing .* raised ModuleNotFoundError: .*nothing_here.* \(line 2\)"),
        ("syntax.py:x", r"importing .* raised SyntaxError: .* \(line 1\)"),
        ("exits.py:x", r"importing .* raised SystemExit: 3"),
        ("empty.py:x", "with a name out of nothing that can be called"),
    ],
)
def test_mistakes_in_a_users_file_are_named(mine: Path, name: str, says: str) -> None:
    folder = mine.parent
    (folder / "import.py").write_text("\nimport nothing_here\n")
    (folder / "syntax.py").write_text("def f(:\n")
    (folder / "exits.py").write_text("import sys\nsys.exit(3)\n")
    (folder / "empty.py").write_text("x_ = 1\n")
    with pytest.raises(ValueError, match=says) as caught:
        load(f"{folder}/{name}")
    assert str(caught.value).startswith(f"{folder}/{name}: ") and "\n" not in str(caught.value)


def test_a_file_may_import_its_neighbours_and_change(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_the_solver.py").write_text("from refsde import Heun\n")
    file = tmp_path / "changing.py"
    file.write_text("from neighbour_of_the_solver import Heun\n")
    assert load(f"{file}:Heun") == rs.Heun()
    assert load(f"{file}:Heun") is not None
    file.write_text("from refsde import EulerMaruyama as Heun  # a longer text\n")
    assert load(f"{file}:Heun") == rs.EulerMaruyama()


def test_a_file_is_run_once(tmp_path: Path) -> None:
    file = tmp_path / "once.py"
    file.write_text(
        "from pathlib import Path\n"
        "with open(Path(__file__).with_suffix('.log'), 'a') as log:\n"
        "    log.write('x')\n"
        "from refsde import Heun\n"
    )
    for _ in range(3):
        load(f"{file}:Heun")
    assert file.with_suffix(".log").read_text() == "x"


def test_names_and_files_are_told_apart() -> None:
    assert is_users("mine.py:Heun") and is_users("a/b.py") and is_users(r"C:\a\b.py:Heun")
    assert not any(is_users(name) for name in orders.SOLVERS)
