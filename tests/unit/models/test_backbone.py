"""Our forward pass against fair-esm's own models, loaded by fair-esm from the same checkpoint."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import esm
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from models.backbones.lora import add_lora
from models.backbones.names import BACKBONES
from models.backbones.transformer import Backbone, pretrained, untrained
from tests.helpers.checkpoints import TINY, fair_esm, make_checkpoint, write_checkpoint

FAMILIES = ["esm1b_tiny", "esm1v_tiny", "esm2_tiny"]
LENGTHS = {"padded": [19, 12, 7, 19], "full": [19, 19, 19, 19]}


@pytest.fixture(autouse=True)
def tiny_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, shape in TINY.items():
        monkeypatch.setitem(BACKBONES, name, shape)


def make_tokens(lengths: list[int], *, seed: int = 0) -> Tensor:
    """Tokens of EsmTokenizer; `lengths` count cls and eos."""
    tokens = torch.randint(5, 25, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = 1
    for row, length in enumerate(lengths):
        tokens[row, length - 1], tokens[row, length:] = 3, 0
    return tokens


def to_fair_esm(tokens: Tensor) -> Tensor:
    return torch.where(tokens == 0, 1, tokens - 1)


@dataclass
class Pair:
    ours: Backbone
    theirs: nn.Module

    def their_representations(self, tokens: Tensor) -> list[Tensor]:
        layers = list(range(self.ours.shape.n_layers + 1))
        representations = self.theirs(to_fair_esm(tokens), repr_layers=layers)["representations"]
        return [representations[layer] for layer in layers]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., Pair]]:
    def load(name: str, n_layers: int | None = None) -> Pair:
        path = write_checkpoint(tmp_path, name)
        return Pair(
            ours=pretrained(name, path, n_layers=n_layers), theirs=fair_esm(name, make_checkpoint(BACKBONES[name]))
        )

    return load


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_representation_is_that_of_fair_esm(load: Callable[..., Pair], name: str, lengths: list[int]) -> None:
    tokens = make_tokens(lengths)
    pair = load(name)
    mask = tokens != 0
    for layer, expected in enumerate(pair.their_representations(tokens)):
        states = pair.ours.run(pair.ours.embed(tokens), mask, 0, layer)
        torch.testing.assert_close(states[mask], expected[mask], rtol=0, atol=1e-5)
        truncated = load(name, layer).ours
        assert len(truncated.layers) == layer
        assert torch.equal(truncated(tokens), states)


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_can_be_run_in_parts(load: Callable[..., Pair], name: str) -> None:
    tokens = make_tokens(LENGTHS["padded"])
    ours = load(name).ours
    states = ours.embed(tokens)
    for first, last in [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]:
        states = ours.run(states, tokens != 0, first, last)
    assert torch.equal(states, ours(tokens))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_those_of_fair_esm(
    load: Callable[..., Pair], name: str, lengths: list[int], checkpointing: bool
) -> None:
    tokens = make_tokens(lengths)
    pair = load(name)
    pair.ours.checkpointing = checkpointing
    weight = torch.randn(*tokens.shape, 16, generator=torch.Generator().manual_seed(1)) * (tokens != 0)[..., None]
    (pair.ours(tokens) * weight).sum().backward()
    (pair.their_representations(tokens)[-1] * weight).sum().backward()
    theirs = dict(pair.theirs.named_parameters())
    for key, parameter in pair.ours.named_parameters():
        gradient, expected = parameter.grad, theirs[key].grad
        assert gradient is not None, key
        assert expected is not None, key
        if not key.endswith("k_proj.bias"):  # shifts all scores of a query alike: the gradient is noise around zero
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item(), msg=key)


def gradients(backbone: Backbone, tokens: Tensor) -> dict[str, Tensor]:
    backbone.zero_grad()
    backbone(tokens).square().sum().backward()
    return {key: parameter.grad.clone() for key, parameter in backbone.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("name", FAMILIES)
def test_checkpointing_changes_no_bit(load: Callable[..., Pair], name: str) -> None:
    tokens, backbone = make_tokens(LENGTHS["padded"]), load(name).ours
    output, expected = backbone(tokens), gradients(backbone, tokens)
    backbone.checkpointing = True
    assert torch.equal(backbone(tokens), output)
    found = gradients(backbone, tokens)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_checkpointing_keeps_less(load: Callable[..., Pair]) -> None:
    tokens, backbone = make_tokens(LENGTHS["full"]), load("esm2_tiny").ours

    def n_kept() -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda kept: sizes.append(kept.numel()) or kept, lambda kept: kept
        ):
            backbone(tokens)
        return sum(sizes)

    everything = n_kept()
    backbone.checkpointing = True
    assert n_kept() < everything / 3


@pytest.mark.parametrize("name", FAMILIES)
def test_padding_changes_nothing(load: Callable[..., Pair], name: str) -> None:
    tokens, backbone = make_tokens(LENGTHS["padded"]), load(name).ours
    together = backbone(tokens)
    for row, length in enumerate(LENGTHS["padded"]):
        alone = backbone(tokens[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1, :length], alone, rtol=0, atol=1e-5)
    wider = backbone(nn.functional.pad(tokens, (0, 5)))[:, : tokens.shape[1]]
    torch.testing.assert_close(wider[tokens != 0], together[tokens != 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["esm1b_tiny", "esm1v_tiny"])
def test_padding_may_go_beyond_the_longest_sequence(load: Callable[..., Pair], name: str) -> None:
    """As batches are made for the feature cache: a multiple of 8 columns, of which the last one is padding."""
    backbone = load(name).ours
    longest = TINY[name].max_residues
    assert longest is not None
    tokens = make_tokens([longest + 2, 9])
    beyond = torch.nn.functional.pad(tokens, (0, 6))
    torch.testing.assert_close(backbone(beyond)[:, : longest + 2], backbone(tokens), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="above maximum"):
        backbone(make_tokens([longest + 3]))


def test_only_padding_is_hidden_from_attention(load: Callable[..., Pair]) -> None:
    backbone = load("esm2_tiny").ours
    tokens = make_tokens([19, 12])
    other = tokens.clone()
    other[:, 5] = torch.where(tokens[:, 5] == 9, 10, 9)
    changed = (backbone(tokens) != backbone(other)).any(dim=-1)
    assert changed[tokens != 0].all()


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_is_as_near_to_full_precision_as_fair_esm(load: Callable[..., Pair], name: str) -> None:
    tokens, pair = make_tokens(LENGTHS["padded"] * 4), load(name)
    mask = tokens != 0
    with torch.no_grad():
        exact = pair.ours(tokens)[mask]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours, theirs = pair.ours(tokens)[mask], pair.their_representations(tokens)[-1][mask].float()
    assert ours.dtype == torch.float32
    error, their_error = (ours - exact).square().mean().sqrt(), (theirs - exact).square().mean().sqrt()
    assert 0 < error < 1.3 * their_error


def test_training_after_inference_mode(load: Callable[..., Pair]) -> None:
    tokens, backbone = make_tokens(LENGTHS["padded"]), load("esm2_tiny").ours
    expected = gradients(backbone, tokens)
    with torch.inference_mode():
        backbone(tokens)
    found = gradients(backbone, tokens)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_untrained_weights_are_drawn_as_in_fair_esm() -> None:
    state = torch.random.get_rng_state()
    ours = untrained(TINY["esm2_tiny"], seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = esm.ESM2(num_layers=2, embed_dim=16, attention_heads=4).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert {key.partition(".")[0] for key in theirs.keys() - ours.keys()} == {"lm_head", "contact_head"}


@pytest.mark.parametrize("name", FAMILIES)
def test_untrained_weights_depend_on_the_seed_alone(name: str) -> None:
    first = untrained(TINY[name], seed=0).state_dict()
    torch.rand(3)
    again, other, truncated = (
        untrained(TINY[name], seed=0).state_dict(),
        untrained(TINY[name], seed=1).state_dict(),
        untrained(TINY[name], seed=0, n_layers=1).state_dict(),
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["layers.1.fc1.weight"], other["layers.1.fc1.weight"])
    assert "layers.1.fc1.weight" not in truncated
    assert all(torch.equal(truncated[key], first[key]) for key in truncated)


def test_pretrained_weights_are_their_own(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "esm2_tiny")
    backbone, before = pretrained("esm2_tiny", path), path.read_bytes()
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in backbone.parameters())
    nn.init.zeros_(backbone.embed_tokens.weight)
    assert path.read_bytes() == before
    path.write_bytes(b"")  # a file mapped into memory would take the process with it
    assert torch.isfinite(backbone(make_tokens([9]))).all()


def test_half_precision_files_are_read_as_fair_esm_reads_them(tmp_path: Path) -> None:
    checkpoint: dict[str, Any] = make_checkpoint(TINY["esm2_tiny"])
    checkpoint["model"] = {key: tensor.half() for key, tensor in checkpoint["model"].items()}
    torch.save(checkpoint, tmp_path / "esm2_tiny.pt")
    backbone, tokens = pretrained("esm2_tiny", tmp_path / "esm2_tiny.pt"), make_tokens(LENGTHS["padded"])
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float32}
    expected = fair_esm("esm2_tiny", checkpoint)(to_fair_esm(tokens), repr_layers=[2])["representations"][2]
    torch.testing.assert_close(backbone(tokens)[tokens != 0], expected[tokens != 0], rtol=0, atol=1e-5)


def test_numbers_of_layers_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="n_layers=3 must lie between 0 and 2"):
        untrained(TINY["esm2_tiny"], seed=0, n_layers=3)
    tokens, backbone = make_tokens([9]), untrained(TINY["esm2_tiny"], seed=0, n_layers=1)
    with pytest.raises(ValueError, match="Layers 0 to 2"):
        backbone.run(backbone.embed(tokens), tokens != 0, 0, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_run_can_be_traced(load: Callable[..., Pair]) -> None:
    backbone = load("esm2_tiny").ours
    run = torch.compile(backbone.run, backend="eager")
    for lengths in LENGTHS.values():
        tokens = make_tokens(lengths)
        assert torch.equal(run(backbone.embed(tokens), tokens != 0, 0, 2), backbone(tokens))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's own
@pytest.mark.system
def test_layers_compile_to_the_same_kernels(load: Callable[..., Pair]) -> None:
    tokens, backbone = make_tokens(LENGTHS["padded"]), load("esm2_tiny").ours
    add_lora(backbone, rank=2, alpha=4.0, targets=["q"])
    with torch.no_grad():
        expected = backbone(tokens)
        counters.clear()
        backbone.compile_layers()
        compiled = backbone(tokens)
    assert counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(compiled[tokens != 0], expected[tokens != 0], rtol=0, atol=1e-5)
