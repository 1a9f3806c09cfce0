"""Predictions that rank nothing are refused: not finite, or the same whatever the sequence is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import search
from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from datasets.tasks.synthetic import WILD_TYPE
from search.experiments.experiment import checksum
from search.experiments.files import FOLD, SEED, weights_folder
from search.study.artifacts import hash_or_missing
from search.study.config import study_config
from tests.helpers.answers import Answer
from tests.helpers.experiments import trained_experiment

TASK = "synthetic_two_vs_rest"
KERNEL_KEEPS = ("theta", "mean_distance", "location", "scale")  # without these it predicts no number at all
SEQUENCES = [WILD_TYPE, "W" + WILD_TYPE[1:], WILD_TYPE[:9] + "A" + WILD_TYPE[10:]]


@pytest.fixture(scope="module", params=["ridge", "kernel", "cnn"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    split = prepare(find_task(TASK), data_dir=None, cache_dir=folder / "splits", announce=lambda sentence: None)
    words = [f"task={TASK}", f"model={request.param}", "validation=holdout", "trainer.threads=1", "logger=none"]
    if request.param == "cnn":
        words.append("trainer.max_epochs=1")
    path = folder / "exported" / "one.yaml"
    path.parent.mkdir()
    places = Places(weights_dir=None, cache_dir=folder / "cache")
    trained_experiment(path, study_config(words).run({}), split, places)
    return path


@pytest.fixture
def experiment(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made.parent, tmp_path / "exported")
    return tmp_path / "exported" / made.name


def leave(experiment: Path, *members: Callable[[str, np.ndarray], np.ndarray]) -> list[Path]:
    """Weights as `confirm` would leave them, one file a member: what it makes of each array of the trained ones."""
    folder = weights_folder(experiment)
    arrays = load_file(folder / FOLD.format(0))
    files = [folder / SEED.format(seed) for seed in range(len(members))]
    for file, change in zip(files, members, strict=True):
        save_file({name: change(name, array).astype(array.dtype) for name, array in arrays.items()}, file)
    record = {
        "checksum": checksum(experiment),
        "weights": [{"file": file.name, "hash": hash_or_missing(file)} for file in files],
    }
    (folder / "confirm.json").write_text(json.dumps(record))
    return files


def not_a_number(name: str, array: np.ndarray) -> np.ndarray:
    return np.full_like(array, np.nan) if array.dtype.kind == "f" else array


def without_information(name: str, array: np.ndarray) -> np.ndarray:
    is_fitted = array.dtype.kind == "f" and name not in KERNEL_KEEPS
    return np.zeros_like(array) if is_fitted else array


def same(name: str, array: np.ndarray) -> np.ndarray:
    return array


@pytest.mark.parametrize("top", [[], ["--top", "2"]])
def test_weights_that_are_no_numbers_rank_nothing(
    experiment: Path, command: Callable[..., Answer], top: list[str], tmp_path: Path
) -> None:
    bad = leave(experiment, same, not_a_number)[1]
    before = sorted(tmp_path.rglob("*"))
    words = ("predict", str(experiment), "--mutagenesis", "singles", "--quiet", *top)
    sentence = command(*words, "--output", "out.csv").refusal()
    assert f"of {bad} are not finite" in sentence
    assert command(*words).out == ""
    written = [path for path in set(tmp_path.rglob("*")) - set(before) if "runs" not in path.parts]
    assert written == []
    with pytest.raises(UserError, match="not finite"):
        search.load_experiment(experiment).predict(SEQUENCES)
    with pytest.raises(UserError, match="not finite"):
        search.load_experiment(experiment).predict_members(SEQUENCES[:1])


@pytest.mark.parametrize("top", [[], ["--top", "2"]])
def test_weights_that_tell_no_sequence_from_another_rank_nothing(
    experiment: Path, command: Callable[..., Answer], top: list[str]
) -> None:
    leave(experiment, without_information)
    words = ("predict", str(experiment), "--mutagenesis", "singles", "--quiet", *top)
    sentence = command(*words, "--output", "out.csv").refusal()
    assert "so its weights rank nothing" in sentence
    assert not Path("out.csv").exists()
    for sequences in (SEQUENCES, SEQUENCES[:1]):
        with pytest.raises(UserError, match="rank nothing"):
            search.load_experiment(experiment).predict(sequences)


def test_equal_predictions_of_good_weights_are_no_fault(experiment: Path, command: Callable[..., Answer]) -> None:
    good = search.load_experiment(experiment)
    assert good.predict([WILD_TYPE] * 3).tolist() == [good.predict([WILD_TYPE])[0]] * 3
    assert good.predict([]).shape == (0,)
    Path("one.txt").write_text(f"{WILD_TYPE}\n")
    assert command("predict", str(experiment), "--input", "one.txt", "--quiet").status == 0


def test_one_fold_without_information_is_no_fault_of_the_ensemble(experiment: Path) -> None:
    leave(experiment, same, without_information)
    members = search.load_experiment(experiment).predict_members(SEQUENCES)
    assert np.ptp(members[1]) == 0
    assert np.isfinite(members).all()
