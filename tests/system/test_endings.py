"""A failure is information: each way a trial can end is written down, counted rightly and said."""

import pytest
from optuna.trial import TrialState, create_trial

from search.machine.limits import fault
from search.storage.attributes import ENDING, RETRY_OF
from search.storage.ending import Ending
from search.study.endings import Retries, ending_of, has_failed_for_good, latest_faults
from tests.helpers.faulty import LR, make_models, search

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of a model that fails as it is told to; studies and experiments are made beside it."""
    return make_models(tmp_path_factory.mktemp("endings") / "models")


def test_findings_about_a_configuration_are_pruned_with_their_reason(models):
    done, trials = search(models, "findings", "--n-trials", "4", "sampler=brute_force")
    assert done.status == 0, done.err
    found = {trial.params["model.mode"]: trial for trial in trials}
    assert {mode: trial.state for mode, trial in found.items()} == {
        "fine": TrialState.COMPLETE,
        "diverges": TrialState.PRUNED,
        "constant": TrialState.PRUNED,
        "memory": TrialState.PRUNED,
    }
    endings = {mode: trial.user_attrs["ending"] for mode, trial in found.items()}
    assert endings == {"fine": "complete", "diverges": "diverged", "constant": "constant", "memory": "out_of_memory"}
    assert "Tried to allocate 80 GiB" in found["memory"].user_attrs["reason"]
    assert found["memory"].constraints == {"out_of_memory": 1.0}
    assert all(not found[mode].constraints for mode in ("fine", "diverges", "constant"))


def test_what_a_trial_reported_before_it_failed_is_kept_where_no_pruner_looks_at_it(models):
    words = ("--n-trials", "1", "--max-failures", "1", "model.mode=late", *LR, "pruner=nop")
    done, [trial] = search(models, "late", *words)
    assert done.status == 1
    assert "in the second epoch" in done.err
    assert len(trial.intermediate_values) == 1


def test_bugs_in_a_row_stop_the_study_with_the_error_and_are_not_run_again(models):
    done, trials = search(models, "bugs", "--n-trials", "9", "model.mode=bug", *LR)
    assert done.status == 1
    assert "the shapes do not match" in done.err
    assert [trial.state for trial in trials] == [TrialState.FAIL] * 3
    assert {trial.user_attrs["ending"] for trial in trials} == {"bug"}
    assert not (models.parent / "studies" / "experiment" / "bugs.yaml").exists()
    done, trials = search(models, "bugs", "--n-trials", "9", "--max-failures", "1", "model.mode=bug", *LR)
    assert done.status == 1
    assert len(trials) == 4
    assert not any("retry_of" in trial.user_attrs for trial in trials)


def test_a_process_that_always_dies_is_given_up_after_bounded_retries(models):
    arguments = ("--n-trials", "9", "--max-failures", "1", "model.mode=crash", *LR)
    done, trials = search(models, "crashes", *arguments)
    assert done.status == 1
    assert "by signal 11" in done.err
    assert [trial.user_attrs["ending"] for trial in trials] == ["lost"] * 4
    assert [trial.user_attrs.get("retry_of") for trial in trials] == [None, 0, 1, 2]
    assert len({str(trial.params) for trial in trials}) == 1


def test_a_fault_of_the_machine_is_run_again_as_often_as_was_said(models):
    arguments = ("--n-trials", "9", "--max-failures", "1", "--max-retries", "1", "model.mode=gpu", *LR)
    done, trials = search(models, "faults", *arguments)
    assert done.status == 1
    assert "unspecified launch failure" in done.err
    assert [trial.user_attrs["ending"] for trial in trials] == ["transient"] * 2
    assert [trial.user_attrs.get("retry_of") for trial in trials] == [None, 0]


def test_a_full_disk_ends_the_search_in_a_sentence_and_leaves_the_trial(models):
    done, trials = search(models, "disk", "--n-trials", "9", "model.mode=disk", *LR)
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "is full: make room, then run the same command again. Trial 0 is left to be run again." in done.err
    assert [trial.state for trial in trials] == [TrialState.FAIL]
    assert trials[0].user_attrs["ending"] == "interrupted"


@pytest.mark.parametrize(
    ("last_line", "kind"),
    [
        ("RuntimeError: CUDA error: unspecified launch failure", "transient"),
        ("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "transient"),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "transient"),
        ("RuntimeError: No CUDA GPUs are available", "transient"),
        ("RuntimeError: CUDA error: device-side assert triggered", "bug"),
        ("IndexError: index out of range in self", "bug"),
        ("OSError: [Errno 28] No space left on device: 'x'", "disk_full"),
        ("safetensors.SafetensorError: I/O error: No space left on device (os error 28)", "disk_full"),
        ("RuntimeError: [enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0", "disk_full"),
    ],
)
def test_whose_fault_an_error_is(last_line, kind):
    quoted = '  File "x.py", line 1, in f\n    raise Odd("NCCL, No space left on device")'
    assert fault(f"Traceback (most recent call last):\n{quoted}\n{last_line}\n") == kind


def test_failures_in_a_row_are_the_studys_whoever_ran_its_trials():
    def trial(number, state, ending=None, **attributes):
        attributes = {**attributes, **({"ending": ending} if ending else {})}
        value = {"value": 0.5} if state == TrialState.COMPLETE else {}
        made = create_trial(state=state, user_attrs=attributes, **value)
        made.number = number
        return made

    trials = [
        trial(0, TrialState.FAIL, "bug"),
        trial(1, TrialState.COMPLETE, "complete"),
        trial(2, TrialState.FAIL, "bug"),
        trial(3, TrialState.FAIL, "interrupted"),
        trial(4, TrialState.RUNNING),
        trial(5, TrialState.FAIL, "lost"),
        trial(6, TrialState.FAIL, "lost", retry_of=5),
        trial(7, TrialState.WAITING, retry_of=3),
    ]

    def numbers(known=()):
        return [fault.number for fault in latest_faults(trials, Retries(trials), known)]

    assert numbers() == [6, 2]  # 5 was run again as 6, which was given up; 3 waits
    assert numbers(known={2}) == [6]
    trials[4] = trial(4, TrialState.PRUNED, "diverged")
    assert numbers() == [6]


def test_each_ending_says_what_follows_from_it():
    assert {ending.value for ending in Ending if ending.is_finding} == {
        *("diverged", "constant", "out_of_memory", "timeout")
    }
    assert {ending.value for ending in Ending if ending.is_infeasible} == {"out_of_memory", "timeout"}
    assert {ending.value for ending in Ending if ending.is_lost} == {"lost", "transient"}
    assert {ending.value for ending in Ending if not ending.is_retried} == {"bug", "refused"}
    assert Ending.OUT_OF_MEMORY.words == "out of memory"


def test_a_trial_without_an_ending_ended_as_its_state_says():
    def ended(state, **attributes):
        return create_trial(state=state, value=0.5 if state == TrialState.COMPLETE else None, user_attrs=attributes)

    assert ending_of(ended(TrialState.COMPLETE)) == Ending.COMPLETE
    assert ending_of(ended(TrialState.PRUNED)) == Ending.PRUNED
    assert ending_of(ended(TrialState.FAIL)) == Ending.LOST
    assert ending_of(ended(TrialState.RUNNING)) is None
    assert ending_of(ended(TrialState.PRUNED, **{ENDING: "timeout"})) == Ending.TIMEOUT
    late = ended(TrialState.FAIL, **{ENDING: "timeout"})  # its worker died before Optuna was told
    assert not has_failed_for_good(late)
    assert has_failed_for_good(ended(TrialState.FAIL, **{ENDING: "bug"}))
    assert not has_failed_for_good(ended(TrialState.RUNNING, **{ENDING: "bug"}))


def test_a_chain_of_retries_is_walked_from_the_latest_to_the_first():
    def trial(number, **attributes):
        made = create_trial(state=TrialState.FAIL, user_attrs=attributes)
        made.number = number
        return made

    first, second, other, third = trial(0), trial(2, **{RETRY_OF: 0}), trial(3), trial(5, **{RETRY_OF: 2})
    retries = Retries([first, second, other, third])
    assert [one.number for one in retries.chain(third)] == [5, 2, 0]
    assert [one.number for one in retries.chain(other)] == [3]
    assert (retries.retry_of(first), retries.retry_of(second), retries.retry_of(third)) == (second, third, None)
