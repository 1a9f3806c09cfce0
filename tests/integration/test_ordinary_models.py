"""Models of users that are written as Lightning's usually are: their own steps, schedules and frozen parameters."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.config.run_config import RunConfig
from search.machine import own_models
from search.study.config import study_config
from search.training.build import build_model, folds_of
from search.training.fit import fit
from search.training.predictions import predictions_in
from search.training.predictor import Predictor
from search.training.result import Result
from tests.helpers.own_folder import write

PLACES = Places(weights_dir=None, cache_dir=Path("not there"))
TASK = "synthetic_one_vs_rest"
MODELS = '''
"""A bag of residues, by random vectors or learned ones."""

import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from models.fitness_model import FitnessModel

RATES = []


class Bag(FitnessModel):
    def __init__(self, *, lr: float = 0.05):
        super().__init__()
        self.vectors = nn.Embedding(self.tokenizer.n_tokens, 8)
        self.head = nn.Linear(8, 1)
        self.lr = lr

    def forward(self, batch):
        return self.head(self.vectors(batch.tokens).mean(1)).squeeze(-1)

    def configure_optimizers(self):
        return SGD([p for p in self.parameters() if p.requires_grad], lr=self.lr)


class Frozen(Bag):
    """Has random vectors that are not trained, some of them drawn late."""

    def __init__(self):
        super().__init__()
        self.vectors.requires_grad_(False)

    def build(self, places):
        self.register_parameter("shift", nn.Parameter(torch.randn(8), requires_grad=False))

    def forward(self, batch):
        return self.head(self.vectors(batch.tokens).mean(1) + self.shift).squeeze(-1)


class Tied(Bag):
    """Has one layer under two names."""

    def __init__(self):
        super().__init__()
        self.again = self.head


class Ordinary(Bag):
    """Returns its loss, as a LightningModule does."""

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self(batch), batch.target)


class Told(Ordinary):
    """And says who makes the steps."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = True


class Scheduled(Bag):
    """Halves its learning rate after each epoch, as a schedule does that says nothing."""

    def on_train_epoch_start(self):
        RATES.append(self.optimizers().param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]


class Watched(Scheduled):
    """The same, given batches one by one."""

    def on_train_batch_start(self, batch, batch_idx):
        """Nothing."""


class ByStep(Scheduled):
    """Halves it after each step."""

    def configure_optimizers(self):
        [optimizer], [schedule] = super().configure_optimizers()
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Plateau(Bag):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [{"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val_loss"}]


class Rare(Scheduled):
    def configure_optimizers(self):
        [optimizer], [schedule] = super().configure_optimizers()
        return [optimizer], [{"scheduler": schedule, "frequency": 2}]


class Two(Bag):
    def configure_optimizers(self):
        return [SGD(self.head.parameters(), lr=0.1), SGD(self.vectors.parameters(), lr=0.1)]


class Forgotten(Bag):
    def configure_optimizers(self):
        super().configure_optimizers()
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(own_models.VARIABLE, raising=False)
    folder = tmp_path / "mine"
    write(folder, "bags.py", MODELS)
    write(folder, "bags.yaml", "model: {_target_: own_models.bags.Bag}\n")
    own_models.use_folder(folder)
    yield
    own_models.use(None)
    own_models.use_folder(None)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    return prepare(find_task(TASK), data_dir=None, cache_dir=tmp_path_factory.mktemp("splits"), announce=print)


def config(name: str, *words: str) -> RunConfig:
    fixed = ["trainer.threads=1", "trainer.max_epochs=3", "logger=none", "validation=holdout", "data.batch_size=64"]
    target = f"model._target_=own_models.bags.{name}"
    return study_config([f"task={TASK}", "model=bags", target, *fixed, *words]).run({})


@pytest.fixture
def run(split: PreparedSplit, tmp_path: Path) -> Callable[..., Result]:
    def run(config: RunConfig) -> Result:
        places = Places(weights_dir=None, cache_dir=tmp_path / "cache")
        return fit(config, split, places=places, directory=tmp_path / "run", report=lambda *told: None)

    return run


