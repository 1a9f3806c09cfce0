"""A fold trained step by step, by a Lightning Trainer."""

import torch
from torch import Tensor

from datasets.batches.datamodule import FitnessData
from models.fitness_model import FitnessModel
from search.training.callbacks import KeepBestWeights, KeepLastWeights, ReportAndStop
from search.training.checkpoint.snapshot import KeepState
from search.training.one_fold import OneFold, Trained
from search.training.trainer import build_trainer
from search.training.weights import load_weights


class Stepwise:
    """The training of a fold whose state is kept by `state`.

    Attributes:
        device: Where it trains.
    """

    def __init__(self, fold: OneFold, state: KeepState) -> None:
        self._fold = fold
        self._reporter = ReportAndStop(
            fold=fold.number, report=fold.report, should_stop=fold.should_stop, values=fold.values
        )
        self._keeper = KeepBestWeights(fold.path) if fold.chooses_epoch else KeepLastWeights(fold.path)
        self._trainer = build_trainer(
            fold.config,
            fold.directory,
            fold.number,
            [state, self._reporter, self._keeper],
            is_judged=fold.is_judged,
            stops_early=fold.chooses_epoch,
        )
        self.device = self._trainer.strategy.root_device

    def train(self, model: FitnessModel, data: FitnessData) -> Trained:
        """Train, keep the weights, and predict the validation rows with them."""
        keeper, reporter, settings = self._keeper, self._reporter, self._fold.config.trainer
        if model.takes_epochs and not settings.callbacks:  # those may look at single batches
            data.give_epochs(limit=settings.limit_train_batches, should_stop=reporter.is_told_to_stop)
        self._trainer.fit(model, datamodule=data)
        trained = Trained(
            best_epoch=keeper.best_epoch,
            has_diverged=reporter.has_diverged,
            was_stopped=reporter.was_stopped,
            is_finite=not isinstance(keeper, KeepLastWeights) or keeper.is_finite,
        )
        has_ended_well = trained.is_finite and not (trained.has_diverged or trained.was_stopped)
        if self._fold.is_judged and has_ended_well and keeper.best_epoch is not None:
            load_weights(model, keeper.path)
            outputs = self._trainer.predict(model, dataloaders=data.val_dataloader())
            assert outputs is not None
            trained.predictions = torch.cat([output for output in outputs if isinstance(output, Tensor)]).cpu()
        return trained
