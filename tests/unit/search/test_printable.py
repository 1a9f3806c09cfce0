"""What is said on standard error, whoever wrote the names in it."""

from pathlib import Path

import pytest

from search.machine.standard_streams import announcer
from tests.helpers.answers import run_here

ESCAPE = "\x1b[31mt\x07"


def test_no_control_character_reaches_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announcer(False)(f"Highest prediction 1 ({ESCAPE});\nthe next line")
    assert capsys.readouterr().err == "Highest prediction 1 (?[31mt?);\nthe next line\n"
    answer = run_here("data", "check", f"{ESCAPE}.csv", cwd=tmp_path)
    assert answer.status == 2
    assert "?[31mt?.csv" in answer.err
    assert answer.err.strip("\n").isprintable()
