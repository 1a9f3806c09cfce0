"""Files of embeddings: each format is read, and what could hurt is refused in a sentence."""

import hashlib
import json
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from datasets.common.errors import UserError
from datasets.embeddings.candidates import CandidateEmbeddings
from datasets.embeddings.embedding_set import EmbeddingSet, describe_embeddings
from datasets.embeddings.lookup import Lookup, Names, names_hash
from datasets.embeddings.opened import opened_embeddings
from datasets.embeddings.store import StoredEmbeddings
from datasets.sequences.codes import joined, padded
from tests.helpers.embedding_files import biotrainer_hash, write_embeddings, write_h5, write_table

SEQUENCES = ("MKV", "ACDEF", "WWYYA")
FORMATS = (".h5", ".npz", ".safetensors", ".parquet")
RNG = np.random.default_rng(0)
VECTORS = {sequence: RNG.normal(size=8).astype(np.float32) for sequence in SEQUENCES}
RESIDUES = {sequence: RNG.normal(size=(len(sequence), 8)).astype(np.float32) for sequence in SEQUENCES}


def kept(path: Path, sequences=SEQUENCES, names=None, config=None) -> StoredEmbeddings:
    """What is kept of a file for some sequences, read again."""
    config = config or describe_embeddings(path)
    store = path.parent / "kept.embeddings"
    found = EmbeddingSet(config=config, names=names)
    found.check()
    found.keep(store, [sequence.encode() for sequence in sequences], "sequences")
    assert found.is_kept(store)
    return StoredEmbeddings(store, config.kind, [sequence.encode() for sequence in sequences])


def refusal(path: Path, sequences=SEQUENCES) -> str:
    """What the file is refused with."""
    with pytest.raises(UserError) as error:
        kept(path, sequences)
    text = str(error.value)
    assert "\n" not in text
    assert not (path.parent / "kept.embeddings").exists()
    return text


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("kind", "entries"), [("sequence", VECTORS), ("residue", RESIDUES)])
def test_every_format_gives_back_what_was_written(tmp_path, suffix, kind, entries):
    path = write_embeddings(tmp_path / f"e{suffix}", entries)
    config = describe_embeddings(path)
    assert (config.kind, config.width) == (kind, 8)
    found = kept(path)
    for row, sequence in enumerate(SEQUENCES):
        assert np.array_equal(found.entry(row), entries[sequence].reshape(-1, 8))


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_matrix_with_keys(tmp_path, pack, order):
    matrix = np.asarray(np.stack(list(VECTORS.values())), order=order)
    pack(tmp_path / "e.npz", keys=np.array(SEQUENCES), embeddings=matrix)
    found = kept(tmp_path / "e.npz", SEQUENCES[::-1])
    assert np.array_equal(found.entry(0), VECTORS[SEQUENCES[-1]][None])


@pytest.mark.parametrize(("given", "as_kept"), [("float16", "float16"), ("float32", "float32"), ("float64", "float32")])
@pytest.mark.parametrize("suffix", [".h5", ".npz", ".safetensors"])
def test_floats_are_kept_as_they_are_or_in_single_precision(tmp_path, suffix, given, as_kept):
    path = write_embeddings(tmp_path / f"e{suffix}", {key: one.astype(given) for key, one in VECTORS.items()})
    entry = kept(path).entry(0)
    assert entry.dtype == as_kept
    assert np.array_equal(entry[0], VECTORS["MKV"].astype(given).astype(as_kept))


def test_bfloat16_becomes_float32_exactly(tmp_path):
    tensors = {key: torch.from_numpy(one).bfloat16() for key, one in RESIDUES.items()}
    save_file(tensors, tmp_path / "e.safetensors")
    assert np.array_equal(kept(tmp_path / "e.safetensors").entry(1), tensors["ACDEF"].float().numpy())


@pytest.mark.parametrize(
    "call",
    [
        lambda text: text,
        biotrainer_hash,
        lambda text: hashlib.md5(text.encode()).hexdigest(),
        lambda text: hashlib.sha256(text.encode()).hexdigest(),
    ],
)
def test_sequences_and_their_hashes_are_keys(tmp_path, call):
    path = write_embeddings(tmp_path / "e.npz", {call(key): one for key, one in VECTORS.items()})
    assert np.array_equal(kept(path).entry(2)[0], VECTORS["WWYYA"])


