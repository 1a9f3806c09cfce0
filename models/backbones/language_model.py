"""A pretrained backbone with its language model's head: what it expects to stand at each position of a protein."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from datasets.alignments.read import RESIDUES
from datasets.common.errors import UserError, nearest
from datasets.sequences.tokenizer import EsmTokenizer
from models.backbones.names import BACKBONES
from models.backbones.transformer import Backbone, backbone_of
from models.backbones.weights import find_weights, read_weights, weights_hash

Affine = tuple[Tensor, Tensor]
"""A weight and a bias."""


class _Loaded(NamedTuple):
    """The layers, and the head of fair-esm's `RobertaLMHead`; of its last matrix the rows of the residues alone."""

    backbone: Backbone
    dense: Affine
    norm: Affine
    output: Affine


class MaskedLanguageModel:
    """A `datasets.scores.language_model.LanguageModel`: the backbone `name`, whose weights stand at `path`.

    It computes on the processor, in float32. The weights are loaded when they are first needed.

    Raises:
        UserError: They are not those of the backbone, or lack its head.
    """

    def __init__(self, name: str, path: Path) -> None:
        read_weights(path, name, with_head=True)
        self.name = name
        self.hash = weights_hash(path, name, with_head=True).removeprefix("sha256:")
        self.max_residues = BACKBONES[name].max_residues
        self._path = path
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    def logits(self, residues: NDArray[np.uint8], masked: int | None) -> NDArray[np.float32]:
        """Return the logits (n, 20) of each residue, in the order of `RESIDUES`, at each position of a protein.

        residues: (n,), ASCII codes. masked: the position that the model does not see; None is none. Threads may ask at
        the same time. The bits depend on torch, on the processor and on how many threads torch takes in this one.
        """
        model = self._load()
        tokens = EsmTokenizer().encode(residues[None])[0].long()
        masks = None
        if masked is not None:
            place = EsmTokenizer.n_prefix + masked
            tokens[0, place] = EsmTokenizer.mask
            masks = tokens == EsmTokenizer.mask
        backbone = model.backbone
        with torch.no_grad():
            states = backbone.embed(tokens, masked=masks)
            states = backbone.run(states, torch.ones_like(tokens, dtype=torch.bool), 0, len(backbone.layers))
            states = functional.gelu(functional.linear(states, *model.dense))
            states = functional.layer_norm(states, states.shape[-1:], *model.norm)
            found = functional.linear(states, *model.output)[0, EsmTokenizer.n_prefix : -EsmTokenizer.n_suffix]
        logits: NDArray[np.float32] = found.numpy()
        return logits

    def _load(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                state = read_weights(self._path, self.name, with_head=True)

                def part(key: str) -> Tensor:
                    # A copy, because the file may be mapped into memory and written over while the model is in use.
                    return state[key].to(torch.float32, copy=True)

                rows = _rows_of_residues()
                self._loaded = _Loaded(
                    backbone=backbone_of(state, self.name).eval().requires_grad_(False),
                    dense=(part("lm_head.dense.weight"), part("lm_head.dense.bias")),
                    norm=(part("lm_head.layer_norm.weight"), part("lm_head.layer_norm.bias")),
                    output=(part("embed_tokens.weight")[rows], part("lm_head.bias")[rows]),
                )
            return self._loaded


def find_language_model(name: str, *, weights_dir: Path | None, announce: Callable[[str], None]) -> MaskedLanguageModel:
    """The backbone of that name with its head, from where `find_weights` finds it.

    Raises:
        UserError: There is no such backbone, its weights are nowhere to be had, or are not its own.
    """
    if name not in BACKBONES:
        raise UserError(
            f"There is no language model {name[:80]!r} whose scores are known here.{nearest(name, BACKBONES)} Known: "
            f"{', '.join(BACKBONES)}."
        )
    or_else = "search without --zero-shot"
    return MaskedLanguageModel(name, find_weights(name, weights_dir=weights_dir, announce=announce, or_else=or_else))


def _rows_of_residues() -> Tensor:
    """The rows (20,) of the embedding that belong to `RESIDUES`."""
    tokens, _ = EsmTokenizer().encode(np.frombuffer(RESIDUES.encode(), dtype=np.uint8)[None])
    return tokens[0, EsmTokenizer.n_prefix : -EsmTokenizer.n_suffix].long() - 1
