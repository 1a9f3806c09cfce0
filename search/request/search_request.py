"""What a search is asked for, whether from Python or from the command line, whose options have the same names."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, get_args

from datasets.common.errors import UserError
from datasets.tables.table import ALL_FOLDS, Censored, Replicates, Stops, table_name
from datasets.tasks.registry import find_task
from search.machine import own_models
from search.options.arguments import check_model, check_warm_start
from search.options.folders import usual_folder
from search.options.table_options import check_data_options, with_rounds
from search.options.values import is_study_name
from search.request.fields import check_texts, set_paths, set_positive, set_whole, several
from search.storage.lease_policy import USUAL_LEASE, LeasePolicy
from search.study.hours.budget import HoursBudget
from search.workers.slots import Executor

_PATHS = ("data", "wild_type", "zero_shot_file", "alignment", "embeddings", "runs_dir", "export_dir", "data_dir",
          "weights_dir", "models_dir")  # fmt: skip
_TEXTS = ("task", "split", "mutation_column", "target_column", "group_column", "fold_column", "test_fold",
          "round_column", "error_column", "sheet", "zero_shot", "study_name", "storage", "artifacts")  # fmt: skip


def in_order(properties: Iterable[str]) -> tuple[str, ...]:
    """Return the names of several properties, each once and sorted, whoever names them; nothing of one alone."""
    found = tuple(sorted(set(properties)))
    return found if len(found) > 1 else ()


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table of one's own is read and divided; see docs/data.md.

    Args:
        data: The file: CSV, TSV, FASTA, Parquet or Excel.
        split: The strategy that divides it; None where the file has a `set` column.
        split_seed: Of the strategies that draw at random.
        max_train_mutations: Of the strategy `k_vs_rest`.
        sequence_column, mutation_column, target_column, group_column: Names in the file; None is found out. Several
            sequence columns are of a chain each.
        fold_column: Names the fold of each row, by which a search cross-validates.
        test_fold: The fold that is test, instead of a `split`.
        round_column: Names the round in which each row was measured: a search validates each by those before it.
        wild_type: A FASTA file that holds it, for tables of mutations, or ProteinGym's reference file.
        first_position: The number of the wild type's first residue in mutations, also those of predictions; None is 1.
        replicates: What becomes of several measurements of one sequence.
        replicate_columns: Names of columns whose mean is the target, instead of `target_column`.
        error_column: The name of a column of the targets' standard errors: rows count less for them.
        sheet: Of an Excel file the one that is read; None is the only one that is not empty.
        censored: What becomes of targets such as `<0.01`: by default the limit is taken for the value.
        stops: What becomes of variants with a stop codon: `drop` sets them aside, None refuses them.
        properties: The target columns of several properties, `target_column` among them, each of which has a study of
            its own: the rows that any of them has are divided once for all.
    """

    data: Path | None = None
    split: str | None = None
    split_seed: int = 0
    max_train_mutations: int | None = None
    sequence_column: str | tuple[str, ...] | None = None
    mutation_column: str | None = None
    target_column: str | None = None
    group_column: str | None = None
    fold_column: str | None = None
    test_fold: str | None = None
    round_column: str | None = None
    wild_type: Path | None = None
    first_position: int | None = None
    replicates: Replicates | None = None
    replicate_columns: tuple[str, ...] = ()
    error_column: str | None = None
    sheet: str | None = None
    censored: Censored | None = None
    stops: Stops | None = None
    properties: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataOptions(TableOptions):
    """A table of one's own, and the scores beside the sequences of a table or a task; see docs/scores.md.

    Args:
        zero_shot_columns: Names of score columns of the table, or of `zero_shot_file`.
        zero_shot_file: Scores by sequence, or by mutations; of its columns the named ones, or all numbers.
        allow_derived: Whether a score column may follow from the target.
        alignment: Sequences related to the wild type, aligned with it: scores are made of them.
        zero_shot: A language model whose own scores are columns: `esm`, which is `model.backbone`, or its name.
        weights_dir: Where pretrained weights are looked for first.
        embeddings: A file with an embedding of each sequence; see docs/embeddings.md.
    """

    zero_shot_columns: tuple[str, ...] = ()
    zero_shot_file: Path | None = None
    allow_derived: bool = False
    alignment: Path | None = None
    zero_shot: str | None = None
    weights_dir: Path | None = None
    embeddings: Path | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace, **given: Any) -> Self:
        """Those of the command line that have a field here; `given` are fields by another name."""
        names = [item.name for item in fields(cls) if item.name not in given and item.name in arguments]
        found = cls(**given, **{name: getattr(arguments, name) for name in names})
        return replace(found, properties=in_order(found.properties)) if found.properties else found


def runs_folder() -> Path:
    """The runs folder that is meant where nobody names one."""
    return usual_folder("runs_dir")[0]


def export_folder() -> Path:
    """The folder of experiments that is meant where nobody names one."""
    return usual_folder("export_dir")[0]


