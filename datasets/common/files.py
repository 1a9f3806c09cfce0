"""Files that a user names: one rule for how they are written, and pipes that are read like files.

An output is written beside its place and moved there once it is whole. A symbolic link is followed: the file that it
leads to is replaced, the link stays. A file keeps its mode; one that is read-only is refused. What is no file takes
the output as it comes: a FIFO, a terminal or another character device, and `-`, which is standard output.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from datasets.common.errors import UserError
from datasets.common.umask import umask

STANDARD = Path("-")
"""Standard output of an output, standard input of an input."""
_LEFTOVER = re.compile(r"\..{1,40}\.([0-9]+|[0-9a-f]{32})", re.DOTALL)  # as `_beside` calls them, now and before
_LEFT_S = 24 * 3600.0  # nobody who still writes is silent as long
_DESCRIPTORS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def is_stream(path: Path) -> bool:
    """Return whether a path takes or gives its content as it comes: it is no file, nor will it be one."""
    return path == STANDARD or _descriptor(path) is not None or _is_no_file(path)


def place_of(path: Path) -> Path:
    """Return where an output that is no stream stands in the end: links are followed, one that leads nowhere too."""
    return Path(os.path.realpath(path))


def check_output(path: Path, option: str = "--output", *, makes_folder: bool = False) -> None:
    """Refuse an output that `output` could not write, before anything costs time; nothing is written.

    `makes_folder`: a folder that is missing is none of the reasons. A UserError names the reason.
    """
    if path == STANDARD and _is_closed(sys.stdout, os.O_RDONLY):
        raise UserError(f"Standard output is closed: name a file with {option}.")
    if path == STANDARD or _descriptor(path) is not None:
        return
    try:
        found = _status(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{option} {path} cannot be written ({_reason(error)}): name another file.") from None
    if found is not None:
        _check_kind(path, found, option)
        if not stat.S_ISREG(found.st_mode):
            return
    folder = place_of(path).parent
    if not folder.is_dir():
        if not makes_folder:
            shown = folder if path.is_symlink() else path.parent
            raise UserError(f"There is no folder {shown} for {option} {path}: make it, or name another.")
        folder = next(parent for parent in folder.parents if parent.exists())
    if not os.access(folder, os.W_OK):
        raise UserError(f"The folder {folder} of {option} {path} cannot be written: name another.")


def refuse_same_file(read: Path, written: Path, name: str, option: str = "--output") -> None:
    """Refuse an output that is a file, or a FIFO, which is read; a terminal may well be both. Raises a UserError."""
    try:
        found = read.stat()
        is_same = os.path.samestat(found, written.stat())
    except (OSError, ValueError):
        return
    if is_same and (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode)):
        raise UserError(f"{option} {written} is {name} itself: name another file.")


@contextlib.contextmanager
def output(
    path: Path, mode: Literal["w", "wb"] = "w", *, option: str = "--output", makes_folder: bool = False
) -> Iterator[IO[Any]]:
    """Yield a file, of text in UTF-8 or of bytes, whose content is at `path` when the block has ended well.

    After an exception `path` is as it was before, unless it is a stream.

    Raises:
        UserError: It cannot be written.
        BrokenPipeError: Whoever read the stream has left.
    """
    check_output(path, option, makes_folder=makes_folder)
    try:
        if path == STANDARD:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8")  # as files are
            yield sys.stdout if mode == "w" else sys.stdout.buffer
            sys.stdout.flush()
        elif is_stream(path):
            descriptor = _descriptor(path)
            with _opened(path if descriptor is None else os.dup(descriptor), mode) as stream:
                yield stream
        else:
            if makes_folder:
                place_of(path).parent.mkdir(parents=True, exist_ok=True)
            with replaced(place_of(path)) as beside, _opened(beside, mode) as file:
                yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "Standard output" if path == STANDARD else str(path)
        raise UserError(
            f"{name} cannot be written ({_reason(error)}): make room, or name another file with {option}."
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a file of the program's own beside its place and move it there; an OSError passes through."""
    with replaced(path) as beside:
        beside.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed a day ago or earlier left unfinished in a folder of the program's own."""
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if _LEFTOVER.fullmatch(path.name) and time.time() - path.lstat().st_mtime > _LEFT_S:
                path.unlink()


def with_usual_mode(path: Path) -> None:
    """Give a file the mode that any new file has, by the umask; some libraries (safetensors) make private ones."""
    path.chmod(0o666 & ~umask())


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits; an OSError passes through."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


FileState = tuple[int, ...]


