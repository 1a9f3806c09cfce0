"""Which weights beside an experiment predict: those that `confirm` left, or those it was exported with."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasets.common.errors import UserError
from search.experiments.experiment import Experiment, checksum
from search.experiments.files import SEED, confirmation_file, weights_folder, weights_hash
from search.machine.foreign_files import read_regular
from search.training.result import FOLD

_MOST_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Members:
    """Files of weights, their hashes checked. `origin`: of the search, one a fold; or of `confirm`, one a seed."""

    weights: tuple[Path, ...]
    origin: Literal["search", "confirm"]


def find_members(path: Path, experiment: Experiment, announce: Callable[[str], None]) -> Members:
    """The weights of the experiment at `path`.

    The ensemble of `confirm` if it is of this very experiment (announced if it is of an earlier one), else the
    exported weights.

    Raises:
        UserError: There are none, or a file is not what it was when it was written.
    """
    confirmed = _confirmed(path, announce)
    if confirmed is not None:
        return Members(weights=confirmed, origin="confirm")
    folder = weights_folder(path)
    hashes = experiment.provenance.weight_hashes
    if not hashes:
        raise UserError(
            f"{path} names no weights: export it again with the search that made it, or run `confirm` on it."
        )
    files = tuple(folder / FOLD.format(fold) for fold in range(len(hashes)))
    for i, (file, expected) in enumerate(zip(files, hashes, strict=True)):
        _check(file, expected, f"weight_hashes[{i}] of {path}")
    return Members(weights=files, origin="search")


def _confirmed(path: Path, announce: Callable[[str], None]) -> tuple[Path, ...] | None:
    file = confirmation_file(path)
    try:
        record = json.loads(read_regular(file, most_bytes=_MOST_BYTES))
        of, members = record["checksum"], [(str(one["file"]), str(one["hash"])) for one in record["weights"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise UserError(f"{file} cannot be read ({why}): run `confirm` again, or remove it.") from None
    if of != checksum(path):
        announce(f"{file} is of an earlier export of {path}: its weights are not used; `confirm` makes new ones.")
        return None
    if not members or not all(re.fullmatch(SEED.format("[0-9]{1,20}"), name) for name, _ in members):
        raise UserError(f"{file} names no weights beside it: run `confirm` again, or remove it.")
    for name, expected in members:
        _check(file.parent / name, expected, str(file))
    # Seeds of an exact model are one model: as several they would seem to be sure of what they predict.
    different = {expected: file.parent / name for name, expected in reversed(members)}
    return tuple(reversed(different.values()))


def _check(file: Path, expected: str, where: str) -> None:
    found = weights_hash(file)
    if found == "missing":
        raise UserError(
            f"The weights {file} are missing: copy the folder {file.parent} together with its experiment, or train it "
            "again (`confirm`)."
        )
    if found != expected:
        raise UserError(
            f"The weights {file} were changed since they were written: their hash is {found[:19]}..., by {where} it "
            f"was {expected[:19]}...; put the file back."
        )
