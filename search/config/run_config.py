"""The typed configuration of a run: what `fit` is told, and what an experiment file holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from datasets.common.errors import UserError
from datasets.embeddings.description import EmbeddingConfig
from datasets.scores.description import ScoreConfig, ScoreSource
from datasets.tables.table import Table
from datasets.task import Task
from datasets.tasks.own_table import TableSource, table_task
from datasets.tasks.registry import find_task
from models.bounds import Interval, PositiveInt
from search.config import targets
from search.config.allowed_classes import AVERAGING
from search.config.type_checks import build, check_keys, convert, shown

if TYPE_CHECKING:
    from datasets.scores.language_model import LanguageModel

Count = PositiveInt
Epochs = Annotated[int, Interval(ge=1, limit=1_000_000)]  # a trial's steps are numbered over all folds, by a C integer
Threads = Annotated[int, Interval(ge=1, limit=1024)]
Seed = Annotated[int, Interval(ge=0, limit=2**62)]  # `confirm` counts on from it
Tokens = Annotated[int, Interval(ge=1, limit=2**62)]  # the largest of them is WHOLE_BATCH


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How sequences become batches; null is the dataset's own crop, and no limit of length but the model's."""

    crop: str | None
    max_length: Count | None
    truncate: bool
    batch_size: Count


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long and on what a run trains. `patience` counts epochs; `threads` None is as `search.training.threads` says.

    `micro_batch_tokens` is the largest padded part of a batch that passes through the model at once; None is as
    large as memory allows. The optimizer's step is one per batch whatever the parts. `loss` is one of
    `models.losses`; `huber_delta` belongs to Huber's alone. `target_transform` lets a model learn the fold's training
    targets with mean 0 and standard deviation 1, or the normal scores of their ranks; it predicts in their own unit all
    the same.
    """

    max_epochs: Epochs
    patience: Count
    accelerator: Literal["auto", "cpu", "gpu"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    threads: Threads | None
    micro_batch_tokens: Tokens | None
    loss: Literal["mse", "huber", "ranking"]
    huber_delta: Annotated[float, Interval(gt=0)]
    gradient_clip: Annotated[float, Interval(gt=0)] | None
    deterministic: bool
    limit_train_batches: Count | None
    detect_anomaly: bool
    callbacks: list[dict[str, Any]]
    target_transform: Literal["none", "standardize", "rank_normal"] = "none"


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """What frozen features may take on disk, in GiB."""

    max_gb: Annotated[float, Interval(ge=0, limit=10**9)]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, complete: the same config and the same data give the same numbers.

    `model`, `validation` and `logger` are mappings with `_target_` and constructor arguments; `logger` may be
    None. `seed` drives initial weights, data order and dropout. `table` is what a user's own data is read from, None
    for the tasks that have a name. `scores` are columns beside the sequences, and `embeddings` a file of those of the
    sequences, None without any.
    """

    task: str
    table: Table | None = None
    scores: ScoreConfig | None = None
    embeddings: EmbeddingConfig | None = None
    seed: int
    data: DataConfig
    model: dict[str, Any]
    validation: dict[str, Any]
    trainer: TrainerConfig
    cache: CacheConfig
    logger: dict[str, Any] | None


WHOLE_BATCH = 2**62
"""`trainer.micro_batch_tokens` that divides no batch, whatever memory is free."""


def as_it_ran(config: RunConfig, *, threads: int, micro_batch_tokens: int | None) -> RunConfig:
    """The config with the threads and the parts of a batch that a run of it had: what its bits depend on.

    Its logger and callbacks are left out: they are not run again, whoever wrote them.
    """
    parts = micro_batch_tokens or WHOLE_BATCH
    trainer = replace(config.trainer, threads=threads, micro_batch_tokens=parts, callbacks=[])
    return replace(config, trainer=trainer, logger=None)


def averaging_callbacks(config: RunConfig) -> list[str]:
    """The callbacks of a run that change what is trained: without them it would be another."""
    names = [str(tree["_target_"]).rpartition(".")[2] for tree in config.trainer.callbacks]
    return [name for name in names if name in AVERAGING]


LOGGER_ARGUMENTS = ("save_dir", "name", "version")
"""What a run itself tells its logger: where a fold's log stands."""

RUN_KEYS = tuple(RunConfig.__annotations__)
OPTIONAL_KEYS = ("table", "scores", "embeddings")
REQUIRED_KEYS = tuple(key for key in RUN_KEYS if key not in OPTIONAL_KEYS)


def task_of(config: RunConfig, path: Path | None = None, *, alignment: Path | None = None) -> Task:
    """The run's task; `path`, of a user's own table, and `alignment` are where the files stand now, if moved."""
    scores = None if config.scores is None else config.scores.with_alignment(alignment)
    return _task(config.task, config.table, scores, config.embeddings, path)


