"""Pruners judge a trial that was run again, and all that come after it, as if nothing had been interrupted."""

import random
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, PercentilePruner, SuccessiveHalvingPruner
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.storage.attributes import RETRY_OF
from search.storage.database import open_database
from search.study.pruning import should_prune
from search.study.trials.window import WINDOW

N_TRIALS, N_STEPS = 24, 27
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "hyperband": lambda: HyperbandPruner(min_resource=3, max_resource=N_STEPS, reduction_factor=3),
    "successive_halving": lambda: SuccessiveHalvingPruner(min_resource=3, reduction_factor=3),
    "median": lambda: MedianPruner(n_startup_trials=2, n_warmup_steps=3),
    "percentile": lambda: PercentilePruner(60.0, n_startup_trials=2),
    "nop": optuna.pruners.NopPruner,
}


def curve(number: int) -> list[float]:
    """The values of a configuration, the same however often it is run."""
    noise = random.Random(f"curve {number}")
    best = noise.uniform(0.2, 0.9)
    return [best * step / (step + 5) + noise.gauss(0, 0.02) for step in range(1, N_STEPS + 1)]


Verdicts = dict[int, tuple[TrialState, int | None]]


def search(
    pruner: BasePruner, storage: RDBStorage | None, interruptions: random.Random | None, n_others: dict[int, int]
) -> Verdicts:
    """State and last step of each configuration; `interruptions` says how often and where trials are cut off.

    `n_others` are how many numbers others take after a configuration's own, and is filled in where trials are cut off.
    """
    # The name is the same everywhere: Hyperband draws a trial's bracket from it.
    study = optuna.create_study(study_name="verdicts", storage=storage, direction="maximize", pruner=pruner)
    found: Verdicts = {}
    for configuration in range(N_TRIALS):
        cuts: list[int | None] = [None]
        if interruptions is not None:
            cuts = [interruptions.randrange(10) for _ in range(interruptions.choice([0, 1, 2]))] + cuts
        before: int | None = None
        n_cuts = -1
        for cut in cuts:
            n_cuts += 1
            study.enqueue_trial({}, user_attrs={} if before is None else {RETRY_OF: before})
            trial = study.ask()
            before = trial.number
            state, value = run(trial, configuration, cut)
            study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
            if state != TrialState.FAIL:  # it may have been pruned before it was cut off
                break
        if interruptions is not None:
            n_others[configuration] = n_cuts
        else:
            for _ in range(n_others.get(configuration, 0)):
                study.tell(study.ask(), state=TrialState.FAIL)
        found[configuration] = state, study.trials[trial.number].last_step
    return found


def run(trial: optuna.Trial, configuration: int, cut: int | None) -> tuple[TrialState, float]:
    """One attempt, cut off before a step."""
    value = 0.0
    for step, value in enumerate(curve(configuration)):
        if step == cut:
            return TrialState.FAIL, value
        trial.report(value, step + 1)
        if should_prune(trial):
            return TrialState.PRUNED, value
    return TrialState.COMPLETE, value


@pytest.mark.parametrize("name", PRUNERS)
def test_verdicts_do_not_depend_on_interruptions(name: str) -> None:
    n_others: dict[int, int] = {}
    interrupted = search(PRUNERS[name](), None, random.Random(1), n_others)
    assert sum(n_others.values()) > 3
    undisturbed = search(PRUNERS[name](), None, None, n_others)
    n_pruned = sum(state == TrialState.PRUNED for state, _ in undisturbed.values())
    assert n_pruned == 0 if name == "nop" else 0 < n_pruned < N_TRIALS
    assert interrupted == undisturbed


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # trials are asked for by hand
def test_nor_do_they_in_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.N_TRIALS", 3)
    n_others: dict[int, int] = {}
    one, other = (open_database(f"sqlite:///{tmp_path}/{name}.db", create=True).storage for name in "ab")
    interrupted = search(PRUNERS["hyperband"](), one, random.Random(1), n_others)
    assert interrupted == search(PRUNERS["hyperband"](), other, None, n_others)


def test_without_interruptions_they_are_optunas_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = search(PRUNERS["hyperband"](), None, None, {})
    monkeypatch.setattr(f"{__name__}.should_prune", optuna.Trial.should_prune)
    assert search(PRUNERS["hyperband"](), None, None, {}) == ours


def test_a_pruner_of_a_long_study_sees_the_latest_trials_and_a_retry_keeps_the_number_of_an_older_one() -> None:
    seen: list[FrozenTrial] = []

    class Listening(BasePruner):
        def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
            seen.extend(study.get_trials(deepcopy=False))
            return False

    study = optuna.create_study(pruner=Listening())
    study.add_trial(create_trial(state=TrialState.FAIL))
    study.add_trials([create_trial(state=TrialState.COMPLETE, value=0.0) for _ in range(WINDOW + 50)])
    study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={RETRY_OF: 0}))
    trial = study.ask()
    trial.report(0.5, 1)
    assert not should_prune(trial)
    assert [one.number for one in seen] == [*range(53, WINDOW + 51), 0, trial.number]
