"""One run from a config to its result. Nothing here knows of Optuna."""
