"""An experiment and its weights predict without the data they were trained on, and say what is a leap."""

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import search
from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from search.experiments.experiment import is_same_export, load_experiment
from search.experiments.sealed import seal
from search.study.config import study_config
from tests.helpers.answers import Answer, run_here
from tests.helpers.experiments import trained_experiment

Command = Callable[..., Answer]
Change = Callable[[dict[str, Any]], object]
WILD_TYPE = "MKVLAGHTRWYD"
EFFECTS = {**dict.fromkeys("AWLF", 0.4), **dict.fromkeys("DE", -0.5)}
ALL = "ACDEFGHIKLMNPQRSTVWY"
SEARCH = ("--data", "singles.csv", "--model", "ridge", "--n-trials", "1", "--quiet")


def mutated(*changes: tuple[int, str]) -> str:
    letters = list(WILD_TYPE)
    for place, residue in changes:
        letters[place] = residue
    return "".join(letters)


def fitness(sequence: str) -> float:
    """What changes adds up, so that three are beyond all single mutants, whose targets are 0.5 to 1.4."""
    changes = [new for old, new in zip(WILD_TYPE, sequence, strict=True) if new != old]
    return 1.0 + sum(EFFECTS.get(new, 0.0) for new in changes)


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A folder with the table, and with the experiment of a search on it."""

    folder: Path

    @property
    def export(self) -> Path:
        return self.folder / "studies" / "experiment" / "singles-fitness-set-ridge.yaml"

    def give(self, folder: Path) -> Path:
        """The experiment and its weights alone, as somebody else gets them."""
        shutil.copy(self.export, folder / "given.yaml")
        shutil.copytree(self.export.with_suffix(""), folder / "given")
        return folder / "given.yaml"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    folder = tmp_path_factory.mktemp("searched")
    singles = [WILD_TYPE, *(mutated((i, new)) for i in range(12) for new in ALL if WILD_TYPE[i] != new)]
    rows = [f"{one},{fitness(one)},{'test' if one.count('S') else 'train'}\n" for one in singles]
    (folder / "singles.csv").write_text("sequence,fitness,set\n" + "".join(rows))
    answer = run_here(*SEARCH, "validation=kfold", "trainer.threads=1", "model.alpha=0.01", cwd=folder)
    assert answer.status == 0, answer
    return Searched(folder=folder)


@pytest.fixture
def candidates() -> str:
    return "\n".join(
        [
            WILD_TYPE,
            mutated((1, "A")),
            mutated((1, "A"), (2, "W"), (3, "F")),
            mutated((1, "D"), (2, "D"), (5, "D")),
            WILD_TYPE[:-1],
            mutated((1, "X")),
        ]
    )


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_triples_after_single_mutants_are_a_leap(searched: Searched, candidates: str) -> None:
    (searched.folder / "c.txt").write_text(candidates)
    answer = run_here("predict", str(searched.export), "--input", "c.txt", cwd=searched.folder)
    rows = rows_of(answer.out)
    assert float(rows[2]["prediction"]) > 1.5
    assert float(rows[3]["prediction"]) < 0.4
    assert [row["outside"] for row in rows[:4]] == ["", "", "mutations range", "mutations range"]
    assert rows[4]["outside"].split()[0] == "length"
    assert rows[5]["outside"] == "alphabet"
    assert "4 of 6 written rows lie outside" in answer.err


def test_outside_is_the_same_in_every_format(searched: Searched, candidates: str, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(candidates)
    words = ("predict", str(searched.export), "--quiet", "--no-distance", "--input", str(tmp_path / "c.txt"))
    expected = [row["outside"] for row in rows_of(run_here(*words, cwd=searched.folder).out)]
    fasta = run_here(*words, "--output", str(tmp_path / "o.fasta"), cwd=searched.folder)
    assert fasta.status == 0, fasta
    found = [
        line.rpartition("outside=")[2].partition(" ")[0]
        for line in (tmp_path / "o.fasta").read_text().splitlines()[::2]
    ]
    assert found == [text.replace(" ", ",") for text in expected]
    best = rows_of(run_here(*words, "--top", "1", cwd=searched.folder).out)
    assert [row["outside"] for row in best] == ["mutations range"]
    assert run_here(*words, "--output", str(tmp_path / "o.parquet"), cwd=searched.folder).status == 0
    assert pd.read_parquet(tmp_path / "o.parquet")["outside"].tolist() == expected


def test_without_the_table_the_same_is_predicted(searched: Searched, candidates: str, tmp_path: Path) -> None:
    given = searched.give(tmp_path)
    (tmp_path / "c.txt").write_text(candidates)
    words = ("--quiet", "--input", str(tmp_path / "c.txt"))
    with_table = rows_of(run_here("predict", str(searched.export), *words, cwd=searched.folder).out)
    alone = rows_of(run_here("predict", "given.yaml", *words, "--no-distance", cwd=tmp_path).out)
    assert {row["distance"] for row in with_table} == {"0", "1", "2"}
    assert alone == [{**row, "distance": ""} for row in with_table]
    in_python = search.load_experiment(given).predict(candidates.splitlines())
    assert in_python.tolist() == [float(np.float32(row["prediction"])) for row in alone]
    singles = run_here("predict", "given.yaml", "--quiet", "--no-distance", "--mutagenesis", "singles", cwd=tmp_path)
    assert len(rows_of(singles.out)) == 12 * 19


def test_the_distance_needs_the_table_and_says_so(searched: Searched, candidates: str, tmp_path: Path) -> None:
    searched.give(tmp_path)
    (tmp_path / "c.txt").write_text(candidates)
    words = ("predict", "given.yaml", "--quiet", "--input", "c.txt")
    refused = run_here(*words, cwd=tmp_path).refusal()
    assert "singles.csv cannot be read" in refused
    assert "--no-distance, which needs no training data" in refused
    other = (searched.folder / "singles.csv").read_text().replace("1.4", "1.5")
    (tmp_path / "singles.csv").write_text(other)
    refused = run_here(*words, cwd=tmp_path).refusal()
    assert "was made on other data" in refused
    assert "--no-distance" in refused
    assert run_here(*words, "--no-distance", cwd=tmp_path).status == 0, "nothing of the table is asked for"


def rewrite(path: Path, change: Change) -> None:
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(tree)
    del tree["provenance"]["checksum"]
    path.write_text(seal(yaml.safe_dump(tree, sort_keys=False)), encoding="utf-8")


def test_an_older_experiment_needs_the_table_as_it_did(searched: Searched, candidates: str, tmp_path: Path) -> None:
    given = searched.give(tmp_path)

    def older(tree: dict[str, Any]) -> None:
        del tree["familiar"]
        tree["provenance"]["schema_version"] = 4

    rewrite(given, older)
    (tmp_path / "c.txt").write_text(candidates)
    words = ("predict", "given.yaml", "--quiet", "--no-distance", "--input", "c.txt")
    refused = run_here(*words, cwd=tmp_path).refusal()
    assert "singles.csv cannot be read" in refused
    assert "of an older version" in refused
    moved = str(searched.folder / "singles.csv")
    found = rows_of(run_here(*words, "--data", moved, cwd=tmp_path).out)
    new = rows_of(run_here("predict", str(searched.export), *words[2:], cwd=tmp_path).out)
    assert found == new
    assert search.load_experiment(given).predict([WILD_TYPE]).shape == (1,)


def test_an_older_file_is_not_replaced_for_what_it_lacks(searched: Searched, tmp_path: Path) -> None:
    given, now = searched.give(tmp_path), load_experiment(searched.export)
    assert is_same_export(given, now)
    rewrite(given, lambda tree: tree["familiar"]["search"].update(most_mutations=2))
    assert not is_same_export(given, now)
    rewrite(given, lambda tree: tree.pop("familiar"))
    assert is_same_export(given, now), "its confirmation belongs to the file as it is"


CHANGES: list[tuple[str, Change, str]] = [
    ("no mapping", lambda tree: tree.update(familiar=[1]), "familiar=[1] is not valid: expected a mapping"),
    ("null", lambda tree: tree.update(familiar=None), "familiar=null is not valid"),
    ("one missing", lambda tree: tree["familiar"].pop("confirm"), "familiar.confirm is missing"),
    ("one more", lambda tree: tree["familiar"].update(test={}), "familiar.test is not a setting"),
    ("no fields", lambda tree: tree["familiar"].update(search={}), "familiar.search.lengths is missing"),
    ("a word", lambda tree: tree["familiar"]["search"].update(lengths="long"), "familiar.search.lengths=long"),
    ("three", lambda tree: tree["familiar"]["search"].update(lengths=[1, 2, 3]), "familiar.search.lengths=[1, 2, 3]"),
    ("huge", lambda tree: tree["familiar"]["search"].update(lengths=[1, 2**70]), "familiar.search.lengths=["),
    ("turned", lambda tree: tree["familiar"]["confirm"].update(targets=[3.0, 1.0]), "familiar.confirm.targets=[3.0"),
    ("nan", lambda tree: tree["familiar"]["confirm"].update(targets=[float("nan"), 1]), "familiar.confirm.targets"),
    ("half", lambda tree: tree["familiar"]["search"].update(most_mutations=1.5), "familiar.search.most_mutations=1.5"),
    ("stop", lambda tree: tree["familiar"]["search"].update(whole="MK*"), "familiar.search.whole='MK*'"),
    (
        "control",
        lambda tree: tree["familiar"]["search"].update(alphabet="A\x1b[2J"),
        "familiar.search.alphabet='A\\x1b",
    ),
    ("number", lambda tree: tree["familiar"]["search"].update(seen=5), "familiar.search.seen=5 is not valid"),
    ("too long", lambda tree: tree["familiar"]["search"].update(whole="A" * 100_001), "expected at most 100,000"),
]


@pytest.mark.parametrize(("change", "sentence"), [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES])
def test_what_an_experiment_says_of_its_training_rows_is_checked(
    change: Change, sentence: str, searched: Searched, tmp_path: Path
) -> None:
    given = searched.give(tmp_path)
    rewrite(given, change)
    for words in (("predict", "given.yaml", "--no-distance", "--mutagenesis", "singles"), ("verify", "given.yaml")):
        refused = run_here(*words, cwd=tmp_path).refusal()
        assert sentence in refused
        assert len(refused) < 400


@pytest.mark.slow
def test_both_kinds_of_weights_have_their_own_rows(tmp_path: Path) -> None:
    """A search trains without the rows it validates on, `confirm` on all of them."""
    task = find_task("synthetic_two_vs_rest")
    split = prepare(task, data_dir=None, cache_dir=tmp_path / "splits", announce=lambda sentence: None)
    words = ["task=synthetic_two_vs_rest", "model=ridge", "validation=holdout", "trainer.threads=1", "logger=none"]
    path = tmp_path / "e.yaml"
    trained_experiment(path, study_config(words).run({}), split, Places(weights_dir=None, cache_dir=tmp_path / "cache"))
    familiar = load_experiment(path).familiar
    assert familiar is not None
    train = split.target[~split.validation]
    assert familiar["search"].targets == (float(train.min()), float(train.max()))
    assert familiar["confirm"].targets == (float(split.target.min()), float(split.target.max()))
    assert familiar["search"].most_mutations == familiar["confirm"].most_mutations == 2
    assert search.load_experiment(path).familiar == familiar["search"]
    answer = run_here("confirm", "e.yaml", "--seeds", "1", "--quiet", cwd=tmp_path)
    assert answer.status == 0, answer
    assert search.load_experiment(path).familiar == familiar["confirm"]
    assert yaml.safe_load(path.read_text())["familiar"]["search"]["targets"] == list(familiar["search"].targets)
    assert asdict(familiar["search"]).keys() == yaml.safe_load(path.read_text())["familiar"]["search"].keys()


def one_by_one() -> Iterator[str]:
    yield from (WILD_TYPE, mutated((1, "A")))


@pytest.mark.parametrize(
    "sequences",
    [
        pd.Series([WILD_TYPE, mutated((1, "A"))], index=[7, 3]),
        pd.Series([WILD_TYPE, mutated((1, "A"))], dtype="string"),
        np.array([WILD_TYPE, mutated((1, "A"))]),
        np.array([WILD_TYPE, mutated((1, "A"))], dtype=object),
        (WILD_TYPE, mutated((1, "A"))),
        {WILD_TYPE: 1, mutated((1, "A")): 2}.keys(),
        one_by_one(),
    ],
    ids=["series", "series of strings", "array", "array of objects", "tuple", "keys", "generator"],
)
def test_predict_takes_sequences_in_any_order_that_has_one(sequences: Any, searched: Searched) -> None:
    experiment = search.load_experiment(searched.export)
    expected = experiment.predict([WILD_TYPE, mutated((1, "A"))])
    assert expected[0] < expected[1]
    assert experiment.predict(sequences).tolist() == expected.tolist()


@pytest.mark.parametrize("empty", [[], (), pd.Series([], dtype=object), np.array([], dtype=str)])
def test_nothing_to_predict_is_no_mistake(empty: Any, searched: Searched) -> None:
    assert search.load_experiment(searched.export).predict(empty).shape == (0,)


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (None, "None is of type NoneType"),
        (3, "3 is of type int"),
        (float("nan"), "nan is of type float"),
        (pd.NA, "<NA> is of type NAType"),
        (WILD_TYPE.encode(), "b'MKVLAGHTRWYD' is of type bytes"),
        ([WILD_TYPE], "['MKVLAGHTRWYD'] is of type list"),
        (np.array([[1, 2], [3, 4]]), "array([[1, 2], [3, 4]]) is of type ndarray"),
        ("", "the sequence '' holds no residue"),
        ("MK1", "the residue '1' at position 3"),
        ("MKÄ", "at position 3"),
    ],
)
def test_what_is_no_sequence_is_named(bad: Any, shown: str, searched: Searched) -> None:
    experiment = search.load_experiment(searched.export)
    for sequences in ([WILD_TYPE, bad], pd.Series([WILD_TYPE, bad], dtype=object)):
        with pytest.raises(UserError) as refused:
            experiment.predict(sequences)
        assert "Sequence 1 (counted from 0): " in str(refused.value)
        assert shown in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "bad",
    [
        WILD_TYPE,
        WILD_TYPE.encode(),
        None,
        5,
        {WILD_TYPE: 1.0},
        {WILD_TYPE},
        pd.DataFrame({WILD_TYPE: [WILD_TYPE]}),  # whose names are sequences too
        np.array(WILD_TYPE),
    ],
    ids=["text", "bytes", "none", "number", "mapping", "set", "table", "array of no dimension"],
)
def test_what_is_no_list_of_sequences_is_refused(bad: Any, searched: Searched) -> None:
    with pytest.raises(TypeError, match=r"predict takes .*list"):
        search.load_experiment(searched.export).predict(bad)
