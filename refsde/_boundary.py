"""What may be asked of `iterate` and `sample`: the checks at their boundary, in one place."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from refsde._array import (
    Array,
    event_size,
    is_floating,
    is_numpy,
    per_sample,
    rows_finite,
    to_numpy,
)
from refsde._types import Process, State, Time, Times
from refsde.times import Adaptive, Grid

__all__ = [
    "check_accepts",
    "check_memory",
    "check_noise",
    "check_options",
    "check_start",
    "check_step",
    "check_times",
    "event_of",
    "is_order",
    "is_orders",
    "named",
    "shapes_of",
    "times_of",
]

_NAMES = {
    "forward": "ForwardSDE(sde)",
    "reverse": "ReverseSDE(sde, score)",
    "flow": "ProbabilityFlow(sde, score)",
}


def _whole(value: Any) -> bool:
    """Whether ``value`` is a positive int (a bool is not)."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) > 0


def is_orders(declared: Any) -> bool:
    """Whether this is what a solver may declare: orders by "weak", "strong" and "flow"."""
    return isinstance(declared, Mapping) and all(
        name in ("weak", "strong", "flow") and is_order(p) for name, p in declared.items()
    )


def is_order(value: Any) -> bool:
    """Whether this is an order of convergence: a positive finite number."""
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool) and bool(0 < value < np.inf)


def named(solver: Any) -> str:
    """What messages call a solver: a function's own name, else the repr."""
    return str(getattr(solver, "__name__", None) or repr(solver))


def check_accepts(solver: Any, process: Any) -> None:
    """Raise ``TypeError`` unless ``solver`` is a solver and right for ``process``."""
    if not callable(solver) or isinstance(solver, type):
        hint = f"{solver.__name__}()" if isinstance(solver, type) else "refsde.EulerMaruyama()"
        raise TypeError(
            "`solver` must be called as (process, state, s, noise) -> State, "
            f"got {solver!r}: pass {hint}"
        )
    kind = getattr(process, "kind", None)
    if isinstance(process, type) or kind not in _NAMES:
        raise TypeError(
            "`process` must be a process such as refsde.ReverseSDE(sde, score), "
            f"or have a kind among {sorted(_NAMES)}, got {process!r}"
        )
    accepts = getattr(solver, "accepts", None)
    if getattr(process, "preconditioned", False):
        _check_preconditions(solver, process, accepts)
    if accepts is None or kind in accepts:
        return
    known = [_NAMES.get(k, repr(k)) for k in sorted(accepts, reverse=True)]
    right = " or ".join(known) or "no process at all"
    raise TypeError(
        f"`solver` {named(solver)} is wrong for {_NAMES[kind]}, silently so if it ran: use it on "
        f"{right}"
    )


def _check_preconditions(solver: Any, process: Any, accepts: Any) -> None:
    """Raise ``TypeError`` where a solver would ignore the preconditioner in silence."""
    # A function says nothing of itself: it is taken to be written on what a process offers.
    if getattr(solver, "preconditions", accepts is None):
        return
    if accepts is not None and "reverse" not in accepts:
        why = "it solves the flow, which has no noise to be coloured: use it on ProbabilityFlow"
    elif "flow" in (accepts or ()) and not getattr(solver, "preconditions", True):
        why = "without noise there is nothing to colour: use it on ProbabilityFlow(sde, score)"
    else:
        why = (
            "use EulerMaruyama, ReverseDiffusion, Ancestral, a stochastic Runge-Kutta method or "
            "GGF; a solver of yours that uses drift, diffuse, displace, gram and colour alone "
            "says so by the attribute preconditions = True"
        )
    raise TypeError(
        f"`solver` {named(solver)} would ignore the preconditioner {process.M!r} in silence: {why}"
    )


def check_options(
    process: Process, keep: Any, denoise: Any, workers: Any, on_failure: Any, callback: Any
) -> None:
    """Raise unless the options of `sample` are among those there are."""
    if keep is not None and keep != "all" and not _whole(keep):
        raise ValueError(
            f"`keep` must be None, 'all' or a positive int (every k-th step), got {keep!r}"
        )
    if denoise not in ("none", "tweedie", "last_mean"):
        raise ValueError(f"`denoise` must be 'none', 'tweedie' or 'last_mean', got {denoise!r}")
    if denoise != "none" and process.kind == "forward":
        raise ValueError(
            f"`denoise` must be 'none' for a ForwardSDE, which has no score, got {denoise!r}: "
            "denoise at the end of a ReverseSDE or ProbabilityFlow"
        )
    if not _whole(workers):
        raise ValueError(
            f"`workers` must be a positive int, the number of threads, got {workers!r}"
        )
    if on_failure not in ("mark", "raise"):
        raise ValueError(f"`on_failure` must be 'mark' or 'raise', got {on_failure!r}")
    if callback is not None and not callable(callback):
        raise TypeError(f"`callback` must be a function (state, rows), got {callback!r}: or None")


