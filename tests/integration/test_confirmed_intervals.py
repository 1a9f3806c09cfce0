"""Intervals of weights that `confirm` trained, by the errors of models of its own on rows that these did not see."""

import contextlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import search
from datasets.common.errors import UserError
from datasets.common.paths import Places
from search.experiments.experiment import load_experiment
from search.experiments.weights_in_use import find_calibration, find_weights
from search.machine import own_models
from search.training.predictor import Predictor
from tests.helpers.answers import run_here
from tests.helpers.own_folder import write

WILD_TYPE = "MKVLAYRTDE"
RESIDUES = "ACDEFGHIKL"
N_SEEDS = 2
SETTINGS = ("trainer.threads=1", "--quiet", "validation=holdout")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with experiments of a ridge, a CNN, both together, and a CNN validated by folds.

    The table brings a validation part of 30 variants; 90 train and 30 are the test set.
    """
    folder = tmp_path_factory.mktemp("confirmed")
    chosen = random.Random(1)
    effects = {(i, new): chosen.gauss(0, 1) for i in range(len(WILD_TYPE)) for new in RESIDUES}
    rows: dict[str, str] = {}
    while len(rows) < 150:
        letters = list(WILD_TYPE)
        for place in chosen.sample(range(len(letters)), chosen.choice((1, 2, 3))):
            letters[place] = chosen.choice(RESIDUES)
        true = sum(effects.get((i, new), 0.0) for i, new in enumerate(letters) if new != WILD_TYPE[i])
        part = ("train,", "train,", "train,", "train,True", "test,")[len(rows) % 5]
        rows.setdefault("".join(letters), f"{true + chosen.gauss(0, 0.3):.6f},{part}")
    lines = "".join(f"{sequence},{rest}\n" for sequence, rest in rows.items())
    (folder / "own.csv").write_text(f"sequence,fitness,set,validation\n{lines}")
    (folder / "wild.fasta").write_text(f">wild\n{WILD_TYPE}\n")
    data = ("--data", "own.csv", "--wild-type", "wild.fasta", "--n-trials", "1")
    small = ("trainer.max_epochs=3", "model.channels=8", "data.batch_size=16")
    for words in (
        ("--model", "ridge", "--study-name", "ridge", *SETTINGS),
        ("--model", "cnn", "--study-name", "cnn", *small, *SETTINGS),
        ("--model", "cnn", "--study-name", "folds", *small, *SETTINGS[:2], "validation=kfold"),
    ):
        answer = run_here(*data, *words, cwd=folder)
        assert answer.status == 0, answer
    answer = run_here("combine", "ridge", "cnn", "--export", "both", "--quiet", cwd=folder)
    assert answer.status == 0, answer
    return folder


@contextlib.contextmanager
def kept(parent: Path, name: str) -> Iterator[Path]:
    """The folder of a confirmation, which is not removed."""
    folder = parent / name
    folder.mkdir(parents=True)
    yield folder


def confirmed(searched: Path, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, Any]]:
    """A copy of an experiment that was confirmed, what confirm says of it, with its runs still there."""
    shutil.copytree(searched, folder)
    path = folder / "studies" / "experiment" / f"{name}.yaml"
    monkeypatch.setattr("search.confirmation.folder_of", kept)
    answer = run_here("confirm", str(path), "--seeds", str(N_SEEDS), "--quiet", "--json", cwd=folder)
    assert answer.status == 0, answer
    found = json.loads(answer.out)
    return path, found[0] if isinstance(found, list) else found


def errors_by_hand(path: Path, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The absolute errors on the validation part (n,), of the mean of what was trained without it, and how far the
    members of an ensemble lie apart there: standardised by what they predict of the test sequences.
    """
    table = pd.read_csv(folder / "own.csv")
    rows, tested = table[table["validation"] == True], table[table["set"] == "test"]  # noqa: E712
    assert len(tested) <= 500
    both = pd.concat([rows, tested])["sequence"]
    residues = np.stack([np.frombuffer(one.encode(), dtype=np.uint8) for one in both])
    lengths = np.full(len(residues), len(WILD_TYPE), dtype=np.int64)
    experiment = load_experiment(path)
    [runs] = (folder / "runs" / "confirm").iterdir()
    places = Places(weights_dir=None, cache_dir=folder / "runs" / "cache")
    found = []
    for run, part in zip(sorted(runs.iterdir()), experiment.parts, strict=True):
        files = sorted((run / "train").glob("seed*/fold0.safetensors"))
        assert len(files) == N_SEEDS
        found.append(Predictor(part.config, files, places=places)(residues, lengths))
    n = len(rows)
    prediction, spread = found[0][:, :n].mean(axis=0), None
    if experiment.ensemble is not None:
        origins, weights, standardised = experiment.ensemble.origins, [], []
        for member, one in zip(experiment.ensemble.members, found, strict=True):
            of_test = one[:, n:].mean(axis=0)
            weights.append(member.share.weight)
            standardised.append((one[:, :n].mean(axis=0) - of_test.mean()) / of_test.std())
        members = origins.intercept + origins.slope * np.stack(standardised)
        prediction = np.average(members, axis=0, weights=weights)
        spread = np.sqrt(np.average((members - prediction) ** 2, axis=0, weights=weights))
    error = np.abs(prediction - rows["fitness"].to_numpy())
    return error, np.zeros(len(error)) if spread is None else spread


