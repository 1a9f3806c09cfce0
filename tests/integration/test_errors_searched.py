"""Searches on a table with standard errors, from the command line to predictions."""

import csv
from pathlib import Path

import numpy as np
import pytest

from datasets.tasks.synthetic import WILD_TYPE
from tests.helpers.answers import run_here
from tests.helpers.tables import variants, write

DATA = ("--data", "t.csv", "--split", "random")
ERRORS = ("--error-column", "se")
SHORT = ("trainer.threads=1", "--n-trials", "1", "validation=holdout")
CNN = ("trainer.max_epochs=2", "model.channels=8", "model.depth=1", "model.kernel_size=3", "pruner=nop")
FAMILIES = {
    "ridge": (),
    "kernel": (),
    "forest": ("model.n_trees=20",),
    "epistasis": ("trainer.max_epochs=2",),
    "cnn": CNN,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in which every third target is far off, and its standard error says so."""
    folder = tmp_path_factory.mktemp("errors")
    draw = np.random.default_rng(0)
    errors = np.where(np.arange(len(variants())) % 3 == 0, 3.0, 0.05)
    rows = [
        (sequence, f"{value + error * draw.normal():.4f}", error)
        for (_, sequence, value), error in zip(variants(), errors.tolist(), strict=True)
    ]
    write(folder / "t.csv", "sequence,fitness,se", rows)
    return folder


def predicted(folder: Path, name: str) -> list[float]:
    words = ("--input", "all.csv", "--output", f"{name}.csv", "--no-distance")
    write(folder / "all.csv", "sequence", [(sequence,) for _, sequence, _ in variants()])
    answer = run_here("predict", f"studies/experiment/{name}.yaml", *words, cwd=folder)
    assert answer.status == 0, answer
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [float(row["prediction"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ("forest", "epistasis"))) for name in FAMILIES],
)
def test_a_model_trusts_rows_with_small_errors_more(family: str, folder: Path) -> None:
    found = {}
    for name, words in ((f"{family}-plain", ()), (f"{family}-errors", ERRORS)):
        own = ("--model", family, "--study-name", name, *FAMILIES[family])
        answer = run_here(*DATA, *words, *own, *SHORT, cwd=folder)
        assert answer.status == 0, answer
        found[name] = predicted(folder, name)
    truth = [value for _, _, value in variants()]
    plain, weighted = (np.corrcoef(values, truth)[0, 1] for values in found.values())
    assert found[f"{family}-plain"] != found[f"{family}-errors"]
    if family in ("ridge", "kernel", "forest"):  # the others have hardly trained
        assert weighted > plain + 0.05
    answer = run_here("verify", f"studies/experiment/{family}-errors.yaml", cwd=folder)
    assert answer.status == 0, answer


def test_it_is_verified_from_its_written_split(folder: Path) -> None:
    own = ("--model", "ridge", "--study-name", "again", "--n-trials", "1", "trainer.threads=1", "--runs-dir", "own")
    assert run_here(*DATA, *ERRORS, *own, cwd=folder).status == 0
    [written] = (folder / "own" / "data").glob("*.csv")
    words = ("--data", str(written), "--runs-dir", "own")
    answer = run_here("verify", "studies/experiment/again.yaml", *words, cwd=folder)
    assert answer.status == 0, answer
    text = written.read_text(encoding="utf-8").replace(",0.05\n", ",0.06\n")
    changed = folder / "changed.csv"
    changed.write_text(text, encoding="utf-8")
    answer = run_here("verify", "studies/experiment/again.yaml", "--data", "changed.csv", cwd=folder)
    assert answer.status == 2, answer
    assert WILD_TYPE not in answer.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*ERRORS, "--replicate-column", "fitness"), "give one of the two"),
        ((*ERRORS, "trainer.loss=ranking", "--model", "cnn"), "use mse or huber with --error-column"),
        (("--error-column", "sd"), "has no column 'sd' (--error-column)"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(words: tuple[str, ...], says: str, folder: Path) -> None:
    model = () if "--model" in words else ("--model", "ridge")
    answer = run_here(*DATA, *words, *model, *SHORT, cwd=folder)
    assert answer.status == 2, answer
    assert says in answer.err
    assert "Traceback" not in answer.err
