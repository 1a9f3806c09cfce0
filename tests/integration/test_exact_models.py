"""Models that are solved at once are solved once, whatever is said of epochs, and nobody speaks of epochs."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.trial import TrialState

from datasets.batches.batch import Batch
from datasets.common.errors import UserError
from models.closed_form import ClosedForm
from models.kernel import Kernel
from models.ridge import Ridge
from search.config.targets import is_exact
from search.experiments.experiment import load_experiment
from search.storage.attributes import MANIFEST
from search.study.config import study_config
from search.study.snapshot import StudySnapshot
from search.training.families import _families
from tests.helpers.answers import Answer, run_here
from tests.helpers.small_study import ABOUT, add, make_study

TASK = "synthetic_one_vs_rest"
SEARCH = (
    "--task",
    TASK,
    "--n-trials",
    "1",
    "trainer.threads=1",
    "validation.n_folds=3",
    "validation=kfold",
    "logger=none",
)
EPOCH = re.compile("epoch", re.IGNORECASE)


def export(folder: Path, model: str) -> Path:
    return folder / "studies" / "experiment" / f"{TASK}-{model}.yaml"


def spoken(answer: Answer) -> str:
    assert answer.status == 0, answer
    return answer.out + answer.err


@pytest.mark.parametrize("model", ["ridge", "kernel"])
@pytest.mark.system
def test_an_exact_model_is_solved_once_and_has_no_epochs(model: str, tmp_path: Path) -> None:
    once, many = tmp_path / "once", tmp_path / "many"
    said = []
    for folder, words in ((once, ()), (many, ("trainer.max_epochs=20", "trainer.patience=7", "pruner=hyperband"))):
        folder.mkdir()
        said.append(spoken(run_here(*SEARCH, "--model", model, *words, cwd=folder)))
    before, after = load_experiment(export(once, model)), load_experiment(export(many, model))
    assert after.config.trainer.max_epochs == 1
    assert [len(values) for values in after.provenance.values] == [1, 1, 1]
    assert after.provenance.values == before.provenance.values
    assert after.provenance.value == before.provenance.value
    assert after.provenance.weight_hashes == before.provenance.weight_hashes, "bit for bit"
    assert after.provenance.n_parameters == before.provenance.n_parameters > 0

    file = str(export(many, model))
    said += [
        spoken(run_here(*SEARCH, "--model", model, "--dry-run", "trainer.max_epochs=20", cwd=many)),
        spoken(run_here("verify", file, cwd=many)),
        spoken(run_here("train", "--experiment", file, cwd=many)),
        spoken(run_here("confirm", file, "--seeds", "1", cwd=many)),
        spoken(run_here("report", "--study-name", f"{TASK}-{model}", cwd=once)),
    ]
    assert [text for text in said if EPOCH.search(text)] == []
    assert "verified: 3 values in 3 fold(s)" in said[3]
    assert f"solved exactly; {after.provenance.n_parameters:,} parameters" in said[4]
    page = (once / "runs" / f"{TASK}-{model}" / "report.html").read_text()
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert f"{after.provenance.n_parameters:,} parameters; 3 fold(s), solved exactly;" in body
    # What is left is the experiment file, whose format has the keys.
    assert {word.lower() for word in re.findall(r"\w*epoch\w*", body, re.IGNORECASE)} <= {"max_epochs", "best_epochs"}


def test_a_model_that_learns_keeps_its_epochs(tmp_path: Path) -> None:
    words = ("model.channels=16", "trainer.max_epochs=2", "validation=holdout", "logger=none", "trainer.threads=1")
    words = ("--task", TASK.replace("one", "two"), "--model", "cnn", *words)
    assert "kept epoch" in spoken(run_here("train", *words, cwd=tmp_path))
    dry = spoken(run_here(*words, "--n-trials", "1", "--dry-run", cwd=tmp_path))
    assert "max_epochs: 2" in dry
    assert "patience: 20" in dry


def test_searched_epochs_are_no_part_of_an_exact_models_space() -> None:
    space = "+space.trainer.max_epochs={type: int, low: 2, high: 9}"
    exact, learning = (study_config([f"task={TASK}", f"model={model}", space]) for model in ("ridge", "cnn"))
    assert exact.space.paths == ["model.alpha"]
    assert exact.epochs_per_fold == 1
    assert "trainer.max_epochs" in learning.space.paths
    assert learning.epochs_per_fold == 9


def test_what_follows_from_the_epochs_follows_from_the_one() -> None:
    config = study_config([f"task={TASK}", "model=kernel", "trainer.max_epochs=30", "pruner=hyperband"])
    assert config.pruner["epochs"]["max_resource"] == 1
    assert config.run({}).trainer.max_epochs == 1
    with pytest.raises(UserError, match=r"trainer.max_epochs=some is not valid"):
        study_config([f"task={TASK}", "model=kernel", "trainer.max_epochs=some"])


@pytest.mark.slow
def test_studies_of_earlier_versions_go_on_with_what_they_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SEARCH, "--model", "ridge", "trainer.max_epochs=4")
    with monkeypatch.context() as earlier:
        earlier.setattr("search.study.config.study_config", partial(study_config, solves_once=False))
        spoken(run_here(*words, cwd=tmp_path))
    file = export(tmp_path, "ridge")
    assert [len(values) for values in load_experiment(file).provenance.values] == [4, 4, 4]
    said = spoken(run_here(*words, "--n-trials", "2", cwd=tmp_path))
    assert "2 finished trials (2 complete" in said
    assert load_experiment(file).config.trainer.max_epochs == 4
    assert "verified: 12 values in 3 fold(s) are equal bit for bit" in spoken(
        run_here("verify", str(file), cwd=tmp_path)
    )
    other = run_here(*SEARCH, "--model", "ridge", cwd=tmp_path).refusal()
    assert "config.trainer.max_epochs: 4 -> 1" in other
    assert "repeat its settings" in other


def test_exactness_is_read_from_the_source_as_the_class_has_it() -> None:
    families = {name: type(models[0][0]) for name, models in _families(study_config([f"task={TASK}"]).run({}))}
    exact = {name for name, family in families.items() if issubclass(family, ClosedForm)}
    assert exact == {"ridge", "kernel", "forest"}
    for family in families.values():
        assert is_exact({"_target_": f"{family.__module__}.{family.__name__}"}) == issubclass(family, ClosedForm)


@pytest.mark.parametrize(
    "model",
    [
        None,
        {},
        {"_target_": None},
        {"_target_": 3},
        {"_target_": "models.nothing.Ridge"},
        {"_target_": "os.system"},
        "x",
    ],
)
def test_what_is_no_model_is_not_exact(model: Any) -> None:
    assert not is_exact(model)


def trained(model: ClosedForm, tokens: torch.Tensor, target: torch.Tensor) -> ClosedForm:
    model.solve(tokens, target.double())
    return model


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    tokens = np.full((30, 6), 5)
    tokens[:, 2] = random.choice([5, 6, 7], 30)
    tokens[:, 4] = random.choice([5, 8], 30)
    return torch.from_numpy(tokens), torch.from_numpy(random.normal(size=30))


def test_the_learnt_numbers_are_counted(rows: tuple[torch.Tensor, torch.Tensor]) -> None:
    def kernel(*, sought: bool) -> Kernel:
        own = {"length_scale": 3.0, "variance": 1.0, "linear_variance": 0.1, "noise": 0.1}
        return Kernel(**own, marginal_likelihood=sought, max_train=None)

    ridge = Ridge(alpha=1.0)
    assert (ridge.n_parameters, kernel(sought=False).n_parameters) == (0, 0)
    assert trained(ridge, *rows).n_parameters == 3 + 2 + 1, "the residues at two positions, and the intercept"
    assert trained(kernel(sought=False), *rows).n_parameters == 30 + 2
    assert trained(kernel(sought=True), *rows).n_parameters == 30 + 2 + 4
    loaded = Ridge(alpha=1.0)
    loaded.load_trained_state(ridge.trained_state())
    assert loaded.n_parameters == 6


def test_an_exact_model_of_ones_own_counts_what_it_keeps(rows: tuple[torch.Tensor, torch.Tensor]) -> None:
    class Mean(ClosedForm):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))

        def solve(self, tokens: torch.Tensor, target: torch.Tensor) -> None:
            self.mean += target.mean()

        def forward(self, batch: Batch) -> torch.Tensor:
            return self.mean[:1].expand(len(batch))

    assert trained(Mean(), *rows).n_parameters == 3


@pytest.mark.parametrize(("target", "epoch"), [("models.ridge.Ridge", None), ("models.cnn.CNN", 2), ("gone.Model", 2)])
def test_a_running_trial_of_an_exact_model_is_at_no_epoch(target: str, epoch: int | None, tmp_path: Path) -> None:
    database, study = make_study(f"sqlite:///{tmp_path / 's.db'}")
    study.set_user_attr(MANIFEST, {**ABOUT, "config": {"model._target_": target}})
    add(study, TrialState.RUNNING, intermediate={13: 0.5})
    (running,) = StudySnapshot.of(study, database).running
    assert (running.fold, running.epoch, running.value) == (1, epoch, 0.5)
