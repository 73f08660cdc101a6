"""Hypothesis strategies for property tests: targets, SDEs, times, grids, points, maps, solvers.

Examples shrink towards the simplest: one round Gaussian on the line, VP, one step, points at the
mean.  Hypothesis is an extra: ``pip install 'refsde[testing]'``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from refsde._types import SDE, Kind
from refsde.precondition import (
    DCT,
    Dense,
    Diagonal,
    Fourier,
    Identity,
    Preconditioner,
    Product,
    Scalar,
)
from refsde.sde import EDM, VE, VP, Cosine, LinearSDE, SubVP, Tabulated
from refsde.solvers import (
    DDIM,
    ERSDE,
    GGF,
    IPNDM,
    MALA,
    SEA,
    SEEDS,
    SOSRA,
    SOSRA2,
    SRA1,
    SRA2,
    SRA3,
    TAB,
    AnalyticDPM,
    Ancestral,
    Angular,
    AnnealedLangevin,
    Churn,
    DPMSolver,
    DPMSolverPP,
    EmbeddedRK,
    EulerMaruyama,
    ExponentialRK,
    Heun,
    Lamba,
    Langevin,
    Multistep,
    OneStep,
    PredictorCorrector,
    ReverseDiffusion,
    RhoAB,
    RhoRK,
    SASolver,
    SDEDPMSolverPP,
    ShARK,
    UniPC,
)
from refsde.targets import GaussianMixture
from refsde.times import Grid

try:
    from hypothesis import strategies as st
    from hypothesis.extra.numpy import arrays
    from hypothesis.strategies import DrawFn, SearchStrategy
except ImportError as missing:
    raise ImportError(
        "refsde.testing.strategies draws with Hypothesis: pip install 'refsde[testing]'"
    ) from missing

__all__ = [
    "gmms",
    "points",
    "preconditioners",
    "rotations",
    "sdes",
    "solvers",
    "time_grids",
    "times",
]

Covariance = Literal["full", "diagonal", "spherical"]
FORMS: tuple[Covariance, ...] = ("spherical", "diagonal", "full")
Range = int | tuple[int, int]
FAR = 4.0  # standard deviations within which points lie
MANY = 64  # numbers in an array, above which a seed makes them
EIGHTHS = 8  # of a unit: numbers that print short and shrink fast


def _whole(name: str, value: Range) -> SearchStrategy[int]:
    low, high = (value, value) if isinstance(value, int) else value
    if not 1 <= low <= high:
        raise ValueError(
            f"`{name}` must be a positive int or a pair (least, most), got {value!r}: pass (1, 4)"
        )
    return st.integers(low, high)


def _block(shape: tuple[int, ...], low: float, high: float) -> SearchStrategy[np.ndarray]:
    """Arrays of numbers in [low, high]: zero first, then multiples of 1/8, then any."""
    if math.prod(shape) > MANY:  # one by one they would be too many decisions

        def generic(seed: int) -> np.ndarray:
            rng = np.random.default_rng(seed)
            return rng.uniform(low, high, shape) if seed else np.zeros(shape)

        return st.integers(0, 999).map(generic)
    short = st.integers(math.ceil(low * EIGHTHS), math.floor(high * EIGHTHS))
    any_number = st.floats(low, high, allow_subnormal=False)
    elements = st.one_of(short.map(lambda k: k / EIGHTHS), any_number)
    return arrays(float, shape, elements=elements, fill=st.nothing())


@st.composite
def rotations(draw: DrawFn, dim: int) -> np.ndarray:
    """Orthogonal matrices (dim, dim), reflections among them; the simplest is the identity.

    Parameters
    ----------
    dim : int
        Dimension.

    Examples
    --------
    >>> import refsde as rs
    >>> strategy = rs.testing.strategies.rotations(3)
    """
    seed = draw(st.integers(0, 999))
    if seed == 0:
        return np.eye(dim)
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


@st.composite
def gmms(
    draw: DrawFn,
    dims: Range = (1, 4),
    components: Range = (1, 4),
    *,
    condition: float = 100.0,
    forms: Sequence[Covariance] = FORMS,
    spread: float = 4.0,
    smallest: float = 0.125,
) -> GaussianMixture:
    """Mixtures of Gaussians in any dimension, with conditioned covariances.

    Parameters
    ----------
    dims, components : int or (int, int)
        Dimension d and number of components K, or the least and the most of them.
    condition : float
        Largest ratio of two variances of a component along its axes, at least 1.
    forms : sequence of {"full", "diagonal", "spherical"}
        What covariances may be.
    spread : float
        Means lie in [-spread, spread]^d.
    smallest : float
        The largest variance of a component lies between this and 2.

    Raises
    ------
    ValueError
        If a range is empty, ``condition`` below 1, a form unknown or ``smallest`` not in (0, 2].

    Examples
    --------
    >>> import refsde as rs
    >>> strategy = rs.testing.strategies.gmms(dims=(1, 64), components=3, condition=10.0)
    """
    if not condition >= 1:
        raise ValueError(f"`condition` must be at least 1, got {condition!r}: 1 is round")
    if not 0 < smallest <= 2:
        raise ValueError(f"`smallest` must lie in (0, 2], got {smallest!r}: leave the default")
    if not forms or not set(forms) <= set(FORMS):
        raise ValueError(f"`forms` must be among {FORMS}, got {tuple(forms)!r}")
    d, K = draw(_whole("dims", dims)), draw(_whole("components", components))
    form = draw(st.sampled_from([f for f in FORMS if f in forms]))
    parts = np.array(draw(st.lists(st.integers(1, 8), min_size=K, max_size=K)), dtype=float)
    means = draw(_block((K, d), -spread, spread))
    largest = 2.0 * (smallest / 2.0) ** draw(_block((K,), 0.0, 1.0))
    if form == "spherical":
        return GaussianMixture(parts / parts.sum(), means, largest)
    down = draw(_block((K, d), 0.0, 1.0))  # of the way to largest / condition
    variances = largest[:, None] * condition**-down
    if form == "diagonal":
        return GaussianMixture(parts / parts.sum(), means, variances)
    Q = np.stack([draw(rotations(d)) for _ in range(K)])
    covs = (Q * variances[:, None, :]) @ Q.transpose(0, 2, 1)
    return GaussianMixture(parts / parts.sum(), means, (covs + covs.transpose(0, 2, 1)) / 2)


def sdes(*, tables: bool = True) -> SearchStrategy[LinearSDE]:
    """The forward SDEs of the package, with parameters that leave next to no signal at T.

    Parameters
    ----------
    tables : bool
        Whether `Tabulated` is among them, which has kinks.

    Examples
    --------
    >>> import refsde as rs
    >>> strategy = rs.testing.strategies.sdes(tables=False)
    """
    betas = st.sampled_from([(0.1, 20.0), (0.1, 9.0), (5.0, 5.0), (0.01, 40.0), (1.0, 20.0)])
    levels = st.tuples(st.sampled_from([0.01, 0.002, 0.1]), st.sampled_from([50.0, 5.0, 300.0]))
    smooth: list[SearchStrategy[LinearSDE]] = [
        st.just(VP()),  # first: what examples shrink to
        betas.map(lambda b: VP(*b)),
        betas.map(lambda b: SubVP(*b)),
        levels.map(lambda s: VE(*s)),
        levels.map(lambda s: VE(*s, "exact")),
        levels.map(lambda s: EDM(*s)),
        st.sampled_from([0.008, 0.001, 0.03]).map(lambda c: Cosine(c)),
    ]
    some_betas = st.lists(st.sampled_from([0.02, 0.1, 0.3, 0.5]), min_size=2, max_size=12)
    rises = st.lists(st.sampled_from([1.5, 1.1, 4.0]), min_size=1, max_size=12)
    tabled: list[SearchStrategy[LinearSDE]] = [
        some_betas.map(lambda b: Tabulated([*b, 0.9, 0.9])),
        rises.map(lambda r: Tabulated(sigmas=0.05 * np.cumprod([*r, 50.0, 4.0]))),
    ]
    return st.one_of(*smooth, *(tabled if tables else []))


def times(sde: SDE, *, t_end: float | None = None, noise_end: bool = True) -> SearchStrategy[float]:
    """Times from ``t_end`` to T, on all scales; the simplest is T.

    Parameters
    ----------
    sde : SDE
        Whose clock it is: t = 0 is data, T noise.
    t_end : float, optional
        The least; ``sde.t_end`` by default.
    noise_end : bool
        Whether T itself may be drawn.

    Raises
    ------
    ValueError
        If ``t_end`` is outside [0, T).

    Examples
    --------
    >>> import refsde as rs
    >>> strategy = rs.testing.strategies.times(rs.VP())
    """
    low, T = float(sde.t_end if t_end is None else t_end), float(sde.T)
    if not 0 <= low < T:
        raise ValueError(f"`t_end` must lie in [0, T) = [0, {T:g}), got {low!r}: t = 0 is data")
    least = max(low, 1e-5 * T)

    def even(u: float) -> float:
        return min(T, max(low, T - u * (T - low)))

    def by_scale(u: float) -> float:
        return min(T, max(low, T * math.exp(u * math.log(least / T))))

    first = 0.0 if noise_end else 1 / 64
    share = st.floats(first, 1.0, allow_subnormal=False)
    return st.one_of(share.map(even), share.map(by_scale))


def _little(t: float) -> float:
    """A posterior variance, not that of any data."""
    return 0.01 * t


@st.composite
def time_grids(
    draw: DrawFn, sde: SDE, *, steps: Range = (1, 12), t_end: float | None = None
) -> Grid:
    """Grids from T down to ``t_end``: of every published spacing, and of none.

    Parameters
    ----------
    sde : SDE
        Whose clock it is.
    steps : int or (int, int)
        Number of steps, or the least and the most.
    t_end : float, optional
        Last time; ``sde.t_end`` by default.

    Examples
    --------
    >>> import refsde as rs
    >>> strategy = rs.testing.strategies.time_grids(rs.VP(), steps=(2, 50))
    """
    n = draw(_whole("steps", steps))
    end = float(sde.t_end if t_end is None else t_end)
    made = {
        "uniform": lambda: Grid.uniform(sde, n, end),
        "power": lambda: Grid.power(sde, n, 2.0, end),
    }
    if math.isfinite(float(sde.lam(end))):
        made["logsnr"] = lambda: Grid.logsnr(sde, n, end)
        made["karras"] = lambda: Grid.karras(sde, n, 7.0, end)
    spacing = draw(st.sampled_from([*made, "uneven"]))
    if spacing in made:
        return made[spacing]()
    shares = draw(st.lists(st.integers(1, EIGHTHS), min_size=n, max_size=n))
    inner = sde.T - (sde.T - end) * np.cumsum(shares)[:-1] / sum(shares)
    return Grid([sde.T, *inner, end])


@st.composite
def points(
    draw: DrawFn,
    target: Any,
    sde: SDE | None = None,
    t: float = 0.0,
    *,
    n: Range = (1, 5),
) -> np.ndarray:
    """Points (n, d) where the law of a target, or of the target diffused, has its mass.

    Parameters
    ----------
    target : GaussianMixture, Empirical or another with ``mean`` and ``cov``
        The law of the data.
    sde : SDE, optional
        What diffuses it.
    t : float
        To which time: 0 is data.
    n : int or (int, int)
        How many points, or the least and the most.

    Notes
    -----
    Each point is the mean plus up to 4 standard deviations of the whole law along every coordinate:
    between the modes and beyond them, too.

    Examples
    --------
    >>> import refsde as rs
    >>> ring, sde = rs.GaussianMixture.ring(8), rs.VP()
    >>> strategy = rs.testing.strategies.points(ring, sde, 0.5)
    """
    rows = draw(_whole("n", n))
    a, s = (1.0, 0.0) if sde is None else (float(sde.alpha(t)), float(sde.sigma(t)))
    mean, cov = np.atleast_1d(target.mean), np.atleast_2d(target.cov)
    std = np.sqrt(a * a * np.diag(cov) + s * s)
    return np.asarray(a * mean + std * draw(_block((rows, len(mean)), -FAR, FAR)))


@st.composite
def preconditioners(draw: DrawFn, event_shape: int | Sequence[int]) -> Preconditioner:
    """Static linear maps of events, invertible, with gains in [1/2, 2]; the simplest is `Identity`.

    Parameters
    ----------
    event_shape : int or sequence of int
        Shape of one sample; filters act on its last two axes, or on the only one.

    Raises
    ------
    ValueError
        If the shape is empty or has an edge below 1.

    Examples
    --------
    >>> import refsde as rs
    >>> strategy = rs.testing.strategies.preconditioners((3, 8, 8))
    """
    event = (event_shape,) if isinstance(event_shape, int) else tuple(event_shape)
    if not event or min(event) < 1:
        raise ValueError(
            f"`event_shape` must hold positive ints, the shape of one sample, got {event_shape!r}: "
            "pass (d,)"
        )
    axes = min(2, len(event))

    def single(form: str) -> Preconditioner:
        if form == "identity":
            return Identity()
        if form == "scalar":
            return Scalar(2.0 ** draw(st.floats(-1.0, 1.0, allow_subnormal=False)))
        if form == "dense":
            d = math.prod(event)
            gains = 2.0 ** draw(_block((d,), -1.0, 1.0))
            return Dense(draw(rotations(d)) @ (gains[:, None] * draw(rotations(d))), event)
        whole = len(event) == axes or draw(st.booleans())
        gains = 2.0 ** draw(_block(event if whole else event[-axes:], -1.0, 1.0))
        if form == "diagonal":
            return Diagonal(gains)
        if form == "dct":
            return DCT(gains, axes)
        last = tuple(range(-axes, 0))
        return Fourier(0.5 * (gains + np.roll(np.flip(gains, last), 1, last)), axes)

    forms = st.sampled_from(["identity", "scalar", "diagonal", "fourier", "dct", "dense"])
    factors = [single(form) for form in draw(st.lists(forms, min_size=1, max_size=2))]
    return factors[0] if len(factors) == 1 else Product(*factors)


def solvers(
    kind: Kind | None = None, *, order: Literal["weak", "strong", "flow"] | None = None
) -> SearchStrategy[Any]:
    """The solvers of the package with fixed steps, with their options.

    Parameters
    ----------
    kind : {"forward", "reverse", "flow"}, optional
        Only those that accept this kind of process: each has a set ``accepts``.
    order : {"weak", "strong", "flow"}, optional
        Only those that declare this order of convergence: ``solver.orders[order]``.

    Raises
    ------
    ValueError
        If no solver is left.

    Notes
    -----
    Those with `MALA` need a score with a log-density, as that of a target.

    Examples
    --------
    >>> import refsde as rs
    >>> strategy = rs.testing.strategies.solvers("flow", order="flow")
    """
    correctors: list[Any] = [None, Langevin(0.1), AnnealedLangevin(0.1, steps=2)]
    predictors: list[Any] = [EulerMaruyama(), Heun(), ReverseDiffusion()]
    made: list[Any] = [
        *predictors,
        Ancestral(),
        Ancestral("posterior"),
        Ancestral("large"),
        *(DDIM(eta) for eta in (0.0, 0.5, 1.0)),
        *(OneStep(share) for share in (0.0, 0.5, 1.0)),
        OneStep.sde_dpm(),
        *(EmbeddedRK("RK45"), EmbeddedRK("RK23")),
        *(GGF(), GGF(extrapolate=False), Lamba(), Lamba(extrapolate=True)),
        *(SRA1(), SRA2(), SRA3(), SOSRA(), SOSRA2(), ShARK(), SEA(), SEA(c=0.0)),
        # no longer history than two: they run on any grid
        *(TAB(1), TAB(1, tau=1.0), RhoAB(1), IPNDM(2), Multistep("score", "t", 0)),
        *(
            Angular(1),
            DPMSolverPP(2),
            DPMSolverPP(2, singlestep=True),
            UniPC(2),
            UniPC(2, prediction="eps"),
        ),
        *(RhoRK("2heun"), RhoRK("3kutta"), DPMSolver(2), DPMSolver(3), Churn(churn=1.0)),
        *(SDEDPMSolverPP(2), SDEDPMSolverPP(2, singlestep=True), SEEDS(2), SASolver(2, 0.5)),
        *(ERSDE(1), ERSDE(2), ExponentialRK(RhoRK().method.tableau), AnalyticDPM(_little)),
        *(PredictorCorrector(p, c) for p in predictors for c in correctors),
        PredictorCorrector(None, Langevin(0.1, steps=2)),
        *(PredictorCorrector(p, MALA(0.2)) for p in (None, Heun())),
    ]
    kept = [solver for solver in made if kind is None or kind in solver.accepts]
    kept = [s for s in kept if order is None or order in getattr(s, "orders", {})]
    if not kept:
        raise ValueError(
            f"`kind` = {kind!r} and `order` = {order!r} leave no solver: kinds are 'forward', "
            "'reverse' and 'flow', orders 'weak', 'strong' and 'flow'"
        )
    return st.sampled_from(kept)
