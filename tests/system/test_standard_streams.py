"""Standard input, output and error that are closed, full, or in another encoding: a sentence, or nothing is lost."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.study_fixtures import ROOT, FinishedStudy

PROGRAM = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'run_study.py'))}"


def shell(line: str, cwd: Path, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-c", f"{PROGRAM} {line}"],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=800,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stdout + done.stderr, done
    assert "Exception ignored" not in done.stderr, done
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", ["status", "status --json", "data list", "doctor", "--help", "report"])
def test_standard_output_that_takes_nothing_is_one_sentence(command: str, finished_study: FinishedStudy) -> None:
    if command == "report":
        command = f"report --study-name {finished_study.name} --output -"
    for where, reason in ((">/dev/full", "No space left on device"), (">&-", "it is closed")):
        status, out, err = shell(f"{command} {where}", finished_study.folder)
        assert (status, out, err.count("\n")) == (1 if reason in err else 2, "", 1)
        assert err.startswith("error: Standard output ")
        assert reason.removeprefix("it ") in err


def test_a_reader_who_has_left_is_told_nothing(finished_study: FinishedStudy) -> None:
    assert shell("data list | true", finished_study.folder)[1:] == ("", "")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_standard_error_that_takes_nothing_stops_no_command(where: str, finished_study: FinishedStudy) -> None:
    usual = shell("status", finished_study.folder)
    assert shell(f"status {where}", finished_study.folder) == usual
    # Not on standard output either: that holds what the command found, and nothing else.
    assert shell(f"status --study-name none {where}", finished_study.folder) == (2, "", "")


@pytest.mark.parametrize("where", ["2>&- >&- <&-", "2>/dev/full >/dev/full"])
def test_a_search_that_can_say_nothing_keeps_all_it_finds(
    where: str, finished_study: FinishedStudy, tmp_path: Path
) -> None:
    words = " ".join(finished_study.command)
    assert shell(f"{words} --n-trials 2 {where}", tmp_path) == (1, "", "")
    own, other = (folder / "exported" / finished_study.export.name for folder in (tmp_path, finished_study.folder))
    weights = own.with_suffix("") / "fold0.safetensors"
    assert weights.read_bytes() == (other.with_suffix("") / "fold0.safetensors").read_bytes()
    status, out, err = shell("status --study-name synthetic_two_vs_rest-ridge", tmp_path)
    assert (status, "2/2" in out, err) == (0, True, "")


def test_what_an_encoding_lacks_is_written_as_an_escape(finished_study: FinishedStudy) -> None:
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    status, out, err = shell("data list", finished_study.folder, **ascii_alone)
    assert (status, err) == (0, "")
    assert "\\xb0C" in out  # the unit of Meltome
    assert out.isascii()


def test_a_candidate_from_a_standard_input_that_is_closed(finished_study: FinishedStudy) -> None:
    answer = shell(f"predict {shlex.quote(str(finished_study.export))} --input - --quiet <&-", finished_study.folder)
    assert answer == (2, "", "error: Standard input is closed: name a file.\n")
