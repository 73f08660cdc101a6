"""Exact data laws: the score, density and posterior of each are known at every noise level."""

from refsde.targets.data import (
    digits,
    digits_mixture,
    patches,
    patches_mixture,
    photographs,
    photographs_field,
)
from refsde.targets.empirical import Empirical
from refsde.targets.field import FieldMixture, GaussianField
from refsde.targets.mixture import GaussianMixture

__all__ = [
    "Empirical",
    "FieldMixture",
    "GaussianField",
    "GaussianMixture",
    "digits",
    "digits_mixture",
    "patches",
    "patches_mixture",
    "photographs",
    "photographs_field",
]
