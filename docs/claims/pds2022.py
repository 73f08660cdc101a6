"""The claims of Preconditioned Diffusion Sampling, measured with exact scores.

``python docs/claims/pds2022.py`` prints every table, ``P5 P11`` these alone.  Functions return
the rows that it prints.  But for the draws of P12 nothing is random: laws are those of
`refsde.exact.law`, read out of the solvers themselves.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import refsde as rs
from refsde import precondition as pc

SEED = 20220704
Row = dict[str, Any]
Method = str | float  # a number is the alpha of the published filter
SIGMA_MIN = 0.01
SETTINGS = {32: (50, 0.16), 128: (190, 0.075), 256: (378, 0.075), 1024: (1348, 0.15)}
SIZES = tuple(SETTINGS)
TARGETS = (0.10, 0.05, 0.02, 0.01, 0.005)
ALPHAS = np.geomspace(1.5, 400, 24)  # alpha* is the best of these: an oracle
COARSE = (2, 3, 4, 5, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100)
MOST = 6000  # steps of a search
P = rs.ReverseDiffusion()

# -- targets, levels, methods ---------------------------------------------------------------------


@cache
def field(n: int, mean: float = 0.5) -> rs.GaussianField:
    """Images with the spectrum 1 / |k|^2 and pixels of standard deviation 0.25."""
    return rs.GaussianField.power_law(n, mean=mean)


@dataclass(frozen=True, eq=False)
class Kinds:
    """The centred field, one coefficient of every kind.

    Without the signal-to-noise rule, coefficients of a sampler share nothing, and those of equal
    |k| behave alike.  So do neighbours nearly: from |k| = 32 on, kinds within 1 % of |k| are
    one, but for the last.
    """

    n: int
    first: np.ndarray  # index into the full grid
    counts: np.ndarray
    target: rs.GaussianField

    @classmethod
    @cache
    def of(cls, n: int, width: float = 0.01) -> Kinds:
        k = np.rint(n * np.fft.fftfreq(n)).astype(int)
        k2 = np.add.outer(k * k, k * k).reshape(-1)
        kinds, first, counts = np.unique(k2, return_index=True, return_counts=True)
        if width:
            rings = np.floor(np.log(np.maximum(kinds, 1)) / (2 * width)).astype(int)
            rings = np.where(kinds < 1024, kinds - 2000, rings)
            rings[-1] += 1  # the least S sets the largest stable step
            _, index = np.unique(rings, return_inverse=True)
            total = np.bincount(index, weights=counts)
            centre = np.bincount(index, weights=counts * kinds) / total
            off = np.abs(kinds - centre[index])
            order = np.lexsort((off, index))
            begins = np.unique(index[order], return_index=True)[1]
            first, counts = first[order][begins], total
        S = field(n, 0.0).spectrum.reshape(-1)[first]
        return cls(n, first, counts, rs.GaussianField(S, 0.0, basis="pixel", axes=1))

    def published(self, alpha: float) -> pc.Preconditioner:
        return pc.Diagonal(gains(self.n, alpha).reshape(-1)[self.first], axes=1)

    def w2(self, variance: np.ndarray, exact: np.ndarray | None = None) -> float:
        """Relative W2 distance of a law with these variances."""
        S = self.target.spectrum if exact is None else exact
        gaps = (np.sqrt(variance) - np.sqrt(S)) ** 2
        return math.sqrt(np.sum(self.counts * gaps) / np.sum(self.counts * S))


@dataclass(frozen=True, eq=False)
class Whole:
    """The field itself."""

    n: int
    target: rs.GaussianField

    def published(self, alpha: float) -> pc.Preconditioner:
        return pc.Fourier(gains(self.n, alpha))


KEPT: dict[tuple[int, float], np.ndarray] = {}


def gains(n: int, alpha: float) -> np.ndarray:
    """Gains of the published filter: of the field as it is, with its mean."""
    if (n, alpha) not in KEPT:
        KEPT[n, alpha] = np.sqrt(pc.pds_frequency_filter(field(n), float(alpha)).spectrum())  # type: ignore[arg-type]
        for key in [key for key in KEPT if key[0] > 256][:-2]:
            del KEPT[key]
    return KEPT[n, alpha]


def smld(n: int, N: int) -> tuple[rs.Tabulated, rs.Grid]:
    """N geometric levels, and the grid of the chain, which ends at 0."""
    sde = rs.Tabulated(sigmas=np.geomspace(SIGMA_MIN, SETTINGS[n][0], N))
    return sde, rs.Grid.uniform(sde, N, t_end=0.0)


def log_range(n: int) -> float:
    return 2 * math.log(SETTINGS[n][0] / SIGMA_MIN)


def process(bed: Any, sde: Any, N: int, method: Method) -> tuple[Any, Any]:
    """Process and predictor of a method."""
    target = bed.target
    score = target.score(sde)
    if method in ("vanilla", "ancestral", "DDIM"):
        solver = {"vanilla": P, "ancestral": rs.Ancestral(), "DDIM": rs.DDIM()}[str(method)]
        return rs.ReverseSDE(sde, score), solver
    if method == "noise":
        return rs.Preconditioned(sde, score, pc.noise_matched(target, sde), law="noise"), P
    if method == "scalar":
        M: Any = pc.scalar_rule(log_range(bed.n), N)
    elif method == "step":
        M = pc.step_matched(target, sde)
    else:
        M = bed.published(float(method))
    return rs.Preconditioned(sde, score, M, law="pds", guard="off"), P


def law(
    bed: Any,
    N: int,
    method: Method,
    corrected: bool = False,
    *,
    start: Any = "prior",
    denoise: Any = None,
) -> Any:
    """Exact law of a run with N levels from the prior; ``corrected`` by one step of Langevin."""
    sde, grid = smld(bed.n, N)
    made, solver = process(bed, sde, N, method)
    if corrected:
        solver = rs.PredictorCorrector(solver, rs.Langevin(SETTINGS[bed.n][1]))
    if denoise is None:
        denoise = "none" if method == "noise" else "last_mean"
    return rs.exact.law(made, solver, grid, start=start, denoise=denoise)


@cache
def error(n: int, N: int, method: Method, corrected: bool = False) -> float:
    """Relative W2 distance on centred data."""
    if method == "best":
        return best(n, N, corrected)[1]
    if corrected:  # the rule's norms are over all coefficients
        return float(law(Whole(n, field(n, 0.0)), N, method, True).relative_w2())
    kinds = Kinds.of(n)
    return kinds.w2(law(kinds, N, method).variance)


@cache
def best(n: int, N: int, corrected: bool = False) -> tuple[float, float]:
    """The alpha of 24 with the least error, and that error, which has one minimum over them."""
    begin = pc.alpha_rule(field(32), log_range(32), N) * {32: 1, 128: 0.8, 256: 0.7, 1024: 0.6}[n]
    at = int(np.argmin(np.abs(np.log(ALPHAS / begin))))
    here = error(n, N, float(ALPHAS[at]), corrected)
    for way in (1, -1):
        while 0 <= at + way < len(ALPHAS):
            there = error(n, N, float(ALPHAS[at + way]), corrected)
            if there >= here:
                break
            at, here = at + way, there
    return float(ALPHAS[at]), here


def smallest(n: int, method: Method, goal: float, corrected: bool = False) -> int | None:
    """Fewest levels with an error of at most ``goal``, of a coarse scan and then a search."""
    bad, good = 0, 0
    N = 3 if method == "noise" else 10
    while N <= MOST:
        if error(n, N, method, corrected) <= goal:
            good = N
            break
        bad, N = N, math.ceil(1.4 * N)
    if not good:
        return None
    while good - bad > 1:
        if bad < 3:
            middle = (good + bad) // 2
            if middle < (3 if method == "noise" else 5):
                break
        else:  # where the error meets the goal, if both are straight in logarithms
            high, low = (math.log(error(n, k, method, corrected) / goal) for k in (bad, good))
            share = high / (high - low)
            middle = math.ceil(bad * (good / bad) ** share)
            middle = min(max(middle, bad + 1), good - 1)
        if error(n, middle, method, corrected) <= goal:
            good = middle
        else:
            bad = middle
    return good


# -- the claims -----------------------------------------------------------------------------------


def langevin(
    target: Any, sde: Any, t: float, e: float, M: Any, steps: int, start: Any, skew: Any = None
) -> Any:
    """Law after Langevin steps of size e at the level t."""
    made = rs.Preconditioned(sde, target.score(sde), M, law="marginal", skew=skew)
    corrector = rs.AnnealedLangevin(math.sqrt(e / 2) / sde.sigma(t), steps)
    there = rs.Grid([t, 0.0])
    return rs.exact.law(made, rs.PredictorCorrector(None, corrector), there, start=start)


def residual(law: str, K: bool = True) -> float:
    """Largest entry of dV/dt along the reverse process less what p_t asks for, over its size."""
    sde, t = rs.VP(), 0.2
    target = rs.GaussianMixture([1.0], np.zeros((1, 2)), np.array([[[1.0, 0.6], [0.6, 2.0]]]))
    M, skew = pc.Dense([[1.0, 0.3], [-0.2, 1.6]]), pc.Skew([[0.0, 3.0], [-3.0, 0.0]])
    V, eye = target.at(sde, t).cov, np.eye(2)
    made: Any = rs.Preconditioned(sde, target.score(sde), M, skew=skew if K else None)
    if law == "Langevin":  # (A + K) score dt + sqrt(2) M dw
        drift, noise, wanted = made.gram(made.score(eye, t)).T, made.colour(eye).T, 0 * V
        moved = drift @ V + V @ drift.T + 2 * noise @ noise.T
    else:
        made = rs.Preconditioned(sde, target.score(sde), M, law=law, skew=skew if K else None)  # type: ignore[arg-type]
        drift, noise = made.drift(eye, t).T, made.diffuse(eye, t).T
        moved = -(drift @ V + V @ drift.T) + noise @ noise.T  # time runs backward
        wanted = -(2 * sde.f(t) * V + sde.g2(t) * eye)
    return float(np.abs(moved - wanted).max() / np.abs(noise @ noise.T).max())


def p1() -> list[Row]:
    """Langevin with any A and K keeps p_t; a step of size e has the stationary law V/(1 - eu/2V)"""
    rows: list[Row] = []
    target, sde = field(8, 0.0), rs.Tabulated(sigmas=[0.2])
    V = target.spectrum + sde.sigma(1.0) ** 2
    filters = {"I": pc.Identity(), "published": pc.pds_frequency_filter(field(8), 5.0)}
    filters["matched"] = pc.langevin_matched(target, sde, 1.0)
    for name, M in filters.items():
        u = np.broadcast_to(np.asarray(M.spectrum()), V.shape)
        e = float(0.5 * (V / u).min())
        ran = langevin(target, sde, 1.0, e, M, 800, (0.0, 1.0)).variance
        rows.append(
            {
                "what": f"stationary law, A = {name}",
                "measured": float(np.abs(ran / (V / (1 - e * u / (2 * V))) - 1).max()),
                "exact": "0",
            }
        )
    for name in ("Langevin", "marginal", "pds"):
        rows.append(
            {
                "what": f"generator residual of {name}, A and K dense",
                "measured": residual(name),
                "exact": "not 0" if name == "pds" else "0",
            }
        )
    # a skew term that turns phases
    small = rs.GaussianField(np.array([1.0, 0.5, 0.25, 0.5]), basis="fft", axes=1)
    w = np.array([0.0, 1.5, 0.0, -1.5])
    V, e = small.spectrum + sde.sigma(1.0) ** 2, 0.05
    turned = langevin(
        small.to_mixture(), sde, 1.0, e, pc.Identity(), 400,
        (np.zeros(4), np.eye(4)), pc.FourierSkew(w, axes=1),
    )  # fmt: skip
    F = np.fft.fft(np.eye(4), norm="ortho")
    v = np.diag(F @ turned.cov @ F.conj().T).real
    exact = V / (1 - e * (1 + w**2) / (2 * V))
    rows.append(
        {
            "what": "stationary law with skew w, u = 1",
            "measured": float(np.abs(v / exact - 1).max()),
            "exact": "0",
        }
    )
    for w2 in (24.0, 25.0):
        target2 = rs.GaussianMixture([1.0], np.zeros((1, 2)), np.array([np.diag([1.0, 100.0])]))
        K = pc.Skew(math.sqrt(w2) * np.array([[0.0, 1.0], [-1.0, 0.0]]))
        ve = rs.VE(sigma_min=1e-9)
        made = rs.Preconditioned(ve, target2.score(ve), pc.Identity(), law="marginal", skew=K)
        rates = -np.linalg.eigvals(made.gram(made.score(np.eye(2), 0.0)).T)
        rows.append(
            {
                "what": f"S = (1, 100): slowest rate at w^2 = {w2:g}",
                "measured": float(rates.real.min()),
                "exact": "0.505 from 24.5 on",
            }
        )
    return rows


def p2(N: int = 20_000) -> list[Row]:
    """A static filter leaves u / (2u - 1) of the variance as reverse diffusion is refined"""
    us, rows = np.array([0.75, 1.0, 1.25, 1.5625]), []
    M = pc.Diagonal(np.sqrt(np.repeat(us, 3)), axes=1)
    for name, chain, largest in (
        ("VE", rs.Tabulated(sigmas=np.geomspace(1e-4, 300, N)), 10.0),
        ("VP", rs.Tabulated.from_betas("linear", N), 4.0),
    ):
        S = np.array([0.1, 1.0, largest])
        target = rs.GaussianField(np.tile(S, len(us)), basis="pixel", axes=1)
        made = rs.Preconditioned(chain, target.score(chain), M, law="pds", guard="off")
        ran = rs.exact.law(made, P, rs.Grid.uniform(chain, N, t_end=0.0), start="prior")
        for u, row in zip(us, (ran.variance / target.spectrum).reshape(-1, 3), strict=True):
            rows.append(
                {
                    "chain": name,
                    "N": N,
                    "u": float(u),
                    **dict(zip(("S = 0.1", "S = 1"), map(float, row), strict=False)),
                    "largest S": f"{row[2]:.4f} ({largest:g})",
                    "u/(2u-1)": float(u / (2 * u - 1)) if name == "VE" else "",
                }
            )
    return rows


def p2_coarse() -> list[Row]:
    """The same in 2000 steps"""
    return p2(2000)


def p3(N: int = 2000) -> list[Row]:
    """The law that keeps the marginals errs by h (1 + u) / (4u), and has the right limit"""
    us, S = np.array([0.5, 1.0, 1.5625, 3.0]), np.array([0.1, 1.0, 10.0])
    target = rs.GaussianField(np.tile(S, len(us)), basis="pixel", axes=1)
    M = pc.Diagonal(np.sqrt(np.repeat(us, len(S))), axes=1)
    sde = rs.Tabulated(sigmas=np.geomspace(1e-4, 300, N))
    made = rs.Preconditioned(sde, target.score(sde), M, law="marginal")
    ran = rs.exact.law(made, P, rs.Grid.uniform(sde, N, t_end=0.0), start="prior")
    h = 2 * math.log(3e6) / N
    excess = (ran.variance / target.spectrum - 1).reshape(len(us), len(S))
    return [
        {"N": N, "u": float(u), "least": float(row.min()), "most": float(row.max()),
         "h(1+u)/4u": h * (1 + u) / (4 * u)}
        for u, row in zip(us.tolist(), excess, strict=True)
    ]  # fmt: skip


def excess(N: int, method: str) -> np.ndarray:
    """Relative excess of variance of S = 0.3, 1, 3 with sigma in [1e-3, 1e3]."""
    target = rs.GaussianField(np.array([0.3, 1.0, 3.0]), basis="pixel", axes=1)
    sde = rs.Tabulated(sigmas=np.geomspace(1e-3, 1e3, N))
    M = pc.scalar_rule(2 * math.log(1e6), N) if method == "scalar" else pc.Identity()
    made = rs.Preconditioned(sde, target.score(sde), M, law="pds", guard="off")
    solver = rs.Ancestral() if method == "ancestral" else P
    ran = rs.exact.law(made, solver, rs.Grid.uniform(sde, N, t_end=0.0), start="prior")
    return np.asarray(ran.variance / target.spectrum - 1)


def p4() -> list[Row]:
    """Reverse diffusion leaves every mode too wide by L / 2N, ancestral sampling too narrow"""
    rows = []
    for N in (50, 100, 200, 400, 800):
        plain, other = excess(N, "vanilla"), excess(N, "ancestral")
        rows.append(
            {
                "N": N,
                "excess": float(plain[1]),
                "L/2N": math.log(1e6) / N,
                "spread": float(np.ptp(plain)),
                "ancestral": float(other[1]),
            }
        )
    return rows


def p5() -> list[Row]:
    """Multiplying by sqrt(1 + L/2N), no filter, raises the order from 1 to 2"""
    rows: list[Row] = []
    for N in (100, 200, 400, 800):
        row = {"N": N, **{m: float(excess(N, m)[1]) for m in ("vanilla", "scalar")}}
        if rows:
            before = rows[-1]
            for m in ("vanilla", "scalar"):
                row[f"order, {m}"] = math.log2(before[m] / row[m])
        rows.append(row)
    return [{**dict.fromkeys(rows[-1], ""), **row} for row in rows]


def optimum(n: int, N: int, corrected: bool, alphas: tuple[float, ...] = COARSE) -> Row:
    """Error on the field with its mean for each alpha, and the least."""
    bed = Whole(n, field(n))
    errors = {a: float(law(bed, N, float(a), corrected).relative_w2()) for a in alphas}
    least = min(errors, key=lambda a: errors[a])
    return {"alpha": least, "relW2": errors[least], "all": errors}


def p6(sizes: tuple[int, ...] = SIZES, N: int = 200) -> list[Row]:
    """The best alpha is linear in N"""
    rows = []
    for n in sizes:
        rule = pc.alpha_rule(field(n), log_range(n), N)
        found = optimum(n, N, False)
        rows.append(
            {
                "n": n,
                "N/alpha, rule": N / rule,
                "N/alpha, search": N / found["alpha"],
                "alpha = 5 is right at N": 5 * N / rule,
            }
        )
    return rows


def p6_linear(n: int = 32, counts: tuple[int, ...] = (50, 100, 200, 400, 800)) -> list[Row]:
    """N over the best alpha, by continuous search: predictor alone, centred data"""
    from scipy.optimize import minimize_scalar

    kinds, rows = Kinds.of(n), []
    for N in counts:
        rule = pc.alpha_rule(field(n), log_range(n), N)
        row: Row = {"n": n, "N": N, "rule": N / rule}
        for denoise in ("none", "last_mean"):
            found = minimize_scalar(
                lambda a, N=N, how=denoise: kinds.w2(
                    law(kinds, N, math.exp(a), denoise=how).variance
                ),
                bounds=(math.log(rule / 2), math.log(rule * 2)),
                method="bounded",
                options={"xatol": 1e-3},
            )
            row[denoise] = N / math.exp(found.x)
        rows.append(row)
    return rows


def p6_at_66(alphas: tuple[float, ...] = COARSE) -> list[Row]:
    """1024 x 1024, N = 66: the coarse grid's best alpha"""
    found = {True: optimum(1024, 66, True, alphas), False: optimum(1024, 66, False, alphas)}
    return [
        {"sampler": "PC" if pc_ else "P", **{f"{a:g}": v for a, v in row["all"].items()},
         "best": row["alpha"]}
        for pc_, row in found.items()
    ]  # fmt: skip


