"""The parent's side of `preflight`: let a child look whether runs can be built, before anything trains."""

from collections.abc import Sequence
from pathlib import Path

from datasets.errors import UserError
from models.places import Places
from search.isolation import Announcement, Checked, Failure, isolated_check
from search.progress import Display
from search.schema import RunConfig
from search.signals import Signals


class CheckLost(UserError):
    """The checking process died, of too little memory for one."""

    exit_status = 1


def check_runs(
    configs: Sequence[RunConfig], split: Path, places: Places, display: Display, signals: Signals
) -> Checked | None:
    """What the child found; None if a signal came meanwhile. `split` is the path of the prepared split.

    Raises:
        UserError: A model refuses its hyperparameters or the task, a sequence is too long, or weights are missing.
    """
    child = isolated_check(configs, split, places, places.cache_dir / "checks")
    try:
        while not signals.is_draining:
            message = child.next_message(0.1)
            if isinstance(message, Checked):
                return message
            if isinstance(message, Announcement):
                display.announce(message.sentence)
            elif isinstance(message, Failure):
                if message.kind == "refused":
                    raise UserError(message.message)
                if message.kind == "lost":
                    raise CheckLost(f"It could not be checked whether the runs can be built: {message.message}.")
                raise RuntimeError(message.message)
        return None
    finally:
        child.close()
