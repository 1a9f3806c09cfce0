"""What a search came to."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from search.config.targets import knows_deviation

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from datasets.splits.prepared import PreparedSplit
    from search.request.search_request import SearchRequest
    from search.study.assessment import Assessment
    from search.study.config import StudyConfig
    from search.workers.signals import Signals


class EndReason(StrEnum):
    """Why a search ended."""

    BUDGET = "budget"
    """The study has the trials that were asked for."""
    EXHAUSTED = "exhausted"
    """Every point of the space was tried."""
    INTERRUPTED = "interrupted"
    """By Ctrl-C or SIGTERM."""
    DRAINED = "drained"
    """An operator told the workers to finish."""
    TIMED_OUT = "timed out"
    """The time of the call was over."""
    HOURS = "hours"
    """The study's trials have used the hours of GPUs or of cores that they may."""
    FAILED = "failed"
    """Too many trials in a row failed, or a worker could not go on; `StudyOutcome.failure` says why."""


@dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """What a search came to.

    Args:
        split: The data that it was searched on; no test target is in it.
        ended: Why the search ended.
        study: The study as it was at the end, with its trials; None where the call ended before it opened.
        n_before: Its finished trials before this call.
        n_finished: Those of now.
        best: The best trial; None where none is complete.
        experiment: The exported experiment of the best trial.
        assessment: What the best value is worth: its interval, its optimism, the trials as good.
        failure: What stopped it, where that is `FAILED`.
        exit_status: Of the signal that came, 130 or 143; 0 without any.
    """

    split: "PreparedSplit"
    ended: EndReason
    study: "Study | None" = None
    n_before: int = 0
    n_finished: int = 0
    best: "FrozenTrial | None" = None
    experiment: Path | None = None
    assessment: "Assessment | None" = None
    failure: str | None = None
    exit_status: int = 0


def why_ended(study: "Study", request: "SearchRequest", signals: "Signals", failure: str | None) -> EndReason:
    """Why the search ended."""
    from search.storage.attributes import EXHAUSTED
    from search.study.control import read_control
    from search.study.hours.meter import recorded_hours, used_hours
    from search.study.study import count

    if failure is not None:
        return EndReason.FAILED
    trials = study.get_trials(deepcopy=False)
    if count(trials).n_finished >= request.n_trials:
        return EndReason.BUDGET
    if signals.exit_status:
        return EndReason.INTERRUPTED
    if read_control(study) == "drain":
        return EndReason.DRAINED
    if signals.is_timed_out:
        return EndReason.TIMED_OUT
    hours = request.hours.over(recorded_hours(study.user_attrs))
    if hours.is_any and hours.is_spent(used_hours(study, trials)):
        return EndReason.HOURS
    return EndReason.EXHAUSTED if study.user_attrs.get(EXHAUSTED) else EndReason.BUDGET


def import_for_the_end(configs: "Sequence[StudyConfig]") -> None:
    """Import what is needed once the trials are over: whoever updates the checkout meanwhile changes nothing here."""
    import search.reporting.dashboard_note
    import search.reporting.study_report
    import search.reporting.summary

    # The intervals of other models need no torch in this process.
    if any(knows_deviation(config.defaults["model"]) for config in configs):
        import search.training.predict_split  # noqa: F401
    from search.machine.environment import git_commit
    from search.storage.optuna_internals import forget_failed_imports

    forget_failed_imports()
    git_commit()  # is remembered: the trials run with the code of now
