"""Run the preflight check in a child process."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets.common.errors import CannotRank, UserError
from datasets.common.paths import Places
from search.config.run_config import RunConfig
from search.workers.child import Child, Start, isolated_check
from search.workers.display import Display
from search.workers.messages import Announcement, Checked, Failure
from search.workers.signals import Signals

_ERRORS: Mapping[str, type[Exception]] = {"refused": UserError, "cannot_rank": CannotRank}


class CheckLost(UserError):
    """The checking process died, of too little memory for one."""

    exit_status = 1


def check_runs(
    configs: Sequence[RunConfig],
    split: Path,
    places: Places,
    display: Display,
    signals: Signals,
    *,
    start: Start = Child,
) -> Checked | None:
    """What the child found; None if a signal came meanwhile. `split` is the path of the prepared split.

    Raises:
        UserError: A model refuses its hyperparameters or the task, a sequence is too long, or weights are missing.
        CannotRank: All predictions by which a model is judged would be the same.
    """
    child = isolated_check(configs, split, places, places.cache_dir / "checks", start=start)
    try:
        while not signals.is_draining:
            message = child.next_message(0.1)
            if isinstance(message, Checked):
                return message
            if isinstance(message, Announcement):
                display.announce(message.sentence)
            elif isinstance(message, Failure):
                if message.kind == "lost":
                    raise CheckLost(f"It could not be checked whether the runs can be built: {message.message}.")
                raise _ERRORS.get(message.kind, RuntimeError)(message.message)
        return None
    finally:
        child.close()
