"""Processes: the two reversals of an SDE, what they share, and how evaluations are counted."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from _solvers import RING
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde.process import counted
from refsde.testing import strategies

SDES = [rs.VP(), rs.SubVP(), rs.VE(), rs.EDM(), rs.Cosine(), rs.Tabulated.from_betas(n=50)]
EVERY = pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
X = np.random.default_rng(0).normal(size=(4, 2))


class Only:
    """A score without direct predictions, so that a process must convert."""

    def __init__(self, score: Any) -> None:
        self.call, self.calls = score, 0

    def __call__(self, x: Any, t: Any) -> Any:
        self.calls += 1
        return self.call(x, t)


@EVERY
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_drifts_are_the_formulas(sde: Any, share: float) -> None:
    t, score = share * sde.T, RING.score(sde)
    f, g2, s = sde.f(t), sde.g2(t), score(X, t)
    assert np.array_equal(rs.ForwardSDE(sde).drift(X, t), f * X)
    assert rs.ReverseSDE(sde, score).drift(X, t) == pytest.approx(f * X - g2 * s, rel=1e-14)
    assert rs.ProbabilityFlow(sde, score).drift(X, t) == pytest.approx(
        f * X - g2 / 2 * s, rel=1e-14
    )


@given(st.data(), strategies.gmms(), strategies.sdes())
def test_the_flow_is_halfway_between_forward_and_reverse(data: Any, target: Any, sde: Any) -> None:
    t, score = data.draw(strategies.times(sde)), target.score(sde)
    x = data.draw(strategies.points(target, sde, t))
    there, back = (p.drift(x, t) for p in (rs.ForwardSDE(sde), rs.ReverseSDE(sde, score)))
    halfway = rs.ProbabilityFlow(sde, score).drift(x, t)
    assert np.all(np.abs(halfway - (there + back) / 2) <= 1e-12 * (np.abs(there) + np.abs(back)))


@given(st.data(), strategies.gmms(dims=(1, 3)), strategies.sdes())
def test_reversing_the_reversal_gives_the_forward_drift(data: Any, target: Any, sde: Any) -> None:
    """Anderson's theorem used twice: drift a becomes g^2 score - a in reversed time, and back."""
    t, score = data.draw(strategies.times(sde)), target.score(sde)
    x = data.draw(strategies.points(target, sde, t))
    process = rs.ReverseSDE(sde, score)
    push = sde.g2(t) * score(x, t)

    def reversed_drift(drift: Any) -> Any:
        return push - drift

    own_clock = -process.drift(x, t)  # of the reversal, in time that runs with the steps
    size = np.abs(push) + np.abs(own_clock)
    forward = rs.ForwardSDE(sde).drift(x, t)
    assert np.all(np.abs(own_clock - reversed_drift(forward)) <= 1e-13 * size)
    assert np.all(np.abs(reversed_drift(own_clock) - forward) <= 1e-13 * size)
    assert np.array_equal(process.diffuse(x, t), rs.ForwardSDE(sde).diffuse(x, t))


def continuity(sde: Any, noise_share: float, drift_of: Any, t: float) -> float:
    """Residual of the Fokker-Planck equation d p/dt = -(a p)' + (g^2/2) share p'', relative, d = 1.

    All derivatives by central differences of the exact density.
    """
    target = rs.GaussianMixture([0.4, 0.6], [[-1.0], [1.5]], [0.3, 0.2])
    x = np.linspace(-3, 3, 61)[:, None]
    h, k = 1e-3, 1e-4 * sde.T

    def p(x: Any, t: float) -> np.ndarray:
        return np.exp(target.at(sde, t).logpdf(x))[:, None]

    drift = drift_of(target.score(sde))
    flux = (drift(x + h, t) * p(x + h, t) - drift(x - h, t) * p(x - h, t)) / (2 * h)
    curve = (p(x + h, t) - 2 * p(x, t) + p(x - h, t)) / h**2
    rate = (p(x, t + k) - p(x, t - k)) / (2 * k)
    residual = rate + flux - noise_share * sde.g2(t) / 2 * curve
    return float(np.abs(residual).max() / np.abs(rate).max())


@pytest.mark.parametrize(
    "sde", [rs.VP(), rs.SubVP(), rs.EDM(0.002, 5.0), rs.Cosine()], ids=lambda s: type(s).__name__
)
def test_all_three_transport_the_same_marginals(sde: Any) -> None:
    """Forward with +g^2/2, the flow with none, the reverse SDE with -g^2/2 (its time runs back)."""
    t = 0.3 * sde.T
    right = {
        1.0: lambda score: rs.ForwardSDE(sde).drift,
        0.0: lambda score: rs.ProbabilityFlow(sde, score).drift,
        -1.0: lambda score: rs.ReverseSDE(sde, score).drift,
    }
    for share, drift_of in right.items():
        assert continuity(sde, share, drift_of, t) < 1e-3
        assert continuity(sde, share + 0.1, drift_of, t) > 1e-2, (
            "mutant: a tenth of the noise too much"
        )
    wrong = [lambda s: rs.ReverseSDE(sde, s).drift, lambda s: rs.ForwardSDE(sde).drift]
    assert all(continuity(sde, 0.0, drift_of, t) > 1e-2 for drift_of in wrong), (
        "mutants: not the flow"
    )


@EVERY
def test_diffusion_is_g_times_the_increment(sde: Any) -> None:
    t, dw, score = 0.4 * sde.T, X, RING.score(sde)
    for process in (rs.ForwardSDE(sde), rs.ReverseSDE(sde, score)):
        assert process.stochastic
        assert process.diffuse(dw, t) == pytest.approx(math.sqrt(sde.g2(t)) * dw, rel=1e-15)
    flow = rs.ProbabilityFlow(sde, score)
    assert not flow.stochastic and np.all(flow.diffuse(dw, t) == 0)


