"""RetainedPath: what was shown is kept, and the law stays Brownian whatever is accepted.

Identities first: without a rejection it is `Gaussian`, bit for bit; parts add up to what was shown
before; sample by sample is the whole batch.  The law is checked without Monte Carlo: answers are
linear in the normals, so that with unit vectors in place of normals the source tells its own
covariance.  What stays statistical are two things on exactly known variances: whole runs whose
steps depend on the noise (six variances within 3 standard errors, so that a right source fails for
one seed in 60), and 20 moments of drawn pieces at `Z`, a two-sided rate of 1e-6 each.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde.noise import retained

Z = 4.9  # standard errors: two-sided rate 1e-6
Script = list[tuple[list[float], bool]]  # attempts: lengths of the sub-intervals, and the verdict


@rs.testing.parametrize_with_checks(
    [rs.RetainedPath, rs.testing.NoiseCase(rs.RetainedPath, times=(0.0, 0.2, 0.21, 0.7, 2.0))]
)
def test_checks(subject: Any, check: Any) -> None:
    check(subject)


# -- without a rejection --------------------------------------------------------------------------

STEPS = [(1.0, 0.75), (0.75, 0.3), (0.3, 0.299), (0.299, 0.1), (0.1, 0.0)]


@pytest.mark.parametrize("levy", [False, True])
@pytest.mark.parametrize("settles", [False, True])
@pytest.mark.parametrize("up", [False, True])
def test_where_nothing_is_rejected_it_is_gaussian(levy: bool, settles: bool, up: bool) -> None:
    """The same draws in the same order, with `normal` and the start between them."""
    x, kept, fresh = np.zeros((5, 2, 3)), rs.RetainedPath(3), rs.Gaussian(3)
    assert kept.key == fresh.key
    for t, s in [(s, t) for t, s in reversed(STEPS)] if up else STEPS:
        got, want = (source.levy(t, s, x) if levy else (source.increment(t, s, x),)
                     for source in (kept, fresh))  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
        assert np.array_equal(kept.normal(x), fresh.normal(x))
        if settles:
            kept.settle(s)
    assert np.array_equal(kept.start(x), fresh.start(x))


@pytest.mark.parametrize("levy", [False, True])
def test_each_sample_on_its_own_clock_is_gaussian_too(levy: bool, rng: Any) -> None:
    x, kept, fresh = np.zeros((50, 2)), rs.RetainedPath(3), rs.Gaussian(3)
    t = np.ones((50, 1))
    for _ in range(9):
        s = t - rng.uniform(0.01, 0.1, (50, 1))
        got, want = (source.levy(t, s, x) if levy else (source.increment(t, s, x),)
                     for source in (kept, fresh))  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
        kept.settle(s)
        t = s


@pytest.mark.parametrize("solver", [rs.EulerMaruyama(), rs.SRA1(), rs.GGF()])
def test_runs_on_a_grid_do_not_notice(solver: Any) -> None:
    process = rs.ReverseSDE(rs.VP(), rs.GaussianMixture.ring(8).score(rs.VP()))
    a, b = (
        rs.sample(process, solver, 40, times=20, noise=noise)
        for noise in (rs.RetainedPath(5), rs.Gaussian(5))
    )
    assert np.array_equal(a.x, b.x) and a.seed_entropy == b.seed_entropy


def test_a_gap_is_drawn_beside_the_path() -> None:
    """A question beyond the pieces: its own answer has the usual address, the gap another."""
    x, kept, fresh = np.zeros((4, 2)), rs.RetainedPath(3), rs.Gaussian(3)
    kept.increment(1.0, 0.5, x)
    fresh.increment(1.0, 0.5, x)
    assert np.array_equal(kept.increment(0.25, 0.125, x), fresh.increment(0.25, 0.125, x))
    gap = kept.increment(0.5, 0.25, x)
    assert np.array_equal(gap, 0.5 * fresh._draw(x, retained.BESIDE + 1))


# -- parts of what was shown ----------------------------------------------------------------------


def joined(first: Any, then: Any, h1: Any, h2: Any) -> tuple[Any, Any]:
    """Chen's relation: increment and area of two intervals in a row."""
    (W1, H1), (W2, H2) = first, then
    h = np.where(h1 + h2 > 0, h1 + h2, 1.0)
    return W1 + W2, (h1 * H1 + h2 * H2) / h + (h2 * W1 - h1 * W2) / (2 * h)


