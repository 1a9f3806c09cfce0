"""A backbone with its head says what fair-esm's model says; without the head nothing has changed."""

import hashlib
import shutil
from pathlib import Path

import esm
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from datasets.alignments.read import RESIDUES
from datasets.common.errors import UserError
from models.backbones.language_model import MaskedLanguageModel, find_language_model
from models.backbones.names import BACKBONES
from models.backbones.transformer import pretrained
from models.backbones.weights import read_weights, weights_hash
from tests.helpers.checkpoints import TINY, fair_esm, make_checkpoint, use_tiny, write_checkpoint, write_folder

PROTEIN = "MKTAYIAKQRXISFVKSHFSRQUW"
HEAD = "lm_head.dense.weight"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_tiny(monkeypatch, tmp_path)


def residues(protein: str = PROTEIN) -> NDArray[np.uint8]:
    return np.frombuffer(protein.encode(), dtype=np.uint8)


def fair_logits(name: str, masked: int | None) -> NDArray[np.float32]:
    """fair-esm's logits (n, 20) of the protein."""
    alphabet = esm.Alphabet.from_architecture("ESM-1b")
    _, _, tokens = alphabet.get_batch_converter()([("", PROTEIN)])
    if masked is not None:
        tokens[0, 1 + masked] = alphabet.mask_idx
    with torch.no_grad():
        logits: Tensor = fair_esm(name, make_checkpoint(BACKBONES[name]))(tokens)["logits"]
    return logits[0, 1:-1, [alphabet.get_idx(residue) for residue in RESIDUES]].numpy()


@pytest.mark.parametrize("masked", [None, 0, 10, len(PROTEIN) - 1])
@pytest.mark.parametrize("name", TINY)
def test_logits_are_fair_esms(home: Path, name: str, masked: int | None) -> None:
    model = MaskedLanguageModel(name, write_checkpoint(home, name))
    np.testing.assert_allclose(model.logits(residues(), masked), fair_logits(name, masked), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shards", [1, 3])
def test_so_are_those_of_hugging_faces_folder(home: Path, shards: int) -> None:
    model = MaskedLanguageModel("esm2_tiny", write_folder(home / "hf", "esm2_tiny", shards=shards))
    np.testing.assert_allclose(model.logits(residues(), 3), fair_logits("esm2_tiny", 3), rtol=0, atol=1e-5)


def test_a_folder_may_hold_the_heads_matrix_too_if_it_is_the_embedding(home: Path) -> None:
    folder = write_folder(home / "hf", "esm2_tiny")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    embedding = tensors["esm.embeddings.word_embeddings.weight"]
    tied = {"lm_head.decoder.weight": embedding.clone(), "lm_head.decoder.bias": tensors["lm_head.bias"].clone()}
    save_file(tensors | tied, file)
    model = MaskedLanguageModel("esm2_tiny", folder)
    np.testing.assert_allclose(model.logits(residues(), 3), fair_logits("esm2_tiny", 3), rtol=0, atol=1e-5)
    save_file(tensors | {"lm_head.decoder.weight": embedding + 1}, file)
    with pytest.raises(UserError, match=r"lm_head\.weight is not the embedding"):
        MaskedLanguageModel("esm2_tiny", folder)
    assert read_weights(folder, "esm2_tiny").keys().isdisjoint(tied)


@pytest.mark.parametrize("name", TINY)
def test_a_head_that_is_missing_or_another_is_refused_and_the_backbone_is_not(home: Path, name: str) -> None:
    weights = make_checkpoint(BACKBONES[name])["model"]
    without = {key: value for key, value in weights.items() if not key.startswith("encoder.lm_head.")}
    path = write_checkpoint(home, name, model=without)
    with pytest.raises(UserError, match=r"lacks lm_head\.\S+, of the language model's head"):
        MaskedLanguageModel(name, path)
    other = weights | {"encoder.lm_head.weight": weights["encoder.lm_head.weight"] + 1}
    with pytest.raises(UserError, match=r"lm_head\.weight is not the embedding"):
        MaskedLanguageModel(name, write_checkpoint(home, name, model=other))
    narrow = weights | {f"encoder.{HEAD}": torch.zeros(3, 3)}
    with pytest.raises(UserError, match=r"lm_head.dense.weight has the shape \(3, 3\)"):
        MaskedLanguageModel(name, write_checkpoint(home, name, model=narrow))
    for content in (without, other, narrow):
        assert not any(
            key.startswith("lm_head") for key in read_weights(write_checkpoint(home, name, model=content), name)
        )


def test_a_folder_without_a_head_is_refused(home: Path) -> None:
    folder = write_folder(home / "hf", "esm2_tiny")
    tensors = load_file(folder / "model.safetensors")
    del tensors[HEAD]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"lacks lm_head.dense.weight, of the language model's head"):
        MaskedLanguageModel("esm2_tiny", folder)
    pretrained("esm2_tiny", folder)


def test_the_identity_of_a_backbone_is_what_it_was_and_that_of_a_language_model_has_the_head(home: Path) -> None:
    folder, file = write_folder(home / "hf", "esm2_tiny"), write_checkpoint(home, "esm2_tiny")
    digest = hashlib.sha256()
    state = read_weights(folder, "esm2_tiny")
    for key in sorted(state):
        digest.update(f"{key} {tuple(state[key].shape)}\n".encode())
        digest.update(state[key].numpy().data)
    before = weights_hash(folder, "esm2_tiny")
    assert before == f"sha256:{digest.hexdigest()}"
    model = MaskedLanguageModel("esm2_tiny", folder)
    assert f"sha256:{model.hash}" != before
    other = home / "other"
    shutil.copytree(folder, other)
    tensors = load_file(other / "model.safetensors")
    save_file(tensors | {HEAD: tensors[HEAD] + 1}, other / "model.safetensors")
    assert weights_hash(other, "esm2_tiny") == before
    assert MaskedLanguageModel("esm2_tiny", other).hash != model.hash
    of_file = weights_hash(file, "esm2_tiny")
    assert of_file == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert f"sha256:{MaskedLanguageModel('esm2_tiny', file).hash}" == of_file


def test_what_is_not_found_is_named(home: Path) -> None:
    def find(name: str) -> str:
        with pytest.raises(UserError) as raised:
            find_language_model(name, weights_dir=home, announce=lambda sentence: None)
        return str(raised.value)

    assert "Did you mean 'esm2_tiny'" in find("esm2_tin")
    assert "There is no language model '../../etc/passwd'" in find("../../etc/passwd")
    sentence = find("esm2_tiny")
    assert f"esm2_tiny.pt was looked for in {home} and" in sentence
    assert "or search without --zero-shot." in sentence
    assert "model.pretrained" not in sentence
