"""The error that is a sentence for the user, and the nearest names it can offer."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake that the user can mend; its text is one sentence: the value, what was expected, what to do.

    The command line prints it on stderr without a traceback and exits with `exit_status`.
    """

    exit_status = 2


class NotForTheseData(UserError):
    """Nothing is wrong, but a family of models is not for these data: another one may be. `brief` says why."""

    brief = "it is not for these data"


class CannotRank(NotForTheseData):
    """A model would predict one number for all variants that judge it: no hyperparameters help, another family may."""

    brief = "it cannot tell the validation variants apart"


class TooManyRows(NotForTheseData):
    """There are more training rows than a model takes by itself."""

    brief = "there are more training sequences than it takes"


class SequenceError(UserError):
    """A `UserError` about one sequence of many: `row` counts from 0, so that whoever read them can name its line.

    Its text is the finding and the advice; whoever has better advice takes the `finding` alone.
    """

    def __init__(self, finding: str, row: int, advice: str = "") -> None:
        super().__init__(finding + advice)
        self.finding = finding
        self.row = row


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `` Did you mean 'a' or 'b'?`` with the up to three names closest to `name`, or ``""``."""
    close = get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
