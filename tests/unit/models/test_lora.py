"""LoRA changes weights, not modules: what fair-esm's own model makes of the changed weights is what we compute."""

import math
from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from torch import Tensor

from models.backbones.lora import LoraTarget, LowRankChange, add_lora
from models.backbones.names import BACKBONES
from models.backbones.transformer import Backbone, untrained
from tests.helpers.checkpoints import TINY, fair_esm, make_checkpoint

FAMILIES = ["esm1b_tiny", "esm1v_tiny", "esm2_tiny"]
TARGETS: tuple[LoraTarget, ...] = get_args(LoraTarget)
TOKENS = torch.tensor([[1, *range(5, 15), 3], [1, *range(9, 16), 3, 0, 0, 0]])


@pytest.fixture(autouse=True)
def tiny_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, shape in TINY.items():
        monkeypatch.setitem(BACKBONES, name, shape)


def make_backbone(name: str, targets: Sequence[LoraTarget] = TARGETS, rank: int = 3) -> Backbone:
    backbone = untrained(TINY[name], seed=0)
    add_lora(backbone, rank=rank, alpha=6.0, targets=targets)
    return backbone


def lora_parameters(backbone: Backbone) -> dict[str, torch.nn.Parameter]:
    """What `add_lora` added, by its names in `state_dict`, in the order of the layers."""
    return {
        f"{prefix}.{name}": parameter
        for prefix, module in backbone.named_modules()
        if isinstance(module, LowRankChange)
        for name, parameter in module.named_parameters()
    }


def train(backbone: Backbone, n_steps: int = 1) -> None:
    optimizer = torch.optim.AdamW([parameter for parameter in backbone.parameters() if parameter.requires_grad], lr=0.1)
    for _ in range(n_steps):
        optimizer.zero_grad()
        backbone(TOKENS)[TOKENS != 0].sin().sum().backward()
        optimizer.step()


def base_weights(backbone: Backbone) -> dict[str, Tensor]:
    """The parameters of the model without LoRA, by fair-esm's names."""
    added = lora_parameters(backbone)
    return {
        key.replace("parametrizations.weight.original", "weight"): value.clone()
        for key, value in backbone.state_dict().items()
        if key not in added
    }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_changes_before_the_first_step_and_the_output_after_it(name: str, target: LoraTarget) -> None:
    plain = untrained(TINY[name], seed=0)
    backbone = make_backbone(name, [target])
    before = backbone(TOKENS)
    assert torch.equal(before, plain(TOKENS))
    train(backbone)
    difference = (backbone(TOKENS) - before)[TOKENS != 0].abs()
    assert difference.max() > 1e-3
    expected = plain.state_dict()
    found = base_weights(backbone)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_fair_esm_with_the_changed_weights_gives_the_same_output(name: str) -> None:
    backbone = make_backbone(name)
    train(backbone, 3)
    theirs = fair_esm(name, make_checkpoint(TINY[name]))
    merged = base_weights(backbone)
    for key, module in backbone.named_modules():
        if hasattr(module, "parametrizations"):
            merged[f"{key}.weight"] = module.weight.detach()
    assert len([key for key in merged if not torch.equal(merged[key], base_weights(backbone)[key])]) == 2 * len(TARGETS)
    missing, unexpected = theirs.load_state_dict(merged, strict=False)
    assert not unexpected
    assert {key.partition(".")[0] for key in missing} <= {"lm_head", "contact_head"}
    expected = theirs(torch.where(TOKENS == 0, 1, TOKENS - 1), repr_layers=[2])["representations"][2]
    torch.testing.assert_close(backbone(TOKENS)[TOKENS != 0], expected[TOKENS != 0], rtol=0, atol=1e-5)


def test_change_of_a_weight() -> None:
    backbone = make_backbone("esm2_tiny", ["q"])
    train(backbone)
    parameters = lora_parameters(backbone)
    a, b = (parameters[f"layers.1.self_attn.q_proj.parametrizations.weight.0.{name}"] for name in "ab")
    assert a.shape == (3, 16)
    assert b.shape == (16, 3)
    original = untrained(TINY["esm2_tiny"], seed=0).state_dict()["layers.1.self_attn.q_proj.weight"]
    weight = backbone.get_submodule("layers.1.self_attn.q_proj").weight
    torch.testing.assert_close(weight, original + 6.0 / 3 * b @ a)


def test_only_the_changes_are_trained() -> None:
    backbone = make_backbone("esm1b_tiny", ["q", "fc2"])
    trained = {key for key, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert trained == set(lora_parameters(backbone))
    assert len(trained) == 2 * 2 * 2  # layers, targets, A and B
    assert not lora_parameters(untrained(TINY["esm1b_tiny"], seed=0))


def test_the_start_comes_from_the_global_random_state() -> None:
    starts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        starts.append(torch.cat([value.flatten() for value in lora_parameters(make_backbone("esm2_tiny")).values()]))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    first = lora_parameters(make_backbone("esm2_tiny", ["q"]))["layers.0.self_attn.q_proj.parametrizations.weight.0.a"]
    assert 0.8 / math.sqrt(16) < first.abs().max() <= 1 / math.sqrt(16)


def test_saved_and_loaded() -> None:
    backbone = make_backbone("esm1v_tiny")
    train(backbone)
    saved = {name: parameter.detach().clone() for name, parameter in lora_parameters(backbone).items()}
    other = make_backbone("esm1v_tiny")
    assert not torch.equal(other(TOKENS), backbone(TOKENS))
    _, unexpected = other.load_state_dict(saved, strict=False)
    assert not unexpected
    assert torch.equal(other(TOKENS), backbone(TOKENS))


def test_checkpointing_changes_no_bit() -> None:
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = make_backbone("esm1b_tiny")
        backbone.checkpointing = checkpointing
        train(backbone, 2)
        results.append(backbone(TOKENS))
    assert torch.equal(*results)


def test_small_changes_survive_autocast() -> None:
    backbone = make_backbone("esm2_tiny", ["q"], rank=1)
    projection = backbone.get_submodule("layers.0.self_attn.q_proj")
    original = projection.weight.detach().clone()
    with torch.no_grad():
        for name, parameter in lora_parameters(backbone).items():
            parameter.fill_(1e-4 if name.endswith("b") else 1e-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = projection.weight
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight - original, torch.full((16, 16), 6e-5), rtol=0, atol=1e-7)


def test_rank_of_nothing() -> None:
    with pytest.raises(ValueError, match="rank=0"):
        make_backbone("esm2_tiny", rank=0)
