"""ESM against fair-esm's own models: every pooling, every adaptation, what is trained and what stays as it is."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from datasets.common.paths import Places
from models.esm import ESM
from tests.helpers.checkpoints import TINY
from tests.helpers.esm_models import (
    add_tiny_backbones,
    fair_representations,
    make_esm,
    make_esm_batch,
    make_places,
    sequences,
)

PROTEINS = sequences(5, shortest=8, longest=20)
ADAPTATIONS = {
    "frozen": {},
    "last_k": {"adaptation": "last_k", "fine_tune_depth": 1},
    "full": {"adaptation": "last_k", "fine_tune_depth": 2},
    "lora": {"adaptation": "lora", "lora_rank": 2},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny_backbones(monkeypatch)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    with pytest.MonkeyPatch.context() as monkeypatch:
        add_tiny_backbones(monkeypatch)
        return make_places(tmp_path_factory.mktemp("weights"))


def head(model: ESM, pooled: Tensor) -> Tensor:
    return model.output(model.head(pooled)).squeeze(-1)


def pool(model: ESM, states: list[Tensor]) -> Tensor:
    """FLIP's poolings, a protein at a time."""
    if model.pooling == "mean":
        return torch.stack([state.mean(0) for state in states])
    if model.pooling == "mutation_mean":
        return torch.stack([state[2:5].mean(0) for state in states])
    assert model.attention is not None
    weights = [torch.softmax(model.attention.score(state).squeeze(-1), dim=0) for state in states]
    return torch.stack([weight @ state for weight, state in zip(weights, states, strict=True)])


