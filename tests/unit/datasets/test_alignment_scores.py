"""Scores made of an alignment: right by plain loops, near to a known model, cached, and missing where unknown."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from datasets.alignments.couplings import PseudoLikelihood, check_columns, fit_couplings, from_wild_type
from datasets.alignments.focus import align_focus
from datasets.alignments.read import GAP, RESIDUES, read_alignment
from datasets.alignments.scores import NAMES, make_alignment_scores
from datasets.common.errors import UserError
from tests.helpers.alignments import random_model, sampled, write_fasta, written


def packed(variants):
    residues = np.zeros((len(variants), max(map(len, variants))), dtype=np.uint8)
    for row, variant in zip(residues, variants, strict=True):
        row[: len(variant)] = list(variant.encode())
    return residues, np.array([len(variant) for variant in variants])


def plain_pseudo_likelihood(codes, weights, fields, couplings, n_letters):
    """The value and the gradients of plmc's objective, with symmetric couplings (C, A, C, A), in loops."""
    n_columns = codes.shape[1]
    lambda_j = 0.01 * (n_letters - 1) * (n_columns - 1)
    value, of_fields, of_couplings = 0.0, np.zeros_like(fields), np.zeros_like(couplings)
    for row, weight in zip(codes, weights, strict=True):
        for i in range(n_columns):
            if row[i] >= n_letters:
                continue
            others = [j for j in range(n_columns) if j != i and row[j] < n_letters]
            energies = [fields[i, a] + sum(couplings[i, a, j, row[j]] for j in others) for a in range(n_letters)]
            p = np.exp(energies) / np.sum(np.exp(energies))
            value -= weight * np.log(p[row[i]])
            for a in range(n_letters):
                slope = weight * (p[a] - (a == row[i]))
                of_fields[i, a] += slope
                for j in others:
                    of_couplings[i, a, j, row[j]] += slope
                    of_couplings[j, row[j], i, a] += slope
    value += 0.01 * (fields**2).sum()
    of_fields += 2 * 0.01 * fields
    for i, j in itertools.combinations(range(n_columns), 2):
        value += lambda_j * (couplings[i, :, j] ** 2).sum()
    of_couplings += 2 * lambda_j * couplings
    return value, of_fields, of_couplings


def test_the_pseudo_likelihood_is_that_of_plain_loops():
    random = np.random.default_rng(2)
    n, n_columns, n_letters = 30, 7, 5
    codes = random.integers(0, n_letters + 1, (n, n_columns)).astype(np.uint8)  # the last is a gap
    weights = random.random(n)
    fields = random.normal(size=(n_columns, n_letters))
    couplings = random.normal(size=(n_columns, n_letters, n_columns, n_letters)) / 3
    couplings += couplings.transpose(2, 3, 0, 1)
    couplings[np.arange(n_columns), :, np.arange(n_columns)] = 0
    value, of_fields, of_couplings = plain_pseudo_likelihood(codes, weights, fields, couplings, n_letters)

    likelihood = PseudoLikelihood(codes, weights, n_letters, torch.float64)
    by_column = torch.from_numpy(couplings).flatten(0, 1)
    found = [
        likelihood(columns, torch.from_numpy(fields[columns]), by_column[:, columns].flatten(1))
        for columns in ([0, 1, 2], [3], [4, 5, 6])
    ]
    assert sum(part[0].item() for part in found) == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(torch.cat([part[1] for part in found]).numpy(), of_fields, atol=1e-6)
    one_sided = torch.cat([part[2] for part in found], dim=1).numpy()
    both = (one_sided + one_sided.T).reshape(couplings.shape)
    np.testing.assert_allclose(both, of_couplings, atol=1e-6)
    assert np.abs(of_couplings).max() > 1