@given(
    u=st.floats(0.001, 0.999),
    v=st.floats(0.001, 0.999),
    sign=st.sampled_from([-1.0, 1.0]),
    areas=st.booleans(),
)
def test_a_retry_and_the_rest_are_what_was_rejected(
    u: float, v: float, sign: float, areas: bool
) -> None:
    """And so on, for the retry of a retry; with areas, by Chen's relation."""
    x, source, t = np.zeros((20, 2)), rs.RetainedPath(1), 2.0
    ends = [t + sign, t + sign * u, t + sign * u * v]

    def ask(t: float, s: float) -> Any:
        return source.levy(t, s, x) if areas else (source.increment(t, s, x), 0.0)

    whole, retry, again = (ask(t, s) for s in ends)
    rest, middle = ask(ends[1], ends[0]), ask(ends[2], ends[1])
    for parts, right, h1, h2 in (
        ((retry, rest), whole, abs(ends[1] - t), abs(ends[0] - ends[1])),
        ((again, middle), retry, abs(ends[2] - t), abs(ends[1] - ends[2])),
    ):
        got = joined(*parts, h1, h2)
        assert got[0] == pytest.approx(right[0], rel=0, abs=1e-15)
        assert not areas or got[1] == pytest.approx(right[1], rel=0, abs=1e-15)


def test_a_fresh_source_does_not_add_up() -> None:
    """Mutant: what `Gaussian` answers to a retry has nothing to do with what it said before."""
    x, source = np.zeros((20, 2)), rs.Gaussian(1)
    whole, retry = source.increment(1.0, 0.0, x), source.increment(1.0, 0.5, x)
    assert np.all(abs(retry + source.increment(0.5, 0.0, x) - whole) > 1e-6)


class Forgetful(rs.Gaussian):
    """Mutant: fresh noise for every question."""

    def settle(self, t: Any) -> None:
        """Nothing is kept."""


class Walk:
    """Random attempts of every sample, on its own clock from 0 to 1; those at the end leave."""

    def __init__(
        self, source: Any, n: int, levy: bool, seed: int, alone: int | None = None
    ) -> None:
        self.source, self.n, self.levy = source, n, levy
        self.rng = np.random.default_rng(seed)
        self.alone = alone  # only this sample is there, among the random numbers of all
        self.t = np.zeros((n, 1))
        self.total = (np.zeros((n, 2)), np.zeros((n, 2)))
        self.answers: list[tuple[np.ndarray, Any]] = []

    def there(self) -> np.ndarray:
        live = np.flatnonzero(self.t[:, 0] < 1)
        return live if self.alone is None else live[live == self.alone]

    def attempt(self) -> None:
        """Ask for one to three sub-intervals in order, and throw away every other attempt."""
        rng, rows = self.rng, self.there()
        lengths = [rng.uniform(0.0, 0.15, (self.n, 1)) for _ in range(rng.integers(1, 4))]
        accepted = rng.uniform(size=(self.n, 1)) < 0.5
        if not len(rows):
            return
        source = self.source = self.source.on(rows)
        x, t = np.zeros((len(rows), 2)), self.t[rows]
        begin, total = t, tuple(part[rows] for part in self.total)
        for length in lengths:
            end = np.minimum(t + length[rows], 1.0)
            ask = source.levy if self.levy else source.increment
            got = ask(t, end, x) if self.levy else (ask(t, end, x), 0.0 * x)
            total = joined(total, got, t, end - t)
            self.answers.append((rows, got))
            t = end
        yes = accepted[rows]
        self.t[rows] = np.where(yes, t, begin)
        for part, new in zip(self.total, total, strict=True):
            part[rows] = np.where(yes, new, part[rows])
        source.settle(self.t[rows])

    def to_the_end(self) -> Walk:
        while np.any(self.t[:, 0] < 1):
            self.attempt()
            if self.alone is not None and not len(self.there()):
                break
        return self


