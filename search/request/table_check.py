"""What `data check` finds in a table, as values for programs."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from datasets.tables.table import check_strategy
from search.options.table_options import check_reading
from search.request.fields import several
from search.request.search_request import TableOptions, in_order
from search.request.user_table import refuse_two_splits, survey_of

if TYPE_CHECKING:
    from datasets.tables.findings import Finding
    from datasets.tables.report import SplitSizes
    from datasets.tables.suggestion import Suggestion

_LISTS = ("replicate_columns", "zero_shot_columns", "properties")
_PATHS = ("wild_type",)
_WHOLE = ("split_seed", "max_train_mutations")


@dataclass(frozen=True, kw_only=True)
class TableCheck:
    """What a table holds, and what a search would do with it.

    Attributes:
        path: The file. kind: "CSV", "TSV", "FASTA", "Parquet" or "Excel".
        n_rows: Its rows. n_variants: Its variants with a measurement, each once; replicates are merged.
        n_residues: The shortest and the longest of them. aligned_length: The columns of aligned sequences, gaps
            included; None where no sequence has a gap. chains: Their names and columns, `H120 L107`; None of one chain.
        sequence_column, mutation_column, target_column, group_column: Those that are read, None where there is none.
        wild_type: Its residues, None where it is not known. first_position: The number of the first of them.
        reliability: The share of the targets' variance that is not noise; None without replicates.
        findings: What is unusual, each with its level ("refused" is what no search accepts), text, remedy and lines.
        splits: The file's own split or the one that was asked for, or else all that there could be, in variants.
        suggestion: The split to begin with, as words of the command line, and why; None where there is one already.
    """

    path: Path
    kind: str
    n_rows: int
    n_variants: int
    n_residues: tuple[int, int]
    aligned_length: int | None
    chains: str | None
    sequence_column: str | None
    mutation_column: str | None
    target_column: str
    group_column: str | None
    wild_type: str | None
    first_position: int
    reliability: float | None
    findings: "tuple[Finding, ...]"
    splits: "tuple[SplitSizes, ...]"
    suggestion: "Suggestion | None"

    @property
    def is_accepted(self) -> bool:
        """Whether a search takes the table as it is, once its split is named."""
        return all(finding.level != "refused" for finding in self.findings)


def checked_table(path: str | os.PathLike[str], reading: dict[str, Any]) -> TableCheck:
    """Check a table; see `search.check_table`."""
    _check_types(path, reading)
    path = Path(path)
    # Imported as late as this, so that usage errors do not wait for NumPy.
    from datasets.tables.report import split_sizes, written_wild_type
    from datasets.tables.suggestion import suggest

    if reading.get("wild_type") is not None:
        reading = {**reading, "wild_type": Path(reading["wild_type"])}
    lists = {name: several(name, reading[name]) for name in _LISTS if name in reading}
    if "properties" in lists:
        lists["properties"] = in_order(lists["properties"])
    options = TableOptions(**{**reading, **lists, "data": path})
    if options.split is not None:
        check_strategy(options.split)
    check_reading(argparse.Namespace(**{item.name: getattr(options, item.name) for item in fields(options)}))
    found = survey_of(path, options)
    refuse_two_splits(found)
    table, lengths = found.table, found.common.lengths
    assert table.target_column is not None, "a survey finds it"
    return TableCheck(
        path=path,
        kind=found.columns.kind,
        n_rows=len(found.columns),
        n_variants=len(found.sequences),
        n_residues=(int(lengths.min()), int(lengths.max())),
        aligned_length=table.aligned_length,
        chains=table.chains,
        sequence_column=table.sequence_column,
        mutation_column=table.mutation_column,
        target_column=table.target_column,
        group_column=table.group_column,
        wild_type=written_wild_type(table),
        first_position=table.first_position,
        reliability=None if found.noise is None else found.noise.reliability,
        findings=tuple(found.findings.found),
        splits=tuple(split_sizes(found)),
        suggestion=suggest(found) if table.split is None and found.division is None else None,
    )


def _check_types(path: object, reading: dict[str, Any]) -> None:
    """Refuse what is no path, no text or no number where one is expected; `first_position` is checked with the table.

    Raises:
        UserError: A value is of another type.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"The table is given as a value of type {type(path).__name__}: expected the path of a file.")
    for name, value in reading.items():
        if value is None or name in (*_LISTS, "first_position"):
            continue
        if name in _PATHS:
            is_fit, expected = isinstance(value, str | os.PathLike), "the path of a file"
        elif name in _WHOLE:
            is_fit, expected = isinstance(value, int) and not isinstance(value, bool), "a whole number"
        elif name == "sequence_column" and isinstance(value, Sequence) and not isinstance(value, str):
            is_fit, expected = all(isinstance(one, str) for one in value), "a text, or one for each chain"
        else:
            is_fit, expected = isinstance(value, str), "a text"
        if not is_fit:
            raise UserError(f"{name} is of type {type(value).__name__}: expected {expected}.")
