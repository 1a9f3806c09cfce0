"""Training of one fold of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from datasets.batches.datamodule import FitnessData
from datasets.common.paths import Places
from datasets.features.frozen import FeatureCache, frozen_features
from datasets.splits.prepared import PreparedSplit
from datasets.task import Announce
from datasets.validation.protocols import Fold
from models.closed_form import ClosedForm
from models.fitness_model import FitnessModel
from search.config.run_config import WHOLE_BATCH, RunConfig, task_of
from search.storage.ending import Ending
from search.training.build import build_data, build_model
from search.training.checkpoint.progress import Progress, Reports
from search.training.checkpoint.snapshot import KeepState
from search.training.memory import eval_tokens, free_memory_bytes, keep_to_share, micro_batch_tokens
from search.training.one_fold import OneFold
from search.training.result import FOLD
from search.training.seeding import seed_libraries
from search.training.solved import Solved, needs_trainer
from search.training.stepwise import Stepwise

OnProgress = Callable[[str, int, int], None]
"""Is told (what, n_done, n_total) of long work besides training."""


@dataclass(frozen=True, kw_only=True)
class FoldTraining:
    """What the training of a run's folds has in common; see `search.training.fit.fit`."""

    config: RunConfig
    split: PreparedSplit
    places: Places
    directory: Path
    reports: Reports
    announce: Announce
    on_progress: OnProgress
    should_stop: Callable[[], bool]
    on_prepared: Callable[[Progress, int], None] = lambda progress, needed: None
    """Is told before a fold trains what is known of it, and about how many bytes it takes (0: few)."""

    def fit(
        self,
        fold: Fold,
        number: int,
        progress: Progress,
        state: KeepState,
        *,
        tokens: int | None,
        is_one_of_several: bool,
    ) -> tuple[Ending, str]:
        """Train a fold, in parts of at most `tokens` (None: as memory allows): how it ended and why.

        What is known of it is added to `progress` as soon as it is.
        """
        config = self.config
        model = build_model(config, number)
        model.check_task(task_of(config))
        data = build_data(config, self.split, model, fold, number)
        is_judged = len(fold.validation) > 0
        one = OneFold(
            config=config,
            number=number,
            directory=self.directory,
            path=self.directory / FOLD.format(number),
            report=self.reports,
            should_stop=self.should_stop,
            is_judged=is_judged,
            # The few rows of one fold of several would choose an epoch by luck, and all folds by different ones.
            chooses_epoch=is_judged and not is_one_of_several,
        )
        training = Stepwise(one, state) if needs_trainer(model, config) else Solved(one)
        device = training.device
        keep_to_share(device)
        progress.device = str(device)
        if number > 0:  # all folds in the same parts: one number is recorded
            tokens = progress.micro_batch_tokens or WHOLE_BATCH
        smaller = self.divide(model, data, device, tokens, progress)
        self.prepare(model, data, device, number, progress)
        progress.smaller = smaller  # not before: features are computed in passes of one size
        progress.n_parameters = model.n_parameters
        progress.max_residues = model.max_residues
        self.on_prepared(progress, self._needed_bytes(model, data))
        progress.values.append(one.values)
        model.see_targets(torch.as_tensor(self.split.target[fold.train]))
        model.see_rows(data.training_rows)
        if model.embedding_scope is not None:
            model.see_features(data.training_features())
        trained = training.train(model, data)
        progress.n_parameters = model.n_parameters  # an exact model has them now
        progress.best_epochs.append(trained.best_epoch)
        is_exact = isinstance(model, ClosedForm)
        if trained.has_diverged:
            after = "" if is_exact else f" after epoch {len(one.values) - 1}"
            return Ending.DIVERGED, f"predictions or loss of fold {number} were not finite{after}"
        if trained.was_stopped:
            return Ending.STOPPED, "told to stop"
        if not trained.is_finite:
            after = "" if is_exact else " after the last epoch"
            return Ending.DIVERGED, f"the weights of fold {number} were not finite{after}"
        if trained.best_epoch is None:
            if is_exact:
                return Ending.CONSTANT, f"the validation predictions of fold {number} could not be ranked (all equal)"
            return Ending.CONSTANT, "no epoch had validation predictions that could be ranked (all equal)"
        if trained.predictions is not None:
            progress.predictions.append(trained.predictions)
            progress.rows.append(torch.as_tensor(data.validation_rows))
        progress.checkpoints.append(one.path.name)
        return Ending.COMPLETE, ""

    def divide(
        self, model: FitnessModel, data: FitnessData, device: torch.device, tokens: int | None, progress: Progress
    ) -> int | None:
        """Choose how much of a batch passes through the model at once; what to try if memory runs out, if anything."""
        batch_size = self.config.data.batch_size
        memory = model.memory(self.config.trainer.precision)
        if memory is not None:
            free = free_memory_bytes(device)
            fitting = micro_batch_tokens(memory, free_bytes=free, longest=data.longest, batch_size=batch_size)
            tokens = tokens or fitting
        if tokens is not None and tokens >= batch_size * data.longest:
            tokens = None  # the same, and evaluated in the same batches
        if memory is not None:
            data.eval_tokens = eval_tokens(tokens, longest=data.longest, batch_size=batch_size)
        model.micro_batch_tokens = progress.micro_batch_tokens = tokens
        half = (tokens or batch_size * data.longest) // 2
        return half if half >= data.longest and model.has_micro_batches else None

    def _needed_bytes(self, model: FitnessModel, data: FitnessData) -> int:
        memory = model.memory(self.config.trainer.precision)
        if memory is None:
            return 0
        at_once = model.micro_batch_tokens or self.config.data.batch_size * data.longest
        return memory.fixed + max(memory.per_token * at_once, memory.per_eval_token * (data.eval_tokens or 0))

    def prepare(
        self, model: FitnessModel, data: FitnessData, device: torch.device, number: int, progress: Progress
    ) -> None:
        """Compute what is frozen, or find it in the cache; build what is trained."""
        config = self.config
        model.fetch(self.places, self.announce)
        progress.backbone = model.backbone_hash
        seed_libraries("adapters", config.seed, number)
        model.build(self.places)
        frozen = model.frozen_part(self.places, config.trainer.precision, device)
        if frozen is None:
            return
        features = frozen_features(
            frozen.encoder,
            data.tokens,
            data.mask,
            data.region,
            scope=frozen.scope,
            also=frozen.also,
            cache=FeatureCache(self.places.cache_dir / "features", max_bytes=int(config.cache.max_gb * 2**30)),
            announce=self.announce,
            on_progress=partial(self.on_progress, frozen.what),
        )
        frozen.encoder.release()
        progress.n_embedded += features.n_computed
        data.use_features(features)
