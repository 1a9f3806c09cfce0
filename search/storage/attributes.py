"""What a study's rows hold beside Optuna's own columns: every key and its meaning, and what is asked of them often.

`search.storage.rows.checks` says what each of them has to hold.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.trial import FrozenTrial

from datasets.common.errors import UserError
from search.machine.standard_streams import printable
from search.storage.optuna_internals import ARTIFACTS_ATTR_PREFIX

MANIFEST = "manifest"
"""Of a study: task, data, space and config. Reopening it with others would mix trials that can't be compared."""
PROTOCOL = "protocol"
"""Of a study: how its trials are validated, as people read it."""
N_TARGET = "n_target"
"""Of a study: the largest number of finished trials that was asked for."""
HOURS = "hours"
"""Of a study: the most hours of GPUs and of cores ("gpu", "core") that were asked for; absent where nobody set any."""
EXHAUSTED = "exhausted"
"""Of a study: whether every point of its space was tried."""
STUDY_ID = "study_id"
"""Of a study: which one it is, whatever it is called; given once, kept by every copy of the database."""
VERSIONS = "versions"
"""Of a study: the packages' versions when it began."""
OVERRIDES = "overrides"
"""Of a study: the overrides that it began with, for whoever wants to repeat it; the manifest says the same in full."""
THREADS = "threads"
"""Of a study: the CPU threads of trials whose config names none; absent in studies that began before it was noted."""
WEIGHTS = "weights"
"""Of a study: the pretrained weights that it uses, name and hash."""
CONTROL = "control"
"""Of a study: what an operator tells its workers, "run", "pause" or "drain"."""
READING = "reading:"
"""Of a study: each reading of its test set has a key that begins so, see `search.experiments.readings`."""

RESULT = "result"
"""Of a trial: `search.training.result.Result.record`, with the hashes of its weights, versions and machine."""
ENDING = "ending"
"""Of a trial: how it ended, see `search.storage.ending`."""
REASON = "reason"
"""Of a trial: why it ended so, in words."""
RETRY_OF = "retry_of"
"""Of a trial: the number of the earlier trial whose parameters it runs again."""
N_LOST = "n_lost"
"""Of a trial: how often these parameters lost their process before."""
EXCESS_RISE = "excess_rise"
"""Of a trial: `search.training.result.Result.excess_rise`."""
WORKER = "worker"
"""Of a trial: the process that runs it, "host:pid"."""
SLOT = "slot"
"""Of a trial: the part of that machine that it runs on."""
USES = "uses"
"""Of a trial: the "cores" and "gpus" that it occupies, and "since" when, in seconds since the epoch."""
FIRST = "first"
"""Of a trial: whether it is one of the published configurations that a study begins with."""
WARM_START = "warm_start"
"""Of a trial: the trial of an earlier study whose configuration it tries; in manifests and experiments see
`search.study.warm_start`."""


class DamagedRow(UserError):
    """A row of the database does not hold what this program writes there."""


def damaged(study: str, problem: str, trial: object = None, *, is_removable: bool = True) -> DamagedRow:
    """The refusal of a study, or of one of its trials, for what is wrong with it; `trial` is its number."""
    of = "" if trial is None else f"trial {printable(str(trial))}: "
    how = "`doctor --repair` removes them" if is_removable else "which cannot be repaired: choose another --study-name"
    return DamagedRow(
        f"Study {printable(study)!r} in the database was damaged, or written by another program ({of}{problem}): "
        f"`doctor` shows every such row, {how}."
    )


def result_of(trial: FrozenTrial, study: str) -> Mapping[str, Any]:
    """The result of a complete trial.

    Raises:
        DamagedRow: The trial has none, so that nothing can be made of it.
    """
    result: Mapping[str, Any] | None = trial.user_attrs.get(RESULT)
    if result is None:
        raise damaged(study, f"it is {trial.state.name.lower()} without a {RESULT}", trial.number)
    return result


def artifacts_of(system_attrs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(id, file name) of each artifact that system attributes name, which were checked when they were read."""
    for key, text in system_attrs.items():
        if key.startswith(ARTIFACTS_ATTR_PREFIX):
            about = json.loads(text)
            if about is not None:  # as the dashboard leaves one that was deleted through it
                yield about["artifact_id"], about["filename"]
