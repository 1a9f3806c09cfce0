"""Read fair-esm's checkpoint files, trusting nothing in them."""

import re
import warnings
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets.common.errors import UserError
from models.backbones.names import BACKBONES, BackboneShape

N_TOKENS = 33  # of ESM-1b's alphabet
_MASK_TOKEN = 32
HEAD = "lm_head."
_CONTACTS = "contact_head."  # in some files, needed by none of our models
_TIED = f"{HEAD}weight"
# ESM-1b has the norm, ESM-1v does not; the head's matrix is the embedding, and some files leave it out.
_OPTIONAL = re.compile(r"emb_layer_norm_before\.(weight|bias)|lm_head\.weight")
_RESIDUES = slice(4, 24)  # the twenty, in the rows of the embedding


class _OtherContentError(Exception):
    """What in a file is not as expected; a clause of the sentence for the user."""


def read_checkpoint(path: Path, name: str, *, with_head: bool = False) -> dict[str, Tensor]:
    """The tensors of the backbone `name` by the names of fair-esm's modules, the heads left out.

    `with_head`: also those of the language model's head, but for its matrix, which is the embedding.
    They may be mapped from the file, and of any float type. ESM-1 files hold ``args`` and ``model``, ESM-2 files
    ``cfg`` and ``model``; keys are renamed as in `esm/pretrained.py`.

    Raises:
        UserError: The file cannot be read, is damaged, holds objects that are no weights, or is another model.
    """
    try:
        return _checked(_load(path), BACKBONES[name], with_head)
    except _OtherContentError as error:
        raise UserError(
            f"{path} does not hold the weights of {name}: {error}; put fair-esm's own {path.name} in its place, or "
            "remove it to have that downloaded."
        ) from None


def _load(path: Path) -> Any:
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    try:
        # Files older than torch 1.6 are no zip archives and cannot be mapped.
        is_mappable = zipfile.is_zipfile(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([Namespace]):
            warnings.simplefilter("ignore")  # about other formats, which are refused below
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=is_mappable)
    except Exception as error:  # bytes of any kind fail in any way
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise _OtherContentError(f"it holds an object of {foreign[1]}, which could run code of its own") from error
        raise _OtherContentError("it is truncated or no PyTorch checkpoint") from error


def _checked(checkpoint: Any, shape: BackboneShape, with_head: bool) -> dict[str, Tensor]:
    settings, tensors = _parts(checkpoint, shape)
    found = [getattr(settings, f"encoder_{name}", None) for name in ("layers", "embed_dim", "attention_heads")]
    expected = [shape.n_layers, shape.width, shape.n_heads]
    if found != expected:
        raise _OtherContentError(
            "it has {} layers of width {} and {} heads, not {} of {} and {}".format(*found, *expected)
        )
    if getattr(settings, "token_dropout", False) is not True:
        raise _OtherContentError("it was trained without token dropout, unlike fair-esm's")
    state = {
        str(key).removeprefix("encoder.").removeprefix("sentence_encoder."): tensor for key, tensor in tensors.items()
    }
    unused = (_CONTACTS,) if with_head else (_CONTACTS, HEAD)
    state = {key: tensor for key, tensor in state.items() if not key.startswith(unused)}
    shapes = tensor_shapes(shape, with_head=with_head)
    for key in sorted(shapes.keys() | state.keys()):
        if key not in state:
            if not _OPTIONAL.fullmatch(key):
                raise _OtherContentError(f"it lacks {named(key)}")
        elif key not in shapes:
            raise _OtherContentError(f"it holds {key}, which that model has not")
        else:
            _check_tensor(key, state[key], shapes[key])
    _check_frequencies(state)
    if not drop_tied(state):
        raise _OtherContentError(UNTIED)
    if shape.family != "esm2":
        embedding = state["embed_tokens.weight"] = state["embed_tokens.weight"].clone()
        embedding[_MASK_TOKEN].zero_()  # as fair-esm does
    return state


