"""Ray's token authentication: whether a cluster asks for a token, and the token that this process shows it.

What the environment says is no answer: a cluster whose user has a token asks for it by itself, and one that was started
without goes on without, whatever is exported here. So the cluster is asked.
"""

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any

from datasets.common.errors import UserError
from search.machine.standard_streams import printable

_MODE = "RAY_AUTH_MODE"
_WITHOUT = "disabled"


@contextlib.contextmanager
def token_shown(address: str) -> Iterator[bool]:
    """Show the user's token inside this block, where the cluster asks for one; whether it lets in who has none.

    Raises:
        UserError: It asks for a token that this process does not have, or it is no Ray cluster.
    """
    before = os.environ.get(_MODE)
    try:
        is_open = _is_let_in(address, _WITHOUT)
        if not is_open and not _is_let_in(address, before if before not in (None, _WITHOUT) else "token"):
            raise UserError(
                f"The Ray cluster at {address} asks for a token, and this machine has none, or another one: copy the "
                "file ~/.ray/auth_token of the machine where the cluster was started to the same place here."
            )
        yield is_open
    finally:
        _set_mode(before)


def refused(address: str, error: Exception) -> UserError:
    """What is said where a cluster does not take this process."""
    why = printable(" ".join(str(error).split())[:300])
    return UserError(
        f"The Ray cluster at {address} does not take this process ({why}): run the command on a machine of the "
        f"cluster (`ray start --address={address}`), with the same versions of Python and Ray."
    )


def _is_let_in(address: str, mode: str) -> bool:
    """Whether the cluster takes what this process shows it in this mode, which stays set."""
    ray: Any = importlib.import_module("ray")
    _set_mode(mode)
    try:
        if mode != _WITHOUT and not ray._raylet.AuthenticationTokenLoader.instance().has_token():
            return False  # Ray would end this process
        with _silence():
            ray._raylet.GcsClient(address=address)
    except ray.exceptions.RayError as error:
        if type(error).__name__ == "AuthenticationError":
            return False
        raise refused(address, error) from None  # Ray itself would try for many minutes
    return True


def _set_mode(mode: str | None) -> None:
    ray: Any = importlib.import_module("ray")
    if mode is None:
        os.environ.pop(_MODE, None)
    else:
        os.environ[_MODE] = mode
    ray._raylet.Config.initialize("")  # it is read once otherwise


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep off the terminal what Ray's library writes past Python about a refusal that is expected."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
