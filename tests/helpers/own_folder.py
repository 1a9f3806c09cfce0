"""A folder of models of the user's own, with the model of docs/models.md."""

import re
from pathlib import Path

from tests.helpers.processes import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def page_blocks() -> list[tuple[str, str]]:
    """The files that the page's section "Add a model" writes: their names and texts."""
    section = re.search(r"^## Add a model$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section, "the page has no section about it"
    return re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", section.group(1), re.M | re.S)


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file that nobody else may write, whatever the umask."""
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


def make_folder(folder: Path) -> Path:
    """The page's model in a folder, beside a module that would be executed if the folder were on Python's path."""
    for name, text in page_blocks():
        write(folder, name.rpartition("/")[2], text)
    write(folder, "torch.py", "raise AssertionError('the folder is on the path')\n")
    return folder
