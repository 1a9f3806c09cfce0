"""Hours of GPUs and of cores, and how many of them a study may use. Imports nothing heavy: requests hold one."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

_KINDS = (("gpu", "GPU-hours"), ("core", "core-hours"))


@dataclass(frozen=True, kw_only=True)
class Hours:
    """Hours of GPUs and of cores, each 0 or more."""

    gpu: float = 0.0
    core: float = 0.0

    def __add__(self, other: "Hours") -> "Hours":
        return Hours(gpu=self.gpu + other.gpu, core=self.core + other.core)


@dataclass(frozen=True, kw_only=True)
class HoursBudget:
    """How many hours the trials of a study may use, all workers together; None is any number."""

    gpu: float | None = None
    core: float | None = None

    def over(self, known: "HoursBudget") -> "HoursBudget":
        """The same budget, and where it names no number the one that is known."""
        return replace(self, **{kind: getattr(known, kind) for kind, _ in _KINDS if getattr(self, kind) is None})

    def or_more(self, known: "HoursBudget") -> "HoursBudget":
        """The higher number of both budgets, for each kind of which either names one."""
        higher = self.over(known)
        return replace(
            higher,
            **{
                kind: max(getattr(self, kind), getattr(known, kind))
                for kind, _ in _KINDS
                if None not in (getattr(self, kind), getattr(known, kind))
            },
        )

    @property
    def record(self) -> dict[str, float]:
        """What the database holds of it: the numbers that it names."""
        return {kind: getattr(self, kind) for kind, _ in _KINDS if getattr(self, kind) is not None}

    @property
    def is_any(self) -> bool:
        """Whether there is a limit at all."""
        return self.gpu is not None or self.core is not None

    def is_spent(self, used: Hours) -> bool:
        """Whether no trial may begin any more."""
        return used.gpu >= _or_endless(self.gpu) or used.core >= _or_endless(self.core)

    def warn(self, gpu_shares: Iterable[float], announce: Callable[[str], None]) -> None:
        """Say that GPU-hours never end a search whose workers, each with its share of a GPU, have none."""
        if self.gpu is not None and not any(gpu_shares):
            announce(
                "--gpu-hours does not limit this search: its workers have no GPU and use no GPU-hours, so that only "
                "--n-trials, --core-hours or --timeout end it."
            )

    def words(self, used: Hours) -> str:
        """`1.50 of 2 GPU-hours, 12.00 of 40 core-hours`: those with a limit."""
        limits = ((words, getattr(used, kind), getattr(self, kind)) for kind, words in _KINDS)
        return ", ".join(
            f"{n:,.{_digits(most)}f} of {most:,g} {words}" for words, n, most in limits if most is not None
        )


NO_LIMIT = HoursBudget()
"""Trials may use any number of hours."""


def _or_endless(limit: float | None) -> float:
    return math.inf if limit is None else limit


def _digits(limit: float) -> int:
    """Digits after the point, so that a small budget shows what was spent of it."""
    if limit >= 1 or limit == 0:  # no command asks for 0, a database may hold it
        return 2
    return min(6, 2 - math.floor(math.log10(limit)))
