"""What filters and fields cost beside the bare transforms they are made of, as ratios in one run.

Not part of the test gate.  Run with

    python -m pytest tests/benchmarks -m benchmark --benchmark-only -n 0 -s
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy import fft

import refsde as rs
from refsde import precondition as pc
from tests.benchmarks._ratios import medians

pytestmark = pytest.mark.benchmark
SHAPE = (3, 1024, 1024)


def transforms(x: np.ndarray, *, cosine: bool) -> None:
    """Transform there and back, and nothing between."""
    if cosine:
        fft.idctn(fft.dctn(x, axes=(-2, -1), norm="ortho"), axes=(-2, -1), norm="ortho")
    else:
        fft.irfft2(fft.rfft2(x, norm="ortho"), x.shape[-2:], norm="ortho")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("basis", ["fft", "dct"])
@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 256, 256), SHAPE], ids=str)
def test_a_filter_costs_two_transforms(
    benchmark: Any, shape: tuple[int, ...], basis: Any, dtype: type
) -> None:
    """At most 1.3 times two bare ones; the score of a field likewise."""
    x = np.random.default_rng(0).standard_normal((1, *shape)).astype(dtype)
    field = rs.GaussianField.power_law(shape, basis=basis)
    M, score = pc.pds_frequency_filter(field), field.score(rs.VE())
    found = medians(
        {
            "bare": lambda: transforms(x, cosine=basis == "dct"),
            "apply": lambda: M.apply(x),
            "gram": lambda: M.gram(x),
            "score": lambda: score(x, 0.5),
        }
    )
    ratios = {name: seconds / found["bare"] for name, seconds in found.items()}
    print(f"\n{shape} {basis} {np.dtype(dtype).name}: " + _words(ratios))
    assert max(ratios["apply"], ratios["gram"]) <= 1.3, ratios
    benchmark(lambda: M.gram(x))


def _words(ratios: dict[str, float]) -> str:
    return ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items() if name != "bare")


def test_a_preconditioned_step_beside_a_plain_one(benchmark: Any) -> None:
    """The filter adds three transforms to a step: two pairs less what the field's score takes."""
    N, field = 8, rs.GaussianField.power_law((3, 256, 256))
    sde = rs.Tabulated(sigmas=np.geomspace(0.01, 378, N))
    grid, score = rs.Grid.uniform(sde, N, t_end=0.0), field.score(sde)
    M = pc.pds_frequency_filter(field)

    def run(process: Any) -> Any:
        return rs.sample(process, rs.ReverseDiffusion(), 2, times=grid, rng=0)

    plain, filtered = rs.ReverseSDE(sde, score), rs.Preconditioned(sde, score, M, guard="off")
    same = rs.Preconditioned(sde, score, pc.Identity(), guard="off")
    found = medians(
        {"plain": lambda: run(plain), "pds": lambda: run(filtered), "identity": lambda: run(same)}
    )
    print({name: round(seconds / found["plain"], 2) for name, seconds in found.items()})
    benchmark(lambda: run(filtered))


LARGE = """
import resource, time
import numpy as np, refsde as rs
from refsde import precondition as pc
field = rs.GaussianField.power_law((3, 1024, 1024))
sde = rs.Tabulated(sigmas=np.geomspace(0.01, 1348, 66))
process = rs.Preconditioned(sde, field.score(sde), pc.pds_frequency_filter(field))
solver = rs.PredictorCorrector(rs.ReverseDiffusion(), rs.Langevin(0.15))
start = time.perf_counter()
rs.sample(process, solver, 1, times=rs.Grid.uniform(sde, 66, t_end=0.0), rng=0, denoise="last_mean")
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_a_sample_of_three_million_pixels(benchmark: Any) -> None:
    """Predictor and corrector, 66 iterations at 1024 x 1024 x 3: under 60 s and 2 GB."""
    said = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
    seconds, peak = map(float, said.stdout.split())
    print(f"\n{seconds:.1f} s, {peak / 1e9:.2f} GB")
    assert seconds < 60 and peak < 2e9
    benchmark(lambda: None)
