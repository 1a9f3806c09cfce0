"""Tiny checkpoints in the formats of fair-esm's files, and fair-esm's own models for the same weights."""

import json
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import esm
import pytest
import torch
from esm.pretrained import load_model_and_alphabet_core
from safetensors.torch import save_file
from torch import Tensor, nn

from models.backbones.names import BACKBONES, BackboneShape

TINY = {
    "esm1b_tiny": BackboneShape(family="esm1b", n_layers=2, width=16, n_heads=4, max_residues=30),
    "esm1v_tiny": BackboneShape(family="esm1v", n_layers=2, width=16, n_heads=4, max_residues=30),
    "esm2_tiny": BackboneShape(family="esm2", n_layers=2, width=16, n_heads=4, max_residues=None),
}


def use_tiny(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """Make the tiny backbones known, and `home` one in which no weights are found."""
    for name, shape in TINY.items():
        monkeypatch.setitem(BACKBONES, name, shape)
    for variable in ("TORCH_HOME", "XDG_CACHE_HOME", "HF_HOME"):
        monkeypatch.setenv(variable, str(home / variable))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return home


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


def write_folder(folder: Path, name: str, *, seed: int = 0, shards: int = 1, **settings: Any) -> Path:
    """Write the same random weights as `write_checkpoint` in Hugging Face's layout; `settings` change config.json."""
    shape = BACKBONES[name]
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "esm",
        "num_hidden_layers": shape.n_layers,
        "hidden_size": shape.width,
        "num_attention_heads": shape.n_heads,
        "intermediate_size": 4 * shape.width,
        "position_embedding_type": "rotary",
        "token_dropout": True,
        "emb_layer_norm_before": False,
        "vocab_size": 33,
    }
    (folder / "config.json").write_text(json.dumps(config | settings))
    tensors = {_hugging_face(key): tensor.clone() for key, tensor in make_checkpoint(shape, seed=seed)["model"].items()}
    tensors = {key: tensor for key, tensor in tensors.items() if key is not None}
    names = sorted(tensors)
    files = {f"model-{i:05d}-of-{shards:05d}.safetensors": names[i::shards] for i in range(shards)}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    for file, keys in files.items():
        save_file({key: tensors[key] for key in keys}, folder / file)
    index = {"metadata": {}, "weight_map": {key: file for file, keys in files.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _hugging_face(key: str) -> str | None:
    """Hugging Face's name of one of fair-esm's tensors, as its conversion script has them; None is left out there."""
    key = key.removeprefix("encoder.").removeprefix("sentence_encoder.")
    if key.endswith("inv_freq") or key == "lm_head.weight":
        return None
    if key.startswith("lm_head."):
        return key
    key = key.replace("embed_tokens", "embeddings.word_embeddings")
    key = key.replace("emb_layer_norm_after", "encoder.emb_layer_norm_after")
    if key.startswith("layers."):
        _, index, rest = key.split(".", 2)
        for own, theirs in (
            ("self_attn.q_proj", "attention.self.query"),
            ("self_attn.k_proj", "attention.self.key"),
            ("self_attn.v_proj", "attention.self.value"),
            ("self_attn.out_proj", "attention.output.dense"),
            ("self_attn_layer_norm", "attention.LayerNorm"),
            ("final_layer_norm", "LayerNorm"),
            ("fc1", "intermediate.dense"),
            ("fc2", "output.dense"),
        ):
            rest = rest.replace(own, theirs)
        key = f"encoder.layer.{index}.{rest}"
    return f"esm.{key}"
