"""Where the sockets stand over which processes of one machine start others: their paths have to be short."""

import contextlib
import os
import tempfile
from multiprocessing import util

from datasets.common.errors import UserError

_MAX_BYTES = 70  # a path of 103 is possible everywhere; multiprocessing adds `/pymp-xxxxxxxx/listener-xxxxxxxx`
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")


def make_socket_folder() -> None:
    """Let multiprocessing make its folder, in a short one where $TMPDIR is too long. To be called before it is needed.

    Raises:
        UserError: There is no folder that it could be made in.
    """
    try:
        usual = tempfile.gettempdir()
    except OSError as error:
        raise UserError(
            f"There is no folder for temporary files ({error.strerror or error}): set $TMPDIR to one."
        ) from None
    is_short = len(os.fsencode(usual)) <= _MAX_BYTES
    for folder in (usual,) if is_short else _SHORT:
        with contextlib.suppress(OSError):
            tempfile.tempdir = folder
            util.get_temp_dir()  # it is made once, and removed when the process ends
            break
    else:
        tempfile.tempdir = usual
        why = "cannot be written" if is_short else f"has a path of more than {_MAX_BYTES} bytes, too long for a socket"
        raise UserError(f"The folder for temporary files, {usual}, {why}: set $TMPDIR to another.")
    tempfile.tempdir = usual
