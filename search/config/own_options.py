"""What the configs in the user's own folder of models add to the config groups `model` and `space`."""

import contextlib
from collections.abc import Iterator

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from datasets.common.errors import UserError
from search.machine import own_models

_EXPECTED = "expected `model:` with the _target_ and its defaults, and `space:` with what is searched of them"


def own_names() -> list[str]:
    """The names of the configs in the folder."""
    models = own_models.in_use()
    return sorted(models.configs) if models else []


@contextlib.contextmanager
def own_options() -> Iterator[None]:
    """Let Hydra find each config of the folder, `NAME.yaml`, as the options NAME of `model` and of `space`.

    A file of the checkout is found before one of these. What a config sets besides `space` belongs to the whole config.

    Raises:
        UserError: A config is not valid YAML, or does not say what is expected of it.
    """
    store = ConfigStore.instance()
    before = {group: dict(store.repo.get(group, {})) for group in ("model", "space")}
    try:
        for name in own_names():
            config = _read(name)
            space = config.pop("space", None)
            store.store(name, config, group="model", package="_global_")
            store.store(name, {} if space is None else space, group="space")
        yield
    finally:
        store.repo.update(before)


def _read(name: str) -> DictConfig:
    models = own_models.in_use()
    assert models is not None, "it has configs"
    path = models.folder / f"{name}.yaml"
    try:
        config = OmegaConf.create(models.configs[name])
    except YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(config, DictConfig) or not isinstance(config.get("model"), DictConfig):
        raise UserError(f"{path} is not valid: {_EXPECTED}.")
    return config