def test_original_ids_are_second_names(tmp_path):
    with h5py.File(tmp_path / "e.h5", "w") as file:
        for number, sequence in enumerate(SEQUENCES):
            file[str(number)] = VECTORS[sequence]
            file[str(number)].attrs["original_id"] = f"variant {number}"
    names = Names.pairs([s.encode() for s in SEQUENCES], [f"variant {i}" for i in range(3)])
    with opened_embeddings(tmp_path / "e.h5") as file:
        lookup = Lookup(file, kind="sequence", width=8, names=names)
        assert lookup.find_all([s.encode() for s in SEQUENCES], "sequences") == ["0", "1", "2"]
        assert len(lookup.used) == 3


def test_original_ids_go_before_the_numbers_of_entries(tmp_path):
    with h5py.File(tmp_path / "e.h5", "w") as file:
        for number, (sequence, original) in enumerate(zip(SEQUENCES, ("2", "ACDEF", "3"), strict=True)):
            file[str(number)] = VECTORS[sequence]
            file[str(number)].attrs["original_id"] = original
    names = Names.pairs([s.encode() for s in SEQUENCES], ["2", "1", "3"])
    with opened_embeddings(tmp_path / "e.h5") as file:
        lookup = Lookup(file, kind="sequence", width=8, names=names)
        assert [lookup.find(b"ACDEF"), lookup.find(b"WWYYA")] == ["1", "2"]
        with pytest.raises(UserError, match="an entry '2', and '2' is the original_id of another one"):
            lookup.find(b"MKV")


def test_a_name_of_two_sequences_is_refused_where_it_is_needed(tmp_path):
    path = write_embeddings(tmp_path / "e.npz", {"a": VECTORS["MKV"], "ACDEF": VECTORS["ACDEF"]})
    names = Names.pairs([b"MKV", b"ACDEF"], ["a", "a"])
    with opened_embeddings(path) as file:
        lookup = Lookup(file, kind="sequence", width=8, names=names)
        assert lookup.find(b"ACDEF") == "ACDEF.npy"
        with pytest.raises(UserError, match="'a' is the name of several sequences"):
            lookup.find(b"MKV")


def test_names_that_changed_are_refused(tmp_path):
    path = write_embeddings(tmp_path / "e.npz", {"a": VECTORS["MKV"], "b": VECTORS["ACDEF"]})
    config = describe_embeddings(path)
    sequences = [b"MKV", b"ACDEF"]
    used = dict(zip(sequences, ("a", "b"), strict=True))
    config = type(config)(**{**vars(config), "names_hash": names_hash(used)})
    same, swapped = (lambda names=names: Names.pairs(sequences, names) for names in (["a", "b"], ["b", "a"]))
    assert len(kept(path, ("MKV", "ACDEF"), same, config)) == 2
    assert EmbeddingSet(config=config, names=same).key != EmbeddingSet(config=config, names=swapped).key
    with pytest.raises(UserError, match="have changed since the search began"):
        kept(path, ("MKV", "ACDEF"), swapped, config)


def test_what_lacks_an_embedding_is_named(tmp_path):
    path = write_embeddings(tmp_path / "e.npz", VECTORS)
    assert "no embedding of 2 of 4 sequences; the first is 'LLL' (3 residues)" in refusal(
        path, ("MKV", "LLL", "ACDEF", "III")
    )


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ACDEF": np.zeros(9, np.float32)}, "its embeddings have different widths"),
        ({"ACDEF": np.full(8, np.nan, np.float32)}, "holds NaN or infinite numbers"),
        ({"ACDEF": np.full(8, np.inf, np.float32)}, "holds NaN or infinite numbers"),
    ],
)
def test_vectors_that_do_not_fit(tmp_path, suffix, changes, says):
    assert says in refusal(write_embeddings(tmp_path / f"e{suffix}", {**VECTORS, **changes}))


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".safetensors"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ACDEF": np.zeros((7, 8), np.float32)}, "has 7 rows, and its sequence 5 residues"),
        ({"ACDEF": np.zeros(8, np.float32)}, "some of its embeddings are of sequences and others of residues"),
        ({"MKV": np.zeros((3, 8), np.int32)}, "expected floating-point numbers"),
        ({"MKV": np.zeros((3, 8), bool)}, "expected floating-point numbers"),
        ({"MKV": np.zeros((1, 3, 8), np.float32)}, "expected (D,) for a sequence or (L, D) for its residues"),
    ],
)
def test_matrices_that_do_not_fit(tmp_path, suffix, changes, says):
    assert says in refusal(write_embeddings(tmp_path / f"e{suffix}", {**RESIDUES, **changes}))


