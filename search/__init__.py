"""The search: configurations, spaces, trials, studies and experiments.

`load_experiment` is what a program needs to predict with the result of a search:

    import search

    experiment = search.load_experiment("studies/experiment/gb1_three_vs_rest-cnn.yaml")
    fitness = experiment.predict(["MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE"])  # (1,) float32
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    import torch

    from search.experiments.trained import TrainedExperiment


def load_experiment(
    path: str | os.PathLike[str],
    *,
    weights_dir: str | os.PathLike[str] | None = None,
    device: torch.device | str | None = None,
) -> TrainedExperiment:
    """Load a frozen experiment with the weights that stand beside it.

    Args:
        path: The experiment, `studies/experiment/NAME.yaml`; its weights stand in the folder `NAME` beside it.
        weights_dir: Where pretrained weights (NAME.pt) are looked for first.
        device: None is the GPU if there is one.

    Raises:
        datasets.common.errors.UserError: The experiment or its weights are missing, were changed, or do not fit
        together.
    """
    # Imported as late as this, so that commands which train nothing do not wait for torch.
    from pathlib import Path

    import torch

    from datasets.common.paths import Places
    from search.experiments.trained import TrainedExperiment
    from search.options.folders import usual_folder

    return TrainedExperiment(
        Path(path),
        places=Places(
            weights_dir=None if weights_dir is None else Path(weights_dir),
            cache_dir=usual_folder("runs_dir")[0] / "cache",
        ),
        device=None if device is None else torch.device(device),
    )
