"""The options of `submit`: those of the search, and what a scheduler is asked for; the standard library alone."""

import argparse
from collections.abc import Sequence

from datasets.common.errors import UserError
from search.options.of_commands import search_options
from search.options.parser import Parser
from search.options.values import (
    STOP_S,
    drain_time,
    gpus,
    image,
    memory,
    object_name,
    plain_name,
    positive,
    sbatch_option,
    shell_line,
    wall_time,
)

_SLURM_ALONE = ("time", "partition", "account", "setup", "sbatch_options", "status", "cancel")
_KUBERNETES_ALONE = ("image", "storage_secret", "volume_claim")
_FLAGS = {"sbatch_options": "--sbatch"}


def submit_options(parser: Parser) -> None:
    """Those of `submit`."""
    _own_options(parser)
    search_options(parser, dry_run="print what would be submitted; submit nothing")


def _own_options(parser: Parser) -> None:
    """Those that are no options of the search."""
    group = parser.add_argument_group("where workers of the study are started")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--slurm", action="store_true", help="as an array of jobs, by sbatch")
    where.add_argument("--kubernetes", action="store_true", help="as a Job; with --dry-run, for `kubectl apply -f -`")
    what = group.add_mutually_exclusive_group()
    what.add_argument("--status", action="store_true", help="how the submitted jobs of the studies stand")
    what.add_argument("--cancel", action="store_true", help="cancel those of the study that --study-name names")
    group.add_argument("--jobs", type=positive, metavar="N", help="so many of them (default: 1)")
    group.add_argument("--gpus", type=gpus, metavar="[TYPE:]N", help="of each (default: none)")
    group.add_argument("--cpus", type=positive, metavar="N", help="of each (default: the cluster's)")
    group.add_argument("--memory", type=memory, metavar="SIZE", help="of each, such as 16G (default: the cluster's)")
    group.add_argument(
        "--drain-time",
        type=drain_time,
        metavar="TIME",
        help="so long before its time limit, or once it is evicted, a worker starts no more trials; what still runs "
        f"{STOP_S} s before the end is stopped and run again (default: 90s)",
    )
    slurm = parser.add_argument_group("of --slurm")
    slurm.add_argument("--time", type=wall_time, metavar="TIME", help="limit of each job: 90m, 12h or D-HH:MM:SS")
    slurm.add_argument("--partition", type=plain_name, metavar="NAME")
    slurm.add_argument("--account", type=plain_name, metavar="NAME")
    slurm.add_argument(
        "--setup",
        type=shell_line,
        action="append",
        default=[],
        metavar="LINE",
        help='a line of shell that each job runs first, such as "module load cuda"; may be repeated',
    )
    slurm.add_argument(
        "--sbatch",
        dest="sbatch_options",
        type=sbatch_option,
        action="append",
        default=[],
        metavar="OPTION",
        help="another option of sbatch, such as --sbatch=--qos=high; may be repeated",
    )
    kubernetes = parser.add_argument_group("of --kubernetes")
    kubernetes.add_argument("--image", type=image, metavar="NAME", help="the image, made of the Dockerfile")
    kubernetes.add_argument(
        "--storage-secret",
        type=object_name,
        metavar="NAME",
        help="the Secret whose key FLIPSEARCH_STORAGE holds the database's URL (default: flipsearch)",
    )
    kubernetes.add_argument(
        "--volume-claim", type=object_name, metavar="NAME", help="a PersistentVolumeClaim for runs and experiments"
    )


def asks_about_jobs(arguments: argparse.Namespace) -> bool:
    """Whether the command is about jobs that there are, and names no search."""
    return bool(arguments.status or arguments.cancel)


def check_submit(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Refuse options that make no sense together, and fill in what is not given. Raises a UserError."""
    asks = asks_about_jobs(arguments)
    if not (arguments.slurm or arguments.kubernetes or asks):
        raise UserError("Name where workers are started: submit --slurm or submit --kubernetes.")
    others = _SLURM_ALONE if arguments.kubernetes else _KUBERNETES_ALONE
    for name in others:
        if getattr(arguments, name):
            flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
            raise UserError(f"{flag} is of {'--slurm' if arguments.kubernetes else '--kubernetes'}: leave it out.")
    if asks:
        which = "--status" if arguments.status else "--cancel"
        given = next((f"--{name}" for name in ("task", "model", "data", "jobs", "dry_run") if _is(arguments, name)), "")
        if given or overrides:
            raise UserError(
                f"{which} is about jobs that were submitted and takes no {(given or overrides[0]).replace('_', '-')}: "
                "name the study with --study-name."
            )
        if arguments.cancel and arguments.study_name is None:
            raise UserError("--cancel needs the study's name: add --study-name, as `submit --status` shows it.")
        return
    if arguments.kubernetes and arguments.image is None:
        raise UserError("--kubernetes needs the image that its pods run: add --image NAME, made of the Dockerfile.")
    if arguments.kubernetes and arguments.gpus and ":" in arguments.gpus:
        raise UserError(f"--gpus {arguments.gpus} names a type, which Kubernetes has no word for: give the number.")
    arguments.jobs = arguments.jobs or 1
    arguments.gpus = arguments.gpus if arguments.gpus not in (None, "0") else None
    arguments.drain_time = arguments.drain_time or 90
    arguments.storage_secret = arguments.storage_secret or "flipsearch"
    if arguments.time is not None and arguments.time <= arguments.drain_time:
        raise UserError(
            f"--time of {arguments.time} s leaves none for trials: workers drain the last {arguments.drain_time} s "
            "(--drain-time)."
        )


def _is(arguments: argparse.Namespace, name: str) -> bool:
    return getattr(arguments, name) not in (None, False)


def search_words(words: Sequence[str]) -> list[str]:
    """The words of the command line, which was parsed already, without the options that are no search's."""
    parser = Parser(add_help=False)
    _own_options(parser)
    n_values = {flag: action.nargs != 0 for action in parser._actions for flag in action.option_strings}
    n_values["--dry-run"] = False
    rest, before = [], iter(words)
    for word in before:
        flag, equals, _ = word.partition("=")
        if flag not in n_values:
            rest.append(word)
        elif n_values[flag] and not equals:
            next(before, None)
    return rest
