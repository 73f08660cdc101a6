r"""Forward SDEs with linear drift: what turns data into noise.

Every SDE here is

.. math:: dx = f(t)\, x\, dt + g(t)\, dw, \qquad x_t = \alpha_t x_0 + \sigma_t z, \quad
          z \sim N(0, I),

with t = 0 the data and t = T the noise.  Two numbers a time are enough for everything else:

- ``rho = sigma / alpha``, the noise-to-signal ratio (the "sigma" of Karras et al.),
- ``lam = log(alpha / sigma) = -log(rho)``, half the log signal-to-noise ratio,
- ``f = d log(alpha) / dt`` and ``g2 = g^2 = 2 sigma sigma' - 2 f sigma^2``.

An SDE knows only ``t``: neither a number of steps nor a grid.  Formulas are written so that nothing
cancels at t = 1e-5 (``expm1``, ``log1p``, ``asinh``).  Times are floats, or arrays (B, 1, ..., 1)
of NumPy, torch or any array-API library.
"""

from refsde.sde.base import LinearSDE, check_time
from refsde.sde.schedules import EDM, VE, VP, Cosine, SubVP
from refsde.sde.tabulated import Tabulated

__all__ = ["EDM", "VE", "VP", "Cosine", "LinearSDE", "SubVP", "Tabulated", "check_time"]
