"""The command line, parsed with the standard library alone so that usage errors answer at once."""

import argparse
import itertools
import re
from collections.abc import Sequence

from datasets.common.errors import UserError, nearest
from datasets.tables.table import ALL_FOLDS, table_name
from datasets.tasks.registry import find_task, listed_tasks
from search.checkout import STUDIES
from search.machine import own_models
from search.options.commands import COMMANDS
from search.options.folders import set_folders
from search.options.of_commands import check_serve_options
from search.options.of_submit import asks_about_jobs, check_submit, search_words
from search.options.of_suggest import check_suggest
from search.options.parser import LADDER, Parser, model_names
from search.options.table_options import check_data_command, check_data_options, with_rounds

_DEFAULT = "search"
_LADDER = "ladder"
_MOST_SOURCES, _LONGEST_SOURCE = 20, 4096  # of a warm start
_EPILOG = """\
Values of the config are overridden as on Hydra's command line:
  trainer.max_epochs=5 model.dropout=0.1 space.model.channels.high=128 ~space.model.depth sampler=random

other commands (each with --help):
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, `command` among them (`search` where none is named).

    Raises:
        UserError: A flag, a task, a model or a value is not valid.
    """
    if argv and re.fullmatch(r"[a-z]+", argv[0]) and argv[0] not in COMMANDS:
        raise UserError(f"There is no command {argv[0]!r}.{nearest(argv[0], list(COMMANDS))} See --help.")
    command = argv[0] if argv and argv[0] in COMMANDS else _DEFAULT
    parser = _parser(command)
    rest = list(argv[1:] if argv and argv[0] == command else argv)
    _refuse_empty(rest)
    # A word such as `~space.model.depth` or `trainer.max_epochs=5` is an override wherever it stands.
    arguments, unknown = parser.parse_known_args(rest)
    overrides = [word for word in unknown if not word.startswith("-")]
    parser.refuse_unknown([word for word in unknown if word.startswith("-")])
    arguments.command = command
    own_models.use_folder(getattr(arguments, "models_dir", None))
    if command == "submit":
        check_submit(arguments, overrides)
        arguments.search_words = search_words(rest)
    if command == "submit" and asks_about_jobs(arguments):
        arguments.overrides = []
    elif COMMANDS[command].takes_overrides:
        arguments.overrides = _complete_overrides(arguments, overrides)
    elif overrides and hasattr(arguments, "others"):
        raise UserError(
            f"{overrides[0]!r} stands behind an option: name all experiments one behind another, as in `{parser.prog} "
            f"EXPERIMENT {overrides[0]} ...`, and the options after them."
        )
    elif overrides:
        raise UserError(f"`{parser.prog}` takes no {overrides[0]!r}: see --help.")
    if command == "status" and arguments.interval is not None and not arguments.watch:
        raise UserError("--interval is how often --watch looks: give both, or neither.")
    if command == "confirm" and arguments.all_folds and arguments.top_k is not None:
        raise UserError(
            "--all-folds is of one experiment for each fold, and --top-k of several: leave one of them out."
        )
    if command == "suggest":
        check_suggest(parser, arguments)
    if command in ("search", "submit") and arguments.address is not None and arguments.engine is None:
        raise UserError("--address is where the Ray cluster of --engine ray is: give both, or neither.")
    if command in ("search", "submit") and arguments.ship and arguments.engine is None:
        raise UserError("--ship sends the program and the data to the nodes of --engine ray: give both, or neither.")
    if command == "data":
        check_data_command(arguments)
    if command == "serve":
        check_serve_options(arguments)
    if command not in ("search", "data") and getattr(arguments, "properties", None):
        raise UserError(f"--target-column is given several times, and `{command}` is of one property: name one.")
    if command == "doctor" and arguments.task:
        find_task(arguments.task)
    set_folders(arguments)
    return arguments


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse an option without a value: a variable of the shell that is not set would pass for one not given."""
    for before, word in itertools.pairwise(["", *words]):
        option = before if not word else word[:-1] if word.endswith("=") else ""
        if option.startswith("--"):
            raise UserError(f"{option} is given an empty value: name one, or leave the option out.")


def _complete_overrides(arguments: argparse.Namespace, overrides: list[str]) -> list[str]:
    """The Hydra overrides, those that the options stand for included; task and model are checked."""
    is_table = arguments.data is not None and arguments.fold_column is None
    arguments.round_column, overrides = with_rounds(arguments.round_column, overrides, is_table=is_table)
    check_data_options(arguments)
    if arguments.command == "train" and arguments.experiment:
        if arguments.task or arguments.model or overrides:
            raise UserError("train --experiment FILE takes no --task, --model or overrides: the file says it all.")
        return []
    given = dict(word.lstrip("+").split("=", 1) for word in overrides if "=" in word)
    if arguments.task and given.get("task", arguments.task) != arguments.task:
        raise UserError(f"--task {arguments.task} and task={given['task']} exclude each other: name one.")
    if arguments.command not in ("search", "submit") and arguments.test_fold == ALL_FOLDS:
        raise UserError(f"--test-fold {ALL_FOLDS} is for a search: `{arguments.command}` takes one fold.")
    task = arguments.task or given.get("task")
    named = _models(arguments.model)
    models = [given["model"]] if given.get("model") else named
    if arguments.data:
        if task:
            raise UserError(f"--data {arguments.data} and the task {task} exclude each other: name one.")
        task = table_name(arguments.data)
    elif task:
        find_task(task)
    if not task or not models:
        raise UserError(
            f"Name a task and a model: --task T --model M. "
            f"Tasks: {listed_tasks()}. Models: {', '.join(model_names())}. "
            "For data of your own: --data FILE --split STRATEGY."
        )
    for model in models:
        check_model(model)
    if named not in ([], models):
        raise UserError(f"--model {', '.join(named)} and model={models[0]} exclude each other: name one.")
    if arguments.command in ("search", "submit"):
        check_warm_start(arguments.warm_start, allow_seen=arguments.allow_seen)
        if arguments.warm_start and len(models) > 1:
            raise UserError("--warm-start is for a search of one model, since configurations are those of a model.")
    if (own := own_models.in_use()) is not None and not own.configs.keys().isdisjoint(models):
        arguments.models_dir = arguments.models_dir or own.folder  # for the commands that are proposed
    arguments.task, arguments.model = task, models[0]
    arguments.models = tuple(models) if len(models) > 1 else ()
    rest = [word for word in overrides if word.lstrip("+").split("=", 1)[0] not in ("task", "model")]
    return [f"task='{task}'" if arguments.data else f"task={task}", f"model={models[0]}", *rest]


def check_model(name: str) -> None:
    """Refuse a model that there is not, and one of the user's own that is called like something of the checkout."""
    own = own_models.in_use()
    if own is not None and name in own.configs:
        taken = [group for group in ("model", "space") if (STUDIES / group / f"{name}.yaml").exists()]
        if taken:
            raise UserError(
                f"{own.folder / name}.yaml is called like a {taken[0]} of flipsearch's own, which nothing may replace: "
                "give it another name."
            )
    elif name not in model_names():
        names = [*model_names(), *(own.configs if own else ())]
        where = "" if own else " One of your own is found with --models-dir DIR."
        raise UserError(
            f"There is no model {name!r}.{nearest(name, [*names, _LADDER])} Models: {', '.join(names)}.{where}"
        )


