"""Sequences to be predicted: read from a file of any length, checked, and handed on some thousands at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.columns import ANY_COLUMNS, CandidateColumns, Label
from datasets.candidates.files import Cells, Format, read_cells
from datasets.common.errors import SequenceError, UserError
from datasets.scores.keyed import score_numbers
from datasets.sequences.alphabet import ALPHABET, GAP, in_capitals
from datasets.sequences.chains import DIVIDER, chains_in, has_chains
from datasets.sequences.codes import find_foreign, joined, padded
from datasets.sequences.mutations import MutationError, Mutator, find_first_position, normal_form
from datasets.tables.columns import Place
from datasets.tables.measurements import missing_sequences
from datasets.task import Task

BLOCK_ROWS = 8192
_BLOCK_RESIDUES = 2**23


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidates:
    """n candidates: labels (n) as they are shown, residues (n, L) uint8 in ASCII, zeros behind lengths (n,) int64."""

    labels: Sequence[str]
    residues: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    lines: Sequence[int] | None = None
    """Where each stands in the file; None where there is no file."""
    names: Sequence[str] | None = None
    """What each is called there, in Unicode without line ends; None where nobody asked."""
    place: Place = "line"
    """What `lines` count."""
    scores: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Of the score columns that were asked for, those that stand beside them (n), NaN where one is missing."""

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
            names=None if self.names is None else [self.names[row] for row in rows.tolist()],
            place=self.place,
            scores={name: column[rows] for name, column in self.scores.items()},
        )

    def sequences(self) -> list[str]:
        """Return the residues as text."""
        n_columns = self.residues.shape[1]
        text = self.residues.tobytes().decode("ascii")
        rows = [text[first : first + n_columns] for first in range(0, len(text), n_columns)]
        return rows if (self.lengths == n_columns).all() else [row.rstrip("\0") for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Candidates block by block; `label` says what they are called by, `n_total` how many there are, where known.

    scores: the score columns that stand beside them.
    """

    label: Label
    blocks: Iterator[Candidates]
    n_total: int | None = None
    scores: tuple[str, ...] = ()


def read_candidates(
    path: Path,
    task: Task,
    format: Format | None,
    *,
    has_names: bool = False,
    scores: Sequence[str] = (),
    columns: CandidateColumns = ANY_COLUMNS,
) -> Stream:
    """Read a file of sequences, or of mutations of the task's wild type; only some blocks are in memory at a time.

    `scores` are names of score columns, which are read where the file has them; `columns` says which one holds the
    candidates.

    What is in it, `format` and the names are as `read_cells` says; it may be gzipped.

    Raises:
        UserError: The file holds no candidates, or (while the stream is read) a line that is none: the sentence names
            it.
    """
    columns = columns if task.chains is None else replace(columns, chains=task.chains.names)
    label, cells = read_cells(
        path,
        format,
        has_names=has_names,
        scores=scores,
        columns=columns,
        first_position=task.first_position,
        wild_type=task.wild_type,
    )
    first = next(cells, None)
    found = () if first is None else tuple(first.scores)
    every = cells if first is None else chain([first], cells)
    return Stream(label=label, blocks=blocks_of(path, every, label, task), scores=found)


def residues_of(
    sequences: Sequence[str], clean: Callable[[str], str], aligned_length: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return residues (n, L) and lengths (n,) of n sequences in any case, with a stop (*) at the end or not.

    It may stand at the end of each chain, too. With an `aligned_length` they are aligned in so many columns, with `-`
    or `.` for gaps.

    Raises:
        SequenceError: One has no residue, or one outside the alphabet, or is not aligned where it should be; the
            sentence begins in the middle.
    """
    upper = [
        DIVIDER.join(chains_in(text)) if "*" in text and has_chains(text) else in_capitals(text).rstrip("*")
        for text in sequences
    ]
    if aligned_length is not None:
        upper = [sequence.replace(".", GAP) for sequence in upper]
    cleaned = list(_cleaned(upper, clean))
    codes, lengths = joined(cleaned)
    for row in [row for row, sequence in enumerate(cleaned) if not sequence.strip(GAP)]:
        raise SequenceError(f"the sequence {_short(sequences[row])!r} holds no residue", row)
    if "*" in "".join(upper):  # a task's own cleaning may drop them
        row = next(row for row, sequence in enumerate(upper) if "*" in sequence)
        at = upper[row].index("*") + 1
        raise SequenceError(f"the sequence has a stop codon (*) at position {at}, before its end", row)
    for row in [] if aligned_length is None else np.flatnonzero(lengths != aligned_length).tolist():
        raise SequenceError(
            f"the sequence has {lengths[row]} columns, and the aligned sequences that the model was trained on have "
            f"{aligned_length}: align it to them, with '-' for gaps",
            row,
        )
    if (foreign := find_foreign(codes, lengths, has_gaps=aligned_length is not None)) is not None:
        row, at = foreign
        residue = cleaned[row][at]
        raise SequenceError(f"the residue {residue!r} at position {at + 1} is not one of {ALPHABET}", row)
    return padded(codes, lengths), lengths


def _cleaned(sequences: Sequence[str], clean: Callable[[str], str]) -> Iterator[str]:
    for row, sequence in enumerate(sequences):
        try:
            yield clean(sequence)
        except ValueError as error:  # of other chains
            raise SequenceError(str(error), row) from None


def blocks_of(path: Path, cells: Iterator[Cells], label: Label, task: Task) -> Iterator[Candidates]:
    """Yield the candidates that the cells of a file name, checked; errors are those of `read_candidates`."""
    if label == "mutations" and task.wild_type is None:
        raise UserError(f"{path} holds mutations, but {task.name} has no wild type: give whole sequences.")
    has_gaps = task.aligned_length is not None
    mutator = Mutator(task.wild_type or "", task.first_position, has_gaps=has_gaps, chains=task.chains)
    n = 0
    for block in _even(cells):
        for rows in _slices(block.texts):
            some = block[rows]
            n += len(some)
            try:
                yield _candidates(some, label, mutator, task, path)
            except SequenceError as error:
                at = some.lines[error.row]
                raise UserError(f"{path}, {some.place} {at}: {error}; correct the {some.place} or remove it.") from None
    if not n:
        raise UserError(f"{path} holds no candidates: a sequence, or mutations, in each line is expected.")


def _even(cells: Iterator[Cells]) -> Iterator[Cells]:
    """Divide anew, so that what stands together does not depend on how the file was read: the last bits of a
    prediction do depend on it.
    """
    texts: list[str] = []
    lines: list[int] = []
    names: list[str] = []
    scores: dict[str, list[str]] = {}
    held = None
    for some in cells:
        texts += some.texts
        lines += some.lines
        names += some.names or ()
        for name, column in some.scores.items():
            scores.setdefault(name, []).extend(column)
        held = Cells(
            texts=texts,
            lines=lines,
            names=None if some.names is None else names,
            place=some.place,
            scores=scores,
        )
        n_even = len(texts) // BLOCK_ROWS * BLOCK_ROWS
        for first in range(0, n_even, BLOCK_ROWS):
            yield held[first : first + BLOCK_ROWS]
        held = held[n_even:]
        texts, lines, names = held.texts, list(held.lines), list(held.names or ())
        scores = {name: list(column) for name, column in held.scores.items()}
    if held:
        yield held


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


def _candidates(cells: Cells, label: Label, mutator: Mutator, task: Task, path: Path) -> Candidates:
    sequences = texts = cells.texts
    if label == "mutations":
        sequences = []
        for row, text in enumerate(texts):
            try:
                sequences.append(mutator.apply(text))
            except MutationError as error:
                raise SequenceError(f"{error}{_other_numbering(texts, mutator)}", row) from None
    else:
        usual = None if task.wild_type is None else len(task.wild_type)
        for row in missing_sequences(texts, np.array([*map(len, texts)], dtype=np.int64), usual):
            raise SequenceError(f"{texts[row]!r} says that there is no sequence", row)
    clean = str if label == "mutations" and task.chains is not None else task.clean  # they are columns already
    residues, lengths = residues_of(sequences, clean, task.aligned_length)
    lines = np.asarray(cells.lines)
    candidates = Candidates(
        labels=[],
        residues=residues,
        lengths=lengths,
        lines=cells.lines,
        names=cells.names,
        place=cells.place,
        scores={
            name: score_numbers(column, str(path), name, lines, cells.place) for name, column in cells.scores.items()
        },
    )
    labels = list(map(task.written, candidates.sequences())) if label == "sequence" else list(map(normal_form, texts))
    return replace(candidates, labels=labels)


def _other_numbering(texts: Sequence[str], mutator: Mutator) -> str:
    """What is said where mutations of candidates are counted from another residue than those of the experiment."""
    first = None if mutator.chains else find_first_position(texts, mutator.wild_type)
    if first in (None, mutator.first_position):
        return ""
    return (
        f" (these mutations fit if the wild type's first residue has the number {first}, and here it has "
        f"{mutator.first_position})"
    )


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
