"""What is known of a task: published test results, the studies on it, and the experiments that were confirmed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna import Study

from search.attributes import MANIFEST
from search.cost import Cost, cost
from search.ledger import Reading
from search.published import Published, published_results
from search.spread import spread
from search.statistics import ConfidenceInterval
from search.study import best_trial, count, shown_validation
from search.test_metrics import kept_interval

OURS = "flipsearch"
FLIPS = "FLIP's file"
"""The label of results that may stand beside published ones."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One result on a task.

    by: who found it; `OURS` for our own. model: as whoever found it calls it. data: which file; `None` for a published
    result, which is on the dataset's own. validation: Spearman and protocol of the best trial of a study. seeds: test
    Spearman of each seed; spearman: their mean, or the published value; std: between seeds. around: 95 % interval of
    spearman over test sequences, None of what was confirmed before it was kept. ensemble: of the seeds' mean
    prediction. source: where it is from.
    """

    task: str
    by: str
    model: str
    data: str | None
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

    @property
    def is_comparable(self) -> bool:
        """Whether it may stand beside published results."""
        return self.data in (None, FLIPS)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The entries of a task: published ones, then ours; those on a file that is not FLIP's are `apart`."""

    task: str
    published: tuple[Entry, ...]
    ours: tuple[Entry, ...]
    apart: tuple[Entry, ...] = field(default=())

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is known."""
        return not (self.published or self.ours or self.apart)


def compare(task: str, studies: Sequence[Study], readings: Sequence[Reading]) -> Comparison:
    """Everything that is known of a task."""
    ours = [*_confirmed(task, readings), *_searched(task, studies)]
    return Comparison(
        task=task,
        published=tuple(map(_published, (result for result in published_results() if result.task == task))),
        ours=tuple(entry for entry in ours if entry.is_comparable),
        apart=tuple(entry for entry in ours if not entry.is_comparable),
    )


def known_tasks(studies: Sequence[Study], readings: Sequence[Reading]) -> list[str]:
    """The tasks that anything is known of, the published ones first."""
    studied = [_about(study).get("task") for study in studies]
    names = [result.task for result in published_results()] + [reading.task for reading in readings] + studied
    return list(dict.fromkeys(name for name in names if name))


def _published(result: Published) -> Entry:
    return Entry(
        task=result.task,
        by=result.by,
        model=result.model,
        data=None,
        source=result.source,
        spearman=result.spearman,
        std=result.std,
    )


def _searched(task: str, studies: Sequence[Study]) -> list[Entry]:
    """The studies on a task: validation values, which are no test results."""
    entries = []
    for study in studies:
        about, trials = _about(study), study.get_trials(deepcopy=False)
        best = best_trial(trials)
        if about.get("task") != task:
            continue
        entries.append(
            Entry(
                task=task,
                by=OURS,
                model=about["model"],
                data=about["data"],
                source=f"study {study.study_name}" + (f", trial {best.number}" if best else ", no complete trial"),
                validation=best.value if best else None,
                protocol=shown_validation(study) or "?",
                n_finished=count(trials).n_finished,
                cost=cost(trials),
            )
        )
    return entries


def _confirmed(task: str, readings: Sequence[Reading]) -> list[Entry]:
    """The last reading of each experiment's each trial, in each way that it was trained."""
    last = {(reading.experiment, reading.trial): reading for reading in readings if reading.task == task}
    n_readings = {key: sum((r.experiment, r.trial) == key and r.task == task for r in readings) for key in last}
    entries = []
    for key, reading in last.items():
        for way, words in (("train_and_validation", "train+validation"), ("train", "train alone")):
            if way not in reading.values:
                continue
            seeds = tuple(map(float, reading.values[way]["per_seed"]["spearman"]))
            found = spread(seeds)
            entries.append(
                Entry(
                    task=task,
                    by=OURS,
                    model=reading.model,
                    data=reading.data,
                    source=f"{reading.experiment}, trial {reading.trial}, trained on {words}, {len(seeds)} seed(s), "
                    f"test set read {n_readings[key]} time(s)",
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


def _about(study: Study) -> dict[str, Any]:
    about: dict[str, Any] = study.user_attrs.get(MANIFEST, {})
    return about
