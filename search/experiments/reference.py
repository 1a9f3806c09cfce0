"""What a member of an ensemble predicts of test sequences, whose targets are not read: it is standardised by these.

Members that agree on validation sequences may predict quite different ranges for test sequences, where these have
more mutations, say: standardised by validation, the one of the widest range would decide alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.paths import Places
from search.config.run_config import as_it_ran
from search.experiments.experiment import Experiment
from search.workers.jobs import isolated_prediction
from search.workers.messages import PredictionsWritten
from search.workers.run_alone import outcome
from search.workers.signals import Signals


def reference_predictions(
    member: Experiment, weights: Sequence[Path], split: Path, places: Places, folder: Path
) -> NDArray[np.floating[Any]]:
    """The predictions (n,) of at most 500 test sequences of a prepared split, the mean of the models.

    They are made in a child process, with what the member's trial had, so that they can be repeated bit for bit.

    Raises:
        UserError: It cannot be predicted on this machine.
        search.workers.run_alone.Stopped: A signal came, or the prediction failed.
    """
    from search.training.predict_split import read_test_predictions
    from search.workers.display import Display  # whose trials are Optuna's

    before = member.provenance
    config = as_it_ran(member.config, threads=before.threads, micro_batch_tokens=before.micro_batch_tokens)
    signals = Signals(lambda sentence: None)
    with signals.installed():
        child = isolated_prediction(config, weights, split, places, folder.absolute(), is_sample=True)
        found = outcome(child, Display(), signals, shows_values=False)
    assert isinstance(found, PredictionsWritten)
    predicted = read_test_predictions(found.path).prediction
    mean: NDArray[np.floating[Any]] = predicted.mean(axis=0, dtype=np.float64)
    return mean
