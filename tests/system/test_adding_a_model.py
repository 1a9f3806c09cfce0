"""A model of one's own is added from the text of docs/models.md, and searched."""

import json
import subprocess
import sys

from tests.helpers.own_folder import page_blocks
from tests.helpers.processes import ROOT


def test_the_page_adds_a_model_in_under_60_lines_and_it_is_searched(tmp_path):
    blocks = page_blocks()
    assert [name for name, _ in blocks] == ["my_models/linear.py", "my_models/linear.yaml"]
    assert sum(len(text.splitlines()) + 1 for _, text in blocks) < 60
    (tmp_path / "my_models").mkdir(mode=0o755)
    for name, text in blocks:
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o644)
    command = [sys.executable, str(ROOT / "run_study.py"), "--task", "synthetic_one_vs_rest", "--model", "linear"]
    more = ["--models-dir", "my_models", "--n-trials", "3", "validation=holdout", "trainer.max_epochs=4"]
    subprocess.run([*command, *more], cwd=tmp_path, check=True, capture_output=True, text=True)
    name = "synthetic_one_vs_rest-linear"
    status = [*command[:2], "status", "--study-name", name, "--json"]
    found = json.loads(subprocess.run(status, cwd=tmp_path, check=True, capture_output=True, text=True).stdout)
    assert found["n_finished"] == 3
    assert found["model"] == "linear"
    assert found["best"]["params"].keys() == {"model.width", "model.lr"}
    assert (tmp_path / "studies" / "experiment" / f"{name}.yaml").exists()
