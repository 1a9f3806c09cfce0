"""A split read and checked once: what a search may see of it, and the test targets, which it may not."""
