"""Options that describe a user's own data, checked without reading it; the standard library alone."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from datasets.common.errors import UserError, nearest
from datasets.tables.table import CENSORED, REPLICATES, STOPS, check_strategy
from datasets.tasks.registry import find_task
from models.backbones.names import BACKBONES

ESM = "esm"
"""The `--zero-shot` that is `model.backbone`, or the backbone of `--model esm` where the model has none."""
ROUNDS = "rounds"
"""The validation that looks at rounds."""
_NEEDS_DATA = (
    "split",
    "sequence_column",
    "target_column",
    "mutation_column",
    "group_column",
    "error_column",
    "fold_column",
    "test_fold",
    "round_column",
    "wild_type",
    "first_position",
    "max_train_mutations",
    "replicates",
    "sheet",
    "censored",
    "stops",
)
_SCORES = {
    "zero_shot_columns": "--zero-shot-column",
    "zero_shot_file": "--zero-shot-file",
    "alignment": "--alignment",
    "zero_shot": "--zero-shot",
}


def check_data_options(arguments: argparse.Namespace) -> None:
    """Refuse options that make no sense together, or without a file. Raises a UserError."""
    if arguments.split is not None:
        check_strategy(arguments.split)
    given = [f"--{name.replace('_', '-')}" for name in _NEEDS_DATA if getattr(arguments, name) is not None]
    if arguments.data is None and given:
        raise UserError(f"{given[0]} says how a table is read: name it with --data FILE.")
    scores = [flag for name, flag in _SCORES.items() if getattr(arguments, name)]
    if getattr(arguments, "experiment", None) and (given or scores):
        raise UserError(
            f"An experiment says how its table is read and which scores it has: leave {(given + scores)[0]} out."
        )
    if arguments.data is None and arguments.replicate_columns:
        raise UserError("--replicate-column says how a table is read: name it with --data FILE.")
    check_reading(arguments)
    check_zero_shot(arguments)


def with_rounds(round_column: str | None, overrides: Sequence[str], *, is_table: bool) -> tuple[str | None, list[str]]:
    """The column of rounds and the overrides of a search: of the two, one asks for the other."""
    named = [word.lstrip("+").partition("=")[2] for word in overrides if word.lstrip("+").startswith("validation=")]
    if round_column is not None and not named:
        return round_column, [*overrides, f"validation={ROUNDS}"]
    if round_column is None and named == [ROUNDS] and is_table:
        return "round", [*overrides]
    return round_column, [*overrides]


def check_zero_shot(arguments: argparse.Namespace) -> None:
    """Refuse a --zero-shot that is no language model. Raises a UserError."""
    name = arguments.zero_shot
    if name is not None and name != ESM and name not in BACKBONES:
        known = [ESM, *BACKBONES]
        raise UserError(
            f"--zero-shot {name} is no language model.{nearest(name, known)} Expected {ESM}, which is model.backbone, "
            f"or one of {', '.join(BACKBONES)}; columns of a table are named with --zero-shot-column."
        )


def said_again(arguments: argparse.Namespace) -> list[str]:
    """The words that say how a table is read, all but what is test, as they were given."""
    return _words({**vars(arguments), "split": None, "test_fold": None})


def table_words(table: Mapping[str, Any], *, wild_type: str) -> list[str]:
    """The words with which a table is read as a study's manifest says; `wild_type` names a file that holds it."""
    return _words({**table, "wild_type": wild_type if table["wild_type"] is not None else None})


def option_words(flag: str, value: str) -> list[str]:
    """An option and its value as words of a command line: one word where the value would be taken for an option."""
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]


def _words(given: Mapping[str, Any]) -> list[str]:
    words = []
    for flag, names in (("--zero-shot-column", "zero_shot_columns"), ("--replicate-column", "replicate_columns")):
        for name in given.get(names) or ():
            words += option_words(flag, name)
    for name in _own_first(given):
        words += option_words("--target-column", name)
    for name in ("zero_shot_file", "alignment", "zero_shot", "weights_dir", "embeddings"):
        if given.get(name) is not None:
            words += option_words(f"--{name.replace('_', '-')}", str(given[name]))
    words += ["--allow-derived"] if given.get("allow_derived") else []
    for column in _chain_columns(given):
        words += option_words("--sequence-column", column)
    for name in _NEEDS_DATA:
        if name == "sequence_column" and _chain_columns(given):
            continue
        if given.get(name) is not None and name != "target_column":
            words += option_words(f"--{name.replace('_', '-')}", str(given[name]))
    return [*words, "--split-seed", str(given["split_seed"])] if given["split_seed"] else words


