"""Adaptive: the rule of each controller, where steps end, who is lost, and that others do not care.

No test here is statistical.  Controllers are compared, attempt by attempt, with a recursion of one
sample written out in Python, on solvers whose errors are a script; first steps with SciPy's; what
becomes of a sample among others, bit for bit, with what becomes of it alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from _solvers import GAUSSIAN, RING, CountingScore, process_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import RK23, RK45

import refsde as rs
from refsde.times import FILTERS, HairerStart, Share

BLOCK = 16384  # samples in a noise block of small events
VP = rs.VP()
SCORE = RING.score(VP)
REVERSE, FLOW, FORWARD = (process_of(kind, SCORE) for kind in ("reverse", "flow", "forward"))
FIELDS = ("x", "t", "nfe", "n_accepted", "n_rejected", "success")


def same(a: rs.Solution, b: rs.Solution, rows: Any = slice(None), of_a: Any = slice(None)) -> bool:
    """Whether the samples ``of_a`` of ``a`` are the samples ``rows`` of ``b``, in everything."""
    return all(np.array_equal(getattr(a, f)[of_a], getattr(b, f)[rows]) for f in FIELDS)


# -- what it is made of ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("h0", (0, 0.0, -0.1, math.nan, math.inf, "a", None, True, [0.1])),
        ("safety", (0, -1, 1.1, math.nan, math.inf, "a", None, True)),
        ("cap", (0.999, 0.5, -1, math.nan, -math.inf, "a", None, True)),
        ("floor", (-0.1, 1, 1.5, math.nan, math.inf, "a", None, True)),
        ("accept", (0.99, 0, -1, math.nan, math.inf, "a", None, True)),
        ("h_min", (0, -1e-10, math.nan, math.inf, "a", None, True)),
        ("exponent", (0, -0.5, math.nan, math.inf, "a", None, True, (), (1, 0, 0, 0))),
        ("exponent", ((0.5, math.nan), (0.5, "a"), (0.5, True), (0, 1), [0.5, 0.1])),
        ("steps", ("each", "Sample", None, 1)),
        ("t_start", (-0.1, math.nan, math.inf, "a", True)),
        ("t_end", (-1e-9, math.nan, math.inf, "a", True)),
        ("max_steps", (0, -1)),
    ],
)
def test_wrong_fields_are_refused(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"`{name}` must .*") as raised:
            rs.Adaptive(**{name: value})
        assert repr(value) in str(raised.value)


def test_other_wrong_fields_are_refused() -> None:
    for value in (1.5, "a", None, True):
        with pytest.raises(TypeError, match="`max_steps` must be a positive int, got"):
            rs.Adaptive(max_steps=value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rtol"):
        rs.Adaptive(rtol=0.01)  # type: ignore[call-arg]


def test_repr_repeats_the_controller() -> None:
    """And says no more than what differs from the published one."""
    assert repr(rs.Adaptive()) == "Adaptive()"
    for control in (
        rs.Adaptive(h0=0.1, exponent=(0.5, 0.1), steps="batch"),
        rs.GGF.tuned().control,
    ):
        assert eval(repr(control), {"Adaptive": rs.Adaptive, "Share": Share}) == control


def test_numpy_scalars_become_floats() -> None:
    """Else a float32 run would be widened."""
    half = np.float64(0.5)
    control = rs.Adaptive(
        h0=half, safety=half, exponent=(half, half), cap=2 * half, floor=half, accept=2 * half,
        h_min=half, t_end=half,
    )  # fmt: skip
    values = (
        getattr(control, name) for name in ("h0", "safety", "cap", "floor", "accept", "t_end")
    )
    assert all(type(value) is float for value in (*values, *control.exponent))  # type: ignore[misc]
    sol = rs.sample(REVERSE, rs.GGF(np.float64(0.5)), 20, times=replace(control, h_min=1e-9),
                    rng=0, dtype=np.float32)  # fmt: skip
    assert sol.x.dtype == np.float32


@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_gains(name: str) -> None:
    """Exponents of 1/e: (P + I + D, -(P + 2D), D) / k, from the gains of the literature."""
    gains = {
        "I": (0, 1, 0),
        "PI": (0.4, 0.3, 0),
        "SDE": (0.1, 0.3, 0),
        "PI.4.2": (1 / 5, 2 / 5, 0),
        "PI.3.3": (1 / 3, 1 / 3, 0),
        "H211PI": (-1 / 6, 1 / 3, 0),
        "H312PID": (-2 / 9, 2 / 9, 1 / 18),
    }[name]
    control, right = rs.Adaptive.filter(name, order=1.5), rs.Adaptive.pid(*gains, order=1.5)
    assert control.exponent == pytest.approx(right.exponent, abs=1e-15)
    assert control == replace(right, exponent=control.exponent)
    assert (control.cap, control.floor) == (10.0, 0.2)
    # What the filters are for: H211 and H312 do not pass on an error that alternates.
    response = np.polyval(FILTERS[name], -1)
    assert (abs(response) < 1e-15) == (name in ("H211PI", "H312PID"))
    # A steady error e asks for steps of the size e^(-I / k), and I is what the powers sum to.
    assert sum(FILTERS[name]) == pytest.approx(gains[1], abs=1e-15)


def test_filters_take_options() -> None:
    control = rs.Adaptive.filter("PI", 2, cap=1.5, floor=0.0, h0=0.1)
    assert control == rs.Adaptive(h0=0.1, exponent=(0.35, -0.2, 0.0), cap=1.5, floor=0.0)
    assert rs.Adaptive.pid(0, 1, order=2, cap=3).cap == 3
    with pytest.raises(ValueError, match="`name` must be one of I, PI, .*, got 'PID'"):
        rs.Adaptive.filter("PID", 1.5)
    for order in (0, -1, math.nan, math.inf, "a", True):
        with pytest.raises(ValueError, match="`order` must be positive"):
            rs.Adaptive.filter("I", order)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="`order` must be positive"):
            rs.Adaptive.pid(0, 1, order=order)  # type: ignore[arg-type]
    for gains in ((math.nan, 1, 0), (0, 0, 0), (0, -1, 0)):
        with pytest.raises(ValueError, match="`exponent` must be"):
            rs.Adaptive.pid(*gains, order=1.5)


# -- the rule, attempt by attempt -----------------------------------------------------------------


@dataclass
class Scripted:
    """A solver whose errors are known: those of its table (samples, attempts).

    Sample i is the one with x[:, 0] = i.  After the script errors are 1e-3.
    """

    table: np.ndarray
    asked: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    attempts: int = 0

    def __call__(self, process: Any, state: Any, s: Any, noise: Any) -> rs.State:
        x, i = state.x, state.x[:, 0].astype(int)
        scripted = self.attempts < self.table.shape[1]
        error = self.table[i, self.attempts] if scripted else np.full(len(x), 1e-3)
        self.attempts += 1
        t, to = (np.broadcast_to(np.reshape(u, -1), len(x)) for u in (state.t, s))
        for sample, begin, end in zip(i, t, to, strict=True):
            self.asked.setdefault(int(sample), []).append((float(begin), float(end)))
        return rs.State(s, x, error.reshape(-1, 1).astype(x.dtype))


def scripted(control: rs.Adaptive, table: Any, kind: str = "flow") -> tuple[Scripted, rs.Solution]:
    table = np.asarray(table, float)
    solver, x = Scripted(table), np.arange(len(table), dtype=float)[:, None]
    return solver, rs.sample(process_of(kind, SCORE), solver, x=x, times=control, rng=0)


def written_out(
    control: rs.Adaptive, errors: list[float], begin: float, end: float, mutant: str = ""
) -> list[tuple[float, float]]:
    """The attempts of one sample, from the definition: reject, accept, propose."""
    t, h = begin, float(control.h0)  # type: ignore[arg-type]
    powers: Any = control.exponent
    history = [1.0] * (len(powers) - 1)
    attempts = []
    errors = [*errors, *[1e-3] * 1000]
    for e in errors:
        left = abs(end - t)
        s = end if h >= left * (1 - 1e-9) else t + math.copysign(h, end - t)
        attempts.append((t, s))
        e = 10.0 if e > 1e12 else max(e, 1e-12)
        factor = control.safety
        for past, b in zip([e, *history], powers, strict=True):
            factor *= past ** (b if mutant == "sign" else -b)
        factor = min(max(factor, control.floor), control.cap)
        accepted = e <= control.accept
        if not accepted and mutant != "growth":
            factor = min(factor, control.safety)
        if accepted or mutant == "history":
            history = [e, *history][: len(history)]
        h = (abs(s - t) if mutant != "proposal" else h) * factor
        if accepted:
            t = s
            if t == end:
                return attempts
    return attempts


def agree(asked: list[tuple[float, float]], right: list[tuple[float, float]]) -> bool:
    return len(asked) == len(right) and np.allclose(asked, right, rtol=1e-12, atol=1e-14)


errors = st.floats(-3, 2).map(lambda power: 10**power) | st.sampled_from([0.0, 1.0, 1e13, math.inf])
tables = st.integers(1, 12).flatmap(
    lambda k: st.lists(st.lists(errors, min_size=k, max_size=k), min_size=1, max_size=4)
)
exponents = st.sampled_from(
    [(0.9,), (0.5,), *(tuple(b / 1.5 for b in f) for f in FILTERS.values())]
)
controls = st.builds(
    rs.Adaptive,
    h0=st.floats(1e-3, 0.9),
    safety=st.floats(0.5, 1.0),
    exponent=exponents,
    cap=st.floats(1.01, 10.0),
    floor=st.floats(0.05, 0.5),
    accept=st.sampled_from([1.0, 4.0]),
    t_end=st.sampled_from([None, 0.0, 0.05]),
)


@given(control=controls, table=tables, kind=st.sampled_from(["flow", "reverse", "forward"]))
def test_attempts_are_those_of_the_definition(control: Any, table: Any, kind: str) -> None:
    """Every sample's, with a script of its own; and the last lands on the end exactly."""
    control = replace(control, t_end=None) if kind == "forward" else control
    begin, end = control.ends(process_of(kind, SCORE))
    solver, sol = scripted(control, table, kind)
    assert sol.success.all() and np.all(sol.t == end)
    for i, row in enumerate(table):
        right = written_out(control, row, begin, end)
        assert agree(solver.asked[i], right)
        assert sol.n_accepted[i] + sol.n_rejected[i] == len(right)
        assert sol.n_accepted[i] == len({t for t, _ in right})
        # No sliver is left before the end, which only rounding would have put there.
        assert all(abs(end - s) == 0 or abs(end - s) > 1e-10 * abs(end - t) for t, s in right)


