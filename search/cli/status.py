"""The status command: where studies stand."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna import Study

from datasets.common.errors import UserError
from search.experiments.readings import Count, Readings, find_readings, sentences_of
from search.request.inputs import open_existing
from search.storage.attributes import printable
from search.storage.database import say
from search.study.question import Question
from search.study.snapshot import StudySnapshot
from search.study.study import find_study, readable_studies


def run_status(arguments: argparse.Namespace) -> int:
    """Print one study or all of them, as a table or as JSON, or follow one."""
    database = open_existing(arguments.storage, arguments.runs_dir)
    one = arguments.study_name
    names = [one] if one else database.storage.study_names()
    if arguments.watch:
        from search.cli.watch import INTERVAL_S, watch  # rich takes a while to import

        if len(names) != 1:
            has = ", ".join(map(printable, names)) or "none yet"
            raise UserError(f"--watch follows one study: name it with --study-name (there are: {has}).")
        return watch(database, find_study(database, names[0]), arguments.interval or INTERVAL_S)
    # One that cannot be read does not keep the others from being shown; one that was asked for is refused.
    studies = (
        [find_study(database, one)]
        if one
        else list(readable_studies(database, lambda why: say(f"error: {why}"), names))
    )
    known = find_readings(arguments.export_dir, database, loaded=studies)
    # The heartbeats are asked for alone where they are shown.
    standing = [StudySnapshot.of(study, database if arguments.json else None) for study in studies]
    rows = [_row(now, known) for now in standing]
    if arguments.json:
        objects = [{**_with_readings(row), **_activity(row.now)} for row in rows]
        if one and objects[0]["best"]:
            objects[0]["best"].update(_worth(studies[0], arguments.runs_dir / one))
        print(json.dumps(objects[0] if one else objects, indent=2, allow_nan=False))
    elif rows or not names:
        _print_table(rows)
    return 0 if len(studies) == len(names) else 1


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A study, what it asks, and how often that test set was read; both None of a study without a manifest."""

    now: StudySnapshot
    about: dict[str, Any]
    asked: Question | None
    readings: Count | None


def _row(now: StudySnapshot, known: Readings) -> _Row:
    asked = now.asked
    return _Row(now=now, about=now.summary, asked=asked, readings=None if asked is None else known.count(asked))


def _with_readings(row: _Row) -> dict[str, Any]:
    """`test_readings` says how often each study is known to have read this one's test set; null if nothing is known.

    `test_readings_missing` says what could not be asked; without it, the numbers are exact.
    """
    found = row.readings
    is_known = found is not None and (found.n or found.is_exact)
    return {
        **row.about,
        "test_readings": dict(found.by_study) if found and is_known else None,
        "test_readings_missing": found.sentences if found else [],
    }


def _activity(now: StudySnapshot) -> dict[str, Any]:
    """What changes from second to second."""
    return {"control": now.control, "workers": [asdict(trial) for trial in now.running]}


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


def _print_table(rows: Sequence[_Row]) -> None:
    """A line of numbers for each study, and below it what they are about, short enough for a terminal."""
    if not rows:
        print("There is no study yet.")
        return
    cells = [["study", "finished", "complete", "pruned", "failed", "running", "best", "trial"]]
    for row in rows:
        best = row.about["best"]
        cells.append(
            [
                printable(row.about["study"]),
                f"{row.about['n_finished']}/{row.about['n_target'] or '?'}",
                *(str(row.about[f"n_{state}"]) for state in ("complete", "pruned", "failed", "running")),
                f"{best['value']:.4f}" if best else "-",
                str(best["number"]) if best else "-",
            ]
        )
    # As wide as the table wants to be: a name that is cut off names nothing.
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    header, *lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    print(header)
    for line, row in zip(lines, rows, strict=True):
        print("\n".join([line, *(f"  {words}" for words in _below(row))]))
    for sentence in sentences_of([row.readings for row in rows if row.readings is not None]):
        print(sentence)


def _below(row: _Row) -> list[str]:
    """What a study asks, how often its test set was read, and what its values were found on."""
    if row.asked is None or row.readings is None:
        return ["not known what it is about"]
    stands_for, protocol = row.about["stands_for"], row.about["validation"]
    return [
        f"{row.asked.words} ({row.asked.data}); test set {row.readings.short(row.about['study'])}",
        f"{stands_for or 'validated'} ({protocol or '?'})",
    ]
