"""Write the study's dashboard note and report artifact at the end of a search."""

import itertools
import tempfile
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from optuna import Study

from datasets.common.errors import UserError
from datasets.common.files import link
from search.reporting.proposals import Proposals
from search.storage.attributes import artifacts_of
from search.storage.database import Database
from search.storage.optuna_internals import set_system_attribute, system_attributes
from search.study.artifacts import ARTIFACTS, artifact_attribute
from search.study.assessment import Assessment
from search.study.snapshot import MIN_TRIALS, StudySnapshot
from search.workers.signals import Hurried

REPORT = "report.html"
_BEFORE = "figures.html"
"""What stood in the place of the report in studies of earlier versions."""
_NOTE = "dashboard:note_str:"
_NOTE_VERSION = "dashboard:note_ver"
_NOTE_LENGTH = 2045  # of one part
_YOURS = "\n\n---\n*Notes below this line are yours. What is above is written anew when a search ends.*\n"


def show_state(
    study: Study,
    database: Database,
    runs: Path,
    *,
    export: Path | None,
    proposals: Proposals,
    announce: Callable[[str], None],
    assessment: Assessment | None = None,
    until_hurried: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Write the study's note, and its report as an artifact of the study, if anything has changed since.

    Args:
        study: The study.
        database: Where it stands.
        runs: The runs directory.
        export: Its exported experiment, if there is one.
        proposals: How the commands in it are written.
        announce: Told if the report could not be written or kept; the search itself does not fail by it.
        assessment: What its best value is worth, where that is known already.
        until_hurried: Around the making of the report; it may raise `search.workers.signals.Hurried`, and then no
            report is made.
    """
    try:
        now = StudySnapshot.of(study)
        text = state(now, export, proposals)
        before, yours = _note(study)
        if before == text:
            return
        is_reported = bool(now.about) and now.counts.n_complete >= MIN_TRIALS
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / REPORT
            if is_reported:
                from search.reporting.study_report import make_report  # plotly takes a while to import

                with until_hurried():
                    page = make_report(
                        study, runs=runs, export=export, proposals=proposals, database=database, assessment=assessment
                    )
                path.write_text(page, encoding="utf-8")
            with database.lock:
                if is_reported:
                    link(path, runs / ARTIFACTS / _artifact(study))
                _save_note(study, text + _YOURS + yours)
    except Hurried:
        announce(
            f"The report was not made; this makes it: {proposals.command('report', '--study-name', study.study_name)}"
        )
    except Exception as error:  # whatever it is: a search of hours does not fail by it
        why = str(error) if isinstance(error, (UserError, OSError)) else f"{type(error).__name__}: {error}"
        announce(f"The report of study {study.study_name} could not be kept: {' '.join(why.split())}.")


def state(now: StudySnapshot, export: Path | None, proposals: Proposals) -> str:
    """The study's state in Markdown."""
    about, asked = now.summary, now.asked
    lines = [
        f"**{asked.words if asked else None}**, model **{about['model']}** ({about['data']}, validation: "
        f"{about['validation']})",
        f"{about['n_finished']} of {about['n_target']} trials finished ({about['n_complete']} complete, "
        f"{about['n_pruned']} pruned), {about['n_failed']} failed.",
    ]
    if about["best"] is None:
        return "\n\n".join([*lines, "No trial is complete yet."])
    best = about["best"]
    lines.append(f"Best: trial {best['number']}, validation Spearman **{best['value']:.4f}**")
    if best["params"]:
        rows = [f"| {name} | {value} |" for name, value in sorted(best["params"].items())]
        lines.append("\n".join(["| hyperparameter | value |", "| --- | --- |", *rows]))
    if export is not None:
        lines.append(f"Exported as `{export}`. Check it: `{proposals.command('verify', export)}`")
    return "\n\n".join(lines)


def _note(study: Study) -> tuple[str, str]:
    """Our part of the note, and what a person wrote below it."""
    attributes = system_attributes(study)
    keys = (f"{_NOTE}{i}" for i in itertools.count())
    text = "".join(attributes[key] for key in itertools.takewhile(attributes.__contains__, keys))
    ours, line, yours = text.partition(_YOURS)
    return (ours, yours) if line else ("", text)


def _save_note(study: Study, text: str) -> None:
    """Write the note as optuna-dashboard reads it, whose own function takes seconds to import."""
    before = system_attributes(study)
    starts = range(0, len(text), _NOTE_LENGTH)
    parts = {f"{_NOTE}{i}": text[start : start + _NOTE_LENGTH] for i, start in enumerate(starts)}
    set_system_attribute(study, _NOTE_VERSION, before.get(_NOTE_VERSION, 0) + 1)
    for key in {**parts, **{key: "" for key in before if key.startswith(_NOTE)}}:
        set_system_attribute(study, key, parts.get(key, ""))


def _artifact(study: Study) -> str:
    """The id of the study's report: the one that it has, or a new one."""
    artifact = None
    for known, filename in artifacts_of(system_attributes(study)):
        if filename == REPORT:
            return known
        artifact = known if filename == _BEFORE else artifact
    artifact = artifact or str(uuid.uuid4())
    set_system_attribute(study, *artifact_attribute(artifact, REPORT))
    return artifact
