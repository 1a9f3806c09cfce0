"""What Hydra composes of a config tree, without the settings of Hydra itself, which take half of its time.

Hydra's `compose` makes two trees in one, the program's and that of its own settings for logs, launchers and sweepers,
which nobody asks for here. Leaving these out needs parts of Hydra that are not public; they are all in this module.
"""

import copy
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_HYDRA = "hydra"
_ROOT = "config"

_TURN = threading.Lock()


def composed(overrides: Sequence[Override], studies: Path, own: Mapping[str, str]) -> dict[str, Any]:
    """The tree that the overrides make of `studies/config.yaml`, interpolations kept.

    `own` are the texts of the user's own configs, which stand in Hydra's store meanwhile.

    Raises:
        hydra.errors.HydraException: Hydra refuses them; what else it raises, see `search.config.compose`.
    """
    folder = studies.resolve()
    lines = [str(override.input_line) for override in overrides]
    # Hydra has one state for the whole process: searches in threads of a program take turns.
    with _TURN, initialize_config_dir(version_base="1.3", config_dir=str(folder)):
        config = None if any(_HYDRA in line for line in lines) else _without_hydra(overrides, folder, own)
        if config is None:
            config = compose(config_name=_ROOT, overrides=lines)
        tree = OmegaConf.to_container(config, resolve=False)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _without_hydra(overrides: Sequence[Override], folder: Path, own: Mapping[str, str]) -> DictConfig | None:
    """The tree as `compose` makes it; None where something in it is meant for Hydra, which then has to see it."""
    repository = _loader().repository
    values: list[Override] = []
    choices: list[Override] = []
    for override in overrides:
        is_choice = repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)
        (choices if is_choice else values).append(override)
    chosen = tuple(str(override.input_line) for override in choices)
    try:
        config = copy.deepcopy(_of_groups(chosen, folder, _state(folder), tuple(sorted(own.items()))))
        if config is not None:
            _loader()._apply_overrides_to_config(values, config)
    except OmegaConfBaseException as error:
        raise ConfigCompositionException from error
    except HydraException as error:
        if _HYDRA in str(error):
            return None
        raise
    return config


@lru_cache(maxsize=64)
def _of_groups(choices: tuple[str, ...], folder: Path, state: object, own: object) -> DictConfig | None:
    """The tree of the chosen options, made once as long as no file changes: values that are given change a copy."""
    loader = _loader()
    overrides, repository = loader._parse_overrides_and_create_caching_repo(_ROOT, list(choices))
    found = create_defaults_list(
        repo=repository, config_name=_ROOT, overrides_list=overrides, prepend_hydra=False, skip_missing=False
    )
    config = loader._compose_config_from_defaults_list(defaults=found.defaults, repo=repository)
    OmegaConf.set_struct(config, True)
    return None if _HYDRA in config else config


def _state(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What is another one as soon as any file or folder below this one has changed."""
    found = ((str(path), path.stat()) for path in [folder, *sorted(folder.rglob("*"))] if path.exists())
    return tuple((path, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found)


def _loader() -> ConfigLoaderImpl:
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    return loader
