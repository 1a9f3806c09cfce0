"""The cells of a file of candidates (FASTA, a table, or a candidate a line), read as they are, many at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from datasets.candidates.columns import (
    ANY_COLUMNS,
    MUTATIONS,
    CandidateColumns,
    Label,
    chain_columns,
    joined_cells,
    shown,
    stripped,
)
from datasets.common.errors import UserError, nearest
from datasets.sequences.mutations import are_mutations, is_wild_type
from datasets.tables.column_names import lost_header, reads_as_variant
from datasets.tables.columns import Place, RowBatch, TableStream
from datasets.tables.excel.workbook import is_excel
from datasets.tables.formats.parquet import open_parquet
from datasets.tables.formats.text_file import first_bytes, read_lines
from datasets.tables.read import is_fasta, is_parquet, open_table

Format = Literal["fasta", "csv", "tsv", "parquet", "excel", "text"]
_MAX_RESIDUES = 2**20  # of a sequence; the longest protein known has 38,000
_FORMATS: dict[str, Format] = {
    **dict.fromkeys((".fasta", ".fa", ".faa", ".fas"), "fasta"),
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    ".parquet": "parquet",
    **dict.fromkeys((".txt", ".list"), "text"),
}
_SEQUENCE: Label = "sequence"
_AS_TEXT = ", or use --format text for a candidate a line"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NAME_COLUMNS = ("name", "id")
"""Of a table, what its candidates are called by, in any case."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """Some candidates as they are written, the numbers of their lines and, if these are asked for, their names."""

    texts: list[str]
    lines: Sequence[int]
    names: Sequence[str] | None
    place: Place = "line"
    """What `lines` count: lines, or the rows of a file that has none."""
    scores: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Of the columns that were asked for, those that there are, by their names."""

    def __getitem__(self, rows: slice) -> Cells:
        """Return some of them."""
        return Cells(
            texts=self.texts[rows],
            lines=self.lines[rows],
            names=None if self.names is None else self.names[rows],
            place=self.place,
            scores={name: cells[rows] for name, cells in self.scores.items()},
        )

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.texts)


def read_cells(
    path: Path,
    format: Format | None,
    *,
    has_names: bool,
    scores: Sequence[str] = (),
    columns: CandidateColumns = ANY_COLUMNS,
    first_position: int = 1,
    wild_type: str | None = None,
) -> tuple[Label, Iterator[Cells]]:
    """Return what a file's candidates are called by, and its cells, with those of the columns `scores` that it has.

    `format` None goes by the content of Parquet and Excel files, by the name of others, then by their first line. Names
    are the first word of a FASTA header, and what stands in a table's column `name` or `id`. `first_position` is the
    number of the wild type's first residue. `wild_type`: where it is known, so that `WT` alone is no peptide.

    Raises:
        UserError: The file is none of these, has no names where they are asked for, or (while it is read) a line that
            cannot be one of its kind; the sentence names it.
    """
    kind = format or _format(path, columns)
    named = {
        "--sequence-column": columns.sequence or columns.chain_columns or None,
        "--mutation-column": columns.mutation,
        "--sheet": columns.sheet,
    }
    for option in (option for option, name in named.items() if name is not None and kind in ("fasta", "text")):
        raise UserError(f"{path} is read as {kind}, which has no columns and no sheets: leave {option} out.")
    if kind == "fasta":
        return "sequence", _fasta(path, has_names=has_names)
    if kind != "text":
        usual = columns.usual_sheet(path)
        table = open_parquet(path) if kind == "parquet" else open_table(path, columns.sheet, usual_sheet=usual)
        return _table(
            table,
            columns,
            has_names=has_names,
            wanted=scores,
            first_position=first_position,
            wild_type=wild_type,
        )
    blocks = _plain(path)
    first = next(blocks, Cells(texts=[], lines=[], names=None))
    if has_names:
        raise UserError(f"{path} holds a candidate a line and no names: leave --names out, or give a table or FASTA.")
    is_mutated = are_mutations(first.texts, first_position, chains=columns.chains)
    is_mutated |= wild_type is not None and bool(first.texts) and all(map(is_wild_type, first.texts))
    return "mutations" if is_mutated else "sequence", chain([first], blocks)


def one_line(name: str) -> str:
    """Return a name without line ends and other control characters, which would do something where it is written."""
    return " ".join(_CONTROL.sub(" ", line) for line in name.splitlines()).strip()


def _format(path: Path, columns: CandidateColumns) -> Format:
    start = first_bytes(path)
    if is_parquet(start) or is_excel(start):
        return "parquet" if is_parquet(start) else "excel"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] in _FORMATS and _FORMATS[suffixes[-1]] != "text":
        return _FORMATS[suffixes[-1]]
    if is_fasta(start):
        return "fasta"
    start = start.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe \r\n\t")
    header = start.splitlines()[0].decode(errors="replace") if start else ""
    words = {word.strip().strip('"') for word in header.replace("\t", ",").replace(";", ",").split(",")}
    if columns.sequence is not None or columns.mutation is not None or columns.chain_columns:
        return "csv"
    if len(words) == 1 and header.isupper() and header.strip().lower() not in ("sequence", *MUTATIONS):
        return "text"  # SEQ is a peptide
    if columns.trained_chain_columns and words.issuperset(columns.trained_chain_columns):
        return "csv"
    return "csv" if {word.lower() for word in words} & columns.usual.keys() else "text"


