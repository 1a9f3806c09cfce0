"""What is known of a task: published test results, the studies on it, and the experiments that were confirmed."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from search.experiments.ledger import Reading
from search.stats.intervals import ConfidenceInterval
from search.stats.metrics import kept_interval, spread
from search.study.question import Question
from search.study.snapshot import StudySnapshot
from search.study.study import shown_validation

OURS = "flipsearch"
_PUBLISHED = Path(__file__).parent / "published_spearman.csv"
FLIPS = "FLIP's file"
"""The label of results that may stand beside published ones."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One result on a task.

    asked: its question; None for a published result, which is on the dataset's own file. by: who found it; `OURS` for
    our own. model: as whoever found it calls it. validation: Spearman and protocol of the best trial of a study.
    seeds: test Spearman of each seed; spearman: their mean, or the published value; std: between seeds. around: 95 %
    interval of spearman over test sequences, None of what was confirmed before it was kept. ensemble: of the seeds'
    mean prediction. source: where it is from.
    """

    asked: Question | None
    by: str
    model: str
    source: str
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

    title: the question. data: the label of the file. asked: None where there
    are published results alone.
    """

    title: str
    data: str
    asked: Question | None
    entries: tuple[Entry, ...]

    @property
    def is_comparable(self) -> bool:
        """Whether published results may stand here."""
        return self.data == FLIPS

    @property
    def heading(self) -> str:
        """The title, with the file where that is not FLIP's own."""
        return self.title if self.is_comparable else f"{self.title} ({self.data})"


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
    with _PUBLISHED.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            task, by, model, source = (row[name] for name in ("task", "by", "model", "source"))
            spearman, std = float(row["spearman"]), float(row["std"]) if row["std"] else None
            entry = Entry(asked=None, by=by, model=model, source=source, spearman=spearman, std=std)
            found[task] = (*found.get(task, ()), entry)
    return found


def compare(task: str, studies: Sequence[StudySnapshot], readings: Sequence[Reading]) -> Comparison:
    """Everything that is known of a task."""
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
    panels = [_panel(question, entries, groups) for question, entries in groups]
    if published and panels and panels[0].is_comparable:
        panels[0] = replace(panels[0], entries=(*published, *panels[0].entries))
    elif published:
        panels.insert(0, Panel(title=task, data=FLIPS, asked=None, entries=published))
    return Comparison(task=task, panels=tuple(panels))


def _panel(question: Question, entries: Sequence[Entry], groups: Sequence[tuple[Question, list[Entry]]]) -> Panel:
    title = question.words
    if sum((other.words, other.data) == (question.words, question.data) for other, _ in groups) > 1:
        title += f", data {question.digits}"  # two versions of a file
    return Panel(title=title, data=question.data, asked=question, entries=tuple(entries))


def known_tasks(studies: Sequence[StudySnapshot], readings: Sequence[Reading]) -> list[str]:
    """The tasks that anything is known of, the published ones first."""
    names = [*published_results(), *(one.task for one in readings), *(now.about.get("task") for now in studies)]
    return list(dict.fromkeys(name for name in names if name))


def _searched(now: StudySnapshot) -> Entry | None:
    """The best of a study, a validation value, which is no test result; None of a study without a manifest."""
    if now.asked is None:
        return None
    best = now.best
    return Entry(
        asked=now.asked,
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
