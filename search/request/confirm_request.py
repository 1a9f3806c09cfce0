"""What a confirmation is asked for, whether from Python or from the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from search.request.fields import check_texts, set_paths, set_whole, several_paths
from search.request.search_request import runs_folder


@dataclass(frozen=True, kw_only=True)
class ConfirmRequest:
    """What is confirmed; the options of `confirm` have the same names.

    Args:
        experiments: Their files.
        all_folds: Whether they are those of all folds of a table, each sealed from its own.
        seeds: How many new seeds.
        top_k: Confirm so many of the best trials of the study, which is looked up; None is the experiment alone.
        unfinished: Also where the study has not had all its trials.
        storage: The database's URL; None is as for a search.
        data: The table, where it stands elsewhere by now.
        runs_dir, data_dir, weights_dir: Folders, as for a search.
        quiet: Whether progress stays unsaid.

    Raises:
        datasets.common.errors.UserError: A value is not valid.
    """

    experiments: Sequence[Path]
    all_folds: bool = False
    seeds: int = 5
    top_k: int | None = None
    unfinished: bool = False
    storage: str | None = field(default=None, repr=False)  # it may hold a password
    data: Path | None = None
    runs_dir: Path = field(default_factory=runs_folder)
    data_dir: Path | None = None
    weights_dir: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Refuse at once what needs no experiment to be seen."""
        object.__setattr__(self, "experiments", several_paths("experiments", self.experiments))
        set_paths(self, ("data", "runs_dir", "data_dir", "weights_dir"))
        check_texts(self, ("storage",), may_be_none=True)
        set_whole(self, ("seeds",), least=1)
        set_whole(self, ("top_k",), least=1, may_be_none=True)
