"""Exact answers about runs: what a solver should have returned."""

from refsde.exact.flow import flow

__all__ = ["flow"]