@pytest.mark.parametrize("mutant", ["sign", "growth", "history", "proposal"])
def test_other_rules_are_told_apart(mutant: str) -> None:
    """Growth after a rejection, rejected errors in the history, e in place of 1 / e, ..."""
    control = rs.Adaptive(h0=0.1, exponent=(0.3, 0.3), cap=3.0)
    row = [0.01, 1.05, 3.0, 0.2, 1.02, 0.9, 1.5, 0.5, 0.3, 0.3, 1.2, 2.5, 1.1]
    solver, _ = scripted(control, [row])
    assert agree(solver.asked[0], written_out(control, row, 1.0, VP.t_end))
    assert not agree(solver.asked[0], written_out(control, row, 1.0, VP.t_end, mutant))


def test_the_published_rule(rng: np.random.Generator) -> None:
    """h <- min(t - eps, 0.9 h e^-0.9), accepted or not, without any limit: the defaults."""
    table = 10 ** rng.uniform(-0.7, 0.5, (3, 200))
    solver, sol = scripted(rs.Adaptive(), table, "reverse")
    for i, row in enumerate(table):
        t, h, eps = 1.0, 0.01, 1e-3
        for e, (t_asked, s) in zip(row, solver.asked[i], strict=False):
            h = min(t - eps, h)
            assert (t_asked, s) == pytest.approx((t, t - h), abs=1e-10)
            t = t - h if e <= 1 else t
            h = 0.9 * h * e**-0.9
    assert sol.n_rejected.sum() > 50 and sol.n_accepted.min() > 3 and sol.success.all()


def test_a_step_grows_and_shrinks_within_its_limits() -> None:
    """cap and floor bound the change; a rejected step shrinks by safety at least."""
    control = rs.Adaptive(h0=0.1, cap=1.25, floor=0.3)
    solver, _ = scripted(control, [[1e-9, 1e9, 1.0 + 1e-9]])
    h = [abs(s - t) for t, s in solver.asked[0]]
    assert h[:4] == pytest.approx([0.1, 0.125, 0.0375, 0.0375 * 0.9], rel=1e-8)


