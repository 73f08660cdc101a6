"""What every test stands on: one BLAS thread, no window, fixed examples, three array libraries."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

# Before NumPy is imported, and inherited by the notebooks' kernels and by subprocesses.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "ci",
    derandomize=True,  # the same examples on every run: a red test is a change, not bad luck
    database=None,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("fresh", deadline=None, max_examples=300, print_blob=True)
settings.load_profile(os.environ.get("REFSDE_HYPOTHESIS", "ci"))

SEED = 20201126  # of every statistical test; its false-positive rate is stated for one run
LIBRARIES = ("numpy", "array_api_strict", "torch")
REQUIRE_TORCH = os.environ.get("REFSDE_REQUIRE_TORCH") == "1"


@pytest.fixture
def seed() -> int:
    """The suite's fixed seed."""
    return SEED


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of its own for each test, from the suite's fixed seed."""
    return np.random.default_rng(SEED)


@pytest.fixture(params=LIBRARIES)
def xp(request: pytest.FixtureRequest) -> ModuleType:
    """An array library: the same test body runs on NumPy, on the strict standard and on torch."""
    if request.param == "torch" and not REQUIRE_TORCH:
        return pytest.importorskip("torch")
    return importlib.import_module(request.param)


@pytest.fixture(autouse=True)
def _global_random_state_untouched(request: pytest.FixtureRequest) -> Iterator[None]:
    """No code of ours draws from NumPy's global generator (what benchmarks import may)."""
    before = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    yield
    after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    same = before["pos"] == after["pos"] and np.array_equal(before["key"], after["key"])
    exempt = request.node.get_closest_marker("benchmark") is not None
    assert same or exempt, "NumPy's global random state was used: take `rng=` instead"


def _torch_was_skipped(report: Any) -> bool:
    if not (REQUIRE_TORCH and report.skipped) or hasattr(report, "wasxfail"):
        return False
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return "torch" in f"{report.nodeid} {reason}".lower()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """With REFSDE_REQUIRE_TORCH=1 a test that skips for want of torch fails."""
    report = yield
    if _torch_was_skipped(report):
        report.outcome = "failed"
        report.longrepr = f"skipped, though REFSDE_REQUIRE_TORCH=1: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """The same for a whole module that skips while it is imported."""
    report = yield
    if _torch_was_skipped(report):
        report.outcome = "failed"
        report.longrepr = f"skipped, though REFSDE_REQUIRE_TORCH=1: {report.longrepr}"
    return report
