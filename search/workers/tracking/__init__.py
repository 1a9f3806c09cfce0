"""Trials of a search in Weights & Biases or MLflow, a run of theirs for each, once the trial has ended."""