def test_numbers_beyond_single_precision(tmp_path):
    assert "infinite" in refusal(write_embeddings(tmp_path / "e.npz", {**VECTORS, "MKV": np.full(8, 1e300)}))


# --- files that are none


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x00" * 100, b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"PAR1"])
def test_files_of_something_else(tmp_path, content):
    path = tmp_path / "e.h5"
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_a_folder_a_pipe_and_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert "no file" in refusal(tmp_path / "folder")
    assert "no file" in refusal(tmp_path / "pipe")
    assert "cannot be read" in refusal(tmp_path / "nothing.h5")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_files_that_end_early(tmp_path, suffix, share):
    entries = {f"{'ACDEFGHIKL'[i]}MKV": RNG.normal(size=256).astype(np.float32) for i in range(10)}
    path = write_embeddings(tmp_path / f"e{suffix}", entries)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert str(path) in refusal(path, tuple(entries))


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_without_entries(tmp_path, suffix):
    path = tmp_path / f"e{suffix}"
    if suffix == ".parquet":
        pq.write_table(
            pa.table({"sequence": pa.array([], pa.string()), "embedding": pa.array([], pa.list_(pa.float32()))}), path
        )
    elif suffix == ".h5":
        h5py.File(path, "w").close()
    else:
        write_embeddings(path, {})
    assert "no entries" in refusal(path) or "cannot be read" in refusal(path) or "no file of" in refusal(path)


# --- files that would do harm


def test_pickles_are_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "evil"),))

    np.savez(tmp_path / "e.npz", **{**VECTORS, "MKV": np.array([Evil()], dtype=object)})
    assert "Python objects" in refusal(tmp_path / "e.npz")
    np.savez(tmp_path / "e.npz", keys=np.array([Evil()], dtype=object), embeddings=np.zeros((1, 8)))
    assert "Python objects" in refusal(tmp_path / "e.npz")
    assert not (tmp_path / "evil").exists()


def _soft(file: h5py.File) -> None:
    file["MKV"] = h5py.SoftLink("/ACDEF")


def _external(file: h5py.File) -> None:
    file["MKV"] = h5py.ExternalLink("other.h5", "/x")


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(8,), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(8,))
    file.create_virtual_dataset("MKV", layout)


def _elsewhere(file: h5py.File) -> None:
    file.create_dataset("MKV", (8,), "f4", external=[("other.bin", 0, 32)])


def _group(file: h5py.File) -> None:
    file.create_group("MKV")["x"] = VECTORS["MKV"]


def _lzf(file: h5py.File) -> None:
    file.create_dataset("MKV", data=np.zeros(4096, "f4"), compression="lzf", chunks=(4096,))


def _never_written(file: h5py.File) -> None:
    file.create_dataset("MKV", (8,), "f4", chunks=(8,))


def _huge(file: h5py.File) -> None:
    file.create_dataset("MKV", (2**20, 2**16), "f8", chunks=(2**10, 2**10), compression="gzip")


def _texts(file: h5py.File) -> None:
    file.create_dataset("MKV", data=["a", "b"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_soft, "is a link to elsewhere"),
        (_external, "is a link to elsewhere"),
        (_virtual, "stand in other files"),
        (_elsewhere, "stand in other files"),
        (_group, "is no dataset"),
        (_lzf, "packed by a filter that is not read"),
        (_never_written, "are stored of it"),
        (_huge, "are stored of it"),
        (_texts, "expected floating-point numbers"),
    ],
)
def test_what_hdf5_can_do_besides(tmp_path, monkeypatch, make: Callable[[h5py.File], None], says):
    monkeypatch.chdir(tmp_path)
    write_h5(tmp_path / "other.h5", VECTORS)
    (tmp_path / "other.bin").write_bytes(b"\0" * 32)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        for sequence in ("ACDEF", "WWYYA"):
            file[sequence] = VECTORS[sequence]
        make(file)
    assert says in refusal(tmp_path / "e.h5")


