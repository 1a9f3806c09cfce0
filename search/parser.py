"""The parser of every command, and the options that several commands share; the standard library alone."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from datasets.errors import UserError, nearest
from datasets.task import listed_tasks

STUDIES = Path(__file__).parent.parent / "studies"
EXPORT_DIR = Path("studies/experiment")


class Parser(argparse.ArgumentParser):
    """Errors are one sentence, with the nearest flags for an unknown one."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(message[:1].upper() + message[1:] + f" (see `{self.prog} --help`).")

    def refuse_unknown(self, unknown: Sequence[str]) -> None:
        """Refuse flags that are not known."""
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = unknown[0].partition("=")[0]
            raise UserError(f"{name} is not an option of `{self.prog}`.{nearest(name, flags)} See --help.")


def model_names() -> list[str]:
    """The models: the files of the config group."""
    return sorted(path.stem for path in (STUDIES / "model").glob("*.yaml"))


def add_what(parser: Parser) -> None:
    """What is predicted, by what."""
    parser.add_argument("--task", help="what to predict: " + listed_tasks())
    parser.add_argument("--model", help="the model family: " + ", ".join(model_names()))


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
