"""The command line, parsed with the standard library alone so that usage errors answer at once."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from datasets.errors import UserError, nearest
from datasets.task import find_task, listed_tasks

STUDIES = Path(__file__).parent.parent / "studies"
COMMANDS = ("train", "verify", "status", "drain", "pause", "resume", "requeue", "doctor", "dashboard", "init")
_EPILOG = """\
Values of the config are overridden as on Hydra's command line:
  trainer.max_epochs=5 model.dropout=0.1 space.model.channels.high=128 ~space.model.depth sampler=random

other commands (each with --help):
  train      one run without a search, from a config or a frozen experiment
  verify     train a frozen experiment again and compare every number
  status     where studies stand; --watch follows one
  drain      let the workers of a study finish their trials and end
  pause      let them finish their trials and wait
  resume     let them go on
  requeue    put a trial that failed back in line
  doctor     check machine, database, data and weights, with a remedy for each finding
  dashboard  show studies, trials and their files in a browser
  init       create the database's tables, and a role that may only read them
"""


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


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, `command` among them (`search` where none is named).

    Raises:
        UserError: A flag, a task, a model or a value is not valid.
    """
    if argv and re.fullmatch(r"[a-z]+", argv[0]) and argv[0] not in COMMANDS:
        raise UserError(f"There is no command {argv[0]!r}.{nearest(argv[0], COMMANDS)} See --help.")
    command = argv[0] if argv and argv[0] in COMMANDS else "search"
    parser = _PARSERS[command]()
    rest = list(argv[1:] if command != "search" else argv)
    # A word such as `~space.model.depth` or `trainer.max_epochs=5` is an override wherever it stands.
    arguments, unknown = parser.parse_known_args(rest)
    overrides = [word for word in unknown if not word.startswith("-")]
    parser.refuse_unknown([word for word in unknown if word.startswith("-")])
    arguments.command = command
    if command in ("search", "train"):
        arguments.overrides = _complete_overrides(arguments, overrides)
    elif overrides:
        raise UserError(f"`{parser.prog}` takes no {overrides[0]!r}: see --help.")
    if command == "status" and arguments.interval is not None and not arguments.watch:
        raise UserError("--interval is how often --watch looks: give both, or neither.")
    if command == "doctor" and arguments.task:
        find_task(arguments.task)
    return arguments


def _complete_overrides(arguments: argparse.Namespace, overrides: list[str]) -> list[str]:
    """The Hydra overrides, those that the options stand for included; task and model are checked."""
    if arguments.command == "train" and arguments.experiment:
        if arguments.task or arguments.model or overrides:
            raise UserError("train --experiment FILE takes no --task, --model or overrides: the file says it all.")
        return []
    given = dict(word.lstrip("+").split("=", 1) for word in overrides if "=" in word)
    if arguments.task and given.get("task", arguments.task) != arguments.task:
        raise UserError(f"--task {arguments.task} and task={given['task']} exclude each other: name one.")
    task, model = arguments.task or given.get("task"), given.get("model") or arguments.model
    if not task or not model:
        raise UserError(
            f"Name a task and a model: --task T --model M. Tasks: {listed_tasks()}. Models: {', '.join(model_names())}."
        )
    find_task(task)
    if model not in model_names():
        raise UserError(
            f"There is no model {model!r}.{nearest(model, model_names())} Models: {', '.join(model_names())}."
        )
    arguments.task, arguments.model = task, model
    rest = [word for word in overrides if word.lstrip("+").split("=", 1)[0] not in ("task", "model")]
    return [f"task={task}", f"model={model}", *rest]


def model_names() -> list[str]:
    """The models: the files of the config group."""
    return sorted(path.stem for path in (STUDIES / "model").glob("*.yaml"))


