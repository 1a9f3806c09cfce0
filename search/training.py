"""`fit`: one run from a config. It knows nothing of Optuna."""

import gc
import logging
import math
import resource
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets.datamodule import FitnessData
from datasets.embeddings import FeatureCache, frozen_features
from datasets.prepared import PreparedSplit
from datasets.seeds import derive_seed
from datasets.task import Announce
from datasets.validation import Division, Fold
from datasets.without_rise import WithoutRise
from models.fitness_model import FitnessModel
from models.losses import make_loss
from models.metrics import spearman
from models.places import Places
from search import targets
from search.checkpoint import load_weights
from search.fold_state import FoldState, KeepState
from search.machine import usable_cores
from search.memory import DoesNotFit, eval_tokens, free_memory_bytes, keep_to_share, micro_batch_tokens
from search.out_of_fold import pooled, save_pooled
from search.pruning import KeepBestWeights, KeepLastWeights, Report, ReportAndStop
from search.result import Ending, Result
from search.resume import Unusable, bring_logs, read_state, take_over
from search.run_state import Progress, Reports, about
from search.schema import WHOLE_BATCH, RunConfig, task_of
from search.state_writer import StateWriter
from search.trainer import build_trainer

OnProgress = Callable[[str, int, int], None]
"""Is told (what, n_done, n_total) of long work besides training."""


def fit(
    config: RunConfig,
    split: PreparedSplit,
    *,
    places: Places,
    directory: Path,
    report: Report,
    announce: Announce = lambda sentence: None,
    on_progress: OnProgress = lambda what, n_done, n_total: None,
    should_stop: Callable[[], bool] = lambda: False,
    resume: Path | None = None,
) -> Result:
    """Train a run, keep the best weights of each fold in `directory`, and say what came of it.

    A fold that has no validation rows is trained to the last epoch, and those weights are kept. Beside the weights of a
    complete run stand its validation predictions, if any (see `search.out_of_fold`).

    Every now and then, at the end of an epoch, its state is written to `directory` (see `search.state_files`). It is
    there after the end as well: whoever asked for the result removes it, once that is kept.

    Args:
        config: The run.
        split: Its training and validation rows.
        places: Where weights are found and features are cached.
        directory: For checkpoints and logs; made if missing.
        report: Told of each validation, by fold and epoch, once.
        announce: Told of what the user should know.
        on_progress: Told how far the computation of frozen features is.
        should_stop: Asked after each batch and validation.
        resume: The folder of the same run, interrupted, whose state is moved to `directory` and gone on from, to the
            result of an uninterrupted run. What was reported by then is reported again. Without a state there, or
            with one of another run, machine or version, the run begins anew and says so.

    Running out of memory and divergence are results. A UserError says that the config cannot run here; any other
    exception is a bug.
    """
    directory.mkdir(parents=True, exist_ok=True)
    quieten()
    threads = config.trainer.threads or default_threads()
    torch.set_num_threads(threads)
    # Deterministic algorithms fill every new tensor with NaN unless told not to: it costs time and finds nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    run = _Run(config, split, places, directory, threads, report, announce, on_progress, should_stop)
    tokens = config.trainer.micro_batch_tokens
    if resume is not None and run.resume(resume):
        tokens = run.progress.micro_batch_tokens or WHOLE_BATCH
    ending, reason = run.train(tokens)
    progress = run.progress
    value = excess_rise = None
    if ending == "complete" and progress.predictions:
        arrays = pooled(progress.rows, progress.predictions, split)
        save_pooled(arrays, directory)
        value = spearman(arrays["prediction"], arrays["target"])
        if math.isfinite(value):
            excess_rise = run.excess_rise()
        else:
            ending, reason = "constant", "the validation predictions of all folds together could not be ranked"
            value = None
    return Result(
        ending=ending,
        reason=reason,
        value=value,
        values=tuple(map(tuple, progress.values)),
        best_epochs=tuple(progress.best_epochs),
        checkpoints=tuple(str(directory / name) for name in progress.checkpoints),
        n_parameters=progress.n_parameters,
        seconds=run.seconds,
        peak_memory_bytes=run.peak_memory_bytes,
        threads=threads,
        device=progress.device,
        micro_batch_tokens=progress.micro_batch_tokens,
        backbone=progress.backbone,
        n_embedded=run.n_embedded,
        excess_rise=excess_rise,
    )


def build_model(config: RunConfig, fold: int = 0) -> FitnessModel:
    """The untrained model of a run's fold, its weights drawn from (seed, fold).

    Raises:
        UserError: The model refuses its hyperparameters or the loss.
    """
    torch.manual_seed(derive_seed("weights", config.seed, fold))
    model: FitnessModel = targets.instantiate(config.model, targets.MODEL, "model")
    trainer = config.trainer
    model.gradient_clip = trainer.gradient_clip
    model.minimise(
        make_loss(trainer.loss, huber_delta=trainer.huber_delta), standardize_targets=trainer.standardize_targets
    )
    return model


