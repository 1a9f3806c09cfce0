"""Processes that do nothing but open one study at once: `python -m tests.helpers.openers N_PROCESSES URL...`

They are forked from one that has everything loaded, or they would come to the database one after the other.
"""

import os
import sys
import traceback

from search.storage.database import open_database
from search.study.study import open_study

MANIFEST = {
    "task": "none",
    "model": "none",
    "data_hash": "none",
    "data": "none",
    "space_hash": "none",
    "config_hash": "none",
    "sampler": {"_target_": "none"},
    "pruner": {"_target_": "none"},
    "space": {},
    "config": {},
}


def open_at_once(url: str, n_processes: int) -> None:
    """Exit with an error if one of the processes does."""
    gate, opener = os.pipe()
    children = []
    for _ in range(n_processes):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(opener)
                os.read(gate, 1)  # until the parent has closed its end
                database = open_database(url, create=True)
                with database.lock:
                    open_study(database, "study", MANIFEST)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(pid)
    os.close(gate)
    os.close(opener)
    failed = [pid for pid in children if os.waitpid(pid, 0)[1] != 0]
    if failed:
        sys.exit(f"{len(failed)} of {n_processes} failed on {url}")


if __name__ == "__main__":
    for each in sys.argv[2:]:
        open_at_once(each, int(sys.argv[1]))
