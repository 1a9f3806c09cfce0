"""An epoch in one call of `training_step`: which models take it, and what stands in for Lightning's hooks and logs.

What Lightning does around a step, and to log a number, takes as long as a small network's own work.
"""

from collections.abc import Callable, Mapping
from inspect import isfunction
from itertools import takewhile
from types import CodeType

from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

from datasets.common.errors import UserError
from models.layers.adam import short_step, whole_step

# What Lightning calls or uses in its loops, and a model may have made its own.
_OF_LOOPS = (
    *("training_step", "manual_backward", "backward", "optimizers", "optimizer_step", "configure_callbacks"),
    *("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"),
    *("on_train_batch_start", "on_train_batch_end", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "validation_step", "on_train_epoch_end", "on_validation_epoch_end", "log"),
)
_OF_TRAINERS = frozenset({"log", "log_dict", "trainer", "logger", "loggers"})


def leaves_loops_alone(model: type[LightningModule], base: type[LightningModule]) -> bool:
    """Whether a class has all that Lightning's loops use from `base`, so that it cannot tell a batch from an epoch.

    Numbers that `forward` logs belong to a batch, and schedules are made for the batches that a Trainer counts
    (`estimated_stepping_batches`); a class that calls anything `log` or `trainer` may be one that does so.
    """
    if any(getattr(model, name) is not getattr(base, name) for name in _OF_LOOPS):
        return False
    return not asks_for_trainer(model, base)


def asks_for_trainer(model: type[LightningModule], base: type[LightningModule]) -> bool:
    """Whether a class may use, beyond what `base` does, what there is only while a Trainer trains it."""
    return bool(_OF_TRAINERS & _names_used(model, base))


def _names_used(model: type[LightningModule], base: type[LightningModule]) -> set[str]:
    """The names of attributes and globals in a class's methods, as far as they are not those of `base`."""
    own = [value for kind in takewhile(lambda kind: kind is not base, model.__mro__) for value in vars(kind).values()]
    own += [part for value in own if isinstance(value, property) for part in (value.fget, value.fset)]
    own += [value.__func__ for value in own if isinstance(value, staticmethod | classmethod)]
    left: list[CodeType] = [value.__code__ for value in own if isfunction(value)]
    names: set[str] = set()
    while left:
        code = left.pop()
        names.update(code.co_names)
        left += [constant for constant in code.co_consts if isinstance(constant, CodeType)]  # functions within it
    return names


class Steps:
    """Steps of a model's optimizer by Lightning, which asks all hooks about each gradient and each step."""

    def __init__(self, model: LightningModule, optimizer: LightningOptimizer) -> None:
        self.backward: Callable[[Tensor], None] = model.manual_backward
        self._optimizer = optimizer
        self._schedules = model.trainer.lr_scheduler_configs

    def step(self) -> None:
        """Change the weights by their gradient, which is forgotten, and the learning rates by schedules of steps."""
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._change_rates("step")

    def end_epoch(self) -> None:
        """Change the learning rates by schedules of epochs, before validation as Lightning does."""
        self._change_rates("epoch")

    def _change_rates(self, interval: str) -> None:
        for schedule in self._schedules:
            if schedule.interval == interval:
                schedule.scheduler.step()  # type: ignore[call-arg]  # one that asks for a metric is refused


class PlainSteps(Steps):
    """The same steps where nobody but the model itself is to be asked; to the same numbers."""

    def __init__(self, model: LightningModule, optimizer: LightningOptimizer) -> None:
        super().__init__(model, optimizer)
        self.backward = Tensor.backward
        self._plain = optimizer.optimizer
        self._step_and_forget = whole_step(self._plain) if self._schedules else short_step(self._plain)
        self._prepare = model.on_before_optimizer_step
        self._count = model.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress  # of `global_step`

    def step(self) -> None:
        """Do as `Steps` does."""
        self._prepare(self._plain)
        self._count.increment_ready()
        self._step_and_forget()
        self._count.increment_completed()
        self._change_rates("step")


def steps_of(model: LightningModule, *, is_watched: bool) -> Steps:
    """The steps of a model with one optimizer: Lightning's where hooks watch them, or where gradients are scaled.

    Raises:
        UserError: It has none or several, or schedules of the learning rate that cannot be followed.
    """
    given, name = model.optimizers(), type(model).__name__
    # Where None is given, Lightning takes one that has no parameters.
    optimizers = [one for one in (given if isinstance(given, list) else [given]) if one.param_groups]
    if len(optimizers) != 1:
        raise UserError(
            f"configure_optimizers of the model {name} gives {len(optimizers)} optimizers: it has to give one, unless "
            "the model has a training_step of its own."
        )
    for schedule in model.trainer.lr_scheduler_configs:
        if isinstance(schedule.scheduler, ReduceLROnPlateau):
            raise UserError(
                f"configure_optimizers of the model {name} gives a ReduceLROnPlateau, which asks for a metric: use a "
                "schedule that counts steps or epochs."
            )
        if schedule.interval not in ("step", "epoch") or schedule.frequency != 1:
            raise UserError(
                f"configure_optimizers of the model {name} gives a schedule of interval={schedule.interval} and "
                f"frequency={schedule.frequency}: use the interval step or epoch, and the frequency 1."
            )
    optimizer = optimizers[0]
    assert isinstance(optimizer, LightningOptimizer)
    if is_watched or getattr(model.trainer.precision_plugin, "scaler", None) is not None:
        return Steps(model, optimizer)
    return PlainSteps(model, optimizer)


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
