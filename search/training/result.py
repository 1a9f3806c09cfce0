"""What comes of a run."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.storage.ending import Ending


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run.

    `value` is the Spearman correlation of the validation predictions of the kept checkpoints, all folds pooled and
    those of one sequence averaged; None unless the run is complete. `values[fold][epoch]` is the validation Spearman
    after each epoch, None where predictions could not be ranked; `best_epochs[fold]` is the epoch whose weights are
    kept.
    `seconds` is how long the run took, `cpu_s` the CPU time of its process, all threads and ended children included.
    `excess_rise` is by how much the predictions of test sequences rise more with their number of mutations than
    the protocol allows (see `datasets.validation.mutational_load`); None where it asks for nothing, or that can't be
    told. `micro_batch_tokens` is the largest padded part of a batch that was computed at once, None if batches were not
    divided; `backbone` names the pretrained weights by their hash, None without any; `n_embedded` counts the sequences
    that had to pass through a frozen part, because no cache held their features. `max_residues` is the longest sequence
    that the model takes, None without a limit.
    """

    ending: Ending
    reason: str
    value: float | None
    values: tuple[tuple[float | None, ...], ...]
    best_epochs: tuple[int | None, ...]
    checkpoints: tuple[str, ...]
    n_parameters: int
    seconds: float
    peak_memory_bytes: int
    threads: int
    device: str
    micro_batch_tokens: int | None
    backbone: str | None
    n_embedded: int
    excess_rise: float | None = None
    cpu_s: float | None = None
    max_residues: int | None = None

    def record(self) -> dict[str, Any]:
        """The result as plain values, for a database."""
        return asdict(self)


FOLD = "fold{}.safetensors"
"""The kept weights of a fold, in the folder of its run and beside an experiment."""
LOG = "log.txt"
"""What the child of a trial printed, in the folder of the trial."""


def trial_folder(study_folder: Path, number: int) -> Path:
    """Where a trial's files stand."""
    return study_folder / f"trial-{number:05d}"
