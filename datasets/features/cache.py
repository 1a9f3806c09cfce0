"""Folders of cached features, shared by all processes: found by content, limited in size, removed by age of use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray

from datasets.common.errors import UserError
from datasets.features.encoder import Encoder, Scope
from datasets.features.segment import BrokenSegmentError, Raw, Segment, SegmentIndex, file_bytes, write_segment
from datasets.task import Announce

_FORMAT = 1  # of the segments and of what is computed into them; counts up with every change
_LOCK = ".lock"
_PARTIAL = ".partial-"


class FeatureCache:
    """Below `directory`, a folder for each encoder, in it one for each scope, in it immutable segment files.

    All segments together take at most `max_bytes`; 0 keeps nothing. The file time of a segment says when it was
    last used. A UserError is raised where `directory` is a file or the limit is negative.
    """

    def __init__(self, directory: Path, *, max_bytes: int) -> None:
        if max_bytes < 0:
            raise UserError(f"The feature cache's limit is {max_bytes} bytes, expected 0 (keep nothing) or more.")
        if directory.exists() and not directory.is_dir():
            raise UserError(f"The feature cache {directory} is a file, expected a folder; name another one.")
        self.directory = directory
        self.max_bytes = max_bytes

    def folder(self, encoder: Encoder) -> Path:
        """Return the encoder's folder, whose name stands for all that its values depend on."""
        parts = (_FORMAT, encoder.key, str(encoder.dtype), encoder.width, encoder.n_prefix, encoder.n_suffix)
        return self.directory / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    @contextlib.contextmanager
    def building(self, encoder: Encoder, announce: Announce) -> Iterator[None]:
        """Hold the encoder's lock, under which alone its features are computed; an OSError is let out.

        What killed processes left half written is removed.
        """
        folder = self.folder(encoder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            announce("Another process computes features with the same model: waiting for it to end.")
            lock.acquire()
        try:
            with filelock.FileLock(self.directory / _LOCK):
                self._segments()
            yield
        finally:
            lock.release()

    def look_up(
        self,
        encoder: Encoder,
        scope: Scope,
        hashes: NDArray[np.uint8],
        announce: Announce,
        found: SegmentIndex | None = None,
    ) -> SegmentIndex:
        """Find entries by their hashes (n, 32), those missing in `found` if it is given, and mark them as used."""

        def drop(segment: Segment) -> None:
            self._drop(segment.path, "values differ from their checksum", announce)

        located = SegmentIndex(len(hashes), drop) if found is None else found
        keys = _keys(hashes)
        order = np.argsort(keys)
        known = located.paths
        for path in sorted((self.folder(encoder) / scope).glob("*.safetensors")):
            if path in known or not len(located.missing):
                continue
            try:
                segment = Segment(path, dtype=encoder.dtype, width=encoder.width)
            except FileNotFoundError:  # removed for room in the meantime
                continue
            except OSError as error:
                announce(f"A file of the feature cache cannot be read ({error}): its features are computed again.")
                continue
            except BrokenSegmentError as error:
                self._drop(path, str(error), announce)
                continue
            at = order[np.searchsorted(keys, _keys(segment.hashes), sorter=order).clip(max=len(order) - 1)]
            numbers = np.flatnonzero((hashes[at] == segment.hashes).all(1))
            located.add(segment, at[numbers], numbers)
        for path in located.paths - known:
            with contextlib.suppress(OSError):  # a folder that may only be read works too
                os.utime(path)
        return located

    def add(
        self, encoder: Encoder, scope: Scope, hashes: NDArray[np.uint8], entries: Sequence[Raw], keep: set[Path]
    ) -> Segment | None:
        """Write a segment of entries (L_i, D * itemsize), and return it as it is read.

        Segments that were not used for longest are removed to make room, but none of `keep`; None is returned
        where there is not enough room without these. An OSError is let out and leaves nothing behind.
        """
        n_bytes = file_bytes(len(entries), sum(entry.nbytes for entry in entries))
        folder = self.folder(encoder) / scope
        path = folder / f"{uuid.uuid4().hex}.safetensors"
        partial = folder / f"{_PARTIAL}{path.stem}"
        # Held while writing: the limit holds at any time, and a half-written file without a holder is nobody's.
        with filelock.FileLock(self.directory / _LOCK):
            if not self._make_room(n_bytes, keep):
                return None
            folder.mkdir(parents=True, exist_ok=True)
            try:
                write_segment(
                    partial,
                    hashes=hashes,
                    lengths=[len(entry) for entry in entries],
                    entries=entries,
                    width=encoder.width,
                    dtype=encoder.dtype,
                )
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            return Segment(path, dtype=encoder.dtype, width=encoder.width)

    def _make_room(self, n_bytes: int, keep: set[Path]) -> bool:
        segments = self._segments()
        n_free = self.max_bytes - sum(size for _, size, _ in segments)
        removable = [segment for segment in segments if segment[2] not in keep]
        if n_free + sum(size for _, size, _ in removable) < n_bytes:
            return False
        for _, size, path in removable:
            if n_free >= n_bytes:
                break
            path.unlink(missing_ok=True)
            n_free += size
        return True

    def _segments(self) -> list[tuple[int, int, Path]]:
        """Return (time of use in ns, size in bytes, path) of all segments, least recently used first.

        The caller holds the lock, so files that are half written are left over: they are removed.
        """
        segments = []
        for path in self.directory.glob("*/*/*"):
            if path.name.startswith(_PARTIAL):
                path.unlink(missing_ok=True)
            elif path.suffix == ".safetensors":
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    segments.append((found.st_mtime_ns, found.st_size, path))
        return sorted(segments)

    def _drop(self, path: Path, reason: str, announce: Announce) -> None:
        announce(f"The feature cache's file {path} is broken ({reason}): it is removed, its features computed again.")
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _keys(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the first 8 bytes of hashes (n, 32), by which they are sorted; 2^32 sequences are far away."""
    keys: NDArray[np.uint64] = np.ascontiguousarray(hashes[:, :8]).view(np.uint64)[:, 0]
    return keys
