"""What is said of a study's best value: from the files of its trials, and without them."""

import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray
from optuna import Study
from optuna.trial import TrialState, create_trial
from safetensors.numpy import save_file

from search.stats.intervals import interval
from search.storage.attributes import EXCESS_RISE, PROTOCOL
from search.study.assessment import MAX_SEQUENCES, assess
from search.training.predictions import VALIDATION
from search.training.result import trial_folder
from tests.helpers.populations import draw, spearmans


def make_study(folder: Path, predictions: NDArray[np.float64], target: NDArray[np.float64]) -> Study:
    """A study whose complete trials have these values and files; a pruned one and a failed one stand in front."""
    study = optuna.create_study(direction="maximize")
    study.add_trial(create_trial(state=TrialState.PRUNED))
    study.add_trial(create_trial(state=TrialState.FAIL))
    for number, (prediction, value) in enumerate(
        zip(predictions, spearmans(predictions, target), strict=True), start=2
    ):
        study.add_trial(create_trial(value=float(value)))
        write(folder, number, np.arange(len(target)), prediction, target)
    return study


def write(folder: Path, number: int, row: NDArray[np.int64], prediction: object, target: object) -> None:
    path = trial_folder(folder, number) / VALIDATION
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"prediction": np.asarray(prediction, np.float32), "target": np.asarray(target, np.float32)}
    save_file({"row": row, **arrays}, path)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Trials 2 to 6: two that are alike and good, and three bad ones."""
    predictions, target = draw("normal", np.array([0.3, 0.9, 0.2, 0.9, 0.1]), 150, np.random.default_rng(0), shared=0.9)
    predictions[1] = predictions[3] + 0.1 * np.random.default_rng(1).standard_normal(150)
    return make_study(tmp_path, predictions, target)


def test_the_best_value_its_interval_its_optimism_and_its_peers(study: Study, tmp_path: Path) -> None:
    found = assess(study, tmp_path)
    assert found is not None
    assert found.trial == study.best_trial.number
    assert {found.trial, *found.indistinguishable} == {3, 5}
    assert (found.n_candidates, found.n_compared, found.n_missing) == (5, 5, 0)
    assert found.interval is not None
    assert 0.5 < found.interval.low < study.best_value < found.interval.high < 1
    assert found.optimism is not None
    assert 0 <= found.optimism < 0.02
    peer = 8 - found.trial
    assert found.sentences == (
        f"95 % interval: {found.interval.low:.2f} to {found.interval.high:.2f}, corrected for picking the best of 5",
        f"Expected optimism of the pick: {found.optimism:.2f}",
        f"Cannot be told apart from it: 1 trial ({peer})",
    )
    assert found == assess(study, tmp_path)


def test_trials_whose_predictions_are_elsewhere_or_of_other_rows_are_counted(study: Study, tmp_path: Path) -> None:
    whole = assess(study, tmp_path)
    (trial_folder(tmp_path, 2) / VALIDATION).unlink()
    write(tmp_path, 4, np.arange(1, 151), np.arange(150), np.arange(150))
    found = assess(study, tmp_path)
    assert whole is not None
    assert whole.interval is not None
    assert found is not None
    assert found.interval is not None
    assert (found.n_compared, found.n_missing) == (3, 2)
    assert found.interval.low <= whole.interval.low
    assert "the predictions of 2 trials are not here" in found.sentences[0]


@pytest.mark.parametrize("content", [None, b"no tensors"], ids=["missing", "damaged"])
def test_without_the_predictions_of_the_best_the_number_of_sequences_has_to_do(
    content: bytes | None, study: Study, tmp_path: Path
) -> None:
    whole = assess(study, tmp_path)
    path = trial_folder(tmp_path, study.best_trial.number) / VALIDATION
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    unknown = assess(study, tmp_path)
    study.set_user_attr(PROTOCOL, {"n_sequences": 150})
    found = assess(study, tmp_path)
    assert whole is not None
    assert whole.interval is not None
    assert found is not None
    assert found.interval is not None
    assert found.interval.low < whole.interval.low
    assert (found.optimism, found.indistinguishable, found.n_compared) == (None, (), 0)
    assert "approximate and too wide" in found.sentences[0]
    assert unknown is not None
    assert unknown.interval is None
    assert unknown.sentences == (
        f"How sure that is cannot be said: the predictions of trial {found.trial} are not on this machine.",
    )


def test_a_study_of_one_complete_trial_and_of_none(tmp_path: Path) -> None:
    predictions, target = draw("normal", np.array([0.8]), 60, np.random.default_rng(0))
    found = assess(make_study(tmp_path, predictions, target), tmp_path)
    fixed = interval(predictions[0], target)
    assert found is not None
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((fixed.low, fixed.high), abs=0.03)
    (sentence,) = found.sentences
    assert "corrected" not in sentence
    empty = optuna.create_study(direction="maximize")
    empty.add_trial(create_trial(state=TrialState.PRUNED))
    assert assess(empty, tmp_path) is None


def test_a_trial_whose_predictions_say_nothing_is_left_out(study: Study, tmp_path: Path) -> None:
    target = np.random.default_rng(0).standard_normal(150)
    write(tmp_path, 2, np.arange(150), np.full(150, 0.5), target)
    write(tmp_path, 4, np.arange(150), np.full(150, np.nan), target)
    found = assess(study, tmp_path)
    assert found is not None
    assert (found.n_compared, found.n_missing) == (3, 2)


def test_trials_that_were_set_aside_were_not_picked_from(tmp_path: Path) -> None:
    predictions, target = draw("normal", np.array([0.9, 0.5, 0.5]), 80, np.random.default_rng(0), shared=0.5)
    study = make_study(tmp_path, predictions, target)
    study.add_trial(create_trial(value=0.95, user_attrs={EXCESS_RISE: 0.3}))
    found = assess(study, tmp_path)
    assert found is not None
    assert (found.trial, found.n_candidates, found.n_missing) == (2, 3, 0)
    assert found.sentences[-1] == "Every other trial is worse by more than chance explains."


def test_a_hundred_trials_of_thousands_of_sequences_take_little_time(tmp_path: Path) -> None:
    n = MAX_SEQUENCES + 1000
    predictions, target = draw("normal", np.full(100, 0.7), n, np.random.default_rng(0), shared=0.7)
    study = make_study(tmp_path, predictions, target)
    started = time.process_time()
    found = assess(study, tmp_path)
    assert time.process_time() - started < 3  # on a busy machine; below one second on a quiet one
    assert found is not None
    assert found.interval is not None
    assert found.interval.high - found.interval.low < 0.1
