"""The files that `predict` reads and writes, checked before anything is computed, and the candidates in them."""

import argparse
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.common.errors import UserError
from datasets.common.files import check_output, refuse_same_file
from search.config.run_config import task_of
from search.experiments.experiment import Experiment
from search.experiments.requirements import files_of_training
from search.prediction.writers import kind_of
from search.properties.request import PredictRequest
from search.reporting.mutation_figure import check_figure

if TYPE_CHECKING:
    from datasets.candidates.candidates import Stream
    from datasets.candidates.measured import LeftOut
    from datasets.splits.prepared import PreparedSplit
    from datasets.tasks.own_table import TableSource
    from search.experiments.trained import TrainedExperiment


def check_files(arguments: argparse.Namespace) -> None:
    """Refuse what would only be found at the end."""
    if arguments.output is not None:
        kind_of(arguments.output)
    if arguments.figure is not None:
        _check_figure(arguments.figure, arguments)
    if arguments.names and arguments.mutagenesis is not None:
        raise UserError("--names goes with --input: variants of --mutagenesis are called by their mutations.")
    for option in ("sequence_column", "mutation_column", "sheet", "format"):
        if getattr(arguments, option) is not None and arguments.input is None:
            raise UserError(f"--{option.replace('_', '-')} says how the --input is read: name that file too.")
    if arguments.sum_zero_shot and arguments.zero_shot_file is None:
        raise UserError("--sum-zero-shot adds up scores of single mutations: name their file with --zero-shot-file.")
    for option, path in _written(arguments):
        check_output(path, option)
    inputs = {
        "the --input": arguments.input,
        "the --data": arguments.data,
        "the --zero-shot-file": arguments.zero_shot_file,
        "the --alignment": arguments.alignment,
        "the --embeddings": arguments.embeddings,
        "the experiment": arguments.file,
    }
    for name, given in inputs.items():
        for option, path in _written(arguments):
            if given is not None:
                refuse_same_file(given, path, name, option)


def refuse_inputs_of(experiment: Experiment, arguments: argparse.Namespace) -> None:
    """Refuse an output that is a file which the experiment was trained with."""
    for option, path in _written(arguments):
        for name, given in files_of_training(experiment, arguments.data).items():
            refuse_same_file(given, path, name, option)


def _written(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """What is written, each with its option."""
    both = (("--output", arguments.output), ("--figure", arguments.figure))
    return [(option, path) for option, path in both if path is not None]


def _check_figure(figure: Path, arguments: argparse.Namespace) -> None:
    """Refuse a figure that could not be drawn, or that would replace the rows."""
    check_figure(figure)
    if arguments.mutagenesis is None or arguments.mutagenesis[0] != "singles":
        raise UserError("--figure draws a map of all single mutations: give --mutagenesis singles with it.")
    if arguments.exclude_measured:
        raise UserError("--figure draws a map of all single mutations: leave --exclude-measured out, or the figure.")
    if arguments.top is not None and arguments.output is None:
        raise UserError(
            "--top says how many rows are written, and a map shows all: name a file for them with --output."
        )
    if arguments.output is not None and os.path.realpath(figure) == os.path.realpath(arguments.output):
        raise UserError(f"--figure and --output are both {figure}: name two files.")


def candidates_of(
    arguments: argparse.Namespace,
    path: Path | None,
    trained: "TrainedExperiment",
    split: "PreparedSplit | None",
    left_out: "LeftOut",
) -> "Stream":
    """The candidates; `left_out` counts those that are not ranked, for they were measured."""
    from datasets.candidates.unmeasured import read_unmeasured
    from datasets.scores.candidates import lacking_in
    from search.properties import candidates
    from search.properties.opened import Property

    if arguments.unmeasured:
        scores, source = trained.config.scores, own_table(arguments, trained)
        wanted = () if scores is None else lacking_in(arguments.zero_shot_file, scores.names)
        return read_unmeasured(source, trained.task, left_out, has_names=arguments.names, scores=wanted)
    given = {field.name: getattr(arguments, field.name) for field in fields(PredictRequest) if field.name in arguments}
    request = PredictRequest(**{**given, "experiments": [arguments.file]})
    own = Property(name=arguments.file.stem, trained=trained, split=split)
    return candidates.candidates_of(request, path, [own], left_out)


def own_table(arguments: argparse.Namespace, trained: "TrainedExperiment") -> "TableSource":
    """The table that the experiment was trained on, where it stands now."""
    from datasets.tasks.own_table import TableSource

    source = task_of(trained.config, arguments.data).source
    if not isinstance(source, TableSource):
        raise UserError(
            f"--unmeasured ranks rows of a table of your own, and {arguments.file} was trained on {trained.task.name}: "
            "give candidates with --input or --mutagenesis."
        )
    return source
