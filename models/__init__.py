"""Sequence-to-fitness models: one file a model, whose keyword-only constructor is its hyperparameters."""