def check_warm_start(names: Sequence[str], *, allow_seen: bool) -> None:
    """Refuse what no study can begin with."""
    for name in names:
        if not name.isprintable() or not 1 <= len(name) <= _LONGEST_SOURCE:
            raise UserError(f"--warm-start {name!r:.120} is not valid: name a study, or an experiment's file.")
    if len(names) > _MOST_SOURCES:
        raise UserError(f"--warm-start is given {len(names)} times: name {_MOST_SOURCES} studies at most.")
    if allow_seen and not names:
        raise UserError("--allow-seen is for --warm-start: give both, or neither.")


def _models(named: str | list[str] | None) -> list[str]:
    """The models that --model names, each once."""
    names = [named] if isinstance(named, str) else named or []
    return list(dict.fromkeys(model for name in names for model in (LADDER if name == _LADDER else (name,))))


def _parser(name: str) -> Parser:
    is_default = name == _DEFAULT
    parser = Parser(
        prog="run_study.py" if is_default else f"run_study.py {name}",
        description=COMMANDS[name].description,
        epilog=_EPILOG + _listed_commands() if is_default else None,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    COMMANDS[name].add_options(parser)
    return parser


def _listed_commands() -> str:
    others = {name: command.summary for name, command in COMMANDS.items() if name != _DEFAULT}
    width = max(map(len, others))
    return "\n".join(f"  {name:{width}}  {summary}" for name, summary in others.items())
