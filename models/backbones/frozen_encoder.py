"""The frozen layers of an ESM backbone as an encoder whose results are cached."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from datasets.common.processor import processor
from datasets.sequences.tokenizer import EsmTokenizer
from models.backbones.names import BACKBONES
from models.backbones.transformer import Backbone, pretrained, untrained
from models.backbones.weights import weights_hash

_UNTRAINED_SEED = 0  # one untrained backbone of each name, as there is one pretrained
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where the weights of a backbone come from: a checkpoint file or folder, or chance where `path` is None."""

    name: str
    path: Path | None

    @property
    def hash(self) -> str:
        """Names the weights: the hash of the file, or how they were drawn, which depends on torch's version."""
        if self.path is not None:
            return weights_hash(self.path, self.name)
        return f"untrained:{self.name}:{_UNTRAINED_SEED}:torch{torch.__version__.partition('+')[0]}"

    def load(self, *, n_layers: int) -> Backbone:
        """The backbone up to a layer."""
        if self.path is None:
            return untrained(BACKBONES[self.name], seed=_UNTRAINED_SEED, n_layers=n_layers)
        return pretrained(self.name, self.path, n_layers=n_layers)


class FrozenLayers:
    """The first `n_layers` layers, loaded when the first sequence has to pass through them.

    An `Encoder` of `datasets.features.frozen`. Its key holds all that the bits of the features depend on, the sequence
    aside. `precision` is what the layers compute in, by Lightning's names; with `keeps_float32` the sums behind them,
    which are float32 whatever the products are, are kept as they are, and not rounded to the products' precision.
    """

    n_prefix = 1
    n_suffix = 1
    linker = EsmTokenizer.linker

    def __init__(
        self, weights: Weights, *, n_layers: int, precision: str, device: torch.device, keeps_float32: bool = False
    ) -> None:
        self.width = BACKBONES[weights.name].width
        # No more digits are kept than the trained part computes with.
        self.dtype = torch.bfloat16 if precision == "bf16-mixed" and not keeps_float32 else torch.float32
        self.key = f"{weights.hash}|layer {n_layers}|{precision}|torch {torch.__version__}|{_machine(device)}"
        if not torch.are_deterministic_algorithms_enabled():
            self.key += "|not deterministic"
        self._weights = weights
        self._n_layers = n_layers
        self._autocast = _AUTOCAST.get(precision)
        self._device = device

    def release(self) -> None:
        """Give the memory of the layers back; they are loaded again if another sequence comes."""
        self.__dict__.pop("_backbone", None)

    @cached_property
    def _backbone(self) -> Backbone:
        return self._weights.load(n_layers=self._n_layers).to(self._device).eval().requires_grad_(False)

    def __call__(self, tokens: Tensor) -> Tensor:
        """States (n, T, D) behind the last layer, of tokens (n, T)."""
        with (
            torch.no_grad(),
            torch.autocast(self._device.type, dtype=self._autocast, enabled=self._autocast is not None),
        ):
            states: Tensor = self._backbone(tokens.to(self._device))
        return states.to(self.dtype)


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device.type} {processor()} {torch.get_num_threads()} threads"
