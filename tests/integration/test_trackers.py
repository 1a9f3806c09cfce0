"""Trials in Weights & Biases and in MLflow: by a real search each, offline, and nothing of it leaves the machine."""

import getpass
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import search
from datasets.common.errors import UserError
from search.config.allowed_classes import TRACKERS
from search.study.config import study_config
from search.workers.tracking.tracker import check_tracker
from tests.helpers.answers import Answer
from tests.helpers.faulty import make_models
from tests.helpers.study_fixtures import Program
from tests.helpers.wandb_files import read_runs

MODES = ("fine", "diverges", "bug")
WORDS = (
    *("--task", "synthetic_one_vs_rest", "--model", "faulty", "--models-dir", "own", "--study-name", "s"),
    *("--n-trials", "4", "validation=holdout", "trainer.max_epochs=2", "trainer.threads=1", "pruner=nop"),
    f"space.model.mode.choices=[{','.join(MODES)}]",
    *("sampler=grid", f"+sampler.search_space.model.mode=[{','.join(MODES)}]"),
)
STATES = {"fine": "complete", "diverges": "pruned", "bug": "failed"}
SECRET = "0123456789abcdef0123456789abcdef01234567"


def has(package: str) -> pytest.MarkDecorator:
    is_there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not is_there, reason=f"{package} is not installed: pip install flipsearch[{package}]")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may use these programs."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)


