"""What the machine or the shell does not give ends a command in a sentence; a long TMPDIR ends nothing."""

import errno
import os
import shlex
from pathlib import Path

import pytest

from search.machine.limits import fault, limit_reached
from tests.helpers.study_fixtures import FinishedStudy
from tests.system.test_standard_streams import PROGRAM, shell


def test_a_temporary_folder_too_long_for_a_socket_ends_no_search(finished_study: FinishedStudy, tmp_path: Path) -> None:
    long = tmp_path / ("l" * 138)
    long.mkdir()
    status, out, err = shell(" ".join(finished_study.command) + " --n-trials 1", tmp_path, TMPDIR=str(long))
    assert (status, "Exported:" in out) == (0, True), err


def test_a_temporary_folder_that_is_not_there_ends_no_search(finished_study: FinishedStudy, tmp_path: Path) -> None:
    words = " ".join(finished_study.command) + " --n-trials 1"
    status, out, err = shell(words, tmp_path, TMPDIR=str(tmp_path / "none"))
    assert (status, "Exported:" in out) == (0, True), err


def test_a_limit_of_file_sizes_is_a_sentence(finished_study: FinishedStudy, tmp_path: Path) -> None:
    words = " ".join(finished_study.command)
    status, out, err = shell(f"--version-of-nothing 2>&-; ulimit -f 10; {PROGRAM} {words} --n-trials 1", tmp_path)
    assert (status, out) == (1, "")
    assert err.startswith("error: The machine gave no more: File too large")
    assert err.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix == ".yaml"] == []


@pytest.mark.parametrize("words", ["status", "--task synthetic_two_vs_rest --model ridge --n-trials 1"])
def test_a_working_directory_that_was_removed_is_a_sentence(words: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"--nothing 2>&-; cd {shlex.quote(str(gone))}; rmdir {shlex.quote(str(gone))}; {PROGRAM} {words}"
    answer = shell(line, tmp_path)
    assert answer == (1, "", "error: The working directory was removed: change into one that exists.\n")


def test_what_is_behind_an_error_is_found_below_others() -> None:
    error = ValueError("wrapped")
    error.__cause__ = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    found = limit_reached(error)
    assert found is not None
    assert "Too many open files; raise the number of open files" in str(found)
    assert limit_reached(MemoryError()) is not None
    assert limit_reached(ValueError("a bug")) is None
    assert limit_reached(FileNotFoundError(errno.ENOENT, "no such file", "x")) is None
    assert fault("OSError: [Errno 27] File too large") == "disk_full"
