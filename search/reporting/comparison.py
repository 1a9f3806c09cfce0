"""What is known of a task: published test results, the studies on it, and the experiments that were confirmed."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from datasets.tasks.registry import task_names
from search.config.nested import digest
from search.experiments.ledger import Reading
from search.reporting.published import OURS, PublishedResult, read_published
from search.stats.intervals import ConfidenceInterval
from search.stats.metrics import kept_interval, spread
from search.study.question import Question
from search.study.snapshot import StudySnapshot
from search.study.study import shown_validation

_PUBLISHED = Path(__file__).parent / "published_spearman.csv"
FLIPS = "FLIP's file"
"""The label of results that may stand beside published ones."""
AS_PUBLISHED = "as published"
"""What stands for the file of a user's published results: nobody can check what it was."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One result on a task.

    asked: its question; None for a published result, and for a mean over folds. data: the label of its file. by: who
    found it; `OURS` for our own. model: as whoever found it calls it. validation: Spearman and protocol of the best
    trial of a study.
    seeds: test Spearman of each seed; spearman: their mean, or the published value; std: between seeds. around: 95 %
    interval of spearman over test sequences, None of what was confirmed before it was kept. ensemble: of the seeds'
    mean prediction. source: where it is from.
    """

    asked: Question | None
    data: str
    by: str
    model: str
    source: str
    is_published: bool = False
    spearman: float | None = None
    std: float | None = None
    seeds: tuple[float, ...] = ()
    around: ConfidenceInterval | None = None
    ensemble: float | None = None
    validation: float | None = None
    protocol: str | None = None

    @property
    def question(self) -> Question:
        """What one of ours is asked."""
        assert self.asked is not None, "it is ours"
        return self.asked


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The results on one question, which alone may be ranked and drawn together.

    title: the question. data: the label of the file. asked: None where there are published results alone, and for
    means over folds. on: target and split, for a user's published results; the split of means is the column of folds.
    """

    title: str
    data: str
    asked: Question | None
    entries: tuple[Entry, ...]
    on: tuple[str | None, str | None] = (None, None)

    @property
    def is_comparable(self) -> bool:
        """Whether published results may stand here."""
        return self.data == FLIPS or any(entry.is_published for entry in self.entries)

    @property
    def heading(self) -> str:
        """The title, with the file where that is not FLIP's own."""
        return self.title if self.data == FLIPS else f"{self.title} ({self.data})"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is known of a task: a panel for each question, that of FLIP's file first."""

    task: str
    panels: tuple[Panel, ...]


@cache
def published_results() -> Mapping[str, tuple[Entry, ...]]:
    """Test results of others on each task, or what follows from their recipe, as the table beside this module has them.

    It says of each where it was read.
    """
    found: dict[str, tuple[Entry, ...]] = {}
    for result in read_published(_PUBLISHED):
        found[result.task] = (*found.get(result.task, ()), _published(result, FLIPS))
    return found


def _published(result: PublishedResult, data: str = AS_PUBLISHED) -> Entry:
    return Entry(
        asked=None,
        data=data,
        by=result.by,
        model=result.model,
        source=result.source,
        spearman=result.spearman,
        std=result.std,
        is_published=True,
    )


def compare(
    task: str,
    studies: Sequence[StudySnapshot],
    readings: Sequence[Reading],
    own_published: Sequence[PublishedResult] = (),
) -> Comparison:
    """Everything that is known of a task, with the user's own published results."""
    searched = [entry for now in studies if (entry := _searched(now)) is not None and entry.question.task == task]
    ours = [*_confirmed(task, readings, [entry.question for entry in searched]), *searched]
    groups: list[tuple[Question, list[Entry]]] = []
    for entry in ours:
        for question, entries in groups:
            if question.is_same(entry.question):
                entries.append(entry)
                break
        else:
            groups.append((entry.question, [entry]))
    groups.sort(key=lambda group: (group[0].data != FLIPS, group[0].words, group[0].data_hash))
    published = published_results().get(task, ())
    of_task = [result for result in own_published if result.task == task]
    panels = [_panel(question, entries, groups) for question, entries in groups]
    if task in task_names():
        published = (*published, *map(_published, of_task))
        of_task = []
    if published and panels and panels[0].is_comparable:
        panels[0] = replace(panels[0], entries=(*published, *panels[0].entries))
    elif published:
        panels.insert(0, Panel(title=task, data=FLIPS, asked=None, entries=published))
    panels += over_folds(task, readings)
    for result in of_task:
        panels = _with_published(panels, result)
    return Comparison(task=task, panels=tuple(panels))


def _with_published(panels: Sequence[Panel], result: PublishedResult) -> list[Panel]:
    """The panels, with a user's published result in those on its target and split, or in one of its own."""
    found, is_placed = [], False
    for panel in panels:
        target, split = panel.on
        if split == result.split and result.target in ("", target):
            panel = replace(panel, entries=(_published(result), *panel.entries))
            is_placed = True
        found.append(panel)
    if not is_placed:
        words = f"{result.task}, target {result.target}" if result.target else result.task
        on = (result.target, result.split)
        title = f"{words}, split {result.split}"
        found.append(Panel(title=title, data=AS_PUBLISHED, asked=None, entries=(_published(result),), on=on))
    return found


