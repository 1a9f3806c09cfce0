"""What an ensemble is asked for, whether from Python or from the command line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.common.errors import UserError
from search.experiments.members import MOST_MEMBERS
from search.options.values import is_study_name
from search.request.fields import check_texts, set_paths, set_whole, several
from search.request.search_request import export_folder, runs_folder
from search.study.run_names import is_reserved


@dataclass(frozen=True, kw_only=True)
class CombineRequest:
    """What is combined; the options of `combine` have the same names.

    Args:
        studies: Their names; all of one task, data and validation.
        export: What the experiment is called: it stands in the folder of experiments as NAME.yaml.
        members: How many different configurations are selected at most.
        storage: The database's URL; None is as for a search.
        data: The table, where it stands elsewhere by now.
        runs_dir, export_dir, data_dir, weights_dir: Folders, as for a search.
        artifacts: Where the files of other machines are, as for a search.
        quiet: Whether progress stays unsaid.

    Raises:
        datasets.common.errors.UserError: A value is not valid.
    """

    studies: Sequence[str]
    export: str
    members: int = 8
    storage: str | None = field(default=None, repr=False)  # it may hold a password
    data: Path | None = None
    runs_dir: Path = field(default_factory=runs_folder)
    export_dir: Path = field(default_factory=export_folder)
    artifacts: str | None = None
    data_dir: Path | None = None
    weights_dir: Path | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        """Refuse at once what needs no study to be seen."""
        set_paths(self, ("data", "runs_dir", "export_dir", "data_dir", "weights_dir"))
        check_texts(self, ("export",))
        check_texts(self, ("storage", "artifacts"), may_be_none=True)
        set_whole(self, ("members",))
        if isinstance(self.studies, str) or not self.studies:
            raise UserError(f"studies={self.studies!r} is not valid: expected the names of one study or more.")
        object.__setattr__(self, "studies", tuple(dict.fromkeys(several("studies", self.studies))))
        if not is_study_name(self.export) or is_reserved(self.export):
            raise UserError(
                f"--export {self.export!r} is not valid: expected up to 100 letters, digits and . _ + -, and no name "
                "that the program uses."
            )
        if not 1 <= self.members <= MOST_MEMBERS:
            raise UserError(f"--members {self.members} is not valid: expected 1 to {MOST_MEMBERS}.")

    @property
    def path(self) -> Path:
        """Where the experiment is to stand."""
        return self.export_dir / f"{self.export}.yaml"
