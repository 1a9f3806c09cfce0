"""What a run is built of: its model, its batches, its folds."""

from datasets.batches.datamodule import FitnessData
from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingKind
from datasets.features.encoder import Scope
from datasets.sequences.chains import N_LINKER, Chains
from datasets.sequences.tokenizer import links_chains
from datasets.splits.prepared import PreparedSplit
from datasets.validation.folds import folds_of_split
from datasets.validation.protocols import Division, Fold
from models.fitness_model import FitnessModel
from models.hooks import with_gaps
from models.losses import make_loss
from search.config import targets
from search.config.run_config import RunConfig, task_of
from search.training.seeding import seed_libraries


def build_model(config: RunConfig, fold: int = 0) -> FitnessModel:
    """The untrained model of a run's fold, its weights drawn from (seed, fold).

    Raises:
        UserError: The model refuses its hyperparameters or the loss.
    """
    seed_libraries("weights", config.seed, fold)
    with with_gaps(config.table is not None and config.table.aligned_length is not None):
        model: FitnessModel = targets.instantiate(config.model, targets.MODEL, "model")
    if config.table is not None and config.table.chains is not None and model.max_residues is not None:
        n_linkers = len(Chains.of(config.table.chains).names) - 1
        model.max_residues -= N_LINKER * n_linkers * links_chains(model.tokenizer)  # they are tokens, too
    if config.scores is not None and config.scores.used:
        model.take_scores()
    if model.embedding_scope is not None:
        _take_embeddings(model, config)
    trainer = config.trainer
    model.gradient_clip = trainer.gradient_clip
    model.minimise(make_loss(trainer.loss, huber_delta=trainer.huber_delta), trainer.target_transform)
    if config.table is not None and config.table.error_column is not None:
        model.take_weights()
    return model


def _take_embeddings(model: FitnessModel, config: RunConfig) -> None:
    found = config.embeddings
    if found is None:
        raise UserError("The model sees embeddings, and none are named: add --embeddings FILE.")
    if found.kind == "sequence" and model.embedding_scope != "mean":
        raise UserError(
            f"{found.file} has one vector a sequence, and the model wants one of each residue: use model.pooling=mean, "
            "or embeddings of residues."
        )
    model.take_embeddings(found.width)


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
        embeddings=_seen_embeddings(model, config),
        fold_number=number,
        max_length=config.data.max_length,
        truncate=config.data.truncate,
        max_residues=model.max_residues,
    )
    model.see_lengths(data.lengths)
    return data


def _seen_embeddings(model: FitnessModel, config: RunConfig) -> tuple[EmbeddingKind, Scope] | None:
    if config.embeddings is None or model.embedding_scope is None:
        return None
    return config.embeddings.kind, model.embedding_scope


def folds_of(config: RunConfig, split: PreparedSplit) -> tuple[Fold, ...]:
    """The folds that the run's validation makes of a split."""
    return folds_of_split(division_of(config), split, task_of(config))


def division_of(config: RunConfig) -> Division:
    """The validation that the run's config names."""
    division: Division = targets.instantiate(config.validation, targets.DIVISION, "validation")
    return division
