"""The status command: where studies stand."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna import Study

from datasets.common.errors import UserError
from search.experiments.readings import Count, find_readings, sentences_of
from search.machine.standard_streams import printable
from search.machine.tables import in_columns
from search.request.inputs import open_existing
from search.storage.database import say
from search.study.snapshot import StudySnapshot
from search.study.study import find_study, readable_studies, shown_validation, stands_for


def run_status(arguments: argparse.Namespace) -> int:
    """Print one study or all of them, as a table or as JSON, or follow one."""
    database = open_existing(arguments.storage, arguments.runs_dir)
    one = arguments.study_name
    names = [one] if one else database.storage.study_names()
    if arguments.watch:
        from search.cli.studies.watch import INTERVAL_S, watch  # rich takes a while to import

        if len(names) != 1:
            has = ", ".join(map(printable, names)) or "none yet"
            raise UserError(f"--watch follows one study: name it with --study-name (there are: {has}).")
        return watch(database, find_study(database, names[0]), arguments.interval or INTERVAL_S)
    # One that cannot be read does not keep the others from being shown; one that was asked for is refused.
    found = [find_study(database, one)] if one else readable_studies(database, lambda why: say(f"error: {why}"), names)
    studies = list(found)
    known = find_readings(arguments.export_dir, database, loaded=studies)
    # The heartbeats are asked for alone where they are shown.
    standing = [StudySnapshot.of(study, database if arguments.json else None) for study in studies]
    rows = [(now, known.count(now.asked) if now.asked else None) for now in standing]
    if arguments.json:
        objects = [_as_json(*row) for row in rows]
        if one and objects[0]["best"]:
            objects[0]["best"].update(_worth(studies[0], arguments.runs_dir / one))
        print(json.dumps(objects[0] if one else objects, indent=2, allow_nan=False))
    elif rows or not names:
        _print_table(rows)
    return 0 if len(studies) == len(names) else 1


def _as_json(now: StudySnapshot, found: Count | None) -> dict[str, Any]:
    """A study, and how often its test set was read.

    `test_readings` says how often each study is known to have read this one's test set; null if nothing is known.
    `test_readings_missing` says what could not be asked; without it, the numbers are exact. `control` and `workers`
    change from second to second.
    """
    is_known = found is not None and (found.n or found.is_exact)
    return {
        **now.summary,
        "test_readings": dict(found.by_study) if found and is_known else None,
        "test_readings_missing": found.sentences if found else [],
        "control": now.control,
        "workers": [asdict(trial) for trial in now.running],
    }


def _worth(study: Study, folder: Path) -> dict[str, Any]:
    """What the best value is worth; null where the best trial's predictions are not on this machine."""
    from search.study.assessment import assess  # as late as this, because the command is quick without

    found = assess(study, folder)
    assert found is not None, "there is a best trial"
    return {
        "interval": found.interval and asdict(found.interval),
        "optimism": found.optimism,
        "n_indistinguishable": len(found.indistinguishable) if found.n_compared else None,
    }


def _print_table(rows: Sequence[tuple[StudySnapshot, Count | None]]) -> None:
    """A line of numbers for each study, and below it what they are about, short enough for a terminal."""
    if not rows:
        print("There is no study yet.")
        return
    cells = [["study", "finished", "complete", "pruned", "failed", "running", "best", "trial"]]
    for now, _ in rows:
        counts, best = now.counts, now.best
        numbers = (counts.n_complete, counts.n_pruned, counts.n_failed, counts.n_running)
        shown = [f"{best.value:.4f}", str(best.number)] if best else ["-", "-"]
        cells.append([printable(now.name), f"{counts.n_finished}/{now.n_target or '?'}", *map(str, numbers), *shown])
    header, *lines = in_columns(cells).splitlines()
    print(header)
    for line, row in zip(lines, rows, strict=True):
        print("\n".join([line, *(f"  {words}" for words in _below(*row))]))
    for sentence in sentences_of([found for _, found in rows if found is not None]):
        print(sentence)


def _below(now: StudySnapshot, found: Count | None) -> list[str]:
    """What a study asks, how often its test set was read, and what its values were found on."""
    if now.asked is None or found is None:
        return ["not known what it is about"]
    return [
        *now.hours_words,
        *now.shared_words,
        f"{now.asked.words} ({now.asked.data}); test set {found.short(now.name)}",
        f"{stands_for(now.attributes) or 'validated'} ({shown_validation(now.attributes) or '?'})",
    ]
