"""The commands drain, pause and resume: what every worker of a study does before its next trial."""

import argparse

from search.request.inputs import open_existing
from search.study.control import Control, set_control
from search.study.snapshot import StudySnapshot
from search.study.study import find_study

_CONTROLS: dict[str, Control] = {"drain": "drain", "pause": "pause", "resume": "run"}


def run_control(arguments: argparse.Namespace) -> int:
    """Set a study's control and say what happens now."""
    database = open_existing(arguments.storage, arguments.runs_dir)
    study = find_study(database, arguments.study_name)
    with database.lock:  # no trial starts between what is counted and what is said
        now = StudySnapshot.of(study)
        set_control(study, _CONTROLS[arguments.command])
        print(describe_change(now, _CONTROLS[arguments.command]))
    return 0


def describe_change(now: StudySnapshot, after: Control) -> str:
    """One sentence or two: what the workers of a study that stood so do from now on, and what comes after."""
    before = now.control
    standing = f"{now.counts.n_finished} of {now.n_target} trials are finished, {now.counts.n_running} running"
    if after == "run":
        if before == "run":
            return f"Study {now.name} was neither paused nor draining ({standing})."
        gone = " Workers that ended meanwhile come back with the search command." if before == "drain" else ""
        return f"Study {now.name} goes on ({standing}).{gone}"
    already = "already " if before == after else ""
    if after == "pause":
        return (
            f"Study {now.name} is {already}paused ({standing}): running trials are finished, none is started, "
            "and workers wait until `resume` or `drain`."
        )
    if now.has_all:
        standing += "; it has what it was asked for"
    return (
        f"Study {now.name} is {already}draining ({standing}): running trials are finished, none is started, "
        "and workers end; the search command goes on later."
    )
