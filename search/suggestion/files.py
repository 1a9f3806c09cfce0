"""The files of a plate: FILE.csv, and FILE.json, which says what it was made of, so that a later table can."""

import contextlib
import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from datasets.common.errors import UserError
from datasets.common.files import check_output, is_stream, output, refuse_same_file
from datasets.splits.prepared import PreparedSplit
from search.experiments.experiment import Experiment
from search.experiments.requirements import files_of_training
from search.experiments.trained import TrainedExperiment
from search.options.of_suggest import BATCH_UCB
from search.prediction.writers import no_formula
from search.reporting.mutation_figure import check_figure
from search.request.suggest_request import SuggestRequest
from search.suggestion.plate import NextPlate, Well

VERSION = 1
"""Of FILE.json; counts up with every change that a reader has to know."""
_OPTION = "--output"


def files_of(request: SuggestRequest) -> tuple[Path, ...]:
    """What is written: the plate, and what it was made of."""
    return () if request.output is None else (request.output, request.output.with_suffix(".json"))


def _written(request: SuggestRequest) -> list[tuple[str, Path]]:
    """All that is written, each with its option."""
    figure = [] if request.figure is None else [("--figure", request.figure)]
    return [*((_OPTION, path) for path in files_of(request)), *figure]


def check_files(request: SuggestRequest) -> None:
    """Refuse what would only be found at the end."""
    if request.output is not None and (request.output.suffix.lower() != ".csv" or is_stream(request.output)):
        raise UserError(
            f"--output {request.output} is not valid: expected a file that ends in .csv; beside it one in .json says "
            "what the plate was made of."
        )
    inputs = {
        "the --input": request.input,
        "the --data": request.data,
        "the --zero-shot-file": request.zero_shot_file,
        "the --alignment": request.alignment,
        "the --embeddings": request.embeddings,
        "the experiment": request.experiment,
    }
    if request.figure is not None:
        check_figure(request.figure)
    for option, path in _written(request):
        check_output(path, option)
        for name, given in inputs.items():
            if given is not None:
                refuse_same_file(given, path, name, option)


def refuse_inputs_of(experiment: Experiment, request: SuggestRequest) -> None:
    """Refuse an output that is a file which the experiment was trained with."""
    for option, path in _written(request):
        for name, given in files_of_training(experiment, request.data).items():
            refuse_same_file(given, path, name, option)


def write_plate(
    plate: NextPlate, request: SuggestRequest, trained: TrainedExperiment, split: PreparedSplit, checksum: str
) -> None:
    """Write both files beside their places and move them there; after an error they are as they were.

    `checksum` is that of the experiment.

    Raises:
        UserError: They cannot be written.
    """
    table, about = files_of(request)
    text = as_csv(plate.wells, has_names=request.names)
    known = json.dumps(_about(plate, request, trained, split, checksum, text), indent=2, allow_nan=False) + "\n"
    with contextlib.ExitStack() as stack:
        stack.enter_context(output(about)).write(known)
        stack.enter_context(output(table)).write(text)


def as_csv(wells: Sequence[Well], *, has_names: bool) -> str:
    """The wells as a table; a name that a spreadsheet would compute has an apostrophe before it."""
    columns = [field.name for field in fields(Well) if has_names or field.name != "name"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for well in wells:
        writer.writerow([cell(name, getattr(well, name)) for name in columns])
    return text.getvalue()


def candidates_in_words(request: SuggestRequest) -> dict[str, Any]:
    """Where the candidates come from."""
    if request.input is not None:
        return {"file": str(request.input)}
    if request.mutagenesis is not None:
        kind, sites = request.mutagenesis
        return {"mutagenesis": kind, "sites": list(sites)}
    return {"recombine": request.recombine or None, "max_mutations": request.most_mutations}


def cell(column: str, value: object) -> str:
    """What stands in a column of a plate; of its texts names alone are free: an aligned sequence may begin with `-`."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    return no_formula(str(value)) if column == "name" else str(value)


def _about(
    plate: NextPlate,
    request: SuggestRequest,
    trained: TrainedExperiment,
    split: PreparedSplit,
    checksum: str,
    text: str,
) -> dict[str, Any]:
    candidates: dict[str, Any] = {"n": plate.n_candidates, "n_measured": plate.n_known, "n_in_test": plate.n_tested}
    candidates |= candidates_in_words(request)
    choice: dict[str, Any] = {"acquisition": request.acquisition, "seed": request.seed}
    if request.acquisition in ("ucb", BATCH_UCB):
        choice["beta"] = request.deviations
    if request.spread_weight is not None:
        choice |= {"spread": request.spread_weight, "spread_by": plate.spread_by}
    return {
        "version": VERSION,
        "experiment": {"file": str(request.experiment), "checksum": checksum, "weights": trained.made_by},
        "data": {"label": split.label, "sha256": split.data_hash},
        "candidates": candidates,
        "choice": {**choice, "max_per_position": request.max_per_position, "min_distance": request.min_distance},
        "best_measured": {"sequence": plate.best_sequence, "value": plate.best_value, "units": plate.units},
        "plate": {
            "file": files_of(request)[0].name,
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "wells": request.plate,
            "n_candidates": len(plate.candidates),
            "n_controls": len(plate.wells) - len(plate.candidates),
        },
    }
