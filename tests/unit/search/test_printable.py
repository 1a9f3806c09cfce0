"""What is said on a terminal, whoever wrote the names in it."""

from pathlib import Path

import pytest

from datasets.tasks.synthetic import WILD_TYPE
from search.machine.standard_streams import announcer
from tests.helpers.answers import run_here
from tests.helpers.tables import variants, write

ESCAPE = "\x1b[31mt\x07"


def test_no_control_character_reaches_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announcer(False)(f"Highest prediction 1 ({ESCAPE});\nthe next line")
    assert capsys.readouterr().err == "Highest prediction 1 (?[31mt?);\nthe next line\n"
    answer = run_here("data", "check", f"{ESCAPE}.csv", cwd=tmp_path)
    assert answer.status == 2
    assert "?[31mt?.csv" in answer.err
    assert answer.err.strip("\n").isprintable()


def test_a_tables_cells_are_shown_without_control_characters(tmp_path: Path) -> None:
    rows = [(text, value, f"{ESCAPE}{i % 4}") for i, (text, _, value) in enumerate(variants())]
    write(tmp_path / "my.csv", "mutant,fitness,lot", rows)
    (tmp_path / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    words = ("my.csv", "--wild-type", "wt.fasta", "--split", "by_group", "--group-column", "lot")
    answer = run_here("data", "check", *words, cwd=tmp_path)
    assert answer.status == 0, answer
    assert "?[31mt?0" in answer.out
    assert "".join(answer.out.splitlines()).isprintable()
