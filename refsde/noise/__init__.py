r"""Where randomness comes from.

Path noise is asked by interval: ``increment(t, s, x)`` is w(s) - w(t) of a Brownian motion w, a
normal of variance |s - t|; a solver that wants unit normals divides by sqrt|s - t|.  ``normal(x)``
is for what is not the path: correctors, re-noising.  Sample i of a run depends on (rng, i) alone.
"""

from refsde.noise.gaussian import Gaussian, LastMean
from refsde.noise.retained import RetainedPath
from refsde.noise.stored import StoredPath
from refsde.noise.tree import BrownianTree

__all__ = ["BrownianTree", "Gaussian", "LastMean", "RetainedPath", "StoredPath"]
