"""Read a user's table: its variants, what is wrong with it, and how it divides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets import column_names
from datasets.alphabet import ALPHABET
from datasets.columns import Columns, read_columns
from datasets.errors import UserError
from datasets.findings import Findings
from datasets.measurements import Merged, Noise, list_of_rows, merge, numbers
from datasets.mutations import MutationError, Mutator, is_wild_type
from datasets.packed import Packed
from datasets.split_strategies import Division, Landscape, Mask, divide, validation_part
from datasets.table import Table
from datasets.task import RawSplit
from datasets.wild_type import Common, compare, consensus, varying

_VALIDATION = {"": False, "false": False, "true": True, "0": False, "1": True}
_RESIDUES = ALPHABET.encode()
_FEW_VALIDATION = 50
_FEW_REPLICATES = 3
_LINES = 4096  # written at a time


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Survey:
    """What a table holds.

    table: how it was read, with what was found in it. columns: the whole of it. sequences, target (n,), lines: the n
    variants of its good rows. common: what they have in common. noise: what replicates say, None without any.
    division: which are test and which validation, None where no split was named and the file has none.
    """

    table: Table
    columns: Columns
    sequences: Packed
    target: NDArray[np.float64]
    lines: NDArray[np.int64]
    common: Common
    noise: Noise | None
    landscape: Landscape
    division: Division | None
    findings: Findings

    def raw_split(self) -> RawSplit:
        """Return the divided variants as rows. Raises a UserError for what no search accepts."""
        self.findings.raise_refused()
        if self.division is None:
            raise UserError(f"{self.columns.where} says not which rows are test: name a split with --split.")
        target = list(map(repr, self.target.tolist()))
        part = np.where(self.division.test, "test", "train").tolist()
        validation = np.where(self.division.validation, "True", "").tolist()
        digest = hashlib.sha256()
        sequence = list(self.sequences)
        for block in flip_blocks(sequence, target, part, validation):
            digest.update(block)
        return RawSplit(
            sequence=sequence,
            target=target,
            part=part,
            validation=validation,
            lines=self.lines.tolist(),
            content_hash=digest.hexdigest(),
            where=self.columns.where,
        )


def flip_blocks(
    sequence: Sequence[str], target: Sequence[str], part: Sequence[str], validation: Sequence[str]
) -> Iterator[bytes]:
    """Yield a table in FLIP's format, some lines at a time."""
    yield (",".join(column_names.FLIP_COLUMNS) + "\n").encode()
    rows = zip(sequence, target, part, validation, strict=True)
    while lines := [f"{a},{b},{c},{d}\n" for a, b, c, d in islice(rows, _LINES)]:
        yield "".join(lines).encode()


def survey(path: Path, table: Table, *, is_reread: bool = False) -> Survey:
    """Read the table at `path` as `table` says; what that leaves open is found out.

    `is_reread`: the table was read before, and a search may have written its split in FLIP's format, which is as good
    as the file that it was made of.

    What concerns rows is collected in `findings`, and the other rows go on. A UserError is raised where nothing can
    be said of the variants: a file that cannot be read, columns that are missing, no row that is good.
    """
    columns = read_columns(path)
    findings = Findings(columns=columns)
    for note in columns.notes:
        findings.add("note", note)
    if is_reread and column_names.is_flip_format(columns):
        table = replace(
            table, sequence_column="sequence", target_column="target", mutation_column=None, group_column=None
        )
    table = _with_columns(table, columns)
    if table.replicates is None:
        table = replace(table, replicates="keep" if "set" in columns.cells else "mean")
    assert table.target_column is not None
    target = numbers(columns.cells[table.target_column], findings, table.target_column)
    sequences, table = _sequences(columns, table, findings)
    test, validation = _parts(columns, findings)
    good = np.isfinite(target) & (sequences.lengths > 0)
    rows = np.flatnonzero(good)
    if not len(rows):
        findings.raise_refused()
        raise UserError(f"{columns.where} has no row with a sequence and a target.")
    if len(rows) < len(good):
        sequences, target = sequences.take(rows), target[rows]
        test = None if test is None else test[rows]
        validation = None if validation is None else validation[rows]
    _check_overlap(sequences, test, validation, rows, findings)
    varies = varying(sequences)
    keys, measured = _keys(sequences, varies, test, validation), (target, rows)
    merged = _merged(keys, target, rows, table, findings)
    if len(merged.first) < len(sequences):
        sequences = sequences.take(merged.first)
        test = None if test is None else test[merged.first]
        validation = None if validation is None else validation[merged.first]
        rows = rows[merged.first]
    table = _with_wild_type(table, columns, sequences, rows, findings)
    common = compare(sequences, table.wild_type, varies)
    _check_wild_type_rows(keys, *measured, merged.first, common, findings)
    table = replace(table, sites=common.sites, window=common.window)
    landscape = Landscape(
        target=merged.target,
        n_mutations=common.n_mutations,
        mutated=common.mutated,
        positions=common.positions,
        group=_groups(columns, table, rows, findings),
    )
    division = _division(landscape, table, test, validation, findings)
    if division is not None:
        _check_division(division, merged.target, findings)
    return Survey(
        table=table,
        columns=columns,
        sequences=sequences,
        target=merged.target,
        lines=columns.lines[rows],
        common=common,
        noise=merged.noise,
        landscape=landscape,
        division=division,
        findings=findings,
    )


