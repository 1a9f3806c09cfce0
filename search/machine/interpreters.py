"""How the interpreters begin that multiprocessing starts: forkservers, spawned workers, resource trackers."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import util
from pathlib import Path
from typing import Any

_OWN_IMPORTS = str(Path(__file__).with_name("own_imports.py").resolve())
_spawn = util.spawnv_passfds


def guard_interpreters() -> None:
    """Let every process that multiprocessing starts take its modules from where `search.machine.own_imports` says.

    Without this its `python -c` would import from the working directory first of all. All ways to start one go through
    the one function that is replaced here; the environment, which could say some of it, stays as the user made it.
    """
    util.spawnv_passfds = _start


@contextlib.contextmanager
def without_program() -> Iterator[None]:
    """Let processes that are started in this block not read and run the program that calls us once more.

    multiprocessing does so in every child. What ours do stands in modules; a user's script would search again, and
    run_study.py may be another version's by then.
    """
    program = sys.modules["__main__"].__dict__
    file, spec = program.pop("__file__", None), program.get("__spec__")
    program["__spec__"] = None
    try:
        yield
    finally:
        program["__spec__"] = spec
        if file is not None:
            program["__file__"] = file


def _start(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
    """Start an interpreter without the working directory on its path, and let it clean the path before its program."""
    at = list(args).index("-c") + 1
    # The file is closed at once: with PYTHONWARNINGS=error, every process would complain of it.
    program = (
        f"f = {_OWN_IMPORTS!a}\n"
        "with open(f, 'rb') as file: code = compile(file.read(), f, 'exec')\n"
        f"exec(code, {{'__file__': f}}); {args[at]!s}"
    )
    return _spawn(path, [args[0], "-P", *args[1:at], program, *args[at + 1 :]], passfds)
