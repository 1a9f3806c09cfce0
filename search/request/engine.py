"""What brings the workers of a search to other places than this machine, such as the nodes of a cluster."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datasets.splits.prepared import PreparedSplit
    from search.request.search_request import SearchRequest
    from search.study.config import StudyConfig
    from search.workers.crew import Crew
    from search.workers.display import Display


class Engine(Protocol):
    """Brings workers to places of its own; `search.session.run_study` takes one."""

    def opened(
        self, request: "SearchRequest", config: "StudyConfig", split: "PreparedSplit", display: "Display"
    ) -> "AbstractContextManager[Callable[[int | None], Crew]]":
        """Connect; at the end of the block no worker is left.

        Yields what makes the crew for the study's threads (`search.study.recorded.noted_threads`); it refuses what
        cannot be as `opened` does.

        Raises:
            UserError: The place is not there, or it cannot serve this search.
        """
