"""The worker of a fleet on another machine: the process that a supervisor there starts."""

import pickle
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from search.machine.interpreters import own_program
from search.workers.fleet_worker import TOLD_BY, Assignment, run_worker


def words_in(checkout: Path) -> tuple[str, ...]:
    """Those of the interpreter, where the program is in that folder; the number of the open end of a pipe follows."""
    return ("-P", "-c", own_program("from search.cluster.remote_worker import main; main()", checkout))


def main() -> None:
    """Read from the pipe what there is to do, and do it."""
    import sys

    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD_BY)  # as a worker expects to be born
    pipe = Connection(int(sys.argv[-1]))
    # Of the supervisor, whose other end nobody but the search has.
    assignment, models = pickle.loads(pipe.recv_bytes())
    assert isinstance(assignment, Assignment)
    run_worker(assignment, pipe, models)
