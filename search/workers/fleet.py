"""The workers of a search: started, watched, started again when they die, and told when to end.

The workers agree on the budget through the database, as those of several machines do; what is done here could be done
by hand with as many terminals. The supervisor reads from the study how trials end. Where the workers run is a
crew's to say (`search.workers.crew`): usually they are processes of this machine.
"""

import signal
import time
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for

from optuna import Study

from search.study.trials.tally import Tally
from search.workers.crew import Crew, RunningWorker
from search.workers.display import Display
from search.workers.fleet_worker import (
    DRAIN,
    STOP_S,
    Assignment,
    Report,
    Step,
    Waits,
)
from search.workers.messages import Announcement, Working
from search.workers.signals import Signals

_POLL_S = 0.2
_BETWEEN_LOOKS_S = 1.0
_BETWEEN_REPEATS_S = 60.0
MAX_DEATHS = 3
"""So often in a row, without a trial ended in between, a worker is started again."""
_LONGEST_PAUSE_S = 60.0


class FleetFailed(Exception):
    """All workers died, again and again; the message says how the last one did."""


@dataclass(kw_only=True)
class _Member:
    """One slot's worker: the one that runs now, if any, and what is known of it."""

    assignment: Assignment
    worker: RunningWorker | None = None
    starts_at: float = 0.0
    n_deaths: int = 0
    n_losses: int = 0
    told: set[signal.Signals] = field(default_factory=set)
    is_waiting: bool = False
    is_done: bool = False  # it said that nothing is left to do
    is_over: bool = False  # it does not run and is not started again


