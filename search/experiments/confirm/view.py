"""What people and programs get to see of a confirmation."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from search.experiments.confirm.candidates import TrainedOn
from search.experiments.confirm.results import Confirmation, Measured, Scores
from search.experiments.files import ledger_file
from search.experiments.readings import Count, sentences_of
from search.stats.spread import Spread

_NAMES = {
    "spearman": "Spearman",
    "mse": "MSE",
    "ndcg": "NDCG",
    "recall_top_1": "recall of top 1 %",
    "recall_top_10": "recall of top 10 %",
}
_WAYS: dict[TrainedOn, str] = {"train_and_validation": "train+validation", "train": "train alone"}


def as_json(confirmation: Confirmation, count: Count) -> dict[str, Any]:
    """What `confirm --json` prints of an experiment: plain values.

    `test` (over the seeds: `std`, `low` and `high` are null of one seed, and where seeds agree), `over_sequences` (over
    the test sequences) and `ensemble` are those of training on train and validation; `train` holds the same of train
    alone.
    `n_readings` are those of the test set by the experiment's study, `n_readings_in_all` by all studies, as far as they
    are known: `readings_missing` says what is not.
    With `--top-k`, `top` has the same keys for each of the trials, the experiment's own first.
    """
    own, experiment = confirmation.measured[0], confirmation.experiment
    found = {
        "experiment": confirmation.path.stem,
        "study": experiment.provenance.study,
        "task": experiment.config.task,
        "target": confirmation.question.target,
        "split": confirmation.question.split,
        "model": confirmation.model,
        "data": confirmation.label,
        "official": confirmation.official,
        "n_test": confirmation.n_test,
        "seeds": list(confirmation.seeds),
        **_candidate(own, confirmation.seeds),
        "ledger": str(ledger_file(confirmation.path)),
        "n_readings": count.of(experiment.provenance.study),
        "n_readings_in_all": count.n,
        "readings_missing": sentences_of([count]),
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
        "over_sequences": {name: asdict(one) for name, one in scores.over_sequences.items()},
        "ensemble": scores.ensemble,
        "per_seed": [{"seed": seed, **values} for seed, values in zip(seeds, scores.per_seed, strict=True)],
    }


def print_confirmation(confirmation: Confirmation, count: Count) -> None:
    """Print a confirmation as a table."""
    # Without markup: names of studies may hold brackets.
    console = Console(highlight=False, soft_wrap=True, markup=False, width=1000)
    before, seeds = confirmation.experiment.provenance, confirmation.seeds
    console.print(
        f"{confirmation.path.stem}: {confirmation.n_test:,} test sequences of {confirmation.question.words} "
        f"({confirmation.label}), {len(seeds)} seed(s) from {seeds[0]}"
    )
    for one in confirmation.measured:
        trial = one.candidate
        console.print(f"Trial {trial.trial}, validation Spearman {trial.value:.4f}, {trial.how_long}:")
        for way in _WAYS:
            console.print(_table(one.scores[way], way, len(seeds)))
    console.print(_about_seeds(confirmation))
    if len(confirmation.measured) > 1:
        console.print("To choose among these trials by what the test set says would make its numbers worthless.")
    console.print(
        f"This test set was read {count.words} so far, {count.of(before.study)} of them by study {before.study}: "
        f"{ledger_file(confirmation.path)}"
    )
    for sentence in sentences_of([count]):
        console.print(sentence)


def _table(scores: Scores, way: TrainedOn, n_seeds: int) -> Table:
    """A row for each metric: its mean, its two uncertainties and, where seeds differ, that of their ensemble."""
    table = Table(f"trained on {_WAYS[way]}", "mean", box=None, pad_edge=False)
    if scores.depends_on_seed:
        table.add_column("over seeds: ± std (95 % interval)")
    table.add_column("over test sequences: 95 % interval")
    if scores.depends_on_seed:
        table.add_column(f"ensemble of {n_seeds}")
    for name, words in _NAMES.items():
        found, around = scores.test[name], scores.over_sequences[name]
        cells = [words, f"{found.mean:.4f}"]
        if scores.depends_on_seed:
            cells.append(_over_seeds(found))
        cells.append(f"{around.low:.4f} to {around.high:.4f}")
        if scores.depends_on_seed:
            cells.append(f"{scores.ensemble[name]:.4f}")
        table.add_row(*cells)
    return table


def _over_seeds(found: Spread) -> str:
    """`± 0.0031 (0.5874 to 0.5950)`: standard deviation and interval; a metric may agree where another does not."""
    return "the same" if found.std is None else f"± {found.std:.4f} ({found.low:.4f} to {found.high:.4f})"


def _about_seeds(confirmation: Confirmation) -> str:
    """What the seeds say of the numbers."""
    n_seeds = len(confirmation.seeds)
    if n_seeds == 1:
        return "With one seed the differences between seeds are not known; a model that is solved exactly has none."
    if any(scores.depends_on_seed for one in confirmation.measured for scores in one.scores.values()):
        return (
            "Over seeds: how far training with other seeds would move the mean. Over test sequences: how far other "
            "test sequences would."
        )
    return f"The {n_seeds} seeds give the same numbers, so the test sequences are their only uncertainty."
