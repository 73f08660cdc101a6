"""The law on a field, coefficient by coefficient, against the law of the same thing with matrices.

A field of 5 x 6 numbers is a Gaussian mixture of one component in 30 dimensions, and a filter the
matrix `as_linear_operator() @ eye`: there `exact.law` probes the solver with all 30 unit vectors,
knows nothing of bases, and is itself checked against recursions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from _probing import Z

import refsde as rs
from refsde import precondition as pc
from refsde.exact import FieldLaw
from refsde.exact.field import coefficients
from refsde.measure import frechet

EVENT = (5, 6)
LAWS = ("pds", "marginal", "noise")
SDES: dict[str, Any] = {"VE": rs.VE(sigma_max=10.0), "VP": rs.VP(), "SubVP": rs.SubVP()}
RNG = np.random.default_rng(9)
IMAGE = 0.5 + RNG.standard_normal(EVENT)
SOLVERS: dict[str, Any] = {
    "em": rs.EulerMaruyama(),
    "heun": rs.Heun(),
    "reverse-diffusion": rs.ReverseDiffusion(),
    "ancestral": rs.Ancestral("posterior"),
    "ancestral-large": rs.Ancestral("large"),
    "one-step": rs.OneStep(0.5),
    "annealed": rs.PredictorCorrector(rs.EulerMaruyama(), rs.AnnealedLangevin(0.2, steps=2)),
    "paper": rs.PredictorCorrector(rs.ReverseDiffusion(), rs.AnnealedLangevin(0.2), "paper"),
    "corrector": rs.PredictorCorrector(None, rs.AnnealedLangevin(0.2, steps=2)),
    "sra1": rs.SRA1(),
    "shark": rs.ShARK(),
}


def evened(table: np.ndarray) -> np.ndarray:
    return 0.5 * (table + np.roll(np.flip(table, (-2, -1)), 1, (-2, -1)))


def table(basis: str, low: float, high: float, seed: int, event: tuple[int, ...] = EVENT) -> Any:
    made = np.random.default_rng(seed).uniform(low, high, event)
    return evened(made) if basis == "fft" else made


def field_of(basis: Any, event: tuple[int, ...] = EVENT, mean: Any = IMAGE) -> rs.GaussianField:
    spread = np.exp(table(basis, math.log(0.05), math.log(3.0), 1, event))
    return rs.GaussianField(spread, mean, basis=basis)


MAPS = {"fft": pc.Fourier, "dct": pc.DCT, "pixel": pc.Diagonal}
FIELDS = {basis: field_of(basis) for basis in MAPS}


def filter_of(basis: str, seed: int = 2) -> Any:
    return MAPS[basis](table(basis, 0.7, 1.4, seed))


def dense_of(M: Any, event: tuple[int, ...] = EVENT) -> Any:
    if not M.static:
        return pc.Stepwise(lambda t, s: dense_of(M.at(t, s), event))
    return pc.Dense(M.as_linear_operator(event) @ np.eye(math.prod(event)))


def processes(field: rs.GaussianField, sde: Any, M: Any, law: Any) -> tuple[Any, Any]:
    """The same process on the field, and on its mixture."""
    mixture = field.to_mixture()
    return (
        rs.Preconditioned(sde, field.score(sde), M, law, guard="off"),
        rs.Preconditioned(
            sde, mixture.score(sde), dense_of(M, field.event_shape), law, guard="off"
        ),
    )


def as_matrices(law: FieldLaw) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of the events, from coefficients, by FFTs of unit images."""
    field = law.target
    event, basis = field.event_shape, field.basis
    d = math.prod(event)
    units = np.eye(d).reshape(d, *event)
    if basis.name == "fft":
        back = np.fft.ifftn(law.mean, axes=basis.last, norm="ortho")
        assert np.abs(back.imag).max() < 1e-12 * max(1, np.abs(back).max())
        mean = back.real
        spectra = np.fft.fftn(units, axes=basis.last, norm="ortho")
        cov = np.fft.ifftn(law.variance * spectra, axes=basis.last, norm="ortho").real
    else:
        mean = basis.backward(np.array(law.mean), event)
        cov = basis.backward(law.variance * basis.forward(units), event)
    return mean.reshape(d), cov.reshape(d, d)


