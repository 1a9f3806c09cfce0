"""The ranges a hyperparameter may take, written as annotations of a model's constructor.

    def __init__(self, *, kernel_size: OddInt, dropout: Fraction) -> None: ...

`search` reads these annotations from a model's source without importing it, to refuse a bad value before
anything trains: so this module imports nothing heavy, and a constructor uses only builtin types, `typing` and
these names.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Annotated

MAX_KERNEL_ROWS = 16384
"""What the kernel is exact for: a matrix of 2 GiB in float64, of which the solution holds three at its peak."""
MAX_INDUCED_ROWS = 100_000
"""What it trains on at most."""
MAX_FOREST_ROWS = 100_000
"""What a forest trains on at most, unless a part is asked for: its trees have a leaf for every few rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The finite numbers between two bounds, each inclusive (`ge`, `le`) or exclusive (`gt`, `lt`).

    `limit` is a largest value that no sensible one comes near, where memory or a C library ends: like `le`, but named
    only where it is exceeded.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    limit: int | None = None
    odd: bool = False

    def violation(self, value: float) -> str | None:
        """What is wrong with `value`, as "must be ...", or None where it lies inside."""
        if not isfinite(value):
            return "must be finite"
        if self.ge is not None and value < self.ge:
            return f"must be at least {self.ge}"
        if self.gt is not None and value <= self.gt:
            return f"must be greater than {self.gt}"
        if self.le is not None and value > self.le:
            return f"must be at most {self.le}"
        if self.lt is not None and value >= self.lt:
            return f"must be less than {self.lt}"
        if self.limit is not None and value > self.limit:
            return f"must be at most {self.limit}"
        if self.odd and value % 2 != 1:
            return "must be odd"
        return None


C_INT = 2**31 - 1
"""The largest integer that the C libraries below us take for certain."""
PositiveInt = Annotated[int, Interval(ge=1, limit=C_INT)]
NonNegativeInt = Annotated[int, Interval(ge=0, limit=C_INT)]
OddInt = Annotated[int, Interval(ge=1, limit=9999, odd=True)]  # of a kernel, say
Width = Annotated[int, Interval(ge=1, limit=2**16)]  # of a layer, whose weights grow with its square
Depth = Annotated[int, Interval(ge=1, limit=1000)]
PositiveFloat = Annotated[float, Interval(gt=0)]
NonNegativeFloat = Annotated[float, Interval(ge=0)]
Fraction = Annotated[float, Interval(ge=0, lt=1)]
