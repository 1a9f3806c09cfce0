"""What the forkserver loads before the first run, so that no run waits for it.

Nothing here may compute with torch: a process that forks while threads of OpenMP exist leaves children that hang.
"""

import contextlib
import importlib
import pkgutil

import lightning.pytorch.loggers  # noqa: F401

import models
import search.training  # noqa: F401
from datasets.task import task_names
from search.run_state import code_hash

task_names()  # finds and imports every dataset
code_hash()  # of what is loaded here; the files may change while the study runs
for _module in pkgutil.iter_modules(models.__path__):
    with contextlib.suppress(Exception):  # a broken model is its own run's error
        importlib.import_module(f"models.{_module.name}")
