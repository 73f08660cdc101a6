"""Bases of images: orthonormal, there and back, and the half of the grid that real images need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import fft

from refsde._bases import Basis

BASES = [Basis("fft"), Basis("dct"), Basis("pixel"), Basis("fft", 1), Basis("dct", 1)]
SHAPES = [(2, 5, 7), (3, 8, 6), (1, 1, 4), (2, 9, 1)]
every = pytest.mark.parametrize("basis", BASES, ids=str)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


@every
@shapes
def test_there_and_back(basis: Basis, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((4, *shape))
    kept = x.copy()
    back = basis.backward(basis.forward(x), shape)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-14)
    assert back.dtype == np.float64 and np.array_equal(x, kept)


@every
@shapes
def test_lengths_are_kept_if_twins_are_counted(basis: Basis, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal((4, *shape))
    power = np.abs(basis.forward(x)) ** 2 * basis.counts(shape)
    np.testing.assert_allclose(power.sum(axis=(1, 2, 3)), (x * x).sum(axis=(1, 2, 3)), rtol=1e-13)


@shapes
def test_what_is_kept_is_half_of_the_full_transform(shape: tuple[int, ...]) -> None:
    basis, x = Basis("fft"), np.random.default_rng(2).standard_normal(shape)
    full = fft.fftn(x, axes=(-2, -1), norm="ortho")
    np.testing.assert_allclose(basis.kept(full), basis.forward(x), rtol=0, atol=1e-14)
    np.testing.assert_allclose(basis.even(np.abs(full)), np.abs(full), rtol=0, atol=1e-14)
    assert basis.counts(shape).sum() == shape[-1]


def test_even_is_the_opposite_frequency() -> None:
    table = np.random.default_rng(3).standard_normal((2, 5, 6))
    opposite = Basis("fft").even(table)
    for i in range(5):
        for j in range(6):
            assert np.array_equal(opposite[:, i, j], table[:, -i % 5, -j % 6])
    assert Basis("dct").even(table) is table


@pytest.mark.parametrize("basis", [Basis("fft"), Basis("dct")], ids=str)
def test_a_wave_has_the_coefficient_of_its_frequency(basis: Basis) -> None:
    n, k = 16, (3, 4)
    grid = np.arange(n)
    if basis.name == "fft":
        wave = np.cos(2 * np.pi * (k[0] * grid[:, None] + k[1] * grid) / n)
    else:
        wave = np.outer(*(np.cos(np.pi * j * (grid + 0.5) / n) for j in k))
    where = np.unravel_index(np.argmax(np.abs(basis.forward(wave))), basis.forward(wave).shape)
    radius = basis.kept(basis.frequency((n, n)))[where]
    assert radius == 5.0


def test_frequencies_of_an_oblong_count_cycles_a_longest_edge() -> None:
    found = Basis("fft").frequency((4, 8))
    assert found[1, 0] == 2.0  # one cycle over half the length is two over the whole
    assert found[0, 1] == 1.0 and found[0, 0] == 0.0
    assert not Basis("pixel").frequency((4, 8)).any()


def _torch() -> Any:
    torch = pytest.importorskip("torch")
    return torch.asarray, torch


def _strict() -> Any:
    xp = pytest.importorskip("array_api_strict")
    return xp.asarray, xp


@every
@shapes
@pytest.mark.parametrize("library", [_torch, _strict])
def test_other_libraries_agree(basis: Basis, shape: tuple[int, ...], library: Any) -> None:
    make, _ = library()
    x = np.random.default_rng(4).standard_normal((2, *shape))
    there = basis.forward(make(x))
    np.testing.assert_allclose(np.asarray(there), basis.forward(x), rtol=0, atol=1e-13)
    back = basis.backward(there, shape)
    np.testing.assert_allclose(np.asarray(back), x, rtol=0, atol=1e-13)


def test_float32_stays_float32() -> None:
    x = np.random.default_rng(5).standard_normal((2, 6, 5)).astype(np.float32)
    for basis in BASES:
        X = basis.forward(x)
        assert X.dtype in (np.float32, np.complex64)
        assert basis.backward(X, x.shape).dtype == np.float32
