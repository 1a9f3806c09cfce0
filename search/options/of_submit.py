"""The options of `submit`: those of the search, and what a scheduler is asked for; the standard library alone."""

import argparse
import re
from collections.abc import Sequence

from datasets.common.errors import UserError
from search.options.of_commands import search_options
from search.options.parser import Parser
from search.options.values import duration, positive

STOP_S = 30
"""So long before the end of its time a trial that still runs is stopped, and written down to be run again."""
_LEAST_DRAIN_S, _MOST_DRAIN_S = STOP_S + 15, 65535  # more is no time for SLURM
_SLURM_ALONE = ("time", "partition", "account", "setup", "sbatch_options", "status", "cancel")
_KUBERNETES_ALONE = ("image", "storage_secret", "volume_claim")
_FLAGS = {"sbatch_options": "--sbatch"}
_SET_BY_US = re.compile(
    "array|export|export-file|requeue|no-requeue|open-mode|signal|output|error|job-name|chdir|wrap|parsable|test-only|"
    "wait|input|gres|time|partition|account|cpus-per-task|mem|ntasks|help|usage|version|quiet|verbose"
)


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


def _refusal(text: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text[:100]!r} is not valid: expected {expected}")


def gpus(text: str) -> str:
    """A number of GPUs, of a type where one is named."""
    if not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63}:)?(0|[1-9][0-9]{0,2})", text):
        raise _refusal(text, "a number such as 1, or a type and a number such as a100:1")
    return text


def memory(text: str) -> str:
    """A size in mebibytes, gibibytes or tebibytes."""
    if not re.fullmatch(r"[1-9][0-9]{0,6}[MGT]", text):
        raise _refusal(text, "a whole number and M, G or T, such as 16G")
    return text


def drain_time(text: str) -> int:
    """Whole seconds in which a worker drains."""
    seconds = int(duration(text))
    if not _LEAST_DRAIN_S <= seconds <= _MOST_DRAIN_S:
        raise _refusal(text, f"a time from {_LEAST_DRAIN_S}s to 18h, such as 90s or 15m")
    return seconds


def wall_time(text: str) -> int:
    """Whole seconds; a bare number would be seconds to us and minutes to SLURM."""
    found = re.fullmatch(r"(?:([0-9]{1,3})-)?([0-9]{1,3}):([0-5][0-9]):([0-5][0-9])", text)
    if found:
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    else:
        short = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
        total = int(short[1]) * {"m": 60, "h": 3600, "d": 86400}[short[2]] if short else 0
    if not 60 <= total < 1000 * 86400:
        raise _refusal(text, "a minute or more, such as 90m, 12h, 2d, 12:00:00 or 1-12:00:00")
    return total


def plain_name(text: str) -> str:
    """What stands in an #SBATCH line: a partition or several, an account."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,+-]{0,199}", text):
        raise _refusal(text, "letters, digits and _ . , + -")
    return text


def shell_line(text: str) -> str:
    """One line of shell, run as it is."""
    if not text.strip() or not text.isprintable() or text.endswith("\\") or len(text) > 2000:
        raise _refusal(text, "one whole line of shell without control characters, such as 'module load cuda'")
    return text


def sbatch_option(text: str) -> str:
    """An option of sbatch that is no other of ours."""
    found = re.fullmatch(r"--([a-z][a-z-]{1,40})(=[A-Za-z0-9_.,:/@%+*&|\[\]-]{1,200})?", text)
    if not found:
        raise _refusal(text, "a long option of sbatch and its value in one word, such as --sbatch=--qos=high")
    if _SET_BY_US.fullmatch(found[1]):
        raise argparse.ArgumentTypeError(f"--{found[1]} is set by `submit` itself: see its own options")
    return text


def image(text: str) -> str:
    """The name of an image."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", text):
        raise _refusal(text, "an image such as registry.example.org/flipsearch:1")
    return text


def object_name(text: str) -> str:
    """The name of an object in Kubernetes."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", text):
        raise _refusal(text, "lower-case letters, digits, - and .")
    return text
