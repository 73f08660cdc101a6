"""The public strategies draw what they promise, and shrink to what a reader takes in at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import refsde as rs
from refsde.testing import strategies


@given(st.data(), st.sampled_from([1.0, 4.0, 100.0]), st.integers(1, 6), st.integers(1, 5))
def test_mixtures_are_of_the_size_and_the_condition_asked_for(
    data: Any, condition: float, d: int, K: int
) -> None:
    target = data.draw(strategies.gmms(dims=d, components=(K, 5), condition=condition, spread=2.0))
    lam, U = target.eigh()
    assert target.dim == d and K <= target.n_components <= 5
    assert np.all(np.abs(target.means) <= 2) and target.weights.min() >= 1 / 41
    assert np.all(lam.max(axis=1) <= condition * lam.min(axis=1) * (1 + 1e-9))
    assert 1 / 8 / condition / (1 + 1e-9) <= lam.min() and lam.max() <= 2 * (1 + 1e-9)
    assert U @ U.transpose(0, 2, 1) == pytest.approx(np.tile(np.eye(d), (len(U), 1, 1)), abs=1e-12)


@pytest.mark.parametrize("form", ["full", "diagonal", "spherical"])
@settings(max_examples=20)
@given(data=st.data())
def test_covariances_have_the_form_asked_for(form: Any, data: Any) -> None:
    target = data.draw(strategies.gmms(dims=(2, 5), forms=[form]))
    assert repr(target).endswith(f"{form})")


def first(strategy: Any, condition: Any) -> Any:
    """An example of the strategy, not shrunk; fails if there is none."""
    return find(strategy, condition, settings=settings(phases=[Phase.generate], max_examples=500))


def test_every_form_and_size_is_drawn() -> None:
    for form in ("full", "diagonal", "spherical"):
        first(strategies.gmms(), lambda g, form=form: repr(g).endswith(f"{form})"))
    assert first(strategies.gmms(dims=64), lambda g: True).dim == 64
    first(strategies.gmms(dims=(2, 4)), lambda g: abs(g.covs[:, 0, 1]).max() > 0.1)


def test_examples_shrink_to_the_simplest() -> None:
    simplest = find(strategies.gmms(), lambda g: True)
    assert (simplest.dim, simplest.n_components) == (1, 1) and simplest.means.item() == 0
    two = find(strategies.gmms(), lambda g: g.dim > 1 and abs(g.means).max() >= 1)
    assert (two.dim, two.n_components) == (2, 1) and np.sum(two.means != 0) == 1
    assert find(strategies.sdes(), lambda s: True) == rs.VP()
    assert find(strategies.times(rs.EDM()), lambda t: True) == 80.0
    assert find(strategies.time_grids(rs.VP()), lambda g: True).n == 1
    assert find(strategies.solvers(), lambda s: True) == rs.EulerMaruyama()
    ring = rs.GaussianMixture.ring(8)
    assert find(strategies.points(ring), lambda x: True) == pytest.approx(np.zeros((1, 2)))
    assert np.array_equal(find(strategies.rotations(3), lambda Q: True), np.eye(3))


@given(st.integers(1, 5).flatmap(strategies.rotations))
def test_rotations_are_orthogonal(Q: np.ndarray) -> None:
    assert Q @ Q.T == pytest.approx(np.eye(len(Q)), abs=1e-12)


@given(st.data(), strategies.sdes())
def test_times_lie_on_the_clock_on_all_scales(data: Any, sde: Any) -> None:
    t = data.draw(strategies.times(sde))
    assert type(t) is float and sde.t_end <= t <= sde.T
    assert 0.0 <= data.draw(strategies.times(sde, t_end=0.0, noise_end=False)) < sde.T


def test_times_reach_both_ends() -> None:
    sde = rs.VE()
    assert find(strategies.times(sde), lambda t: t < 2e-5) < 2e-5
    assert find(strategies.times(sde), lambda t: t == sde.T) == 1.0
    first(strategies.times(sde), lambda t: 0.3 < t < 0.4)


@given(st.data(), strategies.sdes())
def test_grids_run_from_noise_to_the_end(data: Any, sde: Any) -> None:
    grid = data.draw(strategies.time_grids(sde, steps=(2, 9)))
    assert 2 <= grid.n <= 9 and (grid.ts[0], grid.ts[-1]) == (sde.T, sde.t_end)
    whole = data.draw(strategies.time_grids(sde, steps=3, t_end=0.0))
    assert whole.n == 3 and whole.ts[-1] == 0.0 and np.all(np.diff(whole.ts) < 0)


@given(st.data(), strategies.sdes())
def test_sdes_keep_next_to_no_signal(data: Any, sde: Any) -> None:
    assert sde.rho(sde.T) > 4
    smooth = data.draw(strategies.sdes(tables=False))
    assert not isinstance(smooth, rs.Tabulated)


@given(st.data(), strategies.gmms(), strategies.sdes())
def test_points_lie_where_the_law_is(data: Any, target: Any, sde: Any) -> None:
    t = data.draw(strategies.times(sde))
    x = data.draw(strategies.points(target, sde, t, n=(2, 4)))
    law = target.at(sde, t)
    assert x.dtype == float and 2 <= len(x) <= 4 and x.shape[1] == target.dim
    assert np.all(np.abs(x - law.mean) <= (4 + 1e-9) * np.sqrt(np.diag(law.cov)) + 1e-12)
    assert np.all(np.isfinite(law.logpdf(x)))


@given(st.data(), st.sampled_from(["forward", "reverse", "flow"]))
def test_solvers_accept_and_declare(data: Any, kind: Any) -> None:
    assert kind in data.draw(strategies.solvers(kind)).accepts
    order = data.draw(st.sampled_from(["weak", "strong", "flow"]))
    solver = data.draw(strategies.solvers(order=order))
    assert 1 <= solver.orders[order] <= 5


def test_every_solver_is_drawn() -> None:
    from refsde import solvers

    drawn, others = set(), {"BlackBox", "Langevin", "AnnealedLangevin", "MALA"}
    for name in set(solvers.__all__) - others:
        drawn.add(type(first(strategies.solvers(), lambda s, name=name: type(s).__name__ == name)))
    assert len(drawn) == len(solvers.__all__) - 4, "those are no solvers with a fixed step"
    for corrector in (rs.Langevin, rs.AnnealedLangevin, rs.MALA):
        first(strategies.solvers(), lambda s, kind=corrector: has_corrector(s, kind))


def has_corrector(solver: Any, kind: type) -> bool:
    return isinstance(getattr(solver, "corrector", None), kind)


@given(st.data(), st.sampled_from([(3,), (2, 3), (2, 3, 4)]))
def test_preconditioners_take_their_events(data: Any, event: tuple[int, ...]) -> None:
    M = data.draw(strategies.preconditioners(event))
    z = np.ones((2, *event))
    assert M.static and M.apply(z).shape == z.shape
    assert M.event_shape is None or event[-len(M.event_shape) :] == M.event_shape
    D = M.as_linear_operator(event) @ np.eye(z[0].size)
    assert 1 / 4.01 < np.linalg.svd(D)[1].min() <= np.linalg.svd(D)[1].max() < 4.01


@pytest.mark.parametrize("event", [3, (2, 3)])
def test_every_kind_of_preconditioner_is_drawn(event: Any) -> None:
    from refsde import precondition as pc

    maps = strategies.preconditioners(event)
    assert isinstance(find(maps, lambda M: True), pc.Identity)
    for kind in (pc.Scalar, pc.Diagonal, pc.Fourier, pc.DCT, pc.Dense, pc.Product):
        first(maps, lambda M, kind=kind: isinstance(M, kind))


BAD: list[tuple[Any, str]] = [
    (lambda: strategies.gmms(dims=0), "`dims` must be a positive int or a pair"),
    (lambda: strategies.gmms(components=(3, 2)), r"`components` must be .* got \(3, 2\)"),
    (lambda: strategies.gmms(condition=0.5), "`condition` must be at least 1, got 0.5"),
    (lambda: strategies.gmms(smallest=0.0), r"`smallest` must lie in \(0, 2\], got 0.0"),
    (lambda: strategies.gmms(forms=["tied"]), r"`forms` must be among .* got \('tied',\)"),
    (lambda: strategies.times(rs.VP(), t_end=1.0), r"`t_end` must lie in \[0, T\) = \[0, 1\)"),
    (lambda: strategies.time_grids(rs.VP(), steps=0), "`steps` must be a positive int"),
    (lambda: strategies.points(rs.GaussianMixture.ring(3), n=0), "`n` must be a positive int"),
    (lambda: strategies.preconditioners(()), "`event_shape` must hold positive ints"),
    (lambda: strategies.preconditioners(0), r"`event_shape` must hold .* got 0: pass \(d,\)"),
    (lambda: strategies.solvers("sideways"), "leave no solver: kinds are"),
    (lambda: strategies.solvers("forward", order="none"), "leave no solver"),
]  # fmt: skip


@pytest.mark.parametrize("make, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        first(make(), lambda x: True)
