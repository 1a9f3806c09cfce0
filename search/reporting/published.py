"""Published test results, as a table of them says: that beside this module, or one of the user's own."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.common.errors import UserError, nearest
from datasets.tasks.registry import task_names
from search.config.type_checks import shown
from search.machine.foreign_files import read_regular
from search.study.question import OWN_SPLIT

OURS = "flipsearch"
_REQUIRED = ("task", "by", "model", "spearman", "source")
_COLUMNS = (*_REQUIRED, "std", "target", "split")
_MOST_BYTES = 1 << 20
_MOST_ROWS = 1000  # a figure has a row for each
_LONGEST = {"source": 1000}
_LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """A test result of others: on which task, target and split, by whom, of which model, and where it was read.

    target, split: of a table, as `compare` shows them; an empty target is whatever the table's is. A split that is the
    name of a column of folds stands for the mean over these. spearman: -1 to 1. std: between seeds, or None.
    """

    task: str
    target: str
    split: str
    by: str
    model: str
    spearman: float
    std: float | None
    source: str


def read_published(path: Path) -> tuple[PublishedResult, ...]:
    """Read a CSV file with the columns task, by, model, spearman and source, and perhaps std, target and split.

    Raises:
        UserError: It cannot be read, or a row is not valid; the sentence names its line.
    """
    try:
        text = read_regular(path, most_bytes=_MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"The published results {path} cannot be read ({error.strerror}): name another file.") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: save it as CSV in UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[PublishedResult] = []
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if header is None:
                header = _header(path, cells)
            elif any(cell.strip() for cell in cells):
                found.append(_result(f"{path}, line {line}", header, cells))
            line = reader.line_num + 1
            if len(found) > _MOST_ROWS:
                raise UserError(f"{path} has more than {_MOST_ROWS:,} rows: leave some of them out.")
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: it is no CSV ({error}); correct the line.") from None
    if not found:
        raise UserError(f"{path} has no rows: expected a line with the columns {', '.join(_COLUMNS)}, and results.")
    return tuple(found)


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    for name in _REQUIRED:
        if name not in names:
            why = " which says where a number was read," * (name == "source")
            raise UserError(
                f"{path}, line 1: there is no column {name!r},{why} among {shown(', '.join(names))}; expected "
                f"{', '.join(_REQUIRED)}, and perhaps std, target and split."
            )
    for name in names:
        if name not in _COLUMNS or names.count(name) > 1:
            what = "stands twice" if name in _COLUMNS else f"is not known.{nearest(name, _COLUMNS)} Expected"
            raise UserError(f"{path}, line 1: the column {shown(name)!r} {what}: {', '.join(_COLUMNS)}, each once.")
    return names


def _result(where: str, header: Sequence[str], cells: Sequence[str]) -> PublishedResult:
    if len(cells) != len(header):
        raise UserError(f"{where}: it has {len(cells)} cells, expected {len(header)}; correct the line.")
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    for name, cell in row.items():
        if name in _REQUIRED and not cell:
            raise UserError(f"{where}: the {name} is empty; fill it in or remove the line.")
        longest = _LONGEST.get(name, _LONGEST_NAME)
        if len(cell) > longest or not cell.isprintable():
            raise UserError(f"{where}: the {name} {shown(cell)} is no text of up to {longest:,} letters in one line.")
    task, target, split = row["task"], row.get("target", ""), row.get("split", "")
    if row["by"].lower() == OURS:
        raise UserError(f"{where}: by is {OURS!r}, whose results come from its ledgers; name who published it.")
    if task in task_names() and (target or split):
        raise UserError(f"{where}: the task {task} says which target and split it is; leave these cells empty.")
    return PublishedResult(
        task=task,
        target=target,
        split=split or OWN_SPLIT,
        by=row["by"],
        model=row["model"],
        source=row["source"],
        spearman=_number(where, "spearman", row["spearman"], -1.0),
        std=_number(where, "std", row["std"], 0.0) if row.get("std") else None,
    )


def _number(where: str, name: str, text: str, low: float) -> float:
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= 1:
        raise UserError(f"{where}: the {name} {shown(text)} is no number from {low:g} to 1; correct it.")
    return value
