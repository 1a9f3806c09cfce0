"""Ranked candidates as a table: written to a file, or as columns for programs."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from datasets.candidates.outside import outside_reasons
from datasets.common.errors import UserError
from datasets.common.files import output
from search.prediction.writers import CALIBRATED, Kind, kind_of, no_formula, tails
from search.properties.ranking import Part, RankedCandidates

_OF_EACH = ("prediction", "std", "distance", "outside")
_ROWS = 65536  # written at a time
_WHOLE = ("rank", "front")


def check_kind(path: Path) -> Kind:
    """What is written to a path; see `search.prediction.writers.kind_of`.

    Raises:
        UserError: It is no table.
    """
    kind = kind_of(path)
    if kind == "fasta":
        raise UserError(
            f"--output {path}: FASTA is of the command `predict` with one experiment and without --require; name a "
            ".csv, .tsv or .parquet file."
        )
    return kind


def names_of(found: RankedCandidates) -> tuple[str, ...]:
    """The names of the columns; those of a property end in its name where there are several."""
    first = ["rank", *found.order.by, found.label]
    for number in range(len(found.properties)):
        first += [f"{name}{_ending(found, number)}" for name in _kinds(found, number)]
    return (*first, *(["name"] if found.request.names else []))


def write_table(found: RankedCandidates, path: Path) -> None:
    """Write the candidates, beside and moved into place.

    Raises:
        UserError: The file cannot be written.
    """
    kind, names = check_kind(path), names_of(found)
    if kind == "parquet":
        with output(path, "wb") as file:
            _write_parquet(found, names, file)
        return
    with output(path) as file:
        writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",", lineterminator="\n")
        writer.writerow(names)
        writer.writerows(_rows(found, is_for_people=True))


def columns_of(found: RankedCandidates) -> dict[str, Any]:
    """The columns by their names, as arrays of numbers (NaN where a cell is empty) and lists of texts.

    `pandas.DataFrame` makes a table of them.
    """
    chosen = found.chosen
    place = {row: number for number, row in enumerate(chosen.tolist())}
    labels, called = [""] * len(chosen), [""] * len(chosen)
    distances = [np.full(len(chosen), -1, dtype=np.int64) for _ in found.properties]
    for part in found.parts():
        at = [place[row] for row in part.rows.tolist()]
        names = part.candidates.names or [""] * len(at)
        for number, label, name in zip(at, part.candidates.labels, names, strict=True):
            labels[number], called[number] = label, name
        for kept, distance in zip(distances, part.distances, strict=True):
            if distance is not None:
                kept[at] = distance
    table: dict[str, Any] = {"rank": found.order.ranks[chosen]}
    table |= {name: values[chosen] for name, values in found.order.by.items()}
    table[found.label] = labels
    for number, own in enumerate(found.columns):
        ending, nothing = _ending(found, number), np.full(len(chosen), np.nan, dtype=np.float32)
        table[f"prediction{ending}"] = own.prediction[chosen]
        table[f"std{ending}"] = nothing if own.std is None else own.std[chosen]
        table[f"distance{ending}"] = nothing if found.request.no_distance else distances[number]
        bits = own.outside[chosen]
        table[f"outside{ending}"] = [outside_reasons(bit) for bit in bits.tolist()]
        if own.calibrated is not None:
            for name, values in zip(
                CALIBRATED, (own.calibrated.low, own.calibrated.high, own.calibrated.std), strict=True
            ):
                some = values[chosen].astype(np.float64)
                table[f"{name}{ending}"] = np.where((bits > 0) | ~np.isfinite(some), np.nan, some)
    return {**table, "name": called} if found.request.names else table


def _ending(found: RankedCandidates, number: int) -> str:
    return f"_{found.properties[number].name}" if len(found.properties) > 1 else ""


def _kinds(found: RankedCandidates, number: int) -> tuple[str, ...]:
    return (*_OF_EACH, *(CALIBRATED if found.columns[number].calibrated is not None else ()))


def _rows(found: RankedCandidates, *, is_for_people: bool) -> Iterator[list[str]]:
    """The cells of each row as text; those of the best in the order of their ranks, of which all are in memory."""
    if found.request.top is None:
        for part in found.parts():
            yield from _cells(found, part, is_for_people=is_for_people)
        return
    texts: dict[int, list[str]] = {}
    for part in found.parts():
        texts.update(zip(part.rows.tolist(), _cells(found, part, is_for_people=is_for_people), strict=True))
    for row in found.chosen.tolist():
        yield texts[row]


def _cells(found: RankedCandidates, part: Part, *, is_for_people: bool) -> Iterator[list[str]]:
    """Numbers have the digits that `predict` writes of one experiment."""
    rows = part.rows
    unnamed = replace(part.candidates, names=None)
    ranks = found.order.ranks[rows].tolist()
    by = list(zip(*(_texts(values[rows]) for values in found.order.by.values()), strict=True)) or [()] * len(rows)
    of_each = [
        tails(own.block(unnamed, rows, distance), "tsv")
        for own, distance in zip(found.columns, part.distances, strict=True)
    ]
    names = part.candidates.names or [""] * len(rows)
    for rank, before, name, *texts in zip(ranks, by, names, *of_each, strict=True):
        split = [text.removesuffix("\n").split("\t") for text in texts]
        cells = [str(rank), *before, split[0][1]]
        for one in split:
            cells += one[2:]
        yield [*cells, no_formula(name) if is_for_people else name] if found.request.names else cells


def _texts(values: Any) -> list[str]:
    if values.dtype.kind == "i":
        return list(map(str, values.tolist()))
    return [f"{value:.6g}" for value in values.tolist()]


def _write_parquet(found: RankedCandidates, names: Sequence[str], file: IO[bytes]) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]  # here because it is heavy
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    texts = {found.label, "name", *(f"outside{_ending(found, number)}" for number in range(len(found.properties)))}
    whole = {*_WHOLE, *(f"distance{_ending(found, number)}" for number in range(len(found.properties)))}
    as_type: dict[str, Callable[[str], Any]] = {
        name: str if name in texts else int if name in whole else float for name in names
    }
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, types[as_type[name]]) for name in names])  # type: ignore[index]
    writer = pq.ParquetWriter(file, schema)
    try:
        some: list[list[str]] = []
        for cells in _rows(found, is_for_people=False):
            some.append(cells)
            if len(some) == _ROWS:
                writer.write_table(_arrow(pa, some, schema, as_type))
                some = []
        if some:
            writer.write_table(_arrow(pa, some, schema, as_type))
    finally:
        writer.close()


def _arrow(pa: Any, rows: Sequence[Sequence[str]], schema: Any, as_type: dict[str, Callable[[str], Any]]) -> Any:
    arrays = []
    for field, cells in zip(schema, zip(*rows, strict=True), strict=True):
        of = as_type[field.name]
        values = list(cells) if of is str else [of(cell) if cell else None for cell in cells]
        arrays.append(pa.array(values, type=field.type))
    return pa.table(arrays, schema=schema)
