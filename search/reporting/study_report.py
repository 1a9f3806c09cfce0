"""The report of a study: one HTML file that says what was searched, what came of it, and how to repeat it.

Its words and their order stand in `templates/study.html`; here is what they are filled with.
"""

import copy
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from datasets.common.errors import UserError
from datasets.common.paths import Places
from search.config.run_config import task_in
from search.experiments.confirm.coverage import kept_coverage
from search.experiments.experiment import load_experiment
from search.experiments.exports import find_export
from search.experiments.ledger import Reading
from search.experiments.readings import find_readings
from search.machine.environment import package_versions
from search.options.table_options import option_words, table_words
from search.reporting import figures
from search.reporting.html import page
from search.reporting.positions import find_positions
from search.reporting.proposals import Proposals
from search.reporting.report_map import mutation_blocks
from search.space.space import Space
from search.stats.metrics import kept_interval, spread
from search.storage.attributes import OVERRIDES, PROTOCOL, REASON, RESULT, VERSIONS
from search.storage.database import Database
from search.study.activity import busy_s, cost, is_solved_at_once
from search.study.assessment import Assessment, assess
from search.study.config import EPOCH_SETTINGS
from search.study.endings import ending_of, own_faults
from search.study.names import default_name, property_name
from search.study.run_names import CACHE
from search.study.snapshot import StudySnapshot, snapshot
from search.study.study import shown_validation
from search.training.precision.chosen import chosen_precision
from search.training.predictions import read_predictions
from search.workers.display import clock, shown

_NO_TABLE = {"wild_type": None, "split_seed": 0}
_FILES = {"file": ("zero_shot_file", "FILE-OF-SCORES"), "alignment": ("alignment", "ALIGNMENT")}
"""Of sources of scores the option, and what stands for a file that the study has no name of."""


def make_report(
    study: Study,
    *,
    runs: Path,
    export: Path | None,
    proposals: Proposals,
    database: Database | None = None,
    assessment: Assessment | None = None,
    split: Path | None = None,
    has_map: bool = False,
) -> str:
    """The page, as text.

    Args:
        study: The study, with its manifest.
        runs: The runs directory, below which predictions are found.
        export: Where its experiment would stand; None if it was not exported.
        proposals: How the commands in it are written.
        database: That of the study, whose other studies may have read its test set; None: they are not asked.
        assessment: What its best value is worth, where that is known already.
        split: Its prepared training and validation rows, by which measured mutants are marked; None: none is.
        has_map: Whether it shows the effect of every single mutation, which takes a child process and up to a minute.
    """
    study = snapshot(study, study.get_trials(deepcopy=False))
    now, folder = StudySnapshot.of(study), runs / study.study_name
    about, trials, best, asked = now.about, now.trials, now.best, now.asked
    assert asked is not None, "it has a manifest"
    missing = () if database else ("The other studies of the database were not asked.",)
    known = find_readings(export and export.parent, database, loaded=[study], missing=missing)
    export = export and find_export(export, study)
    is_exact = is_solved_at_once(about)
    unused = EPOCH_SETTINGS if is_exact else ()
    starts = [trial.datetime_start for trial in trials if trial.datetime_start]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    places = Places(weights_dir=None, cache_dir=(runs / CACHE).absolute())
    return page(
        "study.html",
        f"Study {now.name}",
        now=now,
        asked=asked,
        where=f"validation: {shown_validation(now.attributes)}; data: {about['data']}",
        saw_test_sequences=now.attributes.get(PROTOCOL, {}).get("saw_test_sequences"),
        leaves=[_leaf(name, leaf) for name, leaf in sorted(about["space"].items())],
        sampler=_class_name(about["sampler"]),
        pruner=_class_name(about["pruner"]),
        chosen=chosen_precision(about),
        fixed=sorted((path, str(value)) for path, value in about["config"].items() if path not in unused),
        span=[f"{time:%Y-%m-%d %H:%M:%S}" for time in (min(starts), max(ends))] if starts and ends else None,
        busy=_busy(trials),
        is_exact=is_exact,
        result=best and best.user_attrs.get(RESULT),
        assessment=assessment or assess(study, folder),
        params=[(name, shown(value)) for name, value in sorted(Space.values(best.params).items())] if best else [],
        positions=find_positions(trials, about, folder, export),
        figures=figures,
        bare=snapshot(study, [_bare(trial) for trial in trials]),
        folder=folder,
        predictions=best and read_predictions(folder, best.number),
        units=_units(about),
        has_map=has_map,
        mutations=mutation_blocks(export, split, places, proposals) if export and has_map else None,
        failures=_failures(trials),
        count=known.count(asked),
        readings=[
            row
            for reading in known.in_ledgers
            if reading.question.is_same(asked) and reading.study == now.name
            for row in _reading(reading)
        ],
        cost=cost(trials),
        cost_of_best=best and cost([best]),
        export=export,
        commands=_commands(now, export, proposals),
        versions=sorted(now.attributes.get(VERSIONS, package_versions()).items()),
    )


def _bare(trial: FrozenTrial) -> FrozenTrial:
    """Without user attributes: Optuna writes them, whole results, into its figures."""
    bare = copy.copy(trial)
    bare.user_attrs = {}
    return bare


def _units(about: Mapping[str, Any]) -> str:
    """Those of the target."""
    if "table" in about:  # a user's own data, called as its column is
        return str(about["table"]["target_column"])
    try:
        return task_in(about).units
    except UserError:  # of a user's own table that is not here
        return "units of the target"


