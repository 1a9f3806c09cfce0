"""Variants as numbers that describe their mutations: residue properties, position and neighbours."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.layers.amino_acids import vhse

_NEIGHBOURS = (-2, -1, 1, 2)
_MOST_SITES = 16  # that are described one by one


class MutationFeatures(nn.Module):
    """Features of variants of one protein, against the consensus of the training sequences.

    A mutation has the properties (VHSE) of the consensus residue, of its own and their difference, the properties of
    the consensus's two neighbours on either side, and its position. A variant has the mean of its mutations' features
    and their number; where training has variants of several mutations, the smallest and largest of each feature as
    well; and where at most 16 positions vary, the properties of the residue at each. Of aligned sequences being a gap
    is one more property (`has_gaps`).

    Attributes:
        consensus: (L,) int64 tokens.
        sites: (S,) int64, the positions that vary in training, or none where they are more.
        has_several: () bool, whether a training variant has several mutations.
    """

    consensus: Tensor
    sites: Tensor
    has_several: Tensor
    properties: Tensor

    def __init__(self, *, has_gaps: bool = False) -> None:
        super().__init__()
        self.register_buffer("consensus", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("sites", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("has_several", torch.zeros((), dtype=torch.bool))
        self.register_buffer("properties", vhse(has_gaps=has_gaps), persistent=False)

    @property
    def n_features(self) -> int:
        """F."""
        n_properties = self.properties.shape[1]
        of_mutation = (3 + len(_NEIGHBOURS)) * n_properties + 1
        return 1 + of_mutation * (3 if self.has_several else 1) + len(self.sites) * n_properties

    def fit(self, tokens: Tensor) -> None:
        """Look at the training sequences (N, L), 0 at padding."""
        n_tokens = len(self.properties)
        codes = tokens + n_tokens * torch.arange(tokens.shape[1], device=tokens.device)
        counts = torch.bincount(codes.flatten(), minlength=n_tokens * tokens.shape[1]).view(-1, n_tokens)
        self.consensus = counts.argmax(dim=1)
        varies = (counts.amax(dim=1) < len(tokens)).nonzero().squeeze(1)
        self.sites = varies if len(varies) <= _MOST_SITES else varies[:0]
        self.has_several = (tokens != self.consensus).sum(dim=1).max() > 1

    def forward(self, tokens: Tensor) -> Tensor:
        """Features (B, F) float32 of sequences (B, L'), 0 at padding; what lies beyond the consensus is left out."""
        length = len(self.consensus)
        tokens = functional.pad(tokens, (0, max(0, length - tokens.shape[1])))[:, :length]
        row, position = (tokens != self.consensus).nonzero(as_tuple=True)
        mutations = self._of_mutations(position, tokens[row, position])
        n = torch.bincount(row, minlength=len(tokens))
        columns = [n[:, None].float()]
        zeros = mutations.new_zeros(len(tokens), mutations.shape[1])
        columns.append(zeros.index_add(0, row, mutations) / n.clamp(min=1)[:, None])
        if self.has_several:
            index = row[:, None].expand_as(mutations)
            for which in ("amin", "amax"):
                columns.append(zeros.scatter_reduce(0, index, mutations, which, include_self=False))
        columns.append(self.properties[tokens[:, self.sites]].flatten(1))
        return torch.cat(columns, dim=1)

    def _of_mutations(self, position: Tensor, token: Tensor) -> Tensor:
        """Features (K, F') of K mutations to `token` (K,) at `position` (K,)."""
        old, new = self.properties[self.consensus[position]], self.properties[token]
        margin = max(_NEIGHBOURS)
        around = functional.pad(self.consensus, (margin, margin))
        neighbours = [self.properties[around[position + margin + offset]] for offset in _NEIGHBOURS]
        return torch.cat([old, new, new - old, *neighbours, position[:, None].float()], dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        for name in ("consensus", "sites"):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.dim() == 1:
                setattr(self, name, getattr(self, name).new_zeros(len(saved)))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def check(self) -> None:
        """Refuse, by a RuntimeError, tokens and positions that there are not."""
        is_known = (self.consensus >= 0) & (self.consensus < len(self.properties))
        if not bool(is_known.all()) or not bool(((self.sites >= 0) & (self.sites < len(self.consensus))).all()):
            raise RuntimeError("its consensus or its sites stand for nothing")
