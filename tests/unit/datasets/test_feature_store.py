"""The cache on disk: shared, limited, and unharmed by whatever happens to files and processes."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from safetensors import safe_open

from datasets.common.errors import UserError
from datasets.features import sinks as feature_sinks
from datasets.features.frozen import FeatureCache
from datasets.features.segment import BrokenSegmentError, Segment, file_bytes, raw, write_segment
from tests.helpers.feature_builder import CountingEncoder, features, make_rows

BUILDER = Path(__file__).parents[2] / "helpers" / "feature_builder.py"
ROOMY = 10**9


@pytest.fixture(autouse=True)
def one_thread():
    """Small products on several threads wait for each other more than they compute."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "fäatures of *all* [trials]", max_bytes=ROOMY)


def segments(cache, scope="*"):
    return sorted(cache.directory.glob(f"*/{scope}/*.safetensors"))


def everything(found, n_rows):
    return found.gather(torch.arange(n_rows))


def builder(cache, log, *arguments):
    return subprocess.Popen(
        [sys.executable, str(BUILDER), str(cache.directory), str(log), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# --- segments


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_segment_is_a_safetensors_file_that_gives_back_what_was_written(tmp_path, dtype):
    entries = [torch.randn(length, 6).to(dtype) for length in (3, 1, 7)]
    hashes = np.random.default_rng(0).integers(0, 256, (3, 32), dtype=np.uint8)
    path = tmp_path / "a b.safetensors"
    written = [raw(entry) for entry in entries]
    write_segment(path, hashes=hashes, lengths=[3, 1, 7], entries=iter(written), width=6, dtype=dtype)
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("values"), torch.cat(entries))
        assert file.get_tensor("offsets").tolist() == [0, 3, 4, 11]
        assert file.metadata()["checksum"].isdigit()
    segment = Segment(path, dtype=dtype, width=6)
    assert np.array_equal(segment.hashes, hashes)
    for i, entry in enumerate(entries):
        assert torch.equal(torch.from_numpy(segment.entry(i)).view(dtype), entry)
    n_bytes = path.stat().st_size
    assert n_bytes <= file_bytes(3, 11 * 6 * dtype.itemsize) <= n_bytes + 4096


def test_any_changed_byte_of_a_segment_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    hashes = np.arange(64, dtype=np.uint8).reshape(2, 32)
    written = [raw(torch.randn(2, 3)) for _ in range(2)]
    write_segment(path, hashes=hashes, lengths=[2, 2], entries=written, width=3, dtype=torch.float32)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        try:
            segment = Segment(path, dtype=torch.float32, width=3)
        except BrokenSegmentError:
            continue
        values = [segment.entry(number) for number in range(2)]
        if all(value is not None for value in values):  # then only the header's own text can differ
            assert at < int.from_bytes(whole[:8], "little") + 8
            assert b"".join(value.tobytes() for value in values) == whole[-48:]


@pytest.mark.parametrize("left", [0, 5, 300, -1])
def test_a_truncated_segment_is_noticed(tmp_path, left):
    path = tmp_path / "a.safetensors"
    hashes = np.zeros((1, 32), dtype=np.uint8)
    written = [raw(torch.randn(20, 3))]
    write_segment(path, hashes=hashes, lengths=[20], entries=written, width=3, dtype=torch.float32)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(BrokenSegmentError):
        Segment(path, dtype=torch.float32, width=3)


# --- broken files


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def corrupt_values(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def corrupt_index(path):
    content = bytearray(path.read_bytes())
    content[int.from_bytes(content[:8], "little") + 8 + 30] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, corrupt_values, corrupt_index, empty])
