"""The status command: where studies stand."""

import argparse
import json
from dataclasses import asdict
from typing import Any

import optuna
from optuna import Study
from rich.console import Console
from rich.table import Table

from datasets.errors import UserError
from search.control import read_control
from search.operate import open_existing
from search.standing import running_trials
from search.storage import Database
from search.study import find_study, summary
from search.watch import INTERVAL_S, watch


def run_status(arguments: argparse.Namespace) -> int:
    """Print one study or all of them, as a table or as JSON, or follow one."""
    database = open_existing(arguments)
    one = arguments.study_name
    names = [one] if one else sorted(optuna.get_all_study_names(database.storage))
    if arguments.watch:
        if len(names) != 1:
            has = ", ".join(names) or "none yet"
            raise UserError(f"--watch follows one study: name it with --study-name (there are: {has}).")
        return watch(database, find_study(database, names[0]), arguments.interval or INTERVAL_S)
    studies = [find_study(database, name) for name in names]
    if arguments.json:
        objects = [{**summary(study), **_now(database, study)} for study in studies]
        print(json.dumps(objects[0] if one else objects, indent=2, allow_nan=False))
    else:
        _print_table([summary(study) for study in studies])
    return 0


def _now(database: Database, study: Study) -> dict[str, Any]:
    """What changes from second to second."""
    return {
        "control": read_control(study),
        "workers": [asdict(trial) for trial in running_trials(database, study)],
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
        "data",
        box=None,
        pad_edge=False,
    )
    for item in summaries:
        best = item["best"]
        table.add_row(
            item["study"],
            f"{item['n_finished']}/{item['n_target'] or '?'}",
            *(str(item[f"n_{state}"]) for state in ("complete", "pruned", "failed", "running")),
            f"{best['value']:.4f}" if best else "-",
            str(best["number"]) if best else "-",
            item["validation"] or "?",
            item["data"] or "?",
        )
    # As wide as the table wants to be: a name that is cut off names nothing.
    Console(highlight=False, soft_wrap=True, markup=False, width=1000).print(table)