@dataclass(kw_only=True)
class Fleet:
    """Works on a study with one process for each slot of a crew, of which more may come.

    Args:
        study: The study.
        crew: Starts the workers.
        assignment: What they work on, but for their numbers and slots.
        signals: What people ask for.
        display: What they see.
    """

    study: Study
    crew: Crew
    assignment: Assignment
    signals: Signals
    display: Display
    _members: list[_Member] = field(init=False, default_factory=list)
    _tally: Tally = field(init=False, default_factory=Tally)
    _said: dict[str, float] = field(init=False, default_factory=dict)
    _looked: float = field(init=False, default=0.0)
    _stopped_at: float | None = field(init=False, default=None)
    _failure: Exception | None = field(init=False, default=None)

    def work(self) -> None:
        """Run until the study has its trials or a signal says otherwise.

        Raises:
            TooManyFailures: Trials failed one after the other.
            UserError: A worker found something that the user has to see to.
            StorageLost: The database did not come back.
            FleetFailed: No worker could be kept alive.
        """
        self._join()
        self._tally.see(self.study.get_trials(deepcopy=False))
        self.signals.on_signal = self._pass_on
        self.signals.on_leave = self._kill
        try:
            while not all(member.is_over for member in self._members):
                self._start_due()
                self._listen()
                self._pass_on()
                self._look()
            self._looked = 0.0
            self._look()
        finally:
            self.signals.on_signal = self.signals.on_leave = lambda: None
            self._kill()
        if self._failure is not None:
            raise self._failure

    def _join(self) -> None:
        """Take in the slots that came since we looked last."""
        new = [*enumerate(self.crew.slots())][len(self._members) :]
        self._members += [
            _Member(assignment=replace(self.assignment, number=number, slot=slot)) for number, slot in new
        ]

    def _start_due(self) -> None:
        is_ending = self.signals.is_draining or self._failure is not None
        for member in self._members:
            if member.is_over or member.worker is not None:
                continue
            if is_ending:
                member.is_over = True
            elif time.monotonic() >= member.starts_at:
                member.told.clear()
                member.worker = self.crew.start(member.assignment)

    def _listen(self) -> None:
        """Take what workers have to say, for a moment."""
        pipes = {member.worker.pipe: member for member in self._members if member.worker is not None}
        for pipe in wait_for(list(pipes), _POLL_S):  # without any this is a pause
            assert isinstance(pipe, Connection)
            member = pipes[pipe]
            assert member.worker is not None
            try:
                report: Report = member.worker.pipe.recv()
            except (EOFError, OSError):
                self._bury(member)
                continue
            self._take(member, report)

    def _take(self, member: _Member, report: Report) -> None:
        if isinstance(report, Announcement):
            self._say(report.sentence)
        elif isinstance(report, Working):
            self.display.working(report.what, report.n_done, report.n_total)
        elif isinstance(report, Waits):
            member.is_waiting = True
            if all(other.is_waiting or other.is_done or other.is_over for other in self._members):
                self.display.wait(report.sentence)  # report only when all workers wait
        elif report is Step.BEGAN:
            member.is_waiting = False
        elif report is Step.ENDED:
            member.n_deaths = member.n_losses = 0
        else:
            member.is_done = True
            if (error := report.error) is not None:
                self._fail(error)

    def _bury(self, member: _Member) -> None:
        """A worker's pipe is closed: it has ended, or will in a moment."""
        assert member.worker is not None
        end = member.worker.end()
        member.worker = None
        member.is_waiting = False
        is_ending = self.signals.is_draining or self._failure is not None
        if is_ending or any(other.is_done for other in self._members):
            member.is_over = True
            return
        slot, log = member.assignment.slot.name, member.assignment.log
        if end.is_lost:  # its machine has gone, through no fault of the worker
            member.n_losses += 1
            member.starts_at = time.monotonic() + min(_LONGEST_PAUSE_S, 2.0 ** (member.n_losses - 1))
            self._say(f"The worker on {slot} ended {end.how}; it is started again where there is room.")
            return
        member.n_deaths += 1
        if member.n_deaths > MAX_DEATHS:
            member.is_over = True
            sentence = f"The worker on {slot} ended {end.how} time after time and is given up; its output is in {log}."
            self.display.announce(sentence)
            if all(other.is_over for other in self._members):
                self._fail(FleetFailed(sentence))
            return
        pause_s = 2.0 ** (member.n_deaths - 1)
        member.starts_at = time.monotonic() + pause_s
        self.display.announce(f"The worker on {slot} ended {end.how}; it is started again. Its output is in {log}.")

    def _say(self, sentence: str) -> None:
        """Show what a worker says, once for all who say it."""
        now = time.monotonic()
        if now - self._said.get(sentence, -_BETWEEN_REPEATS_S) >= _BETWEEN_REPEATS_S:
            self._said[sentence] = now
            self.display.announce(sentence)

    def _fail(self, failure: Exception) -> None:
        """End the work of all; running trials are left to be run again."""
        self._failure = self._failure or failure
        self._pass_on()

    def _pass_on(self) -> None:
        """Tell the workers what people said, each once. Also called in the handler of a signal, so it is short."""
        must_stop = self.signals.is_interrupted or self._failure is not None
        if must_stop and self._stopped_at is None:
            self._stopped_at = time.monotonic()
        if must_stop or self.signals.is_draining:
            for member in self._members:
                _tell(member, signal.SIGTERM if must_stop else DRAIN)
        elif any(member.is_done for member in self._members):
            for member in self._members:
                if member.worker is not None and not member.worker.has_begun:
                    _tell(member, DRAIN)
        if self._stopped_at is not None and time.monotonic() - self._stopped_at > STOP_S:
            self._kill()

    def _kill(self) -> None:
        for member in self._members:
            _tell(member, signal.SIGKILL)

    def _look(self) -> None:
        """Show how the study stands, about once a second."""
        if time.monotonic() - self._looked < _BETWEEN_LOOKS_S or self._failure is not None:
            return
        try:
            trials = self.study.get_trials(deepcopy=False)
        except Exception as error:  # the workers are to end in order first
            self._fail(error)
            return
        self._looked = time.monotonic()
        if not self.signals.is_draining and not any(member.is_done for member in self._members):
            self._join()
        for trial in self._tally.see(trials):
            self.display.end(trial, trials)
        self.display.running([trial.number for trial in self._tally.running], trials)


def _tell(member: _Member, number: signal.Signals) -> None:
    if member.worker is not None and number not in member.told:
        member.told.add(number)
        member.worker.tell(number)
