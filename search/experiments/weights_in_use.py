"""Which weights beside an experiment predict: those that `confirm` left, or those it was exported with; and what their
intervals are made of.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from datasets.candidates.training_domain import Origin
from datasets.common.errors import UserError
from models.bounds import Interval
from search.config.targets import is_exact
from search.config.type_checks import convert
from search.experiments.experiment import Experiment, checksum
from search.experiments.files import SEED, confirmation_file, weights_folder, weights_hash
from search.experiments.members import part_names, part_paths
from search.experiments.requirements import CALIBRATION, build_calibration, check_deviation
from search.experiments.scales import SCALES, Scale
from search.machine.foreign_files import read_regular
from search.stats.calibration import Calibration
from search.training.result import FOLD
from search.training.weights import are_alike

_MOST_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """Files of weights, their hashes checked.

    made_by: the search, one a fold; `confirm`, one a seed; or `suggest`, for a plate, one a seed too.
    scale: by which a member of an ensemble that was trained again is standardised; None where that is not known.
    """

    files: tuple[Path, ...]
    made_by: Literal["search", "confirm", "suggest"]
    scale: Scale | None = None

    @property
    def origin(self) -> Origin:
        """Which rows they were trained on: those of the search, or all, as `confirm` trains."""
        return "search" if self.made_by == "search" else "confirm"


class _Record(NamedTuple):
    """What `confirm` left word of: the checksum of the experiment, and the names and hashes of files of weights."""

    of: object
    weights: list[tuple[str, str]]
    tree: dict[str, Any]


def find_weights(path: Path, experiment: Experiment, announce: Callable[[str], None]) -> tuple[WeightFiles, ...]:
    """The weights of the experiment at `path`, of each of its `parts`.

    Those that `confirm` left if they are of this very experiment (announced if they are of an earlier one), else the
    exported weights.

    Raises:
        UserError: There are none, or a file is not what it was when it was written.
    """
    paths = part_paths(path, experiment)
    confirmed = _confirmed(path, [str(one.parent / one.stem) for one in paths], announce)
    if confirmed is not None:
        files = [_different(*one) for one in zip(confirmed, experiment.parts, strict=True)]
        of_parts = zip(files, _scales(path, experiment, announce), strict=True)
        return tuple(WeightFiles(files=own, made_by="confirm", scale=scale) for own, scale in of_parts)
    return exported_weights(path, experiment)


def exported_weights(path: Path, experiment: Experiment) -> tuple[WeightFiles, ...]:
    """The weights that the search left, of each of the `parts`, whatever `confirm` did; errors as of `find_weights`."""
    paths, names = part_paths(path, experiment), part_names(path, experiment)
    return tuple(_exported(*one) for one in zip(paths, names, experiment.parts, strict=True))


def find_calibration(
    path: Path, experiment: Experiment, weights: Sequence[WeightFiles]
) -> tuple[Calibration | None, Literal["search", "confirm"]]:
    """What the intervals of these weights, those of each part, are made of, and whose models erred so.

    `confirm` says itself how far off its models were, where it could tell; otherwise it is known of the search's.

    Raises:
        UserError: It does not fit the experiment, or cannot be read.
    """
    known = experiment.calibration
    if weights[0].origin == "search":
        if known is not None and known.is_by_fold and any(len(own.files) != len(known.n_rows) for own in weights):
            raise UserError(
                f"{path} is not a valid experiment: calibration.n_rows is of {len(known.n_rows)} folds, expected "
                f"{len(weights[0].files)}."
            )
        return known, "search"
    record = _record(path) if known is not None and weights[0].made_by == "confirm" else None
    if record is None or CALIBRATION not in record.tree:
        return known and known.pooled(), "search"
    try:
        fresh = build_calibration(record.tree)
        check_deviation(replace(experiment, calibration=fresh))
        if fresh is not None and fresh.is_by_fold:
            raise UserError(f"calibration.n_rows={fresh.n_rows} is not valid: expected one group.")
    except (UserError, RecursionError) as error:  # JSON may be as deep as Python reads it
        file = confirmation_file(path)
        raise UserError(f"{file} is not what `confirm` wrote, which is to be run again: {error}") from None
    return fresh, "confirm"


def _exported(path: Path, name: str, experiment: Experiment) -> WeightFiles:
    folder = weights_folder(path)
    hashes = experiment.provenance.weight_hashes
    if not hashes:
        raise UserError(
            f"{name} names no weights: export it again with the search that made it, or run `confirm` on it."
        )
    files = tuple(folder / FOLD.format(fold) for fold in range(len(hashes)))
    for i, (file, expected) in enumerate(zip(files, hashes, strict=True)):
        _check(file, expected, f"weight_hashes[{i}] of {name}")
    return WeightFiles(files=files, made_by="search")


def _confirmed(
    path: Path, folders: Sequence[str], announce: Callable[[str], None]
) -> tuple[tuple[Path, ...], ...] | None:
    """The files that `confirm` left in each of the folders."""
    file, record = confirmation_file(path), _record(path)
    if record is None:
        return None
    if record.of != checksum(path):
        announce(f"{file} is of an earlier export of {path}: its weights are not used; `confirm` makes new ones.")
        return None
    found: dict[str, dict[str, Path]] = {folder: {} for folder in folders}
    for name, expected in record.weights:
        place = file.parent / name
        # Of a member the file stands in a folder of its own; no other name leads anywhere.
        if (
            not re.fullmatch(rf"(member[0-9]{{1,3}}/)?{SEED.format('[0-9]{1,20}')}", name)
            or str(place.parent) not in found
        ):
            raise UserError(f"{file} names no weights beside it: run `confirm` again, or remove it.")
        _check(place, expected, str(file))
        found[str(place.parent)].setdefault(expected, place)
    if not all(found.values()):
        raise UserError(f"{file} names no weights beside it: run `confirm` again, or remove it.")
    return tuple(tuple(own.values()) for own in found.values())


def _scales(path: Path, experiment: Experiment, announce: Callable[[str], None]) -> Sequence[Scale | None]:
    """By what the members that `confirm` trained are standardised; None where it did not say, or there are none."""
    nothing = [None] * len(experiment.parts)
    record = None if experiment.ensemble is None else _record(path)
    if record is None:
        return nothing
    file = confirmation_file(path)
    if SCALES not in record.tree:
        announce(
            f"{file} is of an older version: members that it trained are standardised by what those of the search "
            "predicted, which may be far off; `confirm` again."
        )
        return nothing
    try:
        found: Sequence[Scale] = convert(
            list[tuple[float, Annotated[float, Interval(ge=0)]]], record.tree[SCALES], SCALES
        )
        if len(found) != len(nothing):
            raise UserError(f"{SCALES} has {len(found)} entries: expected {len(nothing)}, one of each member.")
    except UserError as error:
        raise UserError(f"{file} is not what `confirm` wrote, which is to be run again: {error}") from None
    return found


def _record(path: Path) -> _Record | None:
    """What `confirm` left word of; None where it left none."""
    file = confirmation_file(path)
    try:
        tree = json.loads(read_regular(file, most_bytes=_MOST_BYTES))
        weights = [(str(one["file"]), str(one["hash"])) for one in tree["weights"]]
        return _Record(of=tree["checksum"], weights=weights, tree=tree)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise UserError(f"{file} cannot be read ({why}): run `confirm` again, or remove it.") from None


def _different(files: tuple[Path, ...], part: Experiment) -> tuple[Path, ...]:
    """Those of a part's seeds that are models of their own.

    Those of a model that is solved exactly shuffle its rows and no more, so that it differs in its last bits: as
    several models they would seem to be sure of what they predict.
    """
    is_one = is_exact(part.config.model) and all(are_alike(files[0], other) for other in files[1:])
    return files[:1] if is_one else files


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