def test_what_is_accepted() -> None:
    """e = 1 is, and up to ``accept`` if that is more; the next step aims at 1 either way."""
    for accept, e, accepted in ((1, 1.0, True), (1, 1.0 + 1e-12, False), (4, 4.0, True),
                                (4, 4.001, False), (1, math.inf, False)):  # fmt: skip
        solver, _ = scripted(rs.Adaptive(h0=0.1, accept=accept), [[e]])
        (t, s), (t_next, s_next) = solver.asked[0][:2]
        assert t_next == (s if accepted else t)
        e = min(e, 10.0)
        assert abs(s_next - t_next) == pytest.approx(0.1 * 0.9 * e**-0.9, rel=1e-9)


def test_the_clock_of_the_shortest_steps() -> None:
    """A step within 1e-9 of the end goes to the end; a bit further off there are two."""
    for gap, steps in ((0.0, 1), (1e-10, 1), (1e-8, 2), (0.1, 2)):
        _, sol = scripted(rs.Adaptive(h0=1 - gap, t_end=0.0, cap=1.01), [[0.9]])
        assert sol.n_accepted[0] == steps and sol.t[0] == 0.0


# -- where it goes --------------------------------------------------------------------------------


def test_the_ends_are_those_of_the_process() -> None:
    for sde in (VP, rs.VE(), rs.EDM(), rs.Cosine()):
        score = GAUSSIAN.score(sde)
        assert rs.Adaptive().ends(rs.ReverseSDE(sde, score)) == (sde.T, sde.t_end)
        assert rs.Adaptive().ends(rs.ForwardSDE(sde)) == (0.0, sde.T)
    assert rs.Adaptive(t_start=0.2, t_end=0.6).ends(FLOW) == (0.2, 0.6)
    x = RING.sample(20, rng=0)
    for process, begin, end in ((FLOW, 0.2, 0.6), (FLOW, 0.6, 0.2), (REVERSE, 0.6, 0.2),
                                (FORWARD, 0.2, 0.6)):  # fmt: skip
        control = rs.Adaptive(cap=1.25, t_start=begin, t_end=end)
        sol = rs.sample(process, rs.GGF(0.2), x=x, times=control, rng=0, keep="all")
        assert sol.path is not None and np.all(sol.path.t[0] == begin) and np.all(sol.t == end)
        assert np.all(np.diff(sol.path.t, axis=0) * (end - begin) >= 0)


def test_wrong_ends_are_refused() -> None:
    x = RING.sample(5, rng=0)
    for process, ends, match in (
        (REVERSE, {"t_start": 0.2, "t_end": 0.6}, r"must descend for a ReverseSDE"),
        (FORWARD, {"t_start": 0.6, "t_end": 0.2}, r"must ascend for a ForwardSDE"),
        (FLOW, {"t_start": 1.5}, r"must lie in \[0, T\]"),
        (FORWARD, {"t_end": 1.01}, r"must lie in \[0, T\]"),
        (REVERSE, {"t_start": 0.5, "t_end": 0.5}, "`h0` = 0.01 must be positive and no longer"),
    ):
        with pytest.raises(ValueError, match=match):
            rs.sample(process, rs.GGF(), x=x, times=rs.Adaptive(**ends), rng=0)
    with pytest.raises(ValueError, match="`times` must start at T = 1, where the prior is"):
        rs.sample(REVERSE, rs.GGF(), 5, times=rs.Adaptive(t_start=0.5), rng=0)


@pytest.mark.parametrize("steps", ["sample", "batch"])
def test_a_first_step_beyond_the_interval_is_refused(steps: Any) -> None:
    def far(process: Any, x: Any, t: float, t_end: float) -> float:
        return 2.0 * abs(t_end - t)

    def back(process: Any, x: Any, t: float, t_end: float) -> float:
        return -0.1

    for h0 in (1.0, 1.5, far, back):
        control = rs.Adaptive(h0=h0, steps=steps)
        with pytest.raises(ValueError, match=r"`h0` = .* from t = 1 to 0\.001: take a fraction of"):
            rs.sample(REVERSE, rs.GGF(), 5, times=control, rng=0)
    sol = rs.sample(REVERSE, rs.GGF(1e3, 1e3), 5, times=rs.Adaptive(h0=0.999, steps=steps), rng=0)
    assert np.all(sol.n_accepted == 1) and np.all(sol.t == VP.t_end)


@pytest.mark.parametrize("solver", [rs.EulerMaruyama(), rs.SEA(), rs.ReverseDiffusion()])
def test_a_solver_without_an_error_is_refused(solver: Any) -> None:
    with pytest.raises(TypeError, match=r"`solver` estimates no error.*refsde\.GGF.*or a Grid"):
        rs.sample(REVERSE, solver, 5, times=rs.Adaptive(), rng=0)


def test_a_memory_that_changes_its_structure_is_refused() -> None:
    def growing(process: Any, state: Any, s: Any, noise: Any) -> rs.State:
        return rs.State(s, state.x, 0.5 + 0.0 * state.x[:, :1], (*state.memory, state.x))

    with pytest.raises(
        TypeError, match=r"`solver` changes the structure of its memory.*init.*Grid"
    ):
        rs.sample(REVERSE, growing, 5, times=rs.Adaptive(), rng=0)
    assert rs.sample(REVERSE, growing, 5, times=5, rng=0).success.all(), "on a grid it may"


def test_a_grid_ignores_errors() -> None:
    solver = Scripted(np.full((4, 3), 1e6))
    sol = rs.sample(FLOW, solver, x=np.arange(4.0)[:, None], times=3)
    assert np.all(sol.n_accepted == 3) and np.all(sol.n_rejected == 0)


def test_memory_is_kept_where_an_attempt_is_rejected() -> None:
    """Attempts in a row: what a rejected one wrote is gone, in each part of a nested memory."""

    @dataclass(frozen=True)
    class Noting:
        def init(self, process: Any, x: Any, t: Any) -> Any:
            return (0.0 * x, (0.0 * x[:, :1], 7))

        def __call__(self, process: Any, state: Any, s: Any, noise: Any) -> rs.State:
            count, (first, seven) = state.memory
            h = abs(s - state.t)
            memory = (count + h, (first + 1, seven))
            assert seven == 7
            error = np.where(h > 0.04 + 0.05 * state.x[:, :1], 3.0, 0.5)
            return rs.State(s, state.x, error, memory)

    x, taken = np.linspace(0.0, 1.0, 7)[:, None], -1
    for last in rs.iterate(FLOW, Noting(), x, rs.Adaptive(h0=0.2), rs.Gaussian(0)):
        if not last.memory:
            break  # the first have arrived
        gone, (first, _) = last.memory
        assert gone == pytest.approx(1.0 - np.asarray(last.t), abs=1e-12)
        taken += 1
        assert np.all(first <= taken) and np.all(first == np.round(first))
    assert taken > 10 and np.min(first) < taken - 3, "some were rejected"


