"""A folder that this process may not enter, whoever runs it."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_VERSION = 0x20080522  # of the structures in linux/capability.h
_OF_ROOT = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextlib.contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Nobody may enter the folder, and root is like everybody, inside this block."""
    libc, header, sets = ctypes.CDLL(None, use_errno=True), _Header(_VERSION, 0), (_Sets * 2)()
    _called(libc.capget, header, sets)
    before = sets[0].effective
    folder.chmod(0)
    try:
        sets[0].effective = before & ~_OF_ROOT
        _called(libc.capset, header, sets)
        yield
    finally:
        sets[0].effective = before
        _called(libc.capset, header, sets)
        folder.chmod(0o700)


def _called(call: "ctypes._NamedFuncPointer", header: _Header, sets: "ctypes.Array[_Sets]") -> None:
    if call(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