@pytest.mark.parametrize("pooling", ["mean", "mutation_mean", "attention"])
@pytest.mark.parametrize("adaptation", ADAPTATIONS)
@pytest.mark.parametrize("name", TINY)
def test_predictions_are_those_of_fair_esm(name: str, adaptation: str, pooling: str, places: Places) -> None:
    model = make_esm(places, backbone=name, pooling=pooling, **ADAPTATIONS[adaptation]).eval()
    batch = make_esm_batch(model, PROTEINS)
    _, states = fair_representations(name, PROTEINS, 2)
    torch.testing.assert_close(model(batch), head(model, pool(model, states)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_a_lower_layer_may_be_the_representation(name: str, places: Places) -> None:
    model = make_esm(places, backbone=name, representation_layer=1).eval()
    _, states = fair_representations(name, PROTEINS, 1)
    torch.testing.assert_close(
        model(make_esm_batch(model, PROTEINS)), head(model, pool(model, states)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("adaptation", ["last_k", "full"])
def test_gradients_are_those_of_fair_esm(name: str, adaptation: str, places: Places) -> None:
    model = make_esm(places, backbone=name, pooling="attention", **ADAPTATIONS[adaptation])
    batch = make_esm_batch(model, PROTEINS)
    functional.mse_loss(model(batch), batch.target).backward()
    theirs, states = fair_representations(name, PROTEINS, 2)
    functional.mse_loss(head(model, pool(model, states)), batch.target).backward()
    expected = dict(theirs.named_parameters())
    assert model.backbone is not None
    trained = {key: value for key, value in model.backbone.named_parameters() if value.requires_grad}
    assert any(key.startswith("layers.1.") for key in trained)
    assert ("embed_tokens.weight" in trained) == (adaptation == "full")
    for key, parameter in trained.items():
        torch.testing.assert_close(parameter.grad, expected[key].grad, rtol=1e-4, atol=1e-5, msg=key)


def step(model: ESM, n: int = 1) -> Tensor:
    """The predictions after `n` steps of the model's own optimizer."""
    (optimizer,), _ = model.configure_optimizers()
    batch = make_esm_batch(model, PROTEINS)
    for _ in range(n):
        optimizer.zero_grad()
        functional.mse_loss(model(batch), batch.target).backward()
        optimizer.step()
    return model(batch).detach()


@pytest.mark.parametrize("name", TINY)
def test_lora_changes_nothing_before_the_first_step_and_the_states_after_it(name: str, places: Places) -> None:
    frozen = make_esm(places, backbone=name, pooling="attention").eval()
    model = make_esm(places, backbone=name, pooling="attention", **ADAPTATIONS["lora"]).eval()
    batch = make_esm_batch(model, PROTEINS)
    assert model.backbone is not None
    before = model.backbone(batch.tokens).detach()
    torch.testing.assert_close(before, make_esm_batch(frozen, PROTEINS).features, rtol=0, atol=1e-6)
    base = {k: v.clone() for k, v in model.backbone.state_dict().items() if k.endswith("original") or "." not in k}
    step(model)
    after = model.backbone(batch.tokens).detach()
    assert (after - before).abs().max() > 1e-4
    state = model.backbone.state_dict()
    assert base
    assert all(torch.equal(state[key], value) for key, value in base.items())


def test_only_what_is_trained_stands_in_a_checkpoint(places: Places) -> None:
    frozen = make_esm(places).trained_state()
    assert set(frozen) == {"head.0.weight", "head.0.bias", "output.weight", "output.bias"}
    last = make_esm(places, **ADAPTATIONS["last_k"]).trained_state()
    assert {key.split(".")[2] for key in last if key.startswith("backbone.layers")} == {"1"}
    lora = make_esm(places, **ADAPTATIONS["lora"]).trained_state()
    assert {key.rsplit(".", 1)[1] for key in lora if key.startswith("backbone.layers")} <= {"a", "b", "inv_freq"}


def test_parameters_of_layers_that_are_not_held_are_counted(places: Places) -> None:
    counts = {name: make_esm(places, **changes).n_parameters for name, changes in ADAPTATIONS.items() if name != "lora"}
    width = TINY["esm2_tiny"].width
    embedding_and_norm = 33 * width + 2 * width
    assert counts["full"] - counts["frozen"] == embedding_and_norm
    assert counts["full"] == counts["last_k"]


@pytest.mark.parametrize("adaptation", ["last_k", "full", "lora"])
def test_activation_checkpointing_gives_the_same_bits(adaptation: str, places: Places) -> None:
    results = [
        step(make_esm(places, activation_checkpointing=keep, **ADAPTATIONS[adaptation]), n=2) for keep in (False, True)
    ]
    assert torch.equal(*results)


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_padding_changes_no_prediction(adaptation: str, places: Places) -> None:
    model = make_esm(places, pooling="attention", **ADAPTATIONS[adaptation]).eval()
    together = model(make_esm_batch(model, PROTEINS))
    alone = torch.cat([model(make_esm_batch(model, [protein])) for protein in PROTEINS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adaptation": "last_k", "fine_tune_depth": 3}, "fine_tune_depth=3 is not valid: there are 2 layers"),
        ({"representation_layer": 3}, "representation_layer=3 is not valid: esm2_tiny has 2 layers"),
        (
            {"adaptation": "last_k", "fine_tune_depth": 2, "representation_layer": 1},
            "fine_tune_depth=2 is not valid: there are 1 layers",
        ),
        ({"lora_rank": 4}, "lora_rank=4 contradicts adaptation=frozen"),
        ({"fine_tune_depth": 1}, "fine_tune_depth=1 contradicts adaptation=frozen"),
        ({"adaptation": "lora"}, "lora_rank of at least 1"),
        ({"adaptation": "lora", "lora_rank": 2, "lora_targets": []}, "lora_targets"),
    ],
)
def test_hyperparameters_that_contradict_each_other_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_esm(**changes)


def test_warm_up_rises_to_the_full_rates(places: Places, tmp_path: Path) -> None:
    model = make_esm(places, warmup_steps=3, lr_head=1e-2, lr_backbone=1e-4, **ADAPTATIONS["lora"])
    (optimizer,), (schedule,) = model.configure_optimizers()
    rates = []
    for _ in range(5):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule["scheduler"].step()
    assert schedule["interval"] == "step"
    assert [round(rate[0] / 1e-2, 4) for rate in rates] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [round(rate[1] / 1e-4, 4) for rate in rates] == [0.25, 0.5, 0.75, 1.0, 1.0]
