"""The predict command: any number of candidates, ranked."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

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
    from datasets.splits.prepared import PreparedSplit
    from search.experiments.experiment import Experiment
    from search.experiments.trained import TrainedExperiment
    from search.prediction.ranking import Chances
    from search.prediction.writers import Kind


_NEW_EXPORT = (
    "intervals need an export by this version; the same search command with another --export-dir makes one, where the "
    "runs directory holds what the trial predicted"
)


class _Terminated(BaseException):
    """SIGTERM came."""


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict, rank, write; nothing is left of an output that did not become whole."""
    # Idle threads of OpenMP would spin and take the cores from those that read and write; see search.workers.child.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        with sigterm_raised(_Terminated):
            return _predict(arguments)
    except KeyboardInterrupt:
        what = (
            "what stands on standard output, if anything, is not all"
            if arguments.output == STANDARD
            else "nothing was written"
        )
        print(f"Interrupted: {what}.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except _Terminated:
        return EXIT_TERMINATED


def _predict(arguments: argparse.Namespace) -> int:
    from search.experiments.experiment import load_experiment
    from search.prediction.writers import kind_of

    started = time.monotonic()
    kind = kind_of(arguments.output)
    _check(arguments)
    announce = announcer(arguments.quiet)
    experiment = load_experiment(arguments.file, announce)  # before torch, and whatever else takes time
    _refuse_inputs_of(experiment, arguments)
    places = places_of(arguments.weights_dir, arguments.runs_dir)

    from search.experiments.trained import TrainedExperiment

    trained = TrainedExperiment(arguments.file, places=places, announce=announce)
    _refuse_intervals(trained, arguments)
    split = _training_data(arguments, trained, announce)
    with contextlib.nullcontext() if arguments.input is None else rereadable(arguments.input) as path:
        _rank(arguments, path, trained, split, kind, started)
    return 0


def _training_data(
    arguments: argparse.Namespace, trained: "TrainedExperiment", announce: Callable[[str], None]
) -> "PreparedSplit | None":
    """What the experiment was trained on; None where nothing asks for it.

    Raises:
        UserError: It is not found, or has changed; the sentence says how to do without it.
    """
    from search.experiments.requirements import check_data

    if arguments.no_distance and trained.familiar is not None:
        return None
    without = (
        "this experiment is of an older version, and names too little of its training data to predict without it"
        if trained.familiar is None
        else "or leave the distance to it out with --no-distance, which needs no training data"
    )
    try:
        split = load_split(
            task_of(trained.config, arguments.data),
            arguments.data_dir,
            arguments.runs_dir,
            announce,
            weights_dir=arguments.weights_dir,
        )
        check_data(arguments.file, trained.config, trained.provenance, split)
    except UserError as error:
        raise UserError(f"{str(error).removesuffix('.')}; {without}.") from None
    return split


def _rank(
    arguments: argparse.Namespace,
    path: Path | None,
    trained: "TrainedExperiment",
    split: "PreparedSplit | None",
    kind: "Kind",
    started: float,
) -> None:
    """Rank the candidates in `path`, or those of --mutagenesis."""
    from datasets.candidates.outside import Outside
    from search.prediction.prefetch import ahead, in_order
    from search.prediction.ranking import Valuation, divide_cores, write_all, write_top
    from search.prediction.writers import columns_of
    from search.stats.calibration import LEVEL

    stream = _stream(arguments, path, trained)
    scores = trained.candidate_scores(
        file=arguments.zero_shot_file,
        sums=arguments.sum_zero_shot,
        given=stream.scores,
        alignment=arguments.alignment,
    )
    embeddings = trained.candidate_embeddings(arguments.embeddings)
    level = arguments.level or LEVEL
    columns = columns_of(
        stream.label,
        has_names=arguments.names,
        is_calibrated=trained.calibration is not None,
        has_chance=arguments.top_chance is not None,
    )
    counter = Counter(stream.n_total, is_quiet=arguments.quiet)
    outside = Outside(
        _familiar(trained, split), task=trained.task, crop=trained.config.data.crop, limit=trained.predictor.limit
    )
    training = None if arguments.no_distance else _training(trained, split)
    chances = _chances(trained, arguments.top_chance)
    n_threads = divide_cores(trained.predictor)
    # A thread reads on while others compute.
    with embeddings as embedded, counter, contextlib.closing(ahead(stream.blocks)) as blocks:
        valuation = Valuation(
            path,
            trained,
            outside,
            training,
            kind,
            scores,
            embedded,
            level=level,
            has_chance=arguments.top_chance is not None,
        )
        if arguments.top is None:
            with contextlib.closing(in_order(valuation.rows, blocks, n_threads, valuation.stop)) as rows:
                predictions, n_outside = write_all(counter.counted(rows), arguments.output, kind, columns, chances)
        else:
            with contextlib.closing(in_order(valuation.values, blocks, n_threads, valuation.stop)) as values:
                predictions, n_outside = write_top(
                    counter.counted(values), valuation.complete, arguments.output, kind, columns, arguments.top, chances
                )
    if not arguments.quiet:
        seconds = time.monotonic() - started
        where = "" if arguments.output == STANDARD else f": {arguments.output}"
        models = "1 model" if trained.n_members == 1 else f"{trained.n_members} models"
        print(
            f"{counter.n_done:,} candidates ranked by {models} in {seconds:.1f} s{where}\n"
            f"Highest prediction {predictions.max():.4g} ({trained.task.units}; trained on {trained.provenance.data}); "
            f"{n_outside:,} of {len(predictions):,} written rows lie outside of what was trained on.\n"
            f"{_about_intervals(trained, level)}",
            file=sys.stderr,
        )


def _refuse_intervals(trained: "TrainedExperiment", arguments: argparse.Namespace) -> None:
    """Refuse what an experiment cannot say that holds no errors."""
    for option in ("level", "top_chance"):
        if trained.calibration is None and getattr(arguments, option) is not None:
            raise UserError(
                f"--{option.replace('_', '-')} needs the errors on validated rows, which {arguments.file} does not "
                f"hold: {_NEW_EXPORT}."
            )


def _chances(trained: "TrainedExperiment", k: int | None) -> "Chances | None":
    """What makes chances of all candidates' predictions and deviations; None where nobody asks.

    Raises:
        UserError: There are no more candidates than k.
    """
    calibration = trained.calibration
    if k is None or calibration is None:
        return None

    from search.stats.top_chance import N_ATOMS, top_chance

    def chances(prediction: "NDArray[np.float32]", deviation: "NDArray[np.floating]") -> "NDArray[np.float32]":
        if k >= len(prediction):
            raise UserError(
                f"--top-chance {k} is not valid for {len(prediction)} candidates, which would all be among the best "
                f"{k}: expected fewer than there are candidates."
            )
        return top_chance(prediction, deviation, calibration.atoms(N_ATOMS), k)

    return chances


def _about_intervals(trained: "TrainedExperiment", level: float) -> str:
    """What low and high are made of, and for what they hold."""
    calibration = trained.calibration
    if calibration is None:
        return f"No intervals: {trained.path} holds no errors on validated rows; {_NEW_EXPORT}."
    share = f"{100 * level:.4g} %"
    if not calibration.is_enough(level):
        return f"No {share} intervals: {calibration.n:,} validated rows are too few for them; low and high are empty."
    way = "CV+ of the folds" if calibration.is_by_fold else "split-conformal"
    if trained.origin == "confirm":
        way = "split-conformal, because the weights are not those of the folds but of `confirm`"
    return (
        f"{share} intervals from the errors on {calibration.n:,} rows ({calibration.validated}; {way}): they hold for "
        "rows of that kind, and stand nowhere where a row lies outside."
    )


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would only be found at the end."""
    if arguments.names and arguments.input is None:
        raise UserError("--names goes with --input: variants of --mutagenesis are called by their mutations.")
    if arguments.sum_zero_shot and arguments.zero_shot_file is None:
        raise UserError("--sum-zero-shot adds up scores of single mutations: name their file with --zero-shot-file.")
    check_output(arguments.output)
    inputs = {
        "the --input": arguments.input,
        "the --data": arguments.data,
        "the --zero-shot-file": arguments.zero_shot_file,
        "the --alignment": arguments.alignment,
        "the --embeddings": arguments.embeddings,
        "the experiment": arguments.file,
    }
    for name, given in inputs.items():
        if given is not None:
            refuse_same_file(given, arguments.output, name)


def _refuse_inputs_of(experiment: "Experiment", arguments: argparse.Namespace) -> None:
    """Refuse an output that is a file which the experiment was trained with."""
    config = experiment.config
    if arguments.data is None and config.table is not None:
        refuse_same_file(Path(config.table.file), arguments.output, "the experiment's table")
    for source in [] if config.scores is None else config.scores.sources:
        if source.file is not None:
            refuse_same_file(Path(source.file), arguments.output, f"the file of the experiment's {source.columns[0]!r}")
    if (embeddings := experiment.embeddings) is not None:
        refuse_same_file(Path(embeddings.file), arguments.output, "the file of the experiment's embeddings")


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
