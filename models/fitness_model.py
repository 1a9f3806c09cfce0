"""The base of all models: the step of training, the logged metrics, and the tokenizer of a model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torchmetrics import MeanSquaredError, Metric

from datasets.batches.batch import Batch
from datasets.batches.loader import WholeEpoch
from datasets.common.errors import UserError
from datasets.sequences.tokenizer import ResidueTokenizer, Tokenizer
from models.hooks import HAS_GAPS, ModelHooks
from models.losses import Loss, is_pairwise, joined, over_rows, replayed, row_gradient
from models.metrics import Spearman
from models.target_scale import RankNormal, TargetScale, Transform
from models.whole_epochs import leaves_loops_alone, log_epoch, steps_of

_METRICS: Mapping[str, Callable[[], Metric]] = {
    "training_loss": MeanSquaredError,
    "val_loss": MeanSquaredError,
    "val_spearman": Spearman,
}


class FitnessModel(ModelHooks, LightningModule, ABC):
    """Predicts the fitness of protein variants: `model(batch)` is (B,) in the unit of the targets.

    A subclass gives `forward` and `configure_optimizers`; its keyword-only constructor arguments are its
    hyperparameters. Logged once per epoch, whatever loss is minimised: `training_loss` and `val_loss` (mean squared
    errors, in squared units of the target), and `val_spearman`, NaN when the predictions are not finite or all the
    same.
    """

    training_loss: Metric
    val_loss: Metric
    val_spearman: Metric

    def __init__(self) -> None:
        super().__init__()
        self.has_gaps = HAS_GAPS.get()
        self.automatic_optimization = False  # of Lightning's: a step's gradient is summed over micro-batches
        self.micro_batch_tokens: int | None = None
        self.gradient_clip: float | None = None
        self.loss: Loss = functional.mse_loss
        self.target_scale: TargetScale | RankNormal | None = None
        self._scores: list[Tensor] = []  # of an epoch's batches so far, and the targets below
        self._targets: list[Tensor] = []
        self._is_given_epochs = False

    def __getattr__(self, name: str) -> Any:
        # Together, for Lightning looks for them once, and only when they are wanted: to predict takes none of them.
        if name in _METRICS and name not in self._modules:
            for each, make in _METRICS.items():
                if each not in self._modules:
                    setattr(self, each, make().to(self.device))
        return super().__getattr__(name)

    @property
    def tokenizer(self) -> Tokenizer:
        """Turns residues into the tokens that `forward` expects.

        Embeddings of residues are of sequences without gaps, so the tokens beside them are, too.
        """
        return ResidueTokenizer(has_gaps=self.has_gaps and self.embedding_scope != "tokens")

    transforms_targets = False
    """Whether a training step of its own learns what `target_scale` makes of the targets."""

    data_shapes: Mapping[str, tuple[int | None, ...]] = {}
    """The parameters and buffers whose shape follows from the training data: None stands for a size that may be any."""

    @property
    def n_parameters(self) -> int:
        """All parameters, trained or frozen."""
        return sum(parameter.numel() for parameter in self.parameters())

    def arithmetic(self, n_rows: int, longest: int, batch_size: int) -> int:
        """As of a model that applies each parameter to each token of a batch."""
        return self.n_parameters * min(n_rows, batch_size) * longest

    @property
    def has_micro_batches(self) -> bool:
        """Whether a batch may be divided: not if a model brings a training step of its own."""
        return type(self).training_step is FitnessModel.training_step

    @property
    def takes_epochs(self) -> bool:
        """Whether `training_step` may be given an epoch: not where a model has its own part in Lightning's loops."""
        return leaves_loops_alone(type(self), FitnessModel)

    def minimise(self, loss: Loss, target_transform: Transform) -> None:
        """Train with this loss, on targets that are transformed or as they are; ranks need no transform.

        Raises:
            UserError: The model brings a training step of its own, which knows nothing of either.
        """
        has_own_step = not self.has_micro_batches
        may_transform = not has_own_step or self.transforms_targets
        if has_own_step and not (loss is functional.mse_loss and (target_transform == "none" or may_transform)):
            name = type(self).__name__
            targets = "" if may_transform else " of the targets as they are"
            others = "" if may_transform else " and trainer.target_transform=none"
            raise UserError(
                f"The model {name} is solved in its own way, for the squared error{targets}: "
                f"use trainer.loss=mse{others} with it."
            )
        self.loss = loss
        if is_pairwise(loss) or target_transform == "standardize":
            self.target_scale = TargetScale()
        elif target_transform == "rank_normal":
            self.target_scale = RankNormal()

    def take_weights(self) -> None:
        """Get ready for rows that count more or less in training; before loading.

        Raises:
            UserError: The model brings a training step of its own, or has a loss that knows of no weights.
        """
        if not self.has_micro_batches:
            raise UserError(
                f"The model {type(self).__name__} is trained in its own way, in which all rows count alike: leave "
                "--error-column out."
            )
        if is_pairwise(self.loss):
            raise UserError(
                "trainer.loss=ranking compares rows that all count alike: use mse or huber with --error-column."
            )

    def see_targets(self, target: Tensor) -> None:
        """Look at all targets (N,) of the training rows, before training."""
        if self.target_scale is not None:
            self.target_scale.fit(target)

    def in_own_unit(self, target: Tensor) -> Tensor:
        """The scores (B,) of `forward` that would predict targets (B,)."""
        return target if self.target_scale is None else self.target_scale.standardized(target)

    @property
    def _frozen(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if not parameter.requires_grad}

    def trained_state(self) -> dict[str, Tensor]:
        """What a checkpoint holds: all of the state but frozen parameters that pretrained weights give again."""
        left_out = set() if self.backbone_hash is None else self._frozen
        return {name: tensor for name, tensor in self.state_dict().items() if name not in left_out}

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Put in what `trained_state` gave; what is left out, by earlier versions all that is frozen, stays as it is.

        Raises:
            RuntimeError: The state belongs to another architecture; the message says what differs.
        """
        own = self.trained_state()
        missing, unknown = sorted(set(own) - set(state) - self._frozen), sorted(set(state) - set(own))
        if missing or unknown:
            parts = [f"no {name}" for name in missing[:1]] + [f"{name}, which the model lacks" for name in unknown[:1]]
            raise RuntimeError(f"there is {' and '.join(parts)}")
        try:
            self.load_state_dict(state, strict=False)
        except RuntimeError:
            own = self.trained_state()  # where the data give a shape, it is the state's by now
            for name, tensor in state.items():
                if tensor.shape != own[name].shape:
                    raise RuntimeError(
                        f"{name} has the shape {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
                    ) from None
            raise

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # Where the training data gave a tensor its shape, take the checkpoint's: any other difference is an error.
        for name, fixed in self.data_shapes.items():
            if (saved := state_dict.get(prefix + name)) is not None:
                sizes = saved.shape if saved.dim() == len(fixed) else [0] * len(fixed)
                shape = [size if own is None else own for size, own in zip(sizes, fixed, strict=True)]
                empty = getattr(self, name).new_zeros(shape)
                if name not in self._parameters or getattr(self, name).shape != empty.shape:  # an optimizer may have it
                    setattr(self, name, nn.Parameter(empty) if name in self._parameters else empty)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,), float32 also under mixed precision: what the loss is applied to.

        It is in the unit of the targets, or in that of `target_scale` if there is one.
        """

    def __call__(self, batch: Batch) -> Tensor:
        """Predicted fitness (B,) in the unit of the targets."""
        score: Tensor = super().__call__(batch)
        return score if self.target_scale is None else self.target_scale(score)

    def predict_with_std(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Predicted fitness (B,) and its standard deviation (B,), where a single model knows it; None elsewhere."""
        return None

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One step of the optimizer on the loss of a batch, whose gradient is summed over its parts.

        Of a `WholeEpoch`, where the model `takes_epochs`, the same steps for all of its batches.
        """
        self._is_given_epochs = isinstance(batch, WholeEpoch)
        if self._is_given_epochs or batch_idx == 0:  # whatever an epoch that was cut off left behind
            self._scores, self._targets = [], []
        steps = steps_of(self, is_watched=not self._is_given_epochs)
        for one in batch.batches() if self._is_given_epochs else [batch]:
            parts = one.parts(self.micro_batch_tokens)
            target = joined([part.target for part in parts])
            over = self._over_pairs if is_pairwise(self.loss) else self._over_rows
            self._scores.append(over(parts, target, steps.backward))
            self._targets.append(target)
            steps.step()
        if not is_pairwise(self.loss):
            for score, target in zip(self._scores, self._targets, strict=True):
                self.training_loss.update(score if self.target_scale is None else self.target_scale(score), target)
            self._scores, self._targets = [], []
        if self._is_given_epochs or self.trainer.is_last_batch:
            steps.end_epoch()
            if is_pairwise(self.loss):
                self._calibrate()

    def _over_rows(self, parts: Sequence[Batch], target: Tensor, backward: Callable[[Tensor], None]) -> Tensor:
        """Add up the gradient of a loss that is a mean over rows; the scores of the rows."""
        scores = []
        for part in parts:
            score = self.forward(part)
            scores.append(score.detach())
            loss = over_rows(self.loss, score, self.in_own_unit(part.target), part.weight)
            backward(loss if len(parts) == 1 else loss * (len(part) / len(target)))
        return joined(scores)

    def _over_pairs(self, parts: Sequence[Batch], target: Tensor, backward: Callable[[Tensor], None]) -> Tensor:
        """Add up the gradient of a loss over pairs of rows, which may stand in different parts; the scores of the rows.

        Of several parts the scores come first, and with them the gradient of each row's score (gradient caching, Gao
        et al. 2021). What then passes through the model part by part is the gradient of the whole batch.
        """
        if len(parts) == 1:
            score = self.forward(parts[0])
            backward(self.loss(score, target))
            return score.detach()
        scores, again = replayed(lambda number: self.forward(parts[number]), len(parts), target.device)
        gradients = torch.split(row_gradient(self.loss, scores, target), [len(part) for part in parts])
        for number, gradient in enumerate(gradients):
            backward((again(number) * gradient).sum())
        return scores

    def _calibrate(self) -> None:
        """Find the unit of scores that have none, right before validation: the weights are kept with the unit."""
        assert isinstance(self.target_scale, TargetScale)
        score, target = torch.cat(self._scores), torch.cat(self._targets)
        self.target_scale.calibrate(score, target)
        self.training_loss.update(self.target_scale(score), target)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradient, all of a batch's parts included."""
        if self.gradient_clip is None:
            return
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        # Fused optimizers are handed scaled gradients, and Lightning's own clipping refuses them for that.
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.gradient_clip)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        prediction = self(batch)
        self.val_loss.update(prediction, batch.target)
        self.val_spearman.update(prediction, batch.target)

    # Metrics are logged at the end of an epoch: a `log` in each step takes as long as a small model's step.
    def on_train_epoch_end(self) -> None:
        """Log the mean training loss of the epoch, unless a training step of a model's own does not say it."""
        if self.training_loss.update_called:
            self._log_epoch(training_loss=self.training_loss)

    def on_validation_epoch_end(self) -> None:
        """Log loss and Spearman over the whole validation set."""
        self._log_epoch(val_loss=self.val_loss, val_spearman=self.val_spearman)

    def _log_epoch(self, **metrics: Metric) -> None:
        if self._is_given_epochs:
            log_epoch(self, metrics)
            return
        for name, metric in metrics.items():
            self.log(name, metric)