C1 = [(32, 1000), (32, 200), (32, 66), (256, 2000), (256, 200), (256, 66), (1024, 2000),
      (1024, 200), (1024, 66), (1024, 30)]  # fmt: skip


def p7(settings: Any = tuple(C1)) -> list[Row]:
    """Relative W2 and KL a coefficient, data with mean 0.5: corrected (PC) and not (P)"""
    rows = []
    for n, N in settings:
        row: Row = {"n": n, "N": N}
        bed = Whole(n, field(n))
        for name, method, corrected in (
            ("vanilla PC", "vanilla", True),
            ("alpha=5 PC", 5.0, True),
            ("vanilla P", "vanilla", False),
            ("alpha=5 P", 5.0, False),
            ("scalar P", "scalar", False),
        ):
            ran = law(bed, N, method, corrected)
            row[name] = f"{ran.relative_w2():.4f}/{ran.kl():.1e}"
        rows.append(row)
    return rows


def p7_octaves() -> list[Row]:
    """1024 x 1024, N = 66: variance over the exact one in every octave, low to high"""
    bed = Whole(1024, field(1024))
    return [
        {"sampler": name, "octaves": " ".join(f"{v:.3f}" for v in law(bed, 66, m, c).octaves())}
        for name, m, c in (
            ("vanilla P", "vanilla", False),
            ("vanilla PC", "vanilla", True),
            ("alpha=5 P", 5.0, False),
        )
    ]