def _with_columns(table: Table, columns: Columns) -> Table:
    """Return the table with the names of its columns, of which some may be named."""
    sequence = column_names.sequence_column(columns, table.sequence_column)
    target = column_names.target_column(columns, table.target_column)
    group = column_names.group_column(columns, table.group_column)
    taken = (sequence, target, group, "set", "validation", "name")
    mutation = column_names.mutation_column(columns, table.mutation_column, taken)
    if sequence is None and mutation is None:
        raise column_names.no_sequences(columns)
    return replace(table, sequence_column=sequence, target_column=target, group_column=group, mutation_column=mutation)


def _keys(
    sequences: Packed, varies: NDArray[np.int64] | None, test: Mask | None, validation: Mask | None
) -> NDArray[np.uint8] | list[bytes]:
    """Return what tells the rows apart: the residues at the positions that vary, or all, and the part."""
    part = np.zeros(len(sequences), dtype=np.uint8)
    for weight, mask in ((1, test), (2, validation)):
        if mask is not None:
            part += weight * mask.astype(np.uint8)
    codes = sequences.matrix
    if codes is None or varies is None:
        return [sequence + bytes([number]) for sequence, number in zip(sequences.slices(), part.tolist(), strict=True)]
    return np.column_stack((codes[:, varies], part))


def _sequences(columns: Columns, table: Table, findings: Findings) -> tuple[Packed, Table]:
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
    mutator = Mutator(table.wild_type)
    sequences: list[str] = []
    bad: dict[str, list[int]] = {}
    for row, cell in enumerate(columns.cells[table.mutation_column]):
        try:
            sequences.append(mutator.apply(cell))
        except MutationError as error:
            sequences.append("")
            kind = "stop" if "stop codon" in str(error) else "wild type" if "where the" in str(error) else "other"
            bad.setdefault(kind, []).append(row)
    for rows in bad.values():
        try:
            mutator.apply(columns.cells[table.mutation_column][rows[0]])
        except MutationError as error:
            findings.add("refused", str(error), rows, remedy="correct the line or remove it")
    return Packed.of(sequences)


def _cleaned(cells: Packed, findings: Findings) -> tuple[Packed, bool]:
    """Return the cells in upper case, nothing where one is refused, and whether none was."""
    if not cells.has_other_than(_RESIDUES) and cells.lengths.all():
        _check_nucleotides(cells, findings)
        return cells, True
    sequences = [cell.strip().upper() for cell in cells]
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
    if len(sequences.codes) >= 30 * len(sequences) > 0 and not sequences.has_other_than(b"ACGTUN"):
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


