"""What the records of a warm start have to hold, in a manifest, at a trial and in an experiment's file."""

from typing import Any

from datasets.common.errors import UserError
from search.storage.rows.value_checks import (
    ID,
    count,
    is_a,
    items,
    line,
    mapping,
    matches,
    or_null,
    real_number,
    record,
)

_scalar = is_a(bool | int | float | str | None)
_study_id = matches(ID, "32 hexadecimal digits")
_selection = {"study": line, "study_id": or_null(_study_id), "task": line, "data_hash": line}
_selections = items(record({**_selection, "n_seen": or_null(count)}))
_trial = {"study": line, "trial": count}

OF_TRIAL = record(_trial)
"""Which trial of an earlier study a trial repeats."""
OF_MANIFEST = record(
    {
        "from": items(line),
        "allow_seen": is_a(bool),
        "selections": _selections,
        "trials": items(record({**_trial, "value": real_number(-1.0 - 1e-6, 1.0 + 1e-6), "params": mapping(_scalar)})),
    }
)
_OF_EXPERIMENT = record({"allow_seen": is_a(bool), "selections": _selections, "trials": items(OF_TRIAL)})


def check_origin(tree: Any, where: str) -> None:
    """Refuse what an experiment's file says of a warm start, if anything, and it is not what this program writes."""
    for problem in or_null(_OF_EXPERIMENT)(where, tree):
        raise UserError(f"{problem}.")
