"""Validation protocols: which rows train a model and which judge it."""
