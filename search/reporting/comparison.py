"""What is known of a task: published test results, the studies on it, and the experiments that were confirmed."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna import Study

from search.experiments.ledger import Reading
from search.reporting.published import Published, published_results
from search.stats.intervals import ConfidenceInterval
from search.stats.metrics import kept_interval
from search.stats.spread import spread
from search.storage.attributes import MANIFEST
from search.study.activity import Cost, cost
from search.study.question import Question, question_of
from search.study.study import best_trial, count, shown_validation

OURS = "flipsearch"
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
    n_finished: int | None = None
    cost: Cost | None = None


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


def compare(task: str, studies: Sequence[Study], readings: Sequence[Reading]) -> Comparison:
    """Everything that is known of a task."""
    asked = [question for study in studies if (question := _question(study)) is not None and question.task == task]
    ours = [*_confirmed(task, readings, asked), *_searched(task, studies)]
    groups: list[tuple[Question, list[Entry]]] = []
    for entry in ours:
        assert entry.asked is not None
        for question, entries in groups:
            if question.is_same(entry.asked):
                entries.append(entry)
                break
        else:
            groups.append((entry.asked, [entry]))
    groups.sort(key=lambda group: (group[0].data != FLIPS, group[0].words, group[0].data_hash))
    published = [_published(result) for result in published_results() if result.task == task]
    panels = [_panel(question, entries, groups) for question, entries in groups]
    if published and panels and panels[0].is_comparable:
        panels[0] = replace(panels[0], entries=(*published, *panels[0].entries))
    elif published:
        panels.insert(0, Panel(title=task, data=FLIPS, asked=None, entries=tuple(published)))
    return Comparison(task=task, panels=tuple(panels))


def _panel(question: Question, entries: Sequence[Entry], groups: Sequence[tuple[Question, list[Entry]]]) -> Panel:
    title = question.words
    if sum((other.words, other.data) == (question.words, question.data) for other, _ in groups) > 1:
        title += f", data {question.digits}"  # two versions of a file
    return Panel(title=title, data=question.data, asked=question, entries=tuple(entries))


def known_tasks(studies: Sequence[Study], readings: Sequence[Reading]) -> list[str]:
    """The tasks that anything is known of, the published ones first."""
    studied = [_about(study).get("task") for study in studies]
    names = [result.task for result in published_results()] + [reading.task for reading in readings] + studied
    return list(dict.fromkeys(name for name in names if name))


def _published(result: Published) -> Entry:
    return Entry(
        asked=None,
        by=result.by,
        model=result.model,
        source=result.source,
        spearman=result.spearman,
        std=result.std,
    )


def _searched(task: str, studies: Sequence[Study]) -> list[Entry]:
    """The studies on a task: validation values, which are no test results."""
    entries = []
    for study in studies:
        asked = _question(study)
        if asked is None or asked.task != task:
            continue
        trials = study.get_trials(deepcopy=False)
        best = best_trial(trials)
        entries.append(
            Entry(
                asked=asked,
                by=OURS,
                model=_about(study)["model"],
                source=f"study {study.study_name}" + (f", trial {best.number}" if best else ", no complete trial"),
                validation=best.value if best else None,
                protocol=shown_validation(study.user_attrs) or "?",
                n_finished=count(trials).n_finished,
                cost=cost(trials),
            )
        )
    return entries


def _confirmed(task: str, readings: Sequence[Reading], asked: Sequence[Question]) -> list[Entry]:
    """The last reading of each experiment's each trial on each question, in each way that it was trained.

    Of a reading that does not name its split, `asked` may: the questions of the studies.
    """
    last: dict[tuple[str, int, str], Reading] = {}
    n_readings: Counter[tuple[str, int, str]] = Counter()
    for reading in readings:
        if reading.task == task:
            key = reading.experiment, reading.trial, reading.data_hash
            last[key] = reading
            n_readings[key] += 1
    entries = []
    for key, reading in last.items():
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
                    source=f"{reading.experiment}, trial {reading.trial}, trained on {words}, {len(seeds)} seed(s), "
                    f"confirmed {n_readings[key]} time(s)",
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


def _question(study: Study) -> Question | None:
    return question_of(_about(study))


def _about(study: Study) -> dict[str, Any]:
    about: dict[str, Any] = study.user_attrs.get(MANIFEST, {})
    return about
