"""Pruners compare a value with those of the same fold and epoch, whatever the other folds were like."""

import random
from collections.abc import Sequence

import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.trial import FrozenTrial, TrialState

from search.storage.attributes import RETRY_OF
from search.study.config import study_config
from search.study.pruning import FoldPruner, fold_and_epoch, should_prune, step_of
from search.workers.worker import make_pruner, without_experimental_warnings

N_EPOCHS = 9


def wilcoxon() -> WilcoxonPruner:
    """As in `studies/pruner/hyperband.yaml`."""
    with without_experimental_warnings():
        return WilcoxonPruner(p_threshold=0.13, n_startup_steps=3)


def impatient() -> PatientPruner:
    """Prunes once three values are worse than one before."""
    with without_experimental_warnings():
        return PatientPruner(None, patience=2)


Curves = Sequence[Sequence[float]]
"""A value for each epoch of each fold."""


def make(epochs: BasePruner | None = None, folds: BasePruner | None = None) -> FoldPruner:
    pruner = FoldPruner(epochs or NopPruner(), folds)
    pruner.epochs_per_fold = N_EPOCHS
    return pruner


def study_of(pruner: BasePruner) -> optuna.Study:
    return optuna.create_study(study_name="folds", direction="maximize", pruner=pruner)


def run(study: optuna.Study, curves: Curves, retry_of: int | None = None) -> tuple[int, int] | None:
    """Report a trial as a worker does; the (fold, epoch) after which it was pruned, None if it is complete."""
    study.enqueue_trial({}, user_attrs={} if retry_of is None else {RETRY_OF: retry_of})
    trial = study.ask()
    for fold, values in enumerate(curves):
        for epoch, value in enumerate(values):
            trial.report(value, step_of(fold, epoch, N_EPOCHS))
            is_last = (fold + 1, epoch + 1) == (len(curves), N_EPOCHS)
            if not is_last and should_prune(trial):
                study.tell(trial, state=TrialState.PRUNED)
                return fold, epoch
    study.tell(trial, sum(max(values) for values in curves) / len(curves))
    return None


def flat(*levels: float) -> Curves:
    """The same value in all epochs of a fold."""
    return [[level] * N_EPOCHS for level in levels]


def rising(level: float, n_folds: int) -> Curves:
    return [[level * (epoch + 1) / N_EPOCHS for epoch in range(N_EPOCHS)] for _ in range(n_folds)]


def test_a_step_is_the_same_fold_and_epoch_in_all_trials() -> None:
    steps = [step_of(fold, epoch, N_EPOCHS) for fold in range(3) for epoch in range(N_EPOCHS)]
    assert steps == list(range(1, 3 * N_EPOCHS + 1))
    assert [fold_and_epoch(step, N_EPOCHS) for step in steps] == [(f, e) for f in range(3) for e in range(N_EPOCHS)]


@pytest.mark.parametrize(
    "epochs",
    [
        HyperbandPruner(min_resource=3, max_resource=N_EPOCHS, reduction_factor=3),
        SuccessiveHalvingPruner(min_resource=3, reduction_factor=3),
        MedianPruner(n_startup_trials=2, n_warmup_steps=2),
    ],
)
def test_a_clearly_bad_configuration_is_pruned_in_the_first_fold(epochs: BasePruner) -> None:
    study = study_of(make(epochs, wilcoxon()))
    for level in (0.8, 0.82, 0.84, 0.86):
        run(study, rising(level, 5))
    ends = [run(study, rising(0.1, 5)) for _ in range(6)]
    assert any(end is not None for end in ends)
    assert all(end is None or end[0] == 0 for end in ends if end is not None)
    assert all(end is not None for end in ends) or isinstance(
        epochs, HyperbandPruner
    )  # which has a bracket of patience


@pytest.mark.parametrize("folds", [None, wilcoxon()])
def test_a_hard_fold_prunes_nobody(folds: BasePruner | None) -> None:
    """The first fold is easy for everybody: whoever compared it with the others would prune."""
    halving = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    for pruner in (MedianPruner(n_startup_trials=1), halving, impatient()):
        study = study_of(make(pruner, folds))
        levels = (0.9, 0.3, 0.2, 0.1, 0.05)
        for more in range(4):  # each better than the one before, in all folds
            assert run(study, flat(*(level + 0.01 * more for level in levels))) is None
    assert run(study_of(impatient()), flat(*levels)) == (1, 2)


class Recorder(BasePruner):
    """Prunes nothing and remembers what it was shown: the trial's values, and those of all others."""

    def __init__(self) -> None:
        self.shown: list[dict[int, float]] = []
        self.others: list[dict[int, float]] = []

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        self.shown.append(dict(trial.intermediate_values))
        trials = study.get_trials(deepcopy=False)
        self.others = [dict(other.intermediate_values) for other in trials if other.number != trial.number]
        return False


