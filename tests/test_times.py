"""Grids: their ends, their spacing, their part in the loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde.testing import strategies

SDES = [
    rs.VP(),
    rs.SubVP(),
    rs.VE(),
    rs.VE(convention="exact"),
    rs.EDM(),
    rs.Cosine(),
    rs.Tabulated.from_betas("linear"),
    rs.Tabulated(sigmas=np.geomspace(0.01, 50, 40)),
]
EVERY = pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
MADE = {
    "uniform": rs.Grid.uniform,
    "power": rs.Grid.power,
    "logsnr": rs.Grid.logsnr,
    "karras": rs.Grid.karras,
}


@EVERY
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("n", [1, 2, 37])
def test_every_grid_runs_from_T_to_t_end_exactly(sde: Any, name: str, n: int) -> None:
    grid = MADE[name](sde, n)
    assert grid.n == n and len(grid.ts) == n + 1
    assert grid.ts[0] == sde.T and grid.ts[-1] == sde.t_end
    assert all(type(t) is float for t in grid.ts), "a NumPy scalar would widen float32"
    assert np.all(np.diff(grid.ts) < 0)
    late = MADE[name](sde, n, t_end=0.5 * sde.T)
    assert late.ts[-1] == 0.5 * sde.T


def even(values: Any, ends: slice = slice(None)) -> float:
    """How far a list is from equal spacing, relative to its range."""
    steps = np.diff(np.asarray(values)[ends])
    return float(np.ptp(steps) / abs(np.sum(steps)))


@EVERY
def test_spacing_is_equal_in_the_variable_of_the_grid(sde: Any) -> None:
    """Up to rounding; a Tabulated inverts lam by interpolation, equally exact."""
    n = 23
    lam = [sde.lam(t) for t in rs.Grid.logsnr(sde, n).ts]
    rho = [sde.rho(t) ** (1 / 7) for t in rs.Grid.karras(sde, n).ts]
    third = [sde.rho(t) ** (1 / 3) for t in rs.Grid.karras(sde, n, p=3.0).ts]
    root = [t**0.5 for t in rs.Grid.power(sde, n).ts]
    for values in (rs.Grid.uniform(sde, n).ts, root, lam, rho, third):
        assert even(values) < 1e-9
    assert even(rho) < 1e-9 < 1e-3 < even(third) + even([r**7 for r in rho]), (
        "mutants: other powers"
    )


def test_karras_is_the_published_formula() -> None:
    """sigma_i = (smax^(1/7) + i/(N-1) (smin^(1/7) - smax^(1/7)))^7, N levels; there t is sigma."""
    N, i = 18, np.arange(18)
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    published = (high + i / (N - 1) * (low - high)) ** 7
    assert rs.Grid.karras(rs.EDM(), N - 1).ts == pytest.approx(published, rel=1e-12)


def test_the_quadratic_grid_is_ddims() -> None:
    assert rs.Grid.power(rs.VP(), 4, t_end=0.0).ts == pytest.approx((1, 9 / 16, 4 / 16, 1 / 16, 0))


def test_uniform_grid_of_a_table_is_the_table() -> None:
    grid = rs.Grid.uniform(rs.Tabulated.from_betas(n=50), 50, t_end=0.0)
    assert grid.ts == pytest.approx(np.arange(51)[::-1] / 50, abs=1e-15)


@given(st.data(), strategies.sdes())
def test_a_grid_there_and_back_runs_over_the_same_times(data: Any, sde: Any) -> None:
    """Time reversal, for every spacing and SDE: the same times, steps of the other sign."""
    grid = data.draw(strategies.time_grids(sde))
    back = grid.reversed()
    assert back.ts == grid.ts[::-1] and back.reversed() == grid
    assert np.array_equal(np.diff(back.ts), -np.diff(grid.ts)[::-1])
    assert np.all(np.diff(grid.ts) < 0) and all(type(t) is float for t in grid.ts)


@given(
    st.lists(st.floats(0, 1e3), min_size=2, max_size=9, unique=True),
    st.booleans(),
    st.sampled_from([0, 1]),
)
def test_any_monotone_list_is_a_grid(times: list[float], down: bool, form: int) -> None:
    ts = sorted(times, reverse=down)
    grid = rs.Grid(np.array(ts) if form else ts)
    assert grid.ts == tuple(ts) and grid.reversed().ts == tuple(ts[::-1])
    assert grid.reversed().reversed() == grid and hash(grid) == hash(rs.Grid(ts))
    assert grid != grid.reversed() and grid != ts


def test_a_grid_is_frozen_and_copies_its_input() -> None:
    ts = np.array([1.0, 0.5, 0.1])
    grid = rs.Grid(ts)
    ts[0] = 99.0
    assert grid.ts[0] == 1.0
    with pytest.raises(AttributeError):
        grid.ts = (2.0, 1.0)


def test_repr_is_short() -> None:
    assert repr(rs.Grid.uniform(rs.VP(), 200)) == "Grid(200 steps from 1 to 0.001)"


def test_the_protocol_of_the_loop() -> None:
    """The plan is the index of the time now; the error estimate is ignored."""
    grid = rs.Grid([1.0, 0.4, 0.1])
    t, plan = grid.start(None, None)
    seen = [t]
    while (s := grid.target(t, plan)) is not None:
        new = rs.State(s, np.zeros((2, 1)), error=np.full((2, 1), math.inf))
        kept, plan = grid.judge(rs.State(t, np.ones((2, 1))), new, plan)
        assert kept is new and grid.select(plan, np.array([1])) == plan
        t = kept.t
        seen.append(t)
    assert seen == [1.0, 0.4, 0.1]


def test_a_grid_in_lam_needs_finite_ends() -> None:
    for made in (rs.Grid.logsnr, rs.Grid.karras):
        with pytest.raises(ValueError, match=r"`t_end` must be where lam is finite, got lam = inf"):
            made(rs.VP(), 5, t_end=0.0)
    assert rs.Grid.logsnr(rs.VE(), 5, t_end=0.0).ts[-1] == 0.0, "VE keeps sigma_min there"


# -- grids of the fast samplers -------------------------------------------------------------------

ALL_SDES = [rs.VP(), rs.SubVP(), rs.VE(), rs.EDM(), rs.Cosine()]


@pytest.mark.parametrize("sde", ALL_SDES)
def test_polyexponential_grids(sde: rs.LinearSDE) -> None:
    """Power one is equal steps of lam; others are a polynomial of it."""
    one = rs.Grid.polyexponential(sde, 7)
    np.testing.assert_allclose(one.ts, rs.Grid.logsnr(sde, 7).ts, rtol=1e-9)
    lam = np.array([sde.lam(t) for t in rs.Grid.polyexponential(sde, 8, p=1.7).ts])
    left = (lam[-1] - lam) / (lam[-1] - lam[0])
    np.testing.assert_allclose(left, (1 - np.linspace(0, 1, 9)) ** 1.7, atol=1e-9)


@pytest.mark.parametrize("sde", ALL_SDES)
def test_angular_grids(sde: rs.LinearSDE) -> None:
    grid = rs.Grid.angular(sde, 9, scale=0.5, powers=(2.0, 1.5))
    assert grid.ts[0] == sde.T and grid.ts[-1] == sde.t_end and grid.n == 9
    angle = np.array([np.arctan(sde.rho(t) / 0.5) for t in grid.ts])
    left = (angle - angle[-1]) / (angle[0] - angle[-1])
    np.testing.assert_allclose(left, 1 - (1 - np.linspace(1, 0, 10) ** 2.0) ** 1.5, atol=1e-9)


def test_discrete_levels() -> None:
    """DDIM's levels: floor(j^2), j up to sqrt(0.8 M), behind the noise end."""
    sde = rs.VP()
    grid = rs.Grid.discrete(sde, 10, 1000, "quadratic")
    wanted = [max(int(j**2), 1) for j in np.linspace(0, np.sqrt(800), 10)]
    np.testing.assert_allclose(np.array(grid.ts[::-1]) * 1000, [*sorted(set(wanted)), 1000])
    even = np.array(rs.Grid.discrete(sde, 10).ts) * 1000
    np.testing.assert_allclose(even, np.round(np.linspace(1000, 1, 11)))
    assert rs.Grid.discrete(sde, 999).n == 999
    with pytest.raises(ValueError, match="`spacing` must be 'uniform' or 'quadratic'"):
        rs.Grid.discrete(sde, 10, spacing="cosine")  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [3, 20, 60, 99])
def test_grids_moved_to_levels(n: int) -> None:
    """As many different levels as there were times, near them, in the same direction."""
    sde = rs.VP()
    for made in (rs.Grid.power(sde, n), rs.Grid.logsnr(sde, n), rs.Grid.uniform(sde, n)):
        moved = made.on_levels(sde, 100)
        levels = np.array(moved.ts) * 100
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-9)
        assert moved.n == n and levels[0] == 100 and levels[-1] >= 1
        assert made.reversed().on_levels(sde, 100) == moved.reversed()
    coarse = rs.Grid.uniform(sde, 4, t_end=0.2).on_levels(sde, 100)
    np.testing.assert_allclose(coarse.ts, [1.0, 0.8, 0.6, 0.4, 0.2])
    with pytest.raises(ValueError, match="`levels` must exceed the number of steps"):
        rs.Grid.uniform(sde, 100).on_levels(sde, 100)


def test_a_step_onto_the_data_is_added_once() -> None:
    sde = rs.EDM()
    grid = rs.Grid.karras(sde, 17).to_data()
    assert grid.n == 18 and grid.ts[-1] == 0 and grid.to_data() == grid
    with pytest.raises(ValueError, match="grids that descend"):
        rs.Grid.karras(sde, 5).reversed().to_data()
