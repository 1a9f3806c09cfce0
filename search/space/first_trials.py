"""The trials that stand at the beginning of a study: published configurations, completed and checked.

    first_trials:
      - {}                                              # the configuration's own values
      - {needs: gpu, model: {adaptation: lora}}         # left out where this run may use no GPU

Each is a tree like the config's. One that contradicts what the user fixed, or lies outside of the space, is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets.common.errors import UserError, nearest
from search.config.nested import Scalar, flatten
from search.config.resolve import resolve
from search.config.type_checks import convert, shown
from search.machine.hardware import visible_gpus
from search.space.space import Space

NEEDS = "needs"


def first_trials(
    trees: Sequence[Mapping[str, Any]], space: Space, config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Scalar], ...]:
    """The parameters of the trials, each once.

    `config` is the study's, with its interpolations: a value that follows from others follows from the trial's own.
    `defaults` is the same, resolved.

    Raises:
        UserError: A tree names what is no setting, or needs something else than a GPU.
    """
    trials: list[dict[str, Scalar]] = []
    known = [path for path, _ in flatten(defaults)]
    for i, given in enumerate(convert(list[dict[str, Any]], trees, "first_trials")):
        tree = {key: value for key, value in given.items() if key != NEEDS}
        needs = given.get(NEEDS)
        if NEEDS in given and needs != "gpu":
            raise UserError(f"first_trials[{i}].{NEEDS}={shown(needs)} is not valid: expected gpu.")
        for path, _ in flatten(tree):
            if path not in known:
                raise UserError(f"first_trials[{i}] sets {path}, which is no setting.{nearest(path, known)}")
        if needs == "gpu" and not (defaults["trainer"]["accelerator"] != "cpu" and visible_gpus()):
            continue
        params = space.complete(dict(flatten(tree)), lambda values: resolve(config, values) if values else defaults)
        if params and params not in trials:
            trials.append(params)
    return tuple(trials)
