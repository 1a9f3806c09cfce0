"""What a job's exception becomes, and that a trial may end as it says."""

import pytest

from datasets.common.errors import CannotRank, UserError
from search.storage.attributes import ENDING
from search.storage.ending import Ending
from search.storage.rows.checks import attribute_problems
from search.workers.child import failure_of


@pytest.mark.parametrize(
    ("error", "kind", "cannot_rank"),
    [
        (CannotRank("it would predict one number"), "refused", True),
        (UserError("there is no GPU"), "refused", False),
        (LookupError("a bug"), "bug", False),
    ],
)
def test_every_failure_is_an_ending_that_a_row_may_hold(error: Exception, kind: str, cannot_rank: bool) -> None:
    failure = failure_of(error)
    assert (failure.kind, failure.cannot_rank) == (kind, cannot_rank)
    assert str(error) in failure.message
    assert list(attribute_problems(0, {ENDING: Ending(failure.kind).value}, {})) == []
