"""The predict command: any number of candidates, ranked."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from datasets.common.errors import UserError
from datasets.common.files import STANDARD, rereadable
from search.config.run_config import task_of
from search.machine.standard_streams import announcer
from search.prediction.display import Counter
from search.request.inputs import load_split, places_of
from search.workers.signals import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, sigterm_raised

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datasets.candidates.distances import TrainingSequences
    from datasets.candidates.training_domain import Familiar
    from datasets.splits.prepared import PreparedSplit
    from search.experiments.trained import TrainedExperiment
    from search.prediction.ranking import Unranked, Valuation, Valued

_Block = TypeVar("_Block", "Unranked", "Valued")


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict, rank, write; nothing is left of an output that did not become whole."""
    # Idle threads of OpenMP would spin and take the cores from those that read and write; see search.workers.child.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if arguments.output is None and arguments.figure is None:
        arguments.output = STANDARD
    try:
        with sigterm_raised():
            return _predict(arguments)
    except KeyboardInterrupt:
        what = (
            "what stands on standard output, if anything, is not all"
            if arguments.output == STANDARD
            else "an output that was not finished is not written"
        )
        print(f"Interrupted: {what}.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED


def _predict(arguments: argparse.Namespace) -> int:
    if arguments.others or arguments.require:
        from search.cli.experiments.predict_several import predict_several

        return predict_several(arguments)

    from search.cli.experiments.predict_files import check_files, own_table, refuse_inputs_of
    from search.experiments.experiment import load_experiment

    started = time.monotonic()
    check_files(arguments)
    announce = announcer(arguments.quiet)
    experiment = load_experiment(arguments.file, announce)  # before torch, and whatever else takes time
    refuse_inputs_of(experiment, arguments)
    places = places_of(arguments.weights_dir, arguments.runs_dir)

    from search.experiments.trained import TrainedExperiment
    from search.prediction.intervals import check_intervals

    trained = TrainedExperiment(arguments.file, places=places, announce=announce)
    check_intervals(trained, arguments.level, arguments.top_chance)
    split = _training_data(arguments, trained, announce)
    table = own_table(arguments, trained).path if arguments.unmeasured else None
    with contextlib.nullcontext(table) if arguments.input is None else rereadable(arguments.input) as path:
        _rank(arguments, path, trained, split, started)
    return 0


def _training_data(
    arguments: argparse.Namespace, trained: "TrainedExperiment", announce: Callable[[str], None]
) -> "PreparedSplit | None":
    """What the experiment was trained on; None where nothing asks for it.

    Raises:
        UserError: It is not found, or has changed; the sentence says how to do without it.
    """
    from search.experiments.requirements import check_data

    excludes = arguments.exclude_measured and not arguments.unmeasured  # which leaves measured variants out anyway
    if arguments.no_distance and trained.familiar is not None and not excludes:
        return None
    without = "or leave the distance to it out with --no-distance, which needs no training data"
    if trained.familiar is None:
        without = (
            "this experiment is of an older version, and names too little of its training data to predict without it"
        )
    elif excludes:
        without = "without it nobody knows what was measured: leave --exclude-measured out, and give --no-distance"
    try:
        split = load_split(
            task_of(trained.config, arguments.data, alignment=arguments.alignment),
            arguments.data_dir,
            arguments.runs_dir,
            announce,
            weights_dir=arguments.weights_dir,
        )
        check_data(arguments.file, trained.config, trained.provenance, split)
    except UserError as error:
        if arguments.unmeasured:  # whose candidates stand in it
            raise
        if trained.scores is not None and trained.scores.used:
            # Of what candidates are scored by too, and is not to be had, its own sentence says all.
            file, names = arguments.zero_shot_file, trained.scores.names
            trained.candidate_scores(file=file, given=names, alignment=arguments.alignment)
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
    from datasets.candidates.measured import LeftOut
    from datasets.candidates.outside import Outside
    from search.cli.experiments.predict_files import candidates_of
    from search.prediction.divided_cores import divided_cores
    from search.prediction.intervals import about_intervals, chances_of
    from search.prediction.prefetch import ahead, in_order
    from search.prediction.ranking import Valuation, write_all, write_top
    from search.prediction.single_mutants import single_mutants
    from search.prediction.writers import columns_of, kind_of
    from search.stats.calibration import LEVEL

    left_out = LeftOut()
    stream = single_mutants(trained) if arguments.figure else candidates_of(arguments, path, trained, split, left_out)
    scores = trained.candidate_scores(
        file=arguments.zero_shot_file,
        sums=arguments.sum_zero_shot,
        given=stream.scores,
        alignment=arguments.alignment,
    )
    embeddings = trained.candidate_embeddings(arguments.embeddings)
    level, has_chance = arguments.level or LEVEL, arguments.top_chance is not None
    columns = columns_of(
        stream.label,
        has_names=arguments.names,
        is_calibrated=trained.calibration is not None,
        has_chance=has_chance,
    )
    kind = kind_of(arguments.output or STANDARD)
    counter = Counter(stream.n_total, is_quiet=arguments.quiet)
    outside = Outside(
        _familiar(trained, split), task=trained.task, crop=trained.config.data.crop, limit=trained.predictor.limit
    )
    training = None if arguments.no_distance else _training(trained, split)
    chances = chances_of(trained, arguments.top_chance)
    kept: list[NDArray[np.float32]] | None = None if arguments.figure is None else []
    # A thread reads on while others compute.
    with (
        divided_cores([trained.predictor]) as n_threads,
        embeddings as embedded,
        counter,
        contextlib.closing(ahead(stream.blocks)) as blocks,
    ):
        valuation = Valuation(
            path, trained, outside, training, kind, scores, embedded, level=level, has_chance=has_chance
        )
        stop = valuation.stop
        if arguments.output is None:
            with contextlib.closing(in_order(valuation.values, blocks, n_threads, stop)) as values:
                kept = [block.prediction for block in counter.counted(values)]
        elif arguments.top is None:
            with contextlib.closing(in_order(valuation.rows, blocks, n_threads, stop)) as rows:
                found = _keeping(counter.counted(rows), kept)
                predictions, n_outside = write_all(found, arguments.output, kind, columns, chances)
        else:
            with contextlib.closing(in_order(valuation.values, blocks, n_threads, stop)) as values:
                predictions, n_outside = write_top(
                    _keeping(counter.counted(values), kept),
                    valuation.complete,
                    arguments.output,
                    kind,
                    columns,
                    arguments.top,
                    chances,
                )
        if kept is not None:
            _draw(arguments, trained, kept, valuation, split)
    if not arguments.quiet:
        if left_out.n:
            print(left_out.sentence, file=sys.stderr)
        if scores is not None:
            scores.announce_lacking()
        announce, seconds = announcer(arguments.quiet), time.monotonic() - started
        models = "1 model" if trained.n_members == 1 else f"{trained.n_members} models"
        if arguments.output is None:
            print(f"{counter.n_done:,} mutants predicted by {models} in {seconds:.1f} s", file=sys.stderr)
        else:
            where = "" if arguments.output == STANDARD else f": {arguments.output}"
            announce(
                f"{counter.n_done:,} candidate{'' if counter.n_done == 1 else 's'} ranked by {models} in "
                f"{seconds:.1f} s{where}\n"
                f"Highest prediction {predictions.max():.4g} ({trained.task.units}; trained on "
                f"{trained.provenance.data}); {n_outside:,} of {len(predictions):,} written rows lie outside of what "
                f"was trained on.\n{about_intervals(trained, level)}"
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
    valuation: "Valuation",
    split: "PreparedSplit | None",
) -> None:
    from search.prediction.single_mutants import map_of
    from search.reporting.mutation_figure import save

    model = trained.provenance.model or "model"
    if trained.ensemble is not None:
        model = f"ensemble of {len(trained.ensemble.members)}"
    about = f"{arguments.file.name}: {model} trained on {trained.provenance.data}"
    save(map_of(trained, predictions, beside=valuation.beside, split=split), arguments.figure, about)


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
