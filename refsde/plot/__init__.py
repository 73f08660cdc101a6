"""Pictures of laws, scores, paths and errors.

Every function takes ``ax=None``, draws on a new figure if it is given none, and returns the axes;
none of them shows the figure or touches matplotlib's settings.  Colours are those of Okabe and Ito
(2008), told apart by everyone, or maps of even lightness; lines differ in their markers too.

matplotlib is an extra, ``pip install 'refsde[plot]'``, imported where it is used.
"""

from refsde.plot.convergence import order
from refsde.plot.laws import density_1d, density_2d, marginals, score_field
from refsde.plot.runs import images, paths, work_precision

__all__ = [
    "density_1d",
    "density_2d",
    "images",
    "marginals",
    "order",
    "paths",
    "score_field",
    "work_precision",
]
