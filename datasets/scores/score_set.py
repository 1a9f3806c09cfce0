"""All score columns of a run: read, or made, and looked up for any sequences."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.alignments.names import VERSION as ALIGNMENT_VERSION
from datasets.common.errors import UserError
from datasets.common.files import named_hash
from datasets.scores.aligned import AlignedScores, ChainScores
from datasets.scores.description import ScoreConfig, ScoreSource
from datasets.scores.judge import refuse_derived
from datasets.scores.keyed import VERSION as FILE_VERSION
from datasets.scores.keyed import KeyedScores, keyed, read_scores_file, score_matrix
from datasets.sequences.alphabet import GAP
from datasets.sequences.chains import Chains
from datasets.tables.table import Table
from datasets.task import Announce

if TYPE_CHECKING:
    from datasets.scores.language_model import LanguageModel
    from datasets.tables.survey import Survey


class Scorer(Protocol):
    """Gives the K scores of any sequences."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns (K)."""

    def score(self, residues: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores (N, K) of residues (N, L), ASCII codes with zeros behind lengths (N,); NaN: missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSet:
    """The score columns that `scores` describes, of variants of `wild_type`; nothing is read until it is asked for.

    first_position: the number of the wild type's first residue in mutations. chains: what its columns are, if several.

    table, table_path: the user's own table, which scores of kind `table` come from; `loaded` is what was read of it.
    models: finds the language model of a name, for scores of that kind; only whoever asks for scores needs it.
    """

    scores: ScoreConfig
    wild_type: str | None
    first_position: int = 1
    table: Table | None = None
    table_path: Path | None = None
    loaded: Survey | None = None
    models: Callable[[str], LanguageModel] | None = None
    chains: Chains | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns (K), in the order of their sources."""
        return tuple(self.scores.names)

    @property
    def key(self) -> str:
        """Names the content: the same key, the same scores of the same sequences."""
        parts: list[object] = [(one.kind, one.hash, list(one.columns), _version(one)) for one in self.scores.sources]
        parts += [one.chain for one in self.scores.sources if one.chain is not None]
        known: list[object] = [parts, self.wild_type, self.scores.allow_derived]
        known += [self.first_position] if self.first_position != 1 else []  # keys are as before there was such a field
        known += [] if self.chains is None else [str(self.chains)]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()

    def with_models(self, models: Callable[[str], LanguageModel]) -> ScoreSet:
        """The same, of which scores can be asked that are a language model's."""
        return replace(self, models=models)

    def check(self) -> None:
        """Refuse, by a UserError, files and weights that are missing or that have changed since they were named."""
        for source in self.scores.sources:
            remedy = "put the file back where it was"
            if source.kind == "alignment":
                remedy += ", or tell predict and suggest where it is now with --alignment"
            if source.file is not None and (found := named_hash(Path(source.file), "scores", remedy)) != source.hash:
                raise changed(source, found)
            if source.backbone is not None and (found := self._model(source.backbone).hash) != source.hash:
                raise changed(source, found)

    def _model(self, name: str) -> LanguageModel:
        assert self.models is not None, "whoever asks for the scores of a language model says where it is found"
        return self.models(name)

    def score(
        self, residues: NDArray[np.uint8], lengths: NDArray[np.int64], *, cache_dir: Path, announce: Announce
    ) -> NDArray[np.float32]:
        """Return the scores (N, K) of residues (N, L), ASCII codes with zeros behind lengths (N,); NaN: missing.

        Raises:
            UserError: A file is missing, has changed, or does not hold what it should.
        """
        parts = [scorer.score(residues, lengths) for scorer in self.scorers(cache_dir=cache_dir, announce=announce)]
        return np.concatenate(parts, axis=1)

    def judge(self, scores: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """Refuse, by a UserError, columns (N, K) that no training row has, and those that follow from the targets (N,).

        The latter may be allowed.
        """
        for name, column in zip(self.names, scores.T, strict=True):
            if not np.isfinite(column).any():
                raise UserError(f"None of {len(column):,} training variants has a score {name!r}: leave it out.")
        if not self.scores.allow_derived:
            refuse_derived(self.names, scores, target)

    def scorers(self, *, cache_dir: Path, announce: Announce) -> Iterable[Scorer]:
        """Yield what scores the columns of each source."""
        self.check()
        for source in self.scores.sources:
            yield self._scorer(source, cache_dir=cache_dir, announce=announce)

    def _scorer(self, source: ScoreSource, *, cache_dir: Path, announce: Announce) -> Scorer:
        if source.chain is not None:
            return self._of_chain(source, source.chain, cache_dir=cache_dir, announce=announce)
        if source.kind in ("language_model", "alignment") and self.wild_type is not None and GAP in self.wild_type:
            bare = replace(self, wild_type=self.wild_type.replace(GAP, ""))
            scorer = bare._scorer(source, cache_dir=cache_dir, announce=announce)
            return AlignedScores(scorer=scorer, wild_type=self.wild_type)
        if source.kind == "table":
            assert self.table is not None
            assert self.table_path is not None
            found = table_scores(self.table, self.table_path, source.columns, self.loaded)
            if found.hash != source.hash:
                raise changed(source, found.hash)
            return found
        if source.backbone is not None:
            from datasets.scores.language_model import LanguageModelScores, checked_wild_type  # they import torch

            return LanguageModelScores(
                self._model(source.backbone),
                checked_wild_type(self.wild_type, source.backbone),
                names=source.columns,
                cache_dir=cache_dir,
                announce=announce,
                threads=os.cpu_count() or 1,
            )
        assert source.file is not None
        if source.kind == "alignment":
            if self.first_position != 1:
                announce(f"{source.file}: what is said of it counts the wild type's residues from 1.")
            return alignment_scores(source, self.wild_type, cache_dir=cache_dir, announce=announce)
        return read_scores_file(Path(source.file), source.columns, self.wild_type, self.first_position, self.chains)

    def _of_chain(self, source: ScoreSource, chain: str, *, cache_dir: Path, announce: Announce) -> Scorer:
        if self.chains is None or chain not in self.chains.names:
            names = "one chain" if self.chains is None else f"the chains {', '.join(self.chains.names)}"
            raise UserError(f"The alignment {source.file} is of the chain {chain}, and these variants have {names}.")
        number = self.chains.names.index(chain)
        start, stop = self.chains.starts[number], self.chains.starts[number] + self.chains.lengths[number]
        own = None if self.wild_type is None else self.wild_type[start:stop]
        alone = replace(self, wild_type=own, chains=None)
        scorer = alone._scorer(replace(source, chain=None), cache_dir=cache_dir, announce=announce)
        return ChainScores(scorer=scorer, start=start, stop=stop)


def _version(source: ScoreSource) -> object:
    """What the numbers of a source depend on besides its hash."""
    if source.kind == "language_model":
        from datasets.scores.language_model import content_key  # as above

        return content_key()
    return {"alignment": ALIGNMENT_VERSION, "file": FILE_VERSION}.get(source.kind)


def alignment_scores(source: ScoreSource, wild_type: str | None, *, cache_dir: Path, announce: Announce) -> Scorer:
    """Return what an alignment says of variants of the wild type; `announce` is told what was found in it.

    Raises:
        UserError: The wild type is not known, or the file is no alignment of it.
    """
    # Imported as late as this, because couplings take torch.
    from datasets.alignments.scores import make_alignment_scores

    assert source.file is not None
    if wild_type is None:
        raise UserError(
            f"The alignment {source.file} has to be matched to the wild type, and that is not known: name it with "
            "--wild-type FASTA."
        )
    found = make_alignment_scores(
        Path(source.file),
        wild_type,
        names=source.columns,
        cache_dir=cache_dir,
        announce=announce,
        threads=os.cpu_count() or 1,
    )
    for sentence in found.sentences:
        announce(f"{source.file}: {sentence}")
    return found


def table_scores(table: Table, path: Path, names: list[str], loaded: Survey | None = None) -> KeyedScores:
    """Return score columns of a user's own table, by the sequences of its variants.

    Of a variant that was measured several times the first score that there is counts.
    """
    # Imported as late as this, so that usage errors do not wait for NumPy's neighbours.
    from datasets.tables.survey import survey

    found = loaded or survey(path, table, is_reread=True)
    columns = found.columns
    rows = np.searchsorted(columns.lines, found.good_lines)
    chosen = replace(
        columns,
        cells={name: cells.take(rows) for name, cells in columns.cells.items() if name in names},
        lines=found.good_lines,
    )
    if set(names) - set(chosen.cells):
        score_matrix(columns, names)  # says which is missing
    return keyed(found.sequences.slices(), chosen, names, found.variant)


def changed(source: ScoreSource, found: str) -> UserError:
    """The error for scores that are not those of before."""
    what = "The table's scores" if source.file is None else f"The scores {source.file}"
    remedy = "bring the file of then, or search again with the new one"
    if source.backbone is not None:
        what = f"The weights of {source.backbone}"
        remedy = "name the folder of those of then with --weights-dir, or search again with the new ones"
    return UserError(
        f"{what} ({', '.join(source.columns)}) have changed: their hash is {found[:12]}..., that of the search "
        f"{source.hash[:12]}...: {remedy}."
    )
