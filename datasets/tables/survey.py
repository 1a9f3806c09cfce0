"""Read a user's table: its variants, what is wrong with it, and how it divides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.files import FileState
from datasets.sequences.chains import Chains
from datasets.sequences.packed import Aligned, Packed
from datasets.tables import column_names, parts
from datasets.tables.chains import letters_in, with_chains
from datasets.tables.columns import Columns
from datasets.tables.excel.workbook import is_excel
from datasets.tables.findings import Findings
from datasets.tables.flip_format import flip_blocks
from datasets.tables.formats.text_file import first_bytes
from datasets.tables.measurements import errors, measured, without_gaps
from datasets.tables.properties import divided_alike, in_any, missing_from
from datasets.tables.read import read_undisturbed
from datasets.tables.replicates import Noise, merge_rows, merged_errors
from datasets.tables.split_strategies import Landscape, Mask, TableSplit
from datasets.tables.table import Table
from datasets.tables.variants import read_residues
from datasets.tables.wild_type import Common, check_wild_type_rows, consensus, find_common
from datasets.task import RawSplit

_LINES = 4096  # written at a time


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Survey:
    """What a table holds.

    table: how it was read, with what was found in it. columns: the whole of it. sequences, target (n,), lines: the n
    variants of its good rows. common: what they have in common. noise: what replicates say, None without any.
    division: which are test and which validation, None where no split was named and the file has none. error: (n,), the
    standard errors of the targets, None where no column has them. whole: of one of several properties, that of all.
    good_lines, variant: (m,), the lines of the good rows, before replicates are merged, and which variant each is of.
    state: of the file that was read.
    """

    table: Table
    columns: Columns
    sequences: Packed
    target: NDArray[np.float64]
    lines: NDArray[np.int64]
    good_lines: NDArray[np.int64]
    variant: NDArray[np.int64]
    common: Common
    noise: Noise | None
    landscape: Landscape
    division: TableSplit | None
    findings: Findings
    state: FileState
    error: NDArray[np.float64] | None = None
    whole: Survey | None = None

    def raw_split(self) -> RawSplit:
        """Return the divided variants as rows. Raises a UserError for what no search accepts."""
        self.findings.raise_refused()
        if self.division is None:
            raise UserError(
                f"{self.columns.where} does not say which rows are test: name a split with --split, such as random "
                "(`data check` suggests one), or a fold with --test-fold."
            )
        target = list(map(repr, self.target.tolist()))
        part = np.where(self.division.test, "test", "train").tolist()
        validation = np.where(self.division.validation, "True", "").tolist()
        digest = hashlib.sha256()
        chains = None if self.table.chains is None else Chains.of(self.table.chains)
        sequence = list(self.sequences if chains is None else map(chains.written, self.sequences))
        group, fold = self.landscape.group, self.landscape.fold
        # A split of the first version's rule keeps the hash that its studies know: that of the columns without groups.
        carried = group if self.table.group_rule else None
        error = None if self.error is None else self.error.tolist()
        for block in flip_blocks(sequence, target, part, validation, carried, fold, error):
            digest.update(block)
        if self.whole is not None:  # by which folds are made
            digest.update(self.whole.raw_split().content_hash.encode())
        return RawSplit(
            sequence=sequence,
            target=target,
            part=part,
            validation=validation,
            lines=self.lines.tolist(),
            content_hash=digest.hexdigest(),
            where=self.columns.where,
            group=group,
            fold=fold,
            error=error,
        )


def survey(path: Path, table: Table, *, is_reread: bool = False) -> Survey:
    """Read the table at `path` as `table` says; what that leaves open is found out.

    `is_reread`: the table was read before, and a search may have written its split in FLIP's format, which is as good
    as the file that it was made of.

    What concerns rows is collected in `findings`, and the other rows go on. A UserError is raised where nothing can
    be said of the variants: a file that cannot be read, columns that are missing, no row that is good.
    """
    columns, state = read_undisturbed(path, table.sheet if not is_reread or is_excel(first_bytes(path)) else None)
    return _surveyed(columns, table, state, is_reread=is_reread)


def _surveyed(columns: Columns, table: Table, state: FileState, *, is_reread: bool) -> Survey:
    whole = None if table.whole is None else _surveyed(columns, table.whole, state, is_reread=is_reread)
    findings = Findings(columns=columns)
    for note in columns.notes:
        findings.add("note", note)
    sequences_in = table.chain_columns or (table.sequence_column,)
    named = (*sequences_in, table.mutation_column, *table.measured_columns, *table.properties)
    if is_reread and column_names.is_written_split(columns, named):
        if table.properties:
            raise column_names.no_properties(columns, table.properties)
        table = replace(
            table,
            sequence_column="sequence",
            chain_columns=(),
            target_column="target",
            mutation_column=None,
            group_column=column_names.group_column_again(columns, table.group_column, table.group_rule is not None),
            replicate_columns=(),
            error_column=column_names.column_again(columns, table.error_column, column_names.ERROR_COLUMN),
            fold_column=column_names.column_again(columns, table.fold_column, column_names.FOLD_COLUMN),
            round_column=column_names.column_again(columns, table.round_column, column_names.FOLD_COLUMN),
        )
    if table.chain_columns:
        findings.columns = columns = with_chains(columns, table.chain_columns)
    are_named = not is_reread and None not in (table.sequence_column, table.mutation_column)
    table = _with_columns(table, columns, is_reread=is_reread)
    if table.replicates is None:
        table = replace(table, replicates="keep" if "set" in columns.cells else "mean")
    if table.target_column is None:
        target, censored = in_any(columns, table)[:, None], None
    else:
        target, censored = measured(columns, table, findings)  # (N, replicates)
    table = replace(table, censored=censored)
    sequences, table = read_residues(columns, table, findings, are_named=are_named, is_reread=is_reread)
    test, validation = parts.given_parts(columns, findings)
    good = np.isfinite(target).any(axis=1) & (sequences.lengths > 0) & parts.in_split(columns, findings)
    rows = np.flatnonzero(good)
    error = errors(columns, table, rows, findings)
    if not len(rows):
        findings.raise_refused()
        raise UserError(f"{columns.where} has no row with a sequence and a target.")
    if len(rows) < len(good):
        sequences, target = sequences.take(rows), target[rows]
        test = None if test is None else test[rows]
        validation = None if validation is None else validation[rows]
    groups = parts.given_groups(columns, table, sequences, rows, findings)
    folds = parts.given_folds(columns, table, sequences, rows, findings)
    test, validation = parts.parts_of_fold(folds, table.test_fold) if folds and table.test_fold else (test, validation)
    if whole is not None and whole.division is not None:
        test, validation = divided_alike(whole.sequences, whole.division, sequences)
    keys, before = _keys(sequences, test, validation), (np.nanmean(target, axis=1), rows)
    merged = merge_rows(keys, target, rows, table, findings)
    if len(merged.first) < len(sequences):
        sequences = sequences.take(merged.first)
        test = None if test is None else test[merged.first]
        validation = None if validation is None else validation[merged.first]
        rows = rows[merged.first]
        groups = None if groups is None else [groups[row] for row in merged.first.tolist()]
        folds = None if folds is None else [folds[row] for row in merged.first.tolist()]
    table = _with_wild_type(table, sequences if whole is None else whole.sequences, sequences, rows, findings)
    common = find_common(sequences, table.wild_type)
    check_wild_type_rows(keys, *before, merged.first, common, findings)
    differ = table.wild_type is not None and common.window is None and not isinstance(sequences, Aligned)
    table = replace(table, sites=common.sites, window=common.window, lengths_differ=differ)
    landscape = Landscape(
        target=merged.target,
        n_mutations=common.n_mutations,
        mutated=common.mutated,
        positions=None if common.positions is None else common.positions + (table.first_position - 1),
        chains=None if table.chains is None else Chains.of(table.chains),
        group=groups,
        fold=folds,
        sequence=merged.sequence,
    )
    division = parts.find_division(landscape, table, test, validation, findings)
    if division is not None and whole is not None and whole.division is not None:
        division = replace(division, how=whole.division.how)
    if error is not None:
        error = without_gaps(error, None if division is None else division.test[merged.entry], columns.where)
        error = merged_errors(error, merged)
    if division is not None:
        if test is not None or merged.sequence is not None:  # otherwise each sequence has one row
            parts.check_overlap(sequences, division, rows, findings, is_drawn=test is None)
        parts.check_division(division, merged.target, findings, has_folds=folds is not None)
    if whole is not None:
        missing_from(findings, whole.findings)
    return Survey(
        table=table,
        columns=columns,
        sequences=sequences,
        target=merged.target,
        lines=columns.lines[rows],
        good_lines=columns.lines[before[1]],
        variant=merged.entry,
        common=common,
        noise=merged.noise,
        landscape=landscape,
        division=division,
        findings=findings,
        state=state,
        error=error,
        whole=whole,
    )


def _with_columns(table: Table, columns: Columns, *, is_reread: bool) -> Table:
    """Return the table with the names of its columns, of which some may be named.

    Of mutations a table that `is_reread` has the column that was found then, or none.
    """
    sequence, target = column_names.sequence_column(columns, table.sequence_column), table.target_column
    chains, first, mutation = letters_in(table.wild_type or "", table.chains), table.first_position, None
    if sequence is None and not is_reread:
        column_names.refuse_lost_header(columns, table.mutation_column, table.wild_type, first, chains=chains)
    for name in table.properties:
        column_names.named_column(columns, name, "--target-column")
    if table.replicate_columns:
        target = column_names.replicate_columns(columns, table.replicate_columns)
    elif not table.properties:
        target = column_names.target_column(columns, target)
    group = column_names.named_column(columns, table.group_column, "--group-column")
    fold = column_names.named_column(columns, table.fold_column, "--fold-column")
    rounds = column_names.named_column(columns, table.round_column, "--round-column")
    error = column_names.named_column(columns, table.error_column, "--error-column")
    if error is not None and error in (target, *table.replicate_columns, *table.properties):
        raise UserError(f"--error-column {error!r} is the target itself: name the column of its standard errors.")
    of_rows = (group, fold, rounds, error, "set", "validation", "name")
    taken = (sequence, target, *table.replicate_columns, *table.properties, *of_rows)
    if not is_reread or table.mutation_column is not None:
        mutation = column_names.mutation_column(columns, table.mutation_column, taken, first, chains=chains)
    if sequence is None and mutation is None:
        raise column_names.no_sequences(columns, chains)
    return replace(
        table,
        sequence_column=sequence,
        target_column=target,
        group_column=group,
        fold_column=fold,
        round_column=rounds,
        mutation_column=mutation,
    )


def _keys(sequences: Packed, test: Mask | None, validation: Mask | None) -> NDArray[np.uint8] | list[bytes]:
    """Return what tells the rows apart: the residues at the positions that vary, or all, and the part."""
    part = np.zeros(len(sequences), dtype=np.uint8)
    for weight, mask in ((1, test), (2, validation)):
        if mask is not None:
            part += weight * mask.astype(np.uint8)
    if not isinstance(sequences, Aligned):
        return [sequence + bytes([number]) for sequence, number in zip(sequences.slices(), part.tolist(), strict=True)]
    return np.column_stack((sequences.varying, part)) if part.any() else sequences.varying


def _with_wild_type(
    table: Table, agreeing: Packed, sequences: Packed, rows: NDArray[np.int64], findings: Findings
) -> Table:
    """Infer the wild type where it is not known and the `agreeing` sequences do."""
    if table.wild_type is None:
        found = consensus(agreeing)
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
