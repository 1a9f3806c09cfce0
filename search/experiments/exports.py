"""Where a study's best trial is exported to: what another study exported, or one that knows more, is not replaced.

Of a study called NAME that is NAME.yaml. Where an experiment stands there that has to stay, it is NAME-2.yaml, and so
on: the first place that is free or that the study may write to, so that repeated calls come to the same one.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from optuna import Study
from optuna.trial import FrozenTrial

from datasets.common.errors import UserError
from search.experiments.experiment import Provenance, load_experiment
from search.storage.attributes import RESULT
from search.study.study import count, study_id

_LOCK = ".exports.lock"
_PATIENCE_S = 120.0  # an export copies weights at most
_MOST_PLACES = 100


@contextlib.contextmanager
def export_lock(folder: Path) -> Iterator[None]:
    """Nobody else exports into the folder meanwhile.

    Raises:
        UserError: Another process has done so for minutes, or the lock cannot be taken.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=_PATIENCE_S)
    except Timeout:
        raise UserError(
            f"Another process has been exporting into {folder} for {_PATIENCE_S:g} s: see what it does, then run the "
            "same command again, which exports what was found."
        ) from None
    except OSError as error:
        raise UserError(f"The lock {folder / _LOCK} cannot be taken ({error.strerror}): see to it.") from None
    try:
        yield
    finally:
        lock.release()


def choose_place(wanted: Path, study: Study, announce: Callable[[str], None]) -> Path:
    """The first place for the study's experiment whose file, if there is one, it may replace.

    To be called under the lock. `announce` is told which file stays, and why.

    Raises:
        UserError: There is none among the first hundred.
    """
    trials = study.get_trials(deepcopy=False)
    sentence = None
    for place in _places(wanted):
        why = _why_it_stays(place, study, trials)
        if why is None:
            if sentence is not None:
                announce(f"{sentence}: it stays, and this export is written to {place}.")
            return place
        sentence = sentence or f"{place} {why}"
    raise UserError(f"{wanted.parent} holds {_MOST_PLACES} experiments called {wanted.stem}: move some of them away.")


def find_export(wanted: Path, study: Study) -> Path | None:
    """The study's experiment that knows most, wherever `choose_place` had it written; None where there is none."""
    own: list[tuple[int, Path]] = []
    for place in _places(wanted):
        before = _provenance(place) if place.exists() else None  # somebody may have moved one of them away
        if before is not None and _is_of(before, study):
            own.append((before.n_finished, place))
    return max(own, key=lambda one: one[0])[1] if own else None


def _places(wanted: Path) -> Iterator[Path]:
    yield wanted
    for number in range(2, _MOST_PLACES + 1):
        yield wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")


def _why_it_stays(place: Path, study: Study, trials: Sequence[FrozenTrial]) -> str | None:
    """Why the file must not be replaced by the study's export; None if it may, or if there is none."""
    if not place.exists() and not place.is_symlink():
        return None
    before = _provenance(place)
    if before is None:
        return "is no experiment of one trial that this version wrote and nobody changed"
    if not _is_of(before, study):
        return f"is the experiment of another study ({before.study}, exported {before.date})"
    n_finished = count(trials).n_finished
    if n_finished < before.n_finished:
        return (
            f"was exported when study {before.study} had {before.n_finished} finished trials, of which this database "
            f"has {n_finished}"
        )
    if not _is_known(before, trials):
        return f"holds trial {before.trial} of study {before.study}, which is not in this database"
    return None


def _provenance(place: Path) -> Provenance | None:
    """Of the experiment of one trial; None where something else stands, or nothing."""
    try:
        found = load_experiment(place)
    except UserError:
        return None
    return found.provenance if found.ensemble is None else None


def _is_of(before: Provenance, study: Study) -> bool:
    """Whether an experiment is of the study; what older versions exported names it alone."""
    if before.study_id is None:
        return before.study == study.study_name
    return before.study_id == study_id(study)


def _is_known(before: Provenance, trials: Sequence[FrozenTrial]) -> bool:
    """Whether the trial of an experiment is among the trials: the same numbers, found in the same time."""
    for trial in trials:
        result = trial.user_attrs.get(RESULT)
        if trial.number == before.trial and isinstance(result, dict):
            try:
                values = [list(fold) for fold in result["values"]]
                return values == before.values and round(float(result["seconds"]), 3) == before.seconds
            except (KeyError, TypeError, ValueError, OverflowError):
                return False
    return False
