"""Where the cells of a text table end: odd quotes, lines before the header, and several signs that may divide."""

import csv
import time
from pathlib import Path

import pytest

from datasets.common.errors import UserError
from datasets.tables.read import read_columns


def test_blank_lines_before_the_header_are_not_copied_for_each_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    n = 1_000_000
    path.write_bytes(b"\n" * n + b"sequence,target\nACD,1\n")
    start = time.process_time()
    assert read_columns(path).lines.tolist() == [n + 2]
    assert time.process_time() - start < 10
