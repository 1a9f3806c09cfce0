"""Candidates ranked by several experiments, a property each: by non-domination, or by what is required."""

import csv
import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import search
from datasets.common.errors import UserError
from datasets.tasks.synthetic import WILD_TYPE
from search.options.arguments import parse
from search.properties import columns
from search.stats.calibration import LEVEL
from tests.helpers.answers import Answer
from tests.helpers.study_fixtures import Program
from tests.helpers.tables import variants, write
from tests.integration.test_properties_searched import BOTH, ENDS
from tests.unit.search.test_domination import by_definition

Rows = list[dict[str, str]]
ALL = variants()
EXPERIMENTS = ("exported/p-activity.yaml", "exported/p-stability.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, here: Program) -> Path:
    found = tmp_path_factory.mktemp("several")
    rows = [
        (text, "n.d." if i % 5 == 1 else f"{v:.4f}", "" if i % 7 < 2 else f"{(i * 7) % 11 / 100 - v:.4f}")
        for i, (text, _, v) in enumerate(ALL[::5])
    ]
    write(found / "t.csv", "mutant,activity,stability", rows)
    (found / "wt.fasta").write_text(f">wt\n{WILD_TYPE}\n")
    write(found / "c.csv", "name,mutant", [(f'"={i},x"', text) for i, (text, _, _) in enumerate(ALL[::4])])
    words = ("--data", "t.csv", "--wild-type", "wt.fasta", "--split", "random", *BOTH, *ENDS, "--study-name", "p")
    assert here(*words, cwd=found).status == 0
    return found


def rows_of(answer: Answer) -> Rows:
    assert answer.status == 0, answer
    return list(csv.DictReader(io.StringIO(answer.out)))


def numbers(rows: Rows, *names: str) -> np.ndarray:
    return np.array([[float(row[name] or "nan") for name in names] for row in rows])


def test_all_columns_of_all_experiments_are_those_of_each_by_itself(folder: Path, here: Program) -> None:
    own = rows_of(here("predict", *EXPERIMENTS, "--input", "c.csv", "--names", cwd=folder))
    assert len(own) == 270
    for path, name in zip(EXPERIMENTS, ("activity", "stability"), strict=True):
        alone = rows_of(here("predict", path, "--input", "c.csv", "--names", cwd=folder))
        for column in ("prediction", "std", "distance", "outside", "low", "high", "std_calibrated"):
            assert [row[f"{column}_{name}"] for row in own] == [row[column] for row in alone], column
        for column in ("name", "mutations"):
            assert [row[column] for row in own] == [row[column] for row in alone]


def test_the_front_is_that_of_the_definition_and_the_best_come_first(folder: Path, here: Program) -> None:
    answer = here("predict", *EXPERIMENTS, "--input", "c.csv", cwd=folder)
    every = rows_of(answer)
    values = numbers(every, "prediction_activity", "prediction_stability")
    front = by_definition(values.astype(np.float32))
    assert [int(row["front"]) for row in every] == front.tolist()
    order = sorted(range(len(every)), key=lambda i: int(every[i]["rank"]))
    assert [int(every[i]["rank"]) for i in order] == list(range(1, 271))
    as_ranked = [(front[i], -float(every[i]["crowding"])) for i in order]
    assert as_ranked == sorted(as_ranked)
    top = rows_of(here("predict", *EXPERIMENTS, "--input", "c.csv", "--top", "9", cwd=folder))
    assert top == [every[i] for i in order[:9]]
    assert f"{(front == 1).sum()} in the first front of {front.max()} (activity, stability)" in answer.err
    assert answer.err.count("90 % intervals") == 2
    # The order of the experiments is that of the columns, and changes no rank.
    other = rows_of(here("predict", *reversed(EXPERIMENTS), "--input", "c.csv", "--top", "9", cwd=folder))
    assert [row["mutations"] for row in other] == [row["mutations"] for row in top]
    assert list(other[0])[4] == "prediction_stability"


def test_what_is_required_ranks_by_its_chance_times_the_value_of_the_rest(folder: Path, here: Program) -> None:
    words = ("predict", *EXPERIMENTS, "--input", "c.csv", "--require", "stability >= -0.3")
    every = rows_of(here(*words, cwd=folder))
    found = numbers(
        every, "score", "p_required", "prediction_activity", "prediction_stability", "std_calibrated_stability"
    )
    score, chance, free, required, _ = found.T
    np.testing.assert_allclose(score, chance * (free - free.min()) / np.ptp(free), rtol=1e-4, atol=1e-6)
    assert (np.diff(chance[np.argsort(required)]) >= -0.05).all()  # deviations differ a little
    assert 0 <= chance.min() < 0.1
    assert 0.9 < chance.max() <= 1
    # A prediction at the bound is as likely above as below.
    assert chance[np.abs(required + 0.3).argmin()] == pytest.approx(0.5, abs=0.05)
    ranks = np.array([int(row["rank"]) for row in every])
    assert (np.diff(score[np.argsort(ranks)]) <= 1e-6).all()
    assert "p_stability" not in every[0]


def test_the_chance_is_that_of_the_interval(folder: Path) -> None:
    """What lies above `low` of a 90 % interval, which is two-sided, has the chance of 95 % or so."""
    experiment = search.load_experiment(folder / EXPERIMENTS[1])
    texts = [sequence for _, sequence, _ in ALL[::9]]
    low = float(np.median(experiment.predict_intervals(texts, level=LEVEL).low))
    at = int(np.abs(experiment.predict_intervals(texts, level=LEVEL).low - low).argmin())
    found = search.predict([folder / EXPERIMENTS[1]], texts, require=[f"stability>={low}"], no_distance=True)
    assert found["p_required"][at] == pytest.approx(0.95, abs=0.04)
    assert list(found)[:2] == ["rank", "p_required"]


def test_several_requirements_are_met_together(folder: Path, here: Program) -> None:
    words = ("--require", "stability>=-.3", "--require", "activity>0.1", "--require", "p-activity<=0.5")
    every = rows_of(here("predict", *EXPERIMENTS, "--input", "c.csv", *words, "--level", "0.8", cwd=folder))
    both = numbers(every, "p_required", "p_stability", "p_activity")
    np.testing.assert_allclose(both[:, 0], both[:, 1] * both[:, 2], rtol=1e-4, atol=1e-6)
    assert "score" not in every[0]
    by_chance = sorted(range(len(every)), key=lambda i: int(every[i]["rank"]))
    assert (np.diff(both[by_chance, 0]) <= 1e-6).all()


def test_tables_of_all_kinds_hold_the_same_and_names_are_no_formulas(
    folder: Path, here: Program, tmp_path: Path
) -> None:
    words = ("predict", *EXPERIMENTS, "--input", "c.csv", "--names", "--top", "20", "--quiet", "--output")
    for name in ("a.csv", "a.tsv", "a.parquet"):
        assert here(*words, str(tmp_path / name), cwd=folder).status == 0
    first = pd.read_csv(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(first, pd.read_csv(tmp_path / "a.tsv", sep="\t"))
    table = pq.read_table(tmp_path / "a.parquet").to_pandas()
    assert all(name.startswith("'=") for name in first["name"])
    assert ["'" + name for name in table["name"]] == first["name"].tolist()
    assert table["distance_activity"].tolist() == first["distance_activity"].tolist()
    np.testing.assert_allclose(table["crowding"], first["crowding"])
    assert "name a .csv, .tsv or .parquet file" in here(*words, str(tmp_path / "a.fasta"), cwd=folder).refusal()
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "a.parquet", "a.tsv"]


def test_what_was_measured_for_any_of_them_is_left_out(folder: Path, here: Program) -> None:
    answer = here("predict", *EXPERIMENTS, "--input", "c.csv", "--exclude-measured", "--no-distance", cwd=folder)
    own = {row["mutations"] for row in rows_of(answer)}
    measured = {text for i, (text, _, _) in enumerate(ALL[::5]) if i % 5 != 1 or i % 7 >= 2}
    assert own == {text for text, _, _ in ALL[::4]} - measured
    assert f"{270 - len(own)} candidates were left out as measured already" in answer.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*EXPERIMENTS, EXPERIMENTS[0]), "is given twice"),
        ((*EXPERIMENTS, "--require", "colour>=1"), "--require names 'colour', as no property is called here"),
        ((*EXPERIMENTS, "--require", "stability"), "expected a property and its bound"),
        ((*EXPERIMENTS, "--require", "stability>=1e999"), "expected a property and its bound"),
        ((*EXPERIMENTS, "--require", "stability>=1", "--require", "stability<=0"), "1 or more and 0 or less"),
        ((*EXPERIMENTS, "--top-chance", "3"), "--top-chance is of one experiment"),
        ((*EXPERIMENTS, "--zero-shot-file", "c.csv"), "trained without scores of a table or a file"),
        ((*EXPERIMENTS, "--embeddings", "c.csv"), "sees no embeddings"),
        ((EXPERIMENTS[0], "nothing.yaml"), "nothing.yaml"),
    ],
)
def test_what_makes_no_ranking_is_refused(words: Sequence[str], sentence: str, folder: Path, here: Program) -> None:
    assert sentence in here("predict", *words, "--input", "c.csv", "--quiet", cwd=folder).refusal()


