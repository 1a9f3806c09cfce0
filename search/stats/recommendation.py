"""The rule by which a search over several families recommends its ensemble, or the best configuration alone."""

MOST_BELOW = 0.05
"""In units of Spearman: an ensemble is recommended where its validation value is lower by no more than this.

Its value is out of bag, and so corrected for the selection; that of the best configuration is not corrected for having
been picked. Where the rule was chosen (docs/measurements.md, "Ensembles") the ensemble was better on test on all four
splits, also where its value was lower by 0.02.
"""


def recommends_ensemble(ensemble: float, best: float, *, on_test: bool = False) -> bool:
    """Whether an ensemble of this value is recommended rather than the best configuration alone, which has `best`.

    Both are Spearman correlations on the same sequences, of validation or, `on_test`, of the test set, where neither
    was picked and the higher one counts.
    """
    return ensemble > best if on_test else ensemble >= best - MOST_BELOW
