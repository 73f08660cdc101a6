"""Langevin with a Metropolis test: its acceptance, the law it keeps, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from _probing import Z
from _solvers import CountingScore
from scipy.special import ndtri

import refsde as rs
from refsde import precondition as pc

VP, VE = rs.VP(), rs.VE(sigma_max=10.0)
RNG = np.random.default_rng(2)
#: two narrow ridges, one across the other
RIDGES = rs.GaussianMixture(
    [0.4, 0.6], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.1], [0.1, 0.04]], [[0.05, 0.0], [0.0, 0.6]]]
)
M2 = pc.Dense([[0.9, 0.3], [-0.2, 0.5]])


class Told:
    """A `Noise` that gives these normals in turn."""

    def __init__(self, *normals: np.ndarray) -> None:
        self.normals = list(normals)

    def normal(self, x: Any) -> Any:
        return self.normals.pop(0)


def process_of(target: Any, sde: Any, M: Any = None, kind: str = "pds", **more: Any) -> Any:
    if M is None:
        return rs.ReverseSDE(sde, target.score(sde))
    return rs.Preconditioned(sde, target.score(sde), M, kind, guard="off", **more)  # type: ignore[arg-type]


def step_size(sde: Any, snr: float, t: float, s: float) -> float:
    ratio = sde.alpha(t) / sde.alpha(s)
    return float(2 * min(ratio, 1 / ratio) ** 2 * (snr * sde.sigma(t)) ** 2)


def exact_log_ratio(
    target: Any, sde: Any, t: float, e: float, D: np.ndarray, x: np.ndarray, x2: np.ndarray
) -> np.ndarray:
    """log p(x') q(x | x') - log p(x) q(x' | x), with q(. | x) = N(x + e A score, 2 e A)."""
    score, A = target.score(sde), D @ D.T
    P = np.linalg.inv(2 * e * A)

    def log_q(to: np.ndarray, of: np.ndarray) -> Any:
        gap = (to - of).reshape(len(x), -1) - e * score(of, t).reshape(len(x), -1) @ A
        return -0.5 * np.einsum("bi,ij,bj->b", gap, P, gap)

    forth, back = log_q(x2, x), log_q(x, x2)
    return np.asarray(score.logpdf(x2, t) - score.logpdf(x, t) + back - forth)


FIELD = rs.GaussianField.power_law((3, 4), std=0.4)
PLACES: dict[str, tuple[Any, Any, Any]] = {
    "line": (rs.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.05, 0.2]), VP, None),
    "line-scalar": (
        rs.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.05, 0.2]),
        VE,
        pc.Scalar(1.3),
    ),
    "plane": (RIDGES, VP, None),
    "plane-dense": (RIDGES, VE, M2),
    "plane-product": (RIDGES, VP, M2 @ pc.Diagonal([0.5, 1.5])),
    "images": (FIELD, VP, None),
    "images-fourier": (FIELD, VP, pc.langevin_matched(FIELD, VP, 0.3, power=0.5)),
    "images-stepwise": (FIELD, VE, pc.Stepwise(lambda t, s: pc.Scalar(1 + t))),
}