def test_candidates_that_one_experiment_alone_has_are_refused(folder: Path, here: Program) -> None:
    for words, option in (
        (("--unmeasured",), "--unmeasured"),
        (("--mutagenesis", "singles", "--figure", "m.html"), "--figure"),
    ):
        assert f"{option} is of one experiment" in here("predict", *EXPERIMENTS, *words, cwd=folder).refusal()
    assert (
        "is given twice"
        in here("predict", EXPERIMENTS[0], f"./{EXPERIMENTS[0]}", "--input", "c.csv", cwd=folder).refusal()
    )


def test_experiments_of_other_proteins_are_refused(folder: Path, here: Program) -> None:
    words = ("--model", "ridge", "--n-trials", "1", "trainer.threads=1", "logger=none", "--export-dir", "exported")
    assert here("--task", "synthetic_two_vs_rest", *words, cwd=folder).status == 0
    other = "exported/synthetic_two_vs_rest-ridge.yaml"
    assert here("predict", EXPERIMENTS[0], other, "--mutagenesis", "sites:10,13", "--top", "2", cwd=folder).status == 0
    longer = [(f"{s}W", f"{v:.4f}") for _, s, v in ALL[::9]]
    write(folder / "long.csv", "sequence,score", longer)
    assert here("--data", "long.csv", "--split", "random", "--study-name", "long", *words, cwd=folder).status == 0
    refusal = here("predict", EXPERIMENTS[0], "exported/long.yaml", "--input", "c.csv", cwd=folder).refusal()
    assert "because exported/long.yaml knows no wild type" in refusal
    (folder / "wt2.fasta").write_text(f">wt\n{WILD_TYPE}W\n")
    words = ("--wild-type", "wt2.fasta", "--study-name", "long2", *words)
    assert here("--data", "long.csv", "--split", "random", *words, cwd=folder).status == 0
    refusal = here("predict", EXPERIMENTS[0], "exported/long2.yaml", "--input", "c.csv", cwd=folder).refusal()
    assert "are of two wild types" in refusal


