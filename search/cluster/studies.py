"""Which study a submitted search is about, and whether what it asks for can be searched at all.

What a worker would refuse after hours in a queue is refused here, as far as it is seen without preparing the data.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from datasets.common.errors import UserError
from datasets.tables.table import ALL_FOLDS
from search.machine.filesystems import network_kind
from search.request.search_request import SearchRequest
from search.request.user_data import UserData, config_of
from search.storage.hide_url import environment_url
from search.storage.url import default_url, parse_url, sqlite_path
from search.study.names import default_name


def study_of(requests: Sequence[SearchRequest], data: UserData, *, all_folds: bool = False) -> str:
    """The name of the study that the one request is about; of several what their studies' names begin with.

    With `all_folds`, where each fold of a table is test in turn, it has `testall` in place of `test4`.

    Raises:
        UserError: The settings of one are not valid.
    """
    names = []
    for request in requests:
        config = config_of(request.words, data)
        table = config.defaults["table"]
        if all_folds:
            table = {**table, "test_fold": ALL_FOLDS}
        file = "" if request.data is None else request.data.name
        names.append(request.study_name or default_name(data.task.name, request.model, table, file))
    first = requests[0]
    return names[0] if len(names) == 1 else names[0].removesuffix(f"-{first.model}")


def storage_of(storage: str | None, runs: Path, announce: Callable[[str], None]) -> tuple[str | None, list[str]]:
    """The URL that goes into a file of the user's alone, None for a file of SQLite, and words that name the latter.

    Raises:
        UserError: It is malformed, or a file that workers on several machines would damage.
    """
    named = storage or environment_url()
    url = parse_url(named or default_url(runs))
    path = sqlite_path(url)
    if path is None:
        return url.render_as_string(hide_password=False), []
    kind = network_kind(path)
    if kind is not None:
        raise UserError(
            f"The storage {path} is on a network file system ({kind}), where SQLite loses data: name a Postgres "
            "database in $FLIPSEARCH_STORAGE, as in postgresql+psycopg://user@host/name."
        )
    announce(
        f"The studies are in the SQLite file {path}, on a disk of {os.uname().nodename} alone: jobs have to run "
        "there. For any others name a Postgres database in $FLIPSEARCH_STORAGE."
    )
    return None, ["--storage", named] if named else []
