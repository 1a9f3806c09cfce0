"""Before the first trial: whether every kind of run that the space reaches can be built from what is here."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from datasets.task import Announce
from datasets.validation.protocols import Fold
from models.fitness_model import FitnessModel
from models.losses import is_pairwise
from search.config.run_config import DataConfig, RunConfig, task_of
from search.training.build import build_data, build_model, folds_of
from search.training.families import Judged, can_rank, check_ranking
from search.training.memory import is_out_of_memory, shares_that_fit
from search.training.threads import threads_of_model
from search.training.trainer import check_callbacks_of_run, quieten


def check_builds(
    configs: Sequence[RunConfig], split: PreparedSplit, *, places: Places, announce: Announce, n_first: int = 0
) -> tuple[tuple[tuple[str | None, str | None], ...], tuple[bool, ...], int]:
    """Build each run's model and data as far as that costs little, and fetch what they need.

    Returns:
        Name and hash of each run's pretrained weights; whether the models of the first `n_first` can tell their
        validation variants apart; and the threads for the largest of the runs.

    Raises:
        UserError: A model refuses its hyperparameters, the loss or the task, batches have no pairs for the loss, a
            sequence is too long, or weights are missing.
        CannotRank: All predictions by which a model is judged would be the same.
    """
    quieten()
    backbones, threads = [], 1
    largest_batch = max((config.data.batch_size for config in configs), default=1)  # any model of the space may meet it
    largest_folds: dict[str, Fold] = {}
    first: list[tuple[RunConfig, Judged]] = []
    seen: list[tuple[tuple[DataConfig, int | None, int], Tensor]] = []
    judged: dict[tuple[type[FitnessModel], str], tuple[RunConfig, list[Judged]]] = {}
    for config in configs:
        check_callbacks_of_run(config)
        model = _build(config)
        if is_pairwise(model.loss) and config.data.batch_size < 2:
            raise UserError(
                f"data.batch_size={config.data.batch_size} leaves trainer.loss={config.trainer.loss} no pairs of rows: "
                "use batches of at least 2."
            )
        model.check_task(task_of(config))
        model.fetch(places, announce)
        backbones.append((model.weights_name, model.backbone_hash))
        knows = bool(config.scores and config.scores.used)
        judged.setdefault((type(model), str(config.validation)), (config, []))[1].append((model, knows))
        if len(first) < n_first:
            first.append((config, (model, knows)))
        about = (replace(config.data, batch_size=1), model.max_residues, model.tokenizer.n_tokens)
        known = [lengths for other, lengths in seen if other == about]
        validation = str(config.validation)
        if validation not in largest_folds:
            largest_folds[validation] = max(folds_of(config, split), key=lambda fold: len(fold.train))
        largest = largest_folds[validation]
        model.check_size(len(largest.train))
        if known:
            model.see_lengths(known[0])
        else:
            seen.append((about, build_data(config, split, model, largest, 0).lengths))
            if note := model.approximation(len(largest.train)):
                announce(note)
        lengths = known[0] if known else seen[-1][1]
        threads = max(threads, threads_of_model(model, len(largest.train), lengths, largest_batch))
    for config, models in judged.values():
        check_ranking(config, models, folds_of(config, split), split)
    ranks = tuple(can_rank([own], folds_of(config, split), split) for config, own in first)
    return tuple(backbones), ranks, threads


def memory_shares(configs: Sequence[RunConfig], split: PreparedSplit, total_bytes: int, most: int) -> int:
    """Into how many shares a GPU's memory may be divided so that each run passes whole batches through one of them.

    A power of two up to `most`; models whose memory is too little to be planned for fit into any.
    """
    longest: dict[tuple[DataConfig, int | None, int], int] = {}
    n = most
    for config in configs:
        model = _build(config)
        memory = model.memory(config.trainer.precision)
        if memory is None:
            continue
        about = (config.data, model.max_residues, model.tokenizer.n_tokens)
        if about not in longest:
            fold = max(folds_of(config, split), key=lambda fold: len(fold.train))
            longest[about] = build_data(config, split, model, fold, 0).longest
        batch_size = config.data.batch_size
        n = shares_that_fit(memory, total_bytes=total_bytes, longest=longest[about], batch_size=batch_size, most=n)
    return n


def _build(config: RunConfig) -> FitnessModel:
    try:
        return build_model(config)
    except (RuntimeError, MemoryError, OverflowError) as error:
        # Sizes whose product no memory holds, or no number of a C library.
        if not (is_out_of_memory(error) or isinstance(error, OverflowError) or "overflow" in str(error)):
            raise
        raise UserError(
            f"{config.model['_target_']} cannot be built with these hyperparameters "
            f"({' '.join(str(error).split())[:200]}): choose smaller ones."
        ) from None
