"""What stands beside an experiment file NAME.yaml.

NAME/fold<i>.safetensors    the kept weights of the best trial, one file a fold
NAME/seed<S>.safetensors    those that `confirm` trained with seed S; NAME/confirm.json says which and on what
NAME/influence.safetensors  what each test sequence adds to the noise of the confirmed Spearman, for comparisons
NAME.ledger.jsonl           every reading of the test set
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from datasets.common.errors import UserError
from datasets.common.files import link
from search.study.artifacts import hash_or_missing
from search.training.result import FOLD, trial_folder

SEED = "seed{}.safetensors"
MISSING = "missing"
"""What `file_hash` says of a file that is not there."""
_STAGED = ".new-{}"


def weights_folder(experiment: Path) -> Path:
    """The folder of the experiment's weights, whether there is one or not."""
    return experiment.parent / experiment.stem


def confirmation_file(experiment: Path) -> Path:
    """Where `confirm` says which weights it left."""
    return weights_folder(experiment) / "confirm.json"


def influence_file(experiment: Path) -> Path:
    """Where `confirm` says what each test sequence adds to the noise of its Spearman."""
    return weights_folder(experiment) / "influence.safetensors"


def ledger_file(experiment: Path) -> Path:
    """The ledger of an experiment."""
    return experiment.parent / f"{experiment.stem}.ledger.jsonl"


def trial_checkpoints(runs: Path, study: str, trial: int, n_folds: int) -> list[Path]:
    """Where a trial's kept weights stand, fold by fold, whatever the database says of it."""
    return [trial_folder(runs / study, trial) / FOLD.format(fold) for fold in range(n_folds)]


def is_below(path: Path, folder: Path) -> bool:
    """Whether there is a regular file at `path` which, all links followed, lies in the folder or deeper."""
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False


def check_weights_folder(folder: Path) -> None:
    """Refuse what is no folder, or leads to another one, in the place of an experiment's weights."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        kind = "a link" if folder.is_symlink() else "no folder"
        raise UserError(f"{folder} is {kind}, and the weights of {folder}.yaml belong there: move it away.")


def place_checkpoints(
    checkpoints: Sequence[Path], hashes: Sequence[str], experiment: Path, announce: Callable[[str], None], *, runs: Path
) -> None:
    """Put the checkpoints of an experiment, one a fold, beside its file; those of an earlier export are replaced.

    A checkpoint that stands on another machine, that somebody changed, or that is a link out of `runs`, is announced
    and left out. Nothing is replaced before all are there.
    """
    folder = weights_folder(experiment)
    check_weights_folder(folder)
    placed, staged = set(), {}
    try:
        for fold, (checkpoint, expected) in enumerate(zip(checkpoints, hashes, strict=True)):
            target = folder / FOLD.format(fold)
            if expected == MISSING:
                continue
            if expected == weights_hash(target):
                placed.add(target)
            elif is_below(checkpoint, runs):
                folder.mkdir(parents=True, exist_ok=True)
                new = target.with_name(_STAGED.format(target.name))
                staged[new] = target
                link(checkpoint.resolve(), new)
                if hash_or_missing(new) == expected:
                    placed.add(target)
        for new, target in staged.items():
            if target in placed:
                new.replace(target)
    except OSError as error:
        raise UserError(
            f"The weights in {folder} cannot be written ({error.strerror}): make room or name another --export-dir."
        ) from None
    finally:
        for new in staged:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
    if len(placed) < len(hashes):
        announce(
            f"The weights of {len(hashes) - len(placed)} fold(s) of {experiment} are not on this machine, or were "
            "changed: the experiment is exported without them."
        )
    for path in folder.glob(FOLD.format("*")):
        if path not in placed:
            path.unlink(missing_ok=True)


def weights_hash(path: Path) -> str:
    """The hash of a file of weights, "missing" where there is none.

    Raises:
        UserError: There is something that cannot be read: a pipe, a device, a folder.
    """
    try:
        return hash_or_missing(path)
    except OSError as error:
        raise UserError(
            f"The weights {path} cannot be read ({error.strerror}): move it away, or put the file back."
        ) from None


def check_exported_weights(experiment: Path, hashes: Sequence[str]) -> None:
    """Refuse weights beside an experiment that are not those it was exported with; missing ones are no matter.

    Raises:
        UserError: A file has another hash than the experiment names.
    """
    for fold, expected in enumerate(hashes):
        path = weights_folder(experiment) / FOLD.format(fold)
        found = weights_hash(path)
        if found not in (MISSING, expected):
            raise UserError(
                f"The weights {path} were changed since they were exported: their hash is {found[:19]}..., "
                f"weight_hashes[{fold}] of their experiment is {expected[:19]}...; put the exported file back, or "
                "remove it."
            )