def _positive(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: expected a whole number from 1 to 999999999")
    return int(text)


def _trial_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: expected the number of a trial, as `status` shows it")
    return int(text)


def _interval_s(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", text) or not 0.1 <= float(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: expected seconds from 0.1 to 3600")
    return float(text)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: expected a whole number from 0 to 999999999")
    return int(text)


def _workers(text: str) -> int | None:
    """None stands for auto."""
    if text == "auto":
        return None
    if not re.fullmatch(r"0*[1-9][0-9]{0,2}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: expected a whole number from 1 to 999, or auto")
    return int(text)


def _duration(text: str) -> float:
    """Seconds."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([smh]?)", text)
    seconds = float(found[1]) * {"m": 60, "h": 3600}.get(found[2], 1) if found else 0.0
    if seconds == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: expected seconds, or a time such as 90s, 15m or 2h")
    return seconds


def _study_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not valid: expected up to 100 letters, digits and . _ + -, since files are named by it"
        )
    return text


def _parser(prog: str, description: str, epilog: str | None = None) -> Parser:
    return Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_what(parser: Parser) -> None:
    parser.add_argument("--task", help="what to predict: " + listed_tasks())
    parser.add_argument("--model", help="the model family: " + ", ".join(model_names()))


def _add_where(parser: Parser) -> None:
    parser.add_argument("--data-dir", type=Path, help="where FLIP's files are looked for first")
    parser.add_argument("--weights-dir", type=Path, help="where pretrained weights (NAME.pt) are looked for first")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="for everything written (default: runs)")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def _add_storage(parser: Parser) -> None:
    parser.add_argument("--storage", help="SQLAlchemy URL (default: $FLIPSEARCH_STORAGE, then runs/studies.db)")


def _search_parser() -> Parser:
    parser = _parser(
        "run_study.py",
        "Search the hyperparameters of a protein fitness model; the same command resumes its study.",
        _EPILOG,
    )
    _add_what(parser)
    parser.add_argument("--n-trials", type=_positive, default=100, help="finished trials of the study (default: 100)")
    parser.add_argument("--study-name", type=_study_name, help="default: TASK-MODEL")
    _add_storage(parser)
    parser.add_argument(
        "--export-dir",
        type=Path,
        default=Path("studies/experiment"),
        help="for the frozen experiment (default: %(default)s)",
    )
    parser.add_argument(
        "--max-failures", type=_positive, default=3, help="bugs in a row that stop the study (default: 3)"
    )
    parser.add_argument(
        "--keep-top",
        type=_positive,
        default=5,
        metavar="K",
        help="keep the checkpoints of the best K trials of the study (default: 5)",
    )
    parser.add_argument(
        "--max-retries",
        type=_count,
        default=3,
        metavar="N",
        help="how often a trial that lost its process, or failed with its machine, is run again (default: 3)",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N|auto",
        help="processes that train at once on this machine; auto: one for each GPU slot, or for every two cores "
        "without a GPU (default: 1)",
    )
    parser.add_argument(
        "--trials-per-gpu",
        type=_positive,
        default=1,
        metavar="K",
        help="slots of a GPU; it divides its memory (default: 1)",
    )
    parser.add_argument(
        "--timeout",
        type=_duration,
        metavar="TIME",
        help="end this call after seconds, or 90s, 15m, 2h (default: never)",
    )
    parser.add_argument(
        "--trial-timeout",
        type=_duration,
        metavar="TIME",
        help="a trial that takes longer is stopped and counts as pruned (default: never)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the config, the space and a trial; train nothing")
    _add_where(parser)
    return parser


def _train_parser() -> Parser:
    parser = _parser("run_study.py train", "Train once, without a search.")
    _add_what(parser)
    parser.add_argument("--experiment", type=Path, help="a frozen experiment, instead of --task and --model")
    _add_where(parser)
    return parser


def _verify_parser() -> Parser:
    parser = _parser(
        "run_study.py verify",
        "Train a frozen experiment again. Exit status 0: the same numbers; 1: they differ; 2: the file is not intact.",
    )
    parser.add_argument("file", type=Path, help="the experiment, e.g. studies/experiment/NAME.yaml")
    _add_where(parser)
    return parser


def _status_parser() -> Parser:
    parser = _parser("run_study.py status", "Where studies stand.")
    parser.add_argument("--study-name", help="one study (default: all)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON")
    how.add_argument("--watch", action="store_true", help="follow one study until Ctrl-C: workers, trials, rate, GPUs")
    parser.add_argument("--interval", type=_interval_s, metavar="S", help="seconds between two looks (default: 2)")
    _add_database(parser)
    return parser


def _drain_parser() -> Parser:
    return _study_parser("drain", "Let every worker of a study finish its trial, start none, and end.")


def _pause_parser() -> Parser:
    return _study_parser("pause", "Let every worker of a study finish its trial, and wait for resume or drain.")


def _resume_parser() -> Parser:
    return _study_parser("resume", "Let the workers of a paused or draining study go on.")


def _requeue_parser() -> Parser:
    parser = _study_parser("requeue", "Put a trial that failed, or ran out of memory or time, back in line once.")
    parser.add_argument("trial", type=_trial_number, metavar="TRIAL", help="its number")
    return parser


def _doctor_parser() -> Parser:
    parser = _parser(
        "run_study.py doctor",
        "Check what a search needs; nothing is downloaded or changed. Exit status 0: no problems; 1: some.",
    )
    parser.add_argument("--task", help="check the data of this task alone")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--data-dir", type=Path, help="where FLIP's files are looked for first")
    parser.add_argument("--weights-dir", type=Path, help="where pretrained weights (NAME.pt) are looked for first")
    parser.add_argument(
        "--export-dir", type=Path, default=Path("studies/experiment"), help="where a search would export to"
    )
    _add_database(parser)
    return parser


def _dashboard_parser() -> Parser:
    parser = _parser("run_study.py dashboard", "Show studies, trials and their files in a browser, until Ctrl-C.")
    parser.add_argument("--port", type=_port, default=8080, help="default: 8080; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--writable", action="store_true", help="let the browser change, rename and delete")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where the files are kept (default: runs)")
    _add_storage(parser)
    return parser


def _init_parser() -> Parser:
    parser = _parser(
        "run_study.py init",
        "Create the database's tables where they are missing and, on Postgres, a role that may only read them.",
    )
    parser.add_argument("--reader", metavar="ROLE", help="the role that the dashboard reads as")
    parser.add_argument("--reader-password-file", type=Path, metavar="FILE", help="a file that holds its password")
    _add_database(parser)
    return parser


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: expected a port from 0 to 65535")
    return int(text)


def _study_parser(command: str, description: str) -> Parser:
    """A command on one study that exists."""
    parser = _parser(f"run_study.py {command}", description)
    parser.add_argument("--study-name", required=True, help="the study")
    _add_database(parser)
    return parser


def _add_database(parser: Parser) -> None:
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help=argparse.SUPPRESS)
    _add_storage(parser)


_PARSERS = {
    "search": _search_parser,
    "train": _train_parser,
    "verify": _verify_parser,
    "status": _status_parser,
    "drain": _drain_parser,
    "pause": _pause_parser,
    "resume": _resume_parser,
    "requeue": _requeue_parser,
    "doctor": _doctor_parser,
    "dashboard": _dashboard_parser,
    "init": _init_parser,
}


def prog() -> str:
    """How the user called us, for the commands that we propose."""
    return f"python {sys.argv[0]}" if sys.argv and sys.argv[0] else "python run_study.py"
