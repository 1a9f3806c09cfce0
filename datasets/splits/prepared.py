"""Read and check a split once, and keep what a search may see of it: no test target.

The prepared file holds the test sequences, because what they are may be known before testing; they are read when
somebody asks for them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from datasets.common.errors import UserError
from datasets.common.files import remove_leftovers, replaced, with_usual_mode
from datasets.sequences.codes import as_bytes
from datasets.splits.rows import check_rows
from datasets.task import Announce, FoundSource, Task

_FORMAT = 2  # of the prepared file; counts up with every change of its content
_ARRAYS = ("residues", "lengths", "target", "validation")
_TEST_ARRAYS = ("test_residues", "test_lengths")
# Only where groups are known; the second belongs to the test arrays.
_GROUP, _TEST_GROUP = "group", "test_group"
_SCORES, _TEST_SCORES = "scores", "test_scores"
_FOLD, _ERROR = "fold", "error"  # only where the table names them
_OTHERS = (_GROUP, _SCORES, _FOLD, _ERROR)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedSplit:
    """The training and validation rows of a split, N together, in the order of the source.

    path: the file that `load_prepared` reads again.
    residues: (N, Lmax) uint8, ASCII codes of the uncropped sequences, padded with zeros.
    lengths: (N,) int64. target: (N,) float32, in the task's units. validation: (N,) bool.
    data_hash: SHA-256 of the split's table as it was published, test rows included.
    label: what every place that shows a result has to say: "FLIP's file", "not FLIP's file", ...
    n_overlap: how many different sequences stand in both train (with validation) and test.
    group: (N,) int64, the same number for rows of one group; None where no groups are known.
    fold: (N,) int64, the number of each row's fold among `fold_names`, those of test rows too; None and empty where the
    table names none.
    scores: (N, K) float32, the task's score columns `score_names`, NaN where one is missing; None without any.
    error: (N,) float32, the standard errors of the targets, above 0; None where none are known.
    whole: of one of several properties, the file of the rows that any of them has, by which folds are made
    (`datasets.validation.folds`); None otherwise.
    """

    path: Path
    residues: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    target: NDArray[np.float32]
    validation: NDArray[np.bool_]
    data_hash: str
    label: str
    n_train: int
    n_validation: int
    n_test: int
    n_overlap: int
    group: NDArray[np.int64] | None = None
    fold: NDArray[np.int64] | None = None
    fold_names: tuple[str, ...] = ()
    scores: NDArray[np.float32] | None = None
    score_names: tuple[str, ...] = ()
    error: NDArray[np.float32] | None = None
    whole: Path | None = None

    @property
    def embeddings_path(self) -> Path:
        """The file with the embeddings of all sequences, for a task that has some (`datasets.embeddings.store`)."""
        return self.path.with_suffix(".embeddings")


def prepare(task: Task, *, data_dir: Path | None, cache_dir: Path, announce: Announce) -> PreparedSplit:
    """Return the split of a task; all its rows are read and checked the first time only.

    The prepared file stands in `cache_dir` under a name that follows from the content it was made of, and is
    made again if it is broken. `announce` is told of a retired split, of a file that is not FLIP's own, and of
    overlapping parts.
    A UserError says what is wrong with the data, or that `cache_dir` cannot be written.
    """
    located = task.source.locate(data_dir=data_dir, announce=announce)
    whole = None
    if task.whole is not None:
        whole = prepare(task.whole, data_dir=data_dir, cache_dir=cache_dir, announce=announce)
    for beside in (task.scores, task.embeddings):
        if beside is not None:
            beside.check()
    path = cache_dir / f"{task.name}-{_key(task, located)}.safetensors"
    split = _load_whole(path)
    if split is None or not _has_embeddings(task, split):
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            # The second of two processes waits here and finds the files of the first.
            with filelock.FileLock(path.with_suffix(".lock")):
                remove_leftovers(cache_dir)
                split = _load_whole(path) or _make(task, located, path, announce, whole)
                if task.embeddings is not None and not _has_embeddings(task, split):
                    task.embeddings.keep(split.embeddings_path, _sequences(split), f"sequences of {task.name}")
        except OSError as error:
            raise UserError(
                f"The prepared data cannot be written to {cache_dir} ({error.strerror or error}); "
                "make the folder writable or name another one."
            ) from error
    if task.retired:
        announce(f"FLIP has retired the split {task.split} of {task.dataset}: it is no longer part of the benchmark.")
    if not located.official and not located.is_own:
        announce(f"{located.path} is not FLIP's own file: results on it cannot be compared with published ones.")
    if split.n_overlap:
        announce(f"{split.n_overlap} sequences of {task.name} stand in both train and test, as FLIP published it.")
    return split


def load_prepared(path: Path) -> PreparedSplit:
    """Load a file that `prepare` wrote; a UserError is raised if it is missing or broken."""
    split = _load_or_none(path)
    if split is None:
        raise _broken(path)
    return split


def test_sequences(split: PreparedSplit) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the residues (M, Lmax) uint8 and lengths (M,) int64 of the split's test sequences, read at each call.

    Residues are ASCII codes, padded with zeros, in the order of the source; Lmax is that of the test sequences.
    A UserError is raised if the prepared file is missing or broken.
    """
    arrays = _test_arrays(split)
    return arrays["test_residues"], arrays["test_lengths"]


def test_groups(split: PreparedSplit) -> NDArray[np.int64] | None:
    """Return the group (M,) int64 of each test sequence, numbered as in `split.group`; None where none are known."""
    return None if split.group is None else _test_arrays(split)[_TEST_GROUP]