def test_the_gradient_is_that_of_finite_differences():
    random = np.random.default_rng(3)
    codes = random.integers(0, 5, (20, 4)).astype(np.uint8)
    likelihood = PseudoLikelihood(codes, random.random(20), 4, torch.float64)
    fields, couplings = torch.randn(1, 4, dtype=torch.float64), torch.randn(16, 4, dtype=torch.float64)
    likelihood.clear_own([2], couplings)
    _, of_fields, of_couplings = likelihood([2], fields, couplings)
    for parameter, gradient in ((fields, of_fields), (couplings, of_couplings)):
        for at in ((0, 1), (0, 3)):
            values = []
            for step in (1e-5, -2e-5):
                parameter[at] += step
                values.append(likelihood([2], fields, couplings)[0].item())
            parameter[at] += 1e-5
            assert gradient[at].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-6)


def test_the_fit_is_a_minimum_and_does_not_depend_on_the_threads():
    random = np.random.default_rng(5)
    fields, couplings, contacts = random_model(random, 10, 6, 1.0)
    codes = sampled(random, fields, couplings, contacts, 400)
    weights = random.random(400)
    told = []
    first = fit_couplings(codes, weights, 20, 1, lambda *progress: told.append(progress))
    second = fit_couplings(codes, weights, 20, 3, lambda *progress: None)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert told == [("couplings", i, 3) for i in (1, 2, 3)]
    np.testing.assert_array_equal(first[1], first[1].transpose(2, 3, 0, 1))
    assert not first[1][np.arange(10), :, np.arange(10)].any()
    # The average of two estimates of each coupling is close to the minimum of both: no step along the gradient helps.
    likelihood = PseudoLikelihood(codes, weights, 20, torch.float64)
    own, pairs = torch.from_numpy(first[0]).double(), torch.from_numpy(first[1]).double().view(200, 200)
    before, *gradients = likelihood(list(range(10)), own, pairs)
    start = likelihood(list(range(10)), own * 0, pairs * 0)[0]
    best = min(
        likelihood(list(range(10)), own - step * gradients[0], pairs - step * gradients[1])[0].item()
        for step in (1e-4, 1e-3, 1e-2)
    )
    assert before.item() - best < 0.01 * (start - before).item()


def energy(fields, couplings, codes):
    pairs = itertools.combinations(range(len(codes)), 2)
    of_fields = sum(fields[i, a] for i, a in enumerate(codes))
    return of_fields + sum(couplings[i, codes[i], j, codes[j]] for i, j in pairs)


