"""The figures of a report: Optuna's where Optuna has one, plotly's otherwise; every axis says what it shows.

Optuna writes the user attributes of trials, whole results, into its figures: they are given studies without these.
"""

import copy
import html
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]
import plotly.io  # type: ignore[import-untyped]
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from search.reporting.html import Block, Drawing, finished
from search.storage.attributes import RESULT
from search.storage.optuna_internals import import_visualization
from search.study.ranking import best_trials
from search.study.snapshot import MIN_TRIALS, snapshot
from search.study.study import best_trial
from search.training.predictions import Predictions
from search.workers.display import describe

visualization = import_visualization()
plotly.io.templates.default = "plotly_white"  # to put another in its place takes longer than to draw a figure

SPEARMAN = "validation Spearman ρ (−1 to 1)"
_MOST_POINTS = 5000
_MOST_TRIALS = 500
_MOST_LINES = 200  # of parallel coordinates, each of which is a trace of its own
_MOST_ON_CURVES = 60_000  # points
_FEW = 10  # epochs, of which every one is named
_LABEL_HEIGHT = 0.05  # of an axis of parallel coordinates
_BLUE, _GREY, _ORANGE = "#1f5fa8", "rgba(110, 125, 140, 0.35)", "#d1640a"
_COLOURS = (_BLUE, _ORANGE, "#2e8b57", "#8e44ad", "#b03a5b", "#0f8b8d", "#8a6d00", "#5b5b5b")


def history(study: Study) -> Drawing:
    """The value of each complete trial, and the best so far."""
    # Optuna finds values by numbers, which lack one where somebody deleted a trial.
    trials = [copy.copy(trial) for trial in study.get_trials(deepcopy=False)]
    numbers = [trial.number for trial in trials]
    for place, trial in enumerate(trials):
        trial.number = place
    drawing = visualization.plot_optimization_history(snapshot(study, trials), target_name="value")
    for trace in drawing.data:
        trace.x = [numbers[place] for place in trace.x]
    return finished(drawing, ("trial (number)", SPEARMAN), height_px=420)


def timeline(study: Study, told: Sequence[FrozenTrial]) -> Drawing:
    """When each trial ran and how it ended; `told` are the trials with their user attributes."""
    # Optuna writes out the parameters of each trial, in whose place our own words come.
    trials = [copy.copy(trial) for trial in study.get_trials(deepcopy=False)]
    for trial in trials:
        trial.params = {}
    drawing = visualization.plot_timeline(snapshot(study, trials))
    described = {trial.number: html.escape(describe(trial)) for trial in told}
    for bars in drawing.data:
        bars.text = [described[number] for number in bars.y]
    # Ticks keep the times below the number of the lowest trial, which may stand beside the first of them.
    drawing.update_xaxes(ticks="outside", ticklen=8)
    return finished(drawing, ("time (local)", "trial (number)"), height_px=360)


def learning_curves(trials: Sequence[FrozenTrial]) -> list[Block]:
    """The value after each epoch of each fold: the best trial's folds in colour, the other trials' in grey."""
    told = [trial for trial in trials if any(map(_is_curve, _curves(trial)))]
    if not told:
        return ["No trial was validated yet."]
    mean_length = sum(len(values) for trial in told for values in _curves(trial)) / len(told)
    shown, sentence = _thinned(told, min(_MOST_TRIALS, max(1, int(_MOST_ON_CURVES / mean_length))), "trials")
    best = best_trial(trials)
    drawing = go.Figure()
    _add_grey(drawing, [trial for trial in shown if trial is not best])
    if best in shown:  # on top
        for number, values in enumerate(_curves(best)):
            if _is_curve(values):
                drawing.add_scatter(
                    x=list(range(len(values))),
                    y=values,
                    name=f"trial {best.number}, fold {number}",
                    mode="lines+markers",
                    line={"color": _COLOURS[number % len(_COLOURS)], "width": 2},
                    showlegend=True,
                )
    longest = max(len(values) for trial in shown for values in _curves(trial))
    drawing.update_xaxes(dtick=1 if longest <= _FEW else None)
    return [*sentence, finished(drawing, ("epoch (count, from 0)", SPEARMAN), height_px=460)]


def _add_grey(drawing: Any, trials: Sequence[FrozenTrial]) -> None:
    """All curves as one line with gaps: thousands of lines would take a browser minutes."""
    x: list[float] = []
    y: list[float | None] = []
    names: list[list[int]] = []
    sizes: list[int] = []
    for trial in trials:
        for number, values in enumerate(_curves(trial)):
            if not _is_curve(values):
                continue
            x += [*range(len(values)), len(values) - 1]
            y += [*values, None]
            names += [[trial.number, number]] * (len(values) + 1)
            sizes += [6 if len(values) == 1 else 0] * (len(values) + 1)  # one value alone makes no line
    if x:
        drawing.add_scatter(
            x=np.array(x, dtype=np.int32),
            y=np.array(y, dtype=np.float32),
            customdata=np.array(names, dtype=np.int32),
            mode="lines+markers",
            line={"color": _GREY, "width": 1},
            marker={"color": _GREY, "size": np.array(sizes, dtype=np.uint8), "line": {"width": 0}},
            hovertemplate="epoch %{x}: %{y}<extra>trial %{customdata[0]}, fold %{customdata[1]}</extra>",
            showlegend=False,
        )


