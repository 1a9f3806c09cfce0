"""What the forkserver loads before the first run: no run waits for it, or finds that the checkout has changed since.

Nothing here may compute with torch: a process that forks while threads of OpenMP exist leaves children that hang.
"""

import contextlib
import importlib
import pkgutil

import lightning.pytorch.loggers  # noqa: F401

import datasets
import models
import search.training.fit
import search.training.predict_split
import search.training.preflight
import search.workers.jobs  # noqa: F401
from datasets.tasks.registry import task_names
from search.training.checkpoint.progress import code_hash

task_names()  # finds and imports every dataset
code_hash()  # of what is loaded here; the files may change while the study runs
for _package in (datasets, models):  # a config names models and validation protocols, anybody's too
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        if not _module.name.endswith(".held_out"):  # which is not for those who train
            with contextlib.suppress(Exception):  # a broken model is its own run's error
                importlib.import_module(_module.name)
