"""`check_preconditioner`: every map of the package passes, broken ones are told what is wrong."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import cg

import refsde as rs
from refsde import precondition as pc
from refsde.testing import (
    CheckError,
    PreconditionerCase,
    check_preconditioner,
    checks_of,
    parametrize_with_checks,
)

RNG = np.random.default_rng(5)
FIELD = rs.GaussianField.power_law(6)
MIXTURE = rs.GaussianMixture.ring(8)
VE = rs.VE()


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2.0, shape)


def even(table: np.ndarray, axes: int = 2) -> np.ndarray:
    last = tuple(range(-axes, 0))
    return 0.5 * (table + np.roll(np.flip(table, last), 1, last))


def odd(table: np.ndarray, axes: int = 2) -> np.ndarray:
    return table - even(table, axes)


def invertible(d: int) -> np.ndarray:
    return np.eye(d) + 0.4 * RNG.standard_normal((d, d)) / math.sqrt(d)


def symmetric(d: int) -> np.ndarray:
    half = invertible(d)
    return half @ half.T


#: name in refsde.precondition -> (map, event or None) that it is or makes
MAPS: dict[str, list[tuple[pc.Preconditioner, tuple[int, ...] | None]]] = {
    "Identity": [(pc.Identity(), None), (pc.Identity(), (2, 3, 3))],
    "Scalar": [(pc.Scalar(1.7), None), (pc.Scalar(1.7).inverse(), (5,))],
    "Diagonal": [
        (pc.Diagonal(positive(5)), None),
        (pc.Diagonal(positive(3, 4)), (2, 3, 4)),
        (pc.Diagonal([1.0, 0.0, 2.0], allow_singular=True), None),
        (pc.Diagonal(np.geomspace(1e-6, 1.0, 8)), None),
    ],
    "Fourier": [
        (pc.Fourier(even(positive(4, 6))), None),
        (pc.Fourier(even(positive(5, 7))), None),
        (pc.Fourier(even(positive(7), 1), axes=1), None),
        (pc.Fourier(even(positive(3, 4))), (3, 3, 4)),
        (pc.Fourier([[1.0, 0.0], [1.0, 2.0]], allow_singular=True), None),
        (pc.Fourier(np.ones((40, 40))), None),  # 1600 numbers: no dense matrix
    ],
    "DCT": [(pc.DCT(positive(4, 5)), None), (pc.DCT(positive(3, 4)), (3, 3, 4))],
    "FourierSkew": [(pc.FourierSkew(odd(positive(4, 5))), None)],
    "Skew": [(pc.Skew([[0.0, 2.0], [-2.0, 0.0]]), None), (pc.Skew(np.zeros((6, 6)), (2, 3)), None)],
    "Dense": [
        (pc.Dense(invertible(5)), None),
        (pc.Dense(invertible(6), (2, 3)), (2, 2, 3)),
        (pc.Dense(symmetric(4)), None),
        (pc.Dense(symmetric(4)).inverse(), None),
        (pc.Dense(np.diag([1.0, -2.0])), None),
        (pc.Dense([[1.0, 1.0], [1.0, 1.0]]), None),
        (pc.Dense(sparse.csr_array(symmetric(4))), None),
        (pc.Dense.from_gram(symmetric(4), (2, 2)), None),
    ],
    "Product": [
        (pc.Fourier(even(positive(3, 4))) @ pc.Diagonal(positive(3, 4)), None),
        (pc.DCT(positive(3, 4)) @ pc.Scalar(1.3), None),
        (pc.DCT(positive(3, 4)) @ pc.Stepwise(lambda t, s: pc.Scalar(1 + t)), None),
        ((pc.DCT(positive(2, 3)) @ pc.Dense(invertible(6), (2, 3))).inverse(), None),
    ],
    "Stepwise": [
        (pc.Stepwise(lambda t, s: pc.Diagonal([1.0 + t, 2.0, 3.0 + s])), None),
        (pc.Stepwise(lambda t, s: pc.Scalar(1.0 + t)).inverse(), None),
    ],
    "in_basis": [(pc.in_basis(FIELD.basis, even(positive(6, 6))), None)],
    "disc_filter": [(pc.disc_filter((6, 8), 2.0, 1.2), None)],
    "pds_frequency_filter": [(pc.pds_frequency_filter(FIELD), None)],
    "pds_pixel_filter": [(pc.pds_pixel_filter(RNG.standard_normal((5, 2, 3, 4))), None)],
    "scalar_rule": [(pc.scalar_rule(17.0, 100), None)],
    "noise_matched": [(pc.noise_matched(FIELD, VE), None), (pc.noise_matched(MIXTURE, VE), None)],
    "step_matched": [(pc.step_matched(FIELD, VE), None)],
    "langevin_matched": [
        (pc.langevin_matched(FIELD), None),
        (pc.langevin_matched(FIELD, VE), None),
        (pc.langevin_matched(MIXTURE, VE, 0.5), None),
    ],
}
EVERY = [
    pytest.param(*pair, id=f"{name}-{i}") for name, pairs in MAPS.items()
    for i, pair in enumerate(pairs)
]  # fmt: skip
NO_MAPS = {"Preconditioner", "alpha_rule", "log_range"}


# -- right ones ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("M", "event"), EVERY)
def test_every_map_of_the_package_passes(M: Any, event: Any) -> None:
    report = check_preconditioner(M, event)
    assert all(f.noise_free for f in report.findings)
    done = {f.name for f in report.findings if f.passed}
    assert {"protocol", "step", "inputs_kept", "linear", "batch_independent", 
            "float32", "adjoint", "gram", "linear_operator", "shape_of_gram"} <= done  # fmt: skip


def test_no_map_of_the_package_is_forgotten() -> None:
    assert set(MAPS) | NO_MAPS == set(pc.__all__)


def test_what_is_left_out_says_why() -> None:
    def why(M: Any, name: str) -> str:
        finding = check_preconditioner(M)[name]
        assert finding.passed is None
        return finding.note

    K, thin = pc.FourierSkew(odd(positive(3, 4))), pc.Diagonal([1.0, 0.0], allow_singular=True)
    assert why(K, "logdet") == "FourierSkew has no known determinant"
    assert why(K, "spectrum") == "spectrum() is None: it is not known"
    assert why(thin, "solve") == why(thin, "inverse") == "M is singular"
    assert why(thin, "shape_of_solve") == "M is singular"
    assert "M is singular: its determinant" in why(thin, "logdet")
    assert why(pc.Dense(invertible(3)), "sqrt") == "M is not symmetric"
    assert why(pc.Dense(np.diag([1.0, -2.0])), "sqrt") == "M has a negative eigenvalue, -2"
    assert why(pc.Dense(invertible(3)), "basis") == "M.basis is None"
    assert why(pc.Fourier(np.ones((40, 40))), "logdet") == "an event has 1600 numbers, above 1024"
    product = pc.Dense(np.diag([1.0, 2.0])) @ pc.Diagonal([1.0, 2.0])
    assert "is not symmetric, and has no symmetric root" in why(product, "sqrt")


def test_a_large_map_is_checked_without_its_matrix() -> None:
    report = check_preconditioner(pc.Fourier(even(positive(33, 32))))
    left_out = {f.name for f in report.findings if f.passed is None}
    assert left_out == {
        "logdet",
        "spectrum",
    }  # and by its basis the spectrum is checked all the same
    assert report["basis"].passed and report["solve"].passed and report["sqrt"].passed
    thin = even(positive(33, 32))
    thin[0, 0] = 0.0
    report = check_preconditioner(pc.Fourier(thin, allow_singular=True))
    assert report["solve"].note == "M is singular"


class Shift(pc.Preconditioner):
    """What a stranger writes: z plus half its neighbour, on any event; no more than he must."""

    def apply(self, z: Any) -> Any:
        return z + 0.5 * np.roll(z, 1, axis=-1)

    def apply_transpose(self, z: Any) -> Any:
        return z + 0.5 * np.roll(z, -1, axis=-1)


class Solving(Shift):
    def solve(self, z: Any) -> Any:
        n = z.shape[-1]
        ratio = 1 / (1 + 0.5 * np.exp(-2j * np.pi * np.arange(n) / n))
        return np.fft.ifft(ratio * np.fft.fft(z, axis=-1), axis=-1).real.astype(z.dtype)

    def logdet(self, event_shape: Any = None) -> float:
        *rest, n = self._event(event_shape)
        return math.prod(rest) * math.log(1 - (-0.5) ** n)


def test_a_strangers_map_passes_with_as_little_as_it_must_have() -> None:
    report = check_preconditioner(Shift())
    assert report["adjoint"].passed and report["gram"].passed
    assert report["solve"].note == "Shift has no inverse to apply"
    assert report["inverse"].passed is None and report["logdet"].passed is None
    assert report["shape_of_apply"].expected == "float64 (3, 4), finite"


def test_an_inverse_may_not_know_its_transpose() -> None:
    report = check_preconditioner(Solving(), (2, 7))
    assert report["solve"].passed and report["inverse"].passed and report["logdet"].passed
    assert report["inverse_logdet"].passed
    assert "transposed inverse of" in report["inverse_transpose"].note
    inverse = check_preconditioner(Solving().inverse(), (7,))
    assert inverse["adjoint"].passed is None and inverse["gram"].passed is None
    assert inverse["linear_operator"].passed


def test_a_solve_that_iterates_is_given_room() -> None:
    class Iterative(pc.Dense):
        def solve(self, z: Any) -> Any:
            rows = z.reshape(-1, len(self.matrix))
            found = [cg(self.matrix, row, rtol=1e-6)[0] for row in rows]
            return np.array(found, dtype=z.dtype).reshape(z.shape)

    M = Iterative(symmetric(30) + 0.1 * np.eye(30))
    assert check_preconditioner(M, rtol=1e-4).passed
    assert not check_preconditioner(M, rtol=1e-12, on_fail="report").passed


def test_an_ill_conditioned_solve_may_lose_digits() -> None:
    class Plain(pc.Dense):
        def solve(self, z: Any) -> Any:
            rows = z.reshape(-1, len(self.matrix)).T
            return np.linalg.solve(self.matrix, rows).T.reshape(z.shape).astype(z.dtype)

    Q, R = (np.linalg.qr(RNG.standard_normal((20, 20)))[0] for _ in range(2))
    for least in (1e-6, 1e-10):
        M = Plain(Q * np.geomspace(least, 1.0, 20) @ R)
        assert check_preconditioner(M)["solve"].passed
        M.solve = lambda z, M=M: M.apply_transpose(z)  # type: ignore[method-assign, misc]
        assert not check_preconditioner(M, on_fail="report")["solve"].passed


def test_the_step_is_the_one_that_is_named() -> None:
    def rule(t: Any, s: Any) -> Any:
        return pc.Scalar(2.0) if (t, s) == (0.6, 0.5) else Offset(3)

    M = pc.Stepwise(rule)
    assert check_preconditioner(M).passed
    with pytest.raises(CheckError, match=r"linear: .*no offset"):
        check_preconditioner(M, t=0.3, s=0.2)


# -- broken ones -----------------------------------------------------------------------------------


class Offset(pc.Diagonal):
    """Affine, not linear."""

    def __init__(self, n: int = 3) -> None:
        super().__init__(np.arange(1.0, n + 1))

    def apply(self, z: Any) -> Any:
        return super().apply(z) + 0.01


class Clipped(Shift):
    def apply(self, z: Any) -> Any:
        return np.clip(super().apply(z), -50.0, 50.0)


class SameTranspose(Shift):
    apply_transpose = Shift.apply


class NoTranspose(pc.Preconditioner):
    def apply(self, z: Any) -> Any:
        return 2 * z


GAIN = np.linspace(1.0, 2.0, 12).reshape(3, 4)


class Filter(pc.DCT):
    def __init__(self, gain: Any = GAIN, axes: int = 2, *, allow_singular: bool = False) -> None:
        super().__init__(gain, axes, allow_singular=allow_singular)


class GramOnce(Filter):
    def gram(self, z: Any) -> Any:
        return self.apply(z)


class GramReversed(Shift):
    """M^T M, which is not M M^T where scale and shift do not commute."""

    def apply(self, z: Any) -> Any:
        return np.arange(1.0, z.shape[-1] + 1).astype(z.dtype) * super().apply(z)

    def apply_transpose(self, z: Any) -> Any:
        return super().apply_transpose(np.arange(1.0, z.shape[-1] + 1).astype(z.dtype) * z)

    def gram(self, z: Any) -> Any:
        return self.apply_transpose(self.apply(z))


class SolveApplies(Filter):
    def solve(self, z: Any) -> Any:
        return self.apply(z)


class SolveShort(Filter):
    def solve(self, z: Any) -> Any:
        return super().solve(z) * (1 - 1e-6)


class WrongInverse(Filter):
    def inverse(self) -> Any:
        return pc.DCT(self.gain)


class InverseOneWay(Solving):
    solve_transpose = Solving.solve


class HalfLogdet(Filter):
    """Of the first channel alone."""

    def logdet(self, event_shape: Any = None) -> float:
        return super().logdet((3, 4)) / 12


class GramLogdet(Filter):
    def logdet(self, event_shape: Any = None) -> float:
        return 2 * super().logdet(event_shape)


class SpectrumOfM(Filter):
    def spectrum(self) -> Any:
        return self.gain


class SpectrumShuffled(Filter):
    """Right as a set, in another order."""

    def spectrum(self) -> Any:
        return super().spectrum()[::-1]


class SpectrumOfMore(Filter):
    def spectrum(self) -> Any:
        return np.ones(5)


class SpectrumFlat(Filter):
    def spectrum(self) -> Any:
        return super().spectrum().reshape(-1)


class HalfGain(Filter):
    """The half of the gain for the root of it."""

    def sqrt(self) -> Any:
        return pc.DCT(0.5 * self.gain)


class CrookedRoot(pc.Identity):
    """A root of 1, yet not the symmetric one."""

    def sqrt(self) -> Any:
        return pc.Dense([[1.0, 1.0], [0.0, -1.0]])


class InPlace(pc.Scalar):
    def apply(self, z: Any) -> Any:
        z *= self.c
        return z


class Widening(pc.Preconditioner):
    gain = np.linspace(1.0, 2.0, 4)

    def apply(self, z: Any) -> Any:
        return self.gain * z

    apply_transpose = apply


class Half(pc.Preconditioner):
    """Half precision within."""

    def apply(self, z: Any) -> Any:
        return (2 * z.astype(np.float16)).astype(z.dtype) if z.dtype == np.float32 else 2.01 * z

    apply_transpose = apply


class Mixing(pc.Preconditioner):
    def apply(self, z: Any) -> Any:
        return z - 0.5 * z.mean(axis=0)

    apply_transpose = apply


class RolledOverAll(pc.Preconditioner):
    """Lacks an axis, so that samples move on."""

    def apply(self, z: Any) -> Any:
        return z + 0.5 * np.roll(z, 1)

    def apply_transpose(self, z: Any) -> Any:
        return z + 0.5 * np.roll(z, -1)


class ByPlace(pc.Preconditioner):
    """A factor for each place in a batch."""

    def apply(self, z: Any) -> Any:
        if z.ndim < 4:
            return 2.0 * z
        return z * np.arange(1.0, 1 + z.shape[0]).astype(z.dtype).reshape(-1, *[1] * (z.ndim - 1))

    apply_transpose = apply


class Flattened(Shift):
    def apply(self, z: Any) -> Any:
        return super().apply(z).reshape(len(z), -1)


class Singleton(Shift):
    """Wants a batch axis, and adds one."""

    def apply(self, z: Any) -> Any:
        return super().apply(z if z.ndim > 2 else z[None])


class Complex(Shift):
    def apply(self, z: Any) -> Any:
        return np.fft.ifft(np.fft.fft(z))


class Infinite(Shift):
    def apply(self, z: Any) -> Any:
        return z * np.inf


class Undeclared(pc.Preconditioner):
    """Takes events (7,), and does not say so."""

    matrix = np.eye(7)

    def apply(self, z: Any) -> Any:
        return z @ self.matrix.T.astype(z.dtype)

    apply_transpose = apply


class SecretlyStepped(Filter):
    """Depends on the step, and says that it does not."""

    def at(self, t: Any, s: Any) -> Any:
        return pc.DCT((1 + t) * self.gain)


class Random(pc.Preconditioner):
    static = False
    generator = np.random.default_rng(0)

    def at(self, t: Any, s: Any) -> Any:
        return pc.Scalar(self.generator.uniform(1.0, 2.0))


class NoMap(pc.Preconditioner):
    static = False

    def at(self, t: Any, s: Any) -> Any:
        return 1.0 + t


class WrongOperator(Filter):
    def as_linear_operator(self, event_shape: Any = None) -> Any:
        return 2 * super().as_linear_operator(event_shape)


class SmallOperator(Filter):
    def as_linear_operator(self, event_shape: Any = None) -> Any:
        return pc.Scalar(1.0).as_linear_operator((3,))


class Raising(Filter):
    def solve(self, z: Any) -> Any:
        raise ZeroDivisionError("in my own code")


#: map -> the finding that fails, words
MUTANTS: dict[Any, tuple[str, str]] = {
    Offset: ("linear", r"apply\(1000 z \+ 1 w\).*|apply\(2.5 z.*no offset, no clipping"),
    Clipped: ("linear", "sample .* at .*no clipping"),
    SameTranspose: (
        "adjoint",
        r"<M z, w>, sample \d = .*apply_transpose is apply, and M is not symm",
    ),
    NoTranspose: ("protocol", "without apply_transpose, expected apply and apply_transpose are"),
    GramOnce: ("gram", r"gram, sample \d at \(\d, \d\) = .*it is M z, without the square"),
    GramReversed: ("gram", r"it is M\^T M z, in the wrong order"),
    SolveApplies: ("solve", r"solve applies M instead of undoing it: expected is z"),
    SolveShort: ("solve", r"\(free of noise\): expected is z"),
    WrongInverse: ("inverse", "inverse applies M instead of undoing it"),
    lambda: InverseOneWay(): ("inverse_transpose", r"<M\^-1 z, w>.*solve_transpose"),
    HalfLogdet: ("logdet", r"logdet\(\(3, 4\)\) = 0.3.*it is 1 / 12 of it, once for all 12 num"),
    GramLogdet: ("logdet", r"it is that of M M\^T: expected is log\|det M\| of the dense"),
    SpectrumOfM: ("spectrum", r"eigenvalue 11 of 12.* it is of M, not of M M\^T"),
    SpectrumShuffled: ("basis", r"coefficient \(\d, \d\) of gram\(z\), sample"),
    SpectrumOfMore: ("spectrum", r"size of spectrum\(\) = 5, expected a divisor of 12"),
    SpectrumFlat: ("basis", r"shape of spectrum\(\) = \(12,\), expected the last axes of \(3, 4\)"),
    HalfGain: ("sqrt", r"R R z, sample .*R is M.sqrt\(\); expected is M z"),
    lambda: InPlace(2.0): ("inputs_kept", "z = changed by apply, gram, solve|changed by apply"),
    Widening: ("float32", r"float64 of apply, float64 of apply_transpose, float64 of gram, exp"),
    Half: ("float32_agrees", "does something cancel"),
    Mixing: ("batch_independent", "an event's result depends on its batch: a mean"),
    RolledOverAll: ("batch_independent", "or roll over all axes"),
    ByPlace: ("batch_independent", "or a table that is aligned with the batch"),
    Flattened: ("shape_of_apply", r"apply of z of shape \(2, 3, 3, 4\) = float64 \(2, 36\), exp"),
    Singleton: ("shape_of_apply", r"of shape \(3, 4\) = float64 \(1, 3, 4\), expected float64 \(3"),
    Complex: ("shape_of_apply", r"complex128 \(2, 3, 3, 4\), expected float64"),
    Infinite: ("shape_of_apply", "NaN or inf, expected"),
    Undeclared: ("shape_of_apply", "ValueError: .*: declare event_shape on the map, or pass"),
    SecretlyStepped: ("static", r"another map, though M.static is True.*sets static = False"),
    Random: ("step", "another map each time"),
    NoMap: ("protocol", r"M.at\(0.6, 0.5\) = 1.6, expected a Preconditioner"),
    WrongOperator: ("linear_operator", "acts on flattened events"),
    SmallOperator: ("linear_operator", r"= \(3, 3\), expected \(12, 12\)"),
    Raising: ("shapes", r"ZeroDivisionError: in my own code \(test_testing_precond"),
}


def named(mutant: Any) -> str:
    return type(mutant()).__name__


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_a_broken_map_is_told_what_is_wrong(mutant: Any) -> None:
    fails, words = MUTANTS[mutant]
    with pytest.raises(CheckError) as caught:
        check_preconditioner(mutant())
    assert re.search(words, str(caught.value)), str(caught.value)
    assert re.fullmatch(fails, caught.value.report.failures[0].name), str(caught.value)


FOLLOWS = {
    "spectrum": {"basis"},
    "gram": {"basis"},
    "logdet": {"inverse_logdet"},
    "inverse": {"inverse_logdet"},
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_one_slip_is_one_failure(mutant: Any) -> None:
    report = check_preconditioner(mutant(), on_fail="report")
    first = report.failures[0].name
    assert {f.name for f in report.failures} <= {first} | FOLLOWS.get(first, set()), str(report)


def test_a_root_must_be_the_symmetric_one() -> None:
    report = check_preconditioner(CrookedRoot(), (2,), on_fail="report")
    assert [f.name for f in report.failures] == ["sqrt_is_symmetric"]


def test_with_its_event_named_a_map_need_not_declare_it() -> None:
    assert check_preconditioner(Undeclared(), (7,)).passed


def test_small_slips_are_seen() -> None:
    """One part in a million, of one entry."""

    class Off(pc.Diagonal):
        def gram(self, z: Any) -> Any:
            gain = self.gain.copy()
            gain[2] *= 1 + 1e-6
            return (z * gain**2).astype(z.dtype)

    report = check_preconditioner(Off(positive(5)), on_fail="report")
    assert [f.name for f in report.failures] == ["gram", "basis"]
    assert "at (2)" in report["gram"].what


def test_a_map_without_digits_to_lose_is_not_blamed() -> None:
    for gain in (np.geomspace(1e-5, 1e5, 7), np.geomspace(1e-15, 1e-10, 7)):
        assert check_preconditioner(pc.Diagonal(gain)).passed


# -- as tests, and bad input -----------------------------------------------------------------------


@parametrize_with_checks(
    [
        pc.Fourier(even(positive(3, 4))),
        PreconditionerCase(pc.Scalar(2.0), (5,), t=0.9, s=0.8),
        pc.Stepwise(lambda t, s: pc.Diagonal([1.0 + t, 2.0])),
        SpectrumShuffled(),
    ],
    expected_failures=lambda M: {"spectrum": "wrong"} if isinstance(M, SpectrumShuffled) else {},
)
def test_of_maps(subject: Any, check: Any) -> None:
    check(subject)


def test_the_checks_have_names() -> None:
    names = [check.name for check in checks_of(pc.Identity())]
    assert names == [
        "protocol", "shapes", "step", "inputs_kept", "single_precision", "linear",
        "batch_independent", "adjoint", "gram", "solve", "inverse", "sqrt", "logdet", "spectrum",
        "linear_operator",
    ]  # fmt: skip
    case = PreconditionerCase(pc.Scalar(2.0), (5,))
    assert checks_of(case) == checks_of(pc.Identity()) and repr(case) == (
        "PreconditionerCase(Scalar(2))"
    )
    assert {"PreconditionerCase", "check_preconditioner"} <= set(rs.testing.__all__)


def test_a_second_run_measures_the_same() -> None:
    first, again = (check_preconditioner(GramOnce(), on_fail="report") for _ in range(2))
    assert str(first) == str(again)


S = pc.Scalar(2.0)
BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: check_preconditioner(np.eye(2)), TypeError, "`M` must be a .*got ndarray|got array"),
    (lambda: check_preconditioner(pc.Scalar), TypeError, r"got Scalar: pass Scalar\(...\)"),
    (lambda: checks_of(pc.Scalar), TypeError, "is the class Scalar: pass an object"),
    (lambda: check_preconditioner(S, 3), TypeError, "`event_shape` must be sizes of axes, got 3"),
    (lambda: check_preconditioner(S, ()), ValueError, "`event_shape` must be positive"),
    (lambda: check_preconditioner(S, (2, 0)), ValueError, "`event_shape` must be positive"),
    (lambda: check_preconditioner(pc.Diagonal([1.0, 2.0]), (3,)), ValueError, r"end with \(2,\)"),
    (lambda: check_preconditioner(S, t="now"), TypeError, "`t` must be a number, got 'now'"),
    (lambda: check_preconditioner(S, s=math.nan), ValueError, "`s` must be finite"),
    (lambda: check_preconditioner(S, rtol=0), ValueError, r"`rtol` must be a number in \(0, 1\)"),
    (lambda: check_preconditioner(S, on_fail="print"), ValueError, "`on_fail`"),
]


@pytest.mark.parametrize("call, error, words", BAD, ids=range(len(BAD)))
def test_bad_input_is_named(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
