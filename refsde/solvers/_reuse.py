"""Evaluations at the start of an attempt, which a rejection leaves valid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refsde._array import fill_rows, per_sample, take, to_numpy
from refsde._types import Array, Process, State, Time
from refsde.process import part_of

__all__ = ["evaluated"]


def evaluated(
    model: Callable[[Process, Array, Time], Array], process: Process, state: State
) -> Array:
    """Value of ``model`` at the start, computed only where no rejected attempt left it."""
    t, x = state.t, state.x
    if not state.reuse:
        return model(process, x, t)
    rejected, known = state.reuse
    rows = np.flatnonzero(~to_numpy(rejected).reshape(-1))
    if not len(rows):
        return known
    t = take(t, rows) if per_sample(t) else t
    return fill_rows(known, rows, model(part_of(process, rows), take(x, rows), t))
