"""The problems of bench_samplers.py: a split, a family, its space, and what comes of its configurations."""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from datasets.common.paths import Places
from datasets.common.seeds import derive_seed
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.config.nested import Scalar, digest
from search.storage.ending import Ending
from search.study.config import StudyConfig, study_config
from search.study.protocol import find_protocol, with_protocol
from search.study.study import DIRECTION
from search.training.fit import fit
from tests.benchmarks.protocol_predictions import part_of

N_RANDOM = 200
TARGET = 0.99  # of the best random one
MOST_ROWS = 3000  # of train and validation, for what is not ridge; a random part of larger splits
N_EPOCHS = 15
_TWO, _THREE, _ONE = "gb1_two_vs_rest", "gb1_three_vs_rest", "gb1_one_vs_rest"
_LARGE = ("gb1_low_vs_high", "gb1_sampled", "aav_one_vs_many", "aav_two_vs_many")
_ORDER = (
    *((split, "ridge") for split in (_TWO, _THREE, _ONE)),
    *((split, "cnn") for split in (_THREE, _TWO)),
    *((split, "kernel") for split in (_TWO, _THREE, _ONE)),
    (_ONE, "cnn"),
    *((split, family) for family in ("ridge", "cnn", "kernel") for split in _LARGE),
)
PROBLEMS = {f"{split}-{family}": (split, family) for split, family in _ORDER}
"""By name, the cheap ones first. The other splits of AAV and Meltome are left out: two cores would take days."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a configuration: as `search.training.result.Result` has it, without what is not needed here."""

    ending: str
    value: float | None
    values: tuple[tuple[float | None, ...], ...]
    excess_rise: float | None
    cpu_s: float

    @property
    def is_valid(self) -> bool:
        """Whether it has a value that a study could choose."""
        return self.ending == Ending.COMPLETE and (self.excess_rise or 0.0) <= 0.0

    @property
    def n_epochs(self) -> int:
        """Of all folds."""
        return sum(map(len, self.values))


class Problem:
    """A family on a split, and the configurations of it that were trained.

    Args:
        name: One of `PROBLEMS`.
        folder: Where results are kept.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        split, family = PROBLEMS[name]
        self.words = [f"task={split}", f"model={family}", "logger=none", "trainer.threads=1", "trainer.accelerator=cpu"]
        if family == "cnn":
            self.words.append(f"trainer.max_epochs={N_EPOCHS}")
        config = study_config(self.words)
        task = find_task(split)
        rows = prepare(task, data_dir=None, cache_dir=folder / "cache", announce=lambda _: None)
        if family != "ridge" and len(rows.target) > MOST_ROWS:
            chosen = np.sort(np.random.default_rng(0).permutation(len(rows.target))[:MOST_ROWS])
            rows = part_of(rows, chosen)
        self.split: PreparedSplit = rows
        self.protocol = find_protocol(config.defaults["validation"], task, rows)
        self.config: StudyConfig = with_protocol(config, self.protocol)
        about = [self.config.fixed, self.config.space.tree, rows.data_hash, len(rows.target)]
        self._path = folder / f"{name}-{digest(about)[:12]}.jsonl"
        self._known: dict[str, Trained] = {}
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                kept = json.loads(line)
                kept["trained"]["values"] = tuple(map(tuple, kept["trained"]["values"]))
                self._known[_key(kept["values"])] = Trained(**kept["trained"])

    def train(self, values: Mapping[str, Scalar]) -> Trained:
        """What comes of the searched values, by path; found where they were trained before."""
        key = _key(values)
        if key not in self._known:
            started = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                result = fit(
                    self.config.run(values),
                    self.split,
                    places=Places(weights_dir=None, cache_dir=self.folder / "cache"),
                    directory=Path(folder),
                    report=lambda *_: None,
                )
            trained = Trained(
                ending=str(result.ending),
                value=result.value,
                values=result.values,
                excess_rise=result.excess_rise,
                cpu_s=round(time.process_time() - started, 3),
            )
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"values": dict(values), "trained": asdict(trained)}) + "\n")
            self._known[key] = trained
        return self._known[key]

    def random_trials(self) -> list[tuple[dict[str, Scalar], dict[str, Scalar]]]:
        """The searched values by path, and the parameters, of the random configurations: always the same."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = derive_seed("samplers", self.name) % 2**32
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), direction=DIRECTION)
        trials = [study.ask() for _ in range(N_RANDOM)]
        return [(self.config.space.suggest(trial, self.config.defaults), trial.params) for trial in trials]

    @cached_property
    def random(self) -> list[Trained]:
        """What comes of them; they are trained now, unless they were before."""
        return [self.train(values) for values, _ in self.random_trials()]

    @cached_property
    def target(self) -> float:
        """The value that a study has to reach."""
        return TARGET * max(one.value for one in self.random if one.is_valid and one.value is not None)

    def is_reached_by(self, trained: Trained) -> bool:
        """Whether a configuration, trained to its end, has the target's value."""
        return trained.is_valid and trained.value is not None and trained.value >= self.target

    @property
    def is_drawn(self) -> bool:
        """Whether all random configurations were trained."""
        return all(_key(values) in self._known for values, _ in self.random_trials())


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)