def check_noise(noise: Any) -> None:
    """Raise ``TypeError`` unless ``noise`` is a source of noise."""
    missing = [n for n in ("increment", "normal", "on") if not callable(getattr(noise, n, None))]
    if missing or isinstance(noise, type):
        raise TypeError(
            "`noise` must be a source such as refsde.Gaussian(0), with methods increment, normal "
            f"and on, got {noise!r}: a seed goes into `rng`"
        )


def check_times(times: Any) -> None:
    """Raise ``TypeError`` unless ``times`` says when to step."""
    if not callable(getattr(times, "target", None)) or isinstance(times, type):
        raise TypeError(
            f"`times` must be a Grid or Adaptive (or an int, in sample), got {times!r}: "
            "use refsde.Grid(ts) for a list of times"
        )


def times_of(process: Process, solver: Any, times: Any, from_prior: bool) -> Times:
    """Make a grid of an int, and check a grid against the process."""
    if times is None:
        times = getattr(solver, "default_times", None)
        if times is None:
            raise ValueError(
                "`times` is None: pass a number of steps, times=200, a Grid, or Adaptive() to a "
                "solver that estimates its error"
            )
    if isinstance(times, int | np.integer) and not isinstance(times, bool):
        if not _whole(times):
            raise ValueError(f"`times` must be a positive number of steps, or a Grid, got {times}")
        forward = process.kind == "forward"
        grid = Grid.uniform(process.sde, int(times), 0.0 if forward else None)
        if not forward:
            _warn_of_a_leap(process, grid)
        return grid.reversed() if forward else grid
    check_times(times)
    if isinstance(times, Grid):
        _check_ends(process, repr(times), times.ts[0], times.ts[-1], from_prior)
    elif isinstance(times, Adaptive):
        _check_ends(process, repr(times), *times.ends(process), from_prior)
    made: Times = times
    return made


def _warn_of_a_leap(process: Process, grid: Grid) -> None:
    """Warn if the last of many equal steps covers about half of all noise levels, as EDM's does."""
    lam = process.sde.lam
    last, whole = lam(grid.ts[-1]) - lam(grid.ts[-2]), lam(grid.ts[-1]) - lam(grid.ts[0])
    if grid.n >= 16 and last > 0.45 * whole:
        warnings.warn(
            f"the last of {grid.n} equal steps covers {last / whole:.0%} of all noise levels (in "
            f"log(sigma / alpha)) under {process.sde!r}: pass times=Grid.karras(sde, {grid.n})",
            stacklevel=4,
        )


def _check_ends(process: Process, what: str, first: float, last: float, from_prior: bool) -> None:
    T = process.sde.T
    if max(first, last) > T * (1 + 1e-12):
        raise ValueError(
            f"`times` must lie in [0, T] = [0, {T:g}], got {max(first, last):g}: "
            "rescale the grid to the SDE"
        )
    if process.kind == "forward" and first > last:
        raise ValueError(
            f"`times` must ascend for a ForwardSDE (t = 0 is data), got {what}: "
            "use times.reversed()"
        )
    if process.kind == "reverse" and first < last:
        raise ValueError(
            f"`times` must descend for a ReverseSDE (T is noise), got {what}: use times.reversed()"
        )
    if from_prior and process.kind != "forward" and first < T * (1 - 1e-9):
        raise ValueError(
            f"`times` must start at T = {T:g}, where the prior is, got {what}: "
            "pass the states at its start as x="
        )


def check_start(x: Any) -> Array:
    """Return the start ``x`` of a run as a C-ordered batch, or raise."""
    if not hasattr(x, "shape"):
        raise ValueError(
            f"`x` must be an array (n, *D), got {x!r:.80}: use numpy.asarray(x, float)"
        )
    if len(x.shape) < 2:
        raise ValueError(
            f"`x` must be an array (n, *D), batch first, got shape {tuple(x.shape)}: "
            "reshape a batch of numbers to (n, 1), and write one sample as x[None]"
        )
    if not is_floating(x):
        raise TypeError(f"`x` must be floating point, got dtype {x.dtype}: use x.astype(float)")
    if x.shape[0] == 0 or event_size(x) == 0:
        raise ValueError(f"`x` must hold at least one sample, got shape {tuple(x.shape)}")
    finite = rows_finite(x)
    if not np.all(finite):
        raise ValueError(
            f"`x` must be finite, got NaN or inf in sample {int(np.argmin(finite))}: "
            "remove those samples"
        )
    # Sums round differently along another memory order: bits would depend on how x is laid out.
    return np.ascontiguousarray(x) if is_numpy(x) else x


