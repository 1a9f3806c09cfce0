"""What the forkserver loads before the first run: no run waits for it, or finds that the checkout has changed since.

Nothing here may compute with torch: a process that forks while threads of OpenMP exist leaves children that hang.
"""

import contextlib
import gc
import importlib
import pkgutil


def _load() -> None:
    import lightning.pytorch.loggers  # noqa: F401

    import datasets
    import models
    import search.training.fit
    import search.training.predict_split
    import search.training.preflight
    import search.workers.child  # noqa: F401
    from datasets.tasks.registry import task_names
    from search.training.checkpoint.progress import code_hash

    task_names()  # finds and imports every dataset
    code_hash()  # of what is loaded here; the files may change while the study runs
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
