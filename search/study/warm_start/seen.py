"""Whether an earlier study chose its trials on sequences that are test sequences of another study.

A configuration that was chosen where the test sequences trained or validated is no longer independent of them, however
sealed their targets are in the later study.
"""

from collections.abc import Sequence
from pathlib import Path

from datasets.common.errors import UserError
from datasets.sequences.codes import as_bytes
from datasets.sequences.gaps import ungapped
from datasets.splits.prepared import PreparedSplit, load_prepared, test_sequences
from search.study.warm_start.source import ChosenOn


def count_seen(selections: Sequence[ChosenOn], split: PreparedSplit, task: str) -> list[int | None]:
    """How many test sequences of `split`, which is of `task`, were training or validation sequences of each selection.

    None where its split is not among the prepared ones beside that of `split`, so that nobody can tell. Sequences are
    compared whole, without the gaps of their alignments, of which two tables may have other ones. Those that the later
    study trains or validates on itself do not count: it sees them anyway.
    """
    own = set(map(ungapped, as_bytes(split.residues, split.lengths)))
    sealed = set(map(ungapped, as_bytes(*test_sequences(split)))) - own
    found: dict[tuple[str, str], int | None] = {(task, split.data_hash): 0}
    for one in selections:
        key = (one.task, one.data_hash)
        if key not in found:
            rows = _rows(split.path.parent, *key)
            found[key] = None if rows is None else len(sealed & rows)
    return [found[one.task, one.data_hash] for one in selections]


def _rows(folder: Path, task: str, data_hash: str) -> set[bytes] | None:
    """What a task's split with that hash trains and validates on, without gaps; None where it is not in the folder."""
    # A task's name may come from a database: it is compared with names of files, and names none.
    of_task = [one for one in folder.iterdir() if one.name.startswith(f"{task}-") and one.suffix == ".safetensors"]
    for path in sorted(of_task):
        try:
            split = load_prepared(path)
        except UserError:  # a broken file says nothing of what was in it
            continue
        if split.data_hash == data_hash:
            return set(map(ungapped, as_bytes(split.residues, split.lengths)))
    return None
