"""Weights are found or downloaded whole, known by their hash, and read without trusting the file."""

import hashlib
import os
import pickle
import re
import threading
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import esm
import pytest
import torch

import models.backbones.weights
from datasets.common.errors import UserError
from models.backbones.checkpoint_format import tensor_shapes
from models.backbones.names import BACKBONES
from models.backbones.transformer import Backbone, pretrained
from models.backbones.weights import find_weights, read_weights, weights_hash
from tests.helpers.checkpoints import TINY, fair_esm, make_checkpoint, write_checkpoint

NAME = "esm2_tiny"
LAYER = "encoder.sentence_encoder.layers."


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny backbones, and a home in which no weights are found."""
    for name, shape in TINY.items():
        monkeypatch.setitem(BACKBONES, name, shape)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user cache"))
    monkeypatch.setattr(models.backbones.weights, "MODELS_URL", "http://127.0.0.1:9/models")  # nobody answers
    return tmp_path


class Server:
    """Serves one file, by default a whole checkpoint, and counts what it is asked for."""

    def __init__(self, content: bytes) -> None:
        self.paths: list[str] = []
        self.content = content
        self.n_missing = 0  # bytes that are announced and never sent
        self.status = 200


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server(write_checkpoint(home / "server", NAME).read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.paths.append(self.path)
            time.sleep(0.05)  # so that the others arrive while the first is served
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(state.content) + state.n_missing))
            self.end_headers()
            self.wfile.write(state.content)

        def log_message(self, format: str, *values: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(models.backbones.weights, "MODELS_URL", f"http://127.0.0.1:{http.server_address[1]}/models")
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def hub(home: Path) -> Path:
    return home / "torch home" / "hub" / "checkpoints"


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def sentence_of(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_weights_dir_comes_before_the_hub(home: Path) -> None:
    own = home / "my weights"
    in_hub = write_checkpoint(hub(home), NAME)
    own.mkdir()
    assert find_weights(NAME, weights_dir=None, announce=print) == in_hub
    assert find_weights(NAME, weights_dir=own, announce=print) == in_hub
    in_own = write_checkpoint(own, NAME)
    assert find_weights(NAME, weights_dir=own, announce=print) == in_own


def test_weights_dir_that_does_not_exist(home: Path) -> None:
    write_checkpoint(hub(home), NAME)
    sentence = sentence_of(lambda: find_weights(NAME, weights_dir=home / "nowhere", announce=print))
    assert "nowhere does not exist" in sentence


def test_no_network_and_no_file(home: Path) -> None:
    own = home / "my weights"
    own.mkdir()
    sentence = sentence_of(lambda: find_weights(NAME, weights_dir=own, announce=lambda _: None))
    assert f"{NAME}.pt was looked for in {own} and {hub(home)}" in sentence
    assert f"http://127.0.0.1:9/models/{NAME}.pt" in sentence
    assert "--weights-dir" in sentence
    assert "model.pretrained=false" in sentence


def test_download_is_kept_and_known(home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    path = find_weights(NAME, weights_dir=None, announce=said.append)
    assert path == hub(home) / f"{NAME}.pt"
    assert path.read_bytes() == server.content
    assert find_weights(NAME, weights_dir=None, announce=said.append) == path
    assert server.paths == [f"/models/{NAME}.pt"]
    [announced] = said
    assert announced.startswith(f"Downloading the weights of {NAME} from http")
    monkeypatch.setattr(hashlib, "file_digest", None)  # nothing is read again
    assert weights_hash(path, NAME) == sha256(path)


def test_several_download_once(home: Path, server: Server) -> None:
    found: list[Path] = []

    def find() -> None:
        found.append(find_weights(NAME, weights_dir=None, announce=lambda _: None))

    threads = [threading.Thread(target=find) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [hub(home) / f"{NAME}.pt"] * 4
    assert len(server.paths) == 1


@pytest.mark.parametrize("how", ["refused", "cut off", "flipped", "page"])
def test_download_that_is_not_whole_is_not_kept(home: Path, server: Server, how: str) -> None:
    if how == "refused":
        server.status = 403
    elif how == "cut off":
        server.n_missing = 1000
    elif how == "flipped":
        weight = make_checkpoint(TINY[NAME])["model"][f"{LAYER}0.fc1.weight"].numpy().tobytes()
        assert weight in server.content
        server.content = server.content.replace(weight, weight[:100] + bytes([weight[100] ^ 1]) + weight[101:])
    else:
        server.content = b"<html>Sign in to the network first</html>"
    sentence = sentence_of(lambda: find_weights(NAME, weights_dir=None, announce=lambda _: None))
    assert "could not be downloaded" in sentence
    assert [path.name for path in hub(home).rglob("*") if path.is_file()] in ([], [".lock"])


def test_cache_that_cannot_be_written(home: Path, server: Server) -> None:
    (home / "torch home").write_text("a file where the folder should be")
    sentence = sentence_of(lambda: find_weights(NAME, weights_dir=None, announce=lambda _: None))
    assert "could not be kept in" in sentence
    assert "--weights-dir" in sentence


def test_hash_is_computed_once_until_the_file_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_checkpoint(home / "weights", NAME)
    n_read = 0
    real = hashlib.file_digest

    def count(*arguments: Any) -> Any:
        nonlocal n_read
        n_read += 1
        return real(*arguments)

    monkeypatch.setattr(hashlib, "file_digest", count)
    first = weights_hash(path, NAME)
    assert first == weights_hash(path, NAME) == sha256(path)
    assert n_read == 1
    write_checkpoint(home / "weights", NAME, seed=1)
    assert weights_hash(path, NAME) == sha256(path) != first
    os.utime(path, ns=(0, 0))
    assert weights_hash(path, NAME) == sha256(path)
    assert n_read == 3
    [note] = (home / "user cache" / "flipsearch" / "weights").iterdir()
    note.write_text("{half")
    assert weights_hash(path, NAME) == sha256(path)


def test_hash_where_nothing_can_be_written(home: Path) -> None:
    (home / "user cache").write_text("a file where the folder should be")
    path = write_checkpoint(home / "weights", NAME)
    assert weights_hash(path, NAME) == sha256(path)
    assert [path.name for path in (home / "weights").iterdir()] == [f"{NAME}.pt"]


@pytest.mark.parametrize("name", list(TINY))
def test_expected_tensors_are_those_of_the_model(name: str) -> None:
    shapes = {key: tuple(value.shape) for key, value in Backbone(TINY[name]).state_dict().items()}
    expected = tensor_shapes(TINY[name])
    if name == "esm1v_tiny":  # left to the file
        expected = {key: shape for key, shape in expected.items() if "before" not in key}
    assert shapes == expected


@pytest.mark.parametrize("name", list(TINY))
def test_read_as_fair_esm_reads_it(home: Path, name: str) -> None:
    state = read_weights(write_checkpoint(home, name), name)
    theirs = fair_esm(name, make_checkpoint(TINY[name])).state_dict()
    heads = ("lm_head.", "contact_head.")
    assert state.keys() == {key for key in theirs if not key.startswith(heads)}
    assert all(torch.equal(state[key], theirs[key]) for key in state)
    if name != "esm2_tiny":
        assert not state["embed_tokens.weight"][32].any()  # the mask token


def test_norm_in_front_is_told_by_the_file(home: Path) -> None:
    path = write_checkpoint(home, "esm1b_tiny").rename(home / "esm1v_tiny.pt")
    assert pretrained("esm1v_tiny", path).emb_layer_norm_before is not None
    assert pretrained("esm1v_tiny", write_checkpoint(home, "esm1v_tiny")).emb_layer_norm_before is None


def test_contact_head_may_be_there(home: Path) -> None:
    checkpoint = make_checkpoint(TINY[NAME])
    checkpoint["model"] |= {
        "contact_head.regression.weight": torch.ones(1, 8),
        "contact_head.regression.bias": torch.ones(1),
    }
    torch.save(checkpoint, home / "other.pt")
    assert read_weights(home / "other.pt", NAME).keys() == tensor_shapes(TINY[NAME]).keys()


def test_files_older_than_torch_1_6(home: Path, server: Server) -> None:
    path = home / "old.pt"
    torch.save(make_checkpoint(TINY["esm1b_tiny"]), path, _use_new_zipfile_serialization=False)
    assert read_weights(path, "esm1b_tiny").keys() == tensor_shapes(TINY["esm1b_tiny"]).keys()
    server.content = path.read_bytes()
    assert find_weights("esm1b_tiny", weights_dir=None, announce=lambda _: None).read_bytes() == server.content
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in sentence_of(lambda: read_weights(path, "esm1b_tiny"))


class Foreign:
    """Runs code when it is unpickled by those who let it."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("was here",)


