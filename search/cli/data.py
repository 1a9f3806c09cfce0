"""The data command: check a table, list the tasks, fetch a task's file."""

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.common.errors import UserError
from datasets.tables.table import ALL_FOLDS
from datasets.task import FoundSource, Task
from datasets.tasks.registry import all_tasks, find_task
from models.bounds import MAX_INDUCED_ROWS
from search.config.run_config import language_models, with_scores
from search.machine.standard_streams import announcer, printable
from search.machine.tables import in_columns
from search.options.parser import prog
from search.options.table_options import option_words, said_again
from search.request.fold_check import as_proposed, check_folds
from search.request.search_request import DataOptions, runs_folder
from search.request.user_table import refuse_two_splits, survey_of
from search.study.run_names import CACHE

if TYPE_CHECKING:
    from datasets.tables.survey import Survey

_MIB = 1 << 20


def run_data(arguments: argparse.Namespace) -> int:
    """Run one of the three; the exit status."""
    if arguments.action == "check":
        return _check(arguments)
    if arguments.action == "list":
        return _list(arguments.data_dir)
    return _fetch(arguments.task, arguments.data_dir, arguments.timeout)


def _check(arguments: argparse.Namespace) -> int:
    """Print what the table holds, of each property if there are several.

    Raises:
        UserError: A search would refuse it; the sentence is the search's.
    """
    from datasets.tables.report import report

    one_fold = None if arguments.test_fold == ALL_FOLDS else arguments.test_fold
    asked, every = [], []
    for name in arguments.properties or (arguments.target_column,):
        options = DataOptions.of(arguments, data=arguments.file, test_fold=one_fold, target_column=name)
        asked.append(options)
        every.append(found := survey_of(arguments.file, options))
        if len(every) > 1:
            print()
        for line in report(found):
            print(printable(line))
        for line in (*_score_lines(options, runs_folder() / CACHE, found), *_embedding_lines(options, found)):
            print(printable(line))
    sys.stdout.flush()
    for options, found in zip(asked, every, strict=True):
        refuse_two_splits(found)
        found.findings.raise_refused()
        check_folds(options, found)
    print(printable(f"\n{_proposal(arguments, every[0].whole or every[0])}"))
    return 0


def _score_lines(options: DataOptions, cache: Path, found: "Survey") -> Iterator[str]:
    """A line for each score column that the options name; of targets it knows those that are not test.

    Where no split is named, columns are judged on the training rows of the one that is proposed.

    Raises:
        UserError: A search would refuse a column; the sentence is the search's.
    """
    import numpy as np

    from datasets.candidates.candidates import residues_of
    from datasets.scores.judge import described
    from datasets.tasks.own_table import table_task
    from search.request.user_data import score_columns

    task = table_task(found.table, name="table", loaded=found)
    announce = announcer(False)
    config = score_columns(options, task, announce)
    if config is None:
        return
    columns = with_scores(task, config).scores
    assert columns is not None
    columns = columns.with_models(language_models(options.weights_dir, announce))
    is_named = found.division is not None
    found = found if is_named else as_proposed(options, found)
    scores = columns.score(
        *residues_of(list(found.sequences), str, task.aligned_length), cache_dir=cache, announce=announce
    )
    division = found.division
    training = None if division is None else ~division.test & ~division.validation
    if division is not None:
        known = ~division.test  # as a search does, which may train on any of them
        columns.judge(scores[known], found.target[known].astype(np.float32))
    yield "\nscores (a variant without one gets the mean of the training rows, and a mark that says so):"
    yield from described(columns.names, scores, found.target, training if is_named else None)


def _embedding_lines(options: DataOptions, found: "Survey") -> Iterator[str]:
    """What the file of embeddings is that the options name.

    Raises:
        UserError: It lacks variants of the table; the sentence is the search's.
    """
    from datasets.tasks.own_table import table_task
    from search.request.embeddings import find_embeddings

    if options.embeddings is None:
        return
    config = find_embeddings(options.embeddings, table_task(found.table, name="table", loaded=found))
    n = len(found.sequences)
    by = "sequences or their hashes" if config.names_hash is None else "the table's names"
    yield f"\nembeddings: {n:,} of {n:,} variants have one, of {config.shown}, by {by} ({config.file})"


def _proposal(arguments: argparse.Namespace, found: "Survey") -> str:
    """The search to begin with: the split that suits the table, and the families to compare on it."""
    from datasets.tables.suggestion import division_of, families, suggest

    split: tuple[str, ...] = ("--split", str(arguments.split))
    why, division = "", found.division
    if found.table.test_fold is not None:
        split = tuple(option_words("--test-fold", found.table.test_fold))
    elif found.table.split is None and division is not None:
        split = ()
    elif found.table.split is None:
        suggested = suggest(found)
        split, why, division = suggested.words, f"{suggested.why}\n", division_of(found, suggested)
        if division is None and split == ("--split", "random"):
            return f"No search accepts it: {len(found.sequences)} variants are too few to be divided; measure more."
    models = [
        word for name in families(found, division, max_kernel_rows=MAX_INDUCED_ROWS) for word in ("--model", name)
    ]
    words = shlex.join(["--data", str(arguments.file), *split, *said_again(arguments), *models])
    return f"{why}A search accepts it: {prog()} {words}"


def _list(data_dir: Path | None) -> int:
    rows = [["task", "train", "validation", "test", "units", "file", "MiB"]]
    located: dict[str, tuple[FoundSource | None, str]] = {}
    for task in all_tasks():
        if task.dataset not in located:
            located[task.dataset] = _find(task, data_dir)
        file, label = located[task.dataset]
        sizes = ["", "", ""]
        if file is not None:
            try:
                sizes = [f"{n:,}" for n in task.source.sizes(file, task.split)]
            except UserError:
                label = f"{label}, without this split"
        n_bytes = file.path.stat().st_size if file is not None and file.path is not None else None
        mib = "" if n_bytes is None else f"{n_bytes / _MIB:.1f}"
        rows.append([task.name + (" (retired)" if task.retired else ""), *sizes, task.units, label, mib])
    print(in_columns(rows))
    return 0


def _find(task: Task, data_dir: Path | None) -> tuple[FoundSource | None, str]:
    """The file of a task's dataset if it is on this machine, and what it is."""
    from datasets.tasks.flip import FlipSource
    from datasets.tasks.flip_files import find_local_file

    if not isinstance(task.source, FlipSource):
        file = task.source.locate(data_dir=data_dir, announce=lambda sentence: None)
        return file, "needs none"
    found = find_local_file(task.dataset, data_dir=data_dir)
    return found, "not here" if found is None else found.label


def _fetch(name: str, data_dir: Path | None, timeout_s: float | None) -> int:
    """Find or download the file of a task, anew if it was damaged in the cache; `timeout_s` limits the whole download.

    Raises:
        UserError: It is nowhere to be had; the sentence says where it was looked for, and the ways out.
    """
    from datasets.tasks.flip import FlipSource
    from datasets.tasks.flip_files import find_file

    task, announce = find_task(name), announcer(False)
    if isinstance(task.source, FlipSource):
        find_file(task.dataset, data_dir=data_dir, announce=announce, timeout_s=timeout_s, replaces=True)
    located = task.source.locate(data_dir=data_dir, announce=announce)
    if located.path is None:
        print(f"{name} needs no file.")
    else:
        print(f"{located.path} ({located.label}, {located.path.stat().st_size / _MIB:.1f} MiB)")
        if not located.official and not located.is_own:
            print("Remove it to have FLIP's own downloaded.")
    return 0
