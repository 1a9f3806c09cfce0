"""Which positions matter: the relevances that a study's best kernel found, in words, a figure and a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]
from optuna.trial import FrozenTrial

from datasets.common.errors import UserError
from models.layers.relevance_prior import RELEVANCE_STD
from search.config.run_config import task_in
from search.experiments.files import is_below, weights_folder
from search.reporting.html import Drawing, finished
from search.space.space import Space
from search.storage.attributes import RESULT
from search.study.artifacts import hash_or_missing
from search.study.ranking import best_trials
from search.training.relevances import Relevances, read_relevances
from search.training.result import FOLD, trial_folder

_SOUGHT = "model.relevance"
_TOP = 10
_COLOUR = "#1f5fa8"


@dataclass(frozen=True, kw_only=True)
class Positions:
    """What a report shows; `figure` and `rows` (position, relevance, its range) are None where no weights are here."""

    sentences: Sequence[str]
    figure: Drawing | None = None
    rows: Sequence[Sequence[str]] | None = None


def find_positions(
    trials: Sequence[FrozenTrial], about: Mapping[str, Any], folder: Path, export: Path | None
) -> Positions | None:
    """Those of the best trial that sought relevances and whose weights are here; None where no complete one did.

    Args:
        trials: of the study.
        about: its manifest.
        folder: that of the study, below the runs directory.
        export: its exported experiment, beside which the best trial's weights stand too.
    """
    complete = best_trials(trials, len(trials))
    sought = [trial for trial in complete if _seeks(_settings(trial, about))]
    if not sought:
        return None
    for trial in sought:
        files = _weights(trial, folder, export)
        found = None if files is None else _read(files, trial, about)
        if found is not None:
            why = "" if trial is complete[0] else f" Trial {complete[0].number}, which is better, has none."
            return _shown(trial, found, why)
    numbers = ", ".join(str(trial.number) for trial in sought[:3])
    return Positions(
        sentences=[
            f"Trials that found a relevance for each position (the best: {numbers}) have no whole weights below "
            f"{folder}: they are in the runs directory of the machine that trained them (name that with --runs-dir), "
            "unless only those of better trials were kept (--keep-top)."
        ]
    )


def _settings(trial: FrozenTrial, about: Mapping[str, Any]) -> dict[str, Any]:
    return {**about["config"], **Space.values(trial.params)}


def _seeks(settings: Mapping[str, Any]) -> bool:
    """Whether a kernel seeks relevances, which is in vain where no part of it is of the sites."""
    has_sites = settings.get("model.sites") != "additive" or settings.get("model.linear_variance") != 0
    return settings.get(_SOUGHT) is True and has_sites and settings.get("model.embeddings") != "alone"


def _weights(trial: FrozenTrial, folder: Path, export: Path | None) -> list[Path] | None:
    """The kept weights of a trial, fold by fold; None where one is missing, or is not what the trial wrote."""
    hashes = (trial.user_attrs.get(RESULT) or {}).get("weight_hashes") or []
    places = [(trial_folder(folder, trial.number), folder.parent)]
    if export is not None:
        places.append((weights_folder(export), weights_folder(export)))
    files = []
    for number, expected in enumerate(hashes):
        here = (place / FOLD.format(number) for place, root in places if is_below(place / FOLD.format(number), root))
        file = next((path for path in here if _hash(path) == expected), None)
        if file is None:
            return None
        files.append(file)
    return files or None


def _hash(path: Path) -> str | None:
    try:
        return hash_or_missing(path)
    except OSError:
        return None


def _read(files: Sequence[Path], trial: FrozenTrial, about: Mapping[str, Any]) -> Relevances | None:
    table = about.get("table")
    tree = {"task": about["task"], "table": None if table is None else {**table, "file": str(about["data"])}}
    settings = _settings(trial, about)
    try:
        return read_relevances(files, task_in(tree), settings.get("data.crop"), settings.get("data.max_length"))
    except UserError:  # of a task, or a crop, that there is no more
        return None


def _shown(trial: FrozenTrial, found: Relevances, why: str) -> Positions:
    n_folds = "its model" if found.n_members == 1 else f"each of its {found.n_members} folds"
    low, high = (math.exp(RELEVANCE_STD * 1.96 * sign) for sign in (-1, 1))
    several = " Sequences of other lengths are counted from their start as well." if found.has_gaps else ""
    over = (
        ""
        if found.n_members == 1
        else " The value is the geometric mean of the folds, the whiskers their lowest and highest."
    )
    sentences = [
        f"Trial {trial.number} found a relevance for each of {len(found.position):,} positions, by marginal likelihood "
        f"of {found.n_rows:,} training sequences in {n_folds}.{why}",
        "A relevance is the weight of its position in the kernel's distance, without a unit: the higher it is, the "
        "more fitness is expected to differ between sequences that differ there. It does not say which residue is "
        f"better. Its prior is log-normal around 1, with 95 % between {low:.2f} and {high:.2f}, so a position that the "
        f"data say little about stays near 1. Positions at which no training sequence varies have none.{over}{several}",
    ]
    rows = [
        [found.names[place], f"{found.value[place]:.2f}", f"{found.low[place]:.2f} to {found.high[place]:.2f}"]
        for place in found.order[:_TOP]
    ]
    return Positions(sentences=sentences, figure=_figure(found), rows=rows)


def _figure(found: Relevances) -> Drawing:
    """A bar for each position, from 1 up or down, on a logarithmic axis."""
    whiskers = {
        "array": found.high - found.value,
        "arrayminus": found.value - found.low,
        "visible": found.n_members > 1,
        "thickness": 1,
        "color": "#5b5b5b",
    }
    bars = go.Bar(
        x=found.position,
        y=(found.value - 1).tolist(),
        base=[1.0] * len(found.value),
        customdata=found.value,
        text=found.names,
        textposition="none",
        hovertemplate="%{text}: %{customdata:.2f}<extra></extra>",
        marker={"color": _COLOUR},
        error_y=whiskers,
    )
    drawing = go.Figure(bars)
    drawing.update_yaxes(type="log")
    return finished(drawing, ("position", "relevance (1 before the data)"), height_px=380)
