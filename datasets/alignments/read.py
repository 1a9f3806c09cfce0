"""Read an alignment of proteins: A2M, A3M, aligned FASTA or Stockholm, plain or gzipped, of unknown making.

The content tells the formats apart, not the file's name. In A2M and A3M capital letters and `-` are the columns; small
letters and `.` are insertions between them and are dropped. Where that leaves different numbers of columns, but
all rows have one length, small letters are residues and `.` is a gap, as in aligned FASTA and in Stockholm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.sequences.codes import translated
from datasets.tables.formats.text_file import first_bytes, read_lines

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
GAP = len(RESIDUES)
"""The code of a gap, and of a letter that stands for several residues or for a rare one."""
UNCERTAIN = b"XBZUOJ"
MIN_SEQUENCES = 10
_MAX_SEQUENCES = 2_000_000
_MAX_CHARACTERS = 1 << 30  # they are held in memory, and a gzipped file can hold more than any memory
_INSERTED = b"abcdefghijklmnopqrstuvwxyz."
_LETTERS = RESIDUES.encode() + UNCERTAIN
_NUCLEOTIDES = b"ACGTUN"
_GAPS = b"-."
_ANNOTATIONS = ("ss_pred", "ss_conf", "ss_dssp", "sa_dssp", "aa_dssp", "aa_pred")  # HH-suite's records of no sequence


def _code_table() -> NDArray[np.uint8]:
    table = np.full(256, GAP, dtype=np.uint8)
    for code, residue in enumerate(RESIDUES):
        table[[ord(residue), ord(residue.lower())]] = code
    return table


CODES = _code_table()
"""(256,) uint8: from ASCII to the place in `RESIDUES`, `GAP` for all else."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Alignment:
    """N sequences in C columns.

    rows: the sequences as they stand in the file. codes: (N, C) uint8, places in `RESIDUES` or `GAP`.
    has_insertions: small letters and `.` of the rows stand in no column. n_uncertain: letters such as X that count as
    gaps. where: names the file in sentences.
    """

    where: str
    names: list[str]
    rows: list[bytes]
    codes: NDArray[np.uint8]
    has_insertions: bool
    n_uncertain: int


def read_alignment(path: Path) -> Alignment:
    """Read and check an alignment.

    A UserError says what is wrong: no file, no alignment, several of them, unequal lengths, nucleotides, letters that
    are no residues, fewer than `MIN_SEQUENCES` sequences, more than two million of them or 1 GiB of text.
    """
    start = first_bytes(path)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        start = start[2:].replace(b"\0", b"")  # UTF-16
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith((b">", b"#")):
        shown = start[:20].split(b"\n")[0].decode("ascii", errors="replace")
        raise UserError(
            f"{path} is not an alignment: it begins with {shown!r}, but A2M, A3M and aligned FASTA begin with '>', "
            "Stockholm with '# STOCKHOLM 1.0'."
        )
    names: list[str] = []
    rows: list[bytes] = []
    for name, row in _stockholm(path) if start.startswith(b"# STOCKHOLM") else _fasta(path):
        if len(rows) == _MAX_SEQUENCES:
            raise UserError(f"{path} has more than {_MAX_SEQUENCES:,} sequences: filter them, for example by identity.")
        names.append(name)
        rows.append(row.encode())
    if len(rows) < MIN_SEQUENCES:
        raise UserError(
            f"{path} has {len(rows)} sequence{'s' * (len(rows) != 1)}; an alignment of at least {MIN_SEQUENCES} is "
            "expected, and good scores need hundreds."
        )
    n_uncertain = _check_letters(path, names, rows)
    codes, has_insertions = _columns(path, names, rows)
    return Alignment(
        where=str(path), names=names, rows=rows, codes=codes, has_insertions=has_insertions, n_uncertain=n_uncertain
    )


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    number = n_characters = 0
    for block in read_lines(path):
        for line in block:
            number += 1
            n_characters += len(line)
            if n_characters > _MAX_CHARACTERS:
                raise UserError(f"{path} has more than {_MAX_CHARACTERS >> 30} GiB of text: filter its sequences.")
            yield number, line.strip()


