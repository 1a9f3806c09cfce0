"""Tables as users have them, written for a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets.tables.survey import Survey, survey
from datasets.tables.table import Table
from datasets.tasks.synthetic import WILD_TYPE, fitness

SITES = (9, 12, 15, 20)  # 0-based
_RESIDUES = "ACDEF"


def variants() -> list[tuple[str, str, float]]:
    """Mutations, sequence and fitness of each combination of the wild type's and five other residues at four sites."""
    rows: list[tuple[str, str, float]] = [("", WILD_TYPE, 0.0)]
    for site in SITES:
        new = [residue for residue in _RESIDUES if residue != WILD_TYPE[site]]
        rows += [
            (f"{text}:{WILD_TYPE[site]}{site + 1}{residue}", sequence[:site] + residue + sequence[site + 1 :], 0.0)
            for text, sequence, _ in rows
            for residue in new
        ]
    return [(text.lstrip(":") or "WT", sequence, fitness(sequence)) for text, sequence, _ in rows]


def write(path: Path, header: str, rows: Sequence[Sequence[Any]], *, end: str = "\n", encoding: str = "utf-8") -> Path:
    """Write a table with the delimiter of its header."""
    delimiter = "\t" if "\t" in header else ";" if ";" in header else ","
    lines = [header, *(delimiter.join(map(str, row)) for row in rows)]
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


def table(path: Path, **changes: Any) -> Table:
    """A table of which nothing is known but what is named."""
    unknown: dict[str, Any] = {
        "file": str(path),
        "sequence_column": None,
        "mutation_column": None,
        "target_column": None,
        "group_column": None,
        "wild_type": None,
        "sites": None,
        "window": None,
        "split": None,
        "max_train_mutations": None,
        "split_seed": 0,
        "replicates": None,
    }
    return Table(**{**unknown, **changes})


def surveyed(path: Path, **changes: Any) -> Survey:
    return survey(path, table(path, **changes))