def over_folds(task: str, readings: Sequence[Reading]) -> list[Panel]:
    """The means over the folds of a table, each by one reading of each fold; a fold that was not read leaves none.

    Folds of one table alone are put together: the same content, read in the same way, column, target and model.
    """
    groups: dict[tuple[str, ...], dict[str, list[Reading]]] = {}
    for reading in readings:
        if reading.task == task and reading.fold is not None and reading.fold_names:
            table = (reading.table_hash, reading.settings_hash)
            known = (reading.fold_column, reading.target, *table, reading.data, reading.model)
            names = "\n".join(reading.fold_names)
            groups.setdefault((*map(str, known), names), {}).setdefault(reading.fold, []).append(reading)
    panels: dict[tuple[str, ...], Panel] = {}
    for (column, target, table_hash, settings_hash, data, model, names), of_fold in groups.items():
        if set(of_fold) != set(names.split("\n")):
            continue
        chosen = [_own(every) for every in of_fold.values()]
        found = [reading.values["train_and_validation"] for reading in chosen]
        own = Entry(
            asked=None,
            data=data,
            by=OURS,
            model=model,
            source=f"mean over {len(found)} folds, {', '.join(reading.experiment for reading in chosen)}",
            spearman=statistics.fmean(statistics.fmean(one["per_seed"]["spearman"]) for one in found),
            ensemble=statistics.fmean(float(one["ensemble"]["spearman"]) for one in found),
        )
        title = f"{task}, target {target}, mean over the {len(found)} folds of {column}"
        key = (column, target, data, table_hash, settings_hash)
        before = panels.get(key, Panel(title=title, data=data, asked=None, entries=(), on=(target, column)))
        panels[key] = replace(before, entries=(*before.entries, own))
    n_alike = Counter(panel.heading for panel in panels.values())
    return [
        panel if n_alike[panel.heading] == 1 else replace(panel, title=f"{panel.title}, table {digest(key)[:8]}")
        for key, panel in panels.items()
    ]


def _own(readings: Sequence[Reading]) -> Reading:
    """Of a fold, the last reading of the experiment that was confirmed last, and not of other trials (`--top-k`).

    The experiment's own config is the first that is read of its file.
    """
    of_last = [reading for reading in readings if reading.checksum == readings[-1].checksum]
    return [reading for reading in of_last if reading.trial == of_last[0].trial][-1]


def _panel(question: Question, entries: Sequence[Entry], groups: Sequence[tuple[Question, list[Entry]]]) -> Panel:
    title = question.words
    if sum((other.words, other.data) == (question.words, question.data) for other, _ in groups) > 1:
        title += f", data {question.digits}"  # two versions of a file
    on = (question.target, question.split)
    return Panel(title=title, data=question.data, asked=question, entries=tuple(entries), on=on)


def known_tasks(
    studies: Sequence[StudySnapshot], readings: Sequence[Reading], own_published: Sequence[PublishedResult] = ()
) -> list[str]:
    """The tasks that anything is known of, the published ones first."""
    names = [
        *published_results(),
        *(one.task for one in own_published),
        *(one.task for one in readings),
        *(now.about.get("task") for now in studies),
    ]
    return list(dict.fromkeys(name for name in names if name))


def _searched(now: StudySnapshot) -> Entry | None:
    """The best of a study, a validation value, which is no test result; None of a study without a manifest."""
    if now.asked is None:
        return None
    best = now.best
    return Entry(
        asked=now.asked,
        data=now.asked.data,
        by=OURS,
        model=now.about["model"],
        source=f"study {now.name}" + (f", trial {best.number}" if best else ", no complete trial"),
        validation=best.value if best else None,
        protocol=shown_validation(now.attributes) or "?",
    )


def _confirmed(task: str, readings: Sequence[Reading], asked: Sequence[Question]) -> list[Entry]:
    """The last reading of each experiment's each trial on each question, in each way that it was trained.

    Of a reading that does not name its split, `asked` may: the questions of the studies.
    """
    groups: dict[tuple[str, int, str], list[Reading]] = {}
    for reading in readings:
        if reading.task == task:
            groups.setdefault((reading.experiment, reading.trial, reading.data_hash), []).append(reading)
    entries = []
    for *earlier, reading in groups.values():
        own = reading.question
        if own.split is None:
            own = next((one for one in asked if one.is_same(own)), own)
        for way, words in (("train_and_validation", "train+validation"), ("train", "train alone")):
            if way not in reading.values:
                continue
            seeds = tuple(map(float, reading.values[way]["per_seed"]["spearman"]))
            found = spread(seeds)
            entries.append(
                Entry(
                    asked=own,
                    data=own.data,
                    by=OURS,
                    model=reading.model,
                    source=f"{reading.experiment}, {reading.of}, trained on {words}, {len(seeds)} seed(s), "
                    f"confirmed {len(earlier) + 1} time(s)",
                    spearman=found.mean,
                    std=found.std,
                    seeds=seeds,
                    around=kept_interval(reading.values[way]),
                    ensemble=float(reading.values[way]["ensemble"]["spearman"]),
                )
            )
    return entries


def by_value(entries: Sequence[Entry]) -> list[Entry]:
    """The highest test result first; entries without one last."""
    return sorted(entries, key=lambda entry: -math.inf if entry.spearman is None else entry.spearman, reverse=True)
