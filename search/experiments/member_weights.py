"""The weights of an ensemble's members: taken from the folders of their trials, or trained again.

`--keep-top` keeps the weights of few trials, and those of others may stand on another machine. Such a member is trained
again here, and every value has to be that of the trial, bit for bit. Where an ensemble of before has the member, its
weights are taken, so that the same command trains once.
"""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.common.files import link
from datasets.common.paths import Places
from search.config.nested import difference
from search.config.run_config import as_it_ran
from search.experiments.experiment import Provenance, first_difference, load_experiment
from search.experiments.files import MISSING, SEED, is_below, place_checkpoints, trial_checkpoints, weights_folder
from search.experiments.members import Ensemble, Member, member_path
from search.experiments.reference import reference_predictions
from search.machine.environment import machine_kind
from search.machine.hardware import usable_cores
from search.storage.ending import Ending
from search.study.artifacts import hash_or_missing
from search.study.combinable import Combinable, how_to_fetch
from search.training.result import FOLD, Result
from search.workers.child import prepare_children
from search.workers.jobs import isolated_run
from search.workers.run_alone import check_backbone, outcome
from search.workers.signals import Signals


class NotRepeated(UserError):
    """A member that was trained again is not what the trial was."""

    exit_status = 1


@dataclass(frozen=True, kw_only=True)
class MemberWeights:
    """Where weights are found, and where members are trained again.

    runs: below it stand the trials' folders. split: the prepared split's file. folder: below `runs`, for what is
    trained; whoever made it removes it. exported: where the ensemble is to stand, and may stand already. announce: told
    of each member that is trained. deadline: by `time.monotonic()`, when training is stopped.
    """

    runs: Path
    places: Places
    split: Path
    folder: Path
    exported: Path
    announce: Callable[[str], None]
    deadline: float | None = None

    def collect(self, trials: Sequence[Combinable], ensemble: Ensemble) -> tuple[Ensemble, list[list[Path]]]:
        """The ensemble with the hashes of all weights, and their files, of each member one a fold.

        Raises:
            UserError: A member cannot be trained again on this machine.
            NotRepeated: One was, and is not the same.
            search.workers.run_alone.Stopped: A signal came, the time was over, or a run failed.
        """
        files, members, earlier = [], [], self._earlier()
        for number, (one, member) in enumerate(zip(trials, ensemble.members, strict=True)):
            before = member.experiment.provenance
            own = trial_checkpoints(self.runs, before.study, before.trial, len(before.values))
            if not self._are_here(own, before.weight_hashes):
                folder = self.folder / f"member{number}"
                own = self._from_export(member, earlier, folder) or self._train_again(one, member, folder)
                before = replace(before, weight_hashes=[hash_or_missing(file) for file in own])
            members.append(replace(member, experiment=replace(member.experiment, provenance=before)))
            files.append(own)
        return replace(ensemble, members=tuple(members)), files

    def reference(self, ensemble: Ensemble, files: Sequence[Sequence[Path]]) -> NDArray[np.floating[Any]]:
        """What the members predict of the same test sequences (K, m), with the files of weights of each.

        Raises:
            UserError: A member cannot predict on this machine.
            search.workers.run_alone.Stopped: A signal came, or a prediction failed.
        """
        prepare_children()
        return np.stack(
            [
                reference_predictions(one.experiment, own, self.split, self.places, self.folder / f"reference{number}")
                for number, (one, own) in enumerate(zip(ensemble.members, files, strict=True))
            ]
        )

    def _are_here(self, files: Sequence[Path], hashes: Sequence[str]) -> bool:
        return all(
            expected != MISSING and is_below(file, self.runs) and hash_or_missing(file) == expected
            for file, expected in zip(files, hashes, strict=True)
        )

    def _earlier(self) -> Sequence[Member]:
        """The members of the ensemble that was exported before."""
        try:
            found = load_experiment(self.exported).ensemble
        except UserError:
            return ()
        return () if found is None else found.members

    def _from_export(self, member: Member, earlier: Sequence[Member], folder: Path) -> list[Path] | None:
        """The weights that an earlier export has of a member, linked into a folder; None if it has not all of them."""
        own = member.experiment
        for number, one in enumerate(earlier):
            then = one.experiment
            hashes = then.provenance.weight_hashes
            if then.config != own.config or _run_of(then.provenance) != _run_of(own.provenance) or not hashes:
                continue
            files = [folder / FOLD.format(fold) for fold in range(len(hashes))]
            folder.mkdir(parents=True)
            with contextlib.suppress(OSError):  # one that is gone has no hash
                for file in files:
                    link(weights_folder(member_path(self.exported, number)) / file.name, file)
            if self._are_here(files, hashes):
                return files
            shutil.rmtree(folder)
        return None

    def _train_again(self, one: Combinable, member: Member, folder: Path) -> list[Path]:
        from search.workers.display import Display

        before = member.experiment.provenance
        fetch = how_to_fetch(one.study, [one.trial], self.runs)
        if other := difference(before.machine, machine_kind(before.device)):
            raise UserError(
                f"The weights of {member.words} are not here, and it cannot be trained again bit for bit on another "
                f"kind of machine ({'; '.join(other)}): {fetch} If --keep-top has removed them there, repeat this "
                "command on that kind of machine, where they are trained again."
            )
        self.announce(f"The weights of {member.words} are not here: it is trained again.")
        prepare_children()
        signals, display = Signals(lambda sentence: None, deadline=self.deadline), Display()
        config = as_it_ran(
            member.experiment.config, threads=before.threads, micro_batch_tokens=before.micro_batch_tokens
        )
        with signals.installed():
            check_backbone(config, before.backbone, self.split, self.places, display, signals)
            child = isolated_run(config, self.split, self.places, folder.absolute(), cores=usable_cores())
            result = outcome(child, display, signals, shows_values=False)
        assert isinstance(result, Result)
        files = [Path(name) for name in result.checkpoints]
        if (changed := change_since(member, result, files)) is not None:
            raise NotRepeated(
                f"The weights of {member.words} are not here, and what was trained again is not the same ({changed}): "
                f"{fetch}"
            )
        return files


