"""What a run is built of: its model, its batches, its folds."""

import torch

from datasets.batches.datamodule import FitnessData
from datasets.common.seeds import derive_seed
from datasets.splits.prepared import PreparedSplit
from datasets.validation.protocols import Division, Fold
from models.fitness_model import FitnessModel
from models.losses import make_loss
from search.config import targets
from search.config.run_config import RunConfig, task_of


def build_model(config: RunConfig, fold: int = 0) -> FitnessModel:
    """The untrained model of a run's fold, its weights drawn from (seed, fold).

    Raises:
        UserError: The model refuses its hyperparameters or the loss.
    """
    torch.manual_seed(derive_seed("weights", config.seed, fold))
    model: FitnessModel = targets.instantiate(config.model, targets.MODEL, "model")
    if config.scores is not None and config.scores.used:
        model.take_scores()
    trainer = config.trainer
    model.gradient_clip = trainer.gradient_clip
    model.minimise(make_loss(trainer.loss, huber_delta=trainer.huber_delta), trainer.target_transform)
    return model


def build_data(config: RunConfig, split: PreparedSplit, model: FitnessModel, fold: Fold, number: int) -> FitnessData:
    """The batches of one fold, tokenised for `model`; a UserError says that it can't take them."""
    model.check_size(len(fold.train))
    data = FitnessData(
        split=split,
        task=task_of(config),
        tokenizer=model.tokenizer,
        fold=fold,
        crop=config.data.crop,
        batch_size=config.data.batch_size,
        seed=config.seed,
        scores=config.scores.used if config.scores else (),
        fold_number=number,
        max_length=config.data.max_length,
        truncate=config.data.truncate,
        max_residues=model.max_residues,
    )
    model.see_lengths(data.lengths)
    return data


def folds_of(config: RunConfig, split: PreparedSplit) -> tuple[Fold, ...]:
    """The folds that the run's validation makes of a split."""
    return division_of(config).folds(split, task_of(config))


def division_of(config: RunConfig) -> Division:
    """The validation that the run's config names."""
    division: Division = targets.instantiate(config.validation, targets.DIVISION, "validation")
    return division
