"""Imports point one way, from package to package and without circles, and only `search` knows Optuna."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("datasets", "models", "search") for path in (ROOT / package).rglob("*.py"))

ORDER = [
    "datasets.common",
    "datasets.sequences",
    "datasets.task",
    "datasets.tables",
    "datasets.alignments",
    "datasets.scores",
    "datasets.splits",
    "datasets.features",
    "datasets.embeddings",
    "datasets.tasks",
    "datasets.validation",
    "datasets.batches",
    "datasets.candidates",
    "datasets",
    "models.layers",
    "models.backbones",
    "models",
    "search.checkout",
    "search.machine",
    "search.options",
    "search.stats",
    "search.config",
    "search.space",
    "search.storage",
    "search.server",
    "search.training",
    "search.study",
    "search.workers",
    "search.experiments",
    "search.doctor",
    "search.prediction",
    "search.reporting",
    "search.request",
    "search.outcome",
    "search.session",
    "search.cluster",
    "search.confirmation",
    "search.combination",
    "search.properties",
    "search.suggestion",
    "search.cli",
    "search",
]
"""Each package imports from those before it and from itself; a module alone in its folder counts as a package."""
MOST_MODULES = 20
MOST_LINES = 300


def imported(path):
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            yield node.module


def name_of(path):
    """The module's dotted name; that of a package is its folder's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def place_of(module):
    """The position in ORDER of the package that a module belongs to."""
    two = ".".join(module.split(".")[:2])
    return ORDER.index(two if two in ORDER else module.partition(".")[0])


def needed(path):
    """The modules of ours that a file imports when it runs, functions included, and None for those for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            for alias in node.names:
                within = f"{node.module}.{alias.name}"
                yield within if within in NAMES else node.module
        elif isinstance(node, ast.Import) and id(node) not in for_types:
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    own = name_of(path)
    for module in imported(path):
        top = module.partition(".")[0]
        assert top not in ("run_study", "tests"), f"{own} imports {module}"
        if top in ("optuna", "optuna_dashboard"):
            assert own.startswith("search"), f"{own} imports {module}"
    for module in needed(path):
        if module in NAMES:
            assert place_of(module) <= place_of(own), f"{own} imports {module}, which stands above it"


def test_no_module_imports_itself_by_way_of_others():
    graph = {name_of(path): {module for module in needed(path) if module in NAMES} for path in MODULES}
    left = {name: found - {name} for name, found in graph.items()}
    while free := [name for name, found in left.items() if not found & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"a circle, or what leads to one: {sorted(left)}"


def test_a_folder_and_a_module_are_small_enough_to_be_looked_over():
    folders = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {folder.name: n for folder, n in folders.items() if n > MOST_MODULES} == {}
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_data_modules_import_no_models():
    assert {path.name for path in MODULES} >= {"datamodule.py", "cnn.py", "worker.py"}


def test_only_confirm_reads_test_targets():
    """Whoever names the reader, or what it is made of, could look at the test set without a line in the ledger."""
    may_name = {
        "datasets.splits.held_out": {"datasets/splits/rows.py", "search/confirmation.py"},
        "read_test_set": {"datasets/splits/held_out.py", "search/confirmation.py"},
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
        if name_of(path).startswith("search.") and path.name != "run_config.py":
            for line in path.read_text(encoding="utf-8").splitlines():
                assert not re.search(r"(?<![.\w])find_task\([^)]*config", line), f"{path.name}: {line.strip()}"
