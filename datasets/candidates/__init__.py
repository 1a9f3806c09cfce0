"""Sequences to be predicted: read, enumerated, and compared with what a model was trained on."""
