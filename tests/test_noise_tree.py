"""The Brownian tree: one path, exact in law, whatever is asked and in which order.

The law is checked without Monte Carlo: values are linear in the normals of the nodes, so that with
unit vectors in place of normals the tree tells its own covariance.  What stays statistical, the
hash and whole runs, is compared at `Z` standard errors: 101 comparisons at a two-sided rate of 1e-6
each, so that a right tree fails this file for one seed in 9900; mutants are rejected.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

import refsde as rs
from refsde._random import START, KeyedNormals
from refsde.noise import tree

Z = 4.9  # standard errors: two-sided rate 1e-6
TIMES = [0.0, 1e-5, 0.001, 0.3, 1 / 3, 0.5, 0.7, 1.0, 1.3, 2.0, 5.7, 77.7, 80.0]
moments_of_time = st.sampled_from(TIMES) | st.floats(0.0, 80.0)
intervals = st.tuples(moments_of_time, moments_of_time)


# -- the law, exactly -----------------------------------------------------------------------------

Normals = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def as_they_are(z: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return z, n


def covariance(
    times: list[float], levels: int = 24, change: Normals = as_they_are
) -> tuple[np.ndarray, np.ndarray]:
    """Covariances of the path, and of its integral from 0 on, as the tree makes them.

    Sample i of the tree is the i-th unit vector of the independent normals of all nodes.
    """
    numbers: dict[int, int] = {}

    def normals(seeds: np.ndarray, node: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = 2 * numbers.setdefault(int(node.item()), len(numbers))
        assert first + 1 < seeds.size, "more nodes than unit vectors"
        return change((seeds == first).astype(float), (seeds == first + 1).astype(float))

    basis = np.arange(2000, dtype=np.uint64)[None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "_normals", normals)
        values = np.array([tree._values(np.array([t]), basis, levels)[:, 0] for t in times])
    w, integral = values.swapaxes(0, 1)
    joint = np.concatenate([w, integral])
    return joint @ joint.T, np.concatenate([w, integral])


def brownian(times: list[float]) -> np.ndarray:
    """The same covariances of Brownian motion: min(t, s), and its integrals."""
    t, s = np.meshgrid(times, times, indexing="ij")
    least, most = np.minimum(t, s), np.maximum(t, s)
    cross = least * s - least**2 / 2  # of w_t and the integral up to s
    return np.block([[least, cross], [cross.T, least**2 * (3 * most - least) / 6]])


def law_error(**options: Any) -> float:
    """Largest error of a covariance, as a correlation."""
    exact = brownian(TIMES[1:])
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    return float(np.max(np.abs(covariance(TIMES[1:], **options)[0] - exact) / scale))


def test_the_path_and_its_integral_have_the_law_of_brownian_motion() -> None:
    """At times on and off the dyadic ones, near 0, across octaves: Cov(w_t, w_s) = min(t, s)."""
    assert law_error() < 1e-14
    assert law_error(levels=tree._DEEPEST) < 1e-14
    assert np.all(covariance([0.0])[0] == 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda z, n: (z, 0.99 * n),
        lambda z, n: (1.01 * z, n),
        lambda z, n: (z, z),
        lambda z, n: (z, 0.0 * n),
    ],
)
def test_other_normals_have_not(change: Normals) -> None:
    assert law_error(change=change) > 1e-3


@given(
    st.lists(st.integers(1, 80_000), min_size=1, max_size=5, unique=True),
    st.integers(17, 52),
)
def test_the_law_at_any_times(thousandths: list[int], levels: int) -> None:
    """Two of them lie in different leaves, of width 64 / 2**17 at most."""
    times = [k / 1000 for k in thousandths]
    exact = brownian(times)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert covariance(times, levels)[0] / scale == pytest.approx(exact / scale, abs=1e-13)


@pytest.mark.parametrize(
    ("t", "s"), [(0.3, 5.7), (1 / 3, 0.7), (0.9, 0.001), (0.0, 77.7), (0.3, 0.3001)]
)
def test_increment_and_area_are_independent_with_their_variances(t: float, s: float) -> None:
    """Var dW = h, Var H = h / 12, Cov(dW, H) = 0, for the combination that `levy` makes."""
    _, (w_t, w_s, sum_t, sum_s) = covariance([t, s])
    dw, area = w_s - w_t, (sum_s - sum_t) / (s - t) - (w_t + w_s) / 2
    h = abs(s - t)
    got = np.array([dw @ dw / h, 12 * (area @ area) / h, dw @ area / h])
    assert got == pytest.approx([1.0, 1.0, 0.0], abs=1e-12 * (max(t, s) / h) ** 1.5)


@pytest.mark.parametrize("levels", [0, 3, 24])
def test_the_law_at_one_time_is_exact_at_any_depth(levels: int) -> None:
    for t in TIMES[1:]:
        got, exact = covariance([t], levels)[0], brownian([t])
        assert got / t == pytest.approx(exact / t, rel=1e-13)


def test_within_a_leaf_variances_are_wrong_by_a_quarter_of_it() -> None:
    """The documented bound, and that it is reached: one leaf [0, 1]."""
    t, s = np.triu_indices(60, k=1)
    times = np.linspace(0.0, 0.999, 60)
    _, values = covariance(list(times), levels=0)
    w, sums, h = values[:60], values[60:], (times[s] - times[t])[:, None]
    dw, area = w[s] - w[t], (sums[s] - sums[t]) / h - (w[s] + w[t]) / 2
    errors = [np.sum(dw**2, axis=1) - h[:, 0], np.sum(area**2, axis=1) - h[:, 0] / 12]
    assert [np.max(np.abs(e)) for e in errors] == pytest.approx([0.25, 0.25], abs=0.005)


# -- the hash -------------------------------------------------------------------------------------


def test_normals_are_splitmix64s() -> None:
    """Published outputs of the seed 1234567 (the first five numbers of the reference program)."""
    known = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    seeds = np.full((1, 1), 1234567, np.uint64)
    for node in (1, 2):
        got = tree._normals(seeds, np.array([node], np.uint64))
        bits = [k >> 12 for k in known[2 * node - 1 : 2 * node + 1]]
        assert [float(z[0, 0]) for z in got] == [float(ndtri((b + 0.5) / 2**52)) for b in bits]


def test_a_path_has_an_address_of_its_own() -> None:
    """Seeds are the bits of NumPy's Philox there; w(1) is the first normal of the first root."""
    counter = np.array([0, 0, 0, START - 3], dtype=np.uint64)
    bits = np.random.Philox(key=np.array([8, 0], dtype=np.uint64), counter=counter)
    seeds = bits.random_raw(6).reshape(3, 2)
    z, n = tree._normals(seeds, np.array([0], np.uint64))
    dw, h = rs.BrownianTree(key=8).levy(0.0, 1.0, np.zeros((3, 2)))
    assert np.array_equal(dw, z) and h == pytest.approx(n / math.sqrt(12), abs=1e-15)


