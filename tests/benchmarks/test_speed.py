"""Speed of the exact score and of a sampling loop, as ratios inside one run.

Not part of the test gate.  Run with

    python -m pytest tests/benchmarks -m benchmark --benchmark-only -n 0 -s

Each test prints its ratios beside the target and stores them in pytest-benchmark's ``extra_info``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import refsde as rs

from ._ratios import gemm_flops, medians

pytestmark = pytest.mark.benchmark
SDE, T = rs.VP(), 0.3


def mixture(K: int, d: int, rng: np.random.Generator) -> rs.GaussianMixture:
    A = rng.standard_normal((K, d, d)) / math.sqrt(d)
    return rs.GaussianMixture(
        np.full(K, 1 / K), rng.standard_normal((K, d)), A @ A.transpose(0, 2, 1) + 0.01 * np.eye(d)
    )


def naive_score(target: rs.GaussianMixture, x: np.ndarray, a: float, s: float) -> np.ndarray:
    """The formula with a covariance solved for each component, as one would first write it."""
    logits, terms = [], []
    for w, m, C in zip(target.weights, target.means, target.covs, strict=True):
        S = a * a * C + s * s * np.eye(len(m))
        gap = x - a * m
        solved = np.linalg.solve(S, gap.T).T
        logits.append(
            np.log(w)
            - 0.5 * np.sum(gap * solved, axis=1)
            - 0.5 * np.linalg.slogdet(2 * np.pi * S)[1]
        )
        terms.append(-solved)
    L = np.stack(logits, axis=1)
    r = np.exp(L - L.max(axis=1, keepdims=True))
    r /= r.sum(axis=1, keepdims=True)
    return np.asarray(np.sum(r[:, :, None] * np.stack(terms, axis=1), axis=1))


def bare_gemms(K: int, d: int, n: int, width: int, rng: np.random.Generator) -> Any:
    """Only the two matrix products of the safe score, in the same blocks."""
    x, A = rng.standard_normal((n, d)), rng.standard_normal((K * d, d))
    Y, out = np.empty((K * d, width)), np.empty((n, d))

    def run() -> None:
        for i in range(0, n - n % width, width):
            np.matmul(A, x[i : i + width].T, out=Y)
            np.matmul(Y.T, A, out=out[i : i + width])

    return run


def report(benchmark: Any, title: str, rows: dict[str, tuple[float, str]]) -> None:
    benchmark.extra_info.update({name: value for name, (value, _) in rows.items()})
    print(f"\n{title}")
    for name, (value, target) in rows.items():
        print(f"  {name:<44} {value:8.2f}   target {target}")


@pytest.mark.parametrize(
    ("K", "d", "n", "share"), [(10, 64, 16384, 0.65), (100, 64, 4096, 0.55), (10, 784, 1024, 0.75)]
)
def test_safe_score(benchmark: Any, K: int, d: int, n: int, share: float) -> None:
    from refsde.targets._kernels import _width

    rng = np.random.default_rng(0)
    target, x = mixture(K, d, rng), rng.standard_normal((n, d))
    score, quick = target.score(SDE), target.score(SDE, fast=True)
    gemm, flops = gemm_flops()
    alternatives = {
        "ours": lambda: score(x, T),
        "bare": bare_gemms(K, d, n, _width(K * d), rng),
        "gemm": gemm,
        "fast": lambda: quick(x, T),
    }
    if K * d * n <= 10 * 64 * 16384:
        alternatives["naive"] = lambda: naive_score(target, x, SDE.alpha(T), SDE.sigma(T))
    m = medians(alternatives)
    rate = (4.0 * n * K * d * d / m["ours"]) / (flops / m["gemm"])
    rows = {
        "safe / its two bare GEMMs": (m["ours"] / m["bare"], "<= 1.25"),
        "share of GEMM peak": (rate, f">= {share}"),
    }
    if n > 8 * d * K:  # making the precisions must not count
        rows["fast form / safe"] = (m["fast"] / m["ours"], "<= 0.65")
    if "naive" in m:
        rows["naive solve loop / ours"] = (m["naive"] / m["ours"], ">= 4")
    report(benchmark, f"safe score, K={K} d={d} n={n}", rows)
    benchmark.pedantic(lambda: score(x, T), rounds=3)


def test_divergence_and_clocks(benchmark: Any) -> None:
    rng = np.random.default_rng(0)
    score, x = mixture(10, 64, rng).score(SDE), rng.standard_normal((16384, 64))
    clocks = np.full((len(x), 1), T)
    m = medians(
        {
            "score": lambda: score(x, T),
            "both": lambda: score.evaluate(x, T, "score", "divergence"),
            "clocks": lambda: score(x, clocks),
        }
    )
    report(
        benchmark,
        "K=10 d=64 n=16384",
        {
            "with divergence / without": (m["both"] / m["score"], "<= 1.3"),
            "one t a sample / one t": (m["clocks"] / m["score"], "<= 1.8"),
        },
    )
    benchmark.pedantic(lambda: score(x, T), rounds=3)


def test_points(benchmark: Any) -> None:
    rng = np.random.default_rng(0)
    N, d, n = 1797, 64, 4096
    score = rs.Empirical(rng.standard_normal((N, d))).score(SDE)
    x = rng.standard_normal((n, d))
    gemm, flops = gemm_flops()
    m = medians({"ours": lambda: score(x, T), "gemm": gemm})
    rate = (4.0 * n * N * d / m["ours"]) / (flops / m["gemm"])
    report(benchmark, "1797 points, d=64 n=4096", {"share of GEMM peak": (rate, ">= 0.5")})
    benchmark.pedantic(lambda: score(x, T), rounds=3)


def ring_naive(x: np.ndarray, means: np.ndarray, var: float, a: float, s: float) -> np.ndarray:
    """Score of a round mixture by differences (n, K, d), as one would first write it."""
    v = a * a * var + s * s
    gap = x[:, None, :] - a * means
    logits = -0.5 * np.sum(gap**2, axis=2) / v
    r = np.exp(logits - logits.max(axis=1, keepdims=True))
    r /= r.sum(axis=1, keepdims=True)
    return np.asarray(-np.sum(r[:, :, None] * gap, axis=1) / v)


def jax_forms(means: np.ndarray, var: float) -> dict[str, Any]:
    """The same two formulas as functions for jax to compile, if it is installed."""
    try:
        import jax
    except ImportError:
        return {}
    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    mu = jnp.asarray(means)

    def difference(x: Any, a: Any, s: Any) -> Any:
        v = a * a * var + s * s
        gap = x[:, None, :] - a * mu
        r = jax.nn.softmax(-0.5 * jnp.sum(gap**2, axis=2) / v, axis=1)
        return -jnp.sum(r[:, :, None] * gap, axis=1) / v

    def linear(x: Any, a: Any, s: Any) -> Any:
        v = a * a * var + s * s
        r = jax.nn.softmax((a / v) * (x @ mu.T), axis=1)
        return (a * (r @ mu) - x) / v

    return {"jax difference": difference, "jax linear": linear}


def jitted(form: Any, x: np.ndarray, a: float, s: float) -> Any:
    """One evaluation, compiled."""
    import jax

    compiled = jax.jit(form)
    return lambda: compiled(x, a, s).block_until_ready()


def jax_loop(form: Any, ts: tuple[float, ...], n: int) -> Any:
    """The whole run compiled by jax as one loop, its own normals included."""
    import jax
    import jax.numpy as jnp

    rows = [
        (SDE.alpha(t), SDE.sigma(t), SDE.f(t), SDE.g2(t), s - t)
        for t, s in zip(ts[:-1], ts[1:], strict=True)
    ]
    table = jnp.asarray(rows)

    @jax.jit
    def run(key: Any) -> Any:
        keys = jax.random.split(key, len(rows) + 1)

        def step(i: Any, x: Any) -> Any:
            a, s, f, g2, h = table[i]
            z = jax.random.normal(keys[i + 1], x.shape, dtype=x.dtype)
            return x + (f * x - g2 * form(x, a, s)) * h + jnp.sqrt(-g2 * h) * z

        start = jax.random.normal(keys[0], (n, 2), dtype=jnp.float64)
        return jax.lax.fori_loop(0, len(rows), step, start)

    key = jax.random.PRNGKey(0)
    assert run(key).dtype == np.float64
    return lambda: run(key).block_until_ready()


def test_plane(benchmark: Any) -> None:
    ring, x = rs.GaussianMixture.ring(8), np.random.default_rng(0).standard_normal((100_000, 2))
    means, a, s = ring.means, SDE.alpha(T), SDE.sigma(T)
    score = ring.score(SDE)
    full = rs.GaussianMixture(
        ring.weights, means, ring.covs * np.linspace(1, 2, 8)[:, None, None]
    ).score(SDE)
    alternatives = {
        "ours": lambda: score(x, T),
        "full": lambda: full(x, T),
        "naive": lambda: ring_naive(x, means, 0.04, a, s),
    }
    for name, form in jax_forms(means, 0.04).items():
        alternatives[name] = jitted(form, x, a, s)
    m = medians(alternatives)
    rows = {
        "naive / ours": (m["naive"] / m["ours"], ">= 15"),
        "full covariances / round": (m["full"] / m["ours"], "-"),
    }
    rows |= {
        f"{name} / ours": (m[name] / m["ours"], ">= 2.5") for name in m if name.startswith("jax")
    }
    rows["ns a sample"] = (m["ours"] / len(x) * 1e9, "-")
    report(benchmark, "d=2 K=8 n=100000", rows)
    benchmark.pedantic(lambda: score(x, T), rounds=3)


def test_ring_loop(benchmark: Any) -> None:
    ring, n, steps = rs.GaussianMixture.ring(8), 100_000, 50
    process = rs.ReverseSDE(SDE, ring.score(SDE))
    grid = rs.Grid.uniform(SDE, steps)

    def loop(form: Any) -> np.ndarray:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((n, 2))
        for t, s in zip(grid.ts[:-1], grid.ts[1:], strict=True):
            drift = SDE.f(t) * x - SDE.g2(t) * np.asarray(form(x, SDE.alpha(t), SDE.sigma(t)))
            x = x + drift * (s - t) + math.sqrt(SDE.g2(t) * (t - s)) * rng.standard_normal((n, 2))
        return x

    alternatives = {
        "ours": lambda: rs.sample(process, rs.EulerMaruyama(), n, times=grid, rng=0),
        "naive": lambda: loop(lambda x, a, s: ring_naive(x, ring.means, 0.04, a, s)),
    }
    for name, form in jax_forms(ring.means, 0.04).items():
        alternatives[name] = jax_loop(form, grid.ts, n)
    m = medians(alternatives, rounds=7)
    rows = {"naive loop / ours": (m["naive"] / m["ours"], ">= 10")}
    targets = {"jax difference": ">= 4", "jax linear": ">= 2.5"}
    rows |= {
        f"{name} loop / ours": (m[name] / m["ours"], targets[name])
        for name in m
        if name.startswith("jax")
    }
    rows["ns a sample and step"] = (m["ours"] / n / steps * 1e9, "-")
    report(benchmark, "d=2 ring, Euler-Maruyama, 50 steps, n=100000", rows)
    benchmark.pedantic(alternatives["ours"], rounds=3)


def test_threads(benchmark: Any) -> None:
    ring, n = rs.GaussianMixture.ring(8), 200_000
    process = rs.ReverseSDE(SDE, ring.score(SDE))

    def run(workers: int) -> np.ndarray:
        return np.asarray(
            rs.sample(process, rs.EulerMaruyama(), n, times=20, rng=0, workers=workers).x
        )

    assert np.array_equal(run(1), run(2))
    m = medians({"one": lambda: run(1), "two": lambda: run(2)}, rounds=5)
    report(benchmark, "threads", {"CPU of two threads / one": (m["two"] / m["one"], "<= 1.1")})
    benchmark.pedantic(lambda: run(2), rounds=3)
