"""Fixtures of all tests, their marks and their order, and SIGINT for all that they start."""

import gc
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.examples import FUZZ

pytest_plugins = ["tests.helpers.data_fixtures", "tests.helpers.model_fixtures", "tests.helpers.study_fixtures"]

SYSTEM = Path(__file__).parent / "system"
# The files that take longest, those first that wait for processes, leases and servers.
LONGEST = (
    # Of `make test-system`.
    "test_matrix",
    "test_ray_matrix",
    "test_ray",
    "test_ray_ship",
    "test_fleet",
    "test_slurm",
    "test_faults",
    "test_hostile_database",
    "test_own_imports",
    "test_serve",
    "test_resume_killed",
    "test_esm_search",
    "test_endings",
    "test_timeouts",
    "test_broken_databases",
    "test_creation",
    "test_updated_checkout",
    "test_foreign_experiments",
    # Of `make test`; the first have smoke tests, which wait for processes while the other files compute.
    "test_postgres",
    "test_confirm",
    "test_config",
    "test_resume",
    "test_readings",
    "test_bad_input",
    "test_exports",
    "test_artifacts",
    "test_protocols",
    "test_data_command",
    "test_predict",
    "test_folders",
    "test_trial_rows",
    "test_search",
)
# torch, Optuna and Lightning are hundreds of thousands of objects that stay: nobody has to look for garbage among them
# for every 700 new ones. The program does the same (`search.cli.main`).
gc.set_threshold(100_000)
settings.register_profile(FUZZ, print_blob=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark all below `system` so, and what has a Postgres; with several workers the longest files first.

    A worker that is done takes the next file: with the long ones begun first, all workers end together.
    """
    for item in items:
        if item.path.is_relative_to(SYSTEM):
            item.add_marker("system")
        if _has_postgres(item):
            item.add_marker("postgres")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def _has_postgres(item: pytest.Item) -> bool:
    """By its fixtures, or by the parameter of one that asks for the server itself."""
    call = getattr(item, "callspec", None)
    words = [] if call is None else [value for value in call.params.values() if isinstance(value, str)]
    return "postgres" in (*getattr(item, "fixturenames", ()), *words)


def pytest_collection_finish() -> None:
    """What was imported stays."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What a test starts, or a fixture of it, takes SIGINT.

    Processes inherit it ignored from a shell that runs the suite in the background, and from a command that a test
    before ran in this process: once it has ended, a second Ctrl-C has nothing left to stop.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