@pytest.mark.parametrize("name", ["cnn", "both"])
def test_they_are_of_the_models_that_confirm_trains_without_the_rows(
    searched: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    path, said = confirmed(searched, folder, name, monkeypatch)
    record = json.loads((path.with_suffix("") / "confirm.json").read_text())["calibration"]
    assert record["n_rows"] == [30]
    errors, spread = errors_by_hand(path, folder)
    is_scaled = record["scale"] == "deviation"
    scales = np.sqrt(spread.astype(np.float64) ** 2 + record["noise"] ** 2) if is_scaled else 1.0
    np.testing.assert_allclose(record["scores"][0], np.sort(errors / scales), rtol=2e-4, atol=1e-6)
    if not is_scaled:
        assert said["coverage"]["width"] == pytest.approx(2 * record["scores"][0][27], rel=1e-4), "28 of 30 + 1 is 90 %"
    before = load_experiment(path).calibration
    assert before is not None
    assert record["scores"] != before.scores, "those of the search are others"
    trained = search.load_experiment(path)
    assert trained.calibration is not None
    assert trained.calibration.scores == record["scores"]
    table = pd.read_csv(folder / "own.csv")
    test = table[table["set"] == "test"]
    intervals = trained.predict_intervals(test["sequence"].tolist())
    share = ((intervals.low <= test["fitness"]) & (test["fitness"] <= intervals.high)).mean()
    assert said["coverage"]["share"] == pytest.approx(share)
    answer = run_here("predict", str(path), "--input", "own.csv", cwd=folder)
    assert "by the mean of as many models as predict, which `confirm` trained without them" in answer.err


@pytest.mark.parametrize("name", ["ridge", "folds"])
def test_they_are_of_the_search_where_nothing_else_is_known(
    searched: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    path, _ = confirmed(searched, folder, name, monkeypatch)
    assert "calibration" not in json.loads((path.with_suffix("") / "confirm.json").read_text())
    before, trained = load_experiment(path).calibration, search.load_experiment(path)
    assert before is not None
    assert trained.calibration == before.pooled()
    answer = run_here("predict", str(path), "--input", "own.csv", cwd=folder)
    assert "because the weights are not those of the folds but of `confirm`" in answer.err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda known: known["scores"][0].reverse(), "numbers in ascending order"),
        (lambda known: known.update(scale="deviation", noise=0.1), "models.cnn.CNN knows no deviation of what it"),
        (lambda known: known.update(n_rows=[15, 15], scores=[[0.1], [0.1]]), "expected one group"),
        (lambda known: known.update(validated="\x1b[2J"), "control characters"),
        (lambda known: known.update(validated="\ud800"), "control characters"),
        (lambda known: known.pop("noise"), "calibration.noise is missing"),
        (lambda known: known.update(more=1), "calibration.more is not a setting"),
    ],
)
def test_what_is_no_calibration_is_refused(
    searched: Path, tmp_path: Path, change: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    path, _ = confirmed(searched, folder, "cnn", monkeypatch)
    file = path.with_suffix("") / "confirm.json"
    record = json.loads(file.read_text())
    change(record["calibration"])
    file.write_text(json.dumps(record))
    refusal = run_here("predict", str(path), "--input", "own.csv", cwd=folder).refusal()
    assert sentence in refusal
    assert "confirm.json is not what `confirm` wrote, which is to be run again" in refusal


def test_lists_in_one_another_are_refused_however_deep(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As deep as JSON is read, which is deeper than what looks at it afterwards may go."""
    path, _ = confirmed(searched, tmp_path / "work", "cnn", monkeypatch)
    experiment, file = load_experiment(path), path.with_suffix("") / "confirm.json"
    weights = find_weights(path, experiment, print)
    record = file.read_text()
    refusals = set()
    for depth in (*range(700, 1000), 100_000):  # some Pythons read more than a thousand
        scores = f"{'[' * depth}{']' * depth}"
        file.write_text(f'{record.rstrip().removesuffix("}")}, "calibration": {{"scores": {scores}}}}}')
        with pytest.raises(UserError) as error:
            find_calibration(path, experiment, weights)
        refusals.add("is not what `confirm` wrote" in str(error.value))
    assert refusals == {True, False}, "some cannot be read at all"


UNSURE = """
import torch
from torch import nn
from torch.optim import SGD

from models.fitness_model import FitnessModel


class Unsure(FitnessModel):
    def __init__(self, *, lr: float = 0.01):
        super().__init__()
        self.vectors, self.lr = nn.Embedding(self.tokenizer.n_tokens, 1), lr

    def forward(self, batch):
        return self.vectors(batch.tokens).mean(1).squeeze(-1)

    def predict_with_std(self, batch):
        is_sure = batch.tokens[:, 3] == batch.tokens[:, 4]
        return self(batch), torch.where(is_sure, 0.1, 5.0)

    def configure_optimizers(self):
        return SGD(self.parameters(), lr=self.lr)
"""


def test_a_model_of_ones_own_that_knows_its_deviation_has_intervals_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of confirm's weights as those of the search, which are no epochs of a model that is solved exactly."""
    chosen = random.Random(2)
    rows: dict[str, str] = {}
    while len(rows) < 200:
        middle = chosen.choice(("AA", "AC"))  # alike: measured with less noise
        sequence = f"{''.join(chosen.choices(RESIDUES, k=3))}{middle}{''.join(chosen.choices(RESIDUES, k=5))}"
        part = ("train,", "train,", "train,True", "test,")[len(rows) % 4]
        rows.setdefault(sequence, f"{chosen.gauss(0, 0.1 if middle == 'AA' else 5):.6f},{part}")
    source = tmp_path / "source"
    source.mkdir()
    lines = "".join(f"{sequence},{rest}\n" for sequence, rest in rows.items())
    (source / "own.csv").write_text(f"sequence,fitness,set,validation\n{lines}")
    models = tmp_path / "models"
    write(models, "unsure.py", UNSURE)
    space = "space:\n  model:\n    lr: {type: float, low: 0.001, high: 0.1}\n"
    write(models, "unsure.yaml", f"model:\n  _target_: own_models.unsure.Unsure\n  lr: 0.01\n{space}")
    monkeypatch.setenv(own_models.VARIABLE, str(models))
    try:
        words = ("--data", "own.csv", "--model", "unsure", "--study-name", "unsure", "--n-trials", "1", *SETTINGS)
        answer = run_here(*words, "trainer.max_epochs=1", cwd=source)
        assert answer.status == 0, answer
        path, _ = confirmed(source, tmp_path / "work", "unsure", monkeypatch)
        before, now = load_experiment(path).calibration, search.load_experiment(path).calibration
    finally:
        own_models.use(None)
        own_models.use_folder(None)
    assert before is not None
    assert now is not None
    assert before.asks_deviation
    assert now.asks_deviation
    assert now.n_rows == [50]
    assert now.scores != before.scores
