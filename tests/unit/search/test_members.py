"""Experiments with members: written whole, read back exactly, refused where they do not belong together."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.validation.mutational_load import WithoutRise
from datasets.validation.protocols import KFold, Validation
from datasets.validation.rounds import Rounds
from models.losses import LossName
from search.combination import _has_own_scale
from search.experiments.averages import deviation_of, mean_of
from search.experiments.experiment import (
    SCHEMA_VERSION,
    Experiment,
    checksum,
    freeze,
    is_experiment,
    is_same_export,
    load_experiment,
)
from search.experiments.member_weights import MemberWeights, change_since
from search.experiments.members import (
    ENSEMBLE_VERSION,
    MOST_MEMBERS,
    OWN_SCALE_VERSION,
    Ensemble,
    Member,
    Origins,
    Share,
    member_path,
    part_paths,
)
from search.experiments.scales import in_unit, scales_follow, shares_of, together
from search.stats.sums import weighted_sum
from search.storage.ending import Ending
from search.study.artifacts import hash_or_missing
from search.study.combinable import Combinable
from search.training.predictions import Predictions
from search.training.result import Result
from tests.helpers.processes import ROOT
from tests.unit.search.test_experiment import EXPERIMENT, refused, rewrite


def of_trial(number: int, **changes: Any) -> Experiment:
    return replace(EXPERIMENT, provenance=replace(EXPERIMENT.provenance, trial=number, **changes))


def ensemble(*experiments: Experiment, weights: tuple[float, ...] = (0.5, 0.3, 0.2)) -> Experiment:
    members = tuple(
        Member(experiment=one, share=Share(weight=weight, mean=0.1 + number, deviation=0.5 + number))
        for number, (one, weight) in enumerate(zip(experiments, weights, strict=True))
    )
    origins = Origins(
        schema_version=ENSEMBLE_VERSION,
        studies=["gb1_two_vs_rest-cnn", "gb1_two_vs_rest-ridge"],
        study_ids=["0123456789abcdef" * 2, None],
        n_candidates=12,
        date="2026-01-02T03:04:05+00:00",
        value=0.1 + 0.2,
        n_sequences=100,
        intercept=1 / 3,
        slope=0.7,
        git_commit=None,
    )
    return replace(members[0].experiment, ensemble=Ensemble(members=members, origins=origins))


THREE = ensemble(of_trial(7), of_trial(3), of_trial(5, study="other", study_id="a" * 32))


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    path = tmp_path / "three.yaml"
    freeze(THREE, path)
    return path


def test_an_ensemble_is_read_back_exactly(frozen: Path) -> None:
    assert load_experiment(frozen) == THREE
    assert is_experiment(frozen)
    assert is_same_export(frozen, THREE)
    assert checksum(frozen).startswith("sha256:")
    assert [part.provenance.trial for part in load_experiment(frozen).parts] == [7, 3, 5]


def test_a_file_without_members_stays_as_it_was(tmp_path: Path) -> None:
    freeze(EXPERIMENT, tmp_path / "x.yaml")
    text = (tmp_path / "x.yaml").read_text()
    assert f"schema_version: {SCHEMA_VERSION}" in text
    assert "members" not in text
    assert load_experiment(tmp_path / "x.yaml").parts == (EXPERIMENT,)


def test_it_is_the_same_export_whenever_it_was_written_and_no_other(frozen: Path) -> None:
    assert THREE.ensemble is not None
    origins, members = THREE.ensemble.origins, THREE.ensemble.members
    later = replace(THREE.ensemble, origins=replace(origins, date="2030-01-01", git_commit="f" * 40))
    assert is_same_export(frozen, replace(THREE, ensemble=later))
    for other in (
        replace(THREE.ensemble, origins=replace(origins, slope=0.8)),
        replace(THREE.ensemble, members=(replace(members[0], experiment=of_trial(8)), *members[1:])),
        replace(THREE.ensemble, members=(members[1], members[0], members[2])),
        None,
    ):
        assert not is_same_export(frozen, replace(THREE, ensemble=other))


def test_a_byte_that_changed_is_found(frozen: Path) -> None:
    text = frozen.read_text(encoding="utf-8")
    frozen.write_text(text.replace("weight: 0.3", "weight: 0.4"), encoding="utf-8")
    assert "was changed since it was written" in refused(frozen)


def _share(number: int, **changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda tree: tree["members"][number].update(changes)


def _of_member(number: int, *keys: str, value: Any) -> Callable[[dict[str, Any]], object]:
    def change(tree: dict[str, Any]) -> None:
        inner = tree["members"][number]["experiment"]
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


def _calibrated(*, of: int = 3, **values: object) -> Callable[[dict[str, Any]], None]:
    """A calibration in a file with the first members alone."""

    def change(tree: dict[str, Any]) -> None:
        known = {"validated": "rows", "scale": "constant", "noise": 0.1, "mean_square": 1.0}
        tree["calibration"] = {**known, "n_rows": [3], "scores": [[0.5, 1.0, 2.0]], **values}
        tree["members"] = tree["members"][:of]
        if of == 1:
            tree["members"][0]["weight"] = 1.0

    return change


HOSTILE: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("no members", lambda tree: tree.update(members=[]), "a list of 0: expected 1 to 64"),
    ("no list", lambda tree: tree.update(members=3), "members=3 is not valid"),
    (
        "too many",
        lambda tree: tree.update(members=[{} for _ in range(MOST_MEMBERS + 1)]),
        "a list of 65: expected 1 to 64",
    ),
    ("no mapping", lambda tree: tree.update(members=["x"]), "members[0]=x is not valid: expected a mapping"),
    ("no experiment", lambda tree: tree["members"][1].pop("experiment"), "members[1].experiment=null is not valid"),
    ("no provenance", lambda tree: tree["members"][1]["experiment"].pop("provenance"), "members[1].provenance=null"),
    ("a weight of 0", _share(0, weight=0), "members[0].weight=0 is not valid"),
    ("a weight below 0", _share(0, weight=-0.5), "members[0].weight=-0.5 is not valid"),
    ("a weight of text", _share(0, weight="0.5"), "members[0].weight=0.5 is not valid"),
    ("a weight of NaN", _share(0, weight=float("nan")), "members[0].weight=nan is not valid"),
    ("a weight that rounding loses", _share(2, weight=1e-300), "members[2].weight=1e-300 is not valid"),
    ("a mean that no number holds", _share(1, mean=10**400), "members[1].mean=1000"),
    ("a seed that no number holds", _of_member(1, "seed", value=2**63), "members[1] is not a valid experiment: seed="),
    ("errors by a spread", _calibrated(of=1, scale="deviation"), "is not valid, for a single member has no spread"),
    ("errors in words", _calibrated(validated="\x1b[2J"), "A text of the calibration holds control characters"),
    ("errors in many words", _calibrated(validated="x" * 2000), "of 2,000 letters"),
    ("errors of more rows than there are", _calibrated(n_rows=[2**62]), "calibration.n_rows=[4611686018427387904]"),
    ("weights of more than 1", _share(0, weight=0.9), "add up to 1.4: expected 1"),
    ("no deviation", _share(1, deviation=0.0), "members[1].deviation=0.0 is not valid"),
    ("an infinite mean", _share(1, mean=float("inf")), "members[1].mean=inf is not valid"),
    ("an unknown share", _share(1, evil=1), "members[1].evil is not a setting"),
    ("a class", _of_member(1, "model", "_target_", value="os.system"), "outside the allowed packages"),
    ("a newer member", _of_member(1, "provenance", "schema_version", value=7), "members[1] has schema version 7"),
    ("another task", _of_member(1, "task", value="gb1_three_vs_rest"), "has another task"),
    ("other data", _of_member(1, "provenance", "data_hash", value="1" * 64), "has another data_hash"),
    (
        "another validation",
        _of_member(1, "validation", value={"_target_": "datasets.validation.KFold", "n_folds": 5, "seed": 0}),
        "has another validation",
    ),
    ("one twice", _of_member(1, "provenance", "trial", value=7), "stands there twice"),
    ("a long text", _of_member(1, "provenance", "data", value="x" * 2000), "of 2,000 letters"),
    ("members of members", _of_member(1, "members", value=[]), "config.members is not a setting"),
    ("a checksum inside", _of_member(1, "provenance", "checksum", value="x"), "provenance.checksum is not a setting"),
    ("beside them a model", lambda tree: tree.update(model={}), "config.model is not a setting"),
    ("a newer file", lambda tree: tree["provenance"].update(schema_version=9), "version 9, this flipsearch knows 8"),
    ("an older file", lambda tree: tree["provenance"].update(schema_version=6), "files with members have version 7"),
    ("a slope that turns round", lambda tree: tree["provenance"].update(slope=-1.0), "provenance.slope=-1.0"),
    ("a value of 2", lambda tree: tree["provenance"].update(value=2.0), "provenance.value=2.0"),
    ("no intercept", lambda tree: tree["provenance"].pop("intercept"), "provenance.intercept is missing"),
    ("a control character", lambda tree: tree["provenance"].update(date="\x1b[2J"), "control characters"),
    ("an identity too few", lambda tree: tree["provenance"].update(study_ids=[]), "differ in their number"),
]


@pytest.mark.parametrize(("change", "sentence"), [one[1:] for one in HOSTILE], ids=[one[0] for one in HOSTILE])
def test_what_no_ensemble_can_hold_is_named(frozen: Path, change: Callable[[Any], object], sentence: str) -> None:
    rewrite(frozen, change)
    assert sentence in refused(frozen)


def test_a_file_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    texts = {f"x{number}": "y" * 900 for number in range(10_000)}
    with pytest.raises(UserError, match="would be larger than"):
        freeze(ensemble(of_trial(1), of_trial(2), of_trial(3, versions=texts)), tmp_path / "x.yaml")
    assert not (tmp_path / "x.yaml").exists()


def test_the_files_of_members_stand_in_folders_of_their_own() -> None:
    path = Path("folder") / "some.name-1.5.yaml"
    assert part_paths(path, EXPERIMENT) == (path,)
    assert part_paths(path, THREE) == tuple(member_path(path, number) for number in range(3))
    assert member_path(path, 2) == Path("folder") / "some.name-1.5" / "member2.yaml"


@pytest.mark.parametrize("unit", [1, 0.001])
def test_the_scales_are_least_squares_of_the_targets(unit: float) -> None:
    random = np.random.default_rng(0)
    target = unit * random.normal(2, 3, size=80).astype(np.float32)
    noise = unit * random.normal(size=(2, 80))
    predictions = np.stack([target + noise[0], 5 * target + noise[1]]).astype(np.float32)
    weights = np.array([0.75, 0.25])
    shares, intercept, slope = shares_of(weights, predictions, target)
    wide = predictions.astype(np.float64)
    standard = (wide - wide.mean(axis=1, keepdims=True)) / wide.std(axis=1, keepdims=True)
    fitted = np.polyfit(weights @ standard, target, 1)
    assert [slope, intercept] == pytest.approx(fitted.tolist())
    assert [share.weight for share in shares] == [0.75, 0.25]
    members = tuple(Member(experiment=of_trial(n), share=share) for n, share in enumerate(shares))
    assert THREE.ensemble is not None
    own = Ensemble(members=members, origins=replace(THREE.ensemble.origins, intercept=intercept, slope=slope))
    expected = intercept + slope * (weights @ standard)
    on_scale = [in_unit(own, n, one) for n, one in enumerate(predictions)]
    np.testing.assert_allclose(together(own, on_scale)[0], expected, rtol=1e-5)
    scaled = np.stack([in_unit(own, n, one) for n, one in enumerate(predictions)])
    np.testing.assert_allclose(mean_of(scaled, weights), expected, rtol=1e-5)
    found = [Predictions(row=np.arange(80), prediction=one, target=target) for one in predictions]
    assert scales_follow(own, found, predictions, within=0)
    reference = unit * random.normal(5, [[1], [9]], size=(2, 30))
    assert not scales_follow(own, found, reference, within=0.02)
    found[1] = replace(found[1], prediction=np.nextafter(found[1].prediction, np.float32(99)))
    assert not scales_follow(own, found, predictions, within=0)
    assert scales_follow(own, found, predictions, within=0.02)


def test_the_scale_of_those_whose_validation_was_selected_is_their_own() -> None:
    random = np.random.default_rng(2)
    reference = np.stack([random.normal(1, 2, size=50), random.normal(3, 0.5, size=50)])
    selected = np.stack([random.normal(9, 0.1, size=20), random.normal(4, 0.1, size=20)]).astype(np.float32)
    target, weights = random.normal(7, 0.2, size=20).astype(np.float32), np.array([0.75, 0.25])
    shares, intercept, slope = shares_of(weights, selected, target, reference, is_own_scale=True)
    assert shares == shares_of(weights, selected, target, reference)[0]
    assert intercept == pytest.approx(weights @ reference.mean(axis=1))
    assert slope == pytest.approx(weights @ reference.std(axis=1))
    assert THREE.ensemble is not None
    members = tuple(Member(experiment=of_trial(n), share=share) for n, share in enumerate(shares))
    origins = replace(
        THREE.ensemble.origins, schema_version=OWN_SCALE_VERSION, intercept=intercept, slope=slope, studies=[]
    )
    own = Ensemble(members=members, origins=replace(origins, study_ids=[]))
    average = together(own, [in_unit(own, n, one) for n, one in enumerate(reference)])[0]
    assert average.mean() == pytest.approx(intercept, rel=1e-5)
    found = [Predictions(row=np.arange(20), prediction=one, target=target) for one in selected]
    assert scales_follow(own, found, reference, within=0)
    by_targets = replace(own, origins=replace(own.origins, schema_version=ENSEMBLE_VERSION))
    assert not scales_follow(by_targets, found, reference, within=0.02)
    alone = shares_of(np.ones(1), selected[:1], target, reference[:1], is_own_scale=True)
    one = Ensemble(
        members=(Member(experiment=of_trial(1), share=alone[0][0]),),
        origins=replace(own.origins, intercept=alone[1], slope=alone[2]),
    )
    np.testing.assert_allclose(in_unit(one, 0, reference[0]), reference[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("validation", "losses", "is_own"),
    [
        (Rounds(n_rounds=3), ("mse", "huber"), True),
        (WithoutRise(protocol=Rounds(n_rounds=3), most=0.1), ("mse", "mse"), True),
        (Rounds(n_rounds=3), ("mse", "ranking"), False),
        (KFold(n_folds=5, seed=0), ("mse", "mse"), False),
    ],
)
def test_what_judges_says_which_scale(validation: Validation, losses: tuple[LossName, ...], is_own: bool) -> None:
    members = []
    for number, loss in enumerate(losses):
        config = EXPERIMENT.config
        trainer = replace(config.trainer, loss=loss)
        experiment = replace(of_trial(number), config=replace(config, trainer=trainer, validation=validation.tree))
        members.append(Member(experiment=experiment, share=Share(weight=0.5, mean=0.0, deviation=1.0)))
    assert _has_own_scale(members) is is_own


def test_members_are_standardised_by_what_they_predict_of_test_sequences() -> None:
    """One whose predictions of test sequences lie ten times as far apart does not decide alone for it."""
    random = np.random.default_rng(1)
    target = random.normal(size=80).astype(np.float32)
    predictions = np.stack([target + random.normal(size=80) for _ in range(2)]).astype(np.float32)
    reference = np.stack([random.normal(1, 2, size=50), random.normal(-3, 20, size=50)])
    shares, intercept, slope = shares_of(np.array([0.5, 0.5]), predictions, target, reference)
    assert [share.mean for share in shares] == pytest.approx(reference.mean(axis=1).tolist())
    assert [share.deviation for share in shares] == pytest.approx(reference.std(axis=1).tolist())
    average = sum((one - share.mean) / share.deviation / 2 for one, share in zip(predictions, shares, strict=True))
    assert [slope, intercept] == pytest.approx(np.polyfit(average, target, 1).tolist())
    constant = np.stack([reference[0], np.full(50, 2.0)])
    assert shares_of(np.array([0.5, 0.5]), predictions, target, constant) == shares_of(
        np.array([0.5, 0.5]), predictions, target
    )


def test_a_line_never_turns_the_ranking_round() -> None:
    target = np.arange(10, dtype=np.float32)
    _, _, slope = shares_of(np.ones(1), -target[None], target)
    assert slope == pytest.approx(target.std())


SUMS = """
import numpy as np
from search.stats.sums import weighted_sum

