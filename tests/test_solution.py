"""What a run gives back: its fields, its words, its file."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _solvers import RING, VP
from hypothesis import given
from hypothesis import strategies as st

import refsde as rs
from refsde.solution import summary

PROCESS = rs.ReverseSDE(VP, RING.score(VP))
FIELDS = ("x", "t", "nfe", "n_accepted", "n_rejected", "success")


def solution(**options: Any) -> rs.Solution:
    return rs.sample(PROCESS, rs.Heun(), 6, **({"times": 4, "rng": 0} | options))


def equal(a: rs.Solution, b: rs.Solution) -> bool:
    fields = all(
        getattr(a, name).dtype == getattr(b, name).dtype
        and np.array_equal(getattr(a, name), getattr(b, name))
        for name in FIELDS
    )
    if a.path is None or b.path is None:
        path = a.path is b.path
    else:
        path = all(np.array_equal(u, v) for u, v in zip(a.path, b.path, strict=True))
    return fields and path and a.message == b.message and a.seed_entropy == b.seed_entropy


# -- fields ---------------------------------------------------------------------------------------


def test_every_field_has_the_documented_shape() -> None:
    sol = solution(keep=2)
    assert sol.x.shape == (6, 2)
    for name, kind in zip(FIELDS[1:], "fiiib", strict=True):
        assert getattr(sol, name).shape == (6,) and getattr(sol, name).dtype.kind == kind
    assert sol.path is not None and sol.path.t.shape == (3,) and sol.path.x.shape == (3, 6, 2)
    assert isinstance(sol.seed_entropy, int) and 0 <= sol.seed_entropy < 2**64
    assert sol.message == "all 6 samples reached t = 0.001 in 4 steps"


def test_a_solution_is_frozen() -> None:
    with pytest.raises(AttributeError):
        solution().x = np.zeros(3)


def test_repr_says_what_a_notebook_wants_to_see() -> None:
    text = "Solution(6 samples of shape (2,), 8 NFE: all 6 samples reached t = 0.001 in 4 steps)"
    assert repr(solution()) == text
    flow = rs.ProbabilityFlow(VP, RING.score(VP))
    each = rs.sample(flow, rs.BlackBox(coupled=False), 6, rng=0)
    assert f"{each.nfe.min()} to {each.nfe.max()} NFE" in repr(each)


def test_a_stored_path_has_no_key() -> None:
    path = rs.StoredPath.draw(rs.Grid.uniform(VP, 4).ts, (6, 2), rng=0)
    assert solution(noise=path).seed_entropy is None


# -- words ----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_the_summary_counts(failed: list[int]) -> None:
    """``failed`` holds the step in which a sample stopped, 0 where it went through."""
    steps = np.array(failed)
    t = np.where(steps == 0, 0.001, 1.0 - 0.25 * (steps - 1))
    text, lost = summary(steps, t, 3), int((steps > 0).sum())
    if lost == 0:
        assert text == f"all {len(steps)} samples reached t = 0.001 in 3 steps"
        return
    earliest = steps[steps > 0].min()
    first = int(np.flatnonzero(steps == earliest)[0])
    assert text.startswith(f"{lost} of {len(steps)} samples stopped with a non-finite state")
    assert f"the first (sample {first}) in step {earliest} from t = {t[first]:g}" in text
    rest = f"the other {len(steps) - lost} reached t = 0.001 in 3 steps"
    assert text.endswith(rest) == (lost < len(steps))


# -- file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"keep": "all"}, {"dtype": np.float32}, {"noise": rs.Gaussian(key=2**64 - 1)}],
    ids=["plain", "path", "float32", "largest-key"],
)
def test_what_is_saved_is_loaded(options: dict[str, Any], tmp_path: Path) -> None:
    sol = solution(**options)
    for file in (tmp_path / "run.npz", str(tmp_path / "no_suffix")):
        sol.save(file)
        assert os.path.exists(file), "no suffix is added"
        assert equal(rs.Solution.load(file), sol)
    with zipfile.ZipFile(tmp_path / "run.npz") as archive:
        assert all(name.endswith(".npy") for name in archive.namelist())


def test_failures_and_a_missing_key_are_saved(tmp_path: Path) -> None:
    def bad(x: Any, t: Any) -> Any:
        return np.where(x[:, :1] > 0, np.nan, -x)

    path = rs.StoredPath.draw([1.0, 0.5, 0.2], (6, 2), rng=0)
    process = rs.ReverseSDE(VP, bad)
    sol = rs.sample(
        process,
        rs.EulerMaruyama(),
        6,
        shape=(2,),
        times=rs.Grid([1.0, 0.5, 0.2]),
        rng=0,
        noise=path,
    )
    assert 0 < sol.success.sum() < 6 and sol.seed_entropy is None
    sol.save(tmp_path / "run.npz")
    assert equal(rs.Solution.load(tmp_path / "run.npz"), sol)


def test_samples_of_any_library_become_numpy(xp: Any, tmp_path: Path) -> None:
    x = xp.asarray(np.ones((3, 2)))
    sol = rs.sample(rs.ReverseSDE(VP, lambda x, t: -x), rs.EulerMaruyama(), x=x, times=2, rng=0)
    assert type(sol.x) is type(x)
    sol.save(tmp_path / "run.npz")
    assert np.array_equal(rs.Solution.load(tmp_path / "run.npz").x, np.asarray(sol.x))


class Bomb:
    """What unpickles to a call."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("name", ["x", "message", "extra"])
