"""Where a run finds what is not its own: pretrained weights and caches. Never part of a config: numbers do not depend on it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Places:
    """`weights_dir` is looked into for pretrained weights first (None: the usual places only); `cache_dir` holds caches."""

    weights_dir: Path | None
    cache_dir: Path