def file_state(path: Path) -> FileState:
    """Return what changes with each save of a file, without reading it; nothing where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # a name that no file can have
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def named_hash(path: Path, what: str, remedy: str = "name the file where it is now") -> str:
    """Return the SHA-256 of a file of `what` that a user named. Raises a UserError if it cannot be read."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"The {what} {path} are a folder, a pipe or a device and no file: save them as a file.")
        return file_hash(path)
    except (OSError, ValueError) as error:  # a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"The {what} {path} cannot be read ({reason}): {remedy}.") from None


def link(source: Path, target: Path) -> None:
    """Let `target` be the file that `source` is now, in place of what it was; its folder is made.

    It is a second name (a hard link), which costs no space; a copy where the file system knows none, or is another one.
    An OSError says that neither is possible.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(target)
    try:
        try:
            os.link(source, beside)
        except OSError:
            shutil.copyfile(source, beside)
        os.replace(beside, target)  # not by `replaced`: to change the mode of a link is to change the source's
    finally:
        beside.unlink(missing_ok=True)  # of two links to one file none is replaced


@contextlib.contextmanager
def rereadable(path: Path) -> Iterator[Path]:
    """Yield a path from which the content of `path` can be read any number of times.

    A file's is its own. A pipe, a FIFO, a terminal, `-` (standard input): theirs comes once, and is kept in a temporary
    file meanwhile. A UserError that names this file names `path` instead.
    """
    source = _descriptor(path) if path != STANDARD else 0
    if not _comes_once(path, source):
        yield path
        return
    shown = "standard input" if path == STANDARD else str(path)
    if source == 0 and _is_closed(sys.stdin, os.O_WRONLY):
        raise UserError("Standard input is closed: name a file.")
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flipsearch-"))
            copy = Path(folder) / ("standard input" if path == STANDARD else path.name)
            with _opened(path if source is None else os.dup(source), "rb") as stream, copy.open("wb") as file:
                shutil.copyfileobj(stream, file)
        except OSError as error:
            raise UserError(
                f"What {shown} gives cannot be kept in {tempfile.tempdir or 'a temporary folder'} ({_reason(error)}): "
                "make room there, set $TMPDIR to another folder, or name a file."
            ) from None
        try:
            yield copy
        except UserError as error:
            error.args = (str(error).replace(str(copy), shown), *error.args[1:])
            raise


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file that a path names, `/dev/stdout` or `/dev/fd/3`: to open it anew would empty
    a file that it leads to.
    """
    name = os.path.normpath(path)
    found = re.fullmatch(rf"/dev/fd/([0-9]+)|/proc/(?:self|{os.getpid()})/fd/([0-9]+)", name)
    return int(found[1] or found[2]) if found else _DESCRIPTORS.get(name)


def _is_closed(stream: IO[str] | None, other_way: int) -> bool:
    """Whether a stream was closed when the program started: it is missing, or goes the other way alone."""
    if stream is None or stream.closed:
        return True
    with contextlib.suppress(OSError, ValueError):  # no file of the system's, as in a notebook
        return fcntl.fcntl(stream.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == other_way
    return False


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_no_file(path: Path) -> bool:
    try:
        found = _status(path)
    except (OSError, ValueError):
        return False
    return found is not None and (stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode))


def _check_kind(path: Path, found: os.stat_result, option: str) -> None:
    mode = found.st_mode
    if stat.S_ISDIR(mode):
        raise UserError(f"{option} {path} is a folder: name a file in it.")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        raise UserError(f"{option} {path} is a disk or a socket: name a file, or a FIFO.")
    # Root may write what nobody may; whoever made it read-only meant root too.
    if not mode & 0o222 or not os.access(path, os.W_OK):
        raise UserError(f"{option} {path} is read-only: make it writable (chmod u+w), or name another file.")


def _comes_once(path: Path, descriptor: int | None) -> bool:
    try:
        found = path.stat() if descriptor is None else os.fstat(descriptor)
    except (OSError, ValueError):
        return path == STANDARD  # which then says why it cannot be read
    mode = found.st_mode
    if stat.S_ISCHR(mode):  # of the others, such as /dev/zero, some have no end
        is_null = found.st_rdev == os.stat(os.devnull).st_rdev
        return is_null or (descriptor is not None and os.isatty(descriptor))
    return stat.S_ISFIFO(mode) or (descriptor is not None and stat.S_ISSOCK(mode)) or path == STANDARD


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`, whose file is moved there when the block has ended well."""
    beside = _beside(path)
    try:
        yield beside
        with contextlib.suppress(FileNotFoundError):
            os.chmod(beside, stat.S_IMODE(path.stat().st_mode))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    # `path` may have the longest name there is, and one that begins like another of the same process.
    return path.with_name(f".{path.name[:40]}.{os.urandom(16).hex()}")


def _opened(place: Path | int, mode: str) -> IO[Any]:
    return open(place, mode) if "b" in mode else open(place, mode, encoding="utf-8", newline="\n")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