def change(**tensors: Any) -> dict[str, Any]:
    """The tensors of the tiny ESM-2 file with some replaced, or left out where None is given."""
    changed = make_checkpoint(TINY[NAME])["model"] | tensors
    return {key: tensor for key, tensor in changed.items() if tensor is not None}


BAD = {
    "foreign object": (lambda: {"extra": Foreign()}, r"holds an object of \w+\.mkdir"),
    "class of ours": (lambda: {"extra": TINY[NAME]}, "holds an object of models.backbones.names.BackboneShape"),
    "other settings": (
        lambda: {"cfg": {"model": Namespace(encoder_layers=6, encoder_embed_dim=320, encoder_attention_heads=20)}},
        "6 layers of width 320 and 20 heads, not 2 of 16 and 4",
    ),
    "no settings": (lambda: {"cfg": {"model": Namespace()}}, "None layers"),
    "no token dropout": (
        lambda: {"cfg": {"model": Namespace(encoder_layers=2, encoder_embed_dim=16, encoder_attention_heads=4)}},
        "without token dropout",
    ),
    "cfg is text": (lambda: {"cfg": "cfg"}, "not ESM-2's"),
    "model is a tensor": (lambda: {"model": torch.ones(2)}, "not ESM-2's"),
    "missing": (lambda: {"model": change(**{f"{LAYER}1.fc1.bias": None})}, "lacks layers.1.fc1.bias"),
    "too many layers": (
        lambda: {"model": change(**{f"{LAYER}2.fc1.bias": torch.ones(64)})},
        "holds layers.2.fc1.bias",
    ),
    "shape": (
        lambda: {"model": change(**{f"{LAYER}1.fc1.bias": torch.ones(16)})},
        r"layers.1.fc1.bias has the shape \(16,\), not \(64,\)",
    ),
    "integers": (
        lambda: {"model": change(**{f"{LAYER}1.fc1.bias": torch.ones(64, dtype=torch.int64)})},
        "layers.1.fc1.bias is no tensor of floats",
    ),
    "sparse": (
        lambda: {"model": change(**{f"{LAYER}1.fc1.bias": torch.ones(64).to_sparse()})},
        "layers.1.fc1.bias is no tensor of floats",
    ),
    "text": (
        lambda: {"model": change(**{f"{LAYER}1.fc1.bias": "text"})},
        "layers.1.fc1.bias is no tensor of floats",
    ),
    "frequencies": (
        lambda: {"model": change(**{f"{LAYER}1.self_attn.rot_emb.inv_freq": torch.ones(2)})},
        "differ in the frequencies",
    ),
}


