"""What the exponential family costs beside the score, as shares inside one run.

Not part of the test gate.  Run with

    python -m pytest tests/benchmarks -m benchmark --benchmark-only -n 0 -s
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import pytest

import refsde as rs
from refsde.solvers.multistep import coefficients

pytestmark = pytest.mark.benchmark
VP = rs.VP()


class Timed:
    """A score that adds up the CPU time of its evaluations."""

    def __init__(self, score: Any) -> None:
        self.inner, self.seconds = score, 0.0

    def _timed(self, f: Any, x: Any, t: Any) -> Any:
        start = time.process_time()
        value = f(x, t)
        self.seconds += time.process_time() - start
        return value

    def __call__(self, x: Any, t: Any) -> Any:
        return self._timed(self.inner, x, t)

    def eps(self, x: Any, t: Any) -> Any:
        return self._timed(self.inner.eps, x, t)

    def denoise(self, x: Any, t: Any) -> Any:
        return self._timed(self.inner.denoise, x, t)


def share(target: Any, solver: Any) -> float:
    """Share of a run of 10 steps that is not the score's, median of five."""
    x, found = np.random.default_rng(0).standard_normal((4096, target.dim)), []
    for _ in range(6):
        score = Timed(target.score(VP))
        start = time.process_time()
        rs.sample(rs.ProbabilityFlow(VP, score), solver, x=x, times=rs.Grid.power(VP, 10))
        found.append(1 - score.seconds / (time.process_time() - start))
    return statistics.median(found[1:])


SOLVERS = [rs.DDIM(), rs.TAB(3), rs.UniPC(3), rs.Angular(), rs.RhoRK("3kutta")]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_overhead(solver: Any, benchmark: Any) -> None:
    """Target: at most 0.15 at d = 64, n = 4096, with the score of digits."""
    from refsde.targets.data import digits_mixture

    rng = np.random.default_rng(0)
    cheap = rs.GaussianMixture(np.full(10, 0.1), rng.normal(size=(10, 64)), np.full(10, 0.1))
    digits, spherical = share(digits_mixture(), solver), share(cheap, solver)
    print(f"\n{solver}: digits {digits:.2f} (target 0.15), ten round components {spherical:.2f}")
    benchmark.extra_info["shares"] = [digits, spherical]
    benchmark(lambda: None)


@pytest.mark.parametrize("solver", [rs.TAB(3), rs.UniPC(3), rs.Angular(), rs.ERSDE(2)], ids=str)
def test_coefficients(solver: Any, benchmark: Any) -> None:
    """Target: under 10 ms for a grid of 50 steps."""
    ts = rs.Grid.power(VP, 50).ts
    benchmark(lambda: coefficients(solver.method, VP, ts))
