"""Bars are seen on a terminal alone, and never after `--quiet`."""

import io
import os
import pty
import sys
import threading
from collections.abc import Callable

import pytest

from datasets.common.bars import Bar, silence


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], str]:
    """What a terminal on standard error is written while something is done."""
    silence(False)  # another test's command may have been quiet

    def look(act: Callable[[], None]) -> str:
        ours, theirs = pty.openpty()
        found = bytearray()

        def read() -> None:
            while not found.endswith(b"THE END"):
                found.extend(os.read(ours, 65536))

        reader = threading.Thread(target=read)
        reader.start()
        with os.fdopen(theirs, "w") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            monkeypatch.setenv("TERM", "xterm")
            act()
            terminal.flush()
            os.write(theirs, b"THE END")
            reader.join()
        os.close(ours)
        return found.removesuffix(b"THE END").decode()

    return look


def work() -> None:
    with Bar() as bar:
        bar.show(1234, 5678, "candidates")
    with Bar(is_bytes=True) as bar:
        bar.show(2**20, 2**21, "esm.pt")


def test_a_terminal_shows_how_much_is_done(seen: Callable[[Callable[[], None]], str]) -> None:
    found = seen(work)
    assert "1,234/5,678" in found
    assert "candidates" in found
    assert "1.0/2.0 MiB" in found
    assert "esm.pt" in found


def test_a_bar_within_another_takes_its_place_meanwhile(seen: Callable[[Callable[[], None]], str]) -> None:
    def nested() -> None:
        with Bar() as outer:
            outer.show(1, 4, "candidates")
            with Bar() as inner:
                inner.show(2, 5, "passes")
            outer.show(4, 4, "candidates")

    found = seen(nested)
    assert found.index("candidates") < found.index("2/5") < found.rindex("candidates")


def test_quiet_silences_bars(seen: Callable[[Callable[[], None]], str]) -> None:
    silence(True)
    try:
        assert seen(work) == ""
    finally:
        silence(False)


def test_what_is_no_terminal_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    work()
    assert stream.getvalue() == ""
