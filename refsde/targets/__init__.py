"""Exact data laws: the score, density and posterior of each are known at every noise level."""

from refsde.targets.mixture import GaussianMixture

__all__ = ["GaussianMixture"]
