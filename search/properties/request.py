"""What is predicted and by what it is ranked, whether from Python or from the command line."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.common.errors import UserError
from search.options.values import mutagenesis, requirements
from search.request.fields import set_paths, set_whole, several_paths
from search.request.search_request import runs_folder
from search.request.suggest_request import SuggestRequest

_PATHS = ("output", "input", "zero_shot_file", "alignment", "embeddings", "data")
_FOLDERS = ("runs_dir", "data_dir", "weights_dir")
_OF_FILES = ("names", "format", "sequence_column", "mutation_column", "sheet")
MOST_EXPERIMENTS = 16


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Candidates, and the experiments that predict them; the options of `predict` have the same names.

    Args:
        experiments: Their files, one for each property.
        sequences: Whole sequences. Or `input`: a file of candidates. Or `mutagenesis`: `singles`, `sites:39,40`.
        require: What properties have to be, `stability>=0.5`: candidates are ranked by the chance that they are.
        top: The best so many, sorted; None is all, in their order.
        exclude_measured: Whether variants that were measured for any of the properties are left out.
        no_distance: Whether the distances to the nearest training sequences, and the training data, are left out.
        level: Of the intervals; None is 0.9.
        output: A file that is written; None writes nothing.
        names, format, sequence_column, mutation_column, sheet: Of the file of candidates.
        zero_shot_file, sum_zero_shot, alignment, embeddings: What models see beside sequences, as for `predict`.
        data: The table, where it stands elsewhere by now.
        runs_dir, data_dir, weights_dir: Folders, as for a search.
        quiet: Whether progress stays unsaid.

    Raises:
        datasets.common.errors.UserError: A value is not valid.
    """

    experiments: Sequence[Path]
    sequences: Sequence[str] | None = None
    input: Path | None = None
    mutagenesis: Any = None
    require: Sequence[Any] = ()
    top: int | None = None
    exclude_measured: bool = False
    no_distance: bool = False
    level: float | None = None
    output: Path | None = None
    names: bool = False
    format: Any = None
    sequence_column: str | None = None
    mutation_column: str | None = None
    sheet: str | None = None
    zero_shot_file: Path | None = None
    sum_zero_shot: bool = False
    alignment: Path | None = None
    embeddings: Path | None = None
    data: Path | None = None
    runs_dir: Path = field(default_factory=runs_folder)
    data_dir: Path | None = None
    weights_dir: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Refuse at once what needs no experiment to be seen."""
        set_paths(self, (*_PATHS, *_FOLDERS))
        given: Any = self.experiments
        given = [given] if isinstance(given, str | os.PathLike) else given
        object.__setattr__(self, "experiments", several_paths("experiments", given))
        check_experiments(self.experiments)
        try:
            if isinstance(self.mutagenesis, str):
                object.__setattr__(self, "mutagenesis", mutagenesis(self.mutagenesis))
            object.__setattr__(self, "require", requirements(self.require))
        except argparse.ArgumentTypeError as error:
            raise UserError(f"{error}.") from None
        self._check_candidates()
        set_whole(self, ("top",), least=1, may_be_none=True)
        if self.level is not None and not 0 < self.level < 1:
            raise UserError(f"--level {self.level} is not valid: expected a number above 0 and below 1, such as 0.9.")

    def _check_candidates(self) -> None:
        if sum(given is not None for given in (self.sequences, self.input, self.mutagenesis)) != 1:
            raise UserError("Candidates are sequences, an --input or a --mutagenesis: give one of them.")
        for name in _OF_FILES:
            if getattr(self, name) and self.input is None:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} goes with --input, the file whose candidates it is about.")
        if self.sum_zero_shot and self.zero_shot_file is None:
            raise UserError(
                "--sum-zero-shot adds up scores of single mutations: name their file with --zero-shot-file."
            )


AnyRequest = PredictRequest | SuggestRequest
"""What candidates there are, and what models see of them."""


def check_experiments(experiments: Sequence[Path]) -> None:
    """Refuse none, too many, and one that is named twice. Raises a UserError."""
    if not 1 <= len(experiments) <= MOST_EXPERIMENTS:
        raise UserError(f"{len(experiments)} experiments are given: expected 1 to {MOST_EXPERIMENTS}, one a property.")
    seen: set[str] = set()
    for path in experiments:
        real = os.path.realpath(path)
        if real in seen:
            raise UserError(f"{path} is given twice: name one experiment for each property.")
        seen.add(real)
