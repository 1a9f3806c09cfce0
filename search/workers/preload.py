"""What the forkserver loads before the first run: no run waits for it, or finds that the checkout has changed since.

Nothing here may compute with torch: a process that forks while threads of OpenMP exist leaves children that hang.
"""

import contextlib
import gc
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

_HIDDEN = ("matplotlib", "scipy")


@contextlib.contextmanager
def _without_figures_and_sound() -> Iterator[None]:
    """Let torchmetrics find no Matplotlib in this block, and no SciPy, of which it loads `scipy.signal` for sounds.

    It loads both wherever they are installed, which takes half as long as torch, and no run has it use them. A model
    that imports one of them itself gets it.
    """
    imports: Any = importlib.import_module("lightning_utilities.core.imports")  # heavy

    class Requirement(imports.RequirementCache):  # type: ignore[misc]
        def __bool__(self) -> bool:
            return str(self.requirement).partition(">")[0] not in _HIDDEN and bool(super().__bool__())

    before = imports.RequirementCache, imports.package_available
    imports.RequirementCache = Requirement
    imports.package_available = lambda name: name not in _HIDDEN and before[1](name)
    try:
        yield
    finally:
        imports.RequirementCache, imports.package_available = before


def _load() -> None:
    with _without_figures_and_sound():
        import lightning.pytorch.loggers  # noqa: F401

    import datasets
    import models
    import search.training.fit
    import search.training.predict_split
    import search.training.preflight
    import search.workers.jobs  # noqa: F401
    from datasets.tasks.registry import task_names
    from search.config.targets import tracker_in
    from search.machine.environment import machine_kind
    from search.training.checkpoint.progress import code_hash

    task_names()  # finds and imports every dataset
    code_hash()  # of what is loaded here; the files may change while the study runs
    machine_kind("cpu")  # looks up the versions of packages, and this the sources of loggers, as every child would
    tracker_in({"_target_": "lightning.pytorch.loggers.CSVLogger"})
    for package in (datasets, models):  # a config names models and validation protocols, anybody's too
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(".held_out"):  # which is not for those who train
                with contextlib.suppress(Exception):  # a broken model is its own run's error
                    importlib.import_module(module.name)


gc.disable()  # what is imported stays: to look for garbage among it took a quarter of the time
try:
    _load()
finally:
    gc.freeze()  # nor do children look through it, which would give each a copy of it
    gc.enable()
