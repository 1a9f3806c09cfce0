"""Which score columns a run has, and which of them its model sees: what configs and experiment files hold."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from datasets.common.errors import UserError, nearest

SourceKind = Literal["table", "file", "alignment", "language_model"]
NONE, ALL = "none", "all"
_OF_FILES = ("file", "alignment")
_NAME = re.compile(r"[^\x00-\x1f\x7f,$]{1,100}")  # a comma divides names, a dollar begins an interpolation


@dataclass(frozen=True, kw_only=True)
class ScoreSource:
    """Where some score columns come from.

    kind: `table`, the user's own table; `file`, another one, keyed by sequence or by mutations; `alignment`;
    `language_model`.
    file: as the user named it; None for the table, which the run names already, and for a language model.
    hash: SHA-256, in hexadecimal digits, of what the scores are made of: the file, the table's scores, the weights.
    columns: their names; those of an alignment and of a language model are the methods, such as `couplings`.
    backbone: the name of a language model, None for other kinds. chain: of a protein of several, the one that an
    alignment is of; None of one chain.
    """

    kind: SourceKind
    file: str | None
    hash: str
    columns: list[str]
    backbone: str | None = None
    chain: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no search writes, whoever wrote it."""
        if not re.fullmatch(r"[0-9a-f]{64}", self.hash):
            raise UserError(f"scores: the hash {self.hash[:80]!r} is not valid: expected 64 hexadecimal digits.")
        if not self.columns or not all(_NAME.fullmatch(name) for name in self.columns):
            raise UserError(
                f"scores: the columns {self.columns!r} are not valid: expected one name or more of at most 100 "
                "letters, without commas, dollars and control characters: rename what is called otherwise."
            )
        if self.file is not None and "$" in self.file:
            raise UserError(f"The file of scores {self.file!r} has a dollar in its name: rename it.")
        if (self.kind in _OF_FILES) != (self.file is not None):
            raise UserError(f"scores: a source of kind {self.kind!r} and the file {self.file!r} do not go together.")
        if self.chain is not None and (self.kind != "alignment" or not re.fullmatch("[A-Z]", self.chain)):
            raise UserError(f"scores: the chain {self.chain!r} is not valid: expected a letter, of an alignment.")
        if (self.kind == "language_model") != (self.backbone is not None):
            raise UserError(
                f"scores: a source of kind {self.kind!r} and the language model {self.backbone!r} do not go together."
            )

    def at(self, file: Path) -> ScoreSource:
        """The same, whose file stands elsewhere now; of a chain it may be named as for a search, `H=FILE`.

        Raises:
            UserError: Another chain is named.
        """
        chain, is_named, rest = str(file).partition("=")
        if self.chain is None or not is_named or not re.fullmatch("[A-Za-z]", chain):
            return replace(self, file=str(file))
        if chain.upper() != self.chain:
            raise UserError(
                f"--alignment {file} is of the chain {chain.upper()}, and the experiment's scores are of the chain "
                f"{self.chain}: name that one's, {self.chain}=FILE."
            )
        return replace(self, file=rest)

    @property
    def tree(self) -> dict[str, Any]:
        """Its fields; of those that came later only what says something."""
        later = ("backbone", "chain")
        return {key: value for key, value in asdict(self).items() if value is not None or key not in later}


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """The score columns of a run, K in all, in the order of their sources.

    use: which of them the model sees: `all`, `none`, or some by their names, divided by commas. It may be searched.
    allow_derived: whether a column may follow from the target, or agree with it better than a score can.
    """

    sources: list[ScoreSource]
    use: str
    allow_derived: bool = False

    def __post_init__(self) -> None:
        """Refuse names that stand twice, and a choice of columns that there are not."""
        if not self.sources:
            raise UserError("scores: no source is named: expected one or more.")
        twice = [name for name in self.names if self.names.count(name) > 1 or name in (NONE, ALL)]
        if twice:
            raise UserError(f"The score column {twice[0]!r} has a name that is taken: give it another one.")
        self.used  # noqa: B018  # refuses names that there are not

    @property
    def names(self) -> list[str]:
        """All columns (K)."""
        return [name for source in self.sources for name in source.columns]

    @property
    def used(self) -> list[int]:
        """The numbers of the columns that the model sees, ascending."""
        if self.use in (NONE, ALL):
            return list(range(len(self.names))) if self.use == ALL else []
        wanted = [name.strip() for name in self.use.split(",")]
        names = [name.strip() for name in self.names]
        for name in wanted:
            if name not in names:
                known = [ALL, NONE, *self.names]
                raise UserError(
                    f"scores.use={self.use!r} is not valid: {name!r} is no score column; expected "
                    f"{', '.join(known)}.{nearest(name, known)}"
                )
        return [number for number, name in enumerate(names) if name in wanted]

    @property
    def seen(self) -> list[ScoreSource]:
        """The sources of which the model sees a column."""
        used = {self.names[number] for number in self.used}
        return [source for source in self.sources if used & {*source.columns}]

    @property
    def tree(self) -> dict[str, Any]:
        """What configs and experiment files hold."""
        return {**asdict(self), "sources": [source.tree for source in self.sources]}

    def with_alignment(self, file: Path | None) -> ScoreConfig:
        """The same, whose alignment stands in that file now; None: where it was. Errors are those of `at`."""
        if file is None:
            return self
        sources = [source.at(file) if source.kind == "alignment" else source for source in self.sources]
        return replace(self, sources=sources)

    @property
    def settings(self) -> dict[str, Any]:
        """What a study records: all but where the files are, and what is searched."""
        sources = [{key: value for key, value in source.tree.items() if key != "file"} for source in self.sources]
        return {"sources": sources} | ({"allow_derived": True} if self.allow_derived else {})

    @property
    def choices(self) -> list[str]:
        """What a search chooses `use` from: nothing, each column alone, and all of them."""
        return [NONE, *self.names, *([ALL] if len(self.names) > 1 else [])]
