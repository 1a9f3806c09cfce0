"""Whether an experiment can be trained again."""

from pathlib import Path

from datasets.common.errors import UserError
from search.config.run_config import averaging_callbacks
from search.experiments.experiment import Experiment


def check_callbacks(path: Path, experiment: Experiment) -> None:
    """Refuse an experiment that cannot be trained again without its callbacks, which are never run again."""
    names = averaging_callbacks(experiment.config)
    if names:
        raise UserError(
            f"{path} was trained with {', '.join(names)}, which changes what is trained, and callbacks of an "
            "experiment are run by `train --experiment` alone: search without it for one that can be verified."
        )
