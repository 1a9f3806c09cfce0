"""Runs without validation, as `confirm` trains them: in child processes, unless their weights are kept from before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.common.paths import Places
from search.config.run_config import RunConfig
from search.experiments.confirm.kept_runs import KeptRun, begin_again, keep_run, kept_run
from search.storage.ending import Ending
from search.training.result import Result
from search.workers.child import Running
from search.workers.jobs import isolated_run
from search.workers.run_alone import outcome
from search.workers.signals import Signals

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.workers.display import Display

KEPT = "before"
"""How long a run took whose weights are kept."""


class EndedWithoutWeights(Exception):
    """The run was trained to no weights; the words say what became of it."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run: its config, where it is trained, all that its numbers depend on, and what is kept of it from before."""

    config: RunConfig
    directory: Path
    about: Mapping[str, Any]
    kept: KeptRun | None

    @classmethod
    def of(cls, config: RunConfig, directory: Path, split: "PreparedSplit", backbone: str | None) -> "PlannedRun":
        """The config has the threads that it runs with, `backbone` is the hash of its pretrained weights.

        Weights that are kept in the directory are those of the run if all that their numbers depend on is the same.
        """
        from search.training.checkpoint.progress import about

        assert config.trainer.threads is not None, "a candidate's config is that of a run"
        depends_on = about(config, split, threads=config.trainer.threads, backbone=backbone)
        return cls(config=config, directory=directory, about=depends_on, kept=kept_run(directory, depends_on))

    def begin(self, split: "PreparedSplit", places: Places) -> Running:
        """Train it in a child process; a part of it that was interrupted is gone on with.

        Raises:
            UserError: The directory cannot be written.
        """
        return isolated_run(self.config, split.path, places, self.directory, resume=begin_again(self.directory))

    def keep(self, result: Result) -> KeptRun:
        """Keep what it came to.

        Raises:
            EndedWithoutWeights: It has no weights.
        """
        if result.ending != Ending.COMPLETE:
            raise EndedWithoutWeights(f"{result.ending}, {result.reason}")
        kept = KeptRun(weights=Path(result.checkpoints[0]), device=result.device)
        keep_run(self.directory, kept, self.about)
        return kept


def trained_run(
    config: RunConfig,
    directory: Path,
    *,
    split: "PreparedSplit",
    backbone: str | None,
    places: Places,
    display: "Display",
    signals: Signals,
    prepare: Callable[[], None] = lambda: None,
) -> tuple[KeptRun, str]:
    """The weights of a run in its directory, and how long it took, in words; see `PlannedRun.of`.

    `prepare` is called before a child is started, if one is.

    Raises:
        EndedWithoutWeights: It has no weights.
        Stopped: A signal came, or the run failed and its error was printed.
        UserError: The config cannot run on this machine, or the directory cannot be written.
    """
    planned = PlannedRun.of(config, directory, split, backbone)
    if planned.kept is not None:
        return planned.kept, KEPT
    prepare()
    result = outcome(planned.begin(split, places), display, signals, shows_values=False)
    assert isinstance(result, Result)
    return planned.keep(result), f"{result.seconds:.1f} s"
