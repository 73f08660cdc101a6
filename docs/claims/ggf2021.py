"""The claims of Gotta Go Fast, measured with exact scores.

``python docs/claims/ggf2021.py G1 G4`` prints these claims, ``all`` prints every one, and
``--figures docs/_static`` draws the figures.  Every function returns the rows that it prints.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import refsde as rs

SEED = 20210528
Row = dict[str, Any]
VP, VE = rs.VP(), rs.VE()
SDES: dict[str, tuple[Any, float]] = {"VP": (VP, 0.0078), "VE": (VE, 0.0039)}
TOLERANCES = (0.01, 0.02, 0.05, 0.10, 0.50)
PAPER = {"VP": (329, 274, 179, 147, 49), "VE": (738, 490, 271, 170, 52)}  # NFE on CIFAR-10
EM = rs.EulerMaruyama()


def normal(d: int, std: float, mean: float = 0.0) -> rs.GaussianMixture:
    return rs.GaussianMixture([1.0], np.full((1, d), mean), [std * std])


def reverse(sde: Any, target: Any) -> rs.ReverseSDE:
    return rs.ReverseSDE(sde, target.score(sde))


def cost(sol: rs.Solution) -> Row:
    """Mean evaluations of a sample, and the share of attempts that were rejected."""
    assert sol.success.all(), sol.message
    attempts = sol.n_accepted.sum() + sol.n_rejected.sum()
    return {
        "NFE": float(sol.nfe.mean()),
        "rejected %": float(100 * sol.n_rejected.sum() / attempts),
    }


def on_gaussian(
    sde: Any, d: int, std: float, solver: Any, n: int, noise: Any = None, **options: Any
) -> Row:
    """``n`` samples of N(0, std^2 I): cost, variance over the exact one, its standard error.

    ``noise=rs.Gaussian`` is that of the publication, redrawn after a rejection.
    """
    options["noise"] = noise and noise(SEED)
    sol = rs.sample(reverse(sde, normal(d, std)), solver, n, rng=SEED, **options)
    exact = sde.alpha(sde.t_end) ** 2 * std**2 + sde.sigma(sde.t_end) ** 2
    ratio = np.mean(sol.x**2, axis=1) / exact
    spread = float(np.std(ratio) / np.sqrt(n))
    return {**cost(sol), "v/V": float(ratio.mean()), "s.e.": spread, "samples": n}


@cache
def published(name: str, d: int, std: float, rtol: float, n: int) -> Row:
    """The paper's solver, atol and noise."""
    sde, atol = SDES[name]
    row = on_gaussian(sde, d, std, rs.GGF(rtol, atol), n, rs.Gaussian)
    return {"SDE": name, "d": d, "std": std, "rtol": rtol, **row}


def frozen_error(sde: Any, d: int, std: float, solver: Any, **options: Any) -> float:
    """Exact variance error of a method on the accepted steps of one sample of dimension d.

    In high dimension the steps hardly depend on the noise, and this is the error of the run.
    """
    sol = rs.sample(reverse(sde, normal(d, std)), solver, 1, rng=SEED, keep="all", **options)
    assert sol.path is not None
    return rs.exact.weak_error(reverse(sde, normal(1, std)), solver, sol.path.grid(0)).variance


@cache
def em_error(sde: Any, std: float, n: int) -> float:
    """Exact relative error of Euler-Maruyama's variance in n equal steps, in any dimension."""
    return abs(rs.exact.weak_error(reverse(sde, normal(1, std)), EM, n).variance)


