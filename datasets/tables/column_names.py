"""Which columns of a table hold the sequences, the mutations and the targets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from datasets.common.errors import UserError, nearest
from datasets.sequences.mutations import MutationError, Mutator, are_mutations, first_other, is_wild_type
from datasets.sequences.packed import Packed
from datasets.tables.columns import Columns

FLIP_COLUMNS = ("sequence", "target", "set", "validation")
GROUP_COLUMN, FOLD_COLUMN, ERROR_COLUMN = "group", "fold", "error"
"""Of a split that is written in FLIP's format and carries groups, folds, or the errors of targets."""
SEQUENCE = ("sequence", "seq", "protein", "protein_sequence", "mutated_sequence", "aa_sequence", "variant_sequence")
_TARGET = ("target", "fitness", "score", "dms_score", "activity", "y", "value", "measurement", "label")
_GROUP = ("group", "groups", "group_id", "cluster", "cluster_id", "family", "family_id")
MUTATION = ("mutant", "mutation", "mutations", "mutants", "variant", "variants", "mutation_string")


def is_flip_format(columns: Columns) -> bool:
    """Whether the table is laid out as FLIP's: it says which rows are test and which validation."""
    return all(name in columns.cells for name in FLIP_COLUMNS)


def is_written_split(columns: Columns, named: Sequence[str | None]) -> bool:
    """Whether a table that was read before is now its split as a search wrote it, and not the file itself.

    `named`: the columns that the file was read by. A file of a user may be laid out as FLIP's too, but then it still
    has these.
    """
    known = (*FLIP_COLUMNS, GROUP_COLUMN, FOLD_COLUMN, ERROR_COLUMN)
    return is_flip_format(columns) and not any(name in columns.cells and name not in known for name in named)


def sequence_column(columns: Columns, named: str | None) -> str | None:
    """Return the column of whole sequences, None if there is none; a UserError if the named one is missing."""
    return named_column(columns, named, "--sequence-column") or _known(columns, SEQUENCE)


def mutation_column(
    columns: Columns, named: str | None, taken: Sequence[str | None], first_position: int = 1, *, chains: str = ""
) -> str | None:
    """Return the column of mutations, by its name or, among those that are not taken, by what it holds.

    `chains`: their names, which stand before mutations.
    """
    if named is not None:
        return named_column(columns, named, "--mutation-column")

    def fits(cells: Packed) -> bool:
        return are_mutations(cells, first_position, chains=chains)

    by_name = _known(columns, MUTATION)
    if by_name is not None and by_name not in taken and fits(columns.cells[by_name]):
        return by_name
    found = [name for name, cells in columns.cells.items() if name not in taken and fits(cells)]
    return found[0] if len(found) == 1 else None


def refuse_lost_header(
    columns: Columns, named: str | None, wild_type: str | None, first_position: int, *, chains: str = ""
) -> None:
    """Refuse a table whose first line is a variant as those below it are, which would be lost as the names of columns.

    `named`: the column of mutations, as the user calls it.
    """
    for name, cells in columns.cells.items():
        is_variant = reads_as_variant(name, wild_type, first_position, chains=chains)
        is_called_so = name == named and is_wild_type(name)
        if is_variant and not is_called_so and are_mutations(cells, first_position, chains=chains):
            raise lost_header(columns.header or f"{columns.where}, {columns.place} 1", name)


def reads_as_variant(name: str, wild_type: str | None, first_position: int = 1, *, chains: str = "") -> bool:
    """Whether the name of a column is a mutation of the wild type, or WT, as its cells may be."""
    if wild_type is None or chains:
        return is_wild_type(name) or are_mutations([name], first_position, chains=chains)
    try:
        Mutator(wild_type, first_position, has_gaps=True).apply(name)
    except MutationError:
        return False
    return True


def lost_header(header: str, name: str, hint: str = "") -> UserError:
    """The error for a file that begins with a variant; `header` is where its columns should be named."""
    return UserError(
        f"{header}: {name[:60]!r} reads as a variant, as the cells below it do, where the names of columns are "
        f"expected: write a header, such as 'mutations', above it{hint}."
    )


def target_column(columns: Columns, named: str | None) -> str:
    """Return the column of what was measured; a UserError lists the columns if it is not known."""
    found = named_column(columns, named, "--target-column") or _known(columns, _TARGET)
    if found is None:
        raise _missing(columns, "target", "--target-column, or each column of replicates with --replicate-column")
    return found


