"""FASTA, with values in the headers as FLIP writes them: ``>name TARGET=1.5 SET=train VALIDATION=False``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.common.errors import UserError
from datasets.sequences.chains import DIVIDER, MOST_CHAINS, chains_in
from datasets.sequences.packed import Packed
from datasets.tables.columns import Columns
from datasets.tables.formats.text_file import read_lines

_MAX_RESIDUES = 1 << 20


def read_fasta(path: Path) -> Columns:
    """Read the records as rows: `name`, `sequence`, and a column for every ``KEY=VALUE`` of the headers, in lower case.

    The line of a row is that of its header; a sequence may stand in several lines. A UserError names the line of
    a record without a sequence, of residues before the first header, and of a key that stands twice in a header.
    """
    headers: list[str] = []
    lines: list[int] = []
    sequences: list[list[str]] = []
    number = 0
    n_residues = 0
    notes: list[str] = []
    for block in read_lines(path, notes):
        for line in block:
            number += 1
            if line.startswith(">"):
                headers.append(line[1:])
                lines.append(number)
                sequences.append([])
                n_residues = 0
            elif line.startswith(";") or not (text := "".join(line.split())):
                continue
            elif not sequences:
                raise UserError(f"{path}, line {number}: residues stand before the first header (a line with '>').")
            else:
                sequences[-1].append(text)
                n_residues += len(text)
                if n_residues > _MAX_RESIDUES:
                    raise UserError(f"{path}, line {lines[-1]}: the sequence has more than {_MAX_RESIDUES:,} residues.")
    for line_number, parts in zip(lines, sequences, strict=True):
        if not parts:
            raise UserError(f"{path}, line {line_number}: the header is followed by no sequence; add it or remove it.")
    records = [_record(header, path, at) for header, at in zip(headers, lines, strict=True)]
    keys = list(dict.fromkeys(key for record in records for key in record))
    if len(keys) > 1000:
        raise UserError(f"{path}: the headers have {len(keys):,} different keys (KEY=VALUE), expected a few.")
    cells = {key: Packed.of([record.get(key, "") for record in records]) for key in keys}
    cells["sequence"] = Packed.of(["".join(parts) for parts in sequences])
    return Columns(
        cells=cells, lines=np.array(lines, dtype=np.int64), where=str(path), kind="FASTA", notes=tuple(notes)
    )


def read_wild_type(path: Path) -> str:
    """Return the residues, in upper case, of the one sequence in a FASTA file, or of its chains with `|` between them.

    Chains are divided in one sequence, or a sequence each. A UserError names what is no residue.
    """
    columns = read_fasta(path)
    sequences = columns.cells["sequence"]
    if len(sequences) > MOST_CHAINS:
        raise UserError(f"{path} holds {len(sequences)} sequences; a file with the wild type alone is expected.")
    return checked_wild_type(DIVIDER.join(sequences), path)


def checked_wild_type(sequence: str, path: Path) -> str:
    """Return the residues of a wild type that was read from a file in upper case; a UserError names what is none.

    It may be aligned, with `-` or `.` for gaps.
    """
    from datasets.sequences.alphabet import ALPHABET, GAP

    chains = [chain.replace(".", GAP) for chain in chains_in(sequence)]
    if not all(chain.strip(GAP) for chain in chains):
        raise UserError(f"{path}: the wild type, or a chain of it, holds no residue.")
    if len(chains) > MOST_CHAINS:
        raise UserError(f"{path}: the wild type has {len(chains)} chains, expected at most {MOST_CHAINS}.")
    wild_type = DIVIDER.join(chains)
    for position, residue in enumerate("".join(chains), 1):
        if residue not in ALPHABET + GAP:
            raise UserError(f"{path}: position {position} of the wild type is {residue!r}, not one of {ALPHABET}.")
    return wild_type


def _record(header: str, path: Path, number: int) -> dict[str, str]:
    words = header.split()
    record = {"name": words[0] if words and "=" not in words[0] else ""}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.lower()
        if not equals or not key or key == "sequence":
            continue
        if key in record and key != "name":
            raise UserError(f"{path}, line {number}: the header has {key.upper()}= twice; keep one of them.")
        record[key] = value
    return record
