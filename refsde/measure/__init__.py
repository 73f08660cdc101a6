"""Distances between samples and laws, and the noise floor of each."""

from refsde.measure.against import (
    Floor,
    dispersion,
    logpdf_gap,
    mode_weight_error,
    mode_weights,
    noise_floor,
)
from refsde.measure.gaussians import frechet, gaussian_kl, gaussian_w2
from refsde.measure.metrics import energy_distance, mmd, sliced_wasserstein, wasserstein_1d
from refsde.measure.work_precision import Record, WorkPrecision, within_budget, work_precision

__all__ = [
    "Floor",
    "Record",
    "WorkPrecision",
    "dispersion",
    "energy_distance",
    "frechet",
    "gaussian_kl",
    "gaussian_w2",
    "logpdf_gap",
    "mmd",
    "mode_weight_error",
    "mode_weights",
    "noise_floor",
    "sliced_wasserstein",
    "wasserstein_1d",
    "within_budget",
    "work_precision",
]
