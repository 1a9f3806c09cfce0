"""Where modules come from: `datasets`, `models` and `search` from this checkout, everything else from the environment.

Python puts the working directory (of `python -c`, by which multiprocessing starts its processes) or the folder of the
program before everything that is installed: a `torch.py` that lies there would be executed instead of torch, and a
package of ours could be hidden by an installed one of the same name, such as Hugging Face's `datasets`. A folder of
models that the user names is no such place either: `search.machine.own_models` executes its files without the path.

This file is executed by its path in every interpreter of ours, before that imports anything: by run_study.py, and by
search.machine.interpreters in the processes that multiprocessing starts. Until it has cleaned the path it therefore
imports nothing but `os` and `sys`, which Python has loaded by itself.

PYTHONPATH belongs to the user's environment, so its absolute folders are kept, even if one of them happens to be the
working directory. Three kinds of entries are dropped, for this process and those that it starts: an empty one and a
relative one, because both mean whatever stands where the program is called, and this checkout itself, because its other
files and folders (`tests`, `studies`, `runs`) are not packages. What Python itself imports from PYTHONPATH before
run_study.py begins (`encodings`, `sitecustomize`) is out of our reach.
"""

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
_OURS = ("datasets", "models", "search")


def _clean_path() -> None:
    """Take the working directory, the folder of the program and the checkout off the path, and out of PYTHONPATH."""
    given = os.environ.get("PYTHONPATH", "")
    entries = given.split(os.pathsep) if given else []
    kept = [entry for entry in entries if os.path.isabs(entry) and not _is_checkout(entry)]
    # By now Python has made them absolute.
    dropped = {os.path.abspath(entry) for entry in entries} - {os.path.abspath(entry) for entry in kept}
    path = sys.path if sys.flags.safe_path else sys.path[1:]  # the first is the program's, or the working directory
    sys.path[:] = [entry for entry in path if os.path.isabs(entry) and not _is_checkout(entry) and entry not in dropped]
    if kept:
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
    elif given:
        del os.environ["PYTHONPATH"]


def _is_checkout(entry: str) -> bool:
    return os.path.realpath(entry) == _ROOT


class _Checkout:
    """Finds the packages of this checkout, before any other finder is asked."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """The package of that name, if it is one of ours; None for every other module."""
        return PathFinder.find_spec(name, [_ROOT]) if name in _OURS else None


_clean_path()

from importlib.machinery import ModuleSpec, PathFinder  # noqa: E402  (only now is the path clean)

for _name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
    del sys.modules[_name]  # a .pth file of the environment has imported a package that is called like ours
sys.meta_path.insert(0, _Checkout())
