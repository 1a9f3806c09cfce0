"""Scores of variants that a masked language model of proteins gives: log-odds of the new residue and the wild type's.

The two ways are those of Meier et al. 2021 (doi:10.1101/2021.07.09.450648). The model and its weights come from
`models.backbones`, by way of `search`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.alignments.one_hot import one_thread_each
from datasets.alignments.read import CODES, GAP, RESIDUES
from datasets.common.array_cache import ArrayCache, Arrays
from datasets.common.bars import Bar
from datasets.common.errors import UserError
from datasets.common.processor import processor
from datasets.sequences import alphabet
from datasets.sequences.substitutions import substitutions
from datasets.task import Announce

MASKED, WILD_TYPE = "esm_masked_marginal", "esm_wild_type_marginal"
NAMES = (MASKED, WILD_TYPE)
VERSION = 1
"""Of the method: whatever changes the numbers has to raise it."""
_TOGETHER = 64  # passes, after which their results are kept: an interruption loses no more
_LOG_ODDS = "log_odds"

Table = NDArray[np.float64]
"""(L, 20): what a mutation of each position to each of `RESIDUES` adds; NaN where that is not computed yet."""


class LanguageModel(Protocol):
    """A masked language model of proteins with its weights.

    name: of the model. hash: SHA-256 of its weights, in hexadecimal digits. max_residues: the longest protein that it
    takes, None where there is no limit.
    """

    name: str
    hash: str
    max_residues: int | None

    def logits(self, residues: NDArray[np.uint8], masked: int | None) -> NDArray[np.float32]:
        """Return the logits (n, 20) of each of `RESIDUES` at each position of a protein.

        residues: (n,), ASCII codes. masked: the position that the model does not see; None is none. Threads may ask at
        the same time.
        """


def content_key() -> list[object]:
    """Return what the numbers depend on besides the weights and the wild type."""
    return [VERSION, version("torch"), processor()]


def checked_wild_type(wild_type: str | None, model: str) -> str:
    """Return the wild type that variants are compared with, which may be aligned.

    Raises:
        UserError: None is known, or it has letters that no protein has.
    """
    if wild_type is None:
        raise UserError(
            f"The scores of {model} (--zero-shot) compare variants with the wild type, and that is not known: name it "
            "with --wild-type FASTA, or leave the scores out."
        )
    foreign = sorted(set(wild_type) - set(alphabet.ALPHABET + alphabet.GAP))
    if foreign:
        raise UserError(
            f"The wild type has the letter {foreign[0]!r}, which {model} does not know: correct it, or leave "
            "--zero-shot out."
        )
    return wild_type


class LanguageModelScores:
    """K scores of variants of a wild type: higher is fitter, 0 is the wild type's. Threads may ask at the same time.

    What the model says of a position is computed once a variant has a mutation there, and kept in `cache_dir` by the
    weights, the wild type, the version of the method, torch's and the processor. Every pass is of one sequence on one
    thread, so that its bits depend neither on how many threads there are nor on what else is computed.

    Args:
        model: The model.
        wild_type: L residues. Beyond the model's limit it sees the window of that length around a position.
        names: Some of `NAMES`, K.
        cache_dir: The folder of caches.
        announce: Told of passes through the model, which take long.
        threads: On which passes run beside each other.
    """

    def __init__(
        self,
        model: LanguageModel,
        wild_type: str,
        *,
        names: Sequence[str] = NAMES,
        cache_dir: Path,
        announce: Announce = lambda sentence: None,
        threads: int = 1,
    ) -> None:
        self.names = tuple(names)
        self._model, self._wild_type, self._announce, self._threads = model, wild_type, announce, threads
        self._residues = np.frombuffer(wild_type.encode(), dtype=np.uint8)
        self._codes = CODES[self._residues].astype(np.int64)
        length = len(wild_type)
        self._size = min(length, model.max_residues or length)
        self._starts = (np.arange(length) - self._size // 2).clip(0, length - self._size)
        about = json.dumps([content_key(), model.hash, wild_type])
        self._key = hashlib.sha256(about.encode()).hexdigest()[:32]
        self._cache = ArrayCache(cache_dir / "language_models", f"scores of {model.name}", announce)
        self._tables = {name: np.full((length, len(RESIDUES)), np.nan) for name in self.names}
        self._lock = threading.Lock()

    def score(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores (N, K) of residues (N, L'), ASCII with zeros behind lengths (N,).

        A score is NaN for a variant of another length than the wild type's, and for a mutation of or to what is none of
        the 20 residues.
        """
        is_mutated = np.zeros(len(self._codes), dtype=np.bool_)
        for some in substitutions(residues, lengths, self._wild_type):
            is_mutated[some.positions[CODES[some.letters] != GAP]] = True
        positions = np.flatnonzero(is_mutated & (self._codes != GAP))
        with self._lock:
            for name in self.names:
                self._complete(name, positions)
            tables = [np.pad(self._tables[name], ((0, 0), (0, 1)), constant_values=np.nan) for name in self.names]
        scores = np.full((len(lengths), len(self.names)), np.nan, dtype=np.float32)
        for some in substitutions(residues, lengths, self._wild_type):
            letters = CODES[some.letters].astype(np.int64)
            scores[some.rows] = np.column_stack([some.sums(table[some.positions, letters]) for table in tables])
        return scores

    def _complete(self, name: str, positions: NDArray[np.int64]) -> None:
        """See that the table of a score has these positions (n,)."""
        table = self._tables[name]
        if not len(_missing(table, positions)):
            return
        key = f"{self._key}-{name}"
        _take(table, self._cache.read(key))
        missing = _missing(table, positions)
        if not len(missing):
            return
        # Without a mask one pass tells of all positions that have the same window.
        seen = missing if name == MASKED else missing[np.unique(self._starts[missing], return_index=True)[1]]
        what = f"{'pass' if len(seen) == 1 else 'passes'} of the wild type through {self._model.name}"
        self._announce(f"{len(seen):,} {what}, for {name}.")
        with Bar() as bar, one_thread_each(self._threads) as mapped:
            for first in range(0, len(seen), _TOGETHER):
                some = seen[first : first + _TOGETHER].tolist()
                bar.show(first, len(seen), what)
                for n_done, odds in enumerate(mapped(partial(self._odds, name), some), first + 1):
                    _take(table, {_LOG_ODDS: odds})
                    bar.show(n_done, len(seen), what)
                self._cache.update(key, lambda found: {_LOG_ODDS: _take(table, found)})

    def _odds(self, name: str, position: int) -> Table:
        """Return what a pass tells: of a position that was masked, or of all that have this one's window."""
        start = int(self._starts[position])
        window = slice(start, start + self._size)
        logits = self._model.logits(self._residues[window], position - start if name == MASKED else None)
        if not np.isfinite(logits).all():
            raise UserError(
                f"The weights of {self._model.name} give logits that are not finite, so they are damaged: bring whole "
                "ones, or leave --zero-shot out."
            )
        table = np.full((len(self._codes), len(RESIDUES)), np.nan)
        table[window] = logits
        own = table[np.arange(len(table)), self._codes.clip(max=len(RESIDUES) - 1)]
        table -= own[:, None]
        is_told = self._starts == start if name == WILD_TYPE else np.arange(len(table)) == position
        table[~is_told | (self._codes == GAP)] = np.nan
        return table


def _missing(table: Table, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of the positions (n,) that are not computed yet."""
    missing: NDArray[np.int64] = positions[np.isnan(table[positions, 0])]
    return missing


def _take(table: Table, found: Arrays | None) -> Table:
    """Write into a table what was found, where that is of its shape, and return it."""
    odds = None if found is None else found.get(_LOG_ODDS)
    if odds is not None and odds.shape == table.shape and odds.dtype == table.dtype:
        np.copyto(table, odds, where=~np.isnan(odds))
    return table
