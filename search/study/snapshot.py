"""A study as it was when it was read: how it stands, for every view, and for what reads it time after time."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from optuna import Study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from search.space.space import Space
from search.storage.attributes import EXHAUSTED, MANIFEST, N_TARGET
from search.storage.database import Database
from search.storage.optuna_internals import seen_through
from search.storage.rows.heartbeats import as_heard, lease_ages_s
from search.storage.trial_cache import WithTrials, shared_numbers
from search.study.activity import RunningTrial, rate_per_hour, remaining_s, running_trials
from search.study.control import Control, control_in
from search.study.endings import own_faults
from search.study.hours.budget import Hours
from search.study.hours.meter import recorded_hours, used_hours
from search.study.question import Question, question_of
from search.study.ranking import set_aside
from search.study.study import DIRECTION, Counts, best_trial, count, shown_validation, stands_for

_MOST_NAMED = 5
MIN_TRIALS = 4
"""Of fewer complete trials, Optuna's importances are all the same, and a report's figures show nothing."""


@dataclass(frozen=True, kw_only=True)
class StudySnapshot:
    """How a study stands, by one reading of its attributes and one of its trials.

    Args:
        name: The study's.
        attributes: Its user attributes.
        trials: All of them. Nobody may change them.
        lease_ages_s: Seconds since the last heartbeat of each running trial, by trial id; read before the trials, so
            that one that ended in between is not taken for one without a heartbeat.
        hours: What the trials have used of GPUs and cores.
        shared_numbers: Those that several trials have, of which `trials` holds one.
    """

    name: str
    attributes: Mapping[str, Any]
    trials: Sequence[FrozenTrial]
    lease_ages_s: Mapping[int, float]
    hours: Hours = Hours()  # noqa: RUF009
    shared_numbers: Sequence[int] = ()

    @classmethod
    def of(cls, study: Study, database: Database | None = None) -> "StudySnapshot":
        """Read the study; without its `database` no heartbeats are."""
        ages = {} if database is None else lease_ages_s(database.storage, study)
        trials = as_heard(study, study.get_trials(deepcopy=False))
        return cls(
            name=study.study_name,
            attributes=study.user_attrs,
            trials=trials,
            lease_ages_s=ages,
            hours=used_hours(study, trials),
            shared_numbers=shared_numbers(study),
        )

    @cached_property
    def counts(self) -> Counts:
        """Trials by state."""
        return count(self.trials)

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The best complete trial."""
        return best_trial(self.trials)

    @property
    def about(self) -> Mapping[str, Any]:
        """The manifest; empty of a study that has none."""
        about: Mapping[str, Any] = self.attributes.get(MANIFEST, {})
        return about

    @property
    def asked(self) -> Question | None:
        """What the study asks; None without a manifest."""
        return question_of(self.about)

    @property
    def n_target(self) -> int:
        """The largest number of finished trials that was asked for; 0 if none was."""
        return int(self.attributes.get(N_TARGET, 0))

    @property
    def n_left(self) -> int:
        """How many finished trials are missing from the target."""
        return self.n_target - self.counts.n_finished

    @property
    def has_all(self) -> bool:
        """Whether the study has what it was asked for."""
        return bool(self.attributes.get(EXHAUSTED)) or self.n_left <= 0

    @property
    def control(self) -> Control:
        """What an operator told the workers."""
        return control_in(self.attributes)

    @property
    def running(self) -> tuple[RunningTrial, ...]:
        """The trials that run, in the order of their numbers."""
        return tuple(running_trials(self.trials, self.about, self.lease_ages_s))

    @property
    def rate_per_hour(self) -> float | None:
        """Finished trials per hour; None before the first."""
        return rate_per_hour(self.trials)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the target is reached; None if it is, and if nobody works, none finished or none is started."""
        return remaining_s(self.trials, self.n_left) if self.n_left > 0 and self.control == "run" else None

    @property
    def finished_words(self) -> str:
        """`7/20 finished (2 pruned)`."""
        return finished_words(self.counts, self.n_target)

    @property
    def failed_words(self) -> str:
        """`2 failed`, and how many were interrupted or lost and are run again."""
        return failed_words(len(own_faults(self.trials)), self.counts)

    @property
    def hours_words(self) -> list[str]:
        """`used 1.50 of 2 GPU-hours`; nothing without a budget of hours."""
        budget = recorded_hours(self.attributes)
        return [f"used {budget.words(self.hours)}"] if budget.is_any else []

    @property
    def shared_words(self) -> list[str]:
        """That trials are missing from all counts, since others have their numbers; nothing where none are."""
        if not self.shared_numbers:
            return []
        named = [*map(str, self.shared_numbers[:_MOST_NAMED]), *["..."] * (len(self.shared_numbers) > _MOST_NAMED)]
        return [f"more than one trial has the number {', '.join(named)}; one of each is counted: see `doctor`"]

    @property
    def best_words(self) -> list[str]:
        """`best 0.8310 (trial 3)`; nothing before a trial is complete."""
        return best_words(self.best)

    @property
    def remarks(self) -> list[str]:
        """What has to be said beside its values: what they were found on, and of trials that are set aside."""
        from search.study.protocol import as_sentence  # takes a while to import, and `status` does without

        words = stands_for(self.attributes)
        return [sentence for sentence in (words and as_sentence(words), set_aside(self.trials)) if sentence]

    @property
    def summary(self) -> dict[str, Any]:
        """What `status --json` prints."""
        counts, best, asked = self.counts, self.best, self.asked
        return {
            "study": self.name,
            "task": self.about.get("task"),
            "target": asked and asked.target,
            "split": asked and asked.split,
            "model": self.about.get("model"),
            "data": self.about.get("data"),
            "validation": shown_validation(self.attributes),
            "stands_for": stands_for(self.attributes),
            "direction": DIRECTION,
            "n_target": self.attributes.get(N_TARGET),
            "used_hours": asdict(self.hours),
            "most_hours": asdict(recorded_hours(self.attributes)),
            "n_finished": counts.n_finished,
            **asdict(counts),
            "best": best and {"number": best.number, "value": best.value, "params": Space.values(best.params)},
        }


def finished_words(counts: Counts, n_target: int) -> str:
    """`7/20 finished (2 pruned)`."""
    return f"{counts.n_finished}/{n_target} finished ({counts.n_pruned} pruned)"


def failed_words(n_faults: int, counts: Counts) -> str:
    """`2 failed`, which they did for good, and how many were interrupted or lost and are run again."""
    n_again = counts.n_failed - n_faults
    return f"{n_faults} failed" + (f", {n_again} interrupted and run again" if n_again else "")


def best_words(best: FrozenTrial | None) -> list[str]:
    """`best 0.8310 (trial 3)`; nothing before a trial is complete."""
    return [] if best is None else [f"best {best.value:.4f} (trial {best.number})"]


def snapshot(study: Study, trials: Sequence[FrozenTrial]) -> Study:
    """The study, with these trials and no others, and its own attributes as they are now.

    Nobody may change what it gives away.
    """
    return seen_through(study, lambda storage: _Read(storage, trials))


class _Read(WithTrials):
    """A storage that has read its study: copies of thousands of trials took Optuna's figures a minute."""

    def __init__(self, storage: BaseStorage, trials: Sequence[FrozenTrial]) -> None:
        super().__init__(storage, trials)
        self._user_attrs: dict[int, dict[str, Any]] = {}

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        if study_id not in self._user_attrs:
            self._user_attrs[study_id] = self.storage.get_study_user_attrs(study_id)
        return self._user_attrs[study_id]