@pytest.mark.parametrize("levy", [False, True])
def test_accepted_parts_add_up_to_the_end_of_the_path(levy: bool) -> None:
    """A copy of the source was asked for the whole at the start: w(1), and its area."""
    source, x = rs.RetainedPath(7), np.zeros((300, 2))
    whole = source.levy(0.0, 1.0, x) if levy else (source.increment(0.0, 1.0, x), None)
    walk = Walk(copy.deepcopy(source), 300, levy, seed=1).to_the_end()
    assert walk.total[0] == pytest.approx(whole[0], rel=0, abs=1e-12)
    assert not levy or walk.total[1] == pytest.approx(whole[1], rel=0, abs=1e-12)
    mutant = Walk(Forgetful(7), 300, levy, seed=1).to_the_end()
    assert np.max(abs(mutant.total[0] - whole[0])) > 1


@pytest.mark.parametrize("levy", [False, True])
def test_a_sample_is_given_the_same_alone(levy: bool) -> None:
    """Bit for bit, in runs of random attempts of 40 samples, which leave as they arrive."""
    walk = Walk(rs.RetainedPath(7), 40, levy, seed=2).to_the_end()
    for i in (0, 1, 17, 39):
        alone = Walk(rs.RetainedPath(7), 40, levy, seed=2, alone=i).to_the_end()
        theirs = [
            (part[0][rows == i], part[1][rows == i]) for rows, part in walk.answers if i in rows
        ]
        assert len(theirs) == len(alone.answers) > 10
        for (dw, h), (_, (dw_i, h_i)) in zip(theirs, alone.answers, strict=True):
            assert np.array_equal(dw, dw_i) and np.array_equal(h, h_i)


def test_samples_that_remain_in_mid_run() -> None:
    """`on` keeps their pieces, bit for bit, and leaves the source alone."""
    source, x = rs.RetainedPath(7), np.zeros((30, 2))
    for _ in range(3):
        source.levy(0.0, np.linspace(0.3, 1.0, 30)[:, None], x)
        source.levy(0.0, np.linspace(0.2, 0.1, 30)[:, None], x)
    rows, untouched = np.array([0, 3, 4, 29]), copy.deepcopy(source)
    part = source.on(rows)
    again = part.on(np.array([3, 29]))  # absolute samples, not places
    for s in (0.15, 0.05, 0.6, 2.0):
        got, few = part.levy(0.0, s, x[rows]), again.levy(0.0, s, x[:2])
        part.settle(0.01)
        for a, b, whole in zip(got, few, untouched.levy(0.0, s, x), strict=True):
            assert np.array_equal(a, whole[rows]) and np.array_equal(b, a[[1, 3]])
    untouched = copy.deepcopy(source)
    source.on(rows).settle(0.9)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(source.levy(0.0, 0.7, x), untouched.levy(0.0, 0.7, x), strict=True)
    )


# -- the law, exactly -----------------------------------------------------------------------------


class Basis(rs.RetainedPath):
    """The source with unit vectors for normals: sample i is the i-th coordinate of an answer."""

    def __init__(self) -> None:
        super().__init__(0)
        self.numbers: dict[int, int] = {}

    def _draw(self, x: Any, call: int) -> np.ndarray:
        number = self.numbers.setdefault(call, len(self.numbers))
        assert number < len(x), "more normals than unit vectors"
        z = np.zeros(x.shape)
        z[number] = 1.0
        return z