# -- who is lost, and who is not ------------------------------------------------------------------


@dataclass(frozen=True)
class Spoilt:
    """GGF with other errors for the samples that start at x[:, 0] = 3."""

    change: Any  # (error, t, s) -> error
    inner: Any = rs.GGF.safe(0.1)
    accepts = frozenset({"forward", "reverse", "flow"})

    def init(self, process: Any, x: Any, t: Any) -> Any:
        return (self.inner.init(process, x, t), x[:, :1] == 3.0)

    def __call__(self, process: Any, state: Any, s: Any, noise: Any) -> rs.State:
        inner, chosen = state.memory
        new = self.inner(process, state._replace(memory=inner), s, noise)
        error = np.where(chosen, self.change(new.error, state.t, s), new.error)
        return new._replace(error=error, memory=(new.memory, chosen))


def starts(n: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A start, which of its samples are spoilt, and which are not."""
    x, bad = np.random.default_rng(4).normal(size=(n, 2)), np.array([2, 11, n - 1])
    x[bad, 0] = 3.0
    return x, bad, np.delete(np.arange(n), bad)


CONTROL = rs.Adaptive(cap=1.25)
FINE = {"times": CONTROL, "rng": 0}


def spoilt(change: Any, process: Any = REVERSE, **options: Any) -> tuple[rs.Solution, rs.Solution]:
    """A run with spoilt samples, and one without; all others must be as they were."""
    x, bad, good = starts()
    right = rs.sample(process, Spoilt(lambda e, t, s: e), x=x, **FINE)
    sol = rs.sample(process, Spoilt(change), x=x, **(FINE | options))
    assert same(sol, right, good, good), "the others do not notice"
    assert np.all(np.isfinite(sol.x))
    return sol, right


KINDS = pytest.mark.parametrize("process", [REVERSE, FLOW, FORWARD], ids=lambda p: p.kind)


@KINDS
@pytest.mark.parametrize("error", [1e3, 1e300, math.inf])
def test_steps_that_fall_below_the_smallest_end_the_sample(process: Any, error: float) -> None:
    x, bad, good = starts()
    middle = 0.5

    def stuck(e: Any, t: Any, s: Any) -> Any:
        """No step that crosses t = 1/2 is good enough."""
        return np.where((t - middle) * (s - middle) < 0, error, e)

    sol, _ = spoilt(stuck, process)
    assert np.array_equal(np.flatnonzero(~sol.success), bad)
    assert np.all(abs(sol.t[bad] - middle) < 1e-6) and np.all(sol.n_accepted[bad] > 3)
    assert sol.message.startswith("3 of 24 samples stopped because the step size fell below the")
    assert "the first (sample" in sol.message and "from t = 0.5" in sol.message
    assert "loosen the tolerances, or lower `h_min`" in sol.message
    assert "the other 21 reached t = " in sol.message
    # A larger limit ends it earlier; the state it had is kept.
    early, _ = spoilt(stuck, process, times=replace(CONTROL, h_min=1e-3))
    assert np.all(early.nfe[bad] <= sol.nfe[bad]) and np.any(early.t[bad] != sol.t[bad])


def test_only_the_last_step_may_be_short() -> None:
    """h_min = 0.3 on [0, 1]: a planned 0.27 that reaches the end is taken, none that does not."""
    control = rs.Adaptive(h0=0.42, safety=0.8, h_min=0.3, t_end=0.0)
    _, sol = scripted(control, [[1.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.5, 1.0, 1.0]])
    assert sol.success.tolist() == [True, False, False]
    assert sol.t == pytest.approx([0.0, 0.58, 1.0]) and sol.n_accepted.tolist() == [3, 1, 0]
    assert "2 of 3 samples stopped because the step size fell below" in sol.message


def test_a_step_that_no_longer_moves_the_clock_is_too_small() -> None:
    """Whatever h_min: t - h == t would go on for ever."""
    _, sol = scripted(rs.Adaptive(h0=0.1, h_min=1e-300), [[1e3] * 200])
    assert not sol.success[0] and sol.n_rejected[0] < 20 and sol.t[0] == 1.0
    single = rs.sample(FLOW, Scripted(np.full((1, 200), 1e3)), x=np.zeros((1, 1), np.float32),
                       times=rs.Adaptive(h0=0.1, h_min=1e-300), rng=0)  # fmt: skip
    assert not single.success[0] and single.n_rejected[0] < 10


@KINDS
def test_attempts_beyond_the_most_end_the_sample(process: Any) -> None:
    """All that are then under way; those that have arrived are as they were."""
    x, _, _ = starts()
    right = rs.sample(process, rs.GGF.safe(0.1), x=x, **FINE)
    attempts = right.n_accepted + right.n_rejected
    most = int(np.median(attempts))
    cut = replace(CONTROL, max_steps=most)
    sol = rs.sample(process, rs.GGF.safe(0.1), x=x, times=cut, rng=0)
    good = np.flatnonzero(attempts <= most)
    assert np.array_equal(sol.success, attempts <= most) and 0 < len(good) < 24
    assert same(sol, right, good, good)
    late = np.flatnonzero(attempts > most)
    assert np.all(sol.t[late] != right.t[late])
    assert np.all(sol.n_accepted[late] + sol.n_rejected[late] == most)
    assert sol.message.startswith(
        f"{len(late)} of 24 samples stopped after the most attempts that Adaptive allows"
    )
    assert f"in step {most} from t = " in sol.message and "raise its `max_steps`" in sol.message
    with pytest.raises(RuntimeError, match="after the most attempts"):
        rs.sample(process, rs.GGF.safe(0.1), x=x, times=cut, rng=0, on_failure="raise")
    enough = replace(CONTROL, max_steps=int(attempts.max()))
    assert same(rs.sample(process, rs.GGF.safe(0.1), x=x, times=enough, rng=0), right)


@KINDS
def test_an_error_that_is_nan_ends_the_sample(process: Any) -> None:
    sol, right = spoilt(lambda e, t, s: np.where(abs(t - 0.5) < 0.2, math.nan, e), process)
    x, bad, good = starts()
    assert np.array_equal(np.flatnonzero(~sol.success), bad)
    assert np.all(abs(sol.t[bad] - 0.5) < 0.2) and np.all(sol.nfe[bad] <= right.nfe[bad])
    assert sol.message.startswith("3 of 24 samples stopped with a non-finite state, the first")
    at_once, _ = spoilt(lambda e, t, s: math.nan * e, process)
    assert np.array_equal(at_once.x[bad], x[bad]), "the last good state is the start"
    assert np.all(at_once.n_accepted[bad] == 0) and np.all(at_once.n_rejected[bad] == 0)
    assert "in step 1 from t =" in at_once.message
    with pytest.raises(RuntimeError, match="3 of 24 samples stopped with a non-finite state"):
        spoilt(lambda e, t, s: math.nan * e, process, on_failure="raise")


@KINDS
def test_an_error_that_is_infinite_is_retried(process: Any) -> None:
    """With a step a tenth as long: an overflow on a long step says nothing against a short one."""
    sol, right = spoilt(lambda e, t, s: np.where(abs(s - t) > 0.005, math.inf, e), process)
    _, bad, _ = starts()
    assert sol.success.all() and np.all(sol.n_rejected[bad] > right.n_rejected[bad])


class Broken:
    """A score that is NaN, or blows up, for the samples that are far away, below t = 1/2."""

    def __init__(self, value: float) -> None:
        self.value, self.inner = value, SCORE
        self.sde, self.target = SCORE.sde, SCORE.target

    def __call__(self, x: Any, t: Any) -> Any:
        bad = (abs(x[:, :1]) > 30) & (t < 0.5)
        return np.where(bad, self.value * np.sign(x), self.inner(x, t))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e200, 1e305])
@pytest.mark.parametrize(
    ("solver", "kind"),
    [
        (rs.GGF.safe(0.1), "reverse"),
        (rs.GGF(0.1), "flow"),
        (rs.Lamba(0.1), "reverse"),
        (rs.SRA1(0.1), "reverse"),
    ],
    ids=["safe", "flow", "lamba", "sra1"],
)
def test_a_score_that_breaks_ends_only_its_samples(solver: Any, kind: str, value: float) -> None:
    x, bad, good = starts()
    far = x.copy()
    far[bad] = 1e5
    process, times = process_of(kind, Broken(value)), rs.Adaptive(cap=1.25)
    right = rs.sample(process, solver, x=x, times=times, rng=0)
    sol = rs.sample(process, solver, x=far, times=times, rng=0)
    assert right.success.all() and same(sol, right, good, good)
    assert np.all(np.isfinite(sol.x)) and np.all(abs(sol.x[bad, 0]) > 30)
    if isinstance(solver, rs.SRA1) and math.isfinite(value):
        return  # its stages are both above t = 1/2 or both below: a constant slope, no break
    assert np.array_equal(np.flatnonzero(~sol.success), bad)
    assert np.all((sol.t[bad] > 0.45) & (sol.t[bad] < 1.0)), (
        "lost where the score breaks, not before"
    )
    assert sol.message.startswith("3 of 24 samples stopped")


def test_all_may_be_lost() -> None:
    x = np.full((4, 2), 3.0)
    sol = rs.sample(REVERSE, Spoilt(lambda e, t, s: math.nan * e), x=x, **FINE)
    assert not sol.success.any() and np.array_equal(sol.x, x) and np.all(sol.t == 1.0)
    assert sol.message.startswith("4 of 4 samples stopped with a non-finite state")


# -- one clock for all ----------------------------------------------------------------------------

TOGETHER = rs.Adaptive(cap=1.25, steps="batch")


def test_a_batch_shares_clock_and_verdict() -> None:
    source, times = rs.RetainedPath(0), []
    x = np.random.default_rng(0).normal(size=(30, 2))
    for state in rs.iterate(REVERSE, rs.GGF(0.1), x, TOGETHER, source):
        assert type(state.t) is float
        times.append(state.t)
    assert times[0] == 1.0 and times[-1] == VP.t_end and len(set(times)) < len(times)
    sol = rs.sample(REVERSE, rs.GGF(0.1), x=x, times=TOGETHER, noise=rs.RetainedPath(0), keep="all")
    assert sol.path is not None and np.array_equal(sol.path.t, times)
    assert np.ptp(sol.nfe) == np.ptp(sol.n_accepted) == np.ptp(sol.n_rejected) == 0
    assert sol.nfe[0] == 2 * (sol.n_accepted[0] + sol.n_rejected[0]) == 2 * (len(times) - 1)


def test_errors_of_a_batch_are_pooled() -> None:
    """By their root mean square: the attempts are those of one sample that has this error."""
    table = np.array([[0.6, 3.0, 0.1, 1.2, 0.5], [0.8, 0.1, 0.1, 0.8, 2.0]])
    control = rs.Adaptive(h0=0.1, cap=3.0, exponent=(0.6, -0.2), steps="batch")
    solver, _ = scripted(control, table)
    pooled = np.sqrt(np.mean(table**2, axis=0))
    for i in range(2):
        assert agree(solver.asked[i], written_out(control, list(pooled), 1.0, VP.t_end))
    largest = np.max(table, axis=0)
    assert not agree(solver.asked[0], written_out(control, list(largest), 1.0, VP.t_end)), "mutant"


@KINDS
def test_one_sample_is_its_own_batch(process: Any) -> None:
    """Then both modes are the same, up to the rounding of the pooled error."""
    x = RING.sample(1, rng=3)
    alone, pooled = (
        rs.sample(process, rs.GGF(0.1), x=x, times=replace(CONTROL, steps=steps), rng=1)
        for steps in ("sample", "batch")
    )
    assert pooled.x == pytest.approx(alone.x, rel=1e-9)
    assert all(np.array_equal(getattr(alone, f), getattr(pooled, f)) for f in FIELDS[1:])


def test_a_lost_sample_leaves_the_pool() -> None:
    """NaN errors do not count; and the rest goes on."""
    x, bad, good = starts()
    sol = rs.sample(REVERSE, Spoilt(lambda e, t, s: math.nan * e), x=x, times=TOGETHER, rng=0)
    assert np.array_equal(np.flatnonzero(~sol.success), bad)
    assert np.all(sol.t[good] == VP.t_end) and np.ptp(sol.nfe[good]) == 0
    stuck = rs.sample(REVERSE, Spoilt(lambda e, t, s: 0 * e + math.inf), x=x, times=TOGETHER, rng=0)
    assert not stuck.success.any() and stuck.message.startswith(
        "24 of 24 samples stopped because the step size fell below the smallest"
    )


def test_a_hard_sample_costs_the_others_only_where_steps_are_shared() -> None:
    """Claim G14: 5 samples of 40 end in a narrow mode at 0, where the tolerance is absolute."""
    target = rs.GaussianMixture([0.2, 0.8], [[0.0], [10.0]], [1e-6, 1.0])
    flow, solver = rs.ProbabilityFlow(VP, target.score(VP)), rs.GGF(0.02, 0.0005)
    x = np.random.default_rng(0).normal(size=(40, 1))
    nfe = {}
    for steps in ("sample", "batch"):
        control = rs.Adaptive(exponent=0.5, cap=2.0, steps=steps)  # type: ignore[arg-type]
        sol = rs.sample(flow, solver, x=x, times=control)
        easy = np.flatnonzero(abs(sol.x[:, 0]) > 1)
        without = rs.sample(flow, solver, x=x[easy], times=control)
        nfe[steps] = sol.nfe.mean(), sol.nfe[easy].mean(), without.nfe.mean()
        assert len(easy) == 35
        assert same(sol, without, of_a=easy) == (steps == "sample")
    (mean, easy_mean, alone), (together, beside, without_hard) = nfe["sample"], nfe["batch"]
    assert easy_mean == alone < mean < together
    assert beside == together > 1.3 * without_hard


def test_on_the_reverse_sde_too_shared_steps_cost_more() -> None:
    target = rs.GaussianMixture([0.2, 0.8], [[0.0], [10.0]], [1e-6, 1.0])
    process, solver = rs.ReverseSDE(VP, target.score(VP)), rs.GGF(0.02, 0.0005)
    mean = [
        rs.sample(process, solver, 40, times=rs.Adaptive(exponent=0.5, cap=2.0, steps=steps),  # type: ignore[arg-type]
                  rng=0).nfe.mean()
        for steps in ("sample", "batch")
    ]  # fmt: skip
    assert mean[1] > 1.2 * mean[0]


# -- sample i depends on (rng, i) alone -----------------------------------------------------------

PI = rs.Adaptive.filter("PI", order=1.5, cap=1.5)
RUNS = {
    "ggf-safe": (rs.GGF.safe(0.2), None),
    "ggf": (rs.GGF(0.2), None),
    "ggf-tuned": (rs.GGF.tuned(0.2), None),
    "ggf-hairer": (rs.GGF(0.2, cache=True), replace(PI, h0=HairerStart(1.5, 1e-2, 1e-2))),
    "lamba": (rs.Lamba(0.2), None),
    "sra1": (rs.SRA1(0.2), PI),
    "shark": (rs.ShARK(0.2), PI),
    "pc": (rs.PredictorCorrector(rs.GGF(0.2), rs.AnnealedLangevin(0.1)), PI),
}
NOISY = ("sra1", "shark")
EVERYWHERE = [
    pytest.param(name, kind, id=f"{name}-{kind}")
    for name in RUNS
    for kind in ("reverse", "flow", "forward")
    if not (kind == "flow" and name in NOISY) and not (kind == "forward" and name == "pc")
]


def run(name: str, kind: str, n: int, **options: Any) -> rs.Solution:
    solver, times = RUNS[name]
    options = {"rng": 3, "times": times} | options
    if kind == "forward":
        return rs.sample(FORWARD, solver, x=RING.sample(n, rng=1), **options)
    return rs.sample(process_of(kind, SCORE), solver, n, **options)


@pytest.mark.parametrize(("name", "kind"), EVERYWHERE)
def test_one_and_seven_are_the_first_of_five_thousand(name: str, kind: str) -> None:
    many = run(name, kind, 5000)
    assert many.success.all() and (np.ptp(many.nfe) > 0 or kind == "forward")
    for n in (7, 1):
        assert same(run(name, kind, n), many, slice(n)), n


@pytest.mark.parametrize("name", ["ggf-safe", "sra1"])
def test_blocks_and_threads_change_nothing(name: str) -> None:
    """The second block has its own noise and starts at sample 16384."""
    many = run(name, "reverse", BLOCK + 40, keep="all")
    for workers in (2, 3):
        other = run(name, "reverse", BLOCK + 40, workers=workers, keep="all")
        assert same(other, many), workers
        assert other.path is not None and many.path is not None
        assert np.array_equal(other.path.t, many.path.t)
        assert np.array_equal(other.path.x, many.path.x)
    few = run(name, "reverse", BLOCK + 2, workers=2)
    assert same(few, many, slice(BLOCK + 2)) and not np.array_equal(few.x[-2:], few.x[:2])


@pytest.mark.parametrize("noise", [rs.RetainedPath, rs.BrownianTree, rs.Gaussian])
def test_samples_are_alone_with_every_noise(noise: Any) -> None:
    """The published mode too: sample i is biased, but by its own noise."""
    many = run("ggf", "reverse", 900, rng=None, noise=noise(5))
    assert same(run("ggf", "reverse", 7, rng=None, noise=noise(5)), many, slice(7))
    assert not np.array_equal(many.x, run("ggf", "reverse", 900, rng=None, noise=noise(6)).x)


@pytest.mark.parametrize("kind", ["reverse", "flow", "forward"])
def test_an_outlier_leaves_its_batch_mates_alone(kind: str) -> None:
    x = np.random.default_rng(4).normal(size=(6, 2))
    odd = x.copy()
    odd[2] = 4e3, -7e3
    rest = [0, 1, 3, 4, 5]
    plain, beside = (
        rs.sample(process_of(kind, SCORE), rs.GGF.safe(0.1), x=start, rng=0) for start in (x, odd)
    )
    assert same(plain, beside, rest, rest) and plain.n_accepted[2] != beside.n_accepted[2]


def test_precision_does_not_matter() -> None:
    few, many = (run("ggf-safe", "reverse", n, dtype=np.float32) for n in (7, 900))
    assert few.x.dtype == np.float32 and same(few, many, slice(7)) and many.success.all()


@pytest.mark.parametrize("name", ["ggf-safe", "lamba", "sra1"])
def test_int_generator_and_key_agree(name: str) -> None:
    by_int = run(name, "reverse", 9, rng=11)
    generator = np.random.default_rng(11)
    assert same(run(name, "reverse", 9, rng=generator), by_int)
    assert same(run(name, "reverse", 9, rng=np.random.SeedSequence(11)), by_int)
    replay = rs.RetainedPath(key=by_int.seed_entropy)
    for _ in range(2):  # a source is not used up by a run
        assert same(run(name, "reverse", 9, rng=None, noise=replay), by_int)
    assert not np.array_equal(run(name, "reverse", 9, rng=12).x, by_int.x)
    assert not np.array_equal(run(name, "reverse", 9, rng=generator).x, by_int.x), "it has moved on"


# -- what a run gives back ------------------------------------------------------------------------


@pytest.mark.parametrize("d", [(2,), (3, 2)])
def test_a_path_holds_the_times_of_every_sample(d: tuple[int, ...]) -> None:
    process = REVERSE if d == (2,) else rs.ReverseSDE(VP, lambda x, t: -x)  # data N(0, 1)
    sol = rs.sample(process, rs.GGF.safe(0.1), 30, shape=d, rng=0, keep="all")
    assert sol.path is not None
    m = int((sol.n_accepted + sol.n_rejected).max()) + 1
    assert sol.path.t.shape == (m, 30) and sol.path.x.shape == (m, 30, *d)
    assert np.all(sol.path.t[0] == 1.0) and np.all(sol.path.t[-1] == sol.t)
    assert np.array_equal(sol.path.x[-1], sol.x)
    steps = np.diff(sol.path.t, axis=0)
    assert np.all(steps <= 0)
    moved = np.any(np.diff(sol.path.x, axis=0) != 0, axis=tuple(range(2, 2 + len(d))))
    assert np.array_equal(moved, steps < 0), "a sample moves when its clock does"
    assert np.array_equal((steps < 0).sum(axis=0), sol.n_accepted)
    every = rs.sample(process, rs.GGF.safe(0.1), 30, shape=d, rng=0, keep=5)
    assert every.path is not None
    assert np.array_equal(every.path.t[:-1], sol.path.t[: 5 * (len(every.path.t) - 1) : 5])
    assert np.array_equal(every.path.x[-1], sol.x)


def test_blocks_of_other_lengths_repeat_their_end() -> None:
    sol = run("ggf", "reverse", BLOCK + 3, keep="all")
    assert sol.path is not None
    last = int((sol.n_accepted + sol.n_rejected)[BLOCK:].max())
    assert last + 1 < len(sol.path.t)
    assert np.all(sol.path.t[last:, BLOCK:] == VP.t_end)
    assert np.array_equal(sol.path.x[last:, BLOCK:], np.broadcast_to(
        sol.x[BLOCK:], sol.path.x[last:, BLOCK:].shape))  # fmt: skip


def test_denoising_costs_one_evaluation_of_every_sample_that_arrived() -> None:
    x, bad, good = starts()
    plain, clean = (
        rs.sample(REVERSE, Spoilt(lambda e, t, s: math.nan * e), x=x, denoise=denoise, **FINE)
        for denoise in ("none", "tweedie")
    )
    assert np.array_equal(clean.nfe[good], plain.nfe[good] + 1)
    assert np.array_equal(clean.nfe[bad], plain.nfe[bad])
    right = SCORE.denoise(plain.x[good], np.full((len(good), 1), VP.t_end))
    assert np.array_equal(clean.x[good], right) and np.array_equal(clean.x[bad], x[bad])
    with pytest.raises(ValueError, match="`denoise` = 'last_mean' needs a Grid"):
        rs.sample(REVERSE, rs.GGF(), 5, denoise="last_mean", rng=0)


def test_the_callback_sees_every_attempt_of_every_block() -> None:
    seen: list[tuple[int, Any]] = []

    def look(state: rs.State, rows: np.ndarray) -> None:
        seen.append((int(rows[0]), np.asarray(state.t).copy()))
        assert state.x.shape == (len(rows), 2) and state.t.shape == (len(rows), 1)

    sol = run("ggf-safe", "reverse", BLOCK + 3, callback=look)
    attempts = sol.n_accepted + sol.n_rejected
    for first, part in ((0, attempts[:BLOCK]), (BLOCK, attempts[BLOCK:])):
        clocks = [t for row, t in seen if row == first]
        assert len(clocks) == part.max() and np.all(clocks[-1] == VP.t_end)
        assert np.all(np.diff(clocks, axis=0) <= 0)
    assert same(run("ggf-safe", "reverse", BLOCK + 3), sol), "whoever looks"


def test_progress_counts_attempts(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    shown = run("ggf-safe", "reverse", 30, progress=True)
    said = capsys.readouterr().err
    assert f"{int((shown.n_accepted + shown.n_rejected).max())}" in said
    assert same(shown, run("ggf-safe", "reverse", 30))


def test_a_run_is_saved_with_its_message(tmp_path: Any) -> None:
    x, bad, _ = starts()
    sol = rs.sample(REVERSE, Spoilt(lambda e, t, s: e * math.nan), x=x, keep="all", **FINE)
    sol.save(tmp_path / "run.npz")
    back = rs.Solution.load(tmp_path / "run.npz")
    assert same(back, sol) and back.message == sol.message
    assert back.path is not None and sol.path is not None
    assert np.array_equal(back.path.t, sol.path.t)


# -- the first step -------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "order"), [(RK45, 5), (RK23, 3)])
@pytest.mark.parametrize("tol", [1e-2, 1e-5])
@pytest.mark.parametrize("up", [False, True])
def test_hairers_first_step_is_scipys(method: Any, order: int, tol: float, up: bool) -> None:
    """Sample by sample, through SciPy's solvers, which know no batch."""
    t, end = (0.1, 0.9) if up else (1.0, 1e-3)
    x = np.random.default_rng(3).normal(size=(6, 2)) * np.array([[1e-8, 0.1, 1, 3, 30, 1e4]]).T
    got = HairerStart(order, tol, tol)(FLOW, x, t, end)
    assert got.shape == (6, 1)
    for i in range(6):
        ode = method(lambda t, y: FLOW.drift(y[None], t)[0], t, x[i], end, rtol=tol, atol=tol)
        assert got[i, 0] == pytest.approx(ode.h_abs, rel=1e-9), i


def test_hairers_first_step_is_that_of_the_sample_alone() -> None:
    x = np.random.default_rng(3).normal(size=(300, 2))
    rule = HairerStart(2, 1e-3, 1e-3)
    whole = rule(FLOW, x, 1.0, 1e-3)
    for i in (0, 7, 299):
        assert np.array_equal(rule(FLOW, x[i : i + 1], 1.0, 1e-3), whole[i : i + 1])
    assert np.ptp(whole) > 0


def test_a_first_step_from_a_broken_score_ends_only_its_sample() -> None:
    x, bad, good = starts()
    far = x.copy()
    far[bad] = 1e5

    def score(x: Any, t: Any) -> Any:
        return np.where(abs(x[:, :1]) > 30, math.nan, SCORE(x, t))

    control = rs.Adaptive(h0=HairerStart(1.5, 1e-2, 1e-2), cap=1.25)
    for kind in ("reverse", "flow"):
        plain, beside = (
            rs.sample(process_of(kind, score), rs.GGF(0.1), x=start, times=control, rng=0)
            for start in (x, far)
        )
        assert same(beside, plain, good, good) and plain.success.all()
        assert np.array_equal(np.flatnonzero(~beside.success), bad)
        assert np.array_equal(beside.x[bad], far[bad])


def test_hairers_first_step_costs_two_evaluations() -> None:
    """Counted, of every sample, also where steps are shared; and then the shortest is taken."""
    rule = HairerStart(2, 1e-2, 1e-2)
    score = CountingScore(SCORE)
    x = np.random.default_rng(3).normal(size=(20, 2))
    for steps in ("sample", "batch"):
        control = rs.Adaptive(h0=rule, cap=2.0, steps=steps)  # type: ignore[arg-type]
        score.batches.clear()
        sol = rs.sample(process_of("flow", score), rs.GGF(0.2), x=x, times=control)
        assert np.array_equal(sol.nfe, 2 * (sol.n_accepted + sol.n_rejected) + 2)
        assert sum(score.batches) == sol.nfe.sum() and score.batches[:2] == [20, 20]
    states = rs.iterate(FLOW, rs.GGF(1e3, 1e3), x, control, rs.Gaussian(0))
    first = [next(states).t for _ in range(2)]
    assert first[0] - first[1] == pytest.approx(np.min(rule(FLOW, x, 1.0, VP.t_end)), rel=1e-12)


def test_a_share_of_the_interval_is_a_share_under_every_clock() -> None:
    for sde in (VP, rs.EDM()):
        process = process_of("reverse", GAUSSIAN.score(sde), sde)
        h = Share(0.1)(process, np.zeros((3, 2)), sde.T, sde.t_end)
        assert h == pytest.approx(0.1 * (sde.T - sde.t_end), rel=1e-15)
        states = rs.iterate(
            process, rs.GGF(1e3, 1e3), np.zeros((3, 2)), rs.Adaptive(h0=Share(0.1)), rs.Gaussian(0)
        )
        first = [np.asarray(next(states).t) for _ in range(2)]
        assert first[0] - first[1] == pytest.approx(np.full((3, 1), h), rel=1e-12)
    whole = rs.sample(REVERSE, rs.GGF(1e3, 1e3), 3, times=rs.Adaptive(h0=Share(1)), rng=0)
    assert np.all(whole.n_accepted == 1)


@pytest.mark.parametrize("wrong", [0, -0.1, 1.01, math.nan, math.inf, "a", None, True])
def test_wrong_first_steps_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"`share` must lie in \(0, 1\], got"):
        Share(wrong)
    for name in ("order", "rtol", "atol"):
        if wrong == 1.01:
            continue
        with pytest.raises(ValueError, match=f"`{name}` must be positive and finite, got"):
            HairerStart(**{"order": 2, name: wrong})


