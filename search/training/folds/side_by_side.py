"""Several folds of a run at once, each in a process of its own, told of as if they were trained one after another.

Folds depend on their own seeds alone, so that weights, values and predictions are the same bits either way. What a fold
has to say waits until the folds before it are over. Where one of these ends the run, what was trained ahead is thrown
away, and nobody hears of it.
"""

import contextlib
import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import torch

from datasets.validation.protocols import Fold
from search.storage.ending import Ending
from search.training.checkpoint.files import BEGUN
from search.training.checkpoint.progress import Progress
from search.training.checkpoint.snapshot import FoldState, values_of
from search.training.fold import FoldTraining
from search.training.folds.forked import CannotFork, FoldBroke, Forked, ProcessLost, TooManyAtOnce, how_ended
from search.training.folds.how_many import that_fit
from search.training.folds.one_of_several import (
    Announced,
    Broke,
    Computed,
    Ended,
    Last,
    NoMemory,
    Prepared,
    Refused,
    StateKept,
    Validated,
    Word,
    pack,
    train_one,
    unpack,
)
from search.training.memory import DoesNotFit
from search.training.result import FOLD

_POLL_S = 0.1


@dataclass
class _Lane:
    """A fold that was begun.

    `waiting` is what it said and nobody was told, `told` its values of which the run was, `known` what it said it is.
    """

    number: int
    process: Forked | None = None
    waiting: deque[Word] = field(default_factory=deque)
    told: list[float | None] = field(default_factory=list)
    known: Progress | None = None
    n_embedded: int = 0  # of which the run knows
    last: Last | None = None
    failure: Exception | None = None

    @property
    def has_gone_wrong(self) -> bool:
        """Whether no later fold will be wanted."""
        is_complete = self.last is None or (isinstance(self.last, Ended) and self.last.ending == Ending.COMPLETE)
        return self.failure is not None or not is_complete


