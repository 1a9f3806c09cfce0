"""Small ESM models, and what fair-esm itself makes of the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datasets.batches.batch import Batch
from datasets.common.paths import Places
from datasets.sequences.tokenizer import EsmTokenizer
from models.backbones.frozen_encoder import FrozenLayers
from models.backbones.names import BACKBONES
from models.esm import ESM
from tests.helpers.checkpoints import TINY, fair_esm, make_checkpoint, write_checkpoint

RESIDUES = "LAGVSERTIDPKQNFYMHWC"


def add_tiny_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, shape in TINY.items():
        monkeypatch.setitem(BACKBONES, name, shape)


def make_esm(places: Places | None = None, **changes: Any) -> ESM:
    """An ESM; with `places`, fetched and built as a run does it."""
    settings: dict[str, Any] = {
        "backbone": "esm2_tiny",
        "pretrained": places is not None and places.weights_dir is not None,
        "representation_layer": None,
        "pooling": "mean",
        "adaptation": "frozen",
        "fine_tune_depth": 0,
        "lora_rank": 0,
        "lora_alpha": 16.0,
        "lora_targets": ["q", "v"],
        "head_width": 12,
        "head_dropout": 0.0,
        "lr_head": 1e-3,
        "lr_backbone": 1e-3,
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "activation_checkpointing": False,
        "compile_backbone": False,
    }
    torch.manual_seed(0)
    model = ESM(**(settings | changes))
    if places is not None:
        model.fetch(places, lambda sentence: None)
        torch.manual_seed(1)
        model.build(places)
    return model


def make_places(folder: Path, *names: str) -> Places:
    """Places with checkpoints of the tiny backbones."""
    for name in names or TINY:
        write_checkpoint(folder / "weights", name)
    return Places(weights_dir=folder / "weights", cache_dir=folder / "cache")


def sequences(n: int, *, shortest: int, longest: int) -> list[str]:
    generator = torch.Generator().manual_seed(7)
    lengths = torch.randint(shortest, longest + 1, (n,), generator=generator).tolist()
    return ["".join(RESIDUES[i] for i in torch.randint(20, (k,), generator=generator).tolist()) for k in lengths]


def make_esm_batch(model: ESM, proteins: list[str]) -> Batch:
    """The proteins as a batch, with the features that a run would give it; residues 2 to 4 are the region."""
    codes = torch.zeros(len(proteins), max(map(len, proteins)), dtype=torch.uint8)
    for row, protein in enumerate(proteins):
        codes[row, : len(protein)] = torch.tensor(list(protein.encode()), dtype=torch.uint8)
    tokens, mask = EsmTokenizer().encode(codes.numpy())
    tokens = tokens.long()
    region = torch.zeros_like(mask)
    region[:, 3:6] = True
    features = None
    frozen = model.frozen_part(Places(weights_dir=None, cache_dir=Path()), "32-true", torch.device("cpu"))
    if frozen is not None:
        assert isinstance(frozen.encoder, FrozenLayers)
        features = frozen.encoder(tokens)
    target = torch.linspace(-1, 1, len(proteins))
    index = torch.arange(len(proteins))
    return Batch(tokens=tokens, mask=mask, region=region, target=target, index=index, features=features)


def fair_representations(name: str, proteins: list[str], layer: int) -> tuple[nn.Module, list[Tensor]]:
    """fair-esm's model and its states (length, D) of the residues of each protein, each alone."""
    model = fair_esm(name, make_checkpoint(BACKBONES[name]))
    convert = __import__("esm").Alphabet.from_architecture("ESM-1b").get_batch_converter()
    states = []
    for protein in proteins:
        _, _, tokens = convert([("", protein)])
        states.append(model(tokens, repr_layers=[layer])["representations"][layer][0, 1 : len(protein) + 1])
    return model, states
