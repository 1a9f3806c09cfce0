"""The first half of `bench_protocols.py`: what every configuration predicts under every protocol, kept in files."""

import contextlib
import csv
import gzip
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches.batch import Batch
from datasets.batches.encode import Encoded, encode_sequences
from datasets.batches.window import LengthLimit
from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.common.seeds import derive_seed
from datasets.sequences.mutation_counts import find_mutations
from datasets.sequences.tokenizer import ResidueTokenizer
from datasets.splits.held_out import read_test_set
from datasets.splits.prepared import PreparedSplit, prepare, test_sequences
from datasets.tables.formats.fasta import read_wild_type
from datasets.tables.survey import survey
from datasets.tables.table import Table
from datasets.task import Task
from datasets.tasks.own_table import table_task
from datasets.tasks.registry import find_task
from datasets.validation.auto import find_facts, resolve
from datasets.validation.protocols import Fold
from search.config.run_config import RunConfig
from search.study.config import study_config
from search.training.build import build_model, folds_of
from search.training.fit import fit
from search.training.result import Result
from search.training.weights import load_weights

TASKS = ("gb1_one_vs_rest", "gb1_two_vs_rest", "gb1_three_vs_rest", "aav_one_vs_many", "aav_two_vs_many")
TEM1 = {"blat_by_position": "by_position", "blat_by_group": "by_group", "blat_random": "random"} | {
    "blat_contiguous": "by_group"
}
"""TEM-1's single mutants, by split; the groups are the mutated positions, of `blat_contiguous` 14 neighbouring ones."""
_BLOCK = 14  # positions: twenty blocks
MODELS = ("ridge", "kernel", "cnn")
N_CONFIGURATIONS = 40
MOST_ROWS = {"aav_two_vs_many": 2800, **dict.fromkeys(TEM1, 1200)}  # of train and validation, a random part
N_TEST_SEEN_BY_FOLDS = 2000  # random test sequences that the models of the folds predict too
PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "holdout": {"_target_": "datasets.validation.Holdout"},
    "kfold": {"_target_": "datasets.validation.KFold", "n_folds": 5, "seed": 0},
    "shifted": {"_target_": "datasets.shifted.Shifted", "fraction": 0.2},
    "by_position": {"_target_": "datasets.shifted.ByPosition", "n_folds": 4, "seed": 0},
    "by_group": {"_target_": "datasets.grouped.ByGroup", "n_folds": 5, "seed": 0},
}
_FEWER_POSITIONS = (3, 2)  # folds of by_position where fewer positions are mutated
_ALL = {"_target_": "datasets.whole_training.TrainAndValidation"}
FOLDER = Path(__file__).parents[2] / "runs" / "protocols"
_PREDICT_ROWS = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """A task's sequences as tokens, and everything that is measured of them.

    `seen_by_folds`: (m,) int64, the test rows that the models of the folds predict.
    """

    task: Task
    split: PreparedSplit
    encoded: Encoded
    test: Encoded
    test_target: NDArray[np.float32]
    seen_by_folds: NDArray[np.int64]


def n_epochs(model: str, n_rows: int) -> tuple[int, int]:
    """The most epochs of a run and its patience: fewer than the service's defaults, so that all of it takes an hour."""
    if model != "cnn":
        return 1, 1
    return (40, 10) if n_rows < 100 else (20, 5) if n_rows < 1000 else (8, 3)


def find(name: str, folder: Path | None) -> tuple[Task, Table | None]:
    """A task of that name; those of TEM-1 are splits of the table in `folder`."""
    if name not in TEM1:
        return find_task(name), None
    if folder is None:
        raise SystemExit(f"{name} needs TEM-1's table: name its folder with --tem1, or set FLIPSEARCH_DATA.")
    wild_type = read_wild_type(folder / "P62593.fasta")
    groups = folder / "blat.csv.gz"
    if TEM1[name] == "by_group":
        groups = _with_positions(groups)
    table = Table(
        file=str(groups),
        sequence_column="mutated_sequence",
        mutation_column=None,
        target_column="DMS_score",
        group_column=None if TEM1[name] != "by_group" else "block" if name == "blat_contiguous" else "position",
        wild_type=wild_type,
        sites=None,
        window=None,
        split=TEM1[name],
        max_train_mutations=None,
        split_seed=0,
        replicates=None,
        group_rule="nearest" if TEM1[name] == "by_group" else None,
    )
    found = survey(groups, table)
    return table_task(found.table, name=name, loaded=found), found.table


