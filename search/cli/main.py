"""From the command line to a command, and from errors to sentences and exit statuses.

0: done. 1: a failure of the program or a study without a result. 2: bad input, in one sentence. 130, 143: signals.
"""

import gc
import re
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial

from datasets.common.bars import silence
from datasets.common.errors import UserError
from search.checkout import ROOT
from search.machine.limits import check_umask, check_working_directory, limit_reached
from search.machine.standard_streams import printable
from search.options.arguments import parse
from search.options.commands import COMMANDS

# What a command makes, modules and the rows of thousands of trials, mostly lives as long as it does: to look for
# garbage among it every 700 objects, as Python does, takes a fifth of the time of `status`.
_OBJECTS_BETWEEN_LOOKS = 100_000


def main(argv: Sequence[str]) -> int:
    """Run a command and return the exit status."""
    status = _explained(partial(_run, argv))
    # What is left to be written fails here, in a sentence, rather than when Python ends.
    failed = _explained(_flush)
    return status or failed


def _run(argv: Sequence[str]) -> int:
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)
    arguments = parse(argv)
    silence(getattr(arguments, "quiet", False))
    check_umask()
    check_working_directory()
    _check_environment()
    from search.machine.interpreters import guard_interpreters  # multiprocessing costs a usage error time

    guard_interpreters()  # no process that this one starts imports from the working directory
    return COMMANDS[arguments.command].run(arguments)


def _flush() -> int:
    if sys.stdout is not None:
        sys.stdout.flush()
    return 0


def _explained(act: Callable[[], int]) -> int:
    """Return the exit status of what is done, errors as sentences."""
    try:
        return act()
    except UserError as error:
        print("error:", printable(" ".join(str(error).split())), file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one has nothing left to stop
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1  # whoever read our output has left
    except PermissionError as error:
        if error.filename is None:
            raise
        file = printable(" ".join(str(error.filename).split()))
        print(f"error: {file} cannot be used ({error.strerror}): name another.", file=sys.stderr)
        return UserError.exit_status
    except Exception as error:
        reached = limit_reached(error)
        if reached is None:
            raise
        print("error:", reached, file=sys.stderr)
        return reached.exit_status


def _check_environment() -> None:
    """Say which packages are missing, if we were started outside of the environment.

    Raises:
        UserError: Some are.
    """
    # These two cost a usage error a third of its time.
    import tomllib
    from importlib.metadata import PackageNotFoundError, distribution

    missing = []
    for requirement in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]:
        name = re.split(r"[\[<>=!~ ]", requirement)[0]
        try:
            distribution(name)  # unlike version(), this reads no file
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        raise UserError(
            f"These packages are missing from {sys.executable}: {', '.join(missing)}; run `make .venv` once and then "
            "`.venv/bin/python run_study.py ...`."
        )