def importance(study: Study) -> Block:
    """How much of the variance each searched value explains."""
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < MIN_TRIALS:
        return f"It is estimated from {MIN_TRIALS} complete trials on."
    try:
        drawing = _quietly(visualization.plot_param_importances, study)
    except (ValueError, RuntimeError) as error:  # nothing differs
        return f"It cannot be estimated: {error}"
    if not drawing.data:
        return "Nothing was searched."
    height_px = 160 + 28 * len(drawing.data[0].y)
    return finished(drawing, ("share of importance (0 to 1)", "searched value (path)"), height_px=height_px)


def parallel_coordinates(study: Study) -> list[Block]:
    """Complete trials across the searched values."""
    shown, sentence = _of_complete(study, _MOST_LINES)
    n_axes = 1 + len(_searched(shown))
    if n_axes == 1:
        return ["Nothing was searched, or no trial is complete."]
    drawing = _quietly(visualization.plot_parallel_coordinate, shown, target_name=SPEARMAN)
    found = finished(drawing, height_px=480, min_width_px=max(360, 130 * n_axes))
    drawing.update_layout(margin={"l": 90, "r": 90, "t": 40, "b": 90})
    drawing.for_each_trace(_turn_colour_scale)
    _thin_labels(drawing)
    return [*sentence, found]


def slices(study: Study) -> list[Block]:
    """The value against each searched value."""
    shown, sentence = _of_complete(study, _MOST_TRIALS)
    names = _searched(shown)
    if not names:
        return ["Nothing was searched, or no trial is complete."]
    drawing = _quietly(visualization.plot_slice, shown, target_name=SPEARMAN)
    drawing.update_layout(width=None)
    drawing.for_each_trace(_turn_colour_scale)
    return [*sentence, finished(drawing, height_px=400, min_width_px=max(360, 240 * len(names)))]


def _of_complete(study: Study, most: int) -> tuple[Study, list[Block]]:
    """The complete trials that figures with a mark for each trial and searched value show, and what is said of them."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    shown, sentence = _thinned(complete, most, "complete trials")
    return snapshot(study, shown), sentence


def _thinned(trials: Sequence[FrozenTrial], most: int, what: str) -> tuple[list[FrozenTrial], list[Block]]:
    """At most that many trials in the order of their numbers, and a sentence if some are left out.

    A fifth of them are the best, the others are spread evenly over the rest.
    """
    if len(trials) <= most:
        return list(trials), []
    shown = {trial.number for trial in best_trials(trials, max(1, most // 5))}
    n_best = len(shown)
    others = [trial.number for trial in trials if trial.number not in shown]
    places = np.linspace(0, len(others) - 1, max(0, most - n_best)).round().astype(int)
    shown.update(others[place] for place in places)
    sentence = f"Of {len(trials):,} {what} {len(shown):,} are shown: the best {n_best:,}, and others spread evenly."
    return [trial for trial in trials if trial.number in shown], [sentence]


def _curves(trial: FrozenTrial) -> list[list[float | None]]:
    """Values by fold and epoch."""
    result = trial.user_attrs.get(RESULT)
    return [] if result is None else result["values"]


def _is_curve(values: Sequence[float | None]) -> bool:
    return any(value is not None for value in values)


def measured_against_predicted(predictions: Predictions, units: str) -> tuple[Drawing, Drawing]:
    """Predictions over measurements, and residuals over predictions."""
    rows = np.linspace(0, len(predictions.row) - 1, min(len(predictions.row), _MOST_POINTS)).round().astype(int)
    target, prediction = predictions.target[rows], predictions.prediction[rows]
    hover, errors = [f"row {row}" for row in predictions.row[rows]], prediction - target
    points = {"text": hover, "mode": "markers", "name": "validation sequences"}
    low, high = float(target.min()), float(target.max())
    dashed = {"color": _GREY, "dash": "dash"}
    dots: dict[str, Any] = {"size": 5, "opacity": 0.6}
    fit, residuals = go.Figure(), go.Figure()
    fit.add_scatter(x=[low, high], y=[low, high], mode="lines", line=dashed, name="predicted = measured")
    fit.add_scatter(x=target, y=prediction, marker={**dots, "color": _BLUE}, **points)
    residuals.add_hline(y=0, line=dashed)
    residuals.add_scatter(x=prediction, y=errors, marker={**dots, "color": _ORANGE}, showlegend=False, **points)
    return (
        finished(fit, (f"measured ({units})", f"predicted<br>({units})"), height_px=460),
        finished(residuals, (f"predicted ({units})", f"predicted − measured<br>({units})"), height_px=400),
    )


def n_shown(predictions: Predictions) -> int:
    """How many points the figures show."""
    return min(len(predictions.row), _MOST_POINTS)


def _searched(study: Study) -> set[str]:
    return {name for trial in study.get_trials(deepcopy=False) for name in trial.params}


def _thin_labels(drawing: Any) -> None:
    """Leave out a number on an axis where it would be written into the one at the axis's nearer end."""
    kept = []
    for label in drawing.layout.annotations:
        to_end = min(label.y, 1 - label.y)
        if to_end == 0 or to_end > _LABEL_HEIGHT:
            label.update(bgcolor="rgba(255, 255, 255, 0.8)")
            kept.append(label)
    drawing.layout.annotations = kept


def _turn_colour_scale(trace: Any) -> None:
    """Its title beside it: above it, it would be cut off."""
    if "marker" in trace and trace.marker.colorbar.title.text:
        trace.marker.colorbar.title.side = "right"


def _quietly(plot: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """A figure of Optuna's, without its warnings of parameters that it leaves out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plot(*given, **named)
