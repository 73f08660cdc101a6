"""Linear maps for preconditioned sampling, and the filters that are built from data."""

from refsde.precondition.builders import (
    alpha_rule,
    disc_filter,
    log_range,
    pds_frequency_filter,
    pds_pixel_filter,
    scalar_rule,
)
from refsde.precondition.matched import langevin_matched, noise_matched, step_matched
from refsde.precondition.matrices import Dense, Skew
from refsde.precondition.operators import Identity, Preconditioner, Product, Scalar, Stepwise
from refsde.precondition.spectral import DCT, Diagonal, Fourier, FourierSkew, in_basis

__all__ = [
    "DCT",
    "Dense",
    "Diagonal",
    "Fourier",
    "FourierSkew",
    "Identity",
    "Preconditioner",
    "Product",
    "Scalar",
    "Skew",
    "Stepwise",
    "alpha_rule",
    "disc_filter",
    "in_basis",
    "langevin_matched",
    "log_range",
    "noise_matched",
    "pds_frequency_filter",
    "pds_pixel_filter",
    "scalar_rule",
    "step_matched",
]
