"""Where a run finds what is not its own, weights and caches: no part of a config, no number depends on it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Places:
    """`weights_dir` is looked into for pretrained weights before the usual places; `cache_dir` holds caches."""

    weights_dir: Path | None
    cache_dir: Path
