"""Fixtures of all tests, their marks and their order, and SIGINT for all that they start."""

import signal
from pathlib import Path

import pytest

pytest_plugins = ["tests.helpers.data_fixtures", "tests.helpers.model_fixtures", "tests.helpers.study_fixtures"]

SYSTEM = Path(__file__).parent / "system"
# Of the files that wait for real servers and killed processes, those that take longest.
LONGEST = (
    "test_faults",
    "test_matrix",
    "test_endings",
    "test_fleet",
    "test_resume_killed",
    "test_esm_search",
    "test_timeouts",
    "test_broken_databases",
    "test_creation",
    "test_hostile_database",
    "test_own_imports",
    "test_updated_checkout",
    "test_foreign_experiments",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark all below `system` so; with several workers the longest files first, so that all workers end together."""
    for item in items:
        if item.path.is_relative_to(SYSTEM):
            item.add_marker("system")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test starts, or a fixture of it, takes SIGINT.

    Processes inherit it ignored from a shell that runs the suite in the background, and from a command that a test
    before ran in this process: once it has ended, a second Ctrl-C has nothing left to stop.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
