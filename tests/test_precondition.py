"""Linear maps: each against the dense matrix it stands for, and against formulas in NumPy."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import refsde as rs
from refsde import precondition as pc
from refsde.testing import strategies

EXACT = 1e-12
RNG = np.random.default_rng(11)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2.0, shape)


def evened(table: np.ndarray, axes: int = 2) -> np.ndarray:
    """The even part of a table of frequencies."""
    last = tuple(range(-axes, 0))
    return 0.5 * (table + np.roll(np.flip(table, last), 1, last))


def odd(table: np.ndarray, axes: int = 2) -> np.ndarray:
    return table - evened(table, axes)


def invertible(d: int) -> np.ndarray:
    return np.eye(d) + 0.4 * RNG.standard_normal((d, d)) / math.sqrt(d)


def symmetric(d: int) -> np.ndarray:
    half = invertible(d)
    return np.asarray(half @ half.T)


def banded(d: int) -> Any:
    return sparse.diags_array([positive(d), 0.3 * positive(d - 1)], offsets=[0, 1]).tocsr()


#: name -> (map, an event it takes)
MAPS: dict[str, tuple[pc.Preconditioner, tuple[int, ...]]] = {
    "identity": (pc.Identity(), (3, 4)),
    "scalar": (pc.Scalar(1.7), (5,)),
    "diagonal": (pc.Diagonal(positive(5)), (5,)),
    "diagonal-image": (pc.Diagonal(positive(3, 4)), (3, 4)),
    "diagonal-channels": (pc.Diagonal(positive(3, 4)), (2, 3, 4)),
    "fourier": (pc.Fourier(evened(positive(4, 6))), (4, 6)),
    "fourier-odd": (pc.Fourier(evened(positive(5, 7))), (5, 7)),
    "fourier-mixed": (pc.Fourier(evened(positive(4, 5))), (4, 5)),
    "fourier-row": (pc.Fourier(evened(positive(1, 4))), (1, 4)),
    "fourier-signal": (pc.Fourier(evened(positive(7), 1), axes=1), (7,)),
    "fourier-signals": (pc.Fourier(evened(positive(2, 6), 1), axes=1), (2, 6)),
    "fourier-broadcast": (pc.Fourier(evened(positive(3, 4))), (3, 3, 4)),
    "fourier-coloured": (pc.Fourier(evened(positive(3, 3, 4))), (3, 3, 4)),
    "dct": (pc.DCT(positive(4, 5)), (4, 5)),
    "dct-signal": (pc.DCT(positive(6), axes=1), (6,)),
    "dct-broadcast": (pc.DCT(positive(3, 4)), (3, 3, 4)),
    "dense": (pc.Dense(invertible(5)), (5,)),
    "dense-image": (pc.Dense(invertible(6), (2, 3)), (2, 3)),
    "dense-channels": (pc.Dense(invertible(6), (2, 3)), (2, 2, 3)),
    "sparse": (pc.Dense(banded(6)), (6,)),
    "sparse-matrix": (pc.Dense(sparse.csc_matrix(banded(6)), (2, 3)), (2, 3)),
    "product": (pc.Fourier(evened(positive(3, 4))) @ pc.Diagonal(positive(3, 4)), (3, 4)),
    "product-same": (pc.DCT(positive(3, 4)) @ pc.Scalar(1.3) @ pc.DCT(positive(3, 4)), (3, 4)),
    "product-three": (
        pc.Product(
            pc.Dense(invertible(6), (2, 3)),
            pc.Fourier(evened(positive(2, 3))),
            pc.Diagonal(positive(2, 3)),
        ),
        (2, 3),
    ),
    "product-channels": (pc.Fourier(evened(positive(3, 4))) @ pc.DCT(positive(2, 3, 4)), (2, 3, 4)),
    "inverse-dense": (pc.Dense(invertible(5)).inverse(), (5,)),
    "inverse-sparse": (pc.Dense(banded(5)).inverse(), (5,)),
    "inverse-product": (
        (pc.DCT(positive(2, 3)) @ pc.Dense(invertible(6), (2, 3))).inverse(),
        (2, 3),
    ),
    "stepped": (pc.Stepwise(lambda t, s: pc.Diagonal([1.0 + t, 2.0, 3.0])).at(0.5, 0.4), (3,)),
}
ROOTED: dict[str, tuple[pc.Preconditioner, tuple[int, ...]]] = {
    **{name: MAPS[name] for name in MAPS if not name.startswith(("dense", "sparse", "inverse"))},
    "dense": (pc.Dense(symmetric(5)), (5,)),
    "sparse": (pc.Dense(sparse.csr_array(symmetric(4))), (4,)),
    "inverse-dense": (pc.Dense(symmetric(5)).inverse(), (5,)),
}
ROOTED = {name: pair for name, pair in ROOTED.items() if name[:7] != "product" or "same" in name}
SKEWS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "skew": (pc.Skew([[0.0, 2.0, -1.0], [-2.0, 0.0, 0.5], [1.0, -0.5, 0.0]]), (3,)),
    "skew-image": (pc.Skew(odd(np.zeros((6, 6))), (2, 3)), (2, 3)),
    "fourier-skew": (pc.FourierSkew(odd(positive(4, 5))), (4, 5)),
    "fourier-skew-signal": (pc.FourierSkew(odd(positive(7), 1), axes=1), (7,)),
    "fourier-skew-broadcast": (pc.FourierSkew(odd(positive(3, 4))), (2, 3, 4)),
}
EVERY = {**MAPS, **SKEWS}


def over(maps: dict[str, Any]) -> Any:
    return pytest.mark.parametrize(
        ("M", "event"), [pytest.param(*pair, id=name) for name, pair in maps.items()]
    )


def matrix_of(M: pc.Preconditioner, event: tuple[int, ...]) -> np.ndarray:
    """The dense matrix, from what M makes of each unit event."""
    d = math.prod(event)
    return np.asarray(M.apply(np.eye(d).reshape(d, *event)).reshape(d, d).T)


def draws(event: tuple[int, ...], *batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*batch, *event))


def close(got: Any, want: Any, tolerance: float = EXACT) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1.0, np.abs(want).max()))


# -- what every map is ----------------------------------------------------------------------------


@over(EVERY)
def test_the_transpose_is_the_adjoint(M: Any, event: tuple[int, ...]) -> None:
    z, w = draws(event, 3), draws(event, 3, seed=1)
    axes = tuple(range(1, z.ndim))
    got, want = np.sum(M.apply(z) * w, axes), np.sum(z * M.apply_transpose(w), axes)
    close(got, want, EXACT * z[0].size)


@over(EVERY)
def test_the_gram_is_the_map_after_its_transpose(M: Any, event: tuple[int, ...]) -> None:
    z, D = draws(event, 3), matrix_of(M, event)
    close(M.gram(z), M.apply(M.apply_transpose(z)))
    close(M.gram(z), (z.reshape(3, -1) @ (D @ D.T).T).reshape(z.shape))


@over(EVERY)
def test_batch_axes_are_left_alone(M: Any, event: tuple[int, ...]) -> None:
    """None, one and two of them, and an empty batch."""
    z = draws(event, 2, 3)
    for act in (M.apply, M.apply_transpose, M.gram):
        out = act(z)
        assert out.shape == z.shape
        for i, j in np.ndindex(2, 3):
            close(act(z[i])[j], out[i, j], 1e-14)
            close(act(z[i, j]), out[i, j], 1e-14)
        assert act(z[:0]).shape == (0, 3, *event)


@over(EVERY)
def test_a_row_has_the_same_bits_in_any_batch(M: Any, event: tuple[int, ...]) -> None:
    z = draws(event, 300)
    for act in (M.apply, M.apply_transpose, M.gram):
        whole = act(z)
        for n in (1, 3):
            np.testing.assert_array_equal(act(z[:n]), whole[:n])
        np.testing.assert_array_equal(act(z.reshape(3, 100, *event))[1], whole[100:200])
        np.testing.assert_array_equal(act(z[297:]), whole[297:])


@over(EVERY)
def test_single_precision_stays_single(M: Any, event: tuple[int, ...]) -> None:
    z = draws(event, 3)
    for act in (M.apply, M.apply_transpose, M.gram):
        out = act(z.astype(np.float32))
        assert out.dtype == np.float32
        close(out, act(z), 2e-6)
    if hasattr(M, "c") or event == (5,):
        assert M.solve(z.astype(np.float32)).dtype == np.float32


@over(EVERY)
def test_the_argument_is_not_written_on(M: Any, event: tuple[int, ...]) -> None:
    z = draws(event, 3)
    kept = z.copy()
    z.setflags(write=False)
    acts = [M.apply, M.apply_transpose, M.gram]
    for act in acts if M in [m for m, _ in SKEWS.values()] else [*acts, M.solve]:
        act(z)
        strided = np.asfortranarray(np.concatenate([z, z]))[::2]
        close(act(strided), act(np.ascontiguousarray(strided)), 1e-14)
    np.testing.assert_array_equal(z, kept)


@over(EVERY)
def test_the_linear_operator_is_the_matrix(M: Any, event: tuple[int, ...]) -> None:
    D, d = matrix_of(M, event), math.prod(event)
    operator = M.as_linear_operator(event)
    v, V = draws((d,)), draws((d, 4), seed=2)
    assert operator.shape == (d, d)
    close(operator @ np.eye(d), D)
    close(operator.matvec(v), D @ v)
    close(operator.matmat(V), D @ V)
    close(operator.rmatvec(v), D.T @ v)
    close(operator.rmatmat(V), D.T @ V)
    close(operator.H @ v, D.T @ v)


@over({name: pair for name, pair in EVERY.items() if name != "stepped"})
def test_a_pickle_is_the_same_map(M: Any, event: tuple[int, ...]) -> None:
    z = draws(event, 2)
    M.apply(z)  # with its tables made
    again = pickle.loads(pickle.dumps(M))
    np.testing.assert_array_equal(again.apply(z), M.apply(z))
    assert repr(again) == repr(M)


# -- inverse, root, determinant, spectrum ---------------------------------------------------------


@over(MAPS)
def test_solving_undoes_the_map(M: Any, event: tuple[int, ...]) -> None:
    z = draws(event, 2, 3)
    close(M.solve(M.apply(z)), z, 1e-11)
    close(M.apply(M.solve(z)), z, 1e-11)


@over(MAPS)
def test_the_inverse_is_a_map(M: Any, event: tuple[int, ...]) -> None:
    z, inverse = draws(event, 3), M.inverse()
    D = np.linalg.inv(matrix_of(M, event))
    close(matrix_of(inverse, event), D, 1e-11)
    close(inverse.apply_transpose(z).reshape(3, -1), z.reshape(3, -1) @ D, 1e-11)
    close(inverse.gram(z).reshape(3, -1), z.reshape(3, -1) @ (D @ D.T).T, 1e-10)
    close(inverse.solve(z), M.apply(z), 1e-11)
    close(matrix_of(inverse.inverse(), event), matrix_of(M, event), 1e-11)
    assert inverse.logdet(event) == pytest.approx(-M.logdet(event), abs=1e-10)
    assert inverse.static and inverse.basis == M.basis


@over(ROOTED)
def test_the_root_twice_is_the_map(M: Any, event: tuple[int, ...]) -> None:
    root = matrix_of(M.sqrt(), event)
    close(root @ root, matrix_of(M, event), 1e-10)
    close(root, root.T, 1e-10)


@over(MAPS)
def test_the_determinant_is_that_of_the_matrix(M: Any, event: tuple[int, ...]) -> None:
    sign, want = np.linalg.slogdet(matrix_of(M, event))
    assert M.logdet(event) == pytest.approx(want, abs=1e-10)
    if M.event_shape == event:
        assert M.logdet() == M.logdet(event)


@over(MAPS)
def test_the_spectrum_is_that_of_the_gram(M: Any, event: tuple[int, ...]) -> None:
    D, u = matrix_of(M, event), M.spectrum()
    if u is None:
        assert M.basis is None
        return
    want = np.linalg.eigvalsh(D @ D.T)
    channels = math.prod(event) // max(u.size, 1) if M.basis is None else 1
    table = np.tile(u, channels) if M.basis is None else np.broadcast_to(u, event)
    close(np.sort(table.reshape(-1)), want, 1e-11)


def test_which_maps_know_their_spectrum() -> None:
    unknown = {name for name, (M, _) in MAPS.items() if M.spectrum() is None}
    mixed = {"product", "product-three", "product-channels", "inverse-product"}
    assert unknown == {"sparse", "sparse-matrix", "inverse-sparse"} | mixed


@over({name: pair for name, pair in MAPS.items() if pair[0].basis is not None})
def test_a_map_is_diagonal_in_its_basis(M: Any, event: tuple[int, ...]) -> None:
    z = draws(event, 2)
    gain = M.basis.kept(np.sqrt(np.broadcast_to(M.spectrum(), event)))
    close(M.basis.forward(M.apply(z)), gain * M.basis.forward(z), 1e-12)


@over(MAPS)
def test_the_covariance_of_coloured_noise_is_the_gram(M: Any, event: tuple[int, ...]) -> None:
    """M E[z z^T] M^T = A: exactly, with the unit events for noise."""
    D = matrix_of(M, event)
    d = len(D)
    close(D @ D.T, M.gram(np.eye(d).reshape(d, *event)).reshape(d, d))


# -- formulas -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MAPS if name.startswith("fourier")])
def test_a_fourier_filter_is_the_complex_formula(name: str) -> None:
    M, event = MAPS[name]
    z, last = draws(event, 4), M.basis.last  # type: ignore[union-attr]
    want = np.fft.ifftn(M.gain * np.fft.fftn(z, axes=last), axes=last)  # type: ignore[attr-defined]
    assert np.abs(want.imag).max() < 1e-14
    got = M.apply(z)
    assert got.dtype == float
    close(got, want.real, 1e-14)


@pytest.mark.parametrize("name", [name for name in SKEWS if name.startswith("fourier")])
def test_a_fourier_skew_is_the_complex_formula(name: str) -> None:
    K, event = SKEWS[name]
    z, last = draws(event, 4), K.basis.last
    want = np.fft.ifftn(1j * K.w * np.fft.fftn(z, axes=last), axes=last)
    assert np.abs(want.imag).max() < 1e-14
    close(K.apply(z), want.real, 1e-14)


@over(SKEWS)
def test_a_skew_map_is_skew(M: Any, event: tuple[int, ...]) -> None:
    D = matrix_of(M, event)
    close(D, -D.T)
    z = draws(event, 5)
    close(np.sum(z * M.apply(z), axis=tuple(range(1, z.ndim))), np.zeros(5), 1e-12)


def test_a_filter_leaves_the_mean_times_its_gain_at_zero() -> None:
    R = np.ones((4, 5))
    R[0, 0] = 3.0
    for M in (pc.Fourier(R), pc.DCT(R)):
        close(M.apply(np.full((4, 5), 2.0)), np.full((4, 5), 6.0))


def test_a_wave_is_an_eigenvector() -> None:
    """At the frequency of numpy.fft.fftfreq that it has, and not at its mirror on the grid."""
    n = 8
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    R = evened(positive(n, n))
    for a, b in [(1, 0), (0, 3), (2, 5), (4, 4), (7, 1)]:
        wave = np.cos(2 * np.pi * (a * i + b * j) / n + 0.3)
        close(pc.Fourier(R).apply(wave), R[a, b] * wave, 1e-13)


def test_a_product_acts_from_the_right_and_its_transpose_reverses() -> None:
    A, B = pc.Dense(invertible(3)), pc.Dense(invertible(3))
    z = draws((3,), 2)
    P = A @ B @ A
    assert isinstance(P, pc.Product) and len(P.factors) == 3
    close(P.apply(z), A.apply(B.apply(A.apply(z))))
    close(P.apply_transpose(z), A.apply_transpose(B.apply_transpose(A.apply_transpose(z))))
    close(matrix_of(P, (3,)), A.matrix @ B.matrix @ A.matrix)
    assert repr(P) == "Dense(3 x 3) @ Dense(3 x 3) @ Dense(3 x 3)"
    close(pc.Product(A).apply(z), A.apply(z))


def test_the_published_pair_of_filters_is_its_formula() -> None:
    """M M^T s = F^-1[R_f F[R_p^2 F^-1[R_f F s]]], both filters on at once."""
    Rf, Rp, s = evened(positive(6, 6)), positive(6, 6), draws((6, 6), 3)

    def filtered(x: np.ndarray) -> np.ndarray:
        return np.fft.ifft2(Rf * np.fft.fft2(x)).real

    M = pc.Fourier(Rf) @ pc.Diagonal(Rp)
    close(M.apply(s), filtered(Rp * s), 1e-14)
    close(M.gram(s), filtered(Rp**2 * filtered(s)), 1e-14)


def test_from_spectrum_and_from_gram_give_the_covariance() -> None:
    u = evened(positive(4, 5))
    close(pc.Fourier.from_spectrum(u).spectrum(), u)
    close(pc.Diagonal.from_spectrum(u).gain, np.sqrt(u))
    A = symmetric(4)
    M = pc.Dense.from_gram(A, (2, 2))
    close(M.gram(draws((2, 2), 3)).reshape(3, 4), draws((4,), 3) @ A)
    close(M.matrix, M.matrix.T)
    half = pc.Dense.from_gram([[1.0, 1.0], [1.0, 1.0]])  # semi-definite
    close(half.matrix @ half.matrix, np.ones((2, 2)))


def test_a_dense_map_of_another_is_its_matrix() -> None:
    for name in ("fourier", "dct", "product", "sparse"):
        M, event = MAPS[name]
        D = pc.Dense.of(M, event)
        close(D.matrix, matrix_of(M, event))
        close(D.apply(draws((math.prod(event),), 2)), draws((math.prod(event),), 2) @ D.matrix.T)


def test_a_matrix_over_events_of_channels_counts_once_a_channel() -> None:
    M = pc.Dense(invertible(3))
    assert M.logdet((2, 3)) == pytest.approx(2 * M.logdet())


def test_a_singular_map_that_was_asked_for() -> None:
    M = pc.Fourier([[1.0, 0.0], [1.0, 2.0]], allow_singular=True)
    assert M.logdet() == -math.inf and M.spectrum().min() == 0
    close(M.sqrt().apply(M.sqrt().apply(draws((2, 2)))), M.apply(draws((2, 2))))
    for act in (lambda: M.solve(draws((2, 2))), M.inverse):
        with pytest.raises(ValueError, match=r"`gain` of Fourier.* has zeros"):
            act()
    flat = pc.Dense([[1.0, 1.0], [1.0, 1.0]])
    thin = pc.Dense(sparse.csr_array([[1.0, 0.0], [0.0, 0.0]]))
    for dense in (flat, thin):
        assert dense.logdet() == -math.inf
        for act in (dense.solve, dense.inverse().apply):
            with pytest.raises(ValueError, match=r"`matrix` of Dense.* is singular"):
                act(np.ones((1, 2)))


def test_tables_are_not_the_callers_and_not_to_be_written_on() -> None:
    gain = np.ones((3, 3))
    M = pc.Fourier(gain)
    gain[:] = 7.0
    assert M.gain.max() == 1.0
    with pytest.raises(ValueError, match="read-only"):
        M.gain[0, 0] = 2.0
    matrix = np.eye(2)
    D = pc.Dense(matrix)
    matrix[:] = 7.0
    close(D.apply(np.ones((1, 2))), np.ones((1, 2)))


def test_reprs_say_what_the_map_is() -> None:
    told = {
        "Identity()": pc.Identity(),
        "Scalar(2)": pc.Scalar(2.0),
        "Diagonal(gain (2,), 1 to 3)": pc.Diagonal([1.0, 3.0]),
        "Fourier(gain (2, 3), 2 to 2)": pc.Fourier(np.full((2, 3), 2.0)),
        "DCT(gain (2, 3), 2 to 2)": pc.DCT(np.full((2, 3), 2.0)),
        "Dense(2 x 2)": pc.Dense(np.eye(2)),
        "Dense(sparse 2 x 2)": pc.Dense(sparse.eye_array(2)),
        "inverse of Dense(2 x 2)": pc.Dense(np.eye(2)).inverse(),
        "Skew(2 x 2)": pc.Skew([[0.0, 1.0], [-1.0, 0.0]]),
        "FourierSkew(w (1, 3), up to 1)": pc.FourierSkew([[0.0, 1.0, -1.0]]),
        "Scalar(2) @ Identity()": pc.Scalar(2.0) @ pc.Identity(),
        "Stepwise(faint)": pc.Stepwise(faint),
    }
    for want, M in told.items():
        assert repr(M) == want


def faint(t: float, s: float) -> pc.Preconditioner:
    return pc.Scalar(1 + t - s)


def test_a_stepwise_map_is_one_map_a_step() -> None:
    M = pc.Stepwise(faint)
    assert not M.static and M.spectrum() is None
    assert isinstance(M.at(0.9, 0.4), pc.Scalar) and M.at(0.9, 0.4).c == 1.5
    both = pc.Diagonal([1.0, 2.0]) @ M
    assert not both.static
    close(both.at(0.9, 0.4).apply(np.ones(2)), [1.5, 3.0])
    nested = pc.Stepwise(lambda t, s: M)
    assert nested.at(0.9, 0.4).c == 1.5  # type: ignore[attr-defined]
    close(both.inverse().at(0.9, 0.4).apply(np.ones(2)), [1 / 1.5, 1 / 3])
    for act in ("apply", "apply_transpose", "gram", "solve"):
        with pytest.raises(TypeError, match=r"depends on the step: use its map M.at\(t, s\)"):
            getattr(M, act)(np.ones(2))
    for M in (pc.Identity(), pc.Scalar(2.0)):
        assert M.at(0.9, 0.4) is M


def test_a_map_of_ones_own_needs_two_methods() -> None:
    class Twice(pc.Preconditioner):
        def apply(self, z: Any) -> Any:
            return 2 * z

        apply_transpose = apply

    M, z = Twice(), np.ones((2, 3))
    close(M.gram(z), 4 * z)
    close((M @ pc.Scalar(3.0)).gram(z), 36 * z)
    assert M.spectrum() is None and M.static and M.at(1.0, 0.5) is M
    sde = rs.VP()
    score = rs.GaussianMixture([1.0], [[0.5]], [1.0]).score(sde)
    process = rs.Preconditioned(sde, score, M, law="marginal")
    other = rs.Preconditioned(sde, score, pc.Scalar(2.0), law="marginal")
    runs = [rs.sample(p, rs.EulerMaruyama(), 4, times=3, rng=0).x for p in (process, other)]
    close(*runs, tolerance=1e-14)
    for act, word in [
        (lambda: M.solve(z), "no inverse to apply"),
        (M.sqrt, "no known root"),
        (M.logdet, "no known determinant"),
        (lambda: pc.Preconditioner().apply(z), r"must define apply\(z\)"),
        (lambda: pc.Preconditioner().apply_transpose(z), r"must define apply_transpose\(z\)"),
        (lambda: M.inverse().apply_transpose(z), "transposed inverse of .* is not known"),
    ]:
        with pytest.raises(NotImplementedError, match=word):
            act()


# -- properties -----------------------------------------------------------------------------------


@given(st.data())
def test_any_map_is_linear_and_its_gram_positive(data: Any) -> None:
    event = data.draw(st.sampled_from([(3,), (2, 3), (2, 3, 2)]))
    M = data.draw(strategies.preconditioners(event))
    z, w = draws(event, 2), draws(event, 2, seed=1)
    close(M.apply(z + 2 * w), M.apply(z) + 2 * M.apply(w), 1e-12)
    close(np.sum(M.apply(z) * w), np.sum(z * M.apply_transpose(w)), 1e-11)
    close(M.gram(z), M.apply(M.apply_transpose(z)), 1e-12)
    assert np.all(np.sum(z * M.gram(z), axis=tuple(range(1, z.ndim))) > 0)
    close(M.solve(M.apply(z)), z, 1e-9)
    D = matrix_of(M, event)
    assert M.logdet(event) == pytest.approx(np.linalg.slogdet(D)[1], abs=1e-9)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 99))
def test_fourier_filters_on_any_grid_are_real_and_symmetric(h: int, w: int, seed: int) -> None:
    R = evened(np.random.default_rng(seed).uniform(0.1, 3.0, (h, w)))
    M, z = pc.Fourier(R), draws((h, w), 2, seed=seed)
    want = np.fft.ifft2(R * np.fft.fft2(z))
    close(M.apply(z), want.real, 1e-13)
    assert np.abs(want.imag).max() < 1e-13


# -- bad input ------------------------------------------------------------------------------------

EVEN = np.ones((4, 4))
CENTRED = np.fft.fftshift(evened(1 + np.arange(15.0).reshape(3, 5)))
BAD: list[tuple[Any, type, str]] = [
    (lambda: pc.Scalar(0.0), ValueError, "`c` must be positive and finite, got 0.0"),
    (lambda: pc.Scalar(math.inf), ValueError, "`c` must be positive and finite, got inf"),
    (lambda: pc.Scalar(np.ones(3)), TypeError, "`c` must be a number.*for a table use Diagonal"),
    (lambda: pc.Scalar(True), TypeError, "`c` must be a number, got True"),
    (lambda: pc.Fourier(EVEN * 0), ValueError, "`gain` must be positive, got 16 zeros.*singular"),
    (lambda: pc.Diagonal([1.0, 0.0]), ValueError, "got 1 zeros.*allow_singular=True"),
    (lambda: pc.DCT(-EVEN), ValueError, "`gain` must not be negative, got -1: use its magnitude"),
    (lambda: pc.Fourier(EVEN * 1j), TypeError, "`gain` must be real.*goes into a FourierSkew"),
    (lambda: pc.Fourier(EVEN * np.nan), ValueError, "`gain` must be finite, got nan"),
    (lambda: pc.Fourier(["a"]), TypeError, "`gain` must be an array of real numbers"),
    (lambda: pc.Fourier(2.0), ValueError, r"got shape \(\): for one number use Scalar"),
    (lambda: pc.Fourier(np.ones((0, 4))), ValueError, "`gain` must be a table over the event"),
    (lambda: pc.Fourier(1 + np.arange(16.0).reshape(4, 4)), ValueError, "`gain` must be even"),
    (lambda: pc.Fourier(CENTRED), ValueError, r"fftfreq does \(numpy.fft.ifftshift of a centred"),
    (lambda: pc.Fourier(np.ones(4)), ValueError, r"`axes` = 2 axes .* shape \(4,\): pass axes=1"),
    (lambda: pc.DCT(EVEN, axes=0), ValueError, "`axes` must be a positive int, got 0"),
    (lambda: pc.Fourier(EVEN, axes=True), ValueError, "`axes` must be a positive int, got True"),
    (lambda: pc.Fourier.from_spectrum(-EVEN), ValueError, "`spectrum` must not be negative"),
    (lambda: pc.FourierSkew(EVEN), ValueError, r"`w` must be odd, w\(-k\) = -w\(k\)"),
    (lambda: pc.FourierSkew(1j * EVEN), TypeError, "`w` must be real"),
    (lambda: pc.Dense(np.ones((2, 3))), ValueError, r"`matrix` must be square.*got shape \(2, 3\)"),
    (lambda: pc.Dense(np.ones(3)), ValueError, "`matrix` must be square"),
    (lambda: pc.Dense(np.zeros((0, 0))), ValueError, "`matrix` must be square"),
    (lambda: pc.Dense([[math.inf]]), ValueError, "`matrix` must be finite"),
    (lambda: pc.Dense(sparse.csr_array([[math.nan]])), ValueError, "`matrix` must be finite"),
    (lambda: pc.Dense("rough"), TypeError, r"`matrix` must be a real matrix \(d, d\), got 'rough'"),
    (lambda: pc.Dense(np.eye(4), (3,)), ValueError, "`event_shape` must hold 4 numbers"),
    (lambda: pc.Dense.from_gram([[1.0, 2.0], [0.0, 1.0]]), ValueError, r"`A` .* \(A \+ A.T\) / 2"),
    (lambda: pc.Dense.from_gram(-np.eye(2)), ValueError, "`A` must be positive semi-definite"),
    (lambda: pc.Dense([[1.0, 2.0], [0.0, 1.0]]).sqrt(), ValueError, "`matrix` must be symmetric"),
    (lambda: pc.Skew(np.eye(2)), ValueError, r"`matrix` must be skew, .* use \(K - K.T\) / 2"),
    (lambda: pc.Product(), TypeError, "`factors` must be one or more preconditioners, got none"),
    (lambda: pc.Product(np.eye(2)), TypeError, "`factors` must be one or more preconditioners"),
    (lambda: pc.Identity() @ np.eye(2), TypeError, "`@` multiplies maps, got ndarray: use M.apply"),
    (lambda: pc.DCT(EVEN) @ pc.Diagonal([1.0]), ValueError, "`factors` must take the same events"),
    (lambda: (pc.DCT(EVEN) @ pc.Diagonal(EVEN)).sqrt(), NotImplementedError, "is not symmetric"),
    (lambda: pc.Stepwise(pc.Identity()), TypeError, r"`rule` must be a function \(t, s\)"),
    (lambda: pc.Stepwise(3.0), TypeError, "`rule` must be a function"),
    (lambda: pc.Stepwise(lambda t, s: EVEN).at(1, 0), TypeError, "`rule` must return a precond"),
    (lambda: pc.Scalar(2.0).logdet(), ValueError, r"`event_shape` is None.*pass event_shape=\(d,"),
    (lambda: pc.Identity().as_linear_operator(), ValueError, "`event_shape` is None"),
    (lambda: pc.Fourier(EVEN).apply(np.ones((2, 4, 5))), ValueError, r"events of shape \(4, 4\)"),
    (lambda: pc.Diagonal(EVEN).solve(np.ones((4, 1))), ValueError, "build the map for these"),
    (lambda: pc.Dense(np.eye(3)).gram(np.ones((2, 4))), ValueError, r"shape \(3,\) for Dense"),
    (lambda: pc.Dense(np.eye(3)).solve(np.ones((3, 4))), ValueError, r"shape \(3,\) for Dense"),
    (lambda: SKEWS["skew"][0].apply(np.ones((2, 4))), ValueError, r"shape \(3,\) for Skew"),
    (lambda: SKEWS["fourier-skew"][0].apply(np.ones(5)), ValueError, r"events of shape \(4, 5\)"),
]  # fmt: skip


@pytest.mark.parametrize("make, kind, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named_with_its_remedy(make: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        make()


def test_a_filter_that_is_even_only_when_centred_is_refused_where_it_can_be_told() -> None:
    """A centred table of an odd edge is uneven on the grid; of an even edge it can pass unseen."""
    radial = np.hypot(*np.meshgrid(*2 * [np.arange(-2.0, 3.0)], indexing="ij"))
    with pytest.raises(ValueError, match="numpy.fft.ifftshift of a centred table"):
        pc.Fourier(1 + radial)
    assert pc.Fourier(np.fft.ifftshift(1 + radial)).gain[0, 0] == 1.0