Piece = tuple[float, float, bool]  # an interval of the path, and whether its area is meant


def brownian(pieces: list[Piece]) -> np.ndarray:
    """Covariance of increments and areas: integrals of products of what they are of dw.

    The increment over [a, b] is the integral of 1, the area that of (b - u) / (b - a) - 1/2.
    """
    a, b, area = (np.array(values, float) for values in zip(*pieces, strict=True))
    low, high = np.maximum(a[:, None], a), np.minimum(b[:, None], b)

    def weight(u: np.ndarray) -> np.ndarray:
        """Of each piece at the times u of each pair, by its first and by its second."""
        one = area[:, None] * ((b[:, None] - u) / (b - a)[:, None] - 1.5) + 1
        two = area * ((b - u) / (b - a) - 1.5) + 1
        return one * two

    mean = (weight(low) + 4 * weight((low + high) / 2) + weight(high)) / 6  # Simpson: exact here
    return np.maximum(high - low, 0.0) * mean


def law_error(
    source: Any, script: Script, areas: bool | list[bool], sign: float = 1.0, start: float = 0.0
) -> float:
    """Largest error of a covariance of all answers in a run, rejected or not, as a correlation.

    ``areas`` says whether attempts ask for areas, all of them or one by one.
    """
    x, t, answers, pieces = np.zeros((100, 1)), start, [], []
    asked = [areas] * len(script) if isinstance(areas, bool) else areas
    for (lengths, accepted), levy in zip(script, asked, strict=True):
        u = t
        for length in lengths:
            s = u + sign * length
            got = source.levy(u, s, x) if levy else (source.increment(u, s, x),)
            answers += [part[:, 0] for part in got]
            ends = (sign * u, sign * s)
            pieces += [(*ends, False), (*ends, True)][: len(got)]
            u = s
        t = u if accepted else t
        source.settle(t)
    exact, rows = brownian(pieces), np.array(answers)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    return float(np.max(np.abs(rows @ rows.T - exact) / scale))


lengths = st.integers(1, 16).map(lambda k: k / 16) | st.floats(0.01, 2.0)
scripts = st.lists(
    st.tuples(st.lists(lengths, min_size=1, max_size=3), st.booleans()), min_size=1, max_size=7
)


@given(script=scripts, levy=st.booleans(), up=st.booleans())
def test_whatever_is_rejected_the_law_is_brownian(script: Script, levy: bool, up: bool) -> None:
    """All answers of the run, also rejected ones, are jointly those of one Brownian motion."""
    sign, start = (1.0, 0.0) if up else (-1.0, 50.0)
    assert law_error(Basis(), script, levy, sign, start) < 1e-10


@given(data=st.data(), script=scripts)
def test_increments_and_areas_may_be_asked_in_turn(data: Any, script: Script) -> None:
    """A path that began with areas: no normal is used twice, none of `normal` is one of its own."""
    areas = [True, *(data.draw(st.booleans()) for _ in script[1:])]
    assert law_error(Basis(), script, areas) < 1e-10


def test_normals_are_no_part_of_the_path() -> None:
    """Not even of the areas behind an increment, which a later question may ask for."""
    source, x = Basis(), np.zeros((20, 1))
    source.levy(1.0, 0.5, x)
    source.increment(1.0, 0.75, x)
    z = source.normal(x)
    answers = [*source.levy(1.0, 0.75, x), *source.levy(0.75, 0.25, x)]
    assert max(abs(float(np.vdot(z, answer))) for answer in answers) == 0


SCRIPT: Script = [
    ([1.0], False),
    ([0.5, 0.25], False),
    ([0.25], True),
    ([0.6], False),
    ([0.3], False),
    ([0.1, 0.3], True),
    ([1.0], True),
]


def test_the_law_of_a_long_run() -> None:
    for levy in (False, True):
        assert law_error(Basis(), SCRIPT, levy) < 1e-14
        assert law_error(Basis(), SCRIPT, levy, -1.0, 3.0) < 1e-14


