"""Pretrained protein language models: their files, their weights, and their forward pass."""
