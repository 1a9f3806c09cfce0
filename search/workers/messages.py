"""What a run tells its parent while it goes on, and at its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from datasets.common.errors import UserError
from search.training.precision.chosen import ChosenPrecision
from search.training.result import Result

if TYPE_CHECKING:
    from datasets.candidates.mutation_map import MutationMap  # numpy, which a mistake in a command does not wait for


@dataclass(frozen=True, kw_only=True)
class Value:
    """The validation Spearman after an epoch of a fold."""

    fold: int
    epoch: int
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The run ended without a result.

    `bug`: an exception, `message` its traceback; `lost`: the process died; `refused`: the config cannot run here,
    `message` says why in a sentence, which is an error of the class `error`.
    """

    kind: Literal["bug", "lost", "refused"]
    message: str
    error: type[UserError] = UserError


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """A sentence that the user should see once."""

    sentence: str


@dataclass(frozen=True, kw_only=True)
class Working:
    """Something long is under way, before or between trainings: `n_done` of `n_total` of `what`."""

    what: str
    n_done: int
    n_total: int


@dataclass(frozen=True, kw_only=True)
class Checked:
    """All runs of a check can be built.

    `backbones` are name and hash of their pretrained weights, None without any. `ranks` says of the first ones, as many
    as were asked for, whether they can tell the validation variants apart. `threads` are those of the largest run,
    `precision` is that of frozen features, where the runs leave it open.
    """

    backbones: tuple[tuple[str | None, str | None], ...]
    ranks: tuple[bool, ...] = ()
    threads: int = 1
    precision: ChosenPrecision | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryShares:
    """The GPU's memory holds `n` of the largest runs, a power of two."""

    n: int


@dataclass(frozen=True, kw_only=True)
class PredictionsWritten:
    """The test sequences were predicted; `path` is a safetensors file with `prediction` (n_members, M) float32."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class MapPredicted:
    """All single mutants were predicted, which makes `map`."""

    map: "MutationMap"


Message = Value | Result | Failure | Announcement | Working | Checked | MemoryShares | PredictionsWritten | MapPredicted
