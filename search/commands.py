"""The commands: what each is for, its options, and where it is run. A command is an entry in the table at the end.

Read before every usage error, so nothing here imports more than the standard library.
"""

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from search.argument_types import (
    count,
    duration,
    interval_s,
    mutagenesis,
    port,
    positive,
    study_name,
    trial_number,
    workers,
)
from search.parser import (
    EXPORT_DIR,
    Parser,
    add_data,
    add_data_file,
    add_database,
    add_reading,
    add_storage,
    add_what,
    add_where,
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of the program.

    `summary` stands in the list of commands, `description` in its own help. `target` names its module and
    function, which takes the parsed arguments and returns the exit status: imported when it is called, so that
    usage errors do not wait for libraries.
    """

    summary: str
    description: str
    target: str
    add_options: Callable[[Parser], None]
    takes_overrides: bool = False

    def run(self, arguments: argparse.Namespace) -> int:
        """Run it and return the exit status."""
        module, _, name = self.target.partition(":")
        function: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), name)
        return function(arguments)


def _search(parser: Parser) -> None:
    add_what(parser, has_ladder=True)
    add_data(parser)
    parser.add_argument(
        "--n-trials",
        type=positive,
        default=100,
        help="finished trials of the study, of each study where there are several models (default: 100)",
    )
    parser.add_argument("--study-name", type=study_name, help="default: TASK-MODEL")
    add_storage(parser)
    parser.add_argument(
        "--export-dir",
        type=Path,
        default=EXPORT_DIR,
        help="for the frozen experiment (default: %(default)s)",
    )
    parser.add_argument(
        "--max-failures", type=positive, default=3, help="bugs in a row that stop the study (default: 3)"
    )
    parser.add_argument(
        "--keep-top",
        type=positive,
        default=5,
        metavar="K",
        help="keep the checkpoints of the best K trials of the study (default: 5)",
    )
    parser.add_argument(
        "--max-retries",
        type=count,
        default=3,
        metavar="N",
        help="how often a trial that lost its process, or failed with its machine, is run again (default: 3)",
    )
    parser.add_argument(
        "--workers",
        type=workers,
        default=1,
        metavar="N|auto",
        help="processes that train at once on this machine; auto: one for each GPU slot, or for every two cores "
        "without a GPU (default: 1)",
    )
    parser.add_argument(
        "--trials-per-gpu",
        type=positive,
        default=1,
        metavar="K",
        help="slots of a GPU; it divides its memory (default: 1)",
    )
    parser.add_argument(
        "--timeout",
        type=duration,
        metavar="TIME",
        help="end this call after seconds, or 90s, 15m, 2h (default: never)",
    )
    parser.add_argument(
        "--trial-timeout",
        type=duration,
        metavar="TIME",
        help="a trial that takes longer is stopped and counts as pruned (default: never)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the config, the space and a trial; train nothing")
    add_where(parser)


def _train(parser: Parser) -> None:
    add_what(parser)
    add_data(parser)
    parser.add_argument("--experiment", type=Path, help="a frozen experiment, instead of --task and --model")
    add_where(parser)


def _verify(parser: Parser) -> None:
    parser.add_argument("file", type=Path, help="the experiment, e.g. studies/experiment/NAME.yaml")
    add_data_file(parser)
    add_where(parser)


def _confirm(parser: Parser) -> None:
    parser.add_argument(
        "experiments", type=Path, nargs="+", metavar="EXPERIMENT", help="e.g. studies/experiment/NAME.yaml"
    )
    parser.add_argument("--seeds", type=positive, default=5, metavar="N", help="how many new seeds (default: 5)")
    parser.add_argument(
        "--top-k", type=positive, metavar="K", help="confirm the best K trials of the study, which is looked up"
    )
    parser.add_argument("--unfinished", action="store_true", help="also where the study has not had all its trials")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_storage(parser)
    add_data_file(parser)
    add_where(parser)


def _predict(parser: Parser) -> None:
    parser.add_argument("file", type=Path, help="the experiment, e.g. studies/experiment/NAME.yaml")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="candidates: FASTA, CSV or TSV with a column sequence or mutations, or one a line; plain or gzipped",
    )
    what.add_argument(
        "--mutagenesis",
        type=mutagenesis,
        metavar="WHAT",
        help="variants of the wild type instead: singles, doubles, or all combinations at positions, sites:39,40,41,54",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="FILE.csv, .tsv, .parquet or .fasta (default: CSV to standard output)",
    )
    parser.add_argument(
        "--top", type=positive, metavar="K", help="the best K alone, sorted (default: all, in their order)"
    )
    parser.add_argument(
        "--no-distance", action="store_true", help="leave the distance to the nearest training sequence out"
    )
    parser.add_argument(
        "--format",
        choices=("fasta", "csv", "tsv", "text"),
        help="of the input (default: by the file's name, then by what it begins with)",
    )
    add_data_file(parser)
    add_where(parser)


def _status(parser: Parser) -> None:
    parser.add_argument("--study-name", help="one study (default: all)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument("--watch", action="store_true", help="follow one study until Ctrl-C: workers, trials, rate, GPUs")
    parser.add_argument("--interval", type=interval_s, metavar="S", help="seconds between two looks (default: 2)")
    parser.add_argument(
        "--export-dir",
        type=Path,
        default=EXPORT_DIR,
        help="where the ledgers are (default: %(default)s)",
    )
    add_database(parser)


def _requeue(parser: Parser) -> None:
    _study(parser)
    parser.add_argument("trial", type=trial_number, metavar="TRIAL", help="its number")


def _doctor(parser: Parser) -> None:
    parser.add_argument("--task", help="check the data of this task alone")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--data-dir", type=Path, help="where FLIP's files are looked for first")
    parser.add_argument("--weights-dir", type=Path, help="where pretrained weights (NAME.pt) are looked for first")
    parser.add_argument("--export-dir", type=Path, default=EXPORT_DIR, help="where a search would export to")
    add_database(parser)


def _report(parser: Parser) -> None:
    parser.add_argument("--study-name", required=True, help="the study")
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="default: RUNS/STUDY/report.html")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where trials' files are (default: runs)")
    parser.add_argument(
        "--export-dir", type=Path, default=EXPORT_DIR, help="where its experiment is (default: %(default)s)"
    )
    add_storage(parser)


def _compare(parser: Parser) -> None:
    parser.add_argument(
        "--task", action="append", required=True, help="a task, or all that anything is known of; may be repeated"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="for the figure (default: RUNS/comparison)")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where the studies are (default: runs)")
    parser.add_argument(
        "--export-dir", type=Path, default=EXPORT_DIR, help="where experiments and ledgers are (default: %(default)s)"
    )
    add_storage(parser)


def _dashboard(parser: Parser) -> None:
    parser.add_argument("--port", type=port, default=8080, help="default: 8080; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--writable", action="store_true", help="let the browser change, rename and delete")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where the files are kept (default: runs)")
    add_storage(parser)


def _init(parser: Parser) -> None:
    parser.add_argument("--reader", metavar="ROLE", help="the role that the dashboard reads as")
    parser.add_argument("--reader-password-file", type=Path, metavar="FILE", help="a file that holds its password")
    add_database(parser)


def _data(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|list|fetch")
    check = actions.add_parser("check", help="say what a table holds", description=_CHECK, allow_abbrev=False)
    check.add_argument("file", type=Path, help="CSV, TSV, FASTA (each plain or gzipped) or Parquet")
    add_reading(check)
    listed = actions.add_parser("list", help="list the tasks", description=_LIST, allow_abbrev=False)
    fetch = actions.add_parser("fetch", help="download a task's file", description=_FETCH, allow_abbrev=False)
    fetch.add_argument("task", metavar="TASK", help="one of those that `data list` shows")
    for action in (listed, fetch):
        action.add_argument("--data-dir", type=Path, help="where FLIP's files are looked for first")


def _study(parser: Parser) -> None:
    """A command on one study that exists."""
    parser.add_argument("--study-name", required=True, help="the study")
    add_database(parser)


_CHECK = (
    "What a table holds, what is wrong with it, how well any model could do, and what a search would do with it. "
    "Exit status 0, or 2 if a search would refuse it."
)
_LIST = "Every task, its size and units, and whether its file is on this machine and FLIP's own."
_FETCH = "Find a task's file on this machine, or download it."

COMMANDS = {
    "search": Command(
        summary="the search itself, which is what runs where no command is named",
        description="Search the hyperparameters of a protein fitness model; the same command resumes its study.",
        target="search.run_search:run_search",
        add_options=_search,
        takes_overrides=True,
    ),
    "train": Command(
        summary="one run without a search, from a config or a frozen experiment",
        description="Train once, without a search.",
        target="search.run_once:run_train",
        add_options=_train,
        takes_overrides=True,
    ),
    "verify": Command(
        summary="train a frozen experiment again and compare every number",
        description="Train a frozen experiment again. Exit status 0: the same numbers; 1: they differ; 2: the file is "
        "not intact.",
        target="search.run_once:run_verify",
        add_options=_verify,
    ),
    "confirm": Command(
        summary="train an experiment over new seeds and measure it on the test set",
        description="Train an experiment over new seeds and measure it on the test set: the only command that reads "
        "it. Every reading is kept in the ledger beside the experiment.",
        target="search.confirm:run_confirm",
        add_options=_confirm,
    ),
    "predict": Command(
        summary="rank candidates, or variants of the wild type, with an experiment's weights",
        description="Predict and rank any number of candidates with the weights that stand beside an experiment.",
        target="search.predict:run_predict",
        add_options=_predict,
    ),
    "status": Command(
        summary="where studies stand; --watch follows one",
        description="Where studies stand.",
        target="search.status:run_status",
        add_options=_status,
    ),
    "drain": Command(
        summary="let the workers of a study finish their trials and end",
        description="Let every worker of a study finish its trial, start none, and end.",
        target="search.operate:run_control",
        add_options=_study,
    ),
    "pause": Command(
        summary="let them finish their trials and wait",
        description="Let every worker of a study finish its trial, and wait for resume or drain.",
        target="search.operate:run_control",
        add_options=_study,
    ),
    "resume": Command(
        summary="let them go on",
        description="Let the workers of a paused or draining study go on.",
        target="search.operate:run_control",
        add_options=_study,
    ),
    "requeue": Command(
        summary="put a trial that failed back in line",
        description="Put a trial that failed, or ran out of memory or time, back in line once.",
        target="search.requeue:run_requeue",
        add_options=_requeue,
    ),
    "data": Command(
        summary="check a table of your own, list the tasks, fetch a task's file",
        description="Check a table of your own, list the tasks, or fetch a task's file.",
        target="search.data_command:run_data",
        add_options=_data,
    ),
    "doctor": Command(
        summary="check machine, database, data and weights, with a remedy for each finding",
        description="Check what a search needs; nothing is downloaded or changed. Exit status 0: no problems; 1: some.",
        target="search.doctor:run_doctor",
        add_options=_doctor,
    ),
    "report": Command(
        summary="one HTML file about a study, which opens without network",
        description="Write one HTML file about a study: what was searched, what came of it, and how to repeat it.",
        target="search.report:run_report",
        add_options=_report,
    ),
    "compare": Command(
        summary="studies and confirmed experiments on a task beside published results",
        description="Compare every study and every confirmed experiment on a task with published results: a table, "
        "and a figure as HTML, PNG and SVG.",
        target="search.compare:run_compare",
        add_options=_compare,
    ),
    "dashboard": Command(
        summary="show studies, trials and their files in a browser",
        description="Show studies, trials and their files in a browser, until Ctrl-C.",
        target="search.dashboard:run_dashboard",
        add_options=_dashboard,
    ),
    "init": Command(
        summary="create the database's tables, and a role that may only read them",
        description="Create the database's tables where they are missing and, on Postgres, a role that may only read "
        "them.",
        target="search.init_database:run_init",
        add_options=_init,
    ),
}