class Fresh(Forgetful):
    """Mutant: what was rejected is forgotten."""

    def __init__(self) -> None:
        super().__init__(0)
        self.numbers: dict[int, int] = {}

    _draw = Basis._draw


class Composite(Basis):
    """Mutant: of what lies ahead only the sum is remembered, not the points looked at between."""

    def settle(self, t: Any) -> None:
        super().settle(t)
        p = self._pieces
        if p is None or p.idle:
            return
        last, first = int(p.far[0]), int(p.near[0])
        at = [p._at(np.full(p.n, k), np.arange(p.n)) for k in range(last, first)]
        p.dw[at[0]] = sum(p.dw[rows] for rows in at)
        p.near[:] = last + 1


class Overlooked(Basis):
    """Mutant: a piece that is passed in part loses its far part."""

    def settle(self, t: Any) -> None:
        super().settle(t)
        if self._pieces is not None:
            self._pieces.near[:] = np.minimum(self._pieces.near, self._pieces.far + 1)


@pytest.mark.parametrize("mutant", [Fresh, Composite, Overlooked])
def test_other_memories_have_another_law(mutant: Any) -> None:
    assert law_error(mutant(), SCRIPT, False) > 0.05


def _thin(h1: Any, h2: Any, W: Any, H: Any, z: Any) -> Any:
    """Mutant: the bridge without its own noise, a straight line."""
    return BRIDGE(h1, h2, W, H, [0.0 * part for part in z])


def _loud(h1: Any, h2: Any, W: Any, H: Any, z: Any) -> Any:
    """Mutant: the bridge's noise 1 % too loud."""
    return BRIDGE(h1, h2, W, H, [1.01 * part for part in z])


def _one(h1: Any, h2: Any, W: Any, H: Any, z: Any) -> Any:
    """Mutant: one normal for increments and areas."""
    return BRIDGE(h1, h2, W, H, [z[0]] * len(z))


def _apart(h1: Any, h2: Any, W: Any, H: Any, z: Any) -> Any:
    """Mutant: areas as increments of a motion of their own, as StochasticDiffEq.jl has them."""
    q = h1 / (h1 + h2)
    W1, W2, *_ = BRIDGE(h1, h2, W, None, z)
    Z1 = q * (h1 + h2) * H + np.sqrt(h1 * h2 / (h1 + h2) / 12) * (h1 + h2) * z[1]
    return W1, W2, Z1 / (h1 + h2), H - Z1 / (h1 + h2)


BRIDGE = retained._bridge


@pytest.mark.parametrize(
    ("mutant", "levy"),
    [(_thin, False), (_loud, False), (_thin, True), (_loud, True), (_one, True), (_apart, True)],
)
def test_other_bridges_have_another_law(
    mutant: Callable[..., Any], levy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retained, "_bridge", mutant)
    assert law_error(Basis(), SCRIPT, levy) > 1e-3


@given(share=st.floats(0.001, 0.999), length=st.floats(1e-6, 1e3))
def test_halves_of_a_split_are_independent_and_join_to_the_whole(
    share: float, length: float
) -> None:
    """Covariance diag(h1, h2, h1/12, h2/12) of the halves, from four unit vectors; and Chen."""
    h1, h2 = share * length, (1 - share) * length
    basis, h = np.eye(4), h1 + h2
    W, H = basis[0] * math.sqrt(h), basis[1] * math.sqrt(h / 12)
    W1, W2, H1, H2 = retained._bridge(h1, h2, W, H, [basis[2], basis[3]])  # type: ignore[arg-type]
    scaled = np.array([W1, W2, H1, H2]) / np.sqrt([h1, h2, h1 / 12, h2 / 12])[:, None]  # type: ignore[arg-type]
    assert scaled @ scaled.T == pytest.approx(np.eye(4), abs=1e-13)
    again = joined((W1, H1), (W2, H2), h1, h2)
    assert np.concatenate(again) == pytest.approx(
        np.concatenate([W, H]), rel=0, abs=1e-15 * math.sqrt(h) + 1e-300
    )


