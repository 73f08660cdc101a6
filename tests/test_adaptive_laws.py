"""What adaptive steps make of known laws, and what they cost: the claims about Gotta Go Fast.

Variances and mode weights are compared with exact ones, errors of Euler-Maruyama come from
`refsde.exact`, without noise.  Variances pass within 3 standard errors, most of them and 1 %, as
the issue asks: 45 at a two-sided rate of 0.3 % at most, so that a right solver fails this file for
one seed in 8; the seed is fixed.  Mode weights pass at 1e-4.  Evaluations are compared with the
paper's numbers, and with those that were measured when this package was specified.  The published
noise, or Euler-Maruyama at the same price, is the mutant of every bound.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from _solvers import RING, VP
from scipy.stats import chisquare

import refsde as rs

VE = rs.VE()
STD = 0.25
PAPER = {  # mean evaluations on CIFAR-10, by tolerance
    "VP": {0.01: 329, 0.02: 274, 0.05: 179, 0.10: 147},
    "VE": {0.01: 738, 0.02: 490, 0.05: 271, 0.10: 170},
}
SDES: dict[str, Any] = {"VP": VP, "VE": VE}
ATOL = {"VP": 0.0078, "VE": 0.0039}


class Outcome(NamedTuple):
    """Variance over the exact one, its standard error, mean evaluations, share of rejections."""

    ratio: float
    se: float
    nfe: float
    rejected: float

    @property
    def right(self) -> bool:
        """Within 3 standard errors and 1 %."""
        return abs(self.ratio - 1) < 3 * self.se + 0.01


def gaussian(d: int, std: float = STD, sde: Any = VP) -> Any:
    target = rs.GaussianMixture([1.0], np.zeros((1, d)), [std**2])
    return rs.ReverseSDE(sde, target.score(sde))


def outcome(
    solver: Any, d: int, n: int, seed: int, std: float = STD, sde: Any = VP, **options: Any
) -> Outcome:
    """Of n samples of N(0, std^2) in d dimensions; noise of the solver's own choice."""
    sol = rs.sample(gaussian(d, std, sde), solver, n, rng=seed, **options)
    assert sol.success.all()
    exact = (sde.alpha(sde.t_end) * std) ** 2 + sde.sigma(sde.t_end) ** 2
    attempts = sol.n_accepted.sum() + sol.n_rejected.sum()
    return Outcome(
        float(np.mean(sol.x**2) / exact),
        math.sqrt(2 / (n * d)),
        float(sol.nfe.mean()),
        float(sol.n_rejected.sum() / attempts),
    )


@cache
def euler_maruyama(steps: int, std: float = STD, sde: str = "VP") -> float:
    """Relative error of the variance, without noise: the same in every dimension."""
    process = gaussian(1, std, SDES[sde])
    return rs.exact.weak_error(process, rs.EulerMaruyama(), steps, start="prior").variance


def steps_for(error: float, std: float, sde: str = "VP") -> int:
    """Steps that Euler-Maruyama needs for this error of the variance."""
    low, high = 10, 20
    while euler_maruyama(high, std, sde) > error:
        low, high = high, 2 * high
    while high - low > 1 + low // 200:
        middle = (low + high) // 2
        low, high = (middle, high) if euler_maruyama(middle, std, sde) > error else (low, middle)
    return high


# -- the bias of a rejection ----------------------------------------------------------------------

SIZES = {1: 20_000, 2: 10_000, 4: 5000, 32: 700}  # samples by dimension: errors of about 1 %


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("rtol", [0.05, 0.02])
def test_safe_steps_are_unbiased(d: int, rtol: float, seed: int) -> None:
    """Though a fifth and more of the attempts is rejected."""
    got = outcome(rs.GGF.safe(rtol), d, SIZES[d], seed)
    assert got.right and got.rejected > 0.2


@pytest.mark.parametrize("d", [1, 4])
def test_a_tree_is_as_good_as_a_memory(d: int, seed: int) -> None:
    """Two sources, one law; and about the same price."""
    n = 6000 // d
    tree = outcome(rs.GGF.safe(0.05), d, n, seed, noise=rs.BrownianTree(seed))
    kept = outcome(rs.GGF.safe(0.05), d, n, seed)
    assert tree.right and tree.nfe == pytest.approx(kept.nfe, rel=0.01)


