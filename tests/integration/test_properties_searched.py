"""A search of several properties: one command, one study for each, the same rows sealed for all."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import yaml

import search
from search.storage.url import default_url
from tests.helpers.answers import Answer
from tests.helpers.reports import search_proposed
from tests.helpers.study_fixtures import Program
from tests.helpers.tables import variants, write

Command = Callable[..., Answer]
BOTH = ("--target-column", "activity", "--target-column", "stability")
ENDS = ("--export-dir", "exported", "--model", "ridge", "--n-trials", "1", "trainer.threads=1", "logger=none")
SEARCH = ("--data", "t.csv", "--split", "random", *BOTH, *ENDS)
NAMES = ["t-activity-random-with_stability-ridge", "t-stability-random-with_activity-ridge"]


def write_table(folder: Path) -> Path:
    rows = [
        (s, "n.d." if i % 5 == 1 else f"{v:.4f}", "" if i % 7 < 2 else f"{i % 11 / 20 - v:.4f}", i % 3)
        for i, (_, s, v) in enumerate(variants()[::5])
    ]
    return write(folder / "t.csv", "sequence,activity,stability,cv", rows)


def names(folder: Path) -> list[str]:
    return sorted(optuna.get_all_study_names(default_url(folder / "runs")))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, here: Program) -> tuple[Path, Answer]:
    folder = tmp_path_factory.mktemp("properties")
    write_table(folder)
    return folder, here(*SEARCH, cwd=folder)


def test_each_property_has_a_study_and_a_row_of_the_table(searched: tuple[Path, Answer], here: Program) -> None:
    folder, answer = searched
    assert answer.status == 0, answer
    assert names(folder) == NAMES
    rows = answer.out.partition("property   study")[2].splitlines()[1:3]
    assert [row.split()[:3] for row in rows] == [["activity", NAMES[0], "1"], ["stability", NAMES[1], "1"]]
    exports = [f"exported/{name}.yaml" for name in NAMES]
    assert [row.split()[-1] for row in rows] == exports
    assert f"predict {' '.join(exports)} --input" in answer.out
    assert f"suggest {' '.join(exports)} --input candidates.fasta --batch 96" in answer.out, "no wild type is known"
    for export, column in zip(exports, ("activity", "stability"), strict=True):
        table = yaml.safe_load((folder / export).read_text())["table"]
        assert (table["target_column"], table["properties"]) == (column, ["activity", "stability"])
        assert here("verify", export, cwd=folder).status == 0


def test_the_same_command_adds_nothing_whatever_their_order_and_python_goes_on_with_them(
    searched: tuple[Path, Answer], here: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = searched[0]
    again = here(*SEARCH[:4], *BOTH[2:], *BOTH[:2], *ENDS, cwd=folder)
    assert again.err.count("nothing to do") == 2
    assert names(folder) == NAMES
    monkeypatch.chdir(folder)
    request = search.SearchRequest(
        data="t.csv",
        split="random",
        target_column="stability",
        properties=["stability", "activity"],
        model="ridge",
        n_trials=1,
        overrides=["trainer.threads=1", "logger=none"],
        quiet=True,
    )
    outcome = search.run_study(request)
    assert outcome.study is not None
    assert (outcome.study.study_name, outcome.n_before) == (NAMES[1], 1)


def test_a_property_by_itself_is_another_study(searched: tuple[Path, Answer], here: Program, tmp_path: Path) -> None:
    write_table(tmp_path)
    for words in (BOTH[:2], (*BOTH[:2], *BOTH[:2])):
        answer = here("--data", "t.csv", "--split", "random", *words, *ENDS, cwd=tmp_path)
        assert answer.status == 0, answer
    assert names(tmp_path) == ["t-activity-random-ridge"]


def test_the_report_repeats_the_search_by_the_name_that_it_was_given(tmp_path: Path, command: Command) -> None:
    write_table(tmp_path)
    assert command(*SEARCH, "--study-name", "p").status == 0
    again = command(*search_proposed("p-stability", tmp_path, "--export-dir", "exported"))
    assert again.err.count("nothing to do") == 2
    assert names(tmp_path) == ["p-activity", "p-stability"]


@pytest.mark.slow
def test_a_name_begins_the_names_and_each_fold_is_test_for_all(tmp_path: Path, command: Command) -> None:
    write_table(tmp_path)
    answer = command("--data", "t.csv", "--fold-column", "cv", "--test-fold", "all", *BOTH, *ENDS, "--study-name", "p")
    assert answer.status == 0, answer
    assert names(tmp_path) == sorted(f"p-{one}-test{k}-ridge"[:-6] for one in ("activity", "stability") for k in "012")
    assert answer.out.count("Mean validation Spearman over 3 folds") == 2


@pytest.mark.slow
def test_several_families_have_a_ladder_for_each_property(tmp_path: Path, command: Command) -> None:
    write_table(tmp_path)
    words = ("--model", "kernel", "--no-ensemble", "--study-name", "two")
    answer = command(*SEARCH, *words)
    assert answer.status == 0, answer
    assert names(tmp_path) == sorted(f"two-{p}-{m}" for p in ("activity", "stability") for m in ("ridge", "kernel"))
    assert answer.out.count("Ladder on t, target") == 2
    assert "predict exported/two-activity-" in answer.out
    assert "where a ladder above recommends another file, take that" in answer.out


def test_what_one_property_lacks_is_told_before_anything_is_searched(tmp_path: Path, command: Command) -> None:
    rows = [(s, f"{v:.4f}", f"{i % 7}" if i % 25 == 0 else "") for i, (_, s, v) in enumerate(variants()[::3])]
    write(tmp_path / "t.csv", "sequence,activity,stability", rows)
    assert "search this --target-column by itself" in command(*SEARCH).refusal()
    write(tmp_path / "t.csv", "sequence,activity,stability", [(*row[:2], "high") for row in rows])
    assert "the target 'high' is not a number" in command(*SEARCH).refusal()
    assert not (tmp_path / "runs" / "studies.db").exists()


def test_what_contradicts_itself_is_refused(tmp_path: Path, command: Command) -> None:
    write_table(tmp_path)
    for words, sentence in (
        (("--split", "low_vs_high"), "are divided alike: choose another split"),
        (("--replicate-column", "cv", "--replicate-column", "stability"), "are one together"),
        (("--error-column", "cv"), "several are given ('activity', 'stability')"),
        (("--target-column", "stabilty"), "Did you mean 'stability'"),
    ):
        assert sentence in command(*SEARCH, *words).refusal()
        assert sentence in command("data", "check", "t.csv", "--split", "random", *BOTH, *words).refusal()
    assert "`train` is of one property" in command("train", *SEARCH[:8], "--model", "ridge").refusal()


def test_data_check_shows_each_property_and_proposes_one_search(tmp_path: Path, command: Command) -> None:
    write_table(tmp_path)
    answer = command("data", "check", "t.csv", *BOTH)
    assert answer.status == 0, answer
    assert answer.out.count("One of 2 properties; the 203 variants that any of them has are divided once") == 2
    assert answer.out.index("targets in 'activity'") < answer.out.index("targets in 'stability'")
    assert answer.out.count("A search accepts it") == 1
    assert " ".join(BOTH) in answer.out.partition("A search accepts it")[2]
    assert "low_vs_high" not in answer.out
    checked = search.check_table(tmp_path / "t.csv", target_column="stability", properties=["stability", "activity"])
    (line,) = [one.words for one in checked.splits if one.name == "random"]
    assert f"random         {line}" in answer.out.partition("targets in 'stability'")[2]
