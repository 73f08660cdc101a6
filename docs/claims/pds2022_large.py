"""Preconditioned sampling at 1024 x 1024 x 3: how many iterations less, on samples actually drawn.

``python docs/claims/pds2022_large.py`` draws one image with each method, about four minutes on two
cores; ``--size 256`` is quicker.  For every method it prints the exact relative W2 of its law, and
the largest |z| of the octave powers of the image against that law: the law is the sampler's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import refsde as rs
from refsde import precondition as pc

LARGEST = {64: 90.0, 128: 190.0, 256: 378.0, 512: 700.0, 1024: 1348.0}  # sigma_max by edge
SIGMA_MIN, PUBLISHED = 0.01, 2000  # the code's smallest level and its iterations without a filter


class Row(NamedTuple):
    """One method: its iterations, the error of its law, and how a drawn image fits that law."""

    method: str
    iterations: int
    relative_w2: float
    z: float
    seconds: float

    def __str__(self) -> str:
        drawn = f"{self.z:>8.2f} {self.seconds:>9.1f}" if self.z == self.z else f"{'-':>8} {'-':>9}"
        return f"{self.method:<34} {self.iterations:>10} {self.relative_w2:>12.5f} {drawn}"


def levels(n: int, steps: int, largest: float) -> tuple[Any, rs.Grid]:
    """``steps`` geometric levels up to ``largest``, and the grid that ends on the data."""
    sigmas = np.geomspace(SIGMA_MIN, largest, steps) if steps > 1 else [largest]
    sde = rs.Tabulated(sigmas=sigmas)
    return sde, rs.Grid.uniform(sde, steps, t_end=0.0)


def measured(
    name: str,
    iterations: int,
    make: Any,
    solver: Any,
    shape: tuple[int, int, int],
    setting: tuple[Any, rs.Grid],
    start: tuple[float, float] | None = None,
    denoise: Any = "last_mean",
    draw: bool = True,
) -> Row:
    """Exact law on one channel (all three are alike), and one image of three channels."""
    sde, grid = setting
    one, three = rs.GaussianField.power_law(shape[1:]), rs.GaussianField.power_law(shape)
    options: dict[str, Any] = {"denoise": denoise}
    law = rs.exact.law(make(one, sde), solver, grid, start=start or "prior", **options)
    if not draw:
        return Row(name, iterations, law.relative_w2(), float("nan"), float("nan"))
    if start is not None:
        mean, variance = start
        z = np.random.default_rng(1).standard_normal((1, *shape))
        options["x"] = mean + np.sqrt(variance) * z
    else:
        options["n"] = 1
    begin = time.perf_counter()
    image = rs.sample(make(three, sde), solver, times=grid, rng=0, **options).x
    seconds = time.perf_counter() - begin
    # Channels are independent: three images of one channel.
    z = law.octave_z(image.reshape(3, *shape[1:]))
    return Row(name, iterations, law.relative_w2(), float(np.abs(z).max()), seconds)


def plain(field: Any, sde: Any) -> Any:
    """Without a filter."""
    return rs.ReverseSDE(sde, field.score(sde))


def published(field: Any, sde: Any) -> Any:
    """With the published frequency filter."""
    return rs.Preconditioned(sde, field.score(sde), pc.pds_frequency_filter(field), guard="off")


def step_matched(field: Any, sde: Any) -> Any:
    """With the filter that keeps every step's variance."""
    return rs.Preconditioned(sde, field.score(sde), pc.step_matched(field, sde), guard="off")


def noise_matched(field: Any, sde: Any) -> Any:
    """With the noise that is left when x_t is known."""
    return rs.Preconditioned(sde, field.score(sde), pc.noise_matched(field, sde), law="noise")


def langevin_matched(field: Any, sde: Any) -> Any:
    """With the filter that makes Langevin well conditioned, which keeps its law whatever it is."""
    return rs.Preconditioned(sde, field.score(sde), pc.langevin_matched(field, sde), guard="off")


def rows(n: int, *, everything: bool = False) -> Iterator[Row]:
    """All methods; those of many iterations are drawn only if ``everything`` is asked for."""
    shape, largest = (3, n, n), LARGEST[n]
    P = rs.ReverseDiffusion()

    def reverse(name: str, steps: int, make: Any, **options: Any) -> Row:
        return measured(name, steps, make, P, shape, levels(n, steps, largest), **options)

    yield reverse("no filter, as published", PUBLISHED, plain, draw=everything)
    yield reverse("no filter", 66, plain)
    yield reverse("published filter", 66, published)
    yield reverse("step-matched filter", 66, step_matched)
    yield reverse("step-matched filter", 58, step_matched)
    for steps in (66, 10, 2):
        yield reverse("noise-matched", steps, noise_matched, denoise="none")

    def annealed(name: str, T: int, strength: float, make: Any, draw: bool) -> Row:
        solver = rs.AnnealedLangevin.ncsn(2e-5 * strength, SIGMA_MIN, T)
        start = (0.5, 1 / 12)  # uniform pixels, as far as moments go
        setting = levels(n, 10, 1.0)
        return measured(name, 10 * T, make, solver, shape, setting, start, "none", draw)

    slow = {1024: (194, 18.0)}.get(n, (17, 18.0))
    yield annealed("annealed Langevin, no filter", *slow, plain, everything)
    yield annealed("annealed Langevin, matched", 2, 10.0, langevin_matched, True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, choices=sorted(LARGEST))
    parser.add_argument("--all", action="store_true", help="also draw with 2000 iterations")
    options = parser.parse_args()
    head = f"{'method':<34} {'iterations':>10} {'relative W2':>12} {'max |z|':>8} {'seconds':>9}"
    print(f"{options.size} x {options.size} x 3, power law, exact scores\n{head}")
    for row in rows(options.size, everything=options.all):
        print(row, flush=True)


if __name__ == "__main__":
    main()
