"""A fold that a process of its own trains, and what it says of it meanwhile."""

import io
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from datasets.common.errors import NotForTheseData, UserError
from datasets.common.files import replaced
from datasets.validation.protocols import Fold
from search.storage.ending import Ending
from search.training.checkpoint.files import BEGUN
from search.training.checkpoint.progress import Progress, Reports
from search.training.checkpoint.snapshot import FoldState, KeepState
from search.training.checkpoint.store import Pace
from search.training.fold import FoldTraining
from search.training.folds.forked import Say
from search.training.memory import DoesNotFit, is_out_of_memory


@dataclass(frozen=True)
class Prepared:
    """All is ready for training, which takes about so many bytes (0: few); `progress` is packed."""

    progress: bytes
    needed_bytes: int


@dataclass(frozen=True)
class Validated:
    """The validation Spearman after an epoch."""

    epoch: int
    value: float | None


@dataclass(frozen=True)
class Announced:
    """A sentence for the user."""

    sentence: str


@dataclass(frozen=True)
class Computed:
    """How far other work is."""

    what: str
    n_done: int
    n_total: int


@dataclass(frozen=True)
class StateKept:
    """The state after an epoch stands in a file, the last one's in another."""

    path: Path


@dataclass(frozen=True)
class Ended:
    """The fold is over; `progress`, packed, is what is known of it."""

    ending: Ending
    reason: str
    progress: bytes


@dataclass(frozen=True)
class NoMemory:
    """Memory ran out, or would have."""

    reason: str
    is_estimated: bool
    progress: bytes


@dataclass(frozen=True)
class Refused:
    """The config cannot run here."""

    error: type[UserError]
    sentence: str


@dataclass(frozen=True)
class Broke:
    """An exception that is a bug, or the machine's fault; its traceback."""

    traceback: str


Last = Ended | NoMemory | Refused | Broke
Word = Prepared | Validated | Announced | Computed | StateKept | Last


def pack(progress: Progress) -> bytes:
    """For a pipe, through which tensors would go as files that both processes have to hold open."""
    buffer = io.BytesIO()
    torch.save(progress.state(), buffer)
    return buffer.getvalue()


def unpack(packed: bytes) -> Progress:
    """What `pack` was given."""
    return Progress(**torch.load(io.BytesIO(packed), weights_only=True))


def train_one(
    training: FoldTraining,
    fold: Fold,
    number: int,
    progress: Progress,
    resumed: FoldState | None,
    *,
    tokens: int | None,
    threads: int,
    say: Say,
) -> None:
    """Train a fold of a run that has several, as `FoldTraining.fit` does, and say everything that comes of it."""
    torch.set_num_threads(threads)
    keep = _Keep(training.directory / BEGUN, number, say)
    own = replace(
        training,
        reports=Reports(lambda _, epoch, value: say(Validated(epoch, value))),
        announce=lambda sentence: say(Announced(sentence)),
        on_progress=lambda what, n_done, n_total: say(Computed(what, n_done, n_total)),
        should_stop=lambda: False,  # who is not wanted any more is killed
        on_prepared=lambda known, needed: say(Prepared(pack(known), needed)),
    )
    state = KeepState(is_due=keep.pace.is_due, keep=keep, resumed=resumed)
    try:
        ending, reason = own.fit(fold, number, progress, state, tokens=tokens, is_one_of_several=True)
        say(Ended(ending, reason, pack(progress)))
    except DoesNotFit as error:
        say(NoMemory(str(error), True, pack(progress)))
    except UserError as error:
        say(Refused(NotForTheseData if isinstance(error, NotForTheseData) else UserError, str(error)))
    except Exception as error:
        if is_out_of_memory(error):
            say(NoMemory((str(error) or "out of memory").splitlines()[0], False, pack(progress)))
        else:
            say(Broke("".join(traceback.format_exception(error))))


class _Keep:
    """Writes the states of a fold, each to a file of its own, and says where."""

    def __init__(self, folder: Path, number: int, say: Say) -> None:
        self.pace = Pace()
        self._folder = folder
        self._number = number
        self._say = say
        self._n_kept = 0
        self._has_failed = False

    def __call__(self, state: FoldState) -> None:
        started = time.monotonic()
        self._n_kept += 1
        path = self._folder / f"fold{self._number}.{self._n_kept}.pt"
        try:
            self._folder.mkdir(exist_ok=True)
            with replaced(path) as beside:
                torch.save(state, beside)
            self._say(StateKept(path))
        except (OSError, RuntimeError) as error:
            if not self._has_failed:
                self._has_failed = True
                reason = getattr(error, "strerror", None) or str(error)
                self._say(Announced(f"The state of fold {self._number} cannot be kept: {reason}. It goes on."))
        self.pace.wrote(time.monotonic() - started)
