"""Runs with other losses: interrupted and in parts, what they keep, and what is refused before anything trains."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import search.training.checkpoint.store
from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.config.run_config import RunConfig
from search.study.config import study_config
from search.training.fit import fit
from search.training.preflight import check_builds
from search.training.result import Result
from tests.helpers.answers import Answer
from tests.helpers.esm_models import add_tiny_backbones

TASK = "synthetic_one_vs_rest"


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    cache = tmp_path_factory.mktemp("prepared")
    split = prepare(find_task(TASK), data_dir=None, cache_dir=cache, announce=lambda sentence: None)
    return replace(split, target=200 + split.target)


def config(*words: str, model: str = "cnn") -> RunConfig:
    fixed = [
        f"task={TASK}",
        f"model={model}",
        "trainer.threads=1",
        "trainer.max_epochs=3",
        "logger=none",
        "validation=holdout",
    ]
    return study_config([*fixed, "data.batch_size=16", *words]).run({})


class Killed(Exception):
    """Ends a run where a signal would have."""


def run(
    config: RunConfig, split: PreparedSplit, folder: Path, *, until: int = 99, resume: Path | None = None
) -> Result:
    def report(fold: int, epoch: int, value: float | None) -> None:
        if epoch == until:
            raise Killed

    places = Places(weights_dir=None, cache_dir=folder.parent / "cache")
    return fit(config, split, places=places, directory=folder, report=report, resume=resume)


@pytest.mark.parametrize(
    "words",
    [
        ("trainer.loss=ranking", "trainer.micro_batch_tokens=100"),
        ("trainer.loss=huber", "trainer.standardize_targets=true"),
    ],
    ids=["ranking", "huber"],
)
@pytest.mark.system
def test_an_interrupted_run_ends_with_the_same_bits_and_its_weights_hold_the_unit(
    words: tuple[str, ...], split: PreparedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.training.checkpoint.store, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(search.training.checkpoint.store, "_MAX_SHARE", float("inf"))
    wanted = config(*words)
    whole = run(wanted, split, tmp_path / "whole")
    assert whole.ending == "complete"
    with pytest.raises(Killed):
        run(wanted, split, tmp_path / "first", until=2)
    resumed = run(wanted, split, tmp_path / "second", resume=tmp_path / "first")
    assert (resumed.values, resumed.value) == (whole.values, whole.value)
    weights = [Path(result.checkpoints[0]).read_bytes() for result in (whole, resumed)]
    assert weights[0] == weights[1]
    state = load_file(whole.checkpoints[0])
    train = torch.as_tensor(split.target[~split.validation]).double()
    if "trainer.standardize_targets=true" in words:
        assert state["target_scale.offset"].item() == pytest.approx(train.mean().item())
        assert state["target_scale.unit"].item() == pytest.approx(train.std(correction=0).item())
    else:
        assert state["target_scale.unit"] > 0


LORA = pytest.param({"adaptation": "lora", "lora_rank": 2}, id="lora", marks=pytest.mark.system)


@pytest.mark.slow
@pytest.mark.parametrize("adaptation", [pytest.param({}, id="cached features"), LORA])
def test_a_language_model_ranks_whole_batches_and_parts_of_them(
    adaptation: dict[str, object], split: PreparedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tiny_backbones(monkeypatch)
    tiny = {"backbone": "esm2_tiny", "pretrained": False, "pooling": "attention", "head_width": 8, **adaptation}

    def value(tokens: int) -> float | None:
        wanted = config("trainer.loss=ranking", f"trainer.micro_batch_tokens={tokens}", model="esm")
        wanted = replace(wanted, model={**wanted.model, **tiny, "head_dropout": 0.3, "warmup_steps": 0})
        wanted = replace(wanted, trainer=replace(wanted.trainer, limit_train_batches=4))
        result = run(wanted, split, tmp_path / f"{tokens}")
        assert result.micro_batch_tokens == (tokens if tokens < 10_000 else None)
        assert load_file(result.checkpoints[0])["target_scale.offset"] > 100
        return result.value

    assert value(100) is not None
    assert value(10**9) is not None


def test_what_cannot_be_trained_is_refused_before_the_first_trial(split: PreparedSplit, tmp_path: Path) -> None:
    places = Places(weights_dir=None, cache_dir=tmp_path)

    def check(*words: str, model: str = "cnn") -> None:
        study = study_config([f"task={TASK}", f"model={model}", *words])
        check_builds(
            [study.run(params) for params in study.space.corners(study.defaults)],
            split,
            places=places,
            announce=lambda sentence: None,
        )

    searched = "+space.trainer.loss={type: categorical, choices: [mse, ranking]}"
    with pytest.raises(UserError, match=r"data\.batch_size=1 leaves trainer\.loss=ranking no pairs"):
        check("trainer.loss=ranking", "space.data.batch_size.choices=[1,16]")
    with pytest.raises(UserError, match=r"The model Ridge .*use trainer\.loss=mse"):
        check(searched, model="ridge")
    check(searched)


@pytest.mark.slow
def test_no_trial_ranks_batches_of_one_row(command: Callable[..., Answer]) -> None:
    """Whatever else the corners of the space are that hold one or the other; where a condition says so, none does."""
    words = ("--task", TASK, "--model", "cnn", "--n-trials", "1", "validation=holdout", "trainer.threads=1", "~space")
    loss = "+space.trainer.loss={type: categorical, choices: [mse, ranking]}"
    batches = "+space.data.batch_size={type: categorical, choices: [16, 1]}"
    answer = command(*words, loss, batches)
    assert "data.batch_size=1 leaves trainer.loss=ranking no pairs" in answer.refusal()
    apart = (
        "+space.data.batch_size=[{type: categorical, choices: [64, 1], when: {trainer.loss: mse}}, "
        "{type: categorical, choices: [64, 128], when: {trainer.loss: ranking}}]"
    )
    assert command(*words, loss, apart, "trainer.max_epochs=1").status == 0


def test_losses_are_searched_like_everything_else() -> None:
    study = study_config(
        [
            f"task={TASK}",
            "+space.trainer.loss={type: categorical, choices: [mse, huber, ranking]}",
            "+space.trainer.standardize_targets={type: categorical, choices: [true, false]}",
            "+space.trainer.huber_delta={type: float, low: 0.1, high: 2.0, when: {trainer.loss: huber}}",
        ]
    )
    run = study.run({"trainer.loss": "huber", "trainer.standardize_targets": True, "trainer.huber_delta": 0.3})
    assert (run.trainer.loss, run.trainer.target_transform, run.trainer.huber_delta) == ("huber", "standardize", 0.3)
