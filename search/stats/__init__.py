"""Statistics: confidence intervals, selection bias, and the metrics of a test set."""