@pytest.mark.parametrize("scope", ["mean", "tokens"])
def test_a_broken_segment_is_dropped_and_computed_again(cache, monkeypatch, damage, scope):
    monkeypatch.setattr(feature_sinks, "SEGMENT_BYTES", 3000)
    rows = make_rows(200)
    undisturbed = everything(features(CountingEncoder(), rows, cache, scope, also=()), 200)
    broken = segments(cache, scope)[1]
    n_segments = len(segments(cache, scope))
    n_broken = len(Segment(broken, dtype=torch.float32, width=16).hashes)
    damage(broken)
    said = []
    encoder = CountingEncoder()
    found = features(encoder, rows, cache, scope, announce=said.append)
    assert torch.equal(everything(found, 200), undisturbed)
    # Values of tokens are checked when they are first used, one by one; what stood beside them is missed later.
    is_late = scope == "tokens" and damage is corrupt_values
    assert found.n_computed == encoder.n_passes
    assert found.n_computed == n_broken or (is_late and 0 < found.n_computed < n_broken)
    assert len(said) == 1
    assert str(broken) in said[0]
    assert "removed, its features computed again" in said[0]
    assert not broken.exists()
    assert features(CountingEncoder(), rows, cache, scope).n_computed == (n_broken if is_late else 0)
    assert features(CountingEncoder(), rows, cache, scope).n_computed == 0
    assert len(segments(cache, scope)) == n_segments


def test_broken_tokens_are_not_pooled(cache):
    rows = make_rows(30)
    encoder = CountingEncoder()
    features(encoder, rows, cache, "tokens", also=())
    corrupt_values(*segments(cache))
    said = []
    found = features(encoder, rows, cache, "mean", announce=said.append)
    assert len(said) == 1
    assert 0 < found.n_computed <= 30
    assert torch.equal(
        found.values, features(encoder, rows, FeatureCache(cache.directory / "b", max_bytes=ROOMY), "mean").values
    )


# --- the limit


def total(cache):
    return sum(path.stat().st_size for path in cache.directory.rglob("*") if path.is_file())


def test_least_recently_used_segments_make_room_and_the_limit_holds_throughout(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_sinks, "SEGMENT_BYTES", 3000)
    probe = FeatureCache(tmp_path / "probe", max_bytes=ROOMY)
    groups = {name: make_rows(60, seed=seed) for seed, name in enumerate("abc")}
    features(CountingEncoder(), groups["a"], probe, "mean", also=())
    cache = FeatureCache(tmp_path / "limited", max_bytes=int(total(probe) * 2.7))
    largest = []

    def compute(name):
        return features(
            CountingEncoder(),
            groups[name],
            cache,
            "mean",
            also=(),
            on_progress=lambda *done: largest.append(total(cache)),
        ).n_computed

    assert (compute("a"), compute("b")) == (60, 60)
    for path in segments(cache):  # a clock of the file system's own may be coarse
        os.utime(path, ns=(path.stat().st_mtime_ns - 10**9,) * 2)
    assert compute("a") == 0  # now used later than b
    assert compute("c") == 60
    assert total(cache) <= cache.max_bytes
    assert max(largest) <= cache.max_bytes
    assert compute("a") == 0
    assert compute("c") == 0
    assert 0 < compute("b") <= 60


def test_removed_segments_go_on_serving_who_reads_them(tmp_path):
    rows, others = make_rows(50), make_rows(50, seed=1)
    cache = FeatureCache(tmp_path, max_bytes=int(sum(rows.lengths) * 16 * 4 * 1.7))
    reader = features(CountingEncoder(), rows, cache, "tokens")
    before = segments(cache)
    features(CountingEncoder(), others, cache, "tokens")
    assert not set(before) & set(segments(cache))
    encoder = CountingEncoder()
    for i in range(50):
        states = encoder.alone(rows.tokens[i, : rows.lengths[i]].long())
        torch.testing.assert_close(reader.gather(torch.tensor([i]))[0], states, atol=1e-6, rtol=0)
    assert reader.n_computed == 50


def test_what_a_call_needs_is_not_removed_for_the_rest_of_it(tmp_path, monkeypatch):
    """The segments of the first half, read by this call, are the oldest."""
    monkeypatch.setattr(feature_sinks, "SEGMENT_BYTES", 3000)
    rows = make_rows(80)
    cache = FeatureCache(tmp_path, max_bytes=int(sum(rows.lengths) * 16 * 4 * 1.6))
    half = features(CountingEncoder(), rows[list(range(40))], cache, "tokens")
    features(CountingEncoder(), make_rows(20, seed=5), cache, "tokens")
    for path in segments(cache):
        os.utime(path, (0, 0))
    encoder = CountingEncoder()
    whole = features(encoder, rows, cache, "tokens")
    assert whole.n_computed == 40
    assert features(encoder, rows, cache, "tokens").n_computed == 0
    assert half.n_computed == 40