def build_data(config: RunConfig, split: PreparedSplit, model: FitnessModel, fold: Fold, number: int) -> FitnessData:
    """The batches of one fold, tokenised for `model`; a UserError says that it can't take them."""
    model.check_size(len(fold.train))
    return FitnessData(
        split=split,
        task=task_of(config),
        tokenizer=model.tokenizer,
        fold=fold,
        crop=config.data.crop,
        batch_size=config.data.batch_size,
        seed=config.seed,
        fold_number=number,
        max_length=config.data.max_length,
        truncate=config.data.truncate,
        max_residues=model.max_residues,
    )


def folds_of(config: RunConfig, split: PreparedSplit) -> tuple[Fold, ...]:
    """The folds that the run's validation makes of a split."""
    return _division(config).folds(split, task_of(config))


def _division(config: RunConfig) -> Division:
    division: Division = targets.instantiate(config.validation, targets.DIVISION, "validation")
    return division


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def default_threads() -> int:
    """Threads of a run that names none: the cores this process may use."""
    return usable_cores()


def quieten() -> None:
    """Keep Lightning's banners and advice out of the logs; what matters is checked by ourselves."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


class _Run:
    """The folds of a run, one after the other; again from the first in smaller parts where memory ran out."""

    def __init__(
        self,
        config: RunConfig,
        split: PreparedSplit,
        places: Places,
        directory: Path,
        threads: int,
        report: Report,
        announce: Announce,
        on_progress: OnProgress,
        should_stop: Callable[[], bool],
    ) -> None:
        self.config = config
        self.split = split
        self.places = places
        self.directory = directory
        self.threads = threads
        self.reports = Reports(report)
        self.announce = announce
        self.on_progress = on_progress
        self.should_stop = should_stop
        self.progress = Progress()
        self.n_embedded = 0
        self._fold_state: FoldState | None = None
        self._is_one_of_several = False
        self._started = time.monotonic()
        self._seconds_before = 0.0
        self._peak_before = 0
        # What callbacks of the config keep for themselves is not known.
        self._writer = None if config.trainer.callbacks else StateWriter(directory, announce)

    @property
    def seconds(self) -> float:
        """How long the run has taken, earlier parts of it included."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def peak_memory_bytes(self) -> int:
        """The most memory that any part of the run held."""
        return max(self._peak_before, _peak_memory_bytes(self.progress.device))

    def resume(self, before: Path) -> bool:
        """Take over where the run in the folder `before` was interrupted; False, and announced, if that cannot be."""
        model = build_model(self.config)
        model.fetch(self.places, self.announce)
        try:
            state = read_state(before, lambda: self._about(model.backbone_hash))
            take_over(before, self.directory)
            bring_logs(before, self.directory)
        except Unusable as reason:
            self.announce(f"The state in {before} is not used: {reason}. The run begins anew.")
            return False
        except OSError as error:
            self.announce(f"The state in {before} cannot be moved: {error.strerror}. The run begins anew.")
            return False
        self.progress = Progress(**state["progress"])
        self._fold_state = state["fold"]
        self.n_embedded = state["n_embedded"]
        self._seconds_before = state["seconds"]
        self._peak_before = state["peak_memory_bytes"]
        values = list(self.progress.values)
        if self._fold_state is not None:
            values.append(self._fold_state["callbacks"]["ReportAndStop"]["values"])
        self.announce(f"The run goes on from its state after epoch {len(values[-1]) - 1} of fold {len(values) - 1}.")
        for report in state["reports"]:
            self.reports(*report)
        return True

    def train(self, tokens: int | None) -> tuple[Ending, str]:
        """All folds that are not finished, in parts of at most `tokens` (None: as memory allows); how it ended, why."""
        try:
            folds = folds_of(self.config, self.split)
            self._is_one_of_several = len(folds) > 1
            for number, fold in enumerate(folds):
                if number < len(self.progress.checkpoints):
                    continue
                ending, reason = self._fit_fold(fold, number, tokens)
                if ending != "complete":
                    return ending, reason
                if self._is_state_due():
                    self._keep_state(None)
            return "complete", ""
        except DoesNotFit as error:
            return "out_of_memory", str(error)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        # Outside of the handler, whose traceback would hold on to the tensors.
        smaller = self.progress.smaller
        if smaller is None:
            return "out_of_memory", reason
        self.announce(f"Out of memory: the run starts again with parts of at most {smaller} tokens.")
        gc.collect()  # trainer, model and data refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.progress, self._fold_state = Progress(), None
        return self.train(smaller)

    def excess_rise(self) -> float | None:
        """As `Result` has it, of a run whose folds are all trained."""
        from search.rise import rise_with_mutations  # which builds on this module

        validation = _division(self.config)
        if not isinstance(validation, WithoutRise):
            return None
        rise = rise_with_mutations(
            self.config,
            self.split,
            [self.directory / name for name in self.progress.checkpoints],
            places=self.places,
            announce=self.announce,
            micro_batch_tokens=self.progress.micro_batch_tokens,
        )
        return None if rise is None else rise - validation.most

    def _about(self, backbone: str | None) -> Mapping[str, Any]:
        return about(self.config, self.split, threads=self.threads, backbone=backbone)

    def _is_state_due(self) -> bool:
        return self._writer is not None and self._writer.is_due()

    def _keep_state(self, fold: FoldState | None) -> None:
        assert self._writer is not None
        finished = self.progress.finished()
        names = list(finished.checkpoints)
        if fold is not None and fold["callbacks"].get("KeepBestWeights", {}).get("best_epoch") is not None:
            names.append(_weights_name(len(names)))
        self._writer.write(
            {
                "progress": finished.state(),
                "fold": fold,
                "reports": self.reports.told,
                "n_embedded": self.n_embedded,
                "seconds": self.seconds,
                "peak_memory_bytes": self.peak_memory_bytes,
            },
            {name: self.directory / name for name in names},
            self._about(self.progress.backbone),
        )

    def _fit_fold(self, fold: Fold, number: int, tokens: int | None) -> tuple[Ending, str]:
        config, progress = self.config, self.progress
        model = build_model(config, number)
        model.check_task(task_of(config))
        data = build_data(config, self.split, model, fold, number)
        reporter = ReportAndStop(fold=number, report=self.reports, should_stop=self.should_stop)
        is_judged = len(fold.validation) > 0
        path = self.directory / _weights_name(number)
        keeper = KeepBestWeights(path, keeps_unranked=self._is_one_of_several) if is_judged else KeepLastWeights(path)
        state = KeepState(is_due=self._is_state_due, keep=self._keep_state, resumed=self._fold_state)
        self._fold_state = None
        trainer = build_trainer(config, self.directory, number, [state, reporter, keeper], is_judged=is_judged)
        device = trainer.strategy.root_device
        keep_to_share(device)
        progress.device = str(device)
        if number > 0:  # all folds in the same parts: one number is recorded
            tokens = progress.micro_batch_tokens or WHOLE_BATCH
        smaller = self._divide(model, data, device, tokens)
        self._prepare(model, data, device, number)
        progress.smaller = smaller  # not before: features are computed in passes of one size
        progress.n_parameters = model.n_parameters
        progress.values.append(reporter.values)
        model.see_targets(torch.as_tensor(self.split.target[fold.train]))
        trainer.fit(model, datamodule=data)
        progress.best_epochs.append(keeper.best_epoch)
        if reporter.has_diverged:
            epoch = len(reporter.values) - 1
            return "diverged", f"predictions or loss were not finite after epoch {epoch} of fold {number}"
        if reporter.was_stopped:
            return "stopped", "told to stop"
        if isinstance(keeper, KeepLastWeights) and not keeper.is_finite:
            return "diverged", f"weights were not finite after the last epoch of fold {number}"
        if keeper.best_epoch is None:
            return (
                "constant",
                f"no epoch of fold {number} had validation predictions that could be ranked (all equal)",
            )
        if is_judged:
            load_weights(model, keeper.path)
            outputs = trainer.predict(model, dataloaders=data.val_dataloader())
            assert outputs is not None
            progress.predictions.append(torch.cat([output for output in outputs if isinstance(output, Tensor)]).cpu())
            progress.rows.append(torch.as_tensor(data.validation_rows))
        progress.checkpoints.append(keeper.path.name)
        return "complete", ""

    def _divide(self, model: FitnessModel, data: FitnessData, device: torch.device, tokens: int | None) -> int | None:
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
        model.micro_batch_tokens = self.progress.micro_batch_tokens = tokens
        half = (tokens or batch_size * data.longest) // 2
        return half if half >= data.longest and model.has_micro_batches else None

    def _prepare(self, model: FitnessModel, data: FitnessData, device: torch.device, number: int) -> None:
        """Compute what is frozen, or find it in the cache; build what is trained."""
        config = self.config
        model.fetch(self.places, self.announce)
        self.progress.backbone = model.backbone_hash
        torch.manual_seed(derive_seed("adapters", config.seed, number))
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
        self.n_embedded += features.n_computed
        data.use_features(features)


def _weights_name(fold: int) -> str:
    return f"fold{fold}.safetensors"


def _peak_memory_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
