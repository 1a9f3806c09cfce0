"""The rule by which a search over several families recommends its ensemble, or the best configuration alone."""

LEAST_ADVANTAGE = 0.0
"""In units of Spearman: an ensemble is recommended where its value is higher by more than this.

Its value is out of bag, and so corrected for the selection; that of the best configuration is not corrected for having
been picked, which makes the rule err on the side of one configuration.
"""


def recommends_ensemble(ensemble: float, best: float) -> bool:
    """Whether an ensemble of this value is recommended rather than the best configuration alone, which has `best`.

    Both are Spearman correlations on the same sequences.
    """
    return ensemble > best + LEAST_ADVANTAGE
