"""What a report says of the best trial, and how it and the search are repeated."""

import shlex
from collections.abc import Sequence

from search.experiments.readings import sentences_of
from search.options.table_options import table_words
from search.reporting import figures
from search.reporting.facts import Known
from search.reporting.html import Markup, code, folded, paragraph, table, warning
from search.space.space import Space
from search.stats.intervals import ConfidenceInterval
from search.stats.metrics import kept_interval
from search.stats.spread import spread
from search.storage.attributes import OVERRIDES, RESULT
from search.study.activity import is_solved_at_once
from search.study.names import default_name
from search.training.predictions import read_predictions


def best(known: Known) -> list[Markup]:
    """The best trial: its value, how far that can be believed, and its hyperparameters."""
    if known.best is None:
        return [paragraph("No trial is complete yet.")]
    result = known.best.user_attrs.get(RESULT)
    rows = [(name, _shown(value)) for name, value in sorted(Space.values(known.best.params).items())]
    sentences = [f"Trial {known.best.number}: validation Spearman {known.best.value:.4f} ({known.where})."]
    if result is not None:
        epochs = ", ".join(str(epoch) for epoch in result["best_epochs"])
        kept = "solved exactly" if is_solved_at_once(known.about) else f"kept from epoch(s) {epochs}"
        sentences.append(
            f"{result['n_parameters']:,} parameters; {len(result['values'])} fold(s), {kept}; "
            f"{result['seconds']:.1f} s on {result['device']} with {result['threads']} thread(s)."
        )
    return [
        paragraph(" ".join(sentences)),
        *(paragraph(sentence) for sentence in (known.assessment.sentences if known.assessment else ())),
        table(["hyperparameter", "value"], rows) if rows else paragraph("Nothing was searched."),
    ]


def curves(known: Known) -> list[Markup]:
    """Learning curves, of models that learn step by step."""
    if is_solved_at_once(known.about):
        return [paragraph("There are none: each fold's model is solved at once.")]
    return [
        paragraph(
            "Validation Spearman after each epoch of each fold: the best trial in colour, the others in grey, up to "
            "where they were stopped."
        ),
        *figures.learning_curves(known.trials),
    ]


def predictions(known: Known) -> list[Markup]:
    """The kept checkpoints' predictions of the best trial."""
    if known.best is None:
        return [paragraph("No trial is complete yet.")]
    folder = known.runs / known.study.study_name
    found = read_predictions(folder, known.best.number)
    if found is None:
        return [
            paragraph(
                f"There are no predictions of trial {known.best.number} below {folder}. They are in the runs directory "
                "of the machine that trained it (name that with --runs-dir), unless the trial is from before "
                "predictions were kept."
            )
        ]
    n_shown, n = figures.n_shown(found), len(found.row)
    shown = f"{n:,} validation sequences" + (f", of which {n_shown:,} are shown" if n_shown < n else "")
    fit, residuals = figures.measured_against_predicted(found, known.units)
    return [
        paragraph(f"Trial {known.best.number}, {shown}, each predicted by a model that was not trained on it."),
        fit,
        paragraph("Residuals: what lies above the line was predicted too high."),
        residuals,
    ]


def test_set(known: Known) -> list[Markup]:
    """How often the test set of the study's question was read, and by whom."""
    found = known.readings
    by = "".join(f"; {n} by {name}" for name, n in sorted(found.by_study.items()))
    blocks = [paragraph(f"The test set of {known.asked.words} was read {found.words}{by}.")]
    blocks += [warning(sentence) for sentence in sentences_of([found])]
    own = [reading for reading in known.in_ledgers if reading.study == known.study.study_name]
    rows = [
        [
            reading.when,
            str(reading.trial),
            way.replace("_and_", "+"),
            str(len(reading.seeds)),
            _test(values["per_seed"]["spearman"]),
            _around(kept_interval(values)),
            f"{values['ensemble']['spearman']:.4f}",
            reading.data,
        ]
        for reading in own
        for way, values in reading.values.items()
    ]
    headers = ["when (UTC)", "trial", "trained on", "seeds", "test Spearman: mean ± std over seeds"]
    headers += ["95 % interval over test sequences", "of the seeds' mean prediction", "data"]
    return [*blocks, table(headers, rows)] if rows else blocks


def experiment(known: Known) -> list[Markup]:
    """The exported file, whole."""
    if known.export is None:
        return [paragraph("No exported experiment of this study was found (--export-dir).")]
    text = known.export.read_text(encoding="utf-8")
    return [paragraph(str(known.export)), folded("Show it", code(text))]


def commands(known: Known) -> str:
    """What to type."""
    name, propose = known.study.study_name, known.proposals.command
    lines = []
    words = known.study.user_attrs.get(OVERRIDES)
    if words is not None:
        about = known.about
        what = ["--task", about["task"]]
        if own := about.get("table"):
            file = f"{about['task']}-wild-type.fasta"
            what = ["--data", about["data"], *table_words(own, wild_type=file)]
            if own["wild_type"] is not None:
                fasta = f"printf '>wild type\\n%s\\n' {shlex.quote(own['wild_type'])}"
                lines += ["# the wild type", f"{fasta} > {shlex.quote(file)}"]
        given = [*what, "--model", about["model"], "--n-trials", str(known.now.n_target)]
        is_default = name == default_name(about["task"], about["model"], about.get("table"), about["data"])
        own_name = [] if is_default else ["--study-name", name]
        lines += ["# the search", propose("search", *given, *own_name, *words)]
    if known.export is not None:
        lines += ["# the best trial, trained again and compared", propose("verify", known.export)]
        lines += ["# new seeds on the test set", propose("confirm", known.export, "--seeds", "5")]
    lines += ["# this report", propose("report", "--study-name", name)]
    if known.proposals.has_password:
        lines.insert(0, "# the database's password stands in no report: set $PGPASSWORD, or write it into ~/.pgpass")
    return "\n".join(lines)


def _test(seeds: Sequence[float]) -> str:
    found = spread(seeds)
    return f"{found.mean:.4f}" + ("" if found.std is None else f" ± {found.std:.4f}")


def _around(found: ConfidenceInterval | None) -> str:
    return "-" if found is None else f"{found.low:.4f} to {found.high:.4f}"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
