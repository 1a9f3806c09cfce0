"""Transformer encoders with fair-esm's modules and parameters, and a forward pass of our own.

The parameters' names and the arithmetic are those of fair-esm's ESM2 and ProteinBertModel (`esm/model/` and
`esm/modules.py`, version 2.0.0, in evaluation). What differs: sequences come first, attention goes through
`scaled_dot_product_attention`, and neither heads nor attention maps are computed. A layer is a function of its
parameters as the modules give them, so that what is done to a module's weight counts, and all layers compile to the
same kernels.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from esm.modules import (  # type: ignore[import-untyped]
    ESM1bLayerNorm,
    LearnedPositionalEmbedding,
    TransformerLayer,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from datasets.sequences.tokenizer import EsmTokenizer
from models.backbones.checkpoint_format import N_TOKENS
from models.backbones.names import BACKBONES, BackboneShape
from models.backbones.weights import read_weights

_PADDING = 1  # fair-esm's index of padding
# fair-esm trained with 80 % of 15 % of the tokens masked out, and scales the embeddings of unmasked ones by this.
_TOKEN_DROPOUT_SCALE = 1 - 0.15 * 0.8

Rotation = tuple[Tensor, Tensor]  # cosines and sines, (T, 1, head width / 2) each


class Backbone(nn.Module):
    """The layers of a protein language model up to `n_layers` (None: all); those above are not built.

    Built as it is, its weights are drawn the way fair-esm's constructors draw them. With `checkpointing`, training
    keeps only the input of each layer and computes the rest again, with equal results.
    """

    checkpointing: bool = False

    def __init__(self, shape: BackboneShape, *, n_layers: int | None = None) -> None:
        n_layers = shape.n_layers if n_layers is None else n_layers
        if not 0 <= n_layers <= shape.n_layers:
            raise ValueError(f"n_layers={n_layers} must lie between 0 and {shape.n_layers}, the model's layers.")
        super().__init__()
        self._arithmetic: Callable[..., Tensor] = _arithmetic
        self.shape = shape
        is_rotary = shape.family == "esm2"
        self.embed_tokens = nn.Embedding(N_TOKENS, shape.width, padding_idx=_PADDING)
        self.embed_positions = self.emb_layer_norm_before = self.emb_layer_norm_after = None
        if shape.max_residues is not None:
            self.embed_positions = LearnedPositionalEmbedding(shape.max_residues + 2, shape.width, _PADDING)
        if shape.family == "esm1b":
            self.emb_layer_norm_before = ESM1bLayerNorm(shape.width)
        self.layers = nn.ModuleList(
            TransformerLayer(
                shape.width,
                4 * shape.width,
                shape.n_heads,
                add_bias_kv=False,
                use_esm1b_layer_norm=True,
                use_rotary_embeddings=is_rotary,
            )
            for _ in range(n_layers)
        )
        if n_layers == shape.n_layers:
            self.emb_layer_norm_after = ESM1bLayerNorm(shape.width)

    def embed(self, tokens: Tensor, *, masked: Tensor | None = None) -> Tensor:
        """Turn tokens (B, T) of EsmTokenizer into what enters the first layer, (B, T, D) float32, 0 at padding.

        A linker between chains is of glycines. `masked` (B, T) bool says which of them are the mask token, None that
        none is.
        """
        padding = tokens == 0
        ids = (tokens - 1).masked_fill(padding, _PADDING)
        ids = ids.masked_fill(tokens == EsmTokenizer.linker, EsmTokenizer.glycine - 1)
        states: Tensor = self.embed_tokens(ids) * _TOKEN_DROPOUT_SCALE
        if masked is not None:
            share = masked.sum(1) / (~padding).sum(1)
            states = states.masked_fill(masked[..., None], 0.0) / (1 - share)[:, None, None]
        if self.embed_positions is not None:
            states = states + _places(self.embed_positions, ids)
        if self.emb_layer_norm_before is not None:
            states = self.emb_layer_norm_before(states)
        return states.masked_fill(padding[..., None], 0.0)

    def run(self, states: Tensor, mask: Tensor, first: int, last: int) -> Tensor:
        """Pass states (B, T, D) through the layers `first` to `last` - 1, and the norm behind the model's last one.

        Args:
            states: What `embed` or a `run` up to `first` returned.
            mask: (B, T) bool, True at tokens; padding is attended to by nobody.
            first: The first layer, counted from 0.
            last: The layer before which it ends, at most as many as were built.

        Returns:
            (B, T, D) float32: fair-esm's ``representations[last]``. At padding there is nothing of use.
        """
        if not 0 <= first <= last <= len(self.layers):
            raise ValueError(f"Layers {first} to {last} do not lie among the {len(self.layers)} that were built.")
        keys = _attended_keys(mask)
        rotation = self._rotation(states, first) if first < last and self.shape.family == "esm2" else None
        for index in range(first, last):
            layer = self.layers[index]
            if self.checkpointing and torch.is_grad_enabled():
                states = checkpoint(
                    _apply_layer,
                    self._arithmetic,
                    layer,
                    states,
                    keys,
                    rotation,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                states = _apply_layer(self._arithmetic, layer, states, keys, rotation)
        if first < last == self.shape.n_layers and self.emb_layer_norm_after is not None:
            states = self.emb_layer_norm_after(states)
        return states

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, T) into the representation (B, T, D) of the last layer that was built."""
        return self.run(self.embed(tokens), tokens != 0, 0, len(self.layers))

    def compile_layers(self) -> None:
        """Have `torch.compile` make faster kernels of a layer, once for all layers; bits may change."""
        self._arithmetic = torch.compile(_arithmetic)

    def _rotation(self, states: Tensor, index: int) -> Rotation:
        """Cosines and sines of the angles by which rotary embeddings turn queries and keys.

        fair-esm keeps them from call to call; kept from a call under `inference_mode` they break later training.
        """
        positions = torch.arange(states.shape[1], device=states.device, dtype=torch.float32)
        frequencies = self.layers[-1].get_buffer("self_attn.rot_emb.inv_freq")  # the same in all layers
        angles = torch.outer(positions, frequencies.float())[:, None, :]
        return _for_products(angles.cos()), _for_products(angles.sin())


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it looks at values
def _places(embedding: nn.Module, ids: Tensor) -> Tensor:
    """What `embedding` says of the places of ids (B, T); zeros in columns of padding beyond the last place it knows."""
    most = int(embedding.max_positions)  # type: ignore[arg-type]
    n_beyond = ids.shape[1] - most
    if n_beyond > 0 and bool((ids[:, most:] == _PADDING).all()):
        return functional.pad(embedding(ids[:, :most]), (0, 0, 0, n_beyond))
    places: Tensor = embedding(ids)  # it refuses a token without a place
    return places


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it looks at values
def _attended_keys(mask: Tensor) -> Tensor | None:
    """The mask (B, 1, 1, T) of attention; None, for which there are faster kernels, if nothing is padded."""
    return None if bool(mask.all()) else mask[:, None, None, :]


