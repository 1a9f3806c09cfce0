"""The cells of a table that say which variants were measured: whole sequences, or mutations of the wild type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import replace
from typing import TypeVar

import numpy as np

from datasets.common.errors import UserError
from datasets.sequences.alphabet import ALPHABET, GAP, in_capitals
from datasets.sequences.chains import DIVIDER, Chains, has_chains, letters_of
from datasets.sequences.mutations import MutationError, Mutator, find_first_position, is_wild_type, normal_form
from datasets.sequences.packed import Packed
from datasets.tables.aligned import align, aligned_wild_type, warn_of_twins, with_deletions
from datasets.tables.chains import are_chains, read_chains
from datasets.tables.columns import Columns
from datasets.tables.findings import STOPS_DROPPED, STOPS_REMEDY, Findings, Level
from datasets.tables.measurements import missing_sequences
from datasets.tables.table import Table
from datasets.tables.wild_type import consensus

_RESIDUES = ALPHABET.encode()
_Item = TypeVar("_Item")
_LOOKED_AT = 1000  # cells, for one to be shown
_LINE = "correct the line or remove it"
_STOPS = "models know whole proteins alone: remove the lines with a stop codon (Ter or *), or give --stops drop"
_ONE_COLUMN = "correct one of the two, or name the column alone that counts"


def read_residues(
    columns: Columns, table: Table, findings: Findings, *, are_named: bool = False, is_reread: bool = False
) -> tuple[Packed, Table]:
    """Return the residues of each row, none where they are refused or set aside, and the table.

    Its `stops` say what becomes of stop codons, None the usual; that stays where there are any and it is not the usual.
    `are_named`: the user named a column of sequences and one of mutations, which have to agree. `is_reread`: the table
    was accepted before.
    """
    drops, has_stops = table.stops == "drop", False
    if table.sequence_column is None:
        if table.wild_type is not None and has_chains(table.wild_type):
            parts = table.wild_type.split(DIVIDER)
            chains = Chains(letters_of([""] * len(parts)), tuple(map(len, parts)))
            table = replace(table, wild_type="".join(parts), chains=str(chains))
        sequences, has_stops, table = _from_mutations(columns, table, findings)
        return sequences, replace(table, stops="drop" if drops and has_stops else None)
    cells = columns.cells[table.sequence_column]
    if table.chain_columns or are_chains(cells):
        sequences, is_clean, has_stops, table = read_chains(cells, table, findings)
        _check_nucleotides(sequences, findings)
    else:
        sequences, is_clean, has_stops, aligned_length = _cleaned(cells, findings, drops=drops, is_reread=is_reread)
        # Of a table that was read before, gaps may have stood in rows that its written split lacks.
        aligned_length = aligned_length or table.aligned_length
        table = replace(table, aligned_length=aligned_length, chains=None)
        if table.wild_type is not None:
            table = replace(table, wild_type=aligned_wild_type(table.wild_type, sequences, aligned_length))
    if table.aligned_length is not None:
        warn_of_twins(sequences, table, findings)
    if table.mutation_column is not None and is_clean:
        table = _with_wild_type_row(columns, sequences, table, findings)
        stops = _compare_mutations(columns, sequences, table, findings, are_named=are_named, is_reread=is_reread)
        if stops:
            without = set(stops)
            kept = ("" if row in without else sequence for row, sequence in enumerate(sequences))
            sequences, has_stops = Packed.of(list(kept)), True
    return sequences, replace(table, stops="drop" if drops and has_stops else None)


def _from_mutations(columns: Columns, table: Table, findings: Findings) -> tuple[Packed, bool, Table]:
    """Return what the mutations of each row make of the wild type, whether there are stop codons, and the table."""
    assert table.mutation_column is not None
    if table.wild_type is None:
        raise UserError(
            f"{columns.where} writes its variants as mutations ({table.mutation_column!r}), which need the wild type: "
            "name it with --wild-type FASTA."
        )
    aligned_wild_type(table.wild_type, (), None)
    cells = columns.cells[table.mutation_column]
    mutator, sequences, bad = _read_mutations(cells, table, findings, "refused", list)
    for rows in bad.values():
        try:
            mutator.apply(cells[rows[0]])
        except MutationError as error:
            if error.kind == "stop" and table.stops == "drop":
                findings.add("note", f"{error}: {STOPS_DROPPED}", rows)
            else:
                findings.add("refused", str(error), rows, remedy=_STOPS if error.kind == "stop" else _LINE)
    return Packed.of(sequences), "stop" in bad, with_deletions(cells, sequences, table, findings)


def _read_mutations(
    cells: Packed, table: Table, findings: Findings, level: Level, use: Callable[[Iterator[str]], list[_Item]]
) -> tuple[Mutator, list[_Item], dict[str, list[int]]]:
    """Return what reads the cells, what `use` makes of what they make, and the rows of each kind of error.

    `use` takes the sequence of each row, nothing where there is an error. Where the cells count the wild type's first
    residue as another number, that is a finding of `level`, and they are read as if the option had been given.
    """
    assert table.wild_type is not None
    chains = None if table.chains is None else Chains.of(table.chains)
    mutator = Mutator(table.wild_type, table.first_position, has_gaps=True, chains=chains)
    bad = dict[str, list[int]]()
    used = use(_applied(mutator, cells, bad))
    if chains is None and ("wild type" in bad or "outside" in bad):
        first = find_first_position(cells, table.wild_type)
        if first is not None:
            findings.add(
                level,
                f"the mutations in {table.mutation_column!r} are counted from another residue: all of them name "
                f"residues of the wild type if its first one has the number {first}, and not {table.first_position}",
                remedy=f"give --first-position {first}",
            )
            mutator, bad = Mutator(table.wild_type, first, has_gaps=True), {}
            used = use(_applied(mutator, cells, bad))
    _show_spelling(cells, {row for rows in bad.values() for row in rows}, mutator, findings)
    return mutator, used, bad


def _show_spelling(cells: Packed, bad: Set[int], mutator: Mutator, findings: Findings) -> None:
    """Show how the first of the mutations that are written in another way than V39A:D40G is read, and which of those
    without the wild type's residue name it all the same, as some do where positions are counted from another residue.
    """
    read = {row: (cell.strip(), mutator.in_full(cell)) for row, cell in enumerate(cells[:_LOOKED_AT]) if row not in bad}
    others = [(row, text, full) for row, (text, full) in read.items() if full not in ("WT", text)]
    for row, text, full in others[:1]:
        findings.add("note", f"{text[:60]!r} is read as {full[:60]}, and mutations like it", [row])
    bare = [item for item in others if item[2] != normal_form(item[1])]
    if same := [item for item in bare if any(word[0] == word[-1] for word in item[2].split(":") if len(word) > 2)]:
        text = f"{same[0][1][:60]!r}, read as {same[0][2][:60]}, names a residue that the wild type has there"
        findings.add("note", text, [row for row, *_ in same])


def _applied(mutator: Mutator, cells: Packed, bad: dict[str, list[int]]) -> Iterator[str]:
    """Yield what each cell makes of the wild type, nothing where that is an error, whose row is added by its kind."""
    for row, cell in enumerate(cells):
        try:
            yield mutator.apply(cell)
        except MutationError as error:
            bad.setdefault(error.kind, []).append(row)
            yield ""


def _cleaned(
    cells: Packed, findings: Findings, *, drops: bool, is_reread: bool
) -> tuple[Packed, bool, bool, int | None]:
    """Return the cells in upper case, nothing where one is refused or set aside; whether none was refused; has stops;
    of an alignment its columns, None of sequences without gaps.

    `drops`: stop codons are set aside.
    """
    missing = set() if is_reread else {*missing_sequences(cells, cells.lengths)}
    if not missing and not cells.has_other_than(_RESIDUES) and cells.lengths.all():
        _check_nucleotides(cells, findings)
        return cells, True, False, None
    sequences = ["" if row in missing else in_capitals(cell.strip()) for row, cell in enumerate(cells)]
    if len(sequences) and all(sequence.endswith("*") for sequence in sequences):
        findings.add("note", "every sequence ends with '*', the stop codon, which is left out")
        sequences = [sequence[:-1] for sequence in sequences]
    lower = [row for row, cell in enumerate(cells) if row not in missing and cell != cell.upper()]
    if lower:
        findings.add("note", "residues in lower case are read as upper case", lower)
    is_empty = [not sequence for sequence in sequences]
    n_before = len(findings.found)
    stops = {row: sequence for row, sequence in enumerate(sequences) if drops and "*" in sequence}
    rest = ["" if row in stops else sequence for row, sequence in enumerate(sequences)]  # stops may end a line
    sequences, aligned_length = align(cells, rest, findings)
    sequences = [stops.get(row, sequence) for row, sequence in enumerate(sequences)]
    is_clean = all(finding.level != "refused" for finding in findings.found[n_before:])
    known = frozenset(ALPHABET if aligned_length is None else ALPHABET + GAP)
    bad: dict[str, list[int]] = {}
    for row, sequence in enumerate(sequences):
        if is_empty[row]:
            bad.setdefault("", []).append(row)
        elif not known.issuperset(sequence):
            odd = next(residue for residue in sequence if residue not in known)
            bad.setdefault("*" if odd == "*" else "other", []).append(row)
    for kind, rows in bad.items():
        text, remedy = _refusal(kind, sequences[rows[0]] or cells[rows[0]].strip())
        if kind == "*" and drops:
            findings.add("note", f"{text}: {STOPS_DROPPED}", rows)
        else:
            findings.add("refused", text, rows, remedy=remedy)
        for row in rows:
            sequences[row] = ""
    packed = Packed.of(sequences)
    _check_nucleotides(packed, findings)
    is_clean = is_clean and not bad.keys() - ({"*"} if drops else set())
    return packed, is_clean, "*" in bad, aligned_length


def _refusal(kind: str, sequence: str) -> tuple[str, str]:
    """Return what is wrong with a sequence, and what to do."""
    if not kind:
        return f"the sequence {sequence!r} says that there is none" if sequence else "the sequence is empty", _LINE
    place = next(i for i, residue in enumerate(sequence) if residue not in ALPHABET + GAP)
    text = f"the residue {sequence[place]!r} at position {place + 1} is not one of {ALPHABET}"
    return (f"{text}: a stop codon", STOPS_REMEDY) if kind == "*" else (text, _LINE)


def _check_nucleotides(sequences: Packed, findings: Findings) -> None:
    if sequences.lengths.sum() >= 30 * len(sequences) > 0 and not sequences.has_other_than(b"ACGTUN-"):
        text = "the sequences hold A, C, G and T only, as DNA does"
        findings.add("refused", text, remedy="translate them to residues")


def _with_wild_type_row(columns: Columns, sequences: Packed, table: Table, findings: Findings) -> Table:
    """Find the wild type where a row says that nothing is mutated."""
    if table.wild_type is not None or table.mutation_column is None:
        return table
    row = next((row for row, cell in enumerate(columns.cells[table.mutation_column]) if is_wild_type(cell)), None)
    if row is None:
        return table
    findings.add("note", "the wild type is the sequence of the row without mutations", [row])
    return replace(table, wild_type=sequences[row])


def _compare_mutations(
    columns: Columns, sequences: Packed, table: Table, findings: Findings, *, are_named: bool, is_reread: bool
) -> list[int]:
    """Compare each sequence with its mutations, where the wild type is known; return rows of stop codons to set aside.

    Where the user named both columns, they have to agree, and the wild type may be the consensus, as it is for the rest
    of the table; beside a column that was merely found the sequences count. For the sake of stop codons that consensus
    is looked at there too, as it is when the table is read again.
    """
    assert table.mutation_column is not None
    cells = columns.cells[table.mutation_column]
    is_assumed = table.wild_type is None
    if is_assumed and (are_named or _may_name_stops(cells)):
        known = sequences.take(np.flatnonzero(sequences.lengths))  # all but those that were set aside
        table = replace(table, wild_type=consensus(known))
        if table.wild_type is None and are_named:
            text = f"the mutations in {table.mutation_column!r} are not compared with the sequences: no wild type"
            findings.add("warning", text, remedy="name it with --wild-type")
    if table.wild_type is None:
        return []

    def as_here(made: str) -> str:
        return made if table.aligned_length is not None else made.replace(GAP, "")

    def differing(made: Iterator[str]) -> list[int]:
        pairs = zip(map(as_here, made), sequences, strict=True)
        return [row for row, (one, sequence) in enumerate(pairs) if one and sequence and one != sequence]

    level: Level = "refused" if are_named else "warning"
    mutator, others, bad = _read_mutations(cells, table, findings, level, differing)
    drops = table.stops == "drop"
    stops = [row for row in bad.pop("stop", []) if sequences[row] == table.wild_type]
    if stops:
        text = f"the mutation {cells[stops[0]]!r} is a stop codon, but the sequence is the wild type's"
        remedy = "remove the line, whose target is not that of its sequence, or set it aside with --stops drop"
        if drops:
            findings.add("note", f"{text}: {STOPS_DROPPED}", stops)
        else:  # by the consensus alone nothing is refused, nor what was accepted before
            is_sure = are_named or not (is_assumed or is_reread)
            findings.add("refused" if is_sure else "warning", text, stops, remedy=remedy)
    for rows in bad.values():
        stated = [row for row in rows if cells[row].strip()]
        if stated:
            _add_unread(findings, mutator, cells[stated[0]], stated, are_named=are_named)
    if others and are_named:
        cell = cells[others[0]]
        differs = _difference(as_here(mutator.apply(cell)), sequences[others[0]], mutator)
        findings.add("refused", f"{cell!r} makes {differs}", others, remedy=_ONE_COLUMN)
    elif others:
        text = f"the sequence is not what {cells[others[0]]!r} makes of the wild type; it counts as it is"
        findings.add("warning", text, others)
    return stops if drops else []


def _may_name_stops(cells: Packed) -> bool:
    return any(b"*" in piece or b"TER" in piece.upper() for piece in cells.pieces())


def _add_unread(findings: Findings, mutator: Mutator, cell: str, rows: list[int], *, are_named: bool) -> None:
    """Add the finding of mutations beside sequences that are none of the wild type, of which the first is in `cell`."""
    try:
        mutator.apply(cell)
    except MutationError as error:
        if are_named:
            findings.add("refused", str(error), rows, remedy=_ONE_COLUMN)
        else:  # numbered by another rule, perhaps
            findings.add("note", f"{error}: the sequence counts", rows)


def _difference(made: str, sequence: str, mutator: Mutator) -> str:
    """Return what mutations make of the wild type, and what the sequence beside them has."""
    if len(made) != len(sequence):
        return f"{len(made)} residues of the wild type, and the sequence beside it has {len(sequence)}"
    places = [place for place, (one, other) in enumerate(zip(made, sequence, strict=True)) if one != other]
    place, n_more = places[0], len(places) - 1
    more = f", and differs at {n_more} more position{'s' * (n_more > 1)}" if n_more else ""
    at = place + mutator.first_position if mutator.chains is None else mutator.chains.position(place)
    return (
        f"{made[place]} at position {at} of the wild type, and the sequence beside it has {sequence[place]} there{more}"
    )