def _parts(columns: Columns, findings: Findings) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Return which rows are test and which validation, None where the file does not say."""
    if "set" not in columns.cells:
        return None, None
    parts = [cell.strip().lower() for cell in columns.cells["set"]]
    marks = [cell.strip().lower() for cell in columns.cells.get("validation", [])]
    odd = [row for row, part in enumerate(parts) if part not in ("train", "test", "validation", "valid", "val")]
    if odd:
        cell = columns.cells["set"][odd[0]]
        findings.add(
            "refused",
            f"the set {cell[:60]!r} is neither 'train' nor 'test'",
            odd,
            remedy="correct the line or remove it",
        )
    odd = [row for row, mark in enumerate(marks) if mark not in _VALIDATION]
    if odd:
        cell = columns.cells["validation"][odd[0]]
        findings.add("refused", f"the validation value {cell[:60]!r} is neither 'True', 'False' nor empty", odd)
    test = np.array([part == "test" for part in parts], dtype=np.bool_)
    in_set = np.array([part.startswith("val") for part in parts], dtype=np.bool_)
    if not marks:
        return test, in_set if in_set.any() else None
    marked = np.array([_VALIDATION.get(mark, False) for mark in marks], dtype=np.bool_)
    validation = (marked | in_set) & ~test
    return test, validation if validation.any() else None


def _check_overlap(
    sequences: Packed,
    test: NDArray[np.bool_] | None,
    validation: NDArray[np.bool_] | None,
    rows: NDArray[np.int64],
    findings: Findings,
) -> None:
    """Find sequences that stand in two parts."""
    if test is None:
        return
    parts = [list(sequences.take(np.flatnonzero(part))) for part in (test, ~test)]
    train = set(parts[1])
    leaked = [row for row, sequence in zip(np.flatnonzero(test).tolist(), parts[0], strict=True) if sequence in train]
    if leaked:
        findings.add(
            "refused",
            "the sequence stands in both train and test",
            rows[leaked].tolist(),
            remedy="remove it from one of the two",
        )
    if validation is None:
        return
    judged = set(sequences.take(np.flatnonzero(validation)))
    trained = np.flatnonzero(~test & ~validation)
    pairs = zip(trained.tolist(), sequences.take(trained), strict=True)
    leaked = [row for row, sequence in pairs if sequence in judged]
    if leaked:
        findings.add("warning", "the sequence stands in both train and validation", rows[leaked].tolist())


def _merged(
    keys: NDArray[np.uint8] | Sequence[bytes],
    target: NDArray[np.float64],
    rows: NDArray[np.int64],
    table: Table,
    findings: Findings,
) -> Merged:
    """Merge replicates as the table says; where the file has its parts, within a part."""
    merged = merge(keys, target)
    if merged.noise is None:
        return merged
    repeated = np.ones(len(rows), dtype=np.bool_)
    repeated[merged.first] = False
    again = rows[repeated].tolist()
    if table.replicates == "refuse":
        findings.add("refused", "the sequence was measured before", again, remedy="remove it, or use --replicates mean")
    elif table.replicates == "keep":
        findings.add("note", "the sequence was measured before; every measurement is kept", again)
        everything = np.arange(len(rows))
        return Merged(first=everything, target=target, count=np.ones_like(everything), noise=merged.noise)
    else:
        findings.add("note", "the sequence was measured before; the mean of its measurements is taken", again)
    return merged


def _with_wild_type(
    table: Table, columns: Columns, sequences: Packed, rows: NDArray[np.int64], findings: Findings
) -> Table:
    """Infer the wild type where it is not known and the sequences agree."""
    if table.wild_type is None:
        found = consensus(sequences)
        if found is None:
            findings.add("note", "the wild type is not known: no sequence agrees with most others at every position")
            return table
        findings.add("note", "the wild type is taken to be the consensus: more than half agree at every position")
        return replace(table, wild_type=found)
    n_residues = len(table.wild_type)
    others = rows[sequences.lengths != n_residues].tolist()
    if others:
        findings.add("note", f"the sequence has another length than the wild type ({n_residues} residues)", others)
    return table


def _check_wild_type_rows(
    keys: NDArray[np.uint8] | Sequence[bytes],
    measured: NDArray[np.float64],
    measured_rows: NDArray[np.int64],
    first: NDArray[np.int64],
    common: Common,
    findings: Findings,
) -> None:
    """Find the wild type's sequence under targets that cannot all be its own."""
    if common.n_mutations is None or common.n_mutations.all():
        return
    wild = np.flatnonzero(common.n_mutations == 0)
    if isinstance(keys, np.ndarray):
        if len(first) == len(keys):
            return  # each sequence was measured once
        keys = list_of_rows(keys)
    key = keys[int(first[wild[0]])]
    at = [i for i, other in enumerate(keys) if other == key]
    if len(at) < _FEW_REPLICATES or measured[at].std() <= measured.std() / 2:
        return
    findings.add(
        "warning",
        f"the wild type's sequence has targets from {measured[at].min():g} to {measured[at].max():g}: stop codons are "
        "often written so",
        measured_rows[at].tolist(),
        remedy="remove the lines that are not the wild type",
    )


def _groups(columns: Columns, table: Table, rows: NDArray[np.int64], findings: Findings) -> Sequence[str] | None:
    if table.group_column is None:
        return None
    cells = columns.cells[table.group_column]
    group = [cells[row].strip() for row in rows.tolist()]
    blank = [row for row, name in zip(rows.tolist(), group, strict=True) if not name]
    if blank:
        findings.add("refused", f"the group ({table.group_column!r}) is empty", blank, remedy="name it")
    return group


def _division(
    landscape: Landscape,
    table: Table,
    test: NDArray[np.bool_] | None,
    validation: NDArray[np.bool_] | None,
    findings: Findings,
) -> Division | None:
    if test is None:
        if table.split is None:
            return None
        try:
            return divide(landscape, table.split, max_train_mutations=table.max_train_mutations, seed=table.split_seed)
        except UserError as error:
            findings.add("refused", str(error).rstrip("."))
            return None
    if validation is None:
        if (~test).sum() < 3:
            findings.add("refused", f"the train part has {int((~test).sum())} rows, expected three or more")
            return None
        findings.add("note", "no row is marked as validation: a tenth of train is drawn for it")
        return Division(
            test=test, validation=validation_part(test, table.split_seed), how="the file's own, validation at random"
        )
    return Division(test=test, validation=validation, how="the file's own")


def _check_division(division: Division, target: NDArray[np.float64], findings: Findings) -> None:
    """Find parts that are empty, too small to judge by, or of one target."""
    train = ~division.test & ~division.validation
    for name, part in (("train", train), ("validation", division.validation), ("test", division.test)):
        n = int(part.sum())
        if not n:
            findings.add("refused", f"no row is left for {name} ({division.how})", remedy="choose another split")
        elif name != "test" and n > 1 and np.ptp(target[part]) == 0:
            findings.add(
                "refused", f"the {name} part has one target, {target[part][0]:g}", remedy="choose another split"
            )
    n = int(division.validation.sum())
    if 0 < n < _FEW_VALIDATION:
        findings.add("warning", f"{n} validation sequences alone say little; validation=auto cross-validates")