class SideBySide:
    """Folds of a run, from the first that `progress` lacks.

    Args:
        training: What they have in common.
        folds: All of them.
        progress: What is known of the run; grows as folds end, in their order.
        n_at_once: So many at once, if memory holds them.
        threads: Of each.
        is_first_alone: Whether the others wait for the first fold: it may end the run early, as it is judged.
        begun: States to go on from, by the numbers of their folds.
        ahead: Folds that were over before their turn came.
        keep: Called when there is more to be kept: `states` and `ahead`.

    Attributes:
        states: Files with states of folds that train.
        ahead: Folds that are over before their turn has come.
        peak_memory_bytes: The most that one of the processes held.
    """

    def __init__(
        self,
        training: FoldTraining,
        folds: Sequence[Fold],
        progress: Progress,
        *,
        n_at_once: int,
        threads: int,
        is_first_alone: bool,
        begun: Mapping[int, FoldState],
        ahead: Mapping[int, Progress],
        keep: Callable[["SideBySide"], None],
    ) -> None:
        self.peak_memory_bytes = 0
        self._training = training
        self._folds = folds
        self._progress = progress
        self._n_at_once = n_at_once
        self._threads = threads
        self._is_first_alone = is_first_alone
        self._begun = dict(begun)
        self._keep = keep
        self._is_prepared = False
        self._n_begun = 0
        self._lanes: dict[int, _Lane] = {}
        self.states: dict[int, Path] = {}
        self.ahead = {number: piece for number, piece in ahead.items() if number >= len(progress.checkpoints)}

    def train(self, tokens: int | None) -> tuple[Ending, str]:
        """All folds, the first in parts of at most `tokens` as `FoldTraining.fit` has it: how it ended and why.

        Raises:
            TooManyAtOnce: Memory or processes ran out; folds that are over by then stand in the progress.
            DoesNotFit: It would run out for the first fold alone.
            MemoryError: It did.
            search.training.folds.forked.FoldBroke: An exception in the fold whose turn it was.
            search.training.folds.forked.ProcessLost: A process ended whose turn it was.
        """
        torch.set_num_threads(1)  # what computes on several here could not fork any more
        try:
            while (number := len(self._progress.checkpoints)) < len(self._folds):
                self._begin_some(tokens)
                lane = self._lanes[number]
                self._listen()
                if not self._tell(lane) or self._training.should_stop():
                    return self._stop(lane)
                if lane.failure is not None:
                    raise lane.failure
                if lane.last is not None and not lane.waiting:
                    ending, reason = self._finish(lane, lane.last)
                    if ending != Ending.COMPLETE:
                        return ending, reason
            return Ending.COMPLETE, ""
        finally:
            self._close()
            torch.set_num_threads(self._threads)

    def _begin_some(self, tokens: int | None) -> None:
        first = len(self._progress.checkpoints)
        for number in range(first, len(self._folds)):
            n_running = sum(lane.process is not None for lane in self._lanes.values())
            if number in self._lanes:
                continue
            if number in self.ahead:
                last = Ended(Ending.COMPLETE, "", pack(self.ahead[number]))
                self._lanes[number] = _Lane(number, last=last, waiting=_values(self.ahead[number].values[0]))
            elif n_running < self._room(first):
                self._lanes[number] = self._begin(number, tokens)

    def _room(self, current: int) -> int:
        if any(lane.has_gone_wrong for lane in self._lanes.values()):
            return 0
        if not self._is_prepared or (self._is_first_alone and current == 0):
            return 1
        return self._n_at_once

    def _begin(self, number: int, tokens: int | None) -> _Lane:
        resumed = self._begun.pop(number, None)
        work = partial(
            train_one,
            self._training,
            self._folds[number],
            number,
            Progress(micro_batch_tokens=self._progress.micro_batch_tokens),
            resumed,
            tokens=tokens,
            threads=self._threads,
        )
        self._n_begun += 1
        try:
            process = Forked(lambda say: work(say=say))
        except CannotFork as error:
            raise TooManyAtOnce(str(error)) from None
        return _Lane(number, process, waiting=_values(values_of(resumed)))

    def _listen(self) -> None:
        """Take what the folds have to say, for a moment."""
        lanes = {lane.process.pipe: lane for lane in self._lanes.values() if lane.process is not None}
        for pipe in wait(list(lanes), _POLL_S if lanes else 0):
            lane = lanes[pipe]  # type: ignore[index]  # a connection, as it was given
            assert lane.process is not None
            try:
                word = lane.process.pipe.recv()
            except (EOFError, OSError):
                lane.failure = ProcessLost(f"of fold {lane.number} ended {how_ended(lane.process.wait())}")
                self._bury(lane)
            else:
                self._hear(lane, word)

    def _hear(self, lane: _Lane, word: Word) -> None:
        if isinstance(word, Prepared):
            lane.known = unpack(word.progress)
            if not self._is_prepared:
                self._is_prepared = True
                self._know(lane, lane.known)
                # Which of what is free the first one has taken little by now.
                self._n_at_once = min(self._n_at_once, that_fit(word.needed_bytes))
        elif isinstance(word, StateKept):
            self._drop_state(lane.number)
            self.states[lane.number] = word.path
            self._keep(self)
        elif isinstance(word, Last):
            if isinstance(word, NoMemory) and self._n_begun > 1 and self._n_at_once > 1:
                raise TooManyAtOnce(word.reason)
            assert lane.process is not None
            lane.process.wait()
            self._bury(lane)
            lane.last = word
            self._drop_state(lane.number)
            if isinstance(word, Ended) and word.ending == Ending.COMPLETE:
                self.ahead[lane.number] = unpack(word.progress)
                self._keep(self)
        else:
            lane.waiting.append(word)

    def _tell(self, lane: _Lane) -> bool:
        """Tell what a fold whose turn it is has said; whether it may go on."""
        while lane.waiting:
            word = lane.waiting.popleft()
            if isinstance(word, Announced):
                self._training.announce(word.sentence)
            elif isinstance(word, Computed):
                self._training.on_progress(word.what, word.n_done, word.n_total)
            elif isinstance(word, Validated):
                lane.told.append(word.value)
                self._training.reports(lane.number, word.epoch, word.value)
                if self._training.should_stop():
                    return False
        return True

    def _stop(self, lane: _Lane) -> tuple[Ending, str]:
        if lane.known is not None:
            self._know(lane, lane.known)
        self._progress.values.append(lane.told)
        self._progress.best_epochs.append(len(lane.told) - 1 if lane.told else None)
        return Ending.STOPPED, "told to stop"

    def _finish(self, lane: _Lane, last: Last) -> tuple[Ending, str]:
        """Add a fold whose turn it was to what is known of the run."""
        if isinstance(last, Refused):
            raise last.error(last.sentence)
        if isinstance(last, Broke):
            raise FoldBroke(last.traceback)
        piece, own = unpack(last.progress), self._progress
        self._know(lane, piece)
        if isinstance(last, NoMemory):
            raise DoesNotFit(last.reason) if last.is_estimated else MemoryError(last.reason)
        own.values += piece.values
        own.best_epochs += piece.best_epochs
        own.predictions += piece.predictions
        own.rows += piece.rows
        own.checkpoints += piece.checkpoints
        del self._lanes[lane.number]
        self.ahead.pop(lane.number, None)
        return last.ending, last.reason

    def _know(self, lane: _Lane, piece: Progress) -> None:
        """Take what is the same of all folds, or counts for all."""
        own = self._progress
        own.n_embedded += piece.n_embedded - lane.n_embedded
        lane.n_embedded = piece.n_embedded
        own.device, own.backbone, own.max_residues = piece.device, piece.backbone, piece.max_residues
        own.n_parameters = piece.n_parameters
        own.micro_batch_tokens, own.smaller = piece.micro_batch_tokens, piece.smaller

    def _bury(self, lane: _Lane) -> None:
        assert lane.process is not None
        self.peak_memory_bytes = max(self.peak_memory_bytes, lane.process.peak_memory_bytes)
        lane.process = None

    def _drop_state(self, number: int) -> None:
        with contextlib.suppress(KeyError, OSError):  # there is none; or the disk is read-only by now
            self.states.pop(number).unlink()

    def _close(self) -> None:
        """End what trains, and remove what was trained in vain."""
        for lane in self._lanes.values():
            if lane.process is not None:
                lane.process.end()
                self._bury(lane)
            with contextlib.suppress(OSError):  # the processes of the others have to end, too
                (self._training.directory / FOLD.format(lane.number)).unlink()
        self.states.clear()
        shutil.rmtree(self._training.directory / BEGUN, ignore_errors=True)


def _values(values: Sequence[float | None]) -> deque[Word]:
    return deque(Validated(epoch, value) for epoch, value in enumerate(values))
