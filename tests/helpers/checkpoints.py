"""Tiny checkpoints in the formats of fair-esm's files, and fair-esm's own models for the same weights."""

import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import esm
import torch
from esm.pretrained import load_model_and_alphabet_core
from torch import Tensor, nn

from models.backbones.names import BACKBONES, BackboneShape

TINY = {
    "esm1b_tiny": BackboneShape(family="esm1b", n_layers=2, width=16, n_heads=4, max_residues=30),
    "esm1v_tiny": BackboneShape(family="esm1v", n_layers=2, width=16, n_heads=4, max_residues=30),
    "esm2_tiny": BackboneShape(family="esm2", n_layers=2, width=16, n_heads=4, max_residues=None),
}


def make_checkpoint(shape: BackboneShape, *, seed: int = 0) -> dict[str, Any]:
    """What `torch.load` gives for one of fair-esm's files, with random values in every parameter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _esm2(shape) if shape.family == "esm2" else _esm1(shape)


def write_checkpoint(folder: Path, name: str, *, seed: int = 0, **changes: Any) -> Path:
    """Write `<name>.pt` for a backbone in BACKBONES; `changes` replace top-level entries."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.pt"
    torch.save(make_checkpoint(BACKBONES[name], seed=seed) | changes, path)
    return path


def fair_esm(name: str, checkpoint: dict[str, Any]) -> nn.Module:
    """fair-esm's model, loaded by fair-esm."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Regression weights not found")
        model, _ = load_model_and_alphabet_core(name, checkpoint)
    return model.eval()


def _esm2(shape: BackboneShape) -> dict[str, Any]:
    model = esm.ESM2(num_layers=shape.n_layers, embed_dim=shape.width, attention_heads=shape.n_heads)
    settings = Namespace(
        _name="esm2",
        encoder_layers=shape.n_layers,
        encoder_embed_dim=shape.width,
        encoder_attention_heads=shape.n_heads,
        token_dropout=True,
    )
    return {"cfg": {"_name": None, "model": settings}, "model": _saved(model)}


def _esm1(shape: BackboneShape) -> dict[str, Any]:
    alphabet = esm.Alphabet.from_architecture("roberta_large")
    settings = {
        "layers": shape.n_layers,
        "embed_dim": shape.width,
        "ffn_embed_dim": 4 * shape.width,
        "attention_heads": shape.n_heads,
    }
    common = {"arch": "roberta_large", "max_positions": shape.max_residues + 2, "token_dropout": True}
    model = esm.ProteinBertModel(
        Namespace(**settings, **common, emb_layer_norm_before=shape.family == "esm1b"), alphabet
    )
    saved = _saved(model)
    return {
        "args": Namespace(**{f"encoder_{key}": value for key, value in settings.items()}, **common),
        "model": saved,
        "last_optimizer_state": {"state": {0: {"step": 7, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
    }


def _saved(model: nn.Module) -> dict[str, Tensor]:
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.3)
    # Like fair-esm's files, in which the language model's head shares the memory of the embedding.
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("contact_head.")}
    return {f"encoder.{'' if key.startswith('lm_head.') else 'sentence_encoder.'}{key}": state[key] for key in state}
