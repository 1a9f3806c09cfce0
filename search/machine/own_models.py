"""Models outside the checkout: a folder of the user's own, named by `--models-dir`, or else by `$FLIPSEARCH_MODELS`.

    FOLDER/linear.py     the model, `own_models.linear.Linear` for configs; it may import others, `own_models.layers`
    FOLDER/linear.yaml   its defaults and its space, which `--model linear` takes

What stands there is code that runs as the user. So nothing else can name the folder, no experiment and no database, and
it has to be the user's alone, as ssh wants of its files. All of it is read once; what was read is what is checked,
hashed and executed, in every process of a command: each is given the sources, and none reads the files again, which
may change meanwhile. The folder is not on Python's path.

Imports the standard library alone, because usage errors pass through here.
"""

import ast
import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import os
import stat
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.common.errors import UserError

PACKAGE = "own_models"
VARIABLE = "FLIPSEARCH_MODELS"
HOW_TO_NAME = f"with --models-dir DIR or ${VARIABLE}"
_MOST_BYTES = 2**20  # of a file
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, kw_only=True)
class OwnModels:
    """What a folder held when it was read: the source of each module and the text of each config, by name."""

    folder: Path
    sources: Mapping[str, str]
    configs: Mapping[str, str]

    def path(self, module: str) -> Path:
        """The file of `own_models.linear`, whether there is one or not."""
        return self.folder / f"{module.rpartition('.')[2]}.py"

    def source(self, module: str) -> str | None:
        """The source of `own_models.linear`; None where there is none."""
        package, _, name = module.rpartition(".")
        return self.sources.get(name) if package == PACKAGE else None

    def hash(self, module: str) -> str:
        """`sha256:` and the digest of a module and of those in the folder that it imports, whatever else is there."""
        found = hashlib.sha256()
        for name in sorted(self._needed(module)):
            found.update(f"{name}\0{len(self.sources[name])}\0{self.sources[name]}".encode())
        return f"sha256:{found.hexdigest()}"

    def _needed(self, module: str) -> set[str]:
        needed: set[str] = set()
        left = [module]
        while left:
            name = left.pop().removeprefix(f"{PACKAGE}.")
            if name in self.sources and name not in needed:
                needed.add(name)
                with contextlib.suppress(SyntaxError, ValueError):  # it cannot be imported either
                    left += _imported(ast.parse(self.sources[name]))
        return needed