def test_drawn_pieces_have_their_moments(seed: int) -> None:
    """With the real normals: halves, quarters and what follows, and no two of them related."""
    x, source = np.zeros((20_000, 1)), rs.RetainedPath(seed)
    source.levy(1.0, 0.2, x)
    source.levy(1.0, 0.7, x)
    steps = [(1.0, 0.9), (0.9, 0.7), (0.7, 0.2), (0.2, 0.0)]
    parts = [source.levy(t, s, x) for t, s in steps]
    units = [
        part / math.sqrt((t - s) / k)
        for (t, s), answer in zip(steps, parts, strict=True)
        for part, k in zip(answer, (1, 12), strict=True)
    ]
    u = np.concatenate(units, axis=1)
    gram = u.T @ u / len(u)
    # One statistic for all correlations: the sum of their squares is a chi-square of 28.
    off = gram[np.triu_indices(8, 1)]
    assert abs(len(u) * np.sum(off**2) - 28) < Z * math.sqrt(2 * 28)
    assert np.all(abs(np.diag(gram) - 1) < Z * math.sqrt(2 / len(u)))
    assert np.all(abs(u.mean(axis=0)) < Z / math.sqrt(len(u)))


# -- steps that depend on the noise ---------------------------------------------------------------


class Ramp:
    """Home-made process without a drift, dx = (1 + 4t) dw on [0, 1]."""

    sde, kind, stochastic, score = rs.VP(), "forward", True, None

    def drift(self, x: Any, t: Any) -> Any:
        return 0.0 * x

    def diffuse(self, dw: Any, t: Any) -> Any:
        return (1.0 + 4.0 * t) * dw

    def at(self, t: Any, s: Any) -> Ramp:
        return self


RAMP = rs.Adaptive(t_start=0.0, t_end=1.0, h0=0.2, exponent=0.67, cap=2.0)
EXACT = 124 / 12  # the integral of (1 + 4t)^2


def ramp(noise: Any, atol: float, n: int = 20_000) -> rs.Solution:
    """The run of spec 02, 7.5: an attempt's error is |g(s) - g(t)| |dw| / 2 / atol."""
    solver = rs.GGF(rtol=1e-12, atol=atol)
    return rs.sample(Ramp(), solver, x=np.zeros((n, 1)), times=RAMP, noise=noise)


@pytest.mark.parametrize("atol", [0.1, 0.05, 0.02])
@pytest.mark.parametrize("make", [rs.RetainedPath, rs.BrownianTree])
def test_steps_that_depend_on_the_noise_stay_unbiased(make: Any, atol: float, seed: int) -> None:
    """Variance 124/12 within 3 standard errors, though two attempts in five are rejected."""
    sol = ramp(make(seed), atol)
    assert sol.success.all() and sol.n_rejected.sum() > 0.25 * sol.n_accepted.sum()
    # Heun's step has the variance (g1 + g2)^2 / 4 h, less than the integral by (g2 - g1)^2 h / 12:
    # at these steps below 0.05.
    bound = 3 * EXACT * math.sqrt(2 / len(sol.x))
    assert np.var(sol.x) == pytest.approx(EXACT, abs=bound)


def test_fresh_noise_loses_two_thirds_of_the_variance(seed: int) -> None:
    """The published mode, and what the tests above must reject; it stays so as atol falls."""
    for atol in (0.1, 0.05, 0.02):
        assert 3 < np.var(ramp(rs.Gaussian(seed), atol).x) < 4


# -- memory ---------------------------------------------------------------------------------------


class Watched(rs.RetainedPath):
    """Notes how much is kept after every attempt."""

    kept: list[tuple[int, int]] = []

    def settle(self, t: Any) -> None:
        super().settle(t)
        pieces = self._pieces
        if pieces is not None:
            self.kept.append((int(np.max(pieces.near - pieces.far)), pieces.lines))


