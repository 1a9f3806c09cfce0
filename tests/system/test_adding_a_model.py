"""A model of one's own is added from the text of docs/models.md, and searched."""

import json
import re
import shutil
import subprocess
import sys

from tests.helpers.processes import ROOT

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def code_blocks(heading):
    """The fenced blocks of a section."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section, f"the page has no section {heading!r}"
    return re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", section.group(1), re.M | re.S)


def test_the_page_adds_a_model_in_under_60_lines_and_it_is_searched(tmp_path):
    blocks = code_blocks("Add a model")
    assert [name.rpartition("/")[0] for name, _ in blocks] == ["models", "studies/model", "studies/space"]
    assert sum(len(text.splitlines()) + 1 for _, text in blocks) < 60
    for folder in ("datasets", "models", "search", "studies"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_study.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name, text in blocks:
        (tmp_path / name).write_text(text, encoding="utf-8")
    model = blocks[0][0].rpartition("/")[2].removesuffix(".py")
    command = [
        sys.executable,
        "run_study.py",
        "--task",
        "synthetic_one_vs_rest",
        "--model",
        model,
        "--n-trials",
        "3",
        "validation=holdout",
    ]
    subprocess.run([*command, "trainer.max_epochs=4"], cwd=tmp_path, check=True, capture_output=True, text=True)
    name = f"synthetic_one_vs_rest-{model}"
    status = [sys.executable, "run_study.py", "status", "--study-name", name, "--json"]
    found = json.loads(subprocess.run(status, cwd=tmp_path, check=True, capture_output=True, text=True).stdout)
    assert found["n_finished"] == 3
    assert found["model"] == model
    assert found["best"]["params"].keys() == {"model.width", "model.lr"}
    assert (tmp_path / "studies" / "experiment" / f"{name}.yaml").exists()