METHODS: dict[str, tuple[Method, bool]] = {
    "vanilla PC": ("vanilla", True),
    "vanilla P": ("vanilla", False),
    "alpha=5 PC": (5.0, True),
    "alpha=5 P": (5.0, False),
    "alpha* PC": ("best", True),
    "alpha* P": ("best", False),
    "scalar P": ("scalar", False),
    "step-matched P": ("step", False),
    "noise-matched P": ("noise", False),
    "DDIM": ("DDIM", False),
    "ancestral": ("ancestral", False),
}


@cache
def iterations(n: int, method: str, goals: tuple[float, ...] = TARGETS) -> dict[float, Any]:
    return {goal: smallest(n, METHODS[method][0], goal, METHODS[method][1]) for goal in goals}


def p7_iterations(
    sizes: tuple[int, ...] = SIZES, methods: tuple[str, ...] = tuple(METHODS)
) -> list[Row]:
    """Fewest levels to a relative W2 distance, centred data"""
    return [
        {"n": n, "method": m, **{f"{g:g}": v if v else f"> {MOST}" for g, v in found.items()}}
        for n in sizes
        for m in methods
        for found in [iterations(n, m)]
    ]


def p8(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Iterations of the same sampler without filter, over those with it, at equal error"""
    rows = []
    for n in sizes:
        row: Row = {"n": n}
        for name, against, goal in (
            ("alpha=5 PC", "vanilla PC", 0.05),
            ("alpha=5 P", "vanilla P", 0.05),
            ("alpha* PC", "vanilla PC", 0.05),
            ("alpha* PC", "vanilla PC", 0.01),
            ("alpha* P", "vanilla P", 0.05),
            ("alpha* P", "vanilla P", 0.005),
            ("scalar P", "vanilla P", 0.05),
            ("scalar P", "vanilla P", 0.005),
            ("step-matched P", "vanilla P", 0.005),
        ):
            few, many = iterations(n, name)[goal], iterations(n, against)[goal]
            row[f"{name} @{goal:g}"] = f"{many / few:.1f}" if few and many else "-"
        rows.append(row)
    return rows


def p8_crossing(counts: tuple[int, ...] = (66, 120, 130, 134, 140, 200)) -> list[Row]:
    """1024 x 1024, PC, mean 0.5: where the published filter begins to lose"""
    bed = Whole(1024, field(1024))
    return [
        {"N": N, **{name: float(law(bed, N, m, True).relative_w2())
                    for name, m in (("vanilla", "vanilla"), ("alpha = 5", 5.0))}}
        for N in counts
    ]  # fmt: skip


def p9(sizes: tuple[int, ...] = (32, 1024)) -> list[Row]:
    """The noise-matched sampler is exact in any number of steps; relative W2 distance"""
    rows = []
    for n in sizes:
        for N in (1, 2, 5, 20):
            row: Row = {"n": n, "N": N}
            for start in ("marginal", "prior"):
                kinds = Kinds.of(n)
                if N == 1:  # one level, the widest
                    sde = rs.Tabulated(sigmas=[SETTINGS[n][0]])
                    made, solver = process(kinds, sde, 1, "noise")
                    ran = rs.exact.law(made, solver, rs.Grid([1.0, 0.0]), start=start)
                else:
                    ran = law(kinds, N, "noise", start=start)
                row[f"from the {start}"] = kinds.w2(ran.variance)
            rows.append(row)
    return rows


def p9_equal() -> list[Row]:
    """1024 x 1024, predictor alone, centred data: few steps against 2000"""
    cases: tuple[tuple[Method, int], ...] = (
        ("vanilla", 2000), ("scalar", 130), ("step", 58), ("step", 66), ("noise", 3), (5.0, 66)
    )  # fmt: skip
    return [
        {"method": f"alpha = {m:g}" if isinstance(m, float) else m, "N": N,
         "relW2": error(1024, N, m), "2000 / N": 2000 / N}
        for m, N in cases
    ]  # fmt: skip


# -- Langevin -------------------------------------------------------------------------------------

FILTERS = ("vanilla", "alpha=5", "matched", "half", "inverse")
POWER = {"matched": 1.0, "half": 0.5, "inverse": -1.0}


def langevin_filter(kinds: Kinds, sde: Any, t: float, name: str) -> pc.Preconditioner:
    if name == "vanilla":
        return pc.Identity()
    if name == "alpha=5":
        return kinds.published(5.0)
    return pc.langevin_matched(kinds.target, sde, t, power=POWER[name])


def one_step(
    kinds: Kinds, sde: Any, t: float, e: float, M: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Multiplier b of a step, and the variance its noise adds: of one step that is run.

    Third is 1 - b^2.
    """
    ran = langevin(kinds.target, sde, t, e, M, 1, (0.0, 0.0))
    b, q = ran.gain, ran.variance
    return b, q, (1 - b) * (1 + b)


def after(v: np.ndarray, step: Any, n: int) -> np.ndarray:
    """Variance after n equal steps: v_inf + (v - v_inf) b^(2n), with v_inf = q / (1 - b^2)."""
    b, q, lost = step
    with np.errstate(over="ignore", invalid="ignore"):  # an unstable step reaches no goal
        end = q / lost
        return np.asarray(end + (v - end) * np.abs(b) ** (2.0 * n))


def fewest(reached: Callable[[int], bool], most: int) -> int | None:
    """Fewest steps that reach a goal, by bisection."""
    if not reached(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


@cache
def ula(n: int, name: str, closer: int = 0) -> tuple[int, ...]:
    """Steps to relW2 0.05, 0.01 and to 5 % in every mode, each with the best step size of a grid.

    ``closer`` times a finer grid around the best follows.
    """
    kinds, sde = Kinds.of(n), rs.Tabulated(sigmas=[SIGMA_MIN])
    M = langevin_filter(kinds, sde, 1.0, name)
    V = kinds.target.spectrum + SIGMA_MIN**2
    limit = 2 * float((V / np.asarray(M.spectrum())).min())

    def worst(v: np.ndarray) -> float:
        return float(np.abs(v / V - 1).max())

    goals: list[tuple[Callable[[np.ndarray], float], float]] = [
        (lambda v: kinds.w2(v, V), 0.05),
        (lambda v: kinds.w2(v, V), 0.01),
        (worst, 0.05),
    ]
    found = []
    for distance, goal in goals:

        def steps(share: float, distance: Any = distance, goal: float = goal) -> float:
            step = one_step(kinds, sde, 1.0, share * limit, M)
            v = np.full(V.shape, 1 / 12)
            few = fewest(lambda k: distance(after(v, step, k)) <= goal, 10**11)
            return math.inf if few is None else few

        shares = np.geomspace(1e-3, 1, 60)[:-1]  # of the largest stable step, which moves for ever
        for _ in range(1 + closer):
            counts = [steps(share) for share in shares]
            at = int(np.argmin(counts))
            shares = np.geomspace(shares[max(at - 1, 0)], shares[min(at + 1, len(shares) - 1)], 20)
        found.append(int(min(counts)))
    return tuple(found)


def ula_rows(sizes: tuple[int, ...], filters: tuple[str, ...] = FILTERS) -> list[Row]:
    rows = []
    for n in sizes:
        row: Row = {"n": n, "kappa": f"{n * n // 2}"}
        for name in filters:
            if name != "inverse" or n <= 128:
                row[name] = " / ".join(map(str, ula(n, name)))
            else:
                row[name] = ""
        rows.append(row)
    return rows


def p9_ula(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Langevin at sigma = 0.01: steps to relW2 0.05 / 0.01 / 5 % in the worst mode"""
    return [
        {**row, "matched gains": float(ula(row["n"], "vanilla")[0] / ula(row["n"], "matched")[0])}
        for row in ula_rows(sizes)
    ]


def ncsn_steps(kinds: Kinds, name: str, f: float) -> list[Any]:
    """Every level's step of annealed Langevin from sigma = 1 to 0.01, measured."""
    sde = rs.Tabulated(sigmas=np.geomspace(SIGMA_MIN, 1.0, 10))
    steps = []
    for i in range(10, 0, -1):
        t = i / 10
        M = langevin_filter(kinds, sde, t, name)
        e = f * 2e-5 * (sde.sigma(t) / SIGMA_MIN) ** 2 / 2
        steps.append(one_step(kinds, sde, t, e, M))
    return steps


def ncsn(kinds: Kinds, steps: list[Any], T: int) -> float:
    """Relative W2 after T steps a level."""
    v = np.full(kinds.counts.shape, 1 / 12)
    for step in steps:
        v = after(v, step, T)
    return kinds.w2(v)


def ncsn_run(n: int, name: str, T: int, f: float) -> float:
    """The same, of a run of all steps."""
    kinds, sde = Kinds.of(n), rs.Tabulated(sigmas=np.geomspace(SIGMA_MIN, 1.0, 10))
    score = kinds.target.score(sde)
    if name in POWER:
        M: Any = pc.langevin_matched(kinds.target, sde, power=POWER[name])
    else:
        M = langevin_filter(kinds, sde, 1.0, name)
    ran = rs.exact.law(
        rs.Preconditioned(sde, score, M, law="marginal"),
        rs.AnnealedLangevin.ncsn(f * 2e-5, SIGMA_MIN, T),
        rs.Grid.uniform(sde, 10, t_end=0.0),
        start=(0.0, 1 / 12),
    )
    return kinds.w2(ran.variance)


TRIED = tuple(18 * 0.8222 ** np.arange(16))  # f: 18, 14.8, 12.2, ...


@cache
def ncsn_fewest(
    n: int, name: str, shares: tuple[float, ...] = TRIED, stable: bool = True
) -> tuple[int, ...]:
    """Fewest steps of all levels to relW2 0.2, 0.1 and 0.05, with the best f for each.

    ``stable`` leaves out those f with which a coefficient of some level grows from step to step.
    """
    kinds, found = Kinds.of(n), []
    measured = [ncsn_steps(kinds, name, float(f)) for f in shares]
    for goal in (0.2, 0.1, 0.05):
        most = 10**5
        for steps in measured:
            if stable and max(np.abs(b).max() for b, *_ in steps) > 1:
                continue
            few = fewest(lambda T, s=steps, g=goal: ncsn(kinds, s, T) <= g, most)  # type: ignore[misc]
            most = most if few is None else few
        found.append(10 * most)
    return tuple(found)


def p9_ncsn(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Annealed Langevin, 10 levels from sigma = 1: relW2 at (T, f), fewest steps with f <= 18"""
    rows = []
    for n in sizes:
        for name in ("vanilla", "alpha=5", "matched", "half"):
            kinds = Kinds.of(n)
            row: Row = {"n": n, "filter": name}
            for T, f in ((100, 1), (20, 5), (10, 10), (5, 10), (2, 10)):
                row[f"({T},{f})"] = ncsn(kinds, ncsn_steps(kinds, name, float(f)), T)
            row["to .2 / .1 / .05"] = " / ".join(map(str, ncsn_fewest(n, name)))
            rows.append(row)
    return rows


def p9_largest(n: int = 1024) -> list[Row]:
    """Annealed Langevin again: how the gain depends on the largest f that is tried"""
    rows = []
    for what, shares, stable in (
        ("16 values of f, 18 and less", TRIED, True),
        ("any stable f", tuple(np.linspace(10, 20, 51)), True),
        ("any f", tuple(np.geomspace(10, 40, 60)), False),
    ):
        plain, matched = (ncsn_fewest(n, m, shares, stable) for m in ("vanilla", "matched"))
        rows.append(
            {
                "n": n,
                "search": what,
                "vanilla": " / ".join(map(str, plain)),
                "matched": " / ".join(map(str, matched)),
                "gain at .1": plain[1] / matched[1],
                "at .05": plain[2] / matched[2],
            }
        )
    return rows


def p9_finer(sizes: tuple[int, ...] = (32, 1024)) -> list[Row]:
    """The same with the step size searched ever more finely: the last column has a cliff"""
    return [{"n": n, **{m: " / ".join(map(str, ula(n, m, 3))) for m in FILTERS[:4]}} for n in sizes]


def p10(sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """Langevin's direction: steps with the published filter over those without, and matched"""
    rows = []
    for n in sizes:
        plain, coded = ula(n, "vanilla"), ula(n, "alpha=5")
        ratios = [c / p for c, p in zip(coded, plain, strict=True)]
        names = ("to 0.05", "to 0.01", "worst mode 5 %")
        row: Row = {"n": n, **dict(zip(names, ratios, strict=True))}
        rows.append({**row, "matched, steps to 0.05": ula(n, "matched")[0]})
    return rows


def p11(n: int = 1024, counts: tuple[int, ...] = (84, 80)) -> list[Row]:
    """The step-matched filter is exact in variance while x <= 1/4; from the marginal"""
    kinds, rows = Kinds.of(n), []
    for N in counts:
        sde, grid = smld(n, N)
        S = kinds.target.spectrum
        made, solver = process(kinds, sde, N, "step")
        levels, worst, start = grid.ts, 0.0, (0.0, S + sde.sigma(1.0) ** 2)
        for t, s in zip(levels[:-2], levels[1:-1], strict=True):  # to the last level
            ran = rs.exact.law(made, solver, rs.Grid([t, s]), start=start)
            worst = max(worst, float(np.abs(ran.variance / (S + sde.sigma(s) ** 2) - 1).max()))
            start = (0.0, ran.variance)
        x = 1 - (sde.sigma(levels[1]) / sde.sigma(levels[0])) ** 2
        rows.append({"n": n, "N": N, "limit of x": x, "worst gap": worst})
    return rows


# -- draws ----------------------------------------------------------------------------------------


SAME = -1.0


def octaves(
    n: int, sigma: float, snr: float, alpha: float | None, draws: int, law_of: float | None = SAME
) -> Row:
    """Second moment of draws over that of the law in every octave, and what chance would do.

    ``law_of`` compares with the law of another alpha.
    """
    N, target = 66, field(n)
    sde = rs.Tabulated(sigmas=np.geomspace(SIGMA_MIN, sigma, N))
    grid, score = rs.Grid.uniform(sde, N, t_end=0.0), target.score(sde)

    def filtered(alpha: float | None) -> Any:
        if alpha is None:
            return rs.ReverseSDE(sde, score)
        M = pc.pds_frequency_filter(target, alpha)
        return rs.Preconditioned(sde, score, M, law="pds", guard="off")

    solver = rs.PredictorCorrector(P, rs.Langevin(snr, norm="batch"))
    other = filtered(alpha if law_of == SAME else law_of)
    exact = rs.exact.law(other, solver, grid, start="prior", denoise="last_mean")
    sol = rs.sample(filtered(alpha), solver, draws, times=grid, rng=SEED, denoise="last_mean")
    _, found = target.octaves(sol.x)
    wanted = exact.octaves(about="reference")
    counts = np.bincount(target.octave_index().reshape(-1) + 1)[1:]
    ratio = found / wanted
    z = (ratio - 1) / np.sqrt(2 / (draws * counts))
    return {
        "n": n,
        "filter": "vanilla" if alpha is None else f"alpha = {alpha:g}",
        "draws": draws,
        "ratio": " ".join(f"{r:.3f}" for r in ratio),
        "z": " ".join(f"{r:.1f}" for r in z),
        "max |z|": float(np.abs(z).max()),
        "law's relW2": exact.relative_w2(),
    }


def p12(sizes: tuple[int, ...] = (64, 256)) -> list[Row]:
    """Draws against the law, octave by octave; N = 66, PC"""
    rows = []
    if 64 in sizes:
        rows += [octaves(64, 90.0, 0.17, alpha, 64) for alpha in (None, 5.0)]
    if 256 in sizes:
        rows += [octaves(256, 378.0, 0.075, 5.0, 6)]
    return rows


def mixture() -> rs.FieldMixture:
    """Three fields of cosines, 32 x 32, with means that are waves."""
    n = 32
    y, x = np.mgrid[:n, :n] / n
    means = (
        0.5 + 0.35 * np.sin(2 * np.pi * x),
        0.5 + 0.35 * np.cos(2 * np.pi * y),
        0.5 + 0.3 * np.sin(4 * np.pi * (x + y)),
    )
    fields = [
        rs.GaussianField(
            rs.GaussianField.power_law(n, a, std=0.1, basis="dct").spectrum, m, basis="dct"
        )
        for a, m in zip((2.0, 2.5, 1.5), means, strict=True)
    ]
    return rs.FieldMixture([0.5, 0.3, 0.2], fields)


BANDS = ((1, 4), (4, 16), (16, 99))


def on_mixture(N: int, method: Method, draws: int = 2000) -> Row:
    """Ratio of variances within the first component in three bands, and the weights."""
    target = mixture()
    sde = rs.Tabulated(sigmas=np.geomspace(SIGMA_MIN, 50.0, N))
    score, solver = target.score(sde), P
    made: Any = rs.ReverseSDE(sde, score)
    if method == "ancestral":
        solver = rs.Ancestral()  # type: ignore[assignment]
    elif method == "DDIM":
        solver = rs.DDIM()  # type: ignore[assignment]
    elif method == "noise":
        made = rs.Preconditioned(sde, score, pc.noise_matched(target, sde), law="noise")
    elif method == "scalar":
        M: Any = pc.scalar_rule(2 * math.log(5000), N)
        made = rs.Preconditioned(sde, score, M, law="pds", guard="off")
    elif method != "vanilla":
        images = target.sample(2000, rng=SEED)
        power = np.mean(target.basis.forward(images) ** 2, axis=0)
        whole = rs.GaussianField(power, 0.0, basis="dct")
        M = pc.pds_frequency_filter(whole, float(method))
        made = rs.Preconditioned(sde, score, M, law="pds", guard="off")
    grid = rs.Grid.uniform(sde, N, t_end=0.0)
    sol = rs.sample(made, solver, draws, times=grid, rng=SEED, denoise="last_mean")
    gaps = np.stack([f.basis.forward(sol.x - f.mean) for f in target.fields])
    logs = [
        math.log(w) - 0.5 * np.sum(g**2 / f.spectrum + np.log(f.spectrum), axis=(1, 2))
        for w, g, f in zip(target.weights, gaps, target.fields, strict=True)
    ]
    which = np.argmax(logs, axis=0)
    weights = np.bincount(which, minlength=3) / draws
    first = target.fields[0]
    of_first = gaps[0][which == 0] ** 2
    ratio = of_first.sum(axis=0) / max(len(of_first), 1) / first.spectrum
    k = first.basis.frequency(first.event_shape)
    bands = [float(ratio[(k >= a) & (k < b)].mean()) for a, b in BANDS]
    return {
        "N": N,
        "method": f"alpha = {method:g}" if isinstance(method, float) else method,
        **{f"[{a}, {b})": v for (a, b), v in zip(BANDS, bands, strict=True)},
        "weights": " ".join(f"{w:.3f}" for w in weights),
    }


def p12_mixture(draws: int = 2000, counts: tuple[int, ...] = (10, 25, 50, 100)) -> list[Row]:
    """A mixture of fields, predictor alone: variance within a component over the exact one"""
    methods: tuple[Method, ...] = ("vanilla", 5.0, 2.0, "scalar", "ancestral", "DDIM", "noise")
    return [on_mixture(N, m, draws) for N in counts for m in methods]


def on_patches(N: int, method: Method, draws: int = 4000) -> Row:
    """Errors on natural patches of 8 x 8 pixels, a mixture of ten full covariances."""
    target = rs.targets.patches_mixture()
    sde = rs.Tabulated(sigmas=np.geomspace(SIGMA_MIN, 30.0, N))
    score, ending = target.score(sde), "last_mean"
    made: Any = rs.ReverseSDE(sde, score)
    if method == "noise":
        made, ending = rs.Preconditioned(sde, score, pc.noise_matched(target, sde), "noise"), "none"
    elif method == "scalar":
        M: Any = pc.scalar_rule(2 * math.log(30.0 / SIGMA_MIN), N)
        made = rs.Preconditioned(sde, score, M, guard="off")
    elif method != "vanilla":
        images = rs.targets.patches(8, 4000, rng=0).reshape(-1, 8, 8) / 2 + 0.5  # in [0, 1]
        M = pc.Dense.of(pc.pds_frequency_filter(images, float(method)))
        made = rs.Preconditioned(sde, score, M, guard="off")
    grid: Any = rs.Grid.uniform(sde, N, t_end=0.0)
    x = rs.sample(made, P, draws, times=grid, rng=SEED, denoise=ending).x  # type: ignore[arg-type]
    return {
        "N": N,
        "method": f"alpha = {method:g}" if isinstance(method, float) else method,
        "log-density gap": rs.measure.logpdf_gap(x, target),
        "weights off": rs.measure.mode_weight_error(x, target),
        "dispersion": rs.measure.dispersion(x, target),
    }


def p12_patches(draws: int = 4000, counts: tuple[int, ...] = (25, 50, 100, 400)) -> list[Row]:
    """Natural patches, predictor alone"""
    methods: tuple[Method, ...] = ("vanilla", 5.0, "scalar", "noise")
    return [on_patches(N, m, draws) for N in counts for m in methods]


CLAIMS: dict[str, tuple[Callable[[], list[Row]], ...]] = {
    "P1": (p1,),
    "P2": (p2_coarse, p2),
    "P3": (p3,),
    "P4": (p4,),
    "P5": (p5,),
    "P6": (p6, p6_linear, p6_at_66),
    "P7": (p7, p7_octaves, p7_iterations),
    "P8": (p8, p8_crossing),
    "P9": (p9, p9_equal, p9_ula, p9_finer, p9_ncsn, p9_largest),
    "P10": (p10,),
    "P11": (p11,),
    "P12": (p12, p12_mixture, p12_patches),
}


# -- output ---------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """Rows as text, aligned."""

    def text(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    names = list(rows[0])
    cells = [names, *([text(row[name]) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(r, widths, strict=True)) for r in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="P1 to P12")
    names = parser.parse_args().claims or list(CLAIMS)
    if unknown := [name for name in names if name not in CLAIMS]:
        parser.error(f"no such claim: {', '.join(unknown)}; there are {', '.join(CLAIMS)}")
    for name in names:
        for claim in CLAIMS[name]:
            begin = time.process_time()
            rows = claim()
            print(f"\n{name}  {claim.__doc__ or ''}\n\n{table(rows)}")
            print(f"\n{time.process_time() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