def _with_positions(path: Path) -> Path:
    """The table with a column of the mutated positions and one of their blocks, below the benchmark's folder."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    written = FOLDER / "blat_positions.csv"
    written.parent.mkdir(parents=True, exist_ok=True)
    with written.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mutated_sequence", "DMS_score", "position", "block"])
        for row in rows:
            position = int(row["mutant"][1:-1])
            writer.writerow([row["mutated_sequence"], row["DMS_score"], position, position // _BLOCK])
    return written


def configurations(
    task: str, model: str, n_rows: int, table: Table | None = None, n: int = N_CONFIGURATIONS
) -> list[tuple[dict[str, Any], RunConfig]]:
    """The defaults and random draws from the default space, parameters and run, always the same."""
    most, patience = n_epochs(model, n_rows)
    study = study_config(
        [
            *(f"task={task}", f"model={model}", "logger=none", "validation=holdout"),
            *("trainer.threads=1", "trainer.accelerator=cpu", f"trainer.max_epochs={most}"),
            f"trainer.patience={patience}",
        ],
        table=table,
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=derive_seed("protocols", model) % 2**32)
    search = optuna.create_study(sampler=sampler, direction="maximize")
    drawn: list[dict[str, Any]] = [dict(study.first_trials[0])]
    drawn += [study.space.suggest(search.ask(), study.defaults) for _ in range(n - 1)]
    return [(values, study.run(values)) for values in drawn]


def load_data(name: str, task: Task, cache_dir: Path) -> Data:
    """A task's data, a random part of train and validation where that is limited."""
    split = prepare(task, data_dir=None, cache_dir=cache_dir, announce=lambda _: None)
    if name in MOST_ROWS:
        rows = np.sort(np.random.default_rng(0).permutation(len(split.target))[: MOST_ROWS[name]])
        split = part_of(split, rows)
    held_out = read_test_set(task, data_dir=None, data_hash=split.data_hash, announce=lambda _: None)
    order = np.random.default_rng(1).permutation(len(held_out.target))
    return Data(
        task=task,
        split=split,
        encoded=_encode(split.residues, split.lengths, task),
        test=_encode(*test_sequences(split), task),
        test_target=held_out.target,
        seen_by_folds=np.sort(order[:N_TEST_SEEN_BY_FOLDS]).astype(np.int64),
    )


def part_of(split: PreparedSplit, rows: NDArray[np.int64]) -> PreparedSplit:
    """Some of the rows of train and validation, with the test part as it is."""
    n_validation = int(split.validation[rows].sum())
    return replace(
        split,
        **{name: getattr(split, name)[rows] for name in ("residues", "lengths", "target", "validation")},
        n_train=len(rows) - n_validation,
        n_validation=n_validation,
        group=None if split.group is None else split.group[rows],
    )


def _encode(residues: NDArray[np.uint8], lengths: NDArray[np.int64], task: Task) -> Encoded:
    limit = LengthLimit(max_length=None, max_residues=None, truncate=True)
    return encode_sequences(residues, lengths, task=task, tokenizer=ResidueTokenizer(), crop=None, limit=limit)


def keep_targets(name: str, data: Data) -> None:
    """Write what the analysis needs besides predictions."""
    task, split = data.task, data.split
    assert task.wild_type is not None
    test_residues, test_lengths = test_sequences(split)
    _write(
        FOLDER / name / "targets.npz",
        target=split.target,
        test_target=data.test_target,
        seen_by_folds=data.seen_by_folds,
        mutations=find_mutations(split.residues, split.lengths, task.wild_type).counts,
        test_mutations=find_mutations(test_residues, test_lengths, task.wild_type).counts,
        n_validation=np.array(split.n_validation),
        auto=np.array(resolve(find_facts(split, task), split, task).shown),
    )


def compute(tasks: Sequence[str], models: Sequence[str], tem1: Path | None, n_configurations: int) -> None:
    """Run what is not there yet, one configuration after the other."""
    torch.set_num_threads(1)
    cache_dir = FOLDER.parent / "cache"
    for name in tasks:
        task, table = find(name, tem1)
        data = load_data(name, task, cache_dir)
        keep_targets(name, data)
        for model in models:
            drawn = configurations(name, model, len(data.split.target), table, n_configurations)
            for number, (values, run) in enumerate(drawn):
                path = FOLDER / name / f"{model}-{number:02d}.npz"
                if path.exists():
                    continue
                start, cpu = time.monotonic(), time.process_time()
                arrays = predictions(run, data, Places(weights_dir=None, cache_dir=cache_dir))
                _write(path, parameters=np.array(json.dumps(values)), **arrays)
                took, used = time.monotonic() - start, time.process_time() - cpu
                print(f"{name} {model} {number}: {took:.1f} s, {used:.1f} s of a core", flush=True)


