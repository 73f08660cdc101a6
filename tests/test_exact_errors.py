"""exact.weak_error and strong_error: against recursions, quadrature, closed forms and samples.

Only the comparison with a stored path is a Monte Carlo statement.  The oracle of the strong error
is in `_strong`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from _probing import CASES, MUTANTS, problem, read_problem
from _recursions import (
    Matrix,
    ancestral,
    chain,
    ddim,
    euler,
    heun,
    reverse_diffusion,
)
from _recursions import law as recursion
from _strong import Weight, oracle, shark, starts, stepwise
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde.exact import WeakError, strong_error, weak_error

EXACT = 1e-12
EM, HEUN = rs.EulerMaruyama(), rs.Heun()
SDE, GAUSSIAN = rs.VP(), rs.GaussianMixture([1.0], [[0.7]], [0.25])


def reverse(target: Any = GAUSSIAN, sde: Any = SDE) -> rs.ReverseSDE:
    return rs.ReverseSDE(sde, target.score(sde))


# Solvers beside the recursions of their steps.
STEPS: dict[str, tuple[Any, Any]] = {
    "EM": (EM, euler),
    "Heun": (HEUN, heun),
    **{f"DDIM({eta:g})": (rs.DDIM(eta), partial(ddim, eta=eta)) for eta in (0.0, 0.5, 1.0)},
}
CHAINS: dict[str, Any] = {
    "ReverseDiffusion": (rs.ReverseDiffusion(), reverse_diffusion),
    "Ancestral": (rs.Ancestral("posterior"), partial(ancestral, variance="posterior")),
}


# -- the weak error --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("d", "start"), [(1, "marginal"), (5, "marginal"), (5, "prior"), (1, "pair"), (5, "pair")]
)
@pytest.mark.parametrize("method", [*STEPS, *CHAINS])
@pytest.mark.parametrize("name", CASES)
def test_the_weak_error_is_the_recursion_less_the_moments(
    name: str, method: str, d: int, start: str
) -> None:
    p = problem(name, d)
    solver, step = (STEPS | CHAINS)[method]
    if method in CHAINS:
        step = partial(step, family=CASES[name].family)
    given_as, moments = starts(p)[start]
    got = weak_error(p.reverse, solver, p.grid, start=given_as)
    mean, cov = recursion(chain(step, p.gauss, p.grid.ts), *moments)
    M, V = p.gauss.moments(p.grid.ts[-1])
    spread = max(np.trace(V), np.trace(cov))
    assert np.abs(got.mean - (mean - M)).max() < EXACT * max(math.sqrt(spread), np.abs(M).max())
    assert np.abs(got.cov - (cov - V)).max() < EXACT * spread
    assert abs(got.variance - (np.trace(cov) / np.trace(V) - 1)) < EXACT * spread / np.trace(V)
    np.testing.assert_allclose(got.exact_mean, M, rtol=EXACT, atol=1e-15)
    np.testing.assert_allclose(got.exact_cov, V, rtol=EXACT, atol=1e-15)


LEVELS = (25, 50, 100, 200, 400, 800, 1600)
VARIANCE_ERRORS = {  # relative, on N(0, s0^2), VP(0.1, 20), uniform grid to 1e-3, exact p_1
    ("EM", 0.25): "1.785e-01 5.668e-02 2.257e-02 1.000e-02 4.699e-03 2.275e-03 1.119e-03",
    ("EM", 1.0): "5.899e-02 2.867e-02 1.415e-02 7.027e-03 3.503e-03 1.749e-03 8.736e-04",
    ("Euler's flow", 0.25): (
        "-1.478e-01 -7.965e-02 -4.143e-02 -2.115e-02 -1.068e-02 -5.371e-03 -2.692e-03"
    ),
    ("DDIM's flow", 0.25): (
        "-3.378e-01 -1.849e-01 -9.711e-02 -4.986e-02 -2.527e-02 -1.273e-02 -6.385e-03"
    ),
    ("Heun", 0.25): "- -4.915e-03 -1.029e-03 -2.264e-04 -5.226e-05 -1.249e-05 -3.046e-06",
    ("Heun", 1.0): "- -1.806e-03 -4.552e-04 -1.141e-04 -2.853e-05 -7.132e-06 -1.783e-06",
}


@pytest.mark.parametrize(("method", "s0"), VARIANCE_ERRORS)
def test_the_printed_variance_errors(method: str, s0: float) -> None:
    score = rs.GaussianMixture([1.0], [[0.0]], [s0**2]).score(SDE)
    process = (rs.ProbabilityFlow if "flow" in method else rs.ReverseSDE)(SDE, score)
    solver: Any = {"H": HEUN, "D": rs.DDIM(), "E": EM}[method[0]]
    printed = VARIANCE_ERRORS[method, s0].split()
    for n, figure in zip(LEVELS, printed, strict=True):
        if figure != "-":
            assert f"{weak_error(process, solver, n).variance:.3e}" == figure, n


@st.composite
def weak_errors(draw: st.DrawFn) -> WeakError:
    """A law near an exact one, in up to four dimensions, with covariances of all shapes."""
    d, seed = draw(st.integers(1, 4)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((d, d)) + 2 * np.eye(d)
    gap = rng.standard_normal((d, d))
    units = 10.0 ** draw(st.integers(-6, 6))
    return WeakError(
        units * rng.standard_normal(d),
        units**2 * (gap + gap.T),
        units * rng.standard_normal(d),
        units**2 * (root @ root.T + 0.01 * np.eye(d)),
    )


@given(weak_errors())
def test_size_is_the_root_of_twice_the_divergence(error: WeakError) -> None:
    M, V = error.exact_mean, error.exact_cov
    for small in (1e-2, 1e-3, 1e-4):
        h = small / error.size  # so that the size is `small`
        near = replace(error, mean=h * error.mean, cov=h * error.cov)
        assert near.size == pytest.approx(small, rel=1e-12)
        kl = rs.measure.gaussian_kl((M + near.mean, V + near.cov), (M, V))
        # The next term of the expansion: a third of the cubes of eigenvalues, here at most
        # (sqrt(2) size)^3.  Below, what rounding leaves of 1 + eigenvalue.
        assert abs(math.sqrt(2 * kl) / small - 1) < 2 * small + 1e-14 / small**2


@given(weak_errors(), st.integers(0, 2**32 - 1), st.floats(-3, 3))
def test_size_knows_no_axes_and_no_units(error: WeakError, seed: int, decades: float) -> None:
    d, units = len(error.mean), 10.0**decades
    B = units * np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    turned = WeakError(
        B @ error.mean, B @ error.cov @ B.T, B @ error.exact_mean + 1, B @ error.exact_cov @ B.T
    )
    assert turned.size == pytest.approx(error.size, rel=1e-9)
    assert turned.variance == pytest.approx(error.variance, rel=1e-9, abs=1e-12 * error.size)
    assert turned.whitened.shape == (d + d * (d + 1) // 2,)


def test_size_counts_a_mean_in_deviations_and_a_variance_as_a_share() -> None:
    only_mean = WeakError(np.array([0.3]), np.zeros((1, 1)), np.zeros(1), np.array([[4.0]]))
    only_variance = WeakError(np.zeros(1), np.array([[-0.4]]), np.zeros(1), np.array([[4.0]]))
    assert float(only_mean) == pytest.approx(0.15) and only_mean.variance == 0
    assert only_variance.size == pytest.approx(0.1 / math.sqrt(2))
    assert only_variance.variance == pytest.approx(-0.1)
    np.testing.assert_allclose(only_variance.whitened, [0.0, -0.1 / math.sqrt(2)])
    assert repr(only_mean) == "WeakError(mean 0.3, relative variance 0)"
    both = WeakError(np.array([3.0, 4.0]), np.eye(2), np.zeros(2), 4 * np.eye(2))
    assert repr(both) == "WeakError(mean 5, relative variance 0.25)"
    # each off-diagonal entry stands for two
    skew = replace(both, mean=np.zeros(2), cov=np.array([[0.0, 0.4], [0.4, 0.0]]))
    assert skew.size == pytest.approx(0.1) and skew.variance == 0


def rotation(seed: int, d: int = 3) -> Matrix:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


@pytest.mark.parametrize("measure", [lambda *a: weak_error(*a).size, strong_error])
def test_samplers_err_alike_on_data_turned_moved_and_rescaled(measure: Any) -> None:
    Q, C = rotation(1), rotation(2) @ np.diag([0.1, 0.5, 2.0]) @ rotation(2).T
    m, c, b = np.array([0.7, -0.4, 1.2]), 3.0, np.array([5.0, -2.0, 0.5])

    def error(m: Matrix, C: Matrix, sde: Any) -> Any:
        return measure(reverse(rs.GaussianMixture([1.0], [m], [C]), sde), HEUN, 20)

    want = error(m, C, rs.VE(0.01, 50.0))
    assert error(Q @ m, Q @ C @ Q.T, rs.VE(0.01, 50.0)) == pytest.approx(want, rel=1e-10)
    # VE has no origin, and in other units it is VE again; distances of paths are in those units.
    unit = c if measure is strong_error else 1.0
    moved = error(c * m + b, c * c * C, rs.VE(0.01 * c, 50.0 * c))
    assert moved == pytest.approx(unit * want, rel=1e-10)


# -- the strong error, by quadrature ---------------------------------------------------------------


@pytest.mark.parametrize(("d", "start"), [(1, "marginal"), (5, "marginal"), (5, "pair")])
@pytest.mark.parametrize("method", ["EM", "Heun", "DDIM(1)"])
@pytest.mark.parametrize("name", CASES)
def test_the_strong_error_is_the_integral(name: str, method: str, d: int, start: str) -> None:
    p, (solver, step) = problem(name, d), STEPS[method]
    given_as, moments = starts(p)[start]
    want = stepwise(p.gauss, p.grid.ts, chain(step, p.gauss, p.grid.ts), moments)
    got = strong_error(p.reverse, solver, p.grid, start=given_as)
    assert got == pytest.approx(want, rel=1e-10)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_has_another_strong_error(mutant: str) -> None:
    p = problem("VP", 5)
    want = stepwise(p.gauss, p.grid.ts, chain(euler, p.gauss, p.grid.ts), p.gauss.moments(1.0))
    got = strong_error(p.reverse, MUTANTS[mutant](EM), p.grid)
    assert got != pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("d", [1, 5])
@pytest.mark.parametrize("name", ["VP", "SubVP", "VE", "EDM", "Cosine"])
def test_levy_areas_explain_a_tilt(name: str, d: int) -> None:
    p = problem(name, d)
    got = read_problem(p, p.reverse, shark)
    steps = zip(p.grid.ts[:-1], p.grid.ts[1:], got.gains[::2], got.gains[1::2], strict=True)
    weights, begin = [Weight(*step) for step in steps], p.gauss.moments(p.grid.ts[0])
    error = strong_error(p.reverse, shark, p.grid)
    assert error == pytest.approx(oracle(p.gauss, got, weights, begin), rel=1e-10)
    # The wrong sign of the area under reversed time would show.
    flipped = [w._replace(tilt=-w.tilt) for w in weights]  # type: ignore[operator]
    assert error != pytest.approx(oracle(p.gauss, got, flipped, begin), rel=1e-3)


def in_30_digits(alpha: Any, sigma: Any, g2: Any, ts: Sequence[float]) -> Any:
    """EM's strong error on N(0.7, 0.09) from p_T, everything in mpmath."""
    m, C, V = mp.mpf("0.7"), mp.mpf("0.09"), lambda t: alpha(t) ** 2 * C + sigma(t) ** 2
    end, total = mp.mpf(ts[-1]), mp.mpf(0)
    A, b, weights = mp.mpf(1), mp.mpf(0), []
    for t, s in zip(map(mp.mpf, ts[:-1]), map(mp.mpf, ts[1:]), strict=True):
        slope = mp.diff(alpha, t) / alpha(t) + g2(t) / V(t)  # of x; the score is (a m - x) / V
        grow, shift = 1 + slope * (s - t), -g2(t) / V(t) * alpha(t) * m * (s - t)
        A, b = grow * A, grow * b + shift
        weights = [(u, v, grow * w) for u, v, w in weights] + [(t, s, mp.sqrt(g2(t)))]
    for t, s, w in weights:

        def gap(u: Any, w: Any = w) -> Any:
            K = V(end) / V(u) * alpha(u) / alpha(end) * mp.sqrt(g2(u))
            return (w - K) ** 2

        total += mp.quad(gap, [s + (t - s) * mp.mpf(k) / 4 for k in range(5)])
    T = mp.mpf(ts[0])
    Phi, mean = V(end) / V(T) * alpha(T) / alpha(end), alpha(T) * m
    return mp.sqrt(total + (A - Phi) ** 2 * V(T) + (A * mean + b - alpha(end) * m) ** 2)