def test_fresh_noise_is_biased_in_few_dimensions(seed: int) -> None:
    """Claim G11, and the mutant of the tests above: the published settings, by the dimension."""
    fresh = {
        d: outcome(rs.GGF(0.02), d, SIZES[d], seed, noise=rs.Gaussian(seed)) for d in (1, 4, 32)
    }
    assert fresh[1].ratio > 1.8 and 1.15 < fresh[4].ratio < 1.35
    assert not any(fresh[d].right for d in (1, 4))
    assert fresh[1].ratio > fresh[4].ratio > fresh[32].ratio > 1
    many = outcome(rs.GGF(0.05), 256, 100, seed, noise=rs.Gaussian(seed))
    assert many.right, "invisible in many dimensions, where nearly nothing is rejected by chance"
    # Neither remedy alone does it: a cap with fresh noise is no better.
    capped = outcome(rs.GGF.safe(0.02), 1, 4000, seed, noise=rs.Gaussian(seed))
    assert capped.ratio > 1.8


TOLERANCES = [(0.2, 0.031), (0.05, 0.0078), (0.0125, 0.00195), (0.003, 0.0005)]


def biases(solver: Any, tolerances: Any, n: int, seed: int, fresh: bool = False) -> list[Outcome]:
    options = {"noise": rs.Gaussian(seed)} if fresh else {}
    return [
        outcome(replace(solver, rtol=rtol, atol=atol), 1, n, seed, **options)
        for rtol, atol in tolerances
    ]


