"""What is written of many candidates, and what is said of it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets.candidates.candidates import Candidates
from search.prediction.divided_cores import divided_cores
from search.prediction.ranking import Valued, unranked, write_all, write_top
from search.prediction.writers import PredictedBlock, columns_of

COLUMNS = columns_of("sequence", has_names=False)


def block(predictions):
    """Sequences named by their predictions."""
    n = len(predictions)
    residues = np.full((n, 3), ord("A"), dtype=np.uint8)
    lengths = np.full(n, 3, dtype=np.int64)
    candidates = Candidates(labels=[f"P{value}" for value in predictions], residues=residues, lengths=lengths)
    values = np.array(predictions, dtype=np.float32)
    return Valued(candidates=candidates, members=values[None], prediction=values, std=None)


def complete(valued):
    """Odd predictions lie outside."""
    outside = (valued.prediction % 2).astype(np.uint8)
    return PredictedBlock(
        candidates=valued.candidates, prediction=valued.prediction, std=None, distance=None, outside=outside
    )


@pytest.mark.parametrize(("kinds", "n_blocks", "n_threads"), [("ll", 4, 2), ("lh", 1, 8), ("hl", 1, 8), ("h", 1, 8)])
def test_all_models_together_decide_who_has_the_cores_and_the_caller_has_them_back(
    monkeypatch, kinds, n_blocks, n_threads
):
    monkeypatch.setattr("search.prediction.divided_cores.usable_cores", lambda: 8)
    before = torch.get_num_threads()
    with divided_cores([SimpleNamespace(is_light=kind == "l") for kind in kinds]) as found:
        assert (found, torch.get_num_threads()) == (n_blocks, n_threads)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("n_top", "expected"), [(2, [6, 5]), (4, [6, 5, 4, 3]), (9, [6, 5, 4, 3, 2, 1])])
def test_the_best_are_counted_and_not_those_that_they_displaced(tmp_path: Path, n_top, expected):
    blocks = [block([1, 3]), block([5, 2]), block([4, 6])]
    path = tmp_path / "top.csv"
    best, n_outside = write_top(blocks, complete, path, "csv", COLUMNS, n_top)
    assert best.tolist() == expected
    assert n_outside == sum(value % 2 for value in expected)
    assert len(path.read_text().splitlines()) == 1 + len(expected)


def test_all_are_counted(tmp_path: Path):
    blocks = [unranked(complete(one), "csv") for one in (block([1, 3]), block([5, 2]))]
    predictions, n_outside = write_all(blocks, tmp_path / "all.csv", "csv", COLUMNS)
    assert predictions.tolist() == [1, 3, 5, 2]
    assert n_outside == 3


def test_two_at_once_leave_the_threads_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one begins while the cores are divided already; what it found then is nobody's setting."""
    monkeypatch.setattr("search.prediction.divided_cores.usable_cores", lambda: 8)
    before = torch.get_num_threads()
    light = [SimpleNamespace(is_light=True)]
    try:
        torch.set_num_threads(5)
        first, second = divided_cores(light), divided_cores(light)
        first.__enter__()
        second.__enter__()
        assert torch.get_num_threads() == 2
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)
