"""What a run of Weights & Biases that was kept offline holds, read from its file."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _HEADER = 32768, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """A run: its name, group and tags, its config, the rows of its history, its summary and its exit status."""

    name: str = ""
    group: str = ""
    project: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def read_runs(folder: Path) -> list[OfflineRun]:
    """The runs below a folder, by the number of their trial."""
    runs = [_read(path) for path in folder.glob("wandb/offline-run-*/*.wandb")]
    return sorted(runs, key=lambda run: run.summary["trial"])


def _read(path: Path) -> OfflineRun:
    from wandb.proto.wandb_internal_pb2 import Record

    found = OfflineRun()
    for data in _records(path.read_bytes()):
        record = Record.FromString(data)
        if record.HasField("run"):
            run = record.run
            found.name, found.group, found.project = run.display_name, run.run_group, run.project
            found.tags = tuple(run.tags)
            found.config |= {item.key: json.loads(item.value_json) for item in run.config.update}
        elif record.HasField("history"):
            found.history.append(
                {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            )
        elif record.HasField("summary"):
            found.summary |= {
                item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update
            }
        elif record.HasField("exit"):
            found.exit_code = record.exit.exit_code
    return found


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB has it, behind the file's own seven bytes."""
    assert data[:4] == b":W&B"
    place, parts = _HEADER, b""
    while place + _HEADER <= len(data):
        if _BLOCK - place % _BLOCK < _HEADER:
            place += _BLOCK - place % _BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        part = data[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        parts = part if kind in (_WHOLE, _FIRST) else parts + part
        if kind in (_WHOLE, _LAST):
            yield parts
