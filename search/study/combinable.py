"""Complete trials of one study or several that may be averaged: judged by the same protocol on the same sequences."""

import shlex
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial

from datasets.common.errors import UserError
from search.machine.standard_streams import printable
from search.storage.attributes import MANIFEST, WORKER
from search.study.ranking import best_trials, rank_of
from search.study.study import shown_validation
from search.training.predictions import Predictions, read_predictions

MOST_OF_A_STUDY = 100
"""The best of each study take part."""
_MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Combinable:
    """A complete trial that keeps to what its protocol asks for, and what it predicted out of fold."""

    study: Study
    trial: FrozenTrial
    predictions: Predictions


def combinable_trials(studies: Sequence[Study], runs: Path, announce: Callable[[str], None]) -> tuple[Combinable, ...]:
    """The trials of studies that may be averaged, the best first; all of them predicted the same rows.

    `announce` is told which trials take no part because their files are not below `runs`.

    Raises:
        UserError: The studies are not of one question and protocol, or one of them has no trial to take part.
    """
    _check_question(studies)
    found: list[Combinable] = []
    for study in studies:
        found += _of_study(study, runs, announce)
    found.sort(key=lambda one: (*rank_of(one.trial), one.study.study_name, one.trial.number))
    first = found[0]
    for one in found:
        same_rows = np.array_equal(one.predictions.row, first.predictions.row)
        if not same_rows or not np.array_equal(one.predictions.target, first.predictions.target):
            raise UserError(
                f"Trial {one.trial.number} of study {one.study.study_name} was validated on other sequences than trial "
                f"{first.trial.number} of study {first.study.study_name}, or with other targets: combine studies whose "
                "trials were validated on the same."
            )
    return tuple(found)


def _check_question(studies: Sequence[Study]) -> None:
    first = studies[0]
    for study in studies:
        if MANIFEST not in study.user_attrs:
            raise UserError(f"Study {study.study_name!r} has no manifest, so flipsearch did not make it: leave it out.")
        own, other = study.user_attrs[MANIFEST], first.user_attrs[MANIFEST]
        for what, key in (("task", "task"), ("reading of the table", "table"), ("data", "data_hash"),
                          ("score columns", "scores"), ("validation", "validation")):  # fmt: skip
            if own.get(key) != other.get(key):
                raise UserError(
                    f"Study {study.study_name} has another {what} ({_shown(study, key)}) than study "
                    f"{first.study_name} ({_shown(first, key)}): combine studies of one task, data and validation."
                )
    # A family that takes no embeddings has none, and goes with any.
    with_some = [study for study in studies if study.user_attrs[MANIFEST].get("embeddings") is not None]
    for study in with_some:
        other = with_some[0]
        if study.user_attrs[MANIFEST]["embeddings"] != other.user_attrs[MANIFEST]["embeddings"]:
            raise UserError(
                f"Study {study.study_name} has other embeddings ({_shown(study, 'embeddings')}) than study "
                f"{other.study_name} ({_shown(other, 'embeddings')}): combine studies of one file of embeddings."
            )


def _shown(study: Study, key: str) -> str:
    """A value of the manifest in a few words."""
    about = study.user_attrs[MANIFEST]
    value: Any = about.get(key)
    if key == "validation":
        value = shown_validation(study.user_attrs)
    elif key == "data_hash":
        value = f"{about.get('data')}, sha256 {str(value)[:12]}..."
    elif key == "scores":
        sources = value.get("sources") if isinstance(value, dict) else None
        value = [source.get("columns") for source in sources or [] if isinstance(source, dict)]
    elif key == "embeddings":
        value = f"{value.get('file')}, sha256 {str(value.get('hash'))[:12]}..." if isinstance(value, dict) else value
    text = printable(str(value or "none"))
    return text if len(text) <= 100 else f"{text[:97]}..."


def _of_study(study: Study, runs: Path, announce: Callable[[str], None]) -> list[Combinable]:
    trials = study.get_trials(deepcopy=False)
    complete = best_trials(trials, len(trials))
    if not complete:
        raise UserError(f"Study {study.study_name} has no complete trial, so nothing of it can be combined: search on.")
    allowed = [trial for trial in complete if rank_of(trial)[0] <= 0]
    if not allowed:
        raise UserError(
            f"None of the {len(complete)} complete trials of study {study.study_name} keeps to what its protocol asks "
            "for (their predictions rise with the number of mutations), so nothing of it can be combined: leave it out."
        )
    found, missing = [], []
    for trial in allowed[:MOST_OF_A_STUDY]:
        predictions = read_predictions(runs / study.study_name, trial.number)
        if predictions is None:
            missing.append(trial)
        elif len(predictions.row) > 1 and np.isfinite(predictions.prediction).all():
            found.append(Combinable(study=study, trial=trial, predictions=predictions))
    if missing:
        named = ", ".join(str(trial.number) for trial in missing[:_MOST_NAMED])
        named += f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        sentence = (
            f"What {len(missing)} trial(s) of study {study.study_name} predicted ({named}) is not in "
            f"{runs / study.study_name}: {how_to_fetch(study, missing, runs)}"
        )
        if not found:
            raise UserError(f"{sentence} Or leave the study out.")
        announce(f"{sentence} Until then they take no part.")
    if not found:
        raise UserError(f"No trial of study {study.study_name} has predictions to combine: leave it out.")
    return found


def hosts_of(trials: Iterable[FrozenTrial]) -> list[str]:
    """The other machines that trials ran on."""
    hosts = dict.fromkeys(str(trial.user_attrs.get(WORKER, "")).rpartition(":")[0] for trial in trials)
    return [printable(host) for host in hosts if host and host != socket.gethostname()]


def how_to_fetch(study: Study, trials: Iterable[FrozenTrial], runs: Path) -> str:
    """Where trials ran, and the command that brings their files here."""
    others = hosts_of(trials)
    if not others:
        return "they ran on this machine, so name the folder that holds them with --runs-dir, or put the files back."
    folder = f"{runs.absolute() / study.study_name}/"
    commands = "; ".join(f"rsync -a {shlex.quote(f'{host}:{folder}')} {shlex.quote(folder)}" for host in others)
    return f"they ran on {', '.join(others)}; fetch them from its --runs-dir there: {commands}."
