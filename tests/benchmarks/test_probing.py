"""Cost of exact laws and orders, as ratios inside one run.

Not part of the test gate.  Run with

    python -m pytest tests/benchmarks -m benchmark --benchmark-only -n 0 -s

Probing sends 1 + d + K d samples through the driver, K draws of d normals each.  Its target is the
time of a plain run with as many samples, times three.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import refsde as rs

from ._ratios import medians

pytestmark = pytest.mark.benchmark
SDE = rs.VP()


def gaussian(d: int) -> rs.ReverseSDE:
    """N(m, C) with a full covariance; on the line the reference problem."""
    root = np.random.default_rng(0).standard_normal((d, d)) / np.sqrt(d)
    cov = [[0.25]] if d == 1 else root @ root.T + 0.1 * np.eye(d)
    target = rs.GaussianMixture([1.0], [np.full(d, 0.7)], [cov])
    return rs.ReverseSDE(SDE, target.score(SDE))


@pytest.mark.parametrize(
    ("d", "n"), [(1, 50), (1, 200), (1, 1000), (5, 50), (5, 200), (5, 1000), (64, 50), (64, 200)]
)
def test_law(benchmark: Any, d: int, n: int) -> None:
    process, probes = gaussian(d), 1 + d + n * d  # one draw a step
    print(f"\nd={d}, {n} steps: exact.law / a plain run of {probes}")
    for solver in (rs.EulerMaruyama(), rs.Heun()):
        m = medians(
            {
                "law": lambda solver=solver: rs.exact.law(process, solver, n),
                "plain": lambda solver=solver: rs.sample(process, solver, probes, times=n, rng=0),
            },
            rounds=2 if d == 64 else 7,
        )
        name, ratio = type(solver).__name__, m["law"] / m["plain"]
        benchmark.extra_info[name] = ratio
        print(f"  {name:<44} {ratio:8.2f}   target <= 3   ({m['law']:.3f} s)")
    benchmark.pedantic(lambda: rs.exact.law(process, rs.EulerMaruyama(), n), rounds=1)


SOLVERS = {
    "EulerMaruyama": rs.EulerMaruyama(),
    "Heun": rs.Heun(),
    "ReverseDiffusion": rs.ReverseDiffusion(),
    "Ancestral": rs.Ancestral(),
    "DDIM(1)": rs.DDIM(1.0),
}


def test_order(benchmark: Any) -> None:
    reverse = gaussian(1)
    flow = rs.ProbabilityFlow(SDE, reverse.score)
    print("\nseconds of exact.order, 64 to 1024 steps          weak   strong     flow")
    for name, solver in SOLVERS.items():
        spent = []
        for kind in solver.orders:
            start = time.process_time()
            rs.exact.order(flow if kind == "flow" else reverse, solver, kind)
            spent.append(time.process_time() - start)
        benchmark.extra_info[name] = spent
        print(f"  {name:<44} " + " ".join(f"{seconds:8.3f}" for seconds in spent))
    benchmark.pedantic(lambda: rs.exact.order(reverse, SOLVERS["EulerMaruyama"]), rounds=3)
