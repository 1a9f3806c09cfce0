"""What a report is written from."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial

from datasets.errors import UserError
from search.attributes import MANIFEST
from search.exports import find_export
from search.proposals import Proposals
from search.schema import task_in
from search.snapshot import snapshot
from search.study import best_trial, shown_validation, summary


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the sections are written from.

    `snapshot` is the study with its trials as they were read, without their user attributes, for Optuna's figures.
    `export` is None where there is no exported experiment of the study, `export_dir` where it or its ledger would be.
    """

    study: Study
    snapshot: Study
    trials: list[FrozenTrial]
    about: Mapping[str, Any]
    numbers: Mapping[str, Any]
    best: FrozenTrial | None
    runs: Path
    export: Path | None
    export_dir: Path | None
    proposals: Proposals

    @classmethod
    def of(cls, study: Study, *, runs: Path, export: Path | None, proposals: Proposals) -> "Known":
        """Read the study."""
        trials = study.get_trials(deepcopy=False)
        return cls(
            study=study,
            snapshot=snapshot(study, [_bare(trial) for trial in trials]),
            trials=trials,
            about=study.user_attrs[MANIFEST],
            numbers=summary(study),
            best=best_trial(trials),
            runs=runs,
            export=export and find_export(export, study),
            export_dir=export and export.parent,
            proposals=proposals,
        )

    @property
    def where(self) -> str:
        """What stands beside every result: the validation protocol and the data."""
        return f"validation: {shown_validation(self.study)}; data: {self.about['data']}"

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
