"""What an experiment needs of whoever trains or predicts with it again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.common.errors import UserError
from search.config.run_config import averaging_callbacks
from search.config.targets import knows_deviation
from search.config.type_checks import build, shown
from search.experiments.texts import check_shown
from search.machine import own_models

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.config.run_config import RunConfig
    from search.experiments.experiment import Experiment, Provenance
    from search.stats.calibration import Calibration

CALIBRATION = "calibration"
"""The key of a file's calibration."""


def look_for_model(
    path: Path, tree: Mapping[str, Any], provenance: Mapping[str, Any], announce: Callable[[str], None]
) -> None:
    """Say what an experiment with a model outside the checkout needs, or that the model was changed since."""
    model = tree.get("model")
    target = model.get("_target_") if isinstance(model, Mapping) else None
    if not isinstance(target, str) or not own_models.is_own(target) or target.count(".") != 2:
        return
    module = target.rpartition(".")[0]
    models = own_models.in_use()
    if models is None or models.source(module) is None:
        file = f"{shown(module.rpartition('.')[2])}.py"
        where = "" if models is None else f", which {models.folder} does not"
        raise UserError(
            f"{path} needs the model {shown(target)}, which is outside the checkout: name the folder that holds "
            f"{file}{where} {own_models.HOW_TO_NAME}."
        )
    before, now = provenance.get("model_source"), models.hash(module)
    if before != now:
        announce(
            f"{path} was made with another source of {shown(target)} ({shown(before)[:19]}...) than what was found in "
            f"{models.folder} ({now[:19]}...): numbers may differ."
        )


def check_data(path: Path, config: "RunConfig", before: "Provenance", split: "PreparedSplit") -> None:
    """Refuse other data than an experiment of this config was made on."""
    if split.data_hash != before.data_hash:
        named = "folder with --data-dir" if config.table is None else "file with --data"
        raise UserError(
            f"{path} was made on other data ({before.data}, sha256 {before.data_hash[:12]}...) than what was found "
            f"({split.label}, sha256 {split.data_hash[:12]}...): name the right {named}."
        )


def files_of_training(experiment: "Experiment", data: Path | None) -> dict[str, Path]:
    """The files that an experiment was trained with, by what they are called; not its table where `data` is named."""
    config, embeddings = experiment.config, experiment.embeddings
    found = {}
    if data is None and config.table is not None:
        found["the experiment's table"] = Path(config.table.file)
    for source in [] if config.scores is None else config.scores.sources:
        if source.file is not None:
            found[f"the file of the experiment's {source.columns[0]!r}"] = Path(source.file)
    if embeddings is not None:
        found["the file of the experiment's embeddings"] = Path(embeddings.file)
    return found


def build_calibration(tree: dict[str, Any]) -> "Calibration | None":
    """What the tree of an experiment says of calibration, which is taken out of it."""
    if CALIBRATION not in tree:
        return None
    from search.stats.calibration import Calibration

    check_shown(tree[CALIBRATION], CALIBRATION)
    return build(Calibration, tree.pop(CALIBRATION), CALIBRATION)


def check_deviation(experiment: "Experiment") -> None:
    """Refuse a calibration by deviations where neither the model nor the spread of several members gives any."""
    ensemble = experiment.ensemble
    if experiment.calibration is None or not experiment.calibration.asks_deviation:
        return
    if ensemble is None and not knows_deviation(experiment.config.model):
        why = f"{experiment.config.model['_target_']} knows no deviation of what it predicts"
    elif ensemble is not None and len(ensemble.members) == 1:
        why = "a single member has no spread"
    else:
        return
    raise UserError(f"calibration.scale=deviation is not valid, for {why}: expected constant.")


def check_callbacks(path: Path, experiment: "Experiment") -> None:
    """Refuse an experiment that cannot be trained again without its callbacks, which are never run again."""
    names = averaging_callbacks(experiment.config)
    if names:
        raise UserError(
            f"{path} was trained with {', '.join(names)}, which changes what is trained, and callbacks of an "
            "experiment are run by `train --experiment` alone: search without it for one that can be verified."
        )