def task_in(tree: Mapping[str, Any]) -> Task:
    """The task of a resolved tree with `task` and, for a user's own data, `table`.

    Raises:
        UserError: There is no such task, or the table is not described as it should be.
    """
    name, table = convert(str, tree["task"], "task"), tree.get("table")
    return _task(name, None if table is None else build(Table, table, "table"), _scores(tree), _embeddings(tree))


def _embeddings(tree: Mapping[str, Any]) -> EmbeddingConfig | None:
    found = tree.get("embeddings")
    return None if found is None else build(EmbeddingConfig, convert(dict[str, Any], found, "embeddings"), "embeddings")


def _scores(tree: Mapping[str, Any]) -> ScoreConfig | None:
    if tree.get("scores") is None:
        return None
    found = convert(dict[str, Any], tree["scores"], "scores")
    sources = convert(list[dict[str, Any]], found.get("sources"), "scores.sources")
    built = [build(ScoreSource, source, f"scores.sources[{i}]") for i, source in enumerate(sources)]
    return build(ScoreConfig, {**found, "sources": built}, "scores")


def _task(
    name: str,
    table: Table | None,
    scores: ScoreConfig | None,
    embeddings: EmbeddingConfig | None,
    path: Path | None = None,
) -> Task:
    task = find_task(name) if table is None else table_task(table, name=name, path=path)
    task = task if scores is None else with_scores(task, scores)
    return task if embeddings is None else with_embeddings(task, embeddings)


def with_embeddings(task: Task, embeddings: EmbeddingConfig) -> Task:
    """The task with embeddings of its sequences."""
    from datasets.embeddings.embedding_set import EmbeddingSet  # here because it imports NumPy
    from datasets.embeddings.lookup import names_of_source

    return replace(task, embeddings=EmbeddingSet(config=embeddings, names=partial(names_of_source, task.source)))


def with_scores(task: Task, scores: ScoreConfig) -> Task:
    """The task with score columns."""
    from datasets.scores.score_set import ScoreSet  # here because it imports NumPy

    columns = ScoreSet(scores=scores, wild_type=task.wild_type, first_position=task.first_position, chains=task.chains)
    if isinstance(task.source, TableSource):
        own = task.source
        columns = replace(columns, table=own.table, table_path=own.path, loaded=own.loaded)
    return replace(task, scores=columns)


def language_models(weights_dir: Path | None, announce: Callable[[str], None]) -> "Callable[[str], LanguageModel]":
    """What finds the language model of a name, as weights of backbones are found; each is looked for once."""

    @cache
    def find(name: str) -> "LanguageModel":
        from models.backbones.language_model import find_language_model  # here because it imports torch

        return find_language_model(name, weights_dir=weights_dir, announce=announce)

    return find


def run_config(tree: Mapping[str, Any]) -> RunConfig:
    """A checked run from a resolved tree with exactly the keys of `RunConfig`.

    Raises:
        UserError: A key, the task or its crop is unknown, a key is missing, a value does not fit, or a class is not
            allowed at its place.
    """
    check_keys(tree, RUN_KEYS, REQUIRED_KEYS, "config")
    task = task_in(tree)
    data = build(DataConfig, tree["data"], "data")
    task.crop(data.crop)
    trainer = build(TrainerConfig, _with_transform(tree["trainer"]), "trainer")
    callbacks = [
        targets.check(callback, targets.CALLBACK, f"trainer.callbacks[{i}]")
        for i, callback in enumerate(trainer.callbacks)
    ]
    model = targets.check(tree["model"], targets.MODEL, "model")
    logger = tree["logger"]
    has_logger = logger is not None and logger != {"_target_": None}
    return RunConfig(
        task=task.name,
        table=task.source.table if isinstance(task.source, TableSource) else None,
        scores=_scores(tree),
        embeddings=_embeddings(tree),
        seed=convert(Seed, tree["seed"], "seed"),
        data=data,
        model={**model, **{name: value for name, value in targets.defaults(model).items() if name not in model}},
        validation=targets.check(tree["validation"], targets.VALIDATION, "validation"),
        trainer=replace(trainer, callbacks=callbacks),
        cache=build(CacheConfig, tree["cache"], "cache"),
        logger=targets.check(logger, targets.LOGGER, "logger", LOGGER_ARGUMENTS) if has_logger else None,
    )


def _with_transform(trainer: Any) -> Any:
    """The trainer's settings with `target_transform` for `standardize_targets`, which it was before there were others.

    Raises:
        UserError: The two contradict each other.
    """
    if not isinstance(trainer, Mapping) or "standardize_targets" not in trainer:
        return trainer
    rest = {key: value for key, value in trainer.items() if key != "standardize_targets"}
    if not convert(bool, trainer["standardize_targets"], "trainer.standardize_targets"):
        return rest
    transform = rest.get("target_transform", "none")
    if transform not in ("none", "standardize"):
        raise UserError(
            f"trainer.standardize_targets=true contradicts trainer.target_transform={shown(transform)}: "
            "leave out the first, which is the older name of trainer.target_transform=standardize."
        )
    return {**rest, "target_transform": "standardize"}
