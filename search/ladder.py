"""Several models on one task, the cheap ones first: one ordinary study each, and a table at the end.

Each study is the one that the same command with that model alone would make or resume, and `--n-trials` is its budget:
every family gets as many trials. `--timeout` is for the whole call.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets.errors import CannotRank, UserError
from search.config import StudyConfig, study_config
from search.inputs import announcer, load_split
from search.protocol import find_protocol, with_protocol
from search.run_search import run_search
from search.signals import EXIT_INTERRUPTED, EXIT_TERMINATED
from search.user_data import user_task

if TYPE_CHECKING:
    from datasets.table import Table
    from datasets.task import Task


@dataclass(frozen=True, kw_only=True)
class Step:
    """One family of the ladder: the arguments of its search, and its config."""

    model: str
    arguments: argparse.Namespace
    config: StudyConfig

    @property
    def study(self) -> str:
        """The name of its study."""
        return f"{self.arguments.task}-{self.model}"


def run_ladder(arguments: argparse.Namespace) -> int:
    """Search each family and print the table; the exit status is the highest of the searches'."""
    started = time.monotonic()
    announce = announcer(arguments.quiet)
    own = user_task(arguments, announce)
    # All of them before the first: a setting that one family does not know is told at once.
    steps = [_step(arguments, model, table=own and own[1]) for model in arguments.models]
    status, n_skipped, failed = 0, 0, {}
    for step in steps:
        announce(f"{'' if step is steps[0] else chr(10)}{step.model}: study {step.study}")
        if arguments.timeout is not None:
            left_s = arguments.timeout - (time.monotonic() - started)
            if left_s <= 0:
                failed[step.model] = "the --timeout was over before its turn"
                continue
            step.arguments.timeout = left_s
        try:
            ended = run_search(step.arguments)
        except CannotRank as error:  # nothing is wrong: this family is not for this split
            failed[step.model] = "skipped: it cannot tell the validation variants apart"
            print(f"{step.model} is skipped: {' '.join(str(error).split())}", file=sys.stderr)
            n_skipped += 1
            continue
        except UserError as error:
            failed[step.model] = str(error)
            print("error:", " ".join(str(error).split()), file=sys.stderr)
            ended = error.exit_status
        if ended in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            return ended  # whoever stops it does not wait for a table
        status = max(status, ended)
    if not arguments.dry_run and not arguments.quiet:
        _print_table(arguments, steps, failed, own[0] if own else steps[0].config.find_task())
    return CannotRank.exit_status if n_skipped == len(steps) else status


def _step(arguments: argparse.Namespace, model: str, *, table: "Table | None") -> Step:
    overrides = [f"model={model}" if word.startswith("model=") else word for word in arguments.overrides]
    own = argparse.Namespace(**{**vars(arguments), "model": model, "models": (), "overrides": overrides})
    try:
        return Step(model=model, arguments=own, config=study_config(overrides, table=table))
    except UserError as error:
        raise UserError(f"Of the models asked for, {model}: {error}") from None


def _print_table(arguments: argparse.Namespace, steps: list[Step], failed: dict[str, str], task: "Task") -> None:
    from search.building import folds_of
    from search.ladder_table import Rung, baseline_rungs, show, study_rung
    from search.ledger import readings
    from search.operate import open_existing
    from search.study import recorded_validation

    split = load_split(task, arguments.data_dir, arguments.runs_dir, lambda sentence: None)
    config = steps[0].config
    database, found = open_existing(arguments), readings(arguments.export_dir)
    known = next(filter(None, (recorded_validation(database, step.study) for step in steps)), None)
    protocol = find_protocol(config.defaults["validation"], task, split, recorded=known)
    config = with_protocol(config, protocol)
    run = config.run(config.first_trials[0] if config.first_trials else {})
    rungs = baseline_rungs(task, split, folds_of(run, split), crop=run.data.crop)
    for step in steps:
        try:
            where = {"runs": arguments.runs_dir, "export_dir": arguments.export_dir}
            rungs.append(study_rung(database, step.study, step.model, found, **where))
        except UserError as error:  # its search could not begin
            why = failed.get(step.model, str(error))
            rungs.append(Rung(model=step.model, value=None, why=why, predictions=None, n_finished=None, cost=None))
    print(f"\n{protocol.sentence}")
    show(arguments.task, rungs, label=split.label, protocol=protocol.shown)