def against_em(sde: Any, std: float, row: Row, error: float | None = None) -> Row:
    """EM's error at the cost of a run, and its cost at the error of the run.

    The error is what the run shows, or 2 s.e. if that is more, unless it is known.  EM's beyond
    3200 steps is c / N.
    """
    error = max(abs(row["v/V"] - 1), 2 * row["s.e."]) if error is None else abs(error)
    ladder = np.array([15, 20, 25, 35, 50, 100, 200, 400, 800, 1600, 3200])
    errors = np.array([em_error(sde, std, int(n)) for n in ladder])
    steps = np.exp(np.interp(-np.log(error), -np.log(errors), np.log(ladder)))
    steps *= max(errors[-1] / error, 1)
    same = 100 * em_error(sde, std, round(row["NFE"]))
    return {"error %": 100 * error, "EM error %": same, "EM NFE / NFE": steps / row["NFE"]}


# -- the paper's claims ---------------------------------------------------------------------------


def g1(tolerances: tuple[float, ...] = TOLERANCES, n: int = 64, d: int = 3072) -> list[Row]:
    """NFE law: N(0, 0.05^2 I) in d = 3072, as published, beside the paper's CIFAR-10."""
    return [
        {**published(name, d, 0.05, r, n), "paper NFE": PAPER[name][TOLERANCES.index(r)]}
        for name in SDES
        for r in tolerances
    ]


def g2() -> list[Row]:
    """Exact error in d = 3072 (on frozen steps), beside EM's; below 1 EM is the cheaper one."""
    rows = []
    for row in g1():
        sde, atol = SDES[row["SDE"]]
        options: Row = {"noise": rs.Gaussian(SEED)}
        error = frozen_error(sde, 3072, 0.05, rs.GGF(row["rtol"], atol), **options)
        rows.append({**row, "signed error %": 100 * error, **against_em(sde, 0.05, row, error)})
    return rows


