"""The parser of every command, and the options that several commands share; the standard library alone."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from datasets.errors import UserError, nearest
from datasets.table import STRATEGIES
from datasets.task import listed_tasks
from search.argument_types import count, positive

STUDIES = Path(__file__).parent.parent / "studies"
EXPORT_DIR = Path("studies/experiment")


class Parser(argparse.ArgumentParser):
    """Errors are one sentence, with the nearest flags for an unknown one."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(message[:1].upper() + message[1:] + f" (see `{self.prog} --help`).")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End after the help, once it is written."""
        if sys.stdout is not None:
            sys.stdout.flush()
        super().exit(status, message)

    def refuse_unknown(self, unknown: Sequence[str]) -> None:
        """Refuse flags that are not known."""
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = unknown[0].partition("=")[0]
            raise UserError(f"{name} is not an option of `{self.prog}`.{nearest(name, flags)} See --help.")


def model_names() -> list[str]:
    """The models: the files of the config group."""
    return sorted(path.stem for path in (STUDIES / "model").glob("*.yaml"))


LADDER = ("ridge", "kernel", "cnn", "esm")
"""What `--model ladder` stands for, the cheap ones first."""


def add_what(parser: Parser, *, has_ladder: bool = False) -> None:
    """What is predicted, by what."""
    parser.add_argument("--task", help="what to predict: " + listed_tasks())
    names = ", ".join(model_names())
    if has_ladder:
        several = f"may be repeated, for one study each; ladder: {', '.join(LADDER)}, and baselines"
        parser.add_argument("--model", action="append", help=f"the model family: {names}; {several}")
    else:
        parser.add_argument("--model", help=f"the model family: {names}")


def add_data(parser: Parser) -> None:
    """A user's own data, and how it is read and divided."""
    group = parser.add_argument_group("your own data, instead of --task (see `data check --help`)")
    add_data_file(group)
    add_reading(group)


def add_data_file(parser: "Parser | argparse._ArgumentGroup") -> None:
    """The file alone."""
    parser.add_argument("--data", type=Path, metavar="FILE", help="CSV, TSV, FASTA (each plain or gzipped) or Parquet")


def add_reading(parser: "Parser | argparse._ArgumentGroup") -> None:
    """How a table is read and divided."""
    parser.add_argument(
        "--split",
        metavar="STRATEGY",
        help=f"how variants become train and test: {', '.join(STRATEGIES)}; not for a file that has a `set` column",
    )
    parser.add_argument("--sequence-column", metavar="NAME", help="default: sequence, or a name like it")
    parser.add_argument("--target-column", metavar="NAME", help="default: target, fitness, score, or a name like these")
    parser.add_argument("--mutation-column", metavar="NAME", help="variants as V39A:D40G (default: found by its cells)")
    parser.add_argument("--group-column", metavar="NAME", help="for --split by_group")
    parser.add_argument("--wild-type", type=Path, metavar="FASTA", help="default: inferred where the table allows it")
    parser.add_argument(
        "--max-train-mutations", type=positive, metavar="N", help="for --split k_vs_rest: train has at most N mutations"
    )
    parser.add_argument("--split-seed", type=count, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--replicates",
        choices=("mean", "refuse", "keep"),
        help="several measurements of one sequence (default: mean, and keep for a file that has a `set` column)",
    )


def add_where(parser: Parser) -> None:
    """Where data and weights are found and runs are written."""
    parser.add_argument("--data-dir", type=Path, help="where FLIP's files are looked for first")
    parser.add_argument("--weights-dir", type=Path, help="where pretrained weights (NAME.pt) are looked for first")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="for everything written (default: runs)")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def add_storage(parser: Parser) -> None:
    """The database."""
    parser.add_argument("--storage", help="SQLAlchemy URL (default: $FLIPSEARCH_STORAGE, then runs/studies.db)")


def add_database(parser: Parser) -> None:
    """The database, which may follow from the runs directory."""
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help=argparse.SUPPRESS)
    add_storage(parser)


def prog() -> str:
    """How the user called us, for the commands that we propose."""
    return f"python {sys.argv[0]}" if sys.argv and sys.argv[0] else "python run_study.py"
