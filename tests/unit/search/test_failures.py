"""What a job's exception becomes, and that a trial may end as it says."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.common.errors import CannotRank, SequenceError, TooManyRows, UserError
from search.machine.limits import LimitReached
from search.storage.attributes import ENDING
from search.storage.ending import Ending
from search.storage.outages import StorageLost
from search.storage.rows.checks import attribute_problems
from search.workers.child import Child, failure_of, prepare_children
from search.workers.fleet_worker import Done
from search.workers.inline import Inline
from search.workers.messages import Announcement, Failure
from search.workers.worker import TooManyFailures


@pytest.mark.parametrize(
    ("error", "kind", "known"),
    [
        (CannotRank("it would predict one number"), "refused", CannotRank),
        (TooManyRows("it takes fewer"), "refused", TooManyRows),
        (UserError("there is no GPU"), "refused", UserError),
        (SequenceError("it holds a digit", 3), "refused", UserError),
        (LookupError("a bug"), "bug", UserError),
    ],
)
def test_every_failure_is_an_ending_that_a_row_may_hold(error: Exception, kind: str, known: type[UserError]) -> None:
    failure = failure_of(error)
    assert (failure.kind, failure.error) == (kind, known)
    assert str(error) in failure.message
    assert list(attribute_problems(0, {ENDING: Ending(failure.kind).value}, {})) == []


def leave(*_: object) -> None:
    sys.exit(3)


def talk(tell: Callable[[Any], None], should_stop: Callable[[], bool]) -> None:
    tell(Announcement(sentence="x" * 10**7))


def test_a_model_that_leaves_python_does_not_hang_a_search_in_one_process(tmp_path: Path) -> None:
    run = Inline(leave, tmp_path)
    message = run.next_message(60)
    run.close()
    assert isinstance(message, Failure)
    assert "SystemExit: 3" in message.message


def test_a_child_that_is_killed_amid_a_message_is_lost(tmp_path: Path) -> None:
    prepare_children()  # as a search does, whose children would load torch themselves otherwise
    run = Child(talk, tmp_path)
    assert run._pipe.poll(120)
    run._process.kill()
    run._process.join()
    message = run.next_message(60)
    run.close()
    assert isinstance(message, Failure)
    assert message.kind == "lost"


@pytest.mark.parametrize(
    "error", [LimitReached("the disk is full"), UserError("no"), StorageLost("gone"), TooManyFailures("three")]
)
def test_a_worker_ends_its_search_with_the_status_of_what_ended_it(error: Exception) -> None:
    found = Done.of(error).error
    assert str(found) == str(error)
    assert getattr(found, "exit_status", None) == getattr(error, "exit_status", None)
    assert isinstance(found, TooManyFailures) == isinstance(error, TooManyFailures)
    assert Done().error is None
