"""Find a task by its name.

A dataset is one module of this package with a top-level ``TASKS``, a tuple of `datasets.task.Task`: nothing else has to
know of it. Such a module, like this one, imports nothing heavy, because the names of the tasks are needed where a usage
error has to be answered at once.
"""

from __future__ import annotations

import ast
import importlib
from functools import cache
from pathlib import Path

import datasets.tasks
from datasets.common.errors import UserError, nearest
from datasets.task import Task


def find_task(name: str) -> Task:
    """Return the task of that name; a UserError offers the nearest names."""
    tasks = _all_tasks()
    if name not in tasks:
        close = nearest(name, tasks)
        raise UserError(f"There is no task {name!r}." + (close or f" The tasks are {listed_tasks()}."))
    return tasks[name]


def all_tasks() -> tuple[Task, ...]:
    """Return all tasks, dataset by dataset."""
    return tuple(_all_tasks().values())


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks, dataset by dataset."""
    return tuple(_all_tasks())


def listed_tasks() -> str:
    """Return the names of all tasks as a sentence has them, the retired ones last."""
    tasks = _all_tasks().values()
    current = ", ".join(task.name for task in tasks if not task.retired)
    retired = ", ".join(task.name for task in tasks if task.retired)
    return f"{current}; retired: {retired}" if retired else current


@cache
def _all_tasks() -> dict[str, Task]:
    tasks: dict[str, Task] = {}
    for folder in datasets.tasks.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            # Reading the source first leaves the modules with heavy imports alone.
            if not _assigns_tasks(path.read_text(encoding="utf-8")):
                continue
            module = importlib.import_module(f"datasets.tasks.{path.stem}")
            for task in module.TASKS:
                if task.name in tasks:
                    raise ValueError(f"two tasks are called {task.name!r}, one of them in {path.name}")
                tasks[task.name] = task
    return tasks


def _assigns_tasks(source: str) -> bool:
    if "TASKS" not in source:
        return False
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "TASKS" for target in targets):
            return True
    return False
