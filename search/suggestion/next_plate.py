"""The next plate of one experiment, or of several properties, and the files of the latter."""

import contextlib
import csv
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.common.files import output
from search.request.suggest_request import SuggestRequest
from search.suggestion.choice import GREEDY
from search.suggestion.figure import Scatter, draw_panels
from search.suggestion.files import VERSION, candidates_in_words, cell, files_of
from search.suggestion.plate import NextPlate
from search.suggestion.several import PropertiesPlate, suggest_several
from search.suggestion.suggest import suggest


def next_plate(request: SuggestRequest) -> NextPlate | PropertiesPlate:
    """Pick the next plate, and write it where the request names an output; errors are those of either."""
    if not (request.others or request.require):
        return suggest(request)
    request = replace(request, acquisition=request.acquisition or GREEDY)
    plate = suggest_several(request)
    if request.figure is not None:  # before the plate, so that what ends the drawing leaves no plate
        _draw(plate, request, request.figure)
    if request.output is not None:
        _write(plate, request)
    return plate


def _draw(plate: PropertiesPlate, request: SuggestRequest, path: Path) -> None:
    """Draw what is predicted of each further property against the first; of a single one the chance against it."""
    names = [one.name for one in plate.properties]
    columns, axes = [f"prediction_{name}" for name in names], [f"predicted {name}" for name in names]
    best: list[float | None] = [plate.best[name] for name in names]
    if len(names) == 1:
        columns, axes = ["prediction", "p_required"], [*axes, "chance to be what is required"]
        best.append(None)
    batch = np.array([[well[column] for column in columns] for well in plate.candidates], dtype=np.float64)
    panels = [
        Scatter(
            axes=(axes[0], axes[number]),
            others=plate.others[:, [0, number]].astype(np.float64),
            batch=batch[:, [0, number]],
            words=[well["mutations"] or f"candidate {well['rank']}" for well in plate.candidates],
            best=(best[0], best[number]),
        )
        for number in range(1, len(axes))
    ]
    sentences = [
        f"{len(plate.candidates):,} candidates of the batch, and the {len(plate.others):,} that come next, of "
        f"{plate.n_candidates:,}. The lines are at the best measured value of each property."
    ]
    about = f"{', '.join(names)}, by {plate.by}"
    draw_panels(panels, [well["mutations"] for well in plate.candidates], sentences, path, about)


def _write(plate: PropertiesPlate, request: SuggestRequest) -> None:
    """Write both files beside their places and move them there; after an error they are as they were.

    Raises:
        UserError: They cannot be written.
    """
    table, about = files_of(request)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(plate.wells[0])
    writer.writerows([cell(name, value) for name, value in well.items()] for well in plate.wells)
    known = json.dumps(_about(plate, request, text.getvalue()), indent=2, allow_nan=False) + "\n"
    with contextlib.ExitStack() as stack:
        stack.enter_context(output(about)).write(known)
        stack.enter_context(output(table)).write(text.getvalue())


def _about(plate: PropertiesPlate, request: SuggestRequest, text: str) -> dict[str, Any]:
    """What the plate was made of, with the names of a plate of one experiment where these say the same."""
    experiments = []
    for one in plate.properties:
        assert one.split is not None, "is read for a plate"
        experiments.append(
            {
                "property": one.name,
                "file": str(one.trained.path),
                "checksum": plate.checksums[one.name],
                "weights": one.trained.made_by,
                "data": {"label": one.split.label, "sha256": one.split.data_hash},
                "best_measured": {"value": plate.best[one.name], "units": one.units},
            }
        )
    choice: dict[str, Any] = {"acquisition": request.acquisition, "by": plate.by}
    if request.acquisition == "ucb":
        choice["beta"] = request.deviations
    if request.acquisition == "thompson":
        choice["seed"] = request.seed
    counts = {"n": plate.n_candidates, "n_measured": plate.n_known, "n_in_test": plate.n_tested}
    return {
        "version": VERSION,
        "experiments": experiments,
        "candidates": {**counts, **candidates_in_words(request)},
        "choice": {
            **choice,
            "require": [f"{one.property}{one.sign}{one.bound!r}" for one in request.require],
            "max_per_position": request.max_per_position,
            "min_distance": request.min_distance,
        },
        "plate": {
            "file": files_of(request)[0].name,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "wells": request.plate,
            "n_candidates": len(plate.candidates),
            "n_controls": len(plate.wells) - len(plate.candidates),
        },
    }
