"""Which folders a command works in: those that an option names, or the environment, or a file beside the work.

The file stands in the working directory, where others may be able to write. So it may name these two folders and
nothing else, no database above all, and is believed only where it belongs to whoever runs the command
(docs/security.md).

Imports the standard library alone, because usage errors pass through here.
"""

import argparse
import os
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path

from datasets.common.errors import UserError, nearest

FILE = "flipsearch.toml"
VARIABLES = {"runs_dir": "FLIPSEARCH_RUNS", "export_dir": "FLIPSEARCH_EXPORT"}
DEFAULTS = {"runs_dir": Path("runs"), "export_dir": Path("studies/experiment")}
_MAX_BYTES = 1 << 16
_BRIEFLY = reprlib.Repr()
_BRIEFLY.maxstring = _BRIEFLY.maxother = 100
_BRIEFLY.maxlevel = 3


def set_folders(arguments: argparse.Namespace) -> None:
    """Fill in the folders that no option names, and write down in `folders_from` what named each.

    Raises:
        UserError: The environment or the file is not valid, or a folder is none that there can be.
    """
    sources: dict[str, str] = {}
    for name in DEFAULTS:
        if name in arguments:
            sources[name] = option(name)
            if getattr(arguments, name) is None:
                folder, sources[name] = usual_folder(name)
                setattr(arguments, name, folder)
            _check(getattr(arguments, name), sources[name])
    arguments.folders_from = sources


def usual_folder(name: str) -> tuple[Path, str]:
    """The folder that is meant where no option names it, and what named it.

    Raises:
        UserError: The file beside the work is not valid.
    """
    if named := os.environ.get(VARIABLES[name]):
        return Path(named), f"${VARIABLES[name]}"
    in_file = _read(Path(FILE))
    return (in_file[name], FILE) if name in in_file else (DEFAULTS[name], "default")


def described(arguments: argparse.Namespace) -> str:
    """`# folders: runs (default), studies/experiment ($FLIPSEARCH_EXPORT)`."""
    named = arguments.folders_from.items()
    return "# folders: " + ", ".join(f"{getattr(arguments, name)} ({source})" for name, source in named)


def _check(folder: Path, source: str) -> None:
    """Refuse a folder that cannot even be looked for; one that is not there is made, or refused, by whoever needs it.

    Raises:
        UserError: Its name is too long, say, or is below a folder that this user may not enter.
    """
    try:
        folder.exists()
    except OSError as error:
        shown = f"{str(folder)[:100]}..." if len(str(folder)) > 100 else folder
        raise UserError(f"The folder {shown} ({source}) cannot be used ({error.strerror}): name another.") from None


def option(name: str) -> str:
    """`--runs-dir` of `runs_dir`."""
    return f"--{name.replace('_', '-')}"


def _read(path: Path) -> Mapping[str, Path]:
    """The folders that the file names; none where there is no file."""
    text = _text(path)
    if text is None:
        return {}
    import tomllib  # most working directories have no such file

    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # what is no TOML, and whole numbers of thousands of digits
        why = str(error).partition("\n")[0] or "too deeply nested"
        raise UserError(f"{path} is not valid TOML ({why}): {_EXPECTED}.") from None
    return {key: _folder(path, key, value) for key, value in found.items()}


def _folder(path: Path, key: str, value: object) -> Path:
    if key in ("storage", "storage_url", "database"):
        raise UserError(
            f"{path} names a database ({key}), which a file in the working directory may not: take it out, and name "
            "the database by --storage or $FLIPSEARCH_STORAGE."
        )
    if key not in DEFAULTS:
        raise UserError(f"{path} has a key {_shown(key)} that is not known: {_EXPECTED}.{nearest(key, list(DEFAULTS))}")
    if not isinstance(value, str) or not value or not value.isprintable() or value.startswith("~"):
        raise UserError(
            f"{path} has {key} = {_shown(value)}: expected the path of a folder in quotation marks, whole or relative "
            "to the file, without ~."
        )
    return path.parent / value


def _shown(value: object) -> str:
    """A value in at most a line: a file may hold one that fills the screen, or more digits than Python writes."""
    try:
        return _BRIEFLY.repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _text(path: Path) -> str | None:
    """What the file holds; None where there is none.

    Raises:
        UserError: It is no plain file, somebody else may have written it, or it cannot be read.
    """
    try:
        # Without waiting for whoever writes into a FIFO, and without following a link to somebody's other file.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "it is a link" if path.is_symlink() else error.strerror
        raise UserError(f"{path} cannot be read ({why}): {_REMEDY}.") from None
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise UserError(f"{path} is no plain file: {_REMEDY}.")
        if about.st_uid not in (os.geteuid(), 0) or about.st_mode & stat.S_IWOTH:
            whose = "everybody may write it" if about.st_mode & stat.S_IWOTH else "it belongs to another user"
            raise UserError(f"{path} is not believed, because {whose}: {_REMEDY}.")
        with open(file, "rb", closefd=False) as opened:
            data = opened.read(_MAX_BYTES + 1)
    finally:
        os.close(file)
    if len(data) > _MAX_BYTES:
        raise UserError(f"{path} has more than {_MAX_BYTES:,} bytes: {_EXPECTED}.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: {_EXPECTED}.") from None


_EXPECTED = 'expected runs_dir = "FOLDER" and export_dir = "FOLDER", or one of them'
_REMEDY = "make it a file of your own, or move it away and set $FLIPSEARCH_RUNS and $FLIPSEARCH_EXPORT"
