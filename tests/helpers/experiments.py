"""Experiments with their weights, made by one short training in this process, and several of them as one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.common.files import link
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from search.config.run_config import RunConfig
from search.experiments.experiment import SCHEMA_VERSION, Experiment, Provenance, freeze, load_experiment, today
from search.experiments.files import FOLD, weights_folder
from search.experiments.member_weights import place_all
from search.experiments.members import ENSEMBLE_VERSION, Ensemble, Member, Origins
from search.experiments.reference import reference_predictions
from search.experiments.scales import shares_of
from search.machine.environment import machine_kind, package_versions
from search.request.inputs import load_split, places_of
from search.study.artifacts import hash_or_missing
from search.study.training_rows import familiar_rows
from search.training.fit import fit
from search.training.predictions import Predictions


def averaged_experiment(
    path: Path,
    exports: Sequence[Path],
    predictions: Sequence[Predictions],
    weights: NDArray[np.float64],
    runs: Path | None = None,
) -> Path:
    """Write the ensemble of these experiments at `path`, whatever a selection would take, the weights beside it.

    Their weights stand in the same folder or deeper; `predictions` are out of fold, `weights` add up to 1. With the
    folder of their `runs` it is standardised as `combine` does, so that `verify` finds the same.
    """
    parts = [load_experiment(export) for export in exports]
    files = [
        [weights_folder(export) / FOLD.format(fold) for fold in range(len(part.provenance.values))]
        for export, part in zip(exports, parts, strict=True)
    ]
    reference = None
    if runs is not None:
        split = load_split(parts[0].task(), None, runs, print).path
        places, beside = places_of(None, runs), runs / "reference"
        pairs = zip(parts, files, strict=True)
        reference = np.stack([reference_predictions(*pair, split, places, beside) for pair in pairs])
    target = predictions[0].target
    own = np.stack([one.prediction for one in predictions])
    shares, intercept, slope = shares_of(weights, own, target, reference)
    origins = Origins(
        schema_version=ENSEMBLE_VERSION,
        studies=[part.provenance.study for part in parts],
        study_ids=[part.provenance.study_id for part in parts],
        n_candidates=len(parts),
        date=today(),
        value=0.5,
        n_sequences=len(target),
        intercept=intercept,
        slope=slope,
        git_commit=None,
    )
    members = tuple(Member(experiment=part, share=share) for part, share in zip(parts, shares, strict=True))
    ensemble = Ensemble(members=members, origins=origins)
    place_all(files, ensemble, path, runs=path.parent)
    freeze(replace(parts[0], ensemble=ensemble), path)
    return path


def trained_experiment(
    path: Path, config: RunConfig, split: PreparedSplit, places: Places, **changes: Any
) -> Experiment:
    """Train a config and write it at `path` as a search exports its best trial, the weights beside it.

    `changes` are of the provenance.
    """
    directory = path.parent / f"run of {path.stem}"
    result = fit(config, split, places=places, directory=directory, report=lambda *values: None)
    assert result.ending == "complete", result
    assert result.value is not None
    weights_folder(path).mkdir(parents=True)
    hashes = []
    for fold, checkpoint in enumerate(result.checkpoints):
        link(Path(checkpoint), weights_folder(path) / FOLD.format(fold))
        hashes.append(hash_or_missing(Path(checkpoint)))
    known: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "study": path.stem,
        "study_id": None,
        "model": "by hand",
        "protocol": "holdout",
        "trial": 0,
        "n_finished": 1,
        "n_target": 1,
        "date": today(),
        "seed": config.seed,
        "threads": result.threads,
        "micro_batch_tokens": result.micro_batch_tokens,
        "backbone": result.backbone,
        "device": result.device,
        "value": result.value,
        "values": [list(values) for values in result.values],
        "best_epochs": list(result.best_epochs),
        "n_parameters": result.n_parameters,
        "seconds": result.seconds,
        "data": split.label,
        "data_hash": split.data_hash,
        "weight_hashes": hashes,
        "versions": package_versions(),
        "machine": machine_kind(result.device),
        "git_commit": None,
    }
    familiar = familiar_rows(config, split, result.max_residues)
    experiment = Experiment(config=config, provenance=Provenance(**{**known, **changes}), familiar=familiar)
    freeze(experiment, path)
    return experiment
