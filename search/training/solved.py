"""A fold of a model that is solved at once: without a Trainer, whose set-up takes many times as long as the solution.

The rows come in the order and the batches of a Trainer, so that the bits are those of one.
"""

import math
import os
from collections.abc import Sequence

import torch
from lightning.pytorch.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.batches.datamodule import FitnessData
from models.closed_form import ClosedForm
from models.fitness_model import FitnessModel
from models.metrics import spearman
from models.whole_epochs import asks_for_trainer
from search.config.run_config import RunConfig
from search.training.one_fold import OneFold, Trained
from search.training.predictor import default_device
from search.training.seeding import seed_libraries
from search.training.trainer import logger_of
from search.training.weights import save_weights

_STEPS = ("training_step", "validation_step", "predict_step", "configure_optimizers", "configure_callbacks", "log")
_HOOKS = [name for hooks in (ModelHooks, DataHooks, CheckpointHooks) for name in vars(hooks) if name[0] != "_"]


def needs_trainer(model: FitnessModel, config: RunConfig) -> bool:
    """Whether a Trainer alone does what the config asks for with a model.

    Most models are trained step by step. Of those that are solved at once some of users' have hooks of their own, or
    log numbers, and a config may name callbacks or another precision, of which a Trainer knows.
    """
    if not isinstance(model, ClosedForm):
        return True
    has_hooks = any(getattr(type(model), name) is not getattr(ClosedForm, name) for name in (*_STEPS, *_HOOKS))
    settings = config.trainer
    is_usual = (
        settings.max_epochs == 1  # the experiments of earlier versions have more
        and settings.precision == "32-true"
        and settings.limit_train_batches is None
        and not (settings.callbacks or settings.detect_anomaly)
    )
    lacks_gpu = settings.accelerator == "gpu" and not torch.cuda.is_available()  # which a Trainer refuses
    return has_hooks or lacks_gpu or not is_usual or asks_for_trainer(type(model), ClosedForm)


class Solved:
    """The solution of a fold, for a model that does not need a Trainer.

    Attributes:
        device: Where it is found.
    """

    def __init__(self, fold: OneFold) -> None:
        self._fold = fold
        self._logger = logger_of(fold.config, fold.directory, fold.number)
        _be_deterministic(fold.config.trainer.deterministic)  # before features are computed, as a Trainer does
        device = default_device(fold.config)
        self.device = torch.device("cuda", 0) if device.type == "cuda" else device

    def train(self, model: FitnessModel, data: FitnessData) -> Trained:
        """Solve, predict the validation rows, and keep the weights."""
        assert isinstance(model, ClosedForm)
        fold = self._fold
        model.to(self.device).train()
        data.move(self.device)
        seed_libraries("epoch", fold.config.seed, fold.number, 0)
        seen = list(data.training_batches())  # in the order of the first epoch
        model.learn(seen)
        model.eval()
        if fold.should_stop():
            return Trained(was_stopped=True)
        trained = Trained(best_epoch=0)
        if fold.is_judged:
            self._validate(model, data, trained, step=len(seen) - 1)
        self._log_training_loss(model, seen)
        if fold.chooses_epoch:
            if fold.values[-1] is None:
                trained.best_epoch = None
                return trained
        else:
            trained.is_finite = all(bool(tensor.isfinite().all()) for tensor in model.trained_state().values())
        save_weights(model, fold.path)
        return trained

    def _validate(self, model: ClosedForm, data: FitnessData, trained: Trained, *, step: int) -> None:
        fold, batches = self._fold, list(data.val_dataloader())
        with torch.no_grad():
            parts = [model(batch) for batch in batches]
        value = spearman(torch.cat(parts), torch.cat([batch.target for batch in batches]))
        loss = _squared_error(parts, batches)
        self._log({"val_loss": loss, "val_spearman": value}, step)
        fold.values.append(value if math.isfinite(value) else None)
        trained.has_diverged = not math.isfinite(loss)
        trained.predictions = torch.cat(parts).cpu()
        fold.report(fold.number, 0, fold.values[-1])
        trained.was_stopped = fold.should_stop()

    def _log_training_loss(self, model: ClosedForm, batches: Sequence[Batch]) -> None:
        if self._logger is False:
            return
        with torch.no_grad():
            loss = _squared_error([model(batch) for batch in batches], batches)
        self._log({"training_loss": loss}, len(batches) - 1)
        self._logger.save()  # once for the fold: each time it looks for what is new
        self._logger.finalize("success")

    def _log(self, metrics: dict[str, float], step: int) -> None:
        if self._logger is not False:
            self._logger.log_metrics({"epoch": 0, **metrics}, step=step)


def _squared_error(predictions: Sequence[Tensor], batches: Sequence[Batch]) -> float:
    """The mean over all rows, added up as the metric does that a Trainer logs."""
    total = torch.zeros((), device=predictions[0].device)
    for prediction, batch in zip(predictions, batches, strict=True):
        difference = prediction - batch.target
        total = total + (difference * difference).sum()
    return float(total / sum(len(prediction) for prediction in predictions))


def _be_deterministic(is_wanted: bool) -> None:
    """As a Trainer makes the process."""
    torch.use_deterministic_algorithms(is_wanted)
    if is_wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
