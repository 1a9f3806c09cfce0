"""A failure is information: each way a trial can end is written down, counted rightly and said."""

import shutil
import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

from tests.search.processes import ROOT

FAULTY = """
import os
import signal
from typing import Literal

import torch

from models.bounds import PositiveFloat
from models.fitness_model import FitnessModel


class Faulty(FitnessModel):
    def __init__(self, *, mode: Literal["fine", "diverges", "constant", "memory", "bug", "crash"], lr: PositiveFloat):
        super().__init__()
        self.mode = mode
        self.lr = lr
        self.table = torch.nn.Embedding(self.tokenizer.n_tokens, 1)

    def forward(self, batch):
        if self.mode == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB.")
        if self.mode == "bug":
            raise RuntimeError("the shapes do not match")
        if self.mode == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        total = self.table(batch.tokens).squeeze(-1).masked_fill(~batch.mask, 0).sum(1)
        return total * {"diverges": float("nan"), "constant": 0.0}.get(self.mode, 1.0)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)
"""
CONFIG = "_target_: models.faulty.Faulty\nmode: fine\nlr: 0.01\n"
MODES = "model: {mode: {type: categorical, choices: [fine, diverges, constant, memory]}}\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the program with one more model."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("datasets", "models", "search", "studies"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_study.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "models" / "faulty.py").write_text(FAULTY)
    (folder / "studies" / "model" / "faulty.yaml").write_text(CONFIG)
    (folder / "studies" / "space" / "faulty.yaml").write_text(MODES)
    return folder


def search(checkout, name, *more):
    command = [sys.executable, "run_study.py", "--task", "synthetic_one_vs_rest", "--model", "faulty"]
    done = subprocess.run(
        [*command, "--study-name", name, "trainer.max_epochs=2", *more], cwd=checkout, capture_output=True, text=True
    )
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{checkout / 'runs' / 'studies.db'}")
    return done, study.trials


def test_findings_about_a_configuration_are_pruned_with_their_reason(checkout):
    done, trials = search(checkout, "findings", "--n-trials", "4", "sampler=brute_force")
    assert done.returncode == 0, done.stderr
    found = {trial.params["model.mode"]: trial for trial in trials}
    assert {mode: trial.state for mode, trial in found.items()} == {
        "fine": TrialState.COMPLETE,
        "diverges": TrialState.PRUNED,
        "constant": TrialState.PRUNED,
        "memory": TrialState.PRUNED,
    }
    endings = {mode: trial.user_attrs["ending"] for mode, trial in found.items()}
    assert endings == {"fine": "complete", "diverges": "diverged", "constant": "constant", "memory": "out_of_memory"}
    assert "Tried to allocate 80 GiB" in found["memory"].user_attrs["reason"]
    assert found["memory"].constraints == {"out_of_memory": 1.0}
    assert all(not found[mode].constraints for mode in ("fine", "diverges", "constant"))


def test_bugs_in_a_row_stop_the_study_with_the_error_and_are_not_run_again(checkout):
    done, trials = search(checkout, "bugs", "--n-trials", "9", "model.mode=bug", *LR, LR_TYPE)
    assert done.returncode == 1
    assert "the shapes do not match" in done.stderr
    assert [trial.state for trial in trials] == [TrialState.FAIL] * 3
    assert {trial.user_attrs["ending"] for trial in trials} == {"bug"}
    assert not (checkout / "studies" / "experiment" / "bugs.yaml").exists()
    done, trials = search(checkout, "bugs", "--n-trials", "9", "--max-failures", "1", "model.mode=bug", *LR, LR_TYPE)
    assert done.returncode == 1
    assert len(trials) == 4
    assert not any("retry_of" in trial.user_attrs for trial in trials)


def test_a_process_that_always_dies_is_given_up_after_bounded_retries(checkout):
    arguments = ("--n-trials", "9", "--max-failures", "1", "model.mode=crash", *LR, LR_TYPE)
    done, trials = search(checkout, "crashes", *arguments)
    assert done.returncode == 1
    assert "by signal 11" in done.stderr
    assert [trial.user_attrs["ending"] for trial in trials] == ["lost"] * 4
    assert [trial.user_attrs.get("retry_of") for trial in trials] == [None, 0, 1, 2]
    assert len({str(trial.params) for trial in trials}) == 1


LR = ("+space.model.lr.low=0.001", "+space.model.lr.high=0.1")
LR_TYPE = "+space.model.lr.type=float"
