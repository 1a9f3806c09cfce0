"""Lightning callbacks of a run: seeding, reporting each validation, stopping when told, keeping the best weights."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from datasets.batches.loader import WholeEpoch
from datasets.common.errors import UserError
from models.fitness_model import FitnessModel
from search.training.seeding import seed_libraries
from search.training.weights import save_weights

MONITOR = "val_spearman"

Report = Callable[[int, int, float | None], None]
"""Is told (fold, epoch, validation Spearman) after each validation; None where it could not be computed."""


class SeedEpochs(Callback):
    """Start every epoch from a random state of its own, so that epoch e does not depend on how it was reached."""

    def __init__(self, *, seed: int, fold: int) -> None:
        self.seed = seed
        self.fold = fold

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the random numbers from (seed, fold, epoch)."""
        seed_libraries("epoch", self.seed, self.fold, trainer.current_epoch)


class ReportAndStop(Callback):
    """Report each validation, end the run early when asked to or when it has diverged.

    Args:
        fold: Number of the fold that is trained.
        report: Told of every validation.
        should_stop: Asked after every batch, so that a long epoch need not be waited for.
        values: Gets the value of every validation, None where there is none.
    """

    def __init__(
        self, *, fold: int, report: Report, should_stop: Callable[[], bool], values: list[float | None]
    ) -> None:
        self.fold = fold
        self.report = report
        self.should_stop = should_stop
        self.values = values
        self.was_stopped = False
        self.has_diverged = False

    def state_dict(self) -> dict[str, Any]:
        """What a run that is taken up again has to know."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.values[:] = state_dict["values"]  # the list itself is known to others

    def is_told_to_stop(self) -> bool:
        """Ask whether to stop, unless it was told before."""
        self.was_stopped = self.was_stopped or self.should_stop()
        return self.was_stopped

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop in the middle of an epoch if asked to; a whole epoch has asked after each of its batches.

        Raises:
            UserError: The model is not trained at all.
        """
        if trainer.is_last_batch and trainer.global_step == 0 and isinstance(outputs, Mapping) and "loss" in outputs:
            raise UserError(
                f"The training_step of the model {type(pl_module).__name__} returns a loss, and no optimizer made a "
                "step in an epoch: write self.automatic_optimization = True behind super().__init__() to have "
                "Lightning make the steps, or return nothing if the model learns in its own way."
            )
        if self.was_stopped if isinstance(batch, WholeEpoch) else self.is_told_to_stop():
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record and report the epoch's value."""
        if self.was_stopped:
            return  # a validation of an unfinished epoch is nobody's value
        if MONITOR not in trainer.callback_metrics:
            raise KeyError(f"{type(pl_module).__name__} logs no {MONITOR!r}, only {sorted(trainer.callback_metrics)}.")
        value = float(trainer.callback_metrics[MONITOR])
        self.values.append(value if math.isfinite(value) else None)
        loss = float(trainer.callback_metrics.get("val_loss", 0.0))
        self.has_diverged = not math.isfinite(loss)
        self.report(self.fold, trainer.current_epoch, self.values[-1])
        if self.is_told_to_stop() or self.has_diverged:
            trainer.should_stop = True


class KeepBestWeights(Callback):
    """Write the weights at `path` whenever validation Spearman is better than ever before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = -math.inf
        self.best_epoch: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Which epoch's weights stand at `path`."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; the file has to be there again."""
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare and save."""
        value = float(trainer.callback_metrics[MONITOR])
        if value > self.best:  # no NaN is greater
            self.best = value
            self.best_epoch = trainer.current_epoch
            assert isinstance(pl_module, FitnessModel)
            save_weights(pl_module, self.path)


class KeepLastWeights(Callback):
    """Write the weights at `path` when training ends, where no validation is to say which are the best.

    Attributes:
        best_epoch: The last epoch.
        is_finite: Whether all of the weights are finite numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best_epoch: int | None = None
        self.is_finite = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which epoch it was."""
        self.best_epoch = trainer.current_epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        assert isinstance(pl_module, FitnessModel)
        self.is_finite = all(bool(tensor.isfinite().all()) for tensor in pl_module.trained_state().values())
        save_weights(pl_module, self.path)
