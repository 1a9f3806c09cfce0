"""A tally says what a whole look at a study's trials says, and a long study shows its sampler a part."""

import random
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.storage.database import open_database
from search.storage.trial_cache import TrialCache
from search.study.config import study_config
from search.study.endings import Retries, own_faults
from search.study.ranking import best_trials
from search.study.study import count, find_study, manifest, open_study
from search.study.trials.tally import Tally
from search.study.trials.window import N_BEST, WINDOW, Windowed

STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING)


def trial(number: int, state: TrialState, value: float = 0.0, **attributes: object) -> FrozenTrial:
    made = create_trial(state=state, value=value if state == TrialState.COMPLETE else None, user_attrs=attributes)
    made.number = number
    return made


def history(seed: int, n: int) -> list[list[FrozenTrial]]:
    """A study as it was read time after time: trials are added, and those that are not finished may end."""
    draws = random.Random(seed)
    trials: list[FrozenTrial] = []
    readings = []
    for _ in range(n):
        for i, one in enumerate(trials):
            if not one.state.is_finished() and draws.random() < 0.4:
                trials[i] = trial(one.number, draws.choice(STATES[:4]), draws.choice([0.1, 0.2, 0.3]), **one.user_attrs)
        for _ in range(draws.randrange(3)):
            attributes = {}
            again = {one.user_attrs.get("retry_of") for one in trials}
            failed = [one.number for one in trials if one.state == TrialState.FAIL and one.number not in again]
            if failed and draws.random() < 0.5:
                attributes = {"retry_of": draws.choice(failed)}
            if draws.random() < 0.3:
                attributes["ending"] = "interrupted"
            trials.append(trial(len(trials), draws.choice(STATES), draws.random(), **attributes))
        readings.append(list(trials))
    return readings


@pytest.mark.parametrize("seed", range(10))
def test_a_tally_of_many_readings_says_what_one_look_at_all_trials_says(seed: int) -> None:
    tally = Tally()
    ended = []
    for trials in history(seed, 60):
        ended += tally.see(trials)
        assert tally.trials == trials
        assert tally.counts == count(trials)
        assert tally.failed == sorted(
            (one for one in trials if one.state == TrialState.FAIL), key=lambda one: tally.failed.index(one)
        )
        assert tally.n_faults == len(own_faults(trials))
        assert tally.best == best_trials(trials, N_BEST)
        assert tally.running == [one for one in trials if one.state == TrialState.RUNNING]
        sampled = [one for one in trials if one.state != TrialState.WAITING and "retry_of" not in one.user_attrs]
        assert tally.n_sampled == len(sampled)
        whole = Retries(trials)
        assert all(tally.retries.retry_of(one) is whole.retry_of(one) for one in trials)
    assert sorted(one.number for one in ended) == [one.number for one in trials if one.state.is_finished()]


def test_a_tally_begins_anew_where_trials_were_removed_or_came_late() -> None:
    trials = [trial(number, TrialState.COMPLETE, number / 10) for number in range(6)]
    tally = Tally()
    tally.see(trials)
    tally.see(trials[:3])
    assert (tally.counts.n_complete, [one.number for one in tally.best]) == (3, [2, 1, 0])
    without = [one for one in trials if one.number != 1]
    tally.see(without)
    assert len(tally.see(trials)) == 6
    assert tally.counts == count(trials)


def opened(folder: Path) -> optuna.Study:
    database = open_database(f"sqlite:///{folder / 'studies.db'}", create=True)
    config = study_config(["task=synthetic_two_vs_rest", "model=ridge"])
    open_study(database, "a", manifest(config, data_hash="", label="", model="ridge"))
    return find_study(database, "a")