def _run_of(provenance: Provenance) -> tuple[Any, ...]:
    """What tells a run from all others that its weights may be of."""
    known = provenance
    return known.study_id, known.study, known.trial, known.values, known.value, known.seconds, known.machine


def change_since(member: Member, result: Result, files: Sequence[Path]) -> str | None:
    """What of a member differs from its trial, now that it was trained again; None if nothing does."""
    before = member.experiment.provenance
    if result.ending != Ending.COMPLETE:
        return f"{result.ending}, {result.reason}"
    found = first_difference(before.values, result.values)
    if found is not None:
        fold, epoch, old, new = found
        return f"fold {fold}, epoch {epoch}: validation Spearman {new!r}, was {old!r}"
    if result.value != before.value:
        return f"the kept weights have Spearman {result.value!r}, was {before.value!r}"
    for fold, (file, expected) in enumerate(zip(files, before.weight_hashes, strict=True)):
        if expected not in (MISSING, hash_or_missing(file)):
            return f"fold {fold}: the values are equal, the weights are not"
    return None


def place_all(files: Sequence[Sequence[Path]], ensemble: Ensemble, path: Path, *, runs: Path) -> None:
    """Put the weights of all members beside the experiment at `path`; those of an earlier one that had more go,
    and nothing else.

    Raises:
        UserError: They cannot be written, or have changed meanwhile.
    """
    kept = set()
    for number, (member, own) in enumerate(zip(ensemble.members, files, strict=True)):
        place, missing = member_path(path, number), list[str]()
        place_checkpoints(own, member.experiment.provenance.weight_hashes, place, missing.append, runs=runs)
        if missing:
            raise UserError(f"The weights of {member.words} changed while they were exported: repeat the command.")
        kept.add(weights_folder(place).name)
    for old in weights_folder(path).glob("member[0-9]*"):
        if old.name not in kept and not old.is_symlink():
            for file in (*old.glob(FOLD.format("*")), *old.glob(SEED.format("*"))):
                file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is no folder, or somebody else's file stands in it
                old.rmdir()