@pytest.mark.parametrize("scope", ["mean", "tokens"])
def test_what_cannot_fit_is_announced_and_computed_without_a_trace(tmp_path, scope):
    rows, said = make_rows(30), []
    cache = FeatureCache(tmp_path / "small", max_bytes=1000)
    encoder = CountingEncoder()
    found = features(encoder, rows, cache, scope, announce=said.append)
    assert torch.equal(
        everything(found, 30),
        everything(features(CountingEncoder(), rows, FeatureCache(tmp_path / "large", max_bytes=ROOMY), scope), 30),
    )
    assert len(said) == 1
    assert "cache.max_gb" in said[0]
    assert found.n_computed == encoder.n_passes == 30
    assert not cache.directory.exists()


def test_on_demand_counts_every_pass(tmp_path):
    encoder = CountingEncoder()
    cache = FeatureCache(tmp_path / "nothing", max_bytes=0)
    found = features(encoder, make_rows(30), cache, "tokens", announce=lambda sentence: None)
    assert found.n_computed == 0
    found.gather(torch.tensor([1, 2, 1]))
    found.gather(torch.tensor([1]))
    assert found.n_computed == encoder.n_passes == 3


def test_a_cache_that_turns_out_too_small_keeps_what_it_can(tmp_path, monkeypatch):
    """Segments that this call needs a few sequences of hold others too, so the estimate was too low."""
    monkeypatch.setattr(feature_sinks, "SEGMENT_BYTES", 4000)
    rows, said = make_rows(60), []
    cache = FeatureCache(tmp_path, max_bytes=int(sum(rows.lengths) * 16 * 4 * 1.5))
    features(CountingEncoder(), rows, cache, "tokens")
    some = [*range(20)]
    other = make_rows(30, seed=3)
    mixed = type(rows)(
        *(torch.cat([a[some], b]) for a, b in zip(*((r.tokens, r.mask, r.region) for r in (rows, other)), strict=True)),
        [*rows.lengths[:20], *other.lengths],
    )
    found = features(CountingEncoder(), mixed, cache, "tokens", announce=said.append)
    assert total(cache) <= cache.max_bytes
    assert len(said) == 1
    assert "no room left" in said[0]
    encoder = CountingEncoder()
    for i in range(50):
        torch.testing.assert_close(
            found.gather(torch.tensor([i]))[0],
            encoder.alone(mixed.tokens[i, : mixed.lengths[i]].long()),
            atol=1e-6,
            rtol=0,
        )


def test_a_folder_that_is_a_file_and_a_negative_limit_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file, expected a folder"):
        FeatureCache(tmp_path / "file", max_bytes=1)
    with pytest.raises(UserError, match="-1 bytes, expected 0"):
        FeatureCache(tmp_path, max_bytes=-1)


# --- disks that cannot be written


