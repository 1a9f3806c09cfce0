"""Experiments with their weights, made by one short training in this process."""

from pathlib import Path
from typing import Any

from datasets.common.files import link
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit
from search.config.run_config import RunConfig
from search.experiments.experiment import SCHEMA_VERSION, Experiment, Provenance, freeze, today
from search.experiments.files import FOLD, weights_folder
from search.machine.environment import machine_kind, package_versions
from search.study.artifacts import hash_or_missing
from search.study.training_rows import familiar_rows
from search.training.fit import fit


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
