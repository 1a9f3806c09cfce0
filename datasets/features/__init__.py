"""The cache of frozen features: computed once for each sequence, found by content."""