@pytest.mark.filterwarnings("ignore:Heartbeat of storage:UserWarning")
def test_the_cache_answers_as_optunas_does_whoever_writes(tmp_path: Path) -> None:
    ours, other = opened(tmp_path), opened(tmp_path)
    assert isinstance(ours._storage, TrialCache)
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    draws = random.Random(0)
    with pytest.raises(ValueError, match="No trials are completed"):
        _ = ours.best_trial
    running: list[optuna.Trial] = []
    for _ in range(25):
        study = draws.choice((ours, other))
        asked = study.ask()
        asked.suggest_float("x", 0.0, 1.0)
        running.append(asked)
        if draws.random() < 0.2:
            ours.enqueue_trial({"x": 0.5})
        if draws.random() < 0.7:
            ended = running.pop(draws.randrange(len(running)))
            state = draws.choice((TrialState.COMPLETE, TrialState.FAIL))
            ended.study.tell(ended, draws.random() if state == TrialState.COMPLETE else None, state)
        fresh = optuna.load_study(study_name="a", storage=RDBStorage(url))
        for states in (None, (TrialState.WAITING,), (TrialState.RUNNING, TrialState.FAIL), (TrialState.COMPLETE,)):
            assert ours.get_trials(deepcopy=False, states=states) == fresh.get_trials(deepcopy=False, states=states)
        if any(one.state == TrialState.COMPLETE for one in fresh.trials):
            assert ours.best_trial == fresh.best_trial
    ours.get_trials(deepcopy=False).clear()
    assert ours.get_trials(deepcopy=False) == fresh.get_trials(deepcopy=False), "a caller has a list of its own"


@pytest.mark.parametrize("sampler", [optuna.samplers.TPESampler, optuna.samplers.RandomSampler])
def test_a_sampler_of_a_long_study_sees_the_latest_trials_and_the_best(sampler: type) -> None:
    study = optuna.create_study(direction="maximize")
    space = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}
    # The best ones are the oldest.
    study.add_trials(
        [
            create_trial(
                state=TrialState.COMPLETE, value=-number, params={"x": (number % 97) / 97}, distributions=space
            )
            for number in range(WINDOW + 200)
        ]
    )
    tally = Tally()
    tally.see(study.get_trials(deepcopy=False))
    made = sampler(seed=1)
    assert Windowed.fits(made, tally) == (sampler is optuna.samplers.TPESampler)
    seen: list[int] = []

    class Listening(optuna.samplers.RandomSampler):
        def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, object]:
            seen.extend(one.number for one in study.get_trials(deepcopy=False))
            return {}

    study.sampler = Windowed(Listening(), tally)
    study.ask().suggest_float("x", 0.0, 1.0)
    assert seen == [*range(N_BEST), *range(200, WINDOW + 200)]


def test_a_sampler_of_a_short_study_is_told_of_the_trials_where_no_other_runs() -> None:
    """So it reads none; of others' trials it has to see what was proposed since they were counted."""
    study = optuna.create_study(direction="maximize")
    tally, sampler = Tally(), optuna.samplers.TPESampler(seed=1)
    tally.see([])
    assert Windowed.fits(sampler, tally)
    proposed = []
    for is_told in (False, True):
        own = optuna.samplers.TPESampler(seed=1)
        study = optuna.create_study(direction="maximize")
        for number in range(20):
            tally.see(study.get_trials(deepcopy=False))
            study.sampler = Windowed(own, tally) if is_told else own
            trial = study.ask()
            proposed.append(trial.suggest_float("x", 0.0, 1.0))
            study.tell(trial, -abs(proposed[-1] - number / 20))
    assert proposed[:20] == proposed[20:]
    study.ask()
    tally.see(study.get_trials(deepcopy=False))
    assert not Windowed.fits(sampler, tally)


def test_a_trial_that_was_just_made_is_known_without_a_question(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'made.db'}"
    study = optuna.create_study(study_name="made", storage=url)
    cache = TrialCache(RDBStorage(url))
    number = cache.create_new_trial(study._study_id)
    known = cache.get_trial(number)
    assert known == RDBStorage(url).get_trial(number)
    known.params["x"] = 1.0  # as Optuna does with its own
    assert cache.get_all_trials(study._study_id, deepcopy=False)[0].params == {}
    RDBStorage(url).set_trial_state_values(number, TrialState.FAIL)
    assert cache.get_trial(number).state == TrialState.FAIL, "from then on it is asked"
    waiting = cache.create_new_trial(study._study_id, create_trial(state=TrialState.WAITING))
    RDBStorage(url).set_trial_state_values(waiting, TrialState.RUNNING)
    assert cache.get_trial(waiting).state == TrialState.RUNNING, "one that waits may be taken by anybody"
