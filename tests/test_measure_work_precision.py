"""A sweep: the same bits on any backend, budgets that are kept, records that can be repeated."""

from __future__ import annotations

import json
import math
import pickle
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde.measure import frechet, within_budget, work_precision
from refsde.measure.work_precision import Record, WorkPrecision

SDE = rs.VP()
LAW = rs.GaussianMixture.ring(4)
FLOW = rs.ProbabilityFlow(SDE, LAW.score(SDE))
REVERSE = rs.ReverseSDE(SDE, LAW.score(SDE))
METRICS: dict[str, Callable[[Any], float]] = {"frechet": partial(frechet, y=LAW), "largest": np.max}
SOLVERS: dict[str, Any] = {
    "em": (REVERSE, rs.EulerMaruyama()),
    "heun": rs.Heun(),
    "sde-dpm": (REVERSE, rs.OneStep.sde_dpm(0.5)),
    "rk45": rs.BlackBox(),
    "ggf": (REVERSE, rs.GGF.tuned(rtol=0.2, atol=0.02)),
}


def sweep(**change: Any) -> WorkPrecision:
    """A sweep of two budgets, with some arguments changed."""
    arguments: dict[str, Any] = {"solvers": SOLVERS, "nfe": [9, 30], "n": 50, "metrics": METRICS}
    arguments |= {"process": FLOW} | change
    return work_precision(arguments.pop("process"), **arguments)


@pytest.fixture(scope="module")
def serial() -> WorkPrecision:
    return sweep()


# -- determinism ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_the_same_bits_on_any_backend(serial: WorkPrecision, backend: str, workers: int) -> None:
    with joblib.parallel_config(backend=backend):
        assert sweep(workers=workers) == serial


def test_a_mutant_that_draws_outside_its_address_is_seen(serial: WorkPrecision) -> None:
    """Equality of sweeps has teeth: noise that does not come from the key breaks it."""
    stray = np.random.default_rng()

    def unseeded(process: Any, state: Any, s: Any, noise: Any) -> Any:
        new = rs.EulerMaruyama()(process, state, s, noise)
        return new._replace(x=new.x + 1e-12 * stray.standard_normal(new.x.shape))

    assert sweep(solvers={"em": (REVERSE, unseeded)}) != sweep(solvers={"em": (REVERSE, unseeded)})
    assert sweep(solvers={"em": SOLVERS["em"]}).records == serial.records[:2]


@pytest.mark.parametrize("name", SOLVERS)
def test_a_record_does_not_depend_on_the_rest_of_the_sweep(
    serial: WorkPrecision, name: str
) -> None:
    alone = sweep(solvers={name: SOLVERS[name]}, nfe=30)
    assert alone.records == tuple(r for r in serial.records if (r.solver, r.budget) == (name, 30))


@pytest.mark.parametrize("rng", [0, 7])
def test_a_record_is_a_run_of_sample(rng: int) -> None:
    (record,) = sweep(solvers={"em": SOLVERS["em"]}, nfe=30, rng=rng).records
    solution = rs.sample(REVERSE, rs.EulerMaruyama(), 50, times=30, rng=rng)
    assert record.values == {"frechet": frechet(solution.x, LAW), "largest": solution.x.max()}
    assert (record.nfe, record.steps, record.success) == (30.0, 30, 1.0)
    generator = np.random.default_rng(rng)
    assert sweep(solvers={"em": SOLVERS["em"]}, nfe=30, rng=generator).records == (record,)


def test_records_are_ordered_by_solver_and_then_budget(serial: WorkPrecision) -> None:
    ran = [(r.solver, r.budget) for r in serial.records]
    assert ran == [
        (name, budget) for name in SOLVERS for budget in (9, 30) if (name, budget) in ran
    ]
    assert sweep(solvers={"em": SOLVERS["em"]}, nfe=(30, 9, 30)).records == serial.records[1::-1]


@pytest.mark.parametrize("solver", [rs.OneStep.sde_dpm(0.5), rs.BlackBox(), rs.Ancestral()])
def test_solvers_pickle_and_compare(solver: Any) -> None:
    """Without cloudpickle's help, for backends of processes."""
    assert pickle.loads(pickle.dumps(solver)) == solver


# -- budgets --------------------------------------------------------------------------------------


