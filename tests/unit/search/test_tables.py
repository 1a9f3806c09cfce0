"""Tables on a terminal: columns of text, as wide as their cells."""

import pytest

from search.machine.tables import in_columns

LONG = "a-study-with-a-name-" * 20


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([["study", "best"], ["a", "0.5"]], ["study  best", "a      0.5"]),
        ([["study", "best"], ["a", ""]], ["study  best", "a"]),
        ([["study", "best"]], ["study  best"]),
        ([["file", "n"], ["蛋白.csv", "1"], ["plain.csv", "2"]], ["file       n", "蛋白.csv   1", "plain.csv  2"]),
        ([["[red]a[/red]", ":x:"], [":smile:", "[1]"]], ["[red]a[/red]  :x:", ":smile:       [1]"]),
    ],
    ids=["columns", "an empty cell at the end", "headers alone", "wide letters", "what rich takes for markup"],
)
def test_columns_stand_below_each_other(rows, lines):
    assert in_columns(rows).splitlines() == lines


def test_nothing_is_cut_off():
    assert in_columns([["name", "n"], [LONG, "1"]]).splitlines()[1] == f"{LONG}  1"
