"""What an operator tells the workers of a study: run, pause, or drain. It stands in the study, for all machines."""

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from optuna import Study

from search.storage.attributes import CONTROL

Control = Literal["run", "pause", "drain"]
"""run: as usual. pause: start no trial, wait. drain: finish the running trials, start none, end."""

POLL_S: Final = 2.0
"""How often a paused worker looks whether it may go on."""


def read_control(study: Study) -> Control:
    """What stands in the study now; "run" where nobody ever said otherwise."""
    return control_in(study.user_attrs)


def control_in(attributes: Mapping[str, Any]) -> Control:
    """What stands in the attributes of a study."""
    found: Control = attributes.get(CONTROL, "run")
    return found if found in get_args(Control) else "run"


def set_control(study: Study, control: Control) -> None:
    """Tell every worker of the study, before its next trial."""
    study.set_user_attr(CONTROL, control)


def run_if_drained(study: Study) -> None:
    """A new search command ends a drain, not a pause. For the command itself: a worker that only starts must not."""
    if read_control(study) == "drain":
        set_control(study, "run")
