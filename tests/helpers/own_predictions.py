"""What Lightning's own trainer predicts of the test sequences, and whether `predict` says the same."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.splits.prepared import PreparedSplit
from datasets.splits.prepared import test_sequences as sequences_of_test
from search.config.run_config import RunConfig
from search.study.config import study_config
from search.training.build import build_data, build_model, folds_of
from search.training.trainer import build_trainer
from search.training.weights import load_weights


def own_test_predictions(config: RunConfig, split: PreparedSplit, weights: Path, folder: Path) -> NDArray[np.float32]:
    """Predictions (M,) of a split's M test sequences in their order."""
    residues, lengths = sequences_of_test(split)
    tested = replace(
        split, residues=residues, lengths=lengths, target=np.zeros(len(lengths), np.float32), validation=lengths > 0
    )
    config = replace(config, validation=study_config(["task=gb1_two_vs_rest", "validation=holdout"]).run({}).validation)
    model = build_model(config)
    fold = replace(folds_of(config, tested)[0], validation=np.arange(len(lengths)))
    data = build_data(config, tested, model, fold, 0)
    load_weights(model, weights)
    outputs = build_trainer(config, folder, 0, []).predict(model, dataloaders=data.val_dataloader())
    assert outputs is not None
    predictions = np.empty(len(lengths), dtype=np.float32)
    predictions[data.validation_rows] = torch.cat(outputs).numpy()  # type: ignore[arg-type]
    return predictions


def check_measured(
    rows: Sequence[Mapping[str, str]], split: PreparedSplit, wild_type: str | None, own: NDArray[np.float32]
) -> None:
    """Compare a ranked table of mutations with predictions (M,) of the test sequences: values and order."""
    assert wild_type is not None
    residues, _ = sequences_of_test(split)
    numbers = {
        ":".join(
            f"{a}{i}{b}" for i, (a, b) in enumerate(zip(wild_type, bytes(row).decode(), strict=True), 1) if a != b
        ): number
        for number, row in enumerate(residues)
    }
    found = [(numbers[row["mutations"]], row) for row in rows if row["mutations"] in numbers]
    assert len(found) > 100
    theirs = own[[number for number, _ in found]]
    ours = np.array([float(row["prediction"]) for _, row in found])
    np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)
    ranks = np.array([int(row["rank"]) for _, row in found])
    assert (np.diff(theirs[np.argsort(ranks)]) <= 1e-6).all()
