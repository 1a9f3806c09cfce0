"""What is known of a study when its report is written."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial

from datasets.common.errors import UserError
from search.config.run_config import task_in
from search.experiments.exports import find_export
from search.experiments.ledger import Reading
from search.experiments.readings import Count, find_readings
from search.reporting.proposals import Proposals
from search.storage.attributes import PROTOCOL
from search.storage.database import Database
from search.study.assessment import Assessment, assess
from search.study.question import Question
from search.study.snapshot import StudySnapshot, snapshot
from search.study.study import shown_validation


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the report is written from.

    `study` is the study as it was read, `now` how it stands, and `snapshot` the study without its trials' user
    attributes, for Optuna's figures. `assessment` says what its best value is worth, None where there is none.
    `export` is None where there is no exported experiment of the study. `asked` is what the study asks, `readings` how
    often that test set was read, and `in_ledgers` those readings of it that stand whole in ledgers. Predictions of its
    trials are below `folder`.
    """

    study: Study
    snapshot: Study
    now: StudySnapshot
    assessment: Assessment | None
    folder: Path
    export: Path | None
    asked: Question
    readings: Count
    in_ledgers: tuple[Reading, ...]
    proposals: Proposals

    @classmethod
    def of(
        cls,
        study: Study,
        *,
        runs: Path,
        export: Path | None,
        proposals: Proposals,
        database: Database | None,
        assessment: Assessment | None,
    ) -> "Known":
        """Read the study; `database` None leaves the readings by other studies of its database out, and says so."""
        study = snapshot(study, study.get_trials(deepcopy=False))
        now = StudySnapshot.of(study)
        asked = now.asked
        assert asked is not None, "it has a manifest"
        missing = () if database else ("The other studies of the database were not asked.",)
        known = find_readings(export and export.parent, database, loaded=[study], missing=missing)
        folder = runs / study.study_name
        return cls(
            study=study,
            snapshot=snapshot(study, [_bare(trial) for trial in now.trials]),
            now=now,
            assessment=assessment or assess(study, folder),
            folder=folder,
            export=export and find_export(export, study),
            proposals=proposals,
            asked=asked,
            readings=known.count(asked),
            in_ledgers=tuple(one for one in known.in_ledgers if one.question.is_same(asked)),
        )

    @property
    def trials(self) -> Sequence[FrozenTrial]:
        """All trials of the study."""
        return self.now.trials

    @property
    def about(self) -> Mapping[str, Any]:
        """Its manifest."""
        return self.now.about

    @property
    def best(self) -> FrozenTrial | None:
        """Its best trial."""
        return self.now.best

    @property
    def where(self) -> str:
        """What stands beside every result: the validation protocol and the data."""
        return f"validation: {shown_validation(self.now.attributes)}; data: {self.about['data']}"

    @property
    def saw_test_sequences(self) -> bool:
        """Whether its validation was chosen with a look at the test sequences."""
        return bool(self.now.attributes.get(PROTOCOL, {}).get("saw_test_sequences"))

    @property
    def units(self) -> str:
        """Those of the target."""
        if "table" in self.about:  # a user's own data, called as its column is
            return str(self.about["table"]["target_column"])
        try:
            return task_in(self.about).units
        except UserError:  # of a user's own table that is not here
            return "units of the target"


def _bare(trial: FrozenTrial) -> FrozenTrial:
    """Without user attributes: Optuna writes them, whole results, into its figures."""
    bare = copy.copy(trial)
    bare.user_attrs = {}
    return bare