def _plain(path: Path) -> Iterator[Cells]:
    n_before = 0
    for block in read_lines(path):
        stripped = list(map(str.strip, block))
        numbers: Sequence[int] = range(n_before + 1, n_before + 1 + len(block))
        if not all(stripped):
            numbers = [number for number, text in zip(numbers, stripped, strict=True) if text]
            stripped = [text for text in stripped if text]
        n_before += len(block)
        if stripped:
            yield Cells(texts=stripped, lines=numbers, names=None)


def _table(
    table: TableStream,
    columns: CandidateColumns,
    *,
    has_names: bool,
    wanted: Sequence[str],
    first_position: int,
    wild_type: str | None,
) -> tuple[Label, Iterator[Cells]]:
    """Return what its candidates are called by, and its cells."""
    names = [name.lower() for name in table.names]
    first = next(table.batches, None)
    table = replace(table, batches=table.batches if first is None else chain([first], table.batches))
    parts = chain_columns(table, columns)
    column, label = _column(table, columns, first, first_position) if not parts else (parts[0], _SEQUENCE)
    if label == "mutations":
        _refuse_lost_header(table, table.names[column], columns, first_position, wild_type)
    named = next((names.index(name) for name in NAME_COLUMNS if name in names), None) if has_names else None
    if has_names and named is None:
        raise UserError(
            f"{table.header}: no column is called 'name' or 'id'; {shown(table)}.{nearest('name', names)} Name one "
            "so, or leave --names out."
        )
    scores = {name: list(table.names).index(name) for name in wanted if name in table.names}
    return label, (
        Cells(
            texts=joined_cells(table, batch, parts) if parts else stripped(batch.cells[column]),
            lines=batch.lines.tolist(),
            names=None if named is None else list(map(one_line, batch.cells[named].to_pylist())),
            place=table.place,
            scores={name: batch.cells[number].to_pylist() for name, number in scores.items()},
        )
        for batch in table.batches
        if len(batch.lines)
    )


def _column(
    table: TableStream, columns: CandidateColumns, first: RowBatch | None, first_position: int
) -> tuple[int, Label]:
    """Return the number of the column with the candidates, by its name or, of mutations, by its `first` cells."""
    names = list(table.names)
    given: list[tuple[str | None, Label, str]] = [
        (columns.sequence, "sequence", "--sequence-column"),
        (columns.mutation, "mutations", "--mutation-column"),
    ]
    for name, label, option in given:
        if name is not None and name not in names:
            raise UserError(
                f"{table.header}: no column is called {name!r} ({option}); {shown(table)}.{nearest(name, names)}"
            )
        if name is not None:
            return names.index(name), label
    for name, label in columns.trained.items():
        if name in names:
            return names.index(name), label
    lower = [name.lower() for name in names]
    for name, label in columns.usual.items():
        if name in lower:
            return lower.index(name), label
    some = [cells[:1000].to_pylist() for cells in first.cells] if first else []
    found = [i for i, cells in enumerate(some) if are_mutations(cells, first_position, chains=columns.chains)]
    if len(found) == 1:
        return found[0], "mutations"
    hint = _AS_TEXT if table.place == "line" else ""
    if columns.trained_chain_columns:
        in_order = ", ".join(map(repr, columns.trained_chain_columns))
        hint += f"; or each chain's column with --sequence-column, in the order of {in_order}"
    raise UserError(
        f"{table.header}: no column is called 'sequence' or 'mutations'; {shown(table)}."
        f"{nearest('sequence', lower)} Name it with --sequence-column or --mutation-column{hint}."
    )


def _refuse_lost_header(
    table: TableStream, name: str, columns: CandidateColumns, first_position: int, wild_type: str | None
) -> None:
    """Refuse a list whose first candidate would pass for the name of its column."""
    is_called_so = name in (columns.mutation, columns.trained_mutation) and is_wild_type(name)
    if not is_called_so and reads_as_variant(name, wild_type, first_position, chains=columns.chains):
        raise lost_header(table.header, name, _AS_TEXT if table.place == "line" and len(table.names) == 1 else "")


def _fasta(path: Path, *, has_names: bool) -> Iterator[Cells]:
    """Records; the line of each is that of its header. A sequence may stand in several lines, and in several blocks."""
    number, at, n_residues, name = 0, 0, 0, ""
    parts: list[str] | None = None
    for block in read_lines(path):
        texts: list[str] = []
        lines: list[int] = []
        names: list[str] = []
        for line in block:
            number += 1
            if line.startswith(">"):
                if parts is not None:
                    texts.append(_joined(parts, path, at))
                    lines.append(at)
                    names.append(name)
                at, parts, n_residues = number, [], 0
                if has_names:
                    name = one_line(next(iter(line[1:].split(maxsplit=1)), ""))
            elif line.startswith(";") or not line or line.isspace():
                continue
            elif parts is None:
                raise UserError(f"{path}, line {number}: residues stand before the first header (a line with '>').")
            else:
                parts.append(line)
                n_residues += len(line)
                if n_residues > _MAX_RESIDUES:
                    raise UserError(f"{path}, line {at}: the sequence has more than {_MAX_RESIDUES:,} residues.")
        if texts:
            yield Cells(texts=texts, lines=lines, names=names if has_names else None)
    if parts is not None:
        yield Cells(texts=[_joined(parts, path, at)], lines=[at], names=[name] if has_names else None)


def _joined(parts: list[str], path: Path, at: int) -> str:
    if not parts:
        raise UserError(f"{path}, line {at}: the header is followed by no sequence; add it or remove it.")
    return "".join("".join(parts).split())
