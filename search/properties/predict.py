"""Predictions from Python: what the command `predict` writes, as columns."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.common.errors import UserError
from datasets.common.files import check_output, refuse_same_file
from search.experiments.experiment import load_experiment
from search.experiments.given import texts_of
from search.experiments.requirements import files_of_training
from search.machine.standard_streams import announcer
from search.properties.ranking import ranked
from search.properties.request import PredictRequest
from search.properties.table import check_kind, columns_of, write_table


def predict(
    experiments: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    candidates: Iterable[str] | str | os.PathLike[str] | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """See `search.predict`."""
    own: dict[str, Any] = {"quiet": True, **settings}
    if isinstance(candidates, str) and not os.path.exists(candidates):
        raise UserError(
            f"{candidates[:60]!r} is no file of candidates: name one that there is, or give sequences as a list."
        )
    if isinstance(candidates, str | os.PathLike):
        own["input"] = candidates
    elif candidates is not None:
        own["sequences"] = texts_of(candidates)
    request = PredictRequest(experiments=experiments, **own)  # type: ignore[arg-type]
    if request.output is not None:
        _check_output(request, request.output)
    with ranked(request, announcer(request.quiet)) as found:
        if request.output is not None:
            write_table(found, request.output)
        return columns_of(found)


def _check_output(request: PredictRequest, output: Path) -> None:
    """Refuse what would only be found at the end, and a file that is read. Raises a UserError."""
    check_kind(output)
    check_output(output)
    names = ("input", "data", "zero_shot_file", "alignment", "embeddings")
    read = {f"the --{name.replace('_', '-')}": path for name in names if (path := getattr(request, name)) is not None}
    for experiment in request.experiments:
        own = {"the experiment": experiment, **files_of_training(load_experiment(experiment), request.data)}
        for name, path in {**read, **own}.items():
            refuse_same_file(path, output, name)
