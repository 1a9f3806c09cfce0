"""Whatever is killed, whenever: a run goes on from its state, and its numbers are those of an undisturbed one."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState

from tests.helpers.processes import (
    ROOT,
    STUDY,
    Search,
    finish,
    signal_group,
    training_child,
    trials,
    wait_until,
)

pytestmark = pytest.mark.timeout(1200)
# An epoch takes as long on every machine, so that there is a state well before the end; and a second or more while a
# kill is still to come, so that it does not come too late.
SLOW = """
import os
import time

import torch

from models.bounds import PositiveFloat
from models.fitness_model import FitnessModel


class Slow(FitnessModel):
    def __init__(self, *, lr: PositiveFloat):
        super().__init__()
        self.lr = lr
        self.table = torch.nn.Embedding(self.tokenizer.n_tokens, 8)
        self.top = torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))

    def on_train_epoch_start(self):
        time.sleep(1.0 if os.path.exists(os.environ["FLIPSEARCH_TEST_SLOWLY"]) else 0.15)

    def forward(self, batch):
        return self.top(self.table(batch.tokens).masked_fill(~batch.mask[..., None], 0).sum(1)).squeeze(-1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)
"""
CONFIG = "_target_: models.slow.Slow\nlr: 0.01\n"
SPACE = "model: {lr: {type: float, low: 0.001, high: 0.1, log: true}}\n"
N_EPOCHS = 30
WORDS = [
    "--task",
    "synthetic_two_vs_rest",
    "--model",
    "slow",
    "--study-name",
    STUDY,
    "--export-dir",
    "experiments",
    "validation=holdout",
]
SETTINGS = ["trainer.threads=1", f"trainer.max_epochs={N_EPOCHS}", f"trainer.patience={N_EPOCHS}", "sampler=random"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with one more model."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("datasets", "models", "search", "studies"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_study.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "models" / "slow.py").write_text(SLOW)
    (folder / "studies" / "model" / "slow.yaml").write_text(CONFIG)
    (folder / "studies" / "space" / "slow.yaml").write_text(SPACE)
    return folder


def start(checkout: Path, folder: Path, *more: str, slowly: bool = False) -> Search:
    """A search for one trial in `folder`; `slowly` until there is no file of that name any more."""
    folder.mkdir(exist_ok=True)
    if slowly:
        (folder / "slowly").touch()
    return Search(
        [sys.executable, str(checkout / "run_study.py"), *WORDS, "--n-trials", "1", *SETTINGS, *more],
        folder,
        {**os.environ, "FLIPSEARCH_TEST_SLOWLY": str(folder / "slowly")},
    )


@pytest.fixture(scope="module")
def undisturbed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    status, output = finish(start(checkout, folder, "pruner=nop"))
    assert status == 0, output
    assert not has_state(folder)
    return folder


@pytest.mark.parametrize("seed", range(2))
def test_killed_while_its_state_is_written(seed: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "helpers" / "killed_runs.py"),
            str(tmp_path),
            str(seed),
            "12",
        ],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    undisturbed, killed = map(json.loads, done.stdout.splitlines())
    assert killed == undisturbed
    said = (tmp_path / "said.txt").read_text()
    assert said.count("goes on from its state") >= 2
    assert "begins anew" not in said


def has_state(folder: Path) -> bool:
    return any((folder / "runs" / STUDY).glob("trial-*/state/manifest.json"))


def wait_for_state(process: Search, folder: Path, n_trials: int) -> int:
    """Wait until trial number `n_trials - 1` has written a state of its own; the process that trains it."""
    trial = folder / "runs" / STUDY / f"trial-{n_trials - 1:05d}"
    taken_over: list[str] = []

    def is_written() -> bool:
        # The first manifest of a trial that goes on is its predecessor's.
        texts = [path.read_text() for path in trial.glob("state/manifest.json")]
        taken_over.extend(texts[: 1 - min(1, len(taken_over))])
        return n_trials == 1 or texts != taken_over

    wait_until(process, lambda: (trial / "state" / "manifest.json").exists())
    wait_until(process, is_written)
    child = training_child(process)
    assert child is not None
    return child


def exported(folder: Path) -> dict[str, Any]:
    provenance = yaml.safe_load((folder / "experiments" / f"{STUDY}.yaml").read_text())["provenance"]
    kept = ("seed", "threads", "value", "values", "best_epochs", "weight_hashes", "n_parameters")
    return {key: provenance[key] for key in kept}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])  # whose lease has to end
def test_a_killed_study_exports_what_an_undisturbed_one_does(
    number: int, checkout: Path, undisturbed: Path, tmp_path: Path
) -> None:
    process = start(checkout, tmp_path, "pruner=nop", slowly=True)
    os.kill(wait_for_state(process, tmp_path, 1), signal.SIGKILL)
    wait_for_state(process, tmp_path, 2)  # what goes on is interrupted as well
    signal_group(process, number)
    _, output = finish(process)
    (tmp_path / "slowly").unlink()
    output += finish(start(checkout, tmp_path, "pruner=nop"))[1]
    check_killed_twice(tmp_path, undisturbed, output)


def check_killed_twice(folder: Path, undisturbed: Path, output: str) -> None:
    assert exported(folder) == exported(undisturbed), output
    first, second, third = trials(folder)
    assert [first.state, second.state, third.state] == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]
    assert (second.user_attrs["retry_of"], third.user_attrs["retry_of"]) == (0, 1)
    assert output.count("The run goes on from its state") == 2
    assert third.intermediate_values == trials(undisturbed)[0].intermediate_values
    assert third.user_attrs["result"]["seconds"] > 0.15 * N_EPOCHS
    assert not has_state(folder)


def test_a_trial_that_goes_on_is_pruned_where_it_would_have_been(
    checkout: Path, undisturbed: Path, tmp_path: Path
) -> None:
    # Every value is below the threshold: a trial is pruned as soon as the pruner looks.
    words = ("pruner=threshold", "pruner.lower=0.999", "pruner.n_warmup_steps=25")
    process = start(checkout, tmp_path, *words, slowly=True)
    os.kill(wait_for_state(process, tmp_path, 1), signal.SIGKILL)
    (tmp_path / "slowly").unlink()
    _, output = finish(process)
    assert "The run goes on from its state" in output
    pruned, complete = trials(tmp_path)[-1], trials(undisturbed)[0]
    assert pruned.state == TrialState.PRUNED
    steps = list(complete.intermediate_values.items())
    assert list(pruned.intermediate_values.items()) == steps[:25]
    assert not has_state(tmp_path)