def test_scores(split: PreparedSplit) -> NDArray[np.float32] | None:
    """Return the score columns (M, K) of the test sequences, as `split.scores` has them; None without any."""
    return None if split.scores is None else _test_arrays(split)[_TEST_SCORES]


def _has_embeddings(task: Task, split: PreparedSplit) -> bool:
    return task.embeddings is None or task.embeddings.is_kept(split.embeddings_path)


def _sequences(split: PreparedSplit) -> Iterator[bytes]:
    """The residues of all rows, those of test too."""
    for residues, lengths in ((split.residues, split.lengths), test_sequences(split)):
        yield from as_bytes(residues, lengths)


def _broken(path: Path) -> UserError:
    return UserError(f"The prepared data {path} is missing or broken; start the command again to make it anew.")


def _key(task: Task, located: FoundSource) -> str:
    parts: list[object] = [located.version, located.label, task.split, task.clean_version, _FORMAT]
    parts += [beside.key for beside in (task.scores, task.embeddings) if beside is not None]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _make(
    task: Task, located: FoundSource, path: Path, announce: Announce, whole: PreparedSplit | None
) -> PreparedSplit:
    raw = task.source.read(located, task.split)
    has_gaps = task.aligned_length is not None
    rows = check_rows(raw, task.clean, official=located.official, has_gaps=has_gaps)
    if rows.n_overlap and not located.official:
        raise UserError(
            f"{raw.where} has {rows.n_overlap} sequences in both train and test; remove them from one of the two."
        )
    has_groups = rows.group is not None
    names = (*_ARRAYS, *_TEST_ARRAYS, *((_GROUP, _TEST_GROUP) if has_groups else ()))
    arrays = {name: np.ascontiguousarray(getattr(rows, name)) for name in names}
    for name, found in ((_FOLD, rows.fold), (_ERROR, rows.error)):
        if found is not None:
            arrays[name] = found
    if task.scores is not None:
        score = partial(task.scores.score, cache_dir=path.parent.parent)
        arrays[_SCORES] = score(rows.residues, rows.lengths, announce=announce)
        # Of test rows there is nothing more to be said.
        arrays[_TEST_SCORES] = score(rows.test_residues, rows.test_lengths, announce=lambda sentence: None)
        task.scores.judge(arrays[_SCORES], rows.target)
    metadata = {
        "data_hash": raw.content_hash,
        "label": located.label,
        "n_test": str(rows.n_test),
        "n_overlap": str(rows.n_overlap),
        "score_names": json.dumps(task.scores.names if task.scores else ()),
        **({"fold_names": json.dumps(rows.fold_names)} if rows.fold_names else {}),
        **({} if whole is None else {"whole": whole.path.name}),
        "checksum": str(_checksum(arrays, _present(arrays, _ARRAYS, *_OTHERS))),
        "test_checksum": str(_checksum(arrays, _present(arrays, _TEST_ARRAYS, _TEST_GROUP, _TEST_SCORES))),
    }
    with replaced(path) as beside:
        save_file(arrays, beside, metadata=metadata)
        with_usual_mode(beside)
    return load_prepared(path)


def _load_or_none(path: Path) -> PreparedSplit | None:
    found = _read(path, _ARRAYS, _OTHERS, "checksum")
    if found is None:
        return None
    arrays, metadata = found
    try:
        n_validation = int(arrays["validation"].sum())
        return PreparedSplit(
            path=path,
            residues=arrays["residues"],
            lengths=arrays["lengths"],
            target=arrays["target"],
            validation=arrays["validation"],
            data_hash=metadata["data_hash"],
            label=metadata["label"],
            n_train=len(arrays["validation"]) - n_validation,
            n_validation=n_validation,
            n_test=int(metadata["n_test"]),
            n_overlap=int(metadata["n_overlap"]),
            group=arrays.get(_GROUP),
            fold=arrays.get(_FOLD),
            fold_names=tuple(json.loads(metadata.get("fold_names", "[]"))),
            scores=arrays.get(_SCORES),
            score_names=tuple(json.loads(metadata.get("score_names", "[]"))),
            error=arrays.get(_ERROR),
            whole=None if "whole" not in metadata else path.with_name(Path(metadata["whole"]).name),
        )
    except (KeyError, ValueError):
        return None


def _load_whole(path: Path) -> PreparedSplit | None:
    """Load a file whose test sequences are intact, too."""
    split = _load_or_none(path)
    return split if split is not None and _read_test(path) is not None else None


def _test_arrays(split: PreparedSplit) -> dict[str, NDArray[Any]]:
    found = _read_test(split.path)
    if found is None:
        raise _broken(split.path)
    return found[0]


def _read_test(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]] | None:
    return _read(path, _TEST_ARRAYS, (_TEST_GROUP, _TEST_SCORES), "test_checksum")


def _read(
    path: Path, names: tuple[str, ...], others: tuple[str, ...], checksum: str
) -> tuple[dict[str, NDArray[Any]], dict[str, str]] | None:
    """Return these arrays of a prepared file and all its metadata; None if they are not what was written."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            names = _present(file.keys(), names, *others)
            arrays = {name: file.get_tensor(name) for name in names}
        return (arrays, metadata) if metadata[checksum] == str(_checksum(arrays, names)) else None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _present(found: Iterable[str], names: tuple[str, ...], *others: str) -> tuple[str, ...]:
    """Return the names of the arrays, and those of the others that are among those found."""
    known = set(found)
    return (*names, *(name for name in others if name in known))


def _checksum(arrays: dict[str, NDArray[Any]], names: Sequence[str]) -> int:
    checksum = 0
    for name in names:
        checksum = zlib.crc32(arrays[name].data, checksum)
    return checksum
