r"""What a network may return, and how it counts time: every conversion in one place.

With x_t = alpha x_0 + sigma z the four usual predictions say the same thing:

.. math:: \hat\epsilon = -\sigma\, s,\qquad \hat x_0 = (x + \sigma^2 s)/\alpha,\qquad
          \hat v = \alpha\hat\epsilon - \sigma\hat x_0 .

Which one a network was trained on decides where a conversion loses digits: from ``score`` or
``eps`` to ``x0`` one divides by alpha (bad near T), from ``x0`` to ``eps`` by sigma (bad near 0).
An exact score offers ``eps`` and ``denoise`` directly, and refsde then converts nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from refsde._array import Array, Time, log, sqrt
from refsde._types import SDE, Score

__all__ = [
    "Prediction",
    "convert",
    "from_edm",
    "from_prediction",
    "index_of_t",
    "t_of_index",
    "t_of_sigma",
]

Prediction = Literal["score", "eps", "x0", "v"]


def convert(
    value: Array, x: Array, t: Time, sde: SDE, source: Prediction, target: Prediction
) -> Array:
    """Turn one prediction at ``(x, t)`` into another.

    Parameters
    ----------
    value : array (B, *D)
        What was predicted.
    x : array (B, *D)
        The noisy samples it was predicted from.
    t : float or array (B, 1, ..., 1)
        The time now; t = 0 is data.
    sde : SDE
        Gives alpha and sigma.
    source, target : {"score", "eps", "x0", "v"}
        What ``value`` is, and what is wanted.

    Returns
    -------
    array (B, *D)

    Raises
    ------
    ValueError
        If a name is unknown.

    References
    ----------
    Song et al. (2020), section 4; Salimans and Ho (2022), Progressive Distillation, for ``v``.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> x, sde = np.ones((1, 2)), rs.VP()
    >>> bool(np.allclose(rs.predict.convert(-x, x, 0.5, sde, "score", "eps"), sde.sigma(0.5)))
    True
    """
    for name, choice in (("source", source), ("target", target)):
        if choice not in get_args(Prediction):
            raise ValueError(f"`{name}` must be one of {get_args(Prediction)}, got {choice!r}")
    if tuple(getattr(value, "shape", ())) != tuple(getattr(x, "shape", ())):
        raise ValueError(
            f"`value` must have the shape of `x`, {getattr(x, 'shape', x)}, got "
            f"{getattr(value, 'shape', value)}: one prediction a sample, batch first"
        )
    if source == target:
        return value
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    if source == "x0":
        eps = (x - alpha * value) / sigma
    elif source == "v":
        # x = alpha x0 + sigma eps and v = alpha eps - sigma x0, solved for eps
        eps = (alpha * value + sigma * x) / (alpha * alpha + sigma * sigma)
    else:
        eps = value if source == "eps" else -sigma * value
    if target == "eps":
        return eps
    if target == "score":
        return -eps / sigma
    if source == "v":
        x0 = (alpha * x - sigma * value) / (alpha * alpha + sigma * sigma)
    else:
        x0 = value if source == "x0" else (x - sigma * eps) / alpha
    return x0 if target == "x0" else alpha * eps - sigma * x0


def from_prediction(model: Any, sde: SDE, predicts: Prediction = "eps") -> Score:
    """Make a score of any function ``model(x, t)`` that predicts eps, x0, v or the score.

    The result is called as ``score(x, t)`` and also offers ``.eps`` and ``.denoise``, each with at
    most one conversion from what the model returns.

    Parameters
    ----------
    model : callable
        ``model(x, t) -> array`` of the shape of ``x``.
    sde : SDE
        The schedule the model was trained on.
    predicts : {"score", "eps", "x0", "v"}
        What it returns.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If ``predicts`` is unknown.
    TypeError
        If ``model`` is not callable.

    Examples
    --------
    >>> import refsde as rs
    >>> score = rs.predict.from_prediction(lambda x, t: 0 * x, rs.VP(), "eps")
    """
    if predicts not in get_args(Prediction):
        raise ValueError(f"`predicts` must be one of {get_args(Prediction)}, got {predicts!r}")
    if not callable(model):
        raise TypeError(
            f"`model` must be callable as model(x, t), got {model!r}: wrap it in a function"
        )
    if isinstance(sde, type) or not hasattr(sde, "alpha"):
        raise TypeError(
            f"`sde` must be an SDE such as refsde.VP(), got {sde!r}: pass the one it knows"
        )
    return _Predicted(model, sde, predicts)


@dataclass(frozen=True)
class _Predicted:
    model: Any
    sde: SDE
    predicts: Prediction

    def __call__(self, x: Array, t: Time) -> Array:
        return convert(self.model(x, t), x, t, self.sde, self.predicts, "score")

    def eps(self, x: Array, t: Time) -> Array:
        return convert(self.model(x, t), x, t, self.sde, self.predicts, "eps")

    def denoise(self, x: Array, t: Time) -> Array:
        return convert(self.model(x, t), x, t, self.sde, self.predicts, "x0")


def from_edm(network: Any, sde: SDE, sigma_data: float = 0.5) -> Score:
    r"""Make a score of a network F in the preconditioning of Karras et al.

    .. math:: \hat x_0 = c_{skip}\, v + c_{out}\, F(c_{in} v, c_{noise}), \qquad v = x/\alpha,

    with c_skip = sd^2 / (rho^2 + sd^2), c_out = rho sd / sqrt(rho^2 + sd^2), c_in = 1 / sqrt(rho^2
    + sd^2) and c_noise = log(rho) / 4.  For data N(0, sd^2) the network that is right is zero.

    Parameters
    ----------
    network : callable
        ``network(u, c_noise) -> array`` of the shape of ``u`` (B, *D); c_noise is a float or an
        array (B, 1, ..., 1).
    sde : SDE
        Whose levels rho = sigma / alpha are EDM's sigma.
    sigma_data : float
        Standard deviation of the data, sd.

    Returns
    -------
    callable
        A score ``score(x, t)``, with ``.eps`` and ``.denoise``.

    Raises
    ------
    TypeError, ValueError
        If ``network`` is not callable, ``sde`` no SDE or ``sigma_data`` not positive.

    References
    ----------
    Karras et al. (2022), table 1 and eq. 7.

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> score = rs.predict.from_edm(lambda u, c: 0 * u, rs.VP(), sigma_data=1.0)
    >>> bool(np.allclose(score(np.ones((1, 2)), 0.5), -1.0))
    True
    """
    if not callable(network):
        raise TypeError(f"`network` must be callable as network(u, c_noise), got {network!r}")
    number = isinstance(sigma_data, int | float) and not isinstance(sigma_data, bool)
    if not (number and math.isfinite(sigma_data) and sigma_data > 0):
        raise ValueError(f"`sigma_data` must be positive, got {sigma_data!r}: 0.5 is EDM's")
    sd = float(sigma_data)

    def denoise(x: Array, t: Time) -> Array:
        rho = sde.rho(t)
        total = rho * rho + sd * sd
        v = x / sde.alpha(t)
        out = network(v / sqrt(total), 0.25 * log(rho))
        return (sd * sd / total) * v + (rho * sd / sqrt(total)) * out

    return from_prediction(denoise, sde, "x0")


def t_of_index(i: float, n: int, convention: Literal["table", "song"] = "table") -> float:
    """Continuous time of the discrete level ``i`` (0 is the least noise) of ``n``.

    Parameters
    ----------
    i : float
        Level, 0 to n - 1; fractions interpolate.
    n : int
        Number of levels.
    convention : {"table", "song"}
        "table" (right): level i sits at t = (i + 1) / n, where a DDPM table has the noise of the
        continuous SDE.  "song": t = i / (n - 1), the map of the score-SDE code, one step out of
        phase.

    Returns
    -------
    float

    References
    ----------
    Song et al. (2020), appendix E; the phase shift is at most 1.0e-2 in standard deviation at n =
    1000.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.predict.t_of_index(999, 1000), rs.predict.t_of_index(0, 1000)
    (1.0, 0.001)
    """
    _check_convention(n, convention)
    if not 0 <= i <= n - 1:
        raise ValueError(f"`i` must lie in [0, {n - 1}], got {i!r}: level 0 has the least noise")
    return (i + 1) / n if convention == "table" else i / (n - 1)


def index_of_t(t: float, n: int, convention: Literal["table", "song"] = "table") -> float:
    """Level (a float) of the continuous time ``t`` in [0, 1]: the inverse of `t_of_index`.

    Round it down for the score-SDE code's lookup, or feed it as it is to a network that takes
    fractional levels.

    Examples
    --------
    >>> import refsde as rs
    >>> rs.predict.index_of_t(1.0, 1000)
    999.0
    """
    _check_convention(n, convention)
    if not 0 <= t <= 1:
        raise ValueError(f"`t` must lie in [0, 1], got {t!r}: 0 is data, 1 is noise")
    return max(t * n - 1, 0.0) if convention == "table" else t * (n - 1)


def t_of_sigma(sigma: Time, sde: SDE) -> Any:
    """Time at which ``sde`` has the noise-to-signal ratio ``sigma`` (the "sigma" of Karras et al.).

    Examples
    --------
    >>> import refsde as rs
    >>> abs(rs.predict.t_of_sigma(rs.VP().rho(0.4), rs.VP()) - 0.4) < 1e-12
    True
    """
    return sde.t_of_lam(-log(sigma))


def _check_convention(n: int, convention: str) -> None:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2:
        raise ValueError(f"`n` must be an int of at least 2, got {n!r}: the levels of the table")
    if convention not in ("table", "song"):
        raise ValueError(f"`convention` must be 'table' or 'song', got {convention!r}")
