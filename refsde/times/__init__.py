r"""When the steps happen.

A `Grid` is a strictly monotone list of times: descending from T to t_end to sample, ascending to
add noise or to encode.  `Adaptive` chooses the steps as it goes, for every sample its own: it looks
at the error that the solver estimates, accepts or rejects, and proposes the next step.
"""

from refsde.times.adaptive import FILTERS, Adaptive
from refsde.times.first import HairerStart, Share
from refsde.times.grid import Grid

__all__ = ["FILTERS", "Adaptive", "Grid", "HairerStart", "Share"]
