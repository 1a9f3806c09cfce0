"""Score columns that a table or a file gives by sequence, or by the mutations of the wild type."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError, nearest
from datasets.common.written_numbers import plain_number, written_numbers
from datasets.sequences.alphabet import GAP
from datasets.sequences.chains import DIVIDER, Chains, chains_in
from datasets.sequences.codes import as_bytes
from datasets.sequences.gaps import ungapped
from datasets.sequences.mutations import MutationError, Mutator, find_first_position
from datasets.sequences.packed import Packed
from datasets.tables import column_names
from datasets.tables.columns import Columns
from datasets.tables.measurements import MISSING
from datasets.tables.read import read_columns
from datasets.task import Announce

VERSION = 2
"""Of how a file of scores is read; counts up where other scores are found in the same file."""
_MEASURED = ("dms_score", "dms_score_bin")
"""Beside published scores stand the measurements, too, and whether they are high: no scores unless they are named."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeyedScores:
    """K scores of each of n sequences; NaN where one is missing.

    names: (K). rows: sequence -> its row in `values` (n, K) float32.
    """

    names: tuple[str, ...]
    rows: Mapping[bytes, int]
    values: NDArray[np.float32]

    @property
    def hash(self) -> str:
        """SHA-256 of all of it, whatever the order of the sequences."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        for sequence in sorted(self.rows):
            digest.update(b"\n" + sequence + b"\n" + self.values[self.rows[sequence]].tobytes())
        return digest.hexdigest()

    def refuse_constant(self, where: str) -> None:
        """Refuse, by a UserError, a column to train with that has no score, or the same one everywhere."""
        for name, column in zip(self.names, self.values.T, strict=True):
            present = column[np.isfinite(column)]
            if not len(present) or np.ptp(present) == 0:
                what = "is empty" if not len(present) else f"is {present[0]:g} everywhere"
                raise UserError(f"{where}: the score column {name!r} {what}, so it tells nothing: leave it out.")

    def score(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores (N, K) of residues (N, L), ASCII codes with zeros behind lengths (N,); NaN: missing.

        Of aligned ones a score may be of the sequence as it is aligned, or without its gaps.
        """
        found = np.full((len(lengths), len(self.names)), np.nan, dtype=np.float32)
        for row, sequence in enumerate(as_bytes(residues, lengths)):
            known = self.rows.get(sequence, self.rows.get(ungapped(sequence)))
            if known is not None:
                found[row] = self.values[known]
        return found


def score_numbers(
    cells: Iterable[str], where: str, column: str, lines: NDArray[np.int64], place: str, *, is_named: bool = True
) -> NDArray[np.float32]:
    """Return a column of scores as numbers (N,), NaN where a cell is empty or says that it is missing.

    `is_named`: somebody says that they are scores, so that decimal commas and the like are read where all cells agree.

    Raises:
        UserError: A cell is text, or no finite number in single precision; the sentence names its line.
    """
    texts = [cell.strip() for cell in cells]
    values = np.array([np.nan if text.lower() in MISSING else _plain(text) for text in texts], dtype=np.float64)
    rows = [row for row, text in enumerate(texts) if text.lower() not in MISSING]
    if is_named and np.isinf(values).any():
        written = written_numbers([texts[row] for row in rows])
        if written.doubt is None and not written.is_limit.any() and np.isfinite(written.values).all():
            values[rows] = written.values
    odd = np.flatnonzero(np.isinf(values) | (np.abs(values) > np.finfo(np.float32).max))
    for row in odd.tolist():
        raise UserError(
            f"{where}, {place} {lines[row]}: the score {texts[row][:60]!r} of {column!r} is not a finite number; "
            "correct it, leave the cell empty where there is no score, or name another column."
        )
    return values.astype(np.float32)


def _plain(text: str) -> float:
    """Return a number, infinity for what is none."""
    number = plain_number(text)
    return np.inf if number is None else number


def score_matrix(columns: Columns, names: Sequence[str]) -> NDArray[np.float32]:
    """Return the named columns of a table as scores (N, K).

    Raises:
        UserError: There is no such column, or it holds something else than numbers.
    """
    for name in names:
        if name not in columns.cells:
            known = list(columns.cells)
            raise UserError(
                f"{columns.where} has no score column {name!r} (--zero-shot-column); its columns are "
                f"{', '.join(map(repr, known[:12]))}.{nearest(name, known)}"
            )
    lines = columns.lines
    return np.column_stack(
        [score_numbers(columns.cells[name], columns.where, name, lines, columns.place) for name in names]
    )


def keyed(
    sequences: Iterable[bytes], columns: Columns, names: Sequence[str], variant: NDArray[np.int64] | None = None
) -> KeyedScores:
    """Return the named columns of a table as scores of its n sequences; an empty one is none.

    `variant`: (N,), which of the sequences each row is of, where several rows are of one: the first score counts that
    there is. Without it each row has its own, and one that stands twice has the score of one of its rows.

    Raises:
        UserError: There is no such column, or it holds something else than numbers; or a sequence stands twice, with
            two different scores.
    """
    values, lines = score_matrix(columns, names), columns.lines
    if variant is not None:
        values, lines = _first_known(values, variant), lines[np.unique(variant, return_index=True)[1]]
    known: dict[bytes, int] = {}
    for row, sequence in enumerate(sequences):
        first = known.setdefault(sequence, row) if sequence else row
        if first == row:
            continue
        if (np.isfinite(values[[first, row]]).all(axis=0) & (values[first] != values[row])).any():
            raise UserError(
                f"{columns.where}, {columns.place}s {lines[first]} and {lines[row]}: one sequence has two different "
                "scores; keep one of them."
            )
        values[first] = np.where(np.isfinite(values[first]), values[first], values[row])
    return KeyedScores(names=tuple(names), rows=known, values=values)


