"""What children do: train a run, check that runs can be built, predict test sequences."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.common.paths import Places
from search.config.run_config import RunConfig
from search.training.folds.forked import ProcessLost
from search.training.result import LOG
from search.workers.child import Child, Running, Start, Tell
from search.workers.messages import Announcement, Checked, Failure, MemoryShares, PredictionsWritten, Value, Working

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def isolated_run(
    config: RunConfig,
    split: Path,
    places: Places,
    directory: Path,
    *,
    resume: Path | None = None,
    start: Start = Child,
    cores: int = 1,
    may_be_pruned: bool = False,
) -> Running:
    """`fit` of a run in a child process; `split` is the path of the prepared split, `directory` for checkpoints too.

    `resume` is the folder of the same run's interrupted part. `cores` and `may_be_pruned` are those of `fit`, for a
    child that has run nothing before.
    """
    return start(partial(_fit, config, split, places, directory, resume, cores, may_be_pruned), directory)


def isolated_check(
    configs: Sequence[RunConfig], n_first: int, split: Path, places: Places, directory: Path, *, start: Start = Child
) -> Running:
    """`check_runs` in a child process."""
    return start(partial(_check, tuple(configs), n_first, split, places), directory)


def isolated_shares(
    configs: Sequence[RunConfig], split: Path, directory: Path, *, most: int, start: Start = Child
) -> Running:
    """`search.training.preflight.memory_shares` of this process's GPU in a child process."""
    return start(partial(_count_shares, tuple(configs), split, most), directory)


def isolated_prediction(
    config: RunConfig,
    weights: Sequence[Path],
    split: Path,
    places: Places,
    directory: Path,
    *,
    has_deviation: bool = False,
    is_sample: bool = False,
    rows: "NDArray[np.int64] | None" = None,
) -> Child:
    """The test sequences of a split, predicted in a child process by a member for each file of weights.

    With the models' own deviations, where `has_deviation`; of a sample at most 500 of the sequences. `rows` (n,) of the
    split, which are no test sequences, are predicted as well.

    What is computed at once, and by how many threads, is what the config says, so that the numbers can be repeated.
    """
    return Child(
        partial(_predict, config, tuple(weights), split, places, directory, has_deviation, is_sample, rows), directory
    )


def _fit(
    config: RunConfig,
    split: Path,
    places: Places,
    directory: Path,
    resume: Path | None,
    cores: int,
    may_be_pruned: bool,
    tell: Tell,
    should_stop: Callable[[], bool],
) -> None:
    from datasets.splits.prepared import load_prepared
    from search.training.fit import fit

    try:
        result = fit(
            config,
            load_prepared(split),
            places=places,
            directory=directory,
            report=lambda fold, epoch, value: tell(Value(fold=fold, epoch=epoch, value=value)),
            announce=lambda sentence: tell(Announcement(sentence=sentence)),
            on_progress=lambda what, n_done, n_total: tell(Working(what=what, n_done=n_done, n_total=n_total)),
            should_stop=should_stop,
            resume=resume,
            cores=cores,
            may_be_pruned=may_be_pruned,
        )
    except ProcessLost as error:  # as if the whole run had ended so
        last = f"the training process {error}; its output is in {directory / LOG}"
        tell(Failure(kind="lost", message=last))
    else:
        tell(result)


def _check(
    configs: Sequence[RunConfig], n_first: int, split: Path, places: Places, tell: Tell, should_stop: Callable[[], bool]
) -> None:
    from datasets.splits.prepared import load_prepared
    from search.training.preflight import check_builds

    def announce(sentence: str) -> None:
        tell(Announcement(sentence=sentence))

    prepared, precision = load_prepared(split), None
    backbones, ranks, threads = check_builds(configs, prepared, places=places, announce=announce, n_first=n_first)
    if any(config.model.get("feature_precision") == "auto" for config in configs):
        from search.training.precision.measured import measure_precision  # fair-esm, which other families do without

        precision = measure_precision(configs, prepared, places=places, announce=announce)
    tell(Checked(backbones=backbones, ranks=ranks, threads=threads, precision=precision))


def _count_shares(
    configs: Sequence[RunConfig], split: Path, most: int, tell: Tell, should_stop: Callable[[], bool]
) -> None:
    import torch

    from datasets.splits.prepared import load_prepared
    from search.training.preflight import memory_shares

    if not torch.cuda.is_available():
        tell(MemoryShares(n=1))
        return
    total = torch.cuda.get_device_properties(0).total_memory
    tell(MemoryShares(n=memory_shares(configs, load_prepared(split), total, most)))


def _predict(
    config: RunConfig,
    weights: Sequence[Path],
    split: Path,
    places: Places,
    directory: Path,
    has_deviation: bool,
    is_sample: bool,
    rows: "NDArray[np.int64] | None",
    tell: Tell,
    should_stop: Callable[[], bool],
) -> None:
    from search.training.predict_split import predict_test_sequences

    predict_test_sequences(
        config,
        weights,
        split,
        places=places,
        path=directory / "predictions.safetensors",
        announce=lambda sentence: tell(Announcement(sentence=sentence)),
        on_progress=lambda what, n_done, n_total: tell(Working(what=what, n_done=n_done, n_total=n_total)),
        has_deviation=has_deviation,
        is_sample=is_sample,
        rows=rows,
    )
    tell(PredictionsWritten(path=directory / "predictions.safetensors"))
