"""Marginals of a language model: as fair-esm has them, only where variants differ, kept, and missing where unknown."""

import copy
from pathlib import Path

import esm
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.scores.language_model import MASKED, NAMES, WILD_TYPE, LanguageModelScores, checked_wild_type
from models.backbones.language_model import MaskedLanguageModel
from models.backbones.names import BACKBONES
from tests.helpers.checkpoints import TINY, fair_esm, make_checkpoint, write_checkpoint
from tests.helpers.esm_models import add_tiny_backbones

SHORT = "MKTAYIAKQRQISFVKSHFSRQ"
LONG = SHORT + "LDKFWGNEVPATYCHMGILSRVKE"
"""Longer than the 30 residues that the tiny ESM-1b takes."""
VARIANTS = {
    name: (f"C{wild[1:]}", f"{wild[:3]}W{wild[4:20]}D{wild[21:]}", f"{wild[:-1]}A")
    for name, wild in (("short", SHORT), ("long", LONG))
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_tiny_backbones(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "notes"))
    return tmp_path


class Watched:
    """A language model that counts what is asked of it."""

    def __init__(self, folder: Path, name: str = "esm2_tiny", *, seed: int = 0) -> None:
        model = MaskedLanguageModel(name, write_checkpoint(folder / f"seed{seed}", name, seed=seed))
        self.name, self.hash, self.max_residues = model.name, model.hash, model.max_residues
        self.asked: list[tuple[int, int | None]] = []
        self._model = model

    def logits(self, residues: NDArray[np.uint8], masked: int | None) -> NDArray[np.float32]:
        self.asked.append((len(residues), masked))
        return self._model.logits(residues, masked)


