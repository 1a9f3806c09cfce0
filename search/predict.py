"""The predict command: any number of candidates, ranked."""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from datasets.errors import SequenceError, UserError
from search.inputs import announcer, load_split, places_of
from search.prediction_counter import Counter
from search.schema import task_of

if TYPE_CHECKING:
    from datasets.candidates import Candidates, Stream
    from datasets.familiar import Familiar
    from datasets.prepared import PreparedSplit
    from search.ranked_output import Predicted
    from search.ranking import Values
    from search.trained import TrainedExperiment


class _Terminated(BaseException):
    """SIGTERM came."""


def run_predict(arguments: argparse.Namespace) -> int:
    """Predict, rank, write; nothing is left of an output that did not become whole."""
    # Idle threads of OpenMP would spin and take the cores from those that read and write; see search.isolation.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        with _sigterm_raised():
            return _predict(arguments)
    except KeyboardInterrupt:
        print("Interrupted: nothing was written.", file=sys.stderr)
        return 128 + signal.SIGINT
    except _Terminated:
        return 128 + signal.SIGTERM


def _predict(arguments: argparse.Namespace) -> int:
    from search.experiment import load_experiment
    from search.ranked_output import kind_of

    started = time.monotonic()
    kind = kind_of(arguments.output)
    _check_paths(arguments)
    load_experiment(arguments.file)  # before torch, and whatever else takes time
    places = places_of(arguments)

    import torch

    from search.machine import usable_cores
    from search.trained import TrainedExperiment, combined

    announce = announcer(arguments.quiet)
    trained = TrainedExperiment(arguments.file, places=places, announce=announce)
    torch.set_num_threads(trained.config.trainer.threads or usable_cores())
    task = task_of(trained.config, arguments.data)
    split = load_split(task, arguments.data_dir, arguments.runs_dir, announce)
    if split.data_hash != trained.provenance.data_hash:
        named = "folder with --data-dir" if trained.config.table is None else "file with --data"
        raise UserError(
            f"The data of {arguments.file} has changed: data_hash of the experiment is "
            f"{trained.provenance.data_hash[:12]}..., that of what was found {split.data_hash[:12]}... "
            f"({split.label}): name the right {named}."
        )
    familiar = _familiar(trained, split)
    stream = _stream(arguments, trained)
    counter = Counter(stream.n_total, is_quiet=arguments.quiet)

    from search.ranking import write_all, write_top

    def complete(candidates: "Candidates", values: "Values") -> "Predicted":
        if trained.predictor.knows_deviation:
            own = trained.predictor.deviation(candidates.residues, candidates.lengths)
            values = values[0], combined(own, values[1])
        return _completed(candidates, values, familiar, has_distance=not arguments.no_distance)

    with counter:
        blocks = _predictions(arguments.input, trained, stream, counter)
        with contextlib.closing(blocks):
            if arguments.top is None:
                predictions, n_outside = write_all(blocks, complete, arguments.output, kind, stream.label)
            else:
                predictions, n_outside = write_top(
                    blocks, complete, arguments.output, kind, stream.label, arguments.top
                )
    if not arguments.quiet:
        seconds = time.monotonic() - started
        where = "" if arguments.output is None else f": {arguments.output}"
        models = "1 model" if trained.n_members == 1 else f"{trained.n_members} models"
        print(
            f"{counter.n_done:,} candidates ranked by {models} in {seconds:.1f} s{where}\n"
            f"Highest prediction {predictions.max():.4g} ({trained.task.units}; trained on {split.label}); "
            f"{n_outside:,} of {len(predictions):,} written rows lie outside of what was trained on.",
            file=sys.stderr,
        )
    return 0


def _check_paths(arguments: argparse.Namespace) -> None:
    """Refuse what would only be found at the end."""
    output: Path | None = arguments.output
    if output is None:
        return
    if not output.parent.is_dir():
        raise UserError(f"There is no folder {output.parent} for --output {output}: make it, or name another.")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: name a file in it.")
    if not os.access(output.parent, os.W_OK):
        raise UserError(f"The folder {output.parent} of --output {output} cannot be written: name another.")
    if (
        arguments.input is not None
        and output.exists()
        and arguments.input.exists()
        and output.samefile(arguments.input)
    ):
        raise UserError(f"--output {output} is the --input itself: name another file.")


def _familiar(trained: "TrainedExperiment", split: "PreparedSplit") -> "Familiar":
    """What the weights were trained on: by the search, the training parts of the folds; by `confirm`, all."""
    import numpy as np

    from datasets.familiar import Familiar
    from search.building import folds_of

    rows = np.arange(len(split.lengths))
    if trained.origin == "search":
        rows = np.unique(np.concatenate([fold.train for fold in folds_of(trained.config, split)]))
    return Familiar(
        split.residues[rows],
        split.lengths[rows],
        task=trained.task,
        crop=trained.config.data.crop,
        limit=trained.predictor.limit,
    )


def _stream(arguments: argparse.Namespace, trained: "TrainedExperiment") -> "Stream":
    from datasets.candidates import read_candidates
    from datasets.mutagenesis import Mutagenesis, enumerate_variants

    if arguments.input is not None:
        return read_candidates(arguments.input, trained.task, arguments.format)
    kind, sites = arguments.mutagenesis
    return enumerate_variants(
        Mutagenesis(kind=kind, sites=sites),
        task=trained.task,
        crop=trained.config.data.crop,
        limit=trained.predictor.limit,
    )


def _predictions(
    path: Path | None, trained: "TrainedExperiment", stream: "Stream", counter: Counter
) -> "Generator[tuple[Candidates, Values], None, None]":
    from search.ahead import ahead
    from search.trained import deviation_of, mean_of

    # While the model computes, a thread reads on.
    with contextlib.closing(ahead(stream.blocks)) as blocks:
        for candidates in blocks:
            try:
                members = trained.predictor(candidates.residues, candidates.lengths)
            except SequenceError as error:
                if candidates.lines is None:
                    raise
                raise UserError(
                    f"{path}, line {candidates.lines[error.row]}: {error.finding[:1].lower()}{error.finding[1:]}; "
                    "correct the line or remove it."
                ) from None
            yield candidates, (mean_of(members), deviation_of(members))
            counter.add(len(candidates))


def _completed(candidates: "Candidates", values: "Values", familiar: "Familiar", *, has_distance: bool) -> "Predicted":
    from search.ranked_output import Predicted

    residues, lengths = candidates.residues, candidates.lengths
    return Predicted(
        candidates=candidates,
        prediction=values[0],
        std=values[1],
        distance=familiar.distance(residues, lengths) if has_distance else None,
        outside=familiar.outside(residues, lengths),
    )


@contextlib.contextmanager
def _sigterm_raised() -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough to clean up
        raise _Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
