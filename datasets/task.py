"""What a task is: one split of one dataset, and where its rows come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from datasets.common.errors import UserError, nearest
from datasets.sequences.chains import Chains
from datasets.sequences.crop import Crop, Region

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datasets.scores.language_model import LanguageModel

Shift = Literal["mutations", "fitness", "none"]
"""How test differs from train: its variants have more mutations, are fitter, or neither is known."""

Announce = Callable[[str], None]
"""Is told sentences that the user should see: warnings, and what takes long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundSource:
    """Content that was found but not read.

    `version` names the content (the git blob id of a file), `official` says that it is the dataset's own,
    and `label` is what every place that shows a result on it has to say. `is_own`: a user's own data, which was never
    meant to be the dataset's.
    """

    path: Path | None
    version: str
    official: bool
    label: str
    is_own: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RawSplit:
    """The rows of a split as text, nothing checked yet; all sequences have one item a row.

    `lines` are the 1-based line numbers in the source (the header is line 1), `content_hash` is the SHA-256
    of the source's bytes, and `where` names the source in error messages. `group`: the name of each row's group, None
    where no groups are known. `fold`: the name of each row's fold, None where the table names none. `error`: the
    standard error of each row's target, above 0, None where none are known.
    """

    sequence: Sequence[str]
    target: Sequence[str]
    part: Sequence[str]
    validation: Sequence[str]
    lines: Sequence[int]
    content_hash: str
    where: str
    group: Sequence[str] | None = None
    fold: Sequence[str] | None = None
    error: Sequence[float] | None = None


class ScoreColumns(Protocol):
    """Score columns of a task's variants, which are known without measuring them; see `datasets.scores`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns (K)."""

    @property
    def key(self) -> str:
        """Names the content: the same key, the same scores of the same sequences."""

    def with_models(self, models: Callable[[str], LanguageModel]) -> ScoreColumns:
        """The same, of which scores can be asked that are a language model's, which `models` finds by its name."""

    def check(self) -> None:
        """Refuse, by a UserError, files and weights that are missing or that have changed."""

    def score(
        self, residues: NDArray[np.uint8], lengths: NDArray[np.int64], *, cache_dir: Path, announce: Announce
    ) -> NDArray[np.float32]:
        """Return the scores (N, K) of residues (N, L) in ASCII, zeros behind lengths (N,); NaN where one is missing."""

    def judge(self, scores: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """Refuse, by a UserError, columns (N, K) that no training row has, or that follow from the targets (N,)."""


class KeptEmbeddings(Protocol):
    """Embeddings of a task's sequences, from a file; see `datasets.embeddings`."""

    @property
    def key(self) -> str:
        """Names the content: the same key, the same embeddings of the same sequences."""

    def check(self) -> None:
        """Refuse, by a UserError, a file that is missing or that has changed."""

    def is_kept(self, path: Path) -> bool:
        """Return whether `path` is what `keep` wrote, as far as its index tells."""

    def keep(self, path: Path, sequences: Iterable[bytes], what: str) -> None:
        """Write the embeddings of sequences to `path`; a UserError names what lacks one, as `what`."""


class Source(Protocol):
    """Where a dataset comes from: a file, or a generator."""

    def locate(self, *, data_dir: Path | None, announce: Announce) -> FoundSource:
        """Find the content without reading it; a UserError says where it was looked for."""

    def read(self, located: FoundSource, split: str) -> RawSplit:
        """Read a split; a UserError lists the splits there are if it is not among them."""

    def sizes(self, located: FoundSource, split: str) -> tuple[int, int, int]:
        """Return the numbers of train, validation and test rows of a split, without checking them."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One split of one dataset.

    `clean` turns a sequence as it was published into residues (it is the dataset's own preprocessing, and
    `clean_version` changes with it). `region` is where the variants differ from each other, None if that is
    everywhere; it is given in uncropped positions, as the crops are. `has_one_length`: whether all sequences are known,
    without reading them, to have as many residues. `units` are those of the target. A `retired`
    task is one that its authors have withdrawn: it can be searched, and whoever does is told. `shift` None is what the
    sequences show (see `datasets.validation.shifted`). `scores` are columns beside the sequences, None without any.
    `embeddings` are those of its sequences, None without any. `first_position` is the number of the wild type's first
    residue wherever mutations and positions are read or written; `region` and crops count from 0 all the same. `whole`:
    of one of several properties, the task of all rows that any of them has, whose targets mean nothing: parts and folds
    are those of its rows. `has_rounds`: its folds are rounds of measurement. `aligned_length`: the columns of the
    alignment that all sequences stand in, `-` where one has no residue; None where they hold no gaps. `chains`: of
    proteins of several chains, what the columns of `clean`ed sequences are.
    """

    name: str
    dataset: str
    split: str
    source: Source
    clean: Callable[[str], str]
    clean_version: int
    crops: Mapping[str, Crop]
    default_crop: str
    region: Region | None
    wild_type: str | None
    units: str
    retired: bool = False
    shift: Shift | None = None
    scores: ScoreColumns | None = None
    embeddings: KeptEmbeddings | None = None
    has_one_length: bool = False
    first_position: int = 1
    whole: Task | None = None
    has_rounds: bool = False
    aligned_length: int | None = None
    chains: Chains | None = None

    def position(self, place: int) -> str:
        """Return what the position at a place of the sequence, counted from 0, is called: `39`, or `H39` in a chain."""
        return str(place + self.first_position) if self.chains is None else self.chains.position(place)

    def mutation(self, place: int, before: str, after: str) -> str:
        """Return what a mutation at a place of the sequence, counted from 0, is called: `V39A`, or `H:V39A`."""
        if self.chains is not None:
            return self.chains.mutation(place, before, after)
        return f"{before}{place + self.first_position}{after}"

    def written(self, sequence: str) -> str:
        """Return a sequence as people write it, with `|` between its chains."""
        return sequence if self.chains is None else self.chains.written(sequence)

    def __post_init__(self) -> None:
        """Check what no user can get wrong."""
        if self.default_crop not in self.crops:
            raise ValueError(f"{self.name}: the default crop {self.default_crop!r} is not one of {[*self.crops]}")

    def crop(self, name: str | None) -> Crop:
        """Return the named crop, the default one for None; a UserError lists those there are."""
        name = self.default_crop if name is None else name
        if name not in self.crops:
            raise UserError(
                f"Task {self.name!r} has no crop {name!r}; it has {', '.join(map(repr, self.crops))}."
                + nearest(name, self.crops)
            )
        return self.crops[name]
