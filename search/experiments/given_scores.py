"""Whether scores that are given for candidates are of use to an experiment's model."""

from collections.abc import Callable, Sequence
from pathlib import Path

from datasets.common.errors import UserError
from datasets.scores.description import ScoreConfig, SourceKind


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
