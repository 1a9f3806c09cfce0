"""Candidates without the variants that were measured already."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

import numpy as np

from datasets.candidates.candidates import Candidates, Stream
from datasets.common.errors import UserError
from datasets.sequences.chains import Chains
from datasets.sequences.codes import as_bytes
from datasets.sequences.gaps import protein
from datasets.splits.prepared import PreparedSplit, test_sequences


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MeasuredVariants:
    """Proteins (ASCII, as `protein` has them) that have a measurement, wherever its value stands.

    known: those of training and validation rows. test: those of the test set. Which sequences are in it tells nothing
    of what they were measured at, and that is never read here. chains: of their sequences, where they have several.
    """

    known: Set[bytes]
    test: Set[bytes] = frozenset()
    chains: Chains | None = None


@dataclass(kw_only=True, slots=True)
class LeftOut:
    """Counts the candidates that were left out: all of them, and those of the test set."""

    n: int = 0
    n_test: int = 0

    @property
    def sentence(self) -> str:
        """What is said of them; nothing where there are none."""
        if not self.n:
            return ""
        test = f"; of the test set, {self.n_test:,} of them, only the sequences were looked at" if self.n_test else ""
        return f"{self.n:,} candidate{'s were' if self.n > 1 else ' was'} left out as measured already{test}."


def measured_variants(split: PreparedSplit, chains: Chains | None) -> MeasuredVariants:
    """Return the variants that a split was measured of; a UserError is raised if its prepared file is broken."""
    known, test = as_bytes(split.residues, split.lengths), as_bytes(*test_sequences(split))
    return MeasuredVariants(
        known=frozenset(protein(one, chains) for one in known),
        test=frozenset(protein(one, chains) for one in test),
        chains=chains,
    )


def without_measured(stream: Stream, measured: MeasuredVariants, left_out: LeftOut) -> Stream:
    """Return the stream without the measured variants, which `left_out` counts while it is read.

    As much is in memory as before, and the measured sequences. A UserError is raised at the end where no candidate is
    left.
    """
    return replace(stream, blocks=_others(stream.blocks, measured, left_out), n_total=None)


def _others(blocks: Iterator[Candidates], measured: MeasuredVariants, left_out: LeftOut) -> Iterator[Candidates]:
    is_any_left = False
    for block in blocks:
        kept = []
        for row, sequence in enumerate(as_bytes(block.residues, block.lengths)):
            own = protein(sequence, measured.chains)
            is_test = own in measured.test
            if is_test or own in measured.known:
                left_out.n += 1
                left_out.n_test += is_test
            else:
                kept.append(row)
        if kept:
            is_any_left = True
            yield block if len(kept) == len(block) else block.take(np.array(kept, dtype=np.int64))
    if not is_any_left:
        raise UserError(
            f"Every candidate ({left_out.n:,}) was measured already, so there is none to rank: give others."
        )