def test_the_score_is_the_difference_of_energies_to_the_wild_type():
    random = np.random.default_rng(6)
    n_columns = 6
    fields, couplings, _ = random_model(random, n_columns, 15, 1.0)
    wild, variant = random.integers(0, 20, (2, n_columns)).astype(np.uint8)
    single, pairs = from_wild_type(fields, couplings.copy(), wild)
    pairs = pairs.reshape(couplings.shape)
    found = single[np.arange(n_columns), variant].sum()
    found += sum(pairs[i, variant[i], j, variant[j]] for i, j in itertools.combinations(range(n_columns), 2))
    assert found == pytest.approx(energy(fields, couplings, variant) - energy(fields, couplings, wild), abs=1e-4)
    np.testing.assert_allclose(pairs[np.arange(n_columns), wild], 0, atol=1e-5)
    assert not single[np.arange(n_columns), wild].any()


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A file of sequences from a known model, the model, and the wild type: two residues, 12 columns, one more."""
    random = np.random.default_rng(8)
    fields, couplings, contacts = random_model(random, 12, 8, 1.2)
    codes = sampled(random, fields, couplings, contacts, 10_000)
    path = write_fasta(tmp_path_factory.mktemp("alignment") / "known.fasta", written(codes))
    return path, fields, couplings, codes[0], f"MK{written(codes[:1])[0]}W"


def variants_of(known, n_mutations, n=300):
    """Variants with mutations in some columns, as codes and as sequences."""
    random = np.random.default_rng(n_mutations)
    codes = np.repeat(known[3][None], n, axis=0)
    for row in codes:
        row[random.choice(12, n_mutations, replace=False)] = random.integers(0, 20, n_mutations)
    return codes, [f"MK{text}W" for text in written(codes)]


@pytest.fixture(scope="module")
def scores(known, tmp_path_factory):
    return make_alignment_scores(known[0], known[4], cache_dir=tmp_path_factory.mktemp("cache"), threads=2)


@pytest.mark.slow
def test_couplings_find_the_model_that_the_sequences_were_drawn_from(known, scores):
    _, fields, couplings, wild, _ = known
    for n_mutations in (1, 2, 6):
        codes, variants = variants_of(known, n_mutations)
        truth = [energy(fields, couplings, row) - energy(fields, couplings, wild) for row in codes]
        found = dict(zip(scores.names, scores.score(*packed(variants)).T, strict=True))
        agreement = {name: spearmanr(values, truth).statistic for name, values in found.items()}
        assert agreement["couplings"] > 0.9, agreement
        assert agreement["couplings"] > agreement["site_independent"] + 0.05, agreement
        assert agreement["site_independent"] > agreement["conservation"], agreement


def test_the_scores_of_a_variant_are_sums_over_its_mutations(known, scores):
    focus = align_focus(read_alignment(known[0]), known[4])
    codes, variants = variants_of(known, 3, n=20)
    found = scores.score(*packed(variants))
    for row, values in zip(codes, found, strict=True):
        log_odds = conserved = 0.0
        for column in np.flatnonzero(row != known[3]):
            counts = np.array([focus.weights[focus.codes[:, column] == a].sum() for a in range(20)]) + 1
            p = counts / counts.sum()
            log_odds += np.log(p[row[column]] / p[known[3][column]])
            conserved -= (p * np.log(p / [BACKGROUND[a] for a in RESIDUES])).sum()
        np.testing.assert_allclose(values[:2], [log_odds, conserved], rtol=1e-5)


BACKGROUND = {
    "A": 0.07805,
    "R": 0.05129,
    "N": 0.04487,
    "D": 0.05364,
    "C": 0.01925,
    "Q": 0.04264,
    "E": 0.06295,
    "G": 0.07377,
    "H": 0.02199,
    "I": 0.05142,
    "L": 0.09019,
    "K": 0.05744,
    "M": 0.02243,
    "F": 0.03856,
    "P": 0.05203,
    "S": 0.07120,
    "T": 0.05841,
    "W": 0.01330,
    "Y": 0.03216,
    "V": 0.06441,
}
"""Robinson and Robinson's frequencies, in the order of BLAST's own table."""


def test_the_wild_type_has_zero_and_what_the_alignment_does_not_know_has_none(known, scores):
    wild = known[4]
    other = "A" if wild[5] != "A" else "C"
    unknown = [
        "W" + wild[1:],  # before the first column
        wild[:-1] + "A",  # behind the last
        wild[:5] + wild[6:],  # a deletion
        wild[:5] + other + wild[5:],  # an insertion
        wild[:5] + "X" + wild[6:],
        wild[:5] + "-" + wild[6:],
        "W" + wild[1:5] + other + wild[6:],
    ]
    found = scores.score(*packed([wild, wild[:5] + other + wild[6:], *unknown]))
    assert found.dtype == np.float32
    assert found.shape == (9, 3)
    assert not found[0].any()
    assert np.isfinite(found[1]).all()
    assert np.isnan(found[2:]).all()
    assert scores.score(np.zeros((0, 27), dtype=np.uint8), np.zeros(0, dtype=np.int64)).shape == (0, 3)


def test_gaps_in_the_alignment_are_no_letter(tmp_path, known):
    rows = read_alignment(known[0]).codes[:3000].copy()
    random = np.random.default_rng(9)
    rows[1:][random.random(rows[1:].shape) < 0.1] = GAP
    scores = make_alignment_scores(
        write_fasta(tmp_path / "gaps.fasta", written(rows)), known[4], names=["couplings"], cache_dir=tmp_path
    )
    codes, variants = variants_of(known, 2)
    truth = [energy(known[1], known[2], row) for row in codes]
    assert spearmanr(scores.score(*packed(variants))[:, 0], truth).statistic > 0.7


def test_the_names_choose_the_scores_and_their_order(known, scores, tmp_path):
    _, variants = variants_of(known, 2, n=30)
    expected = scores.score(*packed(variants))
    some = make_alignment_scores(known[0], known[4], names=("conservation", "site_independent"), cache_dir=tmp_path)
    assert some.names == ("conservation", "site_independent")
    np.testing.assert_array_equal(some.score(*packed(variants)), expected[:, [1, 0]])
    assert not list(tmp_path.rglob("*couplings*"))
    with pytest.raises(UserError, match=r"no score 'coupling', but .* Did you mean 'couplings'"):
        make_alignment_scores(known[0], known[4], names=["coupling"], cache_dir=tmp_path)


class Watched:
    """Makes scores in a folder, and says whether anything was computed and announced."""

    def __init__(self, folder):
        self.folder = folder

    def make(self, path, wild_type):
        self.computed, self.announced = [], []
        return make_alignment_scores(
            path,
            wild_type,
            cache_dir=self.folder,
            announce=self.announced.append,
            on_progress=lambda what, *_: self.computed.append(what),
        )


@pytest.fixture
def small(tmp_path, known):
    rows = written(read_alignment(known[0]).codes[:100, :8])
    return write_fasta(tmp_path / "small.fasta", rows), rows[0]


def test_scores_are_kept_by_content_wild_type_and_version(small, tmp_path, monkeypatch):
    path, wild_type = small
    watched = Watched(tmp_path / "cache")
    first = watched.make(path, wild_type)
    assert {"weights", "couplings"} <= set(watched.computed)
    variants = packed([wild_type[:3] + residue + wild_type[4:] for residue in RESIDUES])
    again = watched.make(path.rename(tmp_path / "other name.fasta"), wild_type)
    assert not watched.computed
    assert again.sentences == first.sentences
    np.testing.assert_array_equal(again.score(*variants), first.score(*variants))
    watched.make(tmp_path / "other name.fasta", wild_type + "A")
    assert watched.computed
    (tmp_path / "other name.fasta").write_text((tmp_path / "other name.fasta").read_text() + f">more\n{wild_type}\n")
    watched.make(tmp_path / "other name.fasta", wild_type)
    assert watched.computed
    monkeypatch.setattr("datasets.alignments.scores.VERSION", 2)
    watched.make(tmp_path / "other name.fasta", wild_type)
    assert watched.computed


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize("damage", [cut, flipped, lambda content: b"", lambda content: b"no tensors at all"])
@pytest.mark.parametrize("kind", ["sites", "couplings"])
def test_a_broken_cache_file_is_made_again(small, tmp_path, damage, kind):
    path, wild_type = small
    watched = Watched(tmp_path / "cache")
    first = watched.make(path, wild_type)
    (kept,) = watched.folder.rglob(f"*-{kind}.safetensors")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    variants = packed([wild_type[:3] + residue + wild_type[4:] for residue in RESIDUES])
    np.testing.assert_array_equal(watched.make(path, wild_type).score(*variants), first.score(*variants))
    assert any("are broken" in sentence for sentence in watched.announced)
    assert kept.read_bytes() == whole
    assert {file.suffix for file in watched.folder.rglob("*") if file.is_file()} <= {".safetensors", ".lock"}


def test_a_cache_that_cannot_be_written_is_done_without(small, tmp_path):
    path, wild_type = small
    (tmp_path / "cache").write_text("a file")
    watched = Watched(tmp_path / "cache")
    scores = watched.make(path, wild_type)
    assert np.isfinite(scores.score(*packed([wild_type]))).all()
    assert any("cannot be kept" in sentence for sentence in watched.announced)


def test_nothing_is_kept_of_an_alignment_that_is_refused(small, tmp_path):
    path, wild_type = small
    with pytest.raises(UserError, match="does not hold the wild type"):
        make_alignment_scores(path, "WWWWHHHHMMMM", cache_dir=tmp_path / "cache")
    with pytest.raises(UserError, match="There is no file"):
        make_alignment_scores(tmp_path / "none", wild_type, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_couplings_of_too_many_columns_are_refused():
    check_columns(1000)
    with pytest.raises(UserError, match=r"has 1,001 columns .* for 1,000 at most"):
        check_columns(1001)


def test_the_names_are_those_that_the_documentation_has():
    assert NAMES == ("site_independent", "conservation", "couplings")
