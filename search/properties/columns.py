"""What every experiment predicts of every candidate, as arrays: ranks by several properties need all of it.

A candidate takes 33 bytes for each property, whatever its length; its sequence is read once more when it is written.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import Candidates, Stream
from datasets.candidates.outside import Outside
from datasets.common.errors import SequenceError, UserError
from search.prediction.display import Counter
from search.prediction.divided_cores import divided_cores
from search.prediction.prefetch import ahead, in_order
from search.prediction.ranking import Valuation, Valued
from search.prediction.writers import PredictedBlock
from search.properties.candidates import embeddings_beside, scores_beside
from search.properties.opened import Property
from search.properties.request import AnyRequest, PredictRequest
from search.stats.calibration import LEVEL, Calibrated
from search.study.training_rows import familiar_rows

MOST_CANDIDATES = {1: 10_000_000, 2: 4_000_000}
"""By how many properties; of three or more, whose fronts take longer to find, `_MOST_OF_MORE`."""
_MOST_OF_MORE = 500_000
Draw = Callable[[int, Valued, PredictedBlock], NDArray[np.floating[Any]]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PropertyColumns:
    """Of n candidates what one experiment says: prediction (n,), deviation of its models (n,), the bits of what lies
    outside (n,), and what is calibrated; None of what it does not know. drawn (n,): a draw of what it predicts, None
    where nobody asked for one.
    """

    prediction: NDArray[np.float32]
    std: NDArray[np.float32] | None
    outside: NDArray[np.uint8]
    calibrated: Calibrated | None
    drawn: NDArray[np.floating[Any]] | None = None

    def __len__(self) -> int:
        """Return n."""
        return len(self.prediction)

    def block(
        self, candidates: Candidates, rows: NDArray[np.int64], distance: NDArray[np.int32] | None
    ) -> PredictedBlock:
        """Those of some rows (k,), which are these candidates."""
        known = self.calibrated
        return PredictedBlock(
            candidates=candidates,
            prediction=self.prediction[rows],
            std=None if self.std is None else self.std[rows],
            distance=distance,
            outside=self.outside[rows],
            calibrated=None
            if known is None
            else Calibrated(low=known.low[rows], high=known.high[rows], std=known.std[rows]),
        )


def predicted(
    properties: Sequence[Property], request: AnyRequest, path: Path | None, stream: Stream, draw: Draw | None = None
) -> tuple[PropertyColumns, ...]:
    """The columns of each property, of all candidates of a stream; `path` is the file that they come from, if any.

    `draw` makes what is `drawn` of some candidates by a property, which is given by its number.

    Raises:
        UserError: A candidate is none for one of the models, there are too many, or weights rank nothing.
    """
    limit = most_candidates(len(properties), is_required=bool(request.require))
    _check_number(stream.n_total or 0, limit)
    parts: list[list[PropertyColumns]] = [[] for _ in properties]
    n_done = 0
    with contextlib.ExitStack() as stack:
        n_threads = stack.enter_context(divided_cores([one.trained.predictor for one in properties]))
        valuations = [_valuation(one, request, path, stream, stack) for one in properties]
        counter = Counter(stream.n_total, is_quiet=request.quiet)
        stack.enter_context(counter)

        def work(placed: tuple[int, Candidates]) -> list[PropertyColumns]:
            first, candidates = placed
            try:
                return [_of(valuation, number, candidates, draw) for number, valuation in enumerate(valuations)]
            except SequenceError as error:
                if not (isinstance(request, PredictRequest) and request.sequences is not None):
                    raise
                raise UserError(f"Sequence {first + error.row} (counted from 0): {error}.") from None

        def stop() -> None:
            for valuation in valuations:
                valuation.stop()

        blocks = stack.enter_context(contextlib.closing(ahead(_placed(stream.blocks))))
        done = stack.enter_context(contextlib.closing(in_order(work, blocks, n_threads, stop)))
        for found in counter.counted(_Counted(one) for one in done):
            n_done += len(found)
            for kept, columns in zip(parts, found.columns, strict=True):
                kept.append(columns)
            _check_number(n_done, limit)
    for scores in [valuation.scores for valuation in valuations if valuation.scores is not None]:
        scores.announce_lacking()
    return tuple(_joined(one) for one in parts)


def most_candidates(n_properties: int, *, is_required: bool) -> int:
    """How many candidates can be ranked."""
    return MOST_CANDIDATES[1] if is_required else MOST_CANDIDATES.get(n_properties, _MOST_OF_MORE)


def _check_number(n: int, limit: int) -> None:
    if n > limit:
        raise UserError(
            f"There are more than {limit:,} candidates, the most that are ranked by so many properties: give fewer, or "
            f"say with --require what properties have to be, which takes {MOST_CANDIDATES[1]:,}."
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """What all properties have of a block, which counts as the candidates that are in it."""

    columns: Sequence[PropertyColumns]

    def __len__(self) -> int:
        return len(self.columns[0])


def _of(valuation: Valuation, number: int, candidates: Candidates, draw: Draw | None) -> PropertyColumns:
    valued = valuation.values(candidates)
    block = valuation.complete(valued)
    return PropertyColumns(
        prediction=block.prediction,
        std=block.std,
        outside=block.outside,
        calibrated=block.calibrated,
        drawn=None if draw is None else draw(number, valued, block),
    )


def _joined(parts: Sequence[PropertyColumns]) -> PropertyColumns:
    std = [part.std for part in parts if part.std is not None]
    known = [part.calibrated for part in parts if part.calibrated is not None]
    drawn = [part.drawn for part in parts if part.drawn is not None]
    calibrated = None
    if known:
        calibrated = Calibrated(
            low=np.concatenate([one.low for one in known]),
            high=np.concatenate([one.high for one in known]),
            std=np.concatenate([one.std for one in known]),
        )
    return PropertyColumns(
        prediction=np.concatenate([part.prediction for part in parts]),
        std=np.concatenate(std) if std else None,
        outside=np.concatenate([part.outside for part in parts]),
        calibrated=calibrated,
        drawn=np.concatenate(drawn) if drawn else None,
    )


def _placed(blocks: Iterator[Candidates]) -> Iterator[tuple[int, Candidates]]:
    n = 0
    for block in blocks:
        yield n, block
        n += len(block)


def _valuation(
    own: Property, request: AnyRequest, path: Path | None, stream: Stream, stack: contextlib.ExitStack
) -> Valuation:
    """An experiment's, with the scores and embeddings that it sees; others are not handed to it."""
    trained = own.trained
    scores = scores_beside(trained, request, stream.scores)
    embedded = stack.enter_context(trained.candidate_embeddings(embeddings_beside(trained, request)))
    crop, limit = trained.config.data.crop, trained.predictor.limit
    familiar = trained.familiar
    if familiar is None:
        assert own.split is not None, "the rows of an older experiment are read"
        familiar = familiar_rows(trained.config, own.split, limit.max_residues)[trained.origin]
    return Valuation(
        path=path,
        trained=trained,
        outside=Outside(familiar, task=trained.task, crop=crop, limit=limit),
        training=None,
        kind="csv",
        scores=scores,
        embeddings=embedded,
        level=request.level or LEVEL,
    )