def test_a_pickle_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not loaded, not even when it hides in an array of objects: the bomb would make a folder."""
    monkeypatch.chdir(tmp_path)
    solution().save("run.npz")
    with np.load("run.npz") as data:
        held = {key: data[key] for key in data.files}
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb()
    np.savez("run.npz", allow_pickle=True, **(held | {name: bomb}))
    with pytest.raises(ValueError, match=r"`file` 'run\.npz' is damaged"):
        rs.Solution.load("run.npz")
    Path("plain.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="`file` 'plain"):
        rs.Solution.load("plain.npz")
    assert not Path("exploded").exists()
    np.load("run.npz", allow_pickle=True)[name]  # the mutant that the test would catch
    assert Path("exploded").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"some text", b"\x80\x04."])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "other"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"`file` .*other' is damaged, or no \.npz file: pass one"):
        rs.Solution.load(file)


def test_arrays_of_other_programs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "one.npz"
    with open(file, "wb") as handle:
        np.save(handle, np.ones(3))
    with pytest.raises(ValueError, match="is damaged, or no"):
        rs.Solution.load(file)
    np.savez(file, x=np.ones((3, 2)))
    with pytest.raises(
        ValueError, match=r"`file` .* lacks \['message', 't', 'nfe'.*Solution\.save"
    ):
        rs.Solution.load(file)


@pytest.mark.parametrize("lost", ["path_t", "path_x", "nfe"])
def test_incomplete_and_inconsistent_files_are_refused(lost: str, tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    solution(keep="all").save(file)
    with np.load(file) as data:
        held = {key: data[key] for key in data.files}
    np.savez(file, **{key: value for key, value in held.items() if key != lost})
    with pytest.raises(ValueError, match=rf"lacks \['{lost}'\]"):
        rs.Solution.load(file)
    for short in (held["nfe"][:3], np.array(3)):
        np.savez(file, **(held | {"nfe": short}))
        with pytest.raises(ValueError, match="disagree about the number of samples"):
            rs.Solution.load(file)


def test_a_missing_file_is_pythons_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        rs.Solution.load(tmp_path / "nowhere.npz")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    file = tmp_path_factory.mktemp("damaged") / "run.npz"
    solution(keep="all").save(file)
    return file, file.read_bytes()


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_damage_is_a_value_error_or_harmless(
    saved: tuple[Path, bytes], position: float, bit: int, cut: bool
) -> None:
    """One flipped bit, or a file cut short: never another exception, never a crash."""
    file, content = saved
    at = int(position * len(content))
    damaged = bytearray(content[:at] if cut else content)
    if not cut:
        damaged[at] ^= 1 << bit
    file.write_bytes(bytes(damaged))
    try:
        assert isinstance(rs.Solution.load(file), rs.Solution)
    except ValueError as refused:
        assert "`file`" in str(refused)
