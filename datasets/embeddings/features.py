"""From the embeddings of whole sequences to the features of what a model sees of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.common.errors import SequenceError
from datasets.embeddings.store import Embeddings
from datasets.features.encoder import Features, PooledFeatures, Scope


def embedding_features(
    embeddings: Embeddings,
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    region: NDArray[np.bool_],
    scope: Scope,
) -> Features:
    """Return features of N sequences of which a model sees the residues from starts (N,) to stops (N,).

    One vector a sequence is what it is, whatever the model sees of it. Of one a residue the scope `mean` is the mean
    over what the model sees, and `region` that over the True positions of region (N, L), which begins at the starts.

    Raises:
        SequenceError: A sequence has no residue in its region.
    """
    if scope == "tokens":
        return TokenEmbeddings(embeddings, starts, stops)
    values = np.empty((len(embeddings), embeddings.width), dtype=np.float32)
    for row, (start, stop) in enumerate(zip(starts.tolist(), stops.tolist(), strict=True)):
        entry = embeddings.entry(row)
        if embeddings.kind == "residue":
            entry = entry[start:stop]
            if scope == "region":
                entry = entry[region[row, : len(entry)]]
                if not len(entry):
                    raise SequenceError(
                        f"Sequence {row} has no residue in its mutated region, expected at least one to average over",
                        row,
                        "; use model.pooling=mean, or a crop that keeps the region.",
                    )
        values[row] = entry[0] if len(entry) == 1 else entry.mean(axis=0, dtype=np.float64)
    return PooledFeatures(values=torch.from_numpy(values), n_computed=0)


@dataclass(frozen=True, slots=True, eq=False)
class TokenEmbeddings:
    """Features (L, D) of the residues of N sequences from starts (N,) to stops (N,), read when they are gathered."""

    embeddings: Embeddings
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    values = None
    n_computed = 0

    @property
    def n_bytes(self) -> int:
        """The memory that all of them take."""
        return int((self.stops - self.starts).sum()) * self.embeddings.width * 4

    def to(self, device: torch.device | str) -> TokenEmbeddings:
        """Return the same: there may be more than a device holds."""
        return self

    def gather(self, rows: Tensor) -> Tensor:
        """From rows (b,) int64 to (b, longest, D) float32 on the CPU, zeros at padding."""
        chosen = rows.cpu().numpy()
        lengths = (self.stops - self.starts)[chosen]
        gathered = np.zeros((len(chosen), int(lengths.max(initial=0)), self.embeddings.width), dtype=np.float32)
        for i, row in enumerate(chosen.tolist()):
            gathered[i, : lengths[i]] = self.embeddings.entry(row)[self.starts[row] : self.stops[row]]
        return torch.from_numpy(gathered)
