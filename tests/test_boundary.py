"""What the public boundary keeps safe: the caller's arrays, and a newcomer's first grid."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import refsde as rs

RING = rs.GaussianMixture.ring(4)


def in_place(process, state, s, noise):
    x = state.x
    x += process.drift(x, state.t) * (s - state.t)
    return rs.State(s, x)


def test_a_solver_that_writes_in_place_reaches_neither_the_start_nor_the_path() -> None:
    sde = rs.VP()
    flow, x = rs.ProbabilityFlow(sde, RING.score(sde)), RING.sample(5, rng=0)
    kept = x.copy()
    sol = rs.sample(flow, in_place, x=x, times=10, keep="all")
    assert np.array_equal(x, kept) and np.array_equal(sol.path.x[0], kept)
    right = rs.sample(flow, rs.EulerMaruyama(), x=x, times=10, keep="all")
    assert np.allclose(sol.path.x, right.path.x, rtol=1e-12, atol=1e-12)
    list(rs.iterate(flow, in_place, x, rs.Grid.uniform(sde, 3), rs.Gaussian(0)))
    assert np.array_equal(x, kept)


def test_equal_steps_on_a_clock_that_is_the_noise_level_are_warned_of() -> None:
    sde = rs.EDM()
    flow = rs.ProbabilityFlow(sde, RING.score(sde))
    with pytest.warns(UserWarning, match=r"equal steps.*pass times=Grid.karras\(sde, 50\)"):
        rs.sample(flow, rs.Heun(), 3, times=50, rng=0)
    rs.sample(
        flow, rs.Heun(), 3, times=rs.Grid.uniform(sde, 50), rng=0
    )  # asked for in so many words


@pytest.mark.parametrize(
    "sde", [rs.VP(), rs.SubVP(), rs.VE(), rs.Cosine(), rs.Tabulated.from_betas()]
)
@pytest.mark.parametrize("n", [1, 2, 10, 16, 100])
def test_equal_steps_on_the_other_clocks_are_not(sde: rs.LinearSDE, n: int) -> None:
    flow = rs.ProbabilityFlow(sde, RING.score(sde))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rs.sample(flow, rs.EulerMaruyama(), 2, times=n, rng=0)


def test_the_method_that_makes_a_score_is_not_one() -> None:
    with pytest.raises(TypeError, match=r"`score` is the method .* call it, target.score\(sde\)"):
        rs.ReverseSDE(rs.VP(), RING.score)


def test_the_commonest_slips_with_measures_name_the_remedy() -> None:
    sde = rs.VP()
    law = RING.at(sde, sde.t_end)
    sol = rs.sample(rs.ProbabilityFlow(sde, RING.score(sde)), rs.Heun(), 20, times=10, rng=0)
    with pytest.raises(TypeError, match=r"`metric` .* pass against='target'"):
        rs.measure.noise_floor(rs.measure.mode_weight_error, law, 50)
    with pytest.raises(TypeError, match=r"`x` .* got Solution: pass sol.x"):
        rs.measure.sliced_wasserstein(sol, sol.x)
    with pytest.raises(TypeError, match=r"`y` .* pass law.sample\(n\)"):
        rs.measure.sliced_wasserstein(sol.x, law)
