"""A user's own table as the task of a search."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.common.errors import UserError
from datasets.common.files import output
from datasets.tables.table import Table, table_name
from datasets.task import RawSplit, Task
from datasets.tasks.own_table import table_task
from search.request.search_request import TableOptions
from search.storage.rows.value_checks import line
from search.study.names import fold_words
from search.study.run_names import DATA

if TYPE_CHECKING:
    from datasets.tables.survey import Survey


def user_task(options: TableOptions, runs: Path, announce: Callable[[str], None]) -> tuple[Task, Table] | None:
    """The task that `options.data` names, read and checked, and what was found of its table; None without a file.

    Its split is written in FLIP's format below the `runs` folder. `announce` is told what was found.

    Raises:
        UserError: The table is not what a search accepts, or its split cannot be written.
    """
    path = options.data
    if path is None:
        return None
    found = survey_of(path, options)
    refuse_two_splits(found)
    name, folder = table_name(path), runs / DATA
    first = _first_split(found, path, folder, name)
    if first is not None:
        found = first
        announce(f"{path} was divided by an earlier version, whose split is in {folder}: it is used as it is.")
    raw = found.raw_split()
    assert found.division is not None
    for finding in found.findings.found:
        if finding.level == "warning":
            announce(f"{finding.text} ({finding.where})" if finding.where else finding.text)
    test, validation = int(found.division.test.sum()), int(found.division.validation.sum())
    announce(
        f"{path}: {len(found.sequences):,} variants, {len(found.sequences) - test - validation:,} train, "
        f"{validation:,} validation and {test:,} test ({found.division.how})."
    )
    if first is None and (split := _split_name(found.table)) is not None:
        written = write_split(raw, folder, f"{name}-{split}")
        announce(f"The split in FLIP's format: {written}")
    return table_task(found.table, name=name, loaded=found), found.table


def _split_name(table: Table) -> str | None:
    """What a split is called that is written; None of a file that has its own."""
    return table.split if table.test_fold is None else "-".join(fold_words(table.fold_column, table.test_fold))


def _first_split(found: "Survey", path: Path, folder: Path, name: str) -> "Survey | None":
    """The table as the first version divided it by group, if it was divided so and the split is still there."""
    if found.table.split != "by_group" or found.division is None:
        return None
    from datasets.tables.split_strategies import divide
    from datasets.tables.survey import survey

    table = replace(found.table, group_rule=None)
    division = divide(
        found.landscape, "by_group", max_train_mutations=None, seed=table.split_seed, group_rule=table.group_rule
    )
    if not split_file(replace(found, table=table, division=division).raw_split(), folder, f"{name}-by_group").exists():
        return None
    return survey(path, replace(table, sites=None, window=None))


def split_file(raw: RawSplit, folder: Path, name: str) -> Path:
    """Where a split is written: the name ends in the hash of the content."""
    return folder / f"{name}-{raw.content_hash[:8]}.csv"


def refuse_two_splits(found: "Survey") -> None:
    """Refuse a split by name, or a fold for test, of a file that has its own. Raises a UserError."""
    table = found.table
    if "set" in found.columns.cells and not (table.split is None and table.test_fold is None):
        option = "--split" if table.test_fold is None else "--test-fold"
        raise UserError(
            f"{found.columns.where} has a 'set' column, which says what is test: leave {option} out, or rename it."
        )


def survey_of(path: Path, options: TableOptions) -> "Survey":
    """What the table holds, read as the options say.

    Raises:
        UserError: It cannot be read, or no study could keep the name of the file or of a column.
    """
    # Imported as late as this, so that usage errors do not wait for NumPy.
    from datasets.tables.reference import find_wild_type
    from datasets.tables.survey import survey

    same = {item.name: getattr(options, item.name) for item in fields(TableOptions)}
    if options.sequence_column is not None and not isinstance(options.sequence_column, str):
        chains = tuple(options.sequence_column)  # of Python it may be a list
        same |= {"sequence_column": ", ".join(chains), "chain_columns": chains if len(chains) > 1 else ()}
    table = Table(
        **{name: value for name, value in same.items() if name not in ("data", "wild_type", "first_position")},
        file=str(path),
        wild_type=None if options.wild_type is None else find_wild_type(options.wild_type, path),
        sites=None,
        window=None,
        group_rule="nearest" if options.group_column else None,
        first_position=1 if options.first_position is None else options.first_position,
    )
    found = survey(path, table)
    names = {"file": path.name, "target column": found.table.target_column, "group column": found.table.group_column}
    for what, name in names.items():
        for problem in line(f"The name of the {what}", name or ""):
            raise UserError(f"{problem}: rename it.")
    return found


def write_split(raw: RawSplit, folder: Path, name: str) -> Path:
    """Write the rows in FLIP's format, beside and moved into place; the name ends in the hash of the content."""
    from datasets.tables.flip_format import flip_blocks

    path = split_file(raw, folder, name)
    with output(path, "wb", option="--runs-dir", makes_folder=True) as file:
        rows = (raw.sequence, raw.target, raw.part, raw.validation)
        file.writelines(flip_blocks(*rows, raw.group, raw.fold, raw.error))
    return path
