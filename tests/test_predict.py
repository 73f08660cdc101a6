"""Predictions and the clocks of networks: every conversion against the exact one."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from _solvers import RING
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde import predict
from refsde.testing import strategies

SDES = [rs.VP(), rs.SubVP(), rs.VE(), rs.EDM(), rs.Cosine(), rs.Tabulated.from_betas(n=50)]
EVERY = pytest.mark.parametrize("sde", SDES, ids=lambda sde: type(sde).__name__)
NAMES: tuple[Any, ...] = ("score", "eps", "x0", "v")
X = RING.sample(6, rng=0)


def exact(sde: Any, x: Any, t: Any) -> dict[str, Any]:
    """All four predictions, each from its own exact formula; v by its definition."""
    score = RING.score(sde)
    eps, x0 = score.eps(x, t), score.denoise(x, t)
    return {"score": score(x, t), "eps": eps, "x0": x0, "v": sde.alpha(t) * eps - sde.sigma(t) * x0}


@EVERY
@pytest.mark.parametrize(("source", "target"), list(itertools.product(NAMES, NAMES)))
def test_every_conversion_is_the_exact_prediction(sde: Any, source: Any, target: Any) -> None:
    t = 0.4 * sde.T
    x = sde.alpha(t) * X + sde.sigma(t)
    known = exact(sde, x, t)
    value = known[source].copy()
    value.setflags(write=False)
    got = predict.convert(value, x, t, sde, source, target)
    assert got == pytest.approx(known[target], rel=1e-9, abs=1e-9 * np.abs(known[target]).max())


def test_a_flipped_sign_would_be_seen() -> None:
    """The mutants of the conversions differ by far more than the bound of the test above."""
    known = exact(rs.VP(), X, 0.4)
    for name in NAMES:
        wrong = predict.convert(-known["eps"], X, 0.4, rs.VP(), "eps", name)
        assert np.abs(wrong - known[name]).max() > 0.1


@given(st.data(), strategies.sdes(), st.tuples(*[st.sampled_from(NAMES)] * 3))
def test_there_and_back(data: Any, sde: Any, names: tuple[Any, Any, Any]) -> None:
    a, b, c = names
    t = data.draw(strategies.times(sde, t_end=0.01 * sde.T))
    value = exact(sde, X, t)[a]
    way = predict.convert(predict.convert(value, X, t, sde, a, b), X, t, sde, b, c)
    scale = np.abs(value).max() / (sde.alpha(t) * sde.sigma(t)) ** 2 + 1
    assert way == pytest.approx(
        predict.convert(value, X, t, sde, a, c), rel=1e-9, abs=1e-13 * scale
    )


def test_one_clock_a_sample_and_every_library(xp: Any) -> None:
    sde, t = rs.VP(), np.linspace(0.1, 0.9, 6)[:, None]
    for source, target in itertools.product(NAMES, NAMES):
        expected = [
            predict.convert(X[i : i + 1], 2 * X[i : i + 1], float(t[i, 0]), sde, source, target)
            for i in range(6)
        ]
        args = [xp.asarray(v) for v in (X, 2 * X, t)]
        got = predict.convert(*args, sde, source, target)
        assert type(got) is type(args[0])
        assert np.asarray(got) == pytest.approx(np.concatenate(expected), rel=1e-9)


# -- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("predicts", NAMES)
def test_a_model_of_any_prediction_is_a_score(predicts: Any) -> None:
    sde, calls = rs.VP(), []

    def model(x: Any, t: Any) -> Any:
        calls.append(t)
        return exact(sde, x, t)[predicts]

    score: Any = predict.from_prediction(model, sde, predicts)
    known = exact(sde, X, 0.3)
    ways = {"score": score, "eps": score.eps, "x0": score.denoise}
    for i, (name, way) in enumerate(ways.items()):
        assert way(X, 0.3) == pytest.approx(known[name], rel=1e-10)
        assert len(calls) == i + 1, "one call each"
    runs = [
        rs.sample(
            rs.ReverseSDE(sde, s), rs.DDIM(1.0), 5, shape=(2,), times=8, rng=0, denoise="tweedie"
        )
        for s in (score, RING.score(sde))
    ]
    assert runs[0].x == pytest.approx(runs[1].x, rel=1e-6) and runs[0].nfe[0] == 9


def test_a_direct_prediction_loses_nothing() -> None:
    """An eps model asked for eps, an x0 model for x0: the bits of the model itself."""
    for name, method in (("eps", "eps"), ("x0", "denoise")):
        score = predict.from_prediction(lambda x, t: x / 3, rs.VP(), name)
        assert np.array_equal(getattr(score, method)(X, 0.5), X / 3)


# -- clocks ---------------------------------------------------------------------------------------


@given(n=st.integers(2, 2000), share=st.floats(0, 1), convention=st.sampled_from(["table", "song"]))
def test_levels_and_times_are_inverse(n: int, share: float, convention: Any) -> None:
    i = share * (n - 1)
    t = predict.t_of_index(i, n, convention)
    assert 0 <= t <= 1 and predict.index_of_t(t, n, convention) == pytest.approx(i, abs=1e-9)


def test_conventions_by_their_ends() -> None:
    """Table: level i at (i + 1)/n, so that data stay below the first level; Song: i/(n - 1)."""
    assert [predict.t_of_index(i, 10) for i in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert [predict.t_of_index(i, 11, "song") for i in (0, 5, 10)] == [0.0, 0.5, 1.0]
    assert predict.index_of_t(0.0, 10) == predict.index_of_t(0.1, 10) == 0.0


@pytest.mark.parametrize("convention", ["table", "song"])
def test_the_table_convention_is_where_the_table_is(convention: Any) -> None:
    """At level i a DDPM table has the noise of its own SDE, and nearly that of VP; "song" is off.

    The two conventions differ by at most one step, 1e-2 in standard deviation at n = 1000.
    """
    table = rs.Tabulated.from_betas("linear", 1000)
    assert isinstance(table.betas, np.ndarray)
    sigma = np.sqrt(1 - np.cumprod(1 - table.betas))
    t = [predict.t_of_index(i, 1000, convention) for i in range(1000)]
    gap = max(abs(rs.VP().sigma(u) - s) for u, s in zip(t, sigma, strict=True))
    exact_gap = max(abs(table.sigma(u) - s) for u, s in zip(t, sigma, strict=True))
    if convention == "table":
        assert exact_gap < 1e-12 and gap < 2e-3
    else:
        assert 5e-3 < exact_gap < 1.1e-2


@EVERY
def test_the_noise_to_signal_ratio_is_a_clock(sde: Any) -> None:
    for share in (0.1, 0.5, 1.0):
        t = share * sde.T
        assert predict.t_of_sigma(sde.rho(t), sde) == pytest.approx(t, rel=1e-9)


# -- preconditioning of Karras et al. -------------------------------------------------------------


@pytest.mark.parametrize("sde", [rs.VP(), rs.VE(), rs.EDM(), rs.Cosine()])
@pytest.mark.parametrize("sd", [0.5, 1.3])
def test_edm_s_network_of_gaussian_data_is_zero(sde: Any, sd: float) -> None:
    target = rs.GaussianMixture([1.0], [[0.0, 0.0]], [sd**2])
    exact = target.score(sde)
    made: Any = rs.predict.from_edm(lambda u, c: 0 * u, sde, sd)
    x = np.random.default_rng(0).standard_normal((5, 2))
    for t in (sde.T, 0.4 * sde.T, sde.t_end):
        np.testing.assert_allclose(made.denoise(x, t), exact.denoise(x, t), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(made(x, t), exact(x, t), rtol=1e-7)


def test_edm_s_network_sees_scaled_inputs_and_levels() -> None:
    """Its right network on a mixture gives the mixture's score; it is told log(rho) / 4."""
    sde, sd, score = rs.VP(), 0.5, RING.score(rs.VP())
    told = []

    def network(u: Any, c: Any) -> Any:
        told.append(c)
        rho = math.exp(4 * c)
        total = rho**2 + sd**2
        v = u * math.sqrt(total)
        t = sde.t_of_lam(-math.log(rho))
        x0 = score.denoise(sde.alpha(t) * v, t)
        return (x0 - sd**2 / total * v) * math.sqrt(total) / (rho * sd)

    made: Any = rs.predict.from_edm(network, sde, sd)
    x = np.random.default_rng(0).standard_normal((5, 2))
    np.testing.assert_allclose(made.denoise(x, 0.3), score.denoise(x, 0.3), rtol=1e-9)
    assert told == [math.log(sde.rho(0.3)) / 4]


def test_bad_preconditioning_is_told() -> None:
    with pytest.raises(TypeError, match="`network` must be callable"):
        rs.predict.from_edm(1.0, rs.VP())
    with pytest.raises(ValueError, match="`sigma_data` must be positive"):
        rs.predict.from_edm(lambda u, c: u, rs.VP(), 0.0)
    with pytest.raises(TypeError, match="`sde` must be an SDE"):
        rs.predict.from_edm(lambda u, c: u, rs.VP)  # type: ignore[arg-type]