@pytest.mark.parametrize("kind", ["pds", "marginal", "noise"])
@pytest.mark.parametrize("name", PLACES)
def test_the_acceptance_is_that_of_metropolis_and_hastings(name: str, kind: Any) -> None:
    """Detailed balance: accepted just below the ratio of densities, refused just above it."""
    target, sde, M = PLACES[name]
    if kind != "pds" and M is None:
        return
    t, s, snr, n = 0.3, 0.29, 0.9, 200
    event = target.event_shape
    process = process_of(target, sde, M, kind).at(t, s)
    made = pc.Identity() if M is None else process.M
    d = math.prod(event)
    D = made.apply(np.eye(d).reshape(d, *event)).reshape(d, d).T
    x = target.at(sde, t).sample(n, rng=3)
    z, e = RNG.standard_normal(x.shape), step_size(sde, snr, t, s)
    x2 = x + e * made.gram(process.score(x, t)) + math.sqrt(2 * e) * made.apply(z)
    log_r = exact_log_ratio(target, sde, t, e, D, x, x2)
    doubtful = (log_r < -1e-3) & (log_r > -15)  # the others are accepted, or as good as never
    assert doubtful.sum() > 20
    x, x2, z, log_r = (array[doubtful] for array in (x, x2, z, log_r))

    def run(log_u: np.ndarray) -> Any:
        uniform = np.zeros(x.shape)
        uniform.reshape(len(x), -1)[:, 0] = ndtri(np.exp(log_u))
        return rs.MALA(snr)(process, rs.State(t, x), s, Told(z, uniform)).x  # type: ignore[arg-type]

    below, above = run(log_r - 1e-6), run(log_r + 1e-6)
    np.testing.assert_allclose(below, x2, rtol=0, atol=1e-12 * np.abs(x2).max())
    np.testing.assert_array_equal(above, x)


@pytest.mark.parametrize("name", ["plane-dense", "images-fourier"])
def test_a_refused_proposal_leaves_no_trace(name: str) -> None:
    """The next one sets out from where the sample is, with the score of that place."""
    target, sde, M = PLACES[name]
    t, s = 0.3, 0.29
    process = process_of(target, sde, M)
    x = target.at(sde, t).sample(50, rng=0)
    z = RNG.standard_normal((2, *x.shape))
    never, ever = np.full(x.shape, 30.0), np.full(x.shape, -30.0)  # u of 1 - 1e-197 and of 1e-197
    start = rs.State(t, x)
    twice = rs.MALA(0.9, 2)(process, start, s, Told(z[0], never, z[1], ever)).x  # type: ignore[arg-type]
    once = rs.MALA(0.9, 1)(process, start, s, Told(z[1], ever)).x  # type: ignore[arg-type]
    first = rs.MALA(0.9, 1)(process, start, s, Told(z[0], never)).x  # type: ignore[arg-type]
    refused = np.all((first == x).reshape(50, -1), axis=1)
    assert refused.sum() > 10
    np.testing.assert_allclose(twice[refused], once[refused], rtol=0, atol=1e-12)
    assert np.all(np.any((once != x).reshape(50, -1), axis=1))


def test_on_a_gaussian_the_ratio_has_a_closed_form() -> None:
    """log r = -(e / 4V^2)(x'^2 - x^2), and the share accepted is its mean over both."""
    V, t, s, snr, n = 0.3, 0.7, 0.69, 0.8, 200_000
    target = rs.GaussianMixture([1.0], [[0.0]], [V])
    e = step_size(VE, snr, t, s)
    V_t = V + VE.sigma(t) ** 2
    x, z = np.meshgrid(*2 * [np.linspace(-8, 8, 2001)], indexing="ij")
    w = np.exp(-0.5 * (x * x + z * z)) / (2 * math.pi) * (x[1, 0] - x[0, 0]) ** 2
    x = x * math.sqrt(V_t)
    x2 = (1 - e / V_t) * x + math.sqrt(2 * e) * z
    share = float(np.sum(w * np.minimum(1, np.exp(-e / (4 * V_t**2) * (x2 * x2 - x * x)))))
    assert 0.3 < share < 0.95
    start = target.at(VE, t).sample(n, rng=0)
    solver = rs.PredictorCorrector(None, rs.MALA(snr))
    out = rs.sample(process_of(target, VE), solver, x=start, times=rs.Grid([t, s]), rng=1).x
    moved = float(np.mean(out != start))
    # binomial: beyond Z in 5.7e-7 of fresh seeds
    assert abs(moved - share) < Z * math.sqrt(share * (1 - share) / n)


