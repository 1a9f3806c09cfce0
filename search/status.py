"""The status command: where studies stand."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna import Study
from rich.console import Console
from rich.table import Table

from datasets.errors import UserError
from search.attributes import printable
from search.control import read_control
from search.ledger import Reading, readings, readings_by_study
from search.operate import open_existing
from search.standing import running_trials
from search.storage import Database, say
from search.study import find_study, readable_studies, summary
from search.watch import INTERVAL_S, watch


def run_status(arguments: argparse.Namespace) -> int:
    """Print one study or all of them, as a table or as JSON, or follow one."""
    database = open_existing(arguments)
    one = arguments.study_name
    names = [one] if one else database.storage.study_names()
    if arguments.watch:
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
    found = _readings(arguments.export_dir)
    summaries = [_with_readings(study, found) for study in studies]
    if arguments.json:
        objects = [{**item, **_now(database, study)} for item, study in zip(summaries, studies, strict=True)]
        if one and objects[0]["best"]:
            objects[0]["best"].update(_worth(studies[0], arguments.runs_dir / one))
        print(json.dumps(objects[0] if one else objects, indent=2, allow_nan=False))
    elif summaries or not names:
        _print_table(summaries)
    return 0 if len(studies) == len(names) else 1


def _readings(export_dir: Path) -> tuple[Reading, ...] | None:
    """What the ledgers hold; None, and said on standard error, if one has a broken line: studies go on without."""
    try:
        return readings(export_dir)
    except UserError as error:
        say(f"warning: {error}")
        return None


def _with_readings(study: Study, found: Sequence[Reading] | None) -> dict[str, Any]:
    """`test_readings` says how often each study has read the test set of this one's task; null if that is not known."""
    item = summary(study)
    return {**item, "test_readings": None if found is None else readings_by_study(found, item["task"])}


def _now(database: Database, study: Study) -> dict[str, Any]:
    """What changes from second to second."""
    return {
        "control": read_control(study),
        "workers": [asdict(trial) for trial in running_trials(database, study)],
    }


def _worth(study: Study, folder: Path) -> dict[str, Any]:
    """What the best value is worth; null where the best trial's predictions are not on this machine."""
    from search.honesty import assess  # as late as this, because the command is quick without

    found = assess(study, folder)
    assert found is not None, "there is a best trial"
    return {
        "interval": found.interval and asdict(found.interval),
        "optimism": found.optimism,
        "n_indistinguishable": len(found.indistinguishable) if found.n_compared else None,
    }


def _print_table(summaries: list[dict[str, Any]]) -> None:
    if not summaries:
        print("There is no study yet.")
        return
    table = Table(
        "study",
        "finished",
        "complete",
        "pruned",
        "failed",
        "running",
        "best",
        "trial",
        "validation",
        "validated on",
        "test read",
        "data",
        box=None,
        pad_edge=False,
    )
    for item in summaries:
        best = item["best"]
        table.add_row(
            printable(item["study"]),
            f"{item['n_finished']}/{item['n_target'] or '?'}",
            *(str(item[f"n_{state}"]) for state in ("complete", "pruned", "failed", "running")),
            f"{best['value']:.4f}" if best else "-",
            str(best["number"]) if best else "-",
            item["validation"] or "?",
            (item["stands_for"] or "?").removeprefix("validated on "),
            _times(item["test_readings"], item["study"]),
            item["data"] or "?",
        )
    # As wide as the table wants to be: a name that is cut off names nothing.
    Console(highlight=False, soft_wrap=True, markup=False, width=1000).print(table)


def _times(counts: Mapping[str, int] | None, study: str) -> str:
    """`2x, 5x in all`: how often this study read the test set of its task, and how often all did."""
    if counts is None:
        return "?"
    own, every = counts.get(study, 0), sum(counts.values())
    return f"{own}x" if own == every else f"{own}x, {every}x in all"
