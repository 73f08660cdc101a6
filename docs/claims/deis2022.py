"""The claims of DEIS, Fast Sampling with Exponential Integrator, measured with exact scores.

``python docs/claims/deis2022.py`` prints every table and draws the figures, ``D4 D12 defects``
prints these alone, and ``--figures DIR`` says where figures go.  Every function returns the rows
that it prints.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import quad_vec, solve_ivp
from scipy.special import ndtri

import refsde as rs
from refsde.solvers.multistep import coefficients

SEED = 20220429
Row = dict[str, Any]
SDE, T_END = rs.VP(0.1, 20.0), 1e-3
BUDGETS = (5, 10, 15, 20, 50)
GRIDS = ("t1", "t2", "log", "edm")
PROBLEMS = ("modes", "ring")
M = rs.Multistep

# -- problems, grids, methods ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Problem:
    """A target, starts at T, and where the exact flow carries them."""

    target: Any
    x: np.ndarray
    exact: np.ndarray
    t_end: float = T_END

    @property
    def flow(self) -> Any:
        return rs.ProbabilityFlow(SDE, self.target.score(SDE))

    def run(self, solver: Any, times: Any) -> rs.Solution:
        return rs.sample(self.flow, solver, x=self.x, times=times, rng=0)

    def errors(self, solver: Any, times: Any) -> tuple[float, float]:
        """Root mean square and median distance to the exact images."""
        off = np.linalg.norm(self.run(solver, times).x - self.exact, axis=1)
        return float(np.sqrt(np.mean(off**2))), float(np.median(off))


def posed(target: Any, x: np.ndarray, rtol: float = 1e-10, t_end: float = T_END) -> Problem:
    with warnings.catch_warnings():  # starts next to a boundary between basins: fewer digits
        warnings.simplefilter("ignore", RuntimeWarning)
        return Problem(target, x, rs.exact.flow(SDE, target, x, SDE.T, t_end, rtol=rtol), t_end)


@cache
def problem(name: str, t_end: float = T_END) -> Problem:
    """Three modes on the line or a ring of eight; "narrow" ones have modes of width 0.01."""
    width = 0.01 if name.startswith("narrow") else None
    if name.endswith("modes"):
        stds = np.array([0.3, 0.2, 0.4]) if width is None else np.full(3, width)
        target = rs.GaussianMixture([0.3, 0.3, 0.4], [[-2.0], [0.0], [1.5]], stds**2)
        return posed(target, ndtri((np.arange(400) + 0.5) / 400)[:, None], t_end=t_end)
    target = rs.GaussianMixture.ring(8, radius=2.0, std=width or 0.2)
    x = np.random.default_rng(0).standard_normal((512, 2))
    return posed(target, x, 1e-10 if width is None else 1e-7, t_end)


def normal(std: float, mean: float = 0.0) -> rs.GaussianMixture:
    return rs.GaussianMixture([1.0], [[mean]], [std * std])


def grid(name: str, n: int, t_end: float = T_END) -> rs.Grid:
    """Grid "t1", "t2" (or "t1.5"), "log" or "edm" of n steps."""
    if name == "log":
        return rs.Grid.logsnr(SDE, n, t_end)
    if name == "edm":
        return rs.Grid.karras(SDE, n, t_end=t_end)
    return rs.Grid.power(SDE, n, float(name[1:]), t_end)


# Method and its evaluations a step.
ROWS: dict[str, tuple[Any, int]] = {
    "Euler in t": (rs.EulerMaruyama(), 1),
    "EI, score": (M("score", "t", 0), 1),
    "DDIM": (rs.DDIM(), 1),
    **{f"tAB{q}": (rs.TAB(q), 1) for q in (1, 2, 3)},
    **{f"rhoAB{q}": (rs.RhoAB(q), 1) for q in (1, 2, 3)},
    **{f"lamAB{q}": (M("eps", "lam", q), 1) for q in (2, 3)},
    "rho^(1/7)AB2": (M("eps", lambda rho: rho ** (1 / 7), 2), 1),
    **{f"iPNDM-{k}": (rs.IPNDM(k), 1) for k in (2, 3, 4)},
    "DPM++2M": (rs.DPMSolverPP(2), 1),
    "DPM++2M lof": (rs.DPMSolverPP(2, last_step_rule="lower"), 1),
    "DPM++3M": (rs.DPMSolverPP(3), 1),
    "DPM++3M lof": (rs.DPMSolverPP(3, last_step_rule="lower"), 1),
    "3M exact": (M("x0", "lam", 2, shortcut="B2"), 1),  # UniP-3: exact but for its second step
    "UniPC-2": (rs.UniPC(2), 1),
    "UniPC-2 lof": (rs.UniPC(2, last_step_rule="lower"), 1),
    "UniPC-3": (rs.UniPC(3), 1),
    "UniPC-3 lof": (rs.UniPC(3, last_step_rule="lower"), 1),
    "UniPC-3 B1": (rs.UniPC(3, "B1"), 1),
    "UniPC-3 eps": (rs.UniPC(3, prediction="eps"), 1),
    "UniPC-3 eps lof": (rs.UniPC(3, prediction="eps", last_step_rule="lower"), 1),
    "rhoHeun": (rs.RhoRK("2heun"), 2),
    "rhoMidpoint": (rs.RhoRK("2midpoint"), 2),
    "rhoKutta3": (rs.RhoRK("3kutta"), 3),
    "rhoRK4": (rs.RhoRK("4rk"), 4),
    "DPM-Solver-2": (rs.DPMSolver(2), 2),
    "DPM-Solver-3": (rs.DPMSolver(3), 3),
    "DPM++2S": (rs.DPMSolverPP(2, singlestep=True), 2),
}


@cache
def cell(name: str, row: str, on: str, nfe: int) -> tuple[float, float]:
    """Errors, rms and median, of a method within a budget; methods of s stages make nfe // s."""
    solver, stages = ROWS[row]
    return problem(name).errors(solver, grid(on, nfe // stages))


def rms(name: str, row: str, on: str, nfe: int) -> float:
    return cell(name, row, on, nfe)[0]


def wins(better: str, worse: str, name: str, ons: Any = GRIDS, what: int = 0) -> str:
    """In how many cells of grid and budget one method has the smaller error."""
    cells = [(on, nfe) for on in ons for nfe in BUDGETS]
    won = [cell(name, better, *c)[what] < cell(name, worse, *c)[what] for c in cells]
    return f"{sum(won)}/{len(won)}"


@cache
def slopes(row: str, steps: tuple[int, ...]) -> tuple[float, float]:
    """Slope of the rms error on the last two grids, and the last error: modes, log, to t = 0.02."""
    case, solver = problem("modes", 0.02), ROWS[row][0]
    errors = [case.errors(solver, grid("log", n, 0.02))[0] for n in steps[-2:]]
    return float(np.log2(errors[0] / errors[1]) / np.log2(steps[-1] / steps[-2])), errors[1]


# -- the ladder of ingredients --------------------------------------------------------------------


def d1() -> list[Row]:
    """Cells (4 grids, NFE 5 to 50) where Euler in t errs less (rms) than EI with frozen score."""
    return [
        {
            "problem": name,
            "Euler < EI score": wins("Euler in t", "EI, score", name),
            "t2, NFE 10: Euler": rms(name, "Euler in t", "t2", 10),
            "EI score": rms(name, "EI, score", "t2", 10),
            "t2, NFE 50: Euler": rms(name, "Euler in t", "t2", 50),
            "EI score ": rms(name, "EI, score", "t2", 50),
        }
        for name in PROBLEMS
    ]


def d2() -> list[Row]:
    """Cells where DDIM has the smaller median than EI with frozen score; errors of a point mass."""
    rows: list[Row] = [
        {
            "problem": name,
            "DDIM < EI score, median": wins("DDIM", "EI, score", name, ons, 1),
            "rms": wins("DDIM", "EI, score", name, ons, 0),
            "t2, NFE 10: DDIM": cell(name, "DDIM", "t2", 10)[1],
            "EI score": cell(name, "EI, score", "t2", 10)[1],
        }
        for name, ons in [
            *((name, GRIDS) for name in PROBLEMS),
            *((f"narrow {name}", ("t1", "t2")) for name in PROBLEMS),
        ]
    ]
    point = rs.Empirical(np.array([[1.3, -0.4]]))
    case = posed(point, np.random.default_rng(0).standard_normal((6, 2)))
    ours, theirs = (case.errors(ROWS[row][0], grid("t2", 3))[1] for row in ("DDIM", "EI, score"))
    rows.append({"problem": "point, 3 steps", "DDIM < EI score, median": "", "rms": ""})
    rows[-1] |= {"t2, NFE 10: DDIM": ours, "EI score": theirs}
    return rows


def d3() -> list[Row]:
    """DDIM against Euler in t: rms in cells; the flow's factor of N(0, s^2), relative error."""
    rows: list[Row] = []
    for name, ons in [
        *((name, GRIDS) for name in PROBLEMS),
        *((f"narrow {name}", ("t1", "t2")) for name in PROBLEMS),
    ]:
        row: Row = {"data": name, "DDIM < Euler": wins("DDIM", "Euler in t", name, ons)}
        for n in (10, 20):
            row |= {f"t2, {n}: Euler": rms(name, "Euler in t", "t2", n)}
            row |= {f"EI score, {n}": rms(name, "EI, score", "t2", n)}
            row |= {f"DDIM, {n}": rms(name, "DDIM", "t2", n)}
        rows.append(row)
    for s in (0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 2.0):
        case = posed(normal(s), np.ones((1, 1)))
        off = {
            (row, on, n): float(abs(case.run(ROWS[row][0], grid(on, n)).x / case.exact - 1).item())
            for row in ("Euler in t", "EI, score", "DDIM")
            for on in ("t1", "t2")
            for n in (10, 20)
        }
        won = [
            off["DDIM", on, n] < off["Euler in t", on, n] for on in ("t1", "t2") for n in (10, 20)
        ]
        row = {"data": f"N(0, {s}^2)", "DDIM < Euler": f"{sum(won)}/4"}
        for n in (10, 20):
            row |= {f"t2, {n}: Euler": off["Euler in t", "t2", n]}
            row |= {f"EI score, {n}": off["EI, score", "t2", n]}
            row |= {f"DDIM, {n}": off["DDIM", "t2", n]}
        rows.append(row)
    return rows


def d4() -> list[Row]:
    """Degree of the polynomial, grid t2, rms."""
    names = ("DDIM", "tAB1", "tAB2", "tAB3")
    rows = []
    for name in PROBLEMS:
        for nfe in BUDGETS:
            row = {row: rms(name, row, "t2", nfe) for row in names}
            falls = all(a > b for a, b in pairwise(row.values()))
            rows.append({"problem": name, "NFE": nfe, **row, "falls": falls})
    return rows


def d5() -> list[Row]:
    """tAB3 at NFE 10 against DDIM at NFE 50, grid t2, rms; the gain at equal NFE."""
    rows = []
    for name in PROBLEMS:
        at = {(row, n): rms(name, row, "t2", n) for row in ("tAB3", "DDIM") for n in (10, 20, 50)}
        row: Row = {"problem": name, "tAB3, 10": at["tAB3", 10], "DDIM, 50": at["DDIM", 50]}
        row |= {f"gain at {n}": at["DDIM", n] / at["tAB3", n] for n in (10, 20)}
        rows.append(row)
    return rows


def d6() -> list[Row]:
    """Of degrees 1 to 3 and NFE 5 to 50, where tAB errs less (rms) than rhoAB."""
    rows = []
    for name in PROBLEMS:
        for on in GRIDS:
            won = [wins(f"tAB{q}", f"rhoAB{q}", name, (on,)) for q in (1, 2, 3)]
            rows.append({"problem": name, "grid": on, "q = 1": won[0], "2": won[1], "3": won[2]})
    return rows


def d7() -> list[Row]:
    """Runge-Kutta in rho, grid t2, rms."""
    names = ("tAB3", "rhoHeun", "rhoMidpoint", "rhoKutta3", "rhoRK4")
    return [
        {"problem": name, "NFE": nfe, **{row: rms(name, row, "t2", nfe) for row in names}}
        for name in PROBLEMS
        for nfe in (5, 10, 20, 50)
    ]


def d8() -> list[Row]:
    """Power kappa of the grid, NFE 10, rms."""
    kappas = ("t1", "t1.5", "t2", "t2.5", "t3", "t4")
    rows: list[Row] = [
        {"problem": name, "row": row, **{k: rms(name, row, k, 10) for k in kappas}}
        for name in PROBLEMS
        for row in ("DDIM", "tAB1", "tAB3")
    ]
    for row in rows:
        numbers = [row[k] for k in kappas]
        row["worst / best"] = max(numbers) / min(numbers)
    return rows


def d8_uniform() -> list[Row]:
    """Equal steps of t, rms: a higher degree without another grid."""
    names = ("DDIM", "tAB1", "tAB2", "tAB3")
    return [
        {"problem": name, "NFE": nfe, **{row: rms(name, row, "t1", nfe) for row in names}}
        for name in PROBLEMS
        for nfe in BUDGETS
    ]


@cache
def black_box(name: str, tol: float) -> Row:
    """SciPy's RK45 on the whole batch, rtol = atol."""
    case = problem(name)
    sol = rs.sample(case.flow, rs.BlackBox(rtol=tol, atol=tol), x=case.x, times=grid("t1", 1))
    off = float(np.sqrt(np.mean(np.sum((sol.x - case.exact) ** 2, axis=1))))
    return {"problem": name, "method": f"RK45, {tol:g}", "NFE": int(sol.nfe.max()), "rms": off}


def d9() -> list[Row]:
    """tAB3 on t2 against RK45 in t."""
    rows = []
    for name in PROBLEMS:
        for nfe in (10, 20):
            error = rms(name, "tAB3", "t2", nfe)
            rows.append({"problem": name, "method": "tAB3", "NFE": nfe, "rms": error})
        rows += [black_box(name, tol) for tol in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)]
    return rows


# -- identities and orders ------------------------------------------------------------------------


def gap(a: Any, b: Any, times: Any, case: Problem) -> float:
    return float(np.abs(case.run(a, times).x - case.run(b, times).x).max())


def d10() -> list[Row]:
    """Largest difference from DDIM, 8 steps on each of four grids, ring."""
    names = {
        "tAB0": rs.TAB(0),
        "rhoAB0": rs.RhoAB(0),
        "rhoEuler": rs.RhoRK("1euler"),
        "DPM-Solver-1": rs.DPMSolver(1),
        "DPM-Solver++-1": rs.DPMSolverPP(1),
        "iPNDM-1": rs.IPNDM(1),
        "UniP-1": rs.UniPC(1, corrector=False),
    }
    case = problem("ring")
    return [
        {"method": name, **{on: gap(solver, rs.DDIM(), grid(on, 8), case) for on in GRIDS}}
        for name, solver in names.items()
    ]


def d11() -> list[Row]:
    """Largest difference from EDM's Heun, written out, on its own grid and SDE, 17 steps, ring."""
    sde, target = rs.EDM(), problem("ring").target
    flow, times = rs.ProbabilityFlow(sde, target.score(sde)), rs.Grid.karras(sde, 17)
    x = start = sde.prior_std * problem("ring").x
    for rho, after in pairwise(times.ts):
        d = (x - flow.denoise(x, rho)) / rho
        ahead = x + (after - rho) * d
        x = x + (after - rho) * (d + (ahead - flow.denoise(ahead, after)) / after) / 2
    solvers = {"rhoHeun": rs.RhoRK("2heun"), "DPM-Solver-2, r = 1": rs.DPMSolver(2, r=1.0)}
    return [
        {"method": name, "gap": float(np.abs(rs.sample(flow, s, x=start, times=times).x - x).max())}
        for name, s in solvers.items()
    ]


def d12() -> list[Row]:
    """Order along the flow: modes, grid log to t = 0.02; NFE 10 on t2, rms."""
    rows = []
    for row in ("iPNDM-2", "iPNDM-4", "tAB1", "tAB2", "tAB3", "rhoAB3"):
        slope, last = slopes(row, (160, 320))
        case = {f"{name}, t2, 10": rms(name, row, "t2", 10) for name in PROBLEMS}
        finer = slopes(row, (320, 640))[0]
        rows.append(
            {"method": row, "slope, 320": slope, "slope, 640": finer, "error": last, **case}
        )
    return rows


def d13() -> list[Row]:
    """3M with half the curvature, as published, and exact: slopes; NFE 10 on t1 and t2, rms."""
    rows = []
    for row in ("DPM++3M", "3M exact"):
        one: Row = {"method": row}
        one |= {f"slope, {n}": slopes(row, (n // 2, n))[0] for n in (320, 640, 1280)}
        one["error, 1280"] = slopes(row, (640, 1280))[1]
        one |= {f"{name}, {on}": rms(name, row, on, 10) for name in PROBLEMS for on in ("t1", "t2")}
        rows.append(one)
    return rows


def d14() -> list[Row]:
    """UniPC: slopes as D12, error at 320 steps, and rms at NFE 10 on t2."""
    names = ("UniPC-2", "UniPC-3", "UniPC-3 B1", "UniPC-3 eps", "UniPC-3 lof", "3M exact")
    rows: list[Row] = []
    for row in names:
        slope, last = slopes(row, (160, 320))
        case = {f"{name}, t2, 10": rms(name, row, "t2", 10) for name in PROBLEMS}
        rows.append({"method": row, "slope": slope, "error": last, **case})
    return rows


def d15() -> list[Row]:
    """NFE 10, rms: high order on the data prediction; lof: order lowered at the end."""
    names = ("DDIM", "DPM++2M", "DPM++2M lof", "DPM++3M", "3M exact", "UniPC-3", "UniPC-3 lof")
    return [
        {"method": row, **{f"{name}, {on}": rms(name, row, on, 10) for name in PROBLEMS for on in
                           ("t1", "log")}}
        for row in names
    ]  # fmt: skip


GAUSS = rs.ReverseSDE(SDE, normal(0.3, 0.7).score(SDE))


def variance(solver: Any, n: int) -> float:
    """Exact error of a method's variance: data N(0.7, 0.3^2), grid log to t = 0.02."""
    return float(rs.exact.weak_error(GAUSS, solver, grid("log", n, 0.02)).cov.item())


def d16() -> list[Row]:
    """Exact errors of the variance, 10 steps, at three amounts of noise."""
    makes: dict[str, Callable[[float], Any]] = {
        "DDIM(eta)": rs.DDIM,
        "OneStep.sde_dpm(tau)": rs.OneStep.sde_dpm,
        "SDE-DPM-Solver++-1(tau)": lambda tau: rs.SDEDPMSolverPP(1, tau),
        "SA-Solver-1(tau)": lambda tau: rs.SASolver(1, tau, corrector=False),
        "ER-SDE-1(rho^(1 + tau^2))": lambda tau: rs.ERSDE(1, lambda rho: rho ** (1 + tau**2)),
        "DDPM, posterior variance": lambda tau: rs.Ancestral("posterior"),
        "SEEDS-1": lambda tau: rs.SEEDS(1),
    }
    flow, rows = rs.ProbabilityFlow(SDE, normal(0.3, 0.7).score(SDE)), []
    for name, make in makes.items():
        row: Row = {"method": name}
        for tau in (0.0, 0.5, 1.0):
            if tau < 1 and name in ("DDPM, posterior variance", "SEEDS-1"):
                row[f"{tau:g}"] = ""
                continue
            solver = make(tau)
            process: Any = GAUSS if "reverse" in solver.accepts else flow
            error = rs.exact.weak_error(process, solver, grid("log", 10, 0.02)).cov
            row[f"{tau:g}"] = f"{error.item():.12f}"
        rows.append(row)
    return rows


def d17() -> list[Row]:
    """Exact errors of the variance over the number of steps: data N(0.7, 0.3^2), grid log."""
    solvers: dict[str, Any] = {
        "Euler-Maruyama": rs.EulerMaruyama(),
        "SEEDS-1": rs.SEEDS(1),
        "SDE++1 = DDIM(1)": rs.SDEDPMSolverPP(1),
        "SDE++1, tau 0.5": rs.SDEDPMSolverPP(1, 0.5),
        "DDIM(0.5)": rs.DDIM(0.5),
        "SDE++2M": rs.SDEDPMSolverPP(2),
        "SDE++2M exact": rs.SDEDPMSolverPP(2, variant="exact"),
        "SDE++3M": rs.SDEDPMSolverPP(3),
        "SDE++3M exact": rs.SDEDPMSolverPP(3, variant="exact"),
        "SA-Solver-3": rs.SASolver(3),
        "SEEDS-2": rs.SEEDS(2),
        "SDE++2S": rs.SDEDPMSolverPP(2, singlestep=True),
    }
    steps, rows = (10, 20, 40, 80, 160, 320), []
    for name, solver in solvers.items():
        errors = [abs(variance(solver, n)) for n in steps]
        row: Row = {"method": name, **dict(zip(map(str, steps), errors, strict=True))}
        rows.append({**row, "slope, 160": float(np.log2(errors[3] / errors[4]))})
        rows[-1]["slope, 320"] = float(np.log2(errors[4] / errors[5]))
    return rows


# -- likelihood, the end of the run, the exact map ------------------------------------------------

TABLEAUX: dict[str, tuple[list[float], list[list[float]], list[float]]] = {
    "Heun": ([0, 1], [[], [1]], [1 / 2, 1 / 2]),
    "Kutta3": ([0, 1 / 2, 1], [[], [1 / 2], [-1, 2]], [1 / 6, 4 / 6, 1 / 6]),
    "RK4": ([0, 0.5, 0.5, 1], [[], [0.5], [0, 0.5], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
}


@cache
def to_encode(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Samples of p_(t_end) of the modes, and their exact log-densities."""
    mix, rng = problem("modes").target, np.random.default_rng(3)
    k = rng.choice(3, n, p=mix.weights)
    x = mix.means[k, 0] + np.sqrt(mix.covs.reshape(3)[k]) * rng.standard_normal(n)
    x = (SDE.alpha(T_END) * x + SDE.sigma(T_END) * rng.standard_normal(n))[:, None]
    return x, mix.at(SDE, T_END).logpdf(x)


def log_likelihood(name: str, times: rs.Grid) -> np.ndarray:
    """Of the samples, by dv/drho = eps and dl/drho = alpha tr(d eps / dx), t_end up to T."""
    score = problem("modes").target.score(SDE)
    c, A, b = TABLEAUX[name]
    ts = times.ts[::-1]
    v, ell = to_encode()[0] / SDE.alpha(ts[0]), 0.0
    for t, s in pairwise(ts):
        rho, k = SDE.rho(t), SDE.rho(s) - SDE.rho(t)
        m: list[tuple[Any, Any]] = []
        for c_i, row in zip(c, A, strict=True):
            u = t if c_i == 0 else s if c_i == 1 else SDE.t_of_lam(-math.log(rho + c_i * k))
            y = v + k * sum((a * e for a, (e, _) in zip(row, m, strict=True)), np.zeros_like(v))
            found = score.evaluate(SDE.alpha(u) * y, u, "score", "divergence")
            pull = -SDE.sigma(u) * found["score"], -SDE.sigma(u) * found["divergence"]
            m.append((pull[0], SDE.alpha(u) * pull[1]))
        v = v + k * sum(w * e for w, (e, _) in zip(b, m, strict=True))
        ell = ell + k * sum(w * d for w, (_, d) in zip(b, m, strict=True))
    x = SDE.alpha(ts[-1]) * v
    ends = np.log(SDE.alpha(ts[-1])) - np.log(SDE.alpha(ts[0]))
    return np.asarray(-0.5 * x[:, 0] ** 2 - 0.5 * np.log(2 * np.pi) + ell + ends)


def by_rk45(tol: float) -> tuple[np.ndarray, int]:
    """The same by SciPy's RK45 on x and log p in t, all samples as one system."""
    flow, n = problem("modes").flow, len(to_encode()[0])

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        x, half = y[:n, None], 0.5 * SDE.g2(t)
        found = flow.score.evaluate(x, t, "score", "divergence")
        drift = SDE.f(t) * x - half * found["score"]
        return np.concatenate([drift[:, 0], SDE.f(t) - half * found["divergence"]])

    start = np.concatenate([to_encode()[0][:, 0], np.zeros(n)])
    run = solve_ivp(slope, (T_END, SDE.T), start, rtol=tol, atol=tol)
    x, change = run.y[:n, -1], run.y[n:, -1]
    return -0.5 * x**2 - 0.5 * np.log(2 * np.pi) + change, int(run.nfev)


def d18() -> list[Row]:
    """Mean log-likelihood of 400 samples of the modes, by the flow: error in nats."""
    truth, rows = to_encode()[1], []
    for nfe in (12, 24, 36, 60, 120):
        row: Row = {"NFE": str(nfe)}
        for name, (c, _, _) in TABLEAUX.items():
            for on in ("t2", "log"):
                found = log_likelihood(name, grid(on, nfe // len(c)))
                row[f"{name}, {on}"] = float(np.mean(found - truth))
        rows.append(row)
    for tol in (1e-3, 1e-5):
        found, nfev = by_rk45(tol)
        row = dict.fromkeys(rows[0], "")
        rows.append({**row, "NFE": f"{nfev}, RK45", "Kutta3, log": float(np.mean(found - truth))})
    return rows


def d19() -> list[Row]:
    """Data N(0, s^2), or a point: standard deviation minus s at the end, raw and denoised."""
    rows = []
    for s in (0.3, 0.0):
        for t_end in (1e-2, 1e-3):
            target: Any = normal(s) if s else rs.Empirical(np.zeros((1, 1)))
            x = np.full((1, 1), math.hypot(SDE.alpha(SDE.T) * s, SDE.sigma(SDE.T)))
            flow, times = rs.ProbabilityFlow(SDE, target.score(SDE)), grid("log", 400, t_end)
            row: Row = {"s": s, "t_end": t_end}
            for how in ("none", "tweedie"):
                sol = rs.sample(flow, rs.RhoRK("4rk"), x=x, times=times, denoise=how)
                row[how] = float(sol.x.item()) - s
            rows.append(row)
    return rows


def d20() -> list[Row]:
    """Modes: monotone rearrangement against the flow integrated numerically, largest gap."""
    rows = []
    for sde in (rs.VP(), rs.SubVP(), rs.VE()):
        x, target = sde.prior_std * problem("modes").x[::8], problem("modes").target
        a = rs.exact.flow(sde, target, x, sde.T, sde.t_end, method="rearrangement")
        b = rs.exact.flow(sde, target, x, sde.T, sde.t_end, method="numerical", rtol=1e-12)
        rows.append({"SDE": type(sde).__name__, "gap": float(np.abs(a - b).max())})
    return rows


# -- defects of public code -----------------------------------------------------------------------

TS10 = grid("t2", 10).ts
STEP = TS10[2:7]  # the sixth of ten steps, and what came before it


def half_curvature() -> Row:
    case, at = problem("modes", 0.02), [grid("log", n, 0.02) for n in (640, 1280)]
    both = rs.DPMSolverPP(3), rs.DPMSolverPP(3, variant="exact")
    low, high = ([case.errors(s, g)[0] for g in at] for s in both)
    few = [problem("modes").errors(s, grid("t1", 10))[0] for s in both]
    numbers = f"order {np.log2(low[0] / low[1]):.2f}", f"order {np.log2(high[0] / high[1]):.2f}"
    return {
        "as published": numbers[0],
        "corrected": numbers[1],
        "note": f"t1, NFE 10: {few[0]:.2f}, {few[1]:.2f}",
    }


def lower_order_final() -> Row:
    low, high = slopes("UniPC-3 lof", (160, 320)), slopes("UniPC-3", (160, 320))
    numbers = f"order {low[0]:.2f}", f"order {high[0]:.2f}"
    bad = rms("modes", "UniPC-3", "t1", 10) / rms("modes", "UniPC-3 lof", "t1", 10)
    return {
        "as published": numbers[0],
        "corrected": numbers[1],
        "note": f"t1, NFE 10: {bad:.0f} times better",
    }


def ipndm_v() -> Row:
    h, h1, h2 = (SDE.rho(s) - SDE.rho(t) for t, s in zip(STEP[3:0:-1], STEP[:1:-1], strict=True))
    outer = h * (h + h1) / (h1 * (h1 + h2))
    inside, whole = (1 - h / (3 * (h + h1)) * outer) / 2, (1 - h / (3 * (h + h1))) / 2 * outer
    weights = {
        name: h * np.array([1 + h / h1 / 2 + e, -h / h1 / 2 - (1 + h1 / h2) * e, e * h1 / h2])
        for name, e in (("as published", inside), ("corrected", whole))
    }
    off = (
        weights["corrected"] * SDE.alpha(TS10[6])
        - coefficients(rs.RhoAB(2).method, SDE, TS10)[5].weights
    )
    text = {name: ", ".join(f"{w:.5f}" for w in v) for name, v in weights.items()}
    return {**text, "note": f"to exact AB3 {np.abs(off).max():.0e}"}


def riemann() -> Row:
    worst = []
    for n in (5, 9):  # the sixth of ten steps and the last
        s, nodes = TS10[n + 1], TS10[n : n - 4 : -1]

        def integrand(t: Any, s: float = s, nodes: Any = nodes) -> Any:
            ell = [np.prod([(t - b) / (a - b) for b in nodes if b != a], axis=0) for a in nodes]
            slope = SDE.g2(t) / (2 * SDE.alpha(t) * SDE.sigma(t))  # drho / dt
            return SDE.alpha(s) * slope * np.array(ell)

        exact = np.array(coefficients(rs.TAB(3).method, SDE, TS10)[n].weights)
        left = integrand(np.linspace(nodes[0], s, 10_000, endpoint=False)).mean(axis=1)
        fine = quad_vec(integrand, nodes[0], s, epsabs=0, epsrel=1e-13)[0]
        crude = (s - nodes[0]) * left
        worst.append(
            [*(np.abs(w / exact - 1).max() for w in (crude, fine)), crude.sum() / exact.sum() - 1]
        )
    top = np.abs(worst).max(axis=0)
    numbers = {"as published": f"{top[0]:.1e}", "corrected": f"{top[1]:.0e}"}
    return {**numbers, "note": f"their sum {top[2]:.1e}"}


def degree_or_points() -> Row:
    points = len(coefficients(rs.TAB(3).method, SDE, TS10)[5].weights)
    order = slopes("tAB3", (320, 640))[0]
    return {"as published": "tAB3", "corrected": f"{points} points", "note": f"order {order:.2f}"}


def log_rho() -> Row:
    off = {row: rms("modes", row, "t2", 10) for row in ("lamAB3", "tAB3")}
    ring = rms("ring", "lamAB3", "t2", 10), rms("ring", "tAB3", "t2", 10)
    note = f"ring {ring[0]:.4f}, {ring[1]:.4f}"
    return {"as published": f"{off['lamAB3']:.4f}", "corrected": f"{off['tAB3']:.4f}", "note": note}


def zero_times_garbage() -> Row:
    history = np.array([0.3, np.inf, np.inf, np.inf])  # the first step has one prediction
    padded, short = np.array([-0.5, 0.0, 0.0, 0.0]), np.array([-0.5])
    with np.errstate(invalid="ignore"):
        numbers = float(np.sum(padded * history)), float(np.sum(short * history[:1]))
    stencil = len(coefficients(rs.TAB(3).method, SDE, TS10)[0].weights)
    return {"as published": numbers[0], "corrected": numbers[1], "note": f"stencil {stencil}"}


def eta_is_tau_squared() -> Row:
    eta, h = 0.5, 0.3
    theirs, ours, ddim = (-math.expm1(-2 * v * h) for v in (eta, eta**2, 1.0))
    note = f"DDIM({eta}) {eta**2 * ddim:.4f}"
    return {"as published": f"{theirs:.4f}", "corrected": f"{ours:.4f}", "note": note}


def alpha_or_its_square() -> Row:
    a = SDE.alpha(0.5)
    rho = [math.sqrt((1 - v) / v) for v in (a, a**2)]  # the paper's alpha is a^2
    return {"as published": f"{rho[0]:.3f}", "corrected": f"{rho[1]:.3f}", "note": "rho at t = 0.5"}


DEFECTS: dict[str, Callable[[], Row]] = {
    "3M: half the curvature": half_curvature,
    "lower order at the end (UniPC-3)": lower_order_final,
    "iPNDM_v: a parenthesis": ipndm_v,
    "left Riemann sums, 10000 nodes": riemann,
    "order: degree or points": degree_or_points,
    "'DEIS' fitted in log rho (modes, t2, NFE 10)": log_rho,
    "zeros times garbage": zero_times_garbage,
    "eta = tau^2 (fresh variance, h = 0.3)": eta_is_tau_squared,
    "alpha or alpha^2": alpha_or_its_square,
}


def defects() -> list[Row]:
    """Published form, corrected form, on our own implementation of both."""
    return [{"what": name, **show()} for name, show in DEFECTS.items()]


# -- beyond the published -------------------------------------------------------------------------


def random_mixture(d: int, seed: int) -> rs.GaussianMixture:
    """Held out: 3 to 6 modes, widths 0.1 to 0.6 by axis, centres N(0, 1)."""
    rng = np.random.default_rng([SEED, d, seed])
    k = int(rng.integers(3, 7))
    covs = np.exp(rng.uniform(2 * np.log(0.1), 2 * np.log(0.6), (k, d)))
    return rs.GaussianMixture(rng.dirichlet(np.full(k, 4.0)), rng.standard_normal((k, d)), covs)


@cache
def contest(name: str, n: int = 1000) -> Problem:
    """Problem "modes", "ring", "digits", or "d = 2, #1", held out."""
    if name in PROBLEMS:
        return problem(name)
    if name == "digits":
        target: Any = rs.targets.data.digits_mixture()
        n = min(n, 300)
    else:
        d, seed = name.removeprefix("d = ").split(", #")
        target = random_mixture(int(d), int(seed))
    x = np.random.default_rng([SEED, 1]).standard_normal((n, target.dim))
    return posed(target, x, rtol=1e-7)


@cache
def race(name: str, nfe: int, scale: float = 0.7, n: int = 1000) -> Row:
    """Angular over the best of all published methods on all grids, by rms and by median."""
    case = contest(name, n)
    times = rs.Grid.angular(SDE, nfe, scale, t_end=T_END)
    ours, found = case.errors(rs.Angular(scale=scale), times), rivals(name, nfe, n)
    row: Row = {"problem": name, "NFE": nfe, "scale": scale, "ours": ours[0]}
    for what, label in enumerate(("rms", "median")):
        best = min(found, key=lambda key: found[key][what])
        row |= {f"best, {label}": f"{best[0]} on {best[1]}"}
        row |= {f"ratio, {label}": ours[what] / found[best][what]}
        row |= {f"to iPNDM-3, {label}": ours[what] / found["iPNDM-3", "t2"][what]}
    return row


@cache
def rivals(name: str, nfe: int, n: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Errors of every published method on every grid."""
    return {
        (row, on): contest(name, n).errors(solver, grid(on, nfe // stages))
        for row, (solver, stages) in ROWS.items()
        for on in GRIDS
    }


def mixtures(*seeds: int) -> tuple[str, ...]:
    return tuple(f"d = {d}, #{k}" for d in (1, 2, 4, 16) for k in seeds)


SEEN = (*PROBLEMS, *mixtures(1, 2, 3), "digits")
OTHERS = (*PROBLEMS, *mixtures(4, 5), "digits")


def beyond(
    names: Any = SEEN,
    budgets: Any = (5, 8, 10, 15),
    n: int = 1000,
) -> list[Row]:
    """Angular() on its grid over the best published method on its best grid: ratios of errors."""
    return [race(name, nfe, n=n) for name in names for nfe in budgets]


def beyond_scale(
    names: Any = OTHERS,
    budgets: Any = (5, 8, 10, 15),
    n: int = 1000,
) -> list[Row]:
    """The same on other mixtures with scale 0.7 and 1: chosen after a look at those before."""
    return [race(name, nfe, scale, n) for name in names for nfe in budgets for scale in (0.7, 1.0)]


def kind_of(row: Row) -> str:
    return str(row["problem"].partition(",")[0])


def spread(rows: list[Row]) -> list[Row]:
    """Of each kind of problem: how many ratios are below 1, their range, the usual best rival."""
    made = []
    for kind, scale in dict.fromkeys((kind_of(r), r["scale"]) for r in rows):
        mine = [r for r in rows if (kind_of(r), r["scale"]) == (kind, scale)]
        for label in ("rms", "median"):
            ratios, best = [r[f"ratio, {label}"] for r in mine], []
            won = f"{sum(v < 1 for v in ratios)}/{len(ratios)}"
            row: Row = {"problem": kind, "scale": scale, "error": label, "below 1": won}
            for nfe in dict.fromkeys(r["NFE"] for r in mine):
                same = [r for r in mine if r["NFE"] == nfe]
                ends = [pick(r[f"ratio, {label}"] for r in same) for pick in (min, max)]
                row[f"NFE {nfe}"] = " to ".join(dict.fromkeys(f"{v:.2f}" for v in ends))
                best.append(Counter(r[f"best, {label}"] for r in same).most_common(1)[0][0])
            made.append({**row, "best": "; ".join(best)})
    return made


def beyond_summary() -> list[Row]:
    """Ratios again, the smallest and the largest of each kind."""
    return spread(beyond())


def beyond_scale_summary() -> list[Row]:
    """Ratios with two scales, the smallest and the largest of each kind."""
    return spread(beyond_scale())


CLAIMS: dict[str, tuple[Callable[[], list[Row]], ...]] = {
    **{f"D{k}": (globals()[f"d{k}"],) for k in range(1, 21)},
    "D8": (d8, d8_uniform),
    "defects": (defects,),
    "beyond": (beyond, beyond_summary, beyond_scale, beyond_scale_summary),
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


def figures(folder: Path) -> None:
    """Draw the two figures of the page."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    blue, vermilion, green, orange, purple, grey = (
        "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "0.45",
    )  # fmt: skip
    styles: dict[str, Row] = {
        "Euler in t": {"color": grey, "marker": "v", "ls": "--"},
        "EI, score": {"color": grey, "marker": "^", "ls": ":"},
        "DDIM": {"color": orange, "marker": "s"},
        "tAB1": {"color": "#56B4E9", "marker": "P"},
        "tAB3": {"color": blue, "marker": "o"},
        "rhoAB3": {"color": green, "marker": "D"},
        "iPNDM-3": {"color": "#999933", "marker": "p"},
        "rhoKutta3": {"color": purple, "marker": "X"},
    }
    budgets = (5, 7, 10, 15, 20, 30, 50)
    fig, axes = plt.subplots(1, 2, figsize=(9.4, 4.6), sharey=True, layout="constrained")
    for ax, name, title in zip(axes, PROBLEMS, ("three modes", "ring of eight"), strict=True):
        for row, style in styles.items():
            errors = [rms(name, row, "t2", n) for n in budgets]
            ax.plot(budgets, errors, label=row, ms=5, lw=1.4, **style)
        boxes = [black_box(name, 10.0**-k) for k in (1, 2, 3, 4)]
        x, y = [b["NFE"] for b in boxes], [b["rms"] for b in boxes]
        ax.plot(x, y, color="black", marker="*", ms=7, lw=1.0, ls="-.", label="RK45")
        mine = [
            problem(name).errors(rs.Angular(), rs.Grid.angular(SDE, n, t_end=T_END))[0]
            for n in budgets
        ]
        ax.plot(budgets, mine, label="Angular (ours)", ms=5, lw=2.2, color=vermilion, marker="h")
        ax.set(xscale="log", yscale="log", xlabel="NFE", title=f"{title}, grid t2", ylim=(1e-4, 3))
        ax.set_xlim(4.6, 80)
        ax.set_xticks([5, 10, 20, 50], ["5", "10", "20", "50"])
        ax.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        ax.grid(True, color="0.88", lw=0.8)
    axes[0].set_ylabel("rms distance from the exact flow")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small")
    fig.savefig(folder / "deis_work.png", dpi=150)

    kinds = (*PROBLEMS, "d = 1", "d = 2", "d = 4", "d = 16", "digits")
    colours = {5: blue, 8: green, 10: orange, 15: vermilion}
    fig, axes = plt.subplots(2, 1, figsize=(9.4, 6.4), sharex=True, layout="constrained")
    for ax, label in zip(axes, ("rms", "median"), strict=True):
        for k, (nfe, colour) in enumerate(colours.items()):
            for scale, shift, face in ((0.7, -0.04, colour), (1.0, 0.04, "white")):
                part = [
                    r
                    for r in [*beyond(), *(r for r in beyond_scale() if r["scale"] == 1)]
                    if (r["NFE"], r["scale"]) == (nfe, scale)
                ]
                x = [kinds.index(kind_of(r)) + 0.2 * (k - 1.5) + shift for r in part]
                y = [r[f"ratio, {label}"] for r in part]
                ax.plot(x, y, "o", color=colour, mfc=face, ms=5)
            ax.plot([], [], "o", color=colour, ms=5, label=f"NFE {nfe}")
        ax.plot([], [], "o", color="black", mfc="white", ms=5, label="scale 1")
        ax.axhline(1.0, color="black", lw=0.8, zorder=0)
        ax.set(yscale="log", ylabel=f"{label} error over the best published")
        ax.set_yticks([0.1, 0.2, 0.5, 1, 2, 4], ["0.1", "0.2", "0.5", "1", "2", "4"])
        ax.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        ax.grid(True, axis="y", color="0.88", lw=0.8)
        for edge in range(1, len(kinds)):
            ax.axvline(edge - 0.5, color="0.88", lw=0.8, zorder=0)
    labels = ("modes*", "ring*", *kinds[2:6], "digits, d = 64")
    axes[1].set_xticks(range(len(kinds)), labels)
    axes[0].legend(fontsize="small", ncols=5)
    fig.savefig(folder / "deis_ratios.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="D1 to D20, defects, beyond")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="where to put the figures")
    chosen = parser.parse_args()
    names = chosen.claims or list(CLAIMS)
    if unknown := [name for name in names if name not in CLAIMS]:
        parser.error(f"no such claim: {', '.join(unknown)}; there are {', '.join(CLAIMS)}")
    for name in names:
        for claim in CLAIMS[name]:
            begin = time.perf_counter()
            rows = claim()
            print(f"\n{name}  {claim.__doc__}\n\n{table(rows)}")
            print(f"\n{time.perf_counter() - begin:.1f} s", flush=True)
    if chosen.figures or not chosen.claims:
        figures(chosen.figures or Path(__file__).parent.parent / "_static")


if __name__ == "__main__":
    main()
