"""Readings of the test set in the study's database, beside those in the ledger: where the study is, they are known.

Each stands under a key of its own, so that several processes that confirm at once overwrite nothing of each other, and
writing one again changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna import Study

from datasets.common.errors import UserError
from search.experiments.ledger import Reading
from search.storage.attributes import MANIFEST, READING
from search.storage.database import Database
from search.study.question import Question
from search.study.study import find_study, study_id

if TYPE_CHECKING:
    from search.experiments.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class NotedReading:
    """A reading as far as it is counted; `study` is the name of the study that read."""

    id: str
    study: str
    question: Question


def noted_readings(study: Study) -> list[NotedReading]:
    """The readings that stand in a study's database, in no order."""
    found = []
    for key, about in study.user_attrs.items():
        if key.startswith(READING):
            names = ("task", "data", "data_hash", "target", "split")
            asked = Question(**{name: about.get(name) for name in names})
            found.append(NotedReading(id=key.removeprefix(READING), study=study.study_name, question=asked))
    return found


def note_readings(database: Database, experiment: "Experiment", found: Sequence[Reading]) -> None:
    """Write the readings of an experiment's study that its database lacks.

    Raises:
        UserError: The database has no such study, or cannot be written.
    """
    name = experiment.provenance.study
    with database.guarded(name):
        study = _own_study(database, experiment)
        known = study.user_attrs.keys()
        for reading in found:
            if reading.study == name and READING + reading.id not in known:
                study.set_user_attr(READING + reading.id, _row(reading))


def _row(reading: Reading) -> dict[str, object]:
    names = ("when", "experiment", "trial", "task", "data", "data_hash", "target", "split")
    return {name: getattr(reading, name) for name in names}


def _own_study(database: Database, experiment: "Experiment") -> Study:
    """The study that an experiment is of.

    Raises:
        UserError: There is none of its name, or that is another study.
    """
    before = experiment.provenance
    study = find_study(database, before.study)
    about, known = study.user_attrs.get(MANIFEST, {}), study_id(study)
    is_other = None not in (before.study_id, known) and before.study_id != known
    if is_other or about.get("data_hash") != before.data_hash or about.get("task") != experiment.config.task:
        raise UserError(f"Study {before.study!r} in {database.name} is not the study of the experiment.")
    return study
