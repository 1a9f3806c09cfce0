"""Scores of single mutations that look at one column of an alignment at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.alignments.focus import Focus
from datasets.alignments.one_hot import weighted_counts
from datasets.alignments.read import CODES, RESIDUES

# Robinson and Robinson 1991 (doi:10.1073/pnas.88.20.8880), as in BLAST: in the order of `RESIDUES`.
_FIRST_TEN = (0.07805, 0.01925, 0.05364, 0.06295, 0.03856, 0.07377, 0.02199, 0.05142, 0.05744, 0.09019)
_OTHERS = (0.02243, 0.04487, 0.05203, 0.04264, 0.05129, 0.07120, 0.05841, 0.06441, 0.01330, 0.03216)
_BACKGROUND = np.array([*_FIRST_TEN, *_OTHERS])

Table = NDArray[np.float64]
"""(L, 21): what a mutation of each position of the wild type to each of `RESIDUES` adds; NaN where nothing is known, so
in the last column, of other letters."""


def site_independent(focus: Focus, wild_type: str) -> Table:
    """Return the log-odds of each residue against the wild type's, in nats, 0 for the wild type's."""
    logs = np.log(_frequencies(focus))
    own = CODES[np.frombuffer(wild_type.encode(), dtype=np.uint8)[focus.positions]]
    return on_wild_type(focus, wild_type, logs - logs[np.arange(len(logs)), own][:, None])


def conservation(focus: Focus, wild_type: str) -> Table:
    """Return, for a mutation of each position to whatever residue, minus the information of its column, in nats.

    That is the relative entropy of the column's residues to those of all proteins: 0 or less, the lower the more
    conserved.
    """
    frequencies = _frequencies(focus)
    information = (frequencies * np.log(frequencies / _BACKGROUND)).sum(1)
    return on_wild_type(focus, wild_type, np.repeat(-information[:, None], len(RESIDUES), axis=1))


def on_wild_type(focus: Focus, wild_type: str, of_columns: NDArray[np.float64]) -> Table:
    """Return values (C, 20) of the columns as a table of the wild type's L positions."""
    table = np.full((len(wild_type), len(RESIDUES) + 1), np.nan)
    table[focus.positions, : len(RESIDUES)] = of_columns
    return table


def _frequencies(focus: Focus) -> NDArray[np.float64]:
    """Return (C, 20): frequencies of the residues by weight, one effective sequence added for each residue, as plmc."""
    counts = weighted_counts(focus.codes, focus.weights, len(RESIDUES)) + 1
    frequencies: NDArray[np.float64] = counts / counts.sum(1, keepdims=True)
    return frequencies
