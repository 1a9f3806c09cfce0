"""One run without validation, as `confirm` trains it: in a child process, unless its weights are kept from before."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.common.paths import Places
from search.config.run_config import RunConfig
from search.experiments.confirm.kept_runs import KeptRun, begin_again, keep_run, kept_run
from search.storage.ending import Ending
from search.training.result import Result
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


def trained_run(
    run: RunConfig,
    directory: Path,
    *,
    split: "PreparedSplit",
    backbone: str | None,
    places: Places,
    display: "Display",
    signals: Signals,
    prepare: Callable[[], None] = lambda: None,
) -> tuple[KeptRun, str]:
    """The weights of a run in its directory, and how long it took, in words.

    Those that are kept there are taken again if all that their numbers depend on is the same; a part of a run that was
    interrupted is gone on with. The config has the threads that it runs with, `backbone` is the hash of its pretrained
    weights. `prepare` is called before a child is started, if one is.

    Raises:
        EndedWithoutWeights: It has no weights.
        Stopped: A signal came, or the run failed and its error was printed.
        UserError: The config cannot run on this machine, or the directory cannot be written.
    """
    from search.training.checkpoint.progress import about

    assert run.trainer.threads is not None, "a candidate's config is that of a run"
    depends_on = about(run, split, threads=run.trainer.threads, backbone=backbone)
    kept = kept_run(directory, depends_on)
    if kept is not None:
        return kept, KEPT
    prepare()
    resume = begin_again(directory)
    child = isolated_run(run, split.path, places, directory, resume=resume)
    result = outcome(child, display, signals, shows_values=False)
    assert isinstance(result, Result)
    if result.ending != Ending.COMPLETE:
        raise EndedWithoutWeights(f"{result.ending}, {result.reason}")
    kept = KeptRun(weights=Path(result.checkpoints[0]), device=result.device)
    keep_run(directory, kept, depends_on)
    return kept, f"{result.seconds:.1f} s"
