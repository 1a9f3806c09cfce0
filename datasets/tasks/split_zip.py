"""Read a split out of a ``splits.zip`` laid out as FLIP's: one ``<split>.csv`` for each split."""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from datasets.common.errors import UserError, nearest
from datasets.task import RawSplit

COLUMNS = ("sequence", "target", "set", "validation")


def read_split(path: Path, split: str) -> RawSplit:
    """Read the rows of a split as text.

    A UserError is raised for a file that is no readable zip, that lacks the split (those it has are listed),
    or whose table lacks a column or cannot be read.
    """
    content = _read_member(path, split)
    where = f"{path}: {split}.csv"
    table = _parse(content, where)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise UserError(
            f"{where}: line 1 lacks the column {missing[0]!r} (it has {', '.join(map(repr, table))}); "
            f"a split needs {', '.join(COLUMNS)}."
        )
    columns = [table[column] for column in COLUMNS]
    # Empty lines carry nothing, but the numbers of the lines after them have to be right.
    kept = [row for row, cells in enumerate(zip(*columns, strict=True)) if any(cells)]
    sequence, target, part, validation = ([column[row] for row in kept] for column in columns)
    return RawSplit(
        sequence=sequence,
        target=target,
        part=part,
        validation=validation,
        lines=[row + 2 for row in kept],
        content_hash=hashlib.sha256(content).hexdigest(),
        where=where,
    )


def count_rows(path: Path, split: str) -> tuple[int, int, int]:
    """Return the numbers of train, validation and test rows of a split, nothing else being read or checked."""
    where = f"{path}: {split}.csv"
    table = _parse(_read_member(path, split), where, columns=("set", "validation"))
    marks = list(zip(table["set"], (mark.lower() == "true" for mark in table["validation"]), strict=True))
    return marks.count(("train", False)), marks.count(("train", True)), sum(part == "test" for part, _ in marks)


def _read_member(path: Path, split: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive.namelist())
            if split not in members:
                has = ", ".join(sorted(members)) or "none"
                raise UserError(f"{path} holds no split {split!r}; those it has are: {has}." + nearest(split, members))
            return archive.read(members[split])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # RuntimeError is how zipfile says that a member is encrypted.
        raise UserError(
            f"{path} is not a zip file that can be read ({error}); remove it, so that it is downloaded again, or name "
            "another folder with --data-dir."
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error


def _members(names: list[str]) -> dict[str, str]:
    """Return the member that holds each split; a macOS archive carries shadow files beside them."""
    members: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (len(name), name)):
        path = PurePosixPath(name)
        if path.suffix == ".csv" and "__MACOSX" not in path.parts and not path.name.startswith("."):
            members.setdefault(path.stem, name)
    return members


def _parse(content: bytes, where: str, columns: Collection[str] | None = None) -> dict[str, list[str]]:
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of a line with too many cells
            frame = pd.read_csv(
                io.BytesIO(content),
                dtype=str,
                na_filter=False,
                skip_blank_lines=False,
                index_col=False,
                encoding="utf-8-sig",
                usecols=None if columns is None else [*columns],
            )
    except pd.errors.ParserWarning as warning:
        raise UserError(
            f"{where} has a line with more cells than its header: put quotes around a cell that holds a comma."
        ) from warning
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise UserError(f"{where} is not a table that can be read ({reason}); it has to be CSV in UTF-8.") from error
    # A line with too few cells leaves missing values behind, text or not.
    return {str(name): frame[name].fillna("").tolist() for name in frame.columns}
