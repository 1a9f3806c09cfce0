"""Paths of pretrained weights and caches; not part of the config, since results do not depend on them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Places:
    """`weights_dir` is looked into for pretrained weights before the usual places; `cache_dir` holds caches."""

    weights_dir: Path | None
    cache_dir: Path