def _first_known(values: NDArray[np.float32], variant: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the scores (n, K) of n variants, of each the first that its rows, values (N, K), have."""
    found = np.full((int(variant.max()) + 1, values.shape[1]), np.nan, dtype=np.float32)
    for number, column in enumerate(values.T):
        rows = np.flatnonzero(np.isfinite(column))[::-1]  # so that the first one is written last
        found[variant[rows], number] = column[rows]
    return found


def read_scores_file(
    path: Path,
    names: Sequence[str] | None,
    wild_type: str | None,
    first_position: int = 1,
    chains: Chains | None = None,
    announce: Announce = lambda sentence: None,
) -> KeyedScores:
    """Read a table of scores by sequence, or by mutations of the wild type, whose first residue has that number.

    `names`: its score columns; None takes all columns that hold numbers alone, and `announce` is told of those in which
    most cells are numbers and some are not. Of several `chains` a sequence is written with a divider between them, and
    mutations behind the names of theirs.

    Raises:
        UserError: The file is no such table; the sentence says what is missing.
    """
    columns = read_columns(path)
    sequence = column_names.sequence_column(columns, None)
    letters = "" if chains is None else chains.names
    mutation = None if sequence else column_names.mutation_column(columns, None, (), first_position, chains=letters)
    if sequence is None and mutation is None:
        raise UserError(
            f"{path} has no column of sequences or mutations, which say what its scores are of: call it 'sequence' or "
            f"'mutations'; its columns are {', '.join(map(repr, list(columns.cells)[:12]))}."
        )
    if names is None:
        names = _numeric(columns, announce, taken=(sequence, mutation))
    known = _sequences(columns, sequence, mutation, wild_type, first_position, chains)
    return keyed(known, columns, names)


def _numeric(columns: Columns, announce: Announce, taken: Sequence[str | None]) -> list[str]:
    """The columns that hold numbers alone, without what is called as ProteinGym's measurements and folds are."""
    names, folds = [], column_names.possible_fold_columns(columns)
    for name, cells in columns.cells.items():
        if name in taken or name.lower() in _MEASURED or name in folds:
            continue
        try:
            score_numbers(cells, columns.where, name, columns.lines, columns.place, is_named=False)
        except UserError as error:
            known = [plain_number(cell.strip()) for cell in cells if cell.strip().lower() not in MISSING]
            if 2 * sum(number is not None for number in known) > len(known):
                announce(f"The column {name!r} is passed over as no column of scores: {error}")
            continue
        names.append(name)
    if not names:
        raise UserError(f"{columns.where} has no column of numbers: name its scores with --zero-shot-column NAME.")
    return names


def _joined(columns: Columns, cells: Packed, chains: Chains) -> list[bytes]:
    """The columns of sequences of several chains; one with a chain that is too long, which is no variant, as it is."""
    found = []
    for row, cell in enumerate(cells):
        n_chains = len(chains_in(cell))
        if n_chains != len(chains.names):
            raise UserError(
                f"{columns.where}, {columns.place} {columns.lines[row]}: the sequence has {n_chains} "
                f"chain{'s' * (n_chains != 1)}, expected {len(chains.names)} ({', '.join(chains.names)}), divided by "
                f"'{DIVIDER}'; correct the {columns.place} or remove it."
            )
        try:
            found.append(chains.joined(cell.replace(".", GAP)).encode())
        except ValueError:
            found.append(cell.encode())
    return found


def _sequences(
    columns: Columns,
    sequence: str | None,
    mutation: str | None,
    wild_type: str | None,
    first_position: int,
    chains: Chains | None,
) -> list[bytes]:
    """The sequence of each row; none where there is a stop codon, which no variant has."""
    if sequence is not None:
        cells: Packed = columns.cells[sequence]
        if chains is not None:
            return _joined(columns, cells, chains)
        read = (cell.strip().upper().rstrip("*").replace(".", GAP) for cell in cells)  # as tables and candidates are
        return [b"" if "*" in text else text.encode() for text in read]
    assert mutation is not None
    if wild_type is None:
        raise UserError(
            f"{columns.where} gives its scores by mutations ({mutation!r}), which need the wild type, and that is not "
            "known: name it with --wild-type FASTA, or give the scores by sequence."
        )
    mutator, found = Mutator(wild_type, first_position, has_gaps=True, chains=chains), []
    for row, cell in enumerate(columns.cells[mutation]):
        try:
            found.append(mutator.apply(cell).encode())
        except MutationError as error:
            if error.kind == "stop":
                found.append(b"")
                continue
            other = None if chains else find_first_position(columns.cells[mutation], wild_type)
            if other not in (None, first_position):
                raise UserError(
                    f"{columns.where} counts the wild type's first residue as number {other} in {mutation!r}, and the "
                    f"variants count it as {first_position} (--first-position): count alike in both."
                ) from None
            raise UserError(
                f"{columns.where}, {columns.place} {columns.lines[row]}: {error}; correct the {columns.place} or "
                "remove it."
            ) from None
    return found
