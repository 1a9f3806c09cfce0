"""What a run's model sees of a long sequence. Without torch: the end of a search asks, which does not wait for it."""

from datasets.batches.window import LengthLimit
from search.config.run_config import RunConfig


def limit_of(config: RunConfig, max_residues: int | None) -> LengthLimit:
    """What the run's model, which takes `max_residues`, sees of a long sequence."""
    data = config.data
    return LengthLimit(max_length=data.max_length, max_residues=max_residues, truncate=data.truncate)
