"""What `confirm` found of an experiment, its lines in the ledger, and the weights that it leaves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from datasets.common.errors import UserError
from datasets.common.files import link, replaced, with_usual_mode, write_text
from search.experiments.confirm.candidates import DIVISIONS, Candidate, TrainedOn
from search.experiments.confirm.coverage import Coverage
from search.experiments.experiment import Experiment
from search.experiments.files import SEED, confirmation_file, influence_file, ledger_file, weights_folder
from search.experiments.ledger import Reading, lock_of
from search.experiments.members import part_paths
from search.experiments.requirements import CALIBRATION
from search.experiments.scales import SCALES, Scale
from search.machine.environment import git_commit, machine_kind, package_versions
from search.machine.foreign_files import open_regular
from search.stats.calibration import Calibration
from search.stats.intervals import ConfidenceInterval
from search.stats.metrics import METRICS, Spread, mean_influence, measure, over_sequences, spreads
from search.study.artifacts import hash_or_missing
from search.study.question import Question, question

COVERED: TrainedOn = "train_and_validation"
"""How the models are trained whose intervals are measured: those that `predict` takes."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Test metrics by name: of each seed, over the seeds, and of the seeds' mean prediction.

    `over_sequences` is how far the mean over the seeds would move on other test sequences, and `influence` (M,) what
    each of these adds to the noise of its Spearman (`search.stats.intervals.influence`), which tells what a difference
    to another model on the same sequences is worth.
    """

    per_seed: tuple[dict[str, float], ...]
    test: dict[str, Spread]
    ensemble: dict[str, float]
    over_sequences: dict[str, ConfidenceInterval]
    influence: NDArray[np.float64] = field(compare=False)

    @property
    def depends_on_seed(self) -> bool:
        """Whether two seeds differ in anything."""
        return any(spread.std is not None for spread in self.test.values())

    @staticmethod
    def of(predictions: NDArray[np.float32], target: NDArray[np.float32]) -> "Scores":
        """The scores of predictions (n_seeds, M) of targets (M,)."""
        per_seed = tuple(measure(row, target) for row in predictions)
        mean = predictions.astype(np.float64).mean(axis=0)
        return Scores(
            per_seed=per_seed,
            test=spreads(per_seed),
            ensemble=measure(mean, target),
            over_sequences=over_sequences(predictions, target),
            influence=mean_influence(predictions, target),
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A candidate on the test set, in each way to train it."""

    candidate: Candidate
    scores: Mapping[TrainedOn, Scores]
    device: str

    @staticmethod
    def of(
        candidate: Candidate,
        predictions: NDArray[np.float32],
        target: NDArray[np.float32],
        *,
        n_seeds: int,
        device: str,
    ) -> "Measured":
        """From predictions (n_ways * n_seeds, M), way by way, and targets (M,)."""
        parts = np.split(predictions, range(n_seeds, len(predictions), n_seeds))
        scores = {way: Scores.of(part, target) for way, part in zip(DIVISIONS, parts, strict=True)}
        return Measured(candidate=candidate, scores=scores, device=device)


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """An experiment on the test set, its own config first and then, where they were asked for, other trials'.

    `coverage` is that of its intervals; None where it holds nothing that they are made of, or too few rows for it.
    `calibration` is what they are made of where that is not the experiment's own. `scales` standardise what the members
    of an ensemble predict that were trained on train and validation.
    `folds` is what its readings note of the fold that is its test set, by the names of their fields.
    """

    path: Path
    checksum: str
    experiment: Experiment
    official: bool
    label: str
    n_test: int
    seeds: tuple[int, ...]
    when: str
    measured: tuple[Measured, ...]
    coverage: Coverage | None = None
    calibration: Calibration | None = None
    scales: Sequence[Scale] = ()
    folds: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The study's name for the model; the class's in experiments that do not know it."""
        if self.experiment.ensemble is not None:
            return "ensemble"
        target = str(self.experiment.config.model["_target_"])
        return self.experiment.provenance.model or target.rpartition(".")[2].lower()

    @property
    def question(self) -> Question:
        """What the test set asks."""
        config, table = self.experiment.config, self.experiment.config.table
        return question(
            config.task, self.label, self.experiment.provenance.data_hash, None if table is None else table.settings
        )

    def readings(self) -> list[Reading]:
        """The lines of the ledger, one for each config; an ensemble has one, of the study of its first member."""
        before, ensemble, own = self.experiment.provenance, self.experiment.ensemble, self.measured[0]
        return [
            Reading(
                when=self.when,
                experiment=self.path.stem,
                checksum=self.checksum,
                study=before.study,
                trial=one.candidate.trial,
                model=self.model,
                **asdict(self.question),
                official=self.official,
                n_test=self.n_test,
                seeds=list(self.seeds),
                n_epochs=one.candidate.n_epochs,
                code={"git_commit": git_commit(), "versions": package_versions()},
                machine=machine_kind(one.device),
                values={
                    way: {**_values(scores), **(self._coverage if one is own and way == COVERED else {})}
                    for way, scores in one.scores.items()
                },
                members=None if ensemble is None else [member.words for member in ensemble.members],
                **self.folds,
            )
            for one in self.measured
        ]

    @property
    def _coverage(self) -> dict[str, Any]:
        return {} if self.coverage is None else {"coverage": asdict(self.coverage)}


def _values(scores: Scores) -> dict[str, Any]:
    per_seed = {name: [values[name] for values in scores.per_seed] for name in METRICS}
    around = {name: [one.low, one.high] for name, one in scores.over_sequences.items()}
    return {"per_seed": per_seed, "ensemble": scores.ensemble, "over_sequences": around}


def leave_weights(confirmation: Confirmation, weights: Sequence[Sequence[Path]]) -> None:
    """Put the weights of the experiment's own config, or of each member, one file a seed, beside it, and say which.

    The influences of the test sequences stand beside them. Those files that an earlier call left are replaced.
    `confirm.json` comes last: whoever reads it finds the files.

    Raises:
        UserError: They cannot be written.
    """
    folder, candidate = weights_folder(confirmation.path), confirmation.measured[0].candidate
    places = [weights_folder(path) for path in part_paths(confirmation.path, confirmation.experiment)]
    files = [(seed, place / SEED.format(seed)) for place in places for seed in confirmation.seeds]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_of(ledger_file(confirmation.path)):
            for path, (_, target) in zip([path for own in weights for path in own], files, strict=True):
                link(path, target)
            influences: dict[str, NDArray[Any]] = {
                str(way): scores.influence for way, scores in confirmation.measured[0].scores.items()
            }
            with replaced(influence_file(confirmation.path)) as beside:
                about = {"checksum": confirmation.checksum, "when": confirmation.when}
                save_file(influences, beside, metadata=about)
                with_usual_mode(beside)
            description: dict[str, Any] = {
                "experiment": confirmation.path.stem,
                "checksum": confirmation.checksum,
                "when": confirmation.when,
                "trained_on": "train and validation",
                "n_epochs": candidate.n_epochs,
                "seeds": list(confirmation.seeds),
                "weights": [
                    {"seed": seed, "file": str(path.relative_to(folder)), "hash": hash_or_missing(path)}
                    for seed, path in files
                ],
            }
            if confirmation.scales:
                description[SCALES] = confirmation.scales
            if confirmation.calibration is not None:
                description[CALIBRATION] = asdict(confirmation.calibration)
            text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
            write_text(confirmation_file(confirmation.path), text)
            for old in (path for place in places for path in place.glob(SEED.format("*"))):
                if old not in [path for _, path in files]:
                    old.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"The weights of the seeds cannot be written to {folder} ({error.strerror}); the readings stand in the "
            "ledger already: make room and confirm again."
        ) from None


def read_influence(experiment: Path, reading: Reading) -> NDArray[np.float64] | None:
    """The influences (M,) of the test sequences of a reading of the experiment, trained on train and validation.

    None where they are not at hand: the reading is older than their being kept, not the last one, or of another trial.
    """
    try:
        open_regular(influence_file(experiment)).close()  # a pipe would be waited for
        with safe_open(influence_file(experiment), framework="numpy") as file:
            about, found = file.metadata() or {}, file.get_tensor("train_and_validation")
    except (OSError, SafetensorError):
        return None
    if about != {"checksum": reading.checksum, "when": reading.when} or found.shape != (reading.n_test,):
        return None
    influence: NDArray[np.float64] = found
    return influence
