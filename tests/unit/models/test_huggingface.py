"""ESM-2 from Hugging Face's folders: the same model as from fair-esm's file, and nothing else is taken for it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from datasets.common.errors import UserError
from models.backbones.transformer import pretrained
from models.backbones.weights import find_weights, read_weights, weights_hash
from tests.helpers.checkpoints import use_tiny, write_checkpoint, write_folder

NAME = "esm2_tiny"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return use_tiny(monkeypatch, tmp_path)


def states(path: Path) -> torch.Tensor:
    tokens = torch.tensor([[1, 5, 9, 20, 3], [1, 7, 3, 0, 0]])
    with torch.no_grad():
        found: torch.Tensor = pretrained(NAME, path)(tokens)
    return found[tokens != 0]


@pytest.mark.parametrize("shards", [1, 3])
def test_it_is_the_model_of_fair_esms_file(home: Path, shards: int) -> None:
    file = write_checkpoint(home, NAME)
    folder = write_folder(home / "hf", NAME, shards=shards)
    torch.testing.assert_close(states(folder), states(file), rtol=0, atol=1e-5)
    assert read_weights(folder, NAME).keys() == read_weights(file, NAME).keys()


def test_the_weights_are_the_identity_whatever_the_files(home: Path) -> None:
    one, three = write_folder(home / "one", NAME), write_folder(home / "three", NAME, shards=3)
    other = write_folder(home / "other", NAME, seed=1)
    assert weights_hash(one, NAME) == weights_hash(three, NAME) != weights_hash(other, NAME)
    tensors = load_file(one / "model.safetensors")
    tensors["esm.encoder.emb_layer_norm_after.bias"] += 1
    before = weights_hash(one, NAME)
    save_file(tensors, one / "model.safetensors")
    assert weights_hash(one, NAME) != before  # what was remembered is not believed


def test_it_is_found_in_the_folder_of_weights_and_in_the_cache_of_the_hub(home: Path) -> None:
    snapshot = write_folder(home / "HF_HOME" / "hub" / f"models--facebook--{NAME}" / "snapshots" / "abc", NAME)
    assert find_weights(NAME, weights_dir=None, announce=print) == snapshot
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    newer = write_folder(snapshot.parent / "0new", NAME)
    (refs / "main").write_text("0new\n")
    assert find_weights(NAME, weights_dir=None, announce=print) == newer
    own = write_folder(home / "mine" / NAME, NAME)
    assert find_weights(NAME, weights_dir=home / "mine", announce=print) == own
    (own / "config.json").unlink()  # a folder that was named is not passed over for another one, or for a download
    assert find_weights(NAME, weights_dir=home / "mine", announce=print) == own
    with pytest.raises(UserError, match=r"mine/esm2_tiny does not hold the weights .*: it holds no config.json"):
        read_weights(own, NAME)
    file = write_checkpoint(home / "mine", NAME)
    assert find_weights(NAME, weights_dir=home / "mine", announce=print) == file


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model_type": "bert"}, "model_type of its config.json is bert, not esm"),
        ({"num_hidden_layers": 3}, "num_hidden_layers of its config.json is 3, not 2"),
        ({"position_embedding_type": "absolute"}, "position_embedding_type"),
        ({"token_dropout": False}, "token_dropout"),
    ],
)
def test_another_architecture_is_one_sentence(home: Path, settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_weights(write_folder(home / "hf", NAME, **settings), NAME)


def test_a_folder_that_is_not_whole_is_one_sentence(home: Path) -> None:
    folder = write_folder(home / "hf", NAME, shards=2)
    shard = next(folder.glob("*00001-of*"))
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{shard.name} cannot be read"):
        read_weights(folder, NAME)
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard.name} cannot be read"):
        read_weights(folder, NAME)
    for map_ in ({"a": "../../secret.safetensors"}, {}, [1], {"a": "/etc/passwd"}):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": map_}))
        with pytest.raises(UserError, match=r"does not name \.safetensors files beside it"):
            read_weights(folder, NAME)
    (folder / "model.safetensors.index.json").write_text("[" * 10**5)
    with pytest.raises(UserError, match="is no JSON"):
        read_weights(folder, NAME)


def test_names_of_newer_versions_of_their_package(home: Path) -> None:
    """Version 5 writes layer norms as gamma and beta, and the frequencies of all layers once."""
    folder = write_folder(home / "hf", NAME)
    before = read_weights(folder, NAME)
    tensors = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in load_file(folder / "model.safetensors").items()
    }
    frequencies = {"esm.encoder.layer.*.attention.self.rotary_embeddings.inv_freq": torch.ones(2)}
    save_file(tensors | frequencies, folder / "model.safetensors")
    after = read_weights(folder, NAME)
    assert all(torch.equal(before[key], after[key]) for key in before | after)


def test_missing_and_foreign_tensors_are_named(home: Path) -> None:
    folder = write_folder(home / "hf", NAME)
    tensors = load_file(folder / "model.safetensors")
    for change, says in (
        ({"esm.encoder.layer.7.LayerNorm.weight": torch.ones(16)}, "holds layers.7.final_layer_norm.weight"),
        ({"esm.encoder.layer.0.LayerNorm.weight": torch.ones(15)}, r"has the shape \(15,\)"),
        ({"encoder.layer.0.LayerNorm.weight": torch.ones(16)}, "twice"),
        ({"esm.encoder.layer.0.LayerNorm.weight": torch.ones(16).long()}, "no tensor of floats"),
    ):
        save_file(tensors | change, folder / "model.safetensors")
        with pytest.raises(UserError, match=says):
            read_weights(folder, NAME)
    del tensors["esm.encoder.layer.0.LayerNorm.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"it lacks layers\.0\.final_layer_norm\.weight"):
        read_weights(folder, NAME)