def _fasta(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the row of each sequence; a UserError names the line of a header without one."""
    header, parts = (0, ""), [""]
    for number, line in _numbered(path):
        if line.startswith(">"):
            if header[0]:
                yield from _record(path, header, parts)
            header, parts = (number, line[1:].strip()), []
        elif line.startswith(("#", ";")):
            continue
        elif not header[0] and line:
            raise UserError(f"{path}, line {number}: residues stand before the first header (a line with '>').")
        else:
            parts.append("".join(line.split()))
    if header[0]:
        yield from _record(path, header, parts)


def _record(path: Path, header: tuple[int, str], parts: list[str]) -> Iterator[tuple[str, str]]:
    number, text = header
    row = "".join(parts)
    if not row:
        raise UserError(f"{path}, line {number}: the header is followed by no sequence; add it or remove it.")
    if not text.startswith(_ANNOTATIONS):
        yield text.split()[0] if text else f"line {number}", row


def _stockholm(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the row of each sequence, whose parts may stand in several blocks with empty lines between."""
    parts: dict[str, list[str]] = {}
    of_block: set[str] = set()
    has_ended = False
    for number, line in _numbered(path):
        if has_ended and line:
            raise UserError(f"{path}, line {number}: a second alignment begins here; save one alone.")
        if line == "//":
            has_ended = True
        elif not line:
            of_block.clear()
        elif not line.startswith("#"):
            name, *row = line.split()
            if not row:
                raise UserError(f"{path}, line {number}: a name and a row of the alignment are expected.")
            if name in of_block:
                raise UserError(
                    f"{path}, line {number}: the name {name!r} stands twice in one block, so that its rows cannot be "
                    "told from the parts of one sequence; name sequences apart."
                )
            of_block.add(name)
            parts.setdefault(name, []).append("".join(row))
    if not has_ended:
        raise UserError(f"{path} does not end with '//', as Stockholm files do: it is not whole; get it again.")
    for name, found in parts.items():
        yield name, "".join(found)


def _check_letters(path: Path, names: list[str], rows: list[bytes]) -> int:
    """Return how many letters stand for no one residue; a UserError names the first that is no letter of a protein."""
    known = _LETTERS + _LETTERS.lower() + _GAPS
    certain = RESIDUES.encode() + RESIDUES.lower().encode() + _GAPS
    n_uncertain = 0
    for name, row in zip(names, rows, strict=True):
        if rest := row.translate(None, known):
            shown = rest.decode(errors="replace")[0]
            raise UserError(f"{path}: sequence {name!r} has {shown!r}, which is no residue and no gap ('-' or '.').")
        n_uncertain += len(row.translate(None, certain))
    nucleotides = _NUCLEOTIDES + _NUCLEOTIDES.lower() + _GAPS
    if not any(row.translate(None, nucleotides) for row in rows):
        raise UserError(f"{path} holds nucleotides, expected proteins: translate the sequences and align them again.")
    return n_uncertain


def _columns(path: Path, names: list[str], rows: list[bytes]) -> tuple[NDArray[np.uint8], bool]:
    """Return codes (N, C), and whether small letters and dots stand in no column."""
    columns = [row.translate(None, _INSERTED) for row in rows]
    has_insertions = bool(columns[0]) and len(set(map(len, columns))) == 1
    if not has_insertions and len(set(map(len, rows))) > 1:
        other = next(i for i, row in enumerate(columns) if len(row) != len(columns[0]) or len(row) == 0)
        raise UserError(
            f"{path}: sequence {names[other]!r} has {len(columns[other])} columns (capital letters and '-') where "
            f"{names[0]!r} has {len(columns[0])}; the sequences have to be aligned, to one length."
        )
    joined = b"".join(columns if has_insertions else rows)
    codes = translated(np.frombuffer(joined, dtype=np.uint8), CODES).reshape(len(rows), -1)
    return codes, has_insertions
