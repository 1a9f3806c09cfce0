"""A search on a user's own table, from the command line to an experiment that can be checked."""

import html
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.answers import Answer
from tests.helpers.study_fixtures import Program
from tests.helpers.tables import variants, write

SEARCH = ("--data", "my assay.csv", "--split", "two_vs_rest", "--wild-type", "wt.fasta", "--model", "ridge")
# The file's name holds a blank, which no name of a study may: so the first digits of the question's hash are in it.
NAME = "my_assay-fitness-two_vs_rest+7206d29b-ridge"
WORDS = (*SEARCH, "--n-trials", "2", "--export-dir", "exported", "trainer.threads=1", "validation=holdout")


@dataclass(frozen=True)
class Searched:
    folder: Path
    answer: Answer

    @property
    def export(self) -> Path:
        return self.folder / "exported" / f"{NAME}.yaml"

    @property
    def split(self) -> Path:
        (path,) = (self.folder / "runs" / "data").glob("my_assay-two_vs_rest-*.csv")
        return path


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, here: Program) -> Searched:
    """Mutation strings, two replicates of each, CRLF, and a name with a blank."""
    folder = tmp_path_factory.mktemp("own data")
    rows = [(text, f"{value + delta:.6f}") for text, _, value in variants() for delta in (-0.01, 0.01)]
    write(folder / "my assay.csv", "mutant,fitness", rows, end="\r\n")
    (folder / "wt.fasta").write_text(f">wild type\n{WILD_TYPE}\n")
    answer = here(*WORDS, cwd=folder)
    assert answer.status == 0, answer
    return Searched(folder, answer)


def test_a_table_is_searched_and_its_split_is_written(searched: Searched) -> None:
    assert "my assay.csv: 1,080 variants" in searched.answer.err
    assert "holdout" in searched.answer.out
    assert f"{NAME}.yaml --input candidates.fasta --top 100 --output ranked.csv" in searched.answer.out
    assert "my assay.csv)" in searched.answer.out  # every result says on what it was measured
    rows = [line.split(",") for line in searched.split.read_text().splitlines()]
    assert rows[0] == ["sequence", "target", "set", "validation"]
    n_mutations = [sum(a != b for a, b in zip(row[0], WILD_TYPE, strict=True)) for row in rows[1:]]
    assert {row[2] for row, n in zip(rows[1:], n_mutations, strict=True) if n > 2} == {"test"}
    assert {row[2] for row, n in zip(rows[1:], n_mutations, strict=True) if n <= 2} == {"train"}
    config = yaml.safe_load(searched.export.read_text())
    assert config["task"] == "my_assay"
    assert config["table"]["sites"] == "10,13,16,21"
    assert config["table"]["wild_type"] == WILD_TYPE


def test_the_experiment_is_verified_wherever_its_data_stand(
    searched: Searched, tmp_path: Path, command: Callable[..., Answer]
) -> None:
    export = shutil.copy(searched.export, tmp_path / "e.yaml")
    assert "name it with --data FILE" in command("verify", str(export)).refusal()
    moved = shutil.copy(searched.folder / "my assay.csv", tmp_path / "moved.csv")
    for path in (moved, searched.split):  # the split that was written is as good as the table it was made of
        answer = command("verify", str(export), "--data", str(path))
        assert answer.status == 0, answer
        assert "equal bit for bit" in answer.out


def test_another_file_is_refused(searched: Searched, tmp_path: Path, command: Callable[..., Answer]) -> None:
    text = (searched.folder / "my assay.csv").read_bytes()
    (tmp_path / "other.csv").write_bytes(text.replace(b"WT,", b"WT,1"))
    answer = command("verify", str(searched.export), "--data", "other.csv")
    assert "was made on other data" in answer.refusal()
    assert "name the right file with --data" in answer.err


def test_the_same_command_resumes_and_another_split_is_refused(searched: Searched, here: Program) -> None:
    again = here(*WORDS, cwd=searched.folder)
    assert again.status == 0, again
    assert "nothing to do" in again.err
    words = [word.replace("two_vs_rest", "random") for word in WORDS]
    other = here(*words, "--study-name", NAME, cwd=searched.folder)
    assert other.status == 2, other
    assert 'table.split: "two_vs_rest" -> "random"' in other.err
    assert "data_hash" not in other.err  # that it is other data follows
    assert "Traceback" not in other.err


def test_the_commands_of_its_report_are_those_of_the_search(searched: Searched, here: Program) -> None:
    words = ("report", "--study-name", NAME, "--export-dir", "exported", "--output", "r.html")
    answer = here(*words, cwd=searched.folder)
    assert answer.status == 0, answer
    page = html.unescape((searched.folder / "r.html").read_text(encoding="utf-8"))
    (wild_type,) = re.findall(r"^printf .*", page, re.MULTILINE)
    subprocess.run(wild_type, shell=True, check=True, cwd=searched.folder)
    (search,) = re.findall(r"^.* (--data .*)$", page, re.MULTILINE)
    again = here(*shlex.split(search), "--export-dir", "exported", cwd=searched.folder)
    assert again.status == 0, again
    assert "nothing to do" in again.err
    assert f"confirm exported/{NAME}.yaml --seeds 5" in page


def test_a_table_as_a_laboratory_writes_it_is_searched_and_verified(tmp_path: Path, here: Program) -> None:
    """Windows-1252, semicolons, decimal commas, limits and what was not measured."""
    rows = [
        (sequence, "<0,05" if i % 9 == 3 else "n.d." if i % 9 == 5 else f"{100 * value:.2f}".replace(".", ","), "20 °C")
        for i, (_, sequence, value) in enumerate(variants()[:180])
    ]
    write(tmp_path / "assay.csv", "Sequence;Fitness;Wärme", rows, end="\r\n", encoding="cp1252")
    words = ("--data", "assay.csv", "--split", "random", "--censored", "drop", "--model", "ridge", "--n-trials", "1")
    answer = here(*words, "--export-dir", ".", "trainer.threads=1", "validation=holdout", cwd=tmp_path)
    assert answer.status == 0, answer
    assert "assay.csv: 140 variants" in answer.err
    [export] = tmp_path.glob("assay-Fitness-random.censored_drop+*-ridge.yaml")
    assert yaml.safe_load(export.read_text())["table"]["censored"] == "drop"
    verified = here("verify", export.name, cwd=tmp_path)
    assert "equal bit for bit" in verified.out, verified
    other = here(*(word for word in words if word not in ("--censored", "drop")), cwd=tmp_path)
    assert other.status == 0, other
    assert "assay.csv: 160 variants" in other.err, "another study, of another name"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--data", "no.csv", "--split", "random"), "There is no file no.csv."),
        (("--data", "no.csv", "--split", "randon"), "Did you mean 'random'?"),
        (("--data", "no.csv", "--task", "gb1_sampled"), "exclude each other"),
        (("--split", "random", "--task", "gb1_sampled"), "name it with --data FILE"),
        (("--data", "no.csv", "--split", "k_vs_rest"), "belong together"),
        (("--data", "no.csv", "--split", "by_group"), "belong together"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: tuple[str, ...], sentence: str, command: Callable[..., Answer]
) -> None:
    assert sentence in command(*words, "--model", "ridge").refusal()
