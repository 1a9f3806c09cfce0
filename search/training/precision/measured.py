"""Measure how much faster bfloat16 computes frozen features on this machine, and by how much the features differ."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.common.paths import Places
from datasets.features.addresses import Sequences
from datasets.features.encoder import Encoder
from datasets.features.passes import passes, pooled
from datasets.splits.prepared import PreparedSplit
from datasets.task import Announce
from models.esm import ESM
from search.config.run_config import RunConfig
from search.stats.ridge_ranking import ridge_spearman
from search.training.build import build_data, build_model, folds_of
from search.training.precision.chosen import ChosenPrecision, choose_precision
from search.training.predictor import default_device

_PRECISIONS = ("32-true", "bf16-mixed")
_FEWEST_SEQUENCES = 128
_MOST_SEQUENCES = 512
_MOST_TOKENS = 32_768


def measure_precision(
    configs: Sequence[RunConfig], split: PreparedSplit, *, places: Places, announce: Announce
) -> ChosenPrecision | None:
    """Choose the precision of frozen features for those of the runs that leave it to `auto`; None if none does.

    Each backbone is measured with the most frozen layers that a run has of it, on 128 to 512 training sequences: that
    takes as long as embedding twice as many. bfloat16 has to suit all backbones.

    Raises:
        UserError: Weights are missing.
    """
    found = [_measured(config, split, places, announce) for config in _deepest(configs)]
    refused = [one for one in found if one.precision == "32-true"]
    return max(refused or found, key=lambda one: math.inf if one.loss is None else one.loss, default=None)


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
    sequences = Sequences(encoders[0], data.tokens, data.mask, data.region)
    _, first = np.unique(sequences.distinct.entry[fold.train], return_index=True)
    n = min(max(_FEWEST_SEQUENCES, _MOST_TOKENS // data.longest), _MOST_SEQUENCES, len(first))
    rows = fold.train[first[np.linspace(0, len(first) - 1, n).astype(np.int64)]]
    try:
        torch.set_num_threads(config.trainer.threads or threads)
        (full, full_s), (half, half_s) = _in_turn(encoders, sequences, rows)
    finally:
        torch.set_num_threads(threads)
        for encoder in encoders:
            encoder.release()
    target = np.asarray(split.target, dtype=np.float64)[rows]
    can_tell = n >= _FEWEST_SEQUENCES
    return choose_precision(
        backbone=str(config.model["backbone"]),
        n_sequences=n,
        speed=full_s / max(half_s, 1e-9),
        difference=_number(_difference(full, half)) if can_tell else None,
        loss=_number(ridge_spearman(full, target) - ridge_spearman(half, target)) if can_tell else None,
    )


def _encoder(config: RunConfig, precision: str, places: Places, device: torch.device, announce: Announce) -> Encoder:
    model = build_model(replace(config, model={**config.model, "feature_precision": precision}))
    model.fetch(places, announce)
    part = model.frozen_part(places, config.trainer.precision, device)
    assert part is not None, "it has frozen layers"
    return part.encoder


def _in_turn(
    encoders: Sequence[Encoder], sequences: Sequences, rows: NDArray[np.int64]
) -> list[tuple[NDArray[np.float64], float]]:
    """What each encoder makes of rows of the sequences, pooled (n, D), and in how many seconds.

    They take turns, so that a busy moment hits both.
    """
    features = [np.empty((len(rows), encoder.width)) for encoder in encoders]
    seconds = [0.0 for _ in encoders]
    for encoder in encoders:  # the weights are loaded with the first tokens
        encoder(sequences.tokens[torch.from_numpy(rows[:1])].long())
    for n_columns, numbers in passes(sequences.lengths[rows]):
        known = sequences.tokens[torch.from_numpy(rows[numbers]), :n_columns]
        batch = torch.zeros((len(numbers), n_columns), dtype=torch.int64)
        batch[:, : known.shape[1]] = known
        positions = sequences.positions("mean", rows[numbers], n_columns)
        for i, encoder in enumerate(encoders):
            start = time.perf_counter()
            features[i][numbers] = pooled(encoder(batch).float(), positions).cpu().numpy()
            seconds[i] += time.perf_counter() - start
    return list(zip(features, seconds, strict=True))


def _difference(full: NDArray[np.float64], half: NDArray[np.float64]) -> float:
    """How far `half` (n, D) is from `full` beyond a shift of all rows, as a part of the spread of `full`."""
    apart, spread = half - full, full - full.mean(0)
    with np.errstate(all="ignore"):  # nothing is spread where all rows are equal
        return float(np.linalg.norm(apart - apart.mean(0)) / np.linalg.norm(spread))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