@EVERY
def test_predictions_are_direct_where_offered_and_converted_otherwise(sde: Any) -> None:
    t, score = 0.4 * sde.T, RING.score(sde)
    for cls in (rs.ReverseSDE, rs.ProbabilityFlow):
        direct, converted = cls(sde, score), cls(sde, Only(score))
        for name in ("eps", "denoise"):
            assert np.array_equal(getattr(direct, name)(X, t), getattr(score, name)(X, t))
            assert getattr(converted, name)(X, t) == pytest.approx(
                getattr(score, name)(X, t), rel=1e-9
            )


def test_a_clock_for_each_sample() -> None:
    sde, t = rs.VP(), np.array([[0.1], [0.4], [0.7], [1.0]])
    score = RING.score(sde)
    for process in (rs.ForwardSDE(sde), rs.ReverseSDE(sde, score), rs.ProbabilityFlow(sde, score)):
        for i in range(4):
            row, now = X[i : i + 1], float(t[i, 0])
            assert process.drift(X, t)[i : i + 1] == pytest.approx(
                process.drift(row, now), rel=1e-13
            )
            if process.stochastic:
                assert process.diffuse(X, t)[i : i + 1] == pytest.approx(process.diffuse(row, now))


def test_what_preconditioning_will_change_is_the_identity_here() -> None:
    score = RING.score(rs.VP())
    for process in (
        rs.ForwardSDE(rs.VP()),
        rs.ReverseSDE(rs.VP(), score),
        rs.ProbabilityFlow(rs.VP(), score),
    ):
        assert process.colour(X) is X and process.gram(X) is X
        assert process.at(1.0, 0.5) is process


@EVERY
def test_the_start_is_the_prior(sde: Any) -> None:
    for process in (rs.ReverseSDE(sde, RING.score(sde)), rs.ProbabilityFlow(sde, RING.score(sde))):
        assert np.array_equal(process.start(X), sde.prior_std * X)
    with pytest.raises(TypeError, match=r"`x` is None, but a ForwardSDE starts from data: pass x="):
        rs.ForwardSDE(sde).start(X)


def test_the_forward_sde_has_no_score() -> None:
    process = rs.ForwardSDE(rs.VP())
    for ask in (process.score, process.eps, process.denoise):
        with pytest.raises(TypeError, match=r"a ForwardSDE has no score: use ReverseSDE"):
            ask(X, 0.5)


def test_processes_are_frozen_values() -> None:
    score = RING.score(rs.VP())
    process = rs.ReverseSDE(rs.VP(), score)
    assert process == rs.ReverseSDE(rs.VP(), score) != rs.ProbabilityFlow(rs.VP(), score)
    with pytest.raises(AttributeError):
        process.sde = rs.VE()


def test_a_score_of_an_equal_sde_is_right_and_of_another_is_not() -> None:
    rs.ReverseSDE(rs.VP(), RING.score(rs.VP()))
    for other in (rs.VE(), rs.VP(0.2)):
        with pytest.raises(ValueError, match=r"`score` belongs to .* but the process to VP"):
            rs.ReverseSDE(rs.VP(), RING.score(other))


# -- counting -------------------------------------------------------------------------------------


def test_every_way_to_evaluate_is_counted_once() -> None:
    process, calls = counted(rs.ReverseSDE(rs.VP(), RING.score(rs.VP())))
    ways = [
        lambda: process.score(X, 0.5),
        lambda: process.eps(X, 0.5),
        lambda: process.denoise(X, 0.5),
        lambda: process.drift(X, 0.5),
        lambda: process.score.evaluate(X, 0.5, "score", "divergence"),
        lambda: process.score.divergence(X, 0.5),
        lambda: process.score.jvp(X, 0.5, X),
    ]
    for i, way in enumerate(ways):
        way()
        assert calls() == i + 1
    process.diffuse(X, 0.5), process.start(X)
    assert process.score.target is RING and calls() == len(ways)


def test_a_conversion_costs_one_evaluation() -> None:
    score = Only(RING.score(rs.VP()))
    process, calls = counted(rs.ProbabilityFlow(rs.VP(), score))
    process.eps(X, 0.5), process.denoise(X, 0.5)
    assert calls() == score.calls == 2


def test_counting_copies_the_process() -> None:
    score = RING.score(rs.VP())
    original = rs.ReverseSDE(rs.VP(), score)
    process, _ = counted(original)
    again, calls = counted(process)
    again.score(X, 0.5)
    assert original.score is score and process is not original and calls() == 1
    assert copy.copy(original) == original


def test_a_score_of_the_wrong_shape_is_refused() -> None:
    """(B, 1) would broadcast over (B, 2), and the samples be wrong in silence."""
    for bad in (
        lambda x, t: -x[:, :1],
        lambda x, t: -x.sum(axis=1),
        lambda x, t: 0.0,
        lambda x, t: -x.T,
    ):
        process, _ = counted(rs.ReverseSDE(rs.VP(), bad))
        with pytest.raises(
            ValueError, match=r"`score` must return an array of the shape of `x`, \(4, 2\)"
        ):
            process.drift(X, 0.5)


def test_a_fixed_score_is_refused_by_name() -> None:
    class Fixed:
        kind, stochastic, sde = "flow", False, rs.VP()

        @property
        def score(self) -> Any:
            return lambda x, t: -x

    with pytest.raises(TypeError, match=r"`process` Fixed must keep its score in an attribute"):
        counted(Fixed())
