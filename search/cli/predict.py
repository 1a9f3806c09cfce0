"""The predict command: any number of candidates, ranked."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from datasets.common.errors import UserError
from datasets.common.files import STANDARD, check_output, refuse_same_file, rereadable
from search.config.run_config import task_of
from search.machine.standard_streams import announcer
from search.prediction.display import Counter
from search.request.inputs import load_split, places_of
from search.workers.signals import EXIT_INTERRUPTED, EXIT_TERMINATED, sigterm_raised

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datasets.candidates.candidates import Stream
    from datasets.candidates.distances import TrainingSequences
    from datasets.candidates.training_domain import Familiar
    from datasets.scores.candidates import CandidateScores
    from datasets.splits.prepared import PreparedSplit
    from search.config.run_config import RunConfig
    from search.experiments.trained import TrainedExperiment
    from search.prediction.ranking import Unranked, Valued

_Block = TypeVar("_Block", "Unranked", "Valued")


class _Terminated(BaseException):
    """SIGTERM came."""


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict, rank, write; nothing is left of an output that did not become whole."""
    # Idle threads of OpenMP would spin and take the cores from those that read and write; see search.workers.child.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if arguments.output is None and arguments.figure is None:
        arguments.output = STANDARD
    try:
        with sigterm_raised(_Terminated):
            return _predict(arguments)
    except KeyboardInterrupt:
        what = (
            "what stands on standard output, if anything, is not all"
            if arguments.output == STANDARD
            else "what was not whole by then was not written"
        )
        print(f"Interrupted: {what}.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except _Terminated:
        return EXIT_TERMINATED


def _predict(arguments: argparse.Namespace) -> int:
    from search.experiments.experiment import load_experiment

    started = time.monotonic()
    _check(arguments)
    announce = announcer(arguments.quiet)
    experiment = load_experiment(arguments.file, announce)  # before torch, and whatever else takes time
    _refuse_inputs_of(experiment.config, arguments)
    places = places_of(arguments.weights_dir, arguments.runs_dir)

    from search.experiments.trained import TrainedExperiment

    trained = TrainedExperiment(arguments.file, places=places, announce=announce)
    split = _training_data(arguments, trained, announce)
    with contextlib.nullcontext() if arguments.input is None else rereadable(arguments.input) as path:
        _rank(arguments, path, trained, split, started)
    return 0


def _training_data(
    arguments: argparse.Namespace, trained: "TrainedExperiment", announce: Callable[[str], None]
) -> "PreparedSplit | None":
    """What the experiment was trained on; None where nothing asks for it.

    Raises:
        UserError: It is not found, or has changed; the sentence says how to do without it.
    """
    if arguments.no_distance and trained.familiar is not None:
        return None
    without = (
        "this experiment is of an older version, and names too little of its training data to predict without it"
        if trained.familiar is None
        else "or leave the distance to it out with --no-distance, which needs no training data"
    )
    try:
        split = load_split(task_of(trained.config, arguments.data), arguments.data_dir, arguments.runs_dir, announce)
        if split.data_hash != trained.provenance.data_hash:
            named = "folder with --data-dir" if trained.config.table is None else "file with --data"
            raise UserError(
                f"The data of {arguments.file} has changed: data_hash of the experiment is "
                f"{trained.provenance.data_hash[:12]}..., that of what was found {split.data_hash[:12]}... "
                f"({split.label}): name the right {named}."
            )
    except UserError as error:
        raise UserError(f"{str(error).removesuffix('.')}; {without}.") from None
    return split


def _rank(
    arguments: argparse.Namespace,
    path: Path | None,
    trained: "TrainedExperiment",
    split: "PreparedSplit | None",
    started: float,
) -> None:
    """Rank the candidates in `path`, or those of --mutagenesis, and draw the map of them that was asked for."""
    from datasets.candidates.outside import Outside
    from search.prediction.prefetch import ahead, in_order
    from search.prediction.ranking import Valuation, divide_cores, write_all, write_top
    from search.prediction.single_mutants import single_mutants
    from search.prediction.writers import columns_of, kind_of

    stream = single_mutants(trained) if arguments.figure else _stream(arguments, path, trained)
    scores = trained.candidate_scores(
        file=arguments.zero_shot_file,
        sums=arguments.sum_zero_shot,
        given=stream.scores,
        alignment=arguments.alignment,
    )
    columns = columns_of(stream.label, has_names=arguments.names)
    kind = kind_of(arguments.output or STANDARD)
    counter = Counter(stream.n_total, is_quiet=arguments.quiet)
    outside = Outside(
        _familiar(trained, split), task=trained.task, crop=trained.config.data.crop, limit=trained.predictor.limit
    )
    training = None if arguments.no_distance else _training(trained, split)
    valuation = Valuation(path, trained, outside, training, kind, scores)
    n_threads, stop = divide_cores(trained.predictor), valuation.stop
    kept: list[NDArray[np.float32]] | None = None if arguments.figure is None else []
    # A thread reads on while others compute.
    with counter, contextlib.closing(ahead(stream.blocks)) as blocks:
        if arguments.output is None:
            with contextlib.closing(in_order(valuation.values, blocks, n_threads, stop)) as values:
                kept = [block.prediction for block in counter.counted(values)]
        elif arguments.top is None:
            with contextlib.closing(in_order(valuation.rows, blocks, n_threads, stop)) as rows:
                found = _keeping(counter.counted(rows), kept)
                predictions, n_outside = write_all(found, arguments.output, kind, columns)
        else:
            with contextlib.closing(in_order(valuation.values, blocks, n_threads, stop)) as values:
                predictions, n_outside = write_top(
                    _keeping(counter.counted(values), kept),
                    valuation.complete,
                    arguments.output,
                    kind,
                    columns,
                    arguments.top,
                )
    if kept is not None:
        _draw(arguments, trained, kept, scores, split)
    if not arguments.quiet:
        seconds = time.monotonic() - started
        models = "1 model" if trained.n_members == 1 else f"{trained.n_members} models"
        if arguments.output is None:
            print(f"{counter.n_done:,} mutants predicted by {models} in {seconds:.1f} s", file=sys.stderr)
        else:
            where = "" if arguments.output == STANDARD else f": {arguments.output}"
            print(
                f"{counter.n_done:,} candidates ranked by {models} in {seconds:.1f} s{where}\n"
                f"Highest prediction {predictions.max():.4g} ({trained.task.units}; trained on "
                f"{trained.provenance.data}); {n_outside:,} of {len(predictions):,} written rows lie outside of what "
                "was trained on.",
                file=sys.stderr,
            )
        if arguments.figure is not None:
            print(f"Map: {arguments.figure}", file=sys.stderr)


def _keeping(blocks: Iterable[_Block], kept: "list[NDArray[np.float32]] | None") -> Iterator[_Block]:
    """The blocks, whose predictions are kept for a map, if there is to be one."""
    for block in blocks:
        if kept is not None:
            kept.append(block.prediction)
        yield block


def _draw(
    arguments: argparse.Namespace,
    trained: "TrainedExperiment",
    predictions: "list[NDArray[np.float32]]",
    scores: "CandidateScores | None",
    split: "PreparedSplit | None",
) -> None:
    from search.prediction.single_mutants import map_of
    from search.reporting.mutation_figure import save

    about = f"{arguments.file.name}: {trained.provenance.model or 'model'} trained on {trained.provenance.data}"
    save(map_of(trained, predictions, scores=scores, split=split), arguments.figure, about)


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would only be found at the end."""
    from search.prediction.writers import kind_of

    if arguments.output is not None:
        kind_of(arguments.output)
    if arguments.figure is not None:
        _check_figure(arguments.figure, arguments)
    if arguments.names and arguments.input is None:
        raise UserError("--names goes with --input: variants of --mutagenesis are called by their mutations.")
    if arguments.sum_zero_shot and arguments.zero_shot_file is None:
        raise UserError("--sum-zero-shot adds up scores of single mutations: name their file with --zero-shot-file.")
    for option, path in _written(arguments):
        check_output(path, option)
    inputs = {
        "the --input": arguments.input,
        "the --data": arguments.data,
        "the --zero-shot-file": arguments.zero_shot_file,
        "the --alignment": arguments.alignment,
        "the experiment": arguments.file,
    }
    for name, given in inputs.items():
        for option, path in _written(arguments):
            if given is not None:
                refuse_same_file(given, path, name, option)


def _refuse_inputs_of(config: "RunConfig", arguments: argparse.Namespace) -> None:
    """Refuse an output that is a file which the experiment was trained with."""
    for option, path in _written(arguments):
        if arguments.data is None and config.table is not None:
            refuse_same_file(Path(config.table.file), path, "the experiment's table", option)
        for source in [] if config.scores is None else config.scores.sources:
            if source.file is not None:
                named = f"the file of the experiment's {source.columns[0]!r}"
                refuse_same_file(Path(source.file), path, named, option)


def _written(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """What is written, each with its option."""
    both = (("--output", arguments.output), ("--figure", arguments.figure))
    return [(option, path) for option, path in both if path is not None]


def _check_figure(figure: Path, arguments: argparse.Namespace) -> None:
    """Refuse a figure that could not be drawn, or that would replace the rows."""
    from search.reporting.mutation_figure import FIGURES

    ending = figure.suffix.lower()
    if ending not in FIGURES:
        raise UserError(f"--figure {figure} ends in none of {', '.join(FIGURES)}: name a file that says its format.")
    if arguments.mutagenesis is None or arguments.mutagenesis[0] != "singles":
        raise UserError("--figure draws a map of all single mutations: give --mutagenesis singles with it.")
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


def _familiar(trained: "TrainedExperiment", split: "PreparedSplit | None") -> "Familiar":
    """What is known of the rows that the weights were trained on; of an older experiment the rows say it."""
    from search.study.training_rows import familiar_rows

    if trained.familiar is not None:
        return trained.familiar
    assert split is not None
    return familiar_rows(trained.config, split, trained.predictor.limit.max_residues)[trained.origin]


def _training(trained: "TrainedExperiment", split: "PreparedSplit | None") -> "TrainingSequences":
    from datasets.candidates.distances import TrainingSequences
    from search.study.training_rows import training_rows

    assert split is not None
    rows = training_rows(trained.config, split, trained.origin)
    crop, limit = trained.config.data.crop, trained.predictor.limit
    return TrainingSequences(split.residues[rows], split.lengths[rows], task=trained.task, crop=crop, limit=limit)


def _stream(arguments: argparse.Namespace, path: Path | None, trained: "TrainedExperiment") -> "Stream":
    from datasets.candidates.candidates import read_candidates
    from datasets.candidates.mutagenesis import Mutagenesis, enumerate_variants

    if path is not None:
        config = trained.config.scores
        wanted = config.names if config is not None and arguments.zero_shot_file is None else ()
        return read_candidates(path, trained.task, arguments.format, has_names=arguments.names, scores=wanted)
    kind, sites = arguments.mutagenesis
    variants, crop, limit = Mutagenesis(kind=kind, sites=sites), trained.config.data.crop, trained.predictor.limit
    return enumerate_variants(variants, task=trained.task, crop=crop, limit=limit)
