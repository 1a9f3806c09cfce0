"""What people and programs get to see of a confirmation."""

from dataclasses import asdict
from typing import Any

from search.experiments.confirm.candidates import TrainedOn
from search.experiments.confirm.results import Confirmation, Measured, Scores
from search.experiments.files import ledger_file
from search.experiments.members import Member
from search.experiments.readings import Count
from search.machine.tables import in_columns
from search.stats.metrics import Spread
from search.study.warm_start.choice import seen_sentences

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
    `seen` says of a study that began with others' configurations where these were chosen on test sequences.
    Of an ensemble `members` are its own, and the numbers are those of all together.
    `coverage` is how many test sequences lie in the intervals that `predict` gives, `by_mutations` too; null where the
    experiment holds nothing that intervals are made of.
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
        "coverage": None if confirmation.coverage is None else asdict(confirmation.coverage),
        "ledger": str(ledger_file(confirmation.path)),
        **({"members": [_member(one) for one in experiment.ensemble.members]} if experiment.ensemble else {}),
        **({"seen": seen} if (seen := _seen(confirmation)) else {}),
        "n_readings": count.of(experiment.provenance.study),
        "n_readings_in_all": count.n,
        "readings_missing": count.sentences,
    }
    if len(confirmation.measured) > 1:
        found["top"] = [_candidate(one, confirmation.seeds) for one in confirmation.measured]
    return found


def _seen(confirmation: Confirmation) -> list[str]:
    """What has to be said of test sequences that the choice of the first configurations has seen."""
    parts = confirmation.experiment.parts
    return list(dict.fromkeys(one for part in parts for one in seen_sentences(part.provenance.warm_start)))


def _member(member: Member) -> dict[str, Any]:
    own = member.experiment.provenance
    return {"study": own.study, "trial": own.trial, "weight": member.share.weight}


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
    before, ensemble = confirmation.experiment.provenance, confirmation.experiment.ensemble
    seeds = confirmation.seeds
    lines = [
        f"{confirmation.path.stem}: {confirmation.n_test:,} test sequences of {confirmation.question.words} "
        f"({confirmation.label}), {len(seeds)} seed(s) from {seeds[0]}"
    ]
    for one in confirmation.measured:
        about = one.candidate
        if ensemble is None:
            lines.append(f"Trial {about.trial}, validation Spearman {about.value:.4f}, {about.how_long}:")
        else:
            members = ", ".join(f"{member.words} ({member.share.weight:.3f})" for member in ensemble.members)
            lines.append(f"Ensemble, out-of-bag validation Spearman {about.value:.4f}, of {members}:")
        lines += [_table(one.scores[way], way, len(seeds)) for way in _WAYS]
    lines.append(_about_seeds(confirmation))
    if confirmation.coverage is not None:
        lines.append(confirmation.coverage.sentence)
        rows = [[one.mutations, f"{one.n:,}", f"{100 * one.share:.1f} %"] for one in confirmation.coverage.by_mutations]
        lines += [in_columns([["mutations", "test sequences", "in their intervals"], *rows])] if rows else []
    lines += _seen(confirmation)
    if len(confirmation.measured) > 1:
        lines.append("To choose among these trials by what the test set says would make its numbers worthless.")
    lines.append(
        f"This test set was read {count.words} so far, {count.of(before.study)} of them by study {before.study}: "
        f"{ledger_file(confirmation.path)}"
    )
    print("\n".join([*lines, *count.sentences]), flush=True)


def _table(scores: Scores, way: TrainedOn, n_seeds: int) -> str:
    """A row for each metric: its mean, its two uncertainties and, where seeds differ, that of their ensemble."""
    over_seeds, over_sequences = "over seeds: ± std (95 % interval)", "over test sequences: 95 % interval"
    rows = [[f"trained on {_WAYS[way]}", "mean", over_seeds, over_sequences, f"ensemble of {n_seeds}"]]
    for name, words in _NAMES.items():
        found, around = scores.test[name], scores.over_sequences[name]
        sequences, ensemble = f"{around.low:.4f} to {around.high:.4f}", f"{scores.ensemble[name]:.4f}"
        rows.append([words, f"{found.mean:.4f}", _over_seeds(found), sequences, ensemble])
    if not scores.depends_on_seed:
        rows = [[metric, mean, sequences] for metric, mean, _, sequences, _ in rows]
    return in_columns(rows)


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
