"""What a job's exception becomes, and that a trial may end as it says."""

import pytest

from datasets.common.errors import CannotRank, SequenceError, TooManyRows, UserError
from search.storage.attributes import ENDING
from search.storage.ending import Ending
from search.storage.rows.checks import attribute_problems
from search.workers.child import failure_of


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