def test_what_is_passed_is_let_go() -> None:
    """In a run with hundreds of attempts no sample holds more than a few pieces."""
    Watched.kept = []
    process = rs.ReverseSDE(rs.VP(), rs.GaussianMixture([1.0], [[0.0]], [0.0625]).score(rs.VP()))
    sol = rs.sample(process, rs.GGF(0.02), 300, noise=Watched(1))
    assert sol.n_rejected.sum() > 0.3 * sol.n_accepted.sum() and len(Watched.kept) > 150
    pieces, lines = np.max(Watched.kept, axis=0)
    assert 1 < pieces <= lines <= 16


def test_without_settling_nothing_is_forgotten() -> None:
    source, x, ends = rs.RetainedPath(1), np.zeros((3, 2)), np.linspace(1.0, 0.0, 41)
    steps = list(zip(ends[:-1], ends[1:], strict=True))
    first = [source.increment(float(t), float(s), x) for t, s in steps]
    assert all(
        np.array_equal(source.increment(float(t), float(s), x), dw)
        for (t, s), dw in zip(steps, first, strict=True)
    )
    assert source.increment(1.0, 0.0, x) == pytest.approx(sum(first), rel=0, abs=1e-14)


def test_answers_may_be_written_to() -> None:
    source, x = rs.RetainedPath(1), np.zeros((3, 2))
    first = [part.copy() for part in source.levy(1.0, 0.5, x)]
    for answer in source.levy(1.0, 0.5, x):
        answer *= 0.0
    assert all(np.array_equal(a, b) for a, b in zip(source.levy(1.0, 0.5, x), first, strict=True))


def test_a_run_is_repeated_by_its_key() -> None:
    process = rs.ReverseSDE(rs.VP(), rs.GaussianMixture.ring(8).score(rs.VP()))
    sol = rs.sample(process, rs.GGF(0.1), 30, rng=4)
    source = rs.RetainedPath(key=sol.seed_entropy)
    for _ in range(2):  # a source is not used up by a run
        again = rs.sample(process, rs.GGF(0.1), 30, noise=source)
        assert np.array_equal(again.x, sol.x) and np.array_equal(again.nfe, sol.nfe)


# -- array libraries ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_take_library_and_dtype_of_the_state(xp: Any, dtype: str) -> None:
    """Also where pieces are split; the same draws, rounded, for every library and dtype."""
    x, plain = xp.zeros((4, 2, 3), dtype=getattr(xp, dtype)), np.zeros((4, 2, 3))
    own = np.array([0.5, 0.25, 0.75, 0.125]).reshape(4, 1, 1)
    source, right = rs.RetainedPath(4), rs.RetainedPath(4)
    for t, s in ((1.0, 0.0), (1.0, own), (own, 0.0625)):
        given = [u if isinstance(u, float) else xp.asarray(u, dtype=x.dtype) for u in (t, s)]
        for got, want in zip(source.levy(*given, x), right.levy(t, s, plain), strict=True):
            assert type(got) is type(x) and got.dtype == x.dtype
            assert np.array_equal(np.asarray(got), want.astype(dtype))
        source.settle(given[0])
        right.settle(t)
    assert type(source.normal(x)) is type(x) and source.normal(x).dtype == x.dtype


# -- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize("areas", [False, True])
def test_questions_against_the_direction_are_refused(areas: bool) -> None:
    x = np.zeros((3, 2))
    for t, s, back in ((1.0, 0.5, 0.7), (0.0, 0.5, 0.3)):
        source = rs.RetainedPath(0)
        ask = source.levy if areas else source.increment
        ask(t, s, x)
        with pytest.raises(ValueError, match=r"`t`, `s` = .* direction .* BrownianTree"):
            ask(s, back, x)
        own = np.array([[s], [back], [s]])
        with pytest.raises(ValueError, match=rf"`t`, `s` = {s:g}, {back:g} run against"):
            ask(s, own, x)
        source.settle(s)
        with pytest.raises(ValueError, match="run against"):
            ask(s, back, x)


