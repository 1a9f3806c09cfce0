"""What a report says of the search: the words and tables about all of its trials."""

from collections.abc import Mapping
from typing import Any

from optuna.trial import TrialState

from search.machine.environment import package_versions
from search.reporting.facts import Known
from search.reporting.html import Markup, folded, paragraph, table, warning
from search.storage.attributes import PROTOCOL, REASON, VERSIONS
from search.study.activity import busy_s, cost, is_solved_at_once
from search.study.config import EPOCH_SETTINGS
from search.study.endings import ending_of, own_faults
from search.study.protocol import as_sentence
from search.study.ranking import set_aside
from search.study.study import stands_for
from search.workers.display import clock


def standing(known: Known) -> list[Markup]:
    """What the study is and where it stands."""
    about, counts, best = known.about, known.now.counts, known.best
    blocks = [
        paragraph(
            f"Task {known.asked.words}, model {about['model']}. "
            f"{counts.n_finished} of {known.now.n_target or '?'} trials are finished ({counts.n_complete} complete, "
            f"{counts.n_pruned} pruned); {counts.n_failed} failed, {counts.n_running} running."
        ),
        paragraph(
            "No trial is complete yet."
            if best is None
            else f"Best: trial {best.number}, validation Spearman {best.value:.4f} ({known.where})."
        ),
    ]
    if words := stands_for(known.now.attributes):
        blocks.append(paragraph(as_sentence(words)))
    if sentence := set_aside(known.trials):
        blocks.append(paragraph(sentence))
    if known.study.user_attrs.get(PROTOCOL, {}).get("saw_test_sequences"):
        blocks.append(paragraph("The validation was chosen with a look at the test sequences, not at their targets."))
    if "not FLIP" in about["data"]:
        blocks.append(warning(f"{about['data']}: these results cannot be compared with published ones."))
    return blocks


def searched(known: Known) -> list[Markup]:
    """The space, and everything that was the same in all trials."""
    rows = [[name, leaf["type"], _range(leaf), _scale(leaf), _condition(leaf)] for name, leaf in _leaves(known.about)]
    unused = EPOCH_SETTINGS if is_solved_at_once(known.about) else ()
    fixed = sorted((path, str(value)) for path, value in known.about["config"].items() if path not in unused)
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


def failures(known: Known) -> list[Markup]:
    """Failed trials, and findings about configurations, each with its reason."""
    faults = own_faults(known.trials)
    rows = []
    for trial in known.trials:
        ending = ending_of(trial)
        is_fault = trial.number in faults
        if ending is None or (trial.state != TrialState.FAIL and not ending.is_finding):
            continue
        then = "" if trial.state != TrialState.FAIL else "given up" if is_fault else "run again"
        counted = "finished (pruned)" if trial.state == TrialState.PRUNED else "failed"
        reason = str(trial.user_attrs.get(REASON, "its process or its machine was lost"))
        rows.append([str(trial.number), ending.words, counted, then, reason.strip()])
    if not rows:
        return [paragraph("None.")]
    return [table(["trial", "ending", "counts as", "then", "reason"], rows)]


def costs(known: Known) -> list[Markup]:
    """GPU-seconds and CPU time."""
    spent = cost(known.trials)
    lost = f" Trials without a result took {spent.lost_s:,.0f} s more." if spent.lost_s else ""
    about = "CPU-seconds are the CPU time of a trial's process, its threads and its children."
    blocks = [paragraph(f"All trials: {spent}.{lost} {about}")]
    if known.best is not None:
        blocks.append(paragraph(f"The best trial alone: {cost([known.best])}."))
    return blocks


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
