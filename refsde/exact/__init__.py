"""Exact answers about runs: what a solver should have returned, and what it returns in law."""

from refsde.exact.density import Density, density
from refsde.exact.errors import WeakError, strong_error, weak_error
from refsde.exact.field import FieldLaw
from refsde.exact.flow import flow
from refsde.exact.law import Law, law
from refsde.exact.order import Order, order

__all__ = [
    "Density",
    "FieldLaw",
    "Law",
    "Order",
    "WeakError",
    "density",
    "flow",
    "law",
    "order",
    "strong_error",
    "weak_error",
]
