"""The weights beside an experiment are those that it names, and no others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from search.experiments.experiment import freeze, load_experiment
from search.experiments.files import check_exported_weights, place_checkpoints
from search.study.artifacts import hash_or_missing
from tests.helpers.answers import Answer
from tests.helpers.study_fixtures import FinishedStudy


@pytest.fixture
def checkpoints(tmp_path: Path) -> list[Path]:
    """Of two folds."""
    paths = [tmp_path / "trial-00003" / f"fold{fold}.safetensors" for fold in range(2)]
    for fold, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"weights of fold %d" % fold)
    return paths


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return tmp_path / "exported ä" / "some.study-1.5.yaml"


def names_beside(experiment: Path) -> list[str]:
    return sorted(path.name for path in (experiment.parent / "some.study-1.5").iterdir())


def test_the_weights_of_all_folds_stand_beside_the_file(checkpoints: list[Path], experiment: Path) -> None:
    said: list[str] = []
    hashes = [hash_or_missing(path) for path in checkpoints]
    place_checkpoints(checkpoints, hashes, experiment, said.append, runs=checkpoints[0].parents[1])
    assert names_beside(experiment) == ["fold0.safetensors", "fold1.safetensors"]
    assert not said
    check_exported_weights(experiment, hashes)
    for path in checkpoints:  # as the search does when another trial becomes better
        path.unlink()
    place_checkpoints(checkpoints, hashes, experiment, said.append, runs=checkpoints[0].parents[1])
    assert not said, "they stand there already"
    check_exported_weights(experiment, hashes)
    assert (experiment.parent / "some.study-1.5" / "fold1.safetensors").read_bytes() == b"weights of fold 1"


def test_a_new_export_replaces_them_and_leaves_what_is_not_its_own(checkpoints: list[Path], experiment: Path) -> None:
    place_checkpoints(
        checkpoints, [hash_or_missing(path) for path in checkpoints], experiment, print, runs=checkpoints[0].parents[1]
    )
    (experiment.parent / "some.study-1.5" / "seed1.safetensors").write_bytes(b"confirmed")
    better = checkpoints[0].with_name("better.safetensors")
    better.write_bytes(b"better weights")
    place_checkpoints([better], [hash_or_missing(better)], experiment, print, runs=checkpoints[0].parents[1])
    assert names_beside(experiment) == ["fold0.safetensors", "seed1.safetensors"]
    check_exported_weights(experiment, [hash_or_missing(better)])


def test_weights_that_are_elsewhere_are_said_to_be_missing(checkpoints: list[Path], experiment: Path) -> None:
    said: list[str] = []
    hashes = [hash_or_missing(path) for path in checkpoints]
    place_checkpoints(checkpoints, hashes, experiment, print, runs=checkpoints[0].parents[1])
    checkpoints[0].write_bytes(b"changed")
    place_checkpoints(
        checkpoints, ["sha256:" + "0" * 64, hashes[1]], experiment, said.append, runs=checkpoints[0].parents[1]
    )
    assert names_beside(experiment) == ["fold1.safetensors"], "an old one would be taken for the new one"
    assert len(said) == 1
    assert "The weights of 1 fold(s)" in said[0]
    check_exported_weights(experiment, ["sha256:" + "0" * 64, hashes[1]])


def test_changed_weights_are_refused_by_their_hash(checkpoints: list[Path], experiment: Path) -> None:
    hashes = [hash_or_missing(path) for path in checkpoints]
    place_checkpoints(checkpoints, hashes, experiment, print, runs=checkpoints[0].parents[1])
    path = experiment.parent / "some.study-1.5" / "fold1.safetensors"
    path.unlink()  # it has two names
    path.write_bytes(b"changed")
    with pytest.raises(UserError, match=r"weight_hashes\[1\]"):
        check_exported_weights(experiment, hashes)


def test_a_folder_that_cannot_be_written_is_a_sentence(checkpoints: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\)"):
        place_checkpoints(
            checkpoints,
            [hash_or_missing(path) for path in checkpoints],
            tmp_path / "file" / "x.yaml",
            print,
            runs=tmp_path,
        )


def test_training_on_other_data_than_those_of_the_experiment_is_said(
    finished_study: FinishedStudy, command: Callable[..., Answer], tmp_path: Path
) -> None:
    known = load_experiment(finished_study.export)
    freeze(known, tmp_path / "same.yaml")
    freeze(replace(known, provenance=replace(known.provenance, data_hash="0" * 64)), tmp_path / "other.yaml")
    for name in ("same", "other"):
        answer = command("train", "--experiment", f"{name}.yaml")
        assert answer.status == 0, answer
        said = f"{name}.yaml was made on other data ({known.provenance.data}, sha256 000000000000...) than what is"
        assert (said in answer.err) == (name == "other"), answer.err
