"""`fit`: one run from a config. It knows nothing of Optuna."""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from datasets.common.files import replaced
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from datasets.task import Announce
from datasets.validation.mutational_load import WithoutRise
from datasets.validation.protocols import is_most
from models.metrics import is_constant, spearman
from search.config.run_config import WHOLE_BATCH, RunConfig
from search.config.targets import is_exact
from search.machine.environment import cpu_time_s
from search.storage.ending import Ending
from search.training.build import build_model, division_of, folds_of
from search.training.callbacks import Report
from search.training.checkpoint.files import Unusable
from search.training.checkpoint.progress import Progress, Reports, about
from search.training.checkpoint.snapshot import FoldState, KeepState
from search.training.checkpoint.store import StateWriter, bring_logs, read_state, take_over
from search.training.fold import FoldTraining, OnProgress
from search.training.memory import DoesNotFit, is_out_of_memory, peak_memory_bytes
from search.training.predict_split import rise_with_mutations
from search.training.predictions import VALIDATION
from search.training.result import FOLD, Result
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

    Running out of memory and divergence are results. A UserError says that the config cannot run here; any other
    exception is a bug.
    """
    directory.mkdir(parents=True, exist_ok=True)
    quieten()
    threads = threads_of_run(config, split)
    torch.set_num_threads(threads)
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
    run = _Run(training, threads)
    tokens = config.trainer.micro_batch_tokens
    if resume is not None and run.resume(resume):
        tokens = run.progress.micro_batch_tokens or WHOLE_BATCH
    ending, reason = run.train(tokens)
    progress = run.progress
    value = excess_rise = None
    if ending == Ending.COMPLETE and progress.predictions and (reason := _why_constant(progress)):
        ending = Ending.CONSTANT
    elif ending == Ending.COMPLETE and progress.predictions:
        arrays = pooled(progress.rows, progress.predictions, split)
        with replaced(directory / VALIDATION) as beside:
            save_file(arrays, beside)
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


def _why_constant(progress: Progress) -> str:
    """Why the predictions of all folds together say nothing: most are one number a fold. Empty if they are not."""
    flat = [is_constant(prediction) for prediction in progress.predictions]
    if not is_most([len(prediction) for prediction in progress.predictions], flat):
        return ""
    return f"in {sum(flat)} of {len(flat)} fold(s) all validation predictions are the same number"


def pooled(rows: Sequence[Tensor], predictions: Sequence[Tensor], split: PreparedSplit) -> dict[str, Tensor]:
    """What `search.training.predictions` reads, from the rows (n_fold,) int64 and predictions (n_fold,) of each fold.

    A row that several folds validate has the mean of their predictions.
    """
    row, place = torch.unique(torch.cat(list(rows)), return_inverse=True)
    every = torch.cat(list(predictions)).float()
    # One prediction is its own mean, bit for bit.
    total = torch.zeros(len(row), dtype=torch.float64).index_add_(0, place, every.double())
    return {
        "row": row,
        "prediction": (total / torch.bincount(place)).float(),
        "target": torch.from_numpy(split.target)[row],
    }


class _Run:
    """The folds of a run, one after the other; again from the first in smaller parts where memory ran out."""

    def __init__(self, training: FoldTraining, threads: int) -> None:
        self._training = training
        self._threads = threads
        self.progress = Progress()
        self._fold_state: FoldState | None = None
        self._started = time.monotonic()
        self._cpu_started_s = cpu_time_s()
        self._seconds_before = self._cpu_before_s = 0.0
        self._peak_before = 0
        # What callbacks of the config keep for themselves is not known.
        has_unknown = bool(training.config.trainer.callbacks)
        self._writer = None if has_unknown else StateWriter(training.directory, training.announce)

    @property
    def seconds(self) -> float:
        """How long the run has taken, earlier parts of it included."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def cpu_s(self) -> float:
        """The CPU time that the run has used, earlier parts of it included."""
        return self._cpu_before_s + cpu_time_s() - self._cpu_started_s

    @property
    def peak_memory_bytes(self) -> int:
        """The most memory that any part of the run held."""
        return max(self._peak_before, peak_memory_bytes(self.progress.device))

    def resume(self, before: Path) -> bool:
        """Take over where the run in the folder `before` was interrupted; False, and announced, if that cannot be."""
        model = build_model(self._training.config)
        model.fetch(self._training.places, self._training.announce)
        try:
            state = read_state(before, lambda: self._about(model.backbone_hash))
            take_over(before, self._training.directory)
            bring_logs(before, self._training.directory)
        except Unusable as reason:
            self._training.announce(f"The state in {before} is not used: {reason}. The run begins anew.")
            return False
        except OSError as error:
            self._training.announce(f"The state in {before} cannot be moved: {error.strerror}. The run begins anew.")
            return False
        self.progress = Progress(**state["progress"])
        self._fold_state = state["fold"]
        self._seconds_before = state["seconds"]
        self._cpu_before_s = state["cpu_s"]
        self._peak_before = state["peak_memory_bytes"]
        values = list(self.progress.values)
        if self._fold_state is not None:
            values.append(self._fold_state["callbacks"]["ReportAndStop"]["values"])
        # An exact model has several in the experiments of earlier versions alone.
        has_epochs = self._training.config.trainer.max_epochs > 1 or not is_exact(self._training.config.model)
        epoch = f"epoch {len(values[-1]) - 1} of " if has_epochs else ""
        self._training.announce(f"The run goes on from its state after {epoch}fold {len(values) - 1}.")
        for report in state["reports"]:
            self._training.reports(*report)
        return True

    def train(self, tokens: int | None) -> tuple[Ending, str]:
        """All folds that are not finished, in parts of at most `tokens` (None: as memory allows); how it ended, why."""
        try:
            folds = folds_of(self._training.config, self._training.split)
            for number, fold in enumerate(folds):
                if number < len(self.progress.checkpoints):
                    continue
                state = KeepState(is_due=self._is_state_due, keep=self._keep_state, resumed=self._fold_state)
                self._fold_state = None
                ending, reason = self._training.fit(
                    fold, number, self.progress, state, tokens=tokens, is_one_of_several=len(folds) > 1
                )
                if ending != Ending.COMPLETE:
                    return ending, reason
                if self._is_state_due():
                    self._keep_state(None)
            return Ending.COMPLETE, ""
        except DoesNotFit as error:
            return Ending.OUT_OF_MEMORY, str(error)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        # Outside of the handler, whose traceback would hold on to the tensors.
        smaller = self.progress.smaller
        if smaller is None:
            return Ending.OUT_OF_MEMORY, reason
        self._training.announce(f"Out of memory: the run starts again with parts of at most {smaller} tokens.")
        gc.collect()  # trainer, model and data refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.progress, self._fold_state = Progress(n_embedded=self.progress.n_embedded), None
        return self.train(smaller)

    def excess_rise(self) -> float | None:
        """As `Result` has it, of a run whose folds are all trained."""
        validation = division_of(self._training.config)
        if not isinstance(validation, WithoutRise):
            return None
        rise = rise_with_mutations(
            self._training.config,
            self._training.split,
            [self._training.directory / name for name in self.progress.checkpoints],
            places=self._training.places,
            announce=self._training.announce,
            micro_batch_tokens=self.progress.micro_batch_tokens,
        )
        return None if rise is None else rise - validation.most

    def _about(self, backbone: str | None) -> Mapping[str, Any]:
        return about(self._training.config, self._training.split, threads=self._threads, backbone=backbone)

    def _is_state_due(self) -> bool:
        return self._writer is not None and self._writer.is_due()

    def _keep_state(self, fold: FoldState | None) -> None:
        assert self._writer is not None
        finished = self.progress.finished()
        names = list(finished.checkpoints)
        if fold is not None and fold["callbacks"].get("KeepBestWeights", {}).get("best_epoch") is not None:
            names.append(FOLD.format(len(names)))
        self._writer.write(
            {
                "progress": finished.state(),
                "fold": fold,
                "reports": self._training.reports.told,
                "seconds": self.seconds,
                "cpu_s": self.cpu_s,
                "peak_memory_bytes": self.peak_memory_bytes,
            },
            {name: self._training.directory / name for name in names},
            self._about(self.progress.backbone),
        )
