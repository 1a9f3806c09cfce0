"""What people see while a study runs: a live display on a terminal, plain lines elsewhere, or nothing."""

import sys
import time
from collections.abc import Sequence
from typing import TextIO

from optuna.trial import FrozenTrial
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from datasets.common.bars import Bar
from search.storage.attributes import ENDING, REASON
from search.study.snapshot import best_words, failed_words, finished_words
from search.study.trials.tally import Tally
from search.workers.messages import Announcement, Working

_BETWEEN_LINES_S = 30.0


class Display:
    """Shows nothing (`--quiet`); the others derive from it."""

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None: ...

    def announce(self, sentence: str) -> None:
        """Show a sentence once: a warning, or what is being waited for."""

    def hear(self, message: object) -> None:
        """Show what a run says, if it is for the user: what it announces, and how far long work is."""
        if isinstance(message, Announcement):
            self.announce(message.sentence)
        elif isinstance(message, Working):
            self.working(message.what, message.n_done, message.n_total)

    def start(self, number: int) -> None:
        """A trial begins."""

    def value(self, fold: int, epoch: int | None, value: float | None) -> None:
        """The running trial was validated."""

    def working(self, what: str, n_done: int, n_total: int) -> None:
        """Something long goes on before a training: `n_done` of `n_total` of `what`."""

    def end(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
        """A trial ended; `trials` are all of the study."""

    def wait(self, sentence: str) -> None:
        """The worker waits for others."""

    def running(self, numbers: Sequence[int], trials: Sequence[FrozenTrial]) -> None:
        """These trials run now, in whatever process; `trials` are all of the study. Told about once a second."""


class PlainDisplay(Display):
    """One line a trial, for logs and pipes."""

    def __init__(self, n_target: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._n_target = n_target
        self._started = time.monotonic()
        self._n_ended = 0
        self._tally = Tally()
        self._last_said = -_BETWEEN_LINES_S

    def announce(self, sentence: str) -> None:
        """Print it."""
        print(sentence, file=self._stream, flush=True)

    wait = announce

    def working(self, what: str, n_done: int, n_total: int) -> None:
        """Print a line now and then, and one for the end."""
        now = time.monotonic()
        if n_done == n_total or now - self._last_said >= _BETWEEN_LINES_S:
            self._last_said = now
            self.announce(f"{n_done:,}/{n_total:,} {what}")

    def end(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
        """Print how the trial ended and where the study stands."""
        self._n_ended += 1
        self.announce(f"{describe(trial)}   {self.standing(trials)}")

    def standing(self, trials: Sequence[FrozenTrial]) -> str:
        """`7/20 finished (2 pruned), 0 failed, best 0.831 (trial 3), 1:20 left`."""
        now = self._tally
        now.see(trials)
        counts, best = now.counts, next(iter(now.best), None)
        words = [finished_words(counts, self._n_target), failed_words(now.n_faults, counts), *best_words(best)]
        n_left = self._n_target - counts.n_finished
        if self._n_ended and n_left > 0:
            left_s = (time.monotonic() - self._started) / self._n_ended * n_left
            words.append(f"{clock(left_s)} left")
        return ", ".join(words)


class LiveDisplay(PlainDisplay):
    """The ended trials scroll by; below them one line follows the running trial and the study."""

    def __init__(self, n_target: int) -> None:
        super().__init__(n_target)
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._bar = Bar()
        self._standing = f"0/{n_target} finished"

    def __enter__(self) -> "Display":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def announce(self, sentence: str) -> None:
        """Print it above the live line."""
        self._console.print(Text(sentence))

    def wait(self, sentence: str) -> None:
        """Show what is waited for in the live line."""
        self._show(sentence)

    def start(self, number: int) -> None:
        """Show the trial's number."""
        self._show(f"trial {number}: starting")
        self._number = number

    def value(self, fold: int, epoch: int | None, value: float | None) -> None:
        """Show the fold, the epoch and its value."""
        shown = "cannot be ranked" if value is None else f"{value:.4f}"
        place = f"fold {fold}" + ("" if epoch is None else f", epoch {epoch}")
        self._show(f"trial {self._number}: {place}, val_spearman {shown}")

    def working(self, what: str, n_done: int, n_total: int) -> None:
        """Show a bar below the live line."""
        self._bar.show(n_done, n_total, what)
        self._show(what, self._bar)

    def end(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> None:
        """Print how the trial ended; the live line keeps the study's standing."""
        self._n_ended += 1
        self._console.print(Text(describe(trial)))
        self._standing = self.standing(trials)
        self._show("starting")

    def running(self, numbers: Sequence[int], trials: Sequence[FrozenTrial]) -> None:
        """Show how many trials run, and where the study stands."""
        self._standing = self.standing(trials)
        self._show(f"{len(numbers)} running: {', '.join(map(str, numbers))}" if numbers else "starting")

    def _show(self, running: str, bar: Bar | None = None) -> None:
        line = Text(f"{self._standing} | {running}", style="bold")
        self._live.update(line if bar is None or bar.rendered is None else Group(line, bar.rendered))


def make_display(n_target: int, *, is_quiet: bool) -> Display:
    """The display that fits where standard error goes."""
    if is_quiet:
        return Display()
    return LiveDisplay(n_target) if sys.stderr.isatty() else PlainDisplay(n_target)


def describe(trial: FrozenTrial) -> str:
    """`trial 7 complete 0.8123 (41 s)`, or why it ended otherwise."""
    ending = trial.user_attrs.get(ENDING, trial.state.name.lower())
    words = [f"trial {trial.number} {str(ending).replace('_', ' ')}"]
    if trial.state.name == "COMPLETE":
        words.append(f"{trial.value:.4f}")
    elif trial.user_attrs.get(REASON):
        words.append(f"({str(trial.user_attrs[REASON]).strip().splitlines()[-1]})")
    if trial.duration is not None:
        words.append(f"in {trial.duration.total_seconds():.1f} s")
    return " ".join(words)


def clock(seconds: float) -> str:
    """`1:20`, or `2:03:20` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shown(value: object) -> str:
    """A hyperparameter's value: `0.001235`, `64`, `gelu`."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