@dataclass(frozen=True)
class Untested:
    """The same proposals, all accepted."""

    mala: rs.MALA
    accepts = rs.MALA.accepts
    preconditions = True

    def __call__(self, process: Any, state: Any, s: Any, noise: Any) -> Any:
        plain = rs.AnnealedLangevin(self.mala.snr, self.mala.steps)
        return plain(process, state, s, noise)


def worst_moment(process: Any, corrector: Any, target: Any, t: float, n: int, seed: int) -> float:
    """Largest z-score of the first and second moments and of a share, after a run from the law."""
    law = target.at(process.sde, t)
    solver = rs.PredictorCorrector(None, corrector)
    x = rs.sample(
        process, solver, x=law.sample(n, rng=seed), times=rs.Grid([t, 0.98 * t]), rng=seed + 1
    ).x
    gap = x - law.mean
    i, j = np.triu_indices(2)
    right = law.responsibilities(x)[:, :1] - law.weights[0]
    terms = np.hstack([gap, gap[:, i] * gap[:, j] - law.cov[i, j], right])
    return float(np.max(np.abs(terms.mean(0)) / terms.std(0) * math.sqrt(n)))


@pytest.mark.parametrize("M", [None, M2, "matched"], ids=["plain", "dense", "matched"])
@pytest.mark.parametrize("sde", [VP, VE], ids=["VP", "VE"])
def test_the_law_is_kept_for_large_steps(sde: Any, M: Any, seed: int) -> None:
    # 6 moments of 1e5 samples: each beyond Z with probability 5.7e-7, a false alarm in 2e-5 of
    # fresh seeds over the six cases.  Without the test all moments move.
    t = 0.15 if sde is VP else 0.5
    M = pc.langevin_matched(RIDGES, sde, t) if M == "matched" else M
    mala = rs.MALA(0.5 if sde is VP else 0.8, steps=6)
    process = process_of(RIDGES, sde, M)
    assert worst_moment(process, mala, RIDGES, t, 100_000, seed) < Z
    assert worst_moment(process, Untested(mala), RIDGES, t, 100_000, seed) > Z


def test_a_test_that_forgets_the_map_is_told(seed: int) -> None:
    class Forgetful(rs.Preconditioned):
        """M M^T = 1 in drift and test, but not in the noise."""

        def gram(self, v: Any) -> Any:
            return v

    mutant = Forgetful(VP, RIDGES.score(VP), M2)
    assert worst_moment(mutant, rs.MALA(0.5, steps=6), RIDGES, 0.15, 100_000, seed) > Z


def test_small_steps_are_nearly_always_accepted_and_are_langevin() -> None:
    """Refusals vanish as e^1.5: with few of them the two chains have the same states."""
    t, n = 0.5, 20_000
    x = RIDGES.at(VP, t).sample(n, rng=0)
    refused = []
    for snr in (0.2, 0.1):
        solvers = [rs.PredictorCorrector(None, c(snr)) for c in (rs.MALA, rs.AnnealedLangevin)]
        outs = [
            rs.sample(process_of(RIDGES, VP), solver, x=x, times=rs.Grid([t, 0.49]), rng=1).x
            for solver in solvers
        ]
        stayed = np.all(outs[0] == x, axis=1)
        np.testing.assert_array_equal(outs[0][~stayed], outs[1][~stayed])
        refused.append(float(np.mean(stayed)))
    # 20000 samples of a probability near 0.01 and 0.0015: slopes to within 0.5
    assert refused[0] < 0.05
    assert math.log2(refused[0] / max(refused[1], 1e-9)) == pytest.approx(3, abs=0.7)


@pytest.mark.parametrize("steps", [1, 3])
def test_each_proposal_costs_one_evaluation_and_the_first_one_more(steps: int) -> None:
    score = CountingScore(RIDGES.score(VP))
    solver = rs.PredictorCorrector(None, rs.MALA(0.2, steps))
    sol = rs.sample(rs.ReverseSDE(VP, score), solver, 5, times=4, rng=0)
    assert sol.nfe.tolist() == [4 * (steps + 1)] * 5 and score.batches == [5] * (4 * (steps + 1))