def _imported(tree: ast.Module) -> Iterator[str]:
    """The modules of the folder that a module may mean by its imports, `own_models.linear` or `linear`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_own(alias.name))
        elif isinstance(node, ast.ImportFrom) and (node.level or is_own(node.module or "")):
            yield from (node.module or "", *(alias.name for alias in node.names))


_in_use: OwnModels | None = None
_is_known = False  # whether `_in_use` was given, or the environment has been asked


def use(models: OwnModels | None) -> None:
    """From now on these are the models of this process, or none; what was imported of others is forgotten."""
    global _in_use, _is_known
    if models != _in_use:
        for name in [name for name in sys.modules if is_own(name)]:
            del sys.modules[name]
    _in_use, _is_known = models, True


def use_folder(named: Path | None) -> None:
    """Use the models of the folder that an option names; without one the environment is asked when one is needed.

    Raises:
        UserError: The folder cannot be read, or is not the user's alone.
    """
    global _is_known
    if named is None:
        _is_known = False
    else:
        use(_read_folder(named, "--models-dir"))


def in_use() -> OwnModels | None:
    """The models of this process, None where nobody named any.

    Raises:
        UserError: See `use_folder`; or the folder that the environment names is not an absolute path.
    """
    if not _is_known:
        use(_from_environment())
    return _in_use


def is_own(target: str) -> bool:
    """Whether the name of a class or module leads into the folder."""
    return target.partition(".")[0] == PACKAGE


def source_hash(target: str) -> str | None:
    """The hash of what the class `own_models.linear.Linear` is made of; None of a class of the checkout."""
    models = in_use() if is_own(target) else None
    return models.hash(target.rpartition(".")[0]) if models else None


def import_own(module: str) -> types.ModuleType:
    """Import `own_models.linear`.

    Raises:
        ImportError: There is no such module in the folder, or no folder.
        UserError: The module cannot be imported; the sentence says why and at which line.
    """
    models = in_use()
    if models is None or models.source(module) is None:
        raise ImportError(f"there is no module {module}", name=module)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        lines = [line for file, line in _places(error) if Path(file).parent == models.folder]
        where = f", line {lines[-1]}" if lines else ""
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{models.path(module)} cannot be imported ({what}{where}): mend it.") from error


def _places(error: BaseException) -> Iterator[tuple[str, int]]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the package of the user's models and its modules, and executes what was read of them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The package, or a module of it; None for everything else."""
        if not is_own(name) or _in_use is None or (name != PACKAGE and _in_use.source(name) is None):
            return None
        origin = str(_in_use.folder if name == PACKAGE else _in_use.path(name))
        return importlib.machinery.ModuleSpec(name, self, origin=origin, is_package=name == PACKAGE)

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute the source as it was read."""
        if _in_use is not None and (source := _in_use.source(module.__name__)) is not None:
            path = str(_in_use.path(module.__name__))
            module.__file__ = path
            exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)


def _from_environment() -> OwnModels | None:
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    if not os.path.isabs(named):
        raise UserError(
            f"${VARIABLE}={named} is not valid: expected the whole path of a folder, since another would be meant "
            "wherever a command is called; name it whole, or by --models-dir."
        )
    return _read_folder(Path(named), f"${VARIABLE}")


def _read_folder(named: Path, by: str) -> OwnModels:
    """Read a folder of models; `by` says what named it.

    Raises:
        UserError: It is no folder, it or a file of it is not the user's alone, or cannot be read.
    """
    try:
        folder = named.resolve(strict=True)
        for place in (folder, *folder.parents):
            about = os.stat(place)
            is_sticky = place != folder and bool(about.st_mode & stat.S_ISVTX)  # /tmp: others replace nothing there
            _check_owner(place, about, by, may_write=is_sticky)
        if not folder.is_dir():
            raise NotADirectoryError(0, "it is no folder")
        found = sorted(path for path in folder.iterdir() if path.stem.isidentifier())
    except (OSError, RuntimeError) as error:  # a loop of links
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{by} {named} cannot be read ({why}): name the folder that holds your models.") from None
    return OwnModels(
        folder=folder,
        sources={path.stem: _read(path, by) for path in found if path.suffix == ".py"},
        configs={path.stem: _read(path, by) for path in found if path.suffix == ".yaml"},
    )


def _read(path: Path, by: str) -> str:
    try:
        # Without following a link to a file of others, and without waiting for whoever writes into a FIFO.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(file, "rb") as opened:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                raise OSError(0, "it is no plain file")
            _check_owner(path, about, by)
            data = opened.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise OSError(0, f"it has more than {_MOST_BYTES:,} bytes")
        return data.decode("utf-8")
    except UnicodeDecodeError:
        why = "it is not UTF-8 text"
    except OSError as error:
        why = "it is a link" if path.is_symlink() else str(error.strerror)
    raise UserError(f"{path}, in the folder that {by} names, cannot be read ({why}): mend it, or move it away.")


def _check_owner(path: Path, about: os.stat_result, by: str, *, may_write: bool = False) -> None:
    if about.st_uid not in (os.geteuid(), 0):
        why, remedy = "it belongs to another user", "copy the models into a folder of your own"
    elif about.st_mode & _WRITABLE and not may_write:
        why, remedy = "others may write it", f"chmod go-w {path}"
    else:
        return
    raise UserError(f"{path} is not believed, because {why}, and the models that {by} names run as you: {remedy}.")
