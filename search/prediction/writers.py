"""Ranked candidates as files: CSV, TSV, FASTA or Parquet, written beside and moved into place."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import Candidates
from datasets.candidates.columns import Label
from datasets.candidates.outside import N_COMBINATIONS, outside_reasons
from datasets.common.errors import UserError
from datasets.common.files import is_stream, output, place_of
from search.stats.calibration import Calibrated

Kind = Literal["csv", "tsv", "fasta", "parquet"]
KINDS: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    **dict.fromkeys((".fasta", ".fa", ".faa"), "fasta"),
}
_REASONS = [outside_reasons(bits) for bits in range(N_COMBINATIONS)]
_QUOTE = '"'
_FORMULA = tuple("=+-@＝＋－＠")  # with what a cell begins that spreadsheets run
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_RANK = "\0"  # where a record of FASTA, whose name comes first, has its rank
_CHANCE = "\1"  # where a row has its chance once that is known; nothing but a sequence stands behind it
CALIBRATED = ("low", "high", "std_calibrated")
P_TOP = "p_top"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PredictedBlock:
    """n candidates with prediction (n,) in the assay's unit, standard deviation and distance (n,) or None, the bits
    (n,) of `datasets.candidates.outside`, and what is calibrated, which is said of none that lies outside.

    Where `awaits_chance`, their rows have a place for `with_chances`. `written` is `Task.written`, which puts a sign
    between the chains of a sequence.
    """

    candidates: Candidates
    prediction: NDArray[np.float32]
    std: NDArray[np.float32] | None
    distance: NDArray[np.int32] | None
    outside: NDArray[np.uint8]
    calibrated: Calibrated | None = None
    awaits_chance: bool = False
    written: Callable[[str], str] = str


def kind_of(path: Path) -> Kind:
    """What is written to a path, by its ending; CSV to a stream whose name says nothing.

    Raises:
        UserError: The ending is not known.
    """
    kind = KINDS.get(path.suffix.lower(), "csv" if is_stream(path) else None)
    if kind is None:
        raise UserError(f"--output {path} ends in none of {', '.join(KINDS)}: name a file that says its format.")
    return kind


def tails(predicted: PredictedBlock, kind: Kind) -> list[str]:
    """Each row as text, without its rank; numbers have all the digits that their type has."""
    candidates = predicted.candidates
    n = len(candidates)
    prediction = [f"{value:.9g}" for value in predicted.prediction.tolist()]
    std = [""] * n if predicted.std is None else [f"{value:.4g}" for value in predicted.std.tolist()]
    distance = [""] * n if predicted.distance is None else list(map(str, predicted.distance.tolist()))
    outside = [_REASONS[bits] for bits in predicted.outside.tolist()]
    last = _last_cells(predicted, kind)
    if candidates.names is not None and kind != "fasta":
        outside = _with_names(outside, candidates.names, kind)
    if kind == "fasta":
        texts = list(map(predicted.written, candidates.sequences()))
        starts = [f">{name} " if name else ">" for name in candidates.names or [""] * n]
        labels = [
            "" if label == text else f" mutations={label}" for label, text in zip(candidates.labels, texts, strict=True)
        ]
        return [
            f"{start}rank={_RANK}{label} prediction={p} std={s} distance={d} outside={o.replace(' ', ',')}{c}\n{text}\n"
            for start, label, p, s, d, o, c, text in zip(
                starts, labels, prediction, std, distance, outside, last, texts, strict=True
            )
        ]
    rows = zip(candidates.labels, prediction, std, distance, outside, last, strict=True)
    if kind == "tsv":
        return [f"\t{label}\t{p}\t{s}\t{d}\t{o}{c}\n" for label, p, s, d, o, c in rows]
    return [f",{label},{p},{s},{d},{o}{c}\n" for label, p, s, d, o, c in rows]


def _last_cells(predicted: PredictedBlock, kind: Kind) -> Sequence[str]:
    """What stands at the ends of rows: what is calibrated, empty where a row lies outside, and a place for a chance."""
    found, is_outside = predicted.calibrated, predicted.outside > 0
    if found is None:
        return [""] * len(is_outside)
    columns = [
        ["" if is_none else f"{value:.6g}" for value, is_none in zip(of.tolist(), is_outside.tolist(), strict=True)]
        for of in (found.low, found.high, found.std)
    ]
    columns[:2] = [["" if cell.endswith("inf") else cell for cell in column] for column in columns[:2]]
    names: Sequence[str] = CALIBRATED
    if predicted.awaits_chance:
        names, columns = (*names, P_TOP), [*columns, [_CHANCE] * len(is_outside)]
    starts = [f" {name}=" for name in names] if kind == "fasta" else ["\t" if kind == "tsv" else ","] * len(names)
    return ["".join(map("".join, zip(starts, cells, strict=True))) for cells in zip(*columns, strict=True)]


def with_chances(rows: Sequence[str], chances: NDArray[np.float32], is_outside: NDArray[np.bool_]) -> list[str]:
    """The rows (n) with their chances (n,); empty where a row lies outside."""
    texts = ["" if is_none else f"{p:.3g}" for p, is_none in zip(chances.tolist(), is_outside.tolist(), strict=True)]
    parts = [row.rpartition(_CHANCE) for row in rows]
    return [f"{before}{text}{after}" for (before, _, after), text in zip(parts, texts, strict=True)]


def _with_names(last: Sequence[str], names: Sequence[str], kind: Kind) -> list[str]:
    """The last column and, behind it, the names; a row of Parquet is divided at its first commas."""
    divider = "\t" if kind == "tsv" else ","
    if kind != "parquet":
        names = list(map(no_formula, names))
        names = [
            f'"{name.replace(_QUOTE, 2 * _QUOTE)}"' if divider in name or _QUOTE in name else name for name in names
        ]
    return [f"{text}{divider}{name}" for text, name in zip(last, names, strict=True)]


def no_formula(name: str) -> str:
    """A name with a quote in front where a spreadsheet would run it; numbers stay numbers."""
    return f"'{name}" if name.startswith(_FORMULA) and not _NUMBER.fullmatch(name) else name


class Output(Protocol):
    """Takes rows in the order of the file."""

    def write(self, ranks: Sequence[int], rows: Sequence[str]) -> None:
        """Add rows (n), as `tails` makes them, with their ranks (n)."""


class _Text:
    def __init__(self, file: IO[str], kind: Kind, columns: Sequence[str]) -> None:
        self._file = file
        self._is_fasta = kind == "fasta"
        if not self._is_fasta:
            file.write(("\t" if kind == "tsv" else ",").join(columns) + "\n")

    def write(self, ranks: Sequence[int], rows: Sequence[str]) -> None:
        numbers = map(str, ranks)
        if self._is_fasta:
            texts = [row.replace(_RANK, rank, 1) for rank, row in zip(numbers, rows, strict=True)]
            self._file.write("".join(texts))
        else:
            self._file.write("".join(chain.from_iterable(zip(numbers, rows, strict=True))))


class _Parquet:
    def __init__(self, file: IO[bytes], columns: Sequence[str]) -> None:
        # Here because they are heavy.
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        self._types = {"distance": int, **dict.fromkeys(("prediction", "std", *CALIBRATED, P_TOP), float)}
        kinds = {name: pa.int32() if of is int else pa.float32() for name, of in self._types.items()}
        kinds["rank"] = pa.int64()
        self._arrow = pa
        self._schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
        self._n_last = sum(name in (*CALIBRATED, P_TOP) for name in columns)
        self._writer: Any = pq.ParquetWriter(file, self._schema)

    def write(self, ranks: Sequence[int], rows: Sequence[str]) -> None:
        if not rows:
            return
        # A name, which stands before the last ones, may hold commas.
        n_first = len(self._schema) - self._n_last - 2
        ends = [row[1:-1].rsplit(",", self._n_last) for row in rows]
        cells = zip(*([*first.split(",", n_first), *last] for first, *last in ends), strict=True)
        arrays: list[list[Any]] = [list(ranks)]
        for name, texts in zip(self._schema.names[1:], cells, strict=True):
            of = self._types.get(name)
            arrays.append([of(text) if text else None for text in texts] if of else list(texts))
        self._writer.write_table(
            self._arrow.table(
                [self._arrow.array(array, type=field.type) for array, field in zip(arrays, self._schema, strict=True)],
                schema=self._schema,
            )
        )

    def close(self) -> None:
        self._writer.close()


def columns_of(
    label: Label, *, has_names: bool, is_calibrated: bool = False, has_chance: bool = False
) -> tuple[str, ...]:
    """The columns of a table of ranked candidates."""
    last = [*(["name"] if has_names else []), *(CALIBRATED if is_calibrated else []), *([P_TOP] if has_chance else [])]
    return ("rank", label, "prediction", "std", "distance", "outside", *last)


@contextlib.contextmanager
def opened(path: Path, kind: Kind, columns: Sequence[str]) -> Iterator[Output]:
    """An output that is at `path` when the block has ended well, and nowhere otherwise, unless it is a stream.

    The errors are those of `datasets.common.files.output`.
    """
    if kind != "parquet":
        with output(path) as file:
            yield _Text(file, kind, columns)
        return
    with output(path, "wb") as file:
        parquet = _Parquet(file, columns)
        try:
            yield parquet
        finally:
            parquet.close()


class Spool:
    """Rows on disk until their ranks are known, beside the output or, of a stream, where temporary files go.

    A UserError is raised where they cannot be kept.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self._lines_per_row = 2 if kind == "fasta" else 1
        self._folder = None if is_stream(path) else place_of(path).parent
        # It has no name (where the system can do that): nothing is left behind, whatever ends the process.
        try:
            self._file = tempfile.TemporaryFile("w+", dir=self._folder, encoding="utf-8", newline="\n")  # noqa: SIM115
        except OSError as error:
            raise self._failure(error) from None

    def add(self, rows: Sequence[str]) -> None:
        """Keep rows."""
        try:
            self._file.write("".join(rows))
        except OSError as error:
            raise self._failure(error) from None

    def rows(self, n: int) -> Iterator[list[str]]:
        """All rows, `n` at a time, in their order."""
        try:
            self._file.seek(0)  # which writes what is not written yet
        except OSError as error:
            raise self._failure(error) from None
        while lines := list(islice(self._file, n * self._lines_per_row)):
            yield lines if self._lines_per_row == 1 else list(map("".join, zip(lines[::2], lines[1::2], strict=True)))

    def close(self) -> None:
        """Give the space back."""
        with contextlib.suppress(OSError):  # it writes what is not written yet, which nobody wants
            self._file.close()

    def _failure(self, error: OSError) -> UserError:
        folder = self._folder or tempfile.tempdir or "a folder for temporary files"
        return UserError(
            f"The rows cannot be kept in {folder} until their ranks are known ({error.strerror or error}): make "
            "room there, name an --output elsewhere, or fewer rows with --top."
        )
