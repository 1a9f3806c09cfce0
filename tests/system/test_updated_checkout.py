"""Whoever updates the checkout while a command runs changes nothing for it: all that it needs was imported before."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search.study.snapshot import MIN_TRIALS
from tests.helpers.answers import run_here
from tests.helpers.faulty import copy_program
from tests.helpers.planted import TASK, plain_environment, run
from tests.helpers.processes import MANY, SHORT, Search, finish, trials, wait_until
from tests.helpers.tables import variants, write

pytestmark = pytest.mark.timeout(1800)
SETTINGS = ("--task", TASK, "validation=holdout", "trainer.threads=1", *SHORT)
# What there is of the code; `studies/` stays, for it is read before each search of a ladder.
CODE = ("datasets", "models", "search", "run_study.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    return copy_program(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def start(checkout: Path, folder: Path, *words: str) -> Search:
    return Search([sys.executable, str(checkout / "run_study.py"), *words], folder, plain_environment())


def remove_code(checkout: Path) -> None:
    """The hardest update: what is not imported yet is gone."""
    for name in CODE:
        path = checkout / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def finish_without_code(process: Search, checkout: Path, is_ready: Callable[[], bool]) -> str:
    wait_until(process, is_ready)
    remove_code(checkout)
    return finish_well(process)


def finish_well(process: Search) -> str:
    returncode, output = finish(process)
    assert returncode == 0, output
    for word in ("Traceback", "ModuleNotFoundError", "error:", "could not be kept"):
        assert word not in output
    return output


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_search_ends_as_if_nothing_had_been_updated(n_workers: int, checkout: Path, folder: Path) -> None:
    words = (*SETTINGS, "--model", "cnn", "--n-trials", str(MANY), "--workers", str(n_workers))
    process = start(checkout, folder, *words)
    name = f"{TASK}-cnn"
    storage = f"sqlite:///{folder / 'runs' / 'studies.db'}"

    def n_finished() -> int:
        return sum(trial.state == TrialState.COMPLETE for trial in trials(folder, name))

    def all_train() -> bool:
        """Whether each worker has had a trial that trained: so all have loaded everything."""
        return (
            len({trial.user_attrs["worker"] for trial in trials(folder, name) if trial.intermediate_values})
            == n_workers
        )

    wait_until(process, all_train)
    remove_code(checkout)
    n_before = n_finished()
    wait_until(process, lambda: n_finished() >= n_before + MIN_TRIALS)  # so that there is an importance
    assert run_here("drain", "--study-name", name, cwd=folder).status == 0
    output = finish_well(process)
    study = optuna.load_study(study_name=name, storage=storage)
    n = len(study.trials)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * n
    assert f"Study {name}: {n} finished trials ({n} complete, 0 pruned), 0 failed." in output
    assert "importance" in output
    assert (folder / "studies" / "experiment" / f"{name}.yaml").is_file()
    attributes = study._storage.get_study_system_attrs(study._study_id)
    assert any(key.startswith("dashboard:note_str:") for key in attributes)
    [report] = [json.loads(value) for key, value in attributes.items() if key.startswith("artifacts:")]
    assert (folder / "runs" / "artifacts" / report["artifact_id"]).stat().st_size > 100_000


@pytest.mark.parametrize("validation", ["holdout", "by_position"])  # of modules that more or less is imported from
def test_a_confirmation_ends_with_its_reading_in_the_ledger(validation: str, checkout: Path, folder: Path) -> None:
    words = (*SETTINGS, f"validation={validation}", "--model", "cnn", "--n-trials", "1")
    run(str(checkout / "run_study.py"), *words, folder=folder, environment=plain_environment())
    experiment = folder / "studies" / "experiment" / f"{TASK}-cnn.yaml"
    process = start(checkout, folder, "confirm", str(experiment), "--seeds", "2")
    finish_without_code(process, checkout, lambda: "seed" in process.said())
    assert experiment.with_name(f"{TASK}-cnn.ledger.jsonl").is_file()


def test_a_confirmation_of_a_table_reads_it_at_its_end(checkout: Path, folder: Path) -> None:
    """A search has left the table prepared, so that it is not read before."""
    rows = [(sequence, f"{value:.4f}") for _, sequence, value in variants()]
    write(folder / "own.csv", "sequence,fitness", rows)
    words = ("--data", "own.csv", "--split", "random", *SETTINGS[2:], "--model", "cnn", "--study-name", "own")
    run(str(checkout / "run_study.py"), *words, "--n-trials", "1", folder=folder, environment=plain_environment())
    experiment = folder / "studies" / "experiment" / "own.yaml"
    process = start(checkout, folder, "confirm", str(experiment), "--seeds", "2")
    finish_without_code(process, checkout, lambda: "seed" in process.said())
    assert experiment.with_name("own.ledger.jsonl").is_file()


def test_a_ladder_ends_with_its_table(checkout: Path, folder: Path) -> None:
    words = ("--task", TASK, "validation=holdout", "--model", "ridge", "--model", "kernel", "--n-trials", "2")
    process = start(checkout, folder, *words)
    output = finish_without_code(process, checkout, lambda: "trial 0 complete" in process.said())
    table = output.rpartition("Next:")[2]
    assert "ridge" in table
    assert "kernel" in table
    assert "\nensemble " in table


def test_train_and_verify_end_with_their_answers(checkout: Path, folder: Path) -> None:
    words = (*SETTINGS, "--model", "cnn", "--n-trials", "1")
    run(str(checkout / "run_study.py"), *words, folder=folder, environment=plain_environment())
    kept = checkout.with_name("kept")
    shutil.copytree(checkout, kept)
    experiment = f"studies/experiment/{TASK}-cnn.yaml"
    for words, last in ((("verify", experiment), "verified: "), (("train", "--experiment", experiment), "Weights")):
        process = start(checkout, folder, *words)
        output = finish_without_code(process, checkout, lambda process=process: "epoch 1:" in process.said())
        assert last in output
        shutil.copytree(kept, checkout, dirs_exist_ok=True)
