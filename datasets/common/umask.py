"""Which permissions the shell takes from new files."""

import os
import threading

_TURN = threading.Lock()


def umask() -> int:
    """Return the mask, which stays as it is."""
    with _TURN:
        mask = os.umask(0o077)  # there is no way to read it alone
        os.umask(mask)
    return mask