def _leaf(name: str, leaf: Mapping[str, Any]) -> list[str]:
    """A searched value: name, type, range, scale, condition."""
    choices = leaf.get("choices")
    values = f"{leaf.get('low')} to {leaf.get('high')}" if choices is None else ", ".join(map(str, choices))
    scale = "logarithmic" if leaf.get("log") else f"steps of {leaf['step']}" if leaf.get("step") else ""
    where = "; ".join(f"{path} = {value}" for path, value in (leaf.get("when") or {}).items())
    return [name, leaf["type"], values, scale, where]


def _class_name(tree: Mapping[str, Any]) -> str:
    return str(tree["_target_"]).rpartition(".")[2]


def _busy(trials: Sequence[FrozenTrial]) -> str:
    seconds = busy_s(trials)
    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(seconds)} ({'h:' if seconds >= 3600 else ''}min:s)"


def _failures(trials: Sequence[FrozenTrial]) -> list[list[str]]:
    """Failed trials, and findings about configurations, each with its reason."""
    faults = own_faults(trials)
    rows = []
    for trial in trials:
        ending, has_failed = ending_of(trial), trial.state == TrialState.FAIL
        if ending is None or not (has_failed or ending.is_finding):
            continue
        then = "" if not has_failed else "given up" if trial.number in faults else "run again"
        counted = "finished (pruned)" if trial.state == TrialState.PRUNED else "failed"
        reason = str(trial.user_attrs.get(REASON, "its process or its machine was lost"))
        rows.append([str(trial.number), ending.words, counted, then, reason.strip()])
    return rows


def _reading(reading: Reading) -> Iterator[list[str]]:
    """A reading of the test set, in each way that its models were trained."""
    for way, values in reading.values.items():
        found, around = spread(values["per_seed"]["spearman"]), kept_interval(values)
        yield [
            reading.when,
            str(reading.trial) if reading.members is None else reading.of,
            way.replace("_and_", "+"),
            str(len(reading.seeds)),
            f"{found.mean:.4f}" + ("" if found.std is None else f" ± {found.std:.4f}"),
            "-" if around is None else f"{around.low:.4f} to {around.high:.4f}",
            f"{values['ensemble']['spearman']:.4f}",
            kept_coverage(values),
            reading.data,
        ]


def _commands(now: StudySnapshot, export: Path | None, proposals: Proposals) -> str:
    """What to type."""
    name, about, propose = now.name, now.about, proposals.command
    lines = []
    words = now.attributes.get(OVERRIDES)
    if words is not None:
        beside, unknown = _beside(about, export)
        what = ["--task", about["task"], *table_words({**_NO_TABLE, **beside}, wild_type="")]
        lines += [f"# {file} stands for the file with the SHA-256 {digits}" for file, digits in unknown.items()]
        if own := about.get("table"):
            file = f"{about['task']}-wild-type.fasta"
            what = ["--data", about["data"], *table_words({**own, **beside}, wild_type=file)]
            if own["wild_type"] is not None:
                fasta = f"printf '>wild type\\n%s\\n' {shlex.quote(own['wild_type'])}"
                lines += ["# the wild type", f"{fasta} > {shlex.quote(file)}"]
        given = [*what, "--model", about["model"], "--n-trials", str(now.n_target)]
        is_default = name == default_name(about["task"], about["model"], about.get("table"), about["data"])
        own_name = [] if is_default else ["--study-name", _name_given(name, about)]
        lines += ["# the search", propose("search", *given, *_agreed(about), *own_name, *words)]
    if export is not None:
        lines += ["# the best trial, trained again and compared", propose("verify", export)]
        lines += ["# new seeds on the test set", propose("confirm", export, "--seeds", "5")]
    lines += ["# this report", propose("report", "--study-name", name)]
    if proposals.has_password:
        lines.insert(0, "# the database's password stands in no report: set $PGPASSWORD, or write it into ~/.pgpass")
    return "\n".join(lines)


def _beside(about: Mapping[str, Any], export: Path | None) -> tuple[dict[str, Any], dict[str, str]]:
    """What stands beside the sequences, by the names of the options; and of each file that is not known its hash.

    A study knows of a file of scores what is in it, and its experiment what it was called.
    """
    experiment = None if export is None else load_experiment(export)
    known = [] if experiment is None or experiment.config.scores is None else experiment.config.scores.sources
    files = {source.hash: source.file for source in known if source.file is not None}
    given: dict[str, Any] = {"zero_shot_columns": []}
    unknown = {}
    for source in about.get("scores", {}).get("sources", ()):
        kind = source["kind"]
        if kind == "language_model":
            given["zero_shot"] = source.get("backbone")
        elif kind != "alignment":
            given["zero_shot_columns"] += source["columns"]
        if kind in _FILES:
            option, placeholder = _FILES[kind]
            file = files.get(source["hash"])
            if file is None:
                file = placeholder
                unknown[file] = source["hash"]
            given[option] = file if source.get("chain") is None else f"{source['chain']}={file}"
    if "embeddings" in about:
        given["embeddings"] = about["embeddings"]["file"]
    return given, unknown


def _agreed(about: Mapping[str, Any]) -> list[str]:
    """What a search begins with, and what it allows, as words of its command line."""
    start = about.get("warm_start", {"from": (), "allow_seen": False})
    words = [word for name in start["from"] for word in option_words("--warm-start", name)]
    derived = ["--allow-derived"] if about.get("scores", {}).get("allow_derived") else []
    return [*words, *(["--allow-seen"] if start["allow_seen"] else []), *derived]


def _name_given(name: str, about: Mapping[str, Any]) -> str:
    """The --study-name of a search; of several properties each study's own name ends with the property's."""
    table = about.get("table", {})
    return name.removesuffix(f"-{property_name(table['target_column'])}") if table.get("properties") else name
