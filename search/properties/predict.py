"""Predictions from Python: what the command `predict` writes, as columns."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets.common.errors import UserError
from search.experiments.given import texts_of
from search.machine.standard_streams import announcer
from search.properties.ranking import ranked
from search.properties.request import PredictRequest
from search.properties.table import columns_of, write_table


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
    with ranked(request, announcer(request.quiet)) as found:
        if request.output is not None:
            write_table(found, request.output)
        return columns_of(found)
