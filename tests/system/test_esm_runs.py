"""Runs of ESM through `fit`: replayed bit for bit, cached or not, in parts, and short of memory."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import search.training.fold
import search.training.memory
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from models.backbones.frozen_encoder import FrozenLayers, Weights
from models.backbones.transformer import Backbone
from search.config.run_config import WHOLE_BATCH, CacheConfig, RunConfig
from search.study.config import study_config
from search.training.fit import fit
from search.training.result import Result
from tests.helpers.esm_models import add_tiny_backbones, make_places

TASK = "synthetic_one_vs_rest"
ADAPTATIONS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "last_k": {"adaptation": "last_k", "fine_tune_depth": 1},
    "lora": {"adaptation": "lora", "lora_rank": 2},
}
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    cache = tmp_path_factory.mktemp("prepared")
    return prepare(find_task(TASK), data_dir=None, cache_dir=cache, announce=lambda sentence: None)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    add_tiny_backbones(monkeypatch)
    return make_places(tmp_path)


def config(adaptation: str, *, max_gb: float = 1.0, **trainer: Any) -> RunConfig:
    words = ["model=esm", f"model.adaptation={adaptation}", "trainer.max_epochs=2", "trainer.threads=1", "logger=none"]
    run = study_config([f"task={TASK}", *words, "data.batch_size=16", "validation=holdout"]).run({})
    # The configuration knows fair-esm's names alone; these tests bring small backbones of their own.
    model = {**run.model, "backbone": "esm2_tiny", "head_width": 8, "pooling": "attention", **ADAPTATIONS[adaptation]}
    return replace(run, model=model, cache=CacheConfig(max_gb=max_gb), trainer=replace(run.trainer, **trainer))


@pytest.fixture
def run(split: PreparedSplit, places: Places, tmp_path: Path) -> Run:
    """Runs a config; `cache` names one of several caches."""

    def run(config: RunConfig, *, cache: str = "cache", reports: list[Any] | None = None) -> Result:
        return fit(
            config,
            split,
            places=replace(places, cache_dir=tmp_path / cache),
            directory=tmp_path / "run",
            report=lambda *values: None if reports is None else reports.append(values),
        )

    return run


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_a_run_is_repeated_bit_for_bit_whatever_is_cached(adaptation: str, run: Run) -> None:
    first = run(config(adaptation))
    assert first.ending == "complete"
    assert first.value is not None
    again = run(config(adaptation))
    elsewhere = run(config(adaptation), cache="another")
    uncached = run(config(adaptation, max_gb=0.0), cache="third")
    assert first.values == again.values == elsewhere.values == uncached.values
    assert first.value == again.value == elsewhere.value == uncached.value
    n_sequences = 0 if adaptation == "lora" else first.n_embedded
    assert (first.n_embedded > 0) == (adaptation != "lora")
    assert (again.n_embedded, elsewhere.n_embedded) == (0, n_sequences)
    assert first.backbone is not None
    assert first.backbone.startswith("sha256:")


def test_a_frozen_backbone_is_the_same_after_training(
    run: Run, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Backbone] = []
    load = Weights.load
    monkeypatch.setattr(Weights, "load", lambda self, **kw: loaded.append(load(self, **kw)) or loaded[-1])
    # Without a cache each batch passes through the backbone while the head is trained.
    assert run(config("frozen", max_gb=0.0)).ending == "complete"
    (backbone,) = loaded
    assert places.weights_dir is not None
    fresh = load(Weights(name="esm2_tiny", path=places.weights_dir / "esm2_tiny.pt"), n_layers=2)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, backbone.state_dict()[name]), name


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_a_batch_in_parts_gives_the_same_numbers_and_is_replayed_in_parts(adaptation: str, run: Run) -> None:
    whole = run(config(adaptation))
    assert whole.micro_batch_tokens is None
    parts = run(config(adaptation, micro_batch_tokens=100))
    assert parts.micro_batch_tokens == 100
    assert run(config(adaptation, micro_batch_tokens=100)).values == parts.values
    assert run(config(adaptation, micro_batch_tokens=WHOLE_BATCH)).values == whole.values
    for one, other in zip(whole.values[0], parts.values[0], strict=True):
        assert one == pytest.approx(other, abs=0.02)


def test_parts_follow_from_free_memory_and_are_recorded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.training.fold, "free_memory_bytes", lambda device: 2**20)
    monkeypatch.setattr(search.training.memory, "MIN_EVAL_TOKENS", 34)
    result = run(config("lora"))
    assert result.ending == "complete"
    assert result.micro_batch_tokens == 8 * 34


def test_a_config_that_cannot_fit_is_never_built(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.training.fold, "free_memory_bytes", lambda device: 2**16)
    monkeypatch.setattr(Weights, "load", lambda *_, **__: pytest.fail("the backbone was built"))
    result = run(config("lora"))
    assert result.ending == "out_of_memory"
    assert "estimated to need" in result.reason


@pytest.fixture
def limit_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Lets memory run out above so many tokens; returns the sizes that were tried. No GPU is at hand to be filled."""

    def limit(n_tokens: int) -> list[int]:
        sizes: list[int] = []
        real = Backbone.run

        def run(self: Backbone, states: torch.Tensor, *rest: Any) -> torch.Tensor:
            if torch.is_grad_enabled():
                sizes.append(states.shape[0] * states.shape[1])
                if sizes[-1] > n_tokens:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return real(self, states, *rest)

        monkeypatch.setattr(Backbone, "run", run)
        return sizes

    return limit


def test_out_of_memory_halves_the_parts_until_they_fit(run: Run, limit_memory: Callable[[int], list[int]]) -> None:
    sizes = limit_memory(5 * 34)
    reports: list[Any] = []
    result = run(config("lora"), reports=reports)
    assert result.ending == "complete"
    assert sizes[:2] == [16 * 34, 8 * 34]
    assert result.micro_batch_tokens == 4 * 34
    assert [(fold, epoch) for fold, epoch, _ in reports] == [(0, 0), (0, 1)]
    replayed = run(config("lora", micro_batch_tokens=result.micro_batch_tokens))
    assert replayed.values == result.values


def test_out_of_memory_with_a_single_sequence_is_a_finding(run: Run, limit_memory: Callable[[int], list[int]]) -> None:
    sizes = limit_memory(10)
    result = run(config("lora"))
    assert result.ending == "out_of_memory"
    assert "out of memory" in result.reason
    assert sizes[-1] == 34
    assert result.peak_memory_bytes > 0
    assert result.value is None


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_compiled_layers_give_nearly_the_same_values(run: Run) -> None:
    plain = config("lora")
    compiled = run(replace(plain, model={**plain.model, "compile_backbone": True}))
    assert compiled.ending == "complete"
    assert compiled.value == pytest.approx(run(plain).value, abs=0.02)


def test_out_of_memory_while_embedding_is_not_tried_again_in_other_parts(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    def encode(self: FrozenLayers, tokens: torch.Tensor) -> torch.Tensor:
        passes.append(len(tokens))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(FrozenLayers, "__call__", encode)
    assert run(config("frozen")).ending == "out_of_memory"
    assert len(passes) == 1


def test_a_run_in_bfloat16_is_close_to_one_in_full_precision(run: Run) -> None:
    full, mixed = run(config("last_k")), run(config("last_k", precision="bf16-mixed"))
    assert mixed.ending == "complete"
    assert mixed.value == pytest.approx(full.value, abs=0.1)
    assert run(config("last_k", precision="bf16-mixed", micro_batch_tokens=WHOLE_BATCH)).value == mixed.value