def replicate_columns(columns: Columns, named: Sequence[str]) -> str:
    """Return what the named columns of replicates are called together; a UserError if one is missing or named twice."""
    for number, name in enumerate(named):
        named_column(columns, name, "--replicate-column")
        if name in named[:number]:
            raise UserError(f"--replicate-column {name!r} is named twice: name each column of measurements once.")
    return ", ".join(named)


def possible_group_column(columns: Columns) -> str | None:
    """Return the column that names groups, by its name and its cells: three groups or more, none empty, and some of
    several rows. None if there is none.
    """
    name = _known(columns, _GROUP)
    if name is None:
        return None
    groups = [cell.strip() for cell in columns.cells[name]]
    return name if all(groups) and 3 <= len(set(groups)) <= len(groups) / 2 else None


def possible_fold_columns(columns: Columns) -> list[str]:
    """Return the columns that are called as folds are: `fold`, `fold_random_5`, `cv_fold`."""
    return [name for name in columns.cells if re.fullmatch(r"(cv[_ -]?)?folds?([_ -]?\w{1,20})?", name, re.IGNORECASE)]


def column_again(columns: Columns, named: str | None, written: str) -> str | None:
    """Return the column of a table that was read before: as it was named, or as a `written` split calls it."""
    return written if named is not None and named not in columns.cells and written in columns.cells else named


def group_column_again(columns: Columns, named: str | None, is_carried: bool) -> str | None:
    """Return the column of groups of a table that was read before: as it was named, or as a written split has it."""
    names = (named, GROUP_COLUMN) if is_carried else (named,)
    return next((name for name in names if name in columns.cells), None) if named is not None else None


def no_properties(columns: Columns, properties: Sequence[str]) -> UserError:
    """The error for the written split of one of several properties, which lacks what the others were measured of."""
    return UserError(
        f"{columns.where} is the split of one property, and {_shown(properties)} were divided together: name the table "
        "itself with --data."
    )


def no_sequences(columns: Columns, chains: str) -> UserError:
    """The error for a table with neither sequences nor mutations (of `chains`, by their names)."""
    fitting = [name for name, cells in columns.cells.items() if are_mutations(cells, chains=chains)]
    if len(fitting) > 1:
        raise UserError(
            f"{columns.where} has several columns that read as mutations, {_shown(fitting)}: name the one that counts "
            "with --mutation-column."
        )
    name = _known(columns, MUTATION)
    at = None if name is None else first_other(columns.cells[name], chains)
    if name is not None and at is not None:  # all but a few cells of a column that is called so
        return UserError(
            f"{columns.where}, {columns.place} {columns.lines[at]}: {columns.cells[name][at].strip()[:60]!r} in "
            f"{name!r} is no mutation such as V39A: correct the {columns.place}, or name the columns with "
            "--sequence-column or --mutation-column."
        )
    return _missing(
        columns, "sequence", "--sequence-column, or one of mutations such as V39A:D40G with --mutation-column"
    )


def named_column(columns: Columns, name: str | None, option: str) -> str | None:
    """Return the column that an option names, None if it names none; a UserError if there is no such column."""
    if name is None or name in columns.cells:
        return name
    names = list(columns.cells)
    raise UserError(
        f"{columns.where} has no column {_shown([name])} ({option}); its columns are {_shown(names)}."
        f"{nearest(name, names)}"
    )


def _known(columns: Columns, known: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(list(columns.cells))}
    return next((by_lower[name] for name in known if name in by_lower), None)


def _is_joined(columns: Columns, name: str) -> bool:
    """Whether a column was made of those of several chains, and stands in no file."""
    parts = name.split(", ")
    return len(parts) > 1 and columns.cells.keys() >= set(parts)


def _missing(columns: Columns, what: str, option: str) -> UserError:
    names = [name for name in columns.cells if not _is_joined(columns, name)]
    single = (
        " (cells have to be divided by commas, tabs or semicolons)"
        if len(names) == 1 and columns.kind in ("CSV", "TSV")
        else ""
    )
    header = columns.header or f"{columns.where}, {columns.place} 1"
    return UserError(
        f"{header}: no column is called {what!r} or the like; its columns are "
        f"{_shown(names)}{single}: name the right one with {option}."
    )


def _shown(names: Sequence[str]) -> str:
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in names[:12]]
    return ", ".join(map(repr, shown)) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
