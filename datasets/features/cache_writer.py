"""Write what was computed into the cache, or say once why not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.features.cache import FeatureCache
from datasets.features.encoder import Encoder, Scope
from datasets.features.segment import Raw, Segment
from datasets.features.segment_index import SegmentIndex
from datasets.task import Announce


class Writer:
    """The cache as one call for `scope` writes to it; `is_stopped` once it refused that scope or cannot be written."""

    def __init__(self, cache: FeatureCache, encoder: Encoder, scope: Scope, announce: Announce) -> None:
        self.is_stopped = False
        self._cache, self._encoder, self._scope, self._announce = cache, encoder, scope, announce
        self._needed: list[SegmentIndex] = []

    def protect(self, located: SegmentIndex) -> SegmentIndex:
        """Let no segment of these be removed to make room; return them."""
        self._needed.append(located)
        return located

    def save(self, scope: Scope, hashes: NDArray[np.uint8], entries: Sequence[Raw]) -> Segment | None:
        """Write a segment of entries (L_i, D * itemsize) and return it, or None where it could not be kept."""
        if self.is_stopped:
            return None
        keep = {path for located in self._needed for path in located.paths}
        try:
            segment = self._cache.add(self._encoder, scope, hashes, entries, keep)
        except OSError as error:
            self.stop(error)
            return None
        if segment is None and scope == self._scope:
            self.is_stopped = True
            self._announce(
                f"The feature cache has no room left within {gigabytes(self._cache.max_bytes)} (cache.max_gb): "
                "the other features are computed without it."
            )
        return segment

    def stop(self, error: OSError) -> None:
        """Write nothing more, because of an error of the system."""
        self.is_stopped = True
        self._announce(
            f"The feature cache {self._cache.directory} cannot be written ({error.strerror or error}): "
            "features are computed without it."
        )


def gigabytes(n_bytes: float) -> str:
    """Return a size as a user reads it."""
    return f"{n_bytes / 1e9:.3g} GB"
