"""A headless Chromium, driven over a pipe in its DevTools protocol."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The network of a test machine is nobody's business, and a sandbox cannot be made as root.
_FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--window-size=1400,1600", "--remote-debugging-pipe"),
]


def in_a_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that opens a page."""
    reason = "no Chromium is installed (Debian's package: chromium)"
    return pytest.mark.browser(pytest.mark.skipif(CHROMIUM is None, reason=reason)(test))


class Browser:
    """One page."""

    def __init__(self, reads: int, writes: int) -> None:
        self.requested: list[str] = []
        """The URLs that the page asked for, since `watch_network`."""
        self._reads = reads
        self._writes = writes
        self._buffer = b""
        self._n_sent = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def open(self, url: str) -> None:
        """Go to a page."""
        self.call("Page.navigate", url=url)

    def watch_network(self) -> None:
        """Note every request from now on."""
        self.call("Network.enable")

    def resize(self, width: int, height: int) -> None:
        """Give the page a size in pixels; a window itself cannot be as narrow as a telephone."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self) -> str:
        """What the page shows."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait_for(self, words: str, timeout_s: float = 180) -> str:
        """Wait until the page shows some words; what it shows then."""
        self.wait_until(lambda: words in self.text(), f"the page shows {words!r}", timeout_s)
        return self.text()

    def wait_until(self, is_true: Callable[[], object], what: str, timeout_s: float = 180) -> None:
        """Wait for something."""
        deadline = time.monotonic() + timeout_s
        while not is_true():
            assert time.monotonic() < deadline, f"not so: {what}. The page shows: {self.text()!r}"
            time.sleep(0.1)

    def picture(self, path: Path) -> None:
        """Write a PNG of what is seen of the page."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its answer; of events, requests are noted."""
        self._n_sent += 1
        message = {"id": self._n_sent, "method": method, "params": arguments}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._n_sent:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._reads], [], [], 180)[0], "the browser does not answer"
            data = os.read(self._reads, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextlib.contextmanager
def open_browser(folder: Path) -> Iterator[Browser]:
    """A browser whose profile lies in `folder`; it ends with the block."""
    assert CHROMIUM is not None
    their_reads, writes = os.pipe()
    reads, their_writes = os.pipe()
    # The protocol's pipe is file descriptors 3 and 4 of the browser.
    wiring = f'exec 3<&{their_reads} 4>&{their_writes}; exec "$@"'
    command = ["bash", "-c", wiring, "bash", CHROMIUM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            command, pass_fds=(their_reads, their_writes), stdout=log, stderr=log, start_new_session=True
        )
    os.close(their_reads)
    os.close(their_writes)
    try:
        yield Browser(reads, writes)
    finally:
        os.close(writes)  # it ends by itself when its pipe closes
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(reads)
