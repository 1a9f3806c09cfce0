"""The cells of a file of candidates (FASTA, a table, or a candidate a line), read as they are, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from datasets.common.errors import UserError, nearest
from datasets.sequences.mutations import are_mutations
from datasets.tables.delimited import delimiter_of, names_in, rows_of
from datasets.tables.parquet import parquet_names, parquet_rows
from datasets.tables.text_file import first_bytes, read_lines

Format = Literal["fasta", "csv", "tsv", "parquet", "text"]
Label = Literal["sequence", "mutations"]
Place = Literal["line", "row"]
_MAX_RESIDUES = 2**20  # of a sequence; the longest protein known has 38,000
_FORMATS: dict[str, Format] = {
    **dict.fromkeys((".fasta", ".fa", ".faa", ".fas"), "fasta"),
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    ".parquet": "parquet",
    **dict.fromkeys((".txt", ".list"), "text"),
}
_MUTATIONS = ("mutations", "mutation", "mutant", "variant")
_NAMES = ("name", "id")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """Some candidates as they are written, the numbers of their lines and, if these are asked for, their names."""

    texts: list[str]
    lines: Sequence[int]
    names: Sequence[str] | None
    place: Place = "line"
    """What `lines` count: lines, or the rows of a file that has none."""

    def __getitem__(self, rows: slice) -> Cells:
        """Return some of them."""
        names = None if self.names is None else self.names[rows]
        return Cells(texts=self.texts[rows], lines=self.lines[rows], names=names, place=self.place)

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.texts)


def read_cells(path: Path, format: Format | None, *, has_names: bool) -> tuple[Label, Iterator[Cells]]:
    """Return what a file's candidates are called by, and its cells.

    `format` None goes by the name of the file, then by its first byte. Names are the first word of a FASTA header, and
    what stands in a table's column `name` or `id`.

    Raises:
        UserError: The file is none of these, has no names where they are asked for, or (while it is read) a line that
            cannot be one of its kind; the sentence names it.
    """
    kind = format or _format(path)
    if kind == "fasta":
        return "sequence", _fasta(path, has_names=has_names)
    if kind == "parquet":
        return _parquet(path, has_names=has_names)
    if kind != "text":
        return _table(path, has_names=has_names)
    blocks = _plain(path)
    first = next(blocks, Cells(texts=[], lines=[], names=None))
    if has_names:
        raise UserError(f"{path} holds a candidate a line and no names: leave --names out, or give a table or FASTA.")
    return "mutations" if are_mutations(first.texts) else "sequence", chain([first], blocks)


def _format(path: Path) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] in _FORMATS:
        return _FORMATS[suffixes[-1]]
    start = first_bytes(path)
    if start.startswith(b"PAR1"):
        return "parquet"
    start = start.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe \r\n\t")
    if start.startswith(b">"):
        return "fasta"
    header = start.splitlines()[0].decode(errors="replace") if start else ""
    words = [word.strip().strip('"').lower() for word in header.replace("\t", ",").replace(";", ",").split(",")]
    return "csv" if "sequence" in words or set(words) & set(_MUTATIONS) else "text"


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


def _table(path: Path, *, has_names: bool) -> tuple[Label, Iterator[Cells]]:
    blocks = read_lines(path)
    first = next(blocks, [])
    n_blank = next((i for i, line in enumerate(first) if line.strip()), len(first))
    if n_blank == len(first):
        raise UserError(f"{path} has no header: line 1 is blank.")
    header = first[n_blank]
    delimiter = delimiter_of(header)
    names = names_in(header, delimiter, path, n_blank + 1)
    where, hint = f"{path}, line {n_blank + 1}", ", or use --format text for a candidate a line"
    label, column, named = _chosen(names, where, hint, has_names=has_names)
    rest = chain([first[n_blank + 1 :]], blocks)
    return label, (
        Cells(
            texts=[row[column].strip() for row in rows],
            lines=numbers,
            names=None if named is None else [row[named].strip().replace("\n", " ") for row in rows],
        )
        for rows, numbers in rows_of(rest, names, delimiter, path, n_blank + 1)
    )


def _parquet(path: Path, *, has_names: bool) -> tuple[Label, Iterator[Cells]]:
    names = parquet_names(path)
    label, column, named = _chosen(names, str(path), "", has_names=has_names)

    def blocks() -> Iterator[Cells]:
        n_before = 0
        for texts, *others in parquet_rows(path, [names[i] for i in (column, named) if i is not None]):
            yield Cells(
                texts=list(map(str.strip, texts)),
                lines=range(n_before + 1, n_before + 1 + len(texts)),
                names=[" ".join(name.splitlines()).strip() for name in others[0]] if others else None,
                place="row",
            )
            n_before += len(texts)

    return label, blocks()


def _chosen(names: Sequence[str], where: str, hint: str, *, has_names: bool) -> tuple[Label, int, int | None]:
    """Return what candidates are called by, and which columns hold them and, if these are asked for, their names."""
    names = [name.lower() for name in names]
    shown = f"its columns are {', '.join(map(repr, names[:12]))}"
    found = [name for name in ("sequence", *_MUTATIONS) if name in names]
    if not found:
        raise UserError(
            f"{where}: no column is called 'sequence' or 'mutations'; {shown}.{nearest('sequence', names)} Name one "
            f"so{hint}."
        )
    label: Label = "sequence" if found[0] == "sequence" else "mutations"
    named = next((names.index(name) for name in _NAMES if name in names), None) if has_names else None
    if has_names and named is None:
        raise UserError(
            f"{where}: no column is called 'name' or 'id'; {shown}.{nearest('name', names)} Name one so, or leave "
            "--names out."
        )
    return label, names.index(found[0]), named


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
                    name = next(iter(line[1:].split(maxsplit=1)), "")
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
    return parts[0].strip() if len(parts) == 1 else "".join("".join(parts).split())
