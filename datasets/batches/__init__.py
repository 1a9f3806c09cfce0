"""From prepared rows to the batches that a model sees."""