@pytest.mark.slow
def test_chunks_that_are_larger_than_memory_should_hold(tmp_path):
    with h5py.File(tmp_path / "e.h5", "w") as file:
        chunks = (2**15, 2**10)
        one = file.create_dataset("MKV", (3, 8), "f8", maxshape=(None, None), chunks=chunks, compression="gzip")
        one[...] = 1.0
    assert "larger than 64 MiB" in refusal(tmp_path / "e.h5", ("MKV",))


@pytest.mark.slow
def test_a_zip_bomb_is_told_by_its_header(tmp_path):
    """A gigabyte of zeros in a megabyte: as an entry it is no embedding of its sequence, and nothing is unpacked."""
    path = tmp_path / "e.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("MKV.npy", "w", force_zip64=True) as one,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": (2**12, 2**16)}
        np.lib.format.write_array_header_1_0(one, header)
        for _ in range(2**10):
            one.write(bytes(2**20))
    assert path.stat().st_size < 2**21
    assert "has 4,096 rows, and its sequence 3 residues" in refusal(path, ("MKV",))


@pytest.mark.parametrize(
    ("shape", "says"), [((2**40, 8), "has another size than it says"), ((2, 8), "has another size than it says")]
)
def test_an_array_that_lies_about_its_size(tmp_path, shape, says):
    path = tmp_path / "e.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("MKV.npy", "w") as one:
        np.lib.format.write_array_header_1_0(one, {"descr": "<f4", "fortran_order": False, "shape": shape})
        one.write(bytes(32))
    assert says in refusal(path, ("MKV",))


def test_keys_that_stand_twice(tmp_path):
    np.savez(tmp_path / "e.npz", keys=np.array(["MKV", "MKV"]), embeddings=np.zeros((2, 8), np.float32))
    assert "'MKV' stands twice" in refusal(tmp_path / "e.npz", ("MKV",))
    table = pa.table({"sequence": ["MKV", "MKV"], "embedding": [[1.0], [2.0]]})
    pq.write_table(table, tmp_path / "e.parquet")
    assert "'MKV' stands twice" in refusal(tmp_path / "e.parquet", ("MKV",))


def _tensors(path: Path, header: dict, data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [8], "data_offsets": [0, 4000]},
        {"dtype": "F32", "shape": [8], "data_offsets": [-32, 0]},
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 32]},
        {"dtype": "I64", "shape": [4], "data_offsets": [0, 32]},
        {"dtype": "F32", "shape": "x", "data_offsets": [0, 32]},
        {"shape": [8]},
        [],
    ],
)
def test_tensors_that_lie(tmp_path, entry):
    assert "e.safetensors" in refusal(_tensors(tmp_path / "e.safetensors", {"MKV": entry}, bytes(32)), ("MKV",))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"x": ["MKV"], "embedding": [[1.0]]}, "are called 'sequence'"),
        ({"sequence": ["MKV"], "vector": [[1.0]]}, "are called 'embedding'"),
        ({"sequence": ["MKV"], "embedding": [[1, 2]]}, "lists of floating-point numbers"),
        ({"sequence": ["MKV"], "embedding": [1.0]}, "lists of floating-point numbers"),
        ({"sequence": ["MKV", "A"], "embedding": [None, [1.0]]}, "row 1 has no embedding"),
        ({"sequence": ["MKV"], "embedding": [[1.0, None]]}, "or one with gaps"),
        ({"sequence": ["MKV"], "embedding": [[[1.0, 2.0], [1.0], [2.0]]]}, "different numbers of values"),
    ],
)
def test_parquet_of_another_kind(tmp_path, columns, says):
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    assert says in refusal(tmp_path / "e.parquet", ("MKV",))


