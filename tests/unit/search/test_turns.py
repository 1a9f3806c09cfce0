"""What belongs to a whole process is changed by one thread at a time."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datasets.common import umask as module
from datasets.common.umask import umask
from search.workers.child import Tell
from search.workers.inline import Inline
from search.workers.messages import Failure


def test_runs_in_the_calling_process_take_turns(tmp_path: Path) -> None:
    begun, may_end, order = threading.Event(), threading.Event(), []

    def first(tell: Tell, should_stop: Callable[[], bool]) -> None:
        order.append("first begins")
        begun.set()
        may_end.wait()
        order.append("first ends")

    def second(tell: Tell, should_stop: Callable[[], bool]) -> None:
        order.append("second begins")

    one = Inline(first, tmp_path / "one")
    begun.wait()
    other = Inline(second, tmp_path / "other")
    other._thread.join(timeout=0.5)
    assert order == ["first begins"], "the second waits for the first"
    may_end.set()
    for run in (one, other):
        run.close()
    assert order == ["first begins", "first ends", "second begins"]


def test_a_run_that_fails_lets_the_next_one_have_its_turn(tmp_path: Path) -> None:
    def fails(tell: Tell, should_stop: Callable[[], bool]) -> None:
        raise ValueError("on purpose")

    for name in ("one", "other"):
        run = Inline(fails, tmp_path / name)
        run.close()
        assert isinstance(run.next_message(1), Failure)


def test_threads_that_ask_for_the_umask_at_once_leave_it_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.umask(0o022)
    inside = most = 0

    class Watched:
        """As `os` is here, counting who is between the two calls."""

        def umask(self, mask: int) -> int:
            nonlocal inside, most
            inside += 1 if mask == 0o077 else -1
            most = max(most, inside)
            time.sleep(0.0001)  # whoever does not wait for his turn comes in between
            return os.umask(mask)

    monkeypatch.setattr(module, "os", Watched())
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: umask(), range(100))) == {0o022}
    assert most == 1
    assert os.umask(own) == 0o022
