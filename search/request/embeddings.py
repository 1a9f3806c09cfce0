"""The file of embeddings that a request names, looked up for the task's sequences."""

from dataclasses import replace
from pathlib import Path

from datasets.embeddings.description import EmbeddingConfig
from datasets.task import Task
from datasets.tasks.own_table import TableSource


def find_embeddings(path: Path, task: Task) -> EmbeddingConfig:
    """What the file is. Of a user's own table all sequences have to be in it, by whatever names.

    Those of other tasks are looked up with the split.

    Raises:
        UserError: It is no such file, or lacks sequences of the table.
    """
    # Imported as late as this, so that usage errors do not wait for NumPy.
    from datasets.embeddings.embedding_set import describe_embeddings
    from datasets.embeddings.lookup import Lookup, names_hash, names_of_table
    from datasets.embeddings.opened import opened_embeddings
    from datasets.sequences.gaps import ungapped
    from datasets.tables.survey import survey

    found = describe_embeddings(path)
    if not isinstance(source := task.source, TableSource):
        return found
    table = source.loaded or survey(source.path, source.table, is_reread=True)
    with opened_embeddings(path) as file:
        lookup = Lookup(file, kind=found.kind, width=found.width, names=names_of_table(table))
        lookup.find_all([*dict.fromkeys(map(ungapped, table.sequences.slices()))], f"sequences of {source.path}")
    return replace(found, names_hash=names_hash(lookup.used))
