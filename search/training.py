"""`fit`: one run from a config. The only place where a Trainer is built; it knows nothing of Optuna."""

import logging
import os
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from datasets.datamodule import FitnessData
from datasets.errors import UserError
from datasets.prepared import PreparedSplit
from datasets.seeds import derive_seed
from datasets.task import find_task
from datasets.validation import Fold, Validation
from models.fitness_model import FitnessModel
from models.metrics import spearman
from search import targets
from search.checkpoint import load_weights
from search.pruning import MONITOR, KeepBestWeights, Report, ReportAndStop, SeedEpochs
from search.result import Ending, Result
from search.schema import RunConfig


@dataclass
class _Progress:
    """What is known of a run so far, kept outside of it so that running out of memory loses none of it."""

    values: list[list[float | None]] = field(default_factory=list)
    best_epochs: list[int | None] = field(default_factory=list)
    checkpoints: list[str] = field(default_factory=list)
    predictions: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    n_parameters: int = 0
    device: str = "cpu"


def _never() -> bool:
    return False


def fit(
    config: RunConfig,
    split: PreparedSplit,
    *,
    directory: Path,
    report: Report,
    should_stop: Callable[[], bool] = _never,
) -> Result:
    """Train a run, keep the best weights of each fold in `directory`, and say what came of it.

    Args:
        config: The run.
        split: Its training and validation rows.
        directory: For checkpoints and logs; made if missing.
        report: Told of each validation, by fold and epoch.
        should_stop: Asked after each batch and validation.

    Running out of memory and divergence are results. Any other exception is a bug and is raised.
    """
    started = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    quieten()
    threads = config.trainer.threads or default_threads()
    torch.set_num_threads(threads)
    # Deterministic algorithms fill every new tensor with NaN unless told not to: it costs time and finds nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    validation: Validation = targets.instantiate(config.validation, targets.VALIDATION, "validation")
    progress = _Progress()
    ending: Ending = "complete"
    reason = ""
    try:
        for number, fold in enumerate(validation.folds(split)):
            ending, reason = _fit_fold(config, split, fold, number, directory, progress, report, should_stop)
            if ending != "complete":
                break
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        ending, reason = "out_of_memory", str(error).splitlines()[0]
    value = None
    if ending == "complete":
        value = spearman(torch.cat(progress.predictions), torch.cat(progress.targets))
    return Result(
        ending=ending,
        reason=reason,
        value=value,
        values=tuple(map(tuple, progress.values)),
        best_epochs=tuple(progress.best_epochs),
        checkpoints=tuple(progress.checkpoints),
        n_parameters=progress.n_parameters,
        seconds=time.monotonic() - started,
        peak_memory_bytes=_peak_memory_bytes(progress.device),
        threads=threads,
        device=progress.device,
    )


def build_model(config: RunConfig, fold: int = 0) -> FitnessModel:
    """The untrained model of a run's fold, its weights drawn from (seed, fold)."""
    torch.manual_seed(derive_seed("weights", config.seed, fold))
    model: FitnessModel = targets.instantiate(config.model, targets.MODEL, "model")
    return model


def build_data(config: RunConfig, split: PreparedSplit, model: FitnessModel, fold: Fold, number: int) -> FitnessData:
    """The batches of one fold, tokenised for `model`."""
    return FitnessData(
        split=split,
        task=find_task(config.task),
        tokenizer=model.tokenizer,
        fold=fold,
        crop=config.data.crop,
        max_length=config.data.max_length,
        truncate=config.data.truncate,
        batch_size=config.data.batch_size,
        seed=config.seed,
        fold_number=number,
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def default_threads() -> int:
    """Threads of a run that names none: the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quieten() -> None:
    """Keep Lightning's banners and advice out of the logs; what matters is checked by ourselves."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def _fit_fold(
    config: RunConfig,
    split: PreparedSplit,
    fold: Fold,
    number: int,
    directory: Path,
    progress: _Progress,
    report: Report,
    should_stop: Callable[[], bool],
) -> tuple[Ending, str]:
    model = build_model(config, number)
    progress.n_parameters = sum(parameter.numel() for parameter in model.parameters())
    data = build_data(config, split, model, fold, number)
    reporter = ReportAndStop(fold=number, report=report, should_stop=should_stop)
    keeper = KeepBestWeights(directory / f"fold{number}.safetensors")
    progress.values.append(reporter.values)
    trainer = _trainer(config, directory, number, [reporter, keeper])
    progress.device = str(trainer.strategy.root_device)
    trainer.fit(model, datamodule=data)
    progress.best_epochs.append(keeper.best_epoch)
    if reporter.has_diverged:
        epoch = len(reporter.values) - 1
        return "diverged", f"predictions or loss were not finite after epoch {epoch} of fold {number}"
    if reporter.was_stopped:
        return "stopped", "told to stop"
    if keeper.best_epoch is None:
        return (
            "constant",
            f"no epoch of fold {number} had validation predictions that could be ranked (all equal)",
        )
    progress.checkpoints.append(str(keeper.path))
    load_weights(model, keeper.path)
    outputs = trainer.predict(model, dataloaders=data.val_dataloader())
    assert outputs is not None
    progress.predictions.append(torch.cat([output for output in outputs if isinstance(output, Tensor)]).cpu())
    progress.targets.append(torch.as_tensor(split.target[data.validation_rows]))
    return "complete", ""


def _trainer(config: RunConfig, directory: Path, fold: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    settings = config.trainer
    extra = [
        targets.instantiate(tree, targets.CALLBACK, f"trainer.callbacks[{i}]")
        for i, tree in enumerate(settings.callbacks)
    ]
    # Last, so that it sees the values that ReportAndStop has seen; NaN counts as no improvement.
    stopping = EarlyStopping(monitor=MONITOR, mode="max", patience=settings.patience, check_finite=False, verbose=False)
    logger = (
        targets.instantiate(
            config.logger,
            targets.LOGGER,
            "logger",
            save_dir=str(directory),
            name="logs",
            version=f"fold{fold}",
        )
        if config.logger
        else False
    )
    try:
        return _build_trainer(
            config, directory, [SeedEpochs(seed=config.seed, fold=fold), *callbacks, stopping, *extra], logger
        )
    except MisconfigurationException as error:
        raise UserError(
            f"trainer.accelerator={settings.accelerator} cannot be used here: {' '.join(str(error).split())}"
        ) from None


def _build_trainer(
    config: RunConfig, directory: Path, callbacks: list[pl.Callback], logger: pl.loggers.Logger | bool
) -> pl.Trainer:
    settings = config.trainer
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        # Under srun Lightning would otherwise join independent trials into one distributed world.
        plugins=[LightningEnvironment()],
        precision=settings.precision,
        max_epochs=settings.max_epochs,
        gradient_clip_val=settings.gradient_clip,
        deterministic=settings.deterministic,
        limit_train_batches=settings.limit_train_batches,
        detect_anomaly=settings.detect_anomaly,
        callbacks=callbacks,
        logger=logger,
        default_root_dir=directory,
        log_every_n_steps=1_000_000,  # metrics are logged by epoch
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _peak_memory_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
