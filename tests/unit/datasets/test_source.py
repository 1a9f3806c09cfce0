"""FLIP's files are looked for in order, and what is downloaded is checked and whole or not there at all."""

import io
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import filelock
import pytest

from datasets.common.errors import UserError
from datasets.task import FoundSource
from datasets.tasks import flip_files as source
from datasets.tasks.flip_files import find_file, git_blob_id
from tests.helpers.data_fixtures import Workplace
from tests.helpers.split_files import GOOD_ROWS, write_zip

CONTENT = bytes(range(256)) * 1000


class Server:
    """A web server on this machine that counts what it is asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = self.send
        self.released = threading.Event()

    def send(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT)

    def send_half(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT[: len(CONTENT) // 2])

    def hang_in_the_middle(self, request: BaseHTTPRequestHandler) -> None:
        self.send_half(request)
        request.wfile.flush()
        self.released.wait(30)

    def hang(self, request: BaseHTTPRequestHandler) -> None:
        self.released.wait(30)

    def trickle(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        while not self.released.wait(0.05):
            request.wfile.write(b"x")
            request.wfile.flush()

    def send_in_parts(self, request: BaseHTTPRequestHandler) -> None:
        """Without saying how much it will be."""
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for begin in range(0, len(CONTENT), 10_000):
            part = CONTENT[begin : begin + 10_000]
            request.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        request.wfile.write(b"0\r\n\r\n")

    def refuse(self, request: BaseHTTPRequestHandler) -> None:
        request.send_error(404)


@pytest.fixture
def server(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.paths.append(self.path)
            try:
                state.answer(self)
            except OSError:  # the client has left
                self.close_connection = True

        def log_message(self, format: str, *values: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"http://127.0.0.1:{http.server_address[1]}"
    monkeypatch.setattr(source, "URL", url + "/{commit}/{dataset}.zip")
    blob = workplace.data / "content"
    blob.write_bytes(CONTENT)
    monkeypatch.setitem(source.GIT_BLOBS, "gb1", git_blob_id(blob))
    blob.unlink()
    yield state
    state.released.set()
    http.shutdown()
    http.server_close()
    thread.join()


def cached(workplace: Workplace) -> list[Path]:
    """Return what a download left, the lock aside."""
    cache = workplace.data.parent / "user cache"
    return [path for path in cache.rglob("*") if path.name == ".partial" or _is_kept(path)]


def _is_kept(path: Path) -> bool:
    return path.is_file() and path.name != ".lock"


def test_git_blob_id_is_that_of_git(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.mark.parametrize("layout", ["flip/gb1", "splits/gb1", "gb1"])
def test_layouts(workplace: Workplace, layout: str) -> None:
    path = workplace.data / layout / "splits.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    found = find_file("gb1", data_dir=workplace.data, announce=print)
    assert found.path == path
    assert not found.official


def test_order_of_the_places(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    root = workplace.data.parent
    places = [workplace.data, root / "environment", root / "data", root / "user cache" / "flipsearch"]
    monkeypatch.setenv("FLIPSEARCH_DATA", str(places[1]))
    for place in reversed(places):
        path = write_zip(place, GOOD_ROWS)
        assert find_file("gb1", data_dir=workplace.data, announce=print).path.resolve() == path


def test_data_folder_that_does_not_exist(workplace: Workplace) -> None:
    missing = workplace.data / "nowhere"
    with pytest.raises(UserError, match="nowhere does not exist"):
        find_file("gb1", data_dir=missing, announce=print)


def test_download_is_kept(workplace: Workplace, server: Server) -> None:
    for _ in range(2):
        found = find_file("gb1", data_dir=None, announce=workplace.said.append)
        assert found.official
        assert found.path.read_bytes() == CONTENT
    assert server.paths == [f"/{source.FLIP_COMMIT}/gb1.zip"]
    assert cached(workplace) == [found.path]
    [announced] = workplace.said
    assert announced.startswith("Downloading FLIP's gb1 file from http")


def test_a_file_that_was_damaged_in_the_cache_is_downloaded_anew_where_that_is_asked(
    workplace: Workplace, server: Server
) -> None:
    def find(*, replaces: bool) -> FoundSource:
        return find_file("gb1", data_dir=None, announce=workplace.said.append, replaces=replaces)

    path = find(replaces=True).path
    assert path is not None
    damaged = b"x" + CONTENT[1:]
    path.write_bytes(damaged)
    assert not find(replaces=False).official
    server.answer = server.send_half
    with pytest.raises(UserError, match="could not be downloaded"):
        find(replaces=True)
    assert path.read_bytes() == damaged
    server.answer = server.send
    assert [find(replaces=True).official for _ in range(2)] == [True, True]
    assert path.read_bytes() == CONTENT
    assert cached(workplace) == [path]
    assert len(server.paths) == 3
    assert f"{path} is not FLIP's file, since its git blob is" in workplace.said[1]


def test_a_file_of_the_users_own_is_never_replaced(workplace: Workplace, server: Server) -> None:
    path = write_zip(workplace.data, GOOD_ROWS)
    before = path.read_bytes()
    assert not find_file("gb1", data_dir=workplace.data, announce=print, replaces=True).official
    assert path.read_bytes() == before
    assert server.paths == []


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_how_far_a_download_is(
    workplace: Workplace, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert find_file("gb1", data_dir=None, announce=lambda sentence: None).path.read_bytes() == CONTENT
    assert "splits.zip" in terminal.getvalue()
    assert "KiB" in terminal.getvalue()


def test_processes_download_once(workplace: Workplace, server: Server) -> None:
    results: list[bool] = []

    def find() -> None:
        results.append(find_file("gb1", data_dir=None, announce=lambda sentence: None).official)

    threads = [threading.Thread(target=find) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
    assert len(server.paths) == 1


def test_what_a_killed_process_left_is_swept(workplace: Workplace, server: Server) -> None:
    partial = workplace.data.parent / "user cache" / "flipsearch" / "flip" / "gb1" / ".partial"
    partial.mkdir(parents=True)
    (partial / "splits.zip").write_bytes(b"half")
    found = find_file("gb1", data_dir=None, announce=print)
    assert found.official
    assert cached(workplace) == [found.path]


def failure(workplace: Workplace, timeout_s: float | None = None) -> str:
    """Return the sentence of a download that fails, and check that it leaves nothing."""
    with pytest.raises(UserError) as caught:
        find_file("gb1", data_dir=workplace.data, announce=print, timeout_s=timeout_s)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert f"looked for in {workplace.data}, data, " in sentence
    assert "--data-dir or $FLIPSEARCH_DATA" in sentence
    assert cached(workplace) == []
    return sentence


def test_other_content_is_refused(workplace: Workplace, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(source.GIT_BLOBS, "gb1", "0" * 40)
    assert f"expected {'0' * 40}" in failure(workplace)


def test_not_found(workplace: Workplace, server: Server) -> None:
    server.answer = server.refuse
    assert "404" in failure(workplace)


def test_connection_that_breaks(workplace: Workplace, server: Server) -> None:
    server.answer = server.send_half
    failure(workplace)


def test_content_that_comes_in_parts(workplace: Workplace, server: Server) -> None:
    server.answer = server.send_in_parts
    assert find_file("gb1", data_dir=None, announce=print).path.read_bytes() == CONTENT


@pytest.mark.parametrize("proxy", ["http://user:secret@", "http://user:secret@host:port", "socks9://user:secret@host"])
def test_a_proxy_that_is_none_is_refused_without_its_password(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    sentence = failure(workplace)
    assert "roxy" in sentence or "host:port" in sentence
    assert "secret" not in sentence


def test_a_disk_that_takes_no_more(workplace: Workplace, server: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, hard))
    try:
        assert "could not be kept in" in failure(workplace)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_nobody_answers(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "URL", "http://127.0.0.1:9/{commit}/{dataset}.zip")
    failure(workplace)


@pytest.mark.parametrize("how", ["hang", "hang_in_the_middle", "trickle"])
def test_hanging_server(workplace: Workplace, server: Server, how: str) -> None:
    server.answer = getattr(server, how)
    start = time.monotonic()
    assert "longer than 0.5 s" in failure(workplace, timeout_s=0.5)
    assert time.monotonic() - start < 3
    server.released.set()
    time.sleep(0.1)
    assert cached(workplace) == []


def test_waiting_for_another_process_ends_too(workplace: Workplace, server: Server) -> None:
    lock = workplace.data.parent / "user cache" / "flipsearch" / "flip" / "gb1" / ".lock"
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock):
        assert "Another process has been downloading" in failure(workplace, timeout_s=0.3)
    assert server.paths == []


def test_cache_that_cannot_be_written(workplace: Workplace, server: Server) -> None:
    (workplace.data.parent / "user cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"could not be kept in .*user cache"):
        find_file("gb1", data_dir=None, announce=print)
