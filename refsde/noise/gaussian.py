"""Fresh normals for every question."""

from __future__ import annotations

import numpy as np

from refsde._array import Array, Time, sqrt, where
from refsde._types import Noise
from refsde.noise.keyed import Keyed

__all__ = ["Gaussian", "LastMean"]


class Gaussian(Keyed):
    """Fresh normals for every question, keyed by (rng, block of samples, number of the question).

    Parameters
    ----------
    rng : int, Generator, SeedSequence or None
        Seed.  The key of a run is one 64-bit draw of it, so an int and a Generator made from it
        agree.
    key : int, optional
        Instead of ``rng``: the key itself, such as ``solution.seed_entropy``, to repeat a run.

    Raises
    ------
    TypeError
        If ``rng`` is none of these.

    Notes
    -----
    Normals are drawn in float64 and then cast, so a float32 run sees the same path.  Under
    rejections (adaptive steps) the fresh noise of a retry makes the result biased.

    References
    ----------
    Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3 (the generator, Philox).

    Examples
    --------
    >>> import refsde as rs, numpy as np
    >>> noise = rs.Gaussian(0).on(np.arange(3))
    >>> noise.increment(1.0, 0.5, np.zeros((3, 2))).shape
    (3, 2)
    """

    def increment(self, t: Time, s: Time, x: Array) -> Array:
        """Brownian increment w(s) - w(t), variance |s - t|, shaped like ``x`` (B, *D)."""
        dw = self.normal(x)
        dw *= sqrt(abs(s - t))  # our own fresh array
        return dw

    def levy(self, t: Time, s: Time, x: Array) -> tuple[Array, Array]:
        """Increment and space-time Levy area (dW, H); H ~ N(0, |s - t| / 12), independent of dW.

        H is the mean over the interval of the Brownian bridge.  Reversing time flips dW and leaves
        H.
        """
        return self.increment(t, s, x), self.normal(x) * sqrt(abs(s - t) / 12)


class LastMean:
    """A source without increments in the last step, which then lands on its mean.

    Path noise of the last step vanishes while corrector draws stay, which is the denoising of
    Song et al. (2020), appendix G: the last predictor's value before its noise.
    """

    def __init__(self, noise: Noise, last: float, end: float) -> None:
        self.noise, self.last, self.end = noise, last, end

    def _but_last(self, s: Time, dw: Array) -> Array:
        """Keep ``dw`` of an interval that ends at ``s``, unless it lies within the last step."""
        before = (s - self.last) * (self.end - self.last) <= 0
        return where(before, dw, 0.0 * dw)

    def on(self, rows: np.ndarray) -> LastMean:
        """Return the source for the samples ``rows``."""
        return LastMean(self.noise.on(rows), self.last, self.end)

    def normal(self, x: Array) -> Array:
        """Independent unit normals, as the source gives them."""
        return self.noise.normal(x)

    def increment(self, t: Time, s: Time, x: Array) -> Array:
        """Increment w(s) - w(t), zero in the last step."""
        return self._but_last(s, self.noise.increment(t, s, x))

    def levy(self, t: Time, s: Time, x: Array) -> tuple[Array, Array]:
        """Increment and area, zero in the last step."""
        dw, h = self.noise.levy(t, s, x)
        return self._but_last(s, dw), self._but_last(s, h)
