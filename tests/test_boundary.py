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


class Plain:
    """A solver of one's own that knows nothing of preconditioners, and says what it is for."""

    accepts = frozenset({"reverse"})

    def __call__(self, process, state, s, noise):
        return rs.EulerMaruyama()(process, state, s, noise)


def test_a_map_that_a_solver_would_ignore_is_refused_before_anything_is_drawn() -> None:
    sde = rs.VP()
    asked = []

    def score(x, t):
        asked.append(t)
        return -x

    process = rs.Preconditioned(sde, score, rs.precondition.Scalar(1.1))
    for solver in (Plain(), rs.TAB(1), rs.DDIM(), rs.SEEDS(2)):
        with pytest.raises(TypeError, match="would ignore the preconditioner Scalar"):
            rs.sample(process, solver, 2, times=3, rng=0, shape=(2,))
    assert asked == []
    rs.sample(rs.ReverseSDE(sde, score), Plain(), 2, times=3, rng=0, shape=(2,))


def test_the_shape_of_images_comes_from_their_field() -> None:
    sde, field = rs.VP(), rs.GaussianField.power_law((3, 4, 4))
    flow = rs.ProbabilityFlow(sde, field.score(sde))
    assert rs.sample(flow, rs.Heun(), 2, times=3, rng=0).x.shape == (2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"`shape` must be \(3, 4, 4\), the target's, got \(48,\)"):
        rs.sample(flow, rs.Heun(), 2, times=3, rng=0, shape=(48,))


def test_a_solver_that_writes_in_place_does_not_reach_the_map() -> None:
    sde, gain = rs.VP(), np.array([1.0, 1.2])
    M = rs.precondition.Diagonal(gain)
    process = rs.Preconditioned(sde, RING.score(sde), M, law="marginal")
    x = RING.sample(5, rng=0)
    kept = x.copy()
    sol = rs.sample(process, in_place, x=x, times=10, keep="all")
    assert np.array_equal(x, kept) and np.array_equal(sol.path.x[0], kept)
    assert np.array_equal(M.gain, gain)


def test_a_table_where_a_map_is_needed_names_the_map() -> None:
    sde = rs.VP()
    for table in (np.ones(2), 2.0, np.eye(2)):
        with pytest.raises(TypeError, match=r"(?s)`M` must be .*precondition.Fourier\(gain\)"):
            rs.Preconditioned(sde, RING.score(sde), table)
