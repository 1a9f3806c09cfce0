"""`fit`: one run from a config. It knows nothing of Optuna."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from datasets.common.files import replaced, with_usual_mode
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from datasets.task import Announce
from models.metrics import spearman
from search.config.run_config import WHOLE_BATCH, RunConfig
from search.storage.ending import Ending
from search.training.callbacks import Report
from search.training.checkpoint.progress import Reports
from search.training.fold import FoldTraining, OnProgress
from search.training.folds.pooled import pooled, why_constant
from search.training.folds.run import Run
from search.training.predictions import VALIDATION
from search.training.result import Result
from search.training.threads import threads_of_run
from search.training.trainer import quieten


def fit(
    config: RunConfig,
    split: PreparedSplit,
    *,
    places: Places,
    directory: Path,
    report: Report,
    announce: Announce = lambda sentence: None,
    on_progress: OnProgress = lambda what, n_done, n_total: None,
    should_stop: Callable[[], bool] = lambda: False,
    resume: Path | None = None,
    cores: int = 1,
    may_be_pruned: bool = False,
) -> Result:
    """Train a run, keep the weights of each fold in `directory`, and say what came of it.

    One fold keeps the weights of its best epoch and may stop early. Several folds, and one without validation rows, are
    trained to the last epoch, whose weights are kept: the few rows of a fold would choose an epoch by luck. Beside the
    weights of a complete run stand its validation predictions, if any (see `search.training.predictions`).

    Every now and then, at the end of an epoch, its state is written to `directory` (see
    `search.training.checkpoint.files`). It is there after the end as well: whoever asked for the result removes it,
    once that is kept.

    Args:
        config: The run.
        split: Its training and validation rows.
        places: Where weights are found and features are cached.
        directory: For checkpoints and logs; made if missing.
        report: Told of each validation, by fold and epoch, once.
        announce: Told of what the user should know.
        on_progress: Told how far the computation of frozen features is.
        should_stop: Asked after each batch and validation.
        resume: The folder of the same run, interrupted, whose state is moved to `directory` and gone on from, to the
            result of an uninterrupted run. What was reported by then is reported again. Without a state there, or
            with one of another run, machine or version, the run begins anew and says so.
        cores: What the run may take: where these are more than its threads, folds train side by side, to the same bits
            (see `search.training.folds.side_by_side`). This process then must not have computed on several threads.
        may_be_pruned: Whether the run may be told to stop after an epoch of its first fold, so that the others wait.

    Running out of memory and divergence are results. A UserError says that the config cannot run here; any other
    exception is a bug.
    """
    directory.mkdir(parents=True, exist_ok=True)
    quieten()
    torch.set_num_threads(1)  # who has computed on several, be it to build a model, cannot fork
    threads = threads_of_run(config, split)
    # Deterministic algorithms fill every new tensor with NaN unless told not to: it costs time and finds nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    training = FoldTraining(
        config=config,
        split=split,
        places=places,
        directory=directory,
        reports=Reports(report),
        announce=announce,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    run = Run(training, threads, cores=cores, may_be_pruned=may_be_pruned)
    tokens = config.trainer.micro_batch_tokens
    if resume is not None and run.resume(resume):
        tokens = run.progress.micro_batch_tokens or WHOLE_BATCH
    torch.set_num_threads(threads)
    ending, reason = run.train(tokens)
    progress = run.progress
    value = excess_rise = None
    if ending == Ending.COMPLETE and progress.predictions and (reason := why_constant(progress)):
        ending = Ending.CONSTANT
    elif ending == Ending.COMPLETE and progress.predictions:
        arrays = pooled(progress.rows, progress.predictions, split)
        with replaced(directory / VALIDATION) as beside:
            save_file(arrays, beside)
            with_usual_mode(beside)
        value = spearman(arrays["prediction"], arrays["target"])
        if math.isfinite(value):
            excess_rise = run.excess_rise()
        else:
            ending, reason = Ending.CONSTANT, "the validation predictions of all folds together could not be ranked"
            value = None
    return Result(
        ending=ending,
        reason=reason,
        value=value,
        values=tuple(map(tuple, progress.values)),
        best_epochs=tuple(progress.best_epochs),
        checkpoints=tuple(str(directory / name) for name in progress.checkpoints),
        n_parameters=progress.n_parameters,
        seconds=run.seconds,
        cpu_s=run.cpu_s,
        peak_memory_bytes=run.peak_memory_bytes,
        threads=threads,
        device=progress.device,
        micro_batch_tokens=progress.micro_batch_tokens,
        backbone=progress.backbone,
        n_embedded=progress.n_embedded,
        excess_rise=excess_rise,
        max_residues=progress.max_residues,
    )
