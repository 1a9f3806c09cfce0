"""Embeddings from files of others: read with suspicion, kept for a split, and handed to models."""
