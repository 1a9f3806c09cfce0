"""Scores of single mutations that look at one column of an alignment at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.alignments.focus import Focus
from datasets.alignments.one_hot import weighted_counts
from datasets.alignments.read import CODES, RESIDUES

# Robinson and Robinson 1991 (doi:10.1073/pnas.88.20.8880), as in BLAST: in the order of `RESIDUES`.
_BACKGROUND = np.array(
    [
        ".07805",
        ".01925",
        ".05364",
        ".06295",
        ".03856",
        ".07377",
        ".02199",
        ".05142",
        ".05744",
        ".09019",
        ".02243",
        ".04487",
        ".05203",
        ".04264",
        ".05129",
        ".07120",
        ".05841",
        ".06441",
        ".01330",
        ".03216",
    ],
    dtype=np.float64,
)
_PSEUDOCOUNT = 20.0  # effective sequences: on average one of each residue, as plmc adds

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
    """Return (C, 20): frequencies of the residues by weight, with a pseudocount in proportion to the background."""
    counts = weighted_counts(focus.codes, focus.weights, len(RESIDUES))
    pseudo = _PSEUDOCOUNT * _BACKGROUND
    return (counts + pseudo) / (counts.sum(1, keepdims=True) + _PSEUDOCOUNT)
