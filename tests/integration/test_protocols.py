"""Searches with several folds from their first trial to `verify`, and what is recorded of their validation."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
import torch
import yaml
from safetensors.torch import load_file

from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from models.metrics import spearman
from search.experiments.confirm.candidates import of_experiment
from search.experiments.experiment import load_experiment
from search.storage.url import default_url
from search.training.folds.pooled import pooled
from search.training.predictions import VALIDATION
from tests.helpers.answers import Answer
from tests.helpers.study_fixtures import Program

TASK = "synthetic_one_vs_rest"
N_ROWS = 305
WORDS = ("--task", TASK, "--export-dir", "exported", "trainer.threads=1", "logger=none")
Command = Callable[..., Answer]


@dataclass(frozen=True, kw_only=True)
class Searched:
    """Two studies in one folder: ridge regression with the default validation, and a small network in three folds."""

    folder: Path
    answers: dict[str, Answer]

    def study(self, name: str) -> optuna.Study:
        return optuna.load_study(study_name=name, storage=default_url(self.folder / "runs"))

    def experiment(self, name: str) -> Path:
        return self.folder / "exported" / f"{name}.yaml"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, here: Program) -> Searched:
    folder = tmp_path_factory.mktemp("folds")
    network = ("validation=kfold", "validation.n_folds=3", "trainer.max_epochs=3", "model.channels=16", "model.depth=1")
    answers = {
        "auto": here(*WORDS, "--model", "ridge", "--study-name", "auto", "--n-trials", "2", cwd=folder),
        "cnn": here(*WORDS, "--model", "cnn", "--study-name", "cnn", "--n-trials", "6", *network, cwd=folder),
    }
    for answer in answers.values():
        assert answer.status == 0, answer
    return Searched(folder=folder, answers=answers)


def test_the_protocol_stands_wherever_a_value_does(searched: Searched, command: Command) -> None:
    shown = {"auto": "auto: kfold of 5, no rise with mutations", "cnn": "kfold of 3"}
    storage = default_url(searched.folder / "runs")
    for found in json.loads(command("status", "--storage", storage, "--json").out):
        assert found["validation"] == shown[found["study"]]
    for name, words in shown.items():
        study = searched.study(name)
        assert f"({words}, {N_ROWS} sequences; synthetic landscape)" in searched.answers[name].out
        tree = {"_target_": "datasets.validation.KFold", "n_folds": 3 if name == "cnn" else 5, "seed": 0}
        if name == "auto":
            tree = {"_target_": "datasets.without_rise.WithoutRise", "protocol": tree, "most": 0.1}
        assert study.user_attrs["manifest"]["validation"] == tree
        assert study.user_attrs["protocol"]["saw_test_sequences"] is (name == "auto")
        note = study._storage.get_study_system_attrs(study._study_id)["dashboard:note_str:0"]
        assert f"validation: {words}" in note
        exported = yaml.safe_load(searched.experiment(name).read_text(encoding="utf-8"))
        assert exported["validation"] == tree
        assert exported["provenance"]["protocol"] == words


def test_the_value_is_that_of_the_pooled_predictions_which_are_kept(searched: Searched) -> None:
    target = torch.from_numpy(
        prepare(
            find_task(TASK), data_dir=None, cache_dir=searched.folder / "runs" / "cache" / "splits", announce=print
        ).target
    )
    n_complete = 0
    for name in ("auto", "cnn"):
        for trial in searched.study(name).trials:
            path = searched.folder / "runs" / name / f"trial-{trial.number:05d}" / VALIDATION
            is_complete = trial.state == optuna.trial.TrialState.COMPLETE
            assert path.exists() == is_complete
            if is_complete:
                n_complete += 1
                arrays = load_file(path)
                assert arrays["row"].tolist() == list(range(N_ROWS))
                assert arrays["prediction"].dtype == arrays["target"].dtype == torch.float32
                assert torch.equal(arrays["target"], target)
                assert spearman(arrays["prediction"], arrays["target"]) == trial.value
    assert n_complete >= 3


def test_what_auto_asks_for_stands_with_each_trial(searched: Searched) -> None:
    for trial in searched.study("auto").trials:
        excess = trial.user_attrs["excess_rise"]
        assert -1.2 <= excess <= 0.8
        assert trial.user_attrs["result"]["excess_rise"] == excess
        assert trial.constraints == {"rise_with_mutations": excess}
    n = sum(trial.user_attrs["excess_rise"] > 0 for trial in searched.study("auto").trials)
    assert ("Set aside: 1 of 2 complete trials" in searched.answers["auto"].out) == (n == 1)
    assert ("All 2 complete trials predict more" in searched.answers["auto"].out) == (n == 2)
    assert all("excess_rise" not in trial.user_attrs for trial in searched.study("cnn").trials)


def test_every_fold_is_exported_and_found_again(searched: Searched, command: Command) -> None:
    for name, n_folds, n_epochs in (("auto", 5, 1), ("cnn", 3, 3)):
        path = searched.experiment(name)
        provenance = yaml.safe_load(path.read_text(encoding="utf-8"))["provenance"]
        assert [len(values) for values in provenance["values"]] == [n_epochs] * n_folds
        assert provenance["best_epochs"] == [n_epochs - 1] * n_folds
        assert of_experiment(load_experiment(path)).n_epochs == n_epochs
        assert len(provenance["weight_hashes"]) == n_folds
        weights = path.parent / name
        assert sorted(file.name for file in weights.iterdir()) == [f"fold{i}.safetensors" for i in range(n_folds)]
    answer = command("verify", str(searched.experiment("cnn")))
    assert answer.status == 0, answer
    assert "9 values in 3 fold(s) are equal bit for bit" in answer.out


def test_a_pruned_trial_is_pruned_by_fold_and_epoch(searched: Searched) -> None:
    """Steps are those of three folds of three epochs, and no fold is begun before the one before it is over."""
    for trial in searched.study("cnn").trials:
        steps = list(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
        values = [value for fold in trial.user_attrs["result"]["values"] for value in fold]
        assert list(trial.intermediate_values.values()) == values[: len(steps)]
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert steps == list(range(1, 10))


def test_auto_and_what_it_chose_are_one_study(searched: Searched, command: Command) -> None:
    storage = ("--storage", default_url(searched.folder / "runs"), "--study-name", "auto", "--n-trials", "2")
    words = (*WORDS, "--model", "ridge", *storage)
    again = command(*words, "validation=without_rise", "--runs-dir", str(searched.folder / "runs"))
    assert again.status == 0, again
    assert "nothing to do" in again.err
    refusal = command(*words, "validation=kfold").refusal()
    assert "validation._target_" in refusal


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("validation=shifted",), f"{TASK} has one mutation class only"),
        (("validation=kfold", "validation.n_folds=200"), "expected at most 101 folds"),
        (("validation=by_position", "validation.n_folds=17"), "more than the 16 mutated positions"),
        (("validation=kfold", "validation.n_folds=1"), "validation cannot be built: n_folds is 1"),
        (("validation=shifted", "validation.fraction=2.0"), "fraction is 2.0, expected between 0 and 1"),
    ],
)
def test_a_protocol_that_does_not_fit_is_refused_before_any_trial(
    command: Command, words: tuple[str, ...], sentence: str
) -> None:
    for more in ((), ("--dry-run",)):
        assert sentence in command(*WORDS, "--model", "ridge", "--n-trials", "1", *words, *more).refusal()
    assert sentence in command("train", "--task", TASK, "--model", "ridge", *words).refusal()
    assert not os.path.exists("runs/studies.db")


def test_the_dry_run_tells_the_protocol(command: Command) -> None:
    answer = command(*WORDS, "--model", "ridge", "--dry-run")
    assert (
        "auto: kfold of 5, no rise with mutations: 5 fold(s); fold 0: 244 training and 61 validation sequences"
        in answer.out
    )
    assert "_target_: datasets.validation.KFold" in answer.out


def test_predictions_of_one_sequence_are_averaged() -> None:
    class Split:
        target = torch.tensor([1.0, 2.0, 3.0, 4.0]).numpy()

    rows = [torch.tensor([2, 0]), torch.tensor([3, 2]), torch.tensor([2])]
    predictions = [torch.tensor([1.0, 0.1]), torch.tensor([0.7, 2.0]), torch.tensor([6.0])]
    found = pooled(rows, predictions, Split())  # type: ignore[arg-type]  # all that it looks at
    assert found["row"].tolist() == [0, 2, 3]
    # A single prediction stays as it is, bit for bit.
    assert torch.equal(found["prediction"], torch.tensor([0.1, 3.0, 0.7]))
    assert found["target"].tolist() == [1.0, 3.0, 4.0]