def _parts(checkpoint: Any, shape: BackboneShape) -> tuple[Namespace, dict[Any, Any]]:
    """The settings and the tensors of a file of the family's format."""
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    tensors = parts.get("model")
    if shape.family == "esm2":
        settings = parts["cfg"].get("model") if isinstance(parts.get("cfg"), dict) else None
    else:
        settings = parts.get("args")
        architecture = getattr(settings, "arch", None)
        if architecture not in (None, "roberta_large"):
            raise _OtherContentError(f"its architecture is {architecture!r}, not 'roberta_large'")
    if not isinstance(settings, Namespace) or not isinstance(tensors, dict):
        format_name = "ESM-2's (cfg and model)" if shape.family == "esm2" else "ESM-1's (args and model)"
        raise _OtherContentError(f"its format is not {format_name}")
    return settings, tensors


def _check_tensor(key: str, tensor: Any, shape: tuple[int, ...]) -> None:
    if not (isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.layout == torch.strided):
        raise _OtherContentError(f"its {key} is no tensor of floats")
    if tensor.shape != shape or tensor.device.type != "cpu":
        raise _OtherContentError(f"its {key} has the shape {tuple(tensor.shape)}, not {shape}")


def _check_frequencies(state: dict[str, Tensor]) -> None:
    """Those of the first layer are used for all."""
    frequencies = [tensor for key, tensor in state.items() if key.endswith("rot_emb.inv_freq")]
    if any(not torch.equal(tensor, frequencies[0]) for tensor in frequencies):
        raise _OtherContentError("its layers differ in the frequencies of their rotary positions")


UNTIED = f"its {_TIED} is not the embedding, as it is in fair-esm's models"


def drop_tied(state: dict[str, Tensor]) -> bool:
    """Take the head's matrix out; whether it was the embedding, as far as residues go, or was not there."""
    own = state.pop(_TIED, None)
    return own is None or torch.equal(own[_RESIDUES], state["embed_tokens.weight"][_RESIDUES])


def named(key: str) -> str:
    """A tensor's name for people."""
    return f"{key}, of the language model's head" if key.startswith(HEAD) else key


def tensor_shapes(shape: BackboneShape, *, with_head: bool = False) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter and buffer, by its name in fair-esm's modules."""
    width = shape.width
    norm = {"weight": (width,), "bias": (width,)}
    linear = {"weight": (width, width), "bias": (width,)}
    parts: dict[str, dict[str, tuple[int, ...]]] = {
        "embed_tokens": {"weight": (N_TOKENS, width)},
        "emb_layer_norm_after": {**norm},
    }
    if shape.max_residues is not None:
        # One more for cls and for eos, and two in front that fair-esm leaves unused.
        parts["embed_positions"] = {"weight": (shape.max_residues + 4, width)}
    if shape.family != "esm2":
        parts["emb_layer_norm_before"] = {**norm}
    for index in range(shape.n_layers):
        layer = f"layers.{index}"
        parts |= {f"{layer}.self_attn.{name}_proj": {**linear} for name in "kvq"}
        parts[f"{layer}.self_attn.out_proj"] = {**linear}
        if shape.family == "esm2":
            parts[f"{layer}.self_attn.rot_emb"] = {"inv_freq": (width // shape.n_heads // 2,)}
        parts |= {f"{layer}.{name}": {**norm} for name in ("self_attn_layer_norm", "final_layer_norm")}
        parts[f"{layer}.fc1"] = {"weight": (4 * width, width), "bias": (4 * width,)}
        parts[f"{layer}.fc2"] = {"weight": (width, 4 * width), "bias": (width,)}
    if with_head:
        tied = {"weight": (N_TOKENS, width), "bias": (N_TOKENS,)}
        parts |= {"lm_head": tied, "lm_head.dense": {**linear}, "lm_head.layer_norm": {**norm}}
    return {f"{part}.{name}": size for part, sizes in parts.items() for name, size in sizes.items()}
