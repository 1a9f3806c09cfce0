"""README and docs: their links lead somewhere, and what they tell people to type is what the program takes."""

import re
import shlex

import pytest

from search.options.arguments import parse
from search.study.config import study_config
from tests.helpers.own_folder import make_folder
from tests.helpers.processes import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES = 250  # of the README
STANDS_FOR = {"TASK": "gb1_three_vs_rest"}
"""What stands for a name of the reader's own."""


def prose(path):
    """The page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(path):
    """Of its headings, as they are called on the web."""
    titles = re.findall(r"^#+ (.*)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands():
    """(page, words) of every call of the program in an indented block."""
    for page in PAGES:
        text = re.sub(r" \\\n +", " ", prose(page))
        for line in re.findall(r"^ {4}python run_study\.py (.*)$", text, re.M):
            own = line.partition(" | ")[0]  # what another program reads is its own
            words = [STANDS_FOR.get(word, word) for word in shlex.split(own, comments=True)]
            yield pytest.param(words, id=f"{page.name}: {line[:70]}")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    assert links or page.name != "README.md"
    for link in links:
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_listed_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []


@pytest.mark.parametrize("words", list(commands()))
def test_commands_are_what_the_program_takes(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "my_models")
    arguments = parse(words)
    overrides = getattr(arguments, "overrides", None)
    if overrides and arguments.data is None and not getattr(arguments, "models", None):
        study_config(overrides)
