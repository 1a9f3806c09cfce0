"""requeue: what failed for good is run again once, and the budget stays exact."""

import shutil

import optuna
import pytest
from optuna.trial import TrialState

from search.storage.attributes import EXHAUSTED
from search.study.endings import own_faults, run_lost_trials_again
from search.study.study import count
from search.study.trials.tally import Tally
from tests.helpers.small_study import NAME, add, default_database, make_study


@pytest.fixture
def study(tmp_path):
    return make_study(default_database(tmp_path), n_target=3)[1]


@pytest.fixture
def requeue(command):
    return lambda number: command("requeue", str(number), "--study-name", NAME)


def by_number(study, number):
    return study.get_trials(deepcopy=False)[number]


@pytest.mark.parametrize(
    "attributes", [{"ending": "bug"}, {"ending": "refused"}, {"ending": "lost", "n_lost": 3}, {}], ids=str
)
def test_a_trial_that_failed_for_good_gets_back_in_line_with_its_parameters_once(study, requeue, attributes):
    number = add(study, TrialState.FAIL, attributes=attributes)
    answer = requeue(number)
    assert answer.status == 0, answer
    assert answer.out == f"Trial {number} is queued again as trial {number + 1}, with its parameters.\n"
    again = by_number(study, number + 1)
    assert again.state == TrialState.WAITING
    assert again.system_attrs["fixed_params"] == by_number(study, number).params == {"model.alpha": 0.5}
    assert (again.user_attrs["retry_of"], again.user_attrs["n_lost"]) == (number, 0)
    assert f"as trial {number + 1} (waiting)" in requeue(number).refusal()
    tally = Tally()
    tally.see(study.get_trials(deepcopy=False))
    assert run_lost_trials_again(study, tally.failed, tally.retries) == 0, "no worker puts it back a second time"
    assert own_faults(study.trials) == set()


def test_what_runs_again_says_still_where_its_parameters_are_from(study, requeue):
    origin = {"first": True, "warm_start": {"study": "earlier", "trial": 7}}
    number = add(study, TrialState.FAIL, attributes={"ending": "bug", "slot": "cpu:0", **origin})
    assert requeue(number).status == 0
    assert by_number(study, number + 1).user_attrs == {**origin, "retry_of": number, "n_lost": 0}


@pytest.mark.parametrize(
    ("state", "value", "attributes", "why"),
    [
        (TrialState.COMPLETE, 0.5, {"ending": "complete"}, "is complete with value 0.5"),
        (TrialState.PRUNED, None, {"ending": "pruned"}, "ended as pruned"),
        (TrialState.PRUNED, None, {"ending": "diverged"}, "ended as diverged"),
        (TrialState.RUNNING, None, {"worker": "node7:123"}, "is running, by node7:123"),
        (TrialState.RUNNING, None, {}, "is running, by a worker that just began"),
        (TrialState.WAITING, None, {}, "is queued already"),
    ],
)
def test_what_there_is_no_reason_to_run_again_is_refused(study, requeue, state, value, attributes, why):
    number = add(study, state, value=value, attributes=attributes)
    assert f"Trial {number} {why}" in requeue(number).refusal()
    assert len(study.get_trials(deepcopy=False)) == 1


@pytest.mark.parametrize("ending", ["out_of_memory", "timeout"])
def test_a_limit_of_the_machine_may_be_another_elsewhere_and_both_trials_count(study, requeue, ending):
    number = add(study, TrialState.PRUNED, attributes={"ending": ending})
    answer = requeue(number)
    assert answer.status == 0, answer
    assert f"Trial {number} still counts as finished; trial {number + 1} will count as one more." in answer.out
    assert count(study.get_trials(deepcopy=False)).n_finished == 1


def test_a_study_that_has_its_trials_says_that_more_are_to_be_asked_for(study, requeue):
    for _ in range(3):
        add(study, TrialState.COMPLETE, value=0.5)
    number = add(study, TrialState.FAIL, attributes={"ending": "bug"})
    assert "The study has its 3 trials: ask for more with --n-trials" in requeue(number).out


def test_a_space_that_was_used_up_has_an_open_point_again(study, requeue):
    study.set_user_attr(EXHAUSTED, True)
    requeue(add(study, TrialState.FAIL, attributes={"ending": "bug"}))
    assert not study.user_attrs[EXHAUSTED]


def test_numbers_that_are_none(study, requeue, command):
    assert f"Study {NAME} has no trial 4: it has none yet." in requeue(4).refusal()
    add(study, TrialState.FAIL)
    assert "its trials are 0 to 0" in requeue(4).refusal()
    assert "expected the number of a trial" in requeue("four").refusal()
    assert "required: TRIAL" in command("requeue", "--study-name", NAME).refusal()
    assert "There is no study" in command("requeue", "0", "--study-name", "other").refusal()


def test_the_next_search_runs_what_was_put_back_and_ends_with_exactly_the_budget(finished_study, here, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished_study.folder, folder)
    storage = default_database(folder)
    study = optuna.load_study(study_name=finished_study.name, storage=storage)
    params = {"model.alpha": 0.123}
    study.enqueue_trial(params)
    asked = study.ask()
    asked.suggest_float("model.alpha", 1e-3, 1e3, log=True)
    asked.set_user_attr("ending", "bug")
    study.tell(asked, state=TrialState.FAIL)

    answer = here("requeue", "2", "--study-name", finished_study.name, cwd=folder)
    assert answer.status == 0, answer
    answer = here(*finished_study.command, "--n-trials", "3", cwd=folder)
    assert answer.status == 0, answer
    trials = study.get_trials(deepcopy=False)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2 + [TrialState.FAIL, TrialState.COMPLETE]
    assert trials[3].params == params
    assert trials[3].user_attrs["retry_of"] == 2