class _Parameters(NamedTuple):
    """Weight and bias of each part of a layer, changes by LoRA included."""

    attention_norm: tuple[Tensor, Tensor]
    query: tuple[Tensor, Tensor]
    key: tuple[Tensor, Tensor]
    value: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    final_norm: tuple[Tensor, Tensor]
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]


def _apply_layer(
    arithmetic: Callable[..., Tensor], layer: Any, states: Tensor, keys: Tensor | None, rotation: Rotation | None
) -> Tensor:
    attention = layer.self_attn
    projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
    parts = (layer.self_attn_layer_norm, *projections, layer.final_layer_norm, layer.fc1, layer.fc2)
    parameters = _Parameters(*((part.weight, part.bias) for part in parts))
    return arithmetic(parameters, attention.num_heads, states, keys, rotation)


def _arithmetic(
    parameters: _Parameters, n_heads: int, states: Tensor, keys: Tensor | None, rotation: Rotation | None
) -> Tensor:
    """A layer of fair-esm: attention and feed-forward network, normalised before and added to the states."""
    normed = _for_products(functional.layer_norm(states, states.shape[-1:], *parameters.attention_norm))
    query, key, value = (
        functional.linear(normed, *projection).view(*states.shape[:2], n_heads, -1)  # (B, T, heads, head width)
        for projection in (parameters.query, parameters.key, parameters.value)
    )
    if rotation is not None:
        query, key = _rotate(query, rotation), _rotate(key, rotation)
    attended = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=keys
    )
    states = states + functional.linear(attended.transpose(1, 2).flatten(2), *parameters.out)
    normed = _for_products(functional.layer_norm(states, states.shape[-1:], *parameters.final_norm))
    return states + functional.linear(functional.gelu(functional.linear(normed, *parameters.fc1)), *parameters.fc2)


def _rotate(vectors: Tensor, rotation: Rotation) -> Tensor:
    """Turn (B, T, heads, head width), the two halves of a vector being the coordinates that are paired."""
    cosine, sine = rotation
    x, y = vectors.chunk(2, dim=-1)
    return torch.cat((torch.addcmul(x * cosine, y, sine, value=-1), torch.addcmul(y * cosine, x, sine)), dim=-1)


def _for_products(states: Tensor) -> Tensor:
    """In autocast's precision: cast once here instead of once in each of the products that follow."""
    kind = states.device.type
    return states.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else states


def untrained(shape: BackboneShape, *, seed: int, n_layers: int | None = None) -> Backbone:
    """Random weights as fair-esm initialises them (FLIP's ESM-untrained), a function of `seed` alone.

    The first layers do not depend on `n_layers`. The global random state is neither used nor changed.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        return Backbone(shape, n_layers=n_layers)


def pretrained(name: str, path: Path, *, n_layers: int | None = None) -> Backbone:
    """The model of a checkpoint file in fair-esm's format, or of a folder in Hugging Face's, in float32.

    Raises:
        UserError: It is no whole checkpoint of the backbone `name`.
    """
    return backbone_of(read_weights(path, name), name, n_layers=n_layers)


def backbone_of(state: Mapping[str, Tensor], name: str, *, n_layers: int | None = None) -> Backbone:
    """The model of weights that `read_weights` returned, in float32."""
    shape = BACKBONES[name]
    if shape.family != "esm2":  # whether there is this norm is told by the file, as in fair-esm
        has_norm = "emb_layer_norm_before.weight" in state
        shape = replace(shape, family="esm1b" if has_norm else "esm1v")
    with torch.device("meta"):
        backbone = Backbone(shape, n_layers=n_layers)
    # Copied, because the file may be mapped into memory and written over while the model is in use.
    own = {key: state[key].to(torch.float32, copy=True) for key in backbone.state_dict()}
    backbone.load_state_dict(own, assign=True)
    return backbone
