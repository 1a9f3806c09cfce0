"""What an experiment is given of candidates: sequences and scores from Python, and scores that are of no use to it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.scores.description import ScoreConfig, SourceKind


def texts_of(sequences: Iterable[str]) -> list[str]:
    """The sequences as a list, of whatever kind they come in."""
    if isinstance(sequences, (str, bytes)):
        raise TypeError("predict takes many sequences, not one: put it into a list.")
    # Of a mapping or a table the names would be predicted, and a set has no order that predictions could follow.
    if (
        not isinstance(sequences, Iterable)
        or isinstance(sequences, (Mapping, set, frozenset))
        or hasattr(sequences, "columns")
    ):
        raise TypeError(f"predict takes a list of sequences, not a {type(sequences).__name__}: make a list of it.")
    try:
        texts = list(sequences)
    except TypeError as error:  # an array of no dimension
        raise TypeError(f"predict takes a list of sequences ({error}): make a list of them.") from None
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            shown = " ".join(repr(text).split())[:40]
            raise UserError(
                f"Sequence {row} (counted from 0): {shown} is of type {type(text).__name__}, expected a text (str) of "
                "residues; correct it or leave it out."
            )
    return texts


def columns_of(scores: Mapping[str, Sequence[float]], n: int) -> dict[str, NDArray[np.float32]]:
    """Score columns (n) of n sequences by their names."""
    columns = {}
    for name, values in scores.items():
        try:
            with np.errstate(over="ignore"):
                column = np.asarray(values, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"The scores {name!r} are no numbers ({error}): give a number or NaN for each.") from None
        if np.isinf(column).any():
            raise UserError(f"The scores {name!r} hold infinite numbers: give NaN where a score is missing.")
        if column.shape != (n,):
            raise UserError(f"The scores {name!r} have the shape {column.shape}, expected a number for each of {n:,}.")
        columns[name] = column
    return columns


def check_given(
    scores: ScoreConfig | None,
    experiment: Path,
    announce: Callable[[str], None],
    *,
    file: Path | None,
    given: Sequence[str],
    alignment: Path | None,
) -> None:
    """Refuse scores of a kind that training had none of; announce those of a kind that the model does not see.

    `scores` are those of the experiment's training; `file`, `given` (the names of columns) and `alignment` are what
    candidates have, where they have any.

    Raises:
        UserError: Training had no such scores.
    """
    if file is not None:
        _check_kind(scores, experiment, announce, "--zero-shot-file", "a table or a file", ("table", "file"))
    if alignment is not None:
        _check_kind(scores, experiment, announce, "--alignment", "an alignment", ("alignment",))
    if given and scores is None:
        raise UserError(
            f"{experiment} was trained without score columns, and {', '.join(given)} would change nothing: leave them "
            "out."
        )


def _check_kind(
    scores: ScoreConfig | None,
    experiment: Path,
    announce: Callable[[str], None],
    option: str,
    what: str,
    kinds: tuple[SourceKind, ...],
) -> None:
    if scores is None or not any(source.kind in kinds for source in scores.sources):
        raise UserError(
            f"{experiment} was trained without scores of {what}, so that {option} would change nothing: leave it out."
        )
    if not any(source.kind in kinds for source in scores.seen):
        announce(f"{option} is passed over: the model sees no column of it (scores.use={scores.use}).")