def test_the_largest_bits_give_a_finite_normal() -> None:
    """2**53 - 1 + 0.5 would round to 2**53, and the normal be infinite; and both ends mirror."""
    ends = []
    for bits in (0, 2**64 - 1):
        # the finaliser backwards
        for shift, mix in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
            whole = bits
            for _ in range(3):
                whole = bits ^ (whole >> shift)
            bits = whole * pow(mix, -1, 2**64) % 2**64
        z, _ = tree._normals(np.array([[bits]], np.uint64), np.array([0], np.uint64))
        ends.append(z.item())
    assert ends[0] == -ends[1] and 8.2 < ends[1] < 8.3


def test_every_node_has_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two nodes of one descent, of two halves or of two octaves share their normals."""
    seen: list[int] = []

    def note(seeds: np.ndarray, node: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(int(node.item()))
        return np.zeros(seeds.shape), np.zeros(seeds.shape)

    monkeypatch.setattr(tree, "_normals", note)
    for t in (0.3, 0.8, 1.6, 2.6, 5.2, 6e99):
        tree._values(np.array([t]), np.zeros((1, 1), np.uint64), 40)
    # the roots of 333 octaves; 40 splits and a leaf each, but 0.3 and 0.8 share the first split
    assert len(set(seen)) == 333 + 6 * 41 - 1
    assert max(seen) < 2**63, "twice the number has room"


def z_scores(source: Any, n: int = 16384) -> dict[str, float]:
    """Moments of a source less those of Brownian motion, in standard errors: each N(0, 1)."""
    x, calls = np.zeros((n, 4)), []
    for t, s in ((0.0, 0.3), (0.3, 0.45), (5.7, 1.0), (0.9, 1.0), (0.7001, 0.7)):
        dw, h = source.levy(t, s, x)
        calls += [dw / math.sqrt(abs(s - t)), h / math.sqrt(abs(s - t) / 12)]
    z = {f"variance {i}": (u.var() - 1) * math.sqrt(u.size / 2) for i, u in enumerate(calls)}
    z |= {f"mean {i}": u.mean() * math.sqrt(u.size) for i, u in enumerate(calls)}
    p = math.erf(math.sqrt(0.5))  # within one standard deviation
    z |= {
        f"shape {i}": ((abs(u) < 1).mean() - p) * math.sqrt(u.size / (p * (1 - p)))
        for i, u in enumerate(calls)
    }
    for i, u in enumerate(calls):
        for j in range(i):
            z[f"intervals {i}, {j}"] = (u * calls[j]).mean() * math.sqrt(u.size)
        z[f"rows {i}"] = (u[1:] * u[:-1]).mean() * math.sqrt(u.size)
        z[f"coordinates {i}"] = (u[:, :-1] * u[:, 1:]).mean() * math.sqrt(0.75 * u.size)
    return z


class Table(KeyedNormals):
    """A table of seeds with a mistake, which is a class of its own."""

    def __init__(self, table: KeyedNormals) -> None:
        super().__init__(table.key)


class Shares(Table):
    def bits(self, rows: Any, event: Any, call: int) -> np.ndarray:
        return super().bits(rows, (*event[:-1], 1), call).repeat(event[-1], axis=-1)


class Follows(Table):
    def bits(self, rows: Any, event: Any, call: int) -> np.ndarray:
        shape = (len(rows), *event)
        return (np.arange(math.prod(shape), dtype=np.uint64) * tree._GOLDEN).reshape(shape)


class Mutant(rs.BrownianTree):
    table: type[Table]

    def __init__(self, rng: Any = None) -> None:
        super().__init__(rng)
        self._table = self.table(self._table)

    def on(self, rows: Any) -> Any:
        source = super().on(rows)
        source._table = self.table(source._table)
        return source


class Shared(Mutant):
    """Mutant: the coordinates of a sample share their path."""

    table = Shares


class InSequence(Mutant):
    """Mutant: the seeds follow each other like the states of one generator."""

    table = Follows


def test_increments_and_areas_are_brownian(seed: int) -> None:
    scores = z_scores(rs.BrownianTree(seed))
    assert len(scores) == 95
    assert max(np.abs(list(scores.values()))) < Z


@pytest.mark.parametrize(("mutant", "seen_in"), [(Shared, "coordinates"), (InSequence, "")])
def test_mutants_are_not(mutant: Any, seen_in: str, seed: int) -> None:
    scores = z_scores(mutant(seed))
    assert max(abs(v) for name, v in scores.items() if name.startswith(seen_in)) > Z


def test_a_hash_without_its_finaliser_is_seen(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def weak(seeds: np.ndarray, node: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = [2 * node + np.uint64(j) for j in (0, 1)]
        z, n = (ndtri(((seeds + c * tree._GOLDEN >> np.uint64(12)) + 0.5) / 2**52) for c in counts)
        return z, n

    monkeypatch.setattr(tree, "_normals", weak)
    assert max(np.abs(list(z_scores(rs.BrownianTree(seed)).values()))) > Z


@pytest.mark.parametrize("shape", [None, (5000, 2, 3)])
def test_the_public_check_passes(shape: Any) -> None:
    """Its statistical comparisons fail a right source with probability 1e-9 each."""
    assert rs.testing.check_noise(rs.BrownianTree, shape=shape).passed


def test_the_public_check_sees_a_mutant() -> None:
    assert not rs.testing.check_noise(Shared, on_fail="report").passed


# -- one path -------------------------------------------------------------------------------------


def answers(source: Any, t: Any, s: Any, x: Any) -> np.ndarray:
    return np.array([source.increment(t, s, x), *source.levy(t, s, x)])


@given(st.lists(intervals, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_questions_is_no_matter(asked: list[tuple[float, float]], rng: Any) -> None:
    """Bit for bit what a source gives that is asked nothing else."""
    x, source = np.zeros((3, 2)), rs.BrownianTree(key=4)
    order = asked + asked
    rng.shuffle(order)
    for t, s in order:
        assert np.array_equal(answers(source, t, s, x), answers(rs.BrownianTree(key=4), t, s, x)), (
            f"{t}, {s}"
        )


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(TIMES), min_size=3, max_size=3),
            st.lists(st.sampled_from(TIMES), min_size=3, max_size=3),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_times_of_each_sample_are_those_of_all(asked: list[Any]) -> None:
    """Own ends, of which some are kept and some are not, row by row as for shared times."""
    x, source = np.zeros((3, 2)), rs.BrownianTree(key=4)
    for t, s in asked:
        own = answers(source, np.array(t)[:, None], np.array(s)[:, None], x)
        mixed = answers(source, np.array(t)[:, None], s[0], x)
        for i in range(3):
            assert np.array_equal(own[:, i], answers(rs.BrownianTree(key=4), t[i], s[i], x)[:, i])
            assert np.array_equal(mixed[:, i], answers(rs.BrownianTree(key=4), t[i], s[0], x)[:, i])


@given(st.lists(moments_of_time, min_size=2, max_size=7))
def test_increments_add_up(times: list[float]) -> None:
    x, source = np.zeros((3, 2)), rs.BrownianTree(key=4)
    parts = sum(source.increment(t, s, x) for t, s in zip(times[:-1], times[1:], strict=True))
    assert parts == pytest.approx(source.increment(times[0], times[-1], x), abs=1e-12)


@given(st.lists(st.integers(0, 8000), min_size=3, max_size=3, unique=True))
def test_areas_join_by_the_relation_of_chen(hundredths: list[int]) -> None:
    t, m, s = (k / 100 for k in hundredths)
    x, source = np.zeros((3, 2)), rs.BrownianTree(key=4)
    (w1, area1), (w2, area2) = source.levy(t, m, x), source.levy(m, s, x)
    h1, h2, h = m - t, s - m, s - t
    joined = (h1 * area1 + h2 * area2) / h + (h2 * w1 - h1 * w2) / (2 * h)
    # h may be far shorter than its parts, which takes digits
    assert joined == pytest.approx(source.levy(t, s, x)[1], abs=1e-10 * max(1, abs(h1 / h)))


@pytest.mark.parametrize(("t", "s"), [(0.0, 1.0), (0.3, 0.37), (5.7, 0.3)])
def test_areas_are_those_of_the_path(t: float, s: float) -> None:
    """H is the mean less the chord, by the trapezoidal rule on the path itself.

    Its error is the mean of m areas of pieces, each N(0, dt / 12).
    """
    x, source, m = np.zeros((50, 2)), rs.BrownianTree(key=4), 400
    grid = np.linspace(t, s, m + 1)
    w = np.array([source.increment(t, float(u), x) for u in grid])
    mean = (w.sum(axis=0) - 0.5 * w[-1]) / m
    area = source.levy(t, s, x)[1]
    z = (area - (mean - 0.5 * w[-1])) / math.sqrt(abs(s - t) / m / 12 / m)
    assert abs((z**2).mean() - 1) * math.sqrt(z.size / 2) < Z
    assert abs(area).max() > 0.05 * math.sqrt(abs(s - t))


@given(moments_of_time, moments_of_time)
def test_reversing_time_flips_the_increment_and_keeps_the_area(t: float, s: float) -> None:
    x, source = np.zeros((3, 2)), rs.BrownianTree(key=4)
    (dw, h), (back, area) = source.levy(t, s, x), source.levy(s, t, x)
    assert np.array_equal(back, -dw) and np.array_equal(area, h)
    assert abs(t - s) < 1e-6 or (np.all(dw != 0) and np.all(h != 0))


@given(moments_of_time)
def test_an_empty_interval_has_no_noise(t: float) -> None:
    assert np.all(answers(rs.BrownianTree(key=4), t, t, np.zeros((3, 2))) == 0)
    own = np.array([[t], [0.5], [1.0]])
    got = answers(rs.BrownianTree(key=4), own, 0.5, np.zeros((3, 2)))
    assert np.all(got[:, 1] == 0) and np.all(got[:, 2] != 0)


@pytest.mark.parametrize("tol", [2.0**-24, 1e-3])
@pytest.mark.parametrize("t", [0.3, 0.5, 1.0, 1.5, 77.7])
def test_times_within_a_leaf_are_close(t: float, tol: float) -> None:
    """Neighbouring floats too: finite answers of the size of the leaf, on both sides of a node."""
    x, source = np.zeros((200, 2)), rs.BrownianTree(key=4, tol=tol)
    width = tol * max(1.0, 2.0 ** math.floor(math.log2(t)))
    for share in (0.0, 1e-12, 1e-6, 1e-3, 0.3, 1.0):
        for s in (np.nextafter(t - share * width, 0.0), np.nextafter(t + share * width, 99.0)):
            got = answers(source, t, float(s), x)
            assert np.all(np.abs(got) < 6 * math.sqrt(width) + 1e-15)


def test_tol_is_the_width_of_a_leaf() -> None:
    """A wider leaf changes the path within it alone; tol = 0.3 means leaves of 1/4."""
    x = np.zeros((3, 2))
    fine, wide = rs.BrownianTree(key=4), rs.BrownianTree(key=4, tol=0.3)
    assert wide._levels == 2 and fine._levels == 24
    assert rs.BrownianTree(tol=2.0**-10)._levels == 10
    assert rs.BrownianTree(tol=1e-300)._levels == 52
    for t in (0.25, 0.5, 0.75, 1.0, 1.25, 3.5):
        assert answers(wide, 0.0, t, x) == pytest.approx(answers(fine, 0.0, t, x), abs=1e-13)
    assert abs(wide.increment(0.0, 0.3, x) - fine.increment(0.0, 0.3, x)).min() > 1e-3
    deepest = rs.BrownianTree(tol=1e-300)
    assert np.all(np.isfinite(answers(deepest, 0.3, 0.7, x)))


# -- samples --------------------------------------------------------------------------------------


@given(
    rows=st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True).map(sorted),
    event=st.sampled_from([(), (1,), (2,), (3, 2)]),
    warm=st.booleans(),
)
def test_a_sample_alone_is_as_in_the_batch(
    rows: list[int], event: tuple[int, ...], warm: bool
) -> None:
    """Whether its source is new or was taken from one that had been asked."""
    x, whole = np.zeros((31, *event)), rs.BrownianTree(key=4)
    expected = answers(whole, 1.2, 0.4, x)[:, rows]
    source = whole if warm else rs.BrownianTree(key=4)
    part = source.on(np.array(rows))
    assert np.array_equal(answers(part, 1.2, 0.4, x[rows]), expected)
    for row in rows:
        one = part.on(np.array([row]))
        assert np.array_equal(answers(one, 1.2, 0.4, x[:1])[:, 0], expected[:, rows.index(row)])


def test_blocks_are_keyed_apart() -> None:
    rows = np.array([0, 3, 16383, 16384, 16386])
    whole = answers(rs.BrownianTree(5), 0.7, 0.3, np.zeros((16387, 1)))
    assert np.array_equal(
        answers(rs.BrownianTree(5).on(rows), 0.7, 0.3, np.zeros((5, 1))), whole[:, rows]
    )
    assert len(np.unique(whole[0, rows])) == 5


def test_samples_leave_in_mid_run() -> None:
    """Those that remain go on from what is kept, with their own times; others may come back."""
    rng, whole = np.random.default_rng(0), rs.BrownianTree(key=4)
    rows, source, t = np.arange(12), rs.BrownianTree(key=4), np.full((12, 1), 1.0)
    for keep in (np.arange(12), [0, 2, 3, 7, 9, 11], [2, 3, 9], [3], [5], [], [5, 8], [6, 8]):
        rows = np.array(keep, dtype=int)
        source = source.on(rows)
        s = t * rng.uniform(0.2, 0.9, t.shape)
        for end in (s, 0.5 * (t + s)):  # an attempt and its retry
            got = answers(source, t[rows], end[rows], np.zeros((len(rows), 2)))
            assert np.array_equal(got, answers(whole, t, end, np.zeros((12, 2)))[:, rows])
        t = s


def test_on_leaves_the_source_alone_and_keeps_the_question() -> None:
    x, source, plain = np.zeros((4, 2)), rs.BrownianTree(key=4), rs.Gaussian(key=4)
    source.increment(1.0, 0.5, x)
    part = source.on(np.array([1, 3]))
    part.increment(0.5, 0.2, x[:2])
    assert np.array_equal(part.normal(x[:2]), plain.normal(x)[[1, 3]])
    assert np.array_equal(source.normal(x), rs.Gaussian(key=4).normal(x))
    assert np.array_equal(source.start(x), plain.start(x)), "a start, and no part of the path"
    with pytest.raises(ValueError, match=r"`x` must hold the 2 samples"):
        part.increment(1.0, 0.5, x)


def test_the_batch_may_change_between_questions() -> None:
    source = rs.BrownianTree(key=4)
    for shape in ((5, 2), (5, 4), (3, 2), (5, 2), (5, 2, 2), (0, 2)):
        x = np.zeros(shape)
        assert np.array_equal(
            answers(source, 0.9, 0.2, x), answers(rs.BrownianTree(key=4), 0.9, 0.2, x)
        )


def test_answers_may_be_written_to() -> None:
    source, x = rs.BrownianTree(key=4), np.zeros((3, 2))
    first = answers(source, 0.9, 0.2, x)
    for answer in (source.increment(0.9, 0.2, x), *source.levy(0.9, 0.2, x)):
        answer *= 0.0
    assert np.array_equal(answers(source, 0.9, 0.2, x), first)


def test_what_is_kept_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry, also of a step of two intervals, and the step after an acceptance make one time."""
    made: list[int] = []
    plain = tree._values
    monkeypatch.setattr(tree, "_values", lambda *a: made.append(a[1].shape[1]) or plain(*a))
    source, x = rs.BrownianTree(key=4), np.zeros((3, 2))
    asked = [(1.0, 0.5, 2), (0.5, 0.2, 1), (1.0, 0.7, 1), (0.7, 0.65, 1), (0.7, 1.0, 0)]
    for t, s, new in asked:
        made.clear()
        source.levy(t, s, x)
        assert len(made) == new, f"{t}, {s}"
    own = np.array([[0.65], [0.7], [0.4]])
    made.clear()
    source.increment(own, 0.7, x)
    assert made == [1], "the third sample's"


