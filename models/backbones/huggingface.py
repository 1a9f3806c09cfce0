"""ESM-2 as Hugging Face lays it out: `config.json` and `model.safetensors`, whole or in shards."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from datasets.common.errors import UserError
from models.backbones.checkpoint_format import HEAD, UNTIED, drop_tied, named, tensor_shapes
from models.backbones.names import BACKBONES, BackboneShape

_MOST_BYTES = 2**22  # of a JSON file
_CONFIG, _WHOLE, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
# Their names of the parts of a layer, and fair-esm's.
_PARTS = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.LayerNorm": "self_attn_layer_norm",
    "attention.self.rotary_embeddings": "self_attn.rot_emb",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "LayerNorm": "final_layer_norm",
}
_OTHERS = {
    "embeddings.word_embeddings": "embed_tokens",
    "encoder.emb_layer_norm_after": "emb_layer_norm_after",
    "lm_head.decoder": "lm_head",
    "lm_head.layer_norm": "lm_head.layer_norm",
}
_UNUSED = re.compile(
    r"(lm_head\.decoder\.bias|contact_head|pooler|embeddings\.position_embeddings|embeddings\.position_ids|"
    r"encoder\.layer\.\*)(?!\w).*"
)
_LAYER = re.compile(r"encoder\.layer\.([0-9]{1,3})\.(.+)\.(weight|bias|inv_freq|gamma|beta)")
_KINDS = {"gamma": "weight", "beta": "bias"}  # of layer norms, as some versions of their package write them


def find_folder(name: str, weights_dir: Path | None) -> Path | None:
    """The folder of a backbone's files: `NAME` in `weights_dir`, or what the Hub's cache on this machine has of it.

    The first counts as soon as it holds weights: what it lacks beside them is said when it is read.
    """
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cached = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--facebook--{name}"
    if weights_dir is not None and any((weights_dir / name / file).is_file() for file in (_CONFIG, _WHOLE, _INDEX)):
        return weights_dir / name
    folders = []
    try:
        folders.append(cached / "snapshots" / (cached / "refs" / "main").read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        folders += sorted((cached / "snapshots").glob("*"))
    return next((folder for folder in folders if (folder / _CONFIG).is_file()), None)


def read_folder(folder: Path, name: str, *, with_head: bool = False) -> dict[str, Tensor]:
    """The tensors of the backbone `name` by the names of fair-esm's modules, float32, the heads left out.

    `with_head`: also those of the language model's head, but for its matrix, which is the embedding.

    Raises:
        UserError: The folder holds another architecture, or a file that is missing or broken.
    """
    shape = BACKBONES[name]
    _check_config(folder, name, shape)
    state: dict[str, Tensor] = {}
    for key, tensor in _tensors(folder, name):
        own = _own_name(key)
        if own is None or (own.startswith(HEAD) and not with_head):
            continue
        if own in state:
            raise _not_it(folder, name, f"it holds {own} twice")
        if not tensor.is_floating_point():
            raise _not_it(folder, name, f"its {key} is no tensor of floats")
        state[own] = tensor.to(torch.float32)
    _add_frequencies(state, shape)
    if with_head and "embed_tokens.weight" in state:
        state.setdefault("lm_head.weight", state["embed_tokens.weight"])  # as they are tied, one of them is left out
    wanted = tensor_shapes(shape, with_head=with_head)
    for key in sorted(wanted.keys() | state.keys()):
        if key not in state or key not in wanted:
            why = f"it lacks {named(key)}" if key in wanted else f"it holds {key}, which it has not"
            raise _not_it(folder, name, why)
        if tuple(state[key].shape) != wanted[key]:
            raise _not_it(folder, name, f"its {key} has the shape {tuple(state[key].shape)}, not {wanted[key]}")
    if not drop_tied(state):
        raise _not_it(folder, name, UNTIED)
    return state


def folder_hash(folder: Path, name: str, *, with_head: bool = False) -> str:
    """``sha256:`` and the SHA-256 of the weights themselves, however they are divided into files."""
    digest = hashlib.sha256()
    state = read_folder(folder, name, with_head=with_head)
    for key in sorted(state):
        digest.update(f"{key} {tuple(state[key].shape)}\n".encode())
        digest.update(state[key].contiguous().numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _own_name(key: str) -> str | None:
    """fair-esm's name of a tensor; None of one that no model of ours needs."""
    key = key.removeprefix("esm.")
    if _UNUSED.fullmatch(key):
        return None
    layer = _LAYER.fullmatch(key)
    if layer and layer[2] in _PARTS:
        return f"layers.{layer[1]}.{_PARTS[layer[2]]}.{_KINDS.get(layer[3], layer[3])}"
    part, _, kind = key.rpartition(".")
    return f"{_OTHERS[part]}.{_KINDS.get(kind, kind)}" if part in _OTHERS else key


def _add_frequencies(state: dict[str, Tensor], shape: BackboneShape) -> None:
    """Those of rotary positions follow from the width: newer files leave them out."""
    head = shape.width // shape.n_heads
    frequencies = 1.0 / (10000 ** (torch.arange(0, head, 2).float() / head))
    for index in range(shape.n_layers):
        state.setdefault(f"layers.{index}.self_attn.rot_emb.inv_freq", frequencies)


def _check_config(folder: Path, name: str, shape: BackboneShape) -> None:
    if not (folder / _CONFIG).exists():
        raise _not_it(folder, name, f"it holds no {_CONFIG}")
    config = _json(folder / _CONFIG, name)
    wanted = {
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
    for key, value in wanted.items():
        if config.get(key) != value:
            raise _not_it(folder, name, f"{key} of its config.json is {str(config.get(key))[:40]}, not {value}")


def _tensors(folder: Path, name: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors of the file, or of the shards that the index names."""
    files = [_WHOLE]
    if not (folder / files[0]).is_file():
        if not (folder / _INDEX).is_file():
            raise _not_it(folder, name, "it holds neither model.safetensors nor an index of its shards")
        shards = _json(folder / _INDEX, name).get("weight_map")
        named = {str(file) for file in shards.values()} if isinstance(shards, Mapping) else set()
        if not named or not all(re.fullmatch(r"[\w-][\w.-]*\.safetensors", file) for file in named):
            raise _not_it(folder, name, f"the weight_map of its {_INDEX} does not name .safetensors files beside it")
        files = sorted(named)
    for file in files:
        try:
            with safe_open(folder / file, framework="pt") as shard:
                for key in shard.keys():  # noqa: SIM118  # it is no mapping
                    yield key, shard.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise _not_it(folder, name, f"{file} cannot be read ({str(error).splitlines()[0]})") from None


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _not_it(path.parent, name, f"{path.name} has more than {_MOST_BYTES:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _not_it(path.parent, name, f"{path.name} is no JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(found, dict):
        raise _not_it(path.parent, name, f"{path.name} holds no mapping")
    return found


def _not_it(folder: Path, name: str, why: str) -> UserError:
    return UserError(
        f"{folder} does not hold the weights of facebook/{name}: {why}; bring the folder as Hugging Face has it, or "
        "remove it to have fair-esm's file downloaded."
    )