# -- array libraries ------------------------------------------------------------------------------


def bumps(xp: Any) -> Any:
    """A score as a user writes it in his own library: modes at -1 and 1 in every coordinate."""

    def score(x: Any, t: Any) -> Any:
        a, s = VP.alpha(t), VP.sigma(t)
        v = 0.04 * a * a + s * s
        return (a * xp.tanh(a * x / v) - x) / v

    return score


CONTROLS = {
    "published": rs.Adaptive(),
    "pid": rs.Adaptive.filter("H312PID", order=1.5),
    "batch": TOGETHER,
    "hairer": rs.Adaptive(h0=HairerStart(1.5, 1e-2, 1e-2), cap=1.5),
    "accept": rs.Adaptive(h0=Share(0.05), accept=4.0, exponent=0.5, cap=1.5),
}


@pytest.mark.parametrize("kind", ["reverse", "flow", "forward"])
@pytest.mark.parametrize("name", CONTROLS)
def test_every_library_takes_the_same_steps(xp: Any, name: str, kind: str) -> None:
    """Median difference of the samples to NumPy's below 1e-12, and the same counts."""
    x = np.random.default_rng(5).standard_normal((30, 2))
    want, got = (
        rs.sample(
            process_of(kind, bumps(lib)), rs.GGF(0.1, cache=name != "published"),
            x=lib.asarray(x), times=CONTROLS[name], rng=11, keep="all",
        )
        for lib in (np, xp)
    )  # fmt: skip
    assert type(got.x) is type(xp.zeros(1)) and got.x.dtype == xp.float64
    assert np.median(abs(np.asarray(got.x) - want.x).max(axis=1)) < 1e-12
    assert np.array_equal(got.nfe, want.nfe) and got.success.all()
    assert got.path is not None and want.path is not None and got.path.t.shape == want.path.t.shape
    assert np.median(abs(got.path.t - want.path.t)) < 1e-12


@pytest.mark.parametrize("solver", [rs.Lamba(0.1), rs.SRA1(0.1), rs.GGF.safe(0.1, norm="linf")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_solver_runs_in_every_library(xp: Any, solver: Any, dtype: str) -> None:
    """In single precision a sample may take another step; most do not."""
    x = np.random.default_rng(5).standard_normal((40, 2))
    want, got = (
        rs.sample(REVERSE, solver, x=start, times=PI, rng=11, denoise="tweedie")
        for start in (x, xp.asarray(x, dtype=getattr(xp, dtype)))
    )
    assert type(got.x) is type(xp.zeros(1)) and got.x.dtype == getattr(xp, dtype)
    gap = np.median(abs(np.asarray(got.x) - want.x).max(axis=1))
    assert gap < (1e-12 if dtype == "float64" else 1e-3) and got.success.all()
    if dtype == "float64":
        assert np.array_equal(got.nfe, want.nfe)
