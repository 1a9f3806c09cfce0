"""Whether the rows of a table that was divided can be validated as a search does that is told nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from datasets.tables.table import table_name
from datasets.tasks.own_table import table_task
from search.request.search_request import TableOptions
from search.request.user_table import survey_of
from search.study.protocol import find_protocol

if TYPE_CHECKING:
    from datasets.tables.survey import Survey


def check_folds(path: Path, options: TableOptions, found: "Survey") -> None:
    """Refuse a table, read from `path` by the options, whose folds, rounds or properties a search cannot validate.

    Of a table whose division is not named, the proposed one is looked at; of folds those two that are test first, which
    leaves no fold out. Where nothing but distinct rows is divided there is always a protocol, and nothing is done.

    Raises:
        UserError: The sentence is the search's.
    """
    # Imported as late as this, so that usage errors do not wait for NumPy.
    from datasets.splits.prepared import prepare
    from datasets.validation.auto import Auto

    table = found.table
    if not (table.fold_column or table.round_column or table.properties or found.landscape.sequence is not None):
        return
    for divided in _divided(path, options, found):
        task = table_task(divided.table, name=table_name(path), path=path, loaded=divided)
        with TemporaryDirectory(prefix="flipsearch-") as folder:
            split = prepare(task, data_dir=None, cache_dir=Path(folder), announce=lambda sentence: None)
            find_protocol(Auto().tree, task, split)


def _divided(path: Path, options: TableOptions, found: "Survey") -> Iterator["Survey"]:
    """The table as it is divided, or as it is proposed to be."""
    from datasets.tables.parts import in_order
    from datasets.tables.suggestion import division_of, suggest

    table, folds = found.table, found.landscape.fold
    if found.division is not None:
        yield found
    elif table.fold_column is not None and folds is not None:
        for name in in_order(folds)[:2]:
            yield survey_of(path, replace(options, test_fold=name))
    elif found.whole is None and (division := division_of(found, suggest(found))) is not None:
        yield replace(found, division=division)
