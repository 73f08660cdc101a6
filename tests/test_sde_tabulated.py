"""SDEs from a table: on its own grid a table is the published discrete chain, digit for digit."""

from __future__ import annotations

import math

import numpy as np
import pytest

import refsde as rs

BETAS = np.linspace(0.02, 0.5, 8)
SIGMAS = np.geomspace(0.05, 9.0, 6)
DDPM, SMLD = rs.Tabulated(BETAS), rs.Tabulated(sigmas=SIGMAS)


def test_ddpm_table_is_the_ddpm_chain():
    sde, N = rs.Tabulated.from_betas("linear", n=1000), 1000
    betas = np.linspace(1e-4, 0.02, N)
    np.testing.assert_allclose(sde.betas, betas, rtol=1e-14)
    abar = np.cumprod(1 - betas)
    assert f"{abar[-1]:.4e}" == "4.0358e-05"
    t = np.arange(1, N + 1) / N
    np.testing.assert_allclose(sde.alpha(t[:, None])[:, 0] ** 2, abar, rtol=1e-12)
    np.testing.assert_allclose(sde.sigma(t[:, None])[:, 0] ** 2, 1 - abar, rtol=1e-12)
    for i in range(N):
        a, q = sde.chain(t[i], t[i] - 1 / N if i else 0.0)
        assert math.isclose(a, math.sqrt(1 - betas[i]), rel_tol=1e-12)
        assert math.isclose(q, betas[i], rel_tol=1e-12)


def test_ddpm_level_i_sits_at_i_plus_one_over_N():
    # the phase shift: the other reading, i / (N - 1), is ten times worse
    sde, N = rs.VP(), 1000
    std = np.sqrt(1 - np.cumprod(1 - np.linspace(1e-4, 0.02, N)))
    shifted = np.abs(std - sde.sigma((np.arange(N) + 1.0) / N))
    unshifted = np.abs(std - sde.sigma(np.arange(N) / (N - 1.0)))
    assert f"{shifted.max():.1e}" == "1.3e-03"
    assert f"{unshifted.max():.1e}" == "1.0e-02" and np.argmax(unshifted) == 0


def test_smld_table_is_the_smld_chain():
    sde = SMLD
    for i, sigma in enumerate(SIGMAS):
        t, s = (i + 1) / 6, i / 6
        before = SIGMAS[i - 1] if i else 0.0
        assert math.isclose(sde.sigma(t), sigma, rel_tol=1e-14)
        a, q = sde.chain(t, s)
        assert a == 1 and math.isclose(q, sigma**2 - before**2, rel_tol=1e-12)
    assert sde.n == 6 and sde.sigma(0.0) == 0.0


def test_tables_fit_the_continuous_sde_as_N_grows():
    errors = [
        abs(rs.Tabulated.from_betas("linear", n=n).lam(0.5) - rs.VP().lam(0.5))
        for n in (500, 1000, 2000)
    ]
    slopes = np.diff(np.log2(errors))
    np.testing.assert_allclose(slopes, -1, atol=0.05)  # O(1 / N)


def test_named_tables():
    scaled = rs.Tabulated.from_betas("scaled_linear", n=1000, beta_min=0.85, beta_max=12.0)
    np.testing.assert_allclose(scaled.betas, np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    cosine = rs.Tabulated.from_betas("cosine", n=1000)
    assert cosine.betas.max() == 0.999
    c, i = 0.008, np.arange(1, 900)
    f = np.cos((i / 1000 + c) / (1 + c) * np.pi / 2) ** 2 / np.cos(c / (1 + c) * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine.alpha(i[:, None] / 1000)[:, 0] ** 2, f, rtol=1e-11)
    assert repr(cosine) == "Tabulated(betas: 1000 levels)"
    assert repr(SMLD) == "Tabulated(sigmas: 6 levels)"


def test_table_slopes_belong_to_the_interval_on_the_left():
    # a reverse step from t_i = (i + 1) / N goes through beta_i
    sde = DDPM
    for i, beta in enumerate(BETAS):
        for t in ((i + 1) / 8, (i + 0.5) / 8):
            assert math.isclose(sde.g2(t), -8 * math.log1p(-beta), rel_tol=1e-13)
            assert math.isclose(sde.f(t), 4 * math.log1p(-beta), rel_tol=1e-13)
    assert sde.g2(0.0) == sde.g2(1e-9)


def test_a_table_does_not_change_with_its_callers_array():
    betas = BETAS.copy()
    sde = rs.Tabulated(betas)
    betas[:] = 0.5
    np.testing.assert_array_equal(sde.betas, BETAS)
    with pytest.raises(ValueError, match="read-only"):
        sde.betas[0] = 0.5


def test_the_latex_of_a_table_is_that_of_its_chain():
    assert r"\beta_i" in DDPM._repr_latex_()
    assert r"\sigma_i" in SMLD._repr_latex_()
    assert r"\beta" not in SMLD._repr_latex_()
