"""The words and tables of a report."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from datasets.errors import UserError
from search import report_figures as figures
from search.cost import cost
from search.endings import ENDING, REASON, own_faults
from search.experiment import is_experiment_of
from search.honesty import assess
from search.ledger import readings, readings_by_study
from search.machine import package_versions
from search.page import Markup, code, folded, paragraph, table, warning
from search.predictions import read_predictions
from search.progress import clock
from search.schema import task_in
from search.space import Space
from search.standing import busy_s
from search.study import MANIFEST, OVERRIDES, PROTOCOL, VERSIONS, best_trial, shown_validation, summary
from search.test_metrics import spread
from search.trial import RESULT

_FINDINGS = ("diverged", "constant", "out_of_memory", "timeout")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the sections are written from.

    `export` is None where there is no exported experiment of the study, `export_dir` where it or its ledger would be.
    """

    study: Study
    trials: list[FrozenTrial]
    about: Mapping[str, Any]
    numbers: Mapping[str, Any]
    best: FrozenTrial | None
    runs: Path
    export: Path | None
    export_dir: Path | None
    prog: str

    @classmethod
    def of(cls, study: Study, *, runs: Path, export: Path | None, prog: str) -> "Known":
        """Read the study."""
        trials = study.get_trials(deepcopy=False)
        is_there = export is not None and export.exists() and is_experiment_of(export, study.study_name)
        return cls(
            study=study,
            trials=trials,
            about=study.user_attrs[MANIFEST],
            numbers=summary(study),
            best=best_trial(trials),
            runs=runs,
            export=export if is_there else None,
            export_dir=export and export.parent,
            prog=prog,
        )

    @property
    def where(self) -> str:
        """What stands beside every result: the validation protocol and the data."""
        return f"validation: {shown_validation(self.study)}; data: {self.about['data']}"

    @property
    def units(self) -> str:
        """Those of the target."""
        if "table" in self.about:  # a user's own data, called as its column is
            return str(self.about["table"]["target_column"])
        try:
            return task_in(self.about).units
        except UserError:  # of a user's own table that is not here
            return "units of the target"


def standing(known: Known) -> list[Markup]:
    """What the study is and where it stands."""
    about, numbers, best = known.about, known.numbers, known.best
    blocks = [
        paragraph(
            f"Task {about['task']}, model {about['model']}. {numbers['n_finished']} of {numbers['n_target'] or '?'} "
            f"trials are finished ({numbers['n_complete']} complete, {numbers['n_pruned']} pruned); "
            f"{numbers['n_failed']} failed, {numbers['n_running']} running."
        ),
        paragraph(
            "No trial is complete yet."
            if best is None
            else f"Best: trial {best.number}, validation Spearman {best.value:.4f} ({known.where})."
        ),
    ]
    if known.study.user_attrs.get(PROTOCOL, {}).get("saw_test_sequences"):
        blocks.append(paragraph("The validation was chosen with a look at the test sequences, not at their targets."))
    if "not FLIP" in about["data"]:
        blocks.append(warning(f"{about['data']}: these results cannot be compared with published ones."))
    return blocks


def searched(known: Known) -> list[Markup]:
    """The space, and everything that was the same in all trials."""
    rows = [[name, leaf["type"], _range(leaf), _scale(leaf), _condition(leaf)] for name, leaf in _leaves(known.about)]
    fixed = sorted((path, str(value)) for path, value in known.about["config"].items())
    sampler, pruner = (str(known.about[key]["_target_"]).rpartition(".")[2] for key in ("sampler", "pruner"))
    return [
        table(["searched value", "type", "range", "scale", "only where"], rows)
        if rows
        else paragraph("Nothing: every value was fixed."),
        paragraph(f"Sampler: {sampler}. Pruner: {pruner}. {known.where[:1].upper()}{known.where[1:]}."),
        folded(f"{len(fixed)} fixed values", table(["value", "fixed at"], fixed)),
    ]


def duration(known: Known) -> list[Markup]:
    """From the first trial to the last."""
    starts = [trial.datetime_start for trial in known.trials if trial.datetime_start]
    ends = [trial.datetime_complete for trial in known.trials if trial.datetime_complete]
    if not starts or not ends:
        return [paragraph("No trial has ended yet.")]
    first, last = min(starts), max(ends)
    return [
        paragraph(
            f"From {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S}; trials ran during {_time(known)} of it."
        )
    ]


def best(known: Known) -> list[Markup]:
    """The best trial: its value, how far that can be believed, and its hyperparameters."""
    if known.best is None:
        return [paragraph("No trial is complete yet.")]
    result = known.best.user_attrs.get(RESULT)
    rows = [(name, _shown(value)) for name, value in sorted(Space.values(known.best.params).items())]
    sentences = [f"Trial {known.best.number}: validation Spearman {known.best.value:.4f} ({known.where})."]
    if result is not None:
        epochs = ", ".join(str(epoch) for epoch in result["best_epochs"])
        sentences.append(
            f"{result['n_parameters']:,} parameters; {len(result['values'])} fold(s), kept from epoch(s) {epochs}; "
            f"{result['seconds']:.1f} s on {result['device']} with {result['threads']} thread(s)."
        )
    assessment = assess(known.study, known.runs / known.study.study_name)
    return [
        paragraph(" ".join(sentences)),
        *(paragraph(sentence) for sentence in (assessment.sentences if assessment else ())),
        table(["hyperparameter", "value"], rows) if rows else paragraph("Nothing was searched."),
    ]


