"""The files that `predict` is given and writes, checked before anything is computed."""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

from datasets.common.errors import UserError
from datasets.common.files import check_output, refuse_same_file
from search.experiments.experiment import Experiment
from search.prediction.writers import kind_of
from search.reporting.mutation_figure import FIGURES


def check_files(arguments: argparse.Namespace) -> None:
    """Refuse what would only be found at the end."""
    if arguments.output is not None:
        kind_of(arguments.output)
    if arguments.figure is not None:
        _check_figure(arguments.figure, arguments)
    if arguments.names and arguments.mutagenesis is not None:
        raise UserError("--names goes with --input: variants of --mutagenesis are called by their mutations.")
    for option in ("sequence_column", "mutation_column", "sheet"):
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
    config, embeddings = experiment.config, experiment.embeddings
    for option, path in _written(arguments):
        if arguments.data is None and config.table is not None:
            refuse_same_file(Path(config.table.file), path, "the experiment's table", option)
        for source in [] if config.scores is None else config.scores.sources:
            if source.file is not None:
                named = f"the file of the experiment's {source.columns[0]!r}"
                refuse_same_file(Path(source.file), path, named, option)
        if embeddings is not None:
            refuse_same_file(Path(embeddings.file), path, "the file of the experiment's embeddings", option)


def _written(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """What is written, each with its option."""
    both = (("--output", arguments.output), ("--figure", arguments.figure))
    return [(option, path) for option, path in both if path is not None]


def _check_figure(figure: Path, arguments: argparse.Namespace) -> None:
    """Refuse a figure that could not be drawn, or that would replace the rows."""
    ending = figure.suffix.lower()
    if ending not in FIGURES:
        raise UserError(f"--figure {figure} ends in none of {', '.join(FIGURES)}: name a file that says its format.")
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
    if ending != ".html" and find_spec("matplotlib") is None:
        raise UserError(
            f"--figure {figure} needs matplotlib, which is not installed: pip install matplotlib, or name a file.html."
        )
