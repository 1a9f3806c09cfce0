"""LoRA (Hu et al. 2021): trained low-rank changes of frozen weights, also where a layer reads its weights itself."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.backbones.transformer import Backbone

LoraTarget = Literal["q", "k", "v", "out", "fc1", "fc2"]
_PROJECTIONS: dict[str, str] = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "fc1": "fc1",
    "fc2": "fc2",
}


class LowRankChange(nn.Module):
    """Turns a weight W (D_out, D_in) into W + alpha / rank * B A with A (rank, D_in) and B (D_out, rank).

    As in the code of the paper (microsoft/LoRA), A is drawn Kaiming-uniformly, from the global random state, and B
    begins with zeros: nothing is changed before the first step.
    """

    def __init__(self, weight: Tensor, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.a = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.b = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight, in full precision under autocast too: the changes are small against the weight."""
        with torch.autocast(weight.device.type, enabled=False):
            return torch.addmm(weight, self.b, self.a, alpha=self.scale)


def add_lora(backbone: Backbone, *, rank: int, alpha: float, targets: Sequence[LoraTarget]) -> None:
    """Freeze a backbone and give each projection named by `targets`, in all its layers, a trained low-rank change."""
    if rank < 1:
        raise ValueError(f"rank={rank} must be at least 1.")
    backbone.requires_grad_(False)
    for layer in backbone.layers:
        for target in targets:
            projection = layer.get_submodule(_PROJECTIONS[target])
            weight = projection.weight
            assert isinstance(weight, Tensor)
            parametrize.register_parametrization(projection, "weight", LowRankChange(weight, rank=rank, alpha=alpha))