draws = np.random.default_rng(0)
print(hash(weighted_sum(draws.random(20), draws.normal(size=(20, 50_001))).tobytes()))
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    """`verify` compares scales bit for bit, and may have other cores than `combine` had."""
    answers = set()
    for n in ("1", "2", "4"):
        threads = {"OPENBLAS_NUM_THREADS": n, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [sys.executable, "-c", SUMS], env={**os.environ, **threads}, capture_output=True, text=True, check=True
        )
        answers.add(done.stdout)
    assert len(answers) == 1


def test_equal_columns_have_equal_sums_wherever_they_stand() -> None:
    draws = np.random.default_rng(0)
    weights, column = draws.dirichlet(np.ones(20)), draws.normal(size=(20, 1))
    for n in (1, 2, 3, 7, 8, 9, 33):
        assert set(weighted_sum(weights, np.repeat(column, n, axis=1)).tolist()) == {
            weighted_sum(weights, column).item()
        }


def test_equal_weights_are_the_plain_mean_and_deviation() -> None:
    members = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    weights = np.full(4, 0.25)
    np.testing.assert_allclose(mean_of(members, weights), mean_of(members), rtol=1e-6)
    plain, weighted = deviation_of(members), deviation_of(members, weights)
    assert plain is not None
    assert weighted is not None
    np.testing.assert_allclose(weighted, plain, rtol=1e-6)
    assert deviation_of(members[:1], np.ones(1)) is None


