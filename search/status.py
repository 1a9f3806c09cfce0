"""The status command: where studies stand."""

import argparse
import json
from typing import Any

import optuna
from rich.console import Console
from rich.table import Table

from search.storage import default_url, environment_url, open_database
from search.study import find_study, summary


def run_status(arguments: argparse.Namespace) -> int:
    """Print one study or all of them, as a table or as JSON."""
    url = arguments.storage or environment_url() or default_url(arguments.runs_dir)
    database = open_database(url, runs=arguments.runs_dir, create=False)
    one = arguments.study_name
    names = [one] if one else sorted(optuna.get_all_study_names(database.storage))
    summaries = [summary(find_study(database, name)) for name in names]
    if arguments.json:
        print(json.dumps(summaries[0] if one else summaries, indent=2, allow_nan=False))
    else:
        _print_table(summaries)
    return 0


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
