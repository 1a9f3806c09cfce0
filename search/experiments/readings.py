"""How often a test set was read: what ledgers and the database know, each reading once, and what could not be asked.

In the study's database each reading stands under a key of its own, so that several processes that confirm at once
overwrite nothing of each other, and writing one again changes nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from optuna import Study
from optuna.trial import TrialState

from datasets.common.errors import UserError
from search.experiments.files import ledger_file
from search.experiments.ledger import Reading, readable
from search.machine.standard_streams import printable
from search.storage.attributes import MANIFEST, READING, DamagedRow
from search.storage.database import Database
from search.storage.outages import StorageLost, StorageRefused
from search.storage.rows.damage import look_at
from search.study.question import Question, question_of
from search.study.study import find_study, study_id

if TYPE_CHECKING:
    from search.experiments.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Count:
    """How often one test set was read, as far as is known.

    by_study: "the study's name" -> n, without those that never did. missing: for each source that could not be asked a
    sentence. without_ledger: the studies that may have been confirmed, and whose ledger is not in `folder`. Without
    any of these, the numbers are exact.
    """

    by_study: Mapping[str, int]
    missing: tuple[str, ...] = ()
    without_ledger: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def is_exact(self) -> bool:
        """Whether every source was asked."""
        return not (self.missing or self.without_ledger)

    @property
    def n(self) -> int:
        """All readings that are known."""
        return sum(self.by_study.values())

    def of(self, study: str) -> int:
        """Those of one study."""
        return self.by_study.get(study, 0)

    @property
    def words(self) -> str:
        """`3 time(s)`, `at least 3 time(s)`, or that it is not known how often."""
        if self.is_exact:
            return f"{self.n} time(s)"
        return f"at least {self.n} time(s)" if self.n else "an unknown number of times"

    @property
    def sentences(self) -> list[str]:
        """What could not be asked."""
        return sentences_of([self])

    def short(self, study: str) -> str:
        """`read 2x, 5x in all`: how often a study read the test set, and how often all did."""
        own, every = self.of(study), self.n
        at_least = "" if self.is_exact else "at least "
        first = f"read {at_least}{own}x" if own or self.is_exact else "read an unknown number of times"
        return first if own == every else f"{first}, {at_least}{every}x in all"


def sentences_of(counts: Sequence[Count]) -> list[str]:
    """What could not be asked for these counts, each source once."""
    found = list(dict.fromkeys(sentence for count in counts for sentence in count.missing))
    names = dict.fromkeys(name for count in counts for name in count.without_ledger)
    if names:
        folder = next(count.folder for count in counts if count.without_ledger)
        where = "" if folder is None else f" in {folder}"
        found.append(f"There is no ledger of {', '.join(names)}{where}: name its folder with --export-dir.")
    return found


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
            asked = Question(**{part.name: about.get(part.name) for part in fields(Question)})
            found.append(NotedReading(id=key.removeprefix(READING), study=study.study_name, question=asked))
    return found


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What the ledgers of a folder and a database know.

    in_ledgers: the whole readings of the ledgers, the oldest first. noted: those of both, first the database's. folder:
    where ledgers were looked for, None for nowhere. studies: those of the database. missing: what concerns every
    question.
    """

    in_ledgers: tuple[Reading, ...]
    noted: tuple[NotedReading, ...]
    folder: Path | None
    studies: tuple[Study, ...]
    missing: tuple[str, ...]
    _questions: Mapping[str, Question | None] = field(repr=False)

    def count(self, asked: Question) -> Count:
        """How often the test set of a question was read."""
        # By the id only now: a reading of another test set takes no place from one of this, whatever its id.
        own = {one.id: one.study for one in self.noted if one.question.is_same(asked)}
        counts = Counter(own.values())
        without = tuple(self._without_ledger(asked))
        return Count(by_study=dict(counts), missing=self.missing, without_ledger=without, folder=self.folder)

    def _without_ledger(self, asked: Question) -> list[str]:
        """The studies with that question that may have been confirmed, and whose ledger is elsewhere."""
        found = []
        in_ledgers = {reading.study for reading in self.in_ledgers}
        for study in self.studies:
            own = self._questions[study.study_name]
            if own is None or not own.is_same(asked) or study.study_name in in_ledgers:
                continue
            if not self._is_exported_here(study.study_name) and _has_complete(study):
                found.append(study.study_name)
        return found

    def _is_exported_here(self, study: str) -> bool:
        """Whether the study's experiments are exported to the folder, where a confirmation leaves its ledger."""
        if self.folder is None:
            return False
        experiment = self.folder / f"{study}.yaml"
        return experiment.exists() or ledger_file(experiment).exists()


def find_readings(
    folder: Path | None, database: Database | None, *, loaded: Sequence[Study] = (), missing: Sequence[str] = ()
) -> Readings:
    """Ask both sources.

    Args:
        folder: Where experiments and their ledgers are; None where nobody named one.
        database: Where the studies are; None if it is not at hand, which `missing` says.
        loaded: Studies that were read already.
        missing: What is not known for another reason.
    """
    in_ledgers, broken = ((), []) if folder is None else readable(folder)
    missing = [*missing, *map(str, broken)]
    studies, unreadable = (list(loaded), []) if database is None else _studies(database, loaded)
    if unreadable:
        missing.append(f"What the database holds of {', '.join(map(printable, unreadable))} cannot be read.")
    noted = [one for study in studies for one in noted_readings(study)]
    noted += [NotedReading(id=one.id, study=one.study, question=one.question) for one in in_ledgers]
    return Readings(
        in_ledgers=in_ledgers,
        noted=tuple(noted),
        folder=folder,
        studies=tuple(studies),
        missing=tuple(missing),
        _questions={study.study_name: question_of(study.user_attrs.get(MANIFEST, {})) for study in studies},
    )


def _studies(database: Database, loaded: Sequence[Study]) -> tuple[list[Study], list[str]]:
    """All studies of ours in a database, and the names of those that cannot be read."""
    known = {study.study_name: study for study in loaded}
    studies, unreadable = [], []
    for name in database.storage.study_names():
        try:
            study = known.get(name) or find_study(database, name)
            _ = study.user_attrs
        except (StorageLost, StorageRefused):
            raise
        except DamagedRow:
            unreadable.append(name)
        except (UserError, KeyError):  # another program's, or deleted meanwhile; or its directions were changed
            if _is_ours(database, name):
                unreadable.append(name)
        else:
            studies.append(study)
    return studies, unreadable


def _is_ours(database: Database, name: str) -> bool:
    def ask() -> bool:
        with database.storage.engine.connect() as connection:
            return look_at(connection, name)[0]

    return database.storage.outages.call(ask)


def _has_complete(study: Study) -> bool:
    try:
        return bool(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    except DamagedRow:
        return True


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
                where = {"when": reading.when, "experiment": reading.experiment, "trial": reading.trial}
                study.set_user_attr(READING + reading.id, {**where, **asdict(reading.question)})


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
