"""The commands drain, pause and resume: what every worker of a study does before its next trial."""

import argparse

from optuna import Study

from search.request.inputs import open_existing
from search.storage.attributes import EXHAUSTED, N_TARGET
from search.study.control import Control, read_control, set_control
from search.study.study import count, find_study

_CONTROLS: dict[str, Control] = {"drain": "drain", "pause": "pause", "resume": "run"}


def run_control(arguments: argparse.Namespace) -> int:
    """Set a study's control and say what happens now."""
    database = open_existing(arguments.storage, arguments.runs_dir)
    study = find_study(database, arguments.study_name)
    with database.lock:  # no trial starts between what is counted and what is said
        before = read_control(study)
        after = _CONTROLS[arguments.command]
        set_control(study, after)
        print(describe_change(study, before, after))
    return 0


def describe_change(study: Study, before: Control, after: Control) -> str:
    """One sentence or two: what the workers of the study do from now on, and what comes after."""
    counts, n_target = count(study.get_trials(deepcopy=False)), study.user_attrs.get(N_TARGET, 0)
    standing = f"{counts.n_finished} of {n_target} trials are finished, {counts.n_running} running"
    if after == "run":
        if before == "run":
            return f"Study {study.study_name} was neither paused nor draining ({standing})."
        gone = " Workers that ended meanwhile come back with the search command." if before == "drain" else ""
        return f"Study {study.study_name} goes on ({standing}).{gone}"
    already = "already " if before == after else ""
    if after == "pause":
        return (
            f"Study {study.study_name} is {already}paused ({standing}): running trials are finished, none is started, "
            "and workers wait until `resume` or `drain`."
        )
    if study.user_attrs.get(EXHAUSTED) or counts.n_finished >= n_target:
        standing += "; it has what it was asked for"
    return (
        f"Study {study.study_name} is {already}draining ({standing}): running trials are finished, none is started, "
        "and workers end; the search command goes on later."
    )
