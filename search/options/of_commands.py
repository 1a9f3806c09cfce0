"""The options of each command; the standard library alone."""

import argparse
from pathlib import Path

from datasets.common.errors import UserError
from search.options.folders import option
from search.options.parser import (
    Parser,
    add_artifacts,
    add_data,
    add_database,
    add_folder,
    add_reading,
    add_scores,
    add_storage,
    add_weights,
    add_what,
    add_where,
)
from search.options.values import (
    count,
    duration,
    hours,
    interval_s,
    number_or_auto,
    port,
    positive,
    study_name,
    trial_number,
)


def search_options(parser: Parser, *, dry_run: str = "print the config, the space and a trial; train nothing") -> None:
    """Those of `search`; `dry_run` is what that option does."""
    add_what(parser, has_ladder=True)
    add_data(parser)
    parser.add_argument(
        "--n-trials",
        type=positive,
        default=100,
        help="finished trials of the study, of each study where there are several models (default: 100)",
    )
    parser.add_argument(
        "--study-name",
        type=study_name,
        help="default: TASK-MODEL, of a table FILE-TARGET-SPLIT-MODEL; of several models what their names begin with",
    )
    shares = {"gpu": "its share of a GPU, 1/--trials-per-gpu", "core": "its threads, and its folds that train at once"}
    for kind, what in shares.items():
        parser.add_argument(
            f"--{kind}-hours",
            type=hours,
            metavar="H",
            help=f"no trial begins once those of the study have used so many, each its time times {what} "
            "(default: those that the study was begun with, or no limit)",
        )
    parser.add_argument(
        "--warm-start",
        action="append",
        default=[],
        metavar="STUDY|FILE.yaml",
        help="begin a new study with the best configurations of an earlier one of the same model, or of an experiment; "
        "may be repeated",
    )
    parser.add_argument(
        "--allow-seen",
        action="store_true",
        help="begin so even where that study trained or validated on this one's test sequences; is recorded",
    )
    add_storage(parser)
    add_artifacts(parser)
    add_folder(parser, "export_dir", "for the frozen experiment")
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
        type=number_or_auto,
        default=1,
        metavar="N|auto",
        help="processes that train at once on this machine; auto: one for each GPU slot, or without a GPU as many as "
        "fill the cores with the threads of a run, 1 for a small model (default: 1)",
    )
    parser.add_argument(
        "--trials-per-gpu",
        type=number_or_auto,
        default=1,
        metavar="K|auto",
        help="slots of a GPU; they divide its memory; auto: as many as --workers names, or else as a short measurement "
        "finds that it trains at once (default: 1)",
    )
    parser.add_argument(
        "--engine", choices=("ray",), help="where the workers run: ray, in a Ray cluster (default: on this machine)"
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT|auto|local",
        help="of --engine ray, the cluster's head (default: $RAY_ADDRESS, the cluster that runs on this machine, or "
        "else local, one of this command's own)",
    )
    parser.add_argument(
        "--ship",
        action="store_true",
        help="of --engine ray: send the program and the data to nodes that share no disk with this machine; with a "
        "Postgres and --artifacts",
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
    parser.add_argument(
        "--no-ensemble", action="store_true", help="make no ensemble at the end of a search with several models"
    )
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    add_where(parser)


def train_options(parser: Parser) -> None:
    """Those of `train`."""
    add_what(parser)
    add_data(parser)
    parser.add_argument("--experiment", type=Path, help="a frozen experiment, instead of --task and --model")
    add_where(parser)


def status_options(parser: Parser) -> None:
    """Those of `status`."""
    parser.add_argument("--study-name", help="one study (default: all)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument("--watch", action="store_true", help="follow one study until Ctrl-C: workers, trials, rate, GPUs")
    parser.add_argument("--interval", type=interval_s, metavar="S", help="seconds between two looks (default: 2)")
    add_folder(parser, "export_dir", "where the ledgers are")
    add_database(parser)


def requeue_options(parser: Parser) -> None:
    """Those of `requeue`."""
    study_options(parser)
    parser.add_argument("trial", type=trial_number, metavar="TRIAL", help="its number")


def doctor_options(parser: Parser) -> None:
    """Those of `doctor`."""
    parser.add_argument(
        "--repair",
        action="store_true",
        help="take damaged rows out of the database; a copy is kept in the study's folder",
    )
    parser.add_argument("--task", help="check the data of this task alone")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--data-dir", type=Path, help="where FLIP's files are looked for first")
    add_weights(parser)
    add_folder(parser, "export_dir", "where a search would export to")
    add_database(parser)


def report_options(parser: Parser) -> None:
    """Those of `report`."""
    parser.add_argument("--study-name", required=True, help="the study")
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="default: RUNS/STUDY/report.html")
    add_folder(parser, "runs_dir", "where trials' files are")
    add_folder(parser, "export_dir", "where its experiment is")
    add_storage(parser)


def compare_options(parser: Parser) -> None:
    """Those of `compare`."""
    parser.add_argument(
        "--task", action="append", required=True, help="a task, or all that anything is known of; may be repeated"
    )
    parser.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help="published results of your own, CSV: task,by,model,spearman,source, and perhaps std,target,split",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="for the figure (default: RUNS/comparison)")
    add_folder(parser, "runs_dir", "where the studies are")
    add_folder(parser, "export_dir", "where experiments and ledgers are")
    add_storage(parser)


