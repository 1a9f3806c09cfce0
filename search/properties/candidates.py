"""The candidates of a request, as often as somebody reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from datasets.candidates.candidates import BLOCK_ROWS, Candidates, Stream, read_candidates, residues_of
from datasets.candidates.files import CandidateColumns
from datasets.candidates.measured import LeftOut, measured_variants, without_measured
from datasets.candidates.mutagenesis import Mutagenesis, enumerate_variants
from datasets.common.errors import SequenceError, UserError
from search.experiments.trained import TrainedExperiment
from search.properties.opened import Property
from search.properties.request import PredictRequest


def candidates_of(
    request: PredictRequest, path: Path | None, properties: Sequence[Property], left_out: LeftOut
) -> Stream:
    """The candidates, read as the first experiment's table was; `path` is the file of them, if any.

    Of `exclude_measured` those are left out, and counted, that were measured for any of the properties.
    """
    stream = _all(request, path, [one.trained for one in properties])
    if not request.exclude_measured:
        return stream
    for one in properties:
        assert one.split is not None, "is read where something is to be left out"
        stream = without_measured(stream, measured_variants(one.split), left_out)
    return stream


def _all(request: PredictRequest, path: Path | None, trained: Sequence[TrainedExperiment]) -> Stream:
    first = trained[0]
    task, crop, limit = first.task, first.config.data.crop, first.predictor.limit
    if request.sequences is not None:
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


def _given(texts: Sequence[str], trained: TrainedExperiment) -> Iterator[Candidates]:
    """Sequences from Python; a UserError names the place of one that is none."""
    if not texts:
        raise UserError("There are no candidates: give one sequence or more.")
    for first in range(0, len(texts), BLOCK_ROWS):
        some = texts[first : first + BLOCK_ROWS]
        try:
            residues, lengths = residues_of(some, trained.task.clean)
        except SequenceError as error:
            raise UserError(f"Sequence {first + error.row} (counted from 0): {error}.") from None
        found = Candidates(labels=[], residues=residues, lengths=lengths)
        yield replace(found, labels=found.sequences())
