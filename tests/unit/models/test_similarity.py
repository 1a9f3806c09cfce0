"""Amino acids that are alike: tables, matrices from files, and kernels on them against plain sums."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.sequences.alphabet import ALPHABET
from models.kernel import Kernel
from models.layers.amino_acids import BLOSUM62, LETTERS, find_similarity, residue_vectors
from models.layers.sequence_kernel import Beside
from search.training.weights import load_weights, save_weights
from tests.helpers.variants import make_batch, make_variants
from tests.unit.models.test_kernel import make_kernel, one_thread, solved

__all__ = ["one_thread"]  # a fixture that every test here has

AMINO_ACIDS = ALPHABET[:20]


def unlike(name: str) -> np.ndarray:
    """(20, 20), from the definition."""
    s, _ = find_similarity(name)
    assert s is not None
    centring = np.eye(20) - 1 / 20
    values, axes = np.linalg.eigh(centring @ s @ centring)
    s = (axes * values.clip(min=0)) @ axes.T
    distance = (np.diag(s)[:, None] + np.diag(s)) / 2 - s
    return distance / distance[~np.eye(20, dtype=bool)].mean()


@pytest.mark.parametrize("name", ["blosum62", "physicochemical"])
def test_distances_of_residues_follow_from_the_table(name: str) -> None:
    vectors = residue_vectors(find_similarity(name)[0])
    found = torch.cdist(vectors, vectors).square().numpy() / 2
    np.testing.assert_allclose(found[1:21, 1:21], unlike(name), atol=1e-6)
    isoleucine, valine, tryptophan = (1 + ALPHABET.index(letter) for letter in "IVW")
    assert found[isoleucine, valine] < 0.5 < 1 < found[isoleucine, tryptophan]
    assert found[1 + ALPHABET.index("U"), 1 + ALPHABET.index("C")] == 0
    assert found[0, 1:].min() > 0.4


def test_the_table_is_blosum62() -> None:
    assert (BLOSUM62 == BLOSUM62.T).all()
    assert [BLOSUM62[LETTERS.index(a), LETTERS.index(b)] for a, b in ("WW", "IV", "WG", "DE", "AR")] == [
        11,
        3,
        -2,
        2,
        -1,
    ]


def plain_kernel(rows: Tensor, others: Tensor, changes: dict) -> np.ndarray:
    """Position by position, in loops over pairs."""
    settings = {"length_scale": 6.0, "variance": 0.8, "linear_variance": 0.05, "sites": "distance"} | changes
    d = unlike(settings["similarity"])
    least = math.exp(-1 / settings["length_scale"])
    found = np.zeros((len(rows), len(others)))
    for i, a in enumerate(rows.tolist()):
        for j, b in enumerate(others.tolist()):
            sites = [d[x - 1, y - 1] for x, y in zip(a, b, strict=True)]
            if settings["sites"] == "distance":
                found[i, j] = settings["variance"] * math.exp(-sum(sites) / settings["length_scale"])
            elif settings["sites"] in ("product", "both"):
                found[i, j] = settings["variance"] * math.prod(least + (1 - least) * math.exp(-2 * s) for s in sites)
    if settings["sites"] != "product":
        vectors = residue_vectors(find_similarity(settings["similarity"])[0]).numpy()
        mean = vectors[others].reshape(len(others), -1).mean(axis=0)
        flat = [vectors[x].reshape(len(x), -1) - mean for x in (rows, others)]
        found += settings["linear_variance"] * flat[0] @ flat[1].T
    if settings.get("composition"):
        vectors = residue_vectors(find_similarity(settings["similarity"])[0]).numpy()
        a, b = (vectors[x].sum(axis=1) for x in (rows, others))
        half = np.square(a[:, None] - b).sum(axis=2) / 2
        found += settings["composition_variance"] * np.exp(-half / settings["composition_length_scale"])
    if settings.get("places"):
        commonest = np.array([np.bincount(column).argmax() for column in others.numpy().T])
        place = np.arange(rows.shape[1])
        near = np.exp(-np.abs(place[:, None] - place) / settings["place_width"])
        a, b = ((x.numpy() != commonest).astype(float) for x in (rows, others))
        found += settings["place_variance"] * a @ near @ b.T
    return found


PARTS = {"composition": True, "composition_variance": 0.4, "composition_length_scale": 3.0}
PARTS |= {"places": True, "place_variance": 0.2, "place_width": 1.5}


@pytest.mark.parametrize("similarity", ["blosum62", "physicochemical"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"sites": "additive"}, {"sites": "product"}, {"sites": "both", "length_scale": 1.5}, PARTS],
    ids=["distance", "additive", "product", "both", "parts"],
)
def test_equals_the_textbook_with_a_plain_kernel(
    similarity: str, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.layers.one_hot.MAX_ONE_HOT", 5000)  # in several slices
    monkeypatch.setattr("models.kernel._MAX_COVARIANCES", 200)
    changes = {"similarity": similarity, **changes}
    train, new = make_variants(40, 9, seed=1), make_variants(15, 9, seed=3)
    tokens, others = (batch.tokens.clamp(max=20) for batch in (train, new))
    model = solved(tokens, train.target, **changes)
    target = train.target.double().numpy()
    standardised = (target - target.mean()) / target.std()
    own, across = plain_kernel(tokens, tokens, changes), plain_kernel(others, tokens, changes)
    expected = across @ np.linalg.solve(own + 0.1 * np.eye(40), standardised) * target.std() + target.mean()
    np.testing.assert_allclose(model(make_batch(others)).numpy(), expected, atol=1e-5)

    mean, std = model.predict_with_std(make_batch(tokens))
    explained = np.einsum("ij,ji->i", own, np.linalg.solve(own + 0.1 * np.eye(40), own))
    np.testing.assert_allclose(std.numpy(), np.sqrt(np.diag(own) - explained) * target.std(), atol=1e-4)
    assert torch.equal(mean, model(make_batch(tokens)))


def test_padding_is_nothing_and_new_lengths_are_distances() -> None:
    train = make_variants(60, 12, seed=1, shortest=5)
    new = make_variants(20, 12, seed=2, shortest=5)
    for changes in ({}, {"sites": "both"}, PARTS, {"relevance": True}):
        model = solved(train.tokens, train.target, similarity="blosum62", **changes)
        wider = solved(torch.nn.functional.pad(train.tokens, (0, 3)), train.target, similarity="blosum62", **changes)
        padded = make_batch(torch.nn.functional.pad(new.tokens, (0, 5)))
        torch.testing.assert_close(model(padded), model(new), rtol=0, atol=1e-5)
        torch.testing.assert_close(wider(new), model(new), rtol=0, atol=1e-4)


def write_matrix(path: Path, matrix: np.ndarray, letters: str = AMINO_ACIDS, separator: str = " ") -> Path:
    lines = ["# made for a test", separator.join(letters)]
    lines += [
        separator.join([letter, *(f"{value:.10g}" for value in row)])
        for letter, row in zip(letters, matrix, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_a_matrix_from_a_file_is_the_table_it_holds(separator: str, tmp_path: Path) -> None:
    path = write_matrix(tmp_path / "own.txt", BLOSUM62, LETTERS, separator)
    train, new = make_variants(40, 9, seed=1), make_variants(15, 9, seed=3)
    model = make_kernel(similarity=str(path))
    model.fetch(Places(weights_dir=None, cache_dir=tmp_path), print)
    assert model.backbone_hash is not None
    assert model.backbone_hash.startswith("sha256:")
    assert model.weights_name == str(path)
    model.solve(train.tokens, train.target.double())
    assert torch.equal(model(new), solved(train.tokens, train.target, similarity="blosum62")(new))


SQUARE = np.eye(20) * 2
BROKEN = {
    "symmetric": (SQUARE + np.triu(np.ones((20, 20)), 1), r"not symmetric: A, R is 1 and R, A is 0\."),
    "apart": (np.ones((20, 20)), "tells no amino acids apart"),
    "a distance": (1.0 - np.eye(20), "tells no amino acids apart"),
    "indefinite": (
        np.where(np.add.outer(range(20), range(20)) == 19, 1.0, 0.0),
        "too far from a positive semidefinite",
    ),
    "not finite": (np.where(np.eye(20) > 0, np.inf, 0.0), "A, A is 'inf', expected a number"),
    "too few": (np.eye(19), "a first line with each of the letters"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_similarity_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    matrix, message = BROKEN[name]
    path = write_matrix(tmp_path / "own.txt", matrix, AMINO_ACIDS[: len(matrix)])
    with pytest.raises(UserError, match=message):
        make_kernel(similarity=str(path)).fetch(Places(weights_dir=None, cache_dir=tmp_path), print)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a first line with each"),
        (b"\xff\xfe", "expected text in UTF-8"),
        (b"A" * 70_000, "is no 20 x 20 matrix: it has 70,000 bytes"),
        ((" ".join(AMINO_ACIDS) + "\nA 1 2\n").encode(), "expected one row A of 20 numbers"),
        (None, "neither one of identity, blosum62, physicochemical nor a file"),
    ],
)
def test_what_is_no_matrix_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        find_similarity(str(path))


def test_a_name_nearly_right_is_named() -> None:
    with pytest.raises(UserError, match="Did you mean 'blosum62'"):
        find_similarity("blosum6")


@pytest.mark.parametrize("sites", ["distance", "product", "both", "additive"])
def test_relevances_find_the_positions_that_matter(sites: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 21, (300, 6), generator=generator)
    effects = torch.randn(2, 21, generator=generator)
    target = (effects[0][tokens[:, 1]] + effects[1][tokens[:, 4]]).double()
    target += 0.1 * torch.randn(300, generator=generator).double()
    new = torch.randint(1, 21, (200, 6), generator=generator)
    truth = effects[0][new[:, 1]] + effects[1][new[:, 4]]
    settings = {"similarity": "blosum62", "sites": sites, "length_scale": 3.0, "linear_variance": 0.2}
    plain = solved(tokens, target, **settings)
    model = solved(tokens, target, relevance=True, **settings)
    assert list(model.relevances) == [1, 2, 3, 4, 5, 6]
    ranked = sorted(model.relevances, key=lambda place: -model.relevances[place])
    assert set(ranked[:2]) == {2, 5}
    assert model.relevances[ranked[1]] > 2 * model.relevances[ranked[2]]
    error = [float((found(make_batch(new)) - truth).square().mean()) for found in (model, plain)]
    assert error[0] < error[1]
    again = solved(tokens, target, relevance=True, **settings)
    assert torch.equal(again.relevance, model.relevance)
    save_weights(model, tmp_path / "best.safetensors")
    fresh = make_kernel(relevance=True, **settings)
    load_weights(fresh, tmp_path / "best.safetensors")
    assert torch.equal(fresh(make_batch(new)), model(make_batch(new)))
    assert fresh.relevances == model.relevances


@pytest.mark.parametrize("settings", [{"embeddings": "alone"}, {"sites": "additive", "linear_variance": 0.0}])
def test_a_kernel_without_a_part_of_the_sites_finds_no_relevance(settings: dict[str, Any]) -> None:
    few = make_variants(30, 8, seed=3)
    model = make_kernel(relevance=True, **settings)
    if "embeddings" in settings:
        model.take_embeddings(4)
    vectors = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)) if "embeddings" in settings else None
    model.solve(few.tokens, few.target.double(), embeddings=vectors)
    assert model.relevances == {}
    old = {**model.trained_state(), "relevance": torch.ones(8, dtype=torch.float64)}  # as earlier versions wrote it
    model.load_trained_state(old)
    assert model.relevances == {}


def test_few_data_leave_relevances_as_they_are() -> None:
    few = make_variants(8, 6, seed=1)
    model = solved(few.tokens, few.target, relevance=True)
    assert all(0.3 < value < 3 for value in model.relevances.values())
    assert solved(few.tokens, few.target).relevances == {}


@pytest.mark.parametrize("changes", [{}, {"sites": "both"}, PARTS])
def test_the_posterior_is_derived_rightly(changes: dict) -> None:
    train = make_variants(30, 6, seed=1)
    model = solved(train.tokens, train.target, similarity="blosum62", **changes)
    build = model.training_side()._builder()
    theta = model.theta.clone().requires_grad_()
    relevance = torch.linspace(0.5, 2.0, int((train.tokens != train.tokens[:1]).any(0).sum())).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t, r: build(t, r).sum(0), (theta, relevance), atol=1e-5)
    # Without relevances it is the covariance that predictions are made of.
    own = model._own_covariances(model.training_side().distances_among_themselves())
    torch.testing.assert_close(build(model.theta, None), own, rtol=0, atol=1e-9)
    torch.testing.assert_close(build(model.theta, torch.ones_like(relevance)), own, rtol=0, atol=1e-9)


def test_marginal_likelihood_of_products_and_parts_raises_the_likelihood() -> None:
    train = make_variants(120, 8, seed=2)
    draw = torch.Generator().manual_seed(1)
    for changes in ({"sites": "product"}, PARTS):
        settings = {"similarity": "blosum62", "length_scale": 2.0, "noise": 0.05, **changes}
        drawn = solved(train.tokens, train.target, **settings)
        own = drawn._own_covariances(drawn.training_side().distances_among_themselves())
        factor = torch.linalg.cholesky(own + 0.05 * torch.eye(len(own)))
        target = factor @ torch.randn(len(own), generator=draw).double()
        start = {"length_scale": 20.0, "noise": 1.0}
        found = solved(train.tokens, target, **(settings | start), marginal_likelihood=True)

        def likelihood(model: Kernel, target: Tensor = target) -> float:
            own = model._own_covariances(model.training_side().distances_among_themselves())
            scaled = (target - target.mean()) / target.std(correction=0)
            normal = torch.distributions.MultivariateNormal(
                torch.zeros(len(own)).double(), own + model.theta[3] * torch.eye(len(own))
            )
            return float(normal.log_prob(scaled))

        assert likelihood(found) > likelihood(solved(train.tokens, target, **(settings | start))) + 3


def test_inducing_sequences_stand_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    train = make_variants(400, 8, seed=1)
    target = (train.tokens[:, 2] + train.tokens[:, 5]).double() / 10
    new = make_variants(100, 8, seed=1)
    exact = solved(train.tokens, target, similarity="blosum62")
    monkeypatch.setattr("models.many_rows.MAX_KERNEL_ROWS", 399)
    model = make_kernel(similarity="blosum62", inducing=200)
    assert "approximation" in str(model.approximation(400))
    assert model.approximation(399) is None
    assert make_kernel(max_train=50).approximation(400) is None
    model.solve(train.tokens, target)
    assert len(model.train_tokens) == len(model.dual) == 200
    # The subset of regressors, from its formula.
    own = model._own_covariances(model.training_side().distances_among_themselves())
    across, _ = model._covariances(train.tokens, Beside())
    scaled = (target - target.mean()) / target.std(correction=0)
    # Some of them are the same sequence: the matrix is singular.
    normal, right = across.T @ across + 0.1 * own, (across.T @ scaled)[:, None]
    dual = torch.linalg.lstsq(normal, right, driver="gelsd").solution.squeeze(1)
    torch.testing.assert_close(own @ model.dual, own @ dual, rtol=0, atol=1e-4)
    assert torch.corrcoef(torch.stack([model(new), exact(new)]))[0, 1] > 0.97
    _, std = model.predict_with_std(new)
    assert (std + 1e-6 >= exact.predict_with_std(new)[1]).all()


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be read"):
        find_similarity("a" * 5000)