def predictions(run: RunConfig, data: Data, places: Places) -> dict[str, NDArray[Any]]:
    """What a configuration predicts.

    For each protocol that the split can carry and under which the run ends well: `P_row` (n,) the rows that are judged
    and `P_prediction` (n,), the mean where several folds judge a row; `P_folds` (n_folds, m), what the model of each
    fold predicts of the m test sequences `seen_by_folds`. `test` (M,): what a model of train and validation together
    predicts, trained to the last epoch.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for protocol, tree in PROTOCOLS.items():
            if protocol == "by_position" and run.trainer.max_epochs > 1 and data.task.name not in TEM1:
                continue  # a third of the CNN's time for what does worst with the others
            config = replace(run, validation=dict(tree))
            folds = _folds(config, data.split)
            weights = _train(config, folds, data, places, Path(folder) / protocol) if folds else ()
            if weights:
                arrays |= _judged(protocol, config, folds, weights, data)
        config = replace(run, validation=_ALL)
        result = _fit(config, data.split, places, Path(folder) / "all")
        if result.ending == "complete":
            arrays["test"] = _predict(
                config, 0, Path(result.checkpoints[0]), data.test, np.arange(len(data.test_target))
            )
    return arrays


def _folds(config: RunConfig, split: PreparedSplit) -> tuple[Fold, ...]:
    """The protocol's folds, none if the split can't be divided so."""
    trees = [config.validation]
    trees += [{**config.validation, "n_folds": n} for n in _FEWER_POSITIONS if "ByPosition" in trees[0]["_target_"]]
    for tree in trees:
        with contextlib.suppress(UserError):
            return folds_of(replace(config, validation=tree), split)
    return ()


def _train(config: RunConfig, folds: Sequence[Fold], data: Data, places: Places, directory: Path) -> Sequence[Path]:
    """The models of all folds; none if one of them diverged, or its predictions could never be ranked."""
    if config.trainer.max_epochs > 1:
        result = _fit(config, data.split, places, directory)
        return [*map(Path, result.checkpoints)] if result.ending == "complete" else ()
    # Validation chooses no epoch: a fold may be as small as it likes.
    config = replace(config, validation=_ALL)
    results = [
        _fit(config, part_of(data.split, fold.train), places, directory / str(number))
        for number, fold in enumerate(folds)
    ]
    if any(result.ending != "complete" for result in results):
        return ()
    return [Path(result.checkpoints[0]) for result in results]


def _fit(config: RunConfig, split: PreparedSplit, places: Places, directory: Path) -> Result:
    return fit(config, split, places=places, directory=directory, report=lambda *_: None)


def _judged(
    protocol: str, config: RunConfig, folds: Sequence[Fold], weights: Sequence[Path], data: Data
) -> dict[str, NDArray[Any]]:
    total, n_times = np.zeros(len(data.split.target)), np.zeros(len(data.split.target))
    of_test = []
    for number, (fold, path) in enumerate(zip(folds, weights, strict=True)):
        total[fold.validation] += _predict(config, number, path, data.encoded, fold.validation)
        n_times[fold.validation] += 1
        of_test.append(_predict(config, number, path, data.test, data.seen_by_folds))
    rows = np.flatnonzero(n_times)
    return {
        f"{protocol}_row": rows,
        f"{protocol}_prediction": (total[rows] / n_times[rows]).astype(np.float32),
        f"{protocol}_folds": np.stack(of_test),
    }


def _predict(
    config: RunConfig, number: int, weights: Path, encoded: Encoded, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    model = build_model(config, number)
    load_weights(model, weights)
    model.eval()
    parts: list[Tensor] = []
    with torch.no_grad():
        for chosen in torch.from_numpy(rows).split(_PREDICT_ROWS):
            parts.append(
                model(
                    Batch(
                        tokens=encoded.tokens[chosen].long(),
                        mask=encoded.mask[chosen],
                        region=encoded.region[chosen],
                        target=torch.zeros(len(chosen)),
                        index=chosen,
                    )
                )
            )
    return torch.cat(parts).numpy()


def _write(path: Path, **arrays: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez_compressed(beside, **arrays)  # type: ignore[arg-type]
    os.replace(beside, path)
