"""Closed forms between Gaussians, against textbook formulas; nothing statistical."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refsde.measure import frechet, gaussian_kl, gaussian_w2
from refsde.targets import GaussianMixture

GOOD = np.arange(12.0).reshape(6, 2)


def rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    return scipy.stats.ortho_group.rvs(d, random_state=rng) if d > 1 else np.eye(1)


def gaussian(d: int, rank: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    half = rng.normal(size=(d, rank))
    return rng.normal(size=d), half @ half.T


@pytest.mark.parametrize("d", [1, 2, 7])
def test_frechet_agrees_with_the_textbook_formula(d: int, rng: np.random.Generator) -> None:
    (m1, c1), (m2, c2) = gaussian(d, d + 2, rng), gaussian(d, d + 2, rng)
    root = scipy.linalg.sqrtm(c1)
    cross = scipy.linalg.sqrtm(root @ c2 @ root).real
    expected = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * cross)
    assert frechet((m1, c1), (m2, c2)) == pytest.approx(expected, rel=1e-10)
    assert gaussian_w2((m1, c1), (m2, c2)) ** 2 == pytest.approx(expected, rel=1e-10)
    if d > 1:  # mutant: tr(C1^1/2 C2^1/2), right only where the covariances commute
        mutant = np.sum((m1 - m2) ** 2) + np.trace(c1 + c2 - 2 * root @ scipy.linalg.sqrtm(c2))
        assert mutant.real > 1.001 * expected


@given(arrays(float, (4, 5), elements=st.floats(0, 3)), st.integers(0, 99))
def test_commuting_covariances_reduce_to_coordinates(table: np.ndarray, seed: int) -> None:
    """In a common eigenbasis W_2^2 = |m1 - m2|^2 + |s1 - s2|^2, zero widths included."""
    m1, m2, s1, s2 = table
    u = rotation(5, np.random.default_rng(seed))
    expected = np.sum((m1 - m2) ** 2) + np.sum((s1 - s2) ** 2)
    got = frechet((u @ m1, u * s1**2 @ u.T), (u @ m2, u * s2**2 @ u.T))
    assert got == pytest.approx(expected, rel=1e-9, abs=2e-6)


def test_a_singular_fit_has_distance_zero_to_itself(rng: np.random.Generator) -> None:
    x = rng.normal(size=(10, 64))
    assert frechet(x, x) < 1e-12
    assert frechet(x, x + 1.0) == pytest.approx(64.0, rel=1e-12)


def test_sample_pair_and_law_are_one_gaussian(rng: np.random.Generator) -> None:
    x, law = rng.normal(size=(50, 2, 2)), GaussianMixture.ring(3, 2.0, 0.5)
    flat = x.reshape(50, 4)
    pair = flat.mean(axis=0), np.cov(flat.T)
    assert frechet(x, pair) < 1e-12
    y = flat[:, :2]
    expected = frechet((y.mean(axis=0), np.cov(y.T)), (law.mean, law.cov))
    assert frechet(y, law) == pytest.approx(expected, rel=1e-12)


def test_divergence_agrees_with_the_textbook_formula(rng: np.random.Generator) -> None:
    (m1, c1), (m2, c2) = gaussian(5, 7, rng), gaussian(5, 7, rng)
    gap, inverse = m2 - m1, np.linalg.inv(c2)
    logs = np.linalg.slogdet(c2)[1] - np.linalg.slogdet(c1)[1]
    expected = 0.5 * (np.trace(inverse @ c1) - 5 + gap @ inverse @ gap + logs)
    assert gaussian_kl((m1, c1), (m2, c2)) == pytest.approx(expected, rel=1e-11)
    assert abs(gaussian_kl((m2, c2), (m1, c1)) / expected - 1) > 0.1  # mutant: arguments swapped


def test_divergence_keeps_the_digits_of_a_small_one() -> None:
    """Variance 1 + h against 1: h^2/4 - h^3/6 to leading orders, far below rounding of log det."""
    h = 2.0**-30
    p, q = (np.zeros(3), (1 + h) * np.eye(3)), (np.zeros(3), np.eye(3))
    assert gaussian_kl(p, q) == pytest.approx(3 * (h**2 / 4 - h**3 / 6), rel=1e-6)


@given(st.integers(0, 10**6))
def test_divergence_does_not_depend_on_coordinates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (m1, c1), (m2, c2) = gaussian(3, 5, rng), gaussian(3, 5, rng)
    a = rotation(3, rng) @ np.diag([0.5, 1.0, 3.0])
    moved = gaussian_kl((a @ m1, a @ c1 @ a.T), (a @ m2, a @ c2 @ a.T))
    assert moved == pytest.approx(gaussian_kl((m1, c1), (m2, c2)), rel=1e-8)


def test_divergence_of_a_singular_gaussian_is_infinite() -> None:
    flat, full = (np.zeros(2), np.diag([1.0, 0.0])), (np.zeros(2), np.eye(2))
    assert gaussian_kl(flat, full) == math.inf
    with pytest.raises(ValueError, match="`q` is singular.*diffuse both"):
        gaussian_kl(full, flat)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frechet((np.zeros(2), np.eye(3)), GOOD), "a mean .d,. and a cov"),
        (lambda: frechet((np.zeros(2), np.diag([1, -1])), GOOD), "eigenvalue -1"),
        (lambda: frechet((np.zeros(2), np.diag([1, np.nan])), GOOD), "NaN, inf"),
        (lambda: frechet((np.zeros(2), np.triu(np.ones((2, 2)))), GOOD), "symmetric"),
        (lambda: gaussian_kl((0.0, 1.0), (np.zeros(2), np.eye(2))), "one dimension"),
        (lambda: gaussian_kl((0.0, -1.0), (0.0, 1.0)), "eigenvalue -1"),
        (lambda: gaussian_w2((0.0, math.inf), (0.0, 1.0)), "`p` has a mean or cov"),
        (lambda: frechet(GOOD, GOOD[:, 0]), "d = 2 and d = 1"),
        (lambda: frechet(GOOD[:1], GOOD), "n >= 2"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