def check_biases(tolerances: Any, n: int, seed: int) -> None:
    """Forgetting is O(1) in the tolerance; growth without limit vanishes; with a cap all does."""
    fresh = biases(rs.GGF(), tolerances, n // 4, seed, fresh=True)
    grown, safe = biases(rs.GGF(), tolerances, n, seed), biases(rs.GGF.safe(), tolerances, n, seed)
    assert all(got.ratio > 1.8 for got in fresh)
    assert fresh[-1].ratio > fresh[1].ratio - 3 * fresh[1].se, "it does not fall with the tolerance"
    assert 1.15 < grown[0].ratio < 1.4 and not grown[0].right
    assert abs(grown[-1].ratio - 1) < (grown[0].ratio - 1) / 3
    assert all(got.right for got in safe[1:])
    assert abs(safe[-1].ratio - 1) < 3 * safe[-1].se


def test_the_bias_vanishes_with_the_tolerance_only_if_noise_is_kept(seed: int) -> None:
    check_biases(TOLERANCES[:3], 4000, seed)


@pytest.mark.slow
def test_the_bias_vanishes_with_the_tolerance_in_detail(seed: int) -> None:
    check_biases(TOLERANCES, 40_000, seed)
    grown = biases(rs.GGF(), TOLERANCES, 40_000, seed)
    assert grown[3].ratio < 1.05 and all(
        coarse.ratio > fine.ratio - 3 * fine.se
        for coarse, fine in zip(grown[:-1], grown[1:], strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "rtol", "fresh", "rejected"),
    [(1, 0.02, 2.06, 0.44), (1, 0.10, 2.33, 0.44), (4, 0.02, 1.243, 0.42), (32, 0.02, 1.049, 0.31),
     (256, 0.05, 0.997, 0.075), (3072, 0.05, 1.012, 0.007)],
)  # fmt: skip
def test_the_table_of_rejection_biases(
    d: int, rtol: float, fresh: float, rejected: float, seed: int
) -> None:
    """Spec 02, 6.3: fresh noise as measured there, to 3 standard errors of both and 2 %."""
    n = max(400_000 // d, 100)
    got = outcome(rs.GGF(rtol), d, n, seed, noise=rs.Gaussian(seed))
    there = {1: 0.05, 4: 0.02, 32: 0.015, 256: 0.008, 3072: 0.007}[d]
    assert got.ratio == pytest.approx(fresh, abs=3 * math.hypot(got.se, there) + 0.02 * fresh)
    assert got.rejected == pytest.approx(rejected, abs=0.02)
    kept = outcome(rs.GGF(rtol), d, n, seed)
    assert abs(kept.ratio - 1) < abs(got.ratio - 1) + 3 * kept.se
    assert kept.ratio < (1.2 if d == 1 else 1.02)


# -- the ring -------------------------------------------------------------------------------------


def on_the_ring(solver: Any, seed: int, **options: Any) -> tuple[Outcome, float]:
    """Variance within the modes, over the exact one; and p of the mode weights being equal."""
    n = 8000
    sol = rs.sample(rs.ReverseSDE(VP, RING.score(VP)), solver, n, rng=seed, **options)
    away = sol.x[:, None] - VP.alpha(VP.t_end) * RING.means
    mode = np.argmin(np.sum(away**2, axis=2), axis=1)
    within = away[np.arange(n), mode]
    exact = (VP.alpha(VP.t_end) * 0.2) ** 2 + VP.sigma(VP.t_end) ** 2
    ratio = float(np.mean(within**2) / exact)
    weights = np.bincount(mode, minlength=8)
    got = Outcome(ratio, math.sqrt(1 / n), float(sol.nfe.mean()), 0.0)
    return got, float(chisquare(weights).pvalue)


@pytest.mark.parametrize("rtol", [0.05, 0.02])
def test_safe_steps_are_unbiased_on_the_ring(rtol: float, seed: int) -> None:
    got, p = on_the_ring(rs.GGF.safe(rtol), seed)
    assert got.right and p > 1e-4


def test_fresh_noise_prefers_modes_of_the_ring(seed: int) -> None:
    """Mutant: it is wider by a fifth, and every other mode gets half as much again."""
    got, p = on_the_ring(rs.GGF(0.02), seed, noise=rs.Gaussian(seed))
    assert not got.right and p < 1e-20


# -- what it costs in many dimensions -------------------------------------------------------------

MEASURED = {  # spec 02, 6.2: mean evaluations at d = 3072, std 0.05, and the ratio of variances
    "VP": {0.01: (309, 0.993), 0.02: (256, 1.005), 0.05: (160, 1.007), 0.10: (125, 0.995)},
    "VE": {0.01: (728, 1.001), 0.02: (482, 1.003), 0.05: (266, 1.005), 0.10: (164, 1.011)},
}


@cache
def images(sde: str, rtol: float, seed: int, std: float = 0.05) -> Outcome:
    """A batch of 12 events of 3072 numbers, with the paper's settings and fresh noise."""
    solver = rs.GGF(rtol, ATOL[sde])
    return outcome(solver, 3072, 12, seed, std, SDES[sde], noise=rs.Gaussian(seed))


@pytest.mark.parametrize("rtol", [0.05, 0.10, 0.02, 0.01])
@pytest.mark.parametrize("sde", ["VP", "VE"])
def test_evaluations_are_the_papers(sde: str, rtol: float, seed: int) -> None:
    """Claims G1 and G3: an isotropic Gaussian costs what CIFAR-10 does, within 15 % (20 % at .10).

    And 2 % of what was measured before, with the variance within 3 standard errors of both.
    """
    got = images(sde, rtol, seed)
    assert got.nfe == pytest.approx(PAPER[sde][rtol], rel=0.15 if rtol < 0.1 else 0.20)
    nfe, ratio = MEASURED[sde][rtol]
    assert got.nfe == pytest.approx(nfe, rel=0.02)
    assert got.ratio == pytest.approx(ratio, abs=3 * math.hypot(got.se, 0.007))
    assert rtol > 0.05 or got.rejected <= 0.02
    assert sde == "VE" or rtol < 0.1 or 0.1 < got.rejected < 0.25


def test_the_schedule_and_not_the_data_sets_the_price(seed: int) -> None:
    """Data five times as wide cost 15 % less; half the tolerance costs half as much again."""
    for sde in ("VP", "VE"):
        narrow, wide = (images(sde, 0.05, seed, std) for std in (0.05, 0.25))
        assert 0.8 * narrow.nfe < wide.nfe < narrow.nfe
        assert images(sde, 0.02, seed).nfe > 1.5 * narrow.nfe


def test_in_few_dimensions_much_is_rejected(seed: int) -> None:
    """Claim G3 the other way round: 25 to 45 % below d = 32."""
    for d, n in ((1, 2000), (4, 1000), (32, 300)):
        got = outcome(rs.GGF(0.02), d, n, seed, noise=rs.Gaussian(seed))
        assert 0.25 < got.rejected < 0.47


def test_loose_tolerances_lose_variance(seed: int) -> None:
    """Claim G7: at .5 a tenth of it under VP, a few per cent under VE; no collapse at .1."""
    assert 0.87 < images("VP", 0.5, seed).ratio < 0.94
    assert 0.93 < images("VE", 0.5, seed).ratio < 0.99
    assert images("VE", 0.1, seed).right


@pytest.mark.parametrize("rtol", [0.01, 0.02, 0.05, 0.10])
def test_half_the_price_of_euler_maruyama_at_the_same_error(rtol: float, seed: int) -> None:
    """Claim G2 on VP: to leave this error and 3 standard errors takes it 3 times the price."""
    got = outcome(rs.GGF(rtol), 3072, 24, seed, 0.05, noise=rs.Gaussian(seed))
    bound = abs(got.ratio - 1) + 3 * got.se
    assert euler_maruyama(int(2 * got.nfe), 0.05) > bound
    assert steps_for(bound, 0.05) > 3 * got.nfe


def test_where_it_loses(seed: int) -> None:
    """In few dimensions, as published, Euler-Maruyama is much better at the same price."""
    for d in (1, 2):
        got = outcome(rs.GGF(0.05), d, SIZES[d], seed, noise=rs.Gaussian(seed))
        assert got.ratio - 1 > 10 * euler_maruyama(int(got.nfe))


def test_exact_errors_of_euler_maruyama_are_those_of_the_spec() -> None:
    """Spec 02, 6.1 and 6.2, from the exact p_T: the yardstick of the tests above."""
    for std, steps, error in ((0.25, 100, 2.257e-2), (0.25, 800, 2.275e-3), (0.05, 1000, 0.025)):
        assert euler_maruyama(steps, std) == pytest.approx(error, rel=0.02)
    for steps, error in ((287, 0.104), (180, 0.197), (138, 0.299), (50, 3.14)):
        assert euler_maruyama(steps, 0.05) == pytest.approx(error, rel=0.02)


# -- options of the published solver --------------------------------------------------------------

ABLATIONS: dict[str, tuple[Any, float, float, float]] = {  # ratio, evaluations, % rejected
    "default": (rs.GGF(0.01), 0.9985, 307, 7.3),
    "r = 0.5": (rs.GGF(0.01, control=rs.Adaptive(exponent=0.5)), 0.9997, 305, 1.3),
    "r = 0.8": (rs.GGF(0.01, control=rs.Adaptive(exponent=0.8)), 0.9998, 298, 3.9),
    "r = 1": (rs.GGF(0.01, control=rs.Adaptive(exponent=1.0)), 1.0036, 325, 12.7),
    "Linf": (rs.GGF(0.01, norm="linf"), 1.012, 918, 29.6),
    "no x'_prev": (rs.GGF(0.01, use_prev=False), 1.007, 320, 8.2),
    "no extrapolation": (rs.GGF(0.01, extrapolate=False), 1.021, 306, 7.4),
    "Lamba, extrapolated": (rs.Lamba(0.01, extrapolate=True), 1.336, 105, 0.0),
    "Lamba": (rs.Lamba(0.01), 1.057, 104, 0.1),
    "Lamba, Linf, 0.8": (
        rs.Lamba(0.01, norm="linf", control=rs.Adaptive(exponent=0.5, safety=0.8)),
        1.038,
        143,
        0.0,
    ),
}


@cache
def ablation(name: str, seed: int) -> Outcome:
    return outcome(ABLATIONS[name][0], 256, 100, seed, noise=rs.Gaussian(seed))


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_as_measured(name: str, seed: int) -> None:
    """Spec 02, 5.4: evaluations within 2 %, rejections within a point, variance within 3 errors."""
    _, ratio, nfe, rejected = ABLATIONS[name]
    got = ablation(name, seed)
    assert got.nfe == pytest.approx(nfe, rel=0.02)
    assert 100 * got.rejected == pytest.approx(rejected, abs=1.0)
    assert got.ratio == pytest.approx(ratio, abs=3 * math.hypot(got.se, 0.009) * ratio)


def test_what_the_ablations_say(seed: int) -> None:
    """Claims G4, G5, G6 and G9."""
    default = ablation("default", seed)
    low = ablation("no extrapolation", seed)
    assert low.nfe == pytest.approx(default.nfe, rel=0.02), "extrapolation costs nothing ..."
    assert low.ratio - default.ratio > 0.01, "... and removes the bias: the same paths, nearly"
    assert 2.5 < ablation("Linf", seed).nfe / default.nfe < 3.5
    by_exponent = [ablation(name, seed) for name in ("r = 0.5", "r = 0.8", "default", "r = 1")]
    assert all(got.nfe == pytest.approx(default.nfe, rel=0.10) for got in by_exponent)
    assert np.all(np.diff([got.rejected for got in by_exponent]) > 0)
    for name in ("Lamba", "Lamba, extrapolated", "Lamba, Linf, 0.8"):
        got = ablation(name, seed)
        assert got.nfe < default.nfe / 2 and got.ratio - 1 > 3 * got.se


def test_the_largest_error_costs_more_the_more_there_are(seed: int) -> None:
    """Claim G5: Linf against RMS, by the dimension."""
    cost = [
        outcome(rs.GGF(0.05, norm="linf"), d, 12, seed, noise=rs.Gaussian(seed)).nfe
        / outcome(rs.GGF(0.05), d, 12, seed, noise=rs.Gaussian(seed)).nfe
        for d in (8, 64, 512)
    ]
    assert 1.2 < cost[0] < cost[1] < cost[2]


# -- methods of high order ------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [rs.SRA3, rs.SOSRA])
@pytest.mark.parametrize("rtol", [0.05, 0.02])
def test_high_order_is_slow_because_of_its_estimator(solver: Any, rtol: float, seed: int) -> None:
    """Claim G8: a sum of drifts with growth of 9/8 costs 4 times a difference, and more."""
    n = 40 if rtol > 0.02 else 20
    slow = rs.Adaptive.filter("PI", order=1.5, cap=9 / 8)
    summed = outcome(solver(rtol, estimator="sum"), 32, n, seed, times=slow)
    for name, cap in (("PI", 10.0), ("SDE", 1.25)):
        control = rs.Adaptive.filter(name, order=1.5, cap=cap)
        difference = outcome(solver(rtol), 32, n, seed, times=control)
        assert summed.nfe > 4 * difference.nfe
        assert abs(difference.ratio - 1) < 4 * difference.se + 0.01, "and it is as good"
        # Of the difference's price GGF is within a factor 2: competitive.
        ggf = outcome(rs.GGF.safe(rtol), 32, n, seed)
        assert 0.5 < difference.nfe / ggf.nfe < 2.1


@pytest.mark.parametrize("solver", [rs.SRA1, rs.SRA3, rs.SOSRA, rs.ShARK])
def test_high_order_steps_are_unbiased(solver: Any, seed: int) -> None:
    """Areas are split and joined at every rejection: the law stays right."""
    control = rs.Adaptive.filter("PI", order=1.5, cap=1.5)
    got = outcome(solver(0.05), 1, 20_000, seed, times=control)
    assert got.right and got.rejected > 0.05
    fresh = outcome(solver(0.05), 1, 4000, seed, times=control, noise=rs.Gaussian(seed))
    assert not fresh.right, "mutant"


# -- better than published ------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "n"), [(1, 200_000), (2, 100_000), (4, 50_000), (32, 6_000)])
def test_tuned_steps_beat_euler_maruyama(d: int, n: int, seed: int) -> None:
    """At most half the evaluations at an error no larger, within 3 standard errors of 0.3 %."""
    got = outcome(rs.GGF.tuned(), d, n, seed)
    assert got.se < 0.0033
    assert abs(got.ratio - 1) < euler_maruyama(int(2 * got.nfe)) + 3 * got.se
    # Mutants: Euler-Maruyama at the same price, and the same steps with fresh noise.
    assert euler_maruyama(int(got.nfe)) > euler_maruyama(int(2 * got.nfe)) + 3 * got.se
    assert got.nfe < outcome(rs.GGF.safe(0.05), d, 500, seed).nfe / 1.9


def test_tuned_steps_need_the_memory(seed: int) -> None:
    """Mutant: of what they reject in one dimension, fresh noise forgets too much."""
    kept = outcome(rs.GGF.tuned(0.02), 1, 40_000, seed)
    fresh = outcome(rs.GGF.tuned(0.02), 1, 40_000, seed, noise=rs.Gaussian(seed))
    assert kept.right and not fresh.right


def test_tuned_steps_are_unbiased_on_the_ring(seed: int) -> None:
    """At 50 evaluations: the variance within 4 %, where Euler-Maruyama misses it by 5 at 70."""
    got, p = on_the_ring(rs.GGF.tuned(), seed)
    assert got.nfe < 60 and abs(got.ratio - 1) < 3 * got.se + 0.01 and p > 1e-4
    same_price, _ = on_the_ring(rs.EulerMaruyama(), seed, times=int(got.nfe))
    assert not same_price.right
