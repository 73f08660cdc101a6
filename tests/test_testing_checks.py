"""A pytest test for every object and check; what an object is; no need of the extras."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refsde as rs
from refsde.testing import CheckError, NoiseCase, ScoreCase, checks_of, parametrize_with_checks

PATH_TIMES = tuple(np.linspace(1.0, 0.0, 7))
SDES = [
    rs.VP(),
    rs.SubVP(),
    rs.VE(),
    rs.VE(convention="exact"),
    rs.EDM(),
    rs.Cosine(),
    rs.Tabulated.from_betas(n=50),
    rs.Tabulated(sigmas=np.geomspace(0.01, 50.0, 40)),
]
SCORES = [
    rs.GaussianMixture.ring(8).score(rs.VP()),
    rs.GaussianMixture.ring(8).score(rs.EDM()),
    rs.Empirical(np.random.default_rng(0).standard_normal((9, 3))).score(rs.SubVP()),
]


def path(rng: Any) -> rs.StoredPath:
    return rs.StoredPath.draw(PATH_TIMES, (1000, 2), rng=rng, levy=True)


NOISES = [rs.Gaussian, rs.Gaussian(3), NoiseCase(path, times=PATH_TIMES, shape=(1000, 2))]


@parametrize_with_checks([*SDES, *SCORES, *NOISES])
def test_of_the_package(subject: Any, check: Any) -> None:
    check(subject)


# -- what an object is -----------------------------------------------------------------------------


def score(x: Any, t: Any) -> Any:
    return -x


def logpdf(x: Any, t: Any) -> Any:
    return -0.5 * (x * x).sum(axis=1)


KINDS = [
    (rs.VP(), "slope_of_alpha"),
    (SCORES[0], "gradient"),
    (ScoreCase(score, logpdf, shape=(2,)), "gradient"),
    (score, "gradient"),
    (rs.Gaussian, "samples_alone"),
    (rs.Gaussian(0), "samples_alone"),
    (lambda rng: rs.Gaussian(rng), "samples_alone"),
    (partial(rs.StoredPath.draw, PATH_TIMES, (1000, 2)), None),
    (NoiseCase(rs.Gaussian), "samples_alone"),
    (rs.EulerMaruyama(), "weak"),
    (lambda process, state, s, noise: state, "weak"),
]  # fmt: skip


@pytest.mark.parametrize(("subject", "name"), KINDS, ids=range(len(KINDS)))
def test_the_checks_follow_from_what_an_object_is(subject: Any, name: str | None) -> None:
    if name is None:
        with pytest.raises(TypeError, match="`subject` must be an SDE"):
            checks_of(subject)
    else:
        names = [check.name for check in checks_of(subject)]
        assert name in names and len(names) == len(set(names))


@pytest.mark.parametrize("thing", [3, "VP", None, np.zeros(3), min, rs.ReverseSDE(rs.VP(), score)])
def test_what_has_no_checks_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match="`subject` must be an SDE, a score, a noise source or"):
        checks_of(thing)


@pytest.mark.parametrize("cls", [rs.VP, rs.EulerMaruyama, rs.GaussianMixture])
def test_a_class_in_the_place_of_an_object_is_refused(cls: Any) -> None:
    with pytest.raises(TypeError, match=rf"is the class {cls.__name__}: pass an object"):
        checks_of(cls)


# -- names and marks -------------------------------------------------------------------------------


def parameters(*args: Any, **options: Any) -> Any:
    return parametrize_with_checks(*args, **options).mark.args[1]


def test_every_test_is_named_after_object_and_check() -> None:
    ids = [p.id for p in parameters([rs.VP(), rs.EDM(), rs.Gaussian])]
    assert "VP(beta_min=0.1, beta_max=20.0)-slope_of_alpha" in ids and "Gaussian-moments" in ids
    assert len(ids) == len(set(ids)) == 2 * len(checks_of(rs.VP())) + len(checks_of(rs.Gaussian))


def test_objects_of_the_same_name_are_numbered() -> None:
    ids = [p.id for p in parameters([rs.EDM(), rs.VP(), rs.EDM()])]
    assert len(ids) == len(set(ids))
    assert any("#1-" in i for i in ids) and any("#2-" in i for i in ids)
    assert "VP(beta_min=0.1, beta_max=20.0)-chain" in ids


def test_an_expected_failure_is_marked() -> None:
    reasons = {"chain": "of first order only"}
    cases = parameters([rs.VP(), rs.EDM()], expected_failures=lambda s: reasons)
    marked = [p for p in cases if p.marks]
    assert [p.values[1].name for p in marked] == ["chain", "chain"]
    (mark,) = marked[0].marks
    assert mark.kwargs == {"reason": reasons["chain"], "strict": True, "raises": CheckError}
    with pytest.raises(ValueError, match=r"`expected_failures` names \['chian'\].*'chain'"):
        parameters([rs.VP()], expected_failures=lambda s: {"chian": "typo"})


def test_a_list_is_wanted() -> None:
    for given in (rs.VP(), "VP"):
        with pytest.raises(TypeError, match=r"`subjects` must be a list of objects"):
            parametrize_with_checks(given)


USER_TESTS = """
import refsde as rs
from refsde.testing import parametrize_with_checks

class Mine(rs.EDM):
    def g2(self, t):
        return t

@parametrize_with_checks([Mine(), rs.VP()])
def test_mine(subject, check):
    check(subject)

@parametrize_with_checks([Mine()], expected_failures=lambda s: {"variance_equation": "mine"})
def test_known(subject, check):
    check(subject)
"""


def test_a_strangers_test_file(tmp_path: Path) -> None:
    """Selected by name with -k; the failing one tells measured and expected."""
    (tmp_path / "test_user.py").write_text(USER_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header"]
    chosen = ["-rA", "-k", "(test_mine and variance_equation) or test_known", str(tmp_path)]
    done = subprocess.run([*command, *chosen], capture_output=True, text=True, cwd=tmp_path)
    passed = len(checks_of(rs.EDM()))  # those of test_known but one, and VP's
    assert f"1 failed, {passed} passed" in done.stdout and "1 xfailed" in done.stdout, done.stdout
    assert "PASSED test_user.py::test_mine[VP(beta_min=0.1, beta_max=20.0)-variance_equ" in (
        done.stdout
    )
    assert "g2 is 0.5 times what it should be, at all times" in done.stdout


# -- without the extras ----------------------------------------------------------------------------

WITHOUT = """
import sys
sys.modules["pytest"] = sys.modules["hypothesis"] = None  # importing them fails
import refsde as rs
rs.testing.check_sde(rs.VP())
rs.testing.check_score(rs.GaussianMixture.ring(3).score(rs.VP()))
rs.testing.check_noise(rs.Gaussian, shape=(1000, 1))
for ask in (lambda: rs.testing.strategies, lambda: rs.testing.parametrize_with_checks([])):
    try:
        ask()
    except ImportError as error:
        print(error)
"""


def test_checks_need_neither_pytest_nor_hypothesis() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "strategies draws with Hypothesis: pip install 'refsde[testing]'" in first
    assert "makes tests for pytest: pip install 'refsde[testing]'" in second


def test_the_names_are_complete() -> None:
    names = set(rs.testing.__all__)
    contract = "check_sde check_score check_noise parametrize_with_checks strategies"
    assert set(contract.split()) <= names and all(hasattr(rs.testing, name) for name in names)
    with pytest.raises(AttributeError, match="has no attribute 'check_all'"):
        rs.testing.check_all  # noqa: B018
