"""The verbs that know array libraries: floats stay floats, arrays keep library and dtype."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from threadpoolctl import threadpool_info, threadpool_limits

from refsde import _array as verbs
from refsde._types import State

MATH = (
    "exp",
    "expm1",
    "log1p",
    "sin",
    "cos",
    "tan",
    "sinh",
    "asin",
    "atan",
    "asinh",
    "sqrt",
    "log",
)
floats = st.floats(-1e300, 1e300)
batches = npst.arrays(
    st.sampled_from([np.float32, np.float64]),
    npst.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.sampled_from([0.0, -1.5, 3.0, np.nan, np.inf, -np.inf, 3e38, -3e38]),
)


# -- elementwise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MATH)
def test_a_float_stays_a_python_float(name: str) -> None:
    """Also a NumPy scalar becomes one: it would widen a float32 state."""
    verb = getattr(verbs, name)
    for value in (0.37, np.float64(0.37), 1):
        got = verb(value)
        assert type(got) is float and got == getattr(math, name)(value)


@pytest.mark.parametrize("name", MATH)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_array_keeps_library_and_dtype(name: str, dtype: str, xp: Any) -> None:
    x = xp.asarray(np.array([[0.2], [0.7]], dtype=dtype))
    got = getattr(verbs, name)(x)
    assert type(got) is type(x) and got.dtype == x.dtype
    expected = [[getattr(math, name)(v)] for v in (0.2, 0.7)]
    assert np.asarray(got) == pytest.approx(np.array(expected), rel=1e-6)


def test_the_logarithm_of_zero_is_minus_infinity_for_floats_too(xp: Any) -> None:
    assert verbs.log(0.0) == verbs.log(0) == -math.inf and math.isnan(verbs.log(-1.0))
    assert np.asarray(verbs.log(xp.asarray([[0.0], [1.0]]))).ravel().tolist() == [-math.inf, 0.0]


@given(floats, floats)
def test_where_and_maximum_of_floats(a: float, b: float) -> None:
    assert verbs.maximum(a, b) == max(a, b) and type(verbs.maximum(a, b)) is float
    assert verbs.where(a > b, a, b) == (a if a > b else b)


def test_where_and_maximum_of_arrays(xp: Any) -> None:
    x = xp.asarray(np.array([[-1.0], [0.5]], dtype=np.float32))
    for got, expected in (
        (verbs.maximum(x, 0.0), [0.0, 0.5]),
        (verbs.where(x > 0, x, 9.0), [9.0, 0.5]),
        (verbs.where(x > 0, 9.0, x), [-1.0, 9.0]),
        (verbs.where(x > 0, x, 2 * x), [-2.0, 0.5]),
    ):
        assert got.dtype == x.dtype and np.asarray(got).ravel().tolist() == expected


def test_a_table_is_interpolated_in_the_library_of_the_time(xp: Any) -> None:
    xs, ys = np.array([0.0, 1.0, 3.0]), np.array([0.0, 10.0, 0.0])
    assert verbs.interp(2.0, xs, ys) == 5.0 and type(verbs.interp(2.0, xs, ys)) is float
    got = verbs.interp(xp.asarray([[0.5], [2.0]]), xs, ys)
    assert type(got) is type(xp.asarray([1.0])) and np.asarray(got).ravel().tolist() == [5.0, 5.0]


# -- what an array is -----------------------------------------------------------------------------


def test_namespaces(xp: Any) -> None:
    x = xp.zeros((2, 3))
    assert verbs.namespace(x).__name__.startswith(xp.__name__)
    assert verbs.is_numpy(x) == (xp is np)
    for other in ([1.0], 1.0, "x", None):
        with pytest.raises(TypeError, match="convert it with numpy.asarray"):
            verbs.namespace(other)


def test_floating_point_is_recognised(xp: Any) -> None:
    for dtype in (xp.float32, xp.float64):
        assert verbs.is_floating(xp.zeros((1, 1), dtype=dtype))
    for dtype in (xp.int32, xp.int64, xp.bool, xp.complex128):
        assert not verbs.is_floating(xp.zeros((1, 1), dtype=dtype))


def test_clocks() -> None:
    assert not any(verbs.per_sample(t) for t in (0.5, 1, np.float64(0.5)))
    assert verbs.per_sample(np.zeros((3, 1)))


def test_sizes_and_norms(xp: Any) -> None:
    """Against NumPy, a norm a sample, shaped to multiply it."""
    x = np.random.default_rng(0).normal(size=(5, 3, 2))
    ours = xp.asarray(x)
    assert verbs.event_size(ours) == 6
    norm, rms = verbs.event_norm(ours), verbs.batch_rms(ours)
    assert tuple(norm.shape) == tuple(rms.shape) == (5, 1, 1)
    flat = x.reshape(5, 6)
    assert np.asarray(norm).ravel() == pytest.approx(np.linalg.norm(flat, axis=1))
    assert np.asarray(rms).ravel() == pytest.approx(np.sqrt((flat**2).mean(axis=1)))


# -- rows -----------------------------------------------------------------------------------------


@given(batches)
def test_finite_rows_are_found(x: np.ndarray) -> None:
    """``True`` only if all are, and never a false alarm, not even when the sum overflows."""
    expected = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    got = verbs.rows_finite(x)
    if got is True:
        assert expected.all()
    else:
        assert isinstance(got, np.ndarray) and got.dtype == bool and np.array_equal(got, expected)


def test_finite_rows_in_every_library(xp: Any) -> None:
    x = np.ones((4, 2, 2))
    assert verbs.rows_finite(xp.asarray(x)) is True
    x[1, 0, 1], x[3, 1, 0], x[3, 1, 1] = np.nan, np.inf, -np.inf
    got = verbs.rows_finite(xp.asarray(x))
    assert isinstance(got, np.ndarray) and got.tolist() == [True, False, True, False]


def test_rows_are_taken_filled_and_joined(xp: Any) -> None:
    x = np.arange(12.0).reshape(4, 3)
    ours, rows = xp.asarray(x), np.array([0, 2])
    part = verbs.take(ours, rows)
    assert np.array_equal(np.asarray(part), x[rows])
    filled = verbs.fill_rows(ours, rows, -part)
    expected = x.copy()
    expected[rows] *= -1
    assert np.array_equal(np.asarray(filled), expected) and type(filled) is type(ours)
    assert np.array_equal(np.asarray(ours), x), "the original is not written into"
    none = verbs.fill_rows(ours, rows[:0], verbs.take(ours, rows[:0]))
    assert np.array_equal(np.asarray(none), x)
    joined = verbs.concat([ours, part])
    assert np.array_equal(np.asarray(joined), np.concatenate([x, x[rows]]))
    assert verbs.concat([ours]) is ours


def test_numpy_values_take_the_form_of_a_state(xp: Any) -> None:
    values = np.array([[0.1, 0.2]])
    for name in ("float32", "float64"):
        x = xp.zeros((1, 2), dtype=getattr(xp, name))
        got = verbs.like(values, x)
        assert type(got) is type(x) and got.dtype == x.dtype
        assert np.array_equal(verbs.to_numpy(got), values.astype(name))


def test_to_numpy_of_what_records_gradients() -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones((2, 2), requires_grad=True) * 2
    assert np.array_equal(verbs.to_numpy(x), np.full((2, 2), 2.0))


# -- threads --------------------------------------------------------------------------------------


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_is_held_to_one_thread_and_given_back() -> None:
    """Nested, beside another thread, and after an error."""
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        inside, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with verbs.one_blas_thread():
                inside.set()
                leave.wait(10)

        other = threading.Thread(target=hold)
        with verbs.one_blas_thread():
            other.start()
            assert inside.wait(10)
            with verbs.one_blas_thread():
                assert blas_threads() == {1}
            assert blas_threads() == {1}, "an inner holder gives nothing back"
            leave.set()
            other.join()
            assert blas_threads() == {1}, "nor does another thread, while this one holds it"
        assert blas_threads() == before
        with pytest.raises(KeyError), verbs.one_blas_thread():
            raise KeyError
        assert blas_threads() == before


def test_a_state_has_defaults() -> None:
    state = State(1.0, np.zeros((1, 1)))
    assert state.error is None and state.memory == () and state.reuse == ()
