"""Proteins of several chains in a table: in one column, `EVQ|DIQM`, or each in its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datasets.common.errors import UserError
from datasets.sequences.alphabet import ALPHABET, GAP, in_capitals
from datasets.sequences.chains import DIVIDER, DIVIDERS, MOST_CHAINS, Chains, chains_in, has_chains, letters_of
from datasets.sequences.packed import Packed
from datasets.tables.aligned import align
from datasets.tables.column_names import named_column
from datasets.tables.columns import Columns
from datasets.tables.findings import STOPS_DROPPED, STOPS_REMEDY, Findings
from datasets.tables.measurements import missing_sequences
from datasets.tables.table import Table

_SHOWN = 60  # of a sequence
_LINE = "correct the line or remove it"


def with_chains(columns: Columns, names: Sequence[str]) -> Columns:
    """Return a table with a column more, of the chains that stand in several; a UserError if one is missing."""
    for number, name in enumerate(names):
        named_column(columns, name, "--sequence-column")
        if name in names[:number]:
            raise UserError(f"--sequence-column {name!r} is named twice: name the column of each chain once.")
    parts = zip(*(columns.cells[name] for name in names), strict=True)
    joined = Packed.of(DIVIDER.join(cell.strip() for cell in cells) for cells in parts)
    return replace(columns, cells={**columns.cells, ", ".join(names): joined})


def letters_in(wild_type: str, chains: str | None) -> str:
    """Return the names of the chains that a table, or else its wild type, is known to have; none of one chain."""
    if chains is not None:
        return Chains.of(chains).names
    return letters_of([""] * len(chains_in(wild_type))) if has_chains(wild_type) else ""


def are_chains(cells: Packed) -> bool:
    """Whether more than half of the sequences are divided into chains."""
    if not any(divider in piece for piece in cells.pieces() for divider in DIVIDERS.encode()):
        return False
    filled = [cell for cell in cells if cell.strip()]
    return 2 * sum(map(has_chains, filled)) > len(filled)


def read_chains(cells: Packed, table: Table, findings: Findings) -> tuple[Packed, bool, bool, Table]:
    """Return the columns of each row, nothing where it is refused or set aside; whether none was refused; whether any
    has a stop codon; and the table with its chains.

    Raises:
        UserError: The wild type has other chains.
    """
    n_before = len(findings.found)
    if table.chain_columns:  # one that is empty is a chain that is missing
        rows = [[part.strip() for part in in_capitals(cell).split(DIVIDER)] for cell in cells]
        usual = len(table.chain_columns)
    else:
        rows = [chains_in(cell, keeps_stops=True) if cell.strip() else [] for cell in cells]
        usual = Counter(map(len, filter(None, rows))).most_common(1)[0][0]
    known = None if table.chains is None else Chains.of(table.chains)
    n_chains = len(known.names) if known else usual
    if n_chains > MOST_CHAINS:
        raise UserError(f"{findings.columns.where} has {n_chains} chains a sequence, expected at most {MOST_CHAINS}.")
    bad = [False] * len(rows)
    _refuse(findings, bad, [not row for row in rows], "the sequence is empty")
    if table.chain_columns:
        divided = [len(row) != len(table.chain_columns) or any(map(has_chains, row)) for row in rows]
        what = f"a cell of {', '.join(map(repr, table.chain_columns))} is divided into several chains"
        _refuse(findings, bad, divided, what, "write one chain a column")
    numbers = [0 < len(row) != n_chains for row in rows]
    first = next((len(row) for row, is_other in zip(rows, numbers, strict=True) if is_other), 0)
    _refuse(
        findings, bad, numbers, f"the sequence has {first} chain{'s' * (first != 1)}, and most have {n_chains}", _LINE
    )
    names = known.names if known else letters_of(table.chain_columns or [""] * n_chains)
    chains: list[list[str]] = []
    has_gaps = known is not None and table.aligned_length is not None  # perhaps in rows without a measurement alone
    has_stops, lengths = False, []
    for number, name in enumerate(names):
        parts = ["" if is_bad else row[number] for row, is_bad in zip(rows, bad, strict=True)]
        words = {*parts} - {""}
        if known is None and not table.chain_columns and len(words) == 1 and len(min(words)) == 1:
            what = f"the chain {name} is {min(words)!r} in every row, as the name of a chain would be"
            _refuse(findings, bad, [not is_bad for is_bad in bad], what, "leave the names out, or correct the lines")
            return Packed.of([""] * len(rows)), False, False, table
        parts = _without_end(findings, name, parts)
        missing = [] if known else missing_sequences(parts, np.array([*map(len, parts)], dtype=np.int64))
        what = f"the chain {name} says that there is none ({parts[missing[0]]!r})" if missing else ""
        _refuse(findings, bad, np.isin(np.arange(len(parts)), missing).tolist(), what, _LINE)
        empty = [not part and not is_bad for part, is_bad in zip(parts, bad, strict=True)]
        _refuse(findings, bad, empty, f"the chain {name} is empty", _LINE)
        has_stops |= _set_stops_aside(findings, bad, name, parts, drops=table.stops == "drop")
        parts = ["" if is_bad else part for part, is_bad in zip(parts, bad, strict=True)]
        if known and table.aligned_length is not None:  # a written split has no gaps behind the ends of chains
            parts = [part and part.ljust(known.lengths[number], GAP) for part in parts]
        parts, aligned_length = align(parts, parts, findings)
        has_gaps |= aligned_length is not None
        letters = frozenset(ALPHABET if aligned_length is None else ALPHABET + GAP)
        odd = [not letters.issuperset(part) for part in parts]
        if any(odd):
            part = parts[odd.index(True)]
            place = next(i for i, letter in enumerate(part) if letter not in letters)
            what = f"the residue {part[place]!r} at position {place + 1} of the chain {name} is not one of {ALPHABET}"
            _refuse(findings, bad, odd, what, _LINE)
        bad = [is_bad or not part for is_bad, part in zip(bad, parts, strict=True)]
        chains.append(parts)
        own = [len(part) for part, is_bad in zip(parts, bad, strict=True) if not is_bad]
        lengths.append(known.lengths[number] if known else max(own, default=1))
    found = Chains(names, tuple(lengths))
    every = list(zip(*chains, strict=True))
    has_gaps |= any(
        len(part) != length
        for row, is_bad in zip(every, bad, strict=True)
        if not is_bad
        for part, length in zip(row, lengths, strict=True)
    )
    long = [
        not is_bad and any(len(part) > length for part, length in zip(row, lengths, strict=True))
        for row, is_bad in zip(every, bad, strict=True)
    ]
    _refuse(findings, bad, long, f"a chain is longer than it was ({found})", "bring the table of then")
    joined = [
        "" if is_bad else "".join(part.ljust(n, GAP) for part, n in zip(row, lengths, strict=True))
        for row, is_bad in zip(every, bad, strict=True)
    ]
    is_clean = all(finding.level != "refused" for finding in findings.found[n_before:])
    _show(findings, cells, joined, chains, found)
    aligned_length = sum(lengths) if has_gaps else None
    wild_type = None if table.wild_type is None else _wild_type(table.wild_type, found)
    if wild_type is not None and GAP in wild_type and aligned_length is None:
        raise UserError("The wild type has other lengths of its chains than the table: name that of these variants.")
    changed = replace(table, chains=str(found), aligned_length=aligned_length, wild_type=wild_type)
    return Packed.of(joined), is_clean, has_stops, changed


def _without_end(findings: Findings, name: str, parts: list[str]) -> list[str]:
    """The sequences of a chain without a stop codon that ends all of them."""
    if not all(part.endswith("*") for part in parts if part):
        return parts
    if any(parts):
        findings.add("note", f"every sequence of the chain {name} ends with '*', the stop codon, which is left out")
    return [part[:-1] for part in parts]


def _set_stops_aside(findings: Findings, bad: list[bool], name: str, parts: Sequence[str], *, drops: bool) -> bool:
    """Refuse the sequences of a chain that have a stop codon, or set them aside; whether there are any."""
    rows = [row for row, part in enumerate(parts) if "*" in part]
    if rows:
        place = parts[rows[0]].index("*") + 1
        text = f"the residue '*' at position {place} of the chain {name} is not one of {ALPHABET}: a stop codon"
        if drops:
            findings.add("note", f"{text}: {STOPS_DROPPED}", rows)
        else:
            findings.add("refused", text, rows, remedy=STOPS_REMEDY)
        for row in rows:
            bad[row] = True
    return bool(rows)


def _refuse(findings: Findings, bad: list[bool], found: Sequence[bool], text: str, remedy: str = _LINE) -> None:
    rows = [row for row, (is_found, is_bad) in enumerate(zip(found, bad, strict=True)) if is_found and not is_bad]
    if rows:
        findings.add("refused", text, rows, remedy=remedy)
        for row in rows:
            bad[row] = True


def _show(
    findings: Findings, cells: Packed, joined: Sequence[str], chains: Sequence[Sequence[str]], found: Chains
) -> None:
    row = next((row for row, sequence in enumerate(joined) if sequence), None)
    if row is None:
        return
    about = []
    for name, parts in zip(found.names, chains, strict=True):
        own = [len(part) for part, sequence in zip(parts, joined, strict=True) if sequence]
        low, high = min(own), max(own)
        about.append(f"{name} ({low} residues)" if low == high else f"{name} ({low} to {high} residues)")
    shown, written = found.written(joined[row]), cells[row].strip()
    read = f"{shown[:_SHOWN]!r}" if written == shown else f"{written[:_SHOWN]!r} is read as {shown[:_SHOWN]!r}"
    is_shorter = any("to" in one for one in about)
    ends = "; where one is shorter it has gaps behind its end, or align it" if is_shorter else ""
    first, place = found.names[0], next(i for i, letter in enumerate(joined[row]) if letter != GAP)
    findings.add(
        "note",
        f"the sequences have {len(about)} chains, {', '.join(about)}: {read}{ends}. Positions are called {first}1, and "
        f"mutations {first}:{joined[row][place]}{found.chain_at(place)[1]}{'A' if joined[row][place] != 'A' else 'G'}",
        [row],
    )


def _wild_type(text: str, chains: Chains) -> str:
    if not has_chains(text) and len(text) == sum(chains.lengths):  # of a table that was read before
        return text
    try:
        return chains.joined(text)
    except ValueError as error:
        raise UserError(f"The wild type is not one of these variants: {error}.") from None