@dataclass(frozen=True, kw_only=True)
class SearchRequest(DataOptions):
    """One study: of one task, or one table, and one family of models.

    The same request resumes its study, which ends at `n_trials` whoever else works on it.

    Args:
        model: The family, such as `ridge`, `kernel`, `cnn` or `esm`.
        task: A task with a name, such as `gb1_three_vs_rest`; or else `data` names a table.
        overrides: Values of the config as on Hydra's command line: `trainer.max_epochs=5`, `sampler=random`.
        n_trials: Finished trials of the study.
        gpu_hours, core_hours: Of all trials and workers of the study; once they are used, no trial begins. None is the
            study's own, or else no limit.
        warm_start: Earlier studies, or experiments' files, with whose best configurations a new study begins.
        allow_seen: Whether these may have trained or validated on this study's test sequences; is recorded.
        study_name: None is TASK-MODEL, of a table FILE-TARGET-SPLIT-MODEL.
        storage: The database's URL; None is `$FLIPSEARCH_STORAGE`, or else a file in the runs folder.
        runs_dir, export_dir: For trials, and for the experiment; by default as for the command line.
        artifacts: Where other machines find weights and predictions, a folder or `s3://BUCKET/PREFIX`; None is
            `$FLIPSEARCH_ARTIFACTS`, or else nowhere.
        data_dir: Where FLIP's files are looked for first.
        models_dir: A folder with models of one's own; None is that of the environment.
        max_failures: Bugs in a row that stop the study.
        keep_top: Of how many of the best trials checkpoints are kept.
        max_retries: How often a trial that lost its process, or failed with its machine, is run again.
        workers: Processes that train at once; None is one for each GPU slot, or without GPUs as many as fill the cores.
        trials_per_gpu: Slots of a GPU; None is as many as `workers` needs, or as a measurement finds it to train.
        timeout: Seconds after which the call ends; None is never.
        trial_timeout: Seconds after which a trial is stopped and counts as pruned.
        quiet: Whether warnings and progress stay unsaid.
        executor: Where trials run.
        lease: How long a worker may be silent; all workers of a study have to have the same.

    Raises:
        datasets.common.errors.UserError: A value is not valid.
    """

    model: str
    task: str | None = None
    overrides: tuple[str, ...] = ()
    n_trials: int = 100
    gpu_hours: float | None = None
    core_hours: float | None = None
    warm_start: tuple[str, ...] = ()
    allow_seen: bool = False
    study_name: str | None = None
    storage: str | None = field(default=None, repr=False)  # it may hold a password
    runs_dir: Path = field(default_factory=runs_folder)
    export_dir: Path = field(default_factory=export_folder)
    artifacts: str | None = None
    data_dir: Path | None = None
    models_dir: Path | None = None
    max_failures: int = 3
    keep_top: int = 5
    max_retries: int = 3
    workers: int | None = 1
    trials_per_gpu: int | None = 1
    timeout: float | None = None
    trial_timeout: float | None = None
    quiet: bool = False
    executor: Executor = "process"
    lease: LeasePolicy = USUAL_LEASE

    def __post_init__(self) -> None:
        """Refuse at once what needs no data and no database to be seen."""
        set_paths(self, _PATHS)
        check_texts(self, ("model",))
        check_texts(self, _TEXTS, may_be_none=True)
        for name in ("overrides", "zero_shot_columns", "replicate_columns", "warm_start", "properties"):
            object.__setattr__(self, name, several(name, getattr(self, name)))
        object.__setattr__(self, "properties", in_order(self.properties))
        if (self.data is None) == (self.task is None):
            raise UserError("A search is of a task or of a table: give either `task` or `data`.")
        if self.task is not None:
            find_task(self.task)
        own_models.use_folder(self.models_dir)
        check_model(self.model)
        if self.study_name is not None and not is_study_name(self.study_name):
            raise UserError(
                f"study_name={self.study_name!r} is not valid: expected up to 100 letters, digits and . _ + -."
            )
        set_whole(self, ("n_trials", "max_failures", "keep_top"), least=1)
        set_whole(self, ("max_retries", "split_seed"), least=0)
        set_whole(self, ("trials_per_gpu", "workers", "max_train_mutations"), least=1, may_be_none=True)
        set_whole(self, ("first_position",), may_be_none=True)
        set_positive(self, ("gpu_hours", "core_hours", "timeout", "trial_timeout"))
        if self.executor not in get_args(Executor):
            known = " or ".join(get_args(Executor))
            raise UserError(f"executor={self.executor!r} is not valid: expected {known}.")
        check_warm_start(self.warm_start, allow_seen=self.allow_seen)
        if self.executor == "inline" and self.workers != 1:
            raise UserError("executor='inline' trains in this process, which is one: leave `workers` out.")
        for word in self.overrides:
            if word.lstrip("+~").partition("=")[0] in ("task", "model"):
                raise UserError(f"The override {word!r} names what `task` and `model` name: leave it out.")
        is_table = self.data is not None and self.fold_column is None
        column, words = with_rounds(self.round_column, self.overrides, is_table=is_table)
        object.__setattr__(self, "round_column", column)
        object.__setattr__(self, "overrides", tuple(words))
        check_data_options(argparse.Namespace(**vars(self)))
        if self.test_fold == ALL_FOLDS:
            raise UserError(f"test_fold={ALL_FOLDS!r} stands for several studies: name one fold for each search.")

    @property
    def hours(self) -> HoursBudget:
        """The hours that the study's trials may use."""
        return HoursBudget(gpu=self.gpu_hours, core=self.core_hours)

    @property
    def words(self) -> list[str]:
        """The overrides for Hydra, task and model included."""
        task = f"task={self.task}" if self.data is None else f"task='{table_name(self.data)}'"
        return [task, f"model={self.model}", *self.overrides]

    @property
    def named(self) -> str | None:
        """The study's name as far as it is known before a table is read and the database asked."""
        return self.study_name or (None if self.data is not None else f"{self.task}-{self.model}")
