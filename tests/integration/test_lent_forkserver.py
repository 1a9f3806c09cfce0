"""Workers take their children from the forkserver of the process that started them."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from search.machine.hardware import MEMORY_SHARE
from search.machine.interpreters import LentForkserver, lend_forkserver
from search.workers.child import Child, Tell, prepare_children
from search.workers.messages import Announcement
from tests.helpers.processes import parent


def tell_what_it_is_bound_to(tell: Tell, should_stop: Callable[[], bool]) -> None:
    bound = (os.getppid(), os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get(MEMORY_SHARE))
    tell(Announcement(sentence=repr(bound)))


def said(directory: Path) -> str:
    child = Child(tell_what_it_is_bound_to, directory)
    try:
        message = child.next_message(120)
        assert isinstance(message, Announcement), message
        return message.sentence
    finally:
        child.close()


def borrow(lent: LentForkserver, directory: Path, pipe: Connection) -> None:
    """What a worker does."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "1"
    os.environ[MEMORY_SHARE] = "0.25"
    prepare_children(lent)
    while pipe.recv():
        pipe.send((os.getpid(), said(directory)))


def test_a_child_is_bound_as_its_worker_is_and_comes_from_another_server_where_that_one_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    prepare_children()
    lent = lend_forkserver()
    assert lent is not None
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.get_context("spawn").Process(target=borrow, args=(lent, tmp_path, theirs))
    worker.start()
    theirs.close()
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    ours.send(True)
    assert ours.recv() == (worker.pid, repr((server, "1", "0.25")))
    assert said(tmp_path) == repr((server, "0", None)), "the lender's own are as they were"
    os.kill(server, signal.SIGKILL)
    ours.send(True)
    pid, last = ours.recv()
    other = int(last.partition(",")[0][1:])
    assert last == repr((other, "1", "0.25"))
    assert other != server
    assert not Path(f"/proc/{other}").exists() or parent(other) == pid
    ours.send(False)
    worker.join()
    assert worker.exitcode == 0
