"""The exact score of a diffused target, with all that follows from the same responsibilities."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from refsde._array import Array, Time, is_numpy, namespace, one_blas_thread, per_sample
from refsde._types import SDE
from refsde.sde import check_time
from refsde.targets._kernels import rounds_evenly

__all__ = ["TargetScore", "check_points"]


class _Target(Protocol):
    @property
    def event_shape(self) -> tuple[int, ...]: ...
    def _evaluate(
        self, x: Array, a: Any, s: Any, want: frozenset[str], u: Array | None = None
    ) -> dict[str, Array]: ...


def check_points(name: str, x: Any, event: int | tuple[int, ...]) -> None:
    """Raise unless ``x`` is a floating-point batch of events; an int d stands for (d,)."""
    event = event if isinstance(event, tuple) else (event,)
    expected = f"(B, {', '.join(map(str, event))})"
    shape = getattr(x, "shape", None)
    if shape is None:
        raise TypeError(
            f"`{name}` must be an array {expected}, got {type(x).__name__}: use numpy.asarray, and "
            "call a score as score(x, t)"
        )
    if len(shape) != 1 + len(event) or tuple(shape[1:]) != event:
        batch = (
            "one sample a row, so transpose a batch of columns"
            if len(event) == 1
            else "the batch comes first"
        )
        raise ValueError(
            f"`{name}` must have shape {expected}, got {tuple(shape)}: {batch}, and write one "
            "point as x[None]"
        )
    kind = x.dtype.kind if is_numpy(x) else ("f" if "float" in str(x.dtype) else "other")
    if kind != "f":
        raise TypeError(
            f"`{name}` must be real floating point, got dtype {x.dtype}: use {name}.astype(float)"
        )


class TargetScore:
    r"""Exact score of p_t, the law of alpha(t) x_0 + sigma(t) z with x_0 from a target.

    Call it as ``score(x, t)``; the other methods share its arguments.  Each returns what its
    formula says *directly*: the denoised mean is not computed from the score, nor the score from
    it.

    Parameters
    ----------
    target : GaussianMixture, Empirical, GaussianField or FieldMixture
        The law of the data, at t = 0.
    sde : SDE
        What diffuses it.
    fast : bool
        For mixtures with full covariances: see `GaussianMixture.score`.

    Notes
    -----
    In every method ``x`` has shape (B, d) and ``t`` is a float, or an array (B, 1) with one time a
    sample; where samples are images, read (B, *event) and (B, 1, ..., 1).  A float32 ``x`` gives
    float32 results: fine for ordinary covariances (1e-6), but near-singular ones at small ``t``
    lose up to two digits more than they have; use float64 there.

    References
    ----------
    Song et al. (2020), eq. 1; the identities are Tweedie's formula and its derivatives (Efron,
    2011).

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> score = rs.GaussianMixture([1.0], [[0.0]], [1.0]).score(rs.VP())
    >>> np.round(score(np.array([[2.0]]), 0.5), 12).item()
    -2.0
    """

    def __init__(self, target: Any, sde: SDE, *, fast: bool = False) -> None:
        self.target = target
        self.sde = sde
        self._options = {"fast": True} if fast else {}

    def __call__(self, x: Array, t: Time) -> Array:
        """Gradient of log p_t at ``x``, shape (B, d)."""
        return self._evaluate(x, t, "score")

    def logpdf(self, x: Array, t: Time) -> Array:
        """Log-density log p_t(x) in nats, shape (B,)."""
        return self._evaluate(x, t, "logpdf")

    def denoise(self, x: Array, t: Time) -> Array:
        """Posterior mean E[x_0 | x_t = x], shape (B, d)."""
        return self._evaluate(x, t, "denoise")

    def eps(self, x: Array, t: Time) -> Array:
        """Predicted noise E[z | x_t = x] = -sigma(t) score, shape (B, d)."""
        score = self._evaluate(x, t, "score")
        score *= -self.sde.sigma(t)  # our own fresh array
        return score

    def divergence(self, x: Array, t: Time) -> Array:
        """Trace of the score's Jacobian, shape (B,)."""
        return self._evaluate(x, t, "divergence")

    def jvp(self, x: Array, t: Time, u: Array) -> Array:
        """Jacobian of the score applied to the directions ``u`` (B, d), shape (B, d)."""
        check_points("u", u, self.target.event_shape)
        if u.shape[0] != x.shape[0]:
            raise ValueError(
                f"`u` must have {x.shape[0]} rows, one direction a point, got {u.shape[0]}"
            )
        return self._evaluate(x, t, "jvp", u)

    def responsibilities(self, x: Array, t: Time) -> Array:
        """Probability of each component given ``x`` at ``t``, shape (B, K)."""
        return self._evaluate(x, t, "resp")

    def evaluate(self, x: Array, t: Time, *want: str) -> dict[str, Array]:
        """Several of "score", "logpdf", "denoise", "divergence", "resp" in one pass, by name."""
        known = {"score", "logpdf", "denoise", "divergence", "resp"}
        if not want or not set(want) <= known:
            raise ValueError(f"`want` must be among {sorted(known)}, got {want!r}")
        return self._all(x, t, frozenset(want))

    def _evaluate(self, x: Array, t: Time, want: str, u: Array | None = None) -> Array:
        return self._all(x, t, frozenset((want,)), u)[want]

    def _all(
        self, x: Array, t: Time, want: frozenset[str], u: Array | None = None
    ) -> dict[str, Array]:
        check_points("x", x, self.target.event_shape)
        if per_sample(t):
            ones = (1,) * (len(x.shape) - 1)
            if tuple(t.shape) not in ((x.shape[0], *ones), (1, *ones)):
                raise ValueError(
                    f"`t` must be a float or have shape {(x.shape[0], *ones)}, one time a sample, "
                    f"got {tuple(t.shape)}"
                )
            if tuple(t.shape) != (x.shape[0], *ones):
                t = t + namespace(x).zeros_like(x[(slice(None), *(slice(1) for _ in ones))])
        else:
            t = float(t)
        check_time("t", t, self.sde)
        a, s = self.sde.alpha(t), self.sde.sigma(t)
        if is_numpy(x) and getattr(self.target, "uses_blas", True):
            with one_blas_thread():
                if x.dtype == np.float32 and not rounds_evenly():
                    # Float64 products round every column alike; the results are rounded at the end.
                    x, u = x.astype(float), None if u is None else np.asarray(u, float)
                    exact = self.target._evaluate(x, _wide(a), _wide(s), want, u, **self._options)
                    return {name: value.astype(np.float32) for name, value in exact.items()}
                return dict(self.target._evaluate(x, a, s, want, u, **self._options))
        return dict(self.target._evaluate(x, a, s, want, u))

    def __repr__(self) -> str:
        return f"TargetScore({self.target!r}, {self.sde!r})"


def _wide(values: Any) -> Any:
    """A level in double precision; a float as it is."""
    return values if isinstance(values, float) else np.asarray(values, float)


def level(values: Any) -> Any:
    """A per-sample level (B, 1) as NumPy (B,); a float as it is."""
    return values if isinstance(values, float) else np.asarray(values).reshape(-1)
