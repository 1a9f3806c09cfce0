"""A search by rounds: each is validated by what was measured before it, and a plate leads to the next round."""

import csv
from pathlib import Path

import pytest

import search
from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.answers import Answer, run_here
from tests.helpers.tables import variants, write

ROWS = variants()[::3][:240]
READ = ("--data", "t.csv", "--wild-type", "wt.fasta", "--split", "random")
SEARCH = (*READ, "--model", "ridge", "--n-trials", "1", "trainer.threads=1")


def searched(folder: Path, *words: str) -> Answer:
    return run_here(*SEARCH, *words, cwd=folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cells = [(sequence, f"{value:.4f}", 1 + i // 80) for i, (_, sequence, value) in enumerate(ROWS)]
    write(tmp_path / "t.csv", "sequence,fitness,round", cells)
    (tmp_path / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    return tmp_path


@pytest.mark.parametrize("words", [("--round-column", "round"), ("validation=rounds",)])
def test_each_round_judges_what_was_learnt_before_it(folder: Path, words: tuple[str, ...]) -> None:
    answer = searched(folder, *words)
    assert answer.status == 0, answer
    assert "(rounds 2 to 3, " in answer.out
    assert "Validated on rounds that were measured after all that was trained on." in answer.out
    again = searched(folder, *words)
    assert again.status == 0, again
    assert "1 finished trials (1 complete" in again.out
    (path,) = (folder / "studies" / "experiment").glob("*.yaml")
    experiment = search.load_experiment(path)
    assert experiment.config.validation["n_rounds"] == 3
    assert experiment.config.table is not None
    assert experiment.config.table.round_column == "round"
    assert experiment.n_members == 2
    verified = run_here("verify", str(path), cwd=folder)
    assert verified.status == 0, verified


def test_a_plate_is_measured_and_leads_to_the_next_round(folder: Path) -> None:
    """What stands in the wells is appended with its round; controls that are measured again are no new sequences."""
    assert searched(folder, "--round-column", "round", "--study-name", "first").status == 0
    words = ("--mutagenesis", "singles", "--batch", "40", "--controls", "2", "--output", "plate.csv", "--quiet")
    assert run_here("suggest", "studies/experiment/first.yaml", *words, cwd=folder).status == 0
    with (folder / "plate.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "t.csv").open("a") as file:
        file.writelines(f"{row['sequence']},{i / 100},4\n" for i, row in enumerate(rows))
    answer = searched(folder, "--round-column", "round", "--study-name", "second")
    assert answer.status == 0, answer
    assert "(rounds 2 to 4, " in answer.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--round-column", "plate"), "--round-column"),
        (("--round-column", "round", "--fold-column", "round"), "both say what validates what"),
        (("--task", "synthetic_two_vs_rest", "--round-column", "round"), "--data FILE"),
        (("--task", "synthetic_two_vs_rest", "validation=rounds"), "names no rounds, which validation=rounds needs"),
        (("--data", "one.csv", "--split", "random", "--round-column", "round"), "names 1 round in 'round'"),
    ],
)
def test_what_names_no_rounds_is_refused_in_a_sentence(folder: Path, words: tuple[str, ...], sentence: str) -> None:
    text = (folder / "t.csv").read_text().replace(",2\n", ",1\n").replace(",3\n", ",1\n")
    (folder / "one.csv").write_text(text)
    given = () if words[0] in ("--task", "--data") else ("--data", "t.csv", "--split", "random")
    answer = run_here(*given, "--model", "ridge", "--n-trials", "1", "trainer.threads=1", *words, cwd=folder)
    assert answer.status == 2, answer
    assert sentence in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err


def test_rounds_with_names_are_told_and_what_is_proposed_can_be_searched(tmp_path: Path) -> None:
    """The second round has all variants of more mutations, so that a split by mutations would leave one round alone."""
    cells = [
        (sequence, f"{value:.4f}", f"Runde {9 + (mutations.count(':') > 1)}")
        for mutations, sequence, value in variants()[:240]
    ]
    write(tmp_path / "t.csv", "sequence,fitness,round", cells)
    (tmp_path / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    answer = run_here("data", "check", "t.csv", "--wild-type", "wt.fasta", "--round-column", "round", cwd=tmp_path)
    assert answer.status == 0, answer
    assert "the rounds ('round') are taken in this order: 'Runde 10', 'Runde 9'; number them" in answer.out
    assert "--split random --round-column round" in answer.out
