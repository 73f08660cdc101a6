"""What `import refsde` loads, and what it offers."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from types import ModuleType

import pytest

import refsde as rs

HEAVY = (
    "matplotlib",
    "torch",
    "sklearn",
    "joblib",
    "hypothesis",
    "tqdm",
    "pytest",
    "pandas",
    "IPython",
)


def run(code: str) -> str:
    """Standard output of a fresh interpreter; warnings are errors there too."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tops(imports: str) -> tuple[set[str], set[str]]:
    """Modules loaded by an import statement, and their top packages, helpers of Python left out."""
    code = f"import sys; before = set(sys.modules); {imports}; print(*set(sys.modules) - before)"
    modules = set(run(code).split())
    return modules, {name.partition(".")[0] for name in modules} - sys.stdlib_module_names


def test_import_loads_numpy_scipy_and_threadpoolctl_only() -> None:
    """And what these bring along by themselves."""
    modules, loaded = tops("import refsde")
    assert not loaded & set(HEAVY)
    theirs = [m for m in modules if m.partition(".")[0] in ("numpy", "scipy", "threadpoolctl")]
    allowed = tops(f"import {', '.join(sorted(theirs))}")[1] | {"refsde"}
    assert loaded <= allowed
    assert {"numpy", "scipy", "threadpoolctl", "refsde"} <= loaded


def test_a_run_loads_nothing_heavy_either() -> None:
    code = (
        "import sys, refsde as rs; sde = rs.VP(); score = rs.GaussianMixture.ring(8).score(sde); "
        "rs.sample(rs.ReverseSDE(sde, score), rs.Heun(), 5, times=3, rng=0, workers=2); "
        "rs.sample(rs.ProbabilityFlow(sde, score), rs.BlackBox(), 5, rng=0); "
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert run(code).split() == []


def test_testing_is_loaded_when_asked_for_and_its_extras_later() -> None:
    """`rs.testing` brings neither pytest nor Hypothesis; `rs.testing.strategies` brings the one."""
    code = (
        "import sys, refsde as rs; names = 'refsde.testing', 'pytest', 'hypothesis'; "
        "told = lambda: print(*[int(name in sys.modules) for name in names]); "
        "told(); rs.testing.check_sde(rs.VP()); told(); rs.testing.strategies; told()"
    )
    assert run(code).splitlines() == ["0 0 0", "1 0 0", "1 0 1"]


def test_import_leaves_the_global_random_state_alone() -> None:
    code = (
        "import numpy as np; a = np.random.get_state()[1].copy(); import refsde; "
        "print(np.array_equal(a, np.random.get_state()[1]))"
    )
    assert run(code).strip() == "True"


def public(module: ModuleType) -> set[str]:
    """Names of our own that a module shows: no underscore, no submodule."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("refsde")
    }


def test_all_is_complete() -> None:
    """Everything named exists, and everything there is named."""
    assert all(hasattr(rs, name) for name in rs.__all__)
    assert public(rs) <= set(rs.__all__)
    assert len(rs.__all__) == len(set(rs.__all__))


def test_all_has_the_names_of_the_contract() -> None:
    """Users rely on them: names are added, never renamed."""
    contract = """
        VP SubVP VE EDM Cosine Tabulated LinearSDE GaussianMixture Empirical
        GaussianField FieldMixture
        ReverseSDE ProbabilityFlow ForwardSDE Gaussian StoredPath Grid
        iterate sample Solution Path State predict
        EulerMaruyama Heun ReverseDiffusion Ancestral DDIM OneStep PredictorCorrector Langevin
        AnnealedLangevin BlackBox
        GGF Lamba EmbeddedRK Adaptive RetainedPath BrownianTree
        SRA1 SRA2 SRA3 SOSRA SOSRA2 ShARK SEA
        TAB RhoAB IPNDM DPMSolverPP UniPC Multistep RhoRK ExponentialRK DPMSolver Churn
        SDEDPMSolverPP SEEDS ERSDE SASolver AnalyticDPM Angular
        Preconditioned precondition MALA
    """
    assert set(contract.split()) <= set(rs.__all__)


def test_all_is_sorted() -> None:
    """Constants, classes, functions, each in order: as the linter sorts them."""

    def key(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    assert list(rs.__all__) == sorted(rs.__all__, key=key)


@pytest.mark.parametrize("name", sorted(rs.__all__))
def test_every_public_object_is_documented(name: str) -> None:
    """A docstring that opens with a sentence, and a doctest that begins with the import."""
    thing = getattr(rs, name)
    text = inspect.getdoc(thing)
    assert text and text.splitlines()[0].rstrip().endswith((".", ":")), name
    if isinstance(thing, ModuleType):
        return
    for own, value in vars(thing).items() if isinstance(thing, type) else []:
        if not own.startswith("_") and callable(value) and not issubclass(thing, tuple):
            assert inspect.getdoc(getattr(thing, own)), f"{name}.{own}"
    if name not in ("State", "Path"):
        examples = text.partition("Examples\n")[2]
        assert re.search(r">>> import refsde as rs", examples), name


@pytest.mark.parametrize("name", sorted(rs.precondition.__all__))
def test_every_map_and_filter_is_documented(name: str) -> None:
    text = inspect.getdoc(getattr(rs.precondition, name))
    assert text and text.splitlines()[0].endswith("."), name
    assert re.search(r">>> import refsde as rs", text.partition("Examples\n")[2]), name
    assert public(rs.precondition) == set(rs.precondition.__all__)


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", rs.__version__)


def test_the_package_is_typed() -> None:
    from importlib.resources import files

    assert (files("refsde") / "py.typed").is_file()
