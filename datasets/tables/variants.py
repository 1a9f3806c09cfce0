"""The cells of a table that say which variants were measured: whole sequences, or mutations of the wild type."""

from __future__ import annotations

from dataclasses import replace

from datasets.common.errors import UserError
from datasets.sequences.alphabet import ALPHABET
from datasets.sequences.mutations import MutationError, Mutator, find_first_position, is_wild_type
from datasets.sequences.packed import Packed
from datasets.tables.columns import Columns
from datasets.tables.findings import Findings
from datasets.tables.table import Table

_RESIDUES = ALPHABET.encode()


def read_residues(columns: Columns, table: Table, findings: Findings) -> tuple[Packed, Table]:
    """Return the residues of each row, none where they are refused."""
    if table.sequence_column is None:
        return _from_mutations(columns, table, findings), table
    cells = columns.cells[table.sequence_column]
    sequences, is_clean = _cleaned(cells, findings)
    if table.mutation_column is not None and is_clean:
        table = _compare_mutations(columns, sequences, table, findings)
    return sequences, table


def _from_mutations(columns: Columns, table: Table, findings: Findings) -> Packed:
    assert table.mutation_column is not None
    if table.wild_type is None:
        raise UserError(
            f"{columns.where} writes its variants as mutations ({table.mutation_column!r}), which need the wild type: "
            "name it with --wild-type FASTA."
        )
    cells = columns.cells[table.mutation_column]
    mutator = Mutator(table.wild_type, table.first_position)
    sequences, bad = _applied(mutator, cells)
    if "wild type" in bad or "outside" in bad:
        first = find_first_position(cells, table.wild_type)
        if first is not None:  # the rest is looked at as if the option had been given
            findings.add("refused", _about_first(table, first), remedy=f"give --first-position {first}")
            mutator = Mutator(table.wild_type, first)
            sequences, bad = _applied(mutator, cells)
    for rows in bad.values():
        try:
            mutator.apply(cells[rows[0]])
        except MutationError as error:
            findings.add("refused", str(error), rows, remedy="correct the line or remove it")
    return Packed.of(sequences)


def _applied(mutator: Mutator, cells: Packed) -> tuple[list[str], dict[str, list[int]]]:
    """Return what mutations make of the wild type, nothing where one is refused, and the rows of each kind of error."""
    sequences: list[str] = []
    bad: dict[str, list[int]] = {}
    for row, cell in enumerate(cells):
        try:
            sequences.append(mutator.apply(cell))
        except MutationError as error:
            sequences.append("")
            bad.setdefault(error.kind, []).append(row)
    return sequences, bad


def _about_first(table: Table, first: int) -> str:
    """What is said of mutations that count the wild type's first residue as another number than the table does."""
    return (
        f"the mutations in {table.mutation_column!r} are counted from another residue: all of them name residues of "
        f"the wild type if its first one has the number {first}, and not {table.first_position}"
    )


def _cleaned(cells: Packed, findings: Findings) -> tuple[Packed, bool]:
    """Return the cells in upper case, nothing where one is refused, and whether none was."""
    if not cells.has_other_than(_RESIDUES) and cells.lengths.all():
        _check_nucleotides(cells, findings)
        return cells, True
    sequences = [cell.strip().upper() for cell in cells]
    if len(sequences) and all(sequence.endswith("*") for sequence in sequences):
        findings.add("note", "every sequence ends with '*', the stop codon, which is left out")
        sequences = [sequence[:-1] for sequence in sequences]
    lower = [row for row, cell in enumerate(cells) if cell != cell.upper()]
    if lower:
        findings.add("note", "residues in lower case are read as upper case", lower)
    known = frozenset(ALPHABET)
    bad: dict[str, list[int]] = {}
    for row, sequence in enumerate(sequences):
        if not sequence:
            bad.setdefault("", []).append(row)
        elif not known.issuperset(sequence):
            odd = next(residue for residue in sequence if residue not in known)
            bad.setdefault(odd if odd in "*-." else "other", []).append(row)
    for kind, rows in bad.items():
        text, remedy = _refusal(kind, sequences[rows[0]])
        findings.add("refused", text, rows, remedy=remedy)
        for row in rows:
            sequences[row] = ""
    packed = Packed.of(sequences)
    _check_nucleotides(packed, findings)
    return packed, not bad


def _refusal(kind: str, sequence: str) -> tuple[str, str]:
    """Return what is wrong with a sequence, and what to do."""
    if not kind:
        return "the sequence is empty", "correct the line or remove it"
    place = next(i for i, residue in enumerate(sequence) if residue not in ALPHABET)
    text = f"the residue {sequence[place]!r} at position {place + 1} is not one of {ALPHABET}"
    if kind == "*":
        return f"{text}: a stop codon", "remove the line, or the '*' where it only ends the protein"
    if kind in "-.":
        return f"{text}: a gap", "write the sequences without their alignment"
    return text, "correct the line or remove it"


def _check_nucleotides(sequences: Packed, findings: Findings) -> None:
    if sequences.lengths.sum() >= 30 * len(sequences) > 0 and not sequences.has_other_than(b"ACGTUN"):
        text = "the sequences hold A, C, G and T only, as DNA does"
        findings.add("refused", text, remedy="translate them to residues")


def _compare_mutations(columns: Columns, sequences: Packed, table: Table, findings: Findings) -> Table:
    """Find the wild type where a row says that nothing is mutated, and compare each sequence with its mutations."""
    assert table.mutation_column is not None
    cells = columns.cells[table.mutation_column]
    if table.wild_type is None:
        row = next((row for row, cell in enumerate(cells) if is_wild_type(cell)), None)
        if row is None:
            return table
        table = replace(table, wild_type=sequences[row])
        findings.add("note", "the wild type is the sequence of the row without mutations", [row])
    assert table.wild_type is not None
    mutator = Mutator(table.wild_type)
    stops, others = [], []
    for row, (cell, sequence) in enumerate(zip(cells, sequences, strict=True)):
        if "*" in cell:
            if sequence == table.wild_type:
                stops.append(row)
            continue
        try:
            if cell and mutator.apply(cell) != sequence:
                others.append(row)
        except MutationError:
            continue  # numbered by another rule, perhaps: the sequences are what counts
    if stops:
        findings.add(
            "refused",
            f"the mutation {cells[stops[0]]!r} is a stop codon, but the sequence is the wild type's",
            stops,
            remedy="remove the line: its target is not that of its sequence",
        )
    if others:
        findings.add(
            "warning",
            f"the sequence is not what {cells[others[0]]!r} makes of the wild type; it counts as it is",
            others,
        )
    return table