@contextmanager
def proxy() -> Iterator[tuple[dict[str, str], list[bytes]]]:
    """An environment in which all that leaves the machine comes by here, and what came by."""
    came: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    came.append(connection.recv(200))

        threading.Thread(target=listen, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
        yield dict.fromkeys(names, address) | {"NO_PROXY": "", "no_proxy": ""}, came
        server.shutdown(socket.SHUT_RDWR)


def searched(program: Program, folder: Path, logger: str) -> Answer:
    """A search of a trial that is complete, one that is pruned and one that fails; nothing may ask the network."""
    make_models(folder / "own")
    with proxy() as (env, came):
        env |= {"WANDB_API_KEY": SECRET, "HOME": str(folder)}
        answer = program(*WORDS, f"logger={logger}", cwd=folder, env=env)
        assert came == []
    assert answer.status == 0, answer
    assert "could not be kept" not in answer.err, answer
    return answer


def trials_of(folder: Path) -> list[Any]:
    trials = search.open_study("s", runs_dir=folder / "runs").trials
    assert {trial.params["model.mode"] for trial in trials} == set(MODES)
    return trials


def check_no_secret(files: list[Path]) -> None:
    """Neither what the environment holds nor who runs it where."""
    assert files
    for file in files:
        content = file.read_bytes()
        assert SECRET.encode() not in content, file
        assert b"run_study.py" not in content, file
        assert f'"{getpass.getuser()}"'.encode() not in content, file


@pytest.mark.slow
@has("wandb")
def test_each_trial_is_a_run_of_wandb_in_the_studys_folder(program: Program, tmp_path: Path) -> None:
    searched(program, tmp_path, "wandb")
    trials, runs = trials_of(tmp_path), read_runs(tmp_path / "runs" / "s")
    assert len(runs) == len(trials)
    for trial, run in zip(trials, runs, strict=True):
        mode = trial.params["model.mode"]
        assert (run.name, run.group, run.project) == (f"s trial {trial.number}", "s", "flipsearch")
        assert set(run.tags) == {STATES[mode], "faulty"}
        assert run.config["model.mode"] == mode
        assert (run.config["study"], run.config["task"]) == ("s", "synthetic_one_vs_rest")
        assert (run.summary["state"], run.summary["ending"]) == (STATES[mode], trial.user_attrs["ending"])
        assert run.summary.get("value") == trial.value
        shown = [(row["epoch"], row["validation_spearman"]) for row in run.history if "epoch" in row]
        assert shown == [(step - 1, value) for step, value in sorted(trial.intermediate_values.items())]
        assert run.exit_code == (1 if mode == "bug" else 0)
    check_no_secret([path for path in (tmp_path / "runs" / "s" / "wandb").rglob("*") if path.is_file()])
    assert not (tmp_path / "wandb").exists()


@pytest.mark.slow
@has("mlflow")
def test_each_trial_is_a_run_of_mlflow_in_the_runs_folder(program: Program, tmp_path: Path) -> None:
    searched(program, tmp_path, "mlflow")
    trials = trials_of(tmp_path)
    check_no_secret([tmp_path / "runs" / "mlflow.db"])
    assert not (tmp_path / "mlruns").exists()
    # Read as MLflow's own tables have it: to import MLflow takes longer than this whole test.
    import sqlite3

    database = sqlite3.connect(tmp_path / "runs" / "mlflow.db")

    def rows(query: str, *values: object) -> list[tuple[Any, ...]]:
        return database.execute(query, values).fetchall()

    assert ("s",) in rows("SELECT name FROM experiments")
    for trial in trials:
        mode = trial.params["model.mode"]
        ((run, status),) = rows("SELECT run_uuid, status FROM runs WHERE name = ?", f"s trial {trial.number}")
        tags = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?", run))
        assert status == {"fine": "FINISHED", "diverges": "KILLED", "bug": "FAILED"}[mode]
        assert {key: tags[key] for key in ("study", "trial", "state", "ending", "task", "model")} == {
            "study": "s",
            "trial": str(trial.number),
            "state": STATES[mode],
            "ending": trial.user_attrs["ending"],
            "task": "synthetic_one_vs_rest",
            "model": "faulty",
        }
        assert dict(rows("SELECT key, value FROM params WHERE run_uuid = ?", run)) == {"model.mode": mode}
        shown = rows("SELECT step, value FROM metrics WHERE run_uuid = ? AND key LIKE 'validation%' ORDER BY step", run)
        assert shown == [(step - 1, value) for step, value in sorted(trial.intermediate_values.items())]
        last = dict(rows("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", run))
        assert last.get("value") == trial.value
    database.close()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_named_before_anything_trains(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    given = {"task": "synthetic_one_vs_rest", "model": "ridge", "executor": "inline", "quiet": True}
    where = {"runs_dir": tmp_path / "runs", "export_dir": tmp_path / "export"}
    with pytest.raises(UserError, match=f"logger={name} needs a package that is not installed: `pip install {name}"):
        search.run_study(search.SearchRequest(overrides=[f"logger={name}"], **given, **where))
    assert not list(tmp_path.glob("runs/studies.db"))


def test_other_loggers_need_no_package() -> None:
    check_tracker(None)
    check_tracker({"_target_": "lightning.pytorch.loggers.CSVLogger"})


@pytest.mark.parametrize("logger", ["wandb", "mlflow"])
@pytest.mark.parametrize(
    "word",
    ["save_dir=/tmp/x", "tracking_uri=http://localhost:1", "project=../x", "offline=false", "experiment_name=a/b"],
)
def test_no_config_names_a_host_or_a_folder(logger: str, word: str) -> None:
    with pytest.raises(UserError, match=r"logger\."):
        study_config(["task=synthetic_one_vs_rest", "model=ridge", f"logger={logger}", f"+logger.{word}"])


def test_a_project_may_be_named() -> None:
    config = study_config(["task=synthetic_one_vs_rest", "model=ridge", "logger=wandb", "+logger.project=my-own"])
    assert config.defaults["logger"]["project"] == "my-own"
    assert config.defaults["logger"]["_target_"] in TRACKERS


@pytest.mark.slow
@has("mlflow")
def test_what_cannot_be_kept_is_said_without_its_address_and_the_search_goes_on(
    program: Program, tmp_path: Path
) -> None:
    words = ("--task", "synthetic_one_vs_rest", "--model", "ridge", "--n-trials", "2", "trainer.threads=1")
    address = "http://somebody:s3cret@127.0.0.1:9"  # nobody listens there
    answer = program(*words, "logger=mlflow", cwd=tmp_path, env={"MLFLOW_TRACKING_URI": address})
    assert answer.status == 0
    assert "2 finished trials" in answer.out
    assert "could not be kept by mlflow (MlflowException); the study's database has it." in answer.err
    assert "s3cret" not in answer.out + answer.err