def on_another_machine(study: str = "gb1_two_vs_rest-cnn") -> Combinable:
    trial = optuna.trial.create_trial(value=0.5, user_attrs={"worker": "far:12"})
    nothing = np.zeros(3)
    predictions = Predictions(row=np.arange(3), prediction=nothing, target=nothing)
    return Combinable(study=optuna.create_study(study_name=study), trial=trial, predictions=predictions)


def test_a_member_of_another_kind_of_machine_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    assert THREE.ensemble is not None
    places = Places(weights_dir=None, cache_dir=tmp_path)
    source = MemberWeights(
        runs=tmp_path, places=places, split=tmp_path, folder=tmp_path, exported=tmp_path, announce=print
    )
    with pytest.raises(UserError) as caught:
        source.collect([on_another_machine()] * 3, THREE.ensemble)
    text = str(caught.value)
    assert "The weights of trial 7 of study gb1_two_vs_rest-cnn are not here" in text
    assert "on another kind of machine (" in text
    assert f"rsync -a far:{tmp_path}/gb1_two_vs_rest-cnn/ {tmp_path}/gb1_two_vs_rest-cnn/" in text


def test_what_was_trained_again_has_to_be_what_the_trial_was(tmp_path: Path) -> None:
    assert THREE.ensemble is not None
    member = THREE.ensemble.members[0]
    before = member.experiment.provenance
    (tmp_path / "fold").write_bytes(b"weights")
    files = [tmp_path / "fold"] * 2
    hashes = [hash_or_missing(file) for file in files]
    own = replace(member, experiment=of_trial(7, weight_hashes=hashes))
    result = Result(
        ending=Ending.COMPLETE,
        reason="",
        value=before.value,
        values=tuple(map(tuple, before.values)),
        best_epochs=tuple(before.best_epochs),
        checkpoints=(),
        n_parameters=1,
        seconds=1.0,
        peak_memory_bytes=0,
        threads=1,
        device="cpu",
        micro_batch_tokens=None,
        backbone=None,
        n_embedded=0,
    )
    assert change_since(own, result, files) is None
    assert change_since(replace(own, experiment=of_trial(7, weight_hashes=["missing"] * 2)), result, files) is None
    assert change_since(member, result, files) == "fold 0: the values are equal, the weights are not"
    worse = replace(result, values=((0.1, 1 / 3, None), (-1e-300, 0.0)))
    assert change_since(own, worse, files) == "fold 1, epoch 1: validation Spearman 0.0, was 5e-324"
    assert "have Spearman 0.3, was" in (change_since(own, replace(result, value=0.3), files) or "")
    assert change_since(own, replace(result, ending=Ending.DIVERGED, reason="why"), files) == "diverged, why"
