"""Imports point one way: run_study -> search -> models -> datasets, and only `search` knows Optuna."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for package in ("datasets", "models", "search") for path in (ROOT / package).glob("*.py"))
MAY_IMPORT = {"datasets": {"datasets"}, "models": {"models", "datasets"}, "search": {"search", "models", "datasets"}}


def imported(path):
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_point_one_way(path):
    package = path.parent.name
    for module in imported(path):
        top = module.partition(".")[0]
        if top in ("datasets", "models", "search", "run_study", "tests"):
            assert top in MAY_IMPORT[package], f"{package} imports {module}"
        if top in ("optuna", "optuna_dashboard"):
            assert package == "search", f"{package} imports {module}"


def test_data_modules_import_no_models():
    assert {path.name for path in MODULES} >= {"datamodule.py", "cnn.py", "worker.py"}


def test_only_confirm_reads_test_targets():
    """Whoever names the reader, or what it is made of, could look at the test set without a line in the ledger."""
    may_name = {
        "datasets.splits.held_out": {"datasets/splits/rows.py", "search/cli/confirm.py"},
        "read_test_set": {"datasets/splits/held_out.py", "search/cli/confirm.py"},
        "test_targets": {"datasets/splits/rows.py", "datasets/splits/held_out.py"},
    }
    for name, expected in may_name.items():
        named = {path for path in [*MODULES, ROOT / "run_study.py"] if name in path.read_text(encoding="utf-8")}
        assert {str(path.relative_to(ROOT)) for path in named} == expected, name
    for path in (ROOT / "tests").rglob("*.py"):
        if path.parent.name != "benchmarks" and path.name != "test_test_set.py":
            assert "datasets.splits.held_out" not in imported(path), path


def test_a_run_finds_its_task_where_a_users_table_is_one_too():
    """`find_task` knows built-in names alone: what has a config asks `search.config.run_config.task_of`."""
    for path in MODULES:
        if path.parent.name == "search" and path.name != "schema.py":
            for line in path.read_text(encoding="utf-8").splitlines():
                assert not re.search(r"(?<![.\w])find_task\([^)]*config", line), f"{path.name}: {line.strip()}"
