"""Scores of variants from an alignment, made once for each alignment and wild type and kept in a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.alignments.couplings import check_columns, fit_couplings, from_wild_type
from datasets.alignments.focus import Focus, align_focus
from datasets.alignments.names import NAMES, VERSION
from datasets.alignments.one_hot import OnProgress
from datasets.alignments.read import CODES, RESIDUES, read_alignment
from datasets.alignments.site_scores import Table, conservation, on_wild_type, site_independent
from datasets.common.array_cache import ArrayCache, Arrays
from datasets.common.errors import UserError, nearest
from datasets.common.files import file_hash
from datasets.sequences.substitutions import Substitutions, substitutions
from datasets.tables.formats.text_file import first_bytes
from datasets.task import Announce


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AlignmentScores:
    """K scores of variants of a wild type: higher is fitter, 0 is the wild type's.

    names: of the scores. sentences: what was found in the alignment, warnings last. tables: (L, 21) for each score.
    columns: (L,), the column for each position, -1 for none. pairs: (C * 20, C * 20) float32, what two mutations add to
    `couplings` besides; None without it.
    """

    names: tuple[str, ...]
    sentences: tuple[str, ...]
    wild_type: str
    tables: tuple[Table, ...]
    columns: NDArray[np.int64]
    pairs: NDArray[np.float32] | None

    def score(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores (N, K) of N variants.

        residues: (N, Lmax) in ASCII, zeros behind the end. lengths: (N,). A score is NaN for a variant of another
        length than the wild type's, with a mutation where the alignment has no column, or to what is no residue.
        """
        scores = np.full((len(residues), len(self.names)), np.nan, dtype=np.float32)
        for some in substitutions(residues, lengths, self.wild_type):
            scores[some.rows] = self._of(some)
        return scores

    def _of(self, some: Substitutions) -> NDArray[np.float64]:
        letters = CODES[some.letters].astype(np.int64)
        scores = np.column_stack([some.sums(table[some.positions, letters]) for table in self.tables])
        if self.pairs is not None:
            # Of what has no column, or is no residue, the sum is NaN already.
            mutated = (self.columns[some.positions] * len(RESIDUES) + letters).clip(0, len(self.pairs) - 1)
            scores[:, self.names.index("couplings")] += _pair_sums(self.pairs, some.variants, mutated, len(some.rows))
        return scores


def make_alignment_scores(
    path: Path,
    wild_type: str,
    *,
    names: Sequence[str] = NAMES,
    cache_dir: Path,
    announce: Announce = lambda sentence: None,
    on_progress: OnProgress = lambda what, n_done, n_total: None,
    threads: int = 1,
) -> AlignmentScores:
    """Read an alignment and make scores of it, or take them from `cache_dir`.

    names: some of `NAMES`. What is kept goes by the file's content, the wild type and the version of the method; the
    bits of a score do not depend on `threads`. A UserError says what is wrong with the alignment or the names.
    """
    for name in names:
        if name not in NAMES:
            raise UserError(f"An alignment gives no score {name!r}, but {', '.join(NAMES)}.{nearest(name, NAMES)}")
    source = _Source(path, wild_type, threads, on_progress)
    cache = ArrayCache(cache_dir / "alignments", "scores of the alignment", announce)
    sites = cache.get(f"{source.key}-sites", source.site_arrays)
    columns = np.full(len(wild_type), -1)
    columns[sites["positions"]] = np.arange(len(sites["positions"]))
    tables, pairs = {name: sites[name] for name in ("site_independent", "conservation")}, None
    if "couplings" in names:
        check_columns(len(sites["positions"]))
        found = cache.get(f"{source.key}-couplings", source.coupling_arrays)
        tables["couplings"], pairs = found["couplings"], found["pairs"]
    return AlignmentScores(
        names=tuple(names),
        sentences=tuple(json.loads(sites["sentences"].tobytes())),
        wild_type=wild_type,
        tables=tuple(tables[name] for name in names),
        columns=columns,
        pairs=pairs,
    )


class _Source:
    """What is computed where the cache lacks it; the alignment is read once, and not at all if nothing is missing."""

    def __init__(self, path: Path, wild_type: str, threads: int, on_progress: OnProgress) -> None:
        first_bytes(path)  # says in a sentence what is no file
        self.key = hashlib.sha256(json.dumps([VERSION, file_hash(path), wild_type]).encode()).hexdigest()[:32]
        self._path, self._wild_type, self._threads, self._on_progress = path, wild_type, threads, on_progress

    @cached_property
    def _focus(self) -> Focus:
        alignment = read_alignment(self._path)
        return align_focus(alignment, self._wild_type, threads=self._threads, on_progress=self._on_progress)

    def site_arrays(self) -> Arrays:
        return {
            "site_independent": site_independent(self._focus, self._wild_type),
            "conservation": conservation(self._focus, self._wild_type),
            "positions": self._focus.positions,
            "sentences": np.frombuffer(json.dumps(self._focus.sentences).encode(), dtype=np.uint8),
        }

    def coupling_arrays(self) -> Arrays:
        focus = self._focus
        wild_codes = CODES[np.frombuffer(self._wild_type.encode(), dtype=np.uint8)[focus.positions]]
        model = fit_couplings(focus.codes, focus.weights, len(RESIDUES), self._threads, self._on_progress)
        single, pairs = from_wild_type(*model, wild_codes)
        return {"couplings": on_wild_type(focus, self._wild_type, single), "pairs": pairs}


def _pair_sums(
    pairs: NDArray[np.float32], rows: NDArray[np.int64], mutated: NDArray[np.int64], n: int
) -> NDArray[np.float64]:
    """Return (n,): the sum over all pairs of the mutations of each row; mutation i is of `rows[i]`, ascending."""
    counts = np.bincount(rows, minlength=n)
    starts = counts.cumsum() - counts
    sums = np.zeros(n)
    for q in range(1, counts.max(initial=0)):
        several = np.flatnonzero(counts > q)
        second = mutated[starts[several] + q]
        for p in range(q):
            sums[several] += pairs[mutated[starts[several] + p], second]
    return sums
