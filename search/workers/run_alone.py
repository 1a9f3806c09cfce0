"""Runs outside of any study: checked before anything trains, and, for `train`, `verify` and `confirm`, to a result."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.common.errors import UserError
from datasets.common.paths import Places
from search.config.run_config import RunConfig
from search.machine.limits import limit_told
from search.training.result import Result
from search.workers.child import Child, Running, Start
from search.workers.jobs import isolated_check
from search.workers.messages import Checked, Failure, PredictionsWritten, Value
from search.workers.signals import Signals

if TYPE_CHECKING:
    from search.workers.display import Display


_POLL_S = 0.1


class Stopped(Exception):
    """The run ended without a result: by a signal, by an error that was printed, or (status 0) for lack of time."""

    def __init__(self, exit_status: int) -> None:
        super().__init__(f"stopped with exit status {exit_status}")
        self.exit_status = exit_status


class CheckLost(UserError):
    """The checking process died, of too little memory for one."""

    exit_status = 1


def check_runs(
    configs: Sequence[RunConfig],
    split: Path,
    places: Places,
    display: "Display",
    signals: Signals,
    *,
    n_first: int = 0,
    start: Start = Child,
) -> Checked | None:
    """Whether runs can be built, as a child finds out; None if a signal came meanwhile.

    `split` is the path of the prepared split. Of the first `n_first` runs it is found out, too, whether each by itself
    can tell the validation variants apart.

    Raises:
        UserError: A model refuses its hyperparameters or the task, a sequence is too long, or weights are missing.
        NotForTheseData: All predictions by which a model is judged would be the same, or it takes fewer training rows.
    """
    child = isolated_check(configs, n_first, split, places, places.cache_dir / "checks", start=start)
    try:
        while not signals.is_draining:
            message = child.next_message(_POLL_S)
            display.hear(message)
            if isinstance(message, Checked):
                return message
            if isinstance(message, Failure):
                if message.kind == "lost":
                    raise CheckLost(f"It could not be checked whether the runs can be built: {message.message}.")
                if message.kind == "bug":
                    raise RuntimeError(message.message)
                raise message.error(message.message)
        return None
    finally:
        child.close()


def check_backbone(
    config: RunConfig, backbone: str | None, split: Path, places: Places, display: "Display", signals: Signals
) -> str | None:
    """See that a run can be built here, with the pretrained weights that it was built with before, if that is known.

    Returns their hash, None without any.

    Raises:
        Stopped: A signal came.
        UserError: It cannot, or the weights are others.
    """
    checked = check_runs([config], split, places, display, signals)
    if checked is None:
        raise Stopped(signals.exit_status)
    _, found = checked.backbones[0]
    if (backbone or "").startswith("sha256:") and found != backbone:
        raise UserError(
            f"The experiment was run with other pretrained weights ({backbone}) than what was found "
            f"({found}): name the right folder with --weights-dir."
        )
    return found


def outcome(
    child: Running, display: "Display", signals: Signals, *, shows_values: bool, has_epochs: bool = True
) -> Result | PredictionsWritten:
    """What a child comes to, which is ended then; values are shown with their epochs, if there are any.

    Raises:
        Stopped: A signal came, its time is over, or the run failed and its error was printed.
        UserError: The config cannot run on this machine, or the machine gives no more.
    """
    try:
        while True:
            message = child.next_message(_POLL_S)
            display.hear(message)
            if signals.exit_status or signals.is_timed_out:
                raise Stopped(signals.exit_status)
            if isinstance(message, Value) and shows_values:
                shown = "cannot be ranked" if message.value is None else f"{message.value:.4f}"
                epoch = f" epoch {message.epoch}" if has_epochs else ""
                print(f"fold {message.fold}{epoch}: val_spearman {shown}", file=sys.stderr)
            elif isinstance(message, Failure):
                if message.kind == "refused":
                    raise UserError(message.message)
                if message.kind == "bug" and (reached := limit_told(message.message)) is not None:
                    raise reached
                print(f"error: the run failed: {message.message}", file=sys.stderr)
                raise Stopped(1)
            elif isinstance(message, (Result, PredictionsWritten)):
                return message
    finally:
        child.close()
