"""What `confirm` trains: the config of an experiment, and those of the best trials of its study."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from datasets.common.errors import UserError
from search.config.nested import nest, overlay
from search.config.resolve import resolve
from search.config.run_config import RunConfig, as_it_ran, run_config
from search.config.targets import is_exact
from search.experiments.experiment import Experiment
from search.space.space import Space

if TYPE_CHECKING:
    from optuna import Study

TrainedOn = Literal["train_and_validation", "train"]
DIVISIONS: Mapping[TrainedOn, str] = {
    "train_and_validation": "datasets.whole_training.TrainAndValidation",
    "train": "datasets.whole_training.TrainAlone",
}
_OF_THE_MACHINE = ("threads", "accelerator", "micro_batch_tokens")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A config to confirm.

    trial: its number in the study. name: what sentences call it. value: its validation Spearman. config: with the
    threads and the parts of a batch that it ran with. n_epochs: for how long it is trained, see `frozen_epochs`.
    """

    trial: int
    name: str
    value: float
    config: RunConfig
    n_epochs: int

    @classmethod
    def of(cls, config: RunConfig, trial: int, value: float, ran: Mapping[str, Any]) -> "Candidate":
        """The config of a trial, from how it ran: its `threads`, `micro_batch_tokens` and `best_epochs`."""
        return cls(
            trial=trial,
            name=f"trial {trial}",
            value=value,
            config=as_it_ran(config, threads=ran["threads"], micro_batch_tokens=ran["micro_batch_tokens"]),
            n_epochs=frozen_epochs(ran["best_epochs"]),
        )

    @property
    def how_long(self) -> str:
        """How long it is trained, in words."""
        return "solved exactly" if is_exact(self.config.model) else f"trained for {self.n_epochs} epoch(s)"

    def run(self, seed: int, trained_on: TrainedOn) -> RunConfig:
        """The run that trains it for its epochs, with another seed and without validation."""
        trainer = replace(self.config.trainer, max_epochs=self.n_epochs, patience=self.n_epochs)
        division = {"_target_": DIVISIONS[trained_on]}
        return replace(self.config, seed=seed, validation=division, trainer=trainer, logger=None)


def frozen_epochs(best_epochs: Sequence[int]) -> int:
    """Epochs up to the one whose weights were kept, which counts from 0; the median where folds ended at their own."""
    return math.ceil(statistics.median(epoch + 1 for epoch in best_epochs))


def of_experiment(experiment: Experiment) -> Candidate:
    """The config of an experiment."""
    before = experiment.provenance
    return Candidate.of(experiment.config, before.trial, before.value, vars(before))


def of_parts(experiment: Experiment) -> tuple[Candidate, ...]:
    """The config of an experiment, or those of its members."""
    if experiment.ensemble is None:
        return (of_experiment(experiment),)
    return tuple(
        replace(of_experiment(member.experiment), name=f"member {number} ({member.words})")
        for number, member in enumerate(experiment.ensemble.members)
    )


def of_study(study: "Study", experiment: Experiment, n: int) -> tuple[Candidate, ...]:
    """The `n` best trials of the experiment's study, the best, which is the experiment's own, first.

    Raises:
        UserError: The study is not the experiment's, has gone on since, or has fewer complete trials.
    """
    from search.storage.attributes import MANIFEST, result_of
    from search.study.ranking import best_trials

    before, about = experiment.provenance, study.user_attrs.get(MANIFEST, {})
    if about.get("data_hash") != before.data_hash or about.get("task") != experiment.config.task:
        raise UserError(
            f"Study {study.study_name!r} in this storage is about {about.get('task')} with other data than the "
            "experiment's: name the storage of the experiment's own study with --storage."
        )
    best = best_trials(study.get_trials(deepcopy=False), n)
    if len(best) < n:
        raise UserError(
            f"Study {study.study_name!r} has {len(best)} complete trials, fewer than --top-k {n}: ask for as many."
        )
    found = []
    for trial in best:
        assert trial.value is not None
        config = trial_config(experiment.config, about["config"], trial.params)
        found.append(Candidate.of(config, trial.number, trial.value, result_of(trial, study.study_name)))
    if found[0] != of_experiment(experiment):
        why = (
            f"has another config for trial {before.trial} than the experiment: name the storage of the experiment's "
            "own study with --storage."
            if found[0].trial == before.trial
            else f"has gone on since the experiment was exported from trial {before.trial}, its best is now trial "
            f"{found[0].trial}: run the search command again, which exports anew."
        )
        raise UserError(f"Study {study.study_name!r} {why}")
    return tuple(found)


def trial_config(experiment: RunConfig, fixed: Mapping[str, Any], params: Mapping[str, Any]) -> RunConfig:
    """The config of a trial from what its study holds fixed, by path, and its parameters.

    What depends on the machine, and no number on it, is as in the experiment.
    """
    known = asdict(experiment)
    machine = {f"trainer.{key}": known["trainer"][key] for key in _OF_THE_MACHINE}
    rest = {key: known[key] for key in ("task", "table", "scores", "embeddings", "cache", "logger")}
    return run_config(resolve(overlay(nest(fixed), {**machine, **rest}), Space.values(params)))