def grid_of(sde: Any, n: int = 4) -> rs.Grid:
    return rs.Grid.karras(sde, n, t_end=0.02)


def same(on_field: Any, dense: Any, tolerance: float = 1e-10) -> None:
    mean, cov = as_matrices(on_field)
    unit = max(1.0, np.abs(dense.cov).max())
    np.testing.assert_allclose(mean, dense.mean, rtol=0, atol=tolerance * unit)
    np.testing.assert_allclose(cov, dense.cov, rtol=0, atol=tolerance * unit)
    assert on_field.nfe == dense.nfe


# -- against matrices -----------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_law_is_that_of_the_matrices(solver: str, sde: str, law: str) -> None:
    """Bases, starts and ends in turn: each meets each sooner or later."""
    i = list(SOLVERS).index(solver) + list(SDES).index(sde) + LAWS.index(law)
    basis = list(MAPS)[i % 3]
    starts: list[Any] = ["prior", "marginal", (IMAGE, 1.0 + table(basis, 0.0, 1.0, 3))]
    denoise: Any = ["none", "tweedie", "last_mean"][(i // 3) % 3]
    on_field, dense = processes(FIELDS[basis], SDES[sde], filter_of(basis), law)
    options: dict[str, Any] = {"denoise": denoise, "start": starts[(i + i // 2) % 3]}
    got = rs.exact.law(on_field, SOLVERS[solver], grid_of(SDES[sde]), **options)
    if isinstance(options["start"], tuple):
        mean, variance = options["start"]
        covariance = MAPS[basis](np.sqrt(variance))
        D = dense_of(covariance).matrix
        options["start"] = (mean.reshape(-1), D @ D.T)
    want = rs.exact.law(dense, SOLVERS[solver], grid_of(SDES[sde]), **options)
    same(got, want)
    assert isinstance(got, FieldLaw) and not got.mean_field


@pytest.mark.parametrize("denoise", ["none", "tweedie", "last_mean"])
@pytest.mark.parametrize("start", ["prior", "marginal"])
@pytest.mark.parametrize("basis", MAPS)
def test_every_start_and_end_in_every_basis(basis: str, start: Any, denoise: Any) -> None:
    on_field, dense = processes(FIELDS[basis], SDES["VE"], filter_of(basis), "pds")
    solver, grid = SOLVERS["reverse-diffusion"], grid_of(SDES["VE"])
    options: dict[str, Any] = {"start": start, "denoise": denoise}
    same(
        rs.exact.law(on_field, solver, grid, **options),
        rs.exact.law(dense, solver, grid, **options),
    )


MAPPED: dict[str, Any] = {
    "identity": pc.Identity(),
    "scalar": pc.Scalar(1.2),
    "product": pc.Scalar(1.1) @ filter_of("fft") @ filter_of("fft", 4),
    "inverse": filter_of("fft").inverse(),
    "root": filter_of("fft").sqrt(),
    "published": pc.pds_frequency_filter(FIELDS["fft"]),
    "disc": pc.disc_filter(EVENT, 1.5, 1.2),
    "langevin": pc.langevin_matched(FIELDS["fft"], SDES["VP"], 0.5, power=0.5),
    "langevin-stepwise": pc.langevin_matched(FIELDS["fft"], SDES["VP"], power=0.25),
    "noise": pc.noise_matched(FIELDS["fft"], SDES["VP"]),
    "step": pc.step_matched(FIELDS["fft"], SDES["VP"]),
    "users": pc.Stepwise(lambda t, s: pc.Scalar(1 + t) @ filter_of("fft")),
    "half": pc.Stepwise(lambda t, s: filter_of("fft")) @ pc.Scalar(1.1),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", MAPPED)
def test_every_map_has_the_law_of_its_matrix(name: str, law: str) -> None:
    M = MAPPED[name]
    if getattr(getattr(M, "rule", None), "law", None) not in (None, law):
        M = pc.Stepwise(M.at)  # which is then matched to nothing
    on_field, dense = processes(FIELDS["fft"], SDES["VP"], M, law)
    for solver in (rs.ReverseDiffusion(), rs.Heun()):
        got = rs.exact.law(on_field, solver, grid_of(SDES["VP"]), start="prior")
        same(got, rs.exact.law(dense, solver, grid_of(SDES["VP"]), start="prior"))


def test_channels_share_a_filter_and_signals_have_one_axis() -> None:
    field = field_of("fft", (2, 3, 4), RNG.standard_normal((2, 3, 4)))
    M = pc.Fourier(evened(RNG.uniform(0.8, 1.2, (3, 4))))
    on_field, dense = processes(field, SDES["VE"], M, "pds")
    grid, solver = grid_of(SDES["VE"]), rs.ReverseDiffusion()
    same(rs.exact.law(on_field, solver, grid), rs.exact.law(dense, solver, grid))
    signal = rs.GaussianField([2.0, 1.0, 0.5, 0.5, 1.0], 0.3, axes=1)
    gain = pc.Fourier([1.0, 1.2, 0.9, 0.9, 1.2], axes=1)
    on_field, dense = processes(signal, SDES["VE"], gain, "marginal")
    same(rs.exact.law(on_field, solver, grid), rs.exact.law(dense, solver, grid))


MEMORY: dict[str, tuple[Any, str]] = {
    "sde-dpm-pp": (rs.SDEDPMSolverPP(2), "reverse"),
    "unipc": (rs.UniPC(2), "flow"),
    "tab": (rs.TAB(2), "flow"),
    "er-sde": (rs.ERSDE(2), "reverse"),
    "dpm-pp": (rs.DPMSolverPP(2), "flow"),
    "heun-flow": (rs.Heun(), "flow"),
    "ddim": (rs.DDIM(), "flow"),
    "rk45": (rs.EmbeddedRK(), "flow"),
}


@pytest.mark.parametrize("denoise", ["none", "tweedie"])
@pytest.mark.parametrize("name", MEMORY)
def test_without_a_map_and_with_memory_too(name: str, denoise: Any) -> None:
    solver, kind = MEMORY[name]
    make = rs.ReverseSDE if kind == "reverse" else rs.ProbabilityFlow
    sde, field = SDES["VP"], FIELDS["dct"]
    grid = rs.Grid.karras(sde, 6, t_end=0.02)
    laws = [
        rs.exact.law(make(sde, law.score(sde)), solver, grid, start="prior", denoise=denoise)  # type: ignore[operator]
        for law in (field, field.to_mixture())
    ]
    same(*laws)


@pytest.mark.parametrize("name", ["none", "identity"])
def test_vanilla_is_the_law_under_the_identity(name: str) -> None:
    sde, field = SDES["VE"], FIELDS["fft"]
    plain = rs.ReverseSDE(sde, field.score(sde))
    mapped = rs.Preconditioned(sde, field.score(sde), pc.Identity())
    for solver in (rs.ReverseDiffusion(), rs.PredictorCorrector(rs.Heun(), rs.Langevin(0.1))):
        a, b = (rs.exact.law(p, solver, grid_of(sde), start="prior") for p in (plain, mapped))
        np.testing.assert_allclose(a.variance, b.variance, rtol=1e-13)
        np.testing.assert_allclose(a.mean, b.mean, rtol=0, atol=1e-13)


# -- the signal-to-noise rule ---------------------------------------------------------------------


@pytest.mark.parametrize("mean", [None, 0.0, 20.0])
def test_the_rule_with_root_mean_squares_is_the_recursion(mean: float | None) -> None:
    """B.2 of the theory, on all coefficients: e = 2 snr^2 sum u / sum u^2 (v + |d|^2) / V^2."""
    sde, snr, field = SDES["VE"], 0.16, FIELDS["fft"]
    M = filter_of("fft")
    solver = rs.PredictorCorrector(rs.ReverseDiffusion(), rs.Langevin(snr))
    grid = grid_of(sde, 6)
    process = rs.Preconditioned(sde, field.score(sde), M, guard="off")
    S, u = field.spectrum, M.spectrum()
    if mean is None:
        begin: Any = "prior"
        v, d = sde.prior_std**2 * u, -coefficients(field.basis, IMAGE)
    else:  # a mean that the step's size feels, and that is not orthogonal to the data's
        begin = (mean * (IMAGE + np.roll(IMAGE, 1, axis=1)), 3.0)
        v, d = np.full(S.shape, 3.0), coefficients(field.basis, begin[0] - IMAGE)
    got = rs.exact.law(process, solver, grid, start=begin, denoise="last_mean")
    for t, s in zip(grid.ts[:-1], grid.ts[1:], strict=True):
        V = S + sde.sigma(t) ** 2
        e = 2 * snr**2 * np.sum(u) / np.sum(u**2 * (v + np.abs(d) ** 2) / V**2)
        v, d = (1 - e * u / V) ** 2 * v + 2 * e * u, (1 - e * u / V) * d
        delta = sde.sigma(t) ** 2 - sde.sigma(s) ** 2
        v, d = (
            (1 - u * delta / V) ** 2 * v + u * delta * (s != grid.ts[-1]),
            (1 - u * delta / V) * d,
        )
    np.testing.assert_allclose(got.variance, v, rtol=1e-10)
    np.testing.assert_allclose(got.mean, d + coefficients(field.basis, IMAGE), atol=1e-10)
    assert got.mean_field and got.nfe == 12


def test_samples_have_the_law(seed: int) -> None:
    # Second moments of 30 coefficients of 20000 samples: each beyond Z with probability 5.7e-7, a
    # false alarm in 3.4e-5 of fresh seeds.  A law of another filter is told.
    sde, field, M = SDES["VP"], FIELDS["dct"], filter_of("dct")
    grid, solver = grid_of(sde, 5), rs.PredictorCorrector(rs.Heun(), rs.AnnealedLangevin(0.1))
    process = rs.Preconditioned(sde, field.score(sde), M, guard="off")
    x = rs.sample(process, solver, 20_000, times=grid, rng=seed).x
    other = rs.Preconditioned(sde, field.score(sde), filter_of("dct", 5), guard="off")
    for run, told in ((process, False), (other, True)):
        law = rs.exact.law(run, solver, grid, start="prior")
        squares = (field.basis.forward(x) - law.mean) ** 2
        z = (squares.mean(0) - law.variance) / squares.std(0) * math.sqrt(len(x))
        assert (np.abs(z).max() > Z) == told


# -- what theory says of matched filters ----------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("basis", MAPS)
@pytest.mark.parametrize("name", ["VE", "VP", "SubVP"])
def test_noise_matched_is_exact_in_any_number_of_steps(name: str, basis: str, steps: int) -> None:
    sde, field = SDES[name], FIELDS[basis]
    M, grid = pc.noise_matched(field, sde), grid_of(sde, steps)
    solvers = [rs.Ancestral("large")] + [rs.ReverseDiffusion()] * (name == "VE")
    want = field.at(sde, 0.02)
    for solver in solvers:
        process = rs.Preconditioned(sde, field.score(sde), M, law="noise")
        law = rs.exact.law(process, solver, grid)
        np.testing.assert_allclose(law.variance, want.spectrum, rtol=1e-10)
        np.testing.assert_allclose(law.mean, coefficients(want.basis, want.mean), atol=1e-10)
        vanilla = rs.exact.law(rs.ReverseSDE(sde, field.score(sde)), solver, grid)
        assert np.abs(vanilla.variance / want.spectrum - 1).max() > 0.05, "it has something to do"


@pytest.mark.parametrize("spectrum", ["wide", "narrow"])
@pytest.mark.parametrize("name", ["VE", "VP", "SubVP", "EDM"])
def test_step_matched_is_exact_in_variance(name: str, spectrum: str) -> None:
    """Where a step can be matched; variances above 1 as well as below it, under VP too."""
    sde = SDES.get(name) or rs.EDM(sigma_max=10.0)
    field = FIELDS["fft"]
    if spectrum == "narrow":  # between the least and 0.7, or 1.5 and more: no V is near 1
        S = np.where(field.spectrum < 0.8, 0.8 * field.spectrum, 1.5 + field.spectrum)
        field = rs.GaussianField(S, IMAGE)
    M, n = pc.step_matched(field, sde), 400
    grid = rs.Grid.logsnr(sde, n, t_end=0.05 if name != "EDM" else 0.2)
    process = rs.Preconditioned(sde, field.score(sde), M, law="pds", guard="off")
    for k in (0, n // 2, n - 1):
        t, s = grid.ts[k : k + 2]
        V_t, V_s = (field.at(sde, r).spectrum for r in (t, s))
        law = rs.exact.law(process, rs.ReverseDiffusion(), rs.Grid([t, s]))
        u = M.at(t, s).spectrum()
        matched = np.isclose(law.variance, V_s, rtol=1e-12, atol=0)
        capped = np.isclose(u, 2.0, rtol=1e-12)
        assert np.all(matched | capped) and np.any(matched)
        assert matched.all() or k < n - 1, "steps near the data are short enough for all"
        # and where it is not matched, it cannot be: the variance exceeds V_s for every u > 0
        a, q = sde.chain(t, s)
        c = (1 - a) - q / V_t[~matched]
        some = np.linspace(0.0, 4.0, 4001)[1:, None]
        assert np.all((1 + some * c) ** 2 * V_t[~matched] + some * q > V_s[~matched])
        if name in ("VE", "EDM"):
            x = sde.chain(t, s)[1] / V_t
            np.testing.assert_allclose(u, (1 - np.sqrt(1 - 4 * x)) / (2 * x), rtol=1e-9)
            assert matched.all() and np.all((u >= 1) & (u <= 2))


def test_step_matched_caps_where_steps_are_too_long() -> None:
    sde, field = SDES["VE"], FIELDS["fft"]
    u = pc.step_matched(field, sde).at(1.0, 0.5).spectrum()  # sigma^2 shrinks 1000 times
    np.testing.assert_allclose(u, 2.0, rtol=1e-15)
    x = 0.2499999
    V = 1 + sde.sigma(1.0) ** 2
    flat = rs.GaussianField(np.ones((2, 2)))
    s = float(sde.t_of_lam(-math.log(math.sqrt(sde.sigma(1.0) ** 2 - x * V))))
    assert 1.99 < pc.step_matched(flat, sde).at(1.0, s).spectrum().max() < 2.0


@pytest.mark.parametrize("S", [1.0, 1 - 1e-9, 1 + 1e-9, 0.97])
def test_step_matched_is_a_map_where_the_law_does_not_move(S: float) -> None:
    """At V = 1 under VP the variance says nothing of u: any map is better than none."""
    sde = rs.VP()
    field = rs.GaussianField(np.full((3, 4), S))
    process = rs.Preconditioned(sde, field.score(sde), pc.step_matched(field, sde), guard="off")
    law = rs.exact.law(process, rs.ReverseDiffusion(), rs.Grid.uniform(sde, 200))
    assert abs(law.variance / S - 1).max() < 0.06


def test_langevin_matched_makes_all_coefficients_alike() -> None:
    """One factor for all: the relative distance from the stationary law is the same in each."""
    sde, field, t = SDES["VE"], FIELDS["dct"], 0.6
    for M in (pc.langevin_matched(field, sde, t), pc.langevin_matched(field, sde)):
        process = rs.Preconditioned(sde, field.score(sde), M)
        solver = rs.PredictorCorrector(None, rs.AnnealedLangevin(0.3, steps=5))
        law = rs.exact.law(process, solver, rs.Grid([t, 0.59]), start=(IMAGE, 0.0))
        ratio = law.variance / field.at(sde, t).spectrum
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-10)
        np.testing.assert_allclose(law.gain, law.gain.mean(), rtol=1e-10)


@pytest.mark.parametrize("u", [0.5, 1.0, 1.5625])
def test_langevin_has_its_closed_form(u: float) -> None:
    """v_n = v_inf + (v_0 - v_inf) b^2n with v_inf = V / (1 - e u / (2V)), to 1e-12 a mode."""
    sde, field, t, n = SDES["VE"], FIELDS["pixel"], 0.7, 40
    e = 2 * (0.2 * sde.sigma(t)) ** 2
    process = rs.Preconditioned(sde, field.score(sde), pc.Scalar(math.sqrt(u)))
    solver = rs.PredictorCorrector(None, rs.AnnealedLangevin(0.2, steps=n))
    law = rs.exact.law(process, solver, rs.Grid([t, 0.6]), start=(0.0, 2.0))
    V = field.spectrum + sde.sigma(t) ** 2
    b, v_inf = 1 - e * u / V, V / (1 - e * u / (2 * V))
    np.testing.assert_allclose(law.variance, v_inf + (2.0 - v_inf) * b ** (2 * n), rtol=1e-12)
    np.testing.assert_allclose(law.gain, b**n, rtol=1e-12)


# -- what a law tells -----------------------------------------------------------------------------


def test_measures_are_those_of_matrices() -> None:
    sde = SDES["VE"]
    for basis, field in FIELDS.items():
        process = rs.Preconditioned(sde, field.score(sde), filter_of(basis), guard="off")
        law = rs.exact.law(process, rs.ReverseDiffusion(), grid_of(sde), start="prior")
        mean, cov = as_matrices(law)
        mixture = field.to_mixture()
        assert law.frechet() == pytest.approx(frechet((mean, cov), mixture), rel=1e-9)
        assert law.w2() == pytest.approx(math.sqrt(law.frechet()), rel=1e-14)
        total = np.trace(mixture.cov)
        assert law.relative_w2() == pytest.approx(law.w2() / math.sqrt(total), rel=1e-10)
        P, gap = np.linalg.inv(mixture.cov), mean - mixture.mean
        kl = np.trace(P @ cov) - 30 + gap @ P @ gap
        kl += np.linalg.slogdet(mixture.cov)[1] - np.linalg.slogdet(cov)[1]
        assert law.kl() == pytest.approx(kl / 2 / 30, rel=1e-9)
        exact = field.at(sde, sde.t_end)
        assert law.w2(exact) != law.w2() and law.w2(exact) > 0


def test_octaves_of_the_law_are_those_of_samples() -> None:
    field = rs.GaussianField.power_law(8)
    sde = SDES["VP"]
    process = rs.ReverseSDE(sde, field.score(sde))
    grid = rs.Grid.uniform(sde, 20)
    law = rs.exact.law(process, rs.EulerMaruyama(), grid, start="prior")
    x = rs.sample(process, rs.EulerMaruyama(), 4000, times=grid, rng=0).x
    edges, ratio = field.octaves(x)
    # 4000 samples of at least 8 coefficients: five standard errors, 5 sqrt(2 / 32000) = 0.04
    np.testing.assert_allclose(law.octaves(about="reference"), ratio, rtol=0.04)
    assert len(law.octaves()) == len(ratio)
    index = field.octave_index()
    want = [np.mean((law.variance / field.spectrum)[index == j]) for j in range(len(ratio))]
    np.testing.assert_allclose(law.octaves(), want, rtol=1e-12)


# -- refusals -------------------------------------------------------------------------------------


def on_fft(M: Any, **more: Any) -> Any:
    sde, field = SDES["VP"], FIELDS["fft"]
    return rs.Preconditioned(sde, field.score(sde), M, guard="off", **more)


def clipped(process: Any, state: rs.State, s: Any, noise: Any) -> rs.State:
    new = rs.EulerMaruyama()(process, state, s, noise)
    return new._replace(x=np.clip(new.x, -0.1, 0.1))


EM = rs.EulerMaruyama()
BAD: list[tuple[Any, Any, str]] = [
    (on_fft(pc.DCT(np.ones(EVENT))), EM, "is not diagonal in the basis of the target"),
    (on_fft(pc.Stepwise(lambda t, s: pc.DCT(np.ones(EVENT)))), EM, "is not diagonal in the basis"),
    (on_fft(pc.Dense(np.eye(30), EVENT)), EM, "is a matrix, of which no basis is known"),
    (on_fft(filter_of("fft") @ filter_of("pixel")), EM, "is not diagonal in the basis"),
    (
        on_fft(pc.Identity(), skew=pc.FourierSkew(np.zeros(EVENT))),
        EM,
        "has a skew term.*to_mixture",
    ),
    (on_fft(pc.Identity()), clipped, "is not affine in every coefficient"),
    (on_fft(pc.Identity()), rs.PredictorCorrector(EM, rs.MALA(0.1)), "no formula"),
]


@pytest.mark.parametrize("process, solver, words", BAD, ids=range(len(BAD)))
def test_what_has_no_such_law_is_refused(process: Any, solver: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rs.exact.law(process, solver, 4)


def test_bad_starts_and_references_are_named() -> None:
    process = on_fft(pc.Identity())
    for start, words in [
        ("noise", "`start` must be 'marginal', 'prior' or a pair"),
        ((0.0, np.ones((2, 2))), r"`start` must hold .* event shape \(5, 6\)"),
        ((0.0, -1.0), "`start` must hold a finite mean and variances that are not negative"),
    ]:
        with pytest.raises(ValueError, match=words):
            rs.exact.law(process, EM, 4, start=start)
    law = rs.exact.law(process, EM, 4)
    with pytest.raises(ValueError, match="`reference` must be a field like"):
        law.w2(FIELDS["dct"])
    with pytest.raises(ValueError, match="'last_mean' is not there for .* which has memory"):
        rs.exact.law(
            rs.ReverseSDE(SDES["VP"], FIELDS["fft"].score(SDES["VP"])),
            rs.SDEDPMSolverPP(2),
            4,
            denoise="last_mean",
        )


def test_what_is_not_there_for_fields_says_what_is() -> None:
    field = rs.GaussianField.power_law(4)
    process = rs.ReverseSDE(rs.VP(), field.score(rs.VP()))
    solver = rs.EulerMaruyama()
    calls: list[Any] = [
        lambda: rs.exact.weak_error(process, solver, 10),
        lambda: rs.exact.strong_error(process, solver, 10),
        lambda: rs.exact.order(process, solver, "weak", steps=(16, 32)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"only refsde.exact.law.*target.to_mixture\(\)"):
            call()
    with pytest.raises(TypeError, match=r"`target` must be a GaussianMixture.*octaves\(x\)"):
        rs.measure.dispersion(field.sample(5, rng=0), field)  # type: ignore[arg-type]


def test_a_filter_matched_to_another_spectrum_keeps_its_kinds() -> None:
    """White data under a filter that is not: coefficients are alike only where both agree."""
    sde, white = SDES["VE"], rs.GaussianField(np.full(EVENT, 0.7), 0.3)
    M = pc.noise_matched(white, sde, spectrum=FIELDS["fft"].spectrum)
    on_field, dense = processes(white, sde, M, "noise")
    solver, grid = rs.ReverseDiffusion(), grid_of(sde)
    got = rs.exact.law(on_field, solver, grid)
    same(got, rs.exact.law(dense, solver, grid))
    assert np.ptp(got.variance) > 0.01


def test_z_counts_the_spread_that_a_wrong_mean_brings() -> None:
    """Powers about the data's mean, of draws about another one, ten standard deviations away.

    A variance of 400 normal scores is off by more than 0.35 with probability 8e-7.
    """
    field = rs.GaussianField.power_law(16, mean=0.0)
    gap = 10 * rs.GaussianField(field.spectrum).sample(1, rng=5)[0]
    mean = coefficients(field.basis, gap)
    ones = np.ones(field.event_shape)
    law = FieldLaw(field, field.spectrum, mean, ones, nfe=0, mean_field=False)
    x = gap + field.sample(400, rng=0)
    z = np.array([law.octave_z(one[None]) for one in x])
    assert np.all(np.abs(z.var(axis=0) - 1) < 0.35)
    assert np.all(np.abs(z.mean(axis=0)) < 5 / math.sqrt(400))