class Costs:
    """Euler's method at any price: ``price(k)`` evaluations in step k, ``first`` before all."""

    def __init__(self, price: Callable[[int], int] = lambda k: 1, first: int = 0) -> None:
        self.price, self.first = price, first

    def init(self, process: Any, x: Any, t: float) -> tuple[int]:
        for _ in range(self.first):
            process.score(x, t)
        return (0,)

    def __call__(self, process: Any, state: Any, s: Any, noise: Any) -> Any:
        (k,) = state.memory
        slope = 0.0
        for _ in range(self.price(k)):
            slope = process.drift(state.x, state.t)
        return rs.State(s, state.x + slope * (s - state.t), memory=(k + 1,))


@given(st.integers(1, 3), st.integers(0, 3), st.integers(1, 30))
def test_as_many_steps_as_the_budget_pays_for(each: int, first: int, budget: int) -> None:
    fitted = within_budget(FLOW, Costs(lambda k: each, first), budget)
    steps = (budget - first) // each
    assert (fitted is None and steps < 1) or (fitted is not None and fitted[1].n == steps)


def test_a_price_that_rises_on_the_way_is_paid_from_the_budget() -> None:
    """What a few steps cost says nothing of it: the run is made again, with fewer."""
    (record,) = sweep(solvers={"late": Costs(lambda k: 1 + k // 6)}, nfe=30).records
    steps = record.steps
    assert record.nfe == sum(1 + k // 6 for k in range(steps)) <= 30
    assert steps >= 10


@pytest.mark.parametrize("method", ["RK45", "DOP853"])
def test_adaptive_solvers_keep_the_budget_on_all_samples(method: Any) -> None:
    """RK45 fitted to 50 evaluations on 256 samples needs 62 for 2000."""
    target = rs.GaussianMixture.ring(8)
    flow = rs.ProbabilityFlow(SDE, target.score(SDE))
    sweeps = work_precision(
        flow, {"x": rs.BlackBox(method)}, [30, 50, 100], n=2000, metrics={"m": np.max}
    )
    assert all(record.nfe <= record.budget for record in sweeps.records)
    assert [record.budget for record in sweeps.records] == [30, 50, 100]


@pytest.mark.parametrize("budget", [40, 100])
@pytest.mark.parametrize("solver", [rs.GGF.tuned(), rs.GGF.safe(), rs.Lamba(), rs.EmbeddedRK()])
def test_steps_of_their_own_keep_the_budget_on_average(solver: Any, budget: int) -> None:
    """And use most of it: a rung of tolerances changes the cost by a tenth or so."""
    process = REVERSE if "reverse" in solver.accepts else FLOW
    found = sweep(solvers={"own": (process, solver)}, nfe=budget, n=400)
    if not found.records:
        assert budget == 40 and "even its cheapest setting costs more" in found.skipped[0]
        return
    (record,) = found.records
    assert 0.7 * budget < record.nfe <= budget
    fitted, times = within_budget(process, solver, budget)  # type: ignore[misc]
    assert times == fitted.default_times and isinstance(times, rs.Adaptive)
    assert fitted.rtol / solver.rtol == pytest.approx(fitted.atol / solver.atol)


def test_a_run_of_an_adaptive_solver_is_a_run_of_sample() -> None:
    """With the noise that remembers, as `sample` has it by default."""
    solver = rs.GGF.tuned()
    (record,) = sweep(solvers={"ggf": (REVERSE, solver)}, nfe=80, rng=3).records
    key = np.random.default_rng(3).integers(2**64, dtype=np.uint64)
    fitted, times = within_budget(REVERSE, solver, 80, rng=3)  # type: ignore[misc]
    sol = rs.sample(REVERSE, fitted, 50, times=times, rng=3)
    assert sol.seed_entropy == int(key)
    assert record.values["largest"] == sol.x.max() and record.nfe == sol.nfe.mean()


def test_what_no_budget_pays_for_is_skipped_and_said() -> None:
    found = sweep(solvers={"heun": rs.Heun(), "rk45": rs.BlackBox()}, nfe=[1, 2])
    assert [(r.solver, r.budget, r.steps) for r in found.records] == [("heun", 2, 1)]
    assert found.skipped == (
        "heun within 1: even its cheapest setting costs more",
        "rk45 within 1: even its cheapest setting costs more",
        "rk45 within 2: even its cheapest setting costs more",
    )


def test_a_solver_that_refuses_the_sde_is_skipped_and_said() -> None:
    sde = rs.SubVP()
    process = rs.ReverseSDE(sde, LAW.score(sde))
    found = sweep(process=process, solvers={"ancestral": rs.Ancestral()}, nfe=[5, 10])
    assert found.records == ()
    (note,) = found.skipped
    assert note.startswith("ancestral: ") and "SubVP" in note


def test_a_price_that_does_not_rise_cannot_be_budgeted() -> None:
    with pytest.raises(ValueError, match=r"`nfe` cannot be spent .* \(5 in 4 steps, 5 in 6\)"):
        within_budget(FLOW, Costs(lambda k: 0, first=5), 10)


def test_within_budget_on_a_grid_of_ones_own() -> None:
    fitted = within_budget(FLOW, rs.Heun(), 25, times=partial(rs.Grid.power, SDE))
    assert fitted is not None
    assert fitted[0] == rs.Heun()
    assert fitted[1] == rs.Grid.power(SDE, 12)


def test_grids_may_differ_between_solvers() -> None:
    quadratic = partial(rs.Grid.power, SDE)
    pairs = {"a": rs.DDIM(), "b": rs.DDIM()}
    both = sweep(solvers=pairs, times=quadratic).records
    assert [r.values for r in both[:2]] == [r.values for r in both[2:]]
    one = sweep(solvers=pairs, times={"b": quadratic}).records
    assert one[2:] == both[2:]
    assert one[:2] == sweep(solvers={"a": rs.DDIM()}).records != both[:2]


# -- samples that are lost ------------------------------------------------------------------------


def explode(share: float) -> Any:
    """Euler's method that loses the samples above a threshold in the third step."""

    def solver(process: Any, state: Any, s: Any, noise: Any) -> Any:
        (k,) = state.memory or (0,)
        x = state.x + process.drift(state.x, state.t) * (s - state.t)
        if k == 2:
            start = rs.Gaussian(0).on(np.arange(50)).start(np.zeros((50, 2)))[:, :1]
            lost = start < (np.quantile(start, share) if share < 1 else np.inf)
            x = np.where(lost[: len(x)], np.inf, x)
        return rs.State(s, x, memory=(k + 1,))

    return solver


def test_lost_samples_are_left_out_of_the_measures_and_counted() -> None:
    sizes: list[int] = []

    def size(x: np.ndarray) -> float:
        sizes.append(len(x))
        return float(np.abs(x).max())

    (record,) = sweep(solvers={"e": explode(0.4)}, nfe=6, metrics={"size": size}).records
    assert record.success == pytest.approx(0.6)
    assert sizes == [30]
    assert math.isfinite(record.values["size"])
    assert record.nfe == pytest.approx(0.6 * 6 + 0.4 * 3)


def test_nothing_left_is_nan() -> None:
    (record,) = sweep(solvers={"e": explode(math.inf)}, nfe=6).records
    assert record.success == 0.0
    assert all(math.isnan(value) for value in record.values.values())


# -- what comes out -------------------------------------------------------------------------------


def test_the_table_shows_everything(serial: WorkPrecision) -> None:
    head, *lines = serial.table().splitlines()
    assert head.split() == ["solver", "budget", "NFE", "success", "CPU", "s", *METRICS]
    assert len(lines) == len(serial.records) + len(serial.skipped)
    for record, line in zip(serial.records, lines, strict=False):
        name, budget, nfe, success, _, *values = line.split()
        assert (name, int(budget), float(success)) == (record.solver, record.budget, 1.0)
        assert float(nfe) == pytest.approx(record.nfe, abs=0.05)
        assert [float(v) for v in values] == pytest.approx(list(record.values.values()), rel=1e-3)
    assert len({len(line) for line in (head, *lines[: len(serial.records)])}) == 1
    assert repr(serial).startswith(f"WorkPrecision({len(serial.records)} runs of 50 samples)\n")
    assert serial.table() in repr(serial)


def test_the_table_of_records_with_different_measures() -> None:
    records = (
        Record("a", 2, 2.0, 1, 0.1, 1.0, {"x": 1.0}),
        Record("b", 2, 2.0, 1, 0.1, 1.0, {"x": 2.0, "y": math.nan}),
    )
    rows = WorkPrecision(records, (), 5).table().splitlines()
    assert [row.split()[-2:] for row in rows] == [["x", "y"], ["1", "-"], ["2", "nan"]]
    assert WorkPrecision((), ("a: no",), 5).table().splitlines()[1:] == ["not run: a: no"]


def test_numbers_are_ready_for_json(serial: WorkPrecision) -> None:
    plain = json.loads(json.dumps(serial.to_dict(), allow_nan=False))
    assert plain["n"] == 50
    assert plain["skipped"] == list(serial.skipped)
    assert [Record(**record) for record in plain["records"]] == list(serial.records)
    lost = Record("a", 2, 2.0, 1, 0.1, 0.0, {"x": math.nan, "y": -math.inf})
    values = WorkPrecision((lost,), (), 5).to_dict()["records"][0]["values"]
    assert values == {"x": "nan", "y": "-inf"}


def test_equal_up_to_the_clock() -> None:
    slow, fast = (Record("a", 2, 2.0, 1, seconds, 1.0, {"x": 1.0}) for seconds in (9.0, 0.1))
    assert slow == fast
    assert slow.seconds > fast.seconds


def test_seconds_are_those_of_the_run() -> None:
    """Not of the measures, however long they take."""

    def idle(x: np.ndarray) -> float:
        return float(sum(np.sort(x, axis=None)[0] for _ in range(5000)))

    (record,) = sweep(solvers={"heun": rs.Heun()}, nfe=2, metrics={"idle": idle}).records
    assert 0 < record.seconds < 0.05


def test_progress_is_counted_in_evaluations(capsys: pytest.CaptureFixture[str]) -> None:
    sweep(solvers={"heun": rs.Heun()}, progress=True)
    assert "39/39" in capsys.readouterr().err
    sweep(solvers={"heun": rs.Heun()})
    assert capsys.readouterr().err == ""


# -- bad input ------------------------------------------------------------------------------------


def scribble(x: np.ndarray) -> float:
    x[0] = 0.0
    return 0.0


@pytest.mark.parametrize(
    ("change", "problem", "says"),
    [
        ({"solvers": {}}, TypeError, "`solvers` must map names to solvers"),
        ({"solvers": [rs.Heun()]}, TypeError, "`solvers` must map names to solvers"),
        ({"solvers": {"a": rs.Heun}}, TypeError, r"`solvers`\['a'\].*pass Heun\(\)"),
        ({"solvers": {"a": "heun"}}, TypeError, r"`solvers`\['a'\].*`solver` must be called"),
        ({"solvers": {"a": (rs.Heun(), FLOW)}}, TypeError, r"`solvers`\['a'\]"),
        ({"solvers": {"a": rs.DDIM(1.0)}}, TypeError, r"`solvers`\['a'\].*ReverseSDE"),
        ({"process": None}, TypeError, r"`process` is None and `solvers`\['heun'\] brings none"),
        ({"process": SDE}, TypeError, "`process` must be a process"),
        ({"nfe": []}, ValueError, "`nfe` must hold at least one budget"),
        ({"nfe": [10, 0]}, ValueError, "`nfe` must be at least 1, got 0"),
        ({"nfe": [10.5]}, TypeError, "`nfe` must be an integer, got 10.5"),
        ({"n": 1}, ValueError, "`n` must be at least 2, got 1"),
        ({"n": 2.0}, TypeError, "`n` must be an integer"),
        ({"metrics": {}}, TypeError, "`metrics` must map names to functions"),
        ({"metrics": {"a": 1.0}}, TypeError, "`metrics` must map names to functions"),
        ({"metrics": [np.max]}, TypeError, "`metrics` must map names to functions"),
        ({"metrics": {"a": np.abs}}, TypeError, r"`metrics`\['a'\] must return one number"),
        ({"metrics": {"a": scribble}}, ValueError, "read-only"),
        ({"times": rs.Grid.uniform(SDE, 5)}, TypeError, "`times` must make a Grid of any number"),
        ({"times": lambda steps: list(range(steps))}, TypeError, "`times` must make a Grid"),
        ({"times": {"heun": 3}}, TypeError, "`times` must make a Grid.*'heun'"),
        ({"times": {"hein": partial(rs.Grid.power, SDE)}}, ValueError, r"`times` names \['hein'\]"),
        ({"rng": "seed"}, TypeError, "`rng` must be"),
        ({"workers": 0}, ValueError, "`workers` must be a non-zero int"),
        ({"workers": 1.5}, ValueError, "`workers` must be a non-zero int"),
    ],
)
def test_bad_input(change: dict[str, Any], problem: type[Exception], says: str) -> None:
    with pytest.raises(problem, match=says):
        sweep(**change)


def test_bad_budget() -> None:
    with pytest.raises(ValueError, match="`budget` must be at least 1"):
        within_budget(FLOW, rs.Heun(), 0)
    with pytest.raises(TypeError, match="ReverseSDE"):
        within_budget(FLOW, rs.DDIM(1.0), 10)


@pytest.mark.parametrize(
    ("module", "options", "says"),
    [
        ("joblib", {}, r"sweeps need joblib: pip install 'refsde\[experiments\]'"),
        ("tqdm.auto", {"progress": True}, r"needs tqdm: pip install 'refsde\[experiments\]'"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, options: dict[str, Any], says: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=says):
        sweep(**options)
