"""Whom Postgres runs as: whoever runs the command, and for root another user, since it refuses to run as root."""

import os
import pwd
from dataclasses import dataclass
from typing import Any

from datasets.common.errors import UserError

_USUAL = "postgres"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user of the machine. `is_own`: it is the one who runs the command."""

    name: str
    user: int
    group: int
    is_own: bool

    @property
    def of_child(self) -> dict[str, Any]:
        """What `subprocess` is told, so that a child runs as this user."""
        return {} if self.is_own else {"user": self.user, "group": self.group, "extra_groups": []}


def find_account(run_as: str | None) -> Account:
    """The user that Postgres runs as; `run_as` is what --run-as names.

    Raises:
        UserError: There is no such user, or it is root, or somebody who is not root names another.
    """
    own = os.geteuid()
    name = run_as or (_USUAL if own == 0 else None)
    try:
        found = pwd.getpwuid(own) if name is None else pwd.getpwnam(name)
    except KeyError:
        raise UserError(_missing(run_as, own)) from None
    if found.pw_uid == 0:
        raise UserError("Postgres does not run as root: name another user with --run-as USER.")
    if own not in (0, found.pw_uid):
        raise UserError(f"--run-as {name} is for root: leave it out, and Postgres runs as you.")
    return Account(name=found.pw_name, user=found.pw_uid, group=found.pw_gid, is_own=found.pw_uid == own)


def _missing(run_as: str | None, own: int) -> str:
    if run_as is not None:
        return f"There is no user {run_as!r} for --run-as: name one of this machine's."
    if own == 0:
        return (
            f"Postgres does not run as root, and this machine has no user {_USUAL}: make one with `useradd --system "
            f"{_USUAL}`, or name another with --run-as USER."
        )
    return f"The user with the number {own} has no name on this machine, and Postgres needs one: add it to /etc/passwd."
