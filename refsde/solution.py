"""What a run gives back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refsde._array import Array, to_numpy
from refsde._types import Fate
from refsde.times import Grid

__all__ = ["Path", "Solution"]


class Path(NamedTuple):
    """States on the way.

    Where each sample has steps of its own, a rejected attempt repeats the state that it left, and a
    sample that has arrived repeats its end.

    Attributes
    ----------
    t : array (m,) or (m, n)
        Times, one for all samples or one each.
    x : array (m, n, *D)
        Samples at these times, as NumPy.
    """

    t: np.ndarray
    x: np.ndarray

    def grid(self, i: int = 0) -> Grid:
        """Times at which sample ``i`` was, without rejected attempts: to replay it on a `Grid`."""
        t = np.asarray(self.t if self.t.ndim == 1 else self.t[:, i])
        return Grid(t[np.concatenate([[True], np.diff(t) != 0])])


@dataclass(frozen=True, eq=False)
class Solution:
    """Result of `refsde.sample`.

    Attributes
    ----------
    x : array (n, *D)
        Samples at the end; a failed sample holds its last finite state.
    t : array (n,)
        Time that each sample reached.
    nfe : array (n,) of int
        Evaluations of the score that each sample cost.
    n_accepted, n_rejected : array (n,) of int
        Steps taken and attempts rejected.
    success : array (n,) of bool
        False where a sample ceased to be finite, or its steps too small or too many.
    path : Path or None
        States on the way, if ``keep`` was given.
    message : str
        What happened, in words.
    seed_entropy : int or None
        Key of the noise: ``Gaussian(key=...)`` as ``noise=`` repeats the run, or
        ``RetainedPath(key=...)`` if its steps were adaptive.

    Examples
    --------
    >>> import refsde as rs
    >>> sde, target = rs.VP(), rs.GaussianMixture.ring(8)
    >>> rs.sample(rs.ReverseSDE(sde, target.score(sde)), rs.EulerMaruyama(), 100, times=50, rng=0)
    Solution(100 samples of shape (2,), 50 NFE: all 100 samples reached t = 0.001 in 50 steps)
    """

    x: Array
    t: np.ndarray
    nfe: np.ndarray
    n_accepted: np.ndarray
    n_rejected: np.ndarray
    success: np.ndarray
    path: Path | None
    message: str
    seed_entropy: int | None

    def save(self, file: str | os.PathLike[str]) -> None:
        """Write everything to an ``.npz`` file, without pickles; samples become NumPy."""
        extra: dict[str, Any] = (
            {} if self.path is None else {"path_t": self.path.t, "path_x": self.path.x}
        )
        if self.seed_entropy is not None:
            extra["seed_entropy"] = np.array(self.seed_entropy, dtype=np.uint64)
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with open(
            file, "wb"
        ) as handle:  # a handle: numpy then adds no suffix behind the user's back
            np.savez(handle, x=to_numpy(self.x), message=np.array(self.message), **arrays, **extra)

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Solution:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is not one of ours.
        """
        try:
            # Opened here, since NumPy leaves a damaged file open.
            with open(file, "rb") as handle, np.load(handle, allow_pickle=False) as data:
                held = {name: data[name] for name in data.files}
        except OSError:
            raise  # no such file, no permission: Python's own message says it best
        except Exception as problem:  # a damaged zip fails in a dozen ways
            raise ValueError(
                f"`file` {os.fspath(file)!r} is damaged, or no .npz file: pass one of Solution.save"
            ) from problem
        wanted = ["x", "message", *_ARRAYS]
        if "path_x" in held or "path_t" in held:
            wanted += ["path_t", "path_x"]
        missing = [name for name in wanted if name not in held]
        if missing:
            raise ValueError(
                f"`file` {os.fspath(file)!r} lacks {missing}: pass a file written by Solution.save"
            )
        lengths = {name: held[name].shape[:1] for name in ("x", *_ARRAYS)}
        if len(set(lengths.values())) > 1 or () in lengths.values():
            raise ValueError(
                f"`file` {os.fspath(file)!r} holds arrays that disagree about the number of "
                "samples, "
                f"{lengths}: pass a file written by Solution.save"
            )
        return cls(
            x=held["x"],
            **{name: held[name] for name in _ARRAYS},
            path=Path(held["path_t"], held["path_x"]) if "path_x" in held else None,
            message=str(held["message"]),
            seed_entropy=int(held["seed_entropy"]) if "seed_entropy" in held else None,
        )

    def __repr__(self) -> str:
        low, high = int(self.nfe.min()), int(self.nfe.max())
        nfe = f"{low}" if low == high else f"{low} to {high}"
        what = f"{len(self.nfe)} samples of shape {tuple(self.x.shape[1:])}"
        return f"Solution({what}, {nfe} NFE: {self.message})"


_ARRAYS = ("t", "nfe", "n_accepted", "n_rejected", "success")


_LOST = {
    Fate.NOT_FINITE: (
        "with a non-finite state",
        "look at the score there, or take smaller steps",
    ),
    Fate.STEP_TOO_SMALL: (
        "because the step size fell below the smallest",
        "loosen the tolerances, or lower `h_min` of Adaptive",
    ),
    Fate.TOO_MANY_STEPS: (
        "after the most attempts that Adaptive allows",
        "loosen the tolerances, or raise its `max_steps`",
    ),
}


def summary(
    failed_step: np.ndarray,
    t: np.ndarray,
    steps: int | None,
    fate: np.ndarray | Fate = Fate.NOT_FINITE,
) -> str:
    """Say in words how a run ended; ``failed_step`` is 0 where a sample went through.

    ``fate`` tells of the others why they were lost.
    """
    n, failed = len(failed_step), int(np.count_nonzero(failed_step))
    through = t[failed_step == 0]
    end = f"reached t = {through[0]:g}" if len(through) else ""
    pace = f" in {steps} steps" if steps is not None else ""
    if failed == 0:
        return f"all {n} samples {end}{pace}"
    parts = []
    for kind, (why, remedy) in _LOST.items():
        rows = np.flatnonzero((failed_step > 0) & (fate == kind))
        if len(rows):
            first = int(rows[np.argmin(failed_step[rows])])
            parts.append(
                f"{len(rows)} of {n} samples stopped {why}, the first (sample {first}) in step "
                f"{failed_step[first]} from t = {t[first]:g}: {remedy}"
            )
    lost = "; ".join(parts)
    return f"{lost}; the other {n - failed} {end}{pace}" if failed < n else lost
