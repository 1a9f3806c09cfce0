"""What people and programs get to see of a confirmation."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from datasets.errors import UserError
from search.confirmable import TrainedOn
from search.confirmation import Confirmation, Measured, Scores
from search.experiment_files import ledger_file
from search.ledger import read, readings, readings_by_study
from search.spread import Spread

_NAMES = {
    "spearman": "Spearman",
    "mse": "MSE",
    "ndcg": "NDCG",
    "recall_top_1": "recall of top 1 %",
    "recall_top_10": "recall of top 10 %",
}
_WAYS: dict[TrainedOn, str] = {"train_and_validation": "train+validation", "train": "train alone"}


def as_json(confirmation: Confirmation) -> dict[str, Any]:
    """What `confirm --json` prints of an experiment: plain values.

    `test` and `ensemble` are those of training on train and validation; `train` holds the same of train alone.
    With `--top-k`, `top` has the same keys for each of the trials, the experiment's own first.
    """
    own, experiment = confirmation.measured[0], confirmation.experiment
    found = {
        "experiment": confirmation.path.stem,
        "study": experiment.provenance.study,
        "task": experiment.config.task,
        "model": confirmation.model,
        "data": confirmation.label,
        "official": confirmation.official,
        "n_test": confirmation.n_test,
        "seeds": list(confirmation.seeds),
        **_candidate(own, confirmation.seeds),
        "ledger": str(ledger_file(confirmation.path)),
        "n_readings": len(read(ledger_file(confirmation.path))),
    }
    if len(confirmation.measured) > 1:
        found["top"] = [_candidate(one, confirmation.seeds) for one in confirmation.measured]
    return found


def _candidate(measured: Measured, seeds: tuple[int, ...]) -> dict[str, Any]:
    whole, alone = measured.scores["train_and_validation"], measured.scores["train"]
    return {
        "trial": measured.candidate.trial,
        "validation": measured.candidate.value,
        "n_epochs": measured.candidate.n_epochs,
        **_scores(whole, seeds),
        "train": _scores(alone, seeds),
    }


def _scores(scores: Scores, seeds: tuple[int, ...]) -> dict[str, Any]:
    return {
        "test": {name: asdict(one) for name, one in scores.test.items()},
        "ensemble": scores.ensemble,
        "per_seed": [{"seed": seed, **values} for seed, values in zip(seeds, scores.per_seed, strict=True)],
    }


def show(confirmation: Confirmation) -> None:
    """Print a confirmation as a table."""
    # Without markup: names of studies may hold brackets.
    console = Console(highlight=False, soft_wrap=True, markup=False, width=1000)
    before, seeds = confirmation.experiment.provenance, confirmation.seeds
    console.print(
        f"{confirmation.path.stem}: {confirmation.n_test:,} test sequences of {confirmation.experiment.config.task} "
        f"({confirmation.label}), {len(seeds)} seed(s) from {seeds[0]}"
    )
    for one in confirmation.measured:
        console.print(_headline(one))
        console.print(_table(one, len(seeds)))
    if len(confirmation.measured) > 1:
        console.print("To choose among these trials by what the test set says would make its numbers worthless.")
    ledger = ledger_file(confirmation.path)
    try:
        counts = readings_by_study(readings(ledger.parent), confirmation.experiment.config.task)
    except UserError as error:  # another experiment's ledger: this one's was read to be written
        console.print(f"This reading of the test set is in {ledger}; how often it was read is not known: {error}")
        return
    console.print(
        f"This test set was read {sum(counts.values())} time(s) so far, {counts.get(before.study, 0)} of them by study "
        f"{before.study}: {ledger}"
    )


def _headline(measured: Measured) -> str:
    candidate = measured.candidate
    return (
        f"Trial {candidate.trial}, validation Spearman {candidate.value:.4f}, "
        f"trained for {candidate.n_epochs} epoch(s):"
    )


def _table(measured: Measured, n_seeds: int) -> Table:
    """A row for each metric; for each way to train the seeds' spread and, of several, their ensemble."""
    table = Table("test", box=None, pad_edge=False)
    for way in _WAYS.values():
        table.add_column(f"{way}: mean ± std (95 % interval)")
        if n_seeds > 1:
            table.add_column(f"ensemble of {n_seeds}")
    for name, words in _NAMES.items():
        cells = [words]
        for way in _WAYS:
            scores = measured.scores[way]
            cells.append(_spread(scores.test[name]))
            if n_seeds > 1:
                cells.append(f"{scores.ensemble[name]:.4f}")
        table.add_row(*cells)
    return table


def _spread(found: Spread) -> str:
    """`0.5912 ± 0.0031 (0.5874 to 0.5950)`: mean, standard deviation and interval."""
    if found.std is None:
        return f"{found.mean:.4f}"
    return f"{found.mean:.4f} ± {found.std:.4f} ({found.low:.4f} to {found.high:.4f})"