def about_curves(known: Known) -> Markup:
    """What the lines are."""
    return paragraph(
        "Validation Spearman after each epoch of each fold: the best trial in colour, the others in grey, up to where "
        "they were stopped."
    )


def predictions(known: Known) -> list[Markup]:
    """The kept checkpoints' predictions of the best trial."""
    if known.best is None:
        return [paragraph("No trial is complete yet.")]
    folder = known.runs / known.study.study_name
    found = read_predictions(folder, known.best.number)
    if found is None:
        return [
            paragraph(
                f"The predictions of trial {known.best.number} are not below {folder}: they stand in the runs "
                "directory of the machine that trained it (name it with --runs-dir), or the trial is older than their "
                "being kept."
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


def failures(known: Known) -> list[Markup]:
    """Failed trials, and findings about configurations, each with its reason."""
    faults = own_faults(known.trials)
    rows = []
    for trial in known.trials:
        ending = str(trial.user_attrs.get(ENDING, "lost"))
        is_fault = trial.number in faults
        if trial.state != TrialState.FAIL and ending not in _FINDINGS:
            continue
        then = "" if trial.state != TrialState.FAIL else "given up" if is_fault else "run again"
        counted = "finished (pruned)" if trial.state == TrialState.PRUNED else "failed"
        reason = str(trial.user_attrs.get(REASON, "its process or its machine was lost"))
        rows.append([str(trial.number), ending.replace("_", " "), counted, then, reason.strip()])
    if not rows:
        return [paragraph("None.")]
    return [table(["trial", "ending", "counts as", "then", "reason"], rows)]


def costs(known: Known) -> list[Markup]:
    """GPU- and core-seconds."""
    spent = cost(known.trials)
    lost = f" Trials without a result took {spent.lost_s:,.0f} s more." if spent.lost_s else ""
    blocks = [paragraph(f"All trials: {spent}.{lost} Core-seconds are seconds times threads.")]
    if known.best is not None:
        blocks.append(paragraph(f"The best trial alone: {cost([known.best])}."))
    return blocks


def test_set(known: Known) -> list[Markup]:
    """How often the task's test set was read, and by whom."""
    try:
        found = readings(known.export_dir) if known.export_dir is not None else ()
    except UserError as error:  # a broken ledger is no reason to do without a report
        return [warning(str(error))]
    counts = readings_by_study(found, known.about["task"])
    by = "".join(f"; {n} by {name}" for name, n in sorted(counts.items()))
    blocks = [paragraph(f"The test set of {known.about['task']} was read {sum(counts.values())} time(s){by}.")]
    own = [reading for reading in found if reading.study == known.study.study_name]
    rows = [
        [
            reading.when,
            str(reading.trial),
            way.replace("_and_", "+"),
            str(len(reading.seeds)),
            _test(values["per_seed"]["spearman"]),
            f"{values['ensemble']['spearman']:.4f}",
            reading.data,
        ]
        for reading in own
        for way, values in reading.values.items()
    ]
    headers = ["when (UTC)", "trial", "trained on", "seeds", "test Spearman", "of the seeds' mean prediction", "data"]
    return [*blocks, table(headers, rows)] if rows else blocks


def experiment(known: Known) -> list[Markup]:
    """The exported file, whole."""
    if known.export is None:
        return [paragraph("No exported experiment of this study was found (--export-dir).")]
    text = known.export.read_text(encoding="utf-8")
    return [paragraph(str(known.export)), folded("Show it", code(text))]


def commands(known: Known) -> str:
    """What to type."""
    name, lines = known.study.study_name, []
    words = known.study.user_attrs.get(OVERRIDES)
    if words is not None:
        about = known.about
        what = ["--task", about["task"]]
        if table_of_own := about.get("table"):
            lines.append(f"# FILE: the table that the task {about['task']} was read from")
            what = ["--data", "FILE", *(["--split", table_of_own["split"]] if table_of_own["split"] else [])]
        given = [*what, "--model", about["model"], "--n-trials", str(known.numbers["n_target"])]
        own_name = [] if name == f"{about['task']}-{about['model']}" else ["--study-name", name]
        lines += ["# the search", f"{known.prog} {shlex.join([*given, *own_name, *words])}"]
    if known.export is not None:
        file = shlex.quote(str(known.export))
        lines += ["# the best trial, trained again and compared", f"{known.prog} verify {file}"]
    lines += ["# this report", f"{known.prog} report --study-name {shlex.quote(name)}"]
    return "\n".join(lines)


def versions(known: Known) -> Markup:
    """Those that the study began with."""
    return table(["package", "version"], sorted(known.study.user_attrs.get(VERSIONS, package_versions()).items()))


def _time(known: Known) -> str:
    seconds = busy_s(known.trials)
    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(seconds)} ({'h:' if seconds >= 3600 else ''}min:s)"


def _leaves(about: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(about["space"].items())


def _range(leaf: Mapping[str, Any]) -> str:
    if "choices" in leaf:
        return ", ".join(map(str, leaf["choices"]))
    return f"{leaf.get('low')} to {leaf.get('high')}"


def _scale(leaf: Mapping[str, Any]) -> str:
    return "logarithmic" if leaf.get("log") else f"steps of {leaf['step']}" if leaf.get("step") else ""


def _condition(leaf: Mapping[str, Any]) -> str:
    return "; ".join(f"{path} = {value}" for path, value in (leaf.get("when") or {}).items())


def _test(seeds: Sequence[float]) -> str:
    found = spread(seeds)
    return f"{found.mean:.4f}" + ("" if found.std is None else f" ± {found.std:.4f}")


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
