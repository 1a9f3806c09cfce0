"""The first half of bench_samplers.py: studies until they reach the target of their problem, kept in a file."""

import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import TrialState

from search.config.nested import Scalar
from search.storage.ending import Ending
from search.study.config import StudyConfig, study_config
from search.study.pruning import should_prune, step_of
from search.study.ranking import RISE
from search.study.study import DIRECTION, enqueue_first_trials
from search.workers.worker import make_pruner, make_sampler
from tests.benchmarks.sampler_problems import N_RANDOM, Problem, Trained

N_MOST = 200  # trials of a study
SAMPLERS = ("tpe", "gp", "cmaes")
# Overrides by name; the first is the default.
PRUNERS = {
    "hyperband": ("pruner=hyperband",),
    "hyperband, from 1 epoch": ("pruner=hyperband", "pruner.epochs.min_resource=1"),
    "hyperband, factor 2": ("pruner=hyperband", "pruner.epochs.reduction_factor=2"),
    "hyperband, factor 4": ("pruner=hyperband", "pruner.epochs.reduction_factor=4"),
    "one bracket, from 3 epochs": ("pruner=successive_halving",),
    "median": ("pruner=median",),
    "nop": ("pruner=nop",),
}
WITH_TPE = ("hyperband", "one bracket, from 3 epochs", "median")  # `nop` with it is what samplers are compared with
RESULTS = "studies.jsonl"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What a study took to its target: trials and epochs, None if it did not get there.

    `best` is the best value by then, `n_asked` how many trials were asked of the sampler, `ask_s` the CPU seconds for
    all of them.
    """

    problem: str
    sampler: str
    pruner: str
    seed: int
    n_trials: int | None
    n_epochs: int
    best: float | None
    n_asked: int
    ask_s: float


def compute(folder: Path, problems: list[str], n_seeds: int) -> None:
    """Run what is not there yet, one problem after the other."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Constraints have been set")  # CMA-ES does not see them
    folder.mkdir(parents=True, exist_ok=True)
    for name in problems:
        started, problem = time.process_time(), Problem(name, folder)
        print(f"{name} ({problem.protocol.shown}): target {problem.target:.4f}", flush=True)
        done = {(one.sampler, one.pruner, one.seed) for one in read(folder, name)}
        for sampler, pruner, seed in _studies(problem, n_seeds):
            if (sampler, pruner, seed) in done:
                continue
            reached = search(problem, sampler, pruner, seed)
            with (folder / RESULTS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(reached)) + "\n")
            print(
                f"  {sampler}, {pruner}, seed {seed}: {reached.n_trials} trials, {reached.n_epochs} epochs", flush=True
            )
        print(f"{name}: {time.process_time() - started:.0f} s of CPU", flush=True)


def read(folder: Path, problem: str) -> list[Reached]:
    """The studies of a problem that were run."""
    path = folder / RESULTS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [one for line in lines if (one := Reached(**json.loads(line))).problem == problem]


def _studies(problem: Problem, n_seeds: int) -> Iterator[tuple[str, str, int]]:
    """Sampler, pruner and seed; a seed of all before the next, so that what is there at any time can be compared."""
    has_epochs = not problem.config.is_exact
    for seed in range(n_seeds):
        yield from ((sampler, "nop", seed) for sampler in SAMPLERS)
        if has_epochs:
            yield from (("tpe", pruner, seed) for pruner in WITH_TPE)
    if has_epochs:  # free: all of them are trained
        yield from (("random", pruner, seed) for seed in range(10 * n_seeds) for pruner in PRUNERS)


def search(problem: Problem, sampler: str, pruner: str, seed: int) -> Reached:
    """A study until its target; `random` takes the random configurations in an order of its own."""
    config = _config(problem, sampler, pruner, seed)
    # A study's name chooses the bracket of each trial.
    study = optuna.create_study(study_name=f"{problem.name}-{seed}", pruner=make_pruner(config), direction=DIRECTION)
    enqueue_first_trials(study, config.first_trials)
    drawn = _drawn(problem, seed) if sampler == "random" else None
    n_epochs, ask_s, best = 0, 0.0, None
    for number in range(N_MOST):
        began = time.process_time()
        if drawn is not None and number >= len(config.first_trials):
            study.enqueue_trial(next(drawn))
        study.sampler = make_sampler(config, number)
        trial = study.ask()
        values = config.space.suggest(trial, config.defaults)
        ask_s += time.process_time() - began
        trained = problem.train(values)
        n_seen, is_pruned = _report(trial, trained, config.epochs_per_fold)
        n_epochs += n_seen
        _tell(study, trial, trained, is_pruned=is_pruned)
        if not is_pruned and trained.is_valid and trained.value is not None:
            best = max(trained.value, trained.value if best is None else best)
        is_reached = not is_pruned and problem.is_reached_by(trained)
        if is_reached:
            break
    return Reached(
        problem=problem.name,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        n_trials=number + 1 if is_reached else None,
        n_epochs=n_epochs,
        best=best,
        n_asked=number + 1,
        ask_s=round(ask_s, 3),
    )


def _config(problem: Problem, sampler: str, pruner: str, seed: int) -> StudyConfig:
    """The problem's study with another sampler, pruner and seed; runs keep the problem's seed."""
    named = "tpe" if sampler == "random" else sampler
    other = study_config([*problem.words, f"sampler={named}", *PRUNERS[pruner]])
    return replace(
        problem.config,
        sampler=other.sampler,
        pruner=other.pruner,
        defaults={**problem.config.defaults, "seed": seed},
    )


def _drawn(problem: Problem, seed: int) -> Iterator[dict[str, Scalar]]:
    """The parameters of the random configurations, in an order of their own."""
    drawn = problem.random_trials()
    return (drawn[place][1] for place in np.random.default_rng(seed).permutation(N_RANDOM))


def _report(trial: optuna.Trial, trained: Trained, epochs_per_fold: int) -> tuple[int, bool]:
    """Report epoch by epoch as a worker does; how many were seen, and whether the pruner stopped it."""
    n_seen, n_all = 0, trained.n_epochs
    for fold, values in enumerate(trained.values):
        for epoch, value in enumerate(values):
            n_seen += 1
            if value is None:
                continue
            trial.report(value, step=step_of(fold, epoch, epochs_per_fold))
            if n_seen < n_all and should_prune(trial):
                return n_seen, True
    return n_seen, False


def _tell(study: optuna.Study, trial: optuna.Trial, trained: Trained, *, is_pruned: bool) -> None:
    if is_pruned or trained.ending != Ending.COMPLETE:
        study.tell(trial, state=TrialState.PRUNED)
        return
    if trained.excess_rise is not None:
        trial.set_constraint(RISE, trained.excess_rise)
    study.tell(trial, trained.value)
