"""What the training of a fold goes on from: everything that the next epoch depends on, at the end of one.

Data order and random state belong to (seed, fold, epoch) and need not be kept.
"""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from models.fitness_model import FitnessModel

FoldState = dict[str, Any]
"""Tensors and plain values, as `torch.load(weights_only=True)` takes them."""


def values_of(state: FoldState | None) -> list[float | None]:
    """The validation Spearman of each epoch until a state was taken; none without one."""
    return [] if state is None else list(state["callbacks"]["ReportAndStop"]["values"])


class KeepState(Callback):
    """Gives the state of the fold away at the end of an epoch that another one follows; begins from such a state.

    Lightning's own checkpoints hold the frozen part of a model as well, and are taken before the epoch has quite
    ended: schedulers that look at a metric step later.

    Args:
        is_due: Asked at the end of each epoch whether the state is wanted.
        keep: Is given the state, whose tensors change as training goes on.
        resumed: What `keep` was given in an earlier life of the run; None begins with the first epoch.
    """

    def __init__(
        self, *, is_due: Callable[[], bool], keep: Callable[[FoldState], None], resumed: FoldState | None
    ) -> None:
        self._is_due = is_due
        self._keep = keep
        self._resumed = resumed
        self._first_epoch = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from the resumed state: model and optimizers are on their device by now."""
        if self._resumed is not None:
            restore(trainer, pl_module, self._resumed)
            self._resumed = None  # its tensors take memory
            self._first_epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The epoch before this one has ended: nobody will change anything of it any more."""
        if trainer.current_epoch > self._first_epoch and self._is_due():
            self._keep(snapshot(trainer, pl_module))


def snapshot(trainer: Trainer, pl_module: LightningModule) -> FoldState:
    """The state of training between two epochs."""
    assert isinstance(pl_module, FitnessModel)
    own: dict[str, Any] = {}
    pl_module.on_save_checkpoint(own)
    return {
        "model": pl_module.trained_state(),
        "own": own,
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "schedulers": [schedule.scheduler.state_dict() for schedule in trainer.lr_scheduler_configs],
        "precision": trainer.precision_plugin.state_dict(),
        "callbacks": {callback.state_key: callback.state_dict() for callback in _callbacks(trainer)},
        "loops": trainer.fit_loop.state_dict(),
    }


def restore(trainer: Trainer, pl_module: LightningModule, state: FoldState) -> None:
    """Go on as if the epoch at whose end `state` was taken had just ended here."""
    assert isinstance(pl_module, FitnessModel)
    with torch.no_grad():
        pl_module.load_trained_state(state["model"])
    pl_module.on_load_checkpoint(state["own"])
    for optimizer, its_state in zip(trainer.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(its_state)
    for schedule, its_state in zip(trainer.lr_scheduler_configs, state["schedulers"], strict=True):
        schedule.scheduler.load_state_dict(its_state)
    trainer.precision_plugin.load_state_dict(state["precision"])
    for callback in _callbacks(trainer):
        callback.load_state_dict(state["callbacks"][callback.state_key])
    loop = trainer.fit_loop
    loop.load_state_dict(state["loops"])
    # Lightning would look for the place in the epoch where it was left. It was left between two: the next one had
    # been made ready, nothing else.
    loop.restarting = False
    loop.epoch_progress.reset_on_restart()


def _callbacks(trainer: Trainer) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set where mypy does not look
    return callbacks