def test_more_candidates_than_can_be_ranked_are_refused(
    folder: Path, here: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(columns.MOST_CANDIDATES, 2, 100)
    for words in (("--input", "c.csv"), ("--mutagenesis", "sites:10,13")):
        assert "more than 100 candidates" in here("predict", *EXPERIMENTS, *words, cwd=folder).refusal()
    assert here("predict", *EXPERIMENTS, "--input", "c.csv", "--require", "activity>=0", cwd=folder).status == 0


def test_python_gives_what_the_command_writes(folder: Path, here: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for paths, more in (
        (EXPERIMENTS, {"top": 12}),
        (EXPERIMENTS, {"require": ["stability>=-0.3"]}),
        (EXPERIMENTS[0], {"top": 12}),
        (EXPERIMENTS[:1], {}),
    ):
        options = [
            word for name, value in more.items() for one in np.atleast_1d(value) for word in (f"--{name}", str(one))
        ]
        listed = [paths] if isinstance(paths, str) else list(paths)
        written = rows_of(here("predict", *listed, "--input", "c.csv", "--names", *options, cwd=folder))
        found: dict[str, Any] = search.predict(paths, "c.csv", names=True, **more)
        assert sorted(found) == sorted(written[0])
        for name, values in found.items():
            texts = [row[name] for row in written]
            if isinstance(values, list):
                assert values == [text.removeprefix("'") for text in texts]
            else:
                np.testing.assert_allclose(values, [float(text or "nan") for text in texts], rtol=1e-3, err_msg=name)
    by_list = search.predict(list(EXPERIMENTS), [sequence for _, sequence, _ in ALL[::4]], top=12)
    again = search.predict(list(EXPERIMENTS), Path("c.csv"), top=12)
    assert by_list["prediction_activity"].tolist() == again["prediction_activity"].tolist()
    assert by_list["rank"].tolist() == list(range(1, 13))
    experiment = search.load_experiment(EXPERIMENTS[0])
    own = search.predict(EXPERIMENTS[0], [sequence for _, sequence, _ in ALL[::4]])
    assert own["prediction"].tolist() == experiment.predict([sequence for _, sequence, _ in ALL[::4]]).tolist()


@pytest.mark.parametrize(
    ("candidates", "more", "error", "sentence"),
    [
        ([], {}, UserError, "There are no candidates"),
        ([WILD_TYPE, "MK1"], {}, UserError, r"Sequence 1 \(counted from 0\): the residue '1'"),
        ([WILD_TYPE, None], {}, UserError, "Sequence 1"),
        (WILD_TYPE, {}, UserError, "is no file of candidates"),
        (pd.DataFrame({"sequence": [WILD_TYPE]}), {}, TypeError, "takes a list of sequences"),
        (None, {}, UserError, "give one of them"),
        ([WILD_TYPE], {"mutagenesis": "singles"}, UserError, "give one of them"),
        (None, {"mutagenesis": "triples"}, UserError, "'triples' is not valid"),
        ([WILD_TYPE], {"top": 0}, UserError, "top=0 is not valid"),
        ([WILD_TYPE], {"level": 1.5}, UserError, "--level 1.5 is not valid"),
        ([WILD_TYPE], {"colour": 1}, TypeError, "colour"),
        ([WILD_TYPE], {"require": ["activity=1"]}, UserError, "a property and its bound"),
        ([WILD_TYPE], {"names": True}, UserError, "--names goes with --input"),
    ],
    ids=str,
)
def test_what_python_cannot_mean_is_refused(
    candidates: Any,
    more: dict[str, Any],
    error: type[Exception],
    sentence: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(error, match=sentence):
        search.predict(folder / EXPERIMENTS[0], candidates, **more)


def test_python_writes_the_same_file_and_none_that_it_reads(
    folder: Path, here: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for name in ("c.csv", "t.csv"):
        with pytest.raises(UserError, match=f"{name} is "):
            search.predict(list(EXPERIMENTS), "c.csv", output=name, top=3)
    with pytest.raises(UserError, match="ends in none of"):
        search.predict(list(EXPERIMENTS), "c.csv", output="c.txt")
    with pytest.raises(UserError, match="FASTA is of the command `predict` with one experiment"):
        search.predict(EXPERIMENTS[0], "c.csv", output="one.fasta")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    search.predict(list(EXPERIMENTS), "c.csv", output=tmp_path / "ranked.csv", top=3)
    written = here("predict", *EXPERIMENTS, "--input", "c.csv", "--top", "3", cwd=folder)
    assert (tmp_path / "ranked.csv").read_text() == written.out


def test_properties_that_are_called_alike_are_told_apart_by_their_files(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(folder / "exported" / "p-activity", tmp_path / name)
        shutil.copy(folder / EXPERIMENTS[0], tmp_path / f"{name}.yaml")
    paths = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    found = search.predict(paths, [WILD_TYPE], no_distance=True, require=["two>=0"])
    assert found["prediction_one"].tolist() == found["prediction_two"].tolist()
    with pytest.raises(UserError, match=r"as several properties are called here: expected 'one', 'two'"):
        search.predict(paths, [WILD_TYPE], no_distance=True, require=["activity>=0"])
    # The chance to be all that is required is called `p_required`, and no property is.
    shutil.copytree(tmp_path / "one", tmp_path / "required")
    named = [Path(shutil.copy(paths[0], tmp_path / "required.yaml")), paths[1]]
    found = search.predict(named, [WILD_TYPE], no_distance=True, require=["required>=0", "two>=0"])
    assert found["p_required"] == pytest.approx(found["p_required_1"] * found["p_two_2"])
    (tmp_path / "deep").mkdir()
    shutil.copytree(tmp_path / "one", tmp_path / "deep" / "one")
    shutil.copy(paths[0], tmp_path / "deep" / "one.yaml")
    found = search.predict([paths[0], tmp_path / "deep" / "one.yaml"], [WILD_TYPE], no_distance=True)
    assert {"prediction_one_1", "prediction_one_2"} <= found.keys()


def test_without_the_training_data_there_are_no_distances(folder: Path) -> None:
    with pytest.raises(UserError, match=r"t.csv.*; or leave the distances to it out with --no-distance"):
        search.predict(folder / EXPERIMENTS[0], [WILD_TYPE])
    found = search.predict([folder / path for path in EXPERIMENTS], [WILD_TYPE], no_distance=True)
    assert found["front"].tolist() == [1]
    assert all(np.isnan(found[f"distance_{name}"]).all() for name in ("activity", "stability"))


def test_the_words_of_a_requirement() -> None:
    words = parse(["predict", "a.yaml", "b.yaml", "--input", "c", "--require", "OD 600 >= -.5e-1", "--require", "x<3"])
    assert [tuple(one) for one in words.require] == [("OD 600", ">=", -0.05), ("x", "<=", 3.0)]
    assert (words.file, words.others) == (Path("a.yaml"), [Path("b.yaml")])