def test_a_prediction_is_that_of_the_frozen_parameters_of_its_fold(
    split: PreparedSplit, run: Callable[..., Result], tmp_path: Path
) -> None:
    wanted = config("Frozen", "validation=kfold", "validation.n_folds=2")
    result = run(wanted)
    own = predictions_in(tmp_path / "run")
    assert own is not None
    told = dict(zip(own.row.tolist(), own.prediction.tolist(), strict=True))
    for fold, name in zip(folds_of(wanted, split), result.checkpoints, strict=True):
        assert {"vectors.weight", "shift"} <= set(load_file(name))
        predict = Predictor(wanted, [Path(name)], places=PLACES, device=torch.device("cpu"))
        residues = split.residues[fold.validation]
        [again] = predict(residues, (residues > 0).sum(1))
        assert again.tolist() == pytest.approx([told[row] for row in fold.validation.tolist()], abs=1e-5)


def test_weights_without_frozen_parameters_are_read_as_by_earlier_versions(
    split: PreparedSplit, run: Callable[..., Result], tmp_path: Path
) -> None:
    wanted = config("Frozen")
    state = load_file(run(wanted).checkpoints[0])
    old = tmp_path / "old.safetensors"
    save_file({name: tensor for name, tensor in state.items() if name not in ("vectors.weight", "shift")}, old)
    residues = split.residues[:50]
    of_both = [
        Predictor(wanted, [path], places=PLACES, device=torch.device("cpu"))(residues, (residues > 0).sum(1))
        for path in (old, old)
    ]
    assert of_both[0].tolist() == of_both[1].tolist()
    save_file({name: tensor for name, tensor in state.items() if name != "head.weight"}, old)
    with pytest.raises(UserError, match=r"another architecture than this Frozen: there is no head\.weight"):
        Predictor(wanted, [old], places=PLACES)


def test_parameters_with_two_names_are_kept_under_both(run: Callable[..., Result]) -> None:
    wanted = config("Tied")
    path = Path(run(wanted).checkpoints[0])
    state = load_file(path)
    assert torch.equal(state["head.weight"], state["again.weight"])
    Predictor(wanted, [path], places=PLACES, device=torch.device("cpu"))


def test_a_loss_that_nobody_minimises_is_refused(run: Callable[..., Result]) -> None:
    with pytest.raises(
        UserError, match=r"The training_step of the model Ordinary returns a loss, and no optimizer made"
    ):
        run(config("Ordinary"))


def test_a_training_step_that_says_who_makes_the_steps_is_trained(run: Callable[..., Result], tmp_path: Path) -> None:
    wanted = config("Told")
    result = run(wanted)
    assert result.ending == "complete"
    before, after = build_model(wanted).state_dict(), load_file(result.checkpoints[0])
    assert (before["head.weight"] - after["head.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["Scheduled", "Watched"])
def test_a_schedule_of_epochs_changes_the_rate_after_each(name: str, run: Callable[..., Result]) -> None:
    assert rates(name, run) == [0.05, 0.025, 0.0125]


def test_a_schedule_of_steps_changes_the_rate_after_each(run: Callable[..., Result], split: PreparedSplit) -> None:
    n_batches = -(-split.n_train // 64)
    assert n_batches > 1
    assert rates("ByStep", run) == [0.05 * 0.5 ** (n_batches * epoch) for epoch in range(3)]


def rates(name: str, run: Callable[..., Result]) -> list[float]:
    """The learning rate at the beginning of each epoch."""
    wanted = config(name)
    build_model(wanted)
    seen: list[float] = importlib.import_module("own_models.bags").RATES
    seen.clear()
    run(wanted)
    return seen


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Plateau", "gives a ReduceLROnPlateau, which asks for a metric"),
        ("Rare", "gives a schedule of interval=epoch and frequency=2"),
        ("Two", "gives 2 optimizers: it has to give one"),
        ("Forgotten", "gives 0 optimizers: it has to give one"),
    ],
)
def test_what_the_steps_of_a_model_cannot_follow_is_refused(
    name: str, sentence: str, run: Callable[..., Result]
) -> None:
    with pytest.raises(UserError, match=f"configure_optimizers of the model {name} {sentence}"):
        run(config(name))
