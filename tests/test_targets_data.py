"""Digits and patches: what they are, safe caches, and what happens without the extras."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import refsde as rs
from refsde.targets import data

pytest.importorskip("sklearn")
pytest.importorskip("PIL")


def test_digits_are_the_1797_images_between_minus_one_and_one():
    from sklearn.datasets import load_digits

    X, labels = rs.targets.digits()
    raw = load_digits()
    np.testing.assert_array_equal(X * 8 + 8, raw.data)  # sixteen grey levels: exact in binary
    np.testing.assert_array_equal(labels, raw.target)
    assert X.shape == (1797, 64) and X.dtype == float and (X.min(), X.max()) == (-1, 1)


def test_patches_are_windows_of_the_photographs():
    from sklearn.datasets import load_sample_images

    grey = np.mean(np.stack(load_sample_images().images), axis=3) / 127.5 - 1
    found = rs.targets.patches(8, 20, rng=0)
    assert found.shape == (20, 64) and found.dtype == float and np.all(np.abs(found) <= 1)
    windows = np.lib.stride_tricks.sliding_window_view(grey, (8, 8), axis=(1, 2))
    for patch in found:
        image, row, column = np.nonzero(np.all(windows[:, :, :, 0] == patch[:8], axis=3))
        assert any(
            np.array_equal(windows[i, r, c].ravel(), patch)
            for i, r, c in zip(image, row, column, strict=True)
        )


def test_patches_come_from_every_place(seed):
    # Where a 1 x 1 patch falls is uniform over 2 x 427 x 640 pixels, whose moments are known.
    grey = data._photographs()
    x = rs.targets.patches(1, 50_000, rng=seed)[:, 0]
    z = (x.mean() - grey.mean()) / (grey.std() / np.sqrt(len(x)))
    assert abs(z) < 4.9  # false alarm 1e-6
    z_of_one_photograph = (x.mean() - grey[0].mean()) / (grey[0].std() / np.sqrt(len(x)))
    assert abs(z_of_one_photograph) > 4.9  # the mutant: one photograph only


def test_patch_i_depends_on_the_seed_and_i_alone():
    long = rs.targets.patches(4, 500, rng=3)
    np.testing.assert_array_equal(rs.targets.patches(4, 7, rng=3), long[:7])
    np.testing.assert_array_equal(rs.targets.patches(4, 7, rng=np.random.default_rng(3)), long[:7])
    assert rs.targets.patches(427, 2, rng=0).shape == (2, 427 * 427)
    assert rs.targets.patches(8, 0, rng=0).shape == (0, 64)


def test_a_caller_who_writes_into_the_data_harms_nobody():
    X, labels = rs.targets.digits()
    X[:] = 7
    labels[:] = 7
    assert rs.targets.digits()[0].max() == 1 and rs.targets.digits()[1].min() == 0
    rs.targets.patches(8, 5, rng=0)[:] = 7
    assert rs.targets.patches(8, 5, rng=0).max() <= 1
    assert data._digits() is data._digits() and data._photographs() is data._photographs()


def test_the_digits_mixture_is_scikit_learns_fit():
    from sklearn.mixture import GaussianMixture

    X, _ = rs.targets.digits()
    fitted = GaussianMixture(10, reg_covar=1e-2, random_state=0).fit(X)
    target = rs.targets.digits_mixture()
    np.testing.assert_allclose(target.weights, fitted.weights_, rtol=1e-10)
    np.testing.assert_allclose(target.logpdf(X), fitted.score_samples(X), rtol=1e-9)
    np.testing.assert_allclose(target.mean, X.mean(axis=0), atol=1e-12)  # a fixed point of EM
    added = 1e-2 * np.eye(64)
    np.testing.assert_allclose(target.cov, np.cov(X.T, bias=True) + added, atol=1e-10)
    assert target is rs.targets.digits_mixture()


def test_the_patches_mixture_explains_patches_it_has_not_seen():
    target = rs.targets.patches_mixture()
    assert (target.dim, target.n_components) == (64, 10) and target is rs.targets.patches_mixture()
    seen, fresh = rs.targets.patches(8, 10_000, rng=0), rs.targets.patches(8, 2000, rng=1)
    np.testing.assert_allclose(target.mean, seen.mean(axis=0), atol=1e-12)
    one = rs.GaussianMixture([1.0], [seen.mean(axis=0)], [np.cov(seen.T)])
    assert target.logpdf(fresh).mean() > one.logpdf(fresh).mean() + 10  # nats a patch
    assert target.eigh()[0].min() >= 0.999e-4


@pytest.mark.parametrize(
    ("function", "module", "words"),
    [
        ("digits", "sklearn.datasets", "scikit-learn.*refsde\\[all\\]"),
        ("patches", "sklearn.datasets", "scikit-learn and Pillow.*refsde\\[all\\]"),
        ("patches", "PIL", "scikit-learn and Pillow.*refsde\\[all\\]"),
        ("digits_mixture", "sklearn.mixture", "scikit-learn.*refsde\\[all\\]"),
    ],
)
def test_a_missing_extra_is_named(monkeypatch, function, module, words):
    caches = (data._digits, data._photographs, data.digits_mixture)
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=words):
        getattr(rs.targets, function)()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0,), "`size`"), ((428,), "`size`.*427"), ((8.0,), "`size`"), ((True,), "`size`")]
    + [((8, -1), "`n`"), ((8, 2.5), "`n`"), ((8, True), "`n`")],
)
def test_bad_input_is_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        rs.targets.patches(*arguments, rng=0)
    with pytest.raises(TypeError, match="`rng`"):
        rs.targets.patches(8, 5, rng="seed")


def test_below_the_window_the_spectrum_of_photographs_is_a_power_law() -> None:
    """Frequencies below 1/64 go on with the exponent of the docstring, at every size alike."""
    S = rs.targets.photographs_field(512).spectrum[0]
    slopes = np.diff(np.log(S[0, [1, 2, 4, 8]])) / np.log(2)
    np.testing.assert_allclose(slopes, -2.35, atol=0.005)
    half = rs.targets.photographs_field(256).spectrum[0]
    np.testing.assert_allclose(S[0, 2:64:2], half[0, 1:32], rtol=1e-10)