@contextlib.contextmanager
def file_size_limit():
    """No file of this process may grow beyond 6,000 bytes, as on a disk that is nearly full.

    For the call under test alone: pytest writes its own output to files too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("scope", ["mean", "tokens"])
def test_a_write_that_fails_is_announced_once_and_leaves_nothing(cache, tmp_path, scope):
    rows, said = make_rows(200), []
    encoder = CountingEncoder()
    with file_size_limit():
        found = features(encoder, rows, cache, scope, announce=said.append)
    assert len(said) == 1
    assert "cannot be written (File too large)" in said[0]
    assert [path.name for path in cache.directory.rglob("*") if path.is_file()] == [".lock", ".lock"]
    picked = torch.tensor([0, 100, 199])
    alone = found.gather(picked)
    for i, row in enumerate(picked.tolist()):
        states = encoder.alone(rows.tokens[row, : rows.lengths[row]].long())
        expected = states if scope == "tokens" else states[1:-1].mean(0)
        torch.testing.assert_close(alone[i][: len(expected)], expected, atol=1e-6, rtol=0)


def test_tokens_that_cannot_be_kept_are_not_computed_in_advance(cache, monkeypatch):
    monkeypatch.setattr(feature_sinks, "SEGMENT_BYTES", 1)
    encoder, said = CountingEncoder(), []
    with file_size_limit():
        features(encoder, make_rows(400), cache, "tokens", announce=said.append)
    assert len(said) == len(encoder.shapes) == 1


@pytest.fixture
def read_only():
    """A function that makes a folder one that this process may read and not write, root or not."""
    folder = Path(tempfile.mkdtemp(prefix="read only "))
    is_root = os.geteuid() == 0

    def restrict():
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        if is_root:
            os.seteuid(65534)

    yield folder, restrict
    if is_root:
        os.seteuid(0)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_warm_cache_on_a_read_only_disk_is_read(read_only):
    folder, restrict = read_only
    rows = make_rows(30)
    cache = FeatureCache(folder, max_bytes=ROOMY)
    features(CountingEncoder(), rows, cache, "mean", also=())
    restrict()
    assert features(CountingEncoder(), rows, cache, "mean").n_computed == 0


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("scope", ["mean", "tokens"])
def test_a_read_only_disk_is_announced_once(read_only, scope, is_warm):
    folder, restrict = read_only
    rows, said = make_rows(30), []
    cache = FeatureCache(folder, max_bytes=ROOMY)
    if is_warm:
        features(CountingEncoder(), rows[list(range(10))], cache, scope)
    restrict()
    encoder = CountingEncoder()
    found = features(encoder, rows, cache, scope, announce=said.append)
    everything(found, 30)
    assert found.n_computed == encoder.n_passes == (20 if is_warm else 30)
    assert len(said) == 1
    assert "cannot be written (Permission denied)" in said[0]


# --- processes


@pytest.mark.parametrize("scope", ["mean", "tokens"])
@pytest.mark.system
def test_two_processes_compute_each_sequence_once_in_total(cache, tmp_path, scope):
    log = tmp_path / "log"
    processes = [builder(cache, log, scope, "400", "--wait-s", "0.02") for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    n_computed = [int(process.communicate(timeout=300)[0]) for process in processes]
    assert sorted(n_computed) == [0, 400]
    seen = Counter(log.read_text().split())
    assert len(seen) == make_rows(400).distinct
    assert set(seen.values()) == {1}
    kept = np.concatenate([Segment(path, dtype=torch.float32, width=16).hashes for path in segments(cache, scope)])
    assert len(kept) == len(np.unique(kept, axis=0)) == 400


@pytest.mark.slow
def test_a_killed_process_loses_little_and_leaves_nothing(cache, tmp_path):
    process = builder(cache, tmp_path / "log", "mean", "400", "--stall-at", "5")
    process.stdout.readline()
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "stalled\n"
    n_kept = len(segments(cache, "mean")), len(segments(cache, "tokens"))
    assert list(cache.directory.rglob(".partial-*"))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    rows = make_rows(400)
    encoder = CountingEncoder()
    found = features(encoder, rows, cache, "tokens")
    assert n_kept[1] >= 2
    assert 0 < found.n_computed < 400
    assert not list(cache.directory.rglob(".partial-*"))
    undisturbed = features(CountingEncoder(), rows, FeatureCache(tmp_path / "other", max_bytes=ROOMY), "tokens")
    assert torch.equal(everything(found, 400), everything(undisturbed, 400))
    assert features(encoder, rows, cache, "mean").n_computed == 0


def test_waiting_for_another_process_is_announced(cache):
    encoder, said = CountingEncoder(), []
    folder = cache.folder(encoder)
    folder.mkdir(parents=True)
    lock = filelock.FileLock(folder / ".lock")
    lock.acquire()

    def let_go(sentence):
        said.append(sentence)
        lock.release()

    assert features(encoder, make_rows(5), cache, "mean", announce=let_go).n_computed == 5
    assert len(said) == 1
    assert "waiting" in said[0]


def test_folder_names_are_hashes_whatever_the_key(tmp_path):
    cache = FeatureCache(tmp_path, max_bytes=1)
    names = {cache.folder(CountingEncoder(key=key)).name for key in ("../../x", "ä b", "\0", json.dumps({"a": 1}) * 99)}
    assert len(names) == 4
    assert all(len(name) == 32 and name.isalnum() for name in names)
