"""The folds of a run, from the first to the last, and what an interrupted run goes on from."""

import gc
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from datasets.validation.mutational_load import WithoutRise
from datasets.validation.protocols import Fold
from search.config.targets import is_exact
from search.machine.environment import cpu_time_s
from search.storage.ending import Ending
from search.training.build import build_model, division_of, folds_of
from search.training.checkpoint.files import Unusable
from search.training.checkpoint.progress import Progress, about
from search.training.checkpoint.snapshot import FoldState, KeepState, values_of
from search.training.checkpoint.store import StateWriter, bring_logs, read_state, take_over
from search.training.fold import FoldTraining
from search.training.folds.forked import TooManyAtOnce
from search.training.folds.how_many import folds_at_once
from search.training.folds.side_by_side import SideBySide
from search.training.memory import DoesNotFit, is_out_of_memory, peak_memory_bytes
from search.training.predict_split import rise_with_mutations
from search.training.result import FOLD


class Run:
    """The folds of a run, in order; again from the first in smaller parts where memory ran out."""

    def __init__(self, training: FoldTraining, threads: int, *, cores: int, may_be_pruned: bool) -> None:
        self._training = training
        self._threads = threads
        self._cores = cores
        self._may_be_pruned = may_be_pruned
        self.progress = Progress()
        self._begun: dict[int, FoldState] = {}
        self._ahead: dict[int, Progress] = {}
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
        self._begun = state["begun"]
        self._ahead = {number: Progress(**piece) for number, piece in state["ahead"].items()}
        if state["fold"] is not None:
            self._begun[len(self.progress.checkpoints)] = state["fold"]
        self._seconds_before = state["seconds"]
        self._cpu_before_s = state["cpu_s"]
        self._peak_before = state["peak_memory_bytes"]
        self._training.announce(f"The run goes on from its state {self._where()}.")
        for report in state["reports"]:
            self._training.reports(*report)
        return True

    def _where(self) -> str:
        """After what a run goes on from its state, in words."""
        values = list(self.progress.values)
        if (current := len(values)) in self._begun:
            values.append(values_of(self._begun[current]))
        if not values:  # the first fold had none yet when another one's was kept
            return f"of fold {min([*self._begun, *self._ahead])}"
        if not values[-1]:  # it has no validation rows
            return f"of fold {len(values) - 1}"
        # An exact model has several in the experiments of earlier versions alone.
        has_epochs = self._training.config.trainer.max_epochs > 1 or not is_exact(self._training.config.model)
        epoch = f"epoch {len(values[-1]) - 1} of " if has_epochs else ""
        return f"after {epoch}fold {len(values) - 1}"

    def train(self, tokens: int | None) -> tuple[Ending, str]:
        """All folds that are not finished, in parts of at most `tokens` (None: as memory allows); how it ended, why."""
        try:
            folds = folds_of(self._training.config, self._training.split)
            n = folds_at_once(self._training.config, len(folds), cores=self._cores, threads=self._threads)
            return self._one_by_one(folds, tokens) if n == 1 else self._side_by_side(folds, tokens, n)
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
        self.progress = Progress(n_embedded=self.progress.n_embedded)
        self._begun, self._ahead = {}, {}
        return self.train(smaller)

    def _one_by_one(self, folds: Sequence[Fold], tokens: int | None) -> tuple[Ending, str]:
        """The folds that are left; those that were ahead of their turn are trained again."""
        for number in range(len(self.progress.checkpoints), len(folds)):
            begun = self._begun.pop(number, None)
            for epoch, value in enumerate(values_of(begun)):  # of one that was ahead, nobody was told
                self._training.reports(number, epoch, value)
            state = KeepState(is_due=self._is_state_due, keep=self._keep_state, resumed=begun)
            del begun  # its tensors take memory
            ending, reason = self._training.fit(
                folds[number], number, self.progress, state, tokens=tokens, is_one_of_several=len(folds) > 1
            )
            if ending != Ending.COMPLETE:
                return ending, reason
            if self._is_state_due():
                self._keep_state(None)
        return Ending.COMPLETE, ""

    def _side_by_side(self, folds: Sequence[Fold], tokens: int | None, n_at_once: int) -> tuple[Ending, str]:
        together = SideBySide(
            self._training,
            folds,
            self.progress,
            n_at_once=n_at_once,
            threads=self._threads,
            is_first_alone=self._may_be_pruned,
            begun=self._begun,
            ahead=self._ahead,
            keep=self._keep_together,
        )
        self._begun, self._ahead = {}, {}
        try:
            return together.train(tokens)
        except TooManyAtOnce as error:
            reason = str(error)
        finally:
            self._peak_before = max(self._peak_before, together.peak_memory_bytes)
        self._training.announce(
            f"The machine does not hold several folds at once ({reason}): they train one after another."
        )
        self._cores = 1
        return self._one_by_one(folds, tokens)

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

    def _keep_together(self, together: SideBySide) -> None:
        if self._is_state_due():
            self._keep_state(None, together.ahead, together.states)

    def _keep_state(
        self,
        fold: FoldState | None,
        ahead: Mapping[int, Progress] = MappingProxyType({}),
        begun: Mapping[int, Path] = MappingProxyType({}),
    ) -> None:
        assert self._writer is not None
        finished = self.progress.finished()
        names = [*finished.checkpoints, *(name for piece in ahead.values() for name in piece.checkpoints)]
        if fold is not None and fold["callbacks"].get("KeepBestWeights", {}).get("best_epoch") is not None:
            names.append(FOLD.format(len(names)))
        self._writer.write(
            {
                "progress": finished.state(),
                "fold": fold,
                "ahead": {number: piece.state() for number, piece in ahead.items()},
                "reports": self._training.reports.told,
                "seconds": self.seconds,
                "cpu_s": self.cpu_s,
                "peak_memory_bytes": self.peak_memory_bytes,
            },
            {name: self._training.directory / name for name in names},
            self._about(self.progress.backbone),
            begun,
        )
