"""What the next plate is asked for, whether from Python or from the command line."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.common.errors import UserError
from search.options.of_suggest import ACQUISITIONS, BATCH_UCB, PLATES
from search.options.values import mutagenesis, requirements
from search.request.fields import set_paths, set_whole, several_paths
from search.request.search_request import runs_folder

MOST_WELLS = 100_000
"""Of a batch."""
MOST_TOGETHER = 1000
"""Of a batch whose candidates depend on each other: time grows with the square of their number."""
_PATHS = ("experiment", "output", "figure", "input", "zero_shot_file", "alignment", "embeddings", "data")
_FOLDERS = ("runs_dir", "data_dir", "weights_dir")
_WHOLE = ("max_mutations", "max_per_position", "min_distance", "plate", "recombine")
_USUAL_MUTATIONS = 3
_LARGEST_SEED = 999_999_999


@dataclass(frozen=True, kw_only=True)
class SuggestRequest:
    """What is picked, from what, by what; the options of `suggest` have the same names (docs/suggest.md).

    Args:
        experiment: Its file.
        others: Those of other properties: the batch is picked by all of them (see `search.suggestion.several`).
        require: What properties have to be, `stability>=0.5`.
        batch: How many wells, those of the controls among them.
        output: FILE.csv, beside which FILE.json is written; None writes nothing.
        figure: FILE.html, .png or .svg: where the batch lies.
        input: A file of candidates. Or `mutagenesis`: `singles`, `doubles`, `sites:39,40`. Or `recombine`: True, or how
            many of the best measured mutations.
        max_mutations: Of a candidate of `recombine`.
        sequence_column, mutation_column, sheet: Where the candidates stand in the file; as for `predict`.
        names: Whether candidates keep the names of the file; `format` is that of the file, where its name misleads.
        zero_shot_file, sum_zero_shot, alignment, embeddings: As for `predict`.
        acquisition: By what candidates are picked; None is `batch-ucb` where a single kernel on sequences picks, and
            `greedy` elsewhere. `beta` is of `ucb` and `batch-ucb`, `seed` of `thompson`.
        max_per_position: At most so many candidates with a mutation at one position of the wild type.
        min_distance: In how many residues candidates differ from each other at least.
        spread: How much it counts that candidates are unlike each other, beside their acquisition; True is 1, None does
            without.
        train: Whether models are trained on all that was measured before they pick; None is True, but for `thompson`,
            whose draws are from the several models of a search.
        controls: Wells of each plate for the wild type and the best measured variant, in turn.
        plate: 96 or 384 wells; None names no wells.
        level: Of the intervals; None is 0.9.
        data: The table, where it stands elsewhere by now.
        runs_dir, data_dir, weights_dir: Folders, as for a search.
        quiet: Whether progress stays unsaid.

    Raises:
        datasets.common.errors.UserError: A value is not valid.
    """

    experiment: Path
    batch: int
    output: Path | None = None
    figure: Path | None = None
    input: Path | None = None
    mutagenesis: Any = None
    recombine: int | bool | None = None
    max_mutations: int | None = None
    sequence_column: str | tuple[str, ...] | None = None
    mutation_column: str | None = None
    sheet: str | None = None
    names: bool = False
    format: Any = None
    zero_shot_file: Path | None = None
    sum_zero_shot: bool = False
    alignment: Path | None = None
    embeddings: Path | None = None
    acquisition: str | None = None
    beta: float | None = None
    seed: int = 0
    max_per_position: int | None = None
    min_distance: int | None = None
    spread: float | bool | None = None
    train: bool | None = None
    controls: int = 0
    plate: int | None = None
    level: float | None = None
    data: Path | None = None
    runs_dir: Path = field(default_factory=runs_folder)
    data_dir: Path | None = None
    weights_dir: Path | None = None
    quiet: bool = False
    others: Sequence[Path] = ()
    require: Sequence[Any] = ()

    def __post_init__(self) -> None:
        """Refuse at once what needs no experiment to be seen."""
        set_paths(self, (*_PATHS, *_FOLDERS))
        if isinstance(self.mutagenesis, str):
            try:
                object.__setattr__(self, "mutagenesis", mutagenesis(self.mutagenesis))
            except argparse.ArgumentTypeError as error:
                raise UserError(f"--mutagenesis {error}.") from None
        elif isinstance(self.mutagenesis, list):
            raise UserError('mutagenesis is of type list: expected a text, such as "singles" or "sites:39,40,41,54".')
        if isinstance(self.recombine, bool):
            object.__setattr__(self, "recombine", 0 if self.recombine else None)
        set_whole(self, ("batch", "seed", "controls"))
        set_whole(self, _WHOLE, may_be_none=True)
        try:
            object.__setattr__(self, "require", requirements(self.require))
        except argparse.ArgumentTypeError as error:
            raise UserError(f"--require {error}.") from None
        object.__setattr__(self, "others", several_paths("others", self.others))
        self._check_candidates()
        self._check_choice()
        self._check_wells()

    @property
    def most_mutations(self) -> int:
        """Of a recombined candidate."""
        return _USUAL_MUTATIONS if self.max_mutations is None else self.max_mutations

    @property
    def deviations(self) -> float:
        """How many are added by `ucb`."""
        return 1.0 if self.beta is None else self.beta

    @property
    def trains(self) -> bool:
        """Whether the batch is picked by models that saw all that was measured."""
        return self.acquisition != "thompson" if self.train is None else self.train

    @property
    def spread_weight(self) -> float | None:
        """That of unlikeness; None where the best are taken as they come."""
        return None if self.spread is None or self.spread is False else float(self.spread)

    def _check_candidates(self) -> None:
        if sum(given is not None for given in (self.input, self.mutagenesis, self.recombine)) != 1:
            raise UserError("Candidates come from one of --input, --mutagenesis and --recombine: give one of them.")
        if self.max_mutations is not None and self.recombine is None:
            raise UserError("--max-mutations is of the candidates of --recombine: give both, or neither.")
        for name in ("names", "format", "sequence_column", "mutation_column", "sheet"):
            if getattr(self, name) and self.input is None:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} goes with --input, the file whose candidates it is about.")
        if self.sum_zero_shot and self.zero_shot_file is None:
            raise UserError(
                "--sum-zero-shot adds up scores of single mutations: name their file with --zero-shot-file."
            )

    def _check_choice(self) -> None:
        known = (*ACQUISITIONS, BATCH_UCB)
        if self.acquisition is not None and self.acquisition not in known:
            raise UserError(f"--acquisition {self.acquisition!r} is not valid: expected {', '.join(known)}.")
        if self.beta is not None and self.acquisition not in ("ucb", BATCH_UCB):
            raise UserError("--beta says what --acquisition ucb or batch-ucb adds: give both, or neither.")
        if not (math.isfinite(self.deviations) and self.deviations >= 0):
            raise UserError(f"--beta {self.beta} is not valid: expected a number from 0 on, such as 0.5.")
        for name in ("max_mutations", "max_per_position", "min_distance", "recombine"):
            value, least = getattr(self, name), int(name != "recombine")
            if value is not None and value < least:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} {value} is not valid: expected a whole number from 1 on.")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise UserError(f"--seed {self.seed} is not valid: expected a whole number from 0 to {_LARGEST_SEED}.")
        if not isinstance(self.train, bool | None):
            raise UserError(f"train={self.train!r} is not valid: expected True, False or None.")
        if not isinstance(self.spread, int | float | None) or not 0 <= (self.spread or 0) < math.inf:
            raise UserError(f"--spread {self.spread!r} is not valid: expected a number from 0 on, such as 0.5.")
        if self.acquisition == BATCH_UCB and self.spread_weight is not None:
            raise UserError("--spread and --acquisition batch-ucb both keep a batch apart: give one of them.")
        if self.acquisition == BATCH_UCB and self.batch > MOST_TOGETHER:
            raise UserError(
                f"--acquisition batch-ucb with --batch {self.batch} is not valid: expected at most {MOST_TOGETHER:,} "
                "wells; take ucb for a larger batch."
            )
        if self.spread_weight is not None and self.batch > MOST_TOGETHER:
            raise UserError(
                f"--spread with --batch {self.batch} is not valid: expected at most {MOST_TOGETHER:,} wells; keep "
                "candidates of a larger batch apart with --min-distance."
            )
        if self.level is not None and not 0 < self.level < 1:
            raise UserError(f"--level {self.level} is not valid: expected a number above 0 and below 1, such as 0.9.")

    def _check_wells(self) -> None:
        if not 1 <= self.batch <= MOST_WELLS:
            raise UserError(f"--batch {self.batch} is not valid: expected a whole number from 1 to {MOST_WELLS:,}.")
        if self.plate not in (None, *PLATES):
            raise UserError(f"--plate {self.plate} is not valid: expected {' or '.join(map(str, PLATES))}.")
        if self.controls < 0:
            raise UserError(f"--controls {self.controls} is not valid: expected a whole number from 0 on.")
        n_last = self.batch if self.plate is None else (self.batch - 1) % self.plate + 1
        if n_last <= self.controls:
            raise UserError(
                f"--batch {self.batch} with --controls {self.controls} leaves the last plate {n_last} wells and no "
                "candidate: the batch counts all wells, and each plate has its own controls; give a larger batch, or "
                "fewer controls."
            )
