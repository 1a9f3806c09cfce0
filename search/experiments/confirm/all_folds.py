"""A benchmark by folds: one experiment for each fold, which its search was sealed from, and the mean over the folds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from datasets.tables.parts import in_order
from datasets.tables.table import Table
from datasets.task import Task
from datasets.tasks.own_table import TableSource, table_hash
from search.config.nested import difference, digest
from search.experiments.confirm.results import Confirmation, Scores
from search.experiments.confirm.view import as_json
from search.experiments.experiment import Experiment
from search.experiments.readings import Count
from search.machine.tables import in_columns
from search.stats.metrics import METRICS

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit

_MOST_SHOWN = 10


def check_all_folds(paths: Sequence[Path], experiments: Sequence[Experiment], tasks: "Sequence[Task]") -> None:
    """Refuse experiments of which several are sealed from one fold, or that are of different questions.

    Raises:
        UserError: They are; the sentence names two of them.
    """
    first: tuple[Path, dict[str, Any], str] | None = None
    of_fold: dict[str, Path] = {}
    for path, experiment, task in zip(paths, experiments, tasks, strict=True):
        table, source = _table(path, experiment), task.source
        assert isinstance(source, TableSource), "it has a table"
        asked = _asked(table)
        own = (path, asked, table_hash(source.path))
        first = first or own
        if first[1] != asked:
            raise UserError(
                f"{path} is not of the same question as {first[0]} ({'; '.join(difference(first[1], asked)[:3])}): "
                "--all-folds takes the experiments of one table, read in one way."
            )
        if first[2] != own[2]:
            raise UserError(
                f"{path} is of another table than {first[0]}, as their contents differ: --all-folds takes the "
                "experiments of one table."
            )
        assert table.test_fold is not None
        if (other := of_fold.setdefault(table.test_fold, path)) is not path:
            more = "is given twice" if other == path else f"is sealed from fold {table.test_fold} as {other} is"
            raise UserError(
                f"{path} {more}: each fold needs one experiment of a search that was sealed from it, and this one has "
                "seen the others."
            )


def check_complete(experiments: Sequence[Experiment], split: "PreparedSplit") -> None:
    """Refuse experiments of one benchmark that leave folds out; `split` is the prepared data of one of them.

    Raises:
        UserError: They do.
    """
    tables = [experiment.config.table for experiment in experiments if experiment.config.table is not None]
    known = {table.test_fold for table in tables}
    missing = [name for name in split.fold_names if name not in known]
    if missing:
        shown = ", ".join(missing[:_MOST_SHOWN]) + (", ..." if len(missing) > _MOST_SHOWN else "")
        raise UserError(
            f"No experiment is given for fold {shown} of {tables[0].fold_column!r}, and those of other folds have seen "
            "its rows: search one that is sealed from it with --test-fold, or all of them with --test-fold all."
        )


def folds_of(task: Task, split: "PreparedSplit") -> dict[str, Any]:
    """What a reading notes of the fold that is the test set of a task, for the mean over folds; nothing without one."""
    if not isinstance(task.source, TableSource) or task.source.table.test_fold is None:
        return {}
    table = task.source.table
    return {
        "fold_column": table.fold_column,
        "fold": table.test_fold,
        "fold_names": list(split.fold_names),
        "table_hash": table_hash(task.source.path),
        "settings_hash": digest(_asked(table)),
    }


def _asked(table: Table) -> dict[str, Any]:
    """How a table is read, which is the same for all of its folds."""
    return {name: value for name, value in table.settings.items() if name != "test_fold"}


def _table(path: Path, experiment: Experiment) -> Table:
    table = experiment.config.table
    if table is None or table.test_fold is None:
        raise UserError(
            f"{path} was not searched with a fold for test: --all-folds takes the experiments of --test-fold all."
        )
    return table


@dataclass(frozen=True, kw_only=True)
class AllFolds:
    """What the experiments of all folds came to: each by the name of its fold, in their order."""

    found: tuple[tuple[str, Confirmation, Count], ...]

    @classmethod
    def of(cls, found: Sequence[tuple[Confirmation, Count]]) -> "AllFolds":
        """From the confirmations of experiments that `check_all_folds` and `check_complete` have passed."""
        named = {_table(one.path, one.experiment).test_fold or "": (one, count) for one, count in found}
        return cls(found=tuple((name, *named[name]) for name in in_order(named)))

    @property
    def json(self) -> dict[str, Any]:
        """What `confirm --all-folds --json` prints: plain values.

        `mean` has the mean of each metric over the folds, each fold's being its mean over the seeds, and `std` its
        standard deviation between the folds; `ensemble` is the mean over the folds of the seeds' mean prediction.
        `folds` holds of each fold what `confirm --json` prints, and its name.
        """
        first = self.found[0][1]
        return {
            "task": first.experiment.config.task,
            "target": first.question.target,
            "fold_column": _table(first.path, first.experiment).fold_column,
            "n_folds": len(self.found),
            "n_test": sum(one.n_test for _, one, _ in self.found),
            "mean": {name: statistics.fmean(self._values(name)) for name in METRICS},
            "std": {name: statistics.stdev(self._values(name)) for name in METRICS},
            "ensemble": {
                name: statistics.fmean(_own(one).ensemble[name] for _, one, _ in self.found) for name in METRICS
            },
            "folds": [{"fold": name, **as_json(one, count)} for name, one, count in self.found],
        }

    def print(self) -> None:
        """Print a row for each fold, and the mean."""
        first = self.found[0][1]
        table = _table(first.path, first.experiment)
        models = {one.model for _, one, _ in self.found}
        rows = [
            ["fold", "experiment", "test sequences", "test Spearman", "over test sequences", "ensemble", "validation"]
        ]
        for name, one, _ in self.found:
            scores = _own(one)
            around = scores.over_sequences["spearman"]
            rows.append(
                [
                    name,
                    one.path.stem,
                    f"{one.n_test:,}",
                    f"{scores.test['spearman'].mean:.4f}",
                    f"{around.low:.4f} to {around.high:.4f}",
                    f"{scores.ensemble['spearman']:.4f}",
                    f"{one.measured[0].candidate.value:.4f}",
                ]
            )
        values = self._values("spearman")
        n_seeds = len(first.seeds)
        print(
            f"\nAll folds of {table.fold_column!r}: {first.question.task}, target {table.target_column} "
            f"({first.label}), {', '.join(sorted(models))}, {n_seeds} seed{'s' * (n_seeds > 1)}",
            in_columns(rows),
            f"Mean test Spearman over {len(values)} folds: {statistics.fmean(values):.4f} (± "
            f"{statistics.stdev(values):.4f} between folds)",
            "Each fold was tested by an experiment whose search was sealed from it.",
            sep="\n",
            flush=True,
        )

    def _values(self, metric: str) -> list[float]:
        return [_own(one).test[metric].mean for _, one, _ in self.found]


def _own(confirmation: Confirmation) -> Scores:
    return confirmation.measured[0].scores["train_and_validation"]
