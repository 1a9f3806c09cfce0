"""The commands that a study's report proposes."""

import html
import re
import shlex
from pathlib import Path

from tests.helpers.answers import run_here


def search_proposed(study: str, folder: Path, *words: str) -> list[str]:
    """The words of the search with which the report says that a study is repeated."""
    answer = run_here("report", "--study-name", study, "--output", "report.html", *words, cwd=folder)
    assert answer.status == 0, answer
    page = html.unescape((folder / "report.html").read_text(encoding="utf-8"))
    (command,) = re.findall(r"^.* (--(?:data|task) .*)$", page, re.MULTILINE)
    return shlex.split(command)
