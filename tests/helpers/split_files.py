"""Small files in FLIP's layout, written for a test."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from datasets.tasks.flip import GB1_WILD_TYPE

Row = tuple[str, str, str, str]
HEADER = ("sequence", "target", "set", "validation")


def variant(residue: str, site: int = 38, wild_type: str = GB1_WILD_TYPE) -> str:
    return wild_type[:site] + residue + wild_type[site + 1 :]


GOOD_ROWS: tuple[Row, ...] = (
    (variant("A"), "1.0", "train", ""),
    (variant("C"), "0.5", "train", "False"),
    (variant("D"), "-0.25", "train", "True"),
    (variant("E"), "2", "test", ""),
)


def write_zip(folder: Path, rows: Sequence[Sequence[str]], split: str = "two_vs_rest", dataset: str = "gb1") -> Path:
    """Write a dataset's file in FLIP's layout; `rows` has no header. Return its path."""
    text = "".join(",".join(row) + "\n" for row in (HEADER, *rows))
    return write_text(folder, text, split, dataset)


def write_text(folder: Path, text: str, split: str = "two_vs_rest", dataset: str = "gb1") -> Path:
    path = folder / dataset / "splits.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"splits/{split}.csv", text)
    return path
