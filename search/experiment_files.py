"""What stands beside an experiment file NAME.yaml.

NAME/fold<i>.safetensors    the kept weights of the best trial, one file a fold
NAME/seed<S>.safetensors    those that `confirm` trained with seed S; NAME/confirm.json says which and on what
NAME/influence.safetensors  what each test sequence adds to the noise of the confirmed Spearman, for comparisons
NAME.ledger.jsonl           every reading of the test set
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from datasets.errors import UserError
from search.artifacts import file_hash
from search.state_files import link

FOLD = "fold{}.safetensors"
SEED = "seed{}.safetensors"


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


def place_checkpoints(
    checkpoints: Sequence[Path], hashes: Sequence[str], experiment: Path, announce: Callable[[str], None]
) -> None:
    """Put the checkpoints of an experiment, one a fold, beside its file; those of an earlier export are replaced.

    A checkpoint that stands on another machine, or that somebody changed, is announced and left out.
    """
    folder = weights_folder(experiment)
    placed = set()
    for fold, (checkpoint, expected) in enumerate(zip(checkpoints, hashes, strict=True)):
        target = folder / FOLD.format(fold)
        try:
            if expected == file_hash(target):
                placed.add(target)
            elif expected == file_hash(checkpoint):
                folder.mkdir(parents=True, exist_ok=True)
                link(checkpoint, target)
                placed.add(target)
        except OSError as error:
            raise UserError(
                f"The weights {target} cannot be written ({error.strerror}): make room or name another --export-dir."
            ) from None
    if len(placed) < len(hashes):
        announce(
            f"The weights of {len(hashes) - len(placed)} fold(s) of {experiment} are not on this machine, or were "
            "changed: the experiment is exported without them."
        )
    for path in folder.glob(FOLD.format("*")):
        if path not in placed:
            path.unlink(missing_ok=True)


def check_weights(experiment: Path, hashes: Sequence[str]) -> None:
    """Refuse weights beside an experiment that are not those it was exported with; missing ones are no matter.

    Raises:
        UserError: A file has another hash than the experiment names.
    """
    for fold, expected in enumerate(hashes):
        path = weights_folder(experiment) / FOLD.format(fold)
        found = file_hash(path)
        if found not in ("missing", expected):
            raise UserError(
                f"The weights {path} were changed since {experiment} was exported: their hash is "
                f"{found[:19]}..., weight_hashes[{fold}] of the experiment is {expected[:19]}...; put the exported "
                "file back, or remove it."
            )
