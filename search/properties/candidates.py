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
from datasets.scores.candidates import CandidateScores, lacking_in
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


def check_candidates(request: SuggestRequest, path: Path | None, properties: Sequence[Property]) -> None:
    """Refuse what is wrong with the candidates where models are trained before they rank them.

    A file of them is read to its end, which takes seconds of a million, where to train may take hours.

    Raises:
        UserError: There are none, a line of the file is none, or what a model sees beside sequences is not to be had.
    """
    if not request.trains:
        return
    stream = candidates_of(request, path, properties, LeftOut())
    for one in properties:
        scores_beside(one.trained, request, stream.scores)
        with one.trained.candidate_embeddings(embeddings_beside(one.trained, request)):
            pass
    if path is not None:
        for _ in stream.blocks:
            pass


def scores_beside(trained: TrainedExperiment, request: AnyRequest, given: Sequence[str]) -> CandidateScores | None:
    """What gives candidates the scores that an experiment sees, of those that stand beside them; None of none."""
    known = () if trained.scores is None else trained.scores.names
    kinds = {source.kind for source in trained.scores.sources} if trained.scores is not None else set()
    return trained.candidate_scores(
        file=request.zero_shot_file if kinds & {"table", "file"} else None,
        sums=request.sum_zero_shot,
        given=[name for name in given if name in known],
        alignment=request.alignment if "alignment" in kinds else None,
    )


def embeddings_beside(trained: TrainedExperiment, request: AnyRequest) -> Path | None:
    """The file of embeddings that are handed to an experiment: of one that sees some."""
    return request.embeddings if trained.predictor.sees_embeddings else None


def _all(request: AnyRequest, path: Path | None, trained: Sequence[TrainedExperiment]) -> Stream:
    first = trained[0]
    task, crop, limit = first.task, first.config.data.crop, first.predictor.limit
    if isinstance(request, PredictRequest) and request.sequences is not None:
        return Stream(label="sequence", blocks=_given(request.sequences, first), n_total=len(request.sequences))
    if path is None:
        kind, sites = request.mutagenesis
        return enumerate_variants(Mutagenesis(kind=kind, sites=sites), task=task, crop=crop, limit=limit)
    names = [name for one in trained if one.config.scores is not None for name in one.config.scores.names]
    wanted = lacking_in(request.zero_shot_file, list(dict.fromkeys(names)))
    columns = CandidateColumns.like(
        first.config.table,
        sequence=request.sequence_column,
        mutation=request.mutation_column,
        sheet=request.sheet,
        data=request.data,
    )
    return read_candidates(
        path,
        task,
        request.format,
        has_names=request.names,
        scores=tuple(wanted),
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
