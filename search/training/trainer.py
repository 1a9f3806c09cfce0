"""The one place where a Lightning Trainer is built."""

import logging
import warnings
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping

from datasets.common.errors import UserError
from search.config import targets
from search.config.allowed_classes import LOGGING
from search.config.run_config import RunConfig, averaging_callbacks
from search.training.callbacks import MONITOR, SeedEpochs


def build_trainer(
    config: RunConfig,
    directory: Path,
    fold: int,
    callbacks: list[pl.Callback],
    *,
    is_judged: bool = True,
    stops_early: bool = True,
) -> pl.Trainer:
    """The trainer of one fold: `callbacks` are ours; seeding, early stopping and the config's own are added.

    A fold that is not judged has no validation rows.

    Raises:
        UserError: The accelerator or precision cannot be used on this machine, or a callback cannot be used at all.
    """
    check_callbacks_of_run(config)
    settings = config.trainer
    extra = [
        targets.instantiate(tree, targets.CALLBACK, f"trainer.callbacks[{i}]")
        for i, tree in enumerate(settings.callbacks)
    ]
    # Last, so that it sees the values that ReportAndStop has seen; NaN counts as no improvement.
    stopping = EarlyStopping(monitor=MONITOR, mode="max", patience=settings.patience, check_finite=False, verbose=False)
    ours = [SeedEpochs(seed=config.seed, fold=fold), *callbacks, *([stopping] if stops_early else [])]
    try:
        trainer = pl.Trainer(
            accelerator=settings.accelerator,
            devices=1,
            # Under srun Lightning would otherwise join independent trials into one distributed world.
            plugins=[LightningEnvironment()],
            precision=settings.precision,
            max_epochs=settings.max_epochs,
            deterministic=settings.deterministic,
            limit_train_batches=settings.limit_train_batches,
            detect_anomaly=settings.detect_anomaly,
            limit_val_batches=None if is_judged else 0,
            callbacks=[*ours, *extra],
            logger=logger_of(config, directory, fold),
            default_root_dir=directory,
            log_every_n_steps=1_000_000,  # metrics are logged by epoch
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except MisconfigurationException as error:
        raise UserError(
            f"trainer.accelerator={settings.accelerator} cannot be used here: {' '.join(str(error).split())}"
        ) from None
    if settings.precision == "16-mixed" and trainer.strategy.root_device.type == "cpu":
        raise UserError(
            "trainer.precision=16-mixed needs a GPU, and this trains on a CPU, where Lightning would take bfloat16: "
            "use trainer.precision=bf16-mixed or trainer.precision=32-true."
        )
    return trainer


def check_callbacks_of_run(config: RunConfig) -> None:
    """Refuse callbacks of a config that would not do what they are named for.

    Raises:
        UserError: One averages weights, which is not what is kept; or one logs, and there is no logger of Lightning's.
    """
    if averaging := averaging_callbacks(config):
        raise UserError(
            f"trainer.callbacks names {averaging[0]}, and the weights that a run keeps are not its averages: leave it "
            "out, or average the predictions of several models (`combine`)."
        )
    has_logger = bool(config.logger) and targets.tracker_in(config.logger) is None
    for tree in config.trainer.callbacks:
        name = str(tree["_target_"]).rpartition(".")[2]
        if name in LOGGING and not has_logger:
            raise UserError(
                f"trainer.callbacks names {name}, which writes to a logger, and there is none that a run writes to: "
                "use logger=csv or logger=tensorboard, or leave it out."
            )


def quieten() -> None:
    """Keep Lightning's banners and advice out of the logs; what matters is checked by ourselves."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def logger_of(config: RunConfig, directory: Path, fold: int) -> pl.loggers.Logger | Literal[False]:
    """What logs a fold of a run; False where nothing does, or a tracker that looks at whole trials."""
    if not config.logger or targets.tracker_in(config.logger) is not None:
        return False
    logger: pl.loggers.Logger = targets.instantiate(
        config.logger, targets.LOGGER, "logger", save_dir=str(directory), name="logs", version=f"fold{fold}"
    )
    return logger
