"""An SDE of one's own, as the pages on writing one have it."""

from __future__ import annotations

import math
from typing import Any

import refsde as rs


class Rotation(rs.LinearSDE):
    """The SDE of the docs, x_t = cos(t) x_0 + sin(t) z, for a clock shared by the batch."""

    T = 1.56

    def alpha(self, t: Any) -> Any:
        return math.cos(t)

    def sigma(self, t: Any) -> Any:
        return math.sin(t)

    def f(self, t: Any) -> Any:
        return -math.tan(t)

    def g2(self, t: Any) -> Any:
        return 2 * math.tan(t)

    def t_of_lam(self, lam: Any) -> Any:
        return math.atan(math.exp(-lam))