def shapes_of(
    process: Process,
    n: int | None,
    x: Array | None,
    shape: tuple[int, ...] | None,
    dtype: DTypeLike,
) -> tuple[int, tuple[int, ...], Array | None]:
    """Return the number of samples, the event shape and the checked start of a run."""
    if x is not None:
        x = check_start(x)
        event = tuple(x.shape[1:])
        if n is not None and n != x.shape[0]:
            raise ValueError(
                f"`n` = {n!r} disagrees with `x` of {x.shape[0]} samples: leave `n` out"
            )
        if shape is not None and shape not in (event, list(event)):
            raise ValueError(f"`shape` = {shape!r} disagrees with `x` of {event}: leave it out")
        return int(x.shape[0]), event, x
    if n is None or not _whole(n):
        raise ValueError(
            f"`n` must be a positive int, the number of samples, got {n!r}: or pass a start `x`"
        )
    _check_dtype(dtype)
    if process.kind == "forward":
        process.start(np.zeros(0))  # raises, naming the remedy
    return int(n), _event(process, shape), None


def _check_dtype(dtype: Any) -> None:
    try:
        known = np.dtype(dtype) in (np.dtype(np.float64), np.dtype(np.float32))
    except TypeError:
        known = False
    if not known:
        raise ValueError(f"`dtype` must be float64 or float32, got {dtype!r}")


def _event(process: Process, shape: Any) -> tuple[int, ...]:
    event = event_of(getattr(process.score, "target", None))
    if shape is None:
        if event is None:
            raise ValueError(
                "`shape` is None, and the score has no target to tell the event shape: "
                "pass shape=(d,), or shape=(C, H, W) of images"
            )
        return event
    if not isinstance(shape, tuple | list) or not shape or not all(_whole(k) for k in shape):
        raise ValueError(
            f"`shape` must hold positive ints, the shape of one sample, got {shape!r}: "
            "pass shape=(d,)"
        )
    if event is not None and tuple(shape) != event:
        raise ValueError(f"`shape` must be {event}, the target's, got {shape!r}: leave it out")
    return tuple(int(k) for k in shape)


def event_of(target: Any) -> tuple[int, ...] | None:
    """Shape of one sample of ``target``; None if it does not tell."""
    event, dim = (getattr(target, name, None) for name in ("event_shape", "dim"))
    if event is not None:
        return tuple(int(k) for k in event)
    return None if dim is None else (int(dim),)


def check_memory(solver: Any, memory: Any) -> tuple[Any, ...]:
    """Raise ``TypeError`` unless what ``solver.init`` returned is a tuple."""
    if isinstance(memory, tuple):
        return memory
    raise TypeError(
        f"`solver` {named(solver)} must return a tuple from init, its memory, got "
        f"{type(memory).__name__}: return () for none, (value,) for one"
    )


def check_step(solver: Any, old: State, new: Any, s: Time) -> None:
    """Raise unless ``solver`` returned the batch it was given, as a `State` at ``s``."""
    if not isinstance(new, State):
        raise TypeError(
            f"`solver` {named(solver)} must return a State, got {type(new).__name__}: "
            "return refsde.State(s, x)"
        )
    if tuple(getattr(new.x, "shape", ())) != tuple(old.x.shape):
        raise ValueError(
            f"`solver` {named(solver)} must keep the shape {tuple(old.x.shape)} of the batch, "
            f"got {tuple(getattr(new.x, 'shape', ()))}: look for a sum or a broadcast in the step"
        )
    if new.t is s or np.all(to_numpy(new.t == s)):
        return
    where_to = "the times of each sample" if per_sample(s) else f"{s:g}"
    got = "other times" if per_sample(new.t) else f"t = {new.t:g}"
    raise ValueError(
        f"`solver` {named(solver)} must go to s = {where_to}, got a State at {got}: "
        "return refsde.State(s, x); a corrector goes into PredictorCorrector(None, corrector)"
    )