@pytest.mark.parametrize("areas", [False, True])
def test_parts_that_were_let_go_are_refused(areas: bool) -> None:
    """Also where nothing is kept ahead: fresh noise would contradict what was shown."""
    x = np.zeros((3, 2))
    for ahead in (0.5, 0.4):
        source = rs.RetainedPath(0)
        ask = source.levy if areas else source.increment
        ask(1.0, 0.5, x)
        source.settle(np.array([[1.0], [0.5], [1.0]]))
        assert np.all(ask(np.array([[1.0], [0.5], [1.0]]), 0.4, x)[0] != 0)
        source.settle(ahead)
        with pytest.raises(ValueError, match=r"`t` = 1 lies in a part .* let go, .* BrownianTree"):
            ask(1.0, 0.5, x)


def test_what_lies_before_a_settled_time_is_passed() -> None:
    """Also where it was never asked: there the path goes on from the settled time."""
    source, x = rs.RetainedPath(0), np.zeros((3, 2))
    source.increment(1.0, 0.5, x)
    source.settle(0.3)
    with pytest.raises(ValueError, match=r"`t` = 0\.4 lies in a part .* let go, before 0\.3"):
        source.increment(0.4, 0.2, x)
    assert np.all(source.increment(0.3, 0.2, x) != 0)


def test_another_event_shape_is_refused() -> None:
    source = rs.RetainedPath(0)
    source.increment(1.0, 0.5, np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"`x` must hold samples of shape \(2,\).* got \(4,\)"):
        source.increment(1.0, 0.4, np.zeros((3, 4)))


def test_areas_of_pieces_without_are_refused() -> None:
    source, x = rs.RetainedPath(0), np.zeros((3, 2))
    source.increment(1.0, 0.5, x)
    with pytest.raises(ValueError, match=r"`levy` .* without their areas: ask for levy"):
        source.levy(1.0, 0.7, x)
    source.settle(0.5)  # nothing is ahead: areas may begin here
    source.levy(0.5, 0.2, x)
    assert np.all(source.increment(0.5, 0.3, x) != 0), "an increment alone is no harm"


def test_samples_that_have_no_past_are_refused() -> None:
    source, x = rs.RetainedPath(0).on(np.array([1, 4, 6])), np.zeros((3, 2))
    source.on(np.array([0, 9]))  # nothing has begun
    source.increment(1.0, 0.5, x)
    for rows in ([0], [4, 5], [1, 7]):
        with pytest.raises(ValueError, match=r"`rows` must be among the 3 samples .* RetainedPath"):
            source.on(np.array(rows))
    with pytest.raises(ValueError, match=r"`rows` must be indices"):
        source.on(np.array([6, 1]))
    whole = rs.RetainedPath(0)
    whole.increment(1.0, 0.5, x)
    with pytest.raises(ValueError, match=r"`rows` must be among the 3 samples"):
        whole.on(np.array([1, 3]))


def test_batches_of_another_size_are_refused() -> None:
    """By a message that names the argument, not by NumPy's about shapes."""
    source, x = rs.RetainedPath(0), np.zeros((3, 2))
    source.increment(1.0, 0.5, x)
    with pytest.raises(ValueError, match="`x` must"):
        source.increment(0.5, 0.2, np.zeros((4, 2)))


@pytest.mark.parametrize("wrong", ["a", -1, 1.5, [1.0]])
def test_a_wrong_seed_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="`rng` must be"):
        rs.RetainedPath(wrong)
    with pytest.raises(ValueError, match="`key` must be"):
        rs.RetainedPath(key=2**64)


def test_repr_repeats_the_source() -> None:
    source = rs.RetainedPath(5)
    assert eval(repr(source), {"RetainedPath": rs.RetainedPath}).key == source.key
