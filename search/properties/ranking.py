"""Candidates ranked by one property or several, from the request to the rows: read this first.

They pass twice: once to be predicted by every experiment, whose numbers alone are kept, and once more, when their ranks
are known, to be named and written.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import Candidates, Stream
from datasets.candidates.columns import Label
from datasets.candidates.distances import TrainingSequences
from datasets.candidates.measured import LeftOut
from datasets.common.errors import UserError
from datasets.common.files import rereadable
from search.prediction.intervals import check_intervals
from search.properties.candidates import candidates_of
from search.properties.columns import PropertyColumns, predicted
from search.properties.opened import Property, asked, open_properties
from search.properties.ranks import Ranked, by_domination, by_prediction, by_requirements, chance_between
from search.properties.request import AnyRequest, PredictRequest
from search.study.training_rows import training_rows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """Some candidates, by their numbers (k,) among all, and how far they are from what each model was trained on."""

    rows: NDArray[np.int64]
    candidates: Candidates
    distances: Sequence[NDArray[np.int32] | None]


@dataclass(frozen=True, kw_only=True)
class RankedCandidates:
    """n candidates with their order and what each property has of them.

    bounds: by the numbers of the required properties, what they have to lie between. left_out: what was measured
    already.
    """

    properties: tuple[Property, ...]
    columns: tuple[PropertyColumns, ...]
    order: Ranked
    label: Label
    request: PredictRequest
    left_out: LeftOut
    bounds: Mapping[int, tuple[float, float]]
    stream: Callable[[], Stream]

    def __len__(self) -> int:
        """Return n."""
        return len(self.columns[0])

    @property
    def chosen(self) -> NDArray[np.int64]:
        """The numbers of the candidates that are written: the best first, or all in their order."""
        top = self.request.top
        return np.arange(len(self)) if top is None else self.order.order[:top]

    def parts(self) -> Iterator[Part]:
        """The candidates that are written, in the order in which they are read."""
        wanted = np.zeros(len(self), dtype=np.bool_)
        wanted[self.chosen] = True
        training = [None if self.request.no_distance else _training(one) for one in self.properties]
        n = 0
        for block in self.stream().blocks:
            if n + len(block) > len(self):
                raise UserError("The candidates have changed while they were read: start the command again.")
            own = np.flatnonzero(wanted[n : n + len(block)])
            if len(own):
                some = block if len(own) == len(block) else block.take(own)
                distances = [None if one is None else one.distance(some.residues, some.lengths) for one in training]
                yield Part(rows=n + own, candidates=some, distances=distances)
            n += len(block)
        if n < len(self):
            raise UserError("The candidates have changed while they were read: start the command again.")


@contextlib.contextmanager
def ranked(request: PredictRequest, announce: Callable[[str], None]) -> Iterator[RankedCandidates]:
    """Predict candidates, and rank them, while the file that they come from can be read again.

    Raises:
        UserError: An experiment, its weights, its data or a candidate is not what it has to be, or none is left.
    """
    has_rows = not request.no_distance or request.exclude_measured
    properties = open_properties(request.experiments, request, announce, has_rows=has_rows)
    check_beside(request, properties)
    for one in properties:
        check_intervals(one.trained, request.level, None)
    bounds = asked(properties, request.require)
    with contextlib.nullcontext() if request.input is None else rereadable(request.input) as path:
        left_out = LeftOut()
        stream = candidates_of(request, path, properties, left_out)
        columns = predicted(properties, request, path, stream)
        yield RankedCandidates(
            properties=properties,
            columns=columns,
            order=order_of(properties, columns, bounds),
            label=stream.label,
            request=request,
            left_out=left_out,
            bounds=bounds,
            stream=lambda: candidates_of(request, path, properties, LeftOut()),
        )


def order_of(
    properties: Sequence[Property],
    columns: Sequence[PropertyColumns],
    bounds: Mapping[int, tuple[float, float]],
    values: Sequence[NDArray[np.floating]] | None = None,
) -> Ranked:
    """Ranked candidates by what is required, or else by non-domination, or by the one property that there is.

    `values` (n,) of each property stand for its predictions, but for the chance of what is required.
    """
    predictions = [one.prediction for one in columns]
    values = predictions if values is None else values
    if not bounds:
        return by_prediction(values[0]) if len(values) == 1 else by_domination(values)
    free = [number for number in range(len(properties)) if number not in bounds]
    return by_requirements(values, chances_of(properties, columns, bounds), free)


def chances_of(
    properties: Sequence[Property], columns: Sequence[PropertyColumns], bounds: Mapping[int, tuple[float, float]]
) -> dict[str, NDArray[np.float64]]:
    """By the name of each required property the chance (n,) that a candidate meets what is required of it."""
    chances = {}
    for number, (low, high) in bounds.items():
        calibrated, calibration = columns[number].calibrated, properties[number].trained.calibration
        assert calibrated is not None
        assert calibration is not None, "is asked for by `asked`"
        prediction = columns[number].prediction
        chances[properties[number].name] = chance_between(prediction, calibrated.std, calibration, low, high)
    return chances


def _training(own: Property) -> TrainingSequences:
    trained, split = own.trained, own.split
    assert split is not None, "is read where distances are asked for"
    rows = training_rows(trained.config, split, trained.origin)
    crop, limit = trained.config.data.crop, trained.predictor.limit
    return TrainingSequences(split.residues[rows], split.lengths[rows], task=trained.task, crop=crop, limit=limit)


def check_beside(request: AnyRequest, properties: Sequence[Property]) -> None:
    """Refuse scores and embeddings that none of the models sees, as the first of them would."""
    first = properties[0].trained
    sources = [source for one in properties if one.trained.scores for source in one.trained.scores.sources]
    kinds = {source.kind for source in sources}
    if request.zero_shot_file is not None and not kinds & {"table", "file"}:
        first.candidate_scores(file=request.zero_shot_file)
    if request.alignment is not None and "alignment" not in kinds:
        first.candidate_scores(alignment=request.alignment)
    if request.embeddings is not None and not any(one.trained.predictor.sees_embeddings for one in properties):
        first.candidate_embeddings(request.embeddings)
