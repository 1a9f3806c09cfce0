"""The base of all models: mean squared error, the logged metrics, and the tokenizer of a model."""

from abc import ABC, abstractmethod

from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanSquaredError

from datasets.batch import Batch
from datasets.tokenizer import ResidueTokenizer, Tokenizer
from models.metrics import Spearman


class FitnessModel(LightningModule, ABC):
    """Predicts the fitness of protein variants.

    A subclass gives `forward` and `configure_optimizers`; its keyword-only constructor arguments are its
    hyperparameters. Logged once per epoch: `training_loss` and `val_loss` (mean squared errors, in squared
    units of the target), and `val_spearman`, NaN when the predictions are not finite or all the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.training_loss = MeanSquaredError()
        self.val_loss = MeanSquaredError()
        self.val_spearman = Spearman()

    @property
    def tokenizer(self) -> Tokenizer:
        """Turns residues into the tokens that `forward` expects."""
        return ResidueTokenizer()

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,) in the units of the targets, float32 also under mixed precision."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean squared error of a batch."""
        prediction = self(batch)
        self.training_loss.update(prediction.detach(), batch.target)
        return functional.mse_loss(prediction, batch.target)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        prediction = self(batch)
        self.val_loss.update(prediction, batch.target)
        self.val_spearman.update(prediction, batch.target)

    # Metrics are logged at the end of an epoch: a `log` in each step takes as long as a small model's step.
    def on_train_epoch_end(self) -> None:
        """Log the mean training loss of the epoch."""
        self.log("training_loss", self.training_loss)

    def on_validation_epoch_end(self) -> None:
        """Log loss and Spearman over the whole validation set."""
        self.log("val_loss", self.val_loss)
        self.log("val_spearman", self.val_spearman)
