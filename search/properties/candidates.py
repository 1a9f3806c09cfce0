"""The candidates of a request, as often as somebody reads them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from datasets.candidates.candidates import BLOCK_ROWS, Candidates, Stream, read_candidates, residues_of
from datasets.candidates.columns import CandidateColumns
from datasets.candidates.measured import LeftOut, measured_variants, without_measured
from datasets.candidates.mutagenesis import Mutagenesis, enumerate_variants, seen_positions
from datasets.candidates.recombination import MeasuredMutation, measured_mutations, recombined
from datasets.common.errors import SequenceError, UserError
from search.experiments.trained import TrainedExperiment
from search.properties.opened import Property
from search.properties.request import AnyRequest, PredictRequest
from search.request.suggest_request import SuggestRequest


def candidates_of(
    request: AnyRequest,
    path: Path | None,
    properties: Sequence[Property],
    left_out: LeftOut,
    announce: Callable[[str], None] = lambda sentence: None,
) -> Stream:
    """The candidates, read as the first experiment's table was; `path` is the file of them, if any.

    Of `exclude_measured`, and of a plate, those are left out, and counted, that were measured for any property.
    """
    if isinstance(request, SuggestRequest) and request.recombine is not None:
        stream = _recombined(request, properties, announce)
    else:
        stream = _all(request, path, [one.trained for one in properties])
    if isinstance(request, PredictRequest) and not request.exclude_measured:
        return stream
    for one in properties:
        assert one.split is not None, "is read where something is to be left out"
        stream = without_measured(stream, measured_variants(one.split, one.trained.task.chains), left_out)
    return stream


def check_candidates(request: SuggestRequest, path: Path | None, trained: Sequence[TrainedExperiment]) -> None:
    """Read a file of candidates once, where models are trained before they rank it; a UserError names a line.

    To read a million takes seconds, and to train may take hours.
    """
    if path is not None and request.trains:
        for _ in _all(request, path, trained).blocks:
            pass


def _all(request: AnyRequest, path: Path | None, trained: Sequence[TrainedExperiment]) -> Stream:
    first = trained[0]
    task, crop, limit = first.task, first.config.data.crop, first.predictor.limit
    if isinstance(request, PredictRequest) and request.sequences is not None:
        return Stream(label="sequence", blocks=_given(request.sequences, first), n_total=len(request.sequences))
    if path is None:
        kind, sites = request.mutagenesis
        return enumerate_variants(Mutagenesis(kind=kind, sites=sites), task=task, crop=crop, limit=limit)
    wanted: list[str] = []
    if request.zero_shot_file is None:
        wanted += [name for one in trained if one.config.scores is not None for name in one.config.scores.names]
    columns = CandidateColumns.like(
        first.config.table, sequence=request.sequence_column, mutation=request.mutation_column, sheet=request.sheet
    )
    return read_candidates(
        path,
        task,
        request.format,
        has_names=request.names,
        scores=tuple(dict.fromkeys(wanted)),
        columns=columns,
    )


def _recombined(request: SuggestRequest, properties: Sequence[Property], announce: Callable[[str], None]) -> Stream:
    """Combinations of the measured mutations that are best for each property, in turn."""
    first = properties[0].trained
    task, crop, limit = first.task, first.config.data.crop, first.predictor.limit
    if task.wild_type is None:
        raise UserError(f"--recombine needs a wild type and {task.name} has none: give candidates with --input.")
    seen = seen_positions(task.wild_type, task=task, crop=crop, limit=limit)
    of_each = []
    for own in properties:
        assert own.split is not None, "is read for what was measured"
        rows = own.split
        of_each.append(measured_mutations(task.wild_type, seen, rows.residues, rows.lengths, rows.target))
    in_turn = (one for some in zip_longest(*of_each) for one in some if one is not None)
    once: dict[tuple[int, str], MeasuredMutation] = {}
    for one in in_turn:
        once.setdefault((one.position, one.residue), one)
    most = request.most_mutations
    stream, n = recombined(task, list(once.values()), most=most, n_best=request.recombine or None)
    announce(
        f"Recombined: the {n:,} best of {len(once):,} measured mutations, up to {most} of them, in {stream.n_total:,} "
        "candidates."
    )
    return stream


def _given(texts: Sequence[str], trained: TrainedExperiment) -> Iterator[Candidates]:
    """Sequences from Python; a UserError names the place of one that is none."""
    if not texts:
        raise UserError("There are no candidates: give one sequence or more.")
    for first in range(0, len(texts), BLOCK_ROWS):
        some = texts[first : first + BLOCK_ROWS]
        try:
            residues, lengths = residues_of(some, trained.task.clean, trained.task.aligned_length)
        except SequenceError as error:
            raise UserError(f"Sequence {first + error.row} (counted from 0): {error}.") from None
        found = Candidates(labels=[], residues=residues, lengths=lengths)
        yield replace(found, labels=list(map(trained.task.written, found.sequences())))