def _vp_alpha(t: Any) -> Any:
    return mp.exp(-(mp.mpf("0.1") * t + mp.mpf("19.9") * t * t / 2) / 2)


def _theta(t: Any) -> Any:
    return mp.pi / 2 * (t + mp.mpf("0.008")) / mp.mpf("1.008")


IN_30_DIGITS: dict[str, tuple[Any, Any, Any]] = {
    "VP": (
        _vp_alpha,
        lambda t: mp.sqrt(1 - _vp_alpha(t) ** 2),
        lambda t: mp.mpf("0.1") + mp.mpf("19.9") * t,
    ),
    "VE": (
        lambda t: mp.mpf(1),
        lambda t: mp.mpf("0.01") * mp.mpf(5000) ** t,
        lambda t: 2 * mp.log(5000) * (mp.mpf("0.01") * mp.mpf(5000) ** t) ** 2,
    ),
    "EDM": (lambda t: mp.mpf(1), lambda t: t, lambda t: 2 * t),
    "Cosine": (
        lambda t: mp.cos(_theta(t)),
        lambda t: mp.sin(_theta(t)),
        lambda t: mp.pi / mp.mpf("1.008") * mp.tan(_theta(t)),
    ),
}


@pytest.mark.parametrize("name", IN_30_DIGITS)
def test_the_strong_error_in_30_digits(name: str) -> None:
    p = problem(name)
    grid = rs.Grid.karras(p.reverse.sde, 5)
    with mp.workdps(30):
        want = float(in_30_digits(*IN_30_DIGITS[name], grid.ts))
    assert strong_error(p.reverse, EM, grid) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_an_exact_law_without_spread_is_refused_whatever_the_rounding(seed: int) -> None:
    root = np.random.default_rng(seed).normal(size=(3, 1))
    target = rs.GaussianMixture([1.0], [np.zeros(3)], [root @ root.T])
    process = rs.ReverseSDE(rs.VP(), target.score(rs.VP()))
    with pytest.raises(ValueError, match="without spread at t = 0"):
        rs.exact.weak_error(process, rs.DDIM(1.0), rs.Grid.uniform(rs.VP(), 5, t_end=0.0))
