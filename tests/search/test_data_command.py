"""`data check`, `data list` and `data fetch`."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets import download
from datasets.synthetic import WILD_TYPE
from search.arguments import parse
from search.data_options import said_again
from tests.datasets.split_files import GOOD_ROWS, write_zip
from tests.datasets.tables import variants, write
from tests.search.answers import Answer

Command = Callable[..., Answer]


def test_a_table_is_described_and_the_search_of_it_named(command: Command, tmp_path: Path) -> None:
    rows = [(text, f"{value + delta:.6f}") for text, _, value in variants() for delta in (-0.01, 0.01)]
    write(tmp_path / "my.csv", "mutant,fitness", rows, end="\r\n")
    (tmp_path / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    answer = command("data", "check", "my.csv", "--wild-type", "wt.fasta")
    assert answer.status == 0, answer
    for words in (
        "my.csv: CSV, 2,160 rows, mutations in 'mutant', targets in 'fitness'",
        "1,080 of 32 residues",
        "10,13,16,21",
        "1,080 variants were measured more than once; one measurement has a standard deviation of 0.0141",
        "a perfect model would reach a Spearman of about 0.99",
        "lines 3, 5, 7, 9, 11, ... (1,080 in all): the sequence was measured before",
        "two_vs_rest    139 train, 16 validation, 925 test (train has at most 2 mutations)",
        "--data my.csv --split random --wild-type wt.fasta --model cnn",
    ):
        assert words in answer.out
    answer = command("data", "check", "my.csv", "--wild-type", "wt.fasta", "--split", "one_vs_rest")
    assert "split: 18 train, 2 validation, 1,060 test" in answer.out


def test_every_kind_of_finding_has_its_lines_and_ends_with_two(command: Command, tmp_path: Path) -> None:
    rows = [(sequence, f"{value:.4f}") for _, sequence, value in variants()[:60]]
    for line in (5, 9):
        rows[line - 2] = (rows[line - 2][0], "n/a")
    rows[20 - 2] = (WILD_TYPE[:4] + "*" + WILD_TYPE[5:], "1")
    write(tmp_path / "bad.csv", "sequence,fitness", rows)
    answer = command("data", "check", "bad.csv")
    assert answer.status == 2
    assert "refused  lines 5, 9: the target 'n/a' is not a number" in answer.out
    assert "refused  line 20: the residue '*' at position 5" in answer.out
    assert answer.err.startswith("error: bad.csv, line 5: the target 'n/a' is not a number (and 1 more line like it)")
    assert answer.err.count("\n") == 1


def test_tasks_are_listed_with_what_is_here(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLIPSEARCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_zip(tmp_path / "folder", GOOD_ROWS)
    answer = command("data", "list", "--data-dir", "folder")
    assert answer.status == 0, answer
    lines = {line.split()[0]: line for line in answer.out.splitlines()}
    assert lines["gb1_two_vs_rest"].split()[1:4] == ["2", "1", "1"]
    assert "not FLIP's file" in lines["gb1_two_vs_rest"]
    assert "without this split" in lines["gb1_sampled"]
    assert "not here" in lines["aav_sampled"]
    assert "(retired)" in lines["meltome_full"]
    assert lines["synthetic_two_vs_rest"].split()[1:4] == ["692", "213", "2,000"]


def test_a_file_is_fetched_or_the_ways_out_are_named(command: Command, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "folder", GOOD_ROWS)
    answer = command("data", "fetch", "gb1_sampled", "--data-dir", "folder")
    assert answer.status == 0, answer
    assert str(path.relative_to(tmp_path)) in answer.out
    assert "not FLIP's file" in answer.out
    assert "needs no file" in command("data", "fetch", "synthetic_one_vs_rest").out
    assert "Did you mean 'gb1_sampled'" in command("data", "fetch", "gb1_sampld").refusal()


def test_a_download_that_takes_too_long_is_given_up(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLIPSEARCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        monkeypatch.setattr(download, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/{{commit}}/{{dataset}}.zip")
        answer = command("data", "fetch", "gb1_sampled", "--timeout", "1s")
    assert answer.status != 0
    announced, sentence = answer.err.splitlines()
    assert announced.startswith("Downloading")
    assert "longer than 1 s" in sentence
    assert "expected seconds" in command("data", "fetch", "gb1_sampled", "--timeout", "soon").refusal()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("data",), "check|list|fetch"),
        (("data", "chek"), "chek"),
        (("data", "check"), "file"),
        (("data", "check", "no.csv"), "There is no file no.csv."),
        (("data", "check", "no.csv", "--split", "by_group"), "belong together"),
        (("data", "check", "."), "is not a file"),
        (("data", "check", "no.csv", "--splt", "random"), "--splt"),
    ],
)
def test_usage_errors_are_one_sentence(words: tuple[str, ...], sentence: str, command: Command) -> None:
    assert sentence in command(*words).refusal()


def test_how_a_table_was_read_is_said_again() -> None:
    words = ["data", "check", "t.csv", "--target-column", "Log x", "--wild-type", "a b.fasta", "--split-seed", "3"]
    assert said_again(parse(words)) == words[3:]
