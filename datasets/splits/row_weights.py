"""How much each training row counts, from the standard errors of what was measured."""

import numpy as np
from numpy.typing import NDArray


def row_weights(error: NDArray[np.float32], train: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the weights (N,) float32 of rows with standard errors (N,), whose mean over the rows `train` (n,) is 1.

    A weight is proportional to 1 / (error^2 + median^2), with the median of the training rows: what a model leaves
    unexplained is as large as a usual error, so that no row counts more than twice as much as one of the median error,
    however small its own may be.
    """
    errors = error.astype(np.float64)
    weights = 1 / (errors**2 + np.median(errors[train]) ** 2)
    found: NDArray[np.float32] = (weights / weights[train].mean()).astype(np.float32)
    return found
