"""The score columns of candidates: computed, looked up in a file, or given beside them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.files import named_hash
from datasets.scores.description import ScoreConfig, ScoreSource
from datasets.scores.keyed import KeyedScores, read_scores_file
from datasets.scores.score_set import Scorer, ScoreSet
from datasets.sequences.chains import Chains
from datasets.tables.read import read_columns
from datasets.task import Announce

if TYPE_CHECKING:
    from datasets.scores.language_model import LanguageModel


_ALMOST_NONE = 1e-3
"""Of the largest score of a single mutation: what the wild type's may be for rounding."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Summed:
    """Scores of variants as the sum of those of their single mutations; NaN where one of these is not known.

    wild_type: (L,) ASCII codes. values: (L, 128, K), of each residue at each position; 0 for the wild type's.
    """

    names: tuple[str, ...]
    wild_type: NDArray[np.uint8]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, singles: KeyedScores, wild_type: str) -> Summed:
        """Take the single mutants among the sequences that have scores.

        Raises:
            UserError: There are none, or the wild type has a score of its own, which a sum of no mutations has not.
        """
        letters = np.frombuffer(wild_type.encode(), dtype=np.uint8)
        values = np.full((len(letters), 128, len(singles.names)), np.nan, dtype=np.float32)
        values[np.arange(len(letters)), letters] = 0
        n = 0
        for sequence, row in singles.rows.items():
            if len(sequence) != len(letters):
                continue
            differs = np.flatnonzero(np.frombuffer(sequence, dtype=np.uint8) != letters)
            if len(differs) == 1:
                values[differs[0], sequence[differs[0]]] = singles.values[row]
                n += 1
        if not n:
            raise UserError(
                "--sum-zero-shot adds up the scores of single mutations, and the --zero-shot-file has none of the wild "
                "type: give a file with rows such as V39A, or leave the option out."
            )
        own = singles.rows.get(wild_type.encode())
        of_wild_type = np.zeros(len(singles.names)) if own is None else np.nan_to_num(singles.values[own])
        largest = np.nanmax(np.abs(values), axis=(0, 1))
        for name, score, most in zip(singles.names, of_wild_type, largest, strict=True):
            if abs(score) > _ALMOST_NONE * most:
                raise UserError(
                    f"--sum-zero-shot adds up differences from the wild type, and the --zero-shot-file gives the wild "
                    f"type a {name!r} of {score:g}, not 0: subtract that from all of them, or leave the option out."
                )
        return cls(names=singles.names, wild_type=letters, values=values)

    def score(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """As `KeyedScores.score`; variants of another length than the wild type's have none."""
        found = np.full((len(lengths), len(self.names)), np.nan, dtype=np.float32)
        length = len(self.wild_type)
        same = np.flatnonzero(lengths == length)
        if len(same):
            places = np.flatnonzero((residues[same, :length] != self.wild_type).any(axis=0))
            chosen = residues[np.ix_(same, places)]
            found[same] = self.values[places, chosen].sum(axis=1)
        return found


class CandidateScores:
    """Gives the K score columns of candidates, in the order in which the model was trained with them.

    Columns that the model does not see are left out (NaN), so nobody has to bring them. Threads may ask at once.

    Args:
        scores: what the experiment says of its columns.
        wild_type: of its task. first_position: the number of its first residue in mutations. chains: what its columns
            are, if several.
        file: scores of the candidates, in columns of the same names; what it lacks, or all without one, stands beside
            them.
        sums: the file has single mutations, and what a candidate has is the sum of the scores of its own.
        given: the names of score columns that stand beside the candidates.
        alignment: where the alignment stands now; None is where it was.
        models: finds the language model of a name.
        announce: told of passes through it, which take long.
    """

    def __init__(
        self,
        scores: ScoreConfig,
        *,
        wild_type: str | None,
        first_position: int = 1,
        chains: Chains | None = None,
        file: Path | None = None,
        sums: bool = False,
        given: Sequence[str] = (),
        alignment: Path | None = None,
        models: Callable[[str], LanguageModel] | None = None,
        cache_dir: Path,
        announce: Announce,
    ) -> None:
        self._names, self._used = scores.names, scores.used
        self._announce, self._may_be_summed = announce, file is not None and not sums
        self._lock = threading.Lock()
        self._n_counted, self._n_lacking = 0, np.zeros(len(self._names), dtype=np.int64)
        used = {self._names[number] for number in scores.used}
        self._scorers: list[Scorer] = []
        self._given: list[str] = []
        for source in scores.sources:
            wanted = [name for name in source.columns if name in used]
            if not wanted:
                continue
            if source.kind in ("alignment", "language_model"):  # made of the sequences
                here, tell = replace(source, columns=wanted), announce
                if source.kind == "alignment":
                    here = here if alignment is None else here.at(alignment)
                    tell = lambda sentence: None  # noqa: E731 (training said what was found)
                own = ScoreConfig(sources=[here], use="all")
                columns = ScoreSet(scores=own, wild_type=wild_type, models=models, chains=chains)
                self._scorers += columns.scorers(cache_dir=cache_dir, announce=tell)
                continue
            beside = lacking_in(file, wanted)
            if of_file := [name for name in wanted if name not in beside]:
                assert file is not None
                self._scorers.append(_of_file(file, of_file, wild_type, first_position, chains, sums=sums))
            if beside and not set(beside) - set(given):
                self._given += beside
            elif beside:
                self._scorers.append(_of_training(source, beside, wild_type, first_position, chains, given, file))

    def __call__(
        self,
        residues: NDArray[np.uint8],
        lengths: NDArray[np.int64],
        given: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> NDArray[np.float32]:
        """Return the scores (n, K) of residues (n, L), zeros behind lengths (n,); `given` (n) stood beside them."""
        columns = dict.fromkeys(self._names, np.full(len(lengths), np.nan, dtype=np.float32))
        for name in self._given:
            assert given is not None
            columns[name] = given[name]
        for scorer in self._scorers:
            columns |= zip(scorer.names, scorer.score(residues, lengths).T, strict=True)
        return np.column_stack([columns[name] for name in self._names])

    def count(self, scores: NDArray[np.float32]) -> None:
        """Count the candidates, and those without a score that the model sees, of scores (n, K) as they were given."""
        with self._lock:
            self._n_counted += len(scores)
            self._n_lacking[self._used] += np.isnan(scores[:, self._used]).sum(axis=0)

    def announce_lacking(self) -> None:
        """Say how many of the counted candidates lack a score that the model sees, and count anew."""
        with self._lock:
            n_all, n_lacking = self._n_counted, self._n_lacking.tolist()
            self._n_counted, self._n_lacking = 0, np.zeros_like(self._n_lacking)
        lacking = [
            f"{n:,} lack{'s' * (n == 1)} the score {name!r}"
            for n, name in zip(n_lacking, self._names, strict=True)
            if n
        ]
        if lacking:
            summed = " (--sum-zero-shot adds up what the file has of single mutations)" * self._may_be_summed
            self._announce(
                f"Of {n_all:,} candidate{'s' * (n_all != 1)} {', '.join(lacking)}: the mean of the training rows "
                f"stands for what is missing{summed}."
            )


def lacking_in(file: Path | None, names: Sequence[str]) -> list[str]:
    """Return those of the score columns that have to stand beside candidates, because no file of scores has them."""
    if file is None or not names:
        return list(names)
    cells = read_columns(file).cells
    return [name for name in names if name not in cells]


def _of_file(
    file: Path, names: list[str], wild_type: str | None, first_position: int, chains: Chains | None, *, sums: bool
) -> Scorer:
    found = read_scores_file(file, names, wild_type, first_position, chains)
    if not sums:
        return found
    if wild_type is None:
        raise UserError("--sum-zero-shot needs the wild type, and that is not known of this experiment: leave it out.")
    return Summed.of(found, wild_type)


def _of_training(
    source: ScoreSource,
    names: list[str],
    wild_type: str | None,
    first_position: int,
    chains: Chains | None,
    given: Sequence[str],
    file: Path | None,
) -> Scorer:
    """The file of scores that training had, if it is still there; `file` has none of these columns."""
    if (
        source.file is not None
        and Path(source.file).exists()
        and named_hash(Path(source.file), "scores") == source.hash
    ):
        return read_scores_file(Path(source.file), names, wild_type, first_position, chains)
    lacking = next(name for name in names if name not in given)
    where = "the candidates lack" if file is None else f"neither {file} nor the candidates have"
    raise UserError(
        f"This experiment was trained with the score column {lacking!r}, which {where}: give it in a column of that "
        "name, or in a file with --zero-shot-file."
    )
