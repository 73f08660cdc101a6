"""Cost of noise that remembers, of adaptive steps and of steps for each sample, as ratios.

Not part of the test gate.  Run with

    python -m pytest tests/benchmarks -m benchmark --benchmark-only -n 0 -s
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import refsde as rs

pytestmark = pytest.mark.benchmark
VP = rs.VP()


def query_ratio(d: int, n: int, grow: float, levy: bool, source: Any, attempts: int = 100) -> Any:
    """Cost of a query over that of a fresh one, and the share of rejected attempts.

    A controller as adaptive runs have it: an attempt is rejected if its increment is large.
    """
    x, t, h = np.zeros((n, d)), np.full((n, 1), 100.0), np.full((n, 1), 0.01)
    fresh, seconds, rejected = rs.Gaussian(0), np.zeros(2), 0.0
    for _ in range(attempts):
        s = t - h
        for i, noise in enumerate((source, fresh)):
            start = time.process_time()
            answer = noise.levy(t, s, x) if levy else noise.increment(t, s, x)
            seconds[i] += time.process_time() - start
            if noise is source:
                dw = answer[0] if levy else answer
        accept = np.sqrt(np.mean(dw**2, axis=1, keepdims=True)) < 0.15
        rejected += 1 - accept.mean()
        t, h = np.where(accept, s, t), np.where(accept, grow * h, 0.5 * h)
        start = time.process_time()
        if hasattr(source, "settle"):
            source.settle(t)
        seconds[0] += time.process_time() - start
    return seconds[0] / seconds[1], rejected / attempts


@pytest.mark.parametrize("levy", [False, True])
@pytest.mark.parametrize(("d", "n"), [(1, 16384), (2, 16384), (16, 16384), (3072, 256)])
def test_retained_noise(d: int, n: int, levy: bool, benchmark: Any) -> None:
    """Target: at most 6 at 20 % rejections."""
    found = [query_ratio(d, n, grow, levy, rs.RetainedPath(0)) for grow in (1.1, 1.2, 1.8)]
    told = ", ".join(f"{ratio:.2f} ({share:.0%} rejected)" for ratio, share in found)
    print(f"\nd = {d}, {'levy' if levy else 'increment'}: {told}; target 6")
    benchmark.extra_info["ratios"] = found
    benchmark(lambda: None)


def test_the_tree(benchmark: Any) -> None:
    ratio, _ = query_ratio(2, 16384, 1.2, False, rs.BrownianTree(0), attempts=20)
    print(f"\nBrownianTree, d = 2: {ratio:.0f} times a fresh increment")
    benchmark.extra_info["ratio"] = ratio
    benchmark(lambda: None)


def test_a_run(benchmark: Any) -> None:
    """CPU time an evaluation and sample, against Euler-Maruyama on a grid."""
    for name, target, n in (
        ("ring, d = 2", rs.GaussianMixture.ring(8), 16384),
        ("digits", rs.targets.data.digits_mixture(), 4000),
    ):
        process = rs.ReverseSDE(VP, target.score(VP))
        spent = {}
        for solver, times in ((rs.EulerMaruyama(), 100), (rs.GGF.safe(), None)):
            start = time.process_time()
            sol = rs.sample(process, solver, n, times=times, rng=0)
            spent[type(solver).__name__] = (time.process_time() - start) / sol.nfe.sum()
        print(f"\n{name}: {spent['GGF'] / spent['EulerMaruyama']:.2f} of a step of EM")
    benchmark(lambda: None)


def test_each_sample_on_its_own(benchmark: Any) -> None:
    """RK45 with steps for each of 500 samples, against one SciPy call a sample."""
    flow = rs.ProbabilityFlow(VP, rs.GaussianMixture.ring(8).score(VP))
    spent = []
    for solver in (rs.BlackBox(coupled=False), rs.EmbeddedRK()):
        start = time.process_time()
        rs.sample(flow, solver, 500, rng=0)
        spent.append(time.process_time() - start)
    print(f"\none SciPy call a sample / EmbeddedRK: {spent[0] / spent[1]:.0f}")
    benchmark(lambda: None)
