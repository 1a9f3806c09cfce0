"""Whether the rows of a table that was divided can be validated as a search does that is told nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from datasets.common.errors import UserError
from datasets.tables.table import table_name
from datasets.tasks.own_table import table_task
from search.request.search_request import TableOptions
from search.request.user_table import survey_of
from search.study.protocol import find_protocol

if TYPE_CHECKING:
    from datasets.tables.survey import Survey


def check_folds(options: TableOptions, found: "Survey") -> None:
    """Refuse a table, read by the options, whose folds, rounds or properties a search cannot validate.

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
    assert options.data is not None
    for divided in _divided(options, found):
        task = table_task(divided.table, name=table_name(options.data), loaded=divided)
        with TemporaryDirectory(prefix="flipsearch-") as folder:
            split = prepare(task, data_dir=None, cache_dir=Path(folder), announce=lambda sentence: None)
            find_protocol(Auto().tree, task, split)


def as_proposed(options: TableOptions, found: "Survey", *, fold: int = 0) -> "Survey":
    """The table as the search that is proposed divides it; of folds, the one of that number is test.

    It is read again for that; it is as it was where it cannot be divided so.
    """
    from datasets.tables.parts import in_order
    from datasets.tables.suggestion import suggest

    words = suggest(found.whole or found).words
    given = dict(zip(words[::2], words[1::2], strict=True))
    if "--split" in given:
        k, group = given.get("--max-train-mutations"), given.get("--group-column", options.group_column)
        most = None if k is None else int(k)
        own = replace(options, split=given["--split"], max_train_mutations=most, group_column=group)
    else:
        assert found.landscape.fold is not None
        own = replace(options, test_fold=in_order(found.landscape.fold)[fold])
    assert options.data is not None
    try:
        return survey_of(options.data, own)
    except UserError:
        return found


def _divided(options: TableOptions, found: "Survey") -> Iterator["Survey"]:
    """The table as it is divided, or as it is proposed to be."""
    if found.division is not None:
        yield found
        return
    for fold in range(2 if found.table.fold_column else 1):
        divided = as_proposed(options, found, fold=fold)
        if divided.division is not None:
            yield divided