def dashboard_options(parser: Parser) -> None:
    """Those of `dashboard`."""
    parser.add_argument("--port", type=port, default=8080, help="default: 8080; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--writable", action="store_true", help="let the browser change, rename and delete")
    add_folder(parser, "runs_dir", "where the files are kept")
    add_storage(parser)


def serve_options(parser: Parser) -> None:
    """Those of `serve`."""
    add_folder(parser, "runs_dir", "where the server's folder is")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="of the server, on a local disk: its data, and the file url (default: RUNS/server)",
    )
    parser.add_argument(
        "--host", help="address to listen on; with TLS where other machines reach it (default: this machine alone)"
    )
    parser.add_argument("--port", type=port, help="default: that of the last time, at first a free one, as 0 takes it")
    parser.add_argument(
        "--url-file",
        type=Path,
        metavar="FILE",
        help="where else the URL with its password is written, its certificate beside it as FILE.pem: a shared folder",
    )
    parser.add_argument("--run-as", metavar="USER", help="for root: whom Postgres runs as (default: postgres)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dump", type=Path, metavar="FILE", help="write all studies to a file, whether it runs or not")
    what.add_argument("--restore", type=Path, metavar="FILE", help="fill an empty server from such a file")


def check_serve_options(arguments: argparse.Namespace) -> None:
    """Refuse options that a copy has no use for. Raises a UserError."""
    copies = "--dump" if arguments.dump else "--restore" if arguments.restore else None
    for name in ("host", "port", "url_file"):
        if copies and getattr(arguments, name) is not None:
            raise UserError(f"{option(name)} is for serving, and {copies} does not serve: leave one of them out.")


def init_options(parser: Parser) -> None:
    """Those of `init`."""
    parser.add_argument("--reader", metavar="ROLE", help="the role that the dashboard reads as")
    parser.add_argument("--reader-password-file", type=Path, metavar="FILE", help="a file that holds its password")
    add_database(parser)


def data_options(parser: Parser) -> None:
    """Those of `data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="check|list|fetch")
    check = actions.add_parser("check", help="say what a table holds", description=_CHECK, allow_abbrev=False)
    check.add_argument(
        "file", type=Path, metavar="FILE", help="CSV, TSV, FASTA (each plain or gzipped), Parquet or Excel"
    )
    add_reading(check)
    add_scores(check)
    check.add_argument("--weights-dir", type=Path, help="for --zero-shot: where weights (NAME.pt) are looked for first")
    listed = actions.add_parser("list", help="list the tasks", description=_LIST, allow_abbrev=False)
    fetch = actions.add_parser("fetch", help="download a task's file", description=_FETCH, allow_abbrev=False)
    fetch.add_argument("task", metavar="TASK", help="one of those that `data list` shows")
    fetch.add_argument("--timeout", type=duration, metavar="TIME", help="of the whole download (default: none)")
    for action in (listed, fetch):
        action.add_argument("--data-dir", type=Path, help="where FLIP's files are looked for first")


def study_options(parser: Parser) -> None:
    """A command on one study that exists."""
    parser.add_argument("--study-name", required=True, help="the study")
    add_database(parser)


_CHECK = (
    "What a table holds, what is wrong with it, how well any model could do, and what a search would do with it. "
    "Exit status 0, or 2 if a search would refuse it."
)
_LIST = "Every task, its size and units, and whether its file is on this machine and FLIP's own."
_FETCH = "Find a task's file on this machine, or download it."