def test_memory_does_not_grow_with_the_levels() -> None:
    x, source = np.zeros((20000, 4)), rs.BrownianTree(key=4, tol=2.0**-50)
    source.increment(1.0, 0.5, x)
    tracemalloc.start()
    source.increment(0.7, 0.3, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 25 * x.nbytes


# -- array libraries ------------------------------------------------------------------------------


def test_answers_take_library_and_dtype_of_the_state(xp: Any) -> None:
    expected = answers(rs.BrownianTree(key=4), 1.0, 0.3, np.zeros((4, 2, 3)))
    for dtype in (xp.float32, xp.float64):
        x = xp.zeros((4, 2, 3), dtype=dtype)
        source = rs.BrownianTree(key=4)
        own = xp.asarray(np.full((4, 1, 1), 0.3), dtype=xp.float64)
        for s in (0.3, own):
            values = [source.increment(1.0, s, x), *source.levy(1.0, s, x)]
            for value, right in zip(values, expected, strict=True):
                assert type(value) is type(x) and value.dtype == x.dtype
                assert np.array_equal(np.asarray(value), right.astype(np.asarray(value).dtype))


def test_float32_times_are_the_times_they_round_to(xp: Any) -> None:
    x, t = xp.zeros((3, 2), dtype=xp.float32), np.array([[0.1], [0.7], [1.3]], np.float32)
    got = rs.BrownianTree(key=4).increment(xp.asarray(t), 0.25, x)
    right = rs.BrownianTree(key=4).increment(t.astype(float), 0.25, np.zeros((3, 2)))
    assert np.array_equal(np.asarray(got), right.astype(np.float32))


# -- whole runs -----------------------------------------------------------------------------------


def grid_errors(noise: Any) -> list[float]:
    """Error in L2 of 64 and 128 steps of a forward run, against 512 steps and the same source."""
    process, x, ends = rs.ForwardSDE(rs.VP()), np.zeros((4000, 1)), []
    for n in (64, 128, 512):
        grid = rs.Grid.uniform(process.sde, n, 0.0).reversed()
        ends.append(rs.sample(process, rs.EulerMaruyama(), x=x, times=grid, noise=noise).x)
    return [float(np.sqrt(np.mean((end - ends[2]) ** 2))) for end in ends[:2]]


def test_every_grid_sees_the_same_path(seed: int) -> None:
    """Strong order 1: the errors are as (1/64 - 1/512) / (1/128 - 1/512) = 7/3, within 9 se."""
    coarse, fine = grid_errors(rs.BrownianTree(seed))
    assert fine < 0.1 and coarse / fine == pytest.approx(7 / 3, rel=0.15)
    coarse, fine = grid_errors(rs.Gaussian(seed))
    assert fine > 1 and coarse / fine < 1.2, "mutant: another path for every grid"


def adaptive_variance(source: Any, n: int) -> float:
    """Variance of x(1), dx = (1 + 4t) dw, by steps that depend on the noise (spec 02, 7.5)."""

    def g(t: np.ndarray) -> np.ndarray:
        return 1.0 + 4.0 * t

    t, h, x = np.zeros((n, 1)), np.full((n, 1), 0.2), np.zeros((n, 1))
    while np.any(t < 1):
        s = np.minimum(t + h, 1.0)
        dw = source.increment(t, s, x)
        error = np.abs(0.5 * (g(s) - g(t)) * dw) / 0.05
        taken = error <= 1
        x = np.where(taken, x + 0.5 * (g(t) + g(s)) * dw, x)
        t = np.where(taken, s, t)
        h = np.maximum(h * np.clip(0.9 * np.maximum(error, 1e-9) ** -0.67, 0.05, 2.0), 1e-6)
    return float(np.var(x))


def test_steps_that_depend_on_the_noise_stay_unbiased(seed: int) -> None:
    """124/12 to the Monte Carlo error; fresh noise after a rejection loses two thirds of it."""
    n = 6000
    bound = Z * 124 / 12 * math.sqrt(2 / n)
    assert adaptive_variance(rs.BrownianTree(seed), n) == pytest.approx(124 / 12, abs=bound)
    assert adaptive_variance(rs.Gaussian(seed), n) < 124 / 12 - 3 * bound


# -- what it says ---------------------------------------------------------------------------------


def test_repr_repeats_the_source() -> None:
    source = rs.BrownianTree(5, tol=1e-3)
    again = eval(repr(source), {"BrownianTree": rs.BrownianTree})
    assert (again.key, again.tol) == (source.key, source.tol)


@pytest.mark.parametrize("tol", [0.0, 1.0, -1e-3, 2, math.nan, math.inf, "fine", None, True])
def test_a_wrong_tol_is_refused(tol: Any) -> None:
    with pytest.raises(
        ValueError, match=r"`tol` must be a width of time in \(0, 1\), got .*: take"
    ):
        rs.BrownianTree(0, tol=tol)


@pytest.mark.parametrize("wrong", [-1e-9, math.nan, math.inf, -math.inf, 1e101])
def test_wrong_times_are_refused(wrong: float) -> None:
    source, x, own = rs.BrownianTree(0), np.zeros((3, 2)), np.full((3, 1), 0.5)
    own[1] = wrong
    for t in (wrong, own):
        with pytest.raises(ValueError, match=r"`t` must hold finite times from 0 to .*, got"):
            source.increment(t, 0.5, x)
        with pytest.raises(ValueError, match=r"`s` must hold finite times from 0 to .*, got"):
            source.levy(0.5, t, x)
    assert np.array_equal(source.increment(1.0, 0.5, x), rs.BrownianTree(0).increment(1.0, 0.5, x))


def test_times_of_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`s` must be a float or hold one time .* 3 samples, got"):
        rs.BrownianTree(0).increment(1.0, np.full((4, 1), 0.5), np.zeros((3, 2)))


def test_very_late_times_are_times() -> None:
    x, source = np.zeros((2000, 1)), rs.BrownianTree(0)
    dw, h = source.levy(0.0, 1e100, x)
    for u, variance in ((dw, 1e100), (h, 1e100 / 12)):
        assert abs((u**2).mean() / variance - 1) < Z * math.sqrt(2 / 2000)
