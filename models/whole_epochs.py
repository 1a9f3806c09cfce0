"""An epoch in one call of `training_step`: which models take it, and what stands in for Lightning's hooks and logs.

What Lightning does around a step, and to log a number, takes as long as a small network's own work.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lightning.pytorch import LightningModule, Trainer
from torchmetrics import Metric

# What Lightning calls or uses in its loops, and a model may have made its own.
_OF_LOOPS = (
    *("training_step", "manual_backward", "backward", "optimizers", "optimizer_step", "configure_callbacks"),
    *("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"),
    *("on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "validation_step", "on_train_epoch_end", "on_validation_epoch_end", "log"),
)


def leaves_loops_alone(model: type[LightningModule], base: type[LightningModule]) -> bool:
    """Whether a class has all that Lightning's loops use from `base`, so that it cannot tell a batch from an epoch."""
    return all(getattr(model, name) is getattr(base, name) for name in _OF_LOOPS)


@contextmanager
def without_callbacks(trainer: Trainer) -> Iterator[None]:
    """Let Lightning ask no callback about steps: those that have something to say are given single batches."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set where mypy does not look
    trainer.callbacks = []  # type: ignore[attr-defined]
    try:
        yield
    finally:
        trainer.callbacks = callbacks  # type: ignore[attr-defined]


def log_epoch(model: LightningModule, metrics: Mapping[str, Metric]) -> None:
    """Tell callbacks and loggers what metrics say of an epoch, as `model.log` would, and begin the metrics anew.

    Lightning's own account of what is logged when counts epochs as steps where it is given epochs.
    """
    values = {name: metric.compute() for name, metric in metrics.items()}
    model.trainer.callback_metrics.update(values)
    for metric in metrics.values():
        metric.reset()
    for logger in model.trainer.loggers:
        shown = {name: value.item() for name, value in values.items()}
        logger.log_metrics({**shown, "epoch": model.current_epoch}, step=model.global_step - 1)
        logger.save()