def test_what_each_pruner_sees() -> None:
    epochs, folds = Recorder(), Recorder()
    study = study_of(make(epochs, folds))
    run(
        study, [[0.1, 0.4, 0.2], [0.6, 0.5], [0.3] * N_EPOCHS]
    )  # ended early in two folds, as a smaller max_epochs does
    assert epochs.shown == [{1: 0.1}, {1: 0.1, 2: 0.4}, {1: 0.1, 2: 0.4, 3: 0.2}]
    # A fold is judged by its last epoch, as soon as it is known to be over.
    assert folds.shown == [{0: 0.2}, {0: 0.2, 1: 0.5}]
    run(study, flat(0.7, 0.8, 0.9))
    assert epochs.others == [{1: 0.1, 2: 0.4, 3: 0.2}]
    assert folds.others == [{0: 0.2, 1: 0.5, 2: 0.3}]
    assert folds.shown[2:] == [{0: 0.7}, {0: 0.7, 1: 0.8}]  # the last fold's end is the trial's


def test_wilcoxon_compares_the_same_folds_of_the_best_trial() -> None:
    pruner = make(folds=wilcoxon())
    study = study_of(pruner)
    assert run(study, flat(0.9, 0.2, 0.8, 0.3, 0.7)) is None
    # Worse in three folds of three, though better than two of the best trial's.
    assert run(study, flat(0.5, 0.1, 0.5, 0.9, 0.9)) == (2, N_EPOCHS - 1)
    # Better in one of four, by more than it is worse in the others.
    assert run(study, flat(0.5, 0.9, 0.5, 0.2, 0.9)) is None


def test_rungs_of_folds_are_not_those_of_epochs() -> None:
    halving = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    study = study_of(make(halving, SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)))
    assert run(study, flat(0.5, 0.1, 0.1)) is None
    assert run(study, flat(0.6, 0.05, 0.1)) == (1, N_EPOCHS - 1)
    assert run(study, flat(0.4, 0.9, 0.9)) == (0, 0)


def noisy(number: int) -> Curves:
    noise = random.Random(f"curves {number}")
    best = noise.uniform(0.3, 0.9)
    return [[best * (epoch + 1) / (epoch + 3) + noise.gauss(0, 0.03) for epoch in range(N_EPOCHS)] for _ in range(5)]


def test_an_interruption_changes_no_verdict() -> None:
    def make_default() -> FoldPruner:
        return make(HyperbandPruner(min_resource=3, max_resource=N_EPOCHS), wilcoxon())

    def verdicts(interrupted: bool) -> list[tuple[int, int] | None]:
        study = study_of(make_default())
        found = []
        for number in range(16):
            lost = study.ask()
            if interrupted:
                for epoch in range(3):
                    lost.report(noisy(number)[0][epoch], step_of(0, epoch, N_EPOCHS))
            study.tell(lost, state=TrialState.FAIL)
            found.append(run(study, noisy(number), lost.number))
        return found

    undisturbed = verdicts(False)
    assert verdicts(True) == undisturbed
    assert any(end is None for end in undisturbed)
    assert any(end is not None and end[0] == 0 for end in undisturbed)
    assert any(end is not None and end[0] > 1 for end in undisturbed)


@pytest.mark.parametrize(
    ("overrides", "epochs", "folds"),
    [
        ([], "HyperbandPruner", "WilcoxonPruner"),
        (["pruner=wilcoxon"], "NopPruner", "WilcoxonPruner"),
        (["pruner=median"], "MedianPruner", "NoneType"),
        (["~pruner.folds"], "HyperbandPruner", "NoneType"),
    ],
)
def test_the_configs_make_them(overrides: list[str], epochs: str, folds: str) -> None:
    config = study_config(["task=synthetic_one_vs_rest", "trainer.max_epochs=30", *overrides])
    pruner = make_pruner(config)
    assert isinstance(pruner, FoldPruner)
    assert (type(pruner.epochs).__name__, type(pruner.folds).__name__) == (epochs, folds)
    assert pruner.epochs_per_fold == 30
    if epochs == "HyperbandPruner":
        assert pruner.epochs._max_resource == 30  # type: ignore[attr-defined]


def test_a_searched_number_of_epochs_leaves_room_for_the_most() -> None:
    space = "+space.trainer.max_epochs={type: int, low: 5, high: 70}"
    assert study_config(["task=synthetic_one_vs_rest", space]).epochs_per_fold == 70
    assert study_config(["task=synthetic_one_vs_rest", space, "trainer.max_epochs=20"]).epochs_per_fold == 20
