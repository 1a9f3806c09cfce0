"""Checks of what a study records of itself when it begins: its data, space and config."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Literal

from search.config.type_checks import shown
from search.space.conditions import path_of
from search.storage.attributes import WARM_START
from search.storage.rows import warm_start_checks
from search.storage.rows.value_checks import (
    config_tree,
    count,
    file_hash,
    is_a,
    items,
    line,
    mapping,
    matches,
    or_null,
    real_number,
    record,
    whole_number,
)

_tree = is_a(dict)
_constructor = record({"_target_": line})
"""A mapping that names a class; which one may stand there is decided where it is built."""
_leaf = record({"type": is_a(Literal["int", "float", "categorical"])}, {"choices": is_a(list), "when": or_null(_tree)})
"""A searched value of the space."""
_DEEPEST = 20
"""How many mappings a searched value may stand in; the deepest of ours stands in three."""


def _space(where: str, value: Any) -> Iterator[str]:
    """The searched values by their names, whose paths can all stand in one tree."""
    problems = [*mapping(_leaf)(where, value), *config_tree(where, value)]
    yield from problems
    if problems:
        return
    paths = {path_of(name) for name in value}
    for name in value:
        *parents, _ = accumulate(path_of(name).split("."), "{}.{}".format)
        if len(parents) > _DEEPEST:
            yield f"{where} holds {shown(name)}, expected at most {_DEEPEST + 1} parts divided by points"
        elif inside := next((path for path in parents if path in paths), None):
            yield f"{where} holds {shown(name)} and {inside}, expected one of them"


_table = record(
    {
        "target_column": line,
        "split": or_null(line),
        "wild_type": or_null(matches("[A-Za-z|-]+", "letters, one a residue")),
    },
    {
        **dict.fromkeys(("group_column", "fold_column", "test_fold", "round_column"), or_null(line)),
        **dict.fromkeys(("sequence_column", "mutation_column", "error_column", "sheet"), is_a(str | None)),
        **dict.fromkeys(("replicates", "group_rule", "censored", "stops", "chains"), or_null(line)),
        "sites": or_null(matches("[0-9,-]+", "positions, such as 39-41,54")),  # of a long protein there are thousands
        **dict.fromkeys(("replicate_columns", "properties", "chain_columns"), items(is_a(str))),
        **dict.fromkeys(("max_train_mutations", "aligned_length"), or_null(count)),
        **dict.fromkeys(("split_seed", "first_position"), is_a(int)),
        "window": or_null(items(is_a(int))),
        "lengths_differ": is_a(bool),
    },
)
"""The fields of `datasets.tables.table.Table`; what a study of before a field lacks has its default."""

_score_source = record(
    {"kind": line, "hash": line, "columns": items(is_a(str))}, dict.fromkeys(("backbone", "chain"), or_null(line))
)
"""The fields of `datasets.scores.description.ScoreSource`."""

MANIFEST = record(
    {
        "task": line,
        "model": line,
        "data_hash": line,
        "data": line,
        "space_hash": line,
        "config_hash": line,
        "sampler": _constructor,
        "pruner": _constructor,
        "space": _space,
        "config": config_tree,
    },
    {
        "scores": record({"sources": items(_score_source)}, {"allow_derived": is_a(bool)}),
        "embeddings": record({"file": is_a(str)}),
        "validation": _constructor,
        "epochs_per_fold": whole_number(1),
        "table": _table,
        "model_source": file_hash,
        WARM_START: warm_start_checks.OF_MANIFEST,
        "features": record(
            {
                "precision": is_a(Literal["32-true", "bf16-mixed"]),
                "backbone": line,
                "n_sequences": count,
                "speed": real_number(0),
                "difference": or_null(real_number(0)),
                "loss": or_null(real_number(-2, 2)),
            }
        ),
    },
)