def packed(variants: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    residues = np.zeros((len(variants), max(map(len, variants), default=0)), dtype=np.uint8)
    for row, variant in zip(residues, variants, strict=True):
        row[: len(variant)] = list(variant.encode())
    return residues, np.array([len(variant) for variant in variants], dtype=np.int64)


def fair_score(name: str, wild: str, variant: str, *, is_masked: bool) -> float:
    """The sum over the mutations, each in its window, by fair-esm in double precision."""
    model = fair_esm(name, copy.deepcopy(make_checkpoint(BACKBONES[name]))).double()
    alphabet = esm.Alphabet.from_architecture("ESM-1b")
    size, score = min(len(wild), BACKBONES[name].max_residues or len(wild)), 0.0
    for position, (old, new) in enumerate(zip(wild, variant, strict=True)):
        if old == new:
            continue
        start = min(max(position - size // 2, 0), len(wild) - size)
        _, _, tokens = alphabet.get_batch_converter()([("", wild[start : start + size])])
        place = 1 + position - start
        if is_masked:
            tokens[0, place] = alphabet.mask_idx
        with torch.no_grad():
            log_p = model(tokens)["logits"][0, place].log_softmax(-1)
        score += float(log_p[alphabet.get_idx(new)] - log_p[alphabet.get_idx(old)])
    return score


@pytest.mark.parametrize("length", ["short", "long"])
@pytest.mark.parametrize("name", TINY)
def test_scores_are_the_marginals_of_fair_esms_model(home: Path, name: str, length: str) -> None:
    wild = SHORT if length == "short" else LONG
    scores = LanguageModelScores(Watched(home, name), wild, cache_dir=home)
    found = scores.score(*packed([wild, *VARIANTS[length]]))
    assert found.dtype == np.float32
    assert not found[0].any()
    for row, variant in zip(found[1:], VARIANTS[length], strict=True):
        expected = [fair_score(name, wild, variant, is_masked=is_masked) for is_masked in (True, False)]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-5)
    assert np.abs(found[1:, 0] - found[1:, 1]).min() > 1e-3, "the two ways differ"


def test_only_mutated_positions_are_masked_and_nothing_is_computed_twice(home: Path) -> None:
    model, said = Watched(home), []
    scores = LanguageModelScores(model, SHORT, cache_dir=home / "cache", announce=said.append)
    first = scores.score(*packed([SHORT, VARIANTS["short"][1]]))
    assert sorted(model.asked, key=str) == [(22, 20), (22, 3), (22, None)]
    assert said == [
        "2 passes of the wild type through esm2_tiny, for esm_masked_marginal.",
        "1 pass of the wild type through esm2_tiny, for esm_wild_type_marginal.",
    ]
    model.asked.clear()
    assert np.array_equal(scores.score(*packed([SHORT, VARIANTS["short"][1]])), first)
    assert model.asked == []
    scores.score(*packed([VARIANTS["short"][0], VARIANTS["short"][1]]))
    assert model.asked == [(22, 0)], "the other position and the pass without a mask are known"
    again = LanguageModelScores(model, SHORT, cache_dir=home / "cache", announce=said.append)
    model.asked.clear()
    assert np.array_equal(again.score(*packed([SHORT, VARIANTS["short"][1]])), first)
    assert model.asked == []


def test_windows_of_long_proteins_are_passed_once_where_nothing_is_masked(home: Path) -> None:
    model = Watched(home, "esm1b_tiny")
    scores = LanguageModelScores(model, LONG, names=[WILD_TYPE], cache_dir=home)
    scores.score(*packed([f"C{LONG[1:]}", f"{LONG[:5]}W{LONG[6:]}", f"{LONG[:-1]}A"]))
    assert model.asked == [(30, None), (30, None)], "the first two share the first window"


def test_bits_depend_neither_on_threads_nor_on_company_nor_on_interruptions(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = [f"{SHORT[:i]}{'C' if SHORT[i] != 'C' else 'A'}{SHORT[i + 1 :]}" for i in range(len(SHORT))]
    model = Watched(home)
    threads = torch.get_num_threads()
    together = LanguageModelScores(model, SHORT, cache_dir=home / "a", threads=3).score(*packed(variants))
    assert torch.get_num_threads() == threads
    monkeypatch.setattr("datasets.scores.language_model._TOGETHER", 2)
    alone = LanguageModelScores(model, SHORT, cache_dir=home / "b", threads=1)
    assert np.array_equal(np.concatenate([alone.score(*packed([variant])) for variant in variants]), together)
    stopping = Watched(home)

    def stop(residues: NDArray[np.uint8], masked: int | None) -> NDArray[np.float32]:
        if len(stopping.asked) == 5:
            raise KeyboardInterrupt
        stopping.asked.append((len(residues), masked))
        return model.logits(residues, masked)

    monkeypatch.setattr(stopping, "logits", stop)
    with pytest.raises(KeyboardInterrupt):
        LanguageModelScores(stopping, SHORT, cache_dir=home / "c", threads=1).score(*packed(variants))
    model.asked.clear()
    assert np.array_equal(LanguageModelScores(model, SHORT, cache_dir=home / "c").score(*packed(variants)), together)
    assert len([masked for _, masked in model.asked if masked is not None]) == len(SHORT) - 4, "two chunks were kept"


def test_the_cache_goes_by_weights_wild_type_and_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def n_passes(model: Watched, wild: str = SHORT) -> int:
        model.asked.clear()
        LanguageModelScores(model, wild, cache_dir=home / "cache").score(*packed([f"C{wild[1:]}"]))
        return len(model.asked)

    model = Watched(home)
    assert (n_passes(model), n_passes(model)) == (2, 0)
    assert n_passes(Watched(home, seed=1)) == 2
    assert n_passes(model, SHORT[:-1]) == 2
    monkeypatch.setattr("datasets.scores.language_model.VERSION", 2)
    assert n_passes(model) == 2


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_a_broken_file_of_the_cache_is_made_again(home: Path, content: bytes | None) -> None:
    model, said = Watched(home), []
    variants = packed([*VARIANTS["short"]])
    first = LanguageModelScores(model, SHORT, cache_dir=home / "cache").score(*variants)
    for kept in (home / "cache").rglob("*.safetensors"):
        kept.write_bytes(kept.read_bytes()[:-9] + b"damaged!!" if content is None else content)
    again = LanguageModelScores(model, SHORT, cache_dir=home / "cache", announce=said.append)
    assert np.array_equal(again.score(*variants), first)
    assert any("scores of esm2_tiny" in sentence and "are broken" in sentence for sentence in said)


def test_a_cache_that_cannot_be_written_is_done_without(home: Path) -> None:
    (home / "cache").write_text("a file")
    said: list[str] = []
    scores = LanguageModelScores(Watched(home), SHORT, cache_dir=home / "cache", announce=said.append)
    assert np.isfinite(scores.score(*packed([*VARIANTS["short"]]))).all()
    assert len([sentence for sentence in said if "cannot be kept" in sentence]) == 1


def test_what_the_model_cannot_compare_has_no_score(home: Path) -> None:
    model = Watched(home)
    unknown = [SHORT[1:], SHORT + "A", f"X{SHORT[1:]}", f"U{SHORT[1:]}", f"-{SHORT[1:]}", f"XC{SHORT[2:]}"]
    scores = LanguageModelScores(model, SHORT, cache_dir=home)
    assert np.isnan(scores.score(*packed(unknown))).all()
    assert {masked for _, masked in model.asked} == {1, None}, "position 1 alone has a residue instead of another"
    assert scores.score(*packed([])).shape == (0, 2)
    odd = f"{SHORT[:4]}X{SHORT[5:]}"
    found = LanguageModelScores(model, odd, cache_dir=home).score(*packed([f"{odd[:4]}A{odd[5:]}", f"C{odd[1:]}", odd]))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()


def test_some_names_need_their_own_passes_alone(home: Path) -> None:
    model = Watched(home)
    both = LanguageModelScores(model, SHORT, cache_dir=home / "a").score(*packed([*VARIANTS["short"]]))
    for column, name in enumerate(NAMES):
        model.asked.clear()
        found = LanguageModelScores(model, SHORT, names=[name], cache_dir=home / name)
        assert np.array_equal(found.score(*packed([*VARIANTS["short"]]))[:, 0], both[:, column])
        assert all((masked is None) == (name == WILD_TYPE) for _, masked in model.asked)
    assert NAMES == (MASKED, WILD_TYPE) == ("esm_masked_marginal", "esm_wild_type_marginal")


def test_a_wild_type_is_needed_and_weights_that_are_finite(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="that is not known: name it with --wild-type FASTA"):
        checked_wild_type(None, "esm2_tiny")
    with pytest.raises(UserError, match="has the letter 'B', which esm2_tiny does not know"):
        checked_wild_type("MBK", "esm2_tiny")
    model = Watched(home)
    monkeypatch.setattr(model, "logits", lambda residues, masked: np.full((len(residues), 20), np.nan, np.float32))
    with pytest.raises(UserError, match="give logits that are not finite"):
        LanguageModelScores(model, SHORT, cache_dir=home).score(*packed([*VARIANTS["short"]]))
