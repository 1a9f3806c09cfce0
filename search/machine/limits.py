"""Errors that are the machine's, or of the shell that started us: sentences for users, and what a trial makes of them.

Told by their text, since libraries raise errors of their own with the system's words in them.
"""

import os
import re
import resource
from collections.abc import Iterator
from typing import Literal

from datasets.common.errors import UserError
from datasets.common.umask import umask

DISK_FULL = r"No space left on device|Disk quota exceeded"
FILE_TOO_LARGE = r"File too large"
"""The limit of a file's size, `ulimit -f`."""
_REMEDIES = (
    (DISK_FULL, "make room"),
    (FILE_TOO_LARGE, "raise the largest size of a file (`ulimit -f unlimited`)"),
    (r"Too many open files", "raise the number of open files (`ulimit -n 1024`)"),
    (r"can't start new thread|Resource temporarily unavailable", "raise the number of processes (`ulimit -u`)"),
    (r"Cannot allocate memory|failed to map segment", "free memory, or raise its limit (`ulimit -v unlimited`)"),
    (r"Read-only file system", "name a folder on another disk"),
)
_FEWEST_FILES = 32
"""What a search of one worker gets by with; a process that starts others prints tracebacks before it gives up."""
_GONE = "The working directory was removed: change into one that exists."


class LimitReached(UserError):
    """The machine gives no more; nothing is wrong with what was asked for."""

    exit_status = 1


def limit_reached(error: Exception) -> LimitReached | None:
    """The sentence for an error that a limit of the machine is behind; None for any other error."""
    for link in causes(error):
        if isinstance(link, MemoryError):
            return LimitReached("There is not enough memory: free some, or raise its limit (`ulimit -v unlimited`).")
        where = getattr(link, "filename", None)
        if found := limit_told(str(link), "" if where is None else f" ({where})"):
            return found
    if isinstance(error, FileNotFoundError) and error.filename is None and not _has_working_directory():
        return LimitReached(_GONE)
    return None


def limit_told(text: str, where: str = "") -> LimitReached | None:
    """The same for the text of an error, or the traceback of another process; its lines of code may quote anything."""
    for line in reversed([line for line in text.splitlines() if not line.startswith("  ")]):
        for pattern, remedy in _REMEDIES:
            if found := re.search(pattern, line):
                return LimitReached(f"The machine gave no more: {found[0]}{where}; {remedy}, then repeat the command.")
    return None


def check_umask() -> None:
    """Refuse a umask that takes from us what we make: not one temporary folder could be written, or removed.

    Raises:
        LimitReached: It is such a one.
    """
    mask = umask()
    if mask & 0o700:
        raise LimitReached(
            f"The umask {mask:04o} denies you the files that you make: set another (`umask 022`), then repeat the "
            "command."
        )


def check_working_directory() -> None:
    """Refuse to start where nothing with a relative name could be read or written.

    Raises:
        LimitReached: The directory that we were started in was removed.
    """
    if not _has_working_directory():
        raise LimitReached(_GONE)


def check_open_files() -> None:
    """Refuse, before any process is started, a limit on open files under which none could be.

    Raises:
        LimitReached: It is lower than that.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= most < _FEWEST_FILES:
        raise LimitReached(
            f"This process may open {most} files, and a search needs {_FEWEST_FILES} at least: raise the number of "
            "open files (`ulimit -n 1024`), then repeat the command."
        )


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it was raised from or while they were handled; `orig` is SQLAlchemy's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__


Fault = Literal["bug", "transient", "disk_full"]

# What is listed in these two happens to good configurations, and does not happen again elsewhere or later. Everything
# else is a bug. A device-side assert, for one, is an index out of range: it would fail again.
_TRANSIENT = {
    r"CUDA error: unspecified launch failure": "the GPU faulted, or a neighbour's crash took our context along",
    r"CUDA error: an illegal memory access": "seen on failing memory and after a neighbour's crash",
    r"CUDA error: (unknown error|the launch timed out|all CUDA-capable devices are busy)": "driver or another process",
    r"CUDA-capable device\(s\) is/are busy or unavailable": "an exclusive GPU that another process holds",
    r"uncorrectable .*ECC error|ECC error": "a flipped bit in the GPU's memory",
    r"no CUDA-capable device|No CUDA GPUs are available": "the GPU fell off the bus, or its driver is restarted",
    r"CUDA driver initialization failed|CUDA unknown error|system not yet initialized": "the driver is restarted",
    # Running out of memory in PyTorch's own allocator is a result, not an error: this is a context that did not fit.
    r"CUDA error: out of memory|out of host memory": "others fill the GPU or the machine",
    r"CU(BLAS|DNN|FFT|SOLVER|SPARSE)_STATUS_(NOT_INITIALIZED|ALLOC_FAILED|EXECUTION_FAILED|INTERNAL_ERROR)": "as above",
    r"NCCL": "a connection between GPUs",
    r"Input/output error|Stale file handle|Transport endpoint|Remote I/O error": "a disk on the network",
}
_DISK_FULL = {
    rf"{DISK_FULL}|StorageFull": "as the system says it, and Rust",
    FILE_TOO_LARGE: "the same to a trial",
    r"PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+": "torch.save, which drops the system's words",
}


def fault(error: str) -> Fault:
    """What kind of error a traceback ends in; its lines of code do not count, they may quote anything."""
    said = "\n".join(line for line in error.splitlines() if not line.startswith((" ", "Traceback ")))
    if any(re.search(pattern, said) for pattern in _DISK_FULL):
        return "disk_full"
    if any(re.search(pattern, said) for pattern in _TRANSIENT):
        return "transient"
    return "bug"
