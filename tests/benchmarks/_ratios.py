"""Interleaved timing: alternatives take turns in one run, and only ratios of medians are read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np


def medians(alternatives: Mapping[str, Callable[[], object]], rounds: int = 9) -> dict[str, float]:
    """Median CPU seconds of every alternative; each round runs each of them once."""
    for run in alternatives.values():
        run()  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(rounds):
        for name, run in alternatives.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def gemm_flops(size: int = 1024, dtype: type = np.float64) -> tuple[Callable[[], object], float]:
    """A square matrix product to compare with, and how many operations it does."""
    a = np.random.default_rng(0).standard_normal((size, size)).astype(dtype)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out), 2.0 * size**3
