"""What a study is called, so that a name stands for one question, and a question has one name.

A study of a task is `TASK-MODEL`: the task says which targets, and which of them are test. A study of a user's table is
`FILE-TARGET-SPLIT-MODEL`, because one file answers many questions. What stands in a name has to be fit for a file name:
where a part is shortened, or loses letters, the first digits of the question's hash are added, so that
`log fitness` and `log_fitness` do not share a study; so they are where the whole name would be too long.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets.tables.table import STRATEGIES, stem
from search.config.nested import digest
from search.options.values import LONGEST_NAME

if TYPE_CHECKING:
    from search.storage.database import Database

_QUESTION = (
    *("sheet", "target_column", "split", "max_train_mutations"),
    *("group_column", "split_seed", "fold_column", "test_fold", "round_column"),
    "properties",
)
"""What, in the description of a table, tells two questions apart."""
_READING = ("error_column", "censored", "stops")
"""What, in how its rows are read, makes another study of the same question, where it is not the usual."""
_LONGEST = 40
_LONGEST_SHARED = 80  # of what the studies of a ladder have in common
_N_DIGITS = 8


def default_name(task: str, model: str, table: Mapping[str, Any] | None, file: str = "") -> str:
    """The name of a study that the user gave none.

    Args:
        task: the task's name; of a table what `table_name` makes of its file.
        model: the family.
        table: how the table is read, with what was found out of it; None for a task.
        file: the name of the table's file; what it says of the format does not matter.
    """
    if table is None:
        return f"{task}-{model}"
    column, test_fold = table.get("fold_column") or table.get("round_column"), table.get("test_fold")
    folds = [part for part in (column, test_fold and f"test{test_fold}") if part]
    split = [] if test_fold is not None and not table["split_seed"] else _split(table)
    # Hashed, because no file name has =.
    split += [f"{key}={table[key]}" for key in ("sheet", *_READING) if table.get(key) is not None]
    split += [f"replicates={kept}"] if (kept := _replicates(table)) else []
    others = "_".join(one for one in table.get("properties") or () if one != table["target_column"])
    parts = [str(table["target_column"]), *split, *folds, *([f"with_{others}"] if others else [])]
    plain = [*map(_plain, parts)]
    words = [".".join(plain[1 : 1 + len(split)]), *plain[1 + len(split) :]]
    name = "-".join([task[:_LONGEST], plain[0], *filter(None, words)])
    if column in ("set", *STRATEGIES) or plain != parts or task[:_LONGEST] != stem(file) or "-" in model:
        whole = [stem(file), parts] if column is None else [stem(file), parts, column, test_fold]
        name += f"+{digest(whole)[:_N_DIGITS]}"
    return f"{_shortened(name, LONGEST_NAME - len(f'-{model}'))}-{model}"


def ensemble_name(study: str, model: str) -> str:
    """What the ladder calls the ensemble of families that were searched as `model` was in `study`."""
    return f"{_shortened(study.removesuffix(f'-{model}'), _LONGEST_SHARED)}-ensemble"


def _shortened(name: str, most: int) -> str:
    """The name, or, where it has more than `most` letters, its beginning and another end for each."""
    if len(name) <= most:
        return name
    end = f"+{digest([name])[:_N_DIGITS]}"
    return name[: most - len(end)].rstrip("._+-") + end


def fold_words(column: str | None, test_fold: str) -> list[str]:
    """`fold_random_5` and `test4`: what stands in names for the fold that is test; see `test_fold_name`."""
    return [_plain(str(column)), test_fold_name(test_fold)]


def property_name(target_column: str) -> str:
    """What stands in names for a property; of one whose name is not fit for a file another for each."""
    plain = _plain(target_column)
    return plain if plain == target_column else f"{plain}+{digest([target_column])[:_N_DIGITS]}"


def test_fold_name(test_fold: str) -> str:
    """`test4` of fold 4; of a fold whose name is not fit for a file another for each."""
    plain = _plain(f"test{test_fold}")
    return plain if plain == f"test{test_fold}" else f"{plain}+{digest([test_fold])[:_N_DIGITS]}"


def _plain(part: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", part)[:_LONGEST].strip("_") or "column"


def _replicates(table: Mapping[str, Any]) -> str | None:
    """What becomes of replicates, where that is not the usual for such a table."""
    usual = "keep" if table["split"] is None and table.get("test_fold") is None else "mean"
    found: str | None = table.get("replicates")
    return None if found == usual else found


def _split(table: Mapping[str, Any]) -> list[str]:
    """The split as words; `set`, the column's name, where the file says itself what is test."""
    words = [str(table["split"] or "set")]
    words += [str(table[key]) for key in ("max_train_mutations", "group_column") if table[key] is not None]
    return [*words, *([f"seed{table['split_seed']}"] if table["split_seed"] else [])]


def find_name(database: "Database | None", about: Mapping[str, Any]) -> str:
    """The name of the study with the manifest `about`, where the user gave none.

    It is `default_name`. Studies of earlier versions had shorter names: before names said how rows are read (errors,
    limits, stop codons, replicates) they were called without that, and before they had target and split in them,
    `FILE-MODEL`. Where there is one that asks the same question (file, target, split and model), the former in the same
    reading, and none of the new name, it is that one. Whether the rest of its manifest fits too is for `open_study` to
    say, which names what differs.

    Args:
        database: where studies are looked for; None where there is none yet.
        about: see `search.study.study.manifest`.
    """
    name = default_name(about["task"], about["model"], about.get("table"), about["data"])
    if database is None or about.get("table") is None:
        return name
    plain = {**about["table"], **dict.fromkeys((*_READING, "replicates"))}
    short = default_name(about["task"], about["model"], plain, about["data"])

    from search.storage.attributes import MANIFEST
    from search.study.study import find_study

    names = database.storage.study_names()
    befores = ((short, (*_QUESTION, *_READING, "replicates")), (f"{about['task']}-{about['model']}", _QUESTION))
    for before, keys in befores:
        if name in names:
            break
        if before in names:
            found = find_study(database, before).user_attrs.get(MANIFEST, {})
            if _question(found, keys) == _question(about, keys):
                return before
    return name


def _question(about: Mapping[str, Any], keys: Sequence[str]) -> list[Any]:
    table = about.get("table")
    what = [about.get("task"), about.get("model"), stem(str(about.get("data")))]
    return [*what, table and [table.get(key) for key in keys]]
