"""The train and verify commands: one run, without a study."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from search.config.nested import difference
from search.config.run_config import RunConfig, as_it_ran, task_of
from search.config.targets import is_exact
from search.experiments.experiment import Experiment, Provenance, first_difference, load_experiment
from search.experiments.members import Ensemble, part_paths
from search.experiments.requirements import check_callbacks, check_data
from search.machine.environment import machine_kind
from search.machine.hardware import usable_cores
from search.machine.standard_streams import announcer
from search.request.inputs import load_split, places_of
from search.request.search_request import DataOptions
from search.request.user_data import config_of, user_data
from search.study.protocol import find_protocol
from search.study.run_names import TRAIN, VERIFY
from search.training.result import FOLD, Result
from search.workers.child import prepare_children
from search.workers.jobs import isolated_run
from search.workers.run_alone import Stopped, check_backbone, outcome
from search.workers.signals import Signals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datasets.splits.prepared import PreparedSplit

# On another kind of machine the bits differ; the values should agree to this many units of Spearman.
TOLERANCE = 0.02


def run_train(arguments: argparse.Namespace) -> int:
    """Train a config, or an experiment's, once."""
    before: Provenance | None = None
    if arguments.experiment:
        experiment = load_experiment(arguments.experiment, announcer(arguments.quiet))
        if experiment.ensemble is not None:
            raise UserError(
                f"{arguments.experiment} has {len(experiment.parts)} members, and `train` trains one config: `verify` "
                "trains all of them, or name the experiment of one study."
            )
        config, name, before = experiment.config, arguments.experiment.stem, experiment.provenance
        task = task_of(config, arguments.data)
    else:
        options, announce = DataOptions.of(arguments), announcer(arguments.quiet)
        data = user_data(options, arguments.task, arguments.runs_dir, announce, arguments.overrides)
        config = config_of(arguments.overrides, data).run({})
        task, name = data.task, f"{arguments.task}-{arguments.model}"
    prepare_children()
    split = load_split(
        task, arguments.data_dir, arguments.runs_dir, announcer(arguments.quiet), weights_dir=arguments.weights_dir
    )
    if before is not None and before.data_hash != split.data_hash:
        announcer(arguments.quiet)(
            f"{arguments.experiment} was made on other data ({before.data}, sha256 {before.data_hash[:12]}...) than "
            f"what is trained on ({split.label}, sha256 {split.data_hash[:12]}...)."
        )
    protocol = find_protocol(config.validation, task, split)
    config = replace(config, validation=protocol.tree)
    directory = free_folder(arguments.runs_dir / TRAIN, name)
    try:
        result = _run(config, split, arguments, directory)
    except Stopped as stopped:
        return stopped.exit_status
    if result.value is None:
        print(f"error: the run ended without a value: {result.ending}, {result.reason}.", file=sys.stderr)
        return 1
    if not arguments.quiet:
        epochs = ", ".join(map(str, dict.fromkeys(result.best_epochs)))
        kept = "solved exactly" if is_exact(config.model) else f"kept epoch {epochs}"
        print(
            f"validation Spearman {result.value:.4f} ({protocol.shown}, {protocol.n_sequences} sequences; {kept}; "
            f"{result.n_parameters:,} parameters, {result.seconds:.1f} s; "
            f"{split.label})\n{protocol.sentence}\nWeights and logs: {directory}"
        )
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Train an experiment again and compare every value; 0 if they agree, 1 if not."""
    experiment = load_experiment(arguments.file, announcer(arguments.quiet))
    for part in experiment.parts:
        check_callbacks(arguments.file, part)
    prepare_children()
    task = experiment.task(arguments.data)
    split = load_split(
        task, arguments.data_dir, arguments.runs_dir, announcer(arguments.quiet), weights_dir=arguments.weights_dir
    )
    check_data(arguments.file, experiment.config, experiment.provenance, split)
    ensemble, directory = experiment.ensemble, free_folder(arguments.runs_dir / VERIFY, arguments.file.stem)
    _import_for_the_end()
    from search.experiments.reference import reference_predictions  # NumPy

    is_same, folders, reference = True, list[Path](), list["NDArray[np.floating[Any]]"]()
    places = places_of(arguments.weights_dir, arguments.runs_dir)
    for number, (place, part) in enumerate(zip(part_paths(arguments.file, experiment), experiment.parts, strict=True)):
        before = part.provenance
        name = "" if ensemble is None else f"member {number} ({ensemble.members[number].words}): "
        folders.append(directory if ensemble is None else directory / f"member{number}")
        if name and not is_exact(part.config.model):
            announcer(arguments.quiet)(name.rstrip())  # its epochs follow
        try:
            config = as_it_ran(part.config, threads=before.threads, micro_batch_tokens=before.micro_batch_tokens)
            result = _run(config, split, arguments, folders[-1], before)
            if ensemble is not None and result.value is not None:
                files = [Path(name) for name in result.checkpoints]
                reference.append(reference_predictions(part, files, split.path, places, folders[-1] / "reference"))
        except Stopped as stopped:
            return stopped.exit_status
        is_same &= _say(name, _compare(place, part, result, split.label), arguments.quiet)
    if ensemble is not None:
        is_same &= _say("ensemble: ", _compare_scales(ensemble, folders, reference), arguments.quiet)
    return 0 if is_same else 1


def _import_for_the_end() -> None:
    """Import what compares, while children train: whoever updates the checkout meanwhile changes nothing here."""
    import search.experiments.files
    import search.experiments.scales
    import search.training.predictions  # noqa: F401


def _say(name: str, found: tuple[bool, str], is_quiet: bool) -> bool:
    agrees, sentence = found
    if not agrees:
        print(f"differs: {name}{sentence}", file=sys.stderr)
    elif not is_quiet:
        print(f"verified: {name}{sentence}", flush=True)
    return agrees


def _compare_scales(
    ensemble: Ensemble, folders: Sequence[Path], reference: "Sequence[NDArray[np.floating[Any]]]"
) -> tuple[bool, str]:
    """Whether the scales in the file follow from what its members predicted in these folders, and of test sequences."""
    import numpy as np

    from search.experiments.scales import scales_follow
    from search.training.predictions import predictions_in

    predictions = [predictions_in(folder) for folder in folders]
    parts = [member.experiment.provenance for member in ensemble.members]
    elsewhere = any(difference(part.machine, machine_kind(part.device)) for part in parts)
    known = [one for one in predictions if one is not None]
    within = TOLERANCE if elsewhere else 0.0
    is_whole = len(known) == len(folders) == len(reference)
    if not is_whole or not scales_follow(ensemble, known, np.stack(reference), within=within):
        return False, "the scales of its members, or of their average, do not follow from what they predict"
    return True, (
        f"the scales of {len(folders)} members follow from what they predict; out-of-bag validation Spearman "
        f"{ensemble.origins.value:.4f} of the selection"
    )


def _compare(place: Path, experiment: Experiment, result: Result, label: str) -> tuple[bool, str]:
    """Whether a result is that of the experiment, and a sentence that says by what it was compared.

    `place` is what the weights beside the experiment are named by; those that are not there are no matter.
    """
    from search.experiments.files import MISSING, weights_folder, weights_hash

    before = experiment.provenance
    kept = [weights_folder(place) / FOLD.format(fold) for fold in range(len(before.weight_hashes))]
    found = [weights_hash(path) for path in kept]
    for fold, (own, expected) in enumerate(zip(found, before.weight_hashes, strict=True)):
        if own not in (MISSING, expected):
            return False, f"fold {fold}: {kept[fold]} is not the file of weights that the experiment names"
    elsewhere = difference(before.machine, machine_kind(result.device))
    if elsewhere:
        print(
            f"Another kind of machine ({'; '.join(elsewhere)}): comparing within {TOLERANCE} instead of bit for bit.",
            file=sys.stderr,
        )
        is_close = result.value is not None and abs(result.value - before.value) <= TOLERANCE
        shown = "none" if result.value is None else f"{result.value:.4f}"
        return is_close, f"validation Spearman {shown}, was {before.value:.4f} ({label})"
    if (first := first_difference(before.values, result.values)) is not None:
        fold, epoch, old, new = first
        where = f"fold {fold}" + ("" if is_exact(experiment.config.model) else f", epoch {epoch}")
        return False, f"{where}: validation Spearman {_exact(new)}, was {_exact(old)}"
    if result.value != before.value:
        return False, f"the kept weights have Spearman {_exact(result.value)}, was {_exact(before.value)}"
    for fold, (own, new_file) in enumerate(zip(found, result.checkpoints, strict=False)):
        if own != MISSING and own != weights_hash(Path(new_file)) and not _are_same(kept[fold], Path(new_file)):
            return False, f"fold {fold}: the values are equal, the weights in {kept[fold]} are not"
    n_values = sum(map(len, before.values))
    return True, (
        f"{n_values} values in {len(before.values)} fold(s) are equal bit for bit; "
        f"validation Spearman {before.value:.4f} ({label})"
    )


def _are_same(kept: Path, trained: Path) -> bool:
    from search.training.weights import are_same  # torch, which nothing else here needs

    return are_same(kept, trained)


def _exact(value: float | None) -> str:
    return "none" if value is None else repr(value)


def _run(
    config: RunConfig,
    split: "PreparedSplit",
    arguments: argparse.Namespace,
    directory: Path,
    before: Provenance | None = None,
) -> Result:
    """Run in a child process, printing each epoch; `before` is what the same run was like, where that is known.

    Raises:
        Stopped: A signal came, or the run failed and its error was printed.
        UserError: The config cannot run on this machine, or not with the weights of `before`.
    """
    # As late as this, because the display's trials are Optuna's.
    from search.workers.display import Display, PlainDisplay

    places = places_of(arguments.weights_dir, arguments.runs_dir)
    signals = Signals(lambda sentence: None)
    display = Display() if arguments.quiet else PlainDisplay(1)
    with signals.installed():
        check_backbone(config, before.backbone if before else None, split.path, places, display, signals)
        child = isolated_run(config, split.path, places, directory, cores=usable_cores())
        result = outcome(
            child, display, signals, shows_values=not arguments.quiet, has_epochs=not is_exact(config.model)
        )
        assert isinstance(result, Result)
        return result


def free_folder(parent: Path, name: str) -> Path:
    """A new folder: earlier runs are kept."""
    for number in range(10_000):
        folder = parent / f"{name}-{number:03d}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f"The directory {folder} cannot be written ({error.strerror}): name another with --runs-dir."
            ) from None
    raise UserError(f"{parent} holds 10,000 runs of {name}: remove some.")
