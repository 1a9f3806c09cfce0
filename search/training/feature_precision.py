"""Measure how much faster bfloat16 computes frozen features on this machine, and by how much the features differ."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from datasets.batches.datamodule import FitnessData
from datasets.common.paths import Places
from datasets.features.addresses import Sequences
from datasets.features.encoder import Encoder
from datasets.features.passes import passes, pooled
from datasets.splits.prepared import PreparedSplit
from datasets.task import Announce
from models.esm import ESM
from search.config.run_config import RunConfig
from search.training.build import build_data, build_model, folds_of
from search.training.chosen_precision import ChosenPrecision, choose_precision
from search.training.predictor import default_device

_PRECISIONS = ("32-true", "bf16-mixed")
_MOST_SEQUENCES = 64
_MOST_TOKENS = 16_384
_N_ROUNDS = 2


def measure_precision(
    configs: Sequence[RunConfig], split: PreparedSplit, *, places: Places, announce: Announce
) -> ChosenPrecision | None:
    """Choose the precision of frozen features for those of the runs that leave it to `auto`; None if none does.

    Each backbone is measured with the most frozen layers that a run has of it, on sequences of training and validation:
    a few seconds, for 650 million parameters on two cores a minute or two. bfloat16 has to suit all backbones.

    Raises:
        UserError: Weights are missing.
    """
    found = [_measured(config, split, places, announce) for config in _deepest(configs)]
    refused = [one for one in found if one.precision == "32-true"]
    return min(refused or found, key=lambda one: one.speed, default=None)


def _deepest(configs: Sequence[RunConfig]) -> Iterator[RunConfig]:
    """A run of each backbone that has frozen layers and leaves their precision open."""
    deepest: dict[tuple[str, bool], tuple[int, RunConfig]] = {}
    for config in configs:
        if config.model.get("feature_precision") != "auto":
            continue
        model = build_model(config)
        if not isinstance(model, ESM) or model.n_frozen_layers == 0:
            continue
        key = (model.backbone_name, model.is_pretrained)
        if key not in deepest or model.n_frozen_layers > deepest[key][0]:
            deepest[key] = (model.n_frozen_layers, config)
    yield from (config for _, config in deepest.values())


def _measured(config: RunConfig, split: PreparedSplit, places: Places, announce: Announce) -> ChosenPrecision:
    fold = max(folds_of(config, split), key=lambda one: len(one.train))
    data = build_data(config, split, build_model(config), fold, 0)
    device, threads = default_device(config), torch.get_num_threads()
    encoders = [_encoder(config, precision, places, device, announce) for precision in _PRECISIONS]
    try:
        torch.set_num_threads(config.trainer.threads or threads)
        (full, full_s), (half, half_s) = _in_turn(encoders, data, device)
    finally:
        torch.set_num_threads(threads)
        for encoder in encoders:
            encoder.release()
    return choose_precision(
        backbone=str(config.model["backbone"]),
        n_sequences=len(full),
        speed=full_s / max(half_s, 1e-9),
        difference=_difference(full, half),
    )


def _encoder(config: RunConfig, precision: str, places: Places, device: torch.device, announce: Announce) -> Encoder:
    model = build_model(replace(config, model={**config.model, "feature_precision": precision}))
    model.fetch(places, announce)
    part = model.frozen_part(places, config.trainer.precision, device)
    assert part is not None, "it has frozen layers"
    return part.encoder


def _in_turn(encoders: Sequence[Encoder], data: FitnessData, device: torch.device) -> list[tuple[Tensor, float]]:
    """What each encoder makes of the same sequences, pooled (n, D) float32, and in how many seconds.

    They take turns and the better of two rounds counts, so that a busy moment, or loading weights, hits neither alone.
    """
    sequences = Sequences(encoders[0], data.tokens, data.mask, data.region)
    examples = sequences.distinct.example
    n = min(max(2, _MOST_TOKENS // data.longest), _MOST_SEQUENCES, len(examples))
    rows = examples[np.linspace(0, len(examples) - 1, n).astype(np.int64)]
    features: list[list[Tensor]] = [[] for _ in encoders]
    seconds = [0.0 for _ in encoders]
    for n_columns, numbers in passes(sequences.lengths[rows]):
        known = data.tokens[torch.from_numpy(rows[numbers]), :n_columns]
        batch = torch.zeros((len(numbers), n_columns), dtype=torch.int64)
        batch[:, : known.shape[1]] = known
        positions = sequences.positions("mean", rows[numbers], n_columns)
        best = [math.inf for _ in encoders]
        for number in range(_N_ROUNDS):
            for i, encoder in enumerate(encoders):
                start = time.perf_counter()
                means = pooled(encoder(batch).float(), positions).cpu()
                best[i] = min(best[i], time.perf_counter() - start)
                if number == 0:
                    features[i].append(means)
        seconds = [total + one for total, one in zip(seconds, best, strict=True)]
    return [(torch.cat(parts), total) for parts, total in zip(features, seconds, strict=True)]


def _difference(full: Tensor, half: Tensor) -> float | None:
    """How far `half` (n, D) is from `full` beyond a shift of all rows, as a part of the spread of `full`."""
    apart, spread = half - full, full - full.mean(0)
    found = float((apart - apart.mean(0)).norm() / spread.norm())
    return found if math.isfinite(found) else None
