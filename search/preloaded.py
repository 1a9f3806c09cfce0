"""What the forkserver loads before the first run: no run waits for it, or finds that the checkout has changed since.

Nothing here may compute with torch: a process that forks while threads of OpenMP exist leaves children that hang.
"""

import contextlib
import importlib
import pkgutil

import lightning.pytorch.loggers  # noqa: F401

import datasets
import models
import search.preflight
import search.test_predictions
import search.training  # noqa: F401
from datasets.task import task_names
from search.run_state import code_hash

task_names()  # finds and imports every dataset
code_hash()  # of what is loaded here; the files may change while the study runs
for _package in (datasets, models):  # a config names models and validation protocols, anybody's too
    for _module in pkgutil.iter_modules(_package.__path__):
        if _module.name != "test_set":  # which is not for those who train
            with contextlib.suppress(Exception):  # a broken model is its own run's error
                importlib.import_module(f"{_package.__name__}.{_module.name}")
