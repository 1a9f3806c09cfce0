"""Aligned sequences in a table: their gaps, the columns that they have in common, and deletions among mutations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from datasets.common.errors import UserError
from datasets.sequences.alphabet import GAP
from datasets.sequences.chains import Chains, has_chains
from datasets.sequences.gaps import protein
from datasets.sequences.packed import Packed
from datasets.sequences.sites import written_sites
from datasets.tables.findings import Findings
from datasets.tables.table import Table

_GAPS = (GAP, ".")  # the second is A2M's, where others have an insertion
_LONGEST = 60  # of a sequence that is shown


def align(cells: Sequence[str], sequences: list[str], findings: Findings) -> tuple[list[str], int | None]:
    """Return the sequences with `-` for each gap, and their columns; None where they hold no gaps or are no alignment.

    Args:
        cells: as they stand in the table.
        sequences: the same in upper case; empty where there is none.
        findings: a finding names those that are not of the alignment's length, which are returned empty.
    """
    gapped = [row for row, sequence in enumerate(sequences) if any(gap in sequence for gap in _GAPS)]
    if not gapped:
        return sequences, None
    counts = Counter(len(sequence) for sequence in sequences if sequence)
    length, n_usual = counts.most_common(1)[0]
    others = [row for row, sequence in enumerate(sequences) if sequence and len(sequence) != length]
    if others and (2 * n_usual < len(sequences) or any(len(sequences[row]) != length for row in gapped)):
        return _refused(sequences, gapped, counts, findings), None
    if others:
        findings.add(
            "refused",
            f"the sequences hold gaps, so they are an alignment, and this one has {len(sequences[others[0]])} columns, "
            f"where most have {length}",
            others,
            remedy="align it to the others, or remove the line",
        )
    aligned = ["" if len(sequence) != length else sequence.replace(".", GAP) for sequence in sequences]
    empty = [row for row in gapped if aligned[row] and not aligned[row].strip(GAP)]
    if empty:
        findings.add("refused", "the sequence holds gaps alone", empty, remedy="remove the line")
        for row in empty:
            aligned[row] = ""
    if shown := [row for row in gapped if aligned[row]]:
        findings.add("note", _about(cells[shown[0]].strip(), aligned[shown[0]], length), shown)
    return aligned, length


def _refused(sequences: list[str], gapped: list[int], counts: Counter[int], findings: Findings) -> list[str]:
    first = sequences[gapped[0]]
    place = next(i for i, letter in enumerate(first) if letter in _GAPS)
    findings.add(
        "refused",
        f"the sequence has a gap ({first[place]!r}) at position {place + 1}, and the sequences are no alignment: they "
        f"have {min(counts)} to {max(counts)} columns",
        gapped,
        remedy="align all of them to one length (of A3M files with '.' where others have insertions, as A2M has it), "
        "or write them without gaps",
    )
    return ["" if any(gap in sequence for gap in _GAPS) else sequence for sequence in sequences]


def _about(written: str, aligned: str, length: int) -> str:
    """What is said of an alignment, by a sequence with gaps as it is written and as it is read."""
    places = [place for place, letter in enumerate(aligned, 1) if letter == GAP]
    shown = aligned if length <= _LONGEST else f"{aligned[:_LONGEST]}..."
    is_same = written.upper() == aligned
    read = f"{shown!r}" if is_same else f"{written[:_LONGEST]!r} is read as {shown!r}, which"
    sites = written_sites(places)
    where = sites if len(sites) <= _LONGEST else f"{sites[:_LONGEST].rpartition(',')[0]}, ..."
    return (
        f"the sequences are an alignment of {length} columns: {read} has {len(places)} gap{'s' * (len(places) > 1)} "
        f"(at {where}); a gap is a state of its own at its column, and language models see the sequence without it"
    )


def aligned_wild_type(wild_type: str, sequences: Iterable[str], length: int | None) -> str:
    """Return the wild type in the `length` columns of its variants, which hold no gaps where that is None.

    One without gaps is found among the sequences where it is shorter.

    Raises:
        UserError: It has gaps and they have none, or other columns; or it is not among them.
    """
    if has_chains(wild_type):
        raise UserError("The wild type has several chains, and the sequences have one: name that of these variants.")
    if length is None:
        if GAP in wild_type:
            raise UserError(
                "The wild type has gaps ('-'), and the table is no alignment: give the wild type without gaps, or "
                "aligned sequences."
            )
        return wild_type
    if len(wild_type) == length:
        return wild_type
    bare = wild_type.replace(GAP, "")
    found = {sequence for sequence in sequences if len(sequence) == length and sequence.replace(GAP, "") == bare}
    if len(found) == 1:
        return found.pop()
    among = "stands among them in several ways" if found else "is not among them"
    raise UserError(
        f"The wild type has {len(wild_type)} columns, and the aligned sequences have {length}: give it aligned as they "
        f"are, with '-' for gaps (without gaps it {among})."
    )


def with_deletions(cells: Packed, sequences: Sequence[str], table: Table, findings: Findings) -> Table:
    """Return the table with the columns of its alignment, where the mutations in `cells` delete residues.

    Args:
        cells: as they stand in the table.
        sequences: what they make of the wild type, `-` for each residue that is gone; empty where there is none.
        table: with its wild type.
        findings: a note shows one; two that are one protein, with the gap at different columns, are refused.
    """
    gapped = [row for row, sequence in enumerate(sequences) if GAP in sequence]
    if not gapped:
        return table
    assert table.wild_type is not None
    cell, n_gone = cells[gapped[0]].strip()[:_LONGEST], sequences[gapped[0]].count(GAP)
    findings.add(
        "note",
        f"{cell!r} deletes {n_gone} of {len(table.wild_type)} residues: a gap is a state of its own at its position, "
        "and language models see the sequence without it",
        gapped,
    )
    _refuse_twins(cells, sequences, gapped, table, findings)
    return replace(table, aligned_length=len(table.wild_type))


def _refuse_twins(
    cells: Packed, sequences: Sequence[str], gapped: Sequence[int], table: Table, findings: Findings
) -> None:
    """Refuse the rows whose protein another row has with its gaps at other columns, as V3- and V4- in a pair of V."""
    rows, of = _twins({row: sequences[row] for row in gapped}, table)
    if rows:
        one, other = cells[rows[0]].strip()[:_LONGEST], cells[of].strip()[:_LONGEST]
        findings.add(
            "refused",
            f"{one!r} makes the same protein as {other!r} ({findings.columns.place} {findings.columns.lines[of]}), and "
            "would count as another variant",
            rows,
            remedy="write both alike: of neighbours that are equal the last one is deleted, as HGVS has it",
        )


def warn_of_twins(sequences: Iterable[str], table: Table, findings: Findings) -> None:
    """Warn of aligned rows whose protein another row has with its gaps at other columns."""
    rows, of = _twins({row: sequence for row, sequence in enumerate(sequences) if GAP in sequence}, table)
    if rows:
        findings.add(
            "warning",
            f"the sequence is the protein of {findings.columns.place} {findings.columns.lines[of]} with its gaps at "
            "other columns, and counts as another variant: one of them may be tested after the other was trained on",
            rows,
            remedy="align both alike",
        )


def _twins(gapped: Mapping[int, str], table: Table) -> tuple[list[int], int]:
    """The rows whose protein an earlier one has in other columns, and that one of the first of them."""
    chains = None if table.chains is None else Chains.of(table.chains)
    first: dict[bytes, int] = {}
    rows, of = [], -1
    for row, columns in gapped.items():
        before = first.setdefault(protein(columns.encode("ascii"), chains), row)
        if gapped[before] != columns:
            rows.append(row)
            of = before if of < 0 else of
    return rows, of
