"""Sequences to be predicted: read from a file of any length, checked, and handed on some thousands at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets.alphabet import ALPHABET
from datasets.delimited import delimiter_of, names_in, rows_of
from datasets.errors import SequenceError, UserError, nearest
from datasets.mutations import MutationError, Mutator, are_mutations, normal_form
from datasets.task import Task
from datasets.text_file import first_bytes, read_lines

BLOCK_ROWS = 8192
_BLOCK_RESIDUES = 2**23
_MAX_RESIDUES = 2**20  # of a sequence; the longest protein known has 38,000
Format = Literal["fasta", "csv", "tsv", "text"]
Label = Literal["sequence", "mutations"]
_FORMATS: dict[str, Format] = {
    **dict.fromkeys((".fasta", ".fa", ".faa", ".fas"), "fasta"),
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".txt", ".list"), "text"),
}
_MUTATIONS = ("mutations", "mutation", "mutant", "variant")
_ALPHABET = ALPHABET.encode()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidates:
    """n candidates: labels (n) as they are shown, residues (n, L) uint8 in ASCII, zeros behind lengths (n,) int64."""

    labels: Sequence[str]
    residues: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    lines: Sequence[int] | None = None
    """Where each stands in the file; None where there is no file."""

    def __len__(self) -> int:
        """Return n."""
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Candidates:
        """Return some of the rows."""
        return Candidates(
            labels=[self.labels[row] for row in rows.tolist()],
            residues=self.residues[rows],
            lengths=self.lengths[rows],
            lines=None if self.lines is None else [self.lines[row] for row in rows.tolist()],
        )

    def sequences(self) -> list[str]:
        """Return the residues as text."""
        n_columns = self.residues.shape[1]
        text = self.residues.tobytes().decode("ascii")
        rows = [text[first : first + n_columns] for first in range(0, len(text), n_columns)]
        return rows if (self.lengths == n_columns).all() else [row.rstrip("\0") for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Candidates block by block; `label` says what they are called by, `n_total` how many there are, where known."""

    label: Label
    blocks: Iterator[Candidates]
    n_total: int | None = None


def read_candidates(path: Path, task: Task, format: Format | None) -> Stream:
    """Read a file of sequences, or of mutations of the task's wild type; only some blocks are in memory at a time.

    FASTA, a table with a column `sequence` or `mutations`, or a candidate a line, plain or gzipped. `format` None goes
    by the name of the file, then by its first byte.

    Raises:
        UserError: The file holds no candidates, or (while the stream is read) a line that is none: the sentence names
            it.
    """
    kind = format or _format(path)
    if kind == "fasta":
        return Stream(label="sequence", blocks=_blocks(path, _fasta(path), "sequence", task))
    if kind == "text":
        blocks = _plain(path)
        first = next(blocks, ([], []))
        label: Label = "mutations" if are_mutations(first[0]) else "sequence"
        return Stream(label=label, blocks=_blocks(path, chain([first], blocks), label, task))
    label, rows = _table(path, kind)
    return Stream(label=label, blocks=_blocks(path, rows, label, task))


