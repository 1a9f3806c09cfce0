"""Outputs that users name: links, FIFOs, devices, read-only files; and pipes as inputs."""

import contextlib
import gzip
import os
import re
import socket
import sys
import threading
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from datasets.common.files import STANDARD, check_output, output, refuse_same_file, rereadable
from datasets.tables.formats.text_file import first_bytes, read_lines


def write(path: Path, text: str = "new\n") -> None:
    with output(path) as file:
        file.write(text)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_output(path)
    with pytest.raises(UserError, match=re.escape(str(caught.value))):
        write(path)
    return str(caught.value)


def read_in_background(path: Path) -> tuple[threading.Thread, list[bytes]]:
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()))
    thread.start()
    return thread, found


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path):
    yield
    assert list(tmp_path.rglob(".*")) == []


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link, second = tmp_path / "there" / "x.csv", tmp_path / "link.csv", tmp_path / "second.csv"
    target.write_text("old")
    link.symlink_to("there/x.csv")
    second.symlink_to(link)
    for path in (link, second):
        write(path, path.name)
        assert (path.is_symlink(), target.is_symlink(), target.read_text()) == (True, False, path.name)


def test_a_link_that_leads_nowhere_makes_its_file_and_one_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    link, loop, lost = tmp_path / "link.csv", tmp_path / "loop.csv", tmp_path / "lost.csv"
    link.symlink_to("new.csv")
    loop.symlink_to("loop.csv")
    lost.symlink_to("no folder/new.csv")
    write(link)
    assert (tmp_path / "new.csv").read_text() == "new\n"
    assert "Too many levels of symbolic links" in refusal(loop)
    assert "There is no folder" in refusal(lost)
    assert loop.is_symlink()


def test_a_read_only_file_is_refused_through_a_link_too(tmp_path: Path) -> None:
    file, link = tmp_path / "x.csv", tmp_path / "link.csv"
    file.write_text("old")
    file.chmod(0o444)
    link.symlink_to(file)
    for path in (file, link):
        assert f"{path} is read-only" in refusal(path)
    assert file.read_text() == "old"


def test_a_file_keeps_its_mode_and_its_content_where_the_block_fails(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("old")
    file.chmod(0o640)
    with contextlib.suppress(RuntimeError), output(file) as half:
        half.write("half")
        raise RuntimeError
    assert file.read_text() == "old"
    write(file)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new\n", 0o640)


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    write(tmp_path / f"{'ä' * 125}.csv")
    assert "File name too long" in refusal(tmp_path / f"{'ä' * 126}.csv")


def test_folders_sockets_and_missing_folders_are_refused(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)
    assert "There is no folder" in refusal(tmp_path / "no" / "x.csv")
    listening = socket.socket(socket.AF_UNIX)
    with contextlib.closing(listening), contextlib.chdir(tmp_path):
        listening.bind("s")
        assert "is a disk or a socket" in refusal(Path("s"))
    with output(tmp_path / "made" / "below" / "x.csv", makes_folder=True) as file:
        file.write("new")
    assert "Not a directory" in refusal(tmp_path / "made" / "below" / "x.csv" / "y.csv")


def test_a_fifo_is_written_to_and_stays_one(tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    for path in (fifo, link):
        thread, found = read_in_background(fifo)
        write(path)
        thread.join()
        assert (found, fifo.is_fifo()) == ([b"new\n"], True)


def test_a_fifo_whose_reader_leaves_is_a_broken_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: os.close(os.open(fifo, os.O_RDONLY)))
    reader.start()
    with pytest.raises(BrokenPipeError):
        write(fifo, "x" * 2**20)
    reader.join()


def test_devices_take_what_they_take() -> None:
    before = Path(os.devnull).stat()
    write(Path(os.devnull))
    assert os.path.samestat(before, Path(os.devnull).stat())
    with pytest.raises(UserError, match=r"/dev/full cannot be written \(No space left on device\)"):
        write(Path("/dev/full"))


def test_an_open_file_is_written_on_and_not_emptied(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("a") as log:
        log.write("old\n")
        log.flush()
        write(Path(f"/dev/fd/{log.fileno()}"))
        write(Path(f"/proc/self/fd/{log.fileno()}"))
    assert file.read_text() == "old\nnew\nnew\n"


def test_a_dash_is_standard_output(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write(STANDARD)
    assert capsys.readouterr().out == "new\n"
    monkeypatch.setattr(sys, "stdout", None)
    assert "Standard output is closed" in refusal(STANDARD)


def test_bytes_are_written_by_the_same_rule(tmp_path: Path) -> None:
    with output(tmp_path / "x.bin", "wb") as file:
        file.write(b"\xff")
    assert (tmp_path / "x.bin").read_bytes() == b"\xff"


def test_two_outputs_whose_long_names_begin_alike_are_written_at_once(tmp_path: Path) -> None:
    table, about = (tmp_path / f"{'x' * 240}.{ending}" for ending in ("csv", "json"))
    table.write_text("old")
    with output(about) as first, output(table) as second:
        first.write("{}")
        second.write("new")
    assert (table.read_text(), about.read_text()) == ("new", "{}")


def test_an_output_is_not_what_is_read(tmp_path: Path) -> None:
    file, link, second = tmp_path / "x.csv", tmp_path / "link.csv", tmp_path / "second.csv"
    file.write_text("old")
    link.symlink_to(file)
    os.link(file, second)
    for path in (file, link, second):
        with pytest.raises(UserError, match="is the --input itself"):
            refuse_same_file(file, path, "the --input")
    refuse_same_file(file, tmp_path / "new.csv", "the --input")
    refuse_same_file(Path(os.devnull), Path(os.devnull), "the --input")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_pipe_is_read_several_times(tmp_path: Path, pack) -> None:
    fifo = tmp_path / "c.txt"
    os.mkfifo(fifo)
    content = b"AC\nDE\n" * 30_000  # more than a pipe holds
    writer = threading.Thread(target=lambda: fifo.write_bytes(pack(content)))
    writer.start()
    with rereadable(fifo) as path:
        assert path.suffix == ".txt"
        assert first_bytes(path).startswith(b"AC\nDE\n")
        for _ in range(2):
            assert [line for block in read_lines(path) for line in block] == ["AC", "DE"] * 30_000
    writer.join()
    assert not path.exists()


def test_what_is_wrong_with_a_pipe_is_said_of_the_pipe(tmp_path: Path) -> None:
    read, written = os.pipe()
    os.write(written, b"AC\nD\x81E\n")
    os.close(written)
    with pytest.raises(UserError) as caught, rereadable(Path(f"/dev/fd/{read}")) as path:
        list(read_lines(path))
    os.close(read)
    assert str(caught.value) == f"/dev/fd/{read}, line 2: the byte 0x81 is not UTF-8; save the file as UTF-8."


def test_files_and_endless_devices_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("AC\n")
    for path in (tmp_path / "x.txt", tmp_path / "none.txt", tmp_path, Path("/dev/zero")):
        with rereadable(path) as found:
            assert found == path


def test_a_descriptor_that_is_not_open_is_a_sentence() -> None:
    with pytest.raises(UserError, match="Bad file descriptor"):
        write(Path("/dev/fd/987654"))