@pytest.mark.parametrize(("changes", "problem"), BAD.values(), ids=BAD)
def test_other_content_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, changes: Callable[[], dict[str, Any]], problem: str
) -> None:
    monkeypatch.chdir(home)
    path = write_checkpoint(home, NAME, **changes())
    sentence = sentence_of(lambda: read_weights(path, NAME))
    assert sentence.startswith(f"{path} does not hold the weights of {NAME}: ")
    assert re.search(problem, sentence)
    assert not (home / "was here").exists()


def test_the_other_family_is_refused(home: Path) -> None:
    esm1, esm2 = write_checkpoint(home, "esm1b_tiny"), write_checkpoint(home, NAME)
    assert "not ESM-2's (cfg and model)" in sentence_of(lambda: read_weights(esm1, NAME))
    assert "not ESM-1's (args and model)" in sentence_of(lambda: read_weights(esm2, "esm1b_tiny"))
    other = write_checkpoint(home, "esm1b_tiny", args=Namespace(arch="msa_transformer"))
    assert "'msa_transformer'" in sentence_of(lambda: read_weights(other, "esm1b_tiny"))


@pytest.mark.parametrize("n_kept", [0, 1, 100, 0.5, -1])
def test_truncated_file(home: Path, n_kept: float) -> None:
    path = write_checkpoint(home, NAME)
    content = path.read_bytes()
    path.write_bytes(content[: int(n_kept * len(content)) if isinstance(n_kept, float) else n_kept])
    assert "truncated or no PyTorch checkpoint" in sentence_of(lambda: read_weights(path, NAME))


@pytest.mark.parametrize("content", [b"not a checkpoint", pickle.dumps([1, 2]), pickle.dumps(Foreign())])
def test_files_that_are_something_else(home: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.chdir(home)
    path = home / f"{NAME}.pt"
    path.write_bytes(content)
    assert "does not hold the weights" in sentence_of(lambda: read_weights(path, NAME))
    assert not (home / "was here").exists()


def test_a_program_instead_of_weights(home: Path) -> None:
    path = home / f"{NAME}.pt"
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert "does not hold the weights" in sentence_of(lambda: read_weights(path, NAME))


def test_unreadable_file(home: Path) -> None:
    path = home / f"{NAME}.pt"
    path.mkdir()
    assert "it holds no config.json" in sentence_of(lambda: read_weights(path, NAME))


def test_table_of_backbones_names_what_fair_esm_offers() -> None:
    for name, shape in BACKBONES.items():
        if not name.endswith("_tiny"):
            assert callable(getattr(esm.pretrained, name))
            assert f"_t{shape.n_layers}_" in name
            assert shape.width % shape.n_heads == 0
