"""A server's folder, files and programs, without a server: what is refused, and what others can read."""

import contextlib
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from search.machine import filesystems
from search.server import programs, server_log
from search.server.account import Account, find_account
from search.server.certificate import ensure_certificate
from search.server.credentials import make_url, new_password, password_file, read_url, verifier, write_private
from search.server.door import Door
from search.server.folder import ServerFolder
from search.server.listening import free_port, is_loopback, listen
from search.server.postmaster import end_leftover
from search.server.server_log import ServerLog
from search.server.serving import _publish
from tests.helpers.answers import run_here

OWN = Account(name="me", user=os.geteuid(), group=os.getegid(), is_own=True)


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    return ServerFolder(tmp_path / "server", OWN)


def test_a_folder_is_made_and_closed_to_others(folder: ServerFolder) -> None:
    folder.prepare()
    folder.path.chmod(0o755)
    folder.prepare()  # again, as each start does
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder.path, folder.socket)] == [0o700, 0o700]
    assert folder.version is None


def test_a_folder_that_holds_other_things_is_left_alone(folder: ServerFolder) -> None:
    folder.path.mkdir(mode=0o755)
    (folder.path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds other things"):
        folder.prepare()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o755
    assert os.listdir(folder.path) == ["thesis.tex"]


def test_a_file_a_link_and_a_long_path_are_no_folders(folder: ServerFolder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        ServerFolder(tmp_path / "file", OWN).prepare()
    with pytest.raises(UserError, match="cannot be written"):
        ServerFolder(tmp_path / "file" / "below", OWN).prepare()
    with pytest.raises(UserError, match="too long"):
        ServerFolder(tmp_path / ("x" * 100), OWN).prepare()
    with pytest.raises(UserError, match="comma"):
        ServerFolder(tmp_path / "a,b", OWN).prepare()
    folder.prepare()
    folder.data.symlink_to(tmp_path)
    with pytest.raises(UserError, match="link or a file"):
        folder.prepare()


def test_a_network_file_system_is_refused(
    folder: ServerFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/home {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(filesystems, "_MOUNTS", mounts)
    with pytest.raises(UserError, match=r"network file system \(nfs4\)"):
        folder.prepare()
    assert not folder.path.exists()


def test_data_without_a_version_are_not_begun_anew(folder: ServerFolder) -> None:
    with pytest.raises(UserError, match="no server"):
        folder.require()
    folder.prepare()
    folder.data.mkdir()
    with pytest.raises(UserError, match="PG_VERSION is missing"):
        _ = folder.version
    for text in ("", "one\n", "1" * 100):
        (folder.data / "PG_VERSION").write_text(text)
        with pytest.raises(UserError, match="cannot be read"):
            _ = folder.version
    (folder.data / "PG_VERSION").write_text("18\n")
    assert folder.version == 18


def test_one_process_at_a_time_has_the_lock(folder: ServerFolder) -> None:
    folder.prepare()
    with folder.locked() as first, folder.locked() as second:
        assert (first, second) == (True, False)
    with folder.locked() as third:
        assert third


def test_a_url_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "url"
    assert read_url(path) is None
    url = make_url(new_password(), "node-1", 20123, tmp_path / "ä b&c.pem")
    write_private(path, url.render_as_string(hide_password=False) + "\n")
    assert read_url(path) == url
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["url"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3cret",
        "x" * 5000,
        "ä",
        "sqlite:///s3cret.db",
        "postgresql+psycopg://flipsearch@127.0.0.1:20000/flipsearch",
        "postgresql+psycopg://flipsearch:s3cret@127.0.0.1/flipsearch",
        "postgresql+psycopg://somebody:s3cret@127.0.0.1:20000/flipsearch",
        "postgresql+psycopg://flipsearch:s3cret@127.0.0.1:no/flipsearch",
    ],
)
def test_a_url_that_is_none_of_ours_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "url"
    path.write_text(text)
    with pytest.raises(UserError, match="remove it") as refused:
        read_url(path)
    assert "s3cret" not in str(refused.value)


def test_a_certificate_is_published_through_no_link_that_others_planted(folder: ServerFolder, tmp_path: Path) -> None:
    folder.prepare()
    folder.certificate.write_text("the certificate\n")
    shared, own = tmp_path / "shared", tmp_path / "thesis.tex"
    shared.mkdir()
    own.write_text("years of work")
    planted = shared / f".url.pem.{os.getpid()}"
    planted.symlink_to(own)
    url = make_url("s3cret", "node-1", 20123, folder.certificate)
    with pytest.raises(UserError, match="cannot be written"):
        _publish(folder, url, shared / "url")
    assert own.read_text() == "years of work"
    planted.unlink()
    _publish(folder, url, shared / "url")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in shared.iterdir()}
    assert modes == {"url": 0o600, "url.pem": 0o644}
    assert (shared / "url.pem").read_text() == "the certificate\n"
    published = read_url(shared / "url")
    assert published is not None
    assert published.query["sslrootcert"] == str(shared / "url.pem")


def test_passwords_are_long_and_never_two_alike(tmp_path: Path) -> None:
    password = new_password()
    assert len(password) >= 43
    assert password != new_password()
    assert password not in verifier(password)
    assert verifier(password) != verifier(password)
    with password_file(tmp_path, password) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().endswith(f":{password}\n")
    assert not path.exists()


def test_whom_postgres_runs_as() -> None:
    with pytest.raises(UserError, match="no user 'nobody-here'"):
        find_account("nobody-here")
    with pytest.raises(UserError, match="does not run as root"):
        find_account("root")
    if os.geteuid() == 0:
        account = find_account("nobody")
        assert (account.is_own, account.of_child["extra_groups"]) == (False, [])
    else:
        assert find_account(None).of_child == {}
        with pytest.raises(UserError, match="is for root"):
            find_account("nobody")


def test_programs_are_found_by_version_or_named_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = programs.find_programs()
    assert programs.find_programs(newest.version) == newest
    with pytest.raises(UserError, match="were made by Postgres 3"):
        programs.find_programs(3)
    monkeypatch.setattr(programs, "_PACKAGE", "no_such_package")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match=r"pip install '\.\[server\]'"):
        programs.find_programs()


def test_a_log_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_log, "_MOST_BYTES", 10_000)
    read, write = os.pipe()
    log = ServerLog(tmp_path / "log", os.fdopen(read, "rb"))
    with open(write, "wb") as pipe:
        for number in range(3000):
            pipe.write(b"LOG: %d\n" % number)
        pipe.write(b"x" * 20_000 + b"\nthe end \xff\n")
    assert log.last().endswith("the end \ufffd")
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"log", "log.1"}
    assert max(sizes.values()) < 15_000
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_the_number_of_a_process_that_is_gone_or_something_else_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    end_leftover(tmp_path, said.append)  # no file
    file = tmp_path / "postmaster.pid"
    for text in ("", "x\n", "\n1"):
        file.write_text(text)
        end_leftover(tmp_path, said.append)
        assert not file.exists()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid, after in ((gone.pid, gone.pid), (1, os.getpid()), (0, 0), (-1, -1)):
        file.write_text(f"{pid}\n/data\n17\n")
        end_leftover(tmp_path, said.append)
        assert file.read_text() == f"{after}\n/data\n17\n"
    assert said == []


