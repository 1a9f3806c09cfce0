"""Help, usage errors and configuration errors: one sentence, and without importing torch, Lightning or Optuna."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import search
from search.options.commands import COMMANDS

ROOT = Path(search.__path__[0]).parent
# Runs run_study.py as the interpreter would, and prints what it imported as the last line of stdout.
PROBE = """
import runpy, sys
program = sys.argv[1]
sys.argv = sys.argv[1:]
sys.path[0] = program.rpartition("/")[0]
heavy = {"torch", "lightning", "optuna", "torchmetrics", "pandas", "scipy", "sqlalchemy", "esm", "numpy", "hydra"}
heavy |= {"rich", "sklearn"}
try:
    runpy.run_path(program, run_name="__main__")
finally:
    print("imported:", *sorted(heavy & set(sys.modules)))
"""
WHAT = ["--task", "gb1_three_vs_rest", "--model", "cnn"]
CONFIG_ERRORS = [
    "model.kernel_size=abc",
    "model.kernel_size=4",
    "model.chanels=3",
    "trainer.max_epochs=-1",
    "sampler=rnadom",
    "pruner=medain",
    "space.model.channels.low=500",
    "space.model.dropout.high=1.5",
    "data.crop=everything",
    "foo=1",
    "model.channels=16,32",
    "seed=abc",
    "first_trials=[{model:{chanels:3}}]",
    "model._target_=models.cnn.torch.load",
    "sampler._target_=optuna.samplers.TPESamplr",
    "logger._target_=lightning.pytorch.loggers.csv_logs.os.makedirs",
    "trainer.callbacks=[{_target_: lightning.pytorch.callbacks.model_checkpoint.os.makedirs, name: x}]",
]


def probe(words: list[str], cwd: Path) -> tuple[int, str, str, list[str]]:
    """Exit status, stdout, stderr, and the large libraries that were imported."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(ROOT / "run_study.py"), *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    out, _, imported = done.stdout.rpartition("imported:")
    return done.returncode, out, done.stderr, imported.split()


def refused(words: list[str], cwd: Path) -> list[str]:
    status, out, err, imported = probe(words, cwd)
    assert status == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert list(cwd.iterdir()) == [], "nothing is written"
    return imported


@pytest.mark.parametrize("words", [["--help"], ["-h"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_large(words: list[str], tmp_path: Path) -> None:
    status, out, err, imported = probe(words, tmp_path)
    assert (status, err, imported) == (0, "", [])
    assert out.startswith("usage: run_study.py")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--task", "gb1_three_vs_ret", "--model", "cnn"],
        ["--task", "gb1_three_vs_rest", "--model", "cn"],
        [*WHAT, "--n-trails", "3"],
        [*WHAT, "--n-trials", "0"],
        [*WHAT, "--n-trials", "-3"],
        [*WHAT, "--n-trials", "many"],
        [*WHAT, "--study-name", "a/b"],
        ["train", "--task", "nope", "--model", "cnn"],
        ["verify"],
        ["status", "--jsn"],
        ["dashboard", "--port", "http"],
        ["serve", "--dump", "x", "--port", "5"],
        [*WHAT, "--keep-top", "0"],
    ],
    ids=" ".join,
)
def test_a_usage_error_imports_nothing_large(words: list[str], tmp_path: Path) -> None:
    assert refused(words, tmp_path) == []


@pytest.mark.parametrize(
    "override", [CONFIG_ERRORS[0], *(pytest.param(error, marks=pytest.mark.system) for error in CONFIG_ERRORS[1:])]
)
def test_a_configuration_error_imports_hydra_alone(override: str, tmp_path: Path) -> None:
    assert refused([*WHAT, override], tmp_path) == ["hydra"]


@pytest.mark.parametrize("words", [["train", *WHAT, "seed=-1"], [*WHAT, "--dry-run", "seed=-1"]])
def test_so_does_every_command_that_takes_a_configuration(words: list[str], tmp_path: Path) -> None:
    assert refused(words, tmp_path) == ["hydra"]


def test_a_file_that_is_no_experiment_imports_hydra_at_most(tmp_path: Path) -> None:
    path = tmp_path / "hand-written.yaml"
    path.write_text("model: cnn\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    for words in (["verify", str(path)], ["train", "--experiment", str(path)]):
        assert set(refused(words, empty)) <= {"hydra"}


@pytest.mark.slow
def test_status_imports_what_reads_the_database_alone(tmp_path: Path) -> None:
    storage = ["--storage", f"sqlite:///{tmp_path / 'studies.db'}"]
    assert probe(["init", *storage], tmp_path)[0] == 0
    status, out, err, imported = probe(["status", *storage], tmp_path)
    assert (status, out, err) == (0, "There is no study yet.\n", "")
    assert imported == ["numpy", "optuna", "sqlalchemy"], "numpy is Optuna's"
