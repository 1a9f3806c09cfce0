"""What commands answer that run in this process."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

from search.cli.main import main


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command answered."""

    status: int
    out: str
    err: str

    def refusal(self) -> str:
        """The one sentence on stderr with which bad input is refused."""
        assert self.status == 2, self
        assert self.err.count("\n") == 1, self
        assert self.err.startswith("error: "), self
        assert "Traceback" not in self.out + self.err
        return self.err


def run_here(*words: str, cwd: Path) -> Answer:
    """Run a command in this process, in some folder: a fresh interpreter takes seconds to load what this one has."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return Answer(status=status, out=out.getvalue(), err=err.getvalue())