def g2_few(values: int = 60_000) -> list[Row]:
    """In few dimensions, N(0, 0.25^2 I), VP; errors below 2 s.e. count as 2 s.e."""
    cases: list[tuple[str, Any, float, Any]] = [
        *(("published", rs.GGF, r, rs.Gaussian) for r in (0.02, 0.05, 0.1)),
        *(("safe", rs.GGF.safe, r, None) for r in (0.02, 0.05, 0.1)),
        *(("tuned", rs.GGF.tuned, r, None) for r in (0.05, 0.1)),
    ]
    rows = []
    for d in (1, 2, 4, 32):
        for name, make, rtol, noise in cases:
            row = on_gaussian(VP, d, 0.25, make(rtol), values // d, noise)
            rows.append({"solver": name, "d": d, "rtol": rtol, **row, **against_em(VP, 0.25, row)})
    return rows


def g2_other(sizes: tuple[int, ...] = (60_000, 30_000, 3000)) -> list[Row]:
    """GGF.tuned() where it was not tuned: rms error of the variances within modes; EM at its NFE,
    at twice and at four times as much; and what exact draws have."""
    skewed = [[[0.3, 0.2], [0.2, 0.2]], [[0.05, -0.04], [-0.04, 0.2]], [[0.02, 0], [0, 0.5]]]
    targets: dict[str, Any] = {
        "N(0.7, 0.5^2)": normal(1, 0.5, 0.7),
        "2-d mixture": rs.GaussianMixture([0.5, 0.3, 0.2], [[-1, 0.5], [1, 1], [0.5, -1]], skewed),
        "patches, d = 64": rs.targets.data.patches_mixture(),
    }
    rows = []
    for (name, target), n in zip(targets.items(), sizes, strict=True):
        for sde in (VP, rs.SubVP(), VE):
            process, law = reverse(sde, target), target.at(sde, sde.t_end)

            def error(x: Any, law: Any = law) -> float:
                return float(rs.measure.dispersion(x, law) ** 0.5)

            sol = rs.sample(process, rs.GGF.tuned(), n, rng=SEED)
            row: Row = {"target": name, "SDE": type(sde).__name__, **cost(sol)}
            row["error"] = error(sol.x)
            for k in (1, 2, 4):
                em = rs.sample(process, EM, n, times=round(k * row["NFE"]), rng=SEED)
                row[f"EM x{k}"] = error(em.x)
            rows.append({**row, "exact draws": error(law.sample(n, rng=SEED)), "samples": n})
    return rows


def g3(dims: tuple[int, ...] = (1, 4, 32, 256, 1024, 3072), n: int = 16) -> list[Row]:
    """Share of rejected attempts over the dimension, as published, std 0.05."""
    return [
        published(name, d, 0.05, rtol, max(n, 4096 // d))
        for name in SDES
        for d in dims
        for rtol in (0.01, 0.05)
    ]


def g4(n: int = 800, d: int = 256) -> list[Row]:
    """Extrapolation: x'' or x' propagated; weak order on a grid (exact); N(0, 0.25^2 I), VP."""
    rows = []
    for extrapolate in (True, False):
        solver = rs.GGF(0.01, extrapolate=extrapolate)
        weak = rs.exact.order(reverse(VP, normal(1, 0.25)), solver, "weak", steps=(200, 400))
        row = on_gaussian(VP, d, 0.25, solver, n, rs.Gaussian)
        rows.append({"extrapolate": extrapolate, "weak order": float(weak.slope), **row})
    return rows


def g5(dims: tuple[int, ...] = (16, 64, 256, 1024), n: int = 16) -> list[Row]:
    """The largest component against the root mean square; rtol 0.01, N(0, 0.25^2 I), VP."""
    rows = []
    for d in dims:
        rms, linf = (
            on_gaussian(VP, d, 0.25, rs.GGF(0.01, norm=norm), n, rs.Gaussian)
            for norm in ("rms", "linf")
        )
        rows.append({"d": d, "ratio": linf["NFE"] / rms["NFE"], "NFE rms": rms["NFE"], **linf})
    return rows


def g6(n: int = 100, d: int = 256) -> list[Row]:
    """Exponent and safety; rtol 0.01, N(0, 0.25^2 I), VP."""
    rows = []
    for r, theta in [(r, 0.9) for r in (0.5, 2 / 3, 0.8, 0.9, 1.0)] + [(0.9, 0.8), (0.9, 0.95)]:
        times = rs.Adaptive(exponent=r, safety=theta)
        row = on_gaussian(VP, d, 0.25, rs.GGF(0.01), n, rs.Gaussian, times=times)
        rows.append({"exponent": r, "safety": theta, **row})
    return rows


def g7(n: int = 64) -> list[Row]:
    """Loose tolerances: N(0, std^2 I) in d = 3072, as published."""
    return [
        published(name, 3072, std, rtol, n)
        for name in SDES
        for std in (0.05, 0.25)
        for rtol in (0.05, 0.1, 0.5)
    ]


def g8(n: int = 64, d: int = 256) -> list[Row]:
    """High order off the shelf, by the PI control of StochasticDiffEq.jl; N(0, 0.05^2 I), VP.

    The sum with tolerances 0.06 is, but for its small part in the noise, that with delta = 1/6.
    """
    control = rs.Adaptive(exponent=(0.7 / 1.5, -0.4 / 1.5), cap=9 / 8, floor=0.2)
    cases: list[tuple[Any, str, float]] = [
        *((s, e, tol) for e, tol in (("sum", 0.01), ("sum", 0.06)) for s in (rs.SRA3, rs.SOSRA)),
        *((s, "difference", 0.01) for s in (rs.SRA3, rs.SOSRA)),
        (rs.GGF, "Heun - EM", 0.01),
    ]
    rows = []
    for make, how, tol in cases:
        solver = make(tol, tol, **({} if make is rs.GGF else {"estimator": how}))
        row = on_gaussian(VP, d, 0.05, solver, n, times=control)
        error = frozen_error(VP, d, 0.05, solver, times=control)
        first = {"solver": make.__name__, "error by": how, "tol": tol}
        rows.append({**first, "NFE / 1000": row["NFE"] / 1000, **row})
        rows[-1] |= against_em(VP, 0.05, row, error)
    return rows


def g9(n: int = 400, d: int = 256) -> list[Row]:
    """Lamba's estimator beside GGF's; N(0, 0.25^2 I), VP, fresh noise."""
    careful = rs.Adaptive(exponent=0.5, safety=0.8)
    cases = {
        "GGF 0.01": rs.GGF(0.01),
        "Lamba 0.01, extrapolated": rs.Lamba(0.01, extrapolate=True),
        "Lamba 0.01": rs.Lamba(0.01),
        "Lamba 0.01, linf, safety 0.8": rs.Lamba(0.01, norm="linf", control=careful),
        "Lamba 0.002, atol / 5": rs.Lamba(0.002, 0.0078 / 5),
        "Lamba 0.0004, atol / 25": rs.Lamba(0.0004, 0.0078 / 25),
    }
    rows = []
    for name, solver in cases.items():
        row = on_gaussian(VP, d, 0.25, solver, n, rs.Gaussian)
        rows.append({"solver": name, **row, **against_em(VP, 0.25, row)})
    return rows


def g10(n: int = 64) -> list[Row]:
    """RK45 on the probability flow, 1e-5: the whole block as one system, and per sample."""
    targets = {"N(0, 0.05^2 I), d = 256": normal(256, 0.05), "ring of 8": rs.GaussianMixture.ring()}
    rows = []
    for name, target in targets.items():
        for sde in (VP, VE):
            flow = rs.ProbabilityFlow(sde, target.score(sde))
            x = sde.prior_std * np.random.default_rng(SEED).normal(size=(n, target.dim))
            exact = rs.exact.flow(sde, target, x, sde.T, sde.t_end)
            for solver in (rs.BlackBox(rtol=1e-5, atol=1e-5), rs.EmbeddedRK()):
                sol = rs.sample(flow, solver, x=x)
                off = np.sqrt(np.mean((sol.x - exact) ** 2, axis=1))
                row = {"target": name, "SDE": type(sde).__name__, "solver": type(solver).__name__}
                row |= {"NFE": float(sol.nfe.mean()), "NFE max": int(sol.nfe.max())}
                rows.append(
                    {**row, "median error": float(np.median(off)), "worst": float(off.max())}
                )
    return rows


# -- beyond the paper -----------------------------------------------------------------------------


class Ramp:
    """dx = (1 + 4t) dw on [0, 1], x(0) = 0, without a score: the variance is 124/12."""

    kind, stochastic, sde = "forward", True, VP
    score = eps = denoise = colour = gram = start = None

    def drift(self, x: Any, t: Any) -> Any:
        return 0.0 * x

    def diffuse(self, dw: Any, t: Any) -> Any:
        return (1.0 + 4.0 * t) * dw

    def at(self, t: Any, s: Any) -> Ramp:
        return self


def g11_ramp(n: int = 20_000, atols: tuple[float, ...] = (0.1, 0.05, 0.02)) -> list[Row]:
    """Rejection without a score: dx = (1 + 4t) dw, exact variance 124/12 = 10.333."""
    times = rs.Adaptive(t_start=0.0, t_end=1.0, h0=0.2, exponent=0.67, cap=2.0)
    ramp: Any = Ramp()
    rows = []
    for atol in atols:
        for make in (rs.Gaussian, rs.RetainedPath, rs.BrownianTree):
            solver, x = rs.GGF(1e-12, atol), np.zeros((n, 1))
            sol = rs.sample(ramp, solver, x=x, times=times, noise=make(SEED))
            v = float(np.var(sol.x))
            row = {"atol": atol, "noise": make.__name__, "variance": v, "s.e.": v * (2 / n) ** 0.5}
            rows.append({**row, "rejected %": cost(sol)["rejected %"], "samples": n})
    return rows


@cache
def g11(dims: tuple[int, ...] = (1, 4, 32, 256), levels: int = 4, values: int = 40_000) -> Any:
    """Variance over tolerance, N(0, 0.25^2 I), VP: what is kept after a rejection."""
    cases: dict[str, tuple[Any, float, int]] = {
        "fresh": (rs.Gaussian, np.inf, 1),
        "fresh, cap 1.25": (rs.Gaussian, 1.25, 1),
        "retained, no cap": (rs.RetainedPath, np.inf, 1),
        "retained, cap 1.25": (rs.RetainedPath, 1.25, 1),
        "tree, cap 1.25": (rs.BrownianTree, 1.25, 10),  # the tree is slow: fewer samples
    }
    rows: list[Row] = []
    for d in dims:
        for scale in 0.25 ** np.arange(levels):
            solver = rs.GGF(0.2 * scale, 0.0312 * scale)
            for name, (make, cap, fewer) in cases.items():
                n, times = max(8, values // d // fewer), rs.Adaptive(cap=cap)
                row = on_gaussian(VP, d, 0.25, solver, n, make, times=times)
                rows.append({"d": d, "rtol": solver.rtol, "noise": name, **row})
    return rows


def path_errors(solvers: Any, levels: Any, n: int = 1000, finest: int = 12) -> dict[str, Any]:
    """Errors with 2^k steps along one Brownian path, on the reverse SDE of a mixture to t = 0.2."""
    modes = rs.GaussianMixture([0.3, 0.3, 0.4], [[-2.0], [0.0], [1.5]], [0.09, 0.04, 0.16])
    path = rs.StoredPath.draw(np.linspace(1, 0.2, 2**finest + 1), (n, 1), rng=SEED, levy=True)
    x = modes.at(VP, 1.0).sample(n, rng=SEED)

    def end(solver: Any, k: int) -> Any:
        grid = rs.Grid(np.linspace(1, 0.2, 2**k + 1))
        return rs.sample(reverse(VP, modes), solver, x=x, times=grid, noise=path).x

    exact = end(rs.ShARK(), finest)

    def error(solver: Any, k: int) -> float:
        return float(np.sqrt(np.mean((end(solver, k) - exact) ** 2)))

    return {name: np.array([error(solver, k) for k in levels]) for name, solver in solvers.items()}


@cache
def orders() -> tuple[dict[str, Any], dict[str, Any]]:
    """Strong errors on the mixture and weak errors on N(0, 0.25^2), over the steps."""
    solvers: dict[str, Any] = {"EM": EM, "Heun": rs.Heun()}
    solvers |= {make.__name__: make() for make in (rs.SEA, rs.SRA1, rs.SOSRA, rs.ShARK)}
    levels = np.arange(4, 10)
    strong = {
        name: SimpleNamespace(
            kind="strong",
            steps=2**levels,
            errors=errors,
            slope=float(np.log2(errors[-3] / errors[-1]) / 2),
            limit=0.0,
            declared=solvers[name].orders["strong"],
        )
        for name, errors in path_errors(solvers, levels).items()
    }
    process, steps = reverse(VP, normal(1, 0.25)), (50, 100, 200, 400, 800)
    weak = {
        name: rs.exact.order(process, solver, "weak", steps=steps)
        for name, solver in solvers.items()
    }
    return strong, weak


def g12() -> list[Row]:
    """Strong slope along paths (mixture); weak slope and error of the law (exact, Gaussian)."""
    return [
        {
            "solver": name,
            "strong slope": one.slope,
            "weak slope": float(weak.slope),
            "strong error, 512 steps": float(one.errors[-1]),
            "weak error, 100 steps": float(weak.errors[1]),
        }
        for (name, one), weak in zip(orders()[0].items(), orders()[1].values(), strict=True)
    ]


def flipped(solver: Any) -> Any:
    """The method with the sign of beta2 that a public code stores for SRA2 and SRA3."""
    table = solver.tableau
    bW = tuple(w - v for w, v in zip(table.bW, table.bH, strict=True))
    wrong = replace(table, bW=bW, bH=tuple(-v for v in table.bH))
    return type("Flipped", (type(solver),), {"tableau": wrong})()


def g13(n: int = 1000, finest: int = 12) -> list[Row]:
    """Erratum: beta2 with the other sign; its moment beta2 . c1 must be -1."""
    both: dict[str, Any] = {"SRA2": rs.SRA2(), "SRA3": rs.SRA3()}
    both |= {f"{name}, flipped": flipped(solver) for name, solver in both.items()}
    errors = path_errors(both, (finest - 5, finest - 3), n, finest)
    rows = []
    for name, solver in both.items():
        moment = float(np.dot(solver.tableau.bH, solver.tableau.c1))
        weak = rs.exact.order(reverse(VP, normal(1, 0.25)), solver, "weak", steps=(200, 400))
        first, last = errors[name].tolist()
        row: Row = {"table": name, "beta2 . c1": moment, "strong error": last}
        row |= {"strong slope": float(np.log2(first / last) / 2), "weak slope": float(weak.slope)}
        rows.append(row)
    return rows


def g14(n: int = 512, d: int = 64) -> list[Row]:
    """A clock a sample or one a batch: 9 parts N(-1, 0.5^2 I), easy, 1 part N(1, 0.01^2 I), VP."""
    target = rs.GaussianMixture([0.9, 0.1], np.outer([-1.0, 1.0], np.ones(d)), [0.25, 1e-4])
    process, law, rows = reverse(VP, target), target.at(VP, VP.t_end), []
    for steps in ("sample", "batch"):
        solver = rs.GGF.safe(0.02, 0.002, cache=False)
        times = replace(solver.control, steps=steps)
        seen: list[Any] = []  # time after every attempt and its error, while all are under way

        def note(state: Any, rows: Any, seen: list[Any] = seen) -> None:
            if state.error is not None:
                seen.append((np.broadcast_to(state.t, (n, 1)).copy(), np.array(state.error)))

        sol = rs.sample(process, solver, n, times=times, rng=SEED, callback=note)
        alone = rs.sample(process, solver, n // 8, times=times, rng=SEED)
        hard = np.argmax(law.responsibilities(sol.x), axis=1) == 1
        above = [
            np.where(before != t, error > 1, np.nan)[hard]
            for (before, _), (t, error) in zip(seen[:-1], seen[1:], strict=True)
        ]
        row: Row = {"steps": steps, "NFE": float(sol.nfe.mean()), "NFE max": int(sol.nfe.max())}
        row |= {"easy": float(sol.nfe[~hard].mean()), "hard": float(sol.nfe[hard].mean())}
        row["hard steps above tol %"] = 100 * float(np.nanmean(above))
        row["moved by mates"] = float(np.abs(alone.x - sol.x[: n // 8]).max())
        rows.append({**row, "samples": n, "of them hard": int(hard.sum())})
    return rows


def g15() -> list[Row]:
    """What is done at the end: exact W2 distance to the clean law N(0, std^2), EM, VP."""
    rows = []
    for std in (0.0, 0.05, 0.25):
        for n in (50, 100, 200, 500, 1000):
            row: Row = {"std": std, "N": n}
            for how in ("none", "tweedie", "last_mean"):
                law = rs.exact.law(reverse(VP, normal(1, std)), EM, n, denoise=how)  # type: ignore[arg-type]
                row[how] = abs(float(law.cov.item()) ** 0.5 - std)
            rows.append(row)
    return rows


CLAIMS: dict[str, tuple[Any, ...]] = {f"G{k}": (globals()[f"g{k}"],) for k in range(1, 16)}
CLAIMS |= {"G2": (g2, g2_few, g2_other), "G11": (g11_ramp, g11)}


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
    """Draw the three figures of the page."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    blue, vermilion, green, orange, grey = "#0072B2", "#D55E00", "#009E73", "#E69F00", "0.45"

    rows = g1()
    fig, ax = plt.subplots(figsize=(6.0, 4.4), layout="constrained")
    for name, colour, marker in (("VP", blue, "o"), ("VE", vermilion, "s")):
        ours = [row for row in rows if row["SDE"] == name]
        style: Row = {"color": colour, "marker": marker}
        x = [row["rtol"] for row in ours]
        ax.plot(x, [row["NFE"] for row in ours], label=f"{name}, N(0, 0.05² I), d = 3072", **style)
        paper = [row["paper NFE"] for row in ours]
        ax.plot(x, paper, ls="", mfc="white", ms=9, label=f"{name}, paper, CIFAR-10", **style)
    ax.set(xscale="log", yscale="log", xlabel="relative tolerance", ylabel="NFE, mean per sample")
    ax.set_xticks(x, [f"{v:g}" for v in x])
    ax.set_yticks([50, 100, 200, 400, 800], ["50", "100", "200", "400", "800"])
    ax.minorticks_off()
    ax.grid(True, color="0.88", lw=0.8)
    ax.legend(fontsize="small")
    fig.savefig(folder / "ggf_nfe.png", dpi=150)

    rows = g11()
    styles = {"fresh": (vermilion, "o", "-"), "fresh, cap 1.25": (orange, "s", "--")}
    styles |= {"retained, no cap": (grey, "v", "--"), "retained, cap 1.25": (blue, "D", "-")}
    styles |= {"tree, cap 1.25": (green, "^", ":")}
    dims = list(dict.fromkeys(row["d"] for row in rows))
    fig, axes = plt.subplots(
        1, len(dims), figsize=(9.0, 3.6), sharex=True, sharey=True, layout="constrained"
    )
    for ax, d in zip(axes, dims, strict=True):
        for name, (colour, marker, line) in styles.items():
            part = [row for row in rows if row["d"] == d and row["noise"] == name]
            bars = ax.errorbar(
                [row["rtol"] for row in part], [row["v/V"] for row in part],
                [row["s.e."] for row in part], color=colour, marker=marker, ls=line, ms=5, lw=1.4,
            )  # fmt: skip
            bars.set_label(name)
        ax.axhline(1.0, color="black", lw=0.8, zorder=0)
        ax.set(xscale="log", yscale="log", title=f"d = {d}", xlabel="relative tolerance")
        ax.set_yticks([0.9, 1, 1.25, 1.5, 2, 3], ["0.9", "1", "1.25", "1.5", "2", "3"])
        ax.minorticks_off()
        ax.grid(True, color="0.88", lw=0.8)
    axes[0].set_ylabel("variance / exact variance")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small")
    fig.savefig(folder / "ggf_bias.png", dpi=150)

    fig, axes = plt.subplots(1, 2, figsize=(10.0, 4.4), layout="constrained")
    titles = ("along one path: mixture, to t = 0.2", "of the law: N(0, 0.25²), exact")
    for ax, result, title in zip(axes, orders(), titles, strict=True):
        rs.plot.order(result, ax=ax)
        ax.set_title(title)
    fig.savefig(folder / "ggf_orders.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="G1 to G15, or all")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="where to put the figures")
    chosen = parser.parse_args()
    names = list(CLAIMS) if "all" in chosen.claims else chosen.claims
    if unknown := [name for name in names if name not in CLAIMS]:
        parser.error(f"no such claim: {', '.join(unknown)}; there are {', '.join(CLAIMS)}")
    for name in names:
        for claim in CLAIMS[name]:
            begin = time.perf_counter()
            rows = claim()
            print(f"\n{name}  {claim.__doc__}\n\n{table(rows)}")
            print(f"\n{time.perf_counter() - begin:.1f} s", flush=True)
    if chosen.figures:
        figures(chosen.figures)


if __name__ == "__main__":
    main()
