"""The synthetic landscape: the same everywhere, learnable, and not additive."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge

from datasets.sequences.crop import Crop
from datasets.task import RawSplit
from datasets.tasks import synthetic
from datasets.tasks.registry import find_task
from tests.helpers.data_fixtures import Workplace

Array = NDArray[Any]


def rows_of(name: str) -> RawSplit:
    task = find_task(name)
    located = task.source.locate(data_dir=None, announce=print)
    return task.source.read(located, task.split)


@pytest.mark.parametrize(
    ("name", "content_hash"),
    [
        ("synthetic_one_vs_rest", "8e78fa199b5aef17c410fad8b4aff79fe11e44b31eed86e080f2baf58386181b"),
        ("synthetic_two_vs_rest", "8498d518ae8ae332d7a76fed76544569905cc3c74e434af82c44a939e08857aa"),
    ],
)
def test_every_machine_makes_the_same_rows(name: str, content_hash: str) -> None:
    assert rows_of(name).content_hash == content_hash


@pytest.mark.parametrize("name", ["synthetic_one_vs_rest", "synthetic_two_vs_rest"])
def test_it_goes_through_the_same_checks_as_a_file(workplace: Workplace, name: str) -> None:
    split = workplace.prepare(name)
    assert split.label == "synthetic landscape"
    assert workplace.said == []
    assert split.n_train >= 200
    assert split.n_validation >= 60
    assert split.n_test >= 2000
    assert split.n_overlap == 0
    assert split.residues.shape[1] == 32
    assert find_task(name).crop(None) == Crop()


def scores(name: str) -> tuple[float, float]:
    """Return validation Spearman of ridge on one-hot residues, without and with interactions of contacts."""
    raw = rows_of(name)
    sites = synthetic._SITES
    codes = np.array([list(sequence.encode()) for sequence in raw.sequence])[:, sites]
    one_hot = (codes[:, :, None] == np.array(list(b"ACDEFGHIKLMNPQRSTVWY"))).reshape(len(codes), -1)
    target = np.array([float(text) for text in raw.target])
    validation = np.array([text == "True" for text in raw.validation])
    train = np.array([part == "train" for part in raw.part]) & ~validation
    doubles = np.array([sum(a != b for a, b in zip(s, synthetic.WILD_TYPE, strict=True)) for s in raw.sequence]) == 2
    judged = validation & doubles if (validation & doubles).any() else validation
    properties = np.array([[properties_of(s[site]) for site in sites] for s in raw.sequence])
    n = len(sites)
    products = [properties[:, a] * properties[:, b] for a in range(n) for b in range(a + 1, min(a + 5, n))]
    interacting = np.concatenate([one_hot, *products], axis=1)

    def score(features: Array) -> float:
        model = Ridge(alpha=0.3).fit(features[train], target[train])
        return float(spearmanr(model.predict(features[judged]), target[judged]).statistic)

    return score(one_hot.astype(np.float64)), score(interacting)


def properties_of(residue: str) -> tuple[float, float]:
    return synthetic._HYDROPATHY[residue] / 45, float(synthetic._CHARGE.get(residue, 0))


def test_a_linear_model_learns_it_and_interactions_help() -> None:
    linear, _ = scores("synthetic_one_vs_rest")
    assert 0.5 < linear < 0.9
    linear, interacting = scores("synthetic_two_vs_rest")
    assert 0.5 < linear < 0.9
    assert interacting > linear + 0.03


def test_effects_depend_on_the_background() -> None:
    wild, (site, neighbour) = synthetic.WILD_TYPE, synthetic._SITES[:2]

    def mutated(residue: str, other: str) -> float:
        return synthetic.fitness(wild[:site] + residue + other + wild[neighbour + 1 :])

    base = mutated(wild[site], wild[neighbour])
    epistasis = [
        mutated(residue, other) - mutated(residue, wild[neighbour]) - mutated(wild[site], other) + base
        for residue in "ADEFIKLRSW"
        for other in "ADEFIKLRSW"
    ]
    assert min(epistasis) < -0.1
    assert max(epistasis) > 0.1
