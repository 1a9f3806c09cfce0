"""The program's own names below the runs folder and beside experiments, which no study may have.

Imports the standard library alone: names are refused before anything is made.
"""

DATABASE = "studies.db"
ARTIFACTS, CACHE, COMBINE, COMPARISON, CONFIRM, DATA, SERVER, TRAIN, VERIFY = (
    "artifacts",
    "cache",
    "combine",
    "comparison",
    "confirm",
    "data",
    "server",
    "train",
    "verify",
)
_FOLDERS = frozenset({ARTIFACTS, CACHE, COMBINE, COMPARISON, CONFIRM, DATA, SERVER, TRAIN, VERIFY})
# Study `x.yaml` would keep its weights in a folder that is called like the experiment of study `x`.
_ENDINGS = (".yaml", ".ledger.jsonl", ".lock", ".tmp")
_BESIDE_DATABASE = ("", ".lock", "-journal", "-wal", "-shm")


def is_reserved(name: str, database: str = DATABASE) -> bool:
    """Whether a study of that name would share files with the program or with another study.

    Case does not count: there are disks that take `Cache` for `cache`. `database` is the file of an SQLite database in
    the runs folder.
    """
    folded = name.casefold()
    databases = {f"{file.casefold()}{ending}" for file in (DATABASE, database) for ending in _BESIDE_DATABASE}
    return folded in _FOLDERS or folded in databases or folded.endswith(_ENDINGS)
