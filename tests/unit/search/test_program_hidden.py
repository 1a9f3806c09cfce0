"""The program that calls us is hidden from processes that are started, whoever starts them at the same time."""

import sys
import threading
import types

import pytest

from search.machine.interpreters import without_program


def test_threads_that_start_processes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    program = types.ModuleType("__main__")
    program.__file__, program.__spec__ = "mine.py", None
    monkeypatch.setitem(sys.modules, "__main__", program)
    is_second_in = threading.Event()
    seen: list[bool] = []

    def second() -> None:
        with without_program():
            is_second_in.set()
            seen.append(hasattr(program, "__file__"))

    thread = threading.Thread(target=second)
    with without_program():
        thread.start()
        assert not is_second_in.wait(0.2)
        assert not hasattr(program, "__file__")
    thread.join(30)
    assert seen == [False], "hidden from the second one as well"
    assert program.__file__ == "mine.py"