def test_it_moves_samples_one_by_one() -> None:
    x = RIDGES.at(VP, 0.3).sample(300, rng=0)
    solver, grid = rs.PredictorCorrector(None, rs.MALA(0.8, 2)), rs.Grid([0.3, 0.29])
    many = rs.sample(process_of(RIDGES, VP, M2), solver, x=x, times=grid, rng=5)
    for n in (1, 7):
        few = rs.sample(process_of(RIDGES, VP, M2), solver, x=x[:n], times=grid, rng=5)
        np.testing.assert_array_equal(few.x, many.x[:n])
    assert 0 < np.mean(np.all(many.x == x, axis=1)) < 1


def test_single_precision_stays_single() -> None:
    solver = rs.PredictorCorrector(rs.Heun(), rs.MALA(0.2))
    sol = rs.sample(process_of(RIDGES, VP, M2), solver, 5, times=4, rng=0, dtype=np.float32)
    assert sol.x.dtype == np.float32


class Box:
    """The uniform law on a square: outside of it the score is nan."""

    def __init__(self, outside: float) -> None:
        self.outside = outside

    def __call__(self, x: Any, t: Any) -> Any:
        return self.evaluate(x, t, "score")["score"]

    def evaluate(self, x: Any, t: Any, *want: str) -> Any:
        inside = np.all(np.abs(x) < 1, axis=1)
        score = np.where(inside[:, None], 0.0, np.nan)
        return {"score": score, "logpdf": np.where(inside, 0.0, self.outside)}


def in_the_box(outside: float, steps: int) -> tuple[np.ndarray, rs.Solution]:
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    process: Any = rs.ReverseSDE(VE, Box(outside))
    solver = rs.PredictorCorrector(None, rs.MALA(0.5, steps=steps))
    return x, rs.sample(process, solver, x=x, times=rs.Grid([0.6, 0.59]), rng=0)


def test_what_has_no_density_there_is_refused() -> None:
    x, sol = in_the_box(-math.inf, 20)
    assert sol.success.all() and np.abs(sol.x).max() < 1 and np.mean(sol.x != x) > 0.9


@pytest.mark.parametrize("steps", [1, 3])
def test_a_score_that_is_nan_ends_the_sample(steps: int) -> None:
    """Also if it is found at the last proposal: it is neither refused in silence nor kept."""
    x, sol = in_the_box(math.nan, steps)
    never_out = in_the_box(-math.inf, steps)[1].x
    assert 0.02 < np.mean(sol.success) < 0.98
    assert np.array_equal(sol.x[sol.success], never_out[sol.success])
    assert np.array_equal(sol.x[~sol.success], x[~sol.success])


def test_bad_input_is_named_with_its_remedy() -> None:
    for options, words in [
        ({"snr": 0.0}, "`snr` of MALA must be positive and finite, got 0.0"),
        ({"snr": math.inf}, "`snr` of MALA must be positive"),
        ({"steps": 0}, "`steps` of MALA must be a positive int, got 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            rs.MALA(**options)  # type: ignore[arg-type]
    corrector = rs.PredictorCorrector(None, rs.MALA())
    network = rs.ReverseSDE(VP, lambda x, t: -x)
    with pytest.raises(TypeError, match="`score` has no log-density.*or AnnealedLangevin"):
        rs.sample(network, corrector, 2, times=2, rng=0, shape=(2,))
    turned = process_of(RIDGES, VP, M2, skew=pc.Skew([[0.0, 1.0], [-1.0, 0.0]]))
    with pytest.raises(ValueError, match="`skew` makes a chain that is not reversible.*Annealed"):
        rs.sample(turned, corrector, 2, times=2, rng=0)
    with pytest.raises(TypeError, match="`solver` MALA.* is wrong for ForwardSDE"):
        rs.sample(rs.ForwardSDE(VP), rs.MALA(), x=np.ones((2, 2)), times=2)