def test_addresses_and_ports() -> None:
    assert [is_loopback(host) for host in ("localhost", "127.0.0.5", "::1", "0.0.0.0", "node-1")] == [True] * 3 + [
        False
    ] * 2
    port = free_port("127.0.0.1")
    with listen("127.0.0.1", port), pytest.raises(UserError, match="the port is in use"):
        listen("127.0.0.1", port)
    for host in ("no.such.host.invalid", "x" * 300, "192.0.2.1"):
        with pytest.raises(UserError, match="address of this machine"):
            listen(host, port)
        with pytest.raises(UserError, match="address of this machine"):
            free_port(host)


def test_a_door_stays_open_where_a_thread_could_not_be_started(folder: ServerFolder, tmp_path: Path) -> None:
    folder.prepare()
    ensure_certificate(folder, "127.0.0.1")
    port = free_port("127.0.0.1")

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10) as client, contextlib.suppress(ConnectionError):
            client.sendall(struct.pack("!II", 8, 80877103))
            return client.recv(1)
        return b""

    with Door("127.0.0.1", port, tmp_path / "none", folder.certificate, folder.key, most=1):
        before = threading.stack_size(1 << 46)  # there is no machine with so much memory
        try:
            assert ask() == b""
        finally:
            threading.stack_size(before)
        assert ask() == b"S"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--dump", "x", "--port", "5"], "--port is for serving"),
        (["--restore", "x", "--host", "h"], "--host is for serving"),
        (["--dump", "x", "--restore", "y"], "not allowed with"),
        (["--port", "70000"], "a port from 0 to 65535"),
        (["--storage", "sqlite:///x"], "not an option"),
        (["--dump", "x"], "There is no server"),
        (["--dump", "-"], "is no file"),
        (["--dump", "missing/x"], "no folder"),
        (["--url-file", "/dev/null"], "is no file"),
        (["--url-file", "missing/x"], "no folder"),
        (["--restore", "x"], "No such file"),
        (["--restore", "."], "cannot be read"),
        (["--run-as", "nobody-here"], "no user"),
    ],
)
def test_options_are_checked_before_anything_is_made(tmp_path: Path, words: list[str], why: str) -> None:
    # Whom root's Postgres runs as, where there is no user `postgres`.
    more = ["--run-as", "nobody"] if os.geteuid() == 0 and "--run-as" not in words else []
    assert why in run_here("serve", *more, *words, cwd=tmp_path).refusal()
    assert os.listdir(tmp_path) == []