def _own_first(given: Mapping[str, Any]) -> list[str]:
    """The target columns, that of the study first; none where columns of replicates are named."""
    own, others = given.get("target_column"), given.get("properties") or ()
    return [] if own is None or given.get("replicate_columns") else list(dict.fromkeys((str(own), *others)))


def _chain_columns(given: Mapping[str, Any]) -> Sequence[str]:
    """The columns of a chain each, as options or a manifest have them; none where one column has the sequences."""
    named = given.get("sequence_column")
    return given.get("chain_columns") or (() if named is None or isinstance(named, str) else named)


def check_reading(arguments: argparse.Namespace) -> None:
    """Refuse options of a split that is not asked for, a split without them, two kinds of targets, and, of Python, a
    value that there is not.
    """
    if arguments.replicates not in (None, *REPLICATES):
        raise UserError(f"replicates={arguments.replicates!r} is not valid: expected {', '.join(REPLICATES)}.")
    if arguments.censored not in (None, *CENSORED):
        raise UserError(f"censored={arguments.censored!r} is not valid: expected {', '.join(CENSORED)}.")
    if arguments.stops not in (None, *STOPS):
        raise UserError(f"stops={arguments.stops!r} is not valid: expected {' or '.join(STOPS)}.")
    if arguments.properties:
        _check_properties(arguments)
    if arguments.target_column is not None and arguments.replicate_columns:
        raise UserError(
            "--target-column names one column of measurements, --replicate-column each of several: give one of the two."
        )
    if arguments.error_column is not None and arguments.replicate_columns:
        raise UserError(
            "--error-column names the standard errors of one column of measurements, and --replicate-column names "
            "several columns: give one of the two."
        )
    if (arguments.split == "k_vs_rest") != (arguments.max_train_mutations is not None):
        raise UserError("--split k_vs_rest and --max-train-mutations N belong together: give both, or neither.")
    if arguments.round_column is not None and arguments.fold_column is not None:
        raise UserError("--round-column and --fold-column both say what validates what: leave one of the two out.")
    if arguments.test_fold is not None and arguments.fold_column is None:
        raise UserError("--test-fold K is a fold of --fold-column NAME: name the column too.")
    if arguments.test_fold is not None and arguments.split is not None:
        raise UserError(
            f"--split {arguments.split} and --test-fold {arguments.test_fold} both say what is test: leave one of the "
            "two out."
        )
    if arguments.split == "by_group" and arguments.group_column is None:
        raise UserError("--split by_group and --group-column NAME belong together: give both, or neither.")
    if arguments.group_column is not None and arguments.split not in ("by_group", None):
        raise UserError(
            f"--group-column NAME belongs to --split by_group, or to a file with a 'set' column; --split "
            f"{arguments.split} does not look at groups: leave one of the two out."
        )


def _check_properties(arguments: argparse.Namespace) -> None:
    """Refuse what several properties cannot have in common."""
    names = ", ".join(map(repr, arguments.properties))
    if arguments.target_column not in arguments.properties:
        raise UserError(f"target_column={arguments.target_column!r} has to be one of the properties, {names}.")
    if arguments.replicate_columns:
        raise UserError(
            f"--target-column {names} are a property each, and columns of replicates, of --replicate-column, are one "
            "together: give one of the two."
        )
    if arguments.error_column is not None:
        raise UserError(
            f"--error-column names the standard errors of one --target-column, and several are given ({names}): search "
            "each property by itself, or leave the errors out."
        )
    if arguments.split == "low_vs_high":
        raise UserError(
            f"--split low_vs_high divides by the target, and all properties ({names}) are divided alike: choose "
            "another split."
        )


def check_data_command(arguments: argparse.Namespace) -> None:
    """Refuse what `data check` and `data fetch` cannot do."""
    if arguments.action == "fetch":
        find_task(arguments.task)
    elif arguments.action == "check":
        if arguments.split is not None:
            check_strategy(arguments.split)
        check_reading(arguments)
        check_zero_shot(arguments)
