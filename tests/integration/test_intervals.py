"""Intervals beside predictions, from a search to its candidates: real trials, files and test sets."""

import csv
import io
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import search
from datasets.common.errors import UserError
from search.experiments.experiment import load_experiment
from search.experiments.ledger import read
from search.experiments.sealed import seal
from tests.helpers.answers import run_here

WILD_TYPE = "MKVLAYRTDE"
RESIDUES = "ACDEFGHIKL"
NEW = ("low", "high", "std_calibrated")


def variants() -> list[str]:
    """A hundred variants of one or two mutations, always the same ones."""
    chosen = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < 100:
        letters = list(WILD_TYPE)
        for place in chosen.sample(range(len(letters)), chosen.choice((1, 2))):
            letters[place] = chosen.choice(RESIDUES)
        found["".join(letters)] = None
    return list(found)


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A folder with a table and, of each family, the experiment of a search on it."""

    folder: Path

    def export(self, model: str) -> Path:
        return self.folder / "studies" / "experiment" / f"pairs-fitness-set-{model}.yaml"

    def rows(self, *words: str, model: str = "ridge") -> list[dict[str, str]]:
        """The ranked variants."""
        given = ("predict", str(self.export(model)), "--input", "candidates.csv", "--quiet", *words)
        answer = run_here(*given, cwd=self.folder)
        assert answer.status == 0, answer
        return list(csv.DictReader(io.StringIO(answer.out)))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    folder = tmp_path_factory.mktemp("intervals")
    chosen = random.Random(1)
    effects = {(i, new): chosen.gauss(0, 1) for i in range(len(WILD_TYPE)) for new in RESIDUES}
    rows = []
    for number, one in enumerate(variants()):
        true = sum(effects.get((i, new), 0.0) for i, new in enumerate(one) if new != WILD_TYPE[i])
        rows.append(f"{one},{true + chosen.gauss(0, 0.3):.6f},{'test' if number % 5 == 4 else 'train'}\n")
    (folder / "pairs.csv").write_text("sequence,fitness,set\n" + "".join(rows))
    (folder / "wild.fasta").write_text(f">wild\n{WILD_TYPE}\n")
    names = [f'"{one}, number {i}"' for i, one in enumerate(variants()[:12])]
    lines = [f"{one},{name}\n" for one, name in zip(variants(), names, strict=False)]
    (folder / "candidates.csv").write_text("sequence,name\n" + "".join(lines) + f"{'W' * 10},far\n")
    for model, n_trials in (("ridge", "2"), ("kernel", "1")):
        words = ("--data", "pairs.csv", "--wild-type", "wild.fasta", "--model", model)
        settings = ("--n-trials", n_trials, "validation=kfold", "trainer.threads=1", "--quiet")
        answer = run_here(*words, *settings, cwd=folder)
        assert answer.status == 0, answer
    return Searched(folder=folder)


def test_columns_stand_at_the_end_of_a_row(searched: Searched) -> None:
    for model in ("ridge", "kernel"):
        rows = searched.rows("--names", model=model)
        assert list(rows[0])[-5:] == ["outside", "name", *NEW]
        for row in rows[:-1]:
            if not row["outside"]:
                assert float(row["low"]) < float(row["prediction"]) < float(row["high"])
                assert 0 < float(row["std_calibrated"]) < float(row["high"]) - float(row["low"])
        assert sum(not row["outside"] for row in rows) > 5
        assert "alphabet" in rows[-1]["outside"]
        assert [rows[-1][name] for name in NEW] == ["", "", ""], "no interval holds there"


def test_a_level_changes_the_ends_alone(searched: Searched) -> None:
    whole, half, nearly = (searched.rows("--level", level) for level in ("0.9", "0.5", "0.999"))
    assert searched.rows() == whole
    for row, narrow, blank in zip(whole, half, nearly, strict=True):
        same = [name for name in row if name not in ("low", "high")]
        assert [row[name] for name in same] == [narrow[name] for name in same] == [blank[name] for name in same]
        assert (blank["low"], blank["high"]) == ("", "")
        if row["low"]:
            assert float(row["low"]) < float(narrow["low"]) < float(narrow["high"]) < float(row["high"])
    words = ("predict", str(searched.export("ridge")), "--input", "candidates.csv", "--level")
    assert "80 validated rows are too few" in run_here(*words, "0.999", cwd=searched.folder).err
    said = run_here(*words, "0.9", cwd=searched.folder).err
    assert "90 % intervals from the errors on 80 rows (validated on random rows" in said
    assert "CV+ of the folds" in said


@pytest.mark.parametrize("model", ["ridge", "kernel"])
def test_python_gives_the_same(searched: Searched, model: str) -> None:
    experiment = search.load_experiment(searched.export(model))
    rows = searched.rows(model=model)
    found = experiment.predict_intervals([row["sequence"] for row in rows])
    for i, row in enumerate(rows):
        if row["low"]:
            shown = [float(row[name]) for name in NEW]
            assert [found.low[i], found.high[i], found.std[i]] == pytest.approx(shown, rel=1e-3)
    for level in (1.5, "0.9"):
        with pytest.raises(UserError, match=rf"level={level!r} is not valid"):
            experiment.predict_intervals([WILD_TYPE], level=level)


@pytest.mark.parametrize("model", ["ridge", "kernel"])
def test_chances_are_those_among_all_candidates(searched: Searched, model: str) -> None:
    rows = searched.rows("--top-chance", "3", model=model)
    assert list(rows[0])[-1] == "p_top"
    assert rows[-1]["p_top"] == ""
    inside = sorted((row for row in rows if row["p_top"]), key=lambda row: int(row["rank"]))
    chances = [float(row["p_top"]) for row in inside]
    assert all(0 <= chance <= 1 for chance in chances)
    assert chances[0] > 2 * chances[-1]
    top = searched.rows("--top-chance", "3", "--top", "4", model=model)
    of = {row["sequence"]: row for row in rows}
    assert [row["p_top"] for row in top] == [of[row["sequence"]]["p_top"] for row in top]


def test_every_format_holds_the_same(searched: Searched, tmp_path: Path) -> None:
    words = ("--names", "--top-chance", "2")
    rows = searched.rows(*words)
    for name in ("o.tsv", "o.parquet", "o.fasta"):
        searched.rows(*words, "--output", str(tmp_path / name))
    of_tsv = list(csv.DictReader(io.StringIO((tmp_path / "o.tsv").read_text()), delimiter="\t"))
    assert of_tsv == rows
    of_parquet = pd.read_parquet(tmp_path / "o.parquet")
    assert list(of_parquet) == list(rows[0])
    assert of_parquet["name"].tolist() == [row["name"] for row in rows]
    for name in (*NEW, "p_top"):
        numbers = [float(row[name]) if row[name] else np.nan for row in rows]
        np.testing.assert_allclose(of_parquet[name].to_numpy(), numbers, rtol=1e-5)
    headers = [line for line in (tmp_path / "o.fasta").read_text().splitlines() if line.startswith(">")]
    for header, row in zip(headers, rows, strict=True):
        assert header.endswith(" ".join(f"{name}={row[name]}" for name in (*NEW, "p_top")))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--level", "1.5"), "'1.5' is not valid: expected a number above 0 and below 1"),
        (("--level", "0"), "'0' is not valid"),
        (("--level", "90"), "'90' is not valid"),
        (("--top-chance", "0"), "'0' is not valid: expected a whole number from 1"),
        (("--top-chance", "13"), "--top-chance 13 is not valid for 13 candidates"),
        (("--top-chance", "500", "--top", "2"), "--top-chance 500 is not valid for 13 candidates"),
    ],
)
def test_bad_input_leaves_nothing(searched: Searched, words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    given = ("predict", str(searched.export("ridge")), "--input", "candidates.csv", "--quiet", *words)
    assert sentence in run_here(*given, "--output", str(tmp_path / "o.csv"), cwd=searched.folder).refusal()
    assert list(tmp_path.iterdir()) == []


def changed(searched: Searched, folder: Path, change: Any) -> Path:
    """A copy of the ridge experiment with other content."""
    path = folder / "changed.yaml"
    shutil.copytree(searched.export("ridge").with_suffix(""), folder / "changed")
    tree = yaml.safe_load(searched.export("ridge").read_text())
    change(tree)
    del tree["provenance"]["checksum"]
    path.write_text(seal(yaml.safe_dump(tree, sort_keys=False)))
    return path


def test_an_experiment_without_errors_predicts_as_before(searched: Searched, tmp_path: Path) -> None:
    path = changed(searched, tmp_path, lambda tree: tree.pop("calibration"))
    words = ("predict", str(path), "--input", "candidates.csv")
    answer = run_here(*words, cwd=searched.folder)
    assert answer.status == 0
    found = list(csv.DictReader(io.StringIO(answer.out)))
    assert list(found[0]) == ["rank", "sequence", "prediction", "std", "distance", "outside"]
    assert found == [{name: row[name] for name in found[0]} for row in searched.rows()]
    assert "intervals need an export by this version" in answer.err
    for option in (("--level", "0.8"), ("--top-chance", "2")):
        assert f"{option[0]} needs the errors" in run_here(*words, *option, cwd=searched.folder).refusal()
    assert load_experiment(path).calibration is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda known: known["scores"][0].reverse(), "numbers in ascending order"),
        (lambda known: known.update(scale="deviation", noise=0.1), "models.ridge.Ridge knows no deviation of what it"),
        (lambda known: known.update(validated="\x1b[2J"), "control characters"),
        (lambda known: known.update(n_rows=[2**62] * len(known["n_rows"])), "calibration.n_rows="),
    ],
)
def test_errors_that_are_none_are_refused(searched: Searched, tmp_path: Path, change: Any, sentence: str) -> None:
    path = changed(searched, tmp_path, lambda tree: change(tree["calibration"]))
    for words in (("predict", str(path), "--input", "candidates.csv"), ("confirm", str(path), "--seeds", "1")):
        assert sentence in run_here(*words, cwd=searched.folder).refusal()


def test_confirm_measures_how_many_test_sequences_are_covered(searched: Searched, tmp_path: Path) -> None:
    folder = tmp_path / "confirmed"
    shutil.copytree(searched.folder, folder)
    path = Searched(folder=folder).export("kernel")
    answer = run_here("confirm", str(path), "--seeds", "1", "--quiet", "--json", cwd=folder)
    assert answer.status == 0, answer
    found = json.loads(answer.out)
    found = found[0] if isinstance(found, list) else found
    coverage = found["coverage"]
    # The same by hand, from what `predict_intervals` says of the test sequences with the weights that confirm left.
    table = pd.read_csv(folder / "pairs.csv")
    test = table[table["set"] == "test"]
    experiment = search.load_experiment(path)
    assert experiment.origin == "confirm"
    assert not experiment.calibration.is_by_fold
    intervals = experiment.predict_intervals(test["sequence"].tolist())
    is_in = (intervals.low <= test["fitness"]) & (test["fitness"] <= intervals.high)
    assert coverage["n"] == 20
    assert coverage["share"] == pytest.approx(is_in.mean())
    n_mutations = np.array([sum(a != b for a, b in zip(one, WILD_TYPE, strict=True)) for one in test["sequence"]])
    for part in coverage["by_mutations"]:
        rows = n_mutations == int(part["mutations"])
        assert (part["n"], part["share"]) == (rows.sum(), pytest.approx(is_in[rows].mean()))
    assert sum(part["n"] for part in coverage["by_mutations"]) == 20
    [reading] = read(path.parent / f"{path.stem}.ledger.jsonl")
    assert reading.values["train_and_validation"]["coverage"] == coverage
    assert "coverage" not in reading.values["train"]
    said = run_here("predict", str(path), "--input", "candidates.csv", cwd=folder).err
    assert "split-conformal, because the weights are not those of the folds but of `confirm`" in said
    report = run_here("report", "--study-name", path.stem, cwd=folder)
    assert report.status == 0, report
    page = next(folder.rglob("*.html")).read_text()
    assert "in their 90 % intervals" in page
    assert f"{100 * coverage['share']:.1f} % (by mutations" in page
