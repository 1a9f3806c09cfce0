"""Runs of integration tests are in the test's own process, as `executor="inline"` has them.

A child process for each check and each trial costs a second, and is what the tests of the system are about.
"""

from collections.abc import Iterator

import pytest

from search.workers import child, inline


@pytest.fixture(scope="session", autouse=True)
def _inline_runs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inline, "Child", inline.Inline)
        patch.setattr(child, "Child", inline.Inline)
        patch.setattr(child, "prepare_children", lambda: None)
        for function in (child.isolated_run, child.isolated_check):
            patch.setitem(function.__kwdefaults__, "start", inline.Inline)
        yield