def residues_of(sequences: Sequence[str], clean: Callable[[str], str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return residues (n, L) and lengths (n,) of n sequences in any case, with a stop (*) at the end or not.

    Raises:
        SequenceError: One has no residue, or one outside the alphabet; the sentence begins in the middle.
    """
    upper = [sequence.upper().rstrip("*") for sequence in sequences]
    cleaned = list(map(clean, upper))
    lengths = np.fromiter(map(len, cleaned), dtype=np.int64, count=len(cleaned))
    for row in np.flatnonzero(lengths == 0).tolist():
        raise SequenceError(f"the sequence {_short(sequences[row])!r} holds no residue", row)
    if "*" in "".join(upper):  # a task's own cleaning may drop them
        row = next(row for row, sequence in enumerate(upper) if "*" in sequence)
        at = upper[row].index("*") + 1
        raise SequenceError(f"the sequence has a stop codon (*) at position {at}, before its end", row)
    # One byte for each character, so that places in it can be told from the lengths.
    joined = "".join(cleaned).encode("ascii", errors="replace")
    codes = np.frombuffer(joined, dtype=np.uint8)
    if joined.translate(None, delete=_ALPHABET):
        place = int(np.flatnonzero(~np.isin(codes, list(_ALPHABET)))[0])
        ends = lengths.cumsum()
        row = int(np.searchsorted(ends, place, side="right"))
        at = int(place - ends[row] + lengths[row])
        residue = cleaned[row][at]
        raise SequenceError(f"the residue {residue!r} at position {at + 1} is not one of {ALPHABET}", row)
    longest = int(lengths.max(initial=0))
    if (lengths == longest).all():
        return codes.reshape(len(lengths), longest), lengths
    residues = np.zeros((len(lengths), longest), dtype=np.uint8)
    residues[np.arange(longest) < lengths[:, None]] = codes
    return residues, lengths


Cells = tuple[list[str], Sequence[int]]
"""Some cells and the numbers of their lines."""


def _blocks(path: Path, cells: Iterator[Cells], label: Label, task: Task) -> Iterator[Candidates]:
    if label == "mutations" and task.wild_type is None:
        raise UserError(f"{path} holds mutations, but {task.name} has no wild type: give whole sequences.")
    mutator = Mutator(task.wild_type or "")
    n = 0
    for texts, lines in _even(cells):
        for rows in _slices(texts):
            some, at = texts[rows], lines[rows]
            n += len(some)
            try:
                yield _candidates(some, at, label, mutator, task)
            except SequenceError as error:
                raise UserError(f"{path}, line {at[error.row]}: {error}; correct the line or remove it.") from None
    if not n:
        raise UserError(f"{path} holds no candidates: a sequence, or mutations, in each line is expected.")


def _even(cells: Iterator[Cells]) -> Iterator[Cells]:
    """Divide anew, so that what stands together does not depend on how the file was read: the last bits of a
    prediction do depend on it.
    """
    texts: list[str] = []
    lines: list[int] = []
    for some, numbers in cells:
        texts += some
        lines += numbers
        n_even = len(texts) // BLOCK_ROWS * BLOCK_ROWS
        for first in range(0, n_even, BLOCK_ROWS):
            yield texts[first : first + BLOCK_ROWS], lines[first : first + BLOCK_ROWS]
        texts, lines = texts[n_even:], lines[n_even:]
    if texts:
        yield texts, lines


def _slices(texts: list[str]) -> Iterator[slice]:
    """Cut into blocks: not only of rows, because one long sequence makes all of its block as wide."""
    first, widest = 0, 0
    if len(texts) <= BLOCK_ROWS and max(map(len, texts)) * len(texts) <= _BLOCK_RESIDUES:
        yield slice(0, len(texts))
        return
    for row, text in enumerate(texts):
        wider = max(widest, len(text))
        if row > first and (row - first == BLOCK_ROWS or wider * (row - first + 1) > _BLOCK_RESIDUES):
            yield slice(first, row)
            first, wider = row, len(text)
        widest = wider
    if first < len(texts):
        yield slice(first, len(texts))


def _candidates(texts: list[str], lines: Sequence[int], label: Label, mutator: Mutator, task: Task) -> Candidates:
    sequences = texts
    if label == "mutations":
        sequences = []
        for row, text in enumerate(texts):
            try:
                sequences.append(mutator.apply(text))
            except MutationError as error:
                raise SequenceError(str(error), row) from None
    residues, lengths = residues_of(sequences, task.clean)
    candidates = Candidates(labels=[], residues=residues, lengths=lengths, lines=lines)
    labels = candidates.sequences() if label == "sequence" else list(map(normal_form, texts))
    return replace(candidates, labels=labels)


def _format(path: Path) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    if suffixes and suffixes[-1] in _FORMATS:
        return _FORMATS[suffixes[-1]]
    start = first_bytes(path).removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe \r\n\t")
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
            yield stripped, numbers


def _table(path: Path, kind: Format) -> tuple[Label, Iterator[Cells]]:
    blocks = read_lines(path)
    first = next(blocks, [])
    n_blank = next((i for i, line in enumerate(first) if line.strip()), len(first))
    if n_blank == len(first):
        raise UserError(f"{path} has no header: line 1 is blank.")
    header = first[n_blank]
    delimiter = delimiter_of(header)
    names = [name.lower() for name in names_in(header, delimiter, path, n_blank + 1)]
    found = [name for name in ("sequence", *_MUTATIONS) if name in names]
    if not found:
        raise UserError(
            f"{path}, line {n_blank + 1}: no column is called 'sequence' or 'mutations'; its columns are "
            f"{', '.join(map(repr, names[:12]))}.{nearest('sequence', names)} Name one so, or use --format text for a "
            "candidate a line."
        )
    label: Label = "sequence" if found[0] == "sequence" else "mutations"
    column = names.index(found[0])
    rest = chain([first[n_blank + 1 :]], blocks)
    return label, (
        ([row[column].strip() for row in rows], numbers)
        for rows, numbers in rows_of(rest, names, delimiter, path, n_blank + 1)
    )


def _fasta(path: Path) -> Iterator[Cells]:
    """Records; the line of each is that of its header. A sequence may stand in several lines, and in several blocks."""
    number, at, n_residues = 0, 0, 0
    parts: list[str] | None = None
    for block in read_lines(path):
        texts: list[str] = []
        lines: list[int] = []
        for line in block:
            number += 1
            if line.startswith(">"):
                if parts is not None:
                    texts.append(_joined(parts, path, at))
                    lines.append(at)
                at, parts, n_residues = number, [], 0
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
            yield texts, lines
    if parts is not None:
        yield [_joined(parts, path, at)], [at]


def _joined(parts: list[str], path: Path, at: int) -> str:
    if not parts:
        raise UserError(f"{path}, line {at}: the header is followed by no sequence; add it or remove it.")
    return parts[0].strip() if len(parts) == 1 else "".join("".join(parts).split())


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
