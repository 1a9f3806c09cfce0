"""A study keeps the threads that it began with, which fix its bits; the machine decides how many workers there are."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial

import search
from search.storage.attributes import RESULT, THREADS, USES
from tests.helpers.answers import run_here

TASK = "synthetic_two_vs_rest"
NAME = f"{TASK}-ridge"


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many cores this machine has."""
    return lambda n: monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(n)))


def searched(folder: Path, n_trials: int, *words: str, model: str = "ridge", workers: int | None = 1) -> None:
    inline: Mapping[str, Any] = {"executor": "inline"} if workers == 1 else {}
    request = search.SearchRequest(
        task=TASK,
        model=model,
        n_trials=n_trials,
        overrides=words,
        quiet=True,
        workers=workers,
        runs_dir=folder / "runs",
        export_dir=folder / "studies" / "experiment",
        **inline,
    )
    assert search.run_study(request).exit_status == 0


def trials_of(folder: Path, name: str = NAME) -> list[FrozenTrial]:
    return search.open_study(name, runs_dir=folder / "runs").trials


def threads_of(folder: Path) -> list[int]:
    trials = trials_of(folder)
    threads: list[int] = [trial.user_attrs[RESULT]["threads"] for trial in trials]
    assert [trial.user_attrs[USES]["cores"] for trial in trials] == threads
    return threads


def test_a_study_has_the_same_threads_on_every_machine(tmp_path: Path, cores: Any) -> None:
    cores(1)
    searched(tmp_path, 1)
    cores(64)
    searched(tmp_path, 2)
    assert threads_of(tmp_path) == [1, 1]
    assert search.open_study(NAME, runs_dir=tmp_path / "runs").user_attrs[THREADS] == 1


def test_what_a_command_names_holds_for_that_command_alone(tmp_path: Path, cores: Any) -> None:
    cores(4)
    searched(tmp_path, 1, "trainer.threads=2")
    searched(tmp_path, 2)
    assert threads_of(tmp_path) == [2, 1]


def test_a_later_rule_changes_no_threads_of_a_study(tmp_path: Path) -> None:
    searched(tmp_path, 1)
    search.open_study(NAME, runs_dir=tmp_path / "runs").set_user_attr(THREADS, 2)  # as another rule would have it
    searched(tmp_path, 2)
    assert threads_of(tmp_path) == [1, 2]


@pytest.mark.parametrize("damaged", ["5000", '"two"', "NaN"])
def test_a_damaged_note_does_not_make_a_study_one_of_an_earlier_version(
    tmp_path: Path, cores: Any, damaged: str
) -> None:
    cores(3)
    searched(tmp_path, 1)
    with sqlite3.connect(tmp_path / "runs" / "studies.db") as database:
        database.execute("UPDATE study_user_attributes SET value_json = ? WHERE key = ?", (damaged, THREADS))
    doctor = run_here("doctor", cwd=tmp_path)
    assert doctor.status == 1, doctor
    assert "expected int >= 1 and <= 1024" in doctor.out
    repaired = run_here("doctor", "--repair", cwd=tmp_path)
    assert repaired.status == 0, repaired
    assert "1 damaged row(s) were taken out" in repaired.out
    assert run_here("doctor", cwd=tmp_path).status == 0
    searched(tmp_path, 2)
    assert threads_of(tmp_path) == [1, 1]
    assert search.open_study(NAME, runs_dir=tmp_path / "runs").user_attrs[THREADS] == 1


def test_a_study_of_an_earlier_version_goes_on_with_all_cores(tmp_path: Path, cores: Any) -> None:
    searched(tmp_path, 1, "trainer.threads=3")
    with sqlite3.connect(tmp_path / "runs" / "studies.db") as database:
        (n_deleted,) = [database.execute("DELETE FROM study_user_attributes WHERE key = ?", (THREADS,)).rowcount]
    assert n_deleted == 1
    cores(3)
    searched(tmp_path, 3)
    assert threads_of(tmp_path) == [3, 3, 3]
    assert THREADS not in search.open_study(NAME, runs_dir=tmp_path / "runs").user_attrs
    file = f"studies/experiment/{NAME}.yaml"
    cores(1)
    answer = run_here("verify", file, cwd=tmp_path)
    assert answer.status == 0, answer
    assert "equal bit for bit" in answer.out


@pytest.mark.slow
def test_a_fleet_gives_the_bits_of_one_worker(tmp_path: Path, cores: Any) -> None:
    words = ("sampler=random", "pruner=nop", "trainer.max_epochs=2", "model.channels=16", "validation=holdout")
    cores(2)
    for folder, workers in (("one", 1), ("auto", None)):
        searched(tmp_path / folder, 3, *words, model="cnn", workers=workers)
    one, auto = (trials_of(tmp_path / folder, f"{TASK}-cnn") for folder in ("one", "auto"))
    logs = {folder: [*(tmp_path / folder / "runs" / f"{TASK}-cnn").glob("worker-*.txt")] for folder in ("one", "auto")}
    assert {folder: len(found) for folder, found in logs.items()} == {"one": 0, "auto": 2}

    def bits(trials: list[FrozenTrial]) -> list[Any]:
        kept = ("value", "values", "weight_hashes", "threads", "micro_batch_tokens")
        return [(trial.params, [trial.user_attrs[RESULT][key] for key in kept]) for trial in trials]

    assert bits(one) == bits(auto)