def test_rows_are_found_in_every_row_group(tmp_path):
    entries = {
        f"{a}{b}": np.full(3, i * 20 + j, np.float32) for i, a in enumerate("ACDE") for j, b in enumerate("FGHI")
    }
    table = pa.table({"sequence": list(entries), "embedding": [one.tolist() for one in entries.values()]})
    pq.write_table(table, tmp_path / "e.parquet", row_group_size=3)
    found = kept(tmp_path / "e.parquet", tuple(reversed(entries)))
    assert [found.entry(row)[0, 0] for row in range(len(entries))] == [one[0] for one in reversed(entries.values())]


# --- what is kept, and candidates


def test_a_file_that_changed_is_refused(tmp_path):
    path = write_embeddings(tmp_path / "e.npz", VECTORS)
    config = describe_embeddings(path)
    write_embeddings(path, {**VECTORS, "MKV": VECTORS["ACDEF"]})
    with pytest.raises(UserError, match="have changed"):
        kept(path, config=config)


def test_what_is_kept_is_made_anew_where_it_is_broken(tmp_path):
    found = kept(write_embeddings(tmp_path / "e.npz", VECTORS))
    store = tmp_path / "kept.embeddings"
    whole = store.read_bytes()
    store.write_bytes(whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:])
    again = StoredEmbeddings(store, "sequence", [b"MKV", b"ACDEF", b"WWYYA"])
    with pytest.raises(UserError, match="start the command again"):
        [again.entry(row) for row in range(3)]
    assert not store.exists()
    assert len(found) == 3


def test_candidates_are_looked_up_with_their_names(tmp_path):
    training = describe_embeddings(write_embeddings(tmp_path / "e.npz", VECTORS))
    named = write_embeddings(tmp_path / "named.npz", {"one": VECTORS["MKV"], "two": VECTORS["ACDEF"]})
    codes, lengths = joined(["MKV", "ACDEF"])
    residues = padded(codes, lengths)
    with CandidateEmbeddings(training, named) as find:
        found = find(residues, lengths, ["one", "two"])
        assert np.array_equal(found.entry(1)[0], VECTORS["ACDEF"])
        with pytest.raises(UserError, match="no embedding of 2 of 2 candidates"):
            find(residues, lengths)
    with CandidateEmbeddings(training, named) as find:
        find(residues[:1], lengths[:1], ["one"])
        find(residues[:1], lengths[:1], ["one"])
        with pytest.raises(UserError, match="'one' is the name of several sequences"):  # of another block
            find(residues[1:], lengths[1:], ["one"])
    with CandidateEmbeddings(training) as find:  # the file of training
        assert np.array_equal(find(residues, lengths).entry(0)[0], VECTORS["MKV"])
    with pytest.raises(UserError, match="of the same language model"):
        CandidateEmbeddings(training, write_embeddings(tmp_path / "other.npz", RESIDUES))
    (tmp_path / "e.npz").unlink()
    with pytest.raises(UserError, match="is not here as it was"):
        CandidateEmbeddings(training)


def test_the_original_ids_of_a_file_are_read_once(tmp_path, monkeypatch):
    training = describe_embeddings(write_h5(tmp_path / "e.h5", VECTORS))
    codes, lengths = joined(["LLL", "ACDEF"])
    residues, n_read = padded(codes, lengths), []
    read = h5py.AttributeManager.__getitem__
    monkeypatch.setattr(h5py.AttributeManager, "__getitem__", lambda *args: n_read.append(args) or read(*args))
    with CandidateEmbeddings(training) as find:
        for _ in range(2):
            assert np.array_equal(find(residues, lengths, ["Seq0", "Seq1"]).entry(0)[0], VECTORS["MKV"])
    assert len(n_read) == len(VECTORS)


def test_a_table_that_is_stored_is_mapped(tmp_path):
    with opened_embeddings(write_table(tmp_path / "e.npz", VECTORS)) as file:
        assert isinstance(file._table, np.memmap)


def test_a_full_disk_is_no_fault_of_the_file(tmp_path: Path) -> None:
    """`prepare` says that the folder cannot be written; the file of embeddings is whole."""
    path = write_table(tmp_path / "e.npz", VECTORS)
    known = EmbeddingSet(config=describe_embeddings(path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            known.keep(tmp_path / "kept", [sequence.encode() for sequence in VECTORS], "sequences")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "kept").exists()
