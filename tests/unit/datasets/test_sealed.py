"""What a search holds in memory, whatever its protocol, leads to no test target."""

import gc
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from datasets.batches.datamodule import FitnessData
from datasets.sequences.tokenizer import ResidueTokenizer
from datasets.splits.prepared import load_prepared
from datasets.tasks import split_zip
from datasets.tasks.registry import find_task
from datasets.validation.auto import Auto
from datasets.validation.protocols import Holdout, KFold, RepeatedKFold, Validation
from datasets.validation.shifted import ByPosition, Shifted
from tests.helpers.data_fixtures import Workplace
from tests.helpers.split_files import Row, variant, write_zip

TASK = "gb1_two_vs_rest"
TEST, KNOWN = np.float32(-7654.3217), np.float32(1234.5678)
RESIDUES = "ACEFHIKLMNPQRSTWY"


def rows() -> list[Row]:
    singles = [variant(residue, site) for site in (38, 39) for residue in RESIDUES]
    doubles = [variant(residue, 39, variant("A")) for residue in RESIDUES] + [variant("W", 40, variant("A"))] * 3
    triples = [variant(residue, 40, variant("C", 39, variant("A"))) for residue in "ACEF"]
    known = [(sequence, f"{i}", "train", str(i % 4 == 3)) for i, sequence in enumerate([*singles, *doubles])]
    return [
        *known,
        (variant("Y", 53), str(KNOWN), "train", ""),
        *((sequence, str(TEST), "test", "") for sequence in triples),
    ]


def arrays_from(start: object) -> Iterator[np.ndarray[Any, Any]]:
    """Every array and tensor that can be reached from an object; classes, functions and modules lead no further."""
    seen, left = {id(start)}, [start]
    while left:
        item = left.pop()
        if isinstance(item, torch.Tensor):
            yield item.detach().numpy()
        elif isinstance(item, np.ndarray):
            yield item
        if not isinstance(item, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType):
            new = [other for other in gc.get_referents(item) if id(other) not in seen]
            seen.update(map(id, new))
            left.extend(new)


def holds(start: object, value: np.float32) -> bool:
    return any((array == value).any() for array in arrays_from(start) if array.dtype in (np.float32, np.float64))


@pytest.mark.parametrize(
    "protocol",
    [
        Holdout(),
        KFold(n_folds=3, seed=0),
        RepeatedKFold(n_folds=3, n_repeats=2, seed=0),
        Shifted(fraction=0.2),
        ByPosition(n_folds=2, seed=0),
        Auto(),
    ],
)
def test_the_data_module_leads_to_no_test_target(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, protocol: Validation
) -> None:
    write_zip(workplace.data, rows())
    path = workplace.prepare(TASK).path

    def read(*_: object) -> None:
        raise AssertionError("the test split was read")

    monkeypatch.setattr(split_zip, "read_split", read)
    (workplace.data / "gb1" / "splits.zip").unlink()
    split, task = load_prepared(path), find_task(TASK)
    for number, fold in enumerate(protocol.folds(split, task)):
        data = FitnessData(
            split=split,
            task=task,
            tokenizer=ResidueTokenizer(),
            fold=fold,
            crop=None,
            batch_size=16,
            seed=0,
            fold_number=number,
        )
        batches = [*data.train_dataloader(), *data.val_dataloader()]
        assert holds((data, split, protocol), KNOWN)  # so a test target would have been found
        assert not holds((data, split, protocol, batches), TEST)
        assert sum(map(len, batches)) == len(fold.train) + len(fold.validation)
