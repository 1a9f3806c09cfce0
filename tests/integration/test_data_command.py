"""`data check`, `data list` and `data fetch`."""

import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.tasks import flip_files
from datasets.tasks.synthetic import WILD_TYPE
from search.options.arguments import parse
from search.options.table_options import said_again
from tests.helpers.answers import Answer
from tests.helpers.split_files import GOOD_ROWS, write_zip
from tests.helpers.tables import variants, write

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
        "155 variants have at most 2 mutations, the others more: this split trains on the former",
        "--data my.csv --split two_vs_rest --wild-type wt.fasta --model ridge --model kernel --model cnn",
    ):
        assert words in answer.out
    answer = command("data", "check", "my.csv", "--wild-type", "wt.fasta", "--split", "one_vs_rest")
    assert "split: 18 train, 2 validation, 1,060 test" in answer.out
    assert "--split one_vs_rest --wild-type wt.fasta --model ridge --model kernel --model cnn" in answer.out
    assert "note     the validation part has 2 sequences, which are few to choose a model by" in answer.out


SINGLES = [(text, sequence, value) for text, sequence, value in variants() if text.count(":") == 0]
MORE = [(text, sequence, value) for text, sequence, value in variants() if text.count(":") >= 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("header", "rows", "words", "why"),
    [
        ("mutant,fitness", [(m, y) for m, _, y in SINGLES], ["random"], "with --model kernel or forest"),
        (
            "mutant,fitness",
            [(m, y) for m, _, y in variants()],
            ["two_vs_rest"],
            "155 variants have at most 2 mutations",
        ),
        ("mutant,fitness", [(m, y) for m, _, y in [*SINGLES, *MORE[:20]]], ["random"], "leaves 100 variants"),
        (
            "sequence,fitness",
            [(s[: 20 + i % 12], i) for i, (_, s, _) in enumerate(variants()[:200])],
            ["random"],
            "not variants of one known wild type",
        ),
        (
            "mutant,fitness,Cluster",
            [(m, y, i % 4) for i, (m, _, y) in enumerate(variants())],
            ["by_group", "--group-column", "Cluster"],
            "The column 'Cluster' names groups",
        ),
        (
            "mutant,fitness,cluster",
            [(m, y, i) for i, (m, _, y) in enumerate(variants())],
            ["two_vs_rest"],
            "155 variants",
        ),
        (
            "mutant,fitness,set",
            [(m, y, "test" if i % 3 else "train") for i, (m, _, y) in enumerate(variants())],
            [],
            "",
        ),
    ],
    ids=["singles", "singles and combinations", "few", "many lengths", "groups", "names, not groups", "its own parts"],
)
def test_the_split_that_is_suggested_follows_from_what_the_table_is_and_a_search_accepts_it(
    command: Command, tmp_path: Path, header: str, rows: list[Any], words: list[str], why: str
) -> None:
    write(tmp_path / "t.csv", header, rows)
    (tmp_path / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    known = ["--wild-type", "wt.fasta"] if header.startswith("mutant") else []
    answer = command("data", "check", "t.csv", *known)
    assert answer.status == 0, answer
    split = ["--split", *words] if words else []
    forest = ["--model", "forest"] if "No variant has more than one mutation" in answer.out else []
    models = ["--model", "ridge", "--model", "kernel", *forest, "--model", "cnn"]
    proposed = answer.out.partition("A search accepts it: ")[2]
    assert proposed.split()[2:] == ["--data", "t.csv", *split, *known, *models]
    assert why in answer.out
    # Of the values of the targets nothing follows.
    changed = [(row[0], -i, *row[2:]) for i, row in enumerate(rows)]
    write(tmp_path / "t.csv", header, changed)
    assert command("data", "check", "t.csv", *known).out.partition("A search accepts it: ")[2] == proposed
    dry = command(*proposed.split()[2:], "--dry-run")
    assert dry.status == 0, dry


def test_where_the_kernel_is_too_small_it_is_not_suggested(
    monkeypatch: pytest.MonkeyPatch, command: Command, tmp_path: Path
) -> None:
    write(tmp_path / "t.csv", "mutant,fitness", [(m, y) for m, _, y in SINGLES])
    (tmp_path / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    monkeypatch.setattr("search.cli.data.MAX_INDUCED_ROWS", 10)
    answer = command("data", "check", "t.csv", "--wild-type", "wt.fasta")
    assert answer.out.endswith("--model ridge --model forest --model cnn\n")
    answer = command("data", "check", "t.csv", "--wild-type", "wt.fasta", "--split", "by_position")
    assert answer.out.endswith("--wild-type wt.fasta --model forest --model cnn\n"), (
        "ridge cannot tell new positions apart"
    )


@pytest.mark.parametrize("kind", ["contiguous", pytest.param("modulo", marks=pytest.mark.slow), "random"])
def test_folds_of_positions_are_proposed_to_families_that_can_tell_new_positions_apart(
    command: Command, kind: str, tmp_path: Path
) -> None:
    """A single mutant at a position where nothing else was measured is like any other to ridge."""
    rows = []
    for i, residue in enumerate(WILD_TYPE):
        fold = {"contiguous": i * 3 // len(WILD_TYPE), "modulo": i % 3}
        for j, new in enumerate(letter for letter in "ACDE" if letter != residue):
            sequence = WILD_TYPE[:i] + new + WILD_TYPE[i + 1 :]
            rows.append((sequence, f"{(i * 7 + j * 3) % 11}", fold.get(kind, (i + j) % 3)))
    (tmp_path / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    write(tmp_path / "t.csv", "sequence,fitness,fold", [(WILD_TYPE, "1", 0), *rows])
    answer = command("data", "check", "t.csv", "--wild-type", "wt.fasta", "--fold-column", "fold")
    assert answer.status == 0, answer
    proposed = answer.out.splitlines()[-1]
    assert "--test-fold all" in proposed
    assert ("--model ridge" in proposed) == (kind == "random")
    assert "--model kernel --model forest" in proposed
    if kind == "modulo":
        dry = command(*proposed.partition("A search accepts it: ")[2].split()[2:], "--dry-run")
        assert dry.status == 0, dry


def test_messages_say_what_they_mean(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "mutant,fitness", [(m, y) for m, _, y in variants()[:200]])
    (tmp_path / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    words = ("--data", "t.csv", "--wild-type", "wt.fasta", "--model", "ridge")
    sentence = command(*words).refusal()
    assert "t.csv does not say which rows are test: name a split with --split, such as random" in sentence
    # A search that cross-validates is not told to.
    assert "validation" not in command(*words, "--split", "random", "--dry-run").err.replace("16 validation and", "")


def test_every_kind_of_finding_has_its_lines_and_ends_with_two(command: Command, tmp_path: Path) -> None:
    rows = [(sequence, f"{value:.4f}") for _, sequence, value in variants()[:60]]
    for line in (5, 9):
        rows[line - 2] = (rows[line - 2][0], "high")
    rows[20 - 2] = (WILD_TYPE[:4] + "*" + WILD_TYPE[5:], "1")
    write(tmp_path / "bad.csv", "sequence,fitness", rows)
    answer = command("data", "check", "bad.csv")
    assert answer.status == 2
    assert "refused  lines 5, 9: the target 'high' is not a number" in answer.out
    assert "refused  line 20: the residue '*' at position 5" in answer.out
    assert answer.err.startswith("error: bad.csv, line 5: the target 'high' is not a number (and 1 more line like it)")
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
    assert "Remove it to have FLIP's own downloaded" in answer.out
    assert "needs no file" in command("data", "fetch", "synthetic_one_vs_rest").out
    assert "Did you mean 'gb1_sampled'" in command("data", "fetch", "gb1_sampld").refusal()


def test_a_download_that_takes_too_long_is_given_up(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLIPSEARCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        monkeypatch.setattr(flip_files, "URL", f"http://127.0.0.1:{silent.getsockname()[1]}/{{commit}}/{{dataset}}.zip")
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
        (("data", "check"), "FILE"),
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


def test_the_search_that_is_named_runs_where_names_begin_with_a_dash(command: Command, tmp_path: Path) -> None:
    rows = [(sequence, value, 0.1 + value**2, f"-{i % 3}a") for i, (_, sequence, value) in enumerate(variants()[:90])]
    write(tmp_path / "my.csv", "sequence,-logKd,-se,-fold", rows)
    how = ("--target-column=-logKd", "--error-column=-se", "--fold-column=-fold")
    for more, expected in (((), "all"), (("--test-fold=-1a",), "-1a")):
        answer = command("data", "check", "my.csv", *how, *more)
        assert answer.status == 0, answer
        proposed = shlex.split(answer.out.partition("A search accepts it: ")[2])
        asked = parse(proposed[proposed.index("--data") :])
        assert (asked.target_column, asked.error_column, asked.fold_column) == ("-logKd", "-se", "-fold")
        assert asked.test_fold == expected


def test_a_table_that_no_split_can_divide_is_not_proposed_to_a_search(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "sequence,fitness", [(s, i) for i, (_, s, _) in enumerate(variants()[:7])])
    answer = command("data", "check", "t.csv")
    assert answer.status == 0, answer
    assert "random         not possible: " in answer.out
    assert answer.out.endswith("No search accepts it: 7 variants are too few to be divided; measure more.\n")


def refused_table(folder: Path) -> None:
    """Rounds and folds of which one has two rows, replicates, and a score that agrees but for two training rows."""
    rows = []
    for i, (_, sequence, value) in enumerate(variants()[:200]):
        fold = "d" if i < 2 else "abc"[i % 3]
        rows.append((sequence, f"{value + i / 1000:.5f}", fold))
    write(folder / "t.csv", "sequence,fitness,cv", rows)
    write(folder / "twice.csv", "sequence,fitness", [(s, float(v) + a) for a in (0, 9) for s, v, _ in rows])
    write(folder / "few.csv", "sequence,fitness", [(s, float(v) + a) for a in (0, 9) for s, v, _ in rows[:14]])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("t.csv --fold-column cv --test-fold a", "by_fold of 3 leaves 2 validation sequences of t to a fold"),
        ("t.csv --fold-column cv", "by_fold of 3 leaves 2 validation sequences of t to a fold"),
        ("t.csv --fold-column cv --test-fold all", "by_fold of 3 leaves 2 validation sequences of t to a fold"),
        ("t.csv --round-column cv --split random", "Round 'd' of t has 2 sequences"),
        ("t.csv --round-column cv", "Round 'd' of t has 2 sequences"),
        ("twice.csv --replicates keep --split low_vs_high", "the sequence stands in both train and test"),
        ("few.csv --replicates keep --split random", "leaves fewer than 3 of the 11 different sequences"),
    ],
)
def test_what_a_search_cannot_divide_is_refused_with_its_sentence(
    words: str, sentence: str, command: Command, tmp_path: Path
) -> None:
    refused_table(tmp_path)
    checked = command("data", "check", *words.split()).refusal()
    assert sentence in checked
    if "--split" in words or words.endswith("--test-fold a"):
        answer = command("--data", *words.split(), "--model", "ridge", "--n-trials", "1")
        assert answer.status == 2
        assert sentence in answer.err


def test_what_a_search_can_divide_is_accepted(command: Command, tmp_path: Path) -> None:
    refused_table(tmp_path)
    assert command("data", "check", "twice.csv", "--replicates", "keep", "--split", "random").status == 0
    assert command("data", "check", "twice.csv", "--replicates", "keep").status == 0


def test_scores_are_judged_by_the_rows_that_a_search_judges_them_by(command: Command, tmp_path: Path) -> None:
    """Validation rows count: by the training rows alone this column would follow from the target."""
    parts = [("train", ""), ("train", ""), ("train", "True"), ("test", "")]
    rows = [
        (sequence, f"{i / 50}", *parts[i % 4], f"{i / 50 if i % 4 < 2 else -i}")
        for i, (_, sequence, _) in enumerate(variants()[:200])
    ]
    path = write(tmp_path / "t.csv", "sequence,fitness,set,validation,esm", rows)
    words = (str(path), "--zero-shot-column", "esm")
    answer = command("data", "check", *words)
    assert answer.status == 0, answer
    assert command("--data", *words, "--model", "ridge", "--dry-run").status == 0


def test_folds_are_read_as_the_table_was(command: Command, tmp_path: Path) -> None:
    """A column of mutations that was merely found may differ, which is a warning, whichever fold is test."""
    rows = [
        (sequence, variants()[4 if i == 3 else i][0], value, "abc"[i % 3])
        for i, (_, sequence, value) in enumerate(variants()[:200])
    ]
    write(tmp_path / "t.csv", "sequence,mutant,fitness,cv", rows)
    (tmp_path / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    answer = command("data", "check", "t.csv", "--fold-column", "cv", "--wild-type", "wt.fasta")
    assert answer.status == 0, answer
    assert "warning" in answer.out
